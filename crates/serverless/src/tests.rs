//! Tables over the whole decision.

use crate::*;
use id_token::{AccessClaims, Claims, KeySet, SigningKey, VerifiedCache, access_token, jwks, sign};
use names::{FrontEnd, NetworkId, Origin, Reason, SelfLink};
use slice::iam::Iam;
use slice::run::{Ingress, Revision, Run, Scaling, Service, ServiceAccount, TrafficTarget};
use std::sync::LazyLock;

const NOW: u64 = 1_760_000_000;
const PROXY: &str = "proxy@p.iam.gserviceaccount.com";
const PROXY_ID: &str = "107517467455664443765";
const HOST: &str = "orders-123.europe-west1.run.app";
const HASH_HOST: &str = "orders-abcdefghij-ew.a.run.app";

static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness"));

fn service() -> Service {
    Service {
        self_link: SelfLink::new("projects/p/locations/europe-west1/services/orders"),
        name: "orders".into(),
        project: "p".into(),
        project_number: 123,
        region: "europe-west1".into(),
        hosts: vec![HOST.into(), HASH_HOST.into()],
        traffic: vec![TrafficTarget::latest(), TrafficTarget::tagged("canary")],
        custom_audiences: vec!["orders-api".into()],
        ingress: Ingress::All,
        invoker_iam_disabled: false,
        default_uri_disabled: false,
        internal_networks: vec![NetworkId::new("p", "net"), NetworkId::new("host", "shared")],
        revision: Revision::new(
            "orders-00001-abc",
            Run::Command { command: vec!["app".into()], directory: "/".into() },
        ),
        scaling: Scaling::default(),
        older_revisions: Vec::new(),
    }
}

/// A service, and who may invoke it.
#[derive(Clone)]
struct Invokable(Service, Vec<String>);

impl From<Service> for Invokable {
    fn from(service: Service) -> Self {
        Invokable(service, vec![format!("serviceAccount:{PROXY}")])
    }
}

fn invokable_by(member: &str) -> Invokable {
    Invokable(service(), vec![member.to_owned()])
}

fn front_of(service: impl Into<Invokable>) -> Front {
    let Invokable(service, members) = service.into();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    let iam = Iam::granting("roles/run.invoker", service.self_link.as_str(), &members);
    let account =
        ServiceAccount { email: PROXY.into(), project: "p".into(), unique_id: PROXY_ID.into() };
    let keys = KeySet::parse(&jwks([&*KEY]).to_string()).expect("our own document");
    Front::compile(&[service], &[account], &iam, keys).expect("one service")
}

fn load_balancer() -> Origin {
    Origin::InternalLoadBalancer {
        network: NetworkId::new("ilb-project", "ilb"),
        forwarding_rule: SelfLink::regional("ilb-project", "europe-west1", "forwardingRules", "f"),
    }
}

fn external_load_balancer() -> Origin {
    Origin::ExternalLoadBalancer {
        forwarding_rule: SelfLink::global("ilb-project", "forwardingRules", "f"),
    }
}

fn network(network: NetworkId, project: &str, front_end: FrontEnd) -> Origin {
    Origin::Network { network, project: project.into(), front_end }
}

#[test]
fn ingress_admits_by_setting_and_source() {
    use FrontEnd::{Private, Public, Restricted};
    use IngressEvidence as E;
    let own = || NetworkId::new("p", "net");
    let shared = || NetworkId::new("host", "shared");
    let foreign = || NetworkId::new("q", "net");
    // Source → what makes it internal.
    let sources = [
        (load_balancer(), Some(E::InternalLoadBalancer)),
        (network(own(), "p", Private), Some(E::SameProject)),
        (network(own(), "p", Restricted), Some(E::SameProject)),
        (network(own(), "p", Public), Some(E::SameProject)),
        (network(shared(), "p", Private), Some(E::SharedVpc)),
        (network(shared(), "q", Restricted), Some(E::SharedVpc)),
        (network(foreign(), "q", Private), None),
        (network(foreign(), "q", Restricted), None),
        (network(foreign(), "q", Public), None),
        (network(foreign(), "p", Private), None),
        (Origin::Internet, None),
        (external_load_balancer(), None),
    ];
    for (origin, internal) in sources {
        // Of what is not internal this setting admits external load balancers only.
        let by_load_balancer = match &origin {
            Origin::ExternalLoadBalancer { .. } => Some(E::ExternalLoadBalancer),
            _ => internal,
        };
        for (setting, expected) in [
            (Ingress::All, Some(E::All)),
            (Ingress::InternalLoadBalancer, by_load_balancer),
            (Ingress::InternalOnly, internal),
            (Ingress::None, None),
        ] {
            let service = Service { ingress: setting, ..service() };
            let decided = ingress(&service, &origin);
            assert_eq!(decided.as_ref().ok(), expected.as_ref(), "{setting:?} {origin:?}");
            if let Err(refusal) = decided {
                assert!(refusal.to_string().contains("orders") && refusal.fix().ends_with('.'));
            }
        }
    }
}

#[test]
fn an_ingress_refusal_names_what_nearly_made_the_source_internal() {
    let service = Service { ingress: Ingress::InternalOnly, ..service() };
    let near = |origin| ingress(&service, &origin).map_err(|refusal| refusal.near);
    let foreign = || NetworkId::new("q", "net");
    assert_eq!(
        near(network(foreign(), "p", FrontEnd::Private)),
        Err(Some(IngressNearMiss::SharedVpcWithoutEgress))
    );
    assert_eq!(
        near(network(foreign(), "q", FrontEnd::Private)),
        Err(Some(IngressNearMiss::OtherProject))
    );
    assert_eq!(near(Origin::Internet), Err(None));
    assert_eq!(near(external_load_balancer()), Err(Some(IngressNearMiss::ExternalLoadBalancer)));
}

#[test]
fn a_service_is_found_by_each_of_its_hosts_and_by_its_name() {
    let front = front_of(service());
    fn find<'f>(front: &'f Front, target: Target<'_>) -> Result<Option<&'f str>, Reason> {
        front.find(target).map(|found| found.tag).map_err(|refusal| refusal.reason())
    }
    let link = "projects/p/locations/europe-west1/services/orders";
    for host in [
        HOST,
        HASH_HOST,
        "orders-123.europe-west1.run.app:443",
        "Orders-123.Europe-West1.Run.App",
        "orders-123.europe-west1.run.app.",
    ] {
        assert_eq!(find(&front, Target::Host(host)), Ok(None), "{host}");
    }
    for host in [HOST, HASH_HOST] {
        assert_eq!(find(&front, Target::Host(&format!("canary---{host}"))), Ok(Some("canary")));
        let unknown = format!("blue---{host}");
        assert_eq!(find(&front, Target::Host(&unknown)), Err(Reason::CloudRunTagNotFound));
    }
    assert_eq!(find(&front, Target::Service(link)), Ok(None));
    assert_eq!(find(&front, Target::Service(&format!("{link}#canary"))), Ok(Some("canary")));
    assert_eq!(
        find(&front, Target::Service(&format!("{link}#b"))),
        Err(Reason::CloudRunTagNotFound)
    );
    assert_eq!(find(&front, Target::Service("projects/p")), Err(Reason::CloudRunServiceNotFound));
    for host in ["", "example.com", "orders-124.europe-west1.run.app", "api.internal:8443"] {
        assert_eq!(find(&front, Target::Host(host)), Err(Reason::CloudRunHostNotFound), "{host}");
    }
    let near = front.find(Target::Host("orders-124.europe-west1.run.app")).map(|_| ());
    assert_eq!(near.map_err(|refusal| refusal.fix()), Err(format!("Use the host {HOST}.")));
}

#[test]
fn a_tag_whose_label_is_too_long_has_no_host() {
    let tag = "t".repeat(60);
    let front = front_of(Service { traffic: vec![TrafficTarget::tagged(&tag)], ..service() });
    let host = format!("{tag}---{HOST}");
    let found = front.find(Target::Host(&host)).map(|_| ()).map_err(|refusal| refusal.reason());
    assert_eq!(found, Err(Reason::CloudRunTagNotFound));
}

#[test]
fn a_disabled_default_url_leaves_the_load_balancers_way() {
    let front = front_of(Service { default_uri_disabled: true, ..service() });
    for host in [HOST.to_owned(), HASH_HOST.to_owned(), format!("canary---{HOST}")] {
        let found = front.find(Target::Host(&host)).map(|_| ());
        assert_eq!(found.map_err(|refusal| refusal.reason()), Err(Reason::DefaultUriDisabled));
    }
    let link = service().self_link;
    assert!(front.find(Target::Service(link.as_str())).is_ok());
}

#[test]
fn two_services_with_one_host_do_not_compile() {
    let other = Service { self_link: SelfLink::new("projects/p/other"), ..service() };
    let keys = KeySet::parse("{\"keys\":[]}").expect("an empty set");
    let refused = Front::compile(&[service(), other], &[], &Iam::default(), keys).map(|_| ());
    assert!(matches!(refused, Err(CompileError::HostTwice { .. })), "{refused:?}");
}

fn token(change: impl FnOnce(&mut Claims)) -> String {
    let audience = format!("https://{HOST}");
    let mut claims = Claims::of_service_account(PROXY_ID, Some(PROXY), &audience, NOW);
    change(&mut claims);
    sign(&KEY, &claims).expect("a sound key")
}

fn bearer(change: impl FnOnce(&mut Claims)) -> String {
    format!("Bearer {}", token(change))
}

/// Decides a GET of `/orders?x=1` with these `Authorization` values.
fn check(service: impl Into<Invokable>, authorization: &[&str]) -> Result<Option<String>, Refusal> {
    let headers = AuthorizationHeaders {
        x_serverless: HeaderValues::Absent,
        authorization: authorization.iter().map(|value| value.as_bytes()).collect(),
    };
    check_headers(service, headers).map(|admitted| admitted.invoker.principal().map(str::to_owned))
}

fn check_headers(
    service: impl Into<Invokable>,
    credentials: AuthorizationHeaders<'_>,
) -> Result<Admitted, Refusal> {
    let front = front_of(service);
    let head = RequestHead { method: "GET", path: "/orders?x=1", credentials };
    let mut cache = VerifiedCache::new(16);
    let origin = load_balancer();
    let decision = admit(&front, &origin, Target::Host(HOST), &head, &mut cache, NOW);
    for step in decision.steps(&origin) {
        assert!(!step.text.is_empty() && step.reason.is_some() == step.fix.is_some());
    }
    decision.result
}

#[test]
fn a_good_token_of_an_invoker_is_admitted() {
    let hash = format!("https://{HASH_HOST}");
    for (name, value) in [
        ("deterministic URL", bearer(|_| {})),
        ("hash URL", bearer(|claims| claims.aud = hash)),
        ("custom audience", bearer(|claims| claims.aud = "orders-api".into())),
        ("lower-case scheme", format!("bearer {}", token(|_| {}))),
        ("two spaces", format!("Bearer  {}", token(|_| {}))),
        ("issuer without scheme", bearer(|claims| claims.iss = "accounts.google.com".into())),
        ("no email: found by sub", bearer(|claims| claims.email = None)),
        (
            "email in capitals",
            bearer(|claims| {
                claims.email =
                    Some(PROXY.to_uppercase().replace("GSERVICEACCOUNT.COM", "gserviceaccount.com"))
            }),
        ),
    ] {
        let admitted = check(service(), &[&value]);
        let principal = admitted.as_ref().ok().and_then(|principal| principal.clone());
        assert!(
            principal.is_some_and(|email| email.eq_ignore_ascii_case(PROXY)),
            "{name}: {admitted:?}"
        );
    }
}

#[test]
fn every_refusal_has_its_status_header_and_reason() {
    const INVALID: Option<&str> = Some(
        "Bearer error=\"invalid_token\" error_description=\"The access token could not be verified\"",
    );
    let other_key = SigningKey::generate().expect("the system has randomness");
    let claims = Claims::of_service_account(PROXY_ID, Some(PROXY), "a", NOW);
    let foreign = format!("Bearer {}", sign(&other_key, &claims).expect("a sound key"));
    let access = AccessClaims {
        email: PROXY.into(),
        sub: PROXY_ID.into(),
        scopes: vec![],
        iat: NOW,
        exp: NOW + 3600,
    };
    let access = format!("Bearer {}", access_token(&KEY, &access).expect("a sound key"));
    let good = bearer(|_| {});
    let removed = id_token::replace_signature(&good).expect("a token");
    let at = |aud: &str| bearer(|claims| claims.aud = aud.to_owned());
    use Reason::*;
    type Row = (&'static str, Vec<String>, u16, Option<&'static str>, Reason);
    let table: Vec<Row> = vec![
        ("nothing", vec![], 403, None, TokenMissing),
        ("empty", vec![String::new()], 403, None, TokenMissing),
        ("blank", vec!["  ".into()], 403, None, TokenMissing),
        ("Basic", vec!["Basic dTpw".into()], 401, INVALID, TokenNotBearer),
        ("bare token", vec![token(|_| {})], 401, INVALID, TokenNotBearer),
        ("twice", vec![good.clone(), good.clone()], 401, INVALID, TokenNotBearer),
        ("Bearer alone", vec!["Bearer".into()], 401, INVALID, TokenMalformed),
        ("Bearer and a space", vec!["Bearer ".into()], 401, INVALID, TokenMalformed),
        ("two tokens in one value", vec![format!("{good}, {good}")], 401, INVALID, TokenMalformed),
        ("opaque", vec!["Bearer abc".into()], 401, INVALID, TokenMalformed),
        ("access token", vec![access], 401, INVALID, TokenIsAccessToken),
        ("another issuer's key", vec![foreign], 401, INVALID, TokenSignatureInvalid),
        ("removed signature", vec![removed], 401, INVALID, TokenSignatureInvalid),
        (
            "issuer",
            vec![bearer(|claims| claims.iss = "x".into())],
            401,
            INVALID,
            TokenIssuerMismatch,
        ),
        ("expired", vec![bearer(|claims| claims.exp = NOW - 60)], 401, INVALID, TokenExpired),
        ("not yet", vec![bearer(|claims| claims.iat = NOW + 60)], 401, INVALID, TokenNotYetValid),
        ("audience", vec![at("https://example.com")], 401, INVALID, TokenAudienceMismatch),
        ("slash", vec![at(&format!("https://{HOST}/"))], 401, INVALID, TokenAudienceMismatch),
        ("path", vec![at(&format!("https://{HOST}/orders"))], 401, INVALID, TokenAudienceMismatch),
        (
            "tag URL",
            vec![at(&format!("https://canary---{HOST}"))],
            401,
            INVALID,
            TokenAudienceMismatch,
        ),
    ];
    for (name, values, status, www_authenticate, reason) in table {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let refusal = check(service(), &values).expect_err(name);
        assert_eq!(
            (refusal.status(), refusal.www_authenticate(), refusal.reason()),
            (status, www_authenticate, reason),
            "{name}"
        );
        assert!(refusal.fix().ends_with('.') && refusal.log_text().is_some(), "{name}");
    }
}

#[test]
fn a_caller_who_is_no_invoker_is_forbidden_and_told_the_missing_binding() {
    let stranger = |claims: &mut Claims| {
        claims.email = Some("other@p.iam.gserviceaccount.com".into());
        claims.sub = "1".into();
    };
    let refusal = check(service(), &[&bearer(stranger)]).expect_err("no invoker");
    assert_eq!((refusal.status(), refusal.reason()), (403, Reason::InvokerPermissionDenied));
    let header = refusal.www_authenticate().unwrap_or_default();
    assert!(header.starts_with("Bearer error=\"insufficient_scope\" "), "{header}");
    assert!(refusal.fix().contains("serviceAccount:other@p.iam.gserviceaccount.com"));
    let details = refusal.details();
    let missing = ("missingMember", "serviceAccount:other@p.iam.gserviceaccount.com".to_owned());
    assert!(details.contains(&missing), "{details:?}");
    // A service account is no user, and who belongs to a group cannot be known here.
    let member = invokable_by;
    for (who, good) in [
        (format!("user:{PROXY}"), false),
        ("group:all@example.com".into(), false),
        ("domain:p.iam.gserviceaccount.com".into(), false),
        (format!("deleted:serviceAccount:{PROXY}?uid=1"), false),
        ("allAuthenticatedUsers".into(), true),
        (format!("serviceAccount:{}", PROXY.to_uppercase()), true),
    ] {
        assert_eq!(check(member(&who), &[&bearer(|_| {})]).is_ok(), good, "{who}");
    }
}

#[test]
fn users_are_members_by_email_or_domain() {
    let user = |aud: &str| {
        bearer(|claims| {
            claims.email = Some("dev@example.com".into());
            claims.sub = "2".into();
            claims.aud = aud.into();
        })
    };
    let member = invokable_by;
    let url = format!("https://{HOST}");
    for (who, good) in [
        ("user:dev@example.com", true),
        ("user:Dev@Example.com", true),
        ("domain:example.com", true),
        ("domain:ample.com", false),
        ("serviceAccount:dev@example.com", false),
    ] {
        assert_eq!(check(member(who), &[&user(&url)]).is_ok(), good, "{who}");
    }
    // gcloud's own client is a user's audience at the default URL, never a service account's.
    let gcloud = "32555940559.apps.googleusercontent.com";
    assert!(check(member("user:dev@example.com"), &[&user(gcloud)]).is_ok());
    assert!(check(service(), &[&bearer(|claims| claims.aud = gcloud.into())]).is_err());
}

#[test]
fn a_public_service_checks_nothing() {
    let public = || invokable_by("allUsers");
    let disabled = || Invokable(Service { invoker_iam_disabled: true, ..service() }, vec![]);
    let expired = bearer(|claims| claims.exp = NOW - 60);
    for values in [vec![], vec!["nonsense"], vec!["Basic x", "Basic y"], vec![&*expired]] {
        assert_eq!(check(public(), &values), Ok(None));
        assert_eq!(check(disabled(), &values), Ok(None));
    }
    let strip = |value: &str| {
        let headers = AuthorizationHeaders {
            authorization: HeaderValues::One(value.as_bytes()),
            ..AuthorizationHeaders::default()
        };
        check_headers(public(), headers).map(|admitted| admitted.strip_signature)
    };
    assert_eq!(strip(&bearer(|_| {})), Ok(Some(Credential::Authorization)));
    assert_eq!(strip("Bearer h.p.s"), Ok(None), "another issuer's token is the program's own");
    assert_eq!(strip("Basic x"), Ok(None));
}

#[test]
fn with_both_headers_only_x_serverless_authorization_is_checked() {
    let good = bearer(|_| {});
    let bad = "Bearer h.p.s";
    let decide = |x_serverless: &[&str], authorization: &[&str]| {
        let headers = AuthorizationHeaders {
            x_serverless: x_serverless.iter().map(|value| value.as_bytes()).collect(),
            authorization: authorization.iter().map(|value| value.as_bytes()).collect(),
        };
        check_headers(service(), headers)
            .map(|admitted| admitted.strip_signature)
            .map_err(|refusal| refusal.status())
    };
    let x = Ok(Some(Credential::XServerlessAuthorization));
    assert_eq!(decide(&[&good], &[]), x);
    assert_eq!(decide(&[&good], &[bad]), x);
    assert_eq!(decide(&[&good], &[bad, bad]), x);
    assert_eq!(decide(&[], &[&good]), Ok(Some(Credential::Authorization)));
    assert_eq!(decide(&[bad], &[&good]), Err(401));
    assert_eq!(decide(&[&good, &good], &[]), Err(401));
    assert_eq!(decide(&[""], &[&good]), Err(403));
}

#[test]
fn the_order_is_host_ingress_method_path_invoker() {
    let front = front_of(Service { ingress: Ingress::InternalOnly, ..service() });
    let mut cache = VerifiedCache::new(16);
    let mut decide = |origin: &Origin, host, method, path| {
        let head = RequestHead { method, path, credentials: AuthorizationHeaders::default() };
        let decision = admit(&front, origin, Target::Host(host), &head, &mut cache, NOW);
        let refusal = decision.result.expect_err("no credential");
        (refusal.status(), refusal.reason(), refusal.body(&head))
    };
    let inside = load_balancer();
    let (internet, no_page) = (Origin::Internet, pages::page_not_found());
    let robot = pages::robot_not_found;
    assert_eq!(
        decide(&internet, "example.com", "TRACE", "/healthz"),
        (404, Reason::CloudRunHostNotFound, robot("/healthz"))
    );
    assert_eq!(
        decide(&internet, HOST, "TRACE", "/healthz"),
        (404, Reason::IngressNotAllowed, no_page)
    );
    assert_eq!(
        decide(&inside, HOST, "TRACE", "/healthz"),
        (405, Reason::MethodNotSupported, pages::robot_method_not_allowed("TRACE", "/healthz"))
    );
    assert_eq!(
        decide(&inside, HOST, "GET", "/healthz?x"),
        (404, Reason::ReservedPath, robot("/healthz"))
    );
    assert_eq!(
        decide(&inside, HOST, "OPTIONS", "/orders?x=1"),
        (403, Reason::TokenMissing, pages::forbidden("/orders"))
    );
}

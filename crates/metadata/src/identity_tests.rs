//! Tables over Google's hosts for identity: who may act as whom, and what becomes of keys.

use crate::*;
use id_token::{Claims, KeySet, SigningKey, sign_jwt, verify, verify_access_token, verify_jwt};
use keys::AccountKeys;
use names::{NetworkId, Reason};
use serde_json::{Value, json};
use slice::iam::{Iam, Policy};
use slice::run::{IssuerSlice, MetadataSlice, ServiceAccount};
use std::path::PathBuf;
use std::sync::LazyLock;

const NOW: u64 = 1_760_000_000;
const CREATOR: &str = "roles/iam.serviceAccountTokenCreator";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

static PEM: LazyLock<String> =
    LazyLock::new(|| SigningKey::generate().expect("the system has randomness").to_pem());

fn email(name: &str) -> String {
    format!("{name}@p.iam.gserviceaccount.com")
}

fn account(name: &str, unique_id: &str) -> ServiceAccount {
    ServiceAccount { email: email(name), project: "p".into(), unique_id: unique_id.into() }
}

/// `caller` → `middle` → `target`, and `id-only` may make ID tokens of `target`.
fn snapshot() -> Snapshot {
    let grant = |role: &str, on: &str, to: &str| -> Policy {
        let resource = format!("projects/p/serviceAccounts/{}", email(on));
        let member = format!("serviceAccount:{}", email(to));
        Iam::granting(role, &resource, &[&member]).policies.remove(0)
    };
    let iam = Iam {
        policies: vec![
            grant(CREATOR, "middle", "caller"),
            grant(CREATOR, "target", "middle"),
            grant("roles/iam.serviceAccountOpenIdTokenCreator", "target", "id-only"),
        ],
        ..Iam::default()
    };
    Snapshot::compile(MetadataSlice {
        network: NetworkId::internet(),
        network_project_number: 0,
        subnetworks: vec![],
        service_accounts: vec![
            account("caller", "1"),
            account("middle", "2"),
            account("target", "3"),
            account("id-only", "4"),
        ],
        signing_keys: vec![PEM.clone()],
        issuer: Some(IssuerSlice { iam, ..IssuerSlice::default() }),
    })
    .expect("sound")
}

/// A snapshot, and a state directory for the keys of accounts.
struct Stage {
    snapshot: Snapshot,
    keys: AccountKeys,
    directory: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Self {
        let name = format!("postern-identity-{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        Stage { snapshot: snapshot(), keys: AccountKeys::new(&directory), directory }
    }

    fn ask(&self, request: IdentityRequest<'_>) -> MetadataResponse {
        let response = respond_identity(&self.snapshot, &self.keys, &request, NOW);
        assert_eq!(response.reason.is_some(), response.status != 200, "{request:?}");
        response
    }

    fn json(&self, request: IdentityRequest<'_>) -> (u16, Value) {
        let response = self.ask(request);
        let body = serde_json::from_slice(&response.body).unwrap_or_default();
        (response.status, body)
    }

    fn access_token(&self, name: &str, scope: &str, now: u64) -> String {
        let issuer = &self.snapshot.issuer;
        let account = issuer.account(&email(name)).expect("declared");
        issuer.access_token(account, vec![scope.into()], 3600, now).expect("made").token
    }

    /// A call of the IAM Credentials API on `target`, with the body's JSON.
    fn call(&self, authorization: Option<&str>, call: &str, body: &Value) -> (u16, Value) {
        let path = format!("/v1/projects/-/serviceAccounts/{}:{call}", email("target"));
        let (authorization, body) = (authorization, body.to_string());
        self.json(IdentityRequest { authorization, body: body.as_bytes(), ..post(IAM, &path) })
    }

    fn exchange(&self, form: &str) -> (u16, Value) {
        let request = post("oauth2.googleapis.com", "/token");
        self.json(IdentityRequest { body: form.as_bytes(), ..request })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const IAM: &str = "iamcredentials.googleapis.com";

fn post<'a>(host: &'a str, path: &'a str) -> IdentityRequest<'a> {
    IdentityRequest {
        method: "POST",
        host,
        path,
        query: "",
        authorization: None,
        body: b"",
        from_platform: false,
    }
}

fn get<'a>(host: &'a str, path: &'a str) -> IdentityRequest<'a> {
    IdentityRequest { method: "GET", ..post(host, path) }
}

fn error(answer: &(u16, Value)) -> (u16, &str, &str) {
    let error = &answer.1["error"];
    let info = error["details"][0]["reason"].as_str().unwrap_or_default();
    (answer.0, error["status"].as_str().unwrap_or_default(), info)
}

#[test]
fn only_who_may_act_as_an_account_gets_its_tokens() {
    let stage = Stage::new("impersonation");
    let bearer = |name: &str| format!("Bearer {}", stage.access_token(name, SCOPE, NOW));
    let delegate = |name: &str| format!("projects/-/serviceAccounts/{}", email(name));
    let denied = (403, "PERMISSION_DENIED", "IAM_PERMISSION_DENIED");
    let fine = (200, "", "");
    let none: Vec<String> = vec![];
    for (who, call, delegates, expected) in [
        ("middle", "generateIdToken", none.clone(), fine),
        ("middle", "generateAccessToken", none.clone(), fine),
        ("middle", "signJwt", none.clone(), fine),
        ("middle", "signBlob", none.clone(), fine),
        ("id-only", "generateIdToken", none.clone(), fine),
        ("id-only", "generateAccessToken", none.clone(), denied),
        ("id-only", "signJwt", none.clone(), denied),
        ("id-only", "signBlob", none.clone(), denied),
        ("caller", "generateIdToken", none.clone(), denied),
        // Nobody may act as itself without a binding.
        ("target", "generateIdToken", none, denied),
        ("caller", "generateIdToken", vec![delegate("middle")], fine),
        ("caller", "generateAccessToken", vec![delegate("middle")], fine),
        ("caller", "generateIdToken", vec![delegate("id-only")], denied),
        ("caller", "generateIdToken", vec![delegate("middle"), delegate("id-only")], denied),
        ("id-only", "generateIdToken", vec![delegate("middle")], denied),
        ("caller", "generateIdToken", vec![delegate("nobody")], (404, "NOT_FOUND", "")),
        ("caller", "generateIdToken", vec![email("middle")], (400, "INVALID_ARGUMENT", "")),
    ] {
        let mut body = match call {
            "generateIdToken" => json!({"audience": "a", "includeEmail": true}),
            "generateAccessToken" => json!({"scope": ["s"]}),
            "signJwt" => json!({"payload": "{\"aud\": \"x\"}"}),
            _ => json!({"payload": "aGVsbG8="}),
        };
        if !delegates.is_empty() {
            body["delegates"] = json!(delegates);
        }
        let answer = stage.call(Some(&bearer(who)), call, &body);
        assert_eq!(error(&answer), expected, "{who} {call} {delegates:?}");
    }
    let answer = stage.call(Some(&bearer("middle")), "generateIdToken", &json!({"audience": "a"}));
    let token = answer.1["token"].as_str().expect("a token");
    let claims = verify(stage.snapshot.issuer.key_set(), token, NOW).expect("good");
    assert_eq!((claims.sub.as_str(), claims.aud.as_str()), ("3", "a"));
}

#[test]
fn a_credential_that_is_no_good_is_refused_in_googles_words() {
    let stage = Stage::new("credentials");
    let id_token = {
        let claims = Claims::of_service_account("2", Some(&email("middle")), "a", NOW);
        stage.snapshot.issuer.sign(&claims).expect("signed").token
    };
    let unsupported = "ACCESS_TOKEN_TYPE_UNSUPPORTED";
    for (authorization, info) in [
        (None, "CREDENTIALS_MISSING"),
        (Some(String::new()), "CREDENTIALS_MISSING"),
        (Some("Basic eDp5".into()), unsupported),
        (Some("Bearer garbage".into()), unsupported),
        (Some("Bearer ya29.garbage".into()), unsupported),
        (Some(format!("Bearer {id_token}")), unsupported),
        (
            Some(format!("Bearer {}", stage.access_token("middle", SCOPE, NOW - 4000))),
            "ACCESS_TOKEN_EXPIRED",
        ),
    ] {
        let body = json!({"audience": "a"});
        let answer = stage.call(authorization.as_deref(), "generateIdToken", &body);
        assert_eq!(error(&answer), (401, "UNAUTHENTICATED", info), "{authorization:?}");
    }
    let narrow = format!("Bearer {}", stage.access_token("middle", "email", NOW));
    let answer = stage.call(Some(&narrow), "generateIdToken", &json!({"audience": "a"}));
    let insufficient = (403, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT");
    assert_eq!(error(&answer), insufficient);
    let path = format!("/v1/projects/-/serviceAccounts/{}:generateIdToken", email("target"));
    let response = stage.ask(post(IAM, &path));
    assert!(response.www_authenticate.is_some_and(|text| text.starts_with("Bearer realm=")));
    let path = format!("/v1/projects/-/serviceAccounts/{}/allowedLocations", email("target"));
    assert_eq!(stage.json(get(IAM, &path)).1["encodedLocations"], "0x0");
}

/// An assertion as google-auth makes it, changed.
fn assertion(key: &SigningKey, change: impl Fn(&mut Value)) -> String {
    let mut claims = json!({
        "iss": email("caller"), "sub": email("caller"), "iat": NOW, "exp": NOW + 3600,
        "aud": "https://oauth2.googleapis.com/token", "target_audience": "https://a",
    });
    change(&mut claims);
    let token = sign_jwt(key, claims.to_string().as_bytes()).expect("signed");
    format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={token}")
}

#[test]
fn an_account_s_key_is_exchanged_for_tokens() {
    let stage = Stage::new("exchange");
    let caller = stage.snapshot.issuer.account(&email("caller")).expect("declared").clone();
    stage.keys.create(&caller).expect("made");
    let key = stage.keys.user_managed(&caller.email).expect("read").remove(0);
    let foreign = SigningKey::generate().expect("the system has randomness");

    let (status, answer) = stage.exchange(&assertion(&key, |_| {}));
    let token = answer["id_token"].as_str().expect("an ID token");
    let claims = verify(stage.snapshot.issuer.key_set(), token, NOW).expect("good");
    assert_eq!((status, claims.aud.as_str(), claims.sub.as_str()), (200, "https://a", "1"));
    assert_eq!(claims.email, Some(email("caller")));
    let both = assertion(&key, |claims| claims["scope"] = json!("s"));
    assert!(stage.exchange(&both).1["id_token"].is_string(), "an audience goes before scopes");
    let for_scope = |claims: &mut Value| {
        claims["target_audience"] = Value::Null;
        claims["scope"] = json!("s t");
    };
    let (_, answer) = stage.exchange(&assertion(&key, for_scope));
    assert_eq!((&answer["expires_in"], &answer["token_type"]), (&json!(3599), &json!("Bearer")));
    let access = answer["access_token"].as_str().expect("an access token");
    let claims = verify_access_token(stage.snapshot.issuer.key_set(), access, NOW).expect("good");
    assert_eq!(claims.scopes, ["s", "t"]);

    let short = "Invalid JWT: Token must be a short-lived token";
    let system = stage.keys.system_managed(&caller.email).expect("made");
    let good = assertion(&key, |_| {});
    for (form, status, code, text) in [
        (String::new(), 400, "invalid_request", "grant_type"),
        ("grant_type=refresh_token".into(), 400, "unsupported_grant_type", "refresh_token"),
        (
            good.split("&assertion").next().unwrap_or_default().into(),
            400,
            "invalid_request",
            "assertion",
        ),
        (
            format!("{}&assertion=abc", &good[..good.find('&').unwrap_or(0)]),
            400,
            "invalid_grant",
            "Bad Request",
        ),
        (assertion(&foreign, |_| {}), 400, "invalid_grant", "Invalid JWT Signature."),
        (assertion(&system, |_| {}), 400, "invalid_grant", "Invalid JWT Signature."),
        (
            assertion(&key, |c| c["iss"] = json!(email("middle"))),
            400,
            "invalid_grant",
            "Invalid JWT Signature.",
        ),
        (assertion(&key, |c| c["iss"] = json!("x@y.z")), 400, "invalid_grant", "account not found"),
        (
            assertion(&key, |c| c["aud"] = json!("https://elsewhere")),
            400,
            "invalid_grant",
            "Failed audience check",
        ),
        (assertion(&key, |c| c["exp"] = json!(NOW - 60)), 400, "invalid_grant", short),
        (assertion(&key, |c| c["iat"] = json!(NOW + 60)), 400, "invalid_grant", short),
        (assertion(&key, |c| c["exp"] = json!(NOW + 3601)), 400, "invalid_grant", short),
        (
            assertion(&key, |c| c["sub"] = json!("user@example.com")),
            401,
            "unauthorized_client",
            "Client is unauthorized",
        ),
        (
            assertion(&key, |c| c["target_audience"] = json!("")),
            400,
            "invalid_scope",
            "Invalid OAuth scope",
        ),
    ] {
        let answer = stage.exchange(&form);
        assert_eq!((answer.0, answer.1["error"].as_str()), (status, Some(code)), "{form}");
        let description = answer.1["error_description"].as_str().unwrap_or_default();
        assert!(description.contains(text), "{form}: {description}");
    }
    assert_eq!(stage.ask(get("oauth2.googleapis.com", "/token")).status, 405);
}

#[test]
fn a_self_signed_jwt_calls_the_api() {
    let stage = Stage::new("self-signed");
    let middle = stage.snapshot.issuer.account(&email("middle")).expect("declared").clone();
    stage.keys.create(&middle).expect("made");
    let key = stage.keys.user_managed(&middle.email).expect("read").remove(0);
    let call = |aud: &str, exp: u64| {
        let claims = json!({"iss": email("middle"), "sub": email("middle"), "aud": aud, "iat": NOW, "exp": exp});
        let token = sign_jwt(&key, claims.to_string().as_bytes()).expect("signed");
        let authorization = format!("Bearer {token}");
        stage.call(Some(&authorization), "generateIdToken", &json!({"audience": "a"})).0
    };
    assert_eq!(call("https://iamcredentials.googleapis.com/", NOW + 3600), 200);
    assert_eq!(call("https://compute.googleapis.com/", NOW + 3600), 401);
    assert_eq!(call("https://iamcredentials.googleapis.com/", NOW - 60), 401);
    assert_eq!(call("https://iamcredentials.googleapis.com/", NOW + 7200), 401);
}

#[test]
fn what_an_account_signs_is_verified_by_its_published_keys_and_is_no_id_token() {
    let stage = Stage::new("published");
    let bearer = format!("Bearer {}", stage.access_token("middle", SCOPE, NOW));
    // An attempt at an ID token of somebody else.
    let forged = Claims::of_service_account("1", Some(&email("caller")), "a", NOW);
    let payload = serde_json::to_string(&forged).expect("plain data");
    let body = json!({"payload": payload});
    let (_, signed) = stage.call(Some(&bearer), "signJwt", &body);
    let token = signed["signedJwt"].as_str().expect("a JWT");
    let refusal = verify(stage.snapshot.issuer.key_set(), token, NOW).expect_err("its own key");
    assert_eq!(refusal.reason(), Reason::TokenSignatureInvalid);

    let www = "www.googleapis.com";
    let of = |kind: &str, name: &str| format!("/service_accounts/v1/{kind}/{}", email(name));
    let (_, document) = stage.json(get(www, &of("jwk", "target")));
    let keys = KeySet::parse(&document.to_string()).expect("a key set");
    assert_eq!(verify_jwt(&keys, token).expect("signed by it")["email"], email("caller"));
    let (_, certificates) = stage.json(get(www, &of("metadata/x509", "target")));
    let kid = signed["keyId"].as_str().expect("an id");
    assert!(certificates[kid].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
    let (_, other) = stage.json(get(www, &of("jwk", "caller")));
    let other = KeySet::parse(&other.to_string()).expect("a key set");
    assert!(verify_jwt(&other, token).is_err(), "accounts have keys of their own");
    assert_eq!(stage.ask(get(www, &of("jwk", "nobody"))).status, 404);

    for (payload, good) in [
        ("{}", true),
        ("[]", false),
        ("x", false),
        ("{\"exp\": 1760043200}", true),
        ("{\"exp\": 1760043201}", false),
        ("{\"exp\": \"soon\"}", false),
    ] {
        let answer = stage.call(Some(&bearer), "signJwt", &json!({"payload": payload}));
        assert_eq!(answer.0, if good { 200 } else { 400 }, "{payload}");
    }
}

#[test]
fn documents_stand_on_googles_hosts_and_nowhere_else() {
    let stage = Stage::new("documents");
    for (host, path, status) in [
        ("accounts.google.com", "/.well-known/openid-configuration", 200),
        ("www.googleapis.com", "/oauth2/v3/certs", 200),
        ("www.googleapis.com", "/oauth2/v1/certs", 200),
        ("www.googleapis.com", "/.well-known/openid-configuration", 404),
        ("accounts.google.com", "/oauth2/v3/certs", 404),
        ("oauth2.googleapis.com", "/oauth2/v3/certs", 404),
        ("www.googleapis.com", "/computeMetadata/v1/", 404),
        ("iamcredentials.googleapis.com", "/oauth2/v3/certs", 404),
    ] {
        assert_eq!(stage.ask(get(host, path)).status, status, "{host}{path}");
    }
}

#[test]
fn tokeninfo_tells_claims_as_texts() {
    let stage = Stage::new("tokeninfo");
    let claims = Claims::of_service_account("1", Some(&email("caller")), "a", NOW);
    let token = stage.snapshot.issuer.sign(&claims).expect("signed").token;
    let info = |query: &str| {
        stage.json(IdentityRequest { query, ..get("oauth2.googleapis.com", "/tokeninfo") })
    };
    let (status, answer) = info(&format!("id_token={token}"));
    assert_eq!(status, 200);
    assert_eq!(answer["exp"], (NOW + 3600).to_string());
    assert_eq!((&answer["email_verified"], &answer["alg"]), (&json!("true"), &json!("RS256")));
    let access = stage.access_token("caller", SCOPE, NOW);
    let (_, answer) = info(&format!("access_token={access}"));
    assert_eq!((&answer["scope"], &answer["expires_in"]), (&json!(SCOPE), &json!("3600")));
    for query in ["", "id_token=x", "access_token=ya29.x"] {
        let (status, answer) = info(query);
        assert_eq!((status, &answer["error"]), (400, &json!("invalid_token")), "{query}");
    }
}

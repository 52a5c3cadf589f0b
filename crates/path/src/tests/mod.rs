//! The reference architecture (private-connectivity 7.5), and one test for each hop that can say
//! no.

mod reference;
mod url_map;

use crate::trace::State;
use crate::{ExplainRequest, Explanation, From, Live, Token, World};
use names::{Reason, SelfLink};
use reference::reference;
use slice::ConditionState::{self, ConditionFailed as Failed, ConditionSucceeded as Succeeded};
use slice::RevisionState;
use slice::Topology;
use slice::load_balancer::ServerTlsPolicy;
use slice::psc::{ConnectionPreference, Consumer};
use slice::run::{Ingress, TrafficTarget};

const NOW: u64 = 1_800_000_000;
const PROXY: &str = "proxy@tenant.iam.gserviceaccount.com";

/// A question from the API platform's tenant network.
fn ask(url: &str) -> ExplainRequest {
    ExplainRequest {
        from: "tenant/tenant-network".parse().expect("a place"),
        region: None,
        service_account: None,
        tags: Vec::new(),
        token: Token::None,
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        now: NOW,
    }
}

fn ask_as(account: &str, token: Token) -> ExplainRequest {
    let url = "https://internal.example.com/orders";
    ExplainRequest { service_account: Some(account.to_owned()), token, ..ask(url) }
}

fn explain(topology: &Topology, request: &ExplainRequest) -> Explanation {
    let world = World::compile(topology, None).expect("a good topology");
    crate::explain(&world, request)
}

/// What the client sees, and why.
fn seen(explanation: &Explanation) -> (Option<u16>, Option<Reason>) {
    (explanation.answer.status, explanation.answer.reason)
}

#[test]
fn the_golden_trace() {
    let explanation = explain(&reference(), &ask_as(PROXY, Token::ForTarget));
    assert!(explanation.is_delivered(), "{explanation}");
    assert_eq!(explanation.service.as_ref().map(|link| link.name()), Some("orders"));
    let golden = "\
GET https://internal.example.com/orders from tenant/tenant-network as proxy@tenant.iam.gserviceaccount.com

   1  START_FROM_PRIVATE_NETWORK      exec in tenant/tenant-network, europe-west1, as proxy@tenant.iam.gserviceaccount.com
   2  RESOLVE_NAME                    internal.example.com A → 10.10.0.9 (peering zone organizations/org/dnsZones/internal to consumer/apigee-network → private zone projects/consumer/managedZones/internal)
   3  APPLY_EGRESS_FIREWALL_RULE      the implied allow egress rule of tenant/tenant-network: ALLOW
   4  APPLY_ROUTE                     10.10.0.9 is in runtime (10.10.0.0/24), a subnetwork of tenant/tenant-network
   5  APPLY_FORWARDING_RULE           PSC endpoint apps (10.10.0.9:443) → apps-attachment, connection ACCEPTED
   6  NAT                             service attachment apps-attachment in producer/ilb-network: source 10.0.2.2, to 10.0.0.5:443 (ilb-https)
   7  ARRIVE_AT_INTERNAL_LOAD_BALANCER  ilb-https
";
    let text = explanation.to_string();
    let lines: Vec<&str> = text.lines().collect();
    for (line, expected) in lines.iter().zip(golden.lines()).take(8) {
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(line), squeeze(expected));
    }
    let states: Vec<&str> = explanation.steps.iter().map(|step| step.state.code()).collect();
    assert_eq!(
        states,
        [
            "START_FROM_PRIVATE_NETWORK",
            "RESOLVE_NAME",
            "APPLY_EGRESS_FIREWALL_RULE",
            "APPLY_ROUTE",
            "APPLY_FORWARDING_RULE",
            "NAT",
            "ARRIVE_AT_INTERNAL_LOAD_BALANCER",
            "PRESENT_CERTIFICATE",
            "APPLY_URL_MAP",
            "APPLY_URL_MAP",
            "ANALYZE_LOAD_BALANCER_BACKEND",
            "ANALYZE_LOAD_BALANCER_BACKEND",
            "FIND_CLOUD_RUN_SERVICE",
            "APPLY_INGRESS_SETTING",
            "CHECK_INVOKER",
            "DELIVER",
        ],
        "{text}"
    );
    let json = explanation.to_json();
    let trace = &json["reachabilityDetails"]["traces"][0];
    assert_eq!(json["reachabilityDetails"]["result"], "REACHABLE");
    assert_eq!(trace["endpointInfo"]["destinationIp"], "10.10.0.9");
    assert_eq!(trace["steps"][5]["nat"]["newSourceIp"], "10.0.2.2");
    assert_eq!(trace["steps"][15]["deliver"]["target"], "CLOUD_RUN_REVISION");
}

#[test]
fn a_consumer_on_no_list_is_pending_and_the_missing_line_is_named() {
    let mut topology = reference();
    topology.service_attachments[0].consumer_accept_lists.clear();
    let explanation = explain(&topology, &ask("https://internal.example.com/orders"));
    assert_eq!(seen(&explanation), (None, Some(Reason::PscConnectionNotAccepted)));
    assert_eq!(explanation.answer.seen, "connect times out");
    let why = explanation.answer.why.as_deref().unwrap_or_default();
    assert!(why.starts_with("PENDING: consumerAcceptLists is empty and misses"), "{why}");
    let fix = explanation.answer.fix.as_deref().unwrap_or_default();
    assert!(
        fix.contains("apps-attachment: add `- {projectIdOrNum: tenant, connectionLimit"),
        "{fix}"
    );
    let json = explanation.to_json();
    let steps = &json["reachabilityDetails"]["traces"][0]["steps"];
    assert_eq!(steps[4]["causesDrop"], true);
    assert_eq!(steps[5]["drop"]["cause"], "PSC_CONNECTION_NOT_ACCEPTED");
}

#[test]
fn a_consumer_on_the_reject_list_is_rejected() {
    let mut topology = reference();
    topology.service_attachments[0].consumer_reject_lists =
        vec![Consumer::ProjectIdOrNum("tenant".to_owned())];
    let explanation = explain(&topology, &ask("https://internal.example.com/orders"));
    assert_eq!(seen(&explanation), (None, Some(Reason::PscConnectionNotAccepted)));
    let why = explanation.answer.why.as_deref().unwrap_or_default();
    assert!(why.starts_with("REJECTED: consumerRejectLists[0] names"), "{why}");
}

#[test]
fn history_counts_where_something_runs() {
    let mut topology = reference();
    let world = World::compile(&topology, None).expect("a good topology");
    let connections = world.connections.values().map(psc::Connection::state).collect();
    topology.service_attachments[0].consumer_accept_lists.clear();
    let fresh = explain(&topology, &ask("https://internal.example.com/orders"));
    assert_eq!(fresh.notes.len(), 1, "a fresh start is assumed, and said");
    assert!(!fresh.is_delivered());
    let live = Live { connections, jwks: crate::token::NO_KEYS.to_owned(), ..Live::default() };
    let world = World::compile(&topology, Some(live)).expect("a good topology");
    let explanation = crate::explain(&world, &ask_as(PROXY, Token::ForTarget));
    assert!(explanation.is_delivered(), "accepted earlier, reconcileConnections is false");
    assert!(explanation.notes.is_empty());
}

#[test]
fn another_region_than_the_attachment_s_is_refused() {
    let mut topology = reference();
    topology.endpoints[0].region = "us-east1".to_owned();
    topology.endpoints[0].allow_psc_global_access = true;
    topology.service_attachments[0].connection_preference = ConnectionPreference::AcceptAutomatic;
    let explanation = explain(&topology, &ask("https://internal.example.com/orders"));
    assert_eq!(seen(&explanation), (None, Some(Reason::PscRegionMismatch)));
}

#[test]
fn a_url_without_a_service_behind_the_mask_is_404() {
    for (path, reason, near) in [
        ("/ordres", Reason::CloudRunServiceNotFound, "orders"),
        ("/", Reason::UrlMaskNoMatch, ""),
        ("/Orders", Reason::UrlMaskIllegalName, ""),
    ] {
        let url = format!("https://internal.example.com{path}");
        let explanation = explain(&reference(), &ask(&url));
        assert_eq!(seen(&explanation), (Some(404), Some(reason)), "{path}");
        let (step, _) = explanation.refusal().expect("a step says no");
        assert!(step.near_misses.iter().any(|miss| miss.contains(near)) || near.is_empty());
    }
}

#[test]
fn the_invoker_check_answers_by_the_documented_table() {
    for (request, status, reason) in [
        (ask("https://internal.example.com/orders"), 403, Reason::TokenMissing),
        (
            ask_as(PROXY, Token::ForAudience("https://elsewhere.run.app".to_owned())),
            401,
            Reason::TokenAudienceMismatch,
        ),
        (
            ask_as("other@tenant.iam.gserviceaccount.com", Token::ForTarget),
            403,
            Reason::InvokerPermissionDenied,
        ),
        (
            ExplainRequest {
                headers: vec![("Authorization".to_owned(), "Bearer ya29.c.x".to_owned())],
                ..ask("https://internal.example.com/orders")
            },
            401,
            Reason::TokenIsAccessToken,
        ),
    ] {
        let explanation = explain(&reference(), &request);
        assert_eq!(seen(&explanation), (Some(status), Some(reason)), "{explanation}");
        assert!(explanation.answer.fix.is_some());
    }
}

#[test]
fn ingress_is_internal_by_the_load_balancer_and_by_the_own_project_s_networks() {
    let topology = reference();
    let run_app = "https://orders-3.europe-west1.run.app/";
    for (from, ingress, reason) in [
        ("producer/ilb-network", Ingress::InternalOnly, None),
        ("tenant/tenant-network", Ingress::InternalOnly, Some(Reason::IngressNotAllowed)),
        ("tenant/tenant-network", Ingress::All, None),
        ("internet", Ingress::InternalOnly, Some(Reason::IngressNotAllowed)),
        ("internet", Ingress::All, None),
        ("producer/ilb-network", Ingress::None, Some(Reason::IngressNotAllowed)),
    ] {
        let mut topology = topology.clone();
        topology.services[0].ingress = ingress;
        let from: From = from.parse().expect("a place");
        let request = ExplainRequest { from, ..ask_as(PROXY, Token::ForTarget) };
        let request = ExplainRequest { url: run_app.to_owned(), ..request };
        let explanation = explain(&topology, &request);
        let status = reason.map(|_| 404);
        assert_eq!(seen(&explanation), (status, reason), "{explanation}");
    }
}

#[test]
fn names_routes_and_certificates_say_no_before_the_load_balancer() {
    let place = |from: &str| from.parse::<From>().expect("a place");
    for (from, url, reason, seen) in [
        (
            "tenant/tenant-network",
            "https://missing.example.com/",
            Reason::DnsNxdomain,
            "the name does not resolve",
        ),
        // The tenant's peer has that range too; the producer's address is out of reach.
        (
            "tenant/tenant-network",
            "https://10.0.0.5/orders",
            Reason::UnknownInternalAddress,
            "connect times out",
        ),
        ("tenant/tenant-network", "https://10.0.2.2/", Reason::NoRoute, "connect times out"),
        (
            "consumer/apigee-network",
            "https://internal.example.com/orders",
            Reason::PscEndpointAccessedFromPeeredNetwork,
            "connect times out",
        ),
        (
            "tenant/tenant-network",
            "https://10.10.0.9/orders",
            Reason::TlsCertificateMismatch,
            "the TLS handshake fails",
        ),
        (
            "tenant/tenant-network",
            "http://internal.example.com/orders",
            Reason::ForwardingRuleMismatch,
            "connect times out",
        ),
        (
            "tenant/tenant-network",
            "http://internal.example.com:443/orders",
            Reason::SchemeMismatch,
            "the connection is closed without an answer",
        ),
    ] {
        let explanation = explain(&reference(), &ExplainRequest { from: place(from), ..ask(url) });
        assert_eq!(explanation.answer.reason, Some(reason), "{explanation}");
        assert_eq!((explanation.answer.status, &*explanation.answer.seen), (None, seen));
    }
    let direct =
        ExplainRequest { from: place("producer/ilb-network"), ..ask_as(PROXY, Token::ForTarget) };
    let explanation = explain(&reference(), &direct);
    assert!(explanation.is_delivered(), "{explanation}");
    assert!(explanation.to_string().contains("→ 10.0.0.5"));
}

#[test]
fn a_place_that_does_not_exist_is_no_refusal() {
    for (from, region) in [
        ("tenant/nowhere", None),
        ("tenant/tenant-network/vm/none", None),
        ("tenant/tenant-network", Some("asia-east1")),
    ] {
        let request = ExplainRequest {
            from: from.parse().expect("a place"),
            region: region.map(str::to_owned),
            ..ask("https://internal.example.com/orders")
        };
        let explanation = explain(&reference(), &request);
        assert_eq!(explanation.result.code(), "UNDETERMINED", "{explanation}");
        assert_eq!(explanation.answer.reason, None);
    }
}

#[test]
fn expectations_are_held_against_the_static_run() {
    let topology = reference();
    let world = World::compile(&topology, None).expect("a good topology");
    let expectation = |url: &str, audience: Option<&str>| slice::Expectation {
        at: "topology.yaml:1:1".to_owned(),
        description: "test".to_owned(),
        from: "tenant/tenant-network".to_owned(),
        as_service_account: Some(PROXY.to_owned()),
        region: None,
        tags: Vec::new(),
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        id_token_audience: audience.map(str::to_owned),
        status: Some(200),
        reason: None,
        connected: None,
        service: None,
    };
    let orders = "https://internal.example.com/orders";
    let good = Some("https://orders-3.europe-west1.run.app");
    let check = |expectation: slice::Expectation| {
        let results = crate::check_expectations(&world, &[expectation], NOW);
        results[0].holds()
    };
    type Change = fn(&mut slice::Expectation);
    let table: [(&str, Option<&str>, Change, bool); 9] = [
        ("delivered", good, |_| {}, true),
        ("delivered to the service", good, |e| e.service = Some("orders".to_owned()), true),
        ("not to another", good, |e| e.service = Some("stock".to_owned()), false),
        (
            "the program may answer 404",
            good,
            |e| {
                (e.status, e.service) = (Some(404), Some("orders".to_owned()));
            },
            true,
        ),
        ("but nobody said so", good, |e| e.status = Some(404), false),
        (
            "refused as expected",
            None,
            |e| {
                (e.status, e.reason) = (Some(403), Some("TOKEN_MISSING".to_owned()));
            },
            true,
        ),
        (
            "for another reason",
            None,
            |e| {
                (e.status, e.reason) = (Some(403), Some("INVOKER_PERMISSION_DENIED".to_owned()));
            },
            false,
        ),
        ("another status", None, |e| e.status = Some(200), false),
        ("an answer where none was expected", None, |e| e.status = None, false),
    ];
    for (rule, audience, change, holds) in table {
        let mut expectation = expectation(orders, audience);
        change(&mut expectation);
        assert_eq!(check(expectation), holds, "{rule}");
    }
    let mut silent = expectation("https://10.0.0.5/", None);
    silent.status = None;
    assert!(check(silent));
}

#[test]
fn a_load_balancer_does_not_understand_a_proxy_header() {
    let mut topology = reference();
    topology.service_attachments[0].enable_proxy_protocol = true;
    let explanation = explain(&topology, &ask("https://internal.example.com/orders"));
    assert_eq!(seen(&explanation), (None, Some(Reason::ProxyProtocolNotSupported)));
    assert_eq!(explanation.answer.seen, "the TLS handshake fails");
    let fix = explanation.answer.fix.as_deref().unwrap_or_default();
    assert!(fix.contains("apps-attachment to false"), "{fix}");
}

#[test]
fn what_no_client_can_send_and_nobody_can_be_aborts() {
    let url = "https://internal.example.com/orders";
    for question in [
        ask("https://internal.example.com:99999/orders"),
        ExplainRequest { method: "G T".to_owned(), ..ask(url) },
        ask_as("nobody@tenant.iam.gserviceaccount.com", Token::ForTarget),
    ] {
        let explanation = explain(&reference(), &question);
        assert_eq!(explanation.result, crate::Reachability::Undetermined, "{explanation}");
        assert!(!explanation.answer.seen.is_empty());
    }
}

fn revision(name: &str, ready: ConditionState, percent: u32, tags: &[&str]) -> RevisionState {
    RevisionState {
        name: name.to_owned(),
        ready,
        reason: None,
        message: format!("Revision '{name}' is not ready and cannot serve traffic."),
        percent,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        instances: 0,
        starting: 0,
    }
}

/// The last step and the one that chose the revision, if there is one.
fn chosen(explanation: &crate::Explanation) -> (String, Option<String>) {
    let step = |state| explanation.steps.iter().find(|step| step.state == state);
    let deliver = step(State::Deliver).expect("delivered");
    let choice = step(State::ChooseRevision).map(|step| step.description.clone());
    (deliver.description.rsplit(' ').next().unwrap_or_default().to_owned(), choice)
}

#[test]
fn the_revision_is_the_one_that_most_requests_get() {
    let mut topology = reference();
    let service = &mut topology.services[0];
    let latest = service.revision.name.clone();
    service.older_revisions = vec![slice::run::Revision {
        name: "orders-00000-old".to_owned(),
        ..service.revision.clone()
    }];
    service.traffic = vec![
        TrafficTarget { revision: Some("orders-00000-old".to_owned()), percent: 80, tag: None },
        TrafficTarget { revision: None, percent: 20, tag: None },
    ];
    let explanation = explain(&topology, &ask_as(PROXY, Token::ForTarget));
    let (to, why) = chosen(&explanation);
    assert_eq!(to, "orders-00000-old");
    let shares = format!(
        "most requests get orders-00000-old, 80 % of them; traffic: orders-00000-old 80 %, {latest} 20 %"
    );
    assert_eq!(why.as_deref(), Some(&*shares));

    // What runs knows better than the files: a newest revision that does not start gets nothing.
    topology.services[0].traffic = vec![TrafficTarget::latest()];
    let state = slice::ServiceState {
        service: topology.services[0].self_link.clone(),
        instances: 1,
        starts: true,
        text: String::new(),
        reconciling: false,
        traffic: vec![TrafficTarget::latest()],
        revisions: vec![
            revision("orders-00000-old", Succeeded, 100, &[]),
            revision(&latest, Failed, 0, &[]),
        ],
    };
    let jwks = crate::token::NO_KEYS.to_owned();
    let live = Live { jwks, services: vec![state], ..Live::default() };
    let world = World::compile(&topology, Some(live)).expect("a good topology");
    let explanation = crate::explain(&world, &ask_as(PROXY, Token::ForTarget));
    assert_eq!(chosen(&explanation), ("orders-00000-old".to_owned(), None));
}

#[test]
fn a_revision_that_does_not_start_answers_500() {
    let topology = reference();
    for (starts, expected) in
        [(true, (None, None)), (false, (Some(500), Some(Reason::InstanceStartFailed)))]
    {
        let state = slice::ServiceState {
            service: topology.services[0].self_link.clone(),
            instances: 0,
            starts,
            text: "orders-00001-abc does not start".to_owned(),
            reconciling: false,
            traffic: vec![TrafficTarget::latest()],
            revisions: vec![revision(
                "orders-00001-abc",
                if starts { Succeeded } else { Failed },
                100,
                &[],
            )],
        };
        let jwks = crate::token::NO_KEYS.to_owned();
        let live = Live { jwks, services: vec![state], ..Live::default() };
        let world = World::compile(&topology, Some(live)).expect("a good topology");
        let explanation = crate::explain(&world, &ask_as(PROXY, Token::ForTarget));
        assert_eq!(seen(&explanation), expected, "{explanation}");
    }
}

#[test]
fn whoever_must_show_a_certificate_and_has_none_gets_no_handshake() {
    let with = |allow_invalid_or_missing| {
        let mut topology = reference();
        let rule = &mut topology.load_balancing.forwarding_rules[0];
        rule.target.server_tls_policy = Some(ServerTlsPolicy {
            self_link: SelfLink::new(
                "projects/producer/locations/europe-west1/serverTlsPolicies/m",
            ),
            allow_invalid_or_missing,
            trust_anchors: Vec::new(),
            intermediate_cas: Vec::new(),
            allowlisted_certificates: Vec::new(),
        });
        explain(&topology, &ask_as(PROXY, Token::ForTarget))
    };
    assert!(with(true).is_delivered());
    let explanation = with(false);
    assert_eq!(seen(&explanation), (None, Some(Reason::TlsHandshakeFailed)), "{explanation}");
}

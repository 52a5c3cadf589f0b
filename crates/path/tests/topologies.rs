//! Every topology of the repository keeps its own expectations, by the static run.

use names::Reason;
use path::{ExplainRequest, From, Token, World, check_expectations, explain};
use std::path::Path;

/// The time of the questions; any will do.
const NOW: u64 = 1_800_000_000;

#[test]
fn every_topology_keeps_its_expectations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topology");
    let mut failed = String::new();
    let mut expectations = 0;
    let mut folders: Vec<_> = std::fs::read_dir(root)
        .expect("the folder of topologies")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    for folder in folders {
        let loaded = topology::load(&folder);
        let Some(topology) = loaded.topology else {
            panic!("{}: {:#?}", folder.display(), loaded.diagnostics);
        };
        let world = match World::compile(&topology, None) {
            Ok(world) => world,
            Err(problems) => panic!("{}: {problems:#?}", folder.display()),
        };
        for result in check_expectations(&world, &topology.expectations, NOW) {
            expectations += 1;
            for failure in &result.failures {
                failed += &format!("{}: {}: {failure}\n", result.at, result.description);
                if let Some(explanation) = &result.explanation {
                    failed += &format!("{explanation}\n");
                }
            }
        }
    }
    assert!(failed.is_empty(), "{failed}");
    assert!(expectations > 0, "there are no expectations");
}

/// The client of an API proxy sees what the bundle makes of a refusal behind it, and `explain` names
/// the hop that refused.
#[test]
fn a_refusal_behind_the_api_proxy_is_blamed_on_its_hop() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topology/apigee-psc-cloud-run");
    let topology = topology::load(&folder).topology.expect("a good topology");
    let request = ExplainRequest {
        from: From::Internet,
        region: None,
        service_account: None,
        tags: Vec::new(),
        token: Token::None,
        method: "GET".to_owned(),
        url: "https://api.example.com/v1/crun/orders".to_owned(),
        headers: vec![("x-apikey".to_owned(), "storefront-key".to_owned())],
        now: NOW,
    };
    type Change = fn(&mut slice::Topology, &mut ExplainRequest);
    let table: [(&str, Change, Option<u16>, Option<Reason>); 8] = [
        ("nothing", |_, _| {}, None, None),
        (
            "the consumer is not accepted",
            |topology, _| topology.service_attachments[0].consumer_accept_lists.clear(),
            Some(503),
            Some(Reason::PscConnectionNotAccepted),
        ),
        (
            "the caller is no invoker",
            |topology, _| topology.iam.policies.clear(),
            Some(403),
            Some(Reason::InvokerPermissionDenied),
        ),
        (
            "no record",
            |topology, _| topology.zones.clear(),
            Some(503),
            Some(Reason::DnsNameNotFound),
        ),
        (
            "no account to make tokens for",
            |topology, _| topology.service_accounts.clear(),
            Some(500),
            Some(Reason::GoogleTokenGenerationFailure),
        ),
        ("no key", |_, request| request.headers.clear(), Some(401), Some(Reason::PolicyFault)),
        (
            "another host",
            |_, request| request.url = "https://api.example.org/v1/crun/orders".to_owned(),
            Some(404),
            Some(Reason::ApplicationNotFound),
        ),
        (
            "no organisation",
            |topology, _| topology.organizations.clear(),
            None,
            Some(Reason::NoRoute),
        ),
    ];
    for (rule, change, status, reason) in table {
        let (mut topology, mut request) = (topology.clone(), request.clone());
        change(&mut topology, &mut request);
        let world = World::compile(&topology, None).expect("a good topology");
        let explanation = explain(&world, &request);
        let seen = (explanation.answer.status, explanation.answer.reason);
        assert_eq!(seen, (status, reason), "{rule}: {explanation}");
    }
}

//! What `explain` says is what a client on the machine sees, and names what has to be changed.

use path::{ExplainRequest, Explanation, Token, World, explain};
use slice::Topology;
use std::path::Path;

fn load(name: &str) -> Topology {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../topology").join(name);
    topology::load(&folder).topology.expect("a good topology")
}

fn ask(topology: &Topology, from: &str, url: &str) -> Explanation {
    let world = World::compile(topology, None).expect("a good topology");
    let request = ExplainRequest {
        from: from.parse().expect("a place"),
        region: None,
        service_account: None,
        tags: Vec::new(),
        token: Token::None,
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        now: 1_800_000_000,
    };
    explain(&world, &request)
}

#[test]
fn names_are_looked_up_by_the_search_list_as_workloads_do() {
    let topology = load("dns");
    let step = ask(&topology, "dns-hub/hub", "http://name-server/").to_string();
    assert!(!step.contains("DNS_NAME_NOT_FOUND"), "{step}");
    assert!(step.contains("name-server.europe-west1-b.c.dns-hub.internal"), "{step}");
    let other = ask(&topology, "dns-hub/hub", "http://name-servers/").to_string();
    assert!(other.contains("DNS_NAME_NOT_FOUND") && other.contains("name-servers A"), "{other}");
}

#[test]
fn a_client_that_asks_itself_is_refused_and_does_not_wait() {
    let seen = ask(&load("dns"), "dns-hub/hub", "http://127.0.0.1:1/");
    assert!(seen.answer.seen.starts_with("the connection is refused"), "{seen}");
}

#[test]
fn a_mismatch_names_both_protocols() {
    let topology = load("psc-l4");
    let tcp = ask(&topology, "apps-consumer/apps", "tcp://10.0.0.102:5432").to_string();
    assert!(tcp.contains("has UDP 5432, not TCP 5432"), "{tcp}");
    assert!(tcp.starts_with("tcp://"), "a connection has no method: {tcp}");
    let udp = ask(&topology, "apps-consumer/apps", "udp://10.0.0.100:5432");
    assert!(udp.to_string().contains("has TCP 5432, not UDP 5432"), "{udp}");
    assert_eq!(udp.answer.seen, "nobody answers");
}

#[test]
fn a_proxy_that_no_ingress_rule_admits_closes_the_connection() {
    let mut topology = load("psc-l4");
    let url = "tcp://10.0.0.103:5432";
    let before = ask(&topology, "apps-consumer/apps", url);
    assert!(before.is_delivered(), "{before}");
    for network in &mut topology.networks {
        network.firewalls.clear();
    }
    let after = ask(&topology, "apps-consumer/apps", url);
    assert_eq!(after.answer.reason, Some(names::Reason::FirewallRule), "{after}");
}

#[test]
fn an_endpoint_for_google_apis_is_named() {
    let topology = load("psc-admission");
    let url = "https://catalog-351000000001.europe-west1.run.app/";
    let step = ask(&topology, "search-project/search-network", url).to_string();
    assert!(step.contains("PSC endpoint allapis"), "{step}");
}

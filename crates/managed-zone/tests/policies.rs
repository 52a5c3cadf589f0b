//! What comes before the private zones and beside them, one table per rule (private-connectivity
//! 4.1, 4.2): outbound server policies, response policies, forwarding zones, reverse lookup zones,
//! deactivated peering zones.
#![allow(missing_docs)]

mod common;

use common::{
    forwarding, instance, network, of_kind, outbound, peering, private, response_policy, slice,
};
use managed_zone::{FairWeather, Name, Resolution, Snapshot};
use slice::dns::{PrivateDnsSlice, ZoneKind};

fn compile(slice: &PrivateDnsSlice) -> Snapshot {
    Snapshot::compile(slice).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn resolve(snapshot: &Snapshot, from: &str, question: &str) -> Resolution {
    let (name, record_type) = question.split_once(' ').unwrap_or((question, "A"));
    let view = snapshot.view(&network(from)).unwrap_or_else(|| panic!("no network {from}"));
    let name = Name::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let record_type = record_type.parse().unwrap_or_else(|error| panic!("{error}"));
    view.resolve(&name, record_type, &FairWeather::default())
}

/// Response code, reason, data, SOA owner, name servers with the network that asks them.
fn outcome(resolution: &Resolution) -> String {
    let mut text = resolution.response_code.to_string();
    if let Some(reason) = resolution.reason {
        text += &format!(" {reason}");
    }
    for record in &resolution.records {
        text += &format!("; {} {}", record.record_type, record.data);
    }
    if let Some(soa) = &resolution.authority {
        text += &format!("; SOA {}", soa.name);
    }
    if let Some((network, servers)) = resolution.name_servers() {
        let servers: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
        text += &format!("; ask {} from {network}", servers.join(" "));
    }
    text
}

fn check(snapshot: &Snapshot, from: &str, question: &str, expected: &str) {
    let resolution = resolve(snapshot, from, question);
    assert_eq!(outcome(&resolution), expected, "{from}: {question}\n{resolution}");
}

#[test]
fn an_outbound_server_policy_comes_before_all_else() {
    let mut slice = slice(
        "p/a",
        vec![
            private("z", "x.", &["p/a", "p/b"], "a.x. 60 A 10.0.0.1"),
            peering("peer", "y.", &["p/b"], "p/a"),
        ],
    );
    slice.policies = vec![outbound("out", &["p/a"], &["10.0.0.53", "10.0.0.54"])];
    slice.response_policies =
        vec![response_policy("rpz", &["p/a"], &[("a.x.", "a.x. 60 A 10.9.9.9")])];
    slice.instances = vec![instance("p/a", "vm", "10.0.0.9")];
    let snapshot = compile(&slice);
    let forwarded = "NOERROR DNS_FORWARDED; ask 10.0.0.53 10.0.0.54 from p/a";
    check(&snapshot, "p/a", "a.x", forwarded);
    check(&snapshot, "p/a", "vm.europe-west1-b.c.p.internal", forwarded);
    check(&snapshot, "p/a", "metadata.google.internal", forwarded);
    check(&snapshot, "p/a", "storage.googleapis.com", forwarded);
    // Another network is not concerned, until a peering zone restarts the procedure as p/a.
    check(&snapshot, "p/b", "a.x", "NOERROR; A 10.0.0.1");
    check(&snapshot, "p/b", "a.y", forwarded);
    let text = resolve(&snapshot, "p/a", "a.x").to_string();
    for part in [
        "outbound server policy projects/p/policies/out, before all else: asks 10.0.0.53, 10.0.0.54",
        "not consulted: `x.` of projects/p/managedZones/z",
        "DNS_FORWARDED: the answer is that of 10.0.0.53, 10.0.0.54, asked from p/a",
    ] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn the_longest_rule_of_the_response_policy_decides() {
    let mut slice = slice(
        "p/n",
        vec![
            private(
                "z",
                "x.",
                &["p/n"],
                "free.a.x. 60 A 10.0.0.1\nfree.x. 60 A 10.0.0.2\na.x. 60 A 10.0.0.3\nx. 60 TXT \"apex\"",
            ),
            private("c", "c.", &["p/n"], "to.c. 60 CNAME block.x.\nvip.c. 60 A 10.0.0.4"),
        ],
    );
    slice.response_policies = vec![response_policy(
        "rpz",
        &["p/n"],
        &[
            ("*.x.", "*.x. 60 A 10.9.0.1\n*.x. 60 TXT \"all\""),
            ("free.x.", ""),
            ("*.a.x.", ""),
            ("block.x.", "block.x. 60 A 10.9.0.2 | 10.9.0.3"),
            ("alias.x.", "alias.x. 60 CNAME vip.c."),
            ("*.googleapis.com.", "*.googleapis.com. 60 CNAME restricted.googleapis.com."),
            ("restricted.googleapis.com.", "restricted.googleapis.com. 60 A 199.36.153.4"),
        ],
    )];
    let snapshot = compile(&slice);
    let check = |question, expected| check(&snapshot, "p/n", question, expected);
    // A wildcard is for all names below, however deep, and not for its own parent.
    check("b.x", "NOERROR; A 10.9.0.1");
    check("c.b.x", "NOERROR; A 10.9.0.1");
    check("*.x", "NOERROR; A 10.9.0.1");
    check("x TXT", "NOERROR; TXT \"apex\"");
    // A longer rule wins, and bypassing goes on with the zones.
    check("block.x", "NOERROR; A 10.9.0.2; A 10.9.0.3");
    check("BLOCK.X", "NOERROR; A 10.9.0.2; A 10.9.0.3");
    check("sub.block.x", "NOERROR; A 10.9.0.1");
    check("free.x", "NOERROR; A 10.0.0.2");
    check("sub.free.x", "NOERROR; A 10.9.0.1");
    check("free.a.x", "NOERROR; A 10.0.0.1");
    check("none.a.x", "NXDOMAIN DNS_NXDOMAIN; SOA x.");
    check("a.x", "NOERROR; A 10.9.0.1");
    // The type that a rule lacks is an empty answer without anything.
    check("b.x AAAA", "NOERROR DNS_RESPONSE_POLICY");
    check("b.x ANY", "NOERROR; A 10.9.0.1; TXT \"all\"");
    check("block.x TXT", "NOERROR DNS_RESPONSE_POLICY");
    // A CNAME is followed by the full order, the response policy included.
    check("alias.x", "NOERROR; CNAME vip.c.; A 10.0.0.4");
    check("alias.x CNAME", "NOERROR; CNAME vip.c.");
    check("to.c", "NOERROR; CNAME block.x.; A 10.9.0.2; A 10.9.0.3");
    check("storage.googleapis.com", "NOERROR; CNAME restricted.googleapis.com.; A 199.36.153.4");
    check("googleapis.com", "NOERROR; A 216.239.32.53");
    let text = resolve(&snapshot, "p/n", "free.x").to_string();
    let bypassed =
        "rule `rule-1` (`free.x.`) of projects/p/responsePolicies/rpz bypasses; private zone";
    assert!(text.contains(bypassed), "{text}");
    let text = resolve(&snapshot, "p/n", "q.x").to_string();
    let local = "rule `rule-0` (`*.x.`) of response policy projects/p/responsePolicies/rpz; not consulted: `x.` of";
    assert!(text.contains(local), "{text}");
}

#[test]
fn a_response_policy_is_that_of_the_network_as_which_a_name_is_looked_up() {
    let mut slice = slice(
        "p/a",
        vec![
            peering("peer", "x.", &["p/a"], "p/b"),
            private("z", "x.", &["p/b"], "a.x. 60 A 10.0.0.1\nb.x. 60 A 10.0.0.2"),
        ],
    );
    slice.response_policies = vec![
        response_policy("of-a", &["p/a"], &[("a.x.", "a.x. 60 A 10.9.0.1")]),
        response_policy("of-b", &["p/b"], &[("*.x.", "*.x. 60 A 10.9.0.2")]),
    ];
    let snapshot = compile(&slice);
    check(&snapshot, "p/a", "a.x", "NOERROR; A 10.9.0.1");
    check(&snapshot, "p/a", "b.x", "NOERROR; A 10.9.0.2");
    check(&snapshot, "p/b", "a.x", "NOERROR; A 10.9.0.2");
}

#[test]
fn a_wildcard_over_everything_spares_nothing_but_the_root() {
    let mut slice = slice("p/n", Vec::new());
    slice.response_policies = vec![response_policy(
        "rpz",
        &["p/n"],
        &[("*.", "*. 60 A 10.9.0.1"), ("metadata.google.internal.", "")],
    )];
    let snapshot = compile(&slice);
    check(&snapshot, "p/n", "com", "NOERROR; A 10.9.0.1");
    check(&snapshot, "p/n", "metadata.google.internal", "NOERROR; A 169.254.169.254");
    check(&snapshot, "p/n", ".", "NOERROR DNS_NODATA; SOA .");
    let text = resolve(&snapshot, "p/n", "com").to_string();
    assert!(text.contains("rule `rule-0` (`*.`)"), "{text}");
}

#[test]
fn forwarding_zones_stand_among_the_other_zones_by_longest_suffix() {
    let snapshot = compile(&slice(
        "p/a",
        vec![
            private("z", "x.", &["p/a"], "a.x. 60 A 10.0.0.1\nto.x. 60 CNAME host.corp.x."),
            forwarding("corp", "corp.x.", &["p/a", "p/b"], &["10.1.0.53"]),
            private("deep", "in.corp.x.", &["p/a"], "a.in.corp.x. 60 A 10.0.0.2"),
            peering("peer", "p.", &["p/a"], "p/b"),
            forwarding("p", "p.", &["p/b"], &["10.2.0.53"]),
            forwarding("root", ".", &["p/c"], &["10.3.0.53"]),
        ],
    ));
    let check = |from, question, expected| check(&snapshot, from, question, expected);
    check("p/a", "a.x", "NOERROR; A 10.0.0.1");
    check("p/a", "corp.x", "NOERROR DNS_FORWARDED; ask 10.1.0.53 from p/a");
    check("p/a", "a.b.corp.x AAAA", "NOERROR DNS_FORWARDED; ask 10.1.0.53 from p/a");
    check("p/a", "a.in.corp.x", "NOERROR; A 10.0.0.2");
    check("p/a", "b.in.corp.x", "NXDOMAIN DNS_NXDOMAIN; SOA in.corp.x.");
    check("p/b", "a.corp.x", "NOERROR DNS_FORWARDED; ask 10.1.0.53 from p/b");
    // The chain so far is kept, and the name servers are asked from where peering leads.
    check("p/a", "to.x", "NOERROR DNS_FORWARDED; CNAME host.corp.x.; ask 10.1.0.53 from p/a");
    check("p/a", "www.p", "NOERROR DNS_FORWARDED; ask 10.2.0.53 from p/b");
    check("p/c", "anything.at.all", "NOERROR DNS_FORWARDED; ask 10.3.0.53 from p/c");
    check("p/c", "metadata.google.internal", "NOERROR DNS_FORWARDED; ask 10.3.0.53 from p/c");
}

#[test]
fn a_reverse_lookup_zone_has_the_instances_of_the_network_that_asks() {
    let mut slice = slice(
        "p/a",
        vec![
            of_kind("rev", "10.in-addr.arpa.", &["p/a", "p/b"], ZoneKind::ReverseLookup),
            forwarding("all", "in-addr.arpa.", &["p/a"], &["10.0.0.53"]),
        ],
    );
    slice.instances = vec![
        instance("p/a", "vm", "10.1.0.9"),
        instance("p/b", "other", "10.1.0.9"),
        instance("p/a", "far", "192.168.0.9"),
    ];
    let snapshot = compile(&slice);
    let check = |from, question, expected| check(&snapshot, from, question, expected);
    check("p/a", "9.0.1.10.in-addr.arpa PTR", "NOERROR; PTR vm.europe-west1-b.c.p.internal.");
    check("p/b", "9.0.1.10.in-addr.arpa PTR", "NOERROR; PTR other.europe-west1-b.c.p.internal.");
    check("p/a", "8.0.1.10.in-addr.arpa PTR", "NXDOMAIN DNS_NXDOMAIN; SOA 10.in-addr.arpa.");
    check("p/a", "9.0.168.192.in-addr.arpa PTR", "NOERROR DNS_FORWARDED; ask 10.0.0.53 from p/a");
    check("p/b", "1.0.1.11.in-addr.arpa PTR", "NXDOMAIN DNS_NAME_NOT_FOUND; SOA .");
    assert_eq!(resolve(&snapshot, "p/a", "8.0.1.10.in-addr.arpa PTR").lookups[0].elsewhere, []);
}

#[test]
fn a_deactivated_peering_zone_fails_and_does_not_fall_through() {
    let snapshot = compile(&slice(
        "p/n",
        vec![
            of_kind("gone", "a.x.", &["p/n"], ZoneKind::Deactivated),
            private("z", "x.", &["p/n"], "b.a.x. 60 A 10.0.0.1\nc.x. 60 CNAME b.a.x."),
        ],
    ));
    check(&snapshot, "p/n", "b.a.x", "SERVFAIL DNS_PEERING_DEACTIVATED");
    check(&snapshot, "p/n", "c.x", "SERVFAIL DNS_PEERING_DEACTIVATED");
    let text = resolve(&snapshot, "p/n", "b.a.x").to_string();
    assert!(text.contains("deactivated: its target network is gone"), "{text}");
}

#[test]
fn ns_records_below_the_apex_are_records_and_no_delegation() {
    let snapshot = compile(&slice(
        "p/n",
        vec![private("z", "x.", &["p/n"], "sub.x. 60 NS ns.sub.x.\nns.sub.x. 60 A 10.0.0.53")],
    ));
    check(&snapshot, "p/n", "sub.x NS", "NOERROR; NS ns.sub.x.");
    check(&snapshot, "p/n", "ns.sub.x", "NOERROR; A 10.0.0.53");
    check(&snapshot, "p/n", "sub.x", "NOERROR DNS_NODATA; SOA x.");
    check(&snapshot, "p/n", "www.sub.x", "NXDOMAIN DNS_NXDOMAIN; SOA x.");
    let resolution = resolve(&snapshot, "p/n", "www.sub.x");
    assert_eq!(resolution.lookups[0].no_delegation.as_deref(), Some("sub.x."));
}

#[test]
fn policies_that_contradict_each_other_are_refused() {
    let mut slice = slice("p/n", Vec::new());
    slice.policies = vec![outbound("a", &["p/n", "p/n"], &[]), outbound("b", &["p/n"], &[])];
    slice.response_policies = vec![
        response_policy("c", &["p/n"], &[("x.", ""), ("X.", ""), ("a..b.", "")]),
        response_policy("d", &["p/m", "p/n"], &[("y.", "z. 60 A 10.0.0.1\ny. 60 NS ns.y.")]),
    ];
    let errors = Snapshot::compile(&slice).err().unwrap_or_default();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let policies = "projects/p/responsePolicies";
    assert_eq!(
        texts,
        [
            "policies projects/p/policies/a and projects/p/policies/b: both apply to the network p/n".to_owned(),
            format!("response policy {policies}/c: two rules have the dnsName `x.`"),
            format!("managed zone {policies}/c: the name has an empty label"),
            format!("managed zone {policies}/d: `z.` A: the name is not the dnsName `y.` of the rule"),
            format!("managed zone {policies}/d: `y.` NS: local data holds no NS records"),
            format!("policies {policies}/c and {policies}/d: both apply to the network p/n"),
        ]
    );
}

#[test]
fn a_policy_says_whether_queries_are_logged() {
    let mut slice = slice("p/a", Vec::new());
    slice.policies = vec![outbound("quiet", &["p/a"], &[]), outbound("loud", &["p/b"], &[])];
    slice.policies[0].enable_logging = Some(false);
    slice.policies[1].enable_logging = Some(true);
    slice.zones = vec![private("z", "x.", &["p/c"], "")];
    let snapshot = compile(&slice);
    let logging = |of| snapshot.view(&network(of)).and_then(|view| view.logging());
    assert_eq!(["p/a", "p/b", "p/c"].map(logging), [Some(false), Some(true), None]);
    // Without name servers it is no outbound policy.
    check(&snapshot, "p/a", "metadata.google.internal", "NOERROR; A 169.254.169.254");
}

//! The resolution order and the rules of private zones, one table per rule; see the fact sheet
//! private-connectivity, section 4. Each check asks [`View::resolve`] and, so that the two faces
//! cannot differ, [`View::answer`] as hickory reads it.
#![allow(missing_docs)]

mod common;

use common::{instance, network, peering, private, slice};
use hickory_proto::op::Message;
use managed_zone::{
    Chosen, FairWeather, Match, Name, Outcome, RecordType, Resolution, Scratch, Snapshot,
    TCP_SIZE_MAX, Transport,
};
use slice::dns::PrivateDnsSlice;

fn compile(slice: &PrivateDnsSlice) -> Snapshot {
    Snapshot::compile(slice).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn resolve(snapshot: &Snapshot, from: &str, name: &str, record_type: &str) -> Resolution {
    let view = snapshot.view(&network(from)).unwrap_or_else(|| panic!("no network {from}"));
    let asked = Name::parse(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let record_type: RecordType = record_type.parse().unwrap_or_else(|e| panic!("{e}"));
    let resolution = view.resolve(&asked, record_type, &FairWeather::default());

    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    query.extend_from_slice(asked.as_wire());
    query.extend_from_slice(&record_type.0.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    let mut out = vec![0; TCP_SIZE_MAX];
    let answered = view
        .answer(&query, Transport::Tcp, &FairWeather::default(), &mut Scratch::new(), &mut out)
        .and_then(Outcome::finished)
        .unwrap_or_else(|| panic!("no answer for {name}"));
    assert_eq!(answered.response_code, resolution.response_code, "{name}");
    assert_eq!(answered.reason, resolution.reason, "{name}");
    let message = Message::from_vec(&out[..answered.length]).unwrap_or_else(|e| panic!("{e}"));
    let shown = |records: &[hickory_proto::rr::Record]| -> Vec<String> {
        let shown = records.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.record_type()));
        shown.map(|text| text.to_lowercase()).collect()
    };
    let expected = |records: &[managed_zone::Record]| -> Vec<String> {
        let shown = records.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.record_type));
        shown.map(|text| text.to_lowercase()).collect()
    };
    assert_eq!(shown(&message.answers), expected(&resolution.records), "{name}");
    let authority: Vec<_> = resolution.authority.iter().cloned().collect();
    assert_eq!(shown(&message.authorities), expected(&authority), "{name}");
    resolution
}

/// Response code, reason, records, SOA owner: all on one line.
fn outcome(resolution: &Resolution) -> String {
    let mut text = resolution.response_code.to_string();
    if let Some(reason) = resolution.reason {
        text += &format!(" {reason}");
    }
    for record in &resolution.records {
        text += &format!("; {} {} {}", record.name, record.record_type, record.data);
    }
    if let Some(soa) = &resolution.authority {
        text += &format!("; SOA {} {}", soa.name, soa.ttl);
    }
    text
}

fn check(snapshot: &Snapshot, from: &str, question: &str, expected: &str) {
    let (name, record_type) = question.split_once(' ').unwrap_or((question, "A"));
    let resolution = resolve(snapshot, from, name, record_type);
    assert_eq!(outcome(&resolution), expected, "{from}: {question}\n{resolution}");
}

/// The example of the fact sheet: private `static.example.com.`, `10.internal.`, peering
/// `peer.com.` to vpc-b.
fn documented() -> Snapshot {
    let mut slice = slice(
        "p/vpc-a",
        vec![
            private(
                "static",
                "static.example.com.",
                &["p/vpc-a"],
                "x.static.example.com. 60 A 10.1.0.1",
            ),
            private("ten", "10.internal.", &["p/vpc-a"], "a.10.internal. 60 A 10.1.0.2"),
            peering("peer", "peer.com.", &["p/vpc-a"], "p/vpc-b"),
            private("b", "peer.com.", &["p/vpc-b"], "www.peer.com. 60 A 10.2.0.1"),
        ],
    );
    slice.instances =
        vec![instance("p/vpc-a", "vm", "10.1.0.9"), instance("p/vpc-b", "vm", "10.2.0.9")];
    compile(&slice)
}

#[test]
fn the_documented_example_of_the_order() {
    let snapshot = documented();
    let check = |question, expected| check(&snapshot, "p/vpc-a", question, expected);
    check("x.static.example.com", "NOERROR; x.static.example.com. A 10.1.0.1");
    check("y.static.example.com", "NXDOMAIN DNS_NXDOMAIN; SOA static.example.com. 300");
    check("example.com", "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400");
    check("a.10.internal", "NOERROR; a.10.internal. A 10.1.0.2");
    check("www.peer.com", "NOERROR; www.peer.com. A 10.2.0.1");
    check("no.peer.com", "NXDOMAIN DNS_NXDOMAIN; SOA peer.com. 300");
}

#[test]
fn peering_is_one_way_and_starts_again_as_the_target_network() {
    let snapshot = documented();
    check(&snapshot, "p/vpc-b", "x.static.example.com", "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400");
    let resolution = resolve(&snapshot, "p/vpc-a", "www.peer.com", "A");
    let hops = &resolution.lookups[0].hops;
    assert_eq!(hops.len(), 2);
    assert!(
        matches!(&hops[0].chosen, Chosen::PeeringZone(zone) if zone.peering == Some(network("p/vpc-b")))
    );
    assert!(matches!(&hops[1].chosen, Chosen::PrivateZone(zone) if zone.zone.name() == "b"));
    assert_eq!(hops[1].network, network("p/vpc-b"));
}

#[test]
fn peering_is_transitive_through_one_hop_only() {
    let chain = |records_in: &str| {
        compile(&slice(
            "p/a",
            vec![
                peering("ab", "x.", &["p/a"], "p/b"),
                peering("bc", "x.", &["p/b"], "p/c"),
                peering("cd", "x.", &["p/c"], "p/d"),
                private("d", "x.", &["p/d"], "www.x. 60 A 10.4.0.1"),
                private("in", "in.x.", &[records_in], "www.in.x. 60 A 10.9.0.1"),
            ],
        ))
    };
    check(&chain("p/b"), "p/a", "www.in.x", "NOERROR; www.in.x. A 10.9.0.1");
    check(&chain("p/c"), "p/a", "www.in.x", "NOERROR; www.in.x. A 10.9.0.1");
    check(&chain("p/c"), "p/a", "www.x", "SERVFAIL DNS_PEERING_TOO_DEEP");
    check(&chain("p/c"), "p/b", "www.x", "NOERROR; www.x. A 10.4.0.1");
    let circle = compile(&slice(
        "p/a",
        vec![peering("ab", "x.", &["p/a"], "p/b"), peering("ba", "x.", &["p/b"], "p/a")],
    ));
    check(&circle, "p/a", "www.x", "SERVFAIL DNS_PEERING_TOO_DEEP");
}

#[test]
fn the_target_network_answers_with_its_whole_order() {
    let mut slice = slice(
        "p/a",
        vec![
            peering("run", "run.app.", &["p/a"], "p/b"),
            peering("internal", "internal.", &["p/a"], "p/b"),
            peering("nowhere", "example.", &["p/a"], "p/c"),
        ],
    );
    slice.instances =
        vec![instance("p/a", "vm-a", "10.0.0.2"), instance("p/b", "vm-b", "10.0.0.2")];
    let snapshot = compile(&slice);
    let check = |question, expected| check(&snapshot, "p/a", question, expected);
    check("x-1.a.run.app", "NOERROR; x-1.a.run.app. A 216.239.32.53");
    check(
        "vm-b.europe-west1-b.c.p.internal",
        "NOERROR; vm-b.europe-west1-b.c.p.internal. A 10.0.0.2",
    );
    check("vm-a.europe-west1-b.c.p.internal", "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400");
    check("www.example", "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400");
}

#[test]
fn the_longest_suffix_wins_and_nothing_falls_through() {
    let snapshot = compile(&slice(
        "p/n",
        vec![
            private(
                "short",
                "example.com.",
                &["p/n"],
                "a.sub.example.com. 60 A 10.0.0.1\nbadsub.example.com. 60 A 10.0.0.3",
            ),
            private("long", "sub.example.com.", &["p/n"], "b.sub.example.com. 60 A 10.0.0.2"),
            private(
                "googleapis",
                "googleapis.com.",
                &["p/n"],
                "private.googleapis.com. 60 A 199.36.153.8\n*.googleapis.com. 60 CNAME private.googleapis.com.",
            ),
        ],
    ));
    let check = |question, expected| check(&snapshot, "p/n", question, expected);
    check("a.sub.example.com", "NXDOMAIN DNS_NXDOMAIN; SOA sub.example.com. 300");
    check("b.sub.example.com", "NOERROR; b.sub.example.com. A 10.0.0.2");
    check("badsub.example.com", "NOERROR; badsub.example.com. A 10.0.0.3");
    check(
        "storage.googleapis.com",
        "NOERROR; storage.googleapis.com. CNAME private.googleapis.com.; private.googleapis.com. A 199.36.153.8",
    );
    let resolution = resolve(&snapshot, "p/n", "b.sub.example.com", "A");
    let candidates = &resolution.lookups[0].hops[0].candidates;
    let names: Vec<_> = candidates.iter().map(|zone| zone.dns_name.as_str()).collect();
    assert_eq!(names, ["sub.example.com.", "example.com."]);
}

#[test]
fn one_name_is_another_thing_in_another_network() {
    let snapshot = compile(&slice(
        "p/n",
        vec![
            private(
                "consumer",
                "internal.example.com.",
                &["p/n"],
                "internal.example.com. 60 A 10.0.0.5",
            ),
            private(
                "producer",
                "internal.example.com.",
                &["q/n"],
                "internal.example.com. 60 A 10.0.0.6",
            ),
            private(
                "both",
                "shared.example.com.",
                &["p/n", "q/n"],
                "a.shared.example.com. 60 A 10.0.0.7",
            ),
        ],
    ));
    check(&snapshot, "p/n", "internal.example.com", "NOERROR; internal.example.com. A 10.0.0.5");
    check(&snapshot, "q/n", "internal.example.com", "NOERROR; internal.example.com. A 10.0.0.6");
    check(&snapshot, "p/n", "a.shared.example.com", "NOERROR; a.shared.example.com. A 10.0.0.7");
    check(&snapshot, "q/n", "a.shared.example.com", "NOERROR; a.shared.example.com. A 10.0.0.7");
}

#[test]
fn a_missing_name_tells_the_near_names_and_who_sees_it() {
    let snapshot = compile(&slice(
        "p/n",
        vec![
            private("mine", "example.com.", &["p/n"], "orders.example.com. 60 A 10.0.0.5"),
            private("theirs", "ordres.example.com.", &["q/n"], ""),
        ],
    ));
    let resolution = resolve(&snapshot, "p/n", "ordres.example.com", "A");
    let lookup = &resolution.lookups[0];
    assert_eq!(lookup.found, Match::Nothing { closest_encloser: "example.com.".to_owned() });
    assert_eq!(lookup.similar, ["orders.example.com."]);
    assert_eq!(lookup.elsewhere[0].dns_name, "ordres.example.com.");
    assert_eq!(lookup.elsewhere[0].networks, [network("q/n")]);
}

#[test]
fn a_type_that_a_name_lacks_is_no_data_with_soa() {
    let snapshot = compile(&slice(
        "p/n",
        vec![private(
            "z",
            "example.com.",
            &["p/n"],
            "a.example.com. 60 A 10.0.0.1\na.example.com. 60 TXT \"x\"\ndeep.b.example.com. 60 A 10.0.0.2",
        )],
    ));
    let check = |question, expected| check(&snapshot, "p/n", question, expected);
    check("a.example.com AAAA", "NOERROR DNS_NODATA; SOA example.com. 300");
    check("a.example.com TYPE65280", "NOERROR DNS_NODATA; SOA example.com. 300");
    check("b.example.com A", "NOERROR DNS_NODATA; SOA example.com. 300");
    check("b.example.com ANY", "NOERROR DNS_NODATA; SOA example.com. 300");
    check("x.b.example.com A", "NXDOMAIN DNS_NXDOMAIN; SOA example.com. 300");
    check("A.EXAMPLE.COM ANY", "NOERROR; a.example.com. A 10.0.0.1; a.example.com. TXT \"x\"");
    check("example.com A", "NOERROR DNS_NODATA; SOA example.com. 300");
    check("example.com NS", "NOERROR; example.com. NS ns-gcp-private.googledomains.com.");
    check(
        "example.com SOA",
        "NOERROR; example.com. SOA ns-gcp-private.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300",
    );
}

#[test]
fn the_zones_own_soa_gives_the_negative_ttl() {
    let snapshot = compile(&slice(
        "p/n",
        vec![
            private(
                "z",
                "a.",
                &["p/n"],
                "a. 21600 SOA ns.a. h.a. 7 1 2 3 900\na. 60 NS ns.a. | ns2.a.",
            ),
            private("y", "b.", &["p/n"], "b. 30 SOA ns.b. h.b. 7 1 2 3 900"),
        ],
    ));
    check(&snapshot, "p/n", "x.a", "NXDOMAIN DNS_NXDOMAIN; SOA a. 900");
    check(&snapshot, "p/n", "x.b", "NXDOMAIN DNS_NXDOMAIN; SOA b. 30");
    check(&snapshot, "p/n", "a NS", "NOERROR; a. NS ns.a.; a. NS ns2.a.");
}

/// The zone of RFC 4592, section 2.2.1.
#[test]
fn wildcards_are_those_of_rfc_4592() {
    let snapshot = compile(&slice(
        "p/n",
        vec![private(
            "z",
            "example.",
            &["p/n"],
            r#"
            *.example. 3600 TXT "this is a wildcard"
            *.example. 3600 MX 10 host1.example.
            sub.*.example. 3600 TXT "this is not a wildcard"
            host1.example. 3600 A 192.0.2.1
            _ssh._tcp.host1.example. 3600 SRV 0 0 22 host1.example.
            _ssh._tcp.host2.example. 3600 SRV 0 0 22 host1.example."#,
        )],
    ));
    let check = |question, expected| check(&snapshot, "p/n", question, expected);
    check("host3.example MX", "NOERROR; host3.example. MX 10 host1.example.");
    check("host3.example A", "NOERROR DNS_NODATA; SOA example. 300");
    check("foo.bar.example TXT", "NOERROR; foo.bar.example. TXT \"this is a wildcard\"");
    check("host1.example MX", "NOERROR DNS_NODATA; SOA example. 300");
    check("sub.*.example MX", "NOERROR DNS_NODATA; SOA example. 300");
    check("_telnet._tcp.host1.example SRV", "NXDOMAIN DNS_NXDOMAIN; SOA example. 300");
    check("host2.example MX", "NOERROR DNS_NODATA; SOA example. 300");
    check("ghost.*.example MX", "NXDOMAIN DNS_NXDOMAIN; SOA example. 300");
    check("*.example TXT", "NOERROR; *.example. TXT \"this is a wildcard\"");
    let resolution = resolve(&snapshot, "p/n", "host3.example", "MX");
    assert!(
        matches!(&resolution.lookups[0].found, Match::Wildcard { wildcard, .. } if wildcard == "*.example.")
    );
}

#[test]
fn a_wildcard_that_is_an_empty_non_terminal_stands_in_without_data() {
    let snapshot =
        compile(&slice("p/n", vec![private("z", "x.", &["p/n"], "sub.*.x. 60 A 10.0.0.1")]));
    check(&snapshot, "p/n", "a.x", "NOERROR DNS_NODATA; SOA x. 300");
}

#[test]
fn a_cname_is_followed_through_the_full_order() {
    let snapshot = compile(&slice(
        "p/a",
        vec![
            private(
                "z",
                "z.",
                &["p/a"],
                "\
                in.z. 60 CNAME t.z.\nt.z. 30 A 10.0.0.1\n\
                across.z. 60 CNAME www.y.\n\
                peer.z. 60 CNAME www.p.\n\
                run.z. 60 CNAME Svc-1.A.run.app.\n\
                dangling.z. 60 CNAME nothing.z.\n\
                nodata.z. 60 CNAME txt.z.\ntxt.z. 60 TXT \"x\"\n\
                out.z. 60 CNAME www.example.org.\n\
                *.w.z. 60 CNAME t.z.",
            ),
            private("y", "y.", &["p/a"], "www.y. 60 A 10.0.0.2"),
            peering("p", "p.", &["p/a"], "p/b"),
            private("pb", "p.", &["p/b"], "www.p. 60 CNAME www.y."),
            private("yb", "y.", &["p/b"], "www.y. 60 A 10.0.0.3"),
        ],
    ));
    let check = |question, expected| check(&snapshot, "p/a", question, expected);
    check("in.z", "NOERROR; in.z. CNAME t.z.; t.z. A 10.0.0.1");
    check("in.z CNAME", "NOERROR; in.z. CNAME t.z.");
    check("in.z ANY", "NOERROR; in.z. CNAME t.z.");
    check("across.z", "NOERROR; across.z. CNAME www.y.; www.y. A 10.0.0.2");
    // The record was found as vpc b, so its target is looked up as vpc b.
    check("peer.z", "NOERROR; peer.z. CNAME www.p.; www.p. CNAME www.y.; www.y. A 10.0.0.3");
    check("run.z", "NOERROR; run.z. CNAME Svc-1.A.run.app.; svc-1.a.run.app. A 216.239.32.53");
    check("dangling.z", "NXDOMAIN DNS_NXDOMAIN; dangling.z. CNAME nothing.z.; SOA z. 300");
    check("nodata.z", "NOERROR DNS_NODATA; nodata.z. CNAME txt.z.; SOA z. 300");
    check("out.z", "NXDOMAIN DNS_NAME_NOT_FOUND; out.z. CNAME www.example.org.; SOA . 86400");
    check("any.w.z", "NOERROR; any.w.z. CNAME t.z.; t.z. A 10.0.0.1");
}

#[test]
fn sixteen_cnames_are_followed_and_a_circle_fails() {
    let mut lines = String::from(
        "c16.z. 60 A 10.0.0.1\nd17.z. 60 A 10.0.0.1\nl0.z. 60 CNAME l1.z.\nl1.z. 60 CNAME l0.z.\n",
    );
    for (letter, length) in [('c', 16), ('d', 17)] {
        for i in 0..length {
            lines += &format!("{letter}{i}.z. 60 CNAME {letter}{}.z.\n", i + 1);
        }
    }
    let snapshot = compile(&slice("p/n", vec![private("z", "z.", &["p/n"], &lines)]));
    assert_eq!(resolve(&snapshot, "p/n", "c0.z", "A").records.len(), 17);
    check(&snapshot, "p/n", "d0.z", "SERVFAIL DNS_CNAME_CHAIN");
    check(
        &snapshot,
        "p/n",
        "d1.z AAAA",
        "NOERROR DNS_NODATA; d1.z. CNAME d2.z.; d2.z. CNAME d3.z.; d3.z. CNAME d4.z.; d4.z. CNAME d5.z.; d5.z. CNAME d6.z.; d6.z. CNAME d7.z.; d7.z. CNAME d8.z.; d8.z. CNAME d9.z.; d9.z. CNAME d10.z.; d10.z. CNAME d11.z.; d11.z. CNAME d12.z.; d12.z. CNAME d13.z.; d13.z. CNAME d14.z.; d14.z. CNAME d15.z.; d15.z. CNAME d16.z.; d16.z. CNAME d17.z.; SOA z. 300",
    );
    check(&snapshot, "p/n", "l0.z", "SERVFAIL DNS_CNAME_CHAIN");
}

#[test]
fn internal_names_are_seen_in_their_own_network_only() {
    let snapshot = documented();
    check(
        &snapshot,
        "p/vpc-a",
        "vm.europe-west1-b.c.p.internal",
        "NOERROR; vm.europe-west1-b.c.p.internal. A 10.1.0.9",
    );
    check(
        &snapshot,
        "p/vpc-b",
        "vm.europe-west1-b.c.p.internal",
        "NOERROR; vm.europe-west1-b.c.p.internal. A 10.2.0.9",
    );
    check(
        &snapshot,
        "p/vpc-a",
        "9.0.1.10.in-addr.arpa PTR",
        "NOERROR; 9.0.1.10.in-addr.arpa. PTR vm.europe-west1-b.c.p.internal.",
    );
    check(
        &snapshot,
        "p/vpc-a",
        "9.0.2.10.in-addr.arpa PTR",
        "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400",
    );
    check(
        &snapshot,
        "p/vpc-a",
        "vm.europe-west1-c.c.p.internal",
        "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400",
    );
    check(
        &snapshot,
        "p/vpc-a",
        "metadata.google.internal",
        "NOERROR; metadata.google.internal. A 169.254.169.254",
    );
    check(
        &snapshot,
        "p/vpc-a",
        "metadata.google.internal AAAA",
        "NOERROR DNS_NODATA; SOA internal. 60",
    );
}

#[test]
fn the_public_dns_has_googles_front_ends_and_nothing_else() {
    let snapshot = compile(&slice("p/n", Vec::new()));
    let check = |question, expected| check(&snapshot, "p/n", question, expected);
    check("orders-abc-ew.a.run.app", "NOERROR; orders-abc-ew.a.run.app. A 216.239.32.53");
    check(
        "orders-123.europe-west1.run.app",
        "NOERROR; orders-123.europe-west1.run.app. A 216.239.32.53",
    );
    check(
        "iamcredentials.googleapis.com",
        "NOERROR; iamcredentials.googleapis.com. A 216.239.32.53",
    );
    check("private.googleapis.com", "NOERROR; private.googleapis.com. A 199.36.153.8");
    check("restricted.googleapis.com", "NOERROR; restricted.googleapis.com. A 199.36.153.4");
    check("example.com", "NXDOMAIN DNS_NAME_NOT_FOUND; SOA . 86400");
    check(
        ". SOA",
        "NOERROR; . SOA a.root-servers.net. nstld.verisign-grs.com. 2026040800 1800 900 604800 86400",
    );
    check(". A", "NOERROR DNS_NODATA; SOA . 86400");
}

#[test]
fn a_private_zone_may_be_the_root() {
    let snapshot = compile(&slice("p/n", vec![private("root", ".", &["p/n"], "*. 60 A 10.0.0.1")]));
    check(&snapshot, "p/n", "anything.at.all", "NOERROR; anything.at.all. A 10.0.0.1");
    check(
        &snapshot,
        "p/n",
        "metadata.google.internal",
        "NOERROR; metadata.google.internal. A 10.0.0.1",
    );
    check(&snapshot, "p/n", "a.b TXT", "NOERROR DNS_NODATA; SOA . 300");
}

#[test]
fn the_story_for_people_names_zones_reason_and_fix() {
    let text = resolve(&documented(), "p/vpc-a", "no.peer.com", "A").to_string();
    for part in [
        "as p/vpc-a: peering zone projects/p/managedZones/peer (`peer.com.`) to p/vpc-b",
        "as p/vpc-b: private zone projects/p/managedZones/b (`peer.com.`)",
        "does not exist; the closest name is `peer.com.`",
        "NXDOMAIN: DNS_NXDOMAIN",
        "fix: Add the record set to the zone named above.",
    ] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

//! Routing policies: weights, regions, failover, health (the fields of `RRSetRoutingPolicy`).
#![allow(missing_docs)]

mod common;

use common::{routed, slice, target};
use managed_zone::{Circumstances, FairWeather, Name, RecordType, Resolution, Snapshot};
use slice::dns::{GeoItem, GeoPolicy, HealthCheckedTarget, PrimaryBackup, RoutingPolicy, WrrItem};
use std::collections::HashMap;

struct Now<'a> {
    region: &'a str,
    chance: f64,
    /// Positions of targets that are not healthy.
    ill: &'a [usize],
}

impl Circumstances for Now<'_> {
    fn region(&self) -> Option<&str> {
        Some(self.region)
    }

    fn chance(&self) -> f64 {
        self.chance
    }

    fn is_healthy(&self, target: usize) -> bool {
        !self.ill.contains(&target)
    }
}

fn compile(record_type: &str, policy: RoutingPolicy) -> Snapshot {
    let slice = slice("p/n", vec![routed(record_type, policy)]);
    Snapshot::compile(&slice).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn resolve(snapshot: &Snapshot, record_type: RecordType, now: &dyn Circumstances) -> Resolution {
    let name = Name::parse("r.x.").unwrap_or_else(|error| panic!("{error}"));
    snapshot.own_view().resolve(&name, record_type, now)
}

/// The data that a client is answered.
fn picked(snapshot: &Snapshot, region: &str, chance: f64, ill: &[usize]) -> String {
    let resolution = resolve(snapshot, RecordType::A, &Now { region, chance, ill });
    let data: Vec<_> = resolution.records.iter().map(|record| record.data.as_str()).collect();
    data.join(" ")
}

fn wrr(items: &[(f64, &[&str], &[&str])]) -> RoutingPolicy {
    let item = |(weight, rrdatas, targets): &(f64, &[&str], &[&str])| WrrItem {
        weight: *weight,
        rrdatas: rrdatas.iter().map(|text| (*text).to_owned()).collect(),
        health_checked_targets: targets.iter().map(|text| target(text)).collect(),
    };
    RoutingPolicy::Wrr(items.iter().map(item).collect())
}

fn geo(items: &[(&str, &[&str], &[&str])], enable_fencing: bool) -> GeoPolicy {
    let item = |(location, rrdatas, targets): &(&str, &[&str], &[&str])| GeoItem {
        location: (*location).to_owned(),
        rrdatas: rrdatas.iter().map(|text| (*text).to_owned()).collect(),
        health_checked_targets: targets.iter().map(|text| target(text)).collect(),
    };
    GeoPolicy { items: items.iter().map(item).collect(), enable_fencing }
}

#[test]
fn weights_are_shares_of_the_chance() {
    let policy = wrr(&[
        (1.0, &["10.0.0.1"], &[]),
        (0.0, &["10.0.0.2"], &[]),
        (3.0, &["10.0.0.3", "10.0.0.4"], &[]),
    ]);
    let snapshot = compile("A", policy);
    let check = |chance, expected| assert_eq!(picked(&snapshot, "", chance, &[]), expected);
    check(0.0, "10.0.0.1");
    check(0.249, "10.0.0.1");
    check(0.25, "10.0.0.3 10.0.0.4");
    check(0.999_999_999, "10.0.0.3 10.0.0.4");
    let zero = compile("A", wrr(&[(0.0, &["10.0.0.1"], &[]), (0.0, &["10.0.0.2"], &[])]));
    assert_eq!(picked(&zero, "", 0.6, &[]), "10.0.0.2");
}

#[test]
fn ill_targets_are_left_out_and_an_ill_item_gives_its_share_away() {
    let policy = wrr(&[
        (1.0, &[], &["10.0.0.1", "10.0.0.2"]),
        (1.0, &[], &["10.0.0.3"]),
        (2.0, &["10.0.0.4"], &[]),
    ]);
    let snapshot = compile("A", policy);
    let targets: Vec<_> = snapshot
        .health_checked_targets()
        .iter()
        .map(|HealthCheckedTarget { address, .. }| address.to_string())
        .collect();
    assert_eq!(targets, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let check = |chance, ill: &[usize], expected| {
        assert_eq!(picked(&snapshot, "", chance, ill), expected, "{chance} {ill:?}");
    };
    check(0.0, &[], "10.0.0.1 10.0.0.2");
    check(0.0, &[0], "10.0.0.2");
    check(0.0, &[0, 1], "10.0.0.3");
    // One of three parts is left to the second item, two to the third.
    check(0.3, &[0, 1], "10.0.0.3");
    check(0.4, &[0, 1], "10.0.0.4");
    check(0.0, &[0, 1, 2], "10.0.0.4");
}

#[test]
fn where_all_is_ill_all_counts_as_healthy() {
    let snapshot = compile("A", wrr(&[(1.0, &[], &["10.0.0.1"]), (1.0, &[], &["10.0.0.2"])]));
    assert_eq!(picked(&snapshot, "", 0.0, &[0, 1]), "10.0.0.1");
    assert_eq!(picked(&snapshot, "", 0.5, &[0, 1]), "10.0.0.2");
    let policy =
        geo(&[("europe-west1", &[], &["10.0.0.1"]), ("us-east1", &[], &["10.0.0.2"])], false);
    let snapshot = compile("A", RoutingPolicy::Geo(policy));
    assert_eq!(picked(&snapshot, "us-east4", 0.0, &[0, 1]), "10.0.0.2");
}

#[test]
fn a_client_gets_its_own_regions_item_or_the_nearest() {
    let items: &[(&str, &[&str], &[&str])] = &[
        ("us-east1", &["10.0.0.1"], &[]),
        ("europe-west1", &[], &["10.0.0.2", "10.0.0.3"]),
        ("asia-east1", &["10.0.0.4"], &[]),
    ];
    for (fenced, failed_over) in [(false, "10.0.0.1"), (true, "10.0.0.2 10.0.0.3")] {
        let snapshot = compile("A", RoutingPolicy::Geo(geo(items, fenced)));
        let check = |region, ill: &[usize], expected| {
            assert_eq!(picked(&snapshot, region, 0.0, ill), expected, "{region} {ill:?}");
        };
        check("europe-west1", &[], "10.0.0.2 10.0.0.3");
        check("europe-west9", &[], "10.0.0.2 10.0.0.3");
        check("us-central1", &[], "10.0.0.1");
        check("asia-northeast1", &[], "10.0.0.4");
        check("europe-west1", &[0], "10.0.0.3");
        // Fencing keeps the client in its region, the ill targets included.
        check("europe-west1", &[0, 1], failed_over);
        // A region that nobody knows gets the first item.
        check("moon-north1", &[], "10.0.0.1");
    }
}

#[test]
fn the_backup_serves_where_no_primary_does_and_for_the_trickle() {
    let policy = RoutingPolicy::PrimaryBackup(PrimaryBackup {
        primary: vec![target("10.0.0.1"), target("10.0.0.2")],
        backup: geo(
            &[("us-east1", &["10.1.0.1"], &[]), ("europe-west1", &[], &["10.1.0.2"])],
            false,
        ),
        trickle_traffic: 0.1,
    });
    let snapshot = compile("A", policy);
    let check = |chance, ill: &[usize], expected| {
        assert_eq!(picked(&snapshot, "europe-west1", chance, ill), expected, "{chance} {ill:?}");
    };
    check(0.5, &[], "10.0.0.1 10.0.0.2");
    check(0.5, &[1], "10.0.0.1");
    check(0.5, &[0, 1], "10.1.0.2");
    check(0.5, &[0, 1, 2], "10.1.0.1");
    check(0.099, &[], "10.1.0.2");
    check(0.1, &[], "10.0.0.1 10.0.0.2");
}

#[test]
fn a_picked_cname_is_followed() {
    let snapshot = compile("CNAME", wrr(&[(1.0, &["t.x."], &[]), (1.0, &["no.x."], &[])]));
    let outcome = |chance| {
        let now = Now { region: "", chance, ill: &[] };
        let resolution = resolve(&snapshot, RecordType::A, &now);
        let data: Vec<_> = resolution.records.iter().map(|record| record.data.clone()).collect();
        (resolution.response_code.name(), data)
    };
    assert_eq!(outcome(0.0), ("NOERROR", vec!["t.x.".to_owned(), "10.0.9.9".to_owned()]));
    assert_eq!(outcome(0.9), ("NXDOMAIN", vec!["no.x.".to_owned()]));
}

#[test]
fn any_gets_what_is_picked_and_other_types_nothing() {
    let snapshot = compile("TXT", wrr(&[(1.0, &["\"a\""], &[]), (1.0, &["\"b\""], &[])]));
    let any = resolve(&snapshot, RecordType::ANY, &Now { region: "", chance: 0.7, ill: &[] });
    assert_eq!(any.records.len(), 1);
    assert_eq!((any.records[0].data.as_str(), any.records[0].ttl), ("\"b\"", 5));
    let none = resolve(&snapshot, RecordType::A, &FairWeather::default());
    assert!(none.records.is_empty() && none.response_code.name() == "NOERROR");
}

#[test]
fn the_story_tells_all_items_and_the_one_that_was_taken() {
    let policy =
        geo(&[("us-east1", &["10.0.0.1"], &[]), ("europe-west1", &["10.0.0.2"], &[])], false);
    let snapshot = compile("A", RoutingPolicy::Geo(policy));
    let now = FairWeather { region: Some("europe-west4") };
    let text = resolve(&snapshot, RecordType::A, &now).to_string();
    for part in [
        "routing policy has us-east1: 10.0.0.1",
        "routing policy takes europe-west1: 10.0.0.2 (the client's region, or the nearest one)",
    ] {
        assert!(text.contains(part), "`{part}` is missing in\n{text}");
    }
}

#[test]
fn what_usually_happens_is_told_where_nobody_draws() {
    let data = |policy| {
        let resolution = resolve(&compile("A", policy), RecordType::A, &FairWeather::default());
        resolution.records[0].data.clone()
    };
    let weights =
        wrr(&[(1.0, &["10.0.0.1"], &[]), (3.0, &["10.0.0.2"], &[]), (2.0, &["10.0.0.3"], &[])]);
    assert_eq!(data(weights), "10.0.0.2");
    for (trickle_traffic, expected) in [(0.1, "10.0.0.1"), (0.9, "10.0.0.2")] {
        let backup = geo(&[("us-east1", &["10.0.0.2"], &[])], false);
        let policy = PrimaryBackup { primary: vec![target("10.0.0.1")], backup, trickle_traffic };
        assert_eq!(data(RoutingPolicy::PrimaryBackup(policy)), expected);
    }
}

#[test]
fn in_the_long_run_items_get_their_weight() {
    let snapshot = compile(
        "A",
        wrr(&[(1.0, &["10.0.0.1"], &[]), (2.0, &["10.0.0.2"], &[]), (5.0, &["10.0.0.3"], &[])]),
    );
    let mut counts: HashMap<String, u32> = HashMap::new();
    for part in 0..800 {
        *counts.entry(picked(&snapshot, "", f64::from(part) / 800.0, &[])).or_default() += 1;
    }
    let count = |address: &str| counts.get(address).copied();
    let expected = [Some(100), Some(200), Some(500)];
    assert_eq!(["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(count), expected);
}

#[test]
fn impossible_policies_are_refused() {
    let check = |record_type: &str, policy: RoutingPolicy, expected: &str| {
        let slice = slice("p/n", vec![routed(record_type, policy)]);
        let errors = Snapshot::compile(&slice).err().unwrap_or_default();
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert!(texts.len() == 1 && texts[0].contains(expected), "{expected}: {texts:?}");
    };
    check("NS", wrr(&[(1.0, &["ns.x."], &[])]), "NS records have no routing policy");
    check("A", wrr(&[]), "the routing policy has no items");
    check("A", wrr(&[(1.0, &[], &[])]), "an item without rrdatas and targets");
    check("A", wrr(&[(-1.0, &["10.0.0.1"], &[])]), "the weight -1 is not a number");
    check("A", wrr(&[(f64::NAN, &["10.0.0.1"], &[])]), "the weight NaN is not a number");
    check("A", wrr(&[(1.0, &["10.0.0"], &[])]), "is not an IPv4 address");
    check("A", wrr(&[(1.0, &["10.0.0.1"], &["10.0.0.1"])]), "the value stands twice");
    check("TXT", wrr(&[(1.0, &[], &["10.0.0.1"])]), "which A records have only");
    check("CNAME", wrr(&[(1.0, &["a.x.", "b.x."], &[])]), "one CNAME record only");
    let twice = geo(&[("us-east1", &["10.0.0.1"], &[]), ("us-east1", &["10.0.0.2"], &[])], true);
    check("A", RoutingPolicy::Geo(twice), "two items of the routing policy are for the location");
    let policy = PrimaryBackup {
        primary: vec![target("10.0.0.1")],
        backup: geo(&[("us-east1", &["10.0.0.2"], &[])], false),
        trickle_traffic: 1.5,
    };
    check("A", RoutingPolicy::PrimaryBackup(policy), "the trickleTraffic 1.5 is not a number");
}

//! The compiled zones against a naive resolver, written from the fact sheet (private-connectivity
//! 4.1, 4.2) over plain texts, on generated networks: wildcards, empty non-terminals, CNAME
//! records, sub-zones, peering.
#![allow(missing_docs)]

mod common;

use common::{network, private, slice};
use managed_zone::{FairWeather, Name, RecordType, ResponseCode, Snapshot};
use proptest::prelude::*;
use slice::dns::{ManagedZone, ZoneKind};

const NETWORKS: [&str; 4] = ["p/a", "p/b", "p/c", "p/d"];
const APEXES: [&str; 5] = ["x.", "s.x.", "t.s.x.", "y.", "."];

#[derive(Debug, PartialEq)]
enum Outcome {
    Records(Vec<(String, String)>),
    NoData(Vec<String>),
    NxDomain(Vec<String>),
    ServFail,
}

/// The naive model: every rule is a sentence of the fact sheet, every step a search through all.
fn model(zones: &[ManagedZone], from: &str, name: &str, record_type: &str) -> Outcome {
    let (mut network, mut hops, mut chain) = (network(from), 0, Vec::new());
    let mut name = name.to_owned();
    let mut records = Vec::new();
    loop {
        // Longest suffix among the zones that the network sees.
        let visible = zones.iter().filter(|zone| zone.networks.contains(&network));
        let chosen = visible
            .filter(|zone| within(&name, &zone.dns_name))
            .max_by_key(|zone| labels(&zone.dns_name).len());
        let Some(zone) = chosen else {
            // The public DNS has none of the generated names, but the root exists.
            return if name == "." { Outcome::NoData(chain) } else { Outcome::NxDomain(chain) };
        };
        let held = match &zone.kind {
            ZoneKind::Peering(_) if hops == 2 => return Outcome::ServFail,
            ZoneKind::Peering(target) => {
                hops += 1;
                network = target.clone();
                continue;
            }
            ZoneKind::Private(held) => held,
            other => panic!("not generated: {other:?}"),
        };
        let owner = if exists(held, zone, &name) {
            name.clone()
        } else {
            let encloser =
                ancestors(&name).into_iter().find(|ancestor| exists(held, zone, ancestor));
            let wildcard = format!("*.{}", encloser.unwrap_or_default()).replace("*..", "*.");
            if !exists(held, zone, &wildcard) {
                return Outcome::NxDomain(chain);
            }
            wildcard
        };
        let of_type =
            |wanted: &str| held.iter().find(|set| set.name == owner && set.record_type == wanted);
        if let Some(set) = of_type(record_type) {
            records.extend(set.rrdatas.iter().map(|data| (name.clone(), data.clone())));
            return Outcome::Records(records);
        }
        match of_type("CNAME") {
            None => return Outcome::NoData(chain),
            Some(_) if chain.len() == 16 => return Outcome::ServFail,
            Some(set) => {
                records.push((name.clone(), set.rrdatas[0].clone()));
                chain.push(set.rrdatas[0].clone());
                name = set.rrdatas[0].clone();
            }
        }
    }
}

fn labels(name: &str) -> Vec<&str> {
    name.split('.').filter(|label| !label.is_empty()).collect()
}

fn within(name: &str, zone: &str) -> bool {
    labels(name).ends_with(&labels(zone))
}

/// All proper suffixes, the longest first, the root last.
fn ancestors(name: &str) -> Vec<String> {
    let labels = labels(name);
    (1..=labels.len()).map(|skipped| labels[skipped..].join(".") + ".").collect()
}

/// A name exists where it or a name below it has records; the apex always.
fn exists(held: &[slice::dns::ResourceRecordSet], zone: &ManagedZone, name: &str) -> bool {
    within(name, &zone.dns_name)
        && (labels(name) == labels(&zone.dns_name)
            || held.iter().any(|set| within(&set.name, name)))
}

fn name() -> impl Strategy<Value = String> {
    let label =
        prop_oneof![4 => Just("a"), 3 => Just("b"), 2 => Just("*"), 1 => Just("s"), 1 => Just("t")];
    (proptest::collection::vec(label, 0..4), 0..APEXES.len()).prop_map(|(labels, apex)| {
        let name: String = labels.iter().map(|label| format!("{label}.")).collect();
        (name + APEXES[apex]).replace("..", ".")
    })
}

fn records() -> impl Strategy<Value = Vec<(String, bool, String)>> {
    proptest::collection::vec((name(), prop::bool::weighted(0.4), name()), 0..12)
}

fn zones() -> impl Strategy<Value = Vec<ManagedZone>> {
    let zone = (0..APEXES.len(), 1..16_u8, prop::bool::weighted(0.35), 0..4_usize, records());
    proptest::collection::vec(zone, 0..9).prop_map(|drawn| {
        let mut zones: Vec<ManagedZone> = Vec::new();
        for (position, (apex, networks, peers, target, records)) in drawn.into_iter().enumerate() {
            let apex = APEXES[apex];
            // One network sees one zone of a name.
            let taken = |of: &str| {
                zones
                    .iter()
                    .any(|zone| zone.dns_name == apex && zone.networks.contains(&network(of)))
            };
            let networks: Vec<&str> = NETWORKS
                .iter()
                .enumerate()
                .filter(|(bit, of)| networks >> bit & 1 == 1 && !taken(of))
                .map(|(_, of)| *of)
                .collect();
            let link = format!("z{position}");
            zones.push(if peers {
                common::peering(&link, apex, &networks, NETWORKS[target])
            } else {
                let mut lines = String::new();
                let mut used: Vec<String> = Vec::new();
                for (number, (name, cname, to)) in records.into_iter().enumerate() {
                    let at_apex = labels(&name) == labels(apex);
                    if !within(&name, apex) || used.contains(&name) || (cname && at_apex) {
                        continue;
                    }
                    lines += &match cname {
                        true => format!("{name} 60 CNAME {to}\n"),
                        false => format!(
                            "{name} 60 A 10.{position}.0.{number} | 10.{position}.1.{number}\n"
                        ),
                    };
                    used.push(name);
                }
                private(&link, apex, &networks, &lines)
            });
        }
        zones
    })
}

/// What the crate under test says, in the model's words.
fn ours(snapshot: &Snapshot, from: &str, name: &str, record_type: RecordType) -> Outcome {
    let view = snapshot.view(&network(from)).unwrap_or_else(|| panic!("no network"));
    let name = Name::parse(name).unwrap_or_else(|error| panic!("{error}"));
    let resolution = view.resolve(&name, record_type, &FairWeather::default());
    let records: Vec<_> =
        resolution.records.iter().map(|r| (r.name.clone(), r.data.clone())).collect();
    let chain = || records.iter().map(|(_, data)| data.clone()).collect();
    match (resolution.response_code, resolution.reason) {
        (ResponseCode::NoError, None) => Outcome::Records(records),
        (ResponseCode::NoError, Some(_)) => Outcome::NoData(chain()),
        (ResponseCode::NxDomain, _) => Outcome::NxDomain(chain()),
        _ => Outcome::ServFail,
    }
}

fn compile(zones: Vec<ManagedZone>) -> Snapshot {
    let mut slice = slice("p/a", zones);
    // Every network is known, so that each can ask.
    slice.views = NETWORKS
        .iter()
        .enumerate()
        .map(|(n, of)| slice::dns::DnsView {
            clients: ipnet::Ipv4Net::new_assert([10, n as u8, 0, 0].into(), 16),
            network: network(of),
        })
        .collect();
    Snapshot::compile(&slice).unwrap_or_else(|errors| panic!("{errors:?}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_compiled_zones_agree_with_the_fact_sheet(
        zones in zones(),
        questions in proptest::collection::vec((0..4_usize, name(), any::<bool>()), 1..24),
    ) {
        let snapshot = compile(zones.clone());
        for (from, name, address) in questions {
            let (from, text) = (NETWORKS[from], if address { "A" } else { "TXT" });
            let record_type = if address { RecordType::A } else { RecordType::TXT };
            prop_assert_eq!(
                ours(&snapshot, from, &name, record_type),
                model(&zones, from, &name, text),
                "{} {} {}", from, name, text
            );
        }
    }

    #[test]
    fn a_network_is_never_answered_from_zones_that_it_neither_sees_nor_peers_to(
        zones in zones(),
        from in 0..4_usize,
        names in proptest::collection::vec(name(), 1..16),
    ) {
        let from = NETWORKS[from];
        // Everything that peering can lead to, however long the way.
        let mut reached = vec![network(from)];
        while let Some(next) = zones.iter().find_map(|zone| match &zone.kind {
            ZoneKind::Peering(to)
                if !reached.contains(to) && zone.networks.iter().any(|of| reached.contains(of)) =>
                    Some(to.clone()),
            _ => None,
        }) {
            reached.push(next);
        }
        let mut without = zones.clone();
        without.retain(|zone| zone.networks.iter().any(|of| reached.contains(of)));
        let (all, without) = (compile(zones), compile(without));
        for name in names {
            prop_assert_eq!(
                ours(&all, from, &name, RecordType::A),
                ours(&without, from, &name, RecordType::A),
                "{} {}", from, name
            );
        }
    }
}

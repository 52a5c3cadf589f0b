//! The compiled zones against a naive resolver, written from the fact sheet (private-connectivity
//! 4.1, 4.2) over plain texts, on generated networks: outbound server policies, response policies,
//! wildcards, empty non-terminals, CNAME records, sub-zones, forwarding zones, peering.
#![allow(missing_docs)]

mod common;

use common::{forwarding, network, of_kind, outbound, private, response_policy, slice};
use managed_zone::{FairWeather, Name, RecordType, ResponseCode, Snapshot};
use proptest::prelude::*;
use slice::dns::{
    ManagedZone, NameServer, ResponsePolicy, ResponsePolicyRule, RuleAction, ServerPolicy, ZoneKind,
};

const NETWORKS: [&str; 4] = ["p/a", "p/b", "p/c", "p/d"];
const APEXES: [&str; 5] = ["x.", "s.x.", "t.s.x.", "y.", "."];

#[derive(Debug, PartialEq)]
enum Outcome {
    Records(Vec<(String, String)>),
    NoData(Vec<String>),
    NxDomain(Vec<String>),
    ServFail,
    /// Name servers say the rest: as which network they are asked, their addresses, the chain.
    Forward(String, Vec<String>, Vec<String>),
}

/// All that a question depends on.
#[derive(Clone, Debug, Default)]
struct Case {
    zones: Vec<ManagedZone>,
    policies: Vec<ServerPolicy>,
    response_policies: Vec<ResponsePolicy>,
}

fn addresses(servers: &[NameServer]) -> Vec<String> {
    servers.iter().map(|server| server.address.to_string()).collect()
}

/// The naive model: every rule is a sentence of the fact sheet, every step a search through all.
fn model(case: &Case, from: &str, name: &str, record_type: &str) -> Outcome {
    let zones = &case.zones;
    let (mut network, mut hops, mut chain) = (network(from), 0, Vec::new());
    let mut name = name.to_owned();
    let mut records = Vec::new();
    loop {
        // 1. Outbound server policy on the network: nothing below is consulted.
        let outbound = case.policies.iter().find(|policy| policy.networks.contains(&network));
        if let Some(policy) = outbound {
            let servers = addresses(&policy.alternative_name_servers);
            return Outcome::Forward(network.to_string(), servers, chain);
        }
        // 2. Response policy of the network: longest-suffix rule, exact or wildcard.
        let policy = case.response_policies.iter().find(|p| p.networks.contains(&network));
        let rules = policy.into_iter().flat_map(|policy| &policy.rules);
        let rule = rules
            .filter(|rule| match rule.dns_name.strip_prefix("*.") {
                Some(parent) => labels(&name).len() > labels(parent).len() && within(&name, parent),
                None => labels(&name) == labels(&rule.dns_name),
            })
            .max_by_key(|rule| (labels(&rule.dns_name).len(), !rule.dns_name.starts_with("*.")));
        if let Some(ResponsePolicyRule { action: RuleAction::LocalData(held), .. }) = rule {
            let of_type = |wanted: &str| held.iter().find(|set| set.record_type == wanted);
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
                    continue;
                }
            }
        }
        // 3. Longest suffix among the zones that the network sees.
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
            ZoneKind::Forwarding(servers) => {
                return Outcome::Forward(network.to_string(), addresses(servers), chain);
            }
            ZoneKind::Deactivated => return Outcome::ServFail,
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
    // Peering in a third of them; the rest has records, but for a few.
    let kind = prop_oneof![7 => Just('p'), 10 => Just('r'), 2 => Just('f'), 1 => Just('d')];
    let zone = (0..APEXES.len(), 1..16_u8, kind, 0..4_usize, records());
    proptest::collection::vec(zone, 0..9).prop_map(|drawn| {
        let mut zones: Vec<ManagedZone> = Vec::new();
        for (position, (apex, networks, kind, target, records)) in drawn.into_iter().enumerate() {
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
            zones.push(match kind {
                'p' => common::peering(&link, apex, &networks, NETWORKS[target]),
                'f' => forwarding(&link, apex, &networks, &[&format!("10.0.{position}.53")]),
                'd' => of_kind(&link, apex, &networks, ZoneKind::Deactivated),
                _ => {
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
                }
            });
        }
        zones
    })
}

/// Which networks have a policy: none, the first or the second of two.
fn split(drawn: [u8; 4]) -> [Vec<&'static str>; 2] {
    let of = |policy: u8| {
        let chosen = NETWORKS.iter().zip(drawn).filter(|(_, at)| *at == policy);
        chosen.map(|(network, _)| *network).collect()
    };
    [of(1), of(2)]
}

fn cases() -> impl Strategy<Value = Case> {
    // An outbound policy hides everything else, so that few networks have one.
    let outbound_of =
        prop::array::uniform4(prop_oneof![9 => Just(0_u8), 1 => Just(1), 1 => Just(2)]);
    let response_of = prop::array::uniform4(0..3_u8);
    let action = prop_oneof![2 => Just('b'), 3 => Just('a'), 2 => Just('c')];
    let rule = (prop::bool::ANY, name(), action, name());
    let rules = proptest::collection::vec(rule, 0..6);
    (zones(), outbound_of, response_of, prop::array::uniform2(rules)).prop_map(
        |(zones, outbound_of, response_of, rules)| {
            let policies = split(outbound_of)
                .iter()
                .enumerate()
                .map(|(n, of)| outbound(&format!("o{n}"), of, &[&format!("10.9.{n}.53")]))
                .collect();
            let response_policies = split(response_of)
                .iter()
                .zip(rules)
                .enumerate()
                .map(|(n, (of, drawn))| {
                    let mut rules: Vec<(String, String)> = Vec::new();
                    for (number, (wild, name, action, to)) in drawn.into_iter().enumerate() {
                        let selector = match wild {
                            true => format!("*.{name}").replace("..", "."),
                            false => name,
                        };
                        if rules.iter().any(|(other, _)| *other == selector) {
                            continue;
                        }
                        let lines = match action {
                            'a' => format!("{selector} 60 A 10.8.{n}.{number}"),
                            'c' => format!("{selector} 60 CNAME {to}"),
                            _ => String::new(),
                        };
                        rules.push((selector, lines));
                    }
                    let rules: Vec<_> =
                        rules.iter().map(|(name, lines)| (name.as_str(), lines.as_str())).collect();
                    response_policy(&format!("r{n}"), of, &rules)
                })
                .collect();
            Case { zones, policies, response_policies }
        },
    )
}

/// What the crate under test says, in the model's words.
fn ours(snapshot: &Snapshot, from: &str, name: &str, record_type: RecordType) -> Outcome {
    let view = snapshot.view(&network(from)).unwrap_or_else(|| panic!("no network"));
    let name = Name::parse(name).unwrap_or_else(|error| panic!("{error}"));
    let resolution = view.resolve(&name, record_type, &FairWeather::default());
    let records: Vec<_> =
        resolution.records.iter().map(|r| (r.name.clone(), r.data.clone())).collect();
    let chain = || records.iter().map(|(_, data)| data.clone()).collect();
    if let Some((network, servers)) = resolution.name_servers() {
        return Outcome::Forward(network.to_string(), addresses(servers), chain());
    }
    match (resolution.response_code, resolution.reason) {
        (ResponseCode::NoError, None) => Outcome::Records(records),
        (ResponseCode::NoError, Some(_)) => Outcome::NoData(chain()),
        (ResponseCode::NxDomain, _) => Outcome::NxDomain(chain()),
        _ => Outcome::ServFail,
    }
}

fn compile(case: Case) -> Snapshot {
    let mut slice = slice("p/a", case.zones);
    slice.policies = case.policies;
    slice.response_policies = case.response_policies;
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
        case in cases(),
        questions in proptest::collection::vec((0..4_usize, name(), any::<bool>()), 1..24),
    ) {
        let snapshot = compile(case.clone());
        for (from, name, address) in questions {
            let (from, text) = (NETWORKS[from], if address { "A" } else { "TXT" });
            let record_type = if address { RecordType::A } else { RecordType::TXT };
            prop_assert_eq!(
                ours(&snapshot, from, &name, record_type),
                model(&case, from, &name, text),
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
        let of = |zones| Case { zones, ..Case::default() };
        let (all, without) = (compile(of(zones)), compile(of(without)));
        for name in names {
            prop_assert_eq!(
                ours(&all, from, &name, RecordType::A),
                ours(&without, from, &name, RecordType::A),
                "{} {}", from, name
            );
        }
    }
}

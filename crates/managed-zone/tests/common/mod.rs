//! Builders for slices, used by all tests of this crate.
#![allow(dead_code, missing_docs)]

use names::{NetworkId, SelfLink};
use slice::dns::{DnsInstance, ManagedZone, PrivateDnsSlice, ResourceRecordSet, ZoneKind};

pub fn network(text: &str) -> NetworkId {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// From lines such as `a.example. 300 A 10.0.0.1 | 10.0.0.2`.
pub fn record_sets(lines: &str) -> Vec<ResourceRecordSet> {
    let line = |line: &str| {
        let mut fields = line.trim().splitn(4, ' ');
        let mut next = || fields.next().unwrap_or_else(|| panic!("too short: {line}"));
        ResourceRecordSet {
            name: next().to_owned(),
            ttl: next().parse().unwrap_or_else(|_| panic!("no ttl: {line}")),
            record_type: next().to_owned(),
            rrdatas: next().split(" | ").map(str::to_owned).collect(),
            routing_policy: None,
        }
    };
    lines.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
}

pub fn private(name: &str, dns_name: &str, networks: &[&str], lines: &str) -> ManagedZone {
    zone(name, dns_name, networks, ZoneKind::Private(record_sets(lines)))
}

pub fn peering(name: &str, dns_name: &str, networks: &[&str], target: &str) -> ManagedZone {
    zone(name, dns_name, networks, ZoneKind::Peering(network(target)))
}

fn zone(name: &str, dns_name: &str, networks: &[&str], kind: ZoneKind) -> ManagedZone {
    ManagedZone {
        self_link: SelfLink::new(&format!("projects/p/managedZones/{name}")),
        dns_name: dns_name.to_owned(),
        networks: networks.iter().map(|text| network(text)).collect(),
        kind,
    }
}

pub fn instance(of: &str, name: &str, address: &str) -> DnsInstance {
    DnsInstance {
        network: network(of),
        name: name.to_owned(),
        zone: "europe-west1-b".to_owned(),
        project: "p".to_owned(),
        address: address.parse().unwrap_or_else(|_| panic!("no address: {address}")),
    }
}

pub fn slice(of: &str, zones: Vec<ManagedZone>) -> PrivateDnsSlice {
    PrivateDnsSlice {
        network: network(of),
        zones,
        instances: Vec::new(),
        views: Vec::new(),
        policies: Vec::new(),
        response_policies: Vec::new(),
    }
}

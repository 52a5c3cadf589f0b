//! Builders for slices, used by all tests of this crate.
#![allow(dead_code, missing_docs, reason = "shared by tests, each of which uses a part")]

use names::{NetworkId, SelfLink};
use slice::dns::{
    DnsInstance, ForwardingPath, HealthCheckedTarget, ManagedZone, NameServer, PrivateDnsSlice,
    ResourceRecordSet, ResponsePolicy, ResponsePolicyRule, RoutingPolicy, RuleAction, ServerPolicy,
    ZoneKind,
};

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

pub fn forwarding(name: &str, dns_name: &str, networks: &[&str], servers: &[&str]) -> ManagedZone {
    zone(name, dns_name, networks, ZoneKind::Forwarding(name_servers(servers)))
}

pub fn of_kind(name: &str, dns_name: &str, networks: &[&str], kind: ZoneKind) -> ManagedZone {
    zone(name, dns_name, networks, kind)
}

pub fn name_servers(servers: &[&str]) -> Vec<NameServer> {
    let server = |text: &&str| NameServer {
        address: text.parse().unwrap_or_else(|_| panic!("no address: {text}")),
        forwarding_path: ForwardingPath::Default,
    };
    servers.iter().map(server).collect()
}

pub fn outbound(name: &str, networks: &[&str], servers: &[&str]) -> ServerPolicy {
    ServerPolicy {
        self_link: SelfLink::new(&format!("projects/p/policies/{name}")),
        networks: networks.iter().map(|text| network(text)).collect(),
        alternative_name_servers: name_servers(servers),
        inbound: Vec::new(),
        enable_logging: None,
    }
}

/// Rules by `dnsName`: no lines of records bypass.
pub fn response_policy(name: &str, networks: &[&str], rules: &[(&str, &str)]) -> ResponsePolicy {
    let rule = |(position, (dns_name, lines)): (usize, &(&str, &str))| ResponsePolicyRule {
        name: format!("rule-{position}"),
        dns_name: (*dns_name).to_owned(),
        action: match lines.is_empty() {
            true => RuleAction::BypassResponsePolicy,
            false => RuleAction::LocalData(record_sets(lines)),
        },
    };
    ResponsePolicy {
        self_link: SelfLink::new(&format!("projects/p/responsePolicies/{name}")),
        networks: networks.iter().map(|text| network(text)).collect(),
        rules: rules.iter().enumerate().map(rule).collect(),
    }
}

pub fn target(address: &str) -> HealthCheckedTarget {
    HealthCheckedTarget {
        address: address.parse().unwrap_or_else(|_| panic!("no address: {address}")),
        port: 80,
        network: network("p/n"),
        forwarding_rule: SelfLink::new(&format!("projects/p/forwardingRules/{address}")),
    }
}

/// A zone with one record set that has a routing policy.
pub fn routed(record_type: &str, policy: RoutingPolicy) -> ManagedZone {
    let set = ResourceRecordSet {
        name: "r.x.".to_owned(),
        record_type: record_type.to_owned(),
        ttl: 5,
        rrdatas: Vec::new(),
        routing_policy: Some(Box::new(policy)),
    };
    let mut zone = private("x", "x.", &["p/n"], "t.x. 60 A 10.0.9.9");
    if let ZoneKind::Private(sets) = &mut zone.kind {
        sets.push(set);
    }
    zone
}

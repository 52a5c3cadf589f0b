//! The network boundary, as tables.

use ipnet::Ipv4Net;
use names::{NetworkId, Reason, SelfLink};
use slice::load_balancer::{ForwardingRule, TargetProxy};
use slice::psc::{Endpoint, EndpointKind};
use slice::{Instance, Network, Peering, Purpose, Subnetwork, Topology};
use std::net::Ipv4Addr;
use vpc::{Caller, Fabric, Packet, Reach, Target};

fn network(name: &str, ranges: &[(&str, Purpose)], peers: &[(&str, bool)]) -> Network {
    let subnetworks = ranges
        .iter()
        .enumerate()
        .map(|(number, (range, purpose))| Subnetwork {
            self_link: SelfLink::regional(
                "p",
                "europe-west1",
                "subnetworks",
                &format!("{name}-{number}"),
            ),
            region: "europe-west1".to_owned(),
            range: range.parse().expect("a range"),
            purpose: *purpose,
        })
        .collect();
    let peerings = peers
        .iter()
        .map(|(peer, active)| Peering {
            name: (*peer).to_owned(),
            peer: NetworkId::new("p", peer),
            active: *active,
            export_custom_routes: false,
            import_custom_routes: false,
            export_subnet_routes_with_public_ip: true,
            import_subnet_routes_with_public_ip: false,
        })
        .collect();
    let id = NetworkId::new("p", name);
    Network {
        id,
        project_number: 1,
        subnetworks,
        peerings,
        instances: Vec::new(),
        firewalls: Vec::new(),
        routes: Vec::new(),
    }
}

fn rule(network: &str, address: &str, port: u16, global: bool) -> ForwardingRule {
    ForwardingRule {
        self_link: SelfLink::regional(
            "p",
            "europe-west1",
            "forwardingRules",
            &format!("{network}-{port}"),
        ),
        network: match network {
            "internet" => NetworkId::internet(),
            name => NetworkId::new("p", name),
        },
        region: "europe-west1".to_owned(),
        address: address.parse().expect("an address"),
        port,
        allow_global_access: global,
        proxy_address: None,
        northbound: None,
        target: TargetProxy::new(SelfLink::new("t"), SelfLink::new("u")),
    }
}

fn topology() -> Topology {
    let mut a = network("a", &[("10.0.0.0/24", Purpose::Private)], &[("b", true), ("c", false)]);
    a.instances.push(Instance {
        name: "vm".to_owned(),
        project: "p".to_owned(),
        zone: "europe-west1-b".to_owned(),
        region: "europe-west1".to_owned(),
        subnetwork: SelfLink::new("s"),
        address: "10.0.0.9".parse().expect("an address"),
        tags: Vec::new(),
        service_account: None,
        metadata: Default::default(),
        directory: Default::default(),
    });
    let b = network(
        "b",
        &[
            ("10.1.0.0/24", Purpose::Private),
            ("10.1.1.0/26", Purpose::RegionalManagedProxy),
            ("10.1.2.0/28", Purpose::PrivateServiceConnect),
        ],
        &[("a", true)],
    );
    let c = network("c", &[("10.2.0.0/24", Purpose::Private)], &[]);
    let d = network("d", &[("10.0.0.0/24", Purpose::Private)], &[]);
    let endpoint = Endpoint {
        self_link: SelfLink::new("projects/p/regions/europe-west1/forwardingRules/endpoint"),
        kind: EndpointKind::ForwardingRule,
        project: "p".to_owned(),
        project_number: 1,
        network: NetworkId::new("p", "b"),
        region: "europe-west1".to_owned(),
        address: "10.1.0.20".parse().expect("an address"),
        ports: vec![443],
        protocol: Default::default(),
        all_ports: false,
        target: SelfLink::new("sa"),
        producer_network: None,
        psc_connection_id: 1,
        allow_psc_global_access: false,
        producer_allows_global_access: true,
        automatic_dns_name: None,
        ancestry: Vec::new(),
        propagated_from: None,
    };
    let mut topology = Topology { networks: vec![a, b, c, d], ..Topology::default() };
    topology.endpoints.push(endpoint);
    let rules = &mut topology.load_balancing.forwarding_rules;
    rules.extend([rule("b", "10.1.0.5", 443, false), rule("b", "10.1.0.6", 80, true)]);
    rules.push(rule("d", "10.0.0.5", 443, false));
    rules.push(rule("internet", "203.0.113.5", 443, false));
    topology
}

fn meets(from: &str, region: &str, to: &str) -> String {
    let fabric = Fabric::compile(&topology());
    let (from, past) = from.split_once(' ').map_or((from, false), |(from, _)| (from, true));
    let network = match from {
        "internet" => NetworkId::internet(),
        name => NetworkId::new("p", name),
    };
    let (address, port) = to.split_once(':').expect("address:port");
    let source = "10.9.9.9".parse().expect("an address");
    let caller = Caller {
        network: &network,
        region,
        address: source,
        tags: &[],
        service_account: None,
        outside: past.then(|| "169.254.32.2".parse().expect("an address")),
    };
    let to = address.parse().expect("an address");
    match fabric.reach(caller, Packet::tcp(to, port.parse().expect("a port"))).reach {
        Reach::ForwardingRule { forwarding_rule, .. } => forwarding_rule.name().to_owned(),
        Reach::Endpoint { endpoint } => endpoint.name().to_owned(),
        Reach::Instance { name, .. } => name,
        Reach::FrontEnd(front_end) => format!("{front_end:?}"),
        Reach::Metadata => "metadata".to_owned(),
        Reach::Subnetwork { .. } => "subnetwork".to_owned(),
        Reach::Dropped { reason, .. } => reason.code().to_owned(),
    }
}

#[test]
fn every_kind_of_address() {
    for (from, region, to, expected) in [
        ("a", "europe-west1", "169.254.169.254:80", "metadata"),
        ("a", "europe-west1", "169.254.169.254:53", "metadata"),
        ("a", "europe-west1", "169.254.169.254:9999", Reason::NoRoute.code()),
        ("a", "europe-west1", "199.36.153.9:443", "Private"),
        ("a", "europe-west1", "199.36.153.12:443", Reason::NoRoute.code()),
        ("a", "europe-west1", "199.36.153.7:443", "Restricted"),
        ("a", "europe-west1", "216.239.32.53:443", "Public"),
        ("a", "europe-west1", "199.36.153.9:80", "Private"),
        ("a", "europe-west1", "199.36.153.9:8080", Reason::NoRoute.code()),
        // The internet has the public front ends and external load balancers, and nobody's rules.
        ("internet", "", "216.239.32.53:443", "Public"),
        ("internet", "", "216.239.32.53:22", Reason::NoRoute.code()),
        ("internet", "", "199.36.153.9:443", Reason::NoRoute.code()),
        ("internet", "", "203.0.113.5:443", "internet-443"),
        ("internet", "", "203.0.113.5:80", Reason::ForwardingRuleMismatch.code()),
        ("internet", "", "10.1.0.5:443", Reason::NoRoute.code()),
        ("internet", "", "198.51.100.9:80", Reason::NoRoute.code()),
        ("a", "europe-west1", "203.0.113.5:443", Reason::NoRoute.code()),
        // An instance with private ranges only: the rest as the internet sends it.
        ("a past", "europe-west1", "10.1.0.5:443", "b-443"),
        ("a past", "europe-west1", "199.36.153.9:443", "Private"),
        ("a past", "europe-west1", "203.0.113.5:443", "internet-443"),
        ("a past", "europe-west1", "169.254.169.254:53", "metadata"),
        ("a", "europe-west1", "10.0.0.9:22", Reason::FirewallRule.code()),
        ("a", "europe-west1", "10.0.0.77:22", "subnetwork"),
        // Over an active peering: forwarding rules yes, endpoints no.
        ("a", "europe-west1", "10.1.0.5:443", "b-443"),
        ("a", "europe-west1", "10.1.0.20:443", Reason::PscEndpointAccessedFromPeeredNetwork.code()),
        ("b", "europe-west1", "10.1.0.20:443", "endpoint"),
        ("b", "us-central1", "10.1.0.20:443", Reason::ForwardingRuleRegionMismatch.code()),
        ("b", "europe-west1", "10.1.0.20:80", Reason::ForwardingRuleMismatch.code()),
        // Regions and global access.
        ("a", "us-central1", "10.1.0.5:443", Reason::ForwardingRuleRegionMismatch.code()),
        ("a", "us-central1", "10.1.0.6:80", "b-80"),
        ("a", "europe-west1", "10.1.0.5:80", Reason::ForwardingRuleMismatch.code()),
        // Peering is not transitive, and one-sided peering is none.
        ("a", "europe-west1", "10.2.0.1:80", Reason::VpcPeeringInactive.code()),
        ("b", "europe-west1", "10.2.0.1:80", Reason::NoRoute.code()),
        // Overlapping ranges: the address is one's own network's.
        ("a", "europe-west1", "10.0.0.5:443", "subnetwork"),
        ("d", "europe-west1", "10.0.0.5:443", "d-443"),
        ("c", "europe-west1", "8.8.8.8:53", Reason::NoRoute.code()),
        ("a", "europe-west1", "10.1.2.3:80", Reason::UnknownInternalAddress.code()),
    ] {
        assert_eq!(meets(from, region, to), expected, "{from} → {to}");
    }
}

/// Every address of Google's front ends has a route and a door, and is what `reach` says it is.
#[test]
fn the_front_ends_addresses_are_the_same_for_all() {
    let fabric = Fabric::compile(&topology());
    let plan = fabric.plan(&NetworkId::new("p", "a"), |_| true);
    let filter = plan.filter.expect("a VPC network has a filter").render(&[]);
    let all: Vec<Ipv4Addr> = slice::front_ends(false).map(|(_, address)| address).collect();
    assert_eq!(all.len(), 9);
    for address in all {
        let met = meets("a", "europe-west1", &format!("{address}:443"));
        assert!(["Private", "Restricted", "Public"].contains(&met.as_str()), "{address}: {met}");
        let local = plan
            .routes
            .iter()
            .any(|route| route.target == Target::Local && route.to.contains(&address));
        assert!(local, "{address} has no route");
        assert!(filter.contains(&format!("{address} . 6 . 443")), "{address} has no door");
    }
}

#[test]
fn the_plan_draws_what_reach_says() {
    let fabric = Fabric::compile(&topology());
    let target = |network: &str, to: &str, accepted: bool| {
        let plan = fabric.plan(&NetworkId::new("p", network), |_| accepted);
        let to: Ipv4Net = to.parse().expect("a range");
        plan.routes.iter().find(|route| route.to == to).map(|route| route.target.clone())
    };
    let b = NetworkId::new("p", "b");
    assert_eq!(target("a", "10.1.0.0/24", true), Some(Target::Peer(b)));
    assert_eq!(target("a", "10.1.0.20/32", true), Some(Target::Blackhole));
    assert_eq!(target("a", "10.2.0.0/24", true), None);
    assert_eq!(target("b", "10.1.0.20/32", true), Some(Target::Local));
    assert_eq!(target("b", "10.1.0.20/32", false), Some(Target::Blackhole));
    assert_eq!(target("b", "10.1.2.0/28", true), Some(Target::Local));
    let plan = fabric.plan(&NetworkId::new("p", "b"), |_| true);
    assert_eq!(plan.proxy_address, Some("10.1.1.2".parse().expect("an address")));
}

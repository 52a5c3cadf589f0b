//! Firewall rules and static routes, as tables; and the filter that is drawn from them.

use names::{NetworkId, Reason, SelfLink};
use slice::vpc::{Action, Direction, Firewall, Layer4, NextHop, StaticRoute};
use slice::{Instance, Network, Peering, Purpose, Subnetwork, Topology};
use std::net::Ipv4Addr;
use vpc::{Caller, Fabric, Member, Packet, Protocol, Reach, Taken, Verdict};

const WEB: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const REGION: &str = "europe-west1";

fn rule(name: &str, priority: u16, direction: Direction, action: Action) -> Firewall {
    Firewall {
        self_link: SelfLink::global("p", "firewalls", name),
        priority,
        direction,
        action,
        layer4: vec![Layer4 { protocol: None, ports: Vec::new() }],
        source_ranges: Vec::new(),
        source_tags: Vec::new(),
        source_service_accounts: Vec::new(),
        destination_ranges: Vec::new(),
        target_tags: Vec::new(),
        target_service_accounts: Vec::new(),
    }
}

fn allow(name: &str, priority: u16) -> Firewall {
    rule(name, priority, Direction::Ingress, Action::Allow)
}

fn deny(name: &str, priority: u16) -> Firewall {
    rule(name, priority, Direction::Ingress, Action::Deny)
}

fn tags(all: &[&str]) -> Vec<String> {
    all.iter().map(|tag| (*tag).to_owned()).collect()
}

/// Two peers: `a` with the VM `web` (tag `web`, account `web@p`), and `b`.
fn topology(firewalls: Vec<Firewall>, routes: Vec<StaticRoute>) -> Topology {
    let network = |name: &str, range: &str, peer: &str| Network {
        id: NetworkId::new("p", name),
        project_number: 1,
        subnetworks: vec![Subnetwork {
            self_link: SelfLink::regional("p", REGION, "subnetworks", name),
            region: REGION.to_owned(),
            range: range.parse().expect("a range"),
            purpose: Purpose::Private,
        }],
        peerings: vec![Peering {
            name: format!("to-{peer}"),
            peer: NetworkId::new("p", peer),
            active: true,
            export_custom_routes: name == "a",
            import_custom_routes: name == "b",
            export_subnet_routes_with_public_ip: true,
            import_subnet_routes_with_public_ip: false,
        }],
        instances: Vec::new(),
        firewalls: Vec::new(),
        routes: Vec::new(),
    };
    let mut a = network("a", "10.0.0.0/24", "b");
    (a.firewalls, a.routes) = (firewalls, routes);
    a.instances.push(Instance {
        name: "web".to_owned(),
        project: "p".to_owned(),
        zone: format!("{REGION}-b"),
        region: REGION.to_owned(),
        subnetwork: SelfLink::new("s"),
        address: WEB,
        tags: tags(&["web"]),
        service_account: Some("web@p".to_owned()),
        metadata: Default::default(),
        directory: Default::default(),
    });
    Topology { networks: vec![a, network("b", "10.1.0.0/24", "a")], ..Topology::default() }
}

fn verdict(topology: &Topology, from: (&str, &str, &[&str], Option<&str>), to: Packet) -> Verdict {
    let (network, address, own, service_account) = from;
    let (network, own) = (NetworkId::new("p", network), tags(own));
    let address = address.parse().expect("an address");
    let caller = Caller {
        network: &network,
        region: REGION,
        address,
        tags: &own,
        service_account,
        outside: None,
    };
    Fabric::compile(topology).reach(caller, to)
}

/// The name of the rule that decided, and whether the packet passed.
fn decided(rules: &[Firewall], from: (&str, &str, &[&str], Option<&str>), to: Packet) -> String {
    let verdict = verdict(&topology(rules.to_vec(), Vec::new()), from, to);
    let ruling = verdict.ingress.or(verdict.egress).expect("a rule decided");
    let reached = matches!(verdict.reach, Reach::Instance { .. });
    assert_eq!(reached, ruling.allowed);
    if !reached {
        assert!(matches!(verdict.reach, Reach::Dropped { reason: Reason::FirewallRule, .. }));
    }
    let name = ruling.rule.as_ref().map_or("implied", |rule| rule.name());
    format!("{name} {}", if ruling.allowed { "allows" } else { "denies" })
}

#[test]
fn the_lowest_priority_decides_and_denying_wins_a_tie() {
    let from = ("a", "10.0.0.20", &[][..], None);
    let to = Packet::tcp(WEB, 80);
    assert_eq!(decided(&[], from, to), "implied denies");
    assert_eq!(decided(&[allow("x", 1000)], from, to), "x allows");
    assert_eq!(decided(&[allow("x", 1000), deny("y", 1000)], from, to), "y denies");
    assert_eq!(decided(&[allow("x", 999), deny("y", 1000)], from, to), "x allows");
    assert_eq!(decided(&[allow("x", 65535)], from, to), "x allows");
}

#[test]
fn protocols_and_ports_are_alternatives() {
    let mut own = allow("x", 1000);
    own.layer4 = vec![
        Layer4 { protocol: Some(6), ports: vec![(80, 80), (8000, 8080)] },
        Layer4 { protocol: Some(1), ports: Vec::new() },
    ];
    let from = ("a", "10.0.0.20", &[][..], None);
    let packet = |protocol, port| Packet { protocol, to: WEB, port };
    for (protocol, port, expected) in [
        (Protocol::Tcp, 80, "x allows"),
        (Protocol::Tcp, 81, "implied denies"),
        (Protocol::Tcp, 8000, "x allows"),
        (Protocol::Tcp, 8080, "x allows"),
        (Protocol::Tcp, 8081, "implied denies"),
        (Protocol::Udp, 80, "implied denies"),
        (Protocol::Icmp, 0, "x allows"),
    ] {
        let said = decided(std::slice::from_ref(&own), from, packet(protocol, port));
        assert_eq!(said, expected, "{protocol:?} {port}");
    }
}

#[test]
fn sources_are_alternatives_and_tags_end_at_the_network() {
    let mut own = allow("x", 1000);
    own.source_ranges = vec!["10.0.0.16/30".parse().expect("a range")];
    own.source_tags = tags(&["client"]);
    let mut by_account = allow("y", 1000);
    by_account.source_service_accounts = tags(&["batch@p"]);
    by_account.target_service_accounts = tags(&["web@p"]);
    let to = Packet::tcp(WEB, 80);
    for (rule, from, expected) in [
        (&own, ("a", "10.0.0.17", &[][..], None), "x allows"),
        (&own, ("a", "10.0.0.20", &[][..], None), "implied denies"),
        (&own, ("a", "10.0.0.20", &["client"][..], None), "x allows"),
        // The same tag in a peer is another one.
        (&own, ("b", "10.1.0.20", &["client"][..], None), "implied denies"),
        (&by_account, ("a", "10.0.0.20", &[][..], Some("batch@p")), "y allows"),
        (&by_account, ("a", "10.0.0.20", &[][..], Some("web@p")), "implied denies"),
        (&by_account, ("b", "10.1.0.20", &[][..], Some("batch@p")), "implied denies"),
    ] {
        assert_eq!(decided(std::slice::from_ref(rule), from, to), expected, "{from:?}");
    }
}

#[test]
fn targets_choose_the_workloads_of_a_rule() {
    let from = ("a", "10.0.0.20", &[][..], None);
    let to = Packet::tcp(WEB, 80);
    for (target_tags, accounts, expected) in [
        (&["web"][..], &[][..], "x allows"),
        (&["db", "web"], &[], "x allows"),
        (&["db"], &[], "implied denies"),
        (&[], &["web@p"], "x allows"),
        (&[], &["db@p"], "implied denies"),
    ] {
        let mut rule = allow("x", 1000);
        rule.target_tags = tags(target_tags);
        rule.target_service_accounts = tags(accounts);
        assert_eq!(decided(&[rule], from, to), expected, "{target_tags:?} {accounts:?}");
    }
}

#[test]
fn egress_rules_come_first_and_never_meet_the_metadata_server() {
    let mut sealed = rule("sealed", 0, Direction::Egress, Action::Deny);
    sealed.target_tags = tags(&["sealed"]);
    let rules = [sealed, allow("x", 1000)];
    let to = Packet::tcp(WEB, 80);
    assert_eq!(decided(&rules, ("a", "10.0.0.20", &["sealed"], None), to), "sealed denies");
    assert_eq!(decided(&rules, ("a", "10.0.0.20", &[], None), to), "x allows");
    let topology = topology(rules.to_vec(), Vec::new());
    let from = ("a", "10.0.0.20", &["sealed"][..], None);
    let asked = verdict(&topology, from, Packet::tcp(slice::METADATA_ADDRESS, 80));
    assert_eq!((asked.egress, asked.reach), (None, Reach::Metadata));
    // Also what has no route is denied by the rule: egress comes before the route.
    let asked = verdict(&topology, from, Packet::tcp(Ipv4Addr::new(8, 8, 8, 8), 53));
    assert!(matches!(asked.reach, Reach::Dropped { reason: Reason::FirewallRule, .. }));
    assert_eq!(asked.taken, None);
}

#[test]
fn static_routes_win_by_prefix_and_priority_and_cross_a_peering_by_consent() {
    let route = |name: &str, range: &str, priority, tags: &[&str], next_hop| StaticRoute {
        self_link: SelfLink::global("p", "routes", name),
        range: range.parse().expect("a range"),
        priority,
        tags: self::tags(tags),
        next_hop,
    };
    let vm =
        |can_ip_forward| NextHop::Instance { name: "web".to_owned(), address: WEB, can_ip_forward };
    let routes = vec![
        route("out", "0.0.0.0/0", 1000, &[], NextHop::InternetGateway),
        route("wide", "192.168.0.0/16", 100, &[], vm(false)),
        route("narrow", "192.168.1.0/24", 1000, &[], vm(true)),
        route("sooner", "192.168.1.0/24", 500, &[], NextHop::Address(WEB)),
        route("tagged", "192.168.1.0/25", 0, &["special"], vm(false)),
    ];
    let topology = topology(Vec::new(), routes);
    for (from, to, expected, why) in [
        (("a", &[][..]), [8, 8, 8, 8], "out", Reason::NoRoute),
        (("a", &[]), [192, 168, 9, 1], "wide", Reason::ForeignIpDisallowed),
        (("a", &[]), [192, 168, 1, 1], "sooner", Reason::NoRoute),
        (("a", &["special"]), [192, 168, 1, 1], "tagged", Reason::ForeignIpDisallowed),
        // The peer imports what is exported: neither tagged routes nor those to the internet.
        (("b", &["special"]), [192, 168, 1, 1], "sooner", Reason::NoRoute),
        (("b", &[]), [192, 168, 9, 1], "wide", Reason::ForeignIpDisallowed),
        (("b", &[]), [8, 8, 8, 8], "none", Reason::NoRoute),
    ] {
        let address = if from.0 == "a" { "10.0.0.20" } else { "10.1.0.20" };
        let packet = Packet::tcp(Ipv4Addr::from(to), 80);
        let verdict = verdict(&topology, (from.0, address, from.1, None), packet);
        let name = match &verdict.taken {
            Some(Taken::Static { route, .. } | Taken::PeeringStatic { route, .. }) => route.name(),
            _ => "none",
        };
        assert_eq!(name, expected, "{from:?} → {to:?}");
        let Reach::Dropped { reason, .. } = verdict.reach else { panic!("{verdict:?}") };
        assert_eq!(reason, why, "{from:?} → {to:?}");
    }
}

#[test]
fn the_filter_has_the_rules_in_their_order_and_the_workloads_in_their_groups() {
    let mut own = allow("x", 1000);
    own.source_tags = tags(&["client"]);
    own.source_ranges = ["10.0.0.0/25", "10.0.0.0/24"].map(|r| r.parse().expect("a range")).into();
    own.target_tags = tags(&["web"]);
    own.layer4 = vec![Layer4 { protocol: Some(6), ports: vec![(80, 90), (85, 95), (443, 443)] }];
    let mut out = rule("out", 5, Direction::Egress, Action::Deny);
    out.destination_ranges = vec!["10.1.0.0/24".parse().expect("a range")];
    let fabric = Fabric::compile(&topology(vec![own, deny("y", 2000), out], Vec::new()));
    let plan = fabric.plan(&NetworkId::new("p", "a"), |_| true);
    let filter = plan.filter.expect("a VPC network has a filter");
    let member = |address: &str, own: &[&str]| Member {
        address: address.parse().expect("an address"),
        tags: tags(own),
        service_account: None,
        sealed: false,
        link: format!("leaf{}", address.rsplit('.').next().unwrap_or_default()),
    };
    let web = member("10.0.0.9", &["web"]);
    let text = filter.render(&[web.clone(), member("10.0.0.20", &["client", "other"])]);
    let chains = text.split("chain input").next().expect("chains");
    let chains = chains.split("chain egress").nth(1).expect("chains");
    assert_eq!(
        chains,
        " {
ip daddr { 10.1.0.0/24 } drop comment \"out\"
}
chain ingress {
oifname @l1 ip saddr @g0 meta l4proto 6 th dport { 80-95, 443 } accept comment \"x\"
oifname @l1 ip saddr { 10.0.0.0/24 } meta l4proto 6 th dport { 80-95, 443 } accept comment \"x\"
drop comment \"y\"
drop
}
"
    );
    assert!(text.contains("set g0 { type ipv4_addr; elements = { 10.0.0.20 } }"), "{text}");
    assert!(text.contains("set g1 { type ipv4_addr; elements = { 10.0.0.9 } }"), "{text}");
    assert!(text.contains("set l1 { type ifname; elements = { \"leaf9\" } }"), "{text}");
    let elements = |verb: &str| {
        format!(
            "{verb} element ip postern g1 {{ 10.0.0.9 }}\n{verb} element ip postern l1 {{ \"leaf9\" }}\n"
        )
    };
    assert_eq!(filter.joins(&web), elements("add"));
    assert_eq!(filter.leaves(&web), elements("delete"));
    assert_eq!(filter.joins(&member("10.0.0.30", &[])), "");
}

#[test]
fn a_packet_that_is_passed_on_meets_the_rules_of_the_vm_with_the_destination_it_has() {
    let mut own = allow("x", 1000);
    own.target_tags = tags(&["web"]);
    own.destination_ranges = vec!["10.0.0.100/32".parse().expect("a range")];
    let fabric = Fabric::compile(&topology(vec![own], Vec::new()));
    let asked = |vm: [u8; 4], to: [u8; 4]| {
        let packet = Packet::tcp(Ipv4Addr::from(to), 80);
        let nat = Ipv4Addr::new(10, 9, 9, 9);
        let network = NetworkId::new("p", "a");
        let ruling = fabric.passed_on(&network, nat, None, Ipv4Addr::from(vm), packet);
        ruling.map(|ruling| ruling.allowed)
    };
    assert_eq!(asked([10, 0, 0, 9], [10, 0, 0, 100]), Some(true));
    assert_eq!(asked([10, 0, 0, 9], [10, 0, 0, 9]), Some(false));
    assert_eq!(asked([10, 0, 0, 8], [10, 0, 0, 100]), None); // nobody's address
}

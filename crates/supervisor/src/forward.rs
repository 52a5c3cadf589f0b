//! Packets to the addresses of passthrough load balancers and target instances, in a router's
//! kernel: they go to a VM as they are, with the client's source and the rule's address.
//!
//! * A VM has the address as a local one, as the guest environment of a real VM sets it up.
//! * The router has a route to the address with every VM as a next hop. It would spread packets by
//!   itself; it is there so that answers, whose source is the address, pass the strict reverse path
//!   filter of each VM's link.
//! * A table of `nft` chooses: a connection's first packet by the hash of its affinity, the others
//!   by the mark that the kernel's connection tracking keeps. The mark is the number of the VM's
//!   link, and a routing rule sends marked packets there. The router's own programs (a service
//!   attachment that dials from a NAT address) go the same way.
//! * What no rule takes is dropped: a wrong port of such an address is silent, as there.

use crate::namespaces::{local, netlink, route};
use crate::nft;
use balancing::passthrough::{Forward, forwards, slots};
use ipnet::Ipv4Net;
use names::NetworkId;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::packet_route::rule::RuleAction;
use rtnetlink::{Handle, RouteNextHopBuilder, RuleAddRequest};
use slice::load_balancer::{PacketAffinity, Ports, RuleProtocol};
use slice::{BackendState, Purpose, Topology};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

/// One number for all runs: the same packet gets to the same VM after a restart.
const SEED: &str = "0x706f7374";

/// A rule as the kernel carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    forward: Forward,
    /// Without global access: ranges of other regions, which get no answer.
    far: Vec<Ipv4Net>,
}

/// The passthrough rules of a network under these states.
pub fn passed(
    topology: &Topology,
    network: &NetworkId,
    states: Option<&[BackendState]>,
) -> Vec<Passed> {
    let balancing = &topology.load_balancing;
    let rules = balancing.network_rules.iter();
    let rules = rules.filter(|rule| rule.network == *network && rule.is_passthrough());
    let own = topology.networks.iter().find(|own| own.id == *network);
    let peers = own.into_iter().flat_map(|own| &own.peerings).filter(|peering| peering.active);
    let peers: BTreeSet<&NetworkId> = peers.map(|peering| &peering.peer).collect();
    let near = topology.networks.iter();
    let near = near.filter(|other| other.id == *network || peers.contains(&other.id));
    let near: Vec<_> = near.flat_map(|network| &network.subnetworks).collect();
    // A rule whose backend service is missing was refused with the files.
    rules
        .zip(forwards(balancing, network, states))
        .map(|(rule, forward)| {
            let global = rule.allow_global_access;
            let far = near.iter().filter(|subnetwork| {
                subnetwork.purpose == Purpose::Private
                    && names::region_admits(&rule.region, global, &subnetwork.region).is_err()
            });
            let far: Vec<Ipv4Net> = far.map(|subnetwork| subnetwork.range).collect();
            Passed { forward, far: Ipv4Net::aggregate(&far) }
        })
        .collect()
}

/// The VMs that run: the router's end of their link, and their namespace.
pub type Links<'a> = HashMap<Ipv4Addr, (u32, BorrowedFd<'a>)>;

/// What is in force in one router.
#[derive(Debug, Default)]
pub struct Forwarding {
    rules: Vec<Passed>,
    /// Addresses with the links that their route leads to.
    routed: BTreeMap<Ipv4Addr, BTreeSet<u32>>,
    /// Links that have a routing rule and a table.
    links: BTreeSet<u32>,
    /// Addresses that a VM has: the VM's link and the address.
    held: BTreeSet<(u32, Ipv4Addr)>,
    text: String,
}

impl Forwarding {
    /// Is this VM behind one of the rules?
    pub fn concerns(&self, vm: &Ipv4Addr) -> bool {
        self.rules.iter().any(|rule| rule.forward.all.contains(vm))
    }

    /// Brings the kernel to these rules, or with the ones in force to the VMs that run.
    ///
    /// # Errors
    /// Those of netlink and of `nft`.
    pub fn follow(
        &mut self,
        router: BorrowedFd<'_>,
        rules: Option<Vec<Passed>>,
        links: &Links<'_>,
    ) -> io::Result<()> {
        if let Some(rules) = rules {
            self.rules = rules;
        }
        let mut routes: BTreeMap<Ipv4Addr, BTreeSet<u32>> = BTreeMap::new();
        let mut held = BTreeSet::new();
        for Passed { forward, .. } in &self.rules {
            for vm in &forward.all {
                let Some((index, namespace)) = links.get(vm) else { continue };
                routes.entry(forward.address).or_default().insert(*index);
                if held.insert((*index, forward.address))
                    && !self.held.contains(&(*index, forward.address))
                {
                    let message = local(Ipv4Net::from(forward.address));
                    netlink(*namespace, async |handle: Handle| {
                        handle.route().add(message).replace().execute().await
                    })?;
                }
            }
        }
        for (index, address) in self.held.difference(&held) {
            let vm = links.values().find(|(link, _)| link == index);
            if let Some((_, namespace)) = vm {
                let message = local(Ipv4Net::from(*address));
                let delete = async |handle: Handle| handle.route().del(message).execute().await;
                // It may be gone already, by the VM's own doing.
                let _ = netlink(*namespace, delete);
            }
        }
        self.held = held;
        self.route(router, routes)?;
        let mark = |vm: &Ipv4Addr| links.get(vm).map(|(index, _)| *index);
        let text = render(&self.rules, mark);
        if text != self.text && !(self.rules.is_empty() && self.text.is_empty()) {
            nft::start(router, &text)?.finish()?;
            self.text = text;
        }
        Ok(())
    }

    /// Routes to addresses, and for each link a table that marked packets are sent to.
    fn route(
        &mut self,
        router: BorrowedFd<'_>,
        routes: BTreeMap<Ipv4Addr, BTreeSet<u32>>,
    ) -> io::Result<()> {
        if self.routed == routes {
            return Ok(());
        }
        let wanted: BTreeSet<u32> = routes.values().flatten().copied().collect();
        let fresh: Vec<u32> = wanted.difference(&self.links).copied().collect();
        let past: Vec<u32> = self.links.difference(&wanted).copied().collect();
        let gone = self.routed.keys().filter(|address| !routes.contains_key(address));
        let gone: Vec<_> = gone.map(|address| route((*address).into()).build()).collect();
        let to = |(address, links): (&Ipv4Addr, &BTreeSet<u32>)| {
            let hop =
                |link: &u32| RouteNextHopBuilder::new(AddressFamily::Inet).interface(*link).build();
            let to = route(Ipv4Net::from(*address)).scope(RouteScope::Link);
            match links.iter().collect::<Vec<_>>()[..] {
                [only] => to.output_interface(*only).build(),
                _ => to.multipath(links.iter().map(hop).collect()).build(),
            }
        };
        let new: Vec<_> = routes.iter().map(to).collect();
        netlink(router, async |handle: Handle| {
            for message in gone {
                // The route of a link goes away with it.
                let _ = handle.route().del(message).execute().await;
            }
            for link in fresh {
                handle.route().add(way(link)).replace().execute().await?;
                marked(&handle, link).execute().await?;
            }
            for link in past {
                let _ = handle.route().del(way(link)).execute().await;
                handle.rule().del(marked(&handle, link).message_mut().clone()).execute().await?;
            }
            for message in new {
                handle.route().add(message).replace().execute().await?;
            }
            Ok(())
        })?;
        self.routed = routes;
        self.links = wanted;
        Ok(())
    }
}

/// The table of a link: everything goes there.
fn way(link: u32) -> RouteMessage {
    let table = route(Ipv4Net::default()).table_id(link);
    table.scope(RouteScope::Link).output_interface(link).build()
}

/// The rule that sends packets with a link's mark to its table.
fn marked(handle: &Handle, link: u32) -> RuleAddRequest<Ipv4Addr> {
    let rule = handle.rule().add().v4().fw_mark(link).table_id(link);
    rule.priority(PRIORITY).action(RuleAction::ToTable)
}

/// Of the rules that send marked packets to VMs: before the main table.
const PRIORITY: u32 = 1000;

/// The commands for `nft -f -` that put these into force, in place of what was there before.
/// `mark` is the number of a VM's link; one that does not run has none, and gets nothing.
fn render(all: &[Passed], mark: impl Fn(&Ipv4Addr) -> Option<u32>) -> String {
    let mut text = String::from("table ip postern_forward\ndelete table ip postern_forward\n");
    if all.is_empty() {
        return text;
    }
    text.push_str("table ip postern_forward {\n");
    let mut jumps: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
    for (number, Passed { forward, far }) in all.iter().enumerate() {
        let jumps = jumps.entry(forward.address).or_default();
        for (protocol, word) in protocols(forward.protocol) {
            let chain = format!("rule{number}_{word}");
            jumps.push(format!("{} goto {chain}", taken(forward, word)));
            let _ = writeln!(text, "chain {chain} {{");
            if !far.is_empty() {
                let far: Vec<String> = far.iter().map(Ipv4Net::to_string).collect();
                let _ = writeln!(text, "ip saddr {{ {} }} drop", far.join(", "));
            }
            let kept = &forward.kept[usize::from(protocol != Tcp)];
            let marks: Vec<String> =
                kept.iter().filter_map(&mark).map(|mark| mark.to_string()).collect();
            if !marks.is_empty() {
                let marks = marks.join(", ");
                let _ = writeln!(text, "ct mark {{ {marks} }} meta mark set ct mark accept");
            }
            let running: Vec<Ipv4Addr> =
                forward.active.iter().filter(|vm| mark(vm).is_some()).copied().collect();
            let places: Vec<String> = slots(&running)
                .iter()
                .filter_map(&mark)
                .enumerate()
                .map(|(place, mark)| format!("{place} : {mark}"))
                .collect();
            if !places.is_empty() {
                let _ = writeln!(
                    text,
                    "meta mark set jhash {} mod {} seed {SEED} map {{ {} }}",
                    hashed(forward.affinity, protocol),
                    places.len(),
                    places.join(", ")
                );
                text.push_str("ct mark set meta mark accept\n");
            }
            text.push_str("drop\n}\n");
        }
    }
    text.push_str("chain addresses {\n");
    for (address, lines) in &jumps {
        for line in lines {
            let _ = writeln!(text, "ip daddr {address} {line}");
        }
        // An ICMP error belongs to a connection.
        let _ = writeln!(
            text,
            "ip daddr {address} ct state related ct mark != 0 meta mark set ct mark accept"
        );
        let _ = writeln!(text, "ip daddr {address} drop");
    }
    text.push_str(
        "}
chain arriving {
type filter hook prerouting priority mangle; policy accept;
jump addresses
}
chain own {
type route hook output priority mangle; policy accept;
jump addresses
}
}
",
    );
    text
}

/// What a chain is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    /// Protocols without ports.
    Other,
}
use Kind::{Other, Tcp, Udp};

fn protocols(protocol: RuleProtocol) -> Vec<(Kind, &'static str)> {
    match protocol {
        RuleProtocol::Tcp => vec![(Tcp, "tcp")],
        RuleProtocol::Udp => vec![(Udp, "udp")],
        RuleProtocol::L3Default => vec![(Tcp, "tcp"), (Udp, "udp"), (Other, "other")],
    }
}

/// What of the address the rule takes.
fn taken(forward: &Forward, word: &str) -> String {
    match (&forward.ports, word) {
        (_, "other") => "meta l4proto != { tcp, udp }".to_owned(),
        (Ports::Listed(ports), _) => {
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("{word} dport {{ {} }}", ports.join(", "))
        }
        (Ports::Range(first, last), _) => format!("{word} dport {first}-{last}"),
        (Ports::All, _) => format!("meta l4proto {word}"),
    }
}

/// The parts of a packet that choose.
fn hashed(affinity: PacketAffinity, kind: Kind) -> &'static str {
    match (affinity, kind) {
        (PacketAffinity::ClientIpNoDestination, _) => "ip saddr",
        (PacketAffinity::ClientIp, _) => "ip saddr . ip daddr",
        (PacketAffinity::ClientIpProto, _)
        | (PacketAffinity::None | PacketAffinity::ClientIpPortProto, Other) => {
            "ip saddr . ip daddr . meta l4proto"
        }
        (PacketAffinity::None | PacketAffinity::ClientIpPortProto, Tcp | Udp) => {
            "ip saddr . ip daddr . meta l4proto . th sport . th dport"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forward(protocol: RuleProtocol, ports: Ports, affinity: PacketAffinity) -> Passed {
        let [a, b] = [11, 12].map(|number| Ipv4Addr::new(10, 0, 0, number));
        let far = vec!["10.0.9.0/24".parse().expect("a range")];
        let forward = Forward {
            address: Ipv4Addr::new(10, 0, 0, 5),
            protocol,
            ports,
            affinity,
            active: vec![a],
            kept: [vec![a, b], vec![a]],
            all: vec![a, b],
        };
        Passed { forward, far }
    }

    #[test]
    fn a_rule_is_a_chain_that_keeps_connections_and_chooses_for_new_ones() {
        let mark = |vm: &Ipv4Addr| (vm.octets()[3] < 13).then(|| 1000 + u32::from(vm.octets()[3]));
        let tcp = forward(RuleProtocol::Tcp, Ports::Listed(vec![5432, 80]), PacketAffinity::None);
        let text = render(&[tcp], mark);
        for line in [
            "ct mark { 1011, 1012 } meta mark set ct mark accept",
            "meta mark set jhash ip saddr . ip daddr . meta l4proto . th sport . th dport mod 128 seed 0x706f7374 map { 0 : 1011,",
            "ip daddr 10.0.0.5 tcp dport { 5432, 80 } goto rule0_tcp",
            "ip saddr { 10.0.9.0/24 } drop",
            "ip daddr 10.0.0.5 drop",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let udp = forward(RuleProtocol::Udp, Ports::Range(5, 9), PacketAffinity::ClientIp);
        let text = render(&[udp], mark);
        assert!(text.contains("udp dport 5-9 goto rule0_udp"), "{text}");
        assert!(
            text.contains("ct mark { 1011 } meta")
                && text.contains("jhash ip saddr . ip daddr mod")
        );
        let any = forward(RuleProtocol::L3Default, Ports::All, PacketAffinity::None);
        let text = render(&[any], mark);
        for chain in ["rule0_tcp {", "rule0_udp {", "rule0_other {"] {
            assert!(text.contains(chain), "{text}");
        }
    }

    #[test]
    fn without_a_vm_that_runs_everything_is_dropped() {
        let tcp = forward(RuleProtocol::Tcp, Ports::All, PacketAffinity::None);
        let text = render(&[tcp], |_| None);
        assert!(text.contains("} drop\ndrop\n}"), "{text}");
        assert!(!render(&[], |_| None).contains("chain"));
    }
}

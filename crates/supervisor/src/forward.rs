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

use balancing::passthrough::{Forward, slots};
use slice::load_balancer::{PacketAffinity, Ports, RuleProtocol};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// One number for all runs: the same packet gets to the same VM after a restart.
const SEED: &str = "0x706f7374";

/// The commands for `nft -f -` that put these into force, in place of what was there before.
/// `mark` is the number of a VM's link; one that does not run has none, and gets nothing.
pub fn render(all: &[Forward], mark: impl Fn(&Ipv4Addr) -> Option<u32>) -> String {
    let mut text = String::from("table ip postern_forward\ndelete table ip postern_forward\n");
    if all.is_empty() {
        return text;
    }
    text.push_str("table ip postern_forward {\n");
    let mut jumps: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
    for (number, forward) in all.iter().enumerate() {
        let jumps = jumps.entry(forward.address).or_default();
        for (protocol, word) in protocols(forward.protocol) {
            let chain = format!("rule{number}_{word}");
            jumps.push(format!("{} goto {chain}", taken(forward, word)));
            let _ = writeln!(text, "chain {chain} {{");
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

    fn forward(protocol: RuleProtocol, ports: Ports, affinity: PacketAffinity) -> Forward {
        let [a, b] = [11, 12].map(|number| Ipv4Addr::new(10, 0, 0, number));
        Forward {
            address: Ipv4Addr::new(10, 0, 0, 5),
            protocol,
            ports,
            affinity,
            active: vec![a],
            kept: [vec![a, b], vec![a]],
            all: vec![a, b],
        }
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
            "ip daddr 10.0.0.5 drop",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let udp = forward(RuleProtocol::Udp, Ports::Range(5, 9), PacketAffinity::ClientIp);
        let text = render(&[udp], mark);
        assert!(text.contains("udp dport 5-9 goto rule0_udp"), "{text}");
        assert!(text.contains("ct mark { 1011 } meta") && text.contains("jhash ip saddr . ip daddr mod"));
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
        assert!(text.contains("chain rule0_tcp {\ndrop\n}"), "{text}");
        assert!(!render(&[], |_| None).contains("chain"));
    }
}

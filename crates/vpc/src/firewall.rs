//! VPC firewall rules (private-connectivity 5.3): which one decides about a packet.

use ipnet::Ipv4Net;
use names::SelfLink;
use slice::vpc::{Action, Direction, Firewall};
use std::fmt;
use std::net::Ipv4Addr;

/// The protocols that a question can be about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP echo.
    Icmp,
}

impl Protocol {
    /// The number in the IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Icmp => 1,
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    /// As Connectivity Tests write it.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Icmp => "ICMP",
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        }
    }
}

impl From<slice::IpProtocol> for Protocol {
    fn from(protocol: slice::IpProtocol) -> Self {
        match protocol {
            slice::IpProtocol::Tcp => Protocol::Tcp,
            slice::IpProtocol::Udp => Protocol::Udp,
        }
    }
}

/// What the firewall of a network said about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Outwards or inwards.
    pub direction: Direction,
    /// Does it pass?
    pub allowed: bool,
    /// The rule that decided; none: the implied one.
    pub rule: Option<SelfLink>,
    /// Its priority; 65535 for an implied one.
    pub priority: u16,
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rule, self.direction) {
            (Some(rule), _) => write!(f, "{} (priority {})", rule.name(), self.priority),
            (None, Direction::Egress) => f.write_str("the implied allow egress rule"),
            (None, Direction::Ingress) => f.write_str("the implied deny ingress rule"),
        }
    }
}

/// One end of a packet, as the rules of a network see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) address: Ipv4Addr,
    pub(crate) tags: &'a [String],
    pub(crate) service_account: Option<&'a str>,
}

/// The rules of one network in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) egress: Vec<Firewall>,
    pub(crate) ingress: Vec<Firewall>,
}

impl Rules {
    /// The lowest priority first, and what denies before what allows.
    pub(crate) fn compile(rules: &[Firewall]) -> Rules {
        let of = |direction: Direction| {
            let own = rules.iter().filter(|rule| rule.direction == direction);
            let mut own: Vec<Firewall> = own.cloned().collect();
            own.sort_by(|a, b| {
                (a.priority, a.action, a.self_link.as_str()).cmp(&(
                    b.priority,
                    b.action,
                    b.self_link.as_str(),
                ))
            });
            own
        };
        Rules { egress: of(Direction::Egress), ingress: of(Direction::Ingress) }
    }

    /// A packet that leaves a workload of the network.
    pub(crate) fn leaving(
        &self,
        from: End<'_>,
        to: Ipv4Addr,
        protocol: Protocol,
        port: u16,
    ) -> Ruling {
        let fits = |rule: &&Firewall| {
            targets(rule, from)
                && within(&rule.source_ranges, from.address)
                && within(&rule.destination_ranges, to)
                && carries(rule, protocol, port)
        };
        ruling(self.egress.iter().find(fits), Direction::Egress)
    }

    /// A packet that comes to a workload of the network. `from` has tags and account only where it
    /// is in the same network: they mean nothing in another one.
    pub(crate) fn arriving(
        &self,
        from: End<'_>,
        to: End<'_>,
        protocol: Protocol,
        port: u16,
    ) -> Ruling {
        let fits = |rule: &&Firewall| {
            targets(rule, to)
                && comes_from(rule, from)
                && within(&rule.destination_ranges, to.address)
                && carries(rule, protocol, port)
        };
        ruling(self.ingress.iter().find(fits), Direction::Ingress)
    }
}

/// The implied rules allow egress and deny ingress (5.3).
fn ruling(rule: Option<&Firewall>, direction: Direction) -> Ruling {
    match rule {
        Some(rule) => Ruling {
            direction,
            allowed: rule.action == Action::Allow,
            rule: Some(rule.self_link.clone()),
            priority: rule.priority,
        },
        None => Ruling {
            direction,
            allowed: direction == Direction::Egress,
            rule: None,
            priority: u16::MAX,
        },
    }
}

fn within(ranges: &[Ipv4Net], address: Ipv4Addr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(&address))
}

fn one_of(tags: &[String], accounts: &[String], end: End<'_>) -> bool {
    tags.iter().any(|tag| end.tags.contains(tag))
        || end.service_account.is_some_and(|own| accounts.iter().any(|account| account == own))
}

fn targets(rule: &Firewall, end: End<'_>) -> bool {
    let (tags, accounts) = (&rule.target_tags, &rule.target_service_accounts);
    (tags.is_empty() && accounts.is_empty()) || one_of(tags, accounts, end)
}

/// Ranges, tags and accounts of sources are alternatives.
fn comes_from(rule: &Firewall, end: End<'_>) -> bool {
    let (tags, accounts) = (&rule.source_tags, &rule.source_service_accounts);
    let ranges = &rule.source_ranges;
    (tags.is_empty() && accounts.is_empty() && ranges.is_empty())
        || ranges.iter().any(|range| range.contains(&end.address))
        || one_of(tags, accounts, end)
}

fn carries(rule: &Firewall, protocol: Protocol, port: u16) -> bool {
    rule.layer4.iter().any(|layer4| {
        layer4.protocol.is_none_or(|number| number == protocol.number())
            && (layer4.ports.is_empty()
                || layer4.ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
    })
}

//! The filter of one router: the same rules that [`Fabric::reach`](crate::Fabric::reach) asks, as
//! text for `nft -f -`.
//!
//! Rules are stateful (private-connectivity 5.3): they judge the first packet of a connection. One
//! that is open when the rules change goes on, as long as the kernel tracks it (unconfirmed).

use crate::firewall::Rules;
use ipnet::Ipv4Net;
use slice::METADATA_ADDRESS;
use slice::vpc::{Action, Direction, Firewall};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;

/// What a router lets through. What is in no list is dropped without an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub(crate) rules: Rules,
    /// Addresses and ports at which a program answers, with the ranges that may ask.
    pub(crate) doors: BTreeSet<Door>,
    /// Is it a VPC network's? Elsewhere no rule judges what the router's own programs open: `cloud-run`
    /// reaches its instances.
    pub(crate) vpc: bool,
}

/// One door: source range, destination, IP protocol, first and last destination port.
pub(crate) type Door = (Ipv4Net, Ipv4Addr, u8, (u16, u16));

/// Workloads that a rule names: those with any of these tags, or with any of these accounts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// By network tag.
    Tags(Vec<String>),
    /// By the email of the service account.
    ServiceAccounts(Vec<String>),
}

/// A workload as the filter knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network tags.
    pub tags: Vec<String>,
    /// The email of its service account.
    pub service_account: Option<String>,
    /// A Cloud Run instance: it opens connections and takes none.
    pub sealed: bool,
    /// The router's end of its link. Rules find their targets by it: a VM behind a passthrough
    /// load balancer takes packets for other addresses than its own.
    pub link: String,
}

impl Group {
    fn new(tags: &[String], accounts: &[String]) -> Option<Group> {
        match (tags, accounts) {
            ([], []) => None,
            (tags, []) => Some(Group::Tags(tags.to_vec())),
            (_, accounts) => Some(Group::ServiceAccounts(accounts.to_vec())),
        }
    }

    fn has(&self, workload: &Member) -> bool {
        match self {
            Group::Tags(tags) => tags.iter().any(|tag| workload.tags.contains(tag)),
            Group::ServiceAccounts(all) => {
                workload.service_account.as_ref().is_some_and(|own| all.contains(own))
            }
        }
    }
}

impl Filter {
    /// The filter while a generation is prepared: the rules in force, and the doors of both.
    #[must_use]
    pub fn grown(&self, new: &Filter) -> Filter {
        let doors = self.doors.union(&new.doors).copied().collect();
        Filter { rules: self.rules.clone(), doors, vpc: new.vpc }
    }

    /// The groups of all rules; a group's place is its number.
    fn groups(&self) -> Vec<Group> {
        let rules = self.rules.egress.iter().chain(&self.rules.ingress);
        let all: BTreeSet<Group> =
            rules.flat_map(|rule| [target(rule), source(rule)]).flatten().collect();
        all.into_iter().collect()
    }

    /// The commands that put the filter into force at once, in place of what was there before.
    pub fn render(&self, workloads: &[Member]) -> String {
        let groups = self.groups();
        let mut text =
            String::from("table ip postern\ndelete table ip postern\ntable ip postern {\n");
        for (number, group) in groups.iter().enumerate() {
            let of: Vec<&Member> = workloads.iter().filter(|own| group.has(own)).collect();
            let addresses: Vec<String> = of.iter().map(|own| own.address.to_string()).collect();
            set(&mut text, &format!("g{number}"), "ipv4_addr", "", &addresses);
            let links: Vec<String> = of.iter().map(|own| format!("\"{}\"", own.link)).collect();
            set(&mut text, &format!("l{number}"), "ifname", "", &links);
        }
        let sealed = workloads.iter().filter(|own| own.sealed);
        let sealed: Vec<String> = sealed.map(|own| format!("\"{}\"", own.link)).collect();
        set(&mut text, "sealed", "ifname", "", &sealed);
        let everywhere = |door: &&Door| door.0.prefix_len() == 0;
        let open = self.doors.iter().filter(everywhere);
        let open =
            open.map(|(_, to, protocol, ports)| format!("{to} . {protocol} . {}", span(*ports)));
        let kind = "ipv4_addr . inet_proto . inet_service";
        set(&mut text, "open", kind, "flags interval; ", &open.collect::<Vec<_>>());
        let ranged = self.doors.iter().filter(|door| !everywhere(door));
        let ranged: Vec<String> = ranged
            .map(|(from, to, protocol, ports)| {
                format!("{from} . {to} . {protocol} . {}", span(*ports))
            })
            .collect();
        let kind = "ipv4_addr . ipv4_addr . inet_proto . inet_service";
        set(&mut text, "ranged", kind, "flags interval; ", &ranged);
        text.push_str("chain egress {\n");
        self.rules.egress.iter().for_each(|rule| lines(&mut text, rule, &groups));
        text.push_str("}\nchain ingress {\n");
        self.rules.ingress.iter().for_each(|rule| lines(&mut text, rule, &groups));
        text.push_str("drop\n}\n");
        let own = match self.vpc {
            true => "oifname @sealed drop\noifname \"leaf*\" goto ingress\n",
            false => "",
        };
        let _ = write!(
            text,
            "chain input {{
type filter hook input priority filter; policy drop;
iif \"lo\" accept
ct state established,related accept
ip daddr {METADATA_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53 accept
ip daddr {METADATA_ADDRESS} tcp dport 80 accept
ip daddr {METADATA_ADDRESS} meta l4proto icmp accept
iifname \"leaf*\" jump egress
ip daddr . meta l4proto . th dport @open accept
ip saddr . ip daddr . meta l4proto . th dport @ranged accept
}}
chain forward {{
type filter hook forward priority filter; policy drop;
ct state established,related accept
iifname \"leaf*\" jump egress
oifname @sealed drop
oifname \"leaf*\" goto ingress
iifname \"leaf*\" accept
}}
chain own {{
type filter hook postrouting priority filter; policy accept;
ct state established,related accept
{own}}}
}}
"
        );
        text
    }

    /// The commands for a workload that comes; empty where no rule names it.
    pub fn joins(&self, workload: &Member) -> String {
        self.elements("add", workload)
    }

    /// The commands for a workload that goes.
    pub fn leaves(&self, workload: &Member) -> String {
        self.elements("delete", workload)
    }

    fn elements(&self, verb: &str, workload: &Member) -> String {
        let groups = self.groups();
        let of = groups.iter().enumerate().filter(|(_, group)| group.has(workload));
        let line = |(number, _): (usize, &Group)| {
            let Member { address, link, .. } = workload;
            format!(
                "{verb} element ip postern g{number} {{ {address} }}\n\
                 {verb} element ip postern l{number} {{ \"{link}\" }}\n"
            )
        };
        let mut commands: String = of.map(line).collect();
        if workload.sealed {
            let link = &workload.link;
            let _ = writeln!(commands, "{verb} element ip postern sealed {{ \"{link}\" }}");
        }
        commands
    }
}

fn set(text: &mut String, name: &str, kind: &str, flags: &str, elements: &[String]) {
    let _ = write!(text, "set {name} {{ type {kind}; {flags}");
    if !elements.is_empty() {
        let _ = write!(text, "elements = {{ {} }} ", elements.join(", "));
    }
    text.push_str("}\n");
}

fn target(rule: &Firewall) -> Option<Group> {
    Group::new(&rule.target_tags, &rule.target_service_accounts)
}

fn source(rule: &Firewall) -> Option<Group> {
    Group::new(&rule.source_tags, &rule.source_service_accounts)
}

/// One rule: a line for each protocol and each kind of source.
fn lines(text: &mut String, rule: &Firewall, groups: &[Group]) {
    let number = |group: &Group| groups.iter().position(|known| known == group).unwrap_or_default();
    let egress = rule.direction == Direction::Egress;
    let own = target(rule).map_or(String::new(), |group| {
        format!("{} @l{} ", if egress { "iifname" } else { "oifname" }, number(&group))
    });
    let destinations = ranges("daddr", &rule.destination_ranges);
    let mut sources = Vec::new();
    let group = source(rule);
    if let Some(group) = &group {
        sources.push(format!("ip saddr @g{} ", number(group)));
    }
    if group.is_none() || !rule.source_ranges.is_empty() {
        sources.push(ranges("saddr", &rule.source_ranges));
    }
    // An egress rule that allows ends the egress rules, not the way: ingress rules follow.
    let verdict = match (rule.action, egress) {
        (Action::Deny, _) => "drop",
        (Action::Allow, true) => "return",
        (Action::Allow, false) => "accept",
    };
    for layer4 in &rule.layer4 {
        let protocol = match layer4.protocol {
            None => String::new(),
            Some(number) => format!("meta l4proto {number} "),
        };
        let ports = match layer4.ports.is_empty() {
            true => String::new(),
            false => format!("th dport {{ {} }} ", merged(&layer4.ports).join(", ")),
        };
        for source in &sources {
            let name = rule.self_link.name();
            let _ = writeln!(
                text,
                "{own}{source}{destinations}{protocol}{ports}{verdict} comment \"{name}\""
            );
        }
    }
}

fn ranges(field: &str, ranges: &[Ipv4Net]) -> String {
    if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
        return String::new();
    }
    // The kernel takes no overlapping ranges in one set.
    let merged: Vec<String> =
        Ipv4Net::aggregate(&ranges.to_vec()).iter().map(ToString::to_string).collect();
    format!("ip {field} {{ {} }} ", merged.join(", "))
}

/// Port ranges without overlaps, in order.
fn merged(ports: &[(u16, u16)]) -> Vec<String> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut all: Vec<(u16, u16)> = Vec::new();
    for (first, last) in sorted {
        match all.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => all.push((first, last)),
        }
    }
    all.into_iter().map(span).collect()
}

fn span((first, last): (u16, u16)) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

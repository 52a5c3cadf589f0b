//! Firewall rules and static routes of a VPC network (private-connectivity 5.2, 5.3).

use ipnet::Ipv4Net;
use names::SelfLink;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A VPC firewall rule, as it is in force: disabled rules are left out (5.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// Canonical name.
    pub self_link: SelfLink,
    /// 0 to 65535; the lowest wins.
    pub priority: u16,
    /// Towards or away from its targets.
    pub direction: Direction,
    /// `allowed` or `denied`.
    pub action: Action,
    /// Any of these protocols and ports.
    pub layer4: Vec<Layer4>,
    /// Sources; with no source at all: every one.
    pub source_ranges: Vec<Ipv4Net>,
    /// Workloads of the rule's own network with one of these tags, beside the ranges.
    pub source_tags: Vec<String>,
    /// Workloads of the rule's own network with one of these accounts, beside the ranges.
    pub source_service_accounts: Vec<String>,
    /// Destinations; none: every one.
    pub destination_ranges: Vec<Ipv4Net>,
    /// The workloads that it is for, by tag; none of both kinds: all of the network.
    pub target_tags: Vec<String>,
    /// The workloads that it is for, by service account.
    pub target_service_accounts: Vec<String>,
}

/// The direction of a firewall rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Direction {
    /// From the workload outwards.
    Egress,
    /// To the workload.
    Ingress,
}

/// What a firewall rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// The packet is dropped; before `Allow`, since it wins at the same priority.
    Deny,
    /// The packet passes.
    Allow,
}

/// A protocol with ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer4 {
    /// The IP protocol's number; none: all of them.
    pub protocol: Option<u8>,
    /// Ranges of destination ports, both ends included; none: all of them.
    pub ports: Vec<(u16, u16)>,
}

/// A static route (`routes[]`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticRoute {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Destination.
    pub range: Ipv4Net,
    /// The lowest wins among equal ranges.
    pub priority: u16,
    /// The workloads that it is for; none: all of the network.
    pub tags: Vec<String>,
    /// Where it leads.
    pub next_hop: NextHop,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NextHop {
    /// `default-internet-gateway`: out of the topology, where nothing is but Google's front ends.
    InternetGateway,
    /// A VM of the network.
    Instance {
        /// Its name.
        name: String,
        /// Its address.
        address: Ipv4Addr,
        /// Does it take packets for other addresses than its own (`canIpForward`)?
        can_ip_forward: bool,
    },
    /// An address that nothing has.
    Address(Ipv4Addr),
}

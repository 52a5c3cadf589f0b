//! Cloud DNS private zones (private-connectivity section 4).

use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What the program `private-dns` of one network needs: the zones of this network and of every
/// network that its peering zones lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrivateDnsSlice {
    /// The network whose workloads ask.
    pub network: NetworkId,
    /// All zones that can matter; each says by `networks` who sees it.
    pub zones: Vec<ManagedZone>,
    /// The instances with an internal DNS name: of this network, of the networks in `views` and of
    /// those that peering zones lead to.
    #[serde(default)]
    pub instances: Vec<DnsInstance>,
    /// One process for many networks: whose clients come from where, by their address as it
    /// arrives; the longest range wins. A client in none of them is in `network`.
    #[serde(default)]
    pub views: Vec<DnsView>,
}

/// A VM as the internal DNS knows it: `NAME.ZONE.c.PROJECT.internal` (4.2) and the PTR record of
/// its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsInstance {
    /// The network in which the names are visible; they are invisible to its peers.
    pub network: NetworkId,
    /// Short name.
    pub name: String,
    /// Zone, such as `europe-west1-b`.
    pub zone: String,
    /// The instance's own project.
    pub project: String,
    /// Its address in the network.
    pub address: Ipv4Addr,
}

/// The clients of one network, where a process answers for several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsView {
    /// Addresses of the clients.
    pub clients: Ipv4Net,
    /// The network that they are in.
    pub network: NetworkId,
}

/// A managed private zone (4.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManagedZone {
    /// `projects/P/managedZones/Z`, or the Apigee `dnsZones` item or peered DNS domain.
    pub self_link: SelfLink,
    /// `dnsName`, lower case, with trailing dot.
    pub dns_name: String,
    /// The networks that see the zone (`privateVisibilityConfig`).
    pub networks: Vec<NetworkId>,
    /// What it holds.
    pub kind: ZoneKind,
}

/// Private or peering; forwarding zones are a later issue's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ZoneKind {
    /// Records.
    Private(Vec<ResourceRecordSet>),
    /// Resolution starts again as this network.
    Peering(NetworkId),
}

/// A record set as `gcloud dns record-sets export` writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResourceRecordSet {
    /// Full name, lower case, with trailing dot.
    pub name: String,
    /// `A`, `CNAME`, `TXT`, …
    #[serde(rename = "type")]
    pub record_type: String,
    /// Seconds.
    pub ttl: u32,
    /// Presentation format, one record each.
    pub rrdatas: Vec<String>,
}

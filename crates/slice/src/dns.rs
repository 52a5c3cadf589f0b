//! Cloud DNS private zones (private-connectivity section 4).

use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};

/// What the program `private-dns` of one network needs: the zones of this network and of every
/// network that its peering zones lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrivateDnsSlice {
    /// The network whose workloads ask.
    pub network: NetworkId,
    /// All zones that can matter; each says by `networks` who sees it.
    pub zones: Vec<ManagedZone>,
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

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
    /// The server policies of the networks that can matter: of this network, of the networks in
    /// `views` and of those that peering zones lead to.
    #[serde(default)]
    pub policies: Vec<ServerPolicy>,
    /// Their response policies.
    #[serde(default)]
    pub response_policies: Vec<ResponsePolicy>,
}

/// A server policy (`policies[]`): forwarding from and into its networks (4.1 step 1, 4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPolicy {
    /// `projects/P/policies/NAME`.
    pub self_link: SelfLink,
    /// The networks that it applies to; a network has one policy at most.
    pub networks: Vec<NetworkId>,
    /// `alternativeNameServerConfig`: an outbound policy where there are any. They answer every
    /// question of the networks, before all else.
    #[serde(default)]
    pub alternative_name_servers: Vec<NameServer>,
    /// `enableInboundForwarding`: where clients from outside of the VPC may ask, one entry per
    /// subnetwork; none without.
    #[serde(default)]
    pub inbound: Vec<InboundEntry>,
    /// `enableLogging`, where the file says it.
    #[serde(default)]
    pub enable_logging: Option<bool>,
}

/// An address at which a network's resolver answers beside 169.254.169.254 (4.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundEntry {
    /// The network, as which questions are resolved.
    pub network: NetworkId,
    /// The subnetwork that gives the address.
    pub subnetwork: SelfLink,
    /// The subnetwork's region.
    pub region: String,
    /// Purpose `DNS_RESOLVER`.
    pub address: Ipv4Addr,
}

/// A name server that questions are forwarded to. It is asked at port 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NameServer {
    /// `ipv4Address`.
    pub address: Ipv4Addr,
    /// `forwardingPath`.
    #[serde(default)]
    pub forwarding_path: ForwardingPath,
}

impl NameServer {
    /// Is it reached through the VPC network? Otherwise over the internet, of which there is none
    /// here: it stays silent.
    pub fn is_in_network(&self) -> bool {
        self.forwarding_path == ForwardingPath::Private || self.address.is_private()
    }
}

/// How a name server is reached (4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ForwardingPath {
    /// Addresses of RFC 1918 through the VPC network, others over the internet.
    #[default]
    Default,
    /// Always through the VPC network.
    Private,
}

/// A response policy (`responsePolicies[]`, 4.1 step 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponsePolicy {
    /// `projects/P/responsePolicies/NAME`.
    pub self_link: SelfLink,
    /// The networks that it applies to; a network has one response policy at most.
    pub networks: Vec<NetworkId>,
    /// Its rules, in the order of the file, which does not matter.
    pub rules: Vec<ResponsePolicyRule>,
}

/// A rule of a response policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResponsePolicyRule {
    /// `ruleName`.
    pub name: String,
    /// Lower case, with trailing dot; `*.` in front is a wildcard over all names below.
    pub dns_name: String,
    /// What happens to a question that the rule matches.
    pub action: RuleAction,
}

/// What a response policy rule does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RuleAction {
    /// `localData.localDatas`: the answer.
    LocalData(Vec<ResourceRecordSet>),
    /// `behavior: bypassResponsePolicy`: resolution goes on with the zones.
    BypassResponsePolicy,
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

/// The kinds of private zone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ZoneKind {
    /// Records. A Service Directory zone is one too: its records are those of its namespace.
    Private(Vec<ResourceRecordSet>),
    /// Resolution starts again as this network.
    Peering(NetworkId),
    /// A peering zone whose target network is gone (`deactivateTime` is set).
    Deactivated,
    /// `forwardingConfig.targetNameServers`.
    Forwarding(Vec<NameServer>),
    /// `reverseLookupConfig`: the PTR records of the instances of each network that sees the zone.
    ReverseLookup,
}

/// A record set as `gcloud dns record-sets export` writes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceRecordSet {
    /// Full name, lower case, with trailing dot.
    pub name: String,
    /// `A`, `CNAME`, `TXT`, …
    #[serde(rename = "type")]
    pub record_type: String,
    /// Seconds.
    pub ttl: u32,
    /// Presentation format, one record each; none with a routing policy.
    pub rrdatas: Vec<String>,
    /// `routingPolicy`: which records are answered depends on chance, region and health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing_policy: Option<Box<RoutingPolicy>>,
}

/// `routingPolicy` of a record set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RoutingPolicy {
    /// Weighted round robin.
    Wrr(Vec<WrrItem>),
    /// By the client's region.
    Geo(GeoPolicy),
    /// Failover.
    PrimaryBackup(PrimaryBackup),
}

/// An item of a weighted round robin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WrrItem {
    /// Its share is its part of the sum of all weights.
    pub weight: f64,
    /// Presentation format.
    pub rrdatas: Vec<String>,
    /// Answered only while they are healthy.
    pub health_checked_targets: Vec<HealthCheckedTarget>,
}

/// Items by region.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeoPolicy {
    /// One item for a region, in the order of the file.
    pub items: Vec<GeoItem>,
    /// `enableFencing`: never another region's targets, however ill the own ones are.
    pub enable_fencing: bool,
}

/// What clients of one region are answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GeoItem {
    /// A region.
    pub location: String,
    /// Presentation format.
    pub rrdatas: Vec<String>,
    /// Answered only while they are healthy.
    pub health_checked_targets: Vec<HealthCheckedTarget>,
}

/// `primaryBackup`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrimaryBackup {
    /// `primaryTargets`.
    pub primary: Vec<HealthCheckedTarget>,
    /// `backupGeoTargets`.
    pub backup: GeoPolicy,
    /// `trickleTraffic`: this share of the questions gets the backup even so, from 0 to 1.
    pub trickle_traffic: f64,
}

/// A load balancer of `healthCheckedTargets.internalLoadBalancers`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HealthCheckedTarget {
    /// `ipAddress`: what is answered.
    pub address: Ipv4Addr,
    /// `port`.
    pub port: u16,
    /// The network of the load balancer.
    pub network: NetworkId,
    /// Its forwarding rule.
    pub forwarding_rule: SelfLink,
}

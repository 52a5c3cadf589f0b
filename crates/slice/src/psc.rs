//! Private Service Connect: endpoints and service attachments (private-connectivity section 1).

use crate::IpProtocol;
use crate::hosts::{RemoteConsumers, RemoteProducers};
use ipnet::Ipv4Net;
use names::{NetworkId, Reason, SelfLink};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What the program `endpoint-attachment` of one consumer network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointAttachmentSlice {
    /// The consumer network.
    pub network: NetworkId,
    /// Its endpoints, in the order of the files.
    pub endpoints: Vec<Endpoint>,
    /// Producers on other hosts.
    #[serde(default)]
    pub remote: RemoteProducers,
}

/// A PSC endpoint: a consumer forwarding rule, or an Apigee endpoint attachment (1.6, 1.8).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Canonical name: `projects/…/forwardingRules/…` or `organizations/…/endpointAttachments/…`.
    pub self_link: SelfLink,
    /// Which kind.
    pub kind: EndpointKind,
    /// The consumer project: the one that an accept list must name (for Apigee: the tenant's).
    pub project: String,
    /// Its number; accept lists may name it instead.
    pub project_number: u64,
    /// The network in which the address lies.
    pub network: NetworkId,
    /// Region.
    pub region: String,
    /// The endpoint's address in the consumer network.
    pub address: Ipv4Addr,
    /// The ports that the target's forwarding rule serves; the endpoint listens on these.
    pub ports: Vec<u16>,
    /// The target's forwarding rule serves every port, and `ports` is empty.
    #[serde(default)]
    pub all_ports: bool,
    /// The protocol that the target's forwarding rule takes.
    #[serde(default)]
    pub protocol: IpProtocol,
    /// The service attachment.
    pub target: SelfLink,
    /// The producer network, which names the channel; none if the target does not exist.
    pub producer_network: Option<NetworkId>,
    /// Stable connection id; its low 32 bits are the address (1.5).
    pub psc_connection_id: u64,
    /// May clients of other regions use it?
    pub allow_psc_global_access: bool,
    /// Does the producer's forwarding rule allow global access? The endpoint's own does not help
    /// without it (1.6). True where the target does not exist.
    #[serde(default = "yes")]
    pub producer_allows_global_access: bool,
    /// The name that the endpoint gets by itself in the DNS of its network, `NAME.DOMAIN.` (1.6):
    /// none without `domainNames` of the service attachment, or with `noAutomateDnsZone`.
    #[serde(default)]
    pub automatic_dns_name: Option<String>,
    /// What the project is below, itself included: `projects/ID`, `folders/…`, `organizations/…`,
    /// nearest first. An organization policy of the producer names consumers by these.
    #[serde(default)]
    pub ancestry: Vec<String>,
    /// Not an endpoint itself, but the connection of one as a hub propagates it to another VPC
    /// spoke (1.4): `network` is that spoke's, `address` that of the endpoint.
    #[serde(default)]
    pub propagated_from: Option<PropagatedFrom>,
}

const fn yes() -> bool {
    true
}

/// The endpoint whose connection is propagated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropagatedFrom {
    /// The endpoint.
    pub endpoint: SelfLink,
    /// Its id, which the PROXY header carries for propagated connections too (1.5).
    pub psc_connection_id: u64,
    /// The network in which the endpoint lies.
    pub network: NetworkId,
}

impl Endpoint {
    /// Does the service behind it take this protocol and port?
    pub fn serves(&self, protocol: IpProtocol, port: u16) -> bool {
        self.protocol == protocol && (self.all_ports || self.ports.contains(&port))
    }

    /// Does anybody listen on its address? A load balancer's group connects by itself.
    pub fn listens(&self) -> bool {
        self.kind != EndpointKind::NetworkEndpointGroup
    }

    /// Does it serve all regions: with `allowPscGlobalAccess`, where the producer allows global
    /// access too (1.6)?
    pub fn has_global_access(&self) -> bool {
        self.allow_psc_global_access && self.producer_allows_global_access
    }

    /// May a client of this region use it? An endpoint serves its own region, and all regions with
    /// global access.
    ///
    /// # Errors
    /// Why not.
    pub fn admits_region(&self, client: &str) -> Result<(), Reason> {
        names::region_admits(&self.region, self.has_global_access(), client).map_err(|reason| {
            match self.allow_psc_global_access {
                true => Reason::PscProducerEndpointNoGlobalAccess,
                false => reason,
            }
        })
    }

    /// The same of all regions but its own.
    ///
    /// # Errors
    /// Why not.
    pub fn admits_other_regions(&self) -> Result<(), Reason> {
        self.admits_region("")
    }

    /// The id that the PROXY header to the target carries (1.5).
    pub fn proxy_connection_id(&self) -> u64 {
        self.propagated_from.as_ref().map_or(self.psc_connection_id, |from| from.psc_connection_id)
    }
}

/// A PSC endpoint for Google APIs: a global forwarding rule (1.6). The program `google-front-end`
/// of the network answers on its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoogleApisEndpoint {
    /// Canonical name, `projects/P/global/forwardingRules/NAME`.
    pub self_link: SelfLink,
    /// The network in which the address answers.
    pub network: NetworkId,
    /// Its address; in no subnetwork.
    pub address: Ipv4Addr,
    /// Which APIs.
    pub bundle: ApiBundle,
    /// Names like `storage-NAME.p.googleapis.com.` get this address in the DNS of the network.
    pub automatic_dns: bool,
}

/// The APIs behind an endpoint for Google APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiBundle {
    /// `all-apis`: what `private.googleapis.com` serves.
    AllApis,
    /// `vpc-sc`: what `restricted.googleapis.com` serves.
    VpcSc,
}

/// The kinds of endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointKind {
    /// `forwardingRules` with a service attachment as target.
    ForwardingRule,
    /// Apigee `endpointAttachments`.
    EndpointAttachment,
    /// A network endpoint group of type `PRIVATE_SERVICE_CONNECT`: the backend of a load balancer,
    /// which connects by itself; nobody listens on the address.
    NetworkEndpointGroup,
}

/// What the program `service-attachment` of one producer network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAttachmentSlice {
    /// The producer network.
    pub network: NetworkId,
    /// Its attachments.
    pub attachments: Vec<ServiceAttachment>,
    /// Every endpoint that targets one of them, and every endpoint whose target does not exist
    /// (it may have been one of them: its connection is CLOSED for as long as the endpoint is
    /// there), in the order of the files (the order in which they were created).
    pub endpoints: Vec<Endpoint>,
    /// Every subnetwork of the network with purpose `PRIVATE_SERVICE_CONNECT`, whether or not an
    /// attachment uses it.
    #[serde(default)]
    pub nat_subnetworks: Vec<Ipv4Net>,
    /// Consumers on other hosts.
    #[serde(default)]
    pub remote: RemoteConsumers,
}

/// A service attachment (1.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAttachment {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Region.
    pub region: String,
    /// The producer network.
    pub network: NetworkId,
    /// The published forwarding rule.
    pub target: Target,
    /// How consumers are admitted.
    pub connection_preference: ConnectionPreference,
    /// Accept list, in the order of the file.
    pub consumer_accept_lists: Vec<Accept>,
    /// Reject list.
    pub consumer_reject_lists: Vec<Consumer>,
    /// NAT subnetworks with their ranges.
    pub nat_subnets: Vec<NatSubnet>,
    /// Send a PROXY v2 header to the target (1.5).
    pub enable_proxy_protocol: bool,
    /// Does an update of the lists act on existing connections (1.2)?
    pub reconcile_connections: bool,
    /// NAT addresses for each endpoint.
    #[serde(default = "one")]
    pub nat_ips_per_endpoint: u32,
    /// Propagated connections of one consumer, at the most (1.4).
    #[serde(default = "propagated_connection_limit")]
    pub propagated_connection_limit: u32,
    /// At most one name, with trailing dot: endpoints get names below it by themselves.
    #[serde(default)]
    pub domain_names: Vec<String>,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
    /// Free texts.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// When idle connections end.
    #[serde(default)]
    pub idle_timeouts: IdleTimeouts,
    /// The producer's organization policy that says which consumers may connect at all.
    #[serde(default)]
    pub consumer_policy: Option<ConsumerPolicy>,
}

impl ServiceAttachment {
    /// One that admits nobody yet, with the API's defaults.
    pub fn new(self_link: SelfLink, region: &str, network: NetworkId, target: Target) -> Self {
        ServiceAttachment {
            self_link,
            region: region.to_owned(),
            network,
            target,
            connection_preference: ConnectionPreference::AcceptManual,
            consumer_accept_lists: Vec::new(),
            consumer_reject_lists: Vec::new(),
            nat_subnets: Vec::new(),
            enable_proxy_protocol: false,
            reconcile_connections: false,
            nat_ips_per_endpoint: one(),
            propagated_connection_limit: propagated_connection_limit(),
            domain_names: Vec::new(),
            description: None,
            metadata: BTreeMap::new(),
            idle_timeouts: IdleTimeouts::default(),
            consumer_policy: None,
        }
    }
}

const fn one() -> u32 {
    1
}

const fn propagated_connection_limit() -> u32 {
    250
}

/// When idle connections end, in seconds. In the product these are fixed (1.4); here a topology may
/// set them under the names that Cloud NAT has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleTimeouts {
    /// `tcpEstablishedIdleTimeoutSec`: an established TCP connection.
    pub tcp_established: u32,
    /// `tcpTransitoryIdleTimeoutSec`: one that is not established yet, or half closed.
    pub tcp_transitory: u32,
    /// `udpIdleTimeoutSec`: a UDP mapping.
    pub udp: u32,
}

impl Default for IdleTimeouts {
    /// Those of the product (1.4).
    fn default() -> Self {
        IdleTimeouts { tcp_established: 20 * 60, tcp_transitory: 30, udp: 30 }
    }
}

/// What the Org Policy constraint `compute.restrictPrivateServiceConnectConsumer` says of an
/// attachment's project, its own policy and those of its folders and organization taken together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerPolicy {
    /// The nearest policy: `organizations/O/policies/compute.restrictPrivateServiceConnectConsumer`.
    pub name: String,
    /// Who may connect: all, or those below these.
    pub allowed: Allowed,
    /// Those below these may not, whatever `allowed` says.
    pub denied: Vec<String>,
}

/// The allowed values of a list constraint: resources as in [`Endpoint::ancestry`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Allowed {
    /// `allowAll`, or a policy that only denies.
    All,
    /// `allowedValues`; none under `denyAll`.
    Values(Vec<String>),
}

/// The forwarding rule that a service attachment publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its canonical name.
    pub forwarding_rule: SelfLink,
    /// Its address in the producer network.
    pub address: Ipv4Addr,
    /// Its ports.
    pub ports: Vec<u16>,
    /// It serves every port, and `ports` is empty (`allPorts`).
    #[serde(default)]
    pub all_ports: bool,
    /// The protocol that it takes; L3_DEFAULT is not published (1.7).
    #[serde(default)]
    pub protocol: IpProtocol,
    /// Does the producer allow global access?
    pub allow_global_access: bool,
}

impl Target {
    /// Does it take this protocol and port?
    pub fn serves(&self, protocol: IpProtocol, port: u16) -> bool {
        self.protocol == protocol && (self.all_ports || self.ports.contains(&port))
    }

    /// The port that a PSC backend without `producerPort` gets: the only one; of several 443, else
    /// the first in alphabetical order; with all ports port 1, where nobody listens (1.7).
    pub fn default_port(&self) -> Option<u16> {
        match (&self.ports[..], self.all_ports) {
            (_, true) => Some(1),
            (ports, false) if ports.contains(&443) => Some(443),
            (ports, false) => ports.iter().copied().min_by_key(u16::to_string),
        }
    }
}

/// `connectionPreference`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionPreference {
    /// Everybody, unless rejected.
    AcceptAutomatic,
    /// Only who is on the accept list.
    AcceptManual,
}

/// An entry of `consumerAcceptLists`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accept {
    /// Whom.
    pub consumer: Consumer,
    /// How many accepted connections at the most.
    pub connection_limit: u32,
}

/// A consumer as a list names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Consumer {
    /// A project id, or a number in digits, as written.
    ProjectIdOrNum(String),
    /// A network, matched by name.
    NetworkUrl(NetworkId),
    /// A single endpoint.
    EndpointUrl(SelfLink),
}

/// The states of a producer network's connections, as they are kept in the state directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionHistory {
    /// The producer network.
    pub network: NetworkId,
    /// Oldest first.
    pub connections: Vec<crate::ConnectionState>,
}

/// The name of the file of a network's [`ConnectionHistory`] in the state directory.
pub fn history_file(network: &NetworkId) -> String {
    // FNV-1a: a short stable name; the content tells two networks of one hash apart.
    let hash = network.to_string().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("psc-{hash:016x}.json")
}

/// A NAT subnetwork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSubnet {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Its range; four addresses of it are unusable.
    pub range: Ipv4Net,
}

/// `pscConnectionStatus` (1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ConnectionStatus {
    /// Not accepted yet, or over the limit.
    Pending,
    /// May carry traffic.
    Accepted,
    /// On a reject list.
    Rejected,
    /// Accepted, but the producer's side is in trouble: no NAT address left.
    NeedsAttention,
    /// The service attachment was deleted; for good.
    Closed,
}

impl ConnectionStatus {
    /// May a connection in this state carry traffic (1.3)?
    pub const fn carries_traffic(self) -> bool {
        matches!(self, ConnectionStatus::Accepted | ConnectionStatus::NeedsAttention)
    }
}

impl std::fmt::Display for ConnectionStatus {
    /// The API's word: `NEEDS_ATTENTION`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ConnectionStatus::Pending => "PENDING",
            ConnectionStatus::Accepted => "ACCEPTED",
            ConnectionStatus::Rejected => "REJECTED",
            ConnectionStatus::NeedsAttention => "NEEDS_ATTENTION",
            ConnectionStatus::Closed => "CLOSED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_without_producer_port_gets_one_by_the_rule_of_1_7() {
        for (ports, all_ports, expected) in [
            (&[8080][..], false, Some(8080)),
            (&[80, 443, 1111], false, Some(443)),
            (&[80, 1111], false, Some(1111)),
            (&[], true, Some(1)),
            (&[], false, None),
        ] {
            let target = Target {
                forwarding_rule: SelfLink::regional("p", "r", "forwardingRules", "rule"),
                address: Ipv4Addr::new(10, 0, 0, 5),
                ports: ports.to_vec(),
                all_ports,
                protocol: IpProtocol::Tcp,
                allow_global_access: false,
            };
            assert_eq!(target.default_port(), expected, "{ports:?}");
        }
    }
}

//! Private Service Connect: endpoints and service attachments (private-connectivity section 1).

use crate::IpProtocol;
use ipnet::Ipv4Net;
use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What the program `endpoint-attachment` of one consumer network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointAttachmentSlice {
    /// The consumer network.
    pub network: NetworkId,
    /// Its endpoints, in the order of the files.
    pub endpoints: Vec<Endpoint>,
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
    /// The protocol that it serves on them.
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
}

impl Endpoint {
    /// Does anybody listen on its address? A load balancer's group connects by itself.
    pub fn listens(&self) -> bool {
        self.kind != EndpointKind::NetworkEndpointGroup
    }
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
    /// Its protocol.
    #[serde(default)]
    pub protocol: IpProtocol,
    /// Does the producer allow global access?
    pub allow_global_access: bool,
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

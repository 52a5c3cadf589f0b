//! Load balancers: forwarding rules, target proxies, URL maps, backend
//! services, network endpoint groups (private-connectivity sections 2 and 3).

mod backend;
mod front_end;
mod group;
mod health;
mod network;
mod route_action;
mod security;
mod url_map;

pub use backend::*;
pub use front_end::*;
pub use group::*;
pub use health::*;
pub use network::*;
pub use route_action::*;
pub use security::*;
pub use url_map::*;

/// What stands before a forwarding rule's self link in the key of the listener that publishes it on
/// the host's own loopback.
pub const NORTHBOUND: &str = "northbound ";

use names::NetworkId;
use serde::{Deserialize, Serialize};

/// What the program `internal-lb` of one network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InternalLbSlice {
    /// The network.
    pub network: NetworkId,
    /// Its forwarding rules and all that they lead to.
    pub load_balancing: LoadBalancing,
    /// Does the program carry what passthrough load balancers and target instances take? Not where
    /// the kernel does it (network namespaces).
    #[serde(default)]
    pub carries_packets: bool,
}

/// A closed set of load-balancing resources: every reference leads to a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancing {
    /// Forwarding rules of Application Load Balancers.
    pub forwarding_rules: Vec<ForwardingRule>,
    /// URL maps.
    pub url_maps: Vec<UrlMap>,
    /// Backend services.
    pub backend_services: Vec<BackendService>,
    /// Network endpoint groups.
    pub network_endpoint_groups: Vec<NetworkEndpointGroup>,
    /// Health checks.
    #[serde(default)]
    pub health_checks: Vec<HealthCheck>,
    /// Forwarding rules of Network Load Balancers and target instances.
    #[serde(default)]
    pub network_rules: Vec<NetworkForwardingRule>,
    /// Backend services of passthrough Network Load Balancers.
    #[serde(default)]
    pub passthrough_services: Vec<PassthroughService>,
    /// Security policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_policies: Vec<SecurityPolicy>,
}

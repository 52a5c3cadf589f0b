//! The internal Application Load Balancer: forwarding rules, target proxies, URL maps, backend
//! services, network endpoint groups (private-connectivity sections 2 and 3).

use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

/// What the program `internal-lb` of one network needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InternalLbSlice {
    /// The network.
    pub network: NetworkId,
    /// Its forwarding rules and all that they lead to.
    pub load_balancing: LoadBalancing,
}

/// A closed set of load-balancing resources: every reference leads to a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadBalancing {
    /// Forwarding rules of internal Application Load Balancers.
    pub forwarding_rules: Vec<ForwardingRule>,
    /// URL maps.
    pub url_maps: Vec<UrlMap>,
    /// Backend services.
    pub backend_services: Vec<BackendService>,
    /// Network endpoint groups.
    pub network_endpoint_groups: Vec<NetworkEndpointGroup>,
}

/// A forwarding rule with scheme INTERNAL_MANAGED, its target proxy resolved (2.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForwardingRule {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Network of the address.
    pub network: NetworkId,
    /// Region.
    pub region: String,
    /// Address.
    pub address: Ipv4Addr,
    /// Its one port.
    pub port: u16,
    /// May clients of other regions use it?
    pub allow_global_access: bool,
    /// The target proxy.
    pub target: TargetProxy,
}

/// A target HTTP(S) proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetProxy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// The URL map.
    pub url_map: SelfLink,
    /// Certificates in order, the first one is the default; empty: plain HTTP.
    pub ssl_certificates: Vec<SslCertificate>,
    /// Is it a target HTTPS proxy?
    pub https: bool,
    /// Client keep-alive, seconds, default 610.
    pub http_keep_alive_timeout_sec: u32,
}

/// A self-managed certificate. Without `private_key` in the file, the topology crate leaves it
/// empty and the supervisor issues a leaf of the dev CA with the same names (DESIGN.md 3 "Keys").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SslCertificate {
    /// Canonical name.
    pub self_link: SelfLink,
    /// PEM chain, leaf first.
    pub certificate: String,
    /// PEM key; empty: to be issued.
    pub private_key: String,
    /// DNS names for which a leaf is to be issued where there is no key.
    pub domains: Vec<String>,
}

/// A URL map (2.2): host rules and path rules; route rules are the next issue's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UrlMap {
    /// Canonical name.
    pub self_link: SelfLink,
    /// What happens when no host rule matches.
    pub default: RouteAction,
    /// Host rules.
    pub host_rules: Vec<HostRule>,
    /// Path matchers, by name.
    pub path_matchers: Vec<PathMatcher>,
    /// The map's own tests, run by `check`.
    pub tests: Vec<UrlMapTest>,
}

/// What a rule leads to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteAction {
    /// A backend service.
    Service(SelfLink),
    /// An answer of the load balancer's own.
    UrlRedirect(UrlRedirect),
}

/// `urlRedirect` (2.6).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UrlRedirect {
    /// Change the scheme to https.
    pub https_redirect: bool,
    /// Replace the host.
    pub host_redirect: Option<String>,
    /// Replace the whole path.
    pub path_redirect: Option<String>,
    /// Replace the matched prefix.
    pub prefix_redirect: Option<String>,
    /// Drop the query.
    pub strip_query: bool,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// A host rule (2.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRule {
    /// Patterns as written.
    pub hosts: Vec<String>,
    /// Name of the path matcher.
    pub path_matcher: String,
}

/// A path matcher with path rules (2.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathMatcher {
    /// Name inside the map.
    pub name: String,
    /// What happens when no path rule matches.
    pub default: RouteAction,
    /// Path rules; their order is of no meaning.
    pub path_rules: Vec<PathRule>,
}

/// A path rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathRule {
    /// Patterns as written.
    pub paths: Vec<String>,
    /// What they lead to.
    pub action: RouteAction,
}

/// A test of a URL map (`tests[]`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UrlMapTest {
    /// `file:line:column`.
    pub at: String,
    /// Free text.
    pub description: String,
    /// Host asked for.
    pub host: String,
    /// Path asked for.
    pub path: String,
    /// The expected backend service.
    pub service: Option<SelfLink>,
    /// The expected Cloud Run service behind the mask (`postern: {cloudRunService}`).
    pub cloud_run_service: Option<String>,
}

/// A backend service (2.10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendService {
    /// Canonical name.
    pub self_link: SelfLink,
    /// `HTTP`, `HTTPS`, `HTTP2` or `H2C`; ignored for serverless groups.
    pub protocol: String,
    /// Seconds; none for serverless groups (fixed 60 minutes).
    pub timeout_sec: Option<u32>,
    /// The groups, in order.
    pub backends: Vec<SelfLink>,
    /// `Name: value` lines.
    pub custom_request_headers: Vec<String>,
    /// `Name: value` lines.
    pub custom_response_headers: Vec<String>,
}

/// A network endpoint group (3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkEndpointGroup {
    /// Canonical name.
    pub self_link: SelfLink,
    /// What is in it.
    pub endpoints: Endpoints,
}

/// The kinds of group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoints {
    /// `SERVERLESS` with `cloudRun`.
    CloudRun(CloudRunEndpoints),
    /// `NON_GCP_PRIVATE_IP_PORT`: addresses and ports, reached from the network.
    NonGcpPrivateIpPort(Vec<SocketAddrV4>),
}

/// `cloudRun` of a serverless group: at least one of service and mask (3.1).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudRunEndpoints {
    /// Project and region in which services are looked up: the group's own.
    pub project: String,
    /// See `project`.
    pub region: String,
    /// A fixed service.
    pub service: Option<String>,
    /// A fixed tag.
    pub tag: Option<String>,
    /// A URL mask.
    pub url_mask: Option<String>,
    /// The services of this project and region and their tags; names that the mask may yield.
    pub services: Arc<Vec<KnownService>>,
}

/// A Cloud Run service as the load balancer knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownService {
    /// Short name.
    pub name: String,
    /// Tags of its traffic targets.
    pub tags: Vec<String>,
}

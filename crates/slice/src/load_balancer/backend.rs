//! Backend services (private-connectivity 2.10).

use names::SelfLink;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A backend service (2.10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendService {
    /// Canonical name.
    pub self_link: SelfLink,
    /// How backends are spoken to; ignored for serverless groups.
    pub protocol: Protocol,
    /// Seconds; none for serverless groups (fixed 60 minutes).
    pub timeout_sec: Option<u32>,
    /// Which of an instance group's named ports; the API's default is `http`.
    #[serde(default = "default_port_name")]
    pub port_name: String,
    /// The groups, in order.
    pub backends: Vec<Backend>,
    /// The health check, a member of [`LoadBalancing::health_checks`]; none: every endpoint counts
    /// as healthy.
    #[serde(default)]
    pub health_check: Option<SelfLink>,
    /// How an endpoint of the chosen group is chosen.
    #[serde(default)]
    pub locality_lb_policy: LocalityLbPolicy,
    /// What keeps a client at one endpoint.
    #[serde(default)]
    pub session_affinity: SessionAffinity,
    /// When an endpoint is left alone for some time.
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    /// Bounds towards the backends.
    #[serde(default)]
    pub circuit_breakers: Option<CircuitBreakers>,
    /// How long requests to a removed endpoint may go on, seconds, 0 to 3600 (default 0 in the
    /// API).
    #[serde(default)]
    pub draining_timeout_sec: u32,
    /// `Name: value` lines.
    pub custom_request_headers: Vec<String>,
    /// `Name: value` lines.
    pub custom_response_headers: Vec<String>,
    /// Request logs. None: `logConfig` is not set; the log then says everything at the rate 1.0
    /// here, where Google says nothing (a local tool is for looking).
    #[serde(default)]
    pub log_config: Option<LogConfig>,
    /// A member of [`LoadBalancing::security_policies`], asked before the backends are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_policy: Option<SelfLink>,
}

impl BackendService {
    /// A backend service with one group and Google's defaults.
    pub fn new(self_link: SelfLink, group: SelfLink) -> BackendService {
        BackendService {
            self_link,
            protocol: Protocol::Http,
            timeout_sec: None,
            port_name: default_port_name(),
            backends: vec![Backend::new(group)],
            health_check: None,
            locality_lb_policy: LocalityLbPolicy::default(),
            session_affinity: SessionAffinity::default(),
            outlier_detection: None,
            circuit_breakers: None,
            draining_timeout_sec: 0,
            custom_request_headers: Vec::new(),
            custom_response_headers: Vec::new(),
            log_config: None,
            security_policy: None,
        }
    }
}

fn default_port_name() -> String {
    "http".to_owned()
}

/// `protocol` of a backend service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    #[default]
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS.
    Http2,
    /// HTTP/2 without TLS.
    H2c,
    /// Bytes as they are, behind a target TCP proxy.
    Tcp,
}

/// `backends[]` of a backend service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backend {
    /// The group.
    pub group: SelfLink,
    /// What its capacity is counted in.
    #[serde(default)]
    pub balancing_mode: BalancingMode,
    /// Requests per second, or connections, of the whole group; none: without bound.
    #[serde(default)]
    pub max_per_group: Option<f64>,
    /// The same for each endpoint.
    #[serde(default)]
    pub max_per_endpoint: Option<f64>,
    /// 0.0 to 1.0, default 1.0; 0.0 drains the group.
    pub capacity_scaler: f64,
}

impl Backend {
    /// A backend with its whole capacity.
    pub fn new(group: SelfLink) -> Backend {
        Backend {
            group,
            balancing_mode: BalancingMode::default(),
            max_per_group: None,
            max_per_endpoint: None,
            capacity_scaler: 1.0,
        }
    }
}

/// `balancingMode` of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BalancingMode {
    /// Requests per second; what zonal and hybrid groups need.
    #[default]
    Rate,
    /// Connections at once.
    Connection,
    /// Without effect here (serverless groups send it).
    Utilization,
}

/// `localityLbPolicy` (2.10): which endpoint of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LocalityLbPolicy {
    /// In turn.
    #[default]
    RoundRobin,
    /// The less busy of two chosen at random.
    LeastRequest,
    /// By a consistent hash ring.
    RingHash,
    /// At random.
    Random,
    /// By a Maglev table.
    Maglev,
}

/// `sessionAffinity` (2.10) with what it needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SessionAffinity {
    /// None.
    #[default]
    None,
    /// By the client's address.
    ClientIp,
    /// By a cookie of the load balancer's own (`GCILB`).
    GeneratedCookie {
        /// Seconds; 0: for the browser's session.
        ttl_sec: u32,
    },
    /// By a request header (`consistentHash.httpHeaderName`).
    HeaderField {
        /// Its name.
        name: String,
    },
    /// By a cookie that the load balancer sets where the client brings none
    /// (`consistentHash.httpCookie`).
    HttpCookie {
        /// Its name.
        name: String,
        /// Its path.
        path: Option<String>,
        /// Seconds; none: for the browser's session.
        ttl_sec: Option<u64>,
    },
    /// By a cookie that names the endpoint itself (`strongSessionAffinityCookie`).
    StrongCookie {
        /// Its name.
        name: String,
        /// Its path.
        path: Option<String>,
        /// Seconds; none: for the browser's session.
        ttl_sec: Option<u64>,
    },
}

/// `outlierDetection` (2.10), defaults filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// 5xx and connection failures in a row, default 5.
    pub consecutive_errors: u32,
    /// 502, 503 and 504 in a row, default 3.
    pub consecutive_gateway_failure: u32,
    /// 0 to 100 percent, default 0.
    pub enforcing_consecutive_errors: u32,
    /// 0 to 100 percent, default 100.
    pub enforcing_consecutive_gateway_failure: u32,
    /// 0 to 100 percent, default 100.
    pub enforcing_success_rate: u32,
    /// Endpoints that must have enough requests, default 5.
    pub success_rate_minimum_hosts: u32,
    /// Requests that are enough, default 100.
    pub success_rate_request_volume: u32,
    /// Thousandths of a standard deviation, default 1900.
    pub success_rate_stdev_factor: u32,
    /// Between two looks, default 1 s (APIC) .
    pub interval: Duration,
    /// Times the number of ejections, default 30 s.
    pub base_ejection_time: Duration,
    /// Of all endpoints, default 50.
    pub max_ejection_percent: u32,
}

/// `circuitBreakers`: most at once, of one program; none: without bound.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CircuitBreakers {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests.
    pub max_requests: Option<u32>,
    /// Requests that a connection serves before it is closed.
    pub max_requests_per_connection: Option<u32>,
    /// Retries.
    pub max_retries: Option<u32>,
}

/// `optionalFields` of [`LogConfig`] that an internal load balancer has.
pub const LOG_OPTIONAL_FIELDS: [&str; 2] = ["tls.protocol", "tls.cipher"];

/// `logConfig` (2.9).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Are requests logged?
    pub enable: bool,
    /// 0.0 to 1.0, default 1.0.
    pub sample_rate: f64,
    /// Of [`LOG_OPTIONAL_FIELDS`]; `*` stands for all of them.
    pub optional_fields: Vec<String>,
    /// Names of request headers to be logged.
    pub request_headers: Vec<String>,
    /// Names of response headers to be logged.
    pub response_headers: Vec<String>,
}

//! The internal Application Load Balancer: forwarding rules, target proxies, URL maps, backend
//! services, network endpoint groups (private-connectivity sections 2 and 3).

use names::{NetworkId, SelfLink};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

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
    /// Health checks.
    #[serde(default)]
    pub health_checks: Vec<HealthCheck>,
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
    /// Address of the region's proxy-only subnet from which backends in the network are spoken to
    /// (2.1); none: there is no such subnet.
    #[serde(default)]
    pub proxy_address: Option<Ipv4Addr>,
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
    /// `sslPolicy`; none: the default policy (COMPATIBLE, TLS 1.0 in name; TLS 1.2 here).
    #[serde(default)]
    pub ssl_policy: Option<SslPolicy>,
    /// `serverTlsPolicy`: clients show a certificate.
    #[serde(default)]
    pub server_tls_policy: Option<ServerTlsPolicy>,
    /// Ours (`postern: {acceptProxyProtocol: true}`): connections begin with a PROXY v2 header,
    /// which names the client.
    #[serde(default)]
    pub accept_proxy_protocol: bool,
}

impl TargetProxy {
    /// A target HTTP proxy with Google's defaults.
    pub fn new(self_link: SelfLink, url_map: SelfLink) -> TargetProxy {
        TargetProxy {
            self_link,
            url_map,
            ssl_certificates: Vec::new(),
            https: false,
            http_keep_alive_timeout_sec: 610,
            ssl_policy: None,
            server_tls_policy: None,
            accept_proxy_protocol: false,
        }
    }
}

/// `sslPolicies[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SslPolicy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// Oldest version.
    pub min_tls_version: TlsVersion,
    /// Cipher suites in Google's spelling (`enabledFeatures`), those of the profile or the custom
    /// ones.
    pub features: Vec<String>,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2, also where a policy says 1.0 or 1.1, which are not spoken here.
    #[serde(rename = "TLS_1_2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "TLS_1_3")]
    Tls13,
}

/// `mtlsPolicy` of a server TLS policy, its trust config resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServerTlsPolicy {
    /// Canonical name.
    pub self_link: SelfLink,
    /// `ALLOW_INVALID_OR_MISSING_CLIENT_CERT`, else `REJECT_INVALID`.
    pub allow_invalid_or_missing: bool,
    /// PEM of the trust anchors.
    pub trust_anchors: Vec<String>,
    /// PEM of intermediate CAs.
    pub intermediate_cas: Vec<String>,
    /// PEM of certificates that are good as they are.
    pub allowlisted_certificates: Vec<String>,
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

/// A URL map (2.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UrlMap {
    /// Canonical name.
    pub self_link: SelfLink,
    /// What happens when no host rule matches.
    pub default: Route,
    /// Header changes for every request that this map forwards; the outermost level.
    #[serde(default, skip_serializing_if = "HeaderAction::is_empty")]
    pub header_action: HeaderAction,
    /// Host rules.
    pub host_rules: Vec<HostRule>,
    /// Path matchers, by name.
    pub path_matchers: Vec<PathMatcher>,
    /// The map's own tests, run by `check`.
    pub tests: Vec<UrlMapTest>,
    /// Ours (`postern: {seed}`): what weights, faults and mirrors throw is the same in every run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl UrlMap {
    /// A map with nothing but a default.
    pub fn new(self_link: SelfLink, default: Route) -> UrlMap {
        UrlMap {
            self_link,
            default,
            header_action: HeaderAction::default(),
            host_rules: Vec::new(),
            path_matchers: Vec::new(),
            tests: Vec::new(),
            seed: None,
        }
    }
}

/// What a rule or a default leads to: one destination, and what `routeAction` says besides (2.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub to: Destination,
    /// `routeAction` without its weighted backend services; none: nothing but defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Box<RouteAction>>,
}

impl Route {
    /// A route without a `routeAction`.
    pub fn new(to: Destination) -> Route {
        Route { to, action: None }
    }

    /// A route to one backend service.
    pub fn service(link: SelfLink) -> Route {
        Route::new(Destination::Service(link))
    }

    /// The backend services that the route can lead to, mirrors included.
    pub fn services(&self) -> impl Iterator<Item = &SelfLink> {
        let (one, many) = match &self.to {
            Destination::Service(link) => (Some(link), &[][..]),
            Destination::Weighted(all) => (None, &all[..]),
            Destination::UrlRedirect(_) => (None, &[][..]),
        };
        let mirror = self.action.as_ref().and_then(|action| action.request_mirror_policy.as_ref());
        let weighted = many.iter().map(|one| &one.backend_service);
        one.into_iter().chain(weighted).chain(mirror.map(|mirror| &mirror.backend_service))
    }
}

/// Where a route leads: exactly one of the three (2.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Destination {
    /// A backend service.
    Service(SelfLink),
    /// `weightedBackendServices`; at least one weight is not zero.
    Weighted(Vec<WeightedBackendService>),
    /// An answer of the load balancer's own.
    UrlRedirect(UrlRedirect),
}

/// An entry of `weightedBackendServices` (2.6): its share is its weight over the sum of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightedBackendService {
    /// The backend service.
    pub backend_service: SelfLink,
    /// 0 to 1000.
    pub weight: u32,
    /// Header changes for what goes there; the innermost level.
    #[serde(default, skip_serializing_if = "HeaderAction::is_empty")]
    pub header_action: HeaderAction,
}

/// `routeAction` (2.6).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteAction {
    /// Changes of host and path.
    pub url_rewrite: Option<UrlRewrite>,
    /// From the end of the request to the end of the answer, retries included; none: the largest
    /// timeout of the route's backend services.
    pub timeout: Option<Duration>,
    /// When a request is sent again; none: once, if it has no body and got 502, 503 or 504.
    pub retry_policy: Option<RetryPolicy>,
    /// A copy of the request for another backend service.
    pub request_mirror_policy: Option<RequestMirrorPolicy>,
    /// Cross-origin requests.
    pub cors_policy: Option<CorsPolicy>,
    /// Delays and aborts on purpose.
    pub fault_injection_policy: Option<FaultInjectionPolicy>,
}

/// `urlRewrite` (2.6); at most one of the three path forms.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UrlRewrite {
    /// Replaces `Host`.
    pub host_rewrite: Option<String>,
    /// Replaces the matched portion of the path.
    pub path_prefix_rewrite: Option<String>,
    /// Replaces the whole path, with the variables of the matched path template.
    pub path_template_rewrite: Option<String>,
    /// Replaces what a pattern matches in the path.
    pub regex_rewrite: Option<RegexRewrite>,
}

/// `regexRewrite` (2.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegexRewrite {
    /// RE2.
    pub path_pattern: String,
    /// May name groups, as `\1`.
    pub path_substitution: String,
}

/// `retryPolicy` (2.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How often at the most, default 1.
    pub num_retries: u32,
    /// For each try; none: the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// When.
    pub retry_conditions: Vec<RetryCondition>,
}

/// A word of `retryConditions` (2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryCondition {
    /// Any 5xx, and no answer at all: disconnect, reset, read timeout, refused.
    #[serde(rename = "5xx")]
    ServerError,
    /// 502, 503, 504.
    GatewayError,
    /// The connection did not come about.
    ConnectFailure,
    /// 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// The backend reset the stream with REFUSED_STREAM.
    RefusedStream,
    /// gRPC status 1.
    Cancelled,
    /// gRPC status 4.
    DeadlineExceeded,
    /// gRPC status 13.
    Internal,
    /// gRPC status 8.
    ResourceExhausted,
    /// gRPC status 14.
    Unavailable,
}

/// `requestMirrorPolicy` (2.6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestMirrorPolicy {
    /// Where the copy goes; its answer is thrown away.
    pub backend_service: SelfLink,
    /// 0.0 to 100.0, default 100.
    pub mirror_percent: f64,
}

/// `corsPolicy` (2.6).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorsPolicy {
    /// Origins, as they stand in `Origin`; `*` is any.
    pub allow_origins: Vec<String>,
    /// RE2, whole match.
    pub allow_origin_regexes: Vec<String>,
    /// `access-control-allow-methods`.
    pub allow_methods: Vec<String>,
    /// `access-control-allow-headers`.
    pub allow_headers: Vec<String>,
    /// `access-control-expose-headers`.
    pub expose_headers: Vec<String>,
    /// Seconds, `access-control-max-age`.
    pub max_age: Option<i32>,
    /// `access-control-allow-credentials`.
    pub allow_credentials: bool,
    /// The policy is there, and not in force.
    pub disabled: bool,
}

/// `faultInjectionPolicy` (2.6).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FaultInjectionPolicy {
    /// Wait before forwarding.
    pub delay: Option<FaultDelay>,
    /// Answer without forwarding.
    pub abort: Option<FaultAbort>,
}

/// `faultInjectionPolicy.delay`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultDelay {
    /// How long.
    pub fixed_delay: Duration,
    /// 0.0 to 100.0.
    pub percentage: f64,
}

/// `faultInjectionPolicy.abort`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultAbort {
    /// 200 to 599.
    pub http_status: u16,
    /// 0.0 to 100.0.
    pub percentage: f64,
}

/// `headerAction` (2.6). Levels apply in the order weighted backend service, route rule, path
/// matcher, URL map; within one level what is removed goes first ((unconfirmed)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeaderAction {
    /// Set or added.
    pub request_headers_to_add: Vec<HeaderOption>,
    /// Removed.
    pub request_headers_to_remove: Vec<String>,
    /// Set or added.
    pub response_headers_to_add: Vec<HeaderOption>,
    /// Removed.
    pub response_headers_to_remove: Vec<String>,
}

impl HeaderAction {
    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.request_headers_to_add.is_empty()
            && self.request_headers_to_remove.is_empty()
            && self.response_headers_to_add.is_empty()
            && self.response_headers_to_remove.is_empty()
    }
}

/// A header to add.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderOption {
    /// Its name.
    pub header_name: String,
    /// Its value.
    pub header_value: String,
    /// Replace those that are there, or stand beside them.
    pub replace: bool,
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

/// A path matcher: path rules (2.4) or route rules (2.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathMatcher {
    /// Name inside the map.
    pub name: String,
    /// What happens when no rule matches.
    pub default: Route,
    /// Header changes for every request that this matcher forwards.
    #[serde(default, skip_serializing_if = "HeaderAction::is_empty")]
    pub header_action: HeaderAction,
    /// Its rules.
    pub rules: Rules,
}

impl PathMatcher {
    /// A matcher without header changes.
    pub fn new(name: impl Into<String>, default: Route, rules: Rules) -> PathMatcher {
        PathMatcher { name: name.into(), default, header_action: HeaderAction::default(), rules }
    }
}

/// The rules of a path matcher: one kind or the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rules {
    /// Their order is of no meaning.
    PathRules(Vec<PathRule>),
    /// Sorted by priority, which is unique.
    RouteRules(Vec<RouteRule>),
}

/// A path rule (2.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathRule {
    /// Patterns as written.
    pub paths: Vec<String>,
    /// What they lead to.
    pub route: Route,
}

/// A route rule (2.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteRule {
    /// The lowest number goes first.
    pub priority: u32,
    /// Free text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// One of these must match.
    pub match_rules: Vec<MatchRule>,
    /// What they lead to.
    pub route: Route,
    /// Header changes for what this rule forwards.
    #[serde(default, skip_serializing_if = "HeaderAction::is_empty")]
    pub header_action: HeaderAction,
}

/// A match rule: all of it must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatchRule {
    /// The path.
    pub path: PathPredicate,
    /// For prefix and full matches.
    pub ignore_case: bool,
    /// Headers.
    pub header_matches: Vec<HeaderMatch>,
    /// Query parameters.
    pub query_parameter_matches: Vec<QueryParameterMatch>,
}

/// What a match rule says of the path: exactly one (2.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathPredicate {
    /// The path begins with this text.
    PrefixMatch(String),
    /// The path is this text.
    FullPathMatch(String),
    /// RE2, whole match.
    RegexMatch(String),
    /// A path template.
    PathTemplateMatch(String),
}

/// `headerMatches[]` (2.5). `:authority`, `:method` and `PORT` are names too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// The header's name, as written.
    pub header_name: String,
    /// What its value must be.
    pub value: HeaderPredicate,
    /// The opposite counts.
    pub invert_match: bool,
}

/// What a header match says of the value: exactly one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HeaderPredicate {
    /// The value is this text.
    ExactMatch(String),
    /// The value begins with this text.
    PrefixMatch(String),
    /// The value ends with this text.
    SuffixMatch(String),
    /// RE2, whole match.
    RegexMatch(String),
    /// The header is there, or is not.
    PresentMatch(bool),
    /// The value is an integer from `start` to below `end`.
    RangeMatch {
        /// Inclusive.
        start: i64,
        /// Exclusive.
        end: i64,
    },
}

/// `queryParameterMatches[]` (2.5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueryParameterMatch {
    /// The parameter's name.
    pub name: String,
    /// What its value must be.
    pub value: QueryPredicate,
}

/// What a query-parameter match says of the value: exactly one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum QueryPredicate {
    /// The value is this text.
    ExactMatch(String),
    /// RE2, whole match.
    RegexMatch(String),
    /// The parameter is there, or is not.
    PresentMatch(bool),
}

/// A test of a URL map (`tests[]`, 2.6).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UrlMapTest {
    /// `file:line:column`.
    pub at: String,
    /// Free text.
    pub description: String,
    /// Host asked for.
    pub host: String,
    /// Path and query asked for.
    pub path: String,
    /// Request headers, name and value.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The expected backend service.
    pub service: Option<SelfLink>,
    /// The expected URL after rewrite or redirect.
    #[serde(default)]
    pub expected_output_url: Option<String>,
    /// The expected status of a redirect; excludes `service`.
    #[serde(default)]
    pub expected_redirect_response_code: Option<u16>,
    /// The expected Cloud Run service behind the mask (`postern: {cloudRunService}`).
    pub cloud_run_service: Option<String>,
}

/// A backend service (2.10).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendService {
    /// Canonical name.
    pub self_link: SelfLink,
    /// How backends are spoken to; ignored for serverless groups.
    pub protocol: Protocol,
    /// Seconds; none for serverless groups (fixed 60 minutes).
    pub timeout_sec: Option<u32>,
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
}

impl BackendService {
    /// A backend service with one group and Google's defaults.
    pub fn new(self_link: SelfLink, group: SelfLink) -> BackendService {
        BackendService {
            self_link,
            protocol: Protocol::Http,
            timeout_sec: None,
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
        }
    }
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

/// A health check, defaults filled in: a regional one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// Canonical name.
    pub self_link: SelfLink,
    /// What is asked.
    pub probe: Probe,
    /// The port; none: that of the endpoint (`USE_SERVING_PORT`).
    pub port: Option<u16>,
    /// A PROXY v1 header first (`proxyHeader: PROXY_V1`).
    pub proxy_header: bool,
    /// Between the beginnings of two probes, default 5 s.
    pub check_interval: Duration,
    /// Default 5 s, never above the interval.
    pub timeout: Duration,
    /// Successes in a row that make it healthy, default 2.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy, default 2.
    pub unhealthy_threshold: u32,
    /// Changes of state are logged.
    pub log: bool,
}

/// What a health check asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Probe {
    /// Status 200 within the timeout, and a text in the first 1024 bytes of the body.
    Http {
        /// HTTP, HTTPS, HTTP2; H2C is for gRPC-less h2c backends.
        protocol: Protocol,
        /// `Host`; empty: the endpoint's address.
        host: String,
        /// Default `/`.
        request_path: String,
        /// Must stand in the body; empty: anything.
        response: String,
    },
    /// gRPC's health protocol.
    Grpc {
        /// Empty: the whole server.
        service_name: String,
        /// Over TLS (`GRPC_WITH_TLS`).
        tls: bool,
    },
    /// A connection, and optionally an exchange of texts.
    Tcp {
        /// Over TLS (`SSL`).
        tls: bool,
        /// Sent; may be empty.
        request: String,
        /// The answer must begin with this; may be empty.
        response: String,
    },
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
    /// `GCE_VM_IP_PORT`, `NON_GCP_PRIVATE_IP_PORT`, `INTERNET_IP_PORT`: reached from the network.
    Addresses {
        /// Which of the three, in Google's spelling.
        network_endpoint_type: String,
        /// Addresses and ports.
        endpoints: Vec<SocketAddrV4>,
    },
    /// `INTERNET_FQDN_PORT`: resolved by the network's own resolver.
    Fqdn(Vec<FqdnEndpoint>),
    /// `PRIVATE_SERVICE_CONNECT`: a service attachment, reached without an address.
    ServiceAttachment(ServiceAttachmentEndpoint),
}

/// An endpoint of a group of type `INTERNET_FQDN_PORT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FqdnEndpoint {
    /// The name.
    pub fqdn: String,
    /// The port.
    pub port: u16,
}

/// What a group of type `PRIVATE_SERVICE_CONNECT` leads to. The group is a PSC endpoint of its
/// network, and stands among [`crate::Topology::endpoints`] with the group's self link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAttachmentEndpoint {
    /// The endpoint, as the service attachment admits it.
    pub endpoint: crate::psc::Endpoint,
    /// The producer's port (`pscData.producerPort`), or the only one that the attachment's target
    /// serves.
    pub producer_port: u16,
}

impl NetworkEndpointGroup {
    /// A hybrid group.
    pub fn addresses(self_link: SelfLink, endpoints: Vec<SocketAddrV4>) -> NetworkEndpointGroup {
        let network_endpoint_type = "NON_GCP_PRIVATE_IP_PORT".to_owned();
        let endpoints = Endpoints::Addresses { network_endpoint_type, endpoints };
        NetworkEndpointGroup { self_link, endpoints }
    }
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

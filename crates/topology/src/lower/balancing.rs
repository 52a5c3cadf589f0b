//! How a backend service spreads requests: capacities, affinity, outlier detection, logs
//! (private-connectivity 2.9, 2.10).

use super::Lowering;
use super::routes::{duration, positive};
use crate::decode::{At, Number};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::backends::{
    Backend, BackendService, BalancingMode, CircuitBreakers, HttpCookie, LocalityLbPolicy,
    LogConfig, LogOptionalMode, LoggedHeader, NetworkEndpointType, OutlierDetection,
    SessionAffinity,
};
use balancing::Affinity;
use http::HeaderName;
use names::SelfLink;
use slice::load_balancer as lb;
use std::time::Duration;

impl NetworkEndpointType {
    /// Does Google ask for a health check?
    pub(crate) fn is_probed(self) -> bool {
        matches!(self, NetworkEndpointType::GceVmIpPort | NetworkEndpointType::NonGcpPrivateIpPort)
    }
}

impl Backend {
    /// The target capacities, by name.
    pub(crate) fn maxima(&self) -> [(&'static str, &Option<At<Number>>); 7] {
        [
            ("maxUtilization", &self.max_utilization),
            ("maxRate", &self.max_rate),
            ("maxRatePerEndpoint", &self.max_rate_per_endpoint),
            ("maxRatePerInstance", &self.max_rate_per_instance),
            ("maxConnections", &self.max_connections),
            ("maxConnectionsPerEndpoint", &self.max_connections_per_endpoint),
            ("maxConnectionsPerInstance", &self.max_connections_per_instance),
        ]
    }
}

/// The kind of a backend's group; none: an instance group.
pub(crate) type GroupKind = Option<NetworkEndpointType>;

/// Does Google ask for a health check?
pub(crate) fn is_probed(kind: GroupKind) -> bool {
    kind.is_none_or(NetworkEndpointType::is_probed)
}

/// Groups of one backend service are of one kind; zonal and hybrid ones go together.
pub(crate) fn one_kind(kinds: &[(GroupKind, Mark)], findings: &mut Findings) {
    let Some((first, _)) = kinds.first() else { return };
    let probed = |kind: &GroupKind| kind.is_some_and(NetworkEndpointType::is_probed);
    let fits = |kind: &GroupKind| kind == first || probed(kind) && probed(first);
    if let Some((_, at)) = kinds.iter().find(|(kind, _)| !fits(kind)) {
        findings.error(
            Code::BackendGroup,
            *at,
            "the backend service has groups of kinds that do not mix",
            "use one backend service per kind; zonal and hybrid groups go together",
        );
    }
    if let (Some(NetworkEndpointType::PrivateServiceConnect), Some((_, at))) = (first, kinds.get(1))
    {
        findings.error(
            Code::BackendGroup,
            *at,
            "a backend service takes one group of type PRIVATE_SERVICE_CONNECT in a region",
            "use weightedBackendServices for more than one published service",
        );
    }
}

/// A backend with its capacity.
pub(crate) fn balanced(
    raw: &Backend,
    group: SelfLink,
    kind: GroupKind,
    tcp: bool,
    findings: &mut Findings,
) -> lb::Backend {
    let serverless = kind == Some(NetworkEndpointType::Serverless);
    let mut backend = lb::Backend::new(group);
    if let Some(scaler) = &raw.capacity_scaler {
        if scaler.value.0 > 1.0 {
            findings.error(
                Code::InvalidValue,
                scaler.at,
                format!("{} is no capacity; it goes from 0.0 to 1.0", scaler.value.0),
                "write a number from 0.0 to 1.0",
            );
        } else if serverless && scaler.value.0 != 1.0 {
            findings.error(
                Code::ServerlessBackend,
                scaler.at,
                "`capacityScaler` is not supported for serverless groups",
                "remove `capacityScaler`",
            );
        }
        backend.capacity_scaler = scaler.value.0;
    }
    if serverless {
        return backend; // modes and maxima are accepted, without effect (2.10)
    }
    // What capacity is counted in: requests, or connections behind a target TCP proxy (APIC).
    let (mode, word) = match tcp {
        true => (BalancingMode::Connection, "CONNECTION"),
        false => (BalancingMode::Rate, "RATE"),
    };
    if let Some(given) = raw.balancing_mode.as_ref().filter(|given| given.value != mode) {
        match given.value {
            BalancingMode::CustomMetrics => findings.error(
                Code::NotYetSupported,
                given.at,
                "balancing by custom metrics is not supported",
                format!("write balancingMode: {word}"),
            ),
            BalancingMode::Utilization if kind.is_none() => findings.warning(
                Code::NotYetHonoured,
                given.at,
                "nobody measures the utilization of VMs here; the group has no bound",
                format!("write balancingMode: {word}"),
            ),
            _ => findings.error(
                Code::InvalidValue,
                given.at,
                format!("the balancing mode of a group behind this load balancer is {word}"),
                format!("write balancingMode: {word}"),
            ),
        }
    }
    let of_group = if tcp { "maxConnections" } else { "maxRate" };
    let of_one = match (tcp, kind) {
        (true, Some(_)) => "maxConnectionsPerEndpoint",
        (true, None) => "maxConnectionsPerInstance",
        (false, Some(_)) => "maxRatePerEndpoint",
        (false, None) => "maxRatePerInstance",
    };
    for (name, max) in raw.maxima() {
        let Some(max) = max else { continue };
        if name == of_group {
            backend.max_per_group = Some(max.value.0);
        } else if name == of_one {
            backend.max_per_endpoint = Some(max.value.0);
        } else if name == "maxUtilization" && kind.is_none() {
            // An export carries it; see `balancingMode`.
        } else {
            findings.error(
                Code::ConflictingFields,
                max.at,
                format!("`{name}` does not go with balancingMode {word} and this kind of group"),
                format!("write {of_group} or {of_one}"),
            );
        }
    }
    if tcp {
        backend.balancing_mode = lb::BalancingMode::Connection;
    }
    backend
}

fn no_name(at: Mark, what: &str, fix: &str, findings: &mut Findings) {
    findings.error(Code::MissingField, at, what.to_owned(), fix.to_owned());
}

fn cookie_ttl(raw: &HttpCookie) -> Option<u64> {
    raw.ttl.as_ref().map(|ttl| duration(ttl).as_secs())
}

/// `sessionAffinity` with the fields that it needs; those of another affinity are named.
pub(crate) fn session_affinity(
    raw: &BackendService,
    findings: &mut Findings,
) -> lb::SessionAffinity {
    idle_affinity_fields(raw, findings);
    let lowered = affinity_of(raw, findings);
    // Names are judged by whoever compares with them. The policy does not matter for that.
    if let Some(affinity) = &raw.session_affinity
        && let Err(why) = Affinity::new(&lowered, lb::LocalityLbPolicy::Maglev)
    {
        findings.error(Code::InvalidValue, affinity.at, why, "write another name");
    }
    lowered
}

/// Fields that have an effect under one affinity only.
fn idle_affinity_fields(raw: &BackendService, findings: &mut Findings) {
    let affinity = raw.session_affinity.as_ref().map(|affinity| affinity.value);
    let hash = raw.consistent_hash.as_ref();
    let mut idle = |at: Option<Mark>, what: &str, of: SessionAffinity, name: &str| {
        if let Some(at) = at.filter(|_| affinity != Some(of)) {
            findings.warning(
                Code::NoEffect,
                at,
                format!("`{what}` has no effect without sessionAffinity: {name}"),
                format!("remove it, or write sessionAffinity: {name}"),
            );
        }
    };
    let header = hash.and_then(|hash| hash.http_header_name.as_ref()).map(|name| name.at);
    idle(header, "httpHeaderName", SessionAffinity::HeaderField, "HEADER_FIELD");
    let cookie = hash.and_then(|hash| hash.http_cookie.as_ref()).map(|cookie| cookie.at);
    idle(cookie, "httpCookie", SessionAffinity::HttpCookie, "HTTP_COOKIE");
    let strong = raw.strong_session_affinity_cookie.as_ref().map(|cookie| cookie.at);
    let name = "STRONG_COOKIE_AFFINITY";
    idle(strong, "strongSessionAffinityCookie", SessionAffinity::StrongCookie, name);
    let ttl = raw.affinity_cookie_ttl_sec.as_ref().filter(|ttl| ttl.value.0 != 0);
    let ttl = ttl.map(|ttl| ttl.at);
    idle(ttl, "affinityCookieTtlSec", SessionAffinity::GeneratedCookie, "GENERATED_COOKIE");
}

fn affinity_of(raw: &BackendService, findings: &mut Findings) -> lb::SessionAffinity {
    let Some(affinity) = &raw.session_affinity else { return lb::SessionAffinity::None };
    let hash = raw.consistent_hash.as_ref();
    match affinity.value {
        SessionAffinity::None => lb::SessionAffinity::None,
        SessionAffinity::ClientIp => lb::SessionAffinity::ClientIp,
        SessionAffinity::GeneratedCookie => lb::SessionAffinity::GeneratedCookie {
            ttl_sec: raw
                .affinity_cookie_ttl_sec
                .as_ref()
                .map_or(0, |ttl| ttl.value.0.unsigned_abs() as u32),
        },
        SessionAffinity::HeaderField => {
            let Some(name) = hash.and_then(|hash| hash.http_header_name.as_ref()) else {
                let what = "HEADER_FIELD needs the header's name";
                no_name(affinity.at, what, "add consistentHash: {httpHeaderName: NAME}", findings);
                return lb::SessionAffinity::None;
            };
            lb::SessionAffinity::HeaderField { name: name.value.clone() }
        }
        SessionAffinity::HttpCookie => {
            let cookie = hash.and_then(|hash| hash.http_cookie.as_ref());
            let Some((cookie, name)) = cookie.and_then(|one| Some((one, one.name.as_ref()?)))
            else {
                let what = "HTTP_COOKIE needs the cookie's name";
                let fix = "add consistentHash: {httpCookie: {name: NAME, ttl: {seconds: 3600}}}";
                no_name(affinity.at, what, fix, findings);
                return lb::SessionAffinity::None;
            };
            lb::SessionAffinity::HttpCookie {
                name: name.value.clone(),
                path: cookie.path.as_ref().map(|path| path.value.clone()),
                ttl_sec: cookie_ttl(cookie),
            }
        }
        SessionAffinity::StrongCookie => {
            let cookie = raw.strong_session_affinity_cookie.as_ref();
            let Some((cookie, name)) = cookie.and_then(|one| Some((one, one.name.as_ref()?)))
            else {
                let what = "STRONG_COOKIE_AFFINITY needs the cookie's name";
                let fix = "add strongSessionAffinityCookie: {name: NAME, ttl: {seconds: 3600}}";
                no_name(affinity.at, what, fix, findings);
                return lb::SessionAffinity::None;
            };
            lb::SessionAffinity::StrongCookie {
                name: name.value.clone(),
                path: cookie.path.as_ref().map(|path| path.value.clone()),
                ttl_sec: cookie_ttl(cookie),
            }
        }
        SessionAffinity::ClientIpProto
        | SessionAffinity::ClientIpPortProto
        | SessionAffinity::ClientIpNoDestination => {
            findings.error(
                Code::InvalidValue,
                affinity.at,
                "this affinity is for passthrough load balancers",
                "write NONE, CLIENT_IP, GENERATED_COOKIE, HEADER_FIELD, HTTP_COOKIE or STRONG_COOKIE_AFFINITY",
            );
            lb::SessionAffinity::None
        }
    }
}

impl Lowering<'_> {
    /// "Default ROUND_ROBIN, or MAGLEV once affinity is set" (2.10).
    pub(crate) fn locality_lb_policy(
        &self,
        raw: &BackendService,
        findings: &mut Findings,
    ) -> lb::LocalityLbPolicy {
        let affinity = raw.session_affinity.as_ref().map(|affinity| affinity.value);
        let hashed =
            !matches!(affinity, None | Some(SessionAffinity::None | SessionAffinity::StrongCookie));
        let Some(policy) = &raw.locality_lb_policy else {
            return match hashed {
                true => lb::LocalityLbPolicy::Maglev,
                false => lb::LocalityLbPolicy::RoundRobin,
            };
        };
        let chosen = match policy.value {
            LocalityLbPolicy::RoundRobin => lb::LocalityLbPolicy::RoundRobin,
            LocalityLbPolicy::LeastRequest => lb::LocalityLbPolicy::LeastRequest,
            LocalityLbPolicy::RingHash => lb::LocalityLbPolicy::RingHash,
            LocalityLbPolicy::Random => lb::LocalityLbPolicy::Random,
            LocalityLbPolicy::Maglev => lb::LocalityLbPolicy::Maglev,
            _ => {
                findings.error(
                    Code::NotYetSupported,
                    policy.at,
                    "this locality policy is not for internal Application Load Balancers",
                    "write ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH or MAGLEV",
                );
                lb::LocalityLbPolicy::RoundRobin
            }
        };
        let by_hash =
            matches!(chosen, lb::LocalityLbPolicy::RingHash | lb::LocalityLbPolicy::Maglev);
        if hashed && !by_hash {
            findings.warning(
                Code::NoEffect,
                policy.at,
                "this locality policy makes the session affinity without effect",
                "write RING_HASH or MAGLEV",
            );
        }
        chosen
    }
}

/// Defaults as in 2.10; those that it does not give are Envoy's.
pub(crate) fn outlier_detection(
    raw: &OutlierDetection,
    findings: &mut Findings,
) -> lb::OutlierDetection {
    let count = |value: Option<i64>, default: u32| {
        value.map_or(default, |value| value.unsigned_abs() as u32)
    };
    let mut seconds = |raw: &Option<crate::fields::url_maps::Duration>, what, default| {
        raw.as_ref().map_or(Duration::from_secs(default), |raw| positive(raw, what, findings))
    };
    lb::OutlierDetection {
        consecutive_errors: count(raw.consecutive_errors.map(|n| n.0), 5),
        consecutive_gateway_failure: count(raw.consecutive_gateway_failure.map(|n| n.0), 3),
        enforcing_consecutive_errors: count(raw.enforcing_consecutive_errors.map(|n| n.0), 0),
        enforcing_consecutive_gateway_failure: count(
            raw.enforcing_consecutive_gateway_failure.map(|n| n.0),
            100,
        ),
        enforcing_success_rate: count(raw.enforcing_success_rate.map(|n| n.0), 100),
        success_rate_minimum_hosts: count(raw.success_rate_minimum_hosts.map(|n| n.0), 5),
        success_rate_request_volume: count(raw.success_rate_request_volume.map(|n| n.0), 100),
        success_rate_stdev_factor: count(raw.success_rate_stdev_factor.map(|n| n.0), 1900),
        interval: seconds(&raw.interval, "interval", 1),
        base_ejection_time: seconds(&raw.base_ejection_time, "baseEjectionTime", 30),
        max_ejection_percent: count(raw.max_ejection_percent.map(|n| n.0), 50),
    }
}

pub(crate) fn circuit_breakers(raw: &CircuitBreakers) -> lb::CircuitBreakers {
    lb::CircuitBreakers {
        max_connections: raw.max_connections.map(|n| n.0.unsigned_abs() as u32),
        max_pending_requests: raw.max_pending_requests.map(|n| n.0.unsigned_abs() as u32),
        max_requests: raw.max_requests.map(|n| n.0.unsigned_abs() as u32),
        max_requests_per_connection: raw
            .max_requests_per_connection
            .map(|n| n.0.unsigned_abs() as u32),
        max_retries: raw.max_retries.map(|n| n.0.unsigned_abs() as u32),
    }
}

pub(crate) fn log_config(raw: &LogConfig, findings: &mut Findings) -> lb::LogConfig {
    if let Some(rate) = raw.sample_rate.as_ref().filter(|rate| rate.value.0 > 1.0) {
        findings.error(
            Code::InvalidValue,
            rate.at,
            format!("{} is no sample rate; it goes from 0.0 to 1.0", rate.value.0),
            "write a number from 0.0 to 1.0",
        );
    }
    let mut names = |all: &[LoggedHeader]| {
        for name in all.iter().map(|one| &one.header_name) {
            if HeaderName::try_from(name.as_str()).is_err() {
                findings.error(
                    Code::InvalidValue,
                    name.at,
                    format!("`{}` is no header name", name.value),
                    "write a name such as x-request-id",
                );
            }
        }
        all.iter().map(|one| one.header_name.value.clone()).collect()
    };
    let request_headers = names(&raw.logging_http_request_headers);
    let response_headers = names(&raw.logging_http_response_headers);
    lb::LogConfig {
        enable: raw.enable.unwrap_or(false),
        sample_rate: raw.sample_rate.as_ref().map_or(1.0, |rate| rate.value.0),
        optional_fields: match raw.optional_mode {
            Some(LogOptionalMode::Include) => vec!["*".to_owned()],
            Some(LogOptionalMode::Custom) => {
                let known = |field: &&At<String>| lb::LOG_OPTIONAL_FIELDS.contains(&&*field.value);
                for unknown in raw.optional_fields.iter().filter(|field| !known(field)) {
                    findings.warning(
                        Code::NotYetHonoured,
                        unknown.at,
                        format!("the log has no optional field `{}`", unknown.value),
                        format!("its optional fields are {}", lb::LOG_OPTIONAL_FIELDS.join(", ")),
                    );
                }
                let known = raw.optional_fields.iter().filter(known);
                known.map(|field| field.value.clone()).collect()
            }
            None | Some(LogOptionalMode::Exclude) => Vec::new(),
        },
        request_headers,
        response_headers,
    }
}

//! What a rule does besides leading somewhere: rewrites, retries, mirrors, CORS, faults, headers,
//! redirects (private-connectivity 2.6).

use names::SelfLink;
use serde::{Deserialize, Serialize};
use std::time::Duration;

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

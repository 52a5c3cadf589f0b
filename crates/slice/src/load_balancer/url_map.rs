//! URL maps and their rules (private-connectivity 2.2 to 2.5).

use super::{HeaderAction, RouteAction, UrlRedirect};
use names::SelfLink;
use serde::{Deserialize, Serialize};

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

//! The reference: what must become of a request.

use crate::act::{self, Reached};
use crate::path::{self, Found};
use crate::{FRONT, Masked, Request};
use names::{Reason, SelfLink};
use slice::load_balancer::{
    BackendService, Destination, Endpoints, HeaderAction, HeaderMatch, HeaderPredicate,
    LoadBalancing, MatchRule, PathMatcher, QueryParameterMatch, QueryPredicate, RetryPolicy, Route,
    RouteAction, Rules, UrlMap,
};
use std::time::Duration;

/// What must become of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The host pattern that won, as written; none: the map's default.
    pub host: Option<String>,
    /// The path matcher.
    pub path_matcher: Option<String>,
    /// The rule.
    pub rule: Rule,
    /// What happens.
    pub outcome: Outcome,
}

/// Which rule of the matcher.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// None: the matcher's default, or the map's.
    Default,
    /// The path pattern, as written.
    Path(String),
    /// The route rule of this priority, by this one of its match rules.
    Route(u32, usize),
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes to a backend service.
    Forwarded(Box<Forwarded>),
    /// The load balancer sends the client elsewhere.
    Redirect {
        /// Status.
        status: u16,
        /// `Location`.
        location: String,
    },
    /// The load balancer answers a preflight of another origin's page, with these headers.
    Preflight(Vec<(String, String)>),
    /// A fault on purpose, with this status.
    Abort(u16),
}

/// Where and how a request goes on.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    /// The backend service.
    pub backend_service: SelfLink,
    /// `Host` after rewrites.
    pub host: String,
    /// Path and query after rewrites.
    pub path_and_query: String,
    /// Header changes that are not empty, in the order in which they apply.
    pub headers: Vec<HeaderAction>,
    /// A serverless group's service; [`Ok(None)`]: endpoints.
    pub target: Result<Option<Masked>, Reason>,
    /// From the end of the request to the end of the answer.
    pub timeout: Duration,
    /// The route's.
    pub retry: Option<RetryPolicy>,
    /// How long it waits first.
    pub delay: Option<Duration>,
    /// Where a copy goes.
    pub mirror: Option<SelfLink>,
    /// What the answer is given for another origin's page.
    pub cors: Vec<(String, String)>,
}

/// What must become of `request`. `weighted` says which of the weighted backend services was thrown,
/// where the rule has some: any with a weight is right. Percentages are 0 or 100.
pub fn reference(all: &LoadBalancing, request: &Request, weighted: Option<usize>) -> Expected {
    let front = all.forwarding_rules.iter().find(|rule| rule.self_link.as_str() == FRONT);
    let front = front.expect("the one forwarding rule");
    let map = all.url_maps.iter().find(|map| map.self_link == front.target.url_map);
    let map = map.expect("a URL map");

    let (host, matcher) = match host_rule(map, &request.host) {
        Some((pattern, name)) => {
            let matcher = map.path_matchers.iter().find(|matcher| matcher.name == name);
            (Some(pattern.to_owned()), Some(matcher.expect("a path matcher")))
        }
        None => (None, None),
    };
    let (rule, found, route, rule_headers) = match matcher {
        Some(matcher) => path_matcher(matcher, request),
        None => (Rule::Default, None, &map.default, None),
    };
    let reached = match &found {
        Some(found) => Reached::Rule(found),
        None => Reached::Default,
    };
    let outcome = if request.path().contains("/../") {
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        let scheme = if front.target.https { "https" } else { "http" };
        let path = act::collapse(request.path());
        let location = format!("{scheme}://{}{path}{query}", request.host);
        Outcome::Redirect { status: 302, location }
    } else {
        let levels =
            [rule_headers, matcher.map(|one| &one.header_action), Some(&map.header_action)];
        let levels = levels.into_iter().flatten();
        follow(all, route, &reached, request, weighted, levels, front.target.https)
    };
    Expected { host, path_matcher: matcher.map(|one| one.name.clone()), rule, outcome }
}

/// 2.3: exact, else the longest wildcard, else `*`; case does not matter; only listed ports match.
fn host_rule<'c>(map: &'c UrlMap, host: &str) -> Option<(&'c str, &'c str)> {
    let host = host.to_ascii_lowercase();
    let mut best: Option<(usize, &str, &str)> = None;
    for rule in &map.host_rules {
        for pattern in &rule.hosts {
            let lower = pattern.to_ascii_lowercase();
            let (matches, rank) = match lower.strip_prefix('*') {
                Some("") => (true, 0),
                Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix), suffix.len()),
                None => (host == lower, usize::MAX),
            };
            if matches && best.is_none_or(|(other, ..)| rank > other) {
                best = Some((rank, pattern, &rule.path_matcher));
            }
        }
    }
    best.map(|(_, pattern, matcher)| (pattern, matcher))
}

type Chosen<'c> = (Rule, Option<Found>, &'c Route, Option<&'c HeaderAction>);

fn path_matcher<'c>(matcher: &'c PathMatcher, request: &Request) -> Chosen<'c> {
    match &matcher.rules {
        // 2.4: an exact path wins, else the longest wildcard; order is of no meaning.
        Rules::PathRules(rules) => {
            let mut best: Option<(usize, Chosen)> = None;
            for rule in rules {
                for pattern in &rule.paths {
                    let Some(found) = path::path_rule(pattern, request.path()) else { continue };
                    let rank = if pattern.ends_with('*') { pattern.len() } else { usize::MAX };
                    if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                        let rule = (Rule::Path(pattern.clone()), Some(found), &rule.route, None);
                        best = Some((rank, rule));
                    }
                }
            }
            best.map(|(_, chosen)| chosen)
        }
        // 2.5: the lowest priority that matches; match rules are alternatives.
        Rules::RouteRules(rules) => {
            let mut rules: Vec<_> = rules.iter().collect();
            rules.sort_by_key(|rule| rule.priority);
            rules.into_iter().find_map(|rule| {
                let of = |one: &MatchRule| match_rule(one, request);
                let (index, found) = rule
                    .match_rules
                    .iter()
                    .map(of)
                    .enumerate()
                    .find(|(_, found)| found.is_some())?;
                let headers = Some(&rule.header_action);
                Some((Rule::Route(rule.priority, index), found, &rule.route, headers))
            })
        }
    }
    .unwrap_or((Rule::Default, None, &matcher.default, None))
}

/// All of a match rule must match.
fn match_rule(rule: &MatchRule, request: &Request) -> Option<Found> {
    let found = path::predicate(rule, request.path())?;
    let headers = rule.header_matches.iter().all(|one| header(one, request));
    let query = rule.query_parameter_matches.iter().all(|one| query(one, request));
    (headers && query).then_some(found)
}

fn header(rule: &HeaderMatch, request: &Request) -> bool {
    let values: Vec<&str> = match rule.header_name.as_str() {
        ":method" => vec![&request.method],
        ":authority" => vec![&request.host],
        "PORT" => request.host.split_once(':').map(|(_, port)| port).into_iter().collect(),
        name => {
            let lines = request.headers.iter().filter(|one| one.0.eq_ignore_ascii_case(name));
            lines.map(|one| one.1.as_str()).collect()
        }
    };
    let fits = |value: &&str| match &rule.value {
        HeaderPredicate::PresentMatch(_) => true,
        HeaderPredicate::ExactMatch(text) => value == text,
        HeaderPredicate::PrefixMatch(text) => value.starts_with(text.as_str()),
        HeaderPredicate::SuffixMatch(text) => value.ends_with(text.as_str()),
        HeaderPredicate::RegexMatch(pattern) => path::full_match(pattern, value),
        HeaderPredicate::RangeMatch { start, end } => {
            value.parse::<i64>().is_ok_and(|number| (*start..*end).contains(&number))
        }
    };
    // Of several lines of one name, one that fits is enough (Envoy).
    let fits =
        values.iter().any(fits) == !matches!(rule.value, HeaderPredicate::PresentMatch(false));
    fits != rule.invert_match
}

fn query(rule: &QueryParameterMatch, request: &Request) -> bool {
    let pairs = request.query().unwrap_or_default().split('&');
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let first = pairs.filter(|(name, _)| *name == rule.name).map(|(_, value)| value).next();
    match (&rule.value, first) {
        (QueryPredicate::PresentMatch(wanted), first) => first.is_some() == *wanted,
        (_, None) => false,
        (QueryPredicate::ExactMatch(text), Some(value)) => value == text,
        (QueryPredicate::RegexMatch(pattern), Some(value)) => path::full_match(pattern, value),
    }
}

/// 2.6: from the route on.
fn follow<'c>(
    all: &LoadBalancing,
    route: &Route,
    reached: &Reached,
    request: &Request,
    weighted: Option<usize>,
    outer: impl Iterator<Item = &'c HeaderAction>,
    https: bool,
) -> Outcome {
    let nothing = RouteAction::default();
    let action = route.action.as_deref().unwrap_or(&nothing);
    let cors = action.cors_policy.as_ref().and_then(|one| act::cross_origin(one, request));
    let cors = match cors {
        Some((true, headers)) => return Outcome::Preflight(headers),
        Some((false, headers)) => headers,
        None => Vec::new(),
    };
    let (service, mut headers) = match &route.to {
        Destination::UrlRedirect(to) => {
            let location = act::redirect(to, reached, request, https);
            return Outcome::Redirect { status: to.status, location };
        }
        Destination::Service(link) => (link, Vec::new()),
        Destination::Weighted(services) => {
            let chosen = &services[weighted.expect("one of the weighted ones is thrown")];
            assert_ne!(chosen.weight, 0, "what has no weight gets no request");
            (&chosen.backend_service, vec![chosen.header_action.clone()])
        }
    };
    let faults = action.fault_injection_policy.clone().unwrap_or_default();
    if let Some(abort) = faults.abort.filter(|abort| abort.percentage > 0.0) {
        return Outcome::Abort(abort.http_status);
    }
    headers.extend(outer.cloned());
    headers.retain(|level| !level.is_empty());
    let (host, path_and_query) = act::rewrite(action.url_rewrite.as_ref(), reached, request);
    let found = |link: &SelfLink| {
        all.backend_services.iter().find(|one| one.self_link == *link).expect("a backend service")
    };
    let path = path_and_query.split('?').next().unwrap_or_default();
    let largest = match &route.to {
        Destination::Weighted(services) => {
            services.iter().map(|one| timeout(all, found(&one.backend_service))).max()
        }
        _ => Some(timeout(all, found(service))),
    };
    let mirror = action.request_mirror_policy.as_ref();
    Outcome::Forwarded(Box::new(Forwarded {
        backend_service: service.clone(),
        target: target(all, found(service), &host, path),
        host,
        path_and_query,
        headers,
        timeout: action.timeout.or(largest).expect("a timeout"),
        retry: action.retry_policy.clone(),
        delay: faults.delay.filter(|one| one.percentage > 0.0).map(|one| one.fixed_delay),
        mirror: mirror
            .filter(|one| one.mirror_percent > 0.0)
            .map(|one| one.backend_service.clone()),
        cors,
    }))
}

fn group<'c>(all: &'c LoadBalancing, service: &BackendService) -> Option<&'c Endpoints> {
    let link = &service.backends.first()?.group;
    let group = all.network_endpoint_groups.iter().find(|group| group.self_link == *link);
    Some(&group.expect("a group").endpoints)
}

/// 60 minutes for serverless groups, else 30 seconds (2.10).
fn timeout(all: &LoadBalancing, service: &BackendService) -> Duration {
    let seconds = match group(all, service) {
        Some(Endpoints::CloudRun(_)) => 3600,
        _ => service.timeout_sec.unwrap_or(30),
    };
    Duration::from_secs(seconds.into())
}

fn target(
    all: &LoadBalancing,
    service: &BackendService,
    host: &str,
    path: &str,
) -> Result<Option<Masked>, Reason> {
    match group(all, service) {
        None => Err(Reason::BackendServiceEmpty),
        Some(Endpoints::CloudRun(group)) => crate::mask(group, host, path).map(Some),
        Some(Endpoints::Addresses { endpoints, .. }) if endpoints.is_empty() => {
            Err(Reason::NetworkEndpointGroupEmpty)
        }
        Some(_) => Ok(None),
    }
}

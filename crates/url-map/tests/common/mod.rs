//! A map with one path matcher for every host, and requests for it.
#![allow(dead_code, reason = "every test file compiles all of it and uses a part")]

use http::{HeaderMap, HeaderName, HeaderValue};
use names::{NetworkId, SelfLink};
use slice::load_balancer::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use url_map::{CompileError, Decision, Defect, Outcome, RequestHead, RuleMatch, Snapshot};

pub const FRONT: &str = "projects/p/regions/r/forwardingRules/front";

pub fn link(collection: &str, name: &str) -> SelfLink {
    SelfLink::regional("p", "r", collection, name)
}

pub fn to(service: &str) -> Route {
    Route::service(link("backendServices", service))
}

pub fn acting(mut route: Route, change: impl FnOnce(&mut RouteAction)) -> Route {
    change(route.action.get_or_insert_default());
    route
}

pub fn redirect(change: impl FnOnce(&mut UrlRedirect)) -> Route {
    let mut to = UrlRedirect { status: 301, ..UrlRedirect::default() };
    change(&mut to);
    Route::new(Destination::UrlRedirect(to))
}

pub fn weighted(shares: &[(&str, u32)]) -> Route {
    let one = |(name, weight): &(&str, u32)| WeightedBackendService {
        backend_service: link("backendServices", name),
        weight: *weight,
        header_action: HeaderAction::default(),
    };
    Route::new(Destination::Weighted(shares.iter().map(one).collect()))
}

pub fn prefix(text: &str) -> MatchRule {
    path(PathPredicate::PrefixMatch(text.into()))
}

pub fn path(path: PathPredicate) -> MatchRule {
    let (header_matches, query_parameter_matches) = (vec![], vec![]);
    MatchRule { path, ignore_case: false, header_matches, query_parameter_matches }
}

pub fn template(text: &str) -> MatchRule {
    path(PathPredicate::PathTemplateMatch(text.into()))
}

pub fn header(name: &str, value: HeaderPredicate, invert_match: bool) -> MatchRule {
    let header_match = HeaderMatch { header_name: name.into(), value, invert_match };
    MatchRule { header_matches: vec![header_match], ..prefix("/") }
}

pub fn query(name: &str, value: QueryPredicate) -> MatchRule {
    let query = QueryParameterMatch { name: name.into(), value };
    MatchRule { query_parameter_matches: vec![query], ..prefix("/") }
}

pub fn rule(priority: u32, match_rules: Vec<MatchRule>, route: Route) -> RouteRule {
    let header_action = HeaderAction::default();
    RouteRule { priority, description: String::new(), match_rules, route, header_action }
}

/// `name: value` set, `+name: value` added, `-name` removed.
pub fn request_headers(changes: &[&str]) -> HeaderAction {
    let mut action = HeaderAction::default();
    for change in changes {
        if let Some(name) = change.strip_prefix('-') {
            action.request_headers_to_remove.push(name.into());
            continue;
        }
        let (name, value) = change.split_once(": ").expect("a field");
        action.request_headers_to_add.push(HeaderOption {
            header_name: name.trim_start_matches('+').into(),
            header_value: value.into(),
            replace: !name.starts_with('+'),
        });
    }
    action
}

/// Backend services `a`, `b`, `c` with an endpoint each (timeouts 10, 20 and 30 seconds), `apps` with
/// the URL mask `/<service>`, `hosts` with `<service>.example.com`; Cloud Run has `login` and `orders`.
pub fn load_balancing(map: UrlMap) -> LoadBalancing {
    let mut all = LoadBalancing {
        forwarding_rules: vec![ForwardingRule {
            self_link: SelfLink::new(FRONT),
            network: NetworkId::new("p", "n"),
            region: "r".into(),
            address: Ipv4Addr::new(10, 0, 0, 5),
            port: 80,
            allow_global_access: false,
            proxy_address: None,
            northbound: None,
            target: TargetProxy::new(link("targetHttpProxies", "t"), map.self_link.clone()),
        }],
        url_maps: vec![map],
        ..LoadBalancing::default()
    };
    let known = |name: &str| KnownService { name: name.into(), tags: vec!["test".into()] };
    let services = Arc::new(vec![known("login"), known("orders")]);
    for (n, name) in ["a", "b", "c", "apps", "hosts"].into_iter().enumerate() {
        let group = link("networkEndpointGroups", name);
        let mask = match name {
            "apps" => Some("/<service>"),
            "hosts" => Some("<service>.example.com"),
            _ => None,
        };
        let mut service = BackendService::new(link("backendServices", name), group.clone());
        all.network_endpoint_groups.push(match mask {
            None => {
                service.timeout_sec = Some(10 * (n as u32 + 1));
                let address = std::net::SocketAddrV4::new(Ipv4Addr::new(10, 0, 9, n as u8), 80);
                NetworkEndpointGroup::addresses(group, vec![address])
            }
            Some(mask) => NetworkEndpointGroup {
                self_link: group,
                endpoints: Endpoints::CloudRun(CloudRunEndpoints {
                    project: "p".into(),
                    region: "r".into(),
                    service: None,
                    tag: None,
                    url_mask: Some(mask.into()),
                    services: services.clone(),
                }),
            },
        });
        all.backend_services.push(service);
    }
    all
}

/// Every host leads to the matcher `m`, whose default is `c`.
pub fn map(rules: Rules) -> UrlMap {
    let mut map = UrlMap::new(link("urlMaps", "lb"), to("c"));
    map.host_rules = vec![HostRule { hosts: vec!["*".into()], path_matcher: "m".into() }];
    map.path_matchers = vec![PathMatcher::new("m", to("c"), rules)];
    map
}

pub fn route_rules(rules: Vec<RouteRule>) -> Snapshot {
    compile(map(Rules::RouteRules(rules)))
}

pub fn path_rule(pattern: &str, route: Route) -> Snapshot {
    let rule = PathRule { paths: vec![pattern.into()], route };
    compile(map(Rules::PathRules(vec![rule])))
}

#[track_caller]
pub fn compile(map: UrlMap) -> Snapshot {
    Snapshot::compile(&load_balancing(map)).expect("a map that can be served")
}

#[track_caller]
pub fn defects(map: UrlMap) -> Vec<Defect> {
    let errors = Snapshot::compile(&load_balancing(map)).err().unwrap_or_default();
    assert!(errors.iter().all(|one| one.to_string().len() > one.resource.as_str().len() + 2));
    errors.into_iter().map(|CompileError { defect, .. }| defect).collect()
}

/// A request: `[METHOD ]host/path`, and header lines.
pub struct Request {
    pub method: String,
    pub host: String,
    pub target: String,
    pub headers: HeaderMap,
}

pub fn request(line: &str, headers: &[&str]) -> Request {
    let (method, url) = line.split_once(' ').unwrap_or(("GET", line));
    let (host, target) = url.split_at(url.find('/').expect("a path"));
    let field = |line: &&str| {
        let (name, value) = line.split_once(": ").expect("a field");
        (
            name.parse::<HeaderName>().expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        )
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(field) {
        map.append(name, value);
    }
    Request { method: method.into(), host: host.into(), target: target.into(), headers: map }
}

impl Request {
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead::new(&self.host, &self.target)
            .with_method(&self.method)
            .with_headers(&self.headers)
    }
}

pub fn decide<'s, 'r>(snapshot: &'s Snapshot, head: &RequestHead<'r>) -> Decision<'s, 'r> {
    snapshot.front(FRONT).expect("the forwarding rule").decide(head)
}

/// `PRIORITY` or `PRIORITY.MATCH-RULE` of the route rule, or `-`.
pub fn matched(snapshot: &Snapshot, request: &Request) -> String {
    match decide(snapshot, &request.head()).rule {
        RuleMatch::RouteRule { rule, match_rule: 0 } => rule.priority.to_string(),
        RuleMatch::RouteRule { rule, match_rule } => format!("{}.{match_rule}", rule.priority),
        _ => "-".to_owned(),
    }
}

/// Backend service and URL as forwarded, or the load balancer's own answer.
pub fn outcome(snapshot: &Snapshot, request: &Request) -> String {
    let decision = decide(snapshot, &request.head());
    match &decision.outcome {
        Outcome::Redirect(redirect) => format!("{} {}", redirect.status, redirect.location),
        Outcome::Refuse { status, reason, .. } => format!("{status} {reason}"),
        Outcome::Preflight => "preflight".to_owned(),
        Outcome::Endpoints { .. } | Outcome::CloudRun { .. } => {
            let host = decision.rewrite.host.unwrap_or(&request.host);
            let target = decision.rewrite.path_and_query.as_deref().unwrap_or(&request.target);
            let to = match &decision.outcome {
                Outcome::CloudRun { target, .. } => target.service.name(),
                _ => decision.backend_service.map_or("", |service| service.self_link.name()),
            };
            format!("{to} {host}{target}")
        }
    }
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

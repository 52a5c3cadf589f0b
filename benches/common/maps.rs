//! A load balancer with any number of rules of each kind, and the requests that find them.

use names::{NetworkId, SelfLink};
use slice::load_balancer::*;
use std::net::Ipv4Addr;
use std::sync::Arc;
use url_map::{Decision, Front, Outcome, RequestHead};

/// The one forwarding rule.
pub const FRONT: &str = "f";
/// The numbers of rules of each kind.
pub const SIZES: [usize; 3] = [10, 1_000, 100_000];
const SERVICES: usize = 100;

/// Requests that exercise one thing.
pub struct Kind {
    /// What.
    pub name: &'static str,
    /// Host, path and query.
    pub requests: Vec<(String, String)>,
    /// The headers of all of them.
    pub headers: http::HeaderMap,
    /// Are the header actions carried out, too?
    pub applies: bool,
}

/// Every kind, for maps of `size` rules.
pub fn kinds(size: usize) -> Vec<Kind> {
    // A prime, so that neighbours in time are no neighbours in the table.
    let some = |n: usize| n * 7919 % size;
    let fields = |pairs: &[(&'static str, &'static str)]| {
        let field = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        let usual = [("user-agent", "curl/8"), ("accept", "*/*"), ("x-request-id", "0123456789")];
        usual.iter().chain(pairs).map(field).collect::<http::HeaderMap>()
    };
    let kind = |name, make: &dyn Fn(usize) -> (String, String)| Kind {
        name,
        requests: (0..1024).map(make).collect(),
        headers: fields(&[]),
        applies: false,
    };
    let at = |host: &str, path: String| (host.to_owned(), path);
    let paths = ["/", "/a/b/c", "/video/hd/x", "/nothing"];
    let mut all = vec![
        kind("exact host", &|n| (format!("h{}.example.com", some(n)), "/".to_owned())),
        kind("wildcard host", &|n| (format!("x.h{}.example.com", some(n)), "/".to_owned())),
        kind("host and path rule", &|n| {
            (format!("h{}.example.com", some(n)), paths[n % 4].to_owned())
        }),
        kind("path rule", &|n| at("paths.example.org", format!("/p{}/x/y", some(n)))),
        kind("route rule, prefix", &|n| at("routes.example.org", format!("/r{}/x/y", some(n)))),
        kind("route rule, header", &|n| at("headers.example.org", format!("/r{}/x/y", some(n)))),
        kind("URL mask", &|n| at("other.example.org", format!("/s{}/x", n % SERVICES))),
        kind("prefix rewrite", &|n| at("rewrite.example.org", format!("/old/{n}"))),
        kind("weighted services", &|n| at("weights.example.org", format!("/{n}"))),
        kind("header actions", &|n| at("actions.example.org", format!("/{n}"))),
    ];
    for kind in &mut all {
        match kind.name {
            "route rule, header" => kind.headers = fields(&[("x-env", "prod")]),
            "header actions" => kind.applies = true,
            _ => {}
        }
    }
    all
}

/// Decides on one request, and carries out its header actions where the kind asks for it.
pub fn decide<'s, 'r>(front: Front<'s>, kind: &'r Kind, n: usize) -> Decision<'s, 'r> {
    let (host, path) = &kind.requests[n % kind.requests.len()];
    let head = RequestHead::new(host, path).with_headers(&kind.headers).with_roll(n as u64);
    let decision = front.decide(&head);
    assert!(matches!(decision.outcome, Outcome::CloudRun { .. }));
    if kind.applies {
        let mut headers = kind.headers.clone();
        decision.headers.apply_to_request(&mut headers);
        std::hint::black_box(&headers);
    }
    decision
}

fn backend(n: usize) -> SelfLink {
    SelfLink::new(&format!("backendServices/b{}", n % (SERVICES + 1)))
}

fn to(n: usize) -> Route {
    Route::service(backend(n % SERVICES))
}

fn set(name: &str) -> HeaderAction {
    let option = |name: String, replace| HeaderOption {
        header_name: name,
        header_value: "some value".to_owned(),
        replace,
    };
    HeaderAction {
        request_headers_to_add: vec![
            option(format!("x-{name}-set"), true),
            option(format!("x-{name}-added"), false),
        ],
        request_headers_to_remove: vec!["x-request-id".to_owned()],
        ..HeaderAction::default()
    }
}

fn route_rule(n: usize, prefix: String, header_matches: Vec<HeaderMatch>) -> RouteRule {
    RouteRule {
        priority: n as u32,
        description: String::new(),
        match_rules: vec![MatchRule {
            path: PathPredicate::PrefixMatch(prefix),
            ignore_case: false,
            header_matches,
            query_parameter_matches: vec![],
        }],
        route: to(n),
        header_action: HeaderAction::default(),
    }
}

fn path_matchers(size: usize) -> Vec<PathMatcher> {
    let path_rule = |paths: &[&str], route| PathRule {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        route,
    };
    let mut all: Vec<_> = (0..SERVICES)
        .map(|n| {
            let rules = vec![
                path_rule(&["/a/*", "/a/b/*"], to(n)),
                path_rule(&["/video/hd", "/video/hd/*"], to(n + 1)),
            ];
            PathMatcher::new(format!("m{n}"), to(n), Rules::PathRules(rules))
        })
        .collect();
    let many = (0..size).map(|n| path_rule(&[&format!("/p{n}/*")], to(n))).collect();
    all.push(PathMatcher::new("paths", to(0), Rules::PathRules(many)));
    let many = (0..size).map(|n| route_rule(n, format!("/r{n}/"), vec![])).collect();
    all.push(PathMatcher::new("routes", to(0), Rules::RouteRules(many)));
    let prod = || HeaderMatch {
        header_name: "X-Env".to_owned(),
        value: HeaderPredicate::ExactMatch("prod".to_owned()),
        invert_match: false,
    };
    let many = (0..size).map(|n| route_rule(n, format!("/r{n}/"), vec![prod()])).collect();
    all.push(PathMatcher::new("headers", to(0), Rules::RouteRules(many)));

    let mut rewritten = route_rule(0, "/old/".to_owned(), vec![]);
    rewritten.route.action = Some(Box::new(RouteAction {
        url_rewrite: Some(UrlRewrite {
            path_prefix_rewrite: Some("/new/".to_owned()),
            ..UrlRewrite::default()
        }),
        ..RouteAction::default()
    }));
    all.push(PathMatcher::new("rewrite", to(0), Rules::RouteRules(vec![rewritten])));
    let share = |n: usize, weight| WeightedBackendService {
        backend_service: backend(n),
        weight,
        header_action: HeaderAction::default(),
    };
    let weighted =
        Route::new(Destination::Weighted(vec![share(0, 900), share(1, 90), share(2, 10)]));
    all.push(PathMatcher::new("weights", weighted, Rules::PathRules(vec![])));
    let mut rule = route_rule(0, "/".to_owned(), vec![]);
    rule.header_action = set("rule");
    let mut matcher = PathMatcher::new("actions", to(0), Rules::RouteRules(vec![rule]));
    matcher.header_action = set("matcher");
    all.push(matcher);
    all
}

/// `size` host rules, half of their patterns exact, half wildcards; `size` path rules; twice `size`
/// route rules; a hundred services and a group with a URL mask.
pub fn load_balancing(size: usize) -> LoadBalancing {
    let own = ["paths", "routes", "headers", "rewrite", "weights", "actions"];
    let own = own.into_iter().map(|name| HostRule {
        hosts: vec![format!("{name}.example.org")],
        path_matcher: name.to_owned(),
    });
    let host_rules = (0..size).map(|n| HostRule {
        hosts: vec![format!("h{n}.example.com"), format!("*.h{n}.example.com")],
        path_matcher: format!("m{}", n % SERVICES),
    });
    let known: Arc<Vec<_>> = Arc::new(
        (0..SERVICES).map(|n| KnownService { name: format!("s{n}"), tags: vec![] }).collect(),
    );
    let group = |n: usize| NetworkEndpointGroup {
        self_link: SelfLink::new(&format!("networkEndpointGroups/g{n}")),
        endpoints: Endpoints::CloudRun(CloudRunEndpoints {
            project: "p".to_owned(),
            region: "r".to_owned(),
            service: (n < SERVICES).then(|| format!("s{n}")),
            tag: None,
            url_mask: (n == SERVICES).then(|| "/<service>".to_owned()),
            services: known.clone(),
        }),
    };
    let service = |n: usize| {
        let group = SelfLink::new(&format!("networkEndpointGroups/g{n}"));
        BackendService::new(backend(n), group)
    };
    LoadBalancing {
        forwarding_rules: vec![ForwardingRule {
            self_link: SelfLink::new(FRONT),
            network: NetworkId::new("p", "n"),
            region: "r".to_owned(),
            address: Ipv4Addr::LOCALHOST,
            port: 443,
            allow_global_access: false,
            proxy_address: None,
            northbound: None,
            target: TargetProxy {
                https: true,
                ..TargetProxy::new(SelfLink::new("t"), SelfLink::new("u"))
            },
        }],
        url_maps: vec![UrlMap {
            host_rules: host_rules.chain(own).collect(),
            path_matchers: path_matchers(size),
            ..UrlMap::new(SelfLink::new("u"), Route::service(backend(SERVICES)))
        }],
        backend_services: (0..=SERVICES).map(service).collect(),
        network_endpoint_groups: (0..=SERVICES).map(group).collect(),
        ..LoadBalancing::default()
    }
}

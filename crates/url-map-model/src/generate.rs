//! Cases from small alphabets, so that rules collide and requests hit.

use crate::alphabet::*;
use crate::mirrors::drop_serverless_mirrors;
use crate::{Case, Dice, FRONT, Request, link};
use names::{NetworkId, SelfLink};
use slice::load_balancer::*;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

/// What a case may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Everything.
    Engine,
    /// What the data path can show: no TLS at the front end, nothing left to chance, nothing delayed
    /// or mirrored. Backend service `bN` has the endpoint `10.0.9.N:80`, or is serverless.
    Live,
    /// What Envoy can show too: as `Live`, and every backend service has its endpoint.
    Wire,
}

/// The case of this seed.
pub fn case(seed: u64, profile: Profile) -> Case {
    let mut maker = Maker { dice: Dice::new(seed), profile, https: false };
    maker.https = profile == Profile::Engine && maker.dice.chance(50);
    let load_balancing = maker.load_balancing();
    let requests = maker.dice.clone().some(4, 10, request);
    Case { load_balancing, requests }
}

fn request(dice: &mut Dice) -> Request {
    let mut path_and_query = dice.pick(ASKED_PATHS).to_owned();
    if dice.chance(4) {
        path_and_query.push_str("/../b/./c");
    }
    if dice.chance(50) {
        let pair = |dice: &mut Dice| match dice.chance(80) {
            true => format!("{}={}", dice.pick(&["p", "q", "P"]), dice.pick(VALUES)),
            false => dice.pick(&["p", "q", "p%61=a", "p=%61", "q=a=b"]).to_owned(),
        };
        path_and_query.push('?');
        path_and_query.push_str(&dice.some(1, 3, pair).join("&"));
    }
    let mut headers = dice
        .some(0, 3, |dice| (dice.pick(HEADERS).to_ascii_lowercase(), dice.pick(VALUES).to_owned()));
    let mut method = dice.pick(&["GET", "GET", "POST", "OPTIONS"]).to_owned();
    if dice.chance(25) {
        headers.push(("origin".into(), dice.pick(&["http://a", "http://b", "http://c"]).into()));
        if dice.chance(50) {
            headers.push(("access-control-request-method".into(), "POST".into()));
            method = "OPTIONS".to_owned();
        }
    }
    let host = dice.pick(ASKED_HOSTS).to_owned();
    Request { method, host, path_and_query, headers, roll: dice.roll() }
}

struct Maker {
    dice: Dice,
    profile: Profile,
    https: bool,
}

impl Maker {
    fn load_balancing(&mut self) -> LoadBalancing {
        let mut url_map = self.url_map();
        let (mut backend_services, mut groups) = (Vec::new(), Vec::new());
        for number in 0..SERVICES {
            self.backend(number, &mut backend_services, &mut groups);
        }
        drop_serverless_mirrors(&mut url_map, &backend_services, &groups);
        LoadBalancing {
            forwarding_rules: vec![ForwardingRule {
                self_link: SelfLink::new(FRONT),
                network: NetworkId::new("p", "n"),
                region: "europe-west1".into(),
                address: Ipv4Addr::new(10, 0, 0, 5),
                port: if self.https { 443 } else { 80 },
                allow_global_access: false,
                proxy_address: None,
                northbound: None,
                target: TargetProxy {
                    https: self.https,
                    ..TargetProxy::new(link("targetHttpProxies", "front"), link("urlMaps", "map"))
                },
            }],
            url_maps: vec![url_map],
            backend_services,
            network_endpoint_groups: groups,
            ..LoadBalancing::default()
        }
    }

    fn backend(
        &mut self,
        number: usize,
        services: &mut Vec<BackendService>,
        groups: &mut Vec<NetworkEndpointGroup>,
    ) {
        let self_link = link("networkEndpointGroups", &format!("g{number}"));
        let mut service =
            BackendService::new(link("backendServices", &format!("b{number}")), self_link.clone());
        let address = SocketAddrV4::new(Ipv4Addr::new(10, 0, 9, number as u8), 80);
        let serverless = self.profile != Profile::Wire && self.dice.chance(60);
        if serverless {
            let endpoints = Endpoints::CloudRun(self.cloud_run());
            groups.push(NetworkEndpointGroup { self_link, endpoints });
        } else {
            service.timeout_sec = self.dice.maybe(30, |dice| 1 + dice.below(100) as u32);
            let empty = self.profile != Profile::Wire && self.dice.chance(10);
            let endpoints = if empty { vec![] } else { vec![address] };
            groups.push(NetworkEndpointGroup::addresses(self_link, endpoints));
            if self.profile != Profile::Wire && self.dice.chance(5) {
                service.backends.clear();
            }
        }
        services.push(service);
    }

    fn cloud_run(&mut self) -> CloudRunEndpoints {
        let dice = &mut self.dice;
        let (service, tag, url_mask) = match dice.below(4) {
            0 => {
                let tag = dice.maybe(40, |dice| dice.pick(&["a", "b"]).to_owned());
                (Some(dice.pick(&["a", "b", "ab"]).to_owned()), tag, None)
            }
            1 => {
                let masks = ["/<service>", "/a/<service>", "<service>.b", "<service>-a.b"];
                let tag = dice.maybe(40, |dice| dice.pick(&["a", "b"]).to_owned());
                (None, tag, Some(dice.pick(&masks).to_owned()))
            }
            _ => {
                let masks = [
                    "/<service>",
                    "/a/<service>",
                    "a.b/<service>",
                    "<service>.b",
                    "<service>-a.b",
                    "/<service>/<tag>",
                    "/<tag>/b/<service>",
                    "<tag>.<service>.b",
                    "<tag>.b/<service>",
                    "b/a/<service>/<tag>",
                    "/<service>.html",
                    "<tag>-<service>.b",
                    "/<service>/b",
                ];
                (None, None, Some(dice.pick(&masks).to_owned()))
            }
        };
        let known = |name: &str, tags: &[&str]| KnownService {
            name: name.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        let services =
            vec![known("a", &["a", "b", "x"]), known("b", &["a", "ab"]), known("ab", &[])];
        CloudRunEndpoints {
            project: "p".into(),
            region: "europe-west1".into(),
            service,
            tag,
            url_mask,
            services: Arc::new(services),
        }
    }

    fn url_map(&mut self) -> UrlMap {
        let mut matchers = Vec::new();
        for number in 0..1 + self.dice.below(3) {
            let default = self.route(&Kind::Default);
            let rules = match self.dice.chance(40) {
                true => Rules::PathRules(self.path_rules()),
                false => Rules::RouteRules(self.route_rules()),
            };
            let mut matcher = PathMatcher::new(format!("m{number}"), default, rules);
            matcher.header_action = self.header_action(20);
            matchers.push(matcher);
        }
        let mut seen = HashSet::new();
        let mut host_rules = Vec::new();
        for _ in 0..1 + self.dice.below(4) {
            let mut hosts = self.dice.some(1, 4, |dice| dice.pick(HOSTS).to_owned());
            hosts.retain(|host| seen.insert(host.to_ascii_lowercase()));
            let path_matcher = matchers[self.dice.below(matchers.len())].name.clone();
            if !hosts.is_empty() {
                host_rules.push(HostRule { hosts, path_matcher });
            }
        }
        matchers.retain(|one| host_rules.iter().any(|rule| rule.path_matcher == one.name));
        let mut map = UrlMap::new(link("urlMaps", "map"), self.route(&Kind::Default));
        map.header_action = self.header_action(20);
        map.host_rules = host_rules;
        map.path_matchers = matchers;
        map
    }

    fn path_rules(&mut self) -> Vec<PathRule> {
        let mut seen = HashSet::new();
        let mut rules = Vec::new();
        for _ in 0..1 + self.dice.below(5) {
            let mut paths = self.dice.some(1, 3, |dice| dice.pick(PATHS).to_owned());
            paths.retain(|path| seen.insert(path.clone()));
            if !paths.is_empty() {
                rules.push(PathRule { paths, route: self.route(&Kind::Rule) });
            }
        }
        rules
    }

    fn route_rules(&mut self) -> Vec<RouteRule> {
        let mut priority = 0;
        let mut regexes = 0;
        let mut rules = Vec::new();
        for _ in 0..1 + self.dice.below(5) {
            priority += 1 + self.dice.below(9) as u32;
            let template = self.dice.maybe(20, |dice| TEMPLATES[dice.below(TEMPLATES.len())]);
            let kind = match template {
                Some((_, Some(rewrite))) => Kind::Template(rewrite),
                _ => Kind::Rule,
            };
            let match_rules =
                match template {
                    Some((pattern, _)) => {
                        vec![self.match_rule(
                            PathPredicate::PathTemplateMatch(pattern.into()),
                            &mut regexes,
                        )]
                    }
                    None => {
                        let count = 1 + self.dice.below(3);
                        (0..count)
                            .map(|_| {
                                let path = self.path_predicate(&mut regexes);
                                self.match_rule(path, &mut regexes)
                            })
                            .collect()
                    }
                };
            rules.push(RouteRule {
                priority,
                description: String::new(),
                match_rules,
                route: self.route(&kind),
                header_action: self.header_action(20),
            });
        }
        rules
    }

    fn path_predicate(&mut self, regexes: &mut usize) -> PathPredicate {
        let dice = &mut self.dice;
        match dice.below(4) {
            0 => PathPredicate::FullPathMatch(dice.pick(ASKED_PATHS).to_owned()),
            1 if *regexes < 5 => {
                *regexes += 1;
                PathPredicate::RegexMatch(dice.pick(REGEXES).to_owned())
            }
            _ => PathPredicate::PrefixMatch(dice.pick(PREFIXES).to_owned()),
        }
    }

    fn match_rule(&mut self, path: PathPredicate, regexes: &mut usize) -> MatchRule {
        let ports = self.profile != Profile::Wire;
        let dice = &mut self.dice;
        let foldable =
            matches!(path, PathPredicate::PrefixMatch(_) | PathPredicate::FullPathMatch(_));
        let ignore_case = foldable && dice.chance(20);
        let high = usize::from(dice.chance(40)) * 2;
        let header_matches = dice.some(0, high, |dice| {
            let invert_match = dice.chance(30);
            let (header_name, value) = match dice.below(10) {
                0 => (":method", HeaderPredicate::ExactMatch(dice.pick(&["GET", "POST"]).into())),
                1 => (":authority", HeaderPredicate::PrefixMatch(dice.pick(&["a", "b"]).into())),
                2 if ports && *regexes < 5 => {
                    *regexes += 1;
                    ("PORT", HeaderPredicate::RegexMatch(dice.pick(&["80", "80.*"]).into()))
                }
                _ => (dice.pick(HEADERS), header_predicate(dice, regexes)),
            };
            HeaderMatch { header_name: header_name.into(), value, invert_match }
        });
        let high = usize::from(dice.chance(25)) * 2;
        let query_parameter_matches = dice.some(0, high, |dice| {
            let value = match dice.below(4) {
                0 => QueryPredicate::PresentMatch(dice.chance(70)),
                1 if *regexes < 5 => {
                    *regexes += 1;
                    QueryPredicate::RegexMatch(dice.pick(&["a+", "[0-9]+", "a|ab", "a?"]).into())
                }
                _ => QueryPredicate::ExactMatch(dice.pick(VALUES).into()),
            };
            QueryParameterMatch { name: dice.pick(&["p", "q"]).into(), value }
        });
        MatchRule { path, ignore_case, header_matches, query_parameter_matches }
    }

    fn service(&mut self) -> SelfLink {
        link("backendServices", &format!("b{}", self.dice.below(SERVICES)))
    }

    fn route(&mut self, kind: &Kind) -> Route {
        if self.dice.chance(15) {
            return Route::new(Destination::UrlRedirect(self.redirect()));
        }
        let to = match self.dice.chance(15) {
            true => Destination::Weighted(self.weighted()),
            false => Destination::Service(self.service()),
        };
        let action = self.dice.chance(45).then(|| Box::new(self.action(kind)));
        Route { to, action }
    }

    fn weighted(&mut self) -> Vec<WeightedBackendService> {
        let mut all: Vec<_> = (0..1 + self.dice.below(3))
            .map(|_| WeightedBackendService {
                backend_service: self.service(),
                weight: [0, 1, 10, 1000][self.dice.below(4)],
                header_action: self.header_action(30),
            })
            .collect();
        all[0].weight = all[0].weight.max(1);
        if self.profile != Profile::Engine {
            all[1..].iter_mut().for_each(|one| one.weight = 0);
        }
        all
    }

    fn redirect(&mut self) -> UrlRedirect {
        let (https, dice) = (self.https, &mut self.dice);
        let mut to = UrlRedirect {
            https_redirect: !https && dice.chance(20),
            host_redirect: dice.maybe(40, |dice| dice.pick(&["to.b", "to.a:8080"]).to_owned()),
            strip_query: dice.chance(30),
            status: [301, 302, 303, 307, 308][dice.below(5)],
            ..UrlRedirect::default()
        };
        match dice.below(3) {
            0 => to.path_redirect = Some(dice.pick(&["/", "/moved", "/a/b"]).to_owned()),
            1 => to.prefix_redirect = Some(dice.pick(&["/new/", "/new", "/"]).to_owned()),
            _ => {}
        }
        to
    }

    fn action(&mut self, kind: &Kind) -> RouteAction {
        let mut action = RouteAction {
            url_rewrite: self.dice.chance(70).then(|| self.rewrite(kind)),
            ..RouteAction::default()
        };
        let mirrored = self.dice.chance(10).then(|| self.service());
        let dice = &mut self.dice;
        action.cors_policy = dice.maybe(30, |dice| CorsPolicy {
            allow_origins: dice.some(0, 2, |dice| dice.pick(&["http://a", "http://b", "*"]).into()),
            allow_methods: dice.some(0, 2, |dice| dice.pick(&["GET", "POST"]).into()),
            allow_headers: dice.some(0, 1, |dice| dice.pick(HEADERS).into()),
            expose_headers: dice.some(0, 1, |dice| dice.pick(HEADERS).into()),
            max_age: dice.maybe(30, |dice| dice.below(3600) as i32),
            allow_credentials: dice.chance(30),
            disabled: dice.chance(20),
            ..CorsPolicy::default()
        });
        let percent = |dice: &mut Dice| [0.0, 100.0][dice.below(2)];
        let abort = dice.maybe(8, |dice| FaultAbort {
            http_status: 400 + dice.below(200) as u16,
            percentage: percent(dice),
        });
        let delay = dice.maybe(8, |dice| FaultDelay {
            fixed_delay: Duration::from_millis(dice.below(900) as u64),
            percentage: percent(dice),
        });
        let timed = self.profile == Profile::Engine;
        let delay = delay.filter(|_| timed);
        if abort.is_some() || delay.is_some() {
            action.fault_injection_policy = Some(FaultInjectionPolicy { delay, abort });
        }
        if !timed {
            return action;
        }
        action.timeout = dice.maybe(20, |dice| Duration::from_millis(1 + dice.below(9000) as u64));
        action.retry_policy = dice.maybe(20, |dice| RetryPolicy {
            num_retries: 1 + dice.below(3) as u32,
            per_try_timeout: dice.maybe(50, |dice| Duration::from_secs(1 + dice.below(9) as u64)),
            retry_conditions: dice.some(1, 3, |dice| CONDITIONS[dice.below(CONDITIONS.len())]),
        });
        action.request_mirror_policy = mirrored.map(|backend_service| RequestMirrorPolicy {
            backend_service,
            mirror_percent: percent(dice),
        });
        action
    }

    fn rewrite(&mut self, kind: &Kind) -> UrlRewrite {
        let dice = &mut self.dice;
        let mut rewrite = UrlRewrite {
            host_rewrite: dice.maybe(40, |dice| dice.pick(&["to.b", "b.a.b", "a-a.b"]).to_owned()),
            ..UrlRewrite::default()
        };
        match (kind, dice.below(3)) {
            (Kind::Template(template), 0 | 1) => {
                rewrite.path_template_rewrite = Some((*template).to_owned());
            }
            (_, 0) => {
                rewrite.path_prefix_rewrite =
                    Some(dice.pick(&["/", "/a/", "/new", "/b"]).to_owned());
            }
            (Kind::Rule, 1) => {
                let (pattern, substitution) =
                    [("/([ab])", r"/\1\1"), ("^/a", "/z"), ("a/(.*)$", r"q/\1/\0"), ("b+", "")]
                        [dice.below(4)];
                rewrite.regex_rewrite = Some(RegexRewrite {
                    path_pattern: pattern.into(),
                    path_substitution: substitution.into(),
                });
            }
            _ => {}
        }
        rewrite
    }

    fn header_action(&mut self, percent: usize) -> HeaderAction {
        if !self.dice.chance(percent) {
            return HeaderAction::default();
        }
        let dice = &mut self.dice;
        let add = |dice: &mut Dice| HeaderOption {
            header_name: dice.pick(HEADERS).to_owned(),
            header_value: dice.pick(&["new", "1", "a"]).to_owned(),
            replace: dice.chance(50),
        };
        let remove = |dice: &mut Dice| dice.pick(HEADERS).to_owned();
        HeaderAction {
            request_headers_to_add: dice.some(0, 2, add),
            request_headers_to_remove: dice.some(0, 1, remove),
            response_headers_to_add: dice.some(0, 2, add),
            response_headers_to_remove: dice.some(0, 1, remove),
        }
    }
}

/// Which rewrites a route may have.
enum Kind {
    Default,
    Rule,
    Template(&'static str),
}

fn header_predicate(dice: &mut Dice, regexes: &mut usize) -> HeaderPredicate {
    let value = dice.pick(&VALUES[1..]).to_owned();
    match dice.below(7) {
        0 => HeaderPredicate::PrefixMatch(value),
        1 => HeaderPredicate::SuffixMatch(value),
        2 if *regexes < 5 => {
            *regexes += 1;
            HeaderPredicate::RegexMatch(dice.pick(&["a+", ".*b", "[0-9]+", "a|1"]).to_owned())
        }
        3 => HeaderPredicate::PresentMatch(dice.chance(70)),
        4 => HeaderPredicate::RangeMatch { start: -5, end: [0, 2, 10][dice.below(3)] },
        _ => HeaderPredicate::ExactMatch(value),
    }
}

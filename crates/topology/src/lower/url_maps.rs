//! URL maps: host rules, path matchers, path rules, tests (private-connectivity 2.2 to 2.4). What
//! rules lead to stands in `routes`, route rules in `route_rules`.

use super::Lowering;
use super::routes::Lead;
use super::routes::header_action;
use super::rules::same_region;
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::url_maps::{HostRule, PathMatcher, UrlMap, UrlMapTest};
use crate::model::{Item, Resource};
use slice::load_balancer as lb;
use std::collections::{HashMap, HashSet};
use url_map::{HostPattern, PathPattern};

impl Lowering<'_> {
    /// The URL map of a target proxy.
    pub(crate) fn url_map_of<P: Resource>(
        &self,
        proxy: &Item<P>,
        reference: &Text,
        findings: &mut Findings,
    ) -> Option<&Item<UrlMap>> {
        let map = self.model.find(&self.model.url_maps, reference, &proxy.scope(), findings)?;
        same_region(proxy, map, reference, findings);
        Some(map)
    }

    /// `httpsRedirect` is for maps of target HTTP proxies only (2.1).
    pub(crate) fn no_https_redirect(
        &self,
        map: &Item<UrlMap>,
        proxy: &str,
        findings: &mut Findings,
    ) {
        let matchers = map.raw.path_matchers.iter();
        let redirects = matchers.flat_map(|matcher| {
            let paths = matcher.path_rules.iter().filter_map(|rule| rule.url_redirect.as_ref());
            let routes = matcher.route_rules.iter().filter_map(|rule| rule.url_redirect.as_ref());
            paths.chain(routes).chain(&matcher.default_url_redirect)
        });
        for redirect in redirects.chain(&map.raw.default_url_redirect) {
            if let Some(At { at, value: true }) = redirect.https_redirect {
                findings.error(
                    Code::UrlRedirect,
                    at,
                    format!("httpsRedirect is not allowed in a URL map of a target HTTPS proxy (`{proxy}`)"),
                    "use another URL map for the target HTTP proxy",
                );
            }
        }
    }

    /// All URL maps.
    pub(crate) fn url_maps(&mut self, findings: &mut Findings) {
        for item in &self.model.url_maps.items {
            if let Some(map) = self.url_map(item, findings) {
                self.topology.load_balancing.url_maps.push(map);
            }
        }
    }

    fn url_map(&self, item: &Item<UrlMap>, findings: &mut Findings) -> Option<lb::UrlMap> {
        let raw = &item.raw;
        let lead = Lead {
            at: raw.at,
            faulty: raw.faulty,
            service: raw.default_service.as_ref(),
            redirect: raw.default_url_redirect.as_ref(),
            action: raw.default_route_action.as_ref(),
            field: "defaultService",
            templates: &[],
        };
        let default = self.route(item, &lead, findings);
        let header_action = header_action(raw.header_action.as_ref(), findings);
        let mut by_name = HashMap::new();
        let mut path_matchers = Vec::with_capacity(raw.path_matchers.len());
        for matcher in &raw.path_matchers {
            if by_name.insert(matcher.name.as_str(), false).is_some() {
                findings.error(
                    Code::DuplicateEntry,
                    matcher.name.at,
                    format!("the URL map has two path matchers named `{}`", matcher.name.value),
                    "rename one of the two",
                );
            }
            path_matchers.extend(self.path_matcher(item, matcher, findings));
        }
        let host_rules = self.host_rules(&raw.host_rules, &mut by_name, findings);
        for matcher in &raw.path_matchers {
            if by_name.get(matcher.name.as_str()) == Some(&false) {
                findings.warning(
                    Code::NoEffect,
                    matcher.name.at,
                    format!("no host rule leads to the path matcher `{}`", matcher.name.value),
                    "add a host rule, or remove the path matcher",
                );
            }
        }
        self.limit(raw.host_rules.len(), 2000, raw.at, "host rules in a URL map", findings);
        self.limit(raw.path_matchers.len(), 2000, raw.at, "path matchers in a URL map", findings);
        self.limit(raw.tests.len(), 100, raw.at, "tests in a URL map", findings);
        let tests = raw.tests.iter().filter_map(|test| self.test(item, test, findings)).collect();
        let map = lb::UrlMap {
            self_link: item.link.clone(),
            default: default?,
            header_action,
            host_rules,
            path_matchers,
            tests,
            seed: raw.postern.as_ref().and_then(|ours| ours.seed).map(|seed| seed.0.unsigned_abs()),
        };
        self.map_limits(&map, raw.at, findings);
        Some(map)
    }

    /// Limits that hold for a map as a whole (2.2).
    fn map_limits(&self, map: &lb::UrlMap, at: Mark, findings: &mut Findings) {
        if self.model.limits_lifted {
            return;
        }
        let of_matchers = map.path_matchers.iter().flat_map(|matcher| {
            let rules: Vec<&lb::Route> = match &matcher.rules {
                lb::Rules::PathRules(rules) => rules.iter().map(|rule| &rule.route).collect(),
                lb::Rules::RouteRules(rules) => rules.iter().map(|rule| &rule.route).collect(),
            };
            rules.into_iter().chain([&matcher.default])
        });
        let services: HashSet<_> =
            of_matchers.chain([&map.default]).flat_map(lb::Route::services).collect();
        self.limit(services.len(), 2500, at, "backend services in a URL map", findings);
        // Google counts the resource as it keeps it; this is near enough to say so early.
        let bytes = serde_json::to_string(map).map_or(0, |text| text.len());
        self.limit(bytes / 1024, 128, at, "KiB in a URL map", findings);
    }

    fn path_matcher(
        &self,
        item: &Item<UrlMap>,
        matcher: &PathMatcher,
        findings: &mut Findings,
    ) -> Option<lb::PathMatcher> {
        let lead = Lead {
            at: matcher.at,
            faulty: matcher.faulty,
            service: matcher.default_service.as_ref(),
            redirect: matcher.default_url_redirect.as_ref(),
            action: matcher.default_route_action.as_ref(),
            field: "defaultService",
            templates: &[],
        };
        let default = self.route(item, &lead, findings);
        let header_action = header_action(matcher.header_action.as_ref(), findings);
        let rules = match (&matcher.path_rules[..], &matcher.route_rules[..]) {
            (_, []) => lb::Rules::PathRules(self.path_rules(item, matcher, findings)),
            ([], _) => lb::Rules::RouteRules(self.route_rules(item, matcher, findings)),
            ([_, ..], [route, ..]) => {
                findings.error(
                    Code::ConflictingFields,
                    route.at,
                    format!(
                        "the path matcher `{}` has both pathRules and routeRules; it takes one kind",
                        matcher.name.value
                    ),
                    "write the path rules as route rules with prefixMatch or fullPathMatch",
                );
                return None;
            }
        };
        Some(lb::PathMatcher {
            name: matcher.name.value.clone(),
            default: default?,
            header_action,
            rules,
        })
    }

    fn path_rules(
        &self,
        item: &Item<UrlMap>,
        matcher: &PathMatcher,
        findings: &mut Findings,
    ) -> Vec<lb::PathRule> {
        let count = matcher.path_rules.len();
        self.limit(count, 1000, matcher.at, "path rules in a path matcher", findings);
        let mut seen: HashMap<&str, Mark> = HashMap::new();
        let mut path_rules = Vec::with_capacity(count);
        for rule in &matcher.path_rules {
            let lead = Lead {
                at: rule.at,
                faulty: rule.faulty,
                service: rule.service.as_ref(),
                redirect: rule.url_redirect.as_ref(),
                action: rule.route_action.as_ref(),
                field: "service",
                templates: &[],
            };
            let route = self.route(item, &lead, findings);
            if rule.paths.is_empty() {
                path_rule(
                    "the rule has no path",
                    "add a path, such as /orders/*",
                    rule.paths.at,
                    findings,
                );
            }
            for path in rule.paths.iter() {
                if let Err(why) = PathPattern::parse(path) {
                    path_rule(
                        &format!("the path `{}` {why}", path.value),
                        "write a path such as /orders, or /orders/*",
                        path.at,
                        findings,
                    );
                }
                if let Some(first) = seen.insert(path.as_str(), path.at) {
                    let first = findings.position(first);
                    path_rule(
                        &format!(
                            "the path `{}` stands in this path matcher already, at {first}",
                            path.value
                        ),
                        "remove one of the two",
                        path.at,
                        findings,
                    );
                }
            }
            if let Some(route) = route {
                let paths = rule.paths.iter().map(|path| path.value.clone()).collect();
                path_rules.push(lb::PathRule { paths, route });
            }
        }
        path_rules
    }

    /// A documented limit; `limits: NONE` lifts it.
    pub(crate) fn limit(
        &self,
        count: usize,
        most: usize,
        at: Mark,
        what: &str,
        findings: &mut Findings,
    ) {
        if count > most && !self.model.limits_lifted {
            findings.error(
                Code::ListTooLong,
                at,
                format!("there are {count} {what}; Google takes {most} at the most"),
                "split the map, or lift Google's limits: write `limits: NONE` at the top of a document",
            );
        }
    }

    fn test(
        &self,
        item: &Item<UrlMap>,
        test: &UrlMapTest,
        findings: &mut Findings,
    ) -> Option<lb::UrlMapTest> {
        let service = match &test.service {
            Some(service) => {
                let stores = &self.model.backend_services;
                Some(self.model.find(stores, service, &item.scope(), findings)?.link.clone())
            }
            None => None,
        };
        if let (Some(service), Some(_)) = (&test.service, &test.expected_redirect_response_code) {
            findings.error(
                Code::ConflictingFields,
                service.at,
                "expectedRedirectResponseCode and service stand in one test; a redirect reaches no service",
                "remove one of the two",
            );
        }
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        let header = |header: &crate::fields::url_maps::UrlMapTestHeader| {
            (header.name.value.clone(), header.value.value.clone())
        };
        Some(lb::UrlMapTest {
            at: findings.position(test.at).to_string(),
            description: text(&test.description).unwrap_or_default(),
            host: test.host.value.clone(),
            path: test.path.value.clone(),
            service,
            cloud_run_service: test.postern.as_ref().and_then(|ours| text(&ours.cloud_run_service)),
            headers: test.headers.iter().map(header).collect(),
            expected_output_url: text(&test.expected_output_url),
            expected_redirect_response_code: test
                .expected_redirect_response_code
                .as_ref()
                .and_then(|code| u16::try_from(code.value.0).ok()),
        })
    }
}

fn path_rule(what: &str, fix: &str, at: Mark, findings: &mut Findings) {
    findings.error(Code::PathRule, at, what, fix);
}

impl Lowering<'_> {
    fn host_rules<'r>(
        &self,
        raw: &'r [HostRule],
        matchers: &mut HashMap<&'r str, bool>,
        findings: &mut Findings,
    ) -> Vec<lb::HostRule> {
        let mut seen: HashMap<String, Mark> = HashMap::new();
        let mut all = Vec::with_capacity(raw.len());
        for rule in raw {
            match matchers.get_mut(rule.path_matcher.as_str()) {
                Some(used) => *used = true,
                None => {
                    let name = rule.path_matcher.as_str();
                    let fix = match crate::similar::closest(name, matchers.keys().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("add a path matcher named `{name}`"),
                    };
                    findings.error(
                        Code::ReferenceNotFound,
                        rule.path_matcher.at,
                        format!("the URL map has no path matcher `{name}`"),
                        fix,
                    );
                }
            }
            if rule.hosts.is_empty() {
                findings.error(
                    Code::HostRule,
                    rule.hosts.at,
                    "the rule has no host; it would match nothing",
                    "add a host, or `*` for all",
                );
            }
            self.limit(rule.hosts.len(), 1000, rule.at, "hosts in a host rule", findings);
            let mut in_rule = HashSet::new();
            for host in rule.hosts.iter() {
                if let Err(why) = HostPattern::parse(host) {
                    findings.error(
                    Code::HostRule,
                    host.at,
                    format!("the host pattern `{}` {why}", host.value),
                    "write a host name such as api.example.com, *.example.com, *-api.example.com, or *",
                );
                }
                let folded = host.to_ascii_lowercase();
                in_rule.insert(folded.clone());
                if let Some(first) = seen.insert(folded, host.at) {
                    let first = findings.position(first);
                    findings.error(
                    Code::HostRule,
                    host.at,
                    format!("the host `{}` stands in a host rule already, at {first}; a host belongs to one rule", host.value),
                    "remove one of the two; many host rules may lead to one path matcher",
                );
                }
            }
            all.push(lb::HostRule {
                hosts: rule.hosts.iter().map(|host| host.value.clone()).collect(),
                path_matcher: rule.path_matcher.value.clone(),
            });
        }
        all
    }
}

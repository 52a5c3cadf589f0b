//! URL maps: host rules, path rules, redirects (private-connectivity 2.2 to 2.6).

use super::Lowering;
use super::rules::same_region;
use crate::decode::{At, Text};
use crate::diagnostic::{Code, Findings, Mark};
use crate::fields::load_balancing::{
    HostRule, PathMatcher, RedirectResponseCode, UrlMap, UrlMapTest, UrlRedirect,
};
use crate::model::{Item, Resource};
use slice::load_balancer as lb;
use std::collections::{HashMap, HashSet};

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
            let rules = matcher.path_rules.iter().filter_map(|rule| rule.url_redirect.as_ref());
            rules.chain(&matcher.default_url_redirect)
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
        let default = self.action(
            item,
            (raw.at, raw.faulty),
            raw.default_service.as_ref(),
            raw.default_url_redirect.as_ref(),
            "defaultService",
            findings,
        );
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
        let host_rules = host_rules(&raw.host_rules, &mut by_name, findings);
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
        limit(raw.host_rules.len(), 2000, raw.at, "host rules in a URL map", findings);
        limit(raw.path_matchers.len(), 2000, raw.at, "path matchers in a URL map", findings);
        limit(raw.tests.len(), 100, raw.at, "tests in a URL map", findings);
        let tests = raw.tests.iter().filter_map(|test| self.test(item, test, findings)).collect();
        Some(lb::UrlMap {
            self_link: item.link.clone(),
            default: default?,
            header_action: lb::HeaderAction::default(),
            host_rules,
            path_matchers,
            tests,
            seed: None,
        })
    }

    fn path_matcher(
        &self,
        item: &Item<UrlMap>,
        matcher: &PathMatcher,
        findings: &mut Findings,
    ) -> Option<lb::PathMatcher> {
        let default = self.action(
            item,
            (matcher.at, matcher.faulty),
            matcher.default_service.as_ref(),
            matcher.default_url_redirect.as_ref(),
            "defaultService",
            findings,
        );
        limit(matcher.path_rules.len(), 1000, matcher.at, "path rules in a path matcher", findings);
        let mut seen: HashMap<&str, Mark> = HashMap::new();
        let mut path_rules = Vec::with_capacity(matcher.path_rules.len());
        for rule in &matcher.path_rules {
            let action = self.action(
                item,
                (rule.at, rule.faulty),
                rule.service.as_ref(),
                rule.url_redirect.as_ref(),
                "service",
                findings,
            );
            if rule.paths.is_empty() {
                path_rule(
                    "the rule has no path",
                    "add a path, such as /orders/*",
                    rule.paths.at,
                    findings,
                );
            }
            for path in rule.paths.iter() {
                path_syntax(path, findings);
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
            if let Some(action) = action {
                let paths = rule.paths.iter().map(|path| path.value.clone()).collect();
                path_rules.push(lb::PathRule { paths, route: action });
            }
        }
        Some(lb::PathMatcher {
            name: matcher.name.value.clone(),
            default: default?,
            header_action: lb::HeaderAction::default(),
            rules: lb::Rules::PathRules(path_rules),
        })
    }

    /// Exactly one of service and redirect (2.2).
    fn action(
        &self,
        item: &Item<UrlMap>,
        (at, faulty): (Mark, bool),
        service: Option<&Text>,
        redirect: Option<&UrlRedirect>,
        field: &str,
        findings: &mut Findings,
    ) -> Option<lb::Route> {
        match (service, redirect) {
            (Some(service), None) => {
                let stores = &self.model.backend_services;
                let backend = self.model.find(stores, service, &item.scope(), findings)?;
                same_region(item, backend, service, findings);
                self.backend_service_usable(backend, service, findings);
                Some(lb::Route::service(backend.link.clone()))
            }
            (None, Some(raw)) => {
                let redirect = redirect_of(raw, findings)?;
                Some(lb::Route::new(lb::Destination::UrlRedirect(redirect)))
            }
            (Some(service), Some(_)) => {
                findings.error(
                    Code::ConflictingFields,
                    service.at,
                    "a service and a redirect stand in one place; exactly one of the two is taken",
                    "remove one of the two",
                );
                None
            }
            (None, None) => {
                if !faulty {
                    findings.error(
                        Code::MissingField,
                        at,
                        format!(
                            "`{field}` is missing; requests that come here would have nowhere to go"
                        ),
                        format!("add `{field}`"),
                    );
                }
                None
            }
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
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
        Some(lb::UrlMapTest {
            at: findings.position(test.at).to_string(),
            description: text(&test.description).unwrap_or_default(),
            host: test.host.value.clone(),
            path: test.path.value.clone(),
            service,
            cloud_run_service: test.postern.as_ref().and_then(|ours| text(&ours.cloud_run_service)),
            ..lb::UrlMapTest::default()
        })
    }
}

fn limit(count: usize, most: usize, at: Mark, what: &str, findings: &mut Findings) {
    if count > most {
        findings.error(
            Code::ListTooLong,
            at,
            format!("there are {count} {what}; at most {most} are taken"),
            "split the map",
        );
    }
}

fn path_rule(what: &str, fix: &str, at: Mark, findings: &mut Findings) {
    findings.error(Code::PathRule, at, what, fix);
}

/// A path starts with `/`; `*` stands only at the end, right behind a `/`; no query, no fragment.
fn path_syntax(path: &Text, findings: &mut Findings) {
    let text = path.value.as_str();
    let starred = text.find('*');
    let (what, fix) = if !text.starts_with('/') {
        ("does not begin with `/`", format!("write `/{text}`"))
    } else if starred.is_some_and(|at| at + 1 != text.len() || !text[..at].ends_with('/')) {
        (
            "has a `*` elsewhere than at its end, right behind a `/`",
            "write a path such as /orders/*".into(),
        )
    } else if text.contains(['?', '#']) {
        (
            "holds `?` or `#`; paths are matched without query and fragment",
            "remove the query".into(),
        )
    } else if text.len() > 1024 {
        ("is longer than 1024 characters", "shorten it".into())
    } else {
        return;
    };
    path_rule(&format!("the path `{text}` {what}"), &fix, path.at, findings);
}

/// Host patterns: a host name with an optional port; `*` only first, then `-` or `.` (2.3).
fn host_syntax(text: &str) -> Result<(), &'static str> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if let Some(port) = port
        && (port.starts_with(['0', '+']) || port.parse::<u16>().is_err())
    {
        return Err("has a port that is no number from 1 to 65535");
    }
    let rest = match host.strip_prefix('*') {
        Some("") if port.is_none() => return Ok(()),
        Some(rest) if !rest.starts_with(['-', '.']) => {
            return Err("has something else than `-` or `.` behind its `*`");
        }
        Some(rest) => &rest[1..],
        None => host,
    };
    if rest.contains('*') {
        return Err("has a `*` that is not its first character");
    }
    if host.len() > 255 {
        return Err("is longer than 255 characters");
    }
    // Behind `*-` or `*.` a label may begin with anything that a label may hold.
    match crate::names_rules::is_hostname(rest.trim_start_matches('-')) {
        true => Ok(()),
        false => Err("is no host name"),
    }
}

fn host_rules<'m>(
    raw: &'m [HostRule],
    matchers: &mut HashMap<&'m str, bool>,
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
        limit(rule.hosts.len(), 1000, rule.at, "hosts in a host rule", findings);
        let mut in_rule = HashSet::new();
        for host in rule.hosts.iter() {
            if let Err(what) = host_syntax(host) {
                findings.error(
                    Code::HostRule,
                    host.at,
                    format!("the host pattern `{}` {what}", host.value),
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

fn redirect_of(raw: &UrlRedirect, findings: &mut Findings) -> Option<lb::UrlRedirect> {
    if let (Some(path), Some(_)) = (&raw.path_redirect, &raw.prefix_redirect) {
        findings.error(
            Code::UrlRedirect,
            path.at,
            "pathRedirect and prefixRedirect stand together; only one of the two is taken",
            "remove one of the two",
        );
        return None;
    }
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    Some(lb::UrlRedirect {
        https_redirect: raw.https_redirect.as_ref().is_some_and(|redirect| redirect.value),
        host_redirect: text(&raw.host_redirect),
        path_redirect: text(&raw.path_redirect),
        prefix_redirect: text(&raw.prefix_redirect),
        strip_query: raw.strip_query.unwrap_or(false),
        status: match raw.redirect_response_code {
            None | Some(RedirectResponseCode::MovedPermanently) => 301,
            Some(RedirectResponseCode::Found) => 302,
            Some(RedirectResponseCode::SeeOther) => 303,
            Some(RedirectResponseCode::TemporaryRedirect) => 307,
            Some(RedirectResponseCode::PermanentRedirect) => 308,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::host_syntax;

    #[test]
    fn a_star_is_the_first_character_of_a_host_and_a_hyphen_or_dot_follows() {
        for good in ["*", "example.net", "*.example.net", "*-foo.example.net", "example.net:8080"] {
            assert_eq!(host_syntax(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "*foo",
            "a.*.b",
            "a*",
            "example.net:",
            "*:8080",
            "a:080",
            "example.net:0",
            "exa mple",
            "*.",
            "a..b",
        ] {
            assert!(host_syntax(bad).is_err(), "{bad}");
        }
    }
}

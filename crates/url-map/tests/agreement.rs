//! The compiled map agrees with a naive reading of the rules, on generated maps and requests.
#![allow(clippy::unwrap_used)]

use names::{NetworkId, SelfLink};
use proptest::prelude::*;
use slice::load_balancer::*;
use std::net::Ipv4Addr;
use url_map::{RequestHead, Snapshot};

fn service(number: usize) -> SelfLink {
    SelfLink::new(&format!("backendServices/b{number}"))
}

/// Backend service 0 is the map's default, 1 + i the default of matcher i, 100 + 10 i + j its rule j.
fn load_balancing(hosts: &[Vec<String>], paths: &[Vec<Vec<String>>]) -> LoadBalancing {
    let number = |i: usize, j: usize| 100 + 10 * i + j;
    let path_matchers = paths.iter().enumerate().map(|(i, rules)| {
        let rules = rules.iter().enumerate().map(|(j, paths)| PathRule {
            paths: paths.clone(),
            route: Route::service(service(number(i, j))),
        });
        PathMatcher::new(
            format!("m{i}"),
            Route::service(service(1 + i)),
            Rules::PathRules(rules.collect()),
        )
    });
    let path_matchers: Vec<_> = path_matchers.collect();
    let host_rules = hosts.iter().enumerate().map(|(i, hosts)| HostRule {
        hosts: hosts.clone(),
        path_matcher: format!("m{}", i % paths.len()),
    });
    let mut numbers = vec![0];
    for (i, rules) in paths.iter().enumerate() {
        numbers.push(1 + i);
        numbers.extend((0..rules.len()).map(|j| number(i, j)));
    }
    let backend_services = numbers.into_iter().map(|number| BackendService {
        backends: vec![],
        ..BackendService::new(service(number), SelfLink::new("none"))
    });
    LoadBalancing {
        forwarding_rules: vec![ForwardingRule {
            self_link: SelfLink::new("f"),
            network: NetworkId::new("p", "n"),
            region: "r".into(),
            address: Ipv4Addr::LOCALHOST,
            port: 80,
            allow_global_access: false,
            proxy_address: None,
            target: TargetProxy::new(SelfLink::new("t"), SelfLink::new("u")),
        }],
        url_maps: vec![UrlMap {
            host_rules: host_rules.collect(),
            path_matchers,
            ..UrlMap::new(SelfLink::new("u"), Route::service(service(0)))
        }],
        backend_services: backend_services.collect(),
        network_endpoint_groups: vec![],
        health_checks: vec![],
    }
}

/// The rules as the pages say them: look at every pattern, keep the most specific one.
fn naive(map: &UrlMap, host: &str, path: &str) -> SelfLink {
    let host = host.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for rule in &map.host_rules {
        for pattern in &rule.hosts {
            let pattern = pattern.to_lowercase();
            let matches = match pattern.strip_prefix('*') {
                Some("") => true,
                Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
                None => host == pattern,
            };
            // An exact pattern outranks every wildcard; among those, the longer one wins.
            let rank = if pattern.starts_with('*') { pattern.len() } else { usize::MAX };
            if matches && best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, &rule.path_matcher));
            }
        }
    }
    let service = |route: &Route| match &route.to {
        Destination::Service(link) => link.clone(),
        _ => unreachable!("none is generated"),
    };
    let Some((_, name)) = best else {
        return service(&map.default);
    };
    let matcher = map.path_matchers.iter().find(|matcher| matcher.name == name).unwrap();
    let mut best: Option<(usize, &Route)> = None;
    let Rules::PathRules(rules) = &matcher.rules else { unreachable!("none is generated") };
    for rule in rules {
        for pattern in &rule.paths {
            let (matches, rank) = match pattern.strip_suffix('*') {
                Some(prefix) => (path.starts_with(prefix), prefix.len()),
                None => (path == pattern, usize::MAX),
            };
            if matches && best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, &rule.route));
            }
        }
    }
    service(best.map_or(&matcher.default, |(_, action)| action))
}

/// Splits distinct patterns into rules.
fn split(patterns: Vec<String>, count: usize) -> Vec<Vec<String>> {
    let mut rules = vec![Vec::new(); count];
    for (index, pattern) in patterns.into_iter().enumerate() {
        rules[index % count].push(pattern);
    }
    rules
}

fn distinct(patterns: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    patterns.into_iter().filter(|pattern| seen.insert(pattern.to_lowercase())).collect()
}

fn host_pattern() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("*".to_owned()),
        "(\\*[.-])?[abB]([.-]?[ab]){0,3}",
        "(\\*\\.)?[ab](\\.[ab]){0,2}:80",
    ]
}

fn path_pattern() -> impl Strategy<Value = String> {
    prop_oneof!["/", "/\\*", "(/[abA]{0,2}){1,4}", "(/[ab]{0,2}){1,3}/\\*"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]
    #[test]
    fn the_compiled_map_agrees_with_the_naive_one(
        hosts in prop::collection::vec(host_pattern(), 0..12).prop_map(distinct),
        paths in prop::collection::vec(prop::collection::vec(path_pattern(), 0..8), 1..3),
        requests in prop::collection::vec(
            ("[abB]([.-]?[abA]){0,4}(:80)?|", "(/[abA]{0,2}){1,5}"), 1..12),
    ) {
        let rules = hosts.len().clamp(1, 4);
        let paths: Vec<_> = paths
            .into_iter()
            .map(|patterns| {
                // Paths differ by case, so only equal ones are dropped.
                let mut seen = std::collections::HashSet::new();
                let patterns = patterns.into_iter().filter(|one| seen.insert(one.clone())).collect();
                split(patterns, 3)
            })
            .collect();
        let load_balancing = load_balancing(&split(hosts, rules), &paths);
        let snapshot = Snapshot::compile(&load_balancing).unwrap();
        for (host, path) in requests {
            let head = RequestHead::new(&host, &path);
            let decision = snapshot.front("f").unwrap().decide(&head);
            prop_assert_eq!(
                &decision.backend_service.unwrap().self_link,
                &naive(&load_balancing.url_maps[0], &host, &path),
                "{} {}", host, path
            );
        }
    }
}

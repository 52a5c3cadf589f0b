//! Which load balancers count as healthy for routing policies of Cloud DNS.

use names::SelfLink;
use slice::BackendState;
use slice::load_balancer::{LoadBalancing, NetworkTarget, Rules, UrlMap};
use std::collections::{BTreeSet, HashSet};

/// The forwarding rules none of whose checked backends is well. A rule is healthy while one
/// endpoint of one of its backend services is, or while nothing checks them (unconfirmed: Cloud DNS
/// asks the probers of passthrough load balancers, and the proxies of the others).
pub fn unhealthy(balancing: &LoadBalancing, states: &[BackendState]) -> BTreeSet<SelfLink> {
    let well = |state: &&BackendState| state.health_state != "UNHEALTHY" && !state.ejected;
    let checked: HashSet<&SelfLink> = states.iter().map(|state| &state.backend_service).collect();
    let healthy: HashSet<&SelfLink> =
        states.iter().filter(well).map(|state| &state.backend_service).collect();
    let is_ill = |services: &[&SelfLink]| {
        let mut with_checks = services.iter().filter(|link| checked.contains(**link)).peekable();
        services.iter().all(|link| checked.contains(*link))
            && with_checks.peek().is_some()
            && !with_checks.any(|link| healthy.contains(*link))
    };
    let mut ill = BTreeSet::new();
    for rule in &balancing.forwarding_rules {
        let map = balancing.url_maps.iter().find(|map| map.self_link == rule.target.url_map);
        if map.is_some_and(|map| is_ill(&services(map))) {
            ill.insert(rule.self_link.clone());
        }
    }
    for rule in &balancing.network_rules {
        let service = match &rule.target {
            NetworkTarget::TcpProxy(proxy) => &proxy.service,
            NetworkTarget::PassthroughService(link) => link,
            NetworkTarget::Instance(_) => continue,
        };
        if is_ill(&[service]) {
            ill.insert(rule.self_link.clone());
        }
    }
    ill
}

/// Every backend service that a URL map can lead to.
fn services(map: &UrlMap) -> Vec<&SelfLink> {
    let mut all: Vec<&SelfLink> = map.default.services().collect();
    for matcher in &map.path_matchers {
        all.extend(matcher.default.services());
        match &matcher.rules {
            Rules::PathRules(rules) => {
                all.extend(rules.iter().flat_map(|rule| rule.route.services()))
            }
            Rules::RouteRules(rules) => {
                all.extend(rules.iter().flat_map(|rule| rule.route.services()))
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use slice::load_balancer::{
        NetworkForwardingRule, PathMatcher, Ports, Route, RuleProtocol, TargetTcpProxy,
    };

    fn state(service: &str, health_state: &str, ejected: bool) -> BackendState {
        BackendState {
            backend_service: SelfLink::new(service),
            endpoint: "10.0.0.2:80".to_owned(),
            health_state: health_state.to_owned(),
            ejected,
        }
    }

    #[test]
    fn a_rule_is_ill_when_all_that_is_checked_behind_it_is() {
        let proxy = TargetTcpProxy {
            self_link: SelfLink::new("proxy"),
            service: SelfLink::new("db"),
            proxy_header: false,
        };
        let balancing = LoadBalancing {
            network_rules: vec![NetworkForwardingRule {
                self_link: SelfLink::new("rule"),
                network: names::NetworkId::new("p", "n"),
                region: "r".to_owned(),
                address: [10, 0, 0, 9].into(),
                protocol: RuleProtocol::Tcp,
                ports: Ports::All,
                allow_global_access: false,
                proxy_address: None,
                target: NetworkTarget::TcpProxy(proxy),
            }],
            ..LoadBalancing::default()
        };
        let is_ill = |states: &[BackendState]| !unhealthy(&balancing, states).is_empty();
        assert!(!is_ill(&[]), "nothing checks it");
        assert!(!is_ill(&[state("other", "UNHEALTHY", false)]));
        assert!(is_ill(&[state("db", "UNHEALTHY", false)]));
        assert!(is_ill(&[state("db", "HEALTHY", true)]));
        assert!(!is_ill(&[state("db", "UNHEALTHY", false), state("db", "HEALTHY", false)]));
        assert!(!is_ill(&[state("db", "UNKNOWN", false)]));
    }

    #[test]
    fn every_route_of_a_url_map_counts() {
        let mut map = UrlMap::new(SelfLink::new("map"), Route::service(SelfLink::new("a")));
        let default = Route::service(SelfLink::new("b"));
        map.path_matchers.push(PathMatcher::new("m", default, Rules::PathRules(Vec::new())));
        let services: Vec<&str> = services(&map).into_iter().map(SelfLink::as_str).collect();
        assert_eq!(services, ["a", "b"]);
    }
}

//! Makes a failing case small: drops one thing after the other, as long as it still fails.

use crate::Case;
use slice::load_balancer::{Destination, HeaderAction, Route, Rules, UrlMap};

/// The smallest case on which `fails` still says yes, reached by dropping single things.
pub fn shrink(mut case: Case, fails: impl Fn(&Case) -> bool) -> Case {
    while let Some(smaller) = smaller(&case).into_iter().find(&fails) {
        case = smaller;
    }
    case
}

fn smaller(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    if case.requests.len() > 1 {
        let one =
            |request: &crate::Request| Case { requests: vec![request.clone()], ..case.clone() };
        all.extend(case.requests.iter().map(one));
    }
    for index in 0..case.requests.iter().map(|request| request.headers.len()).max().unwrap_or(0) {
        let mut case = case.clone();
        for request in &mut case.requests {
            if index < request.headers.len() {
                request.headers.remove(index);
            }
        }
        all.push(case);
    }
    // Each edit below is numbered; the n-th one is done in the n-th copy.
    for number in 0.. {
        let mut smaller = case.clone();
        if !edit(&mut smaller.load_balancing.url_maps[0], number) {
            break;
        }
        all.push(smaller);
    }
    all
}

/// Counts down to the edit that is to be done.
struct Countdown(usize);

impl Countdown {
    fn now(&mut self) -> bool {
        let now = self.0 == 0;
        self.0 = self.0.wrapping_sub(1);
        now
    }

    fn drop_one<T>(&mut self, all: &mut Vec<T>, keep: usize) -> bool {
        if all.len() <= keep {
            return false;
        }
        match (0..all.len()).find(|_| self.now()) {
            Some(index) => {
                all.remove(index);
                true
            }
            None => false,
        }
    }

    fn clear(&mut self, headers: &mut HeaderAction) -> bool {
        if headers.is_empty() || !self.now() {
            return false;
        }
        *headers = HeaderAction::default();
        true
    }

    fn route(&mut self, route: &mut Route) -> bool {
        if let Destination::Weighted(all) = &mut route.to {
            if self.now() {
                route.to = Destination::Service(all[0].backend_service.clone());
                return true;
            }
            if all.iter_mut().any(|one| self.clear(&mut one.header_action)) {
                return true;
            }
        }
        if route.action.is_some() && self.now() {
            route.action = None;
            return true;
        }
        let Some(action) = &mut route.action else { return false };
        fn none<T>(what: &mut Option<T>, countdown: &mut Countdown) -> bool {
            what.is_some() && countdown.now() && what.take().is_some()
        }
        none(&mut action.url_rewrite, self)
            || none(&mut action.timeout, self)
            || none(&mut action.retry_policy, self)
            || none(&mut action.request_mirror_policy, self)
            || none(&mut action.cors_policy, self)
            || none(&mut action.fault_injection_policy, self)
    }
}

/// Does edit number `number`; false: there is none.
fn edit(map: &mut UrlMap, number: usize) -> bool {
    let mut at = Countdown(number);
    if at.drop_one(&mut map.host_rules, 0) {
        let rules = &map.host_rules;
        map.path_matchers.retain(|one| rules.iter().any(|rule| rule.path_matcher == one.name));
        return true;
    }
    if map.host_rules.iter_mut().any(|rule| at.drop_one(&mut rule.hosts, 1))
        || at.route(&mut map.default)
        || at.clear(&mut map.header_action)
    {
        return true;
    }
    map.path_matchers.iter_mut().any(|matcher| {
        let rules = match &mut matcher.rules {
            Rules::PathRules(rules) => {
                at.drop_one(rules, 1)
                    || rules.iter_mut().any(|rule| at.drop_one(&mut rule.paths, 1))
                    || rules.iter_mut().any(|rule| at.route(&mut rule.route))
            }
            Rules::RouteRules(rules) => {
                at.drop_one(rules, 1)
                    || rules.iter_mut().any(|rule| {
                        at.drop_one(&mut rule.match_rules, 1)
                            || rule.match_rules.iter_mut().any(|one| {
                                at.drop_one(&mut one.header_matches, 0)
                                    || at.drop_one(&mut one.query_parameter_matches, 0)
                            })
                            || at.route(&mut rule.route)
                            || at.clear(&mut rule.header_action)
                    })
            }
        };
        rules || at.route(&mut matcher.default) || at.clear(&mut matcher.header_action)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, case};

    #[test]
    fn what_does_not_matter_is_dropped() {
        let big = case(7, Profile::Engine);
        let rules = |case: &Case| case.load_balancing.url_maps[0].host_rules.len();
        let small = shrink(big.clone(), |case| rules(case) > 0);
        assert!(rules(&big) > 0 && rules(&small) == 1);
        assert_eq!(small.requests.len(), 1);
        assert_eq!(small.load_balancing.url_maps[0].host_rules[0].hosts.len(), 1);
    }
}

//! What a rule leads to, compiled: destination, `routeAction`, header actions; and the rules of a
//! path matcher (private-connectivity 2.4 to 2.6).

use crate::actions::HeaderAction;
use crate::compile::Compiler;
use crate::cors::CorsPolicy;
use crate::defect::{Defect, Place};
use crate::paths::{Matched, PathTable};
use crate::predicate::{MatchRule, PathTest};
use crate::redirect::{STATUSES, redirect_text};
use crate::retry::Retry;
use crate::rewrite::UrlRewrite;
use crate::roll::{Draw, Share, below};
use crate::routes::RouteTable;
use crate::table::TextMap;
use names::SelfLink;
use slice::load_balancer::{self as raw, Destination, UrlRedirect};
use std::collections::HashSet;
use std::time::Duration;

/// A path matcher.
#[derive(Clone, Debug)]
pub struct PathMatcher {
    /// Name inside the URL map.
    pub name: String,
    pub(crate) rules: Rules,
    pub(crate) default: Route,
    pub(crate) header_action: Option<Box<HeaderAction>>,
}

/// The rules of a path matcher.
#[derive(Clone, Debug)]
pub(crate) enum Rules {
    /// One route per path rule.
    Paths(PathTable, Vec<Route>),
    Routes(RouteTable),
}

/// A route rule.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The lowest number goes first.
    pub priority: u32,
    /// Free text.
    pub description: String,
    /// One of these must match.
    pub match_rules: Vec<MatchRule>,
    pub(crate) route: Route,
    pub(crate) header_action: Option<Box<HeaderAction>>,
}

/// What a rule leads to.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub to: To,
    /// Boxed: most routes have none.
    pub action: Option<Box<Action>>,
}

#[derive(Clone, Debug)]
pub(crate) enum To {
    /// Index of a backend service.
    Service(u32),
    Weighted(Box<Weighted>),
    Redirect(Box<UrlRedirect>),
}

/// Weighted backend services.
#[derive(Clone, Debug)]
pub(crate) struct Weighted {
    /// Of all weights; not 0.
    pub sum: u64,
    pub services: Vec<WeightedService>,
    /// The largest of the services'.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct WeightedService {
    /// Index of a backend service.
    pub service: u32,
    pub weight: u32,
    pub header_action: Option<Box<HeaderAction>>,
}

impl Weighted {
    /// The place of the one that this request goes to: its share is its weight over the sum.
    pub(crate) fn choose(&self, roll: u64) -> usize {
        let mut number = below(roll, Draw::Weight, self.sum);
        for (place, one) in self.services.iter().enumerate() {
            match number.checked_sub(one.weight.into()) {
                Some(rest) => number = rest,
                None => return place,
            }
        }
        0
    }
}

/// So many numbers are tried for one by which chance falls as it is asked to.
const ROLLS_MAX: u64 = 1 << 20;

impl Route {
    /// Does anything here depend on chance?
    pub(crate) fn by_chance(&self) -> bool {
        let weighted = match &self.to {
            To::Weighted(weighted) => {
                weighted.services.iter().filter(|one| one.weight > 0).count() > 1
            }
            _ => false,
        };
        weighted || self.shares().any(|(share, _)| !matches!(share.percent(), 0.0 | 100.0))
    }

    /// The places of the weighted backend services that get requests, the likeliest first.
    pub(crate) fn places(&self) -> Vec<usize> {
        let To::Weighted(weighted) = &self.to else { return Vec::new() };
        let weight = |place: &usize| weighted.services[*place].weight;
        let all = 0..weighted.services.len();
        let mut places: Vec<_> = all.filter(|place| weight(place) > 0).collect();
        places.sort_by_key(|place| std::cmp::Reverse(weight(place)));
        places
    }

    /// A number by which the request goes to this place, and everything else falls as it does most
    /// often. 0 where a million numbers have none.
    pub(crate) fn roll_for(&self, place: Option<usize>) -> u64 {
        let falls = |roll: &u64| {
            let goes = match (&self.to, place) {
                (To::Weighted(weighted), Some(place)) => weighted.choose(*roll) == place,
                _ => true,
            };
            goes && self
                .shares()
                .all(|(share, draw)| share.hits(*roll, draw) == (share.percent() > 50.0))
        };
        (0..ROLLS_MAX).find(falls).unwrap_or_default()
    }

    fn shares(&self) -> impl Iterator<Item = (Share, Draw)> {
        let action = self.action.as_ref();
        let delay = action.and_then(|one| one.delay).map(|(_, share)| (share, Draw::Delay));
        let abort = action.and_then(|one| one.abort).map(|(_, share)| (share, Draw::Abort));
        let mirror = action.and_then(|one| one.mirror).map(|(_, share)| (share, Draw::Mirror));
        delay.into_iter().chain(abort).chain(mirror)
    }
}

/// `routeAction`.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    pub rewrite: Option<UrlRewrite>,
    pub timeout: Option<Duration>,
    pub retry: Option<Retry>,
    pub mirror: Option<(u32, Share)>,
    pub cors: Option<CorsPolicy>,
    pub delay: Option<(Duration, Share)>,
    pub abort: Option<(u16, Share)>,
}

impl RouteRule {
    /// The part of the path that the n-th match rule has matched.
    pub(crate) fn matched(&self, rule: usize) -> Matched {
        match self.match_rules.get(rule).map(|one| &one.path) {
            Some(PathTest::Prefix(text, _)) => Matched::Prefix(text.len()),
            Some(PathTest::Template(_)) => Matched::Template(rule),
            _ => Matched::Whole,
        }
    }
}

/// Where a route stands, and whose names it may use.
pub(crate) struct Site<'a> {
    pub map: &'a SelfLink,
    pub place: Place,
    pub services: &'a TextMap,
    /// Timeouts of the backend services, and whether each is serverless.
    pub known: &'a [crate::compile::BackendService],
    pub rules: &'a [MatchRule],
}

impl Site<'_> {
    fn defect(&self, compiler: &mut Compiler, defect: Defect) {
        compiler.error(self.map, Defect::At(self.place.clone(), Box::new(defect)));
    }
}

impl Compiler {
    pub(crate) fn path_matcher(
        &mut self,
        map: &SelfLink,
        matcher: &raw::PathMatcher,
        services: &TextMap,
        known: &[crate::compile::BackendService],
    ) -> PathMatcher {
        fn site<'a>(outer: &Site<'a>, place: Place, rules: &'a [MatchRule]) -> Site<'a> {
            Site { place, rules, ..*outer }
        }
        let outer = Site { map, place: Place::UrlMap, services, known, rules: &[] };
        let name = &matcher.name;
        let rules = match &matcher.rules {
            raw::Rules::PathRules(rules) => {
                let mut paths = PathTable::default();
                let mut routes = Vec::with_capacity(rules.len());
                for (index, rule) in (0u32..).zip(rules) {
                    let first = rule.paths.first().cloned().unwrap_or_default();
                    let place = Place::PathRule(name.clone(), first);
                    routes.push(self.route(&site(&outer, place, &[]), &rule.route));
                    for path in &rule.paths {
                        if let Err(error) = paths.insert(path, index) {
                            self.error(map, Defect::Path(name.clone(), path.clone(), error));
                        }
                    }
                }
                Rules::Paths(paths, routes)
            }
            raw::Rules::RouteRules(rules) => {
                let mut priorities = HashSet::new();
                let mut compiled = Vec::with_capacity(rules.len());
                for rule in rules {
                    let place = Place::RouteRule(name.clone(), rule.priority);
                    let mut match_rules = Vec::with_capacity(rule.match_rules.len());
                    for (n, one) in rule.match_rules.iter().enumerate() {
                        match MatchRule::parse(one) {
                            Ok(one) => match_rules.push(one),
                            Err(why) => {
                                let defect = Defect::Match(n, why);
                                site(&outer, place.clone(), &[]).defect(self, defect);
                            }
                        }
                    }
                    if !priorities.insert(rule.priority) {
                        site(&outer, place.clone(), &[]).defect(self, Defect::DuplicatePriority);
                    }
                    if rule.match_rules.is_empty() {
                        site(&outer, place.clone(), &[]).defect(self, Defect::NoMatchRule);
                    }
                    let site = Site { map, place, services, known, rules: &match_rules };
                    let route = self.route(&site, &rule.route);
                    let header_action = self.header_action(&site, &rule.header_action);
                    compiled.push(RouteRule {
                        priority: rule.priority,
                        description: rule.description.clone(),
                        match_rules,
                        route,
                        header_action,
                    });
                }
                compiled.sort_by_key(|rule| rule.priority);
                Rules::Routes(RouteTable::new(compiled))
            }
        };
        let site = site(&outer, Place::PathMatcher(name.clone()), &[]);
        PathMatcher {
            name: name.clone(),
            rules,
            default: self.route(&site, &matcher.default),
            header_action: self.header_action(&site, &matcher.header_action),
        }
    }

    pub(crate) fn header_action(
        &mut self,
        site: &Site<'_>,
        action: &raw::HeaderAction,
    ) -> Option<Box<HeaderAction>> {
        HeaderAction::parse(action).unwrap_or_else(|why| {
            site.defect(self, Defect::HeaderAction(why));
            None
        })
    }

    pub(crate) fn route(&mut self, site: &Site<'_>, route: &raw::Route) -> Route {
        let to = match &route.to {
            Destination::Service(link) => To::Service(self.resolve(site.map, site.services, link)),
            Destination::Weighted(all) => self.weighted(site, all),
            Destination::UrlRedirect(redirect) => {
                if !STATUSES.contains(&redirect.status) {
                    self.error(site.map, Defect::RedirectStatus(redirect.status));
                }
                if redirect.path_redirect.is_some() && redirect.prefix_redirect.is_some() {
                    self.error(site.map, Defect::RedirectPathAndPrefix);
                }
                let raw::UrlRedirect { host_redirect, path_redirect, prefix_redirect, .. } =
                    redirect;
                for text in [host_redirect, path_redirect, prefix_redirect].into_iter().flatten() {
                    if let Err(c) = redirect_text(text) {
                        site.defect(self, Defect::RedirectCharacter(text.clone(), c));
                    }
                }
                if route.action.is_some() {
                    site.defect(self, Defect::RedirectAndAction);
                }
                To::Redirect(Box::new(redirect.clone()))
            }
        };
        let action = route.action.as_ref().map(|action| Box::new(self.route_action(site, action)));
        Route { to, action }
    }

    fn weighted(&mut self, site: &Site<'_>, all: &[raw::WeightedBackendService]) -> To {
        let sum = all.iter().map(|one| u64::from(one.weight)).sum();
        if sum == 0 {
            site.defect(self, Defect::NoWeight);
        }
        let mut services = Vec::with_capacity(all.len());
        for one in all {
            services.push(WeightedService {
                service: self.resolve(site.map, site.services, &one.backend_service),
                weight: one.weight,
                header_action: self.header_action(site, &one.header_action),
            });
        }
        // "Default = largest timeout of the route's backend services" (2.6).
        let timeouts =
            services.iter().filter_map(|one| Some(site.known.get(one.service as usize)?.timeout));
        let timeout = timeouts.max().unwrap_or_default();
        To::Weighted(Box::new(Weighted { sum, services, timeout }))
    }

    fn route_action(&mut self, site: &Site<'_>, action: &raw::RouteAction) -> Action {
        let templates: Vec<_> = site
            .rules
            .iter()
            .map_while(|rule| match &rule.path {
                PathTest::Template(template) => Some(template),
                _ => None,
            })
            .collect();
        let templates = if templates.len() == site.rules.len() { &templates[..] } else { &[] };
        let rewrite = action.url_rewrite.as_ref().and_then(|rewrite| {
            let parsed = UrlRewrite::parse(rewrite, templates);
            parsed.map_err(|why| site.defect(self, Defect::Rewrite(why))).ok()
        });
        let cors = action.cors_policy.as_ref().and_then(|policy| {
            let parsed = CorsPolicy::parse(policy);
            parsed.map_err(|why| site.defect(self, Defect::Cors(why))).ok().flatten()
        });
        let mirror = action.request_mirror_policy.as_ref().map(|mirror| {
            let index = self.resolve(site.map, site.services, &mirror.backend_service);
            if site.known.get(index as usize).is_some_and(|service| service.is_serverless()) {
                site.defect(self, Defect::ServerlessMirror(mirror.backend_service.clone()));
            }
            (index, Share::of_percent(mirror.mirror_percent))
        });
        let fault = action.fault_injection_policy.as_ref();
        let delay = fault.and_then(|fault| fault.delay.as_ref());
        let abort = fault.and_then(|fault| fault.abort.as_ref());
        if let Some(abort) = abort
            && !(200..600).contains(&abort.http_status)
        {
            site.defect(self, Defect::AbortStatus(abort.http_status));
        }
        Action {
            rewrite,
            timeout: action.timeout,
            retry: action.retry_policy.as_ref().map(Retry::compile),
            mirror,
            cors,
            delay: delay.map(|one| (one.fixed_delay, Share::of_percent(one.percentage))),
            abort: abort.map(|one| (one.http_status, Share::of_percent(one.percentage))),
        }
    }
}

/// Every route of a matcher, its default last.
pub(crate) fn routes(matcher: &PathMatcher) -> impl Iterator<Item = &Route> {
    let (paths, rules): (&[Route], &[RouteRule]) = match &matcher.rules {
        Rules::Paths(_, routes) => (routes, &[]),
        Rules::Routes(rules) => (&[], rules.rules()),
    };
    paths.iter().chain(rules.iter().map(|rule| &rule.route)).chain([&matcher.default])
}

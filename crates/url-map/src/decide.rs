//! The decision itself: one request, one snapshot, one answer with its evidence.

use crate::actions::HeaderActions;
use crate::compile::{BackendService, Backends, ForwardingRule, Snapshot, UrlMap};
use crate::cors::{CorsPolicy, is_preflight};
use crate::group::CloudRunTarget;
use crate::hosts::HostMatch;
use crate::mask::{Captures, Mismatch, Placeholder};
use crate::paths::{Matched, PathMatch};
use crate::redirect::{collapsed, is_uncollapsed, location};
use crate::request::RequestHead;
use crate::retry::{self, Retry};
use crate::rewrite::Rewrite;
use crate::roll::Draw;
use crate::route::{Action, PathMatcher, Route, RouteRule, Rules, To};
use names::Reason;
use names::region_admits;
use std::borrow::Cow;
use std::time::Duration;

/// A forwarding rule of a snapshot: what a listener resolves once and asks for every request.
#[derive(Clone, Copy, Debug)]
pub struct Front<'s> {
    pub(crate) snapshot: &'s Snapshot,
    pub(crate) rule: &'s ForwardingRule,
}

/// What becomes of a request, and what led there. Borrows from the snapshot and, as evidence, from
/// the request.
#[derive(Clone, Debug)]
pub struct Decision<'s, 'r> {
    /// The URL map.
    pub url_map: &'s UrlMap,
    /// The host rule.
    pub host: HostMatch<'s>,
    /// Its path matcher; none where the URL map's own default applies.
    pub path_matcher: Option<&'s PathMatcher>,
    /// The path rule or route rule.
    pub rule: RuleMatch<'s>,
    /// The backend service; none for an answer of the load balancer's own.
    pub backend_service: Option<&'s BackendService>,
    /// Its place among the route's weighted backend services, where there are such.
    pub weighted: Option<usize>,
    /// What becomes of host and path on the way to the backend.
    pub rewrite: Rewrite<'s>,
    /// Which headers come and go.
    pub headers: HeaderActions<'s>,
    /// The policy that the answer's cross-origin fields come from: the request has an origin that
    /// it allows.
    pub cors: Option<&'s CorsPolicy>,
    /// How long the request is held up on purpose.
    pub delay: Option<Duration>,
    /// Where a copy of the request goes.
    pub mirror: Option<&'s BackendService>,
    /// What the URL mask found, where there is one and it matched.
    pub captures: Option<Captures<'r>>,
    /// What to do.
    pub outcome: Outcome<'s, 'r>,
    pub(crate) route: Option<&'s Route>,
    pub(crate) snapshot: &'s Snapshot,
}

/// Which rule of a path matcher matched.
#[derive(Clone, Copy, Debug)]
pub enum RuleMatch<'s> {
    /// None: a default applies.
    Default,
    /// A path rule.
    PathRule(PathMatch<'s>),
    /// A route rule.
    RouteRule {
        /// The rule.
        rule: &'s RouteRule,
        /// Which of its match rules, the first one that does.
        match_rule: usize,
    },
}

impl RuleMatch<'_> {
    fn matched(&self) -> Matched {
        match self {
            RuleMatch::Default => Matched::Default,
            RuleMatch::PathRule(path) => path.matched(),
            RuleMatch::RouteRule { rule, match_rule } => rule.matched(*match_rule),
        }
    }
}

impl std::fmt::Display for RuleMatch<'_> {
    /// As the load balancer's log writes `matched_url_path_rule`; for a route rule the text of its
    /// path predicate ((unconfirmed)).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RuleMatch::Default => f.write_str("UNMATCHED"),
            RuleMatch::PathRule(path) => path.fmt(f),
            RuleMatch::RouteRule { rule, match_rule } => {
                f.write_str(rule.match_rules.get(*match_rule).map_or("", |one| one.path.as_str()))
            }
        }
    }
}

/// How long an answer may take, and when the request is sent again.
#[derive(Clone, Copy, Debug)]
pub struct Budget<'s> {
    /// From the end of the request to the end of the answer, retries included. For serverless
    /// backends 60 minutes, unless the route says less.
    pub timeout: Duration,
    /// When the request is sent again.
    pub retry: &'s Retry,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Outcome<'s, 'r> {
    /// Forward to Cloud Run.
    CloudRun {
        /// The service, and tag.
        target: &'s CloudRunTarget,
        /// How long and how often.
        budget: Budget<'s>,
    },
    /// Forward to one of the backend service's endpoints; which one is decided elsewhere.
    Endpoints {
        /// How long and how often.
        budget: Budget<'s>,
    },
    /// Answer a CORS preflight request.
    Preflight,
    /// Answer with a redirect.
    Redirect(Redirect),
    /// Answer with an error.
    Refuse {
        /// Why.
        reason: Reason,
        /// The HTTP status.
        status: u16,
        /// What exactly.
        evidence: Evidence<'s, 'r>,
    },
}

/// A redirect that the load balancer answers by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The `Location`, absolute.
    pub location: String,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `URL_PATH_COLLAPSED` where no rule asked for it; such an answer is not logged (2.8).
    pub reason: Option<Reason>,
}

/// What exactly led to a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence<'s, 'r> {
    /// The reason says it all.
    None,
    /// Where URL and mask differ.
    Mask(Mismatch<'s, 'r>),
    /// The mask picked a text that is no name.
    IllegalName {
        /// For what.
        placeholder: Placeholder,
        /// Which text.
        text: Cow<'r, str>,
    },
    /// No service of this name is in the group's project and region.
    UnknownService(String),
    /// The service has no such tag.
    UnknownTag {
        /// The service's short name.
        service: &'s str,
        /// The tag asked for.
        tag: String,
    },
}

impl Decision<'_, '_> {
    /// Could the same request be decided otherwise with another number?
    pub fn by_chance(&self) -> bool {
        self.route.is_some_and(Route::by_chance)
    }

    /// A number with which the request is decided as it is most often: it goes where most requests
    /// go, and a fault or mirror happens if it happens to most of them.
    pub fn likely_roll(&self) -> u64 {
        self.route.map_or(0, |route| route.roll_for(route.places().first().copied()))
    }

    /// Why the answer is no; none where the request is forwarded or a rule redirects it.
    pub fn reason(&self) -> Option<Reason> {
        match &self.outcome {
            Outcome::Refuse { reason, .. } => Some(*reason),
            Outcome::Redirect(redirect) => redirect.reason,
            Outcome::CloudRun { .. } | Outcome::Endpoints { .. } | Outcome::Preflight => None,
        }
    }
}

impl Snapshot {
    /// The forwarding rule with this self link.
    pub fn front(&self, forwarding_rule: &str) -> Option<Front<'_>> {
        let (_, index) = self.forwarding_rule_links.get(forwarding_rule.as_bytes())?;
        let rule = self.forwarding_rules.get(index as usize)?;
        Some(Front { snapshot: self, rule })
    }

    /// Host rule, path rule or route rule, what its action says, backend service, group, in this
    /// order.
    pub(crate) fn route<'s, 'r>(
        &'s self,
        url_map: &'s UrlMap,
        https: bool,
        head: &RequestHead<'r>,
    ) -> Decision<'s, 'r> {
        let mut decision = Decision {
            url_map,
            host: HostMatch::Default,
            path_matcher: None,
            rule: RuleMatch::Default,
            backend_service: None,
            weighted: None,
            rewrite: Rewrite::default(),
            headers: HeaderActions::default(),
            cors: None,
            delay: None,
            mirror: None,
            captures: None,
            outcome: refuse(Reason::UrlMapNoMatch, Evidence::None),
            route: None,
            snapshot: self,
        };
        if is_uncollapsed(head.path) {
            decision.outcome = Outcome::Redirect(Redirect {
                location: collapsed(https, head.host, head.path, head.query),
                status: 302,
                reason: Some(Reason::UrlPathCollapsed),
            });
            return decision;
        }
        let mut route = &url_map.default;
        decision.headers.set(URL_MAP, url_map.header_action.as_deref());
        if let Some((host, matcher)) = url_map.hosts.find(head.host)
            && let Some(matcher) = url_map.matchers.get(matcher as usize)
        {
            decision.host = host;
            decision.path_matcher = Some(matcher);
            decision.headers.set(PATH_MATCHER, matcher.header_action.as_deref());
            (decision.rule, route) = matcher.find(head);
            if let RuleMatch::RouteRule { rule, .. } = decision.rule {
                decision.headers.set(ROUTE_RULE, rule.header_action.as_deref());
            }
        }
        decision.route = Some(route);
        match &route.to {
            To::Redirect(redirect) => {
                let RequestHead { host, path, query, .. } = *head;
                let matched = decision.rule.matched();
                decision.outcome = Outcome::Redirect(Redirect {
                    location: location(redirect, matched, https, host, path, query),
                    status: redirect.status,
                    reason: None,
                });
            }
            To::Service(index) => self.forward(route, *index, None, head, &mut decision),
            To::Weighted(weighted) => {
                let place = weighted.choose(head.roll);
                if let Some(one) = weighted.services.get(place) {
                    decision.weighted = Some(place);
                    decision.headers.set(WEIGHTED, one.header_action.as_deref());
                    let timeout = Some(weighted.timeout);
                    self.forward(route, one.service, timeout, head, &mut decision);
                }
            }
        }
        decision
    }

    /// What `routeAction` says, in the order of Envoy's filters (cross-origin, fault, router), and
    /// the backend service.
    fn forward<'s, 'r>(
        &'s self,
        route: &'s Route,
        service: u32,
        timeout: Option<Duration>,
        head: &RequestHead<'r>,
        decision: &mut Decision<'s, 'r>,
    ) {
        let Some(service) = self.backend_services.get(service as usize) else { return };
        decision.backend_service = Some(service);
        let mut budget =
            Budget { timeout: timeout.unwrap_or(service.timeout), retry: &retry::DEFAULT };
        if let Some(action) = &route.action {
            if let Some(timeout) = action.timeout {
                budget.timeout = timeout;
            }
            if let Some(retry) = &action.retry {
                budget.retry = retry;
            }
            if let Some(outcome) = self.act(action, head, decision) {
                decision.outcome = outcome;
                return;
            }
        }
        self.select(service, budget, head, decision);
    }

    /// Everything of `routeAction` but its budget; the outcome, where it is an answer already.
    fn act<'s, 'r>(
        &'s self,
        action: &'s Action,
        head: &RequestHead<'r>,
        decision: &mut Decision<'s, 'r>,
    ) -> Option<Outcome<'s, 'r>> {
        decision.cors = action.cors.as_ref().filter(|policy| policy.allows(head.headers));
        if decision.cors.is_some() && is_preflight(head.method, head.headers) {
            return Some(Outcome::Preflight);
        }
        if let Some((delay, share)) = action.delay
            && share.hits(head.roll, Draw::Delay)
        {
            decision.delay = Some(delay);
        }
        if let Some((status, share)) = action.abort
            && share.hits(head.roll, Draw::Abort)
        {
            let reason = Reason::FaultFilterAbort;
            return Some(Outcome::Refuse { reason, status, evidence: Evidence::None });
        }
        if let Some(rewrite) = &action.rewrite {
            decision.rewrite = rewrite.apply(decision.rule.matched(), head.path, head.query);
        }
        if let Some((mirror, share)) = action.mirror
            && share.hits(head.roll, Draw::Mirror)
        {
            decision.mirror = self.backend_services.get(mirror as usize);
        }
        None
    }

    fn select<'s, 'r>(
        &'s self,
        service: &'s BackendService,
        budget: Budget<'s>,
        head: &RequestHead<'r>,
        decision: &mut Decision<'s, 'r>,
    ) {
        decision.outcome = match &service.backends {
            Backends::None => refuse(Reason::BackendServiceEmpty, Evidence::None),
            Backends::Endpoints(all) if all.is_empty() => {
                refuse(Reason::NetworkEndpointGroupEmpty, Evidence::None)
            }
            Backends::Endpoints(_) => Outcome::Endpoints { budget },
            Backends::Serverless(selector) => {
                let Some(catalogue) = self.catalogues.get(selector.catalogue as usize) else {
                    decision.outcome = refuse(Reason::CloudRunServiceNotFound, Evidence::None);
                    return;
                };
                // The mask is applied to the rewritten URL (3.3).
                let Rewrite { host, path_and_query } = &decision.rewrite;
                let (captures, target) = match path_and_query {
                    None => {
                        // A rewritten host outlives the request, not the request's lifetime.
                        match host {
                            None => selector.select(catalogue, head.host, head.path).parts(),
                            Some(host) => selector.select(catalogue, host, head.path).into_owned(),
                        }
                    }
                    Some(new) => {
                        let path = new.split('?').next().unwrap_or_default();
                        let host = host.unwrap_or(head.host);
                        selector.select(catalogue, host, path).into_owned()
                    }
                };
                decision.captures = captures;
                match target {
                    Ok(target) => Outcome::CloudRun { target, budget },
                    Err((reason, evidence)) => refuse(reason, evidence),
                }
            }
        };
    }
}

/// The levels of header actions, innermost first (2.6).
const WEIGHTED: usize = 0;
const ROUTE_RULE: usize = 1;
const PATH_MATCHER: usize = 2;
const URL_MAP: usize = 3;

impl PathMatcher {
    /// The rule for a request, and what it leads to.
    fn find(&self, head: &RequestHead<'_>) -> (RuleMatch<'_>, &Route) {
        match &self.rules {
            Rules::Paths(paths, routes) => {
                let found = paths.find(head.path);
                match found.and_then(|(path, rule)| Some((path, routes.get(rule as usize)?))) {
                    Some((path, route)) => (RuleMatch::PathRule(path), route),
                    None => (RuleMatch::Default, &self.default),
                }
            }
            Rules::Routes(rules) => match rules.find(head) {
                Some((rule, match_rule)) => {
                    (RuleMatch::RouteRule { rule, match_rule }, &rule.route)
                }
                None => (RuleMatch::Default, &self.default),
            },
        }
    }
}

impl<'s> Front<'s> {
    /// The rule itself.
    pub fn rule(self) -> &'s ForwardingRule {
        self.rule
    }

    /// Its URL map.
    pub fn url_map(self) -> &'s UrlMap {
        &self.snapshot.url_maps[self.rule.url_map as usize]
    }

    /// May a client of this region use the rule (2.1)?
    pub fn admits(self, client_region: &str) -> Result<(), Reason> {
        region_admits(&self.rule.region, self.rule.allow_global_access, client_region)
    }

    /// Decides on one request. The scheme is the target proxy's, not what the client claims.
    pub fn decide<'r>(self, head: &RequestHead<'r>) -> Decision<'s, 'r> {
        self.snapshot.route(self.url_map(), self.rule.https, head)
    }
}

/// 404 for what cannot be resolved, 503 for what has no backend (2.8; the first one unconfirmed).
fn refuse<'s, 'r>(reason: Reason, evidence: Evidence<'s, 'r>) -> Outcome<'s, 'r> {
    let status = match reason {
        Reason::BackendServiceEmpty | Reason::NetworkEndpointGroupEmpty => 503,
        _ => 404,
    };
    Outcome::Refuse { reason, status, evidence }
}

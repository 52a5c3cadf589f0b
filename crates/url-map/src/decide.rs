//! The decision itself: one request, one snapshot, one answer with its evidence.

use crate::compile::{Action, BackendService, Backends, ForwardingRule, PathMatcher};
use crate::compile::{Protocol, Snapshot, UrlMap};
use crate::group::CloudRunTarget;
use crate::hosts::HostMatch;
use crate::mask::{Captures, Mismatch, Placeholder};
use crate::paths::PathMatch;
use crate::redirect::{collapsed, is_uncollapsed, location};
use names::Reason;
use names::region_admits;
use std::borrow::Cow;
use std::net::SocketAddrV4;
use std::time::Duration;

/// What the load balancer looks at in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead<'r> {
    /// `Host` or `:authority` as sent, port included; empty where there is none.
    pub host: &'r str,
    /// Path as sent, without query.
    pub path: &'r str,
    /// What follows `?`, if there is one.
    pub query: Option<&'r str>,
}

impl<'r> RequestHead<'r> {
    /// From a host and a target such as `/a?b`; an empty path is `/`.
    pub fn new(host: &'r str, path_and_query: &'r str) -> RequestHead<'r> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        RequestHead { host, path: if path.is_empty() { "/" } else { path }, query }
    }
}

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
    /// The path rule.
    pub path: PathMatch<'s>,
    /// The backend service; none for an answer of the load balancer's own.
    pub backend_service: Option<&'s BackendService>,
    /// What the URL mask found, where there is one and it matched.
    pub captures: Option<Captures<'r>>,
    /// What to do.
    pub outcome: Outcome<'s, 'r>,
    pub(crate) snapshot: &'s Snapshot,
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub enum Outcome<'s, 'r> {
    /// Forward to Cloud Run.
    CloudRun {
        /// The service, and tag.
        target: &'s CloudRunTarget,
        /// 60 minutes; Cloud Run's own request timeout is the shorter one.
        timeout: Duration,
    },
    /// Forward to one of these, in the load balancer's network; never empty.
    Addresses {
        /// The endpoints of all groups.
        addresses: &'s [SocketAddrV4],
        /// How to speak to them.
        protocol: Protocol,
        /// From the end of the request to the end of the answer.
        timeout: Duration,
    },
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
    /// Why the answer is no; none where the request is forwarded or a rule redirects it.
    pub fn reason(&self) -> Option<Reason> {
        match &self.outcome {
            Outcome::Refuse { reason, .. } => Some(*reason),
            Outcome::Redirect(redirect) => redirect.reason,
            Outcome::CloudRun { .. } | Outcome::Addresses { .. } => None,
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

    /// Host rule, path rule, backend service, group, in this order.
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
            path: PathMatch::Default,
            backend_service: None,
            captures: None,
            outcome: refuse(Reason::UrlMapNoMatch, Evidence::None),
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
        let mut action = &url_map.default;
        if let Some((host, matcher)) = url_map.hosts.find(head.host)
            && let Some(matcher) = url_map.matchers.get(matcher as usize)
        {
            decision.host = host;
            decision.path_matcher = Some(matcher);
            action = &matcher.default;
            if let Some((path, rule)) = matcher.paths.find(head.path)
                && let Some(of_rule) = matcher.actions.get(rule as usize)
            {
                decision.path = path;
                action = of_rule;
            }
        }
        match action {
            Action::Redirect(redirect) => {
                let RequestHead { host, path, query } = *head;
                decision.outcome = Outcome::Redirect(Redirect {
                    location: location(redirect, decision.path, https, host, path, query),
                    status: redirect.status,
                    reason: None,
                });
            }
            Action::Service(index) => {
                if let Some(service) = self.backend_services.get(*index as usize) {
                    decision.backend_service = Some(service);
                    self.select(service, head, &mut decision);
                }
            }
        }
        decision
    }

    fn select<'s, 'r>(
        &'s self,
        service: &'s BackendService,
        head: &RequestHead<'r>,
        decision: &mut Decision<'s, 'r>,
    ) {
        let timeout = service.timeout;
        decision.outcome = match &service.backends {
            Backends::None => refuse(Reason::BackendServiceEmpty, Evidence::None),
            Backends::Addresses(addresses) if addresses.is_empty() => {
                refuse(Reason::NetworkEndpointGroupEmpty, Evidence::None)
            }
            Backends::Addresses(addresses) => {
                Outcome::Addresses { addresses, protocol: service.protocol, timeout }
            }
            Backends::Serverless(selector) => {
                match self.catalogues.get(selector.catalogue as usize) {
                    None => refuse(Reason::CloudRunServiceNotFound, Evidence::None),
                    Some(catalogue) => {
                        let selected = selector.select(catalogue, head.host, head.path);
                        decision.captures = selected.captures;
                        match selected.target {
                            Ok(target) => Outcome::CloudRun { target, timeout },
                            Err((reason, evidence)) => refuse(reason, evidence),
                        }
                    }
                }
            }
        };
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

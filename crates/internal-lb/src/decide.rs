//! Asks the URL map, and keeps of its decision what outlives the request's head.

use crate::compile::Snapshot;
use names::{Reason, SelfLink};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use url_map::{Front, Outcome, Protocol, RequestHead, RuleMatch};

/// What is left to do.
#[derive(Debug)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// The backend service, as a place in [`Snapshot::services`].
    pub service: Option<usize>,
    /// `matched_url_path_rule` of the log; none: `UNMATCHED`.
    pub path_rule: Option<Box<str>>,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Forward.
    Forward {
        /// Where to.
        to: Target,
        /// From the end of the request to the end of the answer.
        timeout: Duration,
    },
    /// Answer with a redirect.
    Redirect {
        /// `Location`.
        location: String,
        /// Status.
        status: u16,
        /// The load balancer's own collapsing of a path is not logged (2.8).
        reason: Option<Reason>,
    },
    /// Answer with an error.
    Refuse {
        /// Why.
        reason: Reason,
        /// Status.
        status: u16,
        /// What exactly, for the log.
        detail: String,
    },
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Cloud Run service, through its program's channel.
    CloudRun {
        /// The service.
        service: SelfLink,
        /// Its tag.
        tag: Option<Arc<str>>,
        /// Both, as one key.
        key: Arc<str>,
    },
    /// An address of the network; the second one is for a second attempt.
    Address([SocketAddrV4; 2], Protocol),
}

/// Decides on one request.
pub fn decide(snapshot: &Snapshot, front: Front<'_>, host: &str, target: &str) -> Plan {
    let head = RequestHead::new(host, target);
    let decision = front.decide(&head);
    let action = match &decision.outcome {
        Outcome::CloudRun { target, budget } => Action::Forward {
            to: Target::CloudRun {
                service: target.service.clone(),
                tag: target.tag.clone(),
                key: target.key.clone(),
            },
            timeout: budget.timeout,
        },
        Outcome::Endpoints { budget } => match decision.backend_service {
            Some(of_map) if !snapshot.services[of_map.index].addresses.is_empty() => {
                let service = &snapshot.services[of_map.index];
                let addresses = &service.addresses;
                let turn = service.turn.fetch_add(1, Ordering::Relaxed);
                let nth = |n: usize| addresses[n % addresses.len()];
                let to = Target::Address([nth(turn), nth(turn.wrapping_add(1))], of_map.protocol);
                Action::Forward { to, timeout: budget.timeout }
            }
            _ => {
                let reason = Reason::NetworkEndpointGroupEmpty;
                Action::Refuse { reason, status: 503, detail: reason.summary().to_owned() }
            }
        },
        Outcome::Preflight => {
            let reason = Reason::UrlMapNoMatch;
            Action::Refuse { reason, status: 404, detail: reason.summary().to_owned() }
        }
        Outcome::Redirect(redirect) => Action::Redirect {
            location: redirect.location.clone(),
            status: redirect.status,
            reason: redirect.reason,
        },
        Outcome::Refuse { reason, status, .. } => Action::Refuse {
            reason: *reason,
            status: *status,
            detail: decision.detail().unwrap_or_else(|| reason.summary().to_owned()),
        },
    };
    Plan {
        action,
        service: decision.backend_service.map(|service| service.index),
        path_rule: match decision.rule {
            RuleMatch::Default => None,
            matched => Some(matched.to_string().into()),
        },
    }
}

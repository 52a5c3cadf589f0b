//! Asks the URL map, and keeps of its decision what outlives the request's head.

use names::{Reason, SelfLink};
use std::sync::Arc;
use std::time::Duration;
use url_map::{Front, Outcome, RequestHead, RuleMatch};

/// What is left to do.
#[derive(Debug)]
pub struct Plan {
    /// What to do.
    pub action: Action,
    /// The backend service, as a place in [`crate::Snapshot::services`].
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
    /// An endpoint of the plan's backend service, to be chosen for each try.
    Endpoints,
}

/// Decides on one request.
pub fn decide(front: Front<'_>, host: &str, target: &str) -> Plan {
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
        Outcome::Endpoints { budget } => {
            Action::Forward { to: Target::Endpoints, timeout: budget.timeout }
        }
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

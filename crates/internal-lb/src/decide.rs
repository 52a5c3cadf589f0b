//! Asks the URL map, and keeps of its decision what outlives the request's head.

use http::header::{HeaderValue, ORIGIN};
use names::{Reason, SelfLink};
use std::sync::Arc;
use std::time::Duration;
use url_map::{
    Budget, CorsPolicy, Decision, Front, HeaderActions, Outcome, RequestHead, Rewrite, RuleMatch,
};

/// What is left to do. Borrows from the snapshot, not from the request.
#[derive(Debug)]
pub struct Plan<'s> {
    /// What to do.
    pub action: Action<'s>,
    /// The backend service, as a place in [`crate::Snapshot::services`].
    pub service: Option<usize>,
    /// `matched_url_path_rule` of the log; none: `UNMATCHED`.
    pub path_rule: Option<Box<str>>,
    /// Which headers come and go; for most routes none.
    pub headers: HeaderActions<'s>,
    /// The policy for an origin that it allows.
    pub cors: Option<(&'s CorsPolicy, HeaderValue)>,
    /// How long the request is held up on purpose, whatever becomes of it.
    pub delay: Option<Duration>,
}

/// What to do.
#[derive(Debug)]
pub enum Action<'s> {
    /// Forward.
    Forward(Order<'s>),
    /// Answer a CORS preflight request.
    Preflight,
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

/// How to forward.
#[derive(Debug)]
pub struct Order<'s> {
    /// Where to.
    pub to: Target,
    /// How long and how often.
    pub budget: Budget<'s>,
    /// Another host or path.
    pub rewrite: Rewrite<'s>,
    /// Where a copy goes, a place in [`crate::Snapshot::services`], and how long it may take.
    pub mirror: Option<(usize, Duration)>,
    /// The request's random number.
    pub roll: u64,
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
pub fn decide<'s>(front: Front<'s>, head: &RequestHead<'_>) -> Plan<'s> {
    let mut decision = front.decide(head);
    let action = match &decision.outcome {
        Outcome::CloudRun { target, budget } => {
            let to = Target::CloudRun {
                service: target.service.clone(),
                tag: target.tag.clone(),
                key: target.key.clone(),
            };
            Action::Forward(Order::new(to, *budget, &mut decision, head.roll))
        }
        Outcome::Endpoints { budget } => {
            Action::Forward(Order::new(Target::Endpoints, *budget, &mut decision, head.roll))
        }
        Outcome::Preflight => Action::Preflight,
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
        headers: decision.headers,
        cors: decision.cors.and_then(|policy| Some((policy, head.headers.get(ORIGIN)?.clone()))),
        delay: decision.delay,
    }
}

impl<'s> Order<'s> {
    fn new(
        to: Target,
        budget: Budget<'s>,
        decision: &mut Decision<'s, '_>,
        roll: u64,
    ) -> Order<'s> {
        Order {
            to,
            budget,
            rewrite: std::mem::take(&mut decision.rewrite),
            mirror: decision.mirror.map(|service| (service.index, service.timeout)),
            roll,
        }
    }
}

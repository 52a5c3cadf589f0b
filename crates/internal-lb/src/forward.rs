//! Sends a request to where the plan says, again where the retry policy says so, within the
//! deadline.

use crate::InternalLb;
use crate::backends::{self, Choice};
use crate::bodies::{Kept, RequestBody, ResponseBody};
use crate::clock::Clock;
use crate::compile::{Front, Snapshot};
use crate::decide::{Order, Target};
use crate::headers::{self, Fields};
use crate::mirror::{self, Original};
use crate::record::Record;
use crate::respond::{self, Failure};
use crate::retry::{self, Outcome};
use crate::upstream::Upstream;
use crate::variables::Variables;
use http::header::{HeaderValue, SET_COOKIE, UPGRADE};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body::Body as _;
use http_proxy::{Body, Incoming, SendError, Upgrade, bridge_upgrade};
use runtime::Worker;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use url_map::HeaderActions;

/// A request on its way.
pub struct Forward<'a> {
    /// The worker thread.
    pub worker: &'a Rc<Worker<InternalLb>>,
    /// The snapshot of this request.
    pub snapshot: &'a Arc<Snapshot>,
    /// Its forwarding rule.
    pub front: &'a Front,
    /// What custom headers may name.
    pub variables: &'a Variables<'a>,
    /// The backend service, a place in the snapshot.
    pub service: Option<usize>,
    /// Where to, how long and how often.
    pub order: &'a Order<'a>,
    /// What the route changes in the answer.
    pub actions: HeaderActions<'a>,
}

/// Forwards the request, with the load balancer's own fields behind its own, and returns the
/// answer, or the load balancer's own in its place.
pub async fn forward(
    forward: Forward<'_>,
    mut parts: Parts,
    own: Box<Fields>,
    mut incoming: Incoming,
    websocket: Option<HeaderValue>,
    mut record: Record,
) -> Result<Response<Body>, (Failure, String, Record)> {
    let Forward { worker, snapshot, order, .. } = forward;
    let budget = order.budget;
    let bodiless = incoming.is_end_stream();
    let clock = Rc::new(Clock::new(budget.timeout, bodiless.then(|| record.sent_at())));
    let client = websocket.and_then(|protocol| {
        parts.headers.insert(UPGRADE, protocol);
        incoming.take_upgrade()
    });
    let tee = match order.mirror {
        Some((service, timeout)) if client.is_none() => {
            let client = *forward.variables.client.ip();
            let span = record.span();
            let original =
                Original { parts: &parts, own: &own, bodiless, client, roll: order.roll, span };
            mirror::start(worker, snapshot, service, timeout, &original)
        }
        _ => None,
    };
    // A body that may have to be sent again is kept as it passes; any other only passes.
    let (mut body, kept) = if bodiless {
        (Body::empty(), None)
    } else {
        let bytes = record.body_bytes();
        let body = RequestBody { inner: incoming, bytes, clock: clock.clone(), tee };
        match budget.retry.applies(parts.method.as_str(), false) {
            true => (Body::empty(), Some(Kept::new(body))),
            false => (Body::boxed(body), None),
        }
    };
    let upstream = Upstream {
        worker,
        front: forward.front,
        client: forward.variables.client,
        upgrade: client.is_some(),
    };
    let mut asking = match (&order.to, forward.service) {
        (Target::Endpoints, Some(service)) => {
            let client = *forward.variables.client.ip();
            Some(snapshot.backends.ask(service, client, &parts.headers, order.roll))
        }
        _ => None,
    };
    let mut pick = || asking.as_mut().map(|asking| snapshot.backends.pick(asking)).transpose();
    let mut choice = match pick() {
        Ok(choice) => choice,
        Err(reason) => {
            let detail = reason.summary().to_owned();
            return Err((respond::refused(reason, 503), detail, record));
        }
    };
    let mut retried = 0;
    let outcome = loop {
        record.begin_try(choice.as_ref().and_then(Choice::address), &mut parts.headers);
        if let Some(again) = kept.as_ref().and_then(Kept::next_try) {
            body = again;
        }
        let outcome = {
            let body = std::mem::take(&mut body);
            let sent = pin!(upstream.send(&order.to, choice.as_ref(), &parts, &own, body));
            retry::one_try(sent, &clock, budget.retry.per_try_timeout).await
        };
        if let Some(choice) = &choice {
            choice.report(match &outcome {
                Outcome::Answered(response) => {
                    backends::Outcome::Status(response.status().as_u16())
                }
                Outcome::Failed(SendError::Body(_)) => backends::Outcome::Withdrawn,
                Outcome::Failed(error) if retry::overflows(error) => backends::Outcome::Withdrawn,
                Outcome::Failed(_) | Outcome::TryTimedOut | Outcome::TimedOut => {
                    backends::Outcome::Unanswered
                }
            });
        }
        let again = outcome.for_policy().is_some_and(|outcome| {
            budget.retry.again(retried, outcome, parts.method.as_str(), bodiless)
        });
        let again = again && kept.as_ref().is_none_or(|kept| kept.may_pass_again());
        // Whoever cannot be asked again (no endpoint, a circuit breaker) leaves the answer in hand.
        let next = if again { pick().ok() } else { None };
        record.end_try(&outcome, next.is_none());
        let Some(next) = next else { break outcome };
        if !budget.retry.default {
            let roll = worker.local.ids.roll();
            if clock.or(tokio::time::sleep(retry::back_off(retried, roll))).await.is_none() {
                break Outcome::TimedOut;
            }
        }
        choice = next;
        retried += 1;
    };
    if let Some(kept) = kept {
        kept.release();
    }
    http_proxy::headers::recycle(std::mem::take(&mut parts.headers));
    let response = match outcome {
        Outcome::Answered(response) => response,
        Outcome::Failed(error) => {
            return Err((respond::unanswered(&error, retried > 0), error.to_string(), record));
        }
        Outcome::TryTimedOut => {
            let limit = budget.retry.per_try_timeout.unwrap_or_default();
            return Err((respond::try_timed_out(), timeout_detail(limit), record));
        }
        Outcome::TimedOut => {
            return Err((respond::timed_out(), timeout_detail(budget.timeout), record));
        }
    };
    let (mut parts, mut body) = response.into_parts();
    headers::append_via(&mut parts.headers);
    if !forward.actions.is_empty() {
        forward.actions.apply_to_response(&mut parts.headers);
    }
    if let Some(service) = forward.service.and_then(|service| snapshot.services.get(service)) {
        headers::add(&mut parts.headers, &service.response_headers, forward.variables);
    }
    if let Some(cookie) = choice.as_ref().and_then(Choice::set_cookie) {
        parts.headers.append(SET_COOKIE, cookie);
    }
    record.answering(&parts.headers);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let Some((client, upstream)) = client.zip(body.take_upgrade()) else {
            let error = SendError::Protocol("an upgrade that nobody asked for");
            return Err((respond::unanswered(&error, false), error.to_string(), record));
        };
        // "Upgraded connections that are active ignore the backend timeout; idle ones are closed
        // at it" (2.7).
        tokio::task::spawn_local(upgraded(client, upstream, budget.timeout, record, choice));
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    let status = parts.status.as_u16();
    let limit = clock.clone();
    let inner = Some((body, choice));
    let body = ResponseBody { inner, clock, status, bytes: 0, record: Some(record) };
    // A client that takes nothing does not hold the backend for longer either.
    let body = Body::boxed(body).until(poll_fn(move |cx| limit.poll(cx)));
    Ok(Response::from_parts(parts, body))
}

async fn upgraded(
    client: Upgrade,
    upstream: Upgrade,
    idle: Duration,
    mut record: Record,
    _choice: Option<Choice>,
) {
    let bridged = bridge_upgrade(client, upstream, idle).await;
    record.body_bytes().set(bridged.sent);
    record.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16(), bridged.received, None);
}

fn timeout_detail(timeout: Duration) -> String {
    format!("no complete answer within {} s", timeout.as_secs_f64())
}

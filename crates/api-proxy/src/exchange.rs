//! One request from its head to everything that ends with it: the interpreter is driven, payloads
//! are read where a policy needs them, the target is asked.

use crate::ApiProxy;
use crate::clock::{SystemClock, entropy};
use crate::compile::Snapshot;
use crate::record::Record;
use crate::target::{self, Ask, Payload};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_proxy::{BodyError, Incoming, Upgrade};
use policy_bundle::{
    Call, ClientInfo, Clock, Content, ContentOrigin, Fault, Message, Next, Platform, Routed,
    TargetOutcome, TargetRequest, World,
};
use runtime::Worker;
use std::cell::Cell;
use std::net::{IpAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the client may be silent within its payload (9.1: `io.timeout.millis`).
const CLIENT_IO_TIMEOUT: Duration = Duration::from_secs(55);
/// The ingress gives a call no more time than this (9.1).
const CALL_TIME_MAX: Duration = Duration::from_secs(300);

/// One request. Dropped when the last byte of the answer has gone, or the client has: then
/// PostClientFlow runs and the log line is written.
pub struct Exchange {
    pub worker: Rc<Worker<ApiProxy>>,
    pub snapshot: Arc<Snapshot>,
    pub call: Option<Call>,
    pub record: Record,
}

/// What the client gets.
pub struct Answer {
    /// Status, headers, payload if it is in memory.
    pub message: Message,
    /// The payload otherwise.
    pub body: Option<Incoming>,
    /// Both ends of a switched protocol, and how long it may be silent.
    pub upgraded: Option<(Upgrade, Upgrade)>,
    /// `io.timeout.millis`, for the payload that is still to come.
    pub io_timeout: Duration,
}

/// Payloads that nobody has read yet.
#[derive(Default)]
struct Bodies {
    client: Option<Incoming>,
    target: Option<Incoming>,
}

impl Exchange {
    /// Begins the record of a request.
    pub fn new(
        worker: Rc<Worker<ApiProxy>>,
        snapshot: Arc<Snapshot>,
        client: SocketAddrV4,
        parts: &Parts,
    ) -> Exchange {
        Exchange { worker, snapshot, call: None, record: Record::new(client, parts) }
    }

    /// A proxy was found.
    pub fn begin(&mut self, routed: Routed, message: Message, client: ClientInfo) {
        self.record.environment_group = Some(routed.environment_group.clone());
        self.call =
            Some(Platform::call(routed, message, client, SystemClock.unix_millis(), entropy));
    }

    /// Runs the call to its answer.
    pub async fn run(&mut self, body: Incoming, upgrade: Option<HeaderValue>) -> Answer {
        let (worker, snapshot) = (self.worker.clone(), self.snapshot.clone());
        let world = World {
            clock: &SystemClock,
            counters: &worker.program.counters,
            directory: &snapshot.platform.directory,
        };
        let Some(call) = &mut self.call else {
            return Answer::of(Message::response()); // begun before it is run
        };
        let record = &mut self.record;
        let time = call.api_timeout().unwrap_or(CALL_TIME_MAX).min(CALL_TIME_MAX);
        let deadline = Instant::now() + time;
        let mut bodies = Bodies { client: Some(body), target: None };
        let mut next = match admit(call, &mut bodies, record, deadline).await {
            Ok(()) => call.step(&world),
            Err(fault) => call.fail(fault, &world),
        };
        loop {
            match next {
                Next::SendTarget(request) => {
                    let asked = Asked {
                        worker: &worker,
                        snapshot: &snapshot,
                        upgrade: upgrade.clone(),
                        deadline,
                    };
                    let outcome = asked.target(call, &request, &mut bodies, record).await;
                    call.answer(outcome);
                    next = call.step(&world);
                }
                Next::Respond(message) => {
                    record.answered(call, message.status);
                    return answer(*message, call, bodies);
                }
                Next::Done => return Answer::of(Message::response()),
            }
        }
    }
}

impl Answer {
    /// An answer that is in memory.
    pub fn of(message: Message) -> Answer {
        Answer { message, body: None, upgraded: None, io_timeout: CLIENT_IO_TIMEOUT }
    }
}

fn answer(message: Message, call: &Call, mut bodies: Bodies) -> Answer {
    let body = match message.content {
        Content::Unread(ContentOrigin::Client) => bodies.client.take(),
        Content::Unread(ContentOrigin::Target) => bodies.target.take(),
        _ => None,
    };
    let switched = message.status == StatusCode::SWITCHING_PROTOCOLS.as_u16();
    let upgrade = |body: &mut Option<Incoming>| body.as_mut().and_then(Incoming::take_upgrade);
    let upgraded =
        switched.then(|| upgrade(&mut bodies.client).zip(upgrade(&mut bodies.target))).flatten();
    let io_timeout = call.target().map(|target| target.properties.io_timeout);
    Answer { message, body, upgraded, io_timeout: io_timeout.unwrap_or(CLIENT_IO_TIMEOUT) }
}

/// Decides what to do with the client's payload: a known length that is small enough passes as it
/// comes, unless a policy reads it; an unknown one is read first, because it may turn out too
/// large (9.3); streaming takes every limit off (9.4).
async fn admit(
    call: &mut Call,
    bodies: &mut Bodies,
    record: &Record,
    deadline: Instant,
) -> Result<(), Fault> {
    if call.context().request().content == Content::Empty {
        return Ok(());
    }
    let Some(body) = bodies.client.take() else { return Ok(()) };
    let exact = body.size_hint().exact();
    let limit = call.request_payload_max();
    let too_big = exact.is_some_and(|length| length > limit as u64);
    if !call.streams_request() && too_big {
        return Err(Fault::too_big_body(false));
    }
    if !call.needs_request_payload() && (exact.is_some() || call.streams_request()) {
        bodies.client = Some(body);
        return Ok(());
    }
    match collect(body, limit, CLIENT_IO_TIMEOUT, deadline).await {
        Ok(bytes) => {
            record.received(bytes.len() as u64);
            call.set_request_content(content(bytes));
            Ok(())
        }
        Err(error) => Err(target::of_client_body(&error)),
    }
}

fn content(bytes: Bytes) -> Content {
    if bytes.is_empty() { Content::Empty } else { Content::Bytes(bytes) }
}

/// A whole payload, if it is not too large and keeps coming.
async fn collect(
    mut body: Incoming,
    limit: usize,
    stall: Duration,
    deadline: Instant,
) -> Result<Bytes, BodyError> {
    let mut whole = BytesMut::new();
    loop {
        let until = (Instant::now() + stall).min(deadline);
        match timeout_at(until, body.frame()).await {
            Err(_) => return Err(BodyError::Timeout),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(frame)) => {
                let Ok(data) = frame?.into_data() else { continue };
                if whole.len() + data.len() > limit {
                    return Err(BodyError::TooLarge);
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

/// What a request for a target needs.
struct Asked<'a> {
    worker: &'a Rc<Worker<ApiProxy>>,
    snapshot: &'a Snapshot,
    upgrade: Option<HeaderValue>,
    deadline: Instant,
}

impl Asked<'_> {
    /// Sends the request and says what came of it.
    async fn target(
        self,
        call: &mut Call,
        request: &TargetRequest,
        bodies: &mut Bodies,
        record: &mut Record,
    ) -> TargetOutcome {
        let body = match &request.content {
            Content::Unread(ContentOrigin::Client) if self.upgrade.is_none() => {
                match bodies.client.take() {
                    Some(body) => Payload::Streamed(body, record.request_bytes.clone()),
                    None => Payload::Whole(Bytes::new()),
                }
            }
            Content::Bytes(bytes) => Payload::Whole(bytes.clone()),
            _ => Payload::Whole(Bytes::new()),
        };
        record.target_sent(request);
        let address = Cell::new(None);
        let answer = target::ask(Ask {
            worker: self.worker,
            snapshot: self.snapshot,
            request,
            body,
            upgrade: self.upgrade.clone(),
            deadline: self.deadline,
            address: &address,
        })
        .await;
        if let Some(address) = address.get() {
            call.note_target_address(IpAddr::V4(address));
            record.target_address(address);
        }
        let (parts, body) = match answer {
            Ok(response) => response.into_parts(),
            Err(failure) => {
                record.target_failed(failure.detail);
                return TargetOutcome::Failed(failure.fault);
            }
        };
        record.target_answered(parts.status.as_u16());
        let stall = request.endpoint.properties.io_timeout;
        let content = match self.response_payload(call, &parts.headers, body, bodies, stall).await {
            Ok(content) => content,
            Err(fault) => {
                record.target_failed(fault.text.clone());
                return TargetOutcome::Failed(fault);
            }
        };
        TargetOutcome::Response {
            status: parts.status.as_u16(),
            reason: None,
            headers: parts.headers,
            content,
        }
    }

    /// As [`admit`], for the target's payload.
    async fn response_payload(
        &self,
        call: &Call,
        headers: &HeaderMap,
        body: Incoming,
        bodies: &mut Bodies,
        stall: Duration,
    ) -> Result<Content, Fault> {
        if body.is_end_stream() {
            bodies.target = Some(body); // a switched protocol is behind it
            return Ok(Content::Empty);
        }
        let exact = body.size_hint().exact();
        let limit = call.target().map_or(usize::MAX, |t| t.properties.response_payload_max);
        let streams = call.streams_response();
        if !streams && exact.is_some_and(|length| length > limit as u64) {
            return Err(Fault::too_big_body(true));
        }
        let passes = exact.is_some() || streams || is_event_stream(headers);
        if !call.needs_response_payload() && passes {
            bodies.target = Some(body);
            return Ok(Content::Unread(ContentOrigin::Target));
        }
        match collect(body, limit, stall, self.deadline).await {
            Ok(bytes) => Ok(content(bytes)),
            Err(BodyError::TooLarge) => Err(Fault::too_big_body(true)),
            Err(BodyError::Timeout) => Err(Fault::gateway_timeout()),
            Err(_) => Err(Fault::unexpected_eof_at_target()),
        }
    }
}

/// Server-sent events have no end that could be waited for: they pass also without
/// `response.streaming.enabled`, which Apigee wants for them (9.4).
fn is_event_stream(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (worker, snapshot) = (self.worker.clone(), self.snapshot.clone());
        if let Some(call) = &mut self.call {
            let world = World {
                clock: &SystemClock,
                counters: &worker.program.counters,
                directory: &snapshot.platform.directory,
            };
            // Only after an answer: a client that left before it has no PostClientFlow.
            if self.record.has_answer() {
                let _ = call.step(&world);
            }
            for entry in call.context_mut().take_logs() {
                crate::record::message(&entry);
            }
        }
        self.record.write(&worker, &snapshot, self.call.as_ref());
    }
}

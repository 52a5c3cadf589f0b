//! Sends a request to where the plan says: one attempt, a second one where that is safe, within
//! the deadline.

use crate::InternalLb;
use crate::backends::{Choice, Outcome};
use crate::compile::{Front, Snapshot};
use crate::decide::Target;
use crate::headers::{self, Fields, Variables};
use crate::record::Record;
use crate::respond::{self, Failure};
use bytes::Bytes;
use http::header::{HeaderValue, SET_COOKIE, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_proxy::headers::accepts_trailers;
use http_proxy::{Body, BodyError, Incoming, SendError, Upgrade, Version, bridge_upgrade};
use proxy_protocol::{Header, Tlv};
use runtime::Worker;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep};

/// What makes two upstream connections different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// Origin (the forwarding rule; the network is the program's), service with tag, and whether
    /// the client speaks HTTP/2.
    CloudRun(Arc<str>, Arc<str>, Version, bool),
    /// The number of an endpoint, which has one protocol and one source.
    Endpoint(u64, Version),
}

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
    /// Where to.
    pub to: Target,
    /// From the end of the request to the end of the answer.
    pub timeout: Duration,
}

/// Forwards the request, with the load balancer's own fields behind its own, and returns the answer, or the load balancer's own in its place.
pub async fn forward(
    forward: Forward<'_>,
    mut parts: Parts,
    own: Box<Fields>,
    mut body: Incoming,
    websocket: Option<HeaderValue>,
    mut record: Record,
) -> Result<Response<Body>, (Failure, String, Record)> {
    let bodiless = body.is_end_stream();
    let clock = Rc::new(Clock::new(forward.timeout, bodiless.then(|| record.at())));
    let client = websocket.and_then(|protocol| {
        parts.headers.insert(UPGRADE, protocol);
        body.take_upgrade()
    });
    // "Body-less requests (e.g. GET) that get 502/503/504 are retried once; POST never" (2.6).
    let retriable = bodiless && parts.method != Method::POST;
    let mut body = match bodiless {
        true => Body::empty(),
        false => {
            let bytes = record.body_bytes();
            Body::boxed(RequestBody { inner: body, bytes, clock: clock.clone() })
        }
    };
    let backends = &forward.snapshot.backends;
    let client_address = *forward.variables.client.ip();
    let mut asking = match (&forward.to, forward.service) {
        (Target::Endpoints, Some(service)) => {
            let roll = forward.worker.local.ids.roll();
            Some(backends.ask(service, client_address, &parts.headers, roll))
        }
        _ => None,
    };
    let mut attempt = 0;
    let (outcome, choice) = loop {
        let choice = match asking.as_mut().map(|asking| backends.pick(asking)).transpose() {
            Ok(choice) => choice,
            Err(reason) => {
                let detail = reason.summary().to_owned();
                return Err((respond::refused(reason, 503), detail, record));
            }
        };
        let address = choice.as_ref().and_then(Choice::address);
        record.sent_to(address.map(|address| *address.ip()));
        let outcome = {
            let body = std::mem::take(&mut body);
            let upgrade = client.is_some();
            let mut sent = pin!(forward.send(choice.as_ref(), upgrade, &parts, &own, body));
            // None: the deadline came first.
            poll_fn(|cx| match sent.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
                Poll::Pending => clock.poll(cx).map(|()| None),
            })
            .await
        };
        let again = match &outcome {
            Some(Ok(response)) => matches!(response.status().as_u16(), 502..=504),
            Some(Err(error)) => !matches!(error, SendError::Body(_)),
            None => false,
        };
        if let Some(choice) = &choice {
            choice.report(match &outcome {
                Some(Ok(response)) => Outcome::Status(response.status().as_u16()),
                Some(Err(SendError::Body(_))) => Outcome::Withdrawn,
                Some(Err(_)) | None => Outcome::Unanswered,
            });
        }
        if !(again && retriable && attempt == 0) {
            break (outcome, choice);
        }
        attempt += 1;
    };
    http_proxy::headers::recycle(std::mem::take(&mut parts.headers));
    let response = match outcome {
        None => return Err((respond::timed_out(), timeout_detail(forward.timeout), record)),
        Some(Err(error)) => {
            return Err((respond::unanswered(&error, attempt > 0), error.to_string(), record));
        }
        Some(Ok(response)) => response,
    };
    let (mut parts, mut body) = response.into_parts();
    headers::append_via(&mut parts.headers);
    if let Some(service) =
        forward.service.and_then(|service| forward.snapshot.services.get(service))
    {
        headers::add(&mut parts.headers, &service.response_headers, forward.variables);
    }
    if let Some(cookie) = choice.as_ref().and_then(Choice::set_cookie) {
        parts.headers.append(SET_COOKIE, cookie);
    }
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let Some((client, upstream)) = client.zip(body.take_upgrade()) else {
            let error = SendError::Protocol("an upgrade that nobody asked for");
            return Err((respond::unanswered(&error, false), error.to_string(), record));
        };
        // "Upgraded connections that are active ignore the backend timeout; idle ones are closed
        // at it" (2.7).
        tokio::task::spawn_local(upgraded(client, upstream, forward.timeout, record, choice));
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

/// Towards Cloud Run gRPC stays HTTP/2, and so does what wants trailers; everything else goes down
/// to HTTP/1.1, as it does towards the container (cloud-run 1.3), and costs half.
fn cloud_run_version(parts: &Parts, upgrade: bool) -> Version {
    let keeps = || crate::serve::is_grpc(&parts.headers) || accepts_trailers(&parts.headers);
    match speaks_http2(parts) && !upgrade && keeps() {
        true => Version::H2,
        false => Version::H1,
    }
}

fn speaks_http2(parts: &Parts) -> bool {
    parts.version == http::Version::HTTP_2
}

impl Forward<'_> {
    async fn send(
        &self,
        choice: Option<&Choice>,
        upgrade: bool,
        parts: &Parts,
        own: &Fields,
        body: Body,
    ) -> Result<Response<Incoming>, SendError> {
        let pool = &self.worker.local.pool;
        match (&self.to, choice) {
            (Target::CloudRun { service, tag, key }, _) => {
                let version = cloud_run_version(parts, upgrade);
                let http2 = speaks_http2(parts);
                let pool_key =
                    PoolKey::CloudRun(self.front.link.clone(), key.clone(), version, http2);
                let header = || {
                    // In whichever version it goes there, limits and cancelling are those of the
                    // client's.
                    let alpn: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
                    Header::tcp(self.variables.client, self.front.address)
                        .with_tlv(Tlv::ALPN, alpn)
                        .and_then(|header| header.with_origin(&self.front.origin))
                        .and_then(|header| header.with_service(service, tag.as_deref()))
                        .and_then(|header| header.encode())
                        .map_err(io::Error::other)
                };
                let connect = || channel(&self.worker.program.cloud_run, header);
                pool.send_parts(&pool_key, version, connect, parts, own, body).await
            }
            (Target::Endpoints, Some(choice)) => {
                let version = choice.version();
                let connect = || choice.dial(self.worker);
                let key = PoolKey::Endpoint(choice.key(), version);
                pool.send_parts(&key, version, connect, parts, own, body).await
            }
            (Target::Endpoints, None) => Err(SendError::Connect(io::ErrorKind::NotFound.into())),
        }
    }
}

/// A connection to `cloud-run`, its PROXY header sent. While that program is restarting, or its
/// queue is full, the attempt is repeated; the pool's connect timeout ends it.
async fn channel(path: &Path, header: impl Fn() -> io::Result<Vec<u8>>) -> io::Result<UnixStream> {
    use tokio::io::AsyncWriteExt;
    let header = header()?;
    let mut wait = Duration::from_millis(1);
    loop {
        match UnixStream::connect(path).await {
            Ok(mut stream) => {
                stream.write_all(&header).await?;
                return Ok(stream);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(100));
                }
                _ => return Err(error),
            },
        }
    }
}

fn timeout_detail(timeout: Duration) -> String {
    format!("no complete answer within {} s", timeout.as_secs())
}

/// The deadline of one request: it begins to run when the request has been sent (2.6). Before that
/// it runs while the backend takes nothing of what the client has sent.
struct Clock {
    timeout: Duration,
    began: Cell<Option<Instant>>,
    /// Since when the client waits for the backend; none while it is the other way round.
    held_up: Cell<Option<Instant>>,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Who waits for the beginning.
    waiter: RefCell<Option<Waker>>,
}

impl Clock {
    fn new(timeout: Duration, began: Option<Instant>) -> Self {
        Clock {
            timeout,
            began: Cell::new(began),
            held_up: Cell::new(began.is_none().then(Instant::now)),
            sleep: RefCell::default(),
            waiter: RefCell::default(),
        }
    }

    fn begin(&self) {
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
            if let Some(waiter) = self.waiter.take() {
                waiter.wake();
            }
        }
    }

    fn deadline(&self) -> Instant {
        let since = self.began.get().or(self.held_up.get());
        since.unwrap_or_else(Instant::now) + self.timeout
    }

    /// Has the deadline come?
    fn is_over(&self) -> bool {
        self.deadline() <= Instant::now()
    }

    /// Ready when the deadline has come.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.began.get().is_none() {
            self.waiter.replace(Some(cx.waker().clone()));
        }
        let deadline = self.deadline();
        let mut sleep = self.sleep.borrow_mut();
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // Moved only to an earlier time; a later one is seen when it runs down.
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// A request body, counted; its end starts the clock.
struct RequestBody {
    inner: Incoming,
    bytes: Rc<Cell<u64>>,
    clock: Rc<Clock>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.clock.held_up.set(None);
            return Poll::Pending;
        };
        self.clock.held_up.set(Some(Instant::now()));
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.bytes.set(self.bytes.get() + length);
        }
        if frame.is_none() || self.inner.is_end_stream() {
            self.clock.begin();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    /// Not sent to its end: the backend answered without it, or is gone.
    fn drop(&mut self) {
        self.clock.begin();
    }
}

/// A response body, counted and cut at the deadline. Its end, whichever, writes the record.
struct ResponseBody {
    /// None once it has ended; with the endpoint, where there is one, which is busy until then.
    inner: Option<(Incoming, Option<Choice>)>,
    clock: Rc<Clock>,
    status: u16,
    bytes: u64,
    record: Option<Record>,
}

impl ResponseBody {
    fn end(&mut self, broken: Option<&Failure>) {
        self.inner = None;
        if let Some(record) = self.record.take() {
            record.answered(self.status, self.bytes, broken);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((inner, _)) = &mut self.inner else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            ready!(self.clock.poll(cx));
            self.end(Some(&respond::timed_out()));
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        match &frame {
            Some(Ok(frame)) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.inner.as_ref().is_some_and(|(inner, _)| inner.is_end_stream()) {
                    self.end(None);
                }
            }
            None => self.end(None),
            Some(Err(_)) => {
                self.end(Some(&respond::unanswered(&SendError::Closed { sent: true }, false)));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|(inner, _)| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), |(inner, _)| inner.size_hint())
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body without a byte is not polled: it is complete as it is.
        if self.is_end_stream() {
            self.end(None);
        } else if self.clock.is_over() {
            self.end(Some(&respond::timed_out()));
        } else if let Some(record) = self.record.take() {
            record.abandoned(self.status, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_while_the_backend_takes_nothing_and_not_while_the_client_sends_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let clock = Clock::new(Duration::from_millis(20), None);
            poll_fn(|cx| clock.poll(cx)).await; // nobody has asked for the body
            assert!(clock.is_over());
            clock.held_up.set(None); // asked for, and the client has sent nothing
            assert!(!clock.is_over());
            assert!(poll_fn(|cx| Poll::Ready(clock.poll(cx))).await.is_pending());
            clock.held_up.set(Some(Instant::now())); // a piece was taken, and no other
            poll_fn(|cx| clock.poll(cx)).await;
            clock.begin();
            poll_fn(|cx| clock.poll(cx)).await;
        });
    }
}

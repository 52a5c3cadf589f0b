//! One request, from its admitted head to the last byte of its answer: a slot, the exchange with
//! the instance, the deadline, and what happens when the client leaves first (cloud-run 1.2, 1.3).

use crate::body::{BODY_BYTES_MAX, End, OnEnd, Received, RequestBody, ResponseBody};
use crate::deployment::Wanted;
use crate::headers;
use crate::record::{self, Asked, CLIENT_CLOSED_REQUEST, Ended, Served};
use crate::respond;
use crate::revision::{Endpoint, Instance, Slot};
use crate::{CloudRun, Entry};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, HeaderValue};
use http::header::{SET_COOKIE, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_proxy::{Body, Incoming, SendError, Upgrade, bridge_upgrade};
use names::Reason;
use runtime::Worker;
use serverless::Affinity;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// An admitted request.
pub struct Admitted {
    /// The worker thread.
    pub worker: Rc<Worker<CloudRun>>,
    /// The service, found.
    pub entry: Arc<Entry>,
    /// The tag of a traffic target, if the request asks for one.
    pub tag: Option<Box<str>>,
    /// What the log will say of the request.
    pub asked: Asked,
    /// The request, its headers already those of the container.
    pub request: Request<Incoming>,
    /// The protocol that the client wants to go over to.
    pub upgrade: Option<HeaderValue>,
}

/// Forwards the request and answers it.
pub async fn forward(admitted: Admitted) -> Response<Body> {
    let Admitted { worker, entry, tag, asked, request, upgrade } = admitted;
    let mut log = Log {
        worker: Rc::clone(&worker),
        served: Served {
            service: Arc::clone(&entry.service),
            deployment: entry.number,
            instance: None,
            revision: None,
        },
        received: Rc::default(),
        asked,
    };
    let cookies = request.headers().get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let affinity = Affinity::from_cookies(cookies);
    let wanted = Wanted { tag: tag.as_deref(), affinity, random: worker.local.ids.random() };
    if content_length(request.headers()).is_some_and(|length| length > BODY_BYTES_MAX)
        && !h2_end_to_end(&log.asked, request.headers(), entry.deployment.route().is_h2c(wanted))
    {
        return log.refuse(Reason::RequestTooLarge);
    }
    // "The request timeout clock includes container start time on a cold start" (1.2).
    let (slot, revision) = match entry.deployment.slot(wanted, log.asked.at).await {
        Ok(slot) => slot,
        Err(reason) => return log.refuse(reason),
    };
    log.served.instance = Some(Arc::clone(&slot.instance.id));
    if !Arc::ptr_eq(&revision.service, &entry.service) {
        log.served.revision = Some(Arc::clone(&revision.service));
    }
    let template = &revision.service.revision;
    let deadline = log.asked.at + revision.timeout();
    let stays = template.session_affinity && !revision.is_fixed();
    let stay = stays.then(|| slot.instance.affinity(&revision));
    let stay = stay.filter(|stay| Some(*stay) != affinity);
    let grpc = is_grpc(&log.asked, request.headers());
    // An upgrade is HTTP/1.1's; the platform goes down to it (1.3 (unconfirmed)).
    let version = match upgrade.is_none() && (template.ingress().1.h2c || grpc) {
        true => http_proxy::Version::H2,
        false => http_proxy::Version::H1,
    };
    let unbounded = h2_end_to_end(&log.asked, request.headers(), template.ingress().1.h2c);
    let (request, client) = outgoing(request, &log.received, unbounded, upgrade);
    let exchange = exchange(worker, Arc::clone(&slot.instance), version, request);
    let mut exchange =
        Exchange { future: Some(Box::pin(exchange)), log: Some(log), slot: Some(slot), deadline };
    let outcome = exchange.head().await;
    let Some((log, slot)) = exchange.log.take().zip(exchange.slot.take()) else {
        unreachable!("taken here only")
    };
    let response = match outcome {
        None => {
            // The handler keeps running (0 row 4). Whether it still holds its slot is
            // (unconfirmed): here it does not, so that the next request is not refused for it.
            let bound = Instant::now() + Duration::from_secs(template.timeout_seconds.into());
            exchange.detach(bound, None);
            drop(slot);
            return log.refuse(Reason::RequestTimeout);
        }
        Some(Err(error)) => {
            drop(slot);
            return log.failed(&error);
        }
        Some(Ok(response)) => response,
    };
    let too_large = version == http_proxy::Version::H1
        && log.asked.method != Method::HEAD
        && content_length(response.headers()).is_some_and(|length| length > BODY_BYTES_MAX);
    if too_large {
        drop(slot);
        return log.refuse(Reason::ResponseTooLarge);
    }
    let (mut parts, mut body) = response.into_parts();
    if let Some(cookie) = stay.and_then(|stay| HeaderValue::try_from(stay.set_cookie()).ok()) {
        parts.headers.append(SET_COOKIE, cookie);
    }
    headers::for_client(&mut parts.headers, log.asked.trace);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let Some((client, upstream)) = client.zip(body.take_upgrade()) else {
            drop(slot);
            return log.refuse(Reason::InstanceConnectionError); // nobody asked for an upgrade
        };
        tokio::task::spawn_local(upgraded(log, slot, client, upstream, deadline));
        return Response::from_parts(parts, Body::empty());
    }
    let finish = Finish { status: parts.status.as_u16(), log, slot };
    let body = Body::boxed(ResponseBody::new(body, deadline, finish));
    // A client that takes nothing does not hold the slot for longer either.
    Response::from_parts(parts, body.until(tokio::time::sleep_until(deadline)))
}

/// The request as it goes out, and the client's promise of a raw connection.
fn outgoing(
    request: Request<Incoming>,
    received: &Rc<Received>,
    unbounded: bool,
    upgrade: Option<HeaderValue>,
) -> (Request<Body>, Option<Upgrade>) {
    let (mut parts, mut body) = request.into_parts();
    let client = match upgrade {
        None => None,
        Some(protocol) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts.headers.insert(UPGRADE, protocol);
            body.take_upgrade()
        }
    };
    let body = if http_body::Body::is_end_stream(&body) {
        Body::empty()
    } else {
        let bytes_max = if unbounded { u64::MAX } else { BODY_BYTES_MAX };
        Body::boxed(RequestBody::new(body, Rc::clone(received), bytes_max))
    };
    (Request::from_parts(parts, body), client)
}

/// The exchange with the instance, up to the response head.
async fn exchange(
    worker: Rc<Worker<CloudRun>>,
    instance: Arc<Instance>,
    version: http_proxy::Version,
    request: Request<Body>,
) -> Result<Response<Incoming>, SendError> {
    let key = (instance.pool_key, version);
    let connect = || async {
        let stream = match &instance.address {
            Endpoint::Address(address) => TcpStream::connect(address).await?,
            Endpoint::Name(host, port) => TcpStream::connect((host.as_str(), *port)).await?,
        };
        stream.set_nodelay(true)?;
        io::Result::Ok(stream)
    };
    worker.local.pool.send(&key, version, connect, request).await
}

/// An exchange whose client may leave before the response head.
///
/// A client that leaves over HTTP/1 is not told to the container: the request runs to its end and
/// holds its slot until then (0 row 7). Over HTTP/2 it is cancelled.
struct Exchange<F: Future<Output = Result<Response<Incoming>, SendError>> + 'static> {
    future: Option<Pin<Box<F>>>,
    log: Option<Log>,
    slot: Option<Slot>,
    deadline: Instant,
}

impl<F: Future<Output = Result<Response<Incoming>, SendError>> + 'static> Exchange<F> {
    /// The response head; none when the deadline came first.
    async fn head(&mut self) -> Option<Result<Response<Incoming>, SendError>> {
        let future = self.future.as_mut()?;
        let outcome = timeout_at(self.deadline, future.as_mut()).await.ok()?;
        self.future = None;
        Some(outcome)
    }

    /// Lets the exchange run on without anybody who waits for it.
    fn detach(&mut self, bound: Instant, slot: Option<Slot>) {
        if let Some(future) = self.future.take() {
            tokio::task::spawn_local(async move {
                let rest = async {
                    if let Ok(response) = future.await {
                        swallow(response.into_body()).await;
                    }
                };
                let _ = timeout_at(bound, rest).await;
                drop(slot);
            });
        }
    }
}

impl<F: Future<Output = Result<Response<Incoming>, SendError>> + 'static> Drop for Exchange<F> {
    fn drop(&mut self) {
        let Some(log) = self.log.take() else { return };
        let slot = self.slot.take();
        if log.over_http1() {
            self.detach(self.deadline, slot);
        }
        log.end(CLIENT_CLOSED_REQUEST, 0, None);
    }
}

/// The end of a response body.
struct Finish {
    status: u16,
    log: Log,
    slot: Slot,
}

impl OnEnd for Finish {
    fn ended(self, end: End, bytes: u64, rest: Option<Incoming>) {
        let Finish { status, log, slot } = self;
        let reason = match end {
            End::Complete | End::Abandoned => None,
            End::TimedOut => Some(Reason::RequestTimeout),
            End::Broken => Some(Reason::InstanceConnectionError),
        };
        let template = &log.served.revision.as_ref().unwrap_or(&log.served.service).revision;
        let timeout = Duration::from_secs(template.timeout_seconds.into());
        match (end, rest) {
            // As with a head that came too late: the handler keeps running, without its slot.
            (End::TimedOut, Some(rest)) => {
                let bound = Instant::now() + timeout;
                drop(slot);
                tokio::task::spawn_local(async move { timeout_at(bound, swallow(rest)).await });
            }
            (End::Abandoned, Some(rest)) if log.over_http1() => {
                let bound = log.asked.at + timeout;
                tokio::task::spawn_local(async move {
                    let _ = timeout_at(bound, swallow(rest)).await;
                    drop(slot);
                });
            }
            _ => drop(slot),
        }
        log.end(status, bytes, reason);
    }
}

/// A connection that left HTTP is one request: one slot, one deadline (1.3).
async fn upgraded(log: Log, slot: Slot, client: Upgrade, upstream: Upgrade, deadline: Instant) {
    let left = deadline.saturating_duration_since(Instant::now());
    let bridged = timeout_at(deadline, bridge_upgrade(client, upstream, left)).await;
    drop(slot);
    let reason = bridged.is_err().then_some(Reason::RequestTimeout);
    let bridged = bridged.unwrap_or_default();
    log.received.bytes.set(bridged.sent);
    log.end(StatusCode::SWITCHING_PROTOCOLS.as_u16(), bridged.received, reason);
}

async fn swallow(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

/// Everything that the log entry of a forwarded request needs.
pub struct Log {
    worker: Rc<Worker<CloudRun>>,
    asked: Asked,
    served: Served,
    received: Rc<Received>,
}

impl Log {
    fn over_http1(&self) -> bool {
        self.asked.version < http::Version::HTTP_2
    }

    /// The exchange failed.
    fn failed(self, error: &SendError) -> Response<Body> {
        if self.received.too_large.get() {
            return self.refuse(Reason::RequestTooLarge);
        }
        if let SendError::Body(_) = error {
            // The client broke its own request off; nobody reads this answer.
            self.end(CLIENT_CLOSED_REQUEST, 0, None);
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return response;
        }
        self.refuse_because(Reason::InstanceConnectionError, Some(error))
    }

    /// The answer of a row of the table.
    fn refuse(self, reason: Reason) -> Response<Body> {
        self.refuse_because(reason, None)
    }

    fn refuse_because(self, reason: Reason, detail: Option<&SendError>) -> Response<Body> {
        let failure = respond::failure(reason);
        let ended = Ended {
            status: failure.status,
            request_bytes: self.received.bytes.get(),
            response_bytes: failure.body.len() as u64,
            reason: Some(reason),
        };
        let detail = detail.map(|detail| detail as &dyn std::fmt::Display);
        record::request(
            &self.worker.local.meters,
            &self.asked,
            &self.served,
            ended,
            failure.severity,
            failure.text,
            detail,
        );
        let mut response = Response::new(Body::full(failure.body.into_owned()));
        *response.status_mut() =
            StatusCode::from_u16(failure.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(failure.content_type));
        headers::own(response.headers_mut(), self.asked.trace);
        response
    }

    fn end(self, status: u16, response_bytes: u64, reason: Option<Reason>) {
        let request_bytes = self.received.bytes.get();
        let ended = Ended { status, request_bytes, response_bytes, reason };
        let (severity, text) = match reason {
            Some(reason) => {
                let failure = respond::failure(reason);
                (failure.severity, failure.text)
            }
            None => (record::severity(status), ""),
        };
        record::request(
            &self.worker.local.meters,
            &self.asked,
            &self.served,
            ended,
            severity,
            text,
            None,
        );
    }
}

/// Native gRPC is recognised and kept on HTTP/2 (1.3).
fn is_grpc(asked: &Asked, headers: &HeaderMap) -> bool {
    asked.version == http::Version::HTTP_2
        && headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// "HTTP/2 end-to-end: no limit" of the request's size (1.3).
fn h2_end_to_end(asked: &Asked, headers: &HeaderMap, h2c: bool) -> bool {
    asked.version == http::Version::HTTP_2 && (h2c || is_grpc(asked, headers))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

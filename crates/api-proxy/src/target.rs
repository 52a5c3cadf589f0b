//! One request to a target: resolve, token, dial, send, wait (2.4, 9.1, 9.2).

use crate::ApiProxy;
use crate::compile::Snapshot;
use crate::tls::{HandshakeFailure, TlsKey};
use bytes::Bytes;
use http::header::{EXPECT, HeaderValue, UPGRADE};
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use http_proxy::{Body, BodyError, Incoming, Pool, PoolOptions, SendError, Version, tls};
use policy_bundle::{Fault, TargetProperties, TargetRequest};
use runtime::Worker;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

/// Of the addresses of a name, as many are tried.
const ADDRESSES_MAX: usize = 3;
/// The largest response head (9.3: 25 KB).
const HEAD_BYTES_MAX: usize = 25 * 1024;

/// What makes two connections to targets different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetKey {
    host: Box<str>,
    address: SocketAddrV4,
    tls: Option<TlsKey>,
}

/// `keepalive.timeout.millis`, `connect.timeout.millis`.
type Timeouts = (Duration, Duration);

/// The pools of one worker thread, by how long a connection may be idle and take to come about.
#[derive(Default)]
pub struct Pools {
    pools: RefCell<HashMap<Timeouts, Rc<Pool<TargetKey>>>>,
}

impl Pools {
    fn get(&self, properties: &TargetProperties) -> Rc<Pool<TargetKey>> {
        let key = (properties.keepalive_timeout, properties.connect_timeout);
        let mut pools = self.pools.borrow_mut();
        let pool = pools.entry(key).or_insert_with(|| {
            let attempts = u32::try_from(ADDRESSES_MAX).unwrap_or(u32::MAX);
            Rc::new(Pool::new(PoolOptions {
                idle_timeout: properties.keepalive_timeout,
                // Each address has its own timeout; this is the bound over all of them.
                connect_timeout: properties.connect_timeout * (attempts + 1),
                header_bytes_max: HEAD_BYTES_MAX,
                ..PoolOptions::default()
            }))
        });
        pool.clone()
    }
}

/// A failure, with what the log should say beyond the fault.
pub struct Failure {
    /// What the flow sees.
    pub fault: Fault,
    /// Details for the log.
    pub detail: String,
}

impl Failure {
    fn new(fault: Fault, detail: impl Into<String>) -> Failure {
        Failure { fault, detail: detail.into() }
    }
}

/// What is asked of the target.
pub struct Ask<'a> {
    /// The worker thread.
    pub worker: &'a Worker<ApiProxy>,
    /// The snapshot of this request.
    pub snapshot: &'a Snapshot,
    /// The request.
    pub request: &'a TargetRequest,
    /// Its payload.
    pub body: Payload,
    /// The protocol of an upgrade.
    pub upgrade: Option<HeaderValue>,
    /// The end of the call's time.
    pub deadline: Instant,
    /// Where the address goes that was connected to.
    pub address: &'a Cell<Option<Ipv4Addr>>,
}

/// The payload of a request.
pub enum Payload {
    /// In memory.
    Whole(Bytes),
    /// As the client sends it; its bytes are counted.
    Streamed(Incoming, Rc<Cell<u64>>),
}

/// Sends a request to the target and returns when the head of its answer has arrived.
pub async fn ask(ask: Ask<'_>) -> Result<Response<Incoming>, Failure> {
    let Ask { worker, snapshot, request, body, upgrade, deadline, address } = ask;
    let mut headers = request.headers.clone();
    headers.remove(EXPECT); // answered by our own server
    if let Some(wanted) = &request.id_token {
        let bearer = worker
            .local
            .tokens
            .bearer(wanted)
            .await
            .map_err(|why| Failure::new(Fault::token_generation_failure(&why), why))?;
        headers.insert(&wanted.header, bearer);
    }
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
    }
    let mut addresses = match worker.local.resolver.resolve(worker, &request.host).await {
        Ok(addresses) => addresses,
        Err(unresolved) => {
            return Err(Failure::new(Fault::service_unavailable(None), unresolved.0));
        }
    };
    addresses.truncate(ADDRESSES_MAX);
    let Some(first) = addresses.first().copied() else {
        return Err(Failure::new(Fault::service_unavailable(None), "no address"));
    };
    address.set(Some(first));
    let properties = &request.endpoint.properties;
    let activity = Rc::new(Activity::new());
    let body = match body {
        Payload::Whole(bytes) => Body::full(bytes),
        Payload::Streamed(inner, received) => {
            Body::boxed(RequestBody { inner, received, activity: activity.clone() })
        }
    };
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = request.method.clone();
    *outgoing.uri_mut() = request.path_and_query.parse::<Uri>().map_err(|error| {
        let detail = format!("{}: {error}", request.path_and_query);
        Failure::new(Fault::service_unavailable(None), detail)
    })?;
    *outgoing.headers_mut() = headers;
    let key = TargetKey {
        host: request.host.as_str().into(),
        address: SocketAddrV4::new(first, request.port),
        tls: request.tls.then(|| TlsKey::of(&request.endpoint)),
    };
    let connect = || connect(worker, snapshot, request, &key.tls, &addresses, address);
    let pool = worker.local.pools.get(properties);
    let sent = pin!(pool.send(&key, Version::H1, connect, outgoing));
    match activity.watch(sent, properties.io_timeout, deadline).await {
        Watched::Done(Ok(response)) => Ok(response),
        Watched::Done(Err(error)) => Err(failure(error, request)),
        Watched::Deadline => {
            Err(Failure::new(Fault::api_timed_out(), "no answer within the time of the call"))
        }
        Watched::Stalled if activity.client_is_slow() => {
            Err(Failure::new(Fault::request_timed_out(), "the client's payload does not come"))
        }
        Watched::Stalled => {
            let detail = format!("no byte for {} ms", properties.io_timeout.as_millis());
            Err(Failure::new(Fault::gateway_timeout(), detail))
        }
    }
}

fn failure(error: SendError, request: &TargetRequest) -> Failure {
    let detail = format!("{}:{}: {error}", request.host, request.port);
    let fault = match &error {
        SendError::Connect(cause) => {
            let handshake =
                cause.get_ref().and_then(|inner| inner.downcast_ref::<HandshakeFailure>());
            match handshake {
                Some(HandshakeFailure(cause)) => Fault::ssl_handshake_failed(cause),
                None if cause.kind() == io::ErrorKind::TimedOut => {
                    Fault::service_unavailable(Some("TARGET_CONNECT_TIMEOUT"))
                }
                None => Fault::service_unavailable(None),
            }
        }
        SendError::Timeout => Fault::service_unavailable(Some("TARGET_CONNECT_TIMEOUT")),
        SendError::Closed { .. } | SendError::Protocol(_) => Fault::unexpected_eof_at_target(),
        SendError::Body(error) => of_client_body(error),
    };
    Failure::new(fault, detail)
}

/// The fault for a payload that did not come whole from the client: 408 is for those that are slow,
/// a payload that is no HTTP or breaks off is the client's mistake (8.2).
pub(crate) fn of_client_body(error: &BodyError) -> Fault {
    match error {
        BodyError::Timeout => Fault::request_timed_out(),
        BodyError::TooLarge => Fault::too_big_body(false),
        BodyError::Malformed(_) | BodyError::Closed | BodyError::Cancelled(_) => {
            Fault::bad_request_body()
        }
    }
}

/// A connection of any kind.
trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The first address that takes the connection.
async fn connect(
    worker: &Worker<ApiProxy>,
    snapshot: &Snapshot,
    request: &TargetRequest,
    tls: &Option<TlsKey>,
    addresses: &[Ipv4Addr],
    connected: &Cell<Option<Ipv4Addr>>,
) -> io::Result<Box<dyn Io>> {
    let network = worker.context().network();
    let limit = request.endpoint.properties.connect_timeout;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        let to = SocketAddrV4::new(*address, request.port);
        let attempt = async {
            let stream = network.dial(None, to).await?;
            connected.set(Some(*address));
            let stream: Box<dyn Io> = match tls {
                None => Box::new(stream),
                Some(key) => {
                    let config = snapshot.clients.get(key)?;
                    let stream = tls::connect(config, &request.host, stream).await;
                    Box::new(stream.map_err(|error| {
                        io::Error::other(HandshakeFailure::new(&error, &request.host))
                    })?)
                }
            };
            Ok::<_, io::Error>(stream)
        };
        last = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            // The next address has the same certificate.
            Ok(Err(error))
                if error.get_ref().is_some_and(|inner| inner.is::<HandshakeFailure>()) =>
            {
                return Err(error);
            }
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
    }
    Err(last)
}

/// When bytes last moved, and for whom the exchange waits.
struct Activity {
    last: Cell<Instant>,
    /// The target would take more of the payload than the client has sent.
    waits_for_client: Cell<bool>,
}

enum Watched<T> {
    Done(T),
    /// No byte for too long.
    Stalled,
    /// The call has no time left.
    Deadline,
}

impl Activity {
    fn new() -> Activity {
        Activity { last: Cell::new(Instant::now()), waits_for_client: Cell::new(false) }
    }

    fn client_is_slow(&self) -> bool {
        self.waits_for_client.get()
    }

    /// The outcome, unless nothing moves for too long or the call's time ends.
    async fn watch<F: Future>(
        &self,
        mut future: Pin<&mut F>,
        stall: Duration,
        deadline: Instant,
    ) -> Watched<F::Output> {
        self.last.set(Instant::now());
        loop {
            let until = (self.last.get() + stall).min(deadline);
            tokio::select! {
                biased;
                outcome = future.as_mut() => return Watched::Done(outcome),
                () = sleep_until(until) => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Watched::Deadline;
                    }
                    if now >= self.last.get() + stall {
                        return Watched::Stalled;
                    }
                }
            }
        }
    }
}

/// The client's payload on its way; what moves is noted.
struct RequestBody {
    inner: Incoming,
    received: Rc<Cell<u64>>,
    activity: Rc<Activity>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.activity.waits_for_client.set(frame.is_pending());
        if frame.is_ready() {
            self.activity.last.set(Instant::now());
        }
        // Trailers are not kept (9.4, unconfirmed).
        match frame {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    self.received.set(self.received.get() + data.len() as u64);
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(_) => Poll::Ready(None),
            },
            frame => frame,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::of_client_body;
    use http_proxy::BodyError;
    use names::Reason;

    #[test]
    fn only_a_slow_client_timed_out() {
        for (error, status, reason) in [
            (BodyError::Timeout, 408, Reason::ClientTimeout),
            (BodyError::Malformed("chunk size"), 400, Reason::HttpMalformed),
            (BodyError::Closed, 400, Reason::HttpMalformed),
            (BodyError::TooLarge, 413, Reason::BodyBufferOverflow),
        ] {
            let fault = of_client_body(&error);
            assert_eq!((fault.status, fault.reason()), (status, reason), "{error}");
        }
    }
}

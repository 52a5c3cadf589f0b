//! Upstream connections, kept per thread and key (performance, advice 5).

use crate::body::{Body, Incoming};
use crate::error::SendError;
use crate::h1::{BoxIo, Exchange, Home};
use crate::h2::{Client, Sender};
use crate::headers::strip_hop_by_hop;
use foldhash::fast::RandomState;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::Hash;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

/// The HTTP version towards an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.1.
    H1,
    /// HTTP/2, with prior knowledge or after ALPN.
    H2,
    /// HTTP/2 over TLS: requests say `https` in `:scheme`.
    H2Tls,
}

/// The bounds of a pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// How long a connection without a request stays.
    pub idle_timeout: Duration,
    /// Most HTTP/1.1 connections without a request, per key. Those with one are as many as there
    /// are requests, which the servers in front bound.
    pub idle_max: usize,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// Largest response head.
    pub header_bytes_max: usize,
    /// Requests at once on one HTTP/2 connection; the peer's own limit holds too.
    pub h2_streams_max: usize,
}

impl Default for PoolOptions {
    /// 600 s idle (private-connectivity 2.1 "backend keep-alive fixed 600"), 5 s to connect.
    fn default() -> Self {
        PoolOptions {
            idle_timeout: Duration::from_secs(600),
            idle_max: 256,
            connect_timeout: Duration::from_secs(5),
            header_bytes_max: 60 * 1024,
            h2_streams_max: 100,
        }
    }
}

/// The upstream connections of one thread, by key. The key must hold all that makes two
/// connections different: address and protocol, or origin, service and tag.
pub struct Pool<K> {
    inner: Rc<Inner<K>>,
}

struct Inner<K> {
    options: Rc<PoolOptions>,
    slots: RefCell<HashMap<K, Rc<Slot>, RandomState>>,
    /// Does a task look after idle connections?
    swept: Cell<bool>,
}

/// The connections of one key.
struct Slot {
    options: Rc<PoolOptions>,
    /// The newest last: it is the one that is used next, so that surplus ones grow old.
    #[allow(clippy::vec_box)]
    // moved about between here, an exchange and its body: a pointer each time
    idle: RefCell<Vec<Box<Exchange>>>,
    h2: RefCell<Vec<Client>>,
    /// An HTTP/2 connection is being made; those who wait for it share it.
    connecting: RefCell<Option<Rc<Shared>>>,
    /// Requests that one connection serves.
    requests_max: Cell<u32>,
    /// The key was forgotten: nothing comes back.
    forgotten: Cell<bool>,
}

impl Home for Slot {
    fn take_back(&self, exchange: Box<Exchange>) {
        let mut idle = self.idle.borrow_mut();
        let used_up = exchange.served >= self.requests_max.get();
        if !used_up && !self.forgotten.get() && idle.len() < self.options.idle_max {
            idle.push(exchange);
        }
    }
}

impl<K: Hash + Eq + Clone + 'static> Pool<K> {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        let inner =
            Inner { options: Rc::new(options), slots: RefCell::default(), swept: Cell::new(false) };
        Pool { inner: Rc::new(inner) }
    }

    /// Sends a request over a kept connection, or over a new one from `connect`, and returns when
    /// the response head has arrived.
    ///
    /// The authority stands in `host`, the path in the URI; for HTTP/2 the URI's scheme is used if
    /// it has one, else `http`. An upgrade is asked for by an `upgrade` field, which the caller
    /// sets again after [`strip_hop_by_hop`]. Hop-by-hop fields of the response are removed,
    /// except those of a 101, whose connection [`Incoming::take_upgrade`] has.
    ///
    /// If a kept connection turns out to be closed, the request is sent once more over a new one:
    /// always if no byte had left, else if its method is idempotent (RFC 9110 9.2.2), and only if
    /// its body can be sent again.
    ///
    /// # Errors
    /// See [`SendError`]. Dropping the future cancels the exchange.
    pub async fn send<C, F, IO>(
        &self,
        key: &K,
        version: Version,
        connect: C,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError>
    where
        C: FnOnce() -> F,
        F: Future<Output = io::Result<IO>>,
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (parts, body) = request.into_parts();
        self.send_parts(key, version, connect, &parts, &[], body).await
    }

    /// As [`Pool::send`], for a caller that keeps the request's head to send it again. The fields
    /// of `more` are sent behind those of `parts`, which has none of their names: a proxy's own
    /// fields need no place in the map.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send_parts<C, F, IO>(
        &self,
        key: &K,
        version: Version,
        connect: C,
        parts: &Parts,
        more: &[(HeaderName, HeaderValue)],
        body: Body,
    ) -> Result<Response<Incoming>, SendError>
    where
        C: FnOnce() -> F,
        F: Future<Output = io::Result<IO>>,
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let slot = self.slot(key);
        let timeout = self.inner.options.connect_timeout;
        // Boxed, and only where it is needed: most requests find a kept connection, and their
        // futures shall not have the room of a TLS handshake.
        let connect = move || -> Connected<'_> {
            let connected = connect();
            Box::pin(async move {
                match tokio::time::timeout(timeout, connected).await {
                    Ok(Ok(io)) => Ok(Box::new(io) as BoxIo),
                    Ok(Err(error)) => Err(SendError::Connect(Arc::new(error))),
                    Err(_) => Err(SendError::Timeout),
                }
            })
        };
        match version {
            Version::H1 => slot.send_h1(connect, parts, more, body).await,
            Version::H2 => Box::pin(slot.send_h2(connect, Scheme::HTTP, parts, more, body)).await,
            Version::H2Tls => {
                Box::pin(slot.send_h2(connect, Scheme::HTTPS, parts, more, body)).await
            }
        }
    }

    /// Closes the kept connections of a key, when its instance is gone, say. Exchanges that run
    /// go on to their end.
    pub fn forget(&self, key: &K) {
        if let Some(slot) = self.inner.slots.borrow_mut().remove(key) {
            slot.forgotten.set(true);
            slot.idle.borrow_mut().clear();
            slot.h2.borrow_mut().clear();
        }
    }

    /// A connection of this key serves so many requests and is closed then. To be said while a
    /// connection is made.
    pub fn limit(&self, key: &K, requests_max: u32) {
        self.slot(key).requests_max.set(requests_max.max(1));
    }

    /// How many connections wait for a request, over all keys.
    pub fn idle(&self) -> usize {
        let unused = |slot: &Rc<Slot>| {
            slot.idle.borrow().len()
                + slot.h2.borrow().iter().filter(|client| client.running() == 0).count()
        };
        self.inner.slots.borrow().values().map(unused).sum()
    }

    fn slot(&self, key: &K) -> Rc<Slot> {
        if let Some(slot) = self.inner.slots.borrow().get(key) {
            return slot.clone();
        }
        let slot = Rc::new(Slot {
            options: self.inner.options.clone(),
            idle: RefCell::default(),
            h2: RefCell::default(),
            connecting: RefCell::default(),
            requests_max: Cell::new(u32::MAX),
            forgotten: Cell::new(false),
        });
        self.inner.slots.borrow_mut().insert(key.clone(), slot.clone());
        if !self.inner.swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(&self.inner)));
        }
        slot
    }
}

/// Drops what is closed or too old, and keys without connections. Ends with the pool or when
/// nothing is left.
async fn sweep<K: Hash + Eq + Clone + 'static>(pool: Weak<Inner<K>>) {
    loop {
        let Some(period) = pool.upgrade().map(|pool| pool.options.idle_timeout / 4) else { return };
        tokio::time::sleep(period.clamp(Duration::from_millis(100), Duration::from_secs(5))).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut slots = pool.slots.borrow_mut();
        slots.retain(|_, slot| {
            slot.sweep();
            Rc::strong_count(slot) > 1
                || !slot.idle.borrow().is_empty()
                || !slot.h2.borrow().is_empty()
        });
        if slots.is_empty() {
            slots.shrink_to_fit();
            pool.swept.set(false);
            return;
        }
    }
}

impl Slot {
    fn sweep(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        let timeout = self.options.idle_timeout;
        self.idle
            .borrow_mut()
            .retain_mut(|kept| kept.idle_since.elapsed() < timeout && kept.is_quiet(&mut cx));
        self.h2.borrow_mut().retain(|client| {
            !client.is_closed() && client.idle_since().is_none_or(|since| since.elapsed() < timeout)
        });
    }

    async fn send_h1<'a>(
        self: &Rc<Self>,
        connect: impl FnOnce() -> Connected<'a>,
        parts: &Parts,
        more: &[(HeaderName, HeaderValue)],
        mut body: Body,
    ) -> Result<Response<Incoming>, SendError> {
        let kept = poll_fn(|cx| Poll::Ready(self.take_idle(cx))).await;
        if let Some(mut exchange) = kept {
            let again = body.replay();
            exchange.begin(parts, more, body, self.clone());
            match poll_fn(|cx| exchange.poll_head(cx)).await {
                Ok((status, headers)) => {
                    return Ok(respond(exchange, &parts.method, status, headers));
                }
                Err(SendError::Closed { sent }) if !sent || parts.method.is_idempotent() => {
                    body = again.ok_or(SendError::Closed { sent })?;
                }
                Err(error) => return Err(error),
            }
        }
        let mut exchange = Exchange::new(connect().await?, self.options.header_bytes_max);
        exchange.begin(parts, more, body, self.clone());
        let (status, headers) = poll_fn(|cx| exchange.poll_head(cx)).await?;
        Ok(respond(exchange, &parts.method, status, headers))
    }

    fn take_idle(&self, cx: &mut Context<'_>) -> Option<Box<Exchange>> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut exchange) = idle.pop() {
            if exchange.idle_since.elapsed() >= self.options.idle_timeout {
                idle.clear(); // what lies below is older
            } else if exchange.is_quiet(cx) {
                return Some(exchange);
            }
        }
        None
    }

    async fn send_h2<'a>(
        self: &Rc<Self>,
        connect: impl FnOnce() -> Connected<'a>,
        scheme: Scheme,
        parts: &Parts,
        more: &[(HeaderName, HeaderValue)],
        body: Body,
    ) -> Result<Response<Incoming>, SendError> {
        let again = body.replay();
        let whole = || {
            let mut parts = parts.clone();
            for (name, value) in more {
                parts.headers.append(name.clone(), value.clone());
            }
            parts
        };
        let mut connect = Some(connect);
        let sender = self.h2_sender(&mut connect).await?;
        let reused = connect.is_some();
        let (error, unsent) = match sender.send(whole(), &scheme, body).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        let retry = error.is_retry_safe()
            || (reused
                && matches!(error, SendError::Closed { .. })
                && parts.method.is_idempotent());
        let Some(body) = unsent.or(again).filter(|_| retry) else { return Err(error) };
        let sender = self.h2_sender(&mut connect).await?;
        sender.send(whole(), &scheme, body).await.map_err(|(error, _)| error)
    }

    /// A connection with room for one more request. Makes one if there is none, unless somebody
    /// else is at it already, whose failure is then everybody's. Leaves `connect` where a kept
    /// one is used.
    async fn h2_sender<'a>(
        self: &Rc<Self>,
        connect: &mut Option<impl FnOnce() -> Connected<'a>>,
    ) -> Result<Sender, SendError> {
        loop {
            {
                let mut clients = self.h2.borrow_mut();
                clients.retain(|client| !client.is_closed());
                let most = self.options.h2_streams_max;
                if let Some(at) = clients.iter().position(|client| client.has_room(most)) {
                    let sender = clients[at].sender();
                    if clients[at].served.get() >= self.requests_max.get() {
                        clients.swap_remove(at); // it ends with its last request
                    }
                    return Ok(sender);
                }
            }
            let waits_for = self.connecting.borrow().clone();
            if let Some(attempt) = waits_for {
                attempt.ended.notified().await;
                match attempt.failure.take() {
                    Some(error) => {
                        attempt.failure.set(Some(alike(&error)));
                        return Err(error);
                    }
                    None => continue,
                }
            }
            let connect = connect.take().ok_or(SendError::Closed { sent: false })?;
            let attempt = Attempt::begin(self);
            let client = async { Client::connect(connect().await?).await }.await;
            let client = client.inspect_err(|error| attempt.0.failure.set(Some(alike(error))))?;
            let sender = client.sender();
            if !self.forgotten.get() && client.served.get() < self.requests_max.get() {
                self.h2.borrow_mut().push(client);
            }
            return Ok(sender);
        }
    }
}

/// A connection in the making.
type Connected<'a> = Pin<Box<dyn Future<Output = Result<BoxIo, SendError>> + 'a>>;

/// Somebody makes an HTTP/2 connection for all who wait.
#[derive(Default)]
struct Shared {
    ended: Notify,
    failure: Cell<Option<SendError>>,
}

/// The attempt of whoever makes it; its end is told on every way out.
struct Attempt<'a>(Rc<Shared>, &'a Slot);

impl<'a> Attempt<'a> {
    fn begin(slot: &'a Slot) -> Self {
        let shared = Rc::new(Shared::default());
        slot.connecting.replace(Some(shared.clone()));
        Attempt(shared, slot)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.1.connecting.take();
        self.0.ended.notify_waiters();
    }
}

/// The same failure for somebody else.
fn alike(error: &SendError) -> SendError {
    match error {
        SendError::Connect(error) => SendError::Connect(error.clone()),
        SendError::Closed { .. } => SendError::Closed { sent: false },
        SendError::Timeout => SendError::Timeout,
        SendError::Protocol(what) => SendError::Protocol(what),
        SendError::Body(error) => SendError::Body(error.clone()),
    }
}

fn respond(
    exchange: Box<Exchange>,
    method: &Method,
    status: StatusCode,
    headers: http::HeaderMap,
) -> Response<Incoming> {
    let tunnel = status == StatusCode::SWITCHING_PROTOCOLS
        || (*method == Method::CONNECT && status.is_success());
    let incoming = if tunnel {
        Incoming::empty().with_upgrade(Some(exchange.into_upgrade()))
    } else {
        Incoming::response(exchange)
    };
    let mut response = Response::new(incoming);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(response.headers_mut());
    }
    response
}

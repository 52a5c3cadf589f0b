//! The server's side of an HTTP/1.1 connection: one task, which reads a head, polls the handler,
//! writes the response while it comes, and watches for a client that leaves.

use super::decode::Decoder;
use super::encode::{Encoder, ResponseContext, response_head};
use super::head::{self, RequestHead};
use super::source::{RequestBody, Shared};
use super::wire::{BoxIo, Reader, Writer, closed_io};
use crate::body::{Body, Incoming};
use crate::error::HeadError;
use crate::headers::{accepts_trailers, recycle};
use crate::server::{ConnectionInfo, Handler, LINGER, LINGER_MAX, ReasonPhrase, ServerOptions};
use crate::upgrade::{Lessor, Promise, UpgradedIo};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as _, SizeHint};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// While a request is handled, at most so much of what follows it is read ahead.
const AHEAD_MAX: usize = 16 * 1024;
/// An unread rest of a request body up to this size is read away to keep the connection.
const DISCARD_MAX: u64 = 256 * 1024;

/// Serves a connection to its end. `reader` holds what was read already, `since` says when the
/// waiting for it, or for its rest, began.
pub(crate) async fn serve<H: Handler>(
    io: BoxIo,
    reader: Reader,
    since: Instant,
    info: &Rc<ConnectionInfo>,
    handler: &Rc<H>,
    options: &ServerOptions,
    drain: Pin<&mut dyn Future<Output = ()>>,
) {
    let phase = Some((reader.buffer.is_empty(), since));
    let shared = Shared {
        io,
        reader,
        writer: Writer::default(),
        body: Decoder::Done,
        expect_continue: false,
        read_closed: false,
        stalled: None,
        watcher: None,
        exchange: 0,
        trailer_bytes_max: options.header_bytes_max,
    };
    let mut connection = Connection {
        shared: Rc::new(RefCell::new(shared)),
        options,
        drain: Some(drain),
        clock: Clock { phase, ..Clock::default() },
    };
    loop {
        let head = match poll_fn(|cx| connection.poll_head(cx)).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(error) => {
                handler.refused(&error);
                connection.refuse(&error).await;
                break;
            }
        };
        // Boxed: a connection that waits for its next request is not as large as an exchange.
        match Box::pin(connection.exchange(head, info, handler)).await {
            After::KeepAlive => {}
            After::Linger => {
                connection.linger().await;
                break;
            }
            After::Close => break,
            After::Upgraded(lessor) => return connection.outlive(&lessor).await,
        }
    }
    // TLS says good-bye; a peer that does not take it does not hold the task.
    let _ = tokio::time::timeout(LINGER, poll_fn(|cx| connection.poll_shutdown(cx))).await;
}

struct Connection<'a> {
    shared: Rc<RefCell<Shared>>,
    options: &'a ServerOptions,
    /// None once it has resolved.
    drain: Option<Pin<&'a mut dyn Future<Output = ()>>>,
    clock: Clock,
}

/// What becomes of the connection after an exchange.
enum After {
    KeepAlive,
    /// The response is complete, the client may still be sending.
    Linger,
    Close,
    Upgraded(Lessor),
}

impl Connection<'_> {
    /// The next request head; none when the connection ends between two requests.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RequestHead>, HeadError>> {
        let mut shared = self.shared.borrow_mut();
        let shared = &mut *shared;
        loop {
            let seen = self.clock.seen;
            let buffer = &mut shared.reader.buffer;
            if !buffer.is_empty() && (seen == 0 || head::may_be_complete(buffer, seen)) {
                match head::request(buffer, self.options.header_bytes_max) {
                    Ok(None) => {}
                    Ok(Some(head)) => {
                        self.clock.begin_exchange();
                        return Poll::Ready(Ok(Some(head)));
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            } else if buffer.len() >= self.options.header_bytes_max {
                return Poll::Ready(Err(HeadError::TooLarge));
            }
            self.clock.seen = shared.reader.buffer.len();
            match shared.poll_fill(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) if self.clock.seen == 0 => return Poll::Ready(Ok(None)),
                Poll::Ready(false) => return Poll::Ready(Err(HeadError::Closed)),
                Poll::Pending => break,
            }
        }
        let idle = self.clock.seen == 0;
        if idle {
            shared.reader.rest();
            if poll_drain(&mut self.drain, cx) {
                return Poll::Ready(Ok(None));
            }
        }
        let limit = if idle { self.options.keep_alive } else { self.options.header_timeout };
        match self.clock.poll_phase(idle, limit, cx) {
            Poll::Ready(()) if idle => Poll::Ready(Ok(None)),
            Poll::Ready(()) => Poll::Ready(Err(HeadError::Timeout)),
            Poll::Pending => Poll::Pending,
        }
    }

    async fn exchange<H: Handler>(
        &mut self,
        head: RequestHead,
        info: &Rc<ConnectionInfo>,
        handler: &Rc<H>,
    ) -> After {
        let RequestHead { method, uri, headers, http11, body, .. } = head;
        let body = {
            let mut shared = self.shared.borrow_mut();
            shared.exchange += 1;
            shared.body = body;
            shared.expect_continue = head.expect_continue;
            shared.stalled = None;
            shared.watcher = None;
            body
        };
        let trailers = accepts_trailers(&headers);
        let mut promise = None;
        let incoming = if body.is_done() {
            let incoming = Incoming::empty();
            if head.upgrade {
                let (kept, upgrade) = Promise::new();
                promise = Some(kept);
                incoming.with_upgrade(Some(upgrade))
            } else {
                incoming
            }
        } else {
            Incoming::request(RequestBody::new(&self.shared))
        };
        let mut request = Request::new(incoming);
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.version_mut() =
            if http11 { http::Version::HTTP_11 } else { http::Version::HTTP_10 };

        let response = {
            let mut handled = pin!(handler.clone().handle(request, info));
            poll_fn(|cx| match handled.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => self.poll_gone(cx).map(Err),
            })
            .await
        };
        let response = match response {
            Ok(response) => response,
            Err(Gone::Left) => return After::Close,
            Err(Gone::Stalled) => {
                self.refuse(&HeadError::Timeout).await;
                return After::Close;
            }
        };
        self.respond(response, &method, http11, trailers, head.keep_alive, promise).await
    }

    async fn respond(
        &mut self,
        response: Response<Body>,
        method: &Method,
        http11: bool,
        trailers: bool,
        keep_alive: bool,
        promise: Option<Promise>,
    ) -> After {
        let (mut parts, mut body) = response.into_parts();
        if parts.status.is_informational()
            && (parts.status != StatusCode::SWITCHING_PROTOCOLS || promise.is_none())
        {
            // No final response, or one that the client did not ask for: it would wait for ever.
            (parts.status, body) = (StatusCode::BAD_GATEWAY, Body::empty());
        }
        let draining = poll_fn(|cx| Poll::Ready(poll_drain(&mut self.drain, cx))).await;
        let size = body.size_hint(); // not under a borrow: it may be this connection's request
        let (mut encoder, mut keep_alive) = {
            let mut shared = self.shared.borrow_mut();
            // A body that the client still holds back or that is long is not worth waiting for.
            let rest = if shared.expect_continue { None } else { shared.body.remaining() };
            let rest_is_short = rest.is_some_and(|rest| rest <= DISCARD_MAX)
                || matches!(shared.body, Decoder::Chunked(_));
            let keep_alive = keep_alive
                && !draining
                && !shared.read_closed
                && rest_is_short
                && !shared.expect_continue
                && !asks_to_close(&parts.headers);
            let reason = parts.extensions.get::<ReasonPhrase>().map(|ReasonPhrase(text)| text);
            let context = ResponseContext { method, http11, trailers, keep_alive, reason };
            let encoder =
                response_head(&mut shared.writer, parts.status, &parts.headers, &size, context);
            recycle(std::mem::take(&mut parts.headers));
            shared.expect_continue = false; // too late for an interim response
            (encoder, keep_alive && encoder != Encoder::UntilClose)
        };
        let tunnel = parts.status == StatusCode::SWITCHING_PROTOCOLS
            || (*method == Method::CONNECT && parts.status.is_success());
        if tunnel {
            return self.give_away(promise).await;
        }
        if encoder == Encoder::Nothing {
            body = Body::empty(); // cancels what the handler may still produce
        }
        match poll_fn(|cx| self.poll_response(&mut body, &mut encoder, cx)).await {
            Ok(()) => {}
            // The response is cut short: nothing but the end of the connection says so.
            Err(Cut) => return After::Close,
        }
        drop(body);
        self.clock.begin_exchange();
        if keep_alive && !self.shared.borrow().body.is_done() {
            let discard = poll_fn(|cx| self.poll_discard(cx));
            keep_alive = matches!(tokio::time::timeout(LINGER, discard).await, Ok(true));
        }
        let shared = self.shared.borrow();
        if keep_alive {
            After::KeepAlive
        } else if shared.body.is_done() && shared.reader.buffer.is_empty() {
            After::Close
        } else {
            After::Linger
        }
    }

    /// Moves the response's body to the socket. Ends when all is written.
    fn poll_response(
        &mut self,
        body: &mut Body,
        encoder: &mut Encoder,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Cut>> {
        loop {
            // All that is ready goes into one write.
            let mut waits = false;
            while !self.clock.ended && self.shared.borrow().writer.has_room() {
                // Not under a borrow: the body may read this connection's request.
                let frame = match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => Some(frame),
                    Poll::Ready(Some(Err(_))) => {
                        // What was sent so far may leave; the end is missing.
                        let _ = self.shared.borrow_mut().poll_flush(cx);
                        return Poll::Ready(Err(Cut));
                    }
                    Poll::Ready(None) => None,
                    Poll::Pending => {
                        waits = true;
                        break;
                    }
                };
                let writer = &mut self.shared.borrow_mut().writer;
                let written = match frame.map(|frame| frame.into_data()) {
                    Some(Ok(data)) => encoder.data(data, writer),
                    Some(Err(frame)) => {
                        self.clock.ended = true;
                        encoder.end(frame.trailers_ref(), writer)
                    }
                    None => {
                        self.clock.ended = true;
                        encoder.end(None, writer)
                    }
                };
                if written.is_err() {
                    return Poll::Ready(Err(Cut));
                }
            }
            let flushed = self.shared.borrow_mut().poll_flush(cx);
            match flushed {
                Poll::Ready(Ok(())) => self.clock.blocked = None,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Cut)),
                Poll::Pending => {
                    let limit = body.limit().as_mut();
                    if limit.is_some_and(|limit| limit.as_mut().poll(cx).is_ready()) {
                        return Poll::Ready(Err(Cut));
                    }
                    let stall = self.options.stall_timeout;
                    return self.clock.poll_stall(stall, cx).map(|()| Err(Cut));
                }
            }
            if self.clock.ended {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return self.poll_gone(cx).map(|_| Err(Cut));
            }
        }
    }

    /// Ready when the client is gone, or has held back its request's body for too long.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        let mut shared = self.shared.borrow_mut();
        let stalled = shared.stalled;
        if shared.body.is_done() {
            // Whole request read: the socket is watched for its end. Bytes are a request ahead.
            while shared.reader.buffer.len() < AHEAD_MAX {
                match shared.poll_fill(cx) {
                    Poll::Ready(true) => {}
                    Poll::Ready(false) => return Poll::Ready(Gone::Left),
                    Poll::Pending => break,
                }
            }
        } else {
            // Whoever reads the body may do it in another task.
            if !shared.watcher.as_ref().is_some_and(|watcher| watcher.will_wake(cx.waker())) {
                shared.watcher = Some(cx.waker().clone());
            }
            // Looked at again later where nothing is stalled now: nobody else would.
            let deadline = stalled.unwrap_or_else(Instant::now) + self.options.stall_timeout;
            if self.clock.poll_until(deadline, cx).is_ready() {
                return Poll::Ready(Gone::Stalled);
            }
        }
        Poll::Pending
    }

    /// Reads the rest of the request's body away; false when it is too long or broken.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut shared = self.shared.borrow_mut();
        loop {
            match ready!(shared.poll_body(cx)) {
                None => return Poll::Ready(true),
                Some(Ok(frame)) => {
                    self.clock.discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
                    if self.clock.discarded > DISCARD_MAX {
                        return Poll::Ready(false);
                    }
                }
                Some(Err(_)) => return Poll::Ready(false),
            }
        }
    }

    async fn give_away(&mut self, promise: Option<Promise>) -> After {
        if poll_fn(|cx| self.shared.borrow_mut().poll_flush(cx)).await.is_err() {
            return After::Close;
        }
        let Some(promise) = promise else { return After::Close };
        let mut shared = self.shared.borrow_mut();
        let io = std::mem::replace(&mut shared.io, closed_io());
        let ahead = std::mem::take(&mut shared.reader.buffer).freeze();
        let (io, lessor) = UpgradedIo::leased(io, ahead);
        promise.keep(io);
        After::Upgraded(lessor)
    }

    /// Stays until the upgraded connection has ended, which is still this one. What runs on it
    /// knows nothing of a drain: it gets a while, and then the end.
    async fn outlive(&mut self, upgraded: &Lessor) {
        tokio::select! {
            () = upgraded.ended() => return,
            () = poll_fn(|cx| match poll_drain(&mut self.drain, cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }) => {}
        }
        if tokio::time::timeout(self.options.upgraded_grace, upgraded.ended()).await.is_err() {
            upgraded.cut();
            // Whoever has it and does not look at it does not hold this task.
            let _ = tokio::time::timeout(LINGER, upgraded.ended()).await;
        }
    }

    /// Answers what is no request, as Envoy does: status, its reason as text, and the end.
    async fn refuse(&mut self, error: &HeadError) {
        let Some(status) = error.status() else { return };
        {
            let mut shared = self.shared.borrow_mut();
            let text = status.canonical_reason().unwrap_or_default();
            let mut headers = HeaderMap::with_capacity(1);
            headers
                .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
            let context = ResponseContext {
                method: &Method::GET,
                http11: true,
                trailers: false,
                keep_alive: false,
                reason: None,
            };
            let size = SizeHint::with_exact(text.len() as u64);
            response_head(&mut shared.writer, status, &headers, &size, context);
            shared.writer.buffer().extend_from_slice(text.as_bytes());
        }
        let flushed = poll_fn(|cx| self.shared.borrow_mut().poll_flush(cx));
        if matches!(tokio::time::timeout(LINGER, flushed).await, Ok(Ok(()))) {
            self.linger().await;
        }
    }

    /// Says that nothing more comes, then reads until the client has seen it, for a moment.
    async fn linger(&mut self) {
        let emptied = async {
            if poll_fn(|cx| self.poll_shutdown(cx)).await.is_err() {
                return;
            }
            loop {
                let more = poll_fn(|cx| {
                    let mut shared = self.shared.borrow_mut();
                    shared.reader.buffer.clear();
                    shared.poll_fill(cx)
                });
                match tokio::time::timeout(LINGER, more).await {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return,
                }
            }
        };
        let _ = tokio::time::timeout(LINGER_MAX, emptied).await;
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        ready!(shared.poll_flush(cx))?;
        Pin::new(&mut *shared.io).poll_shutdown(cx)
    }
}

/// The response cannot be ended properly.
struct Cut;

enum Gone {
    Left,
    Stalled,
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    headers
        .get_all(http::header::CONNECTION)
        .iter()
        .flat_map(crate::headers::tokens)
        .any(|token| token.eq_ignore_ascii_case("close"))
}

/// Has the drain begun?
fn poll_drain(drain: &mut Option<Pin<&mut dyn Future<Output = ()>>>, cx: &mut Context<'_>) -> bool {
    if let Some(future) = drain {
        if future.as_mut().poll(cx).is_pending() {
            return false;
        }
        *drain = None;
    }
    true
}

/// The one timer of a connection, and the little that one exchange has to remember between polls.
/// The timer is set anew only to an earlier time: a request costs a reading of the clock, no
/// change of the timer wheel.
#[derive(Default)]
struct Clock {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the present waiting began, and whether it is for a first byte.
    phase: Option<(bool, Instant)>,
    /// Since when the socket has taken nothing.
    blocked: Option<Instant>,
    /// How much of an incomplete head was looked at.
    seen: usize,
    /// The response's body has ended.
    ended: bool,
    discarded: u64,
}

impl Clock {
    fn begin_exchange(&mut self) {
        self.phase = None;
        self.blocked = None;
        self.seen = 0;
        self.ended = false;
        self.discarded = 0;
    }

    fn poll_phase(&mut self, idle: bool, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let since = match self.phase {
            Some((same, since)) if same == idle => since,
            _ => Instant::now(),
        };
        self.phase = Some((idle, since));
        self.poll_until(since + limit, cx)
    }

    fn poll_stall(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.blocked.get_or_insert_with(Instant::now);
        self.poll_until(since + limit, cx)
    }

    fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
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

//! The client's side of an HTTP/1.1 connection. An exchange belongs to whoever polls it: first for
//! the response head, then, inside the response's body, for its frames. A request that the socket
//! takes at once is sent by the same task; a longer one by a task of its own, so that it moves
//! whether or not somebody reads the response.

use super::decode::{Decoder, Step};
use super::encode::{Encoder, request_head};
use super::head;
use super::wire::{BoxIo, Reader, Writer, closed_io};
use crate::body::Body;
use crate::error::{BodyError, SendError};
use crate::upgrade::{Promise, Upgrade, UpgradedIo};
use bytes::Bytes;
use http::header::UPGRADE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Interim responses that may come before the final one.
const INTERIM_MAX: usize = 16;

/// Where a connection goes when its exchange has ended well.
pub(crate) trait Home {
    /// Takes a connection back.
    fn take_back(&self, exchange: Box<Exchange>);
}

/// A connection with the state of its present exchange. Boxed once and moved about.
pub(crate) struct Exchange {
    sending: Rc<RefCell<Sending>>,
    /// The task that sends, where there is one.
    sender: Option<Sender>,
    begun: bool,
    reader: Reader,
    header_bytes_max: usize,
    method: Method,
    /// Does the request ask for an upgrade?
    upgrade: bool,
    response: Decoder,
    seen: usize,
    interims: usize,
    keep_alive: bool,
    home: Option<Rc<dyn Home>>,
    /// When it came back the last time.
    pub(crate) idle_since: Instant,
    /// Exchanges that have ended well.
    pub(crate) served: u32,
}

/// The socket, and what is still to be sent.
struct Sending {
    io: BoxIo,
    writer: Writer,
    /// The request's body, until its end was written.
    request: Option<Body>,
    encoder: Encoder,
    /// The socket takes no more; the peer may have answered all the same.
    failed: bool,
    /// The request's own body has failed.
    body_error: Option<BodyError>,
    /// Who reads, while a task of its own sends.
    reading: Option<Waker>,
}

impl Sending {
    /// Ready when nothing is left to do: all is sent, or it cannot be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Some(body) = &mut self.request
                && self.writer.has_room()
            {
                let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { break };
                let written = match frame.transpose().map(|frame| frame.map(Frame::into_data)) {
                    Ok(Some(Ok(data))) => self.encoder.data(data, &mut self.writer),
                    Ok(Some(Err(frame))) => {
                        self.request = None;
                        self.encoder.end(frame.trailers_ref(), &mut self.writer)
                    }
                    Ok(None) => {
                        self.request = None;
                        self.encoder.end(None, &mut self.writer)
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = written {
                    self.body_error = Some(error);
                    return self.give_up();
                }
            }
            let full = !self.writer.has_room();
            match self.writer.poll_flush(&mut *self.io, cx) {
                Poll::Ready(Ok(())) if self.request.is_none() => return Poll::Ready(()),
                Poll::Ready(Ok(())) if full => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return self.give_up(),
            }
        }
    }

    fn give_up(&mut self) -> Poll<()> {
        self.failed = true;
        self.request = None;
        self.writer.abandon();
        Poll::Ready(())
    }
}

/// Ends a sending task with its exchange.
struct Sender(AbortHandle);

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Exchange {
    /// A new connection.
    pub(crate) fn new(io: BoxIo, header_bytes_max: usize) -> Box<Self> {
        let sending = Sending {
            io,
            writer: Writer::default(),
            request: None,
            encoder: Encoder::Nothing,
            failed: false,
            body_error: None,
            reading: None,
        };
        Box::new(Exchange {
            sending: Rc::new(RefCell::new(sending)),
            sender: None,
            begun: false,
            reader: Reader { fleeting: true, ..Reader::default() },
            header_bytes_max,
            method: Method::GET,
            upgrade: false,
            response: Decoder::Done,
            seen: 0,
            interims: 0,
            keep_alive: false,
            home: None,
            idle_since: Instant::now(),
            served: 0,
        })
    }

    /// Is a kept connection still quiet? One that was closed, or on which the peer speaks
    /// unasked, cannot be used again.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_fill(cx).is_pending()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.reader.poll_fill(&mut *self.sending.borrow_mut().io, cx)
    }

    /// Begins an exchange; `home` gets the connection back.
    pub(crate) fn begin(
        &mut self,
        request: &Parts,
        more: &[(HeaderName, HeaderValue)],
        body: Body,
        home: Rc<dyn Home>,
    ) {
        let target = match request.uri.path_and_query() {
            _ if request.method == Method::CONNECT => {
                request.uri.authority().map_or("", |authority| authority.as_str())
            }
            Some(path) => path.as_str(),
            None => "/",
        };
        let sending = &mut *self.sending.borrow_mut();
        sending.writer.touched = false;
        sending.encoder = request_head(
            &mut sending.writer,
            &request.method,
            target,
            &request.headers,
            more,
            &body.size_hint(),
        );
        sending.request = (sending.encoder != Encoder::Nothing).then_some(body);
        self.begun = false;
        self.method = request.method.clone();
        self.upgrade = request.headers.contains_key(UPGRADE);
        self.home = Some(home);
    }

    /// Sends what the socket takes at once, and leaves the rest to a task.
    fn send(&mut self, cx: &mut Context<'_>) {
        self.begun = true;
        if self.sending.borrow_mut().poll(cx).is_ready() {
            return;
        }
        let sending = self.sending.clone();
        let task = tokio::task::spawn_local(async move {
            poll_fn(|cx| sending.borrow_mut().poll(cx)).await;
            let reading = sending.borrow_mut().reading.take();
            reading.inspect(Waker::wake_by_ref);
        });
        self.sender = Some(Sender(task.abort_handle()));
    }

    /// Has the request's own body failed? Asks to be woken if it does.
    fn body_error(&self, cx: &mut Context<'_>) -> Option<BodyError> {
        let mut sending = self.sending.borrow_mut();
        if self.sender.is_some() && !sending.failed {
            sending.reading = Some(cx.waker().clone());
        }
        sending.body_error.take()
    }

    /// The response head.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(StatusCode, HeaderMap), SendError>> {
        if !self.begun {
            self.send(cx);
        }
        if let Some(error) = self.body_error(cx) {
            return Poll::Ready(Err(SendError::Body(error)));
        }
        loop {
            let buffer = &mut self.reader.buffer;
            if !buffer.is_empty() && (self.seen == 0 || head::may_be_complete(buffer, self.seen)) {
                let limit = self.header_bytes_max;
                if let Some(head) = head::response(buffer, limit, &self.method)? {
                    self.seen = 0;
                    if head.status.is_informational()
                        && head.status != StatusCode::SWITCHING_PROTOCOLS
                    {
                        self.interims += 1;
                        if self.interims > INTERIM_MAX {
                            return Poll::Ready(Err(SendError::Protocol("interim responses only")));
                        }
                        continue;
                    }
                    if head.status == StatusCode::SWITCHING_PROTOCOLS && !self.upgrade {
                        return Poll::Ready(Err(SendError::Protocol("101 that nobody asked for")));
                    }
                    self.response = head.body;
                    self.keep_alive = head.keep_alive;
                    return Poll::Ready(Ok((head.status, head.headers)));
                }
            } else if buffer.len() >= self.header_bytes_max {
                return Poll::Ready(Err(SendError::Protocol("the response head is too large")));
            }
            self.seen = self.reader.buffer.len();
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) if self.seen > 0 || self.interims > 0 => {
                    return Poll::Ready(Err(SendError::Protocol("a response head without an end")));
                }
                Ok(0) | Err(_) => {
                    let sent = self.sending.borrow().writer.touched;
                    return Poll::Ready(Err(SendError::Closed { sent }));
                }
            }
        }
    }

    /// The next frame of the response's body; at the end the connection goes home.
    pub(crate) fn poll_frame(
        this: &mut Option<Box<Self>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(exchange) = this else { return Poll::Ready(None) };
        // A request that broke off is a response that cannot be trusted to end.
        if exchange.sender.is_some() && exchange.body_error(cx).is_some() {
            *this = None;
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        loop {
            let limit = exchange.header_bytes_max;
            let failed = match exchange.response.step(&mut exchange.reader.buffer, limit) {
                Ok(Step::Data(data)) => {
                    if exchange.response.is_done() {
                        Self::finish(this); // before the last frame is used: the next can begin
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Step::Trailers(fields)) => {
                    Self::finish(this); // they are the end, and whoever sees them may stop
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Step::End) => {
                    Self::finish(this);
                    return Poll::Ready(None);
                }
                Ok(Step::NeedMore) => match ready!(exchange.poll_fill(cx)) {
                    Ok(1..) => continue,
                    Ok(0) if exchange.response == Decoder::UntilClose => {
                        *this = None;
                        return Poll::Ready(None);
                    }
                    Ok(0) | Err(_) => BodyError::Closed,
                },
                Err(error) => error,
            };
            *this = None;
            return Poll::Ready(Some(Err(failed)));
        }
    }

    /// Ends the exchange: the connection goes home if another one can follow. A request that is
    /// not sent to its end by now is not sent further.
    pub(crate) fn finish(this: &mut Option<Box<Self>>) {
        let Some(mut exchange) = this.take() else { return };
        let sent = {
            let sending = exchange.sending.borrow();
            sending.request.is_none() && !sending.failed && sending.writer.is_empty()
        };
        let clean = sent
            && exchange.keep_alive
            && exchange.response.is_done()
            && exchange.reader.buffer.is_empty();
        if clean && let Some(home) = exchange.home.take() {
            exchange.sender = None;
            exchange.reader.rest();
            exchange.interims = 0;
            exchange.idle_since = Instant::now();
            exchange.served = exchange.served.saturating_add(1);
            home.take_back(exchange);
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.response.is_done()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.response.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The raw connection behind a 101, or behind a successful CONNECT.
    pub(crate) fn into_upgrade(mut self) -> Upgrade {
        let (promise, upgrade) = Promise::new();
        let io = std::mem::replace(&mut self.sending.borrow_mut().io, closed_io());
        promise.keep(UpgradedIo::new(io, std::mem::take(&mut self.reader.buffer).freeze()));
        upgrade
    }
}

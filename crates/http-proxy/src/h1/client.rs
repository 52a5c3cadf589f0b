//! The client's side of an HTTP/1.1 connection. An exchange belongs to whoever polls it: first for
//! the response head, then, inside the response's body, for its frames; the request's body moves
//! along with either.

use super::decode::{Decoder, Step};
use super::encode::{Encoder, request_head};
use super::head;
use super::wire::{BoxIo, Reader, Writer, closed_io};
use crate::body::Body;
use crate::error::{BodyError, SendError};
use crate::upgrade::{Promise, Upgrade, UpgradedIo};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
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
    io: BoxIo,
    reader: Reader,
    writer: Writer,
    header_bytes_max: usize,
    method: Method,
    /// The request's body while it is being sent.
    request: Option<Body>,
    encoder: Encoder,
    /// Sending has failed; the peer may have answered all the same.
    send_failed: bool,
    response: Decoder,
    seen: usize,
    interims: usize,
    keep_alive: bool,
    home: Option<Rc<dyn Home>>,
    /// When it came back the last time.
    pub(crate) idle_since: Instant,
}

impl Exchange {
    /// A new connection.
    pub(crate) fn new(io: BoxIo, header_bytes_max: usize) -> Box<Self> {
        Box::new(Exchange {
            io,
            reader: Reader { fleeting: true, ..Reader::default() },
            writer: Writer::default(),
            header_bytes_max,
            method: Method::GET,
            request: None,
            encoder: Encoder::Nothing,
            send_failed: false,
            response: Decoder::Done,
            seen: 0,
            interims: 0,
            keep_alive: false,
            home: None,
            idle_since: Instant::now(),
        })
    }

    /// Is a kept connection still quiet? One that was closed, or on which the peer speaks
    /// unasked, cannot be used again.
    pub(crate) fn is_quiet(&mut self, cx: &mut Context<'_>) -> bool {
        self.reader.poll_fill(&mut *self.io, cx).is_pending()
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
        self.writer.touched = false;
        self.encoder = request_head(
            &mut self.writer,
            &request.method,
            target,
            &request.headers,
            more,
            &body.size_hint(),
        );
        self.method = request.method.clone();
        self.request = (self.encoder != Encoder::Nothing).then_some(body);
        self.home = Some(home);
    }

    /// Moves the request along. Its own body's failure is the only error: what the socket does
    /// not take may have been answered already.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        loop {
            while let Some(body) = &mut self.request
                && self.writer.has_room()
                && !self.send_failed
            {
                let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { break };
                match frame.transpose()?.map(Frame::into_data) {
                    Some(Ok(data)) => self.encoder.data(data, &mut self.writer)?,
                    Some(Err(frame)) => {
                        self.request = None;
                        self.encoder.end(frame.trailers_ref(), &mut self.writer)?;
                    }
                    None => {
                        self.request = None;
                        self.encoder.end(None, &mut self.writer)?;
                    }
                }
            }
            if self.send_failed {
                return Poll::Ready(Ok(()));
            }
            let full = !self.writer.has_room();
            match self.writer.poll_flush(&mut *self.io, cx) {
                Poll::Ready(Ok(())) if self.request.is_none() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if full => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => {
                    self.send_failed = true;
                    self.keep_alive = false;
                    self.request = None;
                    self.writer.abandon();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// The response head.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(StatusCode, HeaderMap), SendError>> {
        if let Poll::Ready(Err(error)) = self.poll_request(cx) {
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
                    self.response = head.body;
                    self.keep_alive = head.keep_alive && !self.send_failed;
                    return Poll::Ready(Ok((head.status, head.headers)));
                }
            } else if buffer.len() >= self.header_bytes_max {
                return Poll::Ready(Err(SendError::Protocol("the response head is too large")));
            }
            self.seen = self.reader.buffer.len();
            match ready!(self.reader.poll_fill(&mut *self.io, cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) if self.seen > 0 || self.interims > 0 => {
                    return Poll::Ready(Err(SendError::Protocol("a response head without an end")));
                }
                Ok(0) | Err(_) => {
                    let sent = self.writer.touched;
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
        // Errors of the request's body do not matter to the response; its rest is not sent.
        let sending = match exchange.poll_request(cx) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => {
                *this = None;
                return Poll::Ready(Some(Err(BodyError::Closed)));
            }
            Poll::Pending => true,
        };
        loop {
            let limit = exchange.header_bytes_max;
            let failed = match exchange.response.step(&mut exchange.reader.buffer, limit) {
                Ok(Step::Data(data)) => {
                    if exchange.response.is_done() && !sending {
                        Self::finish(this); // before the last frame is used: the next can begin
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Step::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Step::End) => {
                    Self::finish(this);
                    return Poll::Ready(None);
                }
                Ok(Step::NeedMore) => {
                    match ready!(exchange.reader.poll_fill(&mut *exchange.io, cx)) {
                        Ok(1..) => continue,
                        Ok(0) if exchange.response == Decoder::UntilClose => {
                            *this = None;
                            return Poll::Ready(None);
                        }
                        Ok(0) | Err(_) => BodyError::Closed,
                    }
                }
                Err(error) => error,
            };
            *this = None;
            return Poll::Ready(Some(Err(failed)));
        }
    }

    /// Ends the exchange: the connection goes home if another one can follow.
    pub(crate) fn finish(this: &mut Option<Box<Self>>) {
        let Some(mut exchange) = this.take() else { return };
        let clean = exchange.keep_alive
            && exchange.response.is_done()
            && exchange.request.is_none()
            && exchange.writer.is_empty()
            && exchange.reader.buffer.is_empty();
        if clean && let Some(home) = exchange.home.take() {
            exchange.reader.rest();
            exchange.interims = 0;
            exchange.idle_since = Instant::now();
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
    pub(crate) fn into_upgrade(mut self: Box<Self>) -> Upgrade {
        let (promise, upgrade) = Promise::new();
        let io = std::mem::replace(&mut self.io, closed_io());
        promise.keep(UpgradedIo::new(io, std::mem::take(&mut self.reader.buffer).freeze()));
        upgrade
    }
}

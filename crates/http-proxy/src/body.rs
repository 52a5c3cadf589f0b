//! Message bodies: frames of data, then perhaps trailers, with backpressure.

use crate::error::BodyError;
use crate::h1::{Exchange, RequestBody};
use crate::h2::{self, OneRunning};
use crate::upgrade::Upgrade;
use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A body to send. Cheap for the common cases; anything else is boxed.
#[derive(Default)]
pub struct Body {
    kind: Kind,
    /// Kept until the body ends: what counts the exchange as running.
    running: Option<OneRunning>,
    /// See [`Body::until`].
    limit: Option<Limit>,
}

/// What HTTP/2 gets of a whole body at once: as long as there is more, it is known whether the client
/// takes it.
const PIECE_MAX: usize = 64 * 1024;

/// Resolves when an exchange must end.
pub(crate) type Limit = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Boxed(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>),
}

impl From<Kind> for Body {
    fn from(kind: Kind) -> Self {
        Body { kind, running: None, limit: None }
    }
}

impl Body {
    /// No body at all.
    pub const fn empty() -> Self {
        Body { kind: Kind::Empty, running: None, limit: None }
    }

    /// A body that is known whole; it can be sent again by a retry.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Body::empty() } else { Kind::Full(bytes).into() }
    }

    /// Any other body.
    pub fn boxed(body: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Kind::Boxed(Box::pin(body)).into()
    }

    /// A response body whose exchange ends when `limit` resolves, even while a client that takes
    /// nothing keeps the body from being polled. The body is dropped then, without its end.
    pub fn until(mut self, limit: impl Future<Output = ()> + 'static) -> Self {
        self.limit = Some(Box::pin(limit));
        self
    }

    pub(crate) fn limit(&mut self) -> &mut Option<Limit> {
        &mut self.limit
    }

    /// Counts as running until the body has ended or is dropped.
    pub(crate) fn counted(mut self, running: OneRunning) -> Body {
        self.running = Some(running);
        self
    }

    /// A copy, where the body is known whole: what a retry needs.
    pub fn replay(&self) -> Option<Body> {
        match &self.kind {
            Kind::Empty => Some(Body::empty()),
            Kind::Full(bytes) => Some(Kind::Full(bytes.clone()).into()),
            Kind::Incoming(incoming) if incoming.is_empty() => Some(Body::empty()),
            Kind::Incoming(_) | Kind::Boxed(_) => None,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.kind {
            Kind::Empty => "Body::empty",
            Kind::Full(_) => "Body::full",
            Kind::Incoming(_) => "Body::incoming",
            Kind::Boxed(_) => "Body::boxed",
        })
    }
}

impl From<Incoming> for Body {
    fn from(incoming: Incoming) -> Self {
        Kind::Incoming(incoming).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(running) = &mut self.running {
            running.asked();
        }
        let pieces = self.running.is_some();
        let frame = match &mut self.kind {
            Kind::Empty => None,
            Kind::Full(bytes) if pieces && bytes.len() > PIECE_MAX => {
                Some(Ok(Frame::data(bytes.split_to(PIECE_MAX))))
            }
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Incoming(incoming) => ready!(Pin::new(incoming).poll_frame(cx)),
            Kind::Boxed(body) => ready!(body.as_mut().poll_frame(cx)),
        };
        match &mut self.running {
            Some(running) if frame.is_some() => running.given(),
            running => *running = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Incoming(incoming) => incoming.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Incoming(incoming) => incoming.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

/// A body that arrives: of a request at a [`crate::Handler`], or of a response from a
/// [`crate::Pool`]. Dropping it before its end cancels the exchange.
pub struct Incoming {
    inner: Inner,
    upgrade: Option<Upgrade>,
    /// Kept until the body ends.
    running: Option<OneRunning>,
}

enum Inner {
    Empty,
    Hyper(hyper::body::Incoming),
    /// Of an HTTP/2 request to the server.
    Stream(h2::RequestBody),
    /// Read from the server connection itself.
    Request(RequestBody),
    /// Owns the client connection until the end; none after it.
    Response(Option<Box<Exchange>>),
}

impl Incoming {
    /// A body without a byte.
    pub fn empty() -> Self {
        Incoming::of(Inner::Empty)
    }

    pub(crate) fn hyper(body: hyper::body::Incoming) -> Self {
        Incoming::of(Inner::Hyper(body))
    }

    pub(crate) fn stream(body: h2::RequestBody) -> Self {
        Incoming::of(Inner::Stream(body))
    }

    pub(crate) fn request(body: RequestBody) -> Self {
        Incoming::of(Inner::Request(body))
    }

    pub(crate) fn response(exchange: Box<Exchange>) -> Self {
        let mut exchange = Some(exchange);
        if exchange.as_ref().is_some_and(|exchange| exchange.is_done()) {
            Exchange::finish(&mut exchange); // no body: the connection is free at once
        }
        Incoming::of(Inner::Response(exchange))
    }

    fn of(inner: Inner) -> Self {
        Incoming { inner, upgrade: None, running: None }
    }

    pub(crate) fn with_upgrade(mut self, upgrade: Option<Upgrade>) -> Self {
        self.upgrade = upgrade;
        self
    }

    pub(crate) fn counted(mut self, running: OneRunning) -> Self {
        self.running = Some(running);
        self
    }

    /// The raw connection behind the message, once the exchange has ended with
    /// 101 Switching Protocols: of a request that asks for an upgrade, or of a 101 response.
    pub fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.upgrade.take()
    }

    /// The whole body, if it is at most `bytes_max` long; trailers are dropped.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] beyond `bytes_max`, else what broke the body.
    pub async fn collect(mut self, bytes_max: usize) -> Result<Bytes, BodyError> {
        if !self.is_empty() && http_body::Body::size_hint(&self).lower() > bytes_max as u64 {
            return Err(BodyError::TooLarge);
        }
        let mut whole = Bytes::new();
        let mut more = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if whole.len() + more.len() + data.len() > bytes_max {
                return Err(BodyError::TooLarge);
            }
            if whole.is_empty() {
                whole = data; // most bodies are one frame: not copied
            } else {
                more.extend_from_slice(&data);
            }
        }
        if more.is_empty() {
            return Ok(whole);
        }
        Ok([&whole[..], &more[..]].concat().into())
    }

    /// The next frame; none at the end.
    pub async fn frame(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(self), cx)).await
    }

    fn is_empty(&self) -> bool {
        http_body::Body::is_end_stream(self)
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Incoming")
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match &mut self.inner {
            Inner::Empty => None,
            Inner::Hyper(body) => ready!(h2::poll_frame(body, cx)),
            Inner::Stream(body) => ready!(body.poll_frame(cx)),
            Inner::Request(body) => ready!(body.poll_frame(cx)),
            Inner::Response(exchange) => ready!(Exchange::poll_frame(exchange, cx)),
        };
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.inner = Inner::Empty, // an error is told once
            None => self.running = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty => true,
            Inner::Hyper(body) => body.is_end_stream(),
            Inner::Stream(body) => body.is_end_stream(),
            Inner::Request(body) => body.is_end_stream(),
            Inner::Response(exchange) => {
                exchange.as_ref().is_none_or(|exchange| exchange.is_done())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Hyper(body) => body.size_hint(),
            Inner::Stream(body) => body.size_hint(),
            Inner::Request(body) => body.size_hint(),
            Inner::Response(Some(exchange)) => exchange.size_hint(),
            Inner::Response(None) => SizeHint::with_exact(0),
        }
    }
}

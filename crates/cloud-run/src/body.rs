//! Bodies on their way through: counted, bounded, ended by the request's deadline.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_proxy::{BodyError, Incoming};
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

/// The largest request over HTTP/1, and the largest response with `Content-Length` (1.3).
pub const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What a request body turned out to be; read while and after it is sent.
#[derive(Debug, Default)]
pub struct Received {
    /// Bytes so far.
    pub bytes: Cell<u64>,
    /// It went over its bound.
    pub too_large: Cell<bool>,
}

/// A request body, counted and bounded.
pub struct RequestBody {
    inner: Incoming,
    received: Rc<Received>,
    bytes_max: u64,
}

impl RequestBody {
    /// At most `bytes_max` bytes are passed on.
    pub fn new(inner: Incoming, received: Rc<Received>, bytes_max: u64) -> Self {
        RequestBody { inner, received, bytes_max }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            let bytes = self.received.bytes.get() + data.len() as u64;
            self.received.bytes.set(bytes);
            if bytes > self.bytes_max {
                self.received.too_large.set(true);
                return Poll::Ready(Some(Err(BodyError::TooLarge)));
            }
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

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last byte.
    Complete,
    /// The container broke it off.
    Broken,
    /// The deadline came first.
    TimedOut,
    /// The client went away.
    Abandoned,
}

/// What happens when a response body ends, whichever way; gets the body back where there may be
/// more of it.
pub trait OnEnd: 'static {
    /// Called once.
    fn ended(self, end: End, bytes: u64, rest: Option<Incoming>);
}

/// A response body that ends with its deadline, and tells of its end.
pub struct ResponseBody<F: OnEnd> {
    inner: Option<Incoming>,
    deadline: Pin<Box<Sleep>>,
    bytes: u64,
    on_end: Option<F>,
}

impl<F: OnEnd> ResponseBody<F> {
    /// Cuts `inner` at `deadline`.
    pub fn new(inner: Incoming, deadline: Instant, on_end: F) -> Self {
        let deadline = Box::pin(tokio::time::sleep_until(deadline));
        ResponseBody { inner: Some(inner), deadline, bytes: 0, on_end: Some(on_end) }
    }

    fn end(&mut self, end: End, rest: Option<Incoming>) {
        if let Some(on_end) = self.on_end.take() {
            on_end.ended(end, self.bytes, rest);
        }
    }
}

impl<F: OnEnd + Unpin> Body for ResponseBody<F> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(frame) => frame,
            // The timer is asked only while the container is silent.
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(cx));
                let rest = self.inner.take();
                self.end(End::TimedOut, rest);
                return Poll::Ready(Some(Err(BodyError::Timeout)));
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.deadline.deadline() <= Instant::now() {
                    let rest = self.inner.take();
                    self.end(End::TimedOut, rest);
                    return Poll::Ready(Some(Err(BodyError::Timeout)));
                }
                if self.inner.as_ref().is_some_and(Body::is_end_stream) {
                    self.inner = None;
                    self.end(End::Complete, None);
                }
            }
            None => {
                self.inner = None;
                self.end(End::Complete, None);
            }
            Some(Err(_)) => {
                self.inner = None;
                self.end(End::Broken, None);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<F: OnEnd> Drop for ResponseBody<F> {
    fn drop(&mut self) {
        // A body without a byte is never polled: it is complete as it is.
        match self.inner.take() {
            None => self.end(End::Complete, None),
            Some(rest) if rest.is_end_stream() => self.end(End::Complete, None),
            // Dropped at its deadline by whoever could not send it, or by a client that left.
            Some(rest) if self.deadline.deadline() <= Instant::now() => {
                self.end(End::TimedOut, Some(rest));
            }
            Some(rest) => self.end(End::Abandoned, Some(rest)),
        }
    }
}

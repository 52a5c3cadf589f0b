//! The half of a server connection that its request bodies share with the connection's own task:
//! socket, buffers, and where in the request's body reading stands.

use super::decode::{Decoder, Step};
use super::wire::{BoxIo, Reader, Writer};
use crate::error::BodyError;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use tokio::time::Instant;

/// One connection of one thread. The connection's task and the body of its current request take
/// turns; neither holds the borrow across a poll of the other.
pub(crate) struct Shared {
    pub(super) io: BoxIo,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// What is still to be read of the current request.
    pub(super) body: Decoder,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) expect_continue: bool,
    /// Reading has failed, or the stream has ended.
    pub(super) read_closed: bool,
    /// Since when the body waits for the client's next byte.
    pub(super) stalled: Option<Instant>,
    /// The connection's task, while a body is read by another one.
    pub(super) watcher: Option<Waker>,
    /// Counts requests, so that a body that outlives its exchange reads nobody else's bytes.
    pub(super) exchange: u64,
    pub(super) trailer_bytes_max: usize,
}

impl Shared {
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.writer.poll_flush(&mut *self.io, cx)
    }

    /// Reads once; the end of the stream and errors are remembered.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.read_closed {
            return Poll::Ready(false);
        }
        let more = matches!(ready!(self.reader.poll_fill(&mut *self.io, cx)), Ok(1..));
        self.read_closed = !more;
        Poll::Ready(more)
    }

    /// From the end of the body on the connection's task watches the socket.
    fn tell_watcher(&mut self) {
        self.watcher.take().inspect(Waker::wake_by_ref);
    }

    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.body.step(&mut self.reader.buffer, self.trailer_bytes_max) {
                Ok(Step::Data(data)) => {
                    self.expect_continue = false; // it comes without being asked for
                    if self.body.is_done() {
                        self.tell_watcher();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Step::Trailers(fields)) => {
                    self.tell_watcher();
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Step::End) => {
                    self.tell_watcher();
                    return Poll::Ready(None);
                }
                Ok(Step::NeedMore) => {}
                Err(error) => {
                    // What follows a malformed body is nobody's request.
                    self.read_closed = true;
                    return Poll::Ready(Some(Err(error)));
                }
            }
            if self.expect_continue {
                self.expect_continue = false;
                self.writer.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
                    self.read_closed = true;
                }
            }
            match self.poll_fill(cx) {
                Poll::Ready(true) => self.stalled = None,
                Poll::Ready(false) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Poll::Pending => {
                    self.stalled.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The body of one request, read straight from the connection when it is polled: nothing is
/// buffered beyond one read, so backpressure reaches the client's socket.
pub(crate) struct RequestBody {
    shared: Rc<RefCell<Shared>>,
    exchange: u64,
}

impl RequestBody {
    pub(super) fn new(shared: &Rc<RefCell<Shared>>) -> Self {
        RequestBody { exchange: shared.borrow().exchange, shared: shared.clone() }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = self.shared.borrow_mut();
        if shared.exchange != self.exchange {
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        shared.poll_body(cx)
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        let shared = self.shared.borrow();
        shared.exchange == self.exchange && shared.body.is_done()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let shared = self.shared.borrow();
        match shared.body.remaining() {
            Some(length) if shared.exchange == self.exchange => SizeHint::with_exact(length),
            _ => SizeHint::default(),
        }
    }
}

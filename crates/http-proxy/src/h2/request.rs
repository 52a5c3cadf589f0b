//! The body of a request to the server, and what becomes of a part that nobody reads.
//!
//! A stream whose response has ended while its request has not is reset (RFC 9113 8.1). Clients
//! that are still sending then take the reset for the answer, and do not see the response in front
//! of it. So the rest of the request is read away for a moment first, as HTTP/1.1's is.

use crate::error::BodyError;
use crate::server::{LINGER, LINGER_MAX};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, timeout};

/// A request body that is discarded in order where it is dropped before its end.
pub(crate) struct RequestBody {
    /// None while it is being dropped.
    body: Option<Incoming>,
    unread: Rc<Unread>,
    stall: Stall,
}

/// How long the client may hold back its body, unless it takes the response meanwhile.
struct Stall {
    timeout: Duration,
    since: Option<Instant>,
    /// How far the response was then.
    response: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// Ready when nothing has moved for too long. The timer is changed only when it has run down.
    fn poll(&mut self, response: u64, cx: &mut Context<'_>) -> Poll<()> {
        if self.response != response {
            (self.since, self.response) = (None, response);
        }
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.timeout;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// What the handler left of a request body, until the response has ended.
#[derive(Default)]
pub(crate) struct Unread {
    rest: RefCell<Option<Incoming>>,
    answered: Cell<bool>,
    /// Counts the pieces of the response.
    response: Cell<u64>,
}

impl RequestBody {
    /// A client that sends nothing for `timeout`, and takes nothing either, is not waited for.
    pub(crate) fn new(body: Incoming, timeout: Duration) -> Self {
        let stall = Stall { timeout, since: None, response: 0, sleep: None };
        RequestBody { body: Some(body), unread: Rc::default(), stall }
    }

    /// The place where an unread rest waits for the end of the response.
    pub(crate) fn unread(&self) -> Rc<Unread> {
        self.unread.clone()
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = super::poll_frame(body, cx);
        if frame.is_ready() {
            self.stall.since = None;
            return frame;
        }
        ready!(self.stall.poll(self.unread.response.get(), cx));
        Poll::Ready(Some(Err(BodyError::Timeout)))
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(rest) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if self.unread.answered.get() {
            discard(rest);
        } else {
            self.unread.rest.replace(Some(rest));
        }
    }
}

impl Unread {
    /// A piece of the response began or was taken.
    pub(crate) fn response_moved(&self) {
        self.response.set(self.response.get().wrapping_add(1));
    }

    /// The response has ended, or never will.
    pub(crate) fn answered(&self) {
        self.answered.set(true);
        if let Some(rest) = self.rest.take() {
            discard(rest);
        }
    }
}

/// Reads what comes, for as long as a closing HTTP/1.1 connection would.
fn discard(mut rest: Incoming) {
    tokio::task::spawn_local(async move {
        let emptied = async {
            loop {
                let next = poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx));
                if !matches!(timeout(LINGER, next).await, Ok(Some(Ok(_)))) {
                    return;
                }
            }
        };
        let _ = timeout(LINGER_MAX, emptied).await;
    });
}

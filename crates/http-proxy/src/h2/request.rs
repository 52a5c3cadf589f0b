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
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::time::timeout;

/// A request body that is discarded in order where it is dropped before its end.
pub(crate) struct RequestBody {
    /// None while it is being dropped.
    body: Option<Incoming>,
    unread: Rc<Unread>,
}

/// What the handler left of a request body, until the response has ended.
#[derive(Default)]
pub(crate) struct Unread {
    rest: RefCell<Option<Incoming>>,
    answered: Cell<bool>,
}

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        RequestBody { body: Some(body), unread: Rc::default() }
    }

    /// The place where an unread rest waits for the end of the response.
    pub(crate) fn unread(&self) -> Rc<Unread> {
        self.unread.clone()
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.body {
            Some(body) => super::poll_frame(body, cx),
            None => Poll::Ready(None),
        }
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

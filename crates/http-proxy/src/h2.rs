//! HTTP/2 over hyper, in the shape that handlers and pools see.

mod client;
mod request;
mod server;
mod websocket;

pub(crate) use client::{Client, Sender};
pub(crate) use request::RequestBody;
pub(crate) use server::serve;

use crate::error::BodyError;
use crate::headers::clean_trailers;
use bytes::Bytes;
use http_body::Frame;
use request::Unread;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Spawns on the local set.
#[derive(Clone)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Counts what runs on a connection, and since when nothing does.
#[derive(Default)]
pub(crate) struct Running {
    count: std::cell::Cell<usize>,
    idle_since: std::cell::Cell<Option<tokio::time::Instant>>,
    /// Responses of which the peer has taken the last piece not yet.
    blocked: std::cell::Cell<usize>,
    /// Counts the pieces of responses that began or were taken.
    moved: std::cell::Cell<u64>,
}

impl Running {
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// If there are responses that the peer should take: how far it has come with them.
    pub(crate) fn waits_for_peer(&self) -> Option<u64> {
        (self.blocked.get() > 0).then(|| self.moved.get())
    }

    /// None while something runs.
    pub(crate) fn idle_since(&self) -> Option<tokio::time::Instant> {
        self.idle_since.get()
    }
}

/// One exchange that runs.
pub(crate) struct OneRunning {
    running: Rc<Running>,
    /// The request's body, where it may outlive the response.
    unread: Option<Rc<Unread>>,
    blocked: bool,
}

impl OneRunning {
    pub(crate) fn new(running: &Rc<Running>) -> Self {
        running.count.set(running.count.get() + 1);
        running.idle_since.set(None);
        OneRunning { running: running.clone(), unread: None, blocked: false }
    }

    /// The response's next piece is asked for: the one before has been taken.
    pub(crate) fn asked(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.running.blocked.set(self.running.blocked.get() - 1);
            self.count_move();
        }
    }

    /// A piece of the response is on its way.
    pub(crate) fn given(&mut self) {
        if !std::mem::replace(&mut self.blocked, true) {
            self.running.blocked.set(self.running.blocked.get() + 1);
            self.count_move();
        }
    }

    fn count_move(&self) {
        self.running.moved.set(self.running.moved.get().wrapping_add(1));
        if let Some(unread) = &self.unread {
            unread.response_moved();
        }
    }
}

impl Drop for OneRunning {
    fn drop(&mut self) {
        self.asked();
        let rest = self.running.count.get() - 1;
        self.running.count.set(rest);
        if rest == 0 {
            self.running.idle_since.set(Some(tokio::time::Instant::now()));
        }
        if let Some(unread) = self.unread.take() {
            unread.answered();
        }
    }
}

/// The next frame, its trailers as clean as those of HTTP/1.1 are.
pub(crate) fn poll_frame(
    body: &mut hyper::body::Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    loop {
        let mut frame = match ready!(http_body::Body::poll_frame(Pin::new(&mut *body), cx)) {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Closed))),
            Some(Ok(frame)) => frame,
        };
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers);
            if trailers.is_empty() {
                continue;
            }
        }
        return Poll::Ready(Some(Ok(frame)));
    }
}

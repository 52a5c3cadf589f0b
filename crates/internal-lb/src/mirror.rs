//! `requestMirrorPolicy`: a copy of a request for another backend service (private-connectivity
//! 2.6). Nobody waits for it, and its answer is thrown away.

use crate::InternalLb;
use crate::bodies::Piece;
use crate::compile::Snapshot;
use crate::headers::Fields;
use crate::trace::Mirrored;
use crate::upstream;
use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http_body::{Frame, SizeHint};
use http_proxy::{Body, BodyError};
use metrics::Counter;
use runtime::Worker;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Copies under way on one thread; more are not made.
const MIRRORS_MAX: usize = 256;
/// A copy that is behind the request by so much is given up: the request never waits for it.
const BEHIND_BYTES_MAX: usize = 1024 * 1024;

/// The copies of one thread.
pub struct Mirrors {
    running: Rc<Cell<usize>>,
    sent: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Default for Mirrors {
    fn default() -> Self {
        let counter =
            |outcome| metrics::counter!("postern_mirrored_requests_total", "outcome" => outcome);
        Mirrors {
            running: Rc::default(),
            sent: counter("answered"),
            dropped: counter("dropped"),
            failed: counter("failed"),
        }
    }
}

/// A request to be copied.
pub struct Original<'a> {
    /// As it goes to its own backend.
    pub parts: &'a Parts,
    /// The load balancer's fields, which are not in `parts`.
    pub own: &'a Fields,
    /// Has it no body?
    pub bodiless: bool,
    /// The client.
    pub client: Ipv4Addr,
    /// The request's random number.
    pub roll: u64,
    /// Its trace and span, where it is sampled.
    pub span: Option<(u128, u64)>,
}

/// Sends a copy of a request to a backend service, a place in the snapshot. What is returned takes
/// the request's body as it passes, where there is one.
pub fn start(
    worker: &Rc<Worker<InternalLb>>,
    snapshot: &Arc<Snapshot>,
    service: usize,
    timeout: Duration,
    original: &Original<'_>,
) -> Option<Tee> {
    let mirrors = &worker.local.mirrors;
    if mirrors.running.get() >= MIRRORS_MAX {
        mirrors.dropped.increment(1);
        return None;
    }
    let mut parts = original.parts.clone();
    if let Some(host) = parts.headers.get(HOST).and_then(shadow) {
        parts.headers.insert(HOST, host);
    }
    let own: Box<Fields> = original.own.into();
    let ids = &worker.local.ids;
    let span = original.span.map(|span| Mirrored::begin(span, ids, &mut parts.headers));
    let mut asking = snapshot.backends.ask(service, original.client, &parts.headers, original.roll);
    let Ok(choice) = snapshot.backends.pick(&mut asking) else {
        mirrors.failed.increment(1);
        return None;
    };
    let queue = (!original.bodiless).then(Rc::<RefCell<Queue>>::default);
    let body = match &queue {
        Some(queue) => Body::boxed(Copied(queue.clone())),
        None => Body::empty(),
    };
    let running = Running::new(&mirrors.running);
    let (worker, snapshot) = (worker.clone(), snapshot.clone());
    tokio::task::spawn_local(async move {
        let _running = running;
        let exchange = async {
            let sent = upstream::to_endpoint(&worker, &choice, &parts, &own, body).await;
            let mut body = sent.ok()?.into_body();
            // Read to its end, so that the connection can be used again.
            while let Some(frame) = body.frame().await {
                frame.ok()?;
            }
            Some(())
        };
        let answered = tokio::time::timeout(timeout, exchange).await.ok().flatten().is_some();
        let mirrors = &worker.local.mirrors;
        let counter = if answered { &mirrors.sent } else { &mirrors.failed };
        counter.increment(1);
        if let (Some(span), Some(tracing)) = (span, &worker.program.tracing) {
            let service = snapshot.services.get(service).map_or("", |it| it.link.as_str());
            span.finish(tracing, service, answered);
        }
    });
    queue.map(Tee)
}

/// "The Host gets the suffix `-shadow`" (2.6): before the port, as Envoy does it.
fn shadow(host: &HeaderValue) -> Option<HeaderValue> {
    let host = host.to_str().ok()?;
    let text = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{name}-shadow:{port}")
        }
        _ => format!("{host}-shadow"),
    };
    HeaderValue::try_from(text).ok()
}

/// Counts a copy for as long as it is under way.
struct Running(Rc<Cell<usize>>);

impl Running {
    fn new(count: &Rc<Cell<usize>>) -> Running {
        count.set(count.get() + 1);
        Running(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What has passed and not been taken by the copy.
#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    bytes: usize,
    ended: bool,
    broken: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The writing end of a copied body; dropped before the end, it breaks the copy.
pub struct Tee(Rc<RefCell<Queue>>);

impl Tee {
    /// Something passed.
    pub fn push(&self, piece: Piece) {
        let mut queue = self.0.borrow_mut();
        // The copy may be gone already.
        if queue.broken || Rc::strong_count(&self.0) == 1 {
            return;
        }
        queue.bytes += piece.bytes();
        if queue.bytes > BEHIND_BYTES_MAX {
            queue.broken = true;
            queue.pieces.clear();
        } else {
            queue.pieces.push_back(piece);
        }
        queue.wake();
    }

    /// That was all.
    pub fn end(self) {
        self.0.borrow_mut().ended = true;
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        queue.broken |= !queue.ended;
        queue.wake();
    }
}

/// The reading end.
struct Copied(Rc<RefCell<Queue>>);

impl http_body::Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut queue = self.0.borrow_mut();
        if queue.broken {
            return Poll::Ready(Some(Err(BodyError::Cancelled("the original went ahead"))));
        }
        match queue.pieces.pop_front() {
            Some(piece) => {
                queue.bytes -= piece.bytes();
                Poll::Ready(Some(Ok(piece.into_frame())))
            }
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::new()
    }
}

//! The bodies on their way: counted, kept for another try, copied for a mirror, cut at the deadline.

use crate::backends::Choice;
use crate::clock::Clock;
use crate::mirror::Tee;
use crate::record::Record;
use crate::respond::{self, Failure};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_proxy::{Body, BodyError, Incoming};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A larger request body is not sent again: Envoy's default buffer ((unconfirmed) for Google).
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// A frame that can be had twice.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Data.
    Data(Bytes),
    /// Trailers.
    Trailers(HeaderMap),
}

impl Piece {
    /// A copy of a frame.
    pub fn of(frame: &Frame<Bytes>) -> Option<Piece> {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Some(Piece::Data(data.clone())),
            (None, Some(trailers)) => Some(Piece::Trailers(trailers.clone())),
            (None, None) => None,
        }
    }

    /// What it takes.
    pub fn bytes(&self) -> usize {
        match self {
            Piece::Data(data) => data.len(),
            Piece::Trailers(trailers) => {
                trailers.iter().map(|(n, v)| n.as_str().len() + v.len()).sum()
            }
        }
    }

    /// As a frame.
    pub fn into_frame(self) -> Frame<Bytes> {
        match self {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

/// A request body, counted; its end starts the clock.
pub struct RequestBody {
    /// As it comes from the client.
    pub inner: Incoming,
    /// Its size so far.
    pub bytes: Rc<Cell<u64>>,
    /// The request's.
    pub clock: Rc<Clock>,
    /// Where a copy goes.
    pub tee: Option<Tee>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.clock.held_up(false);
            return Poll::Pending;
        };
        self.clock.held_up(true);
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.bytes.set(self.bytes.get() + length);
            if let (Some(tee), Some(piece)) = (&self.tee, Piece::of(frame)) {
                tee.push(piece);
            }
        }
        if frame.is_none() || self.inner.is_end_stream() {
            self.clock.begin();
            if let Some(tee) = self.tee.take() {
                tee.end();
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

impl Drop for RequestBody {
    /// Not sent to its end: the backend answered without it, or is gone.
    fn drop(&mut self) {
        self.clock.begin();
    }
}

/// A request body that can be sent again from its beginning, as long as it is not too large.
pub struct Kept {
    source: RefCell<RequestBody>,
    passed: RefCell<Vec<Piece>>,
    bytes: Cell<usize>,
    /// Is what passes still kept?
    keeps: Cell<bool>,
    ended: Cell<bool>,
    /// The number of the try whose body it is.
    turn: Cell<u32>,
}

impl Kept {
    /// Nothing has passed yet.
    pub fn new(source: RequestBody) -> Rc<Kept> {
        Rc::new(Kept {
            source: RefCell::new(source),
            passed: RefCell::default(),
            bytes: Cell::new(0),
            keeps: Cell::new(true),
            ended: Cell::new(false),
            turn: Cell::new(0),
        })
    }

    /// The body for the next try; that of the one before ends. None: it cannot be had again.
    pub fn next_try(self: &Rc<Self>) -> Option<Body> {
        if !self.keeps.get() {
            return None;
        }
        self.turn.set(self.turn.get() + 1);
        Some(Body::boxed(Replay { kept: self.clone(), turn: self.turn.get(), next: 0 }))
    }

    /// Can there be another try?
    pub fn may_pass_again(&self) -> bool {
        self.keeps.get()
    }

    /// There is no further try.
    pub fn release(&self) {
        self.keeps.set(false);
    }

    fn keep(&self, frame: &Frame<Bytes>) {
        let Some(piece) = Piece::of(frame) else { return };
        let bytes = self.bytes.get() + piece.bytes();
        self.bytes.set(bytes);
        let mut passed = self.passed.borrow_mut();
        if bytes > KEPT_BYTES_MAX {
            self.keeps.set(false);
            passed.clear();
        } else {
            passed.push(piece);
        }
    }
}

struct Replay {
    kept: Rc<Kept>,
    turn: u32,
    next: usize,
}

impl http_body::Body for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let kept = self.kept.clone();
        if kept.turn.get() != self.turn {
            return Poll::Ready(Some(Err(BodyError::Cancelled("the request is sent again"))));
        }
        let passed = kept.passed.borrow().get(self.next).cloned();
        if let Some(piece) = passed {
            self.next += 1;
            return Poll::Ready(Some(Ok(piece.into_frame())));
        }
        if kept.ended.get() {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut *kept.source.borrow_mut()).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if kept.keeps.get() => {
                kept.keep(frame);
                self.next = kept.passed.borrow().len();
            }
            Some(Ok(_)) => {}
            Some(Err(_)) => kept.keeps.set(false),
            None => kept.ended.set(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.kept.passed.borrow().len() && self.kept.source.borrow().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let again: usize = self.kept.passed.borrow().iter().skip(self.next).map(Piece::bytes).sum();
        let rest = self.kept.source.borrow().size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + again as u64);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + again as u64);
        }
        hint
    }
}

/// A response body, counted and cut at the deadline. Its end, whichever, writes the record.
pub struct ResponseBody {
    /// None once it has ended; with the endpoint, where there is one, which is busy until then.
    pub inner: Option<(Incoming, Option<Choice>)>,
    /// The request's.
    pub clock: Rc<Clock>,
    /// HTTP status.
    pub status: u16,
    /// Its size so far.
    pub bytes: u64,
    /// None once it is written.
    pub record: Option<Record>,
}

impl ResponseBody {
    fn end(&mut self, broken: Option<&Failure>) {
        self.inner = None;
        if let Some(record) = self.record.take() {
            record.answered(self.status, self.bytes, broken);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((inner, _)) = &mut self.inner else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            ready!(self.clock.poll(cx));
            self.end(Some(&respond::timed_out()));
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        };
        match &frame {
            Some(Ok(frame)) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.inner.as_ref().is_some_and(|(inner, _)| inner.is_end_stream()) {
                    self.end(None);
                }
            }
            None => self.end(None),
            Some(Err(_)) => {
                self.end(Some(&respond::broken_off()));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|(inner, _)| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), |(inner, _)| inner.size_hint())
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body without a byte is not polled: it is complete as it is.
        if self.is_end_stream() {
            self.end(None);
        } else if self.clock.is_over() {
            self.end(Some(&respond::timed_out()));
        } else if let Some(record) = self.record.take() {
            record.abandoned(self.status, self.bytes);
        }
    }
}

//! The client's side of an HTTP/2 connection.

use super::{LocalExecutor, OneRunning, Running};
use crate::body::{Body, Incoming};
use crate::error::{BodyError, SendError};
use crate::flush::DelayedFlush;
use crate::h1::BoxIo;
use crate::headers::strip_hop_by_hop;
use http::header::{CONTENT_LENGTH, HOST, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Request, Response, Uri};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// Windows large enough for one loopback round trip; what is not read yet is held in them.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const HEADER_LIST_MAX: u32 = 60 * 1024;
/// A peer that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// A connection.
pub(crate) struct Client {
    sender: SendRequest<Body>,
    running: Rc<Running>,
    /// The peer's own limit of streams.
    streams_max: Rc<Cell<usize>>,
    /// Requests that it was asked to send.
    pub(crate) served: Cell<u32>,
}

/// The right to send one request.
pub(crate) struct Sender {
    sender: SendRequest<Body>,
    running: OneRunning,
}

impl Client {
    /// Begins HTTP/2 with prior knowledge.
    pub(crate) async fn connect(io: BoxIo) -> Result<Self, SendError> {
        let (sender, connection) = Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST_MAX)
            .keep_alive_interval(PING_INTERVAL)
            .handshake(TokioIo::new(DelayedFlush::new(io)))
            .await
            .map_err(|_| SendError::Closed { sent: false })?;
        let streams_max = Rc::new(Cell::new(connection.current_max_send_streams()));
        let told = streams_max.clone();
        let mut connection = Box::pin(connection);
        tokio::task::spawn_local(async move {
            // How it ends is told to each exchange; there is nobody else to tell.
            let _ = poll_fn(|cx| {
                let ended = connection.as_mut().poll(cx);
                told.set(connection.current_max_send_streams());
                ended
            })
            .await;
        });
        Ok(Client { sender, running: Rc::default(), streams_max, served: Cell::new(0) })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.count()
    }

    /// None while a request runs or none has run yet.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.running.idle_since()
    }

    /// Is there room for one more, by our limit and the peer's?
    pub(crate) fn has_room(&self, most: usize) -> bool {
        self.running.count() < most.min(self.streams_max.get())
    }

    pub(crate) fn sender(&self) -> Sender {
        self.served.set(self.served.get().saturating_add(1));
        Sender { sender: self.sender.clone(), running: OneRunning::new(&self.running) }
    }
}

impl Sender {
    /// Sends a request; on failure also its body, if none of it has left.
    pub(crate) async fn send(
        mut self,
        mut parts: Parts,
        scheme: &Scheme,
        body: Body,
    ) -> Result<Response<Incoming>, (SendError, Option<Body>)> {
        let Some(uri) = absolute_form(&parts, scheme) else {
            return Err((SendError::Protocol("the request has no authority"), None));
        };
        parts.uri = uri;
        parts.version = http::Version::HTTP_2;
        parts.headers.remove(HOST);
        parts.headers.remove(UPGRADE);
        if body.replay().is_none() {
            // hyper takes the length from the body where it is known; a wrong one resets the stream.
            parts.headers.remove(CONTENT_LENGTH);
        }
        let sent = self.sender.try_send_request(Request::from_parts(parts, body)).await;
        match sent {
            Ok(response) => {
                let mut response = response.map(|body| Incoming::hyper(body).counted(self.running));
                strip_hop_by_hop(response.headers_mut());
                Ok(response)
            }
            Err(mut error) => {
                let unsent = error.take_message().map(Request::into_body);
                Err((judge(error.error(), unsent.is_some()), unsent))
            }
        }
    }
}

/// `:scheme`, `:authority` and `:path` as one URI; CONNECT has the authority only.
fn absolute_form(parts: &Parts, scheme: &Scheme) -> Option<Uri> {
    if parts.method == Method::CONNECT {
        return Some(parts.uri.clone());
    }
    let host = parts.headers.get(HOST).map(|host| host.as_bytes());
    let authority = match host {
        Some(host) => Authority::try_from(host).ok()?,
        None => parts.uri.authority()?.clone(),
    };
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme.clone());
    uri.authority = Some(authority);
    uri.path_and_query = Some(
        parts
            .uri
            .path_and_query()
            .cloned()
            .unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
    );
    Uri::from_parts(uri).ok()
}

fn judge(error: &hyper::Error, unsent: bool) -> SendError {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(body) = cause.downcast_ref::<BodyError>() {
            return SendError::Body(body.clone());
        }
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            // RFC 9113 8.7: refused streams, and those after GOAWAY's last one, were not processed.
            let refused = h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            if h2.is_library() || h2.reason() == Some(h2::Reason::PROTOCOL_ERROR) && !h2.is_remote()
            {
                return SendError::Protocol("malformed HTTP/2");
            }
            return SendError::Closed { sent: !(refused || unsent) };
        }
        source = cause.source();
    }
    SendError::Closed { sent: !unsent && !error.is_canceled() }
}

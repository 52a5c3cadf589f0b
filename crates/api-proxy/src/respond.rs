//! From the flow's answer to a response, whose end ends the exchange.

use crate::exchange::{Answer, Exchange};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_proxy::headers::strip_hop_by_hop;
use http_proxy::{Body, BodyError, Incoming, ReasonPhrase, Upgrade, bridge_upgrade};
use policy_bundle::{Content, Fault, Message};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The answer to a request that no proxy takes.
pub fn refusal(mut exchange: Exchange, method: &Method, fault: Fault) -> Response<Body> {
    let message = fault.to_message();
    exchange.record.refused(&fault);
    response(exchange, method, Answer::of(message))
}

/// The response; the exchange ends with its last byte.
pub fn response(exchange: Exchange, method: &Method, answer: Answer) -> Response<Body> {
    let Answer { message, body, upgraded, io_timeout } = answer;
    let Message { status, reason, mut headers, content, .. } = message;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let inner = match (content, body) {
        (_, Some(body)) => Inner::Incoming(body),
        (Content::Bytes(bytes), None) => Inner::Whole(bytes),
        _ => Inner::Whole(Bytes::new()),
    };
    if status == StatusCode::SWITCHING_PROTOCOLS {
        let Some((client, target)) = upgraded else {
            // The target switched protocols without being asked.
            return response(
                exchange,
                method,
                Answer::of(Fault::unexpected_eof_at_target().to_message()),
            );
        };
        tokio::task::spawn_local(bridge(exchange, client, target, io_timeout));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        return response;
    }
    strip_hop_by_hop(&mut headers);
    // The length follows the payload; only where there is none may the header tell it.
    if *method != Method::HEAD && status != StatusCode::NOT_MODIFIED {
        headers.remove(CONTENT_LENGTH);
    }
    let body = ResponseBody { inner, exchange, io_timeout, sleep: None, waits: false };
    let mut response = Response::new(Body::boxed(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    let own = reason.filter(|reason| Some(reason.as_str()) != status.canonical_reason());
    if let Some(Ok(reason)) = own.map(|reason| HeaderValue::from_str(&reason)) {
        response.extensions_mut().insert(ReasonPhrase(reason));
    }
    response
}

/// Carries a switched protocol both ways; it ends when nothing moves for `io.timeout` (9.4).
async fn bridge(exchange: Exchange, client: Upgrade, target: Upgrade, idle: Duration) {
    let bridged = bridge_upgrade(client, target, idle).await;
    let record = &exchange.record;
    record.received(bridged.sent);
    record.response_bytes.set(bridged.received);
    drop(exchange);
}

enum Inner {
    Whole(Bytes),
    Incoming(Incoming),
}

/// A payload on its way to the client, counted; the exchange ends with it.
struct ResponseBody {
    inner: Inner,
    exchange: Exchange,
    io_timeout: Duration,
    /// Runs while the target is silent.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Is the target awaited?
    waits: bool,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let body = match &mut this.inner {
            Inner::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Inner::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                this.exchange.record.sent(bytes.len());
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Inner::Incoming(body) => body,
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                let limit = this.io_timeout;
                let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
                // Only the target's silence counts, not the time the client takes to read.
                if !std::mem::replace(&mut this.waits, true) {
                    sleep.as_mut().reset(Instant::now() + limit);
                }
                match sleep.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        this.exchange.record.broke("the target fell silent within its answer");
                        Poll::Ready(Some(Err(BodyError::Timeout)))
                    }
                }
            }
            Poll::Ready(frame) => {
                this.waits = false;
                match frame {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            this.exchange.record.sent(data.len());
                            Poll::Ready(Some(Ok(Frame::data(data))))
                        }
                        // Trailers are not kept (9.4, unconfirmed).
                        Err(_) => Poll::Ready(None),
                    },
                    Some(Err(error)) => {
                        this.exchange.record.broke("the target's answer broke off");
                        Poll::Ready(Some(Err(error)))
                    }
                    None => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Incoming(body) => body.size_hint(),
        }
    }
}

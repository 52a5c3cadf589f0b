//! gRPC without generated code: every message goes back as it came.
//!
//! ```proto
//! syntax = "proto3";
//! package echo;
//! message Payload { bytes payload = 1; }
//! service Echo {
//!   rpc Echo(Payload) returns (Payload);
//!   rpc EchoStream(stream Payload) returns (stream Payload);
//! }
//! ```

use crate::body::{Body, empty};
use crate::instance::Instance;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// As gRPC's own default.
const MESSAGE_LENGTH_MAX: usize = 4 << 20;
/// Compressed flag and length.
const PREFIX_LENGTH: usize = 5;

/// Status codes of gRPC.
const OK: u8 = 0;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;

/// Is this a gRPC request?
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    match kind.and_then(|kind| kind.strip_prefix(b"application/grpc")) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";"),
        None => false,
    }
}

/// The answer to a gRPC request.
pub(crate) async fn answer(path: &str, body: Incoming, instance: &Instance) -> Response<Body> {
    let unary = match path {
        _ if path.ends_with("/echo.Echo/Echo") => true,
        _ if path.ends_with("/echo.Echo/EchoStream") => false,
        _ => {
            let mut response = Response::new(empty());
            response.headers_mut().extend(status(UNIMPLEMENTED, "no such method"));
            return with_metadata(response, instance).await;
        }
    };
    let messages = Messages { body, buffer: BytesMut::new(), unary, count: 0, finished: false };
    with_metadata(Response::new(messages.boxed_unsync()), instance).await
}

async fn with_metadata(mut response: Response<Body>, instance: &Instance) -> Response<Body> {
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let pairs =
        [("x-echo-revision", &*instance.revision), ("x-echo-instance", instance.id().await)];
    for (name, value) in pairs {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    response
}

fn status(code: u8, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if !message.is_empty() {
        trailers.insert("grpc-message", HeaderValue::from_static(message));
    }
    trailers
}

/// The request's messages, each one back as soon as it is complete, and a status at the end.
struct Messages {
    body: Incoming,
    buffer: BytesMut,
    unary: bool,
    count: u64,
    finished: bool,
}

impl Messages {
    /// The next complete message with its prefix; an error is the call's status.
    fn next(&mut self) -> Result<Option<Bytes>, (u8, &'static str)> {
        let Some((prefix, rest)) = self.buffer.split_at_checked(PREFIX_LENGTH) else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            return Err((UNIMPLEMENTED, "compressed messages are not supported"));
        }
        let length = (&prefix[1..]).get_u32() as usize;
        if length > MESSAGE_LENGTH_MAX {
            return Err((RESOURCE_EXHAUSTED, "the message is longer than 4 MiB"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.count += 1;
        if self.unary && self.count > 1 {
            return Err((INTERNAL, "a unary call has one message"));
        }
        Ok(Some(self.buffer.split_to(PREFIX_LENGTH + length).freeze()))
    }

    fn finish(&mut self, code: u8, message: &'static str) -> Frame<Bytes> {
        self.finished = true;
        Frame::trailers(status(code, message))
    }
}

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(None);
        }
        loop {
            match this.next() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err((code, message)) => return Poll::Ready(Some(Ok(this.finish(code, message)))),
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        this.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => {
                    this.finished = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    let end = match (this.buffer.is_empty(), this.unary && this.count == 0) {
                        (false, _) => this.finish(INTERNAL, "the last message is cut short"),
                        (true, true) => this.finish(INTERNAL, "a unary call has one message"),
                        (true, false) => this.finish(OK, ""),
                    };
                    return Poll::Ready(Some(Ok(end)));
                }
            }
        }
    }
}

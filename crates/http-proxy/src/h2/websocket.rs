//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT in the shape of HTTP/1.1's upgrade, so that
//! handlers and HTTP/1.1 upstreams see one kind of WebSocket.

use super::OneRunning;
use crate::error::HeadError;
use crate::upgrade::{Promise, UpgradedIo};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::hash::{BuildHasher, RandomState};

/// A client's WebSocket before it is accepted.
pub(crate) struct Pending {
    stream: OnUpgrade,
    promise: Promise,
}

/// Turns an extended CONNECT into the GET that asks for an upgrade; `None` for every other request.
/// The key, which only HTTP/1.1 has, is made up: it needs to differ, not to be secret.
///
/// # Errors
/// For a protocol other than `websocket`, and for a body that is none.
pub(crate) fn accept(
    request: &mut Request<hyper::body::Incoming>,
) -> Result<Option<(Pending, crate::Upgrade)>, HeadError> {
    let Some(protocol) = request.extensions().get::<Protocol>() else { return Ok(None) };
    if *request.method() != Method::CONNECT {
        return Err(HeadError::Malformed(":protocol without CONNECT"));
    }
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return Err(HeadError::Malformed("an extended CONNECT for something else than WebSocket"));
    }
    let stream = hyper::upgrade::on(&mut *request);
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    let random = RandomState::new();
    let (high, low) = (random.hash_one(0u8), random.hash_one(1u8));
    let key = STANDARD.encode([high.to_be_bytes(), low.to_be_bytes()].concat());
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    let (promise, upgrade) = Promise::new();
    Ok(Some((Pending { stream, promise }, upgrade)))
}

/// The fields that only HTTP/1.1's handshake has.
const OF_HTTP1: [HeaderName; 3] = [SEC_WEBSOCKET_ACCEPT, UPGRADE, CONNECTION];

impl Pending {
    /// 101 becomes 200, and the stream is given over when that has been sent. `one` counts it as
    /// running until whoever uses it lets go.
    pub(crate) fn switch<B: Default>(self, response: Response<B>, one: OneRunning) -> Response<B> {
        let (mut parts, _) = response.into_parts();
        parts.status = StatusCode::OK;
        for name in OF_HTTP1 {
            parts.headers.remove(name);
        }
        tokio::task::spawn_local(async move {
            let Ok(stream) = self.stream.await else { return };
            let (io, lessor) = UpgradedIo::leased(Box::new(TokioIo::new(stream)), Bytes::new());
            self.promise.keep(io);
            lessor.ended().await;
            drop(one);
        });
        Response::from_parts(parts, B::default())
    }
}

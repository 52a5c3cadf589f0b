//! WebSockets (RFC 6455): texts and binaries go back as they came.

use crate::body::{Body, empty, full};
use crate::serve::Busy;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

/// Longer messages end the connection with 1009.
const MESSAGE_LENGTH_MAX: usize = 4 << 20;

/// Does the client ask for a WebSocket?
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name: header::HeaderName, word: &str| {
        let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// Accepts the upgrade and echoes until either side closes or the program drains.
pub(crate) fn answer<B>(mut request: http::Request<B>, busy: Busy) -> Response<Body> {
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let (Some(key), true, true) =
        (key, version.is_some_and(|version| version == "13"), request.method() == Method::GET)
    else {
        let mut response = Response::new(full("a WebSocket needs GET, version 13 and a key\n"));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    };
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(stream) = upgrade.await {
            echo(stream, busy).await;
        }
    });
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn echo(stream: hyper::upgrade::Upgraded, mut busy: Busy) {
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_LENGTH_MAX));
    let io = TokioIo::new(stream);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = busy.draining() => {
                let away = CloseFrame { code: CloseCode::Away, reason: "draining".into() };
                if socket.close(Some(away)).await.is_ok() {
                    while let Some(Ok(_)) = socket.next().await {}
                }
                return;
            }
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // Pings are answered and closes are completed inside the library.
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return,
        }
    }
}

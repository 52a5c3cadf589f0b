//! The corpus of HTTP/2 requests before the proxy, and what HTTP/1.1 becomes towards HTTP/2.

use super::h2_cases::{Case, Fate, cases};
use super::h2_wire::{Outcome, through_the_proxy};
use super::record::{Forwarder, find, joined};
use super::support::run;
use bytes::Bytes;
use http_proxy::{ServerOptions, Version, serve};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NEXT_SENT: &[u8] = b"GET /next HTTP/1.1\r\nhost: n\r\n\r\n";

#[test]
fn each_request_has_the_fate_of_its_row() {
    run(async {
        let mut wrong = Vec::new();
        for Case { name, frames, fate } in cases() {
            let (first, next, recorded) = through_the_proxy(&frames).await;
            let bytes = joined(&recorded.bytes);
            let alone = bytes == NEXT_SENT && next == Outcome::Status(200);
            let good = match &fate {
                Fate::Sent(form) => {
                    let status = if form.starts_with(b"CONNECT") { 405 } else { 200 };
                    first == Outcome::Status(status)
                        && next == Outcome::Status(200)
                        && bytes == [form, NEXT_SENT].concat()
                }
                Fate::Refused(status) => first == Outcome::Status(*status) && alone,
                Fate::Reset => first == Outcome::Reset && alone,
                // The stream is reset when the first bytes may have been sent already.
                Fate::Cut(form) => {
                    let before = bytes.strip_suffix(NEXT_SENT);
                    first == Outcome::Reset
                        && recorded.messages.iter().all(|message| message.target == "/next")
                        && before.is_some_and(|before| form.starts_with(before))
                }
                Fate::Gone => first == Outcome::Gone && recorded.bytes.is_empty(),
            };
            if !good {
                let bytes = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
                wrong.push(format!("{name}: {first:?} {next:?} {bytes:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// A backend that speaks HTTP/2 and writes down fields, data and trailers.
async fn h2_recorder() -> (std::net::SocketAddr, Rc<RefCell<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let recorded: Rc<RefCell<String>> = Rc::default();
    let all = recorded.clone();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let all = all.clone();
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(stream).await.expect("a handshake");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let all = all.clone();
                    tokio::task::spawn_local(async move {
                        let text = tell(request).await;
                        all.borrow_mut().push_str(&text);
                        let _ = respond.send_response(http::Response::new(()), true);
                    });
                }
            });
        }
    });
    (address, recorded)
}

async fn tell(request: http::Request<h2::RecvStream>) -> String {
    let (parts, mut body) = request.into_parts();
    let uri = &parts.uri;
    let mut text = format!(
        "{} {} {} {}",
        parts.method,
        uri.scheme_str().unwrap_or("-"),
        uri.authority().map_or("-", |authority| authority.as_str()),
        uri.path_and_query().map_or("-", |path| path.as_str()),
    );
    for (name, value) in &parts.headers {
        text.push_str(&format!(" {name}={}", String::from_utf8_lossy(value.as_bytes())));
    }
    let mut data = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        data.extend_from_slice(&piece);
    }
    text.push_str(&format!(" [{}]", String::from_utf8_lossy(&data)));
    for (name, value) in body.trailers().await.ok().flatten().iter().flatten() {
        text.push_str(&format!(" {name}={}", String::from_utf8_lossy(value.as_bytes())));
    }
    text + "\n"
}

#[test]
fn http_1_becomes_http_2_in_one_form() {
    run(async {
        for (wire, told) in [
            ("GET /p?q HTTP/1.1\r\nHost: A:80\r\nX-A: 1\r\n\r\n", "GET http A:80 /p?q x-a=1 []"),
            ("GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n", "GET http b /c []"),
            ("GET http://b?c HTTP/1.1\r\nHost: a\r\n\r\n", "GET http b /?c []"),
            ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS http a * content-length=0 []"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
                "POST http a / content-length=5 [hello]",
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\nHost: b\r\n\r\n",
                "POST http a / [hello] x=y",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a\r\nX-A: 1\r\nKeep-Alive: 5\r\nProxy-Connection: close\r\nTE: trailers, gzip\r\n\r\n",
                "GET http a / te=trailers []",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n",
                "GET http a / []",
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=b; c=d\r\n\r\n",
                "GET http a / cookie=a=b; c=d []",
            ),
            ("GET / HTTP/1.1\r\nHost: a\r\n:path: /b\r\n\r\n", ""),
            ("GET / HTTP/1.1\r\nHost: a\r\n:authority: b\r\n\r\n", ""),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", ""),
        ] {
            let (to, recorded) = h2_recorder().await;
            let (near, far) = tokio::io::duplex(64 * 1024);
            let handler = Forwarder::new(to, Version::H2);
            let server = tokio::task::spawn_local(async move {
                let options = ServerOptions::default();
                let never = std::future::pending();
                serve(far, Bytes::new(), Rc::default(), handler, &options, never).await;
            });
            let (mut reader, mut writer) = tokio::io::split(near);
            writer.write_all(wire.as_bytes()).await.expect("write");
            let mut answer = Vec::new();
            while find(&answer, b"\r\n\r\n").is_none()
                && matches!(reader.read_buf(&mut answer).await, Ok(1..))
            {}
            server.abort();
            let found = recorded.take();
            assert_eq!(found.trim_end(), told, "{wire:?}");
            assert_eq!(answer.starts_with(b"HTTP/1.1 200"), !told.is_empty(), "{wire:?}");
        }
    });
}

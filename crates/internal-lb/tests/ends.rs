//! How exchanges end that do not end well, and the load balancer's own answers
//! (private-connectivity 2.8).

mod common;

use common::support::{self, Raw, run};
use common::*;
use http::{Request, Response};
use http_proxy::{Body, BodyError, Incoming, Pool, PoolOptions, ServerOptions, Version};
use slice::load_balancer::*;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;

fn one(route: Route) -> InternalLbSlice {
    slice(
        &[("a", route)],
        vec![service("a", Protocol::Http, "a")],
        vec![group("a", &[declared(1)])],
    )
}

/// Tells its drop.
struct Dropped(Rc<Notify>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// A body that begins, never goes on, and tells its end.
struct Stuck(bool, #[allow(dead_code, reason = "held for its end")] Dropped);

impl http_body::Body for Stuck {
    type Data = bytes::Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, BodyError>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(http_body::Frame::data("begun".into()))))
    }
}

#[test]
fn a_client_that_leaves_ends_the_request_at_the_backend_too() {
    run(async {
        let (asked, left) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (tell, end) = (asked.clone(), left.clone());
        let backend =
            support::server(ServerOptions::default(), move |request: Request<Incoming>| {
                let (tell, end) = (tell.clone(), Dropped(end.clone()));
                async move {
                    tell.notify_one();
                    if request.uri().path() == "/never" {
                        let _end = end;
                        std::future::pending::<()>().await;
                        unreachable!()
                    }
                    if request.uri().path() == "/half" {
                        let body = request.into_body().collect(100).await;
                        assert!(body.is_err(), "a whole body: {body:?}");
                        return Response::default();
                    }
                    Response::new(Body::boxed(Stuck(false, end)))
                }
            })
            .await;
        for (n, protocol) in [Protocol::Http, Protocol::H2c].into_iter().enumerate() {
            let mut slice = one(to("a"));
            slice.load_balancing.backend_services[0].protocol = protocol;
            let started = start(&format!("leaves-{n}"), slice, &[(1, backend.address)]);
            let at = address(&started);
            // Before the answer.
            let mut client = Raw::connect(at).await;
            client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
            asked.notified().await;
            drop(client);
            left.notified().await;
            // In the middle of the answer.
            let mut client = Raw::connect(at).await;
            client.send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n").await;
            asked.notified().await;
            let mut begun = Vec::new();
            while !begun.ends_with(b"begun\r\n") {
                tokio::io::AsyncReadExt::read_buf(&mut client.stream, &mut begun)
                    .await
                    .expect("it");
            }
            drop(client);
            left.notified().await;
            // In the middle of the request.
            let mut client = Raw::connect(at).await;
            client.send("PUT /half HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
            asked.notified().await;
            drop(client);
            left.notified().await;
        }
    });
}

/// A backend that reads a head and answers with these bytes, then closes.
async fn saying(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("an address");
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let bytes = bytes.clone();
            tokio::task::spawn_local(async move {
                let mut read = Vec::new();
                while !read.windows(4).any(|end| end == b"\r\n\r\n") {
                    if tokio::io::AsyncReadExt::read_buf(&mut stream, &mut read).await.unwrap_or(0)
                        == 0
                    {
                        return;
                    }
                }
                let _ = stream.write_all(&bytes).await;
            });
        }
    });
    address
}

#[test]
fn what_a_backend_does_wrong_has_its_own_answer() {
    run(async {
        let begin = "upstream connect error or disconnect/reset before headers. ";
        let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70 * 1024));
        for (n, (said, status, body)) in [
            (&b""[..], "503", "reset reason: connection termination"),
            (b"nonsense\r\n\r\n", "502", "reset reason: protocol error"),
            (
                b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
                "502",
                "reset reason: protocol error",
            ),
            (long.as_bytes(), "502", "reset reason: protocol error"),
        ]
        .into_iter()
        .enumerate()
        {
            let backend = saying(said.to_vec()).await;
            let started = start(&format!("wrong-{n}"), one(to("a")), &[(1, backend)]);
            let mut client = Raw::connect(address(&started)).await;
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
            let answer = client.answer().await;
            assert_eq!(
                (answer.status(), answer.text()),
                (status, &*format!("{begin}{body}")),
                "{n}"
            );
            assert!(answer.has("content-type: text/plain"), "{}", answer.head);
            // The connection of the client is as good as before.
            client.send("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert_eq!(client.answer().await.status(), "302");
        }
    });
}

#[test]
fn heads_that_are_too_large_or_malformed_are_answered_and_the_connection_ends() {
    run(async {
        let started = start("heads", one(to("a")), &[]);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(61 * 1024));
        for (sent, status) in [(&*long, "431"), ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400")] {
            let mut client = Raw::connect(address(&started)).await;
            client.try_send(sent.as_bytes()).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), status);
            assert!(answer.has("connection: close"), "{}", answer.head);
            client.end().await;
        }
    });
}

#[test]
fn grpc_clients_are_answered_in_their_own_way_whatever_is_wrong() {
    run(async {
        let closing = saying(Vec::new()).await;
        let abort = RouteAction {
            fault_injection_policy: Some(FaultInjectionPolicy {
                delay: None,
                abort: Some(FaultAbort { http_status: 401, percentage: 100.0 }),
            }),
            ..RouteAction::default()
        };
        let slice = slice(
            &[
                ("a", to("a")),
                ("abort", Route { action: Some(Box::new(abort)), ..to("a") }),
                ("empty", to("empty")),
            ],
            ["a", "empty"].map(|name| service(name, Protocol::Http, name)).to_vec(),
            vec![group("a", &[declared(1)]), group("empty", &[])],
        );
        let (chain, key) = certificate(&["a"]);
        let slice = over_tls(slice, &[(chain.clone(), key)]);
        let started = start("grpc-own", slice, &[(1, closing)]);
        let at = address(&started);
        let pool = Pool::new(PoolOptions::default());
        for (host, status, message) in [
            (
                "a",
                "14",
                "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            ),
            ("abort", "16", "fault filter abort"),
            ("empty", "14", "no healthy upstream"),
        ] {
            let trust = http_proxy::tls::client_config(&chain, &["h2"]).expect("a configuration");
            let dial = || async move {
                let stream = tokio::net::TcpStream::connect(at).await?;
                http_proxy::tls::connect(trust, "a", stream).await
            };
            let request = Request::builder()
                .method("POST")
                .uri("/s.S/M")
                .header("host", host)
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(Body::full("\0\0\0\0\0"))
                .expect("a request");
            let response = pool.send(&(), Version::H2, dial, request).await.expect("a response");
            assert_eq!(response.status(), 200, "{host}");
            assert_eq!(response.headers()["grpc-status"], status, "{host}");
            assert_eq!(response.headers()["grpc-message"], message, "{host}");
        }
        tokio::task::spawn_blocking(move || drop(started)).await.expect("a clean end");
    });
}

//! A proxy made of the server and the pool, between versions.

mod support;

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_proxy::{
    Body, Incoming, Pool, PoolOptions, ServerOptions, Version, bridge_upgrade, headers,
};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use support::{Raw, Server, echo, run, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

type Answered = std::pin::Pin<Box<dyn Future<Output = Response<Body>>>>;

/// Forwards everything to `to`.
async fn proxy(to: SocketAddr, version: Version) -> Server<impl Fn(Request<Incoming>) -> Answered> {
    let pool = Rc::new(Pool::new(PoolOptions::default()));
    server(ServerOptions::default(), move |mut request| {
        let pool = pool.clone();
        let answered: Answered = Box::pin(async move {
            let upgrade = headers::strip_hop_by_hop(request.headers_mut());
            let client = request.body_mut().take_upgrade();
            if let (Some(protocol), Some(_)) = (upgrade, &client) {
                request.headers_mut().insert(UPGRADE, protocol);
            }
            let sent =
                pool.send(&to, version, || TcpStream::connect(to), request.map(Body::from)).await;
            match sent {
                Ok(mut response) => {
                    if let (Some(client), Some(upstream)) =
                        (client, response.body_mut().take_upgrade())
                    {
                        tokio::task::spawn_local(bridge_upgrade(
                            client,
                            upstream,
                            Duration::from_secs(5),
                        ));
                    }
                    response.map(Body::from)
                }
                Err(error) => {
                    let mut response = Response::new(Body::full(error.to_string()));
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    response
                }
            }
        });
        answered
    })
    .await
}

#[test]
fn every_version_reaches_every_version() {
    run(async {
        let backend = server(ServerOptions::default(), echo).await;
        let client = Pool::new(PoolOptions::default());
        for upstream in [Version::H1, Version::H2] {
            let proxy = proxy(backend.address, upstream).await;
            for downstream in [Version::H1, Version::H2] {
                for (method, path, body, expected) in [
                    (Method::GET, "/a?b", "", "GET /a?b example.com:8443"),
                    (Method::POST, "/", "x", "POST / example.com:8443 data=x"),
                    (Method::DELETE, "//d/../e", "", "DELETE //d/../e example.com:8443"),
                ] {
                    let request = Request::builder()
                        .method(method)
                        .uri(path)
                        .header("host", "example.com:8443")
                        .body(Body::full(body))
                        .expect("a request");
                    let key = (proxy.address, downstream);
                    let response = client
                        .send(&key, downstream, || TcpStream::connect(proxy.address), request)
                        .await
                        .expect("a response");
                    assert_eq!(response.status(), 200, "{downstream:?} {upstream:?}");
                    let text = response.into_body().collect(1000).await.expect("a body");
                    assert_eq!(text, expected, "{downstream:?} {upstream:?}");
                }
            }
        }
    });
}

#[test]
fn head_and_large_bodies_pass_between_versions() {
    run(async {
        let backend = server(ServerOptions::default(), async |_| {
            Response::new(Body::full(vec![b'x'; 3_000_000]))
        })
        .await;
        let client = Pool::new(PoolOptions::default());
        for upstream in [Version::H1, Version::H2] {
            let proxy = proxy(backend.address, upstream).await;
            for downstream in [Version::H1, Version::H2] {
                for (method, length) in
                    [(Method::HEAD, 0), (Method::GET, 3_000_000), (Method::HEAD, 0)]
                {
                    let request = Request::builder()
                        .method(method)
                        .uri("/")
                        .header("host", "h")
                        .body(Body::empty())
                        .expect("a request");
                    let key = (proxy.address, downstream);
                    let response = client
                        .send(&key, downstream, || TcpStream::connect(proxy.address), request)
                        .await
                        .expect("a response");
                    assert_eq!(
                        response.headers()["content-length"],
                        "3000000",
                        "{downstream:?} {upstream:?}"
                    );
                    let body = response.into_body().collect(4_000_000).await.expect("a body");
                    assert_eq!(body.len(), length, "{downstream:?} {upstream:?}");
                }
            }
        }
    });
}

/// Answers an upgrade to `echo` by sending everything back.
async fn upgrading(mut request: Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let Some(upgrade) = request.body_mut().take_upgrade() else {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    assert_eq!(request.headers()[UPGRADE], "echo");
    assert_eq!(request.headers()[CONNECTION], "upgrade");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
    tokio::task::spawn_local(async move {
        let mut io = upgrade.io().await.expect("the connection");
        let mut piece = [0; 1000];
        loop {
            let n = io.read(&mut piece).await.expect("read");
            if n == 0 {
                io.write_all(b"bye").await.expect("write");
                io.shutdown().await.expect("shutdown");
                return;
            }
            io.write_all(&piece[..n]).await.expect("write");
        }
    });
    response
}

#[test]
fn an_upgrade_is_bridged_with_early_bytes_and_half_close() {
    run(async {
        let backend = server(ServerOptions::default(), upgrading).await;
        let proxy = proxy(backend.address, Version::H1).await;
        let mut client = Raw::connect(proxy.address).await;
        // The first bytes of the new protocol come together with the request.
        client
            .send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
            .await;
        let answer = client.answer().await;
        assert!(
            answer.status() == "101"
                && answer.has("upgrade: echo")
                && answer.has("connection: upgrade")
        );
        while client.buffer != b"early" {
            client.stream.read_buf(&mut client.buffer).await.expect("read");
        }
        client.send("more").await;
        client.stream.shutdown().await.expect("shutdown");
        assert_eq!(client.end().await, b"earlymorebye");
        // Without an upgrade header the request is an ordinary one, and the connection stays.
        let mut client = Raw::connect(proxy.address).await;
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert_eq!(client.answer().await.status(), "426");
        }
    });
}

#[test]
fn an_upgraded_connection_is_served_until_it_ends_and_ends_after_a_drain() {
    run(async {
        let backend = server(ServerOptions::default(), upgrading).await;
        for drained in [false, true] {
            let (backend_address, options) = (
                backend.address,
                ServerOptions {
                    upgraded_grace: Duration::from_millis(50),
                    ..ServerOptions::default()
                },
            );
            let pool = Rc::new(Pool::new(PoolOptions::default()));
            let proxy = server(options, move |mut request: Request<Incoming>| {
                let pool = pool.clone();
                async move {
                    let client = request.body_mut().take_upgrade().expect("an upgrade");
                    headers::strip_hop_by_hop(request.headers_mut());
                    request.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
                    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
                    let dial = || tokio::net::TcpStream::connect(backend_address);
                    let request = request.map(Body::from);
                    let mut response =
                        pool.send(&(), Version::H1, dial, request).await.expect("a response");
                    let target = response.body_mut().take_upgrade().expect("an upgrade");
                    let hour = Duration::from_secs(3600);
                    tokio::task::spawn_local(bridge_upgrade(client, target, hour));
                    response.map(|_| Body::empty())
                }
            })
            .await;
            let mut client = Raw::connect(proxy.address).await;
            client
                .send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                .await;
            assert_eq!(client.answer().await.status(), "101");
            client.send("x").await;
            while client.buffer != b"x" {
                client.stream.read_buf(&mut client.buffer).await.expect("read");
            }
            assert_eq!(*proxy.accepted.borrow(), (1, 0));
            if drained {
                proxy.drain.notify_waiters();
                assert_eq!(client.end().await, b"x");
            } else {
                client.stream.shutdown().await.expect("shutdown");
                assert_eq!(client.end().await, b"xbye");
            }
            while proxy.accepted.borrow().1 == 0 {
                proxy.ended.notified().await;
            }
        }
    });
}

#[test]
fn connect_opens_a_tunnel() {
    run(async {
        let server = server(ServerOptions::default(), async |mut request: Request<Incoming>| {
            assert_eq!(request.uri().authority().map(|to| to.as_str()), Some("10.0.0.5:443"));
            let upgrade = request.body_mut().take_upgrade().expect("CONNECT upgrades");
            tokio::task::spawn_local(async move {
                let mut io = upgrade.io().await.expect("the connection");
                io.write_all(b"hello").await.expect("write");
                io.shutdown().await.expect("shutdown");
            });
            Response::new(Body::empty())
        })
        .await;
        let mut client = Raw::connect(server.address).await;
        client.send("CONNECT 10.0.0.5:443 HTTP/1.1\r\nHost: 10.0.0.5:443\r\n\r\n").await;
        assert_eq!(client.answer_to("HEAD").await.head, "HTTP/1.1 200 OK");
        assert_eq!(client.end().await, b"hello");
    });
}

#[test]
fn a_dead_upstream_is_the_handlers_to_tell() {
    run(async {
        let backend = server(ServerOptions::default(), echo).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let nobody = listener.local_addr().expect("address");
        drop(listener);
        let proxy = proxy(nobody, Version::H1).await;
        let mut client = Raw::connect(proxy.address).await;
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), "503");
        assert_eq!(backend.accepted.borrow().0, 0);
    });
}

#[test]
fn a_client_that_leaves_after_its_upload_cancels_the_upstream() {
    run(async {
        struct Tell(Rc<tokio::sync::Notify>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        for version in [Version::H1, Version::H2] {
            let (entered, left) =
                (Rc::new(tokio::sync::Notify::new()), Rc::new(tokio::sync::Notify::new()));
            let backend = server(ServerOptions::default(), {
                let (entered, left) = (entered.clone(), left.clone());
                move |request: Request<Incoming>| {
                    let (entered, left) = (entered.clone(), left.clone());
                    async move {
                        let _tell = Tell(left);
                        request.into_body().collect(1 << 20).await.expect("a body");
                        entered.notify_one();
                        std::future::pending().await
                    }
                }
            })
            .await;
            let proxy = proxy(backend.address, version).await;
            let mut client = Raw::connect(proxy.address).await;
            client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.send("cd").await; // read by another task than the connection's own
            entered.notified().await;
            drop(client);
            left.notified().await;
        }
    });
}

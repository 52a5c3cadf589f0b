//! HTTP/2 and TLS with foreign clients: hyper's HTTP/2 client, h2 alone, rustls.

mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_proxy::tls::{
    CertifiedPem, ServerConfig, SniPeek, TlsError, accept, client_config, client_hello_sni,
    connect, server_config,
};
use http_proxy::{Body, ConnectionInfo, Handler, HeadError, Incoming, ServerOptions, serve};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use support::{Raw, echo, run, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new([]).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { issuer: rcgen::Issuer::new(params, key), pem }
    }

    fn leaf(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let params = rcgen::CertificateParams::new(names).expect("parameters");
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer).expect("a certificate");
        (leaf.pem(), key.serialize_pem())
    }
}

fn config(leaves: &[(String, String)], alpn: &[&str]) -> Arc<ServerConfig> {
    let pems: Vec<_> = leaves.iter().map(|(chain, key)| CertifiedPem { chain, key }).collect();
    server_config(&pems, alpn).expect("a configuration")
}

/// One accepted connection after another, over TLS.
async fn tls_server<H: Handler>(config: Arc<ServerConfig>, handler: Rc<H>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, handler) = (config.clone(), handler.clone());
            tokio::task::spawn_local(async move {
                let Ok((stream, tls)) = accept(config, stream, Duration::from_secs(5)).await else {
                    return;
                };
                let info = Rc::new(ConnectionInfo { tls: Some(tls), ..ConnectionInfo::default() });
                let options = ServerOptions::default();
                serve(stream, Bytes::new(), info, handler, &options, std::future::pending()).await;
            });
        }
    });
    address
}

struct Tells;

impl Handler for Tells {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        info: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let tls = info.tls.as_ref().expect("TLS");
        let text = format!("{:?} {:?} {:?} {}", request.version(), tls.sni, tls.alpn, tls.version);
        Response::new(Body::full(text))
    }
}

#[test]
fn alpn_chooses_the_version_and_the_handshake_is_told() {
    run(async {
        let authority = Authority::new();
        let config = config(&[authority.leaf(&["a.example.com"])], &["h2", "http/1.1"]);
        let to = tls_server(config, Rc::new(Tells)).await;
        for (alpn, version, told) in [
            (
                &["h2", "http/1.1"][..],
                http_proxy::Version::H2,
                "HTTP/2.0 Some(\"a.example.com\") Some(\"h2\") TLSv1.3",
            ),
            (
                &["http/1.1"],
                http_proxy::Version::H1,
                "HTTP/1.1 Some(\"a.example.com\") Some(\"http/1.1\") TLSv1.3",
            ),
            (&[], http_proxy::Version::H1, "HTTP/1.1 Some(\"a.example.com\") None TLSv1.3"),
        ] {
            let trust = client_config(&authority.pem, alpn).expect("a configuration");
            let pool = http_proxy::Pool::new(http_proxy::PoolOptions::default());
            let dial =
                || async { connect(trust, "a.example.com", TcpStream::connect(to).await?).await };
            let request = Request::builder()
                .uri("/")
                .header("host", "h")
                .body(Body::empty())
                .expect("a request");
            let response = pool.send(&(), version, dial, request).await.expect("a response");
            assert_eq!(response.into_body().collect(1000).await.expect("a body"), told);
        }
    });
}

#[test]
fn the_first_certificate_that_covers_the_name_is_shown_else_the_first() {
    run(async {
        let authority = Authority::new();
        let leaves = [
            authority.leaf(&["first.example.com"]),
            authority.leaf(&["*.example.com"]),
            authority.leaf(&["b.example.com"]),
        ];
        let to = tls_server(config(&leaves, &[]), Rc::new(Tells)).await;
        let trust = client_config(&authority.pem, &[]).expect("a configuration");
        for (name, accepted) in [
            ("first.example.com", true),
            ("a.example.com", true),
            ("b.example.com", true), // by the wildcard, which is listed before its own
            ("other.example.org", false), // shown the first one, which does not cover it
        ] {
            let stream = TcpStream::connect(to).await.expect("connect");
            match connect(trust.clone(), name, stream).await {
                Ok(tls) => {
                    let shown =
                        tls.get_ref().1.peer_certificates().expect("certificates")[0].clone();
                    let index = if name.starts_with("first") { 0 } else { 1 };
                    let listed = rustls_pemfile::certs(&mut leaves[index].0.as_bytes())
                        .next()
                        .expect("one")
                        .expect("good");
                    assert!(accepted && shown == listed, "{name}");
                }
                Err(error) => assert!(!accepted, "{name}: {error}"),
            }
        }
    });
}

#[test]
fn a_second_handshake_resumes() {
    run(async {
        let authority = Authority::new();
        let to =
            tls_server(config(&[authority.leaf(&["a.example.com"])], &[]), Rc::new(Tells)).await;
        let trust = client_config(&authority.pem, &[]).expect("a configuration");
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let stream = TcpStream::connect(to).await.expect("connect");
            let mut tls =
                connect(trust.clone(), "a.example.com", stream).await.expect("a handshake");
            tls.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                .await
                .expect("write");
            tls.read_to_end(&mut Vec::new()).await.expect("a clean end, with close_notify");
            kinds.push(tls.get_ref().1.handshake_kind());
        }
        assert_eq!(
            kinds,
            [Some(rustls::HandshakeKind::Full), Some(rustls::HandshakeKind::Resumed)]
        );
    });
}

#[test]
fn what_is_no_handshake_ends_it() {
    run(async {
        let authority = Authority::new();
        let config = config(&[authority.leaf(&["a.example.com"])], &[]);
        let (mut client, server) = tokio::io::duplex(1000);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("write");
        let refused = accept(config.clone(), server, Duration::from_secs(5)).await;
        assert!(matches!(refused, Err(TlsError::Io(_))));
        let (_client, server) = tokio::io::duplex(1000);
        let late = accept(config, server, Duration::from_millis(10)).await;
        assert!(matches!(late, Err(TlsError::Timeout)));
        assert_eq!(client_hello_sni(b"GET / HTTP/1.1\r\n\r\n"), SniPeek::NotTls);
    });
}

#[test]
fn bad_pem_is_told() {
    let authority = Authority::new();
    let (chain, key) = authority.leaf(&["a"]);
    let (_, other) = authority.leaf(&["a"]);
    let of = |chain: &str, key: &str| server_config(&[CertifiedPem { chain, key }], &[]).err();
    assert!(of(&chain, &key).is_none());
    assert!(matches!(of("", &key), Some(TlsError::NoCertificate)));
    assert!(matches!(of(&chain, ""), Some(TlsError::NoKey)));
    assert!(matches!(of(&chain, &other), Some(TlsError::Rustls(_))));
    assert!(matches!(
        of("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----", &key),
        Some(TlsError::Pem(_))
    ));
    assert!(matches!(server_config(&[], &[]), Err(TlsError::NoneGiven)));
}

async fn h2_client(to: std::net::SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(to).await.expect("connect");
    let (client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    client.ready().await.expect("ready")
}

fn h2_request(uri: &str, fields: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::builder().uri(uri).body(()).expect("a request");
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().expect("a value"));
    }
    request
}

#[test]
fn authority_becomes_host_and_a_second_host_is_refused() {
    run(async {
        let server = server(ServerOptions::default(), async |request: Request<Incoming>| {
            let cookie = request
                .headers()
                .get("cookie")
                .map(|value| value.to_str().unwrap_or("?").to_owned());
            let text = format!("{} {:?} {cookie:?}", request.uri(), request.headers().get("host"));
            Response::new(Body::full(text))
        })
        .await;
        let mut client = h2_client(server.address).await;
        for (uri, fields, status, text) in [
            ("http://a.example/x?y", &[][..], 200, "/x?y Some(\"a.example\") None"),
            ("http://a.example/", &[("host", "A.example")], 200, "/ Some(\"A.example\") None"),
            ("http://a.example/", &[("host", "b.example")], 400, "Bad Request"),
            (
                "http://a.example/",
                &[("cookie", "a=1"), ("cookie", "b=2")],
                200,
                "/ Some(\"a.example\") Some(\"a=1; b=2\")",
            ),
            ("http://u@a.example/", &[], 400, "Bad Request"),
        ] {
            let (response, _) = client.send_request(h2_request(uri, fields), true).expect("sent");
            let response = response.await.expect("a response");
            assert_eq!(response.status(), status, "{uri} {fields:?}");
            let mut body = response.into_body();
            let data = body.data().await.expect("data").expect("data");
            assert_eq!(data, text);
        }
        assert_eq!(server.handler.refused.borrow().len(), 2);
    });
}

#[test]
fn drain_sends_goaway_and_lets_streams_end() {
    run(async {
        let (entered, go) =
            (Rc::new(tokio::sync::Notify::new()), Rc::new(tokio::sync::Notify::new()));
        let server = server(ServerOptions::default(), {
            let (entered, go) = (entered.clone(), go.clone());
            move |request| {
                let (entered, go) = (entered.clone(), go.clone());
                async move {
                    entered.notify_one();
                    go.notified().await;
                    echo(request).await
                }
            }
        })
        .await;
        let mut client = h2_client(server.address).await;
        let (response, _) = client.send_request(h2_request("http://h/", &[]), true).expect("sent");
        entered.notified().await;
        server.drain.notify_waiters();
        // GOAWAY arrives while the stream is open: nothing new is taken.
        loop {
            match client.clone().ready().await {
                Err(_) => break,
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        go.notify_one();
        assert_eq!(response.await.expect("a response").status(), 200);
        while server.accepted.borrow().1 == 0 {
            server.ended.notified().await;
        }
    });
}

#[test]
fn an_idle_h2_connection_ends_after_its_keep_alive() {
    run(async {
        let short =
            ServerOptions { keep_alive: Duration::from_millis(100), ..ServerOptions::default() };
        let server = server(short, echo).await;
        let mut client = h2_client(server.address).await;
        let (response, _) = client.send_request(h2_request("http://h/", &[]), true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 200);
        while server.accepted.borrow().1 == 0 {
            server.ended.notified().await;
        }
    });
}

#[test]
fn a_head_list_over_the_limit_is_431_and_h2_can_be_off() {
    run(async {
        let server = server(ServerOptions::default(), echo).await;
        let mut client = h2_client(server.address).await;
        let request = h2_request(
            "http://h/",
            &[
                ("x", "x".repeat(30_000).as_str()),
                ("y", "y".repeat(30_000).as_str()),
                ("z", "z".repeat(10_000).as_str()),
            ],
        );
        let (response, _) = client.send_request(request, true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 431);
        // Nor does one that is larger than the whole limit in one field end the connection.
        let large = "x".repeat(100_000);
        let request = h2_request("http://h/", &[("x", large.as_str())]);
        let (response, _) = client.send_request(request, true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 431);
        let (response, _) = client.send_request(h2_request("http://h/", &[]), true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 200);
        assert_eq!(*server.handler.refused.borrow(), [HeadError::TooLarge, HeadError::TooLarge]);

        let off = ServerOptions { http2: false, ..ServerOptions::default() };
        let server = support::server(off, echo).await;
        let mut raw = Raw::connect(server.address).await;
        raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert_eq!(raw.answer().await.status(), "505");
    });
}

#[test]
fn an_early_refusal_does_not_reset_the_upload_behind_it() {
    run(async {
        let server = server(ServerOptions::default(), async |_| {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
            response
        })
        .await;
        let mut client = h2_client(server.address).await;
        let (response, mut upload) =
            client.send_request(h2_request("http://h/", &[]), false).expect("sent");
        let mut response = response.await.expect("a response");
        assert_eq!(response.status(), 413);
        assert!(response.body_mut().data().await.is_none());
        // More than all windows together: it is read away, not only buffered.
        for _ in 0..40 {
            let mut rest = 64 * 1024;
            while rest > 0 {
                upload.reserve_capacity(rest);
                let granted = std::future::poll_fn(|cx| upload.poll_capacity(cx)).await;
                let granted = granted.expect("not reset").expect("capacity").min(rest);
                upload.send_data(vec![0; granted].into(), false).expect("not reset");
                rest -= granted;
            }
        }
        upload.send_data(Bytes::new(), true).expect("not reset");
        let (response, _) = client.send_request(h2_request("http://h/", &[]), true).expect("sent");
        assert_eq!(response.await.expect("a response").status(), 413);
    });
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = http_proxy::BodyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let data = Bytes::from_static(&[0; 16 * 1024]);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(data))))
    }
}

#[test]
fn a_client_that_grants_no_window_does_not_outlast_the_limit() {
    run(async {
        let server = server(ServerOptions::default(), async |_| {
            let limit = tokio::time::sleep(Duration::from_millis(50));
            Response::new(Body::boxed(Endless).until(limit))
        })
        .await;
        let mut client = h2_client(server.address).await;
        let (response, _) = client.send_request(h2_request("http://h/", &[]), true).expect("sent");
        // The first window fills, and nothing of it is given back.
        let mut body = response.await.expect("a response").into_body();
        let end = loop {
            match body.data().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        let error = end.expect("not the end").expect_err("a reset");
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    });
}

#[test]
fn a_reset_stream_cancels_its_handler_and_no_other() {
    run(async {
        let gone = Rc::new(tokio::sync::Notify::new());
        struct Tell(Rc<tokio::sync::Notify>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        let server = server(ServerOptions::default(), {
            let gone = gone.clone();
            move |request: Request<Incoming>| {
                let gone = gone.clone();
                async move {
                    if request.uri().path() == "/hang" {
                        let _tell = Tell(gone);
                        std::future::pending::<()>().await;
                    }
                    echo(request).await
                }
            }
        })
        .await;
        let mut client = h2_client(server.address).await;
        let (hanging, mut stream) =
            client.send_request(h2_request("http://h/hang", &[]), false).expect("sent");
        let (other, _) = client.send_request(h2_request("http://h/", &[]), true).expect("sent");
        assert_eq!(other.await.expect("a response").status(), 200);
        stream.send_reset(h2::Reason::CANCEL);
        gone.notified().await;
        assert!(hanging.await.is_err());
    });
}

//! Protocols towards the container, and the way in through a Google front end.

use super::harness::*;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_proxy::{Body, BodyError, ConnectionInfo, Handler, Incoming, Pool, PoolOptions, Version};
use slice::CLOUD_RUN_FRONT_END_CHANNEL;
use slice::run::{CloudRunSlice, Port, Run, Service};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A backend in HTTP/1.1 and h2c that says which version it was asked in, with trailers.
struct Says;

impl Handler for Says {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _connection: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let version = format!("{:?}", request.version());
        let body = request.into_body().collect(1 << 26).await.map_or(0, |body| body.len());
        let said = Said(Some(format!("{version} {body}").into()), true);
        let mut response = Response::new(Body::boxed(said));
        response
            .headers_mut()
            .insert("content-type", http::HeaderValue::from_static("application/grpc"));
        response
    }
}

/// One frame of data, then trailers.
struct Said(Option<Bytes>, bool);

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(data) = self.0.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = std::mem::take(&mut self.1).then(|| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            Ok(Frame::trailers(trailers))
        });
        Poll::Ready(trailers)
    }
}

/// Runs on a thread of its own, like everything of the HTTP crate.
fn alone<F: Future<Output = ()>>(work: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work());
}

/// Starts [`Says`] on a thread that ends with the tests.
fn says() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    listener.set_nonblocking(true).expect("non-blocking");
    std::thread::spawn(move || {
        alone(|| async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let info = Rc::default();
                    let options = http_proxy::ServerOptions::default();
                    let never = std::future::pending();
                    http_proxy::serve(stream, Bytes::new(), info, Rc::new(Says), &options, never)
                        .await;
                });
            }
        });
    });
    address
}

/// One request of a client that speaks HTTP/2, in the load balancer's version: what came back, and
/// its `grpc-status`.
fn ask(
    stage: &Stage,
    version: Version,
    service: &Service,
    kind: &'static str,
    body: Body,
) -> (String, String) {
    let stream = stage.connect_for(&balancer(), Some(service.self_link.as_str()), "h2");
    stream.set_nonblocking(true).expect("non-blocking");
    let mut answer = (String::new(), String::new());
    alone(|| async {
        let pool = Pool::new(PoolOptions::default());
        let request = Request::post("/x")
            .header("host", "internal.example.com")
            .header("content-type", kind)
            .header("te", "trailers")
            .body(body)
            .expect("a request");
        let connect = || async { tokio::net::UnixStream::from_std(stream) };
        let response = pool.send(&(), version, connect, request).await.expect("an answer");
        answer.0 = format!("{} ", response.status().as_u16());
        let mut body = response.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                answer.0.push_str(&String::from_utf8_lossy(data));
            }
            if let Some(status) = frame.trailers_ref().and_then(|all| all.get("grpc-status")) {
                answer.1 = status.to_str().unwrap_or_default().to_owned();
            }
        }
    });
    answer
}

#[test]
fn http2_goes_to_the_container_for_h2c_and_for_grpc_only() {
    let url = format!("http://{}", says());
    let plain = at("plain", Run::Url(url.clone()));
    let mut h2c = at("h2c", Run::Url(url));
    h2c.revision.containers[0].port = Some(Port { h2c: true, ..Port::default() });
    let stage = Stage::new(vec![plain.clone(), h2c.clone()]);
    assert_eq!(stage.get(&plain, "/").text(), "7\r\nHTTP/1.1 0\r\n0\r\n\r\n".replacen("7", "a", 1));
    assert!(stage.get(&h2c, "/").text().contains("HTTP/2.0 0"), "also for a client in HTTP/1");
    for (service, kind, seen) in [
        (&plain, "text/plain", "200 HTTP/1.1 3"),
        (&plain, "application/grpc", "200 HTTP/2.0 3"),
        (&plain, "application/grpc+proto", "200 HTTP/2.0 3"),
        (&h2c, "text/plain", "200 HTTP/2.0 3"),
    ] {
        let (text, _) = ask(&stage, Version::H2, service, kind, Body::full("abc"));
        assert_eq!(text, seen, "{} {kind}", service.name);
    }
    let (_, status) = ask(&stage, Version::H2, &plain, "application/grpc", Body::full("abc"));
    assert_eq!(status, "0", "trailers are kept");
}

#[test]
fn only_http2_from_end_to_end_has_no_limit_of_size() {
    let url = format!("http://{}", says());
    let plain = at("plain", Run::Url(url.clone()));
    let mut h2c = at("h2c", Run::Url(url));
    h2c.revision.containers[0].port = Some(Port { h2c: true, ..Port::default() });
    let stage = Stage::new(vec![plain.clone(), h2c.clone()]);
    let large = || Body::full(vec![b'x'; (32 << 20) + 1]);
    // What the load balancer speaks does not matter, only what the client does.
    for version in [Version::H1, Version::H2] {
        assert!(ask(&stage, version, &plain, "text/plain", large()).0.starts_with("413 "));
        let (text, _) = ask(&stage, version, &h2c, "text/plain", large());
        assert_eq!(text, "200 HTTP/2.0 33554433");
    }
}

#[test]
fn a_client_that_leaves_over_http2_is_told_to_the_container() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", backend.local_addr().expect("bound"));
    let waits = at("waits", Run::Url(url));
    let stage = Stage::new(vec![waits.clone()]);
    let mut leaving = stage.connect_for(&balancer(), Some(waits.self_link.as_str()), "h2");
    leaving.write_all(get("/", "").as_bytes()).expect("written");
    let (mut stream, _) = backend.accept().expect("accepted");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a timeout");
    let mut head = [0; 1024];
    assert!(stream.read(&mut head).expect("a request") > 0);
    drop(leaving);
    while stream.read(&mut head).expect("the end, not silence") > 0 {}
}

#[test]
fn a_websocket_is_bridged_and_ends_with_the_deadline() {
    let backend = TcpListener::bind("127.0.0.1:0").expect("bound");
    let url = format!("http://{}", backend.local_addr().expect("bound"));
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = backend.accept().expect("accepted");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\n";
        stream.write_all(switch.as_bytes()).expect("written");
        let mut bytes = [0; 1024];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&head).into_owned(),
                Ok(read) => stream.write_all(&bytes[..read]).expect("written"),
            }
        }
    });
    let mut chat = at("chat", Run::Url(url));
    chat.revision.timeout_seconds = 3;
    let stage = Stage::new(vec![chat.clone()]);
    let mut stream = stage.connect(&balancer(), Some(chat.self_link.as_str()));
    let request = "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-accept: x"), "{head}");
    for message in [&b"one"[..], b"two"] {
        stream.write_all(message).expect("written");
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).expect("an echo");
        assert_eq!(back, message);
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the deadline closes the socket");
    let seen = echo.join().expect("the backend sees the end too").to_ascii_lowercase();
    assert!(seen.contains("upgrade: websocket") && seen.contains("connection: upgrade"), "{seen}");
}

#[test]
fn a_front_end_hands_sockets_over_with_tls_inside() {
    let certificate = rcgen::generate_simple_self_signed(vec!["*.europe-west1.run.app".to_owned()])
        .expect("a certificate");
    let orders = at("orders", Run::Url(format!("http://{}", says())));
    let mut stage = Stage::new(Vec::new());
    let slice = CloudRunSlice {
        front_end_certificate: certificate.cert.pem(),
        front_end_private_key: certificate.signing_key.serialize_pem(),
        ..slice(vec![orders])
    };
    stage.started.reload(slice).expect("a good slice");
    let channel = stage.started.context().expect("running").channel(CLOUD_RUN_FRONT_END_CHANNEL);
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let trust = certificate.cert.pem();
    alone(|| async move {
        let channel = std::os::unix::net::UnixStream::connect(channel).expect("connected");
        channel.set_nonblocking(true).expect("non-blocking");
        for (origin, alpn, status) in [
            (network("ilb"), "h2", "200"),
            (network("ilb"), "http/1.1", "200"),
            (network("other"), "http/1.1", "404"),
        ] {
            let client = tokio::net::TcpStream::connect(address).await.expect("connected");
            let (accepted, _) = listener.accept().expect("accepted");
            net::hand_over(&channel, &head(&origin, None, "http/1.1"), accepted.as_fd())
                .await
                .expect("given");
            drop(accepted);
            let config = http_proxy::tls::client_config(&trust, &[alpn]).expect("a config");
            let host = "orders-77.europe-west1.run.app";
            let mut tls = http_proxy::tls::connect(config, host, client).await.expect("TLS");
            let request = Request::get("/").header("host", host);
            if alpn == "h2" {
                let pool = Pool::new(PoolOptions::default());
                let request = request.body(Body::empty()).expect("a request");
                let connect = || async { Ok(tls) };
                let response = pool.send(&(), Version::H2, connect, request).await;
                assert_eq!(response.expect("an answer").status().as_str(), status);
                continue;
            }
            let text = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            tls.write_all(text.as_bytes()).await.expect("written");
            let mut answer = [0; 12];
            tls.read_exact(&mut answer).await.expect("an answer");
            assert_eq!(&answer[9..], status.as_bytes(), "{origin:?}");
        }
    });
}

//! The side of the backend: headers, turns, retries, deadlines, Cloud Run, protocols.

mod common;

use bytes::Bytes;
use common::support::{self, Raw, run};
use common::*;
use http::{Request, Response, StatusCode};
use http_proxy::tls::{CertifiedPem, accept, server_config};
use http_proxy::{Body, ConnectionInfo, Incoming, ServerOptions, serve};
use names::{Origin, SelfLink};
use slice::load_balancer::Protocol;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn a_request_reaches_an_address_with_the_load_balancers_headers() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let mut with_headers = service("plain", Protocol::Http, "group");
        with_headers.custom_request_headers =
            vec!["X-Client: {client_ip_address}".to_owned(), "X-Fixed: yes".to_owned()];
        with_headers.custom_response_headers = vec!["X-Proto: {client_protocol}".to_owned()];
        let slice = slice(
            &[("a.example.com", to("plain"))],
            vec![with_headers],
            vec![group("group", &[declared(1)])],
        );
        let started = start("headers", slice, &[(1, backend.address)]);
        let mut client = Raw::connect(address(&started)).await;
        for n in 0..3 {
            client
                .send(&format!(
                    "POST /x?y={n} HTTP/1.1\r\nHost: a.example.com\r\nX-Forwarded-For: 1.2.3.4\r\n\
                     X-Forwarded-Proto: https\r\nConnection: x-secret\r\nX-Secret: 1\r\nTE: trailers\r\n\
                     Content-Length: 4\r\n\r\nbody"
                ))
                .await;
            let answer = client.answer().await;
            let seen = answer.text().to_owned();
            assert_eq!(answer.status(), "200");
            assert!(
                answer.has("via: 1.1 google") && answer.has("x-proto: HTTP/1.1"),
                "{}",
                answer.head
            );
            for line in [
                format!("POST /x?y={n}"),
                "host: a.example.com".to_owned(),
                "x-forwarded-for: 1.2.3.4,127.0.0.1,10.0.0.5".to_owned(),
                "x-forwarded-proto: http".to_owned(),
                "via: 1.1 google".to_owned(),
                "te: trailers".to_owned(),
                "x-client: 127.0.0.1".to_owned(),
                "x-fixed: yes".to_owned(),
                "body".to_owned(),
            ] {
                assert!(seen.lines().any(|seen| *seen == line), "{line}\n{seen}");
            }
            assert!(!seen.contains("x-secret") && !seen.contains("connection:"), "{seen}");
            assert!(seen.contains("traceparent: 00-") && seen.contains("x-cloud-trace-context: "));
        }
        assert_eq!(backend.accepted.borrow().0, 1, "connections are kept");
    });
}

#[test]
fn requests_take_turns_and_a_dead_backend_is_passed_over() {
    run(async {
        let one =
            support::server(ServerOptions::default(), async |_| Response::new(Body::full("1")))
                .await;
        let two =
            support::server(ServerOptions::default(), async |_| Response::new(Body::full("2")))
                .await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let nobody = listener.local_addr().expect("an address");
        drop(listener);
        let slice = slice(
            &[
                ("turns.example.com", to("turns")),
                ("half.example.com", to("half")),
                ("dead.example.com", to("dead")),
            ],
            vec![
                service("turns", Protocol::Http, "turns"),
                service("half", Protocol::Http, "half"),
                service("dead", Protocol::Http, "dead"),
            ],
            vec![
                group("turns", &[declared(1), declared(2)]),
                group("half", &[declared(1), declared(3)]),
                group("dead", &[declared(3)]),
            ],
        );
        let started = start("turns", slice, &[(1, one.address), (2, two.address), (3, nobody)]);
        let at = address(&started);
        let mut answers = String::new();
        for _ in 0..4 {
            answers.push_str(get(at, "turns.example.com", "/").await.text());
        }
        assert!(answers == "1212" || answers == "2121", "{answers}");
        for _ in 0..4 {
            assert_eq!(get(at, "half.example.com", "/").await.text(), "1");
        }
        let answer = get(at, "dead.example.com", "/").await;
        assert_eq!(answer.status(), "503");
        assert_eq!(
            answer.text(),
            "upstream connect error or disconnect/reset before headers. retried and the latest reset \
             reason: remote connection failure, transport failure reason: delayed connect error: 111"
        );
        let mut client = Raw::connect(at).await;
        client
            .send("POST / HTTP/1.1\r\nHost: dead.example.com\r\nContent-Length: 1\r\n\r\nx")
            .await;
        let answer = client.answer().await;
        assert!(answer.text().contains("headers. reset reason: remote"), "{}", answer.text());
    });
}

#[test]
fn bodiless_requests_that_get_503_are_sent_once_more_and_post_never() {
    run(async {
        let asked = Rc::new(std::cell::Cell::new(0));
        let counted = asked.clone();
        let backend = support::server(ServerOptions::default(), move |_| {
            counted.set(counted.get() + 1);
            let mut response = Response::new(Body::full("down"));
            if counted.get() % 2 == 1 {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            std::future::ready(response)
        })
        .await;
        let slice = slice(
            &[("a.example.com", to("a"))],
            vec![service("a", Protocol::Http, "a")],
            vec![group("a", &[declared(1)])],
        );
        let started = start("retry", slice, &[(1, backend.address)]);
        assert_eq!(get(address(&started), "a.example.com", "/").await.status(), "200");
        assert_eq!(asked.get(), 2);
        let mut client = Raw::connect(address(&started)).await;
        client.send("POST / HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), "503");
        assert_eq!(asked.get(), 3);
    });
}

#[test]
fn a_backend_that_is_late_is_cut_off() {
    run(async {
        let backend =
            support::server(ServerOptions::default(), async |request: Request<Incoming>| {
                if request.uri().path() == "/head" {
                    std::future::pending::<()>().await;
                }
                Response::new(Body::boxed(Stuck(false)))
            })
            .await;
        let mut late = service("late", Protocol::Http, "late");
        late.timeout_sec = Some(1);
        let slice = slice(
            &[("a.example.com", to("late"))],
            vec![late],
            vec![group("late", &[declared(1)])],
        );
        let started = start("late", slice, &[(1, backend.address)]);
        let answer = get(address(&started), "a.example.com", "/head").await;
        assert_eq!((answer.status(), answer.text()), ("504", "upstream request timeout"));
        let mut client = Raw::connect(address(&started)).await;
        client.send("GET /body HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
        let all = String::from_utf8(client.end().await).expect("text");
        assert!(all.starts_with("HTTP/1.1 200 OK") && all.ends_with("\r\nbegun\r\n"), "{all}");
    });
}

/// A body that begins and never goes on.
struct Stuck(bool);

impl http_body::Body for Stuck {
    type Data = Bytes;
    type Error = http_proxy::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, http_proxy::BodyError>>> {
        if std::mem::replace(&mut self.0, true) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"begun")))))
    }
}

#[test]
fn cloud_run_learns_origin_and_service_and_never_from_http() {
    run(async {
        let slice = slice(
            &[("apps.example.com", to("apps"))],
            vec![service("apps", Protocol::Http, "apps")],
            vec![serverless("apps", "apps.example.com/<service>")],
        );
        let started = start("cloud-run", slice, &[]);
        let cloud_run = cloud_run(&started);
        let mut client = Raw::connect(address(&started)).await;
        for path in ["/login/a", "/orders?b", "/login"] {
            client.send(&format!("GET {path} HTTP/1.1\r\nHost: apps.example.com\r\n\r\n")).await;
            let answer = client.answer().await;
            let service = path.split(['/', '?']).nth(1).expect("a service");
            assert!(answer.text().starts_with(&format!("GET {path}\nhost: apps.example.com\n")));
            let link = format!("x-service: projects/p/locations/europe-west1/services/{service}#-");
            assert!(answer.has(&link), "{}", answer.head);
            assert!(answer.has("x-version: HTTP/1.1"), "{}", answer.head);
            assert!(answer.text().contains("x-forwarded-for: 127.0.0.1,10.0.0.5"));
        }
        let connections = cloud_run.connections.lock().expect("lock");
        assert_eq!(connections.len(), 2, "one connection per service: {connections:?}");
        let origin = Origin::InternalLoadBalancer {
            network: network(),
            forwarding_rule: SelfLink::new(RULE),
        };
        assert!(connections.iter().all(|(from, _, _)| *from == origin));
        assert!(connections.iter().all(|(_, _, source)| *source.ip() == Ipv4Addr::LOCALHOST));
    });
}

#[test]
fn a_websocket_passes_and_other_upgrades_are_ordinary_requests() {
    run(async {
        let backend =
            support::server(ServerOptions::default(), async |mut request: Request<Incoming>| {
                let mut response = Response::new(Body::full("ordinary"));
                if let Some(upgrade) = request.body_mut().take_upgrade() {
                    *response.body_mut() = Body::empty();
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert("upgrade", "websocket".parse().expect("a value"));
                    tokio::task::spawn_local(async move {
                        let mut io = upgrade.io().await.expect("the connection");
                        io.write_all(b"hello").await.expect("write");
                        let mut all = Vec::new();
                        io.read_to_end(&mut all).await.expect("read");
                        io.write_all(&all).await.expect("write");
                        io.shutdown().await.expect("shutdown");
                    });
                }
                response
            })
            .await;
        let slice = slice(
            &[("ws.example.com", to("ws"))],
            vec![service("ws", Protocol::Http, "ws")],
            vec![group("ws", &[declared(1)])],
        );
        let started = start("websocket", slice, &[(1, backend.address)]);
        let ask = |protocol: &str| {
            format!(
                "GET / HTTP/1.1\r\nHost: ws.example.com\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            )
        };
        let mut client = Raw::connect(address(&started)).await;
        client.send(&ask("WebSocket")).await;
        let answer = client.answer().await;
        assert!(answer.status() == "101" && answer.has("upgrade: websocket"), "{}", answer.head);
        client.send("and back").await;
        client.stream.shutdown().await.expect("shutdown");
        assert_eq!(client.end().await, b"helloand back");
        let mut client = Raw::connect(address(&started)).await;
        client.send(&ask("h2c")).await;
        assert_eq!(client.answer().await.text(), "ordinary");
    });
}

#[test]
fn backends_over_tls_and_http2_are_not_verified() {
    run(async {
        let (chain, key) = certificate(&["anything"]);
        let mut backends = Vec::new();
        for (n, alpn) in [(1u8, &["http/1.1"][..]), (2, &["h2"])] {
            let config = server_config(&[CertifiedPem { chain: &chain, key: &key }], alpn)
                .expect("a configuration");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
            backends.push((n, listener.local_addr().expect("an address")));
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let config = config.clone();
                    tokio::task::spawn_local(async move {
                        let Ok((stream, tls)) =
                            accept(config, stream, Duration::from_secs(5)).await
                        else {
                            return;
                        };
                        let info =
                            Rc::new(ConnectionInfo { tls: Some(tls), ..ConnectionInfo::default() });
                        let options = ServerOptions::default();
                        let handler = Rc::new(Said("backend".to_owned(), String::new()));
                        serve(
                            stream,
                            Bytes::new(),
                            info,
                            handler,
                            &options,
                            std::future::pending(),
                        )
                        .await;
                    });
                }
            });
        }
        let plain =
            support::server(ServerOptions::default(), async |request: Request<Incoming>| {
                let version = format!("{:?}", request.version());
                let mut response = mirror(request).await;
                response.headers_mut().insert("x-version", version.parse().expect("a value"));
                response
            })
            .await;
        backends.push((3, plain.address));
        let slice = slice(
            &[
                ("https", to("https")),
                ("http2", to("http2")),
                ("h2c", to("h2c")),
                ("wrong", to("wrong")),
            ],
            vec![
                service("https", Protocol::Https, "https"),
                service("http2", Protocol::Http2, "http2"),
                service("h2c", Protocol::H2c, "h2c"),
                service("wrong", Protocol::Https, "h2c"),
            ],
            vec![
                group("https", &[declared(1)]),
                group("http2", &[declared(2)]),
                group("h2c", &[declared(3)]),
            ],
        );
        let started = start("backends", slice, &backends);
        for (host, version) in [("https", "HTTP/1.1"), ("http2", "HTTP/2.0"), ("h2c", "HTTP/2.0")] {
            let answer = get(address(&started), host, "/").await;
            assert_eq!(answer.status(), "200", "{host}: {}", answer.text());
            assert!(answer.has(&format!("x-version: {version}")), "{host}: {}", answer.head);
            assert!(
                answer.text().contains(&format!("host: {host}\n")),
                "{host}: {}",
                answer.text()
            );
        }
        let answer = get(address(&started), "wrong", "/").await;
        assert_eq!(answer.status(), "502", "TLS to a backend that has none: {}", answer.text());
    });
}

/// A gRPC echo: the request's data, then the status in trailers.
struct Grpc(Option<http_proxy::Incoming>);

impl http_body::Body for Grpc {
    type Data = Bytes;
    type Error = http_proxy::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, http_proxy::BodyError>>> {
        let Some(body) = &mut self.0 else { return std::task::Poll::Ready(None) };
        let frame = std::task::ready!(std::pin::Pin::new(body).poll_frame(cx));
        std::task::Poll::Ready(frame.or_else(|| {
            self.0 = None;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().expect("a value"));
            Some(Ok(http_body::Frame::trailers(trailers)))
        }))
    }
}

#[test]
fn grpc_passes_with_its_trailers() {
    run(async {
        let backend =
            support::server(ServerOptions::default(), async |request: Request<Incoming>| {
                assert_eq!(request.headers()["te"], "trailers");
                let mut response = Response::new(Body::boxed(Grpc(Some(request.into_body()))));
                let grpc = "application/grpc".parse().expect("a value");
                response.headers_mut().insert("content-type", grpc);
                response
            })
            .await;
        let slice = slice(
            &[("grpc.example.com", to("grpc"))],
            vec![service("grpc", Protocol::H2c, "grpc")],
            vec![group("grpc", &[declared(1)])],
        );
        let (chain, key) = certificate(&["grpc.example.com"]);
        let slice = over_tls(slice, &[(chain.clone(), key)]);
        let started = start("grpc", slice, &[(1, backend.address)]);
        let at = address(&started);
        let pool = http_proxy::Pool::new(http_proxy::PoolOptions::default());
        let request = Request::builder()
            .method("POST")
            .uri("/echo.Echo/Say")
            .header("host", "grpc.example.com")
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .body(Body::full("\0\0\0\0\u{2}hi"))
            .expect("a request");
        let trust = http_proxy::tls::client_config(&chain, &["h2"]).expect("a configuration");
        let dial = || async move {
            let stream = tokio::net::TcpStream::connect(at).await?;
            http_proxy::tls::connect(trust, "grpc.example.com", stream).await
        };
        let h2 = http_proxy::Version::H2;
        let response = pool.send(&(), h2, dial, request).await.expect("a response");
        assert_eq!(response.headers()["content-type"], "application/grpc");
        let mut body = response.into_body();
        let data = body.frame().await.expect("a frame").expect("data").into_data().expect("data");
        assert_eq!(&data[..], b"\0\0\0\0\x02hi");
        let trailers = body.frame().await.expect("a frame").expect("trailers").into_trailers();
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
        tokio::task::spawn_blocking(move || drop(started)).await.expect("a clean end");
    });
}

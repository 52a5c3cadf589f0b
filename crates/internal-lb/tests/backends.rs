//! Endpoints: health checks, session affinity, outliers, draining, circuit breakers, capacity.

mod common;

use bytes::Bytes;
use common::support::{self, Raw, run};
use common::*;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_proxy::tls::{CertifiedPem, accept, server_config};
use http_proxy::{Body, BodyError, ConnectionInfo, Incoming, ServerOptions, serve};
use internal_lb::InternalLb;
use runtime::testing::Started;
use slice::load_balancer::{
    Backend, BackendService, BalancingMode, CircuitBreakers, HealthCheck, InternalLbSlice,
    LocalityLbPolicy, OutlierDetection, Probe, Protocol, SessionAffinity,
};
use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

const HOST: &str = "a.example.com";

/// A backend with a name, which says its health at `/health`, and fails when it is told to.
struct Node {
    address: SocketAddr,
    health: Rc<Cell<u16>>,
    status: Rc<Cell<u16>>,
    /// Requests to `/slow` answer when this is notified.
    release: Rc<Notify>,
    /// How many `/slow` are waiting.
    slow: Rc<Cell<u32>>,
}

async fn node(name: &'static str) -> Node {
    let (health, status) = (Rc::new(Cell::new(200)), Rc::new(Cell::new(200)));
    let (release, slow) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
    let node = (health.clone(), status.clone(), release.clone(), slow.clone());
    let server = support::server(ServerOptions::default(), move |request: Request<Incoming>| {
        let (health, status, release, slow) = node.clone();
        async move {
            let path = request.uri().path().to_owned();
            if path == "/slow" {
                slow.set(slow.get() + 1);
                release.notified().await;
            }
            let mut response = Response::new(Body::full(name));
            let status = if path == "/health" { health.get() } else { status.get() };
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response
        }
    })
    .await;
    Node { address: server.address, health, status, release, slow }
}

fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        self_link: link("healthChecks", "check"),
        probe,
        port: None,
        proxy_header: false,
        check_interval: Duration::from_millis(20),
        timeout: Duration::from_secs(2),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        log: false,
    }
}

fn http(protocol: Protocol) -> Probe {
    Probe::Http {
        protocol,
        host: String::new(),
        request_path: "/health".to_owned(),
        response: String::new(),
    }
}

/// One backend service with one group of the first `n` declared addresses.
fn one(service: BackendService, n: u8, check: Option<HealthCheck>) -> InternalLbSlice {
    let addresses: Vec<_> = (1..=n).map(declared).collect();
    let mut slice = slice(&[(HOST, to("a"))], vec![service], vec![group("a", &addresses)]);
    slice.load_balancing.backend_services[0].health_check =
        check.as_ref().map(|check| check.self_link.clone());
    slice.load_balancing.health_checks = check.into_iter().collect();
    slice
}

fn plain() -> BackendService {
    service("a", Protocol::Http, "a")
}

fn nodes(all: &[&Node]) -> Vec<(u8, SocketAddr)> {
    (1..).zip(all).map(|(number, node)| (number, node.address)).collect()
}

/// Asks until the answers are as they should be; the test's own limit ends it otherwise.
async fn until(started: &Started<InternalLb>, expected: impl Fn(&[support::Answer]) -> bool) {
    loop {
        let mut answers = Vec::new();
        for _ in 0..8 {
            answers.push(get(address(started), HOST, "/").await);
        }
        if expected(&answers) {
            return;
        }
    }
}

fn all_say(name: &str) -> impl Fn(&[support::Answer]) -> bool {
    move |answers| answers.iter().all(|answer| answer.text() == name)
}

fn both_answer(answers: &[support::Answer]) -> bool {
    ["1", "2"].iter().all(|name| answers.iter().any(|answer| answer.text() == *name))
}

#[test]
fn an_unhealthy_endpoint_leaves_and_comes_back_and_without_any_there_is_503() {
    run(async {
        let (first, second) = (node("1").await, node("2").await);
        let slice = one(plain(), 2, Some(check(http(Protocol::Http))));
        let mut started = start("health", slice.clone(), &nodes(&[&first, &second]));
        until(&started, both_answer).await;
        first.health.set(500);
        until(&started, all_say("2")).await;
        started.reload(slice).expect("a reload");
        for _ in 0..8 {
            let answer = get(address(&started), HOST, "/").await;
            assert_eq!(answer.text(), "2", "health outlives a reload");
        }
        second.health.set(503);
        until(&started, all_say("no healthy upstream")).await;
        assert_eq!(get(address(&started), HOST, "/").await.status(), "503");
        first.health.set(200);
        until(&started, all_say("1")).await;
        second.health.set(200);
        until(&started, both_answer).await;
    });
}

#[test]
fn before_the_first_probe_has_ended_requests_go_on() {
    run(async {
        // Nobody ever answers this health check.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = silent.local_addr().expect("an address").port();
        let only = node("1").await;
        let mut check = check(http(Protocol::Http));
        check.timeout = Duration::from_secs(60);
        check.port = Some(port);
        let mut slice = one(plain(), 1, Some(check));
        // Reached as it is: nothing is placed at 127.0.0.1.
        let SocketAddr::V4(real) = only.address else { return };
        slice.load_balancing.network_endpoint_groups = vec![group("a", &[real])];
        let started = start("unproven", slice, &[]);
        let (_probe, _) = silent.accept().await.expect("a probe, to the port of the check");
        assert_eq!(get(address(&started), HOST, "/").await.text(), "1");
    });
}

/// Data, then trailers.
struct Frames(Vec<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready((!self.0.is_empty()).then(|| Ok(self.0.remove(0))))
    }
}

#[test]
fn grpc_health_is_asked_by_service_name() {
    run(async {
        let serving = Rc::new(Cell::new(true));
        let says = serving.clone();
        let backend =
            support::server(ServerOptions::default(), move |request: Request<Incoming>| {
                let serving = says.get();
                async move {
                    if request.uri().path() != "/grpc.health.v1.Health/Check" {
                        return Response::new(Body::full("1"));
                    }
                    let asked = request.into_body().collect(100).await.unwrap_or_default();
                    let known = &asked[..] == b"\0\0\0\0\x06\x0a\x04echo";
                    let status = if serving { 1 } else { 2 };
                    let data = Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]);
                    let mut trailers = http::HeaderMap::new();
                    let code = if known { "0" } else { "5" };
                    trailers.insert("grpc-status", code.parse().expect("a value"));
                    let frames = Frames(vec![Frame::data(data), Frame::trailers(trailers)]);
                    let mut response = Response::new(Body::boxed(frames));
                    let kind = "application/grpc".parse().expect("a value");
                    response.headers_mut().insert("content-type", kind);
                    response
                }
            })
            .await;
        let probe = |name: &str| Probe::Grpc { service_name: name.to_owned(), tls: false };
        let service = service("a", Protocol::H2c, "a");
        let slice = one(service.clone(), 1, Some(check(probe("echo"))));
        let mut started = start("grpc-health", slice, &[(1, backend.address)]);
        until(&started, all_say("1")).await;
        serving.set(false);
        until(&started, all_say("no healthy upstream")).await;
        serving.set(true);
        until(&started, all_say("1")).await;
        started.reload(one(service, 1, Some(check(probe("other"))))).expect("a reload");
        until(&started, all_say("no healthy upstream")).await;
    });
}

#[test]
fn a_tcp_check_sends_the_proxy_line_and_its_text_and_wants_the_answer() {
    run(async {
        let only = node("1").await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("an address").port();
        let good = Rc::new(Cell::new(true));
        let answers = good.clone();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut read = vec![0; b"PROXY UNKNOWN\r\nPING".len()];
                stream.read_exact(&mut read).await.expect("a probe");
                assert_eq!(read, b"PROXY UNKNOWN\r\nPING");
                let answer: &[u8] = if answers.get() { b"PONG and more" } else { b"PANG" };
                stream.write_all(answer).await.expect("the prober reads");
            }
        });
        let probe =
            Probe::Tcp { tls: false, request: "PING".to_owned(), response: "PONG".to_owned() };
        let mut check = check(probe);
        (check.proxy_header, check.port) = (true, Some(port));
        let mut slice = one(plain(), 1, Some(check));
        let SocketAddr::V4(real) = only.address else { return };
        slice.load_balancing.network_endpoint_groups = vec![group("a", &[real])];
        let started = start("tcp-health", slice, &[]);
        until(&started, all_say("1")).await;
        good.set(false);
        until(&started, all_say("no healthy upstream")).await;
    });
}

#[test]
fn cookies_keep_a_client_at_one_endpoint() {
    run(async {
        let all = [node("1").await, node("2").await, node("3").await];
        let strong =
            SessionAffinity::StrongCookie { name: "stick".to_owned(), path: None, ttl_sec: None };
        for (name, affinity, policy, cookie) in [
            (
                "generated",
                SessionAffinity::GeneratedCookie { ttl_sec: 0 },
                LocalityLbPolicy::Maglev,
                "set-cookie: GCILB=",
            ),
            ("strong", strong, LocalityLbPolicy::RoundRobin, "set-cookie: stick="),
        ] {
            let service = BackendService {
                session_affinity: affinity,
                locality_lb_policy: policy,
                ..plain()
            };
            let started = start(name, one(service, 3, None), &nodes(&all.each_ref()));
            let first = get(address(&started), HOST, "/").await;
            let line = first.head.lines().find(|line| line.starts_with(cookie));
            let line = line.unwrap_or_else(|| panic!("{}", first.head));
            let pair = line.trim_start_matches("set-cookie: ").split(';').next().expect("a pair");
            for _ in 0..10 {
                let mut client = Raw::connect(address(&started)).await;
                let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: x=y; {pair}\r\n\r\n");
                client.send(&head).await;
                let answer = client.answer().await;
                assert_eq!(answer.text(), first.text(), "{name}");
                assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
            }
        }
    });
}

#[test]
fn a_removed_endpoint_goes_on_for_whom_its_cookie_names_while_it_drains() {
    run(async {
        let (first, second) = (node("1").await, node("2").await);
        let slice = |n: u8| {
            let strong = SessionAffinity::StrongCookie {
                name: "stick".to_owned(),
                path: None,
                ttl_sec: None,
            };
            let service =
                BackendService { session_affinity: strong, draining_timeout_sec: 1, ..plain() };
            let mut slice = one(service, 1, None);
            slice.load_balancing.network_endpoint_groups = vec![group("a", &[declared(n)])];
            slice
        };
        let mut started = start("leaving", slice(1), &nodes(&[&first, &second]));
        let answer = get(address(&started), HOST, "/").await;
        let line = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let cookie = line.and_then(|line| line.split(';').next()).expect("a cookie").to_owned();
        started.reload(slice(2)).expect("a reload");
        let kept = async || {
            let mut client = Raw::connect(address(&started)).await;
            let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nCookie: {cookie}\r\n\r\n");
            client.send(&head).await;
            client.answer().await
        };
        assert_eq!(kept().await.text(), "1");
        assert_eq!(get(address(&started), HOST, "/").await.text(), "2", "others leave it");
        loop {
            let answer = kept().await; // until it has drained
            if answer.text() == "2" {
                assert!(answer.head.contains("set-cookie: stick="), "{}", answer.head);
                break;
            }
        }
    });
}

fn outlier() -> OutlierDetection {
    OutlierDetection {
        consecutive_errors: 5,
        consecutive_gateway_failure: 3,
        enforcing_consecutive_errors: 0,
        enforcing_consecutive_gateway_failure: 100,
        enforcing_success_rate: 100,
        success_rate_minimum_hosts: 5,
        success_rate_request_volume: 100,
        success_rate_stdev_factor: 1900,
        interval: Duration::from_millis(20),
        base_ejection_time: Duration::from_millis(200),
        max_ejection_percent: 50,
    }
}

#[test]
fn an_endpoint_that_fails_three_times_in_a_row_is_left_alone_for_some_time() {
    run(async {
        let (first, second) = (node("1").await, node("2").await);
        let service = BackendService { outlier_detection: Some(outlier()), ..plain() };
        let started = start("outlier", one(service, 2, None), &nodes(&[&first, &second]));
        let post = async || {
            let mut client = Raw::connect(address(&started)).await;
            let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1\r\n\r\nx");
            client.send(&head).await; // not sent again
            client.answer().await
        };
        first.status.set(503);
        let mut failures = 0;
        while failures < 3 {
            failures += u32::from(post().await.status() == "503");
        }
        assert_eq!(post().await.text(), "2");
        assert_eq!(post().await.text(), "2");
        first.status.set(200);
        while post().await.text() != "1" {} // it comes back
    });
}

#[test]
fn a_removed_endpoint_finishes_its_requests() {
    run(async {
        let (first, second) = (node("1").await, node("2").await);
        let slice = |service: BackendService, n: u8| {
            let mut slice = one(service, 1, None);
            slice.load_balancing.network_endpoint_groups = vec![group("a", &[declared(n)])];
            slice
        };
        let draining = |seconds: u32| BackendService { draining_timeout_sec: seconds, ..plain() };
        for (seconds, name) in [(0, "no-limit"), (1, "limit")] {
            first.slow.set(0);
            let mut started = start(name, slice(draining(seconds), 1), &nodes(&[&first, &second]));
            let mut client = Raw::connect(address(&started)).await;
            // A POST is not sent again.
            let head = format!("POST /slow HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n");
            client.send(&head).await;
            while first.slow.get() == 0 {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            started.reload(slice(draining(seconds), 2)).expect("a reload");
            assert_eq!(get(address(&started), HOST, "/").await.text(), "2");
            if seconds == 0 {
                first.release.notify_waiters();
                assert_eq!(client.answer().await.text(), "1", "to its own end");
            } else {
                let answer = client.answer().await;
                assert_eq!(answer.status(), "503", "cut when the time is over");
            }
        }
    });
}

#[test]
fn a_circuit_breaker_refuses_what_is_too_much() {
    run(async {
        let only = node("1").await;
        let breakers = CircuitBreakers { max_requests: Some(1), ..CircuitBreakers::default() };
        let service = BackendService { circuit_breakers: Some(breakers), ..plain() };
        let mut started = start("breaker", one(service, 1, None), &nodes(&[&only]));
        let overflow =
            "upstream connect error or disconnect/reset before headers. reset reason: overflow";
        for breakers in
            [None, Some(CircuitBreakers { max_connections: Some(1), ..CircuitBreakers::default() })]
        {
            only.slow.set(0);
            if breakers.is_some() {
                let service = BackendService { circuit_breakers: breakers, ..plain() };
                started.reload(one(service, 1, None)).expect("a reload");
            }
            let mut client = Raw::connect(address(&started)).await;
            client.send(&format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            while only.slow.get() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let refused = get(address(&started), HOST, "/").await;
            assert_eq!((refused.status(), refused.text()), ("503", overflow));
            only.release.notify_waiters();
            assert_eq!(client.answer().await.text(), "1");
            until(&started, all_say("1")).await;
        }
    });
}

#[test]
fn a_group_at_its_capacity_is_passed_over() {
    run(async {
        let (first, second) = (node("1").await, node("2").await);
        let backend = |name: &str, scaler: f64| Backend {
            balancing_mode: BalancingMode::Connection,
            max_per_group: Some(1.0),
            capacity_scaler: scaler,
            ..Backend::new(link("networkEndpointGroups", name))
        };
        let slice = |one: f64, other: f64| {
            let backends = vec![backend("one", one), backend("other", other)];
            let groups = vec![group("one", &[declared(1)]), group("other", &[declared(2)])];
            slice(&[(HOST, to("a"))], vec![BackendService { backends, ..plain() }], groups)
        };
        let mut started = start("capacity", slice(1.0, 0.0), &nodes(&[&first, &second]));
        let slow = format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let mut client = Raw::connect(address(&started)).await;
        client.send(&slow).await;
        while first.slow.get() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..4 {
            let answer = get(address(&started), HOST, "/").await;
            assert_eq!(answer.text(), "1", "the other one is drained: capacity is no breaker");
        }
        started.reload(slice(1.0, 1.0)).expect("a reload");
        for _ in 0..8 {
            assert_eq!(get(address(&started), HOST, "/").await.text(), "2");
        }
        first.release.notify_waiters();
        assert_eq!(client.answer().await.text(), "1");
        until(&started, both_answer).await;
        started.reload(slice(0.0, 0.0)).expect("a reload");
        assert_eq!(get(address(&started), HOST, "/").await.text(), "no healthy upstream");
    });
}

#[test]
fn a_connection_serves_so_many_requests_and_no_more() {
    run(async {
        for (name, protocol) in [("worn-h1", Protocol::Http), ("worn-h2", Protocol::H2c)] {
            let backend =
                support::server(ServerOptions::default(), async |_| Response::new(Body::full("1")))
                    .await;
            let breakers =
                CircuitBreakers { max_requests_per_connection: Some(2), ..Default::default() };
            let service = service("a", protocol, "a");
            let service = BackendService { circuit_breakers: Some(breakers), ..service };
            let started = start(name, one(service, 1, None), &[(1, backend.address)]);
            for (request, connections) in [1, 1, 2, 2, 3].into_iter().enumerate() {
                assert_eq!(get(address(&started), HOST, "/").await.text(), "1");
                assert_eq!(backend.accepted.borrow().0, connections, "{name} {request}");
            }
        }
    });
}

#[test]
fn checks_over_tls_and_http2_read_the_beginning_of_the_body() {
    run(async {
        let (chain, key) = certificate(&["anything"]);
        for (name, protocol, alpn) in
            [("https-check", Protocol::Https, "http/1.1"), ("http2-check", Protocol::Http2, "h2")]
        {
            let config = server_config(&[CertifiedPem { chain: &chain, key: &key }], &[alpn])
                .expect("a configuration");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let backend = listener.local_addr().expect("an address");
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let config = config.clone();
                    tokio::task::spawn_local(async move {
                        let limit = Duration::from_secs(5);
                        let Ok((stream, tls)) = accept(config, stream, limit).await else { return };
                        let info = ConnectionInfo { tls: Some(tls), ..ConnectionInfo::default() };
                        let handler = Rc::new(Said("backend".to_owned(), String::new()));
                        let options = ServerOptions::default();
                        let forever = std::future::pending();
                        serve(stream, Bytes::new(), Rc::new(info), handler, &options, forever)
                            .await;
                    });
                }
            });
            let expecting = |response: &str| {
                let probe = Probe::Http {
                    protocol,
                    host: "health.example.com".to_owned(),
                    request_path: "/health?deep=1".to_owned(),
                    response: response.to_owned(),
                };
                one(service("a", protocol, "a"), 1, Some(check(probe)))
            };
            let mut started = start(name, expecting("never said"), &[(1, backend)]);
            until(&started, all_say("no healthy upstream")).await;
            started.reload(expecting("GET /health?deep=1\n")).expect("a reload");
            until(&started, |all| all.iter().all(|answer| answer.status() == "200")).await;
        }
    });
}

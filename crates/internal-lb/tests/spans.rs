//! OpenTelemetry spans, as a collector gets them. The environment is the process's, so each test
//! here runs a child.

mod common;

use common::support::{self, Raw, run};
use common::*;
use http::{Request, Response, StatusCode};
use http_proxy::{Body, Handler, Incoming, ServerOptions, serve};
use serde_json::Value;
use slice::load_balancer::*;
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::Notify;

const ID: &str = "105445aa7843bc8bf206b12000100000";

fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command
}

fn all(export: &Value) -> Vec<Value> {
    export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").clone()
}

fn attribute<'a>(span: &'a Value, key: &str) -> Option<&'a str> {
    let found = span["attributes"].as_array()?.iter().find(|found| found["key"] == key)?;
    found["value"]["stringValue"].as_str().or_else(|| found["value"]["intValue"].as_str())
}

/// The collector at the supervisor's channel: gathers spans.
#[derive(Clone, Default)]
struct Collector {
    spans: Rc<RefCell<Vec<Value>>>,
    came: Rc<Notify>,
}

impl Handler for Collector {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _: &Rc<http_proxy::ConnectionInfo>,
    ) -> Response<Body> {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!(request.headers()["host"], "collector.invalid:4318");
        assert_eq!(request.headers()["x-key"], "secret");
        let text = request.into_body().collect(1 << 20).await.expect("a body");
        let export: Value = serde_json::from_slice(&text).expect("JSON");
        self.spans.borrow_mut().extend(all(&export));
        self.came.notify_one();
        Response::new(Body::full("{}"))
    }
}

impl Collector {
    fn listen(listener: UnixListener) -> Rc<Collector> {
        let collector = Rc::new(Collector::default());
        let handler = collector.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, options) = (handler.clone(), ServerOptions::default());
                tokio::task::spawn_local(async move {
                    let never = std::future::pending();
                    serve(stream, bytes::Bytes::new(), Rc::default(), handler, &options, never)
                        .await;
                });
            }
        });
        collector
    }

    async fn wait_for(&self, count: usize) -> Vec<Value> {
        while self.spans.borrow().len() < count {
            self.came.notified().await;
        }
        self.spans.borrow().clone()
    }
}

/// Not a test by itself: see [`every_request_and_every_try_has_a_span`].
#[test]
#[ignore = "run by every_request_and_every_try_has_a_span"]
fn requests_with_spans() {
    run(async {
        let asked = Rc::new(Cell::new(0));
        let parents = Rc::new(RefCell::new(Vec::new()));
        let (count, seen) = (asked.clone(), parents.clone());
        let backend =
            support::server(ServerOptions::default(), move |request: Request<Incoming>| {
                count.set(count.get() + 1);
                let text = |name: &str| request.headers()[name].to_str().expect("text").to_owned();
                seen.borrow_mut().push((text("traceparent"), text("x-cloud-trace-context")));
                let mut response = Response::new(Body::empty());
                if count.get() == 1 {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                std::future::ready(response)
            })
            .await;
        let shadow = support::server(ServerOptions::default(), mirror).await;
        let mirrored = RouteAction {
            request_mirror_policy: Some(RequestMirrorPolicy {
                backend_service: link("backendServices", "b"),
                mirror_percent: 100.0,
            }),
            ..RouteAction::default()
        };
        let slice = slice(
            &[
                ("a", to("a")),
                ("mirrored", Route { action: Some(Box::new(mirrored)), ..to("a") }),
                ("empty", to("empty")),
            ],
            ["a", "b", "empty"].map(|name| service(name, Protocol::Http, name)).to_vec(),
            vec![group("a", &[declared(1)]), group("b", &[declared(2)]), group("empty", &[])],
        );
        let backends = [(1, backend.address), (2, shadow.address)];
        let started = start("spans", slice, &backends);
        let channel = started.context().expect("a context").channel(slice::OTLP_CHANNEL);
        let collector = Collector::listen(UnixListener::bind(channel).expect("bind"));
        let at = address(&started);
        let ask = async |host: &str, path: &str, more: &str| {
            let mut client = Raw::connect(at).await;
            client.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")).await;
            client.answer().await
        };
        // Not sampled by its client, nor by the share.
        let unsampled = format!("traceparent: 00-{ID}-00000000000000ff-00\r\n");
        ask("empty", "/", &unsampled).await;
        ask("empty", "/", "").await;
        let sampled = format!("traceparent: 00-{ID}-00000000000000ff-01\r\n");
        assert_eq!(ask("a", "/known/x?q", &sampled).await.status(), "200");
        let spans = collector.wait_for(3).await;
        let of_kind = |spans: &[Value], kind: u64| -> Vec<Value> {
            spans.iter().filter(|span| span["kind"] == kind).cloned().collect()
        };
        let servers = of_kind(&spans, 2);
        assert_eq!((servers.len(), spans.len()), (1, 3), "{spans:#?}");
        let server = &servers[0];
        assert_eq!(server["traceId"], ID);
        assert_eq!(server["parentSpanId"], "00000000000000ff");
        assert_eq!(server["name"], "GET /known/*");
        for (key, value) in [
            ("http.route", "/known/*"),
            ("url.path", "/known/x"),
            ("url.query", "q"),
            ("url.scheme", "http"),
            ("http.response.status_code", "200"),
            ("server.address", "a"),
            ("client.address", "127.0.0.1"),
            ("postern.forwarding_rule", RULE),
        ] {
            assert_eq!(attribute(server, key), Some(value), "{key}");
        }
        let tries = of_kind(&spans, 3);
        assert!(tries.iter().all(|one| one["parentSpanId"] == server["spanId"]));
        for (one, status, resent) in [(&tries[0], "503", None), (&tries[1], "200", Some("1"))] {
            assert_eq!(attribute(one, "http.response.status_code"), Some(status));
            assert_eq!(attribute(one, "http.request.resend_count"), resent);
            assert_eq!(attribute(one, "server.address"), Some("10.0.9.1"));
        }
        assert_eq!(tries[0]["status"]["code"], 2);
        // The backend's spans will stand below those of the tries, in both notations.
        for (one, (parent, cloud)) in tries.iter().zip(parents.borrow().iter()) {
            let span = one["spanId"].as_str().expect("an id");
            assert_eq!(*parent, format!("00-{ID}-{span}-01"));
            let number = u64::from_str_radix(span, 16).expect("hexadecimal");
            assert_eq!(*cloud, format!("{ID}/{number};o=1"));
        }
        // A refusal has a span as well, and a copy for a mirror.
        ask("empty", "/", &sampled).await;
        ask("mirrored", "/", &sampled).await;
        let spans = collector.wait_for(7).await;
        let refused = spans.iter().find(|span| attribute(span, "server.address") == Some("empty"));
        let refused = refused.expect("a span of the refusal");
        assert_eq!(attribute(refused, "error.type"), Some("NETWORK_ENDPOINT_GROUP_EMPTY"));
        assert_eq!(refused["status"]["code"], 2);
        assert!(spans.iter().any(|span| span["name"] == "mirror"), "{spans:#?}");
    });
}

#[test]
fn every_request_and_every_try_has_a_span() {
    let output = child("requests_with_spans")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.invalid:4318")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
        .env("OTEL_TRACES_SAMPLER_ARG", "0")
        .output()
        .expect("a child");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// Not a test by itself: see [`without_a_supervisor_the_collector_is_dialled`].
#[test]
#[ignore = "run by without_a_supervisor_the_collector_is_dialled"]
fn one_request_until_standard_input_ends() {
    run(async {
        let slice = slice(
            &[("empty", to("empty"))],
            vec![service("empty", Protocol::Http, "empty")],
            vec![group("empty", &[])],
        );
        let started = start("spans-dialled", slice, &[]);
        assert_eq!(get(address(&started), "empty", "/").await.status(), "503");
        let wait = || std::io::stdin().read_to_end(&mut Vec::new());
        tokio::task::spawn_blocking(wait).await.expect("a thread").expect("an end");
    });
}

#[test]
fn without_a_supervisor_the_collector_is_dialled() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = format!("http://{}/base", listener.local_addr().expect("an address"));
    let mut child = child("one_request_until_standard_input_ends")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_SERVICE_NAME", "ilb")
        .stdin(Stdio::piped())
        .spawn()
        .expect("a child");
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut text = Vec::new();
    let body = loop {
        let mut some = [0; 4096];
        let n = stream.read(&mut some).expect("bytes");
        assert!(n > 0, "ended early");
        text.extend_from_slice(&some[..n]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.expect("a length").parse() == Ok(body.len()) {
            assert!(head.starts_with("POST /base/v1/traces HTTP/1.1"), "{head}");
            break body.to_owned();
        }
    };
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").expect("an answer");
    drop(child.stdin.take());
    assert!(child.wait().expect("an end").success());
    let export: Value = serde_json::from_str(&body).expect("JSON");
    let resource = &export["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(resource["value"]["stringValue"], "ilb");
    let spans = all(&export);
    assert_eq!(spans.len(), 1);
    assert_eq!(attribute(&spans[0], "http.response.status_code"), Some("503"));
    assert!(spans[0].get("parentSpanId").is_none());
}

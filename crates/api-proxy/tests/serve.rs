//! The whole program over loopback: bundles on disk, real targets, a real resolver, a real issuer.

mod support;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_proxy::{Body, BodyError, Version};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use support::{
    Certificates, Client, Folder, NAMES, PLAIN, issuer, mirror, resolver, run, slice, start,
    target, text,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

const ROUTE: &str = "<RouteRule name=\"r\"><TargetEndpoint>default</TargetEndpoint></RouteRule>";
const HTTP: &str =
    "<HTTPTargetConnection><URL>http://internal.example.com</URL></HTTPTargetConnection>";

fn connection(url: &str, more: &str) -> String {
    format!("<HTTPTargetConnection><URL>{url}</URL>{more}</HTTPTargetConnection>")
}

fn property(name: &str, value: &str) -> String {
    format!("<Properties><Property name=\"{name}\">{value}</Property></Properties>")
}

fn fault(code: &str, text: &str) -> String {
    format!("{{\"fault\":{{\"faultstring\":\"{text}\",\"detail\":{{\"errorcode\":\"{code}\"}}}}}}")
}

/// A payload that the test feeds.
struct Fed(mpsc::Receiver<&'static str>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn fed() -> (mpsc::Sender<&'static str>, Body) {
    let (sender, receiver) = mpsc::channel(8);
    (sender, Body::boxed(Fed(receiver)))
}

#[test]
fn a_request_reaches_its_target_with_an_id_token_that_is_kept() {
    run(async {
        let certificates = Certificates::new();
        let backend = target(Some(Certificates::self_signed("internal.example.com")), mirror).await;
        let (dns, asked) = resolver(NAMES).await;
        let folder = Folder::new("token");
        let url = connection(
            "https://internal.example.com/base",
            "<Authentication><GoogleIDToken><Audience ref=\"flow.audience\"/><IncludeEmail>true</IncludeEmail></GoogleIDToken></Authentication>",
        );
        let proxy =
            format!("<PostFlow><Request><Step><Name>A</Name></Step></Request></PostFlow>{ROUTE}");
        let audience = "<AssignMessage name=\"A\"><AssignVariable><Name>flow.audience</Name><Template>https:/{proxy.pathsuffix}-x.run.app</Template></AssignVariable></AssignMessage>";
        folder.bundle("crun", &proxy, &url, &[audience]);
        let started = start(
            &folder,
            slice(&folder, &["crun"], &certificates),
            dns,
            &[(PLAIN, 443, backend.address)],
        );
        let issuer = issuer(&started.context().expect("running").channel(slice::TOKEN_CHANNEL));
        let client = Client::new(&started, &certificates);
        for version in [Version::H1, Version::H2] {
            for _ in 0..2 {
                let headers = [
                    ("authorization", "Bearer mine"),
                    ("x-apigee-secret", "1"),
                    ("x-forwarded-for", "198.51.100.1"),
                ];
                let body = Body::full("hello");
                let response =
                    client.send(version, Method::POST, "/crun/login?x=1", &headers, body).await;
                assert_eq!(response.status(), 200);
                let seen = text(response).await;
                for line in [
                    "POST /base/login?x=1",
                    "host: internal.example.com",
                    "authorization: Bearer h1.eyJleHAiOjk5OTk5OTk5OTl9.s",
                    "x-forwarded-for: 198.51.100.1",
                    "x-forwarded-proto: https",
                    "x-forwarded-port: 443",
                    "content-length: 5",
                    "hello",
                ] {
                    assert!(seen.lines().any(|seen| seen == line), "{line}\n{seen}");
                }
                assert!(!seen.contains("x-apigee") && !seen.contains("connection:"), "{seen}");
            }
        }
        assert_eq!(issuer.minted.get(), 1, "one token for one audience");
        assert_eq!(
            *issuer.asked.borrow(),
            r#"/v1/projects/-/serviceAccounts/proxy@p.iam.gserviceaccount.com:generateIdToken {"audience":"https://login-x.run.app","includeEmail":true}"#
        );
        assert_eq!(asked.borrow().len(), 1, "one question for the time to live");
        assert_eq!(backend.accepted.get(), 1, "connections are kept");
        client.get("/crun/search").await;
        assert_eq!(issuer.minted.get(), 2, "another audience, another token");
    });
}

#[test]
fn the_platforms_own_answers_are_the_documented_ones() {
    run(async {
        let certificates = Certificates::new();
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("own");
        let fault_policy = "<RaiseFault name=\"RF\"><FaultResponse><Set><StatusCode>403</StatusCode><ReasonPhrase>No Way</ReasonPhrase><Payload contentType=\"text/plain\">no</Payload></Set></FaultResponse></RaiseFault>";
        folder.bundle("fault", "<PreFlow><Request><Step><Name>RF</Name></Step></Request></PreFlow><RouteRule name=\"n\"/>", "", &[fault_policy]);
        folder.bundle("echo", "<RouteRule name=\"n\"/>", "", &[]);
        folder.bundle(
            "lost",
            "<RouteRule name=\"n\"><Condition>false</Condition></RouteRule>",
            "",
            &[],
        );
        let started =
            start(&folder, slice(&folder, &["fault", "echo", "lost"], &certificates), dns, &[]);
        let client = Client::new(&started, &certificates);
        let not_found = "messaging.adaptors.http.flow.ApplicationNotFound";
        assert_eq!(
            client.get("/nothing/x?y=1").await,
            (
                404,
                fault(
                    not_found,
                    "Unable to identify proxy for host: api.example.com and url: \\/nothing\\/x"
                )
            )
        );
        let response = client
            .send(Version::H1, Method::GET, "/echo", &[("host", "other.example")], Body::empty())
            .await;
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(
            text(response).await,
            fault(not_found, "Unable to identify proxy for host: other.example and url: \\/echo")
        );
        assert_eq!(client.get("/lost").await.0, 500);
        // No target: the request's headers and payload come back.
        for version in [Version::H1, Version::H2] {
            let headers = [("x-mine", "1"), ("content-type", "text/plain")];
            let response =
                client.send(version, Method::POST, "/echo", &headers, Body::full("hello")).await;
            assert_eq!(
                (response.status(), &response.headers()["x-mine"]),
                (StatusCode::OK, &"1".parse().expect("a value"))
            );
            assert_eq!(text(response).await, "hello");
        }
        // The reason phrase stands in the status line.
        let mut stream = client.connect(Version::H1).await.expect("connected");
        stream
            .write_all(b"GET /fault HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n")
            .await
            .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 403 No Way\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
        // Heads that are too long.
        let long = format!("/echo?{}", "a".repeat(11_000));
        let (status, body) = client.get(&long).await;
        assert_eq!((status, body.contains("protocol.http.TooBigLine")), (414, true));
        let big = "b".repeat(26_000);
        let response =
            client.send(Version::H1, Method::GET, "/echo", &[("x-big", &big)], Body::empty()).await;
        assert_eq!(response.status(), 431);
        assert_eq!(
            text(response).await,
            fault("protocol.http.TooBigHeaders", "request headers size exceeding 25,600")
        );
    });
}

#[test]
fn network_failures_answer_as_documented() {
    run(async {
        let certificates = Certificates::new();
        let backend = target(None, |request| async move {
            match request.uri().path() {
                "/slow" => std::future::pending().await,
                "/error" => {
                    let mut response = Response::new(Body::full("down"));
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    response.headers_mut().insert("x-from", "target".parse().expect("a value"));
                    response
                }
                _ => mirror(request).await,
            }
        })
        .await;
        // Accepts and closes at once.
        let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let closing_at = closing.local_addr().expect("an address");
        tokio::task::spawn_local(async move { while closing.accept().await.is_ok() {} });
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let refused_at = nobody.local_addr().expect("an address");
        drop(nobody);
        // Its queue is full: nobody accepts.
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("failures");
        let http = |host: &str, more: &str| connection(&format!("http://{host}"), more);
        let slow = property("io.timeout.millis", "100");
        folder.bundle("slow", ROUTE, &http("internal.example.com", &slow), &[]);
        folder.bundle("error", ROUTE, &http("internal.example.com/error", ""), &[]);
        folder.bundle("unknown", ROUTE, &http("unknown.example.com", ""), &[]);
        folder.bundle("refused", ROUTE, &http("closed.example.com", ""), &[]);
        folder.bundle("closing", ROUTE, &http("silent.example.com", ""), &[]);
        let budget = format!(
            "<HTTPProxyConnection><BasePath>/budget</BasePath>{}</HTTPProxyConnection>{ROUTE}",
            property("api.timeout", "100")
        );
        folder.bundle("budget", &budget, &http("internal.example.com/slow", ""), &[]);
        let token = "<Authentication><GoogleIDToken><Audience>https://a</Audience></GoogleIDToken></Authentication>";
        folder.bundle("nobody", ROUTE, &http("internal.example.com", token), &[]);
        let names = ["slow", "error", "unknown", "refused", "closing", "budget", "nobody"];
        let places = [
            (PLAIN, 80, backend.address),
            (NAMES[2].1, 80, refused_at),
            (NAMES[3].1, 80, closing_at),
        ];
        let started = start(&folder, slice(&folder, &names, &certificates), dns, &places);
        issuer(&started.context().expect("running").channel(slice::TOKEN_CHANNEL));
        let client = Client::new(&started, &certificates);
        let flow = |name: &str| format!("messaging.adaptors.http.flow.{name}");
        let unavailable =
            fault(&flow("ServiceUnavailable"), "The Service is temporarily unavailable");
        for (path, status, body) in [
            ("/unknown", 503, unavailable.clone()),
            ("/refused", 503, unavailable),
            ("/closing", 502, fault(&flow("UnexpectedEOFAtTarget"), "Unexpected EOF at target")),
            ("/slow/slow", 504, "{\"fault\":{\"faultstring\":\"Gateway Timeout\",\"detail\":{\"errorcode\":\"messaging.adaptors.http.flow.GatewayTimeout\",\"reason\":\"TARGET_READ_TIMEOUT\"}}}".to_owned()),
            ("/budget", 504, fault("flow.APITimedOut", "API timed out")),
            ("/error", 503, "down".to_owned()),
        ] {
            assert_eq!(client.get(path).await, (status, body), "{path}");
        }
        let response = client.send(Version::H1, Method::GET, "/error", &[], Body::empty()).await;
        assert_eq!(response.headers()["x-from"], "target", "the target's own answer passes");
        let (status, body) = client.get("/nobody").await;
        assert_eq!(status, 500);
        assert!(
            body.contains("messaging.adaptors.http.filter.GoogleTokenGenerationFailure"),
            "{body}"
        );
    });
}

#[test]
fn certificates_of_targets_are_checked_as_ssl_info_says() {
    run(async {
        let certificates = Certificates::new();
        let own = target(Some(Certificates::self_signed("internal.example.com")), mirror).await;
        let signed = target(Some(certificates.leaf("internal.example.com")), mirror).await;
        let plain = target(None, mirror).await;
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("tls");
        let enforce = "<SSLInfo><Enabled>true</Enabled><Enforce>true</Enforce></SSLInfo>";
        let ignore = "<SSLInfo><Enabled>true</Enabled><IgnoreValidationErrors>true</IgnoreValidationErrors></SSLInfo>";
        let versions = "<SSLInfo><Enabled>true</Enabled><Enforce>true</Enforce><Protocols><Protocol>TLSv1.2</Protocol></Protocols></SSLInfo>";
        let name = "SSL Handshake failed java.security.cert.CertificateException: No subject alternative DNS name matching other.example.com found.";
        let path = "SSL Handshake failed sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to requested target";
        let cases = [
            ("default-own", "https://internal.example.com", "", 200, ""),
            ("default-name", "https://other.example.com", "", 503, name),
            ("enforce-own", "https://internal.example.com", enforce, 503, path),
            ("enforce-signed", "https://internal.example.com:8443", enforce, 200, ""),
            ("enforce-name", "https://other.example.com:8443", enforce, 503, name),
            ("ignore-name", "https://other.example.com", ignore, 200, ""),
            ("tls12", "https://internal.example.com:8443", versions, 200, ""),
            (
                "no-tls",
                "https://internal.example.com:8080",
                "",
                503,
                "SSL Handshake failed javax.net.ssl",
            ),
        ];
        for (bundle, url, ssl_info, _, _) in &cases {
            folder.bundle(bundle, ROUTE, &connection(url, ssl_info), &[]);
        }
        let names: Vec<&str> = cases.iter().map(|case| case.0).collect();
        let places = [
            (PLAIN, 443, own.address),
            (PLAIN, 8443, signed.address),
            (PLAIN, 8080, plain.address),
        ];
        let started = start(&folder, slice(&folder, &names, &certificates), dns, &places);
        let client = Client::new(&started, &certificates);
        for (bundle, _, _, status, text) in cases {
            let (found, body) = client.get(&format!("/{bundle}")).await;
            assert_eq!(found, status, "{bundle}: {body}");
            assert!(body.contains(text), "{bundle}: {body}");
            if status == 503 {
                assert!(body.contains("messaging.adaptors.http.flow.SslHandshakeFailed"), "{body}");
            }
        }
    });
}

#[test]
fn payloads_are_limited_unless_they_are_streamed() {
    run(async {
        let certificates = Certificates::new();
        let backend = target(None, |request| async move {
            if request.uri().path() == "/chunked" {
                let (sender, body) = fed();
                tokio::task::spawn_local(async move {
                    for _ in 0..20 {
                        let _ = sender.send("0123456789".repeat(10).leak()).await;
                    }
                });
                return Response::new(body);
            }
            if request.uri().path() == "/small" {
                let (sender, body) = fed();
                let _ = sender.send("small").await;
                return Response::new(body);
            }
            mirror(request).await
        })
        .await;
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("limits");
        let limited = format!(
            "<HTTPProxyConnection><BasePath>/limited</BasePath>{}</HTTPProxyConnection>{ROUTE}",
            property("request.payload.parse.limit", "1K")
        );
        folder.bundle(
            "limited",
            &limited,
            &connection(
                "http://internal.example.com",
                &property("response.payload.parse.limit", "1K"),
            ),
            &[],
        );
        let streamed = format!(
            "<HTTPProxyConnection><BasePath>/streamed</BasePath><Properties><Property name=\"request.streaming.enabled\">true</Property><Property name=\"response.streaming.enabled\">true</Property><Property name=\"request.payload.parse.limit\">1K</Property></Properties></HTTPProxyConnection>{ROUTE}"
        );
        folder.bundle(
            "streamed",
            &streamed,
            &connection(
                "http://internal.example.com",
                &property("response.payload.parse.limit", "1K"),
            ),
            &[],
        );
        let reads = format!(
            "<PreFlow><Request><Step><Name>A</Name></Step></Request><Response><Step><Name>B</Name></Step></Response></PreFlow>{ROUTE}"
        );
        folder.bundle("reads", &reads, HTTP, &[
            "<AssignMessage name=\"A\"><Set><Headers><Header name=\"x-was\">{request.content}</Header></Headers><Payload>changed</Payload></Set></AssignMessage>",
            "<AssignMessage name=\"B\"><Set><Payload>[{response.content}]</Payload></Set></AssignMessage>",
        ]);
        let started = start(
            &folder,
            slice(&folder, &["limited", "streamed", "reads"], &certificates),
            dns,
            &[(PLAIN, 80, backend.address)],
        );
        let client = Client::new(&started, &certificates);
        let too_big = fault("protocol.http.TooBigBody", "Body buffer overflow");
        let post = async |path: &str, body: Body| {
            let response = client.send(Version::H1, Method::POST, path, &[], body).await;
            (response.status().as_u16(), text(response).await)
        };
        // A known length, an unknown one, of the request and of the response.
        assert_eq!(post("/limited", Body::full("x".repeat(2000))).await, (413, too_big.clone()));
        let (sender, body) = fed();
        tokio::task::spawn_local(async move {
            for _ in 0..20 {
                let _ = sender.send("0123456789".repeat(10).leak()).await;
            }
        });
        assert_eq!(post("/limited", body).await, (413, too_big.clone()));
        assert_eq!(
            post("/limited", Body::full("x".repeat(1000))).await,
            (502, too_big.clone()),
            "the mirror adds the headers"
        );
        assert_eq!(client.get("/limited/chunked").await, (502, too_big));
        assert_eq!(client.get("/limited/small").await, (200, "small".to_owned()));
        // Streaming takes the limits off.
        let (status, body) = post("/streamed", Body::full("x".repeat(5000))).await;
        assert_eq!((status, body.ends_with(&"x".repeat(5000))), (200, true));
        assert_eq!(client.get("/streamed/chunked").await.1.len(), 2000);
        // Policies read and replace.
        let (status, body) = post("/reads", Body::full("before")).await;
        assert_eq!(status, 200);
        assert!(body.starts_with('[') && body.ends_with("changed]"), "{body}");
        assert!(body.contains("x-was: before"), "{body}");
        // What is no chunk is the client's mistake, not its slowness.
        for path in ["/limited", "/reads", "/streamed"] {
            let mut stream = client.connect(Version::H1).await.expect("a connection");
            let head = "host: api.example.com\r\ntransfer-encoding: chunked\r\n\r\n";
            let request = format!("POST {path} HTTP/1.1\r\n{head}3\r\nabc\r\nZZ\r\n");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            while !answer.ends_with(b"}}") {
                assert!(stream.read_buf(&mut answer).await.is_ok_and(|read| read > 0), "{path}");
            }
            let answer = String::from_utf8_lossy(&answer);
            assert!(
                answer.starts_with("HTTP/1.1 400 ") && answer.contains("BadFormData"),
                "{answer}"
            );
        }
    });
}

#[test]
fn streams_pass_as_they_come() {
    run(async {
        let certificates = Certificates::new();
        let (events, body) = fed();
        let body = Rc::new(std::cell::RefCell::new(Some(body)));
        let backend = target(None, move |request| {
            let body = body.clone();
            async move {
                if request.uri().path() == "/events" {
                    let mut response = Response::new(body.borrow_mut().take().expect("asked once"));
                    response
                        .headers_mut()
                        .insert("content-type", "text/event-stream".parse().expect("a value"));
                    return response;
                }
                let mut incoming = request.into_body();
                let (sender, body) = fed();
                tokio::task::spawn_local(async move {
                    while let Some(Ok(frame)) = incoming.frame().await {
                        if let Ok(data) = frame.into_data() {
                            let _ = sender
                                .send(String::from_utf8_lossy(&data).into_owned().leak())
                                .await;
                        }
                    }
                });
                Response::new(body)
            }
        })
        .await;
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("streams");
        let streamed = format!(
            "<HTTPProxyConnection><BasePath>/s</BasePath><Properties><Property name=\"request.streaming.enabled\">true</Property><Property name=\"response.streaming.enabled\">true</Property></Properties></HTTPProxyConnection>{ROUTE}"
        );
        folder.bundle("s", &streamed, HTTP, &[]);
        folder.bundle("sse", ROUTE, HTTP, &[]);
        let started = start(
            &folder,
            slice(&folder, &["s", "sse"], &certificates),
            dns,
            &[(PLAIN, 80, backend.address)],
        );
        let client = Client::new(&started, &certificates);
        let response =
            client.send(Version::H1, Method::GET, "/sse/events", &[], Body::empty()).await;
        let mut stream = response.into_body();
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            events.send(event).await.expect("the target lives");
            let frame = stream.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), event);
        }
        drop(stream);
        // Both ways at once.
        for version in [Version::H1, Version::H2] {
            let (sender, body) = fed();
            sender.send("one").await.expect("room");
            let response = client.send(version, Method::POST, "/s/echo", &[], body).await;
            let mut stream = response.into_body();
            assert_eq!(
                stream
                    .frame()
                    .await
                    .expect("a frame")
                    .expect("no error")
                    .into_data()
                    .expect("data"),
                "one"
            );
            sender.send("two").await.expect("room");
            assert_eq!(
                stream
                    .frame()
                    .await
                    .expect("a frame")
                    .expect("no error")
                    .into_data()
                    .expect("data"),
                "two"
            );
            drop(sender);
            // HTTP/2 ends with an empty frame of data.
            while let Some(frame) = stream.frame().await {
                assert_eq!(frame.expect("no error").into_data().expect("data"), "");
            }
        }
    });
}

#[test]
fn websockets_pass_through() {
    run(async {
        let certificates = Certificates::new();
        let backend = target(None, |request| async move {
            let (parts, mut body) = request.into_parts();
            let upgrade = body.take_upgrade().expect("an upgrade");
            tokio::task::spawn_local(async move {
                let mut io = upgrade.io().await.expect("the connection");
                let mut buffer = [0; 4];
                while io.read_exact(&mut buffer).await.is_ok() {
                    io.write_all(&buffer).await.expect("sent");
                }
            });
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("upgrade", "websocket".parse().expect("a value"));
            let key = parts.headers["sec-websocket-key"].clone();
            response.headers_mut().insert("sec-websocket-accept", key);
            response
        })
        .await;
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("websocket");
        folder.bundle("ws", ROUTE, HTTP, &[]);
        let started = start(
            &folder,
            slice(&folder, &["ws"], &certificates),
            dns,
            &[(PLAIN, 80, backend.address)],
        );
        let client = Client::new(&started, &certificates);
        let mut stream = client.connect(Version::H1).await.expect("connected");
        stream
            .write_all(b"GET /ws HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n")
            .await
            .expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(
            head.contains("upgrade: websocket") && head.contains("sec-websocket-accept: k"),
            "{head}"
        );
        for part in [b"ping", b"pong"] {
            stream.write_all(part).await.expect("sent");
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed).await.expect("an echo");
            assert_eq!(&echoed, part);
        }
    });
}

#[test]
fn bodiless_answers_keep_what_they_say() {
    run(async {
        let certificates = Certificates::new();
        let backend = target(None, |request| async move {
            let mut response = Response::new(Body::empty());
            match request.uri().path() {
                "/304" => *response.status_mut() = StatusCode::NOT_MODIFIED,
                "/204" => *response.status_mut() = StatusCode::NO_CONTENT,
                _ => {
                    response.headers_mut().insert("content-length", "77".parse().expect("a value"));
                }
            }
            response
        })
        .await;
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("bodiless");
        folder.bundle("b", ROUTE, HTTP, &[]);
        let started = start(
            &folder,
            slice(&folder, &["b"], &certificates),
            dns,
            &[(PLAIN, 80, backend.address)],
        );
        let client = Client::new(&started, &certificates);
        for version in [Version::H1, Version::H2] {
            for (method, path, status, length) in [
                (Method::HEAD, "/b/x", 200, Some("77")),
                (Method::GET, "/b/304", 304, None),
                (Method::GET, "/b/204", 204, None),
            ] {
                let response = client.send(version, method, path, &[], Body::empty()).await;
                assert_eq!(response.status(), status, "{path}");
                let found =
                    response.headers().get("content-length").and_then(|value| value.to_str().ok());
                if length.is_some() {
                    assert_eq!(found, length, "{path}");
                }
                assert!(response.into_body().is_end_stream() || status != 204);
            }
        }
    });
}

#[test]
fn a_reload_is_one_swap_and_forgets_no_count() {
    run(async {
        let certificates = Certificates::new();
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("reload");
        let proxy = "<PreFlow><Request><Step><Name>VA</Name></Step><Step><Name>Q</Name></Step><Step><Name>A</Name></Step></Request></PreFlow><RouteRule name=\"n\"/>";
        let key =
            "<VerifyAPIKey name=\"VA\"><APIKey ref=\"request.header.x-apikey\"/></VerifyAPIKey>";
        let quota = "<Quota name=\"Q\"><UseQuotaConfigInAPIProduct stepName=\"VA\"/></Quota>";
        let say = |text: &str| {
            format!(
                "<AssignMessage name=\"A\"><Set><Payload>{text}</Payload></Set></AssignMessage>"
            )
        };
        folder.bundle("r", proxy, "", &[key, quota, &say("one")]);
        let slice = slice(&folder, &["r"], &certificates);
        let mut started = start(&folder, slice.clone(), dns, &[]);
        let client = Client::new(&started, &certificates);
        let call = async || {
            let headers = [("x-apikey", "key")];
            let response =
                client.send(Version::H1, Method::GET, "/r", &headers, Body::empty()).await;
            (response.status().as_u16(), text(response).await)
        };
        assert_eq!(call().await, (200, "one".to_owned()));
        // A bad bundle changes nothing and says so, with file and line.
        folder.bundle(
            "r",
            proxy,
            "",
            &[key, quota, "<AssignMessage name=\"A\">\n<Nope/></AssignMessage>"],
        );
        let error = started.reload(slice.clone()).expect_err("a bad bundle");
        assert!(
            error.contains("apiproxy/policies/p2.xml:2:1: error UNSUPPORTED_ELEMENT"),
            "{error}"
        );
        assert_eq!(call().await, (200, "one".to_owned()));
        // A good one is in force at once; the quota of two is used up.
        folder.bundle("r", proxy, "", &[key, quota, &say("two")]);
        started.reload(slice).expect("a good bundle");
        let (status, body) = call().await;
        assert_eq!(status, 429, "{body}");
        assert!(
            body.contains(
                "Rate limit quota violation. Quota limit  exceeded. Identifier : _default"
            ),
            "{body}"
        );
    });
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    run(async {
        let certificates = Certificates::new();
        let (asked, mut asked_now) = mpsc::channel(8);
        let backend = target(None, move |request| {
            let asked = asked.clone();
            async move {
                let _ = asked.send(()).await;
                match request.uri().path() {
                    "/slow" => std::future::pending().await,
                    _ => mirror(request).await,
                }
            }
        })
        .await;
        let (dns, _) = resolver(NAMES).await;
        let folder = Folder::new("vanish");
        folder.bundle("v", ROUTE, HTTP, &[]);
        let started = start(
            &folder,
            slice(&folder, &["v"], &certificates),
            dns,
            &[(PLAIN, 80, backend.address)],
        );
        let client = Client::new(&started, &certificates);
        for _ in 0..3 {
            let mut stream = client.connect(Version::H1).await.expect("connected");
            stream
                .write_all(b"GET /v/slow HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
                .await
                .expect("sent");
            asked_now.recv().await.expect("the target was asked");
            drop(stream);
        }
        // Garbage, plain HTTP on the TLS port, half a head: the program lives.
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x00\x05hello"] {
            let mut stream =
                tokio::net::TcpStream::connect(client.address).await.expect("connected");
            let _ = stream.write_all(garbage).await;
            let mut rest = Vec::new();
            let _ =
                tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        }
        let mut stream = client.connect(Version::H1).await.expect("connected");
        stream.write_all(b"GET /v HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(client.get("/v/x").await.0, 200);
    });
}

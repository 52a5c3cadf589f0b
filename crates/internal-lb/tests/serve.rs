//! The whole program over loopback: a hand-made slice, foreign bytes in front, real backends behind.

#[path = "../../http-proxy/tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_proxy::tls::{CertifiedPem, accept, client_config, connect, server_config};
use http_proxy::{
    Body, ConnectionInfo, Handler, Incoming, Pool, PoolOptions, ServerOptions, Version, serve,
};
use internal_lb::InternalLb;
use names::{NetworkId, Origin, SelfLink};
use proxy_protocol::Header;
use runtime::testing::{Place, Started};
use slice::load_balancer::{
    BackendService, CloudRunEndpoints, Endpoints, ForwardingRule, HostRule, InternalLbSlice,
    KnownService, LoadBalancing, NetworkEndpointGroup, PathMatcher, PathRule, RouteAction,
    SslCertificate, TargetProxy, UrlMap, UrlRedirect,
};
use slice::{Notice, Placement, Workload};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Raw, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const RULE: &str = "projects/p/regions/europe-west1/forwardingRules/ilb";

fn link(collection: &str, name: &str) -> SelfLink {
    SelfLink::regional("p", "europe-west1", collection, name)
}

fn network() -> NetworkId {
    NetworkId::new("p", "ilb-network")
}

fn state_dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("ilb-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// `10.0.9.N:80`, placed where a backend of the test really listens.
fn declared(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 9, n), 80)
}

fn service(name: &str, protocol: &str, group: &str) -> BackendService {
    BackendService {
        self_link: link("backendServices", name),
        protocol: protocol.to_owned(),
        timeout_sec: None,
        backends: vec![link("networkEndpointGroups", group)],
        custom_request_headers: Vec::new(),
        custom_response_headers: Vec::new(),
    }
}

fn group(name: &str, addresses: &[SocketAddrV4]) -> NetworkEndpointGroup {
    NetworkEndpointGroup {
        self_link: link("networkEndpointGroups", name),
        endpoints: Endpoints::NonGcpPrivateIpPort(addresses.to_vec()),
    }
}

fn serverless(name: &str, url_mask: &str) -> NetworkEndpointGroup {
    let known = |name: &str, tags: &[&str]| KnownService {
        name: name.to_owned(),
        tags: tags.iter().map(|tag| tag.to_string()).collect(),
    };
    NetworkEndpointGroup {
        self_link: link("networkEndpointGroups", name),
        endpoints: Endpoints::CloudRun(CloudRunEndpoints {
            project: "p".to_owned(),
            region: "europe-west1".to_owned(),
            service: None,
            tag: None,
            url_mask: Some(url_mask.to_owned()),
            services: Arc::new(vec![known("login", &["blue"]), known("orders", &[])]),
        }),
    }
}

/// Host rules `HOST` → service; the default is the first one.
fn slice(
    routes: &[(&str, RouteAction)],
    services: Vec<BackendService>,
    groups: Vec<NetworkEndpointGroup>,
) -> InternalLbSlice {
    let matcher = |(host, action): &(&str, RouteAction)| PathMatcher {
        name: host.replace('.', "-"),
        default: action.clone(),
        path_rules: vec![PathRule { paths: vec!["/known/*".to_owned()], action: action.clone() }],
    };
    let rule = |(host, _): &(&str, RouteAction)| HostRule {
        hosts: vec![host.to_string()],
        path_matcher: host.replace('.', "-"),
    };
    InternalLbSlice {
        network: network(),
        load_balancing: LoadBalancing {
            forwarding_rules: vec![ForwardingRule {
                self_link: SelfLink::new(RULE),
                network: network(),
                region: "europe-west1".to_owned(),
                address: Ipv4Addr::new(10, 0, 0, 5),
                port: 80,
                allow_global_access: false,
                target: TargetProxy {
                    self_link: link("targetHttpProxies", "proxy"),
                    url_map: link("urlMaps", "map"),
                    ssl_certificates: Vec::new(),
                    https: false,
                    http_keep_alive_timeout_sec: 610,
                },
            }],
            url_maps: vec![UrlMap {
                self_link: link("urlMaps", "map"),
                default: routes[0].1.clone(),
                host_rules: routes.iter().map(rule).collect(),
                path_matchers: routes.iter().map(matcher).collect(),
                tests: Vec::new(),
            }],
            backend_services: services,
            network_endpoint_groups: groups,
        },
    }
}

fn to(service: &str) -> RouteAction {
    RouteAction::Service(link("backendServices", service))
}

fn start(name: &str, slice: InternalLbSlice, backends: &[(u8, SocketAddr)]) -> Started<InternalLb> {
    let placements = backends
        .iter()
        .map(|(n, actual)| Placement {
            network: network(),
            declared: declared(*n),
            actual: *actual,
        })
        .collect();
    let place =
        Place { state_dir: state_dir(name), network: Some(network()), workers: 1, placements };
    Started::start(slice, place).expect("the program starts")
}

fn address(started: &Started<InternalLb>) -> SocketAddr {
    started.address(RULE).expect("a listener")
}

async fn get(address: SocketAddr, host: &str, path: &str) -> support::Answer {
    let mut client = Raw::connect(address).await;
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    client.answer().await
}

/// Answers with what it saw of the request: one `name: value` line per header.
async fn mirror(request: Request<Incoming>) -> Response<Body> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = request.into_body().collect(1 << 20).await.unwrap_or_default();
    text.push_str(&String::from_utf8_lossy(&body));
    Response::new(Body::full(text))
}

#[test]
fn a_request_reaches_an_address_with_the_load_balancers_headers() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let mut with_headers = service("plain", "HTTP", "group");
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
fn refusals_have_the_documented_status_and_body() {
    run(async {
        let redirect = RouteAction::UrlRedirect(UrlRedirect {
            host_redirect: Some("b.example.com".to_owned()),
            status: 308,
            ..UrlRedirect::default()
        });
        let slice = slice(
            &[
                ("mask.example.com", to("mask")),
                ("empty.example.com", to("empty")),
                ("redirect.example.com", redirect),
            ],
            vec![service("mask", "HTTP", "mask"), service("empty", "HTTP", "empty")],
            vec![serverless("mask", "mask.example.com/app/<service>"), group("empty", &[])],
        );
        let started = start("refusals", slice, &[]);
        let at = address(&started);
        for (host, path, status, body, header) in [
            ("mask.example.com", "/other/login", "404", "", "content-length: 0"),
            ("mask.example.com", "/app/unknown", "404", "", "content-length: 0"),
            ("mask.example.com", "/app/Login", "404", "", "content-length: 0"),
            ("empty.example.com", "/", "503", "no healthy upstream", "content-type: text/plain"),
            ("mask.example.com", "/a/../b?c", "302", "", "location: http://mask.example.com/b?c"),
            ("redirect.example.com", "/x?y", "308", "", "location: http://b.example.com/x?y"),
        ] {
            let answer = get(at, host, path).await;
            assert_eq!((answer.status(), answer.text()), (status, body), "{host}{path}");
            assert!(answer.has(header), "{host}{path}: {}", answer.head);
        }
        let mut client = Raw::connect(at).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), "400");
        let mut client = Raw::connect(at).await;
        client.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), "404");
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
                service("turns", "HTTP", "turns"),
                service("half", "HTTP", "half"),
                service("dead", "HTTP", "dead"),
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
            vec![service("a", "HTTP", "a")],
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
        let mut late = service("late", "HTTP", "late");
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

/// What stands behind the channel `cloud-run`: PROXY v2, then HTTP in either version.
struct CloudRun {
    connections: Arc<Mutex<Vec<(Origin, String, SocketAddrV4)>>>,
}

struct Said(String);

impl Handler for Said {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let version = request.version();
        let mut response = mirror(request).await;
        response.headers_mut().insert("x-service", self.0.parse().expect("a value"));
        response
            .headers_mut()
            .insert("x-version", format!("{version:?}").parse().expect("a value"));
        response
    }
}

fn cloud_run(started: &Started<InternalLb>) -> CloudRun {
    let path = started.context().expect("a context").channel(slice::CLOUD_RUN_CHANNEL);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("a folder");
    }
    let listener = tokio::net::UnixListener::bind(path).expect("bind");
    let connections = Arc::new(Mutex::new(Vec::new()));
    let seen = connections.clone();
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::task::spawn_local(async move {
                let mut read = Vec::new();
                let (header, length) = loop {
                    if let Some(found) = Header::decode(&read).expect("a PROXY header") {
                        break found;
                    }
                    stream.read_buf(&mut read).await.expect("read");
                };
                let (link, tag) = header.service().expect("a TLV").expect("a service");
                let service = format!("{link}#{}", tag.unwrap_or("-"));
                let origin = header.origin().expect("a TLV").expect("an origin");
                let source = header.source_v4().expect("a source");
                seen.lock().expect("lock").push((origin, service.clone(), source));
                let rest = Bytes::from(read).split_off(length);
                let handler = Rc::new(Said(service));
                let options = ServerOptions::default();
                serve(stream, rest, Rc::default(), handler, &options, std::future::pending()).await;
            });
        }
    });
    CloudRun { connections }
}

#[test]
fn cloud_run_learns_origin_and_service_and_never_from_http() {
    run(async {
        let slice = slice(
            &[("apps.example.com", to("apps"))],
            vec![service("apps", "HTTP", "apps")],
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
            vec![service("ws", "HTTP", "ws")],
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

fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(names).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

fn over_tls(mut slice: InternalLbSlice, certificates: &[(String, String)]) -> InternalLbSlice {
    let rule = &mut slice.load_balancing.forwarding_rules[0];
    rule.port = 443;
    rule.target.https = true;
    rule.target.ssl_certificates = certificates
        .iter()
        .enumerate()
        .map(|(n, (certificate, private_key))| SslCertificate {
            self_link: link("sslCertificates", &format!("c{n}")),
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            domains: Vec::new(),
        })
        .collect();
    slice
}

#[test]
fn https_speaks_both_versions_and_grpc_is_refused_in_its_own_way() {
    run(async {
        let slice = slice(
            &[("apps.example.com", to("apps"))],
            vec![service("apps", "HTTP", "apps")],
            vec![serverless("apps", "<tag>.example.com/<service>")],
        );
        let certificate = certificate(&["blue.example.com"]);
        let slice = over_tls(slice, std::slice::from_ref(&certificate));
        let started = start("tls", slice, &[]);
        let cloud_run = cloud_run(&started);
        let at = address(&started);
        let pool = Pool::new(PoolOptions::default());
        let ask = |version: Version, request: Request<Body>| {
            let alpn = if version == Version::H2 { "h2" } else { "http/1.1" };
            let trust = client_config(&certificate.0, &[alpn]).expect("a configuration");
            let dial = move || async move {
                connect(trust, "blue.example.com", TcpStream::connect(at).await?).await
            };
            let pool = &pool;
            async move { pool.send(&version, version, dial, request).await.expect("a response") }
        };
        let request = |path: &str| {
            Request::builder()
                .uri(path)
                .header("host", "blue.example.com")
                .body(Body::empty())
                .expect("a request")
        };
        for version in [Version::H1, Version::H2] {
            let response = ask(version, request("/login")).await;
            let headers = response.headers();
            assert_eq!(
                headers["x-service"],
                "projects/p/locations/europe-west1/services/login#blue"
            );
            let as_the_client = if version == Version::H2 { "HTTP/2.0" } else { "HTTP/1.1" };
            assert_eq!(headers["x-version"], as_the_client);
            let text = response.into_body().collect(10_000).await.expect("a body");
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(
                text.contains("x-forwarded-proto: https")
                    && text.contains("host: blue.example.com"),
                "{text}"
            );
        }
        assert_eq!(cloud_run.connections.lock().expect("lock").len(), 2);
        let mut grpc = request("/unknown");
        *grpc.method_mut() = Method::POST;
        grpc.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
        let response = ask(Version::H2, grpc).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &"12".parse().expect("a value"))
        );
        // The client answers the server's GOAWAY, so it must not be blocked meanwhile.
        tokio::task::spawn_blocking(move || drop(started)).await.expect("a clean end");
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
                        let handler = Rc::new(Said("backend".to_owned()));
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
                service("https", "HTTPS", "https"),
                service("http2", "HTTP2", "http2"),
                service("h2c", "H2C", "h2c"),
                service("wrong", "HTTPS", "h2c"),
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

#[test]
fn a_client_of_another_region_hears_nothing() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let slice = slice(
            &[("a.example.com", to("a"))],
            vec![service("a", "HTTP", "a")],
            vec![group("a", &[declared(1)])],
        );
        let mut started = start("region", slice.clone(), &[(1, backend.address)]);
        let workload = |region: &str| Workload {
            name: "exec-1".to_owned(),
            network: network(),
            address: Ipv4Addr::LOCALHOST,
            project: "p".to_owned(),
            project_number: 1,
            region: region.to_owned(),
            zone: format!("{region}-b"),
            tags: Vec::new(),
            service_account: None,
            instance_id: "1".to_owned(),
            serverless: false,
            metadata: Default::default(),
        };
        started.notice(Notice::Workloads(vec![workload("us-central1")]));
        let mut client = Raw::connect(address(&started)).await;
        client.send("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
        let silent =
            tokio::time::timeout(Duration::from_millis(300), client.stream.read_u8()).await;
        assert!(silent.is_err(), "not a byte and not an end");
        let mut global = slice;
        global.load_balancing.forwarding_rules[0].allow_global_access = true;
        started.reload(global).expect("a reload");
        assert_eq!(get(address(&started), "a.example.com", "/").await.status(), "200");
        started.notice(Notice::Workloads(vec![workload("europe-west1")]));
        assert_eq!(get(address(&started), "a.example.com", "/").await.status(), "200");
    });
}

#[test]
fn a_reload_changes_the_next_request_of_a_live_connection_and_a_bad_one_nothing() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let old = slice(
            &[("a.example.com", to("a"))],
            vec![service("a", "HTTP", "a")],
            vec![group("a", &[declared(1)])],
        );
        let certificate = certificate(&["a.example.com"]);
        let mut started = start("reload", old.clone(), &[(1, backend.address)]);
        let mut client = Raw::connect(address(&started)).await;
        let mut ask = async |expected: &str| {
            client.send("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n").await;
            assert_eq!(client.answer().await.status(), expected);
        };
        ask("200").await;
        let mut empty = old.clone();
        empty.load_balancing.network_endpoint_groups[0].endpoints =
            Endpoints::NonGcpPrivateIpPort(Vec::new());
        started.reload(empty).expect("a reload");
        ask("503").await;
        started.reload(old.clone()).expect("a reload");
        ask("200").await;
        let bad = over_tls(old.clone(), &[(certificate.0, "no key".to_owned())]);
        let said = started.reload(bad).expect_err("a certificate without a key");
        assert!(said.contains("sslCertificates/c0") && said.contains("private key"), "{said}");
        ask("200").await;
        assert_eq!(backend.accepted.borrow().0, 1, "the pool outlives generations");
        // The rule goes: the idle connection ends.
        let mut without = old;
        without.load_balancing.forwarding_rules.clear();
        started.reload(without).expect("a reload");
        assert_eq!(client.end().await, b"");
    });
}

/// Not a test by itself: what [`every_request_is_one_log_entry`] runs in a process of its own.
#[test]
#[ignore = "run by every_request_is_one_log_entry"]
fn requests_for_the_log() {
    run(async {
        let backend = support::server(ServerOptions::default(), mirror).await;
        let slice = slice(
            &[("a.example.com", to("a")), ("mask.example.com", to("mask"))],
            vec![service("a", "HTTP", "a"), service("mask", "HTTP", "mask")],
            vec![group("a", &[declared(1)]), serverless("mask", "mask.example.com/app/<service>")],
        );
        let started = start("log", slice, &[(1, backend.address)]);
        let at = address(&started);
        let mut client = Raw::connect(at).await;
        client
            .send("POST /known/x?q=\"%20 HTTP/1.1\r\nHost: a.example.com\r\nUser-Agent: \"odd\\\r\nContent-Length: 2\r\nX-Cloud-Trace-Context: 105445aa7843bc8bf206b12000100000/1;o=1\r\n\r\nhi")
            .await;
        assert_eq!(client.answer().await.status(), "200");
        get(at, "mask.example.com", "/other/login").await;
        get(at, "mask.example.com", "/a/../b").await; // not logged
        let mut client = Raw::connect(at).await;
        client.send("NONSENSE\r\n\r\n").await;
        client.answer().await;
        drop(started); // writes what is left
        static WRITTEN: AtomicUsize = AtomicUsize::new(0);
        WRITTEN.fetch_add(1, Ordering::Relaxed);
    });
}

#[test]
fn every_request_is_one_log_entry() {
    let child = std::process::Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "requests_for_the_log", "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .expect("a child");
    let text = String::from_utf8(child.stderr).expect("UTF-8");
    assert!(child.status.success(), "{text}");
    let entries: Vec<serde_json::Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter(|entry: &serde_json::Value| entry.get("httpRequest").is_some())
        .collect();
    assert_eq!(entries.len(), 3, "{text}");
    let served = &entries[0];
    let labels = &served["resource"]["labels"];
    for (found, expected) in [
        (&served["severity"], "INFO"),
        (&served["logName"], "projects/p/logs/loadbalancing.googleapis.com%2Frequests"),
        (&served["resource"]["type"], "internal_http_lb_rule"),
        (&labels["project_id"], "p"),
        (&labels["region"], "europe-west1"),
        (&labels["network_name"], "ilb-network"),
        (&labels["forwarding_rule_name"], "ilb"),
        (&labels["target_proxy_name"], "proxy"),
        (&labels["url_map_name"], "map"),
        (&labels["matched_url_path_rule"], "/known/*"),
        (&labels["backend_target_name"], "a"),
        (&labels["backend_name"], "a"),
        (&served["trace"], "projects/p/traces/105445aa7843bc8bf206b12000100000"),
        (&served["httpRequest"]["requestMethod"], "POST"),
        (&served["httpRequest"]["requestUrl"], "http://a.example.com/known/x?q=%22%20"),
        (&served["httpRequest"]["userAgent"], "\"odd\\"),
        (&served["httpRequest"]["serverIp"], "10.0.9.1"),
        (&served["httpRequest"]["protocol"], "HTTP/1.1"),
    ] {
        assert_eq!(found, expected, "{served}");
    }
    assert_eq!(served["httpRequest"]["status"], 200);
    let refused = &entries[1];
    assert_eq!(refused["reason"], "URL_MASK_NO_MATCH");
    assert_eq!(refused["severity"], "WARNING");
    assert_eq!(
        refused["jsonPayload"]["proxyStatus"],
        "error=\"destination_not_found\"; details=\"serverless_neg_routing_failed\""
    );
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("other")), "{refused}");
    assert_eq!(entries[2]["reason"], "HTTP_MALFORMED");
}

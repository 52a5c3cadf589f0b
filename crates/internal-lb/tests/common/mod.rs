//! A hand-made topology slice, the program under test, and what stands behind it.
#![allow(dead_code, reason = "every test file compiles all of it and uses a part")]

#[path = "../../../http-proxy/tests/support/mod.rs"]
pub mod support;

use bytes::Bytes;
use http::{Request, Response};
use http_proxy::{Body, ConnectionInfo, Handler, Incoming, ServerOptions, serve};
use internal_lb::InternalLb;
use names::{NetworkId, Origin, SelfLink};
use proxy_protocol::{Header, Tlv};
use runtime::testing::{Place, Started};
use slice::Placement;
use slice::load_balancer::{
    BackendService, CloudRunEndpoints, Endpoints, ForwardingRule, HostRule, InternalLbSlice,
    KnownService, LoadBalancing, NetworkEndpointGroup, PathMatcher, PathRule, Protocol, Route,
    Rules, SslCertificate, TargetProxy, UrlMap,
};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use support::Raw;
use tokio::io::AsyncReadExt;

pub const RULE: &str = "projects/p/regions/europe-west1/forwardingRules/ilb";

pub fn link(collection: &str, name: &str) -> SelfLink {
    SelfLink::regional("p", "europe-west1", collection, name)
}

pub fn network() -> NetworkId {
    NetworkId::new("p", "ilb-network")
}

pub fn state_dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("ilb-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    dir
}

/// `10.0.9.N:80`, placed where a backend of the test really listens.
pub fn declared(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 9, n), 80)
}

pub fn service(name: &str, protocol: Protocol, group: &str) -> BackendService {
    let group = link("networkEndpointGroups", group);
    BackendService { protocol, ..BackendService::new(link("backendServices", name), group) }
}

pub fn group(name: &str, addresses: &[SocketAddrV4]) -> NetworkEndpointGroup {
    NetworkEndpointGroup::addresses(link("networkEndpointGroups", name), addresses.to_vec())
}

pub fn serverless(name: &str, url_mask: &str) -> NetworkEndpointGroup {
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
pub fn slice(
    routes: &[(&str, Route)],
    services: Vec<BackendService>,
    groups: Vec<NetworkEndpointGroup>,
) -> InternalLbSlice {
    let matcher = |(host, route): &(&str, Route)| {
        let rule = PathRule { paths: vec!["/known/*".to_owned()], route: route.clone() };
        PathMatcher::new(host.replace('.', "-"), route.clone(), Rules::PathRules(vec![rule]))
    };
    let rule = |(host, _): &(&str, Route)| HostRule {
        hosts: vec![host.to_string()],
        path_matcher: host.replace('.', "-"),
    };
    InternalLbSlice {
        carries_packets: true,
        network: network(),
        load_balancing: LoadBalancing {
            forwarding_rules: vec![ForwardingRule {
                self_link: SelfLink::new(RULE),
                network: network(),
                region: "europe-west1".to_owned(),
                address: Ipv4Addr::new(10, 0, 0, 5),
                port: 80,
                allow_global_access: false,
                proxy_address: None,
                northbound: None,
                target: TargetProxy::new(
                    link("targetHttpProxies", "proxy"),
                    link("urlMaps", "map"),
                ),
            }],
            url_maps: vec![UrlMap {
                host_rules: routes.iter().map(rule).collect(),
                path_matchers: routes.iter().map(matcher).collect(),
                ..UrlMap::new(link("urlMaps", "map"), routes[0].1.clone())
            }],
            backend_services: services,
            network_endpoint_groups: groups,
            ..LoadBalancing::default()
        },
    }
}

pub fn to(service: &str) -> Route {
    Route::service(link("backendServices", service))
}

pub fn start(
    name: &str,
    slice: InternalLbSlice,
    backends: &[(u8, SocketAddr)],
) -> Started<InternalLb> {
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

pub fn address(started: &Started<InternalLb>) -> SocketAddr {
    started.address(RULE).expect("a listener")
}

pub async fn get(address: SocketAddr, host: &str, path: &str) -> support::Answer {
    let mut client = Raw::connect(address).await;
    client.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    client.answer().await
}

/// Answers with what it saw of the request: one `name: value` line per header.
pub async fn mirror(request: Request<Incoming>) -> Response<Body> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = request.into_body().collect(1 << 20).await.unwrap_or_default();
    text.push_str(&String::from_utf8_lossy(&body));
    Response::new(Body::full(text))
}

/// What stands behind the channel `cloud-run`: PROXY v2, then HTTP in either version.
pub struct CloudRun {
    pub connections: Arc<Mutex<Vec<(Origin, String, SocketAddrV4)>>>,
}

/// Service, and what the client speaks by the header's word.
pub struct Said(pub String, pub String);

impl Handler for Said {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let version = request.version();
        let mut response = mirror(request).await;
        for (name, value) in
            [("x-service", &self.0), ("x-alpn", &self.1), ("x-version", &format!("{version:?}"))]
        {
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
        response
    }
}

pub fn cloud_run(started: &Started<InternalLb>) -> CloudRun {
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
                let alpn = header.tlv(Tlv::ALPN).map(String::from_utf8_lossy);
                let alpn = alpn.unwrap_or_default().into_owned();
                let rest = Bytes::from(read).split_off(length);
                let handler = Rc::new(Said(service, alpn));
                let options = ServerOptions::default();
                serve(stream, rest, Rc::default(), handler, &options, std::future::pending()).await;
            });
        }
    });
    CloudRun { connections }
}

pub fn certificate(names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(names).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.pem(), key.serialize_pem())
}

pub fn over_tls(mut slice: InternalLbSlice, certificates: &[(String, String)]) -> InternalLbSlice {
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

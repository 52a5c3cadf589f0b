//! What the tests surround the program with: a target (plain and TLS), a resolver, a token issuer, a
//! client that trusts the northbound certificate, and bundles written in place.
#![allow(dead_code, reason = "every test file compiles all of it and uses a part")]

use api_proxy::ApiProxy;
use bytes::Bytes;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use http::{Method, Request, Response};
use http_proxy::tls::{CertifiedPem, accept, client_config, connect, server_config};
use http_proxy::{
    Body, ConnectionInfo, Handler, Incoming, Pool, PoolOptions, ServerOptions, Version, serve,
};
use names::NetworkId;
use runtime::testing::{Place, Started};
use slice::Placement;
use slice::apigee::{
    ApiProduct, ApiProxySlice, App, Credential, Deployment, Developer, EnvironmentGroup,
    Organization,
};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};
use tokio_rustls_stream::ClientStream;

mod tokio_rustls_stream {
    pub type ClientStream = Box<dyn Io>;
    pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
    impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Io for T {}
}

/// Runs a test on one thread, as the programs run.
pub fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("no test hangs");
    });
}

struct Closure<F>(F);

impl<F, R> Handler for Closure<F>
where
    F: Fn(Request<Incoming>) -> R + 'static,
    R: Future<Output = Response<Body>> + 'static,
{
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        _: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        (self.0)(request).await
    }
}

/// A CA and a leaf of it, or a self-signed leaf.
pub struct Certificates {
    pub ca: String,
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
}

impl Certificates {
    pub fn new() -> Certificates {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a CA").pem();
        Certificates { ca, key, params }
    }

    pub fn leaf(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.signed_by(&key, &issuer).expect("a leaf").pem(), key.serialize_pem())
    }

    pub fn self_signed(name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.self_signed(&key).expect("a leaf").pem(), key.serialize_pem())
    }
}

/// A target; how many connections it accepted.
pub struct Target {
    pub address: SocketAddr,
    pub accepted: Rc<Cell<usize>>,
}

pub async fn target<F, R>(certificate: Option<(String, String)>, handle: F) -> Target
where
    F: Fn(Request<Incoming>) -> R + 'static,
    R: Future<Output = Response<Body>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let accepted = Rc::new(Cell::new(0));
    let counted = accepted.clone();
    let handler = Rc::new(Closure(handle));
    let config = certificate.map(|(chain, key)| {
        server_config(&[CertifiedPem { chain: &chain, key: &key }], &["http/1.1"]).expect("TLS")
    });
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            let (handler, config) = (handler.clone(), config.clone());
            tokio::task::spawn_local(async move {
                let options = ServerOptions::default();
                let never = std::future::pending;
                match config {
                    None => {
                        serve(stream, Bytes::new(), Rc::default(), handler, &options, never())
                            .await;
                    }
                    Some(config) => {
                        let Ok((stream, _)) = accept(config, stream, Duration::from_secs(5)).await
                        else {
                            return;
                        };
                        serve(stream, Bytes::new(), Rc::default(), handler, &options, never())
                            .await;
                    }
                }
            });
        }
    });
    Target { address, accepted }
}

/// Answers with what it saw: one `name: value` line per header, then the payload.
pub async fn mirror(request: Request<Incoming>) -> Response<Body> {
    let mut text = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or("?")));
    }
    let body = request.into_body().collect(64 << 20).await.unwrap_or_default();
    text.push_str(&String::from_utf8_lossy(&body));
    Response::new(Body::full(text))
}

/// The resolver: these names, NXDOMAIN for all others; what it was asked.
pub async fn resolver(
    names: &'static [(&'static str, Ipv4Addr)],
) -> (SocketAddr, Rc<RefCell<Vec<String>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let address = socket.local_addr().expect("address");
    let asked = Rc::new(RefCell::new(Vec::new()));
    let noted = asked.clone();
    tokio::task::spawn_local(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
            let Some(question) = query.queries.first().cloned() else { continue };
            let name = question.name().to_ascii();
            noted.borrow_mut().push(name.clone());
            let mut answer = Message::new(query.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_desired = true;
            answer.metadata.recursion_available = true;
            match names.iter().find(|(known, _)| name.trim_end_matches('.') == *known) {
                Some((_, address)) if question.query_type() == RecordType::A => {
                    let data = RData::A(A(*address));
                    answer.add_answer(Record::from_rdata(question.name().clone(), 300, data));
                }
                Some(_) => {}
                None => answer.metadata.response_code = ResponseCode::NXDomain,
            }
            answer.add_query(question);
            let _ = socket.send_to(&answer.to_vec().expect("a message"), peer).await;
        }
    });
    (address, asked)
}

/// The token issuer on its channel; how many tokens it made, and the last request.
pub struct Issuer {
    pub minted: Rc<Cell<usize>>,
    pub asked: Rc<RefCell<String>>,
}

pub fn issuer(channel: &Path) -> Issuer {
    let _ = fs::remove_file(channel);
    let listener = UnixListener::bind(channel).expect("bind");
    let issuer = Issuer { minted: Rc::default(), asked: Rc::default() };
    let (minted, asked) = (issuer.minted.clone(), issuer.asked.clone());
    let handler = Rc::new(Closure(move |request: Request<Incoming>| {
        let (minted, asked) = (minted.clone(), asked.clone());
        async move {
            let path = request.uri().to_string();
            let body = request.into_body().collect(4096).await.unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            *asked.borrow_mut() = format!("{path} {body}");
            if path.contains("nobody") {
                let error = r#"{"error":{"code":404,"message":"Not found; Gaia id not found for email nobody@p","status":"NOT_FOUND"}}"#;
                let mut response = Response::new(Body::full(error));
                *response.status_mut() = http::StatusCode::NOT_FOUND;
                return response;
            }
            minted.set(minted.get() + 1);
            // {"exp":9999999999}, as a token would say it.
            let token = format!("h{}.eyJleHAiOjk5OTk5OTk5OTl9.s", minted.get());
            Response::new(Body::full(format!("{{\"token\":\"{token}\"}}")))
        }
    }));
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::task::spawn_local(async move {
                let options = ServerOptions::default();
                let never = std::future::pending();
                serve(stream, Bytes::new(), Rc::default(), handler, &options, never).await;
            });
        }
    });
    issuer
}

/// A folder of bundles that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("api-proxy-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    /// Writes a bundle: children of its proxy endpoint, children of its target endpoint, policies.
    pub fn bundle(&self, name: &str, proxy: &str, target: &str, policies: &[&str]) {
        let root = self.0.join(name).join("apiproxy");
        let write = |path: &str, text: String| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("written");
        };
        write("p.xml", format!("<APIProxy revision=\"1\" name=\"{name}\"/>"));
        let connection = if proxy.contains("HTTPProxyConnection") {
            String::new()
        } else {
            format!("<HTTPProxyConnection><BasePath>/{name}</BasePath></HTTPProxyConnection>")
        };
        write(
            "proxies/default.xml",
            format!("<ProxyEndpoint name=\"default\">{connection}{proxy}</ProxyEndpoint>"),
        );
        if !target.is_empty() {
            write(
                "targets/default.xml",
                format!("<TargetEndpoint name=\"default\">{target}</TargetEndpoint>"),
            );
        }
        for (number, policy) in policies.iter().enumerate() {
            write(&format!("policies/p{number}.xml"), policy.to_string());
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn network() -> NetworkId {
    NetworkId::new("tenant", "apigee")
}

pub const PLAIN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
pub const NAMES: &[(&str, Ipv4Addr)] = &[
    ("internal.example.com", PLAIN),
    ("other.example.com", PLAIN),
    ("closed.example.com", Ipv4Addr::new(10, 0, 0, 21)),
    ("silent.example.com", Ipv4Addr::new(10, 0, 0, 22)),
];

/// The slice: one environment with these bundles deployed.
pub fn slice(folder: &Folder, bundles: &[&str], certificates: &Certificates) -> ApiProxySlice {
    let (certificate, private_key) = certificates.leaf("api.example.com");
    let deployment = |name: &&str| Deployment {
        at: "apigee.yaml:1:1".to_owned(),
        api_proxy: name.to_string(),
        environment: "prod".to_owned(),
        revision: "1".to_owned(),
        service_account: Some(match *name {
            "nobody" => "nobody@p".to_owned(),
            _ => "proxy@p.iam.gserviceaccount.com".to_owned(),
        }),
        bundle: folder.0.join(name),
    };
    ApiProxySlice {
        network: network(),
        organization: Organization {
            name: "org".to_owned(),
            project: "org-project".to_owned(),
            apigee_project_id: "tenant".to_owned(),
            network: network(),
            region: "europe-west1".to_owned(),
            environment_groups: vec![EnvironmentGroup {
                name: "group".to_owned(),
                hostnames: vec!["api.example.com".to_owned()],
                environments: vec!["prod".to_owned()],
            }],
            deployments: bundles.iter().map(deployment).collect(),
            api_products: vec![ApiProduct {
                name: "product".to_owned(),
                display_name: "Product".to_owned(),
                environments: Vec::new(),
                proxies: Vec::new(),
                api_resources: Vec::new(),
                quota: Some("2".to_owned()),
                quota_interval: Some("1".to_owned()),
                quota_time_unit: Some("day".to_owned()),
                attributes: BTreeMap::new(),
            }],
            developers: vec![Developer {
                email: "dev@example.com".to_owned(),
                first_name: String::new(),
                last_name: String::new(),
                user_name: String::new(),
                status: "active".to_owned(),
                attributes: BTreeMap::new(),
            }],
            apps: vec![App {
                name: "app".to_owned(),
                developer: "dev@example.com".to_owned(),
                status: "approved".to_owned(),
                attributes: BTreeMap::new(),
                credentials: vec![Credential {
                    consumer_key: "key".to_owned(),
                    consumer_secret: String::new(),
                    status: "approved".to_owned(),
                    expires_at: -1,
                    api_products: vec![("product".to_owned(), "approved".to_owned())],
                }],
            }],
        },
        northbound: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        certificate,
        private_key,
        trust: certificates.ca.clone(),
    }
}

/// Starts the program; `places` are declared addresses and where they really are.
pub fn start(
    folder: &Folder,
    slice: ApiProxySlice,
    dns: SocketAddr,
    places: &[(Ipv4Addr, u16, SocketAddr)],
) -> Started<ApiProxy> {
    let place = |declared, actual| Placement { network: network(), declared, actual };
    let mut placements = vec![place(SocketAddrV4::new(slice::METADATA_ADDRESS, 53), dns)];
    for (address, port, actual) in places {
        placements.push(place(SocketAddrV4::new(*address, *port), *actual));
    }
    let place = Place {
        state_dir: folder.0.join("state"),
        network: Some(network()),
        workers: 1,
        placements,
    };
    Started::start(slice, place).expect("the program starts")
}

/// The client.
pub struct Client {
    pub address: SocketAddr,
    config: [Arc<rustls::ClientConfig>; 2],
    pool: Pool<Version>,
    connections: RefCell<Vec<std::net::TcpStream>>,
}

impl Drop for Client {
    /// Else a program that ends on this thread waits for a client that cannot move.
    fn drop(&mut self) {
        for connection in self.connections.take() {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Client {
    pub fn new(started: &Started<ApiProxy>, certificates: &Certificates) -> Client {
        let config = |alpn| client_config(&certificates.ca, &[alpn]).expect("a CA");
        Client {
            address: started.address("northbound").expect("a listener"),
            config: [config("http/1.1"), config("h2")],
            pool: Pool::new(PoolOptions::default()),
            connections: RefCell::default(),
        }
    }

    pub async fn connect(&self, version: Version) -> std::io::Result<ClientStream> {
        let config = &self.config[usize::from(version == Version::H2)];
        let stream = TcpStream::connect(self.address).await?;
        let connection = stream.as_fd().try_clone_to_owned()?.into();
        self.connections.borrow_mut().push(connection);
        Ok(Box::new(connect(config.clone(), "api.example.com", stream).await?))
    }

    pub async fn send(
        &self,
        version: Version,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Response<Incoming> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "api.example.com");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("a request");
        let connect = || self.connect(version);
        self.pool.send(&version, version, connect, request).await.expect("an answer")
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.send(Version::H1, Method::GET, path, &[], Body::empty()).await;
        let status = response.status().as_u16();
        (status, text(response).await)
    }
}

pub async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect(64 << 20).await.expect("a body");
    String::from_utf8_lossy(&bytes).into_owned()
}

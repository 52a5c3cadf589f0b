//! One probe of one endpoint, from the load balancer's own address.

use super::dial::{connect, server_name};
use super::endpoint::Endpoint;
use crate::InternalLb;
use http::header::{HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_proxy::{Body, BoxIo, Incoming, Pool, PoolOptions, Version, grpc_health, tls};
use runtime::Worker;
use slice::load_balancer::{HealthCheck, Probe, Protocol};
use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// "The response must stand in the first 1,024 bytes of the body" (health checks, criteria).
const BODY_BYTES: usize = 1024;
/// What a prober of Google's says of itself.
const AGENT: &str = "GoogleHC/1.0";
/// What `proxyHeader: PROXY_V1` puts before a probe, which is nobody's connection.
const PROXY_V1: &[u8] = b"PROXY UNKNOWN\r\n";

/// Asks the endpoint whether it is healthy.
///
/// # Errors
/// Why it is not, in words for the log.
pub async fn probe(
    worker: &Worker<InternalLb>,
    endpoint: &Endpoint,
    check: &HealthCheck,
) -> Result<(), String> {
    let Some(address) = endpoint.target.address() else { return Ok(()) };
    let to = SocketAddrV4::new(*address.ip(), check.port.unwrap_or(address.port()));
    let asking = Asking { worker, endpoint, check, to };
    let asked = async {
        match &check.probe {
            Probe::Http { protocol, host, request_path, response } => {
                asking.http(*protocol, host, request_path, response.as_bytes()).await
            }
            Probe::Grpc { service_name, tls } => asking.grpc(service_name, *tls).await,
            Probe::Tcp { tls, request, response } => {
                asking.tcp(*tls, request.as_bytes(), response.as_bytes()).await
            }
        }
    };
    let timeout = check.timeout;
    match tokio::time::timeout(timeout, asked).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", timeout.as_secs_f64())),
    }
}

struct Asking<'a> {
    worker: &'a Worker<InternalLb>,
    endpoint: &'a Endpoint,
    check: &'a HealthCheck,
    to: SocketAddrV4,
}

/// Over TLS, and with which ALPN.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    Plain,
    Tls(Version),
}

impl Asking<'_> {
    async fn connect(&self, security: Security) -> io::Result<BoxIo> {
        let mut stream = connect(self.worker, self.endpoint, self.to).await?;
        if self.check.proxy_header {
            stream.write_all(PROXY_V1).await?;
        }
        let config = match security {
            Security::Plain => return Ok(Box::new(stream)),
            Security::Tls(Version::H1) => &self.worker.program.backend_http1,
            Security::Tls(Version::H2 | Version::H2Tls) => &self.worker.program.backend_http2,
        };
        let name = server_name(&self.endpoint.target);
        Ok(Box::new(tls::connect(config.clone(), &name, stream).await?))
    }

    /// Sends a request over a connection of its own.
    async fn send(
        &self,
        version: Version,
        security: Security,
        request: Request<Body>,
    ) -> Result<http::Response<Incoming>, String> {
        let options = PoolOptions { connect_timeout: self.check.timeout, ..Default::default() };
        let pool = Pool::new(PoolOptions { idle_timeout: Duration::ZERO, ..options });
        let sent = pool.send(&(), version, || self.connect(security), request).await;
        sent.map_err(|error| error.to_string())
    }

    fn request(&self, path: &str, host: &str) -> Result<Request<Body>, String> {
        let own = self.to.to_string();
        let host = if host.is_empty() { &own } else { host };
        let built = Request::builder()
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .body(Body::empty());
        built.map_err(|error| error.to_string())
    }

    async fn http(
        &self,
        protocol: Protocol,
        host: &str,
        path: &str,
        expected: &[u8],
    ) -> Result<(), String> {
        let (version, security) = match protocol {
            Protocol::Http | Protocol::Tcp => (Version::H1, Security::Plain),
            Protocol::Https => (Version::H1, Security::Tls(Version::H1)),
            Protocol::Http2 => (Version::H2Tls, Security::Tls(Version::H2Tls)),
            Protocol::H2c => (Version::H2, Security::Plain),
        };
        let request = self.request(path, host)?;
        let response = self.send(version, security, request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}, not 200", response.status().as_u16()));
        }
        if expected.is_empty() {
            return Ok(());
        }
        let mut body = response.into_body();
        let mut read = Vec::new();
        while read.len() < BODY_BYTES
            && let Some(frame) = body.frame().await
        {
            let frame = frame.map_err(|error| error.to_string())?;
            read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        read.truncate(BODY_BYTES);
        match read.windows(expected.len()).any(|window| window == expected) {
            true => Ok(()),
            false => Err("the body does not hold the expected response".to_owned()),
        }
    }

    /// `grpc.health.v1.Health/Check`.
    async fn grpc(&self, service: &str, tls: bool) -> Result<(), String> {
        let security = if tls { Security::Tls(Version::H2) } else { Security::Plain };
        let mut request = grpc_health::request(&self.to.to_string(), service)
            .map_err(|error| error.to_string())?;
        request.headers_mut().insert(USER_AGENT, http::HeaderValue::from_static(AGENT));
        grpc_health::serving(self.send(Version::H2, security, request).await?).await
    }

    async fn tcp(&self, tls: bool, request: &[u8], expected: &[u8]) -> Result<(), String> {
        let security = if tls { Security::Tls(Version::H1) } else { Security::Plain };
        let mut stream = self.connect(security).await.map_err(|error| error.to_string())?;
        let exchange = async {
            stream.write_all(request).await?;
            stream.flush().await?;
            let mut read = vec![0; expected.len()];
            stream.read_exact(&mut read).await?;
            Ok::<_, io::Error>(read)
        };
        match exchange.await {
            Ok(read) if read == expected => Ok(()),
            Ok(_) => Err("the answer does not begin with the expected response".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

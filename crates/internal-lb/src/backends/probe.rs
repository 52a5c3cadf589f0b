//! One probe of one endpoint, from the load balancer's own address.

use super::dial::{connect, server_name};
use super::endpoint::Endpoint;
use crate::InternalLb;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_proxy::{Body, BoxIo, Incoming, Pool, PoolOptions, Version, tls};
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
/// A `grpc.health.v1.HealthCheckResponse` with the status SERVING (field 1, varint 1).
const SERVING: &[u8] = &[0x08, 0x01];

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

    fn request(
        &self,
        method: Method,
        path: &str,
        host: &str,
        body: Body,
    ) -> Result<Request<Body>, String> {
        let own = self.to.to_string();
        let host = if host.is_empty() { &own } else { host };
        let built = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .body(body);
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
        let request = self.request(Method::GET, path, host, Body::empty())?;
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
        let body = Body::full(grpc_request(service));
        let mut request = self.request(Method::POST, "/grpc.health.v1.Health/Check", "", body)?;
        for (name, value) in [(CONTENT_TYPE, "application/grpc"), (TE, "trailers")] {
            request.headers_mut().insert(name, http::HeaderValue::from_static(value));
        }
        let response = self.send(Version::H2, security, request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}, not 200", response.status().as_u16()));
        }
        let mut status = grpc_status(response.headers());
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| error.to_string())?;
            if let Some(trailers) = frame.trailers_ref() {
                status = grpc_status(trailers);
            }
            read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            if read.len() > BODY_BYTES {
                return Err("the answer is too long".to_owned());
            }
        }
        match (status.as_deref(), read.get(5..)) {
            (Some("0"), Some(SERVING)) => Ok(()),
            (Some("0"), _) => Err("the health service does not say SERVING".to_owned()),
            (status, _) => Err(format!("grpc-status is {}", status.unwrap_or("missing"))),
        }
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

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get("grpc-status")?.to_str().ok()?.to_owned())
}

/// A message frame with a `HealthCheckRequest` (field 1, a string).
fn grpc_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_request_names_the_service() {
        assert_eq!(&grpc_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&grpc_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = grpc_request(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }
}

//! One try: a connection from the pool or a new one, to Cloud Run's channel or to an endpoint.

use crate::InternalLb;
use crate::backends::Choice;
use crate::compile::Front;
use crate::decide::Target;
use crate::headers::Fields;
use http::Response;
use http::request::Parts;
use http_proxy::headers::accepts_trailers;
use http_proxy::{Body, Incoming, SendError, Version};
use proxy_protocol::{Header, Tlv};
use runtime::Worker;
use std::io;
use std::net::SocketAddrV4;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;

/// What makes two upstream connections different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PoolKey {
    /// Origin (the forwarding rule; the network is the program's), service with tag, and whether
    /// the client speaks HTTP/2.
    CloudRun(Arc<str>, Arc<str>, Version, bool),
    /// The number of an endpoint, which has one protocol and one source.
    Endpoint(u64, Version),
}

/// Whose requests go upstream.
pub struct Upstream<'a> {
    /// The worker thread.
    pub worker: &'a Rc<Worker<InternalLb>>,
    /// The forwarding rule.
    pub front: &'a Front,
    /// The client.
    pub client: SocketAddrV4,
    /// Does the request ask for an upgrade?
    pub upgrade: bool,
}

impl Upstream<'_> {
    /// Sends the request, with the load balancer's own fields behind its own.
    ///
    /// # Errors
    /// Those of the pool.
    pub async fn send(
        &self,
        to: &Target,
        choice: Option<&Choice>,
        parts: &Parts,
        own: &Fields,
        body: Body,
    ) -> Result<Response<Incoming>, SendError> {
        let (service, tag, key) = match (to, choice) {
            (Target::CloudRun { service, tag, key }, _) => (service, tag, key),
            (Target::Endpoints, Some(choice)) => {
                return to_endpoint(self.worker, choice, parts, own, body).await;
            }
            (Target::Endpoints, None) => {
                return Err(SendError::Connect(Arc::new(io::ErrorKind::NotFound.into())));
            }
        };
        let version = cloud_run_version(parts, self.upgrade);
        let http2 = speaks_http2(parts);
        let pool_key = PoolKey::CloudRun(self.front.link.clone(), key.clone(), version, http2);
        let header = || {
            // In whichever version it goes there, limits and cancelling are those of the
            // client's.
            let alpn: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
            Header::tcp(self.client, self.front.address)
                .with_tlv(Tlv::ALPN, alpn)
                .and_then(|header| header.with_origin(&self.front.origin))
                .and_then(|header| header.with_service(service, tag.as_deref()))
                .and_then(|header| header.encode())
                .map_err(io::Error::other)
        };
        let connect = || channel(&self.worker.program.cloud_run, header);
        let pool = &self.worker.local.pool;
        pool.send_parts(&pool_key, version, connect, parts, own, body).await
    }
}

/// Sends a request to an endpoint.
///
/// # Errors
/// Those of the pool.
pub async fn to_endpoint(
    worker: &Rc<Worker<InternalLb>>,
    choice: &Choice,
    parts: &Parts,
    own: &Fields,
    body: Body,
) -> Result<Response<Incoming>, SendError> {
    let version = choice.version();
    let connect = || choice.dial(worker);
    let key = PoolKey::Endpoint(choice.key(), version);
    worker.local.pool.send_parts(&key, version, connect, parts, own, body).await
}

/// Towards Cloud Run gRPC stays HTTP/2, and so does what wants trailers; everything else goes down
/// to HTTP/1.1, as it does towards the container (cloud-run 1.3), and costs half.
fn cloud_run_version(parts: &Parts, upgrade: bool) -> Version {
    let keeps = || crate::serve::is_grpc(&parts.headers) || accepts_trailers(&parts.headers);
    match speaks_http2(parts) && !upgrade && keeps() {
        true => Version::H2,
        false => Version::H1,
    }
}

fn speaks_http2(parts: &Parts) -> bool {
    parts.version == http::Version::HTTP_2
}

/// A connection to `cloud-run`, its PROXY header sent. While that program is restarting, or its
/// queue is full, the attempt is repeated; the pool's connect timeout ends it.
async fn channel(path: &Path, header: impl Fn() -> io::Result<Vec<u8>>) -> io::Result<UnixStream> {
    use tokio::io::AsyncWriteExt;
    let header = header()?;
    let mut wait = Duration::from_millis(1);
    loop {
        match UnixStream::connect(path).await {
            Ok(mut stream) => {
                stream.write_all(&header).await?;
                return Ok(stream);
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_millis(100));
                }
                _ => return Err(error),
            },
        }
    }
}

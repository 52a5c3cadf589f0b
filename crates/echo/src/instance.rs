//! Which instance of which revision of which service this process is.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long the metadata server may take; without one the process id stands in.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// An instance id is some two hundred characters long.
const INSTANCE_ID_LENGTH_MAX: usize = 4096;

/// Service, revision and instance of this process.
#[derive(Debug)]
pub struct Instance {
    pub(crate) service: String,
    pub(crate) revision: String,
    metadata_host: String,
    id: OnceCell<String>,
}

impl Instance {
    /// From the variables of the container contract, and `GCE_METADATA_HOST` as Google's client
    /// libraries read it.
    pub fn from_environment() -> Instance {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let host = variable("GCE_METADATA_HOST");
        let host = if host.is_empty() { "169.254.169.254" } else { &host };
        Instance::new(&variable("K_SERVICE"), &variable("K_REVISION"), host)
    }

    /// Service, revision, and host and port of the metadata server.
    pub fn new(service: &str, revision: &str, metadata_host: &str) -> Instance {
        Instance {
            service: service.to_owned(),
            revision: revision.to_owned(),
            metadata_host: metadata_host.to_owned(),
            id: OnceCell::new(),
        }
    }

    /// The instance id that the metadata server gives; asked for once, at the first request.
    pub async fn id(&self) -> &str {
        let ask = async {
            let asked = tokio::time::timeout(METADATA_TIMEOUT, ask(&self.metadata_host)).await;
            let answer = asked.ok().flatten();
            answer.unwrap_or_else(|| format!("pid-{}", std::process::id()))
        };
        self.id.get_or_init(|| ask).await
    }
}

async fn ask(host: &str) -> Option<String> {
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get("/computeMetadata/v1/instance/id")
        .header("host", host)
        .header("metadata-flavor", "Google")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    if response.status() != http::StatusCode::OK {
        return None;
    }
    let body = Limited::new(response.into_body(), INSTANCE_ID_LENGTH_MAX).collect().await.ok()?;
    connection.abort();
    let id = String::from_utf8(body.to_bytes().to_vec()).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

//! The way from the programs to an OpenTelemetry collector: they live in simulated networks, of
//! which it is no part, so they speak to a channel, and the supervisor, which lives on the host,
//! carries the bytes to the address of `OTEL_EXPORTER_OTLP_ENDPOINT`.

use crate::child::spawn_thread;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// As long a collector may take to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the channel, where the environment names a collector.
///
/// # Errors
/// Those of `bind(2)` and `pthread_create(3)`.
pub fn start(state_dir: &Path) -> io::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
    // What is no http:// URL is told by the programs, which read the same variables.
    let Some(collector) = endpoint.as_deref().and_then(address) else { return Ok(()) };
    let path = runtime::wire::channel_path(state_dir, slice::OTLP_CHANNEL);
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    spawn_thread("collector", move || {
        LocalSet::new().block_on(&runtime, async {
            let Ok(listener) = UnixListener::from_std(listener) else { return };
            // Each program keeps one connection.
            loop {
                match listener.accept().await {
                    Ok((program, _)) => {
                        tokio::task::spawn_local(carry(program, collector.clone()));
                    }
                    // Out of descriptors: others have to end first.
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
    })
}

/// A collector that is not there ends the connection; the program tells it and tries again with its
/// next spans.
async fn carry(mut program: UnixStream, collector: String) {
    if let Ok(Ok(mut stream)) = timeout(DIAL_TIMEOUT, TcpStream::connect(collector)).await {
        let _ = tokio::io::copy_bidirectional(&mut program, &mut stream).await;
    }
}

/// Host and port of an `http://` URL.
fn address(url: &str) -> Option<String> {
    let authority = url.trim().strip_prefix("http://")?.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    let after = host.rsplit(']').next()?;
    match (host.is_empty(), after.contains(':')) {
        (true, _) => None,
        (false, true) => Some(host.to_owned()),
        (false, false) => Some(format!("{host}:80")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collectors_address_is_that_of_its_url() {
        for (url, expected) in [
            ("http://localhost:4318", Some("localhost:4318")),
            ("http://c/v1/traces", Some("c:80")),
            ("http://[::1]:4318/", Some("[::1]:4318")),
            ("http://[::1]", Some("[::1]:80")),
            ("https://c", None),
            ("http:///x", None),
        ] {
            assert_eq!(address(url).as_deref(), expected, "{url}");
        }
    }
}

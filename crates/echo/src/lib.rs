//! `postern-echo`: a small Cloud Run program that says what reached it.
//!
//! The example topologies run it as their services, and tests compare what it says with what was
//! sent. It keeps the container contract (cloud-run 1): listens on `0.0.0.0:$PORT`, speaks HTTP/1.1
//! and HTTP/2 without TLS on the same port, reads `K_SERVICE` and `K_REVISION`, drains on SIGTERM.
//!
//! Only the end of a path counts, because a URL mask does not rewrite: `/orders/sse` is `/sse` of
//! the service `orders`.
//!
//! | request | answer |
//! |---|---|
//! | anything else | JSON: method, path, query, protocol, headers, body, service, revision, instance |
//! | `…/sse?count=5&interval=100` | server-sent events, `interval` milliseconds apart |
//! | `…/body` | the request body as it comes, unbuffered |
//! | any path with `Upgrade: websocket` | an RFC 6455 echo of texts and binaries |
//! | gRPC `echo.Echo/Echo`, `echo.Echo/EchoStream` | the same message, or every message, back |
//!
//! It knows nothing of Postern and links none of its crates: whatever it reports was on the wire.

mod body;
mod events;
mod grpc;
mod instance;
mod json;
mod log;
mod serve;
mod websocket;

pub use instance::Instance;
pub use serve::serve;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::ExitCode;

/// The program: reads the environment, serves until SIGTERM or SIGINT, drains.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line("ERROR", &error, serde_json::Map::new());
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port: u16 = port.parse().map_err(|_| format!("PORT is `{port}`, not a port number"))?;
    let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address)
            .await
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let stop = stop_signal().map_err(|error| format!("no signal handler: {error}"))?;
        log::line("INFO", &format!("listening on {address}"), serde_json::Map::new());
        serve(listener, Instance::from_environment(), stop).await;
        log::line("INFO", "drained", serde_json::Map::new());
        Ok(())
    })
}

/// Resolves at the first SIGTERM or SIGINT. The handlers are in place when this returns.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

//! The shell around [`crate::identity_hosts`]: sockets that a Google front end hands over, with TLS
//! inside, and the channel of the other programs of this machine.

use crate::iam_credentials::{self, BODY_MAX};
use crate::identity_hosts::{self, IdentityRequest};
use crate::json_fields::{answer, internal};
use crate::program::{Metadata, http_response, now, record, record_refused_head};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, Response};
use http_proxy::{Body, ConnectionInfo, Handler, HeadError, Incoming, ServerOptions};
use proxy_protocol::Header;
use runtime::log::{self, Severity, Shown};
use runtime::{Drain, Worker};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// A TLS handshake must be done within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// More sockets of front ends than this at once are not served.
const HANDED_OVER_MAX: usize = 10_000;

/// Who asks Google's hosts for identity.
pub(crate) struct IdentityServer {
    pub(crate) worker: Rc<Worker<Metadata>>,
    /// Over the channel [`slice::TOKEN_CHANNEL`].
    pub(crate) from_platform: bool,
}

impl Handler for IdentityServer {
    async fn handle(
        self: Rc<Self>,
        request: Request<Incoming>,
        connection: &Rc<ConnectionInfo>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect(BODY_MAX).await;
        let head = Arc::new(head);
        let response = match body {
            Ok(body) => {
                let (asked, from_platform) = (Arc::clone(&head), self.from_platform);
                let (snapshot, now) = (self.worker.snapshot(), now());
                let account_keys = self.worker.program.account_keys.clone();
                // Making and reading keys would keep the other connections waiting.
                let done = tokio::task::spawn_blocking(move || {
                    let authority = asked.uri.authority().map(|authority| authority.host());
                    let host = asked.headers.get(HOST).and_then(|host| host.to_str().ok());
                    let host = authority.or(host).unwrap_or_default();
                    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
                    let mut credentials = asked.headers.get_all(AUTHORIZATION).iter();
                    let credential = credentials.next().filter(|_| credentials.next().is_none());
                    let request = IdentityRequest {
                        method: asked.method.as_str(),
                        host: &host,
                        path: asked.uri.path(),
                        query: asked.uri.query().unwrap_or_default(),
                        authorization: credential.and_then(|value| value.to_str().ok()),
                        body: &body,
                        from_platform,
                    };
                    identity_hosts::respond(&snapshot, &account_keys, &request, now)
                });
                done.await.unwrap_or_else(|error| answer(Err(internal(error.to_string()))))
            }
            Err(_) => iam_credentials::body_too_large(),
        };
        let remote = connection.peer.map(|peer| Shown(*peer.ip()));
        record(&self.worker.local, &head, &response, remote, None);
        http_response(&head.method, response, false)
    }

    fn refused(&self, error: &HeadError) {
        record_refused_head(&self.worker.local, error);
    }
}

/// Sockets handed over, one after the other, until the front end closes the channel.
pub(crate) async fn handed_over(worker: Rc<Worker<Metadata>>, channel: UnixStream, drain: Drain) {
    loop {
        let taken = tokio::select! {
            taken = net::take_over(&channel) => taken,
            () = drain.wait() => return,
        };
        let (head, socket) = match taken {
            Ok(Some(taken)) => taken,
            Ok(None) => return,
            Err(error) => return warn(&error),
        };
        let Some(socket) = socket else {
            warn(&"no descriptor was free for it");
            continue;
        };
        let count = &worker.program.handed_over;
        if count.fetch_add(1, Ordering::Relaxed) >= HANDED_OVER_MAX {
            count.fetch_sub(1, Ordering::Relaxed);
            warn(&"there are too many of them already");
            continue; // dropping the socket closes it
        }
        let counted = Counted(Arc::clone(count));
        let (worker, drain) = (Rc::clone(&worker), drain.clone());
        tokio::task::spawn_local(async move {
            if let Err(problem) = client(worker, &head, socket, drain).await {
                warn(&problem);
            }
            drop(counted);
        });
    }
}

/// A place among [`HANDED_OVER_MAX`].
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn client(
    worker: Rc<Worker<Metadata>>,
    head: &[u8],
    socket: OwnedFd,
    drain: Drain,
) -> Result<(), String> {
    let header = Header::decode(head).map_err(|error| format!("the PROXY header: {error}"))?;
    let (header, _) = header.ok_or("the PROXY header is not complete")?;
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    let stream = TcpStream::from_std(socket).map_err(|error| error.to_string())?;
    let tls = worker.snapshot().tls.clone().ok_or("there is no certificate for Google's hosts")?;
    // A handshake that fails is the client's own affair, and usual: port scans, probes.
    let Ok((stream, tls)) = http_proxy::tls::accept(tls, stream, HANDSHAKE_TIMEOUT).await else {
        return Ok(());
    };
    let info =
        ConnectionInfo { peer: header.source_v4(), local: header.destination_v4(), tls: Some(tls) };
    let handler = Rc::new(IdentityServer { worker, from_platform: false });
    let options = ServerOptions::default();
    let drain = async move { drain.wait().await };
    http_proxy::serve(stream, Bytes::new(), Rc::new(info), handler, &options, drain).await;
    Ok(())
}

fn warn(problem: &impl std::fmt::Display) {
    log::entry(Severity::Warning, "a connection was not served")
        .field("error", Shown(problem))
        .emit();
}

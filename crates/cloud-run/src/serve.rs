//! The two ways in: HTTP from internal load balancers on the channel `requests`, and sockets with
//! TLS inside, handed over by a Google front end, on the channel `front-end`. Each connection
//! begins with a PROXY v2 header that says where its requests come from; nothing in HTTP does.

use crate::decide::Connection;
use crate::{CloudRun, Snapshot};
use bytes::Bytes;
use http_proxy::{ConnectionInfo, ServerOptions};
use names::Origin;
use proxy_protocol::{HEADER_BYTES_MAX, Header, Tlv};
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Drain, Stream, Worker};
use std::fmt;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UnixStream};

/// The header of a connection, and a TLS handshake, must be there within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// More sockets of front ends than this at once are not served. (Connections on the channels
/// themselves are bounded by the runtime.)
const HANDED_OVER_MAX: usize = 50_000;

/// Serves one accepted connection to its end.
pub async fn serve(worker: Rc<Worker<CloudRun>>, accepted: Accepted) {
    let Accepted { key, stream, drain, .. } = accepted;
    let Stream::Unix(stream) = stream else { return };
    let outcome = match &*key {
        "front-end" => handed_over(worker, stream, drain).await,
        _ => requests(worker, stream, drain).await,
    };
    if let Err(problem) = outcome {
        warn(&problem);
    }
}

fn warn(problem: &Problem) {
    log::entry(Severity::Warning, "a connection was not served")
        .field("error", Shown(problem))
        .emit();
}

/// Connections of a load balancer.
async fn requests(
    worker: Rc<Worker<CloudRun>>,
    mut stream: UnixStream,
    drain: Drain,
) -> Result<(), Problem> {
    let read = tokio::time::timeout(HANDSHAKE_TIMEOUT, header(&mut stream));
    let Some((header, prefix)) = read.await.map_err(|_| Problem::Silent)?? else {
        return Ok(());
    };
    let connection = connection(&worker, &header)?;
    let options = ServerOptions::default();
    let info = info(&header, None);
    let drain = async move { drain.wait().await };
    http_proxy::serve(stream, prefix, info, Rc::new(connection), &options, drain).await;
    Ok(())
}

/// Sockets handed over, one after the other, until the front end closes the channel.
async fn handed_over(
    worker: Rc<Worker<CloudRun>>,
    channel: UnixStream,
    drain: Drain,
) -> Result<(), Problem> {
    loop {
        let taken = tokio::select! {
            taken = net::take_over(&channel) => taken.map_err(Problem::Io)?,
            () = drain.wait() => return Ok(()),
        };
        let Some((head, socket)) = taken else { return Ok(()) };
        let Some(socket) = socket else {
            warn(&Problem::TooMany); // no descriptor was free for it
            continue;
        };
        let Some(counted) = Counted::new(&worker.program.handed_over) else {
            warn(&Problem::TooMany);
            continue; // dropping the socket closes it
        };
        let (worker, drain) = (Rc::clone(&worker), drain.clone());
        tokio::task::spawn_local(async move {
            if let Err(problem) = front_end(worker, &head, socket, drain).await {
                warn(&problem);
            }
            drop(counted);
        });
    }
}

/// A place among [`HANDED_OVER_MAX`].
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Option<Self> {
        let counted = Counted(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < HANDED_OVER_MAX).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client of a Google front end: TLS, then HTTP.
async fn front_end(
    worker: Rc<Worker<CloudRun>>,
    head: &[u8],
    socket: OwnedFd,
    drain: Drain,
) -> Result<(), Problem> {
    let header = match Header::decode(head).map_err(Problem::Header)? {
        Some((header, length)) if length == head.len() => header,
        _ => return Err(Problem::HeaderIncomplete),
    };
    let connection = connection(&worker, &header)?;
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true).map_err(Problem::Io)?;
    let stream = TcpStream::from_std(socket).map_err(Problem::Io)?;
    let Snapshot { tls, .. } = &*worker.snapshot();
    let tls = tls.clone().ok_or(Problem::NoCertificate)?;
    // A handshake that fails is the client's own affair, and usual: port scans, probes.
    let Ok((stream, tls)) = http_proxy::tls::accept(tls, stream, HANDSHAKE_TIMEOUT).await else {
        return Ok(());
    };
    let options = ServerOptions::default();
    let info = info(&header, Some(tls));
    let drain = async move { drain.wait().await };
    http_proxy::serve(stream, Bytes::new(), info, Rc::new(connection), &options, drain).await;
    Ok(())
}

/// Reads the PROXY header, and what came with it; none if the connection is closed at once, as a
/// probe does.
async fn header(stream: &mut UnixStream) -> Result<Option<(Header, Bytes)>, Problem> {
    let mut read = Vec::with_capacity(512);
    loop {
        if let Some((header, length)) = Header::decode(&read).map_err(Problem::Header)? {
            let rest = Bytes::from(read).split_off(length);
            return Ok(Some((header, rest)));
        }
        if read.len() > HEADER_BYTES_MAX {
            return Err(Problem::HeaderIncomplete);
        }
        if stream.read_buf(&mut read).await.map_err(Problem::Io)? == 0 {
            return if read.is_empty() { Ok(None) } else { Err(Problem::HeaderIncomplete) };
        }
    }
}

/// What the header says of every request of the connection.
fn connection(worker: &Rc<Worker<CloudRun>>, header: &Header) -> Result<Connection, Problem> {
    let origin: Origin = header.origin().map_err(Problem::Header)?.ok_or(Problem::NoOrigin)?;
    let service = header.service().map_err(Problem::Header)?.map(|(link, tag)| match tag {
        Some(tag) => format!("{link}#{tag}"),
        None => link.to_string(),
    });
    let client = header.source_v4().map(|source| *source.ip());
    let http2 = header.tlv(Tlv::ALPN) == Some(b"h2");
    Ok(Connection::new(Rc::clone(worker), origin, service, client, http2))
}

fn info(header: &Header, tls: Option<http_proxy::tls::TlsInfo>) -> Rc<ConnectionInfo> {
    Rc::new(ConnectionInfo { peer: header.source_v4(), local: header.destination_v4(), tls })
}

/// Why a connection is not served. All of these are mistakes of a neighbour program.
#[derive(Debug)]
enum Problem {
    Io(std::io::Error),
    Header(proxy_protocol::Error),
    HeaderIncomplete,
    Silent,
    NoOrigin,
    NoCertificate,
    TooMany,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Io(error) => write!(f, "{error}"),
            Problem::Header(error) => write!(f, "the PROXY header: {error}"),
            Problem::HeaderIncomplete => f.write_str("the PROXY header is not complete"),
            Problem::Silent => f.write_str("no PROXY header came in time"),
            Problem::NoOrigin => f.write_str("the PROXY header does not say the origin"),
            Problem::NoCertificate => f.write_str("there is no certificate for *.run.app"),
            Problem::TooMany => write!(f, "there are {HANDED_OVER_MAX} of them already"),
        }
    }
}

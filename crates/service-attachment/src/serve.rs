//! The channel from an endpoint attachment, and each TCP connection that comes over it.
//!
//! A call is two things, whatever way it came: a PROXY header that says who calls whom, and the
//! caller's end of the connection ([`net::Caller`]). [`call`] does all the rest. On one machine both
//! come in one message over the channel, the end being the accepted socket itself; from another
//! machine they would be the first bytes of a stream, and the stream.

use crate::program::{Connected, ServiceAttachment};
use crate::record::Record;
use names::Reason;
use net::splice::reset;
use net::{Caller, take_over};
use proxy_protocol::Header;
use psc::Admission;
use runtime::log::{self, Severity, Shown};
use runtime::{Accepted, Stream, Worker};
use std::convert::Infallible;
use std::io;
use std::net::{Shutdown, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// How long the target may take to accept.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// The product's fixed timer for established TCP connections (private-connectivity 1.4).
const IDLE_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// More sockets than this at once are not taken over. (Connections on the channels themselves are
/// bounded by the runtime.)
const HANDED_OVER_MAX: usize = 50_000;

/// Serves one channel to its end, and returns when everything that came over it has ended.
pub(crate) async fn serve(worker: Rc<Worker<ServiceAttachment>>, accepted: Accepted) {
    let Accepted { stream: Stream::Unix(channel), drain, .. } = accepted else {
        return; // the only listener of this program is a channel
    };
    // Every task holds a sender: the receiver ends when they have all ended.
    let (alive, mut ended) = mpsc::channel::<Infallible>(1);
    let mut draining = pin!(drain.wait());
    let mut drained = false;
    loop {
        let mut taking = pin!(take_over(&channel));
        let taken = loop {
            tokio::select! {
                () = &mut draining, if !drained => {
                    drained = true;
                    // The sender finds the channel closed and goes to the successor. What it has
                    // sent already can still be read, up to the end that this makes.
                    let _ = socket2::SockRef::from(&channel).shutdown(Shutdown::Read);
                }
                taken = &mut taking => break taken,
            }
        };
        match taken {
            Ok(Some((head, socket))) => {
                let (place, before) = worker.program.handed_over.take();
                if before >= HANDED_OVER_MAX {
                    reset(&socket);
                    log::entry(Severity::Warning, "a connection was not taken over")
                        .field("error", Shown(format_args!("there are {before} of them already")))
                        .emit();
                    continue; // dropping the socket resets it
                }
                let (worker, alive) = (Rc::clone(&worker), alive.clone());
                tokio::task::spawn_local(async move {
                    handed_over(&worker, &head, socket).await;
                    drop((place, alive));
                });
            }
            Ok(None) => break,
            Err(error) => {
                log::entry(Severity::Error, "a channel from an endpoint attachment broke")
                    .field("error", Shown(error))
                    .emit();
                break;
            }
        }
    }
    drop((alive, channel));
    let _ = ended.recv().await;
}

/// A call that came over the channel.
async fn handed_over(worker: &Worker<ServiceAttachment>, head: &[u8], socket: OwnedFd) {
    match adopt(socket) {
        Ok(client) => call(worker, head, client).await,
        Err(error) => not_understood("socket", &error),
    }
}

/// Only endpoint attachments can call: this is a fault, not a refusal.
fn not_understood(what: &'static str, error: &dyn std::fmt::Display) {
    log::entry(Severity::Error, "an endpoint attachment sent what cannot be understood")
        .field("what", what)
        .field("error", Shown(error))
        .emit();
}

/// Serves one call to its end: admission, NAT, the dial, the bytes, the record of it all. `head` is
/// the PROXY v2 header of the endpoint attachment, and nothing behind it.
pub(crate) async fn call(worker: &Worker<ServiceAttachment>, head: &[u8], client: impl Caller) {
    let Some(call) = Call::read(head) else {
        client.refuse(Reason::ProxyHeaderMalformed);
        return not_understood("header", &"no PROXY v2 header with addresses and connection id");
    };
    let snapshot = worker.snapshot();
    let connected = snapshot.connected(call.psc_connection_id).map(Arc::clone);
    drop(snapshot); // not kept for the life of the connection
    carry_call(worker, client, &call, connected.as_deref()).await;
}

async fn carry_call(
    worker: &Worker<ServiceAttachment>,
    client: impl Caller,
    call: &Call,
    connected: Option<&Connected>,
) {
    let mut record = Record::new(call.client, call.destination, call.psc_connection_id, connected);
    let Some((connected, attachment)) =
        connected.and_then(|one| Some((one, one.attachment.as_deref()?)))
    else {
        let reason = Reason::PscConnectionNotAccepted;
        client.refuse(reason);
        return record.refused(reason, None);
    };
    let port = call.destination.port();
    // The load is held until the end of this connection; the dial is a part of it.
    let (admission, _load) = connected
        .cuts
        .open
        .admit(|open| psc::admit(&connected.connection, &attachment.target, port, open));
    let (source, to) = match admission {
        Admission::Admitted { source, target } => (source, target),
        Admission::Refused(reason) => {
            client.refuse(reason);
            return record.refused(reason, None);
        }
    };
    let network = worker.context().network();
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, network.dial(Some(source), to)).await;
    let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let first = match attachment.enable_proxy_protocol {
        true => call.header(connected.connection.proxy_connection_id),
        false => Ok(Vec::new()),
    };
    let (target, first) = match (dialled, first) {
        (Ok(target), Ok(first)) => (target, first),
        (Err(error), _) | (_, Err(error)) => {
            let reason = Reason::DroppedInsidePscServiceProducer;
            client.refuse(reason);
            return record.refused(reason, Some(&format!("{to}: {error}")));
        }
    };
    let nat = target.local_addr().map(|actual| network.declared(actual));
    record.opened(attachment, nat.unwrap_or(SocketAddrV4::new(source, 0)), to);
    let cut = if call.far { &connected.cuts.far } else { &connected.cuts.near };
    record.carried(client.carry(target, first, IDLE_TIMEOUT, cut).await);
}

/// A load balancer hands over one end of a pair of Unix stream sockets: what is done to a socket
/// here (recv, send, splice, shutdown) is the same for both kinds.
fn adopt(socket: OwnedFd) -> io::Result<TcpStream> {
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket)
}

/// What the endpoint attachment says of a connection.
struct Call {
    client: SocketAddrV4,
    destination: SocketAddrV4,
    psc_connection_id: u64,
    /// The client is in another region than the endpoint.
    far: bool,
}

impl Call {
    fn read(head: &[u8]) -> Option<Call> {
        let (header, length) = Header::decode(head).ok()??;
        if length != head.len() {
            return None;
        }
        Some(Call {
            client: header.source_v4()?,
            destination: header.destination_v4()?,
            psc_connection_id: header.psc_connection_id()?,
            far: header.region().ok()?.is_some(),
        })
    }

    /// The header for the target: that of the product and nothing else (private-connectivity 1.5).
    fn header(&self, psc_connection_id: u64) -> io::Result<Vec<u8>> {
        Header::tcp(self.client, self.destination)
            .with_psc_connection_id(psc_connection_id)
            .and_then(|header| header.encode())
            .map_err(io::Error::other)
    }
}

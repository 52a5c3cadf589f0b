//! Connections to endpoints.

use super::choice::Choice;
use super::endpoint::{Endpoint, Target};
use super::tracked::{Cut, Tracked};
use crate::InternalLb;
use crate::upstream::PoolKey;
use http_proxy::{BoxIo, tls};
use names::{NetworkId, Reason};
use net::Channel;
use proxy_protocol::Header;
use runtime::Worker;
use runtime::log::{self, Severity, Shown};
use slice::load_balancer::{Protocol, ServiceAttachmentEndpoint};
use slice::service_attachment_channel;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// How long a connection waits for a service attachment that is restarting or busy.
const PATIENCE: Duration = Duration::from_secs(4);

/// What a worker thread keeps for its connections to endpoints.
#[derive(Default)]
pub struct Lanes {
    /// Endpoints whose connections are given up when they are removed, by number.
    watched: RefCell<HashMap<u64, Rc<Cut>>>,
    /// To the service attachments of producer networks.
    channels: RefCell<HashMap<NetworkId, Rc<Channel>>>,
}

/// A connection that was refused for a reason that has a name, inside an [`io::Error`].
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// More of it; may be empty.
    pub detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail.is_empty() {
            true => f.write_str(self.reason.summary()),
            false => f.write_str(&self.detail),
        }
    }
}

impl std::error::Error for Refused {}

/// A connection that is refused for this reason.
pub fn refuse(reason: Reason, detail: String) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, Refused { reason, detail })
}

/// The named reason of a connection that did not come about, if it has one.
pub fn refused(error: &io::Error) -> Option<&Refused> {
    error.get_ref()?.downcast_ref()
}

impl Choice {
    /// A connection to the endpoint, from the address of the proxy-only subnet where there is one
    /// (2.1), in TLS where the backend service says so. The certificate is not verified; a server
    /// name is sent where the endpoint is named.
    ///
    /// # Errors
    /// `InvalidData`: the TLS handshake failed; see also [`refused`]. Else those of the connect.
    pub async fn dial(&self, worker: &Rc<Worker<InternalLb>>) -> io::Result<BoxIo> {
        let endpoint = &self.endpoint;
        let _waits = self.service.waits()?;
        let cut = watch(endpoint, worker);
        if let Some(most) = endpoint.manner.requests_per_connection {
            worker.local.pool.limit(&PoolKey::Endpoint(endpoint.number, self.version()), most);
        }
        // Without a limit nobody is cut off, and nothing needs to be watched.
        let cut = (!endpoint.manner.draining.is_zero()).then_some(cut);
        match &endpoint.target {
            Target::Attachment(to) => {
                let io = attach(worker, endpoint, to).await?;
                match cut {
                    Some(cut) => secure(worker, endpoint, Tracked::new(io, cut)).await,
                    None => secure(worker, endpoint, io).await,
                }
            }
            Target::Address(address) | Target::Named(_, address) => {
                let io = connect(worker, endpoint, *address).await?;
                match cut {
                    Some(cut) => secure(worker, endpoint, Tracked::new(io, cut)).await,
                    None => secure(worker, endpoint, io).await,
                }
            }
        }
    }
}

impl Choice {
    /// A plain connection to the endpoint, from the address of the proxy-only subnet.
    ///
    /// # Errors
    /// See also [`refused`]. Else those of the connect.
    pub async fn connect(&self, worker: &Rc<Worker<InternalLb>>) -> io::Result<TcpStream> {
        let endpoint = &self.endpoint;
        match &endpoint.target {
            Target::Attachment(to) => {
                // One end of a Unix pair: what is done to it is the same as with TCP.
                let pair = attach(worker, endpoint, to).await?.into_std()?;
                let pair = std::net::TcpStream::from(OwnedFd::from(pair));
                pair.set_nonblocking(true)?;
                TcpStream::from_std(pair)
            }
            Target::Address(address) | Target::Named(_, address) => {
                connect(worker, endpoint, *address).await
            }
        }
    }

    /// Comes when the endpoint was removed and has drained; never, where nothing limits that.
    pub async fn drained(&self) {
        self.endpoint.removed().await;
        match self.endpoint.manner.draining {
            Duration::ZERO => std::future::pending().await,
            draining => tokio::time::sleep(draining).await,
        }
    }
}

/// Kept connections do not outlive the endpoint, and others not for longer than it drains.
fn watch(endpoint: &Arc<Endpoint>, worker: &Rc<Worker<InternalLb>>) -> Rc<Cut> {
    let watched = &worker.local.lanes.watched;
    if let Some(cut) = watched.borrow().get(&endpoint.number) {
        return Rc::clone(cut);
    }
    let cut = Rc::new(Cut::default());
    watched.borrow_mut().insert(endpoint.number, Rc::clone(&cut));
    let (gone, worker, ends) = (Arc::clone(endpoint), Rc::clone(worker), Rc::clone(&cut));
    tokio::task::spawn_local(async move {
        gone.removed().await;
        let key = PoolKey::Endpoint(gone.number, super::choice::version(gone.manner.protocol));
        worker.local.pool.forget(&key);
        worker.local.lanes.watched.borrow_mut().remove(&gone.number);
        if !gone.manner.draining.is_zero() {
            tokio::time::sleep(gone.manner.draining).await;
            ends.cut();
        }
    });
    cut
}

/// From the proxy-only subnet, where this network has it. A program started by hand may be on a
/// machine without that address, and then takes the machine's own, which it says.
pub(super) async fn connect(
    worker: &Worker<InternalLb>,
    endpoint: &Endpoint,
    address: SocketAddrV4,
) -> io::Result<TcpStream> {
    let network = worker.context().network();
    let source = endpoint.manner.source.filter(|source| network.has_host(*source));
    match network.dial(source, address).await {
        Err(error) if source.is_some() && error.kind() == io::ErrorKind::AddrNotAvailable => {
            if !worker.program.kept.sourceless.swap(true, Ordering::Relaxed) {
                log::entry(
                    Severity::Warning,
                    "this machine has no address of the proxy-only subnet",
                )
                .field("address", source.map(Shown))
                .field("error", error.to_string().as_str())
                .emit();
            }
            network.dial(None, address).await
        }
        dialled => dialled,
    }
}

/// Hands one end of a socket pair to the service attachment, as the attachment of an endpoint does
/// with a connection that it accepted: admission, NAT and counting happen there.
async fn attach(
    worker: &Worker<InternalLb>,
    from: &Endpoint,
    to: &ServiceAttachmentEndpoint,
) -> io::Result<UnixStream> {
    let endpoint = &to.endpoint;
    let states = worker.program.connections.load();
    let state = states.get(&endpoint.psc_connection_id);
    // The load balancer is in the group's region.
    if let Some(reason) = psc::enter(endpoint, None, state) {
        return Err(refuse(reason, state.map(|state| state.detail.clone()).unwrap_or_default()));
    }
    let Some(producer) = &endpoint.producer_network else {
        return Err(io::ErrorKind::NotConnected.into()); // refused by `enter`
    };
    let client = from.manner.source.unwrap_or(endpoint.address);
    // A pair of sockets has no port.
    let header = Header::tcp(
        SocketAddrV4::new(client, 0),
        SocketAddrV4::new(endpoint.address, to.producer_port),
    )
    .with_psc_connection_id(endpoint.psc_connection_id)
    .and_then(|header| header.encode())
    .map_err(io::Error::other)?;
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let lane = lane(worker, producer);
    lane.hand_over(&header, far.as_fd(), PATIENCE)
        .await
        .map_err(|error| refuse(Reason::DroppedInsidePscServiceProducer, error.to_string()))?;
    UnixStream::from_std(near)
}

fn lane(worker: &Worker<InternalLb>, producer: &NetworkId) -> Rc<Channel> {
    let mut channels = worker.local.lanes.channels.borrow_mut();
    if let Some(channel) = channels.get(producer) {
        return Rc::clone(channel);
    }
    let path = worker.context().channel(&service_attachment_channel(producer));
    let channel = Rc::new(Channel::new(path));
    channels.insert(producer.clone(), Rc::clone(&channel));
    channel
}

async fn secure<IO: AsyncRead + AsyncWrite + Unpin + 'static>(
    worker: &Worker<InternalLb>,
    endpoint: &Endpoint,
    io: IO,
) -> io::Result<BoxIo> {
    let (config, h2) = match endpoint.manner.protocol {
        Protocol::Http | Protocol::H2c | Protocol::Tcp => return Ok(Box::new(io)),
        Protocol::Https => (&worker.program.backend_http1, false),
        Protocol::Http2 => (&worker.program.backend_http2, true),
    };
    let stream = tls::connect(config.clone(), &server_name(&endpoint.target), io)
        .await
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    if h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the backend speaks no HTTP/2"));
    }
    Ok(Box::new(stream))
}

/// An address as server name: no SNI is sent.
pub(super) fn server_name(target: &Target) -> String {
    match target {
        Target::Named(name, _) => name.trim_end_matches('.').to_owned(),
        Target::Address(address) => address.ip().to_string(),
        Target::Attachment(to) => to.endpoint.address.to_string(),
    }
}

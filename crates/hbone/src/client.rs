//! The side that opens tunnels: connections to one peer, reused and bounded.

use crate::credentials::Loaded;
use crate::keepalive::{Keepalive, Pulse};
use crate::limits::*;
use crate::rendezvous::Backoff;
use crate::server::Authenticated;
use crate::tunnel::{Failure, Slot};
use crate::{Credentials, Identity, Tunnel, head};
use bytes::Bytes;
use h2::client::SendRequest;
use http::StatusCode;
use names::NetworkId;
use proxy_protocol::Header;
use rustls::pki_types::{CertificateDer, ServerName};
use slice::Role;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::{TlsConnector, TlsStream};

/// How often a tunnel that was lost with its connection is tried on another one.
const ATTEMPTS: usize = 3;

/// Connections over which tunnels to one peer are opened, whoever dialled them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    credentials: Arc<Credentials>,
    connections: Mutex<Vec<Arc<Pooled>>>,
    /// Somebody may find a place now.
    changed: Notify,
}

#[derive(Debug)]
struct Pooled {
    sender: SendRequest<Bytes>,
    streams: Arc<AtomicUsize>,
    /// The credentials that it was made with.
    number: u64,
}

impl Pooled {
    fn room(&self) -> usize {
        let most = self.sender.current_max_send_streams().min(STREAMS_MAX);
        most.saturating_sub(self.streams.load(Ordering::Relaxed))
    }
}

impl Pool {
    /// Without a connection yet.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        let (connections, changed) = Default::default();
        Pool(Arc::new(Shared { credentials, connections, changed }))
    }

    /// What is shown to the peer.
    pub fn credentials(&self) -> &Credentials {
        &self.0.credentials
    }

    /// Lets go of every connection: each ends once its tunnels have ended.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.lock().len()
    }

    /// How many tunnels are open or opening.
    pub fn tunnels(&self) -> usize {
        self.lock().iter().map(|one| one.streams.load(Ordering::Relaxed)).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Pooled>>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place on the fullest connection that has one, so that others can become idle. Connections
    /// made with older credentials get no more tunnels.
    fn place(&self, number: u64) -> Option<(Arc<Pooled>, Slot)> {
        let mut connections = self.lock();
        connections.retain(|one| one.number == number);
        let open = connections.iter().filter(|one| one.room() > 0);
        let one = open.min_by_key(|one| one.room())?;
        Some((Arc::clone(one), Slot::take(&one.streams)))
    }

    fn has(&self, pooled: &Arc<Pooled>) -> bool {
        self.lock().iter().any(|one| Arc::ptr_eq(one, pooled))
    }

    fn remove(&self, pooled: &Arc<Pooled>) {
        self.lock().retain(|one| !Arc::ptr_eq(one, pooled));
    }

    /// Opens a tunnel on a connection of a producer that dials out, waiting at most `patience` for
    /// one.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn open(&self, header: &Header, patience: Duration) -> Result<Tunnel, Failure> {
        let until = Instant::now() + patience;
        self.open_on(header, || async {
            let find = async {
                loop {
                    let changed = self.0.changed.notified();
                    let number = self.0.credentials.current().map_err(Failure::Credentials)?.number;
                    if let Some(place) = self.place(number) {
                        return Ok(place);
                    }
                    changed.await;
                }
            };
            timeout_at(until, find).await.unwrap_or(Err(Failure::NoRendezvous))
        })
        .await
    }

    /// Opens a tunnel on a connection that `find` has found, or on another one if the first is lost
    /// before it has answered: nothing of the client was read by then.
    async fn open_on<F, Found>(&self, header: &Header, find: F) -> Result<Tunnel, Failure>
    where
        F: Fn() -> Found,
        Found: Future<Output = Result<(Arc<Pooled>, Slot), Failure>>,
    {
        let mut last = Failure::NoRendezvous;
        for _ in 0..ATTEMPTS {
            let (pooled, slot) = find().await?;
            match connect(&pooled.sender, header, slot).await {
                Ok(tunnel) => return Ok(tunnel),
                Err(Attempt::Lost(error)) => {
                    self.remove(&pooled);
                    last = Failure::Unreachable(error);
                }
                Err(Attempt::Ended(failure)) => return Err(failure),
            }
        }
        Err(last)
    }

    /// Adds a connection of a producer that has dialled out, for as long as what is returned is
    /// polled: it ends with the connection.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn take_in(
        &self,
        connection: Authenticated,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Failure> {
        let loaded = self.0.credentials.current().map_err(Failure::Credentials)?;
        self.adopt(connection.stream, &loaded, false).await
    }

    /// Makes an HTTP/2 client of an authenticated TLS connection, adds it, and returns what drives
    /// it: a future that ends with the connection. The peer has answered by then.
    pub(crate) async fn adopt(
        &self,
        stream: TlsStream<TcpStream>,
        loaded: &Arc<Loaded>,
        peer_is_server: bool,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Failure> {
        if self.connections() >= POOL_MAX {
            return Err(Failure::Full);
        }
        let failed = |error: h2::Error| Failure::Unreachable(error.to_string());
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADERS_MAX)
            .max_send_buffer_size(SEND_BUFFER)
            .initial_max_send_streams(STREAMS_MAX)
            .enable_push(false);
        let chain = peer_chain(&stream);
        let (sender, mut connection) = builder.handshake(stream).await.map_err(failed)?;
        let ping = connection.ping_pong();
        let streams = Arc::new(AtomicUsize::new(0));
        let mut pulse = ping
            .map(Keepalive::new)
            .ok_or_else(|| Failure::Unreachable("the connection gives no PING".to_owned()))?;
        // The first answer comes behind the peer's SETTINGS: only then has it accepted us.
        let first = async {
            tokio::select! {
                ended = &mut connection => Err(match ended {
                    Ok(()) => Failure::Unreachable("closed by the peer".to_owned()),
                    Err(error) => ended_by(&error),
                }),
                found = pulse.next() => match found {
                    Pulse::Answered => Ok(()),
                    _ => Err(Failure::Unreachable("no answer from the peer".to_owned())),
                },
            }
        };
        let timed_out = |_| Err(Failure::Unreachable("no answer from the peer".to_owned()));
        timeout(HANDSHAKE_TIMEOUT, first).await.unwrap_or_else(timed_out)?;
        let pooled = Arc::new(Pooled { sender, streams, number: loaded.number });
        {
            let mut connections = self.lock();
            // Others were adopted meanwhile.
            if connections.len() >= POOL_MAX {
                return Err(Failure::Full);
            }
            connections.push(Arc::clone(&pooled));
        }
        self.0.changed.notify_waiters();
        let pool = self.clone();
        Ok(async move {
            // A connection that the peer has dialled is the peer's to keep.
            let closes_idle = peer_is_server;
            let mut idle_since = Instant::now();
            let mut pooled = Some(pooled);
            loop {
                tokio::select! {
                    _ = &mut connection => break,
                    found = pulse.next() => match found {
                        Pulse::Dead => break,
                        Pulse::Answered => {}
                        Pulse::Interval => {
                            let Some(one) = &pooled else { continue };
                            if one.streams.load(Ordering::Relaxed) > 0 {
                                idle_since = Instant::now();
                            }
                            let credentials = pool.0.credentials.current().ok();
                            let credentials = credentials.filter(|_| pool.has(one));
                            let stays = credentials.is_some_and(|now| {
                                now.number == one.number
                                    && now.judge.again(&chain, peer_is_server).is_ok()
                            });
                            // Dropping the sender ends the connection once its tunnels have ended.
                            if !stays || closes_idle && idle_since.elapsed() >= IDLE {
                                pool.remove(one);
                                pooled = None;
                            }
                        }
                    },
                }
            }
            if let Some(one) = pooled {
                pool.remove(&one);
            }
        })
    }
}

pub(crate) fn peer_chain(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    chain.iter().map(|certificate| certificate.clone().into_owned()).collect()
}

/// An attempt to open a tunnel.
enum Attempt {
    /// The connection is lost, or takes no more.
    Lost(String),
    /// There is nothing to be tried again.
    Ended(Failure),
}

async fn connect(
    sender: &SendRequest<Bytes>,
    header: &Header,
    slot: Slot,
) -> Result<Tunnel, Attempt> {
    let lost = |error: h2::Error| Attempt::Lost(error.to_string());
    let unreachable = |what: &str| Attempt::Ended(Failure::Unreachable(what.to_owned()));
    let bytes = header.encode().map_err(|error| unreachable(&error.to_string()))?;
    let request = head::request(header).map_err(|error| unreachable(&error.to_string()))?;
    let mut sender = sender.clone();
    let opening = async {
        poll_fn(|cx| sender.poll_ready(cx)).await.map_err(lost)?;
        let (response, mut send) = sender.send_request(request, false).map_err(lost)?;
        send.send_data(Bytes::from(bytes), false).map_err(lost)?;
        let response = match response.await {
            Ok(response) => response,
            // The peer has seen it, and let go of it: it would again.
            Err(error)
                if error.is_reset() && error.reason() != Some(h2::Reason::REFUSED_STREAM) =>
            {
                return Err(unreachable(&error.to_string()));
            }
            Err(error) => return Err(lost(error)),
        };
        if response.status() != StatusCode::OK {
            let reason = head::reason(response.headers());
            return Err(Attempt::Ended(Failure::Refused(response.status(), reason)));
        }
        Ok((send, response.into_body()))
    };
    let (send, recv) = timeout(ANSWER_TIMEOUT, opening)
        .await
        .unwrap_or_else(|_| Err(unreachable("no answer to CONNECT")))?;
    Ok(Tunnel { send, recv, held: Bytes::new(), _slot: slot })
}

/// A pool whose connections are dialled when they are needed.
#[derive(Debug)]
pub struct Dialler {
    pool: Pool,
    address: SocketAddr,
    network: NetworkId,
    /// One dials at a time; who comes later takes what the first has got.
    dialling: tokio::sync::Mutex<Backoff>,
}

impl Dialler {
    /// For the service attachments of a producer network. Nothing is dialled yet.
    pub fn new(credentials: Arc<Credentials>, address: SocketAddr, network: NetworkId) -> Self {
        Dialler { pool: Pool::new(credentials), address, network, dialling: Default::default() }
    }

    /// Its connections.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Opens a tunnel, waiting at most `patience` for a connection.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn open(&self, header: &Header, patience: Duration) -> Result<Tunnel, Failure> {
        let until = Instant::now() + patience;
        self.pool.open_on(header, || self.find(until)).await
    }

    async fn find(&self, until: Instant) -> Result<(Arc<Pooled>, Slot), Failure> {
        let credentials = &self.pool.0.credentials;
        let number = credentials.current().map_err(Failure::Credentials)?.number;
        if let Some(place) = self.pool.place(number) {
            return Ok(place);
        }
        let mut last = Failure::Unreachable(format!("{}: no connection in time", self.address));
        let find = async {
            let mut backoff = self.dialling.lock().await;
            loop {
                let loaded = credentials.current().map_err(Failure::Credentials)?;
                if let Some(place) = self.pool.place(loaded.number) {
                    return Ok(place);
                }
                if self.pool.connections() >= POOL_MAX {
                    return Err(Failure::Full);
                }
                backoff.wait().await;
                match self.dial(&loaded).await {
                    Ok(()) => backoff.succeeded(),
                    Err(failure) => {
                        backoff.failed();
                        if matches!(failure, Failure::Identity(_) | Failure::Credentials(_)) {
                            return Err(failure);
                        }
                        last = failure;
                    }
                }
            }
        };
        let found = timeout_at(until, find).await;
        found.unwrap_or(Err(last))
    }

    async fn dial(&self, loaded: &Arc<Loaded>) -> Result<(), Failure> {
        let peer = loaded.identity.peer(&self.network, Role::ServiceAttachment);
        let peer = peer.map_err(|error| Failure::Identity(error.to_string()))?;
        let stream = dial(self.address, loaded, peer).await?;
        let driven = self.pool.adopt(stream, loaded, true).await?;
        tokio::spawn(driven);
        Ok(())
    }
}

/// A TLS connection to this peer and no other.
pub(crate) async fn dial(
    address: SocketAddr,
    loaded: &Loaded,
    peer: Identity,
) -> Result<TlsStream<TcpStream>, Failure> {
    let config = loaded.client(peer).map_err(Failure::Credentials)?;
    let unreachable = |error: std::io::Error| Failure::Unreachable(format!("{address}: {error}"));
    let dialling = async {
        let stream = TcpStream::connect(address).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let name = ServerName::IpAddress(address.ip().into());
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map(TlsStream::from).map_err(|error| match tls_fault(&error) {
            true => Failure::Identity(format!("{address}: {error}")),
            false => unreachable(error),
        })
    };
    let late =
        |_| Err(Failure::Unreachable(format!("{address}: the handshake did not end in time")));
    timeout(HANDSHAKE_TIMEOUT, dialling).await.unwrap_or_else(late)
}

/// Is it the certificate, ours or the peer's, rather than the way?
pub(crate) fn tls_fault(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)))
}

fn ended_by(error: &h2::Error) -> Failure {
    // HTTP/2 keeps the kind and the text of an error: TLS faults are invalid data, and nothing else
    // at this point is.
    match error.get_io() {
        Some(inner) if inner.kind() == std::io::ErrorKind::InvalidData => {
            Failure::Identity(error.to_string())
        }
        _ => Failure::Unreachable(error.to_string()),
    }
}

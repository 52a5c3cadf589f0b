//! The side that answers tunnels: handshakes and streams within bounds, whoever dialled.

use crate::client::peer_chain;
use crate::head::{self, Gathering, Malformed};
use crate::keepalive::{Keepalive, Pulse};
use crate::limits::*;
use crate::rendezvous::Load;
use crate::tunnel::{Failure, Slot};
use crate::verify::identity_of;
use crate::{Credentials, Identity, Terms, Tunnel, carry};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Request, Response};
use names::Reason;
use net::splice::{Carried, Cut, End, Side, reset};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsStream};

/// What bounds all connections of one program.
#[derive(Debug, Default)]
pub struct Server {
    handshakes: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

/// A connection whose peer has shown who it is.
#[derive(Debug)]
pub struct Authenticated {
    pub(crate) stream: TlsStream<TcpStream>,
    /// Who.
    pub peer: Identity,
    /// The peer is the TLS server: this side has dialled.
    peer_is_server: bool,
}

impl Authenticated {
    pub(crate) fn dialled(stream: TlsStream<TcpStream>, peer: Identity) -> Self {
        Authenticated { stream, peer, peer_is_server: true }
    }
}

/// A tunnel that a peer asks for. Dropping it unanswered resets it.
#[derive(Debug)]
pub struct Incoming {
    /// Who asks.
    pub peer: Arc<Identity>,
    head: Vec<u8>,
    respond: SendResponse<Bytes>,
    recv: RecvStream,
    held: Bytes,
    slot: Slot,
}

impl Incoming {
    /// Opens it.
    ///
    /// # Errors
    /// The peer has given up, or its connection is lost.
    fn accept(mut self) -> Result<Tunnel, Failure> {
        let send = self
            .respond
            .send_response(Response::new(()), false)
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        Ok(Tunnel { send, recv: self.recv, held: self.held, _slot: self.slot })
    }

    /// The PROXY header as it came; empty if it was none.
    pub fn head(&self) -> &[u8] {
        &self.head
    }
}

impl net::Caller for Incoming {
    fn refuse(mut self, reason: Reason) {
        // An error means that there is nobody to be told.
        let _ = self.respond.send_response(head::refusal(reason), true);
    }

    async fn carry(
        self,
        target: TcpStream,
        first: Vec<u8>,
        idle_timeout: Duration,
        cut: &Cut,
    ) -> Carried {
        let terms =
            Terms { tunnel: Side::Client, first, idle_timeout: Some(idle_timeout), cut: Some(cut) };
        match self.accept() {
            Ok(tunnel) => carry(target, tunnel, terms).await,
            Err(_) => {
                reset(&target);
                let end = End::Broken(Side::Client, ErrorKind::ConnectionReset);
                Carried { to_target: 0, to_client: 0, end }
            }
        }
    }
}

impl Server {
    /// The handshake of a connection that has come in.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn accept(
        &self,
        stream: TcpStream,
        credentials: &Credentials,
    ) -> Result<Authenticated, Failure> {
        let place = Slot::take(&self.handshakes);
        if self.handshakes.load(Ordering::Relaxed) > HANDSHAKES_MAX
            || self.connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX
        {
            return Err(Failure::Full);
        }
        let loaded = credentials.current().map_err(Failure::Credentials)?;
        let accepting = TlsAcceptor::from(loaded.server()).accept(stream);
        let accepted = timeout(HANDSHAKE_TIMEOUT, accepting).await;
        drop(place);
        let stream = match accepted {
            Ok(Ok(stream)) => TlsStream::from(stream),
            Ok(Err(error)) if crate::client::tls_fault(&error) => {
                return Err(Failure::Identity(error.to_string()));
            }
            Ok(Err(error)) => return Err(Failure::Unreachable(error.to_string())),
            Err(_) => {
                let late = "the handshake did not end in time";
                return Err(Failure::Unreachable(late.to_owned()));
            }
        };
        let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = peer.and_then(identity_of);
        let peer = peer.ok_or_else(|| Failure::Identity("no SPIFFE id".to_owned()))?;
        Ok(Authenticated { stream, peer, peer_is_server: false })
    }

    /// Answers the tunnels of a connection until it ends, each in a task of its own. Once `drain`
    /// resolves, or the peer's certificate is no longer good, there are no new ones.
    pub async fn answer<H, Handled>(
        &self,
        connection: Authenticated,
        credentials: &Credentials,
        drain: impl Future<Output = ()>,
        handle: H,
    ) where
        H: Fn(Incoming) -> Handled + Clone + 'static,
        Handled: Future<Output = ()> + 'static,
    {
        self.serve(connection, credentials, drain, &Load::default(), None, handle).await;
    }

    pub(crate) async fn serve<H, Handled>(
        &self,
        connection: Authenticated,
        credentials: &Credentials,
        drain: impl Future<Output = ()>,
        load: &Load,
        mut answered: Option<oneshot::Sender<()>>,
        handle: H,
    ) where
        H: Fn(Incoming) -> Handled + Clone + 'static,
        Handled: Future<Output = ()> + 'static,
    {
        let _place = Slot::take(&self.connections);
        let Authenticated { stream, peer, peer_is_server } = connection;
        let (peer, chain) = (Arc::new(peer), peer_chain(&stream));
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_header_list_size(HEADERS_MAX)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_streams(STREAMS_MAX as u32);
        let handshake = timeout(HANDSHAKE_TIMEOUT, builder.handshake::<_, Bytes>(stream)).await;
        let Ok(Ok(mut connection)) = handshake else { return };
        let Some(mut pulse) = connection.ping_pong().map(Keepalive::new) else { return };
        let mut drain = pin!(drain);
        let mut draining = false;
        loop {
            tokio::select! {
                accepted = connection.accept() => {
                    // An error ends the connection, and its streams have their own.
                    let Some(Ok((request, respond))) = accepted else { return };
                    let slot = Slot::take(&load.tunnels);
                    load.changed.notify_one();
                    let (peer, handle) = (Arc::clone(&peer), handle.clone());
                    tokio::task::spawn_local(async move {
                        handle(gather(peer, request, respond, slot).await).await;
                    });
                }
                found = pulse.next() => match found {
                    Pulse::Dead => return,
                    Pulse::Answered => {
                        if let Some(answered) = answered.take() {
                            // Nobody waits any more: fine.
                            let _ = answered.send(());
                        }
                    }
                    Pulse::Interval if draining => {}
                    Pulse::Interval => {
                        // Without credentials of our own nobody can be judged: nothing changes.
                        let good = credentials.current().map_or(true, |now| {
                            now.judge.again(&chain, peer_is_server).is_ok()
                        });
                        if !good {
                            draining = true;
                            connection.graceful_shutdown();
                        }
                    }
                },
                () = &mut drain, if !draining => {
                    draining = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }
}

/// Reads the head of a tunnel. One that is malformed or has not come in time is empty: whoever handles
/// the tunnel refuses it, and writes that down.
async fn gather(
    peer: Arc<Identity>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    slot: Slot,
) -> Incoming {
    let destination = head::destination(&request);
    let mut recv = request.into_body();
    let header = async {
        let destination = destination?;
        let mut gathering = Gathering::default();
        loop {
            let bytes = poll_fn(|cx| recv.poll_data(cx)).await;
            let Some(Ok(mut bytes)) = bytes else { return Err(Malformed::Short) };
            let took = gathering.push(&bytes)?;
            let length = took.as_ref().map_or(bytes.len(), |(_, length)| *length);
            let _ = recv.flow_control().release_capacity(length);
            if let Some((header, length)) = took {
                head::check(&header, destination)?;
                return Ok((gathering.into_head(), bytes.split_off(length)));
            }
        }
    };
    match timeout(HEADER_TIMEOUT, header).await {
        Ok(Ok((head, held))) => Incoming { peer, head, respond, recv, held, slot },
        Ok(Err(_)) | Err(_) => {
            Incoming { peer, head: Vec::new(), respond, recv, held: Bytes::new(), slot }
        }
    }
}

//! UDP: what clients send to an endpoint, to the service attachment, and the answers back.
//!
//! Nothing is kept of a client here: each datagram travels over a lane ([`net::packets`]) behind a
//! PROXY v2 header that names it, and each answer comes back behind the same header. Mappings, NAT
//! and the idle timeout are the service attachment's.
//!
//! Whoever may not enter hears nothing, as on Google Cloud: his datagrams are dropped and counted.

use crate::program::{EndpointAttachment, Served};
use crate::refusal::Refusal;
use crate::way::Way;
use names::{NetworkId, Reason};
use net::Packets;
use net::packets::{send, with_buffer};
use proxy_protocol::{Header, Transport};
use runtime::{UdpListener, Worker};
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;
use tokio::net::UdpSocket;

/// Datagrams taken in one go before the other direction has its turn.
const BATCH: usize = 32;
/// Refused clients that are remembered, so that each is logged once.
const REFUSED_MAX: usize = 1024;

/// Serves one UDP port of an endpoint until its listener drains. One thread does, so that what one
/// client sends stays in order and has one mapping.
pub(crate) async fn serve(worker: Rc<Worker<EndpointAttachment>>, listener: UdpListener) {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&*listener.key);
    if hash % worker.context().workers() as u64 != worker.index as u64 {
        return;
    }
    let socket = listener.socket.try_clone().and_then(UdpSocket::from_std);
    let outcome = match socket {
        Ok(socket) => {
            Port { worker: &worker, listener, socket, lane: None, refused: HashSet::new() }
                .run()
                .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        runtime::log::entry(runtime::log::Severity::Error, "a UDP port of a PSC endpoint failed")
            .field("error", error.to_string().as_str())
            .emit();
    }
}

/// One UDP port of an endpoint.
struct Port<'a> {
    worker: &'a Worker<EndpointAttachment>,
    listener: UdpListener,
    socket: UdpSocket,
    /// With the producer network that it leads to. Opened when there is something to send, and anew
    /// when the other end is gone or the endpoint has a target elsewhere.
    lane: Option<(NetworkId, Packets)>,
    refused: HashSet<(SocketAddrV4, Reason)>,
}

impl Port<'_> {
    async fn run(mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                () = self.listener.drain.wait() => return Ok(()),
                readable = self.socket.readable() => {
                    readable?;
                    self.take().await;
                }
                readable = answers(self.lane.as_ref().map(|(_, lane)| lane)) => {
                    if readable.is_err() || !self.give_back() {
                        self.lane = None;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes what clients have sent.
    async fn take(&mut self) {
        let snapshot = self.worker.snapshot();
        // None: the endpoint was deleted, and its listener is about to be.
        let served = snapshot.served(&self.listener.key);
        for _ in 0..BATCH {
            let mut lost = None;
            let received = with_buffer(|buffer| {
                let (length, peer) = self.socket.try_recv_from(buffer)?;
                if let Some((served, port)) = served {
                    let destination = SocketAddrV4::new(served.endpoint.address, *port);
                    lost =
                        self.pass(served, self.listener.peer(peer), destination, &buffer[..length]);
                }
                Ok::<(), io::Error>(())
            });
            if received.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                return;
            }
            // The lane has ended, leads to another producer, or was not asked for yet.
            if let (Some(message), Some((served, _))) = (lost, served) {
                self.lane = self.open(served).await;
                let sent = self.lane.as_ref().map(|(_, lane)| lane.try_send(&message, &[]));
                if !matches!(sent, Some(Ok(()))) {
                    dropped();
                }
            }
        }
    }

    /// Sends one datagram on. `Some` is the message, for which there is no lane.
    fn pass(
        &mut self,
        served: &Served,
        client: SocketAddrV4,
        destination: SocketAddrV4,
        datagram: &[u8],
    ) -> Option<Vec<u8>> {
        let endpoint = &served.endpoint;
        let workload = self.worker.workload(*client.ip());
        let region = workload.as_deref().map(|workload| workload.region.as_str());
        let states = self.worker.program.states();
        let state = states.get(&endpoint.psc_connection_id);
        if let Some(reason) = psc::enter(endpoint, region, state) {
            let refusal = Refusal { served, client, destination, reason, state, error: None };
            refusal.count();
            if self.refused.len() >= REFUSED_MAX {
                self.refused.clear();
            }
            if self.refused.insert((client, reason)) {
                refusal.log();
            }
            return None;
        }
        let mut header = Header::tcp(client, destination);
        header.transport = Transport::Datagram;
        let header = crate::serve::complete(header, endpoint, region);
        let Ok(header) = header.and_then(|header| header.encode()) else { return None };
        let lane = self.lane.as_ref();
        let lane =
            lane.filter(|(producer, _)| Some(producer) == endpoint.producer_network.as_ref());
        match lane.map(|(_, lane)| lane.try_send(&header, datagram)) {
            Some(Ok(())) => None,
            // The other end is behind.
            Some(Err(error)) if error.kind() == ErrorKind::WouldBlock => {
                dropped();
                None
            }
            Some(Err(_)) | None => Some([&header, datagram].concat()),
        }
    }

    /// A lane to the endpoint's service attachment. What clients send meanwhile waits in the socket.
    async fn open(&self, served: &Served) -> Option<(NetworkId, Packets)> {
        let producer = served.endpoint.producer_network.as_ref()?;
        let way: Rc<Way> =
            self.worker.program.way(&self.worker.local, &self.worker.snapshot(), producer);
        match way.lane().await {
            Ok(lane) => Some((producer.clone(), lane)),
            Err(error) => {
                let error = error.to_string();
                runtime::log::entry(runtime::log::Severity::Warning, "no lane for datagrams")
                    .field("endpoint", served.endpoint.self_link.as_str())
                    .field("reason", Reason::DroppedInsidePscServiceProducer)
                    .field("error", error.as_str())
                    .emit();
                None
            }
        }
    }

    /// Gives the answers that are there to their clients; false at the end of the lane.
    fn give_back(&self) -> bool {
        let Some((_, lane)) = &self.lane else { return false };
        let network = self.worker.context().network();
        for _ in 0..BATCH {
            let received = with_buffer(|buffer| {
                let length = lane.try_receive(buffer)?;
                let message = &buffer[..length];
                if let Ok(Some((header, at))) = Header::decode(message)
                    && let Some(client) = header.source_v4()
                {
                    let client: SocketAddr = network.real(client);
                    // A full buffer, or a client without a route back.
                    if send(&self.socket, &message[at..], Some(client)).is_err() {
                        dropped();
                    }
                }
                Ok::<usize, io::Error>(length)
            });
            match received {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
        true
    }
}

/// Waits for answers; without a lane there are none.
async fn answers(lane: Option<&Packets>) -> io::Result<()> {
    match lane {
        Some(lane) => lane.readable().await,
        None => std::future::pending().await,
    }
}

fn dropped() {
    metrics::counter!("postern_datagrams_dropped_total").increment(1);
}

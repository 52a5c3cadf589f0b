//! Passed datagrams in user space: one socket towards the VM for every client and flow, for as long
//! as it is not idle.

use super::passed::vm;
use super::record::Record;
use crate::InternalLb;
use names::Reason;
use net::packets::with_buffer;
use runtime::{Drain, UdpListener, Worker};
use slice::IpProtocol;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The product's timer for UDP (private-connectivity 1.4).
const IDLE: Duration = Duration::from_secs(30);
/// Flows of one listener and worker; datagrams of more are dropped.
const FLOWS_MAX: usize = 4096;
/// Refused clients that are remembered, so that each is logged once.
const REFUSED_MAX: usize = 1024;
/// The largest datagram.
const DATAGRAM: usize = 65_535;

struct Flow {
    socket: Rc<UdpSocket>,
    used: Rc<Cell<Instant>>,
}

/// Sockets that a worker serves. Every worker is given each of them, but a flow has one source.
#[derive(Default)]
pub struct Served(Mutex<HashSet<Arc<str>>>);

struct Serving<'a>(&'a Served, Arc<str>);

impl Served {
    fn claim(&self, key: &Arc<str>) -> Option<Serving<'_>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(Arc::clone(key)).then(|| Serving(self, Arc::clone(key)))
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Serves a socket of a forwarding rule to its end.
pub async fn serve(worker: Rc<Worker<InternalLb>>, listener: UdpListener) {
    let Some(_serving) = worker.program.served.claim(&listener.key) else { return };
    let snapshot = worker.snapshot();
    let Some(front) = snapshot.network.front(&listener.key).map(Arc::clone) else {
        return;
    };
    drop(snapshot);
    let port = listener.key.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    let to = SocketAddrV4::new(front.rule.address, port.unwrap_or_default());
    let own = listener.socket.try_clone().and_then(UdpSocket::from_std);
    let Ok(own) = own.map(Rc::new) else { return };
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let (ended, mut endings) = mpsc::unbounded_channel::<SocketAddr>();
    let mut refused: HashSet<(SocketAddrV4, Reason)> = HashSet::new();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let (length, from) = tokio::select! {
            () = listener.drain.wait() => return,
            Some(from) = endings.recv() => {
                flows.remove(&from);
                continue;
            }
            received = own.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An answer of an earlier datagram met a closed port.
                Err(_) => continue,
            },
        };
        if !flows.contains_key(&from) {
            let client = listener.peer(from);
            let admitted = match flows.len() < FLOWS_MAX {
                true => super::admitted(&worker, &front.rule, client),
                false => {
                    Err((Reason::BackendConnectionFailed, format!("{FLOWS_MAX} flows are open")))
                }
            };
            let target = admitted.and_then(|()| {
                let vm = vm(&worker, &front.rule, IpProtocol::Udp, client, to);
                let reason = Reason::NoHealthyBackend;
                vm.ok_or_else(|| (reason, reason.summary().to_owned()))
            });
            let opened = match target {
                Ok(target) => open(&worker, target).await.map_err(|error| {
                    (Reason::BackendConnectionFailed, format!("{target}: {error}"))
                }),
                Err(refused) => Err(refused),
            };
            let flow = match opened {
                Ok(flow) => flow,
                Err((reason, detail)) => {
                    if refused.len() >= REFUSED_MAX {
                        refused.clear();
                    }
                    // Each client once; every datagram is counted.
                    if refused.insert((client, reason)) {
                        Record::new(&front.rule, &front.meters, client, to)
                            .refused(reason, &detail);
                    } else {
                        metrics::counter!("postern_refusals_total", "reason" => reason.code())
                            .increment(1);
                    }
                    continue;
                }
            };
            let back = answers(
                Rc::clone(&flow.socket),
                Rc::clone(&flow.used),
                (Rc::clone(&own), from),
                listener.drain.clone(),
                ended.clone(),
            );
            tokio::task::spawn_local(back);
            flows.insert(from, flow);
        }
        if let Some(flow) = flows.get(&from) {
            flow.used.set(Instant::now());
            // A datagram that the kernel does not take is lost, as on a wire.
            let _ = flow.socket.try_send(&buffer[..length]);
        }
    }
}

async fn open(worker: &Worker<InternalLb>, to: SocketAddrV4) -> std::io::Result<Flow> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(worker.context().network().real(to)).await?;
    socket.writable().await?;
    Ok(Flow { socket: Rc::new(socket), used: Rc::new(Cell::new(Instant::now())) })
}

/// Carries a flow's answers back until it has been idle.
async fn answers(
    socket: Rc<UdpSocket>,
    used: Rc<Cell<Instant>>,
    (own, client): (Rc<UdpSocket>, SocketAddr),
    drain: Drain,
    ended: mpsc::UnboundedSender<SocketAddr>,
) {
    loop {
        tokio::select! {
            // One buffer for all flows of the thread: most of them are silent.
            ready = socket.readable() => if ready.is_ok() {
                let answered = with_buffer(|buffer| {
                    let length = socket.try_recv(buffer)?;
                    // An answer that the kernel does not take is lost, as on a wire.
                    let _ = own.try_send_to(&buffer[..length], client);
                    Ok::<(), std::io::Error>(())
                });
                if answered.is_ok() {
                    used.set(Instant::now());
                }
            },
            () = tokio::time::sleep_until(used.get() + IDLE) => {
                if used.get().elapsed() >= IDLE {
                    break;
                }
            }
            () = drain.wait() => break,
        }
    }
    // The other side may be gone already.
    let _ = ended.send(client);
}

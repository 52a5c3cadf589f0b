//! UDP: lanes of datagrams from endpoint attachments, and the mappings behind them.
//!
//! A mapping is what the product's NAT keeps of a client that sends datagrams to an endpoint
//! (private-connectivity 1.4): a socket at the NAT address that is connected to the target, so that
//! it receives from nobody else. It ends when nothing has moved for the idle timeout, with the
//! admission of its connection, or with the lane. There is no PROXY header for datagrams (1.5:
//! "precedes the first payload byte of the TCP stream").
//!
//! What cannot be delivered is dropped silently, as on any network, and counted.

use crate::call::{Call, not_understood};
use crate::cuts::Load;
use crate::program::{Connected, Published, ServiceAttachment};
use crate::record::Record;
use names::Reason;
use net::Packets;
use net::packets::{send, with_buffer};
use net::splice::{Carried, Cut, End};
use psc::Admission;
use runtime::{Drain, Worker};
use slice::IpProtocol;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io::{self, ErrorKind};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;

/// A mapping is looked at this often within its idle timeout, which is exact to this part.
const IDLE_LOOKS: u32 = 4;
/// Datagrams taken in one go before other tasks have their turn.
const BATCH: usize = 32;
/// Refused senders that are remembered, so that each is logged once.
const REFUSED_MAX: usize = 1024;

/// Who sends to whom: client, port of the endpoint, PSC connection.
type Key = (SocketAddrV4, u16, u64);

/// A lane with its mappings. They are all on one thread.
struct Lane {
    packets: Packets,
    mappings: RefCell<HashMap<Key, Rc<Mapping>>>,
    refused: RefCell<HashSet<(Key, Reason)>>,
    ended: Cut,
}

struct Mapping {
    socket: UdpSocket,
    /// What goes in front of each answer: the header with which the first datagram came.
    header: Vec<u8>,
    connected: Arc<Connected>,
    up: Cell<Moved>,
    down: Cell<Moved>,
}

/// Datagrams that got through one way, and their bytes.
#[derive(Clone, Copy, Default, PartialEq)]
struct Moved {
    datagrams: u64,
    bytes: u64,
}

impl Moved {
    fn count(cell: &Cell<Moved>, length: usize) {
        let Moved { datagrams, bytes } = cell.get();
        cell.set(Moved { datagrams: datagrams + 1, bytes: bytes + length as u64 });
    }
}

/// Serves one lane until its other end is gone or the program drains.
pub(crate) async fn serve(worker: Rc<Worker<ServiceAttachment>>, lane: OwnedFd, drain: Drain) {
    let packets = match Packets::new(lane) {
        Ok(packets) => packets,
        Err(error) => return not_understood("lane", &error),
    };
    let lane = Rc::new(Lane {
        packets,
        mappings: RefCell::default(),
        refused: RefCell::default(),
        ended: Cut::default(),
    });
    let mut drained = pin!(drain.wait());
    loop {
        tokio::select! {
            () = &mut drained => break,
            readable = lane.packets.readable() => {
                if readable.is_err() || !lane.receive(&worker) {
                    break;
                }
            }
        }
        tokio::task::yield_now().await;
    }
    lane.ended.cut();
}

impl Lane {
    /// Takes what is there; false at the end of the lane.
    fn receive(self: &Rc<Self>, worker: &Rc<Worker<ServiceAttachment>>) -> bool {
        for _ in 0..BATCH {
            let received = with_buffer(|buffer| {
                let length = self.packets.try_receive(buffer)?;
                if length > 0 {
                    self.pass(worker, &buffer[..length]);
                }
                Ok::<usize, io::Error>(length)
            });
            match received {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => {
                    return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
                }
            }
        }
        true
    }

    /// One datagram, to its target.
    fn pass(self: &Rc<Self>, worker: &Rc<Worker<ServiceAttachment>>, message: &[u8]) {
        let Some((call, length)) = Call::read(message) else {
            return not_understood("datagram", &"no PROXY v2 header with addresses and id");
        };
        let (header, datagram) = message.split_at(length);
        let key = (call.client, call.destination.port(), call.psc_connection_id);
        let known = self.mappings.borrow().get(&key).map(Rc::clone);
        let Some(mapping) = known.or_else(|| self.map(worker, &call, key, header)) else { return };
        // A full buffer, or the echo of an earlier datagram that the target refused.
        let sent = send(&mapping.socket, datagram, None).is_ok();
        if sent {
            Moved::count(&mapping.up, datagram.len());
        }
        if let Some(attachment) = &mapping.connected.attachment {
            attachment.meters.datagram_to_target(sent);
        }
    }

    /// Admits a client that has no mapping, and makes one.
    fn map(
        self: &Rc<Self>,
        worker: &Rc<Worker<ServiceAttachment>>,
        call: &Call,
        key: Key,
        header: &[u8],
    ) -> Option<Rc<Mapping>> {
        let snapshot = worker.snapshot();
        let connected = snapshot.connected(call.psc_connection_id);
        let published = connected.and_then(|one| Some((one, Arc::clone(one.attachment.as_ref()?))));
        let Some((connected, attachment)) = published else {
            let connected = connected.map(|one| &**one);
            self.refuse(call, key, connected, Reason::PscConnectionNotAccepted, None);
            return None;
        };
        let port = call.destination.port();
        let network = worker.context().network();
        let (admission, load) = connected.cuts.udp.admit(|open| {
            let far = connected.far.filter(|_| call.far);
            psc::admit(&connected.connection, &attachment.target, far, IpProtocol::Udp, port, open)
        });
        let opened = match admission {
            Admission::Refused(reason) => Err((reason, None)),
            Admission::Admitted { source, target } => match network.udp_mapping(source, target) {
                Ok(socket) => Ok((source, target, socket)),
                Err(error) => {
                    let why = format!("{target}: {error}");
                    Err((Reason::DroppedInsidePscServiceProducer, Some(why)))
                }
            },
        };
        let (source, target, socket) = match opened {
            Ok(opened) => opened,
            Err((reason, error)) => {
                attachment.meters.datagram_to_target(false);
                self.refuse(call, key, Some(connected), reason, error.as_deref());
                return None;
            }
        };
        let nat = socket.local_addr().map(|actual| network.declared(actual));
        let mapping = Rc::new(Mapping {
            socket,
            header: header.to_vec(),
            connected: Arc::clone(connected),
            up: Cell::default(),
            down: Cell::default(),
        });
        self.mappings.borrow_mut().insert(key, Rc::clone(&mapping));
        let ends = (nat.unwrap_or(SocketAddrV4::new(source, 0)), target);
        let whose = Whose { key, destination: call.destination, far: call.far, ends, attachment };
        tokio::task::spawn_local(Rc::clone(self).keep(Rc::clone(&mapping), whose, load));
        Some(mapping)
    }

    /// Logs each refused client once, and counts every datagram.
    fn refuse(
        &self,
        call: &Call,
        key: Key,
        connected: Option<&Connected>,
        reason: Reason,
        error: Option<&str>,
    ) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= REFUSED_MAX {
            refused.clear();
        }
        if refused.insert((key, reason)) {
            Record::new(call.client, call.destination, call.psc_connection_id, connected)
                .udp()
                .refused(reason, error);
        } else {
            metrics::counter!("postern_refusals_total", "reason" => reason.code()).increment(1);
        }
    }

    /// Carries the answers of one mapping, until its end.
    async fn keep(self: Rc<Self>, mapping: Rc<Mapping>, whose: Whose, _load: Option<Load>) {
        let connected = &*mapping.connected;
        let (client, _, id) = whose.key;
        let mut record = Record::new(client, whose.destination, id, Some(connected)).udp();
        record.opened(&whose.attachment, whose.ends.0, whose.ends.1);
        let idle = Duration::from_secs(whose.attachment.idle_timeouts.udp.into());
        let mut cut = pin!(connected.cuts.of(whose.far).wait());
        let mut ended = pin!(self.ended.wait());
        let mut timer = pin!(tokio::time::sleep(idle / IDLE_LOOKS));
        let mut moved = (Moved::default(), Moved::default());
        let mut quiet = 0;
        let end = loop {
            tokio::select! {
                biased;
                () = &mut cut => break End::Cut,
                () = &mut ended => break End::Closed,
                readable = mapping.socket.readable() => match readable {
                    Ok(()) => mapping.answers(&self.packets, &whose.attachment),
                    Err(_) => break End::Closed,
                },
                () = &mut timer => {
                    let now = (mapping.up.get(), mapping.down.get());
                    quiet = if now == moved { quiet + 1 } else { 0 };
                    moved = now;
                    if quiet >= IDLE_LOOKS {
                        break End::Idle;
                    }
                    timer.as_mut().reset(tokio::time::Instant::now() + idle / IDLE_LOOKS);
                }
            }
        };
        self.mappings.borrow_mut().remove(&whose.key);
        let (to_target, to_client) = (mapping.up.get().bytes, mapping.down.get().bytes);
        record.carried(Carried { to_target, to_client, end });
    }
}

/// What a mapping's task must know beside the mapping.
struct Whose {
    key: Key,
    destination: SocketAddrV4,
    far: bool,
    /// NAT address and target.
    ends: (SocketAddrV4, SocketAddrV4),
    attachment: Arc<Published>,
}

impl Mapping {
    /// Takes the answers that are there to the lane.
    fn answers(&self, packets: &Packets, attachment: &Published) {
        for _ in 0..BATCH {
            let more = with_buffer(|buffer| {
                let length = match self.socket.try_recv(buffer) {
                    Ok(length) => length,
                    Err(error) => return error.kind() != ErrorKind::WouldBlock,
                };
                let sent = packets.try_send(&self.header, &buffer[..length]).is_ok();
                if sent {
                    Moved::count(&self.down, length);
                }
                attachment.meters.datagram_to_client(sent);
                true
            });
            if !more {
                return;
            }
        }
    }
}

//! Datagrams: many per system call, answered in between.
//!
//! Taken from the socket itself and not through tokio's, which costs a seventh more per query
//! (performance, advice 2); tokio only says when there is something to take.

use crate::answering::{Answering, Asker, Now, Shared, forwarded};
use crate::query_log::Exchange;
use managed_zone::{Forward, Outcome, Snapshot, Transport, UDP_SIZE_MAX};
use names::NetworkId;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use runtime::UdpListener;
use runtime::log::{Severity, entry};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::Interest;

/// Datagrams per system call.
const BATCH: usize = 32;
/// Batches until other tasks of the worker have their turn.
const BATCHES_PER_TURN: usize = 16;
/// Answers begin at multiples of this.
const CACHE_LINE: usize = 64;
/// Queries are shorter; of a longer one the rest is lost and the message malformed.
const QUERY_MAX: usize = 1280;

/// Answers datagrams until the listener drains.
pub(crate) async fn serve(worker: Shared, listener: UdpListener) {
    if let Err(error) = run(&worker, &listener).await {
        failed(&listener, &error);
    }
}

async fn run(worker: &Shared, listener: &UdpListener) -> io::Result<()> {
    // A descriptor of this worker's own for the same socket.
    let socket = tokio::net::UdpSocket::from_std(listener.socket.try_clone()?)?;
    let not_ready = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    let mut batch = Batch::new();
    loop {
        let untold = worker.local.answering.borrow().log.has_untold();
        tokio::select! {
            () = listener.drain.wait() => break,
            ready = socket.readable() => ready?,
            // Say how many queries were not logged also when no more come.
            () = tokio::time::sleep(Duration::from_secs(1)), if untold => {
                worker.local.answering.borrow_mut().log.tick(Instant::now());
                continue;
            }
        }
        worker.local.answering.borrow_mut().log.tick(Instant::now());
        let mut emptied = false;
        for _ in 0..BATCHES_PER_TURN {
            match batch.receive(&listener.socket) {
                Ok(()) => {}
                Err(Errno::EAGAIN) => {
                    emptied = true;
                    break;
                }
                // A signal, or the echo of an answer that nobody wanted.
                Err(Errno::EINTR | Errno::ECONNREFUSED) => continue,
                Err(error @ (Errno::EBADF | Errno::ENOTSOCK | Errno::EINVAL)) => {
                    return Err(error.into());
                }
                // Out of memory: the datagrams wait in the kernel for a moment.
                Err(error) => {
                    failed(listener, &error.into());
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    break;
                }
            }
            let snapshot = worker.snapshot();
            batch.answer(worker, listener, &snapshot, &mut worker.local.answering.borrow_mut());
            while !batch.is_sent() {
                match batch.send(&listener.socket) {
                    Ok(()) | Err(Errno::EINTR) => {}
                    Err(Errno::EAGAIN) => {
                        let _ = socket.try_io(Interest::WRITABLE, not_ready);
                        socket.writable().await?;
                    }
                    // This one cannot be sent: its client has no route back, say.
                    Err(_) => {
                        batch.skip();
                        worker.local.answering.borrow_mut().meter.unsent(1);
                    }
                }
            }
            worker.local.answering.borrow_mut().meter.publish();
            if batch.received < BATCH {
                emptied = true;
                break;
            }
        }
        if emptied {
            // What comes from now on makes the socket readable again.
            let _ = socket.try_io(Interest::READABLE, not_ready);
        } else {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn failed(listener: &UdpListener, error: &io::Error) {
    entry(Severity::Error, "the datagram socket failed")
        .field("listener", &*listener.key)
        .field("error", error.to_string())
        .emit();
}

/// Room for the datagrams of one system call and their answers.
struct Batch {
    queries: Box<[[u8; QUERY_MAX]; BATCH]>,
    /// The answers one after the other, each at a cache line of its own: most are short, and those
    /// of a whole batch then share a page or two.
    answers: Box<[u8; UDP_SIZE_MAX * BATCH]>,
    receiving: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
    /// Lengths and senders of what was received.
    lengths: [usize; BATCH],
    senders: [Option<SockaddrStorage>; BATCH],
    received: usize,
    /// Places and receivers of the answers, those from `sent` to `answered` still to be sent.
    places: [(usize, usize); BATCH],
    receivers: [Option<SockaddrStorage>; BATCH],
    sent: usize,
    answered: usize,
}

impl Batch {
    fn new() -> Self {
        Batch {
            queries: Box::new([[0; QUERY_MAX]; BATCH]),
            answers: Box::new([0; UDP_SIZE_MAX * BATCH]),
            receiving: MultiHeaders::preallocate(BATCH, None),
            sending: MultiHeaders::preallocate(BATCH, None),
            lengths: [0; BATCH],
            senders: [None; BATCH],
            received: 0,
            places: [(0, 0); BATCH],
            receivers: [None; BATCH],
            sent: 0,
            answered: 0,
        }
    }

    fn receive(&mut self, socket: &UdpSocket) -> Result<(), Errno> {
        self.received = 0;
        let mut slices = self.queries.each_mut().map(|query| [IoSliceMut::new(query)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let fd = socket.as_raw_fd();
        for message in recvmmsg(fd, &mut self.receiving, slices.iter_mut(), flags, None)? {
            self.lengths[self.received] = message.bytes;
            self.senders[self.received] = message.address;
            self.received += 1;
        }
        Ok(())
    }

    fn answer(
        &mut self,
        worker: &Shared,
        listener: &UdpListener,
        snapshot: &Snapshot,
        answering: &mut Answering,
    ) {
        (self.sent, self.answered) = (0, 0);
        let mut begin = 0;
        let Answering { scratch, meter, log, .. } = answering;
        // Who asks at an inbound entry is outside of every network, and asks as the entry's own.
        let several = snapshot.has_client_views() && &*listener.key == "udp";
        for index in 0..self.received {
            let Some(sender) = self.senders[index] else { continue };
            let message = &self.queries[index][..self.lengths[index]];
            let view = match several {
                true => snapshot.view_of_client(arrived(&sender)),
                false => snapshot.own_view(),
            };
            let answer = &mut self.answers[begin..begin + UDP_SIZE_MAX];
            let now = Now::new(worker, snapshot, || declared(listener, &sender));
            let answered = match view.answer(message, Transport::Udp, &now, scratch, answer) {
                Some(Outcome::Finished(answered)) => answered,
                Some(Outcome::Forward(forward)) => {
                    let asker =
                        Asker { client: declared(listener, &sender), transport: Transport::Udp };
                    let (message, network) = (message.to_vec(), view.network().clone());
                    let task = later(
                        Rc::clone(worker),
                        listener.clone(),
                        sender,
                        forward,
                        message,
                        network,
                        asker,
                    );
                    tokio::task::spawn_local(task);
                    continue;
                }
                None => {
                    meter.count(None);
                    continue;
                }
            };
            meter.count(Some(&answered));
            log.record(|| {
                let exchange = Exchange {
                    network: view.network(),
                    message,
                    answer: &answer[..answered.length],
                    answered: &answered,
                    transport: Transport::Udp,
                    client: declared(listener, &sender),
                    told: None,
                };
                let workload = worker.workload(exchange.client);
                (exchange, workload)
            });
            let end = begin + answered.length;
            self.places[self.answered] = (begin, end);
            begin = end.next_multiple_of(CACHE_LINE);
            self.receivers[self.answered] = Some(sender);
            self.answered += 1;
        }
    }

    fn is_sent(&self) -> bool {
        self.sent == self.answered
    }

    /// Sends as many answers as the kernel takes at once.
    fn send(&mut self, socket: &UdpSocket) -> Result<(), Errno> {
        let slices: [_; BATCH] =
            self.places.map(|(begin, end)| [IoSlice::new(&self.answers[begin..end])]);
        let waiting = self.sent..self.answered;
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut self.sending,
            &slices[waiting.clone()],
            &self.receivers[waiting],
            [],
            MsgFlags::MSG_DONTWAIT,
        )?;
        self.sent += sent.count();
        Ok(())
    }

    /// Gives the next answer up.
    fn skip(&mut self) {
        self.sent += 1;
    }
}

/// Answers one datagram after name servers were asked.
#[allow(
    clippy::too_many_arguments,
    reason = "a task of its own, which has to own all that it needs"
)]
async fn later(
    worker: Shared,
    listener: UdpListener,
    sender: SockaddrStorage,
    forward: Box<Forward>,
    message: Vec<u8>,
    network: NetworkId,
    asker: Asker,
) {
    let answer = forwarded(&worker, forward, &message, &network, asker).await;
    let (Some(answer), Some(to)) = (answer, socket_address(&sender)) else { return };
    if listener.socket.send_to(&answer, to).is_err() {
        let meter = &mut worker.local.answering.borrow_mut().meter;
        meter.unsent(1);
        meter.publish();
    }
}

/// The client's address as it arrived.
fn arrived(sender: &SockaddrStorage) -> Ipv4Addr {
    match socket_address(sender).map(|address| address.ip().to_canonical()) {
        Some(IpAddr::V4(address)) => address,
        Some(IpAddr::V6(_)) | None => Ipv4Addr::UNSPECIFIED,
    }
}

/// The client's address as the topology declares it.
fn declared(listener: &UdpListener, sender: &SockaddrStorage) -> Ipv4Addr {
    let address = socket_address(sender);
    address.map_or(Ipv4Addr::UNSPECIFIED, |address| *listener.peer(address).ip())
}

fn socket_address(sender: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = sender.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| sender.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

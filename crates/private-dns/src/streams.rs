//! DNS over TCP (RFC 7766): each message with its length before it, several in flight, answered in
//! order; idle, slow and surplus connections are closed.

use crate::program::{Answering, PrivateDns};
use crate::query_log::Exchange;
use managed_zone::{TCP_SIZE_MAX, Transport};
use runtime::{Accepted, Stream, Worker};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A connection may wait so long for its next whole query, and an answer to be taken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// More connections than this are closed as they come.
const STREAMS_MAX: usize = 4096;
/// A connection stops reading while more octets of answers than this wait to be written.
const WAITING_MAX: usize = 64 * 1024;
/// Octets read at once: several queries.
const READ_SIZE: usize = 2048;

/// Serves one connection to its end.
pub(crate) async fn serve(worker: Rc<Worker<PrivateDns>>, accepted: Accepted) {
    let Accepted { stream, peer, drain, .. } = accepted;
    let Stream::Tcp(stream) = stream else { return };
    let program = &worker.program;
    let Some(_open) = Open::new(&program.streams) else { return };
    let arrived = match stream.peer_addr() {
        Ok(SocketAddr::V4(address)) => *address.ip(),
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let declared = peer.map_or(arrived, |address| *address.ip());
    let mut connection = Connection {
        stream,
        input: Vec::with_capacity(READ_SIZE),
        output: Vec::new(),
        arrived,
        declared,
    };
    loop {
        let read = tokio::select! {
            biased;
            read = timeout(IDLE_TIMEOUT, connection.read()) => read,
            () = drain.wait() => return,
        };
        // The peer is gone, is silent, or is too slow.
        if !matches!(read, Ok(Some(()))) {
            return;
        }
        connection.answer(&worker);
        if !matches!(timeout(IDLE_TIMEOUT, connection.write()).await, Ok(Some(()))) {
            return;
        }
    }
}

/// Counts an open connection on every way out.
struct Open<'p>(&'p AtomicUsize);

impl<'p> Open<'p> {
    fn new(count: &'p AtomicUsize) -> Option<Self> {
        let open = Open(count);
        (count.fetch_add(1, Ordering::Relaxed) < STREAMS_MAX).then_some(open)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The client's address as it arrived, and as the topology declares it.
    arrived: Ipv4Addr,
    declared: Ipv4Addr,
}

impl Connection {
    /// Reads until there is a whole message; nothing at the end of the stream.
    async fn read(&mut self) -> Option<()> {
        while message(&self.input).is_none() {
            if self.input.capacity() - self.input.len() < READ_SIZE / 2 {
                self.input.reserve(READ_SIZE);
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
        Some(())
    }

    /// Answers the whole messages that are there, as far as there is room for answers.
    fn answer(&mut self, worker: &Worker<PrivateDns>) {
        let snapshot = worker.snapshot();
        let view = snapshot.view_of_client(self.arrived);
        let answering = &mut *worker.local.answering.borrow_mut();
        let Answering { scratch, meter, log, large } = answering;
        log.tick(Instant::now());
        large.resize(TCP_SIZE_MAX, 0);
        let mut taken = 0;
        while self.output.len() < WAITING_MAX
            && let Some(message) = message(&self.input[taken..])
        {
            taken += 2 + message.len();
            let answered = view.answer(message, Transport::Tcp, scratch, large);
            meter.count(answered.as_ref());
            let Some(answered) = answered else { continue };
            log.record(|| {
                let (transport, client) = (Transport::Tcp, self.declared);
                let exchange = Exchange { view, message, answered: &answered, transport, client };
                (exchange, worker.workload(client))
            });
            self.output.extend_from_slice(&(answered.length as u16).to_be_bytes());
            self.output.extend_from_slice(&large[..answered.length]);
        }
        meter.publish();
        self.input.drain(..taken);
    }

    /// Writes the answers that wait.
    async fn write(&mut self) -> Option<()> {
        self.stream.write_all(&self.output).await.ok()?;
        self.output.clear();
        // What a large transfer needed is not kept while the connection idles.
        self.output.shrink_to(READ_SIZE);
        if self.input.is_empty() {
            self.input.shrink_to(READ_SIZE);
        }
        Some(())
    }
}

/// The first whole message, without its length.
fn message(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

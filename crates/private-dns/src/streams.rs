//! DNS over TCP (RFC 7766): each message with its length before it, several in flight, answered in
//! order; idle, slow and surplus connections are closed.

use crate::program::{Answering, PrivateDns, answered};
use crate::query_log::Exchange;
use managed_zone::{TCP_SIZE_MAX, Transport};
use runtime::{Accepted, Stream, Worker};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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
    let Some(_open) = Open::new(&worker.program.streams) else { return };
    let arrived = match stream.peer_addr() {
        Ok(SocketAddr::V4(address)) => *address.ip(),
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let declared = peer.map_or(arrived, |address| *address.ip());
    let answer = |message: &[u8], output: &mut Vec<u8>| {
        let snapshot = worker.snapshot();
        let view = snapshot.view_of_client(arrived);
        let answering = &mut *worker.local.answering.borrow_mut();
        let Answering { scratch, meter, log, large } = answering;
        log.tick(Instant::now());
        large.resize(TCP_SIZE_MAX, 0);
        let answered = answered(&snapshot, view, message, Transport::Tcp, scratch, large);
        meter.count(answered.as_ref());
        meter.publish();
        let Some(answered) = answered else { return };
        log.record(|| {
            let (answered, transport, client) = (&answered, Transport::Tcp, declared);
            (Exchange { view, message, answered, transport, client }, worker.workload(client))
        });
        output.extend_from_slice(&(answered.length as u16).to_be_bytes());
        output.extend_from_slice(&large[..answered.length]);
    };
    carry(stream, drain.wait(), answer).await;
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

/// Carries messages and their answers until the peer is gone, silent or too slow, or until `drain`
/// resolves; what was read by then is still answered.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    drain: impl Future<Output = ()>,
    mut answer: impl FnMut(&[u8], &mut Vec<u8>),
) {
    let mut drain = std::pin::pin!(drain);
    let mut input = Vec::with_capacity(READ_SIZE);
    let mut output = Vec::new();
    loop {
        let read = tokio::select! {
            biased;
            read = timeout(IDLE_TIMEOUT, read(&mut stream, &mut input)) => read,
            () = &mut drain => return,
        };
        if !matches!(read, Ok(Some(()))) {
            return;
        }
        let mut taken = 0;
        while output.len() < WAITING_MAX
            && let Some(message) = message(&input[taken..])
        {
            answer(message, &mut output);
            taken += 2 + message.len();
        }
        input.drain(..taken);
        if !matches!(timeout(IDLE_TIMEOUT, stream.write_all(&output)).await, Ok(Ok(()))) {
            return;
        }
        // What large messages needed is not kept while the connection idles.
        output.clear();
        output.shrink_to(READ_SIZE);
        input.shrink_to(READ_SIZE);
    }
}

/// Reads until there is a whole message; nothing at the end of the stream.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, input: &mut Vec<u8>) -> Option<()> {
    while message(input).is_none() {
        input.reserve(READ_SIZE);
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

/// The first whole message, without its length.
fn message(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    /// Doubles a message instead of answering it.
    fn double(message: &[u8], output: &mut Vec<u8>) {
        output.extend_from_slice(&(message.len() as u16 * 2).to_be_bytes());
        output.extend_from_slice(&[message, message].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_answered_in_order_however_they_are_cut() {
        let (mut client, server) = tokio::io::duplex(64);
        let served = carry(server, pending(), double);
        let asked = async {
            for octet in b"\0\x02ab\0\x01c" {
                client.write_all(&[*octet]).await.expect("the server reads");
            }
            client.write_all(b"\0\x01d\0\0\0\x01e").await.expect("the server reads");
            let mut answers = vec![0; 21];
            client.read_exact(&mut answers[..20]).await.expect("the server answers");
            drop(client);
            answers
        };
        let ((), answers) = tokio::join!(served, asked);
        assert_eq!(answers[..20], *b"\0\x04abab\0\x02cc\0\x02dd\0\0\0\x02ee");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_message_is_waited_for_ten_seconds() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"\0\x05abc").await.expect("there is room");
        let begin = tokio::time::Instant::now();
        carry(server, pending(), double).await;
        assert_eq!(begin.elapsed(), IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_answers_is_left_after_ten_seconds() {
        let (mut client, server) = tokio::io::duplex(8);
        let begin = tokio::time::Instant::now();
        let asked = async {
            client.write_all(b"\0\x08abcdefgh").await.expect("the server reads");
            pending::<()>().await;
        };
        tokio::select! {
            () = carry(server, pending(), double) => {}
            () = asked => {}
        }
        assert_eq!(begin.elapsed(), IDLE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_draining_listener_answers_what_it_has_and_closes() {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(b"\0\x01a\0\x01").await.expect("there is room");
        carry(server, async {}, double).await;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("the end");
        assert_eq!(answer, b"\0\x02aa");
    }

    #[test]
    fn surplus_connections_are_not_served() {
        let count = AtomicUsize::new(STREAMS_MAX - 1);
        let last = Open::new(&count);
        assert!(last.is_some() && Open::new(&count).is_none());
        drop(last);
        assert!(Open::new(&count).is_some());
        assert_eq!(count.into_inner(), STREAMS_MAX - 1);
    }
}

//! DNS over TCP (RFC 7766): each message with its length before it, several in flight. What is
//! decided at once is answered in order, what name servers are asked for as they answer (7: out of
//! order is allowed). Idle, slow and surplus connections are closed.

use crate::answering::{Answering, Asker, Now, Shared, for_peer, forwarded};
use crate::query_log::Exchange;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use managed_zone::{Outcome, TCP_SIZE_MAX, Transport};
use runtime::{Accepted, Stream};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// A connection may wait so long for its next whole query, and an answer to be taken.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// More connections than this are closed as they come.
const STREAMS_MAX: usize = 4096;
/// A connection stops reading while more octets of answers than this wait to be written.
const WAITING_MAX: usize = 64 * 1024;
/// And while so many of its queries wait for name servers.
const FORWARDED_MAX: usize = 64;
/// Octets read at once: several queries.
const READ_SIZE: usize = 2048;

/// Serves one connection to its end.
pub(crate) async fn serve(worker: Shared, accepted: Accepted) {
    let Accepted { key, stream, peer, drain, .. } = accepted;
    let stream = match stream {
        Stream::Tcp(stream) => stream,
        Stream::Unix(stream) => return serve_peer(&worker, stream).await,
        Stream::Unwatched(_) => return, // this program watches its connections
    };
    let Some(_open) = Open::new(&worker.program.streams) else { return };
    let arrived = match stream.peer_addr() {
        Ok(SocketAddr::V4(address)) => *address.ip(),
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let client = peer.map_or(arrived, |address| *address.ip());
    let asker = Asker { client, transport: Transport::Tcp };
    // Who asks at an inbound entry is outside of every network, and asks as the entry's own.
    let inbound = &*key != "tcp";
    let answer = |message: &[u8], output: &mut Vec<u8>| {
        let snapshot = worker.snapshot();
        let view = if inbound { snapshot.own_view() } else { snapshot.view_of_client(arrived) };
        let answering = &mut *worker.local.answering.borrow_mut();
        let Answering { scratch, meter, log, large } = answering;
        log.tick(Instant::now());
        large.resize(TCP_SIZE_MAX, 0);
        let now = Now::new(&worker, &snapshot, || client);
        let answered = match view.answer(message, Transport::Tcp, &now, scratch, large) {
            Some(Outcome::Finished(answered)) => answered,
            Some(Outcome::Forward(forward)) => {
                let (worker, network) = (Rc::clone(&worker), view.network().clone());
                let message = message.to_vec();
                return Some(async move {
                    forwarded(&worker, forward, &message, &network, asker).await
                });
            }
            None => {
                meter.count(None);
                meter.publish();
                return None;
            }
        };
        meter.count(Some(&answered));
        meter.publish();
        let answer = &large[..answered.length];
        log.record(|| {
            let (answered, transport, told) = (&answered, Transport::Tcp, None);
            let network = view.network();
            let exchange = Exchange { network, message, answer, answered, transport, client, told };
            (exchange, worker.workload(client))
        });
        append(output, answer);
        None
    };
    carry(stream, drain.wait(), answer).await;
}

/// Serves one question of another network's resolver.
async fn serve_peer(worker: &Shared, mut stream: UnixStream) {
    let Some(_open) = Open::new(&worker.program.streams) else { return };
    let mut input = Vec::new();
    if !matches!(timeout(IDLE_TIMEOUT, read(&mut stream, &mut input)).await, Ok(Some(()))) {
        return;
    }
    let Some(message) = message(&input) else { return };
    let Some(response) = for_peer(worker, message).await else { return };
    let mut output = Vec::with_capacity(2 + response.len());
    append(&mut output, &response);
    let _ = timeout(IDLE_TIMEOUT, stream.write_all(&output)).await;
}

/// Adds a message with its length before it.
fn append(output: &mut Vec<u8>, message: &[u8]) {
    output.extend_from_slice(&(message.len() as u16).to_be_bytes());
    output.extend_from_slice(message);
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
/// resolves; what was read by then is still answered. `answer` writes an answer, or gives what will
/// become one.
async fn carry<S: AsyncRead + AsyncWrite + Unpin, F: Future<Output = Option<Vec<u8>>>>(
    mut stream: S,
    drain: impl Future<Output = ()>,
    mut answer: impl FnMut(&[u8], &mut Vec<u8>) -> Option<F>,
) {
    let mut drain = std::pin::pin!(drain);
    let mut input = Vec::with_capacity(READ_SIZE);
    let mut output = Vec::new();
    let mut later: FuturesUnordered<F> = FuturesUnordered::new();
    let mut ended = false;
    while !ended || !later.is_empty() {
        let more = !ended && later.len() < FORWARDED_MAX;
        tokio::select! {
            biased;
            Some(answered) = later.next() => {
                if let Some(answered) = answered {
                    append(&mut output, &answered);
                }
            }
            read = timeout(IDLE_TIMEOUT, read(&mut stream, &mut input)), if more => match read {
                Ok(Some(())) => {}
                // The end of the stream, after which answers are still taken.
                Ok(None) => ended = true,
                // A client that waits for answers is not idle.
                Err(_) if later.is_empty() => return,
                Err(_) => {}
            },
            () = &mut drain, if !ended => ended = true,
        }
        let mut taken = 0;
        while output.len() < WAITING_MAX
            && later.len() < FORWARDED_MAX
            && let Some(message) = message(&input[taken..])
        {
            later.extend(answer(message, &mut output));
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

    /// Doubles a message instead of answering it; one that begins with `?` after a second.
    fn double(
        message: &[u8],
        output: &mut Vec<u8>,
    ) -> Option<impl Future<Output = Option<Vec<u8>>> + use<>> {
        let doubled = [message, message].concat();
        if message.starts_with(b"?") {
            return Some(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some(doubled)
            });
        }
        append(output, &doubled);
        None
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
    async fn what_takes_longer_is_overtaken_and_answered_even_when_no_more_is_asked() {
        let (mut client, server) = tokio::io::duplex(64);
        let served = carry(server, pending(), double);
        let asked = async {
            client.write_all(b"\0\x02?a\0\x01b\0\x02?c\0\x01d").await.expect("there is room");
            client.shutdown().await.expect("half of a duplex");
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).await.expect("the end");
            answers
        };
        let ((), answers) = tokio::join!(served, asked);
        assert_eq!(answers, b"\0\x02bb\0\x02dd\0\x04?a?a\0\x04?c?c");
    }

    #[tokio::test(start_paused = true)]
    async fn more_is_not_read_than_name_servers_are_asked_for() {
        let (mut client, server) = tokio::io::duplex(4096);
        let all = b"\0\x02?a".repeat(FORWARDED_MAX * 2);
        client.write_all(&all).await.expect("there is room");
        client.shutdown().await.expect("half of a duplex");
        let begin = tokio::time::Instant::now();
        carry(server, pending(), double).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(2), "two rounds of the bound");
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.expect("the end");
        assert_eq!(answers, b"\0\x04?a?a".repeat(FORWARDED_MAX * 2));
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

//! Real sockets on the loopback: what one end does, the other end sees.

use net::splice::{Carried, Cut, End, Side, carry, reset};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const LONG: Duration = Duration::from_secs(600);

/// Two connected sockets.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let near = TcpStream::connect(address).await.expect("connected");
    let (far, _) = listener.accept().await.expect("accepted");
    (near, far)
}

struct Path {
    client: TcpStream,
    target: TcpStream,
    carried: JoinHandle<Carried>,
    cut: Cut,
}

async fn path(first: &[u8], idle_timeout: Duration) -> Path {
    let (client, inner_client) = pair().await;
    let (inner_target, target) = pair().await;
    let cut = Cut::default();
    let (first, handle) = (first.to_vec(), cut.clone());
    let carried = tokio::spawn(async move {
        carry(inner_client, inner_target, first, idle_timeout, &handle).await
    });
    Path { client, target, carried, cut }
}

/// Bytes of which every position is told apart from its neighbours.
fn pattern(count: usize) -> Vec<u8> {
    (0..count as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

async fn read_to_end(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await.map(|_| bytes)
}

#[tokio::test]
async fn an_end_of_stream_passes_while_the_other_direction_goes_on() {
    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    client.write_all(b"request").await.expect("written");
    client.shutdown().await.expect("half-closed");
    assert_eq!(read_to_end(&mut target).await.expect("the request"), b"request");
    let answer = pattern(10_000_000);
    let (written, read) = tokio::join!(
        async {
            target.write_all(&answer).await.expect("written");
            drop(target);
        },
        read_to_end(&mut client)
    );
    let ((), read) = (written, read.expect("the answer"));
    assert!(read == answer, "the answer arrives as it was");
    let end = End::Closed;
    let expected = Carried { to_target: 7, to_client: 10_000_000, end };
    assert_eq!(carried.await.expect("no panic"), expected);
}

#[tokio::test]
async fn ten_megabytes_each_way_at_once() {
    let Path { client, target, carried, .. } = path(b"", LONG).await;
    let (up, down) = (pattern(10_000_001), pattern(10_000_007));
    let exchange = async |socket: TcpStream, send: &[u8]| {
        let (mut read, mut write) = socket.into_split();
        let mut received = Vec::new();
        let (sent, got) = tokio::join!(
            async {
                write.write_all(send).await?;
                write.shutdown().await
            },
            read.read_to_end(&mut received)
        );
        sent.and(got.map(|_| ())).expect("both ways");
        received
    };
    let (at_client, at_target) = tokio::join!(exchange(client, &up), exchange(target, &down));
    assert!(at_client == down && at_target == up);
    let carried = carried.await.expect("no panic");
    assert_eq!((carried.to_target, carried.to_client), (10_000_001, 10_000_007));
    assert_eq!(carried.end, End::Closed);
}

/// Around the size at which a direction turns to `splice(2)` and back.
#[tokio::test]
async fn messages_of_every_size_come_back_as_they_went() {
    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    let echo = tokio::spawn(async move {
        let (mut read, mut write) = target.split();
        tokio::io::copy(&mut read, &mut write).await.expect("echoed");
        drop(target);
    });
    let sizes = [1, 4095, 1, 4096, 1, 4097, 4096, 8191, 100_000, 3, 8192, 1_000_000, 5, 4096, 4096];
    for size in sizes {
        let message = pattern(size);
        client.write_all(&message).await.expect("written");
        let mut back = vec![0; size];
        client.read_exact(&mut back).await.expect("read");
        assert!(back == message, "{size} bytes");
    }
    client.shutdown().await.expect("half-closed");
    assert_eq!(read_to_end(&mut client).await.expect("the end"), b"");
    echo.await.expect("no panic");
    let total = sizes.iter().sum::<usize>() as u64;
    let expected = Carried { to_target: total, to_client: total, end: End::Closed };
    assert_eq!(carried.await.expect("no panic"), expected);
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stops_the_sender_and_loses_nothing() {
    let Path { mut client, mut target, .. } = path(b"", LONG).await;
    // The kernel would let it grow to many megabytes.
    socket2::SockRef::from(&client).set_recv_buffer_size(100_000).expect("set");
    let sent = pattern(30_000_000);
    let mut at = 0;
    let mut refusals = 0;
    while refusals < 1000 && at < sent.len() {
        match target.try_write(&sent[at..]) {
            Ok(count) => (at, refusals) = (at + count, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refusals += 1;
                tokio::task::yield_now().await; // to the task that carries
            }
        }
    }
    assert!(at < sent.len(), "the path is no bottomless buffer");
    let (_, received) = tokio::join!(
        async {
            target.write_all(&sent[at..]).await.expect("written");
            target.shutdown().await.expect("closed");
        },
        read_to_end(&mut client)
    );
    assert!(received.expect("all of it") == sent);
}

#[tokio::test]
async fn the_first_bytes_come_first_with_or_without_the_clients() {
    // The client speaks at once.
    let (mut client, inner_client) = pair().await;
    let (inner_target, mut target) = pair().await;
    client.write_all(b"hello").await.expect("written");
    inner_client.readable().await.expect("arrived");
    let cut = Cut::default();
    let carried = tokio::spawn(async move {
        carry(inner_client, inner_target, b"HEADER ".to_vec(), LONG, &cut).await
    });
    let mut bytes = vec![0; 100];
    let count = target.read(&mut bytes).await.expect("read");
    assert_eq!(&bytes[..count], b"HEADER hello", "in one write");
    drop((client, target));
    assert_eq!(carried.await.expect("no panic").to_target, 5, "the header is not the client's");

    // The target speaks first.
    let Path { mut client, mut target, carried, .. } = path(b"HEADER ", LONG).await;
    let count = target.read(&mut bytes).await.expect("read");
    assert_eq!(&bytes[..count], b"HEADER ");
    target.write_all(b"220 ready").await.expect("written");
    let count = client.read(&mut bytes).await.expect("read");
    assert_eq!(&bytes[..count], b"220 ready");
    client.write_all(b"QUIT").await.expect("written");
    let count = target.read(&mut bytes).await.expect("read");
    assert_eq!(&bytes[..count], b"QUIT");
    drop((client, target));
    let expected = Carried { to_target: 4, to_client: 9, end: End::Closed };
    assert_eq!(carried.await.expect("no panic"), expected);
}

async fn assert_reset(socket: &mut TcpStream) {
    let error = read_to_end(socket).await.expect_err("a reset, not an end of stream");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_passes_as_a_reset_in_both_directions() {
    let broken = |side| End::Broken(side, ErrorKind::ConnectionReset);

    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    client.write_all(b"x").await.expect("written");
    target.read_exact(&mut [0]).await.expect("read");
    reset(&client);
    drop(client);
    assert_reset(&mut target).await;
    assert_eq!(carried.await.expect("no panic").end, broken(Side::Client));

    let Path { mut client, target, carried, .. } = path(b"", LONG).await;
    reset(&target);
    drop(target);
    assert_reset(&mut client).await;
    assert_eq!(carried.await.expect("no panic").end, broken(Side::Target));
}

#[tokio::test]
async fn a_reset_after_a_half_close_passes_too() {
    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    client.shutdown().await.expect("half-closed");
    assert_eq!(read_to_end(&mut target).await.expect("the end"), b"");
    reset(&client);
    drop(client);
    // Reading says only end of stream, which the target knows already: writing tells.
    let refused = async {
        loop {
            if let Err(error) = target.write_all(b"still there?").await {
                return error.kind();
            }
            tokio::task::yield_now().await;
        }
    };
    let kind = refused.await;
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    let end = carried.await.expect("no panic").end;
    assert!(matches!(end, End::Broken(Side::Client, _)), "{end:?}");

    // And with nothing to write: the watch notices.
    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    target.shutdown().await.expect("half-closed");
    assert_eq!(read_to_end(&mut client).await.expect("the end"), b"");
    reset(&target);
    drop(target);
    let end = carried.await.expect("no panic").end;
    // The kernel's word for a reset after the end of stream is a broken pipe.
    assert_eq!(end, End::Broken(Side::Target, ErrorKind::BrokenPipe));
}

/// Fills the path from `sender` on until nothing more goes in; the other end does not read.
async fn fill(sender: &TcpStream) {
    let bytes = pattern(1_000_000);
    let mut refusals = 0;
    while refusals < 1000 {
        match sender.try_write(&bytes) {
            Ok(_) => refusals = 0,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                refusals += 1;
                tokio::task::yield_now().await; // to the task that carries
            }
        }
    }
}

/// A reset overtakes what waits for a receiver that takes nothing, in either direction.
#[tokio::test]
async fn a_reset_passes_while_the_path_is_full() {
    let Path { client, mut target, carried, .. } = path(b"", LONG).await;
    fill(&client).await;
    reset(&client);
    drop(client);
    let end = carried.await.expect("no panic").end;
    assert_eq!(end, End::Broken(Side::Client, ErrorKind::ConnectionReset));
    assert_reset(&mut target).await;

    let Path { mut client, target, carried, .. } = path(b"", LONG).await;
    fill(&target).await;
    reset(&target);
    drop(target);
    let end = carried.await.expect("no panic").end;
    assert_eq!(end, End::Broken(Side::Target, ErrorKind::ConnectionReset));
    assert_reset(&mut client).await;

    // The receiver of what waits is the one that goes.
    let Path { mut client, target, carried, .. } = path(b"", LONG).await;
    fill(&client).await;
    reset(&target);
    drop(target);
    assert!(matches!(carried.await.expect("no panic").end, End::Broken(Side::Target, _)));
    assert_reset(&mut client).await;
}

/// An end of stream would say that all had been carried.
#[tokio::test]
async fn a_task_that_is_given_up_resets_both_ends() {
    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    client.write_all(b"x").await.expect("written");
    target.read_exact(&mut [0]).await.expect("read");
    carried.abort();
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
}

/// A server that refuses early: it answers, does not read on, and closes, which is a reset.
#[tokio::test]
async fn what_was_sent_before_a_reset_still_arrives() {
    let Path { mut client, mut target, carried, .. } = path(b"", LONG).await;
    client.write_all(&pattern(100_000)).await.expect("written");
    target.readable().await.expect("arrived");
    target.write_all(b"413 too large").await.expect("written");
    drop(target); // with unread bytes
    let mut bytes = vec![0; 13];
    client.read_exact(&mut bytes).await.expect("the answer");
    assert_eq!(bytes, b"413 too large");
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;
    assert!(matches!(carried.await.expect("no panic").end, End::Broken(Side::Target, _)));
}

#[tokio::test]
async fn a_cut_resets_every_connection_under_the_handle() {
    let cut = Cut::default();
    let mut paths = Vec::new();
    for _ in 0..3 {
        let (mut client, inner_client) = pair().await;
        let (inner_target, mut target) = pair().await;
        let handle = cut.clone();
        let carried = tokio::spawn(async move {
            carry(inner_client, inner_target, Vec::new(), LONG, &handle).await
        });
        client.write_all(b"x").await.expect("written");
        target.read_exact(&mut [0]).await.expect("read");
        paths.push((client, target, carried));
    }
    assert_eq!(cut.carrying(), 3);
    let (client, target, carried) = paths.pop().expect("three");
    drop((client, target));
    assert_eq!(carried.await.expect("no panic").end, End::Closed);
    assert_eq!(cut.carrying(), 2);

    cut.cut();
    for (mut client, mut target, carried) in paths {
        assert_reset(&mut client).await;
        assert_reset(&mut target).await;
        assert_eq!(carried.await.expect("no panic").end, End::Cut);
    }
    assert_eq!(cut.carrying(), 0);
    // Who comes late is cut as well.
    let Path { mut client, mut target, carried, cut } = path(b"", LONG).await;
    cut.cut();
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    assert_eq!(carried.await.expect("no panic").end, End::Cut);
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_ends() {
    let Path { mut client, mut target, carried, .. } = path(b"", Duration::from_millis(40)).await;
    assert_reset(&mut client).await;
    assert_reset(&mut target).await;
    assert_eq!(carried.await.expect("no panic").end, End::Idle);
}

/// No buffer is held while a connection waits: all that it costs is the future.
#[tokio::test]
async fn an_idle_connection_is_small() {
    let (_client, inner_client) = pair().await;
    let (inner_target, _target) = pair().await;
    let cut = Cut::default();
    let size = size_of_val(&carry(inner_client, inner_target, Vec::new(), LONG, &cut));
    assert!(size <= 1024, "{size} bytes");
}

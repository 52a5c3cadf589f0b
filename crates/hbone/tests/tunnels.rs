//! Tunnels over real TLS connections on loopback: bytes, ends, resets, back pressure, reuse.

mod support;

use hbone::{Dialler, Failure, Kept, Pool, Server, Terms, carry};
use names::Reason;
use net::splice::{Carried, End, Side};
use slice::Role;
use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Opens a tunnel and carries one end of a pair over it; returns the other end and what came of it.
async fn call(dialler: &Dialler) -> (TcpStream, tokio::task::JoinHandle<Carried>) {
    let tunnel = dialler.open(&header(), PATIENCE).await.expect("open");
    let (near, far) = pair().await;
    let terms = Terms { tunnel: Side::Target, first: Vec::new(), idle_timeout: None, cut: None };
    (near, tokio::task::spawn_local(carry(far, tunnel, terms)))
}

async fn target() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

/// Bytes that tell their place.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed) ^ (at >> 8) as u8).collect()
}

#[test]
fn bytes_and_ends_go_both_ways() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let dialler = world.dialler(world.serve(address).await);
        let (mut client, carried) = call(&dialler).await;
        let (mut target, _) = listener.accept().await.expect("dialled");
        let (up, down) = (pattern(3_000_000, 1), pattern(5_000_000, 2));
        // The client is done first, and still gets everything.
        let client_side = async {
            client.write_all(&up).await.expect("written");
            client.shutdown().await.expect("shut down");
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.expect("read");
            assert!(got == down, "{} bytes down", got.len());
        };
        let target_side = async {
            let mut got = Vec::new();
            target.read_to_end(&mut got).await.expect("read");
            assert!(got == up, "{} bytes up", got.len());
            target.write_all(&down).await.expect("written");
            target.shutdown().await.expect("shut down");
        };
        tokio::join!(client_side, target_side);
        let carried = carried.await.expect("ended");
        assert_eq!(
            carried,
            Carried { to_target: 3_000_000, to_client: 5_000_000, end: End::Closed }
        );
        assert_eq!(dialler.pool().tunnels(), 0);
    });
}

#[test]
fn a_reset_comes_out_as_a_reset() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let dialler = world.dialler(world.serve(address).await);
        // By the client, before and after its end of stream is no more possible.
        let (client, carried) = call(&dialler).await;
        let (mut target, _) = listener.accept().await.expect("dialled");
        net::splice::reset(&client);
        drop(client);
        let error = target.read_u8().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let end = carried.await.expect("ended").end;
        assert_eq!(end, End::Broken(Side::Client, ErrorKind::ConnectionReset));
        // By the target, after the client's end of stream: nobody reads the client any more.
        let (mut client, carried) = call(&dialler).await;
        let (mut target, _) = listener.accept().await.expect("dialled");
        client.shutdown().await.expect("shut down");
        assert_eq!(target.read(&mut [0]).await.expect("read"), 0);
        net::splice::reset(&target);
        drop(target);
        let error = client.read_u8().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let end = carried.await.expect("ended").end;
        assert_eq!(end, End::Broken(Side::Target, ErrorKind::ConnectionReset));
        // By the client, after the target's end of stream.
        let (mut client, _) = call(&dialler).await;
        let (mut target, _) = listener.accept().await.expect("dialled");
        target.shutdown().await.expect("shut down");
        assert_eq!(client.read(&mut [0]).await.expect("read"), 0);
        net::splice::reset(&client);
        drop(client);
        let error = target.read_u8().await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(dialler.pool().connections(), 1, "one connection carried them all");
    });
}

#[test]
fn a_tunnel_that_stands_still_holds_a_bounded_number_of_bytes_and_stops_no_other() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let dialler = world.dialler(world.serve(address).await);
        let mut stuck = Vec::new();
        for _ in 0..5 {
            let (client, _) = call(&dialler).await;
            let (target, _) = listener.accept().await.expect("dialled");
            stuck.push((client, target));
        }
        // Their targets read nothing: what a client can write has an end.
        let chunk = vec![7; 1 << 20];
        for (client, _) in &mut stuck {
            let mut written = 0;
            loop {
                let writing =
                    tokio::time::timeout(Duration::from_millis(200), client.write(&chunk));
                match writing.await {
                    Ok(count) => written += count.expect("written"),
                    Err(_) => break,
                }
                assert!(written < 40 << 20, "back pressure");
            }
        }
        let (mut client, _) = call(&dialler).await;
        let (mut target, _) = listener.accept().await.expect("dialled");
        let bytes = pattern(2_000_000, 3);
        let mut got = vec![0; bytes.len()];
        let (written, read) = tokio::join!(client.write_all(&bytes), target.read_exact(&mut got));
        written.expect("written");
        read.expect("read");
        assert!(got == bytes);
        assert_eq!(dialler.pool().connections(), 1);
        assert_eq!(dialler.pool().tunnels(), 6);
    });
}

#[test]
fn a_reset_overtakes_what_waits_for_a_receiver() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let dialler = world.dialler(world.serve(address).await);
        let (mut client, carried) = call(&dialler).await;
        let (target, _) = listener.accept().await.expect("dialled");
        // Until nothing moves: the window is used up, and the client's socket is read no more.
        let chunk = vec![7; 1 << 16];
        let until_full = async {
            loop {
                let writing =
                    tokio::time::timeout(Duration::from_millis(200), client.write(&chunk));
                let Ok(written) = writing.await else { break };
                written.expect("written");
            }
        };
        until_full.await;
        net::splice::reset(&client);
        drop(client);
        let end = carried.await.expect("ended").end;
        assert_eq!(end, End::Broken(Side::Client, ErrorKind::ConnectionReset));
        // The target learns of it too, behind what it had received by then.
        let mut target = target;
        let error = target.read_to_end(&mut Vec::new()).await.expect_err("reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(dialler.pool().tunnels(), 0);
    });
}

#[test]
fn a_dropped_task_resets_both_ends() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let dialler = world.dialler(world.serve(address).await);
        let (mut client, carried) = call(&dialler).await;
        let (mut target, _) = listener.accept().await.expect("dialled");
        client.write_all(b"x").await.expect("written");
        assert_eq!(target.read_u8().await.expect("read"), b'x');
        carried.abort();
        for end in [&mut client, &mut target] {
            let error = end.read_u8().await.expect_err("reset");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_full_connection_gets_a_neighbour_and_many_calls_share_one_handshake() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let serving = world.serve(address).await;
        let dialler = Rc::new(world.dialler(serving));
        let mut calls = Vec::new();
        for _ in 0..150 {
            let dialler = Rc::clone(&dialler);
            calls.push(tokio::task::spawn_local(async move { call(&dialler).await }));
        }
        let mut open = Vec::new();
        let mut targets = Vec::new();
        for call in calls {
            open.push(call.await.expect("open"));
            targets.push(listener.accept().await.expect("dialled"));
        }
        assert_eq!(dialler.pool().tunnels(), 150);
        assert_eq!(dialler.pool().connections(), 2);
    });
}

#[test]
fn refusals_say_why() {
    run(async {
        let world = World::new();
        // Nobody listens at the target.
        let (listener, address) = target().await;
        drop(listener);
        let dialler = world.dialler(world.serve(address).await);
        let failure = dialler.open(&header(), PATIENCE).await.expect_err("refused");
        assert_eq!(failure.reason(), Reason::DroppedInsidePscServiceProducer);
        assert!(matches!(failure, Failure::Refused(status, Some(_)) if status == 503), "{failure}");
        // Nobody listens at the producer.
        let (listener, address) = target().await;
        drop(listener);
        let failure = world.dialler(address).open(&header(), Duration::from_millis(200)).await;
        let failure = failure.expect_err("refused");
        assert_eq!(failure.reason(), Reason::PeerUnreachable, "{failure}");
    });
}

#[test]
fn a_producer_that_dials_out_is_reached_over_its_own_connections() {
    run(async {
        let world = World::new();
        let (listener, address) = target().await;
        let (rendezvous, meeting) = target().await;
        let told = Rc::new(RefCell::new(Vec::new()));
        let telling = Rc::clone(&told);
        let keeping = tokio::task::spawn_local(hbone::keep(
            Arc::new(Server::default()),
            Arc::clone(&world.producer),
            consumer(),
            meeting,
            move |incoming| carry_to(incoming, address),
            move |kept| telling.borrow_mut().push(matches!(kept, Kept::Open)),
        ));
        let pool = Pool::new(Arc::clone(&world.consumer));
        let taking_in = {
            let (pool, credentials) = (pool.clone(), Arc::clone(&world.consumer));
            tokio::task::spawn_local(async move {
                let server = Server::default();
                while let Ok((stream, _)) = rendezvous.accept().await {
                    let accepted = server.accept(stream, &credentials).await.expect("a peer");
                    assert_eq!(accepted.peer.role(), Role::ServiceAttachment);
                    assert_eq!(*accepted.peer.network(), producer());
                    let driven = pool.take_in(accepted).await.expect("taken in");
                    tokio::task::spawn_local(driven);
                }
            })
        };
        let mut open = Vec::new();
        for round in 0..120u8 {
            let tunnel = pool.open(&header(), PATIENCE).await.expect("open");
            let (mut near, far) = pair().await;
            let terms =
                Terms { tunnel: Side::Target, first: Vec::new(), idle_timeout: None, cut: None };
            tokio::task::spawn_local(carry(far, tunnel, terms));
            let (mut target, _) = listener.accept().await.expect("dialled");
            near.write_all(&[round]).await.expect("written");
            assert_eq!(target.read_u8().await.expect("read"), round);
            open.push((near, target));
        }
        assert!(pool.connections() >= 2, "more are dialled before the first is full");
        assert!(told.borrow().iter().all(|open| *open));
        // The producer goes away: what is carried goes on, and there are no new tunnels.
        keeping.abort();
        let _ = keeping.await;
        let (near, target) = open.last_mut().expect("one");
        near.write_all(b"x").await.expect("written");
        assert_eq!(target.read_u8().await.expect("read"), b'x');
        loop {
            match pool.open(&header(), Duration::from_millis(100)).await {
                Err(failure) => {
                    assert_eq!(failure, Failure::NoRendezvous);
                    break;
                }
                Ok(tunnel) => drop(tunnel),
            }
        }
        taking_in.abort();
    });
}

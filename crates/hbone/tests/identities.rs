//! Who may speak, and for how long: wrong identities, foreign CAs, expiry, rotation while
//! connections are open; and strangers who are slow or talk nonsense.

mod support;

use hbone::{Credentials, Dialler, Failure, Identity, Server, Terms, carry};
use names::{NetworkId, Reason};
use net::splice::Side;
use slice::Role;
use std::sync::Arc;
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A target that echoes, and a service attachment in front of it.
async fn echoing(world: &World) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = stream.into_split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    world.serve(address).await
}

/// Opens a tunnel and returns a socket whose bytes go through it.
async fn through(dialler: &Dialler) -> Result<TcpStream, Failure> {
    let tunnel = dialler.open(&header(), PATIENCE).await?;
    let (near, far) = pair().await;
    let terms = Terms { tunnel: Side::Target, first: Vec::new(), idle_timeout: None, cut: None };
    tokio::task::spawn_local(carry(far, tunnel, terms));
    Ok(near)
}

async fn echo(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.expect("written");
    let mut got = [0; 4];
    stream.read_exact(&mut got).await.expect("read");
    assert_eq!(&got, b"ping");
}

#[test]
fn the_producer_must_be_the_one_that_was_asked_for() {
    run(async {
        let world = World::new();
        let address = echoing(&world).await;
        let other = NetworkId::new("bank", "other-network");
        let dialler = Dialler::new(Arc::clone(&world.consumer), address, other);
        let failure = dialler.open(&header(), PATIENCE).await.expect_err("another network");
        assert_eq!(failure.reason(), Reason::PeerIdentityMismatch, "{failure}");
        // The right one, so that it was for this and nothing else.
        echo(&mut through(&world.dialler(address)).await.expect("open")).await;
    });
}

#[test]
fn strangers_are_refused_in_the_handshake() {
    run(async {
        let world = World::new();
        let address = echoing(&world).await;
        let foreign = World::new();
        let refused = async |credentials: &Arc<Credentials>, why: &str| {
            let dialler = Dialler::new(Arc::clone(credentials), address, producer());
            let failure = dialler.open(&header(), PATIENCE).await.expect_err(why);
            assert_eq!(failure.reason(), Reason::PeerIdentityMismatch, "{why}: {failure}");
        };
        refused(&foreign.consumer, "another CA at both ends").await;
        // It trusts the producer, and the producer does not trust it.
        let dir = Credentials::directory(&foreign.scratch.0, &consumer(), Role::EndpointAttachment);
        keys::write_atomically(&dir.join("ca.pem"), world.ca.ca_pem()).expect("written");
        refused(&foreign.consumer, "another CA at the consumer").await;
        // A service attachment opens no tunnels.
        refused(&world.producer, "a service attachment").await;
        // Another trust domain under the same CA.
        let scratch = Scratch::new();
        let dir = Credentials::directory(&scratch.0, &consumer(), Role::EndpointAttachment);
        issue(&world.ca, &dir, &consumer(), Role::EndpointAttachment, HOUR);
        let other = Identity::new("elsewhere", &consumer(), Role::EndpointAttachment);
        let other = other.expect("an identity").to_string();
        let (chain, key) = world.ca.issue_identity(&other, HOUR).expect("issued");
        keys::write_atomically(&dir.join("key.pem"), &key).expect("written");
        keys::write_atomically(&dir.join("certificate.pem"), &chain).expect("written");
        let credentials = credentials(&scratch, &consumer(), Role::EndpointAttachment);
        refused(&credentials, "another trust domain").await;
        // A certificate of the same CA that is no SPIFFE id.
        let (chain, key) = world.ca.issue(&["shop.example".to_owned()]).expect("issued");
        keys::write_atomically(&dir.join("key.pem"), &key).expect("written");
        keys::write_atomically(&dir.join("certificate.pem"), &chain).expect("written");
        assert!(credentials.current().is_ok(), "the last good ones stay in force");
        let fault = credentials.fault().expect("told");
        assert!(fault.contains("no SPIFFE id"), "{fault}");
    });
}

#[test]
fn credentials_of_another_program_or_network_are_not_taken() {
    let world = World::new();
    let dir = Credentials::directory(&world.scratch.0, &consumer(), Role::EndpointAttachment);
    let other = NetworkId::new("shop", "other-network");
    for (network, role) in
        [(other, Role::EndpointAttachment), (consumer(), Role::ServiceAttachment)]
    {
        let credentials = Credentials::new(dir.clone(), network, role);
        let error = credentials.current().expect_err("another's");
        assert!(error.contains("spiffe://postern/project/shop/network/shop-network/"), "{error}");
    }
    let nowhere = dir.join("nowhere");
    let credentials = Credentials::new(nowhere, consumer(), Role::EndpointAttachment);
    assert!(credentials.current().expect_err("no files").contains("certificate.pem"));
}

#[test]
fn rotation_takes_new_credentials_for_new_connections_and_leaves_the_open_ones() {
    run(async {
        let world = World::new();
        let dialler = world.dialler(echoing(&world).await);
        let mut first = through(&dialler).await.expect("open");
        let number = world.consumer.current().expect("good").number;
        // A new certificate and key at both ends.
        world.issue(&consumer(), Role::EndpointAttachment, HOUR);
        world.issue(&producer(), Role::ServiceAttachment, HOUR);
        assert_eq!(world.consumer.current().expect("good").number, number + 1);
        let mut second = through(&dialler).await.expect("open");
        assert_eq!(dialler.pool().connections(), 1, "the old one gets no more tunnels");
        echo(&mut first).await;
        echo(&mut second).await;
        // Half a change: the key of another certificate. The last good pair stays in force.
        let dir = Credentials::directory(&world.scratch.0, &consumer(), Role::EndpointAttachment);
        let before = std::fs::read_to_string(dir.join("key.pem")).expect("read");
        let (_, key) = world.ca.issue_identity("spiffe://x/y", HOUR).expect("issued");
        keys::write_atomically(&dir.join("key.pem"), &key).expect("written");
        echo(&mut through(&dialler).await.expect("open")).await;
        assert!(world.consumer.fault().is_some());
        keys::write_atomically(&dir.join("key.pem"), &before).expect("written");
        echo(&mut through(&dialler).await.expect("open")).await;
        assert_eq!(world.consumer.fault(), None);
        echo(&mut first).await;
    });
}

#[test]
fn the_ca_is_replaced_without_losing_a_tunnel_by_trusting_both_for_a_while() {
    run(async {
        let world = World::new();
        let dialler = world.dialler(echoing(&world).await);
        let mut first = through(&dialler).await.expect("open");
        let next = Scratch::new();
        let next = keys::Store::open(&next.0).expect("a CA");
        let dirs = [(consumer(), Role::EndpointAttachment), (producer(), Role::ServiceAttachment)]
            .map(|(network, role)| {
                (Credentials::directory(&world.scratch.0, &network, role), network, role)
            });
        let both = format!("{}{}", world.ca.ca_pem(), next.ca_pem());
        for (dir, ..) in &dirs {
            keys::write_atomically(&dir.join("ca.pem"), &both).expect("written");
        }
        // One end after the other gets a certificate of the new CA.
        for (dir, network, role) in &dirs {
            issue(&next, dir, network, *role, HOUR);
            keys::write_atomically(&dir.join("ca.pem"), &both).expect("written");
            echo(&mut through(&dialler).await.expect("open")).await;
        }
        // And the old one is trusted no more.
        for (dir, ..) in &dirs {
            keys::write_atomically(&dir.join("ca.pem"), next.ca_pem()).expect("written");
        }
        echo(&mut through(&dialler).await.expect("open")).await;
        echo(&mut first).await;
    });
}

#[test]
fn who_has_expired_is_refused_at_the_next_handshake() {
    run(async {
        let world = World::new();
        let address = echoing(&world).await;
        let dialler = world.dialler(address);
        let mut first = through(&dialler).await.expect("open");
        for (network, role) in
            [(consumer(), Role::EndpointAttachment), (producer(), Role::ServiceAttachment)]
        {
            // Ends with the second in which it was made.
            world.issue(&network, role, Duration::ZERO);
            let failure = loop {
                // A pool of its own, hence a handshake of its own.
                match through(&world.dialler(address)).await {
                    Ok(_) => tokio::task::yield_now().await,
                    Err(failure) => break failure,
                }
            };
            assert_eq!(failure.reason(), Reason::PeerIdentityMismatch, "{failure}");
            echo(&mut first).await;
            world.issue(&network, role, HOUR);
            echo(&mut through(&dialler).await.expect("open")).await;
        }
    });
}

#[test]
fn nonsense_and_silence_cost_a_handshake_each_and_end() {
    run(async {
        let world = World::new();
        let server = Server::default();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff, 0], b""] {
            let (mut near, far) = pair().await;
            near.write_all(bytes).await.expect("written");
            near.shutdown().await.expect("shut down");
            let accepted = server.accept(far, &world.producer).await;
            assert!(accepted.is_err());
        }
        // Those who say nothing at all have a bound, and leave their place when they go.
        let mut silent = Vec::new();
        let mut waiting = Vec::new();
        for _ in 0..256 {
            let (near, far) = pair().await;
            silent.push(near);
            waiting.push(Box::pin(server.accept(far, &world.producer)));
        }
        for one in &mut waiting {
            assert!(futures(one.as_mut()).await.is_none(), "waits");
        }
        let (_near, far) = pair().await;
        let failure = server.accept(far, &world.producer).await.expect_err("too many");
        assert_eq!(failure, Failure::Full);
        drop(silent);
        for one in waiting {
            assert!(one.await.is_err());
        }
        let (near, far) = pair().await;
        drop(near);
        let failure = server.accept(far, &world.producer).await.expect_err("gone");
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
    });
}

/// Polls once.
async fn futures<T>(mut one: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|cx| match one.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

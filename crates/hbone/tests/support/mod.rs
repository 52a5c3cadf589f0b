//! Two ends with certificates of one CA, and a target, on loopback.

#![allow(dead_code, reason = "each test binary uses its own part")]

use hbone::{Credentials, Dialler, Identity, Incoming, Server};
use names::NetworkId;
use net::Caller;
use net::splice::Cut;
use proxy_protocol::Header;
use slice::Role;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

pub const PATIENCE: Duration = Duration::from_secs(30);
pub const HOUR: Duration = Duration::from_secs(3600);

/// A directory that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("hbone-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn consumer() -> NetworkId {
    NetworkId::new("shop", "shop-network")
}

pub fn producer() -> NetworkId {
    NetworkId::new("bank", "bank-network")
}

/// Writes credentials as `postern certificate` does: the key first.
pub fn issue(ca: &keys::Store, dir: &Path, network: &NetworkId, role: Role, lifetime: Duration) {
    let identity = Identity::new(hbone::TRUST_DOMAIN, network, role).expect("an identity");
    let (chain, key) = ca.issue_identity(&identity.to_string(), lifetime).expect("issued");
    keys::make_private(dir).expect("a directory");
    keys::write_atomically(&dir.join("ca.pem"), ca.ca_pem()).expect("written");
    keys::write_atomically(&dir.join("key.pem"), &key).expect("written");
    keys::write_atomically(&dir.join("certificate.pem"), &chain).expect("written");
}

/// A consumer's and a producer's credentials.
pub struct World {
    pub scratch: Scratch,
    pub ca: keys::Store,
    pub consumer: Arc<Credentials>,
    pub producer: Arc<Credentials>,
}

impl World {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let ca = keys::Store::open(&scratch.0).expect("a CA");
        let world = World {
            consumer: credentials(&scratch, &consumer(), Role::EndpointAttachment),
            producer: credentials(&scratch, &producer(), Role::ServiceAttachment),
            ca,
            scratch,
        };
        world.issue(&consumer(), Role::EndpointAttachment, HOUR);
        world.issue(&producer(), Role::ServiceAttachment, HOUR);
        world
    }

    pub fn issue(&self, network: &NetworkId, role: Role, lifetime: Duration) {
        let dir = Credentials::directory(&self.scratch.0, network, role);
        issue(&self.ca, &dir, network, role, lifetime);
    }

    /// A service attachment that carries every tunnel to `target`.
    pub async fn serve(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let credentials = Arc::clone(&self.producer);
        let server = Arc::new(Server::default());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, credentials) = (Arc::clone(&server), Arc::clone(&credentials));
                tokio::task::spawn_local(async move {
                    let accepted = server.accept(stream, &credentials).await;
                    let Ok(connection) = accepted else { return };
                    let handle = move |incoming| carry_to(incoming, target);
                    let never = std::future::pending();
                    server.answer(connection, &credentials, never, handle).await;
                });
            }
        });
        address
    }

    pub fn dialler(&self, address: SocketAddr) -> Dialler {
        Dialler::new(Arc::clone(&self.consumer), address, producer())
    }
}

pub fn credentials(scratch: &Scratch, network: &NetworkId, role: Role) -> Arc<Credentials> {
    let dir = Credentials::directory(&scratch.0, network, role);
    Arc::new(Credentials::new(dir, network.clone(), role))
}

pub async fn carry_to(incoming: Incoming, target: SocketAddr) {
    match TcpStream::connect(target).await {
        Ok(target) => {
            incoming.carry(target, Vec::new(), HOUR, &Cut::default()).await;
        }
        Err(_) => incoming.refuse(names::Reason::DroppedInsidePscServiceProducer),
    }
}

pub fn header() -> Header {
    let (client, to) = ("10.0.0.9:40000", "10.90.0.20:443");
    let header = Header::tcp(client.parse().expect("v4"), to.parse().expect("v4"));
    header.with_psc_connection_id(7).expect("room")
}

/// A connected pair of TCP sockets.
pub async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let connect = TcpStream::connect(listener.local_addr().expect("bound"));
    let (near, far) = tokio::join!(connect, listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

/// Runs a test whose tasks are local, within a time that only a hang reaches.
pub fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    let bounded = async { tokio::time::timeout(Duration::from_secs(120), test).await };
    local.block_on(&runtime, bounded).expect("the test hangs");
}

//! Dialling again and again, without hurry and not all at once.

use crate::client::dial;
use crate::limits::STREAMS_MAX;
use crate::server::Authenticated;
use crate::tunnel::Failure;
use crate::{Credentials, Incoming, Server};
use names::NetworkId;
use slice::Role;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep;

const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Connections that a producer keeps open to one consumer, at the least and at the most. Between
/// the two it keeps room for as many tunnels as one connection carries.
const CONNECTIONS_MIN: usize = 2;
const CONNECTIONS_MAX: usize = 64;

/// The wait before the next attempt: none at first, doubled by every failure up to a bound, and
/// shortened at random to as little as a half, so that many who lost one peer do not come at once.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Option<Duration>);

impl Backoff {
    /// Waits.
    pub(crate) async fn wait(&self) {
        if let Some(wait) = self.0 {
            // Seeded by the system for each of them.
            let chance = RandomState::new().build_hasher().finish() as u32;
            sleep(wait / 2 + (wait / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))).await;
        }
    }

    /// The next wait is longer.
    pub(crate) fn failed(&mut self) {
        self.0 = Some(self.0.map_or(WAIT_FIRST, |wait| (wait * 2).min(WAIT_MAX)));
    }

    /// There is none.
    pub(crate) fn succeeded(&mut self) {
        self.0 = None;
    }
}

/// What [`keep`] tells.
#[derive(Debug)]
pub enum Kept<'a> {
    /// A connection is open.
    Open,
    /// An attempt failed, otherwise than the last one.
    Failed(&'a Failure),
}

/// Keeps connections open to the endpoint attachment of a consumer network at `address`, and has
/// the tunnels that it opens over them served by `handle`, for as long as this future is polled.
/// Once it is dropped the connections take no more tunnels; what is being carried goes on.
pub async fn keep<H, Handled>(
    server: Arc<Server>,
    credentials: Arc<Credentials>,
    consumer: NetworkId,
    address: SocketAddr,
    handle: H,
    tell: impl Fn(Kept<'_>),
) where
    H: Fn(Incoming) -> Handled + Clone + 'static,
    Handled: Future<Output = ()> + 'static,
{
    let load = Load::default();
    let (_keeping, kept) = watch::channel(());
    let mut backoff = Backoff(None);
    let mut told: Option<Failure> = None;
    loop {
        // Asked for before the look, so that a change in between is not lost.
        let changed = load.changed.notified();
        let tunnels = load.tunnels.load(Ordering::Relaxed);
        let wanted = (tunnels / STREAMS_MAX + CONNECTIONS_MIN).min(CONNECTIONS_MAX);
        if load.connections.load(Ordering::Relaxed) >= wanted {
            changed.await;
            continue;
        }
        backoff.wait().await;
        let dialled = async {
            let loaded = credentials.current().map_err(Failure::Credentials)?;
            let peer = loaded.identity.peer(&consumer, Role::EndpointAttachment);
            let peer = peer.map_err(|error| Failure::Identity(error.to_string()))?;
            let stream = dial(address, &loaded, peer.clone()).await?;
            let (answered, answer) = oneshot::channel();
            let authenticated = Authenticated::dialled(stream, peer);
            let (server, credentials) = (Arc::clone(&server), Arc::clone(&credentials));
            let (handle, load, mut kept) = (handle.clone(), load.clone(), kept.clone());
            load.connections.fetch_add(1, Ordering::Relaxed);
            tokio::task::spawn_local(async move {
                let drain = async move { while kept.changed().await.is_ok() {} };
                server
                    .serve(authenticated, &credentials, drain, &load, Some(answered), handle)
                    .await;
                load.connections.fetch_sub(1, Ordering::Relaxed);
                load.changed.notify_one();
            });
            // A peer that refuses our certificate says so only now (TLS 1.3).
            let refused = |_| Failure::Identity(format!("{address}: closed by the peer"));
            answer.await.map_err(refused)
        };
        match dialled.await {
            Ok(()) => {
                // Not none: a peer that takes connections and drops them must not be flooded.
                backoff = Backoff(Some(WAIT_FIRST));
                told = None;
                tell(Kept::Open);
            }
            Err(failure) => {
                backoff.failed();
                if told.as_ref() != Some(&failure) {
                    tell(Kept::Failed(&failure));
                    told = Some(failure);
                }
            }
        }
    }
}

/// What the connections to one consumer carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) tunnels: Arc<AtomicUsize>,
    pub(crate) changed: Arc<Notify>,
}

//! An endpoint of a backend service, and what is kept of it over reloads.

use balancing::{Availability, stable_hash};
use names::SelfLink;
use slice::load_balancer::{Protocol, ServiceAttachmentEndpoint};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// At an address of the network.
    Address(SocketAddrV4),
    /// Behind a service attachment.
    Attachment(Box<ServiceAttachmentEndpoint>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => write!(f, "{address}"),
            Target::Attachment(to) => write!(f, "{}:{}", to.endpoint.target, to.producer_port),
        }
    }
}

/// An endpoint as one backend service uses it.
pub struct Endpoint {
    /// Unique in this process: the key of its connections.
    pub number: u64,
    /// The same in every process: what hashes and cookies lead to.
    pub identity: u64,
    /// Where it is.
    pub target: Target,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// The address from which it is spoken to.
    pub source: Option<Ipv4Addr>,
    /// Requests under way.
    pub requests: AtomicU32,
    removed: AtomicBool,
    removal: Notify,
}

impl Endpoint {
    /// May it be chosen?
    pub fn availability(&self) -> Availability {
        Availability::Available
    }

    /// Comes when no generation has the endpoint any more.
    pub async fn removed(&self) {
        let mut waiting = std::pin::pin!(self.removal.notified());
        waiting.as_mut().enable();
        if !self.removed.load(Ordering::Acquire) {
            waiting.await;
        }
    }
}

/// What outlives generations.
#[derive(Default)]
pub struct Kept {
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
    next: AtomicU64,
}

impl Kept {
    /// The endpoint of a backend service at a target.
    pub fn endpoint(
        &self,
        service: &SelfLink,
        target: Target,
        protocol: Protocol,
        source: Option<Ipv4Addr>,
    ) -> Arc<Endpoint> {
        let key = format!("{service} {target:?} {protocol:?} {source:?}");
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            Arc::new(Endpoint {
                number: self.next.fetch_add(1, Ordering::Relaxed),
                identity: stable_hash(target.to_string().as_bytes()),
                target,
                protocol,
                source,
                requests: AtomicU32::new(0),
                removed: AtomicBool::new(false),
                removal: Notify::new(),
            })
        };
        Arc::clone(endpoints.entry(key).or_insert_with(fresh))
    }

    /// Forgets all endpoints but those of these numbers.
    pub fn retain(&self, used: &HashSet<u64>) {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|_, endpoint| {
            let stays = used.contains(&endpoint.number);
            if !stays {
                endpoint.removed.store(true, Ordering::Release);
                endpoint.removal.notify_waiters();
            }
            stays
        });
    }
}

//! An endpoint of a backend service, and what is kept of it over reloads.

use super::names::Name;
use balancing::{Availability, Conduct, Meter, Standing, stable_hash};
use names::SelfLink;
use slice::load_balancer::{Protocol, ServiceAttachmentEndpoint};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// At an address of the network.
    Address(SocketAddrV4),
    /// At one of the addresses of a name.
    Named(Arc<str>, SocketAddrV4),
    /// Behind a service attachment.
    Attachment(Box<ServiceAttachmentEndpoint>),
}

impl Target {
    /// Its address; none behind a service attachment.
    pub fn address(&self) -> Option<SocketAddrV4> {
        match self {
            Target::Address(address) | Target::Named(_, address) => Some(*address),
            Target::Attachment(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => write!(f, "{address}"),
            Target::Named(name, address) => write!(f, "{address} ({name})"),
            Target::Attachment(to) => write!(f, "{}:{}", to.endpoint.target, to.producer_port),
        }
    }
}

/// How a backend service speaks to its endpoints. Another manner makes another endpoint, with
/// connections of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Manner {
    pub protocol: Protocol,
    /// The address from which it is spoken to.
    pub source: Option<Ipv4Addr>,
    /// How long requests to the endpoint may go on when it is removed; zero: to their own end.
    pub draining: Duration,
    /// Requests that a connection serves.
    pub requests_per_connection: Option<u32>,
}

/// An endpoint as one backend service uses it.
pub struct Endpoint {
    /// Unique in this process: the key of its connections.
    pub number: u64,
    /// The same in every process: what hashes and cookies lead to.
    pub identity: u64,
    /// The backend service.
    pub service: SelfLink,
    pub target: Target,
    pub manner: Manner,
    /// Requests under way.
    pub requests: AtomicU32,
    pub conduct: Conduct,
    /// A [`Standing`].
    standing: AtomicU8,
    removed: AtomicBool,
    removal: Notify,
}

impl Endpoint {
    /// May it be chosen? `checked`: its backend service has a health check.
    pub fn availability(&self, checked: bool) -> Availability {
        if self.conduct.is_ejected() {
            return Availability::Unavailable;
        }
        match checked && self.is_probed() {
            true => self.standing().availability(),
            false => Availability::Available,
        }
    }

    /// What is behind a service attachment is not probed (1.7).
    pub fn is_probed(&self) -> bool {
        self.target.address().is_some()
    }

    /// What its health check says.
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Unproven,
            1 => Standing::Healthy,
            _ => Standing::Unhealthy,
        }
    }

    pub fn set_standing(&self, standing: Standing) {
        let number = match standing {
            Standing::Unproven => 0,
            Standing::Healthy => 1,
            Standing::Unhealthy => 2,
        };
        self.standing.store(number, Ordering::Release);
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

/// What a group carries, of one backend service.
#[derive(Debug, Default)]
pub struct GroupLoad {
    pub rate: Meter,
    pub requests: AtomicU32,
}

/// What a backend service has under way.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// Its next turn.
    pub turn: AtomicU64,
    pub requests: AtomicU32,
    pub retries: AtomicU32,
    /// Connections that are being made, for each of which a request waits.
    pub pending: AtomicU32,
}

/// What outlives generations, keyed by backend service.
pub struct Kept {
    tables: Mutex<Tables>,
    next: AtomicU64,
    began: Instant,
    /// It was said that the proxy-only address is not there.
    pub sourceless: AtomicBool,
    /// The tasks in the background are to be looked at anew.
    pub changed: Notify,
}

#[derive(Default)]
struct Tables {
    endpoints: HashMap<String, Arc<Endpoint>>,
    groups: HashMap<(SelfLink, SelfLink), Arc<GroupLoad>>,
    under_way: HashMap<SelfLink, Arc<UnderWay>>,
    names: HashMap<Arc<str>, Arc<Name>>,
    /// Removed endpoints that drain, each with the end of that.
    leaving: Vec<(Arc<Endpoint>, Instant)>,
}

impl Default for Kept {
    fn default() -> Self {
        Kept {
            tables: Mutex::default(),
            next: AtomicU64::new(1),
            began: Instant::now(),
            sourceless: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }
}

impl Kept {
    /// The clock of meters and ejections.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint of a backend service at a target.
    pub fn endpoint(&self, service: &SelfLink, target: Target, manner: &Manner) -> Arc<Endpoint> {
        let key = format!("{service} {target:?} {manner:?}");
        let fresh = || {
            Arc::new(Endpoint {
                number: self.next.fetch_add(1, Ordering::Relaxed),
                identity: stable_hash(target.to_string().as_bytes()),
                service: service.clone(),
                target,
                manner: manner.clone(),
                requests: AtomicU32::new(0),
                conduct: Conduct::default(),
                standing: AtomicU8::new(0),
                removed: AtomicBool::new(false),
                removal: Notify::new(),
            })
        };
        Arc::clone(self.tables().endpoints.entry(key).or_insert_with(fresh))
    }

    /// What a group carries for a backend service.
    pub fn group(&self, service: &SelfLink, group: &SelfLink) -> Arc<GroupLoad> {
        Arc::clone(self.tables().groups.entry((service.clone(), group.clone())).or_default())
    }

    /// What a backend service has under way.
    pub fn under_way(&self, service: &SelfLink) -> Arc<UnderWay> {
        Arc::clone(self.tables().under_way.entry(service.clone()).or_default())
    }

    /// A name, and the addresses that it had last.
    pub fn name(&self, fqdn: &str) -> Arc<Name> {
        let fqdn: Arc<str> = fqdn.into();
        let mut tables = self.tables();
        let name = tables.names.entry(fqdn.clone()).or_insert_with(|| Arc::new(Name::new(fqdn)));
        Arc::clone(name)
    }

    /// Forgets all endpoints but those of these numbers and those of which it may not, and what
    /// nobody holds. True if some drain now.
    pub fn retain(&self, used: &HashSet<u64>, may: impl Fn(u64) -> bool) -> bool {
        let mut tables = self.tables();
        let left = tables.leaving.len();
        let Tables { endpoints, leaving, .. } = &mut *tables;
        endpoints.retain(|_, endpoint| {
            let stays = used.contains(&endpoint.number) || !may(endpoint.number);
            if !stays {
                endpoint.removed.store(true, Ordering::Release);
                endpoint.removal.notify_waiters();
                let draining = endpoint.manner.draining;
                if !draining.is_zero() {
                    leaving.push((Arc::clone(endpoint), Instant::now() + draining));
                }
            }
            stays
        });
        tables.groups.retain(|_, load| Arc::strong_count(load) > 1);
        tables.under_way.retain(|_, under_way| Arc::strong_count(under_way) > 1);
        tables.names.retain(|_, name| Arc::strong_count(name) > 1);
        tables.leaving.len() > left
    }

    /// The endpoints of a backend service that drain.
    pub fn leaving(&self, service: &SelfLink) -> Vec<Arc<Endpoint>> {
        let tables = self.tables();
        let own = tables.leaving.iter().filter(|(endpoint, _)| endpoint.service == *service);
        own.map(|(endpoint, _)| Arc::clone(endpoint)).collect()
    }

    /// Forgets endpoints that have drained. The first is whether there were any, the second when
    /// the next one will have.
    pub fn drained(&self) -> (bool, Option<Instant>) {
        let mut tables = self.tables();
        let (before, now) = (tables.leaving.len(), Instant::now());
        tables.leaving.retain(|(_, end)| *end > now);
        let next = tables.leaving.iter().map(|(_, end)| *end).min();
        (tables.leaving.len() < before, next)
    }
}

//! A revision at work: the scheduler of `instances` behind one lock, shared by all worker threads,
//! and the slots that requests hold.

use autoscaling::division::Bounds;
use autoscaling::fleet::{Acquired, Counts, Expiry, Fleet, Grant, Ordinal, Plan, Ticket, Usage};
use autoscaling::scaler::{IDLE_RETENTION, Spec};
use names::Reason;
use serverless::affinity::{Affinity, digest};
use slice::run::{Revision as Template, Run, Scaling, Service};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// The clock of all schedulers: time since the program began.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    /// Time since then.
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One revision of one service.
pub struct Revision {
    /// The service as it was when the revision was made; its `revision` is the template.
    pub service: Arc<Service>,
    /// Where requests go when nothing has to be started (`images: {url: …}`).
    fixed: Option<Arc<Instance>>,
    clock: Clock,
    /// Wakes whoever carries out plans.
    wake: Arc<Notify>,
    work: Mutex<Work>,
}

struct Work {
    fleet: Fleet<Waiter>,
    live: HashMap<Ordinal, Arc<Instance>>,
}

type Waiter = oneshot::Sender<Result<Slot, NoSlot>>;

/// An instance that listens.
#[derive(Debug)]
pub struct Instance {
    /// Its number in the revision.
    pub ordinal: Ordinal,
    /// `instanceId`, as log entries and its metadata server say it.
    pub id: Arc<str>,
    /// Where it listens.
    pub address: Endpoint,
    /// A number that no other instance of this process has: the key of connection pools.
    pub pool_key: u64,
    /// Tells its watcher to end it.
    pub stop: Notify,
}

/// Where an instance listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A leaf of the serverless network.
    Address(SocketAddr),
    /// Something that runs already: host name and port.
    Name(String, u16),
}

/// Why a request got no slot of this revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// The client is told.
    Refused(Reason),
    /// The revision serves no longer.
    Retired,
}

/// A place for one request on one instance, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    /// The instance.
    pub instance: Arc<Instance>,
    /// None: nothing has to be given back.
    revision: Option<Arc<Revision>>,
}

impl Revision {
    /// A revision without an instance. `url` is where it runs already, if it does.
    pub fn new(
        service: Arc<Service>,
        url: Option<(Endpoint, u64)>,
        clock: Clock,
        wake: Arc<Notify>,
    ) -> Self {
        let bounds = Bounds {
            instances_min: service.revision.min_instances,
            instances_max: service.revision.max_instances,
        };
        let spec = spec(&service.revision, &service.scaling, bounds);
        let fixed = url.map(|(address, pool_key)| {
            Arc::new(Instance {
                ordinal: 0,
                id: service.revision.name.as_str().into(),
                address,
                pool_key,
                stop: Notify::new(),
            })
        });
        let work = Work { fleet: Fleet::new(clock.now(), spec), live: HashMap::new() };
        Revision { service, fixed, clock, wake, work: Mutex::new(work) }
    }

    /// Is it this template's?
    pub fn is_of(&self, template: &Template) -> bool {
        self.service.revision == *template
    }

    /// Other bounds for the same instances.
    pub fn rescale(&self, scaling: &Scaling, bounds: Bounds) {
        self.lock().fleet.rescale(spec(&self.service.revision, scaling, bounds));
    }

    /// How long a request may take (1.3).
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.service.revision.timeout_seconds.into())
    }

    /// Does the instance that a client's cookie names still serve?
    pub fn keeps(&self, affinity: Affinity) -> bool {
        self.service.revision.session_affinity
            && self.lock().live.get(&affinity.ordinal).is_some_and(|i| i.is_named_by(affinity))
    }

    /// Waits for a slot, at the longest for max(3.5 × mean start time, 10 s) (cloud-run 2.2). One of
    /// the instance that the client's cookie names is best.
    pub async fn slot(self: &Arc<Self>, affinity: Option<Affinity>) -> Result<Slot, NoSlot> {
        if let Some(instance) = &self.fixed {
            return Ok(Slot { instance: Arc::clone(instance), revision: None });
        }
        let mut receiver = None;
        let acquired = {
            let mut work = self.lock();
            let now = self.clock.now();
            let waiter = || {
                let (sender, waiting) = oneshot::channel();
                receiver = Some(waiting);
                sender
            };
            let acquired = match affinity {
                None => work.fleet.acquire(now, waiter),
                Some(affinity) => work.fleet.acquire_at(now, affinity.ordinal, waiter),
            };
            if let Acquired::Slot(ordinal) = acquired
                && let Some(instance) = work.live.get(&ordinal)
            {
                return Ok(Slot::new(self, instance));
            }
            acquired
        };
        let (ticket, receiver) = match (acquired, receiver) {
            (Acquired::Queued(ticket), Some(receiver)) => (ticket, receiver),
            (Acquired::Refused(reason), _) => return Err(NoSlot::Refused(reason)),
            _ => return Err(NoSlot::Retired),
        };
        self.wake.notify_one();
        Queued { revision: self, ticket, receiver }.wait().await
    }

    /// Sends the waiters elsewhere; instances end with their last request.
    pub fn retire(self: &Arc<Self>) {
        let grants = self.lock().fleet.retire();
        self.deliver(grants);
        self.wake.notify_one();
    }

    /// What must be done now; see [`Fleet::plan`].
    pub fn plan(&self, floor: u32) -> Plan {
        if self.fixed.is_some() {
            return Plan::default();
        }
        let mut work = self.lock();
        let plan = work.fleet.plan(self.clock.now(), floor);
        for ordinal in &plan.stop {
            if let Some(instance) = work.live.remove(ordinal) {
                instance.stop.notify_one();
            }
        }
        plan
    }

    /// An instance listens. False: nobody wants it any more.
    pub fn started(self: &Arc<Self>, instance: Arc<Instance>) -> bool {
        let ordinal = instance.ordinal;
        let grants = {
            let mut work = self.lock();
            if !work.fleet.expects(ordinal) {
                return false;
            }
            work.live.insert(ordinal, instance);
            work.fleet.started(self.clock.now(), ordinal)
        };
        self.deliver(grants);
        self.wake.notify_one();
        true
    }

    /// An instance did not start, or its process ended.
    pub fn gone(self: &Arc<Self>, ordinal: Ordinal) {
        let grants = {
            let mut work = self.lock();
            work.live.remove(&ordinal);
            work.fleet.gone(self.clock.now(), ordinal)
        };
        self.deliver(grants);
        self.wake.notify_one();
    }

    /// A readiness probe changed its mind about an instance (cloud-run 2.3).
    pub fn readiness(self: &Arc<Self>, ordinal: Ordinal, ready: bool) {
        let grants = self.lock().fleet.readiness(self.clock.now(), ordinal, ready);
        self.deliver(grants);
        self.wake.notify_one();
    }

    /// Is the instance still wanted while it starts?
    pub fn expects(&self, ordinal: Ordinal) -> bool {
        self.lock().fleet.expects(ordinal)
    }

    /// What its instances used since the last call.
    pub fn usage(&self) -> Usage {
        self.lock().fleet.usage(self.clock.now())
    }

    /// How many instances there are.
    pub fn counts(&self) -> Counts {
        self.lock().fleet.counts()
    }

    /// Has it shown that it starts?
    pub fn has_started(&self) -> bool {
        self.fixed.is_some() || self.lock().fleet.has_started()
    }

    /// Did every start fail so far, and was there one?
    pub fn never_started(&self) -> bool {
        self.fixed.is_none() && self.lock().fleet.never_started()
    }

    /// Does it run somewhere already, so that nothing is started?
    pub fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// The name, for people.
    pub fn name(&self) -> &str {
        &self.service.revision.name
    }

    fn deliver(self: &Arc<Self>, grants: Vec<(Waiter, Grant)>) {
        for (waiter, grant) in grants {
            let answer = match grant {
                Grant::Refused(reason) => Err(NoSlot::Refused(reason)),
                Grant::Retired => Err(NoSlot::Retired),
                Grant::Slot(ordinal) => {
                    self.hand_over(waiter, ordinal);
                    continue;
                }
            };
            let _ = waiter.send(answer);
        }
    }

    /// Gives a slot that is already taken to a waiter; if it left in the meantime, to the next.
    fn hand_over(self: &Arc<Self>, waiter: Waiter, ordinal: Ordinal) {
        let mut next = Some((waiter, ordinal));
        while let Some((waiter, ordinal)) = next.take() {
            let instance = self.lock().live.get(&ordinal).cloned();
            let Some(instance) = instance else {
                // It ended in this very moment; the fleet has forgotten its slots.
                let _ = waiter.send(Err(NoSlot::Refused(Reason::InstanceConnectionError)));
                continue;
            };
            let slot = Slot { instance, revision: Some(Arc::clone(self)) };
            if let Err(Ok(mut refused)) = waiter.send(Ok(slot)) {
                refused.revision = None;
                next = self.release(ordinal);
            }
        }
    }

    fn release(&self, ordinal: Ordinal) -> Option<(Waiter, Ordinal)> {
        let mut work = self.lock();
        let next = work.fleet.release(self.clock.now(), ordinal);
        if next.is_none() && work.fleet.is_draining() {
            self.wake.notify_one();
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

fn spec(revision: &Template, scaling: &Scaling, bounds: Bounds) -> Spec {
    let idle = scaling.idle_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    Spec {
        instances_min: bounds.instances_min,
        instances_max: bounds.instances_max,
        concurrency: revision.container_concurrency.max(1),
        idle_retention: idle.unwrap_or(IDLE_RETENTION),
        concurrency_utilisation: revision.concurrency_utilization,
        cpu_utilisation: revision.cpu_utilization,
        cpus: f64::from(revision.ingress().0.resources.cpu_millis) / 1000.0,
    }
}

impl Instance {
    /// What a cookie says of it.
    pub fn affinity(&self, revision: &Revision) -> Affinity {
        Affinity {
            revision: digest(revision.name()),
            ordinal: self.ordinal,
            instance: digest(&self.id),
        }
    }

    fn is_named_by(&self, affinity: Affinity) -> bool {
        digest(&self.id) == affinity.instance
    }
}

/// Where a template runs already, if nothing has to be started.
///
/// # Errors
/// A sentence for a URL that is not `http://HOST[:PORT]`.
pub fn fixed_endpoint(run: &Run) -> Result<Option<Endpoint>, String> {
    let Run::Url(text) = run else { return Ok(None) };
    let wrong = || format!("`{text}` is not of the form http://HOST:PORT");
    let url: http::Uri = text.parse().map_err(|_| wrong())?;
    let authority = url.authority().ok_or_else(wrong)?;
    if url.scheme_str() != Some("http") || !matches!(url.path(), "" | "/") {
        return Err(wrong());
    }
    let port = authority.port_u16().unwrap_or(80);
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    Ok(Some(match host.parse() {
        Ok(address) => Endpoint::Address(SocketAddr::new(address, port)),
        Err(_) => Endpoint::Name(host.to_owned(), port),
    }))
}

impl Slot {
    fn new(revision: &Arc<Revision>, instance: &Arc<Instance>) -> Self {
        Slot { instance: Arc::clone(instance), revision: Some(Arc::clone(revision)) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(revision) = self.revision.take()
            && let Some((waiter, ordinal)) = revision.release(self.instance.ordinal)
        {
            revision.hand_over(waiter, ordinal);
        }
    }
}

/// A place in the queue, left when it is dropped.
struct Queued<'a> {
    revision: &'a Arc<Revision>,
    ticket: Ticket,
    receiver: oneshot::Receiver<Result<Slot, NoSlot>>,
}

impl Queued<'_> {
    async fn wait(mut self) -> Result<Slot, NoSlot> {
        loop {
            let clock = self.revision.clock;
            let expiry = self.revision.lock().fleet.expire(clock.now(), self.ticket);
            let until = match expiry {
                Expiry::Refused(reason) => return Err(NoSlot::Refused(reason)),
                Expiry::Until(until) => Some(until),
                Expiry::Answered => None,
            };
            let answer = match until {
                None => (&mut self.receiver).await,
                Some(until) => {
                    let left = until.saturating_sub(clock.now());
                    match tokio::time::timeout(left, &mut self.receiver).await {
                        Ok(answer) => answer,
                        Err(_) => continue,
                    }
                }
            };
            // The sender only goes without a word if the fleet itself goes.
            return answer.unwrap_or(Err(NoSlot::Retired));
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.revision.lock().fleet.cancel(self.ticket);
    }
}

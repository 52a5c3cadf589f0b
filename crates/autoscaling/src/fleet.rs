//! The instances of one revision: which of them takes a request, who waits, what must be started
//! and stopped. No clock, socket or process: every call says what time it is and the answers say
//! what to do (cloud-run 1.2, 2.1, 2.2).
//!
//! `W` is whatever waits for a slot; the fleet only keeps it and hands it back.

use crate::scaler::{self, Because, Meter, Observation, Spec};
use names::Reason;
use std::collections::VecDeque;
use std::time::Duration;

/// A request waits at least this long for a slot, or 3.5 mean start times (2.2). One page of the
/// documentation says 30 s instead (unconfirmed).
pub const PENDING_TIMEOUT_MIN: Duration = Duration::from_secs(10);
const PENDING_MEAN_STARTS: f64 = 3.5;

/// Requests that may wait, per slot that the revision can ever have, and at the most
/// (unconfirmed: Knative's queue depth and its activator's).
const PENDING_PER_SLOT: u64 = 10;
const PENDING_MAX: u64 = 10_000;

/// Pauses before an instance is started again after failures in a row. Cloud Run throttles too;
/// its figures are not published (unconfirmed).
const BACK_OFF_FIRST: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// An instance that served for this long has proved that the revision works: its end is no failure
/// in a row with earlier ones.
const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// An instance by its number in the revision: 1, 2, 3, …
pub type Ordinal = u32;

/// A place in the queue.
pub type Ticket = u64;

/// The instances of one revision and the requests that want one.
#[derive(Debug)]
pub struct Fleet<W> {
    spec: Spec,
    /// Oldest first.
    instances: Vec<Instance>,
    /// Oldest first, so ordered by ticket.
    pending: VecDeque<Pending<W>>,
    in_flight: u32,
    meter: Meter,
    /// Time of instances with requests, or starting, that nobody has asked for yet.
    billable: Duration,
    /// CPUs that all instances together used on average, by whoever observes it.
    cpus: f64,
    starts: Starts,
    ordinal_last: Ordinal,
    ticket_last: Ticket,
    /// How many instances the scaler wanted last: those first in line get the requests, so that
    /// the others can become idle.
    preferred: usize,
    retired: bool,
}

#[derive(Debug)]
struct Instance {
    ordinal: Ordinal,
    phase: Phase,
    in_flight: u32,
    /// Its readiness probe fails: it gets no new request, and is kept (2.3).
    unready: bool,
    /// The most requests at once since somebody asked.
    most: u32,
    /// Since when it has had a request, or has been starting; what is billed of it counts from then.
    busy_since: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Starting {
        since: Duration,
    },
    Ready {
        since: Duration,
        idle_since: Option<Duration>,
    },
    /// Gets no request any more; is stopped when its last one has ended.
    Draining,
}

#[derive(Debug)]
struct Pending<W> {
    ticket: Ticket,
    since: Duration,
    waiter: W,
}

/// What is known about starting this revision.
#[derive(Debug, Default)]
struct Starts {
    finished: u32,
    took: Duration,
    failures_in_a_row: u32,
    /// No start before this time.
    not_before: Duration,
}

/// What a request gets when it asks for a slot.
#[derive(Debug, PartialEq, Eq)]
pub enum Acquired {
    /// A slot of this instance.
    Slot(Ordinal),
    /// A place in the queue; see [`Fleet::expire`].
    Queued(Ticket),
    /// Nothing, at once.
    Refused(Reason),
    /// The revision serves no longer: ask the one that does.
    Retired,
}

/// What becomes of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A slot of this instance.
    Slot(Ordinal),
    /// Nothing will come.
    Refused(Reason),
    /// The revision serves no longer: ask the one that does.
    Retired,
}

/// What the queue says to a waiter whose time may be over.
#[derive(Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Wait on, until then at least.
    Until(Duration),
    /// The time is over; the ticket is gone.
    Refused(Reason),
    /// The ticket has been answered already.
    Answered,
}

/// What must be done now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Instances to start; they count as starting from now on.
    pub start: Vec<Ordinal>,
    /// What asked for as many instances as there should be now.
    pub because: Because,
    /// Instances to stop; the fleet has forgotten them.
    pub stop: Vec<Ordinal>,
    /// Plan again then at the latest, if nothing happens before.
    pub again_at: Option<Duration>,
}

impl<W> Fleet<W> {
    /// A revision without an instance.
    pub fn new(now: Duration, spec: Spec) -> Self {
        Fleet {
            spec,
            instances: Vec::new(),
            pending: VecDeque::new(),
            in_flight: 0,
            meter: Meter::new(now),
            billable: Duration::ZERO,
            cpus: 0.0,
            starts: Starts::default(),
            ordinal_last: 0,
            ticket_last: 0,
            preferred: 1,
            retired: false,
        }
    }

    /// Asks for a slot; `waiter` is only made if the request has to wait.
    pub fn acquire(&mut self, now: Duration, waiter: impl FnOnce() -> W) -> Acquired {
        if self.retired {
            return Acquired::Retired;
        }
        if self.pending.is_empty()
            && let Some(index) = self.free_instance()
        {
            return Acquired::Slot(self.take(now, index));
        }
        if self.starts_too_late(now) {
            return Acquired::Refused(Reason::InstanceStartFailed);
        }
        if self.pending.len() as u64 >= self.pending_max() {
            return Acquired::Refused(self.no_capacity());
        }
        self.ticket_last += 1;
        self.pending.push_back(Pending { ticket: self.ticket_last, since: now, waiter: waiter() });
        Acquired::Queued(self.ticket_last)
    }

    /// Asks for a slot of this instance, as session affinity does (2.4): best effort. If it has none
    /// to give, as [`Fleet::acquire`].
    pub fn acquire_at(
        &mut self,
        now: Duration,
        ordinal: Ordinal,
        waiter: impl FnOnce() -> W,
    ) -> Acquired {
        let found = self.instances.iter().position(|instance| instance.ordinal == ordinal);
        match found.filter(|index| self.has_slot(&self.instances[*index])) {
            Some(index) if !self.retired => Acquired::Slot(self.take(now, index)),
            _ => self.acquire(now, waiter),
        }
    }

    /// A readiness probe changed its mind about an instance (2.3). Waiters get the slots of one that
    /// is ready again.
    pub fn readiness(&mut self, now: Duration, ordinal: Ordinal, ready: bool) -> Vec<(W, Grant)> {
        if let Some(instance) = self.instance_mut(ordinal) {
            instance.unready = !ready;
        }
        self.grant_all(now)
    }

    /// A request gave its slot back. A waiter gets it at once, if there is one.
    pub fn release(&mut self, now: Duration, ordinal: Ordinal) -> Option<(W, Ordinal)> {
        // The slots of an instance that has gone went with it.
        let index = self.instances.iter().position(|instance| instance.ordinal == ordinal)?;
        let instance = &mut self.instances[index];
        instance.in_flight -= 1;
        if instance.in_flight == 0
            && let Phase::Ready { idle_since, .. } = &mut instance.phase
        {
            *idle_since = Some(now);
        }
        if instance.in_flight == 0 {
            self.at_rest(now, ordinal);
        }
        self.in_flight -= 1;
        self.meter.set(now, self.in_flight);
        self.grant_next(now)
    }

    /// A waiter gave up.
    pub fn cancel(&mut self, ticket: Ticket) {
        if let Ok(index) = self.pending.binary_search_by_key(&ticket, |pending| pending.ticket) {
            self.pending.remove(index);
        }
    }

    /// Asks whether the time of a waiter is over: max(3.5 × mean start time, 10 s); then 429 at the
    /// maximum of instances, 500 where none could be started (2.2).
    pub fn expire(&mut self, now: Duration, ticket: Ticket) -> Expiry {
        let Ok(index) = self.pending.binary_search_by_key(&ticket, |pending| pending.ticket) else {
            return Expiry::Answered;
        };
        let until = self.pending[index].since + self.pending_timeout(now);
        if now < until {
            return Expiry::Until(until);
        }
        self.pending.remove(index);
        Expiry::Refused(self.no_capacity())
    }

    /// An instance listens: waiters get its slots.
    pub fn started(&mut self, now: Duration, ordinal: Ordinal) -> Vec<(W, Grant)> {
        let Some(instance) = self.instance_mut(ordinal) else { return Vec::new() };
        if let Phase::Starting { since } = instance.phase {
            instance.phase = Phase::Ready { since: now, idle_since: Some(now) };
            self.starts.finished += 1;
            self.starts.took += now.saturating_sub(since);
            self.at_rest(now, ordinal);
        }
        self.grant_all(now)
    }

    /// An instance is gone: it did not start, or its process ended. Requests in flight on it see
    /// their connections break. Waiters are refused where no other instance can come in time.
    pub fn gone(&mut self, now: Duration, ordinal: Ordinal) -> Vec<(W, Grant)> {
        let Some(index) = self.instances.iter().position(|instance| instance.ordinal == ordinal)
        else {
            return Vec::new();
        };
        self.at_rest(now, ordinal);
        let instance = self.instances.remove(index);
        self.in_flight -= instance.in_flight;
        self.meter.set(now, self.in_flight);
        let starts = &mut self.starts;
        match instance.phase {
            Phase::Draining => {}
            Phase::Ready { .. } if instance.proven(now) => starts.failures_in_a_row = 0,
            Phase::Ready { .. } | Phase::Starting { .. } => {
                let doublings = starts.failures_in_a_row.min(16);
                starts.failures_in_a_row = starts.failures_in_a_row.saturating_add(1);
                starts.not_before = now + (BACK_OFF_FIRST * (1 << doublings)).min(BACK_OFF_MAX);
            }
        }
        if !matches!(instance.phase, Phase::Starting { .. }) || !self.instances.is_empty() {
            return Vec::new();
        }
        // "The request failed because the instance could not start successfully."
        let refused = Grant::Refused(Reason::InstanceStartFailed);
        self.pending.drain(..).map(|pending| (pending.waiter, refused)).collect()
    }

    /// What has been used since the last call (7.3).
    pub fn usage(&mut self, now: Duration) -> Usage {
        let mut usage = Usage { billable: std::mem::take(&mut self.billable), most: Vec::new() };
        for instance in &mut self.instances {
            if let Some(since) = &mut instance.busy_since {
                usage.billable += now.saturating_sub(*since);
                *since = now;
            }
            if matches!(instance.phase, Phase::Ready { .. } | Phase::Draining) {
                usage.most.push(std::mem::replace(&mut instance.most, instance.in_flight));
            }
        }
        usage
    }

    /// The mean of the CPUs that all instances together used over the last minute.
    pub fn observe_cpus(&mut self, cpus: f64) {
        self.cpus = cpus;
    }

    /// Other bounds for the same instances.
    pub fn rescale(&mut self, spec: Spec) {
        self.spec = spec;
    }

    /// The revision serves no longer: waiters go elsewhere, instances drain.
    pub fn retire(&mut self) -> Vec<(W, Grant)> {
        self.retired = true;
        self.pending.drain(..).map(|pending| (pending.waiter, Grant::Retired)).collect()
    }

    /// What to start and stop at this moment. At least `floor` instances are started whatever the
    /// scaler says: a new revision must show that it starts before it gets traffic.
    pub fn plan(&mut self, now: Duration, floor: u32) -> Plan {
        let mut plan = Plan::default();
        if self.instances.iter().any(|instance| instance.proven(now)) {
            self.starts.failures_in_a_row = 0;
        }
        let idle_since: Vec<Option<Duration>> = self
            .instances
            .iter()
            .filter_map(|instance| match instance.phase {
                Phase::Starting { .. } => Some(None),
                Phase::Ready { idle_since, .. } => Some(idle_since),
                Phase::Draining => None,
            })
            .collect();
        let current = u32::try_from(idle_since.len()).unwrap_or(u32::MAX);
        let wanted = if self.retired {
            0
        } else {
            let seen = Observation {
                in_flight: self.in_flight,
                pending: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
                mean_in_flight: self.meter.mean(now),
                mean_cpus: self.cpus,
                idle_since: &idle_since,
            };
            // Instances that are not ready take nothing: others stand in for them.
            let unready = self.instances.iter().filter(|instance| instance.unready).count();
            let unready = u32::try_from(unready).unwrap_or(u32::MAX);
            let desired = scaler::desired(now, &seen, &self.spec);
            plan.because = desired.because;
            if floor > desired.instances {
                plan.because = Because::Rollout;
            }
            match desired.instances.max(floor) {
                0 => 0,
                desired => desired.saturating_add(unready).min(self.spec.instances_max.max(floor)),
            }
        };
        self.preferred = usize::try_from(wanted).unwrap_or(usize::MAX).max(1);
        if wanted > current {
            if now < self.starts.not_before {
                plan.again_at = Some(self.starts.not_before);
            } else {
                // After a failure one instance tries first: a program that cannot start would
                // otherwise fail as many times at once as there are instances wanted.
                let starting = self.counts().starting;
                let at_once = match self.starts.failures_in_a_row {
                    0 => wanted - current,
                    _ => 1u32.saturating_sub(starting),
                };
                for _ in 0..at_once {
                    self.ordinal_last += 1;
                    plan.start.push(self.ordinal_last);
                    self.instances.push(Instance {
                        ordinal: self.ordinal_last,
                        phase: Phase::Starting { since: now },
                        in_flight: 0,
                        unready: false,
                        most: 0,
                        busy_since: Some(now),
                    });
                }
            }
        }
        for _ in wanted..current {
            if let Some(index) = self.least_needed(now) {
                self.instances[index].phase = Phase::Draining;
            }
        }
        self.instances.retain(|instance| {
            let over = instance.phase == Phase::Draining && instance.in_flight == 0;
            if over {
                plan.stop.push(instance.ordinal);
            }
            !over
        });
        plan
    }

    /// Instances that serve, those of them without a request, and those that are starting.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { pending: self.pending.len(), ..Counts::default() };
        for instance in &self.instances {
            match instance.phase {
                Phase::Starting { .. } => counts.starting += 1,
                Phase::Ready { .. } if instance.in_flight == 0 => counts.idle += 1,
                Phase::Ready { .. } | Phase::Draining => counts.active += 1,
            }
        }
        counts
    }

    /// Is this instance starting, and still wanted?
    pub fn expects(&self, ordinal: Ordinal) -> bool {
        self.instances.iter().any(|instance| {
            instance.ordinal == ordinal && matches!(instance.phase, Phase::Starting { .. })
        })
    }

    /// Is an instance to be stopped when its last request has ended?
    pub fn is_draining(&self) -> bool {
        self.retired || self.instances.iter().any(|instance| instance.phase == Phase::Draining)
    }

    /// Has a start succeeded?
    pub fn has_started(&self) -> bool {
        self.starts.finished > 0
    }

    /// Has no start succeeded so far, and did the last one fail?
    pub fn never_started(&self) -> bool {
        self.starts.finished == 0 && self.starts.failures_in_a_row > 0
    }

    /// Of the instances with a free slot the least loaded of those that the scaler wants; where
    /// those are full, the first of the others.
    fn free_instance(&self) -> Option<usize> {
        let mut best: Option<(u32, usize)> = None;
        let mut serving = 0;
        for (index, instance) in self.instances.iter().enumerate() {
            if !matches!(instance.phase, Phase::Ready { .. }) || instance.unready {
                continue;
            }
            if serving >= self.preferred && best.is_some() {
                break;
            }
            serving += 1;
            if self.has_slot(instance) && best.is_none_or(|(load, _)| instance.in_flight < load) {
                best = Some((instance.in_flight, index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn has_slot(&self, instance: &Instance) -> bool {
        matches!(instance.phase, Phase::Ready { .. })
            && !instance.unready
            && instance.in_flight < self.spec.concurrency
    }

    fn take(&mut self, now: Duration, index: usize) -> Ordinal {
        let instance = &mut self.instances[index];
        instance.in_flight += 1;
        instance.most = instance.most.max(instance.in_flight);
        instance.busy_since.get_or_insert(now);
        if let Phase::Ready { idle_since, .. } = &mut instance.phase {
            *idle_since = None;
        }
        let ordinal = instance.ordinal;
        self.in_flight += 1;
        self.meter.set(now, self.in_flight);
        ordinal
    }

    /// Nothing is billed of an instance from now on.
    fn at_rest(&mut self, now: Duration, ordinal: Ordinal) {
        if let Some(since) = self.instance_mut(ordinal).and_then(|i| i.busy_since.take()) {
            self.billable += now.saturating_sub(since);
        }
    }

    fn grant_all(&mut self, now: Duration) -> Vec<(W, Grant)> {
        let granted = std::iter::from_fn(|| self.grant_next(now));
        granted.map(|(waiter, ordinal)| (waiter, Grant::Slot(ordinal))).collect()
    }

    fn grant_next(&mut self, now: Duration) -> Option<(W, Ordinal)> {
        if self.pending.is_empty() {
            return None;
        }
        let index = self.free_instance()?;
        let pending = self.pending.pop_front()?;
        Some((pending.waiter, self.take(now, index)))
    }

    /// An instance to give up: the one that has been idle for longest; else, where the maximum was
    /// lowered, the newest busy one.
    fn least_needed(&self, now: Duration) -> Option<usize> {
        let idle = self.instances.iter().enumerate().filter_map(|(index, instance)| match instance
            .phase
        {
            Phase::Ready { idle_since: Some(since), .. } => {
                Some((now.saturating_sub(since), instance.ordinal, index))
            }
            _ => None,
        });
        let serves = |instance: &Instance| instance.phase != Phase::Draining;
        idle.max().map(|(_, _, index)| index).or_else(|| self.instances.iter().rposition(serves))
    }

    fn instance_mut(&mut self, ordinal: Ordinal) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|instance| instance.ordinal == ordinal)
    }

    fn pending_max(&self) -> u64 {
        let slots = u64::from(self.spec.instances_max) * u64::from(self.spec.concurrency);
        slots.saturating_mul(PENDING_PER_SLOT).min(PENDING_MAX)
    }

    fn pending_timeout(&self, now: Duration) -> Duration {
        let mean = match self.starts.finished {
            // Without history a start that is under way takes at least as long as it has taken.
            0 => self
                .instances
                .iter()
                .filter_map(|instance| match instance.phase {
                    Phase::Starting { since } => Some(now.saturating_sub(since)),
                    _ => None,
                })
                .max()
                .unwrap_or_default(),
            finished => self.starts.took / finished,
        };
        mean.mul_f64(PENDING_MEAN_STARTS).max(PENDING_TIMEOUT_MIN)
    }

    /// Nothing runs or starts, and the next start is further away than a request may wait.
    fn starts_too_late(&self, now: Duration) -> bool {
        self.instances.is_empty() && self.starts.not_before >= now + self.pending_timeout(now)
    }

    /// Which of the two answers a request gets that found no instance (2.2).
    fn no_capacity(&self) -> Reason {
        let ready = |instance: &&Instance| matches!(instance.phase, Phase::Ready { .. });
        if self.instances.iter().filter(ready).count() as u64 >= u64::from(self.spec.instances_max)
        {
            Reason::NoAvailableInstance
        } else {
            Reason::NoInstanceStarted
        }
    }
}

impl Instance {
    fn proven(&self, now: Duration) -> bool {
        matches!(self.phase, Phase::Ready { since, .. } if now.saturating_sub(since) >= PROVEN_AFTER)
    }
}

/// What a revision used in a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of instances with requests, or starting, in sum: what request-based billing counts (2.4).
    pub billable: Duration,
    /// The most requests at once, of each instance that serves.
    pub most: Vec<u32>,
}

/// How many instances there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Serving at least one request, or draining.
    pub active: u32,
    /// Ready, without a request.
    pub idle: u32,
    /// Not listening yet.
    pub starting: u32,
    /// Requests that wait.
    pub pending: usize,
}

#[cfg(test)]
mod tests;

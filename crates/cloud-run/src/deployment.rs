//! A service and its revisions over time: what a new template changes, and which revision a
//! request gets.
//!
//! A changed template starts a new revision. Requests that arrive from then on are for it, and wait
//! while its first instance starts; the revision before serves if that fails or takes long, and
//! drains once the new one has shown that it starts. So an edit is in force when its reload is, and
//! a program that does not start takes no traffic, as in Cloud Run (3.2: "LATEST = newest ready").

use crate::revision::{Clock, NoSlot, Revision, Slot, fixed_endpoint};
use arc_swap::ArcSwap;
use names::Reason;
use slice::run::Service;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long requests wait for a new revision before the one before it serves them.
const ROLLOUT_PATIENCE: Duration = Duration::from_secs(10);

/// What all deployments share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The schedulers' clock.
    pub clock: Clock,
    /// Wakes whoever carries out plans.
    pub wake: Arc<Notify>,
    /// Numbers for connection pools.
    pub pool_keys: Arc<AtomicU64>,
}

impl Shared {
    /// A number that no instance had before.
    pub fn pool_key(&self) -> u64 {
        self.pool_keys.fetch_add(1, Ordering::Relaxed)
    }
}

/// A service at work; outlives generations.
pub struct Deployment {
    shared: Shared,
    route: ArcSwap<Route>,
    /// Revisions that drain. Also serialises changes of the route.
    retiring: Mutex<Vec<Arc<Revision>>>,
}

/// Who serves.
#[derive(Clone, Debug)]
pub struct Route {
    /// The revision that new requests are for.
    pub current: Arc<Revision>,
    /// During a rollout: the revision before, and until when requests wait for the current one.
    pub before: Option<(Arc<Revision>, Duration)>,
}

/// What a step of a deployment found out.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing new.
    Same,
    /// The new revision serves; the one before drains.
    RolledOut,
    /// The new revision does not start; the one before serves on.
    RolledBack(String),
}

impl Deployment {
    /// A new service; nothing is started yet.
    ///
    /// # Errors
    /// A sentence, for a template that cannot run.
    pub fn new(service: Arc<Service>, shared: Shared) -> Result<Self, String> {
        let current = revision(service, &shared)?;
        let route = ArcSwap::from_pointee(Route { current, before: None });
        Ok(Deployment { shared, route, retiring: Mutex::default() })
    }

    /// Applies what a committed generation says of the service.
    ///
    /// # Errors
    /// A sentence, for a template that cannot run.
    pub fn deploy(&self, service: &Arc<Service>) -> Result<(), String> {
        let mut retiring = self.lock();
        let Route { current, before } = Route::clone(&self.route.load());
        if current.is_of(service) {
            current.rescale(service);
            return Ok(());
        }
        let patience = self.shared.clock.now() + ROLLOUT_PATIENCE;
        // Back to the revision that still serves: the newer one is given up.
        if let Some((before, _)) = before.as_ref().filter(|(before, _)| before.is_of(service)) {
            before.rescale(service);
            self.route.store(Arc::new(Route { current: Arc::clone(before), before: None }));
            current.retire();
            retiring.push(current);
            return Ok(());
        }
        let new = revision(Arc::clone(service), &self.shared)?;
        // The newest revision that has shown that it starts stands in for the new one.
        let stand_in = match before {
            _ if current.has_started() => Some(current),
            before => before.map(|(before, _)| before),
        };
        let before = stand_in.filter(|_| !new.is_fixed()).map(|before| (before, patience));
        let kept = before.as_ref().map(|(before, _)| Arc::clone(before));
        let replaced = self.route.swap(Arc::new(Route { current: new, before }));
        for old in replaced.revisions() {
            if !kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, old)) {
                old.retire();
                retiring.push(Arc::clone(old));
            }
        }
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The service is gone: everything drains.
    pub fn remove(&self) {
        let mut retiring = self.lock();
        let route = self.route.load();
        for revision in route.revisions() {
            revision.retire();
            retiring.push(Arc::clone(revision));
        }
    }

    /// Who serves at the moment.
    pub fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// A slot for one request, and the revision that gives it.
    ///
    /// # Errors
    /// Why the request gets none.
    pub async fn slot(&self) -> Result<(Slot, Arc<Revision>), Reason> {
        // A revision retires at most once per reload, so this ends; the bound is for the reader.
        for _ in 0..16 {
            let route = self.route.load_full();
            let outcome = match &route.before {
                None => route.current.slot().await.map(|slot| (slot, &route.current)),
                Some((before, until)) => self.slot_in_rollout(&route, before, *until).await,
            };
            match outcome {
                Ok((slot, revision)) => return Ok((slot, Arc::clone(revision))),
                Err(NoSlot::Refused(reason)) => return Err(reason),
                Err(NoSlot::Retired) if self.is_removed(&route) => {
                    return Err(Reason::CloudRunServiceNotFound);
                }
                Err(NoSlot::Retired) => {}
            }
        }
        Err(Reason::NoInstanceStarted)
    }

    async fn slot_in_rollout<'a>(
        &self,
        route: &'a Route,
        before: &'a Arc<Revision>,
        until: Duration,
    ) -> Result<(Slot, &'a Arc<Revision>), NoSlot> {
        let left = until.saturating_sub(self.shared.clock.now());
        match tokio::time::timeout(left, route.current.slot()).await {
            Ok(Ok(slot)) => Ok((slot, &route.current)),
            Ok(Err(NoSlot::Retired)) => Err(NoSlot::Retired),
            Ok(Err(NoSlot::Refused(_))) | Err(_) => before.slot().await.map(|slot| (slot, before)),
        }
    }

    fn is_removed(&self, route: &Arc<Route>) -> bool {
        let now = self.route.load();
        Arc::ptr_eq(&now, route)
    }

    /// The revisions for which plans must be made, each with the fewest instances to start, and
    /// what this step found out about a rollout.
    pub fn step(&self) -> (Turn, Vec<(Arc<Revision>, u32)>) {
        let mut retiring = self.lock();
        let route = self.route.load_full();
        let mut turn = Turn::Same;
        if let Some((before, _)) = &route.before {
            let (next, gone) = if route.current.has_started() {
                turn = Turn::RolledOut;
                (&route.current, before)
            } else if route.current.never_started() {
                turn = Turn::RolledBack(not_ready(&route.current));
                (before, &route.current)
            } else {
                (&route.current, before)
            };
            if turn != Turn::Same {
                self.route.store(Arc::new(Route { current: Arc::clone(next), before: None }));
                gone.retire();
                retiring.push(Arc::clone(gone));
            }
        }
        let route = self.route.load_full();
        let floor = u32::from(route.before.is_some());
        let mut work = vec![(Arc::clone(&route.current), floor)];
        work.extend(route.before.iter().map(|(before, _)| (Arc::clone(before), 0)));
        work.extend(retiring.iter().map(|revision| (Arc::clone(revision), 0)));
        retiring.retain(|revision| {
            let counts = revision.counts();
            counts.active + counts.idle + counts.starting > 0
        });
        (turn, work)
    }

    /// Is nothing left of a removed service?
    pub fn is_drained(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Revision>>> {
        self.retiring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route {
    /// The current revision, and the one before.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<Revision>> {
        [&self.current].into_iter().chain(self.before.iter().map(|(before, _)| before))
    }
}

fn revision(service: Arc<Service>, shared: &Shared) -> Result<Arc<Revision>, String> {
    let url = fixed_endpoint(&service.revision.ingress().0.run)
        .map_err(|error| format!("service {}: {error}", service.self_link))?;
    let url = url.map(|endpoint| (endpoint, shared.pool_key()));
    Ok(Arc::new(Revision::new(service, url, shared.clock, Arc::clone(&shared.wake))))
}

/// What a failed deployment says (cloud-run 2.5).
fn not_ready(revision: &Revision) -> String {
    format!(
        "Revision '{}' is not ready and cannot serve traffic. The user-provided container failed \
         to start and listen on the port defined provided by the PORT={} environment variable \
         within the allocated timeout.",
        revision.name(),
        revision.service.revision.ingress().1.number,
    )
}

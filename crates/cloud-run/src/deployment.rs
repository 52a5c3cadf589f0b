//! A service and its revisions at work: what a new template or other traffic changes, and which
//! revision a request gets (cloud-run 3.2).
//!
//! A changed template makes a new revision, and one instance of it is started whether or not traffic
//! goes there. Until it has started, what served before serves on; from then on `LATEST` is the new
//! one. One that does not start takes no traffic. Traffic that names a revision which is not ready
//! changes nothing until it is. A revision to which nothing leads drains and ends.
//!
//! On a fresh start nothing else can serve, so what the files name is taken to be ready until its
//! start has failed.

mod view;

use crate::history::{History, Proof};
use crate::revision::{Clock, NoSlot, Revision, Slot, fixed_endpoint};
use arc_swap::ArcSwap;
use autoscaling::division::{Bounds, ServiceCounts, Share, divide};
use names::Reason;
use serverless::affinity::{Affinity, digest};
use serverless::{Preference, Routing};
use slice::run::{Revision as Template, Service, TrafficTarget};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
pub use view::View;

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
    /// All that a request looks at.
    route: ArcSwap<Route>,
    state: Mutex<State>,
}

/// Who serves: an immutable snapshot.
#[derive(Debug, Default)]
pub struct Route {
    /// Which requests go where.
    pub routing: Routing,
    /// Beside the routing's revisions, by their index, each with the [`digest`] of its name.
    pub revisions: Vec<(Arc<Revision>, u64)>,
    /// The service is gone.
    removed: bool,
}

/// What one request says about who should serve it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The tag.
    pub tag: Option<&'a str>,
    /// The instance that its cookie names.
    pub affinity: Option<Affinity>,
    /// A fresh random number.
    pub random: u64,
}

struct State {
    service: Arc<Service>,
    history: History,
    /// The history has changed since it was stored.
    unstored: bool,
    /// The traffic in force: the service's, unless it names a revision that is not ready.
    traffic: Vec<TrafficTarget>,
    /// Revisions that serve, and those that are tried.
    at_work: Vec<Arc<Revision>>,
    /// Revisions that end with their last request.
    draining: Vec<Arc<Revision>>,
    /// What was found out, and nobody was told yet.
    turns: Vec<Turn>,
}

/// What a step of a deployment found out about a revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It starts, and may serve from now on.
    Ready(String),
    /// It does not start: its name and why.
    Failed(String, String),
}

impl Deployment {
    /// A new service with what is remembered of it; nothing is started yet.
    ///
    /// # Errors
    /// A sentence, for a template that cannot run or traffic that goes nowhere.
    pub fn new(
        service: Arc<Service>,
        mut history: History,
        shared: Shared,
    ) -> Result<Self, String> {
        check_endpoints(&service)?;
        history.join(&service, true)?;
        let state = State {
            traffic: service.traffic.clone(),
            service,
            history,
            unstored: true,
            at_work: Vec::new(),
            draining: Vec::new(),
            turns: Vec::new(),
        };
        let deployment = Deployment { shared, route: ArcSwap::default(), state: Mutex::new(state) };
        deployment.settle(&mut deployment.lock());
        Ok(deployment)
    }

    /// Could this be deployed? Changes nothing.
    ///
    /// # Errors
    /// A sentence, for a template that cannot run, a revision whose name is taken, or traffic that
    /// goes nowhere.
    pub fn check(&self, service: &Service) -> Result<(), String> {
        check_endpoints(service)?;
        self.lock().history.clone().join(service, false)
    }

    /// Applies what a committed generation says of the service.
    ///
    /// # Errors
    /// As [`Deployment::check`]; nothing has changed then.
    pub fn deploy(&self, service: &Arc<Service>) -> Result<(), String> {
        let mut state = self.lock();
        let mut history = state.history.clone();
        history.join(service, false)?;
        // Whoever failed and is asked for again begins anew, without a pause.
        let again = |name: &str| {
            let proof = |history: &History| {
                let found = history.revisions().iter().rfind(|one| one.revision.name == name);
                found.map(|recorded| recorded.proof)
            };
            proof(&state.history) == Some(Proof::Failed) && proof(&history) == Some(Proof::Unproven)
        };
        let (again, kept): (Vec<_>, Vec<_>) =
            state.at_work.iter().cloned().partition(|revision| again(revision.name()));
        state.unstored |= history != state.history;
        state.history = history;
        state.service = Arc::clone(service);
        state.at_work = kept;
        self.settle(&mut state);
        // Only now, when their waiters find the next one.
        state.retire(again);
        drop(state);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// The service is gone: everything drains.
    pub fn remove(&self) {
        let mut state = self.lock();
        self.route.store(Arc::new(Route { removed: true, ..Route::default() }));
        let all = std::mem::take(&mut state.at_work);
        state.retire(all);
    }

    /// Who serves at the moment.
    pub fn route(&self) -> Arc<Route> {
        self.route.load_full()
    }

    /// A slot for one request, and the revision that gives it. `at` is when the request came: the
    /// wait counts into the revision's request timeout.
    ///
    /// # Errors
    /// Why the request gets none.
    pub async fn slot(
        &self,
        wanted: Wanted<'_>,
        at: Instant,
    ) -> Result<(Slot, Arc<Revision>), Reason> {
        // A revision retires at most once per reload, so this ends; the bound is for the reader.
        for _ in 0..16 {
            let (revision, ordinal) = {
                let route = self.route.load();
                match route.choose(wanted) {
                    Some((revision, ordinal)) => (Arc::clone(revision), ordinal),
                    None if route.removed || wanted.tag.is_none() => {
                        return Err(Reason::CloudRunServiceNotFound);
                    }
                    None => return Err(Reason::CloudRunTagNotFound),
                }
            };
            let deadline = at + revision.timeout();
            match timeout_at(deadline, revision.slot(ordinal)).await {
                Ok(Ok(slot)) => return Ok((slot, revision)),
                Ok(Err(NoSlot::Retired)) => {}
                // "A failing new revision does not take traffic": whoever can serve does.
                Ok(Err(NoSlot::Refused(Reason::InstanceStartFailed)))
                    if self.serves_no_longer(&revision, wanted) => {}
                Ok(Err(NoSlot::Refused(reason))) => return Err(reason),
                Err(_) => return Err(Reason::RequestTimeout),
            }
        }
        Err(Reason::NoInstanceStarted)
    }

    /// Takes note that a start failed. True: another revision serves the request now.
    fn serves_no_longer(&self, revision: &Arc<Revision>, wanted: Wanted<'_>) -> bool {
        let mut state = self.lock();
        if state.prove() {
            self.settle(&mut state);
            self.shared.wake.notify_one();
        }
        drop(state);
        let route = self.route.load();
        route.choose(wanted).is_some_and(|(now, _)| !Arc::ptr_eq(now, revision))
    }

    /// Takes note of what starts have shown, and says what is to be done: the revisions for which
    /// plans must be made, each with the fewest instances to start.
    pub fn step(&self) -> (Vec<Turn>, Vec<(Arc<Revision>, u32)>) {
        let mut state = self.lock();
        if state.prove() {
            self.settle(&mut state);
        }
        let turns = std::mem::take(&mut state.turns);
        let mut work = Vec::with_capacity(state.at_work.len() + state.draining.len());
        for revision in &state.at_work {
            // It must show that it starts, whether or not anybody asks for it.
            work.push((Arc::clone(revision), u32::from(state.is_tried(revision.name()))));
        }
        work.extend(state.draining.iter().map(|revision| (Arc::clone(revision), 0)));
        state.draining.retain(|revision| {
            let counts = revision.counts();
            counts.active + counts.idle + counts.starting > 0
        });
        (turns, work)
    }

    /// The history, if it has changed since it was asked for last.
    pub fn unstored(&self) -> Option<History> {
        let mut state = self.lock();
        std::mem::take(&mut state.unstored).then(|| state.history.clone())
    }

    /// Is nothing left of a removed service?
    pub fn is_drained(&self) -> bool {
        self.lock().draining.is_empty()
    }

    /// Lets who serves follow from the traffic and what is known of the revisions.
    fn settle(&self, state: &mut State) {
        let candidates = state.history.candidates();
        let route = self.route.load_full();
        let routing = match Routing::resolve(&state.service.traffic, &candidates) {
            Ok(routing) => {
                state.traffic.clone_from(&state.service.traffic);
                routing
            }
            // What was in force stays, with the `LATEST` of today; a revision of it that turned
            // out not to start keeps its share, and its failure is the answer.
            Err(_) => Routing::resolve(&state.traffic, &candidates)
                .unwrap_or_else(|_| route.routing.clone()),
        };
        let routed = |name: &str| routing.revisions().iter().position(|one| *one.name == *name);
        let mut before = std::mem::take(&mut state.at_work);
        let mut now = Vec::new();
        for recorded in state.history.revisions() {
            let name = recorded.revision.name.as_str();
            if routed(name).is_none() && !state.is_tried(name) {
                continue;
            }
            let service = &state.service;
            let same = before.iter().position(|one| {
                one.is_of(&recorded.revision)
                    && one.service.project_number == service.project_number
            });
            now.push(match same {
                Some(at) => before.swap_remove(at),
                None => self.revision(service, &recorded.revision),
            });
        }
        let shares: Vec<Share> = now
            .iter()
            .map(|revision| {
                let percent = routed(revision.name()).map(|at| routing.revisions()[at].percent);
                let template = &revision.service.revision;
                Share {
                    percent: percent.unwrap_or_default(),
                    instances_min: percent.map_or(0, |_| template.min_instances),
                    instances_max: template.max_instances,
                }
            })
            .collect();
        let bounds: Vec<Bounds> = divide(counts(&state.service), &shares);
        for (revision, bounds) in now.iter().zip(bounds) {
            revision.rescale(&state.service.scaling, bounds);
        }
        let serving = routing.revisions().iter().filter_map(|one| {
            let revision = now.iter().find(|revision| revision.name() == &*one.name)?;
            Some((Arc::clone(revision), digest(&one.name)))
        });
        let next = Route { revisions: serving.collect(), routing, removed: false };
        if !next.is_like(&route) {
            self.route.store(Arc::new(next));
        }
        state.at_work = now;
        // After the swap: their waiters find the new route.
        state.retire(before);
        let State { service, history, traffic, at_work, .. } = state;
        let targets = service.traffic.iter().chain(&*traffic);
        let named: Vec<&str> = targets.filter_map(|one| one.revision.as_deref()).collect();
        let declared = &service.older_revisions;
        history.trim(|name| {
            named.contains(&name)
                || at_work.iter().any(|one| one.name() == name)
                || declared.iter().any(|one| one.name == name)
        });
    }

    fn revision(&self, service: &Arc<Service>, template: &Template) -> Arc<Revision> {
        let service = match service.revision == *template {
            true => Arc::clone(service),
            false => Arc::new(Service {
                revision: template.clone(),
                older_revisions: Vec::new(),
                ..Service::clone(service)
            }),
        };
        // A URL that is none was refused when it was deployed.
        let url = fixed_endpoint(&service.revision.ingress().0.run).ok().flatten();
        let url = url.map(|endpoint| (endpoint, self.shared.pool_key()));
        Arc::new(Revision::new(service, url, self.shared.clock, Arc::clone(&self.shared.wake)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes note of what revisions at work have shown since the last look. True: something new.
    fn prove(&mut self) -> bool {
        let mut changed = false;
        for revision in &self.at_work {
            let started = revision.has_started();
            if !started && !revision.never_started() {
                continue;
            }
            let name = revision.name();
            match self.history.prove(name, started) {
                None => continue,
                Some((Proof::Assumed, Proof::Started)) => {}
                Some((_, Proof::Started)) => self.turns.push(Turn::Ready(name.to_owned())),
                Some(_) => self
                    .turns
                    .push(Turn::Failed(name.to_owned(), not_ready(&revision.service.revision))),
            }
            (self.unstored, changed) = (true, true);
        }
        changed
    }

    /// Must it show that it starts? The latest created one must, and those that traffic waits for.
    fn is_tried(&self, name: &str) -> bool {
        let revisions = self.history.revisions();
        let last = revisions.last().is_some_and(|last| last.revision.name == name);
        let unproven = || {
            let recorded = revisions.iter().rfind(|one| one.revision.name == name);
            recorded.is_some_and(|recorded| recorded.proof == Proof::Unproven)
        };
        let mut targets = self.service.traffic.iter();
        (last || targets.any(|one| one.revision.as_deref() == Some(name))) && unproven()
    }

    fn retire(&mut self, revisions: Vec<Arc<Revision>>) {
        for revision in revisions {
            revision.retire();
            self.draining.push(revision);
        }
    }
}

impl Route {
    /// The revision for a request, and the instance that its client should stay with.
    pub fn choose(&self, wanted: Wanted<'_>) -> Option<(&Arc<Revision>, Option<Affinity>)> {
        let affinity = wanted.affinity.and_then(|affinity| {
            let named = |(revision, digest): &(Arc<Revision>, u64)| {
                *digest == affinity.revision && revision.keeps(affinity)
            };
            Some((self.revisions.iter().position(named)?, affinity))
        });
        let at = affinity.map(|(at, _)| at);
        let preference = Preference { tag: wanted.tag, affinity: at };
        let chosen = self.routing.choose(preference, wanted.random)?;
        let kept = affinity.filter(|(at, _)| *at == chosen).map(|(_, affinity)| affinity);
        Some((&self.revisions.get(chosen)?.0, kept))
    }

    /// Does the revision for a request speak HTTP/2 without TLS?
    pub fn is_h2c(&self, wanted: Wanted<'_>) -> bool {
        let chosen = self.choose(wanted);
        chosen.is_some_and(|(revision, _)| revision.service.revision.ingress().1.h2c)
    }

    fn is_like(&self, other: &Route) -> bool {
        let same = |(one, _): &(Arc<Revision>, u64), (other, _): &(Arc<Revision>, u64)| {
            Arc::ptr_eq(one, other)
        };
        self.routing == other.routing
            && self.revisions.len() == other.revisions.len()
            && self.revisions.iter().zip(&other.revisions).all(|(one, other)| same(one, other))
    }
}

fn check_endpoints(service: &Service) -> Result<(), String> {
    let revisions = [&service.revision].into_iter().chain(&service.older_revisions);
    for revision in revisions {
        fixed_endpoint(&revision.ingress().0.run)
            .map_err(|error| format!("service {}: {error}", service.self_link))?;
    }
    Ok(())
}

fn counts(service: &Service) -> ServiceCounts {
    ServiceCounts {
        instances_min: service.scaling.min_instances,
        instances_max: service.scaling.max_instances,
        manual: service.scaling.manual_instances,
    }
}

/// What a failed deployment says (cloud-run 2.5).
fn not_ready(revision: &Template) -> String {
    format!(
        "Revision '{}' is not ready and cannot serve traffic. The user-provided container failed \
         to start and listen on the port defined provided by the PORT={} environment variable \
         within the allocated timeout. This can happen when the container port is misconfigured or \
         if the timeout is too short. The health check timeout can be extended. Logs for this \
         revision might contain more information.",
        revision.name,
        revision.ingress().1.number,
    )
}

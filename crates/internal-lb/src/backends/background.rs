//! What goes on beside the requests, once per program: probes, looks for outliers, names.

use super::endpoint::Endpoint;
use super::names::Name;
use super::probe::probe;
use crate::InternalLb;
use balancing::{Health, Standing};
use names::SelfLink;
use runtime::Worker;
use runtime::log::{self, Severity};
use slice::load_balancer::{HealthCheck, OutlierDetection};
use slice::{BackendState, Report};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// An endpoint that has never been healthy is probed at least this often: what was started
/// together with the load balancer shall not wait for a long interval.
const EAGER: Duration = Duration::from_secs(1);

/// Keeps the tasks that the snapshot in force needs. The one of an endpoint that stays goes on over
/// reloads, if its health check stays as well.
pub async fn run(worker: Rc<Worker<InternalLb>>) {
    let mut tasks: HashMap<String, JoinHandle<()>> = HashMap::new();
    let mut reported = Vec::new();
    loop {
        let mut wanted = HashMap::new();
        let (drained, next) = worker.program.kept.drained();
        let snapshot = worker.snapshot();
        if drained {
            snapshot.backends.refresh(&worker.program.kept);
        }
        let states = snapshot.backends.states();
        for service in snapshot.backends.services() {
            let link = &service.link;
            for endpoint in service.endpoints() {
                if let Some(check) = service.check.as_ref().filter(|_| endpoint.is_probed()) {
                    let key = format!("probe {} {check:?}", endpoint.number);
                    wanted.insert(key, Task::Probe(link.clone(), endpoint, Arc::clone(check)));
                }
            }
            if let Some(policy) = &service.outlier {
                let key = format!("sweep {link} {policy:?}");
                wanted.insert(key, Task::Sweep(link.clone(), Arc::clone(policy)));
            }
            for name in service.names() {
                // A reload asks anew: zones may have changed in the same edit.
                let key = format!("name {} {}", name.fqdn, worker.generation());
                wanted.insert(key, Task::Follow(Arc::clone(name)));
            }
        }
        drop(snapshot);
        tasks.retain(|key, task| {
            let stays = wanted.contains_key(key);
            if !stays {
                task.abort();
            }
            stays
        });
        for (key, task) in wanted {
            let run = || tokio::task::spawn_local(task.run(Rc::clone(&worker)));
            tasks.entry(key).or_insert_with(run);
        }
        if states != reported {
            worker.context().report(Report::Backends(states.clone()));
            reported = states;
        }
        let changed = worker.program.kept.changed.notified();
        match next {
            None => changed.await,
            Some(next) => tokio::select! {
                () = changed => {}
                () = sleep_until(next) => {}
            },
        }
    }
}

pub(super) fn state(service: &SelfLink, endpoint: &Endpoint, checked: bool) -> BackendState {
    let checked = checked && endpoint.is_probed();
    let standing = if checked { endpoint.standing() } else { Standing::Healthy };
    BackendState {
        backend_service: service.clone(),
        endpoint: endpoint.target.to_string(),
        health_state: standing.as_str().to_owned(),
        ejected: endpoint.conduct.is_ejected(),
    }
}

/// Endpoints are swept no more often than this.
const SWEEP_MIN: Duration = Duration::from_millis(10);

enum Task {
    Probe(SelfLink, Arc<Endpoint>, Arc<HealthCheck>),
    Sweep(SelfLink, Arc<OutlierDetection>),
    Follow(Arc<Name>),
}

impl Task {
    async fn run(self, worker: Rc<Worker<InternalLb>>) {
        match self {
            Task::Probe(service, endpoint, check) => {
                watch_health(&worker, &service, &endpoint, &check).await;
            }
            Task::Sweep(service, policy) => loop {
                sleep(policy.interval.max(SWEEP_MIN)).await;
                let snapshot = worker.snapshot();
                let service = snapshot.backends.service(&service);
                if service.is_some_and(|service| service.sweep(&policy)) {
                    worker.program.kept.changed.notify_one();
                }
            },
            Task::Follow(name) => name.follow(worker).await,
        }
    }
}

async fn watch_health(
    worker: &Rc<Worker<InternalLb>>,
    service: &SelfLink,
    endpoint: &Arc<Endpoint>,
    check: &HealthCheck,
) {
    let mut health = Health::of(endpoint.standing());
    let gauge = Gauge(metrics::gauge!(
        "postern_backend_healthy",
        "backend_service" => service.to_string(),
        "endpoint" => endpoint.target.to_string(),
    ));
    gauge.show(health.standing());
    loop {
        let began = Instant::now();
        let result = probe(worker, endpoint, check).await;
        let before = health.standing();
        health = health.after(result.is_ok(), check);
        let now = health.standing();
        if now != before {
            gauge.show(now);
            endpoint.set_standing(now);
            worker.snapshot().backends.refresh(&worker.program.kept);
            tell(service, endpoint, check, (before, now), result.err().as_deref());
        }
        let interval = match health.was_healthy() {
            true => check.check_interval,
            false => check.check_interval.min(EAGER),
        };
        sleep_until(began + interval).await;
    }
}

/// 1 for healthy; what is not probed any more is not healthy.
struct Gauge(metrics::Gauge);

impl Gauge {
    fn show(&self, standing: Standing) {
        self.0.set(f64::from(u8::from(standing == Standing::Healthy)));
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}

/// A change of state is logged; in the shape of Google's health check log where the check asks for
/// it (`logConfig`).
fn tell(
    service: &SelfLink,
    endpoint: &Endpoint,
    check: &HealthCheck,
    (before, now): (Standing, Standing),
    error: Option<&str>,
) {
    let severity = match now {
        Standing::Unhealthy => Severity::Warning,
        Standing::Healthy | Standing::Unproven => Severity::Info,
    };
    let target = endpoint.target.to_string();
    let mut entry = log::entry(severity, "the health of an endpoint changed")
        .field("backendService", service.as_str())
        .field("endpoint", target.as_str())
        .field("healthState", now.as_str())
        .field("previousHealthState", before.as_str())
        .field("probeResultText", error);
    if check.log {
        let log =
            format!("projects/{}/logs/compute.googleapis.com%2Fhealthchecks", service.project());
        entry = entry.field("logName", log.as_str()).field("healthCheck", check.self_link.as_str());
        entry.emit();
    } else {
        entry.emit();
    }
}

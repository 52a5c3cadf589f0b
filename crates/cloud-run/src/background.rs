//! Carries out what the schedulers plan, on the first worker: starts instances, lets them go,
//! finishes rollouts, and shows what is there (metrics, `status`).

use crate::deployment::{Deployment, Turn, View};
use crate::start::{self, Start};
use crate::usage::Samples;
use crate::{CloudRun, Deployments};
use names::SelfLink;
use runtime::Worker;
use runtime::log::{self, Severity};
use slice::{Report, ServiceState};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often idle time and mean concurrency are looked at while there are instances.
const TICK: Duration = Duration::from_secs(1);
/// Without instances only events matter, and they wake.
const TICK_WITHOUT_INSTANCES: Duration = Duration::from_secs(60);

/// Runs for the life of the process.
pub async fn run(worker: Rc<Worker<CloudRun>>) {
    let program = Arc::clone(&worker.program);
    let mut shown = Shown::default();
    let mut samples = Samples::default();
    loop {
        let now = program.shared.clock.now();
        let mut next = now + TICK_WITHOUT_INSTANCES;
        let services = program.with_deployments(Deployments::all);
        let mut at_work = Vec::new();
        for (link, deployment) in &services {
            let (turns, work) = deployment.step();
            for turn in turns {
                say(link, turn);
            }
            for (revision, floor) in work {
                let plan = revision.plan(floor);
                next = plan.again_at.map_or(next, |at| at.min(next));
                let counts = revision.counts();
                if counts.active + counts.idle + counts.starting > 0 {
                    next = next.min(now + TICK);
                }
                at_work.push((Arc::clone(&revision), counts));
                let because = plan.because;
                for ordinal in plan.start {
                    let start = Start {
                        host: program.host(),
                        exits: Arc::clone(&program.exits),
                        secrets: program.secrets.subscribe(),
                        revision: Arc::clone(&revision),
                        ordinal,
                        because,
                        pool_key: program.shared.pool_key(),
                    };
                    let worker = Rc::clone(&worker);
                    tokio::task::spawn_local(async move {
                        start::run(start, &worker.local.ids).await;
                    });
                }
            }
        }
        samples.show(now, at_work.iter().map(|(revision, counts)| (&**revision, *counts)));
        program.store_histories();
        program.with_deployments(Deployments::forget_drained);
        if let Some(report) = shown.refresh(&services) {
            worker.context().report(report);
        }
        let pause = next.saturating_sub(program.shared.clock.now());
        tokio::select! {
            () = program.shared.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn say(service: &SelfLink, turn: Turn) {
    match turn {
        Turn::Ready(revision) => log::entry(Severity::Info, "The new revision is ready.")
            .field("service", service.as_str())
            .field("revision", revision.as_str())
            .emit(),
        Turn::Failed(revision, text) => log::entry(Severity::Error, &text)
            .field("service", service.as_str())
            .field("revision", revision.as_str())
            .field("reason", "HEALTH_CHECK_CONTAINER_ERROR")
            .emit(),
    }
}

/// What metrics and `status` were told last.
#[derive(Default)]
struct Shown {
    services: HashMap<SelfLink, View>,
}

impl Shown {
    /// Shows what is there now; a report for the supervisor if anything changed.
    fn refresh(&mut self, services: &[(SelfLink, Arc<Deployment>)]) -> Option<Report> {
        let mut now = HashMap::with_capacity(services.len());
        for (link, deployment) in services {
            let view = deployment.view();
            if self.services.get(link) != Some(&view) {
                gauge(link, "active", view.active);
                gauge(link, "idle", view.idle);
            }
            now.insert(link.clone(), view);
        }
        for link in self.services.keys().filter(|link| !now.contains_key(*link)) {
            gauge(link, "active", 0);
            gauge(link, "idle", 0);
        }
        if now == self.services {
            return None;
        }
        self.services = now;
        Some(report(self.services.values().map(|view| view.state.clone())))
    }
}

/// The states of all services, in order.
pub fn report(states: impl Iterator<Item = ServiceState>) -> Report {
    let mut states: Vec<ServiceState> = states.collect();
    states.sort_by(|one, other| one.service.as_str().cmp(other.service.as_str()));
    Report::Services(states)
}

fn gauge(link: &SelfLink, state: &'static str, count: u32) {
    let labels = [
        ("project_id", link.project().to_owned()),
        ("service_name", link.name().to_owned()),
        ("state", state.to_owned()),
    ];
    metrics::gauge!("run_googleapis_com_container_instance_count", &labels).set(f64::from(count));
}

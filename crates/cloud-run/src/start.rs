//! The life of one instance: start the process, wait until it has started, probe it while it
//! serves, stop it (cloud-run 1.1, 1.2, 2.3).

use crate::host::{Exits, Host};
use crate::ids::Ids;
use crate::probe::{self, Probed, Purpose, Verdict};
use crate::revision::{Endpoint, Instance, Revision};
use crate::usage;
use autoscaling::fleet::Ordinal;
use autoscaling::scaler::Because;
use runtime::log::{self, Severity, Shown};
use slice::SpawnInstance;
use slice::run::{EnvValue, Run};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between SIGTERM and SIGKILL (1.2).
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// How often it is asked whether an instance that starts is still wanted.
const WANTED_EVERY: Duration = Duration::from_millis(100);

/// What the task of an instance needs.
pub struct Start {
    /// Starts processes.
    pub host: Arc<dyn Host>,
    /// Ends of processes.
    pub exits: Arc<Mutex<Exits>>,
    /// The revision.
    pub revision: Arc<Revision>,
    /// The instance's number in it.
    pub ordinal: Ordinal,
    /// What asked for it.
    pub because: Because,
    /// A key for its connections.
    pub pool_key: u64,
}

/// Runs the instance to its end.
pub async fn run(start: Start, ids: &Ids) {
    let Start { host, exits, revision, ordinal, because, pool_key } = start;
    let id: Arc<str> = ids.instance_id().into();
    let Some(spawn) = spawn_instance(&revision, ordinal, &id) else {
        revision.gone(ordinal);
        return;
    };
    let name = spawn.name.clone();
    let began = Instant::now();
    let why = format!(
        "Starting new instance. Reason: {} - {}",
        because.start_reason(),
        because.start_text()
    );
    event(&revision, &name, Severity::Info, &why).emit();
    let spawned = match host.spawn(spawn).await {
        Ok(spawned) => spawned,
        Err(error) => {
            failed(&revision, &name, &format!("The instance was not started: {error}"));
            revision.gone(ordinal);
            return;
        }
    };
    let mut exit = lock(&exits).watch(spawned.instance);
    let template = &revision.service.revision;
    let place = |port| match template.ingress().1.number == port {
        true => spawned.address,
        false => SocketAddr::new(spawned.address.ip(), port),
    };
    for probe in template.containers.iter().filter_map(|c| Probed::startup(c, place)) {
        match started(&revision, ordinal, &probe, &mut exit).await {
            Startup::Started(attempts) => {
                event(&revision, &name, Severity::Info, &probe.succeeded(attempts)).emit();
            }
            Startup::Exited(status) => {
                failed(&revision, &name, &exited(status, "before it had started"));
                revision.gone(ordinal);
                return;
            }
            Startup::Failed(ended) => {
                probed(&revision, &name, Verdict::Fails, &ended);
                stop(&*host, spawned.instance, STOP_GRACE, exit).await;
                revision.gone(ordinal);
                return;
            }
            Startup::Unwanted => {
                stop(&*host, spawned.instance, STOP_GRACE, exit).await;
                return;
            }
        }
    }
    let instance = Arc::new(Instance {
        ordinal,
        id: Arc::clone(&id),
        address: Endpoint::Address(spawned.address),
        pool_key,
        stop: Notify::new(),
    });
    if !revision.started(Arc::clone(&instance)) {
        stop(&*host, spawned.instance, STOP_GRACE, exit).await;
        return;
    }
    usage::started(&revision, began.elapsed());
    event(&revision, &name, Severity::Info, "The instance listens.")
        .field("address", Shown(spawned.address))
        .field("pid", spawned.pid)
        .field("startMillis", began.elapsed().as_millis() as u64)
        .emit();
    let probes = template.containers.iter().flat_map(|c| Probed::running(c, place)).collect();
    let grace = tokio::select! {
        status = &mut exit => {
            // The supervisor goes first only when everything does.
            let status = status.unwrap_or_default();
            failed(&revision, &name, &exited(status, "while it served"));
            revision.gone(ordinal);
            return;
        }
        () = instance.stop.notified() => {
            event(&revision, &name, Severity::Info, "The instance is stopped.").emit();
            STOP_GRACE
        }
        ended = watch(&revision, ordinal, &name, probes) => {
            probed(&revision, &name, Verdict::Fails, &ended);
            // Nobody waits for it any more; what is in flight ends with the process.
            revision.gone(ordinal);
            Duration::ZERO
        }
    };
    stop(&*host, spawned.instance, grace, exit).await;
}

/// Probes a running instance; resolves when it must be replaced.
async fn watch(
    revision: &Arc<Revision>,
    ordinal: Ordinal,
    name: &str,
    probes: Vec<Probed>,
) -> probe::Ended {
    let mut running = JoinSet::new();
    let (changed, mut changes) = mpsc::unbounded_channel();
    for (index, probe) in probes.into_iter().enumerate() {
        let changed = changed.clone();
        running.spawn_local(async move {
            let purpose = probe.purpose();
            let tell = |verdict, ended| drop(changed.send((index, purpose, verdict, ended)));
            probe.watch(tell).await;
        });
    }
    let mut unready = BTreeSet::new();
    // There is a sender here, so it goes on until this future is dropped, and all probes with it.
    while let Some((index, purpose, verdict, ended)) = changes.recv().await {
        if purpose == Purpose::Liveness {
            return ended;
        }
        let was_ready = unready.is_empty();
        match verdict {
            Verdict::Passes => unready.remove(&index),
            Verdict::Fails => unready.insert(index),
        };
        probed(revision, name, verdict, &ended);
        if was_ready != unready.is_empty() {
            revision.readiness(ordinal, unready.is_empty());
        }
    }
    std::future::pending().await
}

/// The process's environment by the container contract (1.1); the supervisor adds PORT.
fn spawn_instance(revision: &Revision, ordinal: Ordinal, id: &str) -> Option<SpawnInstance> {
    let service = &revision.service;
    let template = &service.revision;
    let (container, port) = template.ingress();
    let Run::Command { command, directory } = &container.run else { return None };
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &container.env {
        let EnvValue::Text(value) = value else { return None };
        env.insert(name.clone(), value.clone());
    }
    for (name, value) in [
        ("K_SERVICE", &service.name),
        ("K_REVISION", &template.name),
        ("K_CONFIGURATION", &service.name), // "configuration name = service name"
    ] {
        env.insert(name.to_owned(), value.clone());
    }
    Some(SpawnInstance {
        name: format!("{}/{ordinal}", template.name),
        command: command.clone(),
        directory: directory.clone(),
        env,
        container_port: port.number,
        service_account: template.service_account.clone(),
        project: service.project.clone(),
        project_number: service.project_number,
        region: service.region.clone(),
        vpc_access: template.vpc_access.clone(),
        instance_id: id.to_owned(),
    })
}

enum Startup {
    Started(u32),
    Exited(i32),
    Failed(probe::Ended),
    Unwanted,
}

/// Waits until a container has started, or will not.
async fn started(
    revision: &Revision,
    ordinal: Ordinal,
    probe: &Probed,
    exit: &mut oneshot::Receiver<i32>,
) -> Startup {
    let unwanted = async {
        while revision.expects(ordinal) {
            tokio::time::sleep(WANTED_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        status = exit => Startup::Exited(status.unwrap_or_default()),
        result = probe.until_started() => match result {
            Ok(attempts) => Startup::Started(attempts),
            Err(ended) => Startup::Failed(ended),
        },
        () = unwanted => Startup::Unwanted,
    }
}

async fn stop(host: &dyn Host, instance: u64, grace: Duration, exit: oneshot::Receiver<i32>) {
    host.stop(instance, grace).await;
    // Held until the process is gone, so that its end is not kept as one that came too early.
    let _ = tokio::time::timeout(STOP_GRACE * 2, exit).await;
}

fn exited(status: i32, when: &str) -> String {
    match status {
        129..=192 => format!("Container called exit by signal {} {when}.", status - 128),
        status => format!("Container called exit({status}) {when}."),
    }
}

fn failed(revision: &Revision, instance: &str, text: &str) {
    event(revision, instance, Severity::Error, text).emit();
}

/// What a probe has decided.
fn probed(revision: &Revision, instance: &str, verdict: Verdict, ended: &probe::Ended) {
    let (severity, text) = ended.text(verdict);
    let why = Some(ended.why.as_str()).filter(|why| !why.is_empty());
    event(revision, instance, severity, &text).field("detail", why).emit();
}

/// An entry of the system log (7.2 `varlog/system`).
fn event(revision: &Revision, instance: &str, severity: Severity, text: &str) -> log::Entry {
    let service = &revision.service;
    log::entry(severity, text)
        .field(
            "logName",
            Shown(format_args!(
                "projects/{}/logs/run.googleapis.com%2Fvarlog%2Fsystem",
                service.project
            )),
        )
        .field("service", service.self_link.as_str())
        .field("instance", instance)
}

fn lock(exits: &Mutex<Exits>) -> std::sync::MutexGuard<'_, Exits> {
    exits.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::exited;

    #[test]
    fn an_exit_status_above_128_is_a_signal() {
        assert_eq!(exited(1, "x"), "Container called exit(1) x.");
        assert_eq!(exited(137, "x"), "Container called exit by signal 9 x.");
    }
}

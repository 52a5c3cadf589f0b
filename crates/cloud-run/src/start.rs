//! The life of one instance: start the process, wait until it listens, watch it, stop it
//! (cloud-run 1.1, 1.2).

use crate::host::{Exits, Host};
use crate::ids::Ids;
use crate::revision::{Endpoint, Instance, Revision};
use crate::usage;
use autoscaling::fleet::Ordinal;
use autoscaling::scaler::Because;
use runtime::log::{self, Severity, Shown};
use slice::SpawnInstance;
use slice::run::{EnvValue, Run};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// A program must listen within this time (1.2).
const START_TIMEOUT: Duration = Duration::from_secs(240);

/// Between SIGTERM and SIGKILL (1.2).
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// Pauses between two probes of the port: the first ones short, since most programs listen at
/// once.
const PROBE_FIRST: Duration = Duration::from_millis(2);
const PROBE_MAX: Duration = Duration::from_millis(100);

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
    match probe(&revision, ordinal, spawned.address, &mut exit).await {
        Probe::Listens => {}
        Probe::Exited(status) => {
            failed(&revision, &name, &exited(status, "before it listened on its port"));
            revision.gone(ordinal);
            return;
        }
        Probe::Silent => {
            let port = revision.service.revision.ingress().1.number;
            let text = format!(
                "Default STARTUP TCP probe failed 1 time consecutively for container \"{}\" on \
                 port {port}. The instance was not started.",
                revision.service.name
            );
            failed(&revision, &name, &text);
            stop(&*host, spawned.instance, exit).await;
            revision.gone(ordinal);
            return;
        }
        Probe::Unwanted => {
            stop(&*host, spawned.instance, exit).await;
            return;
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
        stop(&*host, spawned.instance, exit).await;
        return;
    }
    usage::started(&revision, began.elapsed());
    event(&revision, &name, Severity::Info, "The instance listens.")
        .field("address", Shown(spawned.address))
        .field("pid", spawned.pid)
        .field("startMillis", began.elapsed().as_millis() as u64)
        .emit();
    tokio::select! {
        status = &mut exit => {
            // The supervisor goes first only when everything does.
            let status = status.unwrap_or_default();
            failed(&revision, &name, &exited(status, "while it served"));
            revision.gone(ordinal);
        }
        () = instance.stop.notified() => {
            event(&revision, &name, Severity::Info, "The instance is stopped.").emit();
            stop(&*host, spawned.instance, exit).await;
        }
    }
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

enum Probe {
    Listens,
    Exited(i32),
    Silent,
    Unwanted,
}

/// Connects until somebody accepts: the default startup probe (2.3).
async fn probe(
    revision: &Revision,
    ordinal: Ordinal,
    address: SocketAddr,
    exit: &mut oneshot::Receiver<i32>,
) -> Probe {
    let deadline = Instant::now() + START_TIMEOUT;
    let mut pause = PROBE_FIRST;
    loop {
        let connect = tokio::time::timeout_at(deadline, TcpStream::connect(address));
        tokio::select! {
            biased;
            status = &mut *exit => return Probe::Exited(status.unwrap_or_default()),
            connected = connect => match connected {
                Ok(Ok(_)) => return Probe::Listens,
                Ok(Err(_)) => {}
                Err(_) => return Probe::Silent,
            },
        }
        if !revision.expects(ordinal) {
            return Probe::Unwanted;
        }
        tokio::select! {
            biased;
            status = &mut *exit => return Probe::Exited(status.unwrap_or_default()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PROBE_MAX);
    }
}

async fn stop(host: &dyn Host, instance: u64, exit: oneshot::Receiver<i32>) {
    host.stop(instance, STOP_GRACE).await;
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

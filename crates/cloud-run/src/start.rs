//! The life of one instance: make it, start its containers in order, wait until they have started,
//! probe it while it serves, stop it (cloud-run 1.1, 1.2, 2.3).

use crate::containers;
use crate::host::{Exits, Host};
use crate::ids::Ids;
use crate::probe::{self, Probed, Purpose, Verdict};
use crate::revision::{Endpoint, Instance, Revision};
use crate::secrets;
use crate::usage;
use autoscaling::fleet::Ordinal;
use autoscaling::scaler::Because;
use runtime::log::{self, Severity, Shown};
use slice::run::Secret;
use slice::{ContainerExit, StartContainer, VolumeContent};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between SIGTERM and SIGKILL (1.2).
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// How often it is asked whether an instance that starts is still wanted.
const WANTED_EVERY: Duration = Duration::from_millis(100);

/// The secrets of the generation in force.
pub type Secrets = watch::Receiver<Arc<Vec<Secret>>>;

/// What the task of an instance needs.
pub struct Start {
    /// Runs instances.
    pub host: Arc<dyn Host>,
    /// Ends of containers.
    pub exits: Arc<Mutex<Exits>>,
    /// Secrets, now and later.
    pub secrets: Secrets,
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
    let Start { host, exits, mut secrets, revision, ordinal, because, pool_key } = start;
    let id: Arc<str> = ids.instance_id().into();
    let known = Arc::clone(&secrets.borrow_and_update());
    let service = Arc::clone(&revision.service);
    let (spawn, missing) = containers::instance(&service, &known, ordinal, &id);
    let name = spawn.name.clone();
    let began = Instant::now();
    let why = format!(
        "Starting new instance. Reason: {} - {}",
        because.start_reason(),
        because.start_text()
    );
    event(&revision, &name, Severity::Info, &why).emit();
    for text in missing {
        event(&revision, &name, Severity::Warning, &text).emit();
    }
    let spawned = match containers::starts(&service, &known) {
        Ok(starts) => host.spawn(spawn).await.map(|spawned| (spawned, starts)),
        Err(error) => Err(error),
    };
    let (spawned, starts) = match spawned {
        Ok(spawned) => spawned,
        Err(error) => {
            failed(&revision, &name, &format!("The instance was not started: {error}"));
            revision.gone(ordinal);
            return;
        }
    };
    let ends = lock(&exits).watch(spawned.instance);
    let mut life = Life {
        host: &*host,
        exits: &exits,
        revision: &revision,
        ordinal,
        instance: spawned.instance,
        ends,
        running: 0,
    };
    let template = &service.revision;
    let place = |port| match template.ingress().1.number == port {
        true => spawned.address,
        false => SocketAddr::new(spawned.address.ip(), port),
    };
    match life.bring_up(starts, place, &name).await {
        Outcome::Started => {}
        Outcome::Probed(ended) => {
            probed(&revision, &name, Verdict::Fails, &ended);
            life.stop(STOP_GRACE).await;
            revision.gone(ordinal);
            return;
        }
        Outcome::Failed(text) => {
            failed(&revision, &name, &text);
            life.stop(STOP_GRACE).await;
            revision.gone(ordinal);
            return;
        }
        Outcome::Unwanted => {
            life.stop(STOP_GRACE).await;
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
        life.stop(STOP_GRACE).await;
        return;
    }
    usage::started(&revision, began.elapsed());
    event(&revision, &name, Severity::Info, "The instance listens.")
        .field("address", Shown(spawned.address))
        .field("startMillis", began.elapsed().as_millis() as u64)
        .emit();
    let probes = template.containers.iter().flat_map(|c| Probed::running(c, place)).collect();
    let grace = tokio::select! {
        exit = life.ended() => {
            failed(&revision, &name, &exited(&exit, "while it served"));
            revision.gone(ordinal);
            STOP_GRACE
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
        () = rotate(&*host, spawned.instance, &revision, &known, secrets) => STOP_GRACE,
    };
    life.stop(grace).await;
}

/// An instance that was made, and the ends of its containers.
struct Life<'a> {
    host: &'a dyn Host,
    exits: &'a Mutex<Exits>,
    revision: &'a Arc<Revision>,
    ordinal: Ordinal,
    instance: u64,
    ends: mpsc::UnboundedReceiver<ContainerExit>,
    /// Containers that were started and have not ended.
    running: usize,
}

enum Outcome {
    Started,
    Failed(String),
    Probed(probe::Ended),
    Unwanted,
}

impl Life<'_> {
    /// Starts the containers in order and waits until all have started.
    async fn bring_up(
        &mut self,
        mut starts: Vec<StartContainer>,
        place: impl Fn(u16) -> SocketAddr,
        instance: &str,
    ) -> Outcome {
        let template = &self.revision.service.revision;
        let (mut begun, mut started) = (BTreeSet::new(), BTreeSet::new());
        let mut probes = JoinSet::new();
        loop {
            for container in containers::startable(&template.containers, &begun, &started) {
                let Some(index) = starts.iter().position(|s| s.container == container.name) else {
                    continue;
                };
                begun.insert(container.name.clone());
                let start = StartContainer { instance: self.instance, ..starts.swap_remove(index) };
                if let Err(error) = self.host.start(start).await {
                    return Outcome::Failed(format!("The instance was not started: {error}"));
                }
                self.running += 1;
                let name = container.name.clone();
                // A sidecar without a probe counts as started at once (2.3).
                let Some(probe) = Probed::startup(container, &place) else {
                    started.insert(name);
                    continue;
                };
                probes.spawn_local(async move {
                    let result = probe.until_started().await;
                    (name, result.map(|attempts| probe.succeeded(attempts)))
                });
            }
            if begun.len() < template.containers.len()
                && !containers::startable(&template.containers, &begun, &started).is_empty()
            {
                continue;
            }
            if started.len() == template.containers.len() {
                return Outcome::Started;
            }
            let unwanted = async {
                while self.revision.expects(self.ordinal) {
                    tokio::time::sleep(WANTED_EVERY).await;
                }
            };
            tokio::select! {
                biased;
                Some(exit) = self.ends.recv() => {
                    self.running = self.running.saturating_sub(1);
                    return Outcome::Failed(exited(&exit, "before the instance had started"));
                }
                probed = probes.join_next() => match probed {
                    Some(Ok((name, Ok(text)))) => {
                        event(self.revision, instance, Severity::Info, &text).emit();
                        started.insert(name);
                    }
                    Some(Ok((_, Err(ended)))) => return Outcome::Probed(ended),
                    // Checked when the files are read, so it says only what nobody should see.
                    Some(Err(_)) | None => {
                        return Outcome::Failed("The containers wait for each other.".to_owned());
                    }
                },
                () = unwanted => return Outcome::Unwanted,
            }
        }
    }

    /// The end of one of its containers.
    async fn ended(&mut self) -> ContainerExit {
        match self.ends.recv().await {
            Some(exit) => {
                self.running = self.running.saturating_sub(1);
                exit
            }
            // The sender is dropped by `stop` only.
            None => std::future::pending().await,
        }
    }

    /// Ends all of it, and waits until it is gone.
    async fn stop(mut self, grace: Duration) {
        self.host.stop(self.instance, grace).await;
        let all_ended = async {
            while self.running > 0 {
                self.ended().await;
            }
        };
        let _ = tokio::time::timeout(STOP_GRACE * 2, all_ended).await;
        lock(self.exits).forget(self.instance);
    }
}

/// Writes the files of secret volumes again whenever the secrets change: a program that opens one
/// reads what `latest` is then (7.1). Goes on for ever.
async fn rotate(
    host: &dyn Host,
    instance: u64,
    revision: &Revision,
    known: &[Secret],
    mut secrets: Secrets,
) {
    let service = &revision.service;
    let mut before = secrets::volumes(known, &service.revision).0;
    while secrets.changed().await.is_ok() {
        let (now, missing) = secrets::volumes(&secrets.borrow_and_update(), &service.revision);
        for text in missing {
            event(revision, &service.revision.name, Severity::Warning, &text).emit();
        }
        for volume in now.iter().filter(|volume| !before.contains(volume)) {
            let VolumeContent::Files(files) = &volume.content else { continue };
            let written = host.write_files(instance, volume.name.clone(), files.clone()).await;
            if let Err(error) = written {
                event(revision, &service.revision.name, Severity::Error, &error).emit();
            }
        }
        before = now;
    }
    std::future::pending().await
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

fn exited(exit: &ContainerExit, when: &str) -> String {
    if let Some(memory) = exit.out_of_memory {
        let mib = |bytes: u64| bytes >> 20;
        return format!(
            "Memory limit of {} MiB exceeded with {} MiB used. Consider increasing the memory limit, see https://cloud.google.com/run/docs/configuring/memory-limits. The container {} was found to be using too much memory and was terminated.",
            mib(memory.limit),
            mib(memory.used),
            exit.container
        );
    }
    match exit.status {
        status @ 129..=192 => {
            format!("Container called exit by signal {} {when}.", status - 128)
        }
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
    use slice::{ContainerExit, MemoryUse};

    #[test]
    fn an_exit_status_above_128_is_a_signal() {
        let exit = |status| ContainerExit {
            instance: 1,
            container: "app".to_owned(),
            status,
            out_of_memory: None,
        };
        assert_eq!(exited(&exit(1), "x"), "Container called exit(1) x.");
        assert_eq!(exited(&exit(137), "x"), "Container called exit by signal 9 x.");
        let memory = MemoryUse { limit: 512 << 20, used: 513 << 20 };
        let text = exited(&ContainerExit { out_of_memory: Some(memory), ..exit(137) }, "x");
        assert!(text.starts_with("Memory limit of 512 MiB exceeded with 513 MiB used."), "{text}");
    }
}

//! What a program may ask of its surroundings.

use crate::wire::{self, Answer, FromProgram, Request};
use arc_swap::ArcSwap;
use names::NetworkId;
use net::Network;
use slice::{
    Report, SpawnInstance, SpawnedInstance, StartContainer, StartedContainer, VolumeFile, Workload,
};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The surroundings of one program; cheap to clone.
#[derive(Clone)]
pub struct Context(pub(crate) Arc<Surroundings>);

pub(crate) struct Surroundings {
    pub(crate) state_dir: PathBuf,
    pub(crate) network_id: Option<NetworkId>,
    pub(crate) workers: usize,
    pub(crate) network: ArcSwap<Network>,
    pub(crate) workloads: ArcSwap<HashMap<Ipv4Addr, Arc<Workload>>>,
    /// Connections being served, and more than which none is accepted.
    pub(crate) connections: AtomicUsize,
    pub(crate) supervisor: Option<Supervisor>,
}

/// The program's side of the control channel, for sending.
pub(crate) struct Supervisor {
    channel: Mutex<UnixStream>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Answer, String>>>>,
}

impl Supervisor {
    pub(crate) fn new(channel: UnixStream) -> Self {
        Supervisor {
            channel: Mutex::new(channel),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
        }
    }

    /// Sends; if that fails the supervisor is gone, and so will this process be in a moment.
    pub(crate) fn send(&self, message: &FromProgram) {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = wire::send(&channel, message, &[]);
    }

    pub(crate) fn answered(&self, id: u64, result: Result<Answer, String>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiter) = waiting.remove(&id) {
            let _ = waiter.send(result);
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer, String> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        self.send(&FromProgram::Request { id, request });
        receiver.await.unwrap_or_else(|_| Err("the supervisor is gone".to_owned()))
    }
}

/// Said when the supervisor answers another question than was asked.
const OTHER_ANSWER: &str = "the supervisor gave another answer than asked for";

impl Context {
    /// The state directory: keys, channels, state that survives a restart.
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// The program's network, for dialling and for translating addresses.
    pub fn network(&self) -> Network {
        Network::clone(&self.0.network.load())
    }

    /// Which network that is; none for a program beside the networks.
    pub fn network_id(&self) -> Option<&NetworkId> {
        self.0.network_id.as_ref()
    }

    /// The path of another program's Unix socket.
    pub fn channel(&self, name: &str) -> PathBuf {
        wire::channel_path(&self.0.state_dir, name)
    }

    /// How many worker threads there are.
    pub fn workers(&self) -> usize {
        self.0.workers
    }

    /// The workload at this address of the network.
    pub fn workload(&self, address: Ipv4Addr) -> Option<Arc<Workload>> {
        self.0.workloads.load().get(&address).cloned()
    }

    /// Makes a Cloud Run instance, in which nothing runs yet.
    ///
    /// # Errors
    /// A sentence. A program started by hand has nobody who could make one.
    pub async fn spawn(&self, instance: SpawnInstance) -> Result<SpawnedInstance, String> {
        match self.supervisor()?.ask(Request::Spawn(Box::new(instance))).await? {
            Answer::Spawned(instance) => Ok(instance),
            _ => Err(OTHER_ANSWER.to_owned()),
        }
    }

    /// Starts a container of an instance. Its end comes as `Notice::ContainerExited`.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(&self, container: StartContainer) -> Result<StartedContainer, String> {
        match self.supervisor()?.ask(Request::Start(Box::new(container))).await? {
            Answer::Started(container) => Ok(container),
            _ => Err(OTHER_ANSWER.to_owned()),
        }
    }

    /// Writes the files of an instance's volume again.
    ///
    /// # Errors
    /// A sentence.
    pub async fn write_files(
        &self,
        instance: u64,
        volume: String,
        files: Vec<VolumeFile>,
    ) -> Result<(), String> {
        let request = Request::WriteFiles { instance, volume, files };
        self.supervisor()?.ask(request).await.map(|_| ())
    }

    /// Stops an instance: SIGTERM to its containers, and SIGKILL after the grace. Returns once it
    /// is asked for; each container's end comes as `Notice::ContainerExited`.
    pub async fn stop(&self, instance: u64, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        if let Ok(supervisor) = self.supervisor() {
            let _ = supervisor.ask(Request::Stop { instance, grace_ms }).await;
        }
    }

    /// Tells the supervisor something that `status` shows. Nothing happens in a program started
    /// by hand.
    pub fn report(&self, report: Report) {
        if let Some(supervisor) = &self.0.supervisor {
            supervisor.send(&FromProgram::Report(report));
        }
    }

    fn supervisor(&self) -> Result<&Supervisor, String> {
        self.0.supervisor.as_ref().ok_or_else(|| {
            "started by hand: only `postern up` starts instances; use `images: {url: …}`".to_owned()
        })
    }

    pub(crate) fn set_workloads(&self, workloads: &[Workload]) {
        let by_address =
            workloads.iter().map(|workload| (workload.address, Arc::new(workload.clone())));
        self.0.workloads.store(Arc::new(by_address.collect()));
    }
}

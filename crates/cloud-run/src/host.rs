//! Who makes instances and starts and stops their containers: the supervisor, over the control
//! channel.

use runtime::Context;
use slice::{
    ContainerExit, SpawnInstance, SpawnedInstance, StartContainer, StartedContainer, VolumeFile,
};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::mpsc;

/// A future of a call to the host; started on the first worker only.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs instances. One in production, another under test.
pub trait Host: Send + Sync {
    /// Makes an instance, in which nothing runs yet.
    fn spawn(&self, instance: SpawnInstance) -> Pending<'_, Result<SpawnedInstance, String>>;

    /// Starts a container in it; its end is told by [`Exits::exited`].
    fn start(&self, container: StartContainer) -> Pending<'_, Result<StartedContainer, String>>;

    /// Other contents for the files of an instance's volume.
    fn write_files(
        &self,
        instance: u64,
        volume: String,
        files: Vec<VolumeFile>,
    ) -> Pending<'_, Result<(), String>>;

    /// SIGTERM to all containers, and SIGKILL after the grace; then nothing of it is left.
    fn stop(&self, instance: u64, grace: Duration) -> Pending<'_, ()>;
}

impl Host for Context {
    fn spawn(&self, instance: SpawnInstance) -> Pending<'_, Result<SpawnedInstance, String>> {
        Box::pin(Context::spawn(self, instance))
    }

    fn start(&self, container: StartContainer) -> Pending<'_, Result<StartedContainer, String>> {
        Box::pin(Context::start(self, container))
    }

    fn write_files(
        &self,
        instance: u64,
        volume: String,
        files: Vec<VolumeFile>,
    ) -> Pending<'_, Result<(), String>> {
        Box::pin(Context::write_files(self, instance, volume, files))
    }

    fn stop(&self, instance: u64, grace: Duration) -> Pending<'_, ()> {
        Box::pin(Context::stop(self, instance, grace))
    }
}

/// Ends of containers, on their way to whoever watches over the instance. Containers are started
/// after the instance was made, so whoever watches from then on misses none.
#[derive(Debug, Default)]
pub struct Exits {
    /// As many messages at most as the instance has containers.
    waiting: HashMap<u64, mpsc::UnboundedSender<ContainerExit>>,
}

impl Exits {
    /// The ends of this instance's containers, as they come; until [`Exits::forget`].
    pub fn watch(&mut self, instance: u64) -> mpsc::UnboundedReceiver<ContainerExit> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.waiting.insert(instance, sender);
        receiver
    }

    /// Nobody watches this instance any more.
    pub fn forget(&mut self, instance: u64) {
        self.waiting.remove(&instance);
    }

    /// A container has ended.
    pub fn exited(&mut self, exit: ContainerExit) {
        if let Some(watcher) = self.waiting.get(&exit.instance) {
            // Whoever does not listen any more is about to forget.
            let _ = watcher.send(exit);
        }
    }
}

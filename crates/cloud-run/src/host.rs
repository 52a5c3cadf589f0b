//! Who starts and stops the processes of instances: the supervisor, over the control channel.

use runtime::Context;
use slice::{SpawnInstance, SpawnedInstance};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::oneshot;

/// A future of a call to the host; started on the first worker only.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Starts and stops processes. One in production, another under test.
pub trait Host: Send + Sync {
    /// Starts a process; its end is told by [`Exits::exited`].
    fn spawn(&self, instance: SpawnInstance) -> Pending<'_, Result<SpawnedInstance, String>>;

    /// SIGTERM, and SIGKILL after the grace.
    fn stop(&self, instance: u64, grace: Duration) -> Pending<'_, ()>;
}

impl Host for Context {
    fn spawn(&self, instance: SpawnInstance) -> Pending<'_, Result<SpawnedInstance, String>> {
        Box::pin(Context::spawn(self, instance))
    }

    fn stop(&self, instance: u64, grace: Duration) -> Pending<'_, ()> {
        Box::pin(Context::stop(self, instance, grace))
    }
}

/// Ends of processes, on their way to whoever watches over the instance. The end may be told
/// before the answer that names the process is read, so early ones are remembered for a while.
#[derive(Debug, Default)]
pub struct Exits {
    waiting: HashMap<u64, oneshot::Sender<i32>>,
    early: VecDeque<(u64, i32)>,
}

/// More ends than this are never on their way at once.
const EARLY_MAX: usize = 1024;

impl Exits {
    /// The end of this process, when it comes.
    pub fn watch(&mut self, instance: u64) -> oneshot::Receiver<i32> {
        let (sender, receiver) = oneshot::channel();
        match self.early.iter().position(|(early, _)| *early == instance) {
            Some(index) => {
                if let Some((_, status)) = self.early.remove(index) {
                    let _ = sender.send(status);
                }
            }
            None => {
                self.waiting.insert(instance, sender);
            }
        }
        receiver
    }

    /// A process has ended.
    pub fn exited(&mut self, instance: u64, status: i32) {
        match self.waiting.remove(&instance) {
            // Nobody may be interested any more.
            Some(watcher) => drop(watcher.send(status)),
            None => {
                if self.early.len() == EARLY_MAX {
                    self.early.pop_front();
                }
                self.early.push_back((instance, status));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_told_too_early_is_remembered() {
        let mut exits = Exits::default();
        exits.exited(7, 3);
        assert_eq!(exits.watch(7).try_recv(), Ok(3));
        let mut watched = exits.watch(8);
        assert!(watched.try_recv().is_err());
        exits.exited(8, 137);
        assert_eq!(watched.try_recv(), Ok(137));
    }
}

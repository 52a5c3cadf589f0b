//! HTTP/2 over hyper, in the shape that handlers and pools see.

mod client;
mod server;

pub(crate) use client::{Client, Sender};
pub(crate) use server::serve;

use std::future::Future;

/// Spawns on the local set.
#[derive(Clone)]
pub(crate) struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Counts what runs on a connection, and since when nothing does.
#[derive(Default)]
pub(crate) struct Running {
    count: std::cell::Cell<usize>,
    idle_since: std::cell::Cell<Option<tokio::time::Instant>>,
}

impl Running {
    pub(crate) fn count(&self) -> usize {
        self.count.get()
    }

    /// None while something runs.
    pub(crate) fn idle_since(&self) -> Option<tokio::time::Instant> {
        self.idle_since.get()
    }
}

/// One exchange that runs.
pub(crate) struct OneRunning(std::rc::Rc<Running>);

impl OneRunning {
    pub(crate) fn new(running: &std::rc::Rc<Running>) -> Self {
        running.count.set(running.count.get() + 1);
        running.idle_since.set(None);
        OneRunning(running.clone())
    }
}

impl Drop for OneRunning {
    fn drop(&mut self) {
        let rest = self.0.count.get() - 1;
        self.0.count.set(rest);
        if rest == 0 {
            self.0.idle_since.set(Some(tokio::time::Instant::now()));
        }
    }
}

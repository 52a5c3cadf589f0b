//! The deadline of one request.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// The deadline of one request: it begins to run when the request has been sent (2.6). Before that
/// it runs while the backend takes nothing of what the client has sent.
pub struct Clock {
    timeout: Duration,
    began: Cell<Option<Instant>>,
    /// Since when the client waits for the backend; none while it is the other way round.
    held_up: Cell<Option<Instant>>,
    sleep: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Who waits for the beginning.
    waiter: RefCell<Option<Waker>>,
}

impl Clock {
    /// For a request whose sending has ended at `began`, if it has.
    pub fn new(timeout: Duration, began: Option<Instant>) -> Self {
        Clock {
            timeout,
            began: Cell::new(began),
            held_up: Cell::new(began.is_none().then(Instant::now)),
            sleep: RefCell::default(),
            waiter: RefCell::default(),
        }
    }

    /// The request has been sent.
    pub fn begin(&self) {
        if self.began.get().is_none() {
            self.began.set(Some(Instant::now()));
            if let Some(waiter) = self.waiter.take() {
                waiter.wake();
            }
        }
    }

    fn deadline(&self) -> Instant {
        let since = self.began.get().or(self.held_up.get());
        since.unwrap_or_else(Instant::now) + self.timeout
    }

    /// Has the deadline come?
    pub fn is_over(&self) -> bool {
        self.deadline() <= Instant::now()
    }

    /// Ready when the deadline has come.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.began.get().is_none() {
            self.waiter.replace(Some(cx.waker().clone()));
        }
        let deadline = self.deadline();
        let mut sleep = self.sleep.borrow_mut();
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        // Moved only to an earlier time; a later one is seen when it runs down.
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl Clock {
    /// The client waits for the backend, or the other way round.
    pub fn held_up(&self, held_up: bool) {
        self.held_up.set(held_up.then(Instant::now));
    }

    /// Waits for something else; none: the deadline came first.
    pub async fn or<T>(&self, other: impl Future<Output = T>) -> Option<T> {
        let mut other = pin!(other);
        poll_fn(|cx| match other.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(cx).map(|()| None),
        })
        .await
    }

    /// When the request had been sent.
    pub fn began(&self) -> Option<Instant> {
        self.began.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_runs_while_the_backend_takes_nothing_and_not_while_the_client_sends_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let clock = Clock::new(Duration::from_millis(20), None);
            poll_fn(|cx| clock.poll(cx)).await; // nobody has asked for the body
            assert!(clock.is_over());
            clock.held_up(false); // asked for, and the client has sent nothing
            assert!(!clock.is_over());
            assert!(poll_fn(|cx| Poll::Ready(clock.poll(cx))).await.is_pending());
            clock.held_up(true); // a piece was taken, and no other
            poll_fn(|cx| clock.poll(cx)).await;
            clock.begin();
            poll_fn(|cx| clock.poll(cx)).await;
        });
    }
}

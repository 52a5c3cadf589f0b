//! A handle that ends connections from outside.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// Ends connections from outside, all that carry under the same handle at once; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cut: AtomicBool,
    members: Mutex<Members>,
}

/// The tasks that carry, each at a place of its own.
#[derive(Debug, Default)]
struct Members {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Cut {
    /// Ends every connection that carries under this handle, now and later.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::Release);
        self.members().wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// Has [`Cut::cut`] been called?
    pub fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Acquire)
    }

    /// Waits for [`Cut::cut`].
    pub async fn wait(&self) {
        let mut member = Member::new(self);
        poll_fn(|cx| {
            member.join(cx.waker());
            if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// How many connections carry under this handle.
    pub fn carrying(&self) -> usize {
        let members = self.members();
        members.wakers.len() - members.free.len()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in a [`Cut`], given back on drop.
pub(crate) struct Member<'a> {
    cut: &'a Cut,
    place: Option<(usize, Waker)>,
}

impl<'a> Member<'a> {
    pub(crate) fn new(cut: &'a Cut) -> Self {
        Member { cut, place: None }
    }

    /// Lets `waker` be woken by the cut; true if it was not known yet.
    pub(crate) fn join(&mut self, waker: &Waker) -> bool {
        if self.place.as_ref().is_some_and(|(_, known)| known.will_wake(waker)) {
            return false;
        }
        let mut members = self.cut.members();
        let place = match self.place {
            Some((place, _)) => place,
            None => members.free.pop().unwrap_or(members.wakers.len()),
        };
        if place == members.wakers.len() {
            members.wakers.push(None);
        }
        members.wakers[place] = Some(waker.clone());
        self.place = Some((place, waker.clone()));
        true
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        if let Some((place, _)) = self.place {
            let mut members = self.cut.members();
            members.wakers[place] = None;
            members.free.push(place);
        }
    }
}

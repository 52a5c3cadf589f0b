//! What the TCP connections and UDP mappings of one PSC connection have in common: who ends them,
//! and how many there are.

use net::splice::Cut;
use psc::Admission;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Ends the connections of one PSC connection, and counts them; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Cuts {
    /// Of clients in the endpoint's region.
    near: Cut,
    /// Of clients elsewhere: cut when `allowPscGlobalAccess` is turned off.
    far: Cut,
    /// TCP connections in progress, those whose target is still being dialled included.
    pub(crate) tcp: Loads,
    /// UDP mappings in progress.
    pub(crate) udp: Loads,
}

impl Cuts {
    /// The handle of a client in the endpoint's region, or elsewhere.
    pub(crate) fn of(&self, far: bool) -> &Cut {
        if far { &self.far } else { &self.near }
    }

    /// Ends all.
    pub(crate) fn cut(&self) {
        self.near.cut();
        self.far.cut();
    }

    /// Ends those of clients outside the endpoint's region.
    pub(crate) fn cut_far(&self) {
        self.far.cut();
    }

    /// For the next generation. A handle that was used stays used: what comes later gets a new one.
    pub(crate) fn next(&self) -> Cuts {
        let fresh = |cut: &Cut| if cut.is_cut() { Cut::default() } else { cut.clone() };
        Cuts {
            near: fresh(&self.near),
            far: fresh(&self.far),
            tcp: self.tcp.clone(),
            udp: self.udp.clone(),
        }
    }
}

/// Connections or mappings of one PSC connection by NAT address, counted over all threads.
#[derive(Clone, Default)]
pub(crate) struct Loads(Arc<Mutex<HashMap<Ipv4Addr, usize>>>);

/// One of them, given back on drop.
pub(crate) struct Load(Loads, Ipv4Addr);

impl Loads {
    fn lock(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, address: Ipv4Addr) -> usize {
        self.lock().get(&address).copied().unwrap_or_default()
    }

    /// Decides by the loads, and takes the place that was given. Both at once, so that of two
    /// connections that come together only one can be the last.
    pub(crate) fn admit(
        &self,
        decide: impl FnOnce(&dyn Fn(Ipv4Addr) -> usize) -> Admission,
    ) -> (Admission, Option<Load>) {
        let mut loads = self.lock();
        let open = |address: Ipv4Addr| loads.get(&address).copied().unwrap_or_default();
        let admission = decide(&open);
        let Admission::Admitted { source, .. } = admission else { return (admission, None) };
        *loads.entry(source).or_default() += 1;
        (admission, Some(Load(self.clone(), source)))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut loads = self.0.lock();
        if let Some(count) = loads.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                loads.remove(&self.1);
            }
        }
    }
}

/// Places, counted over all threads.
#[derive(Clone, Default)]
pub(crate) struct Places(Arc<AtomicUsize>);

/// One of them, given back on drop.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    /// Takes a place, and tells how many were taken already.
    pub(crate) fn take(&self) -> (Place, usize) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        (Place(Arc::clone(&self.0)), before)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_counts_from_before_the_dial_to_the_end_and_for_every_holder() {
        let cuts = Cuts::default();
        let later_generation = cuts.clone();
        let source = Ipv4Addr::new(10, 0, 2, 2);
        let take = |loads: &Loads| {
            let mut seen = 0;
            let (_, load) = loads.admit(|open| {
                seen = open(source);
                Admission::Admitted { source, target: "10.0.0.5:443".parse().expect("an address") }
            });
            (load, seen)
        };
        let (first, none) = take(&cuts.tcp);
        let (second, one) = take(&later_generation.tcp);
        assert_eq!((none, one), (0, 1));
        drop(first);
        let (third, one) = take(&cuts.tcp);
        assert_eq!(one, 1);
        drop(second);
        assert_eq!(take(&later_generation.tcp).1, 1);
        let refused = |_: &dyn Fn(Ipv4Addr) -> usize| Admission::Refused(names::Reason::NoRoute);
        assert!(cuts.tcp.admit(refused).1.is_none(), "a refusal takes no place");
        drop(third);
        assert_eq!(cuts.tcp.of(source), 0);
        assert_eq!(cuts.near.carrying(), 0); // nothing was dialled yet
    }

    #[test]
    fn a_used_handle_is_not_used_again() {
        let cuts = Cuts::default();
        cuts.cut_far();
        let next = cuts.next();
        assert!(cuts.of(true).is_cut() && !next.of(true).is_cut());
        cuts.cut();
        assert!(next.of(false).is_cut(), "the same handle, for it was not used then");
    }
}

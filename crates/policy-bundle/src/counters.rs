//! The counters of Quota and SpikeArrest: they outlive every generation of the configuration, are
//! shared by all workers of the program, and are bounded.

use crate::quota::QuotaState;
use crate::spike_arrest::SpikeArrestState;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Locks are split so that workers seldom meet.
const SHARDS: usize = 16;

/// The most identifiers that one shard remembers.
const ENTRIES_MAX: usize = 8192;

/// All counters of one runtime.
#[derive(Debug, Default)]
pub struct Counters {
    spikes: Shards<SpikeArrestState>,
    quotas: Shards<QuotaState>,
}

impl Counters {
    /// No counts yet.
    pub fn new() -> Counters {
        Counters::default()
    }

    /// Works on one SpikeArrest's state.
    pub(crate) fn spike_arrest<R>(
        &self,
        key: &str,
        now_nanos: u64,
        act: impl FnOnce(&mut SpikeArrestState) -> R,
    ) -> R {
        self.spikes.with(key, |state| state.is_idle(now_nanos), SpikeArrestState::idle_from, act)
    }

    /// Works on one Quota's state.
    pub(crate) fn quota<R>(
        &self,
        key: &str,
        now: i64,
        act: impl FnOnce(&mut QuotaState) -> R,
    ) -> R {
        self.quotas.with(
            key,
            |state| state.idle_from() <= now,
            |state| state.idle_from().max(0) as u64,
            act,
        )
    }
}

#[derive(Debug)]
struct Shards<S> {
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<Box<str>, S>>>,
}

impl<S> Default for Shards<S> {
    fn default() -> Self {
        Shards {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl<S: Default> Shards<S> {
    fn with<R>(
        &self,
        key: &str,
        idle: impl Fn(&S) -> bool,
        idle_from: impl Fn(&S) -> u64,
        act: impl FnOnce(&mut S) -> R,
    ) -> R {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        // A panic elsewhere leaves counts, not broken structure, behind.
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = shard.get_mut(key) {
            return act(state);
        }
        if shard.len() >= ENTRIES_MAX {
            shard.retain(|_, state| !idle(state));
        }
        if shard.len() >= ENTRIES_MAX {
            // Whoever would be forgotten first anyway goes: a quarter at once, so that this stays rare.
            let mut moments: Vec<u64> = shard.values().map(&idle_from).collect();
            let quarter = moments.len() / 4;
            let (_, limit, _) = moments.select_nth_unstable(quarter);
            let limit = *limit;
            let mut room = quarter + 1;
            shard.retain(|_, state| {
                let goes = room > 0 && idle_from(state) <= limit;
                room -= usize::from(goes);
                !goes
            });
        }
        act(shard.entry(key.into()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spike_arrest::Rate;

    #[test]
    fn strangers_cannot_fill_the_memory() {
        let counters = Counters::new();
        let rate = Rate::parse("1pm").expect("a rate");
        for index in 0..SHARDS * ENTRIES_MAX + 50_000 {
            assert!(
                counters.spike_arrest(&format!("id-{index}"), 0, |state| state.admit(0, rate, 1))
            );
        }
        let kept: usize = counters
            .spikes
            .shards
            .iter()
            .map(|shard| shard.lock().map(|shard| shard.len()).unwrap_or_default())
            .sum();
        assert!(kept <= SHARDS * ENTRIES_MAX, "{kept}");
    }

    #[test]
    fn a_key_keeps_its_state() {
        let counters = Counters::new();
        let rate = Rate::parse("1pm").expect("a rate");
        assert!(counters.spike_arrest("a", 0, |state| state.admit(0, rate, 1)));
        assert!(!counters.spike_arrest("a", 1, |state| state.admit(1, rate, 1)));
        assert!(counters.spike_arrest("b", 1, |state| state.admit(1, rate, 1)));
    }
}

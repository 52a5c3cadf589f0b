//! What was counted: windows, and bans, of the keys that were seen.

use crate::compile::Rate;
use foldhash::fast::FixedState;
use slice::load_balancer::RateThreshold;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Shards, so that worker threads seldom wait for each other.
const SHARDS: usize = 16;
/// Keys that are remembered in each shard. A flood of new keys pushes out the oldest ones, but a
/// banned one only after [`SPARED_MAX`] others were looked at.
const KEYS_MAX: usize = 2048;
/// So many bans are spared in a row; behind them the oldest key goes, whatever it is.
const SPARED_MAX: usize = 64;

/// How a request stands to a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateOutcome {
    /// Below the threshold.
    Conform,
    /// Above it.
    Exceed,
    /// Its key is banned.
    Banned,
}

/// One key's count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Requests that passed, of the window of `rateLimitThreshold`.
    passed: Window,
    /// Requests beyond it, of the window of `banThreshold`.
    exceeded: Window,
    banned_until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    since: Duration,
    count: u32,
}

impl Window {
    /// Counts one; were it more than the threshold, it is not counted.
    fn takes(&mut self, threshold: RateThreshold, now: Duration) -> bool {
        let length = Duration::from_secs(threshold.interval_sec.into());
        if self.count == 0 || now >= self.since + length {
            *self = Window { since: now, count: 0 };
        }
        let takes = self.count < threshold.count;
        self.count += u32::from(takes);
        takes
    }
}

impl Count {
    /// Counts one request. A window begins with its first request and is fixed ((unconfirmed): the
    /// product counts approximately, in many places). Requests beyond the rate limit count towards
    /// the ban ("when the number of requests that exceed the rateLimitThreshold also exceed this
    /// banThreshold").
    pub(crate) fn step(&mut self, rate: &Rate, now: Duration) -> RateOutcome {
        // A ban ends with the rule's ban: counts are kept over reloads, and the rule may have changed.
        if rate.ban.is_some() && self.banned_until.is_some_and(|end| now < end) {
            return RateOutcome::Banned;
        }
        if self.banned_until.take().is_some() {
            *self = Count::default();
        }
        if self.passed.takes(rate.limit.threshold, now) {
            return RateOutcome::Conform;
        }
        let Some(ban) = rate.ban else { return RateOutcome::Exceed };
        let goes_on = ban.threshold.is_some_and(|threshold| self.exceeded.takes(threshold, now));
        if goes_on {
            return RateOutcome::Exceed;
        }
        self.banned_until = Some(now + Duration::from_secs(ban.duration_sec.into()));
        RateOutcome::Banned
    }
}

/// The counts of all keys; shared by threads, and kept over reloads.
#[derive(Debug)]
pub struct Limits {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    counts: HashMap<Arc<str>, Count>,
    /// The same keys, the oldest first.
    order: VecDeque<Arc<str>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Limits {
    /// Counts one request of a key.
    pub(crate) fn count(&self, key: &str, rate: &Rate, now: Duration) -> RateOutcome {
        let place = FixedState::default().hash_one(key) as usize % SHARDS;
        let mut shard = self.shards[place].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.counts.get_mut(key) {
            return count.step(rate, now);
        }
        if shard.counts.len() >= KEYS_MAX {
            shard.evict(now);
        }
        let mut count = Count::default();
        let outcome = count.step(rate, now);
        let key: Arc<str> = key.into();
        shard.order.push_back(key.clone());
        shard.counts.insert(key, count);
        outcome
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).counts.len()).sum()
    }

    /// Is none remembered?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most so many keys are remembered.
    pub const MAX: usize = SHARDS * KEYS_MAX;
}

impl Shard {
    fn evict(&mut self, now: Duration) {
        for spared in 0.. {
            let Some(oldest) = self.order.pop_front() else { return };
            let banned = self.counts.get(&oldest).and_then(|count| count.banned_until);
            if banned.is_some_and(|end| now < end) && spared < SPARED_MAX {
                self.order.push_back(oldest);
                continue;
            }
            self.counts.remove(&oldest);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slice::load_balancer::{Ban, ExceedAction, RateKey, RateLimit};

    fn rate(count: u32, ban: Option<Ban>) -> Rate {
        let threshold = RateThreshold { count, interval_sec: 10 };
        let limit =
            RateLimit { threshold, exceed: ExceedAction::Deny(429), keys: vec![RateKey::Ip] };
        Rate { limit, ban }
    }

    fn run(rate: &Rate, times: &[u64]) -> String {
        let mut count = Count::default();
        let one = |at: &u64| match count.step(rate, Duration::from_millis(*at)) {
            RateOutcome::Conform => 'c',
            RateOutcome::Exceed => 'x',
            RateOutcome::Banned => 'b',
        };
        times.iter().map(one).collect()
    }

    #[test]
    fn a_window_takes_its_count_and_begins_anew() {
        assert_eq!(run(&rate(2, None), &[0, 1, 2, 9_999, 10_000, 10_001, 10_002]), "ccxxccx");
        // A window begins with its first request, wherever that is.
        assert_eq!(run(&rate(1, None), &[7_000, 16_999, 17_000]), "cxc");
    }

    #[test]
    fn whoever_exceeds_is_banned_at_once_without_a_ban_threshold() {
        let ban = Ban { threshold: None, duration_sec: 60 };
        let rate = rate(2, Some(ban));
        assert_eq!(run(&rate, &[0, 1, 2, 30_000, 60_001, 60_002, 60_003, 60_004]), "ccbbbccb");
    }

    #[test]
    fn a_ban_threshold_counts_what_exceeds() {
        let threshold = Some(RateThreshold { count: 2, interval_sec: 60 });
        let rate = rate(1, Some(Ban { threshold, duration_sec: 30 }));
        assert_eq!(run(&rate, &[0, 1, 2, 3, 4, 30_002, 30_003, 30_004]), "cxxbbbcx");
        // Its window is its own: the first exceeding request falls out of it after 60 s.
        assert_eq!(run(&rate, &[0, 1, 10_000, 10_001, 61_000, 61_001, 61_002]), "cxcxcxx");
    }

    #[test]
    fn keys_are_bounded_and_bans_are_spared() {
        let limits = Limits::default();
        let ban = rate(1, Some(Ban { threshold: None, duration_sec: 3600 }));
        let now = Duration::from_secs(1);
        for n in 0..SPARED_MAX / 2 {
            limits.count(&format!("bad{n}"), &ban, now);
            assert_eq!(limits.count(&format!("bad{n}"), &ban, now), RateOutcome::Banned);
        }
        for n in 0..2 * Limits::MAX {
            limits.count(&format!("new{n}"), &ban, now);
        }
        assert_eq!(limits.len(), Limits::MAX);
        for n in 0..SPARED_MAX / 2 {
            assert_eq!(limits.count(&format!("bad{n}"), &ban, now), RateOutcome::Banned);
        }
        for shard in &limits.shards {
            let shard = shard.lock().expect("no panic");
            assert_eq!(shard.order.len(), shard.counts.len());
        }
    }
}

//! Requests per second, over about the last second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts in the present second and in the one before, without a lock; each with the second that
/// it belongs to.
#[derive(Debug, Default)]
pub struct Meter([AtomicU64; 2]);

impl Meter {
    /// One more. `now` is the time on the caller's clock.
    pub fn count(&self, now: Duration) {
        let second = now.as_secs() + 1; // 0 is nobody's
        let slot = &self.0[(second & 1) as usize];
        let more = |held: u64| match held >> 32 == second & 0xffff_ffff {
            true => Some(held + 1),
            false => Some(second << 32 | 1),
        };
        let _ = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// How many in the second up to now: what the second before had counts for the part of it that
    /// is not over yet.
    pub fn rate(&self, now: Duration) -> f64 {
        let second = now.as_secs() + 1;
        let of = |second: u64| {
            let held = self.0[(second & 1) as usize].load(Ordering::Relaxed);
            let counts = held >> 32 == second & 0xffff_ffff;
            if counts { (held & 0xffff_ffff) as f64 } else { 0.0 }
        };
        let gone = f64::from(now.subsec_nanos()) / 1e9;
        of(second) + of(second - 1) * (1.0 - gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_second() {
        let meter = Meter::default();
        let at = Duration::from_millis;
        assert_eq!(meter.rate(at(0)), 0.0);
        (0..100).for_each(|n| meter.count(at(10 * n)));
        for (now, rate) in [(999, 100.0), (1000, 100.0), (1500, 50.0), (1900, 10.0), (2000, 0.0)] {
            assert!((meter.rate(at(now)) - rate).abs() < 0.5, "{now}: {}", meter.rate(at(now)));
        }
        meter.count(at(1500));
        assert!((meter.rate(at(1500)) - 51.0).abs() < 0.5);
        meter.count(at(9000));
        assert_eq!(meter.rate(at(9000)), 1.0);
    }
}

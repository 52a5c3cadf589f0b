//! Endpoints that answer badly are left alone for some time (2.10 `outlierDetection`; where the
//! facts say nothing, as Envoy does it).

use crate::hash::{below, mix};
use slice::load_balancer::OutlierDetection;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// No ejection is longer, unless the base is (Envoy: `max_ejection_time`).
const EJECTION_MAX: Duration = Duration::from_secs(300);
/// Stands for an endpoint that is not ejected.
const NEVER: u64 = u64::MAX;

/// What an endpoint did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Status(u16),
    /// The client broke its request off, which says nothing of the endpoint.
    Withdrawn,
    /// The connection did not come about, or was reset before an answer, or there was none in time;
    /// counts as a gateway failure.
    Unanswered,
}

/// What is known of one endpoint. Threads share it without a lock.
#[derive(Debug)]
pub struct Conduct {
    errors: AtomicU32,
    gateway_failures: AtomicU32,
    /// Of the present interval.
    requests: AtomicU32,
    successes: AtomicU32,
    /// Milliseconds on the caller's clock, or [`NEVER`].
    ejected_at: AtomicU64,
    /// How often of late: it makes the next ejection longer.
    ejections: AtomicU32,
}

impl Default for Conduct {
    fn default() -> Self {
        Conduct {
            errors: AtomicU32::new(0),
            gateway_failures: AtomicU32::new(0),
            requests: AtomicU32::new(0),
            successes: AtomicU32::new(0),
            ejected_at: AtomicU64::new(NEVER),
            ejections: AtomicU32::new(0),
        }
    }
}

impl Conduct {
    /// Is it ejected?
    pub fn is_ejected(&self) -> bool {
        self.ejected_at.load(Ordering::Acquire) != NEVER
    }

    /// Counts an outcome. True: too much in a row, so it is to be ejected if [`may_eject`].
    pub fn record(&self, outcome: Outcome, policy: &OutlierDetection, roll: u64) -> bool {
        let (error, gateway) = match outcome {
            Outcome::Status(status) => (status >= 500, matches!(status, 502..=504)),
            Outcome::Unanswered => (true, true),
            Outcome::Withdrawn => return false,
        };
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !error {
            self.successes.fetch_add(1, Ordering::Relaxed);
        }
        let is_too_many = |counter: &AtomicU32, counts: bool, limit: u32| {
            if !counts {
                counter.store(0, Ordering::Relaxed);
                return false;
            }
            // Counted from 0 again also where it is not enforced.
            let reached = counter.fetch_add(1, Ordering::Relaxed) + 1 >= limit.max(1);
            if reached {
                counter.store(0, Ordering::Relaxed);
            }
            reached
        };
        let errors = is_too_many(&self.errors, error, policy.consecutive_errors)
            && enforced(policy.enforcing_consecutive_errors, roll);
        let failures =
            is_too_many(&self.gateway_failures, gateway, policy.consecutive_gateway_failure)
                && enforced(policy.enforcing_consecutive_gateway_failure, roll);
        errors || failures
    }

    /// Ejects it.
    pub fn eject(&self, now: Duration) {
        if !self.is_ejected() {
            self.ejections.fetch_add(1, Ordering::Relaxed);
            self.ejected_at.store(millis(now), Ordering::Release);
        }
    }

    /// Takes it back when its time is over; true if so.
    fn take_back(&self, policy: &OutlierDetection, now: Duration) -> bool {
        let at = self.ejected_at.load(Ordering::Acquire);
        let ejections = self.ejections.load(Ordering::Relaxed);
        if at == NEVER {
            self.ejections.store(ejections.saturating_sub(1), Ordering::Relaxed);
            return false;
        }
        let base = policy.base_ejection_time;
        let length = base.saturating_mul(ejections).min(EJECTION_MAX.max(base));
        let over = millis(now) >= at.saturating_add(millis(length));
        if over {
            self.errors.store(0, Ordering::Relaxed);
            self.gateway_failures.store(0, Ordering::Relaxed);
            self.ejected_at.store(NEVER, Ordering::Release);
        }
        over
    }
}

/// May one more of these be ejected (`maxEjectionPercent`)?
pub fn may_eject<'a>(policy: &OutlierDetection, all: impl Iterator<Item = &'a Conduct>) -> bool {
    let (ejected, all) = all.fold((0, 0), |(ejected, all), conduct| {
        (ejected + u32::from(conduct.is_ejected()), all + 1)
    });
    (ejected + 1) * 100 <= policy.max_ejection_percent * all
}

/// The look once an interval: who has sat it out comes back, and whose success rate falls too far
/// below the mean goes. True if anything changed.
pub fn sweep(policy: &OutlierDetection, all: &[&Conduct], now: Duration, roll: u64) -> bool {
    let mut changed = false;
    for conduct in all {
        changed |= conduct.take_back(policy, now);
    }
    let rates: Vec<_> = all
        .iter()
        .map(|conduct| {
            let requests = conduct.requests.swap(0, Ordering::Relaxed);
            let successes = conduct.successes.swap(0, Ordering::Relaxed);
            let enough = requests >= policy.success_rate_request_volume.max(1);
            enough.then(|| 100.0 * f64::from(successes.min(requests)) / f64::from(requests))
        })
        .collect();
    let known: Vec<f64> = rates.iter().copied().flatten().collect();
    if known.is_empty() || known.len() < policy.success_rate_minimum_hosts as usize {
        return changed;
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let variance = known.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / known.len() as f64;
    let least = mean - variance.sqrt() * f64::from(policy.success_rate_stdev_factor) / 1000.0;
    for (number, (conduct, rate)) in all.iter().zip(rates).enumerate() {
        let bad = rate.is_some_and(|rate| rate < least) && !conduct.is_ejected();
        if bad
            && enforced(policy.enforcing_success_rate, mix(roll ^ number as u64))
            && may_eject(policy, all.iter().copied())
        {
            conduct.eject(now);
            changed = true;
        }
    }
    changed
}

fn enforced(percent: u32, roll: u64) -> bool {
    below(mix(roll), 100) < percent as usize
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(NEVER - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> OutlierDetection {
        OutlierDetection {
            consecutive_errors: 5,
            consecutive_gateway_failure: 3,
            enforcing_consecutive_errors: 0,
            enforcing_consecutive_gateway_failure: 100,
            enforcing_success_rate: 100,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            interval: Duration::from_secs(1),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 50,
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn after(outcomes: &[Outcome], policy: &OutlierDetection) -> bool {
        let conduct = Conduct::default();
        outcomes.iter().fold(false, |_, outcome| conduct.record(*outcome, policy, 7))
    }

    #[test]
    fn what_comes_in_a_row_counts() {
        let (ok, error, gateway) =
            (Outcome::Status(200), Outcome::Status(500), Outcome::Status(503));
        let default = policy();
        let enforced = OutlierDetection { enforcing_consecutive_errors: 100, ..policy() };
        let lax = OutlierDetection { enforcing_consecutive_gateway_failure: 0, ..policy() };
        for (outcomes, policy, ejected) in [
            (&[gateway, gateway, gateway][..], &default, true),
            (&[gateway, gateway, gateway], &lax, false),
            (&[gateway, Outcome::Unanswered, Outcome::Status(504)], &default, true),
            (&[gateway, gateway, ok, gateway], &default, false),
            (&[gateway, gateway, error, gateway], &default, false),
            (&[gateway, gateway, Outcome::Withdrawn, gateway], &default, true),
            (&[error, error, error, error, error], &default, false),
            (&[error, error, error, error, error], &enforced, true),
            (&[error, error, error, error, ok, error], &enforced, false),
        ] {
            assert_eq!(after(outcomes, policy), ejected, "{outcomes:?}");
        }
    }

    #[test]
    fn each_ejection_is_longer_until_it_behaves() {
        let policy = policy();
        let conduct = Conduct::default();
        let mut now = SECOND;
        for length in [30, 60, 90] {
            conduct.eject(now);
            assert!(!sweep(&policy, &[&conduct], now + SECOND * (length - 1), 0));
            assert!(conduct.is_ejected());
            now += SECOND * length;
            assert!(sweep(&policy, &[&conduct], now, 0));
            assert!(!conduct.is_ejected());
        }
        for _ in 0..3 {
            assert!(!sweep(&policy, &[&conduct], now, 0)); // an interval without ejection
        }
        conduct.eject(now);
        assert!(sweep(&policy, &[&conduct], now + SECOND * 30, 0), "as the first time");
        for _ in 0..100 {
            conduct.eject(now);
            conduct.ejected_at.store(NEVER, Ordering::Relaxed);
        }
        conduct.eject(now);
        assert!(sweep(&policy, &[&conduct], now + EJECTION_MAX, 0), "there is a longest");
    }

    #[test]
    fn no_more_than_the_percentage_is_ejected() {
        for (percent, all, expected) in
            [(50, 4, 2), (50, 3, 1), (50, 1, 0), (100, 3, 3), (10, 9, 0)]
        {
            let policy = OutlierDetection { max_ejection_percent: percent, ..policy() };
            let conducts: Vec<_> = (0..all).map(|_| Conduct::default()).collect();
            for conduct in &conducts {
                if may_eject(&policy, conducts.iter()) {
                    conduct.eject(SECOND);
                }
            }
            let ejected = conducts.iter().filter(|conduct| conduct.is_ejected()).count();
            assert_eq!(ejected, expected, "{percent} % of {all}");
        }
    }

    #[test]
    fn a_success_rate_far_below_the_mean_is_ejected() {
        let conducts: Vec<_> = (0..5).map(|_| Conduct::default()).collect();
        let all: Vec<_> = conducts.iter().collect();
        let serve = |bad: u32, requests: u32| {
            for (number, conduct) in all.iter().enumerate() {
                for n in 0..requests {
                    let fails = number == 2 && n % 100 < bad;
                    conduct.record(Outcome::Status(if fails { 500 } else { 200 }), &policy(), 0);
                }
            }
        };
        serve(60, 99);
        assert!(!sweep(&policy(), &all, SECOND, 0), "too few requests");
        serve(60, 100);
        assert!(sweep(&policy(), &all, SECOND, 0));
        let ejected: Vec<_> = conducts.iter().map(Conduct::is_ejected).collect();
        assert_eq!(ejected, [false, false, true, false, false]);
        serve(0, 100);
        assert!(!sweep(&policy(), &all, SECOND, 0), "all alike");
    }
}

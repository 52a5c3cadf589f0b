//! How many instances a revision should have: a pure function of the time, what is observed and
//! the revision's bounds (cloud-run 2.1).
//!
//! Three signals, of which the largest wins: demand at this moment (a request that finds no free slot
//! starts an instance), and the means of the last minute of concurrency and of CPU, which Cloud Run
//! keeps at 60 % of the maximum. An instance without a request is kept for a while.

use std::time::Duration;

/// The share of its maximum concurrency, and of its CPU, at which an instance is kept (2.1).
pub const UTILISATION: f64 = 0.6;

/// How long an idle instance is kept before it is stopped; Cloud Run says "at most 15 minutes"
/// (1.2).
pub const IDLE_RETENTION: Duration = Duration::from_secs(15 * 60);

/// The bounds of a revision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Fewest instances, started without a request.
    pub instances_min: u32,
    /// Most instances.
    pub instances_max: u32,
    /// Requests at once per instance; at least 1.
    pub concurrency: u32,
    /// How long an instance without a request is kept.
    pub idle_retention: Duration,
    /// The share of the maximum concurrency at which an instance is kept, 0.1 to 0.95; 0: the signal
    /// is off (`concurrencyUtilization`).
    pub concurrency_utilisation: f64,
    /// The same of an instance's CPU (`cpuUtilization`).
    pub cpu_utilisation: f64,
    /// CPUs that one instance may use.
    pub cpus: f64,
}

impl Spec {
    /// No instance is needed, 100 may be; the rest as Cloud Run has it by default.
    pub const DEFAULT: Spec = Spec {
        instances_min: 0,
        instances_max: 100,
        concurrency: 80,
        idle_retention: IDLE_RETENTION,
        concurrency_utilisation: UTILISATION,
        cpu_utilisation: UTILISATION,
        cpus: 1.0,
    };
}

/// What is seen of a revision at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation<'a> {
    /// Requests that hold a slot.
    pub in_flight: u32,
    /// Requests that wait for a slot.
    pub pending: u32,
    /// Mean of the requests in flight over the last minute.
    pub mean_in_flight: f64,
    /// Mean of the CPUs that all instances together used over the last minute; 0 where nobody
    /// observes it.
    pub mean_cpus: f64,
    /// One entry per instance that may serve or is starting: since when it has been without a
    /// request; none while it is busy or starting.
    pub idle_since: &'a [Option<Duration>],
}

/// The answer, with the signal that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// How many instances there should be.
    pub instances: u32,
    /// Which signal asked for them.
    pub because: Because,
}

/// The signals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Because {
    /// Nothing asks for an instance.
    #[default]
    Nothing,
    /// The fewest instances of the revision, or a manual count.
    InstancesMin,
    /// A new revision must show that it starts.
    Rollout,
    /// Requests in flight and waiting.
    Demand,
    /// Mean concurrency above the target.
    Concurrency,
    /// Mean CPU above the target.
    Cpu,
    /// Instances that have not been idle for long enough.
    Retention,
    /// More would be wanted than the revision may have.
    InstancesMax,
}

impl Because {
    /// The reason of an instance's start, as Cloud Run's system log names it (2.1).
    pub fn start_reason(self) -> &'static str {
        match self {
            Because::InstancesMin => "MANUAL_OR_CUSTOMER_MIN_INSTANCE",
            Because::Rollout => "DEPLOYMENT_ROLLOUT", // (unconfirmed)
            _ => "AUTOSCALING",
        }
    }

    /// What follows it there; the words are (unconfirmed).
    pub fn start_text(self) -> &'static str {
        match self {
            Because::InstancesMin => {
                "Instance started due to the minimum or manual instance count."
            }
            Because::Rollout => "Instance started due to traffic shifting to a new revision.",
            Because::Concurrency | Because::Cpu => "Instance started due to high utilization.",
            _ => "Instance started due to traffic.",
        }
    }
}

/// How many instances there should be at `now`, on the clock of the observation.
pub fn desired(now: Duration, seen: &Observation<'_>, spec: &Spec) -> Desired {
    let concurrency = spec.concurrency.max(1);
    let demand = seen.in_flight.saturating_add(seen.pending).div_ceil(concurrency);
    // A mean outlives the requests that made it. Without any, only retention keeps instances:
    // else a short one would never be shorter than the window of the mean.
    let of_mean = |mean, each, utilisation| match demand {
        0 => 0,
        _ => of_mean(mean, each, utilisation),
    };
    let busy = of_mean(seen.mean_in_flight, f64::from(concurrency), spec.concurrency_utilisation);
    let working = of_mean(seen.mean_cpus, spec.cpus, spec.cpu_utilisation);
    let kept = seen.idle_since.iter().filter(|since| match since {
        None => true,
        Some(since) => now.saturating_sub(*since) < spec.idle_retention,
    });
    let kept = u32::try_from(kept.count()).unwrap_or(u32::MAX);
    // The first of the largest wins: a floor is named before a signal that asks for no more.
    let mut answer = Desired { instances: 0, because: Because::Nothing };
    for (instances, because) in [
        (spec.instances_min, Because::InstancesMin),
        (demand, Because::Demand),
        (busy, Because::Concurrency),
        (working, Because::Cpu),
        (kept, Because::Retention),
    ] {
        if instances > answer.instances {
            answer = Desired { instances, because };
        }
    }
    if answer.instances > spec.instances_max {
        answer = Desired { instances: spec.instances_max, because: Because::InstancesMax };
    }
    answer
}

/// Instances that keep a mean at this share of what one of them takes; a share of 0 asks for none.
fn of_mean(mean: f64, each: f64, utilisation: f64) -> u32 {
    let target = each * utilisation;
    if target > 0.0 { (mean.max(0.0) / target).ceil() as u32 } else { 0 } // `as` saturates
}

/// The time-weighted mean of a level over the last minute, in buckets of one second.
#[derive(Clone, Debug)]
pub struct Meter {
    level: u32,
    /// Up to where the level is already in the buckets.
    counted: Duration,
    /// Level × seconds of each of the last sixty seconds, by second modulo 60.
    buckets: [f64; WINDOW],
}

const WINDOW: usize = 60;

impl Meter {
    /// Level 0 from `now` on.
    pub fn new(now: Duration) -> Self {
        Meter { level: 0, counted: now, buckets: [0.0; WINDOW] }
    }

    /// The level is `level` from `now` on.
    pub fn set(&mut self, now: Duration, level: u32) {
        self.count(now);
        self.level = level;
    }

    /// The mean of the last minute. A younger meter counts as having been at 0 before.
    pub fn mean(&mut self, now: Duration) -> f64 {
        self.count(now);
        self.buckets.iter().sum::<f64>() / WINDOW as f64
    }

    fn count(&mut self, now: Duration) {
        let mut at = self.counted;
        if now.saturating_sub(at) >= Duration::from_secs(WINDOW as u64) {
            self.buckets = [f64::from(self.level); WINDOW];
            self.counted = now;
            return;
        }
        while at < now {
            let second = at.as_secs();
            let end = now.min(Duration::from_secs(second + 1));
            let bucket = &mut self.buckets[(second % WINDOW as u64) as usize];
            if at.subsec_nanos() == 0 {
                *bucket = 0.0; // a new second: what was here is a minute old
            }
            *bucket += f64::from(self.level) * (end - at).as_secs_f64();
            at = end;
        }
        self.counted = self.counted.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const SPEC: Spec = Spec { instances_max: 10, concurrency: 10, ..Spec::DEFAULT };

    #[test]
    fn demand_and_mean_concurrency_ask_for_instances_within_the_bounds() {
        const BUSY: Option<Duration> = None;
        type Row = (&'static str, Spec, (u32, u32, f64), &'static [Option<Duration>], u32, Because);
        const TABLE: &[Row] = &[
            ("nothing is asked for", SPEC, (0, 0, 0.0), &[], 0, Because::Nothing),
            ("only a request starts from zero", SPEC, (0, 1, 0.0), &[], 1, Because::Demand),
            ("one instance takes ten", SPEC, (0, 10, 0.0), &[], 1, Because::Demand),
            ("the eleventh finds no slot", SPEC, (10, 1, 0.2), &[BUSY], 2, Because::Demand),
            ("60 % of the maximum is the target", SPEC, (6, 0, 6.0), &[BUSY], 1, Because::Demand),
            ("above 60 % one more", SPEC, (6, 0, 6.1), &[BUSY], 2, Because::Concurrency),
            (
                "the fewest are there without a request",
                Spec { instances_min: 3, ..SPEC },
                (1, 0, 0.0),
                &[BUSY],
                3,
                Because::InstancesMin,
            ),
            ("never more than the most", SPEC, (0, 500, 0.0), &[], 10, Because::InstancesMax),
            (
                "idle for 899 s: kept",
                SPEC,
                (0, 0, 0.0),
                &[Some(s(101)), Some(s(100))],
                1,
                Because::Retention,
            ),
            ("a mean alone keeps nothing", SPEC, (0, 0, 9.0), &[Some(s(100))], 0, Because::Nothing),
            ("idle for 900 s: gone", SPEC, (0, 0, 0.0), &[Some(s(100))], 0, Because::Nothing),
            (
                "a lowered maximum does not wait for idleness",
                Spec { instances_max: 1, ..SPEC },
                (0, 0, 0.0),
                &[BUSY, BUSY, BUSY],
                1,
                Because::InstancesMax,
            ),
        ];
        for (rule, spec, (in_flight, pending, mean_in_flight), idle_since, instances, because) in
            TABLE
        {
            let seen = Observation {
                in_flight: *in_flight,
                pending: *pending,
                mean_in_flight: *mean_in_flight,
                mean_cpus: 0.0,
                idle_since,
            };
            let expected = Desired { instances: *instances, because: *because };
            assert_eq!(desired(s(1000), &seen, spec), expected, "{rule}");
        }
    }

    #[test]
    fn the_signals_of_the_last_minute_can_be_tuned_and_switched_off() {
        let spec = |concurrency_utilisation, cpu_utilisation| Spec {
            concurrency_utilisation,
            cpu_utilisation,
            cpus: 2.0,
            ..SPEC
        };
        let seen = |mean_in_flight, mean_cpus| Observation {
            in_flight: 1,
            pending: 0,
            mean_in_flight,
            mean_cpus,
            idle_since: &[None],
        };
        type Row = (&'static str, Spec, (f64, f64), u32, Because);
        let table: &[Row] = &[
            ("60 % of two CPUs", spec(0.6, 0.6), (1.0, 1.2), 1, Because::Demand),
            ("above it one more", spec(0.6, 0.6), (1.0, 1.3), 2, Because::Cpu),
            ("a lower target", spec(0.6, 0.1), (1.0, 1.3), 7, Because::Cpu),
            ("the larger need wins", spec(0.1, 0.6), (3.5, 1.3), 4, Because::Concurrency),
            ("CPU switched off", spec(0.6, 0.0), (1.0, 9.0), 1, Because::Demand),
            ("concurrency switched off", spec(0.0, 0.6), (90.0, 0.0), 1, Because::Demand),
        ];
        for (rule, spec, (mean_in_flight, mean_cpus), instances, because) in table {
            let answer = desired(s(1000), &seen(*mean_in_flight, *mean_cpus), spec);
            assert_eq!((answer.instances, answer.because), (*instances, *because), "{rule}");
        }
    }

    #[test]
    fn the_mean_is_that_of_the_last_minute() {
        let mut meter = Meter::new(s(5));
        assert_eq!(meter.mean(s(5)), 0.0);
        meter.set(s(10), 6);
        assert!((meter.mean(s(20)) - 1.0).abs() < 1e-9, "ten seconds of six are one in the mean");
        meter.set(s(20), 0);
        assert!((meter.mean(s(69)) - 1.0).abs() < 1e-9);
        assert!((meter.mean(s(75)) - 0.5).abs() < 0.11, "the first half has left the window");
        assert_eq!(meter.mean(s(3600)), 0.0);
        meter.set(s(3600), 7);
        assert_eq!(meter.mean(s(9000)), 7.0, "a long silence is counted in one step");
    }

    proptest! {
        #[test]
        fn desired_instances_stay_within_the_bounds(
            min in 0u32..20, more in 0u32..20, concurrency in 0u32..1000,
            in_flight in 0u32..5000, pending in 0u32..5000, mean in 0.0f64..5000.0,
            idle in proptest::collection::vec(proptest::option::of(0u64..2000), 0..30),
        ) {
            let spec = Spec { instances_min: min, instances_max: min + more, concurrency,
                ..Spec::DEFAULT };
            let idle: Vec<_> = idle.into_iter().map(|at| at.map(s)).collect();
            let seen = Observation { in_flight, pending, mean_in_flight: mean,
                mean_cpus: mean / 100.0, idle_since: &idle };
            let answer = desired(s(2000), &seen, &spec).instances;
            prop_assert!(answer >= min && answer <= min + more);
            // All demand has a slot, or the most instances run.
            let slots = u64::from(answer) * u64::from(concurrency.max(1));
            prop_assert!(slots >= u64::from(in_flight + pending) || answer == min + more);
        }

        #[test]
        fn a_meter_never_leaves_the_range_of_its_levels(
            steps in proptest::collection::vec((0u64..40_000, 0u32..50), 1..200),
        ) {
            let mut meter = Meter::new(Duration::ZERO);
            let mut now = Duration::ZERO;
            for (millis, level) in steps {
                now += Duration::from_millis(millis);
                meter.set(now, level);
                let mean = meter.mean(now + Duration::from_millis(1));
                prop_assert!((-1e-9..=50.0).contains(&mean), "{mean}");
            }
        }
    }
}

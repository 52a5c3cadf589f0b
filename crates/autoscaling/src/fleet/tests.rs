//! The scheduler in virtual time: every test says what time it is.

use super::*;
use proptest::prelude::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const NONE: [Ordinal; 0] = [];

fn spec(instances_min: u32, instances_max: u32, concurrency: u32) -> Spec {
    Spec { instances_min, instances_max, concurrency, ..Spec::DEFAULT }
}

/// Waiters are plain numbers here.
fn fleet(spec: Spec) -> Fleet<u32> {
    Fleet::new(Duration::ZERO, spec)
}

/// A fleet with this many instances that listen since `at`.
fn running(spec: Spec, instances: u32, at: Duration) -> Fleet<u32> {
    let mut fleet = fleet(spec);
    let plan = fleet.plan(at, instances);
    for ordinal in plan.start {
        assert!(fleet.started(at + ms(100), ordinal).is_empty());
    }
    fleet
}

#[test]
fn only_a_request_scales_from_zero_and_it_gets_the_first_slot() {
    let mut fleet = fleet(spec(0, 5, 2));
    assert_eq!(fleet.plan(s(0), 0), Plan::default());
    assert_eq!(fleet.acquire(s(1), || 7), Acquired::Queued(1));
    assert_eq!(fleet.plan(s(1), 0).start, [1]);
    assert_eq!(fleet.plan(s(2), 0).start, NONE, "the start is under way");
    assert_eq!(fleet.started(s(3), 1), [(7, Grant::Slot(1))]);
    assert_eq!(fleet.acquire(s(3), || 8), Acquired::Slot(1));
    assert_eq!(fleet.acquire(s(3), || 9), Acquired::Queued(2), "both slots are taken");
    assert_eq!(fleet.plan(s(3), 0).start, [2]);
    assert_eq!(fleet.release(s(4), 1), Some((9, 1)), "a freed slot is as good as a new one");
}

#[test]
fn the_fewest_instances_are_started_without_a_request() {
    let mut fleet = fleet(spec(2, 5, 2));
    assert_eq!(fleet.plan(s(0), 0).start, [1, 2]);
}

#[test]
fn an_instance_never_gets_more_requests_than_its_concurrency() {
    let mut fleet = running(spec(0, 2, 3), 2, s(0));
    fleet.plan(s(1), 2);
    let mut taken = [0; 3];
    for _ in 0..6 {
        let Acquired::Slot(ordinal) = fleet.acquire(s(1), || 0) else { panic!("a slot is free") };
        taken[ordinal as usize] += 1;
    }
    assert_eq!(taken, [0, 3, 3], "the least loaded of the wanted ones is taken");
    assert_eq!(fleet.acquire(s(1), || 0), Acquired::Queued(1));
}

#[test]
fn at_the_maximum_a_request_waits_ten_seconds_and_is_then_refused_with_429() {
    let mut fleet = running(spec(0, 1, 1), 1, s(0));
    assert_eq!(fleet.acquire(s(1), || 0), Acquired::Slot(1));
    assert_eq!(fleet.acquire(s(1), || 1), Acquired::Queued(1));
    assert_eq!(fleet.plan(s(1), 0).start, NONE, "there may be no second one");
    assert_eq!(fleet.expire(s(10), 1), Expiry::Until(s(11)));
    assert_eq!(fleet.expire(s(11), 1), Expiry::Refused(Reason::NoAvailableInstance));
    assert_eq!(fleet.expire(s(11), 1), Expiry::Answered);
    assert_eq!(fleet.release(s(12), 1), None, "who was refused gets no slot any more");
}

#[test]
fn a_request_waits_three_and_a_half_mean_start_times() {
    let mut fleet = running(spec(0, 2, 1), 0, s(0));
    for (ordinal, took) in [(1, 4), (2, 8)] {
        assert_eq!(fleet.plan(s(0), ordinal).start, [ordinal]);
        fleet.started(s(took), ordinal);
    }
    for _ in 0..2 {
        fleet.acquire(s(10), || 0);
    }
    assert_eq!(fleet.acquire(s(10), || 0), Acquired::Queued(1));
    assert_eq!(fleet.expire(s(30), 1), Expiry::Until(s(31)), "3.5 × 6 s");
}

#[test]
fn below_the_maximum_the_answer_is_500() {
    let mut fleet = running(spec(0, 2, 1), 1, s(0));
    fleet.acquire(s(1), || 0);
    assert_eq!(fleet.acquire(s(1), || 1), Acquired::Queued(1));
    assert_eq!(fleet.plan(s(1), 0).start, [2]);
    assert_eq!(fleet.expire(s(11), 1), Expiry::Refused(Reason::NoInstanceStarted));
}

#[test]
fn the_first_start_may_take_long_for_nobody_knows_the_mean_yet() {
    let mut fleet = fleet(spec(0, 1, 1));
    fleet.acquire(s(0), || 5);
    fleet.plan(s(0), 0);
    assert!(matches!(fleet.expire(s(60), 1), Expiry::Until(until) if until > s(60)));
    assert_eq!(fleet.started(s(100), 1), [(5, Grant::Slot(1))]);
}

#[test]
fn the_queue_is_bounded() {
    let mut fleet = running(spec(0, 1, 2), 1, s(0));
    let outcomes: Vec<_> = (0..30).map(|n| fleet.acquire(s(1), || n)).collect();
    let queued = |outcome: &&Acquired| matches!(outcome, Acquired::Queued(_));
    assert_eq!(outcomes.iter().filter(queued).count(), 20);
    assert_eq!(outcomes.last(), Some(&Acquired::Refused(Reason::NoAvailableInstance)));
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let mut fleet = running(spec(0, 1, 1), 1, s(0));
    fleet.acquire(s(1), || 0);
    for waiter in 1..=3 {
        assert_eq!(fleet.acquire(s(1), || waiter), Acquired::Queued(u64::from(waiter)));
    }
    fleet.cancel(2);
    fleet.cancel(2);
    assert_eq!(fleet.release(s(2), 1), Some((1, 1)));
    assert_eq!(fleet.release(s(2), 1), Some((3, 1)));
    assert_eq!(fleet.release(s(2), 1), None);
}

#[test]
fn a_failed_start_refuses_who_waited_and_the_next_ones_back_off() {
    let mut fleet = fleet(spec(0, 3, 1));
    let mut now = s(0);
    let mut pauses = Vec::new();
    for round in 0..6 {
        fleet.acquire(now, || round);
        fleet.acquire(now, || round);
        let mut plan = fleet.plan(now, 0);
        if let Some(at) = plan.again_at {
            assert_eq!(plan.start, NONE);
            pauses.push((at - now).as_millis());
            now = at;
            plan = fleet.plan(now, 0);
        }
        let (&last, others) = plan.start.split_last().expect("a start is due");
        assert_eq!(others.len(), usize::from(round == 0), "after a failure one tries first");
        for &other in others {
            assert!(fleet.gone(now, other).is_empty(), "another start is under way");
        }
        let refused = Grant::Refused(Reason::InstanceStartFailed);
        assert_eq!(fleet.gone(now, last), [(round, refused), (round, refused)]);
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 8000]);
    assert_eq!(
        fleet.acquire(now, || 0),
        Acquired::Refused(Reason::InstanceStartFailed),
        "nobody waits for a start that comes too late"
    );
    assert!(matches!(fleet.acquire(now + s(1), || 0), Acquired::Queued(_)));
}

#[test]
fn a_crash_is_mended_at_once_if_the_instance_had_proved_itself() {
    let mut fleet = running(spec(1, 3, 1), 1, s(0));
    assert_eq!(fleet.acquire(s(40), || 0), Acquired::Slot(1));
    assert!(fleet.gone(s(40), 1).is_empty());
    assert_eq!(fleet.release(s(40), 1), None, "the slots of a dead instance are gone");
    assert_eq!(fleet.plan(s(40), 0).start, [2]);
    fleet.started(s(41), 2);
    assert!(fleet.gone(s(42), 2).is_empty());
    assert_eq!(fleet.plan(s(42), 0).again_at, Some(s(42) + ms(250)), "a young one backs off");
}

#[test]
fn an_idle_instance_is_stopped_after_its_time_and_the_rest_gets_the_requests() {
    let mut fleet = running(spec(0, 5, 2), 2, s(0));
    assert_eq!(fleet.acquire(s(1), || 0), Acquired::Slot(1));
    assert_eq!(fleet.acquire(s(1), || 0), Acquired::Slot(2));
    fleet.release(s(2), 2);
    fleet.release(s(800), 1);
    assert_eq!(fleet.plan(s(901), 0).stop, NONE);
    assert_eq!(fleet.plan(s(902), 0).stop, [2]);
    assert_eq!(fleet.acquire(s(903), || 0), Acquired::Slot(1));
    assert_eq!(fleet.plan(s(3000), 0).stop, NONE, "a busy one is not stopped");
    fleet.release(s(3000), 1);
    assert_eq!(fleet.plan(s(3900), 0).stop, [1], "to zero");
    assert_eq!(fleet.counts(), Counts::default());
}

#[test]
fn surplus_instances_become_idle_because_the_others_are_preferred() {
    let mut fleet = running(spec(0, 5, 10), 2, s(0));
    fleet.plan(s(1000), 0);
    assert_eq!(fleet.counts(), Counts::default(), "idle for 15 minutes");
    let mut fleet = running(Spec { idle_retention: s(60), ..spec(0, 5, 10) }, 3, s(0));
    fleet.acquire(s(30), || 0);
    fleet.plan(s(70), 0);
    assert_eq!(fleet.counts().active + fleet.counts().idle, 1);
    for _ in 0..9 {
        assert_eq!(fleet.acquire(s(71), || 0), Acquired::Slot(1));
    }
}

#[test]
fn a_lowered_maximum_drains_the_newest() {
    let mut fleet = running(spec(0, 3, 1), 3, s(0));
    for _ in 0..3 {
        assert!(matches!(fleet.acquire(s(1), || 0), Acquired::Slot(_)));
    }
    fleet.rescale(spec(0, 1, 1));
    assert_eq!(fleet.plan(s(2), 0).stop, NONE, "their requests end first");
    assert_eq!(fleet.release(s(3), 3), None);
    assert_eq!(fleet.release(s(3), 2), None);
    assert_eq!(fleet.plan(s(3), 0).stop, [2, 3]);
    assert_eq!(fleet.counts(), Counts { active: 1, ..Counts::default() });
}

#[test]
fn a_retired_revision_sends_waiters_on_and_stops_when_its_requests_have_ended() {
    let mut fleet = running(spec(1, 2, 1), 1, s(0));
    fleet.acquire(s(1), || 0);
    fleet.acquire(s(1), || 4);
    assert_eq!(fleet.retire(), [(4, Grant::Retired)]);
    assert_eq!(fleet.acquire(s(1), || 0), Acquired::Retired);
    assert_eq!(fleet.plan(s(1), 0), Plan::default());
    fleet.release(s(2), 1);
    assert_eq!(fleet.plan(s(2), 0).stop, [1]);
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    Release(usize),
    Cancel(usize),
    Plan,
    Started(usize),
    Gone(usize),
    Pass(u64),
    Rescale(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Acquire),
        4 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Cancel),
        4 => Just(Step::Plan),
        4 => any::<usize>().prop_map(Step::Started),
        1 => any::<usize>().prop_map(Step::Gone),
        2 => (0u64..400_000).prop_map(Step::Pass),
        1 => (0u32..3, 0u32..4).prop_map(|(min, more)| Step::Rescale(min, more)),
    ]
}

proptest! {
    /// Whatever happens in whatever order: no slot twice, no waiter lost or answered twice, never
    /// more instances than the maximum allows, and in the end everything is stopped.
    #[test]
    fn slots_and_waiters_are_accounted_for(
        concurrency in 1u32..4, steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut bounds = spec(0, 3, concurrency);
        let mut fleet = fleet(bounds);
        let mut now = Duration::ZERO;
        let mut next = 0u32;
        let mut held: Vec<Ordinal> = Vec::new();
        let mut waiting: Vec<(Ticket, u32)> = Vec::new();
        let (mut starting, mut ready): (Vec<Ordinal>, Vec<Ordinal>) = (Vec::new(), Vec::new());
        for step in steps {
            let mut grants = Vec::new();
            match step {
                Step::Acquire => {
                    next += 1;
                    match fleet.acquire(now, || next) {
                        Acquired::Slot(ordinal) => held.push(ordinal),
                        Acquired::Queued(ticket) => waiting.push((ticket, next)),
                        Acquired::Refused(_) => {}
                        Acquired::Retired => prop_assert!(false, "nobody retired it"),
                    }
                }
                Step::Release(n) if !held.is_empty() => {
                    let ordinal = held.swap_remove(n % held.len());
                    grants.extend(fleet.release(now, ordinal).map(|(w, o)| (w, Grant::Slot(o))));
                }
                Step::Cancel(n) if !waiting.is_empty() => {
                    let (ticket, _) = waiting.swap_remove(n % waiting.len());
                    fleet.cancel(ticket);
                }
                Step::Plan => {
                    let plan = fleet.plan(now, 0);
                    for ordinal in &plan.stop {
                        prop_assert!(!held.contains(ordinal), "stopped under a request");
                        ready.retain(|other| other != ordinal);
                        starting.retain(|other| other != ordinal);
                    }
                    starting.extend(plan.start);
                    let counts = fleet.counts();
                    prop_assert!(counts.idle + counts.starting <= bounds.instances_max);
                }
                Step::Started(n) if !starting.is_empty() => {
                    let ordinal = starting.swap_remove(n % starting.len());
                    ready.push(ordinal);
                    grants = fleet.started(now, ordinal);
                }
                Step::Gone(n) if !ready.is_empty() => {
                    let ordinal = ready.swap_remove(n % ready.len());
                    grants = fleet.gone(now, ordinal);
                    // The requests on it end by themselves and release nothing.
                    for lost in held.iter().filter(|&&other| other == ordinal) {
                        prop_assert_eq!(fleet.release(now, *lost), None);
                    }
                    held.retain(|other| *other != ordinal);
                }
                Step::Pass(millis) => now += ms(millis),
                Step::Rescale(min, more) => {
                    bounds = spec(min, min + more, concurrency);
                    fleet.rescale(bounds);
                }
                _ => {}
            }
            for (waiter, grant) in grants {
                let index = waiting.iter().position(|(_, other)| *other == waiter);
                prop_assert!(index.is_some(), "an unknown waiter was answered");
                waiting.swap_remove(index.unwrap_or_default());
                if let Grant::Slot(ordinal) = grant {
                    held.push(ordinal);
                }
            }
            for ordinal in &ready {
                let load = held.iter().filter(|&other| other == ordinal).count();
                prop_assert!(load <= concurrency as usize);
            }
            prop_assert_eq!(fleet.in_flight as usize, held.len());
            prop_assert_eq!(fleet.pending.len(), waiting.len());
        }
        fleet.retire();
        for ordinal in held {
            fleet.release(now, ordinal);
        }
        fleet.plan(now, 0);
        prop_assert_eq!(fleet.counts().active + fleet.counts().idle, 0);
    }
}

#[test]
fn an_instance_that_is_not_ready_gets_nothing_and_another_stands_in_for_it() {
    let mut fleet = running(spec(1, 3, 2), 1, s(0));
    assert_eq!(fleet.acquire(s(1), || 1), Acquired::Slot(1));
    assert!(fleet.readiness(s(2), 1, false).is_empty());
    assert_eq!(fleet.acquire(s(2), || 2), Acquired::Queued(1), "the free slot is not given");
    assert_eq!(
        fleet.plan(s(2), 0),
        Plan { start: vec![2], because: Because::InstancesMin, ..Plan::default() },
        "and it is kept"
    );
    assert_eq!(fleet.readiness(s(3), 1, true), [(2, Grant::Slot(1))], "ready again");
}

#[test]
fn a_client_gets_its_own_instance_as_long_as_that_has_a_slot() {
    let mut fleet = running(spec(0, 3, 2), 3, s(0));
    assert_eq!(fleet.acquire_at(s(1), 3, || 1), Acquired::Slot(3));
    assert_eq!(fleet.acquire_at(s(1), 3, || 2), Acquired::Slot(3));
    assert_eq!(fleet.acquire_at(s(1), 3, || 3), Acquired::Slot(1), "it is full");
    assert_eq!(fleet.acquire_at(s(1), 9, || 4), Acquired::Slot(2), "it is gone");
}

#[test]
fn what_is_billed_is_the_time_of_starts_and_requests_however_many_at_once() {
    let mut fleet = running(spec(0, 2, 5), 1, s(0));
    assert_eq!(fleet.usage(s(10)), Usage { billable: ms(100), most: vec![0] }, "the start");
    for _ in 0..3 {
        fleet.acquire(s(20), || 0);
    }
    fleet.release(s(21), 1);
    fleet.release(s(22), 1);
    assert_eq!(fleet.usage(s(23)), Usage { billable: s(3), most: vec![3] });
    fleet.release(s(24), 1);
    assert_eq!(fleet.usage(s(30)), Usage { billable: s(1), most: vec![1] });
    assert_eq!(fleet.usage(s(40)), Usage { billable: s(0), most: vec![0] }, "idle");
}

//! The choice of an endpoint: policies, groups, availability.

use balancing::Availability::{Available, Leaving, Unavailable, Unproven};
use balancing::{Availability, Capacity, Draw, Load, Member, Table, mix};
use proptest::prelude::*;
use slice::load_balancer::LocalityLbPolicy;

const OPEN: Capacity =
    Capacity { per_group: None, per_endpoint: None, scaler: 1.0, connections: false };
const POLICIES: [LocalityLbPolicy; 5] = [
    LocalityLbPolicy::RoundRobin,
    LocalityLbPolicy::LeastRequest,
    LocalityLbPolicy::Random,
    LocalityLbPolicy::RingHash,
    LocalityLbPolicy::Maglev,
];

/// Requests by member, load by group.
struct Now<'a>(&'a [u32], &'a [f64]);

impl Load for Now<'_> {
    fn requests(&self, place: u32) -> u32 {
        self.0.get(place as usize).copied().unwrap_or_default()
    }
    fn group(&self, group: usize) -> f64 {
        self.1.get(group).copied().unwrap_or_default()
    }
}

const IDLE: Now<'static> = Now(&[], &[]);

fn table(policy: LocalityLbPolicy, groups: &[(Capacity, &[Availability])]) -> Table {
    let mut number = 0;
    let groups: Vec<_> = groups
        .iter()
        .map(|(capacity, members)| {
            let member = |availability: &Availability| {
                number += 1;
                Member { identity: mix(number), availability: *availability }
            };
            (*capacity, members.iter().map(member).collect())
        })
        .collect();
    Table::new(policy, &groups)
}

fn draw(n: u64) -> Draw {
    Draw { turn: n, roll: mix(n), ..Draw::default() }
}

fn shares(table: &Table, load: &Now<'_>, members: usize) -> Vec<usize> {
    let mut shares = vec![0; members];
    for n in 0..1000 {
        let place = table.pick(draw(n), load, |_| false).expect("there is one");
        shares[place as usize] += 1;
    }
    shares
}

#[test]
fn round_robin_takes_turns_among_the_healthy() {
    let table =
        table(LocalityLbPolicy::RoundRobin, &[(OPEN, &[Available, Unavailable, Available])]);
    let places: Vec<_> = (0..6).filter_map(|n| table.pick(draw(n), &IDLE, |_| false)).collect();
    assert_eq!(places, [0, 2, 0, 2, 0, 2]);
}

#[test]
fn nothing_goes_to_the_unhealthy_and_what_is_unproven_comes_last() {
    for policy in POLICIES {
        for (members, expected) in [
            (&[Unavailable, Unavailable][..], None),
            (&[], None),
            (&[Unavailable, Unproven], Some(1)),
            (&[Unproven, Available], Some(1)),
        ] {
            let table = table(policy, &[(OPEN, members)]);
            assert_eq!(table.is_empty(), expected.is_none());
            for n in 0..50 {
                assert_eq!(
                    table.pick(draw(n), &IDLE, |_| false),
                    expected,
                    "{policy:?} {members:?}"
                );
            }
        }
    }
}

#[test]
fn of_two_the_less_busy_one_is_chosen() {
    let table = table(LocalityLbPolicy::LeastRequest, &[(OPEN, &[Available, Available])]);
    assert_eq!(shares(&table, &Now(&[3, 1], &[]), 2), [0, 1000]);
    let even = shares(&table, &IDLE, 2);
    assert!(even.iter().all(|share| (400..600).contains(share)), "{even:?}");
}

#[test]
fn a_hash_leads_to_one_member_and_without_one_it_is_chance() {
    for policy in [LocalityLbPolicy::Maglev, LocalityLbPolicy::RingHash] {
        let table = table(policy, &[(OPEN, &[Available; 4])]);
        let bound = |n: u64| Draw { hash: Some(mix(99)), ..draw(n) };
        let first = table.pick(bound(0), &IDLE, |_| false);
        assert!((1..50).all(|n| table.pick(bound(n), &IDLE, |_| false) == first));
        assert!(shares(&table, &IDLE, 4).iter().all(|share| *share > 100));
    }
}

#[test]
fn groups_share_by_capacity_and_a_full_one_is_passed_over() {
    let two = &[Available; 2][..];
    let rate = |per_group: f64| Capacity { per_group: Some(per_group), ..OPEN };
    let each = |rate: f64| Capacity { per_endpoint: Some(rate), ..OPEN };
    let scaled = |capacity: Capacity, scaler: f64| Capacity { scaler, ..capacity };
    for policy in [LocalityLbPolicy::RoundRobin, LocalityLbPolicy::Random] {
        for (groups, load, expected) in [
            ([(OPEN, two), (OPEN, two)], [0.0, 0.0], [0.5, 0.5]),
            ([(OPEN, two), (OPEN, &two[..1])], [0.0, 0.0], [0.667, 0.333]),
            ([(rate(30.0), two), (rate(10.0), two)], [0.0, 0.0], [0.75, 0.25]),
            ([(each(15.0), two), (rate(10.0), two)], [0.0, 0.0], [0.75, 0.25]),
            ([(rate(30.0), two), (rate(10.0), two)], [30.0, 0.0], [0.0, 1.0]),
            ([(rate(30.0), two), (rate(10.0), two)], [30.0, 10.0], [0.75, 0.25]), // overflow
            ([(scaled(rate(20.0), 0.5), two), (rate(10.0), two)], [10.0, 0.0], [0.0, 1.0]),
            ([(scaled(OPEN, 0.0), two), (OPEN, two)], [0.0, 0.0], [0.0, 1.0]), // drained
            ([(OPEN, &[Unavailable][..]), (OPEN, two)], [0.0, 0.0], [0.0, 1.0]),
        ] {
            let table = table(policy, &groups);
            let first = groups[0].1.len();
            let shares = shares(&table, &Now(&[], &load), first + groups[1].1.len());
            let share = shares[..first].iter().sum::<usize>() as f64 / 1000.0;
            let off = (share - expected[0]).abs();
            assert!(off < 0.06, "{policy:?} {groups:?} {load:?}: {share}");
        }
    }
    let drained = table(LocalityLbPolicy::RoundRobin, &[(scaled(OPEN, 0.0), two)]);
    assert!(drained.is_empty());
}

#[test]
fn the_member_that_a_cookie_names_is_chosen_while_it_may_be() {
    let groups = [(OPEN, &[Available, Available, Unavailable][..])];
    let table = table(LocalityLbPolicy::RoundRobin, &groups);
    let named = |n: u64, place: u64| Draw { endpoint: Some(mix(place + 1)), ..draw(n) };
    for n in 0..20 {
        assert_eq!(table.pick(named(n, 1), &IDLE, |_| false), Some(1));
        assert_ne!(table.pick(named(n, 2), &IDLE, |_| false), Some(2));
        assert_eq!(table.pick(named(n, 1), &IDLE, |place| place == 1), Some(0), "a retry");
    }
}

#[test]
fn a_member_that_leaves_goes_on_for_whom_its_cookie_names() {
    for policy in POLICIES {
        let table = table(policy, &[(OPEN, &[Available, Leaving])]);
        for n in 0..50 {
            assert_eq!(table.pick(draw(n), &IDLE, |_| false), Some(0), "{policy:?}");
            let named = Draw { endpoint: Some(mix(2)), ..draw(n) };
            assert_eq!(table.pick(named, &IDLE, |_| false), Some(1), "{policy:?}");
        }
    }
    assert!(table(LocalityLbPolicy::RoundRobin, &[(OPEN, &[Leaving])]).is_empty());
}

proptest! {
    #[test]
    fn the_choice_is_available_and_not_tried_where_that_can_be(
        members in prop::collection::vec(0..3u8, 1..9),
        split in 0..9usize,
        tried in prop::collection::vec(any::<bool>(), 9),
        policy in 0..POLICIES.len(),
        n in any::<u64>(),
        hash in any::<Option<u64>>(),
    ) {
        let of = [Available, Unproven, Unavailable];
        let all: Vec<_> = members.iter().map(|member| of[usize::from(*member)]).collect();
        let (one, other) = all.split_at(split.min(all.len()));
        let table = table(POLICIES[policy], &[(OPEN, one), (OPEN, other)]);
        let draw = Draw { hash, ..draw(n) };
        let picked = table.pick(draw, &IDLE, |place| tried[place as usize]);
        let wanted = if all.contains(&Available) { Available } else { Unproven };
        let good: Vec<_> =
            (0..all.len()).filter(|place| all[*place] == wanted).collect();
        prop_assert_eq!(picked.is_none(), good.is_empty());
        if let Some(place) = picked {
            prop_assert!(good.contains(&(place as usize)));
            prop_assert!(!tried[place as usize] || good.iter().all(|place| tried[*place]));
        }
    }
}

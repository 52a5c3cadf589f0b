//! Consistent hashing: a hash leads to the same member for as long as that member is there, and
//! few hashes move when another comes or goes.

use crate::hash::mix;
use slice::load_balancer::LocalityLbPolicy;

/// A prime, as in the paper and in Envoy.
const MAGLEV_SLOTS: usize = 65_537;
/// `minimumRingSize`, default.
const RING_POINTS: f64 = 1024.0;

/// A member with its share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weighted {
    pub(crate) place: u32,
    pub(crate) identity: u64,
    /// More than 0.
    pub(crate) weight: f64,
}

/// From a hash to a member.
#[derive(Clone, Debug)]
pub(crate) enum Consistent {
    /// Points in order; a hash belongs to the next one.
    Ring(Box<[(u64, u32)]>),
    /// A hash belongs to its slot.
    Maglev(Box<[u32]>),
}

impl Consistent {
    /// None: the policy does not hash, or there is nobody.
    pub(crate) fn new(policy: LocalityLbPolicy, members: &[Weighted]) -> Option<Consistent> {
        if members.is_empty() {
            return None;
        }
        match policy {
            LocalityLbPolicy::RingHash => Some(Consistent::Ring(ring(members))),
            LocalityLbPolicy::Maglev => Some(Consistent::Maglev(maglev(members))),
            LocalityLbPolicy::RoundRobin
            | LocalityLbPolicy::LeastRequest
            | LocalityLbPolicy::Random => None,
        }
    }

    pub(crate) fn get(&self, hash: u64) -> u32 {
        match self {
            Consistent::Ring(points) => {
                let next = points.partition_point(|(point, _)| *point < hash);
                points[if next == points.len() { 0 } else { next }].1
            }
            Consistent::Maglev(slots) => slots[(hash % MAGLEV_SLOTS as u64) as usize],
        }
    }
}

fn ring(members: &[Weighted]) -> Box<[(u64, u32)]> {
    let total: f64 = members.iter().map(|member| member.weight).sum();
    let mut points = Vec::new();
    for member in members {
        let count = (RING_POINTS * member.weight / total).ceil() as u64;
        points.extend((0..count.max(1)).map(|n| (mix(member.identity ^ mix(n)), member.place)));
    }
    points.sort_unstable();
    points.into()
}

/// Every member wants the slots in an order of its own, and takes its next free one in its turn;
/// members of less weight sit turns out (Envoy: `maglev_lb.cc`).
fn maglev(members: &[Weighted]) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    struct Wish {
        offset: usize,
        skip: usize,
        next: usize,
        credit: f64,
    }
    let slots = MAGLEV_SLOTS as u64;
    let largest = members.iter().map(|member| member.weight).fold(0.0, f64::max);
    let mut wishes: Vec<_> = members
        .iter()
        .map(|member| Wish {
            offset: (mix(member.identity) % slots) as usize,
            skip: (mix(!member.identity) % (slots - 1) + 1) as usize,
            next: 0,
            credit: 0.0,
        })
        .collect();
    let mut table = vec![FREE; MAGLEV_SLOTS];
    let mut taken = 0;
    while taken < MAGLEV_SLOTS {
        for (wish, member) in wishes.iter_mut().zip(members) {
            wish.credit += member.weight;
            if wish.credit < largest {
                continue;
            }
            wish.credit -= largest;
            let slot = loop {
                let slot = (wish.offset + wish.next * wish.skip) % MAGLEV_SLOTS;
                wish.next += 1;
                if table[slot] == FREE {
                    break slot;
                }
            };
            table[slot] = member.place;
            taken += 1;
            if taken == MAGLEV_SLOTS {
                break;
            }
        }
    }
    table.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(count: u32) -> Vec<Weighted> {
        (0..count)
            .map(|place| Weighted { place, identity: mix(u64::from(place)), weight: 1.0 })
            .collect()
    }

    fn shares(consistent: &Consistent, count: usize) -> Vec<usize> {
        let mut shares = vec![0; count];
        (0..20_000).for_each(|n| shares[consistent.get(mix(n)) as usize] += 1);
        shares
    }

    #[test]
    fn shares_follow_the_weights_and_few_hashes_move_when_a_member_goes() {
        for (policy, tolerance) in
            [(LocalityLbPolicy::Maglev, 0.05), (LocalityLbPolicy::RingHash, 0.35)]
        {
            let mut all = members(5);
            all[0].weight = 0.5;
            let before = Consistent::new(policy, &all).expect("it hashes");
            for (share, member) in shares(&before, 5).into_iter().zip(&all) {
                let expected = 20_000.0 * member.weight / 4.5;
                let off = (share as f64 - expected).abs() / expected;
                assert!(off < tolerance, "{policy:?}: {share} of {expected}");
            }
            let after = Consistent::new(policy, &all[..4]).expect("it hashes");
            let stayed = (0..20_000).filter(|n| before.get(mix(*n)) != 4);
            let moved = stayed.filter(|n| before.get(mix(*n)) != after.get(mix(*n))).count();
            assert!(moved < 3200, "{policy:?}: {moved}");
        }
    }

    #[test]
    fn other_policies_do_not_hash() {
        for policy in
            [LocalityLbPolicy::RoundRobin, LocalityLbPolicy::LeastRequest, LocalityLbPolicy::Random]
        {
            assert!(Consistent::new(policy, &members(3)).is_none());
        }
        assert!(Consistent::new(LocalityLbPolicy::Maglev, &[]).is_none());
    }
}

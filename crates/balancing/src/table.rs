//! The choice of an endpoint, made ready.

use crate::consistent::{Consistent, Weighted};
use crate::hash::{below, mix};
use slice::load_balancer::{Backend, BalancingMode, LocalityLbPolicy};

/// The golden ratio as a fraction of 2^64: its multiples fall evenly between 0 and 1.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// May a member be chosen?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// Healthy, or without health check.
    Available,
    /// Not probed yet: chosen where no member is [`Availability::Available`], so that a program
    /// that has just started serves at once, and a member that has just come is not in the way.
    Unproven,
    /// Removed, and draining: goes on only for clients whose cookie names it.
    Leaving,
    /// Unhealthy or ejected: never chosen. There is no panic mode: Google sends
    /// nothing to unhealthy backends (2.8; (unconfirmed) for the case that all are).
    Unavailable,
}

/// An endpoint, as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// The same in every process.
    pub identity: u64,
    /// May it be chosen?
    pub availability: Availability,
}

/// What a group can take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Requests per second or connections at once; none: without bound.
    pub per_group: Option<f64>,
    /// The same for each endpoint that may be chosen.
    pub per_endpoint: Option<f64>,
    /// 0.0 drains the group.
    pub scaler: f64,
    /// Is load counted in connections at once, rather than in requests per second?
    pub connections: bool,
}

impl Capacity {
    /// Of a group that takes nothing new.
    pub const NONE: Capacity =
        Capacity { per_group: None, per_endpoint: None, scaler: 0.0, connections: false };

    /// That of a backend.
    pub fn of(backend: &Backend) -> Capacity {
        Capacity {
            per_group: backend.max_per_group,
            per_endpoint: backend.max_per_endpoint,
            scaler: backend.capacity_scaler,
            connections: backend.balancing_mode == BalancingMode::Connection,
        }
    }

    /// Is there a bound?
    pub fn is_bounded(&self) -> bool {
        self.per_group.is_some() || self.per_endpoint.is_some()
    }

    /// The bound for a group of this many endpoints.
    fn bound(&self, endpoints: usize) -> Option<f64> {
        let endpoints = self.per_endpoint.map(|each| each * endpoints as f64);
        let bound = match (self.per_group, endpoints) {
            (Some(group), Some(endpoints)) => group.min(endpoints),
            (one, other) => one.or(other)?,
        };
        Some(bound * self.scaler)
    }
}

/// What one choice may depend on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draw {
    /// One more than that of the request before.
    pub turn: u64,
    /// Random.
    pub roll: u64,
    /// Of what keeps the client at one endpoint.
    pub hash: Option<u64>,
    /// The identity of the endpoint that the client's cookie names.
    pub endpoint: Option<u64>,
}

/// What is going on just now.
pub trait Load {
    /// Requests under way to a member.
    fn requests(&self, place: u32) -> u32;
    /// What a group carries, in the unit of its capacity.
    fn group(&self, group: usize) -> f64;
}

/// The members of a backend service that may be chosen, ready to choose from: nothing is locked,
/// allocated or searched for a request. Members are numbered through all groups, in order.
#[derive(Clone, Debug)]
pub struct Table {
    policy: LocalityLbPolicy,
    groups: Box<[Group]>,
    /// All of `groups`, for policies that hash.
    consistent: Option<Consistent>,
    /// Who may be chosen, by identity.
    identities: Box<[(u64, u32)]>,
}

#[derive(Clone, Debug)]
struct Group {
    /// Its place among the backends.
    index: usize,
    members: Box<[u32]>,
    /// Its share, relative to those of the others.
    weight: f64,
    bound: Option<f64>,
}

impl Table {
    /// A table of the groups' members.
    pub fn new(policy: LocalityLbPolicy, groups: &[(Capacity, Vec<Member>)]) -> Table {
        let drained = |capacity: &Capacity| capacity.scaler <= 0.0;
        let is = |member: &Member, wanted| member.availability == wanted;
        let open = || groups.iter().filter(|(capacity, _)| !drained(capacity));
        let healthy = open().flat_map(|(_, members)| members);
        let wanted = match healthy.clone().any(|member| is(member, Availability::Available)) {
            true => Availability::Available,
            false => Availability::Unproven,
        };
        let mut ready = Vec::new();
        let mut weighted = Vec::new();
        let mut first = 0;
        for (index, (capacity, members)) in groups.iter().enumerate() {
            let places = (first..).zip(members);
            first += members.len() as u32;
            if drained(capacity) {
                continue;
            }
            let chosen: Vec<_> = places.filter(|(_, member)| is(member, wanted)).collect();
            if chosen.is_empty() {
                continue;
            }
            let bound = capacity.bound(chosen.len()).filter(|bound| *bound > 0.0);
            // Without a bound, capacity is a matter of how many there are.
            let weight = bound.unwrap_or(capacity.scaler * chosen.len() as f64);
            let each = weight / chosen.len() as f64;
            weighted.extend(chosen.iter().map(|(place, member)| Weighted {
                place: *place,
                identity: member.identity,
                weight: each,
            }));
            let members = chosen.into_iter().map(|(place, _)| place).collect();
            ready.push(Group { index, members, weight, bound });
        }
        let leaving = (0..)
            .zip(groups.iter().flat_map(|(_, members)| members))
            .filter(|(_, member)| is(member, Availability::Leaving))
            .map(|(place, member)| (member.identity, place));
        let mut identities: Vec<_> =
            weighted.iter().map(|member| (member.identity, member.place)).chain(leaving).collect();
        identities.sort_unstable();
        Table {
            policy,
            groups: ready.into(),
            consistent: Consistent::new(policy, &weighted),
            identities: identities.into(),
        }
    }

    /// May nobody be chosen?
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The place of the member that takes the request; none: there is nobody. A member of which
    /// `tried` says yes is chosen only if there is no other.
    pub fn pick(&self, draw: Draw, load: &impl Load, tried: impl Fn(u32) -> bool) -> Option<u32> {
        if let Some(named) = draw.endpoint.and_then(|identity| self.named(identity))
            && !tried(named)
        {
            return Some(named);
        }
        let (group, place) = match &self.consistent {
            // Without anything to hash there is nothing to keep to: Envoy throws as well.
            Some(consistent) => {
                (self.groups.first()?, consistent.get(draw.hash.unwrap_or(mix(draw.roll))))
            }
            None => {
                let group = self.group(draw, load)?;
                (group, self.member(group, draw, load))
            }
        };
        if !tried(place) {
            return Some(place);
        }
        let members = &group.members;
        let after = members.iter().position(|member| *member == place).map_or(0, |at| at + 1);
        let others = members[after..].iter().chain(&members[..after]);
        let elsewhere = self.groups.iter().flat_map(|group| &group.members[..]);
        others.chain(elsewhere).copied().find(|place| !tried(*place)).or(Some(place))
    }

    fn named(&self, identity: u64) -> Option<u32> {
        let at = self.identities.binary_search_by_key(&identity, |(identity, _)| *identity).ok()?;
        Some(self.identities[at].1)
    }

    /// By capacity, among those that are not full; among all, if all are. "Target capacity is not
    /// a circuit breaker": what is too much goes where it would have gone.
    fn group(&self, draw: Draw, load: &impl Load) -> Option<&Group> {
        if let [] | [_] = &self.groups[..] {
            return self.groups.first();
        }
        let full =
            |group: &Group| group.bound.is_some_and(|bound| load.group(group.index) >= bound);
        let total: f64 = self.groups.iter().filter(|group| !full(group)).map(|g| g.weight).sum();
        let all_full = total <= 0.0;
        let total = if all_full { self.groups.iter().map(|g| g.weight).sum() } else { total };
        let spread = match self.policy {
            LocalityLbPolicy::RoundRobin => draw.turn.wrapping_mul(GOLDEN),
            _ => mix(draw.roll ^ GOLDEN),
        };
        let mut at = spread as f64 / 2f64.powi(64) * total;
        let mut last = None;
        for group in self.groups.iter().filter(|group| all_full || !full(group)) {
            last = Some(group);
            at -= group.weight;
            if at < 0.0 {
                break;
            }
        }
        last.or(self.groups.first()) // rounding, or one that filled up just now
    }

    fn member(&self, group: &Group, draw: Draw, load: &impl Load) -> u32 {
        let members = &group.members;
        match self.policy {
            LocalityLbPolicy::RoundRobin => members[(draw.turn % members.len() as u64) as usize],
            LocalityLbPolicy::LeastRequest if members.len() > 1 => {
                let one = below(mix(draw.roll), members.len());
                let other = below(mix(!draw.roll), members.len() - 1);
                let other = if other >= one { other + 1 } else { other };
                let (one, other) = (members[one], members[other]);
                if load.requests(other) < load.requests(one) { other } else { one }
            }
            _ => members[below(mix(draw.roll), members.len())],
        }
    }
}

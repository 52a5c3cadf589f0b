//! What a decision depends on beside the snapshot, asked only where a routing policy decides.

use crate::Snapshot;
use names::SelfLink;
use std::collections::BTreeSet;

/// The moment at which a question comes: inputs of routing policies, which the decision takes as
/// they are (no clock, no chance and no network in this crate).
pub trait Circumstances {
    /// The region from which the client asks.
    fn region(&self) -> Option<&str>;
    /// A number from 0 up to 1, 1 excluded; another one for each question.
    fn chance(&self) -> f64;
    /// Is what happens to most questions wanted, instead of what chance decides for one?
    fn is_usual(&self) -> bool {
        false
    }
    /// Is this target healthy? It is the position in
    /// [`Snapshot::health_checked_targets`](crate::Snapshot::health_checked_targets).
    fn is_healthy(&self, target: usize) -> bool;
}

/// A client of this region, if it is known, while everything is healthy: a fresh start.
/// Where chance decides, it is what happens to most.
#[derive(Clone, Copy, Debug, Default)]
pub struct FairWeather<'a> {
    /// The client's region.
    pub region: Option<&'a str>,
}

impl Circumstances for FairWeather<'_> {
    fn region(&self) -> Option<&str> {
        self.region
    }

    fn chance(&self) -> f64 {
        0.0
    }

    fn is_usual(&self) -> bool {
        true
    }

    fn is_healthy(&self, _target: usize) -> bool {
        true
    }
}

/// [`FairWeather`] where it is known which load balancers are ill: what `explain` takes of what runs.
#[derive(Clone, Copy)]
pub struct AsReported<'a> {
    /// The client's region.
    pub region: Option<&'a str>,
    /// Whose positions they are.
    pub snapshot: &'a Snapshot,
    /// What [`unhealthy`](crate::unhealthy) says.
    pub unhealthy: &'a BTreeSet<SelfLink>,
}

impl Circumstances for AsReported<'_> {
    fn region(&self) -> Option<&str> {
        self.region
    }

    fn chance(&self) -> f64 {
        0.0
    }

    fn is_usual(&self) -> bool {
        true
    }

    fn is_healthy(&self, target: usize) -> bool {
        let target = self.snapshot.health_checked_targets().get(target);
        target.is_none_or(|target| !self.unhealthy.contains(&target.forwarding_rule))
    }
}

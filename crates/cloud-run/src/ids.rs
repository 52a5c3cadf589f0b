//! Numbers that need to differ, not to be secret: trace ids, instance ids, draws.

use crate::headers::Trace;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A source of such numbers, one per thread (SplitMix64, seeded by the system).
#[derive(Debug)]
pub struct Ids(Cell<u64>);

impl Ids {
    /// A source of its own.
    pub fn new() -> Self {
        Ids(Cell::new(RandomState::new().hash_one(0u8)))
    }

    /// A trace of a request that brought none; Cloud Run samples few of them, this one none (7.3).
    pub fn trace(&self) -> Trace {
        let id = u128::from(self.next()) << 64 | u128::from(self.next());
        Trace { id: id.max(1), span: self.next().max(1), sampled: false }
    }

    /// `instanceId`: long and opaque.
    pub fn instance_id(&self) -> String {
        use std::fmt::Write;
        let mut id = String::with_capacity(66);
        id.push_str("00");
        for _ in 0..4 {
            let _ = write!(id, "{:016x}", self.next());
        }
        id
    }

    /// Any number.
    pub fn random(&self) -> u64 {
        self.next()
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

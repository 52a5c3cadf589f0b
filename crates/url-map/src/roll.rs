//! Chance as an argument: one random number per request, from which weights, faults and mirrors
//! take theirs. The same number gives the same decision, so a seed makes a run repeatable.

/// What a number is drawn for; the draws of one request do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Draw {
    Weight = 1,
    Delay = 2,
    Abort = 3,
    Mirror = 4,
}

/// A number of its own for each purpose (the finaliser of SplitMix64).
fn draw(roll: u64, what: Draw) -> u64 {
    let state = roll.wrapping_add((what as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number from 0 to below `bound`, which is not 0.
pub(crate) fn below(roll: u64, what: Draw, bound: u64) -> u64 {
    // The upper half of a product: as even as a 64-bit number allows, and no division.
    ((u128::from(draw(roll, what)) * u128::from(bound)) >> 64) as u64
}

/// A share of a million: percentages have up to four decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    /// From a percentage, 0.0 to 100.0; what is outside is cut.
    pub(crate) fn of_percent(percent: f64) -> Share {
        Share((percent.clamp(0.0, 100.0) * 10_000.0).round() as u32)
    }

    pub(crate) fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// Is this request among them?
    pub(crate) fn hits(self, roll: u64, what: Draw) -> bool {
        match self.0 {
            0 => false,
            1_000_000 => true,
            share => below(roll, what, 1_000_000) < u64::from(share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_draws_are_independent() {
        let quarter = Share::of_percent(25.0);
        let of = |what| (0..40_000u64).filter(|roll| quarter.hits(*roll, what)).count();
        for what in [Draw::Delay, Draw::Abort, Draw::Mirror] {
            assert!((9_500..10_500).contains(&of(what)), "{what:?}");
        }
        let both = (0..40_000u64)
            .filter(|roll| quarter.hits(*roll, Draw::Delay) && quarter.hits(*roll, Draw::Abort));
        assert!((2_200..2_800).contains(&both.count()));
        assert!((0..1000).all(|roll| Share::of_percent(100.0).hits(roll, Draw::Abort)));
        assert!((0..1000).all(|roll| !Share::of_percent(0.0).hits(roll, Draw::Abort)));
        assert!((0..1000).all(|roll| below(roll, Draw::Weight, 7) < 7));
    }
}

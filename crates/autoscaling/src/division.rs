//! How the instance counts of a service are divided over its revisions (cloud-run 2.1).
//!
//! What is written at the service is in force at once and counts for all revisions together, in
//! proportion to their traffic; what is written in a revision's template counts for that revision.
//! Revisions that only a tag leads to have no part in the service's counts.

/// Instance counts of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounts {
    /// Fewest instances of all revisions together.
    pub instances_min: u32,
    /// Most instances of all revisions together.
    pub instances_max: Option<u32>,
    /// Just so many in all (`scalingMode: MANUAL`); the bounds count for nothing then.
    pub manual: Option<u32>,
}

/// A revision that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its traffic, 0 to 100; 0: only a tag leads to it, or nothing.
    pub percent: u32,
    /// Fewest instances by its template.
    pub instances_min: u32,
    /// Most instances by its template.
    pub instances_max: u32,
}

/// The bounds of one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Fewest instances.
    pub instances_min: u32,
    /// Most instances; 0 only where scaling is manual and switches the service off.
    pub instances_max: u32,
}

/// The bounds of each revision, in the order of `shares`.
///
/// The fewest and the manual count are handed out whole, the rest by the largest lost fraction,
/// and among equals to the first. Of the most, each revision with traffic gets its part rounded up,
/// hence at least one: "overshoot is possible". How Google rounds is (unconfirmed).
pub fn divide(service: ServiceCounts, shares: &[Share]) -> Vec<Bounds> {
    if let Some(count) = service.manual {
        let counts = apportion(count, shares).into_iter();
        return counts.map(|count| Bounds { instances_min: count, instances_max: count }).collect();
    }
    let floors = apportion(service.instances_min, shares);
    shares
        .iter()
        .zip(floors)
        .map(|(share, floor)| {
            let most = match service.instances_max {
                Some(most) if share.percent > 0 => {
                    let part = u64::from(most) * u64::from(share.percent);
                    share.instances_max.min(u32::try_from(part.div_ceil(100)).unwrap_or(u32::MAX))
                }
                _ => share.instances_max,
            };
            // A template's minimum of a revision without traffic counts as long as it has a tag;
            // whether it has one the caller knows: it does not ask for others.
            let most = most.max(1);
            Bounds { instances_min: share.instances_min.max(floor).min(most), instances_max: most }
        })
        .collect()
}

/// `count` in whole parts, in proportion to the percents, which may add to less than 100.
fn apportion(count: u32, shares: &[Share]) -> Vec<u32> {
    let total: u64 = shares.iter().map(|share| u64::from(share.percent)).sum();
    if total == 0 {
        return vec![0; shares.len()];
    }
    let exact = |share: &Share| u64::from(count) * u64::from(share.percent);
    let mut parts: Vec<u32> = shares
        .iter()
        .map(|share| u32::try_from(exact(share) / total).unwrap_or(u32::MAX))
        .collect();
    let given: u64 = parts.iter().map(|part| u64::from(*part)).sum();
    let mut by_loss: Vec<usize> = (0..shares.len()).collect();
    by_loss.sort_by_key(|index| std::cmp::Reverse(exact(&shares[*index]) % total));
    let left = usize::try_from(u64::from(count) - given).unwrap_or(usize::MAX);
    for index in by_loss.into_iter().take(left) {
        parts[index] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(percent: u32, instances_min: u32, instances_max: u32) -> Share {
        Share { percent, instances_min, instances_max }
    }

    fn bounds(service: ServiceCounts, shares: &[Share]) -> Vec<(u32, u32)> {
        let divided = divide(service, shares).into_iter();
        divided.map(|bounds| (bounds.instances_min, bounds.instances_max)).collect()
    }

    #[test]
    fn counts_of_a_service_are_divided_by_traffic() {
        let none = ServiceCounts::default();
        let min = |instances_min| ServiceCounts { instances_min, ..none };
        let max = |most| ServiceCounts { instances_max: Some(most), ..none };
        let manual = |count| ServiceCounts { manual: Some(count), ..none };
        type Row<'a> = (&'a str, ServiceCounts, &'a [Share], &'a [(u32, u32)]);
        let table: &[Row<'_>] = &[
            ("the template's", none, &[share(100, 2, 7)], &[(2, 7)]),
            (
                "the fewest by traffic",
                min(10),
                &[share(90, 0, 100), share(10, 0, 100)],
                &[(9, 100), (1, 100)],
            ),
            (
                "the larger minimum counts",
                min(4),
                &[share(50, 3, 9), share(50, 0, 9)],
                &[(3, 9), (2, 9)],
            ),
            (
                "thirds are handed out whole",
                min(4),
                &[share(34, 0, 9), share(33, 0, 9), share(33, 0, 9)],
                &[(2, 9), (1, 9), (1, 9)],
            ),
            (
                "a tag has no part in the service's minimum",
                min(4),
                &[share(100, 0, 9), share(0, 1, 9)],
                &[(4, 9), (1, 9)],
            ),
            (
                "the most by traffic, rounded up",
                max(5),
                &[share(90, 0, 100), share(10, 0, 100)],
                &[(0, 5), (0, 1)],
            ),
            ("the smaller maximum counts", max(50), &[share(100, 0, 3)], &[(0, 3)]),
            (
                "a tag does not count to the service's maximum",
                max(1),
                &[share(100, 0, 9), share(0, 0, 9)],
                &[(0, 1), (0, 9)],
            ),
            ("a minimum never exceeds the maximum", max(2), &[share(100, 8, 9)], &[(2, 2)]),
            (
                "manual counts pass over bounds",
                manual(6),
                &[share(50, 0, 1), share(50, 9, 9)],
                &[(3, 3), (3, 3)],
            ),
            ("manual 0 switches off", manual(0), &[share(100, 2, 9)], &[(0, 0)]),
        ];
        for (rule, service, shares, expected) in table {
            assert_eq!(bounds(*service, shares), *expected, "{rule}");
        }
    }

    proptest! {
        #[test]
        fn every_part_is_handed_out_and_nobody_is_off_by_one_or_more(
            count in 0u32..5000,
            percents in proptest::collection::vec(0u32..=100, 1..20),
        ) {
            let shares: Vec<Share> = percents.iter().map(|p| share(*p, 0, 100)).collect();
            let total: u32 = percents.iter().sum();
            let parts = apportion(count, &shares);
            prop_assert_eq!(parts.iter().sum::<u32>(), if total == 0 { 0 } else { count });
            for (part, percent) in parts.iter().zip(&percents) {
                let exact = f64::from(count) * f64::from(*percent) / f64::from(total.max(1));
                prop_assert!((f64::from(*part) - exact).abs() < 1.0, "{} of {}", part, exact);
            }
        }
    }
}

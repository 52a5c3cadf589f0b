//! Routing policies: which of a record set's records are answered (private-connectivity 4.2; the
//! fields of `RRSetRoutingPolicy` in dns.v1).
//!
//! What happens when everything is ill is documented for a fenced geolocation policy only: all
//! targets of the region are answered. The others do likewise here, they answer as if all were
//! healthy (unconfirmed).

use crate::circumstances::Circumstances;
use crate::regions::distance;
use crate::zone::RECORD_HEAD;

/// A compiled routing policy.
#[derive(Debug)]
pub(crate) enum Routing {
    /// Weights and items.
    Wrr(Vec<(f64, Item)>),
    Geo(Geo),
    PrimaryBackup {
        primary: Item,
        backup: Geo,
        trickle: f64,
    },
}

/// Items by region.
#[derive(Debug)]
pub(crate) struct Geo {
    pub(crate) items: Vec<(Box<str>, Item)>,
    pub(crate) fenced: bool,
}

/// The records of one item, each complete in wire form, and the target whose health it depends on.
#[derive(Debug, Default)]
pub(crate) struct Item {
    pub(crate) records: Vec<(Box<[u8]>, Option<u32>)>,
}

/// Why an item was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Choice {
    /// By chance: the item's position and its share now.
    Weight { item: usize, share: f64 },
    /// By region: the item's position; was it the nearest one, or did nearer ones fail?
    Region { item: usize, failed_over: bool },
    /// The primary targets.
    Primary,
    /// The backup's item at this position; because of the trickle, or because the primary failed.
    Backup { item: usize, trickle: bool },
}

/// The records that are answered.
#[derive(Debug)]
pub(crate) struct Picked {
    pub(crate) choice: Choice,
    pub(crate) count: u16,
    pub(crate) wire: Vec<u8>,
}

impl Choice {
    /// Why the item at this position was taken; nothing where it was not.
    pub(crate) fn why(self, position: usize) -> Option<String> {
        match self {
            Choice::Weight { item, share } if item == position => {
                Some(format!("by chance, {:.0} % of the questions", share * 100.0))
            }
            Choice::Region { item, failed_over } if item == position => Some(match failed_over {
                false => "the client's region, or the nearest one".to_owned(),
                true => "the nearest region with a healthy target".to_owned(),
            }),
            Choice::Primary if position == 0 => Some("a primary target is healthy".to_owned()),
            // The backup's items come behind the primary.
            Choice::Backup { item, trickle } if item + 1 == position => Some(match trickle {
                false => "no primary target is healthy".to_owned(),
                true => "trickle traffic".to_owned(),
            }),
            _ => None,
        }
    }
}

impl Picked {
    /// The data of the first record.
    pub(crate) fn data(&self) -> Option<&[u8]> {
        self.wire.get(RECORD_HEAD..)
    }
}

impl Item {
    fn is_available(&self, now: &dyn Circumstances) -> bool {
        self.records.iter().any(|(_, target)| target.is_none_or(|at| now.is_healthy(at as usize)))
    }

    /// The healthy records; all where none is.
    fn pick(&self, now: &dyn Circumstances, choice: Choice) -> Picked {
        let some = self.is_available(now);
        let (mut count, mut wire) = (0, Vec::new());
        for (record, target) in &self.records {
            if !some || target.is_none_or(|at| now.is_healthy(at as usize)) {
                count += 1;
                wire.extend_from_slice(record);
            }
        }
        Picked { choice, count, wire }
    }
}

impl Geo {
    /// The item for a client, and whether nearer ones are ill. Without a region, or with one that
    /// is as far from all, the order of the file decides (unconfirmed).
    fn choose(&self, now: &dyn Circumstances) -> (usize, bool) {
        let far = |(location, _): &(Box<str>, Item)| {
            now.region().map_or(f64::INFINITY, |region| distance(region, location))
        };
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        order.sort_by(|a, b| far(&self.items[*a]).total_cmp(&far(&self.items[*b])));
        let nearest = order.first().copied().unwrap_or_default();
        if self.fenced {
            return (nearest, false);
        }
        let healthy = order.into_iter().find(|at| self.items[*at].1.is_available(now));
        healthy.map_or((nearest, false), |at| (at, at != nearest))
    }
}

impl Routing {
    /// The records for these circumstances. A compiled policy has items.
    pub(crate) fn pick(&self, now: &dyn Circumstances) -> Option<Picked> {
        match self {
            Routing::Wrr(items) => {
                let (item, share) = weighted(items, now)?;
                Some(items[item].1.pick(now, Choice::Weight { item, share }))
            }
            Routing::Geo(geo) => {
                let (item, failed_over) = geo.choose(now);
                Some(geo.items.get(item)?.1.pick(now, Choice::Region { item, failed_over }))
            }
            Routing::PrimaryBackup { primary, backup, trickle } => {
                let chance = if now.is_usual() { 0.5 } else { now.chance() };
                let trickles = chance < *trickle;
                if primary.is_available(now) && !trickles {
                    return Some(primary.pick(now, Choice::Primary));
                }
                let (item, _) = backup.choose(now);
                let choice = Choice::Backup { item, trickle: trickles };
                Some(backup.items.get(item)?.1.pick(now, choice))
            }
        }
    }

    /// Every item with what people call it, for the story.
    pub(crate) fn items(&self) -> Vec<(String, &Item)> {
        let by_region = |geo: &'_ Geo| -> Vec<String> {
            geo.items.iter().map(|(location, _)| location.to_string()).collect()
        };
        match self {
            Routing::Wrr(items) => {
                items.iter().map(|(weight, item)| (format!("weight {weight}"), item)).collect()
            }
            Routing::Geo(geo) => {
                by_region(geo).into_iter().zip(geo.items.iter().map(|(_, item)| item)).collect()
            }
            Routing::PrimaryBackup { primary, backup, .. } => {
                let backups = by_region(backup).into_iter().map(|name| format!("backup {name}"));
                let backups = backups.zip(backup.items.iter().map(|(_, item)| item));
                std::iter::once(("primary".to_owned(), primary)).chain(backups).collect()
            }
        }
    }
}

/// An item by its weight among those that have something healthy, and its share of the chance.
/// Where all weights that count are zero they count alike (unconfirmed).
fn weighted(items: &[(f64, Item)], now: &dyn Circumstances) -> Option<(usize, f64)> {
    let some = items.iter().any(|(weight, item)| *weight > 0.0 && item.is_available(now));
    let counts = |(weight, item): &(f64, Item)| -> f64 {
        if some && !item.is_available(now) { 0.0 } else { *weight }
    };
    let mut weights: Vec<f64> = items.iter().map(counts).collect();
    let mut sum: f64 = weights.iter().sum();
    if sum <= 0.0 {
        weights.fill(1.0);
        sum = weights.len() as f64;
    }
    if now.is_usual() {
        // Of equal ones the first.
        let most = weights.iter().copied().fold(0.0, f64::max);
        let at = weights.iter().position(|weight| *weight == most)?;
        return Some((at, most / sum));
    }
    let mut left = now.chance() * sum;
    let last = weights.iter().rposition(|weight| *weight > 0.0)?;
    for (at, weight) in weights.iter().enumerate() {
        // Rounding must not lead past the last item that has a weight.
        if *weight > 0.0 && (left < *weight || at == last) {
            return Some((at, weight / sum));
        }
        left -= weight;
    }
    None
}

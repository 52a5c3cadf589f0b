//! Near misses: names of a zone that a missing name may have meant.

use crate::Name;
use crate::zone::Zone;

/// How many near names are told.
const NAMES_MAX: usize = 3;
/// How many edits a near name may be away.
const EDITS_MAX: usize = 2;
/// In larger zones nobody searches: it would take longer than an answer may.
const ZONE_NAMES_MAX: usize = 20_000;

/// The names with records that are a few edits away, the nearest first.
pub(crate) fn names(zone: &Zone, missing: &Name) -> Vec<String> {
    let missing = missing.as_wire();
    let mut near: Vec<(usize, &[u8])> = zone
        .nodes()
        .take(ZONE_NAMES_MAX)
        .filter(|node| !node.is_empty_non_terminal() && !node.is_wildcard())
        .filter(|node| node.name.len().abs_diff(missing.len()) <= EDITS_MAX)
        .filter_map(|node| Some((edits(node.name, missing)?, node.name)))
        .collect();
    near.sort_unstable();
    near.into_iter().take(NAMES_MAX).map(|(_, name)| Name::from_wire(name).to_string()).collect()
}

/// Levenshtein distance of the labels' text where it is at most [`EDITS_MAX`].
fn edits(a: &[u8], b: &[u8]) -> Option<usize> {
    // Length octets would count as edits of their own.
    let text = |wire: &[u8]| Name::from_wire(wire).to_string().into_bytes();
    let (a, b) = (text(a), text(b));
    // The common end is most of two names of one zone.
    let common = a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count();
    let (a, b) = (&a[..a.len() - common], &b[..b.len() - common]);
    if a.len().max(b.len()) > 64 {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    // Short labels are all near each other: `a` is no slip of `b`.
    row.last().copied().filter(|edits| *edits <= EDITS_MAX && *edits < b.len().max(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let check = |a: &str, b: &str, expected: Option<usize>| {
            let wire = |text| Name::parse(text).unwrap_or_else(|_| Name::root());
            assert_eq!(edits(wire(a).as_wire(), wire(b).as_wire()), expected, "{a} {b}");
        };
        check("orders.example.", "order.example.", Some(1));
        check("orders.example.", "ordres.example.", Some(2));
        check("orders.example.", "billing.example.", None);
        check("orders.example.", "orders.exmaple.", Some(2));
    }
}

//! How near two texts are; for people who mistyped a name. Never used in a decision.

/// The number of single-character edits (insert, delete, replace, swap two neighbours) between two
/// texts, where that is at most `max`.
pub(crate) fn distance(a: &str, b: &str, max: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > max {
        return None;
    }
    // Three rows of the table suffice, because a swap looks back by two.
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        if row.iter().all(|edits| *edits > max) {
            return None;
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().filter(|edits| *edits <= max)
}

/// How many edits still look like a slip: one in a short text, two in a longer one, three at most.
pub(crate) fn slip(text: &str) -> usize {
    (text.chars().count() / 3).clamp(1, 3)
}

/// The candidates that look like slips of `text`, nearest first, at most `count`.
pub(crate) fn nearest<'c>(
    text: &str,
    candidates: impl Iterator<Item = &'c str>,
    count: usize,
) -> Vec<&'c str> {
    let lower = text.to_ascii_lowercase();
    let max = slip(text);
    let near = |one: &'c str| distance(&lower, one, max).map(|edits| (edits, one));
    let mut all: Vec<_> = candidates.filter_map(near).collect();
    all.sort();
    all.truncate(count);
    all.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn edits_are_counted() {
        for (a, b, expected) in [
            ("login", "login", Some(0)),
            ("login", "logn", Some(1)),
            ("login", "lgoin", Some(1)),
            ("login", "logout", None),
            ("login", "lohim", Some(2)),
            ("", "ab", Some(2)),
            ("", "abc", None),
        ] {
            assert_eq!(distance(a, b, 2), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_comes_first() {
        let names = ["orders", "order", "login", "borders"];
        assert_eq!(nearest("Orders", names.into_iter(), 2), ["orders", "borders"]);
        assert!(nearest("payments", names.into_iter(), 3).is_empty());
    }
}

//! "Did you mean": the closest of some words, if one is close.

/// The word closest to `text`, if it is close enough to be meant. Terraform's `snake_case`
/// spelling of a field counts as the field.
pub(crate) fn closest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let folded = fold(text);
    let limit = (folded.len() / 3).clamp(1, 4);
    let mut best: Option<(usize, &str)> = None;
    // Bounded: a topology of a hundred thousand names is not searched whole for each typo.
    for word in words.into_iter().take(2_000) {
        let other = fold(word);
        if other.len().abs_diff(folded.len()) > limit {
            continue;
        }
        let distance = distance(&folded, &other);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, word));
        }
    }
    best.map(|(_, word)| word)
}

fn fold(text: &str) -> Vec<u8> {
    let kept = text.bytes().take(128).filter(|b| *b != b'_' && *b != b'-');
    kept.map(|b| b.to_ascii_lowercase()).collect()
}

/// Edits between two texts; neighbours swapped count as one (optimal string alignment).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let width = b.len() + 1;
    let mut before: Vec<usize> = vec![0; width];
    let mut last: Vec<usize> = (0..width).collect();
    let mut row = vec![0; width];
    for (i, x) in a.iter().enumerate() {
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = last[j] + usize::from(x != y);
            row[j + 1] = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        std::mem::swap(&mut before, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn close_words_are_found_and_far_ones_are_not() {
        let words = ["ipCidrRange", "network", "privateIpGoogleAccess", "purpose"];
        let check = |text, expected| assert_eq!(closest(text, words), expected, "{text}");
        check("ipCidrRnage", Some("ipCidrRange"));
        check("ip_cidr_range", Some("ipCidrRange"));
        check("netwrok", Some("network"));
        check("Purpose", Some("purpose"));
        check("banana", None);
        check("", None);
    }
}

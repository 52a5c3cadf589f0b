//! The naming rules of resources.

use crate::diagnostic::{Code, Findings, Mark};

/// Compute Engine's rule: `[a-z]([-a-z0-9]*[a-z0-9])?`, 1 to 63 characters (1.1).
pub(crate) fn is_rfc1035(name: &str, longest: usize) -> bool {
    let bytes = name.as_bytes();
    let last = bytes.last().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.first().is_some_and(u8::is_ascii_lowercase)
        && last
        && bytes.len() <= longest
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// A label of RFC 1123: lower-case letters, digits and hyphens, no hyphen at its ends.
pub(crate) fn is_rfc1123_label(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Does the text look like a region, `europe-west1`?
pub(crate) fn is_region(text: &str) -> bool {
    let Some((area, rest)) = text.rsplit_once('-') else { return false };
    let letters = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let lower = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    lower(area) && lower(letters) && letters.len() < rest.len()
}

/// Is the text a zone, `europe-west1-b`?
pub(crate) fn is_zone(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(region, letter)| letter.len() == 1 && is_region(region))
}

/// A host name of labels: letters, digits, hyphens; a trailing dot is no part of it.
pub(crate) fn is_hostname(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Reports a name that breaks the rule of its collection.
pub(crate) fn check(collection: &str, name: &str, at: Mark, findings: &mut Findings) {
    let (good, rule) = match collection {
        "services" => (
            is_rfc1035(name, 49),
            "a Cloud Run service's name is lower-case letters, digits and hyphens, begins with a letter, does not end with a hyphen, and has at most 49 characters",
        ),
        "secrets" => (
            (1..=255).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
            "a secret's name is letters, digits, hyphens and underscores, and has at most 255 characters",
        ),
        "managedZones" => (
            is_rfc1035(name, 63),
            "a zone's name is lower-case letters, digits and hyphens, begins with a letter, and has at most 63 characters",
        ),
        _ => (
            is_rfc1035(name, 63),
            "names are lower-case letters, digits and hyphens, begin with a letter, do not end with a hyphen, and have at most 63 characters",
        ),
    };
    if !good {
        findings.error(
            Code::InvalidName,
            at,
            format!("`{name}` is no legal name; {rule}"),
            "rename it, also where it is referred to",
        );
    }
}

/// Reports a region that is none.
pub(crate) fn check_region(region: &str, at: Mark, findings: &mut Findings) {
    if !is_region(region) {
        findings.error(
            Code::InvalidValue,
            at,
            format!("`{region}` is no region; regions look like europe-west1"),
            "write the region's name",
        );
    }
}

/// Reports a project id that breaks its rule: 6 to 30 of `[a-z0-9-]`, a letter first, no hyphen
/// last; older ones have a domain before a colon.
pub(crate) fn check_project(id: &str, at: Mark, findings: &mut Findings) {
    let own = id.rsplit_once(':').map_or(id, |(_, own)| own);
    // The lower bound is not enforced: short ids are handy in tests and do no harm.
    if !is_rfc1035(own, 30) {
        findings.error(
            Code::InvalidName,
            at,
            format!("`{id}` is no project id; ids are lower-case letters, digits and hyphens, begin with a letter, and have at most 30 characters"),
            "write the project's id (not its display name); its number goes into `projectNumber`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_begin_with_a_letter_and_do_not_end_with_a_hyphen() {
        for good in ["a", "a-b", "a1"] {
            assert!(is_rfc1035(good, 63), "{good}");
        }
        for bad in ["", "1a", "a-", "-a", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert!(!is_rfc1035(bad, 63), "{bad}");
        }
    }

    #[test]
    fn regions_and_zones_are_told_apart() {
        for good in ["europe-west1", "northamerica-northeast2", "me-central1", "us-east10"] {
            assert!(is_region(good), "{good}");
            assert!(is_zone(&format!("{good}-b")), "{good}");
        }
        for bad in ["", "europe", "europe-west", "europe-west1-b", "Europe-west1", "-west1", "a-1"]
        {
            assert!(!is_region(bad), "{bad}");
        }
    }
}

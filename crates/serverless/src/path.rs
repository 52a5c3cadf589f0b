//! Paths and methods that never reach a container (cloud-run 0 row 13, 1.3).

use std::borrow::Cow;
use std::fmt;

/// A path that Cloud Run keeps for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservedPath {
    /// `/_ah/…`.
    AppEngineHandlers,
    /// `/eventlog`.
    EventLog,
    /// `/healthz`: of the paths that end in `z`, the one known to be kept (the others
    /// (unconfirmed)).
    HealthZ,
}

impl fmt::Display for ReservedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReservedPath::AppEngineHandlers => "/_ah/",
            ReservedPath::EventLog => "/eventlog",
            ReservedPath::HealthZ => "/healthz",
        })
    }
}

/// Is the path one that Cloud Run keeps for itself? A query behind it is of no matter.
pub fn reserved_path(path: &str) -> Option<ReservedPath> {
    let path = decode_needless_escapes(path);
    match path.split(['?', '#']).next().unwrap_or_default() {
        "/eventlog" => Some(ReservedPath::EventLog),
        "/healthz" => Some(ReservedPath::HealthZ),
        path if path.starts_with("/_ah/") => Some(ReservedPath::AppEngineHandlers),
        _ => None,
    }
}

/// TRACE and CONNECT are not supported.
pub fn method_supported(method: &str) -> bool {
    !matches!(method, "TRACE" | "CONNECT")
}

/// The path with needless escapes decoded (`%41` → `A`), as the container sees it; the query stays
/// as it is. Only letters, digits, `-`, `_` and `~` are decoded: a decoded dot could make a dot
/// segment out of what was none (which escapes the real one decodes: (unconfirmed)).
pub fn decode_needless_escapes(path_and_query: &str) -> Cow<'_, str> {
    let (path, query) = match path_and_query.find('?') {
        Some(at) => path_and_query.split_at(at),
        None => (path_and_query, ""),
    };
    if needless_escape(path).is_none() {
        return Cow::Borrowed(path_and_query);
    }
    let mut decoded = String::with_capacity(path_and_query.len());
    let mut rest = path;
    while let Some((at, character)) = needless_escape(rest) {
        decoded.push_str(&rest[..at]);
        decoded.push(character);
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    decoded.push_str(query);
    Cow::Owned(decoded)
}

/// The first needless escape: where it is, and what it stands for.
fn needless_escape(text: &str) -> Option<(usize, char)> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').find_map(|(at, _)| {
        let value = char::from_u32(digit(at + 1)? * 16 + digit(at + 2)?)?;
        (value.is_ascii_alphanumeric() || matches!(value, '-' | '_' | '~')).then_some((at, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn some_paths_never_reach_the_container() {
        for (path, reserved) in [
            ("/", None),
            ("/healthz", Some(ReservedPath::HealthZ)),
            ("/healthz?full=1", Some(ReservedPath::HealthZ)),
            ("/%68ealthz", Some(ReservedPath::HealthZ)),
            ("/healthz/", None),
            ("/api/healthz", None),
            ("/quiz", None),
            ("/eventlog", Some(ReservedPath::EventLog)),
            ("/eventlogs", None),
            ("/_ah/health", Some(ReservedPath::AppEngineHandlers)),
            ("/%5Fah/health", Some(ReservedPath::AppEngineHandlers)),
            ("/_ah", None),
            ("/x?/_ah/", None),
        ] {
            assert_eq!(reserved_path(path), reserved, "{path}");
        }
    }

    #[test]
    fn needless_escapes_are_decoded_in_the_path_only() {
        for (path, decoded) in [
            ("/%41", "/A"),
            ("/%41%42c?%41", "/ABc?%41"),
            ("/%2F%2e%20%25", "/%2F%2e%20%25"),
            ("/%4", "/%4"),
            ("/%", "/%"),
            ("/%zz", "/%zz"),
            ("/%%41", "/%A"),
            ("/ä%7e", "/ä~"),
        ] {
            assert_eq!(decode_needless_escapes(path), decoded, "{path}");
        }
        assert!(matches!(decode_needless_escapes("/a%2Fb"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn any_path_is_bearable(path in "[/%?a-f0-9A-Zä]{0,30}") {
            prop_assert!(decode_needless_escapes(&path).len() <= path.len());
        }
    }
}

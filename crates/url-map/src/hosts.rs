//! Host rules (private-connectivity 2.3): a host name to the index of its path matcher, at a cost
//! that does not depend on the number of hosts.

use crate::table::{Lengths, Refused, TextMap};
use std::borrow::Cow;

/// The longest host pattern (2.2), without a port.
const PATTERN_LENGTH_MAX: usize = 255;

/// All host patterns of one URL map.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostTable {
    /// Lower-case host, with its port where the pattern has one.
    exact: TextMap,
    /// What follows the `*`: begins with `-` or `.`.
    suffixes: TextMap,
    suffix_lengths: Lengths,
    any: Option<u32>,
}

/// Which host rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostMatch<'s> {
    /// A pattern without wildcard; given as it is compared, in lower case.
    Exact(&'s str),
    /// The pattern `*` followed by this text.
    Suffix(&'s str),
    /// The pattern `*`.
    Any,
    /// No host rule: the URL map's own default applies.
    Default,
}

impl std::fmt::Display for HostMatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostMatch::Exact(host) => f.write_str(host),
            HostMatch::Suffix(suffix) => write!(f, "*{suffix}"),
            HostMatch::Any => f.write_str("*"),
            HostMatch::Default => f.write_str("(default)"),
        }
    }
}

/// Why a host pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostPatternError {
    /// Another host rule of this map has it.
    Duplicate,
    /// Empty, or longer than 255.
    Length,
    /// `*` stands elsewhere than first.
    WildcardNotFirst,
    /// What follows `*` begins with neither `-` nor `.`.
    WildcardWithoutSeparator,
    /// A character that no host name has.
    Character(char),
    /// Two dots in a row, or a dot at its beginning or end.
    EmptyLabel,
    /// What follows `:` is no port.
    Port,
}

impl std::fmt::Display for HostPatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostPatternError::Duplicate => {
                f.write_str("is in the URL map already: a host may appear once only")
            }
            HostPatternError::Length => f.write_str("has to have 1 to 255 characters"),
            HostPatternError::WildcardNotFirst => {
                f.write_str("has `*` elsewhere than as its first character")
            }
            HostPatternError::WildcardWithoutSeparator => {
                f.write_str("needs `-` or `.` after its `*`")
            }
            HostPatternError::Character(c) => write!(f, "has the character {c:?}"),
            HostPatternError::EmptyLabel => f.write_str("has an empty label"),
            HostPatternError::Port => f.write_str("has a port that is not 1 to 65535"),
        }
    }
}

/// A host pattern as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// A host name in lower case, with its port where the pattern has one.
    Exact(String),
    /// What follows the `*`, in lower case: begins with `-` or `.`.
    Suffix(String),
    /// `*`.
    Any,
}

impl HostPattern {
    /// Reads a pattern of a host rule (2.3): a host name with an optional port; `*` only as the
    /// first character, with `-` or `.` behind it, or alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pattern: &str) -> Result<HostPattern, HostPatternError> {
        let (host, port) = match pattern.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (pattern, None),
        };
        if host.is_empty() || host.len() > PATTERN_LENGTH_MAX {
            return Err(HostPatternError::Length);
        }
        if let Some(port) = port {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            if !digits || port.starts_with('0') || port.parse::<u16>().is_err() {
                return Err(HostPatternError::Port);
            }
        }
        let (wildcard, rest) = match host.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, host),
        };
        if rest.contains('*') {
            return Err(HostPatternError::WildcardNotFirst);
        }
        // `_` is no letter of a host name, but it is in use and does no harm (unconfirmed).
        let legal = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if let Some(c) = rest.chars().find(|c| !legal(c)) {
            return Err(HostPatternError::Character(c));
        }
        if wildcard && pattern == "*" {
            return Ok(HostPattern::Any);
        }
        if wildcard && !rest.starts_with(['-', '.']) {
            return Err(HostPatternError::WildcardWithoutSeparator);
        }
        // Behind `*-` or `*.` a label begins anew.
        let labels = if wildcard { &rest[1..] } else { rest };
        if labels.split('.').any(str::is_empty) {
            return Err(HostPatternError::EmptyLabel);
        }
        let lower = pattern.to_ascii_lowercase();
        Ok(match wildcard {
            true => HostPattern::Suffix(lower[1..].to_owned()),
            false => HostPattern::Exact(lower),
        })
    }
}

impl HostTable {
    /// Adds a pattern as written.
    pub(crate) fn insert(&mut self, pattern: &str, matcher: u32) -> Result<(), HostPatternError> {
        let (table, key) = match HostPattern::parse(pattern)? {
            HostPattern::Any if self.any.is_some() => return Err(HostPatternError::Duplicate),
            HostPattern::Any => {
                self.any = Some(matcher);
                return Ok(());
            }
            HostPattern::Suffix(suffix) => {
                self.suffix_lengths.insert(suffix.len());
                (&mut self.suffixes, suffix)
            }
            HostPattern::Exact(host) => (&mut self.exact, host),
        };
        table.insert(&key, matcher).map_err(|refused| match refused {
            Refused::Duplicate => HostPatternError::Duplicate,
            // Four GiB of host names do not fit into the 128 KB of a URL map, nor into memory.
            Refused::Full => HostPatternError::Length,
        })
    }

    /// The host rule for a `Host` or `:authority` as the client sent it, port included.
    ///
    /// Exact beats wildcard, the longest wildcard wins, `*` comes last; comparison ignores case
    /// (2.3, unconfirmed). A wildcard stands for one character at least, as in Envoy (unconfirmed).
    pub(crate) fn find(&self, host: &str) -> Option<(HostMatch<'_>, u32)> {
        // Only a host in capitals and longer than the buffer is copied to the heap.
        let mut buffer = [0u8; 256];
        let lower: Cow<'_, [u8]> = lower_case(host.as_bytes(), &mut buffer);
        self.find_lower(&lower)
    }

    fn find_lower(&self, host: &[u8]) -> Option<(HostMatch<'_>, u32)> {
        if let Some((pattern, matcher)) = self.exact.get(host) {
            return Some((HostMatch::Exact(pattern), matcher));
        }
        let longest = self.suffix_lengths.max();
        if longest > 0 {
            let first = host.len().saturating_sub(longest).max(1);
            for start in first..host.len() {
                let separator = matches!(host[start], b'-' | b'.');
                if separator
                    && self.suffix_lengths.contains(host.len() - start)
                    && let Some((suffix, matcher)) = self.suffixes.get(&host[start..])
                {
                    return Some((HostMatch::Suffix(suffix), matcher));
                }
            }
        }
        self.any.map(|matcher| (HostMatch::Any, matcher))
    }

    /// Every pattern, for near misses.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = HostMatch<'_>> {
        let exact = self.exact.iter().map(|(host, _)| HostMatch::Exact(host));
        let suffixes = self.suffixes.iter().map(|(suffix, _)| HostMatch::Suffix(suffix));
        exact.chain(suffixes).chain(self.any.map(|_| HostMatch::Any))
    }
}

/// `text` in lower case: itself where it has no capital, else a copy in `buffer` where that is
/// large enough.
pub(crate) fn lower_case<'a, const N: usize>(
    text: &'a [u8],
    buffer: &'a mut [u8; N],
) -> Cow<'a, [u8]> {
    if !text.iter().any(u8::is_ascii_uppercase) {
        return Cow::Borrowed(text);
    }
    match buffer.get_mut(..text.len()) {
        Some(copy) => {
            copy.copy_from_slice(text);
            copy.make_ascii_lowercase();
            Cow::Borrowed(copy)
        }
        None => Cow::Owned(text.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::{HostPattern, HostPatternError, HostTable};

    #[test]
    fn a_star_is_the_first_character_of_a_host_and_a_hyphen_or_dot_follows() {
        for good in ["*", "example.net", "*.example.net", "*-foo.example.net", "example.net:8080"] {
            assert!(HostPattern::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "*foo",
            "a.*.b",
            "a*",
            "example.net:",
            "*:8080",
            "a:080",
            "example.net:0",
            "exa mple",
            "*.",
            "a..b",
        ] {
            assert!(HostPattern::parse(bad).is_err(), "{bad}");
        }
    }

    fn table(patterns: &[&str]) -> HostTable {
        let mut table = HostTable::default();
        for (index, pattern) in (0u32..).zip(patterns) {
            table.insert(pattern, index).unwrap();
        }
        table
    }

    #[track_caller]
    fn check(patterns: &[&str], rows: &[(&str, Option<&str>)]) {
        let table = table(patterns);
        for (host, expected) in rows {
            let found = table.find(host).map(|(found, _)| found.to_string());
            assert_eq!(found.as_deref(), *expected, "{host}");
        }
    }

    #[test]
    fn exact_beats_the_longest_wildcard_suffix_which_beats_the_star() {
        check(
            &["*", "*.example.net", "*.b.example.net", "a.b.example.net", "*-foo.example.net"],
            &[
                ("a.b.example.net", Some("a.b.example.net")),
                ("c.b.example.net", Some("*.b.example.net")),
                ("c.d.example.net", Some("*.example.net")),
                ("x-foo.example.net", Some("*-foo.example.net")),
                ("x.y-foo.example.net", Some("*-foo.example.net")),
                ("example.net", Some("*")),
                ("", Some("*")),
            ],
        );
    }

    #[test]
    fn a_wildcard_stands_for_at_least_one_character() {
        check(&["*.example.net"], &[("example.net", None), (".example.net", None), ("", None)]);
    }

    #[test]
    fn the_port_in_host_matters() {
        check(
            &["example.net", "ports.net:8080", "*.wild.net:8443"],
            &[
                ("example.net", Some("example.net")),
                ("example.net:8080", None),
                ("example.net:443", None),
                ("ports.net:8080", Some("ports.net:8080")),
                ("ports.net", None),
                ("a.wild.net:8443", Some("*.wild.net:8443")),
                ("a.wild.net", None),
            ],
        );
    }

    #[test]
    fn comparison_ignores_case() {
        let long = format!("{}.Example.NET", "A".repeat(300));
        check(
            &["API.Example.net", "*.example.net"],
            &[
                ("api.EXAMPLE.net", Some("api.example.net")),
                ("X.example.net", Some("*.example.net")),
                (&long, Some("*.example.net")),
            ],
        );
    }

    #[test]
    fn patterns_that_google_refuses_are_refused() {
        let long = "a".repeat(256);
        let rows = [
            ("", HostPatternError::Length),
            (":80", HostPatternError::Length),
            (&long, HostPatternError::Length),
            ("a*.b", HostPatternError::WildcardNotFirst),
            ("**", HostPatternError::WildcardNotFirst),
            ("*a.b", HostPatternError::WildcardWithoutSeparator),
            ("*:80", HostPatternError::WildcardWithoutSeparator),
            ("a/b", HostPatternError::Character('/')),
            ("a b", HostPatternError::Character(' ')),
            ("a:", HostPatternError::Port),
            ("a:0", HostPatternError::Port),
            ("a:+80", HostPatternError::Port),
            ("a:99999", HostPatternError::Port),
            ("taken.net", HostPatternError::Duplicate),
            ("TAKEN.net", HostPatternError::Duplicate),
            ("*", HostPatternError::Duplicate),
            ("*.taken.net", HostPatternError::Duplicate),
        ];
        for (pattern, expected) in rows {
            let mut table = table(&["taken.net", "*.taken.net", "*"]);
            assert_eq!(table.insert(pattern, 9), Err(expected), "{pattern}");
        }
    }
}

//! Path rules (private-connectivity 2.4): exact paths, then the longest `/*` prefix, then the
//! matcher's default. The order in the file is of no meaning.

use crate::table::{Lengths, Refused, TextMap};

/// The longest path pattern (2.2).
const PATTERN_LENGTH_MAX: usize = 1024;

/// All path patterns of one path matcher.
#[derive(Clone, Debug, Default)]
pub(crate) struct PathTable {
    exact: TextMap,
    /// The pattern without its `*`: ends with `/`.
    prefixes: TextMap,
    prefix_lengths: Lengths,
}

/// Which path rule matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMatch<'s> {
    /// A pattern equal to the path.
    Exact(&'s str),
    /// The pattern `PREFIX*`; the text ends with `/`.
    Prefix(&'s str),
    /// No path rule: a default applies, whose matched prefix is `/`.
    Default,
}

/// Which part of a path has matched, for rewrites and redirects (2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    /// So many bytes at its beginning. The matched portion of the path rule `/a/*` is `/a/`.
    Prefix(usize),
    /// All of it.
    Whole,
    /// All of it, by the template of the n-th match rule.
    Template(usize),
    /// Nothing was asked: a default applies.
    Default,
}

impl PathMatch<'_> {
    pub(crate) fn matched(&self) -> Matched {
        match self {
            PathMatch::Exact(_) => Matched::Whole,
            PathMatch::Prefix(prefix) => Matched::Prefix(prefix.len()),
            PathMatch::Default => Matched::Default,
        }
    }
}

impl std::fmt::Display for PathMatch<'_> {
    /// As the load balancer's log writes `matched_url_path_rule`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PathMatch::Exact(path) => f.write_str(path),
            PathMatch::Prefix(prefix) => write!(f, "{prefix}*"),
            PathMatch::Default => f.write_str("UNMATCHED"),
        }
    }
}

/// Why a path pattern is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPatternError {
    /// The path matcher has it already.
    Duplicate,
    /// Empty, or longer than 1,024.
    Length,
    /// Does not begin with `/`.
    NoSlash,
    /// `*` stands elsewhere than at the end, right after `/`.
    Wildcard,
    /// Has `?` or `#`.
    QueryOrFragment,
}

impl std::fmt::Display for PathPatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PathPatternError::Duplicate => "is in the path matcher already",
            PathPatternError::Length => "has to have 1 to 1024 characters",
            PathPatternError::NoSlash => "has to begin with `/`",
            PathPatternError::Wildcard => "may have `*` only at its end, right after `/`",
            PathPatternError::QueryOrFragment => "may have neither `?` nor `#`",
        })
    }
}

/// A path pattern as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathPattern<'p> {
    /// A whole path.
    Exact(&'p str),
    /// What stands before the `*`: ends with `/`.
    Prefix(&'p str),
}

impl PathPattern<'_> {
    /// Reads a path of a path rule (2.4): begins with `/`; `*` only at its end, right after `/`;
    /// neither query nor fragment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(pattern: &str) -> Result<PathPattern<'_>, PathPatternError> {
        if pattern.is_empty() || pattern.len() > PATTERN_LENGTH_MAX {
            return Err(PathPatternError::Length);
        }
        if !pattern.starts_with('/') {
            return Err(PathPatternError::NoSlash);
        }
        if pattern.contains(['?', '#']) {
            return Err(PathPatternError::QueryOrFragment);
        }
        let prefix = pattern.strip_suffix('*');
        let literal = prefix.unwrap_or(pattern);
        if literal.contains('*') || prefix.is_some_and(|prefix| !prefix.ends_with('/')) {
            return Err(PathPatternError::Wildcard);
        }
        Ok(match prefix {
            Some(prefix) => PathPattern::Prefix(prefix),
            None => PathPattern::Exact(pattern),
        })
    }
}

impl PathTable {
    /// Adds a pattern as written.
    pub(crate) fn insert(&mut self, pattern: &str, rule: u32) -> Result<(), PathPatternError> {
        let (table, literal) = match PathPattern::parse(pattern)? {
            PathPattern::Prefix(prefix) => {
                self.prefix_lengths.insert(prefix.len());
                (&mut self.prefixes, prefix)
            }
            PathPattern::Exact(path) => (&mut self.exact, path),
        };
        table.insert(literal, rule).map_err(|refused| match refused {
            Refused::Duplicate => PathPatternError::Duplicate,
            Refused::Full => PathPatternError::Length,
        })
    }

    /// The path rule for a path without query. Case counts (2.4, unconfirmed); `/video/*` matches
    /// `/video/` (unconfirmed) and everything below it, not `/video`.
    pub(crate) fn find(&self, path: &str) -> Option<(PathMatch<'_>, u32)> {
        let path = path.as_bytes();
        if let Some((pattern, rule)) = self.exact.get(path) {
            return Some((PathMatch::Exact(pattern), rule));
        }
        let longest = self.prefix_lengths.max().min(path.len());
        for length in (1..=longest).rev() {
            if path[length - 1] == b'/'
                && self.prefix_lengths.contains(length)
                && let Some((prefix, rule)) = self.prefixes.get(&path[..length])
            {
                return Some((PathMatch::Prefix(prefix), rule));
            }
        }
        None
    }

    /// Every pattern, for near misses.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = PathMatch<'_>> {
        let exact = self.exact.iter().map(|(path, _)| PathMatch::Exact(path));
        exact.chain(self.prefixes.iter().map(|(prefix, _)| PathMatch::Prefix(prefix)))
    }

    /// Does the matcher have no rule at all?
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{PathPatternError, PathTable};

    #[track_caller]
    fn check(patterns: &[&str], rows: &[(&str, &str)]) {
        let mut table = PathTable::default();
        for pattern in patterns {
            table.insert(pattern, 0).unwrap();
        }
        for (path, expected) in rows {
            let found = table.find(path).map(|(found, _)| found.to_string());
            assert_eq!(found.as_deref().unwrap_or("UNMATCHED"), *expected, "{path}");
        }
    }

    #[test]
    fn the_worked_table_of_the_documentation_holds() {
        check(
            &["/video/hd", "/video/hd/*", "/video/sd", "/video/sd/*"],
            &[
                ("/video", "UNMATCHED"),
                ("/video/examples", "UNMATCHED"),
                ("/video/hd", "/video/hd"),
                ("/video/hd/movie1", "/video/hd/*"),
                ("/video/sd/", "/video/sd/*"),
                ("/video/sdx", "UNMATCHED"),
            ],
        );
    }

    #[test]
    fn exact_comes_first_then_the_longest_prefix() {
        check(
            &["/*", "/a/*", "/a/b/c/*", "/a/b/c/d"],
            &[
                ("/", "/*"),
                ("/a", "/*"),
                ("/a/", "/a/*"),
                ("/a/b/c", "/a/*"),
                ("/a/b/c/d", "/a/b/c/d"),
                ("/a/b/c/d/", "/a/b/c/*"),
                ("/A/b", "/*"),
                ("//a/b", "/*"),
                ("*", "UNMATCHED"),
                ("", "UNMATCHED"),
            ],
        );
    }

    #[test]
    fn patterns_that_google_refuses_are_refused() {
        let long = format!("/{}", "a".repeat(1024));
        let rows = [
            ("", PathPatternError::Length),
            (&long, PathPatternError::Length),
            ("a", PathPatternError::NoSlash),
            ("*", PathPatternError::NoSlash),
            ("/a*", PathPatternError::Wildcard),
            ("/*/a", PathPatternError::Wildcard),
            ("/a/**", PathPatternError::Wildcard),
            ("/a?b", PathPatternError::QueryOrFragment),
            ("/a#b", PathPatternError::QueryOrFragment),
            ("/taken", PathPatternError::Duplicate),
            ("/taken/*", PathPatternError::Duplicate),
        ];
        for (pattern, expected) in rows {
            let mut table = PathTable::default();
            table.insert("/taken", 0).unwrap();
            table.insert("/taken/*", 0).unwrap();
            assert_eq!(table.insert(pattern, 1), Err(expected), "{pattern}");
        }
    }
}

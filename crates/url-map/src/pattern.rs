//! Regular expressions of URL maps (private-connectivity 2.5): RE2, matched against the whole text.
//!
//! RE2 and the crate `regex` are of one family: no look-around, no back-references, linear time.
//! Where they differ:
//! * RE2's `\C`, `\Q…\E` and octal escapes are unknown to the crate and refused;
//! * the crate's flags `x`, `u` and `R` are unknown to RE2 and refused here;
//! * `\d`, `\w`, `\s` and `\b` know Unicode here and ASCII alone in RE2, which shows only where a
//!   request has bytes beyond ASCII;
//! * the crate's set operations inside brackets (`[a&&b]`) and repeated repetitions (`a**`) are taken,
//!   though RE2 reads the former literally and refuses the latter.

use regex::bytes::{Captures, Regex, RegexBuilder};
use std::fmt;

/// A compiled pattern may be so large, in bytes.
const SIZE_MAX: usize = 1 << 20;

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    whole: Regex,
}

/// Why a regular expression is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    let error = |error: regex::Error| {
        // The last line says what is wrong; those before it draw where.
        let text = error.to_string();
        PatternError(text.lines().last().unwrap_or_default().trim_start_matches("error: ").into())
    };
    RegexBuilder::new(text).size_limit(SIZE_MAX).build().map_err(error)
}

/// A flag that RE2 does not have, such as `(?x)`.
fn foreign_flag(text: &str) -> Option<char> {
    let mut rest = text;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..)?,
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && rest.starts_with('?') && !rest.starts_with("?P") => {
                let flags = rest[1..].chars().take_while(|c| c.is_ascii_alphabetic() || *c == '-');
                let foreign = flags.into_iter().find(|flag| matches!(flag, 'x' | 'u' | 'R'));
                if foreign.is_some() {
                    return foreign;
                }
            }
            _ => {}
        }
    }
    None
}

impl Pattern {
    /// Reads a pattern that has to match a whole text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if let Some(flag) = foreign_flag(text) {
            return Err(PatternError(format!("RE2 has no flag `{flag}`")));
        }
        // Alone first, so that nothing in it can close the group that is put around it.
        compile(text)?;
        let whole = compile(&format!(r"\A(?:{text})\z"))?;
        Ok(Pattern { text: text.into(), whole })
    }

    /// Does the whole text match?
    pub fn matches(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// `regexRewrite` (2.6): every match is replaced, as RE2's `GlobalReplace` does it.
#[derive(Clone, Debug)]
pub struct Substitution {
    pattern: Regex,
    pieces: Vec<Piece>,
    /// Pattern and substitution as written.
    text: (Box<str>, Box<str>),
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Substitution {
    /// Reads pattern and substitution, in which `\1` stands for the first group, `\0` for the whole
    /// match and `\\` for a backslash.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn parse(pattern: &str, substitution: &str) -> Result<Substitution, PatternError> {
        Pattern::parse(pattern)?;
        let text = (pattern.into(), substitution.into());
        let pattern = compile(pattern)?;
        let mut pieces = vec![];
        let mut plain = String::new();
        let mut chars = substitution.chars();
        while let Some(c) = chars.next() {
            match (c, c == '\\') {
                (_, false) => plain.push(c),
                _ => match chars.next() {
                    Some('\\') => plain.push('\\'),
                    Some(digit) if digit.is_ascii_digit() => {
                        let group = digit as usize - '0' as usize;
                        if group >= pattern.captures_len() {
                            return Err(PatternError(format!("there is no group {group}")));
                        }
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                        pieces.push(Piece::Group(group));
                    }
                    _ => {
                        let what = "a backslash stands before a digit or another backslash";
                        return Err(PatternError(what.to_owned()));
                    }
                },
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Substitution { pattern, pieces, text })
    }

    /// The text with its matches replaced. What is no UTF-8 any more, which only a pattern that
    /// looks at single bytes could make, stays as it was.
    pub fn apply(&self, text: &str) -> String {
        let replace = |captures: &Captures<'_>| {
            let mut out = Vec::new();
            for piece in &self.pieces {
                match piece {
                    Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                    Piece::Group(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(b"", |m| m.as_bytes()))
                    }
                }
            }
            out
        };
        let replaced = self.pattern.replace_all(text.as_bytes(), replace).into_owned();
        String::from_utf8(replaced).unwrap_or_else(|_| text.to_owned())
    }

    /// Pattern and substitution as written.
    pub fn as_written(&self) -> (&str, &str) {
        (&self.text.0, &self.text.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text() {
        let matches = |pattern: &str, text: &str| {
            Pattern::parse(pattern).expect("a pattern").matches(text.as_bytes())
        };
        assert!(matches("/videos/hd.*", "/videos/hd-abcd"));
        assert!(!matches("/videos/hd", "/videos/hd-abcd"));
        assert!(matches("a|ab", "ab") && matches(".*Android.*-hd", "x Android 9-hd"));
        assert!(!matches("a|b", "xa") && !matches("a$|^b", "ab"));
    }

    #[test]
    fn what_re2_lacks_is_refused() {
        for pattern in ["(", "a)|(b", "(?x)a #", "(?=a)", r"(a)\1", "a{1000}{1000}", "(?ux)a"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
        for pattern in ["(?i)a", "(?P<x>a)", "[a-z]{2,5}", r"a\(?x", "[(?x]"] {
            assert!(Pattern::parse(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn a_substitution_replaces_every_match_with_groups() {
        let apply = |pattern: &str, to: &str, text: &str| {
            Substitution::parse(pattern, to).expect("a substitution").apply(text)
        };
        assert_eq!(apply("/v1/(.*)", r"/v2/\1", "/v1/a/b"), "/v2/a/b");
        assert_eq!(apply("o", "0", "/foo/o"), "/f00/0");
        assert_eq!(apply("(a)(b)?", r"[\0\2\\]", "/ab/a"), r"/[abb\]/[a\]");
        assert!(
            Substitution::parse("a", r"\1").is_err() && Substitution::parse("a", r"\x").is_err()
        );
    }
}

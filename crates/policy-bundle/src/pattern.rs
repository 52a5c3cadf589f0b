//! The three kinds of pattern: globs, path patterns and Java regular expressions (4.1, 4.3).

use regex::{Regex, RegexBuilder};

/// A bound on what one regular expression may cost when compiled, in bytes.
const REGEX_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A glob (`Matches`): `*` is any run of characters, `/` included; everything else is literal,
/// `?` too (unconfirmed). The whole text must match, with case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pieces: Vec<String>,
}

impl Glob {
    /// Every text is some glob.
    pub fn new(pattern: &str) -> Glob {
        Glob { pieces: pattern.split('*').map(String::from).collect() }
    }

    /// Does the whole text match?
    pub fn matches(&self, text: &str) -> bool {
        let (first, rest) = match self.pieces.split_first() {
            None => return text.is_empty(),
            Some((only, [])) => return text == only,
            Some(split) => split,
        };
        let Some(mut text) = text.strip_prefix(first.as_str()) else { return false };
        let (last, middle) = rest.split_last().expect("rest is not empty: matched above");
        for piece in middle {
            match text.find(piece.as_str()) {
                Some(at) => text = &text[at + piece.len()..],
                None => return false,
            }
        }
        text.ends_with(last.as_str())
    }
}

/// A path pattern (`MatchesPath`, 4.3): `*` and `{name}` are exactly one segment, `**` any number
/// of segments, `%` escapes the character after it. With case; a trailing `/` counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(String),
    One,
    Any,
    /// A segment with `*` or `{name}` inside: literal pieces around runs of characters.
    Partial(Glob),
}

impl PathPattern {
    /// Every text is some path pattern.
    pub fn new(pattern: &str) -> PathPattern {
        PathPattern { segments: pattern.split('/').map(segment).collect() }
    }

    /// Does the whole path match? The query is no part of a path.
    pub fn matches(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        // The classic two-pointer match: only the last `**` has to be remembered, so the cost is
        // at most segments times parts, whatever strangers send.
        let (mut s, mut p) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        loop {
            match self.segments.get(s) {
                Some(Segment::Any) => {
                    back = Some((s + 1, p));
                    s += 1;
                    continue;
                }
                Some(segment) if p < parts.len() && matches_segment(segment, parts[p]) => {
                    s += 1;
                    p += 1;
                    continue;
                }
                None if p == parts.len() => return true,
                _ => {}
            }
            match back {
                Some((after, from)) if from < parts.len() => {
                    back = Some((after, from + 1));
                    s = after;
                    p = from + 1;
                }
                _ => return false,
            }
        }
    }
}

fn matches_segment(segment: &Segment, part: &str) -> bool {
    match segment {
        Segment::Literal(text) => text == part,
        Segment::One => !part.is_empty(),
        Segment::Any => true,
        Segment::Partial(glob) => glob.matches(part),
    }
}

fn segment(text: &str) -> Segment {
    match text {
        "*" => return Segment::One,
        "**" => return Segment::Any,
        _ => {}
    }
    let mut pieces = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut whole = false;
    while let Some(c) = chars.next() {
        match c {
            '%' => {
                let literal = chars.next().unwrap_or('%');
                pieces.last_mut().expect("never empty").push(literal);
            }
            '*' => {
                while chars.peek() == Some(&'*') {
                    chars.next();
                }
                pieces.push(String::new());
            }
            '{' if chars.clone().any(|c| c == '}') => {
                for c in chars.by_ref() {
                    if c == '}' {
                        break;
                    }
                }
                whole = true;
                pieces.push(String::new());
            }
            c => pieces.last_mut().expect("never empty").push(c),
        }
    }
    if pieces.len() == 1 {
        Segment::Literal(pieces.remove(0))
    } else if whole && pieces.iter().all(String::is_empty) {
        Segment::One
    } else {
        Segment::Partial(Glob { pieces })
    }
}

/// A Java regular expression as the `regex` crate runs it: without look-around, back-references
/// and possessive quantifiers, which are refused, so matching takes linear time.
#[derive(Clone, Debug)]
pub struct JavaRegex {
    source: String,
    regex: Regex,
}

impl PartialEq for JavaRegex {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl JavaRegex {
    /// A pattern that must match the whole text (`JavaRegex`, `~~`).
    ///
    /// # Errors
    /// The pattern is malformed, or uses what is named above.
    pub fn whole(pattern: &str) -> Result<JavaRegex, String> {
        JavaRegex::build(pattern, format!(r"\A(?:{})\z", translate(pattern)?))
    }

    /// A pattern that is looked for in a text (`replaceAll`).
    ///
    /// # Errors
    /// See [`JavaRegex::whole`].
    pub fn find(pattern: &str) -> Result<JavaRegex, String> {
        JavaRegex::build(pattern, translate(pattern)?)
    }

    fn build(pattern: &str, translated: String) -> Result<JavaRegex, String> {
        let regex = RegexBuilder::new(&translated)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                other => {
                    let text = other.to_string();
                    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
                }
            })?;
        Ok(JavaRegex { source: pattern.to_owned(), regex })
    }

    /// Does it match?
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// `Matcher.replaceAll` and `replaceFirst`: `$1` and `${name}` are groups, `\` escapes.
    pub fn replace(&self, text: &str, replacement: &str, all: bool) -> String {
        let replacement = java_replacement(replacement);
        let replaced = if all {
            self.regex.replace_all(text, replacement.as_str())
        } else {
            self.regex.replace(text, replacement.as_str())
        };
        replaced.into_owned()
    }

    /// The pattern as written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Java's replacement syntax as the `regex` crate's.
fn java_replacement(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('$') => out.push_str("$$"),
                Some(other) => out.push(other),
                None => {}
            },
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                let digit = chars.next().unwrap_or('0');
                out.push_str("${");
                out.push(digit);
                out.push('}');
            }
            '$' if chars.peek() == Some(&'{') => out.push('$'),
            '$' => out.push_str("$$"),
            other => out.push(other),
        }
    }
    out
}

/// Java's classes are ASCII, its `.` stops at every line end, and `\Q…\E` quotes.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut class = 0u32;
    let dot_all = pattern.contains("(?s") || pattern.contains("(?ms") || pattern.contains("(?is");
    let mut quantified = false;
    while let Some(c) = chars.next() {
        let quantifies = class == 0 && matches!(c, '*' | '+' | '?' | '}');
        if quantified && c == '+' && class == 0 {
            return Err("possessive quantifiers are not supported".to_owned());
        }
        quantified = quantifies && !quantified;
        match c {
            '\\' => {
                let Some(escaped) = chars.next() else {
                    return Err("it ends in a backslash".to_owned());
                };
                match escaped {
                    'Q' => quote(&mut chars, &mut out),
                    'E' => {}
                    'd' => out.push_str("[0-9]"),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str("[a-zA-Z0-9_]"),
                    'W' => out.push_str("[^a-zA-Z0-9_]"),
                    's' => out.push_str(r"[ \t\n\x0B\f\r]"),
                    'S' => out.push_str(r"[^ \t\n\x0B\f\r]"),
                    'h' => out
                        .push_str(r"[ \t\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]"),
                    'R' if class == 0 => {
                        out.push_str(r"(?:\r\n|[\n\x0B\f\r\x{85}\x{2028}\x{2029}])")
                    }
                    'Z' if class == 0 => out.push_str(r"(?:\n|\r\n)?\z"),
                    'e' => out.push_str(r"\x1B"),
                    'p' | 'P' if chars.peek() == Some(&'{') => {
                        property(escaped, &mut chars, &mut out);
                    }
                    '1'..='9' if class == 0 => {
                        return Err("back-references are not supported".to_owned());
                    }
                    'k' => return Err("back-references are not supported".to_owned()),
                    'G' => return Err("`\\G` is not supported".to_owned()),
                    other => {
                        out.push('\\');
                        out.push(other);
                    }
                }
            }
            '[' => {
                class += 1;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str("\\]");
                }
            }
            ']' if class > 0 => {
                class -= 1;
                out.push(']');
            }
            ']' => out.push_str("\\]"),
            // The regex crate also knows `--` and `~~` inside classes; Java takes them literally.
            '-' if class > 0 && chars.peek() == Some(&'-') => out.push_str("\\-"),
            '~' if class > 0 => out.push_str("\\~"),
            '.' if class == 0 && !dot_all => out.push_str(r"[^\n\r\x{85}\x{2028}\x{2029}]"),
            '(' if class == 0 && chars.peek() == Some(&'?') => {
                let rest: String = chars.clone().take(3).collect();
                if ["?=", "?!", "?<=", "?<!"].iter().any(|look| rest.starts_with(look)) {
                    return Err("look-around is not supported".to_owned());
                }
                if rest.starts_with("?>") {
                    return Err("atomic groups are not supported".to_owned());
                }
                out.push('(');
            }
            // `{` that begins no quantifier is an error in Java; the regex crate says so too.
            other => out.push(other),
        }
    }
    Ok(out)
}

fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut quoted = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        quoted.push(c);
    }
    out.push_str(&regex::escape(&quoted));
}

fn property(kind: char, chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut name = String::new();
    for c in chars.by_ref() {
        if c == '}' {
            break;
        }
        if c != '{' {
            name.push(c);
        }
    }
    let ascii = match name.as_str() {
        "Lower" => "lower",
        "Upper" => "upper",
        "ASCII" => "ascii",
        "Alpha" => "alpha",
        "Digit" => "digit",
        "Alnum" => "alnum",
        "Punct" => "punct",
        "Graph" => "graph",
        "Print" => "print",
        "Blank" => "blank",
        "Cntrl" => "cntrl",
        "XDigit" => "xdigit",
        "Space" => "space",
        _ => {
            let name = name.strip_prefix("Is").unwrap_or(&name);
            out.push_str(&format!("\\{kind}{{{name}}}"));
            return;
        }
    };
    let not = if kind == 'P' { "^" } else { "" };
    out.push_str(&format!("[[:{not}{ascii}:]]"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_glob_is_any_run_of_characters_with_slashes() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*/ER", "/Be/ER", true),
            ("a*c", "abc", true),
            ("a*c", "a/b/c", true),
            ("a*c", "abcd", false),
            ("a*b*c", "acb", false),
            ("a*b*c", "axbxc", true),
            ("ab", "AB", false),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            ("w*", "xw", false),
            ("aba*aba", "aba", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn path_patterns_match_as_documented() {
        for (pattern, path, expected) in [
            ("/*", "/a", true),
            ("/*", "/a/b", false),
            ("/*", "", false),
            ("/*", "/", false),
            ("/**", "/a", true),
            ("/**", "/a/b", true),
            ("/**", "/", true),
            ("/*/a/", "/x/a/", true),
            ("/*/a/", "/x/a", false),
            ("/*/a/*", "/x/a/b", true),
            ("/*/a/**", "/x/a/b/c", true),
            ("/*/a/**", "/x/a/b/c/d", true),
            ("/*/a/**", "/a/b", false),
            ("/a/**/feed/**", "/a/b/feed/rss/1", true),
            ("/a/**/feed/**", "/a/b/feed/rss/1234", true),
            ("/a/**/feed/**", "/a/b", false),
            ("/*/a/*/feed/", "/x/a/b/feed/", true),
            ("/*/a/*/feed/", "/x/a/b/feed", false),
            ("/*/a/{reader}/feed/", "/y/a/foo/feed/", true),
            ("/orders/{orderId}", "/orders/1", true),
            ("/orders/{orderId}", "/orders/1/2", false),
            ("/orders/{orderId}", "/orders/", false),
            ("%{user%}", "{user}", true),
            ("%{user%}", "user", false),
            ("/Login", "/login", false),
            ("/x", "/x/", false),
            ("/v*/x", "/v1/x", true),
            ("/**/**/z", "/a/b/c/z", true),
        ] {
            assert_eq!(PathPattern::new(pattern).matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_java_regex_matches_the_whole_text() {
        for (pattern, text, expected) in [
            ("[0-9][0-9]", "42", true),
            ("[0-9][0-9]", "421", false),
            ("a.c", "a\u{2028}c", false),
            (r"\d+", "٣", false),
            (r"\w+", "é", false),
            (r"\Qa.c\E", "abc", false),
            (r"\Qa.c\E!", "a.c!", true),
            (r"(text|application)\/(xml|([a-z]*\+xml))(;(\s*)(\w)*=(\S*))?", "text/xml; q=1", true),
            (r"\p{Alpha}+", "abc", true),
            (r"\p{Upper}[^\p{Upper}]", "Ab", true),
            ("[]a]+", "]a", true),
            ("[a-z&&[^b]]+", "abc", false),
            ("a{2,3}?", "aaa", true),
            ("(?i)abc", "ABC", true),
            ("a|b", "ab", false),
        ] {
            let regex = JavaRegex::whole(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(regex.is_match(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn what_java_has_and_we_have_not_is_refused_by_name() {
        for (pattern, what) in [
            ("(?=a)b", "look-around"),
            ("(?<!a)b", "look-around"),
            (r"(a)\1", "back-references"),
            ("a++", "possessive"),
            ("(?>a)", "atomic"),
            ("a{1000000}", "too large"),
        ] {
            let error = JavaRegex::whole(pattern).expect_err(pattern);
            assert!(error.contains(what), "{pattern}: {error}");
        }
    }

    #[test]
    fn replacements_are_java_replacements() {
        let regex = JavaRegex::find("(a)(b)").expect("a good pattern");
        assert_eq!(regex.replace("ab ab", "$2$1x", true), "bax bax");
        assert_eq!(regex.replace("ab ab", r"\$1", false), "$1 ab");
    }

    proptest! {
        #[test]
        fn a_glob_agrees_with_the_regex_it_means(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let meant = format!("^{}$", pattern.replace('*', ".*"));
            let meant = Regex::new(&meant).expect("letters and .*").is_match(&text);
            prop_assert_eq!(Glob::new(&pattern).matches(&text), meant);
        }

        #[test]
        fn a_path_pattern_agrees_with_the_naive_match(
            pattern in prop::collection::vec("a|b|\\*|\\*\\*", 0..6),
            path in prop::collection::vec("a|b|c", 0..6),
        ) {
            fn naive(pattern: &[String], path: &[String]) -> bool {
                match (pattern.split_first(), path.split_first()) {
                    (None, None) => true,
                    (Some((p, rest)), _) if p == "**" =>
                        (0..=path.len()).any(|n| naive(rest, &path[n..])),
                    (Some((p, rest)), Some((s, more))) if p == "*" || p == s => naive(rest, more),
                    _ => false,
                }
            }
            let joined = |parts: &[String]| parts.iter().map(|p| format!("/{p}")).collect::<String>();
            let compiled = PathPattern::new(&joined(&pattern)).matches(&joined(&path));
            prop_assert_eq!(compiled, naive(&pattern, &path));
        }
    }
}

//! The match rules of route rules (private-connectivity 2.5): path, headers, query parameters.

use crate::pattern::{Pattern, PatternError};
use crate::request::RequestHead;
use crate::template::{PathTemplate, TemplateError};
use http::HeaderName;
use slice::load_balancer as raw;
use std::fmt;

/// A compiled match rule: all of it must match.
#[derive(Clone, Debug)]
pub struct MatchRule {
    pub(crate) path: PathTest,
    headers: Vec<HeaderTest>,
    query: Vec<QueryTest>,
}

/// What a match rule says of the path.
#[derive(Clone, Debug)]
pub enum PathTest {
    /// The path begins with this text; `true`: in any case.
    Prefix(Box<str>, bool),
    /// The path is this text; `true`: in any case.
    Full(Box<str>, bool),
    /// The whole path matches.
    Regex(Pattern),
    /// The path matches the template.
    Template(PathTemplate),
}

/// What a match rule says of a header.
#[derive(Clone, Debug)]
pub struct HeaderTest {
    /// As written.
    pub(crate) written: Box<str>,
    source: Source,
    pub(crate) test: ValueTest,
    pub(crate) invert: bool,
}

/// Where the value of a header match comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Header(HeaderName),
    /// `:authority`, and `host`, which says the same.
    Authority,
    /// `:method`
    Method,
    /// `PORT`: the port in `Host`, where there is one.
    Port,
}

/// What a match rule says of a query parameter.
#[derive(Clone, Debug)]
pub struct QueryTest {
    pub(crate) name: Box<str>,
    pub(crate) test: ValueTest,
}

/// What is said of a value.
#[derive(Clone, Debug)]
pub(crate) enum ValueTest {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Regex(Pattern),
    Present(bool),
    /// From, to below.
    Range(i64, i64),
}

/// Why a match rule is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MatchError {
    /// The path of a prefix or full match does not begin with `/`.
    NoSlash(String),
    /// A regular expression, and what is wrong with it.
    Pattern(String, PatternError),
    /// A path template, and what is wrong with it.
    Template(String, TemplateError),
    /// A header name that is none.
    HeaderName(String),
    /// `ignoreCase` with something other than a prefix or a full match.
    IgnoreCase,
    /// A range that holds no number.
    EmptyRange(i64, i64),
}

impl fmt::Display for MatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MatchError::NoSlash(path) => write!(f, "path `{path}` has to begin with `/`"),
            MatchError::Pattern(text, why) => write!(f, "regular expression `{text}`: {why}"),
            MatchError::Template(text, why) => write!(f, "path template `{text}` {why}"),
            MatchError::HeaderName(name) => write!(
                f,
                "`{name}` is no header name; `:authority`, `:method` and `PORT` are possible besides"
            ),
            MatchError::IgnoreCase => {
                f.write_str("ignoreCase is for prefixMatch and fullPathMatch")
            }
            MatchError::EmptyRange(start, end) => {
                write!(f, "the range [{start},{end}) holds no number")
            }
        }
    }
}

/// The first thing of a match rule that a request does not fulfil.
#[derive(Clone, Copy, Debug)]
pub enum Failed<'s> {
    /// The path.
    Path(&'s PathTest),
    /// A header.
    Header(&'s HeaderTest),
    /// A query parameter.
    Query(&'s QueryTest),
}

fn pattern(text: &str) -> Result<Pattern, MatchError> {
    Pattern::parse(text).map_err(|why| MatchError::Pattern(text.to_owned(), why))
}

impl MatchRule {
    /// Compiles a match rule.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(rule: &raw::MatchRule) -> Result<MatchRule, MatchError> {
        Ok(MatchRule {
            path: PathTest::parse(&rule.path, rule.ignore_case)?,
            headers: rule.header_matches.iter().map(HeaderTest::parse).collect::<Result<_, _>>()?,
            query: rule
                .query_parameter_matches
                .iter()
                .map(QueryTest::parse)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The first thing that the request does not fulfil; none: the rule matches. Path, headers,
    /// query parameters, in this order.
    pub(crate) fn failed<'s>(&'s self, head: &RequestHead<'_>) -> Option<Failed<'s>> {
        if !self.path.matches(head.path) {
            return Some(Failed::Path(&self.path));
        }
        let header = self.headers.iter().find(|one| !one.matches(head));
        if let Some(header) = header {
            return Some(Failed::Header(header));
        }
        self.query.iter().find(|one| !one.matches(head.query)).map(Failed::Query)
    }
}

impl PathTest {
    /// Compiles a path predicate.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(path: &raw::PathPredicate, ignore_case: bool) -> Result<PathTest, MatchError> {
        use raw::PathPredicate as Raw;
        let slash = |text: &str| match text.starts_with('/') {
            true => Ok(text.into()),
            false => Err(MatchError::NoSlash(text.to_owned())),
        };
        match path {
            Raw::PrefixMatch(text) => Ok(PathTest::Prefix(slash(text)?, ignore_case)),
            Raw::FullPathMatch(text) => Ok(PathTest::Full(slash(text)?, ignore_case)),
            _ if ignore_case => Err(MatchError::IgnoreCase),
            Raw::RegexMatch(text) => Ok(PathTest::Regex(pattern(text)?)),
            Raw::PathTemplateMatch(text) => PathTemplate::parse(text)
                .map(PathTest::Template)
                .map_err(|why| MatchError::Template(text.clone(), why)),
        }
    }

    /// Does a path without query match?
    pub fn matches(&self, path: &str) -> bool {
        match self {
            PathTest::Prefix(text, false) => path.starts_with(&**text),
            PathTest::Prefix(text, true) => path
                .as_bytes()
                .get(..text.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(text.as_bytes())),
            PathTest::Full(text, false) => path == &**text,
            PathTest::Full(text, true) => path.eq_ignore_ascii_case(text),
            PathTest::Regex(pattern) => pattern.matches(path.as_bytes()),
            PathTest::Template(template) => template.matches(path),
        }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        match self {
            PathTest::Prefix(text, _) | PathTest::Full(text, _) => text,
            PathTest::Regex(pattern) => pattern.as_str(),
            PathTest::Template(template) => template.as_str(),
        }
    }

    /// The field of the match rule.
    pub fn field(&self) -> &'static str {
        match self {
            PathTest::Prefix(..) => "prefixMatch",
            PathTest::Full(..) => "fullPathMatch",
            PathTest::Regex(_) => "regexMatch",
            PathTest::Template(_) => "pathTemplateMatch",
        }
    }
}

impl HeaderTest {
    /// Compiles a header match.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(header: &raw::HeaderMatch) -> Result<HeaderTest, MatchError> {
        use raw::HeaderPredicate as Raw;
        let name = &header.header_name;
        let source = match name.as_str() {
            ":authority" => Source::Authority,
            ":method" => Source::Method,
            "PORT" => Source::Port,
            other if other.eq_ignore_ascii_case("host") => Source::Authority,
            other => Source::Header(
                HeaderName::from_bytes(other.as_bytes())
                    .map_err(|_| MatchError::HeaderName(other.to_owned()))?,
            ),
        };
        let test = match &header.value {
            Raw::ExactMatch(text) => ValueTest::Exact(text.as_str().into()),
            Raw::PrefixMatch(text) => ValueTest::Prefix(text.as_str().into()),
            Raw::SuffixMatch(text) => ValueTest::Suffix(text.as_str().into()),
            Raw::RegexMatch(text) => ValueTest::Regex(pattern(text)?),
            Raw::PresentMatch(present) => ValueTest::Present(*present),
            Raw::RangeMatch { start, end } if start >= end => {
                return Err(MatchError::EmptyRange(*start, *end));
            }
            Raw::RangeMatch { start, end } => ValueTest::Range(*start, *end),
        };
        Ok(HeaderTest { written: name.as_str().into(), source, test, invert: header.invert_match })
    }

    /// `invertMatch` negates the whole sentence: "considered a match if the match criteria are NOT
    /// met", so that a header that is not there fulfils every inverted match but its own absence.
    /// Of several lines of one name each is a value of its own, and one that fits is enough, as in
    /// Envoy since 1.39 ((unconfirmed) both).
    fn matches(&self, head: &RequestHead<'_>) -> bool {
        let mut values = self.values(head);
        let met = match &self.test {
            ValueTest::Present(present) => values.next().is_some() == *present,
            test => values.any(|value| test.matches(value)),
        };
        met != self.invert
    }

    fn values<'r>(&self, head: &RequestHead<'r>) -> impl Iterator<Item = &'r [u8]> {
        let (one, many) = match &self.source {
            Source::Header(name) => (None, Some(head.headers.get_all(name).into_iter())),
            Source::Authority => (Some(head.host).filter(|host| !host.is_empty()), None),
            Source::Method => (Some(head.method), None),
            Source::Port => (port_of(head.host), None),
        };
        let many = many.into_iter().flatten().map(|value| value.as_bytes());
        one.map(str::as_bytes).into_iter().chain(many)
    }

    /// What the request has for it, for people.
    pub(crate) fn shown(&self, head: &RequestHead<'_>) -> Option<String> {
        let values: Vec<_> = self.values(head).map(String::from_utf8_lossy).collect();
        (!values.is_empty()).then(|| values.join("`, `"))
    }
}

/// The port of a `Host`.
fn port_of(host: &str) -> Option<&str> {
    let (name, port) = host.rsplit_once(':')?;
    let whole = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    (whole && (!name.contains(':') || name.ends_with(']'))).then_some(port)
}

impl QueryTest {
    /// Compiles a query-parameter match.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(query: &raw::QueryParameterMatch) -> Result<QueryTest, MatchError> {
        use raw::QueryPredicate as Raw;
        let test = match &query.value {
            Raw::ExactMatch(text) => ValueTest::Exact(text.as_str().into()),
            Raw::RegexMatch(text) => ValueTest::Regex(pattern(text)?),
            Raw::PresentMatch(present) => ValueTest::Present(*present),
        };
        Ok(QueryTest { name: query.name.as_str().into(), test })
    }

    fn matches(&self, query: Option<&str>) -> bool {
        let value = self.value(query);
        match &self.test {
            ValueTest::Present(present) => value.is_some() == *present,
            test => value.is_some_and(|value| test.matches(value.as_bytes())),
        }
    }

    /// The first parameter of the name counts; nothing is percent-decoded, as in Envoy's routes
    /// ((unconfirmed) both).
    pub(crate) fn value<'r>(&self, query: Option<&'r str>) -> Option<&'r str> {
        query?.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*name == *self.name).then_some(value)
        })
    }
}

impl ValueTest {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            ValueTest::Exact(text) => value == text.as_bytes(),
            ValueTest::Prefix(text) => value.starts_with(text.as_bytes()),
            ValueTest::Suffix(text) => value.ends_with(text.as_bytes()),
            ValueTest::Regex(pattern) => pattern.matches(value),
            ValueTest::Present(present) => *present,
            ValueTest::Range(start, end) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.trim().parse::<i64>().ok())
                .is_some_and(|number| *start <= number && number < *end),
        }
    }
}

impl fmt::Display for ValueTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueTest::Exact(text) => write!(f, "exactMatch `{text}`"),
            ValueTest::Prefix(text) => write!(f, "prefixMatch `{text}`"),
            ValueTest::Suffix(text) => write!(f, "suffixMatch `{text}`"),
            ValueTest::Regex(pattern) => write!(f, "regexMatch `{}`", pattern.as_str()),
            ValueTest::Present(present) => write!(f, "presentMatch {present}"),
            ValueTest::Range(start, end) => write!(f, "rangeMatch [{start},{end})"),
        }
    }
}

impl fmt::Display for PathTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.field(), self.as_str())?;
        match self {
            PathTest::Prefix(_, true) | PathTest::Full(_, true) => f.write_str(" ignoring case"),
            _ => Ok(()),
        }
    }
}

//! Why a predicate of a match rule fails, as a sentence. For people, after the fact.

use crate::predicate::{Failed, HeaderTest, PathTest, QueryTest, ValueTest};
use crate::request::RequestHead;

impl Failed<'_> {
    /// What the request has, and what it should have: "header x-env is `dev`, not `prod`".
    pub(crate) fn why(&self, head: &RequestHead<'_>) -> String {
        match self {
            Failed::Path(test) => path(test, head.path),
            Failed::Header(test) => header(test, head),
            Failed::Query(test) => query(test, head),
        }
    }
}

fn path(test: &PathTest, path: &str) -> String {
    let text = test.as_str();
    let case = match test {
        PathTest::Prefix(_, true) | PathTest::Full(_, true) => " in any case",
        PathTest::Prefix(_, false) | PathTest::Full(_, false)
            if path.len() >= text.len()
                && path.as_bytes()[..text.len()].eq_ignore_ascii_case(text.as_bytes()) =>
        {
            "; capitals count"
        }
        _ => "",
    };
    match test {
        PathTest::Prefix(..) => format!("path `{path}` does not begin with `{text}`{case}"),
        PathTest::Full(..) if path.strip_prefix(text).is_some() => {
            format!("path `{path}` goes on after `{text}`")
        }
        PathTest::Full(..) => format!("path `{path}` is not `{text}`{case}"),
        PathTest::Regex(_) => format!("path `{path}` does not match all of `{text}`"),
        PathTest::Template(_) => format!("path `{path}` does not match the template `{text}`"),
    }
}

fn header(test: &HeaderTest, head: &RequestHead<'_>) -> String {
    let what = match test.written.starts_with(':') || &*test.written == "PORT" {
        true => test.written.to_string(),
        false => format!("header {}", test.written),
    };
    match (test.shown(head), test.invert) {
        (None, false) if !matches!(test.test, ValueTest::Present(_)) => {
            format!("{what} is missing, {}", wanted(&test.test))
        }
        (None, _) => format!("{what} is missing"),
        (Some(value), false) => format!("{what} is `{value}`, {}", wanted(&test.test)),
        (Some(value), true) => {
            format!("{what} is `{value}`, which invertMatch excludes ({})", test.test)
        }
    }
}

fn query(test: &QueryTest, head: &RequestHead<'_>) -> String {
    let name = &test.name;
    match (test.value(head.query), &test.test) {
        (None, ValueTest::Present(_)) => format!("query parameter {name} is missing"),
        (None, test) => format!("query parameter {name} is missing, {}", wanted(test)),
        (Some(value), test) => format!("query parameter {name} is `{value}`, {}", wanted(test)),
    }
}

/// What it is not, after "is `dev`, ".
fn wanted(test: &ValueTest) -> String {
    match test {
        ValueTest::Exact(text) => format!("not `{text}`"),
        ValueTest::Prefix(text) => format!("not `{text}…`"),
        ValueTest::Suffix(text) => format!("not `…{text}`"),
        ValueTest::Regex(pattern) => format!("not all of `{}`", pattern.as_str()),
        ValueTest::Present(_) => "and has to be absent".to_owned(),
        ValueTest::Range(start, end) => format!("not an integer from {start} to below {end}"),
    }
}

//! The small alphabets that cases are made of.

use slice::load_balancer::RetryCondition;

/// Backend services of a case: `b0` to `b5`.
pub(crate) const SERVICES: usize = 6;
pub(crate) const HOSTS: &[&str] = &[
    "a.b", "b", "a.a.b", "B.a", "*.b", "*.a.b", "*-a.b", "*", "*.a", "a.b:80", "*.b:8080", "A.a.b",
    "a-a.b", "*.B.a",
];
pub(crate) const ASKED_HOSTS: &[&str] = &[
    "a.b", "A.b", "b", "a.a.b", "b.a", "x.b", "a-a.b", "x-a.b", "x.a.b", "x.x.a.b", "a.b:80",
    "a.b:8080", "x.b.a", "y",
];
pub(crate) const PATHS: &[&str] = &[
    "/", "/*", "/a", "/a/*", "/a/", "/a/b", "/a/b/*", "/ab", "/ab/*", "/A", "/b/*", "/b/a",
    "/a/a/*", "/b/a/b",
];
pub(crate) const ASKED_PATHS: &[&str] = &[
    "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/a", "/ab", "/ab/a", "/A", "/A/b", "/b", "/b/a",
    "/b/a/b", "/a/a/a", "//a", "/a//b", "/a%2Fb", "/ab.html", "/b/ab/a", "/a/*", "/a@b/b",
];
pub(crate) const PREFIXES: &[&str] = &["/", "/a", "/a/", "/ab", "/a/b", "/A", "/b", "/a/*"];
pub(crate) const REGEXES: &[&str] = &["/a.*", "/[ab]+", "/(a|b)/?", ".*b", "/a/[^/]+", "/b|/b/.*"];
/// A template and a rewrite that uses its variables; where there are none, none is legal (2.6).
pub(crate) const TEMPLATES: &[(&str, Option<&str>)] = &[
    ("/a/*", None),
    ("/{x}", Some("/x/{x}")),
    ("/a/{x=**}", Some("/{x}")),
    ("/{x=*}/b/{y=**}", Some("/{y}-{x}/")),
    ("/{x=a/*}/{y}", Some("/{y}/{x}")),
    ("/**", None),
    ("/{x}/b", Some("/second")),
    ("/*/b", None),
    ("/{x=**}", Some("/pre/{x}")),
];
pub(crate) const VALUES: &[&str] = &["", "1", "a", "ab", "b", "-3", "0.25", "10", "aa"];
pub(crate) const CONDITIONS: [RetryCondition; 10] = [
    RetryCondition::ServerError,
    RetryCondition::GatewayError,
    RetryCondition::ConnectFailure,
    RetryCondition::Retriable4xx,
    RetryCondition::RefusedStream,
    RetryCondition::Cancelled,
    RetryCondition::DeadlineExceeded,
    RetryCondition::Internal,
    RetryCondition::ResourceExhausted,
    RetryCondition::Unavailable,
];
pub(crate) const HEADERS: &[&str] = &["x-a", "X-B", "x-c"];

//! What a slice can say that cannot be served.

use crate::actions::HeaderActionError;
use crate::cors::CorsError;
use crate::header::HeaderError;
use crate::hosts::HostPatternError;
use crate::mask::{MaskError, Placeholder};
use crate::paths::PathPatternError;
use crate::predicate::MatchError;
use crate::rewrite::RewriteError;
use names::SelfLink;
use std::fmt;

/// One thing that cannot be served, by the resource that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// The resource.
    pub resource: SelfLink,
    /// What is wrong with it.
    pub defect: Defect,
}

/// A place inside a URL map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The map itself.
    UrlMap,
    /// A path matcher.
    PathMatcher(String),
    /// Path matcher and first path of a path rule.
    PathRule(String, String),
    /// Path matcher and priority of a route rule.
    RouteRule(String, u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::UrlMap => f.write_str("its defaults"),
            Place::PathMatcher(name) => write!(f, "path matcher `{name}`"),
            Place::PathRule(name, path) => write!(f, "path rule `{path}` of path matcher `{name}`"),
            Place::RouteRule(name, priority) => {
                write!(f, "route rule {priority} of path matcher `{name}`")
            }
        }
    }
}

/// What can be wrong with a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A reference to a resource that is not there.
    Dangling(SelfLink),
    /// Two resources have this name.
    DuplicateResource,
    /// A host pattern, and why it is refused.
    Host(String, HostPatternError),
    /// Path matcher, path pattern, and why it is refused.
    Path(String, String, PathPatternError),
    /// A host rule names a path matcher that the map does not have.
    UnknownPathMatcher(String),
    /// Two path matchers have this name.
    DuplicatePathMatcher(String),
    /// A redirect status other than 301, 302, 303, 307 and 308.
    RedirectStatus(u16),
    /// `pathRedirect` and `prefixRedirect` at once.
    RedirectPathAndPrefix,
    /// A host, path or prefix of a redirect with a character that no URL has.
    RedirectCharacter(String, char),
    /// What is wrong at a place inside a URL map.
    At(Place, Box<Defect>),
    /// The n-th match rule, and why it is refused.
    Match(usize, MatchError),
    /// Another route rule of the matcher has this priority.
    DuplicatePriority,
    /// A route rule without match rule.
    NoMatchRule,
    /// A header action, and why it is refused.
    HeaderAction(HeaderActionError),
    /// A URL rewrite, and why it is refused.
    Rewrite(RewriteError),
    /// A CORS policy, and why it is refused.
    Cors(CorsError),
    /// Every weight is zero.
    NoWeight,
    /// `urlRedirect` and `routeAction` at once.
    RedirectAndAction,
    /// A serverless backend service as mirror.
    ServerlessMirror(SelfLink),
    /// An abort with a status outside 200 to 599.
    AbortStatus(u16),
    /// Where a test stands, and the header of its that no request has, or that is not its `host`.
    TestHeader(String, String),
    /// `httpsRedirect` in a map that a target HTTPS proxy uses: it would redirect for ever.
    HttpsRedirectOnHttps(SelfLink),
    /// A custom header line, and why it is refused.
    Header(String, HeaderError),
    /// A serverless group beside another group.
    ServerlessNotAlone,
    /// `timeoutSec` with a serverless group (0, trap 14).
    ServerlessTimeout,
    /// The URL mask, and why it is refused.
    Mask(MaskError),
    /// Neither `service` nor a mask that has `<service>`.
    NoService,
    /// A fixed value and a mask that has the same placeholder.
    FixedAndMasked(Placeholder),
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.defect)
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::At(place, defect) => write!(f, "{place}: {defect}"),
            Defect::Match(n, why) => write!(f, "match rule {}: {why}", n + 1),
            Defect::DuplicatePriority => f.write_str("has the priority of another route rule"),
            Defect::NoMatchRule => f.write_str("has no match rule"),
            Defect::HeaderAction(why) => write!(f, "headerAction: {why}"),
            Defect::Rewrite(why) => write!(f, "urlRewrite: {why}"),
            Defect::Cors(why) => write!(f, "corsPolicy: {why}"),
            Defect::NoWeight => f.write_str("every weight is zero; at least one has to be more"),
            Defect::RedirectAndAction => f.write_str("has both urlRedirect and routeAction"),
            Defect::ServerlessMirror(link) => {
                write!(f, "mirrors to {link}, which is serverless; that is not supported")
            }
            Defect::AbortStatus(status) => {
                write!(f, "aborts with {status}; 200 to 599 are possible")
            }
            Defect::TestHeader(at, header) => {
                write!(f, "the test at {at} has the header `{header}`, which cannot be sent")
            }
            Defect::Dangling(link) => write!(f, "{link} does not exist"),
            Defect::DuplicateResource => f.write_str("exists twice"),
            Defect::Host(host, error) => write!(f, "host `{host}` {error}"),
            Defect::Path(matcher, path, error) => {
                write!(f, "path `{path}` of path matcher `{matcher}` {error}")
            }
            Defect::UnknownPathMatcher(name) => write!(f, "has no path matcher `{name}`"),
            Defect::DuplicatePathMatcher(name) => write!(f, "has two path matchers `{name}`"),
            Defect::RedirectStatus(status) => {
                write!(f, "redirects with {status}; 301, 302, 303, 307 and 308 are possible")
            }
            Defect::RedirectPathAndPrefix => {
                f.write_str("has a redirect with both pathRedirect and prefixRedirect")
            }
            Defect::RedirectCharacter(text, c) => {
                write!(f, "redirects to `{text}`, which has the character {c:?}; no URL has it")
            }
            Defect::HttpsRedirectOnHttps(proxy) => {
                write!(f, "has httpsRedirect and is used by the target HTTPS proxy {proxy}")
            }
            Defect::Header(line, error) => write!(f, "custom header `{line}` {error}"),
            Defect::ServerlessNotAlone => {
                f.write_str("has a serverless endpoint group and another group; one is possible")
            }
            Defect::ServerlessTimeout => f.write_str(
                "Timeout sec is not supported for a backend service with Serverless network \
                 endpoint groups.",
            ),
            Defect::Mask(error) => write!(f, "{error}"),
            Defect::NoService => {
                f.write_str("names no service, and has no URL mask with <service>")
            }
            Defect::FixedAndMasked(placeholder) => {
                write!(f, "fixes what its URL mask's {placeholder} would pick")
            }
        }
    }
}

impl std::error::Error for CompileError {}

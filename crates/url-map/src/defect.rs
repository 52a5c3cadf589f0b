//! What a slice can say that cannot be served.

use crate::header::HeaderError;
use crate::hosts::HostPatternError;
use crate::mask::{MaskError, Placeholder};
use crate::paths::PathPatternError;
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
        write!(f, "{}: ", self.resource)?;
        match &self.defect {
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

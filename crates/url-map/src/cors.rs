//! Cross-origin requests (private-connectivity 2.6, `corsPolicy`), decided as Envoy's CORS filter
//! does, because the pages say no more than the fields' names.

use crate::pattern::{Pattern, PatternError};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use slice::load_balancer as raw;

/// A compiled CORS policy that is in force.
#[derive(Clone, Debug)]
pub struct CorsPolicy {
    any: bool,
    origins: Vec<Box<str>>,
    patterns: Vec<Pattern>,
    preflight: Vec<(HeaderName, HeaderValue)>,
    actual: Vec<(HeaderName, HeaderValue)>,
}

/// Why a CORS policy is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsError {
    /// A pattern of `allowOriginRegexes`.
    Pattern(String, PatternError),
    /// A text that cannot stand in a header.
    Value(String),
}

impl std::fmt::Display for CorsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CorsError::Pattern(text, why) => write!(f, "allowOriginRegexes `{text}`: {why}"),
            CorsError::Value(text) => write!(f, "{text:?} cannot stand in a header"),
        }
    }
}

impl CorsPolicy {
    /// Compiles a policy; none where it is disabled.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(policy: &raw::CorsPolicy) -> Result<Option<CorsPolicy>, CorsError> {
        let mut compiled = CorsPolicy {
            any: policy.allow_origins.iter().any(|origin| origin == "*"),
            origins: policy.allow_origins.iter().map(|origin| origin.as_str().into()).collect(),
            patterns: Vec::new(),
            preflight: Vec::new(),
            actual: Vec::new(),
        };
        for text in &policy.allow_origin_regexes {
            let pattern = Pattern::parse(text);
            compiled.patterns.push(pattern.map_err(|why| CorsError::Pattern(text.clone(), why))?);
        }
        if policy.allow_credentials {
            let field = (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            compiled.preflight.push(field.clone());
            compiled.actual.push(field);
        }
        let list = |name: HeaderName, values: &[String]| {
            let text = values.join(",");
            match HeaderValue::from_str(&text) {
                _ if values.is_empty() => Ok(None),
                Ok(value) => Ok(Some((name, value))),
                Err(_) => Err(CorsError::Value(text)),
            }
        };
        let methods = list(ACCESS_CONTROL_ALLOW_METHODS, &policy.allow_methods)?;
        let headers = list(ACCESS_CONTROL_ALLOW_HEADERS, &policy.allow_headers)?;
        compiled.preflight.extend(methods.into_iter().chain(headers));
        if let Some(seconds) = policy.max_age {
            compiled.preflight.push((ACCESS_CONTROL_MAX_AGE, seconds.into()));
        }
        // Preflight requests have no use for it (Fetch), but Envoy sends it with them, too.
        let exposed = list(ACCESS_CONTROL_EXPOSE_HEADERS, &policy.expose_headers)?;
        compiled.preflight.extend(exposed.clone());
        compiled.actual.extend(exposed);
        Ok((!policy.disabled).then_some(compiled))
    }

    /// Does the policy allow the request's origin? A request without one is no cross-origin request.
    pub fn allows(&self, request: &HeaderMap) -> bool {
        let Some(origin) = request.get(ORIGIN) else { return false };
        let origin = origin.as_bytes();
        self.any
            || self.origins.iter().any(|one| one.as_bytes() == origin)
            || self.patterns.iter().any(|one| one.matches(origin))
    }

    /// The fields of the answer to a preflight request of this origin.
    pub fn preflight(
        &self,
        origin: &HeaderValue,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let first = (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        std::iter::once(first).chain(self.preflight.iter().cloned())
    }

    /// The fields that the answer to an actual request of this origin gets.
    pub fn actual(&self, origin: &HeaderValue) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let first = (ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        std::iter::once(first).chain(self.actual.iter().cloned())
    }
}

/// Is it a preflight request (Fetch, "CORS-preflight request")?
pub(crate) fn is_preflight(method: &str, headers: &HeaderMap) -> bool {
    method == "OPTIONS"
        && headers.get(ACCESS_CONTROL_REQUEST_METHOD).is_some_and(|value| !value.is_empty())
}

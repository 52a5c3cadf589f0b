//! `headerAction` (private-connectivity 2.6): which headers come and go, level by level.

use crate::header::is_reserved;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use slice::load_balancer as raw;

/// A compiled `headerAction`.
#[derive(Clone, Debug, Default)]
pub struct HeaderAction {
    request: Changes,
    response: Changes,
}

/// Changes of one direction. What is removed goes first, then comes what is added ((unconfirmed)).
#[derive(Clone, Debug, Default)]
pub struct Changes {
    remove: Vec<HeaderName>,
    /// Name, value, replace.
    add: Vec<(HeaderName, HeaderValue, bool)>,
}

/// Why a header action is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderActionError {
    /// A name that is none.
    Name(String),
    /// A value that is none.
    Value(String),
    /// A field of the connection, or one that says where a message ends.
    Reserved(String),
}

impl std::fmt::Display for HeaderActionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeaderActionError::Name(name) => write!(f, "{name:?} is no header name"),
            HeaderActionError::Value(value) => write!(f, "{value:?} is no header value"),
            HeaderActionError::Reserved(name) => write!(f, "nobody may set or remove `{name}`"),
        }
    }
}

/// The name of a header that a header action may set or remove.
///
/// # Errors
/// Why it may not.
pub fn action_header(name: &str) -> Result<HeaderName, HeaderActionError> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| HeaderActionError::Name(name.to_owned()))?;
    match is_reserved(parsed.as_str()) {
        true => Err(HeaderActionError::Reserved(name.to_owned())),
        false => Ok(parsed),
    }
}

impl HeaderAction {
    /// Compiles a header action; none where it changes nothing.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(
        action: &raw::HeaderAction,
    ) -> Result<Option<Box<HeaderAction>>, HeaderActionError> {
        if action.is_empty() {
            return Ok(None);
        }
        let request =
            Changes::parse(&action.request_headers_to_remove, &action.request_headers_to_add)?;
        let response =
            Changes::parse(&action.response_headers_to_remove, &action.response_headers_to_add)?;
        Ok(Some(Box::new(HeaderAction { request, response })))
    }
}

impl HeaderAction {
    /// The changes of the request.
    pub fn request(&self) -> &Changes {
        &self.request
    }

    /// The changes of the response.
    pub fn response(&self) -> &Changes {
        &self.response
    }
}

impl Changes {
    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    fn parse(remove: &[String], add: &[raw::HeaderOption]) -> Result<Changes, HeaderActionError> {
        let remove = remove.iter().map(|name| action_header(name)).collect::<Result<_, _>>()?;
        let one = |option: &raw::HeaderOption| {
            let value = HeaderValue::from_str(&option.header_value)
                .map_err(|_| HeaderActionError::Value(option.header_value.clone()))?;
            Ok((action_header(&option.header_name)?, value, option.replace))
        };
        Ok(Changes { remove, add: add.iter().map(one).collect::<Result<_, _>>()? })
    }

    /// Names that are removed.
    pub fn removed(&self) -> &[HeaderName] {
        &self.remove
    }

    /// Name, value and `replace` of what is added.
    pub fn added(&self) -> &[(HeaderName, HeaderValue, bool)] {
        &self.add
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value, replace) in &self.add {
            match replace {
                true => headers.insert(name, value.clone()).is_some(),
                false => headers.append(name, value.clone()),
            };
        }
    }
}

/// The header actions of a decision: weighted backend service, route rule, path matcher, URL map.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeaderActions<'s> {
    levels: [Option<&'s HeaderAction>; 4],
    any: bool,
}

impl<'s> HeaderActions<'s> {
    pub(crate) fn set(&mut self, level: usize, action: Option<&'s HeaderAction>) {
        if action.is_some() {
            self.levels[level] = action;
            self.any = true;
        }
    }

    /// Whose, and what, in the order in which they apply.
    pub(crate) fn levels(&self) -> impl Iterator<Item = (&'static str, &'s HeaderAction)> {
        let names = ["weighted backend service", "route rule", "path matcher", "URL map"];
        names.into_iter().zip(self.levels).filter_map(|(name, action)| Some((name, action?)))
    }

    /// Nothing is changed, as for most routes.
    pub fn is_empty(&self) -> bool {
        !self.any
    }

    /// The changes of the request, in the order in which they apply.
    pub fn request(&self) -> impl Iterator<Item = &'s Changes> + use<'s> {
        self.levels.into_iter().flatten().map(|action| &action.request)
    }

    /// The changes of the response, in the order in which they apply.
    pub fn response(&self) -> impl Iterator<Item = &'s Changes> + use<'s> {
        self.levels.into_iter().flatten().map(|action| &action.response)
    }

    /// Changes a request's headers.
    pub fn apply_to_request(&self, headers: &mut HeaderMap) {
        self.request().for_each(|changes| changes.apply(headers));
    }

    /// Changes a response's headers.
    pub fn apply_to_response(&self, headers: &mut HeaderMap) {
        self.response().for_each(|changes| changes.apply(headers));
    }
}

//! What a decision is made of: the head of a request, and chance.

use http::HeaderMap;
use std::sync::LazyLock;

/// What the load balancer looks at in a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'r> {
    /// As sent.
    pub method: &'r str,
    /// `Host` or `:authority` as sent, port included; empty where there is none.
    pub host: &'r str,
    /// Path as sent, without query.
    pub path: &'r str,
    /// What follows `?`, if there is one.
    pub query: Option<&'r str>,
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// The one random number of this request: weights, faults and mirrors take theirs from it.
    pub roll: u64,
}

static NO_HEADERS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

impl<'r> RequestHead<'r> {
    /// A GET without fields, from a host and a target such as `/a?b`; an empty path is `/`. A
    /// fragment, which no client sends, is nobody's concern (2.5).
    pub fn new(host: &'r str, path_and_query: &'r str) -> RequestHead<'r> {
        // One look at each byte; both marks are ASCII, so that every cut is at a character's border.
        let mut path = path_and_query;
        let mut query = None;
        if let Some(at) = path.bytes().position(|b| b == b'?' || b == b'#') {
            let (before, rest) = path.split_at(at);
            path = before;
            if let Some(rest) = rest.strip_prefix('?') {
                query = Some(rest.find('#').map_or(rest, |at| &rest[..at]));
            }
        }
        let path = if path.is_empty() { "/" } else { path };
        RequestHead { method: "GET", host, path, query, headers: &NO_HEADERS, roll: 0 }
    }

    /// With another method.
    pub fn with_method(self, method: &'r str) -> RequestHead<'r> {
        RequestHead { method, ..self }
    }

    /// With fields.
    pub fn with_headers(self, headers: &'r HeaderMap) -> RequestHead<'r> {
        RequestHead { headers, ..self }
    }

    /// With a random number.
    pub fn with_roll(self, roll: u64) -> RequestHead<'r> {
        RequestHead { roll, ..self }
    }
}

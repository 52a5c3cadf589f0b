//! A request to the metadata server, taken apart.

use std::borrow::Cow;

/// What of a request is looked at.
#[derive(Clone, Copy, Debug)]
pub struct MetadataRequest<'a> {
    /// Method.
    pub method: &'a str,
    /// Path, percent-encoded as sent.
    pub path: &'a str,
    /// Query, without the question mark.
    pub query: &'a str,
    /// The Host; none if the request has none (HTTP/1.0).
    pub host: Option<&'a str>,
    /// Is `host` one under which this server may be asked?
    pub host_is_ours: bool,
    /// The header that keeps browsers out.
    pub flavor: Flavor,
    /// Is there an `X-Forwarded-For`?
    pub forwarded: bool,
}

/// The header `Metadata-Flavor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// `Google` (or the older `X-Google-Metadata-Request: True`).
    Google,
    /// Another value.
    Other,
    /// Not there.
    Missing,
}

/// The query of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(name, true), percent_decoded(value, true))
        });
        Query(pairs.collect())
    }

    /// The first value of a parameter; parameters that nobody asks for are ignored.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// `wait_for_change=true`: answer only when the value differs from `last_etag`, or after a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The ETag that the caller has; without one, the value of now counts as known.
    pub last_etag: Option<String>,
    /// `timeout_sec`.
    pub timeout_sec: Option<u64>,
}

impl Wait {
    pub(crate) fn of(query: &Query<'_>) -> Option<Wait> {
        query.is_true("wait_for_change").then(|| Wait {
            last_etag: query.get("last_etag").map(str::to_owned),
            timeout_sec: query.get("timeout_sec").and_then(|seconds| seconds.parse().ok()),
        })
    }
}

/// Decodes `%XX`, in a query also `+`. What is no UTF-8 afterwards becomes U+FFFD, and so matches
/// nothing.
pub(crate) fn percent_decoded(text: &str, plus: bool) -> Cow<'_, str> {
    let escaped = text.contains('%') || plus && text.contains('+');
    if !escaped {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escape = if *byte == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        match escape {
            Some((high, low)) => {
                // Two hexadecimal digits fit a byte.
                decoded.push((high << 4 | low) as u8);
                at += 3;
            }
            None => {
                decoded.push(if plus && *byte == b'+' { b' ' } else { *byte });
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query = Query::parse("audience=https%3A%2F%2Fa%20b+c&recursive=True&x&=&%zz=%4");
        assert_eq!(query.get("audience"), Some("https://a b c"));
        assert_eq!((query.get("x"), query.get("%zz")), (Some(""), Some("%4")));
        assert!(query.is_true("recursive") && !query.is_true("wait_for_change"));
        assert_eq!(percent_decoded("a%40b+c", false), "a@b+c");
        assert_eq!(percent_decoded("%ff", false), "\u{fffd}");
    }
}

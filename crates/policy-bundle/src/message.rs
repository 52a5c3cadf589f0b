//! Messages: the request, the response, the error, and those that policies make (6).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::borrow::Cow;

/// Request or response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Has verb, path and query.
    Request,
    /// Has status and reason phrase.
    Response,
}

/// Whose body it is that nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client's request body.
    Client,
    /// The target's response body.
    Target,
}

/// The payload of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// None.
    Empty,
    /// In memory.
    Bytes(Bytes),
    /// Still on the wire: policies cannot read it, it passes through (9.4).
    Unread(Origin),
}

/// A message. Header names compare without case; the payload may still be on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    /// Request or response.
    pub kind: MessageKind,
    /// `verb` of a request.
    pub method: Method,
    /// `version`: `1.1`, `2`.
    pub version: Cow<'static, str>,
    /// The path of a request as sent, without query.
    pub path: String,
    /// The query of a request.
    pub query: Query,
    /// `status.code` of a response; any integer from 100 to 999.
    pub status: u16,
    /// `reason.phrase` of a response.
    pub reason: Option<String>,
    /// Headers.
    pub headers: HeaderMap,
    /// Payload.
    pub content: Content,
    /// A policy wrote the path: it replaces base path and suffix towards the target (7.1).
    pub path_written: bool,
}

impl Message {
    /// A new empty request: GET `/`.
    pub fn request() -> Message {
        Message {
            kind: MessageKind::Request,
            method: Method::GET,
            version: Cow::Borrowed("1.1"),
            path: String::from("/"),
            query: Query::default(),
            status: 0,
            reason: None,
            headers: HeaderMap::new(),
            content: Content::Empty,
            path_written: false,
        }
    }

    /// A new empty response: 200.
    pub fn response() -> Message {
        Message {
            kind: MessageKind::Response,
            status: 200,
            path: String::new(),
            ..Message::request()
        }
    }

    /// The payload as text, if it is in memory.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        match &self.content {
            Content::Empty => Some(Cow::Borrowed("")),
            Content::Bytes(bytes) => Some(String::from_utf8_lossy(bytes)),
            Content::Unread(_) => None,
        }
    }

    /// Replaces the payload; the length is computed anew when the message is sent.
    pub fn set_content(&mut self, content: Bytes) {
        self.headers.remove(http::header::CONTENT_LENGTH);
        self.content = if content.is_empty() { Content::Empty } else { Content::Bytes(content) };
    }

    /// The media type, lower case, without parameters.
    pub fn media_type(&self) -> Option<String> {
        let value = self.headers.get(http::header::CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
    }

    /// Is the payload JSON by its media type (7.3)?
    pub fn is_json(&self) -> bool {
        self.media_type().is_some_and(|media| {
            media == "application/json" || media == "text/json" || media.ends_with("+json")
        })
    }

    /// The form parameters, where the payload is a form in memory (6).
    pub fn form(&self) -> Option<Query> {
        if self.media_type()?.as_str() != "application/x-www-form-urlencoded" {
            return None;
        }
        Some(Query::parse(&self.text()?))
    }

    /// Writes the form parameters back.
    pub fn set_form(&mut self, form: &Query) {
        self.headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        self.set_content(Bytes::from(form.to_string()));
    }

    /// All values of a header: every line, split at commas (6).
    pub fn header_values(&self, name: &HeaderName) -> Vec<Cow<'_, str>> {
        let mut values = Vec::new();
        for line in self.headers.get_all(name) {
            match line.to_str() {
                Ok(text) => values.extend(text.split(',').map(|part| Cow::Borrowed(part.trim()))),
                Err(_) => values.push(String::from_utf8_lossy(line.as_bytes())),
            }
        }
        values
    }

    /// The first value of a header, up to its first comma (6).
    pub fn header_first(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        let line = self.headers.get(name)?;
        Some(match line.to_str() {
            Ok(text) => Cow::Borrowed(text.split(',').next().unwrap_or_default().trim()),
            Err(_) => String::from_utf8_lossy(line.as_bytes()),
        })
    }

    /// Sets a header, replacing all values. False if the value is no header value.
    pub fn set_header(&mut self, name: &HeaderName, value: &str) -> bool {
        match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => {
                self.headers.insert(name, value);
                true
            }
            Err(_) => false,
        }
    }

    /// Appends a header. False if the value is no header value.
    pub fn add_header(&mut self, name: &HeaderName, value: &str) -> bool {
        match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => self.headers.try_append(name, value).is_ok(),
            Err(_) => false,
        }
    }

    /// Removes a header, or only its n-th line (from 1).
    pub fn remove_header(&mut self, name: &HeaderName, index: Option<usize>) {
        match index {
            None => {
                self.headers.remove(name);
            }
            Some(index) => {
                let lines: Vec<HeaderValue> = self.headers.get_all(name).iter().cloned().collect();
                self.headers.remove(name);
                for (position, line) in lines.into_iter().enumerate() {
                    if position + 1 != index {
                        self.headers.append(name, line);
                    }
                }
            }
        }
    }
}

/// A query or a form: pairs in their order, kept as they were written until somebody edits them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<String>,
}

impl Query {
    /// From the text after `?`.
    pub fn parse(text: &str) -> Query {
        Query { pairs: text.split('&').filter(|pair| !pair.is_empty()).map(String::from).collect() }
    }

    /// Is there no parameter?
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Number of parameters.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Decoded names, each once, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for pair in &self.pairs {
            let name = decode(split(pair).0).into_owned();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Decoded values of a parameter, in order.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Cow<'a, str>> + 'a {
        self.pairs
            .iter()
            .map(|pair| split(pair))
            .filter(move |(key, _)| decode(key) == name)
            .map(|(_, value)| decode(value))
    }

    /// Replaces all values of a parameter; keeps the place of the first.
    pub fn set(&mut self, name: &str, value: &str) {
        let pair = encode_pair(name, value);
        let place = self.pairs.iter().position(|pair| decode(split(pair).0) == name);
        self.remove(name, None);
        let place = place.unwrap_or(self.pairs.len()).min(self.pairs.len());
        self.pairs.insert(place, pair);
    }

    /// Appends a value.
    pub fn add(&mut self, name: &str, value: &str) {
        self.pairs.push(encode_pair(name, value));
    }

    /// Appends the pairs of another query, as they are.
    pub fn extend(&mut self, other: &Query) {
        self.pairs.extend(other.pairs.iter().cloned());
    }

    /// Removes a parameter, or only its n-th value (from 1).
    pub fn remove(&mut self, name: &str, index: Option<usize>) {
        let mut seen = 0;
        self.pairs.retain(|pair| {
            if decode(split(pair).0) != name {
                return true;
            }
            seen += 1;
            index.is_some_and(|index| index != seen)
        });
    }

    /// Keeps only the named parameters.
    pub fn retain(&mut self, names: &[String]) {
        self.pairs.retain(|pair| {
            let name = decode(split(pair).0);
            names.iter().any(|kept| kept.as_str() == name)
        });
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.pairs.clear();
    }
}

impl std::fmt::Display for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, pair) in self.pairs.iter().enumerate() {
            if index > 0 {
                f.write_str("&")?;
            }
            f.write_str(pair)?;
        }
        Ok(())
    }
}

fn split(pair: &str) -> (&str, &str) {
    pair.split_once('=').unwrap_or((pair, ""))
}

fn encode_pair(name: &str, value: &str) -> String {
    let mut pair = String::with_capacity(name.len() + value.len() + 1);
    encode(name, &mut pair);
    pair.push('=');
    encode(value, &mut pair);
    pair
}

fn encode(text: &str, out: &mut String) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
}

/// Percent-decoding with `+` as blank; broken escapes stay as they are.
pub(crate) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| bytes.get(at + offset).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', _, _) => out.push(b' '),
            (byte, _, _) => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_untouched_query_is_sent_as_it_came() {
        let raw = "a=1&b=x+y&b=%41&flag&c=%zz";
        let query = Query::parse(raw);
        assert_eq!(query.to_string(), raw);
        assert_eq!(query.values("b").collect::<Vec<_>>(), ["x y", "A"]);
        assert_eq!(query.values("flag").collect::<Vec<_>>(), [""]);
        assert_eq!(query.values("c").collect::<Vec<_>>(), ["%zz"]);
    }

    #[test]
    fn setting_a_parameter_replaces_all_values_in_place() {
        let mut query = Query::parse("a=1&b=2&a=3&c=4");
        query.set("a", "x&y");
        assert_eq!(query.to_string(), "a=x%26y&b=2&c=4");
        query.remove("b", None);
        query.add("b", "ü");
        assert_eq!(query.to_string(), "a=x%26y&c=4&b=%C3%BC");
    }

    #[test]
    fn an_index_removes_one_value_only() {
        let mut query = Query::parse("a=1&a=2&a=3");
        query.remove("a", Some(2));
        assert_eq!(query.to_string(), "a=1&a=3");
    }

    #[test]
    fn a_header_read_is_its_first_comma_separated_value() {
        let mut message = Message::request();
        let name = HeaderName::from_static("accept");
        assert!(message.add_header(&name, "a, b"));
        assert!(message.add_header(&name, "c"));
        assert_eq!(message.header_first(&name).as_deref(), Some("a"));
        assert_eq!(message.header_values(&name), ["a", "b", "c"]);
        message.remove_header(&name, Some(1));
        assert_eq!(message.header_values(&name), ["c"]);
    }

    proptest! {
        #[test]
        fn what_is_added_to_a_query_is_read_back(name in "[^\u{0}]{1,20}", value in "\\PC{0,40}") {
            let mut query = Query::default();
            query.add(&name, &value);
            let again = Query::parse(&query.to_string());
            prop_assert_eq!(again.values(&name).collect::<Vec<_>>(), [value]);
        }
    }
}

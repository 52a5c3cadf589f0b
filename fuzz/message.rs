//! A request made of any text, and a flow context around it.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use policy_bundle::{Context, Message, Query};

/// The request of `path?query`, `name: value` lines, an empty line, the payload.
pub fn request(text: &str) -> Message {
    let (head, payload) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let target = lines.next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Message::request();
    request.path = path.to_owned();
    request.query = Query::parse(query);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        {
            request.headers.append(name, value);
        }
    }
    request.set_content(Bytes::copy_from_slice(payload.as_bytes()));
    request
}

/// A context with that request alone.
#[allow(dead_code)]
pub fn context(text: &str) -> Context {
    Context::detached(request(text), 1_700_000_000_123, || 4)
}

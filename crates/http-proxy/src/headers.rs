//! Hygiene of header fields between one connection and the next (RFC 9110 7.6.1).

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, FORWARDED,
    HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use std::cell::RefCell;
use std::fmt::Write;
use std::net::IpAddr;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-cloud-trace-context`.
pub const X_CLOUD_TRACE_CONTEXT: HeaderName = HeaderName::from_static("x-cloud-trace-context");
/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How many header maps a thread keeps, and how large ones.
const SPARE_MAX: usize = 64;
const SPARE_FIELDS_MAX: usize = 64;

thread_local! {
    /// Header maps that nobody uses at the moment: a message has one, and making one costs as much
    /// as reading the message.
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty header map with room for some fields.
pub(crate) fn map_with_room(fields: usize) -> HeaderMap {
    let mut map = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
    map.reserve(fields);
    map
}

/// Gives a header map back that is not needed any more. Optional: dropping it is right as well.
pub fn recycle(mut headers: HeaderMap) {
    if headers.capacity() == 0 || headers.capacity() > SPARE_FIELDS_MAX {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_MAX {
            headers.clear();
            spare.push(headers);
        }
    });
}

/// Removes what concerns one connection only: `connection` and every field that it names,
/// `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`; `te` keeps nothing but
/// `trailers`. Returns the protocol of an upgrade, where the message asks for one.
///
/// `connection` cannot take away `host` or `content-length`: a message whose meaning depends on
/// the hop is one with two readings.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.keys().any(is_hop_by_hop) {
        return None; // most messages, found out by one walk instead of seven lookups
    }
    let mut upgrade = None;
    if let Entry::Occupied(entry) = headers.entry(CONNECTION) {
        let (_, values) = entry.remove_entry_mult();
        let values: Vec<HeaderValue> = values.collect();
        for name in values.iter().flat_map(tokens) {
            if name.eq_ignore_ascii_case("upgrade") {
                upgrade = headers.remove(UPGRADE).or(upgrade); // may be named more than once
            } else if name.eq_ignore_ascii_case("te") {
                // kept below where it says `trailers`: gRPC needs it
            } else if let Ok(name) = HeaderName::from_bytes(name.as_bytes())
                && name != HOST
                && name != CONTENT_LENGTH
            {
                headers.remove(name);
            }
        }
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    if headers.contains_key(TE) {
        if accepts_trailers(headers) {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(TE);
        }
    }
    upgrade
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TRANSFER_ENCODING | UPGRADE | TE) || is_old_hop_by_hop(name)
}

/// `keep-alive` and `proxy-connection`, which no registry has as hop-by-hop.
pub(crate) fn is_old_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str().len() {
        10 => *name == KEEP_ALIVE,
        16 => *name == PROXY_CONNECTION,
        _ => false,
    }
}

/// Does the sender of these fields take trailers (RFC 9110 6.5.1)?
pub fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(tokens)
        .any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

/// Appends the client, and the load balancer's address if there is one, to `x-forwarded-for`:
/// `<existing>,<client>,<lb>` without a space (private-connectivity 2.7). What is there already is
/// never verified; several fields become one.
pub fn append_forwarded_for(headers: &mut HeaderMap, client: IpAddr, balancer: Option<IpAddr>) {
    let mut text = String::with_capacity(48);
    for existing in headers.get_all(X_FORWARDED_FOR) {
        // Bytes beyond ASCII are of no use in a list of addresses: the field is dropped.
        if let Ok(existing) = existing.to_str() {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(existing);
        }
    }
    if !text.is_empty() {
        text.push(',');
    }
    let _ = write!(text, "{client}");
    if let Some(balancer) = balancer {
        let _ = write!(text, ",{balancer}");
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// Names that no trailer section may carry on: what frames or routes a message, says who sends it,
/// or how its content is to be read (RFC 9110 6.5.1). A proxy judges these in the head; what comes
/// after the content has been judged by nobody.
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let text = name.as_str();
    matches!(
        *name,
        AUTHORIZATION
            | CACHE_CONTROL
            | CONNECTION
            | COOKIE
            | EXPECT
            | FORWARDED
            | HOST
            | PROXY_AUTHORIZATION
            | RANGE
            | SET_COOKIE
            | TE
            | TRAILER
            | TRANSFER_ENCODING
            | UPGRADE
            | VIA
    ) || text.starts_with("content-")
        || text.starts_with("x-forwarded-")
        || text == "x-serverless-authorization"
        || is_old_hop_by_hop(name)
}

/// Takes out of a trailer section what it must not carry on.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    if trailers.keys().any(is_forbidden_trailer) {
        let forbidden: Vec<HeaderName> =
            trailers.keys().filter(|name| is_forbidden_trailer(name)).cloned().collect();
        for name in forbidden {
            trailers.remove(name);
        }
    }
}

/// The comma-separated members of a list field, trimmed, empty ones left out.
pub fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn fields_of_one_connection_do_not_pass() {
        for (sent, kept) in [
            (&[("connection", "close"), ("a", "1")][..], &[("a", "1")][..]),
            (
                &[("connection", "X-One, x-two"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")],
                &[("x-three", "3")],
            ),
            (&[("connection", "x"), ("connection", "y"), ("x", "1"), ("y", "2")], &[]),
            (
                &[
                    ("keep-alive", "timeout=5"),
                    ("proxy-connection", "x"),
                    ("transfer-encoding", "chunked"),
                ],
                &[],
            ),
            (&[("te", "gzip;q=0.5, Trailers")], &[("te", "trailers")]),
            (&[("te", "gzip")], &[]),
            (&[("connection", "te"), ("te", "trailers")], &[("te", "trailers")]),
            (&[("trailer", "x")], &[("trailer", "x")]),
            (
                &[("connection", "host, content-length"), ("host", "h"), ("content-length", "1")],
                &[("host", "h"), ("content-length", "1")],
            ),
            (&[("connection", ", ,@,close"), ("a", "1")], &[("a", "1")]),
        ] {
            let mut headers = map(sent);
            assert_eq!(strip_hop_by_hop(&mut headers), None);
            assert_eq!(headers, map(kept), "{sent:?}");
        }
    }

    #[test]
    fn an_upgrade_is_told_where_connection_asks_for_it() {
        for (sent, protocol) in [
            (
                &[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")][..],
                Some("websocket"),
            ),
            (&[("connection", "upgrade, Upgrade"), ("upgrade", "websocket")], Some("websocket")),
            (&[("upgrade", "websocket")], None),
            (&[("connection", "upgrade")], None),
        ] {
            let mut headers = map(sent);
            let found = strip_hop_by_hop(&mut headers);
            assert_eq!(found.as_ref().map(|value| value.as_bytes()), protocol.map(str::as_bytes));
            assert!(headers.is_empty(), "{sent:?}");
        }
    }

    #[test]
    fn a_trailer_section_says_nothing_that_a_head_is_judged_by() {
        let mut sent = map(&[("grpc-status", "0"), ("grpc-message", "x"), ("x-checksum", "1")]);
        let kept = sent.clone();
        for name in [
            "authorization",
            "x-serverless-authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "host",
            "x-forwarded-for",
            "x-forwarded-proto",
            "forwarded",
            "via",
            "content-length",
            "content-type",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "connection",
            "keep-alive",
            "proxy-connection",
            "cache-control",
            "expect",
            "range",
        ] {
            sent.append(name, HeaderValue::from_static("x"));
            sent.append(name, HeaderValue::from_static("y"));
        }
        clean_trailers(&mut sent);
        assert_eq!(sent, kept);
    }

    #[test]
    fn forwarded_for_grows_on_the_right() {
        let client = IpAddr::from([10, 0, 0, 7]);
        let balancer = Some(IpAddr::from([10, 0, 0, 5]));
        for (sent, balancer, expected) in [
            (&[][..], None, "10.0.0.7"),
            (&[("x-forwarded-for", "1.1.1.1")], balancer, "1.1.1.1,10.0.0.7,10.0.0.5"),
            (&[("x-forwarded-for", "a"), ("x-forwarded-for", "b, c")], None, "a,b, c,10.0.0.7"),
            (&[("x-forwarded-for", "")], None, "10.0.0.7"),
        ] {
            let mut headers = map(sent);
            append_forwarded_for(&mut headers, client, balancer);
            assert_eq!(headers.get_all(X_FORWARDED_FOR).iter().collect::<Vec<_>>(), [expected]);
        }
    }
}

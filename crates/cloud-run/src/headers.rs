//! What the container sees of a request's head, and the client of a response's (cloud-run 1.3,
//! 1.4). Pure: random trace ids come from the caller.

use http::header::{HeaderMap, HeaderName, HeaderValue, SERVER, SET_COOKIE};
use http_proxy::headers::{
    TRACEPARENT, X_CLOUD_TRACE_CONTEXT, X_FORWARDED_FOR, X_FORWARDED_PROTO, append_forwarded_for,
};
use http_proxy::trace::{parse_cloud_trace, parse_traceparent};
use runtime::log;
use std::fmt::Write;
use std::net::Ipv4Addr;

const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// Who sent the request, for the headers that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// An internal load balancer. It has already appended `<client>,<load balancer>` to
    /// `X-Forwarded-For`, and Cloud Run adds nothing behind that: the program finds the client
    /// just before the load balancer's address. (1.4 has Cloud Run append its own peer too; the
    /// path that Postern models ends with the load balancer's address, private-connectivity 7.5.)
    LoadBalancer,
    /// A client of Google's front end, with its address where there is one.
    Client(Option<Ipv4Addr>),
}

pub use http_proxy::trace::Trace;

/// What a request's headers say once they are rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The trace in force.
    pub trace: Trace,
    /// The client's address.
    pub client: Option<Box<str>>,
}

/// Rewrites a request's headers, hop-by-hop fields already removed, into those that the container
/// gets. `fresh` is the trace to begin if the client brings none.
pub fn for_container(
    headers: &mut HeaderMap,
    sender: Sender,
    fresh: impl FnOnce() -> Trace,
) -> Said {
    if let Sender::Client(Some(client)) = sender {
        append_forwarded_for(headers, client.into(), None);
    }
    let client = client_of(headers, sender).map(Box::from);
    if let Some(client) = &client {
        append_forwarded(headers, client);
    }
    // TLS always ends before the container; what a client claims is replaced (1.4).
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
    Said { trace: set_trace(headers, fresh), client }
}

/// The client as `X-Forwarded-For` names it: behind a load balancer the entry just before the last,
/// else the last.
fn client_of(headers: &HeaderMap, sender: Sender) -> Option<&str> {
    let list = headers.get_all(X_FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
    let mut entries = list.rsplit(',').map(str::trim).filter(|entry| !entry.is_empty());
    let last = entries.next()?;
    match sender {
        Sender::Client(_) => Some(last),
        Sender::LoadBalancer => Some(entries.next().unwrap_or(last)),
    }
}

/// `Forwarded: for="107.178.198.126";proto=https`, behind what the client sent (RFC 7239 4).
fn append_forwarded(headers: &mut HeaderMap, client: &str) {
    let mut text = String::with_capacity(64);
    for existing in headers.get_all(FORWARDED) {
        if let Ok(existing) = existing.to_str() {
            text.push_str(existing);
            text.push_str(", ");
        }
    }
    // A client can put anything before the load balancer's entries, but not into them: this text
    // is an address that the fabric wrote. Quotes are escaped all the same.
    let node = match client.contains(':') {
        true => format!("[{client}]"),
        false => client.replace('\\', "\\\\").replace('"', "\\\""),
    };
    let _ = write!(text, "for=\"{node}\";proto=https");
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(FORWARDED, value);
    }
}

/// Honours `X-Cloud-Trace-Context`, else `traceparent`, else begins a trace; afterwards both stand
/// there with the same trace id, unless the client sent both (1.4).
fn set_trace(headers: &mut HeaderMap, fresh: impl FnOnce() -> Trace) -> Trace {
    let cloud = headers.get(X_CLOUD_TRACE_CONTEXT).and_then(parse_cloud_trace);
    let parent = headers.get(TRACEPARENT).and_then(parse_traceparent);
    let trace = cloud.or(parent).unwrap_or_else(fresh);
    if cloud.is_none() {
        let Trace { id, span, sampled } = trace;
        let text = format!("{id:032x}/{span};o={}", u8::from(sampled));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(X_CLOUD_TRACE_CONTEXT, value);
        }
    }
    if parent.is_none() {
        // A span id of zero is illegal here; the low half of the trace id is as good as any.
        let span = if trace.span == 0 { (trace.id as u64).max(1) } else { trace.span };
        let text = format!("00-{:032x}-{span:016x}-{:02x}", trace.id, u8::from(trace.sampled));
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
    }
    trace
}

/// Rewrites a response's headers, hop-by-hop fields already removed, into those that the client
/// gets.
///
/// The real front end also offers HTTP/3 by `alt-svc`. Nothing here speaks it, so nothing offers
/// it: a browser would try, wait and come back.
pub fn for_client(headers: &mut HeaderMap, trace: Trace) {
    // A response that sets a cookie must not be cached by anybody in between (1.3).
    if headers.contains_key(SET_COOKIE) {
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    own(headers, trace);
}

/// The headers that Google's front end puts on every response.
pub fn own(headers: &mut HeaderMap, trace: Trace) {
    headers.insert(SERVER, HeaderValue::from_static("Google Frontend"));
    let mut text = Vec::with_capacity(36);
    log::hexadecimal(trace.id, 32, &mut text);
    if trace.sampled {
        text.extend_from_slice(b";o=1");
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(X_CLOUD_TRACE_CONTEXT, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Trace = Trace { id: 0xabc, span: 0x10, sampled: false };

    /// One request's headers in and out, as `name: value` lines.
    fn check(rule: &str, sender: Sender, sent: &[(&'static str, &str)], seen: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().expect("a header value"));
        }
        for_container(&mut headers, sender, || FRESH);
        for (name, value) in seen {
            let values: Vec<_> =
                headers.get_all(*name).iter().map(|v| v.to_str().expect("ASCII")).collect();
            assert_eq!(values, [*value], "{rule}: {name}");
        }
    }

    #[test]
    fn the_container_sees_who_called() {
        let client = Sender::Client(Some(Ipv4Addr::new(10, 0, 0, 7)));
        check(
            "direct: the client's address",
            client,
            &[],
            &[
                ("x-forwarded-for", "10.0.0.7"),
                ("forwarded", "for=\"10.0.0.7\";proto=https"),
                ("x-forwarded-proto", "https"),
            ],
        );
        check(
            "client-sent values stay on the left",
            client,
            &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "http")],
            &[("x-forwarded-for", "1.1.1.1,10.0.0.7"), ("x-forwarded-proto", "https")],
        );
        check(
            "behind a load balancer nothing is appended",
            Sender::LoadBalancer,
            &[("x-forwarded-for", "6.6.6.6,10.0.2.2,10.0.0.5")],
            &[
                ("x-forwarded-for", "6.6.6.6,10.0.2.2,10.0.0.5"),
                ("forwarded", "for=\"10.0.2.2\";proto=https"),
            ],
        );
        check(
            "a client's own Forwarded stays on the left",
            client,
            &[("forwarded", "for=_hidden")],
            &[("forwarded", "for=_hidden, for=\"10.0.0.7\";proto=https")],
        );
    }

    #[test]
    fn a_trace_is_honoured_or_begun() {
        let id = "105445aa7843bc8bf206b12000100000";
        let both = |cloud: &'static str, parent: &'static str| {
            [("x-cloud-trace-context", cloud), ("traceparent", parent)]
        };
        check(
            "begun",
            Sender::Client(None),
            &[],
            &both(
                "00000000000000000000000000000abc/16;o=0",
                "00-00000000000000000000000000000abc-0000000000000010-00",
            ),
        );
        check(
            "the client's value is honoured, and forces sampling",
            Sender::Client(None),
            &[("x-cloud-trace-context", &format!("{id}/1;o=1"))],
            &both(
                "105445aa7843bc8bf206b12000100000/1;o=1",
                "00-105445aa7843bc8bf206b12000100000-0000000000000001-01",
            ),
        );
        check(
            "traceparent gives the same trace id",
            Sender::Client(None),
            &[("traceparent", &format!("00-{id}-00000000000000ff-01"))],
            &both(
                "105445aa7843bc8bf206b12000100000/255;o=1",
                "00-105445aa7843bc8bf206b12000100000-00000000000000ff-01",
            ),
        );
        for bad in ["", "xyz", "00000000000000000000000000000000/1", "+bc/1;o=1", "1/x"] {
            check(
                "what is malformed counts as absent",
                Sender::Client(None),
                &[("x-cloud-trace-context", bad)],
                &[("x-cloud-trace-context", "00000000000000000000000000000abc/16;o=0")],
            );
        }
    }

    #[test]
    fn a_response_that_sets_a_cookie_is_private() {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER, HeaderValue::from_static("gunicorn"));
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("public"));
        for_client(&mut headers, FRESH);
        assert_eq!(headers[http::header::CACHE_CONTROL], "public");
        headers.insert(SET_COOKIE, HeaderValue::from_static("a=b"));
        for_client(&mut headers, Trace { sampled: true, ..FRESH });
        assert_eq!(headers[http::header::CACHE_CONTROL], "private");
        assert_eq!(headers[SERVER], "Google Frontend");
        assert_eq!(headers[X_CLOUD_TRACE_CONTEXT], "00000000000000000000000000000abc;o=1");
    }
}

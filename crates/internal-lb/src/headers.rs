//! The header fields that the load balancer writes (private-connectivity 2.7).

use crate::compile::{AddedHeader, AddedValue};
use crate::variables::Variables;
use bytes::Bytes;
use http::header::{Entry, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use http::request::Parts;
use http::uri::PathAndQuery;
use http_proxy::headers::{
    TRACEPARENT, X_CLOUD_TRACE_CONTEXT, X_FORWARDED_FOR, X_FORWARDED_PROTO, append_forwarded_for,
};
use http_proxy::trace::{Trace, parse_cloud_trace, parse_traceparent};
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv4Addr;
use url_map::Rewrite;

const X_ENVOY_ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// In both directions (observed on external load balancers; (unconfirmed) for internal ones).
const GOOGLE: HeaderValue = HeaderValue::from_static("1.1 google");

/// What is the same for every request of a connection.
pub struct Forwarded {
    client: Ipv4Addr,
    balancer: Ipv4Addr,
    /// `client,balancer`.
    alone: Option<HeaderValue>,
    proto: HeaderValue,
}

impl Forwarded {
    /// For a client and the forwarding rule's address.
    pub fn new(client: Ipv4Addr, balancer: Ipv4Addr, https: bool) -> Self {
        Forwarded {
            client,
            balancer,
            alone: HeaderValue::try_from(format!("{client},{balancer}")).ok(),
            proto: HeaderValue::from_static(if https { "https" } else { "http" }),
        }
    }
}

/// Fields of the load balancer's own.
pub type Fields = [(HeaderName, HeaderValue)];

/// The same for a request that brings none of these fields, as most do: nothing is looked up, and
/// the map stays as it is. Returns the fields and the trace.
pub fn fresh(forwarded: &Forwarded, ids: &Ids) -> Option<(Box<Fields>, HeaderValue)> {
    let (cloud, parent) = written(&ids.trace());
    let (cloud, parent) = (cloud?, parent?);
    let fields = [
        (X_FORWARDED_FOR, forwarded.alone.clone()?),
        (X_FORWARDED_PROTO, forwarded.proto.clone()),
        (VIA, GOOGLE),
        (X_CLOUD_TRACE_CONTEXT, cloud.clone()),
        (TRACEPARENT, parent),
    ];
    Some((Box::new(fields), cloud))
}

/// Does a request have a field that [`for_backend`] reads or replaces?
pub fn is_ours(name: &HeaderName) -> bool {
    // By length first: most names are told apart by it.
    match name.as_str().len() {
        3 => *name == VIA,
        11 => *name == TRACEPARENT,
        15 => *name == X_FORWARDED_FOR,
        17 => *name == X_FORWARDED_PROTO,
        21 => *name == X_CLOUD_TRACE_CONTEXT,
        _ => false,
    }
}

/// Writes the request's fields and returns its trace. `x-forwarded-proto` is (unconfirmed) for
/// internal load balancers.
pub fn for_backend(
    headers: &mut HeaderMap,
    forwarded: &Forwarded,
    ids: &Ids,
) -> Option<HeaderValue> {
    match (headers.entry(X_FORWARDED_FOR), &forwarded.alone) {
        (Entry::Vacant(entry), Some(alone)) => {
            entry.insert(alone.clone());
        }
        _ => {
            append_forwarded_for(headers, forwarded.client.into(), Some(forwarded.balancer.into()))
        }
    }
    headers.insert(X_FORWARDED_PROTO, forwarded.proto.clone());
    append_via(headers);
    trace(headers, ids)
}

/// `via: 1.1 google`, behind what is there.
pub fn append_via(headers: &mut HeaderMap) {
    match headers.entry(VIA) {
        Entry::Vacant(entry) => {
            entry.insert(GOOGLE);
        }
        Entry::Occupied(mut entry) => {
            let existing: Vec<_> = entry.iter().filter_map(|via| via.to_str().ok()).collect();
            let joined = format!("{}, 1.1 google", existing.join(", "));
            if let Ok(joined) = HeaderValue::try_from(joined) {
                entry.insert(joined);
            }
        }
    }
}

/// Propagates a trace, or begins one, in both notations ((unconfirmed) for internal load
/// balancers). A notation that the client sent is never touched; one that it did not send says
/// the same as the other.
fn trace(headers: &mut HeaderMap, ids: &Ids) -> Option<HeaderValue> {
    let cloud = headers.get(X_CLOUD_TRACE_CONTEXT).cloned();
    let parent = headers.get(TRACEPARENT);
    if cloud.is_some() && parent.is_some() {
        return cloud;
    }
    let said =
        cloud.as_ref().and_then(parse_cloud_trace).or_else(|| parent.and_then(parse_traceparent));
    let missing_parent = parent.is_none();
    let trace = said.unwrap_or_else(|| ids.trace());
    let (in_cloud, in_parent) = written(&trace);
    if missing_parent {
        headers.insert(TRACEPARENT, in_parent?);
    }
    if cloud.is_none() {
        let in_cloud = in_cloud?;
        headers.insert(X_CLOUD_TRACE_CONTEXT, in_cloud.clone());
        return Some(in_cloud);
    }
    cloud
}

/// As `x-cloud-trace-context` and as `traceparent`, without the machinery of formatting: most
/// requests begin a trace.
pub fn written(trace: &Trace) -> (Option<HeaderValue>, Option<HeaderValue>) {
    let sampled = b'0' + u8::from(trace.sampled);
    // Both in one piece of memory: 00-ID-SPAN-0F, then ID/SPAN;o=F.
    let mut text = *b"00-................................-................-0.................................../....................;o=.";
    hexadecimal_of(trace.id, &mut text[3..35]);
    // A span id of zero is illegal here.
    hexadecimal_of(trace.span.max(1).into(), &mut text[36..52]);
    text[54] = sampled;
    let (parent, cloud) = text.split_at_mut(55);
    cloud[..32].copy_from_slice(&parent[3..35]);
    cloud[32] = b'/';
    let mut digits = [0; 20];
    let mut span = trace.span;
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (span % 10) as u8;
        span /= 10;
        if span == 0 {
            break;
        }
    }
    let end = 33 + digits.len() - at;
    cloud[33..end].copy_from_slice(&digits[at..]);
    cloud[end..end + 4].copy_from_slice(&[b';', b'o', b'=', sampled]);
    let text = Bytes::copy_from_slice(&text[..55 + end + 4]);
    let value = |range| HeaderValue::from_maybe_shared(text.slice(range)).ok();
    (value(55..text.len()), value(0..55))
}

fn hexadecimal_of(mut number: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Numbers that need to differ, not to be secret (SplitMix64, seeded by the system); one source per
/// thread.
pub struct Ids(Cell<u64>);

impl Ids {
    /// A source of its own.
    pub fn new() -> Self {
        Ids(Cell::new(RandomState::new().hash_one(0u8)))
    }

    /// A random number, for a choice.
    pub fn roll(&self) -> u64 {
        self.next()
    }

    /// A new trace with its first span.
    pub fn trace(&self) -> Trace {
        let id = u128::from(self.next()) << 64 | u128::from(self.next());
        Trace { id: id.max(1), span: self.next().max(1), sampled: false }
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Rewrites host and path. The backend finds the path as it was in `x-envoy-original-path` (2.6;
/// `x-client-request-url` is what load balancers send that are no Envoys).
///
/// # Errors
/// The new path is none.
pub fn rewrite(parts: &mut Parts, rewrite: &Rewrite<'_>) -> Result<(), String> {
    if let Some(host) = rewrite.host.and_then(|host| HeaderValue::from_str(host).ok()) {
        parts.headers.insert(HOST, host);
    }
    let Some(path) = &rewrite.path_and_query else { return Ok(()) };
    let new: PathAndQuery =
        path.parse().map_err(|_| format!("the rewritten path `{path}` is no path"))?;
    let old = parts.uri.path_and_query().map_or("/", |old| old.as_str());
    if let Ok(old) = HeaderValue::from_str(old) {
        parts.headers.insert(X_ENVOY_ORIGINAL_PATH, old);
    }
    parts.uri = new.into();
    Ok(())
}

/// Sets a backend service's custom headers, after header actions ((unconfirmed)). A field of the same name is replaced ((unconfirmed):
/// Google says "added").
pub fn add(headers: &mut HeaderMap, added: &[AddedHeader], variables: &Variables<'_>) {
    for AddedHeader { name, value } in added {
        let value = match value {
            AddedValue::Fixed(value) => value.clone(),
            AddedValue::Rendered(header) => {
                let text = header.render(|variable, text| variables.write(variable, text));
                let Ok(value) = HeaderValue::try_from(text) else { continue };
                value
            }
        };
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "105445aa7843bc8bf206b12000100000";

    fn rewritten(sent: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().expect("a value"));
        }
        let forwarded =
            Forwarded::new(Ipv4Addr::new(10, 0, 2, 2), Ipv4Addr::new(10, 0, 0, 5), true);
        for_backend(&mut headers, &forwarded, &Ids::new());
        headers
    }

    #[test]
    fn the_client_and_the_forwarding_rule_are_appended_without_a_space() {
        for (sent, seen) in [
            (&[][..], "10.0.2.2,10.0.0.5"),
            (&[("x-forwarded-for", "1.1.1.1, 2.2.2.2")], "1.1.1.1, 2.2.2.2,10.0.2.2,10.0.0.5"),
            (
                &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2")],
                "1.1.1.1,2.2.2.2,10.0.2.2,10.0.0.5",
            ),
        ] {
            let headers = rewritten(sent);
            let values: Vec<_> = headers.get_all(X_FORWARDED_FOR).iter().collect();
            assert_eq!(values, [seen]);
        }
        let claimed = rewritten(&[("x-forwarded-proto", "http"), ("via", "1.0 a"), ("via", "2 b")]);
        assert_eq!(claimed["x-forwarded-proto"], "https");
        assert_eq!(claimed["via"], "1.0 a, 2 b, 1.1 google");
    }

    #[test]
    fn a_trace_is_propagated_in_both_notations_or_begun() {
        let parent = format!("00-{ID}-00000000000000ff-01");
        let both = rewritten(&[("traceparent", &parent)]);
        assert_eq!(both["x-cloud-trace-context"], format!("{ID}/255;o=1").as_str());
        assert_eq!(both["traceparent"], parent.as_str());
        let both = rewritten(&[("x-cloud-trace-context", &format!("{ID}/7"))]);
        assert_eq!(both["traceparent"], format!("00-{ID}-0000000000000007-00").as_str());
        let (one, other) = (rewritten(&[]), rewritten(&[]));
        assert_ne!(one["traceparent"], other["traceparent"]);
        assert!(parse_traceparent(&one["traceparent"]).is_some());
        assert_eq!(
            parse_traceparent(&one["traceparent"]),
            parse_cloud_trace(&one["x-cloud-trace-context"])
        );
        // What is malformed is passed on as it is, and says nothing.
        let odd = rewritten(&[("x-cloud-trace-context", "odd")]);
        assert_eq!(odd["x-cloud-trace-context"], "odd");
    }
}

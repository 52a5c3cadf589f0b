//! What keeps a client at one endpoint (2.10 `sessionAffinity`).

use crate::hash::{mix, stable_hash};
use http::header::{COOKIE, HeaderMap, HeaderName, HeaderValue};
use slice::load_balancer::{LocalityLbPolicy, SessionAffinity};
use std::net::Ipv4Addr;

/// The name of the load balancer's own cookie, that of regional internal load balancers.
const GENERATED_COOKIE: &str = "GCILB";

/// The session affinity of a backend service, compiled.
#[derive(Clone, Debug)]
pub struct Affinity(Kind);

#[derive(Clone, Debug)]
enum Kind {
    None,
    ClientIp,
    Header(HeaderName),
    /// What is hashed is the cookie's value, which the load balancer makes up where it is missing.
    Cookie(Cookie),
    /// The cookie's value is the identity of the endpoint.
    Strong(Cookie),
}

#[derive(Clone, Debug)]
struct Cookie {
    name: String,
    /// What stands behind the value in `Set-Cookie`.
    attributes: String,
}

/// What a request says of the endpoint that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// For [`crate::Draw::hash`].
    pub hash: Option<u64>,
    /// For [`crate::Draw::endpoint`].
    pub endpoint: Option<u64>,
    /// The value of a cookie that was made up for this request.
    fresh: Option<u64>,
}

impl Affinity {
    /// Compiles it. Hashing affinities are without effect unless the locality policy hashes (API
    /// reference of `localityLbPolicy`).
    ///
    /// # Errors
    /// A sentence: a name that cannot be one.
    pub fn new(affinity: &SessionAffinity, policy: LocalityLbPolicy) -> Result<Affinity, String> {
        let hashes = matches!(policy, LocalityLbPolicy::Maglev | LocalityLbPolicy::RingHash);
        let kind = match affinity {
            SessionAffinity::StrongCookie { name, path, ttl_sec } => {
                Kind::Strong(Cookie::new(name, path.as_deref().or(Some("/")), *ttl_sec)?)
            }
            _ if !hashes => Kind::None,
            SessionAffinity::None => Kind::None,
            SessionAffinity::ClientIp => Kind::ClientIp,
            SessionAffinity::GeneratedCookie { ttl_sec } => {
                let ttl = (*ttl_sec > 0).then_some(u64::from(*ttl_sec));
                Kind::Cookie(Cookie::new(GENERATED_COOKIE, Some("/"), ttl)?)
            }
            SessionAffinity::HeaderField { name } => Kind::Header(
                HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))?,
            ),
            SessionAffinity::HttpCookie { name, path, ttl_sec } => {
                Kind::Cookie(Cookie::new(name, path.as_deref(), *ttl_sec)?)
            }
        };
        Ok(Affinity(kind))
    }

    /// Does the client's cookie name the endpoint itself?
    pub fn names_endpoints(&self) -> bool {
        matches!(self.0, Kind::Strong(_))
    }

    /// What a request says. Without its header or cookie a request is bound to nothing, and gets a
    /// cookie where the affinity is one of cookies.
    pub fn bound(&self, client: Ipv4Addr, headers: &HeaderMap, roll: u64) -> Bound {
        let hashed = |bytes: &[u8]| Bound { hash: Some(stable_hash(bytes)), ..Bound::default() };
        match &self.0 {
            Kind::None => Bound::default(),
            Kind::ClientIp => hashed(&client.octets()),
            Kind::Header(name) => {
                headers.get(name).map(|value| hashed(value.as_bytes())).unwrap_or_default()
            }
            Kind::Cookie(cookie) => match cookie.value(headers) {
                Some(value) => hashed(value),
                None => {
                    let fresh = mix(roll ^ 0x636f_6f6b_6965);
                    Bound { fresh: Some(fresh), ..hashed(&hex(fresh)) }
                }
            },
            Kind::Strong(cookie) => {
                let endpoint = cookie.value(headers).and_then(|value| {
                    u64::from_str_radix(std::str::from_utf8(value).ok()?, 16).ok()
                });
                Bound { endpoint, ..Bound::default() }
            }
        }
    }

    /// The `Set-Cookie` of the answer to a request that went to the endpoint of this identity.
    pub fn set_cookie(&self, bound: &Bound, chosen: u64) -> Option<HeaderValue> {
        let (cookie, value) = match &self.0 {
            Kind::Cookie(cookie) => (cookie, bound.fresh?),
            Kind::Strong(cookie) if bound.endpoint != Some(chosen) => (cookie, chosen),
            _ => return None,
        };
        // As Envoy writes it: in quotation marks.
        let text = format!("{}=\"{value:016x}\"{}", cookie.name, cookie.attributes);
        HeaderValue::try_from(text).ok()
    }
}

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|digit| b"0123456789abcdef"[(number >> (60 - 4 * digit)) as usize & 15])
}

impl Cookie {
    fn new(name: &str, path: Option<&str>, ttl_sec: Option<u64>) -> Result<Cookie, String> {
        let token = HeaderName::try_from(name).is_ok(); // both are tokens (RFC 6265 4.1.1)
        let printable = |path: &str| path.bytes().all(|b| (32..127).contains(&b) && b != b';');
        if !token {
            return Err(format!("a cookie cannot have the name {name:?}"));
        }
        if let Some(path) = path.filter(|path| !printable(path)) {
            return Err(format!("a cookie cannot have the path {path:?}"));
        }
        let mut attributes = String::new();
        if let Some(ttl) = ttl_sec.filter(|ttl| *ttl > 0) {
            attributes.push_str(&format!("; Max-Age={ttl}"));
        }
        if let Some(path) = path {
            attributes.push_str(&format!("; Path={path}"));
        }
        attributes.push_str("; HttpOnly");
        Ok(Cookie { name: name.to_owned(), attributes })
    }

    /// Its value in the request's cookies (RFC 6265 5.4), without quotation marks.
    fn value<'r>(&self, headers: &'r HeaderMap) -> Option<&'r [u8]> {
        let pairs =
            headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(is_semicolon));
        pairs
            .filter_map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=')?;
                (pair[..at].trim_ascii() == self.name.as_bytes())
                    .then(|| pair[at + 1..].trim_ascii())
            })
            .map(|value| {
                value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
            })
            .find(|value| !value.is_empty())
    }
}

fn is_semicolon(byte: &u8) -> bool {
    *byte == b';'
}

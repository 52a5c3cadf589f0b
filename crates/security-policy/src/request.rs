//! The request as rules see it.

use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use std::borrow::Cow;
use std::net::IpAddr;

/// So much of a header value can be inspected (Cloud Armor rules language reference).
const INSPECTED_MAX: usize = 16 * 1024;

/// One request, before the load balancer has changed anything of it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The address that the connection comes from.
    pub client: IpAddr,
    /// As sent.
    pub method: &'r str,
    /// `http` or `https`.
    pub scheme: &'r str,
    /// `Host` or `:authority`.
    pub host: &'r str,
    /// Without query.
    pub path: &'r str,
    /// What follows `?`; empty where there is none.
    pub query: &'r str,
    /// Its fields.
    pub headers: &'r HeaderMap,
    /// The name in the TLS handshake.
    pub sni: Option<&'r str>,
}

impl<'r> Request<'r> {
    /// The values of a field, joined by commas; none: there is no such field. `host` is there in
    /// HTTP/2 as well.
    pub fn header(&self, name: &str) -> Option<Cow<'r, str>> {
        // The keys of the map are in lower case, and so has the asked one to be.
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        let mut values = self.headers.get_all(name).iter();
        let Some(first) = values.next() else {
            return (name == "host" && !self.host.is_empty()).then_some(Cow::Borrowed(self.host));
        };
        let mut text = text(first);
        for next in values {
            let joined = text.to_mut();
            joined.push(',');
            joined.push_str(&self::text(next));
        }
        if text.len() > INSPECTED_MAX {
            let end = text.floor_char_boundary(INSPECTED_MAX);
            text = match text {
                Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
                Cow::Owned(text) => Cow::Owned(text[..end].to_owned()),
            };
        }
        Some(text)
    }

    /// The value of a cookie.
    pub fn cookie(&self, name: &str) -> Option<Cow<'r, str>> {
        for line in self.headers.get_all(http::header::COOKIE) {
            let line = line.to_str().ok()?;
            for pair in line.split(';') {
                if let Some((key, value)) = pair.split_once('=')
                    && key.trim() == name
                {
                    return Some(Cow::Borrowed(value.trim()));
                }
            }
        }
        None
    }

    /// The first address of `X-Forwarded-For`, as the client sent it.
    pub fn forwarded(&self) -> Option<IpAddr> {
        let value = self.headers.get("x-forwarded-for")?.to_str().ok()?;
        value.split(',').next()?.trim().parse().ok()
    }

    /// Whom the policy takes for the user: the first of these headers that holds an address, else
    /// the client (`userIpRequestHeaders`).
    pub fn user(&self, headers: &[String]) -> IpAddr {
        let said = headers.iter().find_map(|name| {
            let value = self.headers.get(name.as_str())?.to_str().ok()?;
            value.split(',').next()?.trim().parse().ok()
        });
        said.unwrap_or(self.client)
    }
}

fn text(value: &HeaderValue) -> Cow<'_, str> {
    String::from_utf8_lossy(value.as_bytes())
}

/// Is the address in one of the ranges?
pub(crate) fn within(ranges: &[IpNet], address: IpAddr) -> bool {
    ranges.iter().any(|range| range.contains(&address))
}

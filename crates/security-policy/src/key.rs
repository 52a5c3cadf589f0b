//! Whose requests are counted together (cloud-run 6.2, "Keys").

use crate::compile::{Policy, Rule};
use crate::request::Request;
use slice::load_balancer::RateKey;
use std::fmt::Write;

/// "Values cut at 128 bytes".
const VALUE_MAX: usize = 128;

/// The key of a request under a rule, with the backend service for which is counted. What a request
/// lacks is the same key for all that lack it: an absent header or cookie counts as ALL, an absent
/// or malformed X-Forwarded-For as IP.
pub(crate) fn key(
    policy: &Policy,
    rule: &Rule,
    keys: &[RateKey],
    service: &str,
    request: &Request<'_>,
) -> Box<str> {
    let mut text = format!("{service}\0{}", rule.priority);
    for kind in keys {
        text.push('\0');
        let mut named = |value: Option<&str>| match value {
            Some(value) => {
                text.push('=');
                text.push_str(&value[..value.floor_char_boundary(VALUE_MAX)]);
            }
            None => text.push('*'),
        };
        let address = match kind {
            RateKey::All => {
                named(None);
                continue;
            }
            RateKey::HttpHeader(name) => {
                named(request.header(&name.to_ascii_lowercase()).as_deref());
                continue;
            }
            RateKey::HttpCookie(name) => {
                named(request.cookie(name).as_deref());
                continue;
            }
            RateKey::HttpPath => {
                named(Some(request.path));
                continue;
            }
            RateKey::Sni => {
                named(request.sni);
                continue;
            }
            RateKey::RegionCode => {
                let known = policy.origin(request.client);
                named(known.and_then(|origin| origin.region_code.as_deref()));
                continue;
            }
            RateKey::Ip => request.client,
            RateKey::XffIp => request.forwarded().unwrap_or(request.client),
            RateKey::UserIp => request.user(&policy.user_ip_request_headers),
        };
        let _ = write!(text, "{address}");
    }
    text.into()
}

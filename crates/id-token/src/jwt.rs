//! The outside of a JWT: three dot-separated base64url segments.

use crate::refusal::Malformation;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// What Cloud Run puts in place of a verified token's signature (cloud-run 0, row 5).
pub const SIGNATURE_REMOVED: &str = "SIGNATURE_REMOVED_BY_GOOGLE";

/// No token is longer, in bytes; the header limits of every hop are of this order.
const LENGTH_MAX: usize = 16 * 1024;

/// Puts [`SIGNATURE_REMOVED`] in place of the signature. `bearer` may be a token or a whole header
/// value (`Bearer h.p.s`); what stands before the token is kept. None if there are no three
/// segments, so nothing to remove.
pub fn replace_signature(bearer: &str) -> Option<String> {
    let (signed, _) = bearer.rsplit_once('.')?;
    if !signed.contains('.') {
        return None;
    }
    let mut value = String::with_capacity(signed.len() + 1 + SIGNATURE_REMOVED.len());
    value.push_str(signed);
    value.push('.');
    value.push_str(SIGNATURE_REMOVED);
    Some(value)
}

/// A token, taken apart but not believed.
pub(crate) struct Segments<'a> {
    /// What the signature covers: `header.payload`.
    pub signed: &'a str,
    pub header: &'a str,
    pub payload: &'a str,
    pub signature: &'a str,
}

pub(crate) fn segments(token: &str) -> Result<Segments<'_>, Malformation> {
    if token.len() > LENGTH_MAX {
        return Err(Malformation::TooLong(token.len()));
    }
    let count = token.bytes().filter(|byte| *byte == b'.').count() + 1;
    let parts = token.rsplit_once('.').and_then(|(signed, signature)| {
        let (header, payload) = signed.split_once('.')?;
        Some(Segments { signed, header, payload, signature })
    });
    match parts {
        Some(parts) if count == 3 => Ok(parts),
        _ => Err(Malformation::Segments(count)),
    }
}

/// The header of a JWT.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub alg: String,
    #[serde(default)]
    pub kid: Option<String>,
    #[serde(default)]
    pub typ: Option<String>,
    /// Extensions that must be understood; we understand none (RFC 7515 4.1.11).
    #[serde(default)]
    pub crit: Option<serde_json::Value>,
}

pub(crate) fn header(segment: &str) -> Result<Header, Malformation> {
    let bytes = decode(segment).ok_or(Malformation::Base64("header"))?;
    let header: Header =
        serde_json::from_slice(&bytes).map_err(|_| Malformation::Json("header"))?;
    if header.crit.is_some() { Err(Malformation::CriticalExtension) } else { Ok(header) }
}

pub(crate) fn decode(segment: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(segment).ok()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_replaced_by_googles_literal() {
        for (value, expected) in [
            ("h.p.s", Some("h.p.SIGNATURE_REMOVED_BY_GOOGLE")),
            ("Bearer h.p.s", Some("Bearer h.p.SIGNATURE_REMOVED_BY_GOOGLE")),
            ("h.p.", Some("h.p.SIGNATURE_REMOVED_BY_GOOGLE")),
            ("h.p", None),
            ("opaque", None),
            ("", None),
        ] {
            assert_eq!(replace_signature(value).as_deref(), expected, "{value}");
        }
    }
}

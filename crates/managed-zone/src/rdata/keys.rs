//! Fingerprints and keys: DS (RFC 4034, 5), SSHFP (RFC 4255), TLSA (RFC 6698), IPSECKEY (RFC 4025);
//! and data of any type by its octets (RFC 3597, 5).

use super::present::write_rdata;
use super::{RdataError, Tokens};
use crate::record_type::RecordType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Numbers, then octets in hexadecimal digits, perhaps in several fields.
pub(super) fn digest(
    record_type: RecordType,
    fields: &mut Tokens<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RdataError> {
    match record_type {
        RecordType::DS => {
            fields.u16("key tag", out)?;
            fields.u8("algorithm", out)?;
            fields.u8("digest type", out)?;
        }
        RecordType::SSHFP => {
            fields.u8("algorithm", out)?;
            fields.u8("fingerprint type", out)?;
        }
        _ => {
            for field in ["certificate usage", "selector", "matching type"] {
                fields.u8(field, out)?;
            }
        }
    }
    hexadecimal("digest", fields, out)
}

/// Precedence, gateway type, algorithm, gateway, and the key in Base64.
pub(super) fn ipseckey(fields: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), RdataError> {
    fields.u8("precedence", out)?;
    let gateway_type = fields.u8("gateway type", out)?;
    fields.u8("algorithm", out)?;
    match gateway_type {
        0 => {
            let none = fields.next("gateway")?;
            if none != "." {
                return Err(RdataError::Field("gateway", none.to_owned(), "`.`"));
            }
        }
        1 => {
            let gateway: Ipv4Addr = fields.parse("gateway", "an IPv4 address")?;
            out.extend_from_slice(&gateway.octets());
        }
        2 => {
            let gateway: Ipv6Addr = fields.parse("gateway", "an IPv6 address")?;
            out.extend_from_slice(&gateway.octets());
        }
        3 => fields.name("gateway", out)?,
        other => {
            let expected = "0 for none, 1 for IPv4, 2 for IPv6 or 3 for a name";
            return Err(RdataError::Field("gateway type", other.to_string(), expected));
        }
    }
    let mut key = String::new();
    while !fields.is_at_end() {
        key += fields.next("key")?;
    }
    let octets = STANDARD.decode(&key);
    out.extend(octets.map_err(|_| RdataError::Field("key", key, "Base64"))?);
    Ok(())
}

/// `\# LENGTH OCTETS`. The data of a known type must have that type's form.
pub(super) fn generic(
    record_type: RecordType,
    fields: &mut Tokens<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RdataError> {
    fields.next("data")?;
    let length: u16 = fields.parse("length", "a number up to 65535")?;
    let begin = out.len();
    if length > 0 || !fields.is_at_end() {
        hexadecimal("data", fields, out)?;
    }
    let data = &out[begin..];
    let wrong = |text: String, expected| Err(RdataError::Field("data", text, expected));
    if data.len() != usize::from(length) {
        return wrong(format!("of {} octets", data.len()), "as long as it says");
    }
    let mut text = String::new();
    // Writing to a `String` does not fail.
    let _ = write_rdata(record_type, data, &mut text);
    if text.starts_with("\\#") {
        return wrong(text, "of the form of its type");
    }
    Ok(())
}

fn hexadecimal(
    field: &'static str,
    fields: &mut Tokens<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RdataError> {
    let mut digits = fields.next(field)?.to_owned();
    while !fields.is_at_end() {
        digits += fields.next(field)?;
    }
    let octet = |pair: &[u8]| {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        Some((digit(0)? << 4 | digit(1)?) as u8)
    };
    let octets: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(octet).collect();
    let expected = "an even number of hexadecimal digits";
    out.extend(octets.ok_or(RdataError::Field(field, digits, expected))?);
    Ok(())
}

//! The data of SVCB and HTTPS records (RFC 9460): priority, target, parameters.

use super::RdataError;
use super::tokens::{Tokens, octets};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;

const KEYS: &[(&str, u16)] = &[
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
];

/// The key's name, or its number where it has none.
pub(super) fn key_name(key: u16) -> String {
    KEYS.iter()
        .find(|(_, number)| *number == key)
        .map_or_else(|| format!("key{key}"), |(name, _)| (*name).to_owned())
}

pub(super) fn encode(fields: &mut Tokens<'_>, out: &mut Vec<u8>) -> Result<(), RdataError> {
    fields.u16("priority", out)?;
    fields.name("target", out)?;
    let mut parameters = BTreeMap::new();
    while !fields.is_at_end() {
        let field = fields.next("parameter")?;
        let (name, value) = field.split_once('=').map_or((field, None), |(k, v)| (k, Some(v)));
        let wrong = |why| RdataError::Parameter(name.to_owned(), why);
        let key = key_number(name).ok_or(wrong("is not known; write it as keyNNNNN"))?;
        let value = encode_value(key, value.map(octets).transpose()?).map_err(wrong)?;
        if parameters.insert(key, value).is_some() {
            return Err(wrong("is given twice"));
        }
    }
    if parameters.contains_key(&NO_DEFAULT_ALPN) && !parameters.contains_key(&ALPN) {
        return Err(RdataError::Parameter(key_name(NO_DEFAULT_ALPN), "needs alpn beside it"));
    }
    for key in parameters.get(&MANDATORY).map_or(&[][..], |keys| keys).chunks_exact(2) {
        if !parameters.contains_key(&u16::from_be_bytes([key[0], key[1]])) {
            return Err(RdataError::Parameter(
                key_name(MANDATORY),
                "names a parameter that is not there",
            ));
        }
    }
    for (key, value) in parameters {
        let length = u16::try_from(value.len()).map_err(|_| RdataError::Length)?;
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&value);
    }
    Ok(())
}

fn key_number(name: &str) -> Option<u16> {
    KEYS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number).or_else(|| {
        let digits = name.strip_prefix("key")?;
        let canonical = digits == "0" || !digits.starts_with('0');
        let number: u16 = digits.parse().ok()?;
        (canonical && !digits.starts_with('+') && number != u16::MAX).then_some(number)
    })
}

fn encode_value(key: u16, value: Option<Vec<u8>>) -> Result<Vec<u8>, &'static str> {
    let given = || value.clone().filter(|value| !value.is_empty()).ok_or("needs a value");
    let text = || String::from_utf8(given()?).map_err(|_| "has a value that is no text");
    let mut wire = Vec::new();
    match key {
        MANDATORY => {
            let mut keys = Vec::new();
            for name in text()?.split(',') {
                let key = key_number(name).ok_or("names an unknown parameter")?;
                if key == MANDATORY || keys.contains(&key) {
                    return Err("names itself or a parameter twice");
                }
                keys.push(key);
            }
            keys.sort_unstable();
            wire.extend(keys.into_iter().flat_map(u16::to_be_bytes));
        }
        ALPN => {
            for protocol in list(&given()?)? {
                wire.push(u8::try_from(protocol.len()).map_err(|_| "has a protocol too long")?);
                wire.extend_from_slice(&protocol);
            }
        }
        NO_DEFAULT_ALPN | OHTTP => {
            if value.is_some() {
                return Err("takes no value");
            }
        }
        PORT => {
            let port: u16 = text()?.parse().map_err(|_| "is no port number")?;
            wire.extend_from_slice(&port.to_be_bytes());
        }
        IPV4HINT => {
            for address in text()?.split(',') {
                let address: Ipv4Addr = address.parse().map_err(|_| "is no IPv4 address")?;
                wire.extend_from_slice(&address.octets());
            }
        }
        IPV6HINT => {
            for address in text()?.split(',') {
                let address: Ipv6Addr = address.parse().map_err(|_| "is no IPv6 address")?;
                wire.extend_from_slice(&address.octets());
            }
        }
        ECH => wire = STANDARD.decode(given()?).map_err(|_| "is not Base64")?,
        DOHPATH => wire = given()?,
        _ => wire = value.unwrap_or_default(),
    }
    Ok(wire)
}

/// A comma-separated list in which a backslash escapes commas and itself (RFC 9460, A.1).
fn list(value: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut items = vec![Vec::new()];
    let mut octets = value.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b',' => items.push(Vec::new()),
            b'\\' => match octets.next() {
                Some(escaped @ (b',' | b'\\')) => push(&mut items, *escaped),
                _ => return Err("has a backslash that escapes nothing"),
            },
            octet => push(&mut items, *octet),
        }
    }
    if items.iter().any(Vec::is_empty) { Err("has an empty item") } else { Ok(items) }
}

fn push(items: &mut [Vec<u8>], octet: u8) {
    if let Some(item) = items.last_mut() {
        item.push(octet);
    }
}

//! Wire form to presentation format, for people, logs and tests.

use super::service_binding::key_name;
use crate::name::{wire_length, write_wire};
use crate::record_type::RecordType;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Prints the data of one record. What does not have the form of its type is printed as RFC 3597
/// does unknown types; a compiled zone holds no such data.
pub(crate) fn write_rdata(record_type: RecordType, wire: &[u8], out: &mut String) -> fmt::Result {
    let begin = out.len();
    if typed(record_type, &mut Wire(wire), out).is_none() {
        out.truncate(begin);
        write!(out, "\\# {}", wire.len())?;
        if !wire.is_empty() {
            out.push(' ');
        }
        for octet in wire {
            write!(out, "{octet:02x}")?;
        }
    }
    Ok(())
}

fn typed(record_type: RecordType, wire: &mut Wire<'_>, out: &mut String) -> Option<()> {
    match record_type {
        RecordType::A => write!(out, "{}", wire.ipv4()?).ok()?,
        RecordType::AAAA => write!(out, "{}", wire.ipv6()?).ok()?,
        RecordType::CNAME | RecordType::NS | RecordType::PTR => wire.name(out)?,
        RecordType::MX => {
            wire.number(out)?;
            wire.name(out)?;
        }
        RecordType::SRV => {
            for _ in 0..3 {
                wire.number(out)?;
            }
            wire.name(out)?;
        }
        RecordType::SOA => {
            wire.name(out)?;
            out.push(' ');
            wire.name(out)?;
            for _ in 0..5 {
                let octets = wire.take(4)?.try_into().ok()?;
                write!(out, " {}", u32::from_be_bytes(octets)).ok()?;
            }
        }
        RecordType::TXT | RecordType::SPF => {
            wire.character_string(out)?;
            while !wire.0.is_empty() {
                out.push(' ');
                wire.character_string(out)?;
            }
        }
        RecordType::CAA => {
            let flags = wire.take(1)?[0];
            let tag_length = usize::from(wire.take(1)?[0]);
            let tag = std::str::from_utf8(wire.take(tag_length)?).ok()?;
            write!(out, "{flags} {tag} ").ok()?;
            quote(std::mem::take(&mut wire.0), out);
        }
        RecordType::NAPTR => {
            wire.number(out)?;
            wire.number(out)?;
            for _ in 0..3 {
                wire.character_string(out)?;
                out.push(' ');
            }
            wire.name(out)?;
        }
        RecordType::SVCB | RecordType::HTTPS => {
            wire.number(out)?;
            wire.name(out)?;
            while !wire.0.is_empty() {
                let (key, length) = (wire.u16()?, wire.u16()?);
                let value = wire.take(usize::from(length))?;
                parameter(key, value, out)?;
            }
        }
        RecordType::DS => {
            wire.number(out)?;
            numbers(wire, 2, out)?;
            hexadecimal(std::mem::take(&mut wire.0), out)?;
        }
        RecordType::SSHFP => {
            numbers(wire, 2, out)?;
            hexadecimal(std::mem::take(&mut wire.0), out)?;
        }
        RecordType::TLSA => {
            numbers(wire, 3, out)?;
            hexadecimal(std::mem::take(&mut wire.0), out)?;
        }
        RecordType::IPSECKEY => {
            let gateway_type = *wire.0.get(1)?;
            numbers(wire, 3, out)?;
            match gateway_type {
                0 => out.push('.'),
                1 => write!(out, "{}", wire.ipv4()?).ok()?,
                2 => write!(out, "{}", wire.ipv6()?).ok()?,
                3 => wire.name(out)?,
                _ => return None,
            }
            let key = STANDARD.encode(std::mem::take(&mut wire.0));
            if !key.is_empty() {
                write!(out, " {key}").ok()?;
            }
        }
        _ => return None,
    }
    wire.0.is_empty().then_some(())
}

/// So many octets as numbers, each with a blank behind it.
fn numbers(wire: &mut Wire<'_>, count: usize, out: &mut String) -> Option<()> {
    wire.take(count)?.iter().try_for_each(|number| write!(out, "{number} ").ok())
}

/// Octets in hexadecimal digits; there is one at least.
fn hexadecimal(octets: &[u8], out: &mut String) -> Option<()> {
    if octets.is_empty() {
        return None;
    }
    octets.iter().try_for_each(|octet| write!(out, "{octet:02X}").ok())
}

fn parameter(key: u16, value: &[u8], out: &mut String) -> Option<()> {
    write!(out, " {}", key_name(key)).ok()?;
    let mut wire = Wire(value);
    let mut items = Vec::new();
    match key {
        0 => {
            while !wire.0.is_empty() {
                items.push(key_name(wire.u16()?));
            }
        }
        1 => {
            while !wire.0.is_empty() {
                let length = usize::from(wire.take(1)?[0]);
                let mut item = String::new();
                for octet in wire.take(length)? {
                    match octet {
                        b',' => item.push_str(r"\\,"), // escaped in the list, then in the string
                        b'\\' => item.push_str(r"\\\\"),
                        b'"' => item.push_str("\\\""),
                        b' '..=b'~' => item.push(char::from(*octet)),
                        _ => write!(item, "\\{octet:03}").ok()?,
                    }
                }
                items.push(item);
            }
        }
        3 => items.push(wire.u16()?.to_string()),
        4 => {
            while !wire.0.is_empty() {
                items.push(wire.ipv4()?.to_string());
            }
        }
        5 => items.push(STANDARD.encode(std::mem::take(&mut wire.0))),
        6 => {
            while !wire.0.is_empty() {
                items.push(wire.ipv6()?.to_string());
            }
        }
        _ if value.is_empty() => return Some(()),
        _ => {
            out.push('=');
            quote(value, out);
            return Some(());
        }
    }
    write!(out, "=\"{}\"", items.join(",")).ok()
}

/// A quoted text with its escapes.
fn quote(octets: &[u8], out: &mut String) {
    out.push('"');
    for octet in octets {
        match octet {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*octet));
            }
            b' '..=b'~' => out.push(char::from(*octet)),
            _ => out.push_str(&format!("\\{octet:03}")),
        }
    }
    out.push('"');
}

struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn number(&mut self, out: &mut String) -> Option<()> {
        write!(out, "{} ", self.u16()?).ok()
    }

    fn ipv4(&mut self) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from(<[u8; 4]>::try_from(self.take(4)?).ok()?))
    }

    fn ipv6(&mut self) -> Option<Ipv6Addr> {
        Some(Ipv6Addr::from(<[u8; 16]>::try_from(self.take(16)?).ok()?))
    }

    fn name(&mut self, out: &mut String) -> Option<()> {
        let length = wire_length(self.0)?;
        write_wire(self.take(length)?, out).ok()
    }

    fn character_string(&mut self, out: &mut String) -> Option<()> {
        let length = usize::from(self.take(1)?[0]);
        quote(self.take(length)?, out);
        Some(())
    }
}

//! Record data: presentation format to wire form when a zone is compiled, and back when people
//! want to read it.
//!
//! By hand and not with hickory's text parser, which takes surplus fields, reads `\DDD` wrongly and
//! panics on some service parameters; the tests hold both against each other where hickory is
//! right.

mod keys;
mod present;
mod service_binding;
mod tokens;

pub(crate) use present::write_rdata;

use crate::name::{self, NameError};
use crate::record_type::RecordType;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use tokens::Tokens;

/// Why a text is no record data of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RdataError {
    /// Fewer fields than the type has; the missing one.
    Missing(&'static str),
    /// More fields than the type has; the first of them.
    Surplus(String),
    /// A field that is not what it must be: the field, its text, what is expected.
    Field(&'static str, String, &'static str),
    /// A field that is no name.
    Name(&'static str, String, NameError),
    /// A quoted text without its closing quote.
    Unclosed,
    /// A backslash without a character or three digits up to 255.
    Escape,
    /// A character string of more than 255 octets: its length.
    StringLength(usize),
    /// A parameter of a service binding.
    Parameter(String, &'static str),
    /// More octets than a message can carry.
    Length,
}

impl fmt::Display for RdataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RdataError::Missing(field) => write!(f, "the {field} is missing"),
            RdataError::Surplus(text) => write!(f, "`{text}` is one field too many"),
            RdataError::Field(field, text, expected) => {
                write!(f, "the {field} `{text}` is not {expected}")
            }
            RdataError::Name(field, text, why) => write!(f, "the {field} `{text}`: {why}"),
            RdataError::Unclosed => f.write_str("a quoted text is not closed"),
            RdataError::Escape => f.write_str("a backslash needs a character or three digits"),
            RdataError::StringLength(length) => write!(
                f,
                "a character string has {length} octets, the limit is 255; split it: \"…\" \"…\""
            ),
            RdataError::Parameter(key, why) => write!(f, "the parameter `{key}` {why}"),
            RdataError::Length => f.write_str("the record data is longer than 65535 octets"),
        }
    }
}

impl std::error::Error for RdataError {}

/// Appends the wire form of `text`, without compression.
pub(crate) fn encode(
    record_type: RecordType,
    text: &str,
    out: &mut Vec<u8>,
) -> Result<(), RdataError> {
    let begin = out.len();
    let mut fields = Tokens::new(text);
    if text.trim_ascii_start().starts_with("\\#") {
        return keys::generic(record_type, &mut fields, out);
    }
    match record_type {
        RecordType::A => {
            let address: Ipv4Addr = fields.parse("address", "an IPv4 address")?;
            out.extend_from_slice(&address.octets());
        }
        RecordType::AAAA => {
            let address: Ipv6Addr = fields.parse("address", "an IPv6 address")?;
            out.extend_from_slice(&address.octets());
        }
        RecordType::CNAME | RecordType::NS | RecordType::PTR => fields.name("target", out)?,
        RecordType::MX => {
            fields.u16("preference", out)?;
            fields.name("exchange", out)?;
        }
        RecordType::SRV => {
            for field in ["priority", "weight", "port"] {
                fields.u16(field, out)?;
            }
            fields.name("target", out)?;
        }
        RecordType::SOA => {
            fields.name("primary name server", out)?;
            fields.name("responsible mailbox", out)?;
            for field in ["serial", "refresh", "retry", "expire", "minimum"] {
                let number: u32 = fields.parse(field, "a number of 32 bits")?;
                out.extend_from_slice(&number.to_be_bytes());
            }
        }
        RecordType::TXT | RecordType::SPF => {
            fields.character_string("text", out)?;
            while !fields.is_at_end() {
                fields.character_string("text", out)?;
            }
        }
        RecordType::CAA => {
            let flags: u8 = fields.parse("flags", "a number up to 255")?;
            let tag = fields.next("tag")?;
            if tag.is_empty() || tag.len() > 15 || !tag.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return Err(RdataError::Field("tag", tag.to_owned(), "1 to 15 letters and digits"));
            }
            out.extend_from_slice(&[flags, tag.len() as u8]);
            out.extend_from_slice(tag.as_bytes());
            out.extend_from_slice(&tokens::octets(fields.next("value")?)?);
        }
        RecordType::NAPTR => {
            fields.u16("order", out)?;
            fields.u16("preference", out)?;
            for field in ["flags", "services", "regexp"] {
                fields.character_string(field, out)?;
            }
            fields.name("replacement", out)?;
        }
        RecordType::SVCB | RecordType::HTTPS => service_binding::encode(&mut fields, out)?,
        RecordType::DS | RecordType::SSHFP | RecordType::TLSA => {
            keys::digest(record_type, &mut fields, out)?;
        }
        RecordType::IPSECKEY => keys::ipseckey(&mut fields, out)?,
        other => {
            // The zone refuses other types by name before it comes here.
            return Err(RdataError::Field("type", other.to_string(), "a type of a private zone"));
        }
    }
    if let Some(surplus) = fields.rest() {
        return Err(RdataError::Surplus(surplus.to_owned()));
    }
    if out.len() - begin > usize::from(u16::MAX) { Err(RdataError::Length) } else { Ok(()) }
}

impl Tokens<'_> {
    fn parse<T: FromStr>(
        &mut self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<T, RdataError> {
        let text = self.next(field)?;
        text.parse().map_err(|_| RdataError::Field(field, text.to_owned(), expected))
    }

    fn u8(&mut self, field: &'static str, out: &mut Vec<u8>) -> Result<u8, RdataError> {
        let number: u8 = self.parse(field, "a number up to 255")?;
        out.push(number);
        Ok(number)
    }

    fn u16(&mut self, field: &'static str, out: &mut Vec<u8>) -> Result<(), RdataError> {
        let number: u16 = self.parse(field, "a number up to 65535")?;
        out.extend_from_slice(&number.to_be_bytes());
        Ok(())
    }

    /// The Cloud DNS API takes absolute names only.
    fn name(&mut self, field: &'static str, out: &mut Vec<u8>) -> Result<(), RdataError> {
        let text = self.next(field)?;
        let wrong = |why| RdataError::Name(field, text.to_owned(), why);
        let escapes = text.trim_end_matches('.').bytes().rev().take_while(|b| *b == b'\\').count();
        if !text.ends_with('.') || escapes % 2 == 1 {
            return Err(wrong(NameError::Relative));
        }
        name::encode(text, out).map_err(wrong)
    }

    fn character_string(
        &mut self,
        field: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<(), RdataError> {
        let octets = tokens::octets(self.next(field)?)?;
        let length =
            u8::try_from(octets.len()).map_err(|_| RdataError::StringLength(octets.len()))?;
        out.push(length);
        out.extend_from_slice(&octets);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The fields of record data in presentation format (RFC 1035, 5.1).

use super::RdataError;
use crate::name::unescape;

/// Splits at white space outside of quotes.
pub(super) struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Tokens { rest: text.trim_ascii() }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not taken.
    pub(super) fn rest(&self) -> Option<&'a str> {
        (!self.is_at_end()).then_some(self.rest)
    }

    /// The next field as it is written, quotes and escapes included.
    pub(super) fn next(&mut self, field: &'static str) -> Result<&'a str, RdataError> {
        let bytes = self.rest.as_bytes();
        if bytes.is_empty() {
            return Err(RdataError::Missing(field));
        }
        let (mut at, mut quoted) = (0, false);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\\' => at += 1,
                b'"' => {
                    quoted = !quoted;
                    // A closing quote ends a field that a quote began, so `"a""b"` are two.
                    if !quoted && bytes[0] == b'"' {
                        at += 1;
                        break;
                    }
                }
                byte if byte.is_ascii_whitespace() && !quoted => break,
                _ => {}
            }
            at += 1;
        }
        if quoted {
            return Err(RdataError::Unclosed);
        }
        // An escape of a character of several bytes, or as the last character, is none.
        let (taken, rest) = self.rest.split_at_checked(at).ok_or(RdataError::Escape)?;
        self.rest = rest.trim_ascii_start();
        Ok(taken)
    }
}

/// The octets that a field stands for: quotes taken off, escapes resolved. Other characters than
/// ASCII stand for their UTF-8 octets.
pub(super) fn octets(field: &str) -> Result<Vec<u8>, RdataError> {
    let mut octets = Vec::with_capacity(field.len());
    let mut bytes = field.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {}
            b'\\' => octets.push(unescape(&mut bytes).ok_or(RdataError::Escape)?),
            byte => octets.push(byte),
        }
    }
    Ok(octets)
}

//! Domain names in wire form (RFC 1035, 3.1), lower case, and their text.

use std::fmt;

/// The longest name, its length bytes and the root label counted (RFC 1035, 2.3.4).
pub(crate) const NAME_OCTETS_MAX: usize = 255;
/// The most labels that fit into [`NAME_OCTETS_MAX`], the root label not counted.
pub(crate) const LABELS_MAX: usize = 127;

/// An absolute domain name: wire form, ASCII letters in lower case, so that equal names are equal
/// bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The root.
    pub fn root() -> Self {
        Name(Box::new([0]))
    }

    /// From text, with or without the trailing dot, always absolute. `\.` and `\DDD` escape as in
    /// zone files.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        encode(text, &mut wire)?;
        wire.make_ascii_lowercase();
        Ok(Name(wire.into_boxed_slice()))
    }

    /// From well-formed wire form without compression; the case is folded.
    pub(crate) fn from_wire(wire: &[u8]) -> Self {
        Name(wire.to_ascii_lowercase().into_boxed_slice())
    }

    /// The wire form: length-prefixed labels and the root's zero.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// What a name with an asterisk as its first label stands below.
    pub(crate) fn below_wildcard(&self) -> Option<Name> {
        self.0.strip_prefix(b"\x01*").map(|parent| Name(parent.into()))
    }

    /// Is this name `zone` itself or below it?
    pub fn is_within(&self, zone: &Name) -> bool {
        suffixes(&self.0).any(|suffix| suffix == zone.as_wire())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(&self.0, f)
    }
}

/// The name itself and every ancestor of it, the root last.
pub(crate) fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(wire);
    std::iter::from_fn(move || {
        let here = rest?;
        rest = match here.first() {
            Some(0) | None => None,
            Some(length) => here.get(usize::from(*length) + 1..),
        };
        Some(here)
    })
}

/// How long is the name at the start of `wire`, its root zero included? Nothing unless it is a
/// well-formed name without compression.
pub(crate) fn wire_length(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *wire.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            _ => return None,
        }
        if at >= NAME_OCTETS_MAX {
            return None;
        }
    }
}

/// Appends `text` in wire form, its case kept. `@`, relative names and non-ASCII text have no
/// meaning here: every name of the Cloud DNS API is absolute and in ASCII.
pub(crate) fn encode(text: &str, out: &mut Vec<u8>) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let begin = out.len();
    if text != "." {
        let mut bytes = text.bytes();
        let mut label = out.len();
        out.push(0);
        while let Some(byte) = bytes.next() {
            match byte {
                b'.' => {
                    close(label, out)?;
                    label = out.len();
                    out.push(0);
                    continue;
                }
                b'\\' => out.push(unescape(&mut bytes).ok_or(NameError::Escape)?),
                b'!'..=b'~' => out.push(byte),
                _ => return Err(NameError::Character),
            }
        }
        if out.len() == label + 1 {
            out.pop(); // the text ended with its dot
        } else {
            close(label, out)?;
        }
    }
    out.push(0);
    if out.len() - begin > NAME_OCTETS_MAX { Err(NameError::Length) } else { Ok(()) }
}

fn close(label: usize, out: &mut [u8]) -> Result<(), NameError> {
    match out.len() - label - 1 {
        0 => Err(NameError::EmptyLabel),
        length @ 1..=63 => {
            out[label] = length as u8;
            Ok(())
        }
        _ => Err(NameError::LabelLength),
    }
}

/// What stands behind a backslash: `DDD` is an octet by its decimal number, anything else itself
/// (RFC 1035, 5.1).
pub(crate) fn unescape(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let mut value = u32::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next()?;
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u32::from(digit - b'0');
    }
    u8::try_from(value).ok()
}

/// Prints the well-formed name `wire` as zone files write it, with the trailing dot.
pub(crate) fn write_wire(wire: &[u8], f: &mut impl fmt::Write) -> fmt::Result {
    if wire.first() == Some(&0) {
        return f.write_char('.');
    }
    for suffix in suffixes(wire) {
        let Some((length, rest)) = suffix.split_first() else { break };
        for byte in rest.iter().take(usize::from(*length)) {
            match byte {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                    write!(f, "\\{}", char::from(*byte))?;
                }
                b'!'..=b'~' => f.write_char(char::from(*byte))?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        if *length > 0 {
            f.write_char('.')?;
        }
    }
    Ok(())
}

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing at all.
    Empty,
    /// Two dots in a row, or a leading one.
    EmptyLabel,
    /// A label of more than 63 octets.
    LabelLength,
    /// More than 255 octets.
    Length,
    /// A backslash without a character or three digits up to 255.
    Escape,
    /// A character outside printable ASCII.
    Character,
    /// A name in record data without the trailing dot.
    Relative,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NameError::Empty => "the name is empty",
            NameError::EmptyLabel => "the name has an empty label",
            NameError::LabelLength => "a label is longer than 63 octets",
            NameError::Length => "the name is longer than 255 octets",
            NameError::Escape => "a backslash needs a character or three digits up to 255",
            NameError::Character => "the name has a character outside printable ASCII; write an internationalised name as punycode",
            NameError::Relative => "the name is not absolute; end it with a dot",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_absolute_and_lower_case_and_prints_as_zone_files_write_it() {
        let check = |text: &str, printed: &str| {
            assert_eq!(Name::parse(text).map(|name| name.to_string()).as_deref(), Ok(printed));
        };
        check(".", ".");
        check("Example.COM", "example.com.");
        check("example.com.", "example.com.");
        check(r"a\.b.example.", r"a\.b.example.");
        check(r"a\065\000.x.", r"aa\000.x.");
        check("*.example.", "*.example.");
    }

    #[test]
    fn what_is_no_name_is_refused_with_its_reason() {
        let long = "a".repeat(64);
        let longest = format!("{}.", ["a".repeat(63).as_str(); 4].join("."));
        for (text, why) in [
            ("", NameError::Empty),
            (".a.", NameError::EmptyLabel),
            ("a..b.", NameError::EmptyLabel),
            (long.as_str(), NameError::LabelLength),
            (longest.as_str(), NameError::Length),
            (r"a\", NameError::Escape),
            (r"a\25.", NameError::Escape),
            (r"a\256.", NameError::Escape),
            ("a b.", NameError::Character),
            ("bücher.example.", NameError::Character),
        ] {
            assert_eq!(Name::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_suffix_ends_at_a_label() {
        let name = |text| Name::parse(text).unwrap_or_else(|_| Name::root());
        assert!(name("a.example.com.").is_within(&name("example.com.")));
        assert!(name("example.com.").is_within(&name("example.com.")));
        assert!(name("example.com.").is_within(&Name::root()));
        assert!(!name("badexample.com.").is_within(&name("example.com.")));
        assert_eq!(wire_length(name("ab.c.").as_wire()), Some(6));
        assert_eq!(wire_length(&[0xC0, 0x0C]), None);
        assert_eq!(wire_length(&[3, b'a']), None);
    }
}

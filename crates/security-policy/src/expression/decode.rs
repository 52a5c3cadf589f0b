//! Functions from text to text (Cloud Armor rules language reference, "Operations").

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::fmt::Write;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `_ - .` are taken for `/ + =` first; what is no Base64 is the empty text.
pub(super) fn base64(text: &str) -> String {
    let standard: String = text
        .chars()
        .map(|c| match c {
            '_' => '/',
            '-' => '+',
            '.' => '=',
            other => other,
        })
        .collect();
    let bytes = BASE64.decode(standard).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `%HH` and `+`; with `unicode` `%uHHHH` too. What is malformed stays as it is.
pub(super) fn url(text: &str, unicode: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let hex = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        let all = digits.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(digits, 16).ok().filter(|_| all)
    };
    while let Some((&first, after)) = rest.split_first() {
        let wide = match after.split_first() {
            Some((b'u' | b'U', digits)) if unicode && first == b'%' => {
                digits.get(..4).and_then(hex).and_then(char::from_u32)
            }
            _ => None,
        };
        let narrow = after.get(..2).and_then(hex).filter(|_| first == b'%');
        if let Some(c) = wide {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &after[5..];
        } else if let Some(byte) = narrow {
            out.push(byte as u8);
            rest = &after[2..];
        } else {
            out.push(if first == b'+' { b' ' } else { first });
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Lower case, and `%uhhhh` for whatever is no ASCII ((unconfirmed): ModSecurity's
/// `utf8toUnicode`).
pub(super) fn unicode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_ascii() => out.push(c.to_ascii_lowercase()),
            c => {
                let _ = write!(out, "%u{:04x}", u32::from(c));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{base64, unicode, url};

    #[test]
    fn decoders() {
        for (text, expected) in [
            ("bXlWYWx1ZQ==", "myValue"),
            ("bXlWYWx1ZQ", "myValue"),
            ("bXlWYWx1ZQ..", "myValue"),
            ("a", ""),
            ("_-8=", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(base64(text), expected, "{text}");
        }
        for (text, plain, wide) in [
            ("a%20b+c", "a b c", "a b c"),
            ("%2", "%2", "%2"),
            ("%+1", "% 1", "% 1"),
            ("%zz%41", "%zzA", "%zzA"),
            ("%u0041%u00e9", "%u0041%u00e9", "Aé"),
            ("%ud800", "%ud800", "%ud800"),
        ] {
            assert_eq!(
                (url(text, false).as_str(), url(text, true).as_str()),
                (plain, wide),
                "{text}"
            );
        }
        assert_eq!(unicode("Aé€"), "a%u00e9%u20ac");
    }
}

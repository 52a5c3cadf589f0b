//! The DNS names in a certificate: just enough of DER (X.690) and RFC 5280 to issue another one
//! with the same names.

/// One element: tag, contents, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits.iter().fold(0usize, |sum, digit| (sum << 8) | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The names of the subjectAltName extension, or else the subject's common name where it looks
/// like a host name. Empty where there is none or the bytes are no certificate.
pub(crate) fn dns_names(der: &[u8]) -> Vec<String> {
    let Some((SEQUENCE, certificate, _)) = element(der) else { return Vec::new() };
    let Some((SEQUENCE, body, _)) = element(certificate) else { return Vec::new() };
    let mut names = Vec::new();
    let mut common = Vec::new();
    // The extensions are the context-specific element 3, the subject is the second sequence of
    // sets; looking at every element of the body finds both without counting optional ones.
    let mut rest = body;
    while let Some((tag, contents, after)) = element(rest) {
        rest = after;
        match tag {
            0xa3 => {
                if let Some((SEQUENCE, extensions, _)) = element(contents) {
                    alternative_names(extensions, &mut names);
                }
            }
            // The last sequence that has a common name is the subject; the issuer stands before.
            SEQUENCE => {
                if let Some(name) = common_name(contents) {
                    common = vec![name];
                }
            }
            _ => {}
        }
    }
    let mut all = if names.is_empty() { common } else { names };
    all.retain(|name| crate::names_rules::is_hostname(name.strip_prefix("*.").unwrap_or(name)));
    all
}

fn alternative_names(mut extensions: &[u8], names: &mut Vec<String>) {
    while let Some((_, extension, after)) = element(extensions) {
        extensions = after;
        let Some((OBJECT_IDENTIFIER, SUBJECT_ALTERNATIVE_NAME, mut value)) = element(extension)
        else {
            continue;
        };
        // An optional `critical` flag stands before the octet string.
        while let Some((tag, contents, after)) = element(value) {
            value = after;
            let Some((SEQUENCE, mut general, _)) = element(contents).filter(|_| tag == 0x04) else {
                continue;
            };
            while let Some((kind, name, after)) = element(general) {
                general = after;
                if kind == 0x82
                    && let Ok(name) = std::str::from_utf8(name)
                {
                    names.push(name.to_ascii_lowercase());
                }
            }
        }
    }
}

fn common_name(mut name: &[u8]) -> Option<String> {
    let mut found = None;
    while let Some((0x31, set, after)) = element(name) {
        name = after;
        if let Some((SEQUENCE, pair, _)) = element(set)
            && let Some((OBJECT_IDENTIFIER, COMMON_NAME, value)) = element(pair)
            && let Some((_, text, _)) = element(value)
        {
            found = std::str::from_utf8(text).ok().map(str::to_ascii_lowercase);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::dns_names;

    #[test]
    fn broken_der_has_no_names() {
        for bytes in [&[][..], &[0x30], &[0x30, 0x82, 0xff], &[0x30, 0x03, 0x30, 0x01, 0x00]] {
            assert_eq!(dns_names(bytes), Vec::<String>::new());
        }
    }
}

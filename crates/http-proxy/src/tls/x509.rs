//! Just enough DER to read a certificate's fields (RFC 5280 4.1). Nothing is verified here.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const UTC_TIME: u8 = 0x17;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// `dNSName` among the alternative names.
pub(super) const DNS_NAME: u8 = 0x82;
/// `uniformResourceIdentifier` among the alternative names.
pub(super) const URI: u8 = 0x86;
const OID_COMMON_NAME: &[u8] = &[0x55, 4, 3];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

/// Tag and content of an element.
type Element<'a> = (u8, &'a [u8]);

/// The fields of a certificate that anybody here asks for.
pub(super) struct Fields<'a> {
    /// The number's bytes.
    pub(super) serial: &'a [u8],
    /// The name, whole.
    pub(super) issuer: &'a [u8],
    /// The name, whole.
    pub(super) subject: &'a [u8],
    not_before: Element<'a>,
    not_after: Element<'a>,
    alternative: Vec<Element<'a>>,
}

/// Reads Certificate → TBSCertificate; none where it is no certificate.
pub(super) fn fields(der: &[u8]) -> Option<Fields<'_>> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut tbs, _) = expect(certificate, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        tbs = element(tbs)?.2;
    }
    let (serial, rest) = expect(tbs, INTEGER)?;
    let rest = element(rest)?.2; // signature
    let (issuer, rest) = whole(rest)?;
    let (validity, rest) = expect(rest, SEQUENCE)?;
    let (subject, rest) = whole(rest)?;
    let mut rest = element(rest)?.2; // public key
    let (before_tag, before, after) = element(validity)?;
    let (after_tag, after, _) = element(after)?;
    let mut alternative = Vec::new();
    while !rest.is_empty() {
        let (tag, content, after) = element(rest)?;
        rest = after;
        if tag == EXTENSIONS {
            let (mut list, _) = expect(content, SEQUENCE)?;
            while !list.is_empty() {
                let (extension, after) = expect(list, SEQUENCE)?;
                list = after;
                alternative_names(extension, &mut alternative)?;
            }
        }
    }
    Some(Fields {
        serial,
        issuer,
        subject,
        not_before: (before_tag, before),
        not_after: (after_tag, after),
        alternative,
    })
}

impl<'a> Fields<'a> {
    /// The subject's alternative names of one kind.
    pub(super) fn alternative_names(&self, kind: u8) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.alternative.iter().filter(move |(tag, _)| *tag == kind).map(|(_, name)| *name)
    }

    /// The subject's common names.
    pub(super) fn common_names(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        let mut names = Vec::new();
        let _ = common_names(self.subject, &mut names);
        names.into_iter()
    }

    /// When it begins to be valid, as RFC 3339 has it.
    pub(super) fn not_before(&self) -> Option<String> {
        time(self.not_before)
    }

    /// When it ends to be valid, as RFC 3339 has it.
    pub(super) fn not_after(&self) -> Option<String> {
        time(self.not_after)
    }
}

fn common_names<'a>(subject: &'a [u8], names: &mut Vec<&'a [u8]>) -> Option<()> {
    let (mut subject, _) = expect(subject, SEQUENCE)?;
    while !subject.is_empty() {
        let (mut relative, after) = expect(subject, SET)?;
        subject = after;
        while !relative.is_empty() {
            let (attribute, after) = expect(relative, SEQUENCE)?;
            relative = after;
            let (oid, value) = expect(attribute, OID)?;
            if oid == OID_COMMON_NAME {
                names.push(element(value)?.1);
            }
        }
    }
    Some(())
}

fn alternative_names<'a>(extension: &'a [u8], names: &mut Vec<Element<'a>>) -> Option<()> {
    let (oid, mut rest) = expect(extension, OID)?;
    if oid != OID_SUBJECT_ALT_NAME {
        return Some(());
    }
    if rest.first() == Some(&BOOLEAN) {
        rest = element(rest)?.2; // critical
    }
    let (octets, _) = expect(rest, OCTETS)?;
    let (mut general, _) = expect(octets, SEQUENCE)?;
    while !general.is_empty() {
        let (tag, content, after) = element(general)?;
        general = after;
        names.push((tag, content));
    }
    Some(())
}

/// RFC 5280 4.1.2.5: years of two digits up to 2049, then of four; always with seconds and `Z`.
fn time((tag, text): Element<'_>) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_suffix('Z').filter(|d| d.bytes().all(|byte| byte.is_ascii_digit()))?;
    let century = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => "20",
        (UTC_TIME, 12) => "19",
        (_, 14) => "",
        _ => return None,
    };
    let all = format!("{century}{digits}");
    let part = |from: usize, to: usize| &all[from..to];
    let (date, hour) = ((part(0, 4), part(4, 6), part(6, 8)), (part(8, 10), part(10, 12)));
    Some(format!("{}-{}-{}T{}:{}:{}Z", date.0, date.1, date.2, hour.0, hour.1, part(12, 14)))
}

fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// One element with its header, and what follows.
fn whole(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, _, rest) = element(der)?;
    Some(der.split_at(der.len() - rest.len()))
}

/// One element: tag, content, what follows. Long lengths of up to four bytes.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (first as usize, rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked((first & 0x7f) as usize)?;
            (bytes.iter().fold(0usize, |length, byte| length << 8 | *byte as usize), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::{UTC_TIME, fields, time};
    use proptest::prelude::*;

    #[test]
    fn times_are_told_as_rfc_3339_has_them() {
        for (tag, text, told) in [
            (UTC_TIME, "260102030405Z", Some("2026-01-02T03:04:05Z")),
            (UTC_TIME, "500102030405Z", Some("1950-01-02T03:04:05Z")),
            (0x18, "20501231235959Z", Some("2050-12-31T23:59:59Z")),
            (UTC_TIME, "20501231235959Z", Some("2050-12-31T23:59:59Z")),
            (UTC_TIME, "2601020304Z", None),
            (UTC_TIME, "260102030405+0100", None),
            (0x18, "2050123123595xZ", None),
        ] {
            assert_eq!(time((tag, text.as_bytes())).as_deref(), told, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at in 0usize..400, by: u8) {
            fields(&bytes);
            let key = rcgen::KeyPair::generate().expect("a key");
            let params = rcgen::CertificateParams::new(["a.example".to_owned()]).expect("a name");
            let mut der = params.self_signed(&key).expect("a certificate").der().to_vec();
            if let Some(byte) = der.get_mut(at) { *byte ^= by; }
            if let Some(fields) = fields(&der) {
                let _ = (fields.not_before(), fields.not_after(), fields.common_names().count());
            }
        }
    }
}

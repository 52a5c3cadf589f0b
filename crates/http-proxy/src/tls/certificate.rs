//! PEM to keys, and the names in a certificate: just enough DER for subject CN and SAN.

use super::{CertifiedPem, TlsError};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::sync::Arc;

/// The certificates of a PEM text, in order.
pub(super) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = rustls_pemfile::certs(&mut pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem(error.to_string()))?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    rustls_pemfile::private_key(&mut pem.as_bytes())
        .map_err(|error| TlsError::Pem(error.to_string()))?
        .ok_or(TlsError::NoKey)
}

/// A chain with its key ready to sign; key and leaf are checked to fit.
pub(super) fn certified_key(pem: &CertifiedPem<'_>) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(pem.chain)?;
    let key = private_key(pem.key)?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &provider)?))
}

/// The DNS names of a leaf, lower case: the subject alternative names, and the common name as
/// well (private-connectivity 2.1 "CN/SAN").
pub(super) fn dns_names(der: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    collect_names(der, &mut names);
    names.dedup();
    names
}

/// Does a certificate name cover this host? A wildcard stands for exactly one label.
pub(super) fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => {
            host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
        }
        None => name == host,
    }
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const OID_COMMON_NAME: &[u8] = &[0x55, 4, 3];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 29, 17];

/// RFC 5280 4.1: Certificate → TBSCertificate → subject, extensions.
fn collect_names(der: &[u8], names: &mut Vec<String>) -> Option<()> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut tbs, _) = expect(certificate, SEQUENCE)?;
    if tbs.first() == Some(&VERSION) {
        tbs = element(tbs)?.2;
    }
    // serial number, signature, issuer, validity
    for _ in 0..4 {
        tbs = element(tbs)?.2;
    }
    let (mut subject, rest) = expect(tbs, SEQUENCE)?;
    let mut rest = element(rest)?.2; // public key
    while !rest.is_empty() {
        let (tag, content, after) = element(rest)?;
        rest = after;
        if tag == EXTENSIONS {
            let (mut list, _) = expect(content, SEQUENCE)?;
            while !list.is_empty() {
                let (extension, after) = expect(list, SEQUENCE)?;
                list = after;
                alternative_names(extension, names);
            }
        }
    }
    while !subject.is_empty() {
        let (mut relative, after) = expect(subject, SET)?;
        subject = after;
        while !relative.is_empty() {
            let (attribute, after) = expect(relative, SEQUENCE)?;
            relative = after;
            let (oid, value) = expect(attribute, OID)?;
            if oid == OID_COMMON_NAME {
                push(element(value)?.1, names);
            }
        }
    }
    Some(())
}

fn alternative_names(extension: &[u8], names: &mut Vec<String>) -> Option<()> {
    let (oid, mut rest) = expect(extension, OID)?;
    if oid != OID_SUBJECT_ALT_NAME {
        return None;
    }
    if rest.first() == Some(&BOOLEAN) {
        rest = element(rest)?.2; // critical
    }
    let (octets, _) = expect(rest, OCTETS)?;
    let (mut general, _) = expect(octets, SEQUENCE)?;
    while !general.is_empty() {
        let (tag, content, after) = element(general)?;
        general = after;
        if tag == DNS_NAME {
            push(content, names);
        }
    }
    Some(())
}

fn push(name: &[u8], names: &mut Vec<String>) {
    if let Ok(name) = std::str::from_utf8(name) {
        names.push(name.trim_end_matches('.').to_ascii_lowercase());
    }
}

fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
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
    use super::{covers, dns_names};
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn names_of(cn: Option<&str>, sans: &[&str]) -> Vec<String> {
        let mut params =
            CertificateParams::new(sans.iter().map(|s| s.to_string()).collect::<Vec<_>>())
                .expect("legal names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "org.example");
        if let Some(cn) = cn {
            params.distinguished_name.push(DnType::CommonName, cn);
        }
        let key = KeyPair::generate().expect("a key");
        dns_names(params.self_signed(&key).expect("a certificate").der())
    }

    #[test]
    fn names_come_from_san_and_common_name() {
        assert_eq!(names_of(Some("A.example.com"), &[]), ["a.example.com"]);
        assert_eq!(
            names_of(Some("a.example.com"), &["b.example.com", "*.c.example.com", "10.0.0.1"]),
            ["b.example.com", "*.c.example.com", "a.example.com"]
        );
        assert_eq!(names_of(None, &["b.example.com"]), ["b.example.com"]);
        for rubbish in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x80\x00"] {
            assert!(dns_names(rubbish).is_empty());
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (name, host, expected) in [
            ("a.example.com", "a.example.com", true),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", ".example.com", false),
            ("a.example.com", "b.example.com", false),
        ] {
            assert_eq!(covers(name, host), expected, "{name} {host}");
        }
    }
}

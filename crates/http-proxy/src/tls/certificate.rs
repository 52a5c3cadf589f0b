//! PEM to keys, and the names that a certificate is for.

use super::x509::{self, DNS_NAME};
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
    let Some(fields) = x509::fields(der) else { return Vec::new() };
    let mut names: Vec<String> =
        fields.alternative_names(DNS_NAME).chain(fields.common_names()).filter_map(lower).collect();
    names.dedup();
    names
}

fn lower(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    Some(name.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::dns_names;
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
}

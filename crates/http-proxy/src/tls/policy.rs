//! SSL policies: which versions and cipher suites a server takes (private-connectivity 2.1).

use super::TlsError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

/// What an SSL policy says.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Nothing older than TLS 1.3; otherwise TLS 1.2, which is the oldest version that is spoken.
    pub tls13_only: bool,
    /// Cipher suites of TLS 1.2 by IANA's names, as `enabledFeatures` has them. Those of TLS 1.3
    /// are always on, whatever a policy lists (unconfirmed).
    ///
    /// Suites without an AEAD or without ephemeral keys do not exist in rustls, so the features
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA`, `TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA`,
    /// `TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA`, `TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA`,
    /// `TLS_RSA_WITH_3DES_EDE_CBC_SHA`, `TLS_RSA_WITH_AES_128_CBC_SHA`,
    /// `TLS_RSA_WITH_AES_128_GCM_SHA256`, `TLS_RSA_WITH_AES_256_CBC_SHA` and
    /// `TLS_RSA_WITH_AES_256_GCM_SHA384` add nothing.
    pub cipher_suites: &'a [String],
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
const NEW: &[&SupportedProtocolVersion] = &[&TLS13];

/// Versions, and a provider with the suites.
///
/// # Errors
/// When TLS 1.2 is allowed and none of its suites is.
pub(super) fn provider(
    policy: Option<&Policy<'_>>,
) -> Result<(CryptoProvider, &'static [&'static SupportedProtocolVersion]), TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    let Some(policy) = policy else { return Ok((provider, BOTH)) };
    let old = |suite: &SupportedCipherSuite| matches!(suite, SupportedCipherSuite::Tls12(_));
    provider.cipher_suites.retain(|suite| {
        !old(suite)
            || !policy.tls13_only
                && policy.cipher_suites.iter().any(|name| suite.suite().as_str() == Some(name))
    });
    if policy.tls13_only {
        return Ok((provider, NEW));
    }
    if !provider.cipher_suites.iter().any(old) {
        return Err(TlsError::NoCipherSuite);
    }
    Ok((provider, BOTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_leaves_its_suites_and_those_of_tls_1_3() {
        let names = |tls13_only, suites: &[&str]| {
            let cipher_suites: Vec<String> = suites.iter().map(|name| name.to_string()).collect();
            let policy = Policy { tls13_only, cipher_suites: &cipher_suites };
            let (provider, versions) = provider(Some(&policy)).ok()?;
            let names = provider.cipher_suites.iter().filter_map(|suite| suite.suite().as_str());
            let names: Vec<&str> = names.filter(|name| !name.starts_with("TLS13_")).collect();
            assert_eq!(provider.cipher_suites.len(), names.len() + 3);
            Some((versions.len(), names))
        };
        let one = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
        let lacking = "TLS_RSA_WITH_AES_128_CBC_SHA";
        assert_eq!(names(false, &[lacking, one]), Some((2, vec![one])));
        assert_eq!(names(true, &[one]), Some((1, vec![])));
        assert_eq!(names(true, &[]), Some((1, vec![])));
        assert_eq!(names(false, &[lacking]), None);
        assert_eq!(names(false, &["TLS_AES_128_GCM_SHA256"]), None);
    }
}

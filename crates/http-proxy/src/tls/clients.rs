//! Client certificates: asking for them, judging them, and what a program may tell of them.

use super::TlsError;
use super::certificate::certificates;
use super::x509::{self, DNS_NAME, URI};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// Most certificates that a client may show.
const CHAIN_MAX: usize = 10;
/// Words of `client_cert_error`, from Google's table of mTLS errors (unconfirmed, like their
/// assignment to what webpki finds).
const NOT_PROVIDED: &str = "client_cert_not_provided";
const TOO_LONG: &str = "client_cert_chain_exceeded_limit";
const WRONG_PURPOSE: &str = "client_cert_chain_invalid_eku";
const UNSUPPORTED: &str = "client_cert_unsupported_signature_algorithm";
const FAILED: &str = "client_cert_validation_failed";

/// What a server TLS policy and its trust config say of clients.
#[derive(Clone, Copy, Debug)]
pub struct ClientPolicy<'a> {
    /// Clients are served whatever they show, and backends are told the verdict; otherwise only
    /// clients with a good certificate get through the handshake.
    pub allow_invalid_or_missing: bool,
    /// PEM of the trust anchors.
    pub trust_anchors: &'a [String],
    /// PEM of intermediate authorities, in addition to those that a client shows.
    pub intermediate_cas: &'a [String],
    /// PEM of certificates that are good as they are: whoever issued them, and whenever.
    pub allowlisted_certificates: &'a [String],
}

/// What a client has shown. Its private key was proven in the handshake, or in the one that this
/// connection resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Leaf first; empty: the client showed none.
    chain: Vec<CertificateDer<'static>>,
    error: Option<&'static str>,
}

impl ClientCertificate {
    /// The chain as DER, leaf first; empty where the client showed none.
    pub fn chain(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.chain.iter().map(|certificate| &certificate[..])
    }

    /// The leaf as DER.
    pub fn leaf(&self) -> Option<&[u8]> {
        self.chain.first().map(|leaf| &leaf[..])
    }

    /// Why it is not good, in the words of `client_cert_error`; none: it is.
    pub fn error(&self) -> Option<&'static str> {
        self.error
    }

    /// Was one shown, and does it lead to a trust anchor or stand on the list?
    pub fn is_verified(&self) -> bool {
        self.error.is_none()
    }

    /// SHA-256 of the leaf's DER.
    pub fn sha256(&self) -> Option<[u8; 32]> {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.leaf()?);
        digest.as_ref().try_into().ok()
    }

    /// The leaf's serial number in lower-case hexadecimal digits.
    pub fn serial_number(&self) -> Option<String> {
        let serial = self.fields()?.serial;
        // DER puts a zero in front of a number whose first bit is set.
        let serial =
            if serial.len() > 1 { serial.strip_prefix(&[0]).unwrap_or(serial) } else { serial };
        Some(serial.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The leaf's subject as DER.
    pub fn subject(&self) -> Option<&[u8]> {
        Some(self.fields()?.subject)
    }

    /// The leaf's issuer as DER.
    pub fn issuer(&self) -> Option<&[u8]> {
        Some(self.fields()?.issuer)
    }

    /// When the leaf begins to be valid, as RFC 3339 has it.
    pub fn not_before(&self) -> Option<String> {
        self.fields()?.not_before()
    }

    /// When the leaf ends to be valid, as RFC 3339 has it.
    pub fn not_after(&self) -> Option<String> {
        self.fields()?.not_after()
    }

    /// The leaf's DNS names among its alternative names.
    pub fn dns_names(&self) -> Vec<&str> {
        self.names(DNS_NAME)
    }

    /// The leaf's URIs among its alternative names.
    pub fn uris(&self) -> Vec<&str> {
        self.names(URI)
    }

    fn names(&self, kind: u8) -> Vec<&str> {
        let fields = self.fields();
        let names = fields.iter().flat_map(|fields| fields.alternative_names(kind));
        names.filter_map(|name| std::str::from_utf8(name).ok()).collect()
    }

    fn fields(&self) -> Option<x509::Fields<'_>> {
        x509::fields(self.leaf()?)
    }
}

/// Judges clients by a [`ClientPolicy`].
#[derive(Debug)]
pub(super) struct Clients {
    allow_invalid_or_missing: bool,
    /// None: there is no trust anchor.
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    intermediates: Vec<CertificateDer<'static>>,
    allowlisted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Clients {
    pub(super) fn new(
        policy: &ClientPolicy<'_>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Clients, TlsError> {
        let all = |texts: &[String]| -> Result<Vec<_>, TlsError> {
            let read =
                texts.iter().map(|text| certificates(text)).collect::<Result<Vec<_>, _>>()?;
            Ok(read.concat())
        };
        let mut roots = RootCertStore::empty();
        for anchor in all(policy.trust_anchors)? {
            roots.add(anchor)?;
        }
        let authorities = match roots.is_empty() {
            true => None,
            false => {
                let roots = Arc::new(roots);
                let built = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                Some(built.build().map_err(|error| TlsError::Pem(error.to_string()))?)
            }
        };
        Ok(Clients {
            allow_invalid_or_missing: policy.allow_invalid_or_missing,
            authorities,
            intermediates: all(policy.intermediate_cas)?,
            allowlisted: all(policy.allowlisted_certificates)?,
            provider,
        })
    }

    /// What to tell of a client after its handshake.
    pub(super) fn seen(&self, chain: Option<&[CertificateDer<'_>]>) -> ClientCertificate {
        let chain = chain.unwrap_or_default();
        let error = match chain.split_first() {
            None => Some(NOT_PROVIDED),
            Some(_) if !self.allow_invalid_or_missing => None, // or there were no connection
            Some((leaf, _)) if x509::fields(leaf).is_none() => Some(FAILED),
            Some((leaf, rest)) => self.judge(leaf, rest, UnixTime::now()).err().map(word),
        };
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        ClientCertificate { chain, error }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.allowlisted.iter().any(|good| good == leaf) {
            return Ok(());
        }
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authorities = self.authorities.as_ref().ok_or(unknown)?;
        if shown.len() >= CHAIN_MAX {
            return Err(Error::General(TOO_LONG.into()));
        }
        let chain: Vec<_> = shown.iter().chain(&self.intermediates).cloned().collect();
        authorities.verify_client_cert(leaf, &chain, now).map(|_| ())
    }
}

fn word(error: Error) -> &'static str {
    use CertificateError as E;
    match error {
        Error::General(_) => TOO_LONG,
        Error::InvalidCertificate(E::InvalidPurpose | E::InvalidPurposeContext { .. }) => {
            WRONG_PURPOSE
        }
        Error::InvalidCertificate(E::UnsupportedSignatureAlgorithmContext { .. }) => UNSUPPORTED,
        _ => FAILED,
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        !self.allow_invalid_or_missing
    }

    /// None: a client that is shown names keeps back what these do not cover, and nobody could
    /// tell the backend that it is not good.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !self.allow_invalid_or_missing {
            self.judge(leaf, shown, now)?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

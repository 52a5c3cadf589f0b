//! Who the other end is: a chain to the CA of today, the right key usage, and one SPIFFE id.

use crate::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use std::sync::Arc;

/// Certificates of a chain, the leaf included.
const CHAIN_MAX: usize = 5;

/// Judges peers by the trust anchors of one set of credentials.
#[derive(Debug)]
pub(crate) struct Judge {
    roots: RootCertStore,
    clients: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Judge {
    pub(crate) fn new(
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let anchors = Arc::new(roots.clone());
        let clients = WebPkiClientVerifier::builder_with_provider(anchors, Arc::clone(provider))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Judge { roots, clients, provider: Arc::clone(provider) })
    }

    /// The identity in a chain that leads to one of the trust anchors now. `as_server`: the peer is
    /// the TLS server, which asks for another key usage.
    pub(crate) fn identity(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        as_server: bool,
        now: UnixTime,
    ) -> Result<Identity, Error> {
        if intermediates.len() >= CHAIN_MAX {
            return Err(CertificateError::UnknownIssuer.into());
        }
        if as_server {
            let parsed = ParsedCertificate::try_from(leaf)?;
            let algorithms = self.provider.signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                intermediates,
                now,
                algorithms,
            )?;
        } else {
            self.clients.verify_client_cert(leaf, intermediates, now)?;
        }
        identity_of(leaf).ok_or_else(|| CertificateError::NotValidForName.into())
    }

    /// As [`Judge::identity`], of a whole chain, at this moment.
    pub(crate) fn again(
        &self,
        chain: &[CertificateDer<'_>],
        as_server: bool,
    ) -> Result<Identity, Error> {
        let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.identity(leaf, rest, as_server, UnixTime::now())
    }
}

/// The one URI among a leaf's alternative names (X.509-SVID 2: exactly one), if it is an identity.
pub(crate) fn identity_of(leaf: &CertificateDer<'_>) -> Option<Identity> {
    let parsed = webpki::EndEntityCert::try_from(leaf).ok()?;
    let mut uris = parsed.valid_uri_names();
    let identity = uris.next()?.parse().ok()?;
    uris.next().is_none().then_some(identity)
}

/// Whom one side expects at the other: this network's program, or any network's.
#[derive(Debug)]
pub(crate) struct Expect {
    pub(crate) judge: Arc<Judge>,
    pub(crate) whom: Expected,
}

#[derive(Debug)]
pub(crate) enum Expected {
    /// A server of this identity.
    One(Identity),
    /// A client of this one's trust domain that is another program than it: who serves consumers
    /// expects endpoint attachments, who takes producers in expects service attachments.
    Counterpart(Identity),
}

impl Expect {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        as_server: bool,
        now: UnixTime,
    ) -> Result<(), Error> {
        let found = self.judge.identity(leaf, intermediates, as_server, now)?;
        let fits = match &self.whom {
            Expected::One(expected) => found == *expected,
            Expected::Counterpart(own) => {
                found.trust_domain() == own.trust_domain() && found.role() != own.role()
            }
        };
        if fits { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.judge.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.judge.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// TLS 1.2 is never offered.
const ONLY_TLS13: Error = Error::General(String::new());

impl ServerCertVerifier for Expect {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, intermediates, true, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(ONLY_TLS13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Expect {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, intermediates, false, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(ONLY_TLS13)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

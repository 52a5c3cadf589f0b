//! The connecting side.

use super::TlsError;
use super::certificate::certificates;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A client configuration that trusts the authorities of a PEM text, and offers these ALPN
/// protocols.
///
/// # Errors
/// When the text holds no usable certificate.
pub fn client_config(trust_pem: &str, alpn: &[&str]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(trust_pem)? {
        roots.add(certificate)?;
    }
    let config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(finish(config, alpn))
}

/// A client configuration that takes any certificate: Google's load balancers do not verify those
/// of their backends (private-connectivity 2.1).
///
/// # Errors
/// Only where the provider lacks the default protocol versions.
pub fn client_config_unverified(alpn: &[&str]) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(lenient_verifier(provider, false))
        .with_no_client_auth();
    Ok(finish(config, alpn))
}

fn finish(mut config: ClientConfig, alpn: &[&str]) -> Arc<ClientConfig> {
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Ends a TLS handshake as client. `server_name` is a DNS name or an IP address.
///
/// # Errors
/// When the name is neither, or the handshake fails: `InvalidData` with a [`rustls::Error`] inside.
pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ClientConfig>,
    server_name: &str,
    io: IO,
) -> io::Result<TlsStream<IO>> {
    let name = ServerName::try_from(server_name.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Box::pin(TlsConnector::from(config).connect(name, io)).await
}

/// A verifier that does not look at the chain: whoever signed it, the peer must own the
/// certificate; with `name`, the certificate must be for the name, too.
pub fn lenient_verifier(provider: Arc<CryptoProvider>, name: bool) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Lenient { provider, name })
}

#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    name: bool,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.name {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

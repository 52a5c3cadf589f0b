//! The accepting side: which certificate, tickets, the handshake.

use super::certificate::{certified_key, covers, dns_names};
use super::{CertifiedPem, TlsError, TlsInfo};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ProtocolVersion, ServerConfig};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A server configuration for these certificates, in order of preference, and these ALPN
/// protocols, in order of preference. Stateless tickets are on. Make one per certificate set and
/// keep it: clients resume as long as it lives.
///
/// The certificate is the first listed one whose SAN or CN covers the SNI and whose key the client
/// can verify; otherwise, or without SNI, the first listed one (private-connectivity 2.1).
///
/// # Errors
/// When PEM is damaged or a key does not fit its certificate.
pub fn server_config(
    certificates: &[CertifiedPem<'_>],
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    let choices = certificates
        .iter()
        .map(|pem| {
            let key = certified_key(pem)?;
            let names = key.cert.first().map(|leaf| dns_names(leaf)).unwrap_or_default();
            Ok(Choice { names, key })
        })
        .collect::<Result<Vec<_>, TlsError>>()?;
    if choices.is_empty() {
        return Err(TlsError::NoneGiven);
    }
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates(choices)));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    // The server chooses among the suites of TLS 1.2, as Google's front ends do.
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// Ends a TLS handshake within `timeout`.
///
/// # Errors
/// When the peer speaks no TLS, breaks off, or takes too long.
pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<ServerConfig>,
    io: IO,
    timeout: Duration,
) -> Result<(TlsStream<IO>, TlsInfo), TlsError> {
    // Boxed: the handshake is the largest state of a connection's task and lives for milliseconds.
    let handshake = Box::pin(TlsAcceptor::from(config).accept(io));
    let stream = match tokio::time::timeout(timeout, handshake).await {
        Ok(stream) => stream.map_err(TlsError::Io)?,
        Err(_) => return Err(TlsError::Timeout),
    };
    let (_, session) = stream.get_ref();
    let info = TlsInfo {
        sni: session.server_name().map(str::to_owned),
        alpn: session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
        version: version_name(session.protocol_version()),
        cipher_suite: session.negotiated_cipher_suite().map_or(0, |suite| suite.suite().into()),
    };
    Ok((stream, info))
}

pub(super) fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

#[derive(Debug)]
struct Certificates(Vec<Choice>);

#[derive(Debug)]
struct Choice {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let verifiable =
            |choice: &&Choice| choice.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|host| {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            self.0
                .iter()
                .filter(|choice| choice.names.iter().any(|name| covers(name, &host)))
                .find(verifiable)
        });
        named.or(self.0.first()).map(|choice| choice.key.clone())
    }
}

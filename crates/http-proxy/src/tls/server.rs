//! The accepting side: which certificate, tickets, the handshake.

use super::certificate::{certified_key, dns_names};
use super::clients::{ClientPolicy, Clients};
use super::policy::{self, Policy};
use super::{CertifiedPem, TlsError, TlsInfo};
use names::certificate_covers;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, NoClientAuth, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ProtocolVersion, SignatureScheme, SupportedCipherSuite};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a server shows, takes and asks for.
#[derive(Clone, Copy)]
pub struct ServerTls<'a> {
    /// Certificates, in order of preference.
    pub certificates: &'a [CertifiedPem<'a>],
    /// ALPN protocols, in order of preference.
    pub alpn: &'a [&'a str],
    /// Versions and cipher suites; none: all that there are.
    pub policy: Option<Policy<'a>>,
    /// Client certificates; none: they are not asked for.
    pub clients: Option<ClientPolicy<'a>>,
}

/// A server's side of TLS. Keep it for as long as what it was made of stays the same: clients
/// resume as long as it lives.
#[derive(Debug)]
pub struct ServerConfig {
    rustls: Arc<rustls::ServerConfig>,
    clients: Option<Arc<Clients>>,
}

/// A server configuration for these certificates and ALPN protocols, in order of preference.
///
/// # Errors
/// See [`ServerTls::config`].
pub fn server_config(
    certificates: &[CertifiedPem<'_>],
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    ServerTls { certificates, alpn, policy: None, clients: None }.config()
}

impl ServerTls<'_> {
    /// Makes the configuration, with stateless tickets.
    ///
    /// The certificate is the first listed one whose SAN or CN covers the SNI and whose key the
    /// client can verify; otherwise, or without SNI, the first listed one that the client can
    /// verify, and where there is none the first (private-connectivity 2.1).
    ///
    /// # Errors
    /// When PEM is damaged, a key does not fit its certificate, or no cipher suite is left.
    pub fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let choices = self
            .certificates
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
        let (provider, versions) = policy::provider(self.policy.as_ref())?;
        let provider = Arc::new(provider);
        let certificates = Certificates { choices, suites: provider.cipher_suites.clone() };
        let clients = match &self.clients {
            Some(policy) => Some(Arc::new(Clients::new(policy, provider.clone())?)),
            None => None,
        };
        let builder = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?;
        let builder = match clients.clone() {
            Some(clients) => builder.with_client_cert_verifier(clients),
            None => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
        };
        let mut rustls = builder.with_cert_resolver(Arc::new(certificates));
        rustls.alpn_protocols =
            self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        // The server chooses among the suites of TLS 1.2, as Google's front ends do.
        rustls.ignore_client_order = true;
        rustls.ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Arc::new(ServerConfig { rustls: Arc::new(rustls), clients }))
    }
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
    let handshake = Box::pin(TlsAcceptor::from(config.rustls.clone()).accept(io));
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
        client: config.clients.as_ref().map(|all| all.seen(session.peer_certificates()).into()),
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
struct Certificates {
    choices: Vec<Choice>,
    suites: Vec<SupportedCipherSuite>,
}

#[derive(Debug)]
struct Choice {
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let verifiable = |choice: &&Choice| {
            let scheme = choice.key.key.choose_scheme(hello.signature_schemes());
            scheme.is_some_and(|scheme| self.has_suite(hello.cipher_suites(), scheme.scheme()))
        };
        let named = hello.server_name().and_then(|host| {
            self.choices
                .iter()
                .filter(|choice| choice.names.iter().any(|name| certificate_covers(name, host)))
                .find(verifiable)
        });
        let choice =
            named.or_else(|| self.choices.iter().find(verifiable)).or(self.choices.first())?;
        Some(choice.key.clone())
    }
}

impl Certificates {
    /// Do both sides have a suite for a key that signs like this? Those of TLS 1.3 go with any key;
    /// who offers them is taken to speak it, for a resolver is not told the version.
    fn has_suite(&self, offered: &[CipherSuite], scheme: SignatureScheme) -> bool {
        self.suites.iter().filter(|suite| offered.contains(&suite.suite())).any(|suite| match suite
        {
            SupportedCipherSuite::Tls12(suite) => suite.sign.contains(&scheme),
            SupportedCipherSuite::Tls13(_) => true,
        })
    }
}

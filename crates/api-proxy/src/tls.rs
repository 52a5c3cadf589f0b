//! TLS towards targets (9.2): what is checked, and what the Java runtime says when it fails.

use http_proxy::tls::lenient_verifier;
use policy_bundle::{TargetEndpoint, TlsMode};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// What makes two configurations different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsKey {
    mode: TlsMode,
    /// `1.2`, `1.3`; none: both.
    versions: Option<Vec<&'static str>>,
    resumption: bool,
}

impl TlsKey {
    /// What an endpoint asks for.
    pub fn of(endpoint: &TargetEndpoint) -> TlsKey {
        TlsKey {
            mode: endpoint.tls,
            versions: endpoint.tls_versions.clone(),
            resumption: endpoint.properties.tls_resumption,
        }
    }
}

/// The configurations of one generation, made at their first use.
pub struct ClientConfigs {
    provider: Arc<CryptoProvider>,
    enforce: Arc<WebPkiServerVerifier>,
    made: Mutex<HashMap<TlsKey, Arc<ClientConfig>>>,
}

impl ClientConfigs {
    /// Configurations that trust this CA where an endpoint enforces validation.
    ///
    /// # Errors
    /// The PEM text holds no usable certificate.
    pub fn new(trust: &str) -> Result<ClientConfigs, String> {
        let failed = |error: &dyn fmt::Display| format!("the trusted CA: {error}");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trust.as_bytes()) {
            let certificate = certificate.map_err(|error| failed(&error))?;
            roots.add(certificate).map_err(|error| failed(&error))?;
        }
        let enforce = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|error| failed(&error))?;
        Ok(ClientConfigs { provider, enforce, made: Mutex::default() })
    }

    /// The configuration for an endpoint.
    ///
    /// # Errors
    /// Only where the provider lacks the protocol versions.
    pub fn get(&self, key: &TlsKey) -> io::Result<Arc<ClientConfig>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made.get(key) {
            return Ok(config.clone());
        }
        let has = |version| key.versions.as_ref().is_none_or(|all| all.contains(&version));
        let versions: Vec<_> = [("1.2", &TLS12), ("1.3", &TLS13)]
            .into_iter()
            .filter(|(name, _)| has(*name))
            .map(|(_, version)| version)
            .collect();
        let verifier: Arc<dyn ServerCertVerifier> = match key.mode {
            TlsMode::Enforce => self.enforce.clone(),
            // The chain is not looked at: a self-signed certificate with the right name passes
            // (9.2, measured).
            mode => lenient_verifier(self.provider.clone(), mode == TlsMode::NameOnly),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&versions)
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if !key.resumption {
            config.resumption = Resumption::disabled();
        }
        let config = Arc::new(config);
        made.insert(key.clone(), config.clone());
        Ok(config)
    }
}

/// A handshake that failed, in the words of the Java runtime where they are known (8.2, measured).
#[derive(Debug)]
pub struct HandshakeFailure(pub String);

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HandshakeFailure {}

impl HandshakeFailure {
    /// From what the handshake said.
    pub fn new(error: &io::Error, host: &str) -> HandshakeFailure {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        HandshakeFailure(match inner {
            Some(rustls::Error::InvalidCertificate(error)) => certificate_failure(error, host),
            Some(error) => format!("javax.net.ssl.SSLException: {error}"),
            None => format!("javax.net.ssl.SSLException: {error}"),
        })
    }
}

fn certificate_failure(error: &CertificateError, host: &str) -> String {
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
            let kind = if is_address { "names" } else { "DNS name" };
            format!(
                "java.security.cert.CertificateException: \
                 No subject alternative {kind} matching {host} found."
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("java.security.cert.CertificateExpiredException: {error}")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("java.security.cert.CertificateNotYetValidException: {error}")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "sun.security.provider.certpath.SunCertPathBuilderException: \
             unable to find valid certification path to requested target"
                .to_owned()
        }
        other => format!("java.security.cert.CertificateException: {other}"),
    }
}

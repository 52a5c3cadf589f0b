//! TLS at both ends (rustls with aws-lc-rs, TLS 1.2 and 1.3), and the one place that reads PEM.

mod certificate;
mod client;
mod clients;
mod hello;
mod policy;
mod server;
mod x509;

pub use client::{client_config, client_config_unverified, connect, lenient_verifier};
pub use clients::{ClientCertificate, ClientPolicy};
pub use hello::{SniPeek, client_hello_sni};
pub use policy::Policy;
pub use server::{ServerConfig, ServerTls, accept, server_config};

use std::fmt;
use std::sync::Arc;

/// A certificate chain, leaf first, and its key, as PEM.
#[derive(Clone, Copy)]
pub struct CertifiedPem<'a> {
    /// The chain.
    pub chain: &'a str,
    /// The key: PKCS#8, PKCS#1 or SEC1.
    pub key: &'a str,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// The name that the client asked for.
    pub sni: Option<String>,
    /// The protocol chosen by ALPN.
    pub alpn: Option<String>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's number in IANA's registry.
    pub cipher_suite: u16,
    /// What the client has shown; none: it was not asked.
    pub client: Option<Arc<ClientCertificate>>,
}

/// Why a configuration or a handshake failed.
#[derive(Debug)]
pub enum TlsError {
    /// The PEM text holds no certificate.
    NoCertificate,
    /// The PEM text holds no private key.
    NoKey,
    /// The PEM text is damaged.
    Pem(String),
    /// No certificate was given at all.
    NoneGiven,
    /// An SSL policy allows TLS 1.2 and none of the cipher suites that there are for it.
    NoCipherSuite,
    /// Key and certificate do not fit, or the peer broke the protocol.
    Rustls(rustls::Error),
    /// The peer broke the handshake off, or spoke no TLS.
    Io(std::io::Error),
    /// The handshake did not end in time.
    Timeout,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::NoCertificate => f.write_str("the PEM text holds no certificate"),
            TlsError::NoKey => f.write_str("the PEM text holds no private key"),
            TlsError::Pem(what) => write!(f, "damaged PEM text: {what}"),
            TlsError::NoneGiven => f.write_str("no certificate is given"),
            TlsError::NoCipherSuite => f.write_str(
                "the SSL policy allows TLS 1.2, and none of its cipher suites is supported",
            ),
            TlsError::Rustls(error) => write!(f, "TLS: {error}"),
            TlsError::Io(error) => write!(f, "TLS handshake: {error}"),
            TlsError::Timeout => f.write_str("the TLS handshake did not end in time"),
        }
    }
}

impl std::error::Error for TlsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TlsError::Rustls(error) => Some(error),
            TlsError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        TlsError::Rustls(error)
    }
}

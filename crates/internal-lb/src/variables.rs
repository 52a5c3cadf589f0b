//! What the variables of custom headers stand for (private-connectivity 2.7). Those about client
//! certificates are written as Google's mTLS pages have them (all unconfirmed for internal load
//! balancers); one that has no value is empty.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_proxy::ConnectionInfo;
use http_proxy::tls::ClientCertificate;
use std::fmt::{Display, Write};
use std::net::SocketAddrV4;
use url_map::Variable;

/// What is known of a request's connection.
pub struct Variables<'a> {
    /// The connection.
    pub info: &'a ConnectionInfo,
    /// The client.
    pub client: SocketAddrV4,
    /// The forwarding rule.
    pub balancer: SocketAddrV4,
    /// The request's protocol.
    pub protocol: &'static str,
}

impl Variables<'_> {
    /// Appends a variable's value.
    pub fn write(&self, variable: Variable, text: &mut String) {
        let tls = self.info.tls.as_ref();
        let client = tls.and_then(|tls| tls.client.as_deref());
        match variable {
            Variable::ClientIpAddress => show(text, self.client.ip()),
            Variable::ClientPort => show(text, self.client.port()),
            Variable::ClientEncrypted => show(text, tls.is_some()),
            Variable::ClientProtocol => text.push_str(self.protocol),
            Variable::ServerIpAddress => show(text, self.balancer.ip()),
            Variable::ServerPort => show(text, self.balancer.port()),
            Variable::TlsSniHostname => {
                text.push_str(tls.and_then(|tls| tls.sni.as_deref()).unwrap_or_default());
            }
            Variable::TlsVersion => text.push_str(tls.map_or("", |tls| tls.version)),
            // Four hexadecimal digits of IANA's registry.
            Variable::TlsCipherSuite => {
                if let Some(tls) = tls {
                    show(text, format_args!("{:04X}", tls.cipher_suite));
                }
            }
            Variable::ClientCertPresent => {
                show(text, client.is_some_and(|client| client.leaf().is_some()));
            }
            Variable::ClientCertChainVerified => {
                show(text, client.is_some_and(ClientCertificate::is_verified));
            }
            certificate => {
                if let Some(client) = client {
                    write_certificate(client, certificate, text);
                }
            }
        }
    }
}

fn write_certificate(client: &ClientCertificate, variable: Variable, text: &mut String) {
    let written = match variable {
        Variable::ClientCertError => client.error().map(str::to_owned),
        Variable::ClientCertSha256Fingerprint => client.sha256().map(|hash| STANDARD.encode(hash)),
        Variable::ClientCertSerialNumber => client.serial_number(),
        Variable::ClientCertSpiffeId => match client.uris()[..] {
            [uri] if uri.starts_with("spiffe://") => Some(uri.to_owned()),
            _ => None,
        },
        Variable::ClientCertUriSans => Some(list(&client.uris())),
        Variable::ClientCertDnsnameSans => Some(list(&client.dns_names())),
        Variable::ClientCertValidNotBefore => client.not_before(),
        Variable::ClientCertValidNotAfter => client.not_after(),
        Variable::ClientCertIssuerDn => client.issuer().map(|name| STANDARD.encode(name)),
        Variable::ClientCertSubjectDn => client.subject().map(|name| STANDARD.encode(name)),
        Variable::ClientCertLeaf if client.is_verified() => client.leaf().map(rfc9440),
        Variable::ClientCertChain if client.is_verified() => {
            Some(client.chain().map(rfc9440).collect::<Vec<_>>().join(", "))
        }
        _ => None,
    };
    text.push_str(&written.unwrap_or_default());
}

/// "Client-Cert" of RFC 9440: DER in base64 between colons.
fn rfc9440(der: &[u8]) -> String {
    format!(":{}:", STANDARD.encode(der))
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| STANDARD.encode(name)).collect::<Vec<_>>().join(",")
}

fn show(text: &mut String, value: impl Display) {
    let _ = write!(text, "{value}");
}

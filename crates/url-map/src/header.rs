//! `customRequestHeaders` and `customResponseHeaders` of a backend service: `Name: value` with
//! variables in braces (private-connectivity 2.7), parsed once when the snapshot is compiled.

use std::fmt;

/// A header that the load balancer adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomHeader {
    /// Name in lower case.
    pub name: String,
    /// Value: text and variables in turn.
    pub value: Vec<Piece>,
}

/// A part of a header's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text as it is.
    Text(String),
    /// To be filled in for each request.
    Variable(Variable),
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        /// The variables that make sense behind an internal load balancer. Which ones Google
        /// offers there is unconfirmed; those about geography, TLS fingerprints and the CDN need
        /// a client on the internet and are refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Variable { $($(#[doc = $doc])* $name,)* }

        impl Variable {
            /// All variables.
            pub const ALL: &'static [Variable] = &[$(Variable::$name,)*];

            /// As it is written between the braces.
            pub const fn as_str(self) -> &'static str {
                match self { $(Variable::$name => $text,)* }
            }
        }
    };
}

variables! {
    /// The client's address, as the load balancer sees it.
    ClientIpAddress = "client_ip_address";
    /// The client's port.
    ClientPort = "client_port";
    /// `true` where the client used TLS.
    ClientEncrypted = "client_encrypted";
    /// `HTTP/1.1`, `HTTP/2`.
    ClientProtocol = "client_protocol";
    /// The forwarding rule's address.
    ServerIpAddress = "server_ip_address";
    /// The forwarding rule's port.
    ServerPort = "server_port";
    /// The name in the client's TLS hello.
    TlsSniHostname = "tls_sni_hostname";
    /// `TLSv1.3`, `TLSv1.2`.
    TlsVersion = "tls_version";
    /// The negotiated cipher suite.
    TlsCipherSuite = "tls_cipher_suite";
    /// Has the client shown a certificate?
    ClientCertPresent = "client_cert_present";
    /// Is it good?
    ClientCertChainVerified = "client_cert_chain_verified";
    /// Why it is not.
    ClientCertError = "client_cert_error";
    /// Base64 of SHA-256 of the leaf.
    ClientCertSha256Fingerprint = "client_cert_sha256_fingerprint";
    /// Hexadecimal digits.
    ClientCertSerialNumber = "client_cert_serial_number";
    /// The leaf's `spiffe://` name, if it has exactly one URI.
    ClientCertSpiffeId = "client_cert_spiffe_id";
    /// The leaf's URIs, each in base64, with commas.
    ClientCertUriSans = "client_cert_uri_sans";
    /// The leaf's DNS names, each in base64, with commas.
    ClientCertDnsnameSans = "client_cert_dnsname_sans";
    /// RFC 3339.
    ClientCertValidNotBefore = "client_cert_valid_not_before";
    /// RFC 3339.
    ClientCertValidNotAfter = "client_cert_valid_not_after";
    /// Base64 of DER.
    ClientCertIssuerDn = "client_cert_issuer_dn";
    /// Base64 of DER.
    ClientCertSubjectDn = "client_cert_subject_dn";
    /// RFC 9440, of a good certificate.
    ClientCertLeaf = "client_cert_leaf";
    /// RFC 9440, of a good certificate, leaf first.
    ClientCertChain = "client_cert_chain";
}

/// Why a header line is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// No colon.
    NoColon,
    /// The name is empty or has a character that no header name has.
    Name,
    /// The value has a control character.
    Value,
    /// A brace without its partner.
    Brace,
    /// An unknown variable, or one that needs an external load balancer.
    Variable(String),
    /// A header that belongs to the connection or to the load balancer itself.
    Reserved(String),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderError::NoColon => f.write_str("has to be written `Name: value`"),
            HeaderError::Name => f.write_str("has no legal header name before its colon"),
            HeaderError::Value => f.write_str("has a control character in its value"),
            HeaderError::Brace => f.write_str("has a brace without its partner"),
            HeaderError::Variable(name) => {
                write!(f, "has the variable {{{name}}}, which an internal load balancer lacks")
            }
            HeaderError::Reserved(name) => write!(f, "sets `{name}`, which nobody may set"),
        }
    }
}

/// Headers of one connection, or that decide where a message ends: setting them would break it.
const RESERVED: [&str; 10] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
];

/// Is this lower-case name one that only the load balancer itself may write?
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

impl CustomHeader {
    /// Reads one line.
    pub fn parse(line: &str) -> Result<CustomHeader, HeaderError> {
        let (name, value) = line.split_once(':').ok_or(HeaderError::NoColon)?;
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err(HeaderError::Name);
        }
        let name = name.to_ascii_lowercase();
        if is_reserved(&name) {
            return Err(HeaderError::Reserved(name));
        }
        let value = value.trim_matches([' ', '\t']);
        if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
            return Err(HeaderError::Value);
        }
        let mut pieces = Vec::new();
        let mut rest = value;
        while let Some(at) = rest.find(['{', '}']) {
            let (text, from) = rest.split_at(at);
            let inside = from.strip_prefix('{').ok_or(HeaderError::Brace)?;
            let (variable, after) = inside.split_once('}').ok_or(HeaderError::Brace)?;
            let known = Variable::ALL.iter().find(|known| known.as_str() == variable);
            let known = known.ok_or_else(|| HeaderError::Variable(variable.to_owned()))?;
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            pieces.push(Piece::Variable(*known));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(CustomHeader { name, value: pieces })
    }

    /// The value, with `fill` writing each variable; what is not known stays empty, as Google does.
    pub fn render(&self, mut fill: impl FnMut(Variable, &mut String)) -> String {
        let mut text = String::new();
        for piece in &self.value {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Variable(variable) => fill(*variable, &mut text),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_holds_text_and_variables() {
        let header = CustomHeader::parse("X-Client: ip={client_ip_address};{tls_version}").unwrap();
        assert_eq!(header.name, "x-client");
        let value = header.render(|variable, out| {
            if variable == Variable::ClientIpAddress {
                out.push_str("10.0.0.9");
            }
        });
        assert_eq!(value, "ip=10.0.0.9;");
        assert_eq!(CustomHeader::parse("x-empty:").unwrap().render(|_, _| {}), "");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (line, expected) in [
            ("x-a", HeaderError::NoColon),
            (": b", HeaderError::Name),
            ("x a: b", HeaderError::Name),
            ("x-a: b\r\nx-c: d", HeaderError::Value),
            ("x-a: {client_ip_address", HeaderError::Brace),
            ("x-a: }", HeaderError::Brace),
            ("x-a: {client_city}", HeaderError::Variable("client_city".into())),
            ("Host: b", HeaderError::Reserved("host".into())),
            ("Transfer-Encoding: chunked", HeaderError::Reserved("transfer-encoding".into())),
        ] {
            assert_eq!(CustomHeader::parse(line), Err(expected), "{line}");
        }
    }
}

//! From a target endpoint and the current request to what is really sent (2.4, 1.4, 9.1, 9.2).

use crate::context::{Context, FlowPhase};
use crate::endpoint::TargetEndpoint;
use crate::message::{Content, Query};
use crate::value::Value;
use crate::variable::Builtin;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;

/// Does a Host that a policy wrote in the target request flow win over the host of the URL? Public
/// notes contradict each other (2.4, unconfirmed): this is the one place.
const HOST_OF_TARGET_FLOW_WINS: bool = true;

/// How a target's certificate is checked (9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// No SSLInfo: the name must be right, the chain is not looked at.
    NameOnly,
    /// `Enforce`: name and chain.
    Enforce,
    /// `IgnoreValidationErrors`: neither.
    Ignore,
}

/// Properties of a target endpoint (9.1).
#[derive(Clone, Debug, PartialEq)]
pub struct TargetProperties {
    /// `connect.timeout.millis`.
    pub connect_timeout: Duration,
    /// `io.timeout.millis`.
    pub io_timeout: Duration,
    /// `keepalive.timeout.millis`.
    pub keepalive_timeout: Duration,
    /// `request.streaming.enabled`.
    pub request_streaming: bool,
    /// `response.streaming.enabled`.
    pub response_streaming: bool,
    /// `response.payload.parse.limit`, bytes.
    pub response_payload_max: usize,
    /// `allow.tls.session.resumption`.
    pub tls_resumption: bool,
    pub(crate) success_codes: Vec<(u16, u16)>,
    pub(crate) ignore_allow_header: bool,
    pub(crate) retain_query: Retain,
    pub(crate) retain_request_headers: Retain,
    pub(crate) retain_response_headers: Retain,
}

/// `….retain.…` and its `.enabled`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Retain {
    /// Only these, where given: the flag is ignored then.
    pub only: Option<Vec<String>>,
    /// None at all.
    pub dropped: bool,
}

impl Default for TargetProperties {
    fn default() -> Self {
        TargetProperties {
            connect_timeout: Duration::from_millis(3000),
            io_timeout: Duration::from_millis(55_000),
            keepalive_timeout: Duration::from_millis(60_000),
            request_streaming: false,
            response_streaming: false,
            response_payload_max: PAYLOAD_BYTES_MAX,
            tls_resumption: true,
            success_codes: vec![(100, 399)],
            ignore_allow_header: true,
            retain_query: Retain::default(),
            retain_request_headers: Retain::default(),
            retain_response_headers: Retain::default(),
        }
    }
}

/// The largest buffered payload unless a property says otherwise (9.3: 10 MB).
pub(crate) const PAYLOAD_BYTES_MAX: usize = 10 * 1024 * 1024;

impl TargetProperties {
    /// Is this status a success for the flow (3.2)?
    pub(crate) fn is_success(&self, status: u16) -> bool {
        self.success_codes.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

/// An ID token that must be on the request (1.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdTokenRequest {
    /// The deployment's service account.
    pub service_account: Arc<str>,
    /// The audience.
    pub audience: String,
    /// `IncludeEmail`.
    pub include_email: bool,
    /// The header that carries `Bearer TOKEN`.
    pub header: HeaderName,
}

/// What goes to the target; the token still has to be put on.
#[derive(Clone, Debug)]
pub struct TargetRequest {
    /// Method.
    pub method: Method,
    /// https?
    pub tls: bool,
    /// Host of the URL: a name to resolve, or an IP literal without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path_and_query: String,
    /// End-to-end headers, Host included.
    pub headers: HeaderMap,
    /// Payload.
    pub content: Content,
    /// The token to fetch.
    pub id_token: Option<IdTokenRequest>,
    /// The endpoint: TLS mode, properties.
    pub endpoint: Arc<TargetEndpoint>,
    /// The whole URL.
    pub url: String,
}

/// What a call knows about its target.
#[derive(Clone, Debug)]
pub(crate) struct TargetState {
    pub endpoint: Arc<TargetEndpoint>,
    pub endpoint_name: Arc<str>,
    pub url_written: Option<String>,
    pub copy_path_suffix: bool,
    pub copy_query_params: bool,
    pub host_written: bool,
    pub sent_url: Option<String>,
    pub ip: Option<String>,
}

impl TargetState {
    /// The state on entering the target request flow: what the proxy flow wrote is lost (2.4).
    pub fn new(endpoint: &Arc<TargetEndpoint>) -> TargetState {
        TargetState {
            endpoint: endpoint.clone(),
            endpoint_name: endpoint.name.clone(),
            url_written: None,
            copy_path_suffix: true,
            copy_query_params: true,
            host_written: false,
            sent_url: None,
            ip: None,
        }
    }
}

/// A URL, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetUrl {
    pub tls: bool,
    /// Without brackets.
    pub host: String,
    pub port: u16,
    pub path: String,
    pub query: Query,
}

impl TargetUrl {
    /// Splits an absolute http or https URL.
    pub fn parse(url: &str) -> Result<TargetUrl, String> {
        let url = url.trim();
        let wrong = |what: &str| Err(format!("`{url}` {what}"));
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return wrong("is no http or https URL"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(authority_end);
        let (host, port) = if let Some(literal) = authority.strip_prefix('[') {
            let Some((host, port)) = literal.split_once(']') else {
                return wrong("has a bracket that is not closed");
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return wrong("has no valid address in its brackets");
            }
            (host, port.strip_prefix(':'))
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        let valid = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if host.is_empty() || !host.chars().all(valid) {
            return wrong("has no valid host");
        }
        let port = match port {
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return wrong("has no valid port"),
            },
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(TargetUrl {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            path: encode_path(path),
            query: Query::parse(query),
        })
    }

    /// Host as the header names it: with the port if it is not the default.
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// Path and query as sent.
    pub fn path_and_query(&self) -> String {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        if self.query.is_empty() { path.to_owned() } else { format!("{path}?{}", self.query) }
    }
}

impl std::fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path_and_query())
    }
}

/// Escapes what no request line may hold; what is escaped already stays.
fn encode_path(path: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            0..=0x20 | 0x7f.. | b'"' | b'<' | b'>' | b'`' | b'{' | b'}' | b'\\' | b'^' | b'|' => {
                write!(out, "%{byte:02X}").expect("writing to a String does not fail");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

impl Context {
    /// The URL of the endpoint alone: as a policy wrote it, or rendered from the bundle.
    fn base_url(&self, target: &TargetState) -> String {
        match &target.url_written {
            Some(url) => url.clone(),
            None => target.endpoint.url.render(self),
        }
    }

    /// The whole URL for the request as it is now.
    pub(crate) fn target_url(&self) -> Result<TargetUrl, String> {
        let target = self.target.as_ref().ok_or("there is no target")?;
        let mut url = TargetUrl::parse(&self.base_url(target))?;
        let request = &self.request;
        if request.path_written {
            url.path = encode_path(&request.path);
        } else if target.url_written.is_none()
            && target.copy_path_suffix
            && !self.path_suffix.is_empty()
        {
            // Never a doubled slash.
            let base = url.path.trim_end_matches('/').len();
            url.path.truncate(base);
            url.path.push_str(&encode_path(&self.path_suffix));
        }
        let retain = &target.endpoint.properties.retain_query;
        if target.copy_query_params && !(retain.dropped && retain.only.is_none()) {
            let mut query = request.query.clone();
            if let Some(only) = &retain.only {
                query.retain(only);
            }
            url.query.extend(&query);
        }
        Ok(url)
    }

    /// Path and query as they would be sent now; none before there is a target.
    pub(crate) fn target_path_and_query(&self) -> Option<(String, String)> {
        self.target.as_ref()?;
        let url = self.target_url().ok()?;
        let path = if url.path.is_empty() { "/".to_owned() } else { url.path };
        Some((path, url.query.to_string()))
    }

    pub(crate) fn target_variable(&self, builtin: Builtin, _name: &str) -> Option<Value<'_>> {
        let target = self.target.as_ref().filter(|_| self.phase >= FlowPhase::TargetRequest)?;
        Some(match builtin {
            Builtin::TargetName => Value::text(&target.endpoint_name),
            Builtin::TargetCopyPathSuffix => Value::Boolean(target.copy_path_suffix),
            Builtin::TargetCopyQueryParams => Value::Boolean(target.copy_query_params),
            Builtin::TargetIp => Value::text(target.ip.as_deref()?),
            Builtin::TargetExpectedCn => return None,
            Builtin::TargetUrl => match &target.sent_url {
                Some(url) => Value::text(url),
                None => Value::owned(self.target_url().ok()?.to_string()),
            },
            _ => {
                let url = TargetUrl::parse(&self.base_url(target)).ok()?;
                match builtin {
                    Builtin::TargetBasePath => Value::owned(url.path),
                    Builtin::TargetHost => Value::owned(url.host),
                    Builtin::TargetPort => Value::Integer(i64::from(url.port)),
                    Builtin::TargetScheme => Value::text(url.scheme()),
                    Builtin::TargetSslEnabled => Value::Boolean(url.tls),
                    _ => return None,
                }
            }
        })
    }

    pub(crate) fn write_target_variable(&mut self, builtin: Builtin, value: &Value<'_>) {
        // Out of scope before the target request flow: lost (2.4).
        if self.phase != FlowPhase::TargetRequest {
            return;
        }
        let Some(target) = &mut self.target else { return };
        match builtin {
            Builtin::TargetUrl => target.url_written = Some(value.as_text().into_owned()),
            Builtin::TargetCopyPathSuffix => target.copy_path_suffix = value.is_true(),
            Builtin::TargetCopyQueryParams => target.copy_query_params = value.is_true(),
            _ => {}
        }
    }

    pub(crate) fn note_host_written(&mut self) {
        if self.phase == FlowPhase::TargetRequest
            && let Some(target) = &mut self.target
        {
            target.host_written = true;
        }
    }

    /// The request for the target, from the request message as the policies left it.
    pub(crate) fn build_target_request(
        &mut self,
        x_forwarded_for: bool,
    ) -> Result<TargetRequest, String> {
        let url = self.target_url()?;
        let target = self.target.as_ref().ok_or("there is no target")?;
        let endpoint = target.endpoint.clone();
        let mut headers = self.request.headers.clone();
        strip_hop_by_hop(&mut headers);
        headers.remove(CONTENT_LENGTH);
        apply_retain(&mut headers, &endpoint.properties.retain_request_headers);
        if !(HOST_OF_TARGET_FLOW_WINS && target.host_written && headers.contains_key(HOST)) {
            let host = HeaderValue::from_str(&url.authority())
                .map_err(|_| "the host is no header value")?;
            headers.insert(HOST, host);
        }
        if x_forwarded_for {
            forwarded_for(&mut headers, &self.client.ip.to_string());
        }
        let id_token = match &endpoint.authentication {
            None => None,
            Some(authentication) => Some(authentication.request(self, &self.base_url(target))?),
        };
        let text = url.to_string();
        let request = TargetRequest {
            method: self.request.method.clone(),
            tls: url.tls,
            path_and_query: url.path_and_query(),
            host: url.host,
            port: url.port,
            headers,
            content: self.request.content.clone(),
            id_token,
            endpoint,
            url: text.clone(),
        };
        if let Some(target) = &mut self.target {
            target.sent_url = Some(text);
        }
        Ok(request)
    }
}

fn forwarded_for(headers: &mut HeaderMap, client: &str) {
    let name = HeaderName::from_static("x-forwarded-for");
    let mut all: Vec<String> = headers
        .get_all(&name)
        .iter()
        .filter_map(|line| line.to_str().ok().map(String::from))
        .collect();
    all.push(client.to_owned());
    if let Ok(value) = HeaderValue::from_str(&all.join(",")) {
        headers.insert(name, value);
    }
}

pub(crate) fn apply_retain(headers: &mut HeaderMap, retain: &Retain) {
    let keeps = |name: &HeaderName| match &retain.only {
        Some(only) => only.iter().any(|kept| kept.eq_ignore_ascii_case(name.as_str())),
        None => !retain.dropped,
    };
    // What describes the payload is needed to read it.
    let framing = |name: &HeaderName| name.as_str().starts_with("content-") || *name == HOST;
    let gone: Vec<HeaderName> =
        headers.keys().filter(|name| !keeps(name) && !framing(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Removes what belongs to one connection only (RFC 9110 7.6.1).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(http::header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named {
        // Nobody may name away what a policy relies on.
        if name != HOST && name != http::header::AUTHORIZATION {
            headers.remove(name);
        }
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_and_put_together() {
        for (url, expected) in [
            ("https://t", Ok("https://t/")),
            ("HTTPS://T.Example:443/base/", Ok("https://t.example/base/")),
            ("http://t:8080?x=1", Ok("http://t:8080/?x=1")),
            ("https://10.0.0.5:8443/a b", Ok("https://10.0.0.5:8443/a%20b")),
            ("https://[::1]:8443/", Ok("https://[::1]:8443/")),
            ("https://t/a%20b#frag", Ok("https://t/a%20b")),
            ("ftp://t", Err(())),
            ("https://", Err(())),
            ("https:///x", Err(())),
            ("https://user@t/", Err(())),
            ("https://t:0/", Err(())),
            ("https://t:99999/", Err(())),
            ("https://a b/", Err(())),
            ("", Err(())),
        ] {
            let parsed = TargetUrl::parse(url).map(|url| url.to_string()).map_err(|_| ());
            assert_eq!(parsed.as_deref(), expected.as_ref().map(|t| *t).map_err(|()| &()), "{url}");
        }
    }

    #[test]
    fn hop_by_hop_headers_go_and_host_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop, host"),
            ("x-hop", "1"),
            ("host", "h"),
            ("te", "trailers"),
            ("x-end", "1"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["host", "x-end"]);
    }
}

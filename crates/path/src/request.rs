//! The question: who asks, for what, with which credential.

use crate::caller::From;
use http::{HeaderName, HeaderValue, Method, Uri};
use slice::IpProtocol;
use url_map::Decision;
use vpc::Protocol;

/// A question to [`crate::explain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainRequest {
    /// Where the client is.
    pub from: From,
    /// Its region; none: that of the first subnetwork, as `exec` chooses it.
    pub region: Option<String>,
    /// Its identity (`--as`); none: a declared VM's own, or none at all.
    pub service_account: Option<String>,
    /// Network tags of a client that is no declared VM (`exec --tags`).
    pub tags: Vec<String>,
    /// An ID token that is made for the question, of [`ExplainRequest::service_account`].
    pub token: Token,
    /// Method.
    pub method: String,
    /// URL.
    pub url: String,
    /// Request headers, `Host` among them if it shall be another than the URL's.
    pub headers: Vec<(String, String)>,
    /// The time at which tokens are looked at, in seconds since 1970.
    pub now: u64,
}

/// Which ID token the request carries beside its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Token {
    /// None.
    #[default]
    None,
    /// One for the default URL of whatever service is reached: the audience is not the question.
    ForTarget,
    /// One with this audience.
    ForAudience(String),
}

/// A URL taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) https: bool,
    /// The question ends where a connection is open: `tcp://`, `udp://`, `icmp://`.
    pub(crate) only: Option<Protocol>,
    /// Host of the URL, lower case, without port.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `Host` as it is sent.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    /// The request as the load balancer passes it on: rewritten, its headers changed.
    pub(crate) fn forwarded(&self, decision: &Decision<'_, '_>) -> Asked {
        let mut asked = self.clone();
        if let Some(host) = decision.rewrite.host {
            asked.authority = host.to_owned();
        }
        if let Some(target) = &decision.rewrite.path_and_query {
            asked.target = target.clone();
        }
        if !decision.headers.is_empty() {
            let mut headers = self.header_map();
            decision.headers.apply_to_request(&mut headers);
            let field = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            asked.headers = headers.iter().map(field).collect();
        }
        asked
    }

    /// The headers, as the decisions read them; those that no header can be were refused before.
    pub(crate) fn header_map(&self) -> http::HeaderMap {
        let field = |(name, value): &(String, String)| {
            Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
        };
        let mut map = http::HeaderMap::new();
        for (name, value) in self.headers.iter().filter_map(field) {
            map.append(name, value);
        }
        map
    }

    /// The same, where it has ports.
    pub(crate) fn ip_protocol(&self) -> IpProtocol {
        match self.protocol() {
            Protocol::Udp => IpProtocol::Udp,
            _ => IpProtocol::Tcp,
        }
    }

    /// The protocol of its packets.
    pub(crate) fn protocol(&self) -> Protocol {
        self.only.unwrap_or_default()
    }

    /// As curl reads a URL: `https` and `http`, the fragment is not sent. What no client can send is
    /// no question. `tcp://HOST:PORT`, `udp://HOST:PORT` and `icmp://HOST` ask about the connection
    /// alone.
    pub(crate) fn new(
        method: &str,
        url: &str,
        headers: &[(String, String)],
    ) -> Result<Asked, String> {
        let wrong = || {
            format!(
                "`{url}` is no URL of the form https://HOST[:PORT]/PATH (or http://, tcp://HOST:PORT, udp://HOST:PORT, icmp://HOST)"
            )
        };
        let bare = url.split('#').next().unwrap_or_default();
        let uri: Uri = bare.parse().map_err(|_| wrong())?;
        let (https, only) = match uri.scheme_str() {
            Some("https") => (true, None),
            Some("http") => (false, None),
            Some("tcp") => (false, Some(Protocol::Tcp)),
            Some("udp") => (false, Some(Protocol::Udp)),
            Some("icmp") => (false, Some(Protocol::Icmp)),
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let standard = match only {
            None if https => 443,
            None => 80,
            Some(_) => 0,
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = match authority.rsplit_once(':') {
            // The colons of an IPv6 address.
            Some((_, written)) if written.ends_with(']') => standard,
            Some((_, "")) | None => standard,
            Some((_, written)) => match written.parse() {
                Ok(port) if port > 0 => port,
                _ => {
                    return Err(format!(
                        "`{url}`: `{written}` is no port; they go from 1 to 65535"
                    ));
                }
            },
        };
        if (port == 0) != (only == Some(Protocol::Icmp)) {
            return Err(wrong());
        }
        if Method::from_bytes(method.as_bytes()).is_err() {
            return Err(format!("`{method}` is no method"));
        }
        for (name, value) in headers {
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(format!("`{name}` is no name of a header"));
            }
            if HeaderValue::from_str(value).is_err() {
                return Err(format!("the value of the header `{name}` has a control character"));
            }
        }
        let host = host.to_ascii_lowercase();
        let own = match port == standard {
            true => host.clone(),
            false => format!("{host}:{port}"),
        };
        let given = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
        Ok(Asked {
            method: method.to_owned(),
            https,
            only,
            port,
            authority: given.map_or(own, |(_, value)| value.clone()),
            target: uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            headers: headers.to_vec(),
            host,
        })
    }

    /// The values of a header.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named =
            self.headers.iter().filter(move |(header, _)| header.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_bytes())
    }

    /// The URL, for people.
    pub(crate) fn url(&self) -> String {
        let scheme = match self.only {
            None if self.https => "https",
            None => "http",
            Some(Protocol::Tcp) => "tcp",
            Some(Protocol::Udp) => "udp",
            Some(Protocol::Icmp) => "icmp",
        };
        format!("{scheme}://{}{}", self.authority, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;

    #[test]
    fn a_url_is_read_as_a_client_reads_it() {
        let host = [("Host".to_owned(), "other.example.com".to_owned())];
        for (url, headers, https, port, authority, target) in [
            ("https://A.example.com", &[][..], true, 443, "a.example.com", "/"),
            ("https://a.example.com:443/x?y#z", &[], true, 443, "a.example.com", "/x?y"),
            ("http://a.example.com:8080/x", &[], false, 8080, "a.example.com:8080", "/x"),
            ("http://10.0.0.5/x", &host[..], false, 80, "other.example.com", "/x"),
        ] {
            let asked = Asked::new("GET", url, headers).expect("a URL");
            let seen = (asked.https, asked.port, &*asked.authority, &*asked.target);
            assert_eq!(seen, (https, port, authority, target), "{url}");
        }
        for bad in [
            "",
            "a.example.com",
            "ftp://a/",
            "https:///x",
            "https://a b/",
            "https://a:99999/",
            "https://a:0/",
        ] {
            assert!(Asked::new("GET", bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_no_client_can_send_is_no_question() {
        let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (method, headers, good) in [
            ("PURGE", header("x-a", "b"), true),
            ("G T", Vec::new(), false),
            ("", Vec::new(), false),
            ("GET", header("a b", "c"), false),
            ("GET", header("a", "b\r\nc: d"), false),
        ] {
            assert_eq!(Asked::new(method, "https://a/", &headers).is_ok(), good, "{method}");
        }
    }
}

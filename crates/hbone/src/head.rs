//! The head of a tunnel: the CONNECT request, the PROXY header that comes as its first bytes, and
//! the answer. Pure; what strangers write is read here and nowhere else.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use names::Reason;
use proxy_protocol::{HEADER_BYTES_MAX, Header};
use std::fmt;
use std::net::SocketAddrV4;

/// RFC 9209.
const PROXY_STATUS: &str = "proxy-status";

/// A head that cannot be understood; the tunnel is refused with 400.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Not CONNECT, or an extended one (RFC 8441).
    Method,
    /// `:authority` is not an IPv4 address with a port.
    Authority,
    /// The first bytes are no PROXY header.
    Header(proxy_protocol::Error),
    /// The PROXY header does not tell a TCP connection over IPv4 to the address in `:authority`.
    Addresses,
    /// The stream ended, or was reset, within the PROXY header.
    Short,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Method => f.write_str("not a CONNECT request"),
            Malformed::Authority => f.write_str("the authority is not an IPv4 address with a port"),
            Malformed::Header(error) => write!(f, "PROXY header: {error}"),
            Malformed::Addresses => {
                f.write_str("the PROXY header tells another destination than the authority")
            }
            Malformed::Short => f.write_str("the PROXY header is cut off"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The request for a tunnel: `:authority` is what the client dialled, `forwarded` tells the client
/// to whoever looks at the request on the way.
///
/// # Errors
/// [`Malformed::Addresses`] for a header that does not tell a TCP connection over IPv4.
pub fn request(header: &Header) -> Result<Request<()>, Malformed> {
    let ends = header.source_v4().zip(header.destination_v4());
    let (client, destination) = ends.ok_or(Malformed::Addresses)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    let authority = destination.to_string();
    *request.uri_mut() = authority.parse().map_err(|_| Malformed::Authority)?;
    *request.version_mut() = http::Version::HTTP_2;
    // The address without its port: the field stays the same for all connections of one client, and
    // HPACK makes a byte of it.
    if let Ok(forwarded) = HeaderValue::try_from(format!("for={}", client.ip())) {
        request.headers_mut().insert(header::FORWARDED, forwarded);
    }
    Ok(request)
}

/// What the client dialled, by the request.
///
/// # Errors
/// [`Malformed::Method`] and [`Malformed::Authority`].
pub fn destination<T>(request: &Request<T>) -> Result<SocketAddrV4, Malformed> {
    if request.method() != Method::CONNECT
        || request.extensions().get::<h2::ext::Protocol>().is_some()
    {
        return Err(Malformed::Method);
    }
    let authority = request.uri().authority().ok_or(Malformed::Authority)?;
    authority.as_str().parse().map_err(|_| Malformed::Authority)
}

/// Gathers the PROXY header from the first bytes of a tunnel.
#[derive(Debug, Default)]
pub struct Gathering(Vec<u8>);

impl Gathering {
    /// Takes more bytes. Once the header is whole it is returned, with how many of `bytes` it took.
    ///
    /// # Errors
    /// [`Malformed::Header`] as soon as the bytes cannot become a header, or are too many for one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
        let before = self.0.len();
        let room = HEADER_BYTES_MAX.saturating_sub(before);
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        match Header::decode(&self.0).map_err(Malformed::Header)? {
            Some((header, length)) => {
                self.0.truncate(length);
                Ok(Some((header, length.saturating_sub(before))))
            }
            None if bytes.len() >= room => Err(Malformed::Short),
            None => Ok(None),
        }
    }

    /// The bytes of the header, once it is whole.
    pub fn into_head(self) -> Vec<u8> {
        self.0
    }
}

/// Does the header tell a TCP connection to this destination?
///
/// # Errors
/// [`Malformed::Addresses`].
pub fn check(header: &Header, destination: SocketAddrV4) -> Result<(), Malformed> {
    let fits = header.source_v4().is_some() && header.destination_v4() == Some(destination);
    if fits { Ok(()) } else { Err(Malformed::Addresses) }
}

/// The answer that refuses a tunnel: a status, the kind of error in RFC 9209's words, and our reason
/// in its `details`. 403 is a decision, 400 and 503 are failures.
pub fn refusal(reason: Reason) -> Response<()> {
    let (status, error) = match reason {
        Reason::ProxyHeaderMalformed => (StatusCode::BAD_REQUEST, "http_request_error"),
        Reason::DroppedInsidePscServiceProducer => {
            (StatusCode::SERVICE_UNAVAILABLE, "destination_unavailable")
        }
        _ => (StatusCode::FORBIDDEN, "http_request_denied"),
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    let value = format!("service-attachment; error={error}; details=\"{}\"", reason.code());
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(PROXY_STATUS, value);
    }
    response
}

/// The reason in an answer, where it has one that is known here.
pub fn reason(headers: &HeaderMap) -> Option<Reason> {
    let value = headers.get(PROXY_STATUS)?.to_str().ok()?;
    let (_, details) = value.split_once("details=\"")?;
    Reason::from_code(details.split('"').next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        let (client, to) = ("10.0.0.9:40000", "10.90.0.20:443");
        let header = Header::tcp(client.parse().expect("v4"), to.parse().expect("v4"));
        header.with_psc_connection_id(7).expect("room")
    }

    #[test]
    fn a_request_says_what_was_dialled_and_by_whom() {
        let request = request(&header()).expect("a request");
        assert_eq!(request.uri().to_string(), "10.90.0.20:443");
        assert_eq!(request.headers()["forwarded"], "for=10.0.0.9");
        let to = destination(&request).expect("a destination");
        check(&header(), to).expect("they fit");
        let other = "10.90.0.20:80".parse().expect("v4");
        assert_eq!(check(&header(), other), Err(Malformed::Addresses));
        assert_eq!(super::request(&Header::local()).err(), Some(Malformed::Addresses));
    }

    #[test]
    fn requests_that_are_no_tunnels_are_refused() {
        for (method, uri, wrong) in [
            ("GET", "http://10.0.0.1:80/", Malformed::Method),
            ("CONNECT", "example.com:443", Malformed::Authority),
            ("CONNECT", "[::1]:443", Malformed::Authority),
            ("CONNECT", "10.0.0.1", Malformed::Authority),
            ("CONNECT", "user@10.0.0.1:80", Malformed::Authority),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).expect("a request");
            assert_eq!(destination(&request), Err(wrong), "{method} {uri}");
        }
        let mut extended = request(&header()).expect("a request");
        extended.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
        assert_eq!(destination(&extended), Err(Malformed::Method));
    }

    #[test]
    fn a_reason_goes_there_and_back() {
        let response = refusal(Reason::PscConnectionNotAccepted);
        assert_eq!(reason(response.headers()), Some(Reason::PscConnectionNotAccepted));
        assert_eq!(
            response.headers()["proxy-status"],
            "service-attachment; error=http_request_denied; details=\"PSC_CONNECTION_NOT_ACCEPTED\""
        );
        let mut foreign = HeaderMap::new();
        foreign.insert("proxy-status", HeaderValue::from_static("envoy; error=connection_refused"));
        assert_eq!(reason(&foreign), None);
    }

    #[test]
    fn bytes_without_an_end_are_not_gathered() {
        let mut gathering = Gathering::default();
        // A header that promises 60,000 bytes.
        let mut start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
        start.extend_from_slice(&60_000u16.to_be_bytes());
        let mut all = start.clone();
        all.resize(HEADER_BYTES_MAX * 4, 0);
        let mut outcome = Ok(None);
        for piece in all.chunks(100) {
            outcome = gathering.push(piece);
            if outcome.is_err() {
                break;
            }
        }
        assert!(outcome.is_err());
        assert!(gathering.0.len() <= HEADER_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn a_header_in_pieces_is_put_together(cuts in prop::collection::vec(1usize..40, 1..20), rest: Vec<u8>) {
            let mut all = header().encode().expect("encoded");
            let length = all.len();
            all.extend_from_slice(&rest);
            let (mut gathering, mut at) = (Gathering::default(), 0);
            let mut sizes = cuts.into_iter().cycle();
            let found = loop {
                let size = sizes.next().unwrap_or(1).min(all.len() - at);
                let piece = &all[at..at + size];
                if let Some((found, took)) = gathering.push(piece).expect("a header") {
                    prop_assert_eq!(at + took, length);
                    break found;
                }
                at += size;
            };
            prop_assert_eq!(found, header());
        }
    }
}

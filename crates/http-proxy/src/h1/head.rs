//! Heads of requests and responses (RFC 9112 2 to 6). What could be read in two ways is refused.

use super::decode::Decoder;
use super::fields::{BYTES_MAX, Connection, FIELDS_MAX, Framing, Ranges, range};
use crate::error::{HeadError, SendError};
use crate::headers::map_with_room;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{Method, StatusCode, Uri};
use std::mem::MaybeUninit;

/// A request head and what it says about the connection.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) method: Method,
    /// Origin form, `*`, or CONNECT's authority.
    pub(crate) uri: Uri,
    /// With exactly one `host`.
    pub(crate) headers: HeaderMap,
    pub(crate) http11: bool,
    pub(crate) body: Decoder,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    pub(crate) upgrade: bool,
}

/// A response head and what it says about the connection.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Decoder,
    pub(crate) keep_alive: bool,
}

/// Is there an empty line in `buffer` that was not there when its first `seen` bytes were looked
/// at? Keeps a head that trickles in from being parsed again with every byte.
pub(crate) fn may_be_complete(buffer: &[u8], seen: usize) -> bool {
    let new = &buffer[seen.saturating_sub(3).min(buffer.len())..];
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

/// Takes a request head out of `buffer`; none while it is incomplete.
pub(crate) fn request(
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<RequestHead>, HeadError> {
    use HeadError::Malformed;
    let bytes_max = bytes_max.min(BYTES_MAX);
    // RFC 9112 2.2: empty lines before the request line are ignored.
    while buffer.starts_with(b"\r\n") {
        buffer.advance(2);
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let bytes = &buffer[..];
    let length = match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= bytes_max => length,
        Ok(httparse::Status::Partial) if bytes.len() < bytes_max => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(httparse::Error::Version) if names_a_version(bytes) => return Err(HeadError::Version),
        Err(error) => return Err(Malformed(what(error))),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Malformed("the request line is incomplete"));
    };
    let http11 = version == 1;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed("method"))?;
    if has_bare_line_feed(&bytes[..length]) {
        return Err(Malformed("a line does not end with CR LF"));
    }
    let target = range(bytes, target.as_bytes());
    let ranges = Ranges::of(bytes, parsed.headers);

    let head = buffer.split_to(length).freeze();
    let mut headers = map_with_room(ranges.count + 6);
    let mut framing = Framing::default();
    let mut connection = Connection::default();
    let mut hosts = 0;
    let mut expect_continue = false;
    for (name, value) in ranges.fields(&head) {
        let name = name.map_err(|()| Malformed("a field name is no token"))?;
        let value = value.map_err(|()| Malformed("a field value holds a control character"))?;
        match name {
            HOST => hosts += 1,
            CONTENT_LENGTH => {
                framing.length(&value).map_err(Malformed)?;
                if headers.contains_key(CONTENT_LENGTH) {
                    continue;
                }
            }
            TRANSFER_ENCODING if !http11 => {
                return Err(Malformed("HTTP/1.0 has no transfer-encoding"));
            }
            TRANSFER_ENCODING => {
                framing.coding(&value);
                continue; // of this connection only
            }
            CONNECTION if connection.read(&value) => continue, // names no field
            EXPECT => {
                if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::Expectation);
                }
                expect_continue = true;
                continue; // answered here
            }
            _ => {}
        }
        headers.append(name, value);
    }

    let body = match framing {
        Framing { chunked: 0, other_coding: false, length } => Decoder::length(length.unwrap_or(0)),
        Framing { length: Some(_), .. } => {
            return Err(Malformed("content-length and transfer-encoding at once"));
        }
        Framing { chunked: 1, other_coding: false, .. } => Decoder::CHUNKED,
        Framing { other_coding: false, .. } => return Err(Malformed("chunked twice")),
        Framing { .. } => return Err(HeadError::Unsupported("transfer coding other than chunked")),
    };
    if hosts > 1 || (hosts == 0 && http11) {
        return Err(Malformed(if hosts > 1 { "more than one host" } else { "no host" }));
    }
    if headers.get(HOST).is_some_and(|host| !is_authority(host.as_bytes())) {
        return Err(Malformed("host is no authority"));
    }
    let uri = origin_form(&method, &head.slice(target), &mut headers).map_err(Malformed)?;
    let upgrade = http11
        && body.is_done()
        && (method == Method::CONNECT || (connection.upgrade && headers.contains_key(UPGRADE)));
    Ok(Some(RequestHead {
        keep_alive: if http11 {
            !connection.close
        } else {
            connection.keep_alive && !connection.close
        },
        expect_continue: expect_continue && http11 && !body.is_done(),
        method,
        uri,
        headers,
        http11,
        body,
        upgrade,
    }))
}

/// The target in origin form; the authority of an absolute one replaces `host` (RFC 9112 3.2.2).
fn origin_form(
    method: &Method,
    target: &Bytes,
    headers: &mut HeaderMap,
) -> Result<Uri, &'static str> {
    if target.contains(&b'#') {
        return Err("the target has a fragment");
    }
    let uri = Uri::from_maybe_shared(target.clone())
        .or_else(|_| Uri::from_maybe_shared(encoded(target)))
        .map_err(|_| "the target is no URI")?;
    if *method == Method::CONNECT {
        let has_port = uri.scheme().is_none()
            && uri.path().is_empty()
            && uri.authority().is_some_and(|authority| authority.port().is_some());
        if !has_port || !is_authority(target) {
            return Err("CONNECT takes host and port");
        }
        // As for an absolute target: one authority goes on, not two.
        let host = HeaderValue::from_maybe_shared(target.clone()).map_err(|_| "the target")?;
        headers.insert(HOST, host);
        return Ok(uri);
    }
    if target.starts_with(b"/") || (&target[..] == b"*" && *method == Method::OPTIONS) {
        return Ok(uri);
    }
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("the target is neither a path nor a URL");
    };
    if !is_authority(authority.as_str().as_bytes()) {
        return Err("the target's authority is malformed");
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| "the target's authority")?;
    headers.insert(HOST, host);
    let path = match uri.path_and_query() {
        Some(path) if path.as_str().starts_with('/') => path.clone(),
        // `http://b?q` has an empty path, which is `/` (RFC 9112 3.2.1).
        Some(query) => {
            let path = format!("/{}", query.as_str());
            PathAndQuery::from_maybe_shared(path).map_err(|_| "the target is no URI")?
        }
        None => PathAndQuery::from_static("/"),
    };
    Ok(Uri::from(path))
}

/// The target with those characters percent-encoded that are illegal in a URI, that clients send all
/// the same, and that browsers encode (WHATWG URL, "path percent-encode set").
fn encoded(target: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(target.len() + 16);
    for byte in target {
        match byte {
            b'"' | b'<' | b'>' | b'`' => text.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => text.push(*byte),
        }
    }
    text.into()
}

/// Host and optional port, without user information (RFC 9110 7.2, 4.2.4). Empty is allowed. A
/// comma is not, though RFC 3986 has it: two hosts that a neighbour has joined look like that.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    let (host, port) = match value.strip_prefix(b"[") {
        Some(literal) => {
            let Some(end) = literal.iter().position(|byte| *byte == b']') else { return false };
            let (address, port) = (&literal[..end], &literal[end + 1..]);
            if !address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
                return false;
            }
            (&b""[..], port)
        }
        None => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    host.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte))
        && match port {
            [] => true,
            [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// Is the third and last word of the first line an HTTP version, whichever?
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ').skip(2);
    let (Some(version), None) = (words.next(), words.next()) else { return false };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Takes a response head out of `buffer`; none while it is incomplete. Interim responses other
/// than 101 are for the caller to skip.
pub(crate) fn response(
    buffer: &mut BytesMut,
    bytes_max: usize,
    method: &Method,
) -> Result<Option<ResponseHead>, SendError> {
    use SendError::Protocol;
    let bytes_max = bytes_max.min(BYTES_MAX);
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let bytes = &buffer[..];
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= bytes_max => length,
        Ok(httparse::Status::Partial) if bytes.len() < bytes_max => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Protocol("the response head is too large"));
        }
        Err(error) => return Err(Protocol(what(error))),
    };
    let (Some(code), Some(version)) = (parsed.code, parsed.version) else {
        return Err(Protocol("the status line is incomplete"));
    };
    let status = StatusCode::from_u16(code).map_err(|_| Protocol("status"))?;
    if has_bare_line_feed(&bytes[..length]) {
        return Err(Protocol("a line does not end with CR LF"));
    }
    let ranges = Ranges::of(bytes, parsed.headers);

    let head = buffer.split_to(length).freeze();
    let mut headers = map_with_room(ranges.count + 4);
    let mut framing = Framing::default();
    let mut connection = Connection::default();
    for (name, value) in ranges.fields(&head) {
        let name = name.map_err(|()| Protocol("a field name is no token"))?;
        let value = value.map_err(|()| Protocol("a field value holds a control character"))?;
        match name {
            CONTENT_LENGTH => {
                framing.length(&value).map_err(Protocol)?;
                if headers.contains_key(CONTENT_LENGTH) {
                    continue;
                }
            }
            TRANSFER_ENCODING if version == 0 => {
                return Err(Protocol("HTTP/1.0 has no transfer-encoding"));
            }
            TRANSFER_ENCODING => {
                framing.coding(&value);
                continue; // of this connection only
            }
            CONNECTION if connection.read(&value) => continue, // names no field
            _ => {}
        }
        headers.append(name, value);
    }
    // RFC 9112 6.3, in its order.
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *method == Method::HEAD
        || (*method == Method::CONNECT && status.is_success());
    let body = match framing {
        _ if bodiless => Decoder::Done,
        Framing { chunked: 0, other_coding: false, length: Some(length) } => {
            Decoder::length(length)
        }
        Framing { chunked: 0, other_coding: false, length: None } => Decoder::UntilClose,
        Framing { length: Some(_), .. } => {
            return Err(Protocol("content-length and transfer-encoding at once"));
        }
        Framing { chunked: 1, other_coding: false, .. } => Decoder::CHUNKED,
        Framing { .. } => return Err(Protocol("transfer coding other than chunked")),
    };
    let keep_alive = if version == 1 { !connection.close } else { connection.keep_alive };
    Ok(Some(ResponseHead {
        status,
        headers,
        keep_alive: keep_alive && body != Decoder::UntilClose,
        body,
    }))
}

/// Does a line end with LF alone? The parser takes that, as RFC 9112 2.2 allows; but where we see
/// two lines, a neighbour that is strict sees one.
pub(super) fn has_bare_line_feed(head: &[u8]) -> bool {
    // Without an early end, so that many bytes are looked at at a time.
    let bare = |bare, two: &[u8]| bare | ((two[1] == b'\n') & (two[0] != b'\r'));
    head.windows(2).fold(head.first() == Some(&b'\n'), bare)
}

fn what(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a field name is no token",
        httparse::Error::HeaderValue => "a field value holds a control character",
        httparse::Error::NewLine => "a line does not end with CR LF",
        httparse::Error::Status => "the status is no number",
        httparse::Error::Token => "the first line holds no method and target",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "the version is not HTTP/1.0 or HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<RequestHead>, HeadError> {
        request(&mut BytesMut::from(text), 60 * 1024)
    }

    fn good(text: &str) -> RequestHead {
        parse(text).expect(text).expect(text)
    }

    #[test]
    fn a_head_says_how_the_body_and_the_connection_go_on() {
        for (text, body, keep_alive) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Decoder::Done, true),
            (
                "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n",
                Decoder::Done,
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", Decoder::Done, false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Decoder::Done, true),
            (
                "PUT / HTTP/1.1\r\nhost:a\r\ncontent-length:5\r\nContent-Length: 5\r\n\r\n",
                Decoder::Length(5),
                true,
            ),
            (
                "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: Chunked\r\n\r\n",
                Decoder::CHUNKED,
                true,
            ),
        ] {
            let head = good(text);
            assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{text}");
        }
        assert!(
            good("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 1\r\n\r\n")
                .expect_continue
        );
        assert!(!good("GET / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n\r\n").expect_continue);
        assert!(
            good("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
                .upgrade
        );
        assert!(!good("GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n").upgrade);
    }

    #[test]
    fn the_target_becomes_origin_form_and_its_authority_the_host() {
        for (line, uri, host) in [
            ("GET /a/../b?c=d", "/a/../b?c=d", "a:80"),
            ("GET //x//y", "//x//y", "a:80"),
            ("GET http://B.example:8080/p?q", "/p?q", "B.example:8080"),
            ("GET http://b.example", "/", "b.example"),
            ("GET https://b.example?q", "/?q", "b.example"),
            ("OPTIONS *", "*", "a:80"),
            ("CONNECT c.example:443", "c.example:443", "c.example:443"),
            ("GET /%2F%zz|{}\"", "/%2F%zz|{}\"", "a:80"),
            ("GET /<a>?q=\"`", "/%3Ca%3E?q=%22%60", "a:80"),
        ] {
            let head = good(&format!("{line} HTTP/1.1\r\nHost: a:80\r\n\r\n"));
            assert_eq!(
                (head.uri.to_string().as_str(), head.headers[HOST].as_bytes()),
                (uri, host.as_bytes()),
                "{line}"
            );
            assert!(head.uri.scheme().is_none(), "{line}");
        }
    }

    #[test]
    fn a_head_with_two_readings_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",                       // no host
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", // two hosts
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n", // space before the colon
            "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", // obsolete folding
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET /#fragment HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n", // lines that end with LF alone
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\x16\x03\x01\x02\x00", // TLS
        ] {
            assert!(
                matches!(parse(text), Err(HeadError::Malformed(_))),
                "{text:?}: {:?}",
                parse(text)
            );
        }
        for version in ["GET / HTTP/2.0\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            assert_eq!(parse(version).err(), Some(HeadError::Version));
        }
        for coding in ["gzip", "gzip, chunked", "identity", "xchunked", ""] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
            assert!(matches!(parse(&text), Err(HeadError::Unsupported(_))), "{coding}");
        }
    }

    #[test]
    fn a_head_larger_than_the_limit_is_too_large() {
        let fits =
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(60 * 1024 - 32));
        assert_eq!(fits.len(), 60 * 1024);
        good(&fits);
        let large = fits.replacen("X: ", "X: x", 1);
        assert_eq!(parse(&large).err(), Some(HeadError::TooLarge));
        assert_eq!(parse(&large[..60 * 1024]).err(), Some(HeadError::TooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(100));
        assert_eq!(parse(&many).err(), Some(HeadError::TooLarge));
    }

    #[test]
    fn a_response_ends_by_method_status_and_framing() {
        for (method, text, body, keep_alive) in [
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Decoder::Length(3), true),
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Decoder::Done, true),
            (Method::GET, "HTTP/1.1 304\r\ncontent-length: 3\r\n\r\n", Decoder::Done, true),
            (Method::GET, "HTTP/1.1 204 x\r\n\r\n", Decoder::Done, true),
            (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", Decoder::UntilClose, false),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
                Decoder::CHUNKED,
                false,
            ),
            (Method::GET, "HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", Decoder::Done, false),
        ] {
            let head = response(&mut BytesMut::from(text), 1000, &method).expect(text).expect(text);
            assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{text}");
        }
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        ] {
            let found = response(&mut BytesMut::from(text), 1000, &Method::GET);
            assert!(matches!(found, Err(SendError::Protocol(_))), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes: Vec<u8>) {
            let _ = request(&mut BytesMut::from(&bytes[..]), 100);
            let _ = response(&mut BytesMut::from(&bytes[..]), 100, &Method::GET);
        }

        #[test]
        fn a_head_is_complete_only_with_its_empty_line(cut in 0usize..200) {
            let text = "GET /some/path?q=1 HTTP/1.1\r\nHost: a.example.com\r\nAccept: */*\r\n\r\n";
            let cut = cut.min(text.len() - 1);
            prop_assert!(matches!(parse(&text[..cut]), Ok(None)));
            prop_assert!(!may_be_complete(&text.as_bytes()[..cut], 0));
            prop_assert!(may_be_complete(text.as_bytes(), cut));
        }
    }
}

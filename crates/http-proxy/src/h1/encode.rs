//! From heads and frames to the bytes of a connection (RFC 9112 4, 6 and 7).

use super::wire::{Writer, decimal, hexadecimal};
use crate::error::BodyError;
use crate::headers::{is_forbidden_trailer, is_old_hop_by_hop};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::SizeHint;
use std::io::Write;

/// How a body goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// No body: what comes is dropped (HEAD, 204, 304).
    Nothing,
    /// So many bytes, as `content-length` said.
    Length(u64),
    /// The chunked coding; `trailers`: may trailers follow?
    Chunked { trailers: bool },
    /// Up to the end of the connection.
    UntilClose,
}

impl Encoder {
    /// Writes data; nothing is done for an empty piece.
    ///
    /// # Errors
    /// When the body is longer than its length: the message cannot be saved.
    pub(crate) fn data(&mut self, data: Bytes, writer: &mut Writer) -> Result<(), BodyError> {
        if data.is_empty() {
            return Ok(()); // an empty chunk would end the body
        }
        match self {
            Encoder::Nothing => {}
            Encoder::UntilClose => writer.data(data, b""),
            Encoder::Length(rest) => {
                *rest = rest
                    .checked_sub(data.len() as u64)
                    .ok_or(BodyError::Malformed("longer than content-length"))?;
                writer.data(data, b"");
            }
            Encoder::Chunked { .. } => {
                let buffer = writer.buffer();
                hexadecimal(data.len() as u64, buffer);
                buffer.extend_from_slice(b"\r\n");
                writer.data(data, b"\r\n");
            }
        }
        Ok(())
    }

    /// Writes the end, with trailers where they may be. Needs [`Writer::has_room`].
    ///
    /// # Errors
    /// When the body is shorter than its length.
    pub(crate) fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        writer: &mut Writer,
    ) -> Result<(), BodyError> {
        match self {
            Encoder::Length(1..) => {
                return Err(BodyError::Malformed("shorter than content-length"));
            }
            Encoder::Chunked { trailers: allowed } => {
                let buffer = writer.buffer();
                buffer.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.filter(|_| *allowed).into_iter().flatten() {
                    if !is_forbidden_trailer(name) {
                        field(buffer, name, value.as_bytes());
                    }
                }
                buffer.extend_from_slice(b"\r\n");
            }
            _ => {}
        }
        Ok(())
    }
}

/// What the response's framing depends on beside the response itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseContext<'a> {
    /// The request's method.
    pub(crate) method: &'a Method,
    /// Does the client speak HTTP/1.1?
    pub(crate) http11: bool,
    /// Does the client take trailers?
    pub(crate) trailers: bool,
    /// Will the connection stay?
    pub(crate) keep_alive: bool,
    /// Words for the status line, if the program has its own.
    pub(crate) reason: Option<&'a HeaderValue>,
}

/// Writes a response head and says how its body goes out. With [`Encoder::UntilClose`] the
/// connection has to end after it.
pub(crate) fn response_head(
    writer: &mut Writer,
    status: StatusCode,
    headers: &HeaderMap,
    size: &SizeHint,
    context: ResponseContext<'_>,
) -> Encoder {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    let tunnel = status == StatusCode::SWITCHING_PROTOCOLS
        || (*context.method == Method::CONNECT && status.is_success());
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || *context.method == Method::HEAD
        || tunnel;
    let encoder = if bodiless {
        Encoder::Nothing
    } else if let Some(length) = size.exact().or(declared) {
        Encoder::Length(length)
    } else if context.http11 {
        Encoder::Chunked { trailers: context.trailers }
    } else {
        Encoder::UntilClose
    };
    let keep_alive = context.keep_alive && encoder != Encoder::UntilClose;

    let buffer = writer.buffer();
    if let Some(reason) = context.reason {
        let _ = write!(buffer, "HTTP/1.1 {} ", status.as_u16());
        buffer.extend_from_slice(reason.as_bytes());
        buffer.extend_from_slice(b"\r\n");
    } else if status == StatusCode::OK {
        buffer.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        let _ = write!(
            buffer,
            "HTTP/1.1 {} {}\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
    }
    let mut dated = false;
    for (name, value) in headers {
        if is_framing(name) || *name == CONTENT_LENGTH {
            continue;
        }
        dated |= *name == DATE;
        field(buffer, name, value.as_bytes());
    }
    if !dated {
        buffer.extend_from_slice(b"date: ");
        date(buffer);
        buffer.extend_from_slice(b"\r\n");
    }
    match encoder {
        Encoder::Length(length) => content_length(buffer, length),
        Encoder::Chunked { .. } => buffer.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // HEAD and 304 may say how long the body would have been; 1xx, 204 and tunnels may not.
        Encoder::Nothing if !tunnel && status != StatusCode::NO_CONTENT => {
            let unknown = *context.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
            let exact = size.exact().filter(|length| *length > 0 || !unknown);
            if let Some(length) = declared.or(exact) {
                content_length(buffer, length);
            }
        }
        Encoder::Nothing | Encoder::UntilClose => {}
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(protocol) = headers.get(UPGRADE) {
            field(buffer, &UPGRADE, protocol.as_bytes());
        }
        buffer.extend_from_slice(b"connection: upgrade\r\n");
    } else if !keep_alive && !tunnel {
        buffer.extend_from_slice(b"connection: close\r\n");
    } else if !context.http11 && !tunnel {
        buffer.extend_from_slice(b"connection: keep-alive\r\n");
    }
    buffer.extend_from_slice(b"\r\n");
    encoder
}

/// Writes a request head and says how its body goes out. The authority is in `host`; an upgrade
/// is asked for where `headers` has `upgrade`.
pub(crate) fn request_head(
    writer: &mut Writer,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    more: &[(HeaderName, HeaderValue)],
    size: &SizeHint,
) -> Encoder {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    let encoder = match size.exact().or(declared) {
        Some(0) => Encoder::Nothing,
        Some(length) => Encoder::Length(length),
        None => Encoder::Chunked { trailers: true },
    };
    let buffer = writer.buffer();
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        buffer.extend_from_slice(part.as_bytes());
    }
    // RFC 9112 3.2: a request without Host is malformed, so an unknown authority goes out empty.
    field(buffer, &HOST, headers.get(HOST).map_or(b"", |value| value.as_bytes()));
    for (name, value) in headers {
        if !(is_framing(name) || *name == CONTENT_LENGTH || *name == HOST) {
            field(buffer, name, value.as_bytes());
        }
    }
    for (name, value) in more {
        field(buffer, name, value.as_bytes());
    }
    match encoder {
        Encoder::Length(length) => content_length(buffer, length),
        Encoder::Chunked { .. } => buffer.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        // RFC 9110 8.6: methods that expect content say that there is none.
        _ if [Method::POST, Method::PUT, Method::PATCH].contains(method) || declared == Some(0) => {
            content_length(buffer, 0);
        }
        _ => {}
    }
    if let Some(protocol) = headers.get(UPGRADE) {
        field(buffer, &UPGRADE, protocol.as_bytes());
        buffer.extend_from_slice(b"connection: upgrade\r\n");
    }
    buffer.extend_from_slice(b"\r\n");
    encoder
}

/// A `content-length` value: digits only, and no number that overflows.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    value.iter().try_fold(0u64, |length, digit| {
        length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

/// Fields that this crate writes by itself.
fn is_framing(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TRANSFER_ENCODING | UPGRADE) || is_old_hop_by_hop(name)
}

fn field(buffer: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str().as_bytes();
    buffer.reserve(name.len() + value.len() + 4);
    buffer.extend_from_slice(name);
    buffer.extend_from_slice(b": ");
    buffer.extend_from_slice(value);
    buffer.extend_from_slice(b"\r\n");
}

fn content_length(buffer: &mut Vec<u8>, length: u64) {
    buffer.extend_from_slice(b"content-length: ");
    decimal(length, buffer);
    buffer.extend_from_slice(b"\r\n");
}

fn date(buffer: &mut Vec<u8>) {
    use std::cell::RefCell;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};
    thread_local! {
        static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    DATE.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            *second = now;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
        }
        buffer.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(
        method: Method,
        http11: bool,
        status: u16,
        fields: &[(&'static str, &'static str)],
        size: SizeHint,
    ) -> (Encoder, String) {
        let mut writer = Writer::default();
        let headers: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")))
            .collect();
        let context = ResponseContext {
            method: &method,
            http11,
            trailers: false,
            keep_alive: true,
            reason: None,
        };
        let status = StatusCode::from_u16(status).expect("a status");
        let encoder = response_head(&mut writer, status, &headers, &size, context);
        let text = String::from_utf8(writer.buffer().clone()).expect("ASCII");
        (
            encoder,
            text.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("|"),
        )
    }

    #[test]
    fn a_response_is_framed_by_method_status_and_body() {
        let exact = SizeHint::with_exact;
        let unknown = SizeHint::default;
        let length = [("content-length", "7")];
        for (method, http11, status, fields, size, encoder, text) in [
            (
                Method::GET,
                true,
                200,
                &[][..],
                exact(3),
                Encoder::Length(3),
                "HTTP/1.1 200 OK|content-length: 3|",
            ),
            (
                Method::GET,
                true,
                200,
                &[],
                exact(0),
                Encoder::Length(0),
                "HTTP/1.1 200 OK|content-length: 0|",
            ),
            (
                Method::GET,
                true,
                404,
                &[("a", "b")],
                unknown(),
                Encoder::Chunked { trailers: false },
                "HTTP/1.1 404 Not Found|a: b|transfer-encoding: chunked|",
            ),
            (
                Method::GET,
                false,
                200,
                &[],
                unknown(),
                Encoder::UntilClose,
                "HTTP/1.1 200 OK|connection: close|",
            ),
            (
                Method::GET,
                false,
                200,
                &[],
                exact(1),
                Encoder::Length(1),
                "HTTP/1.1 200 OK|content-length: 1|connection: keep-alive|",
            ),
            (
                Method::GET,
                true,
                200,
                &length,
                unknown(),
                Encoder::Length(7),
                "HTTP/1.1 200 OK|content-length: 7|",
            ),
            (
                Method::HEAD,
                true,
                200,
                &length,
                exact(0),
                Encoder::Nothing,
                "HTTP/1.1 200 OK|content-length: 7|",
            ),
            (Method::HEAD, true, 200, &[], exact(0), Encoder::Nothing, "HTTP/1.1 200 OK|"),
            (
                Method::GET,
                true,
                304,
                &length,
                exact(0),
                Encoder::Nothing,
                "HTTP/1.1 304 Not Modified|content-length: 7|",
            ),
            (
                Method::GET,
                true,
                204,
                &length,
                exact(0),
                Encoder::Nothing,
                "HTTP/1.1 204 No Content|",
            ),
            (
                Method::GET,
                true,
                101,
                &[("upgrade", "websocket"), ("connection", "upgrade")],
                exact(0),
                Encoder::Nothing,
                "HTTP/1.1 101 Switching Protocols|upgrade: websocket|connection: upgrade|",
            ),
            (Method::CONNECT, true, 200, &length, exact(0), Encoder::Nothing, "HTTP/1.1 200 OK|"),
            (
                Method::GET,
                true,
                599,
                &[("transfer-encoding", "gzip"), ("keep-alive", "x")],
                exact(0),
                Encoder::Length(0),
                "HTTP/1.1 599 |content-length: 0|",
            ),
        ] {
            let expected = (encoder, text.to_owned());
            assert_eq!(
                response(method.clone(), http11, status, fields, size),
                expected,
                "{method} {status}"
            );
        }
    }

    #[test]
    fn numbers_are_written_as_formatting_writes_them() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 65_535, 1 << 32, u64::MAX] {
            let (mut ten, mut sixteen) = (Vec::new(), Vec::new());
            decimal(number, &mut ten);
            hexadecimal(number, &mut sixteen);
            assert_eq!(ten, format!("{number}").as_bytes());
            assert_eq!(sixteen, format!("{number:x}").as_bytes());
        }
    }

    #[test]
    fn a_length_is_digits_only() {
        for (text, expected) in
            [("0", Some(0)), ("007", Some(7)), ("18446744073709551615", Some(u64::MAX))]
        {
            assert_eq!(parse_length(text.as_bytes()), expected);
        }
        for bad in ["", "+1", "-1", "1,1", "1 ", "0x1", "18446744073709551616"] {
            assert_eq!(parse_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_body_that_breaks_its_length_is_an_error() {
        let mut writer = Writer::default();
        assert!(Encoder::Length(1).data(Bytes::from_static(b"ab"), &mut writer).is_err());
        assert!(Encoder::Length(1).end(None, &mut writer).is_err());
        assert!(Encoder::Length(0).end(None, &mut writer).is_ok());
    }
}

//! From the bytes of a connection to the frames of a body (RFC 9112 6 and 7). Strict: a body that
//! two readers could end at different places is refused.

use super::head::{has_bare_line_feed, may_be_complete};
use crate::error::BodyError;
use crate::headers::is_forbidden_trailer;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Most digits of a chunk size: 2^64.
const CHUNK_DIGITS_MAX: usize = 16;
/// Longest chunk-size line, with its extensions.
const CHUNK_LINE_MAX: usize = 4 * 1024;
/// Most trailer fields.
const TRAILERS_MAX: usize = 64;

/// How a body ends, and how much of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes.
    Length(u64),
    /// The chunked coding.
    Chunked(Chunk),
    /// Everything up to the end of the connection (responses only).
    UntilClose,
    /// Nothing more.
    Done,
}

/// Where in the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Before a size line.
    Size,
    /// Inside a chunk, so many bytes to go.
    Data(u64),
    /// After a chunk's data, before its line end.
    DataEnd,
    /// After the last chunk; so many bytes of what follows hold no end.
    Trailers(usize),
}

/// What a step yields.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Data; never empty.
    Data(Bytes),
    /// Trailer fields; the end comes next.
    Trailers(HeaderMap),
    /// The end of the body.
    End,
    /// Nothing without more bytes.
    NeedMore,
}

impl Decoder {
    /// A body of this length.
    pub(crate) fn length(length: u64) -> Self {
        if length == 0 { Decoder::Done } else { Decoder::Length(length) }
    }

    /// A chunked body.
    pub(crate) const CHUNKED: Decoder = Decoder::Chunked(Chunk::Size);

    /// Has the whole body been seen?
    pub(crate) fn is_done(&self) -> bool {
        *self == Decoder::Done
    }

    /// The length, where it is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self {
            Decoder::Length(rest) => Some(*rest),
            Decoder::Done => Some(0),
            _ => None,
        }
    }

    /// The next piece out of `buffer`. `trailer_bytes_max` bounds the trailer section.
    pub(crate) fn step(
        &mut self,
        buffer: &mut BytesMut,
        trailer_bytes_max: usize,
    ) -> Result<Step, BodyError> {
        loop {
            match self {
                Decoder::Done => return Ok(Step::End),
                Decoder::UntilClose if buffer.is_empty() => return Ok(Step::NeedMore),
                Decoder::UntilClose => return Ok(Step::Data(buffer.split().freeze())),
                Decoder::Length(rest) => {
                    let data = take(buffer, rest);
                    if *rest == 0 {
                        *self = Decoder::Done;
                    }
                    return Ok(data);
                }
                Decoder::Chunked(chunk) => match chunk {
                    Chunk::Data(rest) => {
                        let data = take(buffer, rest);
                        if *rest == 0 {
                            *chunk = Chunk::DataEnd;
                        }
                        return Ok(data);
                    }
                    Chunk::DataEnd => match &buffer[..] {
                        [b'\r', b'\n', ..] => {
                            buffer.advance(2);
                            *chunk = Chunk::Size;
                        }
                        [] | [b'\r'] => return Ok(Step::NeedMore),
                        _ => return Err(BodyError::Malformed("a chunk is longer than its size")),
                    },
                    Chunk::Size => match chunk_size(buffer)? {
                        None => return Ok(Step::NeedMore),
                        Some((0, line)) => {
                            buffer.advance(line);
                            *chunk = Chunk::Trailers(0);
                        }
                        Some((size, line)) => {
                            buffer.advance(line);
                            *chunk = Chunk::Data(size);
                        }
                    },
                    Chunk::Trailers(seen) => {
                        let Some(trailers) = trailers(buffer, *seen, trailer_bytes_max)? else {
                            *seen = buffer.len();
                            return Ok(Step::NeedMore);
                        };
                        *self = Decoder::Done;
                        if !trailers.is_empty() {
                            return Ok(Step::Trailers(trailers));
                        }
                    }
                },
            }
        }
    }
}

fn take(buffer: &mut BytesMut, rest: &mut u64) -> Step {
    if buffer.is_empty() {
        return Step::NeedMore;
    }
    let n = usize::try_from(*rest).unwrap_or(usize::MAX).min(buffer.len());
    *rest -= n as u64;
    Step::Data(buffer.split_to(n).freeze())
}

/// The size in a chunk-size line and the length of the line; none while it is incomplete.
fn chunk_size(line: &[u8]) -> Result<Option<(u64, usize)>, BodyError> {
    const BAD: BodyError = BodyError::Malformed("a chunk size is no hexadecimal number");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if digits > CHUNK_DIGITS_MAX {
        return Err(BAD);
    }
    let Some(next) = line.get(digits) else { return Ok(None) };
    if digits == 0 {
        return Err(BAD);
    }
    let end = match line.iter().take(CHUNK_LINE_MAX).position(|byte| *byte == b'\n') {
        Some(end) => end,
        None if line.len() >= CHUNK_LINE_MAX => {
            return Err(BodyError::Malformed("a chunk extension is too long"));
        }
        None if matches!(next, b'\r' | b';' | b' ' | b'\t') => return Ok(None),
        None => return Err(BAD),
    };
    // The line ends with CR LF, and between size and end there is nothing or an extension.
    let between = line[digits..end].strip_suffix(b"\r").ok_or(BAD)?;
    let blank = between.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let extension = &between[blank..];
    if between.contains(&b'\r') || !(between.is_empty() || extension.starts_with(b";")) {
        return Err(BAD);
    }
    let size = std::str::from_utf8(&line[..digits])
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(BAD)?;
    Ok(Some((size, end + 1)))
}

/// The trailer section, taken out of the buffer; none while it is incomplete. It is parsed once, not
/// with every byte that trickles in.
fn trailers(
    buffer: &mut BytesMut,
    seen: usize,
    bytes_max: usize,
) -> Result<Option<HeaderMap>, BodyError> {
    const BAD: BodyError = BodyError::Malformed("a trailer field is malformed");
    if !buffer.starts_with(b"\r\n") && !may_be_complete(buffer, seen) {
        let first = buffer.first();
        return match buffer.len() > bytes_max {
            true => Err(BodyError::TooLarge),
            false if first.is_some_and(|byte| *byte == b'\n') => Err(BAD),
            false => Ok(None),
        };
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    match httparse::parse_headers(buffer, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) => {
            if length > bytes_max {
                return Err(BodyError::TooLarge);
            }
            if has_bare_line_feed(&buffer[..length]) {
                return Err(BAD);
            }
            let mut trailers = HeaderMap::new();
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD)?;
                let value = HeaderValue::from_bytes(field.value).map_err(|_| BAD)?;
                if !is_forbidden_trailer(&name) {
                    trailers.append(name, value);
                }
            }
            buffer.advance(length);
            Ok(Some(trailers))
        }
        Ok(httparse::Status::Partial) if buffer.len() > bytes_max => Err(BodyError::TooLarge),
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Data, trailers, what is left over.
    type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// Decodes with bytes arriving in pieces of one size; what is left over comes last.
    fn decode(mut decoder: Decoder, wire: &[u8], piece: usize) -> Result<Decoded, BodyError> {
        let (mut data, mut trailers) = (Vec::new(), None);
        let mut buffer = BytesMut::new();
        let mut pieces = wire.chunks(piece);
        loop {
            match decoder.step(&mut buffer, 1024)? {
                Step::Data(bytes) => data.extend_from_slice(&bytes),
                Step::Trailers(fields) => trailers = Some(fields),
                Step::End => break,
                Step::NeedMore => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Err(BodyError::Closed),
                },
            }
        }
        pieces.for_each(|piece| buffer.extend_from_slice(piece));
        Ok((data, trailers, buffer.to_vec()))
    }

    #[test]
    fn bodies_end_where_they_say() {
        let ok = |decoder, wire: &str, data: &str, rest: &str| {
            for piece in [1, 3, 1000] {
                let (found, _, left) = decode(decoder, wire.as_bytes(), piece).expect(wire);
                assert_eq!((found, left), (data.into(), rest.into()), "{wire:?} by {piece}");
            }
        };
        ok(Decoder::length(0), "GET", "", "GET");
        ok(Decoder::length(5), "helloGET", "hello", "GET");
        ok(Decoder::CHUNKED, "0\r\n\r\nGET", "", "GET");
        ok(
            Decoder::CHUNKED,
            "5\r\nhello\r\n6 ; a=\"b\"\r\n world\r\n000\r\n\r\nGET",
            "hello world",
            "GET",
        );
        ok(Decoder::CHUNKED, "A;x\r\n0123456789\r\n0\r\nx-a: 1\r\n\r\n", "0123456789", "");
    }

    #[test]
    fn trailers_pass_except_those_that_frame() {
        let wire = b"0\r\ngrpc-status: 0\r\nContent-Length: 5\r\nhost: x\r\n\r\n";
        let (_, trailers, _) = decode(Decoder::CHUNKED, wire, 1).expect("a body");
        let trailers = trailers.expect("trailers");
        assert_eq!((trailers.len(), &trailers["grpc-status"]), (1, &HeaderValue::from_static("0")));
    }

    #[test]
    fn a_chunk_line_with_two_readings_is_refused() {
        for wire in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n",
            "5\nhello\n0\n\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n",
            "5\rx\r\nhello",
            "5;a\rb\r\nhello",
            "10000000000000000\r\n",
            " 5\r\nhello",
            "0\r\nbad field\r\n\r\n",
            "0\r\n: x\r\n\r\n",
            "0\r\na: x\n\r\n",
            "0\r\na: x\r\n\n",
        ] {
            for piece in [1, 1000] {
                let found = decode(Decoder::CHUNKED, wire.as_bytes(), piece);
                assert!(matches!(found, Err(BodyError::Malformed(_))), "{wire:?}: {found:?}");
            }
        }
        let long = format!("5;{}", "x".repeat(5000));
        assert!(matches!(
            decode(Decoder::CHUNKED, long.as_bytes(), 100),
            Err(BodyError::Malformed(_))
        ));
        let long = format!("0\r\na: {}", "x".repeat(5000));
        assert_eq!(decode(Decoder::CHUNKED, long.as_bytes(), 100), Err(BodyError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_the_same_in_any_pieces(wire: Vec<u8>, piece in 1usize..20) {
            for decoder in [Decoder::CHUNKED, Decoder::length(7)] {
                prop_assert_eq!(decode(decoder, &wire, piece), decode(decoder, &wire, 10_000));
            }
        }

        #[test]
        fn chunks_round_trip(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8), piece in 1usize..40) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let (data, _, rest) = decode(Decoder::CHUNKED, &wire, piece).expect("a body");
            prop_assert_eq!((data, rest), (chunks.concat(), Vec::new()));
        }
    }
}

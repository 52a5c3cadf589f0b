//! HTTP/2 by hand: what no library would send.

use super::record::{Forwarder, Recorded, find, recorder};
use bytes::Bytes;
use http_proxy::{ServerOptions, Version, serve};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

/// The stream of the request behind.
const NEXT: u32 = 99;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field, literally: no table, no Huffman coding.
pub fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    for text in [name, value] {
        match text.len() {
            short @ 0..127 => out.push(short as u8),
            long => {
                out.push(127);
                let mut rest = long - 127;
                while rest >= 128 {
                    out.push(rest as u8 & 127 | 128);
                    rest >>= 7;
                }
                out.push(rest as u8);
            }
        }
        out.extend_from_slice(text);
    }
    out
}

pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name.as_bytes(), value.as_bytes())).collect()
}

/// What comes of the first stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Reset,
    /// The connection ended.
    Gone,
}

/// A connection that speaks frames.
pub struct Client<IO> {
    pub stream: IO,
    buffer: Vec<u8>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Client<IO> {
    /// Begins with preface and settings.
    pub async fn new(stream: IO) -> Client<IO> {
        let mut client = Client { stream, buffer: Vec::new() };
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client.send(&frame(SETTINGS, 0, 0, &[])).await;
        client
    }

    /// Sends what may meet a closed connection.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// The next frame: kind, flags, stream, payload; none at the end.
    pub async fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            if let Some(&[a, b, c, kind, flags, s, t, u, v]) = self.buffer.first_chunk::<9>() {
                let length = u32::from_be_bytes([0, a, b, c]) as usize;
                if self.buffer.len() >= 9 + length {
                    let payload = self.buffer[9..9 + length].to_vec();
                    self.buffer.drain(..9 + length);
                    return Some((kind, flags, u32::from_be_bytes([s, t, u, v]), payload));
                }
            }
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Reads until it is known what comes of a stream.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let mut status = None;
        while let Some((kind, flags, of, payload)) = self.frame().await {
            match kind {
                GOAWAY => return Outcome::Gone,
                RST_STREAM if of == stream => {
                    return status.map_or(Outcome::Reset, Outcome::Status);
                }
                HEADERS if of == stream => status = status.or(Some(status_of(&payload))),
                _ => {}
            }
            if of == stream
                && (kind == HEADERS || kind == DATA)
                && flags & END_STREAM != 0
                && let Some(status) = status
            {
                return Outcome::Status(status);
            }
        }
        Outcome::Gone
    }
}

/// `:status`, which comes first: from the static table or as a literal, by Huffman's code or not.
pub fn status_of(block: &[u8]) -> u16 {
    match block {
        [index @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][*index as usize - 0x88],
        [0x08 | 0x18 | 0x48, 3, digits @ ..] => {
            std::str::from_utf8(&digits[..3]).expect("digits").parse().expect("a status")
        }
        [0x08 | 0x18 | 0x48, length @ 0x80..=0xff, text @ ..] => {
            huffman_digits(&text[..*length as usize & 0x7f])
        }
        _ => panic!("no status: {block:?}"),
    }
}

/// RFC 7541 appendix B: 0 to 2 have five bits, the other digits six.
fn huffman_digits(text: &[u8]) -> u16 {
    let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = 0u16;
        for _ in 0..5 {
            code = code << 1 | u16::from(bits.next().expect("a digit"));
        }
        if code > 2 {
            code = (code << 1 | u16::from(bits.next().expect("a digit"))) - 0x19 + 3;
        }
        number = number * 10 + code;
    }
    number
}

/// Serves a connection by a proxy that speaks HTTP/1.1 to the backend.
pub async fn proxied(
    options: ServerOptions,
) -> (Client<DuplexStream>, Rc<std::cell::RefCell<Recorded>>) {
    let (to, recorded) = recorder().await;
    let (near, far) = tokio::io::duplex(1024 * 1024);
    let handler = Forwarder::new(to, Version::H1);
    tokio::task::spawn_local(async move {
        let never = std::future::pending();
        serve(far, Bytes::new(), Rc::default(), handler, &options, never).await;
    });
    (Client::new(near).await, recorded)
}

/// Sends frames, then an ordinary request, and tells what came of both.
pub async fn through_the_proxy(frames: &[u8]) -> (Outcome, Outcome, Recorded) {
    let (mut client, recorded) = proxied(ServerOptions::default()).await;
    client.send(frames).await;
    let first = client.outcome(1).await;
    let next = [(":method", "GET"), (":scheme", "http"), (":authority", "n"), (":path", "/next")];
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, NEXT, &block(&next))).await;
    let next = client.outcome(NEXT).await;
    let recorded = recorded.take();
    assert!(find(&recorded.bytes, b"smuggled").is_none());
    (first, next, recorded)
}

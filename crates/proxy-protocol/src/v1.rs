//! Version 1: one line of text, `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n`.

use crate::{Addresses, Command, Error, Header, Transport, Version};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::str::{FromStr, Split};

const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line with its CR and LF, by the specification.
const LINE_BYTES_MAX: usize = 107;

/// Reads a line whose first byte is `P`.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Error::NotProxyProtocol);
    }
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() == LINE_BYTES_MAX { Err(Error::TooLong) } else { Ok(None) };
    };
    let line = window.get(SIGNATURE.len()..end).ok_or(Error::LineMalformed)?;
    let line = std::str::from_utf8(line).map_err(|_| Error::LineMalformed)?;
    let addresses = parse(line).ok_or(Error::LineMalformed)?;
    let transport = match addresses {
        Addresses::Unspecified => Transport::Unspecified,
        _ => Transport::Stream,
    };
    let header = Header {
        version: Version::V1,
        command: Command::Proxy,
        transport,
        addresses,
        tlvs: Vec::new(),
    };
    Ok(Some((header, end + 2)))
}

/// The line for a TCP connection over IPv4: what a load balancer with `proxyHeader: PROXY_V1`
/// sends first.
pub fn v1_line(source: SocketAddrV4, destination: SocketAddrV4) -> Vec<u8> {
    format!(
        "PROXY TCP4 {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
    .into_bytes()
}

fn parse(line: &str) -> Option<Addresses> {
    let mut words = line.split(' ');
    match words.next()? {
        // What follows UNKNOWN must be ignored, whatever it is.
        "UNKNOWN" => Some(Addresses::Unspecified),
        "TCP4" => {
            let (from, to, from_port, to_port) = ends::<Ipv4Addr>(words)?;
            Some(Addresses::V4 {
                source: SocketAddrV4::new(from, from_port),
                destination: SocketAddrV4::new(to, to_port),
            })
        }
        "TCP6" => {
            let (from, to, from_port, to_port) = ends::<Ipv6Addr>(words)?;
            Some(Addresses::V6 {
                source: SocketAddrV6::new(from, from_port, 0, 0),
                destination: SocketAddrV6::new(to, to_port, 0, 0),
            })
        }
        _ => None,
    }
}

/// Source, destination, source port, destination port, and nothing else.
fn ends<A: FromStr>(mut words: Split<'_, char>) -> Option<(A, A, u16, u16)> {
    let ends = (
        words.next()?.parse().ok()?,
        words.next()?.parse().ok()?,
        port(words.next()?)?,
        port(words.next()?)?,
    );
    words.next().is_none().then_some(ends)
}

/// Digits without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || !text.starts_with(['0', '+']);
    if plain { text.parse().ok() } else { None }
}

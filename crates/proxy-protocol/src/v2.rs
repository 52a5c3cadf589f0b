//! Version 2: binary.

use crate::{Addresses, Command, Error, HEADER_BYTES_MAX, Header, Transport, UNIX_PATH_BYTES};
use crate::{Version, crc32c, tlv};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;
const UNIX_BYTES: usize = 2 * UNIX_PATH_BYTES;

/// Reads a header that does not begin like version 1.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] != SIGNATURE[..known] {
        return Err(Error::NotProxyProtocol);
    }
    // What is wrong in the fixed part is said as soon as it is seen.
    let command = match bytes.get(12).map(|byte| (byte >> 4, byte & 0x0f)) {
        None => return Ok(None),
        Some((2, 0)) => Command::Local,
        Some((2, 1)) => Command::Proxy,
        Some((2, command)) => return Err(Error::CommandUnknown(command)),
        Some((version, _)) => return Err(Error::VersionUnknown(version)),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    let (transport, kind) = match (command, family) {
        // "The receiver must … discard the protocol block including the family."
        (Command::Local, _) | (_, 0x00) => (Transport::Unspecified, Kind::Unspecified),
        (_, 0x11) => (Transport::Stream, Kind::V4),
        (_, 0x12) => (Transport::Datagram, Kind::V4),
        (_, 0x21) => (Transport::Stream, Kind::V6),
        (_, 0x22) => (Transport::Datagram, Kind::V6),
        (_, 0x31) => (Transport::Stream, Kind::Unix),
        (_, 0x32) => (Transport::Datagram, Kind::Unix),
        (_, family) => return Err(Error::FamilyUnknown(family)),
    };
    let Some(&[high, low]) = bytes.get(14..FIXED_BYTES).and_then(|length| length.first_chunk())
    else {
        return Ok(None);
    };
    let total = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if total > HEADER_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let Some(whole) = bytes.get(..total) else { return Ok(None) };
    let block = &whole[FIXED_BYTES..];
    let (addresses, tlvs) = addresses(kind, block).ok_or(Error::AddressesTruncated)?;
    let tlvs = match (command, kind, tlv::validate(tlvs)) {
        (Command::Local, ..) => &[],
        // An unspecified family may stand for addresses of a family that nobody here knows: what
        // does not read as TLVs is ignored with them.
        (_, Kind::Unspecified, Err(_)) => &[],
        (_, _, Err(error)) => return Err(error),
        (_, _, Ok(())) => tlvs,
    };
    if let Some(at) = tlv::checksum_at(tlvs) {
        let at = total - tlvs.len() + at;
        if whole[at..at + 4] != crc32c::checksum_with_hole(whole, at).to_be_bytes() {
            return Err(Error::ChecksumMismatch);
        }
    }
    let header =
        Header { version: Version::V2, command, transport, addresses, tlvs: tlvs.to_vec() };
    Ok(Some((header, total)))
}

#[derive(Clone, Copy)]
enum Kind {
    Unspecified,
    V4,
    V6,
    Unix,
}

/// The addresses, and what follows them.
fn addresses(kind: Kind, block: &[u8]) -> Option<(Addresses, &[u8])> {
    match kind {
        Kind::Unspecified => Some((Addresses::Unspecified, block)),
        Kind::V4 => {
            let (&a, rest) = block.split_first_chunk::<V4_BYTES>()?;
            let ip = |at: usize| Ipv4Addr::new(a[at], a[at + 1], a[at + 2], a[at + 3]);
            let port = |at: usize| u16::from_be_bytes([a[at], a[at + 1]]);
            let source = SocketAddrV4::new(ip(0), port(8));
            let destination = SocketAddrV4::new(ip(4), port(10));
            Some((Addresses::V4 { source, destination }, rest))
        }
        Kind::V6 => {
            let (a, rest) = block.split_first_chunk::<V6_BYTES>()?;
            let ip = |at: usize| {
                let bytes: Option<&[u8; 16]> = a[at..].first_chunk();
                bytes.map(|bytes| Ipv6Addr::from(*bytes))
            };
            let port = |at: usize| u16::from_be_bytes([a[at], a[at + 1]]);
            let source = SocketAddrV6::new(ip(0)?, port(32), 0, 0);
            let destination = SocketAddrV6::new(ip(16)?, port(34), 0, 0);
            Some((Addresses::V6 { source, destination }, rest))
        }
        Kind::Unix => {
            let (source, rest) = block.split_first_chunk::<UNIX_PATH_BYTES>()?;
            let (destination, rest) = rest.split_first_chunk::<UNIX_PATH_BYTES>()?;
            let (source, destination) = (Box::new(*source), Box::new(*destination));
            Some((Addresses::Unix { source, destination }, rest))
        }
    }
}

/// Writes a header.
pub(crate) fn encode(header: &Header) -> Result<Vec<u8>, Error> {
    let (family, address_bytes) = match (&header.addresses, header.transport) {
        (Addresses::Unspecified, Transport::Unspecified) => (0x00, 0),
        (Addresses::V4 { .. }, Transport::Stream) => (0x11, V4_BYTES),
        (Addresses::V4 { .. }, Transport::Datagram) => (0x12, V4_BYTES),
        (Addresses::V6 { .. }, Transport::Stream) => (0x21, V6_BYTES),
        (Addresses::V6 { .. }, Transport::Datagram) => (0x22, V6_BYTES),
        (Addresses::Unix { .. }, Transport::Stream) => (0x31, UNIX_BYTES),
        (Addresses::Unix { .. }, Transport::Datagram) => (0x32, UNIX_BYTES),
        _ => return Err(Error::NotEncodable),
    };
    let block_bytes = address_bytes + header.tlvs.len();
    if FIXED_BYTES + block_bytes > HEADER_BYTES_MAX {
        return Err(Error::TooLong);
    }
    let length = u16::try_from(block_bytes).map_err(|_| Error::TooLong)?;
    let mut bytes = Vec::with_capacity(FIXED_BYTES + block_bytes);
    bytes.extend_from_slice(&SIGNATURE);
    bytes.push(match header.command {
        Command::Local => 0x20,
        Command::Proxy => 0x21,
    });
    bytes.push(family);
    bytes.extend_from_slice(&length.to_be_bytes());
    match &header.addresses {
        Addresses::Unspecified => {}
        Addresses::V4 { source, destination } => {
            bytes.extend_from_slice(&source.ip().octets());
            bytes.extend_from_slice(&destination.ip().octets());
            bytes.extend_from_slice(&source.port().to_be_bytes());
            bytes.extend_from_slice(&destination.port().to_be_bytes());
        }
        Addresses::V6 { source, destination } => {
            bytes.extend_from_slice(&source.ip().octets());
            bytes.extend_from_slice(&destination.ip().octets());
            bytes.extend_from_slice(&source.port().to_be_bytes());
            bytes.extend_from_slice(&destination.port().to_be_bytes());
        }
        Addresses::Unix { source, destination } => {
            bytes.extend_from_slice(&source[..]);
            bytes.extend_from_slice(&destination[..]);
        }
    }
    bytes.extend_from_slice(&header.tlvs);
    if let Some(at) = tlv::checksum_at(&header.tlvs) {
        let at = FIXED_BYTES + address_bytes + at;
        let checksum = crc32c::checksum_with_hole(&bytes, at).to_be_bytes();
        bytes[at..at + 4].copy_from_slice(&checksum);
    }
    Ok(bytes)
}

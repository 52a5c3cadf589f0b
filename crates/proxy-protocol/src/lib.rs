//! The PROXY protocol: who really calls, told in front of the first byte of a connection.
//!
//! Version 2 is written and read, version 1 is read. The words are the specification's: header,
//! command, transport, TLV. Private Service Connect adds the TLV `PP2_TYPE_GCP` with the
//! connection id (private-connectivity 1.5); Postern's programs add TLVs of their own between each
//! other: [`Tlv::ORIGIN`], [`Tlv::SERVICE`] and [`Tlv::REGION`].
//!
//! This crate is a codec: bytes in, values out, every length bounded by [`HEADER_BYTES_MAX`]. It
//! never reads from a socket, and never decides whether a header may be believed: that follows
//! from the socket on which it came.

mod crc32c;
mod error;
mod tlv;
mod v1;
mod v2;

pub use v1::v1_line;

pub use error::Error;
pub use tlv::{Tlv, Tlvs};

use std::net::{SocketAddrV4, SocketAddrV6};

/// The longest header that is read or written, in bytes. The format would allow 65,551; nothing
/// that a header may say here comes near to this.
pub const HEADER_BYTES_MAX: usize = 4096;

/// A PROXY protocol header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version in which it was written; [`Header::encode`] always writes version 2.
    pub version: Version,
    /// Does the header speak for somebody else?
    pub command: Command,
    /// The transport of the connection that it describes.
    pub transport: Transport,
    /// The two ends of that connection.
    pub addresses: Addresses,
    /// TLVs as on the wire, already known to be well-formed.
    tlvs: Vec<u8>,
}

/// The two versions of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The proxy's own connection (a health check, say): the real ends of the socket count.
    Local,
    /// A connection made for somebody else.
    Proxy,
}

/// The transport protocol of the connection that a header describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Not said.
    Unspecified,
    /// TCP, or a Unix stream socket.
    Stream,
    /// UDP, or a Unix datagram socket.
    Datagram,
}

/// The ends of the connection that a header describes: who calls, and whom they called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Not said.
    Unspecified,
    /// IPv4.
    V4 {
        /// The client.
        source: SocketAddrV4,
        /// What the client dialled.
        destination: SocketAddrV4,
    },
    /// IPv6.
    V6 {
        /// The client.
        source: SocketAddrV6,
        /// What the client dialled.
        destination: SocketAddrV6,
    },
    /// Unix socket paths, as on the wire: 108 bytes each, filled up with zeros.
    Unix {
        /// The client.
        source: Box<[u8; UNIX_PATH_BYTES]>,
        /// What the client dialled.
        destination: Box<[u8; UNIX_PATH_BYTES]>,
    },
}

/// The length of a Unix socket path in a header.
pub const UNIX_PATH_BYTES: usize = 108;

impl Header {
    /// For a TCP connection over IPv4.
    pub fn tcp(source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        Header {
            version: Version::V2,
            command: Command::Proxy,
            transport: Transport::Stream,
            addresses: Addresses::V4 { source, destination },
            tlvs: Vec::new(),
        }
    }

    /// For a connection whose ends are not told, which may still carry TLVs.
    pub fn unspecified() -> Self {
        Header {
            version: Version::V2,
            command: Command::Proxy,
            transport: Transport::Unspecified,
            addresses: Addresses::Unspecified,
            tlvs: Vec::new(),
        }
    }

    /// For the proxy's own connection. Readers discard whatever else such a header says.
    pub fn local() -> Self {
        Header { command: Command::Local, ..Header::unspecified() }
    }

    /// Reads the header at the front of `bytes`, version 1 or 2.
    ///
    /// `Ok(None)` asks for more bytes; otherwise the header comes with the number of bytes that it
    /// took. Bytes that cannot become a header, however they go on, are an error at once.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Header, usize)>, Error> {
        match bytes.first() {
            None => Ok(None),
            Some(b'P') => v1::decode(bytes),
            Some(_) => v2::decode(bytes),
        }
    }

    /// The header in version 2, checksum filled in where the header has one.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        v2::encode(self)
    }

    /// The client's address, where the header tells an IPv4 one.
    pub fn source_v4(&self) -> Option<SocketAddrV4> {
        match self.addresses {
            Addresses::V4 { source, .. } => Some(source),
            _ => None,
        }
    }

    /// The address that the client dialled, where the header tells an IPv4 one.
    pub fn destination_v4(&self) -> Option<SocketAddrV4> {
        match self.addresses {
            Addresses::V4 { destination, .. } => Some(destination),
            _ => None,
        }
    }
}

use std::fmt;

/// Why bytes are no PROXY header, or a header cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes begin with neither version's signature.
    NotProxyProtocol,
    /// A version 2 signature with another version number behind it.
    VersionUnknown(u8),
    /// A command other than LOCAL and PROXY.
    CommandUnknown(u8),
    /// A pair of address family and transport that the specification does not assign.
    FamilyUnknown(u8),
    /// The header ends inside its addresses.
    AddressesTruncated,
    /// A TLV ends behind the header.
    TlvTruncated,
    /// A TLV that may appear once appears twice.
    TlvRepeated(u8),
    /// The value of a TLV is not what its type demands.
    TlvMalformed(u8),
    /// The CRC32C in the header is not the header's.
    ChecksumMismatch,
    /// Longer than [`HEADER_BYTES_MAX`](crate::HEADER_BYTES_MAX), or a version 1 line longer than
    /// the 107 bytes of the specification.
    TooLong,
    /// A version 1 line that the specification does not allow.
    LineMalformed,
    /// The addresses do not go with the transport (IPv6 without transport, say).
    NotEncodable,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotProxyProtocol => {
                f.write_str("the connection does not begin with a PROXY header")
            }
            Error::VersionUnknown(version) => write!(f, "PROXY version {version} is unknown"),
            Error::CommandUnknown(command) => write!(f, "PROXY command {command:#x} is unknown"),
            Error::FamilyUnknown(family) => {
                write!(f, "PROXY address family {family:#04x} is unknown")
            }
            Error::AddressesTruncated => {
                f.write_str("the PROXY header is too short for its addresses")
            }
            Error::TlvTruncated => f.write_str("a TLV runs over the end of the PROXY header"),
            Error::TlvRepeated(kind) => write!(f, "TLV {kind:#04x} appears twice"),
            Error::TlvMalformed(kind) => write!(f, "the value of TLV {kind:#04x} is malformed"),
            Error::ChecksumMismatch => f.write_str("the checksum of the PROXY header is wrong"),
            Error::TooLong => f.write_str("the PROXY header is too long"),
            Error::LineMalformed => f.write_str("the PROXY version 1 line is malformed"),
            Error::NotEncodable => f.write_str("these addresses do not go with this transport"),
        }
    }
}

impl std::error::Error for Error {}

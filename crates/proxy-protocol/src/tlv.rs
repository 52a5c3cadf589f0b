//! Type, length, value: what a version 2 header carries beside the addresses.

use crate::{Error, HEADER_BYTES_MAX, Header};
use names::{Origin, SelfLink};

/// One TLV of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type.
    pub kind: u8,
    /// Its value.
    pub value: &'a [u8],
}

impl Tlv<'_> {
    /// `PP2_TYPE_ALPN`: the application protocol that the client speaks, by its ALPN name.
    pub const ALPN: u8 = 0x01;
    /// `PP2_TYPE_CRC32C`: the checksum of the whole header.
    pub const CRC32C: u8 = 0x03;
    /// `PP2_TYPE_NOOP`: padding.
    pub const NOOP: u8 = 0x04;
    /// `PP2_TYPE_GCP`: the `pscConnectionId`, eight bytes in network order (private-connectivity
    /// 1.5).
    pub const GCP: u8 = 0xe0;
    /// Postern's own, between its programs only: JSON of [`names::Origin`]. From the range that the
    /// specification leaves to applications (0xe0 to 0xef).
    pub const ORIGIN: u8 = 0xe1;
    /// Postern's own, between its programs only: `SELF_LINK[#TAG]` of a Cloud Run service.
    pub const SERVICE: u8 = 0xe2;
    /// Postern's own, between its programs only: the region of a client that is in another one
    /// than the PSC endpoint that it called.
    pub const REGION: u8 = 0xe3;

    /// May a header have only one of these? What somebody decides by must not be said twice.
    const fn only_once(kind: u8) -> bool {
        matches!(
            kind,
            Self::ALPN | Self::CRC32C | Self::GCP | Self::ORIGIN | Self::SERVICE | Self::REGION
        )
    }
}

/// The TLVs of a header, in their order.
#[derive(Clone, Debug)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (tlv, rest) = split(self.rest)?;
        self.rest = rest;
        Some(tlv)
    }
}

/// The first TLV and what follows it; none at the end, and none if it is cut off.
fn split(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<3>()?;
    let length = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (value, rest) = rest.split_at_checked(length)?;
    Some((Tlv { kind: head[0], value }, rest))
}

/// Are these bytes TLVs to the last one, none of them twice that may appear once?
pub(crate) fn validate(bytes: &[u8]) -> Result<(), Error> {
    let mut rest = bytes;
    // The kinds that may appear once are few: one bit each in a set of 256.
    let mut seen = [0u64; 4];
    while !rest.is_empty() {
        let (tlv, next) = split(rest).ok_or(Error::TlvTruncated)?;
        let (word, bit) = (usize::from(tlv.kind >> 6), 1 << (tlv.kind & 63));
        if Tlv::only_once(tlv.kind) && seen[word] & bit != 0 {
            return Err(Error::TlvRepeated(tlv.kind));
        }
        if tlv.kind == Tlv::CRC32C && tlv.value.len() != 4 {
            return Err(Error::TlvMalformed(tlv.kind));
        }
        seen[word] |= bit;
        rest = next;
    }
    Ok(())
}

/// Where the value of the checksum TLV begins in these well-formed TLVs.
pub(crate) fn checksum_at(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while let Some((tlv, next)) = split(rest) {
        if tlv.kind == Tlv::CRC32C {
            return Some(bytes.len() - rest.len() + 3);
        }
        rest = next;
    }
    None
}

impl Header {
    /// All TLVs, in their order.
    pub fn tlvs(&self) -> Tlvs<'_> {
        Tlvs { rest: &self.tlvs }
    }

    /// The value of the first TLV of this type.
    pub fn tlv(&self, kind: u8) -> Option<&[u8]> {
        self.tlvs().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// Adds a TLV behind the others.
    pub fn with_tlv(mut self, kind: u8, value: &[u8]) -> Result<Self, Error> {
        if Tlv::only_once(kind) && self.tlv(kind).is_some() {
            return Err(Error::TlvRepeated(kind));
        }
        if kind == Tlv::CRC32C && value.len() != 4 {
            return Err(Error::TlvMalformed(kind));
        }
        let length = u16::try_from(value.len()).map_err(|_| Error::TooLong)?;
        if self.tlvs.len() + 3 + value.len() > HEADER_BYTES_MAX {
            return Err(Error::TooLong);
        }
        self.tlvs.push(kind);
        self.tlvs.extend_from_slice(&length.to_be_bytes());
        self.tlvs.extend_from_slice(value);
        Ok(self)
    }

    /// Adds a checksum, which [`Header::encode`] computes.
    pub fn with_checksum(self) -> Result<Self, Error> {
        self.with_tlv(Tlv::CRC32C, &[0; 4])
    }

    /// Adds the PSC connection id as Google Cloud sends it (private-connectivity 1.5).
    pub fn with_psc_connection_id(self, id: u64) -> Result<Self, Error> {
        self.with_tlv(Tlv::GCP, &id.to_be_bytes())
    }

    /// Adds where the requests of this connection come from.
    pub fn with_origin(self, origin: &Origin) -> Result<Self, Error> {
        let json = serde_json::to_vec(origin).map_err(|_| Error::TlvMalformed(Tlv::ORIGIN))?;
        self.with_tlv(Tlv::ORIGIN, &json)
    }

    /// Adds the Cloud Run service, and the traffic tag if any, that this connection is for.
    pub fn with_service(self, service: &SelfLink, tag: Option<&str>) -> Result<Self, Error> {
        let text = match tag {
            Some(tag) => format!("{service}#{tag}"),
            None => service.to_string(),
        };
        self.with_tlv(Tlv::SERVICE, text.as_bytes())
    }

    /// Adds the client's region, for a client that is not in the region of the PSC endpoint.
    pub fn with_region(self, region: &str) -> Result<Self, Error> {
        self.with_tlv(Tlv::REGION, region.as_bytes())
    }

    /// The client's region, where it is another one than that of the PSC endpoint.
    pub fn region(&self) -> Result<Option<&str>, Error> {
        let parse = |text| std::str::from_utf8(text).map_err(|_| Error::TlvMalformed(Tlv::REGION));
        self.tlv(Tlv::REGION).map(parse).transpose()
    }

    /// The PSC connection id; none where the TLV is missing or not eight bytes long.
    pub fn psc_connection_id(&self) -> Option<u64> {
        self.tlv(Tlv::GCP)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// Where the requests of this connection come from.
    pub fn origin(&self) -> Result<Option<Origin>, Error> {
        let parse =
            |json| serde_json::from_slice(json).map_err(|_| Error::TlvMalformed(Tlv::ORIGIN));
        self.tlv(Tlv::ORIGIN).map(parse).transpose()
    }

    /// The Cloud Run service that this connection is for, and the traffic tag if any.
    pub fn service(&self) -> Result<Option<(SelfLink, Option<&str>)>, Error> {
        let Some(value) = self.tlv(Tlv::SERVICE) else { return Ok(None) };
        let malformed = Error::TlvMalformed(Tlv::SERVICE);
        let text = std::str::from_utf8(value).map_err(|_| malformed)?;
        let (link, tag) = match text.split_once('#') {
            Some((link, tag)) => (link, Some(tag)),
            None => (text, None),
        };
        if link.is_empty() || tag == Some("") {
            return Err(malformed);
        }
        Ok(Some((SelfLink::new(link), tag)))
    }
}

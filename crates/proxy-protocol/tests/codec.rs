//! The codec against observed bytes, the specification's rules, and itself.

use names::{FrontEnd, NetworkId, Origin, SelfLink};
use proptest::prelude::*;
use proxy_protocol::{
    Addresses, Command, Error, HEADER_BYTES_MAX, Header, Tlv, Transport, UNIX_PATH_BYTES, Version,
};
use std::net::{SocketAddrV4, SocketAddrV6};

/// private-connectivity 1.5: the full header that was observed on a real service attachment.
const OBSERVED: &str = "0d0a0d0a000d0a515549540a 21 11 0017 0a003c02 0a003c64 8138 0050 \
                        e0 0008 009b34d70a003c64";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(|pair| byte(pair).expect("hex digits")).collect()
}

fn v4(text: &str) -> SocketAddrV4 {
    text.parse().expect("an address")
}

fn observed() -> Header {
    Header::tcp(v4("10.0.60.2:33080"), v4("10.0.60.100:80"))
        .with_psc_connection_id(0x009b_34d7_0a00_3c64)
        .expect("the first of its kind")
}

#[test]
fn the_observed_header_is_written_to_the_byte() {
    assert_eq!(observed().encode(), Ok(bytes(OBSERVED)));
    assert_eq!(bytes(OBSERVED).len(), 39);
}

#[test]
fn the_observed_header_is_read_and_the_payload_left() {
    let mut wire = bytes(OBSERVED);
    wire.extend_from_slice(b"\x16\x03\x01");
    let (header, consumed) = Header::decode(&wire).expect("well-formed").expect("complete");
    assert_eq!((header.clone(), consumed), (observed(), 39));
    assert_eq!(header.psc_connection_id(), Some(0x009b_34d7_0a00_3c64));
    assert_eq!(header.source_v4(), Some(v4("10.0.60.2:33080")));
    assert_eq!(header.destination_v4(), Some(v4("10.0.60.100:80")));
}

#[test]
fn every_proper_prefix_of_a_header_asks_for_more() {
    for wire in [bytes(OBSERVED), b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n".to_vec()] {
        for end in 0..wire.len() {
            assert_eq!(Header::decode(&wire[..end]), Ok(None), "{end} bytes");
        }
        assert!(matches!(Header::decode(&wire), Ok(Some(_))));
    }
}

#[test]
fn what_cannot_become_a_header_is_refused_at_once() {
    let signature = "0d0a0d0a000d0a515549540a";
    let table: &[(&[u8], Error)] = &[
        (b"GET / HTTP/1.1\r\n", Error::NotProxyProtocol),
        (b"\x16", Error::NotProxyProtocol),
        (b"PRI * HTTP/2.0\r\n", Error::NotProxyProtocol),
        (b"\r\n\r\nX", Error::NotProxyProtocol),
        (&bytes(&format!("{signature} 11")), Error::VersionUnknown(1)),
        (&bytes(&format!("{signature} 31")), Error::VersionUnknown(3)),
        (&bytes(&format!("{signature} 22")), Error::CommandUnknown(2)),
        (&bytes(&format!("{signature} 21 01")), Error::FamilyUnknown(0x01)),
        (&bytes(&format!("{signature} 21 10")), Error::FamilyUnknown(0x10)),
        (&bytes(&format!("{signature} 21 13")), Error::FamilyUnknown(0x13)),
        (&bytes(&format!("{signature} 21 41")), Error::FamilyUnknown(0x41)),
        (&bytes(&format!("{signature} 21 11 0ff1")), Error::TooLong),
        (&bytes(&format!("{signature} 21 11 ffff")), Error::TooLong),
        (
            &bytes(&format!("{signature} 21 11 000b 0a003c02 0a003c64 8138 00")),
            Error::AddressesTruncated,
        ),
        (
            &bytes(&format!("{signature} 21 11 000d 0a003c02 0a003c64 8138 0050 e0")),
            Error::TlvTruncated,
        ),
        (
            &bytes(&format!("{signature} 21 11 0010 0a003c02 0a003c64 8138 0050 e0 0002 00")),
            Error::TlvTruncated,
        ),
        (
            &bytes(&format!("{signature} 21 11 0012 0a003c02 0a003c64 8138 0050 e10000 e10000")),
            Error::TlvRepeated(0xe1),
        ),
        (
            &bytes(&format!("{signature} 21 11 000f 0a003c02 0a003c64 8138 0050 030000")),
            Error::TlvMalformed(0x03),
        ),
        (
            &bytes(&format!("{signature} 21 11 0013 0a003c02 0a003c64 8138 0050 030004 00000000")),
            Error::ChecksumMismatch,
        ),
    ];
    for (wire, error) in table {
        assert_eq!(Header::decode(wire), Err(*error), "{wire:02x?}");
    }
}

#[test]
fn a_local_header_discards_the_block_including_the_family() {
    for block in ["20 00 0000", "20 11 0002 ffff", "20 ff 0003 030000"] {
        let wire = bytes(&format!("0d0a0d0a000d0a515549540a {block}"));
        assert_eq!(Header::decode(&wire), Ok(Some((Header::local(), wire.len()))), "{block}");
    }
}

#[test]
fn an_unspecified_family_ignores_what_it_cannot_read_but_keeps_tlvs() {
    let wire = bytes("0d0a0d0a000d0a515549540a 21 00 0002 ffff");
    assert_eq!(Header::decode(&wire), Ok(Some((Header::unspecified(), 18))));
    let with = Header::unspecified().with_tlv(0xea, b"vpce").expect("fits");
    let wire = with.encode().expect("encodable");
    assert_eq!(Header::decode(&wire), Ok(Some((with, wire.len()))));
}

#[test]
fn a_checksum_is_verified_over_the_whole_header() {
    let header = observed().with_checksum().and_then(|h| h.with_tlv(Tlv::NOOP, &[0; 5]));
    let wire = header.and_then(|header| header.encode()).expect("encodable");
    assert!(matches!(Header::decode(&wire), Ok(Some((_, n))) if n == wire.len()));
    // A flipped bit anywhere behind the fixed part is noticed, unless it makes another TLV of the
    // checksum itself: its type is byte 39.
    for at in (16..wire.len()).filter(|at| *at != 39) {
        let mut broken = wire.clone();
        broken[at] ^= 1;
        assert!(Header::decode(&broken).is_err(), "byte {at}");
    }
}

#[test]
fn version_1_lines() {
    let tcp4 = Addresses::V4 { source: v4("192.0.2.1:56324"), destination: v4("192.0.2.2:443") };
    let tcp6 = Addresses::V6 {
        source: "[2001:db8::1]:1".parse().expect("an address"),
        destination: "[2001:db8::2]:65535".parse().expect("an address"),
    };
    let good: &[(&str, &Addresses)] = &[
        ("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", &tcp4),
        ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", &tcp6),
        ("PROXY UNKNOWN\r\n", &Addresses::Unspecified),
        ("PROXY UNKNOWN ffff::1 anything at all\r\n", &Addresses::Unspecified),
    ];
    for (line, addresses) in good {
        let wire = format!("{line}payload");
        let (header, consumed) = Header::decode(wire.as_bytes()).expect(line).expect(line);
        assert_eq!((&header.addresses, consumed), (*addresses, line.len()), "{line}");
        assert_eq!((header.version, header.command), (Version::V1, Command::Proxy));
    }
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
    ] {
        assert_eq!(Header::decode(line.as_bytes()), Err(Error::LineMalformed), "{line}");
    }
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200));
    assert_eq!(Header::decode(endless.as_bytes()), Err(Error::TooLong));
}

#[test]
fn posterns_own_tlvs_carry_origin_and_service() {
    let origin = Origin::Network {
        network: NetworkId::new("p", "n"),
        project: "service-project".into(),
        front_end: FrontEnd::Private,
    };
    let service = SelfLink::new("projects/p/locations/europe-west1/services/orders");
    let header = |tag| {
        let header = observed().with_origin(&origin).and_then(|h| h.with_service(&service, tag));
        let wire = header.and_then(|header| header.encode()).expect("encodable");
        Header::decode(&wire).expect("well-formed").expect("complete").0
    };
    assert_eq!(header(None).origin(), Ok(Some(origin.clone())));
    assert_eq!(header(None).service(), Ok(Some((service.clone(), None))));
    assert_eq!(header(Some("blue")).service(), Ok(Some((service.clone(), Some("blue")))));
    assert_eq!((observed().origin(), observed().service()), (Ok(None), Ok(None)));

    let far = observed().with_region("us-central1").expect("fits");
    assert_eq!((far.region(), observed().region()), (Ok(Some("us-central1")), Ok(None)));

    let twice = observed().with_psc_connection_id(1);
    assert_eq!(twice, Err(Error::TlvRepeated(Tlv::GCP)));
    for (kind, value) in
        [(Tlv::ORIGIN, "{}"), (Tlv::SERVICE, ""), (Tlv::SERVICE, "#t"), (Tlv::SERVICE, "s#")]
    {
        let header = observed().with_tlv(kind, value.as_bytes()).expect("fits");
        let read = if kind == Tlv::ORIGIN {
            header.origin().map(|_| ())
        } else {
            header.service().map(|_| ())
        };
        assert_eq!(read, Err(Error::TlvMalformed(kind)), "{value}");
    }
}

#[test]
fn a_connection_id_is_eight_bytes_or_none() {
    let short = Header::unspecified().with_tlv(Tlv::GCP, &[1, 2, 3]).expect("fits");
    assert_eq!(short.psc_connection_id(), None);
}

#[test]
fn nothing_longer_than_the_bound_is_written() {
    let large = Header::unspecified().with_tlv(0xea, &[0; HEADER_BYTES_MAX - 19]).expect("fits");
    assert_eq!(large.encode().map(|wire| wire.len()), Ok(HEADER_BYTES_MAX));
    let larger = Header::unspecified().with_tlv(0xea, &[0; HEADER_BYTES_MAX - 18]).expect("fits");
    assert_eq!(larger.encode(), Err(Error::TooLong));
    assert_eq!(large.with_tlv(0xea, &[0; 70_000]), Err(Error::TooLong));
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    let v4 = any::<(SocketAddrV4, SocketAddrV4)>()
        .prop_map(|(source, destination)| Addresses::V4 { source, destination });
    // Flow and scope have no place on the wire.
    let bare = |a: SocketAddrV6| SocketAddrV6::new(*a.ip(), a.port(), 0, 0);
    let v6 = any::<(SocketAddrV6, SocketAddrV6)>().prop_map(move |(source, destination)| {
        Addresses::V6 { source: bare(source), destination: bare(destination) }
    });
    let unix = (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| {
        let path = |bytes: [u8; 32]| {
            let mut path = Box::new([0; UNIX_PATH_BYTES]);
            path[..32].copy_from_slice(&bytes);
            path
        };
        Addresses::Unix { source: path(a), destination: path(b) }
    });
    prop_oneof![v4, v6, unix, Just(Addresses::Unspecified)]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        addresses in any_addresses(),
        datagram: bool,
        tlvs in prop::collection::vec((0x05..=0xdfu8, prop::collection::vec(any::<u8>(), 0..64)), 0..8),
        id in prop::option::of(any::<u64>()),
        payload in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let mut header = Header::unspecified();
        header.transport = match (&addresses, datagram) {
            (Addresses::Unspecified, _) => Transport::Unspecified,
            (_, true) => Transport::Datagram,
            (_, false) => Transport::Stream,
        };
        header.addresses = addresses;
        for (kind, value) in &tlvs {
            header = header.with_tlv(*kind, value)?;
        }
        if let Some(id) = id {
            header = header.with_psc_connection_id(id)?;
        }
        let mut wire = header.encode()?;
        let length = wire.len();
        wire.extend_from_slice(&payload);
        let (read, consumed) = Header::decode(&wire)?.expect("complete");
        prop_assert_eq!(consumed, length);
        prop_assert_eq!(read.psc_connection_id(), id);
        let kinds: Vec<u8> = read.tlvs().map(|tlv| tlv.kind).collect();
        prop_assert_eq!(kinds.len(), tlvs.len() + usize::from(id.is_some()));
        prop_assert_eq!(read, header);
    }

    /// Whatever strangers send: no panic, never more consumed than there is, and more bytes never
    /// turn an error into a header.
    #[test]
    fn any_bytes_are_safe(tail in prop::collection::vec(any::<u8>(), 0..200), known in 0usize..17) {
        let mut wire = bytes(OBSERVED)[..known].to_vec();
        wire.extend_from_slice(&tail);
        let whole = Header::decode(&wire);
        for end in 0..wire.len() {
            match Header::decode(&wire[..end]) {
                Ok(None) => {}
                early => prop_assert_eq!(&early, &whole),
            }
        }
        if let Ok(Some((_, consumed))) = whole {
            prop_assert!(consumed <= wire.len());
        }
    }
}

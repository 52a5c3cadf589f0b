use super::*;
use hickory_proto::rr::{RData, RecordType as HickoryType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

fn wire(record_type: RecordType, text: &str) -> Result<Vec<u8>, RdataError> {
    let mut out = Vec::new();
    encode(record_type, text, &mut out).map(|()| out)
}

fn present(record_type: RecordType, wire: &[u8]) -> String {
    let mut out = String::new();
    write_rdata(record_type, wire, &mut out).unwrap_or_default();
    out
}

#[test]
fn every_type_is_encoded_as_hickory_does_and_reads_back() {
    for (record_type, text) in [
        (RecordType::A, "10.0.0.5"),
        (RecordType::AAAA, "2001:db8::1"),
        (RecordType::CAA, r#"0 issue "ca.example.net; account=1""#),
        (RecordType::CAA, r#"128 iodef "mailto:security@example.com""#),
        (RecordType::CNAME, "orders.internal.example.com."),
        (
            RecordType::HTTPS,
            r#"1 . alpn="h2,h3" port="8443" ipv4hint="10.0.0.5,10.0.0.6" ipv6hint="2001:db8::1""#,
        ),
        (RecordType::HTTPS, "0 svc.example.com."),
        (
            RecordType::SVCB,
            r#"16 foo.example.org. mandatory="alpn,ipv4hint" alpn="h2" ipv4hint="192.0.2.1""#,
        ),
        (RecordType::SVCB, r#"1 foo.example.com. alpn="h2" no-default-alpn ech="AEX+DQ==""#),
        (RecordType::MX, "10 mail.example.com."),
        (RecordType::NAPTR, r#"100 50 "s" "http+N2L" "" www.example.com."#),
        (RecordType::NS, "ns-gcp-private.googledomains.com."),
        (RecordType::PTR, "vm.example.com."),
        (RecordType::SOA, "ns.example.com. admin.example.com. 1 21600 3600 259200 300"),
        (RecordType::SRV, "0 5 5060 sip.example.com."),
        (RecordType::SSHFP, "2 1 123456789ABCDEF67890123456789ABCDEF67890"),
        (
            RecordType::TLSA,
            "3 1 1 D2ABDE240D7CD3EE6B4B28C54DF034B97983A1D16E8A410E4561CB106618E971",
        ),
        (RecordType::TXT, r#""v=spf1 -all" "second""#),
        (RecordType::TXT, r#""""#),
    ] {
        let own = wire(record_type, text);
        let own = own.as_deref();
        let hickory = RData::try_from_str(HickoryType::from(record_type.0), text);
        let hickory = hickory.unwrap_or_else(|error| panic!("{text}: {error}"));
        let mut expected = Vec::new();
        emit(&hickory, &mut expected).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(own, Ok(&expected[..]), "{record_type} {text}");
        assert_eq!(present(record_type, &expected), text, "{record_type}");
    }
}

#[test]
fn forms_that_zone_files_use_are_taken() {
    let check = |record_type, text: &str, octets: &[u8]| {
        assert_eq!(wire(record_type, text).as_deref(), Ok(octets), "{record_type} {text}");
    };
    check(RecordType::TXT, "one two", b"\x03one\x03two");
    check(RecordType::TXT, r#""one""two""#, b"\x03one\x03two");
    check(RecordType::TXT, r#""a\"b\\\059\200""#, b"\x06a\"b\\;\xc8");
    check(RecordType::TXT, "\"é\"", b"\x02\xc3\xa9");
    check(RecordType::SPF, r#""v=spf1 -all""#, b"\x0bv=spf1 -all");
    check(RecordType::CNAME, ".", b"\0");
    check(RecordType::CNAME, r"A\.b.C.", b"\x03A.b\x01C\0");
    check(RecordType::MX, "  10\tmx. ", b"\x00\x0a\x02mx\0");
    check(
        RecordType::HTTPS,
        r#"1 . alpn="f\\,o,h2" key667=hello"#,
        b"\0\x01\0\0\x01\0\x07\x03f,o\x02h2\x02\x9b\0\x05hello",
    );
    check(
        RecordType::HTTPS,
        "1 . port=53 alpn=h2",
        b"\0\x01\0\0\x01\0\x03\x02h2\0\x03\0\x02\0\x35",
    );
}

#[test]
fn what_is_malformed_is_refused_with_its_field() {
    use RdataError::*;
    let text = |text: &str| text.to_owned();
    let check = |record_type, value: &str, error: RdataError| {
        assert_eq!(wire(record_type, value), Err(error), "{record_type} {value}");
    };
    check(RecordType::A, "10.0.0.300", Field("address", text("10.0.0.300"), "an IPv4 address"));
    check(RecordType::A, "010.0.0.1", Field("address", text("010.0.0.1"), "an IPv4 address"));
    check(RecordType::A, "", Missing("address"));
    check(RecordType::A, "10.0.0.1 10.0.0.2", Surplus(text("10.0.0.2")));
    check(RecordType::AAAA, "10.0.0.1", Field("address", text("10.0.0.1"), "an IPv6 address"));
    check(RecordType::CNAME, "orders", Name("target", text("orders"), NameError::Relative));
    check(RecordType::CNAME, r"a\.", Name("target", text(r"a\."), NameError::Relative));
    check(RecordType::CNAME, "a..b.", Name("target", text("a..b."), NameError::EmptyLabel));
    check(RecordType::MX, "mail.", Field("preference", text("mail."), "a number up to 65535"));
    check(RecordType::SRV, "0 0 65536 a.", Field("port", text("65536"), "a number up to 65535"));
    check(RecordType::TXT, "", Missing("text"));
    check(RecordType::TXT, r#""open"#, Unclosed);
    check(RecordType::TXT, r#""a\256""#, Escape);
    check(RecordType::TXT, r"a\", Escape);
    check(RecordType::TXT, &"a".repeat(256), StringLength(256));
    check(
        RecordType::CAA,
        r#"0 "" "x""#,
        Field("tag", text(r#""""#), "1 to 15 letters and digits"),
    );
    check(RecordType::SOA, "a. b. 1 2 3 4", Missing("minimum"));
    let parameter = |key: &str, why| Parameter(text(key), why);
    check(RecordType::HTTPS, "1 . alpn=", parameter("alpn", "needs a value"));
    check(RecordType::HTTPS, "1 . alpn=$x,", parameter("alpn", "has an empty item"));
    check(RecordType::HTTPS, "1 . alpn=h2 alpn=h3", parameter("alpn", "is given twice"));
    check(
        RecordType::HTTPS,
        "1 . nonsense=1",
        parameter("nonsense", "is not known; write it as keyNNNNN"),
    );
    check(
        RecordType::HTTPS,
        "1 . key007=1",
        parameter("key007", "is not known; write it as keyNNNNN"),
    );
    check(
        RecordType::HTTPS,
        "1 . mandatory=alpn",
        parameter("mandatory", "names a parameter that is not there"),
    );
    check(
        RecordType::HTTPS,
        "1 . no-default-alpn",
        parameter("no-default-alpn", "needs alpn beside it"),
    );
    check(RecordType::HTTPS, "1 . ipv4hint=1.2.3", parameter("ipv4hint", "is no IPv4 address"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_taken_or_refused_and_what_is_taken_reads_back(text in r#"[ -~é"\\,=0-9]{0,40}"#) {
        for record_type in [RecordType::TXT, RecordType::CAA, RecordType::NAPTR, RecordType::HTTPS, RecordType::CNAME] {
            if let Ok(octets) = wire(record_type, &text) {
                let printed = present(record_type, &octets);
                proptest::prop_assert_eq!(wire(record_type, &printed), Ok(octets), "{}", printed);
            }
        }
    }

    #[test]
    fn strings_of_any_octets_read_back(strings in proptest::collection::vec(proptest::collection::vec(0..=255_u8, 0..40), 1..4)) {
        let octets: Vec<u8> = strings.iter().flat_map(|s| std::iter::once(s.len() as u8).chain(s.iter().copied())).collect();
        let printed = present(RecordType::TXT, &octets);
        proptest::prop_assert_eq!(wire(RecordType::TXT, &printed), Ok(octets));
    }
}

/// hickory's wire form, without compression.
fn emit(data: &RData, out: &mut Vec<u8>) -> Result<(), hickory_proto::ProtoError> {
    let mut encoder = BinEncoder::new(out);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    data.emit(&mut encoder)
}

#[test]
fn keys_and_octets_are_read_and_written() {
    // The examples of RFC 4025, 3.2; hickory does not know the type.
    for text in [
        "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "10 0 2 . AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "10 3 2 mygateway.example.com. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "10 2 2 2001:db8:0:8002::2000:1 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
        "10 0 0 .",
    ] {
        let own = wire(RecordType::IPSECKEY, text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let read_back = present(RecordType::IPSECKEY, &own);
        assert_eq!(wire(RecordType::IPSECKEY, &read_back), Ok(own), "{text}");
    }
    let check = |record_type, text: &str, octets: &[u8]| {
        assert_eq!(wire(record_type, text).as_deref(), Ok(octets), "{record_type} {text}");
    };
    check(RecordType::A, r"\# 4 0A000005", &[10, 0, 0, 5]);
    check(RecordType::DS, "1 8 2 aB cD", &[0, 1, 8, 2, 0xAB, 0xCD]);
    assert_eq!(present(RecordType::DS, &[0, 1, 8, 2, 0xAB, 0xCD]), "1 8 2 ABCD");
    check(RecordType::MX, r"\# 5 000a 0161 00", &[0, 10, 1, b'a', 0]);
    for (record_type, bad) in [
        (RecordType::A, r"\# 3 0A0000"),
        (RecordType::A, r"\# 4 0A0000"),
        (RecordType::A, r"\# 4 0A00000"),
        (RecordType::A, r"\# 4 0A00000G"),
        (RecordType::A, r"\#"),
        (RecordType::DS, "1 8 2"),
        (RecordType::SSHFP, "1 256 AB"),
        (RecordType::IPSECKEY, "10 4 2 . AQ=="),
        (RecordType::IPSECKEY, "10 0 2 192.0.2.1 AQ=="),
        (RecordType::IPSECKEY, "10 1 2 192.0.2.1 A"),
    ] {
        assert!(wire(record_type, bad).is_err(), "{record_type} {bad}");
    }
}

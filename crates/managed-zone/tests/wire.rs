//! Messages on the wire: header, question, EDNS, truncation, refusals (RFC 1035, 2181, 6891).
#![allow(missing_docs)]

mod common;

use common::{network, private, slice};
use hickory_proto::op::Message;
use managed_zone::{
    Answered, FairWeather, Outcome, ResponseCode, Scratch, Snapshot, TCP_SIZE_MAX, Transport,
    UDP_SIZE_MAX,
};
use proptest::prelude::*;

const NOW: FairWeather<'static> = FairWeather { region: None };

fn snapshot() -> Snapshot {
    let many: Vec<String> = (0..40).map(|i| format!("10.0.1.{i}")).collect();
    let long: Vec<String> = (0..250).map(|i| format!("\"{i} {}\"", "x".repeat(100))).collect();
    let lines = format!(
        "www.example.com. 60 A 10.0.0.1 | 10.0.0.3 | 10.0.0.2\n\
         alias.example.com. 60 CNAME www.example.com.\n\
         many.example.com. 60 A {}\n\
         long.example.com. 60 TXT {}\n\
         any.example.com. 60 TXT {2}\nany.example.com. 60 SPF {2}\nany.example.com. 60 A 10.0.0.1",
        many.join(" | "),
        long.join(" | "),
        (0..250).map(|i| format!("\"{i} {}\"", "y".repeat(180))).collect::<Vec<_>>().join(" | "),
    );
    Snapshot::compile(&slice("p/n", vec![private("z", "example.com.", &["p/n"], &lines)]))
        .unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// A query with these flags, counts and octets behind the header.
fn message(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xAB, 0xCD];
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend(counts.into_iter().flat_map(u16::to_be_bytes));
    out.extend_from_slice(body);
    out
}

fn question(name: &str, record_type: u16, class: u16) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut out: Vec<u8> =
        labels.flat_map(|l| std::iter::once(l.len() as u8).chain(l.bytes())).collect();
    out.push(0);
    out.extend_from_slice(&record_type.to_be_bytes());
    out.extend_from_slice(&class.to_be_bytes());
    out
}

fn query(name: &str, record_type: u16) -> Vec<u8> {
    message(0x0100, [1, 0, 0, 0], &question(name, record_type, 1))
}

/// With an OPT record of this size, version and flags.
fn query_edns(name: &str, record_type: u16, size: u16, version: u8, flags: u16) -> Vec<u8> {
    let mut body = question(name, record_type, 1);
    body.extend_from_slice(&[0, 0, 41]);
    body.extend_from_slice(&size.to_be_bytes());
    body.extend_from_slice(&[0, version]);
    body.extend_from_slice(&flags.to_be_bytes());
    // A client cookie (RFC 7873): an option like any other, ignored.
    body.extend_from_slice(&[0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    message(0x0100, [1, 0, 0, 1], &body)
}

fn ask(query: &[u8], transport: Transport) -> Option<(Vec<u8>, ResponseCode)> {
    let snapshot = snapshot();
    let view = snapshot.view(&network("p/n"))?;
    let mut out = vec![0xEE; TCP_SIZE_MAX];
    let Answered { length, response_code, .. } =
        view.answer(query, transport, &NOW, &mut Scratch::new(), &mut out)?.finished()?;
    out.truncate(length);
    Some((out, response_code))
}

fn answered(query: &[u8]) -> (Vec<u8>, ResponseCode) {
    ask(query, Transport::Udp).unwrap_or_else(|| panic!("no answer to {query:02x?}"))
}

fn udp(query: &[u8]) -> Vec<u8> {
    answered(query).0
}

fn counts(answer: &[u8]) -> Vec<u16> {
    answer[4..12].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn id_and_the_case_of_the_question_come_back_and_records_keep_their_order() {
    let answer = udp(&query("wWw.ExAmPlE.cOm", 1));
    assert_eq!(answer[..2], [0xAB, 0xCD]);
    assert_eq!(answer[12..33], *b"\x03wWw\x07ExAmPlE\x03cOm\0\0\x01\0\x01");
    let last: Vec<u8> = answer[33..].chunks(16).map(|record| record[15]).collect();
    assert_eq!(last, [1, 3, 2]);
    assert!(answer[33..].chunks(16).all(|record| record[..2] == [0xC0, 12]));
    assert_eq!(counts(&answer), [1, 3, 0, 0]);
}

#[test]
fn an_answer_is_not_authoritative_but_recursion_is_available() {
    let flags = |query: &[u8]| u16::from_be_bytes([udp(query)[2], udp(query)[3]]);
    let body = question("www.example.com", 1, 1);
    assert_eq!(flags(&message(0x0100, [1, 0, 0, 0], &body)), 0x8180); // RD
    assert_eq!(flags(&message(0x0000, [1, 0, 0, 0], &body)), 0x8080);
    assert_eq!(flags(&message(0x0130, [1, 0, 0, 0], &body)), 0x8190); // AD and CD: CD comes back
    assert_eq!(flags(&message(0x0640, [1, 0, 0, 0], &body)), 0x8080); // AA, TC, Z: cleared
}

#[test]
fn names_in_answers_are_pointers_into_the_message() {
    let answer = udp(&query("alias.example.com", 1));
    let parsed = Message::from_vec(&answer).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<String> = parsed.answers.iter().map(|record| record.name.to_string()).collect();
    assert_eq!(
        names,
        ["alias.example.com.", "www.example.com.", "www.example.com.", "www.example.com."]
    );
    // Question 23, CNAME 12 + 17, three addresses of 16.
    assert_eq!(answer.len(), 12 + 23 + 29 + 48);
    let answer = udp(&query("no.example.com", 1));
    assert_eq!(answer[32..34], [0xC0, 15], "SOA owner: the zone's name within the question");
}

#[test]
fn udp_answers_are_512_octets_without_edns_and_at_most_1232_with() {
    let truncated = |query: &[u8]| {
        let answer = udp(query);
        let cut = answer[2] & 2 != 0;
        assert!(!cut || counts(&answer)[1..3] == [0, 0]);
        (cut, answer.len())
    };
    let size = 12 + 22 + 40 * 16;
    assert_eq!(truncated(&query("many.example.com", 1)), (true, 34));
    assert_eq!(truncated(&query_edns("many.example.com", 1, 600, 0, 0)), (true, 45));
    assert_eq!(truncated(&query_edns("many.example.com", 1, size + 10, 0, 0)), (true, 45));
    assert_eq!(
        truncated(&query_edns("many.example.com", 1, size + 11, 0, 0)),
        (false, usize::from(size) + 11)
    );
    assert_eq!(truncated(&query_edns("many.example.com", 1, 100, 0, 0)), (true, 45));
    assert_eq!(truncated(&query_edns("long.example.com", 16, 65535, 0, 0)), (true, 45));
    assert!(!truncated(&query_edns("www.example.com", 1, 0, 0, 0)).0);
}

#[test]
fn tcp_answers_are_whole_up_to_what_a_message_can_hold() {
    let tcp =
        |query: &[u8]| ask(query, Transport::Tcp).map(|(answer, _)| answer).unwrap_or_default();
    let answer = tcp(&query("long.example.com", 16));
    assert_eq!(counts(&answer), [1, 250, 0, 0]);
    assert!(Message::from_vec(&answer).is_ok());
    let all = tcp(&query("any.example.com", 255));
    assert_eq!((all[2] & 2, counts(&all)), (2, vec![1, 0, 0, 0]), "more than 65535 octets");
}

#[test]
fn edns_is_answered_by_edns_and_only_then() {
    let answer = udp(&query_edns("www.example.com", 1, 4096, 0, 0x8000));
    let opt = &answer[answer.len() - 11..];
    assert_eq!(opt, [0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0, 0, 0], "size 1232, version 0, DO clear");
    assert_eq!(counts(&answer)[3], 1);
    let (answer, code) = answered(&query_edns("www.example.com", 1, 4096, 1, 0));
    assert_eq!(code, ResponseCode::BadVers);
    assert_eq!((answer[3] & 15, counts(&answer)), (0, vec![1, 0, 0, 1]));
    assert_eq!(answer[answer.len() - 6], 1, "extended response code 16");
}

#[test]
fn what_is_no_question_is_refused_with_its_code() {
    let www = question("www.example.com", 1, 1);
    let of_type = |record_type| question("www.example.com", record_type, 1);
    let opt = [0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0];
    let cases: Vec<(&str, Vec<u8>, ResponseCode)> = vec![
        ("opcode STATUS", message(0x1000, [1, 0, 0, 0], &www), ResponseCode::NotImp),
        ("opcode UPDATE", message(0x2800, [1, 0, 0, 0], &www), ResponseCode::NotImp),
        ("no question", message(0, [0, 0, 0, 0], &[]), ResponseCode::FormErr),
        (
            "two questions",
            message(0, [2, 0, 0, 0], &[&www[..], &www].concat()),
            ResponseCode::FormErr,
        ),
        ("name cut short", message(0, [1, 0, 0, 0], &www[..5]), ResponseCode::FormErr),
        ("type cut short", message(0, [1, 0, 0, 0], &www[..www.len() - 3]), ResponseCode::FormErr),
        (
            "pointer in the question",
            message(0, [1, 0, 0, 0], &[0xC0, 12, 0, 1, 0, 1]),
            ResponseCode::FormErr,
        ),
        (
            "octets behind the question",
            message(0, [1, 0, 0, 0], &[&www[..], &[0]].concat()),
            ResponseCode::FormErr,
        ),
        ("record announced but missing", message(0, [1, 0, 0, 1], &www), ResponseCode::FormErr),
        (
            "two OPT records",
            message(0, [1, 0, 0, 2], &[&www[..], &opt, &opt].concat()),
            ResponseCode::FormErr,
        ),
        (
            "OPT in the answer section",
            message(0, [1, 1, 0, 0], &[&www[..], &opt].concat()),
            ResponseCode::FormErr,
        ),
        (
            "OPT with an owner",
            message(0, [1, 0, 0, 1], &[&www[..], &[1, b'a'], &opt].concat()),
            ResponseCode::FormErr,
        ),
        (
            "OPT longer than the message",
            message(0, [1, 0, 0, 1], &[&www[..], &opt[..9], &[0, 9]].concat()),
            ResponseCode::FormErr,
        ),
        ("type OPT", message(0, [1, 0, 0, 0], &of_type(41)), ResponseCode::FormErr),
        ("type AXFR", message(0, [1, 0, 0, 0], &of_type(252)), ResponseCode::Refused),
        (
            "type IXFR with its SOA",
            message(
                0,
                [1, 0, 1, 0],
                &[&of_type(251)[..], &[0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 0]].concat(),
            ),
            ResponseCode::Refused,
        ),
        ("type MAILA", message(0, [1, 0, 0, 0], &of_type(254)), ResponseCode::NotImp),
        (
            "class CH",
            message(0, [1, 0, 0, 0], &question("version.bind", 16, 3)),
            ResponseCode::Refused,
        ),
        (
            "class ANY",
            message(0, [1, 0, 0, 0], &question("www.example.com", 1, 255)),
            ResponseCode::Refused,
        ),
    ];
    for (what, query, expected) in cases {
        let (answer, code) = answered(&query);
        assert_eq!(code, expected, "{what}");
        assert_eq!(answer[..2], [0xAB, 0xCD], "{what}");
        assert_eq!((answer[2] & 0x80, answer[3] & 15), (0x80, code.number() & 15), "{what}");
        assert_eq!(counts(&answer)[1..3], [0, 0], "{what}");
        assert!(Message::from_vec(&answer).is_ok(), "{what}");
    }
}

#[test]
fn an_answer_or_a_fragment_of_a_header_is_met_with_silence() {
    let www = question("www.example.com", 1, 1);
    assert_eq!(ask(&message(0x8180, [1, 0, 0, 0], &www), Transport::Udp), None);
    assert_eq!(ask(&message(0xA800, [1, 0, 0, 0], &www), Transport::Udp), None);
    assert_eq!(ask(b"", Transport::Udp), None);
    assert_eq!(ask(&query("www.example.com", 1)[..11], Transport::Tcp), None);
}

#[test]
fn nothing_is_written_beyond_the_room_given() {
    let snapshot = snapshot();
    let view = snapshot.view(&network("p/n")).unwrap_or_else(|| panic!("no view"));
    let query = query_edns("many.example.com", 1, 1232, 0, 0);
    for room in 0..UDP_SIZE_MAX {
        let mut out = vec![0; room];
        let outcome = view.answer(&query, Transport::Udp, &NOW, &mut Scratch::new(), &mut out);
        if let Some(answered) = outcome.and_then(Outcome::finished) {
            assert!(answered.length <= room);
            assert!(Message::from_vec(&out[..answered.length]).is_ok(), "{room}");
        } else {
            assert!(room < 45, "{room}");
        }
    }
}

proptest! {
    #[test]
    fn any_octets_are_answered_or_dropped_and_answers_are_well_formed(
        octets in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(flags, tail)| {
                message(flags & 0x7FFF, [1, 0, 0, 0], &tail)
            }),
            (0..40_usize, any::<u8>(), any::<u8>()).prop_map(|(at, octet, more)| {
                let mut query = query_edns("alias.example.com", 1, 1232, 0, 0);
                let at = at % query.len();
                query[at] = octet;
                query.truncate(query.len() - usize::from(more) % 30);
                query
            }),
        ],
        tcp in any::<bool>(),
    ) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        if let Some((answer, code)) = ask(&octets, transport) {
            prop_assert_eq!(&answer[..2], &octets[..2]);
            prop_assert!(answer[2] & 0x80 != 0 && answer[3] & 15 == code.number() & 15);
            prop_assert!(tcp || answer.len() <= UDP_SIZE_MAX);
            let parsed = Message::from_vec(&answer);
            prop_assert!(parsed.is_ok(), "{:?}: {:02x?}", parsed, answer);
        }
    }
}

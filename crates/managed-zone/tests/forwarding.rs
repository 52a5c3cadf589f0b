//! What happens with what other name servers say (private-connectivity 4.1): answers are final,
//! silence is SERVFAIL, CNAME records go on through the full order. The name servers' messages are
//! hickory's.
#![allow(missing_docs)]

mod common;

use common::{forwarding, network, outbound, peering, private, slice};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use managed_zone::{
    FairWeather, Forward, Outcome, Scratch, Snapshot, TCP_SIZE_MAX, Transport, Upstream,
};
use names::Reason;
use slice::dns::PrivateDnsSlice;

const NOW: FairWeather<'static> = FairWeather { region: None };

fn compile(slice: &PrivateDnsSlice) -> Snapshot {
    Snapshot::compile(slice).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// A query of 0x20 letters, as its client writes it.
fn query(text: &str, record_type: u16) -> Vec<u8> {
    let mut out = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&record_type.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    out
}

/// What a name server says: response code, answers and authorities as `NAME TTL TYPE DATA`.
fn response(forward: &Forward, code: ResponseCode, answers: &[&str], soa: &[&str]) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Response, OpCode::Query);
    message.metadata.response_code = code;
    let record_type = RecordType::from(forward.record_type.0);
    message.add_query(Query::query(name(&forward.name.to_string()), record_type));
    let record = |text: &&str| {
        let mut fields = text.splitn(4, ' ');
        let mut next = || fields.next().unwrap_or_else(|| panic!("too short: {text}"));
        let (owner, ttl) = (name(next()), next().parse().unwrap_or_else(|_| panic!("{text}")));
        let of_type = next().parse().unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let data = RData::try_from_str(of_type, next()).unwrap_or_else(|e| panic!("{text}: {e}"));
        Record::from_rdata(owner, ttl, data)
    };
    for text in answers {
        message.add_answer(record(text));
    }
    for text in soa {
        message.add_authority(record(text));
    }
    message.to_vec().unwrap_or_else(|error| panic!("{error}"))
}

/// Asks, and answers for the name servers until there is an end: the questions that they got, then
/// what the client gets.
fn exchange(
    snapshot: &Snapshot,
    from: &str,
    question: (&str, u16),
    mut upstream: impl FnMut(&Forward) -> Option<Vec<u8>>,
) -> (Vec<String>, String, Option<Reason>) {
    let view = snapshot.view(&network(from)).unwrap_or_else(|| panic!("no network {from}"));
    let (mut scratch, mut out) = (Scratch::new(), vec![0; TCP_SIZE_MAX]);
    let message = query(question.0, question.1);
    let mut outcome = view.answer(&message, Transport::Tcp, &NOW, &mut scratch, &mut out);
    let mut asked = Vec::new();
    let answered = loop {
        match outcome.unwrap_or_else(|| panic!("no outcome for {question:?}")) {
            Outcome::Finished(answered) => break answered,
            Outcome::Forward(forward) => {
                let servers: Vec<_> =
                    forward.servers.iter().map(|server| server.address.to_string()).collect();
                let (name, record_type) = (&forward.name, forward.record_type);
                let servers = servers.join(" ");
                asked.push(format!("{servers} from {}: {name} {record_type}", forward.network));
                let message = upstream(&forward);
                let upstream = message.as_deref().map_or(Upstream::Silent, Upstream::Message);
                outcome = snapshot.resume(*forward, upstream, &NOW, &mut scratch, &mut out);
            }
        }
    };
    let message = Message::from_vec(&out[..answered.length]).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(message.metadata.id, 0x1234);
    assert!(message.metadata.recursion_available && !message.metadata.authoritative);
    assert_eq!(message.queries[0].name().to_ascii(), format!("{}.", question.0));
    let mut text = format!("{:?}", message.metadata.response_code);
    for record in &message.answers {
        text +=
            &format!("; {} {} {} {}", record.name, record.ttl, record.record_type(), record.data);
    }
    for record in &message.authorities {
        text += &format!("; authority {} {} {}", record.name, record.ttl, record.record_type());
    }
    (asked, text, answered.reason)
}

fn zones() -> Snapshot {
    compile(&slice(
        "p/a",
        vec![
            private(
                "z",
                "x.",
                &["p/a"],
                "to.x. 60 CNAME www.corp.\nhost.x. 60 A 10.0.0.1\nback.x. 30 CNAME to.x.",
            ),
            forwarding("corp", "corp.", &["p/a"], &["10.0.0.53", "10.0.0.54"]),
            forwarding("other", "other.", &["p/a"], &["10.0.1.53"]),
            peering("peer", "p.", &["p/a"], "p/b"),
            forwarding("p", "p.", &["p/b"], &["10.2.0.53"]),
            private("of-b", "x.", &["p/b"], "host.x. 60 A 10.2.0.1"),
        ],
    ))
}

const CORP: &str = "10.0.0.53 10.0.0.54 from p/a";

#[test]
fn an_answer_is_final_and_keeps_the_clients_letters() {
    let snapshot = zones();
    let (asked, text, reason) = exchange(&snapshot, "p/a", ("wWw.CoRp", 1), |forward| {
        let answers = ["www.corp. 7 A 10.5.0.1", "www.corp. 7 A 10.5.0.2", "evil.x. 7 A 6.6.6.6"];
        Some(response(forward, ResponseCode::NoError, &answers, &[]))
    });
    assert_eq!(asked, [format!("{CORP}: www.corp. A")]);
    assert_eq!(text, "NoError; wWw.CoRp. 7 A 10.5.0.1; wWw.CoRp. 7 A 10.5.0.2");
    assert_eq!(reason, None);
}

#[test]
fn what_is_not_there_stays_so_with_the_name_servers_soa() {
    let snapshot = zones();
    let soa = ["corp. 300 SOA ns.corp. h.corp. 1 2 3 4 60"];
    for (code, text) in [
        (ResponseCode::NXDomain, "NXDomain; authority corp. 300 SOA"),
        (ResponseCode::NoError, "NoError; authority corp. 300 SOA"),
    ] {
        let upstream = |forward: &Forward| Some(response(forward, code, &[], &soa));
        let (_, found, reason) = exchange(&snapshot, "p/a", ("no.corp", 1), upstream);
        assert_eq!((found.as_str(), reason), (text, Some(Reason::DnsUpstreamNegative)));
    }
    let upstream = |forward: &Forward| Some(response(forward, ResponseCode::Refused, &[], &[]));
    assert_eq!(exchange(&snapshot, "p/a", ("no.corp", 1), upstream).1, "Refused");
}

#[test]
fn silence_and_nonsense_are_servfail() {
    let snapshot = zones();
    let silent = exchange(&snapshot, "p/a", ("www.corp", 1), |_| None);
    assert_eq!((silent.1.as_str(), silent.2), ("ServFail", Some(Reason::DnsUpstreamSilent)));
    let nonsense = exchange(&snapshot, "p/a", ("to.x", 1), |_| Some(vec![0; 12]));
    assert_eq!((nonsense.1.as_str(), nonsense.2), ("ServFail", Some(Reason::DnsUpstreamMalformed)));
    // An answer to another question is none.
    let other = exchange(&snapshot, "p/a", ("www.corp", 1), |forward| {
        let mut message = response(forward, ResponseCode::NoError, &[], &[]);
        message[13] = b'q';
        Some(message)
    });
    assert_eq!(other.2, Some(Reason::DnsUpstreamMalformed));
}

#[test]
fn a_cname_leads_into_a_forwarding_zone_and_out_of_it() {
    let snapshot = zones();
    let (asked, text, reason) = exchange(&snapshot, "p/a", ("back.x", 1), |forward| {
        let answer = match forward.name.to_string().as_str() {
            "www.corp." => "www.corp. 7 CNAME far.other.",
            "far.other." => "far.other. 8 CNAME host.x.",
            other => panic!("{other}"),
        };
        Some(response(forward, ResponseCode::NoError, &[answer], &[]))
    });
    let other = "10.0.1.53 from p/a: far.other. A".to_owned();
    assert_eq!(asked, [format!("{CORP}: www.corp. A"), other]);
    assert_eq!(
        text,
        "NoError; back.x. 30 CNAME to.x.; to.x. 60 CNAME www.corp.; www.corp. 7 CNAME far.other.; \
         far.other. 8 CNAME host.x.; host.x. 60 A 10.0.0.1"
    );
    assert_eq!(reason, None);
    // What the name server resolved itself is taken as it is.
    let (asked, text, _) = exchange(&snapshot, "p/a", ("www.corp", 1), |forward| {
        let answers = ["www.corp. 7 CNAME host.x.", "host.x. 9 A 10.6.6.6"];
        Some(response(forward, ResponseCode::NoError, &answers, &[]))
    });
    assert_eq!(asked.len(), 1);
    assert_eq!(text, "NoError; www.corp. 7 CNAME host.x.; host.x. 9 A 10.6.6.6");
    // So is what it says is not there at the end of the chain.
    let (_, text, reason) = exchange(&snapshot, "p/a", ("www.corp", 1), |forward| {
        let answers = ["www.corp. 7 CNAME host.x."];
        Some(response(forward, ResponseCode::NXDomain, &answers, &[]))
    });
    assert_eq!(text, "NXDomain; www.corp. 7 CNAME host.x.");
    assert_eq!(reason, Some(Reason::DnsUpstreamNegative));
    // A chain that ends within the zones ends with their SOA record.
    let (_, text, reason) = exchange(&snapshot, "p/a", ("www.corp", 28), |forward| {
        Some(response(forward, ResponseCode::NoError, &["www.corp. 7 CNAME host.x."], &[]))
    });
    assert_eq!(text, "NoError; www.corp. 7 CNAME host.x.; authority x. 300 SOA");
    assert_eq!(reason, Some(Reason::DnsNodata));
}

#[test]
fn a_cname_from_behind_a_peering_zone_goes_on_as_the_target_network() {
    let snapshot = zones();
    let (asked, text, _) = exchange(&snapshot, "p/a", ("www.p", 1), |forward| {
        Some(response(forward, ResponseCode::NoError, &["www.p. 7 CNAME host.x."], &[]))
    });
    assert_eq!(asked, ["10.2.0.53 from p/b: www.p. A"]);
    assert_eq!(text, "NoError; www.p. 7 CNAME host.x.; host.x. 60 A 10.2.0.1");
}

#[test]
fn a_circle_through_name_servers_ends_after_sixteen_cname_records() {
    let snapshot = zones();
    let (asked, text, reason) = exchange(&snapshot, "p/a", ("a.corp", 1), |forward| {
        let answer = match forward.name.to_string().as_str() {
            "a.corp." => "a.corp. 7 CNAME b.other.",
            _ => "b.other. 7 CNAME a.corp.",
        };
        Some(response(forward, ResponseCode::NoError, &[answer], &[]))
    });
    assert_eq!((text.as_str(), reason), ("ServFail", Some(Reason::DnsCnameChain)));
    assert_eq!(asked.len(), 17);
    // A circle within one message is no answer.
    let (_, text, reason) = exchange(&snapshot, "p/a", ("a.corp", 1), |forward| {
        let answers = ["a.corp. 7 CNAME b.corp.", "b.corp. 7 CNAME a.corp."];
        Some(response(forward, ResponseCode::NoError, &answers, &[]))
    });
    assert_eq!((text.as_str(), reason), ("ServFail", Some(Reason::DnsUpstreamMalformed)));
}

#[test]
fn an_alternative_name_servers_answer_is_final_whatever_it_is() {
    let mut slice = slice("p/a", vec![private("z", "x.", &["p/a"], "host.x. 60 A 10.0.0.1")]);
    slice.policies = vec![outbound("out", &["p/a"], &["10.0.0.53"])];
    let snapshot = compile(&slice);
    let (asked, text, reason) = exchange(&snapshot, "p/a", ("a.corp", 1), |forward| {
        Some(response(forward, ResponseCode::NoError, &["a.corp. 7 CNAME host.x."], &[]))
    });
    assert_eq!(asked, ["10.0.0.53 from p/a: a.corp. A"]);
    assert_eq!(text, "NoError; a.corp. 7 CNAME host.x.");
    assert_eq!(reason, Some(Reason::DnsUpstreamNegative));
    let (_, text, _) = exchange(&snapshot, "p/a", ("host.x", 1), |_| None);
    assert_eq!(text, "ServFail");
}

#[test]
fn every_record_type_passes_with_its_names_written_out() {
    let snapshot = zones();
    for (number, data) in [
        (2, "NS ns.corp."),
        (12, "PTR vm.corp."),
        (15, "MX 10 mail.corp."),
        (16, "TXT \"v=spf1 -all\""),
        (28, "AAAA 2001:db8::1"),
        (33, "SRV 0 5 5060 sip.corp."),
        (65, "HTTPS 1 . alpn=h2"),
        (6, "SOA ns.corp. h.corp. 1 2 3 4 5"),
    ] {
        let answer = format!("a.corp. 7 {data}");
        let (_, text, _) = exchange(&snapshot, "p/a", ("a.corp", number), |forward| {
            Some(response(forward, ResponseCode::NoError, &[&answer], &[]))
        });
        let plain = |text: &str| text.replace(['"', ','], "").to_lowercase();
        assert_eq!(plain(&text).trim(), plain(&format!("NoError; {answer}")).trim(), "{data}");
    }
}

#[test]
fn a_resumed_answer_keeps_the_limits_of_its_transport() {
    let snapshot = zones();
    let view = snapshot.own_view();
    let (mut scratch, mut out) = (Scratch::new(), vec![0; TCP_SIZE_MAX]);
    let many: Vec<String> = (0..60).map(|n| format!("www.corp. 7 A 10.5.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (transport, truncated) in [(Transport::Udp, true), (Transport::Tcp, false)] {
        let message = query("www.corp", 1);
        let outcome = view.answer(&message, transport, &NOW, &mut scratch, &mut out);
        let Some(Outcome::Forward(forward)) = outcome else { panic!("it is forwarded") };
        let response = response(&forward, ResponseCode::NoError, &many, &[]);
        let upstream = Upstream::Message(&response);
        let outcome = snapshot.resume(*forward, upstream, &NOW, &mut scratch, &mut out);
        let answered = outcome.and_then(Outcome::finished).expect("it is finished");
        assert_eq!(answered.truncated, truncated);
        assert_eq!(answered.target_type, Some("forwarding-zone"));
        assert_eq!(answered.zone.map(|zone| zone.name()), Some("corp"));
        let message = Message::from_vec(&out[..answered.length]).expect("well-formed");
        assert_eq!(message.answers.len(), if truncated { 0 } else { 60 });
    }
}

#[test]
fn a_reload_between_question_and_answer_goes_on_in_the_new_snapshot() {
    let (before, after) = (zones(), compile(&slice("q/other", Vec::new())));
    let (mut scratch, mut out) = (Scratch::new(), vec![0; TCP_SIZE_MAX]);
    let message = query("www.corp", 1);
    let outcome = before.own_view().answer(&message, Transport::Udp, &NOW, &mut scratch, &mut out);
    let Some(Outcome::Forward(forward)) = outcome else { panic!("it is forwarded") };
    let cname = response(&forward, ResponseCode::NoError, &["www.corp. 7 CNAME host.x."], &[]);
    let upstream = Upstream::Message(&cname);
    let outcome = after.resume(*forward, upstream, &NOW, &mut scratch, &mut out);
    let answered = outcome.and_then(Outcome::finished).expect("it is finished");
    // The network is gone with its zones.
    assert_eq!(answered.response_code, managed_zone::ResponseCode::ServFail);
}

//! Questions that name servers answer: real unbound, and servers that misbehave by script.
#![allow(missing_docs)]

mod common;

use common::foreign::Server;
use common::{
    Folder, Scripted, a, ask, encoded, forwarding, name_server, placed, query, receive, records,
    response, send, slice_of, start, told, zone,
};
use hickory_net::proto::op::{Message, ResponseCode};
use hickory_net::proto::rr::rdata::CNAME;
use hickory_net::proto::rr::{Name, RData, RecordType};
use names::SelfLink;
use slice::dns::{ServerPolicy, ZoneKind};
use std::collections::HashSet;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// A zone `corp.` whose questions go to these name servers, and one of our own.
fn corp(servers: &[&str]) -> slice::dns::PrivateDnsSlice {
    let own = records("www.own. 60 A 10.0.0.5\nalias.own. 60 CNAME there.corp.");
    slice_of(
        "p/n",
        vec![
            zone("own", "own.", &["p/n"], own),
            zone("corp", "corp.", &["p/n"], forwarding(servers)),
        ],
    )
}

/// A name server that has an address for every name.
fn one_address(address: &'static str) -> Scripted {
    Scripted::start(move |seen| {
        let name = seen.query.queries[0].name().to_ascii();
        vec![encoded(&response(&seen.query, ResponseCode::NoError, &[(&name, a(address))]))]
    })
}

#[test]
fn what_a_name_server_says_is_the_answer() {
    let upstream = one_address("10.1.1.1");
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", upstream.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    let udp = started.address("udp").expect("open");
    let (mut ports, mut ids, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
    for _ in 0..20 {
        let answer = ask(udp, "wWw.Corp.", RecordType::A);
        assert_eq!(told(&answer), ["wWw.Corp. 60 IN A 10.1.1.1"], "the client's own spelling");
        assert!(answer.recursion_available && !answer.authoritative);
    }
    // Nothing that can be guessed: port, id and case of each query are drawn.
    for seen in upstream.seen() {
        ports.insert(seen.from.port());
        ids.insert(seen.query.id);
        names.insert(seen.query.queries[0].name().to_ascii());
        assert!(seen.query.recursion_desired && !seen.tcp);
        assert_eq!(seen.query.edns.as_ref().map(|edns| edns.max_payload()), Some(1232));
    }
    assert!(ports.len() > 10 && ids.len() > 10 && names.len() > 10, "{ports:?} {ids:?} {names:?}");
    // Local names are answered beside it, and a local alias leads there.
    assert_eq!(told(&ask(udp, "www.own.", RecordType::A)), ["www.own. 60 IN A 10.0.0.5"]);
    assert_eq!(
        told(&ask(udp, "alias.own.", RecordType::A)),
        ["alias.own. 60 IN CNAME there.corp.", "there.corp. 60 IN A 10.1.1.1"]
    );
}

#[test]
fn an_answer_cut_short_is_fetched_over_tcp() {
    let upstream = Scripted::start(|seen| {
        let name = seen.query.queries[0].name().to_ascii();
        let many: Vec<(&str, RData)> =
            (0..100).map(|last| (&*name, a(&format!("10.1.1.{last}")))).collect();
        let mut message = response(&seen.query, ResponseCode::NoError, &many);
        if !seen.tcp {
            message.answers.clear();
            message.metadata.truncation = true;
        }
        vec![encoded(&message)]
    });
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", upstream.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    // Too long for a datagram to the client too.
    let short = ask(started.address("udp").expect("open"), "many.corp.", RecordType::A);
    assert!(short.truncation && short.answers.is_empty());
    let mut stream = TcpStream::connect(started.address("tcp").expect("open")).expect("connected");
    send(&mut stream, &query(9, "many.corp.", RecordType::A));
    let whole = receive(&mut stream);
    assert_eq!((whole.id, whole.answers.len(), whole.truncation), (9, 100, false));
    let kinds: Vec<bool> = upstream.seen().iter().map(|seen| seen.tcp).collect();
    assert_eq!(kinds, [false, true, false, true]);
}

#[test]
fn forged_answers_are_not_taken() {
    let upstream = Scripted::start(|seen| {
        let name = seen.query.queries[0].name().to_ascii();
        let right = response(&seen.query, ResponseCode::NoError, &[(&name, a("10.1.1.1"))]);
        let mut other_id = response(&seen.query, ResponseCode::NoError, &[(&name, a("6.6.6.6"))]);
        other_id.metadata.id = right.id.wrapping_add(1);
        let mut other_name = other_id.clone();
        other_name.metadata.id = right.id;
        other_name.queries[0].name = Name::from_ascii("evil.corp.").expect("a name");
        vec![b"x".to_vec(), encoded(&other_id), encoded(&other_name), encoded(&right)]
    });
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", upstream.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    let answer = ask(started.address("udp").expect("open"), "www.corp.", RecordType::A);
    assert_eq!(told(&answer), ["www.corp. 60 IN A 10.1.1.1"]);
}

#[test]
fn a_server_that_changes_the_case_of_names_is_asked_over_tcp() {
    let upstream = Scripted::start(|seen| {
        let mut message = response(&seen.query, ResponseCode::NoError, &[]);
        let name = seen.query.queries[0].name().to_lowercase();
        message.add_answer(hickory_net::proto::rr::Record::from_rdata(
            name.clone(),
            60,
            a("10.1.1.1"),
        ));
        message.queries[0].name = name;
        vec![encoded(&message)]
    });
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", upstream.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    let answer =
        ask(started.address("udp").expect("open"), "a-long-enough-name.corp.", RecordType::A);
    assert_eq!(told(&answer), ["a-long-enough-name.corp. 60 IN A 10.1.1.1"]);
    assert!(upstream.seen().iter().any(|seen| seen.tcp));
}

#[test]
fn the_next_name_server_is_asked_when_one_is_silent_and_the_silent_one_comes_last_then() {
    let silent = Scripted::start(|_| Vec::new());
    let speaking = one_address("10.1.1.2");
    let folder = Folder::new();
    let placements = vec![
        placed("p/n", "10.0.0.53", silent.address),
        placed("p/n", "10.0.0.54", speaking.address),
    ];
    let started = start(corp(&["10.0.0.53", "10.0.0.54"]), &folder, placements);
    let udp = started.address("udp").expect("open");
    let mut first = None;
    for number in 0..5 {
        let name = format!("n{number}.corp.");
        assert_eq!(told(&ask(udp, &name, RecordType::A)), [format!("{name} 60 IN A 10.1.1.2")]);
        first.get_or_insert(silent.seen().len());
    }
    assert!(first > Some(0));
    assert_eq!(first, Some(silent.seen().len()), "no more while it counts as silent");
    // Nobody at all behind the address: known at once.
    let closed = UdpSocket::bind("127.0.0.1:0").expect("bound").local_addr().expect("bound");
    let placements =
        vec![placed("p/n", "10.0.0.53", closed), placed("p/n", "10.0.0.54", speaking.address)];
    let started = start(corp(&["10.0.0.53", "10.0.0.54"]), &folder, placements);
    let answer = ask(started.address("udp").expect("open"), "www.corp.", RecordType::A);
    assert_eq!(told(&answer), ["www.corp. 60 IN A 10.1.1.2"]);
}

#[test]
fn silence_of_all_is_servfail_before_a_client_gives_up() {
    let silent = Scripted::start(|_| Vec::new());
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", silent.address)];
    // The second one is on the internet, where nobody goes; it is placed here all the same.
    let internet = one_address("10.6.6.6");
    let mut placements = placements;
    placements.push(placed("p/n", "203.0.113.1", internet.address));
    let started = start(corp(&["10.0.0.53", "203.0.113.1"]), &folder, placements);
    let answer = ask(started.address("udp").expect("open"), "www.corp.", RecordType::A);
    assert_eq!(answer.response_code, ResponseCode::ServFail);
    assert!(answer.answers.is_empty());
    assert!(internet.seen().is_empty(), "there is no internet");
    assert!(!silent.seen().is_empty());
}

#[test]
fn every_answer_is_final_also_a_negative_one() {
    let upstream = Scripted::start(|seen| {
        let name = seen.query.queries[0].name().to_ascii().to_lowercase();
        let code = match &*name {
            "no.corp." => ResponseCode::NXDomain,
            "refused.corp." => ResponseCode::Refused,
            "failed.corp." => ResponseCode::ServFail,
            _ => ResponseCode::NoError,
        };
        vec![encoded(&response(&seen.query, code, &[]))]
    });
    let second = one_address("10.6.6.6");
    let folder = Folder::new();
    let placements = vec![
        placed("p/n", "10.0.0.53", upstream.address),
        placed("p/n", "10.0.0.54", second.address),
    ];
    let mut slice = corp(&[]);
    slice.zones.clear();
    // By policy: all names, before all zones.
    slice.policies.push(ServerPolicy {
        self_link: SelfLink::new("projects/p/policies/out"),
        networks: vec![slice.network.clone()],
        alternative_name_servers: vec![name_server("10.0.0.53"), name_server("10.0.0.54")],
        inbound: Vec::new(),
        enable_logging: None,
    });
    let started = start(slice, &folder, placements);
    let udp = started.address("udp").expect("open");
    for (name, code) in [
        ("no.corp.", ResponseCode::NXDomain),
        ("refused.corp.", ResponseCode::Refused),
        ("failed.corp.", ResponseCode::ServFail),
        ("empty.corp.", ResponseCode::NoError),
        ("metadata.google.internal.", ResponseCode::NoError),
    ] {
        let answer = ask(udp, name, RecordType::A);
        assert_eq!((answer.response_code, answer.answers.len()), (code, 0), "{name}");
    }
    assert!(second.seen().is_empty());
}

#[test]
fn questions_of_many_clients_are_asked_once_and_overtaken_by_local_ones() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let upstream = Scripted::start(move |seen| {
        held.lock().expect("unpoisoned").recv().expect("released");
        let name = seen.query.queries[0].name().to_ascii();
        vec![encoded(&response(&seen.query, ResponseCode::NoError, &[(&name, a("10.1.1.1"))]))]
    });
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", upstream.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    let mut stream = TcpStream::connect(started.address("tcp").expect("open")).expect("connected");
    for id in 0..50 {
        send(&mut stream, &query(id, "www.corp.", RecordType::A));
    }
    send(&mut stream, &query(1000, "www.own.", RecordType::A));
    // Answered at once: by now all fifty wait.
    assert_eq!(receive(&mut stream).id, 1000);
    release.send(()).expect("the name server waits");
    let ids: HashSet<u16> = (0..50).map(|_| receive(&mut stream).id).collect();
    assert_eq!(ids, (0..50).collect());
    assert_eq!(upstream.seen().len(), 1);
    drop(release);
}

#[test]
fn a_cname_of_a_name_server_goes_on_through_the_full_order() {
    let upstream = Scripted::start(|seen| {
        let name = seen.query.queries[0].name().to_ascii();
        let target = Name::from_ascii("www.own.").expect("a name");
        let cname = RData::CNAME(CNAME(target));
        vec![encoded(&response(&seen.query, ResponseCode::NoError, &[(&name, cname)]))]
    });
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", upstream.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    let answer = ask(started.address("udp").expect("open"), "x.corp.", RecordType::A);
    let told: Vec<String> = told(&answer).iter().map(|line| line.to_lowercase()).collect();
    assert_eq!(told, ["x.corp. 60 in cname www.own.", "www.own. 60 in a 10.0.0.5"]);
}

#[test]
fn name_servers_of_another_network_are_asked_by_its_own_resolver() {
    let upstream = one_address("10.1.1.1");
    let folder = Folder::new();
    let zones = vec![
        zone("to-hub", "corp.", &["p/spoke"], ZoneKind::Peering("p/hub".parse().expect("one"))),
        zone("corp", "corp.", &["p/hub"], forwarding(&["10.0.0.53"])),
    ];
    // Only the hub has the address.
    let hub = start(
        slice_of("p/hub", zones.clone()),
        &folder,
        vec![placed("p/hub", "10.0.0.53", upstream.address)],
    );
    let spoke = start(slice_of("p/spoke", zones), &folder, Vec::new());
    let udp = spoke.address("udp").expect("open");
    assert_eq!(told(&ask(udp, "www.corp.", RecordType::A)), ["www.corp. 60 IN A 10.1.1.1"]);
    assert_eq!(upstream.seen().len(), 1);
    // Without it there is silence.
    drop(hub);
    let answer = ask(udp, "www.corp.", RecordType::A);
    assert_eq!(answer.response_code, ResponseCode::ServFail);
}

#[test]
fn unbound_answers_through_us_as_it_answers_itself() {
    let many: String = (0..100)
        .map(|last| format!(" local-data: \"many.corp. 60 IN A 10.2.0.{last}\"\n"))
        .collect();
    let lines = format!(
        " local-zone: \"corp.\" static\n local-data: \"corp. 3600 IN SOA ns.corp. root.corp. 1 2 3 4 5\"\n \
         local-data: \"www.corp. 60 IN A 10.1.1.1\"\n local-data: \"www.corp. 60 IN AAAA fd00::1\"\n \
         local-data: 'text.corp. 60 IN TXT \"one\" \"two\"'\n local-data: \"mail.corp. 60 IN MX 10 www.corp.\"\n \
         local-data: \"_x._tcp.corp. 60 IN SRV 1 2 3 www.corp.\"\n{many}"
    );
    let Some(unbound) = Server::unbound(&lines) else { return };
    let folder = Folder::new();
    let placements = vec![placed("p/n", "10.0.0.53", unbound.address)];
    let started = start(corp(&["10.0.0.53"]), &folder, placements);
    let asked = [
        ("www.corp.", RecordType::A),
        ("www.corp.", RecordType::AAAA),
        ("www.corp.", RecordType::TXT),
        ("text.corp.", RecordType::TXT),
        ("mail.corp.", RecordType::MX),
        ("_x._tcp.corp.", RecordType::SRV),
        ("corp.", RecordType::SOA),
        ("no.corp.", RecordType::A),
        ("many.corp.", RecordType::A),
        ("www.corp.", RecordType::Unknown(65400)),
    ];
    let over_tcp = |to: SocketAddr, name: &str, record_type| {
        let mut stream = TcpStream::connect(to).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        send(&mut stream, &query(7, name, record_type));
        receive(&mut stream)
    };
    let same = |ours: &Message, theirs: &Message, what: &str| {
        assert_eq!(ours.response_code, theirs.response_code, "{what}");
        let sorted = |message: &Message| {
            let mut lines = told(message);
            lines.sort();
            lines
        };
        assert_eq!(sorted(ours), sorted(theirs), "{what}");
    };
    for (name, record_type) in asked {
        let what = format!("{name} {record_type}");
        let ours = over_tcp(started.address("tcp").expect("open"), name, record_type);
        same(&ours, &over_tcp(unbound.address, name, record_type), &what);
        if name != "many.corp." {
            let ours = ask(started.address("udp").expect("open"), name, record_type);
            same(&ours, &ask(unbound.address, name, record_type), &what);
        }
    }
}

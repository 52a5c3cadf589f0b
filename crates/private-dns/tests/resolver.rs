//! The program on real sockets, asked by clients that are not ours: `dig`, hickory's resolver, and
//! bare sockets for what those would never send.
#![allow(missing_docs)]

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use names::{NetworkId, SelfLink};
use private_dns::PrivateDns;
use runtime::testing::{Place, Started};
use slice::dns::{DnsView, ManagedZone, PrivateDnsSlice, ResourceRecordSet, ZoneKind};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn records(lines: &[(&str, &str, &[&str])]) -> Vec<ResourceRecordSet> {
    let set = |(name, record_type, data): &(&str, &str, &[&str])| ResourceRecordSet {
        name: (*name).to_owned(),
        record_type: (*record_type).to_owned(),
        ttl: 60,
        rrdatas: data.iter().map(|text| (*text).to_owned()).collect(),
        routing_policy: None,
    };
    lines.iter().map(set).collect()
}

fn zone(name: &str, network: &NetworkId, address: &str) -> ManagedZone {
    let many: Vec<String> = (0..200).map(|i| format!("10.9.0.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    ManagedZone {
        self_link: SelfLink::new(&format!("projects/p/managedZones/{name}")),
        dns_name: "example.com.".to_owned(),
        networks: vec![network.clone()],
        kind: ZoneKind::Private(records(&[
            ("www.example.com.", "A", &[address]),
            ("alias.example.com.", "CNAME", &["www.example.com."]),
            ("many.example.com.", "A", &many),
            ("_sip._tcp.example.com.", "SRV", &["0 5 5060 www.example.com."]),
            ("example.com.", "TXT", &["\"v=spf1 -all\""]),
        ])),
    }
}

fn slice(address: &str) -> PrivateDnsSlice {
    let network = NetworkId::new("p", "n");
    let zones = vec![zone("z", &network, address)];
    PrivateDnsSlice {
        network,
        zones,
        instances: Vec::new(),
        views: Vec::new(),
        policies: Vec::new(),
        response_policies: Vec::new(),
    }
}

/// A folder of its own for each test, gone with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(slice: PrivateDnsSlice, workers: usize) -> (Started<PrivateDns>, Folder) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let state_dir =
        std::env::temp_dir().join(format!("private-dns-{}-{number}", std::process::id()));
    let network = Some(slice.network.clone());
    let folder = Folder(state_dir.clone());
    let place = Place { state_dir, network, workers, placements: Vec::new() };
    (Started::start(slice, place).expect("the program starts"), folder)
}

fn address(started: &Started<PrivateDns>, key: &str) -> SocketAddr {
    started.address(key).expect("the listener is open")
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend_from_slice(label.as_bytes());
    }
    out.extend_from_slice(&[0, 0, 1, 0, 1]);
    out
}

fn client(to: SocketAddr, from: &str) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).expect("a loopback address");
    socket.connect(to).expect("a UDP address");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    socket
}

fn ask(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.send(query).expect("sent");
    let mut answer = vec![0; 2000];
    let length = socket.recv(&mut answer).expect("answered");
    answer.truncate(length);
    answer
}

#[test]
fn a_datagram_is_answered_and_garbage_does_no_harm() {
    let (started, _folder) = start(slice("10.0.0.5"), 1);
    let socket = client(address(&started, "udp"), "127.0.0.1");
    for garbage in [&b""[..], b"x", &[0xFF; 1500], &[0; 12], b"\0\0\x80\0\0\0\0\0\0\0\0\0"] {
        socket.send(garbage).expect("sent");
    }
    socket.send(&query(0x5AFE, "www.example.com")).expect("sent");
    let mut answer = [0; 2000];
    let length = loop {
        let length = socket.recv(&mut answer).expect("answered");
        if answer[..2] == [0x5A, 0xFE] {
            break length;
        }
    };
    assert_eq!(answer[length - 4..length], [10, 0, 0, 5]);
}

#[test]
fn bursts_from_many_clients_are_answered_each_once() {
    let (started, _folder) = start(slice("10.0.0.5"), 2);
    let to = address(&started, "udp");
    // More at once would not fit into the socket's buffer while a slow machine starts the workers.
    let (clients, bursts, burst) = (4, 100, 25_u16);
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(move || {
                let socket = client(to, "127.0.0.1");
                let mut answer = [0; 512];
                for _ in 0..bursts {
                    let mut waiting: Vec<u16> = (0..burst).collect();
                    for id in &waiting {
                        socket.send(&query(*id, "www.example.com")).expect("sent");
                    }
                    while !waiting.is_empty() {
                        socket.recv(&mut answer).expect("answered");
                        let id = u16::from_be_bytes([answer[0], answer[1]]);
                        let position = waiting.iter().position(|waits| *waits == id);
                        waiting.swap_remove(position.expect("one answer per query"));
                    }
                }
            });
        }
    });
}

#[test]
fn queries_over_one_stream_are_answered_in_order() {
    let (started, _folder) = start(slice("10.0.0.5"), 1);
    let mut stream = TcpStream::connect(address(&started, "tcp")).expect("connected");
    let mut all = Vec::new();
    for id in 0..300 {
        let query = query(id, if id % 2 == 0 { "many.example.com" } else { "no.example.com" });
        all.extend_from_slice(&(query.len() as u16).to_be_bytes());
        all.extend_from_slice(&query);
    }
    let mut writer = stream.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Cut anywhere: messages do not end where writes do.
            for piece in all.chunks(777) {
                writer.write_all(piece).expect("written");
            }
        });
        for id in 0..300_u16 {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer[..2], id.to_be_bytes());
            assert_eq!(answer[2] & 2, 0, "nothing is truncated over TCP");
            assert_eq!(answer.len() > 3000, id % 2 == 0);
        }
    });
}

#[test]
fn a_reload_loses_no_query_and_a_refused_one_changes_nothing() {
    let (mut started, _folder) = start(slice("10.0.0.1"), 2);
    let to = address(&started, "udp");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let socket = client(to, "127.0.0.1");
            let mut seen = Vec::new();
            while !done.load(Ordering::Acquire) {
                let last = *ask(&socket, &query(1, "www.example.com")).last().expect("octets");
                if seen.last() != Some(&last) {
                    seen.push(last);
                }
            }
            seen
        });
        for generation in 2..20 {
            started.reload(slice(&format!("10.0.0.{generation}"))).expect("a good slice");
        }
        let bad = started.reload(slice("10.0.0.300"));
        assert!(
            bad.is_err_and(|text| text.contains("10.0.0.300") && text.contains("managedZones/z"))
        );
        let socket = client(to, "127.0.0.1");
        assert_eq!(ask(&socket, &query(1, "www.example.com")).last(), Some(&19));
        done.store(true, Ordering::Release);
        let seen = asking.join().expect("every query was answered");
        assert!(seen.is_sorted(), "{seen:?}");
    });
}

#[test]
fn clients_of_several_networks_are_told_apart_by_address() {
    let mut both = slice("10.0.0.1");
    let other = NetworkId::new("q", "n");
    both.zones.push(zone("y", &other, "10.0.0.2"));
    both.views =
        vec![DnsView { clients: "127.0.0.2/32".parse().expect("a range"), network: other }];
    let (started, _folder) = start(both, 1);
    for (from, last) in [("127.0.0.1", 1), ("127.0.0.2", 2), ("127.0.0.3", 1)] {
        let socket = client(address(&started, "udp"), from);
        assert_eq!(ask(&socket, &query(1, "www.example.com")).last(), Some(&last), "{from}");
    }
}

#[tokio::test]
async fn hickorys_resolver_gets_every_kind_of_answer() {
    let (started, _folder) = start(slice("10.0.0.5"), 1);
    let connection = |protocol: ProtocolConfig, to: SocketAddr| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = to.port();
        connection
    };
    let server = NameServerConfig::new(
        address(&started, "udp").ip(),
        true,
        vec![
            connection(ProtocolConfig::Udp, address(&started, "udp")),
            connection(ProtocolConfig::Tcp, address(&started, "tcp")),
        ],
    );
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
    options.case_randomization = true;
    let resolver = Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .expect("a resolver");
    let found = resolver.ipv4_lookup("alias.example.com.").await.expect("an address");
    let addresses: Vec<String> =
        found.answers().iter().map(|record| record.data.to_string()).collect();
    assert_eq!(addresses, ["www.example.com.", "10.0.0.5"]);
    let many =
        resolver.ipv4_lookup("many.example.com.").await.expect("by TCP after a short answer");
    assert_eq!(many.answers().len(), 200);
    let text = resolver.txt_lookup("example.com.").await.expect("a text");
    assert_eq!(text.answers().len(), 1);
    let service = resolver.srv_lookup("_sip._tcp.example.com.").await.expect("a service");
    assert_eq!(service.answers()[0].data.to_string(), "0 5 5060 www.example.com.");
    let missing = resolver.ipv4_lookup("no.example.com.").await.expect_err("no such name");
    assert!(missing.is_no_records_found() && missing.is_nx_domain());
    let other = resolver.ipv6_lookup("www.example.com.").await.expect_err("no such type");
    assert!(other.is_no_records_found() && !other.is_nx_domain());
}

#[test]
fn dig_understands_every_answer() {
    let (started, _folder) = start(slice("10.0.0.5"), 1);
    let dig = |arguments: &str, key: &str| {
        let to = address(&started, key);
        let output = Command::new("dig")
            .args([&format!("@{}", to.ip()), "-p", &to.port().to_string(), "+noall", "+tries=1"])
            .args(arguments.split(' '))
            .output()?;
        std::io::Result::Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    if let Err(error) = Command::new("dig").arg("-v").output() {
        eprintln!("SKIPPED: dig is not here ({error}); install dnsutils to run this test");
        return;
    }
    let check = |arguments: &str, key: &str, expected: &[&str]| {
        let text = dig(arguments, key).expect("dig runs");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in expected {
            assert!(text.contains(part), "dig {arguments}: `{part}` is missing in `{text}`");
        }
    };
    check(
        "www.example.com +answer +comments",
        "udp",
        &["status: NOERROR", "flags: qr rd ra;", "www.example.com. 60 IN A 10.0.0.5"],
    );
    check("wWw.eXample.com +answer", "udp", &["wWw.eXample.com. 60 IN A 10.0.0.5"]);
    check(
        "alias.example.com +answer",
        "udp",
        &["alias.example.com. 60 IN CNAME www.example.com. www.example.com. 60 IN A 10.0.0.5"],
    );
    check(
        "no.example.com +comments +authority",
        "udp",
        &[
            "status: NXDOMAIN",
            "example.com. 300 IN SOA ns-gcp-private.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300",
        ],
    );
    check(
        "www.example.com AAAA +comments +authority",
        "udp",
        &["status: NOERROR", "ANSWER: 0, AUTHORITY: 1", "IN SOA"],
    );
    check(
        "many.example.com +ignore +noedns +comments",
        "udp",
        &["flags: qr tc rd ra", "ANSWER: 0"],
    );
    check("many.example.com +tcp +comments", "tcp", &["ANSWER: 200"]);
    check("www.example.com +edns=1 +noednsneg +comments", "udp", &["status: BADVERS"]);
    check(
        "www.example.com +nsid +subnet=10.0.0.0/8 +cookie +dnssec +comments +answer",
        "udp",
        &["status: NOERROR", "EDNS: version: 0, flags:; udp: 1232", "10.0.0.5"],
    );
    check("example.com AXFR +tcp", "tcp", &["Transfer failed"]);
    check("-c CH -t TXT version.bind +comments", "udp", &["status: REFUSED"]);
    check("www.example.com +opcode=notify +comments", "udp", &["status: NOTIMP"]);
    check("metadata.google.internal +answer", "udp", &["169.254.169.254"]);
    check("svc-1-ew.a.run.app +answer", "udp", &["216.239.32.53"]);
}

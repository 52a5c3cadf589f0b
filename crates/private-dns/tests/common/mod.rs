//! Starting the program, asking it, and name servers for it to ask.
#![allow(dead_code, missing_docs, reason = "shared by tests, each of which uses a part")]

pub mod foreign;

use hickory_net::proto::op::{Message, Query, ResponseCode};
use hickory_net::proto::rr::{Name, RData, Record, RecordType};
use names::{NetworkId, SelfLink};
use private_dns::PrivateDns;
use runtime::testing::{Place, Started};
use slice::Placement;
use slice::dns::{
    ForwardingPath, ManagedZone, NameServer, PrivateDnsSlice, ResourceRecordSet, ZoneKind,
};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A folder of its own for each test, gone with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("private-dns-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder of its own");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn start(
    slice: PrivateDnsSlice,
    folder: &Folder,
    placements: Vec<Placement>,
) -> Started<PrivateDns> {
    let network = Some(slice.network.clone());
    let place = Place { state_dir: folder.0.clone(), network, workers: 1, placements };
    Started::start(slice, place).expect("the program starts")
}

pub fn slice_of(network: &str, zones: Vec<ManagedZone>) -> PrivateDnsSlice {
    PrivateDnsSlice {
        network: network.parse().expect("a network"),
        zones,
        instances: Vec::new(),
        views: Vec::new(),
        policies: Vec::new(),
        response_policies: Vec::new(),
    }
}

pub fn zone(name: &str, dns_name: &str, networks: &[&str], kind: ZoneKind) -> ManagedZone {
    ManagedZone {
        self_link: SelfLink::new(&format!("projects/p/managedZones/{name}")),
        dns_name: dns_name.to_owned(),
        networks: networks.iter().map(|text| text.parse().expect("a network")).collect(),
        kind,
    }
}

/// From lines such as `a.example. 300 A 10.0.0.1 | 10.0.0.2`.
pub fn records(lines: &str) -> ZoneKind {
    let line = |line: &str| {
        let mut fields = line.trim().splitn(4, ' ').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_else(|| panic!("too short: {line}"));
        ResourceRecordSet {
            name: next(),
            ttl: next().parse().expect("a TTL"),
            record_type: next(),
            rrdatas: next().split(" | ").map(str::to_owned).collect(),
            routing_policy: None,
        }
    };
    ZoneKind::Private(lines.lines().filter(|text| !text.trim().is_empty()).map(line).collect())
}

pub fn forwarding(servers: &[&str]) -> ZoneKind {
    ZoneKind::Forwarding(servers.iter().map(|address| name_server(address)).collect())
}

pub fn name_server(address: &str) -> NameServer {
    let address = address.parse().expect("an address");
    NameServer { address, forwarding_path: ForwardingPath::Default }
}

/// Port 53 of a declared address is really there.
pub fn placed(network: &str, declared: &str, actual: SocketAddr) -> Placement {
    let declared: Ipv4Addr = declared.parse().expect("an address");
    let network: NetworkId = network.parse().expect("a network");
    Placement { network, declared: SocketAddrV4::new(declared, 53), actual }
}

pub fn query(id: u16, name: &str, record_type: RecordType) -> Vec<u8> {
    let name = Name::from_ascii(name).expect("a name");
    let mut message = Message::query();
    message.metadata.id = id;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record_type));
    message.to_vec().expect("encoded")
}

/// Asks over UDP, once.
pub fn ask(server: SocketAddr, name: &str, record_type: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.connect(server).expect("a UDP address");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    socket.send(&query(7, name, record_type)).expect("sent");
    let mut answer = [0; 4096];
    let length = socket.recv(&mut answer).expect("answered");
    let message = Message::from_vec(&answer[..length]).expect("well-formed");
    assert_eq!(message.id, 7);
    assert_eq!(message.queries[0].name().to_ascii(), name, "the question as it was asked");
    message
}

pub fn send(stream: &mut TcpStream, message: &[u8]) {
    let framed = [&(message.len() as u16).to_be_bytes()[..], message].concat();
    stream.write_all(&framed).expect("written");
}

pub fn receive(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("an answer");
    Message::from_vec(&answer).expect("well-formed")
}

/// The answer section as text.
pub fn told(message: &Message) -> Vec<String> {
    message.answers.iter().map(ToString::to_string).collect()
}

/// What a scripted name server saw.
#[derive(Clone, Debug)]
pub struct Seen {
    pub query: Message,
    pub from: SocketAddr,
    pub tcp: bool,
}

/// A name server that does what a test says.
pub struct Scripted {
    pub address: SocketAddr,
    pub seen: Arc<Mutex<Vec<Seen>>>,
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Scripted {
    /// `answer` gives the messages that a query is answered with, over UDP or TCP.
    pub fn start(answer: impl Fn(&Seen) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        let (tcp, udp) = both();
        let address = udp.local_addr().expect("bound");
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let done: Arc<AtomicBool> = Arc::default();
        let answer = Arc::new(answer);
        let look = |query: &[u8], from, tcp, seen: &Mutex<Vec<Seen>>| {
            let query = Message::from_vec(query).expect("a query is well-formed");
            let one = Seen { query, from, tcp };
            seen.lock().expect("unpoisoned").push(one.clone());
            one
        };
        let datagrams = {
            let (seen, done, answer) = (seen.clone(), done.clone(), answer.clone());
            std::thread::spawn(move || {
                let mut query = [0; 4096];
                while let Ok((length, from)) = udp.recv_from(&mut query)
                    && !done.load(Ordering::Acquire)
                {
                    for message in answer(&look(&query[..length], from, false, &seen)) {
                        let _ = udp.send_to(&message, from);
                    }
                }
            })
        };
        let streams = {
            let (seen, done) = (seen.clone(), done.clone());
            std::thread::spawn(move || {
                while let Ok((mut stream, from)) = tcp.accept()
                    && !done.load(Ordering::Acquire)
                {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                        stream.read_exact(&mut query).expect("a whole query");
                        for message in answer(&look(&query, from, true, &seen)) {
                            send(&mut stream, &message);
                        }
                    }
                }
            })
        };
        Scripted { address, seen, done, threads: vec![datagrams, streams] }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("unpoisoned").clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        // Wakes both threads.
        if let Ok(socket) = UdpSocket::bind("127.0.0.1:0") {
            let _ = socket.send_to(&[], self.address);
        }
        let _ = TcpStream::connect(self.address);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A TCP and a UDP socket with the same port.
fn both() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = tcp.local_addr().expect("bound");
        if let Ok(udp) = UdpSocket::bind(address) {
            return (tcp, udp);
        }
    }
}

/// The response to a query with these answers: (owner, type and data).
pub fn response(query: &Message, code: ResponseCode, answers: &[(&str, RData)]) -> Message {
    let mut message = query.clone().into_response();
    message.edns = None;
    message.metadata.response_code = code;
    for (owner, data) in answers {
        let owner = Name::from_ascii(owner).expect("a name");
        message.add_answer(Record::from_rdata(owner, 60, data.clone()));
    }
    message
}

pub fn a(address: &str) -> RData {
    RData::A(address.parse().expect("an address"))
}

pub fn encoded(message: &Message) -> Vec<u8> {
    message.to_vec().expect("encoded")
}

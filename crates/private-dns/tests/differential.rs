//! The same generated zones in a real NSD and here, the same questions to both, and to a network
//! that forwards them to NSD: same codes, same records, same SOA of negative answers.
//!
//! `cargo xtask dns-differential` asks 5,000 questions; a test run asks a sample. Left out is what
//! differs by intention, and said where it is: names outside of all zones (NSD refuses, here the
//! public DNS has none of them), chains of CNAME records in a circle (SERVFAIL here), QTYPE ANY.
#![allow(missing_docs)]

mod common;

use common::foreign::Server;
use common::{Folder, forwarding, placed, slice_of, start, zone};
use hickory_net::proto::op::{Message, Query, ResponseCode};
use hickory_net::proto::rr::{Name, RData, RecordType};
use slice::dns::{ManagedZone, ResourceRecordSet, ZoneKind};
use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// splitmix64: every run of a seed draws the same.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

const LABELS: [&str; 9] = ["a", "a", "b", "b", "c", "*", "*", "sub", "_x"];
/// Zones of one world, each beside or directly below another: where a name between two zones
/// belongs to neither, NSD has its own opinion.
const APEXES: [&str; 4] = ["x", "sub.x", "y", "b.y"];
const TYPES: [RecordType; 10] = [
    RecordType::A,
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::MX,
    RecordType::SRV,
    RecordType::CNAME,
    RecordType::NS,
    RecordType::SOA,
    RecordType::Unknown(65400),
];

/// A few zones that know of each other.
struct World {
    /// Name and record sets.
    zones: Vec<(String, Vec<ResourceRecordSet>)>,
    suffix: String,
}

impl World {
    fn draw(number: usize, draw: &mut Draw) -> World {
        let suffix = format!("w{number}.test.");
        let apexes: Vec<String> = APEXES
            .iter()
            .filter(|apex| **apex == "x" || draw.below(3) > 0)
            .map(|apex| format!("{apex}.{suffix}"))
            .collect();
        let mut world = World { zones: Vec::new(), suffix };
        for apex in &apexes {
            let mut sets: BTreeMap<(String, String), ResourceRecordSet> = BTreeMap::new();
            for _ in 0..draw.below(14) {
                let owner = world.name(draw, apex);
                // Names of another zone's are not this one's to tell.
                let within = |zone: &String| is_within(&owner, zone) && zone.len() > apex.len();
                if apexes.iter().any(within) {
                    continue;
                }
                let taken: Vec<&str> = sets
                    .keys()
                    .filter(|(name, _)| *name == owner)
                    .map(|(_, kind)| kind.as_str())
                    .collect();
                let kind = *draw.of(&["A", "A", "AAAA", "TXT", "MX", "SRV", "CNAME", "CNAME"]);
                let clash =
                    if kind == "CNAME" { !taken.is_empty() } else { taken.contains(&"CNAME") };
                if clash || taken.contains(&kind) || (kind == "CNAME" && owner == *apex) {
                    continue;
                }
                let rrdatas = world.data(draw, kind, &apexes);
                let set = set(&owner, kind, *draw.of(&[60, 300, 4000]), rrdatas);
                sets.insert((owner, kind.to_owned()), set);
            }
            let mut all = vec![
                set(apex, "SOA", 3600, vec!["ns.invalid. root.invalid. 7 10 20 30 900".to_owned()]),
                set(apex, "NS", 3600, vec!["ns.invalid.".to_owned()]),
            ];
            all.extend(sets.into_values());
            world.zones.push((apex.clone(), all));
        }
        world
    }

    /// A name in a zone, up to three labels below.
    fn name(&self, draw: &mut Draw, apex: &str) -> String {
        let labels = draw.below(4);
        let labels: String = (0..labels).map(|_| format!("{}.", draw.of(&LABELS))).collect();
        labels + apex
    }

    fn data(&self, draw: &mut Draw, kind: &str, apexes: &[String]) -> Vec<String> {
        let target = if draw.below(8) == 0 {
            format!("out.{}", self.suffix)
        } else {
            let apex = draw.of(apexes).clone();
            self.name(draw, &apex)
        };
        let number = draw.below(200);
        match kind {
            "A" => (0..=draw.below(3)).map(|last| format!("10.{number}.0.{last}")).collect(),
            "AAAA" => vec![format!("fd00::{number:x}")],
            "TXT" => vec![format!("\"text {number}\" \"more\"")],
            "MX" => vec![format!("{number} {target}")],
            "SRV" => vec![format!("1 2 {number} {target}")],
            _ => vec![target],
        }
    }

    /// The text of a zone file.
    fn file(sets: &[ResourceRecordSet]) -> String {
        let line = |set: &ResourceRecordSet, data: &String| {
            format!("{} {} IN {} {data}\n", set.name, set.ttl, set.record_type)
        };
        sets.iter().flat_map(|set| set.rrdatas.iter().map(move |data| line(set, data))).collect()
    }
}

fn set(name: &str, kind: &str, ttl: u32, rrdatas: Vec<String>) -> ResourceRecordSet {
    ResourceRecordSet {
        name: name.to_owned(),
        record_type: kind.to_owned(),
        ttl,
        rrdatas,
        routing_policy: None,
    }
}

fn is_within(name: &str, zone: &str) -> bool {
    name == zone || name.ends_with(&format!(".{zone}"))
}

/// A client with one socket.
struct Client(UdpSocket);

impl Client {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        socket.connect(server).expect("an address");
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        Client(socket)
    }

    fn ask(&self, id: u16, name: &str, record_type: RecordType) -> Answer {
        let mut message = Message::query();
        message.metadata.id = id;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), record_type));
        self.0.send(&message.to_vec().expect("encoded")).expect("sent");
        let mut octets = [0; 4096];
        let length = self.0.recv(&mut octets).expect("answered");
        let answer = Message::from_vec(&octets[..length]).expect("well-formed");
        assert_eq!(answer.id, id);
        assert_eq!(answer.queries[0].name().to_ascii(), name, "the question as it was asked");
        assert!(!answer.truncation, "{name}");
        let lines = |records: &[hickory_net::proto::rr::Record]| {
            let mut lines: Vec<String> =
                records.iter().map(|record| record.to_string().to_lowercase()).collect();
            lines.sort();
            lines
        };
        let cnames = answer.answers.iter().filter_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.to_ascii().to_lowercase()),
            _ => None,
        });
        let mut end = name.to_lowercase();
        let cnames: Vec<String> = cnames.collect();
        if record_type != RecordType::CNAME
            && let Some(last) = cnames.last()
        {
            end.clone_from(last);
        }
        let soa = answer.authorities.iter().filter(|r| r.record_type() == RecordType::SOA);
        let soa: Vec<_> = soa.cloned().collect();
        let negative = answer.answers.iter().all(|r| r.record_type() == RecordType::CNAME);
        Answer {
            code: answer.response_code,
            records: lines(&answer.answers),
            soa: if negative { lines(&soa) } else { Vec::new() },
            end,
        }
    }
}

/// What must be the same.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    code: ResponseCode,
    records: Vec<String>,
    soa: Vec<String>,
    /// The name at the end of the chain.
    end: String,
}

#[test]
fn nsd_and_we_give_the_same_answers() {
    let (pairs, seed) = (setting("POSTERN_DNS_PAIRS", 300), setting("POSTERN_DNS_SEED", 1));
    let draw = &mut Draw(seed);
    let questions_each = 10;
    let count = usize::try_from(pairs).expect("fits").div_ceil(questions_each);
    let worlds: Vec<World> = (0..count).map(|number| World::draw(number, draw)).collect();
    let all = || worlds.iter().flat_map(|world| &world.zones);
    let files: Vec<(String, String)> =
        all().map(|(name, sets)| (name.clone(), World::file(sets))).collect();
    let Some(nsd) = Server::nsd(&files) else { return };
    let zones: Vec<ManagedZone> = all()
        .enumerate()
        .map(|(number, (name, sets))| {
            zone(&format!("z{number}"), name, &["p/own"], ZoneKind::Private(sets.clone()))
        })
        .collect();
    let folder = Folder::new();
    let own = start(slice_of("p/own", zones), &folder, Vec::new());
    let to_nsd = zone("all", "test.", &["p/out"], forwarding(&["10.0.0.53"]));
    let placements = vec![placed("p/out", "10.0.0.53", nsd.address)];
    let forwards = start(slice_of("p/out", vec![to_nsd]), &folder, placements);
    let theirs = Client::new(nsd.address);
    let ours = Client::new(own.address("udp").expect("open"));
    let forwarded = Client::new(forwards.address("udp").expect("open"));
    let (mut kinds, mut outside, mut circles) = (BTreeMap::<String, u32>::new(), 0, 0);
    let mut asked = 0;
    for world in &worlds {
        for _ in 0..questions_each {
            asked += 1;
            let (apex, sets) = draw.of(&world.zones);
            // Half of the questions are for names that have records, or for one below.
            let mut name = match draw.below(4) {
                0 => draw.of(sets).name.clone(),
                1 => format!("{}.{}", draw.of(&LABELS), draw.of(sets).name),
                _ => world.name(draw, apex),
            };
            if draw.below(3) == 0 {
                name = name.replace(['a', 'b'], "B").replace("test.", "tEsT.");
            }
            let (record_type, id) = (*draw.of(&TYPES), draw.next() as u16);
            let what = format!("seed {seed}: {name} {record_type}, zones {:#?}", world.zones);
            let expected = theirs.ask(id, &name, record_type);
            let got = ours.ask(id, &name, record_type);
            let through = forwarded.ask(id, &name, record_type);
            if got.code == ResponseCode::ServFail {
                // Nothing else is: a chain that meets itself.
                let mut owners: Vec<&str> =
                    expected.records.iter().filter_map(|line| line.split(' ').next()).collect();
                owners.sort_unstable();
                owners.dedup();
                let met = owners.contains(&&*expected.end);
                assert!(met, "{what}\nNSD: {expected:?}\nhere: {got:?}");
                circles += 1;
                continue;
            }
            let inside = world.zones.iter().any(|(zone, _)| is_within(&expected.end, zone));
            if !inside {
                // A chain that leaves the zones: NSD stops, here the public DNS has no such name.
                let refused = [ResponseCode::NoError, ResponseCode::Refused];
                assert!(refused.contains(&expected.code), "{what}\nNSD: {expected:?}");
                assert_eq!(got.code, ResponseCode::NXDomain, "{what}");
                assert_eq!(got.records, expected.records, "{what}");
                outside += 1;
                continue;
            }
            assert_eq!(got, expected, "{what}\n(left: here, right: NSD)");
            assert_eq!(through, expected, "{what}\n(left: forwarded, right: NSD)");
            let kind = match (&got.code, got.records.is_empty(), got.soa.is_empty()) {
                (ResponseCode::NoError, false, true) => "records",
                (ResponseCode::NoError, false, false) => "chain to nothing of the type",
                (ResponseCode::NoError, true, _) => "no data",
                (_, true, _) => "no name",
                (_, false, _) => "chain to no name",
            };
            *kinds.entry(kind.to_owned()).or_default() += 1;
        }
    }
    println!(
        "{asked} questions, seed {seed}: {kinds:?}, {outside} out of the zones, {circles} circles"
    );
    assert!(asked >= pairs);
    // A test that asks nothing of a kind says nothing about it.
    let least = u32::try_from(pairs / 100).expect("fits");
    for kind in ["records", "no data", "no name"] {
        assert!(kinds.get(kind).copied().unwrap_or(0) > least, "{kind}: {kinds:?}");
    }
}

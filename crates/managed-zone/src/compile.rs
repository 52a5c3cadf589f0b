//! A managed zone's record sets, checked and compiled; everything that is wrong is said at once,
//! with zone, record set and value.

use crate::Name;
use crate::name::{NameError, encode};
use crate::rdata::{self, RdataError};
use crate::record_type::RecordType;
use crate::zone::{Builder, QUESTION_POINTER, Zone};
use names::SelfLink;
use slice::dns::ResourceRecordSet;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// What Cloud DNS puts at the apex of a new private zone (private-connectivity 4.1, 4.2; the name
/// server is unconfirmed there, observed in exports).
const APEX_TTL: u32 = 21600;
const APEX_NS: &str = "ns-gcp-private.googledomains.com.";
const APEX_SOA: &str =
    "ns-gcp-private.googledomains.com. cloud-dns-hostmaster.google.com. 1 21600 3600 259200 300";

/// The most octets of one record set on the wire: with question and a chain of CNAME records it
/// still fits into one message over TCP.
const RECORD_SET_OCTETS_MAX: usize = 56 * 1024;
/// The most seconds of a TTL (RFC 2181, 8).
const TTL_MAX: u32 = i32::MAX as u32;

/// A mistake in a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    /// The zone.
    pub zone: SelfLink,
    /// Position in the zone's record sets, where it is about one.
    pub record_set: Option<usize>,
    /// Position in the record set's `rrdatas`, where it is about one.
    pub rrdata: Option<usize>,
    /// Name and type as they are written; empty where it is about the zone itself.
    pub record: String,
    /// What is wrong.
    pub problem: Problem,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "managed zone {}: ", self.zone)?;
        if !self.record.is_empty() {
            write!(f, "{}: ", self.record)?;
        }
        if let Some(position) = self.rrdata {
            write!(f, "rrdatas[{position}]: ")?;
        }
        fmt::Display::fmt(&self.problem, f)
    }
}

impl std::error::Error for ZoneError {}

/// What can be wrong with a zone or a record set (private-connectivity 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// `dnsName` or the record set's name is no name.
    Name(NameError),
    /// The record set's name is not within the zone: the zone's name.
    OutsideZone(String),
    /// The type is unknown, or private zones do not hold it.
    Type(String),
    /// The TTL is above 2147483647.
    Ttl(u32),
    /// `rrdatas` is empty.
    NoData,
    /// One value is malformed.
    Rdata(RdataError),
    /// The same value twice.
    DuplicateValue,
    /// The same name and type in two record sets.
    DuplicateRecordSet,
    /// CNAME beside other types, or at the apex, which has NS and SOA.
    CnameBesideOthers,
    /// More than one CNAME or SOA record at a name.
    NotSingle(RecordType),
    /// A SOA record below the apex.
    SoaBelowApex,
    /// The records together are too long for a message.
    RecordSetSize(usize),
    /// The zone is larger than 4 GiB.
    ZoneSize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Name(why) => write!(f, "{why}"),
            Problem::OutsideZone(zone) => write!(f, "the name is not within the zone `{zone}`"),
            Problem::Type(text) => write!(
                f,
                "a private zone holds no records of type `{text}`; it takes A, AAAA, CAA, CNAME, HTTPS, MX, NAPTR, NS, PTR, SOA, SPF, SRV, SVCB and TXT"
            ),
            Problem::Ttl(ttl) => write!(f, "the ttl {ttl} is above {TTL_MAX}"),
            Problem::NoData => f.write_str("rrdatas is empty"),
            Problem::Rdata(why) => write!(f, "{why}"),
            Problem::DuplicateValue => f.write_str("the value stands twice in the record set"),
            Problem::DuplicateRecordSet => {
                f.write_str("there is another record set of this name and type; join their rrdatas")
            }
            Problem::CnameBesideOthers => f.write_str(
                "a name with a CNAME record can have no other record; the apex of a zone always has NS and SOA",
            ),
            Problem::NotSingle(record_type) => {
                write!(f, "a name can have one {record_type} record only")
            }
            Problem::SoaBelowApex => f.write_str("a SOA record stands at the apex of a zone only"),
            Problem::RecordSetSize(octets) => write!(
                f,
                "the record set has {octets} octets, the limit is {RECORD_SET_OCTETS_MAX}"
            ),
            Problem::ZoneSize => f.write_str("the zone is larger than 4 GiB"),
        }
    }
}

/// One record set, encoded: ranges into the buffers of [`Encoded`].
struct EncodedSet {
    name: Range<usize>,
    record_type: RecordType,
    count: u16,
    wire: Range<usize>,
    /// Position in the zone's list; none for what Cloud DNS adds at the apex.
    position: Option<usize>,
}

#[derive(Default)]
struct Encoded {
    names: Vec<u8>,
    wire: Vec<u8>,
    sets: Vec<EncodedSet>,
}

/// Compiles the record sets of the zone with this apex. SOA and NS records at the apex are added
/// where the list has none.
pub(crate) fn zone(
    link: &SelfLink,
    apex: &Name,
    record_sets: &[ResourceRecordSet],
) -> Result<Zone, Vec<ZoneError>> {
    let mut errors = Vec::new();
    let mut encoded =
        Encoded { sets: Vec::with_capacity(record_sets.len() + 2), ..Encoded::default() };
    let report = |position: Option<usize>, rrdata, problem| {
        let set = position.and_then(|position| record_sets.get(position));
        ZoneError {
            zone: link.clone(),
            record_set: position,
            rrdata,
            record: set
                .map(|set| format!("`{}` {}", set.name, set.record_type))
                .unwrap_or_default(),
            problem,
        }
    };
    for (position, set) in record_sets.iter().enumerate() {
        if let Err((rrdata, problem)) = encoded.push(apex, set, Some(position)) {
            errors.push(report(Some(position), rrdata, problem));
        }
    }
    for (record_type, data) in [("NS", APEX_NS), ("SOA", APEX_SOA)] {
        let held = |set: &EncodedSet| {
            set.record_type.mnemonic() == Some(record_type)
                && encoded.names[set.name.clone()] == *apex.as_wire()
        };
        if !encoded.sets.iter().any(held) {
            let set = ResourceRecordSet {
                name: apex.to_string(),
                record_type: record_type.to_owned(),
                ttl: APEX_TTL,
                rrdatas: vec![data.to_owned()],
            };
            if let Err((_, problem)) = encoded.push(apex, &set, None) {
                errors.push(report(None, None, problem));
            }
        }
    }
    let Encoded { names, wire, mut sets } = encoded;
    sets.sort_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
    let octets = names.len() + wire.len() + sets.len() * 11;
    let mut builder = Builder::new(apex, sets.len(), octets);
    let mut negative_soa = Vec::new();
    for group in sets.chunk_by(|a, b| names[a.name.clone()] == names[b.name.clone()]) {
        let name = &names[group[0].name.clone()];
        for (position, problem) in check_group(group, name == apex.as_wire()) {
            errors.push(report(position, None, problem));
        }
        if name == apex.as_wire()
            && let Some(soa) = group.iter().find(|set| set.record_type == RecordType::SOA)
        {
            negative_soa = negative(&wire[soa.wire.clone()]);
        }
        let held = group.iter().map(|set| (set.record_type, set.count, &wire[set.wire.clone()]));
        if builder.add(name, held).is_none() {
            return Err(vec![report(None, None, Problem::ZoneSize)]);
        }
    }
    if !errors.is_empty() {
        errors.sort_by_key(|error| (error.record_set, error.rrdata));
        return Err(errors);
    }
    builder.finish(negative_soa).ok_or_else(|| vec![report(None, None, Problem::ZoneSize)])
}

/// What a name's record sets must not be beside each other.
fn check_group(group: &[EncodedSet], is_apex: bool) -> Vec<(Option<usize>, Problem)> {
    let mut problems = Vec::new();
    for (index, set) in group.iter().enumerate() {
        if group[..index].iter().any(|earlier| earlier.record_type == set.record_type) {
            problems.push((set.position, Problem::DuplicateRecordSet));
        }
        let single = matches!(set.record_type, RecordType::CNAME | RecordType::SOA);
        if single && set.count > 1 {
            problems.push((set.position, Problem::NotSingle(set.record_type)));
        }
        if set.record_type == RecordType::SOA && !is_apex {
            problems.push((set.position, Problem::SoaBelowApex));
        }
        let others = group.iter().any(|other| other.record_type != RecordType::CNAME);
        if set.record_type == RecordType::CNAME && others {
            problems.push((set.position, Problem::CnameBesideOthers));
        }
    }
    problems
}

/// The SOA record as negative answers carry it: without owner, TTL the lesser of TTL and minimum
/// (RFC 2308, 3).
fn negative(soa: &[u8]) -> Vec<u8> {
    let mut record = soa.get(QUESTION_POINTER.len()..).unwrap_or_default().to_vec();
    let minimum: Option<[u8; 4]> = record.last_chunk::<4>().copied();
    if let (Some(minimum), Some(ttl)) = (minimum, record.get_mut(4..8)) {
        // Big-endian octets compare as the numbers that they are.
        if minimum.as_slice() < &*ttl {
            ttl.copy_from_slice(&minimum);
        }
    }
    record
}

impl Encoded {
    /// Encodes one record set; on a mistake nothing of it stays.
    fn push(
        &mut self,
        apex: &Name,
        set: &ResourceRecordSet,
        position: Option<usize>,
    ) -> Result<(), (Option<usize>, Problem)> {
        let (name, wire) = (self.names.len(), self.wire.len());
        let result = self.encode(apex, set);
        match result {
            Ok(record_type) => self.sets.push(EncodedSet {
                name: name..self.names.len(),
                record_type,
                count: set.rrdatas.len() as u16, // bounded by RECORD_SET_OCTETS_MAX
                wire: wire..self.wire.len(),
                position,
            }),
            Err(_) => {
                self.names.truncate(name);
                self.wire.truncate(wire);
            }
        }
        result.map(|_| ())
    }

    fn encode(
        &mut self,
        apex: &Name,
        set: &ResourceRecordSet,
    ) -> Result<RecordType, (Option<usize>, Problem)> {
        let ResourceRecordSet { name, record_type, ttl, rrdatas } = set;
        let whole = |problem| (None, problem);
        let begin = self.names.len();
        encode(name, &mut self.names).map_err(|why| whole(Problem::Name(why)))?;
        self.names[begin..].make_ascii_lowercase();
        if !crate::name::suffixes(&self.names[begin..]).any(|suffix| suffix == apex.as_wire()) {
            return Err(whole(Problem::OutsideZone(apex.to_string())));
        }
        let known = record_type.parse().ok().filter(|known: &RecordType| known.may_be_held());
        let known = known.ok_or_else(|| whole(Problem::Type(record_type.clone())))?;
        if *ttl > TTL_MAX {
            return Err(whole(Problem::Ttl(*ttl)));
        }
        if rrdatas.is_empty() {
            return Err(whole(Problem::NoData));
        }
        let begin = self.wire.len();
        let mut values = HashSet::new();
        for (position, text) in rrdatas.iter().enumerate() {
            let here = |problem| (Some(position), problem);
            self.wire.extend_from_slice(&QUESTION_POINTER);
            self.wire.extend_from_slice(&known.0.to_be_bytes());
            self.wire.extend_from_slice(&[0, 1]); // class IN
            self.wire.extend_from_slice(&ttl.to_be_bytes());
            self.wire.extend_from_slice(&[0, 0]);
            let data = self.wire.len();
            rdata::encode(known, text, &mut self.wire).map_err(|why| here(Problem::Rdata(why)))?;
            let length = self.wire.len() - data;
            // `rdata::encode` refuses what is longer than 65535 octets.
            self.wire[data - 2..data].copy_from_slice(&(length as u16).to_be_bytes());
            if rrdatas.len() > 1 && !values.insert(self.wire[data..].to_vec()) {
                return Err(here(Problem::DuplicateValue));
            }
        }
        match self.wire.len() - begin {
            octets if octets > RECORD_SET_OCTETS_MAX => Err(whole(Problem::RecordSetSize(octets))),
            _ => Ok(known),
        }
    }
}

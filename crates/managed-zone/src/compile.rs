//! A managed zone's record sets, checked and compiled; everything that is wrong is said at once,
//! with zone, record set and value.

use crate::Name;
use crate::name::{NameError, encode};
use crate::rdata::{self, RdataError};
use crate::record_type::RecordType;
use crate::routes;
use crate::routing::Routing;
use crate::targets::Targets;
use crate::zone::{Builder, QUESTION_POINTER, ROUTED, Zone};
use names::SelfLink;
use slice::dns::ResourceRecordSet;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// What Cloud DNS puts at the apex of a new private zone (private-connectivity 4.1, 4.2).
const APEX_TTL: u32 = 21600;
/// The primary name server of private zones (4.1, unconfirmed there, observed in exports).
pub const PRIMARY_NAME_SERVER: &str = "ns-gcp-private.googledomains.com.";
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

impl ZoneError {
    /// A mistake of the zone itself.
    pub(crate) fn of_zone(zone: SelfLink, problem: Problem) -> Self {
        ZoneError { zone, record_set: None, rrdata: None, record: String::new(), problem }
    }
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
    /// Records of this type have no routing policy.
    RoutingType(RecordType),
    /// A routing policy without items, or an item without data.
    RoutingItems(&'static str),
    /// Two items for one region.
    RoutingLocation(String),
    /// A weight that is negative or no number.
    Weight(String),
    /// A share of the traffic that is not between 0 and 1.
    Trickle(String),
    /// Data and a routing policy.
    DataAndRouting,
    /// NS records of a wildcard.
    WildcardNs,
    /// The name differs from that of the response policy rule.
    NotTheRulesName(String),
    /// A type that a response policy rule may not hold.
    NotInLocalData(RecordType),
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
                "a private zone holds no records of type `{text}`; it takes A, AAAA, CAA, CNAME, DS, HTTPS, IPSECKEY, MX, NAPTR, NS, PTR, SOA, SPF, SRV, SSHFP, SVCB, TLSA and TXT"
            ),
            Problem::RoutingType(record_type) => write!(
                f,
                "{record_type} records have no routing policy; A, AAAA, CNAME, MX, SRV and TXT may"
            ),
            Problem::RoutingItems(what) => write!(f, "the routing policy has {what}"),
            Problem::RoutingLocation(location) => {
                write!(f, "two items of the routing policy are for the location `{location}`")
            }
            Problem::Weight(weight) => write!(f, "the weight {weight} is not a number from 0 up"),
            Problem::Trickle(share) => {
                write!(f, "the trickleTraffic {share} is not a number from 0 to 1")
            }
            Problem::DataAndRouting => {
                f.write_str("a record set has rrdatas or a routingPolicy, not both")
            }
            Problem::WildcardNs => f.write_str("a wildcard name has no NS records"),
            Problem::NotTheRulesName(name) => {
                write!(f, "the name is not the dnsName `{name}` of the rule")
            }
            Problem::NotInLocalData(record_type) => {
                write!(f, "local data holds no {record_type} records")
            }
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

struct Encoded<'t> {
    names: Vec<u8>,
    wire: Vec<u8>,
    sets: Vec<EncodedSet>,
    routing: Vec<Routing>,
    targets: &'t mut Targets,
}

/// Compiles the record sets of the zone with this apex. SOA and NS records at the apex are added
/// where the list has none.
pub(crate) fn zone(
    link: &SelfLink,
    apex: &Name,
    record_sets: &[ResourceRecordSet],
    targets: &mut Targets,
) -> Result<Zone, Vec<ZoneError>> {
    build(link, apex, record_sets, Holds::Zone, targets)
}

/// Compiles the local data of a response policy rule: one name without anything around it.
pub(crate) fn local_data(
    link: &SelfLink,
    name: &Name,
    record_sets: &[ResourceRecordSet],
) -> Result<Zone, Vec<ZoneError>> {
    // Routing policies are for zones; the rule's record sets have none.
    build(link, name, record_sets, Holds::LocalData, &mut Targets::default())
}

/// For what record sets are compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Zone,
    LocalData,
}

fn build(
    link: &SelfLink,
    apex: &Name,
    record_sets: &[ResourceRecordSet],
    holds: Holds,
    targets: &mut Targets,
) -> Result<Zone, Vec<ZoneError>> {
    let mut errors = Vec::new();
    let mut encoded = Encoded {
        names: Vec::new(),
        wire: Vec::new(),
        sets: Vec::with_capacity(record_sets.len() + 2),
        routing: Vec::new(),
        targets,
    };
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
        let local = match holds {
            Holds::Zone => None,
            Holds::LocalData => local_problem(apex, set),
        };
        if let Some(problem) = local {
            errors.push(report(Some(position), None, problem));
        } else if let Err((rrdata, problem)) = encoded.push(apex, set, Some(position)) {
            errors.push(report(Some(position), rrdata, problem));
        }
    }
    let added = match holds {
        Holds::Zone => &[("NS", PRIMARY_NAME_SERVER), ("SOA", APEX_SOA)][..],
        Holds::LocalData => &[],
    };
    for (record_type, data) in added.iter().copied() {
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
                routing_policy: None,
            };
            if let Err((_, problem)) = encoded.push(apex, &set, None) {
                errors.push(report(None, None, problem));
            }
        }
    }
    let Encoded { names, wire, mut sets, routing, .. } = encoded;
    sets.sort_by(|a, b| names[a.name.clone()].cmp(&names[b.name.clone()]));
    let octets = names.len() + wire.len() + sets.len() * 11;
    let mut builder = Builder::new(apex, sets.len(), octets);
    let mut negative_soa = Vec::new();
    for group in sets.chunk_by(|a, b| names[a.name.clone()] == names[b.name.clone()]) {
        let name = &names[group[0].name.clone()];
        for (position, problem) in check_group(group, name, holds, name == apex.as_wire()) {
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
    builder.finish(negative_soa, routing).ok_or_else(|| vec![report(None, None, Problem::ZoneSize)])
}

/// What a name's record sets must not be beside each other.
fn check_group(
    group: &[EncodedSet],
    name: &[u8],
    holds: Holds,
    is_apex: bool,
) -> Vec<(Option<usize>, Problem)> {
    let mut problems = Vec::new();
    for (index, set) in group.iter().enumerate() {
        if group[..index].iter().any(|earlier| earlier.record_type == set.record_type) {
            problems.push((set.position, Problem::DuplicateRecordSet));
        }
        let single = matches!(set.record_type, RecordType::CNAME | RecordType::SOA);
        if single && set.count > 1 && set.count != ROUTED {
            problems.push((set.position, Problem::NotSingle(set.record_type)));
        }
        if set.record_type == RecordType::SOA && !is_apex {
            problems.push((set.position, Problem::SoaBelowApex));
        }
        // Wildcards are supported for all types but NS (the page on records of Cloud DNS).
        if set.record_type == RecordType::NS && name.starts_with(b"\x01*") {
            problems.push((set.position, Problem::WildcardNs));
        }
        // The apex of a zone has NS and SOA, so that a CNAME there is never alone.
        let others = (holds == Holds::Zone && is_apex)
            || group.iter().any(|other| other.record_type != RecordType::CNAME);
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

/// What a rule's local data must not be (`ResponsePolicyRule` in dns.v1).
fn local_problem(name: &Name, set: &ResourceRecordSet) -> Option<Problem> {
    if Name::parse(&set.name).is_ok_and(|own| own != *name) {
        return Some(Problem::NotTheRulesName(name.to_string()));
    }
    let record_type = set.record_type.parse().ok()?;
    let refused =
        matches!(record_type, RecordType::NS | RecordType::SOA) || set.routing_policy.is_some();
    refused.then_some(Problem::NotInLocalData(record_type))
}

impl Encoded<'_> {
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
                count: match set.routing_policy {
                    None => set.rrdatas.len() as u16, // bounded by RECORD_SET_OCTETS_MAX
                    Some(_) => ROUTED,
                },
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
        let ResourceRecordSet { name, record_type, ttl, rrdatas, routing_policy } = set;
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
        if let Some(policy) = routing_policy {
            let problem = (!rrdatas.is_empty()).then_some(Problem::DataAndRouting);
            let compiled =
                problem.map_or_else(|| routes::compile(known, *ttl, policy, self.targets), Err);
            let at = self.routing.len() as u32;
            self.routing.push(compiled.map_err(whole)?);
            self.wire.extend_from_slice(&at.to_be_bytes());
            return Ok(known);
        }
        if rrdatas.is_empty() {
            return Err(whole(Problem::NoData));
        }
        let begin = self.wire.len();
        let mut values = HashSet::new();
        for (position, text) in rrdatas.iter().enumerate() {
            let here = |problem| (Some(position), problem);
            let data = record(known, *ttl, text, &mut self.wire)
                .map_err(|why| here(Problem::Rdata(why)))?;
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

/// Appends one record, its owner a pointer to the question; says where its data begins.
pub(crate) fn record(
    record_type: RecordType,
    ttl: u32,
    text: &str,
    wire: &mut Vec<u8>,
) -> Result<usize, RdataError> {
    wire.extend_from_slice(&QUESTION_POINTER);
    wire.extend_from_slice(&record_type.0.to_be_bytes());
    wire.extend_from_slice(&[0, 1]); // class IN
    wire.extend_from_slice(&ttl.to_be_bytes());
    wire.extend_from_slice(&[0, 0]);
    let data = wire.len();
    rdata::encode(record_type, text, wire)?;
    let length = wire.len() - data;
    // `rdata::encode` refuses what is longer than 65535 octets.
    wire[data - 2..data].copy_from_slice(&(length as u16).to_be_bytes());
    Ok(data)
}

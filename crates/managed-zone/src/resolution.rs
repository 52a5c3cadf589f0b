//! The decision told to people and to other crates: plain data with its evidence.

use crate::Name;
use crate::asked::Asked;
use crate::decide::{CNAMES_MAX, Decision, End, Found, Step, decide};
use crate::nearest;
use crate::rdata::write_rdata;
use crate::record_type::{RecordType, ResponseCode};
use crate::snapshot::{Contents, Place, View};
use crate::zone::RecordSet;
use names::{NetworkId, Reason, SelfLink};
use serde::Serialize;
use std::fmt;
use std::net::Ipv4Addr;

/// How a name is resolved for a network, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resolution {
    /// The network that asks.
    pub network: NetworkId,
    /// The name asked for.
    pub name: String,
    /// The type asked for.
    pub record_type: RecordType,
    /// What the client gets.
    pub response_code: ResponseCode,
    /// Why there are no records.
    pub reason: Option<Reason>,
    /// The question's own name, then the targets of CNAME records.
    pub lookups: Vec<Lookup>,
    /// The answer section, in order.
    pub records: Vec<Record>,
    /// The SOA record of a negative answer.
    pub authority: Option<Record>,
}

/// One name through the resolution order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// The name.
    pub name: String,
    /// The network that asks, then the target networks of peering zones: each goes through the
    /// whole order again.
    pub hops: Vec<Hop>,
    /// What the last hop's zone has of the name.
    pub found: Match,
    /// Where this name is a CNAME: its target.
    pub cname: Option<String>,
    /// Names of the deciding zone that look much like a missing name.
    pub similar: Vec<String>,
    /// Zones that would have the name but that the last hop's network does not see, with those
    /// that do.
    pub elsewhere: Vec<Elsewhere>,
}

/// One network's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// As which network.
    pub network: NetworkId,
    /// The managed zones that the network sees and whose name is a suffix, the longest first; the
    /// first decides.
    pub candidates: Vec<Candidate>,
    /// What decides.
    pub chosen: Chosen,
}

/// A managed zone whose name is a suffix of the asked name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The zone.
    pub zone: SelfLink,
    /// Its `dnsName`.
    pub dns_name: String,
    /// The target network of a peering zone.
    pub peering: Option<NetworkId>,
}

/// What decides in a network (private-connectivity 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Chosen {
    /// A private zone.
    PrivateZone(Candidate),
    /// A peering zone; the next hop tells more.
    PeeringZone(Candidate),
    /// Compute Engine's internal names.
    #[serde(rename_all = "camelCase")]
    Internal {
        /// The internal zone.
        dns_name: String,
    },
    /// The public DNS.
    #[serde(rename_all = "camelCase")]
    Public {
        /// The public zone.
        dns_name: String,
    },
}

/// What a zone has of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Match {
    /// The name itself.
    #[serde(rename_all = "camelCase")]
    Name {
        /// The types that it has.
        types: Vec<RecordType>,
    },
    /// Nothing of its own, but names below it.
    EmptyNonTerminal,
    /// A wildcard stands in.
    #[serde(rename_all = "camelCase")]
    Wildcard {
        /// The wildcard's name.
        wildcard: String,
        /// The types that it has.
        types: Vec<RecordType>,
    },
    /// Nothing.
    #[serde(rename_all = "camelCase")]
    Nothing {
        /// The longest existing ancestor; a wildcard would have to stand directly below it.
        closest_encloser: String,
    },
    /// It was not looked for: the chain of peering zones is too long.
    NotAsked,
}

/// A zone that another network sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Elsewhere {
    /// The zone.
    pub zone: SelfLink,
    /// Its `dnsName`.
    pub dns_name: String,
    /// Who sees it.
    pub networks: Vec<NetworkId>,
}

/// A record as zone files write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Owner.
    pub name: String,
    /// Seconds.
    pub ttl: u32,
    /// Type.
    #[serde(rename = "type")]
    pub record_type: RecordType,
    /// Data in presentation format.
    pub data: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", self.name, self.ttl, self.record_type, self.data)
    }
}

impl Resolution {
    /// The IPv4 addresses in the answer, in order: what a client would connect to.
    pub fn addresses(&self) -> Vec<Ipv4Addr> {
        let of_type = self.records.iter().filter(|record| record.record_type == RecordType::A);
        of_type.filter_map(|record| record.data.parse().ok()).collect()
    }

    /// The managed zone that decided last, where it was one.
    pub fn zone(&self) -> Option<&SelfLink> {
        match &self.lookups.last()?.hops.last()?.chosen {
            Chosen::PrivateZone(candidate) | Chosen::PeeringZone(candidate) => {
                Some(&candidate.zone)
            }
            Chosen::Internal { .. } | Chosen::Public { .. } => None,
        }
    }
}

impl View<'_> {
    /// Resolves a name as the resolver of this network does, and tells why: the same decision as
    /// [`View::answer`].
    pub fn resolve(self, name: &Name, record_type: RecordType) -> Resolution {
        let mut asked = Box::new(Asked::new());
        asked.set(name.as_wire());
        let decision = decide(self, &mut asked, record_type);
        let mut lookups = Vec::new();
        let mut current = name.clone();
        for step in decision.steps() {
            let mut lookup = self.lookup(&decision, step, &current);
            if let Some(target) = followed(step, record_type) {
                lookup.cname = Some(target.to_string());
                current = target;
            }
            lookups.push(lookup);
        }
        let response_code = match decision.end {
            End::Records | End::AllRecords | End::NoData => ResponseCode::NoError,
            End::NxDomain => ResponseCode::NxDomain,
            End::PeeringTooDeep | End::CnameChain => ResponseCode::ServFail,
        };
        Resolution {
            network: self.network().clone(),
            name: name.to_string(),
            record_type,
            response_code,
            reason: decision.reason(self.snapshot),
            lookups,
            records: answer_records(&decision, name, record_type),
            authority: self.authority(&decision),
        }
    }

    /// The answer section alone, without the evidence: for log lines.
    pub fn records(self, name: &Name, record_type: RecordType) -> Vec<Record> {
        let mut asked = Box::new(Asked::new());
        asked.set(name.as_wire());
        answer_records(&decide(self, &mut asked, record_type), name, record_type)
    }

    fn lookup(self, decision: &Decision<'_>, step: &Step<'_>, name: &Name) -> Lookup {
        let mut asked = Box::new(Asked::new());
        asked.set(name.as_wire());
        let mut hops = Vec::new();
        let mut network = step.from;
        for zone in &decision.peerings[step.peered[0]..step.peered[1]] {
            hops.push(self.hop(network, *zone, &asked));
            if let Contents::Peering(target) = &self.snapshot.zones[*zone as usize].contents {
                network = *target;
            }
        }
        hops.push(self.hop(network, step.zone, &asked));
        let types =
            |node: &crate::zone::Node<'_>| node.record_sets().map(|set| set.record_type).collect();
        let found = match &step.found {
            Found::Name(node) if node.is_empty_non_terminal() => Match::EmptyNonTerminal,
            Found::Name(node) => Match::Name { types: types(node) },
            Found::Wildcard(node) => Match::Wildcard {
                wildcard: Name::from_wire(node.name).to_string(),
                types: types(node),
            },
            Found::Nothing { encloser } => Match::Nothing {
                closest_encloser: Name::from_wire(asked.suffix(*encloser)).to_string(),
            },
            Found::Unasked => Match::NotAsked,
        };
        let missing = matches!(step.found, Found::Nothing { .. });
        let entry = &self.snapshot.zones[step.zone as usize];
        let similar = match (&entry.place, &entry.contents) {
            (Place::Managed(..), Contents::Records(zone)) if missing => nearest::names(zone, name),
            _ => Vec::new(),
        };
        let elsewhere = if missing { self.elsewhere(network, name) } else { Vec::new() };
        Lookup { name: name.to_string(), hops, found, cname: None, similar, elsewhere }
    }

    fn hop(self, network: u32, decided: u32, asked: &Asked) -> Hop {
        let held = &self.snapshot.networks[network as usize];
        let zones = held.managed.matching(&self.snapshot.zones, asked);
        let candidates = zones.filter_map(|zone| self.candidate(zone)).collect();
        let entry = &self.snapshot.zones[decided as usize];
        let dns_name = entry.dns_name.to_string();
        let chosen = match (self.candidate(decided), &entry.contents, &entry.place) {
            (Some(candidate), Contents::Peering(_), _) => Chosen::PeeringZone(candidate),
            (Some(candidate), Contents::Records(_), _) => Chosen::PrivateZone(candidate),
            (None, _, Place::Internal) => Chosen::Internal { dns_name },
            (None, ..) => Chosen::Public { dns_name },
        };
        Hop { network: held.id.clone(), candidates, chosen }
    }

    fn candidate(self, zone: u32) -> Option<Candidate> {
        let entry = &self.snapshot.zones[zone as usize];
        let Place::Managed(link, _) = &entry.place else { return None };
        let peering = match &entry.contents {
            Contents::Peering(target) => Some(self.snapshot.networks[*target as usize].id.clone()),
            Contents::Records(_) => None,
        };
        Some(Candidate { zone: link.clone(), dns_name: entry.dns_name.to_string(), peering })
    }

    /// Near misses across the border of a network.
    fn elsewhere(self, network: u32, name: &Name) -> Vec<Elsewhere> {
        let unseen = self.snapshot.zones.iter().filter_map(|entry| match &entry.place {
            Place::Managed(link, seen_by)
                if !seen_by.contains(&network) && name.is_within(&entry.dns_name) =>
            {
                let id = |index: &u32| self.snapshot.networks[*index as usize].id.clone();
                Some(Elsewhere {
                    zone: link.clone(),
                    dns_name: entry.dns_name.to_string(),
                    networks: seen_by.iter().map(id).collect(),
                })
            }
            _ => None,
        });
        unseen.collect()
    }

    fn authority(self, decision: &Decision<'_>) -> Option<Record> {
        if !matches!(decision.end, End::NoData | End::NxDomain) {
            return None;
        }
        let entry = &self.snapshot.zones[decision.last().zone as usize];
        let Contents::Records(zone) = &entry.contents else { return None };
        let wire = [&crate::zone::QUESTION_POINTER[..], zone.negative_soa()].concat();
        let soa = RecordSet { record_type: RecordType::SOA, count: 1, wire: &wire };
        let mut records = Vec::new();
        push_records(&entry.dns_name.to_string(), &soa, &mut records);
        records.pop()
    }
}

/// The answer section of a decision.
fn answer_records(decision: &Decision<'_>, name: &Name, record_type: RecordType) -> Vec<Record> {
    let mut records = Vec::new();
    if matches!(decision.end, End::PeeringTooDeep | End::CnameChain) {
        return records;
    }
    let mut current = name.clone();
    for step in decision.steps() {
        let owner = current.to_string();
        if let (End::AllRecords, Found::Name(node) | Found::Wildcard(node)) =
            (decision.end, step.found)
        {
            node.record_sets().for_each(|set| push_records(&owner, &set, &mut records));
        }
        if let Some(set) = &step.answer {
            push_records(&owner, set, &mut records);
        }
        if let Some(target) = followed(step, record_type) {
            current = target;
        }
    }
    records
}

/// The target of the CNAME record that a step followed.
fn followed(step: &Step<'_>, record_type: RecordType) -> Option<Name> {
    let set = step.answer.filter(|set| set.record_type == RecordType::CNAME)?;
    let (_, target) = set.records().next()?;
    (record_type != RecordType::CNAME).then(|| Name::from_wire(target))
}

fn push_records(owner: &str, set: &RecordSet<'_>, records: &mut Vec<Record>) {
    for (ttl, wire) in set.records() {
        let mut data = String::new();
        // Writing to a `String` does not fail.
        let _ = write_rdata(set.record_type, wire, &mut data);
        records.push(Record { name: owner.to_owned(), ttl, record_type: set.record_type, data });
    }
}

/// The lines that `postern resolve` and `explain` print.
impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} from {}", self.name, self.record_type, self.network)?;
        for lookup in &self.lookups {
            write_lookup(lookup, f)?;
        }
        match self.reason {
            None => writeln!(f, "{}:", self.response_code)?,
            Some(reason) => writeln!(f, "{}: {reason}: {}", self.response_code, reason.summary())?,
        }
        for record in &self.records {
            writeln!(f, "  {record}")?;
        }
        if let Some(soa) = &self.authority {
            writeln!(f, "  authority: {soa}")?;
        }
        match self.reason {
            Some(Reason::DnsCnameChain) => {
                writeln!(f, "  fix: {} The limit is {CNAMES_MAX}.", Reason::DnsCnameChain.fix())
            }
            Some(reason) => writeln!(f, "  fix: {}", reason.fix()),
            None => Ok(()),
        }
    }
}

fn write_lookup(lookup: &Lookup, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "  {}", lookup.name)?;
    for hop in &lookup.hops {
        write!(f, "    as {}: ", hop.network)?;
        match &hop.chosen {
            Chosen::PrivateZone(zone) => {
                write!(f, "private zone {} (`{}`)", zone.zone, zone.dns_name)?;
            }
            Chosen::PeeringZone(zone) => {
                write!(f, "peering zone {} (`{}`)", zone.zone, zone.dns_name)?;
                if let Some(target) = &zone.peering {
                    write!(f, " to {target}")?;
                }
            }
            Chosen::Internal { dns_name } => {
                write!(f, "no managed zone matches; internal DNS `{dns_name}`")?;
            }
            Chosen::Public { dns_name } => {
                write!(f, "no managed zone matches; public DNS `{dns_name}`")?;
            }
        }
        for (position, passed) in hop.candidates.iter().skip(1).enumerate() {
            let before = if position == 0 { "; longer than " } else { ", " };
            write!(f, "{before}`{}` of {}", passed.dns_name, passed.zone)?;
        }
        writeln!(f)?;
    }
    let list =
        |types: &[RecordType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match &lookup.found {
        Match::Name { types } => writeln!(f, "    has {}", list(types))?,
        Match::EmptyNonTerminal => writeln!(f, "    exists only through names below it")?,
        Match::Wildcard { wildcard, types } => {
            writeln!(f, "    wildcard `{wildcard}` has {}", list(types))?;
        }
        Match::Nothing { closest_encloser } => {
            writeln!(
                f,
                "    does not exist; the closest name is `{closest_encloser}`, without a wildcard below it"
            )?;
        }
        Match::NotAsked => {
            writeln!(f, "    not looked for: this is the third peering zone on the way")?;
        }
    }
    if let Some(target) = &lookup.cname {
        writeln!(f, "    CNAME, followed to `{target}`")?;
    }
    if !lookup.similar.is_empty() {
        writeln!(f, "    near: {}", lookup.similar.join(", "))?;
    }
    for Elsewhere { zone, dns_name, networks } in &lookup.elsewhere {
        let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
        let networks =
            if networks.is_empty() { "no network".to_owned() } else { networks.join(", ") };
        writeln!(f, "    not seen from here: {zone} (`{dns_name}`), visible to {networks}")?;
    }
    Ok(())
}

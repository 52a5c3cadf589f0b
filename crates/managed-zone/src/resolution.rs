//! The decision told to people and to other crates: plain data with its evidence.

use crate::Name;
use crate::asked::Asked;
use crate::circumstances::Circumstances;
use crate::decide::{Decision, End, Found, PickedSet, Step, decide};
use crate::nearest;
use crate::rdata::write_rdata;
use crate::record_type::{RecordType, ResponseCode};
use crate::snapshot::{Contents, Place, View};
use crate::zone::RecordSet;
use names::{NetworkId, Reason, SelfLink};
use serde::Serialize;
use slice::dns::NameServer;
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
    /// What the client gets; where name servers are asked, it depends on them.
    pub response_code: ResponseCode,
    /// Why there are no records.
    pub reason: Option<Reason>,
    /// The question's own name, then the targets of CNAME records.
    pub lookups: Vec<Lookup>,
    /// The answer section, in order.
    pub records: Vec<Record>,
    /// The SOA record of a negative answer.
    pub authority: Option<Record>,
    /// What the same question gets in other networks that have something of their own to say to
    /// it. A view knows itself only; whoever knows all networks fills this in.
    pub split_horizon: Vec<Horizon>,
}

/// What another network's clients get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Horizon {
    /// The networks.
    pub networks: Vec<NetworkId>,
    /// The zone or policy that decides there.
    pub decided_by: SelfLink,
    /// What the client gets.
    pub response_code: ResponseCode,
    /// Data of the records, in order.
    pub records: Vec<String>,
    /// Name servers that answer there.
    pub name_servers: Vec<Ipv4Addr>,
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
    /// Which records of a routing policy were taken, and what else there is.
    pub routing: Vec<RoutingItem>,
    /// A delegation that is none: NS records at an ancestor of the name below the zone's apex.
    pub no_delegation: Option<String>,
    /// Where this name is a CNAME: its target.
    pub cname: Option<String>,
    /// Names of the deciding zone that look much like a missing name.
    pub similar: Vec<String>,
    /// Zones that would have the name but that the last hop's network does not see, with those
    /// that do.
    pub elsewhere: Vec<Elsewhere>,
}

/// An item of a routing policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingItem {
    /// `weight 2`, a location, `primary` or `backup LOCATION`.
    pub item: String,
    /// Data of its records.
    pub records: Vec<String>,
    /// Was it taken, and why?
    pub chosen: Option<String>,
}

/// One network's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// As which network.
    pub network: NetworkId,
    /// The rule of the network's response policy that exempts the name from it.
    pub bypassed: Option<PolicyRule>,
    /// The managed zones that the network sees and whose name is a suffix, the longest first; the
    /// first decides unless a policy comes before it.
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
    /// The name servers of a forwarding zone.
    pub name_servers: Vec<NameServer>,
}

/// A rule of a response policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRule {
    /// The response policy.
    pub policy: SelfLink,
    /// `ruleName`.
    pub rule: String,
    /// `dnsName`.
    pub dns_name: String,
}

/// What decides in a network (private-connectivity 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Chosen {
    /// The outbound server policy; nothing below it is consulted.
    #[serde(rename_all = "camelCase")]
    ServerPolicy {
        /// The policy.
        policy: SelfLink,
        /// Its alternative name servers.
        name_servers: Vec<NameServer>,
    },
    /// The local data of a response policy rule.
    ResponsePolicy(PolicyRule),
    /// A private zone.
    PrivateZone(Candidate),
    /// A forwarding zone.
    ForwardingZone(Candidate),
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
    /// It was not looked for: the chain of peering zones is too long, or ends nowhere.
    NotAsked,
    /// Name servers have to be asked.
    Forwarded,
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

    /// The managed zone or policy that decided last, where it was one.
    pub fn zone(&self) -> Option<&SelfLink> {
        match &self.lookups.last()?.hops.last()?.chosen {
            Chosen::PrivateZone(candidate)
            | Chosen::ForwardingZone(candidate)
            | Chosen::PeeringZone(candidate) => Some(&candidate.zone),
            Chosen::ServerPolicy { policy, .. } => Some(policy),
            Chosen::ResponsePolicy(rule) => Some(&rule.policy),
            Chosen::Internal { .. } | Chosen::Public { .. } => None,
        }
    }

    /// The name servers that have to be asked, and as which network.
    pub fn name_servers(&self) -> Option<(&NetworkId, &[NameServer])> {
        let hop = self.lookups.last()?.hops.last()?;
        match &hop.chosen {
            Chosen::ServerPolicy { name_servers, .. }
            | Chosen::ForwardingZone(Candidate { name_servers, .. }) => {
                Some((&hop.network, name_servers))
            }
            _ => None,
        }
    }

    /// The same as another network's clients see it; nothing where that network has nothing of its
    /// own to say.
    pub fn horizon(&self) -> Option<Horizon> {
        let decided_by = self.zone()?.clone();
        let servers = self.name_servers().map_or(&[][..], |(_, servers)| servers);
        Some(Horizon {
            networks: vec![self.network.clone()],
            decided_by,
            response_code: self.response_code,
            records: self.records.iter().map(|record| record.data.clone()).collect(),
            name_servers: servers.iter().map(|server| server.address).collect(),
        })
    }
}

impl View<'_> {
    /// Resolves a name as the resolver of this network does, and tells why: the same decision as
    /// [`View::answer`].
    pub fn resolve(
        self,
        name: &Name,
        record_type: RecordType,
        now: &dyn Circumstances,
    ) -> Resolution {
        let mut asked = Box::new(Asked::new());
        asked.set(name.as_wire());
        let decision = decide(self, &mut asked, record_type, now);
        let mut lookups = Vec::new();
        let mut current = name.clone();
        for (index, step) in decision.steps().enumerate() {
            let mut lookup = self.lookup(&decision, index, step, &current);
            if let Some(target) = followed(&decision, index, step, record_type) {
                lookup.cname = Some(target.to_string());
                current = target;
            }
            lookups.push(lookup);
        }
        Resolution {
            network: self.network().clone(),
            name: name.to_string(),
            record_type,
            response_code: decision.response_code(),
            reason: decision.reason(self.snapshot),
            lookups,
            records: answer_records(&decision, name, record_type),
            authority: self.authority(&decision),
            split_horizon: Vec::new(),
        }
    }

    /// The answer section alone, without the evidence: for log lines.
    pub fn records(
        self,
        name: &Name,
        record_type: RecordType,
        now: &dyn Circumstances,
    ) -> Vec<Record> {
        let mut asked = Box::new(Asked::new());
        asked.set(name.as_wire());
        answer_records(&decide(self, &mut asked, record_type, now), name, record_type)
    }

    fn lookup(self, decision: &Decision<'_>, index: usize, step: &Step<'_>, name: &Name) -> Lookup {
        let mut asked = Box::new(Asked::new());
        asked.set(name.as_wire());
        let mut hops = Vec::new();
        let mut network = step.from;
        for zone in &decision.peerings[step.peered[0]..step.peered[1]] {
            hops.push(self.hop(network, *zone, &asked));
            if let Contents::Peering(Some(target)) = &self.snapshot.zones[*zone as usize].contents {
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
            Found::Unasked | Found::Deactivated => Match::NotAsked,
            Found::Forwarded => Match::Forwarded,
        };
        let missing = matches!(step.found, Found::Nothing { .. });
        let entry = &self.snapshot.zones[step.zone as usize];
        let similar = match (&entry.place, &entry.contents) {
            (Place::Managed(..), Contents::Records(zone)) if missing => nearest::names(zone, name),
            _ => Vec::new(),
        };
        let elsewhere = if missing { self.elsewhere(network, name) } else { Vec::new() };
        let no_delegation = match &entry.contents {
            Contents::Records(zone) if missing => delegation(zone, &entry.dns_name, &asked),
            _ => None,
        };
        let routing = self.routing(decision, index, step);
        let name = name.to_string();
        Lookup { name, hops, found, routing, no_delegation, cname: None, similar, elsewhere }
    }

    /// The items of the routing policy that a step went by.
    fn routing(self, decision: &Decision<'_>, index: usize, step: &Step<'_>) -> Vec<RoutingItem> {
        let Contents::Records(zone) = &self.snapshot.zones[step.zone as usize].contents else {
            return Vec::new();
        };
        let (Found::Name(node) | Found::Wildcard(node)) = &step.found else { return Vec::new() };
        let mut story = Vec::new();
        let own = decision.picked.iter().filter(|one| one.step == index);
        for PickedSet { record_type, picked, .. } in own {
            let Some(routing) = node.record_set(*record_type).and_then(|set| zone.routing(&set))
            else {
                continue;
            };
            for (position, (item, held)) in routing.items().into_iter().enumerate() {
                let mut records = Vec::new();
                for (wire, _) in &held.records {
                    let set = RecordSet { record_type: *record_type, count: 1, wire };
                    push_records("", &set, &mut records);
                }
                let chosen = picked.choice.why(position);
                let records = records.into_iter().map(|record| record.data).collect();
                story.push(RoutingItem { item, records, chosen });
            }
        }
        story
    }

    fn hop(self, network: u32, decided: u32, asked: &Asked) -> Hop {
        let held = &self.snapshot.networks[network as usize];
        let zones = &self.snapshot.zones;
        let candidates =
            held.managed.matching(zones, asked).filter_map(|zone| self.candidate(zone)).collect();
        let rule = held.rules.as_ref().filter(|_| held.alternative.is_none());
        let rule = rule.and_then(|rules| rules.matching(zones, asked));
        let bypassed = rule.filter(|rule| *rule != decided).and_then(|rule| self.policy_rule(rule));
        let entry = &zones[decided as usize];
        let dns_name = entry.dns_name.to_string();
        let chosen = match (&entry.place, &entry.contents) {
            (Place::ServerPolicy(policy), _) => Chosen::ServerPolicy {
                policy: policy.clone(),
                name_servers: name_servers(&entry.contents),
            },
            (Place::Internal, _) => Chosen::Internal { dns_name },
            _ => match (self.policy_rule(decided), self.candidate(decided), &entry.contents) {
                (Some(rule), ..) => Chosen::ResponsePolicy(rule),
                (_, Some(candidate), Contents::Peering(_)) => Chosen::PeeringZone(candidate),
                (_, Some(candidate), Contents::Forwarding(_)) => Chosen::ForwardingZone(candidate),
                (_, Some(candidate), _) => Chosen::PrivateZone(candidate),
                (_, None, _) => Chosen::Public { dns_name },
            },
        };
        Hop { network: held.id.clone(), bypassed, candidates, chosen }
    }

    fn policy_rule(self, index: u32) -> Option<PolicyRule> {
        let entry = &self.snapshot.zones[index as usize];
        let Place::ResponsePolicyRule { policy, rule, wildcard } = &entry.place else {
            return None;
        };
        let dns_name = match (wildcard, entry.dns_name.as_wire()) {
            (false, _) => entry.dns_name.to_string(),
            (true, [0]) => "*.".to_owned(),
            (true, _) => format!("*.{}", entry.dns_name),
        };
        Some(PolicyRule { policy: policy.clone(), rule: rule.to_string(), dns_name })
    }

    fn candidate(self, zone: u32) -> Option<Candidate> {
        let entry = &self.snapshot.zones[zone as usize];
        let Place::Managed(link, _) = &entry.place else { return None };
        let peering = match &entry.contents {
            Contents::Peering(Some(target)) => {
                Some(self.snapshot.networks[*target as usize].id.clone())
            }
            _ => None,
        };
        Some(Candidate {
            zone: link.clone(),
            dns_name: entry.dns_name.to_string(),
            peering,
            name_servers: name_servers(&entry.contents),
        })
    }

    /// Near misses across the border of a network.
    fn elsewhere(self, network: u32, name: &Name) -> Vec<Elsewhere> {
        let unseen = self.snapshot.zones.iter().filter_map(|entry| match &entry.place {
            Place::Managed(link, seen_by)
                if !seen_by.contains(&network)
                    && !matches!(entry.contents, Contents::Peering(_))
                    && name.is_within(&entry.dns_name) =>
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
        let mut unseen: Vec<Elsewhere> = unseen.collect();
        // A reverse lookup zone stands here once for each network that sees it.
        unseen.dedup();
        unseen
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

fn name_servers(contents: &Contents) -> Vec<NameServer> {
    match contents {
        Contents::Forwarding(servers) => servers.to_vec(),
        _ => Vec::new(),
    }
}

/// The nearest ancestor, or the name itself, that has NS records below the apex: they would
/// delegate in a public zone, and are but records in a private one (4.2, unconfirmed).
fn delegation(zone: &crate::zone::Zone, apex: &Name, asked: &Asked) -> Option<String> {
    (0..=asked.labels())
        .map(|skipped| (asked.hash(skipped), asked.suffix(skipped)))
        .take_while(|(_, name)| name.len() > apex.as_wire().len())
        .find(|(hash, name)| {
            zone.node(*hash, name).is_some_and(|node| node.record_set(RecordType::NS).is_some())
        })
        .map(|(_, name)| Name::from_wire(name).to_string())
}

/// The answer section of a decision.
fn answer_records(decision: &Decision<'_>, name: &Name, record_type: RecordType) -> Vec<Record> {
    let mut records = Vec::new();
    if decision.response_code() == ResponseCode::ServFail {
        return records;
    }
    let mut current = name.clone();
    for (index, step) in decision.steps().enumerate() {
        let owner = current.to_string();
        for set in decision.sets(index, step) {
            push_records(&owner, &set, &mut records);
        }
        if let Some(target) = followed(decision, index, step, record_type) {
            current = target;
        }
    }
    records
}

/// The target of the CNAME record that a step followed.
fn followed(
    decision: &Decision<'_>,
    index: usize,
    step: &Step<'_>,
    record_type: RecordType,
) -> Option<Name> {
    if matches!(record_type, RecordType::CNAME | RecordType::ANY) {
        return None;
    }
    let set = decision.sets(index, step).next()?;
    let (_, target) = set.records().next().filter(|_| set.record_type == RecordType::CNAME)?;
    Some(Name::from_wire(target))
}

fn push_records(owner: &str, set: &RecordSet<'_>, records: &mut Vec<Record>) {
    for (ttl, wire) in set.records() {
        let mut data = String::new();
        // Writing to a `String` does not fail.
        let _ = write_rdata(set.record_type, wire, &mut data);
        records.push(Record { name: owner.to_owned(), ttl, record_type: set.record_type, data });
    }
}

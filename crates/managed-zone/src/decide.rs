//! The one decision: which zone answers a name for a network, and with what
//! (private-connectivity 4.1, 4.2). [`View::answer`](crate::View::answer) writes it on the wire,
//! [`View::resolve`](crate::View::resolve) tells it to people. It allocates only where CNAME
//! records are followed.
//!
//! The order, as far as it goes today: managed zones of the network by longest suffix, private and
//! peering zones together; Compute Engine internal names; public DNS. Outbound server policies and
//! response policies will stand before the managed zones.

use crate::asked::Asked;
use crate::name::wire_length;
use crate::record_type::RecordType;
use crate::snapshot::{Contents, Place, Snapshot, View, reason_of_absence};
use crate::zone::{Node, RecordSet, Zone};
use names::Reason;

/// DNS peering is transitive through a single hop: at most two peering zones, three networks, lie
/// between a client and the records (4.2; SERVFAIL beyond is unconfirmed).
pub(crate) const PEERINGS_MAX: usize = 2;
/// How many CNAME records are followed (4.2, unconfirmed).
pub(crate) const CNAMES_MAX: usize = 16;

/// How a question ends, and by which steps.
pub(crate) struct Decision<'s> {
    /// The question's own name.
    pub(crate) first: Step<'s>,
    /// The targets of CNAME records, one after the other.
    pub(crate) chain: Vec<Step<'s>>,
    /// The peering zones passed on the way; a step says which of them lie before it.
    pub(crate) peerings: [u32; PEERINGS_MAX],
    pub(crate) end: End,
}

/// One name through the order.
#[derive(Clone, Copy)]
pub(crate) struct Step<'s> {
    /// As which network the name's lookup began.
    pub(crate) from: u32,
    /// How many of [`Decision::peerings`] were passed when it began, and when it ended.
    pub(crate) peered: [usize; 2],
    /// The zone that decided.
    pub(crate) zone: u32,
    /// Octets of the name.
    pub(crate) name_length: usize,
    pub(crate) found: Found<'s>,
    /// The record set that is part of the answer: a CNAME that was followed, or the last one.
    pub(crate) answer: Option<RecordSet<'s>>,
}

/// What the deciding zone has of a name.
#[derive(Clone, Copy)]
pub(crate) enum Found<'s> {
    /// The name itself, perhaps an empty non-terminal.
    Name(Node<'s>),
    /// The wildcard at its closest encloser (RFC 4592, 3.3.1).
    Wildcard(Node<'s>),
    /// Neither; how many labels the closest encloser is shorter.
    Nothing { encloser: usize },
    /// It was not looked for: a third peering zone.
    Unasked,
}

/// The ways in which a question can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last step's record set.
    Records,
    /// Every record set of the last step's node (QTYPE ANY).
    AllRecords,
    NoData,
    NxDomain,
    PeeringTooDeep,
    CnameChain,
}

impl<'s> Decision<'s> {
    /// The step that decided.
    pub(crate) fn last(&self) -> &Step<'s> {
        self.chain.last().unwrap_or(&self.first)
    }

    /// All steps in order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step<'s>> {
        std::iter::once(&self.first).chain(&self.chain)
    }

    /// Why there are no records.
    pub(crate) fn reason(&self, snapshot: &Snapshot) -> Option<Reason> {
        match self.end {
            End::Records | End::AllRecords => None,
            End::NoData => Some(Reason::DnsNodata),
            End::NxDomain => {
                Some(reason_of_absence(&snapshot.zones[self.last().zone as usize].place))
            }
            End::PeeringTooDeep => Some(Reason::DnsPeeringTooDeep),
            End::CnameChain => Some(Reason::DnsCnameChain),
        }
    }
}

/// Answers the asked name for a network. `asked` holds the last CNAME target afterwards.
pub(crate) fn decide<'s>(
    view: View<'s>,
    asked: &mut Asked,
    record_type: RecordType,
) -> Decision<'s> {
    let mut walk =
        Walk { snapshot: view.snapshot, network: view.network, peerings: [0; 2], peered: 0 };
    let mut first = walk.step(asked);
    let mut next = walk.end(&mut first, record_type);
    let mut chain = Vec::new();
    let end = loop {
        match next {
            Next::End(end) => break end,
            Next::Cname(_) if chain.len() == CNAMES_MAX => break End::CnameChain,
            Next::Cname(target) => {
                // The zone was compiled: the data of a CNAME record is a name.
                asked.set(target);
                let mut step = walk.step(asked);
                next = walk.end(&mut step, record_type);
                chain.push(step);
            }
        }
    };
    Decision { first, chain, peerings: walk.peerings, end }
}

enum Next<'s> {
    End(End),
    Cname(&'s [u8]),
}

/// Where the resolution stands. A CNAME target is looked up by the full order from the same
/// network, which is the peering zone's target once a peering zone was passed (unconfirmed).
struct Walk<'s> {
    snapshot: &'s Snapshot,
    network: u32,
    peerings: [u32; PEERINGS_MAX],
    peered: usize,
}

impl<'s> Walk<'s> {
    /// One name through the whole order.
    fn step(&mut self, asked: &Asked) -> Step<'s> {
        let (from, begin) = (self.network, self.peered);
        let (zone, found) = loop {
            let network = &self.snapshot.networks[self.network as usize];
            let zones = &self.snapshot.zones;
            // No fall-through: the longest managed zone decides, whatever it has.
            if let Some(index) = network.managed.matching(zones, asked).next() {
                match &zones[index as usize].contents {
                    Contents::Records(zone) => {
                        break (index, look_up(zone, index, self.snapshot, asked));
                    }
                    Contents::Peering(_) if self.peered == PEERINGS_MAX => {
                        break (index, Found::Unasked);
                    }
                    Contents::Peering(target) => {
                        self.peerings[self.peered] = index;
                        self.peered += 1;
                        self.network = *target;
                        continue;
                    }
                }
            }
            if let Some(decided) = self.outside(asked) {
                break decided;
            }
        };
        let peered = [begin, self.peered];
        Step { from, peered, zone, name_length: asked.length(), found, answer: None }
    }

    /// Steps 4 and 5. An internal name that does not exist is looked for in the public DNS, whose
    /// root answers every name.
    fn outside(&self, asked: &Asked) -> Option<(u32, Found<'s>)> {
        let snapshot = self.snapshot;
        let internal = &snapshot.networks[self.network as usize].internal;
        let mut decided = None;
        for apexes in [internal, &snapshot.public] {
            let Some(index) = apexes.matching(&snapshot.zones, asked).next() else { continue };
            if let Contents::Records(zone) = &snapshot.zones[index as usize].contents {
                let found = look_up(zone, index, snapshot, asked);
                decided = Some((index, found));
                if !matches!(found, Found::Nothing { .. }) {
                    break;
                }
            }
        }
        decided
    }

    /// What a step's finding means for the question.
    fn end(&self, step: &mut Step<'s>, record_type: RecordType) -> Next<'s> {
        let node = match step.found {
            Found::Unasked => return Next::End(End::PeeringTooDeep),
            Found::Nothing { .. } => return Next::End(End::NxDomain),
            Found::Name(node) | Found::Wildcard(node) => node,
        };
        if record_type == RecordType::ANY {
            let end = if node.is_empty_non_terminal() { End::NoData } else { End::AllRecords };
            return Next::End(end);
        }
        step.answer = node.record_set(record_type);
        if step.answer.is_some() {
            return Next::End(End::Records);
        }
        let cname = node.record_set(RecordType::CNAME);
        let target = cname.and_then(|set| set.records().next()).map(|(_, data)| data);
        match target.filter(|target| wire_length(target) == Some(target.len())) {
            Some(target) => {
                step.answer = cname;
                Next::Cname(target)
            }
            None => Next::End(End::NoData),
        }
    }
}

/// A name in one zone (RFC 4592): itself, an empty non-terminal included; else the wildcard at the
/// closest encloser; else nothing.
fn look_up<'s>(zone: &'s Zone, index: u32, snapshot: &Snapshot, asked: &Asked) -> Found<'s> {
    if let Some(node) = zone.node(asked.hash(0), asked.suffix(0)) {
        return Found::Name(node);
    }
    let apex = snapshot.zones[index as usize].dns_name.as_wire().len();
    for skipped in 1..=asked.labels() {
        let (hash, suffix) = (asked.hash(skipped), asked.suffix(skipped));
        if zone.node(hash, suffix).is_some() {
            return match zone.wildcard(hash, suffix) {
                Some(node) => Found::Wildcard(node),
                None => Found::Nothing { encloser: skipped },
            };
        }
        if suffix.len() <= apex {
            break; // the apex exists always, so this is never reached
        }
    }
    Found::Nothing { encloser: asked.labels() }
}

impl View<'_> {
    /// Is the zone a managed one, and which kind of target do Cloud DNS logs call it?
    pub(crate) fn target_type(&self, zone: u32) -> &'static str {
        let entry = &self.snapshot.zones[zone as usize];
        match (&entry.place, &entry.contents) {
            (Place::Managed(..), Contents::Records(_)) => "private-zone",
            (Place::Managed(..), Contents::Peering(_)) => "peering-zone",
            (Place::Internal, _) => "internal",
            (Place::Public, _) => "external",
        }
    }
}

//! The one decision: which zone answers a name for a network, and with what
//! (private-connectivity 4.1, 4.2). [`View::answer`](crate::View::answer) writes it on the wire,
//! [`View::resolve`](crate::View::resolve) tells it to people. It allocates only where CNAME
//! records are followed.
//!
//! The order: the outbound server policy of the network; its response policy; its managed zones by
//! longest suffix, private, forwarding and peering zones together; Compute Engine internal names;
//! public DNS. A peering zone begins it again as another network.

use crate::asked::Asked;
use crate::circumstances::Circumstances;
use crate::name::{NAME_OCTETS_MAX, wire_length};
use crate::record_type::{RecordType, ResponseCode};
use crate::routing::Picked;
use crate::snapshot::{Contents, Place, Snapshot, View};
use crate::zone::{Node, ROUTED, RecordSet, Zone};
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
    /// Where the resolution stands at the end.
    pub(crate) at: Standing,
}

/// Where a resolution stands between two names: as which network the next one is looked up, how
/// many peering zones were passed and CNAME records followed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) network: u32,
    pub(crate) peered: usize,
    pub(crate) cnames: usize,
}

/// One name through the order.
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
    /// What of it is part of the answer: a CNAME that was followed, or what was asked for.
    pub(crate) answer: Part<'s>,
}

/// A step's part of the answer.
pub(crate) enum Part<'s> {
    Nothing,
    One(Records<'s>),
    /// Every record set of the name (QTYPE ANY).
    All(Vec<Records<'s>>),
}

impl<'s> Part<'s> {
    /// The record sets in order.
    pub(crate) fn sets(&self) -> &[Records<'s>] {
        match self {
            Part::Nothing => &[],
            Part::One(one) => std::slice::from_ref(one),
            Part::All(all) => all,
        }
    }
}

/// Records as a zone holds them, or picked among them by a routing policy.
pub(crate) enum Records<'s> {
    Held(RecordSet<'s>),
    Picked(RecordType, Box<Picked>),
}

impl Records<'_> {
    pub(crate) fn set(&self) -> RecordSet<'_> {
        match self {
            Records::Held(set) => *set,
            Records::Picked(record_type, picked) => {
                RecordSet { record_type: *record_type, count: picked.count, wire: &picked.wire }
            }
        }
    }
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
    /// It was not looked for: the peering zone's target network is gone.
    Deactivated,
    /// Name servers are to be asked.
    Forwarded,
}

/// The ways in which a question can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With records of the last name.
    Records,
    NoData,
    NxDomain,
    PeeringTooDeep,
    PeeringDeactivated,
    CnameChain,
    /// The last name is to be asked for elsewhere.
    Forward,
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
            End::Records => None,
            End::NoData => match snapshot.zones[self.last().zone as usize].place {
                Place::ResponsePolicyRule { .. } => Some(Reason::DnsResponsePolicy),
                _ => Some(Reason::DnsNodata),
            },
            End::NxDomain => match snapshot.zones[self.last().zone as usize].place {
                Place::Managed(..) => Some(Reason::DnsNxdomain),
                _ => Some(Reason::DnsNameNotFound),
            },
            End::PeeringTooDeep => Some(Reason::DnsPeeringTooDeep),
            End::PeeringDeactivated => Some(Reason::DnsPeeringDeactivated),
            End::CnameChain => Some(Reason::DnsCnameChain),
            End::Forward => Some(Reason::DnsForwarded),
        }
    }

    /// What the client is told; where name servers are asked it depends on them.
    pub(crate) fn response_code(&self) -> ResponseCode {
        match self.end {
            End::Records | End::NoData | End::Forward => ResponseCode::NoError,
            End::NxDomain => ResponseCode::NxDomain,
            End::PeeringTooDeep | End::PeeringDeactivated | End::CnameChain => {
                ResponseCode::ServFail
            }
        }
    }
}

/// Answers the asked name for a network. `asked` holds the last CNAME target afterwards.
pub(crate) fn decide<'s>(
    view: View<'s>,
    asked: &mut Asked,
    record_type: RecordType,
    now: &dyn Circumstances,
) -> Decision<'s> {
    let at = Standing { network: view.network, ..Standing::default() };
    decide_from(view.snapshot, at, asked, record_type, now)
}

/// The same from where another decision stood.
pub(crate) fn decide_from<'s>(
    snapshot: &'s Snapshot,
    at: Standing,
    asked: &mut Asked,
    record_type: RecordType,
    now: &dyn Circumstances,
) -> Decision<'s> {
    let mut walk = Walk { snapshot, at, peerings: [0; PEERINGS_MAX], now };
    let mut first = walk.step(asked);
    let mut next = walk.end(&mut first, record_type);
    let mut chain: Vec<Step<'s>> = Vec::new();
    let end = loop {
        match next {
            Next::End(end) => break end,
            Next::Cname if walk.at.cnames == CNAMES_MAX => break End::CnameChain,
            Next::Cname => {
                walk.at.cnames += 1;
                let mut target = [0; NAME_OCTETS_MAX];
                let length = chain.last().unwrap_or(&first).cname_target(&mut target);
                asked.set(&target[..length]);
                let mut step = walk.step(asked);
                next = walk.end(&mut step, record_type);
                chain.push(step);
            }
        }
    };
    Decision { first, chain, peerings: walk.peerings, end, at: walk.at }
}

impl Step<'_> {
    /// Copies the name that the step's CNAME record leads to; how long it is.
    fn cname_target(&self, out: &mut [u8; NAME_OCTETS_MAX]) -> usize {
        let set = self.answer.sets().first().map(Records::set);
        let target = set.as_ref().and_then(|set| set.records().next()).map(|(_, data)| data);
        // The zone was compiled: the data of a CNAME record is a name.
        let target = target.filter(|data| data.len() <= out.len()).unwrap_or(&[0]);
        out[..target.len()].copy_from_slice(target);
        target.len()
    }
}

enum Next {
    End(End),
    /// The step's answer is a CNAME to be followed.
    Cname,
}

/// Goes through the order. A CNAME target is looked up by the full order from the same network,
/// which is the peering zone's target once a peering zone was passed (unconfirmed).
struct Walk<'s, 'n> {
    snapshot: &'s Snapshot,
    at: Standing,
    peerings: [u32; PEERINGS_MAX],
    now: &'n dyn Circumstances,
}

impl<'s> Walk<'s, '_> {
    /// One name through the whole order.
    fn step(&mut self, asked: &Asked) -> Step<'s> {
        let (from, begin) = (self.at.network, self.at.peered);
        let (zone, found) = loop {
            let network = &self.snapshot.networks[self.at.network as usize];
            let zones = &self.snapshot.zones;
            // Whatever the alternative name servers say is final.
            if let Some(index) = network.alternative {
                break (index, Found::Forwarded);
            }
            if let Some(rules) = &network.rules
                && let Some(index) = rules.matching(zones, asked)
                && let Contents::LocalData(local) = &zones[index as usize].contents
            {
                break (index, Found::Name(local.first()));
            }
            // No fall-through: the longest managed zone decides, whatever it has.
            if let Some(index) = network.managed.matching(zones, asked).next() {
                match &zones[index as usize].contents {
                    Contents::Records(zone) => {
                        break (index, look_up(zone, index, self.snapshot, asked));
                    }
                    Contents::Peering(None) => break (index, Found::Deactivated),
                    Contents::Peering(Some(_)) if self.at.peered == PEERINGS_MAX => {
                        break (index, Found::Unasked);
                    }
                    Contents::Peering(Some(target)) => {
                        self.peerings[self.at.peered] = index;
                        self.at.peered += 1;
                        self.at.network = *target;
                        continue;
                    }
                    Contents::Forwarding(_) => break (index, Found::Forwarded),
                    // Not among the managed zones.
                    Contents::LocalData(_) | Contents::Bypass => {}
                }
            }
            if let Some(decided) = self.outside(asked) {
                break decided;
            }
        };
        let peered = [begin, self.at.peered];
        let name_length = asked.length();
        Step { from, peered, zone, name_length, found, answer: Part::Nothing }
    }

    /// Steps 4 and 5. An internal name that does not exist is looked for in the public DNS, whose
    /// root answers every name.
    fn outside(&self, asked: &Asked) -> Option<(u32, Found<'s>)> {
        let snapshot = self.snapshot;
        let internal = &snapshot.networks[self.at.network as usize].internal;
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
    fn end(&self, step: &mut Step<'s>, record_type: RecordType) -> Next {
        let node = match step.found {
            Found::Unasked => return Next::End(End::PeeringTooDeep),
            Found::Deactivated => return Next::End(End::PeeringDeactivated),
            Found::Forwarded => return Next::End(End::Forward),
            Found::Nothing { .. } => return Next::End(End::NxDomain),
            Found::Name(node) | Found::Wildcard(node) => node,
        };
        if record_type == RecordType::ANY {
            // All of them, as Cloud DNS did before RFC 8482 (unconfirmed what it does now).
            if node.is_empty_non_terminal() {
                return Next::End(End::NoData);
            }
            let all = node.record_sets().filter_map(|set| self.records(step.zone, set));
            step.answer = Part::All(all.collect());
            return Next::End(End::Records);
        }
        if let Some(records) =
            node.record_set(record_type).and_then(|set| self.records(step.zone, set))
        {
            step.answer = Part::One(records);
            return Next::End(End::Records);
        }
        let cname = node.record_set(RecordType::CNAME);
        match cname.and_then(|set| self.records(step.zone, set)) {
            Some(records) if leads_on(&records.set()) => {
                step.answer = Part::One(records);
                Next::Cname
            }
            _ => Next::End(End::NoData),
        }
    }

    /// The records of a set, after its routing policy where it has one.
    fn records(&self, zone: u32, set: RecordSet<'s>) -> Option<Records<'s>> {
        if set.count != ROUTED {
            return Some(Records::Held(set));
        }
        let Contents::Records(zone) = &self.snapshot.zones[zone as usize].contents else {
            return None;
        };
        let picked = zone.routing(&set)?.pick(self.now)?;
        Some(Records::Picked(set.record_type, Box::new(picked)))
    }
}

/// Is the data of the first record a name and nothing else?
fn leads_on(set: &RecordSet<'_>) -> bool {
    set.records().next().is_some_and(|(_, data)| wire_length(data) == Some(data.len()))
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
    /// What Cloud DNS logs call the kind of what answers (`target_type`; that of response policies
    /// is unconfirmed).
    pub(crate) fn target_type(&self, zone: u32) -> &'static str {
        let entry = &self.snapshot.zones[zone as usize];
        match (&entry.place, &entry.contents) {
            (Place::ServerPolicy(_), _) => "forwarding-policy",
            (Place::ResponsePolicyRule { .. }, _) => "response-policy",
            (Place::Managed(..), Contents::Peering(_)) => "peering-zone",
            (Place::Managed(..), Contents::Forwarding(_)) => "forwarding-zone",
            (Place::Managed(..), _) => "private-zone",
            (Place::Internal, _) => "internal",
            (Place::Public, _) => "external",
        }
    }
}

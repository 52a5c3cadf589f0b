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
use crate::name::wire_length;
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
    /// What routing policies picked.
    pub(crate) picked: Vec<PickedSet>,
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
    /// The record set that is part of the answer: a CNAME that was followed, or the last one; with
    /// a routing policy it is among [`Decision::picked`].
    pub(crate) answer: Option<RecordSet<'s>>,
}

/// The records that a routing policy picked for a step's record set of this type.
pub(crate) struct PickedSet {
    pub(crate) step: usize,
    pub(crate) record_type: RecordType,
    pub(crate) picked: Picked,
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
    /// The last step's record set.
    Records,
    /// Every record set of the last step's node (QTYPE ANY).
    AllRecords,
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

    /// The record sets with which this step is part of the answer.
    pub(crate) fn sets<'d>(
        &'d self,
        index: usize,
        step: &'d Step<'s>,
    ) -> impl Iterator<Item = RecordSet<'d>> {
        let all = match step.found {
            Found::Name(node) | Found::Wildcard(node)
                if self.end == End::AllRecords && index == self.chain.len() =>
            {
                Some(node.record_sets())
            }
            _ => None,
        };
        all.into_iter().flatten().chain(step.answer).map(move |set| match set.count {
            ROUTED => self.picked(index, set),
            _ => set,
        })
    }

    /// The records of a set with a routing policy.
    #[cold]
    fn picked(&self, index: usize, set: RecordSet<'s>) -> RecordSet<'_> {
        let own = |one: &&PickedSet| one.step == index && one.record_type == set.record_type;
        match self.picked.iter().find(own) {
            Some(PickedSet { record_type, picked, .. }) => {
                RecordSet { record_type: *record_type, count: picked.count, wire: &picked.wire }
            }
            // A policy that picks nothing has no part in the answer.
            None => RecordSet { count: 0, wire: &[], ..set },
        }
    }

    /// All steps in order.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step<'s>> {
        std::iter::once(&self.first).chain(&self.chain)
    }

    /// Why there are no records.
    pub(crate) fn reason(&self, snapshot: &Snapshot) -> Option<Reason> {
        match self.end {
            End::Records | End::AllRecords => None,
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
            End::Records | End::AllRecords | End::NoData | End::Forward => ResponseCode::NoError,
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
    let mut walk =
        Walk { snapshot, at, peerings: [0; PEERINGS_MAX], now, picked: Vec::new(), steps: 0 };
    let mut first = walk.step(asked);
    let mut next = walk.end(&mut first, record_type);
    let mut chain: Vec<Step<'s>> = Vec::new();
    let end = loop {
        match next {
            Next::End(end) => break end,
            Next::Cname(_) if walk.at.cnames == CNAMES_MAX => break End::CnameChain,
            Next::Cname(target) => {
                walk.at.cnames += 1;
                // The zone was compiled: the data of a CNAME record is a name.
                match target {
                    Some(target) => asked.set(target),
                    None => walk.picked.last().and_then(|one| asked.set(one.picked.data()?)),
                };
                walk.steps += 1;
                let mut step = walk.step(asked);
                next = walk.end(&mut step, record_type);
                chain.push(step);
            }
        }
    };
    let Walk { peerings, at, picked, .. } = walk;
    Decision { first, chain, peerings, end, at, picked }
}

enum Next<'s> {
    End(End),
    /// The step's answer is a CNAME to be followed to this name; none: to the one that a routing
    /// policy picked last.
    Cname(Option<&'s [u8]>),
}

/// Goes through the order. A CNAME target is looked up by the full order from the same network,
/// which is the peering zone's target once a peering zone was passed (unconfirmed).
struct Walk<'s, 'n> {
    snapshot: &'s Snapshot,
    at: Standing,
    peerings: [u32; PEERINGS_MAX],
    now: &'n dyn Circumstances,
    picked: Vec<PickedSet>,
    /// How many steps came before.
    steps: usize,
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
        Step { from, peered, zone, name_length, found, answer: None }
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
    fn end(&mut self, step: &mut Step<'s>, record_type: RecordType) -> Next<'s> {
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
            for set in node.record_sets().filter(|set| set.count == ROUTED) {
                self.pick(step.zone, &set);
            }
            return Next::End(End::AllRecords);
        }
        step.answer = node.record_set(record_type);
        if let Some(set) = &step.answer {
            if set.count == ROUTED {
                self.pick(step.zone, set);
            }
            return Next::End(End::Records);
        }
        let Some(set) = node.record_set(RecordType::CNAME) else { return Next::End(End::NoData) };
        let target = match set.count {
            ROUTED => self.pick(step.zone, &set).map(|()| None),
            _ => target(set.records().next()).map(Some),
        };
        match target {
            Some(target) => {
                step.answer = Some(set);
                Next::Cname(target)
            }
            None => Next::End(End::NoData),
        }
    }

    /// Lets the routing policy of a set pick.
    #[cold]
    fn pick(&mut self, zone: u32, set: &RecordSet<'s>) -> Option<()> {
        let Contents::Records(zone) = &self.snapshot.zones[zone as usize].contents else {
            return None;
        };
        let picked = zone.routing(set)?.pick(self.now)?;
        self.picked.push(PickedSet { step: self.steps, record_type: set.record_type, picked });
        Some(())
    }
}

/// The data of a record where it is a name and nothing else.
fn target(record: Option<(u32, &[u8])>) -> Option<&[u8]> {
    let (_, data) = record?;
    (wire_length(data) == Some(data.len())).then_some(data)
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

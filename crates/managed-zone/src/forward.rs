//! Questions that other name servers answer, and what happens with what they say
//! (private-connectivity 4.1 steps 1 and 3).
//!
//! The seam with whoever carries messages: [`View::answer`] gives a [`Forward`] instead of an
//! answer where an outbound server policy or a forwarding zone decides. The carrier asks
//! [`Forward::servers`] for [`Forward::name`] and [`Forward::record_type`] in class IN, one after
//! the other in the order of its own ranking, from the network [`Forward::network`], and hands
//! what it got to [`Snapshot::resume`]: the first message whose id, question and source are right
//! ([`Upstream::Message`], asked for again over TCP where it was truncated), or that all were
//! silent ([`Upstream::Silent`]). The outcome is again finished or to be forwarded: a CNAME record
//! goes on through the full order, with the records so far kept.
//!
//! A [`Forward`] owns all that it needs. It may be resumed by a later snapshot than the one that
//! made it: the resolution goes on in that one.

use crate::Name;
use crate::answer::{Answered, Outcome, Scratch, Transport};
use crate::asked::Asked;
use crate::circumstances::Circumstances;
use crate::decide::{CNAMES_MAX, Decision, End, Standing, decide, decide_from};
use crate::query::{Edns, QUESTION, Query};
use crate::record_type::{RecordType, ResponseCode};
use crate::reply::{self, Reply};
use crate::snapshot::{Contents, Place, Snapshot, View};
use crate::writer::Writer;
use names::{NetworkId, Reason, SelfLink};
use slice::dns::NameServer;
use std::sync::Arc;

/// A question for other name servers.
#[derive(Debug)]
pub struct Forward {
    /// From which network they are asked: the client's, or the last one that peering zones led to.
    pub network: NetworkId,
    /// The name servers, in the order of the file; the one that does best is asked first.
    pub servers: Arc<[NameServer]>,
    /// The name to ask for: the client's, or the target of a CNAME record.
    pub name: Name,
    /// The type to ask for.
    pub record_type: RecordType,
    /// The server policy or the forwarding zone.
    pub by: SelfLink,
    /// Is what they say final even where it is an unfinished chain of CNAME records?
    is_policy: bool,
    pending: Pending,
}

/// What came of asking.
#[derive(Clone, Copy, Debug)]
pub enum Upstream<'m> {
    /// A name server's whole response message.
    Message(&'m [u8]),
    /// None responded.
    Silent,
}

/// The client's question, and the answer so far.
#[derive(Debug)]
struct Pending {
    client: NetworkId,
    /// Header and question section as they came.
    question: Box<[u8]>,
    edns: Option<Edns>,
    transport: Transport,
    peered: usize,
    cnames: usize,
    /// Complete records, names written out.
    answers: Vec<Vec<u8>>,
}

/// How a resumed resolution ends.
struct Ending {
    response_code: ResponseCode,
    authority: Option<Vec<u8>>,
    reason: Option<Reason>,
}

impl Forward {
    pub(crate) fn new(
        view: View<'_>,
        message: &[u8],
        query: &Query,
        decision: &Decision<'_>,
        transport: Transport,
        asked: &Asked,
    ) -> Option<Forward> {
        let mut pending = Pending {
            client: view.network().clone(),
            question: message.get(..query.question_end)?.into(),
            edns: query.edns,
            transport,
            peered: 0,
            cnames: 0,
            answers: Vec::new(),
        };
        let owner = message.get(QUESTION..query.question_end - 4)?;
        pending.append(decision, owner);
        pending.forward(view.snapshot, decision, query.record_type, asked)
    }
}

impl Pending {
    /// Adds the records of a decision about the name `owner`.
    fn append(&mut self, decision: &Decision<'_>, owner: &[u8]) {
        let mut owner = owner.to_vec();
        for (index, step) in decision.steps().enumerate() {
            let mut next = None;
            for set in decision.sets(index, step) {
                for (ttl, data) in set.records() {
                    self.answers.push(reply::record(&owner, set.record_type, ttl, data));
                    next = Some(data.to_vec());
                }
            }
            match next {
                Some(target) => owner = target,
                None => break,
            }
        }
    }

    /// Goes on with the name servers at which a decision about the asked name ended.
    fn forward(
        mut self,
        snapshot: &Snapshot,
        decision: &Decision<'_>,
        record_type: RecordType,
        asked: &Asked,
    ) -> Option<Forward> {
        (self.peered, self.cnames) = (decision.at.peered, decision.at.cnames);
        let entry = snapshot.zones.get(decision.last().zone as usize)?;
        let Contents::Forwarding(servers) = &entry.contents else { return None };
        let (by, is_policy) = match &entry.place {
            Place::ServerPolicy(link) => (link, true),
            Place::Managed(link, _) => (link, false),
            _ => return None,
        };
        Some(Forward {
            network: snapshot.networks.get(decision.at.network as usize)?.id.clone(),
            servers: servers.clone(),
            name: Name::from_wire(asked.suffix(0)),
            record_type,
            by: by.clone(),
            is_policy,
            pending: self,
        })
    }

    fn finish<'s>(
        self,
        snapshot: &'s Snapshot,
        record_type: RecordType,
        end: &Ending,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Option<Answered<'s>> {
        let limit = self.transport.limit(self.edns).min(out.len());
        let mut writer = Writer::begin(&self.question, self.question.len(), self.edns, out, limit)?;
        let whole = match end.response_code {
            ResponseCode::ServFail => Some(()),
            _ => {
                let mut answers = self.answers.iter();
                let answers = answers.try_for_each(|record| writer.written_out(record, false));
                let mut authority = end.authority.iter();
                answers.and_then(|()| authority.try_for_each(|soa| writer.written_out(soa, true)))
            }
        };
        let truncated = whole.is_none();
        let length = writer.finish(end.response_code, truncated)?;
        // What the log calls it is told by the question's own name alone.
        let chosen = snapshot.view(&self.client).and_then(|view| {
            scratch.0.set(self.question.get(QUESTION..)?)?;
            let weather = crate::FairWeather::default();
            let decision = decide(view, &mut scratch.0, record_type, &weather);
            Some((view, view.chosen(&decision)))
        });
        Some(Answered {
            length,
            response_code: end.response_code,
            reason: end.reason,
            record_type: Some(record_type),
            truncated,
            target_type: chosen.map(|(view, zone)| view.target_type(zone)),
            zone: chosen.and_then(|(view, zone)| view.link(zone)),
        })
    }
}

impl Ending {
    fn failed(reason: Reason) -> Self {
        Ending { response_code: ResponseCode::ServFail, authority: None, reason: Some(reason) }
    }
}

impl Snapshot {
    /// Goes on with a question when its name servers were asked: any answer of theirs is final,
    /// NXDOMAIN included; silence is SERVFAIL. Where a forwarding zone's name server gives a CNAME
    /// record without the records of its target, the target goes through the full order.
    ///
    /// `out` and `now` are those of [`View::answer`]. Nothing where `out` is too short even for
    /// the question.
    pub fn resume<'s>(
        &'s self,
        forward: Forward,
        upstream: Upstream<'_>,
        now: &dyn Circumstances,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Option<Outcome<'s>> {
        let Forward { network, name, record_type, is_policy, mut pending, .. } = forward;
        let end = match upstream {
            Upstream::Silent => Ending::failed(Reason::DnsUpstreamSilent),
            Upstream::Message(message) => match reply::read(message, &name, record_type) {
                None => Ending::failed(Reason::DnsUpstreamMalformed),
                Some(reply) => {
                    let Reply { response_code, records, cnames, rest, soa } = reply;
                    let found = rest.is_none() && !records.is_empty();
                    pending.cnames += cnames;
                    pending.answers.extend(records);
                    if pending.cnames > CNAMES_MAX {
                        Ending::failed(Reason::DnsCnameChain)
                    } else if let Some(target) = rest
                        && !is_policy
                        && response_code == ResponseCode::NoError
                        && soa.is_none()
                    {
                        match self.go_on(&mut pending, &network, &target, record_type, now, scratch)
                        {
                            Ok(decision) if decision.end == End::Forward => {
                                let asked = &scratch.0;
                                let next = pending.forward(self, &decision, record_type, asked)?;
                                return Some(Outcome::Forward(Box::new(next)));
                            }
                            Ok(decision) => self.ended(&decision),
                            Err(end) => end,
                        }
                    } else {
                        let reason = (!found).then_some(Reason::DnsUpstreamNegative);
                        Ending { response_code, authority: soa, reason }
                    }
                }
            },
        };
        pending.finish(self, record_type, &end, scratch, out).map(Outcome::Finished)
    }

    /// Looks the target of a CNAME record up by the full order, as the network that asked for it.
    fn go_on<'s>(
        &'s self,
        pending: &mut Pending,
        network: &NetworkId,
        target: &[u8],
        record_type: RecordType,
        now: &dyn Circumstances,
        scratch: &mut Scratch,
    ) -> Result<Decision<'s>, Ending> {
        // The network is gone with a reload.
        let gone = || Ending::failed(Reason::DnsUpstreamSilent);
        let view = self.view(network).ok_or_else(gone)?;
        scratch.0.set(target).ok_or_else(gone)?;
        let at = Standing { network: view.network, peered: pending.peered, cnames: pending.cnames };
        let decision = decide_from(self, at, &mut scratch.0, record_type, now);
        pending.append(&decision, target);
        Ok(decision)
    }

    /// The end of a decision that needs no name servers.
    fn ended(&self, decision: &Decision<'_>) -> Ending {
        let negative = matches!(decision.end, End::NoData | End::NxDomain);
        let entry = &self.zones[decision.last().zone as usize];
        let authority = match &entry.contents {
            Contents::Records(zone) if negative => {
                Some([entry.dns_name.as_wire(), zone.negative_soa()].concat())
            }
            _ => None,
        };
        Ending { response_code: decision.response_code(), authority, reason: decision.reason(self) }
    }
}

//! The decision on the wire: one copy of a record set that the zone holds ready.

use crate::asked::Asked;
use crate::circumstances::Circumstances;
use crate::decide::{Decision, End, decide};
use crate::forward::Forward;
use crate::query::{self, Edns, HEADER, QUESTION, Query, Unanswerable};
use crate::record_type::{RecordType, ResponseCode};
use crate::snapshot::{Contents, Place, View};
use crate::writer::Writer;
use crate::zone::{RECORD_HEAD, ROUTED};
use names::{Reason, SelfLink};

/// The largest answer over UDP to a client without EDNS (RFC 1035, 4.2.1).
const UDP_SIZE_PLAIN: usize = 512;
/// The largest answer over UDP at all, and the size that EDNS announces: what passes every path
/// without fragments.
pub const UDP_SIZE_MAX: usize = 1232;
/// The largest message over TCP.
pub const TCP_SIZE_MAX: usize = 65535;
/// Over what a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: short answers, the rest truncated.
    Udp,
    /// A stream: everything.
    Tcp,
}

impl Transport {
    /// The most octets of an answer to a query with this EDNS record.
    pub(crate) fn limit(self, edns: Option<Edns>) -> usize {
        match (self, edns) {
            (Transport::Tcp, _) => TCP_SIZE_MAX,
            (Transport::Udp, None) => UDP_SIZE_PLAIN,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.udp_size).clamp(UDP_SIZE_PLAIN, UDP_SIZE_MAX)
            }
        }
    }
}

/// Working memory for answers, made once per worker.
pub struct Scratch(pub(crate) Box<Asked>);

impl Scratch {
    /// About 1.5 KiB.
    pub fn new() -> Self {
        Scratch(Box::new(Asked::new()))
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch::new()
    }
}

/// What was answered, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'s> {
    /// Octets of the answer.
    pub length: usize,
    /// Its response code.
    pub response_code: ResponseCode,
    /// Why it has no records.
    pub reason: Option<Reason>,
    /// The type asked for, where the question could be read.
    pub record_type: Option<RecordType>,
    /// Was it cut short?
    pub truncated: bool,
    /// `target_type` of Cloud DNS logs: `private-zone`, `forwarding-zone`, `forwarding-policy`,
    /// `response-policy`, `peering-zone`, `internal` or `external`.
    pub target_type: Option<&'static str>,
    /// The managed zone or policy that the client's network chose.
    pub zone: Option<&'s SelfLink>,
}

/// What is to be done for a message.
#[derive(Debug)]
pub enum Outcome<'s> {
    /// The answer is written; send it.
    Finished(Answered<'s>),
    /// Ask these name servers first, then [`Snapshot::resume`](crate::Snapshot::resume).
    Forward(Box<Forward>),
}

impl<'s> Outcome<'s> {
    /// The finished answer, if it is one.
    pub fn finished(self) -> Option<Answered<'s>> {
        match self {
            Outcome::Finished(answered) => Some(answered),
            Outcome::Forward(_) => None,
        }
    }
}

impl<'s> View<'s> {
    /// Answers a message into `out`, which should hold [`UDP_SIZE_MAX`] or [`TCP_SIZE_MAX`]
    /// octets, unless name servers are to be asked first. Nothing: say nothing.
    ///
    /// The question is repeated as it was written, case included; records keep their order.
    pub fn answer(
        self,
        message: &[u8],
        transport: Transport,
        now: &dyn Circumstances,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Option<Outcome<'s>> {
        let asked = &mut *scratch.0;
        match query::read(message, asked) {
            Ok(query) => {
                let decision = decide(self, asked, query.record_type, now);
                if decision.end == End::Forward {
                    let forward = Forward::new(self, message, &query, &decision, transport, asked);
                    return forward.map(|forward| Outcome::Forward(Box::new(forward)));
                }
                self.write(message, &query, &decision, transport, out).map(Outcome::Finished)
            }
            Err(Unanswerable::Drop) => None,
            Err(Unanswerable::Refuse { code, question, edns }) => {
                refuse(message, code, question, edns, out).map(Outcome::Finished)
            }
        }
    }

    fn write(
        self,
        message: &[u8],
        query: &Query,
        decision: &Decision<'s>,
        transport: Transport,
        out: &mut [u8],
    ) -> Option<Answered<'s>> {
        let response_code = decision.response_code();
        let limit = transport.limit(query.edns).min(out.len());
        let mut writer = Writer::begin(message, query.question_end, query.edns, out, limit)?;
        let whole = match response_code {
            ResponseCode::ServFail => Some(()),
            _ => self.write_sections(&mut writer, decision),
        };
        let truncated = whole.is_none();
        let length = writer.finish(response_code, truncated)?;
        let chosen = self.chosen(decision);
        Some(Answered {
            length,
            response_code,
            reason: decision.reason(self.snapshot),
            record_type: Some(query.record_type),
            truncated,
            target_type: Some(self.target_type(chosen)),
            zone: self.link(chosen),
        })
    }

    /// The managed zone or policy.
    pub(crate) fn link(self, zone: u32) -> Option<&'s SelfLink> {
        match &self.snapshot.zones[zone as usize].place {
            Place::ServerPolicy(link)
            | Place::ResponsePolicyRule { policy: link, .. }
            | Place::Managed(link, _) => Some(link),
            Place::Internal | Place::Public => None,
        }
    }

    /// What the client's own network chose for the question's own name.
    pub(crate) fn chosen(self, decision: &Decision<'s>) -> u32 {
        match decision.first.peered[1] {
            0 => decision.first.zone,
            _ => decision.peerings[0],
        }
    }

    /// Answer and authority section. Nothing where they do not fit.
    fn write_sections(self, writer: &mut Writer<'_>, decision: &Decision<'s>) -> Option<()> {
        // Nearly always the answer is one record set as a zone holds it, or none.
        let first = decision.first.answer;
        let (last, name_at) = match first {
            _ if !decision.chain.is_empty() || decision.end == End::AllRecords => {
                (decision.last(), write_chain(writer, decision)?)
            }
            Some(set) if set.count == ROUTED => (decision.last(), write_chain(writer, decision)?),
            Some(set) => return writer.record_set(&set, QUESTION).map(drop),
            None => (&decision.first, QUESTION),
        };
        if !matches!(decision.end, End::NoData | End::NxDomain) {
            return Some(());
        }
        let entry = &self.snapshot.zones[last.zone as usize];
        let Contents::Records(zone) = &entry.contents else { return Some(()) };
        // The zone's name is a suffix of the last name, which stands in the message.
        let apex_at = name_at + last.name_length - entry.dns_name.as_wire().len();
        writer.authority(apex_at, zone.negative_soa())
    }
}

/// The answer section of a decision of several parts; says where in the message the last name is
/// written out.
fn write_chain(writer: &mut Writer<'_>, decision: &Decision<'_>) -> Option<usize> {
    let mut name_at = QUESTION;
    for (index, step) in decision.steps().enumerate() {
        let owner = name_at;
        for set in decision.sets(index, step) {
            // A CNAME's target, where it is one.
            name_at = writer.record_set(&set, owner)? + RECORD_HEAD;
        }
    }
    Some(name_at)
}

/// Answers what is not decided.
fn refuse<'s>(
    message: &[u8],
    response_code: ResponseCode,
    question: Option<(usize, RecordType)>,
    edns: Option<Edns>,
    out: &mut [u8],
) -> Option<Answered<'s>> {
    let question_end = question.map_or(HEADER, |(end, _)| end);
    let limit = UDP_SIZE_PLAIN.min(out.len());
    let length =
        Writer::begin(message, question_end, edns, out, limit)?.finish(response_code, false)?;
    let reason = match response_code {
        ResponseCode::NotImp => Reason::DnsNotImplemented,
        ResponseCode::Refused => Reason::DnsRefused,
        _ => Reason::DnsMalformed,
    };
    Some(Answered {
        length,
        response_code,
        reason: Some(reason),
        record_type: question.map(|(_, record_type)| record_type),
        truncated: false,
        target_type: None,
        zone: None,
    })
}

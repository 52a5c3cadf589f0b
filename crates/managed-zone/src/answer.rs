//! The decision on the wire: one copy of a record set that the zone holds ready.

use crate::asked::Asked;
use crate::decide::{Decision, End, Found, decide};
use crate::query::{self, Edns, HEADER, QUESTION, Query, Unanswerable};
use crate::record_type::{RecordType, ResponseCode};
use crate::snapshot::{Contents, Place, View};
use crate::zone::{QUESTION_POINTER, RECORD_HEAD, RecordSet};
use names::{Reason, SelfLink};

/// The largest answer over UDP to a client without EDNS (RFC 1035, 4.2.1).
const UDP_SIZE_PLAIN: usize = 512;
/// The largest answer over UDP at all, and the size that EDNS announces: what passes every path
/// without fragments.
pub const UDP_SIZE_MAX: usize = 1232;
/// The largest message over TCP.
pub const TCP_SIZE_MAX: usize = 65535;
/// Octets of an OPT record without options.
const OPT_SIZE: usize = 11;

/// Over what a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Datagrams: short answers, the rest truncated.
    Udp,
    /// A stream: everything.
    Tcp,
}

/// Working memory for answers, made once per worker.
pub struct Scratch(Box<Asked>);

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
    /// `target_type` of Cloud DNS logs: `private-zone`, `peering-zone`, `internal` or `external`.
    pub target_type: Option<&'static str>,
    /// The managed zone that the client's network chose.
    pub zone: Option<&'s SelfLink>,
}

impl<'s> View<'s> {
    /// Answers a message into `out`, which should hold [`UDP_SIZE_MAX`] or [`TCP_SIZE_MAX`]
    /// octets. Nothing: say nothing.
    ///
    /// The question is repeated as it was written, case included; records keep their order.
    pub fn answer(
        self,
        message: &[u8],
        transport: Transport,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Option<Answered<'s>> {
        let asked = &mut *scratch.0;
        match query::read(message, asked) {
            Ok(query) => {
                let decision = decide(self, asked, query.record_type);
                self.write(message, &query, &decision, transport, out)
            }
            Err(Unanswerable::Drop) => None,
            Err(Unanswerable::Refuse { code, question, edns }) => {
                refuse(message, code, question, edns, out)
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
        let limit = match (transport, query.edns) {
            (Transport::Tcp, _) => TCP_SIZE_MAX,
            (Transport::Udp, None) => UDP_SIZE_PLAIN,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.udp_size).clamp(UDP_SIZE_PLAIN, UDP_SIZE_MAX)
            }
        };
        let response_code = match decision.end {
            End::Records | End::AllRecords | End::NoData => ResponseCode::NoError,
            End::NxDomain => ResponseCode::NxDomain,
            End::PeeringTooDeep | End::CnameChain => ResponseCode::ServFail,
        };
        let limit = limit.min(out.len());
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
            zone: match &self.snapshot.zones[chosen as usize].place {
                Place::Managed(link, _) => Some(link),
                Place::Internal | Place::Public => None,
            },
        })
    }

    /// The zone that the client's own network chose for the question's own name.
    fn chosen(self, decision: &Decision<'s>) -> u32 {
        match decision.first.peered[1] {
            0 => decision.first.zone,
            _ => decision.peerings[0],
        }
    }

    /// Answer and authority section. Nothing where they do not fit.
    fn write_sections(self, writer: &mut Writer<'_>, decision: &Decision<'s>) -> Option<()> {
        // Where in the message the name of the current step is written out.
        let mut name_at = QUESTION;
        for step in decision.steps() {
            let (Found::Name(node) | Found::Wildcard(node)) = step.found else { break };
            if decision.end == End::AllRecords {
                for set in node.record_sets() {
                    writer.record_set(&set, name_at)?;
                }
            } else if let Some(set) = &step.answer {
                let begin = writer.record_set(set, name_at)?;
                name_at = begin + RECORD_HEAD; // a CNAME's target, where it is one
            }
        }
        if !matches!(decision.end, End::NoData | End::NxDomain) {
            return Some(());
        }
        let step = decision.last();
        let entry = &self.snapshot.zones[step.zone as usize];
        let Contents::Records(zone) = &entry.contents else { return Some(()) };
        // The zone's name is a suffix of the step's name, which stands in the message.
        let apex_at = name_at + step.name_length - entry.dns_name.as_wire().len();
        writer.authority(apex_at, zone.negative_soa())
    }
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

/// Writes one answer; `None` is "does not fit".
struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
    /// Octets that records may use; the OPT record has its place beyond.
    limit: usize,
    question_end: usize,
    edns: bool,
    answers: u16,
    authorities: u16,
}

impl<'o> Writer<'o> {
    /// Header and question, copied from the query.
    fn begin(
        message: &[u8],
        question_end: usize,
        edns: Option<Edns>,
        out: &'o mut [u8],
        limit: usize,
    ) -> Option<Self> {
        let opt = if edns.is_some() { OPT_SIZE } else { 0 };
        let limit = limit.checked_sub(opt).filter(|limit| *limit >= question_end)?;
        out.get_mut(..question_end)?.copy_from_slice(message.get(..question_end)?);
        Some(Writer {
            out,
            at: question_end,
            limit,
            question_end,
            edns: edns.is_some(),
            answers: 0,
            authorities: 0,
        })
    }

    fn room(&mut self, length: usize) -> Option<&mut [u8]> {
        let end = self.at + length;
        if end > self.limit {
            return None;
        }
        let room = self.out.get_mut(self.at..end)?;
        self.at = end;
        Some(room)
    }

    /// Appends a record set whose owner is the name written at `owner`; says where it begins.
    fn record_set(&mut self, set: &RecordSet<'_>, owner: usize) -> Option<usize> {
        let begin = self.at;
        let room = self.room(set.wire.len())?;
        room.copy_from_slice(set.wire);
        if owner != QUESTION {
            let pointer = pointer(owner)?;
            let mut rest = room;
            while let Some((head, tail)) = rest.split_first_chunk_mut::<RECORD_HEAD>() {
                head[..2].copy_from_slice(&pointer);
                let length = usize::from(u16::from_be_bytes([head[10], head[11]]));
                rest = tail.get_mut(length..)?;
            }
        }
        self.answers += set.count;
        Some(begin)
    }

    /// Appends the SOA record of a negative answer.
    fn authority(&mut self, owner: usize, record: &[u8]) -> Option<()> {
        // The root is shorter written out than pointed to, and a pointer to a zero is frowned at.
        if self.out.get(owner) == Some(&0) {
            self.room(1)?.copy_from_slice(&[0]);
        } else {
            let pointer = pointer(owner)?;
            self.room(2)?.copy_from_slice(&pointer);
        }
        self.room(record.len())?.copy_from_slice(record);
        self.authorities = 1;
        Some(())
    }

    /// Header and OPT record; a truncated answer has the question only (RFC 2181, 9). The length
    /// of the message.
    fn finish(mut self, response_code: ResponseCode, truncated: bool) -> Option<usize> {
        if truncated {
            (self.at, self.answers, self.authorities) = (self.question_end, 0, 0);
        }
        let number = response_code.number();
        if self.edns {
            self.limit += OPT_SIZE;
            let [size_high, size_low] = (UDP_SIZE_MAX as u16).to_be_bytes();
            self.room(OPT_SIZE)?.copy_from_slice(&[
                0,
                0,
                41,
                size_high,
                size_low,
                number >> 4,
                0,
                0,
                0,
                0,
                0,
            ]);
        }
        let header: &mut [u8; HEADER] = self.out.first_chunk_mut()?;
        // Not authoritative and recursion available, as 169.254.169.254 answers also from private
        // zones (observed); opcode, RD and CD are the query's.
        header[2] = 0x80 | (header[2] & 0x79) | if truncated { 0x02 } else { 0 };
        header[3] = 0x80 | (header[3] & 0x10) | (number & 0x0F);
        header[4..6].copy_from_slice(&u16::from(self.question_end > HEADER).to_be_bytes());
        header[6..8].copy_from_slice(&self.answers.to_be_bytes());
        header[8..10].copy_from_slice(&self.authorities.to_be_bytes());
        header[10..12].copy_from_slice(&u16::from(self.edns).to_be_bytes());
        Some(self.at)
    }
}

/// A compression pointer (RFC 1035, 4.1.4). Names are pointed to only where they came early: a
/// chain of CNAME records is shorter than 16 KiB.
fn pointer(at: usize) -> Option<[u8; 2]> {
    if at == QUESTION {
        return Some(QUESTION_POINTER);
    }
    let at = u16::try_from(at).ok().filter(|at| *at < 0x4000)?;
    Some((0xC000 | at).to_be_bytes())
}

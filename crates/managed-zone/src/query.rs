//! A query on the wire, taken apart (RFC 1035, 4.1; RFC 6891).

use crate::Name;
use crate::asked::Asked;
use crate::name::wire_length;
use crate::record_type::{RecordType, ResponseCode};

/// Octets of a message header.
pub(crate) const HEADER: usize = 12;
/// The question begins behind the header.
pub(crate) const QUESTION: usize = HEADER;

/// What a message asks for.
pub(crate) struct Query {
    /// Where the question section ends.
    pub(crate) question_end: usize,
    pub(crate) record_type: RecordType,
    pub(crate) edns: Option<Edns>,
}

/// The part of the OPT record that matters: options and the DO bit are ignored, as nothing here
/// is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest answer over UDP that the client takes, in octets.
    pub(crate) udp_size: u16,
    pub(crate) version: u8,
}

/// Why a message is not a question that can be decided.
pub(crate) enum Unanswerable {
    /// No message, or itself an answer: stay silent, or two servers talk for ever.
    Drop,
    /// Answer with this code, and repeat the question up to here where there is one. The EDNS
    /// record is answered by one.
    Refuse { code: ResponseCode, question: Option<(usize, RecordType)>, edns: Option<Edns> },
}

/// Reads a message; the question's name goes to `asked`.
pub(crate) fn read(message: &[u8], asked: &mut Asked) -> Result<Query, Unanswerable> {
    let header: &[u8; HEADER] = message.first_chunk().ok_or(Unanswerable::Drop)?;
    if header[2] & 0x80 != 0 {
        return Err(Unanswerable::Drop);
    }
    let refuse = |code, question, edns| Unanswerable::Refuse { code, question, edns };
    if header[2] & 0x78 != 0 {
        return Err(refuse(ResponseCode::NotImp, None, None));
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let malformed = refuse(ResponseCode::FormErr, None, None);
    if count(4) != 1 {
        return Err(malformed);
    }
    let Some(length) = asked.set(&message[QUESTION..]) else { return Err(malformed) };
    let at = QUESTION + length;
    let Some(tail) = message.get(at..at + 4) else { return Err(malformed) };
    let record_type = RecordType(u16::from_be_bytes([tail[0], tail[1]]));
    let class = u16::from_be_bytes([tail[2], tail[3]]);
    let question_end = at + 4;
    let question = Some((question_end, record_type));
    let records = [count(6), count(8), count(10)];
    let edns = match records {
        [0, 0, 0] => (message.len() == question_end).then_some(None),
        _ => read_records(message, question_end, records),
    };
    let edns = edns.ok_or_else(|| refuse(ResponseCode::FormErr, question, None))?;
    let refused = |code| Err(refuse(code, question, edns));
    if edns.is_some_and(|edns| edns.version != 0) {
        return refused(ResponseCode::BadVers);
    }
    match record_type {
        _ if class != CLASS_IN => refused(ResponseCode::Refused),
        RecordType::AXFR | RecordType::IXFR => refused(ResponseCode::Refused),
        RecordType::MAILA | RecordType::MAILB => refused(ResponseCode::NotImp),
        RecordType::OPT | RecordType::TSIG | RecordType::TKEY => refused(ResponseCode::FormErr),
        _ => Ok(Query { question_end, record_type, edns }),
    }
}

/// Name and type that a message asks for, for the log; none where its question cannot be read.
pub fn question(message: &[u8]) -> Option<(Name, RecordType)> {
    let body = message.get(QUESTION..)?;
    let length = wire_length(body)?;
    let tail: &[u8; 2] = body.get(length..)?.first_chunk()?;
    Some((Name::from_wire(&body[..length]), RecordType(u16::from_be_bytes(*tail))))
}

/// The class of the Internet.
const CLASS_IN: u16 = 1;

/// Walks over the records behind the question, which must fill the message. Nothing where they
/// are malformed; otherwise the EDNS record, if there is one.
fn read_records(message: &[u8], mut at: usize, counts: [u16; 3]) -> Option<Option<Edns>> {
    let mut edns = None;
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let owner = at;
            at = skip_name(message, at)?;
            let head: &[u8; 10] = message.get(at..)?.first_chunk()?;
            at += 10 + usize::from(u16::from_be_bytes([head[8], head[9]]));
            if at > message.len() {
                return None;
            }
            if RecordType(u16::from_be_bytes([head[0], head[1]])) == RecordType::OPT {
                // One, with the root as its owner, in the additional section (RFC 6891, 6.1.1).
                if section != 2 || message[owner] != 0 || edns.is_some() {
                    return None;
                }
                let udp_size = u16::from_be_bytes([head[2], head[3]]);
                edns = Some(Edns { udp_size, version: head[5] });
            }
        }
    }
    (at == message.len()).then_some(edns)
}

/// Where a name, compressed or not, ends in the message.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    let begin = at;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            0xC0.. => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at - begin > 254 {
            return None;
        }
    }
}

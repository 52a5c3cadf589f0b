//! What a name server said, taken apart: the part of the answer that belongs to the question.

use crate::Name;
use crate::name::{NAME_OCTETS_MAX, wire_length};
use crate::query::{HEADER, QUESTION};
use crate::record_type::{RecordType, ResponseCode};

/// A usable response.
pub(crate) struct Reply {
    pub(crate) response_code: ResponseCode,
    /// The chain of CNAME records from the question's name, and the records at its end, each
    /// complete with its names written out.
    pub(crate) records: Vec<Vec<u8>>,
    /// How many CNAME records are among them that lead on.
    pub(crate) cnames: usize,
    /// The name at the end of the chain, where the chain ends without records of it.
    pub(crate) rest: Option<Vec<u8>>,
    /// The SOA record of a negative answer.
    pub(crate) soa: Option<Vec<u8>>,
}

/// A record with its names written out.
struct Written {
    owner: Vec<u8>,
    record_type: RecordType,
    ttl: u32,
    data: Vec<u8>,
}

/// A whole record: owner, type, class IN, TTL, data.
pub(crate) fn record(owner: &[u8], record_type: RecordType, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(owner.len() + 10 + data.len());
    record.extend_from_slice(owner);
    record.extend_from_slice(&record_type.0.to_be_bytes());
    record.extend_from_slice(&[0, 1]);
    record.extend_from_slice(&ttl.to_be_bytes());
    record.extend_from_slice(&(data.len() as u16).to_be_bytes());
    record.extend_from_slice(data);
    record
}

/// Reads a response to the question for `name` and `record_type`. Records that do not belong to
/// it are left out: nobody asked for them. Nothing where the message is malformed, truncated, or
/// answers something else.
pub(crate) fn read(message: &[u8], name: &Name, record_type: RecordType) -> Option<Reply> {
    let header: &[u8; HEADER] = message.first_chunk()?;
    let is_response = header[2] & 0xF8 == 0x80;
    let truncated = header[2] & 0x02 != 0;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if !is_response || truncated || count(4) != 1 {
        return None;
    }
    let (question, mut at) = written_out(message, QUESTION)?;
    let tail: &[u8; 4] = message.get(at..)?.first_chunk()?;
    at += 4;
    if Name::from_wire(&question) != *name || tail[..2] != record_type.0.to_be_bytes() {
        return None;
    }
    let mut sections = [Vec::new(), Vec::new()];
    for (section, records) in sections.iter_mut().enumerate() {
        for _ in 0..count(6 + 2 * section) {
            let (record, end) = read_record(message, at)?;
            at = end;
            records.extend(record);
        }
    }
    let [answers, authorities] = sections;
    let mut reply = Reply {
        response_code: response_code(header[3] & 0x0F),
        records: Vec::new(),
        cnames: 0,
        rest: None,
        soa: None,
    };
    let mut current = name.as_wire().to_vec();
    // A chain is not longer than the records that it can be made of.
    for _ in 0..=answers.len() {
        let own = answers.iter().filter(|record| record.owner.eq_ignore_ascii_case(&current));
        let asked =
            |record: &&Written| record.record_type == record_type || record_type == RecordType::ANY;
        let wanted: Vec<&Written> = own.clone().filter(asked).collect();
        if !wanted.is_empty() {
            reply.records.extend(wanted.into_iter().map(Written::whole));
            return Some(reply);
        }
        let Some(cname) = own.clone().find(|record| record.record_type == RecordType::CNAME) else {
            if reply.cnames > 0 {
                reply.rest = Some(current);
            }
            let soa = authorities.iter().find(|record| record.record_type == RecordType::SOA);
            reply.soa = soa.map(Written::whole);
            return Some(reply);
        };
        reply.records.push(cname.whole());
        reply.cnames += 1;
        current.clone_from(&cname.data);
    }
    None // the chain runs in a circle
}

impl Written {
    fn whole(&self) -> Vec<u8> {
        record(&self.owner, self.record_type, self.ttl, &self.data)
    }
}

fn response_code(number: u8) -> ResponseCode {
    let known = ResponseCode::ALL.into_iter().find(|code| code.number() == number);
    known.unwrap_or(ResponseCode::ServFail)
}

/// Reads the record at `at` and says where it ends; other classes than IN are passed over.
fn read_record(message: &[u8], at: usize) -> Option<(Option<Written>, usize)> {
    let (owner, at) = written_out(message, at)?;
    let head: &[u8; 10] = message.get(at..)?.first_chunk()?;
    let record_type = RecordType(u16::from_be_bytes([head[0], head[1]]));
    let class = u16::from_be_bytes([head[2], head[3]]);
    let ttl = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let length = usize::from(u16::from_be_bytes([head[8], head[9]]));
    let begin = at + head.len();
    let end = begin + length;
    message.get(begin..end)?;
    if class != 1 {
        return Some((None, end));
    }
    let data = read_data(message, record_type, begin, end)?;
    // A TTL with its highest bit set means zero (RFC 2181, 8).
    let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
    Some((Some(Written { owner, record_type, ttl, data }), end))
}

/// The data with its names written out: in the types in which names may be compressed or were so
/// by old servers (RFC 3597, 4).
fn read_data(message: &[u8], record_type: RecordType, begin: usize, end: usize) -> Option<Vec<u8>> {
    // Octets before the first name, and how many names follow one another.
    let (fixed, names) = match record_type {
        RecordType::NS | RecordType::CNAME | RecordType::PTR | RecordType::DNAME => (0, 1),
        RecordType::SOA => (0, 2),
        RecordType::MX => (2, 1),
        RecordType::SRV => (6, 1),
        _ => return Some(message.get(begin..end)?.to_vec()),
    };
    let mut at = begin + fixed;
    let mut data = message.get(begin..at).filter(|_| at <= end)?.to_vec();
    for _ in 0..names {
        let (name, next) = written_out(message, at).filter(|(_, next)| *next <= end)?;
        data.extend_from_slice(&name);
        at = next;
    }
    let rest = message.get(at..end)?;
    let expected = if record_type == RecordType::SOA { 20 } else { 0 };
    if rest.len() != expected {
        return None;
    }
    data.extend_from_slice(rest);
    Some(data)
}

/// The name at `at` without compression, case kept, and where it ends in the message.
fn written_out(message: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let mut end = None;
    // Where the last pointer led; the next one must lead before it, so that there is no circle.
    let mut before = message.len();
    loop {
        let length = *message.get(at)?;
        match length {
            0 => {
                name.push(0);
                break;
            }
            1..=63 => {
                name.extend_from_slice(message.get(at..=at + usize::from(length))?);
                at += usize::from(length) + 1;
            }
            0xC0.. => {
                let low = *message.get(at + 1)?;
                end = end.or(Some(at + 2));
                let to = usize::from(u16::from_be_bytes([length & 0x3F, low]));
                if to >= before.min(at) {
                    return None;
                }
                (at, before) = (to, to);
            }
            _ => return None,
        }
        if name.len() >= NAME_OCTETS_MAX {
            return None;
        }
    }
    // The whole is a name: it ends with the root and is not too long.
    (wire_length(&name)? == name.len()).then_some(())?;
    Some((name, end.unwrap_or(at + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A response with compressed names: a chain `a.x.` to `b.x.` to an address, and a record that
    /// nobody asked for.
    const MESSAGE: &[u8] = b"\0\x07\x81\x80\0\x01\0\x03\0\0\0\0\
        \x01a\x01x\0\0\x01\0\x01\
        \xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01b\xc0\x0e\
        \xc0\x21\0\x01\0\x01\xff\0\0\x3c\0\x04\x0a\0\0\x01\
        \x01z\0\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\0\0\x09";

    #[test]
    fn the_chain_is_taken_and_what_nobody_asked_for_is_not() {
        let reply = read(MESSAGE, &name("A.x."), RecordType::A).expect("well-formed");
        assert_eq!(reply.response_code, ResponseCode::NoError);
        assert_eq!(
            reply.records,
            [
                record(b"\x01a\x01x\0", RecordType::CNAME, 60, b"\x01b\x01x\0"),
                // The TTL's highest bit is set.
                record(b"\x01b\x01x\0", RecordType::A, 0, &[10, 0, 0, 1]),
            ]
        );
        assert_eq!((reply.cnames, reply.rest, reply.soa), (1, None, None));
    }

    #[test]
    fn what_answers_something_else_or_is_cut_off_is_nothing() {
        assert!(read(MESSAGE, &name("b.x."), RecordType::A).is_none());
        assert!(read(MESSAGE, &name("a.x."), RecordType::AAAA).is_none());
        for end in 0..MESSAGE.len() {
            assert!(read(&MESSAGE[..end], &name("a.x."), RecordType::A).is_none(), "{end}");
        }
        for (at, octet) in [(2, 0x01), (2, 0x83), (5, 0), (33, 0xFF), (32, 0xFF)] {
            let mut message = MESSAGE.to_vec();
            message[at] = octet;
            assert!(read(&message, &name("a.x."), RecordType::A).is_none(), "{at}");
        }
    }

    #[test]
    fn pointers_lead_back_only() {
        assert_eq!(written_out(b"\xc0\0", 0), None);
        assert_eq!(written_out(b"\x01a\xc0\0", 0), None);
        assert_eq!(written_out(b"\x01a\0\xc0\0", 3), Some((b"\x01a\0".to_vec(), 5)));
        assert_eq!(written_out(b"\xc0\x02\xc0\0", 2), None);
    }
}

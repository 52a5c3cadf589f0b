//! Writes one answer into a buffer (RFC 1035, 4.1; RFC 6891).

use crate::answer::UDP_SIZE_MAX;
use crate::name::wire_length;
use crate::query::{Edns, HEADER, QUESTION};
use crate::record_type::ResponseCode;
use crate::zone::{QUESTION_POINTER, RECORD_HEAD, RecordSet};

/// Octets of an OPT record without options.
const OPT_SIZE: usize = 11;

/// Writes one answer; `None` is "does not fit".
pub(crate) struct Writer<'o> {
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
    #[inline]
    pub(crate) fn begin(
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
    #[inline]
    pub(crate) fn record_set(&mut self, set: &RecordSet<'_>, owner: usize) -> Option<usize> {
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
    #[inline]
    pub(crate) fn authority(&mut self, owner: usize, record: &[u8]) -> Option<()> {
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

    /// Appends a record that is written out, owner first: in the answer section or, as its one
    /// record, in the authority section.
    pub(crate) fn written_out(&mut self, record: &[u8], authority: bool) -> Option<()> {
        let owner = wire_length(record)?;
        let (name, rest) = record.split_at_checked(owner)?;
        let question = self.out.get(QUESTION..)?;
        let question = question.get(..wire_length(question)?)?;
        if owner > QUESTION_POINTER.len() && name.eq_ignore_ascii_case(question) {
            self.room(QUESTION_POINTER.len())?.copy_from_slice(&QUESTION_POINTER);
        } else {
            self.room(owner)?.copy_from_slice(name);
        }
        self.room(rest.len())?.copy_from_slice(rest);
        *if authority { &mut self.authorities } else { &mut self.answers } += 1;
        Some(())
    }

    /// Header and OPT record; a truncated answer has the question only (RFC 2181, 9). The length
    /// of the message.
    #[inline]
    pub(crate) fn finish(mut self, response_code: ResponseCode, truncated: bool) -> Option<usize> {
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

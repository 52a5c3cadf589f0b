//! The fields of a head: what they say of body and connection, and where they stand.

use super::encode::parse_length;
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

/// Most fields in a head (Envoy's default).
pub(super) const FIELDS_MAX: usize = 100;
/// No head is larger, whatever the options say: its fields are found by 16-bit positions.
pub(super) const BYTES_MAX: usize = u16::MAX as usize;

/// What the fields say of the body's length.
#[derive(Default)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: usize,
    pub(super) other_coding: bool,
}

impl Framing {
    pub(super) fn length(&mut self, value: &HeaderValue) -> Result<(), &'static str> {
        let length = parse_length(value.as_bytes()).ok_or("content-length is no number")?;
        if self.length.is_some_and(|other| other != length) {
            return Err("two different content-lengths");
        }
        self.length = Some(length);
        Ok(())
    }

    pub(super) fn coding(&mut self, value: &HeaderValue) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            if coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                self.chunked += 1;
            } else {
                self.other_coding = true;
            }
        }
    }
}

/// What `connection` says.
#[derive(Default)]
pub(super) struct Connection {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl Connection {
    /// Reads one value. True if it says no more than whether the connection stays.
    pub(super) fn read(&mut self, value: &HeaderValue) -> bool {
        let mut all_read = true;
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else {
                self.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
                all_read = false;
            }
        }
        all_read
    }
}

pub(super) type Range = std::ops::Range<usize>;

/// Where the fields of a head stand, so that values can share the head's bytes.
pub(super) struct Ranges {
    fields: [(u16, u16, u16, u16); FIELDS_MAX],
    pub(super) count: usize,
}

impl Ranges {
    /// The head is no longer than [`BYTES_MAX`].
    pub(super) fn of(bytes: &[u8], parsed: &[httparse::Header<'_>]) -> Self {
        let mut ranges = Ranges { fields: [(0, 0, 0, 0); FIELDS_MAX], count: parsed.len() };
        for (slot, field) in ranges.fields.iter_mut().zip(parsed) {
            let (name, value) = (range(bytes, field.name.as_bytes()), range(bytes, field.value));
            *slot = (name.start as u16, name.end as u16, value.start as u16, value.end as u16);
        }
        ranges
    }

    pub(super) fn fields<'a>(
        &'a self,
        head: &'a Bytes,
    ) -> impl Iterator<Item = (Result<HeaderName, ()>, Result<HeaderValue, ()>)> + 'a {
        self.fields[..self.count].iter().map(|&(name, name_end, value, value_end)| {
            let name = HeaderName::from_bytes(&head[usize::from(name)..usize::from(name_end)]);
            let value = head.slice(usize::from(value)..usize::from(value_end));
            (name.map_err(|_| ()), HeaderValue::from_maybe_shared(value).map_err(|_| ()))
        })
    }
}

/// Where `part` stands in `whole`.
pub(super) fn range(whole: &[u8], part: &[u8]) -> Range {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize).min(whole.len());
    start..(start + part.len()).min(whole.len())
}

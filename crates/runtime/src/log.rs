//! The log: one JSON line per entry on standard error, in the shape of Cloud Logging's structured
//! log (`severity`, `time`, `message`, and fields).
//!
//! Request logs are on by default, so an entry must be cheap: it is written straight into a
//! thread's buffer, which a worker flushes a moment later in one write.

use names::Reason;
use std::cell::{Cell, RefCell};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// A worker writes what it has gathered after this time, or when the buffer is full.
const FLUSH_AFTER: Duration = Duration::from_millis(50);
const FLUSH_BYTES: usize = 32 * 1024;
/// A larger buffer is not kept after it was written.
const KEPT_BYTES: usize = 4 * FLUSH_BYTES;

/// Cloud Logging's severities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// For developers.
    Debug,
    /// Routine.
    Info,
    /// Normal but significant.
    Notice,
    /// Something was refused or may go wrong.
    Warning,
    /// Something went wrong.
    Error,
}

impl Severity {
    const fn name(self) -> &'static str {
        match self {
            Severity::Debug => "DEBUG",
            Severity::Info => "INFO",
            Severity::Notice => "NOTICE",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        }
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static GATHERING: Cell<bool> = const { Cell::new(false) };
    static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    static WAKE: Rc<Notify> = Rc::new(Notify::new());
}

/// An entry under construction. Nothing is written before [`Entry::emit`].
#[derive(Debug)]
pub struct Entry {
    text: Vec<u8>,
    start: usize,
    first: bool,
}

/// Begins an entry.
pub fn entry(severity: Severity, message: &str) -> Entry {
    let mut text = BUFFER.take();
    let start = text.len();
    text.extend_from_slice(b"{\"severity\":\"");
    text.extend_from_slice(severity.name().as_bytes());
    text.extend_from_slice(b"\",\"time\":\"");
    write_now(&mut text);
    text.extend_from_slice(b"\",\"message\":");
    message.write(&mut text);
    Entry { text, start, first: false }
}

impl Entry {
    /// Adds a field.
    pub fn field(mut self, key: &'static str, value: impl Value) -> Self {
        if value.is_some() {
            self.key(key);
            value.write(&mut self.text);
        }
        self
    }

    /// Adds an object.
    pub fn nested(mut self, key: &'static str, fill: impl FnOnce(Entry) -> Entry) -> Self {
        self.key(key);
        self.text.push(b'{');
        self.first = true;
        let mut filled = fill(self);
        filled.text.push(b'}');
        filled.first = false;
        filled
    }

    /// Adds fields that were rendered before: each with its comma in front, as JSON.
    pub fn rendered(mut self, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        fill(&mut self.text);
        self.first = false;
        self
    }

    /// Writes the entry; on a worker thread within 50 ms, elsewhere at once.
    pub fn emit(mut self) {
        self.text.extend_from_slice(b"}\n");
        let full = self.text.len() >= FLUSH_BYTES;
        let was_empty = self.start == 0;
        self.start = 0;
        // An entry made while this one was under construction went into a fresh buffer.
        let others = BUFFER.replace(std::mem::take(&mut self.text));
        if !others.is_empty() {
            BUFFER.with_borrow_mut(|buffer| buffer.extend_from_slice(&others));
        }
        if full || !GATHERING.get() {
            flush();
        } else if was_empty {
            WAKE.with(|wake| wake.notify_one());
        }
    }

    fn key(&mut self, key: &'static str) {
        if !std::mem::replace(&mut self.first, false) {
            self.text.push(b',');
        }
        self.text.push(b'"');
        self.text.extend_from_slice(key.as_bytes());
        self.text.extend_from_slice(b"\":");
    }
}

impl Drop for Entry {
    /// An entry that is dropped unwritten gives the buffer back.
    fn drop(&mut self) {
        if self.start > 0 {
            let mut text = std::mem::take(&mut self.text);
            text.truncate(self.start);
            let others = BUFFER.replace(text);
            BUFFER.with_borrow_mut(|buffer| buffer.extend_from_slice(&others));
        }
    }
}

/// What can stand in a field.
pub trait Value {
    /// Writes it as JSON.
    fn write(&self, text: &mut Vec<u8>);

    /// Is there anything to write?
    fn is_some(&self) -> bool {
        true
    }
}

/// Bytes that JSON escapes inside a text.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        escaped[byte] = true;
        byte += 1;
    }
    escaped[b'"' as usize] = true;
    escaped[b'\\' as usize] = true;
    escaped[0x7f] = true;
    escaped
};

impl Value for str {
    fn write(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        escape(self, text);
        text.push(b'"');
    }
}

/// Writes what stands between the quotes.
pub fn escape(value: &str, text: &mut Vec<u8>) {
    let mut rest = value.as_bytes();
    // Hardly any text has something to escape: it is copied in one go.
    while let Some(at) = first_escaped(rest) {
        text.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => text.extend_from_slice(b"\\\""),
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'\n' => text.extend_from_slice(b"\\n"),
            b'\r' => text.extend_from_slice(b"\\r"),
            b'\t' => text.extend_from_slice(b"\\t"),
            byte => {
                let _ = write!(text, "\\u{byte:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    text.extend_from_slice(rest);
}

/// Where the first byte to escape is. Looks at eight bytes at a time.
fn first_escaped(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // Is one of the bytes zero, is one below 0x20? Exact, as long as only "one of them" is asked.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let control = |word: u64| word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    let is = |word: u64, byte: u8| zero(word ^ (ONES * u64::from(byte)));
    let (words, _) = text.as_chunks::<8>();
    let plain = words.iter().take_while(|bytes| {
        let word = u64::from_ne_bytes(**bytes);
        control(word) | is(word, b'"') | is(word, b'\\') | is(word, 0x7f) == 0
    });
    let from = plain.count() * 8;
    let at = text[from..].iter().position(|byte| ESCAPED[usize::from(*byte)])?;
    Some(from + at)
}

impl Value for String {
    fn write(&self, text: &mut Vec<u8>) {
        self.as_str().write(text);
    }
}

impl<V: Value + ?Sized> Value for &V {
    fn write(&self, text: &mut Vec<u8>) {
        (**self).write(text);
    }

    fn is_some(&self) -> bool {
        (**self).is_some()
    }
}

impl<V: Value> Value for Option<V> {
    fn write(&self, text: &mut Vec<u8>) {
        if let Some(value) = self {
            value.write(text);
        }
    }

    fn is_some(&self) -> bool {
        self.is_some()
    }
}

impl Value for Reason {
    fn write(&self, text: &mut Vec<u8>) {
        self.code().write(text);
    }
}

impl Value for bool {
    fn write(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(impl Value for $number {
        fn write(&self, text: &mut Vec<u8>) {
            decimal(u64::from(*self), text);
        }
    })* };
}

numbers!(u16 u32 u64);

impl Value for usize {
    fn write(&self, text: &mut Vec<u8>) {
        decimal(*self as u64, text);
    }
}

macro_rules! signed_numbers {
    ($($number:ty)*) => { $(impl Value for $number {
        fn write(&self, text: &mut Vec<u8>) {
            let _ = write!(text, "{self}");
        }
    })* };
}

signed_numbers!(i32 i64);

/// Writes a number without the machinery of formatting.
pub fn decimal(mut number: u64, text: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[at..]);
}

/// Writes the last so many hexadecimal digits of a number, at most 32, without the machinery of
/// formatting.
pub fn hexadecimal(mut number: u128, digits: usize, text: &mut Vec<u8>) {
    let mut all = [b'0'; 32];
    let from = all.len().saturating_sub(digits);
    for digit in all[from..].iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
    text.extend_from_slice(&all[from..]);
}

impl Value for Ipv4Addr {
    fn write(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        address(*self, text);
        text.push(b'"');
    }
}

impl Value for SocketAddrV4 {
    fn write(&self, text: &mut Vec<u8>) {
        text.push(b'"');
        address(*self.ip(), text);
        text.push(b':');
        decimal(self.port().into(), text);
        text.push(b'"');
    }
}

/// An address, as it is written everywhere, without the machinery of formatting.
fn address(address: Ipv4Addr, text: &mut Vec<u8>) {
    for (place, octet) in address.octets().into_iter().enumerate() {
        if place > 0 {
            text.push(b'.');
        }
        decimal(octet.into(), text);
    }
}

impl Value for f64 {
    fn write(&self, text: &mut Vec<u8>) {
        // JSON has no infinities.
        let _ = if self.is_finite() { write!(text, "{self}") } else { write!(text, "null") };
    }
}

/// Anything that prints: errors, paths.
#[derive(Debug)]
pub struct Shown<T>(pub T);

impl<T: std::fmt::Display> Value for Shown<T> {
    fn write(&self, text: &mut Vec<u8>) {
        self.0.to_string().write(text);
    }
}

/// Writes out what this thread has gathered.
pub fn flush() {
    let mut text = BUFFER.take();
    if !text.is_empty() {
        // Nobody is left to be told if standard error is gone.
        let _ = std::io::stderr().lock().write_all(&text);
        if text.capacity() <= KEPT_BYTES {
            text.clear();
            BUFFER.set(text); // grown once, not with every flush
        }
    }
}

/// A worker's task that writes out what the thread has gathered, and sleeps while there is nothing.
pub(crate) async fn flusher() {
    GATHERING.set(true);
    let wake = WAKE.with(Rc::clone);
    loop {
        wake.notified().await;
        tokio::time::sleep(FLUSH_AFTER).await;
        flush();
    }
}

/// RFC 3339 with microseconds, UTC.
fn write_now(text: &mut Vec<u8>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    SECOND.with_borrow_mut(|(second, shown)| {
        if *second != now.as_secs() {
            *second = now.as_secs();
            *shown = civil(now.as_secs());
        }
        text.extend_from_slice(shown.as_bytes());
    });
    text.push(b'.');
    micros(now.subsec_micros(), text);
    text.push(b'Z');
}

/// Six digits.
pub fn micros(mut micros: u32, text: &mut Vec<u8>) {
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    text.extend_from_slice(&digits);
}

/// `YYYY-MM-DDTHH:MM:SS` of seconds since the epoch (the days-to-civil algorithm of H. Hinnant).
pub fn civil(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(civil(0), "1970-01-01T00:00:00");
        assert_eq!(civil(951_827_696), "2000-02-29T12:34:56");
        assert_eq!(civil(1_795_596_000), "2026-11-25T08:40:00");
    }

    #[test]
    fn an_entry_is_one_json_object() {
        GATHERING.set(true);
        entry(Severity::Info, "a \"b\"\n\u{1}")
            .field("n", 7u64)
            .field("none", None::<u64>)
            .nested("o", |o| o.field("k", "v").field("r", Reason::TokenMissing))
            .field("b", true)
            .emit();
        drop(entry(Severity::Info, "given up"));
        let text = String::from_utf8(BUFFER.take()).expect("UTF-8");
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).expect("JSON");
        assert_eq!(value["message"], "a \"b\"\n\u{1}");
        assert_eq!(value["o"]["r"], "TOKEN_MISSING");
        assert_eq!((&value["n"], &value["b"]), (&7.into(), &true.into()));
        assert!(value.get("none").is_none());
    }

    #[test]
    fn every_byte_is_escaped_wherever_it_stands() {
        for byte in 0..=0x7f_u8 {
            for length in [1, 7, 8, 9, 20] {
                for at in 0..length {
                    let mut bytes = vec![b'~'; length];
                    bytes[at] = byte;
                    let value = String::from_utf8(bytes).expect("ASCII");
                    let mut text = Vec::new();
                    value.write(&mut text);
                    let read: String = serde_json::from_slice(&text).expect("JSON");
                    assert_eq!(read, value);
                    assert_eq!(text.len() > length + 2, ESCAPED[usize::from(byte)], "{byte:#x}");
                }
            }
        }
        let mut text = Vec::new();
        "über „\u{10ffff}“".write(&mut text);
        assert_eq!(text, "\"über „\u{10ffff}“\"".as_bytes());
    }

    #[test]
    fn numbers_are_written_as_they_print() {
        for number in [0, 7, 10, 0xabc, u64::MAX] {
            let mut text = Vec::new();
            decimal(number, &mut text);
            hexadecimal(number.into(), 16, &mut text);
            hexadecimal(number.into(), 32, &mut text);
            assert_eq!(text, format!("{number}{number:016x}{number:032x}").as_bytes());
        }
    }

    #[test]
    fn addresses_are_written_as_they_print() {
        for shown in ["0.0.0.0:0", "10.0.200.9:443", "255.255.255.255:65535"] {
            let address: SocketAddrV4 = shown.parse().expect("an address");
            let mut text = Vec::new();
            address.write(&mut text);
            address.ip().write(&mut text);
            assert_eq!(text, format!("\"{shown}\"\"{}\"", address.ip()).as_bytes());
        }
    }
}

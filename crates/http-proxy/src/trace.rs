//! The two headers that say to which distributed trace a request belongs (cloud-run 1.4).

use http::HeaderValue;

/// A request's place in a distributed trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Trace id.
    pub id: u128,
    /// Span id; 0 where the client named none.
    pub span: u64,
    /// Is the trace recorded?
    pub sampled: bool,
}

/// `TRACE_ID[/SPAN_ID][;o=OPTIONS]`: 32 hexadecimal digits, a decimal number, bit 0 of the options
/// for "recorded".
pub fn parse_cloud_trace(value: &HeaderValue) -> Option<Trace> {
    let text = value.to_str().ok()?.trim();
    let (text, options) = match text.split_once(';') {
        Some((text, options)) => (text, options.trim().strip_prefix("o=")?),
        None => (text, "0"),
    };
    let (id, span) = match text.split_once('/') {
        Some((id, span)) => (id, span.parse().ok()?),
        None => (text, 0),
    };
    let sampled = options.parse::<u8>().ok()? & 1 == 1;
    Some(Trace { id: hexadecimal(id, 32)?, span, sampled })
}

/// W3C Trace Context, version 00.
pub fn parse_traceparent(value: &HeaderValue) -> Option<Trace> {
    let mut parts = value.to_str().ok()?.split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() {
        return None;
    }
    let span = u64::try_from(hexadecimal(span, 16)?).ok()?;
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| flags.len() == 2)?;
    Some(Trace { id: hexadecimal(id, 32)?, span, sampled: flags & 1 == 1 })
}

/// So many hexadecimal digits, not all zero.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    let mut number = 0;
    for byte in text.bytes() {
        number = number << 4 | u128::from(char::from(byte).to_digit(16)?);
    }
    (number != 0).then_some(number)
}

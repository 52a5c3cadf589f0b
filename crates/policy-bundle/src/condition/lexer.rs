//! From text to tokens.

use super::{ConditionError, Number};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Open,
    Close,
    Word(&'a str),
    /// A variable name in single quotes.
    QuotedName(&'a str),
    Text(&'a str),
    Number(Number, &'a str),
    Symbol(&'static str),
}

/// Longest first, so that `~/` is not read as `~`.
const SYMBOLS: &[&str] =
    &["&&", "||", "==", "=|", "!=", ":=", ">=", "<=", "~~", "~/", "!~", "=", ">", "<", "~", "!"];

/// Longer conditions are refused: a bound of ours.
const BYTES_MAX: usize = 64 * 1024;

pub(super) fn tokens(source: &str) -> Result<Vec<(usize, Token<'_>)>, ConditionError> {
    let error = |offset: usize, what: &str, fix: &str| ConditionError {
        offset,
        what: what.to_owned(),
        fix: fix.to_owned(),
    };
    if source.len() > BYTES_MAX {
        return Err(error(0, "the condition is too long.", "Split it."));
    }
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &source[at..];
        let (token, length) = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'(' => (Token::Open, 1),
            b')' => (Token::Close, 1),
            b'"' => match rest[1..].find('"') {
                Some(end) => (Token::Text(&rest[1..=end]), end + 2),
                None => return Err(error(at, "the text has no closing quote.", "Add a `\"`.")),
            },
            b'\'' => match rest[1..].find('\'') {
                Some(end) => (Token::QuotedName(&rest[1..=end]), end + 2),
                None => return Err(error(at, "the name has no closing quote.", "Add a `'`.")),
            },
            b'0'..=b'9' | b'.' => number(rest, at)?,
            b'-' if bytes.get(at + 1).is_some_and(|b| b.is_ascii_digit() || *b == b'.') => {
                number(rest, at)?
            }
            b'a'..=b'z' | b'A'..=b'Z' => {
                let length = rest
                    .bytes()
                    .take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
                    .count();
                (Token::Word(&rest[..length]), length)
            }
            // `!=|`, `!~~` and `!~/` are a negated operator, not `!=` or `!~` and a rest.
            b'!' if rest.starts_with("!=|")
                || rest.starts_with("!~~")
                || rest.starts_with("!~/") =>
            {
                (Token::Symbol("!"), 1)
            }
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => (Token::Symbol(symbol), symbol.len()),
                None => {
                    let c = rest.chars().next().unwrap_or_default();
                    let fix = if "+*/%-".contains(c) {
                        "Conditions have no arithmetic."
                    } else {
                        "Put text into double quotes."
                    };
                    return Err(error(
                        at,
                        &format!("`{}` has no meaning here.", c.escape_debug()),
                        fix,
                    ));
                }
            },
        };
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

/// An integer unless it has a point or ends in `f`, `d` or `l` (4.2).
fn number(rest: &str, offset: usize) -> Result<(Token<'_>, usize), ConditionError> {
    let digits = rest
        .bytes()
        .enumerate()
        .take_while(|(i, b)| b.is_ascii_digit() || *b == b'.' || (*i == 0 && *b == b'-'))
        .count();
    let text = &rest[..digits];
    let suffix = rest[digits..].bytes().next();
    let malformed = || ConditionError {
        offset,
        what: format!("`{text}` is not a number."),
        fix: "Write an integer, or one with a point, `f`, `d` or `l`.".to_owned(),
    };
    let (kind, length) = match suffix {
        Some(b'f' | b'F') => (Number::Float(text.parse().map_err(|_| malformed())?), digits + 1),
        Some(b'd' | b'D') => (Number::Double(text.parse().map_err(|_| malformed())?), digits + 1),
        Some(b'l' | b'L') => (Number::Long(text.parse().map_err(|_| malformed())?), digits + 1),
        _ if text.contains('.') => (Number::Double(text.parse().map_err(|_| malformed())?), digits),
        _ => (Number::Integer(text.parse().map_err(|_| malformed())?), digits),
    };
    // `7x` is neither a number nor a name.
    if rest[length..].bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(malformed());
    }
    Ok((Token::Number(kind, text), length))
}

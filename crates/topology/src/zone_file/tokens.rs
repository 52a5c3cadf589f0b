//! The text of a zone file in entries: lines, or several within parentheses, without comments.

use crate::diagnostic::Mark;

/// A word, or a quoted string with its quotes; escapes stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) text: &'t str,
    pub(super) at: Mark,
}

/// A directive or a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'t> {
    /// It begins with white space: the owner is that of the record before.
    pub(super) owner_is_above: bool,
    pub(super) tokens: Vec<Token<'t>>,
}

/// Where, and what is wrong.
pub(super) type Wrong = (Mark, &'static str);

/// All entries; one that is wrong ends at its line.
pub(super) fn entries(text: &str, file: u32) -> Vec<Result<Entry<'_>, Wrong>> {
    let mut all = Vec::new();
    let mut open: Option<Mark> = None;
    let mut entry = Entry { owner_is_above: false, tokens: Vec::new() };
    for (number, line) in text.lines().enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX).saturating_add(1);
        if open.is_none() {
            entry.owner_is_above = line.starts_with([' ', '\t']);
        }
        let mark = |at: usize| {
            let before = line.get(..at).unwrap_or_default().chars().count();
            let column = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1);
            Mark { file, line: number, column }
        };
        let mut at = 0;
        let mut wrong = None;
        while let Some(octet) = line.as_bytes().get(at) {
            match octet {
                b' ' | b'\t' | b'\r' => at += 1,
                b';' => break,
                b'(' if open.is_none() => {
                    open = Some(mark(at));
                    at += 1;
                }
                b')' if open.is_some() => {
                    open = None;
                    at += 1;
                }
                b'(' => {
                    wrong = Some((mark(at), "a parenthesis within parentheses"));
                    break;
                }
                b')' => {
                    wrong = Some((mark(at), "a parenthesis is closed that was not opened"));
                    break;
                }
                _ => match word(&line[at..]) {
                    Some(length) => {
                        entry.tokens.push(Token { text: &line[at..at + length], at: mark(at) });
                        at += length;
                    }
                    None => {
                        wrong = Some((mark(at), "the string has no end"));
                        break;
                    }
                },
            }
        }
        if let Some(wrong) = wrong {
            all.push(Err(wrong));
            open = None;
            entry.tokens.clear();
        } else if open.is_none() && !entry.tokens.is_empty() {
            let tokens = std::mem::take(&mut entry.tokens);
            all.push(Ok(Entry { owner_is_above: entry.owner_is_above, tokens }));
        }
    }
    if let Some(at) = open {
        all.push(Err((at, "a parenthesis is opened that is not closed")));
    }
    all
}

/// How long the word or string at the beginning is; none: a string without end.
fn word(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b' ' | b'\t' | b'\r' | b';' | b'(' | b')' if !quoted => return Some(at),
            _ => {}
        }
    }
    (!quoted).then_some(text.len())
}

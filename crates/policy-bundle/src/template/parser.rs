//! From text to parts. What is no reference stays as it is, so that JSON payloads work (5).

use super::functions::{self, Function};
use super::{Argument, Call, Part, Reference, Template, TemplateError};
use crate::variable::Variable;

pub(super) fn parse(source: &str, prefix: &str, suffix: &str) -> Result<Template, TemplateError> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut at = 0;
    while let Some(found) = source[at..].find(prefix) {
        let begin = at + found;
        let inner = begin + prefix.len();
        text.push_str(&source[at..begin]);
        match reference(source, inner, suffix)? {
            Some((part, end)) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text).into()));
                }
                parts.push(part);
                at = end;
            }
            None => {
                text.push_str(prefix);
                at = inner;
            }
        }
    }
    text.push_str(&source[at..]);
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(Template { source: source.into(), parts })
}

/// A reference that begins at `inner`, with the end of its suffix; none: it is plain text.
fn reference(
    source: &str,
    inner: usize,
    suffix: &str,
) -> Result<Option<(Part, usize)>, TemplateError> {
    let name_end = inner + name_length(&source[inner..]);
    if name_end == inner {
        return Ok(None);
    }
    let name = &source[inner..name_end];
    let rest = &source[name_end..];
    if rest.starts_with(suffix) {
        let reference = Reference { variable: Variable::parse(name), default: None };
        return Ok(Some((Part::Variable(reference), name_end + suffix.len())));
    }
    if let Some(default) = rest.strip_prefix(':') {
        // The first brace or suffix decides, so that no text costs more than one look ahead.
        let stop = default
            .char_indices()
            .find(|(at, c)| *c == '{' || default[*at..].starts_with(suffix))
            .map(|(at, _)| at);
        let Some(end) = stop.filter(|end| default[*end..].starts_with(suffix)) else {
            return Ok(None);
        };
        let reference =
            Reference { variable: Variable::parse(name), default: Some(default[..end].into()) };
        return Ok(Some((Part::Variable(reference), name_end + 1 + end + suffix.len())));
    }
    if rest.starts_with('(') {
        return call(source, inner, name, name_end + 1, suffix);
    }
    Ok(None)
}

/// The length of a variable's name at the beginning of a text.
fn name_length(text: &str) -> usize {
    match text.bytes().next() {
        Some(first) if first.is_ascii_alphabetic() || first == b'_' => {
            text.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)).count()
        }
        _ => 0,
    }
}

/// `name(argument,…)` and the suffix; arguments are variables, numbers or texts in single quotes.
fn call(
    source: &str,
    inner: usize,
    name: &str,
    mut at: usize,
    suffix: &str,
) -> Result<Option<(Part, usize)>, TemplateError> {
    let mut arguments = Vec::new();
    if !source[at..].starts_with(')') {
        loop {
            let Some((argument, end)) = argument(source, at) else { return Ok(None) };
            arguments.push(argument);
            at = end;
            match source[at..].bytes().next() {
                Some(b',') => at += 1,
                Some(b')') => break,
                _ => return Ok(None),
            }
        }
    }
    at += 1;
    if !source[at..].starts_with(suffix) {
        return Ok(None);
    }
    let error = |what: String| TemplateError { offset: inner, what };
    let Some((function, fewest, most)) = Function::named(name) else {
        let what = match functions::known_but_not_supported(name) {
            true => format!("the function `{name}` is not supported."),
            false => format!("there is no function `{name}`."),
        };
        return Err(error(what));
    };
    if !(fewest..=most).contains(&arguments.len()) {
        return Err(error(format!(
            "`{name}` takes {fewest} to {most} arguments, not {}.",
            arguments.len()
        )));
    }
    let source = source[inner..at].into();
    let call = Call { function, arguments, source };
    functions::check(&call).map_err(error)?;
    Ok(Some((Part::Call(Box::new(call)), at + suffix.len())))
}

fn argument(source: &str, at: usize) -> Option<(Argument, usize)> {
    let rest = &source[at..];
    if let Some(literal) = rest.strip_prefix('\'') {
        let end = literal.find('\'')?;
        return Some((Argument::Literal(literal[..end].into()), at + end + 2));
    }
    let length = name_length(rest);
    if length > 0 {
        let name = &rest[..length];
        if name == "true" || name == "false" {
            return Some((Argument::Literal(name.into()), at + length));
        }
        let (default, used) = match rest[length..].strip_prefix(':') {
            None => (None, 0),
            Some(default) => {
                let end = default.find([',', ')', '{', '}'])?;
                (Some(default[..end].into()), end + 1)
            }
        };
        let reference = Reference { variable: Variable::parse(name), default };
        return Some((Argument::Variable(reference), at + length + used));
    }
    let digits = rest
        .bytes()
        .enumerate()
        .take_while(|(i, b)| b.is_ascii_digit() || (*i == 0 && *b == b'-'))
        .count();
    (digits > 0).then(|| (Argument::Literal(rest[..digits].into()), at + digits))
}

//! JSON and XML escapes, as the Java runtime's commons-text does them.

use std::fmt::Write;

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a String does not fail");
}

/// Quotes, backslash and slash get a backslash; control characters and everything beyond ASCII
/// become `\uXXXX`.
pub(super) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            ' '..='\u{7f}' => out.push(c),
            _ => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    push(&mut out, format_args!("\\u{unit:04X}"));
                }
            }
        }
    }
    out
}

/// XML 1.0: control characters that it cannot hold are removed.
pub(super) fn xml10(text: &str) -> String {
    xml(text, |c| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}'), |_| false)
}

/// XML 1.1: control characters become references.
pub(super) fn xml11(text: &str) -> String {
    xml(
        text,
        |c| c != '\0',
        |c| matches!(c, '\u{1}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}'),
    )
}

fn xml(text: &str, keeps: impl Fn(char) -> bool, refers: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' => out.push_str("&quot;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => {}
            '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}' => {
                push(&mut out, format_args!("&#{};", c as u32))
            }
            c if refers(c) => push(&mut out, format_args!("&#{};", c as u32)),
            c if keeps(c) => out.push(c),
            _ => {}
        }
    }
    out
}

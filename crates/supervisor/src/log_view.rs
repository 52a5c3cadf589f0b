//! A line of a log as people read it. Lines are JSON objects: entries of programs, and of what
//! containers write; whatever else a program writes is shown as it is.

use serde_json::{Map, Value};
use std::fmt::Write;

/// What says where an entry belongs, not what happened.
const AROUND: [&str; 14] = [
    "severity",
    "time",
    "timestamp",
    "receiveTimestamp",
    "message",
    "textPayload",
    "jsonPayload",
    "httpRequest",
    "logName",
    "resource",
    "labels",
    "insertId",
    "spanId",
    "traceSampled",
];

/// `TIME SEVERITY NAME: TEXT key=value …`, without a line end.
pub fn line(name: &str, line: &str) -> String {
    let Ok(entry) = serde_json::from_str::<Map<String, Value>>(line) else {
        return format!("{name}: {line}");
    };
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let time = text("time").or_else(|| text("timestamp")).unwrap_or_default();
    let severity = text("severity").unwrap_or("DEFAULT");
    let mut shown = format!("{time} {severity:<7} {name}:");
    if let Some(request) = entry.get("httpRequest").and_then(Value::as_object) {
        for key in ["requestMethod", "requestUrl", "status", "latency"] {
            if let Some(value) = request.get(key) {
                let _ = write!(shown, " {}", plain(value));
            }
        }
    }
    let message = text("message").or_else(|| text("textPayload")).unwrap_or_default();
    if !message.is_empty() {
        let _ = write!(shown, " {}", one_line(message));
    }
    if let Some(payload) = entry.get("jsonPayload").and_then(Value::as_object) {
        if let Some(message) = payload.get("message") {
            let _ = write!(shown, " {}", plain(message));
        }
        pairs(payload, &mut shown, |key| key == "message");
    }
    pairs(&entry, &mut shown, |key| AROUND.contains(&key));
    shown
}

fn pairs(fields: &Map<String, Value>, shown: &mut String, skip: impl Fn(&str) -> bool) {
    for (key, value) in fields.iter().filter(|(key, _)| !skip(key)) {
        let _ = write!(shown, " {}={}", one_line(key), plain(value));
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text),
        value => value.to_string(),
    }
}

/// A container's text may be anything: it neither breaks lines nor speaks to the terminal.
fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\t' {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn an_entry_is_one_line_for_people() {
        for (entry, expected) in [
            (
                r#"{"severity":"ERROR","time":"T","message":"It failed.","logName":"x","httpRequest":{"requestMethod":"GET","requestUrl":"https://a/b","status":503,"latency":"0.004s"},"reason":"R"}"#,
                "T ERROR   run: GET https://a/b 503 0.004s It failed. reason=R",
            ),
            (
                r#"{"severity":"DEFAULT","timestamp":"T","textPayload":"a\u001b[2Jb\nc","labels":{},"trace":"t"}"#,
                "T DEFAULT run: a\\u{1b}[2Jb\\nc trace=t",
            ),
            (
                r#"{"severity":"INFO","timestamp":"T","jsonPayload":{"message":"m","n":1}}"#,
                "T INFO    run: m n=1",
            ),
            ("thread 'main' panicked", "run: thread 'main' panicked"),
        ] {
            assert_eq!(line("run", entry), expected);
        }
    }
}

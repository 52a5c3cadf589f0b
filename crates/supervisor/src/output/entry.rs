//! A line of a container as a log entry (cloud-run 7.2): plain text is `textPayload`, a JSON object
//! is structured, and what Cloud Logging lifts out of it is lifted.

use runtime::log::{civil, micros};
use serde_json::{Map, Value, json};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error; it does not imply a severity (7.2 (unconfirmed)).
    Stderr,
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        })
    }
}

/// The container that wrote a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Project id.
    pub project: String,
    /// Region.
    pub location: String,
    /// Service.
    pub service: String,
    /// Revision.
    pub revision: String,
    /// `instanceId`, as its metadata server says it.
    pub instance_id: String,
    /// Name of a sidecar (the label is (unconfirmed)).
    pub container: Option<String>,
}

/// The prefix of keys that are lifted.
const PREFIX: &str = "logging.googleapis.com/";

impl Origin {
    /// Appends the entry of a line, as JSON in one line.
    pub fn entry(&self, stream: Stream, line: &[u8], now: SystemTime, text: &mut Vec<u8>) {
        let now = rfc3339(now);
        let mut entry = Map::new();
        let mut labels = Map::new();
        let structured = match line.trim_ascii_start().first() {
            Some(b'{') => serde_json::from_slice::<Map<String, Value>>(line).ok(),
            _ => None,
        };
        match structured {
            None => {
                entry.insert("textPayload".to_owned(), String::from_utf8_lossy(line).into());
            }
            Some(fields) => self.lift(fields, &mut entry, &mut labels),
        }
        labels.insert("instanceId".to_owned(), self.instance_id.as_str().into());
        if let Some(container) = &self.container {
            labels.insert("container_name".to_owned(), container.as_str().into());
        }
        let project = &self.project;
        let resource = json!({
            "type": "cloud_run_revision",
            "labels": {
                "project_id": project,
                "location": self.location,
                "service_name": self.service,
                "revision_name": self.revision,
                "configuration_name": self.service, // "configuration name = service name"
            },
        });
        let name = format!("projects/{project}/logs/run.googleapis.com%2F{stream}");
        entry.insert("logName".to_owned(), name.into());
        entry.insert("resource".to_owned(), resource);
        entry.insert("labels".to_owned(), labels.into());
        entry.entry("severity").or_insert_with(|| "DEFAULT".into());
        entry.entry("timestamp").or_insert_with(|| now.as_str().into());
        entry.insert("receiveTimestamp".to_owned(), now.into());
        text.extend_from_slice(Value::Object(entry).to_string().as_bytes());
        text.push(b'\n');
    }

    /// Moves what a structured line says of its entry there. What has not the form that is needed
    /// stays in the payload.
    fn lift(
        &self,
        mut fields: Map<String, Value>,
        entry: &mut Map<String, Value>,
        labels: &mut Map<String, Value>,
    ) {
        if let Some(said) = fields.get("severity").and_then(severity) {
            fields.remove("severity");
            entry.insert("severity".to_owned(), said.into());
        }
        if let Some(time) = time(&mut fields) {
            entry.insert("timestamp".to_owned(), time.into());
        }
        if let Some(Value::Object(own)) = take(&mut fields, &key("labels"), Value::is_object) {
            let texts = own.into_iter().filter(|(_, value)| value.is_string());
            labels.extend(texts);
        }
        if let Some(Value::String(trace)) = take(&mut fields, &key("trace"), Value::is_string) {
            let bare = trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit());
            let trace = match bare {
                true => format!("projects/{}/traces/{trace}", self.project),
                false => trace,
            };
            entry.insert("trace".to_owned(), trace.into());
        }
        let text: fn(&Value) -> bool = Value::is_string;
        for (from, to, fits) in [
            ("httpRequest".to_owned(), "httpRequest", Value::is_object as fn(&Value) -> bool),
            (key("spanId"), "spanId", text),
            (key("trace_sampled"), "traceSampled", Value::is_boolean),
            (key("insertId"), "insertId", text),
            (key("operation"), "operation", Value::is_object),
            (key("sourceLocation"), "sourceLocation", Value::is_object),
        ] {
            if let Some(value) = take(&mut fields, &from, fits) {
                entry.insert(to.to_owned(), value);
            }
        }
        // "message (→ textPayload if alone)" (7.2).
        let alone = fields.len() == 1 && fields.get("message").is_some_and(Value::is_string);
        match (alone, fields.remove("message")) {
            (true, Some(message)) => {
                entry.insert("textPayload".to_owned(), message);
            }
            (_, message) => {
                fields.extend(message.map(|message| ("message".to_owned(), message)));
                entry.insert("jsonPayload".to_owned(), fields.into());
            }
        }
    }
}

fn key(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Takes a field out if it has the form that is needed.
fn take(fields: &mut Map<String, Value>, key: &str, fits: fn(&Value) -> bool) -> Option<Value> {
    match fields.get(key) {
        Some(value) if fits(value) => fields.remove(key),
        _ => None,
    }
}

/// Cloud Logging's severity of what a program calls it: its own names in any case, and the usual
/// ones of other libraries, as Google's agent translates them. Others are DEFAULT.
fn severity(said: &Value) -> Option<&'static str> {
    let said = said.as_str()?.trim().to_ascii_uppercase();
    Some(match said.as_str() {
        "DEBUG" | "D" | "TRACE" | "FINE" | "FINER" | "FINEST" | "CONFIG" => "DEBUG",
        "INFO" | "I" => "INFO",
        "NOTICE" | "N" => "NOTICE",
        "WARNING" | "WARN" | "W" => "WARNING",
        "ERROR" | "ERR" | "E" | "SEVERE" => "ERROR",
        "CRITICAL" | "CRIT" | "C" | "FATAL" => "CRITICAL",
        "ALERT" | "A" => "ALERT",
        "EMERGENCY" | "EMERG" => "EMERGENCY",
        _ => "DEFAULT",
    })
}

/// `time`, `timestamp`, or `timestampSeconds` and `timestampNanos`.
fn time(fields: &mut Map<String, Value>) -> Option<String> {
    for name in ["time", "timestamp"] {
        match fields.get(name) {
            Some(Value::String(text)) if is_rfc3339(text) => {}
            Some(Value::Object(time)) => {
                let (seconds, nanos) = (time.get("seconds"), time.get("nanos"));
                let time = of_seconds(seconds?, nanos)?;
                fields.remove(name);
                return Some(time);
            }
            _ => continue,
        }
        return fields.remove(name)?.as_str().map(str::to_owned);
    }
    let time = of_seconds(fields.get("timestampSeconds")?, fields.get("timestampNanos"))?;
    fields.remove("timestampSeconds");
    fields.remove("timestampNanos");
    Some(time)
}

/// Numbers of a `google.protobuf.Timestamp`; its JSON may have the seconds in quotes.
fn of_seconds(seconds: &Value, nanos: Option<&Value>) -> Option<String> {
    let number =
        |value: &Value| value.as_u64().or_else(|| value.as_str().and_then(|v| v.parse().ok()));
    let seconds = number(seconds).filter(|seconds| *seconds < 253_402_300_800)?; // the year 10000
    let nanos = nanos.map_or(Some(0), number).filter(|nanos| *nanos < 1_000_000_000)?;
    Some(format!("{}.{nanos:09}Z", civil(seconds)))
}

/// `2026-11-25T22:16:16[.983]Z`, or with an offset; the ranges of its numbers are not looked at.
fn is_rfc3339(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(19) else { return false };
    let shape = date.bytes().zip(b"0000-00-00T00:00:00").all(|(byte, pattern)| match pattern {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        pattern => byte == *pattern,
    });
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let offset = zone.strip_prefix(['+', '-']).is_some_and(|offset| {
        offset.len() == 5
            && offset.bytes().zip(b"00:00").all(|(byte, pattern)| match pattern {
                b'0' => byte.is_ascii_digit(),
                pattern => byte == *pattern,
            })
    });
    shape && (matches!(zone, "Z" | "z") || offset)
}

fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut text = civil(since.as_secs()).into_bytes();
    text.push(b'.');
    micros(since.subsec_micros(), &mut text);
    text.push(b'Z');
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn entry(line: &str) -> Value {
        let origin = Origin {
            project: "p".to_owned(),
            location: "europe-west1".to_owned(),
            service: "orders".to_owned(),
            revision: "orders-00001-abc".to_owned(),
            instance_id: "00ab".to_owned(),
            container: None,
        };
        let mut text = Vec::new();
        let now = UNIX_EPOCH + Duration::from_millis(951_827_696_500);
        origin.entry(Stream::Stderr, line.as_bytes(), now, &mut text);
        assert_eq!(text.pop(), Some(b'\n'));
        assert!(!text.contains(&b'\n'), "one line");
        serde_json::from_slice(&text).expect("JSON")
    }

    #[test]
    fn every_entry_says_where_it_comes_from() {
        assert_eq!(
            entry("hello"),
            json!({
                "textPayload": "hello",
                "severity": "DEFAULT",
                "timestamp": "2000-02-29T12:34:56.500000Z",
                "receiveTimestamp": "2000-02-29T12:34:56.500000Z",
                "logName": "projects/p/logs/run.googleapis.com%2Fstderr",
                "labels": {"instanceId": "00ab"},
                "resource": {
                    "type": "cloud_run_revision",
                    "labels": {
                        "project_id": "p",
                        "location": "europe-west1",
                        "service_name": "orders",
                        "revision_name": "orders-00001-abc",
                        "configuration_name": "orders",
                    },
                },
            })
        );
    }

    #[test]
    fn what_cloud_logging_lifts_is_lifted() {
        let hex = "105445aa7843bc8bf206b12000100000";
        for (line, path, expected) in [
            (json!({"message": "a", "severity": "error"}), "textPayload", json!("a")),
            (json!({"message": "a", "severity": "error"}), "severity", json!("ERROR")),
            (json!({"severity": "warn"}), "severity", json!("WARNING")),
            (json!({"severity": "odd"}), "severity", json!("DEFAULT")),
            (json!({"severity": 7}), "jsonPayload", json!({"severity": 7})),
            (json!({"message": "a", "b": 1}), "jsonPayload", json!({"message": "a", "b": 1})),
            (json!({"message": {"a": 1}}), "jsonPayload", json!({"message": {"a": 1}})),
            (json!({"b": 1}), "textPayload", Value::Null),
            (
                json!({"logging.googleapis.com/trace": "projects/p/traces/x"}),
                "trace",
                json!("projects/p/traces/x"),
            ),
            (
                json!({"logging.googleapis.com/trace": hex}),
                "trace",
                json!(format!("projects/p/traces/{hex}")),
            ),
            (json!({"logging.googleapis.com/spanId": "00f0"}), "spanId", json!("00f0")),
            (json!({"logging.googleapis.com/trace_sampled": true}), "traceSampled", json!(true)),
            (json!({"logging.googleapis.com/insertId": "i"}), "insertId", json!("i")),
            (
                json!({"logging.googleapis.com/operation": {"id": "o"}}),
                "operation",
                json!({"id": "o"}),
            ),
            (
                json!({"logging.googleapis.com/sourceLocation": {"file": "f"}}),
                "sourceLocation",
                json!({"file": "f"}),
            ),
            (json!({"logging.googleapis.com/sourceLocation": "f"}), "sourceLocation", Value::Null),
            (
                json!({"logging.googleapis.com/labels": {"a": "b", "instanceId": "forged", "n": 1}}),
                "labels",
                json!({"a": "b", "instanceId": "00ab"}),
            ),
            (json!({"httpRequest": {"status": 200}}), "httpRequest", json!({"status": 200})),
            (
                json!({"time": "2026-11-25T22:16:16.9+01:00"}),
                "timestamp",
                json!("2026-11-25T22:16:16.9+01:00"),
            ),
            (
                json!({"timestamp": {"seconds": 951_827_696, "nanos": 5}}),
                "timestamp",
                json!("2000-02-29T12:34:56.000000005Z"),
            ),
            (
                json!({"timestampSeconds": "951827696", "timestampNanos": 0}),
                "timestamp",
                json!("2000-02-29T12:34:56.000000000Z"),
            ),
            (json!({"time": "now"}), "jsonPayload", json!({"time": "now"})),
            (
                json!({"logName": "forged", "resource": {}}),
                "logName",
                json!("projects/p/logs/run.googleapis.com%2Fstderr"),
            ),
        ] {
            let entry = entry(&line.to_string());
            assert_eq!(entry.get(path).unwrap_or(&Value::Null), &expected, "{line} {path}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_text() {
        let deep = "{\"a\":".repeat(500);
        for line in ["{", "[1]", "\"x\"", "{\"a\":1} more", "12", &deep] {
            assert_eq!(entry(line)["textPayload"], line);
        }
    }
}

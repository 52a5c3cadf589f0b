//! One JSON line per request on standard output, as Cloud Logging reads it.

use serde_json::{Map, Value, json};
use std::io::Write;

/// Writes a line. A closed standard output is no reason to stop serving.
pub(crate) fn line(severity: &str, message: &str, fields: Map<String, Value>) {
    let mut entry = Map::new();
    entry.insert("severity".to_owned(), severity.into());
    entry.insert("message".to_owned(), message.into());
    entry.extend(fields);
    let _ = writeln!(std::io::stdout().lock(), "{}", Value::Object(entry));
}

/// The line of one request.
pub(crate) fn request(head: &http::request::Parts, status: http::StatusCode) {
    let message = format!("{} {} {}", head.method, head.uri.path(), status.as_u16());
    let mut fields = Map::new();
    let request = json!({
        "requestMethod": head.method.as_str(),
        "requestUrl": head.uri.to_string(),
        "status": status.as_u16(),
        "protocol": format!("{:?}", head.version),
    });
    fields.insert("httpRequest".to_owned(), request);
    let trace = head.headers.get("x-cloud-trace-context").and_then(|value| value.to_str().ok());
    if let Some(trace) = trace.and_then(|value| value.split('/').next()) {
        fields.insert("logging.googleapis.com/trace".to_owned(), trace.into());
    }
    line("INFO", &message, fields);
}

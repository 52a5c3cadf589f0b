//! OTLP's JSON encoding of spans (opentelemetry-proto, `ExportTraceServiceRequest`), written by
//! hand: it is one message.

use runtime::log::{self, Value as _};

/// A span, finished.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Trace.
    pub trace: u128,
    /// Its own id.
    pub id: u64,
    /// That of the span above; 0: none.
    pub parent: u64,
    /// What it is.
    pub kind: Kind,
    /// A name of few values.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub began: u64,
    /// See `began`.
    pub ended: u64,
    /// Names are OpenTelemetry's where it has one.
    pub attributes: Vec<(&'static str, Value)>,
    /// It failed.
    pub failed: bool,
}

/// The kinds of span that a load balancer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request, as it came.
    Server = 2,
    /// A try at a backend.
    Client = 3,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Box<str>),
    /// A number.
    Number(u64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Number(number)
    }
}

/// One request of the export service.
pub fn encode(service: &str, spans: &[Span]) -> Vec<u8> {
    let mut text = Vec::with_capacity(512 + spans.len() * 512);
    put(&mut text, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
    attribute("service.name", &service.into(), &mut text);
    put(&mut text, "]},\"scopeSpans\":[{\"scope\":{\"name\":\"postern\",\"version\":\"");
    put(&mut text, env!("CARGO_PKG_VERSION"));
    put(&mut text, "\"},\"spans\":[");
    for (place, span) in spans.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        write(span, &mut text);
    }
    put(&mut text, "]}]}]}");
    text
}

fn write(span: &Span, text: &mut Vec<u8>) {
    put(text, "{\"traceId\":\"");
    log::hexadecimal(span.trace, 32, text);
    put(text, "\",\"spanId\":\"");
    log::hexadecimal(span.id.into(), 16, text);
    if span.parent != 0 {
        put(text, "\",\"parentSpanId\":\"");
        log::hexadecimal(span.parent.into(), 16, text);
    }
    put(text, "\",\"name\":");
    span.name.write(text);
    put(text, ",\"kind\":");
    log::decimal(span.kind as u64, text);
    // 64-bit numbers are texts in protobuf's JSON.
    put(text, ",\"startTimeUnixNano\":\"");
    log::decimal(span.began, text);
    put(text, "\",\"endTimeUnixNano\":\"");
    log::decimal(span.ended, text);
    put(text, "\",\"attributes\":[");
    for (place, (key, value)) in span.attributes.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        attribute(key, value, text);
    }
    put(text, if span.failed { "],\"status\":{\"code\":2}}" } else { "],\"status\":{}}" });
}

fn attribute(key: &str, value: &Value, text: &mut Vec<u8>) {
    put(text, "{\"key\":\"");
    put(text, key);
    match value {
        Value::Text(value) => {
            put(text, "\",\"value\":{\"stringValue\":");
            (**value).write(text);
        }
        Value::Number(value) => {
            put(text, "\",\"value\":{\"intValue\":\"");
            log::decimal(*value, text);
            text.push(b'"');
        }
    }
    put(text, "}}");
}

fn put(text: &mut Vec<u8>, part: &str) {
    text.extend_from_slice(part.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_protobufs_json() {
        let span = Span {
            trace: 0xabc,
            id: 1,
            parent: 0,
            kind: Kind::Server,
            name: "GET \"/a\"".to_owned(),
            began: u64::MAX,
            ended: 2,
            attributes: vec![
                ("url.path", "/a\n".into()),
                ("http.response.status_code", 503.into()),
            ],
            failed: true,
        };
        let child = Span { id: 2, parent: 1, kind: Kind::Client, failed: false, ..span.clone() };
        let value: serde_json::Value =
            serde_json::from_slice(&encode("lb", &[span, child])).expect("JSON");
        let resource = &value["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "lb");
        let spans = &resource["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["traceId"], "00000000000000000000000000000abc");
        assert_eq!((&spans[0]["kind"], &spans[0]["status"]["code"]), (&2.into(), &2.into()));
        assert_eq!(spans[0]["startTimeUnixNano"], u64::MAX.to_string());
        assert_eq!(spans[0]["attributes"][0]["value"]["stringValue"], "/a\n");
        assert_eq!(spans[0]["attributes"][1]["value"]["intValue"], "503");
        assert!(spans[0].get("parentSpanId").is_none());
        assert_eq!(spans[1]["parentSpanId"], "0000000000000001");
    }
}

//! Properties of endpoints (9.1). Values are literals, never templates.

use crate::target::{PAYLOAD_BYTES_MAX, TargetProperties};
use crate::xml::{Many, Reader};
use roxmltree::Node;
use std::time::Duration;

/// The highest `….payload.parse.limit` (9.1: 30 MB).
const PAYLOAD_LIMIT_MAX: usize = 30 * 1024 * 1024;

/// Properties of a proxy endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyProperties {
    pub request_streaming: bool,
    pub response_streaming: bool,
    pub request_payload_max: usize,
    pub api_timeout: Option<Duration>,
    pub x_forwarded_for: bool,
}

impl Default for ProxyProperties {
    fn default() -> Self {
        ProxyProperties {
            request_streaming: false,
            response_streaming: false,
            request_payload_max: PAYLOAD_BYTES_MAX,
            api_timeout: None,
            x_forwarded_for: false,
        }
    }
}

impl ProxyProperties {
    pub fn parse(node: Node<'_, '_>, reader: &mut Reader<'_>) -> ProxyProperties {
        let mut properties = ProxyProperties::default();
        for property in list(node, reader) {
            match property.name.as_str() {
                "request.streaming.enabled" => {
                    properties.request_streaming = property.boolean(reader)
                }
                "response.streaming.enabled" => {
                    properties.response_streaming = property.boolean(reader)
                }
                "request.payload.parse.limit" => {
                    properties.request_payload_max =
                        property.bytes(reader).unwrap_or(PAYLOAD_BYTES_MAX);
                }
                "api.timeout" => properties.api_timeout = property.millis(reader),
                "X-Forwarded-For" => properties.x_forwarded_for = property.boolean(reader),
                "compression.algorithm" => property.no_compression(reader),
                // Repeated headers are always accepted here.
                "HTTPHeader.allowDuplicates" | "HTTPHeader.multiValued" => {
                    property.no_effect(reader, "repeated headers are always accepted.");
                }
                _ => property.unknown(reader),
            }
        }
        properties
    }
}

/// Properties of a target endpoint.
pub(super) fn target(node: Node<'_, '_>, reader: &mut Reader<'_>) -> TargetProperties {
    let mut properties = TargetProperties::default();
    for property in list(node, reader) {
        match property.name.as_str() {
            "connect.timeout.millis" => {
                properties.connect_timeout =
                    property.millis(reader).unwrap_or(properties.connect_timeout);
            }
            "io.timeout.millis" => {
                properties.io_timeout = property.millis(reader).unwrap_or(properties.io_timeout);
            }
            "keepalive.timeout.millis" => {
                properties.keepalive_timeout =
                    property.millis(reader).unwrap_or(properties.keepalive_timeout);
            }
            "success.codes" => properties.success_codes = property.codes(reader),
            "request.streaming.enabled" => properties.request_streaming = property.boolean(reader),
            "response.streaming.enabled" => {
                properties.response_streaming = property.boolean(reader)
            }
            "response.payload.parse.limit" => {
                properties.response_payload_max =
                    property.bytes(reader).unwrap_or(PAYLOAD_BYTES_MAX);
            }
            "ignore.allow.header.for.405" => {
                properties.ignore_allow_header = property.boolean(reader)
            }
            "allow.tls.session.resumption" => properties.tls_resumption = property.boolean(reader),
            "retain.queryparams" => properties.retain_query.only = Some(property.names()),
            "retain.queryparams.enabled" => {
                properties.retain_query.dropped = !property.boolean(reader)
            }
            "request.retain.headers" => {
                properties.retain_request_headers.only = Some(property.names())
            }
            "request.retain.headers.enabled" => {
                properties.retain_request_headers.dropped = !property.boolean(reader);
            }
            "response.retain.headers" => {
                properties.retain_response_headers.only = Some(property.names())
            }
            "response.retain.headers.enabled" => {
                properties.retain_response_headers.dropped = !property.boolean(reader);
            }
            "compression.algorithm" => property.no_compression(reader),
            "supports.http11" => {
                if !property.boolean(reader) {
                    property.refuse(reader, "HTTP/1.0 towards targets is not supported.");
                }
            }
            "allow.post.without.content.length" | "allow.put.without.content.length" => {
                property.no_effect(
                    reader,
                    "a request without a payload is always sent with its length.",
                );
            }
            "use.proxy" | "use.proxy.tunneling" | "use.proxy.host.header.with.target.uri" => {
                property.no_effect(reader, "environments have no forward proxy here.");
            }
            "copy.pathsuffix" | "copy.queryparams" => {
                // Measured: the property of this name is ignored (2.4).
                let why = "Apigee ignores it: set the variable `target.copy.pathsuffix` or \
                           `target.copy.queryparams` in the target request flow.";
                property.no_effect(reader, why);
            }
            _ => property.unknown(reader),
        }
    }
    properties
}

struct Property<'a, 'i> {
    node: Node<'a, 'i>,
    name: String,
    value: String,
}

fn list<'a, 'i>(node: Node<'a, 'i>, reader: &mut Reader<'_>) -> Vec<Property<'a, 'i>> {
    reader.attributes(node, &[]);
    let mut all: Vec<Property<'a, 'i>> = Vec::new();
    for item in reader.children(node, &[("Property", Many)]) {
        reader.attributes(item, &["name"]);
        let name = reader.required_attribute(item, "name").to_owned();
        if all.iter().any(|other| other.name == name) {
            reader.error(
                item,
                "DUPLICATE_ELEMENT",
                format!("the property `{name}` occurs twice."),
                "Keep one of them.",
            );
        }
        let value = reader.text(item);
        all.push(Property { node: item, name, value });
    }
    all
}

impl Property<'_, '_> {
    fn refuse(&self, reader: &mut Reader<'_>, why: &str) {
        let what = format!("the property `{}` is `{}`: {why}", self.name, self.value);
        reader.error(self.node, "UNSUPPORTED_PROPERTY", what, "Remove it.");
    }

    fn unknown(&self, reader: &mut Reader<'_>) {
        let what = format!("the property `{}` is not supported.", self.name);
        reader.error(
            self.node,
            "UNSUPPORTED_PROPERTY",
            what,
            "Remove it, or see Apigee's reference of endpoint properties.",
        );
    }

    fn no_effect(&self, reader: &mut Reader<'_>, why: &str) {
        let what = format!("the property `{}` has no effect: {why}", self.name);
        reader.warn(self.node, "NO_EFFECT", what, "");
    }

    fn no_compression(&self, reader: &mut Reader<'_>) {
        if !self.value.eq_ignore_ascii_case("none") {
            self.refuse(reader, "only none is supported; encodings pass through unchanged.");
        }
    }

    fn boolean(&self, reader: &mut Reader<'_>) -> bool {
        match self.value.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.refuse(reader, "write true or false.");
                false
            }
        }
    }

    fn millis(&self, reader: &mut Reader<'_>) -> Option<Duration> {
        match self.value.parse::<u32>() {
            Ok(millis) if millis > 0 => Some(Duration::from_millis(u64::from(millis))),
            _ => {
                self.refuse(reader, "write milliseconds, more than 0.");
                None
            }
        }
    }

    /// `10M`, `512K` or bytes.
    fn bytes(&self, reader: &mut Reader<'_>) -> Option<usize> {
        let text = self.value.trim_end_matches(['b', 'B']);
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'M' | b'm') => (&text[..text.len() - 1], 1024 * 1024),
            Some(b'K' | b'k') => (&text[..text.len() - 1], 1024),
            _ => (text, 1),
        };
        let bytes = digits.trim().parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        match bytes {
            Some(bytes) if bytes > 0 && bytes <= PAYLOAD_LIMIT_MAX => Some(bytes),
            _ => {
                self.refuse(reader, "write a size such as 10M, at most 30M.");
                None
            }
        }
    }

    fn names(&self) -> Vec<String> {
        self.value
            .split(',')
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// `1xx,2xx,404`: a given list replaces the default (3.4).
    fn codes(&self, reader: &mut Reader<'_>) -> Vec<(u16, u16)> {
        let mut codes = Vec::new();
        for item in self.names() {
            let item = item.to_ascii_lowercase();
            let code = match item.strip_suffix("xx") {
                Some(class) => class
                    .parse()
                    .ok()
                    .filter(|class| (1..=5).contains(class))
                    .map(|c: u16| (c * 100, c * 100 + 99)),
                None => item
                    .parse()
                    .ok()
                    .filter(|code| (100..1000).contains(code))
                    .map(|code| (code, code)),
            };
            match code {
                Some(code) => codes.push(code),
                None => self.refuse(reader, "write codes such as 2xx,404."),
            }
        }
        codes
    }
}

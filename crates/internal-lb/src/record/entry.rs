//! A request's log entry, in the shape of Cloud Logging (private-connectivity 2.9). Written without
//! the machinery of formatting: there is one entry for every request.

use super::{Ended, Kept, protocol, text_of};
use crate::compile::Front;
use crate::meters::Meters;
use crate::respond;
use http::{HeaderName, HeaderValue};
use names::Reason;
use runtime::log::{self, Severity};
use std::net::Ipv4Addr;
use std::time::Duration;

impl Kept {
    /// Everything but what a refusal adds. Written without the machinery of formatting: there is
    /// one entry for every request.
    pub(super) fn render(
        &self,
        front: &Front,
        ended: &Ended<'_>,
        took: Duration,
        text: &mut Vec<u8>,
    ) {
        text.reserve(1024);
        text.extend_from_slice(front.log_head.as_bytes());
        put(text, ",\"matched_url_path_rule\":\"");
        log::escape(self.path_rule.as_deref().unwrap_or("UNMATCHED"), text);
        put(text, "\"");
        if let Some(service) = self.service.and_then(|place| self.snapshot.services.get(place)) {
            put(text, &service.resource);
        }
        put(text, "}}");
        if let Some(trace) = text_of(self.trace.as_ref()) {
            put(text, &front.trace_head);
            let end = trace.bytes().position(|byte| matches!(byte, b'/' | b';'));
            log::escape(&trace[..end.unwrap_or(trace.len())], text);
            put(text, "\"");
        }
        put(text, ",\"httpRequest\":{\"requestMethod\":\"");
        log::escape(self.method.as_str(), text);
        put(text, "\",\"requestUrl\":\"");
        put(text, if front.tls.is_some() { "https://" } else { "http://" });
        log::escape(text_of(self.host.as_ref()).unwrap_or_default(), text);
        log::escape(self.target.as_str(), text);
        put(text, "\",\"requestSize\":\"");
        log::decimal(self.request_bytes(), text);
        put(text, "\",\"status\":");
        log::decimal(ended.status.into(), text);
        put(text, ",\"responseSize\":\"");
        log::decimal(ended.bytes, text);
        put(text, "\",\"remoteIp\":\"");
        put(text, &self.client);
        put(text, "\",");
        if let Some(server) = self.server {
            put(text, "\"serverIp\":\"");
            put_address(text, server);
            put(text, "\",");
        }
        for (name, value) in
            [("\"userAgent\":\"", &self.user_agent), ("\"referer\":\"", &self.referer)]
        {
            if let Some(value) = text_of(value.as_ref()) {
                put(text, name);
                log::escape(value, text);
                put(text, "\",");
            }
        }
        put(text, "\"latency\":\"");
        log::decimal(took.as_secs(), text);
        put(text, ".");
        log::micros(took.subsec_micros(), text);
        put(text, "s\",\"protocol\":\"");
        put(text, protocol(self.version));
        put(text, "\"},\"jsonPayload\":{\"@type\":\"");
        put(text, TYPE);
        put(text, "\"");
        self.render_tls(text);
        self.render_headers(text);
        if let Some(entry) = &self.guarded {
            put(text, entry);
        }
        if front.status_details {
            let details = ended.proxy_status.map(|(_, details)| details);
            put(text, ",\"statusDetails\":\"");
            put(text, respond::status_details(details, self.tried));
            put(text, "\"");
        } else if let Some((error, details)) = ended.proxy_status {
            put(text, ",\"proxyStatus\":\"error=\\\"");
            put(text, error);
            put(text, "\\\"; details=\\\"");
            put(text, details);
            put(text, "\\\"\"");
        }
        put(text, "}");
    }

    /// Optional fields; the cipher suite as four hexadecimal digits of IANA's registry
    /// ((unconfirmed)).
    fn render_tls(&self, text: &mut Vec<u8>) {
        let Some(tls) = &self.info.tls else { return };
        let logging = self.service().map(|service| &service.logging);
        let has_protocol = logging.is_none_or(|logging| logging.tls_protocol);
        let has_cipher = logging.is_none_or(|logging| logging.tls_cipher);
        if !has_protocol && !has_cipher {
            return;
        }
        put(text, ",\"tls\":{");
        if has_protocol {
            put(text, "\"protocol\":\"");
            put(text, tls.version);
            put(text, "\"");
        }
        if has_cipher {
            put(text, if has_protocol { ",\"cipher\":\"" } else { "\"cipher\":\"" });
            log::hexadecimal(tls.cipher_suite.into(), 4, text);
            put(text, "\"");
        }
        put(text, "}");
    }

    /// The headers that `logConfig` names; where they stand is (unconfirmed).
    fn render_headers(&self, text: &mut Vec<u8>) {
        for (key, headers) in
            [("requestHeaders", &self.request_headers), ("responseHeaders", &self.response_headers)]
        {
            if headers.is_empty() {
                continue;
            }
            put(text, ",\"");
            put(text, key);
            put(text, "\":{");
            render_fields(headers, text);
            put(text, "}");
        }
    }
}

/// A field that came more than once is one text, joined with commas.
fn render_fields(headers: &[(HeaderName, HeaderValue)], text: &mut Vec<u8>) {
    let mut open: Option<&HeaderName> = None;
    for (name, value) in headers {
        if open == Some(name) {
            put(text, ", ");
        } else {
            put(text, if open.is_some() { "\",\"" } else { "\"" });
            put(text, name.as_str());
            put(text, "\":\"");
            open = Some(name);
        }
        log::escape(&String::from_utf8_lossy(value.as_bytes()), text);
    }
    put(text, "\"");
}

fn put(text: &mut Vec<u8>, part: &str) {
    text.extend_from_slice(part.as_bytes());
}

fn put_address(text: &mut Vec<u8>, address: Ipv4Addr) {
    for (n, octet) in address.octets().into_iter().enumerate() {
        if n > 0 {
            text.push(b'.');
        }
        log::decimal(octet.into(), text);
    }
}

const TYPE: &str = "type.googleapis.com/google.cloud.loadbalancing.type.LoadBalancerLogEntry";

/// A connection or a head that never became a request.
pub fn unserved(
    meters: &Meters,
    front: &Front,
    client: Ipv4Addr,
    reason: Reason,
    status: Option<u16>,
    detail: &str,
) {
    meters.refusal(reason);
    log::entry(Severity::Warning, reason.summary())
        .rendered(|text| {
            put(text, &front.log_head);
            put(text, "}}");
        })
        .nested("httpRequest", |entry| {
            entry
                .field("status", status.filter(|status| *status > 0))
                .field("remoteIp", client.to_string())
                .field("serverIp", front.address.ip().to_string())
        })
        .field("reason", reason)
        .field("detail", detail)
        .emit();
}

//! Faults: their codes, their variables and the answer that the client sees (3.2, 8).

use crate::message::{Content, Message};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use names::Reason;
use std::borrow::Cow;

/// Who made a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSource {
    /// A policy of the bundle.
    Policy,
    /// The runtime itself: routing, limits, time.
    Proxy,
    /// The connection to the target.
    Target,
    /// The target answered with an error status (3.4).
    TargetAnswer,
}

/// A fault: the error state of a call (3.2). One pointer, because it travels in `Result`s.
#[derive(Clone, Debug)]
pub struct Fault(Box<FaultParts>);

impl std::ops::Deref for Fault {
    type Target = FaultParts;

    fn deref(&self) -> &FaultParts {
        &self.0
    }
}

impl std::ops::DerefMut for Fault {
    fn deref_mut(&mut self) -> &mut FaultParts {
        &mut self.0
    }
}

/// What a fault consists of.
#[derive(Clone, Debug)]
pub struct FaultParts {
    /// Status of the answer.
    pub status: u16,
    /// Reason phrase of the answer.
    pub phrase: Cow<'static, str>,
    /// `errorcode`, such as `oauth.v2.InvalidApiKey`.
    pub code: Cow<'static, str>,
    /// `faultstring`.
    pub text: String,
    /// `detail.reason` of network errors, such as `TARGET_CONNECT_TIMEOUT`.
    pub detail_reason: Option<&'static str>,
    /// Who made it.
    pub source: FaultSource,
    /// The policy that raised it.
    pub policy: Option<std::sync::Arc<str>>,
    /// The answer as RaiseFault or the target made it; none: the fault format of section 8.
    pub message: Option<Message>,
}

impl Fault {
    /// A fault of the runtime.
    pub(crate) fn new(
        source: FaultSource,
        status: u16,
        code: &'static str,
        text: impl Into<String>,
    ) -> Fault {
        Fault(Box::new(FaultParts {
            status,
            phrase: Cow::Borrowed(default_phrase(status)),
            code: Cow::Borrowed(code),
            text: text.into(),
            detail_reason: None,
            source,
            policy: None,
            message: None,
        }))
    }

    /// A fault of a policy.
    pub(crate) fn of_policy(status: u16, code: &'static str, text: impl Into<String>) -> Fault {
        Fault::new(FaultSource::Policy, status, code, text)
    }

    /// No proxy is deployed under this host and path (8.2). The query is no part of it.
    pub fn application_not_found(host: &str, path: &str) -> Fault {
        Fault::new(
            FaultSource::Proxy,
            404,
            "messaging.adaptors.http.flow.ApplicationNotFound",
            format!("Unable to identify proxy for host: {host} and url: {path}"),
        )
    }

    /// The target cannot be reached: refused, no such name, connect timeout (8.2).
    pub fn service_unavailable(detail_reason: Option<&'static str>) -> Fault {
        let mut fault = Fault::new(
            FaultSource::Target,
            503,
            "messaging.adaptors.http.flow.ServiceUnavailable",
            "The Service is temporarily unavailable",
        );
        fault.detail_reason = detail_reason;
        fault
    }

    /// The target's certificate is not good (8.2); `cause` in the words of the Java runtime.
    pub fn ssl_handshake_failed(cause: &str) -> Fault {
        Fault::new(
            FaultSource::Target,
            503,
            "messaging.adaptors.http.flow.SslHandshakeFailed",
            format!("SSL Handshake failed {cause}"),
        )
    }

    /// The target did not answer in `io.timeout.millis` (8.2).
    pub fn gateway_timeout() -> Fault {
        let mut fault = Fault::new(
            FaultSource::Target,
            504,
            "messaging.adaptors.http.flow.GatewayTimeout",
            "Gateway Timeout",
        );
        fault.detail_reason = Some("TARGET_READ_TIMEOUT");
        fault
    }

    /// The target closed early or did not speak HTTP (8.2).
    pub fn unexpected_eof_at_target() -> Fault {
        Fault::new(
            FaultSource::Target,
            502,
            "messaging.adaptors.http.flow.UnexpectedEOFAtTarget",
            "Unexpected EOF at target",
        )
    }

    /// A payload is larger than may be buffered (8.2): 413 for requests, 502 for responses.
    pub fn too_big_body(response: bool) -> Fault {
        let (source, status) =
            if response { (FaultSource::Target, 502) } else { (FaultSource::Proxy, 413) };
        Fault::new(source, status, "protocol.http.TooBigBody", "Body buffer overflow")
    }

    /// The request line is too long (8.2).
    pub fn too_big_line() -> Fault {
        let text = "Request line too long";
        Fault::new(FaultSource::Proxy, 414, "protocol.http.TooBigLine", text)
    }

    /// The headers are too large (8.2).
    pub fn too_big_headers(limit: usize) -> Fault {
        // Java writes the limit with thousands separators; it has no more than two groups here.
        let text = format!("request headers size exceeding {},{:03}", limit / 1000, limit % 1000);
        Fault::new(FaultSource::Proxy, 431, "protocol.http.TooBigHeaders", text)
    }

    /// The client was too slow with its request (8.2, name unconfirmed).
    pub fn request_timed_out() -> Fault {
        Fault::new(
            FaultSource::Proxy,
            408,
            "messaging.adaptors.http.flow.RequestTimeOut",
            "Request timed out",
        )
    }

    /// The client's payload is no HTTP (8.2: malformed requests have status 400 and a name in
    /// `protocol.http`; this one's own name is unconfirmed).
    pub fn bad_request_body() -> Fault {
        Fault::new(FaultSource::Proxy, 400, "protocol.http.BadFormData", "Bad Form Data")
    }

    /// `api.timeout` has passed (9.1).
    pub fn api_timed_out() -> Fault {
        Fault::new(FaultSource::Proxy, 504, "flow.APITimedOut", "API timed out")
    }

    /// No ID token could be made (1.4).
    pub fn token_generation_failure(cause: &str) -> Fault {
        Fault::new(
            FaultSource::Target,
            500,
            "messaging.adaptors.http.filter.GoogleTokenGenerationFailure",
            format!("Google Token Generation failure. {cause}").trim_end().to_owned(),
        )
    }

    /// `fault.name`: the last part of the code.
    pub fn name(&self) -> &str {
        self.code.rsplit('.').next().unwrap_or_default()
    }

    /// The reason under which logs, metrics and `explain` file it.
    pub fn reason(&self) -> Reason {
        match (self.source, self.name()) {
            (FaultSource::Policy, _) => Reason::PolicyFault,
            (FaultSource::TargetAnswer, _) => Reason::TargetErrorStatus,
            (_, "ApplicationNotFound") => Reason::ApplicationNotFound,
            (_, "SslHandshakeFailed") => Reason::TargetSslHandshakeFailed,
            (_, "GatewayTimeout") => Reason::TargetTimeout,
            (_, "APITimedOut") => Reason::ApiTimedOut,
            (_, "UnexpectedEOFAtTarget") => Reason::TargetUnexpectedEof,
            (_, "TooBigBody") => Reason::BodyBufferOverflow,
            (_, "RequestTimeOut") => Reason::ClientTimeout,
            (_, "BadFormData") => Reason::HttpMalformed,
            (_, "TooBigLine" | "TooBigHeaders") => Reason::HttpHeaderTooLarge,
            (_, "GoogleTokenGenerationFailure") => Reason::GoogleTokenGenerationFailure,
            (FaultSource::Proxy, _) => Reason::RouteFailed,
            (FaultSource::Target, _) => Reason::TargetUnavailable,
        }
    }

    /// The answer: what RaiseFault or the target made, or the fault format of section 8.
    pub fn to_message(&self) -> Message {
        if let Some(message) = &self.message {
            return message.clone();
        }
        let mut message = Message::response();
        message.status = self.status;
        message.reason = Some(self.phrase.clone().into_owned());
        message.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        message.content = Content::Bytes(Bytes::from(self.to_json()));
        message
    }

    /// `{"fault":{"faultstring":"…","detail":{"errorcode":"…"}}}` with `/` escaped (8.1).
    pub fn to_json(&self) -> String {
        let mut json = String::from("{\"fault\":{\"faultstring\":");
        push_json(&self.text, &mut json);
        json.push_str(",\"detail\":{\"errorcode\":");
        push_json(&self.code, &mut json);
        if let Some(reason) = self.detail_reason {
            json.push_str(",\"reason\":");
            push_json(reason, &mut json);
        }
        json.push_str("}}}");
        json
    }
}

fn push_json(text: &str, out: &mut String) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                write!(out, "\\u{:04x}", c as u32).expect("writing to a String does not fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The reason phrase of a status.
pub(crate) fn default_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_inside_the_faultstring_are_escaped() {
        assert_eq!(
            Fault::application_not_found("api.example.com", "/x/y").to_json(),
            r#"{"fault":{"faultstring":"Unable to identify proxy for host: api.example.com and url: \/x\/y","detail":{"errorcode":"messaging.adaptors.http.flow.ApplicationNotFound"}}}"#
        );
    }

    #[test]
    fn network_errors_carry_a_reason() {
        let fault = Fault::service_unavailable(Some("TARGET_CONNECT_TIMEOUT"));
        assert_eq!(fault.name(), "ServiceUnavailable");
        assert_eq!(
            fault.to_json(),
            r#"{"fault":{"faultstring":"The Service is temporarily unavailable","detail":{"errorcode":"messaging.adaptors.http.flow.ServiceUnavailable","reason":"TARGET_CONNECT_TIMEOUT"}}}"#
        );
    }
}

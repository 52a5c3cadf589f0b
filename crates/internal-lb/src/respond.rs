//! The one place where a refusal or a failure becomes status, body and words for the log
//! (private-connectivity 2.8, 2.9). What is there (unconfirmed) is Envoy's own behaviour.

use crate::backends;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use http_proxy::{Body, HeadError, SendError};
use names::Reason;
use std::borrow::Cow;
use std::sync::Arc;
use url_map::CorsPolicy;

/// An answer of the load balancer's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// HTTP status.
    pub status: u16,
    /// Plain text; empty: no body.
    pub body: Cow<'static, str>,
    /// `error` of `proxyStatus`, RFC 9209's vocabulary (2.9).
    pub error: &'static str,
    /// `details` of `proxyStatus`, Envoy's response code details (unconfirmed).
    pub details: &'static str,
}

/// The URL map's refusals. `status` is the decision's.
pub fn refused(reason: Reason, status: u16) -> Failure {
    let (body, error, details) = match reason {
        Reason::BackendServiceEmpty
        | Reason::NetworkEndpointGroupEmpty
        | Reason::NoHealthyBackend => {
            ("no healthy upstream", "destination_unavailable", "no_healthy_upstream")
        }
        Reason::UrlMapNoMatch => ("", "destination_not_found", "route_not_found"),
        Reason::FaultFilterAbort => {
            ("fault filter abort", "proxy_internal_response", "fault_filter_abort")
        }
        Reason::BackendCircuitBreakerOpen => (
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
            "connection_limit_reached",
            "upstream_reset_before_response_started{overflow}",
        ),
        _ => ("", "destination_not_found", "serverless_neg_routing_failed"),
    };
    Failure { reason, status, body: body.into(), error, details }
}

/// A security policy denies the request; a page as small as the product's (cloud-run 6.2; those of
/// 404, 429 and 502 are analogous (unconfirmed)).
pub fn denied(reason: Reason, status: u16) -> Failure {
    let phrase = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let phrase = phrase.unwrap_or_default();
    Failure {
        reason,
        status,
        body: format!(
            "<!doctype html><meta charset=\"utf-8\"><meta name=viewport content=\"width=device-width, \
             initial-scale=1\"><title>{status}</title>{status} {phrase}"
        )
        .into(),
        error: "proxy_internal_response",
        details: DENIED_BY_SECURITY_POLICY,
    }
}

/// `statusDetails` of a request that a security policy denies.
pub const DENIED_BY_SECURITY_POLICY: &str = "denied_by_security_policy";

/// `statusDetails` of a global external load balancer's log (2.9); `details` are those of
/// `proxyStatus`, none: the backend has answered, or nobody failed.
pub fn status_details(details: Option<&'static str>, tried: bool) -> &'static str {
    match details {
        None if tried => "response_sent_by_backend",
        None => "response_sent_by_load_balancer",
        Some(DENIED_BY_SECURITY_POLICY) => DENIED_BY_SECURITY_POLICY,
        Some(details) if details.starts_with("client_disconnected") => {
            "client_disconnected_before_any_response"
        }
        Some("response_timeout" | "upstream_per_try_timeout") => "backend_timeout",
        Some(details) if details.contains("{connection_termination}") => {
            "backend_connection_closed_before_data_sent_to_client"
        }
        Some(details) if details.starts_with("upstream_reset") => "failed_to_connect_to_backend",
        Some(_) => "failed_to_pick_backend",
    }
}

/// No backend answered. `retried`: after a second attempt.
pub fn unanswered(error: &SendError, retried: bool) -> Failure {
    let reset = |what: &str| -> Cow<'static, str> {
        let latest = if retried { "retried and the latest reset reason" } else { "reset reason" };
        format!("upstream connect error or disconnect/reset before headers. {latest}: {what}")
            .into()
    };
    // A service attachment that admits nobody, a circuit breaker.
    if let SendError::Connect(error) = error
        && let Some(named) = backends::refused(error)
    {
        let refused = match named.reason {
            Reason::BackendCircuitBreakerOpen => refused(named.reason, 503),
            reason => Failure { reason, ..unanswered(&refused_connection(), retried) },
        };
        return refused;
    }
    match error {
        // A TLS handshake that failed comes as data that is not understood.
        SendError::Connect(error) if error.kind() == std::io::ErrorKind::InvalidData => Failure {
            reason: Reason::BackendConnectionFailed,
            status: 502,
            body: reset("remote connection failure, transport failure reason: TLS_error"),
            error: "tls_protocol_error",
            details: "upstream_reset_before_response_started{remote_connection_failure}",
        },
        SendError::Connect(error) => Failure {
            reason: Reason::BackendConnectionFailed,
            status: 503,
            body: reset(&format!(
                "remote connection failure, transport failure reason: delayed connect error: {}",
                error.raw_os_error().unwrap_or(111)
            )),
            error: "connection_refused",
            details: "upstream_reset_before_response_started{remote_connection_failure}",
        },
        SendError::Timeout => Failure {
            reason: Reason::BackendConnectionFailed,
            status: 503,
            body: reset("connection timeout"),
            error: "connection_timeout",
            details: "upstream_reset_before_response_started{connection_timeout}",
        },
        SendError::Closed { .. } => Failure {
            reason: Reason::BackendConnectionClosed,
            status: 503,
            body: reset("connection termination"),
            error: "connection_terminated",
            details: "upstream_reset_before_response_started{connection_termination}",
        },
        SendError::Protocol(_) => Failure {
            reason: Reason::BackendConnectionClosed,
            status: 502,
            body: reset("protocol error"),
            error: "http_protocol_error",
            details: "upstream_reset_before_response_started{protocol_error}",
        },
        // The client broke its own request off: nobody reads this answer.
        SendError::Body(_) => Failure {
            reason: Reason::HttpMalformed,
            status: 400,
            body: "Bad Request".into(),
            error: "http_request_error",
            details: "client_disconnected_before_any_response",
        },
    }
}

fn refused_connection() -> SendError {
    SendError::Connect(Arc::new(std::io::ErrorKind::ConnectionRefused.into()))
}

/// The backend's answer broke off behind its head.
pub fn broken_off() -> Failure {
    Failure {
        details: "upstream_reset_after_response_started{connection_termination}",
        ..unanswered(&SendError::Closed { sent: true }, false)
    }
}

/// The deadline came first.
pub fn timed_out() -> Failure {
    Failure {
        reason: Reason::BackendTimeout,
        status: 504,
        body: "upstream request timeout".into(),
        error: "http_response_timeout",
        details: "response_timeout",
    }
}

/// The time for one try was over, and there was no further one.
pub fn try_timed_out() -> Failure {
    Failure { details: "upstream_per_try_timeout", ..timed_out() }
}

/// A request head that the server answered by itself: for the log.
pub fn malformed(error: &HeadError) -> Failure {
    let (reason, details) = match error {
        HeadError::TooLarge => (Reason::HttpHeaderTooLarge, "request_headers_too_large"),
        HeadError::Timeout => (Reason::HttpMalformed, "request_header_timeout"),
        HeadError::Closed => (Reason::HttpMalformed, "client_disconnected_before_any_response"),
        _ => (Reason::HttpMalformed, "http1.codec_error"),
    };
    Failure {
        reason,
        status: error.status().map_or(0, |status| status.as_u16()),
        body: "".into(),
        error: "http_request_error",
        details,
    }
}

/// The HTTP status of every answer to a gRPC client, whatever its `grpc-status`.
pub const GRPC_STATUS: u16 = 200;

/// The response. A gRPC client gets its own kind of error, as from Envoy: status 200 and
/// `grpc-status` (unconfirmed).
pub fn response(failure: &Failure, grpc: bool) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    if grpc {
        *response.status_mut() = status(GRPC_STATUS);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(grpc_status(failure.status)));
        if let Ok(message) = HeaderValue::from_str(&failure.body)
            && !message.is_empty()
        {
            headers.insert("grpc-message", message);
        }
        return response;
    }
    *response.status_mut() = status(failure.status);
    if !failure.body.is_empty() {
        let page = failure.details == DENIED_BY_SECURITY_POLICY;
        let kind = if page { "text/html; charset=UTF-8" } else { "text/plain" };
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        *response.body_mut() = Body::full(failure.body.clone().into_owned());
    }
    response
}

/// The answer to a CORS preflight request, as from Envoy: status 200 and no body.
pub fn preflight(policy: &CorsPolicy, origin: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().extend(policy.preflight(origin));
    response
}

/// A redirect.
pub fn redirect(location: &str, code: u16) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status(code);
    // A location that is no header value cannot come from a request that was one.
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// gRPC's "HTTP to gRPC status code mapping".
fn grpc_status(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn failures_answer_as_the_load_balancer_does() {
        let refused_by_os = || SendError::Connect(Arc::new(io::Error::from_raw_os_error(111)));
        let tls = SendError::Connect(Arc::new(io::ErrorKind::InvalidData.into()));
        let begin = "upstream connect error or disconnect/reset before headers. ";
        for (failure, status, body, reason) in [
            (refused(Reason::UrlMaskNoMatch, 404), 404, String::new(), Reason::UrlMaskNoMatch),
            (
                refused(Reason::BackendServiceEmpty, 503),
                503,
                "no healthy upstream".to_owned(),
                Reason::BackendServiceEmpty,
            ),
            (
                unanswered(&refused_by_os(), false),
                503,
                format!(
                    "{begin}reset reason: remote connection failure, transport failure reason: delayed connect error: 111"
                ),
                Reason::BackendConnectionFailed,
            ),
            (
                unanswered(&SendError::Closed { sent: true }, true),
                503,
                format!("{begin}retried and the latest reset reason: connection termination"),
                Reason::BackendConnectionClosed,
            ),
            (
                unanswered(&SendError::Protocol("x"), false),
                502,
                format!("{begin}reset reason: protocol error"),
                Reason::BackendConnectionClosed,
            ),
            (
                unanswered(&tls, false),
                502,
                format!(
                    "{begin}reset reason: remote connection failure, transport failure reason: TLS_error"
                ),
                Reason::BackendConnectionFailed,
            ),
            (timed_out(), 504, "upstream request timeout".to_owned(), Reason::BackendTimeout),
        ] {
            assert_eq!((failure.status, &*failure.body, failure.reason), (status, &*body, reason));
            let answer = response(&failure, false);
            assert_eq!(answer.status(), status);
            assert_eq!(answer.headers().contains_key(CONTENT_TYPE), !body.is_empty());
        }
    }

    #[test]
    fn a_refusal_that_has_a_name_keeps_it() {
        let named =
            |reason| SendError::Connect(Arc::new(crate::backends::refuse(reason, String::new())));
        let psc = unanswered(&named(Reason::PscConnectionNotAccepted), false);
        assert_eq!((psc.reason, psc.status), (Reason::PscConnectionNotAccepted, 503));
        assert!(psc.body.ends_with("delayed connect error: 111"), "{}", psc.body);
        let open = unanswered(&named(Reason::BackendCircuitBreakerOpen), false);
        assert_eq!((open.reason, open.status), (Reason::BackendCircuitBreakerOpen, 503));
        assert!(open.body.ends_with("reset reason: overflow"), "{}", open.body);
    }

    #[test]
    fn a_grpc_client_is_refused_in_its_own_way() {
        let answer = response(&timed_out(), true);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], "14");
        assert_eq!(answer.headers()["grpc-message"], "upstream request timeout");
        assert_eq!(
            response(&refused(Reason::UrlMapNoMatch, 404), true).headers()["grpc-status"],
            "12"
        );
    }
}

//! The one table of what a client gets when a request is not answered by the container
//! (cloud-run 2.2, 5.3), and what the log says of it. Refusals before the container are decided and
//! worded by `serverless`; the others are here.

use names::Reason;
use runtime::log::Severity;
use std::borrow::Cow;

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Body.
    pub body: Cow<'static, str>,
    /// Severity of the request log entry.
    pub severity: Severity,
    /// `textPayload` of the request log entry.
    pub text: &'static str,
}

const TEXT: &str = "text/plain";

/// The row of a reason that concerns an instance or the exchange with it.
pub fn failure(reason: Reason) -> Failure {
    let row = |status, body: &'static str, severity, text| Failure {
        status,
        content_type: TEXT,
        body: Cow::Borrowed(body),
        severity,
        text,
    };
    let page = |status, title, sentence, severity, text| Failure {
        status,
        content_type: serverless::pages::CONTENT_TYPE,
        body: Cow::Owned(page(status, title, sentence)),
        severity,
        text,
    };
    match reason {
        Reason::NoAvailableInstance => row(
            429,
            "Rate exceeded.", // (unconfirmed)
            Severity::Warning,
            "The request was aborted because there was no available instance. The Cloud Run \
             service might have reached its maximum container instance limit or the service was \
             otherwise not able to scale to incoming requests.",
        ),
        Reason::InstanceConnectionError => row(
            503,
            // (unconfirmed): "Service Unavailable" is seen as well.
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
            Severity::Error,
            "The request failed because either the HTTP response was malformed or connection to \
             the instance had an error.",
        ),
        Reason::RequestTimeout => row(
            504,
            "upstream request timeout",
            Severity::Error,
            "The request has been terminated because it has reached the maximum request timeout.",
        ),
        Reason::RequestTooLarge => page(
            413, // the page is (unconfirmed)
            "Request Entity Too Large",
            "Your client issued a request that was too large.",
            Severity::Warning,
            "The request was larger than 32 MiB.",
        ),
        Reason::ResponseTooLarge => page(
            500,
            "Server Error",
            SERVER_ERROR,
            Severity::Error,
            "Response size was too large. Please consider reducing response size.",
        ),
        // Removed by a reload while the request was under way.
        Reason::CloudRunServiceNotFound => Failure {
            status: 404,
            content_type: serverless::pages::CONTENT_TYPE,
            body: Cow::Owned(serverless::pages::page_not_found()),
            severity: Severity::Warning,
            text: "The service was deleted.",
        },
        // A new tag, whose revision is not ready yet (unconfirmed).
        Reason::CloudRunTagNotFound => Failure {
            status: 404,
            content_type: serverless::pages::CONTENT_TYPE,
            body: Cow::Owned(serverless::pages::page_not_found()),
            severity: Severity::Warning,
            text: "The revision of the tag is not ready.",
        },
        Reason::InstanceStartFailed => page(
            500, // the page is (unconfirmed)
            "Server Error",
            SERVER_ERROR,
            Severity::Error,
            "The request failed because the instance could not start successfully.",
        ),
        // No instance in time, below the limit; and whatever has no row of its own.
        _ => page(
            500, // the page is (unconfirmed)
            "Server Error",
            SERVER_ERROR,
            Severity::Error,
            "The request was aborted because there was no available instance.",
        ),
    }
}

const SERVER_ERROR: &str = "The server encountered an error and could not complete your request.<p>Please try again in 30 seconds.";

fn page(status: u16, title: &str, sentence: &str) -> String {
    format!(
        "\n<html><head>\n<meta http-equiv=\"content-type\" content=\"text/html;charset=utf-8\">\n\
         <title>{status} {title}</title>\n</head>\n<body text=#000000 bgcolor=#ffffff>\n\
         <h1>Error: {title}</h1>\n<h2>{sentence}</h2>\n<h2></h2>\n</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_fail_has_its_documented_status() {
        for (reason, status) in [
            (Reason::NoAvailableInstance, 429),
            (Reason::NoInstanceStarted, 500),
            (Reason::InstanceStartFailed, 500),
            (Reason::InstanceConnectionError, 503),
            (Reason::RequestTimeout, 504),
            (Reason::RequestTooLarge, 413),
            (Reason::ResponseTooLarge, 500),
            (Reason::CloudRunServiceNotFound, 404),
            (Reason::CloudRunTagNotFound, 404),
        ] {
            assert_eq!(failure(reason).status, status, "{reason}");
        }
        assert_eq!(failure(Reason::RequestTimeout).body, "upstream request timeout");
    }
}

//! What goes wrong, by whose fault, and whether it is safe to try again.

use std::fmt;
use std::io;
use std::sync::Arc;

/// A body that ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The peer closed or reset the connection or stream.
    Closed,
    /// The peer sent something that is no body: a chunk size that is no number, say.
    Malformed(&'static str),
    /// No byte moved for too long.
    Timeout,
    /// Larger than the receiver takes ([`crate::Incoming::collect`]).
    TooLarge,
    /// The producer of the body gave up, in its own words.
    Cancelled(&'static str),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::Closed => f.write_str("the connection ended inside a message body"),
            BodyError::Malformed(what) => write!(f, "malformed message body: {what}"),
            BodyError::Timeout => f.write_str("the message body made no progress in time"),
            BodyError::TooLarge => f.write_str("the message body is too large"),
            BodyError::Cancelled(why) => write!(f, "the message body was given up: {why}"),
        }
    }
}

impl std::error::Error for BodyError {}

/// A request head that the server refused by itself; the handler never saw the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP, or HTTP with two readings; says what is wrong. Answered with 400.
    Malformed(&'static str),
    /// A transfer coding other than chunked. Answered with 501 (RFC 9112 6.1).
    Unsupported(&'static str),
    /// A version other than HTTP/1.0 and HTTP/1.1. Answered with 505 (RFC 9110 15.6.6).
    Version,
    /// An expectation other than `100-continue`. Answered with 417 (RFC 9110 10.1.1).
    Expectation,
    /// The head is larger than `header_bytes_max` or has too many fields. Answered with 431.
    TooLarge,
    /// The head was begun and not finished within `header_timeout`. Answered with 408.
    Timeout,
    /// The head was begun and the client went away. Not answered.
    Closed,
}

impl HeadError {
    /// The status of the answer, if there is one.
    pub fn status(&self) -> Option<http::StatusCode> {
        match self {
            HeadError::Malformed(_) => Some(http::StatusCode::BAD_REQUEST),
            HeadError::Unsupported(_) => Some(http::StatusCode::NOT_IMPLEMENTED),
            HeadError::Version => Some(http::StatusCode::HTTP_VERSION_NOT_SUPPORTED),
            HeadError::Expectation => Some(http::StatusCode::EXPECTATION_FAILED),
            HeadError::TooLarge => Some(http::StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
            HeadError::Timeout => Some(http::StatusCode::REQUEST_TIMEOUT),
            HeadError::Closed => None,
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeadError::Malformed(what) => write!(f, "malformed request head: {what}"),
            HeadError::Unsupported(what) => write!(f, "not supported: {what}"),
            HeadError::Version => f.write_str("the version is not HTTP/1.0 or HTTP/1.1"),
            HeadError::Expectation => f.write_str("an expectation other than 100-continue"),
            HeadError::TooLarge => f.write_str("the request head is too large"),
            HeadError::Timeout => f.write_str("the request head did not arrive in time"),
            HeadError::Closed => f.write_str("the client left inside the request head"),
        }
    }
}

impl std::error::Error for HeadError {}

/// An upstream exchange that yielded no response head.
#[derive(Debug)]
pub enum SendError {
    /// No connection came about.
    Connect(Arc<io::Error>),
    /// The connection ended before the response head. `sent` says if any byte of the request may
    /// have reached the peer.
    Closed {
        /// May the peer have seen the request?
        sent: bool,
    },
    /// The connection was not made in time.
    Timeout,
    /// The peer's answer is not HTTP; says what is wrong.
    Protocol(&'static str),
    /// The request's own body failed while it was sent.
    Body(BodyError),
}

impl SendError {
    /// Did the peer certainly not act on the request, so that it may be sent again whatever its
    /// method (RFC 9110 9.2.2)?
    pub fn is_retry_safe(&self) -> bool {
        matches!(
            self,
            SendError::Connect(_) | SendError::Timeout | SendError::Closed { sent: false }
        )
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Connect(error) => write!(f, "cannot connect: {error}"),
            SendError::Closed { .. } => f.write_str("the connection ended before the response"),
            SendError::Timeout => f.write_str("the connection was not made in time"),
            SendError::Protocol(what) => write!(f, "malformed response: {what}"),
            SendError::Body(error) => write!(f, "the request body failed: {error}"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SendError::Connect(error) => Some(&**error),
            SendError::Body(error) => Some(error),
            _ => None,
        }
    }
}

//! An answer of the metadata server, before it becomes HTTP.

use bytes::Bytes;
use names::Reason;

/// The `Content-Type` of an answer, spelled as the real one does (cloud-run 1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/text`.
    Text,
    /// `application/json`.
    Json,
    /// `text/html`: identity, redirects.
    Html,
    /// `text/html; charset=UTF-8`: errors.
    ErrorPage,
    /// `application/json; charset=UTF-8`: the documents of Google's APIs.
    ApiJson,
}

impl ContentType {
    /// The header's value.
    pub const fn value(self) -> &'static str {
        match self {
            ContentType::Text => "application/text",
            ContentType::Json => "application/json",
            ContentType::Html => "text/html",
            ContentType::ErrorPage => "text/html; charset=UTF-8",
            ContentType::ApiJson => "application/json; charset=UTF-8",
        }
    }
}

/// An answer. The headers that every answer of the metadata server has are added by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataResponse {
    /// Status.
    pub status: u16,
    /// Type of the body.
    pub content_type: ContentType,
    /// The body.
    pub body: Bytes,
    /// 16 hex digits; only for values that can be waited for.
    pub etag: Option<String>,
    /// Where a directory without its slash is.
    pub location: Option<String>,
    /// `WWW-Authenticate`.
    pub www_authenticate: Option<&'static str>,
    /// `Cache-Control` of published keys and tokens.
    pub cache_control: Option<&'static str>,
    /// Why it was refused.
    pub reason: Option<Reason>,
    /// One sentence for the log on why it was refused.
    pub detail: Option<String>,
}

impl MetadataResponse {
    /// 200.
    pub fn ok(content_type: ContentType, body: impl Into<Bytes>) -> Self {
        MetadataResponse {
            status: 200,
            content_type,
            body: body.into(),
            etag: None,
            location: None,
            www_authenticate: None,
            cache_control: None,
            reason: None,
            detail: None,
        }
    }

    /// Anything that is refused.
    pub fn refused(status: u16, reason: Reason, body: impl Into<Bytes>) -> Self {
        MetadataResponse { status, reason: Some(reason), ..Self::ok(ContentType::ErrorPage, body) }
    }

    /// Adds a sentence for the log.
    pub fn because(self, detail: impl Into<String>) -> Self {
        MetadataResponse { detail: Some(detail.into()), ..self }
    }
}

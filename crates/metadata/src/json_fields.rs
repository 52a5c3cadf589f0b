//! The fields of a JSON body as Google's APIs read them, and the errors that they answer with.

use crate::response::{ContentType, MetadataResponse};
use names::Reason;
use serde_json::{Map, Value, json};

/// An error of a Google API.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) code: u16,
    pub(crate) status: &'static str,
    pub(crate) message: String,
    /// `google.rpc.ErrorInfo`: reason, domain, metadata. Boxed: results carry errors about.
    pub(crate) info: Option<Box<(&'static str, &'static str, Value)>>,
    pub(crate) reason: Reason,
    /// What the caller is not told, for the log.
    pub(crate) detail: Option<String>,
}

/// 400.
pub(crate) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError {
        code: 400,
        status: "INVALID_ARGUMENT",
        message: message.into(),
        info: None,
        reason: Reason::TokenRequestInvalid,
        detail: None,
    }
}

/// 500: nothing that a caller sent leads here, a key is broken.
pub(crate) fn internal(problem: String) -> ApiError {
    ApiError {
        code: 500,
        status: "INTERNAL",
        message: "Internal error encountered.".to_owned(),
        detail: Some(problem),
        ..invalid("")
    }
}

/// The answer, in the envelope of Google's APIs.
pub(crate) fn answer(result: Result<Value, ApiError>) -> MetadataResponse {
    let pretty = |value: &Value| format!("{value:#}\n");
    match result {
        Ok(value) => MetadataResponse::ok(ContentType::ApiJson, pretty(&value)),
        Err(error) => {
            let ApiError { code, status, message, info, reason, detail } = error;
            let mut envelope = json!({"code": code, "message": message, "status": status});
            if let Some((info, domain, metadata)) = info.map(|info| *info) {
                envelope["details"] = json!([{
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": info, "domain": domain, "metadata": metadata,
                }]);
            }
            // What an API answers to a credential that is no good (seen on live answers).
            let challenge = (code == 401).then_some(
                "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"",
            );
            MetadataResponse {
                content_type: ContentType::ApiJson,
                www_authenticate: challenge,
                ..MetadataResponse::refused(code, reason, pretty(&json!({"error": envelope})))
            }
            .because(detail.unwrap_or(message))
        }
    }
}

/// The fields of a request's body; an empty body has none.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    pub(crate) fn parse(body: &[u8], known: &[&str]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Fields(Map::new()));
        }
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| invalid(format!("Invalid JSON payload received. {error}")))?;
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(invalid(format!(
                "Invalid JSON payload received. Unknown name \"{name}\": Cannot find field."
            ))),
            None => Ok(Fields(fields)),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(invalid(format!("Invalid value at '{name}' (TYPE_STRING), {other}")))
            }
        }
    }

    /// A flag; google-auth writes some as texts.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(other) => Err(invalid(format!("Invalid value at '{name}' (TYPE_BOOL), {other}"))),
        }
    }

    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, ApiError> {
        let bad = |found: &Value| {
            invalid(format!("Invalid value at '{name}' (repeated TYPE_STRING), {found}"))
        };
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| bad(item)))
                .collect(),
            Some(other) => Err(bad(other)),
        }
    }
}

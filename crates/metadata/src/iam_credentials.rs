//! The IAM Credentials API, as far as tokens go (cloud-run 5.4): served to the other programs of
//! this machine on the channel [`slice::TOKEN_CHANNEL`], which nobody else can open.

use crate::certs;
use crate::issuer::Issuer;
use crate::request::percent_decoded;
use crate::response::{ContentType, MetadataResponse};
use id_token::{Claims, LIFETIME_SECONDS};
use names::Reason;
use serde_json::{Map, Value, json};
use serverless::pages;
use slice::run::ServiceAccount;

/// No body of these calls is longer, in bytes.
pub const BODY_MAX: usize = 64 * 1024;

/// Answers `POST /v1/projects/-/serviceAccounts/EMAIL:generateIdToken` and `…:generateAccessToken`,
/// and GET of the published keys.
pub fn respond(
    issuer: &Issuer,
    method: &str,
    path: &str,
    body: &[u8],
    now: u64,
) -> MetadataResponse {
    if method == "GET"
        && let Some(document) = certs::document(issuer, path)
    {
        return document;
    }
    let call = path
        .strip_prefix("/v1/projects/")
        .and_then(|rest| rest.split_once("/serviceAccounts/"))
        .and_then(|(_project, call)| call.rsplit_once(':'));
    match call {
        Some((account, call)) if method == "POST" && !account.contains('/') => {
            let account = percent_decoded(account, false);
            match call {
                "generateIdToken" => answer(generate_id_token(issuer, &account, body, now)),
                "generateAccessToken" => answer(generate_access_token(issuer, &account, body, now)),
                _ => no_such_call(path),
            }
        }
        _ => no_such_call(path),
    }
}

/// The answer to a body that is too long.
pub fn body_too_large() -> MetadataResponse {
    answer(Err(invalid(format!("the body is longer than {BODY_MAX} bytes"))))
}

fn no_such_call(path: &str) -> MetadataResponse {
    let page = pages::robot_not_found(path);
    MetadataResponse::refused(404, Reason::MetadataPathNotFound, page)
}

struct ApiError {
    code: u16,
    status: &'static str,
    message: String,
    reason: Reason,
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError {
        code: 400,
        status: "INVALID_ARGUMENT",
        message: message.into(),
        reason: Reason::TokenRequestInvalid,
    }
}

fn answer(result: Result<Value, ApiError>) -> MetadataResponse {
    let pretty = |value: &Value| format!("{value:#}\n");
    match result {
        Ok(value) => MetadataResponse::ok(ContentType::ApiJson, pretty(&value)),
        Err(ApiError { code, status, message, reason }) => {
            let body = json!({"error": {"code": code, "message": message, "status": status}});
            MetadataResponse {
                content_type: ContentType::ApiJson,
                ..MetadataResponse::refused(code, reason, pretty(&body))
            }
            .because(message)
        }
    }
}

fn generate_id_token(
    issuer: &Issuer,
    account: &str,
    body: &[u8],
    now: u64,
) -> Result<Value, ApiError> {
    let body = Fields::parse(
        body,
        &["audience", "includeEmail", "delegates", "organizationNumberIncluded", "useEmailAzp"],
    )?;
    let audience = body.text("audience")?.unwrap_or_default();
    let include_email = body.flag("includeEmail")?;
    let email_azp = body.flag("useEmailAzp")?;
    body.no_delegates()?;
    if body.flag("organizationNumberIncluded")? {
        return Err(invalid("organizationNumberIncluded: no account here is in an organization"));
    }
    if audience.is_empty() {
        return Err(invalid("Request contains an invalid argument: audience must not be empty."));
    }
    let account = find(issuer, account)?;
    let email = include_email.then_some(account.email.as_str());
    let mut claims = Claims::of_service_account(&account.unique_id, email, audience, now);
    if email_azp {
        claims.azp = Some(account.email.clone());
    }
    let token = issuer.sign(&claims).map_err(internal)?;
    Ok(json!({"token": token.token}))
}

fn generate_access_token(
    issuer: &Issuer,
    account: &str,
    body: &[u8],
    now: u64,
) -> Result<Value, ApiError> {
    let body = Fields::parse(body, &["scope", "lifetime", "delegates"])?;
    body.no_delegates()?;
    let scopes = body.texts("scope")?;
    if scopes.is_empty() {
        return Err(invalid("Request contains an invalid argument: scope must not be empty."));
    }
    let lifetime = match body.text("lifetime")? {
        None => LIFETIME_SECONDS,
        Some(text) => text
            .strip_suffix('s')
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| (1..=LIFETIME_SECONDS).contains(seconds))
            .ok_or_else(|| {
                invalid("Invalid value at 'lifetime': a duration of 1s to 3600s is required.")
            })?,
    };
    let account = find(issuer, account)?;
    let token = issuer.access_token(account, scopes, lifetime, now).map_err(internal)?;
    let expires = runtime::log::civil(token.expires);
    Ok(json!({"accessToken": token.token, "expireTime": format!("{expires}Z")}))
}

fn find<'i>(issuer: &'i Issuer, account: &str) -> Result<&'i ServiceAccount, ApiError> {
    issuer.account(account).ok_or_else(|| ApiError {
        code: 404,
        status: "NOT_FOUND",
        message: format!("Not found; Gaia id not found for email {account}"),
        reason: Reason::ServiceAccountNotFound,
    })
}

fn internal(message: String) -> ApiError {
    ApiError { code: 500, status: "INTERNAL", message, reason: Reason::TokenRequestInvalid }
}

/// The fields of a request's body; an empty body has none.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(body: &[u8], known: &[&str]) -> Result<Self, ApiError> {
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

    fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => {
                Err(invalid(format!("Invalid value at '{name}' (TYPE_STRING), {other}")))
            }
        }
    }

    /// A flag; google-auth writes some as texts.
    fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(other) => Err(invalid(format!("Invalid value at '{name}' (TYPE_BOOL), {other}"))),
        }
    }

    fn texts(&self, name: &str) -> Result<Vec<String>, ApiError> {
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

    /// Chains of delegates need roles that topologies do not declare: refused, not ignored.
    fn no_delegates(&self) -> Result<(), ApiError> {
        if self.texts("delegates")?.is_empty() {
            Ok(())
        } else {
            Err(invalid("delegates: delegation chains are not supported"))
        }
    }
}

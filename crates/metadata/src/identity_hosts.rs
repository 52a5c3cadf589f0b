//! Google's hosts for identity ([`slice::IDENTITY_HOSTS`]; cloud-run 5.4): one function answers all
//! of them.

use crate::certs;
use crate::iam_credentials::{self, no_such_call};
use crate::impersonation::{self, ApiCaller};
use crate::json_fields::{answer, internal};
use crate::request::{Query, percent_decoded};
use crate::response::{ContentType, MetadataResponse};
use crate::snapshot::Snapshot;
use crate::token_endpoint;
use id_token::SigningKey;
use keys::AccountKeys;
use names::Reason;
use serverless::pages;

/// A request to one of the hosts, read whole.
#[derive(Clone, Copy, Debug)]
pub struct IdentityRequest<'a> {
    /// Method.
    pub method: &'a str,
    /// The Host, without port.
    pub host: &'a str,
    /// Path, percent-encoded as sent.
    pub path: &'a str,
    /// Query, without the question mark.
    pub query: &'a str,
    /// The header `Authorization`, if it is there once and is text.
    pub authorization: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
    /// Over the channel of the other programs of this machine, which nobody else can open.
    pub from_platform: bool,
}

/// Answers a request at the time `now` (seconds since 1970). May read and make keys of accounts:
/// not for a thread that must not wait.
pub fn respond(
    snapshot: &Snapshot,
    account_keys: &AccountKeys,
    request: &IdentityRequest<'_>,
    now: u64,
) -> MetadataResponse {
    let IdentityRequest { method, path, body, .. } = *request;
    let issuer = &snapshot.issuer;
    if request.from_platform || request.host == "iamcredentials.googleapis.com" {
        if method == "GET"
            && request.from_platform
            && let Some(document) = certs::document(issuer, path)
        {
            return document;
        }
        return iam_credentials::respond(
            snapshot,
            account_keys,
            method,
            path,
            body,
            |issuer| match request.from_platform {
                true => Ok(ApiCaller::Platform),
                false => impersonation::caller(issuer, account_keys, request.authorization, now),
            },
            now,
        );
    }
    let token_path = matches!(
        (request.host, path),
        ("oauth2.googleapis.com", "/token")
            | ("www.googleapis.com", "/oauth2/v4/token" | "/oauth2/v3/token")
            | ("accounts.google.com", "/o/oauth2/token")
    );
    if token_path {
        return match method {
            "POST" => token_endpoint::exchange(issuer, account_keys, body, now),
            _ => not_allowed(method, path),
        };
    }
    let info_path = matches!(
        (request.host, path),
        ("oauth2.googleapis.com", "/tokeninfo")
            | ("www.googleapis.com", "/oauth2/v3/tokeninfo" | "/oauth2/v1/tokeninfo")
    );
    if info_path {
        let form = std::str::from_utf8(body).unwrap_or_default();
        let text = if method == "POST" && !form.is_empty() { form } else { request.query };
        return token_endpoint::token_info(issuer, &Query::parse(text), now);
    }
    if !matches!(method, "GET" | "HEAD") {
        return not_allowed(method, path);
    }
    let published = match request.host {
        "accounts.google.com" => path == "/.well-known/openid-configuration",
        "www.googleapis.com" => path.starts_with("/oauth2/"),
        _ => false,
    };
    if published && let Some(document) = certs::document(issuer, path) {
        return document;
    }
    if request.host == "www.googleapis.com"
        && let Some(document) = of_account(snapshot, account_keys, path)
    {
        return document;
    }
    no_such_call(path)
}

fn not_allowed(method: &str, path: &str) -> MetadataResponse {
    let page = pages::robot_method_not_allowed(method, path);
    MetadataResponse::refused(405, Reason::MetadataMethodNotAllowed, page)
}

/// The public halves of an account's keys, by which what it signs itself is verified.
fn of_account(
    snapshot: &Snapshot,
    account_keys: &AccountKeys,
    path: &str,
) -> Option<MetadataResponse> {
    let x509 = path
        .strip_prefix("/service_accounts/v1/metadata/x509/")
        .or_else(|| path.strip_prefix("/robot/v1/metadata/x509/"));
    let email = x509
        .or_else(|| path.strip_prefix("/service_accounts/v1/jwk/"))
        .or_else(|| path.strip_prefix("/robot/v1/metadata/jwk/"))?;
    let account = snapshot.issuer.account(&percent_decoded(email, false))?;
    let keys = || -> Result<Vec<SigningKey>, String> {
        let mut keys = account_keys.user_managed(&account.email)?;
        keys.insert(0, account_keys.system_managed(&account.email)?);
        Ok(keys)
    };
    let document = keys().and_then(|keys| match x509 {
        Some(_) => {
            id_token::certificates(&keys, &account.unique_id).map_err(|error| error.to_string())
        }
        None => Ok(id_token::jwks(&keys)),
    });
    Some(match document {
        Ok(document) => MetadataResponse {
            cache_control: Some(certs::CACHE_CONTROL),
            ..MetadataResponse::ok(ContentType::ApiJson, format!("{document:#}\n"))
        },
        Err(error) => answer(Err(internal(error))),
    })
}

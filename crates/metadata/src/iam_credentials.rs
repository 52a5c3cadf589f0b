//! The IAM Credentials API (cloud-run 5.4), under `iamcredentials.googleapis.com` and, for the
//! other programs of this machine, on the channel [`slice::TOKEN_CHANNEL`].

use crate::impersonation::{self, ApiCaller, not_found};
use crate::issuer::Issuer;
use crate::json_fields::{ApiError, Fields, answer, internal, invalid};
use crate::request::percent_decoded;
use crate::response::MetadataResponse;
use crate::snapshot::Snapshot;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use iam::Permission;
use id_token::{Claims, LIFETIME_SECONDS};
use keys::AccountKeys;
use names::Reason;
use serde_json::{Value, json};
use serverless::pages;
use slice::run::ServiceAccount;

/// No body of these calls is longer, in bytes.
pub const BODY_MAX: usize = 64 * 1024;

/// What `signJwt` signs ends within this time, in seconds (documentation of the method).
const SIGNED_JWT_MAX: u64 = 12 * 3600;

/// What a call is about.
struct Call<'a> {
    snapshot: &'a Snapshot,
    account_keys: &'a AccountKeys,
    caller: Result<ApiCaller, ApiError>,
    /// As the path has it.
    account: &'a str,
    body: &'a [u8],
    now: u64,
}

/// Answers `POST /v1/projects/-/serviceAccounts/EMAIL:generateIdToken`, `…:generateAccessToken`,
/// `…:signJwt` and `…:signBlob`, and `GET …/EMAIL/allowedLocations`. `caller` is asked only for
/// what needs one.
pub(crate) fn respond(
    snapshot: &Snapshot,
    account_keys: &AccountKeys,
    method: &str,
    path: &str,
    body: &[u8],
    caller: impl FnOnce(&Issuer) -> Result<ApiCaller, ApiError>,
    now: u64,
) -> MetadataResponse {
    let below = path
        .strip_prefix("/v1/projects/")
        .and_then(|rest| rest.split_once("/serviceAccounts/"))
        .map(|(_project, rest)| rest);
    if let ("GET", Some(account)) =
        (method, below.and_then(|rest| rest.strip_suffix("/allowedLocations")))
    {
        let account = percent_decoded(account, false);
        return answer(match snapshot.issuer.account(&account) {
            // No account here is bound to locations.
            Some(_) => Ok(json!({"locations": [], "encodedLocations": "0x0"})),
            None => Err(not_found(&account)),
        });
    }
    let call = below.and_then(|rest| rest.rsplit_once(':'));
    let Some((account, name)) = call.filter(|(account, _)| !account.contains('/')) else {
        return no_such_call(path);
    };
    let account = percent_decoded(account, false);
    let run = match (method, name) {
        ("POST", "generateIdToken") => generate_id_token,
        ("POST", "generateAccessToken") => generate_access_token,
        ("POST", "signJwt") => sign_jwt,
        ("POST", "signBlob") => sign_blob,
        _ => return no_such_call(path),
    };
    let caller = caller(&snapshot.issuer);
    answer(run(Call { snapshot, account_keys, caller, account: &account, body, now }))
}

/// The answer to a body that is too long.
pub(crate) fn body_too_large() -> MetadataResponse {
    answer(Err(invalid(format!("the body is longer than {BODY_MAX} bytes"))))
}

pub(crate) fn no_such_call(path: &str) -> MetadataResponse {
    let page = pages::robot_not_found(path);
    MetadataResponse::refused(404, Reason::MetadataPathNotFound, page)
}

impl<'a> Call<'a> {
    /// The fields of the body, and the account, once it is known that the caller may. Who has no
    /// credential learns nothing else.
    fn allowed(
        &mut self,
        permission: Permission,
        known: &[&str],
    ) -> Result<(Fields, &'a ServiceAccount), ApiError> {
        let caller = std::mem::replace(&mut self.caller, Ok(ApiCaller::Platform))?;
        let fields = Fields::parse(self.body, known)?;
        let Snapshot { issuer, policies, .. } = self.snapshot;
        let account = issuer.account(self.account).ok_or_else(|| not_found(self.account))?;
        let delegates = fields.texts("delegates")?;
        impersonation::authorize(issuer, policies, &caller, &delegates, permission, account)?;
        Ok((fields, account))
    }
}

fn generate_id_token(mut call: Call<'_>) -> Result<Value, ApiError> {
    let known =
        ["audience", "includeEmail", "delegates", "organizationNumberIncluded", "useEmailAzp"];
    let (body, account) = call.allowed(Permission::GetOpenIdToken, &known)?;
    let audience = body.text("audience")?.unwrap_or_default();
    let include_email = body.flag("includeEmail")?;
    let email_azp = body.flag("useEmailAzp")?;
    if body.flag("organizationNumberIncluded")? {
        return Err(invalid(
            "organizationNumberIncluded: tokens here do not say an organization's number",
        ));
    }
    if audience.is_empty() {
        return Err(invalid("Request contains an invalid argument: audience must not be empty."));
    }
    let email = include_email.then_some(account.email.as_str());
    let mut claims = Claims::of_service_account(&account.unique_id, email, audience, call.now);
    if email_azp {
        claims.azp = Some(account.email.clone());
    }
    let token = call.snapshot.issuer.sign(&claims).map_err(internal)?;
    Ok(json!({"token": token.token}))
}

fn generate_access_token(mut call: Call<'_>) -> Result<Value, ApiError> {
    let known = ["scope", "lifetime", "delegates"];
    let (body, account) = call.allowed(Permission::GetAccessToken, &known)?;
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
    let issuer = &call.snapshot.issuer;
    let token = issuer.access_token(account, scopes, lifetime, call.now).map_err(internal)?;
    let expires = runtime::log::civil(token.expires);
    Ok(json!({"accessToken": token.token, "expireTime": format!("{expires}Z")}))
}

fn sign_jwt(mut call: Call<'_>) -> Result<Value, ApiError> {
    let (body, account) = call.allowed(Permission::SignJwt, &["payload", "delegates"])?;
    let payload = body.text("payload")?.unwrap_or_default();
    let claims: Value = serde_json::from_str(payload)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| invalid("The JWT payload must be a JSON object: a set of claims."))?;
    match &claims["exp"] {
        Value::Null => {}
        exp => {
            let good = exp.as_f64().is_some_and(|exp| exp <= (call.now + SIGNED_JWT_MAX) as f64);
            if !good {
                return Err(invalid("The exp claim must be a time within the next 12 hours."));
            }
        }
    }
    let key = call.account_keys.system_managed(&account.email).map_err(internal)?;
    let token = id_token::sign_jwt(&key, payload.as_bytes());
    let token = token.map_err(|error| internal(error.to_string()))?;
    Ok(json!({"keyId": key.kid(), "signedJwt": token}))
}

fn sign_blob(mut call: Call<'_>) -> Result<Value, ApiError> {
    let (body, account) = call.allowed(Permission::SignBlob, &["payload", "delegates"])?;
    let payload = STANDARD
        .decode(body.text("payload")?.unwrap_or_default())
        .map_err(|_| invalid("Invalid value at 'payload' (TYPE_BYTES), Base64 decoding failed"))?;
    let key = call.account_keys.system_managed(&account.email).map_err(internal)?;
    let signature = key.sign_bytes(&payload).map_err(|error| internal(error.to_string()))?;
    Ok(json!({"keyId": key.kid(), "signedBlob": STANDARD.encode(signature)}))
}

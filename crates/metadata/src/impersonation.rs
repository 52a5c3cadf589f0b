//! Who calls the IAM Credentials API, and may that caller act as the account (cloud-run 5.4)?

use crate::issuer::Issuer;
use crate::json_fields::{ApiError, internal, invalid};
use iam::{Permission, Policies, Principal};
use id_token::{KeySet, verify_access_token, verify_jwt};
use keys::AccountKeys;
use names::Reason;
use serde_json::json;
use slice::run::ServiceAccount;

/// The scopes of which a caller's access token must have one.
const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/iam"];

/// The service's name in errors, and the audience of self-signed tokens.
const SERVICE: &str = "iamcredentials.googleapis.com";

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiCaller {
    /// A program of this machine, over the channel that nobody else can open: it acts for the API
    /// platform, whose service agent may act as any account that a proxy was deployed with
    /// (5.5 (unconfirmed)).
    Platform,
    /// The account with this email.
    Account(String),
}

fn unauthenticated(info: &'static str, message: &str, detail: Option<String>) -> ApiError {
    ApiError {
        code: 401,
        status: "UNAUTHENTICATED",
        message: format!(
            "{message} Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
        ),
        info: Some(Box::new((info, "googleapis.com", json!({"service": SERVICE})))),
        reason: if detail.is_some() { Reason::ApiTokenInvalid } else { Reason::TokenMissing },
        detail,
    }
}

/// Who holds the credential of a request: an access token of this issuer, or a JWT that a service
/// account signed for this API with a key of its own.
pub(crate) fn caller(
    issuer: &Issuer,
    account_keys: &AccountKeys,
    authorization: Option<&str>,
    now: u64,
) -> Result<ApiCaller, ApiError> {
    let missing = || {
        let message = "Request is missing required authentication credential.";
        unauthenticated("CREDENTIALS_MISSING", message, None)
    };
    let text = authorization.map(str::trim).filter(|text| !text.is_empty()).ok_or_else(missing)?;
    let bad = |info, detail: String| {
        let message = "Request had invalid authentication credentials.";
        unauthenticated(info, message, Some(detail))
    };
    let unsupported = "ACCESS_TOKEN_TYPE_UNSUPPORTED";
    let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim()).ok_or_else(|| {
        bad(unsupported, "the Authorization header is not `Bearer TOKEN`".to_owned())
    })?;
    if !token.starts_with("ya29.") {
        let email = self_signed(issuer, account_keys, token, now)?;
        return email.map(ApiCaller::Account).map_err(|detail| bad(unsupported, detail));
    }
    let claims = verify_access_token(issuer.key_set(), token, now).map_err(|refusal| {
        let expired = refusal == id_token::AccessTokenRefusal::Expired;
        bad(if expired { "ACCESS_TOKEN_EXPIRED" } else { unsupported }, refusal.to_string())
    })?;
    if !claims.scopes.iter().any(|scope| SCOPES.contains(&scope.as_str())) {
        return Err(ApiError {
            code: 403,
            status: "PERMISSION_DENIED",
            message: "Request had insufficient authentication scopes.".to_owned(),
            info: Some(Box::new((
                "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                "googleapis.com",
                json!({"service": SERVICE}),
            ))),
            reason: Reason::ApiScopeInsufficient,
            detail: Some(format!("the token's scopes are {}", claims.scopes.join(" "))),
        });
    }
    Ok(ApiCaller::Account(claims.email))
}

/// The account that signed a JWT for this API; or why it is no credential.
fn self_signed(
    issuer: &Issuer,
    account_keys: &AccountKeys,
    token: &str,
    now: u64,
) -> Result<Result<String, String>, ApiError> {
    let claimed = id_token::claimed_payload(token);
    let email = claimed.as_ref().and_then(|claims| claims["iss"].as_str());
    let Some(account) = email.and_then(|email| issuer.account(email)) else {
        return Ok(Err("neither an access token nor a JWT of a service account".to_owned()));
    };
    let mut all = account_keys.user_managed(&account.email).map_err(internal)?;
    all.push(account_keys.system_managed(&account.email).map_err(internal)?);
    let document = id_token::jwks(&all).to_string();
    let keys = KeySet::parse(&document).map_err(|error| internal(error.to_string()))?;
    Ok(verify_jwt(&keys, token).map_err(|refusal| refusal.to_string()).and_then(|claims| {
        let audience = claims["aud"].as_str().unwrap_or_default();
        let host = audience.strip_prefix("https://").unwrap_or(audience);
        let scoped = claims["scope"]
            .as_str()
            .is_some_and(|scope| scope.split(' ').any(|scope| SCOPES.contains(&scope)));
        if host.trim_end_matches('/') != SERVICE && !scoped {
            return Err(format!("the JWT's aud is `{audience}`, not https://{SERVICE}/"));
        }
        let (iat, exp) = (claims["iat"].as_u64(), claims["exp"].as_u64());
        if !in_force(iat.unwrap_or(0), exp.unwrap_or(0), now) {
            return Err("the JWT is not valid now, or for longer than an hour".to_owned());
        }
        Ok(account.email.clone())
    }))
}

/// Is a token valid now that its holder made himself, and for no more than an hour?
pub(crate) fn in_force(iat: u64, exp: u64, now: u64) -> bool {
    let skew = id_token::CLOCK_SKEW_SECONDS;
    exp.saturating_add(skew) > now
        && iat <= now.saturating_add(skew)
        && exp.saturating_sub(iat) <= id_token::LIFETIME_SECONDS
}

/// May the caller do that as the account? Over `delegates` each link must be allowed to be one of
/// the next account, and the last one must have the permission on the account itself.
pub(crate) fn authorize(
    issuer: &Issuer,
    policies: &Policies,
    caller: &ApiCaller,
    delegates: &[String],
    permission: Permission,
    target: &ServiceAccount,
) -> Result<(), ApiError> {
    let ApiCaller::Account(caller) = caller else {
        return match delegates {
            [] => Ok(()),
            _ => Err(invalid("delegates: the API platform needs none")),
        };
    };
    let mut by = caller.as_str();
    for delegate in delegates {
        let email = delegate
            .strip_prefix("projects/-/serviceAccounts/")
            .filter(|email| !email.is_empty())
            .ok_or_else(|| {
                invalid(format!(
                    "Invalid form of delegate {delegate}: write projects/-/serviceAccounts/ACCOUNT"
                ))
            })?;
        let link = issuer.account(email).ok_or_else(|| not_found(email))?;
        allowed(policies, by, Permission::ImplicitDelegation, link)?;
        by = &link.email;
    }
    allowed(policies, by, permission, target)
}

fn allowed(
    policies: &Policies,
    by: &str,
    permission: Permission,
    on: &ServiceAccount,
) -> Result<(), ApiError> {
    let access = policies.access(permission, &on.resource());
    let Err(denied) = access.check(Principal::of_email(by)) else { return Ok(()) };
    let name = permission.name();
    Err(ApiError {
        code: 403,
        status: "PERMISSION_DENIED",
        message: format!("Permission '{name}' denied on resource (or it may not exist)."),
        info: Some(Box::new((
            "IAM_PERMISSION_DENIED",
            "iam.googleapis.com",
            json!({"permission": name}),
        ))),
        reason: Reason::ImpersonationDenied,
        detail: Some(match denied.fix() {
            Some(fix) => format!("{denied}. {fix}"),
            None => denied.to_string(),
        }),
    })
}

/// 404.
pub(crate) fn not_found(email: &str) -> ApiError {
    ApiError {
        code: 404,
        status: "NOT_FOUND",
        message: format!("Not found; Gaia id not found for email {email}"),
        reason: Reason::ServiceAccountNotFound,
        ..invalid("")
    }
}

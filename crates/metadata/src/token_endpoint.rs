//! `https://oauth2.googleapis.com/token` (cloud-run 5.4): a JWT that a service account signed with
//! a key of its own is exchanged for an ID token or an access token. Texts of refusals: as seen in
//! public reports of the real ones.

use crate::impersonation::in_force;
use crate::issuer::Issuer;
use crate::request::Query;
use crate::response::{ContentType, MetadataResponse};
use id_token::{Claims, KeySet, LIFETIME_SECONDS, TokenRefusal};
use keys::AccountKeys;
use names::Reason;
use serde_json::{Value, json};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The `aud` of an assertion: the endpoint, or one of its older names.
const AUDIENCES: [&str; 3] = [
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
];

/// An error of OAuth 2.0 (RFC 6749, 5.2).
struct Refusal {
    status: u16,
    error: &'static str,
    description: String,
    reason: Reason,
    detail: Option<String>,
}

fn refused(error: &'static str, description: impl Into<String>, reason: Reason) -> Refusal {
    Refusal { status: 400, error, description: description.into(), reason, detail: None }
}

impl Refusal {
    fn because(self, detail: impl Into<String>) -> Self {
        Refusal { detail: Some(detail.into()), ..self }
    }
}

fn respond(result: Result<Value, Refusal>) -> MetadataResponse {
    match result {
        Ok(value) => MetadataResponse {
            cache_control: Some("no-cache, no-store, max-age=0, must-revalidate"),
            ..MetadataResponse::ok(ContentType::ApiJson, value.to_string())
        },
        Err(Refusal { status, error, description, reason, detail }) => {
            let body = json!({"error": error, "error_description": description});
            MetadataResponse {
                content_type: ContentType::ApiJson,
                ..MetadataResponse::refused(status, reason, body.to_string())
            }
            .because(detail.unwrap_or(description))
        }
    }
}

/// Answers a form.
pub(crate) fn exchange(
    issuer: &Issuer,
    account_keys: &AccountKeys,
    form: &[u8],
    now: u64,
) -> MetadataResponse {
    let form = std::str::from_utf8(form).unwrap_or_default();
    respond(token(issuer, account_keys, &Query::parse(form), now))
}

fn token(
    issuer: &Issuer,
    account_keys: &AccountKeys,
    form: &Query<'_>,
    now: u64,
) -> Result<Value, Refusal> {
    let invalid_request =
        |text: &str| refused("invalid_request", text, Reason::TokenRequestInvalid);
    let grant = form.get("grant_type").filter(|grant| !grant.is_empty());
    match grant {
        Some(GRANT) => {}
        None => return Err(invalid_request("Missing required parameter: grant_type")),
        Some(other) => {
            return Err(refused(
                "unsupported_grant_type",
                format!("Invalid grant_type: {other}"),
                Reason::TokenRequestInvalid,
            )
            .because("no user signs in here: service accounts send signed JWTs"));
        }
    }
    let assertion = form.get("assertion").filter(|assertion| !assertion.is_empty());
    let assertion =
        assertion.ok_or_else(|| invalid_request("Missing required parameter: assertion"))?;
    let claims = verified(issuer, account_keys, assertion, now)?;
    let text = |name: &str| claims[name].as_str().filter(|text| !text.trim().is_empty());
    let account = text("iss").and_then(|email| issuer.account(email)).ok_or_else(no_account)?;
    if let Some(sub) = text("sub")
        && !sub.eq_ignore_ascii_case(&account.email)
    {
        return Err(Refusal {
            status: 401,
            ..refused(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any of the scopes requested.",
                Reason::ImpersonationDenied,
            )
        }
        .because(format!("domain-wide delegation is not simulated: the sub is {sub}")));
    }
    let internal = |problem: String| {
        Refusal { status: 500, ..refused("internal_failure", "", Reason::TokenRequestInvalid) }
            .because(problem)
    };
    match (text("target_audience"), text("scope")) {
        // Google's own library for Node sends scopes beside an audience, and expects an ID token.
        (Some(audience), _) => {
            let (id, email) = (&account.unique_id, Some(account.email.as_str()));
            let mut claims = Claims::of_service_account(id, email, audience, now);
            // The one way to a token whose azp is the email.
            claims.azp = Some(account.email.clone());
            let token = issuer.sign(&claims).map_err(internal)?;
            Ok(json!({"id_token": token.token}))
        }
        (None, Some(scope)) => {
            let scopes = scope.split_ascii_whitespace().map(str::to_owned).collect();
            let token = issuer.access_token(account, scopes, LIFETIME_SECONDS, now);
            let token = token.map_err(internal)?.token;
            // The real one says 3599 of a new token: it was made a moment ago.
            let expires_in = LIFETIME_SECONDS - 1;
            Ok(json!({"access_token": token, "expires_in": expires_in, "token_type": "Bearer"}))
        }
        (None, None) => Err(refused(
            "invalid_scope",
            "Invalid OAuth scope or ID token audience provided.",
            Reason::TokenRequestInvalid,
        )),
    }
}

fn invalid_grant(description: impl Into<String>, reason: Reason) -> Refusal {
    refused("invalid_grant", description, reason)
}

fn no_account() -> Refusal {
    invalid_grant("Invalid grant: account not found", Reason::ServiceAccountNotFound)
}

/// The claims of an assertion that its account signed, for this endpoint, valid now.
fn verified(
    issuer: &Issuer,
    account_keys: &AccountKeys,
    assertion: &str,
    now: u64,
) -> Result<Value, Refusal> {
    let claimed = id_token::claimed_payload(assertion).ok_or_else(|| {
        invalid_grant("Bad Request", Reason::TokenMalformed).because("the assertion is no JWT")
    })?;
    let account = claimed["iss"].as_str().and_then(|email| issuer.account(email));
    let account = account.ok_or_else(|| {
        no_account().because(format!("the assertion's iss is {}", claimed["iss"]))
    })?;
    let signature = |detail: String| {
        invalid_grant("Invalid JWT Signature.", Reason::TokenSignatureInvalid).because(detail)
    };
    let own = account_keys.user_managed(&account.email).map_err(signature)?;
    let keys = KeySet::parse(&id_token::jwks(&own).to_string());
    let keys = keys.map_err(|error| signature(error.to_string()))?;
    let claims = id_token::verify_jwt(&keys, assertion).map_err(|refusal| match refusal {
        TokenRefusal::Malformed(problem) => {
            invalid_grant("Bad Request", Reason::TokenMalformed).because(problem.to_string())
        }
        refusal => {
            let kids: Vec<&str> = keys.kids().collect();
            let email = &account.email;
            signature(format!("{refusal}; {email} has the keys: {}", kids.join(", ")))
        }
    })?;
    let audience = claims["aud"].as_str().unwrap_or_default();
    if !AUDIENCES.contains(&audience) {
        return Err(invalid_grant(
            format!("Invalid JWT: Failed audience check. The right audience is {}", AUDIENCES[0]),
            Reason::TokenAudienceMismatch,
        )
        .because(format!("the assertion's aud is `{audience}`")));
    }
    let (iat, exp) = (claims["iat"].as_u64(), claims["exp"].as_u64());
    if !in_force(iat.unwrap_or(u64::MAX), exp.unwrap_or(0), now) {
        return Err(invalid_grant(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
            Reason::TokenExpired,
        )
        .because(format!("iat {iat:?}, exp {exp:?}, now {now}")));
    }
    Ok(claims)
}

/// `tokeninfo?id_token=T` or `?access_token=T`: claims as texts (the refusal's text and the members
/// of the second are (unconfirmed)).
pub(crate) fn token_info(issuer: &Issuer, query: &Query<'_>, now: u64) -> MetadataResponse {
    let bad = |detail: String| {
        refused("invalid_token", "Invalid Value", Reason::ApiTokenInvalid).because(detail)
    };
    let text = |number: u64| Value::String(number.to_string());
    let result = match (query.get("id_token"), query.get("access_token")) {
        (Some(token), _) => id_token::verify(issuer.key_set(), token, now)
            .map_err(|refusal| bad(refusal.to_string()))
            .map(|claims| {
                let header = claimed_header(token);
                let mut info = serde_json::to_value(&claims).unwrap_or_default();
                for name in ["iat", "exp"] {
                    info[name] = Value::String(info[name].to_string());
                }
                if let Some(verified) = claims.email_verified {
                    info["email_verified"] = Value::String(verified.to_string());
                }
                info["alg"] = header["alg"].clone();
                info["kid"] = header["kid"].clone();
                info["typ"] = header["typ"].clone();
                info
            }),
        (None, Some(token)) => id_token::verify_access_token(issuer.key_set(), token, now)
            .map_err(|refusal| bad(refusal.to_string()))
            .map(|claims| {
                json!({
                    "azp": claims.sub, "aud": claims.sub, "sub": claims.sub,
                    "scope": claims.scopes.join(" "), "exp": text(claims.exp),
                    "expires_in": text(claims.exp.saturating_sub(now)),
                    "email": claims.email, "email_verified": "true", "access_type": "online",
                })
            }),
        (None, None) => Err(bad("neither id_token nor access_token is given".to_owned())),
    };
    respond(result)
}

fn claimed_header(token: &str) -> Value {
    // The header stands where a payload would in a JWT whose first segment is left out.
    let header = token.split('.').next().unwrap_or_default();
    id_token::claimed_payload(&format!("_.{header}._")).unwrap_or_default()
}

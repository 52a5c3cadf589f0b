//! The documents by which anybody verifies the issuer's tokens (cloud-run 5.4). At Google they
//! stand on other hosts; here clients reach them on the metadata address too, under the same paths
//! (google-clients 1.3).

use crate::issuer::Issuer;
use crate::response::{ContentType, MetadataResponse};
use serde_json::json;

/// How long published keys may be kept: for less than a new key is published before it signs.
pub(crate) const CACHE_CONTROL: &str = "public, max-age=20000, must-revalidate, no-transform";

/// The document with this path, if it is one of them.
pub(crate) fn document(issuer: &Issuer, path: &str) -> Option<MetadataResponse> {
    let body = match path {
        "/oauth2/v1/certs" => issuer.x509.clone(),
        "/oauth2/v3/certs" => issuer.jwks.clone(),
        "/.well-known/openid-configuration" => configuration().into(),
        _ => return None,
    };
    Some(MetadataResponse {
        cache_control: Some(CACHE_CONTROL),
        ..MetadataResponse::ok(ContentType::ApiJson, body)
    })
}

/// Google's own document, which names Google's own hosts: clients compare the issuer, and follow
/// `jwks_uri` through the network's front end.
fn configuration() -> String {
    json!({
        "issuer": id_token::ISSUER,
        "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
        "device_authorization_endpoint": "https://oauth2.googleapis.com/device/code",
        "token_endpoint": "https://oauth2.googleapis.com/token",
        "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
        "revocation_endpoint": "https://oauth2.googleapis.com/revoke",
        "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
        "response_types_supported": ["code", "token", "id_token", "code token", "code id_token", "token id_token", "code token id_token", "none"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "email", "profile"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "claims_supported": ["aud", "email", "email_verified", "exp", "family_name", "given_name", "iat", "iss", "name", "picture", "sub"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "grant_types_supported": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
    })
    .to_string()
}

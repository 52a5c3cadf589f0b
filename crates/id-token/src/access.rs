//! Access tokens: opaque to their bearer, told from ID tokens by `ya29.`, and readable for whoever
//! has the key set. The inside is ours; Google documents none.

use crate::CLOCK_SKEW_SECONDS;
use crate::jwt;
use crate::key_set::KeySet;
use crate::signing::{SigningError, SigningKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What Google's access tokens of service accounts begin with.
const PREFIX: &str = "ya29.c.";

/// Keeps a signature over an access token from being one over anything else.
const DOMAIN: &[u8] = b"postern access token\n";

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// The account's email.
    pub email: String,
    /// Its unique id.
    pub sub: String,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
}

#[derive(Serialize, Deserialize)]
struct Inside<C> {
    kid: String,
    #[serde(flatten)]
    claims: C,
}

/// Why an access token is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTokenRefusal {
    /// Not one of this issuer's form.
    Malformed,
    /// No published key signed it.
    KeyUnknown,
    /// The signature does not fit.
    SignatureInvalid,
    /// It has expired.
    Expired,
}

impl fmt::Display for AccessTokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AccessTokenRefusal::Malformed => "not an access token of this issuer",
            AccessTokenRefusal::KeyUnknown => "the access token's key is not published",
            AccessTokenRefusal::SignatureInvalid => "the access token's signature is wrong",
            AccessTokenRefusal::Expired => "the access token has expired",
        })
    }
}

impl std::error::Error for AccessTokenRefusal {}

/// Makes an access token.
///
/// # Errors
/// If the key refuses to sign, or the claims are larger than 64 KiB.
pub fn access_token(key: &SigningKey, claims: &AccessClaims) -> Result<String, SigningError> {
    let inside = Inside { kid: key.kid().to_owned(), claims };
    let payload = serde_json::to_vec(&inside)
        .map_err(|error| SigningError::because(format!("access token: {error}")))?;
    let length = u16::try_from(payload.len())
        .map_err(|_| SigningError::because("access token: too many scopes".to_owned()))?;
    let signature = key.sign_bytes(&[DOMAIN, &payload].concat())?;
    let blob = [&length.to_be_bytes()[..], &payload, &signature].concat();
    Ok(format!("{PREFIX}{}", jwt::encode(blob)))
}

/// Reads an access token at the time `now` (seconds since 1970).
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_access_token(
    keys: &KeySet,
    token: &str,
    now: u64,
) -> Result<AccessClaims, AccessTokenRefusal> {
    let blob = token.strip_prefix(PREFIX).and_then(jwt::decode);
    let blob = blob.ok_or(AccessTokenRefusal::Malformed)?;
    let (length, rest) = blob.split_at_checked(2).ok_or(AccessTokenRefusal::Malformed)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    let (payload, signature) =
        rest.split_at_checked(length).ok_or(AccessTokenRefusal::Malformed)?;
    let inside: Inside<AccessClaims> =
        serde_json::from_slice(payload).map_err(|_| AccessTokenRefusal::Malformed)?;
    let key = keys.key(&inside.kid).ok_or(AccessTokenRefusal::KeyUnknown)?;
    key.verify_sig(&[DOMAIN, payload].concat(), signature)
        .map_err(|_| AccessTokenRefusal::SignatureInvalid)?;
    if inside.claims.exp.saturating_add(CLOCK_SKEW_SECONDS) <= now {
        return Err(AccessTokenRefusal::Expired);
    }
    Ok(inside.claims)
}

//! The published keys, and the check of a token against them.

use crate::claims::Claims;
use crate::jwt::{self, SIGNATURE_REMOVED};
use crate::refusal::{Malformation, TokenRefusal};
use crate::{CLOCK_SKEW_SECONDS, ISSUER, ISSUER_WITHOUT_SCHEME, LIFETIME_SECONDS};
use aws_lc_rs::digest;
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use std::fmt;

/// The keys with which an issuer signs, parsed once (performance advice 8: parsing per token costs
/// a tenth of a check).
#[derive(Clone, Debug)]
pub struct KeySet {
    /// A handful at the most, so a list beats a map.
    keys: Vec<(Box<str>, ParsedPublicKey)>,
    fingerprint: [u8; 32],
    issuer: Option<String>,
}

/// A document that is no JWKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySetError {
    /// Not `{"keys": […]}`.
    NotAKeySet(String),
    /// The named key cannot be used.
    KeyUnusable {
        /// Its `kid`.
        kid: String,
        /// Why not.
        problem: &'static str,
    },
}

impl fmt::Display for KeySetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySetError::NotAKeySet(problem) => write!(f, "not a JSON Web Key Set: {problem}"),
            KeySetError::KeyUnusable { kid, problem } => write!(f, "key `{kid}`: {problem}"),
        }
    }
}

impl std::error::Error for KeySetError {}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Jwk>,
    #[serde(default)]
    issuer: Option<String>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl KeySet {
    /// From a JWKS document. A member `issuer` beside `keys` says that the keys are another
    /// issuer's than Google (put there by hand, never by us): its tokens name it as `iss` and may
    /// live longer than Google's. Keys for other algorithms or uses are passed over, as RFC 7517 says;
    /// an empty set is legal and knows no token.
    ///
    /// # Errors
    /// If the document is no JWKS, or an RSA key in it is broken or named twice.
    pub fn parse(json: &str) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_str(json)
            .map_err(|error| KeySetError::NotAKeySet(error.to_string()))?;
        let mut keys: Vec<(Box<str>, ParsedPublicKey)> = Vec::new();
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut usable: Vec<&Jwk> = document.keys.iter().filter(|key| key.verifies()).collect();
        usable.sort_by(|a, b| a.kid.cmp(&b.kid));
        for key in usable {
            if keys.iter().any(|(kid, _)| **kid == *key.kid) {
                return Err(key.unusable("two keys have this kid"));
            }
            keys.push((key.kid.as_str().into(), key.parse()?));
            for part in [&key.kid, &key.n, &key.e] {
                hash.update(part.as_bytes());
                hash.update(&[0]);
            }
        }
        hash.update(document.issuer.as_deref().unwrap_or_default().as_bytes());
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(hash.finish().as_ref());
        Ok(KeySet { keys, fingerprint, issuer: document.issuer })
    }

    /// Equal for equal keys: what a cache of verified tokens watches.
    pub fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The ids of the keys.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(kid, _)| &**kid)
    }

    /// Does the token name one of these keys? A cheap look at its header that proves nothing.
    pub fn names_key_of(&self, token: &str) -> bool {
        jwt::segments(token)
            .and_then(|parts| jwt::header(parts.header))
            .is_ok_and(|header| header.kid.is_some_and(|kid| self.key(&kid).is_some()))
    }

    pub(crate) fn key(&self, kid: &str) -> Option<&ParsedPublicKey> {
        self.keys.iter().find(|(known, _)| **known == *kid).map(|(_, key)| key)
    }
}

impl Jwk {
    fn verifies(&self) -> bool {
        self.kty == "RSA"
            && self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.alg.as_deref().is_none_or(|alg| alg == "RS256")
    }

    fn parse(&self) -> Result<ParsedPublicKey, KeySetError> {
        if self.kid.is_empty() {
            return Err(self.unusable("it has no kid"));
        }
        let n = jwt::decode(&self.n).ok_or_else(|| self.unusable("n is not base64url"))?;
        let e = jwt::decode(&self.e).ok_or_else(|| self.unusable("e is not base64url"))?;
        RsaPublicKeyComponents { n, e }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map_err(|_| self.unusable("n and e are no RSA key"))
    }

    fn unusable(&self, problem: &'static str) -> KeySetError {
        KeySetError::KeyUnusable { kid: self.kid.clone(), problem }
    }
}

/// Checks an ID token at the time `now` (seconds since 1970): form, algorithm, key, signature,
/// issuer, lifetime, times (cloud-run 5.2). The audience is the caller's to check.
///
/// # Errors
/// The first thing that is wrong, in that order.
pub fn verify(keys: &KeySet, token: &str, now: u64) -> Result<Claims, TokenRefusal> {
    if token.starts_with("ya29.") {
        let account = crate::verify_access_token(keys, token, now).ok().map(|claims| claims.email);
        return Err(TokenRefusal::AccessToken { account });
    }
    let parts = jwt::segments(token).map_err(TokenRefusal::Malformed)?;
    let header = jwt::header(parts.header).map_err(TokenRefusal::Malformed)?;
    if header.typ.is_some_and(|typ| typ.eq_ignore_ascii_case("at+jwt")) {
        return Err(TokenRefusal::AccessToken { account: None });
    }
    if header.alg != "RS256" {
        return Err(TokenRefusal::AlgorithmNotRs256 { alg: header.alg });
    }
    let claimed = || read(parts.payload).map(Box::new);
    if parts.signature == SIGNATURE_REMOVED {
        return Err(TokenRefusal::SignatureRemoved { claimed: claimed() });
    }
    let Some((kid, key)) =
        header.kid.as_deref().and_then(|kid| keys.key(kid).map(|key| (kid, key)))
    else {
        return Err(TokenRefusal::KeyUnknown { kid: header.kid, claimed: claimed() });
    };
    let signature = jwt::decode(parts.signature)
        .ok_or(TokenRefusal::Malformed(Malformation::Base64("signature")))?;
    if key.verify_sig(parts.signed.as_bytes(), &signature).is_err() {
        return Err(TokenRefusal::SignatureInvalid { kid: kid.to_owned(), claimed: claimed() });
    }
    let claims = read(parts.payload).ok_or(TokenRefusal::ClaimsUnreadable)?;
    let google = claims.iss == ISSUER || claims.iss == ISSUER_WITHOUT_SCHEME;
    match &keys.issuer {
        Some(issuer) if claims.iss == *issuer => {
            check_times(&claims, now)?;
            return Ok(claims);
        }
        None if google => {}
        _ => return Err(TokenRefusal::IssuerMismatch(Box::new(claims))),
    }
    if claims.exp.saturating_sub(claims.iat) > LIFETIME_SECONDS {
        return Err(TokenRefusal::LifetimeTooLong(Box::new(claims)));
    }
    check_times(&claims, now)?;
    Ok(claims)
}

/// The payload of a JWT that one of these keys signed, whatever it says: form, algorithm, key and
/// signature are checked, claims and times are the caller's to judge. A token without a `kid` may be
/// any key's.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify_jwt(keys: &KeySet, token: &str) -> Result<serde_json::Value, TokenRefusal> {
    let parts = jwt::segments(token).map_err(TokenRefusal::Malformed)?;
    let header = jwt::header(parts.header).map_err(TokenRefusal::Malformed)?;
    if header.alg != "RS256" {
        return Err(TokenRefusal::AlgorithmNotRs256 { alg: header.alg });
    }
    let signature = jwt::decode(parts.signature)
        .ok_or(TokenRefusal::Malformed(Malformation::Base64("signature")))?;
    let mut fitting = keys
        .keys
        .iter()
        .filter(|(known, _)| header.kid.as_deref().is_none_or(|kid| **known == *kid))
        .peekable();
    if fitting.peek().is_none() {
        return Err(TokenRefusal::KeyUnknown { kid: header.kid, claimed: None });
    }
    if !fitting.any(|(_, key)| key.verify_sig(parts.signed.as_bytes(), &signature).is_ok()) {
        let kid = header.kid.unwrap_or_default();
        return Err(TokenRefusal::SignatureInvalid { kid, claimed: None });
    }
    claimed_payload(token).ok_or(TokenRefusal::ClaimsUnreadable)
}

/// What a JWT says of itself, believed by nobody: whose keys have to be asked for.
pub fn claimed_payload(token: &str) -> Option<serde_json::Value> {
    let payload = jwt::decode(jwt::segments(token).ok()?.payload)?;
    serde_json::from_slice(&payload).ok()
}

/// Is a verified token valid now? Checked at every use, cached or not.
pub(crate) fn check_times(claims: &Claims, now: u64) -> Result<(), TokenRefusal> {
    if claims.exp.saturating_add(CLOCK_SKEW_SECONDS) <= now {
        return Err(TokenRefusal::Expired { claims: Box::new(claims.clone()), now });
    }
    if claims.iat.max(claims.nbf.unwrap_or(0)) > now.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(TokenRefusal::NotYetValid { claims: Box::new(claims.clone()), now });
    }
    Ok(())
}

fn read(payload: &str) -> Option<Claims> {
    serde_json::from_slice(&jwt::decode(payload)?).ok()
}

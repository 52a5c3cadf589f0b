//! Why a token is no good, with what was found in it.

use crate::{CLOCK_SKEW_SECONDS, Claims};
use names::Reason;
use std::fmt;

/// Why a bearer token is not a valid ID token of this issuer. Claims in a refusal that comes before
/// the check of the signature (`claimed`) are what the token says of itself, not what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// Not a JWT.
    Malformed(Malformation),
    /// An access token: `ya29.…`, or a JWT of the type `at+jwt`.
    AccessToken {
        /// Whose it is, where this topology's issuer made it.
        account: Option<String>,
    },
    /// Signed with something else than RS256.
    AlgorithmNotRs256 {
        /// `alg` of its header.
        alg: String,
    },
    /// No published key has its `kid`.
    KeyUnknown {
        /// `kid` of its header.
        kid: Option<String>,
        /// What it says of itself.
        claimed: Option<Box<Claims>>,
    },
    /// The signature does not fit.
    SignatureInvalid {
        /// The key that it names.
        kid: String,
        /// What it says of itself.
        claimed: Option<Box<Claims>>,
    },
    /// The token went through Cloud Run before, which removed its signature.
    SignatureRemoved {
        /// What it says of itself.
        claimed: Option<Box<Claims>>,
    },
    /// The signature is good, but the payload is no set of claims.
    ClaimsUnreadable,
    /// The issuer is not Google's.
    IssuerMismatch(Box<Claims>),
    /// It is valid for longer than an hour.
    LifetimeTooLong(Box<Claims>),
    /// It has expired.
    Expired {
        /// Its claims.
        claims: Box<Claims>,
        /// The time of the check.
        now: u64,
    },
    /// It is not valid yet.
    NotYetValid {
        /// Its claims.
        claims: Box<Claims>,
        /// The time of the check.
        now: u64,
    },
}

/// What is wrong with the outside of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformation {
    /// Longer than any token: so many bytes.
    TooLong(usize),
    /// So many dot-separated segments instead of three.
    Segments(usize),
    /// The named segment is not base64url.
    Base64(&'static str),
    /// The named segment is not the JSON object that it should be.
    Json(&'static str),
    /// The header demands an extension (`crit`).
    CriticalExtension,
}

impl TokenRefusal {
    /// The code of the registry.
    pub fn reason(&self) -> Reason {
        match self {
            TokenRefusal::Malformed(_)
            | TokenRefusal::AlgorithmNotRs256 { .. }
            | TokenRefusal::ClaimsUnreadable
            | TokenRefusal::LifetimeTooLong(_) => Reason::TokenMalformed,
            TokenRefusal::AccessToken { .. } => Reason::TokenIsAccessToken,
            TokenRefusal::KeyUnknown { .. }
            | TokenRefusal::SignatureInvalid { .. }
            | TokenRefusal::SignatureRemoved { .. } => Reason::TokenSignatureInvalid,
            TokenRefusal::IssuerMismatch(_) => Reason::TokenIssuerMismatch,
            TokenRefusal::Expired { .. } => Reason::TokenExpired,
            TokenRefusal::NotYetValid { .. } => Reason::TokenNotYetValid,
        }
    }

    /// The claims that were found, believed or not.
    pub fn claims(&self) -> Option<&Claims> {
        match self {
            TokenRefusal::KeyUnknown { claimed, .. }
            | TokenRefusal::SignatureInvalid { claimed, .. }
            | TokenRefusal::SignatureRemoved { claimed } => claimed.as_deref(),
            TokenRefusal::IssuerMismatch(claims)
            | TokenRefusal::LifetimeTooLong(claims)
            | TokenRefusal::Expired { claims, .. }
            | TokenRefusal::NotYetValid { claims, .. } => Some(claims),
            _ => None,
        }
    }

    /// What kind of credential it looks like: a word for logs.
    pub fn token_kind(&self) -> &'static str {
        match self {
            TokenRefusal::AccessToken { .. } => "access token",
            TokenRefusal::Malformed(_) => "not a JWT",
            TokenRefusal::KeyUnknown { claimed: Some(claimed), .. }
                if claimed.iss.contains('@') =>
            {
                "self-signed JWT"
            }
            _ => "JWT",
        }
    }

    /// One sentence: what to do, as exactly as the token allows.
    pub fn fix(&self) -> &'static str {
        match self {
            TokenRefusal::SignatureRemoved { .. } => {
                "Do not forward the token that Cloud Run passed to the program: fetch one for the service that is called."
            }
            TokenRefusal::KeyUnknown { claimed: Some(claimed), .. } => {
                if claimed.iss.contains('@') {
                    "A service account's own JWT must first be exchanged for an ID token (generateIdToken, or the metadata server's identity)."
                } else {
                    "The token was made by another issuer, or before the signing keys were replaced: fetch a new one inside this topology."
                }
            }
            TokenRefusal::LifetimeTooLong(_) => "ID tokens live for one hour at the most.",
            refusal => refusal.reason().fix(),
        }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenRefusal::Malformed(problem) => problem.fmt(f),
            TokenRefusal::AccessToken { account: Some(account) } => {
                write!(f, "the token is an access token of {account}, not an ID token")
            }
            TokenRefusal::AccessToken { account: None } => {
                f.write_str("the token is an access token, not an ID token")
            }
            TokenRefusal::AlgorithmNotRs256 { alg } => {
                write!(f, "the token's alg is `{alg}`, not RS256")
            }
            TokenRefusal::KeyUnknown { kid: Some(kid), claimed } => {
                write!(f, "no published key has the token's kid `{kid}`")?;
                claimed_issuer(f, claimed.as_deref())
            }
            TokenRefusal::KeyUnknown { kid: None, claimed } => {
                f.write_str("the token names no kid")?;
                claimed_issuer(f, claimed.as_deref())
            }
            TokenRefusal::SignatureInvalid { kid, claimed } => {
                write!(f, "the token's signature does not fit key `{kid}`")?;
                claimed_issuer(f, claimed.as_deref())
            }
            TokenRefusal::SignatureRemoved { .. } => {
                f.write_str("the token went through Cloud Run, which removed its signature")
            }
            TokenRefusal::ClaimsUnreadable => {
                f.write_str("the token's payload lacks iss, sub, aud, iat or exp")
            }
            TokenRefusal::IssuerMismatch(claims) => {
                write!(f, "the token's issuer is `{}`, not {}", claims.iss, crate::ISSUER)
            }
            TokenRefusal::LifetimeTooLong(claims) => {
                let lifetime = claims.exp.saturating_sub(claims.iat);
                write!(f, "the token is valid for {lifetime} s, more than an hour")
            }
            TokenRefusal::Expired { claims, now } => {
                write!(f, "the token expired {} s ago", now.saturating_sub(claims.exp))
            }
            TokenRefusal::NotYetValid { claims, now } => {
                let start = claims.nbf.unwrap_or(0).max(claims.iat);
                let early = start.saturating_sub(*now);
                write!(f, "the token is valid in {early} s only ({CLOCK_SKEW_SECONDS} s allowed)")
            }
        }
    }
}

fn claimed_issuer(f: &mut fmt::Formatter<'_>, claimed: Option<&Claims>) -> fmt::Result {
    match claimed {
        Some(claims) => write!(f, " (it claims the issuer `{}`)", claims.iss),
        None => Ok(()),
    }
}

impl std::error::Error for TokenRefusal {}

impl fmt::Display for Malformation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformation::TooLong(length) => write!(f, "the token has {length} bytes"),
            Malformation::Segments(1) => f.write_str("the token is opaque, not a JWT"),
            Malformation::Segments(count) => {
                write!(f, "the token has {count} dot-separated segments instead of three")
            }
            Malformation::Base64(segment) => {
                write!(f, "the token's {segment} is not base64url without padding")
            }
            Malformation::Json(segment) => {
                write!(f, "the token's {segment} is not the JSON that a JWT has")
            }
            Malformation::CriticalExtension => {
                f.write_str("the token's header demands an extension (crit)")
            }
        }
    }
}

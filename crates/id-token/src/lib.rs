//! Google-shaped tokens: ID tokens (RS256 JWTs), the key set that verifies them, and access
//! tokens.
//!
//! Words owned here: *claims*, *signing key*, *key set*, *audience*, *access token*. Every
//! decision takes the time as an argument and returns plain data: a good token's claims, or a
//! [`TokenRefusal`] that carries what was found and maps to one [`names::Reason`].
//!
//! This crate never reads a clock, a file or a socket. Randomness is taken in one place,
//! [`SigningKey::generate`], which is set-up code; everything else is a function of its arguments.
//! It never decides who may call: the caller compares audiences ([`audience_accepted`]) and
//! permissions.
//!
//! Facts: fact sheet cloud-run 5.2 to 5.4, google-clients 1.3, performance advice 8.

mod access;
mod audience;
mod cache;
mod claims;
mod jwt;
mod key_set;
mod refusal;
mod signing;
#[cfg(test)]
mod tests;

pub use access::{AccessClaims, AccessTokenRefusal, access_token, verify_access_token};
pub use audience::{AudienceMismatch, AudienceNearMiss, audience_accepted};
pub use cache::VerifiedCache;
pub use claims::{Claims, ComputeEngine, Google};
pub use jwt::{SIGNATURE_REMOVED, replace_signature};
pub use key_set::{KeySet, KeySetError, claimed_payload, verify, verify_jwt};
pub use refusal::{Malformation, TokenRefusal};
pub use signing::{SigningError, SigningKey, certificates, jwks, sign, sign_jwt, x509_certs};

/// The issuer of ID tokens (cloud-run 5.2).
pub const ISSUER: &str = "https://accounts.google.com";

/// The issuer's other spelling, accepted too (cloud-run 5.2).
pub const ISSUER_WITHOUT_SCHEME: &str = "accounts.google.com";

/// How long an ID token or an access token lives, in seconds (cloud-run 5.2).
pub const LIFETIME_SECONDS: u64 = 3600;

/// How far the clocks of issuer and verifier may differ, in seconds (the size is (unconfirmed)).
pub const CLOCK_SKEW_SECONDS: u64 = 10;

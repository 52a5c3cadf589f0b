//! The private side: signing keys, ID tokens, and the documents that publish the keys.

use crate::claims::Claims;
use crate::jwt;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{digest, error::Unspecified};
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PKCS_RSA_SHA256,
    RsaKeySize, SerialNumber,
};
use serde_json::{Map, Value, json};
use std::fmt;

/// An RSA key with which the issuer signs.
pub struct SigningKey {
    pair: RsaKeyPair,
    /// The same key as rcgen holds it: for PEM and certificates.
    envelope: rcgen::KeyPair,
    kid: String,
}

/// A key that cannot be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningError(String);

impl SigningError {
    pub(crate) fn because(problem: String) -> Self {
        SigningError(problem)
    }
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SigningError {}

impl From<rcgen::Error> for SigningError {
    fn from(error: rcgen::Error) -> Self {
        SigningError(format!("signing key: {error}"))
    }
}

impl From<Unspecified> for SigningError {
    fn from(_: Unspecified) -> Self {
        SigningError("signing key: the signature could not be made".to_owned())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Makes a new RSA-2048 key. Set-up code: the one place of this crate that takes randomness.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, SigningError> {
        Self::from_envelope(rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)
    }

    /// From an unencrypted PKCS#8 PEM.
    ///
    /// # Errors
    /// If the text holds no RSA key of 2048 bits or more.
    pub fn from_pem(pem: &str) -> Result<Self, SigningError> {
        Self::from_envelope(rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_RSA_SHA256)?)
    }

    fn from_envelope(envelope: rcgen::KeyPair) -> Result<Self, SigningError> {
        let pair = RsaKeyPair::from_pkcs8(envelope.serialized_der())
            .map_err(|rejected| SigningError(format!("signing key: {rejected}")))?;
        let hash = digest::digest(&digest::SHA256, pair.public_key().as_ref());
        let kid = hash.as_ref()[..20].iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(SigningKey { pair, envelope, kid })
    }

    /// The key as PKCS#8 PEM. Secret.
    pub fn to_pem(&self) -> String {
        self.envelope.serialize_pem()
    }

    /// The key's id: 40 hex digits of its public part's digest.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs a message: PKCS#1 v1.5 with SHA-256.
    ///
    /// # Errors
    /// If the key refuses to sign.
    pub fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
        Ok(signature)
    }
}

/// Makes an ID token.
///
/// # Errors
/// If the key refuses to sign.
pub fn sign(key: &SigningKey, claims: &Claims) -> Result<String, SigningError> {
    let payload =
        serde_json::to_vec(claims).map_err(|error| SigningError(format!("claims: {error}")))?;
    sign_jwt(key, &payload)
}

/// Makes a JWT with any payload.
///
/// # Errors
/// If the key refuses to sign.
pub fn sign_jwt(key: &SigningKey, payload: &[u8]) -> Result<String, SigningError> {
    let header = json!({"alg": "RS256", "kid": key.kid, "typ": "JWT"}).to_string();
    let mut token = jwt::encode(header);
    token.push('.');
    token.push_str(&jwt::encode(payload));
    let signature = key.sign_bytes(token.as_bytes())?;
    token.push('.');
    token.push_str(&jwt::encode(signature));
    Ok(token)
}

/// The JWKS document of `https://www.googleapis.com/oauth2/v3/certs` (cloud-run 5.4).
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a SigningKey>) -> Value {
    let one = |key: &SigningKey| {
        let (n, e) = modulus_and_exponent(key.pair.public_key().as_ref())
            .expect("aws-lc writes a public key as RFC 8017 says");
        json!({
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": key.kid,
            "n": jwt::encode(n),
            "e": jwt::encode(e),
        })
    };
    json!({"keys": keys.into_iter().map(one).collect::<Vec<_>>()})
}

/// The two integers of an `RSAPublicKey` (RFC 8017 A.1.1), without leading zeros.
fn modulus_and_exponent(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, _) = der_value(0x30, der)?;
    let (n, rest) = der_value(0x02, sequence)?;
    let (e, _) = der_value(0x02, rest)?;
    let trim = |integer: &'_ [u8]| integer.iter().take_while(|byte| **byte == 0).count();
    Some((&n[trim(n)..], &e[trim(e)..]))
}

/// The value of the DER element with this tag at the front, and what follows it.
fn der_value(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 | 0x82 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}

/// The document of `https://www.googleapis.com/oauth2/v1/certs` (cloud-run 5.4): `{kid: PEM}`.
/// The certificates are self-signed, with fixed dates, so that every metadata server of a topology
/// publishes the same bytes; verifiers take the key out of them and look at no date.
///
/// # Errors
/// If a key refuses to sign.
pub fn x509_certs<'a>(
    keys: impl IntoIterator<Item = &'a SigningKey>,
) -> Result<Value, SigningError> {
    certificates(keys, "federated-signon.system.gserviceaccount.com")
}

/// The same for the keys of one account, whose name the certificates have.
///
/// # Errors
/// If a key refuses to sign.
pub fn certificates<'a>(
    keys: impl IntoIterator<Item = &'a SigningKey>,
    common_name: &str,
) -> Result<Value, SigningError> {
    let mut certificates = Map::new();
    for key in keys {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from(key.kid.as_bytes()[..8].to_vec()));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.self_signed(&key.envelope)?;
        certificates.insert(key.kid.clone(), Value::String(certificate.pem()));
    }
    Ok(Value::Object(certificates))
}

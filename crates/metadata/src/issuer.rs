//! The accounts of a topology, and the tokens made for them (cloud-run 5.4).

use bytes::Bytes;
use id_token::{AccessClaims, Claims, Google, KeySet, SigningKey, access_token, jwks, sign};
use slice::run::ServiceAccount;
use std::collections::HashMap;

/// Who makes tokens, and for whom.
#[derive(Debug)]
pub struct Issuer {
    /// Newest first; the first one signs.
    keys: Vec<SigningKey>,
    key_set: KeySet,
    accounts: Vec<ServiceAccount>,
    /// Email or unique id → index.
    names: HashMap<String, usize>,
    pub(crate) jwks: Bytes,
    pub(crate) x509: Bytes,
}

/// A token, and when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountToken {
    /// The token itself. Secret.
    pub token: String,
    /// End of validity, in seconds since 1970.
    pub expires: u64,
}

impl Issuer {
    /// From PKCS#8 PEM keys, newest first.
    ///
    /// # Errors
    /// If there is none, or one cannot be read.
    pub fn new(pems: &[String], accounts: Vec<ServiceAccount>) -> Result<Self, String> {
        if pems.is_empty() {
            return Err("there is no signing key".to_owned());
        }
        let keys: Result<Vec<_>, _> = pems.iter().map(|pem| SigningKey::from_pem(pem)).collect();
        let keys = keys.map_err(|error| error.to_string())?;
        let document = jwks(&keys).to_string();
        let certificates = id_token::x509_certs(&keys).map_err(|error| error.to_string())?;
        let names = accounts.iter().enumerate().flat_map(|(index, account)| {
            [(account.email.to_ascii_lowercase(), index), (account.unique_id.clone(), index)]
        });
        Ok(Issuer {
            names: names.collect(),
            key_set: KeySet::parse(&document).map_err(|error| error.to_string())?,
            jwks: document.into(),
            x509: certificates.to_string().into(),
            keys,
            accounts,
        })
    }

    /// The account with this email or unique id.
    pub fn account(&self, name: &str) -> Option<&ServiceAccount> {
        let index = self.names.get(name).or_else(|| self.names.get(&name.to_ascii_lowercase()))?;
        Some(&self.accounts[*index])
    }

    /// The published side of the keys.
    pub fn key_set(&self) -> &KeySet {
        &self.key_set
    }

    /// Makes an ID token for an account, valid for an hour from `now`.
    ///
    /// # Errors
    /// If the key refuses to sign.
    pub fn id_token(
        &self,
        account: &ServiceAccount,
        audience: &str,
        include_email: bool,
        google: Option<Google>,
        now: u64,
    ) -> Result<AccountToken, String> {
        let email = include_email.then_some(account.email.as_str());
        let claims = Claims::of_service_account(&account.unique_id, email, audience, now);
        self.sign(&Claims { google, ..claims })
    }

    /// Signs claims with the newest key.
    ///
    /// # Errors
    /// If the key refuses to sign.
    pub fn sign(&self, claims: &Claims) -> Result<AccountToken, String> {
        let token = sign(&self.keys[0], claims).map_err(|error| error.to_string())?;
        Ok(AccountToken { token, expires: claims.exp })
    }

    /// Makes an access token for an account, valid for `lifetime` seconds from `now`.
    ///
    /// # Errors
    /// If the key refuses to sign, or the scopes are larger than any token.
    pub fn access_token(
        &self,
        account: &ServiceAccount,
        scopes: Vec<String>,
        lifetime: u64,
        now: u64,
    ) -> Result<AccountToken, String> {
        let claims = AccessClaims {
            email: account.email.clone(),
            sub: account.unique_id.clone(),
            scopes,
            iat: now,
            exp: now + lifetime,
        };
        let token = access_token(&self.keys[0], &claims).map_err(|error| error.to_string())?;
        Ok(AccountToken { token, expires: claims.exp })
    }
}

//! Tokens made for a question. The key is made for it too and thrown away with it: `explain` never
//! has the private keys of the issuer, and the same `serverless::admit` looks at the token.

use crate::world::World;
use id_token::{Claims, KeySet, SigningKey};
use serde_json::Value;

/// A JWKS document without a key: no real token is known.
pub(crate) const NO_KEYS: &str = r#"{"keys":[]}"#;

/// A key, and Cloud Run's front that knows it beside the live ones.
pub(crate) struct Issuer {
    key: SigningKey,
    pub(crate) front: serverless::Front,
}

impl World {
    /// The issuer of tokens for questions, made at the first one.
    pub(crate) fn issuer(&self) -> Result<&Issuer, String> {
        let issuer = self.issuer.get_or_init(|| {
            let key = SigningKey::generate().map_err(|error| error.to_string())?;
            let mut keys: Value =
                serde_json::from_str(self.jwks()).map_err(|error| error.to_string())?;
            let mut own = id_token::jwks([&key]);
            if let (Some(all), Some(own)) =
                (keys["keys"].as_array_mut(), own["keys"].as_array_mut())
            {
                all.append(own);
            }
            let keys = KeySet::parse(&keys.to_string()).map_err(|error| error.to_string())?;
            let topology = self.topology();
            let front = serverless::Front::compile(
                &topology.services,
                &topology.service_accounts,
                &topology.iam,
                keys,
            );
            Ok(Issuer { key, front: front.map_err(|error| error.to_string())? })
        });
        issuer.as_ref().map_err(Clone::clone)
    }

    /// An ID token as the metadata server or `generateIdToken` would make it.
    ///
    /// # Errors
    /// A sentence: the account does not exist, or no key can be made.
    pub(crate) fn mint(&self, email: &str, audience: &str, now: u64) -> Result<String, String> {
        let accounts = &self.topology().service_accounts;
        let account = accounts.iter().find(|account| account.email == email).ok_or_else(|| {
            format!("the topology has no service account {email}, so nobody makes a token for it")
        })?;
        let claims = Claims::of_service_account(&account.unique_id, Some(email), audience, now);
        id_token::sign(&self.issuer()?.key, &claims).map_err(|error| error.to_string())
    }
}

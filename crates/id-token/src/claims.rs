//! The claims of an ID token (cloud-run 5.2, 5.4).

use serde::{Deserialize, Serialize};

/// The claims of an ID token, in the order in which Google writes them. Claims that are not named
/// here are ignored when a token is read, as JWTs demand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom the token is.
    pub aud: String,
    /// The unique id of the account for which it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azp: Option<String>,
    /// The caller's email; only with `includeEmail` or `format=full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Always true where there is an email.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email_verified: Option<bool>,
    /// End of validity, in seconds since 1970.
    pub exp: u64,
    /// What a VM's metadata server adds with `format=full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub google: Option<Google>,
    /// The Workspace domain of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hd: Option<String>,
    /// When the token was made, in seconds since 1970.
    pub iat: u64,
    /// The issuer.
    pub iss: String,
    /// Start of validity, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// The caller's unique id, digits.
    pub sub: String,
}

impl Claims {
    /// The claims of a service account's token, as the metadata server and `generateIdToken` make
    /// them: valid for an hour from `now`.
    pub fn of_service_account(
        unique_id: &str,
        email: Option<&str>,
        audience: &str,
        now: u64,
    ) -> Self {
        Claims {
            aud: audience.to_owned(),
            azp: Some(unique_id.to_owned()),
            email: email.map(str::to_owned),
            email_verified: email.map(|_| true),
            exp: now + crate::LIFETIME_SECONDS,
            google: None,
            hd: None,
            iat: now,
            iss: crate::ISSUER.to_owned(),
            nbf: None,
            sub: unique_id.to_owned(),
        }
    }

    /// Who calls, for people: the email, else the unique id.
    pub fn principal(&self) -> &str {
        self.email.as_deref().unwrap_or(&self.sub)
    }
}

/// The claim `google` of a VM's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Google {
    /// The VM.
    pub compute_engine: ComputeEngine,
}

/// The VM for which a token with `format=full` was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeEngine {
    /// When the VM was created, in seconds since 1970.
    pub instance_creation_timestamp: u64,
    /// Its id, digits.
    pub instance_id: String,
    /// Its name.
    pub instance_name: String,
    /// Licence codes of its images; only with `licenses=TRUE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_id: Option<Vec<String>>,
    /// Its project.
    pub project_id: String,
    /// Its project's number.
    pub project_number: u64,
    /// Its zone, short.
    pub zone: String,
}

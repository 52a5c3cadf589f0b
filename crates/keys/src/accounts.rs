//! Keys of service accounts (cloud-run 5.4), below `accounts/EMAIL` of the state directory.
//!
//! `KEYID.json` is a key that a user has (`keyType: USER_MANAGED`), in the form of Google's key
//! files: who takes the file away revokes the key. `system.key` is the one that the issuer keeps
//! for the account (`SYSTEM_MANAGED`): `signJwt` and `signBlob` sign with it.

use crate::store::{make_private, read, write_atomically};
use id_token::SigningKey;
use serde_json::{Value, json};
use slice::run::ServiceAccount;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of a state directory in which keys of accounts are.
pub const ACCOUNTS: &str = "accounts";

/// An account has no more keys of users than this (IAM quotas).
pub const ACCOUNT_KEYS_MAX: usize = 10;

/// The keys of all service accounts of a state directory.
#[derive(Clone, Debug)]
pub struct AccountKeys {
    directory: PathBuf,
}

/// A key that was made for a user.
#[derive(Clone, Debug)]
pub struct CreatedKey {
    /// `privateKeyId`.
    pub id: String,
    /// Where it is kept.
    pub path: PathBuf,
    /// The key file. Secret.
    pub json: String,
}

impl AccountKeys {
    /// The keys below a state directory; nothing is read or made yet.
    pub fn new(state_dir: &Path) -> Self {
        AccountKeys { directory: state_dir.join(ACCOUNTS) }
    }

    /// Makes a key for a user: what `gcloud iam service-accounts keys create` does.
    ///
    /// # Errors
    /// A sentence: too many keys, or a file that cannot be written.
    pub fn create(&self, account: &ServiceAccount) -> Result<CreatedKey, String> {
        let email = &account.email;
        if self.user_managed(email)?.len() >= ACCOUNT_KEYS_MAX {
            let folder = self.folder(email);
            return Err(format!(
                "{email} has {ACCOUNT_KEYS_MAX} keys already: remove one of {}",
                folder.display()
            ));
        }
        let key = SigningKey::generate().map_err(|error| error.to_string())?;
        let id = key.kid().to_owned();
        let escaped = email.replace('@', "%40");
        // The members and their order are those of Google's files. Their hosts are Google's: in
        // the networks of a topology these names lead to our own front ends.
        let file = json!({
            "type": "service_account",
            "project_id": account.project,
            "private_key_id": id,
            "private_key": key.to_pem(),
            "client_email": email,
            "client_id": account.unique_id,
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": "https://oauth2.googleapis.com/token",
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "client_x509_cert_url":
                format!("https://www.googleapis.com/robot/v1/metadata/x509/{escaped}"),
            "universe_domain": "googleapis.com",
        });
        let json = format!("{file:#}\n");
        let path = self.made_folder(email)?.join(format!("{id}.json"));
        write_atomically(&path, &json)?;
        Ok(CreatedKey { id, path, json })
    }

    /// The keys that users have for an account. Files that are no key files are passed over.
    ///
    /// # Errors
    /// A sentence.
    pub fn user_managed(&self, email: &str) -> Result<Vec<SigningKey>, String> {
        let folder = self.folder(email);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{}: {error}", folder.display())),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        let keys = paths.iter().take(ACCOUNT_KEYS_MAX).filter_map(|path| {
            let file: Value = serde_json::from_str(&read(path).ok()?).ok()?;
            let of_account = file["client_email"].as_str()?.eq_ignore_ascii_case(email);
            let pem = file["private_key"].as_str().filter(|_| of_account)?;
            SigningKey::from_pem(pem).ok()
        });
        Ok(keys.collect())
    }

    /// The issuer's own key for an account, made when it is first needed.
    ///
    /// # Errors
    /// A sentence.
    pub fn system_managed(&self, email: &str) -> Result<SigningKey, String> {
        let path = self.made_folder(email)?.join("system.key");
        if !path.exists() {
            let key = SigningKey::generate().map_err(|error| error.to_string())?;
            // Two may make one at the same time: the first link wins, and both read that one.
            let aside = path.with_extension(format!("{}.made", key.kid()));
            write_atomically(&aside, &key.to_pem())?;
            let linked = fs::hard_link(&aside, &path);
            let _ = fs::remove_file(&aside);
            if let Err(error) = linked
                && error.kind() != ErrorKind::AlreadyExists
            {
                return Err(format!("{}: {error}", path.display()));
            }
        }
        SigningKey::from_pem(&read(&path)?).map_err(|error| error.to_string())
    }

    fn made_folder(&self, email: &str) -> Result<PathBuf, String> {
        make_private(&self.directory)?;
        let folder = self.folder(email);
        make_private(&folder)?;
        Ok(folder)
    }

    /// Emails become names of folders: letters, digits, `@`, `-`, `_` and dots that do not lead.
    fn folder(&self, email: &str) -> PathBuf {
        let kept = |c: char| if c.is_ascii_alphanumeric() || "@-_.".contains(c) { c } else { '_' };
        let label: String = email.to_ascii_lowercase().chars().map(kept).take(200).collect();
        self.directory.join(label.trim_start_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_kept_and_revoked() {
        let state = std::env::temp_dir().join(format!("account-keys-{}", std::process::id()));
        let account = ServiceAccount {
            email: "a@p.iam.gserviceaccount.com".to_owned(),
            project: "p".to_owned(),
            unique_id: "1".to_owned(),
        };
        let keys = AccountKeys::new(&state);
        assert!(keys.user_managed(&account.email).expect("none").is_empty());
        let made = keys.create(&account).expect("made");
        let file: Value = serde_json::from_str(&made.json).expect("JSON");
        assert_eq!(file["private_key_id"], made.id.as_str());
        assert_eq!(file["token_uri"], "https://oauth2.googleapis.com/token");
        let kids = || -> Vec<String> {
            let keys = keys.user_managed(&account.email).expect("read");
            keys.iter().map(|key| key.kid().to_owned()).collect()
        };
        assert_eq!(kids(), std::slice::from_ref(&made.id));
        let system = keys.system_managed(&account.email).expect("made");
        let again = keys.system_managed(&account.email).expect("read");
        assert_eq!(system.kid(), again.kid());
        assert_eq!(kids(), [made.id], "the issuer's own key is no user's");
        let other = keys.system_managed("b@p.iam.gserviceaccount.com").expect("made");
        assert_ne!(system.kid(), other.kid());
        fs::remove_file(&made.path).expect("removed");
        assert!(kids().is_empty());
        let outside = keys.folder("../../x@y.z");
        assert_eq!(outside.parent(), Some(keys.directory.as_path()), "{}", outside.display());
        fs::remove_dir_all(&state).expect("removed");
    }
}

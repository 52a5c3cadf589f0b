//! ID tokens of targets (1.4): asked from the issuer in the shape of the IAM Credentials API, and
//! kept per account and audience for nearly their hour.

use crate::clock::SystemClock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request};
use http_proxy::{Body, Pool, PoolOptions, Version};
use policy_bundle::{Clock, IdTokenRequest};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// A token is not used in the last minutes of its life (exact lead time unconfirmed).
const LEAD_SECONDS: i64 = 300;
/// The most tokens that are kept.
const TOKENS_MAX: usize = 1024;
/// For an answer of the issuer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    account: Arc<str>,
    audience: String,
    include_email: bool,
}

struct Token {
    /// `Bearer …`.
    bearer: HeaderValue,
    /// Seconds since the epoch.
    expires: i64,
}

/// Whoever holds the lock fetches; the others wait for it.
type Slot = Rc<Mutex<Option<Token>>>;

/// The tokens of one worker thread.
pub struct Tokens {
    channel: PathBuf,
    pool: Pool<()>,
    slots: RefCell<HashMap<Key, Slot>>,
}

impl Tokens {
    /// No tokens yet; the issuer listens on this Unix socket.
    pub fn new(channel: PathBuf) -> Tokens {
        Tokens { channel, pool: Pool::new(PoolOptions::default()), slots: RefCell::default() }
    }

    /// `Bearer TOKEN`, kept or fresh.
    ///
    /// # Errors
    /// In the issuer's words, or why it did not answer.
    pub async fn bearer(&self, wanted: &IdTokenRequest) -> Result<HeaderValue, String> {
        if wanted.audience.is_empty() {
            return Err("The audience is empty.".to_owned());
        }
        let key = Key {
            account: wanted.service_account.clone(),
            audience: wanted.audience.clone(),
            include_email: wanted.include_email,
        };
        let slot = self.slot(key);
        let mut token = slot.lock().await;
        let now = SystemClock.unix_millis() / 1000;
        if let Some(token) = &*token
            && token.expires - LEAD_SECONDS > now
        {
            return Ok(token.bearer.clone());
        }
        let fresh = self.fetch(wanted).await?;
        let bearer = fresh.bearer.clone();
        *token = Some(fresh);
        Ok(bearer)
    }

    fn slot(&self, key: Key) -> Slot {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(&key) {
            return slot.clone();
        }
        if slots.len() >= TOKENS_MAX {
            let now = SystemClock.unix_millis() / 1000;
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(|token| token.expires > now),
                Err(_) => true,
            });
            if slots.len() >= TOKENS_MAX {
                // Audiences come from requests: a flood of them costs a new start.
                slots.clear();
            }
        }
        slots.entry(key).or_default().clone()
    }

    async fn fetch(&self, wanted: &IdTokenRequest) -> Result<Token, String> {
        let account = &wanted.service_account;
        let path = format!("/v1/projects/-/serviceAccounts/{account}:generateIdToken");
        let body = json!({"audience": wanted.audience, "includeEmail": wanted.include_email});
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, "iamcredentials.googleapis.com")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::full(body.to_string()))
            .map_err(|_| format!("{account} is no service account."))?;
        let answer = async {
            let connect = || connect(&self.channel);
            let response = self
                .pool
                .send(&(), Version::H1, connect, request)
                .await
                .map_err(|error| format!("The token issuer does not answer: {error}."))?;
            let status = response.status();
            let bytes = response
                .into_body()
                .collect(ANSWER_BYTES_MAX)
                .await
                .map_err(|error| format!("The token issuer's answer broke off: {error}."))?;
            let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            match answer["token"].as_str() {
                Some(token) if status.is_success() => token_of(token),
                _ => {
                    let why = answer["error"]["message"].as_str().unwrap_or("no token");
                    Err(format!("{why} ({status})"))
                }
            }
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(result) => result,
            Err(_) => Err("The token issuer did not answer in time.".to_owned()),
        }
    }
}

/// While the issuer is restarting the attempt is repeated; the pool's connect timeout ends it.
async fn connect(channel: &Path) -> io::Result<UnixStream> {
    let mut wait = Duration::from_millis(1);
    loop {
        match UnixStream::connect(channel).await {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::WouldBlock
                ) =>
            {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_millis(100));
            }
            result => return result,
        }
    }
}

fn token_of(token: &str) -> Result<Token, String> {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Value = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
    let expires = claims["exp"].as_i64().ok_or("The token has no exp.")?;
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "The token is no header value.".to_owned())?;
    bearer.set_sensitive(true);
    Ok(Token { bearer, expires })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_read_from_its_claims() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1700003600}"#);
        let token = token_of(&format!("h.{claims}.s")).expect("a token");
        assert_eq!(token.expires, 1_700_003_600);
        for bad in ["", "a.b.c", "h.e30.s"] {
            assert!(token_of(bad).is_err(), "{bad}");
        }
    }
}

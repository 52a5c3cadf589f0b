//! Tokens that were made and are good for a while yet: the real metadata server gives the same
//! token until about five minutes before its end (cloud-run 1.5 (unconfirmed)), and a signature
//! costs a thousand look-ups.

use crate::issuer::AccountToken;
use std::collections::HashMap;

/// A remembered token is given out only if it lives for longer than this, in seconds.
const REMAINING_MIN: u64 = 300;

/// A bounded memory of tokens, for one thread; forgets all when the keys change. Two generations,
/// as in [`id_token::VerifiedCache`].
#[derive(Debug)]
pub struct TokenMemory {
    generation_max: usize,
    keys: [u8; 32],
    young: HashMap<String, AccountToken>,
    old: HashMap<String, AccountToken>,
}

impl TokenMemory {
    /// A memory of at most `tokens_max` tokens.
    pub fn new(tokens_max: usize) -> Self {
        TokenMemory {
            generation_max: (tokens_max / 2).max(1),
            keys: [0; 32],
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }

    /// The token remembered under `name`, or the one that `make` makes. `keys` is the fingerprint
    /// of the key set.
    ///
    /// # Errors
    /// What `make` says.
    pub fn token(
        &mut self,
        keys: &[u8; 32],
        name: String,
        now: u64,
        make: impl FnOnce() -> Result<AccountToken, String>,
    ) -> Result<AccountToken, String> {
        if self.keys != *keys {
            self.young.clear();
            self.old.clear();
            self.keys = *keys;
        }
        // A clock that went backwards must not hand out tokens of the future.
        let good = |token: &AccountToken| {
            token.expires > now + REMAINING_MIN && token.expires <= now + id_token::LIFETIME_SECONDS
        };
        if let Some(token) = self.young.get(&name).filter(|token| good(token)) {
            return Ok(token.clone());
        }
        let token = match self.old.remove(&name).filter(|token| good(token)) {
            Some(token) => token,
            None => make()?,
        };
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, token.clone());
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_given_out_until_shortly_before_its_end() {
        let mut memory = TokenMemory::new(4);
        let mut made = 0;
        let mut ask = |name: &str, key: u8, now: u64| {
            let token = memory.token(&[key; 32], name.to_owned(), now, || {
                made += 1;
                Ok(AccountToken { token: made.to_string(), expires: now + 3600 })
            });
            assert!(memory.young.len() + memory.old.len() <= 4);
            token.map(|token| token.token)
        };
        assert_eq!(ask("a", 1, 0).as_deref(), Ok("1"));
        assert_eq!(ask("a", 1, 3299).as_deref(), Ok("1"));
        assert_eq!(ask("b", 1, 3299).as_deref(), Ok("2"));
        assert_eq!(ask("a", 1, 3300).as_deref(), Ok("3"));
        assert_eq!(ask("c", 1, 9000).as_deref(), Ok("4"));
        assert_eq!(ask("c", 1, 10).as_deref(), Ok("5"), "the clock went backwards");
        assert_eq!(ask("c", 2, 10).as_deref(), Ok("6"), "other keys");
        for n in 0..50 {
            assert!(ask(&n.to_string(), 2, 10).is_ok());
            assert_eq!(ask("c", 2, 10).as_deref(), Ok("6"), "what is used stays");
        }
    }
}

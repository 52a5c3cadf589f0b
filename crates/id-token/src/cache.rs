//! Verified tokens, remembered: a signature costs fifty times a look-up (performance advice 8).

use crate::claims::Claims;
use crate::key_set::{KeySet, check_times, verify};
use crate::refusal::TokenRefusal;
use aws_lc_rs::digest::{SHA256, digest};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A bounded memory of tokens whose signature was found good, for one thread. The key is the
/// token's SHA-256; times are checked at every use; all is forgotten when the key set changes.
///
/// Two generations stand in for a list by age: when the young one is full it becomes the old one,
/// and what was old and not asked for since is dropped. So no operation walks the memory.
#[derive(Debug)]
pub struct VerifiedCache {
    generation_max: usize,
    keys: [u8; 32],
    young: Generation,
    old: Generation,
}

type Generation = HashMap<[u8; 32], Arc<Claims>, BuildHasherDefault<DigestHasher>>;

impl VerifiedCache {
    /// A memory of at most `tokens_max` tokens.
    pub fn new(tokens_max: usize) -> Self {
        VerifiedCache {
            generation_max: (tokens_max / 2).max(1),
            keys: [0; 32],
            young: Generation::default(),
            old: Generation::default(),
        }
    }

    /// [`verify`], remembering.
    ///
    /// # Errors
    /// As [`verify`]; refusals are not remembered.
    pub fn verified(
        &mut self,
        keys: &KeySet,
        token: &str,
        now: u64,
    ) -> Result<Arc<Claims>, TokenRefusal> {
        if self.keys != *keys.fingerprint() {
            self.young.clear();
            self.old.clear();
            self.keys = *keys.fingerprint();
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(claims) = self.young.get(&hash) {
            check_times(claims, now)?;
            return Ok(Arc::clone(claims));
        }
        let claims = match self.old.remove(&hash) {
            Some(claims) => {
                check_times(&claims, now)?;
                claims
            }
            None => Arc::new(verify(keys, token, now)?),
        };
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, Arc::clone(&claims));
        Ok(claims)
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Is none remembered?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A digest is its own hash. Only good tokens get in, so nobody can choose colliding ones.
#[derive(Default, Debug)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

//! The ring of the issuer's signing keys: which one signs, which are published (cloud-run 5.4).
//!
//! A key is published before it signs, so that who keeps the published keys for a while knows it
//! already; and for as long as a token that it signed may live. So at least two are published.

use serde::{Deserialize, Serialize};

/// A key signs for so long, in seconds: about weekly (5.4 (unconfirmed)).
const SIGNS_FOR: u64 = 7 * 24 * 3600;

/// A retired key is published for so long, in seconds: the hour that a token lives, and as much
/// again for clocks and for who keeps the document.
const RETIRED_FOR: u64 = 2 * id_token::LIFETIME_SECONDS;

/// No more keys are published at once: a rotation that would make more is refused.
const KEYS_MAX: usize = 10;

/// The keys by id; none of them itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// The key that signs.
    pub signs: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The key that will sign next, published already.
    pub next: String,
    /// Keys that signed, the last one first, with the time of their retirement.
    pub retired: Vec<(String, u64)>,
}

impl Ring {
    /// A ring of two new keys.
    pub fn new(signs: String, next: String, now: u64) -> Self {
        Ring { signs, since: now, next, retired: Vec::new() }
    }

    /// Has the signing key signed for long enough? A clock that went backwards changes nothing.
    pub fn is_due(&self, now: u64) -> bool {
        now.saturating_sub(self.since) >= SIGNS_FOR
    }

    /// The next key signs from now on, and `new` is the next one.
    ///
    /// # Errors
    /// A sentence: too many keys are published still.
    pub fn rotate(&mut self, new: String, now: u64) -> Result<(), String> {
        if self.retired.len() + 3 > KEYS_MAX {
            return Err(format!(
                "{KEYS_MAX} signing keys are published already: tokens of the oldest may live for an hour yet"
            ));
        }
        let signs = std::mem::replace(&mut self.next, new);
        let retired = std::mem::replace(&mut self.signs, signs);
        self.retired.insert(0, (retired, now));
        self.since = now;
        Ok(())
    }

    /// Drops the keys whose tokens have all expired, and returns them.
    pub fn prune(&mut self, now: u64) -> Vec<String> {
        let old = |at: u64| now.saturating_sub(at) > RETIRED_FOR;
        let dropped = self.retired.iter().filter(|(_, at)| old(*at));
        let dropped = dropped.map(|(kid, _)| kid.clone()).collect();
        self.retired.retain(|(_, at)| !old(*at));
        dropped
    }

    /// All published keys; the first one signs.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        [&self.signs, &self.next]
            .into_iter()
            .chain(self.retired.iter().map(|(kid, _)| kid))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kids(ring: &Ring) -> Vec<&str> {
        ring.kids().collect()
    }

    #[test]
    fn a_key_is_published_before_it_signs_and_until_its_tokens_have_expired() {
        let mut ring = Ring::new("a".into(), "b".into(), 1000);
        assert!(!ring.is_due(1000 + SIGNS_FOR - 1) && ring.is_due(1000 + SIGNS_FOR));
        assert!(!ring.is_due(0), "the clock went backwards");
        ring.rotate("c".into(), 2000).expect("room");
        assert_eq!(kids(&ring), ["b", "c", "a"]);
        assert!(!ring.is_due(2000 + SIGNS_FOR - 1));
        ring.rotate("d".into(), 3000).expect("room");
        assert_eq!(kids(&ring), ["c", "d", "b", "a"]);
        assert!(ring.prune(2000 + RETIRED_FOR).is_empty());
        assert_eq!(ring.prune(2001 + RETIRED_FOR), ["a"]);
        assert_eq!(kids(&ring), ["c", "d", "b"]);
        assert!(ring.prune(0).is_empty());
    }

    #[test]
    fn the_ring_is_bounded() {
        let mut ring = Ring::new("a".into(), "b".into(), 0);
        let refused = (0..20).position(|n| ring.rotate(n.to_string(), 0).is_err());
        assert_eq!(refused, Some(KEYS_MAX - 2));
        assert_eq!(ring.kids().count(), KEYS_MAX);
        ring.prune(RETIRED_FOR + 1);
        assert!(ring.rotate("x".into(), RETIRED_FOR + 1).is_ok());
    }
}

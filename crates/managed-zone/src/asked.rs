//! The name that is being asked for, taken apart once: labels, and the hash of every suffix. All
//! tables of this crate are keyed by these hashes.

use crate::name::{LABELS_MAX, NAME_OCTETS_MAX};

/// A name in lower case with the hashes of its suffixes. Large, hence made once per worker and
/// used again for every name ([`crate::Scratch`]).
pub(crate) struct Asked {
    wire: [u8; NAME_OCTETS_MAX],
    length: usize,
    labels: usize,
    /// Where label `i` begins; at `labels` the root's zero.
    offsets: [u8; LABELS_MAX + 1],
    /// Hash of the suffix that begins with label `i`.
    hashes: [u64; LABELS_MAX + 1],
}

impl Asked {
    pub(crate) fn new() -> Self {
        Asked {
            wire: [0; NAME_OCTETS_MAX],
            length: 1,
            labels: 0,
            offsets: [0; LABELS_MAX + 1],
            hashes: [ROOT_HASH; LABELS_MAX + 1],
        }
    }

    /// Takes the uncompressed name at the start of `wire`; its length there, or nothing where
    /// there is no such name.
    pub(crate) fn set(&mut self, wire: &[u8]) -> Option<usize> {
        let (mut at, mut labels) = (0, 0);
        loop {
            // At most 127 labels come before octet 254, so `labels` stays within the arrays.
            self.offsets[labels] = at as u8;
            match *wire.get(at)? {
                0 => break,
                length @ 1..=63 => at += usize::from(length) + 1,
                _ => return None,
            }
            if at > NAME_OCTETS_MAX - 1 {
                return None;
            }
            labels += 1;
        }
        let length = at + 1;
        self.wire[..length].copy_from_slice(&wire[..length]);
        // Length octets end at 63 and letters begin at 65: the whole name can be folded at once.
        self.wire[..length].make_ascii_lowercase();
        let (mut hash, mut end) = (ROOT_HASH, at);
        self.hashes[labels] = hash;
        for label in (0..labels).rev() {
            let begin = usize::from(self.offsets[label]);
            hash = extend(hash, &self.wire[begin..end]);
            self.hashes[label] = hash;
            end = begin;
        }
        self.length = length;
        self.labels = labels;
        Some(length)
    }

    /// How many labels the name has, the root not counted.
    pub(crate) fn labels(&self) -> usize {
        self.labels
    }

    /// Octets of the name.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The suffix that is left when `skipped` labels are taken off the front.
    pub(crate) fn suffix(&self, skipped: usize) -> &[u8] {
        &self.wire[usize::from(self.offsets[skipped])..self.length]
    }

    /// The hash of that suffix.
    pub(crate) fn hash(&self, skipped: usize) -> u64 {
        self.hashes[skipped]
    }
}

/// The hash of the root.
pub(crate) const ROOT_HASH: u64 = 0x51_7C_C1_B7_27_22_0A_95;

/// From the hash of a suffix to the hash of the suffix with one more label before it; `label`
/// begins with its length octet. The upper half chooses the slot, the lower half is the tag.
///
/// Not keyed: only the topology's own names are ever entered into a table, a question is but
/// looked up.
pub(crate) fn extend(hash: u64, label: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |hash: u64, word: u64| {
        let product = (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
        product ^ (product >> 32)
    };
    let (words, rest) = label.as_chunks::<8>();
    let mut hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = mix(hash, u64::from_le_bytes(word));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Name;

    #[test]
    fn a_suffix_has_the_hash_of_the_name_that_it_is() {
        let mut asked = Asked::new();
        let name = b"\x03WWW\x0bCorpExample\x03Com\x00trailing";
        assert_eq!(asked.set(name), Some(21));
        assert_eq!(asked.labels(), 3);
        for (skipped, text) in
            ["www.corpexample.com.", "corpexample.com.", "com.", "."].into_iter().enumerate()
        {
            let mut whole = Asked::new();
            whole.set(Name::parse(text).unwrap_or_else(|_| Name::root()).as_wire());
            assert_eq!(asked.hash(skipped), whole.hash(0), "{text}");
            assert_eq!(Ok(Name::from_wire(asked.suffix(skipped))), Name::parse(text));
        }
    }

    #[test]
    fn the_longest_name_and_the_most_labels_fit() {
        let mut asked = Asked::new();
        let most = [&b"\x01a".repeat(127)[..], &[0]].concat();
        assert_eq!(asked.set(&most), Some(255));
        assert_eq!(asked.labels(), 127);
        let too_long = [&b"\x01a".repeat(128)[..], &[0]].concat();
        assert_eq!(asked.set(&too_long), None);
        assert_eq!(asked.set(b"\x01a"), None);
        assert_eq!(asked.set(b"\xc0\x0c"), None);
        assert_eq!(asked.set(b""), None);
    }
}

//! A read-only map from text to a number, in four allocations whatever its size: a hundred thousand
//! host names compile in milliseconds, and dropping an old snapshot frees four blocks.

use std::hash::BuildHasher;

/// Marks a free slot; no entry has this index, because [`TextMap::insert`] stops before it.
const FREE: u32 = u32::MAX;

/// Text → `u32`, insert and look up, never remove. Texts lie end to end in one arena, the table
/// holds entry indices with linear probing at a load of one half at the most.
///
/// The hash has a fixed seed: keys come from the topology alone, so a client, who can only look
/// up, cannot build collisions.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextMap {
    arena: String,
    entries: Vec<Entry>,
    slots: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    end: u32,
    hash: u32,
    value: u32,
}

/// Why an insertion was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The text is there already.
    Duplicate,
    /// More than four GiB of text or of entries.
    Full,
}

fn hash(text: &[u8]) -> u32 {
    let state = foldhash::fast::FixedState::with_seed(0x706f_7374_6572_6e00);
    // The upper half is as good as the lower one; one half is enough for four thousand million.
    (state.hash_one(text) >> 32) as u32
}

impl TextMap {
    pub(crate) fn insert(&mut self, text: &str, value: u32) -> Result<(), Refused> {
        if (self.entries.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = hash(text.as_bytes());
        let slot = match self.find(text.as_bytes(), hash) {
            Ok(_) => return Err(Refused::Duplicate),
            Err(slot) => slot,
        };
        let start = u32::try_from(self.arena.len()).map_err(|_| Refused::Full)?;
        let end = u32::try_from(self.arena.len() + text.len()).map_err(|_| Refused::Full)?;
        let index = u32::try_from(self.entries.len()).map_err(|_| Refused::Full)?;
        if index == FREE {
            return Err(Refused::Full);
        }
        self.arena.push_str(text);
        self.entries.push(Entry { start, end, hash, value });
        self.slots[slot] = index;
        Ok(())
    }

    /// The text as it is stored and its value.
    pub(crate) fn get(&self, text: &[u8]) -> Option<(&str, u32)> {
        if self.entries.is_empty() {
            return None;
        }
        let index = self.find(text, hash(text)).ok()?;
        let entry = &self.entries[index as usize];
        Some((&self.arena[entry.start as usize..entry.end as usize], entry.value))
    }

    /// All texts with their values, in the order of insertion.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.entries
            .iter()
            .map(|entry| (&self.arena[entry.start as usize..entry.end as usize], entry.value))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry with this text, or the free slot where it would stand. The table is never full.
    fn find(&self, text: &[u8], hash: u32) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash as usize & mask;
        loop {
            let index = self.slots[slot];
            if index == FREE {
                return Err(slot);
            }
            let entry = &self.entries[index as usize];
            if entry.hash == hash
                && &self.arena.as_bytes()[entry.start as usize..entry.end as usize] == text
            {
                return Ok(index);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(8);
        let mask = size - 1;
        self.slots.clear();
        self.slots.resize(size, FREE);
        for (index, entry) in (0u32..).zip(&self.entries) {
            let mut slot = entry.hash as usize & mask;
            while self.slots[slot] != FREE {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = index;
        }
    }
}

/// A set of lengths, so that only lengths that occur are hashed when a longest prefix or suffix is
/// searched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lengths {
    words: Vec<u64>,
    max: usize,
}

impl Lengths {
    pub(crate) fn insert(&mut self, length: usize) {
        if self.words.len() <= length / 64 {
            self.words.resize(length / 64 + 1, 0);
        }
        self.words[length / 64] |= 1 << (length % 64);
        self.max = self.max.max(length);
    }

    pub(crate) fn contains(&self, length: usize) -> bool {
        self.words.get(length / 64).is_some_and(|word| word & (1 << (length % 64)) != 0)
    }

    /// The greatest length in the set; 0 for the empty set.
    pub(crate) fn max(&self) -> usize {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::{Lengths, Refused, TextMap};
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn a_text_map_agrees_with_a_hash_map(
            inserts in prop::collection::vec(("[a-c.]{0,4}", any::<u32>()), 0..200),
            asks in prop::collection::vec("[a-c.]{0,4}", 0..50),
        ) {
            let mut ours = TextMap::default();
            let mut model: HashMap<String, u32> = HashMap::new();
            for (text, value) in inserts {
                let new = !model.contains_key(&text);
                prop_assert_eq!(ours.insert(&text, value).is_ok(), new);
                model.entry(text).or_insert(value);
            }
            for text in asks {
                let found = ours.get(text.as_bytes());
                prop_assert_eq!(found.map(|(_, value)| value), model.get(&text).copied());
                if let Some((stored, _)) = found {
                    prop_assert_eq!(stored, &text);
                }
            }
            prop_assert_eq!(ours.iter().count(), model.len());
        }
    }

    #[test]
    fn a_text_is_inserted_once() {
        let mut map = TextMap::default();
        assert_eq!(map.insert("a", 1), Ok(()));
        assert_eq!(map.insert("a", 2), Err(Refused::Duplicate));
        assert_eq!(map.get(b"a"), Some(("a", 1)));
        assert_eq!(map.get(b"b"), None);
    }

    #[test]
    fn lengths_know_what_they_hold() {
        let mut lengths = Lengths::default();
        assert!(!lengths.contains(0));
        for length in [0, 63, 64, 1024] {
            lengths.insert(length);
            assert!(lengths.contains(length));
        }
        assert!(!lengths.contains(65) && !lengths.contains(5000));
        assert_eq!(lengths.max(), 1024);
    }
}

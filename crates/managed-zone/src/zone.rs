//! One zone's records, compiled: every name with its record sets already in wire form, found by
//! one probe of a hash table.
//!
//! Two allocations hold it all, about 60 octets for a name with an A record: 100,000 records must
//! cost less than 16 MiB together with the rest of the program.

use crate::Name;
use crate::asked::{Asked, extend};
use crate::record_type::RecordType;
use crate::routing::Routing;

/// The records of one zone.
pub(crate) struct Zone {
    /// Open addressing with linear probing; an occupied slot is the tag (the lower half of the
    /// name's hash) above the position in `arena` plus one.
    slots: Box<[u64]>,
    /// Nodes one after the other; see [`Node::at`].
    arena: Box<[u8]>,
    /// Is any name below the apex a wildcard? Most zones have none and save one probe.
    wildcards: bool,
    /// The SOA record for negative answers, from its type on: TTL is the lesser of its own and
    /// its minimum (RFC 2308, 3).
    negative_soa: Box<[u8]>,
    /// What record sets with [`ROUTED`] point to.
    routing: Box<[Routing]>,
}

impl Zone {
    /// The routing policy of a record set that has one.
    pub(crate) fn routing(&self, set: &RecordSet<'_>) -> Option<&Routing> {
        if set.count != ROUTED {
            return None;
        }
        let at: [u8; 4] = set.wire.try_into().ok()?;
        self.routing.get(u32::from_be_bytes(at) as usize)
    }

    /// The only name of a zone that was made for one.
    pub(crate) fn first(&self) -> Node<'_> {
        Node::at(&self.arena, 0).0
    }

    /// The node of a name by its hash and wire form.
    pub(crate) fn node(&self, hash: u64, name: &[u8]) -> Option<Node<'_>> {
        let position = find(&self.slots, &self.arena, hash, name).ok()?;
        Some(Node::at(&self.arena, position).0)
    }

    /// The node of the wildcard `*` directly below the name with this hash.
    pub(crate) fn wildcard(&self, encloser_hash: u64, encloser: &[u8]) -> Option<Node<'_>> {
        if !self.wildcards {
            return None;
        }
        let mut name = [0; 257];
        name[..2].copy_from_slice(WILDCARD);
        let name = name.get_mut(..encloser.len() + 2)?;
        name[2..].copy_from_slice(encloser);
        self.node(extend(encloser_hash, WILDCARD), name)
    }

    /// The SOA record of negative answers, without its owner name.
    pub(crate) fn negative_soa(&self) -> &[u8] {
        &self.negative_soa
    }

    /// Every name of the zone, empty non-terminals included.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        let mut position = 0;
        std::iter::from_fn(move || {
            if position >= self.arena.len() {
                return None;
            }
            let (node, end) = Node::at(&self.arena, position);
            position = end;
            Some(node)
        })
    }

    /// Octets of memory that the zone holds.
    pub(crate) fn memory(&self) -> usize {
        self.slots.len() * 8 + self.arena.len() + self.negative_soa.len()
    }
}

const WILDCARD: &[u8] = b"\x01*";

/// A name of the zone with its record sets; none: an empty non-terminal.
#[derive(Clone, Copy)]
pub(crate) struct Node<'z> {
    /// Lower-case wire form.
    pub(crate) name: &'z [u8],
    sets: &'z [u8],
}

impl<'z> Node<'z> {
    /// Reads the node at `position`: length of the name, name, octets of the record sets (4),
    /// record sets. Also says where the node ends.
    #[inline]
    fn at(arena: &'z [u8], position: usize) -> (Node<'z>, usize) {
        // The builder wrote this arena; it cannot end within a node.
        let name = position + 1..position + 1 + usize::from(arena[position]);
        let sets = name.end + 4;
        let length = u32::from_be_bytes([
            arena[name.end],
            arena[name.end + 1],
            arena[name.end + 2],
            arena[name.end + 3],
        ]);
        let end = sets + length as usize;
        (Node { name: &arena[name], sets: &arena[sets..end] }, end)
    }

    /// The record sets in the order in which the zone lists them.
    pub(crate) fn record_sets(&self) -> RecordSets<'z> {
        RecordSets(self.sets)
    }

    /// The record set of one type.
    pub(crate) fn record_set(&self, record_type: RecordType) -> Option<RecordSet<'z>> {
        self.record_sets().find(|set| set.record_type == record_type)
    }

    /// Does the name exist only because names below it do?
    pub(crate) fn is_empty_non_terminal(&self) -> bool {
        self.sets.is_empty()
    }

    /// Is the first label the asterisk?
    pub(crate) fn is_wildcard(&self) -> bool {
        self.name.starts_with(WILDCARD)
    }
}

/// Iterator over a node's record sets.
pub(crate) struct RecordSets<'z>(&'z [u8]);

impl<'z> Iterator for RecordSets<'z> {
    type Item = RecordSet<'z>;

    fn next(&mut self) -> Option<RecordSet<'z>> {
        let (head, rest) = self.0.split_first_chunk::<6>()?;
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let (wire, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(RecordSet {
            record_type: RecordType(u16::from_be_bytes([head[0], head[1]])),
            count: u16::from_be_bytes([head[2], head[3]]),
            wire,
        })
    }
}

/// The count of a record set with a routing policy: its wire form is the position of the policy in
/// the zone. A record set that can be sent has fewer records.
pub(crate) const ROUTED: u16 = u16::MAX;

/// The records of one name and type, ready to be sent.
#[derive(Clone, Copy)]
pub(crate) struct RecordSet<'z> {
    pub(crate) record_type: RecordType,
    pub(crate) count: u16,
    /// Complete records whose owner is a pointer to the question ([`QUESTION_POINTER`]).
    pub(crate) wire: &'z [u8],
}

impl<'z> RecordSet<'z> {
    /// TTL and data of each record.
    pub(crate) fn records(&self) -> impl Iterator<Item = (u32, &'z [u8])> + use<'z> {
        let mut rest = self.wire;
        std::iter::from_fn(move || {
            let (head, tail) = rest.split_first_chunk::<RECORD_HEAD>()?;
            let length = usize::from(u16::from_be_bytes([head[10], head[11]]));
            let (data, tail) = tail.split_at_checked(length)?;
            rest = tail;
            Some((u32::from_be_bytes([head[6], head[7], head[8], head[9]]), data))
        })
    }
}

/// Octets before the data of a record whose owner is a pointer.
pub(crate) const RECORD_HEAD: usize = 12;
/// A compression pointer to the name behind the message header.
pub(crate) const QUESTION_POINTER: [u8; 2] = [0xC0, 12];

/// Where is the name, or else the free slot for it?
fn find(slots: &[u64], arena: &[u8], hash: u64, name: &[u8]) -> Result<usize, usize> {
    let mask = slots.len() - 1; // a power of two, never full
    let mut slot = (hash >> 32) as usize & mask;
    loop {
        let held = slots[slot];
        if held == 0 {
            return Err(slot);
        }
        if held >> 32 == hash & 0xFFFF_FFFF {
            let position = (held as u32 - 1) as usize;
            if Node::at(arena, position).0.name == name {
                return Ok(position);
            }
        }
        slot = (slot + 1) & mask;
    }
}

/// Builds a [`Zone`]: first every name that has records, each once, then [`Builder::finish`].
pub(crate) struct Builder {
    slots: Vec<u64>,
    arena: Vec<u8>,
    nodes: usize,
    wildcards: bool,
    apex_labels: usize,
    asked: Box<Asked>,
}

impl Builder {
    /// An empty zone for about so many names, of so many octets in all.
    pub(crate) fn new(apex: &Name, names: usize, octets: usize) -> Self {
        let mut asked = Box::new(Asked::new());
        asked.set(apex.as_wire());
        Builder {
            slots: vec![0; (names * 5 / 4 + 2).next_power_of_two()],
            arena: Vec::with_capacity(octets),
            nodes: 0,
            wildcards: false,
            apex_labels: asked.labels(),
            asked,
        }
    }

    /// Adds a name with its record sets, each a type, a count and records in wire form. Nothing
    /// where the zone would grow beyond 4 GiB.
    pub(crate) fn add<'d>(
        &mut self,
        name: &[u8],
        sets: impl Iterator<Item = (RecordType, u16, &'d [u8])>,
    ) -> Option<()> {
        self.asked.set(name)?;
        self.begin(0)?;
        let length_at = self.arena.len() - 4;
        for (record_type, count, wire) in sets {
            self.arena.extend_from_slice(&record_type.0.to_be_bytes());
            self.arena.extend_from_slice(&count.to_be_bytes());
            self.arena.extend_from_slice(&u16::try_from(wire.len()).ok()?.to_be_bytes());
            self.arena.extend_from_slice(wire);
        }
        let length = u32::try_from(self.arena.len() - length_at - 4).ok()?;
        self.arena[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
        Some(())
    }

    /// Begins a node for the asked name without its first `skipped` labels, without records.
    fn begin(&mut self, skipped: usize) -> Option<()> {
        if (self.nodes + 1) * 5 > self.slots.len() * 4 {
            self.grow();
        }
        let position = self.arena.len();
        let entry = u32::try_from(position + 1).ok()?;
        let (hash, name) = (self.asked.hash(skipped), self.asked.suffix(skipped));
        if let Err(slot) = find(&self.slots, &self.arena, hash, name) {
            self.slots[slot] = hash << 32 | u64::from(entry);
            self.nodes += 1;
        }
        self.arena.push(name.len() as u8); // at most 255
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(&[0; 4]);
        self.wildcards |= name.starts_with(WILDCARD);
        Some(())
    }

    fn grow(&mut self) {
        let mut slots = vec![0; self.slots.len() * 2];
        let mut position = 0;
        let mut asked = Asked::new();
        while position < self.arena.len() {
            let (node, end) = Node::at(&self.arena, position);
            asked.set(node.name);
            if let Err(slot) = find(&slots, &self.arena, asked.hash(0), node.name) {
                slots[slot] = asked.hash(0) << 32 | (position as u64 + 1);
            }
            position = end;
        }
        self.slots = slots;
    }

    /// Adds the empty non-terminals (RFC 4592, 2.2.2) and closes the zone.
    pub(crate) fn finish(mut self, negative_soa: Vec<u8>, routing: Vec<Routing>) -> Option<Zone> {
        let (mut position, named) = (0, self.arena.len());
        while position < named {
            let (node, end) = Node::at(&self.arena, position);
            position = end;
            self.asked.set(node.name);
            for skipped in 1..=self.asked.labels().saturating_sub(self.apex_labels) {
                let (hash, name) = (self.asked.hash(skipped), self.asked.suffix(skipped));
                // A name that exists has its ancestors, or gets them in its own turn.
                if find(&self.slots, &self.arena, hash, name).is_ok() {
                    break;
                }
                self.begin(skipped)?;
            }
        }
        self.arena.shrink_to_fit();
        Some(Zone {
            slots: self.slots.into_boxed_slice(),
            arena: self.arena.into_boxed_slice(),
            wildcards: self.wildcards,
            negative_soa: negative_soa.into_boxed_slice(),
            routing: routing.into_boxed_slice(),
        })
    }
}

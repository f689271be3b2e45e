//! The records of changes in memory, found by location.
//!
//! Revisions come one after the other and most have one change, so records lie in chunks of
//! consecutive revisions, in order, and the place of a record is mostly its revision's place in the
//! chunk. Where it is not, as revisions have deletions or several changes, a search in the chunk
//! finds it. Forgotten records leave holes; a chunk that is mostly holes closes them, and one that
//! is nothing else is given back.
//!
//! Tombstones have no record here, and no record has its key.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::mvcc::Location;
use crate::types::LeaseId;
use crate::types::Revision;

/// Revisions in a chunk.
///
/// Unit: revisions. A chunk closes holes by moving all of its records, which this bounds for
/// revisions of one change; with it the longest search.
const CHUNK_REVISIONS: i64 = 1 << CHUNK_BITS;

/// Slots that a chunk begins with: one a revision.
const CHUNK_SLOTS: usize = 1 << CHUNK_BITS;

/// The power of two of both.
const CHUNK_BITS: u32 = 9;

/// What a put left, besides what the index knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value, a slice of the buffer it came in.
    pub value: Bytes,
    /// The lease the key was attached to; 0 is none.
    pub lease: LeaseId,
}

/// A record and where it lies in its chunk.
#[derive(Debug)]
struct Slot {
    /// Its revision, counted from the chunk's first.
    offset: u32,
    sub: u32,
    /// None once it is forgotten.
    record: Option<Record>,
}

/// The records of consecutive revisions.
///
/// # Shape
/// Slots stand in order of location; `held` of them have a record.
#[derive(Debug, Default)]
struct Chunk {
    slots: Vec<Slot>,
    held: usize,
}

/// The records of all puts that are not forgotten, in the order of their locations.
///
/// # Shape
/// Chunk `i` has the revisions from `first + i * CHUNK_REVISIONS` on.
#[derive(Debug)]
pub struct Tail {
    first: Revision,
    chunks: VecDeque<Chunk>,
}

impl Tail {
    /// No records.
    #[must_use]
    pub fn new() -> Self {
        Self { first: Revision(0), chunks: VecDeque::new() }
    }

    /// Adds the record of the put at `location`.
    ///
    /// # Panics
    /// Unless `location` is after every one so far.
    ///
    /// # Cost
    /// Constant, but for the growth of a chunk.
    pub fn push(&mut self, location: Location, record: Record) {
        if self.chunks.is_empty() {
            self.first = Revision(location.main.0 - location.main.0 % CHUNK_REVISIONS);
        }
        let (index, offset) = self.place(location.main).expect("locations come in order");
        assert!(index + 1 >= self.chunks.len(), "locations come in order");
        if index >= self.chunks.len() {
            if let Some(full) = self.chunks.back_mut() {
                full.close_holes();
            }
            self.chunks.resize_with(index + 1, Chunk::default);
        }
        let chunk = &mut self.chunks[index];
        let key = (offset, location.sub);
        assert!(chunk.slots.last().is_none_or(|last| last.key() < key), "locations come in order");
        if chunk.slots.is_empty() {
            // At one put a revision this is all it takes; growing by steps touches more.
            chunk.slots.reserve_exact(CHUNK_SLOTS);
        }
        chunk.slots.push(Slot { offset, sub: location.sub, record: Some(record) });
        chunk.held += 1;
        self.give_back();
    }

    /// The record at `location`: none if there is no put or it is forgotten.
    ///
    /// # Cost
    /// Constant where revisions have one put each; else a search among those of a chunk.
    #[must_use]
    pub fn get(&self, location: Location) -> Option<&Record> {
        let (index, offset) = self.place(location.main)?;
        let chunk = self.chunks.get(index)?;
        chunk.slots[chunk.find((offset, location.sub))?].record.as_ref()
    }

    /// Forgets the record at `location`, if there is one.
    ///
    /// # Cost
    /// As [`Self::get`]; now and then a chunk closes its holes.
    pub fn forget(&mut self, location: Location) {
        let Some((index, offset)) = self.place(location.main) else { return };
        let Some(chunk) = self.chunks.get_mut(index) else { return };
        let Some(place) = chunk.find((offset, location.sub)) else { return };
        if chunk.slots[place].record.take().is_none() {
            return;
        }
        chunk.held -= 1;
        let is_open = index + 1 == self.chunks.len();
        let chunk = &mut self.chunks[index];
        if !is_open && chunk.held <= chunk.slots.len() / 2 {
            chunk.close_holes();
        }
        self.give_back();
    }

    /// Gives back the first chunks while they hold nothing.
    fn give_back(&mut self) {
        while self.chunks.len() > 1 && self.chunks[0].held == 0 {
            self.chunks.pop_front();
            self.first.0 += CHUNK_REVISIONS;
        }
    }

    /// Records held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.held).sum()
    }

    /// Whether no record is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chunk of a revision, and the revision's offset in it; none if it is before the first.
    fn place(&self, main: Revision) -> Option<(usize, u32)> {
        let from_first = main.0.checked_sub(self.first.0)?;
        let index = usize::try_from(from_first.div_euclid(CHUNK_REVISIONS)).ok()?;
        let offset = u32::try_from(from_first % CHUNK_REVISIONS).expect("a chunk is small");
        Some((index, offset))
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check_all(&self) {
        for chunk in &self.chunks {
            assert!(chunk.slots.is_sorted_by(|left, right| left.key() < right.key()));
            let held = chunk.slots.iter().filter(|slot| slot.record.is_some()).count();
            assert!(held == chunk.held, "a chunk knows what it holds");
        }
        let closed = self.chunks.len().saturating_sub(1);
        for chunk in self.chunks.iter().take(closed) {
            assert!(chunk.slots.len() <= 2 * chunk.held + 1, "a chunk is not mostly holes");
        }
        assert!(
            self.chunks.len() < 2 || self.chunks[0].held > 0,
            "the first chunk holds something"
        );
    }
}

impl Default for Tail {
    fn default() -> Self {
        Self::new()
    }
}

impl Slot {
    fn key(&self) -> (u32, u32) {
        (self.offset, self.sub)
    }
}

impl Chunk {
    fn close_holes(&mut self) {
        self.slots.retain(|slot| slot.record.is_some());
        self.slots.shrink_to_fit();
    }

    fn find(&self, key: (u32, u32)) -> Option<usize> {
        let guess = usize::try_from(key.0).expect("a chunk is small");
        if self.slots.get(guess).is_some_and(|slot| slot.key() == key) {
            return Some(guess);
        }
        self.slots.binary_search_by_key(&key, Slot::key).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn record(location: Location) -> Record {
        Record {
            value: Bytes::from(format!("{location:?}")),
            lease: LeaseId(location.main.0 + i64::from(location.sub)),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn the_tail_agrees_with_a_map(
            gaps in prop::collection::vec((0..40_i64, 0..3_u32), 1..800),
            forget in prop::collection::vec(any::<prop::sample::Index>(), 0..800),
        ) {
            let (mut tail, mut model) = (Tail::new(), BTreeMap::new());
            let mut location = Location { main: Revision(2), sub: 0 };
            for (gap, sub) in gaps {
                location = if gap == 0 {
                    Location { sub: location.sub + sub + 1, ..location }
                } else {
                    Location { main: Revision(location.main.0 + gap.pow(2)), sub }
                };
                tail.push(location, record(location));
                model.insert(location, record(location));
            }
            tail.check_all();
            let all: Vec<_> = model.keys().copied().collect();
            for index in forget {
                let location = *index.get(&all);
                tail.forget(location);
                model.remove(&location);
            }
            tail.check_all();
            location.main.0 += 1000;
            tail.push(location, record(location));
            model.insert(location, record(location));
            tail.check_all();
            assert_eq!(tail.len(), model.len());
            for location in all {
                assert_eq!(tail.get(location), model.get(&location));
            }
        }
    }

    #[test]
    fn what_never_was_is_not_found() {
        let mut tail = Tail::new();
        let location = Location { main: Revision(600), sub: 0 };
        assert_eq!(tail.get(location), None);
        tail.push(location, record(location));
        for main in [i64::MIN, -1, 0, 599, 601, 5000, i64::MAX] {
            assert_eq!(tail.get(Location { main: Revision(main), sub: 0 }), None);
        }
        assert_eq!(tail.get(Location { main: Revision(600), sub: 1 }), None);
        tail.forget(location);
        assert!(tail.is_empty());
    }
}

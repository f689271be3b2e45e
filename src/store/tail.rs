//! The latest changes, in memory until a segment has them.
//!
//! Changes come in order of location and are never changed or taken out one by one, so they lie in
//! chunks of a fixed count, one after the other. Revisions follow one another and most have one
//! change: the place of a change is mostly its revision's distance from the first. Where it is not,
//! as a revision had several changes, two searches find it, one for the chunk and one in it.

use std::collections::VecDeque;

use crate::types::Change;
use crate::types::Location;

/// Changes in a chunk.
///
/// Unit: changes. A chunk is one allocation of about 50 KiB, made once and never grown, and is also
/// what one step of giving memory back takes.
pub(super) const CHUNK_CHANGES: usize = 512;

/// Consecutive changes.
///
/// # Shape
/// Never empty but while it is being made; all but the tail's last are full.
#[derive(Debug)]
struct Chunk {
    first: Location,
    changes: Vec<Change>,
}

/// Changes in the order of their locations, added at the end.
#[derive(Debug, Default)]
pub struct Tail {
    chunks: VecDeque<Chunk>,
    size: usize,
}

/// A place in a tail: between two changes, or at an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    chunk: usize,
    index: usize,
}

impl Tail {
    /// No changes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change.
    ///
    /// # Panics
    /// Unless its location is after every one so far.
    ///
    /// # Cost
    /// A move of the change; now and then a chunk is made.
    pub fn push(&mut self, change: Change) {
        self.size += Self::size_of(&change);
        if let Some(chunk) = self.chunks.back_mut() {
            let last = chunk.changes.last().expect("a chunk is not empty");
            assert!(last.location < change.location, "locations come in order");
            if chunk.changes.len() < CHUNK_CHANGES {
                chunk.changes.push(change);
                return;
            }
        }
        let first = change.location;
        let mut changes = Vec::with_capacity(CHUNK_CHANGES);
        changes.push(change);
        self.chunks.push_back(Chunk { first, changes });
    }

    /// Bytes of memory that a change takes here.
    #[must_use]
    pub fn size_of(change: &Change) -> usize {
        size_of::<Change>() + change.key.len() + change.value.len()
    }

    /// The change at `location`, if it is here.
    ///
    /// # Cost
    /// Constant where revisions have one change each; else two searches.
    #[inline]
    #[must_use]
    pub fn get(&self, location: Location) -> Option<&Change> {
        let chunk = &self.chunks[self.chunk_of(location)?];
        let ahead = location.main.0 - chunk.first.main.0;
        let guess = usize::try_from(ahead).expect("the chunk begins at or before it");
        if let Some(change) = chunk.changes.get(guess)
            && change.location == location
        {
            return Some(change);
        }
        let found = chunk.changes.binary_search_by_key(&location, |change| change.location);
        Some(&chunk.changes[found.ok()?])
    }

    /// The last chunk that begins at or before `location`.
    #[inline]
    fn chunk_of(&self, location: Location) -> Option<usize> {
        let first = self.chunks.front()?.first;
        if location < first {
            return None;
        }
        let ahead = location.main.0.checked_sub(first.main.0)?;
        let guess = usize::try_from(ahead).expect("it is not before the first") / CHUNK_CHANGES;
        let begins = |index: usize| self.chunks.get(index).map(|chunk| chunk.first);
        if begins(guess).is_some_and(|first| first <= location)
            && begins(guess + 1).is_none_or(|next| location < next)
        {
            return Some(guess);
        }
        Some(self.chunks.partition_point(|chunk| chunk.first <= location) - 1)
    }

    /// The place before the first change at or after `location`.
    pub(super) fn seek(&self, location: Location) -> Place {
        let Some(chunk) = self.chunk_of(location) else { return Place { chunk: 0, index: 0 } };
        let changes = &self.chunks[chunk].changes;
        let index = changes.partition_point(|change| change.location < location);
        if index < changes.len() {
            Place { chunk, index }
        } else {
            Place { chunk: chunk + 1, index: 0 }
        }
    }

    /// The change after `place`, which moves behind it.
    pub(super) fn next(&self, place: &mut Place) -> Option<&Change> {
        let chunk = self.chunks.get(place.chunk)?;
        let change = chunk.changes.get(place.index)?;
        place.index += 1;
        if place.index == chunk.changes.len() && place.chunk + 1 < self.chunks.len() {
            *place = Place { chunk: place.chunk + 1, index: 0 };
        }
        Some(change)
    }

    /// The first and the last location.
    #[must_use]
    pub fn span(&self) -> Option<(Location, Location)> {
        let last = self.chunks.back()?.changes.last().expect("a chunk is not empty");
        Some((self.chunks.front()?.first, last.location))
    }

    /// Whether there is no change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let Some(last) = self.chunks.back() else { return 0 };
        (self.chunks.len() - 1) * CHUNK_CHANGES + last.changes.len()
    }

    /// Bytes of memory that the changes take.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Gives back the memory of one chunk; whether there is more.
    ///
    /// The tail is no longer to be read.
    ///
    /// # Cost
    /// At most [`CHUNK_CHANGES`] changes are dropped.
    pub(super) fn shed(&mut self) -> bool {
        if let Some(chunk) = self.chunks.pop_front() {
            self.size -= chunk.changes.iter().map(Self::size_of).sum::<usize>();
        }
        !self.chunks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::types::LeaseId;
    use crate::types::Revision;

    fn change(location: Location) -> Change {
        Change {
            location,
            key: Bytes::from_static(b"key"),
            value: Bytes::from(format!("{location:?}")),
            lease: LeaseId(0),
            created: location.main,
            version: 1,
        }
    }

    fn at(main: i64, sub: u32) -> Location {
        Location { main: Revision(main), sub }
    }

    /// Revisions between two changes: mostly one, at times none or many.
    fn gap() -> impl Strategy<Value = i64> {
        prop_oneof![4 => Just(1), 2 => 0..3_i64, 1 => 0..9999_i64]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn the_tail_agrees_with_a_map(
            gaps in prop::collection::vec((gap(), 0..3_u32), 1..2000),
            asked in prop::collection::vec((0..3000_i64, 0..3_u32), 0..500),
        ) {
            let (mut tail, mut model) = (Tail::new(), BTreeMap::new());
            let mut location = at(2, 0);
            for (gap, sub) in gaps {
                let main = location.main.0 + gap;
                location = if gap == 0 { at(main, location.sub + sub + 1) } else { at(main, sub) };
                tail.push(change(location));
                model.insert(location, change(location));
            }
            assert_eq!(tail.len(), model.len());
            assert_eq!(tail.size(), model.values().map(Tail::size_of).sum::<usize>());
            let span = tail.span().expect("there are changes");
            assert_eq!(Some(&span.0), model.keys().next());
            assert_eq!(Some(&span.1), model.keys().next_back());
            for (location, change) in &model {
                assert_eq!(tail.get(*location), Some(change));
            }
            for (main, sub) in asked {
                let location = at(main, sub);
                assert_eq!(tail.get(location), model.get(&location));
                let mut place = tail.seek(location);
                let rest: Vec<_> = std::iter::from_fn(|| tail.next(&mut place)).take(600).collect();
                let expected: Vec<_> =
                    model.range(location..).map(|(_, change)| change).take(600).collect();
                assert_eq!(rest, expected);
            }
            while tail.shed() {}
            assert!(tail.is_empty() && tail.size() == 0);
        }
    }

    #[test]
    fn what_never_was_is_not_found() {
        let mut tail = Tail::new();
        assert_eq!(tail.get(at(600, 0)), None);
        tail.push(change(at(600, 1)));
        for main in [i64::MIN, -1, 0, 599, 601, 5000, i64::MAX] {
            assert_eq!(tail.get(at(main, 1)), None);
        }
        assert_eq!(tail.get(at(600, 0)), None);
        assert_eq!(tail.get(at(600, 2)), None);
    }
}

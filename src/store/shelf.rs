//! The sealed segments in the order of their revisions, and those that are on their way in or out.
//!
//! A segment has a *place* in memory from the moment that its first block is filled until nobody
//! reads it any more:
//!
//! ```text
//!   reserve ──► building ──add──► on the shelf ──retire──► retired ──leave──► gone
//! ```
//!
//! Blocks are in the cache or not by what their segment notes of each, so a block can be cached
//! while its segment is still being written. A retired segment is no longer listed, yet its file
//! and its directory stay until every [`Pin`] is gone that was there when it was retired.

use std::collections::VecDeque;

use bytes::Bytes;

use super::cache::BlockId;
use super::cache::Cache;
use super::cache::Entrance;
use super::cache::State;
use super::cache::Word;
use super::format::usize_from;
use super::segment::Place;
use super::segment::Sealed;
use crate::types::Location;

/// A promise that whatever could be read when it was made can still be read.
#[must_use = "a pin that is not given back keeps files forever"]
#[derive(Debug, PartialEq, Eq)]
pub struct Pin(u64);

/// What is at a place.
#[derive(Debug)]
enum Slot {
    Free,
    /// What is noted of the blocks that were filled so far.
    Building(Vec<Word>),
    Here(Box<Shelved>),
}

/// A segment that can be read.
#[derive(Debug)]
pub(super) struct Shelved {
    pub(super) sealed: Sealed,
    /// Dead tombstones, in bytes, that were dead when the floor was last told.
    pub(super) settled: u64,
    /// Reads that were asked for and not yet taken.
    reads: u32,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    last: Location,
    place: u32,
}

/// All segments.
///
/// # Shape
/// `order` has the places of those on the shelf; they ascend and share no location. `retired` has
/// those that left it, with the count of retirements before, which never descends.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    slots: Vec<Slot>,
    free: Vec<u32>,
    order: Vec<Span>,
    retired: VecDeque<(u64, u32)>,
    /// Bytes of their files.
    retired_size: u64,
    retirements: u64,
    /// For a count of retirements, how many pins were made at it; ascending.
    pins: VecDeque<(u64, u32)>,
}

impl Shelf {
    /// How many segments are on the shelf.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// A place for a segment that is being written.
    pub(super) fn reserve(&mut self) -> u32 {
        let slot = Slot::Building(Vec::new());
        let Some(place) = self.free.pop() else {
            let place = u32::try_from(self.slots.len()).expect("fewer than 2^32 segments");
            self.slots.push(slot);
            return place;
        };
        self.slots[usize_from(place)] = slot;
        place
    }

    /// The segment at `place` is written; it is not on the shelf yet.
    pub(super) fn build(&mut self, place: u32, mut sealed: Sealed) {
        let slot = &mut self.slots[usize_from(place)];
        let Slot::Building(words) = slot else { unreachable!("it was being written") };
        for (block, word) in (0..).zip(words.drain(..)) {
            sealed.set_slot(block, word.into());
        }
        *slot = Slot::Here(Box::new(Shelved { sealed, settled: 0, reads: 0 }));
    }

    /// Puts the segments at `places` on the shelf instead of those at `replaced`.
    ///
    /// # Panics
    /// If the segments are not in order.
    pub(super) fn put(&mut self, replaced: std::ops::Range<usize>, places: &[u32]) {
        let spans: Vec<_> = places
            .iter()
            .map(|&place| Span { last: self.get(place).sealed.summary().last, place })
            .collect();
        let gone: Vec<_> = self.order.splice(replaced.clone(), spans).collect();
        for span in gone {
            self.retired_size += self.get(span.place).sealed.summary().file_size();
            self.retired.push_back((self.retirements, span.place));
            self.retirements += 1;
        }
        let around = replaced.start.saturating_sub(1)..=replaced.start + places.len();
        for index in around {
            let (Some(left), Some(right)) = (self.order.get(index), self.order.get(index + 1))
            else {
                continue;
            };
            let first = self.get(right.place).sealed.summary().first;
            assert!(left.last < first, "segments share no location");
        }
    }

    /// The segment at `place`.
    ///
    /// # Panics
    /// If none can be read there.
    #[inline]
    pub(super) fn get(&self, place: u32) -> &Shelved {
        match &self.slots[usize_from(place)] {
            Slot::Here(shelved) => shelved,
            Slot::Free | Slot::Building(_) => unreachable!("a segment is at its place"),
        }
    }

    /// The segment at `place`.
    ///
    /// # Panics
    /// If none can be read there.
    pub(super) fn get_mut(&mut self, place: u32) -> &mut Shelved {
        match &mut self.slots[usize_from(place)] {
            Slot::Here(shelved) => shelved,
            Slot::Free | Slot::Building(_) => unreachable!("a segment is at its place"),
        }
    }

    /// The segment of a block, unless it is gone.
    pub(super) fn of(&self, id: BlockId) -> Option<&Shelved> {
        match self.slots.get(usize_from(id.place))? {
            Slot::Here(shelved) => (shelved.sealed.number() == id.segment).then_some(shelved),
            Slot::Free | Slot::Building(_) => None,
        }
    }

    /// The places of the segments on the shelf, in order.
    pub(super) fn places(&self) -> impl Iterator<Item = u32> {
        self.order.iter().map(|span| span.place)
    }

    /// The segments on the shelf, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Shelved> {
        self.places().map(|place| self.get(place))
    }

    /// The segments that left it and are not gone.
    pub(super) fn retired(&self) -> impl Iterator<Item = &Shelved> {
        self.retired.iter().map(|&(_, place)| self.get(place))
    }

    /// Bytes of their files.
    pub(super) fn retired_size(&self) -> u64 {
        self.retired_size
    }

    /// The place of the `index`th segment.
    ///
    /// # Panics
    /// If there are fewer.
    pub(super) fn place_of(&self, index: usize) -> u32 {
        self.order[index].place
    }

    /// The last location on the shelf.
    pub(super) fn last(&self) -> Option<Location> {
        self.order.last().map(|span| span.last)
    }

    /// Which segment on the shelf has the first location at or after this one; their count if none.
    #[inline]
    pub(super) fn index_of(&self, location: Location) -> usize {
        self.order.partition_point(|span| span.last < location)
    }

    /// The record at `location` on the shelf: its segment's place and its ordinal.
    #[inline]
    pub(super) fn find(&self, location: Location) -> Option<(u32, u32)> {
        let place = self.order.get(self.index_of(location))?.place;
        Some((place, self.get(place).sealed.find(location)?))
    }

    /// As [`Self::find`], or else in a segment that was retired.
    #[inline]
    pub(super) fn find_any(&self, location: Location) -> Option<(u32, u32)> {
        self.find(location).or_else(|| {
            let mut retired = self.retired.iter().map(|&(_, place)| place);
            retired.find_map(|place| Some((place, self.get(place).sealed.find(location)?)))
        })
    }

    /// The name of a block.
    #[inline]
    pub(super) fn block_id(&self, place: u32, block: u32) -> BlockId {
        BlockId { segment: self.get(place).sealed.number(), place, block }
    }

    /// What is noted of a block.
    #[inline]
    pub(super) fn word(&self, place: u32, block: u32) -> Word {
        self.get(place).sealed.slot(block).into()
    }

    /// Notes something of a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub(super) fn note(&mut self, place: u32, block: u32, word: Word) {
        match &mut self.slots[usize_from(place)] {
            Slot::Here(shelved) => shelved.sealed.set_slot(block, word.into()),
            Slot::Building(words) => words[usize_from(block)] = word,
            Slot::Free => unreachable!("a block has a segment"),
        }
    }

    /// A block of a segment that is being written was filled; `hot` has its bytes if they are to be
    /// cached, and how they come in.
    pub(super) fn fill(&mut self, id: BlockId, hot: Option<(Bytes, Entrance)>, cache: &mut Cache) {
        let Slot::Building(words) = &mut self.slots[usize_from(id.place)] else {
            unreachable!("it is being written")
        };
        assert!(words.len() == usize_from(id.block), "blocks are filled in order");
        words.push(Word::new(State::Away));
        if let Some((bytes, entrance)) = hot {
            self.keep(id, bytes, entrance, cache);
        }
    }

    /// Caches a block's bytes, and notes it.
    pub(super) fn keep(
        &mut self,
        id: BlockId,
        bytes: Bytes,
        entrance: Entrance,
        cache: &mut Cache,
    ) {
        let mut left = |owner: BlockId, word| self.note(owner.place, owner.block, word);
        let slot = cache.insert(id, bytes, entrance, &mut left);
        self.note(id.place, id.block, Word::new(State::Here(slot)));
    }

    /// The bytes of a record's block if they are cached, and where in them it lies.
    #[inline]
    pub(super) fn cached<'a>(
        &self,
        (place, ordinal): (u32, u32),
        cache: &'a Cache,
    ) -> Result<(&'a Bytes, Place), BlockId> {
        let sealed = &self.get(place).sealed;
        let record = sealed.place(ordinal);
        match Word::from(sealed.slot(record.block)).slot() {
            Some(slot) => Ok((cache.get(slot), record)),
            None => Err(self.block_id(place, record.block)),
        }
    }

    /// A read of the segment at `place` was asked for.
    pub(super) fn read_begins(&mut self, place: u32) {
        self.get_mut(place).reads += 1;
    }

    /// What it brought was taken.
    pub(super) fn read_ends(&mut self, place: u32) {
        self.get_mut(place).reads -= 1;
    }

    /// A promise for what can be read now.
    pub(super) fn pin(&mut self) -> Pin {
        match self.pins.back_mut() {
            Some((at, count)) if *at == self.retirements => *count += 1,
            _ => self.pins.push_back((self.retirements, 1)),
        }
        Pin(self.retirements)
    }

    /// Takes a promise back.
    pub(super) fn unpin(&mut self, pin: &Pin) {
        let index = self.pins.partition_point(|&(at, _)| at < pin.0);
        let (at, count) = &mut self.pins[index];
        assert!(*at == pin.0 && *count > 0, "a pin is given back once");
        *count -= 1;
        while self.pins.front().is_some_and(|&(_, count)| count == 0) {
            self.pins.pop_front();
        }
    }

    /// Whether some promise was not taken back.
    pub(super) fn is_pinned(&self) -> bool {
        !self.pins.is_empty()
    }

    /// Where among those retired the first stands that nobody reads any more.
    fn next_to_leave(&self) -> Option<usize> {
        self.retired.iter().position(|&(at, place)| {
            let is_pinned = self.pins.front().is_some_and(|&(pinned, _)| pinned <= at);
            !is_pinned && self.get(place).reads == 0
        })
    }

    /// Whether [`Self::leave`] would give one.
    pub(super) fn can_leave(&self) -> bool {
        self.next_to_leave().is_some()
    }

    /// The number of a retired segment that nobody reads any more, which is gone with this, and the
    /// bytes of its file.
    pub(super) fn leave(&mut self, cache: &mut Cache) -> Option<(u64, u64)> {
        let index = self.next_to_leave()?;
        let (_, place) = self.retired.remove(index).expect("it was found");
        let sealed = &self.get(place).sealed;
        let (number, size) = (sealed.number(), sealed.summary().file_size());
        self.retired_size -= size;
        for block in 0..self.get(place).sealed.block_count() {
            if let Some(slot) = self.word(place, block).slot() {
                cache.remove(slot);
            }
        }
        self.slots[usize_from(place)] = Slot::Free;
        self.free.push(place);
        Some((number, size))
    }
}

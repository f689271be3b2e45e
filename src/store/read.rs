//! What is read: values from memory, blocks from files, and all changes one after the other.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Command;
use super::Damage;
use super::cache::BlockId;
use super::cache::Entrance;
use super::cache::State;
use super::cache::Word;
use super::format::RECORD_HEADER_SIZE;
use super::format::usize_from;
use super::machine::Store;
use super::record::ChangeRef;
use super::segment::Place;
use crate::frame::u32_at;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;

/// One part in this many of the reads at a time is kept for what nobody waits for: cleaning, and
/// states for peers. They would never have their turn while more is asked for all the time.
const RESERVED_SHARE: usize = 16;

/// Where a value is.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// In memory.
    Here(Held<'a>),
    /// In this block of a file: [`Store::fetch`] it.
    Away(BlockId),
}

/// A value in memory.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    buffer: &'a Bytes,
    start: usize,
    end: usize,
}

impl<'a> Held<'a> {
    /// The value where it lies.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &'a [u8] {
        &self.buffer[self.start..self.end]
    }

    /// The value as a slice of the buffer that it lies in, which it keeps in memory.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.buffer.slice(self.start..self.end)
    }

    /// The value as bytes that keep little else in memory: if most of its buffer is something else,
    /// they are a copy.
    #[must_use]
    pub fn apart(&self) -> Bytes {
        apart(self.to_bytes(), self.buffer)
    }

    /// The value of the record at `place` in a block.
    #[inline]
    fn in_block(buffer: &'a Bytes, place: Place) -> Self {
        let record = usize_from(place.start);
        let key_size = usize_from(u32_at(buffer, record + KEY_SIZE_AT));
        let start = record + RECORD_HEADER_SIZE + key_size;
        Self { buffer, start, end: record + usize_from(place.size) }
    }
}

/// Where a record has the size of its key, in bytes from its start.
const KEY_SIZE_AT: usize = 12;

/// A block that was asked for.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Which block it is.
    pub id: BlockId,
    /// Its bytes, which were checked; empty if its segment was gone when it was asked for.
    pub bytes: Bytes,
}

/// `value`, which lies in `buffer`, or a copy of it if that is less than half.
fn apart(value: Bytes, buffer: &Bytes) -> Bytes {
    if value.len() < buffer.len() / 2 { Bytes::copy_from_slice(&value) } else { value }
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The budget is spent; go on from here.
    Next(Location),
    /// The next change is in this block of a file: fetch it, and go on from here as soon as it has
    /// come, or with [`Store::scan_in`] later.
    Away(BlockId, Location),
    /// That was all.
    End,
}

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Somebody asked for the block.
    Block(BlockId),
    /// The cleaner copies what is in it.
    Clean,
    /// What has arrived is checked.
    Check,
    /// A part of a file, of the segment at this place, for a peer.
    Part(u32),
}

/// The reads of blocks.
///
/// # Shape
/// Each block at most once, in `queue` or in flight; those in flight and in `fetched` are at most
/// [`super::Config::reads_max`] together.
#[derive(Debug, Default)]
pub(super) struct Reads {
    queue: VecDeque<BlockId>,
    /// In order of name.
    flight: Vec<(u64, Purpose)>,
    fetched: VecDeque<Fetched>,
    name_next: u64,
}

impl Reads {
    /// Nothing is asked for and nothing waits to be taken.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.flight.is_empty() && self.fetched.is_empty()
    }

    /// Names a read, which is now in flight.
    pub(super) fn begin(&mut self, purpose: Purpose) -> u64 {
        self.name_next += 1;
        self.flight.push((self.name_next, purpose));
        self.name_next
    }

    /// What the read of this name was for.
    ///
    /// # Panics
    /// If none of this name is in flight.
    pub(super) fn end(&mut self, name: u64) -> Purpose {
        let found = self.flight.binary_search_by_key(&name, |&(name, _)| name);
        self.flight.remove(found.expect("the read was asked for")).1
    }

    /// Whether another may begin.
    pub(super) fn has_room(&self, reads_max: usize) -> bool {
        self.flight.len() + self.fetched.len() < reads_max
    }
}

impl Store {
    /// The value of the put at `location`, which is empty for a tombstone; `None` if no such change
    /// is known here.
    ///
    /// # Cost
    /// No allocation. A guess in the tail; or a search among the segments, and guesses in one.
    #[inline]
    #[must_use]
    pub fn value(&self, location: Location) -> Option<Lookup<'_>> {
        if let Some(change) = self.tail_get(location) {
            let buffer = &change.value;
            return Some(Lookup::Here(Held { buffer, start: 0, end: buffer.len() }));
        }
        let found = self.shelf.find_any(location)?;
        Some(match self.shelf.cached(found, &self.cache) {
            Ok((block, place)) => Lookup::Here(Held::in_block(block, place)),
            Err(id) => Lookup::Away(id),
        })
    }

    /// The lease of the change at `location`, 0 if it has none; `None` if no such change is known.
    #[must_use]
    pub fn lease(&self, location: Location) -> Option<LeaseId> {
        if let Some(change) = self.tail_get(location) {
            return Some(change.lease);
        }
        let (place, ordinal) = self.shelf.find_any(location)?;
        Some(self.shelf.get(place).sealed.lease(ordinal))
    }

    /// Whether a change in a segment, dead or alive, has a lease.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        self.shelf.iter().any(|it| it.sealed.has_leases())
    }

    /// Bytes of the value of the change at `location`, whose key has `key_size`; `None` if no such
    /// change is known.
    ///
    /// # Panics
    /// If the key is longer than the change's.
    #[must_use]
    pub fn value_size(&self, location: Location, key_size: usize) -> Option<usize> {
        if let Some(change) = self.tail_get(location) {
            return Some(change.value.len());
        }
        let (place, ordinal) = self.shelf.find_any(location)?;
        Some(self.shelf.get(place).sealed.value_size(ordinal, key_size))
    }

    /// Asks for a block. It comes once, with [`Self::fetched`], however often it is asked for
    /// until then.
    ///
    /// # Shape
    /// What waits beyond [`super::Config::reads_max`] is bounded by who asks: no block waits twice.
    pub fn fetch(&mut self, id: BlockId) {
        if self.shelf.of(id).is_none() {
            self.reads.fetched.push_back(Fetched { id, bytes: Bytes::new() });
            return;
        }
        let again = match self.shelf.word(id.place, id.block).state() {
            State::Coming { .. } => return,
            State::Here(slot) => {
                let bytes = self.cache.peek(slot).clone();
                self.shelf.read_begins(id.place);
                self.reads.fetched.push_back(Fetched { id, bytes });
                return;
            }
            State::Left(stamp) => self.cache.is_recent(stamp),
            State::Away => false,
        };
        self.shelf.note(id.place, id.block, Word::new(State::Coming { again }));
        self.shelf.read_begins(id.place);
        self.reads.queue.push_back(id);
    }

    /// Asks for a block and for up to `count` that follow it in its segment, as far as they are
    /// neither in memory nor asked for: for whoever [`Self::scan`]s.
    pub fn fetch_ahead(&mut self, id: BlockId, count: u32) {
        self.fetch(id);
        let Some(shelved) = self.shelf.of(id) else { return };
        let end = shelved.sealed.block_count().min(id.block.saturating_add(count + 1));
        for block in id.block + 1..end {
            match self.shelf.word(id.place, block).state() {
                State::Away | State::Left(_) => self.fetch(BlockId { block, ..id }),
                State::Here(_) | State::Coming { .. } => {}
            }
        }
    }

    /// The next block that has come. What waits for it takes it now, with [`Self::value_in`],
    /// before [`Self::poll`] is called: it may be out of the cache again, and its segment gone.
    pub fn fetched(&mut self) -> Option<Fetched> {
        let fetched = self.reads.fetched.pop_front()?;
        if self.shelf.of(fetched.id).is_some() {
            self.shelf.read_ends(fetched.id.place);
        }
        Some(fetched)
    }

    /// The value of the put at `location` in a block that has come, if it lies there; a slice of
    /// the block's buffer. If it does not lie there, [`Self::value`] says where it does.
    #[must_use]
    pub fn value_in(&self, fetched: &Fetched, location: Location) -> Option<Bytes> {
        let sealed = &self.shelf.of(fetched.id)?.sealed;
        let place = sealed.place(sealed.find(location)?);
        let is_there = place.block == fetched.id.block && !fetched.bytes.is_empty();
        is_there.then(|| Held::in_block(&fetched.bytes, place).to_bytes())
    }

    /// As [`Self::value_in`], as bytes that keep little else in memory.
    #[must_use]
    pub fn value_apart(&self, fetched: &Fetched, location: Location) -> Option<Bytes> {
        self.value_in(fetched, location).map(|value| apart(value, &fetched.bytes))
    }

    /// Shows changes from `from` on, in order, dead ones that were not cleaned away too, until
    /// about `budget` were shown or one is in no memory.
    ///
    /// # Cost
    /// Blocks that it passes do not count as touched.
    pub fn scan(
        &self,
        from: Location,
        budget: usize,
        visit: &mut dyn FnMut(ChangeRef<'_>),
    ) -> Scan {
        let mut left = budget.max(1);
        for index in self.shelf.index_of(from)..self.shelf.len() {
            let place = self.shelf.place_of(index);
            let sealed = &self.shelf.get(place).sealed;
            let mut ordinal = sealed.find_from(from);
            while ordinal < sealed.record_count() {
                let at = sealed.location(ordinal);
                if left == 0 {
                    return Scan::Next(at);
                }
                let block = sealed.block_of(ordinal);
                let Some(slot) = self.shelf.word(place, block).slot() else {
                    return Scan::Away(self.shelf.block_id(place, block), at);
                };
                let bytes = self.cache.peek(slot);
                let end = sealed.block_records(block).end;
                while ordinal < end && left > 0 {
                    visit(sealed.record(sealed.place(ordinal), bytes));
                    ordinal += 1;
                    left -= 1;
                }
            }
        }
        self.scan_tail(from, left, visit)
    }

    /// As [`Self::scan`], in a block that has come and that the cache may not have kept: shows its
    /// changes from `from` on. If the next change does not lie there, none is shown.
    pub fn scan_in(
        &self,
        fetched: &Fetched,
        from: Location,
        visit: &mut dyn FnMut(ChangeRef<'_>),
    ) -> Scan {
        let Some(shelved) = self.shelf.of(fetched.id) else { return Scan::Next(from) };
        let sealed = &shelved.sealed;
        let ordinal = sealed.find_from(from);
        let next = self.shelf.index_of(from);
        let is_listed = next < self.shelf.len() && self.shelf.place_of(next) == fetched.id.place;
        let is_there = is_listed && sealed.block_of(ordinal) == fetched.id.block;
        if !is_there || fetched.bytes.is_empty() {
            return Scan::Next(from);
        }
        let mut last = from;
        for ordinal in ordinal..sealed.block_records(fetched.id.block).end {
            let change = sealed.record(sealed.place(ordinal), &fetched.bytes);
            last = change.location;
            visit(change);
        }
        Scan::Next(match last.sub.checked_add(1) {
            Some(sub) => Location { sub, ..last },
            None => Location { main: Revision(last.main.0 + 1), sub: 0 },
        })
    }

    fn scan_tail(
        &self,
        from: Location,
        mut left: usize,
        visit: &mut dyn FnMut(ChangeRef<'_>),
    ) -> Scan {
        for tail in [&self.frozen, &self.tail] {
            let mut place = tail.seek(from);
            while let Some(change) = tail.next(&mut place) {
                if left == 0 {
                    return Scan::Next(change.location);
                }
                visit(ChangeRef::from(change));
                left -= 1;
            }
        }
        Scan::End
    }

    /// The next read of a block.
    pub(super) fn next_fetch(&mut self) -> Option<Command> {
        let reads_max = self.config.reads_max;
        if !self.reads.has_room(reads_max - reads_max / RESERVED_SHARE) {
            return None;
        }
        let id = self.reads.queue.pop_front()?;
        let sealed = &self.shelf.get(id.place).sealed;
        let (offset, size) = sealed.block_extent(id.block);
        let file = sealed.file();
        let name = self.reads.begin(Purpose::Block(id));
        Some(Command::Read { id: name, file, offset, size })
    }

    /// The bytes of a block are here.
    pub(super) fn on_block(&mut self, id: BlockId, bytes: Bytes) -> Result<(), Damage> {
        let sealed = &self.shelf.get(id.place).sealed;
        sealed.check(id.block, &bytes)?;
        let again = match self.shelf.word(id.place, id.block).state() {
            State::Coming { again } => again,
            State::Away | State::Here(_) | State::Left(_) => unreachable!("it was asked for"),
        };
        self.shelf.keep(id, bytes.clone(), Entrance::Read { again }, &mut self.cache);
        self.reads.fetched.push_back(Fetched { id, bytes });
        Ok(())
    }
}

//! A sealed segment as memory holds it: where each record lies, and nothing of keys and values.
//!
//! Records are known by their *ordinal*, from 0 in the order of their locations, and blocks by
//! theirs. A record costs 8 bytes, 12 in a segment where a revision made several changes, a bit
//! more if there are tombstones, and 16 more if it has a lease.

use std::ops::Range;

use super::Cause;
use super::Damage;
use super::FileId;
use super::format::ChangeRef;
use super::format::Identity;
use super::format::Listed;
use super::format::NotOurs;
use super::format::Origin;
use super::format::PAGE_HEADER_SIZE;
use super::format::PageHeader;
use super::format::RECORD_HEADER_SIZE;
use super::format::Rest;
use super::format::SEGMENT_HEADER_SIZE;
use super::format::Summary;
use super::format::usize_from;
use super::manifest::Segment;
use crate::frame::Seal;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;

/// The slot of a block that is not in the cache.
pub const NO_SLOT: u32 = u32::MAX;

/// A run of records that is read and checked as one. It ends where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    /// Ordinal of its first record.
    first: u32,
    /// Bytes of data before it.
    offset: u32,
    /// Checksum of its bytes.
    crc: u32,
    /// Where the cache has it.
    slot: u32,
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its block.
    pub block: u32,
    /// Bytes of the block before it.
    pub start: u32,
    /// Its own bytes.
    pub size: u32,
}

/// How many records, and the bytes that they take in the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many records.
    pub records: u32,
    /// Their bytes.
    pub size: u64,
}

/// The directory of a sealed segment.
#[derive(Clone, Debug)]
pub struct Sealed {
    number: u64,
    origin: Origin,
    seal: Seal,
    summary: Summary,
    swept: Revision,
    /// Revision of each record, from the first one's.
    mains: Vec<u32>,
    /// Each record's place in its revision; empty if all are 0.
    subs: Vec<u32>,
    /// Bytes of data up to the end of each record.
    ends: Vec<u32>,
    /// A bit for each record, up to the last tombstone.
    tombstones: Vec<u64>,
    /// The records with leases, by ordinal.
    leases: Vec<(u32, LeaseId)>,
    blocks: Vec<Block>,
    /// A bit for each record that has been forgotten; empty if none has.
    forgotten: Vec<u64>,
    /// What has been forgotten, tombstones apart.
    dead: Count,
    dead_tombstones: Count,
}

impl Sealed {
    /// A segment of which no record is known yet.
    pub(super) fn empty(identity: Identity, listed: &Segment) -> Self {
        let Segment { number, swept, summary, origin } = *listed;
        Self {
            number,
            origin,
            seal: identity.of(origin).segment_seal(origin.number),
            summary,
            swept,
            mains: Vec::with_capacity(usize_from(summary.record_count)),
            subs: Vec::new(),
            ends: Vec::with_capacity(usize_from(summary.record_count)),
            tombstones: Vec::new(),
            leases: Vec::new(),
            blocks: Vec::with_capacity(usize_from(summary.block_count)),
            forgotten: Vec::new(),
            dead: Count::default(),
            dead_tombstones: Count::default(),
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its file.
    #[must_use]
    pub fn file(&self) -> FileId {
        FileId::Segment(self.number)
    }

    /// What its footer says.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// It has no put that was dead when this was the floor.
    #[must_use]
    pub fn swept(&self) -> Revision {
        self.swept
    }

    /// Raises the floor.
    pub fn sweep(&mut self, floor: Revision) {
        self.swept = self.swept.max(floor);
    }

    /// How the manifest lists it.
    #[must_use]
    pub fn listed(&self) -> Segment {
        let Self { number, swept, summary, origin, .. } = *self;
        Segment { number, swept, summary, origin }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn memory_size(&self) -> usize {
        size_of::<Self>()
            + 4 * (self.mains.capacity() + self.subs.capacity() + self.ends.capacity())
            + 8 * (self.tombstones.capacity() + self.forgotten.capacity())
            + size_of::<(u32, LeaseId)>() * self.leases.capacity()
            + size_of::<Block>() * self.blocks.capacity()
    }

    /// How many records it has, dead or alive.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        u32_from(self.ends.len())
    }

    /// The record at `location`, if there is one.
    #[must_use]
    pub fn find(&self, location: Location) -> Option<u32> {
        let ordinal = self.find_from(location);
        (ordinal < self.record_count() && self.location(ordinal) == location).then_some(ordinal)
    }

    /// The first record at `location` or after; the count of records if there is none.
    ///
    /// # Cost
    /// A guess and a step, where revisions are dense; else as the logarithm of the guess's error.
    #[must_use]
    pub fn find_from(&self, location: Location) -> u32 {
        let past = location.main.0 - self.summary.first.main.0;
        let Ok(main) = u32::try_from(past) else {
            return if past < 0 { 0 } else { self.record_count() };
        };
        let guess = guess(main, self.mains.last().copied().unwrap_or(0), self.mains.len());
        let start = partition(self.mains.len(), guess, |at| self.mains[at] < main);
        if self.mains.get(start) != Some(&main) || location.sub == 0 {
            return u32_from(start);
        }
        if self.subs.is_empty() {
            return u32_from(start + 1);
        }
        let run = self.mains[start..].partition_point(|&other| other == main);
        let subs = &self.subs[start..start + run];
        let sub = partition(run, usize_from(location.sub), |at| subs[at] < location.sub);
        u32_from(start + sub)
    }

    /// Where a record lies in the order of all changes.
    ///
    /// # Panics
    /// If there is no such record.
    #[must_use]
    pub fn location(&self, ordinal: u32) -> Location {
        let at = usize_from(ordinal);
        Location {
            main: Revision(self.summary.first.main.0 + i64::from(self.mains[at])),
            sub: self.subs.get(at).copied().unwrap_or(0),
        }
    }

    /// Where a record lies in the file.
    ///
    /// # Panics
    /// If there is no such record.
    #[must_use]
    pub fn place(&self, ordinal: u32) -> Place {
        let range = self.range(ordinal);
        let block = self.block_of(ordinal);
        let start = range.start - self.blocks[usize_from(block)].offset;
        Place { block, start, size: range.end - range.start }
    }

    /// Bytes of the value of a record with a key of `key_size` bytes.
    ///
    /// # Panics
    /// If there is no such record, or it has a shorter key.
    #[must_use]
    pub fn value_size(&self, ordinal: u32, key_size: usize) -> usize {
        self.record_size(ordinal) - RECORD_HEADER_SIZE - key_size
    }

    /// Bytes of a record.
    ///
    /// # Panics
    /// If there is no such record.
    #[must_use]
    pub fn record_size(&self, ordinal: u32) -> usize {
        let range = self.range(ordinal);
        usize_from(range.end - range.start)
    }

    /// The lease of a record; 0 is none.
    #[must_use]
    pub fn lease(&self, ordinal: u32) -> LeaseId {
        let guess = guess(ordinal, self.record_count(), self.leases.len());
        let at = partition(self.leases.len(), guess, |at| self.leases[at].0 < ordinal);
        self.leases.get(at).filter(|found| found.0 == ordinal).map_or(LeaseId(0), |found| found.1)
    }

    /// Whether any record has a lease.
    #[must_use]
    pub fn has_leases(&self) -> bool {
        !self.leases.is_empty()
    }

    /// Whether a record is a tombstone.
    #[must_use]
    pub fn is_tombstone(&self, ordinal: u32) -> bool {
        let word = self.tombstones.get(usize_from(ordinal / 64)).copied().unwrap_or(0);
        word >> (ordinal % 64) & 1 == 1
    }

    /// How many blocks it has.
    #[must_use]
    pub fn block_count(&self) -> u32 {
        u32_from(self.blocks.len())
    }

    /// The block of a record.
    ///
    /// # Panics
    /// If there is no such record.
    #[must_use]
    pub fn block_of(&self, ordinal: u32) -> u32 {
        assert!(ordinal < self.record_count(), "the record is there");
        let guess = guess(ordinal, self.record_count(), self.blocks.len());
        let next = partition(self.blocks.len(), guess, |at| self.blocks[at].first <= ordinal);
        u32_from(next - 1)
    }

    /// The records of a block.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn block_records(&self, block: u32) -> Range<u32> {
        let at = usize_from(block);
        let end = self.blocks.get(at + 1).map_or(self.record_count(), |next| next.first);
        self.blocks[at].first..end
    }

    /// Where a block lies in the file: bytes before it, and its own.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn block_extent(&self, block: u32) -> (u64, usize) {
        let at = usize_from(block);
        let start = self.blocks[at].offset;
        let end = self.blocks.get(at + 1).map_or(self.data_end(), |next| next.offset);
        (SEGMENT_HEADER_SIZE as u64 + u64::from(start), usize_from(end - start))
    }

    /// Where the cache has a block; [`NO_SLOT`] is nowhere.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn slot(&self, block: u32) -> u32 {
        self.blocks[usize_from(block)].slot
    }

    /// Notes where the cache has a block.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn set_slot(&mut self, block: u32, slot: u32) {
        self.blocks[usize_from(block)].slot = slot;
    }

    /// Checks the bytes that were read of a block: that they are as written, and that each record
    /// is the one that the directory lists.
    ///
    /// # Errors
    /// What is damaged; then none of them may be used.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn check(&self, block: u32, bytes: &[u8]) -> Result<(), Damage> {
        let (offset, size) = self.block_extent(block);
        let damage = |offset, cause| Damage { file: self.file().to_string(), offset, cause };
        if bytes.len() != size {
            let cause = Cause::Short { expected: size, found: bytes.len() };
            return Err(damage(offset, cause));
        }
        if self.seal.checksum_at(offset, &[bytes]) != self.blocks[usize_from(block)].crc {
            return Err(damage(offset, Cause::Block));
        }
        let mut start = 0;
        for ordinal in self.block_records(block) {
            let end = start + self.record_size(ordinal);
            let record = ChangeRef::decode_record(&bytes[start..end]);
            let is_listed = record.is_some_and(|record| {
                record.location == self.location(ordinal)
                    && record.lease == self.lease(ordinal)
                    && record.is_tombstone() == self.is_tombstone(ordinal)
            });
            if !is_listed {
                return Err(damage(offset + start as u64, Cause::Record));
            }
            start = end;
        }
        Ok(())
    }

    /// Checks those blocks that lie whole in `bytes`, which were read at `offset` of the file.
    ///
    /// # Errors
    /// What is damaged.
    ///
    /// # Cost
    /// Linear in the blocks; a search for the first.
    pub fn check_within(&self, offset: u64, bytes: &[u8]) -> Result<(), Damage> {
        let start = offset.saturating_sub(SEGMENT_HEADER_SIZE as u64);
        let first = self.blocks.partition_point(|block| u64::from(block.offset) < start);
        for block in u32_from(first)..self.block_count() {
            let (at, size) = self.block_extent(block);
            let from = usize::try_from(at - offset).expect("it begins there or behind");
            let Some(found) = bytes.get(from..from + size) else { break };
            self.check(block, found)?;
        }
        Ok(())
    }

    /// A record in the bytes of its block, which have been checked.
    ///
    /// # Panics
    /// If there is no such record.
    #[must_use]
    pub fn record<'a>(&self, place: Place, block: &'a [u8]) -> ChangeRef<'a> {
        let start = usize_from(place.start);
        let bytes = &block[start..start + usize_from(place.size)];
        ChangeRef::decode_record(bytes).expect("the block was checked")
    }

    /// Notes that a change is dead for good; whether that is news.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn forget(&mut self, ordinal: u32) -> bool {
        let size = self.record_size(ordinal) as u64;
        let is_tombstone = self.is_tombstone(ordinal);
        let (word, bit) = (usize_from(ordinal / 64), 1 << (ordinal % 64));
        if self.forgotten.len() <= word {
            let records = usize_from(self.summary.record_count.max(self.record_count()));
            self.forgotten.resize(records.div_ceil(64), 0);
        }
        if self.forgotten[word] & bit != 0 {
            return false;
        }
        self.forgotten[word] |= bit;
        let dead = if is_tombstone { &mut self.dead_tombstones } else { &mut self.dead };
        dead.records += 1;
        dead.size += size;
        true
    }

    /// Whether a record's change is dead.
    #[must_use]
    pub fn is_dead(&self, ordinal: u32) -> bool {
        let word = self.forgotten.get(usize_from(ordinal / 64)).copied().unwrap_or(0);
        word >> (ordinal % 64) & 1 == 1
    }

    /// The dead puts.
    #[must_use]
    pub fn dead(&self) -> Count {
        self.dead
    }

    /// The dead tombstones.
    #[must_use]
    pub fn dead_tombstones(&self) -> Count {
        self.dead_tombstones
    }

    /// The records that are not dead.
    #[must_use]
    pub fn live(&self) -> Count {
        Count {
            records: self.record_count() - self.dead.records - self.dead_tombstones.records,
            size: u64::from(self.data_end()) - self.dead.size - self.dead_tombstones.size,
        }
    }

    fn range(&self, ordinal: u32) -> Range<u32> {
        let at = usize_from(ordinal);
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[at]
    }

    /// Adds the next record, `size` bytes long, to a segment that is not full.
    pub(super) fn push(&mut self, location: Location, size: u32) {
        let at = self.ends.len();
        if at == 0 {
            self.summary.first = location;
        }
        let main = location.main.0 - self.summary.first.main.0;
        if location.sub != 0 && self.subs.is_empty() {
            self.subs.reserve_exact(self.mains.capacity());
            self.subs.resize(at, 0);
        }
        if location.sub != 0 || !self.subs.is_empty() {
            self.subs.push(location.sub);
        }
        self.mains.push(u32::try_from(main).expect("a segment spans less than 2^32 revisions"));
        self.ends.push(u32_from(usize_from(self.data_end()) + usize_from(size)));
        self.summary.last = location;
    }

    /// Notes the lease of the last record, if it has one.
    pub(super) fn note_lease(&mut self, lease: LeaseId) {
        if lease.0 != 0 {
            self.leases.push((self.record_count() - 1, lease));
        }
    }

    /// Notes that the last record is a tombstone.
    pub(super) fn note_tombstone(&mut self) {
        let ordinal = self.record_count() - 1;
        let word = usize_from(ordinal / 64);
        if self.tombstones.len() <= word {
            self.tombstones.resize(word + 1, 0);
        }
        self.tombstones[word] |= 1 << (ordinal % 64);
    }

    /// Adds the next block.
    pub(super) fn push_block(&mut self, first: u32, offset: u32, crc: u32) {
        self.blocks.push(Block { first, offset, crc, slot: NO_SLOT });
    }

    /// Bytes of data of the records so far.
    pub(super) fn data_end(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// All records are there, and this is what they amount to.
    pub(super) fn complete(&mut self, summary: Summary) {
        self.summary = summary;
        fit(&mut self.mains);
        fit(&mut self.subs);
        fit(&mut self.ends);
        self.tombstones.shrink_to_fit();
        self.leases.shrink_to_fit();
        self.blocks.shrink_to_fit();
    }
}

/// A segment whose directory is being read, page by page.
#[derive(Debug)]
pub struct Opening {
    sealed: Sealed,
    /// Bytes of pages taken in.
    offset: u64,
    /// The headers of these pages.
    headers: Vec<u8>,
}

impl Opening {
    /// The segment that the manifest of this store lists like this.
    #[must_use]
    pub fn new(identity: Identity, listed: &Segment) -> Self {
        let sealed = Sealed::empty(identity, listed);
        Self { sealed, offset: 0, headers: Vec::new() }
    }

    /// The segment as far as it is known.
    #[must_use]
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// The same, to be told what of it is dead.
    pub fn sealed_mut(&mut self) -> &mut Sealed {
        &mut self.sealed
    }

    /// Bytes of pages that are still to come.
    #[must_use]
    pub fn size_left(&self) -> u64 {
        self.sealed.summary.directory_size - self.offset
    }

    /// Where the next page begins, in bytes from the start of the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.sealed.summary.directory_at() + self.offset
    }

    /// Bytes of the next page, whose header is at the front of `bytes`.
    ///
    /// # Errors
    /// [`Cause::Directory`] if there can be no such page.
    ///
    /// # Panics
    /// If `bytes` is shorter than a header.
    pub fn page_size(&self, bytes: &[u8]) -> Result<usize, Damage> {
        let size = PageHeader::decode(bytes).map(|it| PAGE_HEADER_SIZE + usize_from(it.size));
        size.filter(|&size| size as u64 <= self.size_left())
            .ok_or_else(|| self.damage(self.offset(), Cause::Directory))
    }

    /// Takes in the next page, and tells of each of its entries where in `page` its key is.
    ///
    /// # Errors
    /// Where it is damaged. Nothing is told then, and the segment is lost.
    ///
    /// # Panics
    /// Unless `page` is [`Self::page_size`] long.
    pub fn page(&mut self, page: &[u8], entries: &mut Vec<EntryAt>) -> Result<(), Damage> {
        entries.clear();
        let at = self.offset();
        let damage = self.damage(at, Cause::Directory);
        let Some(header) = PageHeader::decode(page) else { return Err(damage) };
        assert!(page.len() == PAGE_HEADER_SIZE + usize_from(header.size), "one page");
        if !header.is_whole(self.sealed.seal, self.offset, page) {
            return Err(damage);
        }
        if self.blocks(header, page, entries).is_none() {
            entries.clear();
            return Err(damage);
        }
        self.headers.extend_from_slice(&page[..PAGE_HEADER_SIZE]);
        self.offset += page.len() as u64;
        Ok(())
    }

    fn blocks(
        &mut self,
        header: PageHeader,
        page: &[u8],
        entries: &mut Vec<EntryAt>,
    ) -> Option<()> {
        let mut rest = Rest::new(&page[PAGE_HEADER_SIZE..]);
        let mut previous = header.main;
        let mut left = header.record_count;
        for _ in 0..header.block_count {
            let (records, size, crc) = rest.block()?;
            left = left.checked_sub(records)?;
            let (first, offset) = (self.sealed.record_count(), self.sealed.data_end());
            let room = self.sealed.summary.data_size.checked_sub(u64::from(offset))?;
            if records == 0
                || u64::from(size) > room
                || records > self.sealed.summary.record_count - first
                || self.sealed.block_count() == self.sealed.summary.block_count
            {
                return None;
            }
            self.sealed.push_block(first, offset, crc);
            for _ in 0..records {
                let entry = rest.entry(previous)?;
                previous = entry.location.main;
                self.entry(&entry, offset + size)?;
                let key_end = page.len() - rest.size();
                entries.push(EntryAt::new(&entry, key_end)?);
            }
            if self.sealed.data_end() != offset + size {
                return None;
            }
        }
        (left == 0 && rest.size() == 0).then_some(())
    }

    /// Takes in an entry of a block that ends at `end` bytes of data.
    fn entry(&mut self, entry: &Listed<'_>, end: u32) -> Option<()> {
        let summary = &self.sealed.summary;
        let is_first = self.sealed.ends.is_empty();
        let follows = if is_first {
            entry.location == summary.first
        } else {
            let last = self.sealed.location(self.sealed.record_count() - 1);
            last < entry.location && entry.location <= summary.last
        };
        if !follows || entry.size > end - self.sealed.data_end() {
            return None;
        }
        let last = summary.last;
        self.sealed.push(entry.location, entry.size);
        self.sealed.summary.last = last;
        self.sealed.note_lease(entry.lease);
        if entry.version == 0 {
            self.sealed.note_tombstone();
        }
        Some(())
    }

    /// The segment, once all pages are in. `tail` is what follows them in the file, up to its end.
    ///
    /// # Errors
    /// What is damaged.
    ///
    /// # Panics
    /// If pages are still to come, or `tail` is not what is left of the file.
    pub fn finish(mut self, tail: &[u8]) -> Result<Sealed, Damage> {
        let summary = self.sealed.summary;
        assert!(self.size_left() == 0, "all pages are in");
        assert!(tail.len() as u64 == summary.file_size() - summary.padding_at(), "all of the file");
        let (padding, footer) = tail.split_at(summary.padding_size());
        let damage = |cause| self.damage(summary.footer_at(), cause);
        match Summary::decode_footer(self.sealed.seal, summary.file_size(), footer) {
            Ok(found) if found == summary => {}
            Ok(_) => return Err(damage(Cause::Unlisted)),
            Err(NotOurs::Version(found)) => return Err(damage(Cause::Version { found })),
            Err(NotOurs::Foreign | NotOurs::Broken) => return Err(damage(Cause::Footer)),
        }
        let is_whole = padding.iter().all(|&byte| byte == 0)
            && summary.directory_crc(self.sealed.seal, &self.headers) == summary.directory_crc
            && self.sealed.record_count() == summary.record_count
            && self.sealed.block_count() == summary.block_count
            && u64::from(self.sealed.data_end()) == summary.data_size
            && self.sealed.location(summary.record_count - 1) == summary.last;
        if !is_whole {
            return Err(self.damage(summary.padding_at(), Cause::Directory));
        }
        self.sealed.complete(summary);
        Ok(self.sealed)
    }

    fn damage(&self, offset: u64, cause: Cause) -> Damage {
        Damage { file: self.sealed.file().to_string(), offset, cause }
    }
}

/// An entry of a page, and where in the page its key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryAt {
    location: Location,
    created: Revision,
    version: i64,
    lease: LeaseId,
    key_at: u32,
    key_size: u32,
}

impl EntryAt {
    fn new(entry: &Listed<'_>, key_end: usize) -> Option<Self> {
        Some(Self {
            location: entry.location,
            created: entry.created,
            version: entry.version,
            lease: entry.lease,
            key_at: u32::try_from(key_end - entry.key.len()).ok()?,
            key_size: u32::try_from(entry.key.len()).ok()?,
        })
    }

    /// The entry, with its key from the page.
    ///
    /// # Panics
    /// If `page` is not the entry's.
    #[must_use]
    pub fn entry<'a>(&self, page: &'a [u8]) -> Entry<'a> {
        let at = usize_from(self.key_at);
        Entry {
            location: self.location,
            key: &page[at..at + usize_from(self.key_size)],
            created: self.created,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// A change as a restart hears of it: without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it lies in the order of all changes.
    pub location: Location,
    /// The key.
    pub key: &'a [u8],
    /// The revision that began the key's life; 0 in a tombstone.
    pub created: Revision,
    /// Puts since, this one included; 0 is a tombstone.
    pub version: i64,
    /// The lease the key is attached to; 0 is none.
    pub lease: LeaseId,
}

/// Where `value` of `0..=max` may be expected among `len` sorted and evenly spread ones.
fn guess(value: u32, max: u32, len: usize) -> usize {
    let guess = u64::from(value) * len.saturating_sub(1) as u64 / u64::from(max.max(1));
    usize::try_from(guess).expect("64 bits")
}

/// How many of `0..len` are before, all of which come first, looking about `guess` first.
fn partition(len: usize, guess: usize, is_before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high, mut step) = (0, len, 1);
    let Some(last) = len.checked_sub(1) else { return 0 };
    let at = guess.min(last);
    if is_before(at) {
        low = at + 1;
        while low - 1 + step < high {
            let probe = low - 1 + step;
            if !is_before(probe) {
                high = probe;
                break;
            }
            low = probe + 1;
            step *= 2;
        }
    } else {
        high = at;
        while let Some(probe) = high.checked_sub(step) {
            if is_before(probe) {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Lets go of room beyond what there is. Shrinking does not: an allocator keeps one that is half
/// full where it is, at its size.
fn fit<T: Copy>(items: &mut Vec<T>) {
    *items = items.as_slice().to_vec();
}

fn u32_from(count: usize) -> u32 {
    u32::try_from(count).expect("a segment has less than 4 GiB")
}

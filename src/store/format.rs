//! The revision store on disk. This page is the format; the tests hold the code to it.
//!
//! # Purpose
//!
//! A store is a directory with one *manifest* and the *segments* that it lists. A segment has a
//! header of one block (4096 bytes), the *data*, the *directory*, zeros, and a footer that ends the
//! file at a multiple of 4096 bytes. Data is records back to back, in the order of their locations.
//! The directory follows it without a gap: pages back to back, that list the same records
//! in the same order without their values. All integers are little-endian.
//!
//! Records are checked by the *block*, a run of whole records that the directory marks off. Every
//! byte of a file is under a checksum: the header and the footer have their own, a block's stands
//! in the directory, a page's in the page, and the zeros' in the footer.
//!
//! A checksum is CRC-32 (IEEE) of the file's identity, of the place where the bytes in question
//! begin (8 bytes), and of these bytes. The place of a page is its offset in the directory, of all
//! else in the file. The identity of a segment is `RGSG`, the store (8 bytes), the shard (4) and
//! the segment's number (8); of a manifest `RGSM`, the store and the shard.
//!
//! # Segment header
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | magic | `RGSG` |
//! | 4 | 2 | format_version | 1 |
//! | 6 | 2 | flags | zero; a reader refuses any bit it does not know |
//! | 8 | 8 | store_id | the same in every file of a store |
//! | 16 | 8 | number | of this segment; its file is `<16 hex digits>.segment` |
//! | 24 | 4 | shard | whose store it is |
//! | 28 | 4 | crc | of bytes 0..28, then 32..4096 |
//! | 32 | 4064 | reserved | zero |
//!
//! # Record
//!
//! This header, the key and the value. The directory tells the record's size, and so the value's.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 8 | main | the revision that made the change, from 1 |
//! | 8 | 4 | sub | its place among that revision's changes |
//! | 12 | 4 | key_size | bytes of the key |
//! | 16 | 8 | created | the revision that began the key's life; 0 in a tombstone |
//! | 24 | 8 | version | puts since, this one included; 0 is a tombstone |
//! | 32 | 8 | lease | the lease's id; 0 is none |
//!
//! # Page header
//!
//! The blocks of the page follow, without a gap.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | crc | of bytes 4..24, then of the blocks |
//! | 4 | 4 | size | bytes of blocks that follow this header |
//! | 8 | 4 | block_count | how many blocks, 1 at least |
//! | 12 | 4 | record_count | how many entries they have |
//! | 16 | 8 | main | the revision of the first entry |
//!
//! # Block in a page
//!
//! This header, then an entry for each record of the block, without a gap.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | record_count | how many records, 1 at least |
//! | 4 | 4 | size | bytes of data; the next block's begin behind them |
//! | 8 | 4 | crc | of these bytes |
//!
//! # Entry in a block
//!
//! Numbers of seven bits a byte, the lowest first; the top bit says that another byte follows. The
//! first entry of a page is 0 revisions past what is before it.
//!
//! | field | when | value |
//! |--------------|----------------|------------------------------------------------------------|
//! | step | always | bit 0: a sub follows; bit 1: a lease; above: revisions past the entry before |
//! | sub | it is not 0 | as in the record |
//! | version | always | as in the record |
//! | age | no tombstone | how much the key's life began before this revision |
//! | lease | it has one | as in the record, without a sign |
//! | key_size | always | as in the record |
//! | value_size | no tombstone | bytes of the value |
//! | key | always | as in the record |
//!
//! # Segment footer
//!
//! The last 64 bytes of the file. Bytes 8..60 are the segment's *summary*.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | magic | `RGSE` |
//! | 4 | 2 | format_version | 1 |
//! | 6 | 2 | flags | zero |
//! | 8 | 8 | data_size | bytes of records, from 4096 on; less than 4 GiB |
//! | 16 | 8 | directory_size | bytes of pages that follow |
//! | 24 | 8 | first_main | location of the first record |
//! | 32 | 8 | last_main | location of the last record, less than 2^32 revisions later |
//! | 40 | 4 | first_sub | |
//! | 44 | 4 | last_sub | |
//! | 48 | 4 | record_count | how many, 1 at least |
//! | 52 | 4 | block_count | how many, 1 at least |
//! | 56 | 4 | directory_crc | of all page headers, then of the zeros, at the directory's offset |
//! | 60 | 4 | crc | of bytes 0..60 |
//!
//! # Manifest
//!
//! This header, the listed segments in the order of their revisions, the state, and zeros up to a
//! multiple of 4096 bytes. It is less than 256 MiB.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | magic | `RGSM` |
//! | 4 | 2 | format_version | 2 |
//! | 6 | 2 | flags | bit 0: *arrived*, see below; others zero |
//! | 8 | 8 | store_id | whose store it is |
//! | 16 | 8 | sequence | from 1, one more in each manifest |
//! | 24 | 8 | number_next | above the number of every segment that was ever listed |
//! | 32 | 4 | shard | as in the segments |
//! | 36 | 4 | segment_count | how many are listed |
//! | 40 | 4 | state_size | bytes of the owner's state |
//! | 44 | 4 | body_crc | of everything behind this header |
//! | 48 | 12 | reserved | zero |
//! | 60 | 4 | crc | of bytes 0..60 |
//!
//! What has *arrived* came from a peer, as a snapshot, in the place of all that there was. The log
//! beside it may not reach as far; if it does not hold the last entry of the state, nothing in it
//! counts any more. The next state that is sealed here has not arrived.
//!
//! # Segment in a manifest
//!
//! A segment that arrived is as it was in the store that sealed it, and its header and checksums
//! name that one. Its file has a number of this store's.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 8 | number | of the segment |
//! | 8 | 8 | swept | it has no put that was dead when this was the floor; 0 is no claim |
//! | 16 | 52 | summary | as in the segment's footer |
//! | 68 | 4 | reserved | zero |
//! | 72 | 8 | origin_store | the store that sealed it |
//! | 80 | 8 | origin_number | the number that it has there |
//!
//! # History
//!
//! Version 1: the first. Version 2, of the manifest: what arrived. In version 1 a listed segment
//! ends at byte 72, each is of the manifest's own store and has its number, and no flag is known;
//! it is read, and never written.

pub use super::record::{ChangeRef, Listed, Rest};

use crate::frame::BLOCK_SIZE;
use crate::frame::Seal;
use crate::frame::{u16_at, u32_at, u64_at};
use crate::types::Location;
use crate::types::Revision;
use crate::types::ShardId;

/// The version of segments that this code writes, and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;
/// The version of manifests that this code writes.
pub const MANIFEST_VERSION: u16 = 2;
/// The version of manifests without origins, which is read too.
pub const MANIFEST_VERSION_FIRST: u16 = 1;
/// The first bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 4] = *b"RGSG";
/// The first bytes of a segment's footer.
pub const FOOTER_MAGIC: [u8; 4] = *b"RGSE";
/// The first bytes of a manifest.
pub const MANIFEST_MAGIC: [u8; 4] = *b"RGSM";
/// Size of a segment header in bytes, and the offset of the first record.
pub const SEGMENT_HEADER_SIZE: usize = BLOCK_SIZE;
/// Size of a record header in bytes.
pub const RECORD_HEADER_SIZE: usize = 40;
/// Size of a page header in bytes.
pub const PAGE_HEADER_SIZE: usize = 24;
/// Size of a block header in a page, in bytes.
pub const BLOCK_HEADER_SIZE: usize = 12;
/// Size of a segment footer in bytes.
pub const FOOTER_SIZE: usize = 64;
/// Size of a manifest header in bytes.
pub const MANIFEST_HEADER_SIZE: usize = 64;
/// Size of a listed segment in a manifest, in bytes.
pub const LISTED_SIZE: usize = 88;
/// The same in the version without origins.
pub const LISTED_SIZE_FIRST: usize = 72;
/// Size of a summary in bytes.
pub const SUMMARY_SIZE: usize = 52;
/// Bytes of an entry at least: its step, version and key size.
pub const ENTRY_SIZE_MIN: usize = 3;

/// Bytes of records in a segment at most: their ends are kept as `u32`.
pub const DATA_SIZE_MAX: u64 = u32::MAX as u64;
/// Bytes of pages in a segment at most.
pub const DIRECTORY_SIZE_MAX: u64 = 1 << 40;
/// Highest revision, version, number or sequence believed, so that counting on from it cannot
/// overflow.
pub const NUMBER_MAX: u64 = 1 << 62;
/// Bytes of a manifest at most: recovery holds it in memory.
pub const MANIFEST_SIZE_MAX: u64 = 256 << 20;

const SEGMENT_CRC_AT: usize = 28;
const FOOTER_CRC_AT: usize = 60;
const SUMMARY_AT: usize = 8;

/// Where each field lies, of each table in turn: name, offset and size in bytes.
pub const FIELDS: [(&str, usize, usize); 53] = [
    ("magic", 0, 4),
    ("format_version", 4, 2),
    ("flags", 6, 2),
    ("store_id", 8, 8),
    ("number", 16, 8),
    ("shard", 24, 4),
    ("crc", 28, 4),
    ("reserved", 32, 4064),
    ("main", 0, 8),
    ("sub", 8, 4),
    ("key_size", 12, 4),
    ("created", 16, 8),
    ("version", 24, 8),
    ("lease", 32, 8),
    ("crc", 0, 4),
    ("size", 4, 4),
    ("block_count", 8, 4),
    ("record_count", 12, 4),
    ("main", 16, 8),
    ("record_count", 0, 4),
    ("size", 4, 4),
    ("crc", 8, 4),
    ("magic", 0, 4),
    ("format_version", 4, 2),
    ("flags", 6, 2),
    ("data_size", 8, 8),
    ("directory_size", 16, 8),
    ("first_main", 24, 8),
    ("last_main", 32, 8),
    ("first_sub", 40, 4),
    ("last_sub", 44, 4),
    ("record_count", 48, 4),
    ("block_count", 52, 4),
    ("directory_crc", 56, 4),
    ("crc", 60, 4),
    ("magic", 0, 4),
    ("format_version", 4, 2),
    ("flags", 6, 2),
    ("store_id", 8, 8),
    ("sequence", 16, 8),
    ("number_next", 24, 8),
    ("shard", 32, 4),
    ("segment_count", 36, 4),
    ("state_size", 40, 4),
    ("body_crc", 44, 4),
    ("reserved", 48, 12),
    ("crc", 60, 4),
    ("number", 0, 8),
    ("swept", 8, 8),
    ("summary", 16, 52),
    ("reserved", 68, 4),
    ("origin_store", 72, 8),
    ("origin_number", 80, 8),
];

const _: () = assert!(usize::BITS == 64);
const _: () = assert!(SUMMARY_AT + SUMMARY_SIZE == FOOTER_CRC_AT);
const _: () = {
    let sizes = [
        SEGMENT_HEADER_SIZE,
        RECORD_HEADER_SIZE,
        PAGE_HEADER_SIZE,
        BLOCK_HEADER_SIZE,
        FOOTER_SIZE,
        MANIFEST_HEADER_SIZE,
        LISTED_SIZE,
    ];
    let (mut i, mut end, mut done) = (0, 0, 0);
    while i < FIELDS.len() {
        if FIELDS[i].1 == 0 && i > 0 {
            assert!(end == sizes[done], "fields fill their header");
            done += 1;
            end = 0;
        }
        assert!(FIELDS[i].1 == end, "fields leave no gap");
        end += FIELDS[i].2;
        i += 1;
    }
    assert!(done == 6 && end == sizes[6]);
};

/// Which store it is: what no two stores share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The member's, drawn once.
    pub store_id: u64,
    /// Whose store it is.
    pub shard: ShardId,
}

impl Identity {
    /// The seal of the segment of this number.
    #[must_use]
    pub fn segment_seal(self, number: u64) -> Seal {
        let mut bytes = [0; 24];
        bytes[..16].copy_from_slice(&self.bytes(SEGMENT_MAGIC));
        bytes[16..].copy_from_slice(&number.to_le_bytes());
        Seal::new(&bytes)
    }

    /// What a segment of this number that is sealed here has for its origin.
    #[must_use]
    pub fn origin(self, number: u64) -> Origin {
        Origin { store_id: self.store_id, number }
    }

    /// The store that a segment of the same shard comes from.
    #[must_use]
    pub fn of(self, origin: Origin) -> Self {
        Self { store_id: origin.store_id, ..self }
    }

    /// The seal of the manifest.
    #[must_use]
    pub fn manifest_seal(self) -> Seal {
        Seal::new(&self.bytes(MANIFEST_MAGIC))
    }

    fn bytes(self, magic: [u8; 4]) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&magic);
        bytes[4..12].copy_from_slice(&self.store_id.to_le_bytes());
        bytes[12..].copy_from_slice(&self.shard.0.to_le_bytes());
        bytes
    }
}

/// Who sealed a segment, and under which number: what its checksums name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The store.
    pub store_id: u64,
    /// The segment's number there.
    pub number: u64,
}

/// Why bytes are not the beginning, or the end, of one of our files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOurs {
    /// They do not begin with the magic.
    Foreign,
    /// They are of a format version that this code does not know.
    Version(u16),
    /// A checksum, a reserved byte or a number is wrong.
    Broken,
}

/// Checks what every header and footer begins with.
pub(super) fn check_start(bytes: &[u8], magic: [u8; 4]) -> Result<(), NotOurs> {
    if bytes[0..4] != magic {
        return Err(NotOurs::Foreign);
    }
    match u16_at(bytes, 4) {
        FORMAT_VERSION => Ok(()),
        version => Err(NotOurs::Version(version)),
    }
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose segment it is.
    pub identity: Identity,
    /// Its number.
    pub number: u64,
}

impl SegmentHeader {
    /// The first block of the segment.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; SEGMENT_HEADER_SIZE];
        block[0..4].copy_from_slice(&SEGMENT_MAGIC);
        block[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[8..16].copy_from_slice(&self.identity.store_id.to_le_bytes());
        block[16..24].copy_from_slice(&self.number.to_le_bytes());
        block[24..28].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        let crc = self.crc(&block);
        block[28..32].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads the first block of a segment.
    ///
    /// # Errors
    /// What it is instead.
    ///
    /// # Panics
    /// Unless `block` is one block.
    pub fn decode(block: &[u8]) -> Result<Self, NotOurs> {
        assert!(block.len() == SEGMENT_HEADER_SIZE, "a segment header is a block");
        check_start(block, SEGMENT_MAGIC)?;
        let identity = Identity { store_id: u64_at(block, 8), shard: ShardId(u32_at(block, 24)) };
        let header = Self { identity, number: u64_at(block, 16) };
        let is_zero = u16_at(block, 6) == 0 && block[32..].iter().all(|&byte| byte == 0);
        let is_whole = header.crc(block) == u32_at(block, SEGMENT_CRC_AT);
        if is_zero && is_whole { Ok(header) } else { Err(NotOurs::Broken) }
    }

    fn crc(&self, block: &[u8]) -> u32 {
        let seal = self.identity.segment_seal(self.number);
        seal.checksum_at(0, &[&block[..SEGMENT_CRC_AT], &block[SEGMENT_CRC_AT + 4..]])
    }
}

/// What a segment holds, as its footer and the manifest say.
///
/// # Shape
/// `first <= last`; there is at least one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of records, from [`SEGMENT_HEADER_SIZE`] on.
    pub data_size: u64,
    /// Bytes of pages that follow.
    pub directory_size: u64,
    /// Location of the first record.
    pub first: Location,
    /// Location of the last record.
    pub last: Location,
    /// How many records.
    pub record_count: u32,
    /// How many blocks.
    pub block_count: u32,
    /// Checksum of the page headers and the zeros behind the pages.
    pub directory_crc: u32,
}

impl Summary {
    /// Where the directory begins, in bytes from the start of the file.
    #[must_use]
    pub fn directory_at(&self) -> u64 {
        SEGMENT_HEADER_SIZE as u64 + self.data_size
    }

    /// Where the zeros behind the directory begin.
    #[must_use]
    pub fn padding_at(&self) -> u64 {
        self.directory_at() + self.directory_size
    }

    /// Bytes of the file.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        (self.padding_at() + FOOTER_SIZE as u64).next_multiple_of(BLOCK_SIZE as u64)
    }

    /// Where the footer begins.
    #[must_use]
    pub fn footer_at(&self) -> u64 {
        self.file_size() - FOOTER_SIZE as u64
    }

    /// Bytes of zeros between the directory and the footer; less than a block.
    #[must_use]
    pub fn padding_size(&self) -> usize {
        usize::try_from(self.footer_at() - self.padding_at()).expect("less than a block")
    }

    /// The `directory_crc` of these page headers.
    #[must_use]
    pub fn directory_crc(&self, seal: Seal, headers: &[u8]) -> u32 {
        let padding = [0; BLOCK_SIZE];
        seal.checksum_at(self.directory_at(), &[headers, &padding[..self.padding_size()]])
    }

    /// Writes the summary into `bytes`.
    ///
    /// # Panics
    /// Unless `bytes` is [`SUMMARY_SIZE`] long.
    pub fn encode(&self, bytes: &mut [u8]) {
        assert!(bytes.len() == SUMMARY_SIZE, "a summary has its size");
        bytes[0..8].copy_from_slice(&self.data_size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.directory_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.main.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.main.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.first.sub.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.last.sub.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.block_count.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.directory_crc.to_le_bytes());
    }

    /// Reads the summary in `bytes`; `None` if no segment can have it.
    ///
    /// # Panics
    /// Unless `bytes` is [`SUMMARY_SIZE`] long.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        assert!(bytes.len() == SUMMARY_SIZE, "a summary has its size");
        let location = |main, sub| {
            let main = revision(u64_at(bytes, main)).filter(|main| main.0 > 0)?;
            Some(Location { main, sub: u32_at(bytes, sub) })
        };
        let summary = Self {
            data_size: u64_at(bytes, 0),
            directory_size: u64_at(bytes, 8),
            first: location(16, 32)?,
            last: location(24, 36)?,
            record_count: u32_at(bytes, 40),
            block_count: u32_at(bytes, 44),
            directory_crc: u32_at(bytes, 48),
        };
        summary.is_possible().then_some(summary)
    }

    /// Whether the numbers go together, so that room may be made for what they count.
    fn is_possible(&self) -> bool {
        let (records, blocks) = (u64::from(self.record_count), u64::from(self.block_count));
        let entries_min = records * ENTRY_SIZE_MIN as u64 + blocks * BLOCK_HEADER_SIZE as u64;
        self.first <= self.last
            && u32::try_from(self.last.main.0 - self.first.main.0).is_ok()
            && (1..=records).contains(&blocks)
            && (records > 1 || self.first == self.last)
            && self.data_size <= DATA_SIZE_MAX
            && self.data_size >= records * RECORD_HEADER_SIZE as u64
            && self.directory_size <= DIRECTORY_SIZE_MAX
            && self.directory_size >= entries_min + PAGE_HEADER_SIZE as u64
    }

    /// The segment's footer.
    #[must_use]
    pub fn encode_footer(&self, seal: Seal) -> [u8; FOOTER_SIZE] {
        let mut bytes = [0; FOOTER_SIZE];
        bytes[0..4].copy_from_slice(&FOOTER_MAGIC);
        bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        self.encode(&mut bytes[SUMMARY_AT..FOOTER_CRC_AT]);
        let crc = seal.checksum_at(self.footer_at(), &[&bytes[..FOOTER_CRC_AT]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the footer of a segment of `file_size` bytes.
    ///
    /// # Errors
    /// What it is instead.
    ///
    /// # Panics
    /// Unless `bytes` is [`FOOTER_SIZE`] long.
    pub fn decode_footer(seal: Seal, file_size: u64, bytes: &[u8]) -> Result<Self, NotOurs> {
        assert!(bytes.len() == FOOTER_SIZE, "a footer has its size");
        check_start(bytes, FOOTER_MAGIC)?;
        let at = file_size.saturating_sub(FOOTER_SIZE as u64);
        let crc = seal.checksum_at(at, &[&bytes[..FOOTER_CRC_AT]]);
        let is_whole = crc == u32_at(bytes, FOOTER_CRC_AT) && u16_at(bytes, 6) == 0;
        Self::decode(&bytes[SUMMARY_AT..FOOTER_CRC_AT])
            .filter(|summary| is_whole && summary.file_size() == file_size)
            .ok_or(NotOurs::Broken)
    }
}

/// What a page of a directory says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Checksum of what follows in the page.
    pub crc: u32,
    /// Bytes of blocks that follow the header.
    pub size: u32,
    /// How many blocks.
    pub block_count: u32,
    /// How many entries they have.
    pub record_count: u32,
    /// Revision of the first entry.
    pub main: Revision,
}

impl PageHeader {
    /// Writes all fields but the crc into the front of `page`, which is the header's room and the
    /// blocks; then the crc, for a page at `offset` in its directory.
    ///
    /// # Panics
    /// Unless `page` is a header and `size` bytes.
    pub fn seal(&self, seal: Seal, offset: u64, page: &mut [u8]) {
        assert!(page.len() == PAGE_HEADER_SIZE + usize_from(self.size), "a page is as it says");
        page[4..8].copy_from_slice(&self.size.to_le_bytes());
        page[8..12].copy_from_slice(&self.block_count.to_le_bytes());
        page[12..16].copy_from_slice(&self.record_count.to_le_bytes());
        page[16..24].copy_from_slice(&self.main.0.to_le_bytes());
        let crc = seal.checksum_at(offset, &[&page[4..]]);
        page[0..4].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header at the front of `bytes`; `None` if it is none. Nothing in it may be relied
    /// upon before the page [`Self::is_whole`].
    ///
    /// # Panics
    /// If `bytes` is shorter than a header.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            crc: u32_at(bytes, 0),
            size: u32_at(bytes, 4),
            block_count: u32_at(bytes, 8),
            record_count: u32_at(bytes, 12),
            main: revision(u64_at(bytes, 16))?,
        })
    }

    /// Whether `page`, header and blocks, at `offset` in its directory, is as it was written.
    ///
    /// # Panics
    /// If `page` is shorter than a header.
    #[must_use]
    pub fn is_whole(&self, seal: Seal, offset: u64, page: &[u8]) -> bool {
        seal.checksum_at(offset, &[&page[4..]]) == self.crc
    }
}

/// A revision that may be believed.
pub(super) fn revision(number: u64) -> Option<Revision> {
    i64::try_from(number).ok().filter(|_| number <= NUMBER_MAX).map(Revision)
}

pub(super) fn usize_from(size: u32) -> usize {
    usize::try_from(size).expect("a usize has 64 bits")
}

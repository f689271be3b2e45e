//! The revision store: every change of a shard's keys as bytes on disk.
//!
//! Changes come in the order of their [`Location`](crate::types::Location)s and are never altered.
//! The latest are in memory, in the *tail*. From time to time the tail is frozen and written as a
//! *segment*, a file that is sealed from then on: records back to back, and behind them a
//! *directory* that holds everything of each record but its value. The *manifest* lists the
//! segments in the order of their revisions, and is replaced as a whole; a segment is there from
//! the moment that a manifest names it. What the tail held is then safe without the log.
//!
//! A restart reads directories and no values. In memory a sealed segment is some ten bytes a
//! record: where each lies, and which belong to leases. Values are read by the *block*, a run of
//! whole records that is checked as one.
//!
//! Records whose changes are forgotten are dead. The cleaner writes what lives in a run of adjacent
//! segments to new ones, which take the place of the run in the next manifest, and removes the old
//! files when nobody reads them any more.
//!
//! Everything here is a machine without I/O: it says which files to make, write, rename, remove and
//! read, the driver does as told and reports back, and any failure it meets is final, but that
//! there is no room for what arrives from a peer ([`Store::lack`]).
//! [`Recovery`] is the same for the start.
//!
//! Bytes are in [`format`](mod@format). Left out: what keys mean, and which changes may be
//! forgotten.
//!
//! # Durability
//!
//! A [`Command::Write`] need not be durable when [`Event::Written`] is reported;
//! [`Command::Finish`] makes it so, with the file's name. A [`Command::Replace`] leaves either
//! manifest behind, whole, whenever the power goes.

pub mod builder;
mod cache;
mod clean;
pub mod format;
mod incoming;
mod machine;
pub mod manifest;
mod outgoing;
mod output;
mod plan;
mod read;
pub mod record;
pub mod recover;
mod seal;
pub mod segment;
mod shelf;
pub mod tail;

#[cfg(test)]
mod tests;

use std::fmt;

pub use builder::Builder;
pub use cache::BlockId;
pub use format::{ChangeRef, Identity};
pub use incoming::Arrival;
pub use machine::Store;
pub use manifest::Manifest;
pub use outgoing::Offering;
pub use read::{Fetched, Held, Lookup, Scan};
pub use recover::{Parts, Recovered, Recovery, Step};
pub use segment::{Entry, Sealed};
pub use shelf::Pin;

use crate::frame::BLOCK_SIZE;
use bytes::Bytes;

/// What is written to a file, and where, are multiples of this, in bytes.
pub const WRITE_UNIT: usize = BLOCK_SIZE;

/// What is not to be in the way of the log's writes is this many times smaller.
const GENTLE_SHARE: usize = 4;

/// The limits of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of records at which a block ends, 8 KiB by default: what one read brings for one
    /// value, and what one checksum costs. A larger record is a block by itself. New segments have
    /// it; each old one keeps its own.
    pub block_size: usize,
    /// Bytes in the tail above which it wants to be sealed, 16 MiB by default: large enough that
    /// sealing is a stream and rare, small enough that little has to be replayed at a restart.
    pub seal_size: usize,
    /// Bytes in the tail above which writes have to wait, 128 MiB by default: what the disk may
    /// fall behind, eight seals.
    pub tail_size_max: usize,
    /// Bytes of records at which cleaning ends a segment, 64 MiB by default: few enough files, and
    /// a small part of the store to rewrite at once.
    pub segment_size: usize,
    /// Bytes of blocks kept in memory, 64 MiB by default; the one that came last is, whatever its
    /// size.
    pub cache_size: usize,
    /// Most reads issued and not yet answered, 128 by default: what a fast disk does side by side.
    pub reads_max: usize,
    /// Bytes of one write that has to be quick, 256 KiB by default: what is encoded in one go,
    /// about 100 us. Others have a quarter, as the log's writes wait for them.
    pub write_size: usize,
    /// Bytes a millisecond that sealing writes while it is not pressed, 32 KiB by default: a tail
    /// in half a second, with a small part of a disk.
    pub seal_rate: u64,
    /// Bytes a millisecond that cleaning may read and copy while there is little to clean, 16 KiB
    /// by default: 16 MB/s, a small part of a disk. It hurries as dead bytes pile up.
    pub clean_rate: u64,
    /// Bytes that cleaning reads at a time in a hurry, 256 KiB by default; otherwise a quarter.
    pub clean_read_size: usize,
    /// Bytes that recovery reads at a time, 1 MiB by default.
    pub read_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            block_size: 8 << 10,
            seal_size: 16 << 20,
            tail_size_max: 128 << 20,
            segment_size: 64 << 20,
            cache_size: 64 << 20,
            reads_max: 128,
            write_size: 256 << 10,
            seal_rate: 32 << 10,
            clean_rate: 16 << 10,
            clean_read_size: 256 << 10,
            read_size: 1 << 20,
        }
    }
}

impl Config {
    /// Bytes of one write that is not to be in the way.
    pub(super) fn write_size_gentle(&self) -> usize {
        (self.write_size / GENTLE_SHARE).next_multiple_of(BLOCK_SIZE)
    }

    /// Bytes that cleaning reads at a time if it is not to be in the way.
    pub(super) fn clean_read_size_gentle(&self) -> usize {
        self.clean_read_size / GENTLE_SHARE
    }

    /// Asserts that the limits fit together.
    ///
    /// # Panics
    /// If they do not: the caller has checked what a user gave.
    pub fn check(&self) {
        assert!(self.block_size >= 64, "a block is at least 64 bytes");
        assert!(self.block_size <= 1 << 20, "a block is at most 1 MiB");
        assert!(self.seal_size <= self.tail_size_max, "a tail is sealed before it is full");
        assert!(self.segment_size <= 1 << 30, "a segment has at most 1 GiB");
        assert!((1..=4096).contains(&self.reads_max), "1 to 4096 reads");
        assert!(self.write_size >= BLOCK_SIZE, "a write is at least a block");
        assert!(self.write_size.is_multiple_of(BLOCK_SIZE), "a write is whole blocks");
        assert!(self.seal_rate > 0, "sealing makes progress");
        assert!(self.clean_rate > 0, "cleaning makes progress");
        assert!(self.clean_read_size <= 64 << 20, "cleaning reads at most 64 MiB at a time");
        assert!(self.read_size >= BLOCK_SIZE, "recovery reads at least a block");
    }
}

/// One file of the store's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileId {
    /// The manifest, `manifest`.
    Manifest,
    /// The manifest that [`Command::Replace`] was writing, `manifest.new`.
    Draft,
    /// The segment of this number, `<16 hex digits>.segment`.
    Segment(u64),
    /// A segment of this number that is not finished, `<16 hex digits>.new`.
    New(u64),
}

impl FileId {
    /// The file of this name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "manifest" => return Some(Self::Manifest),
            "manifest.new" => return Some(Self::Draft),
            _ => {}
        }
        let (digits, extension) = name.split_once('.')?;
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 16 || !digits.bytes().all(lower) {
            return None;
        }
        let number = u64::from_str_radix(digits, 16).ok()?;
        match extension {
            "segment" => Some(Self::Segment(number)),
            "new" => Some(Self::New(number)),
            _ => None,
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => write!(f, "manifest"),
            Self::Draft => write!(f, "manifest.new"),
            Self::Segment(number) => write!(f, "{number:016x}.segment"),
            Self::New(number) => write!(f, "{number:016x}.new"),
        }
    }
}

/// What the driver is to do.
///
/// # Shape
/// At most one of `Create`, `Finish`, `Replace` and `Remove` is outstanding, two of `Write`, and
/// [`Config::reads_max`] of `Read`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make this file, or empty it if it exists.
    Create {
        /// An unfinished segment.
        file: FileId,
    },
    /// Write `size` bytes at `offset`; the store fills the buffer. Durable only after `Finish`.
    Write {
        /// The write's name in [`Event::Written`].
        id: u64,
        /// An unfinished segment.
        file: FileId,
        /// Bytes from the file's start, a multiple of the block size; writes of a file ascend.
        offset: u64,
        /// Bytes; a multiple of the block size.
        size: usize,
    },
    /// Sync the file, rename it, and sync the directory.
    Finish {
        /// An unfinished segment, all of whose writes are done.
        from: FileId,
        /// The segment that it becomes.
        to: FileId,
    },
    /// Write `bytes` to [`FileId::Draft`], sync it, rename it over [`FileId::Manifest`], and sync
    /// the directory.
    Replace {
        /// All of the manifest; whole blocks.
        bytes: Vec<u8>,
    },
    /// Remove the file. No read of it is outstanding. A loss of power may bring it back; recovery
    /// lists it as left over then.
    Remove {
        /// A file that is no longer needed.
        file: FileId,
        /// Its room is needed now; not, if the disk has other things to do.
        is_urgent: bool,
    },
    /// Read `size` bytes at `offset`. A file that ends before is a failure.
    Read {
        /// The read's name in [`Event::Read`].
        id: u64,
        /// A segment.
        file: FileId,
        /// Bytes from the file's start; any.
        offset: u64,
        /// Bytes; any but 0.
        size: usize,
    },
}

/// Which [`Command`] found no room on the disk. Any other failure is final: the driver halts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The write of this name.
    Write(u64),
    /// The one that was to make a file, which is not there.
    Create,
}

/// What the driver has done. A failure is not among them: it halts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The bytes are handed to the kernel.
    Written {
        /// The write's name.
        id: u64,
    },
    /// The one [`Command`] that was neither a write nor a read and not yet answered is done, and
    /// is durable unless it was a `Remove`.
    Done,
    /// Bytes were read.
    Read {
        /// The read's name.
        id: u64,
        /// As many as were asked for.
        bytes: Bytes,
    },
}

/// What in the files is not as this store left it, and where.
///
/// # Shape
/// `offset` counts bytes from the start of `file`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision store {file} at byte {offset}: {cause}; {}", cause.advice())]
pub struct Damage {
    /// Name of the file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The name is none that a store gives.
    #[error("not a file of ours")]
    Foreign,
    /// A segment is not there that the manifest lists, or no manifest is there beside segments.
    #[error("the file is missing")]
    Missing,
    /// The file is longer or shorter than was written.
    #[error("the file has {found} bytes where {expected} are due")]
    Size {
        /// By the manifest.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// The manifest claims, or has, more bytes than any may have.
    #[error("the manifest has {found} bytes, more than {max}")]
    Large {
        /// The file's.
        found: u64,
        /// The limit.
        max: u64,
    },
    /// The file was written by another version of this program.
    #[error("format version {found} is not known here")]
    Version {
        /// What the file says.
        found: u16,
    },
    /// The file is another shard's.
    #[error("the file belongs to shard {found}, not {expected}")]
    Shard {
        /// Whose store this is.
        expected: u32,
        /// Whose file.
        found: u32,
    },
    /// The file is another store's.
    #[error("the file belongs to store {found:016x}, not {expected:016x}")]
    Store {
        /// This store.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// The segment is another's under this name.
    #[error("the segment is number {found:016x} by its header")]
    Number {
        /// What its header says.
        found: u64,
    },
    /// The segment is whole, but not the one that the manifest lists.
    #[error("the segment is not the one that the manifest lists")]
    Unlisted,
    /// The manifest does not check.
    #[error("the manifest is damaged")]
    Manifest,
    /// The segment header does not check.
    #[error("the segment header is damaged")]
    Header,
    /// A page of the directory, or what follows the pages, does not check.
    #[error("the directory is damaged")]
    Directory,
    /// The segment footer does not check.
    #[error("the segment footer is damaged")]
    Footer,
    /// A block of records does not check.
    #[error("a block of records is damaged")]
    Block,
    /// A record is not what the directory says of it, though its block checks.
    #[error("the record is not the one that the directory lists")]
    Record,
    /// A read brought fewer bytes than asked for.
    #[error("only {found} of {expected} bytes could be read")]
    Short {
        /// Bytes asked for.
        expected: usize,
        /// Bytes read.
        found: usize,
    },
}

impl Cause {
    /// What the operator is to do.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Foreign => "move it out of the store's directory",
            Self::Version { .. } => "start the program version that wrote it",
            Self::Shard { .. } | Self::Store { .. } | Self::Number { .. } | Self::Unlisted => {
                "put back the files that belong to this store"
            }
            Self::Missing
            | Self::Size { .. }
            | Self::Large { .. }
            | Self::Manifest
            | Self::Header
            | Self::Directory
            | Self::Footer
            | Self::Block
            | Self::Record
            | Self::Short { .. } => {
                "restore this member from a backup, or remove it and add it anew"
            }
        }
    }
}

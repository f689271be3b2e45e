//! The write-ahead log: Raft's state as bytes on disk.
//!
//! A log is a run of fixed-size files, the *segments*, that are filled with zeros once, synced once
//! and from then on only overwritten: no write on the commit path changes a file's size or extents.
//! Everything that waits when a write may start goes into one *frame*, and a frame is one direct
//! write of whole blocks. No block that holds a frame is written again, so nothing that
//! was acknowledged is ever at risk.
//!
//! Everything here is a machine without I/O. [`Recovery`] asks for bytes and hands over what they
//! hold; it ends with a [`Writer`], which says what to write, and which files to make, rename and
//! remove. The driver does as told and reports back; any failure it meets is final, and it halts.
//!
//! Bytes are in [`format`](mod@format); what recovery makes of them is the table in [`decide`].
//! Left out: what entries mean, who may be told of them, and the snapshots that let segments go.
//!
//! # Durability
//!
//! The driver performs a [`Command::Write`] such that it is durable when it reports
//! [`Event::Written`], and every other command such that files *and* directory are. No write of an
//! earlier process may reach the files once recovery has begun: whoever holds the directory's lock
//! must have its writes behind it.

pub mod decide;
mod fetch;
pub mod format;
pub mod read;
pub mod recover;
mod segment;
pub mod writer;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use std::fmt;

pub use fetch::Fetched;
pub use format::{HardState, Identity, Record, Records};
pub use read::Extent;
pub use recover::{Recovered, Recovery, Step};
pub use writer::Writer;

use crate::frame::BLOCK_SIZE;

/// No frame is ever larger, in bytes: recovery holds one in memory.
const FRAME_SIZE_LIMIT: usize = 64 << 20;

/// The limits of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Size of a segment in bytes, 64 MiB by default: large enough that changing segments is rare,
    /// small enough that a spare one is made in seconds. Fixed when the log is made; an existing
    /// log keeps its own.
    pub segment_size: u64,
    /// Most bytes of one frame on disk, 2 MiB by default: one write of this size costs about as
    /// much as its flush. It bounds an entry: [`Config::record_size_max`] must be more than the
    /// largest request.
    pub frame_size_max: usize,
    /// Bytes of membership that a snapshot record may carry, 64 KiB by default: every segment
    /// repeats the latest, so every frame leaves room for it. Never lowered for an existing log.
    pub membership_size_max: usize,
    /// Most frames issued and not yet durable, 2 by default: two halve the wait under load, more
    /// help only deep queues of large values.
    pub writes_in_flight_max: u32,
    /// Spare files kept ready, 1 by default, besides the segment that is always prepared ahead.
    pub spares_target: usize,
    /// Spare files kept at most, 4 by default; a segment given back beyond that is removed.
    pub spares_max: usize,
    /// Bytes appended and not yet issued above which [`Writer::is_full`], 16 MiB by default.
    pub pending_size_max: usize,
    /// Bytes that recovery reads at a time, 1 MiB by default.
    pub read_size: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            frame_size_max: 2 << 20,
            membership_size_max: 64 << 10,
            writes_in_flight_max: 2,
            spares_target: 1,
            spares_max: 4,
            pending_size_max: 16 << 20,
            read_size: 1 << 20,
        }
    }
}

impl Config {
    /// Most bytes that one record may take, its header included.
    #[must_use]
    pub fn record_size_max(&self) -> usize {
        let payload = self.frame_size_max / BLOCK_SIZE * crate::frame::BLOCK_PAYLOAD_SIZE;
        payload.saturating_sub(format::FRAME_HEADER_SIZE + self.state_size_max())
    }

    /// Bytes of the records that repeat the state at the start of a segment.
    pub(crate) fn state_size_max(&self) -> usize {
        2 * format::RECORD_HEADER_SIZE + 8 + self.membership_size_max
    }

    /// Raises `frame_size_max` until a frame holds a record with `size` bytes of data; whether it
    /// can.
    pub fn fit(&mut self, size: usize) -> bool {
        let needed = size + format::RECORD_HEADER_SIZE;
        let segment = usize::try_from(self.segment_size).unwrap_or(usize::MAX);
        while self.record_size_max() < needed {
            self.frame_size_max += 64 * BLOCK_SIZE;
            if self.frame_size_max > FRAME_SIZE_LIMIT || self.frame_size_max + BLOCK_SIZE > segment
            {
                return false;
            }
        }
        self.frame_size_max + BLOCK_SIZE <= segment
    }

    /// Bytes past a frame's start within which recovery looks for the frames issued after it.
    pub(crate) fn window(&self) -> u32 {
        let frames = usize::try_from(self.writes_in_flight_max).expect("64 bits") + 1;
        u32::try_from(self.frame_size_max * frames).expect("checked")
    }

    /// Asserts that the limits fit together.
    ///
    /// # Panics
    /// If they do not: the caller has checked what a user gave.
    pub fn check(&self) {
        let block = BLOCK_SIZE as u64;
        assert!(self.segment_size.is_multiple_of(block), "a segment is whole blocks");
        assert!(self.segment_size <= 1 << 40, "a segment is at most 1 TiB");
        assert!(self.frame_size_max.is_multiple_of(BLOCK_SIZE), "a frame is whole blocks");
        assert!(self.frame_size_max as u64 + block <= self.segment_size, "a frame fits a segment");
        assert!(self.membership_size_max <= 1 << 20, "a membership is at most 1 MiB");
        assert!(self.frame_size_max <= FRAME_SIZE_LIMIT, "a frame is at most 64 MiB");
        assert!(self.record_size_max() > 0, "a frame holds the state and a record");
        assert!((1..=16).contains(&self.writes_in_flight_max), "1 to 16 writes in flight");
        assert!(self.spares_target <= self.spares_max, "spares are kept once made");
        assert!(self.spares_max <= 1024, "at most 1024 spares");
        assert!(self.read_size >= BLOCK_SIZE, "recovery reads at least a block");
        assert!(self.read_size.is_multiple_of(BLOCK_SIZE), "recovery reads whole blocks");
    }
}

/// One file of the log's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileId {
    /// The segment of this sequence, `<16 hex digits>.wal`.
    Segment(u64),
    /// A spare file of this number, `<16 hex digits>.spare`; what it holds is of no account.
    Spare(u64),
}

impl FileId {
    /// The file of this name, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (digits, extension) = name.split_once('.')?;
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if digits.len() != 16 || !digits.bytes().all(lower) {
            return None;
        }
        let number = u64::from_str_radix(digits, 16).ok()?;
        match extension {
            "wal" => Some(Self::Segment(number)),
            "spare" => Some(Self::Spare(number)),
            _ => None,
        }
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(sequence) => write!(f, "{sequence:016x}.wal"),
            Self::Spare(number) => write!(f, "{number:016x}.spare"),
        }
    }
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write `size` bytes at `offset` of a segment. [`Writer::fill`] fills the buffer.
    Write {
        /// The write's name in [`Writer::fill`] and [`Event::Written`].
        id: u64,
        /// The file.
        file: FileId,
        /// Bytes from the file's start; a multiple of the block size.
        offset: u64,
        /// Bytes; a multiple of the block size.
        size: usize,
    },
    /// Make this file, or empty it if it exists, write zeros, sync it and the directory.
    Create {
        /// A spare.
        file: FileId,
        /// Bytes of zeros.
        size: u64,
        /// No segment is ready, and frames may come to wait for this one. Otherwise it is in time
        /// if it is made before as many bytes of frames are written.
        is_urgent: bool,
    },
    /// Write `header` at the start of the spare and sync it, then rename it to the segment and sync
    /// the directory.
    Activate {
        /// A spare.
        from: FileId,
        /// The segment that it becomes.
        to: FileId,
        /// One block.
        header: Vec<u8>,
    },
    /// Rename the segment to the spare and sync the directory.
    Recycle {
        /// A segment that is no longer needed.
        from: FileId,
        /// The spare that it becomes.
        to: FileId,
    },
    /// Remove the file and sync the directory.
    Remove {
        /// A file that is no longer needed.
        file: FileId,
    },
    /// Read `size` bytes at `offset` of a segment.
    Read {
        /// The read's name in [`Event::Read`].
        id: u64,
        /// The file.
        file: FileId,
        /// Bytes from the file's start; a multiple of the block size.
        offset: u64,
        /// Bytes; a multiple of the block size.
        size: usize,
    },
    /// Sync the file: what was read from it is to survive before anything rests on it.
    Sync {
        /// A segment.
        file: FileId,
    },
}

/// What the driver has done. A failure is not among them: it halts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The write is durable.
    Written {
        /// Its name.
        id: u64,
    },
    /// The bytes that were asked for.
    Read {
        /// The read's name.
        id: u64,
        /// As many as were asked for.
        bytes: Bytes,
    },
    /// The one [`Command`] that moved no bytes and was not yet answered is done, and is durable.
    Done,
}

/// What in the files is not as this log's writer left it, and where.
///
/// # Shape
/// `offset` counts bytes from the start of `file`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write-ahead log {file} at byte {offset}: {cause}; {}", cause.advice())]
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
    /// The name is neither a segment's nor a spare's.
    #[error("not a file of ours")]
    Foreign,
    /// A segment between others is not there.
    #[error("the segment is missing")]
    Missing,
    /// The file is longer or shorter than the log's segments.
    #[error("the file has {found} bytes where {expected} are due")]
    Size {
        /// The log's segment size.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// The segment was written by another version of this program.
    #[error("format version {found} is not known, only 1")]
    Version {
        /// What the file says.
        found: u16,
    },
    /// The segment header does not check.
    #[error("the segment header is damaged")]
    Header,
    /// The segment is another shard's.
    #[error("the segment belongs to shard {found}, not {expected}")]
    Shard {
        /// Whose log this is.
        expected: u32,
        /// Whose segment.
        found: u32,
    },
    /// The segment is another log's.
    #[error("the segment belongs to log {found:016x}, not {expected:016x}")]
    Log {
        /// The log id of the first segment, or as asked for.
        expected: u64,
        /// The segment's.
        found: u64,
    },
    /// The segment is another's under this name.
    #[error("the segment is number {found:016x} by its header")]
    Sequence {
        /// What its header says.
        found: u64,
    },
    /// A sector is neither as it was written nor as it was before.
    #[error("a sector is damaged (case {0})")]
    Sector(decide::Row),
    /// A frame is whole but not what should stand here.
    #[error("the frame does not belong here (case {0})")]
    Frame(decide::Row),
    /// A later frame says that this one was durable, and it is not there.
    #[error("an acknowledged frame is missing (case {0})")]
    Lost(decide::Row),
    /// A frame is whole and does not hold records.
    #[error("the frame holds no valid records")]
    Record,
    /// Entries are missing between two that are there, or between the snapshot and the first.
    #[error("entry {index} follows where {expected} is due")]
    Gap {
        /// The index due.
        expected: u64,
        /// The index found.
        index: u64,
    },
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
            Self::Foreign => "move it out of the log's directory",
            Self::Version { .. } => "start the program version that wrote it",
            Self::Shard { .. } | Self::Log { .. } | Self::Sequence { .. } => {
                "put back the files that belong to this log"
            }
            Self::Missing
            | Self::Size { .. }
            | Self::Header
            | Self::Sector(_)
            | Self::Frame(_)
            | Self::Lost(_)
            | Self::Record
            | Self::Gap { .. }
            | Self::Short { .. } => {
                "restore this member from a backup, or remove it and add it anew"
            }
        }
    }
}

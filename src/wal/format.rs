//! The write-ahead log on disk. This page is the format; the tests hold the code to it.
//!
//! # Purpose
//!
//! A log is a run of files of one size, the *segments*, named by their sequence. Position `o` in
//! segment `s` has the [`Lsn`] `s * segment_size + o`. Block 0 of a segment (4096 bytes) holds the
//! segment header; frames fill the rest. A *frame* is what one write makes durable: it starts on a
//! block, takes whole blocks, lies in one segment, and no block that holds one is written again.
//! A frame holds *records*. All bytes lie in sectors with a trailer each (see [`crate::frame`]):
//! 496 bytes of payload in 512, so a block holds 3968 bytes; where a frame's bytes end, its last
//! block is filled with zeros. All integers are little-endian.
//!
//! The trailer's *lsn* is the sector's own position, its *epoch* the incarnation of the writer: one
//! more at each opening of the log. The seal's identity is the log id (8 bytes) and the shard (4).
//!
//! # Segment header
//!
//! The payload of the first sector of a segment, which does not *begin a frame* and has epoch 0.
//! The other seven sectors of block 0 are zero.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | magic | `RGWS` |
//! | 4 | 2 | format_version | 1 |
//! | 6 | 2 | flags | zero; a reader refuses any bit it does not know |
//! | 8 | 8 | log_id | drawn once per log, the same in every segment and frame |
//! | 16 | 8 | sequence | of this segment, from 0; its file is `<16 hex digits>.wal` |
//! | 24 | 8 | segment_size | bytes, the same for the life of the log |
//! | 32 | 4 | shard | whose log it is |
//! | 36 | 460 | reserved | zero |
//!
//! # Frame header
//!
//! The first bytes of a frame's payload.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | magic | `RGWF` |
//! | 4 | 2 | format_version | 1 |
//! | 6 | 2 | flags | bit 0: the first frame of its epoch (*open*); others zero |
//! | 8 | 8 | log_id | as in the segment header |
//! | 16 | 8 | lsn | of the frame's first byte |
//! | 24 | 8 | sequence | one more than the frame's before; more still if *open* |
//! | 32 | 8 | durable | the highest sequence known durable when this frame was issued |
//! | 40 | 4 | epoch | as in every trailer of the frame |
//! | 44 | 4 | previous_crc | `crc` of the frame before; 0 in the first of a log |
//! | 48 | 4 | body_size | bytes of records that follow this header |
//! | 52 | 4 | record_count | how many records that is |
//! | 56 | 4 | window | bytes past a frame's start within which the next ones of its epoch start |
//! | 60 | 4 | crc | CRC-32 of bytes 0..60, then of the body |
//!
//! The first frame of a segment begins with a *snapshot* record and a *hard state* record that
//! repeat the latest of each, if there are any, so that every segment can be the first of the log.
//!
//! # Record
//!
//! A record is this header and `size` bytes of data; the next follows without a gap.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 1 | kind | 1 entry, 2 hard state, 3 snapshot |
//! | 1 | 1 | detail | entry: its kind; hard state: 1 if it has a vote; snapshot: 1 if it resets |
//! | 2 | 2 | reserved | zero |
//! | 4 | 4 | size | bytes of data |
//! | 8 | 8 | term | of the entry, of the hard state, or of the snapshot's last entry |
//! | 16 | 8 | index | of the entry, committed, or of the snapshot's last entry |
//!
//! Data is an entry's payload, a hard state's vote (8 bytes, or none), a snapshot's membership.
//! An entry replaces every entry at its index and above. A snapshot that *resets* replaces all
//! entries; the next one follows it.
//!
//! # When a frame is valid
//!
//! All its sectors are whole, at their own place, of one epoch; its header is as above, its lsn
//! its own; its crc is right; its records fill its body; it follows the frame before in sequence,
//! crc and epoch (the same epoch, or a higher one and *open*). What is done about a
//! frame that is not valid stands in `wal/decide.rs`.
//!
//! # History
//!
//! Version 1: the first.

use crate::frame;
use crate::frame::BLOCK_PAYLOAD_SIZE;
use crate::frame::BLOCK_SIZE;
use crate::frame::PAYLOAD_SIZE;
use crate::frame::SECTOR_SIZE;
use crate::frame::Seal;
use crate::frame::Sector;
use crate::frame::Stamp;
use crate::frame::{u16_at, u32_at, u64_at};
use crate::types::LogIndex;
use crate::types::Lsn;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::types::Term;

/// The version of the format that this code writes, and the only one it reads.
pub const FORMAT_VERSION: u16 = 1;
/// The first bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 4] = *b"RGWS";
/// The first bytes of a frame.
pub const FRAME_MAGIC: [u8; 4] = *b"RGWF";
/// Size of a segment header in bytes: the payload of one sector.
pub const SEGMENT_HEADER_SIZE: usize = 496;
/// Size of a frame header in bytes.
pub const FRAME_HEADER_SIZE: usize = 64;
/// Size of a record header in bytes.
pub const RECORD_HEADER_SIZE: usize = 24;
/// Offset of the first frame in a segment.
pub const FRAMES_AT: u64 = 4096;

const FLAG_OPEN: u16 = 1;
const FRAME_CRC_AT: usize = 60;
const SEGMENT_RESERVED_AT: usize = 36;
const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_SNAPSHOT: u8 = 3;

/// Where each field lies, of the segment header, the frame header and the record header in turn:
/// name, offset and size in bytes.
pub const FIELDS: [(&str, usize, usize); 27] = [
    ("magic", 0, 4),
    ("format_version", 4, 2),
    ("flags", 6, 2),
    ("log_id", 8, 8),
    ("sequence", 16, 8),
    ("segment_size", 24, 8),
    ("shard", 32, 4),
    ("reserved", 36, 460),
    ("magic", 0, 4),
    ("format_version", 4, 2),
    ("flags", 6, 2),
    ("log_id", 8, 8),
    ("lsn", 16, 8),
    ("sequence", 24, 8),
    ("durable", 32, 8),
    ("epoch", 40, 4),
    ("previous_crc", 44, 4),
    ("body_size", 48, 4),
    ("record_count", 52, 4),
    ("window", 56, 4),
    ("crc", 60, 4),
    ("kind", 0, 1),
    ("detail", 1, 1),
    ("reserved", 2, 2),
    ("size", 4, 4),
    ("term", 8, 8),
    ("index", 16, 8),
];

const _: () = assert!(usize::BITS == 64);
const _: () = assert!(FRAMES_AT == BLOCK_SIZE as u64);
const _: () = assert!(SEGMENT_HEADER_SIZE == PAYLOAD_SIZE);
const _: () = assert!(FRAME_HEADER_SIZE <= PAYLOAD_SIZE, "one sector tells what a frame is");
const _: () = {
    let sizes = [SEGMENT_HEADER_SIZE, FRAME_HEADER_SIZE, RECORD_HEADER_SIZE];
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
    assert!(done == 2 && end == sizes[2]);
};

/// Which log it is: what no two logs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn once, when the log is made.
    pub log_id: u64,
    /// Whose log it is.
    pub shard: ShardId,
}

impl Identity {
    /// The seal that this log's sectors carry.
    #[must_use]
    pub fn seal(self) -> Seal {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[8..].copy_from_slice(&self.shard.0.to_le_bytes());
        Seal::new(&bytes)
    }
}

/// What the first block of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose segment it is.
    pub identity: Identity,
    /// Its place among the log's segments, from 0.
    pub sequence: u64,
    /// Size of every segment of the log, in bytes.
    pub segment_size: u64,
}

/// Why a block is not the first of one of our segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSegment {
    /// It does not begin with [`SEGMENT_MAGIC`].
    Foreign,
    /// It is of a format version that this code does not know.
    Version(u16),
    /// Its checksum, a reserved byte or its position is wrong.
    Broken,
}

impl SegmentHeader {
    /// The first block of the segment.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK_SIZE];
        block[0..4].copy_from_slice(&SEGMENT_MAGIC);
        block[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        block[8..16].copy_from_slice(&self.identity.log_id.to_le_bytes());
        block[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        block[24..32].copy_from_slice(&self.segment_size.to_le_bytes());
        block[32..36].copy_from_slice(&self.identity.shard.0.to_le_bytes());
        let stamp = Stamp { lsn: self.sequence * self.segment_size, begins: false, epoch: 0 };
        self.identity.seal().close(&mut block[..SECTOR_SIZE], stamp);
        block
    }

    /// Reads the first block of a segment.
    ///
    /// # Errors
    /// What it is instead.
    ///
    /// # Panics
    /// Unless `block` is one block.
    pub fn decode(block: &[u8]) -> Result<Self, NotSegment> {
        assert!(block.len() == BLOCK_SIZE, "a segment header is read as a block");
        let identity = Identity { log_id: u64_at(block, 8), shard: ShardId(u32_at(block, 32)) };
        let header =
            Self { identity, sequence: u64_at(block, 16), segment_size: u64_at(block, 24) };
        let Sector::Whole(stamp) = identity.seal().open(&block[..SECTOR_SIZE]) else {
            return Err(match (block[0..4] == SEGMENT_MAGIC, u16_at(block, 4)) {
                (false, _) => NotSegment::Foreign,
                (true, FORMAT_VERSION) => NotSegment::Broken,
                (true, version) => NotSegment::Version(version),
            });
        };
        if block[0..4] != SEGMENT_MAGIC {
            return Err(NotSegment::Foreign);
        }
        if u16_at(block, 4) != FORMAT_VERSION {
            return Err(NotSegment::Version(u16_at(block, 4)));
        }
        let lsn = header.sequence.checked_mul(header.segment_size);
        let placed = lsn == Some(stamp.lsn) && !stamp.begins && stamp.epoch == 0;
        let reserved = block[SEGMENT_RESERVED_AT..PAYLOAD_SIZE].iter().all(|&byte| byte == 0)
            && block[SECTOR_SIZE..].iter().all(|&byte| byte == 0)
            && u16_at(block, 6) == 0;
        if placed && reserved { Ok(header) } else { Err(NotSegment::Broken) }
    }
}

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The first frame of its epoch.
    pub open: bool,
    /// As in the segment header.
    pub log_id: u64,
    /// Position of the frame's first byte.
    pub lsn: Lsn,
    /// Place among the log's frames, from 1; never given twice.
    pub sequence: u64,
    /// The highest sequence known durable when the frame was issued; 0 is none.
    pub durable: u64,
    /// The incarnation that wrote it.
    pub epoch: u32,
    /// The crc of the frame before it.
    pub previous_crc: u32,
    /// Bytes of records.
    pub body_size: u32,
    /// How many records.
    pub record_count: u32,
    /// Bytes past a frame's start within which the next frames of its epoch start, until one
    /// of them says that it is durable.
    pub window: u32,
    /// Checksum of header and body.
    pub crc: u32,
}

impl FrameHeader {
    /// Writes all fields but the crc into the front of `bytes`, then the crc of all of `bytes`,
    /// which is the frame's header and body.
    ///
    /// # Panics
    /// Unless `bytes` is a header and `body_size` bytes.
    pub fn seal(&mut self, bytes: &mut [u8]) {
        let size = FRAME_HEADER_SIZE + usize_from(self.body_size);
        assert!(bytes.len() == size, "a frame is its header and its body");
        let flags = if self.open { FLAG_OPEN } else { 0 };
        bytes[0..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..6].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[6..8].copy_from_slice(&flags.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.log_id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.previous_crc.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body_size.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.window.to_le_bytes());
        self.crc = frame_crc(bytes);
        bytes[60..64].copy_from_slice(&self.crc.to_le_bytes());
    }

    /// Reads the header at the front of `bytes`; `None` if it is not one of this version.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FRAME_HEADER_SIZE
            || bytes[0..4] != FRAME_MAGIC
            || u16_at(bytes, 4) != FORMAT_VERSION
            || u16_at(bytes, 6) & !FLAG_OPEN != 0
        {
            return None;
        }
        Some(Self {
            open: u16_at(bytes, 6) & FLAG_OPEN != 0,
            log_id: u64_at(bytes, 8),
            lsn: Lsn(u64_at(bytes, 16)),
            sequence: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
            epoch: u32_at(bytes, 40),
            previous_crc: u32_at(bytes, 44),
            body_size: u32_at(bytes, 48),
            record_count: u32_at(bytes, 52),
            window: u32_at(bytes, 56),
            crc: u32_at(bytes, 60),
        })
    }

    /// Size of the frame on disk in bytes, a multiple of [`BLOCK_SIZE`].
    #[must_use]
    pub fn frame_size(&self) -> usize {
        frame_size(usize_from(self.body_size))
    }
}

/// Size on disk of a frame with a body of `body_size` bytes.
#[must_use]
pub fn frame_size(body_size: usize) -> usize {
    (FRAME_HEADER_SIZE + body_size).div_ceil(BLOCK_PAYLOAD_SIZE) * BLOCK_SIZE
}

/// The crc that the frame `bytes` (header and body) should carry.
///
/// # Panics
/// If `bytes` is shorter than a header.
#[must_use]
pub fn frame_crc(bytes: &[u8]) -> u32 {
    frame::checksum(&[&bytes[..FRAME_CRC_AT], &bytes[FRAME_HEADER_SIZE..]])
}

/// Spreads `bytes` over the sectors of `buffer` and closes each.
///
/// # Shape
/// `buffer` is [`frame_size`] long; its first byte has position `lsn`.
///
/// # Panics
/// If `buffer` is not whole blocks or too small.
pub fn scatter(seal: Seal, lsn: Lsn, epoch: u32, bytes: &[u8], buffer: &mut [u8]) {
    assert!(buffer.len().is_multiple_of(BLOCK_SIZE), "a frame is whole blocks");
    assert!(bytes.len() <= buffer.len() / SECTOR_SIZE * PAYLOAD_SIZE, "a frame holds its bytes");
    let mut rest = bytes;
    let mut stamp = Stamp { lsn: lsn.0, begins: true, epoch };
    for sector in buffer.chunks_exact_mut(SECTOR_SIZE) {
        let (payload, after) = rest.split_at(rest.len().min(PAYLOAD_SIZE));
        sector[..payload.len()].copy_from_slice(payload);
        sector[payload.len()..PAYLOAD_SIZE].fill(0);
        seal.close(sector, stamp);
        rest = after;
        stamp.begins = false;
        stamp.lsn += SECTOR_SIZE as u64;
    }
}

/// Collects the first `size` bytes of payload of the sectors of `buffer` into `bytes`.
///
/// # Panics
/// If `buffer` holds fewer.
pub fn gather(buffer: &[u8], size: usize, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.reserve(size);
    let mut left = size;
    for sector in buffer.chunks_exact(SECTOR_SIZE) {
        let taken = left.min(PAYLOAD_SIZE);
        bytes.extend_from_slice(&sector[..taken]);
        left -= taken;
    }
    assert!(left == 0, "the sectors hold the bytes");
}

/// Raft's promises of one node: what it must remember besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// How far it knew the log to be committed.
    pub committed: LogIndex,
}

/// One item of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A Raft entry. It replaces all entries at its index and above.
    Entry {
        /// Its term.
        term: Term,
        /// Its index: at most one past the last entry's.
        index: LogIndex,
        /// What kind of entry it is, as Raft numbers them.
        kind: u8,
        /// What it carries.
        data: &'a [u8],
    },
    /// The latest hard state.
    HardState(HardState),
    /// A snapshot that stands for all entries up to `index` is kept elsewhere.
    Snapshot {
        /// Term of the last entry that it stands for.
        term: Term,
        /// Index of that entry.
        index: LogIndex,
        /// It came from elsewhere and replaces all entries before and after it.
        reset: bool,
        /// The membership at `index`, as Raft encodes it.
        membership: &'a [u8],
    },
}

impl Record<'_> {
    /// Size on disk in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        RECORD_HEADER_SIZE
            + match self {
                Self::Entry { data, .. } => data.len(),
                Self::HardState(state) => state.vote.map_or(0, |_| 8),
                Self::Snapshot { membership, .. } => membership.len(),
            }
    }

    /// Appends the record to `bytes`.
    ///
    /// # Panics
    /// If the data is 4 GiB or more.
    pub fn encode(&self, bytes: &mut Vec<u8>) {
        let vote;
        let (kind, detail, term, index, data): (_, _, _, _, &[u8]) = match *self {
            Self::Entry { term, index, kind, data } => (KIND_ENTRY, kind, term, index, data),
            Self::HardState(state) => {
                vote = state.vote.map(|node| node.0.to_le_bytes());
                let data = vote.as_ref().map_or(&[][..], |bytes| &bytes[..]);
                (KIND_HARD_STATE, u8::from(vote.is_some()), state.term, state.committed, data)
            }
            Self::Snapshot { term, index, reset, membership } => {
                (KIND_SNAPSHOT, u8::from(reset), term, index, membership)
            }
        };
        let size = u32::try_from(data.len()).expect("a record is less than 4 GiB");
        let mut header = [0; RECORD_HEADER_SIZE];
        header[0] = kind;
        header[1] = detail;
        header[4..8].copy_from_slice(&size.to_le_bytes());
        header[8..16].copy_from_slice(&term.0.to_le_bytes());
        header[16..24].copy_from_slice(&index.0.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(data);
    }
}

/// Bytes that are not records of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRecord {
    /// Offset in the body of the record that is not one.
    pub offset: usize,
}

/// The records of one body, in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// The records in `body`.
    #[must_use]
    pub fn new(body: &'a [u8]) -> Self {
        Self { body, offset: 0 }
    }

    fn parse(&self) -> Option<(Record<'a>, usize)> {
        let rest = &self.body[self.offset..];
        if rest.len() < RECORD_HEADER_SIZE || u16_at(rest, 2) != 0 {
            return None;
        }
        let end = RECORD_HEADER_SIZE + usize_from(u32_at(rest, 4));
        let data = rest.get(RECORD_HEADER_SIZE..end)?;
        let (term, index) = (Term(u64_at(rest, 8)), LogIndex(u64_at(rest, 16)));
        let record = match (rest[0], rest[1], data.len()) {
            (KIND_ENTRY, kind, _) => Record::Entry { term, index, kind, data },
            (KIND_HARD_STATE, 0, 0) => {
                Record::HardState(HardState { term, vote: None, committed: index })
            }
            (KIND_HARD_STATE, 1, 8) => {
                let vote = Some(NodeId(u64_at(data, 0)));
                Record::HardState(HardState { term, vote, committed: index })
            }
            (KIND_SNAPSHOT, reset @ (0 | 1), _) => {
                Record::Snapshot { term, index, reset: reset == 1, membership: data }
            }
            _ => return None,
        };
        Some((record, end))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, NotRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset == self.body.len() {
            return None;
        }
        let Some((record, size)) = self.parse() else {
            let offset = self.offset;
            self.offset = self.body.len();
            return Some(Err(NotRecord { offset }));
        };
        self.offset += size;
        Some(Ok(record))
    }
}

pub(super) fn usize_from(size: u32) -> usize {
    usize::try_from(size).expect("a usize has 64 bits")
}

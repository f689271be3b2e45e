//! Any file of ours, printed for a person.
//!
//! A file of the log goes in block by block and lines come out: what each stretch of the file is,
//! and what the frames in it hold. A file of the store is read where it says that something lies
//! ([`revisions`]). Nothing is decided here: whether a log or a store can be opened is recovery's
//! to say, which sees all of its files ([`directory`]).

pub mod directory;
pub mod revisions;

use std::fmt;
use std::fmt::Write;

use crate::frame::BLOCK_SIZE;
use crate::frame::PAYLOAD_SIZE;
use crate::frame::SECTOR_SIZE;
use crate::frame::Seal;
use crate::frame::Sector;
use crate::frame::Stamp;
use crate::identity::Identity;
use crate::wal::format::FRAME_HEADER_SIZE;
use crate::wal::format::FrameHeader;
use crate::wal::format::NotSegment;
use crate::wal::format::Record;
use crate::wal::format::Records;
use crate::wal::format::SegmentHeader;
use crate::wal::format::frame_crc;

/// Gives bytes of the file that is printed, at an offset: fewer than asked for if it ends or cannot
/// be read.
pub type Read<'a> = dyn FnMut(u64, usize) -> Vec<u8> + 'a;

/// Bytes of an entry's data, a key or a value that are shown.
const SHOWN_SIZE_MAX: usize = 32;

/// What a stretch of blocks that holds no frame of now is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    Zero,
    Old,
    Rest,
    Damaged,
}

impl Stretch {
    fn text(self) -> &'static str {
        match self {
            Self::Zero => "never written",
            Self::Old => "from an earlier use of the file",
            Self::Rest => "rest of a frame whose beginning is not there",
            Self::Damaged => "damaged",
        }
    }
}

/// A frame whose blocks are being collected.
#[derive(Debug)]
struct Open {
    header: FrameHeader,
    offset: u64,
    size: u64,
    payload: Vec<u8>,
    problem: Option<(u64, &'static str)>,
}

/// A file on its way to lines of text.
#[derive(Debug, Default)]
pub struct Inspector {
    offset: u64,
    segment: Option<(SegmentHeader, Seal)>,
    epoch: u32,
    open: Option<Open>,
    stretch: Option<(Stretch, u64)>,
    is_text: bool,
    is_foreign: bool,
}

impl Inspector {
    /// At the beginning of a file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next block; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// # Panics
    /// If `bytes` is longer than a block.
    pub fn block(&mut self, bytes: &[u8], out: &mut dyn Write) -> fmt::Result {
        assert!(bytes.len() <= BLOCK_SIZE, "a file is read block by block");
        if self.offset == 0 {
            self.is_text = text(bytes, out)?;
        }
        if self.is_text {
            // All of it was in the first block.
        } else if self.offset == 0 && bytes.len() < BLOCK_SIZE {
            self.is_foreign = true;
            writeln!(out, "not a file of ours")?;
        } else if bytes.len() < BLOCK_SIZE {
            writeln!(out, "{:08x}  {} bytes past the last block", self.offset, bytes.len())?;
        } else if self.offset == 0 {
            self.first(bytes, out)?;
        } else if let Some((header, seal)) = self.segment
            && self.offset < header.segment_size
        {
            let lsn = header.sequence * header.segment_size + self.offset;
            self.frames(bytes, lsn, seal, out)?;
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Whether the file turned out to be none of ours.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self, out: &mut dyn Write) -> fmt::Result {
        if let Some(mut open) = self.open.take() {
            open.problem = open.problem.or(Some((self.offset, "the file ends")));
            self.print(&open, out)?;
        }
        self.turn(None, out)?;
        if let Some((header, _)) = self.segment.filter(|(h, _)| h.segment_size != self.offset) {
            writeln!(out, "the file has {} bytes, not {}", self.offset, header.segment_size)?;
        }
        Ok(())
    }

    fn first(&mut self, block: &[u8], out: &mut dyn Write) -> fmt::Result {
        match SegmentHeader::decode(block) {
            Ok(header) => {
                // A reader may ask for any offset in the file, so its end must be a number.
                let end = header.sequence.checked_add(1);
                if end.and_then(|end| end.checked_mul(header.segment_size)).is_none() {
                    return writeln!(out, "a segment of the log: header out of range");
                }
                self.segment = Some((header, header.identity.seal()));
                let (identity, size) = (header.identity, header.segment_size);
                writeln!(
                    out,
                    "segment {:016x} of log {:016x}, shard {}, {size} bytes, format version 1",
                    header.sequence, identity.log_id, identity.shard
                )
            }
            Err(NotSegment::Version(version)) => {
                writeln!(out, "a segment of the log in format version {version}, not known here")
            }
            Err(NotSegment::Broken) => writeln!(out, "a segment of the log: header damaged"),
            Err(NotSegment::Foreign) if block.iter().all(|&byte| byte == 0) => {
                writeln!(out, "a spare file of the log, never used")
            }
            Err(NotSegment::Foreign) => {
                self.is_foreign = true;
                writeln!(out, "not a file of ours")
            }
        }
    }

    fn frames(&mut self, block: &[u8], lsn: u64, seal: Seal, out: &mut dyn Write) -> fmt::Result {
        let first = seal.open(&block[..SECTOR_SIZE]);
        if let Some(header) = self.beginning(block, first, lsn) {
            if let Some(mut open) = self.open.take() {
                open.problem = open.problem.or(Some((self.offset, "another frame begins")));
                self.print(&open, out)?;
            }
            self.turn(None, out)?;
            let size = header.frame_size() as u64;
            let payload = Vec::with_capacity(FRAME_HEADER_SIZE);
            let offset = self.offset;
            self.open = Some(Open { header, offset, size, payload, problem: None });
        }
        let Some(mut open) = self.open.take() else {
            let stretch = match first {
                Sector::Zero => Stretch::Zero,
                Sector::Broken => Stretch::Damaged,
                Sector::Whole(stamp) if stamp.lsn == lsn => Stretch::Rest,
                Sector::Whole(_) => Stretch::Old,
            };
            return self.turn(Some(stretch), out);
        };
        collect(&mut open, block, self.offset, lsn, seal);
        if self.offset + BLOCK_SIZE as u64 == open.offset + open.size {
            self.print(&open, out)
        } else {
            self.open = Some(open);
            Ok(())
        }
    }

    /// The header of the frame that begins in this block.
    fn beginning(&self, block: &[u8], first: Sector, lsn: u64) -> Option<FrameHeader> {
        let (segment, _) = self.segment?;
        let Sector::Whole(Stamp { lsn: own, begins: true, .. }) = first else { return None };
        let room = segment.segment_size.saturating_sub(self.offset);
        FrameHeader::decode(&block[..PAYLOAD_SIZE])
            .filter(|header| own == lsn && header.frame_size() as u64 <= room)
    }

    /// Ends the stretch before the offset if the next is of another kind.
    fn turn(&mut self, next: Option<Stretch>, out: &mut dyn Write) -> fmt::Result {
        if let Some((kind, start)) = self.stretch.filter(|(kind, _)| Some(*kind) != next) {
            writeln!(out, "{start:08x}  up to {:08x}: {}", self.offset, kind.text())?;
            self.stretch = None;
        }
        if let Some(next) = next
            && self.stretch.is_none()
        {
            self.stretch = Some((next, self.offset));
        }
        Ok(())
    }

    fn print(&mut self, open: &Open, out: &mut dyn Write) -> fmt::Result {
        let header = &open.header;
        write!(out, "{:08x}  frame {}, epoch {}", open.offset, header.sequence, header.epoch)?;
        if header.open {
            write!(out, ", open")?;
        }
        if header.epoch < self.epoch {
            write!(out, ", cut off by epoch {}", self.epoch)?;
        }
        self.epoch = self.epoch.max(header.epoch);
        write!(out, ", {} bytes, durable {}, ", open.size, header.durable)?;
        writeln!(out, "crc {:08x} after {:08x}", header.crc, header.previous_crc)?;
        if let Some((at, problem)) = open.problem {
            return writeln!(out, "          not whole: {problem} at {at:08x}");
        }
        let body_size = usize::try_from(header.body_size).expect("64 bits");
        let bytes = &open.payload[..FRAME_HEADER_SIZE + body_size];
        if frame_crc(bytes) != header.crc {
            return writeln!(out, "          not whole: crc {:08x}", frame_crc(bytes));
        }
        for record in Records::new(&bytes[FRAME_HEADER_SIZE..]) {
            match record {
                Ok(record) => print_record(&record, out)?,
                Err(error) => writeln!(out, "          no record at byte {}", error.offset)?,
            }
        }
        Ok(())
    }
}

/// Prints a file that is a few lines of text, if this is one: the identity, or the lock.
fn text(bytes: &[u8], out: &mut dyn Write) -> Result<bool, fmt::Error> {
    if Identity::is_like(bytes) {
        match Identity::parse(bytes) {
            Ok(identity) => {
                let (cluster, member) = (identity.cluster.0, identity.member.0);
                writeln!(out, "identity: member {member:x} of cluster {cluster:x}")?;
                let (shards, log_id) = (identity.shards, identity.log_id);
                writeln!(out, "          shards {shards}, log {log_id:016x}")?;
                for known in &identity.known {
                    let began = if identity.joined { "joined" } else { "founded" };
                    let voice = if known.learner { ", a learner" } else { "" };
                    let (id, name, urls) = (known.id.0, &known.name, known.peer_urls.join(","));
                    writeln!(out, "  {began}, knowing {id:x} {name:?} at {urls}{voice}")?;
                }
            }
            Err(why) => writeln!(out, "identity, damaged: {why}")?,
        }
        return Ok(true);
    }
    let holder = bytes.strip_prefix(b"process ").and_then(|rest| rest.strip_suffix(b"\n"));
    if let Some(holder) = holder.filter(|it| it.len() <= 20 && it.iter().all(u8::is_ascii_digit)) {
        let holder = String::from_utf8_lossy(holder);
        writeln!(out, "lock of a data directory, taken last by process {holder}")?;
        return Ok(true);
    }
    Ok(false)
}

/// Adds a block to the frame, noting the first sector that is not the frame's.
fn collect(open: &mut Open, block: &[u8], offset: u64, lsn: u64, seal: Seal) {
    for (nth, sector) in block.chunks_exact(SECTOR_SIZE).enumerate() {
        let ahead = (nth * SECTOR_SIZE) as u64;
        let problem = match seal.open(sector) {
            Sector::Whole(stamp) if stamp.lsn == lsn + ahead => {
                (stamp.epoch != open.header.epoch).then_some("torn")
            }
            Sector::Whole(_) | Sector::Zero => Some("torn"),
            Sector::Broken => Some("damaged"),
        };
        let problem = problem.map(|problem| (offset + ahead, problem));
        open.problem = open.problem.or(problem);
        open.payload.extend_from_slice(&sector[..PAYLOAD_SIZE]);
    }
}

fn print_record(record: &Record<'_>, out: &mut dyn Write) -> fmt::Result {
    match *record {
        Record::Entry { term, index, kind, data } => {
            let shown = &data[..data.len().min(SHOWN_SIZE_MAX)];
            let more = if shown.len() < data.len() { "…" } else { "" };
            let size = data.len();
            write!(out, "          entry {index}, term {term}, kind {kind}, {size} bytes")?;
            writeln!(out, ": {}{more}", shown.escape_ascii())
        }
        Record::HardState(state) => {
            write!(out, "          hard state: term {}, ", state.term)?;
            match state.vote {
                Some(node) => write!(out, "vote {:x}, ", node.0)?,
                None => write!(out, "no vote, ")?,
            }
            writeln!(out, "committed {}", state.committed)
        }
        Record::Snapshot { term, index, reset, membership } => {
            let what = if reset { "snapshot that replaces all" } else { "snapshot" };
            let size = membership.len();
            writeln!(out, "          {what}: index {index}, term {term}, membership {size} bytes")
        }
    }
}

#[cfg(test)]
mod tests;

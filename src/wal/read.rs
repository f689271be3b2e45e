//! Entries read back: where each lies, and the frame that holds it.
//!
//! A peer that lags needs entries that memory no longer has. The index knows, for each durable
//! frame, which entries it holds; it costs one item per frame and is made anew by recovery.

use std::collections::VecDeque;

use super::Cause;
use super::Damage;
use super::FileId;
use super::decide::Row;
use super::format::FRAME_HEADER_SIZE;
use super::format::FrameHeader;
use super::format::Identity;
use super::format::Record;
use super::format::Records;
use super::format::{frame_crc, gather, usize_from};
use crate::frame::PAYLOAD_SIZE;
use crate::frame::SECTOR_SIZE;
use crate::frame::Sector;
use crate::types::LogIndex;
use crate::types::Lsn;

/// Where a frame lies, and the entries in it that are the log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The segment.
    pub file: FileId,
    /// Bytes from the file's start.
    pub offset: u64,
    /// Bytes; a multiple of the block size.
    pub size: usize,
    /// The position of its first byte.
    pub lsn: Lsn,
    /// The index of the first entry to take from it.
    pub first: LogIndex,
    /// The index of the last entry to take from it.
    pub last: LogIndex,
}

/// The frames that hold the log's entries.
///
/// `frames` is ascending and without overlap in `first..=last`, and ascending in `lsn`.
#[derive(Clone, Debug, Default)]
pub(super) struct FrameIndex {
    frames: VecDeque<Extent>,
}

impl FrameIndex {
    /// A frame has become durable. Its entries replace those at and above its first.
    pub(super) fn push(&mut self, extent: Extent) {
        assert!(extent.first <= extent.last, "a frame with entries");
        self.truncate(extent.first);
        self.frames.push_back(extent);
    }

    /// Forgets the entries at `index` and above.
    pub(super) fn truncate(&mut self, index: LogIndex) {
        while self.frames.back().is_some_and(|frame| frame.first >= index) {
            self.frames.pop_back();
        }
        if let Some(back) = self.frames.back_mut()
            && back.last >= index
        {
            back.last = LogIndex(index.0 - 1);
        }
    }

    /// Forgets the frames of segments before `oldest`.
    pub(super) fn release(&mut self, oldest: u64) {
        let gone =
            |frame: &Extent| matches!(frame.file, FileId::Segment(segment) if segment < oldest);
        while self.frames.front().is_some_and(gone) {
            self.frames.pop_front();
        }
    }

    /// Frames that hold entries from `first` on, to `last` at most: of one file, and from the
    /// beginning of the first to the end of the last at most `size_max` bytes, unless one frame
    /// has more. None if there is none with `first`.
    pub(super) fn run(&self, first: LogIndex, last: LogIndex, size_max: usize) -> Vec<Extent> {
        let at = self.frames.partition_point(|frame| frame.last < first);
        let mut frames: Vec<Extent> = Vec::new();
        for frame in self.frames.range(at..).take_while(|frame| frame.first <= last) {
            let fits = match frames.first() {
                None => frame.first <= first,
                Some(begin) => {
                    let end = frame.offset + u64::try_from(frame.size).expect("64 bits");
                    let size = usize::try_from(end.saturating_sub(begin.offset));
                    frame.file == begin.file && size.is_ok_and(|size| size <= size_max)
                }
            };
            if !fits {
                break;
            }
            frames.push(*frame);
        }
        frames
    }

    /// The frame that holds the entry at `index`.
    pub(super) fn locate(&self, index: LogIndex) -> Option<Extent> {
        let after = self.frames.partition_point(|frame| frame.last < index);
        self.frames.get(after).copied().filter(|frame| frame.first <= index)
    }
}

/// Collects header and body of the frame in `bytes` into `body`, if it is whole in itself.
///
/// # Errors
/// The frame is not whole.
///
/// # Panics
/// Unless `bytes` is as long as `extent`.
pub fn read(
    identity: Identity,
    extent: Extent,
    bytes: &[u8],
    body: &mut Vec<u8>,
) -> Result<(), Damage> {
    assert!(bytes.len() == extent.size, "the frame was read whole");
    let damage = |at: usize, cause| Damage {
        file: extent.file.to_string(),
        offset: extent.offset + at as u64,
        cause,
    };
    let seal = identity.seal();
    let mut epoch = None;
    for (nth, sector) in bytes.chunks_exact(SECTOR_SIZE).enumerate() {
        let at = nth * SECTOR_SIZE;
        let whole = match seal.open(sector) {
            Sector::Whole(stamp) => {
                stamp.lsn == extent.lsn.0 + at as u64
                    && stamp.begins == (nth == 0)
                    && stamp.epoch == *epoch.get_or_insert(stamp.epoch)
            }
            Sector::Zero | Sector::Broken => false,
        };
        if !whole {
            return Err(damage(at, Cause::Sector(Row('E'))));
        }
    }
    let header = FrameHeader::decode(&bytes[..PAYLOAD_SIZE]);
    let Some(header) = header.filter(|header| header.frame_size() == extent.size) else {
        return Err(damage(0, Cause::Frame(Row('G'))));
    };
    gather(bytes, FRAME_HEADER_SIZE + usize_from(header.body_size), body);
    if frame_crc(body) != header.crc {
        return Err(damage(0, Cause::Frame(Row('F'))));
    }
    if Records::new(&body[FRAME_HEADER_SIZE..]).any(|record| record.is_err()) {
        return Err(damage(0, Cause::Record));
    }
    Ok(())
}

/// The entries `first..=last` of `extent`, from the frame that [`read`] has collected.
///
/// # Shape
/// In order and without a gap: of entries at one index, the last.
#[must_use]
pub fn entries(extent: Extent, body: &[u8]) -> Vec<Record<'_>> {
    let mut entries: Vec<(LogIndex, Record<'_>)> = Vec::new();
    for record in Records::new(&body[FRAME_HEADER_SIZE..]).flatten() {
        match record {
            Record::Entry { index, .. } => {
                while entries.last().is_some_and(|&(last, _)| last >= index) {
                    entries.pop();
                }
                entries.push((index, record));
            }
            Record::Snapshot { reset: true, .. } => entries.clear(),
            Record::HardState(_) | Record::Snapshot { .. } => {}
        }
    }
    let wanted = extent.first..=extent.last;
    entries
        .into_iter()
        .filter(|(index, _)| wanted.contains(index))
        .map(|(_, entry)| entry)
        .collect()
}

//! Entries for a peer that lags: asked of the files, checked, and handed over.
//!
//! One fetch is one read of frames that lie next to each other. A segment that is being read is not
//! given back meanwhile, so what does not check is damage.

use std::collections::VecDeque;

use super::Cause;
use super::Command;
use super::Damage;
use super::FileId;
use super::Writer;
use super::format::Identity;
use super::format::Record;
use super::read;
use super::read::Extent;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::types::LogIndex;
use bytes::Bytes;

/// Bytes of frames that one fetch reads, unless its first frame is larger.
const READ_SIZE_MAX: usize = 1 << 20;

/// One fetch under way.
#[derive(Debug)]
struct Fetch {
    id: u64,
    /// Frames of one file, each after the one before; never empty.
    frames: Vec<Extent>,
    last: LogIndex,
    size_max: usize,
    is_asked: bool,
}

impl Fetch {
    fn file(&self) -> FileId {
        self.frames[0].file
    }

    /// Where it begins, and how long it is.
    fn span(&self) -> (u64, usize) {
        let (first, last) = (self.frames[0], self.frames[self.frames.len() - 1]);
        let size = usize::try_from(last.offset - first.offset).expect("64 bits") + last.size;
        (first.offset, size)
    }

    /// The entries in what was read.
    fn entries(&self, identity: Identity, bytes: &[u8]) -> Result<Vec<Entry>, Damage> {
        let (start, expected) = self.span();
        let damage = |offset, cause| Damage { file: self.file().to_string(), offset, cause };
        if bytes.len() != expected {
            return Err(damage(start, Cause::Short { expected, found: bytes.len() }));
        }
        let (mut entries, mut size, mut body) = (Vec::new(), 0, Vec::new());
        for frame in &self.frames {
            let at = usize::try_from(frame.offset - start).expect("64 bits");
            read::read(identity, *frame, &bytes[at..at + frame.size], &mut body)?;
            for record in read::entries(*frame, &body) {
                let Record::Entry { term, index, kind, data } = record else {
                    unreachable!("only entries are taken from a frame")
                };
                let kind = EntryKind::from_code(kind);
                let kind = kind.ok_or_else(|| damage(frame.offset, Cause::Record))?;
                let entry = Entry { term, index, kind, data: Bytes::copy_from_slice(data) };
                size += entry.size();
                if index > self.last || (size > self.size_max && !entries.is_empty()) {
                    return Ok(entries);
                }
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

/// What a fetch came to: its name, and the entries.
pub type Fetched = (u64, Result<Vec<Entry>, Damage>);

/// All fetches.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    in_flight: Vec<Fetch>,
    done: VecDeque<Fetched>,
    last: u64,
}

impl Fetches {
    /// The oldest segment that is being read.
    pub(super) fn oldest(&self) -> Option<u64> {
        let segments = self.in_flight.iter().map(|fetch| match fetch.file() {
            FileId::Segment(segment) => segment,
            FileId::Spare(_) => unreachable!("a frame lies in a segment"),
        });
        segments.min()
    }

    /// The next read to do.
    pub(super) fn poll(&mut self) -> Option<Command> {
        let fetch = self.in_flight.iter_mut().find(|fetch| !fetch.is_asked)?;
        fetch.is_asked = true;
        let (offset, size) = fetch.span();
        Some(Command::Read { id: fetch.id, file: fetch.file(), offset, size })
    }

    /// A read is done.
    pub(super) fn on_read(&mut self, identity: Identity, id: u64, bytes: &[u8]) {
        let at = self.in_flight.iter().position(|fetch| fetch.id == id && fetch.is_asked);
        let fetch = self.in_flight.remove(at.expect("the read was asked for"));
        self.done.push_back((id, fetch.entries(identity, bytes)));
    }
}

impl Writer {
    /// Asks for the entries `first..=last`, as many as fit `size_max` and lie together, at least
    /// one: its name in [`Writer::fetched`]. `None` if the first is not here any more, or not yet.
    ///
    /// # Cost
    /// One read of a mebibyte at most, unless a frame is larger.
    pub fn fetch(&mut self, first: LogIndex, last: LogIndex, size_max: usize) -> Option<u64> {
        let frames = self.index.run(first, last, size_max.min(READ_SIZE_MAX));
        let mut frames = Some(frames).filter(|frames| !frames.is_empty())?;
        frames[0].first = first;
        self.fetches.last += 1;
        let id = self.fetches.last;
        self.fetches.in_flight.push(Fetch { id, frames, last, size_max, is_asked: false });
        Some(id)
    }

    /// The next fetch that is done.
    pub fn fetched(&mut self) -> Option<Fetched> {
        self.fetches.done.pop_front()
    }
}

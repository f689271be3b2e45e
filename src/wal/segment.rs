//! The log's files: which hold frames, which wait, which may go.
//!
//! ```text
//!            Create             Activate              a frame goes in
//!   nothing ───────► spare ───────────────► ready ───────────────────► live
//!                      ▲                                                │
//!                      └──────────────────── Recycle ───────────────────┘
//! ```
//!
//! One of these commands is in the driver's hands at a time, so a crash leaves the effects of
//! the first so many, in order, and perhaps of one more.

use std::collections::BTreeSet;
use std::collections::VecDeque;

use super::Command;
use super::Config;
use super::FileId;
use super::format::Identity;
use super::format::SegmentHeader;
use crate::types::LogIndex;

/// A segment that holds frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) sequence: u64,
    /// The highest index of an entry in it.
    pub(super) index_max: LogIndex,
    /// Its first frame is durable, and with it the state that the frame repeats.
    pub(super) begun: bool,
}

/// What the driver is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    Create(u64),
    Activate(u64),
    Recycle(u64),
    Remove,
}

/// All files of the log.
///
/// `live`, `ready` and then `next` are consecutive sequences.
#[derive(Debug)]
pub(super) struct Segments {
    identity: Identity,
    segment_size: u64,
    spares_target: usize,
    spares_max: usize,
    /// Holding frames, oldest first; the last is the active one.
    live: VecDeque<Live>,
    /// With a header and no valid frame.
    ready: VecDeque<u64>,
    /// The sequence of the next segment to be made ready.
    next: u64,
    spares: BTreeSet<u64>,
    spare_next: u64,
    unwanted: Vec<FileId>,
    busy: Option<Busy>,
    released: LogIndex,
}

impl Segments {
    /// The files as recovery found them.
    pub(super) fn new(config: &Config, identity: Identity, found: Found) -> Self {
        let next = found.ready.back().map(|&sequence| sequence + 1);
        let next = next.or(found.live.back().map(|live| live.sequence + 1)).unwrap_or(0);
        let segments = Self {
            identity,
            segment_size: found.segment_size,
            spares_target: config.spares_target,
            spares_max: config.spares_max,
            live: found.live,
            ready: found.ready,
            next,
            spares: found.spares,
            spare_next: found.spare_next,
            unwanted: found.unwanted,
            busy: None,
            released: LogIndex(0),
        };
        segments.check();
        segments
    }

    /// Bytes of each segment.
    pub(super) fn segment_size(&self) -> u64 {
        self.segment_size
    }

    /// Files there are, whatever they hold.
    pub(super) fn count(&self) -> u64 {
        let files = self.live.len() + self.ready.len() + self.spares.len() + self.unwanted.len();
        u64::try_from(files).expect("usize is 64 bits")
    }

    /// The active segment, if any frame was ever issued.
    pub(super) fn active(&self) -> Option<u64> {
        self.live.back().map(|live| live.sequence)
    }

    /// The oldest segment that is kept.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.live.front().map(|live| live.sequence)
    }

    /// Makes the next ready segment the active one; `None` while there is none.
    pub(super) fn advance(&mut self) -> Option<u64> {
        let sequence = self.ready.pop_front()?;
        self.live.push_back(Live { sequence, index_max: LogIndex(0), begun: false });
        self.check();
        Some(sequence)
    }

    /// A frame of the active segment holds entries up to `index`.
    pub(super) fn hold(&mut self, index: LogIndex) {
        let active = self.live.back_mut().expect("a frame lies in a segment");
        active.index_max = active.index_max.max(index);
    }

    /// The first frame of the segment is durable.
    pub(super) fn begin(&mut self, sequence: u64) {
        let found = self.live.iter_mut().find(|live| live.sequence == sequence);
        found.expect("only begun segments are given back").begun = true;
    }

    /// Entries up to `index` are no longer needed.
    pub(super) fn release(&mut self, index: LogIndex) {
        self.released = self.released.max(index);
    }

    /// The oldest segment holds nothing needed, nobody reads it, and the one after it is known to
    /// begin the log.
    fn may_go(&self, reading: Option<u64>) -> bool {
        self.live.len() >= 2
            && self.live[1].begun
            && self.live[0].index_max <= self.released
            && reading.is_none_or(|segment| self.live[0].sequence < segment)
    }

    /// The next thing to do with whole files; `reading` is the oldest segment that is read now.
    pub(super) fn poll(&mut self, reading: Option<u64>) -> Option<Command> {
        if self.busy.is_some() {
            return None;
        }
        let command = self.next_command(reading);
        self.check();
        command
    }

    fn next_command(&mut self, reading: Option<u64>) -> Option<Command> {
        if self.ready.is_empty()
            && let Some(spare) = self.spares.pop_first()
        {
            let sequence = self.next;
            self.busy = Some(Busy::Activate(sequence));
            let (identity, segment_size) = (self.identity, self.segment_size);
            let header = SegmentHeader { identity, sequence, segment_size }.encode();
            let (from, to) = (FileId::Spare(spare), FileId::Segment(sequence));
            return Some(Command::Activate { from, to, header });
        }
        if self.may_go(reading) {
            let oldest = self.live.pop_front().expect("there are two");
            let from = FileId::Segment(oldest.sequence);
            if self.spares.len() >= self.spares_max {
                self.busy = Some(Busy::Remove);
                return Some(Command::Remove { file: from });
            }
            let spare = self.spare_number();
            self.busy = Some(Busy::Recycle(spare));
            return Some(Command::Recycle { from, to: FileId::Spare(spare) });
        }
        let is_urgent = self.ready.is_empty();
        if is_urgent || self.spares.len() < self.spares_target {
            let (spare, size) = (self.spare_number(), self.segment_size);
            self.busy = Some(Busy::Create(spare));
            return Some(Command::Create { file: FileId::Spare(spare), size, is_urgent });
        }
        let file = self.unwanted.pop()?;
        self.busy = Some(Busy::Remove);
        Some(Command::Remove { file })
    }

    fn spare_number(&mut self) -> u64 {
        let number = self.spare_next;
        self.spare_next += 1;
        number
    }

    /// Whether a command was given and is not done.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// The command of the last [`Segments::poll`] is done.
    pub(super) fn on_done(&mut self) {
        match self.busy.take().expect("a command was given") {
            Busy::Create(spare) | Busy::Recycle(spare) => {
                self.spares.insert(spare);
            }
            Busy::Activate(sequence) => {
                self.ready.push_back(sequence);
                self.next = sequence + 1;
            }
            Busy::Remove => {}
        }
        self.check();
    }

    fn check(&self) {
        let ready = self.ready.front().copied();
        let live = self.live.back().map(|live| live.sequence);
        if let (Some(ready), Some(live)) = (ready, live) {
            assert!(live + 1 == ready, "the ready segments follow the live ones");
        }
        if let Some(last) = self.ready.back().copied().or(live) {
            assert!(last + 1 == self.next, "the next segment follows the last");
        }
    }
}

/// The files as they are found at the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) segment_size: u64,
    pub(super) live: VecDeque<Live>,
    pub(super) ready: VecDeque<u64>,
    pub(super) spares: BTreeSet<u64>,
    pub(super) spare_next: u64,
    pub(super) unwanted: Vec<FileId>,
}

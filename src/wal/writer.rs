//! The writer: records in, commands out.
//!
//! What is appended gathers in a batch. When a write may start, all that has gathered becomes one
//! frame: no timer, no minimum. While it is on its way the next batch gathers.
//!
//! The first frame after opening is an *open* frame of a new epoch, alone in flight. It carries no
//! records and ends the doubt about what the epoch before left behind it: nothing from
//! there on is of this epoch, so nothing stale can ever be taken for a frame of ours.

use std::collections::VecDeque;

use super::Command;
use super::Config;
use super::Event;
use super::FileId;
use super::fetch::Fetches;
use super::format::FRAME_HEADER_SIZE;
use super::format::FRAMES_AT;
use super::format::FrameHeader;
use super::format::HardState;
use super::format::Identity;
use super::format::RECORD_HEADER_SIZE;
use super::format::Record;
use super::format::{frame_size, scatter};
use super::read::Extent;
use super::read::FrameIndex;
use super::segment::Segments;
use crate::frame::Seal;
use crate::types::LogIndex;
use crate::types::Lsn;
use crate::types::Term;

/// The latest snapshot that the log knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Term of the last entry that it stands for.
    pub term: Term,
    /// Index of that entry.
    pub index: LogIndex,
    /// The membership there.
    pub membership: Vec<u8>,
}

impl Mark {
    fn record(&self) -> Record<'_> {
        let (term, index, membership) = (self.term, self.index, &self.membership[..]);
        Record::Snapshot { term, index, reset: false, membership }
    }
}

/// The state that every segment repeats.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) hard_state: Option<HardState>,
    pub(super) mark: Option<Mark>,
}

/// Records that wait to be written.
#[derive(Debug)]
struct Batch {
    /// Room for a frame header, then the records.
    bytes: Vec<u8>,
    record_count: u32,
    /// First and last index of the entries that are the log's after this batch.
    entries: Option<(LogIndex, LogIndex)>,
    index_max: LogIndex,
    /// A snapshot in it replaces all entries before.
    reset: bool,
    state: State,
}

impl Batch {
    fn new(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(FRAME_HEADER_SIZE, 0);
        let (entries, index_max, state) = (None, LogIndex(0), State::default());
        Self { bytes, record_count: 0, entries, index_max, reset: false, state }
    }

    fn push(&mut self, record: &Record<'_>) {
        match *record {
            Record::Entry { index, .. } => {
                let first = self.entries.map_or(index, |(first, _)| first.min(index));
                self.entries = Some((first, index));
                self.index_max = self.index_max.max(index);
            }
            Record::HardState(state) => self.state.hard_state = Some(state),
            Record::Snapshot { term, index, reset, membership } => {
                if reset {
                    self.reset = true;
                    self.entries = None;
                }
                self.state.mark = Some(Mark { term, index, membership: membership.to_vec() });
            }
        }
        record.encode(&mut self.bytes);
        self.record_count += 1;
    }
}

/// A frame that is not yet durable.
#[derive(Debug)]
struct InFlight {
    sequence: u64,
    epoch: u32,
    extent: Extent,
    /// Header and body until the driver has taken them.
    bytes: Option<Vec<u8>>,
    has_entries: bool,
    reset: bool,
    mark: LogIndex,
    done: bool,
}

/// How far the opening has come.
///
/// ```text
///   Sync ──Done──► Frame ──poll──► Flight ──Written──► Open
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// What recovery read is to be synced, in these segments yet, at the writer's next turn.
    Sync { next: u64, last: u64, asked: bool },
    /// The open frame is to be issued.
    Frame,
    /// The open frame is in flight.
    Flight,
    /// Frames may follow one another.
    Open,
}

/// Where the log ended when it was opened, and what it held.
#[derive(Debug)]
pub(super) struct End {
    /// Offset in the active segment of the next frame.
    pub(super) offset: u64,
    /// The last valid frame's sequence and crc; 0 and 0 if there is none.
    pub(super) sequence: u64,
    pub(super) crc: u32,
    /// The open frame's sequence and epoch.
    pub(super) open_sequence: u64,
    pub(super) epoch: u32,
    pub(super) state: State,
    pub(super) first: LogIndex,
    pub(super) last: LogIndex,
    pub(super) index: FrameIndex,
    /// The first segment with a frame that no later one says to be durable.
    pub(super) unproven: Option<u64>,
}

/// The log, open for writing.
///
/// Frames `..=durable` are durable, `durable+1..=issued` are in flight; batches wait behind them.
#[derive(Debug)]
pub struct Writer {
    config: Config,
    identity: Identity,
    seal: Seal,
    epoch: u32,
    opening: Opening,
    segments: Segments,
    /// Offset in the active segment of the next frame.
    offset: u64,
    issued: u64,
    durable: u64,
    previous_crc: u32,
    /// The last frame issued holds records, which no later frame says to be durable.
    uncovered: bool,
    mark_wanted: bool,
    /// All but the last are full; the last gathers.
    pending: VecDeque<Batch>,
    pending_size: usize,
    in_flight: VecDeque<InFlight>,
    /// Token and the sequence that it waits for, ascending in the latter.
    tokens: VecDeque<(u64, u64)>,
    /// Buffers to be used again.
    pool: Vec<Vec<u8>>,
    /// As of the last frame issued.
    state: State,
    /// First and last entry as appended; `last + 1 == first` if there is none.
    first: LogIndex,
    last: LogIndex,
    /// The index of the last snapshot known durable.
    mark_durable: LogIndex,
    pub(super) index: FrameIndex,
    pub(super) fetches: Fetches,
}

impl Writer {
    pub(super) fn new(config: Config, identity: Identity, segments: Segments, end: End) -> Self {
        config.check();
        let opening = match (segments.active(), segments.oldest()) {
            (Some(active), Some(oldest)) => {
                let next = end.unproven.unwrap_or(oldest);
                Opening::Sync { next, last: active, asked: false }
            }
            (None, None) => Opening::Frame,
            _ => unreachable!("oldest and active are of one list"),
        };
        Self {
            config,
            identity,
            seal: identity.seal(),
            epoch: end.epoch,
            opening,
            segments,
            offset: end.offset,
            issued: end.open_sequence - 1,
            durable: end.sequence,
            previous_crc: end.crc,
            uncovered: false,
            mark_wanted: false,
            pending: VecDeque::new(),
            pending_size: 0,
            in_flight: VecDeque::new(),
            tokens: VecDeque::new(),
            pool: Vec::new(),
            mark_durable: end.state.mark.as_ref().map_or(LogIndex(0), |mark| mark.index),
            state: end.state,
            first: end.first,
            last: end.last,
            index: end.index,
            fetches: Fetches::default(),
        }
    }

    /// Which log it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Most bytes of data that one entry may carry: by the segments that the log was made with,
    /// which may be smaller than those it was configured to have.
    #[must_use]
    pub fn entry_size_max(&self) -> usize {
        self.config.record_size_max().saturating_sub(RECORD_HEADER_SIZE)
    }

    /// The index of the last entry appended.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Bytes of all the log's files, spares included.
    #[must_use]
    pub fn size_allocated(&self) -> u64 {
        self.segments.count() * self.segments.segment_size()
    }

    /// Bytes from the first segment that is needed to where the next frame goes.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        match (self.segments.oldest(), self.segments.active()) {
            (Some(oldest), Some(active)) => {
                (active - oldest) * self.segments.segment_size() + self.offset
            }
            _ => 0,
        }
    }

    /// Bytes have gathered up to the limit: propose nothing more until some are issued.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending_size >= self.config.pending_size_max
    }

    /// Which opening of the log this is: one more than the last that has written anything.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether anything of this epoch is durable: from then on no other opening has its number.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.opening == Opening::Open
    }

    /// Whether nothing that was asked for is still to be done: as long as [`Writer::poll`] is not
    /// called, no file changes.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let is_syncing = matches!(self.opening, Opening::Sync { asked: true, .. });
        let is_reading = self.fetches.oldest().is_some();
        self.in_flight.is_empty() && !is_syncing && !is_reading && !self.segments.is_busy()
    }

    /// The next thing that is appended would be issued at the next [`Writer::poll`].
    #[must_use]
    pub fn can_write(&self) -> bool {
        self.opening == Opening::Open && self.pending.is_empty() && self.may_issue()
    }

    /// Adds a record to what waits to be written.
    ///
    /// # Panics
    /// If the record is larger than [`Config::record_size_max`] or its membership than
    /// [`Config::membership_size_max`]; if an entry is neither the next nor one of those there are;
    /// if a snapshot that does not reset stands for entries that are not there.
    ///
    /// # Cost
    /// One copy of the data.
    pub fn append(&mut self, record: &Record<'_>) {
        let size = record.size();
        assert!(size <= self.config.record_size_max(), "a record fits a frame");
        self.follow(record);
        let full = self.config.record_size_max() + FRAME_HEADER_SIZE;
        if self.pending.back().is_none_or(|batch| batch.bytes.len() + size > full) {
            self.pending.push_back(Batch::new(self.pool.pop().unwrap_or_default()));
        }
        self.pending.back_mut().expect("just made").push(record);
        self.pending_size += size;
    }

    /// Keeps `first` and `last` as the record leaves them.
    fn follow(&mut self, record: &Record<'_>) {
        match *record {
            Record::Entry { index, .. } => {
                assert!(index.0 > 0, "entries count from 1");
                assert!(index <= self.last.next(), "an entry follows one that is there");
                self.first = self.first.min(index);
                self.last = index;
            }
            Record::HardState(_) => {}
            Record::Snapshot { index, reset, membership, .. } => {
                assert!(
                    membership.len() <= self.config.membership_size_max,
                    "membership is bounded"
                );
                if reset {
                    self.first = index.next();
                    self.last = index;
                } else {
                    assert!(index <= self.last, "a snapshot of entries that are there");
                }
            }
        }
    }

    /// Asks for `token` back once all that was appended so far is durable, and the log with it:
    /// right after recovery, that is once others may rely on what was recovered.
    pub fn submit(&mut self, token: u64) {
        let waiting = u64::try_from(self.pending.len()).expect("64 bits");
        let opening = u64::from(self.is_before_open_frame());
        self.tokens.push_back((token, self.issued + opening + waiting));
    }

    fn is_before_open_frame(&self) -> bool {
        match self.opening {
            Opening::Sync { .. } | Opening::Frame => true,
            Opening::Flight | Opening::Open => false,
        }
    }

    /// The next token whose records are durable, in the order of [`Writer::submit`].
    pub fn durable(&mut self) -> Option<u64> {
        let &(token, sequence) = self.tokens.front()?;
        if sequence > self.durable {
            return None;
        }
        self.tokens.pop_front();
        Some(token)
    }

    /// Asks for an empty frame, once nothing is waiting or in flight, that says that the last frame
    /// with records is durable. For a caller that has been idle for a while: it turns the loss of
    /// that frame by a lying disk from silent into refused.
    pub fn mark(&mut self) {
        self.mark_wanted = self.uncovered || !self.pending.is_empty();
    }

    /// Entries up to `index` are no longer needed here. Segments that hold no others are given
    /// back, as far as a durable snapshot record stands for their entries.
    pub fn release(&mut self, index: LogIndex) {
        self.segments.release(index.min(self.mark_durable));
    }

    /// The durable frame that holds the entry at `index`; read it and pass the bytes to
    /// [`super::read::read`]. `None` if it is not yet durable, or given back: a read that fails
    /// after its segment was given back is no damage.
    #[must_use]
    pub fn locate(&self, index: LogIndex) -> Option<Extent> {
        self.index.locate(index)
    }

    /// The next thing to do, or `None` until the next event.
    pub fn poll(&mut self) -> Option<Command> {
        if let Opening::Sync { next, last, asked } = self.opening {
            self.opening = Opening::Sync { next, last, asked: true };
            return (!asked).then_some(Command::Sync { file: FileId::Segment(next) });
        }
        if let Some(command) = self.next_write() {
            return Some(command);
        }
        if let Some(command) = self.fetches.poll() {
            return Some(command);
        }
        let command = self.segments.poll(self.fetches.oldest())?;
        if let Some(oldest) = self.segments.oldest() {
            self.index.release(oldest);
        }
        Some(command)
    }

    fn may_issue(&self) -> bool {
        // Counted from the contiguous prefix, so that the frame `writes_in_flight_max` after a
        // lost one is proof that it was durable.
        self.issued - self.durable < u64::from(self.config.writes_in_flight_max)
    }

    fn next_write(&mut self) -> Option<Command> {
        let open = match self.opening {
            Opening::Sync { .. } | Opening::Flight => return None,
            Opening::Frame => true,
            Opening::Open => false,
        };
        let idle = self.pending.is_empty() && self.in_flight.is_empty();
        let mark = open || (self.mark_wanted && self.uncovered && idle);
        let size = match self.pending.front() {
            _ if open => frame_size(0),
            Some(batch) => frame_size(batch.bytes.len() - FRAME_HEADER_SIZE),
            None if mark => frame_size(0),
            None => return None,
        };
        if !open && !self.may_issue() {
            return None;
        }
        let fits = self.segments.active().is_some()
            && self.offset + size as u64 <= self.segments.segment_size();
        if !fits {
            self.segments.advance()?;
            self.offset = FRAMES_AT;
        }
        let batch = if open || (mark && self.pending.is_empty()) {
            self.mark_wanted = false;
            Batch::new(self.pool.pop().unwrap_or_default())
        } else {
            self.pending.pop_front().expect("measured above")
        };
        if open {
            self.opening = Opening::Flight;
        }
        Some(self.issue(batch, open))
    }

    /// Makes the batch the next frame, at `offset` of the active segment.
    fn issue(&mut self, mut batch: Batch, open: bool) -> Command {
        self.pending_size -= batch.bytes.len() - FRAME_HEADER_SIZE;
        self.uncovered = batch.record_count > 0;
        if self.offset == FRAMES_AT {
            self.repeat_state(&mut batch);
        }
        let size = frame_size(batch.bytes.len() - FRAME_HEADER_SIZE);
        let segment = self.segments.active().expect("the frame has a segment");
        let start = segment * self.segments.segment_size() + self.offset;
        assert!(self.offset + size as u64 <= self.segments.segment_size(), "the frame fits");
        let mut header = FrameHeader {
            open,
            log_id: self.identity.log_id,
            lsn: Lsn(start),
            sequence: self.issued + 1,
            durable: self.durable,
            epoch: self.epoch,
            previous_crc: self.previous_crc,
            body_size: u32::try_from(batch.bytes.len() - FRAME_HEADER_SIZE).expect("bounded"),
            record_count: batch.record_count,
            window: self.config.window(),
            crc: 0,
        };
        header.seal(&mut batch.bytes);
        let (first, last) = batch.entries.unwrap_or((LogIndex(0), LogIndex(0)));
        let file = FileId::Segment(segment);
        let extent = Extent { file, offset: self.offset, size, lsn: Lsn(start), first, last };
        self.segments.hold(batch.index_max);
        self.state.hard_state = batch.state.hard_state.or(self.state.hard_state);
        let mark = batch.state.mark.as_ref().map_or(LogIndex(0), |mark| mark.index);
        self.state.mark = batch.state.mark.or(self.state.mark.take());
        self.in_flight.push_back(InFlight {
            sequence: header.sequence,
            epoch: self.epoch,
            extent,
            bytes: Some(batch.bytes),
            has_entries: batch.entries.is_some(),
            reset: batch.reset,
            mark,
            done: false,
        });
        self.issued = header.sequence;
        self.previous_crc = header.crc;
        self.offset += size as u64;
        self.check();
        Command::Write { id: header.sequence, file, offset: extent.offset, size }
    }

    /// Puts the state before the batch in front of its records.
    fn repeat_state(&self, batch: &mut Batch) {
        let mut state = Vec::new();
        if let Some(mark) = &self.state.mark {
            mark.record().encode(&mut state);
            batch.record_count += 1;
        }
        if let Some(hard_state) = self.state.hard_state {
            Record::HardState(hard_state).encode(&mut state);
            batch.record_count += 1;
        }
        assert!(
            state.len() <= self.config.state_size_max(),
            "every frame leaves room for the state"
        );
        batch.bytes.splice(FRAME_HEADER_SIZE..FRAME_HEADER_SIZE, state);
    }

    /// Writes the frame of a [`Command::Write`] into `buffer`.
    ///
    /// # Panics
    /// If no such write was asked for, it was filled before, or `buffer` is not of its size.
    ///
    /// # Cost
    /// One copy and one checksum of the frame.
    pub fn fill(&mut self, id: u64, buffer: &mut [u8]) {
        let write = self.in_flight.iter_mut().find(|write| write.sequence == id);
        let write = write.expect("the write was asked for");
        assert!(buffer.len() == write.extent.size, "the buffer is of the write's size");
        let bytes = write.bytes.take().expect("a write is filled once");
        scatter(self.seal, write.extent.lsn, write.epoch, &bytes, buffer);
        if cfg!(debug_assertions) {
            let mut body = Vec::new();
            let read = super::read::read(self.identity, write.extent, buffer, &mut body);
            assert!(read.is_ok() && body == bytes, "what is written can be read");
        }
        let kept_max = usize::try_from(self.config.writes_in_flight_max).expect("64 bits") + 1;
        if self.pool.len() < kept_max {
            self.pool.push(bytes);
        }
    }

    /// Takes in what the driver has done.
    ///
    /// # Panics
    /// If it was not asked to.
    pub fn handle(&mut self, event: Event) {
        match event {
            Event::Written { id } => self.on_written(id),
            Event::Read { id, bytes } => self.fetches.on_read(self.identity, id, &bytes),
            Event::Done => self.on_done(),
        }
        self.check();
    }

    fn on_written(&mut self, id: u64) {
        let write = self.in_flight.iter_mut().find(|write| write.sequence == id);
        let write = write.expect("the write was asked for");
        assert!(write.bytes.is_none() && !write.done, "a write is filled, then done once");
        write.done = true;
        while self.in_flight.front().is_some_and(|write| write.done) {
            let write = self.in_flight.pop_front().expect("there is a front");
            self.on_durable(&write);
        }
        if self.opening == Opening::Flight {
            assert!(self.in_flight.is_empty(), "the open frame is alone in flight");
            self.opening = Opening::Open;
        }
    }

    fn on_durable(&mut self, write: &InFlight) {
        self.durable = write.sequence;
        self.mark_durable = self.mark_durable.max(write.mark);
        if write.reset {
            self.index = FrameIndex::default();
        }
        if write.has_entries {
            self.index.push(write.extent);
        }
        if write.extent.offset == FRAMES_AT
            && let FileId::Segment(segment) = write.extent.file
        {
            self.segments.begin(segment);
        }
    }

    fn on_done(&mut self) {
        let Opening::Sync { next, last, asked } = self.opening else {
            return self.segments.on_done();
        };
        assert!(asked, "only what was asked for is done");
        self.opening = if next == last {
            Opening::Frame
        } else {
            Opening::Sync { next: next + 1, last, asked: false }
        };
    }

    fn check(&self) {
        assert!(self.durable <= self.issued, "what is durable was issued");
        assert!(self.first <= self.last.next(), "the entries are a range");
        assert!(self.issued - self.durable >= self.in_flight.len() as u64, "each is counted");
    }
}

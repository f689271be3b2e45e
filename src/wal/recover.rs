//! Recovery: from the files of a log to its records and an open writer.
//!
//! Recovery reads the header of every segment, then walks from frame to frame in order, handing
//! over the records of each. Where no valid frame follows, it observes what is there instead and
//! does what the table in [`super::decide`] says. It has no other reason to go on, stop or refuse.

use std::collections::VecDeque;

use super::Cause;
use super::Config;
use super::Damage;
use super::FileId;
use super::decide::{Decision, Here, Later, Next, Row, decide};
use super::format::FRAME_HEADER_SIZE;
use super::format::FRAMES_AT;
use super::format::FrameHeader;
use super::format::HardState;
use super::format::Identity;
use super::format::NotSegment;
use super::format::Record;
use super::format::Records;
use super::format::SegmentHeader;
use super::format::{frame_crc, gather, usize_from};
use super::read::Extent;
use super::read::FrameIndex;
use super::segment::Found;
use super::segment::Live;
use super::segment::Segments;
use super::writer::{End, Mark, State, Writer};
use crate::frame::BLOCK_SIZE;
use crate::frame::SECTOR_SIZE;
use crate::frame::Seal;
use crate::frame::Sector;
use crate::types::LogIndex;
use crate::types::Lsn;
use crate::types::ShardId;

/// Highest sequence, number or index believed, so that counting on from it cannot overflow.
const NUMBER_MAX: u64 = 1 << 62;

/// What recovery wants, or has come to.
#[derive(Debug)]
pub enum Step {
    /// Read `size` bytes at `offset` and pass them to [`Recovery::handle`].
    Read {
        /// The file.
        file: FileId,
        /// Bytes from its start; a multiple of the block size.
        offset: u64,
        /// Bytes; a multiple of the block size.
        size: usize,
    },
    /// A frame was accepted: take [`Recovery::records`].
    Records,
    /// The log is open.
    Done(Box<Recovered>),
    /// The files are not a log that can be opened; nothing was changed.
    Refused(Damage),
}

/// A log after recovery.
#[derive(Debug)]
pub struct Recovered {
    /// The log, open for writing. Others may rely on what was recovered once the first token
    /// submitted to it is durable.
    pub writer: Writer,
    /// The latest hard state; `committed` may be past `last`.
    pub hard_state: HardState,
    /// The latest snapshot.
    pub snapshot: Option<Mark>,
    /// Index of the first entry; `last + 1` if there is none. At most one past the snapshot's.
    pub first: LogIndex,
    /// Index of the last entry, or of the snapshot, or 0.
    pub last: LogIndex,
    /// Where the log ends, and by which row of the table.
    pub end: (FileId, u64, Row),
}

/// The frame before the position.
#[derive(Clone, Copy, Debug)]
struct Previous {
    sequence: u64,
    crc: u32,
    epoch: u32,
    window: u32,
    /// The log begins at the position, and what was before has been given back.
    head: bool,
}

/// What one sector is, seen from the frame before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    New { begins: bool, epoch: u32 },
    Old,
    Bad,
}

/// Bytes of a segment that were read.
#[derive(Debug, Default)]
struct Window {
    segment: usize,
    offset: u64,
    bytes: Vec<u8>,
}

/// ```text
///   Headers ──► Walk ──► Next ──► Later ──► Over
///                ▲ row B            │
///                └──────────────────┘
/// ```
#[derive(Clone, Debug)]
enum Phase {
    /// The header of the nth segment is to be checked.
    Headers(usize),
    /// A frame is due at the position.
    Walk,
    /// It is not there; the next segment is to be looked at.
    Next(Here),
    /// What lies later is to be looked at: which ranges yet.
    Later { here: Here, next: Next, ranges: VecDeque<(usize, u64, u64)> },
    /// The log is refused.
    Refused(Damage),
    /// The writer was handed over.
    Over,
}

/// What the records so far amount to.
#[derive(Debug, Default)]
struct Shape {
    state: State,
    first: Option<LogIndex>,
    /// The highest index that the next entry may have; `None` at the beginning of a log of which
    /// the first segments were given back.
    next: Option<LogIndex>,
}

impl Shape {
    fn follow(&mut self, record: &Record<'_>, config: &Config) -> Result<(), Cause> {
        match *record {
            Record::Entry { index, .. } => {
                if index.0 == 0 || index.0 > NUMBER_MAX {
                    return Err(Cause::Record);
                }
                if let Some(next) = self.next.filter(|&next| index > next) {
                    return Err(Cause::Gap { expected: next.0, index: index.0 });
                }
                self.first = Some(self.first.map_or(index, |first| first.min(index)));
                self.next = Some(index.next());
            }
            Record::HardState(state) => self.state.hard_state = Some(state),
            Record::Snapshot { term, index, reset, membership } => {
                if index.0 > NUMBER_MAX || membership.len() > config.membership_size_max {
                    return Err(Cause::Record);
                }
                if reset {
                    self.first = None;
                    self.next = Some(index.next());
                } else if let Some(next) = self.next.filter(|&next| index >= next) {
                    return Err(Cause::Gap { expected: next.0, index: index.0 });
                }
                let membership = membership.to_vec();
                self.state.mark = Some(Mark { term, index, membership });
            }
        }
        Ok(())
    }

    /// First and last entry, if none is missing.
    fn range(&self) -> Result<(LogIndex, LogIndex), Cause> {
        let base = self.state.mark.as_ref().map_or(LogIndex(0), |mark| mark.index);
        let Some(first) = self.first else {
            // Entries are written before it is known that they are committed.
            let committed = self.state.hard_state.map_or(LogIndex(0), |state| state.committed);
            if committed > base {
                return Err(Cause::Gap { expected: base.0 + 1, index: committed.next().0 });
            }
            return Ok((base.next(), base));
        };
        let last = LogIndex(self.next.map_or(0, |next| next.0 - 1));
        if first > base.next() {
            return Err(Cause::Gap { expected: base.0 + 1, index: first.0 });
        }
        if last < base {
            return Err(Cause::Gap { expected: last.0 + 1, index: base.0 });
        }
        Ok((first, last))
    }
}

/// A log on its way from files to a writer.
#[derive(Debug)]
pub struct Recovery {
    config: Config,
    identity: Identity,
    seal: Seal,
    segment_size: u64,
    /// Sequence and size of each segment, in order.
    segments: Vec<(u64, u64)>,
    found: Found,
    phase: Phase,
    window: Window,
    want: Option<(usize, u64, usize)>,
    /// Which segment, and where in it, the next frame is due.
    segment: usize,
    offset: u64,
    previous: Previous,
    /// Header and body of the last frame accepted.
    body: Vec<u8>,
    shape: Shape,
    index: FrameIndex,
    /// The segments, by sequence, with frames that no later one says to be durable; and the last
    /// frame of each.
    unproven: VecDeque<(u64, u64)>,
    /// What the last look at the position found.
    bad_at: u64,
    later: Later,
    sequence_max: u64,
    epoch_max: u32,
}

impl Recovery {
    /// The log of `shard` in a directory with these `files` (name and size). If it holds no
    /// segment, the log is new and gets `log_id`.
    ///
    /// # Panics
    /// If `config` does not [`Config::check`].
    #[must_use]
    pub fn new(config: Config, shard: ShardId, log_id: u64, files: &[(String, u64)]) -> Self {
        config.check();
        let identity = Identity { log_id, shard };
        let previous =
            Previous { sequence: 0, crc: 0, epoch: 0, window: config.window(), head: false };
        let mut recovery = Self {
            config,
            identity,
            seal: identity.seal(),
            segment_size: config.segment_size,
            segments: Vec::new(),
            found: Found::default(),
            phase: Phase::Headers(0),
            window: Window::default(),
            want: None,
            segment: 0,
            offset: FRAMES_AT,
            previous,
            body: Vec::new(),
            shape: Shape::default(),
            index: FrameIndex::default(),
            unproven: VecDeque::new(),
            bad_at: 0,
            later: Later::Nothing,
            sequence_max: 0,
            epoch_max: 0,
        };
        recovery.sort_files(files);
        recovery
    }

    fn sort_files(&mut self, files: &[(String, u64)]) {
        let mut spares = Vec::new();
        for (name, size) in files {
            match FileId::parse(name) {
                Some(FileId::Segment(sequence)) if sequence < NUMBER_MAX => {
                    self.segments.push((sequence, *size));
                }
                Some(FileId::Spare(number)) if number < NUMBER_MAX => {
                    spares.push((number, *size));
                }
                Some(_) | None => return self.refuse(name.clone(), 0, Cause::Foreign),
            }
        }
        self.segments.sort_unstable();
        let gap = self.segments.windows(2).find(|pair| pair[0].0 + 1 != pair[1].0);
        if let Some(pair) = gap {
            let missing = FileId::Segment(pair[0].0 + 1).to_string();
            return self.refuse(missing, 0, Cause::Missing);
        }
        let Some(&(_, size)) = self.segments.first() else {
            return self.sort_first(&spares);
        };
        self.segment_size = size;
        // A spare of another size was not finished; what a whole one holds is of no account.
        for (number, size) in spares {
            self.found.spare_next = self.found.spare_next.max(number + 1);
            if size == self.segment_size {
                self.found.spares.insert(number);
            } else {
                self.found.unwanted.push(FileId::Spare(number));
            }
        }
    }

    /// A log without segments has come no further than its first spare: where there are others,
    /// segments have been taken away.
    fn sort_first(&mut self, spares: &[(u64, u64)]) {
        if spares.iter().any(|&(number, _)| number > 0) {
            return self.refuse(FileId::Segment(0).to_string(), 0, Cause::Missing);
        }
        if spares.iter().any(|&(_, size)| size == self.segment_size) {
            self.found.spares.insert(0);
            self.found.spare_next = 1;
        }
    }

    fn refuse(&mut self, file: String, offset: u64, cause: Cause) {
        self.phase = Phase::Refused(Damage { file, offset, cause });
    }

    fn refuse_at(&mut self, segment: usize, offset: u64, cause: Cause) {
        let file = FileId::Segment(self.segments[segment].0).to_string();
        self.refuse(file, offset, cause);
    }

    /// Takes in the bytes of the last [`Step::Read`]; fewer than asked for if the file ends.
    ///
    /// # Panics
    /// If none were asked for.
    pub fn handle(&mut self, bytes: &[u8]) {
        let (segment, offset, size) = self.want.take().expect("bytes were asked for");
        if bytes.len() != size {
            let found = bytes.len();
            return self.refuse_at(segment, offset, Cause::Short { expected: size, found });
        }
        self.window.segment = segment;
        self.window.offset = offset;
        self.window.bytes.clear();
        self.window.bytes.extend_from_slice(bytes);
    }

    /// The records of the frame just accepted: to be applied in order to what the frames before
    /// have given. An entry replaces all at its index and above.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        Records::new(&self.body[FRAME_HEADER_SIZE..])
            .map(|record| record.expect("checked when the frame was accepted"))
    }

    /// What recovery wants next.
    ///
    /// # Panics
    /// After [`Step::Done`].
    pub fn poll(&mut self) -> Step {
        loop {
            if let Some((segment, offset, size)) = self.want {
                let file = FileId::Segment(self.segments[segment].0);
                return Step::Read { file, offset, size };
            }
            match self.phase.clone() {
                Phase::Headers(nth) => {
                    if let Some(done) = self.on_headers(nth) {
                        return done;
                    }
                }
                Phase::Walk => {
                    if let Some(Here::Whole) = self.walk() {
                        return Step::Records;
                    }
                }
                Phase::Next(here) => self.look_next(here),
                Phase::Later { here, next, ranges } => {
                    if let Some(done) = self.look_later(here, next, ranges) {
                        return done;
                    }
                }
                Phase::Refused(damage) => return Step::Refused(damage),
                Phase::Over => unreachable!("the log was handed over"),
            }
        }
    }

    /// Where in the window these bytes lie; else they are wanted.
    fn cover(&mut self, segment: usize, offset: u64, size: usize) -> Option<usize> {
        let window = &self.window;
        let end = window.offset + window.bytes.len() as u64;
        if window.segment == segment && window.offset <= offset && offset + size as u64 <= end {
            return Some(usize::try_from(offset - window.offset).expect("within the window"));
        }
        let rest = usize::try_from(self.segment_size - offset).expect("64 bits");
        assert!(size <= rest, "bytes of a segment");
        self.want = Some((segment, offset, size.max(self.config.read_size).min(rest)));
        None
    }

    fn on_headers(&mut self, nth: usize) -> Option<Step> {
        let Some(&(sequence, size)) = self.segments.get(nth) else {
            if self.segments.is_empty() {
                return self.finish(Row('J'));
            }
            self.begin();
            return None;
        };
        if size != self.segment_size || size < FRAMES_AT {
            let expected = self.segment_size.max(FRAMES_AT);
            self.refuse_at(nth, 0, Cause::Size { expected, found: size });
            return None;
        }
        let at = self.cover(nth, 0, BLOCK_SIZE)?;
        let header = SegmentHeader::decode(&self.window.bytes[at..at + BLOCK_SIZE]);
        match self.check_header(nth, sequence, header) {
            Ok(()) => self.phase = Phase::Headers(nth + 1),
            Err(cause) => self.refuse_at(nth, 0, cause),
        }
        None
    }

    fn check_header(
        &mut self,
        nth: usize,
        sequence: u64,
        header: Result<SegmentHeader, NotSegment>,
    ) -> Result<(), Cause> {
        let header = header.map_err(|error| match error {
            NotSegment::Version(found) => Cause::Version { found },
            NotSegment::Foreign | NotSegment::Broken => Cause::Header,
        })?;
        let (identity, shard) = (header.identity, self.identity.shard.0);
        if identity.shard.0 != shard {
            return Err(Cause::Shard { expected: shard, found: identity.shard.0 });
        }
        if nth == 0 {
            self.identity = identity;
            self.seal = identity.seal();
            self.adopt(header.segment_size)?;
        }
        if identity.log_id != self.identity.log_id {
            let expected = self.identity.log_id;
            return Err(Cause::Log { expected, found: identity.log_id });
        }
        if header.sequence != sequence {
            return Err(Cause::Sequence { found: header.sequence });
        }
        if header.segment_size != self.segment_size {
            let expected = header.segment_size;
            return Err(Cause::Size { expected, found: self.segment_size });
        }
        let end = sequence.checked_add(2).and_then(|s| s.checked_mul(self.segment_size));
        end.map(|_| ()).ok_or(Cause::Header)
    }

    /// Takes the log's own segment size instead of the configured one.
    fn adopt(&mut self, segment_size: u64) -> Result<(), Cause> {
        let block = BLOCK_SIZE as u64;
        if !segment_size.is_multiple_of(block) || segment_size > 1 << 40 {
            return Err(Cause::Header);
        }
        let room = usize::try_from(segment_size.saturating_sub(block)).expect("64 bits");
        self.config.segment_size = segment_size;
        self.config.frame_size_max = self.config.frame_size_max.min(room);
        if self.config.record_size_max() == 0 { Err(Cause::Header) } else { Ok(()) }
    }

    fn begin(&mut self) {
        let first = self.segments[0].0;
        self.previous.head = first > 0;
        // With nothing given back, the first entry is number 1.
        self.shape.next = (first == 0).then_some(LogIndex(1));
        self.enter(0);
    }

    fn enter(&mut self, segment: usize) {
        let sequence = self.segments[segment].0;
        self.found.live.push_back(Live { sequence, index_max: LogIndex(0), begun: false });
        self.segment = segment;
        self.offset = FRAMES_AT;
        self.phase = Phase::Walk;
    }

    fn lsn(&self, segment: usize, offset: u64) -> u64 {
        self.segments[segment].0 * self.segment_size + offset
    }

    fn classify(&self, sector: &[u8], lsn: u64) -> Class {
        match self.seal.open(sector) {
            Sector::Zero => Class::Old,
            Sector::Broken => Class::Bad,
            Sector::Whole(stamp) => {
                let earlier =
                    stamp.lsn < lsn && (lsn - stamp.lsn).is_multiple_of(self.segment_size);
                if stamp.lsn == lsn && stamp.epoch >= self.previous.epoch {
                    Class::New { begins: stamp.begins, epoch: stamp.epoch }
                } else if stamp.lsn == lsn || earlier {
                    Class::Old
                } else {
                    Class::Bad
                }
            }
        }
    }

    /// The header at the front of a new first sector, if its frame follows the one before.
    fn following(&self, sector: &[u8], lsn: u64, epoch: u32) -> Option<FrameHeader> {
        let previous = &self.previous;
        FrameHeader::decode(sector).filter(|header| {
            let sound = header.lsn == Lsn(lsn)
                && header.log_id == self.identity.log_id
                && header.epoch == epoch
                && (1..u32::MAX).contains(&header.epoch)
                && (1..NUMBER_MAX).contains(&header.sequence)
                && header.durable < header.sequence;
            let chained = header.previous_crc == previous.crc
                && if header.open {
                    header.sequence > previous.sequence && header.epoch > previous.epoch
                } else {
                    header.sequence == previous.sequence + 1 && header.epoch == previous.epoch
                };
            sound && (previous.head || chained)
        })
    }

    /// Looks at the position; takes the frame there if it is whole. `None` if bytes are wanted.
    fn walk(&mut self) -> Option<Here> {
        let here = self.look_here()?;
        if here == Here::Whole {
            self.accept();
            if let Phase::Refused(_) = self.phase {
                return None;
            }
        } else {
            self.phase = Phase::Next(here);
        }
        Some(here)
    }

    fn look_here(&mut self) -> Option<Here> {
        if self.offset == self.segment_size {
            return Some(Here::Edge);
        }
        let lsn = self.lsn(self.segment, self.offset);
        let at = self.cover(self.segment, self.offset, BLOCK_SIZE)?;
        let sector = &self.window.bytes[at..at + SECTOR_SIZE];
        self.bad_at = self.offset;
        let epoch = match self.classify(sector, lsn) {
            Class::Old => return Some(Here::Blank),
            Class::Bad => return Some(Here::Bad),
            Class::New { begins: false, .. } => return Some(Here::Strange),
            Class::New { begins: true, epoch } => epoch,
        };
        let Some(header) = self.following(sector, lsn, epoch) else {
            return Some(Here::Strange);
        };
        let size = header.frame_size();
        if size as u64 > self.segment_size - self.offset {
            return Some(Here::Strange);
        }
        let at = self.cover(self.segment, self.offset, size)?;
        let (mut old, mut bad) = (false, None);
        let sectors = self.window.bytes[at..at + size].chunks_exact(SECTOR_SIZE);
        for (nth, sector) in sectors.enumerate().skip(1) {
            let ahead = (nth * SECTOR_SIZE) as u64;
            match self.classify(sector, lsn + ahead) {
                Class::New { begins: false, epoch: of } if of == epoch => {}
                Class::New { epoch: of, .. } if of != epoch => old = true,
                Class::Old => old = true,
                Class::New { .. } | Class::Bad => bad = bad.or(Some(self.offset + ahead)),
            }
        }
        if let Some(bad) = bad {
            self.bad_at = bad;
            return Some(Here::Marred);
        }
        if old {
            return Some(Here::Torn);
        }
        let body_size = FRAME_HEADER_SIZE + usize_from(header.body_size);
        gather(&self.window.bytes[at..at + size], body_size, &mut self.body);
        if frame_crc(&self.body) == header.crc { Some(Here::Whole) } else { Some(Here::Wrong) }
    }

    /// Takes the frame at the position, which is collected in `body`.
    fn accept(&mut self) {
        let header = FrameHeader::decode(&self.body).expect("observed to be whole");
        let (mut entries, mut index_max, mut count) = (None, LogIndex(0), 0);
        for record in Records::new(&self.body[FRAME_HEADER_SIZE..]) {
            let followed = match &record {
                Ok(record) => self.shape.follow(record, &self.config),
                Err(_) => Err(Cause::Record),
            };
            if let Err(cause) = followed {
                return self.refuse_at(self.segment, self.offset, cause);
            }
            count += 1;
            match record.expect("followed above") {
                Record::Entry { index, .. } => {
                    let first = entries.map_or(index, |(first, _): (LogIndex, _)| first.min(index));
                    entries = Some((first, index));
                    index_max = index_max.max(index);
                }
                Record::Snapshot { reset: true, .. } => {
                    entries = None;
                    self.index = FrameIndex::default();
                }
                Record::HardState(_) | Record::Snapshot { .. } => {}
            }
        }
        if count != header.record_count {
            return self.refuse_at(self.segment, self.offset, Cause::Record);
        }
        let live = self.found.live.back_mut().expect("entered before");
        live.begun = true;
        live.index_max = live.index_max.max(index_max);
        let (offset, size) = (self.offset, header.frame_size());
        if let Some((first, last)) = entries {
            let file = FileId::Segment(self.segments[self.segment].0);
            self.index.push(Extent { file, offset, size, lsn: header.lsn, first, last });
        }
        self.prove(&header);
        self.previous = Previous {
            sequence: header.sequence,
            crc: header.crc,
            epoch: header.epoch,
            window: header.window,
            head: false,
        };
        self.offset += size as u64;
    }

    /// Notes that a frame is there, and which before it were durable.
    fn prove(&mut self, header: &FrameHeader) {
        let segment = self.segments[self.segment].0;
        match self.unproven.back_mut().filter(|last| last.0 == segment) {
            Some(last) => last.1 = header.sequence,
            None => self.unproven.push_back((segment, header.sequence)),
        }
        while self.unproven.front().is_some_and(|&(_, last)| last <= header.durable) {
            self.unproven.pop_front();
        }
    }

    fn look_next(&mut self, here: Here) {
        let segment = self.segment + 1;
        let next = if segment == self.segments.len() {
            Next::None
        } else {
            let Some(at) = self.cover(segment, FRAMES_AT, BLOCK_SIZE) else { return };
            let sector = &self.window.bytes[at..at + SECTOR_SIZE];
            let lsn = self.lsn(segment, FRAMES_AT);
            let fits = self.segment_size - self.offset >= u64::from(self.previous.window);
            match self.classify(sector, lsn) {
                Class::Old => Next::Blank,
                Class::Bad if fits => Next::Blank,
                Class::Bad => Next::Bad,
                Class::New { begins: true, epoch }
                    if !self.previous.head && self.following(sector, lsn, epoch).is_some() =>
                {
                    Next::Follows
                }
                Class::New { .. } => Next::Apart,
            }
        };
        self.later = if self.previous.head { Later::Covered } else { Later::Nothing };
        (self.sequence_max, self.epoch_max) = (self.previous.sequence, self.previous.epoch);
        self.phase = Phase::Later { here, next, ranges: self.ranges() };
    }

    /// Where frames issued after the one due may lie: there, and in any further segment.
    fn ranges(&self) -> VecDeque<(usize, u64, u64)> {
        let block = BLOCK_SIZE as u64;
        let window = u64::from(self.previous.window).max(block).next_multiple_of(block);
        let end = (self.offset + window).min(self.segment_size);
        let mut ranges = VecDeque::from([(self.segment, self.offset, end)]);
        for segment in self.segment + 1..self.segments.len() {
            ranges.push_back((segment, FRAMES_AT, (FRAMES_AT + window).min(self.segment_size)));
        }
        ranges
    }

    fn look_later(
        &mut self,
        here: Here,
        next: Next,
        mut ranges: VecDeque<(usize, u64, u64)>,
    ) -> Option<Step> {
        while let Some((segment, start, end)) = ranges.pop_front() {
            if start == end {
                continue;
            }
            let read_size = self.config.read_size as u64;
            let until = end.min(start + read_size);
            let size = usize::try_from(until - start).expect("64 bits");
            let Some(at) = self.cover(segment, start, size) else {
                ranges.push_front((segment, start, end));
                self.phase = Phase::Later { here, next, ranges };
                return None;
            };
            self.scan(at, size, self.lsn(segment, start));
            ranges.push_front((segment, until, end));
        }
        self.conclude(here, next)
    }

    /// Looks for new sectors in these bytes of the window.
    fn scan(&mut self, at: usize, size: usize, lsn: u64) {
        let mut lsn = lsn;
        for at in (at..at + size).step_by(SECTOR_SIZE) {
            let sector = &self.window.bytes[at..at + SECTOR_SIZE];
            if let Class::New { begins, epoch } = self.classify(sector, lsn) {
                self.epoch_max = self.epoch_max.max(epoch);
                let header = if begins { FrameHeader::decode(sector) } else { None };
                let proof = header.is_some_and(|header| header.durable > self.previous.sequence);
                let sequence = header.map_or(0, |header| header.sequence);
                self.sequence_max = self.sequence_max.max(sequence);
                self.later = match self.later {
                    Later::Covered => Later::Covered,
                    Later::Nothing | Later::Flight if proof => Later::Covered,
                    Later::Nothing | Later::Flight => Later::Flight,
                };
            }
            lsn += SECTOR_SIZE as u64;
        }
    }

    fn conclude(&mut self, here: Here, next: Next) -> Option<Step> {
        let (row, decision) = decide(here, next, self.later);
        match decision {
            Decision::Accept => unreachable!("a whole frame is accepted where it is found"),
            Decision::Segment => self.enter(self.segment + 1),
            Decision::End | Decision::Cut => return self.finish(row),
            Decision::Sector => self.refuse_at(self.segment, self.bad_at, Cause::Sector(row)),
            Decision::Next => self.refuse_at(self.segment + 1, FRAMES_AT, Cause::Sector(row)),
            Decision::Frame => self.refuse_at(self.segment, self.offset, Cause::Frame(row)),
            Decision::Lost => self.refuse_at(self.segment, self.offset, Cause::Lost(row)),
        }
        None
    }

    /// Opens the log at the position.
    fn finish(&mut self, row: Row) -> Option<Step> {
        let (first, last) = match self.shape.range() {
            Ok(range) => range,
            Err(cause) => {
                self.refuse_at(self.segment, self.offset, cause);
                return None;
            }
        };
        let counted = self.sequence_max < NUMBER_MAX && self.epoch_max < u32::MAX - 1;
        if !counted {
            self.refuse_at(self.segment, self.offset, Cause::Header);
            return None;
        }
        let mut found = std::mem::take(&mut self.found);
        found.segment_size = self.segment_size;
        let taken = found.live.len();
        found.ready = self.segments.iter().skip(taken).map(|&(sequence, _)| sequence).collect();
        let active = found.live.back().map_or(0, |live| live.sequence);
        let state = std::mem::take(&mut self.shape.state);
        let (hard_state, snapshot) = (state.hard_state.unwrap_or_default(), state.mark.clone());
        let end = End {
            offset: self.offset,
            sequence: self.previous.sequence,
            crc: self.previous.crc,
            open_sequence: self.sequence_max + 1,
            epoch: self.epoch_max + 1,
            state,
            first,
            last,
            index: std::mem::take(&mut self.index),
            unproven: self.unproven.front().map(|&(segment, _)| segment),
        };
        let segments = Segments::new(&self.config, self.identity, found);
        let writer = Writer::new(self.config, self.identity, segments, end);
        self.phase = Phase::Over;
        let end = (FileId::Segment(active), self.offset, row);
        Some(Step::Done(Box::new(Recovered { writer, hard_state, snapshot, first, last, end })))
    }
}

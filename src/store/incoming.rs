//! What arrives: another store's segments on their way into files of this one, in the order of
//! their revisions, and their checks.
//!
//! ```text
//!   of each segment:  Create ──► Open ──all written──► Finishing ──► Checking ──► the next
//!   of all:           Whole ──install──► Installing ──► Installed
//! ```
//!
//! Nothing of it is part of the store until the last step, one manifest in the place of the other:
//! until then its files are such as recovery removes. What was written is read back before that,
//! every block and page of it, so that nothing is believed which this disk does not have.
//!
//! Once installed, what this store holds in memory is of the past. It goes on serving reads, and
//! asks for nothing else: its owner recovers another from the files.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Cause;
use super::Command;
use super::Damage;
use super::FileId;
use super::Lack;
use super::format::FOOTER_SIZE;
use super::format::Identity;
use super::format::NotOurs;
use super::format::PAGE_HEADER_SIZE;
use super::format::SEGMENT_HEADER_SIZE;
use super::format::SegmentHeader;
use super::machine::Store;
use super::manifest::Manifest;
use super::manifest::Segment;
use super::read::Purpose;
use super::segment::Opening;
use super::segment::Sealed;

/// How far what arrives has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing arrives.
    None,
    /// Files of something that was given up are being removed.
    Leaving,
    /// Bytes of a segment are wanted, from `offset` on.
    Wants {
        /// Its place among those that the manifest lists.
        segment: usize,
        /// Bytes that were taken.
        offset: u64,
        /// Bytes of them that are not written.
        waiting: usize,
        /// Bytes of the file.
        size: u64,
    },
    /// A segment is being finished or checked.
    Busy,
    /// What arrived is not what was sent.
    Broken,
    /// All of it is there, and whole.
    Whole,
    /// It is being installed.
    Installing,
    /// It is what a restart finds.
    Installed,
}

#[derive(Debug)]
enum Step {
    Create,
    Creating,
    Open,
    Finishing,
    Checking(Box<Check>),
    Broken(Damage),
    Whole,
    Install,
    Installing,
    Installed,
}

/// Segments on their way into files.
#[derive(Debug)]
pub(super) struct Incoming {
    /// As it will be installed, but for its sequence.
    manifest: Manifest,
    /// The numbers that its segments have where they come from.
    numbers: Vec<u64>,
    /// The one that is under way.
    at: usize,
    step: Step,
    /// Bytes of it that were taken.
    offset: u64,
    /// Bytes of it that were handed to the disk.
    written: u64,
    pieces: VecDeque<Bytes>,
    writes: u32,
    /// It was given up, and waits for what is on its way to the disk.
    is_dropped: bool,
}

/// A finished file that is being read back.
#[derive(Debug)]
struct Check {
    identity: Identity,
    listed: Segment,
    next: Next,
    /// A read is under way.
    is_asked: bool,
}

/// What of the file comes next.
#[derive(Debug)]
enum Next {
    Header,
    PageHeader(Box<Opening>),
    /// A page of so many bytes.
    Page(Box<Opening>, usize),
    Tail(Box<Opening>),
    /// So many blocks from this one on.
    Blocks(Box<Sealed>, u32, u32),
    Done,
}

impl Check {
    /// Where the next read goes; none once all is read.
    fn extent(&self) -> Option<(u64, usize)> {
        match &self.next {
            Next::Header => Some((0, SEGMENT_HEADER_SIZE)),
            Next::PageHeader(opening) => Some((opening.offset(), PAGE_HEADER_SIZE)),
            Next::Page(opening, size) => Some((opening.offset(), *size)),
            Next::Tail(_) => {
                let summary = self.listed.summary;
                Some((summary.padding_at(), summary.padding_size() + FOOTER_SIZE))
            }
            Next::Blocks(sealed, first, count) => {
                let (start, _) = sealed.block_extent(*first);
                let (last, size) = sealed.block_extent(first + count - 1);
                let before = usize::try_from(last - start).expect("usize is 64 bits");
                Some((start, before + size))
            }
            Next::Done => None,
        }
    }

    /// Takes in what was read; it is as it was sealed.
    ///
    /// # Errors
    /// What of it is not.
    fn take(&mut self, bytes: &[u8], size_max: usize) -> Result<(), Damage> {
        self.is_asked = false;
        let next = std::mem::replace(&mut self.next, Next::Done);
        self.next = self.follow(next, bytes, size_max)?;
        Ok(())
    }

    fn follow(&self, next: Next, bytes: &[u8], size_max: usize) -> Result<Next, Damage> {
        Ok(match next {
            Next::Header => {
                self.check_header(bytes)?;
                Self::pages(Box::new(Opening::new(self.identity, &self.listed)))
            }
            Next::PageHeader(opening) => {
                let size = opening.page_size(bytes)?;
                Next::Page(opening, size)
            }
            Next::Page(mut opening, size) => {
                if opening.page_size(bytes)? != size {
                    return Err(self.damage(opening.offset(), Cause::Directory));
                }
                opening.page(bytes, &mut Vec::new())?;
                Self::pages(opening)
            }
            Next::Tail(opening) => {
                let sealed = opening.finish(bytes)?;
                Self::blocks(Box::new(sealed), 0, size_max)
            }
            Next::Blocks(sealed, first, count) => {
                let mut rest = bytes;
                for block in first..first + count {
                    let (_, size) = sealed.block_extent(block);
                    let (block_bytes, after) = rest.split_at(size.min(rest.len()));
                    sealed.check(block, block_bytes)?;
                    rest = after;
                }
                Self::blocks(sealed, first + count, size_max)
            }
            Next::Done => unreachable!("nothing was asked for"),
        })
    }

    fn check_header(&self, bytes: &[u8]) -> Result<(), Damage> {
        let header = SegmentHeader::decode(bytes).map_err(|why| match why {
            NotOurs::Version(found) => self.damage(0, Cause::Version { found }),
            NotOurs::Foreign | NotOurs::Broken => self.damage(0, Cause::Header),
        })?;
        let origin = self.listed.origin;
        if (header.identity, header.number) == (self.identity.of(origin), origin.number) {
            return Ok(());
        }
        Err(self.damage(0, Cause::Unlisted))
    }

    fn damage(&self, offset: u64, cause: Cause) -> Damage {
        Damage { file: FileId::Segment(self.listed.number).to_string(), offset, cause }
    }

    fn pages(opening: Box<Opening>) -> Next {
        if opening.size_left() == 0 { Next::Tail(opening) } else { Next::PageHeader(opening) }
    }

    /// As many blocks as a read takes.
    fn blocks(sealed: Box<Sealed>, first: u32, size_max: usize) -> Next {
        let (mut count, mut size) = (0, 0);
        while first + count < sealed.block_count() {
            size += sealed.block_extent(first + count).1;
            if count > 0 && size > size_max {
                break;
            }
            count += 1;
        }
        if count == 0 { Next::Done } else { Next::Blocks(sealed, first, count) }
    }
}

impl Incoming {
    fn listed(&self) -> Segment {
        self.manifest.segments[self.at]
    }

    /// What follows the segments before `at`.
    fn begin(&mut self, at: usize) {
        (self.at, self.offset, self.written) = (at, 0, 0);
        self.step = if at < self.manifest.segments.len() { Step::Create } else { Step::Whole };
    }

    fn arrival(&self) -> Arrival {
        match self.step {
            _ if self.is_dropped => Arrival::Leaving,
            Step::Create | Step::Creating | Step::Open => {
                let size = self.listed().summary.file_size();
                if self.offset == size {
                    return Arrival::Busy;
                }
                let waiting = usize::try_from(self.offset - self.written).expect("it is bounded");
                Arrival::Wants { segment: self.at, offset: self.offset, waiting, size }
            }
            Step::Finishing | Step::Checking(_) => Arrival::Busy,
            Step::Broken(_) => Arrival::Broken,
            Step::Whole => Arrival::Whole,
            Step::Install | Step::Installing => Arrival::Installing,
            Step::Installed => Arrival::Installed,
        }
    }

    /// The next write: where it goes, and its bytes.
    pub(super) fn next_write(&mut self) -> Option<(FileId, u64, Vec<u8>)> {
        let is_open = matches!(self.step, Step::Open) && !self.is_dropped;
        let bytes = self.pieces.pop_front_if(|_| is_open)?;
        let offset = self.written;
        self.written += bytes.len() as u64;
        self.writes += 1;
        Some((FileId::New(self.listed().number), offset, bytes.into()))
    }

    pub(super) fn on_written(&mut self) {
        self.writes -= 1;
    }

    /// There was no room for this.
    pub(super) fn on_lack(&mut self, lack: Lack) {
        match lack {
            Lack::Write(_) => self.on_written(),
            Lack::Create => self.step = Step::Create,
        }
    }

    /// What is to be done with the file now that all before is.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        if self.is_dropped {
            return None;
        }
        match self.step {
            Step::Create => {
                self.step = Step::Creating;
                Some(Command::Create { file: FileId::New(self.listed().number) })
            }
            Step::Open => {
                let listed = self.listed();
                let is_written = self.written == listed.summary.file_size() && self.writes == 0;
                if !is_written {
                    return None;
                }
                self.step = Step::Finishing;
                let (from, to) = (FileId::New(listed.number), FileId::Segment(listed.number));
                Some(Command::Finish { from, to })
            }
            Step::Creating
            | Step::Finishing
            | Step::Checking(_)
            | Step::Broken(_)
            | Step::Whole
            | Step::Install
            | Step::Installing
            | Step::Installed => None,
        }
    }

    /// That is done.
    pub(super) fn on_done(&mut self) {
        self.step = match self.step {
            Step::Creating => Step::Open,
            Step::Finishing => {
                let (identity, listed) = (self.manifest.identity, self.listed());
                let (next, is_asked) = (Next::Header, false);
                Step::Checking(Box::new(Check { identity, listed, next, is_asked }))
            }
            Step::Create
            | Step::Open
            | Step::Checking(_)
            | Step::Broken(_)
            | Step::Whole
            | Step::Install
            | Step::Installing
            | Step::Installed => unreachable!("nothing was asked for"),
        };
    }

    /// The manifest that is to be written, once.
    pub(super) fn installation(&mut self) -> Option<Manifest> {
        if !matches!(self.step, Step::Install) {
            return None;
        }
        self.step = Step::Installing;
        Some(self.manifest.clone())
    }

    pub(super) fn on_installed(&mut self) {
        self.step = Step::Installed;
    }

    /// Bytes of its files.
    pub(super) fn size(&self) -> u64 {
        let made = self.manifest.segments.iter().take(self.at);
        made.map(|it| it.summary.file_size()).sum::<u64>() + self.written
    }

    /// Whether nothing of it is on its way to the disk or from it.
    fn is_quiet(&self) -> bool {
        let is_reading = matches!(&self.step, Step::Checking(check) if check.is_asked);
        self.writes == 0 && !is_reading && !matches!(self.step, Step::Creating | Step::Finishing)
    }

    /// The files that it has made.
    fn files(&self) -> Vec<FileId> {
        let listed = self.manifest.segments.iter().map(|it| it.number);
        let mut files: Vec<_> = listed.take(self.at).map(FileId::Segment).collect();
        let number = self.manifest.segments.get(self.at).map(|it| it.number);
        files.extend(match self.step {
            Step::Open | Step::Creating => number.map(FileId::New),
            Step::Finishing | Step::Checking(_) | Step::Broken(_) => number.map(FileId::Segment),
            Step::Create | Step::Whole | Step::Install | Step::Installing | Step::Installed => None,
        });
        files
    }
}

impl Store {
    /// Begins to take in what another store's manifest lists, and what its owner keeps with it.
    /// Whether that can be: it is of this shard, and nothing else arrives.
    ///
    /// # Panics
    /// If an owner's state is missing: there is nothing to install without.
    pub fn receive(&mut self, sent: Manifest) -> bool {
        assert!(!sent.state.is_empty(), "an owner has a state");
        if self.incoming.is_some() || sent.identity.shard != self.identity.shard {
            return false;
        }
        let mut manifest = Manifest { identity: self.identity, arrived: true, ..sent };
        let numbers = manifest.segments.iter().map(|listed| listed.number).collect();
        for listed in &mut manifest.segments {
            listed.number = self.number_next;
            self.number_next += 1;
        }
        let mut incoming = Incoming {
            manifest,
            numbers,
            at: 0,
            step: Step::Create,
            offset: 0,
            written: 0,
            pieces: VecDeque::new(),
            writes: 0,
            is_dropped: false,
        };
        incoming.begin(0);
        self.incoming = Some(incoming);
        true
    }

    /// How far what arrives has come.
    #[must_use]
    pub fn arrival(&self) -> Arrival {
        self.incoming.as_ref().map_or(Arrival::None, Incoming::arrival)
    }

    /// What of [`Arrival::Broken`] is not as it was sealed: of which file where it comes from, and
    /// where in it.
    #[must_use]
    pub fn arrival_damage(&self) -> Option<Damage> {
        let incoming = self.incoming.as_ref()?;
        let Step::Broken(damage) = &incoming.step else { return None };
        let file = FileId::Segment(incoming.numbers[incoming.at]).to_string();
        Some(Damage { file, ..damage.clone() })
    }

    /// Takes the next bytes of the segment that [`Arrival::Wants`] names.
    ///
    /// # Panics
    /// If there is none, they are more than it lacks, or no whole blocks.
    pub fn take_piece(&mut self, bytes: Bytes) {
        let Arrival::Wants { offset, size, .. } = self.arrival() else {
            unreachable!("bytes are wanted");
        };
        assert!(bytes.len() as u64 <= size - offset, "bytes of the segment");
        assert!(bytes.len().is_multiple_of(crate::frame::BLOCK_SIZE), "whole blocks");
        let incoming = self.incoming.as_mut().expect("something arrives");
        incoming.offset += bytes.len() as u64;
        incoming.pieces.push_back(bytes);
    }

    /// Makes all of it what a restart finds, and nothing else any more.
    ///
    /// # Panics
    /// Unless it is [`Arrival::Whole`].
    pub fn install(&mut self) {
        assert!(self.arrival() == Arrival::Whole, "what is whole is installed");
        self.incoming.as_mut().expect("something arrives").step = Step::Install;
    }

    /// Gives up what arrives, unless it is being installed; its files go.
    pub fn drop_arrival(&mut self) {
        if !self.is_replaced()
            && let Some(incoming) = &mut self.incoming
        {
            incoming.is_dropped = true;
            self.end_incoming();
        }
    }

    /// Whether something else is to take the place of all this, or has.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self.arrival(), Arrival::Installing | Arrival::Installed)
    }

    /// What was given up is gone once nothing of it is on its way.
    pub(super) fn end_incoming(&mut self) {
        if self.incoming.as_ref().is_some_and(|it| it.is_dropped && it.is_quiet()) {
            let incoming = self.incoming.take().expect("it was just there");
            self.unwanted.extend(incoming.files());
        }
    }

    /// The next read of what is checked.
    pub(super) fn next_check(&mut self) -> Option<Command> {
        if !self.reads.has_room(self.config.reads_max) {
            return None;
        }
        let incoming = self.incoming.as_mut().filter(|it| !it.is_dropped)?;
        let file = FileId::Segment(incoming.manifest.segments.get(incoming.at)?.number);
        let Step::Checking(check) = &mut incoming.step else { return None };
        let (offset, size) = check.extent().filter(|_| !check.is_asked)?;
        check.is_asked = true;
        let id = self.reads.begin(Purpose::Check);
        Some(Command::Read { id, file, offset, size })
    }

    /// It is here.
    pub(super) fn on_check(&mut self, bytes: &[u8]) {
        let incoming = self.incoming.as_mut().expect("something is checked");
        let Step::Checking(check) = &mut incoming.step else {
            unreachable!("something is checked");
        };
        match check.take(bytes, self.config.write_size) {
            Err(damage) => incoming.step = Step::Broken(damage),
            Ok(()) if check.extent().is_none() => incoming.begin(incoming.at + 1),
            Ok(()) => {}
        }
        self.end_incoming();
    }
}

#[cfg(test)]
mod tests;

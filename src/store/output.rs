//! Segments on their way to their files, one after the other.
//!
//! ```text
//!   Create ──► Creating ──Done──► Open ──all written──► Finishing ──Done──► made
//! ```

use super::Command;
use super::Config;
use super::FileId;
use super::builder::Builder;
use super::cache::BlockId;
use super::cache::Cache;
use super::cache::Entrance;
use super::format::Identity;
use super::record::ChangeRef;
use super::shelf::Shelf;

/// Writes' worth of bytes that may be ready before more changes are taken.
const BACKLOG_WRITES: usize = 2;

/// How far a file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Creating,
    Open,
    Finishing,
}

/// A segment that is being written.
#[derive(Debug)]
struct Output {
    number: u64,
    place: u32,
    step: Step,
    builder: Builder,
    is_ended: bool,
    /// Of the next write.
    offset: u64,
    writes: u32,
    /// Bytes of the block that is being filled that came from the cache.
    hot: usize,
    entrance: Entrance,
}

/// What is needed of the store to make segments.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) identity: Identity,
    pub(super) number_next: &'a mut u64,
    pub(super) shelf: &'a mut Shelf,
    pub(super) cache: &'a mut Cache,
}

/// Makes segments of changes that come in order.
#[derive(Debug)]
pub(super) struct Maker {
    output: Option<Output>,
    made: Vec<u32>,
    /// How blocks that are to be in the cache come there.
    entrance: Entrance,
}

impl Maker {
    /// Makes the first segments that changes are in.
    pub(super) fn of_new() -> Self {
        Self { output: None, made: Vec::new(), entrance: Entrance::Made }
    }

    /// Makes segments of what others have.
    pub(super) fn of_old() -> Self {
        Self { entrance: Entrance::Read { again: false }, ..Self::of_new() }
    }

    /// The places of the segments that are made, whole and durable, in order.
    pub(super) fn made(&self) -> &[u32] {
        &self.made
    }

    /// Whether no segment is being written.
    pub(super) fn is_between(&self) -> bool {
        self.output.is_none()
    }

    /// Whether a change may be pushed now. At `size_max` bytes of records a segment ends; what
    /// comes then has to wait until it is made.
    pub(super) fn takes(
        &mut self,
        change: &ChangeRef<'_>,
        size_max: usize,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(output) = &mut self.output else { return true };
        if output.is_ended {
            return false;
        }
        if output.builder.data_size() >= size_max || !output.builder.fits(change) {
            output.end(context);
            return false;
        }
        output.builder.ready() < BACKLOG_WRITES * context.config.write_size
    }

    /// Adds a change, which [`Self::takes`] said yes to. `is_hot`: it is to be in the cache.
    pub(super) fn push(&mut self, change: &ChangeRef<'_>, is_hot: bool, context: &mut Context<'_>) {
        let entrance = self.entrance;
        let output = self.output.get_or_insert_with(|| Output::new(entrance, context));
        let size = change.record_size();
        if let Some(filled) = output.builder.push(change) {
            output.filled(filled, context);
        }
        output.hot += if is_hot { size } else { 0 };
    }

    /// Whether nothing can be pushed for now.
    pub(super) fn is_busy(&self, write_size: usize) -> bool {
        let output = self.output.as_ref();
        output.is_some_and(|it| it.is_ended || it.builder.ready() >= BACKLOG_WRITES * write_size)
    }

    /// Whether a segment is being written that has not ended.
    pub(super) fn can_end(&self) -> bool {
        self.output.as_ref().is_some_and(|output| !output.is_ended)
    }

    /// Bytes that are ready to be written.
    pub(super) fn ready(&self) -> usize {
        self.output.as_ref().map_or(0, |output| output.builder.ready())
    }

    /// No more changes come.
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        if let Some(output) = self.output.as_mut().filter(|output| !output.is_ended) {
            output.end(context);
        }
    }

    /// The next write: where it goes, and its bytes.
    pub(super) fn next_write(&mut self, size: usize) -> Option<(FileId, u64, Vec<u8>)> {
        let output = self.output.as_mut().filter(|output| output.step == Step::Open)?;
        let ready = output.builder.ready();
        if ready < size && !(output.is_ended && ready > 0) {
            return None;
        }
        let mut bytes = vec![0; ready.min(size)];
        output.builder.fill(&mut bytes);
        let offset = output.offset;
        output.offset += bytes.len() as u64;
        output.writes += 1;
        Some((FileId::New(output.number), offset, bytes))
    }

    /// One of its writes is done.
    pub(super) fn on_written(&mut self) {
        let output = self.output.as_mut().expect("a write is of a file");
        output.writes -= 1;
    }

    /// What is to be done with the file now that all before is.
    pub(super) fn next_command(&mut self) -> Option<Command> {
        let output = self.output.as_mut()?;
        let file = FileId::New(output.number);
        match output.step {
            Step::Create => {
                output.step = Step::Creating;
                Some(Command::Create { file })
            }
            Step::Open => {
                let is_written =
                    output.is_ended && output.builder.ready() == 0 && output.writes == 0;
                if !is_written {
                    return None;
                }
                output.step = Step::Finishing;
                Some(Command::Finish { from: file, to: FileId::Segment(output.number) })
            }
            Step::Creating | Step::Finishing => None,
        }
    }

    /// That is done.
    pub(super) fn on_done(&mut self, shelf: &mut Shelf) {
        let mut output = self.output.take().expect("the command was about a file");
        match output.step {
            Step::Creating => {
                output.step = Step::Open;
                self.output = Some(output);
            }
            Step::Finishing => {
                shelf.build(output.place, output.builder.into_sealed());
                self.made.push(output.place);
            }
            Step::Create | Step::Open => unreachable!("nothing was asked for"),
        }
    }

    /// Bytes of the file that is being written, so far.
    pub(super) fn size(&self) -> u64 {
        self.output.as_ref().map_or(0, |output| output.offset)
    }
}

impl Output {
    fn new(entrance: Entrance, context: &mut Context<'_>) -> Self {
        let number = *context.number_next;
        *context.number_next += 1;
        Self {
            number,
            place: context.shelf.reserve(),
            step: Step::Create,
            builder: Builder::new(context.identity, number, context.config.block_size),
            is_ended: false,
            offset: 0,
            writes: 0,
            hot: 0,
            entrance,
        }
    }

    fn end(&mut self, context: &mut Context<'_>) {
        if let Some(filled) = self.builder.finish() {
            self.filled(filled, context);
        }
        self.is_ended = true;
    }

    /// Keeps a block in the cache if at least half of it is to be there.
    fn filled(&mut self, filled: super::builder::Filled, context: &mut Context<'_>) {
        let id = BlockId { segment: self.number, place: self.place, block: filled.block };
        let is_hot = 2 * self.hot >= filled.bytes.len();
        let hot = is_hot.then_some((filled.bytes, self.entrance));
        self.hot = 0;
        context.shelf.fill(id, hot, context.cache);
    }
}

//! Cleaning: the room of what was forgotten is given back.
//!
//! One run of adjacent segments at a time is written anew: the [`plan`](super::plan) says which.
//! Its records are read in stretches of blocks, those of which nothing stays are passed over, what
//! stays is copied to new segments, and the next manifest has these instead of the run.
//!
//! # Why nothing comes alive again
//!
//! A restart knows what the files have. A dead put may go: its key's later changes that are there
//! say by their versions that something is missing between. A tombstone that goes must leave no
//! older put of its key behind. Puts that were dead when the job began are not copied; segments
//! before the run are swept above the bound, and the bound is no higher than the floor at the
//! job's begin. So if the tombstone is below the bound, and dead, its key's older puts were dead
//! when the job began, and are in no file that the next manifest names.
//!
//! What is forgotten while it is being copied is noted in the copy before that is listed.
//!
//! # Rates
//!
//! Reading and copying spend an allowance that grows with time, faster as dead bytes outgrow what
//! is alive. Beyond [`HURRY_PERCENT`] there is no limit but the disk's; nor is there while a
//! *sweep* is under way, which somebody has asked for: every segment that has garbage now is
//! written anew, in order, however little it has.
//!
//! Files that nobody needs any more are removed at a rate of their own, too.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::Command;
use super::Damage;
use super::FileId;
use super::machine::Store;
use super::output::Context;
use super::output::Maker;
use super::plan;
use super::plan::Plan;
use super::plan::View;
use super::read::Purpose;
use super::record::ChangeRef;
use super::segment::Count;
use super::shelf::Shelf;
use super::tail::CHUNK_CHANGES;
use crate::types::Location;
use crate::types::Revision;
use crate::types::Tick;

/// Milliseconds between two looks at all segments.
const LOOK_INTERVAL: u64 = 20;
/// Stretches that are read ahead of what is copied.
const STRETCHES_MAX: usize = 2;
/// Milliseconds of allowance that a job costs besides what it copies: its files are synced.
const JOB_COST: u64 = 8;
/// Percent of what is alive above which cleaning is faster.
const BRISK_PERCENT: u64 = 140;
/// How much faster.
const BRISK_FACTOR: u64 = 4;
/// Percent of what is alive above which cleaning is not limited.
const HURRY_PERCENT: u64 = 170;
/// Most milliseconds that one tick gives allowance for.
const TICK_MAX: u64 = 200;
/// Bytes of files a millisecond that may be removed: 4 MB/s, as fast as a driver gives their room
/// back if that is not urgent.
const REMOVE_RATE: u64 = 4 << 10;
/// Bytes of files that may be removed at once after a rest, but for the last of them.
const REMOVE_BURST: u64 = 16 << 10;
/// Bytes of files that may wait to be removed; more go at once, and urgently.
const REMOVE_WAIT_MAX: u64 = 512 << 20;
/// How long cleaning keeps to what is all dead while more is being forgotten, in milliseconds.
/// What is mostly garbage now will soon be so entirely, and cost nothing; but forgetting may go on
/// and on.
const PATIENCE: u64 = 30_000;
/// Records whose bits are looked at for the price of one that is copied.
const SKIP_SHARE: usize = 16;

/// How fast cleaning may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pace {
    #[default]
    Easy,
    Brisk,
    Hurry,
}

/// What cleans.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    job: Option<Cleaning>,
    /// Everything dead at this floor was forgotten.
    floor: Revision,
    now: Tick,
    /// Bytes that may be read and copied now.
    allowance: i64,
    pace: Pace,
    sweep: Option<Sweep>,
    /// Something has changed since the segments were last looked at.
    is_stale: bool,
    looked: Option<Tick>,
    /// Since when more is being forgotten.
    forgetting: Option<Tick>,
    /// Bytes of files that were removed lately.
    removed: u64,
    /// Files are removed for somebody who waits for it.
    is_awaited: bool,
}

/// What a sweep has not come to yet: changes from the one to the other, both included.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    next: Location,
    last: Location,
}

/// A run that is being written anew.
///
/// # Shape
/// `made` in order, then what `maker` is at, then `stretches` in order, then what `source` and
/// `block` say: the run's records, all of them but those that do not stay.
#[derive(Debug)]
struct Cleaning {
    /// Which of the segments on the shelf.
    run: Range<usize>,
    first: Location,
    /// The floor when it began.
    floor: Revision,
    /// Dead tombstones of earlier revisions do not stay.
    bound: Revision,
    /// The segment, as an index on the shelf, and the block of it from which on nothing is chosen.
    source: usize,
    block: u32,
    stretches: VecDeque<Stretch>,
    maker: Maker,
    /// How many of the maker's segments [`Store::on_made`] has seen.
    made: usize,
    /// The last record that was copied or passed over.
    passed: Location,
    /// Dead tombstones below the floor in the segment that is being written, in bytes.
    settled: u64,
    /// What is dead in the segment that is being written.
    late: Vec<Location>,
}

/// Blocks that are read at once.
#[derive(Debug)]
struct Stretch {
    /// Their segment's place.
    place: u32,
    blocks: Range<u32>,
    /// Where they begin in the file, and their bytes.
    offset: u64,
    size: usize,
    /// The read's name, once it is asked for.
    name: Option<u64>,
    bytes: Option<Bytes>,
    /// The next record.
    next: u32,
    /// Where in the bytes it begins.
    at: usize,
}

impl Cleaner {
    /// What makes files.
    pub(super) fn maker(&self) -> Option<&Maker> {
        self.job.as_ref().map(|job| &job.maker)
    }

    /// What makes files.
    pub(super) fn maker_mut(&mut self) -> Option<&mut Maker> {
        self.job.as_mut().map(|job| &mut job.maker)
    }

    /// There may be something to do.
    pub(super) fn on_change(&mut self) {
        self.is_stale = true;
    }

    /// Which segments on the shelf are to be replaced, by those at which places.
    ///
    /// # Panics
    /// If no job is ready.
    pub(super) fn result(&self) -> (Range<usize>, &[u32]) {
        let job = self.job.as_ref().expect("a job is ready");
        (job.run.clone(), job.maker.made())
    }

    /// Everything dead at this floor was forgotten.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }

    fn may_spend(&self) -> bool {
        self.allowance > 0 || self.pace == Pace::Hurry
    }
}

impl Store {
    /// Notes that the change at `location` is dead for good. It has been sealed.
    ///
    /// # Panics
    /// If it has not.
    pub fn forget(&mut self, location: Location) {
        let tails = [&self.frozen, &self.tail];
        let unsealed = tails.iter().find_map(|tail| tail.span()).map(|(first, _)| first);
        assert!(unsealed.is_none_or(|first| location < first), "what is forgotten was sealed");
        let Some((place, ordinal)) = self.shelf.find(location) else { return };
        if !self.shelf.get_mut(place).sealed.forget(ordinal) {
            return;
        }
        self.cleaner.is_stale = true;
        let Some(job) = &mut self.cleaner.job else { return };
        if job.first <= location && location <= job.passed {
            job.forget(location, &mut self.shelf);
        }
    }

    /// More is to be forgotten.
    pub fn forgetting(&mut self) {
        self.cleaner.forgetting.get_or_insert(self.cleaner.now);
    }

    /// Everything that is dead at `floor` has been forgotten.
    pub fn forgotten(&mut self, floor: Revision) {
        self.cleaner.forgetting = None;
        self.cleaner.floor = self.cleaner.floor.max(floor);
        self.cleaner.is_stale = true;
        let floor = self.cleaner.floor;
        for index in 0..self.shelf.len() {
            let place = self.shelf.place_of(index);
            let shelved = self.shelf.get_mut(place);
            shelved.settled = shelved.sealed.dead_tombstones().size;
            if shelved.sealed.dead().records == 0 {
                shelved.sealed.sweep(floor);
            }
        }
    }

    /// Cleans all that has garbage now, without sparing the disk; [`Self::is_swept`] says when that
    /// is done. One under way begins anew.
    pub fn sweep(&mut self) {
        self.cleaner.sweep =
            self.shelf.last().map(|last| Sweep { next: Location::default(), last });
        self.cleaner.is_stale = true;
        self.cleaner.is_awaited = true;
    }

    /// Nobody waits for the sweep any more.
    pub fn end_sweep(&mut self) {
        self.cleaner.sweep = None;
        self.cleaner.is_stale = true;
        self.cleaner.is_awaited = false;
    }

    /// The file to be removed next, if one may be now.
    pub(super) fn next_removal(&mut self) -> Option<Command> {
        let is_pressing = self.cleaner.is_awaited || self.shelf.retired_size() > REMOVE_WAIT_MAX;
        if self.cleaner.removed >= REMOVE_BURST && !is_pressing {
            return None;
        }
        let Some((number, size)) = self.shelf.leave(&mut self.cache) else {
            // With the last file a sweep is over.
            self.cleaner.is_awaited &= self.cleaner.sweep.is_some() || self.cleaner.job.is_some();
            return None;
        };
        self.cleaner.removed = self.cleaner.removed.saturating_add(size);
        Some(Command::Remove { file: FileId::Segment(number), is_urgent: is_pressing })
    }

    /// No sweep is under way, and files that nobody reads are gone.
    #[must_use]
    pub fn is_swept(&self) -> bool {
        let is_cleaning = self.cleaner.sweep.is_some() || self.cleaner.job.is_some();
        !is_cleaning && !self.is_removing() && !self.shelf.can_leave()
    }

    /// Time has come to `now`.
    pub fn tick(&mut self, now: Tick) {
        let past = now.since(self.cleaner.now).min(TICK_MAX);
        self.tick_seal(past);
        self.cleaner.now = self.cleaner.now.max(now);
        let restored = past.saturating_mul(REMOVE_RATE);
        self.cleaner.removed = self.cleaner.removed.saturating_sub(restored);
        let factor = match self.cleaner.pace {
            Pace::Easy => 1,
            Pace::Brisk | Pace::Hurry => BRISK_FACTOR,
        };
        let gained = past.saturating_mul(self.config.clean_rate).saturating_mul(factor);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let read = i64::try_from(2 * self.config.clean_read_size).expect("bounded");
        let most = read.max(gained);
        let cleaner = &mut self.cleaner;
        cleaner.allowance = cleaner.allowance.saturating_add(gained).min(most);
    }

    /// Whether cleaning has all the time that it may take.
    #[must_use]
    pub fn is_easy(&self) -> bool {
        self.cleaner.pace == Pace::Easy
    }

    /// Does a slice of what can wait: about `budget` records' worth of cleaning, and of giving
    /// memory back. Whether there is more to do now.
    pub fn work(&mut self, budget: usize) -> bool {
        self.shed();
        self.look();
        let mut budget = budget.max(1);
        self.choose(&mut budget);
        self.settle(&mut budget);
        self.copy(&mut budget);
        !self.spent.is_empty() || self.has_work()
    }

    /// Gives back memory of tails that were sealed: a chunk, and as much as came since, so that one
    /// is gone before the next is sealed.
    fn shed(&mut self) {
        let chunks = 1 + std::mem::take(&mut self.pushed).div_ceil(CHUNK_CHANGES);
        for _ in 0..chunks {
            let Some(spent) = self.spent.last_mut() else { return };
            if !spent.shed() {
                self.spent.pop();
            }
        }
    }

    /// Looks at all segments: how fast to be, and whether a job is worth it.
    fn look(&mut self) {
        let cleaner = &mut self.cleaner;
        let is_hurried = cleaner.pace == Pace::Hurry && cleaner.job.is_none();
        let is_time = cleaner.looked.is_none_or(|at| cleaner.now.since(at) >= LOOK_INTERVAL);
        if !cleaner.is_stale || !(is_time || is_hurried) {
            return;
        }
        cleaner.looked = Some(cleaner.now);
        let views: Vec<_> = self.shelf.iter().map(view).collect();
        cleaner.pace = match cleaner.sweep {
            Some(_) => Pace::Hurry,
            None => pace(&views, self.config.seal_size as u64),
        };
        if cleaner.job.is_none() && cleaner.may_spend() {
            self.begin(&views);
        }
    }

    /// Begins a job, if one is worth it.
    fn begin(&mut self, views: &[View]) {
        let segment_size = self.config.segment_size as u64;
        let plan = self.plan_sweep(views);
        let cleaner = &mut self.cleaner;
        let waits = |since| cleaner.now.since(since) < PATIENCE;
        let plan = plan.or_else(|| match cleaner.forgetting {
            Some(since) if waits(since) => plan::dead(segment_size, views, cleaner.floor),
            Some(_) | None => plan::plan(segment_size, views, cleaner.floor),
        });
        let Some(Plan { run, bound }) = plan else {
            cleaner.is_stale = false;
            return;
        };
        let cost = i64::try_from(JOB_COST.saturating_mul(self.config.clean_rate));
        cleaner.allowance = cleaner.allowance.saturating_sub(cost.unwrap_or(i64::MAX));
        let first = self.shelf.get(self.shelf.place_of(run.start)).sealed.summary().first;
        cleaner.job = Some(Cleaning {
            source: run.start,
            block: 0,
            run,
            first,
            floor: cleaner.floor,
            bound,
            stretches: VecDeque::new(),
            maker: Maker::of_old(),
            made: 0,
            passed: Location::default(),
            settled: 0,
            late: Vec::new(),
        });
    }

    /// What the sweep comes to next; it is over if that is nothing.
    fn plan_sweep(&mut self, views: &[View]) -> Option<Plan> {
        let Sweep { next, last } = self.cleaner.sweep?;
        // Changes of a segment are all before the first of the next one.
        let end = self.shelf.index_of(last) + 1;
        let within = self.shelf.index_of(next)..end.min(self.shelf.len());
        let segment_size = self.config.segment_size as u64;
        let plan = plan::sweep(segment_size, views, self.cleaner.floor, within);
        self.cleaner.sweep = plan.as_ref().map(|plan| {
            let done = self.shelf.get(self.shelf.place_of(plan.run.end - 1)).sealed.summary().last;
            Sweep { next: Location { main: done.main, sub: done.sub.saturating_add(1) }, last }
        });
        plan
    }

    /// Chooses what is to be read next.
    fn choose(&mut self, budget: &mut usize) {
        let size = match self.cleaner.pace {
            Pace::Easy | Pace::Brisk => self.config.clean_read_size_gentle(),
            Pace::Hurry => self.config.clean_read_size,
        };
        let Some(job) = &mut self.cleaner.job else { return };
        while *budget > 0 && job.stretches.len() < STRETCHES_MAX && job.source < job.run.end {
            job.choose(&self.shelf, size, budget);
        }
    }

    /// Bytes of one write.
    pub(super) fn clean_write_size(&self) -> usize {
        match self.cleaner.pace {
            Pace::Easy | Pace::Brisk => self.config.write_size_gentle(),
            Pace::Hurry => self.config.write_size,
        }
    }

    /// The next read of the cleaner's.
    pub(super) fn next_stretch(&mut self) -> Option<Command> {
        if !self.reads.has_room(self.config.reads_max) || !self.cleaner.may_spend() {
            return None;
        }
        let job = self.cleaner.job.as_mut()?;
        let stretch = job.stretches.iter_mut().find(|stretch| stretch.name.is_none())?;
        let name = self.reads.begin(Purpose::Clean);
        stretch.name = Some(name);
        let file = self.shelf.get(stretch.place).sealed.file();
        let (offset, size) = (stretch.offset, stretch.size);
        let cost = i64::try_from(size).expect("64 bits");
        self.cleaner.allowance = self.cleaner.allowance.saturating_sub(cost);
        Some(Command::Read { id: name, file, offset, size })
    }

    /// A stretch is here.
    pub(super) fn on_stretch(&mut self, name: u64, bytes: Bytes) -> Result<(), Damage> {
        let job = self.cleaner.job.as_mut().expect("a job waits for its reads");
        let stretch = job.stretches.iter_mut().find(|stretch| stretch.name == Some(name));
        let stretch = stretch.expect("it was asked for");
        let sealed = &self.shelf.get(stretch.place).sealed;
        let mut at = 0;
        for block in stretch.blocks.clone() {
            let end = at + sealed.block_extent(block).1;
            sealed.check(block, bytes.get(at..end.min(bytes.len())).unwrap_or(&[]))?;
            at = end;
        }
        stretch.bytes = Some(bytes);
        Ok(())
    }

    /// Copies what stays of what was read.
    fn copy(&mut self, budget: &mut usize) {
        let Some(job) = &mut self.cleaner.job else { return };
        let mut context = Context {
            config: &self.config,
            identity: self.identity,
            number_next: &mut self.number_next,
            shelf: &mut self.shelf,
            cache: &mut self.cache,
        };
        while *budget > 0 {
            let Some(stretch) = job.stretches.front() else {
                if job.source == job.run.end {
                    job.maker.end(&mut context);
                }
                return;
            };
            if stretch.bytes.is_none() {
                return;
            }
            let sealed = &context.shelf.get(stretch.place).sealed;
            if stretch.next == sealed.block_records(stretch.blocks.end - 1).end {
                job.stretches.pop_front();
                continue;
            }
            match job.copy(&mut context) {
                Some(size) => {
                    let size = i64::try_from(size).expect("64 bits");
                    self.cleaner.allowance = self.cleaner.allowance.saturating_sub(size);
                }
                None => return,
            }
            *budget -= 1;
        }
    }

    /// The cleaner's last file is finished.
    pub(super) fn on_made(&mut self) {
        let job = self.cleaner.job.as_mut().expect("its file was made");
        if job.made == job.maker.made().len() {
            return;
        }
        let shelved = self.shelf.get_mut(job.maker.made()[job.made]);
        shelved.sealed.sweep(job.floor);
        shelved.settled = std::mem::take(&mut job.settled);
        job.made += 1;
    }

    /// Notes what is dead of the segments that are made.
    fn settle(&mut self, budget: &mut usize) {
        let Some(job) = &mut self.cleaner.job else { return };
        while *budget > 0 && job.maker.is_between() {
            let Some(location) = job.late.pop() else { return };
            job.forget(location, &mut self.shelf);
            *budget -= 1;
        }
    }

    /// The run can be replaced.
    pub(super) fn is_clean_ready(&self) -> bool {
        self.cleaner.job.as_ref().is_some_and(|job| {
            job.source == job.run.end
                && job.stretches.is_empty()
                && job.maker.is_between()
                && job.late.is_empty()
        })
    }

    /// The run was replaced.
    pub(super) fn on_cleaned(&mut self) {
        let job = self.cleaner.job.take().expect("it was ready");
        self.shelf.put(job.run, job.maker.made());
        self.cleaner.is_stale = true;
    }

    /// Whether [`Self::work`] would do something.
    fn has_work(&self) -> bool {
        let Some(job) = &self.cleaner.job else { return false };
        let to_choose = job.source < job.run.end && job.stretches.len() < STRETCHES_MAX;
        let to_copy = match job.stretches.front() {
            Some(stretch) => stretch.bytes.is_some() && !job.maker.is_busy(self.config.write_size),
            None => job.source == job.run.end && job.maker.can_end(),
        };
        to_choose || to_copy || (job.maker.is_between() && !job.late.is_empty())
    }
}

impl Cleaning {
    /// Whether a record is not to be copied.
    fn is_garbage(&self, sealed: &super::Sealed, ordinal: u32) -> bool {
        sealed.is_dead(ordinal)
            && (!sealed.is_tombstone(ordinal) || sealed.location(ordinal).main < self.bound)
    }

    /// The bytes of a block's records if any is to be copied.
    fn wanted(&self, sealed: &super::Sealed, block: u32) -> Option<usize> {
        let is_wanted = sealed.block_records(block).any(|it| !self.is_garbage(sealed, it));
        is_wanted.then(|| sealed.block_extent(block).1)
    }

    /// Chooses blocks that follow one another and are wanted, of about `size_max` bytes, or passes
    /// over some that are not.
    fn choose(&mut self, shelf: &Shelf, size_max: usize, budget: &mut usize) {
        let place = shelf.place_of(self.source);
        let sealed = &shelf.get(place).sealed;
        let start = self.block;
        let (mut end, mut size) = (start, 0);
        while end < sealed.block_count() {
            let records = sealed.block_records(end).len();
            *budget = budget.saturating_sub(records.div_ceil(SKIP_SHARE));
            match self.wanted(sealed, end) {
                Some(more) if size == 0 || size + more <= size_max => size += more,
                None if size == 0 => {
                    self.block = end + 1;
                    end = self.block;
                    if *budget == 0 {
                        break;
                    }
                    continue;
                }
                Some(_) | None => break,
            }
            end += 1;
        }
        if size > 0 {
            let blocks = self.block..end;
            self.stretches.push_back(Stretch {
                place,
                offset: sealed.block_extent(blocks.start).0,
                size,
                name: None,
                bytes: None,
                next: sealed.block_records(blocks.start).start,
                at: 0,
                blocks,
            });
        }
        self.block = end;
        if end == sealed.block_count() {
            self.source += 1;
            self.block = 0;
        }
    }

    /// Copies the next record of the first stretch, or passes over it: its size, or `None` if it
    /// has to wait.
    fn copy(&mut self, context: &mut Context<'_>) -> Option<usize> {
        let stretch = self.stretches.front().expect("a stretch is there");
        let (place, ordinal) = (stretch.place, stretch.next);
        let bytes = stretch.bytes.as_ref().expect("it was read");
        let sealed = &context.shelf.get(place).sealed;
        let end = stretch.at + sealed.record_size(ordinal);
        let location = sealed.location(ordinal);
        let is_garbage = self.is_garbage(sealed, ordinal);
        if !is_garbage {
            let bytes = bytes.clone();
            let change = ChangeRef::decode_record(&bytes[stretch.at..end]);
            let change = change.expect("the block was checked");
            let is_dead = sealed.is_dead(ordinal);
            let block = sealed.block_of(ordinal);
            let is_hot = context.shelf.word(place, block).slot().is_some();
            if !self.maker.takes(&change, context.config.segment_size, context) {
                return None;
            }
            self.maker.push(&change, is_hot, context);
            if is_dead {
                self.late.push(location);
                self.settled +=
                    if location.main < self.floor { change.record_size() as u64 } else { 0 };
            }
        }
        self.passed = location;
        let stretch = self.stretches.front_mut().expect("a stretch is there");
        let size = end - stretch.at;
        stretch.next += 1;
        stretch.at = end;
        Some(size)
    }

    /// A record of the run that was copied, or passed over, is dead.
    fn forget(&mut self, location: Location, shelf: &mut Shelf) {
        for &place in self.maker.made() {
            let sealed = &mut shelf.get_mut(place).sealed;
            if location <= sealed.summary().last {
                if let Some(ordinal) = sealed.find(location) {
                    sealed.forget(ordinal);
                }
                return;
            }
        }
        if !self.maker.is_between() {
            self.late.push(location);
        }
    }
}

/// What a plan rests on of a segment.
fn view(shelved: &super::shelf::Shelved) -> View {
    let sealed = &shelved.sealed;
    let all = Count { records: sealed.record_count(), size: sealed.summary().data_size };
    View {
        all,
        dead: sealed.dead(),
        settled: shelved.settled,
        is_dead: sealed.live().records == 0 && shelved.settled == sealed.dead_tombstones().size,
        last: sealed.summary().last.main,
        swept: sealed.swept(),
    }
}

/// How fast to be for these segments, where `slack` bytes are nothing.
fn pace(views: &[View], slack: u64) -> Pace {
    let all: u64 = views.iter().map(|view| view.all.size).sum();
    let dead: u64 = views.iter().map(|view| view.dead.size + view.settled).sum();
    let live = all.saturating_sub(dead) + slack;
    if all.saturating_mul(100) > live.saturating_mul(HURRY_PERCENT) {
        Pace::Hurry
    } else if all.saturating_mul(100) > live.saturating_mul(BRISK_PERCENT) {
        Pace::Brisk
    } else {
        Pace::Easy
    }
}

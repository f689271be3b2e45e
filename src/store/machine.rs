//! The store as one machine: what it is made of, and what it asks of the driver when.
//!
//! Changes are pushed to the tail. When the owner seals, the tail is frozen and a new one begun;
//! see [`seal`](super::seal). Cleaning goes on beside that; see [`clean`](super::clean). Each makes
//! files of its own, and their commands take turns: what somebody waits for first, then sealing,
//! for writes wait if it falls behind, then cleaning.

use super::Command;
use super::Config;
use super::Damage;
use super::Event;
use super::FileId;
use super::Lack;
use super::cache::Cache;
use super::clean::Cleaner;
use super::format::Identity;
use super::format::LISTED_SIZE;
use super::format::MANIFEST_HEADER_SIZE;
use super::incoming::Incoming;
use super::manifest::Manifest;
use super::outgoing::Parts as OutgoingParts;
use super::output::Maker;
use super::read::Purpose;
use super::read::Reads;
use super::recover::Parts;
use super::recover::Recovered;
use super::seal::Sealing;
use super::shelf::Pin;
use super::shelf::Shelf;
use super::tail::Tail;
use crate::frame::BLOCK_SIZE;
use crate::types::Change;
use crate::types::Location;

/// Writes in flight at most: one is on its way while the next is made.
const WRITES_MAX: usize = 2;

/// On whose behalf a file is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    Seal,
    Clean,
    Receive,
}

/// What the driver does that it does one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    /// Makes or finishes a file.
    File(Job),
    /// Replaces the manifest, with what of these is ready.
    Replace {
        seal: bool,
        clean: bool,
    },
    /// Replaces the manifest by one of what has arrived.
    Install,
    Remove,
}

/// A write in flight.
#[derive(Debug)]
struct Write {
    id: u64,
    job: Job,
    /// Until the driver has taken them.
    bytes: Option<Vec<u8>>,
}

/// What the last durable manifest says besides its segments.
#[derive(Debug)]
pub(super) struct Listed {
    /// 0 if there is no manifest.
    pub(super) sequence: u64,
    pub(super) state: Vec<u8>,
    /// Bytes of the file.
    size: u64,
    /// The state came from a peer.
    arrived: bool,
}

/// A shard's changes: the latest in memory, the others in sealed segments.
///
/// # Shape
/// All locations in `tail` are above those in `frozen`, and these above those on the shelf.
/// `frozen` is empty unless it is being sealed.
#[derive(Debug)]
pub struct Store {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) tail: Tail,
    pub(super) frozen: Tail,
    /// Sealed, and to be given back bit by bit.
    pub(super) spent: Vec<Tail>,
    /// Changes pushed since some of that was, and ever.
    pub(super) pushed: usize,
    change_count: u64,
    pub(super) shelf: Shelf,
    pub(super) cache: Cache,
    pub(super) reads: Reads,
    pub(super) sealing: Option<Sealing>,
    sealed: Option<u64>,
    pub(super) cleaner: Cleaner,
    pub(super) incoming: Option<Incoming>,
    pub(super) outgoing: OutgoingParts,
    writes: Vec<Write>,
    write_next: u64,
    busy: Option<Busy>,
    pub(super) number_next: u64,
    pub(super) listed: Listed,
    pub(super) unwanted: Vec<FileId>,
}

impl Store {
    /// The store that was recovered.
    #[must_use]
    pub fn new(recovered: Recovered) -> Self {
        let Recovered { parts, state } = recovered;
        let Parts { config, identity, sequence, number_next, segments, leftovers, arrived } = parts;
        config.check();
        let mut shelf = Shelf::default();
        let places: Vec<_> = segments
            .into_iter()
            .map(|sealed| {
                let place = shelf.reserve();
                shelf.build(place, sealed);
                place
            })
            .collect();
        shelf.put(0..0, &places);
        let state = state.unwrap_or_default();
        let used = MANIFEST_HEADER_SIZE + places.len() * LISTED_SIZE + state.len();
        let size = if sequence == 0 { 0 } else { used.next_multiple_of(BLOCK_SIZE) as u64 };
        let left = leftovers.iter().filter_map(|file| match file {
            FileId::Segment(number) | FileId::New(number) => Some(number.saturating_add(1)),
            FileId::Manifest | FileId::Draft => None,
        });
        let number_next = left.fold(number_next, u64::max);
        Self {
            config,
            identity,
            tail: Tail::new(),
            frozen: Tail::new(),
            spent: Vec::new(),
            pushed: 0,
            change_count: 0,
            shelf,
            cache: Cache::new(config.cache_size),
            reads: Reads::default(),
            sealing: None,
            sealed: None,
            cleaner: Cleaner::default(),
            incoming: None,
            outgoing: OutgoingParts::default(),
            writes: Vec::new(),
            write_next: 0,
            busy: None,
            number_next,
            listed: Listed { sequence, state, size, arrived },
            unwanted: leftovers,
        }
    }

    /// Which store it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its limits.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What the owner gave with the last seal that is durable; `None` if there is none.
    #[must_use]
    pub fn state(&self) -> Option<&[u8]> {
        Some(&self.listed.state[..]).filter(|state| !state.is_empty())
    }

    /// The location of the last change, if any is known.
    #[must_use]
    pub fn last(&self) -> Option<Location> {
        let tails = [&self.tail, &self.frozen].into_iter();
        let in_tail = tails.filter_map(Tail::span).map(|(_, last)| last).next();
        in_tail.or_else(|| {
            let index = self.shelf.len().checked_sub(1)?;
            Some(self.shelf.get(self.shelf.place_of(index)).sealed.summary().last)
        })
    }

    /// Adds a change.
    ///
    /// # Panics
    /// Unless its location is after every one that the tail has.
    ///
    /// # Cost
    /// A move of the change; its key and value stay where they are.
    #[inline]
    pub fn push(&mut self, change: Change) {
        self.pushed += 1;
        self.change_count += 1;
        self.tail.push(change);
    }

    /// Changes that were pushed since it was recovered.
    #[must_use]
    pub fn change_count(&self) -> u64 {
        self.change_count
    }

    /// The change at `location`, if it is not in a segment.
    #[inline]
    pub(super) fn tail_get(&self, location: Location) -> Option<&Change> {
        self.tail.get(location).or_else(|| self.frozen.get(location))
    }

    /// Keeps the blocks and directories that can be read now until it is given back.
    pub fn pin(&mut self) -> Pin {
        self.shelf.pin()
    }

    /// Gives a pin back.
    #[expect(clippy::needless_pass_by_value, reason = "a pin is given back once")]
    pub fn unpin(&mut self, pin: Pin) {
        self.shelf.unpin(&pin);
    }

    /// Whether some pin was not given back.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.shelf.is_pinned()
    }

    /// Bytes of all files.
    #[must_use]
    pub fn size_allocated(&self) -> u64 {
        let shelved = self.shelf.iter().chain(self.shelf.retired());
        let files: u64 = shelved.map(|it| it.sealed.summary().file_size()).sum();
        let makers = self.makers().map(|maker| {
            let made = maker.made().iter().map(|&place| self.shelf.get(place));
            maker.size() + made.map(|it| it.sealed.summary().file_size()).sum::<u64>()
        });
        let arriving = self.incoming.as_ref().map_or(0, Incoming::size);
        files + makers.sum::<u64>() + arriving + self.listed.size
    }

    /// Bytes of files that are only still there for somebody who reads them.
    #[must_use]
    pub fn size_retired(&self) -> u64 {
        self.shelf.retired_size()
    }

    /// Bytes that what is alive takes: of files, without the records that are dead, and of the
    /// changes that no file has yet.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        let file = |sealed: &super::Sealed| {
            let dead = sealed.dead().size + sealed.dead_tombstones().size;
            sealed.summary().file_size() - dead
        };
        let files: u64 = self.shelf.iter().map(|it| file(&it.sealed)).sum();
        files + self.unsealed_size() as u64 + self.listed.size
    }

    /// Bytes of memory of the changes that no durable segment has.
    #[must_use]
    pub fn unsealed_size(&self) -> usize {
        self.tail.size() + self.frozen.size()
    }

    fn makers(&self) -> impl Iterator<Item = &Maker> {
        let seal = self.sealing.as_ref().map(|sealing| &sealing.maker);
        seal.into_iter().chain(self.cleaner.maker())
    }

    /// Nothing is asked of the driver, and nothing will be before the next call.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.reads.is_idle()
            && self.writes.is_empty()
            && self.busy.is_none()
            && self.unwanted.is_empty()
            && self.sealing.is_none()
            && self.cleaner.maker().is_none()
            && self.incoming.is_none()
    }

    /// The next thing to do, or `None` until something happens.
    pub fn poll(&mut self) -> Option<Command> {
        if self.is_replaced() {
            return self.next_fetch().or_else(|| self.next_command());
        }
        self.next_fetch()
            .or_else(|| self.next_write())
            .or_else(|| self.next_command())
            .or_else(|| self.next_stretch())
            .or_else(|| self.next_check())
            .or_else(|| self.next_part())
    }

    fn next_write(&mut self) -> Option<Command> {
        if self.writes.len() >= WRITES_MAX {
            return None;
        }
        let clean_size = self.clean_write_size();
        let (job, (file, offset, bytes)) = self
            .next_seal_write()
            .map(|write| (Job::Seal, write))
            .or_else(|| Some((Job::Clean, self.maker(Job::Clean)?.next_write(clean_size)?)))
            .or_else(|| Some((Job::Receive, self.incoming.as_mut()?.next_write()?)))?;
        self.write_next += 1;
        let (id, size) = (self.write_next, bytes.len());
        self.writes.push(Write { id, job, bytes: Some(bytes) });
        Some(Command::Write { id, file, offset, size })
    }

    /// Whether a segment is being written to on behalf of this.
    pub(super) fn is_writing(&self, job: Job) -> bool {
        self.writes.iter().any(|write| write.job == job)
    }

    fn maker(&mut self, job: Job) -> Option<&mut Maker> {
        match job {
            Job::Seal => self.sealing.as_mut().map(|sealing| &mut sealing.maker),
            Job::Clean => self.cleaner.maker_mut(),
            Job::Receive => None,
        }
    }

    fn next_command(&mut self) -> Option<Command> {
        if self.busy.is_some() {
            return None;
        }
        if self.is_replaced() {
            // What a seal or the cleaner had under way comes to its end.
            return if self.writes.is_empty() { self.next_installation() } else { None };
        }
        if let Some(file) = self.unwanted.pop() {
            self.busy = Some(Busy::Remove);
            return Some(Command::Remove { file, is_urgent: true });
        }
        let is_any = self.sealing.is_some() || self.incoming.is_some();
        if self.listed.sequence == 0 && is_any {
            // The first segment's file may only be there once a manifest is.
            return Some(self.replace(false, false));
        }
        let (seal, clean) = (self.is_seal_ready(), self.is_clean_ready());
        if seal || clean {
            return Some(self.replace(seal, clean));
        }
        for job in [Job::Seal, Job::Clean] {
            if let Some(command) = self.maker(job).and_then(Maker::next_command) {
                self.busy = Some(Busy::File(job));
                return Some(command);
            }
        }
        if let Some(command) = self.incoming.as_mut().and_then(Incoming::next_command) {
            self.busy = Some(Busy::File(Job::Receive));
            return Some(command);
        }
        let removal = self.next_removal()?;
        self.busy = Some(Busy::Remove);
        Some(removal)
    }

    /// The next manifest, with what is ready of these.
    fn replace(&mut self, seal: bool, clean: bool) -> Command {
        let mut places: Vec<u32> = self.shelf.places().collect();
        if clean {
            let (run, made) = self.cleaner.result();
            places.splice(run, made.iter().copied());
        }
        let mut state = self.listed.state.clone();
        let mut arrived = self.listed.arrived;
        if let Some(sealing) = self.sealing.as_ref().filter(|_| seal) {
            for &place in sealing.maker.made() {
                // What is after a floor was not dead at it.
                let sealed = &mut self.shelf.get_mut(place).sealed;
                sealed.sweep(self.cleaner.floor().min(sealed.summary().first.main));
            }
            places.extend(sealing.maker.made());
            state.clone_from(&sealing.state);
            arrived = false;
        }
        let manifest = Manifest {
            identity: self.identity,
            sequence: self.listed.sequence + 1,
            number_next: self.number_next,
            segments: places.iter().map(|&place| self.shelf.get(place).sealed.listed()).collect(),
            state,
            arrived,
        };
        self.busy = Some(Busy::Replace { seal, clean });
        self.replace_by(manifest)
    }

    fn replace_by(&mut self, manifest: Manifest) -> Command {
        let bytes = manifest.encode();
        let (size, Manifest { sequence, state, arrived, .. }) = (bytes.len() as u64, manifest);
        self.listed = Listed { sequence, state, size, arrived };
        Command::Replace { bytes }
    }

    /// The manifest that what has arrived takes its place with; nothing else is done any more.
    fn next_installation(&mut self) -> Option<Command> {
        let mut manifest = self.incoming.as_mut()?.installation()?;
        manifest.sequence = self.listed.sequence + 1;
        manifest.number_next = self.number_next;
        self.busy = Some(Busy::Install);
        Some(self.replace_by(manifest))
    }

    /// Writes the bytes of a [`Command::Write`] into `buffer`.
    ///
    /// # Panics
    /// If no such write was asked for, it was filled before, or `buffer` is not of its size.
    ///
    /// # Cost
    /// One copy.
    pub fn fill(&mut self, id: u64, buffer: &mut [u8]) {
        let write = self.writes.iter_mut().find(|write| write.id == id);
        let write = write.expect("the write was asked for");
        buffer.copy_from_slice(&write.bytes.take().expect("a write is filled once"));
    }

    /// Takes in what the driver has done.
    ///
    /// # Errors
    /// What a read brought is not what was written. The owner halts: nothing here recovers.
    ///
    /// # Panics
    /// If the driver was not asked to.
    pub fn handle(&mut self, event: Event) -> Result<(), Damage> {
        match event {
            Event::Written { id } => {
                let index = self.writes.iter().position(|write| write.id == id);
                let write = self.writes.remove(index.expect("the write was asked for"));
                assert!(write.bytes.is_none(), "a write is filled, then done");
                match write.job {
                    Job::Receive => {
                        self.incoming.as_mut().expect("its file is being made").on_written();
                    }
                    Job::Seal | Job::Clean => {
                        self.maker(write.job).expect("its file is being made").on_written();
                    }
                }
                self.end_incoming();
                Ok(())
            }
            Event::Done => {
                self.on_done();
                Ok(())
            }
            Event::Read { id, bytes } => match self.reads.end(id) {
                Purpose::Block(block) => self.on_block(block, bytes),
                Purpose::Clean => self.on_stretch(id, bytes),
                Purpose::Check => {
                    self.on_check(&bytes);
                    Ok(())
                }
                Purpose::Part(place) => self.on_part(id, place, bytes),
            },
        }
    }

    /// There was no room for what the driver was asked to do. What arrives is given up for that,
    /// and its files go; false if it was anything else, which nothing here goes on without.
    pub fn lack(&mut self, lack: Lack) -> bool {
        let is_arriving = match lack {
            Lack::Write(id) => {
                let is_it = |write: &Write| (write.id, write.job) == (id, Job::Receive);
                self.writes.iter().position(is_it).map(|at| self.writes.remove(at)).is_some()
            }
            Lack::Create => self.busy.take_if(|it| *it == Busy::File(Job::Receive)).is_some(),
        };
        if is_arriving {
            self.incoming.as_mut().expect("its file is being made").on_lack(lack);
            self.drop_arrival();
        }
        is_arriving
    }

    fn on_done(&mut self) {
        match self.busy.take().expect("the driver was asked to") {
            Busy::Remove => {}
            Busy::Install => self.incoming.as_mut().expect("it is being installed").on_installed(),
            Busy::File(Job::Receive) => {
                self.incoming.as_mut().expect("its file is being made").on_done();
                self.end_incoming();
            }
            Busy::File(job) => {
                let maker = match job {
                    Job::Seal => self.sealing.as_mut().map(|sealing| &mut sealing.maker),
                    Job::Clean | Job::Receive => self.cleaner.maker_mut(),
                };
                maker.expect("its file is being made").on_done(&mut self.shelf);
                match job {
                    Job::Clean => self.on_made(),
                    Job::Seal | Job::Receive => {}
                }
            }
            Busy::Replace { seal, clean } => {
                if clean {
                    self.on_cleaned();
                }
                if seal {
                    self.sealed = Some(self.on_sealed());
                }
            }
        }
    }

    /// Whether a manifest is on its way, so that what it says and what is here differ.
    pub(super) fn is_replacing(&self) -> bool {
        matches!(self.busy, Some(Busy::Replace { .. } | Busy::Install))
    }

    /// Whether a file is being removed.
    pub(super) fn is_removing(&self) -> bool {
        self.busy == Some(Busy::Remove)
    }

    /// The token of the last seal, once, when its manifest is durable.
    pub fn sealed(&mut self) -> Option<u64> {
        self.sealed.take()
    }

    /// Whether the token of a seal is to be taken.
    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.is_some()
    }
}

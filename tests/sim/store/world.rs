//! The world around one store: what lies above it, a disk, and the driver between them.
//!
//! What lies above is a list of everything that was ever done, which stands in for the log, and an
//! index that says which changes are dead. It keeps to the order that makes forgetting safe: a
//! floor counts for good only once a manifest that holds it is durable.

mod reads;

use crate::dice::Dice;
use crate::store::counts::Counts;
use crate::store::crash;
use crate::store::disk::{Disk, Skip};
use crate::store::index::{Index, Past};
use crate::store::node::{self, State};
use crate::store::planted::Bug;
use crate::store::swarm::Swarm;
use bytes::Bytes;
use reads::List;
use ringd::store::{BlockId, Command, Event, FileId, Pin, Store};
use ringd::types::{Change, LeaseId, Location, Revision, Tick};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// Steps that are told when a seed fails.
const TRACE_MAX: usize = 100;
/// Turns in which everything must come to rest once nothing breaks any more.
const QUIET_ROUNDS_MAX: usize = 20_000;
/// Bytes of a file that are not records: its header, and zeros before its footer.
const FRAME_SIZE: u64 = 8192;
/// Bytes of records and directories that may lie around whatever is alive.
const SPARE: usize = 16 << 10;

/// One entry of what stands in for the log.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// The changes of one revision.
    Changes(Vec<Change>),
    /// Nothing below this revision is read any more.
    Compact(i64),
}

/// What some beginning of the log comes to.
pub(crate) struct Truth {
    applied: usize,
    pub(crate) floor: i64,
    /// What reads at the floor or later see.
    pub(crate) seen: Vec<(Bytes, Past)>,
    pub(crate) changes: BTreeMap<Location, Change>,
}

/// One thing that the seed made happen.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the places are read by whoever sees a failure")]
pub(crate) enum Act {
    Change(i64),
    Compact(i64),
    Seal(usize),
    Forget(i64),
    Work,
    Turn,
    Complete(usize),
    Read(Location),
    List(i64),
    Scan,
    Tick(u64),
    Fail,
    Kill,
    Power,
}

/// A write or a read in flight.
#[derive(Clone, Debug)]
enum Work {
    Write { id: u64, file: FileId, write: u64 },
    Read { id: u64, file: FileId, offset: u64, size: usize },
}

/// Values, and the blocks that they lie in.
type Wanted = Vec<(BlockId, Change)>;

/// Everything.
pub(crate) struct World {
    seed: u64,
    pub(crate) swarm: Swarm,
    dice: Dice,
    /// Apart, so that looking at crashes changes nothing in the run.
    pub(crate) crash_dice: Dice,
    pub(crate) bug: Option<Bug>,
    pub(crate) disk: Disk,
    store: Store,
    index: Index,
    /// Everything that was ever done.
    pub(crate) log: Vec<Entry>,
    /// What was last asked for of it.
    truth: Option<Rc<Truth>>,
    /// Entries that the log may have let go.
    pub(crate) released: usize,
    revision: i64,
    floor: i64,
    /// The floor that is durable, and the one up to which all that is dead was told.
    sealed_floor: i64,
    told_floor: i64,
    /// The floor of the compaction under way.
    pass: Option<i64>,
    sealing: Option<(u64, State)>,
    token: u64,
    works: Vec<Work>,
    lists: Vec<List>,
    /// Values that are on their way, by block, with what keeps them there.
    wanted: Wanted,
    pins: Vec<(Option<Pin>, Wanted)>,
    now: u64,
    pub(crate) counts: Counts,
    hash: u64,
    trace: VecDeque<Act>,
    is_changed: bool,
    /// Nothing breaks any more.
    is_resting: bool,
}

impl Drop for World {
    fn drop(&mut self) {
        crate::tell_of_panic(self.bug.is_some(), |why| self.tell(why));
    }
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9).wrapping_add(seed ^ 0x5707e));
        let swarm = Swarm::new(&mut dice);
        let disk = Disk::default();
        let node = node::recover(&swarm.config, &disk, |_, _, _| true).expect("an empty disk");
        let crash_dice = Dice::new(dice.next());
        Self {
            seed,
            swarm,
            dice,
            crash_dice,
            bug,
            disk,
            store: node.store,
            index: node.index,
            log: Vec::new(),
            truth: None,
            released: 0,
            revision: 1,
            floor: 0,
            sealed_floor: 0,
            told_floor: 0,
            pass: None,
            sealing: None,
            token: 0,
            works: Vec::new(),
            lists: Vec::new(),
            wanted: Vec::new(),
            pins: Vec::new(),
            now: 0,
            counts: Counts::default(),
            hash: 0xcbf2_9ce4_8422_2325,
            trace: VecDeque::new(),
            is_changed: true,
            is_resting: false,
        }
    }

    /// Lives through all steps, then lets everything come to rest.
    ///
    /// # Errors
    /// What was not as it must be, and how to see it again.
    pub(crate) fn run(mut self) -> Result<(Counts, u64), String> {
        let result = (0..self.swarm.steps).try_for_each(|_| self.step());
        match result.and_then(|()| self.come_to_rest()) {
            Ok(()) => Ok((self.counts.clone(), self.hash)),
            Err(why) => Err(self.tell(&why)),
        }
    }

    fn tell(&self, why: &str) -> String {
        let acts: Vec<String> = self.trace.iter().map(|act| format!("{act:?}")).collect();
        format!(
            "{why}\n  see it again: STORE_SEED={} cargo test --test sim store\n  {:?}\n  {:?}\n  \
             the last: {}",
            self.seed,
            self.swarm,
            self.disk,
            acts.join(", ")
        )
    }

    fn note(&mut self, act: Act) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        self.trace.push_back(act);
    }

    /// Whether this bug is planted, and strikes now: so many times of a hundred.
    fn has(&mut self, bug: Bug, percent: u64) -> bool {
        self.bug == Some(bug) && self.crash_dice.chance(percent)
    }

    fn step(&mut self) -> Result<(), String> {
        let rare = |on: bool, weight: u64| if on { weight } else { 0 };
        let weights = [
            300,
            self.swarm.compacts,
            100,
            200,
            self.swarm.works,
            200,
            self.swarm.disk_speed * 20,
            self.swarm.reads,
            self.swarm.reads,
            self.swarm.reads / 4,
            40,
            40,
            rare(self.swarm.failures, 2),
            rare(self.swarm.crashes, if self.bug == Some(Bug::UnsyncedNames) { 40 } else { 4 }),
        ];
        let mut lot = self.dice.below(weights.iter().sum());
        let nth = weights.iter().position(|&weight| {
            let hit = lot < weight;
            lot = lot.saturating_sub(weight);
            hit
        });
        match nth.expect("the lot is below the sum") {
            0 => self.change(),
            1 => self.compact(),
            2 => {
                let more = if self.floor > self.sealed_floor { 40 } else { 0 };
                if self.store.wants_seal() || self.dice.chance(self.swarm.seals + more) {
                    self.seal();
                }
            }
            3 => self.forget(),
            4 => self.work(),
            5 => self.turn()?,
            6 => self.complete()?,
            7 => self.read()?,
            8 => self.list()?,
            9 => self.scan()?,
            10 => self.tick(),
            11 => self.rush()?,
            12 => self.fail()?,
            _ => self.crash()?,
        }
        self.crash_point()
    }

    /// Makes the changes of one revision.
    fn change(&mut self) {
        if self.store.is_full() {
            return;
        }
        let (mut changes, count) = (Vec::new(), self.dice.pick(&[1, 1, 1, 2, 5]));
        let main = self.revision + 1;
        let mut keys = Vec::new();
        for _ in 0..count {
            let key = self.swarm.key(&mut self.dice);
            if keys.contains(&key) {
                continue;
            }
            keys.push(key.clone());
            let sub = u32::try_from(changes.len()).expect("few");
            let live = self.index.live(&key);
            let location = Location { main: Revision(main), sub };
            let change = match live {
                Some(_) if self.dice.chance(self.swarm.deletes) => Change {
                    location,
                    key: key.into(),
                    value: Bytes::new(),
                    lease: LeaseId(0),
                    created: Revision(0),
                    version: 0,
                },
                live => Change {
                    location,
                    key: key.into(),
                    value: self.swarm.value(&mut self.dice).into(),
                    lease: LeaseId(if self.dice.chance(20) { 1 << self.dice.below(63) } else { 0 }),
                    created: Revision(live.map_or(main, |past| past.created)),
                    version: live.map_or(1, |past| past.version + 1),
                },
            };
            changes.push(change);
        }
        self.note(Act::Change(main));
        self.counts.operations += 1;
        self.log.push(Entry::Changes(changes));
        self.apply(self.log.len() - 1);
    }

    fn compact(&mut self) {
        let behind = self.dice.pick(&[1, 3, 10, 60]);
        let revision = self.revision - i64::try_from(self.dice.below(behind)).expect("small");
        if revision > self.floor {
            self.note(Act::Compact(revision));
            self.log.push(Entry::Compact(revision));
            self.apply(self.log.len() - 1);
        }
    }

    /// Does an entry of the log.
    fn apply(&mut self, nth: usize) {
        match &self.log[nth] {
            Entry::Changes(changes) => {
                for change in changes {
                    self.index.push(&change.key, Past::of(change));
                    self.store.push(change.clone());
                    self.revision = change.location.main.0;
                }
            }
            Entry::Compact(revision) => self.floor = *revision,
        }
    }

    fn seal(&mut self) {
        if self.sealing.is_some() {
            return;
        }
        self.note(Act::Seal(self.log.len()));
        self.token += 1;
        let state = State { applied: self.log.len(), floor: self.floor };
        self.store.seal(self.token, state.encode());
        self.sealing = Some((self.token, state));
        if self.bug == Some(Bug::EarlyRelease) {
            self.released = state.applied;
        }
    }

    /// Takes up that a seal is durable.
    fn take_sealed(&mut self) -> Result<(), String> {
        while let Some(token) = self.store.sealed() {
            let Some((due, state)) = self.sealing.take() else {
                return Err(format!("{token} is sealed, and nothing was"));
            };
            if due != token {
                return Err(format!("{token} is sealed, {due} was asked for"));
            }
            self.counts.seals += 1;
            (self.released, self.sealed_floor) = (state.applied, state.floor);
        }
        Ok(())
    }

    /// A slice of compaction.
    fn forget(&mut self) {
        let pinned = self.lists.iter().map(|list| list.revision).min();
        let floor = if self.bug == Some(Bug::EarlyForget) { self.floor } else { self.sealed_floor };
        let floor = self.pass.unwrap_or(floor.min(pinned.unwrap_or(floor)));
        if floor <= self.told_floor {
            return;
        }
        self.pass = Some(floor);
        self.note(Act::Forget(floor));
        let budget = self.dice.pick(&[1, 30, 100]);
        let mut told = Vec::new();
        let is_through = !self.index.step(floor, budget, &mut told);
        let last = self.log[..self.released].iter().rev().find_map(Entry::revision).unwrap_or(0);
        for location in told {
            if self.bug != Some(Bug::EarlyForget) || location.main.0 <= last {
                self.store.forget(location);
            }
        }
        if is_through {
            (self.told_floor, self.pass) = (floor, None);
            self.counts.floors += u64::from(!self.is_resting);
            self.store.forgotten(Revision(floor));
        }
    }

    /// A slice of cleaning.
    fn work(&mut self) {
        self.note(Act::Work);
        let budget = self.dice.pick(&[1, 20, 200]);
        if self.has(Bug::DropLive, 5) {
            let live: Vec<Location> = self.index.all().map(|(_, past)| past.location).collect();
            let sealed = self.log[..self.released].iter().rev().find_map(Entry::revision);
            let live: Vec<_> = live
                .into_iter()
                .filter(|at| sealed.is_some_and(|main| at.main.0 <= main))
                .collect();
            if !live.is_empty() {
                self.store.forget(self.crash_dice.pick(&live));
            }
        }
        self.store.work(budget);
    }

    fn turn(&mut self) -> Result<(), String> {
        self.note(Act::Turn);
        self.take_fetched()?;
        while let Some(command) = self.store.poll() {
            self.begin(command)?;
            self.crash_point()?;
        }
        self.take_sealed()
    }

    fn begin(&mut self, command: Command) -> Result<(), String> {
        self.is_changed = true;
        self.mix(format!("{command:?}").as_bytes());
        let writes = self.works.iter().filter(|work| matches!(work, Work::Write { .. })).count();
        let reads = self.works.len() - writes;
        match command {
            Command::Write { id, file, offset, size } => {
                if writes >= 2 {
                    return Err(format!("a third write, of {file}"));
                }
                let mut buffer = vec![0xee; size];
                self.store.fill(id, &mut buffer);
                self.mix(&buffer);
                let write = self.disk.begin(&file.to_string(), offset, buffer);
                self.works.push(Work::Write { id, file, write });
            }
            Command::Read { id, file, offset, size } => {
                if reads >= self.swarm.config.reads_max {
                    return Err(format!("read {reads}, of {file}"));
                }
                if !self.disk.has(&file.to_string()) {
                    return Err(format!("a read of {file}, which is not there"));
                }
                self.counts.reads += 1;
                self.works.push(Work::Read { id, file, offset, size });
            }
            Command::Create { .. }
            | Command::Finish { .. }
            | Command::Replace { .. }
            | Command::Remove { .. } => self.begin_change(command)?,
        }
        Ok(())
    }

    fn begin_change(&mut self, command: Command) -> Result<(), String> {
        let skip = match (&command, self.bug) {
            (Command::Finish { .. }, Some(Bug::UnsyncedSegment)) => Some(Skip::SyncFile),
            (Command::Finish { .. }, Some(Bug::UnsyncedName)) => Some(Skip::SyncNames),
            (Command::Replace { .. }, Some(Bug::UnsyncedManifest)) => Some(Skip::SyncNames),
            (Command::Replace { .. }, Some(Bug::ManifestInPlace)) => Some(Skip::Beside),
            _ => None,
        };
        match &command {
            Command::Finish { from, .. } => {
                let name = from.to_string();
                let is_written = !self
                    .works
                    .iter()
                    .any(|work| matches!(work, Work::Write { file, .. } if file == from));
                if !is_written || !self.disk.has(&name) {
                    return Err(format!("{name} is finished before it is written"));
                }
                self.counts.segments += 1;
            }
            Command::Replace { .. } => {
                self.counts.manifests += 1;
                self.counts.cleanings += u64::from(self.sealing.is_none() && !self.is_resting);
            }
            Command::Remove { file, .. } => {
                let is_read = self
                    .works
                    .iter()
                    .any(|work| matches!(work, Work::Read { file: read, .. } if read == file));
                if is_read || !self.disk.has(&file.to_string()) {
                    return Err(format!("{file} is removed while it is read, or twice"));
                }
                self.counts.removals += u64::from(!self.is_resting);
            }
            Command::Create { .. } | Command::Write { .. } | Command::Read { .. } => {}
        }
        self.disk.begin_change(node::change(command), skip);
        Ok(())
    }

    fn complete(&mut self) -> Result<(), String> {
        let count = self.works.len() + usize::from(self.disk.is_changing());
        if count == 0 {
            return Ok(());
        }
        let nth = if self.swarm.reorder { self.dice.index(count) } else { 0 };
        self.complete_nth(nth)
    }

    /// The nth of what is in flight, or else the change of files, is done.
    fn complete_nth(&mut self, nth: usize) -> Result<(), String> {
        self.note(Act::Complete(nth));
        self.is_changed = true;
        let event = if nth == self.works.len() {
            self.disk.complete_change();
            Event::Done
        } else {
            match self.works.remove(nth) {
                Work::Write { id, write, .. } => {
                    self.disk.complete(write);
                    Event::Written { id }
                }
                Work::Read { id, file, offset, size } => {
                    let at = if self.has(Bug::Misread, 5) { offset + 8 } else { offset };
                    let bytes = self.disk.read(&file.to_string(), at, size);
                    if bytes.len() < size {
                        return Err(format!("{file} at byte {offset} has no {size} bytes"));
                    }
                    Event::Read { id, bytes: Bytes::copy_from_slice(bytes) }
                }
            }
        };
        self.store.handle(event).map_err(|damage| damage.to_string())?;
        self.take_fetched()?;
        self.take_sealed()
    }

    /// What the first entries of the log come to.
    pub(crate) fn truth(&mut self, applied: usize) -> Rc<Truth> {
        if let Some(truth) = self.truth.as_ref().filter(|truth| truth.applied == applied) {
            return Rc::clone(truth);
        }
        let (mut index, mut floor, mut changes) = (Index::default(), 0, BTreeMap::new());
        for entry in &self.log[..applied] {
            match entry {
                Entry::Compact(revision) => floor = *revision,
                Entry::Changes(made) => {
                    for change in made {
                        index.push(&change.key, Past::of(change));
                        changes.insert(change.location, change.clone());
                    }
                }
            }
        }
        let truth = Rc::new(Truth { applied, floor, seen: index.seen(floor), changes });
        self.truth = Some(Rc::clone(&truth));
        truth
    }

    /// Every change that was ever made.
    pub(crate) fn changes(&self) -> impl Iterator<Item = (Location, &Change)> {
        let changes = self.log.iter().filter_map(|entry| match entry {
            Entry::Changes(changes) => Some(changes),
            Entry::Compact(_) => None,
        });
        changes.flatten().map(|change| (change.location, change))
    }

    /// The disk is fast for a while, and everything that waits for it goes on.
    fn rush(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.pick(&[1, 3, 10]) {
            self.forget();
            self.work();
            self.turn()?;
            for _ in 0..self.works.len() + usize::from(self.disk.is_changing()) {
                self.complete()?;
                self.crash_point()?;
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.now += self.dice.below(self.swarm.tick_max) + 1;
        self.note(Act::Tick(self.now));
        self.store.tick(Tick(self.now));
    }

    fn fail(&mut self) -> Result<(), String> {
        if self.works.is_empty() && !self.disk.is_changing() {
            return Ok(());
        }
        self.note(Act::Fail);
        self.counts.failures += 1;
        self.end(false)
    }

    fn crash(&mut self) -> Result<(), String> {
        let power = self.dice.chance(50);
        self.note(if power { Act::Power } else { Act::Kill });
        self.end(power)
    }

    /// The process ends, and perhaps the power goes; it starts again.
    fn end(&mut self, power: bool) -> Result<(), String> {
        self.counts.restarts += 1;
        self.is_changed = true;
        self.works.clear();
        self.lists.clear();
        self.pins.clear();
        self.wanted.clear();
        (self.sealing, self.truth) = (None, None);
        let dice = &mut self.dice;
        let choose = &mut |below| dice.below(below);
        if power {
            self.disk.lose_power(choose)
        } else {
            self.disk.lose_process(choose)
        }
        if self.bug != Some(Bug::UnsyncedNames) {
            self.disk.sync_names();
        }
        self.swarm.retune(&mut self.dice);
        let node = node::recover(&self.swarm.config, &self.disk, |_, _, _| true)
            .map_err(|why| format!("a crash is refused as damage: {why}"))?;
        let state = node.state;
        if state.applied < self.released {
            return Err(format!("lost: {} entries of {}", state.applied, self.released));
        }
        // What nobody was told of may be gone from the log.
        let rest = self.log.len() - state.applied;
        self.log.truncate(self.log.len() - self.dice.index(rest.min(3) + 1));
        (self.store, self.index) = (node.store, node.index);
        (self.sealed_floor, self.floor) = (state.floor, state.floor);
        (self.released, self.told_floor, self.pass) = (state.applied, 0, None);
        self.store.tick(Tick(self.now));
        let before = &self.log[..state.applied];
        self.revision = before.iter().rev().find_map(Entry::revision).unwrap_or(1);
        for nth in state.applied..self.log.len() {
            self.apply(nth);
        }
        Ok(())
    }

    /// Looks at what a crash now would leave, unless nothing has changed since the last look.
    fn crash_point(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.is_changed) { crash::look(self) } else { Ok(()) }
    }

    /// Nothing breaks any more: what is dead goes, and what is alive is there.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.is_resting = true;
        self.compact_all();
        let mut quiet = 0;
        self.seal();
        for _ in 0..QUIET_ROUNDS_MAX {
            while !self.lists.is_empty() {
                self.list()?;
            }
            for (pin, _) in std::mem::take(&mut self.pins) {
                pin.into_iter().for_each(|pin| self.store.unpin(pin));
            }
            if self.sealed_floor < self.floor {
                self.seal();
            }
            self.forget();
            self.now += 50;
            self.store.tick(Tick(self.now));
            self.work();
            self.turn()?;
            while !self.works.is_empty() || self.disk.is_changing() {
                self.complete_nth(0)?;
                self.turn()?;
            }
            let is_quiet = self.store.is_idle() && self.sealed_floor == self.floor;
            quiet = if is_quiet && self.told_floor == self.floor { quiet + 1 } else { 0 };
            if quiet > 40 {
                return self.check_rest();
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn compact_all(&mut self) {
        if self.revision > self.floor {
            self.log.push(Entry::Compact(self.revision));
            self.apply(self.log.len() - 1);
        }
    }

    fn check_rest(&mut self) -> Result<(), String> {
        let rows = self.rows(self.revision);
        node::check_all(&mut self.store, &mut self.disk, rows.iter())?;
        let (used, told) = (self.disk.size(), self.store.size_allocated());
        if used != told {
            return Err(format!("{used} bytes on disk, {told} told: {:?}", self.disk));
        }
        let live: usize = rows.iter().map(|row| 40 + row.key.len() + row.value.len()).sum();
        let files = self.disk.list().len() as u64;
        let data = used.saturating_sub(files * FRAME_SIZE);
        let full = (self.swarm.config.segment_size / 16).max(1);
        let (data_max, files_max) = (3 * live + SPARE, 40 + live / full);
        if data > data_max as u64 || files > files_max as u64 {
            return Err(format!("{used} bytes on disk for {live} alive: {:?}", self.disk));
        }
        crash::look(self)?;
        crash::damage(self)
    }

    fn mix(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            let word = u64::from_le_bytes(word);
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
        }
    }
}

impl Entry {
    /// The revision of its changes.
    fn revision(&self) -> Option<i64> {
        match self {
            Self::Changes(changes) => changes.last().map(|change| change.location.main.0),
            Self::Compact(_) => None,
        }
    }
}

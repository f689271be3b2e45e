//! A store, its disk, and the owner above it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::model::Index;
use crate::store::BlockId;
use crate::store::ChangeRef;
use crate::store::Command;
use crate::store::Config;
use crate::store::Event;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Manifest;
use crate::store::Pin;
use crate::store::Recovery;
use crate::store::Scan;
use crate::store::Step;
use crate::store::Store;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use crate::types::ShardId;
use crate::types::Tick;

pub(super) const STORE_ID: u64 = 0x5708;
pub(super) const SHARD: ShardId = ShardId(3);

/// Luck from a seed.
#[derive(Clone, Debug)]
pub(super) struct Luck(u64);

impl Luck {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound.max(1)
    }

    pub(super) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// Files in memory. What is done is durable at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Disk {
    pub(super) fn list(&self) -> Vec<(String, u64)> {
        self.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect()
    }

    pub(super) fn size(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    pub(super) fn read(&self, file: &str, offset: u64, size: usize) -> &[u8] {
        let offset = usize::try_from(offset).unwrap();
        let bytes = &self.files[file];
        &bytes[offset..(offset + size).min(bytes.len())]
    }

    /// Does what a command says; the write's bytes are `filled`.
    fn apply(&mut self, command: &Command, filled: &[u8]) -> Event {
        match command {
            Command::Create { file } => {
                self.files.insert(file.to_string(), Vec::new());
                Event::Done
            }
            Command::Write { id, file, offset, size } => {
                assert_eq!(filled.len(), *size);
                assert!(offset.is_multiple_of(4096) && size.is_multiple_of(4096) && *size > 0);
                let bytes = self.files.get_mut(&file.to_string()).expect("a file that was made");
                let offset = usize::try_from(*offset).unwrap();
                if bytes.len() < offset + size {
                    bytes.resize(offset + size, 0);
                }
                bytes[offset..offset + size].copy_from_slice(filled);
                Event::Written { id: *id }
            }
            Command::Finish { from, to } => {
                let bytes = self.files.remove(&from.to_string()).expect("a file that was made");
                assert!(self.files.insert(to.to_string(), bytes).is_none(), "a new name");
                Event::Done
            }
            Command::Replace { bytes } => {
                self.files.insert("manifest".to_owned(), bytes.clone());
                Event::Done
            }
            Command::Remove { file, .. } => {
                self.files.remove(&file.to_string()).expect("a file that is there");
                Event::Done
            }
            Command::Read { id, file, offset, size } => {
                let bytes = self.read(&file.to_string(), *offset, *size);
                assert_eq!(bytes.len(), *size, "reads are of what is there");
                Event::Read { id: *id, bytes: Bytes::copy_from_slice(bytes) }
            }
        }
    }
}

/// What the owner gives with a seal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) floor: Revision,
    pub(super) last: Location,
}

impl State {
    fn encode(self) -> Vec<u8> {
        let parts = [self.floor.0, self.last.main.0, i64::from(self.last.sub)];
        parts.iter().flat_map(|part| part.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Self {
        let at = |index: usize| i64::from_le_bytes(bytes[index..index + 8].try_into().unwrap());
        let last = Location { main: Revision(at(8)), sub: u32::try_from(at(16)).unwrap() };
        Self { floor: Revision(at(0)), last }
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) luck: Luck,
    pub(super) config: Config,
    pub(super) disk: Disk,
    pub(super) store: Store,
    outstanding: Vec<(Command, Vec<u8>)>,
    /// Every change there ever was.
    pub(super) all: BTreeMap<Location, Change>,
    pub(super) index: Index,
    pub(super) revision: Revision,
    pub(super) floor: Revision,
    sealing: Option<State>,
    pub(super) durable: State,
    /// What is to be forgotten, and the floor that this is for.
    to_forget: Vec<Location>,
    forgetting: Option<Revision>,
    pub(super) forgotten: Revision,
    pub(super) pins: Vec<(Revision, Pin)>,
    /// What waits for blocks.
    waiting: BTreeSet<Location>,
    now: u64,
    next_seal: u64,
    pub(super) commands: u64,
    pub(super) restarts: u64,
    pub(super) cleanings: u64,
    pub(super) fetches: u64,
}

impl World {
    pub(super) fn new(seed: u64, config: Config) -> Self {
        let disk = Disk::default();
        let (store, _) = recover(&disk, config);
        Self {
            luck: Luck::new(seed),
            config,
            disk,
            store,
            outstanding: Vec::new(),
            all: BTreeMap::new(),
            index: Index::default(),
            revision: Revision(1),
            floor: Revision(0),
            sealing: None,
            durable: State::default(),
            to_forget: Vec::new(),
            forgetting: None,
            forgotten: Revision(0),
            pins: Vec::new(),
            waiting: BTreeSet::new(),
            now: 0,
            next_seal: 0,
            commands: 0,
            restarts: 0,
            cleanings: 0,
            fetches: 0,
        }
    }

    /// A revision of these changes: keys, and values or none for tombstones.
    pub(super) fn change(&mut self, changes: &[(Vec<u8>, Option<Vec<u8>>)]) {
        let main = Revision(self.revision.0 + 1);
        let mut sub = 0;
        for (key, value) in changes {
            let last = self.index.last(key).filter(|last| last.version > 0);
            let location = Location { main, sub };
            let change = match (value, last) {
                (None, None) => continue,
                (None, Some(_)) => (Revision(0), 0),
                (Some(_), None) => (main, 1),
                (Some(_), Some(last)) => (last.created, last.version + 1),
            };
            let lease = match value {
                Some(value) if value.len() % 3 == 0 => LeaseId(main.0 % 5),
                _ => LeaseId(0),
            };
            let change = Change {
                location,
                key: Bytes::copy_from_slice(key),
                value: Bytes::from(value.clone().unwrap_or_default()),
                lease,
                created: change.0,
                version: change.1,
            };
            sub += 1;
            self.index.push(&change);
            self.all.insert(location, change.clone());
            self.store.push(change);
        }
        if sub > 0 {
            self.revision = main;
        }
    }

    pub(super) fn put(&mut self, key: &str, value: Vec<u8>) {
        self.change(&[(key.as_bytes().to_vec(), Some(value))]);
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.change(&[(key.as_bytes().to_vec(), None)]);
    }

    fn last(&self) -> Location {
        self.all.keys().next_back().copied().unwrap_or_default()
    }

    pub(super) fn seal(&mut self) {
        if self.store.is_sealing() {
            return;
        }
        let state = State { floor: self.floor, last: self.last() };
        self.next_seal += 1;
        self.store.seal(self.next_seal, state.encode());
        self.sealing = Some(state);
    }

    pub(super) fn compact(&mut self, floor: Revision) {
        assert!(floor <= self.revision);
        self.floor = self.floor.max(floor);
    }

    /// Forgets up to `count` of what may be forgotten.
    pub(super) fn forget(&mut self, count: usize) {
        if self.forgetting.is_none() {
            let pinned = self.pins.iter().map(|&(at, _)| at).min();
            let floor = pinned.map_or(self.durable.floor, |at| at.min(self.durable.floor));
            if floor <= self.forgotten {
                return;
            }
            self.to_forget = self.index.dead_at(floor);
            self.forgetting = Some(floor);
        }
        let rest = self.to_forget.len().saturating_sub(count);
        let now: BTreeSet<_> = self.to_forget.drain(rest..).collect();
        for &location in &now {
            self.store.forget(location);
        }
        self.index.forget(&now);
        if self.to_forget.is_empty() {
            self.forgotten = self.forgetting.take().expect("a floor");
            self.store.forgotten(self.forgotten);
        } else {
            self.store.forgetting();
        }
    }

    pub(super) fn pin(&mut self) {
        self.pins.push((self.floor.max(Revision(1)), self.store.pin()));
    }

    pub(super) fn unpin(&mut self, index: usize) {
        let (_, pin) = self.pins.swap_remove(index);
        self.store.unpin(pin);
    }

    pub(super) fn tick(&mut self, past: u64) {
        self.now += past;
        self.store.tick(Tick(self.now));
    }

    /// Takes what the store asks for; every promise of its about that is kept.
    pub(super) fn poll(&mut self) {
        while let Some(command) = self.store.poll() {
            self.commands += 1;
            let mut filled = Vec::new();
            if let Command::Write { id, size, .. } = &command {
                filled.resize(*size, 0);
                self.store.fill(*id, &mut filled);
            }
            if let Command::Replace { bytes } = &command {
                let manifest = Manifest::decode(bytes).expect("a manifest");
                for segment in &manifest.segments {
                    let size = self.disk.files[&format!("{:016x}.segment", segment.number)].len();
                    assert_eq!(size as u64, segment.summary.file_size());
                }
            }
            if let Command::Remove { file, .. } = &command {
                let is_read = self.outstanding.iter().any(
                    |(other, _)| matches!(other, Command::Read { file: read, .. } if read == file),
                );
                assert!(!is_read, "what is removed is not read");
                self.cleanings += 1;
            }
            self.outstanding.push((command, filled));
        }
        let count = |is: fn(&Command) -> bool| {
            self.outstanding.iter().filter(|(command, _)| is(command)).count()
        };
        let reads = count(|command| matches!(command, Command::Read { .. }));
        let writes = count(|command| matches!(command, Command::Write { .. }));
        assert!(reads <= self.config.reads_max && writes <= 2);
        assert!(self.outstanding.len() - reads - writes <= 1);
    }

    /// Bytes of each write that is under way.
    pub(super) fn writes(&self) -> impl Iterator<Item = usize> {
        let writes = self.outstanding.iter().map(|(command, _)| command);
        writes
            .filter_map(|it| if let Command::Write { size, .. } = it { Some(*size) } else { None })
    }

    /// Does one thing that was asked for, any of them.
    pub(super) fn complete(&mut self) -> bool {
        if self.outstanding.is_empty() {
            return false;
        }
        let index = self.luck.index(self.outstanding.len());
        let (command, filled) = self.outstanding.swap_remove(index);
        let event = self.disk.apply(&command, &filled);
        self.store.handle(event).expect("the disk is sound");
        if self.store.sealed().is_some() {
            self.durable = self.sealing.take().expect("a seal");
        }
        self.collect();
        true
    }

    /// Drives everything to its end; a seal that is under way takes the time it needs.
    pub(super) fn settle(&mut self) {
        loop {
            self.poll();
            let worked = self.store.work(1000);
            self.poll();
            if self.complete() || worked {
                continue;
            }
            if !self.store.is_sealing() {
                return;
            }
            self.tick(40);
        }
    }

    /// Drives cleaning to its end, however long that takes.
    pub(super) fn clean(&mut self) {
        for _ in 0..200 {
            self.tick(100);
            self.settle();
        }
    }

    fn collect(&mut self) {
        while let Some(fetched) = self.store.fetched() {
            self.take(&fetched);
        }
    }

    fn take(&mut self, fetched: &Fetched) {
        self.fetches += 1;
        for location in std::mem::take(&mut self.waiting) {
            match self.store.value_in(fetched, location) {
                Some(value) => assert_eq!(value, self.all[&location].value),
                None => self.read(location),
            }
        }
    }

    /// Reads a value, or waits for it.
    pub(super) fn read(&mut self, location: Location) {
        let change = &self.all[&location];
        assert_eq!(self.store.lease(location), Some(change.lease));
        let size = self.store.value_size(location, change.key.len());
        assert_eq!(size, Some(change.value.len()));
        match self.store.value(location).expect("a change that is known") {
            Lookup::Here(held) => {
                assert_eq!(held.as_slice(), &change.value[..]);
                assert_eq!(held.to_bytes(), change.value);
            }
            Lookup::Away(id) => {
                self.waiting.insert(location);
                if !self.index_knows(location) {
                    self.waiting.remove(&location);
                    return;
                }
                self.store.fetch(id);
            }
        }
    }

    fn index_knows(&self, location: Location) -> bool {
        let change = &self.all[&location];
        let known = self.index.keys.get(&change.key[..]);
        known.is_some_and(|known| known.iter().any(|known| known.location == location))
    }

    /// Reads any change that is known.
    pub(super) fn read_any(&mut self) {
        if self.index.keys.is_empty() {
            return;
        }
        let key = self.luck.index(self.index.keys.len());
        let known = self.index.keys.values().nth(key).expect("a key");
        let location = known[self.luck.index(known.len())].location;
        self.read(location);
    }

    /// Reads everything that is known, to the last block.
    pub(super) fn read_all(&mut self) {
        for location in self.index.locations() {
            self.read(location);
            self.settle();
        }
        assert!(self.waiting.is_empty(), "whatever was asked for came");
    }

    /// Everything that is known is shown, as it was, and in order.
    pub(super) fn scan_all(&mut self, from: Location) {
        let mut shown = Vec::new();
        let mut next = from;
        loop {
            let mut visit = |change: ChangeRef<'_>| {
                assert_eq!(change, (&self.all[&change.location]).into());
                shown.push(change.location);
            };
            match self.store.scan(next, 7, &mut visit) {
                Scan::End => break,
                Scan::Next(at) => next = at,
                Scan::Away(id, at) => next = self.scan_away(id, at, &mut shown),
            }
            assert!(shown.is_sorted());
        }
        let shown: BTreeSet<_> = shown.into_iter().collect();
        let known: BTreeSet<_> =
            self.index.locations().into_iter().filter(|&known| known >= from).collect();
        assert!(known.is_subset(&shown), "nothing that is known is left out");
    }

    fn scan_away(&mut self, id: BlockId, from: Location, shown: &mut Vec<Location>) -> Location {
        self.store.fetch_ahead(id, 2);
        loop {
            while let Some(fetched) = self.store.fetched() {
                if fetched.id != id {
                    self.take(&fetched);
                    continue;
                }
                let mut visit = |change: ChangeRef<'_>| {
                    assert_eq!(change, (&self.all[&change.location]).into());
                    shown.push(change.location);
                };
                let Scan::Next(next) = self.store.scan_in(&fetched, from, &mut visit) else {
                    unreachable!("a block shows what it has");
                };
                self.take(&fetched);
                return next;
            }
            self.poll();
            let mut outstanding = self.outstanding.iter();
            let index =
                outstanding.position(|(command, _)| matches!(command, Command::Read { .. }));
            let (command, filled) = self.outstanding.swap_remove(index.expect("it was asked for"));
            let event = self.disk.apply(&command, &filled);
            self.store.handle(event).expect("the disk is sound");
        }
    }

    /// With nothing outstanding, the disk has what the store says, and no more.
    pub(super) fn check_disk(&self) {
        assert!(self.outstanding.is_empty() && self.pins.is_empty());
        assert_eq!(self.store.size_allocated(), self.disk.size());
        let manifest = self.disk.files.get("manifest");
        let listed = manifest.map_or(0, |bytes| {
            let manifest = Manifest::decode(bytes).expect("a manifest");
            manifest.segments.len() + 1
        });
        assert_eq!(self.disk.files.len(), listed, "{:?}", self.disk.list());
        assert!(self.store.size_in_use() <= self.store.size_allocated() + self.tail_size());
    }

    /// What the store takes for dead is what is not known.
    pub(super) fn check_dead(&self) {
        let known = self.index.locations();
        for shelved in self.store.shelf.iter() {
            let sealed = &shelved.sealed;
            for ordinal in 0..sealed.record_count() {
                let location = sealed.location(ordinal);
                assert_eq!(sealed.is_dead(ordinal), !known.contains(&location), "{location:?}");
            }
        }
    }

    /// How many records the segments have.
    pub(super) fn records(&self) -> usize {
        let count = |sealed: &crate::store::Sealed| usize::try_from(sealed.record_count()).unwrap();
        self.store.shelf.iter().map(|shelved| count(&shelved.sealed)).sum()
    }

    fn tail_size(&self) -> u64 {
        let unsealed = self.all.range(self.durable.last..);
        unsealed.map(|(_, change)| crate::store::tail::Tail::size_of(change) as u64).sum()
    }

    /// The process ends, and begins anew with what the disk has then.
    pub(super) fn restart(&mut self) {
        self.restarts += 1;
        // Each thing that was asked for was done or not.
        for (command, filled) in std::mem::take(&mut self.outstanding) {
            if !matches!(command, Command::Read { .. }) && self.luck.one_in(2) {
                self.disk.apply(&command, &filled);
            }
        }
        if self.luck.one_in(3) {
            self.disk.files.insert("manifest.new".to_owned(), vec![1; 100]);
        }
        let (store, mut index) = recover(&self.disk, self.config);
        self.store = store;
        let state = self.store.state().map(State::decode).unwrap_or_default();
        let is_sealing = self.sealing == Some(state);
        assert!(state == self.durable || is_sealing, "a state that was given");
        self.durable = state;
        self.sealing = None;
        self.pins.clear();
        self.waiting.clear();
        self.forgetting = None;
        self.to_forget.clear();
        // The owner forgets again, so that the store knows what is dead.
        let dead: BTreeSet<_> = index.dead_at(state.floor).into_iter().collect();
        for &location in &dead {
            self.store.forget(location);
        }
        index.forget(&dead);
        if self.luck.one_in(2) {
            self.store.forgotten(state.floor);
            self.forgotten = state.floor;
        } else {
            self.forgotten = Revision(0);
        }
        let mut expected = Index::default();
        for change in self.all.range(..=state.last).map(|(_, change)| change) {
            expected.push(change);
        }
        let gone: BTreeSet<_> = expected.dead_at(state.floor).into_iter().collect();
        expected.forget(&gone);
        assert_eq!(index, expected, "what is known after a restart is what should be");
        // The log has the rest.
        for (_, change) in self.all.range(state.last..).filter(|&(&at, _)| at > state.last) {
            index.push(change);
            self.store.push(change.clone());
        }
        self.index = index;
        self.check_dead();
    }
}

/// The store in these files, and the index that its directories give.
pub(super) fn recover(disk: &Disk, config: Config) -> (Store, Index) {
    let mut recovery = Recovery::new(config, SHARD, STORE_ID, &disk.list());
    let mut index = Index::default();
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                recovery.handle(disk.read(&file.to_string(), offset, size));
            }
            Step::Entries => {
                let told: Vec<_> =
                    recovery.entries().flat_map(|entry| index.restore(&entry)).collect();
                for location in told {
                    recovery.forget(location);
                }
            }
            Step::Done(recovered) => return (Store::new(*recovered), index),
            Step::Refused(damage) => panic!("{damage}"),
        }
    }
}

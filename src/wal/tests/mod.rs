//! The log under test: a node of log and disk, and a dumb model of what it must hold.

mod crash;
#[path = "../../../tests/sim/disk.rs"]
mod disk;
mod flip;
mod garbage;
mod golden;
mod life;
mod rows;

use super::*;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::types::Term;
use disk::Disk;

const LOG_ID: u64 = 0x1122_3344_5566_7788;

/// Six blocks a segment, so that a run of a few frames meets every boundary.
fn small() -> Config {
    Config {
        segment_size: 6 * 4096,
        frame_size_max: 2 * 4096,
        membership_size_max: 64,
        writes_in_flight_max: 2,
        spares_target: 1,
        spares_max: 2,
        pending_size_max: 64 * 1024,
        read_size: 2 * 4096,
    }
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    Entry(u64, u64, Vec<u8>),
    HardState(HardState),
    Snapshot(u64, u64, bool, Vec<u8>),
}

impl Item {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Entry(term, index, data) => {
                Record::Entry { term: Term(*term), index: LogIndex(*index), kind: 0, data }
            }
            Self::HardState(state) => Record::HardState(*state),
            Self::Snapshot(term, index, reset, membership) => Record::Snapshot {
                term: Term(*term),
                index: LogIndex(*index),
                reset: *reset,
                membership,
            },
        }
    }

    fn own(record: Record<'_>) -> Self {
        match record {
            Record::Entry { term, index, data, .. } => Self::Entry(term.0, index.0, data.to_vec()),
            Record::HardState(state) => Self::HardState(state),
            Record::Snapshot { term, index, reset, membership } => {
                Self::Snapshot(term.0, index.0, reset, membership.to_vec())
            }
        }
    }
}

fn entry(index: u64, size: usize) -> Item {
    let byte = u8::try_from(index % 251).expect("small");
    Item::Entry(1, index, vec![byte; size])
}

fn hard_state(term: u64, vote: Option<u64>, committed: u64) -> Item {
    let (term, committed) = (Term(term), LogIndex(committed));
    Item::HardState(HardState { term, vote: vote.map(NodeId), committed })
}

/// What a log amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    entries: Vec<(u64, u64, Vec<u8>)>,
    hard_state: HardState,
    snapshot: Option<(u64, u64, Vec<u8>)>,
}

impl Model {
    fn apply(&mut self, item: &Item) {
        match item.clone() {
            Item::Entry(term, index, data) => {
                self.entries.retain(|entry| entry.1 < index);
                self.entries.push((term, index, data));
            }
            Item::HardState(state) => self.hard_state = state,
            Item::Snapshot(term, index, reset, membership) => {
                if reset {
                    self.entries.clear();
                }
                self.snapshot = Some((term, index, membership));
            }
        }
    }

    /// Without the entries that the snapshot stands for: those may have been given back.
    fn needed(mut self) -> Self {
        let base = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.1);
        self.entries.retain(|entry| entry.1 > base);
        self
    }
}

/// A log and its disk.
#[derive(Debug)]
struct Node {
    disk: Disk,
    writer: Writer,
    recovered: Model,
    end: (FileId, u64, decide::Row),
    /// All that was appended, after what was recovered.
    items: Vec<Item>,
    /// How much of `items` each submitted batch ends at; the token is the place in here.
    batches: Vec<usize>,
    acknowledged: usize,
    /// Writes in flight: the log's name and the disk's.
    writes: Vec<(u64, u64)>,
    commands: Vec<String>,
}

fn recover(config: Config, disk: &Disk) -> Result<(Recovered, Model), Damage> {
    let mut recovery = Recovery::new(config, ShardId(3), LOG_ID, &disk.list());
    let mut model = Model::default();
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                assert!(size as u64 <= config.segment_size, "reads are bounded");
                let bytes = disk.read(&file.to_string(), offset, size).to_vec();
                recovery.handle(&bytes);
            }
            Step::Records => recovery.records().for_each(|record| model.apply(&Item::own(record))),
            Step::Done(recovered) => {
                let snapshot = recovered.snapshot.as_ref();
                let snapshot = snapshot.map(|s| (s.term.0, s.index.0, s.membership.clone()));
                assert_eq!(
                    (&model.hard_state, &model.snapshot),
                    (&recovered.hard_state, &snapshot)
                );
                let base = snapshot.as_ref().map_or(0, |snapshot| snapshot.1);
                let (first, last) = (model.entries.first(), model.entries.last());
                assert_eq!(recovered.first.0, first.map_or(base + 1, |entry| entry.1));
                assert_eq!(recovered.last.0, last.map_or(base, |entry| entry.1));
                return Ok((*recovered, model));
            }
            Step::Refused(damage) => return Err(damage),
        }
    }
}

impl Node {
    /// A new log, open and idle.
    fn new(config: Config) -> Self {
        let mut node = Self::open(config, Disk::default()).expect("an empty directory");
        node.settle();
        node
    }

    fn open(config: Config, disk: Disk) -> Result<Self, Damage> {
        let (recovered, model) = recover(config, &disk)?;
        Ok(Self {
            disk,
            writer: recovered.writer,
            recovered: model,
            end: recovered.end,
            items: Vec::new(),
            batches: vec![0],
            acknowledged: 0,
            writes: Vec::new(),
            commands: Vec::new(),
        })
    }

    fn append(&mut self, items: &[Item]) {
        for item in items {
            self.writer.append(&item.record());
            self.items.push(item.clone());
        }
        self.writer.submit(self.batches.len() as u64);
        self.batches.push(self.items.len());
    }

    /// Does one command: begins a write, or performs anything else whole.
    fn step(&mut self) -> bool {
        let Some(command) = self.writer.poll() else { return false };
        self.perform(&command);
        true
    }

    fn perform(&mut self, command: &Command) {
        let name = |file: &FileId| file.to_string();
        self.commands.push(match command {
            Command::Activate { from, to, .. } => format!("activate {from} {to}"),
            Command::Write { id, file, offset, size } => {
                format!("write {id} {file} {offset} {size}")
            }
            Command::Create { file, size, is_urgent } => {
                let urgency = if *is_urgent { " urgently" } else { "" };
                format!("create {file} {size}{urgency}")
            }
            Command::Recycle { from, to } => format!("recycle {from} {to}"),
            Command::Remove { file } => format!("remove {file}"),
            Command::Read { id, file, offset, size } => format!("read {id} {file} {offset} {size}"),
            Command::Sync { file } => format!("sync {file}"),
        });
        match command {
            Command::Write { id, file, offset, size } => {
                let mut buffer = vec![0xee; *size];
                self.writer.fill(*id, &mut buffer);
                self.writes.push((*id, self.disk.begin(&name(file), *offset, buffer)));
                return;
            }
            Command::Create { file, size, .. } => {
                let size = usize::try_from(*size).expect("64 bits");
                self.disk.create(&name(file), vec![0; size]);
            }
            Command::Activate { from, to, header } => {
                self.disk.file_mut(&name(from))[..header.len()].copy_from_slice(header);
                self.disk.rename(&name(from), &name(to));
            }
            Command::Recycle { from, to } => self.disk.rename(&name(from), &name(to)),
            Command::Remove { file } => self.disk.remove(&name(file)),
            Command::Read { id, file, offset, size } => {
                let bytes = Bytes::copy_from_slice(self.disk.read(&name(file), *offset, *size));
                return self.writer.handle(Event::Read { id: *id, bytes });
            }
            Command::Sync { .. } => {}
        }
        self.writer.handle(Event::Done);
    }

    /// Completes the nth of the writes in flight.
    fn complete(&mut self, nth: usize) {
        let (id, write) = self.writes.remove(nth);
        self.disk.complete(write);
        self.writer.handle(Event::Written { id });
        while let Some(token) = self.writer.durable() {
            self.acknowledged = self.batches[usize::try_from(token).expect("64 bits")];
        }
    }

    /// Does commands until none is left; writes stay in flight.
    fn issue(&mut self) {
        while self.step() {}
    }

    /// Does all there is to do.
    fn settle(&mut self) {
        self.issue();
        while !self.writes.is_empty() {
            self.complete(0);
            self.issue();
        }
    }

    /// Appends these as one batch and makes them durable.
    fn write(&mut self, items: &[Item]) {
        self.append(items);
        self.settle();
        assert_eq!(self.acknowledged, self.items.len());
    }

    fn history(&self, count: usize) -> Model {
        let mut model = self.recovered.clone();
        self.items[..count].iter().for_each(|item| model.apply(item));
        model.needed()
    }

    /// Asserts that `found` is what was acknowledged and perhaps some more whole batches.
    fn expect(&self, found: &Model) {
        let found = found.clone().needed();
        let possible = self.batches.iter().filter(|&&count| count >= self.acknowledged);
        assert!(
            possible.clone().any(|&count| self.history(count) == found),
            "acknowledged {} of {}: {found:?}",
            self.acknowledged,
            self.items.len()
        );
    }

    /// Opens the disk again, which must succeed.
    fn reopen(self, config: Config) -> Self {
        let node = Self::open(config, self.disk.clone()).expect("no damage was done");
        self.expect(&node.recovered);
        node
    }
}

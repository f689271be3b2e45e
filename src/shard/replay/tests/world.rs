//! One shard, and a driver whose log is durable at once and whose store is as slow as it likes.

use crate::config;
use crate::shard::Config;
use crate::shard::Input;
use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::recover::Files;
use crate::shard::recover::Recovery;
use crate::shard::recover::Step;
use crate::shard::replay::tests::model::Act;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::watch::Told;
use crate::store;
use crate::store::FileId;
use crate::types::ShardId;
use crate::types::Tick;
use crate::wal;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Random numbers from a seed (SplitMix64).
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).expect("64 bits")).expect("below a usize")
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A revision in `first..=last`.
    pub(super) fn revision(&mut self, first: i64, last: i64) -> i64 {
        let count = usize::try_from(last - first + 1).expect("a range");
        first + i64::try_from(self.below(count)).expect("63 bits")
    }
}

/// A shard and its disk.
pub(super) struct World {
    pub(super) shard: Box<Shard>,
    files: BTreeMap<FileId, Vec<u8>>,
    /// What the store has asked for and the disk has not done.
    pending: Vec<store::Command>,
    /// Segments that were cleaned away.
    pub(super) removed: usize,
    now: u64,
}

/// The limits that a node has by default, and a store's own.
fn config(store: store::Config) -> Config {
    let node = config::Config::default();
    let bootstrap = node.bootstrap().expect("the default is a cluster of one");
    let (cluster, member) = (bootstrap.cluster, bootstrap.node);
    let config = Config::new(&node, ShardId(0), cluster, member, &bootstrap);
    Config { store, ..config.expect("the defaults fit together") }
}

impl World {
    pub(super) fn new(store: store::Config) -> Self {
        let files = Files { log: &[], store: &[] };
        let mut recovery = Recovery::new(config(store), 1, files, 1, Tick(0));
        let Step::Done(shard) = recovery.poll() else { panic!("a new log has nothing to read") };
        let mut world =
            Self { shard, files: BTreeMap::new(), pending: Vec::new(), removed: 0, now: 0 };
        while !world.shard.is_ready() {
            world.tick(100);
            assert!(world.settle().is_empty());
        }
        world
    }

    /// A client asks for a change.
    pub(super) fn write(&mut self, act: &Act) {
        let from = RequestId { core: 0, connection: 0, generation: 0, stream: 1 };
        self.shard.handle(Input::Request { from, request: Request::Write(act.encode()) });
    }

    pub(super) fn tick(&mut self, ms: u64) {
        self.now += ms;
        self.shard.handle(Input::Tick(Tick(self.now)));
    }

    /// Does all that the shard asks for, but for its store's; what watchers are told meanwhile.
    pub(super) fn settle(&mut self) -> VecDeque<Told> {
        let mut told = VecDeque::new();
        while let Some(output) = self.shard.poll() {
            match output {
                Output::Wal(wal::Command::Write { id, size, .. }) => {
                    self.shard.fill(id, &mut vec![0; size]);
                    self.shard.handle(Input::Wal(wal::Event::Written { id }));
                }
                Output::Wal(_) => self.shard.handle(Input::Wal(wal::Event::Done)),
                Output::Store(command) => self.begin(command),
                Output::Watch(it) => told.push_back(it),
                Output::Reply { .. } | Output::Rows { .. } | Output::Role(_) => {}
                Output::Send { .. } | Output::Peers(_) | Output::Reopen => {
                    panic!("{output:?}, and it is alone")
                }
                Output::Halt(why) => panic!("{why}"),
            }
        }
        told
    }

    fn begin(&mut self, command: store::Command) {
        match &command {
            store::Command::Write { id, file, offset, size } => {
                let mut bytes = vec![0; *size];
                self.shard.fill_store(*id, &mut bytes);
                let file = self.files.get_mut(file).expect("it was made");
                assert_eq!(u64::try_from(file.len()), Ok(*offset), "writes ascend");
                file.extend(bytes);
            }
            store::Command::Create { file } => {
                self.files.insert(*file, Vec::new());
            }
            store::Command::Finish { from, to } => {
                let bytes = self.files.remove(from).expect("it was made");
                self.files.insert(*to, bytes);
            }
            store::Command::Remove { file, .. } => {
                self.files.remove(file).expect("it was made");
                self.removed += 1;
            }
            store::Command::Replace { .. } | store::Command::Read { .. } => {}
        }
        self.pending.push(command);
    }

    /// The disk does one thing that the store asked for, whichever; whether there was one.
    pub(super) fn complete(&mut self, dice: &mut Dice) -> bool {
        if self.pending.is_empty() {
            return false;
        }
        let event = match self.pending.swap_remove(dice.below(self.pending.len())) {
            store::Command::Write { id, .. } => store::Event::Written { id },
            store::Command::Read { id, file, offset, size } => {
                let start = usize::try_from(offset).expect("64 bits");
                let bytes = &self.files[&file][start..start + size];
                store::Event::Read { id, bytes: Bytes::copy_from_slice(bytes) }
            }
            store::Command::Create { .. }
            | store::Command::Finish { .. }
            | store::Command::Replace { .. }
            | store::Command::Remove { .. } => store::Event::Done,
        };
        self.shard.handle(Input::Store(event));
        true
    }

    /// Whether the store has asked for something that is not done.
    pub(super) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Segments of the store that are on the disk.
    pub(super) fn segments(&self) -> usize {
        self.files.keys().filter(|file| matches!(file, FileId::Segment(_))).count()
    }
}

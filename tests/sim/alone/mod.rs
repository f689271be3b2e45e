//! One shard alone on disks without faults: what happens when, told step by step.

mod answers;
mod autocompact;
mod defragment;
mod hashes;
mod leases;
mod lists;
mod pressure;

use crate::node::{self, Disks};
use crate::swarm;
use ringd::mvcc::{KeyRange, RangeQuery};
use ringd::shard::command::Command;
use ringd::shard::list::{ListHead, RowShape, Rows};
use ringd::shard::request::{Range, Request, RequestId};
use ringd::shard::{Config, Input, Output, Ready, Shard};
use ringd::store;
use ringd::types::Tick;
use std::collections::VecDeque;

/// A shard, its disks, and all it has said.
pub(crate) struct Alone {
    config: Config,
    pub(crate) shard: Box<Shard>,
    disks: Disks,
    now: u64,
    /// The store's commands are kept, and not done.
    holds_store: bool,
    held: VecDeque<store::Command>,
    pub(crate) replies: Vec<(RequestId, Ready)>,
    /// Lists that were told to go on.
    pub(crate) told: Vec<RequestId>,
}

/// Who asks for the nth time.
pub(crate) fn asker(nth: usize) -> RequestId {
    let stream = u32::try_from(nth).expect("small");
    RequestId { core: 0, connection: 1, generation: 0, stream }
}

/// A key whose order is its number's.
pub(crate) fn key(number: usize) -> Vec<u8> {
    format!("key{number:08}").into_bytes()
}

/// Bytes of a row, as these tests measure.
pub(crate) fn shape(row: &RowShape) -> usize {
    row.key_len + row.value_len
}

/// A read of all keys.
pub(crate) fn all(change: impl FnOnce(&mut RangeQuery<'_>)) -> Range {
    within(b"\0", b"\0", change)
}

/// A read of the keys of a range.
pub(crate) fn within(key: &[u8], end: &[u8], change: impl FnOnce(&mut RangeQuery<'_>)) -> Range {
    let mut query = RangeQuery::new(KeyRange::new(key, end));
    change(&mut query);
    Range::new(key, end, &query, true)
}

impl Alone {
    /// A shard that serves; `change` sets limits.
    pub(crate) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = swarm::config(&mut crate::dice::Dice::new(1));
        config.wal.segment_size = 4 << 20;
        config.wal.frame_size_max = 1 << 20;
        config.wal.pending_size_max = 16 << 20;
        config.request_size_max = 400 << 10;
        (config.waiting_max, config.waiting_size_max) = (100_000, 64 << 20);
        config.store = store::Config::default();
        change(&mut config);
        let mut disks = Disks::default();
        let mut shard = node::recover(&config, &disks, 1, Tick(0)).expect("an empty disk");
        node::open(&mut shard, &mut disks).expect("a disk without faults");
        let (replies, told, held) = (Vec::new(), Vec::new(), VecDeque::new());
        Self { config, shard, disks, now: 0, holds_store: false, held, replies, told }
    }

    /// The process ends, and another begins.
    pub(crate) fn restart(&mut self) {
        self.disks.sync_names();
        let seed = self.now + 2;
        self.shard = node::recover(&self.config, &self.disks, seed, Tick(self.now))
            .expect("nothing is damaged");
        node::open(&mut self.shard, &mut self.disks).expect("a disk without faults");
    }

    /// So many milliseconds pass at once.
    pub(crate) fn jump(&mut self, ms: u64) {
        self.now += ms;
        self.shard.handle(Input::Tick(Tick(self.now)));
        self.run();
    }

    /// Bytes of the log's files.
    pub(crate) fn log_size(&self) -> u64 {
        self.disks.log.list().iter().map(|file| file.1).sum()
    }

    /// Does all that the shard asks for.
    pub(crate) fn run(&mut self) {
        while let Some(output) = self.shard.poll() {
            match output {
                Output::Wal(command) => {
                    let event = node::perform(&mut self.shard, &mut self.disks.log, command);
                    self.shard.handle(Input::Wal(event));
                }
                Output::Store(command) if self.holds_store => self.held.push_back(command),
                Output::Store(command) => self.perform(command),
                Output::Reply { to, ready } => self.replies.push((to, ready)),
                Output::Rows { to } => self.told.push(to),
                Output::Role(_) | Output::Watch(_) => {}
                Output::Send { .. } | Output::Peers(_) | Output::Reopen => {
                    unreachable!("it is alone")
                }
                Output::Halt(why) => panic!("it halted: {why}"),
            }
        }
    }

    fn perform(&mut self, command: store::Command) {
        let event = node::perform_store(&mut self.shard, &mut self.disks.store, command);
        self.shard.handle(Input::Store(event.expect("what is asked for is there")));
    }

    /// Keeps what the store asks of its files, or does what was kept.
    pub(crate) fn hold_store(&mut self, holds: bool) {
        self.holds_store = holds;
        while !holds && let Some(command) = self.held.pop_front() {
            self.perform(command);
        }
        self.run();
    }

    /// Does slices of what has no hurry, and lets time pass, until `is_done` or so many have been
    /// done: how many were.
    pub(crate) fn work_until(
        &mut self,
        most: usize,
        mut is_done: impl FnMut(&Self) -> bool,
    ) -> usize {
        for done in 0..most {
            if is_done(self) {
                return done;
            }
            self.work();
        }
        most
    }

    /// One slice of what has no hurry.
    pub(crate) fn work(&mut self) {
        self.shard.work();
        self.run();
    }

    /// Lets so many milliseconds pass, in steps of 20.
    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(20) {
            self.now += 20;
            self.shard.handle(Input::Tick(Tick(self.now)));
            self.run();
        }
    }

    /// Asks, without looking at what comes of it.
    pub(crate) fn ask(&mut self, nth: usize, request: Request) {
        self.shard.handle(Input::Request { from: asker(nth), request });
    }

    /// Puts values of so many bytes under these keys, and waits for the answers.
    pub(crate) fn put(&mut self, numbers: impl IntoIterator<Item = usize>, size: usize) {
        for number in numbers {
            let (key, value) = (key(number), vec![0x61; size]);
            self.ask(0, put(&key, &value));
        }
        self.run();
        for (to, ready) in std::mem::take(&mut self.replies) {
            assert!(matches!(ready, Ready::Result(Ok(_))), "{to:?}: {ready:?}");
        }
    }

    /// Compacts at the present revision, and lets all of it be sealed and forgotten.
    pub(crate) fn compact(&mut self) {
        let revision = self.revision();
        self.ask(0, Request::Write(Command::Compact { revision, physical: true }.encode()));
        self.run();
        for _ in 0..10_000 {
            if self.answer(0).is_some() {
                return;
            }
            self.pass(20);
            self.work();
        }
        panic!("a compaction is never done");
    }

    /// Bytes of the store's files.
    pub(crate) fn store_size(&self) -> u64 {
        self.disks.store.list().iter().map(|file| file.1).sum()
    }

    pub(crate) fn revision(&self) -> i64 {
        self.shard.keyspace().revision().0
    }

    /// The answer to who asked for the nth time, if it has come.
    pub(crate) fn answer(&mut self, nth: usize) -> Option<Ready> {
        let at = self.replies.iter().position(|(to, _)| *to == asker(nth))?;
        Some(self.replies.remove(at).1)
    }

    /// The head of the nth's list, if it has come.
    pub(crate) fn head(&mut self, nth: usize) -> Option<ListHead> {
        match self.answer(nth)? {
            Ready::List(head) => Some(head),
            ready @ (Ready::Result(_) | Ready::Range(_)) => panic!("{ready:?} in place of a list"),
        }
    }

    /// Opens a list for the nth.
    pub(crate) fn list(&mut self, nth: usize, range: Range) {
        self.shard.handle(Input::List { to: asker(nth), range, shape });
        self.run();
    }

    /// Pulls once: what came of it, and the rows' keys.
    pub(crate) fn pull(&mut self, nth: usize, size_max: usize) -> (Rows, Vec<Vec<u8>>) {
        let mut keys = Vec::new();
        let rows = self.shard.rows(asker(nth), size_max, usize::MAX, |row, _, _| {
            keys.push(row.key.to_vec());
        });
        self.run();
        (rows, keys)
    }
}

/// A compaction that is answered as soon as it is known.
pub(crate) fn compact(revision: i64) -> Request {
    Request::Write(Command::Compact { revision, physical: false }.encode())
}

/// A put of one key.
pub(crate) fn put(key: &[u8], value: &[u8]) -> Request {
    let (lease, prev_kv, ignore_value, ignore_lease) = (0, false, false, false);
    let put = Command::Put { key, value, lease, prev_kv, ignore_value, ignore_lease };
    Request::Write(put.encode())
}

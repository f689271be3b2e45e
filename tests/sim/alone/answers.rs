//! Answers that are made but for something they wait for.

use super::{Alone, all, asker, key, put};
use bytes::Bytes;
use ringd::mvcc::KeyValue;
use ringd::mvcc::txn::{OpResult, Outcome};
use ringd::shard::command::{Command, Compare, Head, Op, Operand, RangeOptions, Txn};
use ringd::shard::request::{Body, Failure, Request, Response, Unavailable};
use ringd::shard::{Input, Ready};
use ringd::store;

/// Compactions that had been applied and waited to be done were counted by nothing, and those whose
/// client was gone stayed.
#[test]
fn compactions_that_wait_to_be_done_are_counted_and_given_up() {
    let mut alone = Alone::new(|config| config.waiting_max = 3);
    alone.put([0], 10);
    // It pins its revision, so that nothing can be forgotten.
    alone.list(9, all(|_| {}));
    assert!(alone.head(9).is_some());
    for nth in 1..=3 {
        alone.put([nth], 10);
        let revision = alone.revision();
        alone.ask(nth, Request::Write(Command::Compact { revision, physical: true }.encode()));
        alone.run();
    }
    alone.pass(1_000);
    alone.work_until(100, |_| false);
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);
    alone.ask(4, put(&key(4), b"value"));
    alone.run();
    let too_many = Failure::Unavailable(Unavailable::TooManyRequests);
    assert!(matches!(alone.answer(4), Some(Ready::Result(Err(why))) if why == too_many));
    for nth in [1, 3] {
        alone.shard.handle(Input::Forget { to: asker(nth) });
    }
    alone.put([5, 6], 10);
    alone.shard.handle(Input::Forget { to: asker(9) });
    alone.pass(1_000);
    alone.work_until(1_000, |alone| !alone.replies.is_empty());
    alone.work_until(100, |_| false);
    assert!(matches!(alone.answer(2), Some(Ready::Result(Ok(_)))));
    assert!(alone.replies.is_empty(), "{:?}", alone.replies);
}

/// Keys of what is read from the disk at once: as many blocks, near enough.
const COLD: usize = 12_000;

/// A shard whose values are on the disk, each in a block of its own.
fn cold() -> Alone {
    let mut alone = Alone::new(|config| {
        let (seal_size, block_size, reads_max) = (100_000, 300, 4096);
        let store = store::Config { seal_size, block_size, reads_max, ..config.store };
        config.store = store::Config { cache_size: 0, ..store };
    });
    alone.put(0..COLD, 250);
    alone.compact();
    alone
}

/// All keys, as on the wire.
const ALL: (&[u8], &[u8]) = (b"\0", b"\0");

/// A transaction of these compares of all keys, and of one operation if they hold.
fn txn<'a>(operands: &[Operand<'a>], op: Op<'a>) -> Bytes {
    let (key, range_end) = ALL;
    let compare =
        |operand: &Operand<'a>| Compare { key, range_end, operator: 0, operand: *operand };
    let compares: Vec<_> = operands.iter().map(compare).collect();
    let count = u32::try_from(compares.len()).expect("few");
    let heads = [Head { compares: count, success: 1, failure: 1 }];
    Command::Txn(Txn { heads: &heads, compares: &compares, ops: &[op] }).encode()
}

/// A transaction: whether all values are these, and a deletion of everything if they are.
fn delete_if_all_are(value: &[u8]) -> Request {
    let (key, range_end) = ALL;
    let op = Op::DeleteRange { key, range_end, prev_kv: true };
    Request::Write(txn(&[Operand::Value(value)], op))
}

/// For each of its values such a request went through all blocks that had come for it, and for each
/// block through all of its values: seconds for ten thousand, in which nobody else was served.
#[test]
fn what_needs_many_old_values_takes_each_from_its_block() {
    let mut alone = cold();
    alone.ask(1, delete_if_all_are(b"another"));
    alone.run();
    match alone.answer(1) {
        Some(Ready::Result(Ok(Response {
            body: Body::Txn(Outcome { succeeded, .. }), ..
        }))) => {
            assert!(!succeeded);
        }
        answer => panic!("{answer:?}"),
    }
    alone.ask(2, delete_if_all_are(&[0x61; 250]));
    alone.run();
    let Some(Ready::Result(Ok(Response { mut body, .. }))) = alone.answer(2) else {
        panic!("no answer")
    };
    let mut keys = Vec::new();
    body.each_pair(&mut |pair| {
        assert_eq!(pair.value.as_deref(), Some(&[0x61; 250][..]));
        keys.push(pair.key.to_vec());
    });
    assert_eq!(keys, (0..COLD).map(key).collect::<Vec<_>>());
    assert_eq!(alone.shard.keyspace().live(), 0);
}

/// A read of all keys in the order of their values, the largest first.
fn by_value(limit: i64) -> Op<'static> {
    let (key, range_end) = ALL;
    let options = RangeOptions { limit, order: 2, target: 4, ..RangeOptions::default() };
    Op::Range { key, range_end, options }
}

impl Alone {
    /// Does all that the shard asks for, and what the store does in turns: as much as it asks for,
    /// then all of that. Most that it asked for in a turn.
    fn take_turns(&mut self) -> usize {
        let mut most = 0;
        loop {
            self.hold_store(true);
            most = most.max(self.held.len());
            if self.held.is_empty() {
                self.hold_store(false);
                return most;
            }
            for command in std::mem::take(&mut self.held) {
                self.perform(command);
            }
        }
    }

    /// What a transaction came to, whether its compares held and its rows; and at which revision.
    fn outcome(&mut self, nth: usize) -> (bool, Vec<KeyValue>, i64) {
        let Some(Ready::Result(Ok(Response { header, body: Body::Txn(outcome) }))) =
            self.answer(nth)
        else {
            panic!("no answer")
        };
        let rows = outcome.results.into_iter().flat_map(|result| match result {
            OpResult::Range { rows, .. } => rows,
            OpResult::Put { .. } | OpResult::DeleteRange { .. } | OpResult::Txn(_) => Vec::new(),
        });
        (outcome.succeeded, rows.collect(), header.revision.0)
    }
}

/// All values of a range were in memory at once before an entry that compares them was applied, on
/// every replica, and again at each start: more than there is memory for ended all of them.
#[test]
fn values_are_compared_as_they_come_from_the_disk() {
    let mut alone = cold();
    let value = [0x61; 250];
    for is_logged in [true, false] {
        let count = Op::Range {
            key: ALL.0,
            range_end: ALL.1,
            options: RangeOptions { count_only: true, ..RangeOptions::default() },
        };
        let bytes = txn(&[Operand::Value(&value); 2], count);
        alone.ask(
            1,
            match is_logged {
                true => Request::Write(bytes),
                false => Request::ReadTxn { txn: bytes, serializable: true },
            },
        );
        let most = alone.take_turns();
        assert!((1..=64).contains(&most), "{most} blocks were read at once");
        assert!(alone.outcome(1).0);
    }
}

/// What decides nothing was waited for as well.
#[test]
fn nothing_is_read_for_a_compare_that_decides_nothing() {
    let mut alone = cold();
    alone.hold_store(true);
    let delete = Op::DeleteRange { key: ALL.0, range_end: ALL.1, prev_kv: false };
    alone.ask(1, Request::Write(txn(&[Operand::Version(7), Operand::Value(b"value")], delete)));
    alone.run();
    assert!(!alone.outcome(1).0);
}

/// A transaction of reads that waits for the disk sees one revision, whatever is written and
/// compacted meanwhile.
#[test]
fn a_transaction_of_reads_sees_the_revision_at_which_it_began() {
    let mut alone = cold();
    let (before, value) = (alone.revision(), [0x61; 250]);
    alone.hold_store(true);
    let bytes = txn(&[Operand::Value(&value)], by_value(0));
    alone.ask(1, Request::ReadTxn { txn: bytes, serializable: true });
    alone.run();
    alone.put([0, COLD], 10);
    let revision = alone.revision();
    alone.ask(2, Request::Write(Command::Compact { revision, physical: false }.encode()));
    alone.run();
    alone.hold_store(false);
    let (succeeded, rows, revision) = alone.outcome(1);
    assert!(succeeded && rows.iter().all(|row| row.value.as_deref() == Some(&value[..])));
    assert_eq!((rows.len(), revision), (COLD, before));
    assert!(alone.shard.keyspace().oldest_pin().is_none());
}

/// Rows were sorted by their values when the entry was applied, and all that came after waited.
#[test]
fn rows_are_sorted_by_values_when_they_are_answered() {
    let mut alone = cold();
    alone.ask(1, put(&key(7), b"z"));
    alone.ask(1, put(&key(9), b"y"));
    alone.run();
    alone.replies.clear();
    alone.hold_store(true);
    alone.ask(1, Request::Write(txn(&[], by_value(3))));
    alone.ask(2, put(&key(COLD), b"zz"));
    alone.run();
    assert!(alone.answer(1).is_none());
    assert!(matches!(alone.answer(2), Some(Ready::Result(Ok(_)))));
    alone.hold_store(false);
    let keys: Vec<_> = alone.outcome(1).1.iter().map(|row| row.key.to_vec()).collect();
    assert_eq!(keys, [key(7), key(9), key(0)]);
}

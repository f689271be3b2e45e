//! Answers that are made but for something they wait for.

use super::{Alone, all, asker, key, put};
use ringd::mvcc::txn::Outcome;
use ringd::shard::command::{Command, Compare, Head, Op, Operand, Txn};
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
        config.store =
            store::Config { seal_size: 100_000, block_size: 300, cache_size: 0, ..config.store };
    });
    alone.put(0..COLD, 250);
    alone.compact();
    alone
}

/// A transaction: whether all values are these, and a deletion of everything if they are.
fn delete_if_all_are(value: &[u8]) -> Request {
    let (key, range_end) = (b"\0".as_slice(), b"\0".as_slice());
    let compares = [Compare { key, range_end, operator: 0, operand: Operand::Value(value) }];
    let ops = [Op::DeleteRange { key, range_end, prev_kv: true }];
    let heads = [Head { compares: 1, success: 1, failure: 1 }];
    let txn = Txn { heads: &heads, compares: &compares, ops: &ops };
    Request::Write(Command::Txn(txn).encode())
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

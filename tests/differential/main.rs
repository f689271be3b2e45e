//! Whatever is asked, ringd and a real etcd give the same answer.
//!
//! `SEED` and `OPS` choose another run of the random tests and how long it is. Where etcd cannot
//! be had, the tests fail saying how to get it.

mod batches;
mod compare;
mod generate;
mod pair;
mod raw;
#[path = "../support/mod.rs"]
mod support;
mod web;

use crate::generate::{Generator, Op};
use crate::pair::Pair;
use crate::support::{block_on, number, say};
use ringd::api::proto::etcdserverpb::compare::CompareResult;
use ringd::api::proto::etcdserverpb::request_op::Request;

/// Requests of one random run, by default.
const OPS: u64 = 6000;
/// Requests that are kept to make a failed run shorter; one that fails later is only named.
const KEPT_MAX: usize = 100_000;
/// Fresh pairs of servers that are spent on making a failed run shorter.
const REPLAYS_MAX: usize = 40;
/// Requests until each of some planted bugs must have been found.
const PLANTED_OPS: u64 = 2000;

#[test]
fn long_histories_of_few_keys_are_served_alike() {
    random(Generator::few);
}

#[test]
fn few_keys_that_are_hard_to_tell_apart_are_served_alike() {
    random(Generator::small);
}

#[test]
fn many_keys_are_served_alike() {
    random(Generator::large);
}

/// What the server under test is asked in place of a request, to test the tests.
type Bug = fn(Op) -> Op;

/// Bugs that show in no answer to the request itself, or in few.
const BUGS: [(&str, Bug); 4] = [
    ("a long value loses a byte", |op| match op {
        Op::Put(mut put) if put.value.len() > 200 => {
            put.value.truncate(put.value.len() - 1);
            Op::Put(put)
        }
        op => op,
    }),
    ("a compaction keeps a revision too many", |op| match op {
        Op::Compact(mut compact) => {
            compact.revision -= 1;
            Op::Compact(compact)
        }
        op => op,
    }),
    ("less is less or equal", |op| match op {
        Op::Txn(mut txn) => {
            for compare in &mut txn.compare {
                if let Some(ringd::api::proto::etcdserverpb::compare::TargetUnion::Version(version)) =
                    &mut compare.target_union
                    && compare.result == CompareResult::Less as i32
                {
                    *version = version.saturating_add(1);
                }
            }
            Op::Txn(txn)
        }
        op => op,
    }),
    ("a nested transaction forgets its last operation", |op| match op {
        Op::Txn(mut txn) => {
            for op in &mut txn.success {
                if let Some(Request::RequestTxn(nested)) = &mut op.request {
                    nested.success.pop();
                }
            }
            Op::Txn(txn)
        }
        op => op,
    }),
];

#[test]
fn bugs_that_are_planted_are_found() {
    for (name, bug) in BUGS {
        let (_, failure) = run(Generator::few(1), PLANTED_OPS, bug);
        assert!(failure.is_some(), "not found: {name}");
    }
}

/// Runs random requests against both; on a difference, finds fewer requests that show it.
///
/// `PLANT` names one of [`BUGS`], to see what a difference looks like.
fn random(generator: fn(u64) -> Generator) {
    let (seed, count) = (number("SEED", 1), number("OPS", OPS));
    let planted = usize::try_from(number("PLANT", 0)).expect("a small number");
    let bug = if planted == 0 { |op| op } else { BUGS[planted - 1].1 };
    let (ops, failure) = run(generator(seed), count, bug);
    let Some((number, difference)) = failure else { return };
    let told = format!("SEED={seed} OPS={count}: request {number} is answered differently");
    assert!(ops.len() == number + 1, "{told}\n{difference}");
    say(format_args!("{told}; shortening …"));
    let short = shorten(ops.clone(), bug);
    panic!(
        "{told}: {:?}\n{difference}\n{} requests of {} are enough:\n{short:#?}",
        ops[number],
        short.len(),
        ops.len(),
    );
}

/// Asks `count` random requests, or until one is answered differently; gives those it asked and the
/// number of that one, with what differs.
fn run(mut generator: Generator, count: u64, bug: Bug) -> (Vec<Op>, Option<(usize, String)>) {
    let mut ops = Vec::new();
    let failure = block_on(async {
        let mut pair = Pair::start().await;
        for number in 0..usize::try_from(count).expect("a count of requests") {
            let op = generator.next();
            if ops.len() < KEPT_MAX {
                ops.push(op.clone());
            }
            match pair.compare_with(&op, bug).await {
                Ok(seen) => generator.learn(&op, seen),
                Err(difference) => return Some((number, difference)),
            }
        }
        None
    });
    (ops, failure)
}

/// Leaves out what the difference in the last request does not need: halves, then quarters, …, then
/// parts of the last itself.
fn shorten(mut ops: Vec<Op>, bug: Bug) -> Vec<Op> {
    let mut replays = 0;
    let mut size = ops.len() / 2;
    while size > 0 && replays < REPLAYS_MAX {
        let mut end = ops.len() - 1;
        while end > 0 && replays < REPLAYS_MAX {
            replays += 1;
            let start = end.saturating_sub(size);
            let fewer = [&ops[..start], &ops[end..]].concat();
            if let Some(last) = differs(&fewer, bug) {
                ops = fewer[..=last].to_vec();
            }
            end = start.min(ops.len() - 1);
        }
        size /= 2;
    }
    let mut part = 0;
    while let Some(Op::Txn(txn)) = ops.last()
        && replays < 2 * REPLAYS_MAX
    {
        let mut txn = txn.clone();
        let (a, b) = (txn.compare.len(), txn.success.len());
        if part < a {
            txn.compare.remove(part);
        } else if part < a + b {
            txn.success.remove(part - a);
        } else if part < a + b + txn.failure.len() {
            txn.failure.remove(part - a - b);
        } else {
            break;
        }
        replays += 1;
        let last = ops.len() - 1;
        let fewer = [&ops[..last], &[Op::Txn(txn)]].concat();
        if differs(&fewer, bug) == Some(last) {
            ops = fewer;
        } else {
            part += 1;
        }
    }
    ops
}

/// The first of `ops` that fresh servers answer differently.
fn differs(ops: &[Op], bug: Bug) -> Option<usize> {
    block_on(async {
        let mut pair = Pair::start().await;
        for (number, op) in ops.iter().enumerate() {
            if pair.compare_with(op, bug).await.is_err() {
                return Some(number);
            }
        }
        None
    })
}

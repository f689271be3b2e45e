//! Whatever is asked, ringd and a real etcd give the same answer.
//!
//! `SEED` and `OPS` choose another run of the random tests and how long it is. Where etcd cannot
//! be had, the tests fail saying how to get it.

mod batches;
mod commands;
mod compare;
mod edges;
mod generate;
mod lists;
mod nonsense;
mod pair;
mod raw;
#[path = "../support/mod.rs"]
mod support;
mod web;

use crate::generate::{Generator, Op};
use crate::pair::Pair;
use crate::support::{block_on, number, say};
use ringd::api::proto::etcdserverpb::compare::CompareResult;
use ringd::api::proto::etcdserverpb::compare::TargetUnion;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{RequestOp, TxnRequest};

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

/// Makes of a request what the server under test is asked in its place, to test the tests.
type Bug = fn(&mut Op);

/// Bugs that show in no answer to the request itself, or in few.
const BUGS: [(&str, Bug); 4] = [
    ("a long value loses a byte", |op| {
        if let Op::Put(put) = op
            && put.value.len() > 200
        {
            put.value.truncate(put.value.len() - 1);
        }
    }),
    ("a compaction keeps a revision too many", |op| {
        if let Op::Compact(compact) = op {
            compact.revision = compact.revision.saturating_sub(1);
        }
    }),
    ("less is less or equal", |op| {
        let Op::Txn(txn) = op else { return };
        for compare in &mut txn.compare {
            if let Some(TargetUnion::Version(version)) = &mut compare.target_union
                && compare.result == CompareResult::Less as i32
            {
                *version = version.saturating_add(1);
            }
        }
    }),
    ("a nested transaction forgets its last operation", |op| {
        let Op::Txn(txn) = op else { return };
        for op in &mut txn.success {
            if let Some(Request::RequestTxn(nested)) = &mut op.request {
                nested.success.pop();
            }
        }
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
    let bug = if planted == 0 { |_: &mut Op| {} } else { BUGS[planted - 1].1 };
    let (ops, failure) = run(generator(seed), count, bug);
    let Some((number, difference)) = failure else { return };
    let told = format!("SEED={seed} OPS={count}: request {number} is answered differently");
    assert!(ops.len() == number + 1, "{told}\n{difference}");
    say(format_args!("{told}; shortening …"));
    let short = shorten(ops.clone(), bug);
    panic!(
        "{told}\n{}{difference}\n{} requests of {} are enough:\n{}",
        listed(&ops[number..]),
        short.len(),
        ops.len(),
        listed(&short),
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

/// Leaves out what the difference in the last request does not need: requests before it, then parts
/// of it, then requests again.
fn shorten(ops: Vec<Op>, bug: Bug) -> Vec<Op> {
    let ops = with_fewer_requests(with_short_values(ops, bug), bug);
    with_fewer_requests(with_fewer_parts(ops, bug), bug)
}

/// Cuts all values, if the difference does not need them.
fn with_short_values(ops: Vec<Op>, bug: Bug) -> Vec<Op> {
    let short = ops.iter().cloned().map(|mut op| {
        match &mut op {
            Op::Put(put) => put.value.truncate(4),
            Op::Txn(txn) => cut_values(txn),
            Op::Range(_)
            | Op::Delete(_)
            | Op::Compact(_)
            | Op::Stream(_)
            | Op::HashKv(_)
            | Op::Hash
            | Op::Restart => {}
        }
        op
    });
    let short: Vec<_> = short.collect();
    if differs(&short, bug) == Some(ops.len() - 1) { short } else { ops }
}

fn cut_values(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => put.value.truncate(4),
            Some(Request::RequestTxn(txn)) => cut_values(txn),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => {}
        }
    }
}

/// Leaves out all requests before the last, halves of them, quarters, ….
fn with_fewer_requests(mut ops: Vec<Op>, bug: Bug) -> Vec<Op> {
    let mut replays = 0;
    let mut size = ops.len() - 1;
    while size > 0 {
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
    ops
}

/// Leaves out parts of the last request, if it is a transaction.
fn with_fewer_parts(mut ops: Vec<Op>, bug: Bug) -> Vec<Op> {
    let mut replays = 0;
    while let Some(Op::Txn(txn)) = ops.last() {
        let last = ops.len() - 1;
        let smaller = fewer_parts(txn).into_iter().find_map(|txn| {
            replays += 1;
            let fewer = [&ops[..last], &[Op::Txn(txn)]].concat();
            let differs = replays < REPLAYS_MAX && differs(&fewer, bug) == Some(last);
            differs.then_some(fewer)
        });
        match smaller {
            Some(fewer) => ops = fewer,
            None => break,
        }
    }
    ops
}

/// A transaction without each of its parts in turn, and of the parts of its parts.
fn fewer_parts(txn: &TxnRequest) -> Vec<TxnRequest> {
    let mut all = Vec::new();
    for at in 0..txn.compare.len() {
        let mut fewer = txn.clone();
        fewer.compare.remove(at);
        all.push(fewer);
    }
    let lists: [fn(&mut TxnRequest) -> &mut Vec<RequestOp>; 2] =
        [|txn| &mut txn.success, |txn| &mut txn.failure];
    for list in lists {
        for at in 0..list(&mut txn.clone()).len() {
            let mut fewer = txn.clone();
            let op = list(&mut fewer).remove(at);
            all.push(fewer);
            let Some(Request::RequestTxn(nested)) = op.request else { continue };
            all.extend(fewer_parts(&nested).into_iter().map(|nested| {
                let mut fewer = txn.clone();
                list(&mut fewer)[at].request = Some(Request::RequestTxn(nested));
                fewer
            }));
        }
    }
    all
}

/// Requests in few words, one in a line.
fn listed(ops: &[Op]) -> String {
    let mut text = String::new();
    for op in ops {
        text += &format!("  {op:?}\n");
    }
    for field in [
        "value",
        "lease",
        "prev_kv",
        "ignore_value",
        "ignore_lease",
        "range_end",
        "limit",
        "revision",
        "sort_order",
        "sort_target",
        "serializable",
        "keys_only",
        "count_only",
        "min_mod_revision",
        "max_mod_revision",
        "min_create_revision",
        "max_create_revision",
        "physical",
        "compare",
        "success",
        "failure",
    ] {
        for zero in ["0", "false", "b\"\"", "None", "Key", "[]"] {
            text = text.replace(&format!(" {field}: {zero},"), "");
            text = text.replace(&format!(", {field}: {zero} }}"), " }");
        }
    }
    text
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

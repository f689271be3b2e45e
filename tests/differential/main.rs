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

/// Requests of one random run, by default.
const OPS: u64 = 4000;
/// Fresh pairs of servers that are spent on making a failed run shorter.
const REPLAYS_MAX: usize = 24;

#[test]
fn few_keys_that_are_hard_to_tell_apart_are_served_alike() {
    random(Generator::small);
}

#[test]
fn many_keys_are_served_alike() {
    random(Generator::large);
}

/// Runs random requests against both; on a difference, finds fewer requests that show it.
fn random(generator: fn(u64) -> Generator) {
    let (seed, count) = (number("SEED", 1), number("OPS", OPS));
    let mut generator = generator(seed);
    let mut ops = Vec::new();
    let failure = block_on(async {
        let pair = Pair::start().await;
        for _ in 0..count {
            let op = generator.next();
            ops.push(op.clone());
            match pair.compare(&op).await {
                Ok(Some(revision)) => generator.revision = revision,
                Ok(None) => {}
                Err(difference) => return Some(difference),
            }
        }
        None
    });
    let Some(difference) = failure else { return };
    let number = ops.len() - 1;
    say(format_args!("SEED={seed}: request {number} is answered differently; shortening …"));
    let short = shorten(ops.clone());
    panic!(
        "SEED={seed}, request {number}: {:?}\n{difference}\n\
         {} requests of {} are enough:\n{short:#?}",
        ops[number],
        short.len(),
        ops.len(),
    );
}

/// Leaves out what the difference in the last request does not need: halves, then quarters, …
fn shorten(mut ops: Vec<Op>) -> Vec<Op> {
    let mut replays = 0;
    let mut size = ops.len() / 2;
    while size > 0 {
        let mut end = ops.len() - 1;
        while end > 0 {
            if replays == REPLAYS_MAX {
                return ops;
            }
            replays += 1;
            let start = end.saturating_sub(size);
            let fewer = [&ops[..start], &ops[end..]].concat();
            if let Some(last) = differs(&fewer) {
                ops = fewer[..=last].to_vec();
            }
            end = start.min(ops.len() - 1);
        }
        size /= 2;
    }
    ops
}

/// The first of `ops` that fresh servers answer differently.
fn differs(ops: &[Op]) -> Option<usize> {
    block_on(async {
        let pair = Pair::start().await;
        for (number, op) in ops.iter().enumerate() {
            if pair.compare(op).await.is_err() {
                return Some(number);
            }
        }
        None
    })
}

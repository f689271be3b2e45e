//! Whatever is asked, ringd and a real etcd give the same answer.
//!
//! `SEED` and `OPS` choose another run of the random tests and how long it is. `PAIR=etcd-etcd`
//! compares etcd with another, which must differ in nothing. Where etcd cannot be had, the tests
//! fail saying how to get it.

mod batches;
mod bugs;
mod cluster;
mod commands;
mod compare;
mod compares;
mod crowd;
mod edges;
mod flags;
mod generate;
mod keepers;
mod leases;
mod lists;
mod locks;
mod nonsense;
mod odd_streams;
mod pair;
mod raw;
mod shorten;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod watches;
mod web;

use crate::bugs::{BUGS, Bug};
use crate::generate::{Generator, Op};
use crate::pair::Pair;
use crate::shorten::{listed, shorten};
use crate::support::{block_on, number, say};

/// Requests of one random run, by default.
const OPS: u64 = 6000;
/// Requests that are kept to make a failed run shorter; one that fails later is only named.
const KEPT_MAX: usize = 100_000;
/// Fresh pairs of servers that are spent on each way to make a failed run shorter.
const REPLAYS_MAX: usize = 60;

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

#[test]
fn watchers_of_few_keys_are_told_alike() {
    random(|seed| Generator::few(seed).watching());
}

#[test]
fn watchers_of_keys_that_are_hard_to_tell_apart_are_told_alike() {
    random(|seed| Generator::small(seed).watching());
}

#[test]
fn watchers_of_many_keys_are_told_alike() {
    random(|seed| Generator::large(seed).watching());
}

/// Runs random requests against both; on a difference, finds fewer requests that show it.
///
/// `PLANT` names one of [`BUGS`], to see what a difference looks like.
fn random(generator: fn(u64) -> Generator) {
    let (seed, count) = (number("SEED", 1), number("OPS", OPS));
    let planted = usize::try_from(number("PLANT", 0)).expect("a small number");
    let bug = if planted == 0 { |_: &mut Op| {} } else { BUGS[planted - 1].bug };
    let (ops, failure) = run(generator(seed), count, bug);
    let Some((number, difference)) = failure else { return };
    let told = format!("SEED={seed} OPS={count}: request {number} is answered differently");
    assert!(ops.len() == number + 1, "{told}\n{difference}");
    say(format_args!("{told}; shortening …\n{}{difference}", listed(&ops[number..])));
    let short = shorten(ops.clone(), bug, REPLAYS_MAX);
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
        let count = usize::try_from(count).expect("a count of requests");
        for number in 0..count {
            let op = generator.next();
            if ops.len() < KEPT_MAX {
                ops.push(op.clone());
            }
            match pair.compare_with(&op, bug).await {
                Ok(seen) => generator.learn(&op, seen),
                Err(difference) => return Some((number, difference)),
            }
        }
        let settled = pair.compare(&Op::Settle).await;
        if settled.is_err() && ops.len() < KEPT_MAX {
            ops.push(Op::Settle);
        }
        settled.err().map(|difference| (count, difference))
    });
    (ops, failure)
}

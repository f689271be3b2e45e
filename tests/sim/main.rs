//! One node over faulty disks, from the client's bytes to the disk's, all of it from a seed.
//!
//! `README.md` beside this file says what may break and how to see a failure again.

mod alone;
mod client;
mod cluster;
mod counts;
mod crash;
mod disk;
mod group;
mod hash;
mod model;
mod node;
mod oracle;
mod planted;
mod store;
mod swarm;
mod watches;
mod wire;
mod world;

#[path = "../support/dice.rs"]
#[allow(dead_code, reason = "each test binary uses the parts it needs")]
mod dice;

use counts::Counts;
use ringd::types::Tick;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use world::World;

/// Crash points of one run of the default tests, at least.
const CRASH_POINTS: u64 = 60_000;

/// A knob of whoever runs the tests.
#[expect(clippy::disallowed_methods, reason = "tests take their knobs from the environment")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Tells whoever runs the tests something even when the test passes.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("standard error is open");
}

/// Tells of a run that ends here if it is a panic that ends it, and nobody has planted it.
fn tell_of_panic(is_planted: bool, tell: impl FnOnce(&str) -> String) {
    if std::thread::panicking() && !is_planted {
        say(&tell("it panicked"));
    }
}

fn run(seed: u64) -> (Counts, u64) {
    match World::new(seed, None).run() {
        Ok(done) => done,
        Err(why) => panic!("{why}"),
    }
}

/// Runs seeds of one half, even or odd, until they have met their half of the crash points, or as
/// many as `SIM_SEEDS` says.
fn run_half(half: u64) {
    if let Some(seed) = number("SEED") {
        if seed % 2 == half {
            say(&format!("seed {seed}: {:?}", run(seed)));
        }
        return;
    }
    let wanted = number("CRASH_POINTS").unwrap_or(CRASH_POINTS).div_ceil(2);
    let seeds = number("SIM_SEEDS").map(|seeds| seeds.div_ceil(2));
    let (mut counts, mut seed, mut done) = (Counts::default(), half, 0);
    while seeds.map_or(counts.crash_points < wanted, |seeds| done < seeds) {
        counts.add(&run(seed).0);
        seed += 2;
        done += 1;
    }
    say(&format!("sim: {done} seeds, {counts:?}"));
    let met = |count: u64, what: &str| assert!(count > 0 || done < 50, "no seed met {what}");
    met(counts.restarts, "a crash");
    met(counts.failures, "a failed write");
    met(counts.stops, "a stop");
    met(counts.cuts, "a cut connection");
    met(counts.flips_refused, "a flipped bit that matters");
    met(counts.refusals, "a refused request");
    met(counts.timeouts, "a timeout");
    met(counts.sealed, "a segment of the store");
    met(counts.removals, "a file of the store that was removed");
    met(counts.fetches, "a value from a file");
    met(counts.renewals, "a lease that was renewed");
    met(counts.ended, "a lease that ended");
    met(counts.watches.events, "an event");
    met(counts.watches.prevs, "an event with the pair before");
    met(counts.watches.resumed, "a watcher that goes on from another's end");
    met(counts.watches.refused, "a watcher that was refused");
    met(counts.watches.canceled, "a watcher that was canceled");
    met(counts.watches.compacted, "a watcher whose past was compacted");
    met(counts.watches.progress, "a report of progress");
    met(counts.watches.fragments, "a response that is not whole");
}

#[test]
fn every_crash_of_even_seeds_keeps_what_was_acknowledged() {
    run_half(0);
}

#[test]
fn every_crash_of_odd_seeds_keeps_what_was_acknowledged() {
    run_half(1);
}

#[test]
fn a_seed_is_the_same_twice() {
    let mut events = 0;
    for seed in [1, 2, 3] {
        let ((one, first), (two, second)) = (run(seed), run(seed));
        assert_eq!((one.crash_points, first), (two.crash_points, second), "seed {seed}");
        events += one.watches.events;
    }
    assert!(events > 0, "somebody watches");
}

/// A log keeps the segments it was made with: a node that was started again with larger ones, and
/// larger requests to match, took such a request and ended in an assertion of the log's.
#[test]
fn requests_larger_than_the_logs_own_segments_hold_are_refused_at_the_start() {
    let small = World::new(1, None).swarm.config.clone();
    let mut disk = node::Disks::default();
    let mut shard = node::recover(&small, &disk, 1, Tick(0)).expect("an empty disk");
    node::open(&mut shard, &mut disk).expect("a disk without faults");

    let mut large = small.clone();
    large.wal.segment_size = 1 << 20;
    large.wal.frame_size_max = 1 << 19;
    large.request_size_max = 400 << 10;
    let why = node::recover(&large, &disk, 2, Tick(0)).expect_err("they do not fit");
    assert!(why.contains("--max-request-bytes 409600"), "{why}");
    large.request_size_max = small.request_size_max;
    node::recover(&large, &disk, 2, Tick(0)).expect("larger segments alone are no harm");
}

/// The seed at which a planted bug is found, and how.
fn find(bug: planted::Bug, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let run = AssertUnwindSafe(|| World::new(seed, Some(bug)).run());
        match std::panic::catch_unwind(run) {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some((seed, why.lines().next().unwrap_or_default().to_owned())),
            Err(_) => Some((seed, "an assertion of the server's".to_owned())),
        }
    })
}

#[test]
fn every_planted_bug_is_found() {
    for (bug, seeds) in planted::BUGS {
        let found = find(bug, seeds);
        say(&format!("planted {bug:?}: {found:?}"));
        assert!(found.is_some(), "{bug:?} is not found within {seeds} seeds");
    }
}

//! A store over a faulty disk, without the shard around it, all of it from a seed.

mod counts;
mod crash;
pub(crate) mod disk;
mod index;
pub(crate) mod node;
mod planted;
mod swarm;
mod world;

use crate::number;
use crate::say;
use counts::Counts;
use planted::Bug;
use std::panic::AssertUnwindSafe;
use world::World;

/// Crash points of one run of the default tests, at least.
const CRASH_POINTS: u64 = 50_000;

fn run(seed: u64) -> (Counts, u64) {
    match World::new(seed, None).run() {
        Ok(done) => done,
        Err(why) => panic!("{why}"),
    }
}

/// Runs seeds of one half, even or odd, until they have met their half of the crash points, or as
/// many as `STORE_SEEDS` says.
fn run_half(half: u64) {
    if let Some(seed) = number("STORE_SEED") {
        if seed % 2 == half {
            say(&format!("store seed {seed}: {:?}", run(seed)));
        }
        return;
    }
    let wanted = number("STORE_CRASH_POINTS").unwrap_or(CRASH_POINTS).div_ceil(2);
    let seeds = number("STORE_SEEDS").map(|seeds| seeds.div_ceil(2));
    let (mut counts, mut seed, mut done) = (Counts::default(), half, 0);
    while seeds.map_or(counts.crash_points < wanted, |seeds| done < seeds) {
        counts.add(&run(seed).0);
        seed += 2;
        done += 1;
    }
    say(&format!("store: {done} seeds, {counts:?}"));
    let met = |count: u64, what: &str| assert!(count > 0 || done < 50, "no seed met {what}");
    met(counts.restarts, "a crash");
    met(counts.failures, "a failure");
    met(counts.refused, "a flipped bit that matters");
    met(counts.seals, "a seal");
    met(counts.removals, "a file that was removed");
    met(counts.fetched, "a value from a file");
    met(counts.cleanings, "a manifest of what was cleaned");
    met(counts.late, "a value that was dead when it was read");
}

#[test]
fn every_crash_of_a_store_at_even_seeds_keeps_what_was_sealed() {
    run_half(0);
}

#[test]
fn every_crash_of_a_store_at_odd_seeds_keeps_what_was_sealed() {
    run_half(1);
}

#[test]
fn a_seed_of_a_store_is_the_same_twice() {
    for seed in [1, 2, 3] {
        let ((one, first), (two, second)) = (run(seed), run(seed));
        assert_eq!((one.crash_points, first), (two.crash_points, second), "seed {seed}");
    }
}

/// The seed at which a planted bug is found, and how.
fn find(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let run = AssertUnwindSafe(|| World::new(seed, Some(bug)).run());
        match std::panic::catch_unwind(run) {
            Ok(Ok(_)) => None,
            Ok(Err(why)) => Some((seed, why.lines().next().unwrap_or_default().to_owned())),
            Err(_) => Some((seed, "an assertion".to_owned())),
        }
    })
}

#[test]
fn every_bug_planted_around_a_store_is_found() {
    for (bug, seeds) in planted::BUGS {
        let found = find(bug, seeds);
        say(&format!("planted {bug:?}: {found:?}"));
        assert!(found.is_some(), "{bug:?} is not found within {seeds} seeds");
    }
}

//! Whole clusters of one, three and five nodes: clients' bytes, members' bytes, disks and clocks.
//!
//! `README.md` in the folder above says what may break and how to see a failure again.

mod call;
mod clients;
mod counts;
mod driver;
mod duel;
mod faults;
mod life;
mod net;
mod oracle;
mod peers;
mod planted;
mod process;
mod rest;
mod swarm;
mod tombstone;
mod world;

use counts::Counts;
use planted::Bug;
use std::panic::AssertUnwindSafe;
use world::World;

/// Seeds of the default tests.
const SEEDS: u64 = 40;
/// Seeds from which on all that there is to meet must be met.
const SEEDS_ENOUGH: u64 = 600;

fn run(seed: u64) -> (Counts, u64) {
    match World::new(seed, None).run() {
        Ok(done) => done,
        Err(why) => panic!("{why}"),
    }
}

/// Runs the seeds of one half, even or odd, as many as `CLUSTER_SEEDS` says, or else `SIM_SEEDS`.
fn run_half(half: u64) {
    if let Some(seed) = crate::number("SEED") {
        if seed % 2 == half {
            crate::say(&format!("cluster, seed {seed}: {:?}", run(seed)));
        }
        return;
    }
    let seeds = crate::number("CLUSTER_SEEDS").or_else(|| crate::number("SIM_SEEDS"));
    let seeds = seeds.unwrap_or(SEEDS);
    let mut counts = Counts::default();
    for seed in (half..seeds).step_by(2) {
        counts.add(&run(seed).0);
    }
    crate::say(&format!("cluster: {} seeds, {counts:?}", seeds / 2));
    if seeds >= SEEDS_ENOUGH {
        counts.check();
    }
}

#[test]
fn clusters_of_even_seeds_are_one_truth() {
    run_half(0);
}

#[test]
fn clusters_of_odd_seeds_are_one_truth() {
    run_half(1);
}

/// The seed at which a planted bug is found, and how.
fn find(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    let first = crate::number("SEED").unwrap_or(0);
    (first..first + seeds).find_map(|seed| {
        let run = AssertUnwindSafe(|| World::new(seed, Some(bug)).run());
        match std::panic::catch_unwind(run) {
            Ok(Ok(_)) => None,
            Ok(Err(why)) if !bug.shows(&why) => None,
            Ok(Err(why)) => Some((seed, why.lines().next().unwrap_or_default().to_owned())),
            Err(_) => Some((seed, "an assertion of the server's".to_owned())),
        }
    })
}

#[test]
fn every_bug_planted_in_a_cluster_is_found() {
    let only = crate::number("BUG").map(|nth| usize::try_from(nth).expect("small"));
    for (nth, (bug, seeds)) in planted::BUGS.into_iter().enumerate() {
        if only.is_some_and(|only| only != nth) {
            continue;
        }
        let found = find(bug, seeds);
        crate::say(&format!("planted {nth}, {bug:?}: {found:?}"));
        assert!(found.is_some(), "{bug:?} is not found within {seeds} seeds");
    }
}

/// What makes a bug likely to be seen is no bug.
#[test]
fn what_shows_planted_bugs_shows_none_where_none_is_planted() {
    for (bug, _) in planted::BUGS {
        for seed in 0..2 {
            let mut world = World::new(seed, Some(bug));
            world.bug = None;
            if let Err(why) = world.run() {
                panic!("as for {bug:?}: {why}");
            }
        }
    }
}

#[test]
fn a_cluster_is_the_same_twice() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed).1, run(seed).1, "seed {seed}");
    }
}

//! What API servers of Kubernetes do to their etcd all day, through kill -9 of it and restarts, and
//! whether it does to them what they rely on.
//!
//! Controllers update objects by transactions on the revision that they know, and delete them on a
//! condition; recorders write events that end with a lease shared by many; caches list, in pages
//! or as a stream, and watch from the list's revision on; readers ask for the store's revision and
//! wait until a cache has come that far; two compactors take turns by the version of a key. All
//! that was asked for and came back is recorded, and an audit judges it after every round.
//!
//! `SEED` chooses another run and `ROUNDS` how many rounds it has; more rounds take no more memory.

mod audit;
mod cache;
mod compactor;
mod controllers;
mod load;
mod planted;
mod reader;
mod record;
mod storage;
#[path = "../support/mod.rs"]
mod support;
mod wire;
mod world;

use crate::audit::Audit;
use crate::load::Load;
use crate::support::dice::Dice;
use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::server::Server;
use crate::support::{block_on, number, say};
use std::time::Duration;
use tokio::task::LocalSet;
use tokio::time::interval;

/// Rounds, each with a kill or two.
const ROUNDS: u64 = 5;
/// Writes that are acknowledged before a kill, and after the last one, at most.
const WRITES_MAX: usize = 700;
/// So that quiet watchers are told how far they have come.
const TOLD_OFTEN: &str = "--watch-progress-notify-interval=500ms";
/// Files and a cache of ringd's so small that history is on disk and not in memory.
const SMALL: [&str; 3] =
    ["--store-segment-bytes=1048576", "--cache-bytes=1048576", "--wal-segment-bytes=8388608"];

/// A server that is given reason to say how far watchers have come, and to read from its disk.
fn start() -> Server {
    let small: &[_] = if under_test_is_ours() { &SMALL } else { &[] };
    Server::start_with(&under_test(), &[&[TOLD_OFTEN], small].concat())
}

/// Asks a server to end, and waits until it has; those who talk with it go on meanwhile.
async fn end(server: &mut Server) {
    server.ask_to_end();
    let mut ticks = interval(Duration::from_millis(10));
    while server.is_running() {
        ticks.tick().await;
    }
    server.ended();
}

#[test]
fn api_servers_miss_nothing_and_lose_nothing() {
    let (seed, rounds) = (number("SEED", 1), number("ROUNDS", ROUNDS));
    let mut dice = Dice::new(seed);
    let mut server = start();
    let mut audit = Audit::new();
    block_on(LocalSet::new().run_until(async {
        let mut load = Load::new(server.port());
        load.supports_what_an_api_server_asks_for().await;
        for round in 0..rounds {
            load.start(round, &mut dice);
            for _ in 0..=dice.below(2) {
                load.acked(dice.index(WRITES_MAX)).await;
                load.falls();
                match dice.chance(75) {
                    true => server.kill(),
                    false => end(&mut server).await,
                }
                server.restart();
                load.rises();
            }
            load.acked(dice.index(WRITES_MAX)).await;
            let horizon = load.rest().await;
            let problems = audit.judge(load.take(), horizon);
            assert!(
                problems.is_empty(),
                "SEED={seed}, round {round}, up to {horizon}:\n{}",
                problems.join("\n")
            );
        }
        let horizon = load.end().await;
        let problems = audit.judge(load.take(), horizon);
        assert!(problems.is_empty(), "SEED={seed}, at the end:\n{}", problems.join("\n"));
    }));
    let counts = audit.counts;
    say(format_args!("kube: SEED={seed}, {rounds} rounds: {counts:?}"));
    assert!(counts.refused > 0 && counts.expired > 0 && counts.progress > 0, "{counts:?}");
    assert!(counts.reads > 0 && counts.compacted > 0, "{counts:?}");
}

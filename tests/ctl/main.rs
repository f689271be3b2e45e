//! `ringctl` beside etcdctl: the same command lines against two servers of one kind, on which the
//! same has happened, print the same and exit the same.
//!
//! Ids, ports and durations are taken out of what is compared. etcdctl, and etcd as the server, are
//! used where they are installed; what a test then passes over, it says.

mod cluster;
mod keys;
mod leases;
mod members;
mod pages;
mod pair;
mod playground;
mod running;
mod shards;
#[path = "../support/mod.rs"]
mod support;
mod turns;
mod watches;

use crate::pair::Pair;
use crate::support::peers;
use crate::support::say;
use crate::support::server::Server;
use std::path::PathBuf;
use std::time::Duration;

/// How long a command may take.
const RUN: Duration = Duration::from_secs(60);

/// What a server has to have for a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    /// Keys, transactions, compactions.
    Keys,
    /// Status, hashes, the list of members.
    Members,
    /// Leases.
    Leases,
    /// Watches.
    Watches,
    /// Watches and leases together: locks and elections.
    Turns,
    /// Alarms that are raised, defragmentation, snapshots, users.
    Upkeep,
}

/// What ringd has of these.
const RINGD_HAS: &[Area] = &[Area::Keys, Area::Members, Area::Leases, Area::Watches, Area::Turns];

/// The servers to try something on: ringd, if it has it, and etcd, if it is installed.
fn servers(area: Area) -> Vec<PathBuf> {
    let ringd = RINGD_HAS.contains(&area).then(peers::under_test);
    let etcd = peers::installed("etcd");
    if etcd.is_none() {
        say(format_args!("{area:?} on etcd: skipped, it is not in target/peers/bin"));
    }
    ringd.into_iter().chain(etcd).collect()
}

/// Tries something with both clients, each on a server of its own, for every kind of server.
fn with_both(area: Area, test: impl Fn(&Pair)) {
    let Some(etcdctl) = peers::installed("etcdctl") else {
        say(format_args!("{area:?}: skipped, etcdctl is not in target/peers/bin"));
        return;
    };
    for server in servers(area) {
        test(&Pair::start(&server, &etcdctl));
    }
}

/// Tries something with ringctl alone, for every kind of server.
fn with_ours(area: Area, test: impl Fn(&Server)) {
    for server in servers(area) {
        test(&Server::start(&server));
    }
}

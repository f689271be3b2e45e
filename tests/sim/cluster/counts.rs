//! What a run has met.

use super::clients::{Client, Role};
use super::oracle::config::Config;
use super::oracle::lease::Leases;
use ringd::peer::Verdict;
use std::collections::BTreeMap;

/// Numbers of what happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) seconds: u64,
    pub(super) starts: u64,
    pub(super) crashes: u64,
    pub(super) stops: u64,
    pub(super) failures: u64,
    pub(super) pauses: u64,
    /// Disks that got slow.
    pub(super) slows: u64,
    /// Clocks that go wrong.
    pub(super) drifts: u64,
    pub(super) parts: u64,
    /// Of those, in one direction only.
    pub(super) one_way: u64,
    pub(super) cuts: u64,
    pub(super) stills: u64,
    pub(super) flips: u64,
    pub(super) packets: u64,
    /// Packets that were said twice, and long after they were to be.
    pub(super) doubled: u64,
    pub(super) late: u64,
    /// Connections to peers that broke.
    pub(super) lost: u64,
    pub(super) refusals: BTreeMap<Verdict, u64>,
    pub(super) calls: u64,
    pub(super) done: u64,
    pub(super) refused: u64,
    pub(super) unknown: u64,
    /// Calls of keys whose histories were searched.
    pub(super) searched: usize,
    pub(super) terms: usize,
    pub(super) moves: u64,
    /// Snapshots that a node went on from.
    pub(super) snapshots: u64,
    /// Compactions that were done.
    pub(super) compactions: u64,
    pub(super) joined: u64,
    pub(super) removed: u64,
    pub(super) wipes: u64,
    pub(super) changes: usize,
    pub(super) events: u64,
    pub(super) progress: u64,
    pub(super) compacted: u64,
    pub(super) renewed: u64,
    pub(super) ended: u64,
}

impl Counts {
    pub(super) fn refuse(&mut self, verdict: Verdict) {
        *self.refusals.entry(verdict).or_default() += 1;
    }

    /// Takes in what others have counted.
    pub(super) fn sum_up(
        &mut self,
        configs: &Config,
        leases: &Leases,
        clients: &[Client],
        now: u64,
    ) {
        self.seconds = now / 1000;
        self.terms = configs.terms();
        self.changes = configs.changes() - 1;
        (self.renewed, self.ended) = (leases.renewed, leases.ended);
        for client in clients {
            if let Role::Watcher(watcher, _) = &client.role {
                self.events += watcher.events;
                self.progress += watcher.progress;
                self.compacted += watcher.compacted;
            }
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.starts += other.starts;
        self.crashes += other.crashes;
        self.stops += other.stops;
        self.failures += other.failures;
        self.pauses += other.pauses;
        self.slows += other.slows;
        self.drifts += other.drifts;
        self.parts += other.parts;
        self.one_way += other.one_way;
        self.cuts += other.cuts;
        self.stills += other.stills;
        self.flips += other.flips;
        self.packets += other.packets;
        self.doubled += other.doubled;
        self.late += other.late;
        self.lost += other.lost;
        for (verdict, count) in &other.refusals {
            *self.refusals.entry(*verdict).or_default() += count;
        }
        self.calls += other.calls;
        self.done += other.done;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.searched += other.searched;
        self.terms += other.terms;
        self.moves += other.moves;
        self.snapshots += other.snapshots;
        self.compactions += other.compactions;
        self.joined += other.joined;
        self.removed += other.removed;
        self.wipes += other.wipes;
        self.changes += other.changes;
        self.events += other.events;
        self.progress += other.progress;
        self.compacted += other.compacted;
        self.renewed += other.renewed;
        self.ended += other.ended;
    }

    /// Asserts that so many seeds have met all that clusters are there to meet.
    pub(super) fn check(&self) {
        let met = |count: u64, what: &str| assert!(count > 0, "no seed met {what}");
        met(self.crashes, "a crash");
        met(self.stops, "a stop");
        met(self.failures, "a disk that failed");
        met(self.slows, "a slow disk");
        met(self.pauses, "a pause");
        met(self.drifts, "a clock that goes wrong");
        met(self.parts, "a partition");
        met(self.one_way, "a partition in one direction");
        met(self.cuts, "a connection that broke");
        met(self.stills, "a connection that stood still");
        met(self.flips, "a flipped bit");
        met(self.doubled, "a packet that came twice");
        met(self.late, "a packet that came late");
        met(self.moves, "leadership that was to move");
        met(self.changes as u64, "a change of voters");
        met(self.joined, "a member that joined");
        met(self.removed, "a member that was removed");
        met(self.wipes, "a member that was wiped");
        met(self.snapshots, "a snapshot");
        met(self.compactions, "a compaction");
        met(self.compacted, "a watcher whose past was compacted");
        met(self.events, "an event");
        met(self.progress, "a report of progress");
        met(self.renewed, "a lease that was renewed");
        met(self.ended, "a lease that ended");
        met(self.unknown, "a call whose end nobody knows");
        met(self.searched as u64, "a history that was searched");
    }
}

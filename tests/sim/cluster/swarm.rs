//! What one seed of a cluster is made of: limits, what clients ask and what breaks, each on or off.

use super::net::Pace;
use super::oracle::lease::DRIFT_MAX;
use crate::client::Manner;
use crate::dice::Dice;
use ringd::lease;
use ringd::peer;
use ringd::raft;
use ringd::shard::{Config, list};
use ringd::store;
use ringd::types::NodeId;

/// How often something breaks: milliseconds between two such, on average; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// A process or a machine goes down, and comes back.
    pub(super) crash: u64,
    /// A process stands still.
    pub(super) pause: u64,
    /// Some nodes do not reach some others.
    pub(super) part: u64,
    /// Connections break.
    pub(super) cut: u64,
    /// Connections stand still.
    pub(super) still: u64,
    /// A bit flips between two members.
    pub(super) flip: u64,
    /// A disk gets slow.
    pub(super) slow: u64,
    /// A disk is full, or does not read or write: the process ends, and so does the next.
    pub(super) full: u64,
    /// Leadership is to move, members come and go.
    pub(super) moves: u64,
    /// The order of crashes that shows one planted bug goes on.
    pub(super) duel: u64,
}

/// The choices of one seed.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub(super) nodes: usize,
    /// The milliseconds in which things break.
    pub(super) span: u64,
    pub(super) config: Config,
    pub(super) pace: Pace,
    pub(super) limits: peer::Limits,
    pub(super) faults: Faults,
    /// Milliseconds that a disk takes at most.
    pub(super) disk_max: u64,
    /// Clocks go apart.
    pub(super) drifts: bool,
    pub(super) manner: Manner,
    pub(super) clients: usize,
    pub(super) pipelined: usize,
    /// Milliseconds between two requests of a client, at most.
    pub(super) think_max: u64,
    /// Milliseconds that a client waits for an answer.
    pub(super) patience: u64,
    pub(super) watchers: usize,
    pub(super) keys: usize,
    /// Of a hundred requests.
    pub(super) reads: u64,
    pub(super) serializable: u64,
    pub(super) txns: u64,
    pub(super) deletes: u64,
    pub(super) leases: u64,
    pub(super) compacts: u64,
    pub(super) upkeep: u64,
    pub(super) value_size: usize,
    /// Of a hundred packets: those that come twice, and those that come late.
    pub(super) doubled: u64,
    pub(super) late: u64,
    /// Members come, go and are wiped.
    pub(super) members: bool,
    pub(super) whole_size_max: usize,
}

impl Swarm {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let nodes = dice.pick(&[1, 3, 3, 3, 5, 5]);
        let config = config(dice);
        let patience = config.request_timeout + 500;
        let faults = Faults::new(nodes, dice);
        Self {
            nodes,
            span: dice.pick(&[4_000, 8_000, 15_000]),
            pace: Pace {
                delay_max: dice.pick(&[2, 10, 40]),
                slow: dice.pick(&[0, 0, 5]),
                pieces: dice.pick(&[0, 10, 40]),
            },
            limits: peer::Limits {
                ping_after: dice.pick(&[300, 1_000]),
                silence_max: dice.pick(&[700, 2_000, 5_000]),
                raft_queue_size_max: dice.pick(&[20_000, 32 << 20]),
                retry_after_max: dice.pick(&[200, 2_000]),
                ..peer::Limits::default()
            },
            faults,
            disk_max: dice.pick(&[2, 5, 20]),
            drifts: dice.chance(50),
            manner: Manner {
                window: dice.pick(&[5_000, 65_535]),
                pieces: dice.chance(20),
                indexing: dice.chance(50),
            },
            clients: dice.index(5) + 2,
            pipelined: dice.pick(&[1, 1, 3]),
            think_max: dice.pick(&[40, 150, 600]),
            patience: dice.pick(&[700, patience]),
            watchers: dice.pick(&[0, 1, 3]),
            keys: dice.pick(&[1, 3, 8]),
            reads: dice.pick(&[10, 30, 60]),
            serializable: dice.pick(&[0, 20, 50]),
            txns: dice.pick(&[0, 20, 50]),
            deletes: dice.pick(&[0, 10, 25]),
            leases: dice.pick(&[0, 0, 10, 25]),
            compacts: dice.pick(&[0, 0, 3]),
            upkeep: dice.pick(&[0, 2, 5]),
            value_size: dice.pick(&[10, 10, 400]),
            doubled: dice.pick(&[0, 0, 5]),
            late: dice.pick(&[0, 0, 5]),
            members: nodes > 1 && dice.chance(30),
            whole_size_max: dice.pick(&[200, 1 << 20]),
            config,
        }
    }

    /// How fast a node's clock goes, in thousandths.
    pub(super) fn rate(&self, dice: &mut Dice) -> u64 {
        if self.drifts { 1000 - DRIFT_MAX + dice.below(2 * DRIFT_MAX + 1) } else { 1000 }
    }
}

impl Faults {
    fn new(nodes: usize, dice: &mut Dice) -> Self {
        let mut some = |choices: &[u64]| dice.pick(choices);
        let alone = nodes == 1;
        Self {
            crash: some(&[0, 1_000, 3_000]),
            pause: some(&[0, 0, 2_000]),
            part: if alone { 0 } else { some(&[0, 1_500, 4_000]) },
            cut: some(&[0, 300, 2_000]),
            still: some(&[0, 0, 1_000]),
            flip: some(&[0, 0, 0, 2_000]),
            slow: some(&[0, 0, 3_000]),
            full: some(&[0, 0, 0, 5_000]),
            moves: if alone { 0 } else { some(&[0, 1_500, 4_000]) },
            duel: if nodes == 3 { some(&[0, 0, 0, 0, 0, 5]) } else { 0 },
        }
    }
}

/// Limits of a shard of a group.
fn config(dice: &mut Dice) -> Config {
    let mut config = crate::swarm::config(&mut Dice::new(1));
    config.wal.segment_size = dice.pick(&[64 << 10, 1 << 20]);
    config.wal.frame_size_max = dice.pick(&[16 << 10, 32 << 10]);
    config.wal.pending_size_max = 1 << 20;
    config.request_size_max = 4 << 10;
    (config.waiting_max, config.waiting_size_max) = (dice.pick(&[20, 5_000]), 1 << 20);
    config.lists = list::Limits::default();
    let seal_size = dice.pick(&[2_000, 20_000, 16 << 20]);
    let default = store::Config::default();
    config.store = store::Config {
        seal_size,
        tail_size_max: seal_size * 10,
        segment_size: dice.pick(&[8_000, 60_000]).max(seal_size),
        cache_size: dice.pick(&[2_000, 1 << 20]),
        ..default
    };
    config.seal_entries_max = dice.pick(&[50, 1 << 18]);
    config.catchup_entries = dice.pick(&[0, 20, 5_000]);
    config.snapshots.piece_size = dice.pick(&[4 << 10, 256 << 10]);
    config.snapshots.window = config.snapshots.piece_size * dice.pick(&[1, 4]);
    config.snapshots.rate = dice.pick(&[200, 32 << 10]);
    config.snapshots.patience = dice.pick(&[2_000, 30_000]);
    let mut raft = raft::Config::new(NodeId(1));
    raft.election_ticks = dice.pick(&[300, 1_000]);
    raft.heartbeat_ticks = raft.election_ticks / 10;
    raft.pre_vote = dice.chance(85);
    raft.append_size_max = dice.pick(&[1, 3_000, 1 << 20]);
    raft.cache_size_max = dice.pick(&[500, 32 << 20]);
    raft.leader_lease = dice.chance(15);
    raft.inflight_count_max = dice.pick(&[2, 256]);
    raft.stores_inflight_max = dice.index(3) + 1;
    config.request_timeout = 2_000 + 2 * raft.election_ticks;
    config.raft = raft;
    config.lease =
        lease::Config { ttl_min: 1, checkpoints: dice.chance(50), ..lease::Config::default() };
    config.strict_reconfig_check = dice.chance(70);
    config
}

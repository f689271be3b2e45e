//! What one seed is made of: limits, kinds of operations and kinds of faults, each on or off.

use crate::client::Manner;
use crate::dice::Dice;
use crate::model::{Compare, Keys, Leases, Op, Question, Txn, With};
use crate::watches::Wish;
use ringd::config::AutoCompaction;
use ringd::lease;
use ringd::raft;
use ringd::shard;
use ringd::shard::list;
use ringd::shard::request::Member;
use ringd::store;
use ringd::types::{ClusterId, NodeId, ShardId};
use ringd::wal;

const BLOCK: usize = 4096;
/// Bytes of a record in the log beside what it carries.
const RECORD_HEADER: usize = 24;
/// Bytes of an archived command beside its key and value, at most.
const COMMAND_OVERHEAD: usize = 64;

/// A lease that is granted again and again, never revoked, and outlives the run.
const LASTING: i64 = 1 << 40;

/// Who watches, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watching {
    /// How many follow some keys.
    pub(crate) count: usize,
    /// Some of their streams are not read for a while.
    pub(crate) stalls: bool,
    /// Bytes that may wait on a stream.
    pub(crate) backlog_max: usize,
    /// Bytes of a response from which it is cut, for whoever asked for that.
    pub(crate) fragment_size: usize,
    /// Milliseconds of silence before progress is told.
    pub(crate) notify_interval: u64,
}

/// The choices of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Swarm {
    pub(crate) config: shard::Config,
    /// Largest message that a session takes, in bytes.
    pub(crate) message_size_max: usize,
    pub(crate) connections: usize,
    pub(crate) manner: Manner,
    /// Calls that one client has open at most.
    pub(crate) pipelined: usize,
    /// Steps of the whole run.
    pub(crate) steps: u32,
    /// Of a hundred steps: completions of the disk; fewer make it slow.
    pub(crate) disk_speed: u64,
    /// Writes complete in any order.
    pub(crate) reorder: bool,
    /// The process or the power goes now and then.
    pub(crate) crashes: bool,
    /// A write, a sync or a change of files fails now and then, a full disk among them.
    pub(crate) failures: bool,
    /// Connections are cut.
    pub(crate) cuts: bool,
    /// Clients give up calls, and give some of them little time.
    pub(crate) impatience: bool,
    /// The node is asked to stop now and then, and started again.
    pub(crate) stops: bool,
    /// The driver makes the answers of some reads in later turns.
    pub(crate) postpones: bool,
    /// Bytes of an answer that is made in one go.
    pub(crate) whole_size_max: usize,
    /// Of a hundred calls: those that are about leases.
    pub(crate) leases: u64,
    pub(crate) watches: Watching,
    /// The process is stopped for minutes now and then.
    pub(crate) pauses: bool,
    /// It is started again with other limits.
    retunes: bool,
    /// Of a hundred crash points: those at which a bit is flipped besides.
    pub(crate) flips: u64,
    /// Milliseconds that pass at most in a tick.
    pub(crate) tick_max: u64,
    keys: u64,
    deletes: u64,
    ranges: u64,
    ignore_values: bool,
    /// Of a hundred calls: transactions, compactions, streams and hashes.
    txns: u64,
    compacts: u64,
    streams: u64,
    hashes: u64,
    /// Some of the hashes are asked for room instead.
    pub(crate) defragments: bool,
    /// Bytes that most values have at most.
    value_size: usize,
    /// Of a hundred values: those larger than that.
    large: u64,
    /// Of a hundred values: those that no server takes.
    oversized: u64,
}

impl Swarm {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let config = config(dice);
        let message_size_max = config.request_size_max + 1000;
        let large = dice.pick(&[0, 0, 10, 30]);
        let on = |dice: &mut Dice| dice.chance(60);
        Self {
            message_size_max,
            connections: dice.index(4) + 1,
            manner: Manner {
                window: dice.pick(&[1_100, 5_000, 65_535, 1 << 20]),
                pieces: on(dice),
                indexing: on(dice),
            },
            pipelined: dice.pick(&[1, 3, 8, 20]),
            steps: dice.pick(&[300, 800, 2_000]),
            disk_speed: dice.pick(&[4, 10, 25]),
            reorder: on(dice),
            crashes: dice.chance(75),
            failures: dice.chance(40),
            cuts: on(dice),
            impatience: dice.chance(40),
            stops: dice.chance(30),
            postpones: on(dice),
            whole_size_max: 1 << 20,
            leases: 0,
            watches: Watching::default(),
            pauses: false,
            retunes: dice.chance(50),
            flips: dice.pick(&[0, 10, 30]),
            tick_max: dice.pick(&[20, 200, 1_500]),
            keys: dice.pick(&[2, 5, 12]),
            deletes: dice.pick(&[0, 10, 25]),
            ranges: dice.pick(&[0, 20, 50]),
            ignore_values: on(dice),
            txns: dice.pick(&[0, 10, 40]),
            compacts: dice.pick(&[0, 5, 15]),
            streams: dice.pick(&[0, 5, 20]),
            hashes: dice.pick(&[0, 4]),
            defragments: false,
            value_size: dice.pick(&[20, 60, 300]),
            large,
            oversized: dice.pick(&[0, 0, 3]),
            config,
        }
    }

    /// Whether and how leases are used; of dice of their own, so that seeds without them stay.
    pub(crate) fn choose_leases(&mut self, dice: &mut Dice) {
        self.leases = dice.pick(&[0, 10, 30, 60]);
        self.pauses = self.leases > 0 && dice.chance(40);
        self.config.lease = lease::Config {
            ttl_min: dice.pick(&[1, 2]),
            checkpoints: dice.chance(50),
            count_max: dice.pick(&[3, 1_000, 1_000]),
        };
        self.config.seal_entries_max = dice.pick(&[20, 200, 1 << 18]);
        self.config.catchup_entries = dice.pick(&[0, 10, 5_000]);
    }

    /// Whether and how anybody watches; of dice of their own, so that seeds without them stay.
    pub(crate) fn choose_watches(&mut self, dice: &mut Dice) {
        self.watches = Watching {
            count: dice.pick(&[0, 0, 2, 6, 15]),
            stalls: dice.chance(60),
            backlog_max: dice.pick(&[0, 300, 3_000, 64 << 10]),
            notify_interval: dice.pick(&[300, 5_000]),
            fragment_size: dice.pick(&[200, 1_000, self.message_size_max]),
        };
    }

    /// What somebody follows from now on, and from which revision.
    pub(crate) fn wish(&self, revision: i64, dice: &mut Dice) -> (Wish, i64) {
        let filter = dice.below(6);
        let wish = Wish {
            keys: if dice.chance(40) { Keys::all() } else { self.watched_keys(dice) },
            prev_kv: dice.chance(40),
            puts: filter != 0,
            deletes: filter != 1,
            fragment: dice.chance(40),
            notify: dice.chance(40),
        };
        let start = match dice.below(6) {
            0 | 1 => 0,
            2 => revision + 1 + small(5, dice),
            3 => small(u64::try_from(revision).unwrap_or(1) + 1, dice) + 1,
            _ => (revision + 1 - small(12, dice)).max(1),
        };
        (wish, start)
    }

    /// Keys of which there may be some.
    fn watched_keys(&self, dice: &mut Dice) -> Keys {
        let keys = self.some_keys(dice);
        let is_empty = !matches!(&keys.end[..], [] | [0]) && keys.end <= keys.key;
        if is_empty { Keys::one(&keys.key) } else { keys }
    }

    /// A call about leases, of which these are there; `fresh` is an id that none ever had. No id is
    /// given again: what is proposed to end a lease would be taken for the end of another.
    pub(crate) fn lease_op(&self, leases: &Leases, fresh: i64, dice: &mut Dice) -> Op {
        let known: Vec<i64> = leases.keys().copied().collect();
        let other: Vec<i64> = known.iter().copied().filter(|id| *id != LASTING).collect();
        let some = |dice: &mut Dice| {
            let is_unknown = known.is_empty() || dice.chance(8);
            if is_unknown { i64::MIN } else { dice.pick(&known) }
        };
        let put = |lease: i64, ignore_lease: bool, dice: &mut Dice| Op::Put {
            key: self.key(dice),
            value: self.value(dice),
            prev_kv: dice.chance(30),
            ignore_value: false,
            lease,
            ignore_lease,
        };
        match dice.below(12) {
            0..=2 => Op::Grant { id: fresh, ttl: dice.pick(&[-1, 1, 2, 5, 20, 400]) },
            3 => Op::Grant { id: LASTING, ttl: 100_000 },
            4 => Op::Revoke { id: if other.is_empty() { fresh } else { dice.pick(&other) } },
            5 => Op::TimeToLive { id: some(dice), keys: dice.chance(70) },
            6 => put(0, true, dice),
            7 => {
                let keys = Keys::one(&self.key(dice));
                let compare = Compare { keys, sign: 0, with: With::Lease(some(dice)) };
                let success = vec![put(some(dice), false, dice)];
                Op::Txn(Txn { compares: vec![compare], success, failure: vec![put(0, true, dice)] })
            }
            _ => put(some(dice), false, dice),
        }
    }

    /// Other limits for the log, as a changed flag would give; what clients may ask stays.
    pub(crate) fn retune(&mut self, dice: &mut Dice) {
        if !self.retunes {
            return;
        }
        let before = self.config.wal;
        let mut wal = limits(dice);
        if wal.record_size_max() < self.config.request_size_max + RECORD_HEADER {
            wal.frame_size_max = before.frame_size_max;
            wal.segment_size = before.segment_size;
        }
        self.config.wal = wal;
        self.config.store = store_limits(dice);
    }

    /// How many milliseconds a client gives its next call.
    pub(crate) fn deadline(&self, dice: &mut Dice) -> Option<u64> {
        (self.impatience && dice.chance(20)).then(|| dice.below(2_000) + 1)
    }

    /// What a client asks next; `revision` is the last it could know of.
    pub(crate) fn op(&self, revision: i64, dice: &mut Dice) -> Op {
        if dice.chance(self.compacts) {
            let revision = revision + 1 - small(dice.pick(&[3, 10, 40]), dice);
            return Op::Compact { revision, physical: dice.chance(30) };
        }
        if dice.chance(self.hashes) {
            let revision = self.moment(revision, dice);
            let is_other = self.defragments && revision % 2 == 1;
            return if is_other { Op::Defragment } else { Op::HashKv { revision } };
        }
        if dice.chance(self.streams) {
            let question = self.question(revision, dice);
            return Op::Stream(Question { descending: false, modified_min: 0, ..question });
        }
        if dice.chance(self.txns) {
            let txn = self.txn(revision, 2, dice);
            let (mut puts, mut deletes) = (Vec::new(), Vec::new());
            txn.changes(&mut puts, &mut deletes);
            puts.sort_unstable();
            let is_twice = puts.windows(2).any(|pair| pair[0] == pair[1]);
            let is_deleted = puts.iter().any(|put| deletes.iter().any(|keys| keys.contains(put)));
            if !is_twice && !is_deleted {
                return Op::Txn(txn);
            }
        }
        self.plain(revision, dice)
    }

    /// One operation, as it may stand in a transaction too.
    fn plain(&self, revision: i64, dice: &mut Dice) -> Op {
        if dice.chance(self.ranges) {
            return Op::Range(self.question(revision, dice));
        }
        if dice.chance(self.deletes) {
            return Op::Delete { keys: self.some_keys(dice), prev_kv: dice.chance(50) };
        }
        let ignore_value = self.ignore_values && dice.chance(15);
        let value = if ignore_value { Vec::new() } else { self.value(dice) };
        let (key, prev_kv) = (self.key(dice), dice.chance(30));
        Op::Put { key, value, prev_kv, ignore_value, lease: 0, ignore_lease: false }
    }

    /// A transaction with others in it, so deep.
    fn txn(&self, revision: i64, depth: usize, dice: &mut Dice) -> Txn {
        let ops = |dice: &mut Dice| {
            let op = |dice: &mut Dice| match dice.below(5) {
                0 if depth > 0 => Op::Txn(self.txn(revision, depth - 1, dice)),
                1 => Op::Range(self.question(revision, dice)),
                _ => self.plain(revision, dice),
            };
            (0..dice.index(4)).map(|_| op(dice)).collect()
        };
        Txn {
            compares: (0..dice.index(3)).map(|_| self.compare(revision, dice)).collect(),
            success: ops(dice),
            failure: ops(dice),
        }
    }

    fn compare(&self, revision: i64, dice: &mut Dice) -> Compare {
        let with = match dice.below(4) {
            0 => With::Version(small(4, dice)),
            1 => With::Created(self.moment(revision, dice)),
            2 => With::Modified(self.moment(revision, dice)),
            _ => With::Value(self.value(dice)),
        };
        let sign = i32::try_from(dice.below(4)).expect("small");
        Compare { keys: self.some_keys(dice), sign, with }
    }

    /// A revision, old or just beyond the last, or 0.
    fn moment(&self, revision: i64, dice: &mut Dice) -> i64 {
        match dice.below(5) {
            0 | 1 => 0,
            2 => small(u64::try_from(revision).unwrap_or(1) + 2, dice),
            _ => (revision + 1 - small(12, dice)).max(0),
        }
    }

    fn question(&self, revision: i64, dice: &mut Dice) -> Question {
        Question {
            keys: self.some_keys(dice),
            revision: self.moment(revision, dice),
            limit: if dice.chance(20) { small(4, dice) } else { 0 },
            serializable: dice.chance(30),
            keys_only: dice.chance(10),
            count_only: dice.chance(10),
            descending: dice.chance(15),
            modified_min: if dice.chance(10) { self.moment(revision, dice) } else { 0 },
        }
    }

    fn some_keys(&self, dice: &mut Dice) -> Keys {
        match dice.below(10) {
            0 => Keys::all(),
            1 | 2 => Keys { key: self.key(dice), end: self.key(dice) },
            3 => Keys { key: self.key(dice), end: vec![0] },
            _ => Keys::one(&self.key(dice)),
        }
    }

    fn key(&self, dice: &mut Dice) -> Vec<u8> {
        format!("key{}", dice.below(self.keys)).into_bytes()
    }

    fn value(&self, dice: &mut Dice) -> Vec<u8> {
        let most = self.config.request_size_max - COMMAND_OVERHEAD - 8;
        let size = if dice.chance(self.oversized) {
            dice.pick(&[most + 200, self.message_size_max + 1])
        } else if dice.chance(self.large) {
            let limit = dice.pick(&[4_100, most]).min(most);
            dice.index(limit)
        } else {
            dice.index(self.value_size)
        };
        let mark = dice.next().to_le_bytes();
        mark.iter().copied().cycle().take(size).collect()
    }
}

/// A number below `end`.
fn small(end: u64, dice: &mut Dice) -> i64 {
    i64::try_from(dice.below(end)).expect("small")
}

/// Limits of a log, small enough for every boundary to be met.
fn limits(dice: &mut Dice) -> wal::Config {
    let frame_blocks = dice.index(3) + 2;
    let segment_blocks = frame_blocks + dice.pick(&[1, 2, 4, 9, 16]);
    let spares_target = dice.index(3);
    wal::Config {
        segment_size: u64::try_from(segment_blocks * BLOCK).expect("small"),
        frame_size_max: frame_blocks * BLOCK,
        membership_size_max: 64,
        writes_in_flight_max: u32::try_from(dice.index(4) + 1).expect("small"),
        spares_target,
        spares_max: spares_target + dice.index(2),
        pending_size_max: dice.pick(&[12_000, 64 << 10]),
        read_size: dice.pick(&[BLOCK, 4 * BLOCK, 16 * BLOCK]),
    }
}

/// Limits of a store, as small.
fn store_limits(dice: &mut Dice) -> store::Config {
    let seal_size = dice.pick(&[150, 400, 1_500, 30_000]);
    let mut config = store::Config {
        block_size: dice.pick(&[64, 300, 2_000]),
        seal_size,
        tail_size_max: seal_size * dice.pick(&[3, 30]),
        segment_size: dice.pick(&[1_000, 8_000, 60_000]),
        cache_size: dice.pick(&[0, 0, 2_000, 50_000]),
        reads_max: dice.pick(&[1, 3, 128]),
        write_size: dice.pick(&[4096, 65_536]),
        seal_rate: 1,
        clean_rate: dice.pick(&[1_000, 1_000_000]),
        clean_read_size: dice.pick(&[4096, 65_536]),
        read_size: dice.pick(&[4096, 65_536]),
    };
    config.seal_rate = config.clean_rate;
    config
}

/// Limits of a shard.
pub(crate) fn config(dice: &mut Dice) -> shard::Config {
    let wal = limits(dice);
    let member = NodeId(0x51);
    let mut raft = raft::Config::new(member);
    raft.stores_inflight_max = dice.index(4) + 1;
    raft.append_size_max = dice.pick(&[3_000, 1 << 20]);
    let whole = wal.record_size_max() - RECORD_HEADER;
    shard::Config {
        id: ShardId(u32::try_from(dice.index(3)).expect("small")),
        cluster: ClusterId(0xc1),
        members: vec![Member {
            id: member,
            name: "sim".to_owned(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            learner: false,
        }],
        name: "sim".to_owned(),
        client_urls: Vec::new(),
        joins: false,
        founders: Vec::new(),
        learner_auto_promote: false,
        election_tick_advance: true,
        leader_turn: None,
        strict_reconfig_check: true,
        learners_max: 1,
        raft,
        wal,
        store: store_limits(dice),
        request_size_max: dice.pick(&[whole, whole, 5_000]).min(whole),
        encoding_size_max: 0,
        waiting_max: dice.pick(&[4, 5_000, 5_000]),
        waiting_size_max: dice.pick(&[2_000, 1 << 20, 1 << 20]),
        lists: list::Limits::default(),
        request_timeout: 7_000,
        mark_after: dice.pick(&[100, 1_000]),
        auto_compaction: AutoCompaction::Off,
        quota_bytes: -1,
        lease: lease::Config::default(),
        seal_entries_max: 1 << 18,
        catchup_entries: 0,
        snapshots: shard::snapshot::Limits::default(),
    }
}

//! Everything about a node that somebody may choose, and every limit that is not one module's own.
//!
//! The command line, the environment and a configuration file are etcd's: names, syntax, defaults,
//! precedence and messages. They come in as text and go out as one [`Config`] or as one
//! [`ConfigError`]; nothing here reads a file, a variable or a clock. A flag of etcd's that ringd
//! does not have yet is refused unless it is given its default; one that steers machinery that
//! ringd has no counterpart of is accepted, and said to have no effect.
//!
//! What the limits of one client connection, one log or one Raft group are by default stands with
//! those modules; here stands what a user may set of them.

mod bootstrap;
mod compaction;
mod error;
mod features;
mod file;
mod flags;
mod help;
pub mod identity;
mod parse;
mod roll;
mod rules;
mod url;
mod value;

pub use bootstrap::{Bootstrap, InitialMember};
pub use bootstrap::{MEMBER_TEXT_SIZE_MAX, MEMBER_URLS_MAX, MEMBERS_MAX};
pub use compaction::AutoCompaction;
pub use error::{ConfigError, Source};
pub use features::Features;
pub use help::{help, usage, version};
pub use identity::member_id;
pub use parse::{Command, Notice, Start, parse};
pub use roll::{Listed, Roll};
pub use url::{Scheme, Url};
pub use value::ValueError;

use crate::types::ShardId;
use std::path::PathBuf;
use std::time::Duration;

/// The etcd release whose behaviour ringd has; told wherever the protocol asks for a version.
pub const ETCD_VERSION: &str = "3.7.3";

/// The version that a cluster of such members agrees on.
pub const CLUSTER_VERSION: &str = "3.7.0";

/// Our own version, told beside [`ETCD_VERSION`].
pub const RINGD_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes that a request may have beyond `--max-request-bytes`, as etcd grants them.
pub const REQUEST_OVERHEAD_BYTES: u64 = 512 * 1024;

/// etcd's default of `--snapshot-count`.
pub const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;

/// Most shards of one node: far above the cores of one machine; each costs memory and a directory.
pub const SHARDS_MAX: u32 = 256;

/// Bytes of the backend when `--quota-backend-bytes` is 0, as in etcd.
pub const QUOTA_DEFAULT_BYTES: i64 = 2 << 30;

/// A node as it was asked for, every rule checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The member's name (`--name`).
    pub name: String,
    /// Where everything durable lies (`--data-dir`; by default `<name>.etcd`, as etcd's).
    pub data_dir: PathBuf,
    /// Where the logs lie, if elsewhere (`--wal-dir`).
    pub wal_dir: Option<PathBuf>,
    /// Where peers may reach this node (`--listen-peer-urls`).
    pub listen_peer_urls: Vec<Url>,
    /// What peers are told to use (`--initial-advertise-peer-urls`).
    pub advertise_peer_urls: Vec<Url>,
    /// Each keyspace's own addresses, by [`ShardId`]; at least one.
    pub shards: Vec<ShardConfig>,
    /// What fixes bytes on disk.
    pub format: Format,
    /// How the cluster first comes to be.
    pub cluster: Cluster,
    /// How a group of nodes agrees.
    pub raft: Raft,
    /// How much of the revision store is where.
    pub store: Store,
    /// What history is forgotten by itself.
    pub auto_compaction: AutoCompaction,
    /// What is on trial in etcd, and on.
    pub features: Features,
    /// What clients may ask for.
    pub limits: Limits,
    /// How connections are kept and dropped.
    pub connections: Connections,
    /// How the machine is used.
    pub machine: Machine,
    /// What is logged, and where to.
    pub log: Log,
}

/// The addresses of one keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardConfig {
    /// Where its clients may reach it; sorted, at least one.
    pub listen_client_urls: Vec<Url>,
    /// What its clients are told to use; sorted.
    pub advertise_client_urls: Vec<Url>,
}

/// What fixes bytes on disk: it holds for a log when that is made, and is ignored afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Size of a log segment in bytes, a multiple of 4096 (`--wal-segment-bytes`).
    ///
    /// Default 64 MiB: changing segments is rare, and a spare one is made in a moment.
    pub wal_segment_bytes: u64,
}

/// How the cluster first comes to be; of no effect once the data directory has a member, but for
/// the last field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `--initial-cluster` as given; [`Config::bootstrap`] reads it.
    pub initial: String,
    /// Whether the cluster is new or has members already (`--initial-cluster-state`).
    pub state: ClusterState,
    /// What sets apart clusters of the same URLs (`--initial-cluster-token`).
    pub token: String,
    /// Go on alone with the data that is here, all other members dropped
    /// (`--force-new-cluster`).
    pub force_new: bool,
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// The members of `--initial-cluster` found it.
    New,
    /// It runs, and this node was added to it.
    Existing,
}

/// How a group of nodes agrees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Milliseconds between a leader's heartbeats (`--heartbeat-interval`). Default 100.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds without a leader before a node stands (`--election-timeout`). Default 1000.
    pub election_timeout_ms: u64,
    /// Ask whether an election could be won before standing (`--pre-vote`).
    pub pre_vote: bool,
    /// Let the first election come sooner after a start (`--initial-election-tick-advance`).
    pub election_tick_advance: bool,
    /// Refuse a membership change that would cost the quorum (`--strict-reconfig-check`).
    pub strict_reconfig_check: bool,
    /// Applied entries after which what they amount to is sealed, and the log may go
    /// (`--snapshot-count`). At etcd's default of 10,000 that is judged by size, as here it costs a
    /// few syncs each time and not, as in etcd, nothing.
    pub snapshot_count: u64,
    /// Entries kept for followers behind a snapshot (`--snapshot-catchup-entries`). Default 5,000.
    pub snapshot_catchup_entries: u64,
    /// Learners that a cluster may have (`--max-learners`). Default 1.
    pub learners_max: u32,
    /// Make a learner that has caught up a voter unasked (`--learner-auto-promote`). Default off:
    /// in etcd it is for the operator to say.
    pub learner_auto_promote: bool,
    /// Log writes issued and not yet durable, 1 to 16 (`--wal-writes-in-flight`).
    ///
    /// Default 2: two halve the wait under load, more help only deep queues of large values.
    pub wal_writes_in_flight_max: u32,
}

/// How much of the revision store is where; may be another at each start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// Bytes of values kept in memory of what the store's files hold, over all shards
    /// (`--cache-bytes`). Default 256 MiB.
    ///
    /// Beside it each shard keeps what is too new to be in a file, some tens of MiB.
    pub cache_bytes: u64,
    /// Bytes of records at which a file of the store ends (`--store-segment-bytes`). Default
    /// 64 MiB: few files, and a small part of the whole to rewrite at once.
    pub segment_bytes: u64,
}

/// What clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest request that enters the log (`--max-request-bytes`). Default 1.5 MiB.
    ///
    /// A received message may be [`REQUEST_OVERHEAD_BYTES`] larger.
    pub request_bytes_max: u64,
    /// Operations in one transaction (`--max-txn-ops`). Default 128.
    pub txn_ops_max: u64,
    /// Requests that one connection may have open (`--max-concurrent-streams`). Default 2^32-1.
    pub streams_max: u32,
    /// Bytes of keys and values before a shard takes no more (`--quota-backend-bytes`); below 0 is
    /// no limit, told as it was given. Default 2 GiB.
    pub quota_bytes: i64,
    /// Client connections of one core. Default 10,000: etcd's practical ceiling, some 100 MiB of
    /// buffers. One more is closed at once.
    pub connections_max: u32,
    /// Requests of one shard that wait to be committed and applied. Default 65,536: half a second
    /// of work. One more is answered `etcdserver: too many requests`.
    pub requests_waiting_max: u32,
    /// Bytes of the same. Default 256 MiB: above the log's own 64 MiB of proposals, with room for
    /// answers.
    pub requests_waiting_bytes_max: u64,
    /// Messages on their way from one core to another. Default 65,536; one more waits with its
    /// connection, from which nothing is read meanwhile.
    pub mesh_messages_max: u32,
}

/// How connections are kept and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connections {
    /// Least time between a client's pings (`--grpc-keepalive-min-time`). Default 5 s.
    pub keepalive_min_time: Duration,
    /// Silence before we ping a client (`--grpc-keepalive-interval`); 0 is never. Default 2 h.
    pub keepalive_interval: Duration,
    /// Wait for the answer to our ping (`--grpc-keepalive-timeout`). Default 20 s.
    pub keepalive_timeout: Duration,
    /// Silence before a watcher that asked for it is told how far all is
    /// (`--watch-progress-notify-interval`). Default 10 min; at least 100 ms, as in etcd.
    pub watch_notify_interval: Duration,
    /// Set `SO_REUSEPORT` on what listens (`--socket-reuse-port`).
    pub reuse_port: bool,
    /// Set `SO_REUSEADDR` on what listens (`--socket-reuse-address`).
    pub reuse_address: bool,
    /// Serve the empty call that measures the front end alone (`--bench-method`).
    pub bench_method: bool,
}

/// How the machine is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs to pin to (`--cores`). Default: all that the process may use.
    pub cores: Cores,
    /// Pin each core to its CPU (`--pin`). Default true. Where several servers share a machine
    /// they would all pin their first shard to the same one.
    pub pin: bool,
    /// Microseconds that an idle core looks for work before it sleeps (`--spin-us`), at most
    /// 1,000,000. Default 0: a CPU that spins is one that nobody else has.
    pub spin_us: u32,
}

/// `--cores`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// All that the process may use.
    All,
    /// The first so many of them.
    Count(usize),
    /// Exactly these, sorted, each once.
    List(Vec<usize>),
}

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// The least that is worth a line (`--log-level`).
    pub level: LogLevel,
    /// How a line is written (`--log-format`).
    pub format: LogFormat,
    /// Where lines go (`--log-outputs`); at least one.
    pub outputs: Vec<LogOutput>,
    /// A slower call is worth a line (`--warning-unary-request-duration`). Default 300 ms.
    pub slow_request: Duration,
    /// An apply slower than this is (`--warning-apply-duration`). Default 100 ms.
    pub slow_apply: Duration,
}

/// `--log-level`, in order of weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What a quiet day looks like.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
    /// What failed and should not have been possible.
    Panic,
    /// What ended the process.
    Fatal,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// An object per line.
    Json,
    /// Columns, for people.
    Console,
}

/// One of `--log-outputs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    /// The standard error.
    Stderr,
    /// The standard output.
    Stdout,
    /// The end of this file.
    File(PathBuf),
}

impl Config {
    /// The directory of one shard's state.
    #[must_use]
    pub fn shard_dir(&self, shard: ShardId) -> PathBuf {
        self.data_dir.join(format!("shard-{shard}"))
    }

    /// The directory of one shard's log.
    #[must_use]
    pub fn shard_wal_dir(&self, shard: ShardId) -> PathBuf {
        match &self.wal_dir {
            Some(dir) => dir.join(format!("shard-{shard}")),
            None => self.shard_dir(shard).join("wal"),
        }
    }

    /// The directory of one shard's revision store.
    #[must_use]
    pub fn shard_store_dir(&self, shard: ShardId) -> PathBuf {
        self.shard_dir(shard).join("store")
    }

    /// Each shard with its addresses.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardConfig)> {
        (0..).map(ShardId).zip(&self.shards)
    }
}

#[cfg(test)]
mod tests;

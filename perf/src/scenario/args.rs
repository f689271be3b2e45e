//! The flags of scenarios about watches and leases.

use std::path::PathBuf;

use clap::Args;

use crate::scenario::bytes;

/// Sizes of watches and leases.
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchArgs {
    /// Watchers of one key in fanout; ten times as many have a key each
    #[arg(long, default_value_t = 1000)]
    pub(crate) watchers: u64,
    /// Connections that they share
    #[arg(long, default_value_t = 10)]
    pub(crate) watch_connections: usize,
    /// Puts due per second of the one key
    #[arg(long, default_value_t = 50.0)]
    pub(crate) fanout_rate: f64,
    /// Puts of the one key that may be owed to watchers in the closed loop
    #[arg(long, default_value_t = 8)]
    pub(crate) owed_puts: u64,
    /// Bytes in a value of stalled
    #[arg(long, default_value = "2KiB", value_parser = bytes)]
    pub(crate) stalled_value: u64,
    /// Leases in keepalive
    #[arg(long, default_value_t = 10_000)]
    pub(crate) kept_leases: u64,
    /// Keep-alives that etcd's `benchmark` makes
    #[arg(long, default_value_t = 50_000)]
    pub(crate) benchmark_total: u64,
    /// etcd's `benchmark` program
    #[arg(long, default_value = "target/peers/bin/benchmark")]
    pub(crate) benchmark: PathBuf,
    /// Leases in leases-expire
    #[arg(long, default_value_t = 100_000)]
    pub(crate) leases: u64,
    /// Connections in watch-memory
    #[arg(long, default_value_t = 2000)]
    pub(crate) idle_connections: u64,
    /// Streams in watch-memory
    #[arg(long, default_value_t = 10_000)]
    pub(crate) idle_streams: u64,
    /// Watchers with a key each in watch-memory; as many of one key follow
    #[arg(long, default_value_t = 100_000)]
    pub(crate) idle_watchers: u64,
}

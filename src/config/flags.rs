//! Every flag we know: ours, etcd's that we have, and etcd's that we do not.

use crate::config::features;
use crate::config::parse::{Draft, Notice};
use crate::config::url::{named_urls, urls};
use crate::config::value::{ValueError, boolean, duration, integer, list, unsigned};
use crate::config::{ClusterState, Cores, LogOutput};
use Kind::{Boolean, Duration, Integer, Text, Unsigned};
use std::path::PathBuf;

/// What the text of a flag's value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false; the flag alone is true.
    Boolean,
    /// A number that may be negative.
    Integer,
    /// A number that may not.
    Unsigned,
    /// A duration; in a file, a number of nanoseconds.
    Duration,
    /// Any text.
    Text,
}

/// What becomes of a flag.
#[derive(Clone, Copy)]
pub(super) enum Fate {
    /// It sets something.
    Set(fn(&mut Draft, &str) -> Result<(), ValueError>),
    /// It sets something that nothing heeds yet.
    Early(fn(&mut Draft, &str) -> Result<(), ValueError>),
    /// It steers machinery of etcd's that ringd has no counterpart of.
    Inert,
    /// It asks for what ringd does not do yet; only its default is taken.
    NotYet,
}

/// One flag.
pub(super) struct Flag {
    /// Its name, without dashes.
    pub(super) name: &'static str,
    /// What its value must be.
    pub(super) kind: Kind,
    /// Its default as etcd's help prints it.
    pub(super) default: &'static str,
    /// What it does, in a line; none if there is nothing to choose.
    pub(super) help: &'static str,
    /// What becomes of it.
    pub(super) fate: Fate,
}

/// The headings of the help and the flags under each.
pub(super) const SECTIONS: [(&str, &[Flag]); 6] = [
    ("Member", MEMBER),
    ("Clustering", CLUSTERING),
    ("Limits", LIMITS),
    ("Logging", LOGGING),
    ("ringd", OURS),
    ("", OTHERS),
];

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// Every flag.
pub(super) fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

/// The known name that `name` was probably meant to be.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    // etcd 3.7 dropped the prefix that flags on trial used to have.
    let name = name.strip_prefix("experimental-").unwrap_or(name);
    let near = all().map(|flag| (strsim::damerau_levenshtein(name, flag.name), flag.name)).min()?;
    (near.0 <= (name.len() / 3).max(2)).then_some(near.1)
}

/// Whether `text` is the flag's default in other words.
pub(super) fn is_default(flag: &Flag, text: &str) -> bool {
    match flag.kind {
        Boolean => boolean(text) == boolean(flag.default),
        Integer | Unsigned => integer::<i64>(text) == integer(flag.default),
        Duration => duration(text) == duration(flag.default),
        Text => text == flag.default,
    }
}

/// Whether `text` is of this kind.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(kind: Kind, text: &str) -> Result<(), ValueError> {
    match kind {
        Boolean => boolean(text).map(|_| ()),
        Integer => integer::<i64>(text).map(|_| ()),
        Unsigned => unsigned::<u64>(text).map(|_| ()),
        Duration => duration(text).map(|_| ()),
        Text => Ok(()),
    }
}

/// A flag that sets something.
const fn set(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    apply: fn(&mut Draft, &str) -> Result<(), ValueError>,
) -> Flag {
    Flag { name, kind, default, help, fate: Fate::Set(apply) }
}

/// A flag that sets something that nothing heeds yet.
const fn early(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
    apply: fn(&mut Draft, &str) -> Result<(), ValueError>,
) -> Flag {
    Flag { name, kind, default, help, fate: Fate::Early(apply) }
}

/// A flag that changes nothing.
const fn inert(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, help: "", fate: Fate::Inert }
}

/// A flag of what is to come.
const fn later(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag { name, kind, default, help: "", fate: Fate::NotYet }
}

/// Puts a value where it belongs.
fn put<T>(place: &mut T, value: Result<T, ValueError>) -> Result<(), ValueError> {
    *place = value?;
    Ok(())
}

/// A number within `u32`, in the words of etcd's own flag type.
fn streams(text: &str) -> Result<u32, ValueError> {
    let words = |why: &str| ValueError::Rule(format!("strconv.ParseUint: parsing {text:?}: {why}"));
    unsigned(text).map_err(|error| match error {
        ValueError::Range => words("value out of range"),
        ValueError::Syntax | ValueError::Choice | ValueError::Rule(_) => words("invalid syntax"),
    })
}

/// New or existing.
fn cluster_state(text: &str) -> Result<ClusterState, ValueError> {
    match text {
        "new" => Ok(ClusterState::New),
        "existing" => Ok(ClusterState::Existing),
        _ => Err(ValueError::Choice),
    }
}

/// A flag of an earlier etcd that stands for a feature gate.
fn former(
    draft: &mut Draft,
    flag: &'static str,
    gate: &'static str,
    text: &str,
) -> Result<(), ValueError> {
    draft.gates.set(gate, boolean(text)?);
    draft.notices.push(Notice::Former { flag, instead: "--feature-gates" });
    Ok(())
}

/// A count of CPUs, or a list of them like `0-3,5`.
fn cores(text: &str) -> Result<Cores, ValueError> {
    let wrong = || ValueError::Rule("want a count, or a list of CPUs like 0-3,5".to_owned());
    if text.is_empty() || text == "all" {
        return Ok(Cores::All);
    }
    if let Ok(count) = unsigned::<usize>(text) {
        return if count == 0 { Err(wrong()) } else { Ok(Cores::Count(count)) };
    }
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let parse = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu < CPUS_MAX);
        let (Some(first), Some(last)) = (parse(first), parse(last)) else { return Err(wrong()) };
        if first > last {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(Cores::List(cpus))
}

/// CPUs have numbers below this, as in Linux at its largest.
const CPUS_MAX: usize = 8192;

/// Where lines go.
fn log_outputs(text: &str) -> Vec<LogOutput> {
    list(text)
        .map(|item| match item {
            "default" | "stderr" | "systemd/journal" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            path => LogOutput::File(PathBuf::from(path)),
        })
        .collect()
}

const MEMBER: &[Flag] = &[
    set("name", Text, "default", "Human-readable name of this member.", |d, v| {
        put(&mut d.config.name, Ok(v.to_owned()))
    }),
    set("data-dir", Text, "${name}.etcd", "Where everything durable lies.", |d, v| {
        put(&mut d.config.data_dir, Ok(v.into()))
    }),
    set("wal-dir", Text, "", "Where the write-ahead logs lie, if elsewhere.", |d, v| {
        put(&mut d.config.wal_dir, Ok((!v.is_empty()).then(|| v.into())))
    }),
    set(
        "listen-client-urls",
        Text,
        "http://localhost:2379",
        "URLs to serve clients on (gRPC and HTTP).",
        |d, v| put(&mut d.listen_client, urls(v)),
    ),
    set(
        "advertise-client-urls",
        Text,
        "http://localhost:2379",
        "URLs that clients are told to use.",
        |d, v| put(&mut d.advertise_client, urls(v)),
    ),
    set(
        "listen-peer-urls",
        Text,
        "http://localhost:2380",
        "URLs to serve other members on.",
        |d, v| put(&mut d.config.listen_peer_urls, urls(v)),
    ),
    set(
        "heartbeat-interval",
        Unsigned,
        "100",
        "Milliseconds between a leader's heartbeats.",
        |d, v| put(&mut d.config.raft.heartbeat_interval_ms, unsigned(v)),
    ),
    set(
        "election-timeout",
        Unsigned,
        "1000",
        "Milliseconds without a leader before an election.",
        |d, v| put(&mut d.config.raft.election_timeout_ms, unsigned(v)),
    ),
    set(
        "snapshot-count",
        Unsigned,
        "10000",
        "Entries after which the log may go; by size, unless it is set.",
        |d, v| put(&mut d.config.raft.snapshot_count, unsigned(v)),
    ),
    set(
        "snapshot-catchup-entries",
        Unsigned,
        "5000",
        "Entries kept for followers behind a snapshot.",
        |d, v| put(&mut d.config.raft.snapshot_catchup_entries, unsigned(v)),
    ),
    set("max-learners", Integer, "1", "Learners that a cluster may have.", |d, v| {
        put(&mut d.learners_max, integer(v))
    }),
    set("socket-reuse-port", Boolean, "false", "Listen with SO_REUSEPORT.", |d, v| {
        put(&mut d.config.connections.reuse_port, boolean(v))
    }),
    set("socket-reuse-address", Boolean, "false", "Listen with SO_REUSEADDR.", |d, v| {
        put(&mut d.config.connections.reuse_address, boolean(v))
    }),
];

const CLUSTERING: &[Flag] = &[
    set(
        "initial-advertise-peer-urls",
        Text,
        "http://localhost:2380",
        "URLs that other members are told to use.",
        |d, v| put(&mut d.config.advertise_peer_urls, urls(v)),
    ),
    set(
        "initial-cluster",
        Text,
        "default=http://localhost:2380",
        "The first members as name=URL, comma-separated.",
        |d, v| put(&mut d.config.cluster.initial, Ok(v.to_owned())),
    ),
    set(
        "initial-cluster-state",
        Text,
        "new",
        "'new' to found a cluster, 'existing' to join one.",
        |d, v| put(&mut d.config.cluster.state, cluster_state(v)),
    ),
    set(
        "initial-cluster-token",
        Text,
        "etcd-cluster",
        "Sets apart clusters that would have the same ids.",
        |d, v| put(&mut d.config.cluster.token, Ok(v.to_owned())),
    ),
    set(
        "auto-compaction-mode",
        Text,
        "periodic",
        "What the retention is: 'periodic', a time, or 'revision', how many revisions.",
        |d, v| put(&mut d.compaction_mode, Ok(v.to_owned())),
    ),
    set(
        "auto-compaction-retention",
        Text,
        "0",
        "What history is kept when it is forgotten by itself; a bare number is hours; 0 is all.",
        |d, v| put(&mut d.compaction_retention, Ok(v.to_owned())),
    ),
    set("pre-vote", Boolean, "true", "Ask before standing for election.", |d, v| {
        put(&mut d.config.raft.pre_vote, boolean(v))
    }),
    set(
        "initial-election-tick-advance",
        Boolean,
        "true",
        "Let the first election come sooner after a start.",
        |d, v| put(&mut d.config.raft.election_tick_advance, boolean(v)),
    ),
    set(
        "force-new-cluster",
        Boolean,
        "false",
        "Drop all other members and go on alone with the data that is here.",
        |d, v| put(&mut d.config.cluster.force_new, boolean(v)),
    ),
    set(
        "strict-reconfig-check",
        Boolean,
        "true",
        "Refuse membership changes that would cost the quorum.",
        |d, v| put(&mut d.config.raft.strict_reconfig_check, boolean(v)),
    ),
];

const LIMITS: &[Flag] = &[
    set(
        "feature-gates",
        Text,
        "",
        "What is on trial, as Name=true,Other=false; LeaseCheckpoint is there.",
        |d, v| d.gates.take(v),
    ),
    set(
        "max-request-bytes",
        Unsigned,
        "1572864",
        "Bytes of the largest request that a client may send.",
        |d, v| put(&mut d.config.limits.request_bytes_max, unsigned(v)),
    ),
    set(
        "max-concurrent-streams",
        Unsigned,
        "4294967295",
        "Requests that one connection may have open.",
        |d, v| put(&mut d.config.limits.streams_max, streams(v)),
    ),
    set("max-txn-ops", Unsigned, "128", "Operations in one transaction.", |d, v| {
        put(&mut d.config.limits.txn_ops_max, unsigned(v))
    }),
    set(
        "quota-backend-bytes",
        Integer,
        "0",
        "Bytes of data before writes are refused (0: 2 GiB, below 0: no limit).",
        |d, v| put(&mut d.quota_bytes, integer(v)),
    ),
    set(
        "watch-progress-notify-interval",
        Duration,
        "10m",
        "Silence before a watcher that asked for it is told how far all is.",
        |d, v| put(&mut d.config.connections.watch_notify_interval, duration(v)),
    ),
    set(
        "grpc-keepalive-min-time",
        Duration,
        "5s",
        "Least time between a client's pings.",
        |d, v| put(&mut d.config.connections.keepalive_min_time, duration(v)),
    ),
    set(
        "grpc-keepalive-interval",
        Duration,
        "2h",
        "Silence before a client is pinged (0: never).",
        |d, v| put(&mut d.config.connections.keepalive_interval, duration(v)),
    ),
    set(
        "grpc-keepalive-timeout",
        Duration,
        "20s",
        "Wait for the answer before the connection is closed.",
        |d, v| put(&mut d.config.connections.keepalive_timeout, duration(v)),
    ),
];

const LOGGING: &[Flag] = &[
    set("logger", Text, "zap", "Only 'zap': the form of etcd's log lines.", |d, v| {
        put(&mut d.logger, Ok(v.to_owned()))
    }),
    set("log-level", Text, "info", "One of debug, info, warn, error, panic, fatal.", |d, v| {
        put(&mut d.log_level, Ok(v.to_owned()))
    }),
    set("log-format", Text, "json", "json, or console for people.", |d, v| {
        put(&mut d.log_format, Ok(v.to_owned()))
    }),
    set(
        "log-outputs",
        Text,
        "default",
        "stderr, stdout and file paths, comma-separated.",
        |d, v| {
            d.log_default = list(v).any(|item| item == "default");
            put(&mut d.config.log.outputs, Ok(log_outputs(v)))
        },
    ),
    early(
        "warning-unary-request-duration",
        Duration,
        "300ms",
        "Calls that take longer are logged.",
        |d, v| put(&mut d.config.log.slow_request, duration(v)),
    ),
    early(
        "warning-apply-duration",
        Duration,
        "100ms",
        "Applying that takes longer is logged.",
        |d, v| put(&mut d.config.log.slow_apply, duration(v)),
    ),
];

const OURS: &[Flag] = &[
    set("shards", Unsigned, "1", "Keyspaces of this node, each a whole etcd.", |d, v| {
        put(&mut d.shards, unsigned(v))
    }),
    set(
        "shard-client-urls",
        Text,
        "",
        "Client URLs of shards after the first, as 1=URL,2=URL. Default: the first's, with 10 \
         added to the port per shard.",
        |d, v| put(&mut d.shard_listen, named_urls(v)),
    ),
    set(
        "shard-advertise-client-urls",
        Text,
        "",
        "What their clients are told to use. Default: their client URLs.",
        |d, v| put(&mut d.shard_advertise, named_urls(v)),
    ),
    set(
        "cores",
        Text,
        "all",
        "CPUs to pin to: a count, or a list like 0-3,5. Default: all that the process may use.",
        |d, v| put(&mut d.config.machine.cores, cores(v)),
    ),
    set(
        "pin",
        Boolean,
        "true",
        "Pin each core to its CPU. False where other busy programs share the machine.",
        |d, v| put(&mut d.config.machine.pin, boolean(v)),
    ),
    set(
        "spin-us",
        Unsigned,
        "0",
        "Microseconds that an idle core looks for work before it sleeps.",
        |d, v| put(&mut d.config.machine.spin_us, unsigned(v)),
    ),
    set(
        "wal-segment-bytes",
        Unsigned,
        "67108864",
        "Bytes of a file of the write-ahead log; fixed when the log is made.",
        |d, v| put(&mut d.config.format.wal_segment_bytes, unsigned(v)),
    ),
    set("wal-writes-in-flight", Unsigned, "2", "Log writes issued and not yet durable.", |d, v| {
        put(&mut d.config.raft.wal_writes_in_flight_max, unsigned(v))
    }),
    set(
        "store-segment-bytes",
        Unsigned,
        "67108864",
        "Bytes of values at which a file of the revision store ends.",
        |d, v| put(&mut d.config.store.segment_bytes, unsigned(v)),
    ),
    set(
        "cache-bytes",
        Unsigned,
        "268435456",
        "Bytes of values kept in memory, beside those too new to be in the revision store; for all \
         shards together.",
        |d, v| put(&mut d.config.store.cache_bytes, unsigned(v)),
    ),
    set(
        "learner-auto-promote",
        Boolean,
        "false",
        "Make a learner that has caught up a voter, unasked.",
        |d, v| put(&mut d.config.raft.learner_auto_promote, boolean(v)),
    ),
    set("bench-method", Boolean, "false", "", |d, v| {
        put(&mut d.config.connections.bench_method, boolean(v))
    }),
    set("config-file", Text, "", "", |d, v| put(&mut d.config_file, Ok(v.to_owned()))),
    set("version", Boolean, "false", "", |d, v| put(&mut d.version, boolean(v))),
];

const OTHERS: &[Flag] = &[
    set("experimental-enable-lease-checkpoint", Boolean, "false", "", |d, v| {
        former(d, "experimental-enable-lease-checkpoint", features::CHECKPOINT, v)
    }),
    set("experimental-enable-lease-checkpoint-persist", Boolean, "false", "", |d, v| {
        former(d, "experimental-enable-lease-checkpoint-persist", features::PERSIST, v)
    }),
    set("unsafe-no-fsync", Boolean, "false", "", |d, v| put(&mut d.no_sync, boolean(v))),
    inert("backend-batch-interval", Duration, "0"),
    inert("backend-batch-limit", Integer, "0"),
    inert("backend-bbolt-freelist-type", Text, "map"),
    inert("bootstrap-defrag-threshold-megabytes", Unsigned, "0"),
    inert("compaction-batch-limit", Integer, "1000"),
    inert("compaction-sleep-interval", Duration, "0"),
    inert("max-snapshots", Unsigned, "5"),
    inert("max-wals", Unsigned, "5"),
    inert("v2-deprecation", Text, "write-only"),
    later("auth-token", Text, "simple"),
    later("auth-token-ttl", Unsigned, "300"),
    later("auto-tls", Boolean, "false"),
    later("bcrypt-cost", Unsigned, "10"),
    later("cert-file", Text, ""),
    later("cipher-suites", Text, ""),
    later("client-cert-allowed-hostname", Text, ""),
    later("client-cert-auth", Boolean, "false"),
    later("client-cert-file", Text, ""),
    later("client-crl-file", Text, ""),
    later("client-key-file", Text, ""),
    later("compact-hash-check-time", Duration, "1m"),
    later("corrupt-check-time", Duration, "0s"),
    later("cors", Text, "*"),
    later("discovery", Text, ""),
    later("discovery-cacert", Text, ""),
    later("discovery-cert", Text, ""),
    later("discovery-dial-timeout", Duration, "2s"),
    later("discovery-endpoints", Text, ""),
    later("discovery-fallback", Text, "exit"),
    later("discovery-insecure-skip-tls-verify", Boolean, "false"),
    later("discovery-insecure-transport", Boolean, "true"),
    later("discovery-keepalive-time", Duration, "2s"),
    later("discovery-keepalive-timeout", Duration, "6s"),
    later("discovery-key", Text, ""),
    later("discovery-password", Text, ""),
    later("discovery-proxy", Text, ""),
    later("discovery-request-timeout", Duration, "5s"),
    later("discovery-srv", Text, ""),
    later("discovery-srv-name", Text, ""),
    later("discovery-token", Text, ""),
    later("discovery-user", Text, ""),
    later("distributed-tracing-address", Text, "localhost:4317"),
    later("distributed-tracing-instance-id", Text, ""),
    later("distributed-tracing-sampling-rate", Integer, "0"),
    later("distributed-tracing-service-name", Text, "etcd"),
    later("downgrade-check-time", Duration, "5s"),
    later("enable-distributed-tracing", Boolean, "false"),
    later("enable-grpc-gateway", Boolean, "true"),
    later("enable-log-rotation", Boolean, "false"),
    later("enable-pprof", Boolean, "false"),
    later("host-whitelist", Text, "*"),
    later("key-file", Text, ""),
    later("listen-client-http-urls", Text, ""),
    later("listen-metrics-urls", Text, ""),
    later("log-rotation-config-json", Text, LOG_ROTATION),
    later("memory-mlock", Boolean, "false"),
    later("metrics", Text, "basic"),
    later("peer-auto-tls", Boolean, "false"),
    later("peer-cert-allowed-cn", Text, ""),
    later("peer-cert-allowed-hostname", Text, ""),
    later("peer-cert-file", Text, ""),
    later("peer-client-cert-auth", Boolean, "false"),
    later("peer-client-cert-file", Text, ""),
    later("peer-client-key-file", Text, ""),
    later("peer-crl-file", Text, ""),
    later("peer-key-file", Text, ""),
    later("peer-skip-client-san-verification", Boolean, "false"),
    later("peer-trusted-ca-file", Text, ""),
    later("raft-read-timeout", Duration, "5s"),
    later("raft-write-timeout", Duration, "5s"),
    later("self-signed-cert-validity", Unsigned, "1"),
    later("tls-max-version", Text, ""),
    later("tls-min-version", Text, "TLS1.2"),
    later("trusted-ca-file", Text, ""),
];

/// etcd's default of the flag of the same name.
const LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

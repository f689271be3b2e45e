//! Why a node cannot be what it was asked to be.

use crate::config::RINGD_VERSION;
use crate::config::value::ValueError;

/// A fault in the command line, the environment or the configuration file; the user's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A flag that nobody knows.
    #[error("flag provided but not defined: -{name}{}", suggestion(.nearest))]
    UnknownFlag {
        /// The name as given.
        name: String,
        /// The nearest that is known, if one is near.
        nearest: Option<&'static str>,
    },
    /// An argument that begins like a flag and is none.
    #[error("bad flag syntax: {0}")]
    BadSyntax(String),
    /// A flag at the end that needs a value.
    #[error("flag needs an argument: -{0}")]
    NoValue(&'static str),
    /// A value that a flag cannot take.
    #[error(
        "invalid {}value {value:?} for {}: {why}",
        boolean_word(.kind),
        source_name(.kind, .name)
    )]
    BadValue {
        /// Where it stood.
        kind: Source,
        /// The flag.
        name: &'static str,
        /// The text.
        value: String,
        /// What is wrong with it.
        why: ValueError,
    },
    /// An argument that belongs to no flag.
    #[error("{0:?} is not a valid flag")]
    Stray(String),
    /// One of etcd's other programs.
    #[error("`{0}` is not implemented in ringd: run etcd's own")]
    SubCommand(String),
    /// A variable and a flag for the same thing.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag \
         (either unset environment variable or disable flag): {0}"
    )]
    Shadowed(String),
    /// A flag of etcd's that we know and do not have.
    #[error("--{name}={value} is not implemented yet in ringd (remove it, or use its default)")]
    NotYet {
        /// The flag.
        name: String,
        /// The value asked for.
        value: String,
    },
    /// `--unsafe-no-fsync`.
    #[error("--unsafe-no-fsync is refused: ringd never runs without syncing its log")]
    NoSync,
    /// A configuration file that cannot be had.
    #[error("open {path}: {why}")]
    FileUnreadable {
        /// The path as given.
        path: String,
        /// What the system said.
        why: String,
    },
    /// A configuration file that is neither YAML nor JSON of the right shape.
    #[error("{path}: {why}")]
    FileSyntax {
        /// The path as given.
        path: String,
        /// What the reader said.
        why: String,
    },
    /// A value of the file that its key cannot take.
    #[error("{path}: {key}: cannot take {found}: expected {expected}")]
    FileValue {
        /// The path as given.
        path: String,
        /// The key.
        key: String,
        /// What stood there.
        found: String,
        /// What could have.
        expected: String,
    },
    /// `--listen-client-urls` without `--advertise-client-urls`.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    NoAdvertise,
    /// A URL to bind whose host is a name.
    #[error("expected IP in URL for binding ({0})")]
    NameToBind(String),
    /// An advertised URL without a host.
    #[error(
        "--{flag} {url:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
         \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
    )]
    NoHost {
        /// The flag.
        flag: &'static str,
        /// The URL.
        url: String,
    },
    /// A list of URLs that needs one and has none.
    #[error("--{0} needs at least one URL")]
    NoUrl(&'static str),
    /// More of something than members keep.
    #[error("--{flag} gives {count} {what}; members keep {most} at most")]
    TooMany {
        /// The flag.
        flag: &'static str,
        /// What there are too many of.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A name or a URL that is longer than members keep.
    #[error(
        "--{flag} gives a {what} of {size} bytes; members keep {} at most",
        crate::config::MEMBER_TEXT_SIZE_MAX
    )]
    TooLong {
        /// The flag.
        flag: &'static str,
        /// What it is.
        what: &'static str,
        /// How long it is.
        size: usize,
    },
    /// A kind of URL that we do not serve.
    #[error("{0}: only http URLs are implemented yet in ringd")]
    SchemeNotYet(String),
    /// A duration of zero that must be more.
    #[error("--{0} must be >0 (set to 0ms)")]
    Zero(&'static str),
    /// An election timeout too near the heartbeat.
    #[error(
        "--election-timeout[{election_ms}ms] should be at least as 5 times as \
         --heartbeat-interval[{heartbeat_ms}ms]"
    )]
    ElectionTooShort {
        /// `--election-timeout`.
        election_ms: u64,
        /// `--heartbeat-interval`.
        heartbeat_ms: u64,
    },
    /// An election timeout beyond reason.
    #[error("--election-timeout[{0}ms] is too long, and should be set less than 50000ms")]
    ElectionTooLong(u64),
    /// A logger that is not the one.
    #[error("unknown logger option {0:?}")]
    Logger(String),
    /// A log format that is neither.
    #[error("unknown log format: {0}, supported values json, console")]
    LogFormat(String),
    /// A level that is none.
    #[error("unrecognized level: {0:?}")]
    LogLevel(String),
    /// `default` together with other outputs.
    #[error("multi logoutput for \"default\" is not supported yet")]
    LogOutputs,
    /// `--auto-compaction-mode` of nothing.
    #[error("undefined auto-compaction-mode")]
    NoCompactionMode,
    /// `--auto-compaction-mode` of a kind that is none.
    #[error("unknown auto-compaction-mode {0:?}")]
    CompactionMode(String),
    /// `--auto-compaction-retention` that is neither a number nor a duration.
    #[error("error parsing CompactionRetention: {0}")]
    CompactionRetention(String),
    /// A feature gate that another one is needed for.
    #[error("enabling feature gate {gate} requires enabling feature gate {needs}")]
    GateNeeds {
        /// The one that is on.
        gate: &'static str,
        /// The one that is off.
        needs: &'static str,
    },
    /// Several ways to find the first members.
    #[error(
        "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
         \"discovery-endpoints\" or \"discovery-srv\""
    )]
    SeveralBootstraps,
    /// A number outside its bounds.
    #[error("--{name} must be {bounds} (got {value})")]
    OutOfBounds {
        /// The flag.
        name: &'static str,
        /// The bounds in words.
        bounds: String,
        /// The number.
        value: u64,
    },
    /// A shard named in a list that `--shards` does not reach.
    #[error("--{flag} names shard {shard}, but --shards is {shards} (the first shard is 0)")]
    NoSuchShard {
        /// The flag.
        flag: &'static str,
        /// The shard as given.
        shard: String,
        /// How many there are.
        shards: u32,
    },
    /// A port derived for a shard beyond the last.
    #[error("shard {shard} has no port left above {url}: give it one with --shard-client-urls")]
    NoPort {
        /// The shard.
        shard: u32,
        /// The URL of the first shard that its own would follow.
        url: String,
    },
    /// Two shards on one address.
    #[error("shards {first} and {second} both listen on {url}: give each its own")]
    SharedUrl {
        /// The one.
        first: u32,
        /// The other.
        second: u32,
        /// Where.
        url: String,
    },
    /// `--initial-cluster` with a URL that is none.
    #[error("error setting up initial cluster: {0}")]
    InitialCluster(ValueError),
    /// `--initial-cluster` without this member.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotInCluster(String),
    /// `--initial-cluster` with one URL twice.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
    /// `--initial-cluster` and `--initial-advertise-peer-urls` that differ about this member.
    #[error(
        "--initial-cluster has {name}={listed} but missing from \
         --initial-advertise-peer-urls={advertised} ({why})"
    )]
    PeerUrlsDiffer {
        /// This member.
        name: String,
        /// Its URLs in `--initial-cluster` that are not advertised.
        listed: String,
        /// Its URLs in `--initial-advertise-peer-urls`.
        advertised: String,
        /// The first difference.
        why: String,
    },
    /// The same, about a URL that is advertised and not listed.
    #[error(
        "--initial-advertise-peer-urls has {advertised} but missing from \
         --initial-cluster={name}={listed} ({why})"
    )]
    PeerUrlsUnlisted {
        /// This member.
        name: String,
        /// Its URLs in `--initial-cluster`.
        listed: String,
        /// Its URLs in `--initial-advertise-peer-urls` that are not listed.
        advertised: String,
        /// The first difference.
        why: String,
    },
    /// `--max-learners` below zero.
    #[error("membership: too many learner members in cluster")]
    LearnersMax,
    /// A cluster to join, and none of its members answers.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from \
         the given URLs"
    )]
    NoPeer,
    /// A cluster to join whose members are others than those of `--initial-cluster`.
    #[error("error validating peerURLs {roll}: {why}")]
    Unlike {
        /// What its members say.
        roll: String,
        /// The first difference.
        why: String,
    },
    /// This member has been up before, and its data directory is empty.
    #[error(
        "member {member:x} has already been bootstrapped; what it has promised is not in its data \
         directory: put that back, or remove the member and add it anew (member remove, member \
         add), then start it with --initial-cluster-state existing"
    )]
    Bootstrapped {
        /// The member.
        member: u64,
    },
    /// The cluster that is to be founded runs, and this member is none of it any more.
    #[error(
        "member {member:x} has been removed from cluster {cluster:x}; add it anew (member add), \
         then start it with --initial-cluster-state existing"
    )]
    Removed {
        /// The member.
        member: u64,
        /// The cluster.
        cluster: u64,
    },
    /// A peer belongs to another cluster than the one to be founded.
    #[error(
        "request cluster ID mismatch: {peer} is of cluster {found:x}, and --initial-cluster with \
         --initial-cluster-token make cluster {due:x}; make them as they were when the cluster \
         began, or start with --initial-cluster-state existing to join it"
    )]
    WrongCluster {
        /// The URL of the peer.
        peer: String,
        /// Its cluster.
        found: u64,
        /// The one that the flags make.
        due: u64,
    },
    /// A peer that hosts another number of shards.
    #[error("{peer} hosts {found} shards and --shards asks for {due}; start with --shards {found}")]
    ShardsDiffer {
        /// The URL of the peer.
        peer: String,
        /// Its shards.
        found: u32,
        /// Ours.
        due: u32,
    },
    /// A peer whose version does not go with ours.
    #[error(
        "incompatible with current running cluster: {peer} is ringd {found} and this is \
         {RINGD_VERSION}; versions may differ by one in their second number"
    )]
    VersionsDiffer {
        /// The URL of the peer.
        peer: String,
        /// Its version.
        found: String,
    },
    /// A peer that is no ringd.
    #[error("incompatible with current running cluster: {peer} is not a ringd of this kind")]
    Stranger {
        /// The URL of the peer.
        peer: String,
    },
}

/// Where a value stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// On the command line.
    Flag,
    /// On the command line, for a flag that is true or false.
    BooleanFlag,
    /// In the environment.
    Variable,
}

impl ConfigError {
    /// What the process exits with: 2 for a command line that cannot be read, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.shows_usage() { 2 } else { 1 }
    }

    /// Whether the usage should follow the message: the command line itself cannot be read.
    #[must_use]
    pub fn shows_usage(&self) -> bool {
        matches!(
            self,
            Self::UnknownFlag { .. }
                | Self::BadSyntax(_)
                | Self::NoValue(_)
                | Self::BadValue { kind: Source::Flag | Source::BooleanFlag, .. }
        )
    }
}

/// ` (did you mean -x?)`, if there is an x.
fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!(" (did you mean --{name}?)")).unwrap_or_default()
}

/// Go's word for a value that is not true or false.
fn boolean_word(kind: &Source) -> &'static str {
    if *kind == Source::BooleanFlag { "boolean " } else { "" }
}

/// `flag -x`, or the variable; Go leaves out `flag` for a boolean one.
fn source_name(kind: &Source, name: &str) -> String {
    match kind {
        Source::Flag => format!("flag -{name}"),
        Source::BooleanFlag => format!("-{name}"),
        Source::Variable => super::parse::variable(name),
    }
}

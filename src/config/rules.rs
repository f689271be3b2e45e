//! What holds between flags, and what follows from a flag that was not given.

use crate::config::bootstrap::{check_kept, check_size};
use crate::config::error::ConfigError;
use crate::config::parse::{Draft, Notice, Start};
use crate::config::url::{Scheme, Url};
use crate::config::{
    AutoCompaction, Cluster, ClusterState, Config, Connections, Cores, Features, Format, Limits,
    Log, LogFormat, LogLevel, LogOutput, Machine, QUOTA_DEFAULT_BYTES, Raft, SHARDS_MAX,
    SNAPSHOT_COUNT_DEFAULT, ShardConfig, Store,
};
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Added per shard to the port of the first shard's URLs, where a shard was given none.
const SHARD_PORT_STEP: u16 = 10;

/// Bytes of the smallest log segment: two frames of the largest default request.
const WAL_SEGMENT_BYTES_MIN: u64 = 8 << 20;

/// Bytes of the largest log segment: zeroing it takes about a second.
const WAL_SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Bytes of the smallest file of the store: with less, files are many before data is.
const STORE_SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Bytes of the largest file of the store: it is rewritten whole.
const STORE_SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Bytes of the smallest cache of one shard: some hundred blocks.
const CACHE_BYTES_MIN: u64 = 1 << 20;

/// Bytes of the largest cache: more than any machine's memory.
const CACHE_BYTES_MAX: u64 = 1 << 46;

/// Bytes of the log's blocks.
const BLOCK_BYTES: u64 = 4096;

/// Most milliseconds of `--election-timeout`, as in etcd.
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;

/// Most microseconds of `--spin-us`: beyond a second a core might as well never sleep.
const SPIN_US_MAX: u64 = 1_000_000;

impl Default for Config {
    /// A node that was told nothing.
    fn default() -> Self {
        let url = |text: &str| vec![Url::parse(text).expect("a default is well-formed")];
        let (client, peer) = (url("http://localhost:2379"), url("http://localhost:2380"));
        Self {
            name: "default".to_owned(),
            data_dir: PathBuf::from("default.etcd"),
            wal_dir: None,
            listen_peer_urls: peer.clone(),
            advertise_peer_urls: peer,
            shards: vec![ShardConfig {
                listen_client_urls: client.clone(),
                advertise_client_urls: client,
            }],
            format: Format { wal_segment_bytes: 64 << 20 },
            cluster: Cluster {
                initial: "default=http://localhost:2380".to_owned(),
                state: ClusterState::New,
                token: "etcd-cluster".to_owned(),
                force_new: false,
            },
            raft: Raft {
                heartbeat_interval_ms: 100,
                election_timeout_ms: 1000,
                pre_vote: true,
                election_tick_advance: true,
                strict_reconfig_check: true,
                snapshot_count: SNAPSHOT_COUNT_DEFAULT,
                snapshot_catchup_entries: 5_000,
                learners_max: 1,
                learner_auto_promote: false,
                wal_writes_in_flight_max: 2,
            },
            store: Store { cache_bytes: 256 << 20, segment_bytes: 64 << 20 },
            auto_compaction: AutoCompaction::Off,
            features: Features::default(),
            limits: Limits {
                request_bytes_max: 1_572_864,
                txn_ops_max: 128,
                streams_max: u32::MAX,
                quota_bytes: QUOTA_DEFAULT_BYTES,
                connections_max: 10_000,
                requests_waiting_max: 65_536,
                requests_waiting_bytes_max: 256 << 20,
                mesh_messages_max: 65_536,
            },
            connections: Connections {
                keepalive_min_time: Duration::from_secs(5),
                keepalive_interval: Duration::from_secs(2 * 60 * 60),
                keepalive_timeout: Duration::from_secs(20),
                watch_notify_interval: Duration::from_secs(10 * 60),
                reuse_port: false,
                reuse_address: false,
                bench_method: false,
            },
            machine: Machine { cores: Cores::All, pin: true, spin_us: 0 },
            log: Log {
                level: LogLevel::Info,
                format: LogFormat::Json,
                outputs: vec![LogOutput::Stderr],
                slow_request: Duration::from_millis(300),
                slow_apply: Duration::from_millis(100),
            },
        }
    }
}

impl Draft {
    /// Fills in what follows from the rest, and checks every rule.
    pub(super) fn finish(
        mut self,
        host: impl FnOnce() -> Option<IpAddr>,
    ) -> Result<Start, ConfigError> {
        self.check_urls()?;
        self.tell_host(host);
        self.check_log()?;
        if self.given.contains("initial-cluster") && self.given.contains("discovery-srv") {
            return Err(ConfigError::SeveralBootstraps);
        }
        self.check_times()?;
        self.check_sizes()?;
        self.config.raft.learners_max =
            u32::try_from(self.learners_max).map_err(|_| ConfigError::LearnersMax)?;
        let (features, notices) = self.gates.finish()?;
        self.config.features = features;
        self.notices.extend(notices);
        self.config.limits.quota_bytes = match self.quota_bytes {
            0 => QUOTA_DEFAULT_BYTES,
            bytes => bytes,
        };
        self.config.auto_compaction =
            AutoCompaction::parse(&self.compaction_mode, &self.compaction_retention)?;
        if !self.given.contains("data-dir") || self.config.data_dir.as_os_str().is_empty() {
            self.config.data_dir = PathBuf::from(format!("{}.etcd", self.config.name));
        }
        if !self.given.contains("initial-cluster") {
            let pairs = self.config.advertise_peer_urls.iter();
            let pairs: Vec<_> = pairs.map(|url| format!("{}={url}", self.config.name)).collect();
            self.config.cluster.initial = pairs.join(",");
        }
        self.config.shards = self.shards()?;
        self.check_kept()?;
        Ok(Start { config: self.config, notices: self.notices })
    }

    /// The rules about what is bound and what is told.
    fn check_urls(&self) -> Result<(), ConfigError> {
        let shards = self.shard_listen.iter().map(|(_, url)| url);
        let bound = self.config.listen_peer_urls.iter().chain(&self.listen_client).chain(shards);
        for url in bound {
            if url.address().is_none() && matches!(url.scheme(), Scheme::Http | Scheme::Https) {
                return Err(ConfigError::NameToBind(url.to_string()));
            }
            check_scheme(url)?;
        }
        let explicit = self.given.contains("listen-client-urls");
        if explicit && !self.given.contains("advertise-client-urls") {
            return Err(ConfigError::NoAdvertise);
        }
        let told = [
            ("initial-advertise-peer-urls", &self.config.advertise_peer_urls),
            ("advertise-client-urls", &self.advertise_client),
        ];
        for (flag, urls) in told {
            for url in urls {
                check_scheme(url)?;
                if url.host().is_empty() {
                    return Err(ConfigError::NoHost { flag, url: url.to_string() });
                }
            }
        }
        for (_, url) in &self.shard_advertise {
            check_scheme(url)?;
        }
        let needed = [
            ("listen-client-urls", &self.listen_client),
            ("listen-peer-urls", &self.config.listen_peer_urls),
            ("initial-advertise-peer-urls", &self.config.advertise_peer_urls),
        ];
        match needed.iter().find(|(_, urls)| urls.is_empty()) {
            Some((flag, _)) => Err(ConfigError::NoUrl(flag)),
            None => Ok(()),
        }
    }

    /// Puts the machine's own address in the place of `localhost` where that is told by default
    /// and all addresses are listened on, as etcd does.
    fn tell_host(&mut self, host: impl FnOnce() -> Option<IpAddr>) {
        let default = Config::default();
        let peer = (&self.config.listen_peer_urls, &mut self.config.advertise_peer_urls);
        let client = (&self.listen_client, &mut self.advertise_client);
        let shard = &default.shards[0];
        let pairs = [(peer, &default.advertise_peer_urls), (client, &shard.advertise_client_urls)];
        let concerned = pairs
            .into_iter()
            .filter(|((bound, told), default)| *told == *default && bound[0].host() == "0.0.0.0");
        let concerned: Vec<_> = concerned.collect();
        if concerned.is_empty() {
            return;
        }
        let Some(host) = host() else {
            return self.notices.push(Notice::NoHost);
        };
        for ((bound, told), _) in concerned {
            let text = format!("http://{}", SocketAddr::new(host, bound[0].port()));
            *told = vec![Url::parse(&text).expect("an address and a port are well-formed")];
        }
        self.notices.push(Notice::Host(host.to_string()));
    }

    /// The rules about what members keep of each other.
    fn check_kept(&self) -> Result<(), ConfigError> {
        check_size("name", "name", &self.config.name)?;
        check_kept("initial-advertise-peer-urls", &self.config.advertise_peer_urls)?;
        let mut shards = self.config.shards.iter();
        let flag = "shard-advertise-client-urls";
        if let Some(first) = shards.next() {
            check_kept("advertise-client-urls", &first.advertise_client_urls)?;
        }
        shards.try_for_each(|shard| check_kept(flag, &shard.advertise_client_urls))
    }

    /// The rules about what is logged, and where to.
    fn check_log(&mut self) -> Result<(), ConfigError> {
        if self.logger != "zap" {
            return Err(ConfigError::Logger(self.logger.clone()));
        }
        let log = &mut self.config.log;
        log.level = match self.log_level.as_str() {
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "panic" => LogLevel::Panic,
            "fatal" => LogLevel::Fatal,
            other => return Err(ConfigError::LogLevel(other.to_owned())),
        };
        log.format = match self.log_format.as_str() {
            "json" => LogFormat::Json,
            "console" => LogFormat::Console,
            other => return Err(ConfigError::LogFormat(other.to_owned())),
        };
        if log.outputs.is_empty() {
            log.outputs.push(LogOutput::Stderr);
        }
        if self.log_default && log.outputs.len() > 1 {
            return Err(ConfigError::LogOutputs);
        }
        Ok(())
    }

    /// The rules about time.
    fn check_times(&self) -> Result<(), ConfigError> {
        let heartbeat_ms = self.config.raft.heartbeat_interval_ms;
        let election_ms = self.config.raft.election_timeout_ms;
        if heartbeat_ms == 0 {
            return Err(ConfigError::Zero("heartbeat-interval"));
        }
        if election_ms == 0 {
            return Err(ConfigError::Zero("election-timeout"));
        }
        if heartbeat_ms.checked_mul(5).is_none_or(|least| least > election_ms) {
            return Err(ConfigError::ElectionTooShort { election_ms, heartbeat_ms });
        }
        if election_ms > ELECTION_TIMEOUT_MS_MAX {
            return Err(ConfigError::ElectionTooLong(election_ms));
        }
        Ok(())
    }

    /// The rules about sizes and counts.
    fn check_sizes(&self) -> Result<(), ConfigError> {
        let segment = self.config.format.wal_segment_bytes;
        let writes = u64::from(self.config.raft.wal_writes_in_flight_max);
        let within = |name, value, first, last| {
            let bounds = format!("from {first} to {last}");
            let fits = (first..=last).contains(&value);
            if fits { Ok(()) } else { Err(ConfigError::OutOfBounds { name, bounds, value }) }
        };
        within("wal-segment-bytes", segment, WAL_SEGMENT_BYTES_MIN, WAL_SEGMENT_BYTES_MAX)?;
        if !segment.is_multiple_of(BLOCK_BYTES) {
            let bounds = format!("a multiple of {BLOCK_BYTES}");
            return Err(ConfigError::OutOfBounds {
                name: "wal-segment-bytes",
                bounds,
                value: segment,
            });
        }
        within("wal-writes-in-flight", writes, 1, 16)?;
        let segment_bytes = self.config.store.segment_bytes;
        within(
            "store-segment-bytes",
            segment_bytes,
            STORE_SEGMENT_BYTES_MIN,
            STORE_SEGMENT_BYTES_MAX,
        )?;
        let cache_min = CACHE_BYTES_MIN * u64::from(self.shards);
        within("cache-bytes", self.config.store.cache_bytes, cache_min, CACHE_BYTES_MAX)?;
        within("spin-us", self.config.machine.spin_us.into(), 0, SPIN_US_MAX)?;
        within("shards", self.shards.into(), 1, SHARDS_MAX.into())?;
        within(
            "max-concurrent-streams",
            self.config.limits.streams_max.into(),
            1,
            u32::MAX.into(),
        )?;
        // A request is written whole, in one frame of the log.
        let frame = segment / 4;
        let (name, value) = ("max-request-bytes", self.config.limits.request_bytes_max);
        if (1..=frame).contains(&value) {
            return Ok(());
        }
        let bounds = format!("from 1 to {frame}, a quarter of --wal-segment-bytes");
        Err(ConfigError::OutOfBounds { name, bounds, value })
    }

    /// Each shard's addresses.
    fn shards(&self) -> Result<Vec<ShardConfig>, ConfigError> {
        let listen = self.by_shard("shard-client-urls", &self.shard_listen)?;
        let advertise = self.by_shard("shard-advertise-client-urls", &self.shard_advertise)?;
        let mut shards = vec![ShardConfig {
            listen_client_urls: self.listen_client.clone(),
            advertise_client_urls: self.advertise_client.clone(),
        }];
        for (shard, (own, told)) in (0..).zip(listen.into_iter().zip(advertise)).skip(1) {
            let told = match (told.is_empty(), own.is_empty()) {
                (false, _) => told,
                (true, false) => own.clone(),
                (true, true) => following(&self.advertise_client, shard)?,
            };
            let own = if own.is_empty() { following(&self.listen_client, shard)? } else { own };
            shards.push(ShardConfig { listen_client_urls: own, advertise_client_urls: told });
        }
        check_apart(&shards)?;
        Ok(shards)
    }

    /// The URLs of a list by the shard that each is for; none for the first shard.
    fn by_shard(
        &self,
        flag: &'static str,
        pairs: &[(String, Url)],
    ) -> Result<Vec<Vec<Url>>, ConfigError> {
        let mut all = vec![Vec::new(); usize::try_from(self.shards).expect("64 bits")];
        for (name, url) in pairs {
            let number = name.parse::<usize>().ok().filter(|number| *number > 0);
            let Some(urls) = number.and_then(|number| all.get_mut(number)) else {
                let shard = name.clone();
                return Err(ConfigError::NoSuchShard { flag, shard, shards: self.shards });
            };
            urls.push(url.clone());
            urls.sort();
            urls.dedup();
        }
        Ok(all)
    }
}

/// Refuses a kind of URL that we do not serve.
fn check_scheme(url: &Url) -> Result<(), ConfigError> {
    match url.scheme() {
        Scheme::Http => Ok(()),
        Scheme::Https | Scheme::Unix | Scheme::Unixs => {
            Err(ConfigError::SchemeNotYet(url.to_string()))
        }
    }
}

/// The first shard's URLs with the ports of `shard`; port 0, any port, stays.
fn following(first: &[Url], shard: u16) -> Result<Vec<Url>, ConfigError> {
    let follow = |url: &Url| match url.port() {
        0 => Ok(url.clone()),
        port => shard
            .checked_mul(SHARD_PORT_STEP)
            .and_then(|step| port.checked_add(step))
            .map(|port| url.with_port(port))
            .ok_or_else(|| ConfigError::NoPort { shard: shard.into(), url: url.to_string() }),
    };
    first.iter().map(follow).collect()
}

/// Refuses one address for two shards.
fn check_apart(shards: &[ShardConfig]) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (second, shard) in (0..).zip(shards) {
        for url in shard.listen_client_urls.iter().filter(|url| url.port() != 0) {
            if let Some(first) = seen.insert((url.address(), url.port()), second)
                && first != second
            {
                return Err(ConfigError::SharedUrl { first, second, url: url.to_string() });
            }
        }
    }
    Ok(())
}

//! What a shard is and what it may hold.

use crate::config;
use crate::lease;
use crate::raft;
use crate::shard::command;
use crate::shard::list;
use crate::shard::origin::ORIGIN_SIZE;
use crate::shard::request::Member;
use crate::shard::snapshot;
use crate::store;
use crate::types::ClusterId;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::wal;

/// What a shard is and what it may hold.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which of the node's shards.
    pub id: ShardId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The members, this one included, as clients see them; by id.
    pub members: Vec<Member>,
    /// This member's name, which it tells the others.
    pub name: String,
    /// Where clients reach this shard of this member, which it tells the others.
    pub client_urls: Vec<String>,
    /// Who voted when the log began, where that is not all of `members`: every replica's state
    /// begins with them, also of one that joins.
    pub founders: Vec<NodeId>,
    /// It joins a group that is there: `members` are whom to ask, and who votes the log will say.
    pub joins: bool,
    /// Refuse a change of members that would cost the majority (`--strict-reconfig-check`).
    pub strict_reconfig_check: bool,
    /// Members without a vote that there may be (`--max-learners`, etcd's default of 1).
    pub learners_max: usize,
    /// Make a learner a voter unasked once it may be one (`--learner-auto-promote`).
    pub learner_auto_promote: bool,
    /// Let the first election come sooner once others are there
    /// (`--initial-election-tick-advance`).
    pub election_tick_advance: bool,
    /// Which of the voters is to lead, counted round by their ids; none if whoever does is as good.
    pub leader_turn: Option<u32>,
    /// Consensus; names this member.
    pub raft: raft::Config,
    /// The log.
    pub wal: wal::Config,
    /// The store.
    pub store: store::Config,
    /// Largest change, in bytes (`--max-request-bytes`).
    pub request_size_max: usize,
    /// Bytes that it may take besides when it is encoded: a transaction's parts lie there as
    /// records of one size, which are larger than in a message. Enough for as many as may be in
    /// one (`--max-txn-ops`) that has none within.
    pub encoding_size_max: usize,
    /// Writes and reads that may wait at a time; beyond it they are refused as too many.
    ///
    /// etcd bounds the distance from committed to applied to 5,000 entries; here nothing is ever
    /// committed and not applied, so what is bounded is what waits for the disk or the majority.
    pub waiting_max: usize,
    /// Bytes of reads that wait for their read point, of writes that wait for their place in the
    /// log, and of what open lists were asked; each.
    pub waiting_size_max: usize,
    /// What all open lists may hold.
    pub lists: list::Limits,
    /// Milliseconds after which a request is given up: 5 s and twice the election timeout.
    pub request_timeout: u64,
    /// Milliseconds of rest after which the log marks its last frame as durable.
    pub mark_after: u64,
    /// When history is compacted without being asked.
    pub auto_compaction: config::AutoCompaction,
    /// What `Status` names as the quota, in bytes.
    pub quota_bytes: i64,
    /// Entries after which what is applied is sealed, however little of it there is to write.
    ///
    /// Default 262,144, unless `--snapshot-count` is set: what leaves nothing in the store, a lease
    /// or a transaction that only reads, would hold the log forever. A gigabyte of it at most, if
    /// each came alone in its block.
    pub seal_entries_max: u64,
    /// Entries that stay in the log when they are sealed, so that a peer which was away finds them
    /// (`--snapshot-catchup-entries`, etcd's default of 5,000).
    pub catchup_entries: u64,
    /// What snapshots may take.
    pub snapshots: snapshot::Limits,
    /// Leases.
    pub lease: lease::Config,
}

impl Config {
    /// Bytes of the largest encoded change.
    #[must_use]
    pub fn command_size_max(&self) -> usize {
        self.request_size_max.saturating_add(self.encoding_size_max)
    }

    /// What the node's configuration means for one of its shards.
    ///
    /// # Errors
    /// Limits that do not fit together, and which flags say so.
    pub fn new(
        node: &config::Config,
        id: ShardId,
        cluster: ClusterId,
        member: NodeId,
        bootstrap: &config::Bootstrap,
    ) -> Result<Self, String> {
        let own = node.shards().find(|(shard, _)| *shard == id).map(|(_, shard)| shard);
        let own = own.expect("a shard of this node");
        let to_usize = |size: u64| usize::try_from(size).expect("usize is 64 bits");
        let mut raft = raft::Config::new(member);
        raft.election_ticks = node.raft.election_timeout_ms;
        raft.heartbeat_ticks = node.raft.heartbeat_interval_ms;
        raft.pre_vote = node.raft.pre_vote;
        raft.stores_inflight_max = to_usize(node.raft.wal_writes_in_flight_max.into());
        let request_size_max = to_usize(node.limits.request_bytes_max);
        let mut wal = wal::Config {
            segment_size: node.format.wal_segment_bytes,
            writes_in_flight_max: node.raft.wal_writes_in_flight_max,
            ..wal::Config::default()
        };
        let encoding_size_max = encoding_size_max(&node.limits);
        if !wal.fit(request_size_max + encoding_size_max + ORIGIN_SIZE) {
            return Err(format!(
                "--max-request-bytes {request_size_max} does not fit a log segment of \
                 --wal-segment-bytes {}; lower the one or raise the other",
                wal.segment_size
            ));
        }
        let shards = u64::try_from(node.shards.len()).expect("usize is 64 bits");
        let segment_size = to_usize(node.store.segment_bytes);
        let seal_size = store::Config::default().seal_size.min(segment_size);
        let cache_size = to_usize(node.store.cache_bytes / shards);
        let store =
            store::Config { seal_size, segment_size, cache_size, ..store::Config::default() };
        Ok(Self {
            id,
            cluster,
            members: members(bootstrap, &own.advertise_client_urls),
            name: node.name.clone(),
            client_urls: texts(&own.advertise_client_urls),
            founders: bootstrap.founders.clone(),
            joins: bootstrap.joins,
            strict_reconfig_check: node.raft.strict_reconfig_check,
            learners_max: to_usize(node.raft.learners_max.into()),
            learner_auto_promote: node.raft.learner_auto_promote,
            election_tick_advance: node.raft.election_tick_advance,
            leader_turn: (node.shards.len() > 1).then_some(id.0),
            raft,
            wal,
            store,
            request_size_max,
            encoding_size_max,
            waiting_max: to_usize(node.limits.requests_waiting_max.into()),
            waiting_size_max: to_usize(node.limits.requests_waiting_bytes_max),
            lists: list::Limits::default(),
            request_timeout: 5_000 + 2 * node.raft.election_timeout_ms,
            mark_after: 100,
            auto_compaction: node.auto_compaction,
            quota_bytes: node.limits.quota_bytes,
            seal_entries_max: seal_entries_max(node.raft.snapshot_count),
            catchup_entries: node.raft.snapshot_catchup_entries,
            snapshots: snapshot::Limits::default(),
            lease: lease::Config {
                ttl_min: lease_ttl_min(&node.raft),
                checkpoints: node.features.lease_checkpoint,
                ..lease::Config::default()
            },
        })
    }
}

/// The first members. The clients' URLs of one that is alone are `client_urls`; others say theirs
/// in the log, when they serve.
fn members(bootstrap: &config::Bootstrap, client_urls: &[config::Url]) -> Vec<Member> {
    let is_alone = bootstrap.members.len() == 1;
    let members = bootstrap.members.iter().map(|peer| Member {
        id: peer.id,
        name: peer.name.clone(),
        peer_urls: texts(&peer.peer_urls),
        client_urls: if is_alone { texts(client_urls) } else { peer.client_urls.clone() },
        learner: peer.learner,
    });
    members.collect()
}

fn texts(urls: &[config::Url]) -> Vec<String> {
    urls.iter().map(|url| url.text().to_owned()).collect()
}

/// Bytes that the largest change may take besides.
fn encoding_size_max(limits: &config::Limits) -> usize {
    let ops = usize::try_from(limits.txn_ops_max).expect("usize is 64 bits");
    command::encoding_size_max(ops.min(ENCODED_OPS_MAX))
}

/// Operations of a transaction for which there is room beyond what the request itself may have:
/// with more, one of the largest is refused as too large. 16,384: some megabytes.
const ENCODED_OPS_MAX: usize = 16_384;

/// Entries between two seals, for `--snapshot-count`. At its default only size matters, and a bound
/// for what has none.
fn seal_entries_max(snapshot_count: u64) -> u64 {
    match snapshot_count {
        config::SNAPSHOT_COUNT_DEFAULT => 1 << 18,
        // With 0, etcd takes a snapshot with every entry.
        count => count.max(1),
    }
}

/// Seconds of the shortest lease: one and a half election timeouts, rounded as etcd rounds.
fn lease_ttl_min(raft: &config::Raft) -> i64 {
    let election_ticks = raft.election_timeout_ms / raft.heartbeat_interval_ms;
    let least = (3 * election_ticks / 2).saturating_mul(raft.heartbeat_interval_ms);
    i64::try_from(least.div_ceil(1000)).unwrap_or(lease::TTL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_after_so_many_entries_is_only_what_was_asked_for() {
        let due = [(10_000, 1 << 18), (0, 1), (7, 7), (10_001, 10_001)];
        assert!(due.iter().all(|(count, due)| seal_entries_max(*count) == *due));
    }

    #[test]
    fn the_shortest_lease_is_etcds() {
        let node = config::Config::default();
        for (election, heartbeat, due) in
            [(1000, 100, 2), (5000, 500, 8), (1000, 10, 2), (500, 100, 1), (50_000, 100, 75)]
        {
            let (election_timeout_ms, heartbeat_interval_ms) = (election, heartbeat);
            let raft =
                config::Raft { election_timeout_ms, heartbeat_interval_ms, ..node.raft.clone() };
            assert_eq!(lease_ttl_min(&raft), due, "{election}, {heartbeat}");
        }
    }
}

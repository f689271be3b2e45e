//! The knobs and limits of one node of a group.

use crate::types::NodeId;

/// How one node of a group behaves and what it may hold.
///
/// # Shape
/// Times are ticks ([`crate::types::Tick`]), sizes bytes as [`crate::raft::Entry::size`] counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// A follower that has heard nothing for this long, and up to as long again, campaigns.
    ///
    /// Default 1000, etcd's `--election-timeout`.
    pub election_ticks: u64,
    /// A leader lets itself be heard this often; less than half of `election_ticks`.
    ///
    /// Default 100, etcd's `--heartbeat-interval`.
    pub heartbeat_ticks: u64,
    /// A campaign first asks whether it could win, without a new term (thesis §9.6). Default on.
    pub pre_vote: bool,
    /// A leader that has not heard a majority for `election_ticks` steps down, and no node votes
    /// while it has lately heard a leader (thesis §6.2, §4.2.3). Default on.
    pub check_quorum: bool,
    /// Reads trust the clock instead of asking a majority (thesis §6.4.1); needs `check_quorum`.
    ///
    /// The caller must hand a tick before the reads of each turn. Default off: it rests on clocks
    /// that run alike within a quarter of `election_ticks`.
    pub leader_lease: bool,
    /// Most bytes of entries in one message, one store or one fetch; a larger entry goes alone.
    ///
    /// Default 1 MiB: past it a batch saves nothing more and delays what follows.
    pub append_size_max: usize,
    /// Most appends on their way to one follower. Default 256, enough for a long fast link.
    pub inflight_count_max: usize,
    /// Most bytes on their way to one follower. Default 16 MiB.
    pub inflight_size_max: usize,
    /// Most bytes proposed and not yet committed; past it proposals are refused. Default 64 MiB.
    pub proposals_size_max: usize,
    /// Most bytes of committed entries kept in memory for followers. Default 32 MiB.
    ///
    /// A group of one keeps none. Older ones are asked for with [`crate::raft::Output::Fetch`].
    pub cache_size_max: usize,
    /// Most stores on their way to the disk; what comes meanwhile goes into the next one.
    ///
    /// Default 2: one being written, one ready behind it.
    pub stores_inflight_max: usize,
    /// Most reads waiting, those of followers included; past it reads are refused. Default 65,536.
    pub reads_max: usize,
}

impl Config {
    /// The defaults for this node.
    #[must_use]
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            election_ticks: 1000,
            heartbeat_ticks: 100,
            pre_vote: true,
            check_quorum: true,
            leader_lease: false,
            append_size_max: 1 << 20,
            inflight_count_max: 256,
            inflight_size_max: 16 << 20,
            proposals_size_max: 64 << 20,
            cache_size_max: 32 << 20,
            stores_inflight_max: 2,
            reads_max: 65_536,
        }
    }

    /// What is wrong with it, if something is.
    ///
    /// # Errors
    /// The rule that the values break.
    pub fn check(&self) -> Result<(), &'static str> {
        let rules = [
            (self.id.0 != 0, "a node's id is not 0"),
            (self.heartbeat_ticks > 0, "heartbeat_ticks is at least 1"),
            (self.election_ticks / 2 > self.heartbeat_ticks, "two heartbeats fit an election"),
            (self.election_ticks <= 1 << 32, "election_ticks is at most 2^32"),
            (!self.leader_lease || self.check_quorum, "leader_lease needs check_quorum"),
            (self.append_size_max > 0, "append_size_max is at least 1"),
            (self.inflight_count_max > 0, "inflight_count_max is at least 1"),
            (self.inflight_size_max > 0, "inflight_size_max is at least 1"),
            (self.proposals_size_max > 0, "proposals_size_max is at least 1"),
            (self.stores_inflight_max > 0, "stores_inflight_max is at least 1"),
            (self.reads_max > 0, "reads_max is at least 1"),
        ];
        rules.iter().find(|rule| !rule.0).map_or(Ok(()), |rule| Err(rule.1))
    }
}

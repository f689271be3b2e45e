//! What a client asks of a shard, and what it is told.

pub use crate::lease::Refusal as LeaseRefusal;

use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::txn::Outcome;
use crate::types::ClusterId;
use crate::types::LeaseId;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Revision;
use crate::types::Term;
use bytes::Bytes;

/// Where an answer goes: a core, one of its connections, one of that connection's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId {
    /// The core that holds the connection.
    pub core: u32,
    /// The connection's place on that core.
    pub connection: u32,
    /// Told apart from an earlier connection in the same place.
    pub generation: u32,
    /// The stream within the connection.
    pub stream: u32,
}

/// A read of keys, on its way to its read point.
///
/// # Shape
/// Both ends of the range lie in one buffer: a read costs one allocation while it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    keys: Box<[u8]>,
    key_len: usize,
    options: Options,
    /// Whether the answer may come from this replica as it is, without asking the others.
    pub serializable: bool,
}

/// A [`RangeQuery`] without its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    limit: i64,
    revision: i64,
    order: SortOrder,
    target: SortTarget,
    keys_only: bool,
    count_only: bool,
    mod_revisions: (i64, i64),
    create_revisions: (i64, i64),
}

impl Range {
    /// The read of `key..range_end` (both as etcd writes them) with the options of `query`, whose
    /// own range is not looked at.
    #[must_use]
    pub fn new(key: &[u8], range_end: &[u8], query: &RangeQuery<'_>, serializable: bool) -> Self {
        let options = Options {
            limit: query.limit,
            revision: query.revision,
            order: query.order,
            target: query.target,
            keys_only: query.keys_only,
            count_only: query.count_only,
            mod_revisions: (query.min_mod_revision, query.max_mod_revision),
            create_revisions: (query.min_create_revision, query.max_create_revision),
        };
        let keys = [key, range_end].concat().into_boxed_slice();
        Self { keys, key_len: key.len(), options, serializable }
    }

    /// The read of one key as it is now.
    #[must_use]
    pub fn one(key: &[u8], serializable: bool) -> Self {
        Self::new(key, &[], &RangeQuery::new(KeyRange::One(key)), serializable)
    }

    /// Bytes it holds while it waits.
    #[must_use]
    pub fn size(&self) -> usize {
        self.keys.len() + size_of::<Self>()
    }

    /// What to ask the keyspace.
    #[must_use]
    pub fn query(&self) -> RangeQuery<'_> {
        let (key, range_end) = self.keys.split_at(self.key_len);
        RangeQuery {
            range: KeyRange::new(key, range_end),
            limit: self.options.limit,
            revision: self.options.revision,
            order: self.options.order,
            target: self.options.target,
            keys_only: self.options.keys_only,
            count_only: self.options.count_only,
            min_mod_revision: self.options.mod_revisions.0,
            max_mod_revision: self.options.mod_revisions.1,
            min_create_revision: self.options.create_revisions.0,
            max_create_revision: self.options.create_revisions.1,
        }
    }
}

/// What a client asks, checked as far as one can without the keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A change: one [`Command`](crate::shard::command::Command) as an entry's data.
    Write(Bytes),
    /// A read of keys.
    Range(Range),
    /// A read of keys, told in pieces.
    RangeStream(Range),
    /// A transaction of reads only.
    ReadTxn {
        /// The transaction: one [`Command`](crate::shard::command::Command), as if for an entry.
        txn: Bytes,
        /// Whether the answer may come from this replica as it is, without asking the others.
        serializable: bool,
    },
    /// etcd's hash of all that can be read up to a revision.
    HashKv {
        /// The revision; 0 is the present one, and so is one below.
        revision: i64,
    },
    /// A hash of everything.
    Hash,
    /// Room is to be given back now, and not by and by.
    Defragment,
    /// What this replica is and how far it has come.
    Status,
    /// Which alarms are raised, as of a read point.
    Alarms,
    /// Who the members are; `linearizable` waits for a read point first.
    MemberList {
        /// Whether the list must be no older than the question.
        linearizable: bool,
    },
    /// A lease is to be granted.
    LeaseGrant {
        /// Its id; for 0 the shard picks one.
        id: LeaseId,
        /// Seconds that it is to live; too few are made more.
        ttl: i64,
    },
    /// A lease is to be removed, and its keys deleted.
    LeaseRevoke {
        /// Which.
        id: LeaseId,
    },
    /// A lease is to live on. Of one [`RequestId`] there may be many, which are answered in the
    /// order they came.
    LeaseKeepAlive {
        /// Which.
        id: LeaseId,
    },
    /// How long a lease lives.
    LeaseTimeToLive {
        /// Which.
        id: LeaseId,
        /// Whether its keys are asked for too.
        keys: bool,
    },
    /// Which leases this replica knows.
    LeaseLeases,
    /// A new member.
    MemberAdd {
        /// Where its peers reach it.
        peer_urls: Vec<String>,
        /// Whether it has no vote.
        learner: bool,
    },
    /// A member leaves.
    MemberRemove {
        /// Which.
        id: NodeId,
    },
    /// A member is reached elsewhere.
    MemberUpdate {
        /// Which.
        id: NodeId,
        /// Where its peers reach it.
        peer_urls: Vec<String>,
    },
    /// A member gets its vote.
    MemberPromote {
        /// Which.
        id: NodeId,
    },
    /// Another member is to lead.
    MoveLeader {
        /// Which.
        target: NodeId,
    },
}

impl Request {
    /// Bytes it holds while it waits.
    #[must_use]
    pub fn size(&self) -> usize {
        let held = match self {
            Self::Write(command) => command.len(),
            Self::Range(range) | Self::RangeStream(range) => range.keys.len(),
            Self::ReadTxn { txn, .. } => txn.len(),
            Self::HashKv { .. } | Self::Hash | Self::Defragment => 0,
            Self::Status | Self::Alarms | Self::MemberList { .. } => 0,
            Self::LeaseGrant { .. } | Self::LeaseRevoke { .. } | Self::LeaseLeases => 0,
            Self::LeaseKeepAlive { .. } | Self::LeaseTimeToLive { .. } => 0,
            Self::MemberAdd { peer_urls, .. } | Self::MemberUpdate { peer_urls, .. } => {
                peer_urls.iter().map(String::len).sum()
            }
            Self::MemberRemove { .. } | Self::MemberPromote { .. } | Self::MoveLeader { .. } => 0,
        };
        held + size_of::<Self>()
    }
}

/// Which keyspace answered, and how far it had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member that answers.
    pub member: NodeId,
    /// The keyspace's revision (see the spec §2.1 for which one, call by call).
    pub revision: Revision,
    /// Raft's term at the time of the answer.
    pub term: Term,
}

/// A member of the cluster as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub learner: bool,
}

/// What a replica tells about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Who the leader is, if known.
    pub leader: Option<NodeId>,
    /// Last entry known committed.
    pub committed: LogIndex,
    /// Last entry applied.
    pub applied: LogIndex,
    /// Bytes of all files of this shard; at least 1.
    pub size_allocated: u64,
    /// Bytes of them that hold what is alive; at most `size_allocated`.
    pub size_in_use: u64,
    /// Whether this member has no vote.
    pub learner: bool,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Who answers, and at which revision.
    pub header: Header,
    /// The answer itself.
    pub body: Body,
}

/// What a [`Response`] says beside its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A put took place.
    Put {
        /// The pair before it, if asked for and there.
        prev: Option<KeyValue>,
    },
    /// A deletion took place.
    DeleteRange {
        /// How many keys were deleted.
        deleted: i64,
        /// The pairs before it in key order, if asked for.
        prevs: Vec<KeyValue>,
    },
    /// A transaction took place.
    Txn(Outcome),
    /// A compaction took place.
    Compact,
    /// A hash, and of what.
    HashKv {
        /// The hash.
        hash: u32,
        /// The revision last compacted; none before the first.
        compacted: Option<Revision>,
        /// The revision up to which it was taken.
        revision: Revision,
    },
    /// A hash of everything.
    Hash {
        /// The hash.
        hash: u32,
    },
    /// What could be given back was.
    Defragment,
    /// The replica's status.
    Status(Status),
    /// The alarms: none, as nothing raises one yet.
    Alarms,
    /// The members, by id; after a change of one, as they are then.
    MemberList(Vec<Member>),
    /// There is a new member.
    MemberAdd {
        /// It.
        member: Member,
        /// All of them, by id.
        members: Vec<Member>,
    },
    /// Another member leads.
    MoveLeader,
    /// A lease was granted.
    LeaseGrant {
        /// Its id.
        id: LeaseId,
        /// Seconds that it lives.
        ttl: i64,
    },
    /// A lease was removed.
    LeaseRevoke,
    /// A lease lives on, or is not there.
    LeaseKeepAlive {
        /// Its id.
        id: LeaseId,
        /// Seconds that it lives from now on; 0 if it is not there.
        ttl: i64,
    },
    /// How long a lease lives.
    LeaseTimeToLive {
        /// Its id.
        id: LeaseId,
        /// Whole seconds that are left; -1 if it is not there.
        ttl: i64,
        /// Seconds that it was granted; 0 if it is not there.
        granted: i64,
        /// Its keys, ascending, if they were asked for.
        keys: Vec<Bytes>,
    },
    /// Leases, by id.
    LeaseLeases {
        /// Their ids.
        leases: Vec<LeaseId>,
    },
}

impl Body {
    /// Settles what was left until all values are here.
    pub fn settle(&mut self) {
        if let Self::Txn(outcome) = self {
            outcome.settle();
        }
    }

    /// Shows every pair in it to `visit`, in the order of the answer.
    ///
    /// Those whose values are on disk are made whole so, before the answer leaves.
    pub fn each_pair(&mut self, visit: &mut impl FnMut(&mut KeyValue)) {
        match self {
            Self::Put { prev } => prev.iter_mut().for_each(&mut *visit),
            Self::DeleteRange { prevs, .. } => prevs.iter_mut().for_each(&mut *visit),
            Self::Txn(outcome) => outcome.each_pair(visit),
            Self::Compact
            | Self::HashKv { .. }
            | Self::Hash { .. }
            | Self::Defragment
            | Self::Status(_)
            | Self::Alarms
            | Self::MemberList(_)
            | Self::MemberAdd { .. }
            | Self::MoveLeader
            | Self::LeaseGrant { .. }
            | Self::LeaseRevoke
            | Self::LeaseKeepAlive { .. }
            | Self::LeaseTimeToLive { .. }
            | Self::LeaseLeases { .. } => {}
        }
    }
}

/// Why a request has no answer that a state machine gave.
///
/// Never arises in applying: it is about this replica now, and the client may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A queue is at its limit; nothing was done.
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    /// The encoded change is larger than the configured bound; nothing was done.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// No answer within the request timeout; the change may or may not take place.
    #[error("etcdserver: request timed out")]
    Timeout,
    /// The same, and the leader of the time was lost.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    /// The same, and the connection to the leader, or the leader's to a majority, was lost.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// There is no leader; nothing was done.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// This member has no vote, and its clients are to ask others for all that needs a leader.
    #[error("etcdserver: rpc not supported for learner")]
    Learner,
    /// Another member leads.
    #[error("etcdserver: not leader")]
    NotLeader,
    /// Who is to lead has no vote.
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    /// Who is to lead does not yet.
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimeout,
    /// Leadership moved while a read waited for its read point.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The replica is stopping.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// A sort by value that would hold more in memory than it may.
    #[error("ringd: sorting by value holds too many bytes; ask for fewer keys, or sort them there")]
    SortTooLarge,
}

/// Why members are not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MemberRefusal {
    /// There is one of that id.
    #[error("etcdserver: member ID already exist")]
    Exists,
    /// Another has that URL.
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    /// Too few would be up.
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// They are no URLs.
    #[error("etcdserver: given member URLs are invalid")]
    BadUrls,
    /// There is none of that id.
    #[error("etcdserver: member not found")]
    NotFound,
    /// It has its vote.
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    /// It lags.
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// There are as many as may be.
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    /// Too few are heard.
    #[error("etcdserver: unhealthy cluster")]
    Unhealthy,
}

impl MemberRefusal {
    const ALL: [Self; 9] = [
        Self::Exists,
        Self::PeerUrlExists,
        Self::NotEnoughStarted,
        Self::BadUrls,
        Self::NotFound,
        Self::NotLearner,
        Self::LearnerNotReady,
        Self::TooManyLearners,
        Self::Unhealthy,
    ];

    /// Its number between peers.
    pub(super) fn code(self) -> u8 {
        let at = Self::ALL.iter().position(|it| *it == self).expect("all are there");
        u8::try_from(at).expect("they are few")
    }

    /// The refusal of this number.
    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A deterministic answer of the keyspace.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A deterministic answer about a lease.
    #[error(transparent)]
    Lease(#[from] LeaseRefusal),
    /// A change of members that is not made.
    #[error(transparent)]
    Member(MemberRefusal),
    /// This replica, now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

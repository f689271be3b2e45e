//! What nodes say to each other and what they keep: plain data, no behaviour but its own checks.

use std::fmt;

use bytes::Bytes;

use crate::raft::membership::ConfigData;
use crate::raft::membership::Membership;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;

/// What one entry counts besides its data, in bytes: its header here, on disk and on the wire.
///
/// Counted so that a flood of empty entries is bounded like one of large ones.
pub const ENTRY_OVERHEAD_SIZE: usize = 64;

/// Largest term and log index a node believes: far beyond any life, far from overflow.
pub const NUMBER_MAX: u64 = u64::MAX >> 2;

/// Terms of one *era*; more than there are elections in one.
///
/// A group whose members are set anew, without the majority that would have to agree, begins the
/// next era. Whoever has not come along speaks in a term of an earlier one, and is not answered, so
/// that it learns of no term that would be heard.
const ERA_SIZE: u64 = 1 << 32;

/// The era that a term belongs to.
pub(super) fn era(term: Term) -> u64 {
    term.0 / ERA_SIZE
}

/// The first term of the era after that of `term`; beyond [`NUMBER_MAX`] if there is none.
#[must_use]
pub fn next_era(term: Term) -> Term {
    Term((era(term) + 1).saturating_mul(ERA_SIZE))
}

/// What an entry is to consensus; the number is its code on disk and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// A command of the state machine; Raft does not look inside.
    Normal = 0,
    /// A membership change; the data is a [`ConfigData`].
    Config = 1,
    /// A new leader's first entry, without data: what it commits, commits all before it.
    Empty = 2,
}

impl EntryKind {
    /// The kind with this code, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Normal),
            1 => Some(Self::Config),
            2 => Some(Self::Empty),
            3.. => None,
        }
    }

    /// The code of this kind on disk and on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Normal => 0,
            Self::Config => 1,
            Self::Empty => 2,
        }
    }
}

/// One entry of the replicated log.
///
/// # Shape
/// `index` and `term` identify it: two entries with both alike are the same entry.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: Term,
    /// Its place in the log, from 1.
    pub index: LogIndex,
    /// What it is to consensus.
    pub kind: EntryKind,
    /// The command; shared, not copied, between log, disk and network.
    pub data: Bytes,
}

impl Entry {
    /// What it counts against limits, in bytes: its data and [`ENTRY_OVERHEAD_SIZE`].
    #[must_use]
    pub fn size(&self) -> usize {
        self.data.len() + ENTRY_OVERHEAD_SIZE
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{} {:?} {:?}", self.index, self.term, self.kind, self.data)
    }
}

/// Index and term of an entry: enough to tell whether two logs agree up to there.
///
/// # Shape
/// The order is that of §5.4.1 of the Raft paper, "more up to date": by term, then by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The entry's term; 0 only before the first entry.
    pub term: Term,
    /// The entry's index; 0 is before the first entry.
    pub index: LogIndex,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// What a node must remember besides its log.
///
/// # Durability
/// `term` and `vote` are durable before anything that rests on them leaves. `committed` is a hint
/// that saves work after a restart: it may lag, and never passes the entries stored before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term this node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
    /// The highest index it knew to be committed.
    pub committed: LogIndex,
}

/// What a snapshot covers: the last entry in it, and who the members were as of that entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The last entry whose effect the snapshot holds.
    pub last: Position,
    /// The membership in force at `last`.
    pub membership: Membership,
}

/// One message from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The sender's term; for [`Body::PreVote`] and its granted response, the term asked about.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Would you vote for me, if I began this term?
    PreVote {
        /// The end of the sender's log.
        last: Position,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteResponse {
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me.
    Vote {
        /// The end of the sender's log.
        last: Position,
        /// The leader itself asked for this election, so a live leader is no reason to refuse.
        transfer: bool,
    },
    /// The answer to [`Body::Vote`].
    VoteResponse {
        /// Whether the sender's vote, durable by now, is the receiver's.
        granted: bool,
    },
    /// Entries for the follower's log.
    Append {
        /// The entry before the first of `entries`.
        prev: Position,
        /// The entries, in order, without a gap.
        entries: Vec<Entry>,
        /// How far the leader has committed.
        committed: LogIndex,
    },
    /// The sender's log agrees with the leader's, durably, up to here.
    AppendResponse {
        /// The last index that agrees.
        matched: LogIndex,
    },
    /// The sender's log does not have the `prev` of an append.
    AppendRejected {
        /// The index of that `prev`.
        prev: LogIndex,
        /// The last place where the two logs may agree, as far as the sender can tell.
        hint: Position,
    },
    /// The leader lives.
    Heartbeat {
        /// How far the leader has committed, as far as the receiver is known to have the entries.
        committed: LogIndex,
        /// The round to answer with; 0 asks for no answer.
        round: u64,
    },
    /// The sender is in the leader's term.
    HeartbeatResponse {
        /// The round of the heartbeat.
        round: u64,
    },
    /// A whole state, its bytes having arrived before this message by another way.
    Snapshot {
        /// What it covers.
        mark: Mark,
    },
    /// Begin an election now.
    TimeoutNow,
    /// A follower asks where to read.
    ReadIndex {
        /// The follower's name for the question.
        id: u64,
    },
    /// The answer to [`Body::ReadIndex`].
    ReadIndexResponse {
        /// The follower's name for the question.
        id: u64,
        /// A state that holds this entry is new enough.
        index: LogIndex,
    },
}

impl Message {
    /// Whether it says something a node could have meant; others are dropped unread.
    ///
    /// # Shape
    /// Terms and indexes are at most [`NUMBER_MAX`]; entries follow `prev` without a gap, their
    /// terms never fall and never pass the message's, and membership in them can be read.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let sane = |position: &Position| {
            position.index.0 <= NUMBER_MAX
                && position.term <= self.term
                && (position.index.0 == 0) == (position.term.0 == 0)
        };
        if self.term.0 > NUMBER_MAX {
            return false;
        }
        match &self.body {
            Body::PreVote { last } | Body::Vote { last, .. } => sane(last),
            Body::Append { prev, entries, committed } => {
                sane(prev) && committed.0 <= NUMBER_MAX && follow(prev, entries, self.term)
            }
            Body::AppendResponse { matched } => matched.0 <= NUMBER_MAX,
            Body::AppendRejected { prev, hint } => {
                prev.0 <= NUMBER_MAX && hint.index.0 <= NUMBER_MAX && hint.term.0 <= NUMBER_MAX
            }
            Body::Heartbeat { committed, .. } => committed.0 <= NUMBER_MAX,
            Body::Snapshot { mark } => {
                sane(&mark.last) && mark.last.index.0 > 0 && mark.membership.is_well_formed()
            }
            Body::ReadIndexResponse { index, .. } => index.0 <= NUMBER_MAX,
            Body::PreVoteResponse { .. }
            | Body::VoteResponse { .. }
            | Body::HeartbeatResponse { .. }
            | Body::TimeoutNow
            | Body::ReadIndex { .. } => true,
        }
    }

    /// Whether only a leader says this.
    pub(super) fn is_from_leader(&self) -> bool {
        match self.body {
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot { .. } => true,
            Body::PreVote { .. }
            | Body::PreVoteResponse { .. }
            | Body::Vote { .. }
            | Body::VoteResponse { .. }
            | Body::AppendResponse { .. }
            | Body::AppendRejected { .. }
            | Body::HeartbeatResponse { .. }
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => false,
        }
    }
}

/// Whether the entries could stand after `prev` in a log whose last term is at most `term_max`.
pub(super) fn follow(prev: &Position, entries: &[Entry], term_max: Term) -> bool {
    let mut last = *prev;
    for entry in entries {
        let next = entry.index.0 == last.index.0 + 1 && entry.index.0 <= NUMBER_MAX;
        let ordered = entry.term >= last.term && entry.term.0 > 0 && entry.term <= term_max;
        let readable = entry.kind != EntryKind::Config || ConfigData::decode(&entry.data).is_some();
        if !next || !ordered || !readable {
            return false;
        }
        last = entry.position();
    }
    true
}

//! Consensus as a pure machine; it knows entries as bytes.
//!
//! A group of nodes agrees on one log. One of them leads: it alone adds entries, sends them to the
//! others and, once a majority holds an entry durably, calls it committed; every node then applies
//! the committed entries in order and so reaches the same state. When the leader falls silent,
//! another is elected, and the rule that a voter never helps a candidate whose log is behind its
//! own makes sure that it has everything ever committed.
//!
//! [`Node`] is that algorithm with nothing around it. It is told what happened ([`Input`], and the
//! calls that can be refused) and says what to do ([`Output`]). Time is [`Tick`], luck a seed.
//!
//! - **The disk is just another voter.** A leader sends new entries to its followers at once and
//!   counts itself when its own store completes; a commit may come from followers alone (thesis
//!   §10.2.1). What rests on durability (votes asked and given, append responses) is held back in
//!   `storage` until the store it rests on is done.
//! - **Batches make themselves.** All that is proposed between two polls leaves as one store and
//!   one message per follower; all reads between two polls share one round of heartbeats.
//! - **The log need not be in memory** (`log`): old entries are asked for with [`Output::Fetch`].
//!
//! What is deliberately left out: joint consensus (see `membership` for why), forwarding of
//! proposals (the caller knows the leader), and the bytes of snapshots (their marks pass here).
//!
//! The parts: `election` (who leads), `leader` (replication, commit), `follower` (its other
//! end), `read` (linearizable reads), and the data they stand on.

mod codec;
mod config;
mod election;
mod follower;
mod leader;
mod log;
mod membership;
mod message;
mod node;
mod progress;
mod quorum;
mod read;
mod storage;
#[cfg(test)]
mod tests;

pub use self::codec::DecodeError;
pub use self::codec::MESSAGE_SIZE_MAX;
pub use self::config::Config;
pub use self::membership::ConfigData;
pub use self::membership::MEMBER_COUNT_MAX;
pub use self::membership::Membership;
pub use self::membership::MembershipChange;
pub use self::message::Body;
pub use self::message::ENTRY_OVERHEAD_SIZE;
pub use self::message::Entry;
pub use self::message::EntryKind;
pub use self::message::HardState;
pub use self::message::Mark;
pub use self::message::Message;
pub use self::message::NUMBER_MAX;
pub use self::message::Position;
pub use self::message::next_era;
pub use self::node::Node;
pub use self::progress::PeerState;
pub use self::progress::PeerStatus;

use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;
use crate::types::Tick;

/// What one node is in the current term.
///
/// ```text
///            timeout              majority would            majority voted
/// Follower ─────────▶ PreCandidate ─────────▶ Candidate ─────────────▶ Leader
///     ▲                    │                      │                      │
///     └────────────────────┴──────────────────────┴──────────────────────┘
///       a leader of this term, any higher term, or a majority out of hearing
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes what the leader sends.
    #[default]
    Follower,
    /// Asks whether it could win.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Adds entries.
    Leader,
}

/// A store the node asked for, by order of asking, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the disk held when the process began.
///
/// # Shape
/// `snapshot.index <= base.index <= applied <= last`, where `last` is the last of `entries`, or
/// `base` when there are none; `hard_state.committed <= last`. Entries follow `base` without a gap.
/// What lies between `snapshot` and `base` is on disk and can be fetched; what lies before is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Restored {
    /// Term, vote and the commit index, as last stored.
    pub hard_state: HardState,
    /// The last entry that no longer exists as an entry; zero when none is missing.
    pub snapshot: Position,
    /// The entry before the first of `entries`.
    pub base: Position,
    /// The membership in force at `base`; at the very beginning, the group's first members.
    pub membership: Membership,
    /// The entries after `base`: at least all that the state machine has not applied.
    pub entries: Vec<Entry>,
    /// How far the state machine has come; [`Output::Commit`] goes on after it.
    pub applied: LogIndex,
}

impl Restored {
    /// What is wrong with it, if something is: it came from a disk.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check(&self) -> Result<(), &'static str> {
        let last = self.entries.last().map_or(self.base, Entry::position);
        let zero = |position: &Position| (position.index.0 == 0) == (position.term.0 == 0);
        let rules = [
            (self.hard_state.term.0 <= NUMBER_MAX, "the term is believable"),
            (last.term.0 <= NUMBER_MAX, "the log's last term is believable"),
            (zero(&self.snapshot) && zero(&self.base), "only the log's beginning has term 0"),
            (self.snapshot.index <= self.base.index, "the snapshot is at or before the base"),
            (self.snapshot.term <= self.base.term, "terms never fall"),
            (self.base.index <= self.applied, "what is not applied is among the entries"),
            (self.applied <= last.index, "the log holds all that is applied"),
            (self.hard_state.committed <= last.index, "the log holds all that is committed"),
            (self.membership.is_well_formed(), "the membership names each member once"),
            (
                message::follow(&self.base, &self.entries, last.term),
                "the entries follow the base without a gap",
            ),
        ];
        rules.iter().find(|rule| !rule.0).map_or(Ok(()), |rule| Err(rule.1))
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// It is now this late; never earlier than before, at least once per heartbeat.
    Tick(Tick),
    /// A peer said this.
    Message {
        /// The peer.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// The stores up to and including this one are durable.
    Stored {
        /// The last of them.
        ticket: Ticket,
    },
    /// The entries a [`Output::Fetch`] asked for; none where they no longer exist.
    Fetched {
        /// For whom.
        peer: NodeId,
        /// The first one asked for.
        first: LogIndex,
        /// A beginning of the range asked for: as many as fit a message, at least one.
        entries: Vec<Entry>,
    },
    /// What was sent to this peer may not have arrived.
    Unreachable {
        /// The peer.
        peer: NodeId,
    },
    /// This peer can be spoken to, for the first time or again.
    Reachable {
        /// The peer.
        peer: NodeId,
    },
    /// This peer ended the connection on which it speaks, as the end of its process does, and all
    /// that came over it has been handed in. A hint: what is said by it later counts as ever.
    HungUp {
        /// The peer.
        peer: NodeId,
    },
    /// A [`Output::SendSnapshot`] has ended.
    SnapshotSent {
        /// The receiver.
        peer: NodeId,
        /// The last index it covers; `None` if it failed.
        index: Option<LogIndex>,
    },
    /// Entries up to here no longer exist as entries: a snapshot on disk replaces them.
    Compacted {
        /// The last of them; durable, and handed over by [`Output::Commit`].
        last: Position,
    },
    /// Begin an election without waiting for the timeout.
    Campaign,
}

/// One thing to do. Every output is already safe to do.
///
/// # Durability
/// Stores and snapshot installations complete in the order given, and are reported by ticket.
/// [`Output::Commit`] may come before the entries are durable *here* (a majority elsewhere has
/// them), so state made from them must not outlive a crash that the log's end does not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Make this durable, then say [`Input::Stored`].
    Store {
        /// Its number.
        ticket: Ticket,
        /// Entries, in order; the first replaces what stands at its index and all after it.
        entries: Vec<Entry>,
        /// Term, vote and commit index, if they changed; with the entries or after, never before.
        hard_state: Option<HardState>,
    },
    /// Send this to a peer; it may be lost, late, doubled, out of order.
    Send {
        /// The peer.
        to: NodeId,
        /// What to say.
        message: Message,
    },
    /// Apply these: committed, in order, each exactly once since [`Restored::applied`].
    Commit {
        /// The entries.
        entries: Vec<Entry>,
    },
    /// A read may be answered from a state that holds `index`, which was handed over before this.
    Read {
        /// The read.
        context: u64,
        /// The entry it must see.
        index: LogIndex,
    },
    /// A read can not be answered: leadership was lost, or the leader is silent. Ask again.
    ReadLost {
        /// The read.
        context: u64,
    },
    /// Bring these entries from disk for a peer, then say [`Input::Fetched`].
    Fetch {
        /// For whom.
        peer: NodeId,
        /// The first one.
        first: LogIndex,
        /// The last one that is of use.
        last: LogIndex,
        /// Bring no more bytes than this, but at least one entry.
        size_max: usize,
    },
    /// Another membership is in force, from this entry on.
    Membership {
        /// The entry.
        index: LogIndex,
        /// The members.
        membership: Membership,
    },
    /// Term, role or leader are others than before.
    Role {
        /// The current term.
        term: Term,
        /// What this node is in it.
        role: Role,
        /// Who leads it, if known.
        leader: Option<NodeId>,
    },
    /// Send the state to a peer: its bytes, and then [`Body::Snapshot`] with [`Node::mark`] of the
    /// index it was taken at. Who has got the bytes may say that to itself, in the name of whoever
    /// leads: what is committed is so for every leader. Then say [`Input::SnapshotSent`].
    SendSnapshot {
        /// The peer.
        to: NodeId,
        /// The term of the message.
        term: Term,
        /// The least index that helps.
        index_min: LogIndex,
    },
    /// Replace log and state by the snapshot that came with this mark; then [`Input::Stored`].
    InstallSnapshot {
        /// Its number, one sequence with the stores.
        ticket: Ticket,
        /// What it covers.
        mark: Mark,
    },
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rejected {
    /// This node does not lead; the leader might be known.
    #[error("not the leader")]
    NotLeader {
        /// Who leads.
        leader: Option<NodeId>,
    },
    /// Leadership is on its way to another node.
    #[error("leadership is being transferred")]
    Transferring,
    /// A limit of [`Config`] is reached.
    #[error("too many requests")]
    Overloaded,
    /// A membership change is under way, or the leader too new to make one.
    #[error("a membership change is in progress")]
    ChangePending,
    /// The change makes no sense for the current members, or the receiver does not vote.
    #[error("no such member, or it is one already")]
    NoSuchChange,
}

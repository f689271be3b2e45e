//! A follower as its leader sees it: what it has, what is on its way, and how fast to go.

use std::collections::VecDeque;

use crate::raft::message::Position;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;

/// How a leader feeds one follower.
///
/// ```text
///         an append is accepted
/// Probe ─────────────────────────▶ Replicate
///   │ ▲ ◀───────────────────────────── │
///   │ │   rejected, or unreachable     │
///   │ │                                │ its next entry no longer exists
///   ▼ │ sent, failed or accepted       ▼
/// Snapshot ◀───────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// It is not known where its log ends: one append at a time.
    Probe,
    /// Its log agrees: appends follow each other, up to the window.
    Replicate,
    /// A snapshot is on its way; nothing else is.
    Snapshot,
}

/// One follower's progress, for a person to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerStatus {
    /// The follower.
    pub id: NodeId,
    /// How it is fed.
    pub state: PeerState,
    /// Up to here its log agrees, durably.
    pub matched: LogIndex,
    /// The next entry to send it.
    pub next: LogIndex,
    /// Appends on their way to it.
    pub inflight_count: usize,
    /// Whether it was heard since the leader last looked.
    pub is_active: bool,
}

/// One follower.
///
/// # Shape
/// `matched < next`; both only rise while the state is Replicate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) is_voter: bool,
    pub(super) state: PeerState,
    pub(super) matched: LogIndex,
    pub(super) next: LogIndex,
    /// In Probe: the probe is on its way, no other before its answer or that to a heartbeat before
    /// which it was stuck.
    pub(super) is_paused: bool,
    /// From one heartbeat that was due to the next it had nothing new: something may be lost. Until
    /// it answers a heartbeat, of any round: reads ask for many, and what is on its way may take
    /// longer than those.
    pub(super) is_stuck: bool,
    /// What it had when a heartbeat was last due.
    looked_at: LogIndex,
    pub(super) is_active: bool,
    /// The last round of heartbeats it has answered.
    pub(super) round: u64,
    /// The highest commit index it was told.
    pub(super) committed: LogIndex,
    /// The first entry asked of the disk for it.
    pub(super) fetch: Option<LogIndex>,
    /// The last entry that was fetched for it: the log in memory may not know its term.
    pub(super) fetched: Position,
    /// While it has not yet been sent all of the log: most appends on their way to it. What it
    /// lacks goes in small pieces, the next when one has come, so that the leader serves others
    /// in between; a long link is filled as this grows.
    pub(super) behind: Option<usize>,
    inflight: VecDeque<(LogIndex, usize)>,
    inflight_size: usize,
}

impl Peer {
    pub(super) fn new(id: NodeId, is_voter: bool, next: LogIndex) -> Self {
        Self {
            id,
            is_voter,
            state: PeerState::Probe,
            matched: LogIndex(0),
            next,
            is_paused: false,
            is_stuck: false,
            looked_at: LogIndex(0),
            is_active: true,
            round: 0,
            committed: LogIndex(0),
            fetch: None,
            fetched: Position::default(),
            behind: Some(1),
            inflight: VecDeque::new(),
            inflight_size: 0,
        }
    }

    pub(super) fn status(&self) -> PeerStatus {
        PeerStatus {
            id: self.id,
            state: self.state,
            matched: self.matched,
            next: self.next,
            inflight_count: self.inflight.len(),
            is_active: self.is_active,
        }
    }

    /// The term of the entry at `index`, if that was the last one fetched.
    pub(super) fn term(&self, index: LogIndex) -> Option<Term> {
        (self.fetched.index == index).then_some(self.fetched.term)
    }

    /// Starts over from what it surely has, or from `next` if that is more.
    pub(super) fn probe(&mut self, next: LogIndex) {
        self.state = PeerState::Probe;
        self.next = next.max(self.matched.next());
        self.is_paused = false;
        self.fetch = None;
        self.behind = Some(1);
        self.inflight.clear();
        self.inflight_size = 0;
    }

    /// Sends no entries until the snapshot is there.
    pub(super) fn snapshot(&mut self) {
        self.probe(self.next);
        self.state = PeerState::Snapshot;
    }

    /// Whether an append may leave now.
    pub(super) fn may_send(&self, count_max: usize, size_max: usize) -> bool {
        if self.fetch.is_some() {
            return false;
        }
        match self.state {
            PeerState::Probe => !self.is_paused,
            PeerState::Replicate => {
                let count_max = self.behind.map_or(count_max, |count| count.min(count_max));
                self.inflight.len() < count_max && self.inflight_size < size_max
            }
            PeerState::Snapshot => false,
        }
    }

    /// An append with these entries' last index and bytes has left.
    pub(super) fn sent(&mut self, last: LogIndex, size: usize) {
        match self.state {
            PeerState::Probe => self.is_paused = true,
            PeerState::Replicate => {
                self.inflight.push_back((last, size));
                self.inflight_size += size;
                self.next = last.next();
            }
            PeerState::Snapshot => {}
        }
    }

    /// A heartbeat is due. While it is behind, one more append may be on its way.
    pub(super) fn heartbeat(&mut self, count_max: usize) {
        self.is_stuck = self.matched == self.looked_at;
        self.looked_at = self.matched;
        if let Some(count) = &mut self.behind {
            *count = (*count + 1).min(count_max);
        }
    }

    /// The log ends at `last`: if all of it was sent, it is behind no more.
    pub(super) fn look_behind(&mut self, last: LogIndex) {
        if self.next > last {
            self.behind = None;
        }
    }

    /// It has everything up to `matched`; says whether that is news.
    pub(super) fn accepted(&mut self, matched: LogIndex) -> bool {
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(self.matched.next());
        while self.inflight.front().is_some_and(|sent| sent.0 <= matched) {
            self.inflight_size -= self.inflight.pop_front().expect("there is a front").1;
        }
        news
    }

    /// Its log agrees up to `matched`: from now on appends need not wait for each other.
    pub(super) fn replicate(&mut self) {
        self.probe(self.matched.next());
        self.state = PeerState::Replicate;
    }
}

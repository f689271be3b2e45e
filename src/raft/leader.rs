//! The leader's end of replication: proposals, appends, commit, transfer (paper §5.3, §5.4.2).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::raft::Config;
use crate::raft::Output;
use crate::raft::Rejected;
use crate::raft::Role;
use crate::raft::log::Log;
use crate::raft::membership::MEMBER_COUNT_MAX;
use crate::raft::message::Body;
use crate::raft::message::ENTRY_OVERHEAD_SIZE;
use crate::raft::message::Entry;
use crate::raft::message::EntryKind;
use crate::raft::message::Message;
use crate::raft::message::Position;
use crate::raft::node::Node;
use crate::raft::progress::Peer;
use crate::raft::progress::PeerState;
use crate::raft::quorum;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;
use crate::types::Tick;

/// Most bytes of entries in one append, or fetch, for a follower that is behind. 128 KiB: a few
/// hundred entries of the usual size, half a millisecond of a core.
const PIECE_SIZE_MAX: usize = 128 << 10;

/// Leadership on its way to another node (thesis §3.10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    /// When to give up and take proposals again.
    pub(super) deadline: Tick,
    /// Whether the node was told to begin.
    pub(super) is_sent: bool,
}

/// What sending needs of the node while its peers are walked over.
struct Feed<'a> {
    config: &'a Config,
    term: Term,
    log: &'a Log,
    outputs: &'a mut VecDeque<Output>,
}

impl Node {
    /// Whether a proposal of this many bytes is taken.
    pub(super) fn admit(&self, size: usize) -> Result<(), Rejected> {
        if self.role != Role::Leader {
            return Err(Rejected::NotLeader { leader: self.leader });
        }
        if self.transfer.is_some() {
            return Err(Rejected::Transferring);
        }
        let pending = self.log.pending_size();
        let size = size.saturating_add(ENTRY_OVERHEAD_SIZE);
        // One that is too large on its own may pass when nothing else waits.
        if pending > 0 && pending.saturating_add(size) > self.config.proposals_size_max {
            return Err(Rejected::Overloaded);
        }
        Ok(())
    }

    /// Adds an entry of this leader's own to the log.
    pub(super) fn append(&mut self, kind: EntryKind, data: Bytes) -> LogIndex {
        let index = self.log.last().index.next();
        self.take(Entry { term: self.term, index, kind, data });
        index
    }

    /// A majority voted for this node.
    pub(super) fn lead(&mut self) {
        assert!(self.role == Role::Candidate, "only a candidate is elected");
        self.ballots.clear();
        self.role = Role::Leader;
        self.leader = Some(self.config.id);
        self.heartbeat_deadline = self.after(self.config.heartbeat_ticks);
        self.quorum_deadline = self.after(self.config.election_ticks);
        self.reads.begin_term();
        self.sync_peers();
        self.term_start = self.append(EntryKind::Empty, Bytes::new());
    }

    /// Brings the peers in line with the membership.
    pub(super) fn sync_peers(&mut self) {
        let membership = self.members.current();
        let next = self.log.last().index.next();
        let own = self.config.id;
        let peers = std::mem::take(&mut self.peers).into_iter();
        let (stay, gone): (Vec<_>, Vec<_>) = peers.partition(|peer| membership.contains(peer.id));
        self.peers = stay;
        for id in membership.members().filter(|id| *id != own) {
            let is_voter = membership.is_voter(id);
            match self.peers.binary_search_by_key(&id, |peer| peer.id) {
                Ok(at) => self.peers[at].is_voter = is_voter,
                Err(at) => self.peers.insert(at, Peer::new(id, is_voter, next)),
            }
        }
        if self.transfer.as_ref().is_some_and(|transfer| !membership.is_voter(transfer.to)) {
            self.transfer = None;
        }
        for peer in gone {
            self.see_off(peer);
        }
    }

    /// The last entry removes a peer, which is to have it: somebody may have asked that one.
    fn see_off(&mut self, mut peer: Peer) {
        let last = self.log.last();
        if peer.state != PeerState::Replicate || peer.next <= self.log.base() {
            return;
        }
        let Self { config, term, log, outputs, .. } = self;
        let mut feed = Feed { config, term: *term, log, outputs };
        while feed.step(&mut peer) {}
        if peer.next > last.index {
            self.leaver = Some((peer.id, last));
        }
    }

    /// The peer that has got the entry that removes it is told once that is committed: it belongs
    /// to nobody's quorum, and what it answers is of no use.
    fn take_leave(&mut self) {
        let committed = self.log.committed();
        if let Some((id, prev)) = self.leaver.take_if(|(_, last)| last.index <= committed) {
            self.send(id, Body::Append { prev, entries: Vec::new(), committed: prev.index });
        }
    }

    fn peer(&mut self, id: NodeId) -> Option<&mut Peer> {
        let at = self.peers.binary_search_by_key(&id, |peer| peer.id).ok()?;
        Some(&mut self.peers[at])
    }

    /// A majority's lowest number: of each other voter what `each` says, of this one `own`.
    pub(super) fn reached<T>(&self, own: T, each: impl Fn(&Peer) -> T) -> T
    where
        T: Copy + Ord + Default,
    {
        let mut numbers = [T::default(); MEMBER_COUNT_MAX];
        let mut count = 0;
        let voters = self.peers.iter().filter(|peer| peer.is_voter).map(each);
        for number in voters.chain(self.is_voter().then_some(own)) {
            numbers[count] = number;
            count += 1;
        }
        quorum::reached(&mut numbers[..count])
    }

    /// Commits what a majority holds durably, if it is of this term (paper §5.4.2).
    pub(super) fn advance(&mut self) {
        let durable = self.log.durable();
        let index =
            if self.is_alone() { durable } else { self.reached(durable, |peer| peer.matched) };
        if index <= self.log.committed() || self.log.term(index) != Some(self.term) {
            return;
        }
        self.log.commit(index);
        self.take_leave();
        if !self.is_voter() && self.members.index() <= index {
            // It led up to its own removal; now the others go on without it (thesis §4.2.2). That
            // it is committed, they should hear from the one who knows.
            self.feed_peers();
            self.follow(self.term, None);
        }
    }

    /// Time passes for a leader.
    pub(super) fn lead_on(&mut self) {
        if self.transfer.as_ref().is_some_and(|transfer| transfer.deadline <= self.now) {
            self.transfer = None;
        }
        if self.now >= self.quorum_deadline {
            self.quorum_deadline = self.after(self.config.election_ticks);
            let is_heard = self.reached(true, |peer| peer.is_active);
            if self.config.check_quorum && !is_heard {
                return self.follow(self.term, None);
            }
            for peer in &mut self.peers {
                peer.is_active = false;
            }
        }
        if self.now >= self.heartbeat_deadline {
            self.heartbeat_deadline = self.after(self.config.heartbeat_ticks);
            for peer in &mut self.peers {
                peer.heartbeat(self.config.inflight_count_max);
            }
            self.beat();
        }
    }

    /// Sends everyone a heartbeat of a new round.
    pub(super) fn beat(&mut self) {
        if self.peers.is_empty() {
            return;
        }
        let round = self.reads.next_round(self.now, self.config.leader_lease);
        let committed = self.log.committed();
        for peer in &mut self.peers {
            let committed = committed.min(peer.matched);
            peer.committed = peer.committed.max(committed);
            let message = Message { term: self.term, body: Body::Heartbeat { committed, round } };
            self.outputs.push_back(Output::Send { to: peer.id, message });
        }
    }

    pub(super) fn on_append_response(&mut self, from: NodeId, matched: LogIndex) {
        let (last, snapshot) = (self.log.last().index, self.log.snapshot().index);
        let Some(peer) = self.peer(from) else { return };
        if matched > last {
            return;
        }
        peer.is_active = true;
        let is_news = peer.accepted(matched);
        match peer.state {
            PeerState::Probe => peer.replicate(),
            PeerState::Replicate => {}
            PeerState::Snapshot if peer.matched >= snapshot => peer.replicate(),
            PeerState::Snapshot => {}
        }
        peer.look_behind(last);
        if is_news {
            self.advance();
        }
    }

    pub(super) fn on_append_rejected(&mut self, from: NodeId, prev: LogIndex, hint: Position) {
        let meet = self.log.last_within(hint.index, hint.term).index;
        let Some(peer) = self.peer(from) else { return };
        peer.is_active = true;
        match peer.state {
            // It rejects what was sent before it accepted something later: old news.
            PeerState::Replicate if prev <= peer.matched => {}
            PeerState::Replicate => peer.probe(LogIndex(0)),
            PeerState::Probe if prev.next() == peer.next => peer.probe(prev.min(meet.next())),
            PeerState::Probe | PeerState::Snapshot => {}
        }
    }

    pub(super) fn on_heartbeat_response(&mut self, from: NodeId, round: u64) {
        let (term, committed) = (self.term, self.log.committed());
        let (round_last, log) = (self.reads.round(), &self.log);
        let Ok(at) = self.peers.binary_search_by_key(&from, |peer| peer.id) else { return };
        let peer = &mut self.peers[at];
        peer.is_active = true;
        if peer.round < round && round <= round_last {
            peer.round = round;
        }
        let is_stuck = std::mem::take(&mut peer.is_stuck);
        peer.is_paused &= !is_stuck;
        let prev = LogIndex(peer.next.0 - 1);
        if is_stuck && peer.state == PeerState::Replicate && peer.matched < prev {
            // Something is still unanswered. Was it lost, this tells; if not, it costs little.
            if let Some(prev_term) = log.term(prev).or_else(|| peer.term(prev)) {
                let prev = Position { term: prev_term, index: prev };
                let body = Body::Append { prev, entries: Vec::new(), committed };
                let message = Message { term, body };
                self.outputs.push_back(Output::Send { to: from, message });
            } else {
                peer.probe(LogIndex(0));
            }
        }
        self.confirm_reads();
    }

    /// A peer can be spoken to again: what it was sent meanwhile is lost. It may doubt this leader,
    /// whose last connection has ended, and is to hear a heartbeat before it stands.
    pub(super) fn on_reachable(&mut self, id: NodeId) {
        if let Some(peer) = self.peer(id) {
            peer.is_paused = false;
            self.beat();
        }
    }

    pub(super) fn on_unreachable(&mut self, id: NodeId) {
        if let Some(peer) = self.peer(id)
            && peer.state == PeerState::Replicate
        {
            peer.probe(LogIndex(0));
        }
    }

    pub(super) fn on_snapshot_sent(&mut self, id: NodeId, index: Option<LogIndex>) {
        let last = self.log.last().index;
        if let Some(peer) = self.peer(id)
            && peer.state == PeerState::Snapshot
        {
            // If it was not, the peer is asked where its log ends: it may have got it all the same.
            peer.probe(index.map_or(last, |index| index.min(last)).next());
            // It takes a while to put in place; the answer, or a heartbeat's, goes on from there.
            peer.is_paused = true;
        }
    }

    pub(super) fn on_fetched(&mut self, id: NodeId, first: LogIndex, mut entries: Vec<Entry>) {
        let (term, committed) = (self.term, self.log.committed());
        let snapshot = self.log.snapshot().index;
        let Ok(at) = self.peers.binary_search_by_key(&id, |peer| peer.id) else { return };
        let peer = &mut self.peers[at];
        if peer.fetch != Some(first) {
            // It is fed from elsewhere by now.
            return;
        }
        peer.fetch = None;
        let prev = LogIndex(peer.next.0 - 1);
        if first != prev && first != peer.next {
            // It had more than was known when they were asked for.
            return;
        }
        let Some(entry) = entries.first() else {
            // They are gone. If the log does not say so yet, it is asked again, but not at once.
            peer.probe(peer.next);
            peer.is_paused = peer.next > snapshot;
            return;
        };
        assert!(entry.index == first, "fetched entries begin where they were asked for");
        let is_last = entries.last().is_some_and(|entry| entry.index <= self.log.last().index);
        assert!(is_last, "fetched entries are of this log");
        let prev_term = if first == prev {
            Some(entries.remove(0).term)
        } else {
            self.log.term(prev).or_else(|| peer.term(prev))
        };
        let Some(prev_term) = prev_term else { return };
        let prev = Position { term: prev_term, index: prev };
        peer.fetched = entries.last().map_or(prev, Entry::position);
        if entries.is_empty() {
            // What follows lies elsewhere on the disk; now it can be asked for by itself.
            return;
        }
        let size = entries.iter().map(Entry::size).sum();
        let last = entries.last().map_or(prev.index, |entry| entry.index);
        peer.sent(last, size);
        let message = Message { term, body: Body::Append { prev, entries, committed } };
        assert!(message.is_well_formed(), "fetched entries follow each other");
        self.outputs.push_back(Output::Send { to: id, message });
    }

    /// Sends every peer what it may have by now.
    pub(super) fn feed_peers(&mut self) {
        let Self { config, term, log, outputs, peers, .. } = self;
        let mut feed = Feed { config, term: *term, log, outputs };
        for peer in peers {
            while feed.step(peer) {}
            feed.tell_commit(peer);
        }
        self.finish_transfer();
    }

    /// Tells the node that is to lead to begin, once it has everything.
    fn finish_transfer(&mut self) {
        let last = self.log.last().index;
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| !transfer.is_sent) else {
            return;
        };
        let to = transfer.to;
        if self.peers.iter().any(|peer| peer.id == to && peer.matched == last) {
            transfer.is_sent = true;
            // From here on others may vote while they hear this leader, at any later time.
            self.reads.void_lease();
            self.send(to, Body::TimeoutNow);
        }
    }
}

impl Feed<'_> {
    fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { term: self.term, body };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Does one thing for a peer, if there is one to do; says whether to go on.
    fn step(&mut self, peer: &mut Peer) -> bool {
        let (count_max, size_max) = (self.config.inflight_count_max, self.config.inflight_size_max);
        let last = self.log.last().index;
        let is_idle = peer.state == PeerState::Replicate && peer.next > last;
        if is_idle || !peer.may_send(count_max, size_max) {
            return false;
        }
        let (to, prev) = (peer.id, LogIndex(peer.next.0 - 1));
        if prev < self.log.snapshot().index {
            peer.snapshot();
            let index_min = self.log.snapshot().index;
            self.outputs.push_back(Output::SendSnapshot { to, term: self.term, index_min });
            return false;
        }
        let size_max = match peer.behind {
            Some(_) => self.config.append_size_max.min(PIECE_SIZE_MAX),
            None => self.config.append_size_max,
        };
        let prev_term = self.log.term(prev).or_else(|| peer.term(prev));
        let (Some(term), true) = (prev_term, prev >= self.log.base()) else {
            let first = if prev_term.is_none() { prev } else { peer.next };
            peer.fetch = Some(first);
            let last = self.log.base();
            self.outputs.push_back(Output::Fetch { peer: to, first, last, size_max });
            return false;
        };
        let entries =
            if peer.next > last { Vec::new() } else { self.log.slice(peer.next, last, size_max) };
        let size = entries.iter().map(Entry::size).sum();
        let end = entries.last().map_or(prev, |entry| entry.index);
        let committed = self.log.committed();
        peer.committed = peer.committed.max(committed.min(end));
        peer.sent(end, size);
        peer.look_behind(last);
        self.send(to, Body::Append { prev: Position { term, index: prev }, entries, committed });
        true
    }

    /// Tells a peer how far it may apply, if no append has.
    fn tell_commit(&mut self, peer: &mut Peer) {
        let committed = self.log.committed().min(peer.matched);
        if peer.state == PeerState::Replicate && peer.committed < committed {
            peer.committed = committed;
            self.send(peer.id, Body::Heartbeat { committed, round: 0 });
        }
    }
}

//! Who leads: timeouts, pre-votes, votes (paper §5.2, §5.4.1; thesis §4.2.3, §9.6).

use crate::raft::Output;
use crate::raft::Role;
use crate::raft::message::Body;
use crate::raft::message::Message;
use crate::raft::message::NUMBER_MAX;
use crate::raft::message::Position;
use crate::raft::message::era;
use crate::raft::node::Node;
use crate::raft::quorum;
use crate::raft::quorum::Tally;
use crate::types::NodeId;
use crate::types::Term;
use crate::types::Tick;

/// Followers whose leader hung up stand one after the other, this part of the election timeout
/// apart: long enough for votes to become durable before the next one stands.
const DOUBT_SHARE: u64 = 8;

impl Node {
    pub(super) fn on_message(&mut self, from: NodeId, message: Message) {
        if from == self.config.id || from.0 == 0 || !message.is_well_formed() {
            return;
        }
        // Not even answered: whoever was left behind would learn of a term of this era.
        if era(message.term) < era(self.term) {
            return;
        }
        match message.body {
            // Neither speaks of a term that is.
            Body::PreVote { last } => return self.on_pre_vote(from, message.term, last),
            Body::PreVoteResponse { granted: true } => {
                if self.role == Role::PreCandidate && message.term.0 == self.term.0 + 1 {
                    self.on_ballot(from, true);
                }
                return;
            }
            // While a leader is near, an election that it did not ask for is no news.
            Body::Vote { transfer: false, .. } if self.is_bound() => return,
            Body::PreVoteResponse { granted: false }
            | Body::Vote { .. }
            | Body::VoteResponse { .. }
            | Body::Append { .. }
            | Body::AppendResponse { .. }
            | Body::AppendRejected { .. }
            | Body::Heartbeat { .. }
            | Body::HeartbeatResponse { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow
            | Body::ReadIndex { .. }
            | Body::ReadIndexResponse { .. } => {}
        }
        if message.term < self.term {
            return self.on_stale(from, &message);
        }
        if message.term > self.term {
            self.follow(message.term, None);
        }
        if message.is_from_leader() && !self.on_leader(from) {
            return;
        }
        self.on_body(from, message.body);
    }

    /// A message of the current term.
    fn on_body(&mut self, from: NodeId, body: Body) {
        match body {
            Body::Vote { last, .. } => self.on_vote(from, last),
            Body::PreVoteResponse { granted } => {
                if self.role == Role::PreCandidate {
                    self.on_ballot(from, granted);
                }
            }
            Body::VoteResponse { granted } => {
                if self.role == Role::Candidate {
                    self.on_ballot(from, granted);
                }
            }
            Body::Append { prev, entries, committed } => {
                self.on_append(from, prev, entries, committed);
            }
            Body::Heartbeat { committed, round } => self.on_heartbeat(from, committed, round),
            Body::Snapshot { mark } => self.on_snapshot(mark),
            Body::AppendResponse { matched } => self.on_append_response(from, matched),
            Body::AppendRejected { prev, hint } => self.on_append_rejected(from, prev, hint),
            Body::HeartbeatResponse { round } => self.on_heartbeat_response(from, round),
            Body::TimeoutNow => {
                if self.leader == Some(from) && self.role != Role::Leader {
                    self.campaign(true);
                }
            }
            Body::ReadIndex { id } => self.on_read_index(from, id),
            Body::ReadIndexResponse { id, index } => self.on_read_index_response(from, id, index),
            Body::PreVote { .. } => {}
        }
    }

    /// A message of an earlier term: its sender is told the present one, where it would not
    /// otherwise learn it and could go on for ever.
    fn on_stale(&mut self, from: NodeId, message: &Message) {
        if message.is_from_leader() {
            self.send_durable(from, Body::HeartbeatResponse { round: 0 });
        } else if matches!(message.body, Body::Vote { .. }) {
            self.send_durable(from, Body::VoteResponse { granted: false });
        }
    }

    /// A leader of this term speaks; says whether it is to be listened to.
    fn on_leader(&mut self, from: NodeId) -> bool {
        if self.role == Role::Leader || self.leader.is_some_and(|leader| leader != from) {
            // Two leaders in one term: not Raft's doing. Whoever was first is believed.
            return false;
        }
        if self.role != Role::Follower || self.leader.is_none() {
            self.follow(self.term, Some(from));
        }
        self.reset_election();
        self.vote_after = self.after(self.config.election_ticks);
        true
    }

    /// Whether a leader was heard so lately that this node helps no other into its place.
    pub(super) fn is_bound(&self) -> bool {
        if !self.config.check_quorum || self.is_alone() {
            return false;
        }
        let is_new = !self.has_begun && self.config.leader_lease;
        self.role == Role::Leader || is_new || self.now < self.vote_after
    }

    /// This peer hung up. If it is the leader, its process may have ended, and this node stands
    /// soon, unless it speaks again before that.
    ///
    /// Each voter has a turn of its own after a heartbeat, so that votes are not split; whose
    /// turn is first changes with the term. Voters that still hear the leader refuse, and nobody
    /// begins a term. Where answers rest on clocks this node has promised its silence and keeps it.
    pub(super) fn doubt_leader(&mut self, peer: NodeId) {
        let is_leader = self.role == Role::Follower && self.leader == Some(peer);
        if !is_leader || !self.config.pre_vote || self.config.leader_lease {
            return;
        }
        self.vote_after = self.now;
        let wait = self.config.election_ticks / DOUBT_SHARE * self.turn_after(peer);
        let soon = self.after(self.config.heartbeat_ticks + wait);
        self.election_deadline = self.election_deadline.min(soon);
    }

    /// How many voters stand before this node when this leader is gone.
    fn turn_after(&self, leader: NodeId) -> u64 {
        let voters = self.members.current().voters();
        let others: Vec<NodeId> = voters.iter().copied().filter(|id| *id != leader).collect();
        let count = others.len() as u64;
        let own = others.iter().take_while(|id| **id != self.config.id).count() as u64;
        if count == 0 { 0 } else { (own + self.term.0 % count) % count }
    }

    /// Becomes a follower in this term, not earlier than the current one.
    pub(super) fn follow(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.term, "terms never fall");
        if term > self.term {
            self.enter(term, None);
        }
        self.role = Role::Follower;
        self.leader = leader;
        self.leave_office();
        self.reset_election();
    }

    /// Begins a term.
    fn enter(&mut self, term: Term, vote: Option<NodeId>) {
        self.term = term;
        self.vote = vote;
        self.storage.forget();
        self.agreed.0 = 0;
        self.acked.0 = 0;
        self.is_ack_due = false;
    }

    /// Lets go of what belongs to a role that ended.
    fn leave_office(&mut self) {
        self.ballots.clear();
        self.own_ballot = None;
        self.peers.clear();
        self.leaver = None;
        self.transfer = None;
        self.lose_reads();
    }

    pub(super) fn reset_election(&mut self) {
        let spread = self.config.election_ticks;
        let luck = self.roll() % spread;
        self.election_deadline = self.after(spread + luck);
    }

    /// The next random number (splitmix64).
    fn roll(&mut self) -> u64 {
        self.luck = self.luck.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.luck;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Runs for leader, if this node may; with `transfer` on the leader's own word.
    pub(super) fn campaign(&mut self, transfer: bool) {
        if self.role == Role::Leader || !self.may_stand() || self.term.0 >= NUMBER_MAX {
            return;
        }
        self.leader = None;
        self.leave_office();
        if transfer || !self.config.pre_vote {
            return self.stand(transfer);
        }
        self.role = Role::PreCandidate;
        let last = self.log.last();
        let term = Term(self.term.0 + 1);
        for to in self.other_voters() {
            let message = Message { term, body: Body::PreVote { last } };
            self.outputs.push_back(Output::Send { to, message });
        }
        self.on_ballot(self.config.id, true);
    }

    /// Becomes a candidate in the next term.
    ///
    /// # Durability
    /// The requests wait until the own vote is durable. Were they sent before, a crash could bring
    /// this node back in the old term; it would begin the same term again, with less in its log,
    /// and count votes that were given for more.
    fn stand(&mut self, transfer: bool) {
        self.enter(Term(self.term.0 + 1), Some(self.config.id));
        self.role = Role::Candidate;
        self.ballots.clear();
        self.reset_election();
        self.own_ballot = Some(self.storage.needs_hard(self.hard()));
        let last = self.log.last();
        for to in self.other_voters() {
            self.send_durable(to, Body::Vote { last, transfer });
        }
    }

    fn other_voters(&self) -> Vec<NodeId> {
        let voters = self.members.current().voters();
        voters.iter().copied().filter(|id| *id != self.config.id).collect()
    }

    /// A voter, perhaps this node, has answered a pre-candidate or a candidate.
    pub(super) fn on_ballot(&mut self, from: NodeId, granted: bool) {
        if self.ballots.iter().any(|ballot| ballot.0 == from) {
            return;
        }
        let voters = self.members.current();
        if voters.is_voter(from) {
            self.ballots.push((from, granted));
        }
        let count = |granted| {
            let of_voter = |ballot: &&(NodeId, bool)| voters.is_voter(ballot.0);
            self.ballots.iter().filter(of_voter).filter(|ballot| ballot.1 == granted).count()
        };
        match quorum::tally(voters.voters().len(), count(true), count(false)) {
            Tally::Open => {}
            Tally::Lost => self.follow(self.term, None),
            Tally::Won if self.role == Role::PreCandidate => self.stand(false),
            Tally::Won => self.lead(),
        }
    }

    fn on_pre_vote(&mut self, from: NodeId, term: Term, last: Position) {
        if self.is_bound() {
            return;
        }
        let granted = term > self.term && last >= self.log.last();
        let message = Message {
            term: if granted { term } else { self.term },
            body: Body::PreVoteResponse { granted },
        };
        self.outputs.push_back(Output::Send { to: from, message });
    }

    /// A vote is asked for in the current term.
    ///
    /// Any node answers, even one that its own log does not call a voter: the log may be behind
    /// (thesis §4.2.2).
    fn on_vote(&mut self, from: NodeId, last: Position) {
        let is_free = self.vote.is_none() && self.leader.is_none();
        let granted = (is_free || self.vote == Some(from)) && last >= self.log.last();
        if granted && self.vote.is_none() {
            self.vote = Some(from);
            if self.role == Role::PreCandidate {
                self.follow(self.term, None);
            }
            self.reset_election();
        }
        self.send_durable(from, Body::VoteResponse { granted });
    }

    /// The latest moment at which a follower's promise not to vote still helps, from when it was
    /// asked for: a quarter of the timeout is left for clocks and ticks that do not agree.
    pub(super) fn lease_end(&self, asked: Tick) -> Tick {
        Tick(asked.0.saturating_add(self.config.election_ticks / 4 * 3))
    }
}

//! The node: its state, its door, and the order in which outputs leave.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::raft::Config;
use crate::raft::Input;
use crate::raft::Output;
use crate::raft::Rejected;
use crate::raft::Restored;
use crate::raft::Role;
use crate::raft::Ticket;
use crate::raft::leader::Transfer;
use crate::raft::log::Log;
use crate::raft::membership::ConfigData;
use crate::raft::membership::History;
use crate::raft::membership::Membership;
use crate::raft::membership::MembershipChange;
use crate::raft::message::Body;
use crate::raft::message::Entry;
use crate::raft::message::EntryKind;
use crate::raft::message::HardState;
use crate::raft::message::Mark;
use crate::raft::message::Message;
use crate::raft::message::Position;
use crate::raft::progress::Peer;
use crate::raft::progress::PeerStatus;
use crate::raft::read::Reads;
use crate::raft::storage::Storage;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;
use crate::types::Tick;

/// One member of a group that agrees on one log.
///
/// # Shape
/// Handle any number of inputs, then [`Node::poll`] until `None`: what came together leaves
/// together, and outputs do not pile up. Total: no input fails or blocks; what a peer says that
/// makes no sense is dropped.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) config: Config,
    pub(super) term: Term,
    pub(super) vote: Option<NodeId>,
    pub(super) role: Role,
    pub(super) leader: Option<NodeId>,
    pub(super) log: Log,
    pub(super) storage: Storage,
    pub(super) members: History,
    pub(super) outputs: VecDeque<Output>,

    /// A candidate's votes, its own included once durable.
    pub(super) ballots: Vec<(NodeId, bool)>,
    /// The store that makes a candidate's own vote durable.
    pub(super) own_ballot: Option<Ticket>,

    /// A leader's view of all members but itself, by rising id.
    pub(super) peers: Vec<Peer>,
    /// Who was removed by a leader's entry, has got it, and is to hear that it is committed.
    pub(super) leaver: Option<(NodeId, Position)>,
    /// A leader's first entry of its term.
    pub(super) term_start: LogIndex,
    pub(super) transfer: Option<Transfer>,
    pub(super) reads: Reads,

    /// How far the log agrees with that of this term's leader.
    pub(super) agreed: LogIndex,
    /// The leader awaits word of `agreed`.
    pub(super) is_ack_due: bool,
    /// A store was done while it was due.
    pub(super) is_ack_ripe: bool,
    /// What the leader was last told.
    pub(super) acked: LogIndex,
    /// A snapshot to install, not yet asked for.
    pub(super) install: Option<Mark>,
    /// The last installation asked for.
    pub(super) install_ticket: Ticket,

    pub(super) now: Tick,
    /// Whether `now` means anything yet.
    pub(super) has_begun: bool,
    pub(super) election_deadline: Tick,
    pub(super) heartbeat_deadline: Tick,
    pub(super) quorum_deadline: Tick,
    /// No vote before this: a leader was heard.
    pub(super) vote_after: Tick,
    pub(super) luck: u64,
    told: (Term, Role, Option<NodeId>),
}

impl Node {
    /// A node as it comes back from its disk, or for the first time. A group of one campaigns at
    /// once.
    ///
    /// # Shape
    /// `seed` differs between starts: it also names this life's questions to leaders.
    ///
    /// # Panics
    /// If `config` or `restored` fails its `check`.
    #[must_use]
    pub fn new(config: Config, restored: Restored, seed: u64) -> Self {
        assert_eq!(config.check(), Ok(()), "the configuration makes sense");
        assert_eq!(restored.check(), Ok(()), "what was restored makes sense");
        let Restored { hard_state, snapshot, base, membership, entries, applied } = restored;
        let mut members = History::new(base.index, membership);
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Config) {
            let data = ConfigData::decode(&entry.data).expect("restored entries were checked");
            members.push(entry.index, data.membership);
        }
        let log = Log::new(snapshot, base, entries, hard_state.committed.max(base.index), applied);
        members.settle(applied);
        // A crash between an entry and the hard state of its term leaves the entry ahead. Nothing
        // can rest on that term yet, its vote included.
        let newer = log.last().term > hard_state.term;
        let mut node = Self {
            term: hard_state.term.max(log.last().term),
            vote: if newer { None } else { hard_state.vote },
            role: Role::Follower,
            leader: None,
            log,
            storage: Storage::new(hard_state),
            members,
            outputs: VecDeque::new(),
            ballots: Vec::new(),
            own_ballot: None,
            peers: Vec::new(),
            leaver: None,
            term_start: LogIndex(0),
            transfer: None,
            reads: Reads::new(seed),
            agreed: LogIndex(0),
            is_ack_due: false,
            is_ack_ripe: false,
            acked: LogIndex(0),
            install: None,
            install_ticket: Ticket(0),
            now: Tick(0),
            has_begun: false,
            election_deadline: Tick(0),
            heartbeat_deadline: Tick(0),
            quorum_deadline: Tick(0),
            vote_after: Tick(0),
            luck: seed,
            told: (Term(0), Role::Follower, None),
            config,
        };
        node.told = (node.term, node.role, node.leader);
        if node.is_alone() {
            node.campaign(false);
        }
        node
    }

    /// Takes in one thing that happened.
    ///
    /// # Panics
    /// If the caller reports a store it was not asked for, or entries it was not asked to fetch.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Tick(now) => self.on_tick(now),
            Input::Message { from, message } => self.on_message(from, message),
            Input::Stored { ticket } => self.on_stored(ticket),
            Input::Fetched { peer, first, entries } => self.on_fetched(peer, first, entries),
            Input::Unreachable { peer } => self.on_unreachable(peer),
            Input::Reachable { peer } => self.on_reachable(peer),
            Input::HungUp { peer } => self.doubt_leader(peer),
            Input::SnapshotSent { peer, index } => self.on_snapshot_sent(peer, index),
            Input::Compacted { last } => self.log.compact(last),
            Input::Campaign => {
                if !self.is_bound() {
                    self.campaign(false);
                }
            }
        }
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.flush();
        }
        self.outputs.pop_front()
    }

    /// Adds a command to the log, if this node leads; its index and the current term name it.
    ///
    /// # Errors
    /// [`Rejected::NotLeader`], [`Rejected::Transferring`], [`Rejected::Overloaded`].
    ///
    /// # Cost
    /// No allocation; `data` is moved.
    pub fn propose(&mut self, data: Bytes) -> Result<LogIndex, Rejected> {
        self.admit(data.len())?;
        Ok(self.append(EntryKind::Normal, data))
    }

    /// Adds a membership change to the log; it is in force at once, and final when committed.
    ///
    /// `context` travels with it for the caller's own use ([`ConfigData`]).
    ///
    /// # Errors
    /// As [`Node::propose`], and [`Rejected::ChangePending`], [`Rejected::NoSuchChange`].
    pub fn propose_change(
        &mut self,
        change: MembershipChange,
        context: Bytes,
    ) -> Result<LogIndex, Rejected> {
        self.admit(context.len())?;
        let committed = self.log.committed();
        if self.members.index() > committed || self.term_start > committed {
            return Err(Rejected::ChangePending);
        }
        let membership = self.members.current().changed(change).ok_or(Rejected::NoSuchChange)?;
        let data = ConfigData { membership, context }.encode();
        Ok(self.append(EntryKind::Config, data))
    }

    /// Asks where to read so as to see all that was committed before now, answered by
    /// [`Output::Read`] or [`Output::ReadLost`]. A follower asks its leader.
    ///
    /// # Errors
    /// [`Rejected::NotLeader`] when no leader is known, [`Rejected::Overloaded`].
    pub fn read(&mut self, context: u64) -> Result<(), Rejected> {
        self.leader.ok_or(Rejected::NotLeader { leader: None })?;
        self.reads.ask(context, self.config.reads_max)
    }

    /// Hands leadership to another voter, as soon as it has the whole log; for at most
    /// `election_ticks` no proposal is taken meanwhile. To this node itself: nothing happens.
    ///
    /// # Errors
    /// [`Rejected::NotLeader`]; [`Rejected::NoSuchChange`] if `to` does not vote.
    pub fn transfer(&mut self, to: NodeId) -> Result<(), Rejected> {
        if self.role != Role::Leader {
            return Err(Rejected::NotLeader { leader: self.leader });
        }
        if !self.members.current().is_voter(to) {
            return Err(Rejected::NoSuchChange);
        }
        if to != self.config.id && self.transfer.as_ref().is_none_or(|transfer| transfer.to != to) {
            let deadline = self.after(self.config.election_ticks);
            self.transfer = Some(Transfer { to, deadline, is_sent: false });
        }
        Ok(())
    }

    /// Lets an election come nearly an election timeout sooner, in two heartbeats at the soonest:
    /// enough to hear a leader that is there.
    pub fn hasten(&mut self) {
        let least = 2 * self.config.heartbeat_ticks;
        let skipped = self.config.election_ticks.saturating_sub(least);
        let sooner = Tick(self.election_deadline.0.saturating_sub(skipped));
        self.election_deadline = self.election_deadline.min(sooner.max(self.after(least)));
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The latest term this node has seen.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Who leads this term, if known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// What this node is in this term.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The highest index known to be committed.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        self.log.committed()
    }

    /// The highest index that is durable here; 0 while a snapshot is being put in place, as the
    /// log that this node knows is not yet the one on the disk.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        if self.is_installing() { LogIndex(0) } else { self.log.durable() }
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// The members in force: those of the last change in the log, committed or not.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.members.current()
    }

    /// Bytes of entries not yet handed over by [`Output::Commit`], as limits count them.
    #[must_use]
    pub fn pending_size(&self) -> usize {
        self.log.pending_size()
    }

    /// What a snapshot of the state at `index` covers; `None` where that is not known any more.
    ///
    /// Known for the last index handed over by [`Output::Commit`]: ask when that is applied.
    #[must_use]
    pub fn mark(&self, index: LogIndex) -> Option<Mark> {
        let term = self.log.term(index)?;
        let membership = self.members.at(index)?.clone();
        Some(Mark { last: Position { term, index }, membership })
    }

    /// Index and term of the entry at `index`; `None` where the term is not known any more.
    #[must_use]
    pub fn position(&self, index: LogIndex) -> Option<Position> {
        self.log.term(index).map(|term| Position { term, index })
    }

    /// A leader's view of the others, by rising id; empty elsewhere.
    pub fn progress(&self) -> impl Iterator<Item = PeerStatus> + '_ {
        self.peers.iter().map(Peer::status)
    }

    /// When the next tick is of use, at the latest; `None` while time changes nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        if !self.has_begun {
            return Some(self.now);
        }
        let own = match self.role {
            Role::Leader if self.peers.is_empty() => None,
            Role::Leader => Some(self.heartbeat_deadline.min(self.quorum_deadline)),
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                self.may_stand().then_some(self.election_deadline)
            }
        };
        let others = [self.transfer.as_ref().map(|t| t.deadline), self.reads.deadline()];
        others.into_iter().flatten().chain(own).min()
    }

    pub(super) fn is_voter(&self) -> bool {
        self.members.current().is_voter(self.config.id)
    }

    /// Whether this node may be needed as leader: it votes, or its removal is not yet committed.
    ///
    /// A node that is not in its own last membership may still hold entries that nobody else has
    /// and that the others can not be elected without (thesis §4.2.2). It does not count itself.
    pub(super) fn may_stand(&self) -> bool {
        let is_open = self.members.index() > self.log.committed();
        self.is_voter() || (is_open && self.members.may_vote(self.config.id))
    }

    /// Whether this node is the whole group.
    pub(super) fn is_alone(&self) -> bool {
        self.members.current().is_only(self.config.id)
    }

    pub(super) fn hard(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, committed: self.log.committed() }
    }

    pub(super) fn after(&self, ticks: u64) -> Tick {
        Tick(self.now.0.saturating_add(ticks))
    }

    pub(super) fn send(&mut self, to: NodeId, body: Body) {
        let message = Message { term: self.term, body };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Sends once term and vote are durable.
    pub(super) fn send_durable(&mut self, to: NodeId, body: Body) {
        let ticket = self.storage.needs_hard(self.hard());
        if self.storage.is_done(ticket) {
            self.send(to, body);
        } else {
            self.storage.hold(ticket, to, Message { term: self.term, body });
        }
    }

    /// Adds an entry to the log, from whomever, and takes up the membership in it.
    pub(super) fn take(&mut self, entry: Entry) {
        let config = (entry.kind == EntryKind::Config).then(|| {
            ConfigData::decode(&entry.data).expect("a config entry is checked before it is taken")
        });
        let index = entry.index;
        self.log.append(entry);
        if let Some(config) = config {
            self.members.push(index, config.membership);
            self.membership_changed();
        }
    }

    pub(super) fn membership_changed(&mut self) {
        let (index, membership) = (self.members.index(), self.members.current().clone());
        self.outputs.push_back(Output::Membership { index, membership });
        if self.role == Role::Leader {
            self.sync_peers();
        }
    }

    fn on_tick(&mut self, now: Tick) {
        self.now = self.now.max(now);
        if !self.has_begun {
            self.begin();
        }
        self.expire_reads();
        match self.role {
            Role::Leader => self.lead_on(),
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                if self.now >= self.election_deadline {
                    self.reset_election();
                    self.campaign(false);
                }
            }
        }
    }

    /// The first tick: from here on deadlines mean something.
    fn begin(&mut self) {
        self.has_begun = true;
        self.reset_election();
        self.heartbeat_deadline = self.after(self.config.heartbeat_ticks);
        self.quorum_deadline = self.after(self.config.election_ticks);
        if self.config.leader_lease && !self.is_alone() {
            // In its last life this node may have heard a leader that counts on its silence.
            self.vote_after = self.after(self.config.election_ticks);
        }
    }

    fn on_stored(&mut self, ticket: Ticket) {
        let Some(durable) = self.storage.complete(ticket) else { return };
        self.log.stored(durable);
        self.is_ack_ripe = self.is_ack_due;
        while let Some((to, message)) = self.storage.release() {
            self.outputs.push_back(Output::Send { to, message });
        }
        if self.own_ballot.is_some_and(|own| self.storage.is_done(own)) {
            self.own_ballot = None;
            self.on_ballot(self.config.id, true);
        }
        if self.role == Role::Leader {
            self.advance();
        }
    }

    /// Whether a snapshot is being put in place of the state.
    #[must_use]
    pub fn is_installing(&self) -> bool {
        self.install.is_some() || !self.storage.is_done(self.install_ticket)
    }

    /// Makes the outputs that need not be made earlier, so that what came together leaves together.
    fn flush(&mut self) {
        let told = (self.term, self.role, self.leader);
        if self.told != told {
            self.told = told;
            let (term, role, leader) = told;
            self.outputs.push_back(Output::Role { term, role, leader });
        }
        self.flush_stores();
        if self.role == Role::Leader {
            self.feed_peers();
        } else if self.is_ack_due {
            self.acknowledge();
        }
        if !self.is_installing() {
            self.flush_commits();
            self.flush_reads();
        }
    }

    fn flush_stores(&mut self) {
        while self.storage.inflight() < self.config.stores_inflight_max {
            let (hard, stored) = (self.hard(), self.storage.hard());
            let is_hard = (hard.term, hard.vote) != (stored.term, stored.vote);
            if self.install.is_some() && !is_hard {
                let mark = self.install.take().expect("it was just seen");
                let ticket = self.storage.issue(mark.last.index, None);
                self.install_ticket = ticket;
                self.outputs.push_back(Output::InstallSnapshot { ticket, mark });
                continue;
            }
            // Before a snapshot is in place, the log on disk is still the old one.
            let is_old = self.install.is_some();
            let size_max = self.config.append_size_max;
            let entries = if is_old { Vec::new() } else { self.log.write(size_max) };
            if entries.is_empty() && !is_hard {
                break;
            }
            let written = if is_old { stored.committed } else { self.log.written() };
            let hard = HardState { committed: hard.committed.min(written), ..hard };
            let hard_state = (hard != stored).then_some(hard);
            let ticket = self.storage.issue(written, hard_state);
            self.outputs.push_back(Output::Store { ticket, entries, hard_state });
        }
    }

    fn flush_commits(&mut self) {
        if self.log.emitted() == self.log.committed() {
            return;
        }
        let keep = !self.is_alone();
        while self.log.emitted() < self.log.committed() {
            let entries = self.log.emit(keep, self.config.append_size_max);
            self.outputs.push_back(Output::Commit { entries });
        }
        self.members.settle(self.log.emitted());
        self.log.shrink(if keep { self.config.cache_size_max } else { 0 });
    }
}

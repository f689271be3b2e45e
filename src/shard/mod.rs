//! One whole keyspace replica as one machine: propose, append, commit, apply, reply.
//!
//! A shard composes consensus ([`raft`]), the log ([`wal`]), the keyspace ([`mvcc`]) and the store
//! of its values ([`store`]). It is told what happened ([`Input`]) and says what to do
//! ([`Output`]); it reads no clock and touches no file.
//!
//! The life of a write: [`Shard::handle`] proposes it, which gives it a place in Raft's log and in
//! the list of those who wait. The next [`Shard::poll`] takes everything proposed since the last
//! one into one frame of the log. When the frame is durable Raft commits its entries, they are
//! applied in order, and each answer leaves.
//!
//! **Invariant:** an answer to a write leaves only after the write it rests on is durable on a
//! majority and applied here; an answer to a linearizable read only after its read point is
//! applied.
//!
//! **Invariant:** nothing is read from the disk while an entry is applied or an answer made: what
//! needs an old value waits for it before, or leaves after.
//!
//! **Invariant:** nothing here knows how many shards there are.
//!
//! [`raft`]: crate::raft
//! [`wal`]: crate::wal
//! [`mvcc`]: crate::mvcc
//! [`store`]: crate::store

mod alone;
mod apply;
mod asks;
pub mod autocompact;
mod change;
pub mod command;
mod config;
mod defragment;
mod errands;
mod feed;
mod forward;
mod group;
mod hash;
mod leases;
pub mod list;
mod members;
mod membership;
pub mod origin;
mod park;
pub mod peer;
mod port;
mod reads;
mod records;
pub mod recover;
mod replay;
pub mod request;
mod seal;
pub mod snapshot;
mod spread;
mod state;
mod transfer;
mod wait;
mod wants;
pub mod watch;

pub use config::Config;
pub use port::Input;
pub use port::Output;
pub use port::Ready;

use crate::lease::Grant;
use crate::lease::Lessor;
use crate::mvcc::Keyspace;
use crate::mvcc::Way;
use crate::raft;
use crate::raft::Rejected;
use crate::shard::asks::What;
use crate::shard::autocompact::AutoCompact;
use crate::shard::change::Change;
use crate::shard::command::Command;
use crate::shard::defragment::Defragments;
use crate::shard::errands::Errands;
use crate::shard::feed::Feed;
use crate::shard::forward::Forwards;
use crate::shard::group::Group;
use crate::shard::hash::Hashes;
use crate::shard::leases::Leases;
use crate::shard::list::Lists;
use crate::shard::members::Members;
use crate::shard::membership::Moves;
use crate::shard::origin::Origins;
use crate::shard::park::Parked;
use crate::shard::records::Needs;
use crate::shard::replay::Replays;
use crate::shard::request::Body;
use crate::shard::request::Header;
use crate::shard::request::Member;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::shard::seal::MARK_TOKEN;
use crate::shard::seal::Seals;
use crate::shard::snapshot::Moving;
use crate::shard::snapshot::Receipt;
use crate::shard::snapshot::Sends;
use crate::shard::spread::Spread;
use crate::shard::state::State;
use crate::shard::transfer::Transfers;
use crate::shard::wait::Proposals;
use crate::shard::wait::Reads;
use crate::shard::wants::Wants;
use crate::shard::watch::Ask;
use crate::store;
use crate::store::Store;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Revision;
use crate::types::Term;
use crate::types::Tick;
use crate::wal;
use bytes::Bytes;
use std::collections::VecDeque;

/// One keyspace replica.
///
/// # Source
/// The contract is the house's: handle any number, then poll to `None`.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    raft: raft::Node,
    wal: wal::Writer,
    keyspace: Keyspace,
    store: Store,
    applied: LogIndex,
    /// The term of the last entry applied.
    applied_term: Term,
    /// Who belongs to the group, by the entries applied.
    membership: raft::Membership,
    /// The same as clients see them.
    members: Members,
    /// What is applied of what members handed over.
    origins: Origins,
    /// Committed entries that are not applied: the first waits for an old value.
    committed: VecDeque<raft::Entry>,
    /// Old values that the first of them needs.
    needs: Needs,
    /// How far its way is found, if it is a transaction.
    way: Way,
    /// Keeps those readable that are on their way.
    needs_pin: Option<store::Pin>,
    proposals: Proposals,
    forwards: Forwards,
    reads: Reads,
    lists: Lists,
    parked: Parked,
    hashes: Hashes,
    defragments: Defragments,
    feed: Feed,
    replays: Replays,
    leases: Leases,
    group: Group,
    errands: Errands,
    moves: Moves,
    transfers: Transfers,
    spread: Spread,
    wants: Wants,
    seals: Seals,
    sends: Sends,
    receipt: Receipt,
    moving: Moving,
    /// Nobody waits for what was left to do when a slice of it was last done.
    is_patient: bool,
    auto: AutoCompact,
    outputs: VecDeque<Output>,
    now: Tick,
    /// When the log was last written to, until it is marked.
    unmarked: Option<Tick>,
    stopping: bool,
    halted: bool,
}

impl Shard {
    /// A shard as recovery found it: keyspace, leases, store, log and consensus, and what is
    /// sealed.
    fn new(
        config: Config,
        (keyspace, lessor, store): (Keyspace, Lessor, Store),
        (wal, raft): (wal::Writer, raft::Node),
        (sealed, membership): (Option<State>, raft::Membership),
        (seed, now): (u64, Tick),
    ) -> Self {
        config.snapshots.check();
        let auto = AutoCompact::new(config.auto_compaction, now, keyspace.revision());
        let members = sealed.as_ref().and_then(|state| state.members.clone());
        let members = members.unwrap_or_else(|| Members::new(&config.members));
        let origins = sealed.as_ref().map_or_else(Origins::default, |it| it.origins.clone());
        let applied = sealed.as_ref().map_or_else(raft::Position::default, |it| it.applied);
        let is_hasty = config.election_tick_advance;
        let mut shard = Self {
            config,
            raft,
            wal,
            keyspace,
            store,
            applied: applied.index,
            applied_term: applied.term,
            membership,
            members,
            origins,
            committed: VecDeque::new(),
            needs: Needs::default(),
            way: Way::default(),
            needs_pin: None,
            proposals: Proposals::default(),
            forwards: Forwards::default(),
            reads: Reads::default(),
            lists: Lists::default(),
            parked: Parked::default(),
            hashes: Hashes::default(),
            defragments: Defragments::default(),
            feed: Feed::default(),
            replays: Replays::default(),
            leases: Leases::new(lessor, seed),
            group: Group::new(now, is_hasty),
            errands: Errands::default(),
            moves: Moves::default(),
            transfers: Transfers::default(),
            spread: Spread::default(),
            wants: Wants::default(),
            seals: Seals::new(sealed),
            sends: Sends::default(),
            receipt: Receipt::default(),
            moving: Moving::default(),
            is_patient: false,
            auto,
            outputs: VecDeque::new(),
            now,
            unmarked: None,
            stopping: false,
            halted: false,
        };
        shard.tell_peers();
        shard
    }

    /// Takes in one thing that happened. Total: no valid input fails, none blocks.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Request { from, request } => self.on_request(from, request),
            Input::Wal(event) if self.is_moving() => self.on_wal_moving(event),
            Input::Wal(event) => self.on_wal(event),
            Input::Store(event) if self.is_moving() => self.on_store_moving(event),
            Input::Store(event) => self.on_store(event),
            Input::NoRoom { lack, why } => self.on_no_room(lack, why),
            Input::List { to, range, shape } => self.open_list(to, range, Some(shape)),
            Input::Forget { to } => {
                self.forget_list(to);
                self.forget_hash(to);
                self.forget_defragment(to);
                self.seals.forget(to);
                self.leases.asks.forget(to);
                self.leases.listing.remove(&to);
                self.transfers.forget(to);
            }
            Input::Watch(ask) => self.on_watch(ask),
            // As if it were down.
            Input::Packet { .. }
            | Input::PeerUp { .. }
            | Input::PeerLost { .. }
            | Input::PeerEnded { .. }
                if self.is_moving() => {}
            Input::Packet { from, packet } => self.on_packet(from, packet),
            Input::PeerUp { peer } => self.on_peer_up(peer),
            Input::PeerLost { peer } => self.on_peer_lost(peer),
            Input::PeerEnded { peer } => self.raft.handle(raft::Input::HungUp { peer }),
            Input::Tick(now) => self.on_tick(now),
            Input::Stop => self.stop(),
        }
    }

    /// The next thing to do, or `None` until the next input.
    pub fn poll(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.halted {
                return None;
            }
            if self.is_moving() {
                return self.poll_moving();
            }
            self.ask_read_point();
            self.place_held();
            self.send_forwards();
            self.ask_lease_point();
            if !self.outputs.is_empty() {
                // What was handed over leaves now: who is asked next may be asked much later.
                continue;
            }
            if self.can_apply() {
                // Not when the value came that it waited for: no lease may be renewed as of a time
                // that is long over, and it is told between the two.
                self.apply_committed();
                continue;
            }
            if let Some(output) = self.raft.poll() {
                self.on_raft(output);
                continue;
            }
            if self.seal_if_due() {
                continue;
            }
            if !self.log_waits()
                && let Some(command) = self.wal.poll()
            {
                return Some(Output::Wal(command));
            }
            self.step_sends();
            if !self.outputs.is_empty() {
                continue;
            }
            return self.store.poll().map(Output::Store);
        }
    }

    /// Does a slice of what has no hurry: measuring lists, hashing, replaying, forgetting,
    /// cleaning, ending and naming leases. Whether there is more that could be done at once; a
    /// driver asks again when others have had a turn.
    ///
    /// # Cost
    /// A few tenths of a millisecond.
    pub fn work(&mut self) -> bool {
        if self.halted {
            return false;
        }
        if self.is_moving() {
            self.is_patient = false;
            return self.step_lists()
                | self.step_hash()
                | self.step_replays()
                | self.step_listing();
        }
        // Not one of them is to keep the others waiting.
        let is_awaited = self.step_lists()
            | self.step_hash()
            | self.step_replays()
            | self.step_leases()
            | self.step_listing();
        let is_more = self.step_compaction();
        let is_hasty = is_awaited || self.defragments.is_any();
        self.is_patient = !is_hasty && self.store.is_easy();
        is_awaited | is_more
    }

    /// Whether what [`Self::work`] has left to do is a compaction, for which even those who wait
    /// have time: a driver may rest for long while it has other work.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        self.is_patient
    }

    /// Writes the frame that [`wal::Command::Write`] asked for into the driver's buffer.
    ///
    /// # Panics
    /// If no such write was asked for, or `buffer` is not of its size.
    pub fn fill(&mut self, id: u64, buffer: &mut [u8]) {
        self.wal.fill(id, buffer);
    }

    /// Writes what [`store::Command::Write`] asked for into the driver's buffer.
    ///
    /// # Panics
    /// As [`Self::fill`].
    pub fn fill_store(&mut self, id: u64, buffer: &mut [u8]) {
        self.store.fill(id, buffer);
    }

    /// Who answers, at the current revision.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header_at(self.keyspace.revision())
    }

    /// The header of an answer. The spec, §2.1: answers of Cluster carry no revision.
    fn header_of(&self, body: &Body) -> Header {
        let is_of_members = matches!(body, Body::MemberList(_) | Body::MemberAdd { .. });
        self.header_at(if is_of_members { Revision(0) } else { self.keyspace.revision() })
    }

    fn header_at(&self, revision: Revision) -> Header {
        Header {
            cluster: self.config.cluster,
            member: self.config.raft.id,
            revision,
            term: self.raft.term(),
        }
    }

    /// The quota in bytes, as `Status` names it.
    #[must_use]
    pub fn quota_bytes(&self) -> i64 {
        self.config.quota_bytes
    }

    /// The keyspace, for whoever checks it.
    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// The leases, for whoever checks them.
    #[must_use]
    pub fn lessor(&self) -> &Lessor {
        &self.leases.lessor
    }

    /// The leases that the last [`Self::work`] proposed to end, in order, for whoever checks that.
    #[must_use]
    pub fn ended(&self) -> &[Grant] {
        &self.leases.ended
    }

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Bytes of memory of the changes that no segment has, for whoever checks them.
    #[must_use]
    pub fn unsealed_size(&self) -> usize {
        self.store.unsealed_size()
    }

    /// Whether this replica leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft.leader() == Some(self.config.raft.id)
    }

    /// Who leads, if known.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    /// Whether it serves: there is a leader, and what the log held before it is applied here.
    ///
    /// What a log's last stretch is worth is known only once an entry of the leader's own term is
    /// committed: until then entries that were acknowledged may yet have to be applied.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.raft.leader().is_some() && self.applied_term == self.raft.term()
    }

    /// Whether it leads, and has applied all that was committed before.
    fn leads(&self) -> bool {
        self.is_leader() && self.is_ready()
    }

    /// Whether nobody waits for an answer; watchers wait for none.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.proposals.is_empty()
            && self.forwards.is_empty()
            && self.reads.is_empty()
            && self.lists.is_empty()
            && self.parked.is_empty()
            && self.leases.asks.is_empty()
            && self.leases.listing.is_empty()
            && self.transfers.is_empty()
            && self.outputs.is_empty()
            && !self.is_handing_over()
    }

    /// Whether there is a log on the disk that a restart would find.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.wal.is_open()
    }

    /// The members as clients see them, by id.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.members.rows()
    }

    /// Who votes, by the entries applied.
    #[must_use]
    pub fn membership(&self) -> &raft::Membership {
        &self.membership
    }

    /// Whether it is for clients a member without a vote.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        self.members.get(self.member()).is_some_and(|member| member.learner)
    }

    /// This member.
    #[must_use]
    pub fn member(&self) -> NodeId {
        self.config.raft.id
    }

    /// A watch is of what is applied here: nothing else matters, neither who leads nor whether the
    /// node is about to stop.
    fn on_watch(&mut self, ask: Ask) {
        match ask {
            Ask::Subscribe { from, prev_kv } => self.subscribe(from, prev_kv),
            Ask::Unsubscribe { core } => self.unsubscribe(core),
            Ask::Replay { from, past } => self.ask_replay(from, past),
            Ask::Forget { from } => self.forget_replay(from),
        }
    }

    fn on_request(&mut self, from: RequestId, request: Request) {
        let refusal = match request {
            _ if self.stopping => Some(Unavailable::Stopped),
            Request::Write(command) => self.on_write(from, command),
            Request::Range(range) if range.serializable => {
                self.outputs.push_back(Output::Reply { to: from, ready: Ready::Range(range) });
                None
            }
            Request::RangeStream(range) if range.serializable => {
                self.open_list(from, range, None);
                None
            }
            Request::ReadTxn { serializable: true, .. }
                if self.answers_waiting() >= self.config.waiting_max =>
            {
                Some(Unavailable::TooManyRequests)
            }
            Request::ReadTxn { txn, serializable: true } => {
                self.read_txn(from, txn);
                None
            }
            Request::HashKv { revision } => self.begin_hash(from, Some(revision)),
            Request::Hash => self.begin_hash(from, None),
            Request::Defragment => self.begin_defragment(from),
            Request::Range(_)
            | Request::RangeStream(_)
            | Request::ReadTxn { .. }
            | Request::Alarms
            | Request::MemberList { linearizable: true } => self.wait_for_read_point(from, request),
            Request::Status => {
                self.reply(from, Ok(self.status()));
                None
            }
            Request::MemberList { linearizable: false } => {
                self.reply(from, Ok(self.member_list()));
                None
            }
            Request::LeaseGrant { id, ttl } => self.grant_lease(from, id, ttl),
            Request::LeaseRevoke { id } => {
                self.on_write(from, Command::LeaseRevoke { id: id.0 }.encode())
            }
            Request::LeaseKeepAlive { id } => {
                let header = self.header();
                self.ask(from, What::KeepAlive(id, header))
            }
            Request::LeaseTimeToLive { id, keys } => self.ask(from, What::TimeToLive(id, keys)),
            Request::LeaseLeases => self.list_leases(from),
            Request::MemberAdd { peer_urls, learner } => self.add_member(from, peer_urls, learner),
            Request::MemberRemove { id } => self.change_members(from, Change::Remove(id)),
            Request::MemberUpdate { id, peer_urls } => self.update_member(from, id, peer_urls),
            Request::MemberPromote { id } => self.change_members(from, Change::Promote(id)),
            Request::MoveLeader { target } => self.move_leader(from, target),
        };
        if let Some(refusal) = refusal {
            self.reply(from, Err(refusal.into()));
        }
    }

    fn on_write(&mut self, from: RequestId, command: Bytes) -> Option<Unavailable> {
        if command.len() > self.config.command_size_max() {
            return Some(Unavailable::TooLarge);
        }
        if self.writes_waiting() >= self.config.waiting_max {
            return Some(Unavailable::TooManyRequests);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        if !self.proposals.has_held() && self.place(&command, from, deadline) {
            return None;
        }
        if self.proposals.size() + command.len() > self.config.waiting_size_max {
            return Some(Unavailable::TooManyRequests);
        }
        self.proposals.hold(command, from, deadline);
        None
    }

    /// Writes that are not answered yet.
    fn writes_waiting(&self) -> usize {
        let placed = self.proposals.len() + self.committed.len();
        placed + self.forwards.len() + self.answers_waiting()
    }

    /// Answers that are made but for something: values, or what a compaction leaves to do.
    fn answers_waiting(&self) -> usize {
        self.parked.len() + self.seals.physical.len()
    }

    /// Whether the disk has to come after before anything else is logged.
    fn is_full(&self) -> bool {
        self.wal.is_full() || self.store.is_full()
    }

    /// Whether the shard may log something of its own now: what clients asked for, and what had to
    /// wait, comes first.
    fn has_room(&self) -> bool {
        !self.is_full() && !self.proposals.has_held()
    }

    /// Gives a change its place in the log; false if it has to wait for a leader, or for the disk
    /// to come after.
    fn place(&mut self, command: &Bytes, from: RequestId, deadline: Tick) -> bool {
        if self.is_full() || self.is_moving() {
            return false;
        }
        match self.raft.propose(command.clone()) {
            Ok(index) => {
                self.proposals.push(index, self.raft.term(), from, deadline);
                true
            }
            Err(Rejected::NotLeader { leader: Some(_) }) => self.hand_over(command, from, deadline),
            Err(Rejected::Overloaded | Rejected::NotLeader { .. } | Rejected::Transferring) => {
                false
            }
            Err(Rejected::ChangePending | Rejected::NoSuchChange) => {
                unreachable!("a write is no membership change")
            }
        }
    }

    /// Gives changes that were held their places, in the order they came, as far as that can be.
    fn place_held(&mut self) {
        while let Some((command, from, deadline)) = self.proposals.next_held() {
            if !self.place(&command, from, deadline) {
                return self.proposals.hold_on((command, from, deadline));
            }
        }
    }

    fn on_wal(&mut self, event: wal::Event) {
        self.wal.handle(event);
        while let Some(token) = self.wal.durable() {
            if token == MARK_TOKEN {
                self.on_marked();
            } else {
                self.raft.handle(raft::Input::Stored { ticket: raft::Ticket(token) });
            }
        }
        self.on_fetched();
    }

    fn on_store(&mut self, event: store::Event) {
        if let Err(damage) = self.store.handle(event) {
            return self.halt(damage.to_string());
        }
        self.hand_out_blocks();
        self.send_parts();
        self.go_on_receiving();
        self.on_sealed();
    }

    fn on_tick(&mut self, now: Tick) {
        let elapsed = now.since(self.now);
        self.now = self.now.max(now);
        if self.is_moving() {
            return self.expire();
        }
        self.seals.tick(elapsed);
        self.tick_sends(elapsed);
        self.tick_receipt();
        self.raft.handle(raft::Input::Tick(self.now));
        self.store.tick(self.now);
        self.expire_lists();
        self.repeat_asks();
        self.tick_members();
        self.spread_leaders();
        self.leases.tick(self.now, elapsed);
        self.compact_by_itself();
        self.expire();
        if self.unmarked.is_some_and(|since| self.now.since(since) >= self.config.mark_after) {
            self.unmarked = None;
            self.wal.mark();
        }
    }

    /// Whose time is over is told so.
    fn expire(&mut self) {
        for (to, deadline) in self.proposals.expired(self.now) {
            let why = self.late(deadline);
            self.reply(to, Err(why.into()));
        }
        for to in self.reads.expired(self.now) {
            self.reply(to, Err(Unavailable::Timeout.into()));
        }
        let why =
            if self.leader().is_some() { Unavailable::Timeout } else { Unavailable::NoLeader };
        let late = self.leases.asks.expired(self.now);
        late.iter().for_each(|to| self.reply(*to, Err(why.into())));
        late.into_iter().for_each(|to| self.tell_stream(to));
        for to in self.proposals.expired_held(self.now) {
            let why = self.never();
            self.reply(to, Err(why.into()));
        }
        self.expire_forwards();
        self.expire_transfers();
    }

    /// Leadership may have come: reads ask anew. Writes that were held for it are looked at in any
    /// case.
    fn on_role(&mut self) {
        self.lead_leases();
        self.on_leader();
        if self.raft.leader().is_some() {
            self.reads.retry();
        }
    }

    fn halt(&mut self, why: String) {
        self.halted = true;
        self.outputs.push_back(Output::Halt(why));
    }
}

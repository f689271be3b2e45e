//! One whole keyspace replica as one machine: propose, append, commit, apply, reply.
//!
//! A shard composes consensus ([`raft`]), the log ([`wal`]) and the keyspace ([`mvcc`]). It is told
//! what happened ([`Input`]) and says what to do ([`Output`]); it reads no clock and touches no
//! file.
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
//! **Invariant:** nothing here knows how many shards there are.
//!
//! [`raft`]: crate::raft
//! [`wal`]: crate::wal
//! [`mvcc`]: crate::mvcc

mod apply;
pub mod autocompact;
pub mod command;
pub mod list;
pub mod recover;
pub mod request;
mod wait;

use crate::config;
use crate::mvcc::Keyspace;
use crate::raft;
use crate::raft::Rejected;
use crate::shard::list::ListHead;
use crate::shard::list::Lists;
use crate::shard::list::RowShape;
use crate::shard::request::Body;
use crate::shard::request::Failure;
use crate::shard::request::Header;
use crate::shard::request::Member;
use crate::shard::request::Range;
use crate::shard::request::Request;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Status;
use crate::shard::request::Unavailable;
use crate::shard::wait::Proposals;
use crate::shard::wait::Reads;
use crate::store;
use crate::types::ClusterId;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Revision;
use crate::types::ShardId;
use crate::types::Term;
use crate::types::Tick;
use crate::wal;
use bytes::Bytes;
use std::collections::VecDeque;

/// What a shard is and what it may hold.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which of the node's shards.
    pub id: ShardId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The members, this one included, as clients see them; by id.
    pub members: Vec<Member>,
    /// Consensus; names this member.
    pub raft: raft::Config,
    /// The log.
    pub wal: wal::Config,
    /// The revision store.
    pub store: store::Config,
    /// Largest encoded change, in bytes (`--max-request-bytes`).
    pub request_size_max: usize,
    /// Writes and reads that may wait at a time; beyond it they are refused as too many.
    ///
    /// etcd bounds the distance from committed to applied to 5,000 entries; here nothing is ever
    /// committed and not applied, so what is bounded is what waits for the disk or the majority.
    pub waiting_max: usize,
    /// Bytes of reads that wait for their read point, and of writes that wait for a leader.
    pub waiting_size_max: usize,
    /// Milliseconds after which a request is given up: 5 s and twice the election timeout.
    pub request_timeout: u64,
    /// Milliseconds of rest after which the log marks its last frame as durable.
    pub mark_after: u64,
    /// What `Status` names as the quota, in bytes.
    pub quota_bytes: i64,
}

impl Config {
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
        let text = |urls: &[config::Url]| urls.iter().map(|url| url.text().to_owned()).collect();
        let own = node.shards().find(|(shard, _)| *shard == id).map(|(_, shard)| shard);
        let own = own.expect("a shard of this node");
        let members = bootstrap.members.iter().map(|peer| Member {
            id: peer.id,
            name: peer.name.clone(),
            peer_urls: text(&peer.peer_urls),
            client_urls: text(&own.advertise_client_urls),
            learner: false,
        });
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
        if !wal.fit(request_size_max) {
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
            members: members.collect(),
            raft,
            wal,
            store,
            request_size_max,
            waiting_max: to_usize(node.limits.requests_waiting_max.into()),
            waiting_size_max: to_usize(node.limits.requests_waiting_bytes_max),
            request_timeout: 5_000 + 2 * node.raft.election_timeout_ms,
            mark_after: 100,
            quota_bytes: node
                .limits
                .quota_bytes
                .map_or(-1, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
        })
    }
}

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A client asks.
    Request {
        /// Where the answer goes.
        from: RequestId,
        /// What it asks.
        request: Request,
    },
    /// The log's files: what the driver has done of what [`Output::Wal`] asked.
    Wal(wal::Event),
    /// The store's files: what the driver has done of what [`Output::Store`] asked.
    Store(store::Event),
    /// A [`Ready::Range`] that can not be answered at once is to be answered in slices;
    /// [`Ready::List`] follows, or how it failed.
    List {
        /// Where it goes.
        to: RequestId,
        /// What is read.
        range: Range,
        /// Bytes that a row takes on the wire.
        shape: fn(&RowShape) -> usize,
    },
    /// Nobody waits for this answer any more.
    Forget {
        /// Where it would have gone.
        to: RequestId,
    },
    /// It is now this late; every [`Config::raft`] heartbeat at least.
    Tick(Tick),
    /// Nothing more is taken in: requests that wait for a place in the log are refused.
    Stop,
}

/// One thing to do; every output is already safe to do.
#[derive(Debug)]
pub enum Output {
    /// The log's files; in the order given for one file.
    Wal(wal::Command),
    /// The store's files.
    Store(store::Command),
    /// An answer is ready: ask [`Shard`] for what it needs, now or later; later sees no less.
    Reply {
        /// Where it goes.
        to: RequestId,
        /// What it is.
        ready: Ready,
    },
    /// A list that had to wait can go on: [`Shard::rows`] is worth asking again.
    Rows {
        /// Where it goes.
        to: RequestId,
    },
    /// A line for the log: what this replica is in which term.
    Role(String),
    /// Go on no further: what must not be guessed at was found.
    Halt(String),
}

/// An answer that may leave.
#[derive(Debug)]
pub enum Ready {
    /// It is here.
    Result(Result<Response, Failure>),
    /// Its read point is reached: [`Shard::read`] gives its rows where they lie, or says that it
    /// must be asked for by [`Input::List`].
    Range(Range),
    /// A list is measured and open: [`Shard::rows`] gives its rows until it says that they are
    /// done, or until [`Input::Forget`].
    List(ListHead),
}

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
    applied: LogIndex,
    /// The term of the last entry applied.
    applied_term: Term,
    proposals: Proposals,
    reads: Reads,
    lists: Lists,
    outputs: VecDeque<Output>,
    now: Tick,
    /// When the log was last written to, until it is marked.
    unmarked: Option<Tick>,
    stopping: bool,
    halted: bool,
}

impl Shard {
    /// Takes in one thing that happened. Total: no valid input fails, none blocks.
    pub fn handle(&mut self, input: Input) {
        match input {
            Input::Request { from, request } => self.on_request(from, request),
            Input::Wal(event) => self.on_wal(event),
            // Nothing is asked of the store's files yet.
            Input::Store(_) => {}
            Input::List { to, range, shape } => self.list(to, &range, shape),
            Input::Forget { to } => self.forget(to),
            Input::Tick(now) => self.on_tick(now),
            Input::Stop => self.stopping = true,
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
            self.ask_read_point();
            if let Some(output) = self.raft.poll() {
                self.on_raft(output);
                continue;
            }
            return self.wal.poll().map(Output::Wal);
        }
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
    /// If no such write was asked for, or `buffer` is not of its size.
    pub fn fill_store(&mut self, id: u64, _buffer: &mut [u8]) {
        unreachable!("write {id} was not asked for");
    }

    /// Who answers, at the current revision.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header_at(self.keyspace.revision())
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

    /// The last entry applied.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Whether this replica leads, and so serves.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft.leader() == Some(self.config.raft.id)
    }

    /// Whether it serves: it leads, and what its log held is applied.
    ///
    /// A leader knows what its log's last stretch is worth only once an entry of its own term is
    /// committed: until then entries that were acknowledged may yet have to be applied.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_leader() && self.applied_term == self.raft.term()
    }

    /// Whether nobody waits for an answer.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.proposals.is_empty()
            && self.reads.is_empty()
            && self.lists.is_empty()
            && self.outputs.is_empty()
    }

    /// This member.
    #[must_use]
    pub fn member(&self) -> NodeId {
        self.config.raft.id
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
                self.stream(from, &range);
                None
            }
            Request::ReadTxn { txn, serializable: true } => {
                self.read_txn(from, &txn);
                None
            }
            Request::Range(_)
            | Request::RangeStream(_)
            | Request::ReadTxn { .. }
            | Request::Alarms
            | Request::MemberList { linearizable: true } => self.wait_for_read_point(from, request),
            Request::HashKv { .. } | Request::Hash => Some(Unavailable::NotYet),
            Request::Status => {
                self.reply(from, Ok(self.status()));
                None
            }
            Request::MemberList { linearizable: false } => {
                self.reply(from, Ok(self.member_list()));
                None
            }
        };
        if let Some(refusal) = refusal {
            self.reply(from, Err(refusal.into()));
        }
    }

    fn on_write(&mut self, from: RequestId, command: Bytes) -> Option<Unavailable> {
        if command.len() > self.config.request_size_max {
            return Some(Unavailable::TooLarge);
        }
        if self.proposals.len() >= self.config.waiting_max || self.wal.is_full() {
            return Some(Unavailable::TooManyRequests);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        match self.raft.propose(command.clone()) {
            Ok(index) => {
                self.proposals.push(index, self.raft.term(), from, deadline);
                None
            }
            Err(Rejected::Overloaded) => Some(Unavailable::TooManyRequests),
            Err(Rejected::NotLeader { .. } | Rejected::Transferring) => {
                if self.proposals.size() + command.len() > self.config.waiting_size_max {
                    return Some(Unavailable::TooManyRequests);
                }
                self.proposals.hold(command, from, deadline);
                None
            }
            Err(Rejected::ChangePending | Rejected::NoSuchChange) => {
                unreachable!("a write is no membership change")
            }
        }
    }

    fn wait_for_read_point(&mut self, from: RequestId, request: Request) -> Option<Unavailable> {
        let size = self.reads.size() + request.size();
        if self.reads.len() >= self.config.waiting_max || size > self.config.waiting_size_max {
            return Some(Unavailable::TooManyRequests);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        self.reads.push(from, request, deadline);
        None
    }

    /// Asks for one read point for all reads that came since the last one was asked for.
    fn ask_read_point(&mut self) {
        let Some(context) = self.reads.next_batch() else {
            return;
        };
        if self.raft.read(context).is_err() {
            self.reads.lost(context);
        }
    }

    fn on_raft(&mut self, output: raft::Output) {
        match output {
            raft::Output::Store { ticket, entries, hard_state } => {
                self.store(ticket, &entries, hard_state);
            }
            raft::Output::Commit { entries } => {
                for entry in &entries {
                    self.apply(entry);
                }
                self.serve_reads();
            }
            raft::Output::Read { context, index } => {
                self.reads.point(context, index);
                self.serve_reads();
            }
            raft::Output::ReadLost { context } => self.reads.lost(context),
            raft::Output::Role { term, role, leader } => {
                let leader = leader.map_or_else(|| "none".to_owned(), |id| format!("{:x}", id.0));
                let text = format!("raft role: {role:?} at term {term}, leader {leader}");
                self.outputs.push_back(Output::Role(text));
                self.on_role();
            }
            raft::Output::Membership { .. } => {}
            raft::Output::Send { to, .. }
            | raft::Output::Fetch { peer: to, .. }
            | raft::Output::SendSnapshot { to, .. } => {
                self.halt(format!("peer {to:x?} of a group of one was addressed"));
            }
            raft::Output::InstallSnapshot { .. } => {
                self.halt("a group of one was sent a snapshot".into());
            }
        }
    }

    /// What Raft wants kept goes into the log's next frame.
    fn store(
        &mut self,
        ticket: raft::Ticket,
        entries: &[raft::Entry],
        hard_state: Option<raft::HardState>,
    ) {
        for entry in entries {
            self.wal.append(&wal::Record::Entry {
                term: entry.term,
                index: entry.index,
                kind: entry.kind.code(),
                data: &entry.data,
            });
        }
        if let Some(state) = hard_state {
            self.wal.append(&wal::Record::HardState(wal::HardState {
                term: state.term,
                vote: state.vote,
                committed: state.committed,
            }));
        }
        self.wal.submit(ticket.0);
        self.unmarked = Some(self.now);
    }

    fn on_wal(&mut self, event: wal::Event) {
        self.wal.handle(event);
        while let Some(token) = self.wal.durable() {
            self.raft.handle(raft::Input::Stored { ticket: raft::Ticket(token) });
        }
    }

    fn on_tick(&mut self, now: Tick) {
        self.now = self.now.max(now);
        self.raft.handle(raft::Input::Tick(self.now));
        for to in self.proposals.expired(self.now).into_iter().chain(self.reads.expired(self.now)) {
            self.reply(to, Err(Unavailable::Timeout.into()));
        }
        if self.unmarked.is_some_and(|since| self.now.since(since) >= self.config.mark_after) {
            self.unmarked = None;
            self.wal.mark();
        }
    }

    /// Leadership may have come: what was held for it is proposed, in the order it came.
    fn on_role(&mut self) {
        if !self.is_leader() {
            return;
        }
        self.reads.retry();
        for (command, from, deadline) in self.proposals.take_held() {
            match self.raft.propose(command.clone()) {
                Ok(index) => self.proposals.push(index, self.raft.term(), from, deadline),
                Err(_) => self.proposals.hold(command, from, deadline),
            }
        }
    }

    fn serve_reads(&mut self) {
        while let Some((to, request)) = self.reads.ready(self.applied) {
            match request {
                Request::Range(range) => {
                    self.outputs.push_back(Output::Reply { to, ready: Ready::Range(range) });
                }
                Request::RangeStream(range) => self.stream(to, &range),
                Request::MemberList { .. } => self.reply(to, Ok(self.member_list())),
                Request::Alarms => {
                    self.reply(to, Ok(Response { header: self.header(), body: Body::Alarms }));
                }
                Request::ReadTxn { txn, .. } => self.read_txn(to, &txn),
                Request::Write(_) | Request::Status | Request::HashKv { .. } | Request::Hash => {
                    unreachable!("only reads wait for a read point")
                }
            }
        }
    }

    fn reply(&mut self, to: RequestId, result: Result<Response, Failure>) {
        self.outputs.push_back(Output::Reply { to, ready: Ready::Result(result) });
    }

    fn halt(&mut self, why: String) {
        self.halted = true;
        self.outputs.push_back(Output::Halt(why));
    }

    fn status(&self) -> Response {
        let size_allocated = self.wal.size_allocated().max(1);
        let status = Status {
            leader: self.raft.leader(),
            committed: self.raft.committed(),
            applied: self.applied,
            size_allocated,
            size_in_use: self.wal.size_in_use().min(size_allocated),
            learner: self.raft.membership().is_learner(self.member()),
        };
        Response { header: self.header(), body: Body::Status(status) }
    }

    fn member_list(&self) -> Response {
        // The spec, §2.1: answers of Cluster carry no revision.
        let header = Header { revision: Revision(0), ..self.header() };
        Response { header, body: Body::MemberList(self.config.members.clone()) }
    }
}

//! Linearizable reads (thesis §6.4): where to read so as to see all that was committed before.
//!
//! A leader may not answer from what it knows alone: it might have been replaced. It takes down its
//! commit index, sends a round of heartbeats, and when a majority has answered that round it knows
//! that no later leader can have committed anything before the round began. All reads that wait
//! when a round begins share it. A new leader first commits an entry of its own term; before that
//! it does not know what is committed.
//!
//! With a leader lease the answers to earlier rounds do: whoever answered votes for nobody else for
//! a while. A follower asks its leader for the index and waits until it has come that far itself.

use std::collections::VecDeque;

use crate::raft::Output;
use crate::raft::Rejected;
use crate::raft::Role;
use crate::raft::message::Body;
use crate::raft::node::Node;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Tick;

/// Most rounds on their way for reads; reads that come meanwhile share the next one.
const ROUND_COUNT_MAX: usize = 4;

/// Most rounds whose start is remembered for the lease.
const START_COUNT_MAX: usize = 64;

/// Most questions a follower has on their way to its leader.
const QUESTION_COUNT_MAX: usize = 64;

/// Who wants to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Local { context: u64 },
    Remote { from: NodeId, id: u64 },
}

/// Reads that a round of heartbeats is to confirm.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Round {
    round: u64,
    index: LogIndex,
    asks: Vec<Ask>,
}

/// A follower's question to its leader, for all reads that were waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    id: u64,
    deadline: Tick,
    contexts: Vec<u64>,
}

/// The reads under way.
///
/// # Shape
/// `count` is the reads in `waiting`, `rounds`, `questions` and `ready` together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Reads {
    waiting: Vec<Ask>,
    rounds: VecDeque<Round>,
    questions: VecDeque<Question>,
    /// Confirmed at an index that this node has not reached.
    ready: Vec<(LogIndex, u64)>,
    count: usize,
    /// The last round begun in this term.
    round: u64,
    /// When the rounds not yet confirmed began.
    starts: VecDeque<(u64, Tick)>,
    /// When the last confirmed round began, while that may be relied on.
    lease: Option<Tick>,
    is_lease_void: bool,
    next_id: u64,
}

impl Reads {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            waiting: Vec::new(),
            rounds: VecDeque::new(),
            questions: VecDeque::new(),
            ready: Vec::new(),
            count: 0,
            round: 0,
            starts: VecDeque::new(),
            lease: None,
            is_lease_void: false,
            // An answer that was on its way when this node crashed must not be taken for one to
            // a new question.
            next_id: seed,
        }
    }

    pub(super) fn ask(&mut self, context: u64, reads_max: usize) -> Result<(), Rejected> {
        if self.count >= reads_max {
            return Err(Rejected::Overloaded);
        }
        self.count += 1;
        self.waiting.push(Ask::Local { context });
        Ok(())
    }

    pub(super) fn begin_term(&mut self) {
        self.round = 0;
        self.starts.clear();
        self.lease = None;
        self.is_lease_void = false;
    }

    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn next_round(&mut self, now: Tick, leader_lease: bool) -> u64 {
        self.round += 1;
        if leader_lease {
            if self.starts.len() >= START_COUNT_MAX {
                self.starts.pop_front();
            }
            self.starts.push_back((self.round, now));
        }
        self.round
    }

    pub(super) fn void_lease(&mut self) {
        self.is_lease_void = true;
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.questions.front().map(|question| question.deadline)
    }
}

impl Node {
    pub(super) fn on_read_index(&mut self, from: NodeId, id: u64) {
        let is_peer = self.peers.iter().any(|peer| peer.id == from);
        if self.role == Role::Leader && is_peer && self.reads.count < self.config.reads_max {
            self.reads.count += 1;
            self.reads.waiting.push(Ask::Remote { from, id });
        }
    }

    pub(super) fn on_read_index_response(&mut self, from: NodeId, id: u64, index: LogIndex) {
        if self.leader != Some(from) {
            return;
        }
        let at = self.reads.questions.iter().position(|question| question.id == id);
        if let Some(question) = at.and_then(|at| self.reads.questions.remove(at)) {
            let contexts = question.contexts.into_iter();
            self.reads.ready.extend(contexts.map(|context| (index, context)));
        }
    }

    /// A heartbeat was answered: rounds that a majority has answered are confirmed.
    pub(super) fn confirm_reads(&mut self) {
        let confirmed = self.reached(u64::MAX, |peer| peer.round);
        while let Some(start) = self.reads.starts.front().filter(|start| start.0 <= confirmed) {
            self.reads.lease = Some(start.1);
            self.reads.starts.pop_front();
        }
        while self.reads.rounds.front().is_some_and(|round| round.round <= confirmed) {
            let round = self.reads.rounds.pop_front().expect("there is a front");
            self.answer(round.asks, round.index);
        }
    }

    fn answer(&mut self, asks: Vec<Ask>, index: LogIndex) {
        for ask in asks {
            match ask {
                Ask::Local { context } => self.reads.ready.push((index, context)),
                Ask::Remote { from, id } => {
                    self.reads.count -= 1;
                    self.send(from, Body::ReadIndexResponse { id, index });
                }
            }
        }
    }

    /// Whether a majority promised lately enough to vote for nobody else.
    fn has_lease(&self) -> bool {
        self.config.leader_lease
            && !self.reads.is_lease_void
            && self.reads.lease.is_some_and(|start| self.now < self.lease_end(start))
    }

    /// Moves the reads on; after everything committed has been handed over.
    pub(super) fn flush_reads(&mut self) {
        if self.reads.count == 0 {
            return;
        }
        if !self.reads.waiting.is_empty() {
            match self.role {
                Role::Leader => self.confirm_waiting(),
                Role::Follower => self.question_leader(),
                Role::PreCandidate | Role::Candidate => {}
            }
        }
        let emitted = self.log.emitted();
        let Reads { ready, count, .. } = &mut self.reads;
        let outputs = &mut self.outputs;
        ready.retain(|&(index, context)| {
            let is_there = index <= emitted;
            if is_there {
                *count -= 1;
                outputs.push_back(Output::Read { context, index });
            }
            !is_there
        });
    }

    fn confirm_waiting(&mut self) {
        let index = self.log.committed();
        if index < self.term_start {
            return;
        }
        if self.is_alone() || self.has_lease() {
            let asks = std::mem::take(&mut self.reads.waiting);
            self.answer(asks, index);
        } else if self.reads.rounds.len() < ROUND_COUNT_MAX {
            let asks = std::mem::take(&mut self.reads.waiting);
            self.beat();
            self.reads.rounds.push_back(Round { round: self.reads.round, index, asks });
            // The only voter may have learners, and need not ask them.
            self.confirm_reads();
        }
    }

    fn question_leader(&mut self) {
        let Some(leader) = self.leader else { return };
        if self.reads.questions.len() >= QUESTION_COUNT_MAX {
            return;
        }
        let asks = std::mem::take(&mut self.reads.waiting);
        let local = |ask| match ask {
            Ask::Local { context } => Some(context),
            Ask::Remote { .. } => None,
        };
        let contexts: Vec<u64> = asks.into_iter().filter_map(local).collect();
        let id = self.reads.next_id;
        self.reads.next_id = id.wrapping_add(1);
        let deadline = self.after(self.config.election_ticks);
        self.reads.questions.push_back(Question { id, deadline, contexts });
        self.send(leader, Body::ReadIndex { id });
    }

    /// Gives up questions that the leader has left unanswered for too long.
    pub(super) fn expire_reads(&mut self) {
        while self.reads.deadline().is_some_and(|deadline| deadline <= self.now) {
            let question = self.reads.questions.pop_front().expect("there is a front");
            self.lose(question.contexts);
        }
    }

    fn lose(&mut self, contexts: Vec<u64>) {
        for context in contexts {
            self.reads.count -= 1;
            self.outputs.push_back(Output::ReadLost { context });
        }
    }

    /// Gives up all reads that rested on the role or the leader that now ends.
    ///
    /// Those already confirmed stay: their index holds whoever leads.
    pub(super) fn lose_reads(&mut self) {
        if self.reads.count == 0 {
            return;
        }
        let rounds = std::mem::take(&mut self.reads.rounds);
        let waiting = std::mem::take(&mut self.reads.waiting);
        for ask in rounds.into_iter().flat_map(|round| round.asks).chain(waiting) {
            match ask {
                Ask::Local { context } => self.lose(vec![context]),
                Ask::Remote { .. } => self.reads.count -= 1,
            }
        }
        for question in std::mem::take(&mut self.reads.questions) {
            self.lose(question.contexts);
        }
    }
}

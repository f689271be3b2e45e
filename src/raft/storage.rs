//! What waits for the disk: stores on their way, and messages that rest on them.
//!
//! Stores complete in the order in which they were asked for, so one number, the last ticket done,
//! says all. A message that rests on durability names the ticket it needs and leaves when that is
//! done. The disk may still be writing entries that the log has since cut: each store on its way
//! remembers how much of this log it will make durable, and a cut lowers that.

use std::collections::VecDeque;

use crate::raft::Ticket;
use crate::raft::message::HardState;
use crate::raft::message::Message;
use crate::types::LogIndex;
use crate::types::NodeId;

/// Most messages held for the disk; past it the oldest is dropped, as a network might.
const HELD_COUNT_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending {
    ticket: Ticket,
    /// Up to here it makes the log durable.
    last: LogIndex,
}

/// The stores on their way and what rests on them.
///
/// # Shape
/// `done <= issued` and `hard_ticket <= issued`; the tickets in `held` never fall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Storage {
    issued: Ticket,
    done: Ticket,
    pending: VecDeque<Pending>,
    /// As last handed to the disk.
    hard: HardState,
    /// The store that took it there.
    hard_ticket: Ticket,
    held: VecDeque<(Ticket, NodeId, Message)>,
}

impl Storage {
    pub(super) fn new(hard: HardState) -> Self {
        Self { hard, ..Self::default() }
    }

    pub(super) fn hard(&self) -> HardState {
        self.hard
    }

    /// What tells two of them apart but for the numbers of their tickets.
    #[cfg(test)]
    pub(super) fn shape(&self) -> impl std::hash::Hash + '_ {
        let since = |ticket: Ticket| ticket.0.saturating_sub(self.done.0);
        let pending: Vec<_> = self.pending.iter().map(|each| each.last).collect();
        let held: Vec<_> = self.held.iter().map(|held| (since(held.0), held.1, &held.2)).collect();
        (pending, held, self.hard, since(self.hard_ticket))
    }

    pub(super) fn inflight(&self) -> usize {
        self.pending.len()
    }

    /// The ticket of a new store that makes the log durable up to `last`.
    pub(super) fn issue(&mut self, last: LogIndex, hard: Option<HardState>) -> Ticket {
        self.issued.0 += 1;
        if let Some(hard) = hard {
            if (hard.term, hard.vote) != (self.hard.term, self.hard.vote) {
                self.hard_ticket = self.issued;
            }
            self.hard = hard;
        }
        self.pending.push_back(Pending { ticket: self.issued, last });
        self.issued
    }

    /// The next store is done; says how far the log is durable now, if any store was new.
    pub(super) fn complete(&mut self, ticket: Ticket) -> Option<LogIndex> {
        assert!(ticket <= self.issued, "only what was asked for completes");
        let mut durable = None;
        while let Some(pending) = self.pending.front() {
            if pending.ticket > ticket {
                break;
            }
            durable = durable.max(Some(pending.last));
            self.pending.pop_front();
        }
        self.done = self.done.max(ticket);
        durable
    }

    /// The log after `last` was cut: no store on its way makes it durable.
    pub(super) fn cut(&mut self, last: LogIndex) {
        for pending in &mut self.pending {
            pending.last = pending.last.min(last);
        }
    }

    /// The ticket after which term and vote as they are now (`hard`) are durable.
    pub(super) fn needs_hard(&self, hard: HardState) -> Ticket {
        if (hard.term, hard.vote) == (self.hard.term, self.hard.vote) {
            self.hard_ticket
        } else {
            Ticket(self.issued.0 + 1)
        }
    }

    pub(super) fn is_done(&self, ticket: Ticket) -> bool {
        ticket <= self.done
    }

    /// Keeps a message until its ticket is done.
    pub(super) fn hold(&mut self, ticket: Ticket, to: NodeId, message: Message) {
        if self.held.len() >= HELD_COUNT_MAX {
            self.held.pop_front();
        }
        self.held.push_back((ticket, to, message));
    }

    /// The next message whose ticket is done.
    pub(super) fn release(&mut self) -> Option<(NodeId, Message)> {
        if self.held.front().is_none_or(|held| held.0 > self.done) {
            return None;
        }
        self.held.pop_front().map(|(_, to, message)| (to, message))
    }

    /// Forgets what was to be said: it was for another term.
    pub(super) fn forget(&mut self) {
        self.held.clear();
    }
}

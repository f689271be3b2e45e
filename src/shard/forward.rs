//! Changes that a member which does not lead was asked for: it hands them to the leader, and
//! answers them when it applies their entries.
//!
//! Each has an [`Origin`], which its entry carries. What was handed over may be lost, or taken by a
//! leader that then fails; so it is handed over again after a while, and whenever there is another
//! leader. An entry that comes twice counts once, whoever leads.
//!
//! Each time it is handed over is an *attempt* with a number of its own, which rises. A leader says
//! of an attempt that it does not take it; if it takes it, the entry says so. It looks at attempts
//! of one member in rising order only, so what it has refused it never takes.
//!
//! **Invariant:** a change is told to be undone only if each attempt was refused, or there was
//! none.

use crate::mvcc::txn::validate;
use crate::raft::Rejected;
use crate::shard::Shard;
use crate::shard::change::Change;
use crate::shard::command;
use crate::shard::command::ArchivedCommand;
use crate::shard::origin::ORIGIN_SIZE;
use crate::shard::origin::Origin;
use crate::shard::peer::Packet;
use crate::shard::peer::Why;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::types::NodeId;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// One change.
#[derive(Debug)]
struct Forward {
    /// The entry's data.
    data: Bytes,
    to: RequestId,
    deadline: Tick,
    /// When it was last handed over.
    sent: Tick,
    /// Attempts that may yet be taken, or were.
    attempts: Vec<u64>,
}

/// What a leader knows of the attempts of a member.
#[derive(Clone, Copy, Debug)]
struct Seen {
    life: u32,
    attempt: u64,
}

/// The changes handed over, and those taken over from others.
///
/// # Shape
/// `unsent` and `refused` have numbers in `open`, and none in both; `deadlines` has all of them. A
/// change that was held before it got its number may have less time left than those before it.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    open: BTreeMap<u64, Forward>,
    deadlines: BTreeSet<(Tick, u64)>,
    /// Bytes of all in `open`.
    size: usize,
    /// To be handed over.
    unsent: BTreeSet<u64>,
    /// To be handed over again, but not in this turn.
    refused: BTreeSet<u64>,
    number_last: u64,
    attempt_last: u64,
    /// When to look again for what was handed over long ago.
    look_next: Tick,
    /// The connection to whom it was handed broke: again, when it is back.
    lost: Option<NodeId>,
    /// Of others', taken in this term and not applied yet.
    taken: BTreeSet<Origin>,
    seen: BTreeMap<NodeId, Seen>,
}

impl Forwards {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The connection to a peer broke.
    pub(super) fn lose(&mut self, peer: NodeId) {
        self.lost = Some(peer);
    }

    /// All who wait, and whether what they asked may have been taken; nobody does any more.
    pub(super) fn drain(&mut self) -> Vec<(RequestId, bool)> {
        let open = std::mem::take(&mut self.open).into_values();
        (self.size, self.unsent, self.refused) = (0, BTreeSet::new(), BTreeSet::new());
        open.map(|forward| (forward.to, !forward.attempts.is_empty())).collect()
    }

    /// Forgets all but those members that are to be kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.seen.retain(|node, _| is_kept(*node));
    }

    /// Takes in a change under a number that none has; it is to be handed over.
    fn insert(&mut self, number: u64, forward: Forward) {
        self.size += forward.data.len();
        self.deadlines.insert((forward.deadline, number));
        self.open.insert(number, forward);
        self.unsent.insert(number);
    }

    fn remove(&mut self, number: u64) -> Option<Forward> {
        let forward = self.open.remove(&number)?;
        self.deadlines.remove(&(forward.deadline, number));
        self.size -= forward.data.len();
        self.unsent.remove(&number);
        self.refused.remove(&number);
        Some(forward)
    }

    /// Everything is to be handed over again.
    fn again(&mut self) {
        self.refused.clear();
        self.unsent = self.open.keys().copied().collect();
    }
}

impl Shard {
    /// Hands a change to whoever leads; false if it has to wait.
    pub(super) fn hand_over(&mut self, command: &Bytes, to: RequestId, deadline: Tick) -> bool {
        // Until the log is open another process might yet get the same number.
        let size = command.len() + ORIGIN_SIZE;
        if !self.wal.is_open() || self.forwards.size + size > self.config.waiting_size_max {
            return false;
        }
        if size > self.wal.entry_size_max() {
            self.reply(to, Err(Unavailable::TooLarge.into()));
            return true;
        }
        self.forwards.number_last += 1;
        let number = self.forwards.number_last;
        let origin = Origin { node: self.member(), life: self.wal.epoch(), number };
        let data = command::with_origin(command, origin);
        let forward = Forward { data, to, deadline, sent: self.now, attempts: Vec::new() };
        self.forwards.insert(number, forward);
        true
    }

    /// An entry of this origin is applied, and counts no more.
    ///
    /// Numbers of this process may be given up for it. What has one of those did not take place and
    /// never will, on any replica: it gets another, and is handed over anew.
    pub(super) fn note_origin(&mut self, origin: Origin) {
        let Some(gone) = self.origins.note(origin) else { return };
        if (origin.node, origin.life) != (self.member(), self.wal.epoch()) {
            return;
        }
        let gone: Vec<u64> = self.forwards.open.range(gone).map(|(number, _)| *number).collect();
        for number in gone {
            let mut forward = self.forwards.remove(number).expect("it was just there");
            self.forwards.number_last += 1;
            let number = self.forwards.number_last;
            let origin = Origin { number, ..origin };
            forward.data = command::with_other_origin(&forward.data, origin);
            forward.attempts.clear();
            self.forwards.insert(number, forward);
        }
    }

    /// Hands over what is to be, if there is somebody to take it.
    pub(super) fn send_forwards(&mut self) {
        if self.forwards.unsent.is_empty() {
            return;
        }
        let Some(leader) = self.raft.leader() else { return };
        while let Some(number) = self.forwards.unsent.pop_first() {
            self.forwards.attempt_last += 1;
            let attempt = self.forwards.attempt_last;
            let forward = self.forwards.open.get_mut(&number).expect("what is unsent is open");
            forward.sent = self.now;
            forward.attempts.push(attempt);
            let data = forward.data.clone();
            if leader != self.config.raft.id {
                self.send(leader, Packet::Forward { attempt, data });
            } else if let Err(why) = self.take(data) {
                let origin = Origin { node: self.member(), life: self.wal.epoch(), number };
                self.on_refused(origin, attempt, why);
            }
        }
    }

    /// Another member hands over what it was asked for.
    pub(super) fn on_forward(&mut self, from: NodeId, attempt: u64, data: Bytes) {
        let Some(origin) = command::origin(&data).filter(|origin| origin.node == from) else {
            return;
        };
        let Origin { life, .. } = origin;
        let seen = self.forwards.seen.get(&from);
        let is_old = seen.is_some_and(|it| (it.life, it.attempt) >= (life, attempt));
        if is_old || !self.raft.membership().contains(from) {
            return;
        }
        self.forwards.seen.insert(from, Seen { life, attempt });
        if let Err(why) = self.take(data) {
            self.send(from, Packet::Refused { origin, attempt, why });
        }
    }

    /// Gives what a member handed over its place in the log, unless it has one.
    fn take(&mut self, data: Bytes) -> Result<(), Why> {
        if !self.is_leader() {
            return Err(Why::NotLeader);
        }
        let origin = command::origin(&data).expect("it was looked at");
        if self.forwards.taken.contains(&origin) || !self.origins.is_new(origin) {
            return Ok(());
        }
        let waiting = self.proposals.len() + self.forwards.taken.len() + self.committed.len();
        if !self.has_room() || waiting >= self.config.waiting_max {
            return Err(Why::Busy);
        }
        if data.len() > self.config.command_size_max().saturating_add(ORIGIN_SIZE)
            || data.len() > self.wal.entry_size_max()
        {
            return Err(Why::Never);
        }
        let Ok(command) = ArchivedCommand::open(&data) else { return Err(Why::Never) };
        if let ArchivedCommand::Txn(txn) = command {
            // Who was asked has looked, by its own limits. What writes a key twice must not come
            // from another version either: each member would end when it applies that.
            validate(txn, usize::MAX).map_err(|_| Why::Never)?;
        }
        if let ArchivedCommand::Member { change } = command {
            let change = Change::decode(change).ok_or(Why::Never)?;
            self.take_change(origin, change, data)?;
            self.forwards.taken.insert(origin);
            return Ok(());
        }
        match self.raft.propose(data) {
            Ok(_) => {
                self.forwards.taken.insert(origin);
                Ok(())
            }
            Err(Rejected::NotLeader { .. }) => Err(Why::NotLeader),
            Err(Rejected::Overloaded | Rejected::Transferring) => Err(Why::Busy),
            Err(Rejected::ChangePending | Rejected::NoSuchChange) => {
                unreachable!("a write is no membership change")
            }
        }
    }

    /// A leader did not take an attempt.
    pub(super) fn on_refused(&mut self, origin: Origin, attempt: u64, why: Why) {
        if (origin.node, origin.life) != (self.member(), self.wal.epoch()) {
            return;
        }
        let Some(forward) = self.forwards.open.get_mut(&origin.number) else { return };
        let Some(at) = forward.attempts.iter().position(|it| *it == attempt) else { return };
        forward.attempts.remove(at);
        match why {
            Why::Never if forward.attempts.is_empty() => {
                let to = forward.to;
                self.forwards.remove(origin.number);
                self.reply(to, Err(Unavailable::TooLarge.into()));
            }
            Why::Member(refusal) if forward.attempts.is_empty() => {
                let to = forward.to;
                self.forwards.remove(origin.number);
                self.reply(to, Err(refusal.into()));
            }
            Why::NotLeader | Why::Busy | Why::Never | Why::Member(_) => {
                if !self.forwards.unsent.contains(&origin.number) {
                    self.forwards.refused.insert(origin.number);
                }
            }
        }
    }

    /// An entry with an origin is applied, or was before: who waits for that here.
    pub(super) fn forward_applied(&mut self, origin: Origin) -> Option<RequestId> {
        self.forwards.taken.remove(&origin);
        let is_own = (origin.node, origin.life) == (self.member(), self.wal.epoch());
        let forward = is_own.then(|| self.forwards.remove(origin.number)).flatten()?;
        Some(forward.to)
    }

    /// Another leads, or this one anew: what was handed over is handed over again, and what was
    /// taken from others may be gone.
    pub(super) fn forward_anew(&mut self) {
        self.forwards.taken.clear();
        self.forwards.again();
    }

    /// A peer is heard: if the connection to it broke, what it was given is given again.
    pub(super) fn forward_to(&mut self, peer: NodeId) {
        if self.forwards.lost == Some(peer) {
            self.forwards.lost = None;
            if self.raft.leader() == Some(peer) {
                self.forwards.again();
            }
        }
    }

    /// Whose time is over is told so; what was refused or lies long is handed over again.
    pub(super) fn expire_forwards(&mut self) {
        let refused = std::mem::take(&mut self.forwards.refused);
        self.forwards.unsent.extend(refused);
        while let Some(&(deadline, number)) = self.forwards.deadlines.first()
            && deadline <= self.now
        {
            let forward = self.forwards.remove(number).expect("it is there");
            let why = match forward.attempts.is_empty() {
                true => self.never_taken(&forward.data),
                false => self.late(deadline).into(),
            };
            self.reply(forward.to, Err(why));
        }
        if self.now >= self.forwards.look_next {
            let patience = self.config.raft.election_ticks;
            self.forwards.look_next = Tick(self.now.0.saturating_add(patience));
            let Forwards { open, unsent, .. } = &mut self.forwards;
            let late = open.iter().filter(|(_, it)| self.now.since(it.sent) >= patience);
            unsent.extend(late.map(|(number, _)| *number));
        }
    }
}

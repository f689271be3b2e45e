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

/// Bytes of changes that are on their way to a leader at once. 8 MiB: many round trips' worth, and
/// a part of what a connection's queue takes, so that they fill no queue, keep no heartbeat waiting
/// for long, and cost no more than that when they are handed over again.
const ON_WAY_SIZE_MAX: usize = 8 << 20;
/// Milliseconds before changes that a busy leader has refused are handed over again, at first. It
/// doubles with each time, up to an election's timeout, until one is applied.
const PAUSE_MIN: u64 = 20;

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
/// `unsent`, `on_way` and `refused` have numbers in `open`, and none in two of them; `deadlines`
/// has all of them. A change that was held before it got its number may have less time left than
/// those before it.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    open: BTreeMap<u64, Forward>,
    deadlines: BTreeSet<(Tick, u64)>,
    /// Bytes of all in `open`.
    size: usize,
    /// To be handed over.
    unsent: BTreeSet<u64>,
    /// Handed over to another member, which has said nothing of it yet.
    on_way: BTreeSet<u64>,
    /// Bytes of all in `on_way`.
    on_way_size: usize,
    /// To be handed over again, but not before `again_at`.
    refused: BTreeSet<u64>,
    again_at: Tick,
    /// How long `refused` was to wait the last time; 0 once a change is applied.
    pause: u64,
    number_last: u64,
    attempt_last: u64,
    /// When to look again for what was handed over long ago.
    look_next: Tick,
    /// The connection to whom it was handed broke: again, when it is back.
    lost: Option<NodeId>,
    /// Not before then, as connections may be lost again with each thing that is said.
    found_next: Tick,
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
        (self.size, self.on_way_size) = (0, 0);
        for numbers in [&mut self.unsent, &mut self.on_way, &mut self.refused] {
            numbers.clear();
        }
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
        if self.on_way.remove(&number) {
            self.on_way_size -= forward.data.len();
        }
        Some(forward)
    }

    /// Everything is to be handed over again.
    fn again(&mut self) {
        self.refused.clear();
        self.on_way.clear();
        self.on_way_size = 0;
        self.unsent = self.open.keys().copied().collect();
    }

    /// The next that is to be handed over, if so much may be on its way to `leader`.
    fn next_unsent(&mut self, is_own: bool) -> Option<u64> {
        let number = *self.unsent.first()?;
        let size = self.open.get(&number).expect("what is unsent is open").data.len();
        if !is_own {
            if !self.on_way.is_empty() && self.on_way_size + size > ON_WAY_SIZE_MAX {
                return None;
            }
            self.on_way.insert(number);
            self.on_way_size += size;
        }
        self.unsent.pop_first()
    }

    /// A leader that was too busy for it gets it again, after a while.
    fn refuse(&mut self, number: u64, now: Tick, pause_max: u64) {
        if self.unsent.contains(&number) {
            return;
        }
        if self.on_way.remove(&number) {
            self.on_way_size -= self.open.get(&number).map_or(0, |it| it.data.len());
        }
        if self.refused.is_empty() {
            self.pause = (2 * self.pause).clamp(PAUSE_MIN, pause_max.max(PAUSE_MIN));
            self.again_at = Tick(now.0.saturating_add(self.pause));
        }
        self.refused.insert(number);
    }

    /// What was refused a while ago is to be handed over, and what was handed over longer than
    /// `patience` ago; each time twice as long, as a slow leader is not helped by that.
    fn look_again(&mut self, now: Tick, patience: u64) {
        if now >= self.again_at {
            let refused = std::mem::take(&mut self.refused);
            self.unsent.extend(refused);
        }
        if now < self.look_next {
            return;
        }
        self.look_next = Tick(now.0.saturating_add(patience));
        let Self { open, unsent, on_way, on_way_size, refused, .. } = self;
        let patience = |it: &Forward| patience << it.attempts.len().clamp(1, 4) >> 1;
        for (number, late) in open.iter().filter(|(_, it)| now.since(it.sent) >= patience(it)) {
            if !refused.contains(number) {
                unsent.insert(*number);
                *on_way_size -= if on_way.remove(number) { late.data.len() } else { 0 };
            }
        }
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
        while let Some(number) = self.forwards.next_unsent(leader == self.member()) {
            self.forwards.attempt_last += 1;
            let attempt = self.forwards.attempt_last;
            let forward = self.forwards.open.get_mut(&number).expect("what is unsent is open");
            forward.sent = self.now;
            forward.attempts.push(attempt);
            let data = forward.data.clone();
            if leader != self.member() {
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
                let pause_max = self.config.raft.election_ticks;
                self.forwards.refuse(origin.number, self.now, pause_max);
            }
        }
    }

    /// An entry with an origin is applied, or was before: who waits for that here.
    pub(super) fn forward_applied(&mut self, origin: Origin) -> Option<RequestId> {
        self.forwards.taken.remove(&origin);
        let is_own = (origin.node, origin.life) == (self.member(), self.wal.epoch());
        let forward = is_own.then(|| self.forwards.remove(origin.number)).flatten()?;
        self.forwards.pause = 0;
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
        if self.forwards.lost == Some(peer) && self.now >= self.forwards.found_next {
            self.forwards.lost = None;
            let pause = self.config.raft.heartbeat_ticks;
            self.forwards.found_next = Tick(self.now.0.saturating_add(pause));
            if self.raft.leader() == Some(peer) {
                self.forwards.again();
            }
        }
    }

    /// Whose time is over is told so; what was refused or lies long is handed over again.
    pub(super) fn expire_forwards(&mut self) {
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
        self.forwards.look_again(self.now, self.config.raft.election_ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes of a MiB each, of which none is handed over.
    fn waiting(count: u64) -> Forwards {
        let mut forwards = Forwards::default();
        for number in 1..=count {
            let to = RequestId { core: 0, connection: 0, generation: 0, stream: 1 };
            let (data, attempts) = (Bytes::from(vec![0; 1 << 20]), Vec::new());
            let (deadline, sent) = (Tick(7_000), Tick(0));
            forwards.insert(number, Forward { data, to, deadline, sent, attempts });
        }
        forwards
    }

    /// Those that may be handed over now.
    fn next(forwards: &mut Forwards, is_own: bool) -> Vec<u64> {
        core::iter::from_fn(|| forwards.next_unsent(is_own)).collect()
    }

    /// All of them left at once, each time that a packet came after the queue of the connection
    /// was full: most of what they sent was what they had sent before.
    #[test]
    fn so_many_bytes_are_on_their_way_at_once() {
        let mut forwards = waiting(64);
        assert_eq!(next(&mut forwards, false), (1..=8).collect::<Vec<_>>());
        assert!(next(&mut forwards, false).is_empty());
        forwards.remove(3);
        forwards.remove(7);
        assert_eq!(next(&mut forwards, false), [9, 10]);
        forwards.again();
        assert_eq!(next(&mut forwards, false), [1, 2, 4, 5, 6, 8, 9, 10]);
        // Long ago, by the time at which they came.
        forwards.look_again(Tick(1_000), 1_000);
        assert_eq!(next(&mut forwards, false), [1, 2, 4, 5, 6, 8, 9, 10]);
        (1..=64).for_each(|number| drop(forwards.remove(number)));
        assert_eq!((forwards.on_way_size, forwards.size), (0, 0));
        let mut forwards = waiting(64);
        assert_eq!(next(&mut forwards, true).len(), 64, "nothing is sent to oneself");
    }

    #[test]
    fn one_that_is_larger_than_what_may_be_on_its_way_goes_alone() {
        let mut forwards = waiting(2);
        let mut large = forwards.remove(1).unwrap();
        large.data = Bytes::from(vec![0; ON_WAY_SIZE_MAX + 1]);
        forwards.insert(1, large);
        assert_eq!(next(&mut forwards, false), [1]);
        forwards.remove(1);
        assert_eq!(next(&mut forwards, false), [2]);
    }

    #[test]
    fn what_was_handed_over_twice_lies_for_twice_as_long() {
        let mut forwards = waiting(1);
        let mut times = Vec::new();
        for now in (0..8_000).step_by(10) {
            if let [number] = next(&mut forwards, false)[..] {
                let forward = forwards.open.get_mut(&number).unwrap();
                forward.sent = Tick(now);
                forward.attempts.push(now);
                times.push(now);
            }
            forwards.look_again(Tick(now), 1_000);
        }
        assert_eq!(times, [0, 1_010, 4_010], "it is looked at each second");
    }

    /// A busy leader got all of them again with each tick.
    #[test]
    fn what_a_busy_leader_refuses_comes_again_after_longer_and_longer() {
        let mut forwards = waiting(3);
        let (mut now, mut pauses) = (0, Vec::new());
        for _ in 0..8 {
            let given = next(&mut forwards, false);
            assert_eq!(given, [1, 2, 3]);
            given.into_iter().for_each(|number| forwards.refuse(number, Tick(now), 1_000));
            assert!(forwards.on_way.is_empty() && forwards.on_way_size == 0);
            let began = now;
            while forwards.unsent.is_empty() {
                now += 10;
                forwards.look_again(Tick(now), 1_000);
            }
            pauses.push(now - began);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    }
}

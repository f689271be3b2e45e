//! From the log to the store, and from the store to oblivion: when the tail is sealed, when the log
//! is let go, and what a compaction may forget.
//!
//! **Invariant:** nothing is forgotten below a floor that the sealed state does not have. A restart
//! begins at the sealed state and applies the log after it, and must find every value which that
//! needs.
//!
//! **Invariant:** the log holds every entry after the last sealed state whose manifest is durable,
//! and the log on disk reaches as far as any sealed state. Entries may be applied before they are
//! durable here, as a majority elsewhere has them; such a state is not sealed. So when a seal is
//! due, what is not durable waits for it.
//!
//! Of the entries that are sealed, so many stay that a peer which was away for a moment finds them;
//! and all that follow a state which a peer is being sent.

use crate::raft;
use crate::shard::Shard;
use crate::shard::command::Command;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::state::State;
use crate::types::LogIndex;
use crate::types::Revision;
use crate::wal;

/// What the log calls the write of a snapshot's mark; Raft's own tickets count from the beginning.
pub(super) const MARK_TOKEN: u64 = u64::MAX;
/// Changes forgotten in one slice: some 30 us. Each put may meet two slices, and the threads of the
/// system that tell of its write two more.
const FORGET_STEP: u64 = 32;
/// Changes forgotten in one slice at most, however many came since the last one: about as long as
/// it takes to apply so many.
const FORGET_STEP_MAX: u64 = 1024;
/// Changes that may be forgotten per millisecond, so that a large compaction takes a small part of
/// the core. etcd forgets 100 per millisecond, and stops in between.
const FORGET_RATE: u64 = 125;
/// Changes that may be forgotten for each that comes, whatever the rate: who writes faster than
/// that for ever would have the index grow for ever.
const FORGET_SHARE: u64 = 2;
/// Most milliseconds that one tick gives leave for.
const TICK_MAX: u64 = 40;
/// Changes that may be forgotten at once after a rest.
const FORGET_BURST: u64 = TICK_MAX * FORGET_RATE;
/// Records that one slice of cleaning looks at.
const CLEAN_STEP: usize = 64;

/// How far sealing and forgetting have come.
#[derive(Debug, Default)]
pub(super) struct Seals {
    /// The state that is being sealed.
    pub(super) sealing: Option<State>,
    /// The last state whose manifest is durable.
    pub(super) sealed: Option<State>,
    /// A mark is on its way into the log, for this entry.
    marking: Option<raft::Position>,
    /// Everything dead at this floor is forgotten.
    forgotten: Option<Revision>,
    /// Changes that may be forgotten now.
    allowance: u64,
    /// Changes that had come when the last slice was forgotten.
    come: u64,
    /// Who waits for a compaction to be done, in the order they came.
    pub(super) physical: Vec<(RequestId, Revision, Response)>,
}

impl Seals {
    pub(super) fn new(sealed: Option<State>) -> Self {
        Self { sealed, ..Self::default() }
    }

    /// The floor up to which changes may be forgotten.
    fn floor(&self) -> Option<Revision> {
        self.sealed.as_ref()?.floor
    }

    /// Nobody waits for this compaction to be done any more.
    pub(super) fn forget(&mut self, to: RequestId) {
        self.physical.retain(|(waits, ..)| *waits != to);
    }

    /// How many changes a slice may forget, now that so many have come.
    fn budget(&mut self, come: u64) -> usize {
        let new = (come - std::mem::replace(&mut self.come, come)).saturating_mul(FORGET_SHARE);
        self.allowance = (self.allowance + new).min(FORGET_BURST);
        let step = new.clamp(FORGET_STEP, FORGET_STEP_MAX);
        usize::try_from(step.min(self.allowance)).expect("it is small")
    }

    pub(super) fn tick(&mut self, elapsed: u64) {
        let gained = elapsed.min(TICK_MAX) * FORGET_RATE;
        self.allowance = (self.allowance + gained).min(FORGET_BURST);
    }
}

impl Shard {
    /// Seals what is applied, if there is a reason to; whether it did.
    pub(super) fn seal_if_due(&mut self) -> bool {
        if !self.is_seal_due() || self.applied > self.raft.durable() {
            return false;
        }
        let state = State {
            applied: raft::Position { term: self.applied_term, index: self.applied },
            revision: self.keyspace.revision(),
            floor: self.keyspace.compacted(),
            membership: self.membership.clone(),
            members: Some(self.members.clone()),
            origins: self.origins.clone(),
        };
        self.store.seal(self.applied.0, state.encode(&self.leases.lessor));
        self.seals.sealing = Some(state);
        self.apply_committed();
        true
    }

    /// Whether entry `index`, which is committed, is to be applied only after a seal.
    pub(super) fn waits_to_seal(&self, index: LogIndex) -> bool {
        index > self.raft.durable() && self.is_seal_due()
    }

    /// Whether the log waits for the seal that is under way, as the tail is full.
    ///
    /// What a leader writes waits where it is asked for. What it sends is taken as fast as it is
    /// written here, and a majority elsewhere does not wait: on a disk that has no time left for
    /// the seal, what is not sealed would grow without bound. What is not written the leader is not
    /// told of, and it sends no more than so much ahead.
    pub(super) fn log_waits(&self) -> bool {
        self.store.is_full()
            && self.store.is_sealing()
            && self.raft.leader().is_some_and(|leader| leader != self.member())
    }

    /// Whether there is a reason to seal.
    fn is_seal_due(&self) -> bool {
        if self.seals.sealing.is_some() || self.applied.0 == 0 {
            return false;
        }
        let is_floor_due = self.keyspace.compacted() > self.seals.floor();
        let sealed = self.seals.sealed.as_ref().map_or(0, |state| state.applied.index.0);
        let is_long = self.applied.0 - sealed >= self.config.seal_entries_max;
        is_floor_due || is_long || self.store.wants_seal()
    }

    /// What was sealed is durable: the log is told, and lets go once that is durable too.
    pub(super) fn on_sealed(&mut self) {
        while let Some(token) = self.store.sealed() {
            let state = self.seals.sealing.take().expect("something was being sealed");
            assert!(state.applied.index.0 == token, "seals are durable in order");
            if self.seals.marking.is_none() {
                self.wal.append(&wal::Record::Snapshot {
                    term: state.applied.term,
                    index: state.applied.index,
                    reset: false,
                    membership: &state.membership.encode(),
                });
                self.wal.submit(MARK_TOKEN);
                self.seals.marking = Some(state.applied);
                self.unmarked = Some(self.now);
            }
            self.seals.sealed = Some(state);
        }
    }

    /// The log knows durably that the store has all up to the mark.
    pub(super) fn on_marked(&mut self) {
        let last = self.seals.marking.take().expect("a mark was under way");
        let kept = self.config.catchup_entries;
        let last = LogIndex(last.index.0.saturating_sub(kept));
        let last = self.sends.needed().map_or(last, |needed| last.min(needed));
        // After a restart its term may not be known; a later mark lets it go then.
        if let Some(last) = self.raft.position(last) {
            self.wal.release(last.index);
            self.raft.handle(raft::Input::Compacted { last });
        }
    }

    /// Proposes a compaction where the node's own rule asks for one.
    pub(super) fn compact_by_itself(&mut self) {
        let revision = self.keyspace.revision();
        let Some(due) = self.auto.tick(self.now, revision, self.is_leader()) else { return };
        let command = Command::Compact { revision: due.0, physical: false };
        let is_proposed = self.has_room() && self.raft.propose(command.encode()).is_ok();
        self.auto.answered(self.now, is_proposed);
    }

    /// A slice of forgetting and one of cleaning, for whoever asked for it or not; whether there is
    /// more to do at once.
    pub(super) fn step_compaction(&mut self) -> bool {
        self.forget_step() | self.step_defragment() | self.store.work(CLEAN_STEP)
    }

    fn forget_step(&mut self) -> bool {
        let Some(floor) = self.seals.floor() else { return false };
        let floor = self.keyspace.oldest_pin().map_or(floor, |pin| floor.min(pin));
        let budget = self.seals.budget(self.store.change_count());
        if self.seals.forgotten.is_some_and(|done| floor <= done) || budget == 0 {
            return false;
        }
        let store = &mut self.store;
        let mut told = 0;
        let is_more = self.keyspace.compact_step(floor, budget, |location| {
            told += 1;
            store.forget(location);
        });
        self.seals.allowance = self.seals.allowance.saturating_sub(told.max(1));
        if is_more {
            self.store.forgetting();
        } else {
            self.seals.forgotten = Some(floor);
            self.store.forgotten(floor);
            self.answer_physical(floor);
        }
        is_more && self.seals.allowance > 0
    }

    /// Whether all that can be forgotten of what was compacted at `floor` is. What a reader has
    /// pinned can not.
    pub(super) fn is_forgotten(&self, floor: Option<Revision>) -> bool {
        let Some(floor) = floor else { return true };
        let floor = self.keyspace.oldest_pin().map_or(floor, |pin| floor.min(pin));
        self.seals.forgotten >= Some(floor)
    }

    /// Everything below `floor` is forgotten.
    fn answer_physical(&mut self, floor: Revision) {
        for (to, revision, response) in std::mem::take(&mut self.seals.physical) {
            if revision <= floor {
                self.reply(to, Ok(response));
            } else {
                self.seals.physical.push((to, revision, response));
            }
        }
    }
}

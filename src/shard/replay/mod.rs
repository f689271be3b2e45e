//! Replays: changes of the past for watchers that are behind, a slice at a time.
//!
//! A core asks for one slice, and is told what it holds and how far it goes; for what comes after
//! it asks again. So the shard keeps nothing of a watcher between two slices, and a slow one costs
//! it nothing. Slices are made beside everything else, in short steps that take turns, so many at a
//! time; the others wait in the order they came.
//!
//! **Invariant:** while a slice is made, what it needs is pinned, and not a moment longer.

mod earliest;
mod slice;

use crate::shard::Shard;
use crate::shard::replay::slice::Making;
use crate::shard::replay::slice::Source;
use crate::shard::wants::Waiter;
use crate::shard::watch::Asker;
use crate::shard::watch::Past;
use crate::shard::watch::Slice;
use crate::shard::watch::Told;
use crate::store::Fetched;
use crate::store::Pin;
use crate::types::Revision;
use std::collections::BTreeMap;

/// What the making of slices may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Slices made at a time, 32 by default; the others wait.
    open_max: usize,
    /// Bytes that all slices being made may hold together, 64 MiB by default. Each may exceed its
    /// share by what its last revision has, as no revision is cut.
    open_size_max: usize,
    /// Bytes of one slice, 4 MiB by default, if more are asked for.
    slice_size_max: usize,
    /// Events of one slice, 4096 by default: what small ones take besides their bytes is a
    /// megabyte.
    events_max: usize,
    /// Revisions from the present, 512 by default, that are scanned before the index is asked: they
    /// are in memory.
    near: i64,
    /// Keys and changes that the first walk looks at, 512 by default.
    glance: usize,
    /// Changes that the first scan passes, 2048 by default.
    sample: usize,
    /// Keys and changes that the second walk looks at, 16,384 by default: a millisecond or two,
    /// spread over many steps.
    walk: usize,
    /// Changes that the second scan passes, 16,384 by default.
    scan: usize,
    /// Changes that a walk finds, 1024 by default, however many there are.
    walk_events_max: usize,
    /// Blocks on their way for one slice, 32 by default, but for those read ahead of its scan.
    fetches_max: usize,
    /// Blocks read ahead of a scan, 16 by default.
    ahead_blocks: u32,
    /// Changes looked at in one turn, 2048 by default: a tenth of a millisecond or two.
    step: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_max: 32,
            open_size_max: 64 << 20,
            slice_size_max: 4 << 20,
            events_max: 4096,
            near: 512,
            glance: 512,
            sample: 2048,
            walk: 16_384,
            scan: 16_384,
            walk_events_max: 1024,
            fetches_max: 32,
            ahead_blocks: 16,
            step: 2048,
        }
    }
}

/// All slices that are asked for.
///
/// # Shape
/// Each has a number, which ascends in the order they came; all that wait are above all that are
/// open.
#[derive(Debug, Default)]
pub(super) struct Replays {
    limits: Limits,
    names: BTreeMap<Asker, u64>,
    waiting: BTreeMap<u64, (Asker, Past)>,
    /// Bytes of those that wait.
    waiting_size: usize,
    open: BTreeMap<u64, Replay>,
    /// Bytes that those that are open may hold.
    open_size: usize,
    number_last: u64,
    /// Whose step comes next is after this one.
    turn_last: u64,
    /// Changes looked at since [`Shard::work`] was asked.
    looked: usize,
}

/// A slice that is being made.
#[derive(Debug)]
struct Replay {
    to: Asker,
    making: Making,
    /// Bytes that it may hold.
    size: usize,
    kept: Revision,
    pin: Pin,
}

impl Replays {
    /// Whose turn it is to take a step.
    fn next_turn(&self) -> Option<u64> {
        let busy = |(id, replay): (&u64, &Replay)| replay.making.is_busy().then_some(*id);
        let mut later = self.open.range(self.turn_last + 1..);
        later.find_map(busy).or_else(|| self.open.iter().find_map(busy))
    }
}

impl Shard {
    /// A core asks for a slice. Under a name that it has given already, it wants the other one no
    /// longer.
    pub(super) fn ask_replay(&mut self, from: Asker, past: Past) {
        self.forget_replay(from);
        if self.is_settled(from, &past) {
            return;
        }
        let size = self.replays.waiting_size + past.memory_size();
        let is_full = self.replays.waiting.len() >= self.config.waiting_max
            || size > self.config.waiting_size_max;
        if is_full {
            return self.tell(Told::Replayed { to: from, slice: Slice::Busy });
        }
        self.replays.number_last += 1;
        let id = self.replays.number_last;
        self.replays.names.insert(from, id);
        self.replays.waiting_size = size;
        self.replays.waiting.insert(id, (from, past));
        self.open_replays();
        // Most are made in one step.
        if self.replays.looked < self.replays.limits.step && self.replays.open.contains_key(&id) {
            self.step_replay(id);
        }
    }

    /// Nobody waits for a slice any more.
    pub(super) fn forget_replay(&mut self, from: Asker) {
        let Some(id) = self.replays.names.remove(&from) else { return };
        if let Some((_, past)) = self.replays.waiting.remove(&id) {
            self.replays.waiting_size -= past.memory_size();
        }
        if let Some(replay) = self.replays.open.remove(&id) {
            let _ = self.close_replay(replay);
            self.open_replays();
        }
    }

    /// Steps of slices, whose turn it is; whether any has more to do at once.
    pub(super) fn step_replays(&mut self) -> bool {
        self.replays.looked = 0;
        while self.replays.looked < self.replays.limits.step {
            let Some(id) = self.replays.next_turn() else { return false };
            self.replays.turn_last = id;
            self.step_replay(id);
        }
        self.replays.next_turn().is_some()
    }

    /// A block that a slice waits for is here.
    pub(super) fn replay_fetched(&mut self, id: u64, fetched: &Fetched) {
        let Some(mut replay) = self.replays.open.remove(&id) else { return };
        let source = Source { keyspace: &self.keyspace, store: &self.store };
        replay.making.arrived(source, fetched);
        self.go_on(id, replay);
    }

    /// Whoever waits for a slice is told to ask again.
    pub(super) fn refuse_replays(&mut self) {
        for (to, _) in std::mem::take(&mut self.replays.names) {
            self.tell(Told::Replayed { to, slice: Slice::Busy });
        }
    }

    fn step_replay(&mut self, id: u64) {
        let Some(mut replay) = self.replays.open.remove(&id) else { return };
        let source = Source { keyspace: &self.keyspace, store: &self.store };
        self.replays.looked += replay.making.step(source, self.replays.limits.step);
        self.go_on(id, replay);
    }

    /// Tells a slice that is made, or asks for the blocks that it lacks.
    fn go_on(&mut self, id: u64, mut replay: Replay) {
        if replay.making.is_made() {
            self.replays.names.remove(&replay.to);
            let to = replay.to;
            let (events, until) = self.close_replay(replay).finish();
            let slice = Slice::Events { header: self.header(), events, until };
            self.tell(Told::Replayed { to, slice });
            return self.open_replays();
        }
        let (awaited, lacked) = replay.making.wanted();
        for block in lacked {
            if self.wants.want(block, Waiter::Replay(id)) {
                self.store.fetch(block);
            }
        }
        if let Some(block) = awaited {
            self.wants.want(block, Waiter::Replay(id));
            self.store.fetch_ahead(block, self.replays.limits.ahead_blocks);
        }
        self.replays.open.insert(id, replay);
    }

    /// Opens those that have waited longest while there is room.
    fn open_replays(&mut self) {
        while self.replays.open.len() < self.replays.limits.open_max
            && let Some(next) = self.replays.waiting.first_entry()
        {
            let size = next.get().1.size_max.min(self.replays.limits.slice_size_max);
            let is_alone = self.replays.open.is_empty();
            if self.replays.open_size + size > self.replays.limits.open_size_max && !is_alone {
                return;
            }
            let (id, (to, past)) = next.remove_entry();
            self.replays.waiting_size -= past.memory_size();
            if self.is_settled(to, &past) {
                self.replays.names.remove(&to);
                continue;
            }
            self.replays.open_size += size;
            let from = past.from.max(FIRST);
            let floor = self.keyspace.compacted().unwrap_or(FIRST);
            // What was before the first change is seen one revision earlier.
            let kept = Revision(from.0 - i64::from(past.prev_kv)).max(floor);
            self.keyspace.pin(kept);
            let pin = self.store.pin();
            let making = Making::new(past, from, &self.keyspace, self.replays.limits);
            self.replays.open.insert(id, Replay { to, making, size, kept, pin });
        }
    }

    fn close_replay(&mut self, replay: Replay) -> Making {
        self.replays.open_size -= replay.size;
        self.keyspace.unpin(replay.kept);
        self.store.unpin(replay.pin);
        replay.making
    }

    /// Tells what needs no looking: that the past is compacted, or not past.
    fn is_settled(&mut self, to: Asker, past: &Past) -> bool {
        let header = self.header();
        let slice = match self.keyspace.compacted() {
            Some(floor) if past.from < floor => Slice::Compacted { header, floor },
            _ if past.from > header.revision => {
                Slice::Events { header, events: Vec::new(), until: header.revision }
            }
            _ => return false,
        };
        self.tell(Told::Replayed { to, slice });
        true
    }
}

/// No change is as old as this.
const FIRST: Revision = Revision(1);

#[cfg(test)]
mod tests;

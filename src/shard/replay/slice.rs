//! One slice of the past while it is made.
//!
//! Two ways lead to the events of a range. The **scan** passes over every change since a revision,
//! in order. The **walk** visits, in the index, every key of the range that has changed since, and
//! finds which changes come first. The one is dear where much has happened elsewhere, the other
//! where many keys have changed, and neither is known before. So they take turns, each for longer
//! than the one before, until one of them has come to its end:
//!
//! ```text
//!   Glance ──► Sample ──► Walk ──► Scan ──► Over
//!     └────────────┼────────┴──► Fill ──────►┘
//!                  └──────► Scan, if what it met was mostly of the range
//! ```
//!
//! What is on disk is fetched meanwhile: the block that the scan has come to, or one that an event
//! lacks its value from.

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::shard::records::KNOWN;
use crate::shard::replay::Limits;
use crate::shard::replay::earliest::Candidate;
use crate::shard::replay::earliest::Earliest;
use crate::shard::replay::earliest::Walked;
use crate::shard::watch::Event;
use crate::shard::watch::Past;
use crate::shard::watch::Prev;
use crate::store::BlockId;
use crate::store::ChangeRef;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Scan;
use crate::store::Store;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::btree_map;

/// The scan is dear where not even one change in so many is of the range.
const SPARSE: usize = 16;
/// Changes that the scan passes before the price of what it found is looked at.
const STRETCH: usize = 64;
/// What an event costs, in changes looked at.
const EVENT_COST: usize = 4;
/// What one costs with the pair before it, which is looked for in the index and the store.
const PAIR_COST: usize = 20;

/// Where a slice is made from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) keyspace: &'a Keyspace,
    pub(super) store: &'a Store,
}

/// A slice that is being made.
#[derive(Debug)]
pub(super) struct Making {
    past: Past,
    limits: Limits,
    size_max: usize,
    /// The first revision.
    from: Revision,
    /// The revision last compacted when it was begun: nothing is told of what was before.
    floor: Option<Revision>,
    phase: Phase,
    /// What the phase may still look at.
    left: usize,
    /// None once it has led nowhere.
    walk: Option<Earliest>,
    /// Where the scan goes on.
    next: Location,
    /// Changes that the scan has passed.
    scanned: usize,
    /// The block that the scan cannot go on without.
    awaited: Option<BlockId>,
    gathered: Gathered,
    /// What events lack, by the block that has it.
    holes: BTreeMap<BlockId, Vec<Hole>>,
    /// Blocks that are on their way.
    asked: BTreeSet<BlockId>,
}

/// What is done.
#[derive(Debug)]
enum Phase {
    /// A short walk: it comes to its end where few keys have changed.
    Glance,
    /// A short scan: it comes to its end where little has happened, and else tells how much of it
    /// is of the range.
    Sample,
    /// The walk goes on.
    Walk,
    /// The scan goes on.
    Scan,
    /// What the walk has found becomes events: all up to a revision.
    Fill(btree_map::IntoIter<Location, Candidate>, Revision),
    /// All events are gathered.
    Over,
}

/// The events so far.
///
/// # Shape
/// The first `whole` are those of revisions up to `until`; those after them are of one revision.
#[derive(Debug)]
struct Gathered {
    events: Vec<Event>,
    size: usize,
    whole: usize,
    until: Revision,
}

/// What an event lacks.
#[derive(Clone, Copy, Debug)]
struct Hole {
    event: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Its value.
    Value,
    /// The value before it.
    Prev,
}

impl Gathered {
    fn new(until: Revision) -> Self {
        Self { events: Vec::new(), size: 0, whole: 0, until }
    }

    /// All events up to a revision are here.
    fn settle(&mut self, until: Revision) {
        if until > self.until {
            self.until = until;
            self.whole = self.events.len();
        }
    }

    fn is_full(&self, size_max: usize, limits: &Limits) -> bool {
        let is_large = self.size >= size_max || self.events.len() >= limits.events_max;
        is_large && self.whole > 0 && self.whole == self.events.len()
    }
}

impl Making {
    /// A slice of `past` from `from` on, which is neither compacted nor in the future.
    pub(super) fn new(past: Past, from: Revision, keyspace: &Keyspace, limits: Limits) -> Self {
        let now = keyspace.revision();
        let is_one = matches!(past.range(), KeyRange::One(_));
        let is_near = now.0 - from.0 < limits.near;
        let (phase, left) = if is_near && !is_one {
            (Phase::Sample, limits.sample)
        } else {
            (Phase::Glance, limits.glance)
        };
        let size_max = past.size_max.min(limits.slice_size_max);
        Self {
            size_max,
            from,
            floor: keyspace.compacted(),
            phase,
            left,
            walk: Some(Earliest::new(now, limits.walk_events_max, size_max)),
            next: Location { main: from, sub: 0 },
            scanned: 0,
            awaited: None,
            gathered: Gathered::new(Revision(from.0 - 1)),
            holes: BTreeMap::new(),
            asked: BTreeSet::new(),
            past,
            limits,
        }
    }

    /// Whether a step would do something.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.phase, Phase::Over) && self.awaited.is_none()
    }

    /// Whether it is made.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.phase, Phase::Over) && self.holes.is_empty()
    }

    /// The events, and the revision up to which there are no others.
    ///
    /// # Panics
    /// If it is not made.
    pub(super) fn finish(self) -> (Vec<Event>, Revision) {
        assert!(self.is_made(), "what is told is whole");
        (self.gathered.events, self.gathered.until)
    }

    /// Looks at about `budget` changes; at how many it did.
    pub(super) fn step(&mut self, source: Source<'_>, budget: usize) -> usize {
        let mut spent = 0;
        while self.is_busy() && spent < budget {
            let rest = budget - spent;
            spent += match self.phase {
                Phase::Glance | Phase::Walk => self.step_walk(source, rest),
                Phase::Sample | Phase::Scan => self.step_scan(source, rest),
                Phase::Fill(..) => self.step_fill(source, rest),
                Phase::Over => unreachable!("it would not be busy"),
            };
        }
        spent.max(1)
    }

    fn step_walk(&mut self, source: Source<'_>, budget: usize) -> usize {
        let walk = self.walk.as_mut().expect("it has not led nowhere yet");
        let budget = budget.min(self.left);
        let (looked, walked) = walk.walk(source.keyspace, (&self.past, self.from), budget);
        match walked {
            Walked::All(first, until) if until >= self.from => {
                self.walk = None;
                self.gathered = Gathered::new(Revision(self.from.0 - 1));
                self.holes.clear();
                self.phase = Phase::Fill(first.into_iter(), until);
                looked
            }
            // A single revision has more changes than the walk can hold.
            Walked::All(..) => {
                self.walk = None;
                self.give_up_walk();
                looked
            }
            Walked::Part => {
                self.left -= budget;
                if self.left == 0 {
                    self.give_up_walk();
                }
                budget.max(looked)
            }
        }
    }

    /// The walk has not come to its end.
    fn give_up_walk(&mut self) {
        (self.phase, self.left) = if matches!(self.phase, Phase::Glance) {
            (Phase::Sample, self.limits.sample)
        } else {
            self.walk = None;
            (Phase::Scan, self.limits.scan)
        };
    }

    fn step_scan(&mut self, source: Source<'_>, budget: usize) -> usize {
        let (next, before) = (self.next, (self.scanned, self.gathered.events.len()));
        let budget = budget.min(self.left).min(STRETCH);
        let scan = source.store.scan(next, budget, &mut |change| self.meet(source, &change));
        self.on_scan(source, scan, before.0);
        let events = self.gathered.events.len().saturating_sub(before.1);
        self.scanned - before.0 + events * self.event_cost()
    }

    /// The scan meets a change.
    fn meet(&mut self, source: Source<'_>, change: &ChangeRef<'_>) {
        self.scanned += 1;
        if !self.reach(change.location) {
            return;
        }
        let is_wanted =
            self.past.range().contains(change.key) && self.past.takes(change.is_tombstone());
        if is_wanted {
            let change = Change {
                location: change.location,
                key: Bytes::copy_from_slice(change.key),
                value: Bytes::copy_from_slice(change.value),
                lease: change.lease,
                created: change.created,
                version: change.version,
            };
            self.push(source, change, None);
        }
    }

    /// All before `location` is gathered; whether there is room for more.
    fn reach(&mut self, location: Location) -> bool {
        let is_full = |gathered: &Gathered| gathered.is_full(self.size_max, &self.limits);
        if is_full(&self.gathered) {
            return false;
        }
        self.gathered.settle(Revision(location.main.0 - 1));
        !is_full(&self.gathered)
    }

    /// The scan has come so far.
    fn on_scan(&mut self, source: Source<'_>, scan: Scan, scanned_before: usize) {
        self.left = self.left.saturating_sub(self.scanned - scanned_before);
        self.awaited = None;
        match scan {
            _ if self.gathered.is_full(self.size_max, &self.limits) => return self.end(),
            Scan::End => {
                self.gathered.settle(source.keyspace.revision());
                return self.end();
            }
            Scan::Next(next) => self.next = next,
            Scan::Away(block, next) => {
                self.next = next;
                self.awaited = Some(block);
            }
        }
        let is_full = !self.reach(self.next);
        let is_any_whole = self.gathered.until >= self.from;
        if is_full || (self.left == 0 && is_any_whole && matches!(self.phase, Phase::Scan)) {
            return self.end();
        }
        if self.left > 0 {
            return;
        }
        let is_sparse = self.gathered.events.len() * SPARSE < self.scanned;
        if matches!(self.phase, Phase::Sample) && is_sparse && self.walk.is_some() {
            self.awaited = None;
            (self.phase, self.left) = (Phase::Walk, self.limits.walk);
        } else {
            (self.phase, self.left) = (Phase::Scan, self.limits.scan);
        }
    }

    fn event_cost(&self) -> usize {
        if self.past.prev_kv { PAIR_COST } else { EVENT_COST }
    }

    fn step_fill(&mut self, source: Source<'_>, budget: usize) -> usize {
        let mut spent = 0;
        while spent < budget {
            let Phase::Fill(rest, until) = &mut self.phase else { break };
            let (until, next) = (*until, rest.next());
            let Some((location, (key, found))) = next else {
                self.gathered.settle(until);
                self.end();
                break;
            };
            if !self.reach(location) {
                self.end();
                break;
            }
            self.fill(source, location, key, found);
            spent += self.event_cost();
        }
        spent
    }

    /// Makes an event of what the walk has found.
    fn fill(
        &mut self,
        Source { keyspace, store }: Source<'_>,
        location: Location,
        key: Bytes,
        found: Option<Found>,
    ) {
        let (value, away) = match found {
            Some(_) => match store.value(location).expect(KNOWN) {
                Lookup::Here(value) => (value.apart(), None),
                Lookup::Away(block) => (Bytes::new(), Some(block)),
            },
            None => (Bytes::new(), None),
        };
        let lease = found.map_or(LeaseId(0), |_| store.lease(location).expect(KNOWN));
        let (created, version) =
            found.map_or((Revision(0), 0), |found| (found.created, found.version));
        let change = Change { location, key, value, lease, created, version };
        self.push(Source { keyspace, store }, change, away);
    }

    /// Adds an event; its value is in block `away` if in any.
    fn push(
        &mut self,
        Source { keyspace, store }: Source<'_>,
        change: Change,
        away: Option<BlockId>,
    ) {
        let event = self.gathered.events.len();
        let key_size = change.key.len();
        let size_of = |location| store.value_size(location, key_size).expect(KNOWN);
        self.gathered.size += key_size;
        self.gathered.size +=
            if away.is_some() { size_of(change.location) } else { change.value.len() };
        if let Some(block) = away {
            self.holes.entry(block).or_default().push(Hole { event, what: What::Value });
        }
        let prev = self.before(keyspace, &change).map_or(Prev::None, |found| {
            let (value, size) = match store.value(found.location).expect(KNOWN) {
                Lookup::Here(value) => (value.apart(), value.as_slice().len()),
                Lookup::Away(block) => {
                    self.holes.entry(block).or_default().push(Hole { event, what: What::Prev });
                    (Bytes::new(), size_of(found.location))
                }
            };
            self.gathered.size += size;
            let Found { created, location, version } = found;
            let lease = store.lease(location).expect(KNOWN);
            Prev::Pair { location, created, version, lease, value }
        });
        self.gathered.events.push(Event { change, prev });
    }

    /// What was before a change, if that is to be told.
    fn before(&self, keyspace: &Keyspace, change: &Change) -> Option<Found> {
        let before = Revision(change.location.main.0 - 1);
        let is_told = self.past.prev_kv
            && change.created != change.location.main
            && self.floor.is_none_or(|floor| floor <= before);
        if is_told { keyspace.get_at(&change.key, before) } else { None }
    }

    /// No more is gathered: what is not whole is left for another slice.
    fn end(&mut self) {
        self.phase = Phase::Over;
        self.awaited = None;
        let whole = self.gathered.whole;
        self.gathered.events.truncate(whole);
        self.holes.retain(|_, holes| {
            holes.retain(|hole| hole.event < whole);
            !holes.is_empty()
        });
    }

    /// Blocks that are to be fetched now, so that no more than the limit are on their way: the one
    /// that the scan waits for, and those that events lack.
    pub(super) fn wanted(&mut self) -> (Option<BlockId>, Vec<BlockId>) {
        let awaited = self.awaited.filter(|block| self.asked.insert(*block));
        let room = self.limits.fetches_max.saturating_sub(self.asked.len());
        let holes = self.holes.keys().filter(|block| !self.asked.contains(block));
        let holes: Vec<_> = holes.take(room).copied().collect();
        self.asked.extend(&holes);
        (awaited, holes)
    }

    /// A block has come: what it has is taken from it now, as it need not stay in memory.
    pub(super) fn arrived(&mut self, source: Source<'_>, fetched: &Fetched) {
        self.asked.remove(&fetched.id);
        for hole in self.holes.remove(&fetched.id).unwrap_or_default() {
            let event = &mut self.gathered.events[hole.event];
            let (location, value) = match (hole.what, &mut event.prev) {
                (What::Value, _) => (event.change.location, &mut event.change.value),
                (What::Prev, Prev::Pair { location, value, .. }) => (*location, value),
                (What::Prev, Prev::None | Prev::Away) => unreachable!("its pair lacks a value"),
            };
            *value = source.store.value_apart(fetched, location).expect("its block is pinned");
        }
        if self.awaited == Some(fetched.id) {
            let (next, before) = (self.next, self.scanned);
            let mut meet = |change: ChangeRef<'_>| self.meet(source, &change);
            let scan = source.store.scan_in(fetched, next, &mut meet);
            self.on_scan(source, scan, before);
        }
    }
}

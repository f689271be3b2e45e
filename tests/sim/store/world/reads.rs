//! What is read while everything else goes on: single values, lists in slices, and scans.

use super::{Act, World};
use crate::store::node;
use crate::store::planted::Bug;
use crate::store::world::Entry;
use bytes::Bytes;
use ringd::store::{ChangeRef, Lookup, Pin, Scan};
use ringd::types::{Change, Location, Revision};
use std::collections::{BTreeMap, VecDeque};

/// A read of many values at one revision, a few at a time.
pub(super) struct List {
    pub(super) revision: i64,
    pin: Pin,
    due: VecDeque<Change>,
}

impl World {
    /// The values that lie in the blocks that have come.
    pub(super) fn take_fetched(&mut self) -> Result<(), String> {
        while let Some(fetched) = self.store.fetched() {
            let mut rest = Vec::new();
            for (block, due) in self.wanted.drain(..) {
                if block != fetched.id {
                    rest.push((block, due));
                    continue;
                }
                match self.store.value_in(&fetched, due.location) {
                    Some(value) if value == due.value => self.counts.fetched += 1,
                    other => return Err(format!("{:?} due, got {other:?}", due.location)),
                }
            }
            self.wanted = rest;
        }
        Ok(())
    }

    /// The changes that a read at `revision` sees.
    pub(super) fn rows(&self, revision: i64) -> Vec<Change> {
        let mut rows = BTreeMap::new();
        for entry in &self.log {
            let Entry::Changes(changes) = entry else { continue };
            for change in changes.iter().filter(|change| change.location.main.0 <= revision) {
                rows.insert(&change.key, change);
            }
        }
        rows.into_values().filter(|change| change.version > 0).cloned().collect()
    }

    /// Some revision that may be read.
    pub(super) fn some_revision(&mut self) -> i64 {
        let span = u64::try_from(self.revision - self.floor.max(1)).expect("above the floor") + 1;
        self.revision - i64::try_from(self.dice.below(span)).expect("small")
    }

    /// Reads one value, at once or when its block is here; or only notes where it is, and comes
    /// back for it when it may be dead and cleaned away.
    pub(super) fn read(&mut self) -> Result<(), String> {
        let at = self.pins.len();
        if at > 0 && self.dice.chance(30) {
            let nth = self.dice.index(at);
            let (pin, blocks) = self.pins.swap_remove(nth);
            for (block, due) in blocks {
                let is_dead = !self.index.all().any(|(_, past)| past.location == due.location);
                self.counts.late += u64::from(is_dead);
                self.store.fetch(block);
                self.wanted.push((block, due));
            }
            pin.into_iter().for_each(|pin| self.store.unpin(pin));
            return Ok(());
        }
        let revision = if self.dice.chance(50) { self.revision } else { self.some_revision() };
        let rows = self.rows(revision);
        if rows.is_empty() {
            return Ok(());
        }
        let due = self.dice.pick(&rows);
        self.note(Act::Read(due.location));
        if self.dice.chance(30) && at < 5 {
            let pin = self.store.pin();
            let mut blocks = Vec::new();
            for due in rows {
                if let Some(Lookup::Away(block)) = self.store.value(due.location) {
                    blocks.push((block, due));
                }
            }
            let pin = if self.bug == Some(Bug::EarlyUnpin) {
                self.store.unpin(pin);
                None
            } else {
                Some(pin)
            };
            self.pins.push((pin, blocks));
            return Ok(());
        }
        self.want(due)
    }

    pub(super) fn want(&mut self, due: Change) -> Result<(), String> {
        if let Some(block) = node::check(&mut self.store, &due)? {
            self.wanted.push((block, due));
        }
        Ok(())
    }

    /// Begins a list, or takes the next slice of one.
    pub(super) fn list(&mut self) -> Result<(), String> {
        if self.lists.len() < 3 && self.dice.chance(30) {
            let revision = self.some_revision();
            self.note(Act::List(revision));
            let due = self.rows(revision).into();
            let pin = self.store.pin();
            self.lists.push(List { revision, pin, due });
            return Ok(());
        }
        if self.lists.is_empty() {
            return Ok(());
        }
        let nth = self.dice.index(self.lists.len());
        if self.dice.chance(20) {
            // Whoever asked has gone.
            self.lists[nth].due.clear();
        }
        for _ in 0..=self.dice.below(8) {
            match self.lists[nth].due.pop_front() {
                Some(due) => self.want(due)?,
                None => {
                    let list = self.lists.swap_remove(nth);
                    self.store.unpin(list.pin);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads everything in order as far as it is in memory.
    pub(super) fn scan(&mut self) -> Result<(), String> {
        self.note(Act::Scan);
        let mut next = Location { main: Revision(self.some_revision()), sub: 0 };
        let (mut seen, from) = (Vec::new(), next);
        let budget = self.dice.pick(&[1, 7, 1000]);
        let end = loop {
            let mut visit = |change: ChangeRef<'_>| {
                seen.push((change.location, Bytes::copy_from_slice(change.value)));
            };
            match self.store.scan(next, budget, &mut visit) {
                Scan::Next(location) => next = location,
                Scan::Away(block, location) => {
                    self.store.fetch(block);
                    break location;
                }
                Scan::End => break Location { main: Revision(i64::MAX), sub: 0 },
            }
        };
        let known: BTreeMap<Location, &Change> = self.changes().collect();
        let live: Vec<Location> = self.index.all().map(|(_, past)| past.location).collect();
        if !seen.is_sorted_by(|one, two| one.0 < two.0) {
            return Err("a scan is not in order".to_owned());
        }
        for (location, value) in &seen {
            if known.get(location).is_none_or(|due| due.value != *value) {
                return Err(format!("a scan shows {location:?} as {value:?}"));
            }
        }
        let mut due = live.iter().filter(|&&location| from <= location && location < end);
        match due.find(|&location| seen.binary_search_by_key(location, |seen| seen.0).is_err()) {
            Some(location) => Err(format!("a scan from {from:?} to {end:?} has no {location:?}")),
            None => Ok(()),
        }
    }
}

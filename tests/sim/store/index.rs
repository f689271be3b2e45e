//! An index so simple that it is right, and the list of everything that was ever done.
//!
//! It stands in for what lies above a store: it knows which changes are alive, says which are dead,
//! and after a restart learns from the store's directories what it knew.

use bytes::Bytes;
use ringd::types::{Change, Location};
use std::collections::BTreeMap;

/// One change of a key, without its value. Version 0 is a tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    pub(crate) location: Location,
    pub(crate) created: i64,
    pub(crate) version: i64,
}

impl Past {
    pub(crate) fn of(change: &Change) -> Self {
        let (location, created) = (change.location, change.created.0);
        Self { location, created, version: change.version }
    }
}

/// Which changes of which key are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    keys: BTreeMap<Bytes, Vec<Past>>,
    /// Where the next slice of compaction begins; none: it is through.
    pub(crate) next: Option<Bytes>,
}

impl Index {
    /// The last change of a key, if it is no tombstone.
    pub(crate) fn live(&self, key: &[u8]) -> Option<Past> {
        self.keys.get(key)?.last().copied().filter(|past| past.version > 0)
    }

    /// Adds a change.
    pub(crate) fn push(&mut self, key: &Bytes, past: Past) {
        self.keys.entry(key.clone()).or_default().push(past);
    }

    /// Adds a change found in a directory; if it does not go on from the one before, all before it
    /// is forgotten, and `told` gets it.
    pub(crate) fn restore(&mut self, key: &Bytes, past: Past, told: &mut Vec<Location>) {
        let known = self.keys.entry(key.clone()).or_default();
        let goes_on = match known.last() {
            None => true,
            Some(last) if past.version == 0 => last.version > 0,
            Some(last) if last.version == 0 => {
                past.version == 1 && past.created == past.location.main.0
            }
            Some(last) => past.version == last.version + 1 && past.created == last.created,
        };
        if !goes_on {
            told.extend(known.drain(..).map(|past| past.location));
        }
        known.push(past);
    }

    /// Forgets what no read at `floor` or later sees of a few keys; whether there are more.
    pub(crate) fn step(&mut self, floor: i64, budget: usize, told: &mut Vec<Location>) -> bool {
        let from = self.next.take().unwrap_or_default();
        let mut keys = self.keys.range_mut(from..);
        let mut gone = Vec::new();
        for (key, known) in keys.by_ref().take(budget) {
            let dead = unseen(known, floor, true);
            told.extend(known.drain(..dead).map(|past| past.location));
            if known.is_empty() {
                gone.push(key.clone());
            }
        }
        self.next = keys.next().map(|(key, _)| key.clone());
        for key in gone {
            self.keys.remove(&key);
        }
        self.next.is_some()
    }

    /// What reads at `floor` or later can see, by key and in order.
    pub(crate) fn seen(&self, floor: i64) -> Vec<(Bytes, Past)> {
        let mut seen = Vec::new();
        for (key, known) in &self.keys {
            let from = unseen(known, floor, false);
            seen.extend(known[from..].iter().map(|past| (key.clone(), *past)));
        }
        seen
    }

    /// Every key and what is known of it.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Bytes, &Past)> {
        self.keys.iter().flat_map(|(key, known)| known.iter().map(move |past| (key, past)))
    }
}

/// How many of a key's first changes no read at `floor` or later sees. A tombstone at the floor
/// itself shows nothing, but is known until the next compaction.
fn unseen(known: &[Past], floor: i64, keep_at_floor: bool) -> usize {
    let count = known.partition_point(|past| past.location.main.0 <= floor);
    let Some(last) = count.checked_sub(1) else { return 0 };
    let is_kept = keep_at_floor && known[last].location.main.0 == floor;
    if known[last].version == 0 && !is_kept { count } else { last }
}

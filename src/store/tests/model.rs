//! What the keyspace above a store knows, as dumbly as can be.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::store::Entry;
use crate::types::Change;
use crate::types::Location;
use crate::types::Revision;

/// What an index keeps of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) location: Location,
    pub(super) created: Revision,
    pub(super) version: i64,
}

/// The changes of each key that are not forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) keys: BTreeMap<Vec<u8>, Vec<Known>>,
}

impl Index {
    pub(super) fn push(&mut self, change: &Change) {
        let Change { location, created, version, .. } = *change;
        let known = Known { location, created, version };
        self.keys.entry(change.key.to_vec()).or_default().push(known);
    }

    /// The last change of a key.
    pub(super) fn last(&self, key: &[u8]) -> Option<&Known> {
        self.keys.get(key)?.last()
    }

    /// Takes in what a directory lists; what is forgotten by that.
    pub(super) fn restore(&mut self, entry: &Entry<'_>) -> Vec<Location> {
        let Entry { location, created, version, .. } = *entry;
        let known = self.keys.entry(entry.key.to_vec()).or_default();
        let follows = known.last().is_none_or(|last| {
            let is_live = last.version > 0;
            match version {
                0 => is_live,
                1 if !is_live => created == location.main,
                _ => is_live && version == last.version + 1 && created == last.created,
            }
        });
        let told =
            if follows { vec![] } else { known.drain(..).map(|known| known.location).collect() };
        known.push(Known { location, created, version });
        told
    }

    /// What etcd forgets at a floor, in order of key.
    pub(super) fn dead_at(&self, floor: Revision) -> Vec<Location> {
        let mut dead = Vec::new();
        for known in self.keys.values() {
            let before = known.partition_point(|known| known.location.main <= floor);
            let Some(newest) = before.checked_sub(1) else { continue };
            let stays = known[newest].version > 0 || known[newest].location.main == floor;
            let end = if stays { newest } else { newest + 1 };
            dead.extend(known[..end].iter().map(|known| known.location));
        }
        dead
    }

    /// Forgets one change.
    pub(super) fn forget(&mut self, locations: &BTreeSet<Location>) {
        for known in self.keys.values_mut() {
            known.retain(|known| !locations.contains(&known.location));
        }
        self.keys.retain(|_, known| !known.is_empty());
    }

    /// All that it knows.
    pub(super) fn locations(&self) -> BTreeSet<Location> {
        self.keys.values().flatten().map(|known| known.location).collect()
    }
}

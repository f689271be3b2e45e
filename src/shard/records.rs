//! The store as the keyspace sees it: where the values and leases of changes are.

use crate::mvcc::Records;
use crate::store::BlockId;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Store;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Why a change that the index names is always found.
pub(super) const KNOWN: &str = "every put that the index knows has a record";

/// Values that somebody cannot go on without: those that have come, and the blocks of the others.
///
/// A value is copied out of its block, so that it stays whatever is cleaned meanwhile, and no more
/// is kept than what is wanted.
#[derive(Debug, Default)]
pub(super) struct Needs {
    away: BTreeMap<BlockId, Vec<Location>>,
    here: BTreeMap<Location, Bytes>,
}

impl Needs {
    /// Notes that the value of a change is needed, if it is neither in memory nor here.
    pub(super) fn want(&mut self, store: &Store, location: Location) {
        if let Lookup::Away(block) = store.value(location).expect(KNOWN)
            && !self.here.contains_key(&location)
        {
            self.away.entry(block).or_default().push(location);
        }
    }

    /// Whether nothing is to be waited for.
    pub(super) fn are_met(&self) -> bool {
        self.away.is_empty()
    }

    /// The blocks to be fetched, each once.
    pub(super) fn blocks(&self) -> Vec<BlockId> {
        self.away.keys().copied().collect()
    }

    /// A block has come. What no longer lies in it, as it was cleaned, is not noted any more.
    pub(super) fn take(&mut self, store: &Store, fetched: &Fetched) {
        for location in self.away.remove(&fetched.id).unwrap_or_default() {
            if let Some(value) = store.value_in(fetched, location) {
                self.here.insert(location, Bytes::copy_from_slice(&value));
            }
        }
    }

    /// The value of a change, if it has come.
    pub(super) fn value(&self, location: Location) -> Option<&Bytes> {
        self.here.get(&location)
    }
}

/// A store for one that only reads, with the values that were fetched for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) store: &'a Store,
    pub(super) needs: Option<&'a Needs>,
}

impl<'a> Seen<'a> {
    /// What is in memory, and nothing else.
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, needs: None }
    }
}

impl Records for Seen<'_> {
    fn lease(&self, location: Location) -> LeaseId {
        self.store.lease(location).expect(KNOWN)
    }

    fn value(&self, location: Location) -> Bytes {
        match self.store.value(location).expect(KNOWN) {
            Lookup::Here(value) => value.to_bytes(),
            Lookup::Away(_) => {
                let found = self.needs.and_then(|needs| needs.value(location));
                found.expect("what is needed is here before").clone()
            }
        }
    }

    fn push(&mut self, _: Change) {
        unreachable!("who reads writes nothing")
    }
}

/// A store for one that applies an entry, with the values that were fetched for it.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    pub(super) store: &'a mut Store,
    pub(super) needs: &'a Needs,
}

impl Kept<'_> {
    fn seen(&self) -> Seen<'_> {
        Seen { store: self.store, needs: Some(self.needs) }
    }
}

impl Records for Kept<'_> {
    fn lease(&self, location: Location) -> LeaseId {
        self.seen().lease(location)
    }

    fn value(&self, location: Location) -> Bytes {
        self.seen().value(location)
    }

    fn push(&mut self, change: Change) {
        self.store.push(change);
    }
}

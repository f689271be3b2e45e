//! The store as the keyspace sees it: where the values and leases of changes are.

use crate::lease::Lessor;
use crate::mvcc::Found;
use crate::mvcc::Records;
use crate::shard::feed::Feed;
use crate::shard::watch::Event;
use crate::shard::watch::Prev;
use crate::store::BlockId;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Store;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use bytes::Bytes;

/// Why a change that the index names is always found.
pub(super) const KNOWN: &str = "every put that the index knows has a record";

/// A store for one that only reads, with the blocks that were fetched for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) store: &'a Store,
    pub(super) held: &'a [Fetched],
}

impl<'a> Seen<'a> {
    /// What is in memory, and nothing else.
    pub(super) fn new(store: &'a Store) -> Self {
        Self { store, held: &[] }
    }

    /// The block with the value of a change, if it is neither in memory nor held.
    pub(super) fn missing(&self, location: Location) -> Option<BlockId> {
        let Lookup::Away(block) = self.store.value(location).expect(KNOWN) else { return None };
        self.in_held(location).is_none().then_some(block)
    }

    fn in_held(&self, location: Location) -> Option<Bytes> {
        self.held.iter().find_map(|block| self.store.value_in(block, location))
    }

    /// The pair before a change, as far as it is in memory, if `prior` was live under its key.
    fn prev(&self, change: &Change, prior: Option<Found>) -> Prev {
        if change.created == change.location.main {
            return Prev::None;
        }
        let Some(Found { created, location, version }) = prior else { return Prev::None };
        if location.main == change.location.main {
            // Before a change means before its revision.
            return Prev::Away;
        }
        let value = match self.store.value(location).expect(KNOWN) {
            Lookup::Here(value) => Some(value.apart()),
            Lookup::Away(_) => self.in_held(location),
        };
        let lease = self.lease(location);
        value.map_or(Prev::Away, |value| Prev::Pair { location, created, version, lease, value })
    }
}

impl Records for Seen<'_> {
    fn lease(&self, location: Location) -> LeaseId {
        self.store.lease(location).expect(KNOWN)
    }

    fn value(&self, location: Location) -> Bytes {
        match self.store.value(location).expect(KNOWN) {
            Lookup::Here(value) => value.to_bytes(),
            Lookup::Away(_) => self.in_held(location).expect("what is needed is here before"),
        }
    }

    fn has_lease(&self, _: LeaseId) -> bool {
        unreachable!("who reads attaches nothing")
    }

    fn push(&mut self, _: Change, _: Option<Found>) {
        unreachable!("who reads writes nothing")
    }
}

/// A store for one that applies an entry, with the blocks that were fetched for it, the leases that
/// keys hang on, and those who are told of it.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    pub(super) store: &'a mut Store,
    pub(super) lessor: &'a mut Lessor,
    pub(super) held: &'a [Fetched],
    pub(super) feed: &'a mut Feed,
}

impl Kept<'_> {
    fn seen(&self) -> Seen<'_> {
        Seen { store: self.store, held: self.held }
    }
}

impl Records for Kept<'_> {
    fn lease(&self, location: Location) -> LeaseId {
        self.seen().lease(location)
    }

    fn value(&self, location: Location) -> Bytes {
        self.seen().value(location)
    }

    fn has_lease(&self, lease: LeaseId) -> bool {
        self.lessor.contains(lease)
    }

    fn push(&mut self, change: Change, prior: Option<Found>) {
        if change.lease != LeaseId(0) || self.lessor.has_keys() {
            let from = prior.map_or(LeaseId(0), |prior| self.lease(prior.location));
            self.lessor.attach(&change.key, from, change.lease);
        }
        if self.feed.is_on() {
            let wants_prev = self.feed.wants_prev();
            let prev = if wants_prev { self.seen().prev(&change, prior) } else { Prev::None };
            self.feed.note(Event { change: change.clone(), prev });
        }
        self.store.push(change);
    }
}

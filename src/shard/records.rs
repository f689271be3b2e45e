//! The store as the keyspace sees it: where the values and leases of changes are.

use crate::lease::Lessor;
use crate::mvcc::Compared;
use crate::mvcc::Found;
use crate::mvcc::Keyspace;
use crate::mvcc::Records;
use crate::mvcc::Way;
use crate::mvcc::txn::Script;
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
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Why a change that the index names is always found.
pub(super) const KNOWN: &str = "every put that the index knows has a record";

/// Blocks on their way at once for values that are compared: many enough for a disk to be busy, and
/// few enough that they take little memory, however many there are in the range.
const COMPARED_BLOCKS_MAX: usize = 32;

/// Values that somebody cannot go on without: those that have come, and the blocks of the others.
///
/// A value is copied out of its block, so that it stays whatever is cleaned meanwhile, and no more
/// is kept than what is wanted. One that is only compared stays until then.
#[derive(Debug, Default)]
pub(super) struct Needs {
    away: BTreeMap<BlockId, BTreeSet<Location>>,
    here: BTreeMap<Location, Bytes>,
}

impl Needs {
    /// Notes that the value of a change is needed, if it is neither in memory nor here.
    pub(super) fn want(&mut self, store: &Store, location: Location) {
        if let Lookup::Away(block) = store.value(location).expect(KNOWN)
            && !self.here.contains_key(&location)
        {
            self.away.entry(block).or_default().insert(location);
        }
    }

    /// Compares the value of a change, which is not kept then; notes that it is needed, if it is
    /// neither in memory nor here, and not too much is on its way.
    pub(super) fn compare(
        &mut self,
        store: &Store,
        location: Location,
        operand: &[u8],
    ) -> Compared {
        if let Some(value) = self.here.remove(&location) {
            return Compared::Is(value[..].cmp(operand));
        }
        let block = match store.value(location).expect(KNOWN) {
            Lookup::Here(value) => return Compared::Is(value.as_slice().cmp(operand)),
            Lookup::Away(block) => block,
        };
        if self.away.len() >= COMPARED_BLOCKS_MAX && !self.away.contains_key(&block) {
            return Compared::Full;
        }
        self.away.entry(block).or_default().insert(location);
        Compared::Away
    }

    /// Goes on along the way of a transaction; once that is found, notes what is needed besides.
    pub(super) fn of_txn(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        txn: &impl Script,
        way: &mut Way,
    ) {
        let compare = |location, operand: &[u8]| self.compare(store, location, operand);
        if keyspace.find_way(txn, way, &Seen::new(store), compare) {
            // A compare may have asked for values before another one decided it.
            self.away.clear();
            keyspace.txn_needs(txn, way, |location| self.want(store, location));
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
            Lookup::Away(_) => self.needs.and_then(|needs| needs.value(location)).cloned(),
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
            Lookup::Away(_) => {
                let found = self.needs.and_then(|needs| needs.value(location));
                found.expect("what is needed is here before").clone()
            }
        }
    }

    fn has_lease(&self, _: LeaseId) -> bool {
        unreachable!("who reads attaches nothing")
    }

    fn push(&mut self, _: Change, _: Option<Found>) {
        unreachable!("who reads writes nothing")
    }
}

/// A store for one that applies an entry, with the values that were fetched for it, the leases that
/// keys hang on, and those who are told of it.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    pub(super) store: &'a mut Store,
    pub(super) lessor: &'a mut Lessor,
    pub(super) needs: &'a Needs,
    pub(super) feed: &'a mut Feed,
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

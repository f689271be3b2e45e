//! The records of all changes, in memory, until the revision store takes them.

use crate::mvcc::Records;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Every change that is not forgotten, by location.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Location, Change>);

impl Memory {
    /// The change at `location`, if it is not forgotten.
    #[must_use]
    pub fn get(&self, location: Location) -> Option<&Change> {
        self.0.get(&location)
    }

    fn known(&self, location: Location) -> &Change {
        self.get(location).expect("every change that the keyspace knows is here")
    }
}

impl Records for Memory {
    fn lease(&self, location: Location) -> LeaseId {
        self.known(location).lease
    }

    fn value(&self, location: Location) -> Bytes {
        self.known(location).value.clone()
    }

    fn push(&mut self, change: Change) {
        self.0.insert(change.location, change);
    }
}

//! The keyspace: etcd's rules over an index and its records.

mod read;
mod txn;
mod write;

use bytes::Bytes;

use crate::mvcc::Location;
use crate::mvcc::Refusal;
use crate::mvcc::digest::Digest;
use crate::mvcc::index::Index;
use crate::mvcc::tail::Record;
use crate::mvcc::tail::Tail;
use crate::types::LeaseId;
use crate::types::Revision;

pub use self::write::Deleted;
pub use self::write::Put;
pub use self::write::Write;

/// The revision of a fresh keyspace.
const FIRST: Revision = Revision(1);
/// What stands for the floor before the first compaction, as in etcd.
const NO_FLOOR: Revision = Revision(-1);

/// One keyspace in memory: every key's history since the last compaction, and its values.
///
/// # Shape
/// `floor <= revision`. The index may still know changes that the floor has made unreadable, while
/// [`Self::compact_step`] has not come to them; nothing else tells them from those that are gone.
#[derive(Debug)]
pub struct Keyspace {
    revision: Revision,
    floor: Revision,
    index: Index,
    tail: Tail,
}

impl Keyspace {
    /// An empty keyspace at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self { revision: FIRST, floor: NO_FLOOR, index: Index::new(), tail: Tail::new() }
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision that was last compacted, which can still be read; none before the first.
    #[must_use]
    pub fn compacted(&self) -> Option<Revision> {
        (self.floor != NO_FLOOR).then_some(self.floor)
    }

    /// Keys that are live at the present.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.index.live()
    }

    fn record(&self, location: Location) -> &Record {
        self.tail.get(location).expect("every put that the index knows has a record")
    }

    /// The value of the change at `location`, if it is one and not forgotten.
    #[must_use]
    pub fn value(&self, location: Location) -> Option<Bytes> {
        self.tail.get(location).map(|record| record.value.clone())
    }

    /// The revision to read at for a client that asks for `revision`.
    ///
    /// # Errors
    /// [`Refusal::FutureRevision`], [`Refusal::Compacted`].
    pub fn check_revision(&self, revision: i64) -> Result<Revision, Refusal> {
        if revision > self.revision.0 {
            return Err(Refusal::FutureRevision);
        }
        let at = if revision <= 0 { self.revision } else { Revision(revision) };
        if at < self.floor { Err(Refusal::Compacted) } else { Ok(at) }
    }

    /// Checks a put against the keyspace as it is, without doing it.
    ///
    /// `lease_exists` says whether a lease does.
    ///
    /// # Errors
    /// [`Refusal::LeaseNotFound`], [`Refusal::KeyNotFound`], in this order.
    pub fn check_put(
        &self,
        put: &Put<'_>,
        lease_exists: impl FnOnce(LeaseId) -> bool,
    ) -> Result<(), Refusal> {
        if put.lease != LeaseId(0) && !lease_exists(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.index.get(put.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Forgets every revision below `revision`: moves the floor at once, and leaves the removal to
    /// [`Self::compact_step`].
    ///
    /// # Errors
    /// [`Refusal::Compacted`], [`Refusal::FutureRevision`], in this order.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        if revision <= self.floor {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.floor = revision;
        Ok(())
    }

    /// Removes about `budget` forgotten changes; whether more are left.
    ///
    /// # Cost
    /// As [`Index::compact`].
    pub fn compact_step(&mut self, budget: usize) -> bool {
        let tail = &mut self.tail;
        self.index.compact(self.floor, budget, |location| tail.forget(location))
    }

    /// A digest of all that a client could ever read from here: the same on every replica at the
    /// same revision and floor, however far each has removed what is forgotten.
    ///
    /// # Cost
    /// Visits everything.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        digest.number(self.revision.0);
        digest.number(self.floor.0);
        self.index.each(|key, history| {
            let forgotten = history.forgettable(self.floor);
            let mut is_first = true;
            history.each(forgotten, |location, found| {
                if std::mem::take(&mut is_first) {
                    digest.bytes(key);
                }
                digest.number(location.main.0);
                digest.number(i64::from(location.sub));
                let Some(found) = found else { return digest.number(0) };
                digest.number(found.version);
                digest.number(found.created.0);
                let record = self.record(location);
                digest.number(record.lease.0);
                digest.bytes(&record.value);
            });
        });
        digest.finish()
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    ///
    /// # Cost
    /// Visits everything.
    pub fn check_all(&self) {
        assert!(self.floor <= self.revision, "the floor is not in the future");
        self.index.check_all();
        self.tail.check_all();
        let mut puts = 0;
        self.index.each(|key, history| {
            assert!(!key.is_empty(), "no key is empty");
            history.each(0, |location, found| {
                assert!(location.main <= self.revision, "no change is in the future");
                let record = self.tail.get(location);
                assert!(record.is_some() == found.is_some(), "each put has a record");
                puts += usize::from(found.is_some());
            });
        });
        assert!(puts == self.tail.len(), "each record is of a put that the index knows");
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;

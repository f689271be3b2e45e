//! The keyspace: etcd's rules over an index and its records.

use bytes::Bytes;

use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Location;
use crate::mvcc::Page;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::Summary;
use crate::types::LeaseId;
use crate::types::Revision;

/// A put, as a request has it.
#[derive(Clone, Debug)]
pub struct Put<'a> {
    /// The key to write.
    pub key: &'a [u8],
    /// Its value, kept as given: a slice of whatever buffer it came in.
    pub value: Bytes,
    /// The lease to attach the key to; 0 detaches it.
    pub lease: LeaseId,
    /// Give back the pair that was there before.
    pub prev_kv: bool,
    /// Keep the present value.
    pub ignore_value: bool,
    /// Keep the present lease.
    pub ignore_lease: bool,
}

impl<'a> Put<'a> {
    /// A put of `value` at `key` and nothing else.
    #[must_use]
    pub fn new(key: &'a [u8], value: Bytes) -> Self {
        Self {
            key,
            value,
            lease: LeaseId(0),
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    /// Checks what needs no keyspace, as etcd does before it proposes.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`], [`Refusal::ValueProvided`], [`Refusal::LeaseProvided`], in this order.
    pub fn validate(&self) -> Result<(), Refusal> {
        unimplemented!("skeleton")
    }
}

/// What a deletion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Keys that were there and are gone.
    pub count: i64,
    /// What they held, in key order; empty unless asked for.
    pub rows: Vec<KeyValue>,
}

/// One keyspace in memory: every key's history since the last compaction, and its values.
///
/// `compacted <= revision`.
#[derive(Debug)]
pub struct Keyspace {
    revision: Revision,
}

impl Keyspace {
    /// An empty keyspace at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self { revision: Revision(1) }
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision that was last compacted, which can still be read; none before the first.
    #[must_use]
    pub fn compacted(&self) -> Option<Revision> {
        unimplemented!("skeleton")
    }

    /// Opens one revision: all changes made through it share it.
    pub fn write(&mut self) -> Write<'_> {
        unimplemented!("skeleton")
    }

    /// Answers `query`.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`], [`Refusal::FutureRevision`], [`Refusal::Compacted`].
    pub fn range(&self, query: &RangeQuery<'_>) -> Result<Page, Refusal> {
        unimplemented!("skeleton {query:?}")
    }

    /// Answers `query`, giving each row to `visit` in order, without collecting them where the
    /// order is the keys' own.
    ///
    /// # Errors
    /// As [`Self::range`]; `visit` has then not been called.
    pub fn range_with<'s>(
        &'s self,
        query: &RangeQuery<'_>,
        visit: impl FnMut(Row<'s>),
    ) -> Result<Summary, Refusal> {
        let _ = visit;
        unimplemented!("skeleton {query:?}")
    }

    /// The value of the change at `location`, if it is one and not forgotten.
    #[must_use]
    pub fn value(&self, location: Location) -> Option<Bytes> {
        unimplemented!("skeleton {location:?}")
    }

    /// Checks a put against the keyspace as it is, without doing it.
    ///
    /// `lease_exists` says whether a lease does.
    ///
    /// # Errors
    /// [`Refusal::KeyNotFound`], [`Refusal::LeaseNotFound`].
    pub fn check_put(
        &self,
        put: &Put<'_>,
        lease_exists: impl FnOnce(LeaseId) -> bool,
    ) -> Result<(), Refusal> {
        let _ = lease_exists;
        unimplemented!("skeleton {put:?}")
    }

    /// Forgets every revision below `revision`: moves the floor at once, and leaves the removal to
    /// [`Self::compact_step`].
    ///
    /// # Errors
    /// [`Refusal::Compacted`], [`Refusal::FutureRevision`].
    pub fn compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        unimplemented!("skeleton {revision:?}")
    }

    /// Removes about `budget` forgotten changes; whether more are left.
    pub fn compact_step(&mut self, budget: usize) -> bool {
        unimplemented!("skeleton {budget:?}")
    }

    /// A digest of all that a client could ever read from here: the same on every replica at the
    /// same revision and floor, however far each has removed what is forgotten.
    #[must_use]
    pub fn digest(&self) -> u64 {
        unimplemented!("skeleton")
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check_all(&self) {}
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new()
    }
}

/// Changes under way that share one revision.
///
/// What was changed stays changed when this is dropped; the revision moved with the first change.
#[derive(Debug)]
pub struct Write<'k> {
    keyspace: &'k mut Keyspace,
}

impl Write<'_> {
    /// Writes one key, and gives what was there before if `put` asks for it.
    ///
    /// `lease_exists` says whether a lease does; it is asked only for a lease that is not 0.
    ///
    /// # Errors
    /// [`Refusal::KeyNotFound`], [`Refusal::LeaseNotFound`]; nothing has changed then.
    pub fn put(
        &mut self,
        put: &Put<'_>,
        lease_exists: impl FnOnce(LeaseId) -> bool,
    ) -> Result<Option<KeyValue>, Refusal> {
        let _ = (lease_exists, &self.keyspace);
        unimplemented!("skeleton {put:?}")
    }

    /// Deletes every key in `range`, and gives what they held if `prev_kv` asks for it.
    pub fn delete_range(&mut self, range: KeyRange<'_>, prev_kv: bool) -> Deleted {
        unimplemented!("skeleton {range:?} {prev_kv}")
    }

    /// The keyspace with the changes made so far.
    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        self.keyspace
    }

    /// Ends the revision: which it is, if anything changed.
    #[must_use]
    pub fn finish(self) -> Option<Revision> {
        unimplemented!("skeleton")
    }
}

//! Changes: puts and deletions, one revision for all that belong together.

use bytes::Bytes;

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Revision;

/// A put, as a request has it.
#[derive(Clone, Debug)]
pub struct Put {
    /// The key to write, a slice of whatever buffer it came in.
    pub key: Bytes,
    /// Its value, kept as given: a slice of whatever buffer it came in.
    pub value: Bytes,
    /// The lease to attach the key to; 0 detaches it.
    pub lease: LeaseId,
    /// Keep the present value.
    pub ignore_value: bool,
    /// Keep the present lease.
    pub ignore_lease: bool,
}

impl Put {
    /// A put of `value` at `key` and nothing else.
    #[must_use]
    pub fn new(key: Bytes, value: Bytes) -> Self {
        Self { key, value, lease: LeaseId(0), ignore_value: false, ignore_lease: false }
    }

    /// Checks what needs no keyspace, as etcd does before it proposes.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`], [`Refusal::ValueProvided`], [`Refusal::LeaseProvided`], in this
    /// order.
    pub fn validate(&self) -> Result<(), Refusal> {
        if self.key.is_empty() {
            return Err(Refusal::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(Refusal::ValueProvided);
        }
        if self.ignore_lease && self.lease != LeaseId(0) {
            return Err(Refusal::LeaseProvided);
        }
        Ok(())
    }
}

impl Keyspace {
    /// Opens one revision: all changes made through it share it.
    pub fn write(&mut self) -> Write<'_> {
        let main = Revision(self.revision.0.checked_add(1).expect("revisions do not run out"));
        Write { next: Location { main, sub: 0 }, keyspace: self }
    }
}

/// Changes under way that share one revision.
///
/// What was changed stays changed when this is dropped; the revision moves with the first change,
/// so that reads through [`Self::keyspace`] see it.
#[derive(Debug)]
pub struct Write<'k> {
    keyspace: &'k mut Keyspace,
    /// Where the next change goes.
    next: Location,
}

impl Write<'_> {
    /// Writes one key; gives what was there before.
    ///
    /// # Errors
    /// As [`Put::validate`] and [`Keyspace::check_put`]; nothing has changed then.
    ///
    /// # Panics
    /// If the put keeps the value that is there, and `records` does not have it in memory.
    ///
    /// # Cost
    /// One way down the index, or two if the put keeps something; no allocation but for what the
    /// index and `records` keep.
    pub fn put(
        &mut self,
        mut put: Put,
        records: &mut impl Records,
    ) -> Result<Option<Found>, Refusal> {
        put.validate()?;
        if put.lease != LeaseId(0) && !records.has_lease(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let Keyspace { index, revision, .. } = &mut *self.keyspace;
        if put.ignore_value || put.ignore_lease {
            let found = index.get(&put.key).ok_or(Refusal::KeyNotFound)?;
            if put.ignore_value {
                // Of its own: a slice would keep all of the buffer that the old one lies in.
                put.value = Bytes::copy_from_slice(&records.value(found.location));
            }
            if put.ignore_lease {
                put.lease = records.lease(found.location);
            }
        }
        let location = self.next;
        let prior = index.put(&put.key, location);
        let change = Change {
            location,
            key: put.key,
            value: put.value,
            lease: put.lease,
            created: prior.map_or(location.main, |prior| prior.created),
            version: prior.map_or(1, |prior| prior.version.saturating_add(1)),
        };
        records.push(change, prior);
        *revision = location.main;
        self.next.sub += 1;
        Ok(prior)
    }

    /// Deletes every key in `range`, tells of each and what it was, and gives how many they were.
    ///
    /// # Cost
    /// One way down the index, and what is deleted; a copy of each key.
    pub fn delete_range(
        &mut self,
        range: KeyRange<'_>,
        records: &mut impl Records,
        mut told: impl FnMut(&[u8], Found),
    ) -> i64 {
        let Keyspace { index, revision, .. } = &mut *self.keyspace;
        let next = index.bury(range, self.next, |key, found, location| {
            told(key, found);
            let change = Change {
                location,
                key: Bytes::copy_from_slice(key),
                value: Bytes::new(),
                lease: LeaseId(0),
                created: Revision(0),
                version: 0,
            };
            records.push(change, Some(found));
        });
        let count = i64::from(next - self.next.sub);
        if count > 0 {
            *revision = self.next.main;
            self.next.sub = next;
        }
        count
    }

    /// The keyspace with the changes made so far.
    #[must_use]
    pub fn keyspace(&self) -> &Keyspace {
        self.keyspace
    }

    /// The place that the next change would have.
    #[must_use]
    pub fn next(&self) -> Location {
        self.next
    }

    /// Ends the revision: which it is, if anything changed.
    #[must_use]
    pub fn finish(self) -> Option<Revision> {
        (self.next.sub > 0).then_some(self.next.main)
    }
}

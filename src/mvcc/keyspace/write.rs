//! Changes: puts and deletions, one revision for all that belong together.

use bytes::Bytes;

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::Refusal;
use crate::mvcc::tail::Record;
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

/// What a deletion did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Keys that were there and are gone.
    pub count: i64,
    /// What they held, in key order; empty unless asked for.
    pub rows: Vec<KeyValue>,
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
    /// Writes one key, and gives what was there before if `put` asks for it.
    ///
    /// `lease_exists` says whether a lease does; it is asked only for a lease that is not 0.
    ///
    /// # Errors
    /// As [`Put::validate`] and [`Keyspace::check_put`]; nothing has changed then.
    ///
    /// # Cost
    /// One way down the index, or two if the put keeps or returns something; no allocation but for
    /// what is stored or returned.
    pub fn put(
        &mut self,
        put: &Put<'_>,
        lease_exists: impl FnOnce(LeaseId) -> bool,
    ) -> Result<Option<KeyValue>, Refusal> {
        put.validate()?;
        let Keyspace { index, tail, revision, .. } = &mut *self.keyspace;
        if put.lease != LeaseId(0) && !lease_exists(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let mut record = Record { value: put.value.clone(), lease: put.lease };
        let mut prior = None;
        if put.prev_kv || put.ignore_value || put.ignore_lease {
            let found = index.get(put.key);
            let there = found.map(|found| {
                let record = tail.get(found.location);
                (found, record.expect("every put that the index knows has a record"))
            });
            if there.is_none() && (put.ignore_value || put.ignore_lease) {
                return Err(Refusal::KeyNotFound);
            }
            if let Some((found, old)) = there {
                if put.ignore_value {
                    record.value = old.value.clone();
                }
                if put.ignore_lease {
                    record.lease = old.lease;
                }
                prior = put.prev_kv.then(|| key_value(put.key, found, old));
            }
        }
        index.put(put.key, self.next);
        tail.push(self.next, record);
        *revision = self.next.main;
        self.next.sub += 1;
        Ok(prior)
    }

    /// Deletes every key in `range`, and gives what they held if `prev_kv` asks for it.
    ///
    /// # Cost
    /// One way down the index, what is deleted, and what is returned.
    pub fn delete_range(&mut self, range: KeyRange<'_>, prev_kv: bool) -> Deleted {
        let Keyspace { index, tail, revision, .. } = &mut *self.keyspace;
        let mut rows = Vec::new();
        let next = index.bury(range, self.next, |key, found| {
            if prev_kv {
                let old = tail.get(found.location);
                let old = old.expect("every put that the index knows has a record");
                rows.push(key_value(key, found, old));
            }
        });
        let count = i64::from(next - self.next.sub);
        if count > 0 {
            *revision = self.next.main;
            self.next.sub = next;
        }
        Deleted { count, rows }
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

fn key_value(key: &[u8], found: Found, record: &Record) -> KeyValue {
    KeyValue {
        key: Bytes::copy_from_slice(key),
        create_revision: found.created,
        mod_revision: found.location.main,
        version: found.version,
        lease: record.lease,
        value: record.value.clone(),
    }
}

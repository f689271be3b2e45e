//! Transactions: all compares against what was before, then all operations in one revision.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::Put;
use crate::mvcc::RangeQuery;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::Summary;
use crate::mvcc::Way;
use crate::mvcc::Write;
use crate::mvcc::txn::ByValue;
use crate::mvcc::txn::Op;
use crate::mvcc::txn::OpResult;
use crate::mvcc::txn::Outcome;
use crate::mvcc::txn::PutOp;
use crate::mvcc::txn::Script;
use crate::types::LeaseId;
use crate::types::Revision;

impl Keyspace {
    /// Shows `need` every change whose value a put of the transaction keeps: it must be in memory
    /// before that is done.
    ///
    /// # Panics
    /// If the way is not found.
    pub fn txn_needs(&self, script: &impl Script, way: &Way, mut need: impl FnMut(Location)) {
        for txn in 0..script.txns() {
            let Some(succeeded) = way.succeeded(txn) else { continue };
            for at in script.head(txn).branch(succeeded) {
                if let Op::Put(PutOp { key, ignore_value: true, .. }) = script.op(at) {
                    self.index.get(key).into_iter().for_each(|found| need(found.location));
                }
            }
        }
    }

    /// Does a transaction whose way is found. `data` is what its keys and values are slices of.
    ///
    /// # Errors
    /// [`Refusal::FutureRevision`] or [`Refusal::Compacted`] of a read,
    /// [`Refusal::LeaseNotFound`] or [`Refusal::KeyNotFound`] of a put, whichever comes first on
    /// the way taken; nothing has changed then. They rest on the keyspace's revision and floor and
    /// on which keys there are, and so are the same on every replica.
    ///
    /// # Panics
    /// If it was not validated, something has changed since its way was begun, or a key or value
    /// is no slice of `data`.
    pub fn txn(
        &mut self,
        script: &impl Script,
        way: &Way,
        data: &Bytes,
        records: &mut impl Records,
    ) -> Result<Outcome, Refusal> {
        assert!(way.at() == self.revision, "the compares saw what is there");
        let mut checks = Checks {
            keyspace: self,
            script,
            way,
            deleted_from: None,
            put_size: 0,
            records: &*records,
        };
        checks.check(0)?;
        // A slice keeps all of the buffer. What is not put, the compares and the way not taken, is
        // not to be kept with what is.
        let data = Some(data).filter(|data| 2 * checks.put_size >= data.len());
        let mut run = Run { write: self.write(), records, script, way, data };
        let outcome = run.txn(0);
        let _ = run.write.finish();
        Ok(outcome)
    }

    /// Does a transaction of reads only whose way is found, all as of when that was begun.
    ///
    /// # Errors
    /// As [`Self::txn`].
    ///
    /// # Panics
    /// If there is anything but reads in it, or what they see may be forgotten.
    pub fn read_txn(
        &self,
        script: &impl Script,
        way: &Way,
        records: &impl Records,
    ) -> Result<Outcome, Refusal> {
        self.assert_kept(way.at());
        Checks { keyspace: self, script, way, deleted_from: None, put_size: 0, records }
            .check(0)?;
        let succeeded = way.succeeded(0).expect("the outermost is on every way");
        let result = |at| match script.op(at) {
            Op::Range(query) => self.txn_range(&query, way.at(), records),
            Op::Put(_) | Op::DeleteRange { .. } | Op::Txn(_) | Op::Refused(_) => {
                panic!("only reads are done without a place in the log")
            }
        };
        let results = script.head(0).branch(succeeded).map(result).collect();
        Ok(Outcome { succeeded, results })
    }

    /// A read within a transaction, as of `present`; values come later.
    fn txn_range(
        &self,
        query: &RangeQuery<'_>,
        present: Revision,
        records: &impl Records,
    ) -> OpResult {
        let mut rows = Vec::new();
        let by_value = by_value(query);
        let query = if by_value.is_some() { in_key_order(query) } else { *query };
        let at = read_at(&query, present);
        let summary = self.range_at(&query, at, records, usize::MAX, |row| {
            rows.push(row.resolve_later(&query, records));
            ControlFlow::Continue(())
        });
        let Summary { count, more, .. } = summary.expect("no budget is that small");
        OpResult::Range { revision: present, rows, more, count, by_value }
    }
}

/// What is left to do of a read whose order is that of the values.
fn by_value(query: &RangeQuery<'_>) -> Option<ByValue> {
    let limit = query.limit().and_then(|limit| usize::try_from(limit).ok());
    (query.target == SortTarget::Value && !query.count_only).then_some(ByValue {
        down: query.order == SortOrder::Descend,
        limit: limit.unwrap_or(usize::MAX),
        keys_only: query.keys_only,
    })
}

/// The same read of all rows that come into question, with their values, whose order is left open.
fn in_key_order<'k>(query: &RangeQuery<'k>) -> RangeQuery<'k> {
    // Without an order etcd sorts those alone that the limit leaves, and one more.
    let cuts_first = query.order == SortOrder::None && !query.drops() && query.limit > 0;
    let limit = if cuts_first { query.limit.saturating_add(1) } else { 0 };
    let (order, target) = (SortOrder::None, SortTarget::Key);
    RangeQuery { limit, order, target, keys_only: false, ..*query }
}

/// The revision that a read within a transaction sees.
fn read_at(query: &RangeQuery<'_>, present: Revision) -> Revision {
    if query.revision <= 0 { present } else { Revision(query.revision) }
}

/// A pair that a change replaced; its value comes later.
fn pair(key: &[u8], found: Found, records: &impl Records) -> KeyValue {
    Row::new(key, found).to_key_value(records.lease(found.location), None)
}

/// The second check: what is on the way taken, against the keyspace as it was before.
struct Checks<'t, S, R> {
    keyspace: &'t Keyspace,
    script: &'t S,
    way: &'t Way,
    /// All keys from here on will have been deleted.
    ///
    /// Of all deletions only one without an end may come before a put of a key of its own.
    deleted_from: Option<&'t [u8]>,
    /// Bytes of keys and values of the puts so far.
    put_size: usize,
    records: &'t R,
}

impl<S: Script, R: Records> Checks<'_, S, R> {
    fn check(&mut self, txn: usize) -> Result<(), Refusal> {
        let succeeded = self.way.succeeded(txn).expect("it is on the way taken");
        for at in self.script.head(txn).branch(succeeded) {
            match self.script.op(at) {
                Op::Range(query) => {
                    self.keyspace.check_txn_revision(query.revision, self.way.at())?;
                }
                Op::Put(put) => {
                    self.check_put(&put)?;
                    self.put_size += put.key.len() + put.value.len();
                }
                Op::DeleteRange { range: KeyRange::From(start), .. } => {
                    let first = self.deleted_from.map_or(start, |first| first.min(start));
                    self.deleted_from = Some(first);
                }
                Op::DeleteRange { .. } => {}
                Op::Txn(inner) => self.check(inner)?,
                Op::Refused(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &PutOp<'_>) -> Result<(), Refusal> {
        if put.lease != LeaseId(0) && !self.records.has_lease(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        // etcd finds the second half of this out too late, and every member of the cluster ends.
        let is_there = || {
            self.keyspace.index.get(put.key).is_some()
                && self.deleted_from.is_none_or(|first| put.key < first)
        };
        if (put.ignore_value || put.ignore_lease) && !is_there() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }
}

impl Keyspace {
    /// Checks the revision of a read in a transaction at `present`: stricter than that of one
    /// alone, as one below zero is not the present but before everything.
    fn check_txn_revision(&self, revision: i64, present: Revision) -> Result<(), Refusal> {
        if revision > present.0 {
            Err(Refusal::FutureRevision)
        } else if revision != 0 && revision < self.floor.0 {
            Err(Refusal::Compacted)
        } else {
            Ok(())
        }
    }
}

/// A transaction whose way is known and checked.
struct Run<'t, S, R> {
    write: Write<'t>,
    records: &'t mut R,
    script: &'t S,
    way: &'t Way,
    /// What keys and values are to be slices of; if none, they are copied.
    data: Option<&'t Bytes>,
}

impl<S: Script, R: Records> Run<'_, S, R> {
    fn txn(&mut self, txn: usize) -> Outcome {
        let succeeded = self.way.succeeded(txn).expect("it is on the way taken");
        let ops = self.script.head(txn).branch(succeeded);
        let mut results = Vec::with_capacity(ops.len());
        for at in ops {
            results.push(match self.script.op(at) {
                Op::Range(query) => {
                    let keyspace = self.write.keyspace();
                    keyspace.txn_range(&query, keyspace.revision(), &*self.records)
                }
                Op::Put(put) => self.put(&put),
                Op::DeleteRange { range, prev_kv } => self.delete_range(range, prev_kv),
                Op::Txn(inner) => OpResult::Txn(self.txn(inner)),
                Op::Refused(_) => panic!("a refused operation has no effect"),
            });
        }
        Outcome { succeeded, results }
    }

    fn put(&mut self, op: &PutOp<'_>) -> OpResult {
        let keep = |part: &[u8]| match self.data {
            Some(data) => data.slice_ref(part),
            None => Bytes::copy_from_slice(part),
        };
        let put = Put {
            key: keep(op.key),
            value: keep(op.value),
            lease: op.lease,
            ignore_value: op.ignore_value,
            ignore_lease: op.ignore_lease,
        };
        let prior = self.write.put(put, self.records).expect("the put was checked");
        let prior = prior.filter(|_| op.prev_kv);
        OpResult::Put {
            revision: self.write.keyspace().revision(),
            prev: prior.map(|found| pair(op.key, found, &*self.records)),
        }
    }

    fn delete_range(&mut self, range: KeyRange<'_>, prev_kv: bool) -> OpResult {
        let mut found = Vec::new();
        let deleted = self.write.delete_range(range, self.records, |key, prior| {
            if prev_kv {
                found.push((Bytes::copy_from_slice(key), prior));
            }
        });
        let prevs = found.iter().map(|(key, prior)| pair(key, *prior, &*self.records)).collect();
        OpResult::DeleteRange { revision: self.write.keyspace().revision(), deleted, prevs }
    }
}

#[cfg(test)]
mod tests;

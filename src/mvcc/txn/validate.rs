//! What is checked of a transaction before it is proposed: it needs no keyspace.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::ops::Range;

use crate::mvcc::KeyRange;
use crate::mvcc::Refusal;
use crate::mvcc::txn::Head;
use crate::mvcc::txn::Op;
use crate::mvcc::txn::Script;

/// Checks a transaction as etcd does before it proposes one.
///
/// `ops_max` bounds the longest of a transaction's three lists (`--max-txn-ops`); those within it
/// have what it leaves of that.
///
/// # Errors
/// From the outside in and from front to back: [`Refusal::TooManyOps`], [`Refusal::EmptyKey`] of a
/// compare, and whatever [`Op::Refused`] says of an operation; then, for the branch of success
/// before that of failure, [`Refusal::DuplicateKey`] if a key may be written twice.
///
/// # Cost
/// Nothing is allocated for a branch of one operation, or of reads only. Otherwise n log² n for all
/// keys written or deleted together, however they nest.
pub fn validate(script: &impl Script, ops_max: usize) -> Result<(), Refusal> {
    check_ops(script, 0, ops_max)?;
    let Head { success, failure, .. } = script.head(0);
    check_writes(script, success)?;
    check_writes(script, failure)
}

fn check_ops(script: &impl Script, txn: usize, ops_max: usize) -> Result<(), Refusal> {
    let Head { compares, success, failure } = script.head(txn);
    let ops = compares.len().max(success.len()).max(failure.len());
    let left = ops_max.checked_sub(ops).ok_or(Refusal::TooManyOps)?;
    for at in compares {
        if script.compare(at).range.start().is_empty() {
            return Err(Refusal::EmptyKey);
        }
    }
    for at in success.chain(failure) {
        match script.op(at) {
            Op::Refused(refusal) => return Err(refusal),
            Op::Txn(inner) => check_ops(script, inner, left)?,
            Op::Range(_) | Op::Put(_) | Op::DeleteRange { .. } => {}
        }
    }
    Ok(())
}

/// Checks that no key may be written twice by `ops`.
fn check_writes(script: &impl Script, ops: Range<usize>) -> Result<(), Refusal> {
    let alone = ops.len() == 1;
    let is_harmless = |at| match script.op(at) {
        Op::Range(_) => true,
        Op::Put(_) | Op::DeleteRange { .. } => alone,
        Op::Txn(_) | Op::Refused(_) => false,
    };
    if ops.clone().all(is_harmless) {
        return Ok(());
    }
    writes(script, ops).map(|_| ())
}

/// Which keys some operations may write.
#[derive(Debug, Default)]
struct Writes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Spans<'a>,
}

/// What `ops` may write: deletions first, then the transactions among them, then puts.
///
/// The order is etcd's, and shows: one transaction may put a key that a later one beside it
/// deletes, and not the other way round.
fn writes(script: &impl Script, ops: Range<usize>) -> Result<Writes<'_>, Refusal> {
    let mut all = Writes::default();
    for at in ops.clone() {
        if let Op::DeleteRange { range, .. } = script.op(at) {
            all.deletes.insert(range);
        }
    }
    for at in ops.clone() {
        if let Op::Txn(inner) = script.op(at) {
            let Head { success, failure, .. } = script.head(inner);
            // One of the two branches is executed, so they may write the same.
            let branches = [writes(script, success)?, writes(script, failure)?];
            for branch in &branches {
                all.check(&branch.puts)?;
            }
            branches.into_iter().for_each(|branch| all.absorb(branch));
        }
    }
    for at in ops {
        if let Op::Put(put) = script.op(at)
            && (!all.puts.insert(put.key) || all.deletes.contains(put.key))
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    Ok(all)
}

impl<'a> Writes<'a> {
    /// Checks that none of `puts` is put or deleted here.
    fn check(&self, puts: &BTreeSet<&'a [u8]>) -> Result<(), Refusal> {
        let (few, many) =
            if puts.len() < self.puts.len() { (puts, &self.puts) } else { (&self.puts, puts) };
        let is_put = few.iter().any(|key| many.contains(key));
        let is_deleted = || {
            if puts.len() < self.deletes.0.len() {
                puts.iter().any(|key| self.deletes.contains(key))
            } else {
                self.deletes.touches(puts)
            }
        };
        if is_put || is_deleted() { Err(Refusal::DuplicateKey) } else { Ok(()) }
    }

    fn absorb(&mut self, mut other: Self) {
        if other.puts.len() > self.puts.len() {
            std::mem::swap(&mut self.puts, &mut other.puts);
        }
        self.puts.extend(other.puts);
        if other.deletes.0.len() > self.deletes.0.len() {
            std::mem::swap(&mut self.deletes, &mut other.deletes);
        }
        for (start, end) in other.deletes.0 {
            self.deletes.add(start, end);
        }
    }
}

/// The end of a span of keys: these bytes, and whether the key of just these is in the span.
type End<'a> = (&'a [u8], bool);

/// Whether `key` is before `end`.
fn is_before(key: &[u8], (end, within): End<'_>) -> bool {
    key < end || (within && key == end)
}

/// A set of keys as spans, by where they start; no two overlap.
#[derive(Debug, Default)]
struct Spans<'a>(BTreeMap<&'a [u8], End<'a>>);

impl<'a> Spans<'a> {
    fn insert(&mut self, range: KeyRange<'a>) {
        match range {
            KeyRange::One(key) => self.add(key, (key, true)),
            KeyRange::Span { start, end } => self.add(start, (end, false)),
            // etcd takes the one zero byte that means no end for an end like any other, before
            // every key, and so for no keys at all.
            KeyRange::From(_) => {}
        }
    }

    fn add(&mut self, mut start: &'a [u8], mut end: End<'a>) {
        if !is_before(start, end) {
            return;
        }
        if let Some((&before, &its_end)) = self.0.range(..=start).next_back()
            && start <= its_end.0
        {
            start = before;
            end = end.max(its_end);
        }
        let after = |start: &'a [u8]| (Bound::Excluded(start), Bound::Unbounded);
        while let Some((&next, &its_end)) = self.0.range::<[u8], _>(after(start)).next()
            && next <= end.0
        {
            self.0.remove(next);
            end = end.max(its_end);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let found = self.0.range::<[u8], _>(upto).next_back();
        found.is_some_and(|(_, end)| is_before(key, *end))
    }

    /// Whether any of `keys` is in it.
    fn touches(&self, keys: &BTreeSet<&'a [u8]>) -> bool {
        self.0
            .iter()
            .any(|(start, end)| keys.range(*start..).next().is_some_and(|key| is_before(key, *end)))
    }
}

#[cfg(test)]
mod tests;

//! Transactions: what one says, before and after it is done.
//!
//! A transaction is a list of compares and two lists of operations, one of which is executed; an
//! operation may itself be a transaction. Here all transactions of a tree stand in one list, the
//! outermost first and every other one after the one it is in, and so do all compares and all
//! operations: a [`Head`] says which of them are a transaction's own. So neither reading nor
//! checking one that came from outside needs a recursion that outside decides the depth of.
//!
//! The code here reads a transaction through [`Script`], whatever bytes it lies in. What it does to
//! a keyspace stands in [`Keyspace::txn`](crate::mvcc::Keyspace::txn).
//!
//! # Source
//! etcd: `server/etcdserver/txn`, `server/etcdserver/api/v3rpc/key.go`.

#[cfg(test)]
pub(in crate::mvcc) mod sample;
mod validate;

use std::cmp::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::types::LeaseId;
use crate::types::Revision;

pub use validate::validate;

/// Transactions within one another, the outermost included, before the innermost is refused as too
/// many operations.
///
/// Default 130: `--max-txn-ops` is 128 by default and each transaction takes at least one from the
/// one within it, so that etcd refuses what is deeper as well. Its reason here is the stack.
pub const DEPTH_MAX: usize = 130;

/// A transaction and those within it, in whatever form they lie.
///
/// # Shape
/// Transaction 0 is the outermost. The operations that are transactions name 1, 2, 3... in this
/// order, and what the heads name follows one another without a gap: nothing is named twice.
pub trait Script {
    /// How many transactions there are, the outermost included.
    fn txns(&self) -> usize;

    /// What is in a transaction.
    fn head(&self, txn: usize) -> Head;

    /// One compare.
    fn compare(&self, at: usize) -> Compare<'_>;

    /// One operation.
    fn op(&self, at: usize) -> Op<'_>;
}

/// Where the parts of one transaction stand in the lists of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its compares.
    pub compares: Range<usize>,
    /// The operations if all compares hold.
    pub success: Range<usize>,
    /// The operations if not.
    pub failure: Range<usize>,
}

impl Head {
    /// The operations of one branch.
    #[must_use]
    pub fn branch(&self, succeeded: bool) -> Range<usize> {
        if succeeded { self.success.clone() } else { self.failure.clone() }
    }
}

/// One condition on every key of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare<'a> {
    /// Which keys; one without keys is as a key that is not there.
    pub range: KeyRange<'a>,
    /// What must hold between what is there and the operand.
    pub operator: Operator,
    /// What of the key is compared, and with what.
    pub operand: Operand<'a>,
}

/// How two things are compared, as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// They are the same.
    Equal,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
    /// They differ.
    NotEqual,
    /// A number that the API does not know: it holds always.
    Unknown,
}

impl From<i32> for Operator {
    fn from(number: i32) -> Self {
        match number {
            0 => Self::Equal,
            1 => Self::Greater,
            2 => Self::Less,
            3 => Self::NotEqual,
            _ => Self::Unknown,
        }
    }
}

impl Operator {
    /// Whether it holds for something that compares to the operand like this.
    #[must_use]
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::Greater => order.is_gt(),
            Self::Less => order.is_lt(),
            Self::NotEqual => order.is_ne(),
            Self::Unknown => true,
        }
    }
}

/// What of a key is compared, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand<'a> {
    /// Its version; 0 for a key that is not there, as for all numbers.
    Version(i64),
    /// The revision that created it.
    Create(i64),
    /// The revision that last changed it.
    Mod(i64),
    /// Its value. No compare with one holds for a key that is not there.
    Value(&'a [u8]),
    /// Its lease.
    Lease(i64),
    /// A number that the API does not know: everything is equal.
    Unknown,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// A read; it sees what the operations before it have written.
    Range(RangeQuery<'a>),
    /// A put.
    Put(PutOp<'a>),
    /// A deletion.
    DeleteRange {
        /// Which keys.
        range: KeyRange<'a>,
        /// Give back what they held.
        prev_kv: bool,
    },
    /// A transaction within this one, by its number.
    Txn(usize),
    /// One that must be refused; never in a transaction that was validated.
    Refused(Refusal),
}

/// A put whose bytes are not yet anybody's.
#[derive(Clone, Copy, Debug)]
pub struct PutOp<'a> {
    /// The key to write.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The lease to attach the key to; 0 detaches it.
    pub lease: LeaseId,
    /// Give back the pair that was there before.
    pub prev_kv: bool,
    /// Keep the present value.
    pub ignore_value: bool,
    /// Keep the present lease.
    pub ignore_lease: bool,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether its compares held.
    pub succeeded: bool,
    /// What each operation of the branch taken did, in order.
    pub results: Vec<OpResult>,
}

/// What one operation of a transaction did.
///
/// # Shape
/// `revision` is the keyspace's after the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResult {
    /// A read.
    Range {
        /// The keyspace's revision then, which is not the one read at.
        revision: Revision,
        /// The rows, in the order asked for, but for `by_value`.
        rows: Vec<KeyValue>,
        /// Whether the limit cut rows off.
        more: bool,
        /// Keys in the range, whatever limit and bounds left of them.
        count: i64,
        /// Rows and limit are still to be settled, once all values are here.
        by_value: Option<ByValue>,
    },
    /// A put.
    Put {
        /// The revision that made it.
        revision: Revision,
        /// The pair before it, if asked for and there.
        prev: Option<KeyValue>,
    },
    /// A deletion.
    DeleteRange {
        /// The keyspace's revision then.
        revision: Revision,
        /// How many keys were deleted.
        deleted: i64,
        /// The pairs before it in key order, if asked for.
        prevs: Vec<KeyValue>,
    },
    /// A transaction.
    Txn(Outcome),
}

/// What is left to do with rows whose order is that of their values.
///
/// Nothing that a transaction changes rests on it. So no replica waits for the values with all that
/// comes after, and only the one that answers needs them at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByValue {
    /// Largest first.
    pub down: bool,
    /// Most rows to give.
    pub limit: usize,
    /// Leave values out.
    pub keys_only: bool,
}

impl ByValue {
    /// Puts rows that stand in key order in theirs, and cuts them; whether there are more.
    fn settle(self, rows: &mut Vec<KeyValue>) -> bool {
        rows.sort_by(|left, right| {
            let order = left.value.cmp(&right.value);
            if self.down { order.reverse() } else { order }
        });
        let more = rows.len() > self.limit;
        rows.truncate(self.limit);
        for row in rows.iter_mut().filter(|_| self.keys_only) {
            row.value = Some(Bytes::new());
        }
        more
    }
}

impl Outcome {
    /// Settles what was left until all values are here.
    pub fn settle(&mut self) {
        for result in &mut self.results {
            match result {
                OpResult::Range { rows, more, by_value, .. } => {
                    if let Some(by_value) = by_value.take() {
                        *more = by_value.settle(rows);
                    }
                }
                OpResult::Txn(inner) => inner.settle(),
                OpResult::Put { .. } | OpResult::DeleteRange { .. } => {}
            }
        }
    }

    /// Shows every pair in it to `visit`, in the order of the answer.
    ///
    /// Those whose values are on disk are made whole so, before the answer leaves.
    pub fn each_pair(&mut self, visit: &mut impl FnMut(&mut KeyValue)) {
        for result in &mut self.results {
            match result {
                OpResult::Range { rows: pairs, .. }
                | OpResult::DeleteRange { prevs: pairs, .. } => {
                    pairs.iter_mut().for_each(&mut *visit);
                }
                OpResult::Put { prev, .. } => prev.iter_mut().for_each(&mut *visit),
                OpResult::Txn(inner) => inner.each_pair(visit),
            }
        }
    }
}

//! Random transactions: most of them valid, so that the store gets somewhere, the rest anything.

use super::Generator;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::compare::TargetUnion;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// Transactions in a transaction in a transaction: so many, at most.
const DEPTH_MAX: usize = 3;
/// Keys that one careful transaction may change.
const KEYS_MAX: usize = 30;

/// What may be in a transaction.
#[derive(Debug)]
enum Manner {
    /// Only reads.
    Reading,
    /// Each of these keys is changed once at most.
    Careful(Vec<Bytes>),
    /// Reads and deletes, which may overlap.
    Deleting,
    /// Anything, so that much of it is refused.
    Reckless,
}

impl Generator {
    /// A transaction.
    pub(super) fn txn(&mut self) -> TxnRequest {
        let mut manner = match self.dice.below(20) {
            0..3 => Manner::Reading,
            3..14 => Manner::Careful(self.some_keys()),
            14..16 => Manner::Deleting,
            _ => Manner::Reckless,
        };
        let mut txn = self.txn_at(0, &mut manner);
        if deletes_without_end(&txn) {
            keep_nothing(&mut txn);
        }
        txn
    }

    fn txn_at(&mut self, depth: usize, manner: &mut Manner) -> TxnRequest {
        let compare = (0..self.size(1)).map(|_| self.comparison()).collect();
        let (mut then, mut otherwise) = (manner.again(), manner.again());
        let success = self.ops(depth, &mut then);
        let failure = self.ops(depth, &mut otherwise);
        if let (Manner::Careful(left), Manner::Careful(a), Manner::Careful(b)) =
            (manner, then, otherwise)
        {
            left.retain(|key| a.contains(key) && b.contains(key));
        }
        TxnRequest { compare, success, failure }
    }

    /// How many; about `usual`, now and then as many as are allowed, or one more.
    fn size(&mut self, usual: usize) -> usize {
        match self.dice.below(200) {
            0 => self.dice.pick(&[126, 127, 128, 129, 130]),
            1..10 => self.dice.index(12),
            _ => self.dice.index(2 * usual + 1),
        }
    }

    fn ops(&mut self, depth: usize, manner: &mut Manner) -> Vec<RequestOp> {
        (0..self.size(2)).map(|_| RequestOp { request: self.op(depth, manner) }).collect()
    }

    fn op(&mut self, depth: usize, manner: &mut Manner) -> Option<Request> {
        if depth < DEPTH_MAX && self.dice.chance(12) {
            return Some(Request::RequestTxn(self.txn_at(depth + 1, manner)));
        }
        let range = Request::RequestRange(self.inner_range());
        let is_read = self.dice.chance(30);
        match manner {
            Manner::Careful(keys) if !is_read => {
                let Some(key) = keys.pop() else { return Some(range) };
                if self.dice.chance(25) {
                    let range_end = if self.dice.chance(20) { key.clone() } else { Bytes::new() };
                    let prev_kv = self.dice.chance(40);
                    return Some(Request::RequestDeleteRange(DeleteRangeRequest {
                        key,
                        range_end,
                        prev_kv,
                    }));
                }
                Some(Request::RequestPut(PutRequest { key, ..self.inner_put() }))
            }
            Manner::Deleting if !is_read => Some(Request::RequestDeleteRange(self.delete())),
            Manner::Reckless if !is_read => match self.dice.below(100) {
                0..70 => Some(Request::RequestPut(self.put())),
                70..98 => Some(Request::RequestDeleteRange(self.delete())),
                _ => None,
            },
            Manner::Reading | Manner::Careful(_) | Manner::Deleting | Manner::Reckless => {
                Some(range)
            }
        }
    }

    /// A put that may fail, but seldom does.
    fn inner_put(&mut self) -> PutRequest {
        let put = self.put();
        if self.dice.chance(10) {
            return put;
        }
        let lease = if self.leases.contains(&put.lease) { put.lease } else { 0 };
        PutRequest { lease, ignore_lease: false, ignore_value: false, ..put }
    }

    /// A range whose revision, if any, is mostly there to read.
    fn inner_range(&mut self) -> RangeRequest {
        let range = self.range();
        if self.dice.chance(5) {
            return range;
        }
        let key = if range.key.is_empty() { Bytes::from_static(b"\0") } else { range.key };
        RangeRequest {
            key,
            revision: if self.dice.chance(25) { self.past() } else { 0 },
            sort_order: range.sort_order.clamp(0, 2),
            sort_target: range.sort_target.clamp(0, 4),
            ..range
        }
    }

    /// Some keys that are not empty, in any order.
    fn some_keys(&mut self) -> Vec<Bytes> {
        let mut keys = Vec::new();
        for _ in 0..KEYS_MAX.min(self.keys.len()) {
            let key = self.key();
            if !key.is_empty() && !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// A comparison that holds as often as not: its operand is at or beside what was last seen.
    fn comparison(&mut self) -> Compare {
        let key = self.key();
        let known = self.known.get(&key).cloned().unwrap_or_default();
        let range_end = if self.dice.chance(80) { Bytes::new() } else { self.range_end(&key) };
        let target = self.dice.index(5);
        let mut beside = |number: i64| number.wrapping_add(self.dice.pick(&[0, 0, 0, 0, -1, 1]));
        let mut operands = [
            TargetUnion::Version(beside(known.version)),
            TargetUnion::CreateRevision(beside(known.create_revision)),
            TargetUnion::ModRevision(beside(known.mod_revision)),
            TargetUnion::Value(known.value),
            TargetUnion::Lease(beside(known.lease)),
        ];
        if self.dice.chance(30) {
            operands[3] = TargetUnion::Value(self.value());
            operands[2] = TargetUnion::ModRevision(self.some_revision(90));
        }
        let mut union = Some(operands[target].clone());
        if self.dice.chance(4) {
            union = Some(self.dice.pick(&operands));
        } else if self.dice.chance(2) {
            union = None;
        }
        let mut compare = Compare {
            result: self.dice.pick(&[0, 0, 0, 1, 2, 3]),
            target: i32::try_from(target).expect("one of five"),
            key,
            range_end,
            target_union: union,
        };
        if self.dice.chance(1) {
            compare.result = self.dice.pick(&[4, -1, i32::MAX]);
        }
        if self.dice.chance(1) {
            compare.target = self.dice.pick(&[5, -1, i32::MAX]);
        }
        if compare.key.is_empty() && self.dice.chance(90) {
            compare.key = Bytes::from_static(b"a");
        }
        compare
    }
}

/// True if it deletes all keys from one on, or a transaction within it does.
///
/// A put behind that may keep what its key held: etcd looks for the key before it begins, does not
/// find it any more when it comes to the put, and ends.
fn deletes_without_end(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestDeleteRange(delete)) => delete.range_end == b"\0"[..],
        Some(Request::RequestTxn(inner)) => deletes_without_end(inner),
        Some(Request::RequestRange(_) | Request::RequestPut(_)) | None => false,
    })
}

/// Makes its puts keep nothing.
fn keep_nothing(txn: &mut TxnRequest) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        match &mut op.request {
            Some(Request::RequestPut(put)) => {
                (put.ignore_value, put.ignore_lease) = (false, false);
            }
            Some(Request::RequestTxn(inner)) => keep_nothing(inner),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => {}
        }
    }
}

impl Manner {
    /// The same once more, for a branch.
    fn again(&self) -> Self {
        match self {
            Self::Reading => Self::Reading,
            Self::Careful(keys) => Self::Careful(keys.clone()),
            Self::Deleting => Self::Deleting,
            Self::Reckless => Self::Reckless,
        }
    }
}

//! Transactions as trees, and strategies for them: what the tests begin with.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::mvcc::KeyRange;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::txn::Compare;
use crate::mvcc::txn::Head;
use crate::mvcc::txn::Op;
use crate::mvcc::txn::Operand;
use crate::mvcc::txn::Operator;
use crate::mvcc::txn::PutOp;
use crate::mvcc::txn::Script;
use crate::types::LeaseId;

/// A transaction as one thinks of it.
#[derive(Clone, Debug, Default)]
pub(in crate::mvcc) struct Tree {
    pub(in crate::mvcc) compares: Vec<SampleCompare>,
    pub(in crate::mvcc) success: Vec<SampleOp>,
    pub(in crate::mvcc) failure: Vec<SampleOp>,
}

#[derive(Clone, Debug)]
pub(in crate::mvcc) struct SampleCompare {
    pub(in crate::mvcc) key: &'static str,
    pub(in crate::mvcc) range_end: &'static str,
    pub(in crate::mvcc) operator: i32,
    pub(in crate::mvcc) operand: Operand<'static>,
}

#[derive(Clone, Debug)]
pub(in crate::mvcc) enum SampleOp {
    Range(RangeQuery<'static>),
    Put(PutOp<'static>),
    DeleteRange { key: &'static str, range_end: &'static str, prev_kv: bool },
    Txn(Tree),
    Refused(Refusal),
}

/// A tree laid flat.
#[derive(Debug, Default)]
pub(in crate::mvcc) struct Flat {
    heads: Vec<Head>,
    compares: Vec<SampleCompare>,
    /// Each with the transaction it names, if it is one.
    ops: Vec<(SampleOp, usize)>,
}

impl Flat {
    pub(in crate::mvcc) fn of(tree: &Tree) -> Self {
        let mut flat = Self::default();
        let (mut queue, mut named) = (VecDeque::from([tree.clone()]), 0);
        while let Some(tree) = queue.pop_front() {
            let from = flat.compares.len();
            flat.compares.extend(tree.compares);
            let compares = from..flat.compares.len();
            let branches = [tree.success, tree.failure].map(|ops| {
                let from = flat.ops.len();
                for op in ops {
                    if let SampleOp::Txn(inner) = &op {
                        queue.push_back(inner.clone());
                        named += 1;
                    }
                    flat.ops.push((op, named));
                }
                from..flat.ops.len()
            });
            let [success, failure] = branches;
            flat.heads.push(Head { compares, success, failure });
        }
        flat
    }
}

impl Script for Flat {
    fn txns(&self) -> usize {
        self.heads.len()
    }

    fn head(&self, txn: usize) -> Head {
        self.heads[txn].clone()
    }

    fn compare(&self, at: usize) -> Compare<'_> {
        let SampleCompare { key, range_end, operator, operand } = &self.compares[at];
        Compare {
            range: KeyRange::new(key.as_bytes(), range_end.as_bytes()),
            operator: Operator::from(*operator),
            operand: *operand,
        }
    }

    fn op(&self, at: usize) -> Op<'_> {
        match &self.ops[at] {
            (SampleOp::Range(query), _) => Op::Range(*query),
            (SampleOp::Put(put), _) => Op::Put(*put),
            (SampleOp::DeleteRange { key, range_end, prev_kv }, _) => Op::DeleteRange {
                range: KeyRange::new(key.as_bytes(), range_end.as_bytes()),
                prev_kv: *prev_kv,
            },
            (SampleOp::Txn(_), inner) => Op::Txn(*inner),
            (SampleOp::Refused(refusal), _) => Op::Refused(*refusal),
        }
    }
}

/// A put of a value.
pub(in crate::mvcc) fn put(key: &'static str, value: &'static str) -> SampleOp {
    SampleOp::Put(PutOp {
        key: key.as_bytes(),
        value: value.as_bytes(),
        lease: LeaseId(0),
        prev_kv: false,
        ignore_value: false,
        ignore_lease: false,
    })
}

/// A deletion of `key..range_end`, both as on the wire.
pub(in crate::mvcc) fn delete(key: &'static str, range_end: &'static str) -> SampleOp {
    SampleOp::DeleteRange { key, range_end, prev_kv: true }
}

/// A transaction of these operations, whatever is there.
pub(in crate::mvcc) fn all(success: Vec<SampleOp>) -> Tree {
    Tree { success, ..Tree::default() }
}

const KEYS: [&str; 6] = ["a", "aa", "b", "c", "d", "e"];

fn a_key() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&KEYS[..])
}

fn an_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 3 => a_key(), 1 => Just("\0"), 1 => Just("z")]
}

fn a_compare() -> impl Strategy<Value = SampleCompare> {
    let operand = prop_oneof![
        (0..4_i64).prop_map(Operand::Version),
        (0..8_i64).prop_map(Operand::Create),
        (0..8_i64).prop_map(Operand::Mod),
        prop::sample::select(vec!["", "x", "y"]).prop_map(|value| Operand::Value(value.as_bytes())),
        (0..2_i64).prop_map(Operand::Lease),
        Just(Operand::Unknown),
    ];
    (a_key(), an_end(), 0..5_i32, operand).prop_map(|(key, range_end, operator, operand)| {
        SampleCompare { key, range_end, operator, operand }
    })
}

prop_compose! {
    fn a_put()(
        key in a_key(),
        value in prop::sample::select(vec!["", "x", "y"]),
        lease in prop::sample::select(vec![0, 0, 0, 0, 0, 0, 7, 9]),
        flags in any::<[bool; 3]>(),
        keeps in prop::bool::weighted(0.2),
    ) -> PutOp<'static> {
        let [prev_kv, ignore_value, ignore_lease] = flags;
        let (ignore_value, ignore_lease) = (keeps && ignore_value, keeps && ignore_lease);
        PutOp {
            key: key.as_bytes(),
            value: if ignore_value { b"" } else { value.as_bytes() },
            lease: LeaseId(if ignore_lease { 0 } else { lease }),
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    }
}

prop_compose! {
    fn a_range()(
        key in a_key(),
        range_end in an_end(),
        limit in 0..4_i64,
        revision in prop::sample::select(vec![0, 0, 0, 0, 0, 0, -2, -1, 1, 2, 3, 4, 5, 7]),
        sort in (0..3_i32, 0..5_i32),
        flags in any::<[bool; 2]>(),
    ) -> RangeQuery<'static> {
        RangeQuery {
            limit,
            revision,
            order: SortOrder::try_from(sort.0).expect("there are three"),
            target: SortTarget::try_from(sort.1).expect("there are five"),
            keys_only: flags[0],
            count_only: flags[1],
            ..RangeQuery::new(KeyRange::new(key.as_bytes(), range_end.as_bytes()))
        }
    }
}

/// A tree of some depth, of operations that need not go together.
pub(in crate::mvcc) fn a_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        3 => a_range().prop_map(SampleOp::Range),
        4 => a_put().prop_map(SampleOp::Put),
        2 => (a_key(), an_end(), any::<bool>())
            .prop_map(|(key, range_end, prev_kv)| {
                SampleOp::DeleteRange { key, range_end, prev_kv }
            }),
    ];
    let op = leaf.prop_recursive(3, 20, 3, |op| {
        let ops = || vec(op.clone(), 0..3);
        (vec(a_compare(), 0..2), ops(), ops())
            .prop_map(|(compares, success, failure)| {
                SampleOp::Txn(Tree { compares, success, failure })
            })
            .boxed()
    });
    let ops = || vec(op.clone(), 0..5);
    (vec(a_compare(), 0..3), ops(), ops()).prop_map(|(compares, success, failure)| Tree {
        compares,
        success,
        failure,
    })
}

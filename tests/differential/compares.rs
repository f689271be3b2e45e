//! Every kind of condition that a transaction can have, on keys that are there and that are not.

use crate::generate::Op;
use crate::pair::Pair;
use crate::support::block_on;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::compare::TargetUnion;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A lease that one key has.
const LEASE: i64 = 7;

/// Keys and ends: of one that is there, of none, of all of whom it is true and of some, from one
/// on, of nothing.
const RANGES: [(&str, &str); 13] = [
    ("a", ""),
    ("b", ""),
    ("c", ""),
    ("gone", ""),
    ("x", ""),
    ("a", "c"),
    ("a", "z"),
    ("d", "z"),
    ("z", "a"),
    ("b", "b"),
    ("a", "\0"),
    ("x", "\0"),
    ("\0", "\0"),
];

/// Operands of a target, one of another's kind, and none; the last target is none.
fn operands(target: i32) -> Vec<Option<TargetUnion>> {
    let of: fn(i64) -> TargetUnion = match target {
        0 => TargetUnion::Version,
        1 => TargetUnion::CreateRevision,
        2 => TargetUnion::ModRevision,
        4 => TargetUnion::Lease,
        3 => {
            let values = ["", "1", "2", "\u{ff}"].map(|it| TargetUnion::Value(it.into()));
            let odd = [None, Some(TargetUnion::Version(1))];
            return values.map(Some).into_iter().chain(odd).collect();
        }
        _ => return vec![None, Some(TargetUnion::Version(1))],
    };
    let numbers = [-1, 0, 1, 2, 3, 4, LEASE, i64::MAX].map(of);
    let odd = [None, Some(TargetUnion::Value("1".into()))];
    numbers.map(Some).into_iter().chain(odd).collect()
}

/// What there is: a key with two versions, one with a lease, one without a value, one that is gone.
fn store() -> Vec<Op> {
    let put = |key: &'static str, value: &'static str, lease| {
        let (key, value) = (key.into(), value.into());
        Op::Put(PutRequest { key, value, lease, ..PutRequest::default() })
    };
    let gone = DeleteRangeRequest { key: "gone".into(), ..DeleteRangeRequest::default() };
    vec![
        Op::Grant(LeaseGrantRequest { ttl: 100_000, id: LEASE }),
        put("a", "1", 0),
        put("a", "2", 0),
        put("b", "2", LEASE),
        put("c", "", 0),
        put("gone", "1", 0),
        Op::Delete(gone),
    ]
}

/// A transaction that changes nothing, and is a change by its operations or is not.
fn txn(compare: Compare, writes: bool) -> TxnRequest {
    let nothing = DeleteRangeRequest { key: "nothing".into(), ..DeleteRangeRequest::default() };
    let count = RangeRequest { key: "a".into(), count_only: true, ..RangeRequest::default() };
    let request =
        if writes { Request::RequestDeleteRange(nothing) } else { Request::RequestRange(count) };
    let ops = vec![RequestOp { request: Some(request) }];
    TxnRequest { compare: vec![compare], success: ops.clone(), failure: ops }
}

#[test]
fn every_condition_holds_or_does_not_alike() {
    block_on(async {
        let mut pair = Pair::start().await;
        pair.fill(store()).await;
        for target in 0..=5 {
            for target_union in operands(target) {
                for (result, (key, end)) in (0..=4).flat_map(|it| RANGES.map(|range| (it, range))) {
                    let (key, range_end) = (Bytes::from(key), Bytes::from(end));
                    let target_union = target_union.clone();
                    let compare = Compare { result, target, key, range_end, target_union };
                    let ops = [false, true].map(|writes| Op::Txn(txn(compare.clone(), writes)));
                    pair.fill(ops).await;
                }
            }
        }
    });
}

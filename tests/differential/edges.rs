//! Cases that are known to be hard: which keys may stand twice in a transaction, what is allowed
//! at the edge of a compaction, and the largest that there may be.

use crate::generate::Op;
use crate::pair::Pair;
use crate::support::call::{Client, Status};
use crate::support::peers;
use crate::support::server::Server;
use crate::support::{block_on, say, setting};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
};

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_request(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: Bytes::from_static(b"v"), ..PutRequest::default() }
}

fn put(key: &'static str) -> RequestOp {
    op(Request::RequestPut(put_request(key)))
}

fn delete(key: &'static str) -> RequestOp {
    delete_to(key, "")
}

fn delete_to(key: &'static str, end: &'static str) -> RequestOp {
    let (key, range_end) = (key.into(), end.into());
    op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: true }))
}

fn range_request(key: &'static str, revision: i64) -> RangeRequest {
    RangeRequest { key: key.into(), revision, ..RangeRequest::default() }
}

fn range(key: &'static str, revision: i64) -> RequestOp {
    op(Request::RequestRange(range_request(key, revision)))
}

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest { success, failure, ..TxnRequest::default() }))
}

/// That `key` has this version.
fn version(key: &'static str, version: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: key.into(),
        target_union: Some(TargetUnion::Version(version)),
        ..Compare::default()
    }
}

fn everything() -> RangeRequest {
    let zero = Bytes::from_static(b"\0");
    RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() }
}

/// Asks all of `ops` in turn and, after each, for all there is and its hash; fails with all that
/// differs.
fn compare_ops(flags: &[&str], ops: impl IntoIterator<Item = Op>) {
    block_on(async {
        let mut pair = Pair::start_with(flags).await;
        let mut wrong = Vec::new();
        for op in ops {
            let after = [Op::Range(everything()), Op::HashKv(HashKvRequest { revision: 0 })];
            for (number, asked) in [op.clone()].iter().chain(&after).enumerate() {
                let outcome = pair.compare(asked).await;
                if setting("SHOW").is_some() && number == 0 {
                    say(format_args!("{op:?}\n  {outcome:?}"));
                }
                if let Err(difference) = outcome {
                    wrong.push(format!("{asked:?}, at {op:?}:\n{difference}"));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "{} answers differ:\n{}",
            wrong.len(),
            wrong[..wrong.len().min(8)].join("\n")
        );
    });
}

#[test]
fn a_key_may_stand_twice_in_a_transaction_or_not_alike() {
    let lists = [
        vec![put("k"), put("k")],
        vec![put("k"), put("l"), put("k")],
        vec![put("k"), delete("k")],
        vec![delete("k"), put("k")],
        vec![delete("k"), delete("k")],
        vec![delete_to("a", "z"), delete_to("b", "c"), delete("b")],
        vec![delete_to("a", "z"), put("k")],
        vec![put("k"), delete_to("a", "z")],
        vec![put("k"), delete_to("k", "k\0")],
        vec![put("k"), delete_to("a", "k")],
        vec![delete_to("k", "z"), put("k")],
        vec![delete_to("k\0", "z"), put("k")],
        vec![put("k"), delete_to("a", "\0")],
        vec![delete_to("\0", "\0"), put("k")],
        vec![put("k"), delete_to("l", "\0")],
        vec![put("k"), delete_to("z", "a")],
        vec![delete_to("k", "k"), put("k")],
        vec![put("k"), delete_to("k", "a")],
        vec![delete("l"), put("k"), delete("m")],
        vec![nested(vec![put("k")], vec![put("k")])],
        vec![nested(vec![put("k")], vec![delete("k")])],
        vec![nested(vec![delete("k")], vec![put("k")])],
        vec![nested(vec![put("k"), put("k")], vec![])],
        vec![nested(vec![], vec![put("k"), put("k")])],
        vec![put("k"), nested(vec![put("k")], vec![])],
        vec![put("k"), nested(vec![], vec![put("k")])],
        vec![nested(vec![put("k")], vec![]), put("k")],
        vec![nested(vec![], vec![put("k")]), put("k")],
        vec![nested(vec![put("k")], vec![]), nested(vec![put("k")], vec![])],
        vec![nested(vec![put("k")], vec![]), nested(vec![], vec![put("k")])],
        vec![nested(vec![put("k")], vec![]), nested(vec![delete("k")], vec![])],
        vec![nested(vec![delete("k")], vec![]), nested(vec![put("k")], vec![])],
        vec![nested(vec![put("k")], vec![]), nested(vec![], vec![delete_to("a", "z")])],
        vec![nested(vec![], vec![delete_to("a", "z")]), nested(vec![put("k")], vec![])],
        vec![nested(vec![put("k")], vec![]), delete("k")],
        vec![delete("k"), nested(vec![put("k")], vec![])],
        vec![delete_to("a", "z"), nested(vec![], vec![put("k")])],
        vec![put("k"), nested(vec![delete("k")], vec![])],
        vec![put("k"), nested(vec![], vec![delete_to("a", "\0")])],
        vec![nested(vec![nested(vec![put("k")], vec![])], vec![]), put("k")],
        vec![nested(vec![nested(vec![], vec![put("k")])], vec![]), delete("k")],
        vec![nested(vec![nested(vec![delete("k")], vec![])], vec![]), put("k")],
        vec![nested(vec![nested(vec![put("k")], vec![])], vec![nested(vec![put("k")], vec![])])],
    ];
    let ops = lists.into_iter().flat_map(|list| {
        let taken = Op::Txn(txn(list.clone()));
        let other = TxnRequest { failure: list, success: vec![put("n")], ..TxnRequest::default() };
        [taken, Op::Txn(other)]
    });
    compare_ops(&[], ops);
}

/// Puts that fail when they are applied, or before.
fn bad_puts() -> Vec<RequestOp> {
    let absent = PutRequest { value: Bytes::new(), ..put_request("absent") };
    let own = put_request("own");
    [
        PutRequest { ignore_value: true, ..absent.clone() },
        PutRequest { ignore_lease: true, ..absent },
        PutRequest { ignore_value: true, ..own.clone() },
        PutRequest { ignore_lease: true, lease: 7, ..own.clone() },
        PutRequest { lease: 7, ..own.clone() },
        PutRequest { lease: -1, ..own.clone() },
        PutRequest { key: Bytes::new(), ..own },
    ]
    .map(|put| op(Request::RequestPut(put)))
    .into()
}

#[test]
fn what_fails_within_a_transaction_leaves_nothing_alike() {
    let mut bad = bad_puts();
    bad.extend([
        range("k", 1 << 40),
        range("k", 1),
        range("k", -1),
        range("k", i64::MIN),
        range("", 0),
        delete(""),
        op(Request::RequestRange(RangeRequest { sort_order: 9, ..range_request("k", 0) })),
        op(Request::RequestRange(RangeRequest { sort_target: 9, ..range_request("k", 0) })),
        RequestOp { request: None },
    ]);
    let mut ops: Vec<Op> = (0..3).map(|_| Op::Put(put_request("k"))).collect();
    ops.push(Op::Compact(CompactionRequest { revision: 2, physical: true }));
    for bad in bad {
        let (first, then) = (put("first"), range("first", 0));
        let in_order = [first.clone(), bad.clone(), then];
        let not_taken = TxnRequest {
            compare: vec![version("k", -5)],
            success: vec![bad.clone()],
            failure: vec![first.clone()],
        };
        let inside = nested(vec![put("inside"), bad.clone()], vec![]);
        let not_inside = nested(vec![put("inside")], vec![bad.clone()]);
        ops.extend(
            [
                txn(vec![bad]),
                txn(in_order.into()),
                not_taken,
                txn(vec![first.clone(), inside]),
                txn(vec![first, not_inside]),
            ]
            .map(Op::Txn),
        );
    }
    compare_ops(&[], ops);
}

#[test]
fn a_transaction_sees_its_own_changes_alike() {
    let all = op(Request::RequestRange(everything()));
    let keep = PutRequest { ignore_value: true, value: Bytes::new(), ..put_request("k") };
    let keep = op(Request::RequestPut(PutRequest { prev_kv: true, ..keep }));
    let serializable = RangeRequest { serializable: true, ..everything() };
    let serializable = op(Request::RequestRange(serializable));
    let mut ops = vec![
        txn(vec![]),
        txn(vec![all.clone()]),
        txn(vec![serializable.clone(), all.clone()]),
        txn(vec![nested(vec![all.clone()], vec![])]),
        txn(vec![nested(vec![], vec![])]),
        txn(vec![all.clone(), put("k"), all.clone(), delete("l"), all.clone()]),
        txn(vec![put("k"), put("l"), all.clone(), range("k", 1), range("k", 2), range("k", 3)]),
        // The revision that the transaction itself makes is still in the future.
        txn(vec![put("k"), range("k", 4)]),
        txn(vec![put("k"), keep.clone()]),
        txn(vec![put("l"), keep.clone(), all.clone()]),
        txn(vec![delete("l"), all.clone(), delete_to("a", "z"), all.clone()]),
        // Absent, and put by the transaction itself: its keys are looked for beforehand.
        txn(vec![keep.clone()]),
        txn(vec![delete_to("a", "z"), all.clone(), nested(vec![put("k"), all.clone()], vec![])]),
        txn(vec![delete_to("a", "z"), delete_to("a", "z"), all.clone()]),
        txn(vec![delete("k"), all.clone()]),
    ];
    // What is compared in a nested transaction is as it was before all of it.
    let nested_if = |compare, success, failure| {
        op(Request::RequestTxn(TxnRequest { compare, success, failure }))
    };
    for expected in [0, 1] {
        ops.push(txn(vec![
            put("k"),
            nested_if(vec![version("k", expected)], vec![put("then")], vec![put("else")]),
            all.clone(),
        ]));
        ops.push(txn(vec![delete("k"), delete("then"), delete("else")]));
    }
    for serializable in [vec![serializable], vec![]] {
        ops.push(TxnRequest { compare: vec![version("k", 0)], ..txn(serializable) });
    }
    compare_ops(&[], ops.into_iter().map(Op::Txn));
}

#[test]
fn the_edge_of_a_compaction_is_alike() {
    let compact = |revision| Op::Compact(CompactionRequest { revision, physical: false });
    let physical = |revision| Op::Compact(CompactionRequest { revision, physical: true });
    let hash = |revision| Op::HashKv(HashKvRequest { revision });
    let at = |revision| Op::Range(range_request("k", revision));
    let stream = |revision| Op::Stream(RangeRequest { revision, ..everything() });
    let dead = |key| Op::Txn(txn(vec![delete(key)]));
    let mut ops = vec![hash(0), hash(1), hash(2), hash(-1), at(1), at(2), Op::Hash];
    // Of the empty store.
    ops.extend([compact(-2), compact(-1), compact(2), compact(1), compact(1)]);
    ops.extend([hash(0), at(1), at(0), at(-1), stream(1), stream(0), stream(-1)]);
    ops.extend([Op::Put(put_request("k")), Op::Put(put_request("k")), dead("k")]);
    ops.extend([Op::Put(put_request("k")), dead("k"), Op::Put(put_request("l"))]);
    ops.extend([
        compact(2),
        at(1),
        at(2),
        at(3),
        hash(3),
        hash(4),
        hash(5),
        compact(2),
        compact(1),
    ]);
    // At a tombstone, and just after one.
    ops.extend([physical(4), at(3), at(4), at(5), hash(5), hash(6), hash(7), stream(4), stream(3)]);
    ops.extend([Op::Restart, at(3), hash(3), at(4), at(5), hash(5), hash(6), hash(0), compact(4)]);
    ops.extend([compact(7), at(6), at(7), hash(0), physical(7), compact(8), compact(1 << 40)]);
    ops.extend([Op::Restart, at(6), at(7), hash(0), dead("l"), compact(8), at(7), at(8), hash(0)]);
    ops.extend([
        Op::Put(put_request("l")),
        hash(0),
        compact(i64::MIN),
        compact(i64::MAX),
        Op::Hash,
    ]);
    compare_ops(&[], ops);
}

fn compact(revision: i64) -> Op {
    Op::Compact(CompactionRequest { revision, physical: true })
}

fn hash(revision: i64) -> Op {
    Op::HashKv(HashKvRequest { revision })
}

#[test]
fn revision_0_is_compacted_once_alike() {
    block_on(async {
        let mut pair = Pair::start().await;
        pair.fill([0, 0, -1, 1, 0].map(compact)).await;
    });
}

/// Of the last ten revisions that it compacted at, etcd remembers the hash that it took meanwhile,
/// of what had been there before, and answers with it whoever asks for the hash of just that
/// revision. The first compaction of a life may be at 0, which is also how one asks for the
/// present: that is answered with the hash of nothing then, until etcd is started again or has
/// compacted ten times more. So its members differ in what they answer; ours answer as etcd does
/// that has forgotten.
#[test]
fn what_etcd_remembers_of_compactions_it_forgets_and_is_then_as_ours() {
    const REMEMBERED: i64 = 10;
    block_on(async {
        let mut pair = Pair::start().await;
        let fill = |puts: usize| {
            let mut ops = vec![Op::Put(put_request("k")); puts];
            ops.extend([Op::Txn(txn(vec![delete("l")])), Op::Put(put_request("l"))]);
            ops
        };
        pair.fill([vec![compact(0)], fill(3)].concat()).await;
        pair.theirs_remembers(0, (-1, 0)).await;
        pair.fill([compact(3)]).await;
        pair.theirs_remembers(3, (0, 3)).await;
        pair.fill([hash(4), hash(5)]).await;

        pair.restart_theirs().await.expect("it answers again");
        pair.fill([Op::Restart].into_iter().chain((0..=5).map(hash))).await;

        // The same without a new start.
        let mut pair = Pair::start().await;
        pair.fill([vec![compact(0)], fill(20)].concat()).await;
        for revision in 1..REMEMBERED {
            pair.fill([compact(revision)]).await;
        }
        pair.theirs_remembers(0, (-1, 0)).await;
        pair.fill([compact(REMEMBERED), hash(0), hash(REMEMBERED + 1)]).await;
    });
}

/// Of a put that keeps what its key holds etcd looks for the key before a transaction; where the
/// same transaction has deleted it by then, it ends. Elsewhere it is refused for that reason, and
/// so it is here.
#[test]
fn what_makes_etcd_end_is_refused() {
    if !peers::under_test_is_ours() {
        return;
    }
    block_on(async {
        let server = Server::start(&peers::under_test());
        let client = Client::connect(server.port()).await.expect("it answers");
        let put: Result<PutResponse, _> =
            client.unary("/etcdserverpb.KV/Put", &put_request("k")).await;
        put.expect("a put is taken");
        let why = Status { code: 3, message: "etcdserver: key not found".to_owned() };
        for keep in ["value", "lease"] {
            let put = PutRequest {
                ignore_value: keep == "value",
                ignore_lease: keep == "lease",
                value: Bytes::new(),
                ..put_request("k")
            };
            let keep = op(Request::RequestPut(put));
            let within = nested(vec![keep.clone()], vec![]);
            for ops in [vec![delete_to("a", "\0"), keep], vec![delete_to("a", "\0"), within]] {
                let told: Result<TxnResponse, _> =
                    client.unary("/etcdserverpb.KV/Txn", &txn(ops)).await;
                assert_eq!(told, Err(why.clone()));
            }
        }
        let all: RangeResponse =
            client.unary("/etcdserverpb.KV/Range", &everything()).await.expect("it goes on");
        assert_eq!((all.count, all.header.map(|header| header.revision)), (1, Some(2)));
    });
}

#[test]
fn the_limit_of_operations_is_the_flags_alike() {
    let puts = |count: usize| -> Vec<RequestOp> {
        ["a", "b", "c", "d", "e", "f"].into_iter().take(count).map(put).collect()
    };
    let compares = |count: usize| vec![version("k", 0); count];
    let mut ops = Vec::new();
    for count in 2..6 {
        ops.push(txn(puts(count)));
        ops.push(TxnRequest { failure: puts(count), ..TxnRequest::default() });
        ops.push(TxnRequest { compare: compares(count), ..TxnRequest::default() });
        ops.push(txn(vec![nested(puts(count), vec![])]));
        ops.push(txn(vec![nested(vec![], puts(count))]));
        ops.push(txn(vec![put("z"), nested(puts(count), vec![])]));
        ops.push(txn(vec![nested(vec![nested(puts(count), vec![])], vec![])]));
        ops.push(txn(vec![nested(puts(2), vec![]), nested(vec![], puts(count))]));
        // Too many operations, and one that is wrong as well.
        let wrong = [puts(count), vec![put("")]].concat();
        ops.push(txn(wrong.clone()));
        ops.push(TxnRequest { compare: vec![version("", 0)], ..txn(wrong) });
    }
    compare_ops(&["--max-txn-ops", "4"], ops.into_iter().map(Op::Txn));
}

#[test]
fn large_transactions_are_limited_alike() {
    let large = |size: usize, key: &'static str| {
        let value = vec![b'v'; size].into();
        op(Request::RequestPut(PutRequest { value, ..put_request(key) }))
    };
    let mut ops = Vec::new();
    for size in [500 << 10, 520 << 10, 690 << 10, 1 << 20] {
        let puts = vec![large(size, "a"), large(size, "b"), large(size, "c")];
        ops.push(txn(puts[..2].into()));
        ops.push(txn(puts.clone()));
        ops.push(TxnRequest { failure: puts, ..TxnRequest::default() });
    }
    // The whole of what there is, many times in one answer.
    ops.push(txn(vec![op(Request::RequestRange(everything())); 8]));
    compare_ops(&[], ops.into_iter().map(Op::Txn));
}

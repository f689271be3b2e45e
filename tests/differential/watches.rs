//! Watchers in cases that are known to be hard: at the edges of what may be asked, larger than a
//! message, slower than the writer, and many.

use crate::generate::Op;
use crate::pair::Pair;
use crate::support::call::Client;
use crate::support::{block_on, say, setting};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest,
};

/// Keys from the first of these to before the second.
type Range = (&'static str, &'static str);

const EVERYTHING: Range = ("\0", "\0");

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn delete((key, range_end): Range) -> DeleteRangeRequest {
    let (key, range_end) = (key.into(), range_end.into());
    DeleteRangeRequest { key, range_end, prev_kv: false }
}

fn txn(requests: impl IntoIterator<Item = Request>) -> Op {
    let success = requests.into_iter().map(|request| RequestOp { request: Some(request) });
    Op::Txn(TxnRequest { success: success.collect(), ..TxnRequest::default() })
}

fn watcher((key, range_end): Range, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (key.into(), range_end.into());
    WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() }
}

fn create(number: usize, create: WatchCreateRequest) -> Op {
    watch(number, RequestUnion::CreateRequest(create))
}

fn cancel(number: usize, watch_id: i64) -> Op {
    watch(number, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
}

fn progress(number: usize) -> Op {
    watch(number, RequestUnion::ProgressRequest(WatchProgressRequest {}))
}

fn watch(number: usize, union: RequestUnion) -> Op {
    Op::Watch(number, WatchRequest { request_union: Some(union) })
}

fn compact(revision: i64) -> Op {
    Op::Compact(CompactionRequest { revision, physical: true })
}

/// Asks all of `ops` in turn and sees after each that watchers were told the same.
async fn compare_on(pair: &mut Pair, ops: impl IntoIterator<Item = Op>) {
    for op in ops {
        let outcome = pair.compare(&op).await;
        if setting("SHOW").is_some() {
            say(format_args!("{op:?}\n  {outcome:?}"));
        }
        outcome.unwrap_or_else(|difference| panic!("{op:?}:\n{difference}"));
        let settled = pair.compare(&Op::Settle).await;
        settled.unwrap_or_else(|difference| panic!("after {op:?}:\n{difference}"));
    }
}

fn compare_ops(ops: impl IntoIterator<Item = Op>) {
    block_on(async { compare_on(&mut Pair::start().await, ops).await });
}

/// Some history: at revision 12, with 6 compacted, and a deletion just there.
fn history() -> Vec<Op> {
    let mut ops: Vec<_> = ["a", "b", "c", "a"].map(|key| Op::Put(put(key, "1"))).into();
    ops.push(Op::Delete(delete(("b", ""))));
    ops.push(Op::Put(put("b", "2")));
    ops.push(txn([Request::RequestPut(put("a", "3")), Request::RequestPut(put("d", "3"))]));
    ops.push(txn([
        Request::RequestDeleteRange(delete(("a", "c"))),
        Request::RequestPut(put("c", "4")),
    ]));
    ops.extend(["a", "b", "\0", "zz"].map(|key| Op::Put(put(key, "5"))));
    ops.push(compact(6));
    ops
}

/// Changes of all the keys that are watched.
fn changes() -> [Op; 4] {
    [
        Op::Put(put("a", "6")),
        Op::Put(put("k", "6")),
        txn([
            Request::RequestPut(put("e", "7")),
            Request::RequestDeleteRange(delete(("a", "e"))),
            Request::RequestPut(put("\0", "7")),
        ]),
        Op::Delete(delete(EVERYTHING)),
    ]
}

#[test]
fn watchers_of_any_range_from_any_revision_are_told_alike() {
    let ranges = [
        ("", ""),
        ("", "\0"),
        ("", "b"),
        EVERYTHING,
        ("\0", ""),
        ("a", ""),
        ("a", "a"),
        ("a", "a\0"),
        ("a", "c"),
        ("c", "a"),
        ("b", "\0"),
        ("zz", "\0"),
        ("nothing", ""),
    ];
    let starts = [0, 1, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, i64::MAX, -1, i64::MIN];
    let mut ops = history();
    for (number, start) in starts.into_iter().enumerate() {
        ops.extend(ranges.map(|range| create(number % 5, watcher(range, start))));
    }
    ops.extend(changes());
    ops.extend((0..5).map(progress));
    compare_ops(ops);
}

#[test]
fn watchers_with_any_options_are_told_alike() {
    let mut ops = history();
    for filters in
        [vec![], vec![0], vec![1], vec![0, 1], vec![1, 0], vec![0, 0], vec![2], vec![-1, 1]]
    {
        for start in [0, 6, 9] {
            for prev_kv in [false, true] {
                let base = watcher(EVERYTHING, start);
                let filters = filters.clone();
                ops.push(create(0, WatchCreateRequest { filters, prev_kv, ..base }));
            }
        }
    }
    ops.extend(changes());
    // All that the first two watchers could tell of what was before.
    ops.push(compact(15));
    for start in [14, 15, 16] {
        ops.push(create(0, WatchCreateRequest { prev_kv: true, ..watcher(EVERYTHING, start) }));
    }
    compare_ops(ops);
}

#[test]
fn ids_of_watchers_are_given_alike() {
    let with = |watch_id, range| create(0, WatchCreateRequest { watch_id, ..watcher(range, 0) });
    let from =
        |watch_id, start| create(0, WatchCreateRequest { watch_id, ..watcher(("a", ""), start) });
    let mut ops = history();
    let ids = [0, 0, 5, 2, 3, 0, 0, 0, 5, 6, 7, 0, i64::MAX, i64::MIN, -2, 0, 1, 0];
    ops.extend(ids.map(|id| with(id, ("a", ""))));
    // What is wrong in more than one way.
    ops.extend([with(5, ("b", "a")), with(99, ("b", "a")), with(99, ("a", ""))]);
    ops.extend([from(5, -1), from(98, -1), from(98, 1), from(98, 0), from(97, 13)]);
    let wrong = WatchCreateRequest { watch_id: 5, ..watcher(("b", "a"), -1) };
    ops.extend([create(0, wrong), create(0, watcher(("b", "a"), 1))]);
    ops.extend([5, 5, 4, 0, 98, 98, 98, 1000, -1, i64::MAX].map(|id| cancel(0, id)));
    ops.extend([with(5, ("b", "")), with(98, ("b", "")), with(0, ("b", "")), with(4, ("b", ""))]);
    ops.extend(changes());
    compare_ops(ops);
}

#[test]
fn what_is_canceled_half_closed_or_given_up_is_silent_alike() {
    let mut ops = history();
    ops.extend((0..4).flat_map(|number| {
        [create(number, watcher(EVERYTHING, 0)), create(number, watcher(EVERYTHING, 7))]
    }));
    ops.extend([cancel(0, 0), cancel(0, 0), cancel(1, 1), Op::HalfClose(2), Op::GiveUp(3)]);
    ops.push(Op::Put(put("a", "6")));
    ops.extend([create(2, watcher(EVERYTHING, 0)), create(3, watcher(EVERYTHING, 7))]);
    ops.extend(changes());
    ops.extend([cancel(0, 1), cancel(1, 0), cancel(1, 0), Op::HalfClose(0), Op::GiveUp(2)]);
    ops.extend(changes());
    compare_ops(ops);
}

#[test]
fn progress_is_told_alike() {
    let mut ops = vec![progress(0)];
    ops.extend(history());
    ops.extend([progress(0), create(0, watcher(("a", ""), 0)), progress(0), progress(0)]);
    ops.extend([create(0, watcher(EVERYTHING, 6)), progress(0), create(1, watcher(EVERYTHING, 2))]);
    ops.extend([progress(1), cancel(1, 0), progress(1), create(1, watcher(EVERYTHING, 13))]);
    ops.extend([progress(1), Op::Put(put("a", "6")), progress(1), progress(0)]);
    ops.extend(changes());
    ops.extend([progress(1), progress(0), cancel(1, 1), progress(1)]);
    compare_ops(ops);
}

#[test]
fn watchers_are_told_how_far_they_are_when_nothing_happens() {
    block_on(async {
        let flags = ["--watch-progress-notify-interval", "100ms"];
        let mut pair = Pair::start_with(&flags).await;
        compare_on(&mut pair, history()).await;
        let mut wanted = Vec::new();
        for (number, start) in [(0, 0), (1, 7), (2, 1000), (3, 3)] {
            let base = watcher(("a", "b"), start);
            let notified = WatchCreateRequest { progress_notify: true, ..base.clone() };
            let filtered = WatchCreateRequest { filters: vec![0, 1], ..notified.clone() };
            let ops = [base, notified, filtered].map(|it| create(number, it));
            compare_on(&mut pair, ops).await;
            if start < 10 && start != 3 {
                wanted.extend([(number, 1), (number, 2)]);
            }
        }
        for round in 0..4 {
            let told = pair.notified(&wanted).await;
            told.unwrap_or_else(|difference| panic!("round {round}: {difference}"));
            compare_on(&mut pair, changes()).await;
        }
    });
}

/// Pairs of a few hundred kilobytes, then what changes many of them at once.
fn large_changes() -> Vec<Op> {
    let value = |n: u8, size: usize| Bytes::from(vec![b'a' + n; size]);
    let many = |n: u8| {
        txn([("k/1", 300 << 10), ("k/2", 500 << 10), ("k/3", 700 << 10)]
            .map(|(key, size)| Request::RequestPut(put(key, value(n, size)))))
    };
    let mut ops: Vec<_> =
        (0..12u8).map(|n| Op::Put(put(vec![b'l', n], value(n, 200 << 10)))).collect();
    ops.extend([many(0), many(1), many(2)]);
    ops.push(Op::Put(put("whole", value(0, 1400 << 10))));
    ops.push(Op::Put(put("whole", value(1, 1400 << 10))));
    ops.push(Op::Delete(delete(("k", "m"))));
    ops.push(Op::Delete(delete(EVERYTHING)));
    ops
}

#[test]
fn what_is_larger_than_a_message_is_told_in_parts_or_whole_alike() {
    let kinds = |start| {
        let base = watcher(EVERYTHING, start);
        [(false, false), (false, true), (true, false), (true, true)].map(|(fragment, prev_kv)| {
            create(0, WatchCreateRequest { fragment, prev_kv, ..base.clone() })
        })
    };
    let mut ops: Vec<_> = kinds(0).into();
    ops.extend(large_changes());
    ops.extend(kinds(1));
    ops.extend(kinds(10));
    block_on(async {
        let mut pair = Pair::start().await;
        compare_on(&mut pair, ops).await;
        let (ours, theirs) = pair.parts();
        assert!(ours > 3 && theirs > 3, "{ours} and {theirs} parts were sent");
    });
}

#[test]
fn a_watcher_that_is_far_behind_is_told_all() {
    block_on(async {
        let mut pair = Pair::start().await;
        let puts = |from: usize, to: usize| {
            (from..to).map(|n| Op::Put(put(format!("k/{}", n % 7), format!("{n}"))))
        };
        pair.fill(puts(0, 1300)).await;
        let mut ops = Vec::new();
        for start in [1, 2, 300, 301, 302, 303, 1300, 1301, 1302] {
            let base = WatchCreateRequest { prev_kv: true, ..watcher(EVERYTHING, start) };
            ops.push(create(0, base.clone()));
            ops.push(create(1, WatchCreateRequest { filters: vec![1], ..base.clone() }));
            ops.push(create(1, WatchCreateRequest { fragment: true, ..base }));
            ops.push(create(2, watcher(("k/3", ""), start)));
        }
        compare_on(&mut pair, ops).await;
        compare_on(&mut pair, puts(0, 5)).await;
    });
}

#[test]
fn a_client_that_does_not_read_is_told_all_when_it_does() {
    block_on(async {
        let mut pair = Pair::start().await;
        let (ours, theirs) = (pair.ours.port(), pair.theirs.port());
        let narrow = (Client::connect_narrowly(ours).await, Client::connect_narrowly(theirs).await);
        let (ours, theirs) = (narrow.0.expect("it answers"), narrow.1.expect("it answers"));
        pair.watch_over(&ours, &theirs);
        let ops = [watcher(EVERYTHING, 0), watcher(("k/1", ""), 0), watcher(("k/", "k0"), 100)];
        compare_on(&mut pair, ops.map(|it| create(0, it))).await;
        for round in 0..3 {
            let value = Bytes::from(vec![b'a' + round; 8000]);
            pair.fill((0..400).map(|n| Op::Put(put(format!("k/{}", n % 7), value.clone())))).await;
            compare_on(&mut pair, [create(0, watcher(EVERYTHING, 50)), progress(0)]).await;
        }
    });
}

#[test]
fn thousands_of_watchers_are_told_alike() {
    block_on(async {
        let mut pair = Pair::start().await;
        let key = |n: usize| format!("k/{}", n % 250);
        pair.fill((0..150).map(|n| Op::Put(put(key(n), "before")))).await;
        for n in 0..2000 {
            let base = WatchCreateRequest { key: key(n).into(), ..WatchCreateRequest::default() };
            let start_revision = if n % 3 == 0 { 2 } else { 0 };
            let op = create(n % 50, WatchCreateRequest { start_revision, ..base });
            pair.compare(&op).await.unwrap_or_else(|difference| panic!("{op:?}: {difference}"));
        }
        pair.fill((0..300).map(|n| Op::Put(put(key(n), "after")))).await;
        let last = [Op::Delete(delete(EVERYTHING)), progress(0), progress(49)];
        compare_on(&mut pair, last).await;
    });
}

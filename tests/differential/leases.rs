//! Leases in cases that are known to be hard: what may be granted, whose keys are whose, how they
//! end, and that those end which nobody keeps alive.

use crate::compare::{level, same};
use crate::generate::Op;
use crate::pair::Pair;
use crate::support::call::{Client, Status};
use crate::support::{block_on, say, setting};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::watch_request::RequestUnion;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use ringd::api::proto::mvccpb::event::EventType;
use std::collections::BTreeMap;
use std::time::Duration;

/// The code of what is not found.
const NOT_FOUND: i32 = 5;
/// Seconds that no test takes.
const LONG: i64 = 100_000;

fn grant(id: i64, ttl: i64) -> Op {
    Op::Grant(LeaseGrantRequest { ttl, id })
}

fn revoke(id: i64) -> Op {
    Op::Revoke(LeaseRevokeRequest { id })
}

fn put_request(key: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), lease, prev_kv: true, ..PutRequest::default() }
}

fn put(key: &'static str, lease: i64) -> Op {
    Op::Put(put_request(key, lease))
}

fn keeping(key: &'static str, ignore_value: bool, ignore_lease: bool, lease: i64) -> PutRequest {
    let value = if ignore_value { Bytes::new() } else { Bytes::from_static(b"w") };
    PutRequest { ignore_value, ignore_lease, value, ..put_request(key, lease) }
}

fn delete(key: &'static str, end: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: true }
}

fn txn(compare: Vec<Compare>, success: Vec<Request>) -> Op {
    let success = success.into_iter().map(|request| RequestOp { request: Some(request) });
    let failure = vec![RequestOp { request: Some(Request::RequestPut(put_request("no", 0))) }];
    Op::Txn(TxnRequest { compare, success: success.collect(), failure })
}

fn compare(key: &'static str, end: &'static str, result: CompareResult, lease: i64) -> Compare {
    Compare {
        result: result.into(),
        target: CompareTarget::Lease.into(),
        key: key.into(),
        range_end: end.into(),
        target_union: Some(TargetUnion::Lease(lease)),
    }
}

fn everything() -> RangeRequest {
    let zero = Bytes::from_static(b"\0");
    RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() }
}

/// Asks all of `ops` in turn and, after each, for all pairs, all leases with their keys, and what a
/// watcher of everything was told.
fn compare_ops(ids: &[i64], ops: impl IntoIterator<Item = Op>) {
    block_on(async {
        let mut pair = Pair::start().await;
        let base = everything();
        let create = WatchCreateRequest {
            key: base.key,
            range_end: base.range_end,
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        let union = Some(RequestUnion::CreateRequest(create));
        pair.fill([Op::Watch(0, WatchRequest { request_union: union })]).await;
        let mut wrong = Vec::new();
        for op in ops {
            let looks = [
                Op::Range(everything()),
                Op::HashKv(HashKvRequest { revision: 0 }),
                Op::Leases,
                Op::Settle,
            ];
            let keys = ids.iter().map(|&id| LeaseTimeToLiveRequest { id, keys: true });
            let after = looks.into_iter().chain(keys.map(Op::TimeToLive));
            for (number, asked) in [op.clone()].into_iter().chain(after).enumerate() {
                let outcome = pair.compare(&asked).await;
                if setting("SHOW").is_some() && number == 0 {
                    say(format_args!("{op:?}\n  {outcome:?}"));
                }
                if let Err(difference) = outcome {
                    wrong.push(format!("{asked:?}, at {op:?}:\n{difference}"));
                }
            }
        }
        let shown = wrong[..wrong.len().min(8)].join("\n");
        assert!(wrong.is_empty(), "{} answers differ:\n{shown}", wrong.len());
    });
}

#[test]
fn leases_are_granted_or_refused_alike() {
    let brief = |id, ttl| Op::Brief(LeaseGrantRequest { ttl, id });
    let mut ops = Vec::new();
    for ttl in [0, 1, 2, 3, 59, -1, i64::MIN, 9_000_000_000, 9_000_000_001, i64::MAX] {
        ops.extend([brief(0, ttl), brief(5, ttl), brief(-5, ttl)]);
    }
    ops.extend([1, -1, i64::MIN, i64::MAX].map(|id| grant(id, LONG)));
    // What is wrong in two ways.
    ops.extend([grant(1, LONG), grant(1, 1), grant(1, i64::MAX), grant(1, 9_000_000_001)]);
    ops.extend([grant(9, 9_000_000_001), grant(9, i64::MAX), grant(8, 9_000_000_000)]);
    ops.extend([1, 1, 9, 0, -1, i64::MIN, i64::MAX].map(revoke));
    ops.extend([Op::KeepAlive(vec![1, 8, 0, 8, -1]), grant(1, 2 * LONG), Op::KeepAlive(vec![1])]);
    compare_ops(&[0, 1, -1, 8, 9, i64::MIN, i64::MAX], ops);
}

#[test]
fn keys_come_to_a_lease_and_leave_it_alike() {
    let mut ops = vec![grant(1, LONG), grant(2, LONG)];
    ops.extend([put("a", 1), put("b", 1), put("c", 2), put("d", 0), put("e", 3), put("e", -1)]);
    // Again, to another, to none.
    ops.extend([put("a", 1), put("b", 2), put("c", 0)]);
    for (key, lease) in [("a", 0), ("a", 2), ("b", 0), ("b", 1), ("b", 3), ("d", 0), ("no", 1)] {
        for (ignore_value, ignore_lease) in [(true, false), (false, true), (true, true)] {
            ops.push(Op::Put(keeping(key, ignore_value, ignore_lease, lease)));
        }
    }
    ops.extend([put("a", 1), put("b", 1), put("d", 1), Op::Delete(delete("a", ""))]);
    ops.extend([put("a", 0), put("a", 1), Op::Delete(delete("a", "c")), put("b", 2)]);
    ops.extend([revoke(1), revoke(1), put("d", 1), put("b", 1), revoke(2)]);
    ops.extend([grant(1, LONG), put("d", 1), grant(2, LONG), put("d", 2), revoke(1), revoke(2)]);
    compare_ops(&[1, 2, 3], ops);
}

#[test]
fn transactions_move_keys_between_leases_alike() {
    let puts =
        |lease| ["b", "a", "c"].map(|key| Request::RequestPut(put_request(key, lease))).to_vec();
    let gone = || Request::RequestDeleteRange(delete("a", "c"));
    let mut ops = vec![grant(1, LONG), grant(2, LONG), put("z", 2)];
    ops.extend([txn(vec![], puts(1)), txn(vec![], puts(2)), txn(vec![], puts(3))]);
    let mixed = vec![
        Request::RequestPut(put_request("a", 1)),
        Request::RequestPut(put_request("n", 3)),
        Request::RequestPut(put_request("b", 2)),
    ];
    ops.extend([txn(vec![], mixed), txn(vec![], vec![gone()])]);
    ops.extend([txn(vec![], puts(1)), txn(vec![], vec![gone(), puts(2)[2].clone()])]);
    let kept = ["a", "z", "no"].map(|key| Request::RequestPut(keeping(key, true, true, 0)));
    ops.extend(kept.map(|request| txn(vec![], vec![request])));
    ops.push(txn(vec![], puts(1)));
    for result in
        [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Less, CompareResult::Greater]
    {
        for (key, end) in [("a", ""), ("no", ""), ("a", "d"), ("a", "\0"), ("no", "nz")] {
            for lease in [0, 1, 2, -1] {
                ops.push(txn(vec![compare(key, end, result, lease)], puts(1)));
            }
        }
    }
    ops.extend([revoke(1), revoke(2)]);
    compare_ops(&[1, 2, 3], ops);
}

#[test]
fn a_revoked_lease_takes_its_keys_in_order_alike() {
    let keys = ["b", "a\0", "a", "\0", "zz", "aa", "\u{7f}", "c"];
    let mut ops = vec![grant(1, LONG), grant(2, LONG)];
    for lease in [1, 2, 1] {
        ops.extend(keys.map(|key| put(key, lease)));
    }
    ops.extend([put("c", 2), Op::Delete(delete("aa", "")), put("zz", 0), revoke(1)]);
    ops.push(Op::Compact(CompactionRequest { revision: 20, physical: true }));
    ops.extend([revoke(2), grant(1, LONG), put("b", 1), revoke(1), grant(1, LONG), revoke(1)]);
    compare_ops(&[1, 2], ops);
}

#[test]
fn leases_outlive_a_restart() {
    let mut ops = vec![grant(1, LONG), grant(2, LONG), grant(-3, 2 * LONG), revoke(2)];
    ops.extend([put("a", 1), put("b", 1), put("c", -3), put("b", -3), put("d", 1)]);
    ops.extend([Op::Delete(delete("d", "")), Op::Restart]);
    ops.extend([grant(1, LONG), grant(2, LONG), Op::KeepAlive(vec![1, 2, -3, 4]), revoke(1)]);
    ops.extend([Op::Restart, put("e", 2), Op::Restart, revoke(-3), revoke(1), revoke(2)]);
    compare_ops(&[1, 2, -3], ops);
}

#[test]
fn a_lease_of_very_many_keys_is_revoked_alike() {
    block_on(async {
        let mut pair = Pair::start().await;
        let keys = (0..3000).map(|n: usize| {
            let key = format!("k/{}", n * 7919 % 3000);
            Op::Put(PutRequest { key: key.into(), lease: 1, ..PutRequest::default() })
        });
        let zero = Bytes::from_static(b"\0");
        let (key, range_end) = (zero.clone(), zero);
        let create =
            WatchCreateRequest { key, range_end, prev_kv: true, ..WatchCreateRequest::default() };
        let union = Some(RequestUnion::CreateRequest(create));
        pair.fill([grant(1, LONG)].into_iter().chain(keys)).await;
        pair.fill([Op::Watch(0, WatchRequest { request_union: union })]).await;
        let keys = LeaseTimeToLiveRequest { id: 1, keys: true };
        pair.fill([Op::TimeToLive(keys), revoke(1), Op::Settle, Op::Range(everything())]).await;
    });
}

/// Keys by the lease that they are to end with, and one that is to stay.
const LEASES: [(i64, &[&str]); 4] =
    [(1, &["a", "d", "g"]), (2, &["f", "b"]), (3, &["c"]), (4, &[])];
/// Seconds that leases live which are to end, at first; more, if the machine has stood still for so
/// long.
const BRIEF_TTLS: [i64; 4] = [3, 9, 27, 81];
/// A lease that is kept alive.
const KEPT: i64 = 5;

/// What came of leases that nobody kept alive: each one's keys in the order in which a revision
/// took them, then what is left: pairs, leases, and what is told of those that ended.
#[derive(Debug, PartialEq)]
struct Ended {
    taken: BTreeMap<i64, Vec<(i64, Bytes)>>,
    left: Vec<Bytes>,
    leases: Vec<i64>,
    told: Vec<LeaseTimeToLiveResponse>,
    revision: i64,
}

/// Lets leases of so many seconds end. None if one was late itself, and all must be done again.
async fn ended(client: &Client, ttl: i64) -> Result<Option<Ended>, String> {
    let failed = |status| format!("{status:?}");
    let (put_path, grant_path) = ("/etcdserverpb.KV/Put", "/etcdserverpb.Lease/LeaseGrant");
    let mut stream = client.open("/etcdserverpb.Watch/Watch").await?;
    let all = everything();
    let base = WatchCreateRequest { key: all.key, range_end: all.range_end, ..Default::default() };
    stream.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(base)) })?;
    let mut owners = BTreeMap::new();
    for (id, keys) in LEASES.into_iter().chain([(KEPT, ["kept"].as_slice())]) {
        let grant = LeaseGrantRequest { ttl, id };
        let _: LeaseGrantResponse = client.unary(grant_path, &grant).await.map_err(failed)?;
        for key in keys {
            let put: Result<PutResponse, Status> =
                client.unary(put_path, &put_request(key, id)).await;
            match put {
                Ok(_) => drop(owners.insert(Bytes::from_static(key.as_bytes()), id)),
                Err(status) if status.code == NOT_FOUND => return Ok(None),
                Err(status) => return Err(failed(status)),
            }
        }
    }
    let mut keeper = client.open("/etcdserverpb.Lease/LeaseKeepAlive").await?;
    let mut taken = BTreeMap::<i64, Vec<_>>::new();
    while taken.values().map(Vec::len).sum::<usize>() < owners.len() - 1 {
        keeper.send(&LeaseKeepAliveRequest { id: KEPT })?;
        let answer = keeper.next::<LeaseKeepAliveResponse>().await;
        if answer.map_err(|end| format!("{end:?}"))?.ttl == 0 {
            return Ok(None);
        }
        // Without a wait, this would keep the servers from all else.
        let response = stream.next_within::<WatchResponse>(Duration::from_millis(20)).await;
        let events = response.map_err(|end| format!("{end:?}"))?.map_or(vec![], |it| it.events);
        for event in events.into_iter().filter(|it| it.r#type == EventType::Delete as i32) {
            let kv = event.kv.unwrap_or_default();
            taken.entry(owners[&kv.key]).or_default().push((kv.mod_revision, kv.key));
        }
    }
    finished(client, taken).await
}

/// What is left when keys were taken. None if what was kept alive is not there any more.
async fn finished(
    client: &Client,
    mut taken: BTreeMap<i64, Vec<(i64, Bytes)>>,
) -> Result<Option<Ended>, String> {
    let failed = |status| format!("{status:?}");
    // Which lease comes first is up to each server; each one's keys go at once.
    for keys in taken.values_mut() {
        let first = keys[0].0;
        keys.iter_mut().for_each(|(revision, _)| *revision -= first);
    }
    let (mut told, mut leases) = (Vec::new(), vec![0; LEASES.len() + 1]);
    // The lease without keys makes no event.
    while leases.len() > 1 {
        let path = "/etcdserverpb.Lease/LeaseLeases";
        let answer: LeaseLeasesResponse =
            client.unary(path, &LeaseLeasesRequest {}).await.map_err(failed)?;
        leases = answer.leases.into_iter().map(|lease| lease.id).collect();
    }
    for (id, _) in LEASES {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let mut answer: LeaseTimeToLiveResponse =
            client.unary(path, &request).await.map_err(failed)?;
        level(&mut answer)?;
        told.push(answer);
    }
    let path = "/etcdserverpb.KV/Range";
    let pairs: RangeResponse = client.unary(path, &everything()).await.map_err(failed)?;
    let left: Vec<_> = pairs.kvs.into_iter().map(|kv| kv.key).collect();
    let revision = pairs.header.unwrap_or_default().revision;
    let is_kept = left.iter().any(|key| *key == "kept");
    Ok(is_kept.then_some(Ended { taken, left, leases, told, revision }))
}

#[test]
fn leases_that_nobody_keeps_alive_end_alike() {
    for ttl in BRIEF_TTLS {
        let outcome = block_on(async {
            let pair = Pair::start().await;
            let (ours, theirs) =
                tokio::join!(ended(&pair.to_ours, ttl), ended(&pair.to_theirs, ttl));
            (ours.expect("ours answers"), theirs.expect("theirs answers"))
        });
        if let (Some(ours), Some(theirs)) = outcome {
            same("ends", &ours, &theirs).unwrap_or_else(|difference| panic!("{difference}"));
            assert_eq!((ours.left, ours.leases), (vec![Bytes::from("kept")], vec![KEPT]));
            return;
        }
    }
    panic!("a lease ends though it is kept alive");
}

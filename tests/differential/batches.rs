//! Requests that are under way at the same time.
//!
//! Which of them comes first is each server's own affair, so revisions may differ between the two;
//! all else may not, and each server's revisions must fit together.

use crate::pair::Pair;
use crate::support::block_on;
use crate::support::call::{Client, Status};
use crate::support::dice::Dice;
use crate::support::number;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::response_op::Response;
use ringd::api::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse,
};
use ringd::api::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// Keys in all; every batch asks each of them at most one thing.
const KEYS: usize = 150;
/// Batches of one run.
const BATCHES: usize = 40;

/// What is asked of one key.
#[derive(Clone, Debug)]
enum Ask {
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Get(RangeRequest),
    /// Whatever comes of it, the key is changed once or not at all, and read.
    Txn(TxnRequest),
}

/// What came back: the header's revision, the pairs, the count.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    revision: i64,
    wrote: bool,
    kvs: Vec<KeyValue>,
    count: i64,
}

#[test]
fn requests_at_the_same_time_are_served_alike() {
    let seed = number("SEED", 1);
    let mut dice = Dice::new(seed);
    block_on(async {
        let pair = Pair::start().await;
        let mut ours = One::new(&pair.to_ours, pair.ours.port()).await;
        let mut theirs = One::new(&pair.to_theirs, pair.theirs.port()).await;
        for batch in 0..BATCHES {
            let asks = batch_of(&mut dice);
            let (a, b) = tokio::join!(ours.ask(&asks), theirs.ask(&asks));
            for ((ask, a), b) in asks.iter().zip(a).zip(b) {
                assert_eq!(a, b, "SEED={seed}, batch {batch}: {ask:?}");
            }
            let (a, b) = tokio::join!(ours.all(), theirs.all());
            assert_eq!(a, b, "SEED={seed}, after batch {batch}");
        }
    });
}

fn batch_of(dice: &mut Dice) -> Vec<Ask> {
    let mut keys: Vec<usize> = (0..KEYS).collect();
    let size = 1 + dice.index(KEYS);
    let asks = (0..size).map(|_| {
        let key = keys.swap_remove(dice.index(keys.len()));
        let key: Bytes = format!("key/{key}").into();
        match dice.below(10) {
            0..6 => {
                let len = dice.index(200);
                let value = dice.bytes(len, b"abc").into();
                Ask::Put(PutRequest {
                    key,
                    value,
                    prev_kv: dice.chance(50),
                    ..PutRequest::default()
                })
            }
            6..8 => Ask::Delete(DeleteRangeRequest {
                key,
                prev_kv: dice.chance(50),
                ..DeleteRangeRequest::default()
            }),
            8 => Ask::Get(RangeRequest {
                key,
                serializable: dice.chance(30),
                ..RangeRequest::default()
            }),
            _ => Ask::Txn(txn_of(dice, key)),
        }
    });
    asks.collect()
}

/// A transaction on one key that depends on what the key holds.
fn txn_of(dice: &mut Dice, key: Bytes) -> TxnRequest {
    let target_union = match dice.below(3) {
        0 => TargetUnion::Version(dice.pick(&[0, 1, 2, 3])),
        1 => TargetUnion::CreateRevision(0),
        _ => TargetUnion::Value(Bytes::from_static(b"b")),
    };
    let target = match target_union {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) | TargetUnion::Value(_) | TargetUnion::Lease(_) => {
            CompareTarget::Value
        }
    };
    let result = dice.pick(&[CompareResult::Equal, CompareResult::Less, CompareResult::Greater]);
    let op = |request| RequestOp { request: Some(request) };
    let get = op(Request::RequestRange(RangeRequest { key: key.clone(), ..Default::default() }));
    let len = dice.index(20);
    let value = dice.bytes(len, b"abc").into();
    let put = PutRequest { key: key.clone(), value, prev_kv: true, ..PutRequest::default() };
    let delete = DeleteRangeRequest { key: key.clone(), prev_kv: true, ..Default::default() };
    let change = match dice.below(3) {
        0 => op(Request::RequestDeleteRange(delete)),
        _ => op(Request::RequestPut(put)),
    };
    TxnRequest {
        compare: vec![Compare {
            result: result.into(),
            target: target.into(),
            key,
            target_union: Some(target_union),
            ..Compare::default()
        }],
        success: vec![get.clone(), change.clone(), get.clone()],
        failure: if dice.chance(20) { vec![change, get] } else { vec![get] },
    }
}

/// One of the two servers, with what it is known to hold.
struct One {
    connections: Vec<Client>,
    revision: i64,
    /// The revision that each key was last given, 0 when deleted.
    given: BTreeMap<Bytes, i64>,
}

impl One {
    async fn new(first: &Client, port: u16) -> Self {
        let second = Client::connect(port).await.expect("it answers");
        Self { connections: vec![first.clone(), second], revision: 1, given: BTreeMap::new() }
    }

    /// Sends all at once; gives the answers without revisions, after seeing that these fit.
    async fn ask(&mut self, asks: &[Ask]) -> Vec<Result<Told, Status>> {
        let mut running = JoinSet::new();
        for (number, ask) in asks.iter().cloned().enumerate() {
            let client = self.connections[number % self.connections.len()].clone();
            running.spawn(async move { (number, send(&client, ask).await) });
        }
        let mut told = running.join_all().await;
        told.sort_by_key(|(number, _)| *number);
        let mut written = Vec::new();
        let mut bare = Vec::new();
        for (number, answer) in told {
            if let Ok(told) = &answer
                && told.wrote
            {
                written.push(told.revision);
                self.remember(&asks[number], told);
            }
            bare.push(answer.map(|told| Told { revision: 0, kvs: without(told.kvs), ..told }));
        }
        written.sort_unstable();
        let end = self.revision + i64::try_from(written.len()).expect("a small batch");
        let expected: Vec<i64> = (self.revision + 1..=end).collect();
        assert_eq!(written, expected, "each write has the next revision, none is left out");
        self.revision = end;
        bare
    }

    fn remember(&mut self, ask: &Ask, told: &Told) {
        let revision = told.revision;
        match ask {
            Ask::Put(put) => drop(self.given.insert(put.key.clone(), revision)),
            Ask::Delete(delete) => drop(self.given.insert(delete.key.clone(), 0)),
            Ask::Get(_) => unreachable!("a read does not write"),
            Ask::Txn(txn) => {
                let given = if told.kvs.is_empty() { 0 } else { told.revision };
                self.given.insert(txn.compare[0].key.clone(), given);
            }
        }
    }

    /// All pairs without their revisions, after seeing that these are the ones that were given.
    async fn all(&self) -> Vec<KeyValue> {
        let zero = Bytes::from_static(b"\0");
        let request =
            RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() };
        let answer: RangeResponse =
            self.connections[0].unary("/etcdserverpb.KV/Range", &request).await.expect("a read");
        assert_eq!(answer.header.expect("a header").revision, self.revision);
        let found: BTreeMap<Bytes, i64> =
            answer.kvs.iter().map(|kv| (kv.key.clone(), kv.mod_revision)).collect();
        let live = self.given.iter().filter(|(_, revision)| **revision != 0);
        assert_eq!(found, live.map(|(key, revision)| (key.clone(), *revision)).collect());
        for kv in &answer.kvs {
            assert!(kv.create_revision <= kv.mod_revision, "{kv:?}");
            assert_eq!(kv.version == 1, kv.create_revision == kv.mod_revision, "{kv:?}");
        }
        without(answer.kvs)
    }
}

async fn send(client: &Client, ask: Ask) -> Result<Told, Status> {
    let revision = |header: Option<ringd::api::proto::etcdserverpb::ResponseHeader>| {
        header.expect("every answer has a header").revision
    };
    match ask {
        Ask::Put(put) => {
            let answer: PutResponse = client.unary("/etcdserverpb.KV/Put", &put).await?;
            let kvs = answer.prev_kv.into_iter().collect();
            Ok(Told { revision: revision(answer.header), wrote: true, kvs, count: 0 })
        }
        Ask::Delete(delete) => {
            let path = "/etcdserverpb.KV/DeleteRange";
            let answer: DeleteRangeResponse = client.unary(path, &delete).await?;
            let (wrote, count) = (answer.deleted > 0, answer.deleted);
            Ok(Told { revision: revision(answer.header), wrote, kvs: answer.prev_kvs, count })
        }
        Ask::Get(get) => {
            let answer: RangeResponse = client.unary("/etcdserverpb.KV/Range", &get).await?;
            let (revision, count) = (revision(answer.header), answer.count);
            Ok(Told { revision, wrote: false, kvs: answer.kvs, count })
        }
        Ask::Txn(txn) => {
            let answer: TxnResponse = client.unary("/etcdserverpb.KV/Txn", &txn).await?;
            let revision = revision(answer.header);
            let (mut wrote, mut kvs) = (false, Vec::new());
            for part in answer.responses {
                match part.response.expect("what a part answers") {
                    Response::ResponsePut(_) => wrote = true,
                    Response::ResponseDeleteRange(deleted) => wrote = deleted.deleted > 0,
                    Response::ResponseRange(range) => kvs = range.kvs,
                    Response::ResponseTxn(_) => unreachable!("none was asked"),
                }
            }
            Ok(Told { revision, wrote, kvs, count: i64::from(answer.succeeded) })
        }
    }
}

fn without(mut kvs: Vec<KeyValue>) -> Vec<KeyValue> {
    for kv in &mut kvs {
        (kv.create_revision, kv.mod_revision) = (0, 0);
    }
    kvs
}

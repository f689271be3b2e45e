//! Many that write and many that watch, all at once. What comes first is each server's own affair,
//! so each is held against what it told itself, etcd too: that all was told, once and in order, and
//! that nobody was said to know what was still under way.

use crate::pair::Pair;
use crate::streams::{Alone, Change, Everything};
use crate::support::call::{Client, Status};
use crate::support::dice::Dice;
use crate::support::server::Server;
use crate::support::{block_on, number};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::response_op::Response;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
    TxnResponse, WatchCreateRequest,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::task::JoinSet;

const WRITERS: u64 = 4;
const WATCHERS: u64 = 6;
/// Changes by each writer.
const CHANGES: usize = 250;
/// Things that each watching stream does meanwhile.
const STEPS: usize = 120;
const KEYS: usize = 12;

/// The least revision that the store is known to have reached.
type Latest = Arc<AtomicI64>;

#[test]
fn what_many_write_at_once_is_told_to_all_who_watch() {
    run(false);
}

#[test]
fn who_watches_while_history_is_compacted_is_told_all_or_why_not() {
    run(true);
}

fn run(compacts: bool) {
    let seed = number("SEED", 1);
    block_on(async {
        let pair = Pair::start().await;
        for (name, server) in [("ours", &pair.ours), ("theirs", &pair.theirs)] {
            let outcome = crowd(server, seed, compacts).await;
            outcome.unwrap_or_else(|why| panic!("SEED={seed}: {name}: {why}"));
        }
    });
}

async fn crowd(server: &Server, seed: u64, compacts: bool) -> Result<(), String> {
    let latest = Latest::new(AtomicI64::new(1));
    let (mut writing, mut watching) = (JoinSet::new(), JoinSet::new());
    for n in 0..WRITERS {
        let client = Client::connect(server.port()).await?;
        let compacts = compacts && n == 0;
        writing.spawn(write(client, Dice::new(seed * 1000 + n), latest.clone(), compacts));
    }
    for n in 0..WATCHERS {
        let client = Client::connect(server.port()).await?;
        watching.spawn(watch(client, Dice::new(seed * 2000 + n), latest.clone()));
    }
    let mut changes = BTreeMap::new();
    for written in writing.join_all().await {
        changes.append(&mut written.map_err(|status| format!("{status:?}"))?);
    }
    let all = Everything::new(changes);
    for stream in watching.join_all().await {
        stream?.judge(&all).await?;
    }
    Ok(())
}

fn watcher(key: &'static str, end: &'static str, start_revision: i64) -> WatchCreateRequest {
    let (key, range_end) = (key.into(), end.into());
    WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() }
}

/// Changes keys, one or a few at a time; what came of it, by revision.
async fn write(
    client: Client,
    mut dice: Dice,
    latest: Latest,
    compacts: bool,
) -> Result<BTreeMap<i64, Vec<Change>>, Status> {
    let mut written = BTreeMap::new();
    for _ in 0..CHANGES {
        let changes: Vec<Change> = (0..KEYS)
            .filter_map(|n| {
                let value = Bytes::from(dice.bytes(8, b"abc"));
                let value = [Some(value.clone()), Some(value), None][dice.index(3)].clone();
                dice.chance(15).then_some((format!("k{n:02}").into(), value))
            })
            .collect();
        let success = changes.iter().map(asked).collect();
        let txn = TxnRequest { success, ..TxnRequest::default() };
        let answer: TxnResponse = client.unary("/etcdserverpb.KV/Txn", &txn).await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        latest.fetch_max(revision, Ordering::Relaxed);
        let done = changes.into_iter().zip(&answer.responses).filter(|(_, done)| {
            !matches!(&done.response, Some(Response::ResponseDeleteRange(it)) if it.deleted == 0)
        });
        let done: Vec<_> = done.map(|(change, _)| change).collect();
        if !done.is_empty() {
            written.insert(revision, done);
        }
        if compacts && dice.chance(4) {
            let compact = CompactionRequest { revision: revision - 20, physical: false };
            let path = "/etcdserverpb.KV/Compact";
            let _: Result<CompactionResponse, Status> = client.unary(path, &compact).await;
        }
    }
    Ok(written)
}

fn asked((key, value): &Change) -> RequestOp {
    let key = key.clone();
    let request = match value.clone() {
        Some(value) => Request::RequestPut(PutRequest { key, value, ..PutRequest::default() }),
        None => Request::RequestDeleteRange(DeleteRangeRequest { key, ..Default::default() }),
    };
    RequestOp { request: Some(request) }
}

/// Watches this and that, from before or from soon on, and asks again and again how far all are.
async fn watch(client: Client, mut dice: Dice, latest: Latest) -> Result<Alone, String> {
    let mut stream = Alone::open(&client).await?;
    let mut ids = Vec::new();
    for _ in 0..STEPS {
        match dice.below(10) {
            0..2 if ids.len() < 20 => {
                let now = latest.load(Ordering::Relaxed);
                let beside = i64::try_from(dice.below(60)).expect("a small number") - 45;
                let (key, end) = dice.pick(&[
                    ("\0", "\0"),
                    ("k00", ""),
                    ("k03", "k07"),
                    ("k", "l"),
                    ("k09", "\0"),
                    ("nothing", ""),
                ]);
                let create = WatchCreateRequest {
                    prev_kv: dice.chance(40),
                    filters: dice.pick(&[vec![], vec![], vec![0], vec![1]]),
                    fragment: dice.chance(20),
                    ..watcher(key, end, (now + beside).max(1))
                };
                ids.push(stream.create(&create).await?);
            }
            2 if !ids.is_empty() => {
                let id = ids.swap_remove(dice.index(ids.len()));
                stream.cancel(id).await?;
            }
            _ => {
                stream.ask_progress()?;
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(stream)
}

//! Lists that are larger than what a server would want to hold at a time.

use crate::compare::streamed;
use crate::generate::Op;
use crate::pair::Pair;
use crate::support::block_on;
use crate::support::call::{Client, framed};
use crate::support::dice::Dice;
use crate::support::peers;
use crate::support::server::Server;
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::etcdserverpb::request_op::Request;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, HashKvRequest, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, TxnResponse,
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";

/// Keys that are listed: some megabytes with their values.
const KEYS: usize = 4000;
/// Puts of one transaction that fills the store.
const FILLED_AT_ONCE: usize = 100;

/// Transactions that put all keys, with values of many sizes.
fn fill(dice: &mut Dice) -> Vec<TxnRequest> {
    let mut puts = Vec::new();
    for n in 0..KEYS {
        let len = dice.pick(&[0, 1, 20, 100, 500, 1000, 3000, 9000]);
        let value = dice.bytes(len, b"value").into();
        puts.push(PutRequest { key: key(n), value, ..PutRequest::default() });
    }
    let op = |put: &PutRequest| RequestOp { request: Some(Request::RequestPut(put.clone())) };
    let txn = |puts: &[PutRequest]| TxnRequest {
        success: puts.iter().map(op).collect(),
        ..TxnRequest::default()
    };
    puts.chunks(FILLED_AT_ONCE).map(txn).collect()
}

fn key(n: usize) -> Bytes {
    format!("/list/{n:05}").into()
}

fn everything() -> RangeRequest {
    let zero = Bytes::from_static(b"\0");
    RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() }
}

#[test]
fn long_lists_are_served_alike() {
    block_on(async {
        let mut dice = Dice::new(1);
        let mut pair = Pair::start().await;
        for txn in fill(&mut dice) {
            pair.compare(&Op::Txn(txn)).await.unwrap_or_else(|why| panic!("{why}"));
        }
        for _ in 0..2 {
            for op in list_ops() {
                let outcome = pair.compare(&op).await;
                outcome.unwrap_or_else(|why| panic!("{op:?}: {why}"));
            }
            pages(&mut pair).await;
            pair.compare(&Op::Restart).await.unwrap_or_else(|why| panic!("{why}"));
            // From now on ours has to wait for its client.
            let (ours, theirs) = (pair.ours.port(), pair.theirs.port());
            pair.to_ours = Client::connect_narrowly(ours).await.expect("ours answers");
            pair.to_theirs = Client::connect_narrowly(theirs).await.expect("theirs answers");
        }
    });
}

fn list_ops() -> Vec<Op> {
    let all = everything();
    let mut ranges = vec![
        all.clone(),
        RangeRequest { serializable: true, ..all.clone() },
        RangeRequest { keys_only: true, ..all.clone() },
        RangeRequest { count_only: true, ..all.clone() },
        RangeRequest { limit: 1500, ..all.clone() },
        RangeRequest { limit: i64::try_from(KEYS).expect("small") - 1, ..all.clone() },
        RangeRequest { limit: i64::try_from(KEYS).expect("small"), ..all.clone() },
        RangeRequest { revision: 10, ..all.clone() },
        RangeRequest { revision: 1000, ..all.clone() },
        RangeRequest { key: key(2000), range_end: key(3000), ..all.clone() },
        RangeRequest { key: key(3000), range_end: key(2000), ..all.clone() },
    ];
    let mut ops: Vec<_> = ranges.iter().cloned().map(Op::Stream).collect();
    for sort_target in 0..5 {
        ranges.push(RangeRequest { sort_order: 2, sort_target, ..all.clone() });
        ranges.push(RangeRequest { sort_order: 1, sort_target, limit: 700, ..all.clone() });
    }
    // Without an order the limit cuts before anything is sorted, but where something is dropped.
    for sort_target in 0..5 {
        let sorted = RangeRequest { sort_target, ..all.clone() };
        ranges.push(RangeRequest { limit: 2500, ..sorted.clone() });
        ranges.push(RangeRequest { limit: 900, min_mod_revision: 7, ..sorted.clone() });
        ranges.push(RangeRequest { keys_only: true, sort_order: 1, ..sorted.clone() });
        ranges.push(RangeRequest { count_only: true, sort_order: 2, limit: 3, ..sorted.clone() });
        ranges.push(RangeRequest { revision: 30, sort_order: 2, limit: 1100, ..sorted });
    }
    ranges.push(RangeRequest { min_mod_revision: 20, ..all.clone() });
    ranges.push(RangeRequest { min_mod_revision: 20, max_mod_revision: 19, ..all.clone() });
    ranges.push(RangeRequest { min_create_revision: 12, sort_order: 2, ..all.clone() });
    ranges.push(RangeRequest { max_mod_revision: 30, keys_only: true, limit: 2000, ..all.clone() });
    ranges.push(RangeRequest { max_create_revision: 9, limit: 300, ..all });
    ops.extend(ranges.into_iter().map(Op::Range));
    ops.push(Op::HashKv(HashKvRequest { revision: 0 }));
    ops.push(Op::HashKv(HashKvRequest { revision: 12 }));
    ops
}

/// Reads all in pages as clients do, at the revision of the first, while more is written.
async fn pages(pair: &mut Pair) {
    let mut page = RangeRequest { limit: 500, ..everything() };
    let mut count = 0;
    loop {
        let (ours, theirs) = pair.call(RANGE, &page).await;
        let op = Op::Range(page.clone());
        crate::compare::answers(&op, &ours, &theirs).unwrap_or_else(|why| panic!("{why}"));
        let answer: RangeResponse = theirs.message().expect("a page");
        page.revision = answer.header.expect("a header").revision.min(41);
        count += answer.kvs.len();
        let last = answer.kvs.last().expect("a page is not empty").key.clone();
        let put = PutRequest { key: last.clone(), ..PutRequest::default() };
        pair.compare(&Op::Put(put)).await.unwrap_or_else(|why| panic!("{why}"));
        if !answer.more {
            break;
        }
        page.key = [last.as_ref(), b"\0"].concat().into();
    }
    assert_eq!(count, KEYS, "every key was on one page");
}

/// Fills a server of ours; gives its revision then.
async fn filled(client: &Client) -> i64 {
    let mut revision = 0;
    for txn in fill(&mut Dice::new(2)) {
        let answer: TxnResponse = client.unary("/etcdserverpb.KV/Txn", &txn).await.expect("a txn");
        revision = answer.header.expect("a header").revision;
    }
    revision
}

#[test]
fn a_list_is_of_one_revision_whatever_is_written_meanwhile() {
    block_on(async {
        let server = Server::start(&peers::under_test());
        let client = Client::connect(server.port()).await.expect("it answers");
        let full = filled(&client).await;
        let writer = Client::connect(server.port()).await.expect("it answers");
        let writes = async {
            for n in 0..300 {
                let (key, value) = (key(n * 13 % KEYS), vec![b'w'; n * 7].into());
                let put = PutRequest { key, value, ..PutRequest::default() };
                writer.unary::<PutResponse>("/etcdserverpb.KV/Put", &put).await.expect("a put");
                if n == 100 {
                    let compact = CompactionRequest { revision: full, physical: n % 2 == 1 };
                    let path = "/etcdserverpb.KV/Compact";
                    writer.unary::<CompactionResponse>(path, &compact).await.expect("a compaction");
                }
            }
        };
        let narrow = Client::connect_narrowly(server.port()).await.expect("it answers");
        let reads = async {
            let mut lists = Vec::new();
            for n in 0..12 {
                let client = if n % 4 < 2 { &client } else { &narrow };
                let path = if n % 2 == 0 { RANGE } else { STREAM };
                let answer = client.call(path, &everything()).await;
                lists.push(if n % 2 == 0 {
                    answer.message::<RangeResponse>().expect("a list")
                } else {
                    streamed(&answer).expect("chunks").expect("a list")
                });
            }
            lists
        };
        let ((), lists) = tokio::join!(writes, reads);
        for list in lists {
            let revision = list.header.as_ref().expect("a header").revision;
            assert!(revision >= full, "a list is of the time when it was asked for");
            assert_eq!(list.kvs.len(), KEYS);
            let then = RangeRequest { revision, ..everything() };
            let again: RangeResponse = client.unary(RANGE, &then).await.expect("a list");
            assert!(again.kvs == list.kvs, "all pairs are as of revision {revision}");
        }
    });
}

#[test]
fn lists_that_are_given_up_halfway_hurt_nobody() {
    block_on(async {
        let server = Server::start(&peers::under_test());
        let client = Client::connect(server.port()).await.expect("it answers");
        filled(&client).await;
        let body = framed(0, &everything().encode_to_vec());
        let whole: RangeResponse = client.unary(RANGE, &everything()).await.expect("a list");
        for n in 0..40 {
            let narrow = Client::connect_narrowly(server.port()).await.expect("it answers");
            let path = if n % 2 == 0 { RANGE } else { STREAM };
            let size = [1, 1000, 60_000, 65_535][n / 2 % 4];
            let opening = narrow.opening(narrow.head(path), body.clone(), size).await;
            assert!(opening.expect("the opening of a list").len() >= size);
        }
        let again: RangeResponse = client.unary(RANGE, &everything()).await.expect("a list");
        assert!(again == whole, "the list is what it was");
    });
}

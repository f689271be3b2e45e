//! Long answers: whole, of one revision, whatever windows their clients give, and wherever their
//! connections live; and nobody waits for those who read slowly.

use crate::support::block_on;
use crate::support::call::{Client, messages, rest_of};
use crate::support::peers::under_test;
use crate::support::server::Server;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb::KeyValue;
use tokio::task::JoinSet;

/// Keys that are listed.
const KEYS: usize = 4000;
/// Bytes of each value: all of them are some 6 MB, more than is made of an answer in one go.
const VALUE_SIZE: usize = 1500;
/// Puts in flight while they are written.
const IN_FLIGHT: usize = 64;
/// Connections to one shard that fill its core's lead over the other, so that the next go there.
const CONNECTIONS: usize = 600;

const RANGE: &str = "/etcdserverpb.KV/Range";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";

fn key(number: usize) -> Bytes {
    format!("list/{number:06}").into()
}

fn value(number: usize) -> Bytes {
    let mut value = format!("{number}/").into_bytes();
    value.resize(VALUE_SIZE + number % 7, b'v');
    value.into()
}

async fn put(client: &Client, key: Bytes, value: Bytes) -> i64 {
    let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
    let path = "/etcdserverpb.KV/Put";
    let answer: pb::PutResponse = client.unary(path, &put).await.expect("a put is answered");
    answer.header.expect("every answer has a header").revision
}

/// Writes all keys.
async fn fill(port: u16) {
    let mut lanes = JoinSet::new();
    let client = Client::connect(port).await.expect("it answers");
    for lane in 0..IN_FLIGHT {
        let client = client.clone();
        lanes.spawn(async move {
            for number in (lane..KEYS).step_by(IN_FLIGHT) {
                put(&client, key(number), value(number)).await;
            }
        });
    }
    lanes.join_all().await;
}

fn all() -> pb::RangeRequest {
    let (key, range_end) = ("list/".into(), "list0".into());
    pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() }
}

/// Every key once, in order, with the value it was given.
fn check(kvs: &[KeyValue]) {
    assert_eq!(kvs.len(), KEYS);
    for (number, kv) in kvs.iter().enumerate() {
        assert_eq!(kv.key, key(number));
        assert!(kv.value == value(number), "the value of key {number}");
        assert_eq!(kv.version, 1);
    }
}

/// A stream's messages as the one answer that they are in order.
fn joined(parts: Vec<pb::RangeStreamResponse>) -> pb::RangeResponse {
    let count = parts.len();
    let mut out = pb::RangeResponse::default();
    for (nth, part) in parts.into_iter().enumerate() {
        let part = part.range_response.expect("a part has rows or says the last");
        let is_last = nth + 1 == count;
        assert_eq!(part.header.is_some(), is_last, "only the last part says who answers");
        assert!(is_last || !(part.more || part.count > 0 || part.kvs.is_empty()));
        out.kvs.extend(part.kvs);
        (out.header, out.more, out.count) = (part.header, part.more, part.count);
    }
    out
}

/// The answer of a stream.
async fn streamed(client: &Client, request: &pb::RangeRequest) -> pb::RangeResponse {
    let mut body = client.begin(STREAM, request).await.expect("an answer");
    let (body, status) = rest_of(&mut body).await.expect("all of it");
    assert_eq!(status, "0");
    joined(messages(&body).expect("messages"))
}

#[test]
fn a_list_comes_whole_through_any_window_and_its_stream_is_the_same() {
    let server = Server::start(&under_test());
    block_on(async {
        fill(server.port()).await;
        for window in [1000, 65_535, 64 << 20] {
            let client = Client::connect_with(server.port(), window).await.expect("it answers");
            let whole: pb::RangeResponse = client.unary(RANGE, &all()).await.expect("a list");
            check(&whole.kvs);
            assert!(!whole.more && whole.count == i64::try_from(KEYS).expect("few"));
            let stream = streamed(&client, &all()).await;
            assert!(stream == whole, "a stream of the same");
            let variants = [
                pb::RangeRequest { limit: 3000, ..all() },
                pb::RangeRequest { sort_order: 2, limit: 2500, ..all() },
                pb::RangeRequest { keys_only: true, ..all() },
                pb::RangeRequest { sort_order: 2, sort_target: 4, ..all() },
            ];
            for request in variants {
                let part: pb::RangeResponse = client.unary(RANGE, &request).await.expect("a list");
                let (limit, is_down) = (request.limit, request.sort_order == 2);
                assert_eq!(part.more, limit > 0, "{request:?}");
                assert_eq!(part.count, whole.count);
                let rows = if limit > 0 { usize::try_from(limit).expect("few") } else { KEYS };
                assert_eq!(part.kvs.len(), rows);
                if request.sort_target == 0 {
                    let at = |nth| if is_down { KEYS - 1 - nth } else { nth };
                    let same = |nth: usize, kv: &KeyValue| {
                        let due = &whole.kvs[at(nth)];
                        let value = if request.keys_only { &[][..] } else { &due.value[..] };
                        (&kv.key, kv.mod_revision) == (&due.key, due.mod_revision)
                            && kv.value == value
                    };
                    assert!(part.kvs.iter().enumerate().all(|(nth, kv)| same(nth, kv)));
                } else {
                    assert!(part.kvs.is_sorted_by(|left, right| left.value >= right.value));
                }
                if !is_down {
                    assert!(streamed(&client, &request).await == part, "a stream of {request:?}");
                }
            }
        }
    });
}

#[test]
fn streams_of_nothing_of_one_key_and_of_a_count_are_one_message() {
    let server = Server::start(&under_test());
    block_on(async {
        let client = Client::connect(server.port()).await.expect("it answers");
        put(&client, key(1), value(1)).await;
        let (one, count) = (key(1), pb::RangeRequest { count_only: true, ..all() });
        let one = pb::RangeRequest { key: one, ..pb::RangeRequest::default() };
        let none = pb::RangeRequest { key: key(2), ..pb::RangeRequest::default() };
        for (request, rows, keys) in [(one, 1, 1), (count, 0, 1), (none, 0, 0)] {
            let mut body = client.begin(STREAM, &request).await.expect("an answer");
            let (body, status) = rest_of(&mut body).await.expect("all of it");
            assert_eq!(status, "0");
            let parts = messages::<pb::RangeStreamResponse>(&body).expect("messages");
            assert_eq!(parts.len(), 1, "{request:?}");
            let answer = joined(parts);
            assert_eq!((answer.kvs.len(), answer.count), (rows, keys), "{request:?}");
            assert_eq!(answer.header.map(|header| header.revision), Some(2));
        }
    });
}

/// What a list that has begun shows is not changed by what is written while it leaves.
#[test]
fn a_list_is_of_one_revision_however_slowly_it_is_read() {
    let server = Server::start(&under_test());
    block_on(async {
        fill(server.port()).await;
        let client = Client::connect(server.port()).await.expect("it answers");
        let slow = Client::connect_with(server.port(), 65_535).await.expect("it answers");
        let mut list = slow.begin(RANGE, &all()).await.expect("it begins");
        let mut stream = slow.begin(STREAM, &all()).await.expect("it begins");
        for number in (0..KEYS).step_by(3) {
            put(&client, key(number), Bytes::from_static(b"later")).await;
        }
        put(&client, "list/zzz".into(), Bytes::new()).await;
        let (list, stream) = tokio::join!(rest_of(&mut list), rest_of(&mut stream));
        let (list, stream) = (list.expect("all of it"), stream.expect("all of it"));
        assert_eq!((list.1.as_str(), stream.1.as_str()), ("0", "0"));
        let list = messages::<pb::RangeResponse>(&list.0).expect("a message").remove(0);
        check(&list.kvs);
        let stream = joined(messages(&stream.0).expect("messages"));
        assert!(stream == list, "begun at the same revision");
    });
}

/// Lists that are given up, and connections that are cut in the middle of one, cost nothing: the
/// server goes on, and comes to its end when it is asked to.
#[test]
fn lists_that_are_given_up_are_forgotten() {
    let mut server = Server::start(&under_test());
    block_on(async {
        fill(server.port()).await;
        let other = Client::connect(server.port()).await.expect("it answers");
        for round in 0..20 {
            let client = Client::connect_with(server.port(), 20_000).await.expect("it answers");
            let mut begun = Vec::new();
            for nth in 0..8 {
                let path = if nth % 2 == 0 { RANGE } else { STREAM };
                begun.push(client.begin(path, &all()).await.expect("it begins"));
                if nth % 3 == 0 {
                    begun.pop();
                }
            }
            assert_eq!(put(&other, "other".into(), Bytes::new()).await, put_revision(round));
        }
        let whole: pb::RangeResponse = other.unary(RANGE, &all()).await.expect("a list");
        check(&whole.kvs);
    });
    server.ask_to_end();
    server.ended();
}

/// The revision of the put of a round, after all keys were filled.
fn put_revision(round: usize) -> i64 {
    i64::try_from(KEYS + 2 + round).expect("few")
}

/// A client that does not read one answer gets all others, on the same connection too.
#[test]
fn a_list_that_nobody_reads_holds_nobody_up() {
    let server = Server::start(&under_test());
    block_on(async {
        fill(server.port()).await;
        // One stream's window is far below the connection's.
        let client = Client::connect_with(server.port(), 20_000).await.expect("it answers");
        let mut unread = Vec::new();
        for path in [RANGE, STREAM] {
            unread.push(client.begin(path, &all()).await.expect("it begins"));
        }
        let whole: pb::RangeResponse = client.unary(RANGE, &all()).await.expect("a list");
        check(&whole.kvs);
        for body in &mut unread {
            let (_, status) = rest_of(body).await.expect("read at last");
            assert_eq!(status, "0");
        }
    });
}

/// Connections beyond their shard's core are served from there: lists cross over by slices.
#[test]
fn lists_come_whole_on_connections_of_any_core() {
    let server = Server::start(&under_test());
    block_on(async {
        fill(server.port()).await;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = Client::connect_with(server.port(), 65_535).await.expect("it answers");
            clients.push(client);
        }
        let mut lanes = JoinSet::new();
        for (nth, client) in clients.iter().enumerate().rev().step_by(50) {
            let client = client.clone();
            lanes.spawn(async move {
                if nth % 100 < 50 {
                    let given_up = client.begin(STREAM, &all()).await.expect("it begins");
                    drop(given_up);
                    let stream = streamed(&client, &all()).await;
                    check(&stream.kvs);
                } else {
                    let given_up = client.begin(RANGE, &all()).await.expect("it begins");
                    drop(given_up);
                    let whole = client.unary::<pb::RangeResponse>(RANGE, &all()).await;
                    check(&whole.expect("a list").kvs);
                }
            });
        }
        while let Some(lane) = lanes.join_next().await {
            lane.expect("each is whole");
        }
    });
}

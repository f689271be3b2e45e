//! Put, get, delete, a transaction, a stream and a compaction with tonic.

use crate::support::block_on;
use crate::support::peers::under_test;
use crate::support::server::Server;
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use ringd::api::proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use ringd::api::proto::etcdserverpb::request_op::Request as Op;
use ringd::api::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, RequestOp,
    TxnRequest, TxnResponse,
};
use ringd::api::proto::mvccpb::KeyValue;
use std::collections::BTreeSet;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

async fn call<Q, A>(channel: &Channel, method: &'static str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = PathAndQuery::from_static(method);
    let codec = ProstCodec::<Q, A>::default();
    grpc.unary(Request::new(request), path, codec).await.map(tonic::Response::into_inner)
}

async fn put(channel: &Channel, request: PutRequest) -> Result<PutResponse, Status> {
    call(channel, "/etcdserverpb.KV/Put", request).await
}

async fn range(channel: &Channel, request: RangeRequest) -> Result<RangeResponse, Status> {
    call(channel, "/etcdserverpb.KV/Range", request).await
}

async fn delete(
    channel: &Channel,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Status> {
    call(channel, "/etcdserverpb.KV/DeleteRange", request).await
}

fn refused<A: std::fmt::Debug>(answer: Result<A, Status>, code: Code, text: &str) {
    let status = answer.expect_err("it is refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

#[test]
fn a_rust_client_puts_gets_and_deletes() {
    block_on(async {
        let server = Server::start(&under_test());
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address()));
        let channel = endpoint.expect("an address").connect().await.expect("it answers");
        single(&channel).await;
        many(&channel).await;
        history(&channel).await;
    });
}

async fn single(channel: &Channel) {
    let key = Bytes::from_static(b"rust/a");
    let own = PutRequest { key: key.clone(), prev_kv: true, ..PutRequest::default() };
    let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    let value = Bytes::from_static;
    let one = put(channel, PutRequest { value: value(b"1"), ..own.clone() }).await.expect("a put");
    let first = one.header.expect("a header").revision;
    assert_eq!(one.prev_kv, None);
    let two = put(channel, PutRequest { value: value(b"2"), ..own }).await.expect("a put");
    assert_eq!(two.header.expect("a header").revision, first + 1);
    assert_eq!(two.prev_kv.expect("a previous pair").value, value(b"1"));

    let now = range(channel, get.clone()).await.expect("a read");
    let [pair] = now.kvs.as_slice() else { panic!("one pair: {now:?}") };
    assert_eq!((&pair.value, pair.version), (&value(b"2"), 2));
    assert_eq!((pair.create_revision, pair.mod_revision), (first, first + 1));
    let old = RangeRequest { revision: first, ..get.clone() };
    assert_eq!(range(channel, old).await.expect("a read").kvs[0].value, value(b"1"));

    let future = RangeRequest { revision: 1 << 40, ..get };
    let text = "etcdserver: mvcc: required revision is a future revision";
    refused(range(channel, future).await, Code::OutOfRange, text);
    let text = "etcdserver: key is not provided";
    refused(put(channel, PutRequest::default()).await, Code::InvalidArgument, text);
}

async fn many(channel: &Channel) {
    let mut puts = JoinSet::new();
    for n in 0..200 {
        let channel = channel.clone();
        let (key, value) = (format!("rust/n{n}").into(), vec![b'v'; 1000].into());
        puts.spawn(
            async move { put(&channel, PutRequest { key, value, ..Default::default() }).await },
        );
    }
    let answers = puts.join_all().await;
    let revisions: BTreeSet<_> = answers
        .into_iter()
        .map(|answer| answer.expect("a put").header.expect("a header").revision)
        .collect();
    assert_eq!(revisions.len(), 200);

    let (key, range_end) = (Bytes::from_static(b"rust/"), Bytes::from_static(b"rust0"));
    let all = RangeRequest { key: key.clone(), range_end: range_end.clone(), ..Default::default() };
    let full = range(channel, all.clone()).await.expect("a read");
    assert_eq!((full.count, full.kvs.len(), full.more), (201, 201, false));
    let page = range(channel, RangeRequest { limit: 10, ..all.clone() }).await.expect("a read");
    assert_eq!((page.count, page.kvs.len(), page.more), (201, 10, true));

    let gone = delete(channel, DeleteRangeRequest { key, range_end, prev_kv: true }).await;
    let gone = gone.expect("a delete");
    assert_eq!((gone.deleted, gone.prev_kvs), (201, full.kvs));
    assert_eq!(range(channel, all).await.expect("a read").count, 0);
}

async fn history(channel: &Channel) {
    let key = |n: usize| Bytes::from(format!("rust/l{n:02}"));
    let old = Bytes::from_static(b"old");
    let op = |request| RequestOp { request: Some(request) };
    let put_op = |n| {
        let (key, value) = (key(n), old.clone());
        op(Op::RequestPut(PutRequest { key, value, ..PutRequest::default() }))
    };
    let get = op(Op::RequestRange(RangeRequest { key: key(0), ..RangeRequest::default() }));
    let absent = Compare {
        target: CompareTarget::Mod.into(),
        key: key(0),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Compare::default()
    };
    let txn = TxnRequest {
        compare: vec![absent],
        success: (0..50).map(put_op).chain([get.clone()]).collect(),
        failure: vec![get],
    };
    let path = "/etcdserverpb.KV/Txn";
    let first: TxnResponse = call(channel, path, txn.clone()).await.expect("a transaction");
    assert_eq!((first.succeeded, first.responses.len()), (true, 51));
    let second: TxnResponse = call(channel, path, txn).await.expect("a transaction");
    assert_eq!((second.succeeded, second.responses.len()), (false, 1));
    let twice = TxnRequest { success: vec![put_op(0), put_op(0)], ..TxnRequest::default() };
    let text = "etcdserver: duplicate key given in txn request";
    let twice = call::<_, TxnResponse>(channel, path, twice).await;
    refused(twice, Code::InvalidArgument, text);

    let then = first.header.expect("a header").revision;
    let all = RangeRequest {
        key: Bytes::from_static(b"rust/"),
        range_end: Bytes::from_static(b"rust0"),
        revision: then,
        ..RangeRequest::default()
    };
    let (mut listed, mut page) = (Vec::new(), RangeRequest { limit: 7, ..all.clone() });
    loop {
        let found = range(channel, page.clone()).await.expect("a page");
        listed.extend(found.kvs);
        let last = listed.last().expect("a page is not empty").key.clone();
        put(channel, PutRequest { key: last.clone(), ..Default::default() }).await.expect("a put");
        page.key = [last.as_ref(), b"\0"].concat().into();
        if !found.more {
            break;
        }
    }
    assert_eq!(listed.len(), 50);
    assert!(listed.iter().all(|kv| kv.value == old && kv.mod_revision == then));
    assert_eq!(streamed(channel, all.clone()).await, (listed, 50));

    let now = range(channel, RangeRequest { revision: 0, ..all.clone() }).await.expect("a read");
    let revision = now.header.expect("a header").revision;
    let path = "/etcdserverpb.KV/Compact";
    let request = CompactionRequest { revision, physical: true };
    call::<_, CompactionResponse>(channel, path, request).await.expect("a compaction");
    let text = "etcdserver: mvcc: required revision has been compacted";
    refused(range(channel, all).await, Code::OutOfRange, text);
    let again = call::<_, CompactionResponse>(channel, path, request).await;
    refused(again, Code::OutOfRange, text);
}

/// All pairs of a stream, and the count that its last chunk tells.
async fn streamed(channel: &Channel, request: RangeRequest) -> (Vec<KeyValue>, i64) {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.expect("it answers");
    let path = PathAndQuery::from_static("/etcdserverpb.KV/RangeStream");
    let codec = ProstCodec::<RangeRequest, RangeStreamResponse>::default();
    let stream = grpc.server_streaming(Request::new(request), path, codec).await;
    let mut stream = stream.expect("a stream").into_inner();
    let (mut kvs, mut count) = (Vec::new(), 0);
    while let Some(chunk) = stream.message().await.expect("a chunk") {
        let chunk = chunk.range_response.expect("a chunk holds an answer");
        kvs.extend(chunk.kvs);
        count = chunk.count;
    }
    (kvs, count)
}

//! Put, get and delete with tonic.

use crate::support::block_on;
use crate::support::peers::under_test;
use crate::support::server::Server;
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use ringd::api::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};
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

//! The calls that an API server makes, one connection at a time.

use http::uri::PathAndQuery;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// How long the server may take for any one answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Requests of one watch stream that wait to be sent.
const QUEUED_MAX: usize = 16;

/// One connection; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Client(Channel);

impl Client {
    /// Connects to a port of the loopback.
    ///
    /// # Errors
    ///
    /// If nobody answers there.
    pub(crate) async fn connect(port: u16) -> Result<Self, Status> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"));
        let channel = endpoint.expect("it is an address").connect().await;
        channel.map(Self).map_err(|error| Status::unavailable(error.to_string()))
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.0.clone()).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }

    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        patiently(async {
            let path = PathAndQuery::from_static(path);
            let codec = ProstCodec::<Q, A>::default();
            let answer = self.grpc().await?.unary(Request::new(request), path, codec).await;
            answer.map(tonic::Response::into_inner)
        })
        .await
    }

    pub(crate) async fn range(&self, ask: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", ask).await
    }

    pub(crate) async fn txn(&self, ask: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", ask).await
    }

    pub(crate) async fn compact(&self, revision: i64) -> Result<pb::CompactionResponse, Status> {
        let ask = pb::CompactionRequest { revision, physical: false };
        self.unary("/etcdserverpb.KV/Compact", ask).await
    }

    pub(crate) async fn grant(&self, ttl: i64) -> Result<pb::LeaseGrantResponse, Status> {
        let ask = pb::LeaseGrantRequest { ttl, id: 0 };
        self.unary("/etcdserverpb.Lease/LeaseGrant", ask).await
    }

    pub(crate) async fn status(&self) -> Result<pb::StatusResponse, Status> {
        self.unary("/etcdserverpb.Maintenance/Status", pb::StatusRequest {}).await
    }

    /// A range that comes in parts, put together again.
    pub(crate) async fn range_stream(
        &self,
        ask: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Status> {
        patiently(async {
            let path = PathAndQuery::from_static("/etcdserverpb.KV/RangeStream");
            let codec = ProstCodec::<_, pb::RangeStreamResponse>::default();
            let parts = self.grpc().await?.server_streaming(Request::new(ask), path, codec).await;
            let mut parts = parts?.into_inner();
            let mut whole = pb::RangeResponse::default();
            while let Some(part) = parts.message().await? {
                let part = part.range_response.expect("a part has rows or says the last");
                assert!(whole.header.is_none(), "only the last part says who answers");
                whole.kvs.extend(part.kvs);
                (whole.header, whole.more, whole.count) = (part.header, part.more, part.count);
            }
            Ok(whole)
        })
        .await
    }

    /// Opens a watch stream with its first request, as a client that asks to be told when its
    /// server has lost its leader.
    pub(crate) async fn watch(&self, first: pb::WatchRequest) -> Result<Watch, Status> {
        let (asks, mut asked) = mpsc::channel(QUEUED_MAX);
        asks.send(first).await.expect("the other end is here");
        let stream = futures_lite::stream::poll_fn(move |context| asked.poll_recv(context));
        let mut request = Request::new(stream);
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        patiently(async {
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            let codec = ProstCodec::default();
            let answers = self.grpc().await?.streaming(request, path, codec).await?.into_inner();
            Ok(Watch { asks, answers })
        })
        .await
    }
}

/// A watch stream; the call is given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    asks: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watch {
    /// Sends a request.
    pub(crate) async fn ask(&self, request: pb::WatchRequest) -> Result<(), Status> {
        let sent = self.asks.send(request).await;
        sent.map_err(|_| Status::unavailable("the stream has ended"))
    }

    /// The next answer, however long it takes; nothing of one is lost if this is not awaited to
    /// its end.
    pub(crate) async fn next(&mut self) -> Result<pb::WatchResponse, Status> {
        let answer = self.answers.message().await?;
        answer.ok_or_else(|| Status::unavailable("the stream has ended"))
    }
}

async fn patiently<A>(call: impl Future<Output = Result<A, Status>>) -> Result<A, Status> {
    match timeout(PATIENCE, call).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer after {PATIENCE:?}"))),
    }
}

//! How an API server reads and writes its etcd: every change is a transaction on the revision that
//! it has last seen, every list is of one revision.

use crate::record::{Attempt, Change, Condition, Outcome, Read, Span};
use crate::wire::Client;
use crate::world::World;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use ringd::api::proto::etcdserverpb::request_op::Request as Op;
use ringd::api::proto::etcdserverpb::response_op::Response;
use ringd::api::proto::mvccpb::KeyValue;
use tonic::{Code, Status};

/// What a read of a compacted revision is answered.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
/// What a put with a lease that is gone is answered.
const NO_LEASE: &str = "etcdserver: requested lease not found";

/// An API server's side of one connection.
pub(crate) struct Storage<'a> {
    pub(crate) world: &'a World,
    pub(crate) client: &'a Client,
    /// Who it is that reads.
    pub(crate) by: &'a str,
}

/// What became of a write that was answered.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is done, at this revision.
    Done(i64),
    /// Its condition did not hold; the row as it was, if it was asked for and there.
    Refused(i64, Option<KeyValue>),
    /// There is no such lease.
    NoLease,
}

/// How a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paging {
    /// All at once.
    Whole,
    /// In pages of so many rows, all of the revision of the first.
    Pages(i64),
    /// As a stream.
    Stream,
}

impl Condition {
    fn compare(self, key: &Bytes) -> pb::Compare {
        let (target, union) = match self {
            Self::Mod(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(revision)),
            Self::Version(version) => (CompareTarget::Version, TargetUnion::Version(version)),
        };
        let target_union = Some(union);
        pb::Compare { target: target.into(), key: key.clone(), target_union, ..Default::default() }
    }
}

impl Change {
    fn op(&self, key: Bytes) -> Op {
        match self.clone() {
            Self::Put { value, lease } => {
                Op::RequestPut(pb::PutRequest { key, value, lease, ..Default::default() })
            }
            Self::Delete => Op::RequestDeleteRange(pb::DeleteRangeRequest {
                key,
                ..pb::DeleteRangeRequest::default()
            }),
        }
    }
}

fn header(header: Option<&pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

impl Storage<'_> {
    /// Writes a key on a condition, and gets the row if the condition does not hold and `gets`.
    ///
    /// # Errors
    ///
    /// If nobody answered: it is done or is not.
    pub(crate) async fn commit(
        &self,
        key: &Bytes,
        change: Change,
        condition: Condition,
        gets: bool,
    ) -> Result<Verdict, Status> {
        let op = |request| pb::RequestOp { request: Some(request) };
        let get = op(Op::RequestRange(Span::one(key).request()));
        let request = pb::TxnRequest {
            compare: vec![condition.compare(key)],
            success: vec![op(change.op(key.clone()))],
            failure: if gets { vec![get] } else { Vec::new() },
        };
        let floor = self.world.seen();
        let outcome = Outcome::Unknown;
        let attempt = Attempt { key: key.clone(), change, condition, floor, outcome };
        let number = self.world.begin(attempt);
        let answer = match self.client.txn(request).await {
            Ok(answer) => answer,
            Err(status) if status.code() == Code::NotFound && status.message() == NO_LEASE => {
                self.world.end(number, Outcome::Invalid);
                return Ok(Verdict::NoLease);
            }
            Err(status) => return Err(status),
        };
        let revision = header(answer.header.as_ref());
        if answer.succeeded {
            self.world.end(number, Outcome::Done(revision));
            done(&answer, revision);
            return Ok(Verdict::Done(revision));
        }
        let mut rows = None;
        if gets {
            let [pb::ResponseOp { response: Some(Response::ResponseRange(range)) }] =
                answer.responses.as_slice()
            else {
                panic!("a get is answered by a range: {answer:?}")
            };
            rows = Some(range.kvs.clone());
        }
        self.world.end(number, Outcome::Refused { revision, rows: rows.clone() });
        Ok(Verdict::Refused(revision, rows.and_then(|mut rows| rows.pop())))
    }

    /// The row of a key.
    pub(crate) async fn get(&self, key: &Bytes) -> Result<Option<KeyValue>, Status> {
        let answer = self.ask(&Span::one(key), 0, 0, false).await?;
        Ok(answer.kvs.into_iter().next())
    }

    /// How many keys there are.
    pub(crate) async fn count(&self, span: &Span) -> Result<i64, Status> {
        let floor = self.world.seen();
        let ask = pb::RangeRequest { count_only: true, ..span.request() };
        let answer = self.client.range(ask).await?;
        let header = header(answer.header.as_ref());
        let (by, span, count) = (self.by.to_owned(), span.clone(), answer.count);
        let read = Read {
            by,
            span,
            limit: 0,
            revision: header,
            header,
            floor,
            rows: None,
            count,
            more: false,
        };
        self.world.read(read);
        Ok(count)
    }

    /// The revision that the store has come to.
    pub(crate) async fn current_revision(&self, span: &Span) -> Result<i64, Status> {
        let answer = self.ask(span, 1, 0, false).await?;
        Ok(header(answer.header.as_ref()))
    }

    /// All rows of a range at one revision, the latest if that is 0, and which that is; none if it
    /// was compacted meanwhile.
    pub(crate) async fn list(
        &self,
        span: &Span,
        revision: i64,
        paging: Paging,
    ) -> Result<Option<(i64, Vec<KeyValue>)>, Status> {
        let limit = if let Paging::Pages(limit) = paging { limit } else { 0 };
        let is_stream = matches!(paging, Paging::Stream);
        let (mut at, mut rows, mut rest) = (revision, Vec::new(), span.clone());
        loop {
            let answer = match self.ask(&rest, limit, at, is_stream).await {
                Ok(answer) => answer,
                Err(status) if status.message() == COMPACTED => {
                    assert_eq!(status.code(), Code::OutOfRange);
                    let max = self.world.compacted_max();
                    assert!(at < max, "{at} is not compacted, only what is below {max}");
                    return Ok(None);
                }
                Err(status) => return Err(status),
            };
            if at == 0 {
                at = header(answer.header.as_ref());
            }
            let (is_last, page) = (!answer.more, answer.kvs);
            let last = page.last().map(|row| row.key.clone());
            rows.extend(page);
            if is_last {
                return Ok(Some((at, rows)));
            }
            let last = last.expect("there is more of a page that has rows");
            rest.key = [last.as_ref(), b"\0"].concat().into();
        }
    }

    /// One read, recorded.
    async fn ask(
        &self,
        span: &Span,
        limit: i64,
        revision: i64,
        is_stream: bool,
    ) -> Result<pb::RangeResponse, Status> {
        let floor = self.world.seen();
        let ask = pb::RangeRequest { limit, revision, ..span.request() };
        let answer = match is_stream {
            true => self.client.range_stream(ask).await?,
            false => self.client.range(ask).await?,
        };
        let header = header(answer.header.as_ref());
        self.world.read(Read {
            by: self.by.to_owned(),
            span: span.clone(),
            limit,
            revision: if revision == 0 { header } else { revision },
            header,
            floor,
            rows: Some(answer.kvs.clone()),
            count: answer.count,
            more: answer.more,
        });
        Ok(answer)
    }
}

/// Sees that what a transaction did is said as it should be.
fn done(answer: &pb::TxnResponse, revision: i64) {
    let [pb::ResponseOp { response: Some(response) }] = answer.responses.as_slice() else {
        panic!("one operation, one answer: {answer:?}")
    };
    match response {
        Response::ResponsePut(put) => assert_eq!(header(put.header.as_ref()), revision),
        Response::ResponseDeleteRange(deleted) => assert_eq!(deleted.deleted, 1),
        Response::ResponseRange(_) | Response::ResponseTxn(_) => panic!("{answer:?}"),
    }
}

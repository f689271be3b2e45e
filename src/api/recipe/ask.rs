//! The requests that locks and elections are made of, and waiting for those that came before.

use crate::api::kv;
use crate::api::lease;
use crate::api::proto::etcdserverpb as pb;
use crate::api::proto::mvccpb;
use crate::api::recipe::Do;
use crate::api::recipe::decode;
use crate::api::status::Status;
use crate::api::txn;
use crate::api::watch::Create;
use crate::api::watch::WatchRequest;
use bytes::Bytes;
use pb::compare::CompareResult;
use pb::compare::CompareTarget;
use pb::compare::TargetUnion;
use pb::range_request::SortOrder;
use pb::range_request::SortTarget;
use pb::request_op;
use pb::response_op;
use prost::Message;

/// Seconds of the lease of a call that names none; nobody keeps it alive.
const LEASE_TTL: i64 = 60;
/// Operations that one of these transactions may have.
const OPS_MAX: usize = 4;

/// Asks for a lease.
pub(super) fn grant() -> Result<Do, Status> {
    let message = pb::LeaseGrantRequest { ttl: LEASE_TTL, id: 0 };
    lease::grant(&message.encode_to_vec()).map(Do::Ask)
}

/// Asks for a read.
pub(super) fn range(range: &pb::RangeRequest) -> Result<Do, Status> {
    kv::range(&range.encode_to_vec()).map(Do::Ask)
}

/// Asks for a deletion.
pub(super) fn delete(key: Bytes) -> Result<Do, Status> {
    let message = pb::DeleteRangeRequest { key, ..Default::default() };
    kv::delete_range(&message.encode_to_vec()).map(Do::Ask)
}

/// Asks for `then` if a key was created at a revision, else for `other`; 0 is a key that is not
/// there.
pub(super) fn if_created(
    key: Bytes,
    created: i64,
    then: Vec<pb::RequestOp>,
    other: Vec<pb::RequestOp>,
) -> Result<Do, Status> {
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key,
        target_union: Some(TargetUnion::CreateRevision(created)),
        ..Default::default()
    };
    let message = pb::TxnRequest { compare: vec![compare], success: then, failure: other };
    txn::txn(&message.encode_to_vec(), OPS_MAX).map(Do::Ask)
}

/// A put as an operation.
pub(super) fn put_op(key: Bytes, value: Bytes, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key, value, lease, ..Default::default() };
    pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

/// A deletion as an operation.
pub(super) fn delete_op(key: Bytes) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key, ..Default::default() };
    pb::RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }
}

/// A read as an operation.
pub(super) fn range_op(range: pb::RangeRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(request_op::Request::RequestRange(range)) }
}

/// The read of one key.
pub(super) fn one(key: Bytes) -> pb::RangeRequest {
    pb::RangeRequest { key, ..Default::default() }
}

/// The read of the oldest key under a prefix.
pub(super) fn oldest(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest { sort_order: SortOrder::Ascend.into(), ..by_age(prefix) }
}

/// The read of the youngest key under a prefix that is older than a revision.
fn youngest_before(prefix: &Bytes, created: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        max_create_revision: created - 1,
        ..by_age(prefix)
    }
}

fn by_age(prefix: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: prefix.clone(),
        range_end: end_of(prefix),
        limit: 1,
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

/// The first key beyond all that begin with `prefix`, which ends with a slash.
pub(super) fn end_of(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("a slash") += 1;
    end.into()
}

/// The prefix of a name's keys.
pub(super) fn prefix_of(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// The key of a lease under a prefix.
pub(super) fn key_of(prefix: &Bytes, lease: i64) -> Bytes {
    // Go writes a negative number's sign before its digits.
    let sign = if lease < 0 { "-" } else { "" };
    [prefix, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat().into()
}

/// The pairs that an operation read.
pub(super) fn pairs_of(answer: &pb::TxnResponse, at: usize) -> &[mvccpb::KeyValue] {
    match answer.responses.get(at).and_then(|it| it.response.as_ref()) {
        Some(response_op::Response::ResponseRange(range)) => &range.kvs,
        Some(
            response_op::Response::ResponsePut(_)
            | response_op::Response::ResponseDeleteRange(_)
            | response_op::Response::ResponseTxn(_),
        )
        | None => &[],
    }
}

/// The revision of a header.
pub(super) fn revision_of(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Waits until every key under a prefix that is older than a revision is gone: for one at a time,
/// the youngest first, so that whoever goes wakes one.
#[derive(Debug)]
pub(super) struct Queue {
    prefix: Bytes,
    created: i64,
    /// The watcher's id: what comes for an earlier one means nothing.
    watch: i64,
    key: Bytes,
    is_watching: bool,
}

impl Queue {
    pub(super) fn new(prefix: Bytes, created: i64) -> Self {
        Self { prefix, created, watch: 0, key: Bytes::new(), is_watching: false }
    }

    /// Asks who is next before us.
    pub(super) fn look(&mut self) -> Result<Vec<Do>, Status> {
        self.is_watching = false;
        range(&youngest_before(&self.prefix, self.created)).map(|ask| vec![ask])
    }

    /// Who is next before us; none to do if nobody is.
    pub(super) fn answered(&mut self, answer: Result<&[u8], Status>) -> Result<Vec<Do>, Status> {
        let found: pb::RangeResponse = decode(answer)?;
        let Some(before) = found.kvs.first() else { return Ok(Vec::new()) };
        self.watch += 1;
        self.key = before.key.clone();
        self.is_watching = true;
        let start = revision_of(found.header.as_ref());
        let create = watch_of(self.key.clone(), Bytes::new(), start, self.watch);
        Ok(vec![Do::Watch(create)])
    }

    /// What to do when the key that is watched is gone, or can not be watched.
    pub(super) fn watched(&mut self, message: &pb::WatchResponse) -> Result<Vec<Do>, Status> {
        if !self.is_watching || message.watch_id != self.watch {
            return Ok(Vec::new());
        }
        let is_gone = message.events.iter().any(is_delete);
        if !is_gone && !message.canceled {
            return Ok(Vec::new());
        }
        let mut next = vec![Do::Unwatch];
        next.extend(self.look()?);
        Ok(next)
    }
}

/// A watcher of `key..range_end` from a revision on.
pub(super) fn watch_of(key: Bytes, range_end: Bytes, start: i64, id: i64) -> WatchRequest {
    WatchRequest::Create(Create::from(pb::WatchCreateRequest {
        key,
        range_end,
        start_revision: start,
        watch_id: id,
        ..Default::default()
    }))
}

/// Whether an event is a deletion.
pub(super) fn is_delete(event: &mvccpb::Event) -> bool {
    event.r#type == i32::from(mvccpb::event::EventType::Delete)
}

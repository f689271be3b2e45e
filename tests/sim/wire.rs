//! A client's requests as protobuf.

use crate::model::{Compare, Op, Question, Txn, With};
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;

/// The path that a call goes to and its message.
pub(crate) fn request(op: &Op) -> (&'static str, Vec<u8>) {
    match op {
        Op::Put { .. } => ("/etcdserverpb.KV/Put", put(op).encode_to_vec()),
        Op::Delete { .. } => ("/etcdserverpb.KV/DeleteRange", delete(op).encode_to_vec()),
        Op::Range(question) => ("/etcdserverpb.KV/Range", range(question).encode_to_vec()),
        Op::Stream(question) => ("/etcdserverpb.KV/RangeStream", range(question).encode_to_vec()),
        Op::Txn(request) => ("/etcdserverpb.KV/Txn", txn(request).encode_to_vec()),
        Op::Compact { revision, physical } => {
            let request = pb::CompactionRequest { revision: *revision, physical: *physical };
            ("/etcdserverpb.KV/Compact", request.encode_to_vec())
        }
        Op::HashKv { revision } => {
            let request = pb::HashKvRequest { revision: *revision };
            ("/etcdserverpb.Maintenance/HashKV", request.encode_to_vec())
        }
        Op::Defragment => ("/etcdserverpb.Maintenance/Defragment", Vec::new()),
        Op::Grant { id, ttl } => {
            let request = pb::LeaseGrantRequest { id: *id, ttl: *ttl };
            ("/etcdserverpb.Lease/LeaseGrant", request.encode_to_vec())
        }
        Op::Revoke { id } => {
            let request = pb::LeaseRevokeRequest { id: *id };
            ("/etcdserverpb.Lease/LeaseRevoke", request.encode_to_vec())
        }
        Op::TimeToLive { id, keys } => {
            let request = pb::LeaseTimeToLiveRequest { id: *id, keys: *keys };
            ("/etcdserverpb.Lease/LeaseTimeToLive", request.encode_to_vec())
        }
        Op::Expire { .. } => unreachable!("nobody asks for it"),
    }
}

fn put(op: &Op) -> pb::PutRequest {
    let Op::Put { key, value, prev_kv, ignore_value, lease, ignore_lease } = op else {
        unreachable!("a put")
    };
    pb::PutRequest {
        key: key.clone().into(),
        value: value.clone().into(),
        prev_kv: *prev_kv,
        ignore_value: *ignore_value,
        lease: *lease,
        ignore_lease: *ignore_lease,
    }
}

fn delete(op: &Op) -> pb::DeleteRangeRequest {
    let Op::Delete { keys, prev_kv } = op else { unreachable!("a delete") };
    pb::DeleteRangeRequest {
        key: keys.key.clone().into(),
        range_end: keys.end.clone().into(),
        prev_kv: *prev_kv,
    }
}

fn range(question: &Question) -> pb::RangeRequest {
    pb::RangeRequest {
        key: question.keys.key.clone().into(),
        range_end: question.keys.end.clone().into(),
        limit: question.limit,
        revision: question.revision,
        serializable: question.serializable,
        keys_only: question.keys_only,
        count_only: question.count_only,
        sort_order: if question.descending { 2 } else { 0 },
        min_mod_revision: question.modified_min,
        ..pb::RangeRequest::default()
    }
}

fn txn(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(operation).collect(),
        failure: txn.failure.iter().map(operation).collect(),
    }
}

fn operation(op: &Op) -> pb::RequestOp {
    use pb::request_op::Request;
    let request = match op {
        Op::Put { .. } => Request::RequestPut(put(op)),
        Op::Delete { .. } => Request::RequestDeleteRange(delete(op)),
        Op::Range(question) => Request::RequestRange(range(question)),
        Op::Txn(nested) => Request::RequestTxn(txn(nested)),
        Op::Stream(_)
        | Op::Compact { .. }
        | Op::HashKv { .. }
        | Op::Defragment
        | Op::Grant { .. }
        | Op::Revoke { .. }
        | Op::TimeToLive { .. }
        | Op::Expire { .. } => unreachable!("no operation of a transaction"),
    };
    pb::RequestOp { request: Some(request) }
}

fn compare(compare: &Compare) -> pb::Compare {
    use pb::compare::TargetUnion;
    let (target, operand) = match &compare.with {
        With::Version(with) => (0, TargetUnion::Version(*with)),
        With::Created(with) => (1, TargetUnion::CreateRevision(*with)),
        With::Modified(with) => (2, TargetUnion::ModRevision(*with)),
        With::Value(with) => (3, TargetUnion::Value(with.clone().into())),
        With::Lease(with) => (4, TargetUnion::Lease(*with)),
    };
    pb::Compare {
        result: compare.sign,
        target,
        key: compare.keys.key.clone().into(),
        range_end: compare.keys.end.clone().into(),
        target_union: Some(operand),
    }
}

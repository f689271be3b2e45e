//! A client's requests as protobuf.

use crate::model::Op;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;

/// The path that a call goes to and its message.
pub(crate) fn request(op: &Op) -> (&'static str, Vec<u8>) {
    match op {
        Op::Put { key, value, prev_kv, ignore_value } => {
            let request = pb::PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                prev_kv: *prev_kv,
                ignore_value: *ignore_value,
                ..pb::PutRequest::default()
            };
            ("/etcdserverpb.KV/Put", request.encode_to_vec())
        }
        Op::Delete { keys, prev_kv } => {
            let request = pb::DeleteRangeRequest {
                key: keys.key.clone().into(),
                range_end: keys.end.clone().into(),
                prev_kv: *prev_kv,
            };
            ("/etcdserverpb.KV/DeleteRange", request.encode_to_vec())
        }
        Op::Range(question) => {
            let request = pb::RangeRequest {
                key: question.keys.key.clone().into(),
                range_end: question.keys.end.clone().into(),
                limit: question.limit,
                revision: question.revision,
                serializable: question.serializable,
                keys_only: question.keys_only,
                count_only: question.count_only,
                ..pb::RangeRequest::default()
            };
            ("/etcdserverpb.KV/Range", request.encode_to_vec())
        }
    }
}

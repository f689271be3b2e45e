//! What clients ask, as bytes and back.

use crate::client::End;
use pb::request_op::Request as Inner;
use pb::response_op::Response;
use prost::Message;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb::KeyValue;

/// One request. Every value that is written is written by one call only.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Put {
        key: Vec<u8>,
        value: Vec<u8>,
        lease: i64,
    },
    Delete {
        key: Vec<u8>,
    },
    Get {
        key: Vec<u8>,
        serializable: bool,
    },
    /// If the key has this value, or is not there, put; else tell it.
    Swap {
        key: Vec<u8>,
        expect: Option<Vec<u8>>,
        value: Vec<u8>,
    },
    /// Two keys at once.
    Both {
        keys: [Vec<u8>; 2],
        values: [Vec<u8>; 2],
    },
    /// All keys, at a revision or at the present one, which is 0.
    All {
        revision: i64,
        serializable: bool,
    },
    Compact {
        revision: i64,
    },
    Hash,
    Defragment,
    Grant {
        id: i64,
        ttl: i64,
    },
    Revoke {
        id: i64,
    },
    Member(MemberOp),
}

/// One request about members, or about who leads.
#[derive(Clone, Debug)]
pub(super) enum MemberOp {
    Add { url: String, learner: bool },
    Remove { id: u64 },
    Promote { id: u64 },
    MoveLeader { target: u64 },
    List,
}

/// What a client was told that its request came to.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "all of it is read by whoever sees a failure")]
pub(super) enum Told {
    /// It was done, at this revision; the value before it.
    Put {
        revision: i64,
        prev: Option<KeyValue>,
    },
    Delete {
        revision: i64,
        deleted: i64,
        prev: Option<KeyValue>,
    },
    Rows {
        revision: i64,
        rows: Vec<KeyValue>,
    },
    /// Whether it was put, and what was there if not.
    Swap {
        revision: i64,
        succeeded: bool,
        found: Option<KeyValue>,
    },
    Both {
        revision: i64,
    },
    Hash {
        revision: i64,
        floor: i64,
        hash: u32,
    },
    Members(Vec<pb::Member>),
    Added(pb::Member, Vec<pb::Member>),
    /// It was done, and nothing else is to be known.
    Done {
        revision: i64,
    },
    /// It was not done and will not be.
    Refused(String),
    /// Nobody knows.
    Unknown,
}

/// What says for certain that nothing was done.
const REFUSALS: [&str; 4] = [
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: server stopped",
    "etcdserver: rpc not supported for learner",
];

impl Op {
    /// Whether its answer is of no earlier time than its question.
    pub(super) fn is_linearizable(&self) -> bool {
        match self {
            Self::Get { serializable, .. } | Self::All { serializable, .. } => !serializable,
            Self::Hash | Self::Defragment | Self::Member(_) => false,
            Self::Put { .. }
            | Self::Delete { .. }
            | Self::Swap { .. }
            | Self::Both { .. }
            | Self::Compact { .. }
            | Self::Grant { .. }
            | Self::Revoke { .. } => true,
        }
    }

    /// The path and the message.
    pub(super) fn encode(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Put { key, value, lease } => {
                ("/etcdserverpb.KV/Put", put(key, value, *lease).encode_to_vec())
            }
            Self::Delete { key } => {
                let key = key.clone().into();
                let delete = pb::DeleteRangeRequest { key, prev_kv: true, ..Default::default() };
                ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec())
            }
            Self::Get { key, serializable } => {
                let range = pb::RangeRequest { serializable: *serializable, ..one(key) };
                ("/etcdserverpb.KV/Range", range.encode_to_vec())
            }
            Self::All { revision, serializable } => {
                let range = pb::RangeRequest {
                    key: vec![0].into(),
                    range_end: vec![0].into(),
                    revision: *revision,
                    serializable: *serializable,
                    ..Default::default()
                };
                ("/etcdserverpb.KV/Range", range.encode_to_vec())
            }
            Self::Swap { key, expect, value } => {
                ("/etcdserverpb.KV/Txn", swap(key, expect.as_deref(), value).encode_to_vec())
            }
            Self::Both { keys, values } => {
                let ops = keys.iter().zip(values);
                let ops = ops.map(|(key, value)| op(Inner::RequestPut(put(key, value, 0))));
                let txn = pb::TxnRequest { success: ops.collect(), ..Default::default() };
                ("/etcdserverpb.KV/Txn", txn.encode_to_vec())
            }
            Self::Compact { revision } => {
                let request = pb::CompactionRequest { revision: *revision, physical: false };
                ("/etcdserverpb.KV/Compact", request.encode_to_vec())
            }
            Self::Hash => {
                let request = pb::HashKvRequest { revision: 0 };
                ("/etcdserverpb.Maintenance/HashKV", request.encode_to_vec())
            }
            Self::Defragment => ("/etcdserverpb.Maintenance/Defragment", Vec::new()),
            Self::Grant { id, ttl } => {
                let request = pb::LeaseGrantRequest { id: *id, ttl: *ttl };
                ("/etcdserverpb.Lease/LeaseGrant", request.encode_to_vec())
            }
            Self::Revoke { id } => {
                let request = pb::LeaseRevokeRequest { id: *id };
                ("/etcdserverpb.Lease/LeaseRevoke", request.encode_to_vec())
            }
            Self::Member(op) => op.encode(),
        }
    }

    /// What the end of the call says.
    ///
    /// # Errors
    /// What no server should say.
    pub(super) fn told(&self, end: &End) -> Result<Told, String> {
        match end {
            End::Messages(messages) if messages.len() == 1 => {
                self.decode(&messages[0]).map_err(|why| format!("{self:?}: {why}"))
            }
            End::Messages(messages) => Err(format!("{} messages for {self:?}", messages.len())),
            End::Reset => Ok(Told::Unknown),
            End::Status(code, text) => {
                // Codes of what depends on the state alone: bad, missing, failed, out of range.
                let is_refusal = matches!(code, 3 | 5 | 9 | 11) || REFUSALS.contains(&&text[..]);
                Ok(if is_refusal { Told::Refused(text.clone()) } else { Told::Unknown })
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Told, String> {
        let revision = |header: Option<pb::ResponseHeader>| header.map_or(0, |it| it.revision);
        Ok(match self {
            Self::Put { .. } => {
                let pb::PutResponse { header, prev_kv } = decode(bytes)?;
                Told::Put { revision: revision(header), prev: prev_kv }
            }
            Self::Delete { .. } => {
                let it: pb::DeleteRangeResponse = decode(bytes)?;
                let prev = it.prev_kvs.into_iter().next();
                Told::Delete { revision: revision(it.header), deleted: it.deleted, prev }
            }
            Self::Get { .. } | Self::All { .. } => {
                let it: pb::RangeResponse = decode(bytes)?;
                Told::Rows { revision: revision(it.header), rows: it.kvs }
            }
            Self::Swap { .. } => {
                let it: pb::TxnResponse = decode(bytes)?;
                let first = it.responses.into_iter().next().and_then(|it| it.response);
                let found = match first {
                    Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
                    _ => None,
                };
                Told::Swap { revision: revision(it.header), succeeded: it.succeeded, found }
            }
            Self::Both { .. } => {
                let it: pb::TxnResponse = decode(bytes)?;
                Told::Both { revision: revision(it.header) }
            }
            Self::Hash => {
                let it: pb::HashKvResponse = decode(bytes)?;
                let (floor, hash) = (it.compact_revision, it.hash);
                Told::Hash { revision: it.hash_revision, floor, hash }
            }
            Self::Member(op) => op.decode(bytes)?,
            Self::Grant { .. } => {
                let it: pb::LeaseGrantResponse = decode(bytes)?;
                Told::Done { revision: revision(it.header) }
            }
            Self::Revoke { .. } | Self::Compact { .. } => {
                // Both are a header and nothing else.
                let it: pb::CompactionResponse = decode(bytes)?;
                Told::Done { revision: revision(it.header) }
            }
            Self::Defragment => Told::Done { revision: 0 },
        })
    }
}

impl MemberOp {
    fn encode(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::Add { url, learner } => {
                let (peer_ur_ls, is_learner) = (vec![url.clone()], *learner);
                let request = pb::MemberAddRequest { peer_ur_ls, is_learner };
                ("/etcdserverpb.Cluster/MemberAdd", request.encode_to_vec())
            }
            Self::Remove { id } => {
                let request = pb::MemberRemoveRequest { id: *id };
                ("/etcdserverpb.Cluster/MemberRemove", request.encode_to_vec())
            }
            Self::Promote { id } => {
                let request = pb::MemberPromoteRequest { id: *id };
                ("/etcdserverpb.Cluster/MemberPromote", request.encode_to_vec())
            }
            Self::MoveLeader { target } => {
                let request = pb::MoveLeaderRequest { target_id: *target };
                ("/etcdserverpb.Maintenance/MoveLeader", request.encode_to_vec())
            }
            Self::List => {
                let request = pb::MemberListRequest { linearizable: true };
                ("/etcdserverpb.Cluster/MemberList", request.encode_to_vec())
            }
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<Told, String> {
        Ok(match self {
            Self::List => Told::Members(decode::<pb::MemberListResponse>(bytes)?.members),
            Self::Add { .. } => {
                let it: pb::MemberAddResponse = decode(bytes)?;
                Told::Added(it.member.ok_or("no member")?, it.members)
            }
            Self::Remove { .. } => {
                Told::Members(decode::<pb::MemberRemoveResponse>(bytes)?.members)
            }
            Self::Promote { .. } => {
                Told::Members(decode::<pb::MemberPromoteResponse>(bytes)?.members)
            }
            Self::MoveLeader { .. } => Told::Done { revision: 0 },
        })
    }
}

fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| error.to_string())
}

fn put(key: &[u8], value: &[u8], lease: i64) -> pb::PutRequest {
    let (key, value) = (key.to_vec().into(), value.to_vec().into());
    pb::PutRequest { key, value, lease, prev_kv: true, ..Default::default() }
}

fn one(key: &[u8]) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_vec().into(), ..Default::default() }
}

fn op(request: Inner) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn swap(key: &[u8], expect: Option<&[u8]>, value: &[u8]) -> pb::TxnRequest {
    use pb::compare::TargetUnion;
    let (target, operand) = match expect {
        None => (0, TargetUnion::Version(0)),
        Some(value) => (3, TargetUnion::Value(value.to_vec().into())),
    };
    let compare = pb::Compare {
        result: 0,
        target,
        key: key.to_vec().into(),
        target_union: Some(operand),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(Inner::RequestPut(put(key, value, 0)))],
        failure: vec![op(Inner::RequestRange(one(key)))],
    }
}

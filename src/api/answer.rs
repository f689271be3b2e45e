//! Answers on their way out: rows and results to protobuf, and how a gRPC call ends in HTTP/2.

use crate::api::answers::Piece;
use crate::api::call::PREFIX_SIZE;
use crate::api::call::set_prefix;
use crate::api::kv;
use crate::api::lease;
use crate::api::proto::etcdserverpb;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::api::status::percent_encoded;
use crate::api::txn;
use crate::api::wire;
use crate::config::CLUSTER_VERSION;
use crate::config::ETCD_VERSION;
use crate::http2::hpack;
use crate::shard::Shard;
use crate::shard::request;
use crate::shard::request::Body;
use crate::shard::request::Failure;
use crate::shard::request::Header;
use crate::shard::request::Member;
use crate::shard::request::Response;
use prost::Message;

/// `:status: 200` and `content-type: application/grpc`, needing no table.
pub(crate) const HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `grpc-status: 0`, as grpc-go ends a call that went well.
pub(crate) const TRAILERS_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

/// Index of `:status: 200` in HPACK's static table.
const STATUS_200: u8 = 8;

/// The block of an answer that is nothing but a status.
pub(crate) fn trailers_only(status: &Status) -> Vec<u8> {
    let mut block = Vec::with_capacity(64 + status.message.len());
    hpack::encode_indexed(&mut block, STATUS_200);
    hpack::encode_literal(&mut block, b"content-type", b"application/grpc");
    trailers_into(&mut block, status);
    block
}

/// The block that ends an answer which has begun.
pub(crate) fn trailers(status: &Status) -> Vec<u8> {
    let mut block = Vec::with_capacity(32 + status.message.len());
    trailers_into(&mut block, status);
    block
}

fn trailers_into(block: &mut Vec<u8>, status: &Status) {
    hpack::encode_literal(block, b"grpc-status", status.code.digits());
    hpack::encode_literal(block, b"grpc-message", &percent_encoded(&status.message));
}

/// Makes the answer of `result` in `out`: one gRPC message, prefix included, or how the call ends
/// without.
pub(crate) fn result<'a>(
    shard: &Shard,
    result: &Result<Response, Failure>,
    out: &'a mut Vec<u8>,
) -> Piece<&'a [u8]> {
    match result {
        Ok(response) => {
            out.clear();
            out.extend_from_slice(&[0; PREFIX_SIZE]);
            respond(response, shard, out);
            whole(out)
        }
        Err(failure) => Piece::End(Status::from(failure)),
    }
}

/// A message that is whole but for its prefix, whose place is free.
pub(crate) fn whole(out: &mut [u8]) -> Piece<&[u8]> {
    let size = u64::try_from(out.len() - PREFIX_SIZE).expect("usize is 64 bits");
    if size > MESSAGE_SIZE_MAX {
        return Piece::End(too_large(size));
    }
    set_prefix(out);
    Piece::Last(out)
}

/// The end of a call whose answer is a message of `size` bytes, above [`MESSAGE_SIZE_MAX`].
pub(crate) fn too_large(size: u64) -> Status {
    let text =
        format!("grpc: trying to send message larger than max ({size} vs. {MESSAGE_SIZE_MAX})");
    Status::made(Code::ResourceExhausted, text)
}

/// Largest message sent, in bytes without its prefix: what every gRPC client can at most be told.
pub(crate) const MESSAGE_SIZE_MAX: u64 = (1 << 31) - 1;

fn respond(response: &Response, shard: &Shard, out: &mut Vec<u8>) {
    match &response.body {
        Body::Put { prev } => {
            kv::write_header(out, &response.header);
            if let Some(prev) = prev {
                kv::write_key_value(out, 2, prev);
            }
        }
        Body::DeleteRange { deleted, prevs } => {
            kv::write_header(out, &response.header);
            wire::put_uint_field(out, 2, deleted.cast_unsigned());
            for prev in prevs {
                kv::write_key_value(out, 3, prev);
            }
        }
        Body::Txn(outcome) => {
            kv::write_header(out, &response.header);
            txn::write_outcome(out, outcome);
        }
        Body::HashKv { hash, compacted, revision } => {
            kv::write_header(out, &response.header);
            wire::put_uint_field(out, 2, u64::from(*hash));
            let compacted = compacted.map_or(-1, |revision| revision.0);
            wire::put_uint_field(out, 3, compacted.cast_unsigned());
            wire::put_uint_field(out, 4, revision.0.cast_unsigned());
        }
        Body::Hash { hash } => {
            kv::write_header(out, &response.header);
            wire::put_uint_field(out, 2, u64::from(*hash));
        }
        Body::Status(status) => {
            let message = status_response(&response.header, status, shard.quota_bytes());
            message.encode(out).expect("a vector takes every message");
        }
        // etcd's have no header either.
        Body::Defragment | Body::MoveLeader => {}
        // Nothing raises an alarm yet, so there is none to name.
        Body::Compact | Body::Alarms | Body::LeaseRevoke => {
            kv::write_header(out, &response.header);
        }
        Body::LeaseGrant { id, ttl } | Body::LeaseKeepAlive { id, ttl } => {
            kv::write_header(out, &response.header);
            lease::write_lasting(out, *id, *ttl);
        }
        Body::LeaseTimeToLive { id, ttl, granted, keys } => {
            kv::write_header(out, &response.header);
            lease::write_time_to_live(out, *id, (*ttl, *granted), keys);
        }
        Body::LeaseLeases { leases } => {
            kv::write_header(out, &response.header);
            lease::write_leases(out, leases);
        }
        Body::MemberAdd { member: new, members } => {
            let message = etcdserverpb::MemberAddResponse {
                header: Some(header(&response.header)),
                member: Some(member(new)),
                members: members.iter().map(member).collect(),
            };
            message.encode(out).expect("a vector takes every message");
        }
        // The answers to a removal, an update and a promotion have the same fields.
        Body::MemberList(members) => {
            let message = etcdserverpb::MemberListResponse {
                header: Some(header(&response.header)),
                members: members.iter().map(member).collect(),
            };
            message.encode(out).expect("a vector takes every message");
        }
    }
}

fn status_response(
    head: &Header,
    status: &request::Status,
    quota: i64,
) -> etcdserverpb::StatusResponse {
    etcdserverpb::StatusResponse {
        header: Some(header(head)),
        version: ETCD_VERSION.into(),
        db_size: to_i64(status.size_allocated),
        leader: status.leader.map_or(0, |leader| leader.0),
        raft_index: status.committed.0,
        raft_term: head.term.0,
        raft_applied_index: status.applied.0,
        errors: match status.leader {
            Some(_) => Vec::new(),
            None => vec!["etcdserver: no leader".into()],
        },
        db_size_in_use: to_i64(status.size_in_use),
        is_learner: status.learner,
        storage_version: CLUSTER_VERSION.into(),
        db_size_quota: quota,
        downgrade_info: Some(etcdserverpb::DowngradeInfo::default()),
    }
}

/// A header as prost has it.
pub(crate) fn header(header: &Header) -> etcdserverpb::ResponseHeader {
    etcdserverpb::ResponseHeader {
        cluster_id: header.cluster.0,
        member_id: header.member.0,
        revision: header.revision.0,
        raft_term: header.term.0,
    }
}

fn member(member: &Member) -> etcdserverpb::Member {
    etcdserverpb::Member {
        id: member.id.0,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.learner,
    }
}

fn to_i64(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

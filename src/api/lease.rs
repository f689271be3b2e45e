//! The calls about leases: protobuf to requests, and answers to protobuf.

use crate::api::kv;
use crate::api::status::Status;
use crate::api::wire;
use crate::api::wire::Fields;
use crate::api::wire::Value;
use crate::shard::request::Request;
use crate::types::LeaseId;
use bytes::Bytes;

/// A `LeaseGrantRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn grant(message: &[u8]) -> Result<Request, Status> {
    let (mut ttl, mut id) = (0, LeaseId(0));
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(kv::malformed)? {
        match field {
            (1, Value::Varint(number)) => ttl = number.cast_signed(),
            (2, Value::Varint(number)) => id = LeaseId(number.cast_signed()),
            _ => {}
        }
    }
    Ok(Request::LeaseGrant { id, ttl })
}

/// A `LeaseRevokeRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn revoke(message: &[u8]) -> Result<Request, Status> {
    only_id(message).map(|id| Request::LeaseRevoke { id })
}

/// A `LeaseKeepAliveRequest`: one of many on a stream.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn keep_alive(message: &[u8]) -> Result<Request, Status> {
    only_id(message).map(|id| Request::LeaseKeepAlive { id })
}

/// A `LeaseTimeToLiveRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn time_to_live(message: &[u8]) -> Result<Request, Status> {
    let (mut id, mut keys) = (LeaseId(0), false);
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(kv::malformed)? {
        match field {
            (1, Value::Varint(number)) => id = LeaseId(number.cast_signed()),
            (2, Value::Varint(number)) => keys = number != 0,
            _ => {}
        }
    }
    Ok(Request::LeaseTimeToLive { id, keys })
}

/// A `LeaseLeasesRequest`, which has no fields of its own.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn leases(message: &[u8]) -> Result<Request, Status> {
    let mut fields = Fields::new(message);
    while fields.next().map_err(kv::malformed)?.is_some() {}
    Ok(Request::LeaseLeases)
}

/// A message whose first field is the id of a lease.
fn only_id(message: &[u8]) -> Result<LeaseId, Status> {
    let mut id = LeaseId(0);
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(kv::malformed)? {
        if let (1, Value::Varint(number)) = field {
            id = LeaseId(number.cast_signed());
        }
    }
    Ok(id)
}

/// Appends what a `LeaseGrantResponse` or a `LeaseKeepAliveResponse` says beside its header.
pub(crate) fn write_lasting(out: &mut Vec<u8>, id: LeaseId, ttl: i64) {
    wire::put_uint_field(out, 2, id.0.cast_unsigned());
    wire::put_uint_field(out, 3, ttl.cast_unsigned());
}

/// Appends what a `LeaseTimeToLiveResponse` says beside its header.
pub(crate) fn write_time_to_live(
    out: &mut Vec<u8>,
    id: LeaseId,
    (ttl, granted): (i64, i64),
    keys: &[Bytes],
) {
    write_lasting(out, id, ttl);
    wire::put_uint_field(out, 4, granted.cast_unsigned());
    for key in keys {
        wire::put_bytes_field(out, 5, key);
    }
}

/// Appends what a `LeaseLeasesResponse` says beside its header.
pub(crate) fn write_leases(out: &mut Vec<u8>, leases: &[LeaseId]) {
    for lease in leases {
        let id = lease.0.cast_unsigned();
        wire::put_message_head(out, 2, wire::uint_field_len(1, id));
        wire::put_uint_field(out, 1, id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::etcdserverpb as pb;
    use crate::api::status;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn requests_are_read_as_prost_reads_them(
            id in any::<i64>(), ttl in any::<i64>(), keys in any::<bool>(),
        ) {
            let lease = LeaseId(id);
            let message = pb::LeaseGrantRequest { ttl, id }.encode_to_vec();
            prop_assert_eq!(grant(&message), Ok(Request::LeaseGrant { id: lease, ttl }));
            let message = pb::LeaseRevokeRequest { id }.encode_to_vec();
            prop_assert_eq!(revoke(&message), Ok(Request::LeaseRevoke { id: lease }));
            let message = pb::LeaseKeepAliveRequest { id }.encode_to_vec();
            prop_assert_eq!(keep_alive(&message), Ok(Request::LeaseKeepAlive { id: lease }));
            let message = pb::LeaseTimeToLiveRequest { id, keys }.encode_to_vec();
            let due = Request::LeaseTimeToLive { id: lease, keys };
            prop_assert_eq!(time_to_live(&message), Ok(due));
        }

        #[test]
        fn no_bytes_make_a_reader_panic(message in proptest::collection::vec(any::<u8>(), 0..60)) {
            for read in [grant, revoke, keep_alive, time_to_live, leases] {
                let _ = read(&message);
            }
        }

        #[test]
        fn answers_are_what_prost_would_write(
            ids in proptest::collection::vec(any::<i64>(), 1..5),
            ttl in any::<i64>(),
            granted in any::<i64>(),
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..4),
        ) {
            let id = ids[0];
            let mut out = Vec::new();
            write_lasting(&mut out, LeaseId(id), ttl);
            let due = pb::LeaseGrantResponse { header: None, id, ttl, error: String::new() };
            prop_assert_eq!(&out, &due.encode_to_vec());
            let due = pb::LeaseKeepAliveResponse { header: None, id, ttl };
            prop_assert_eq!(&out, &due.encode_to_vec());
            out.clear();
            let keys: Vec<Bytes> = keys.into_iter().map(Bytes::from).collect();
            write_time_to_live(&mut out, LeaseId(id), (ttl, granted), &keys);
            let due =
                pb::LeaseTimeToLiveResponse { header: None, id, ttl, granted_ttl: granted, keys };
            prop_assert_eq!(&out, &due.encode_to_vec());
            out.clear();
            let leases: Vec<_> = ids.iter().map(|id| LeaseId(*id)).collect();
            write_leases(&mut out, &leases);
            let leases = ids.iter().map(|id| pb::LeaseStatus { id: *id }).collect();
            let due = pb::LeaseLeasesResponse { header: None, leases };
            prop_assert_eq!(&out, &due.encode_to_vec());
        }
    }

    #[test]
    fn what_is_no_message_is_said_so() {
        for read in [grant, revoke, keep_alive, time_to_live, leases] {
            assert_eq!(read(b"\xff"), Err(status::MALFORMED));
        }
        assert_eq!(leases(b""), Ok(Request::LeaseLeases));
    }
}

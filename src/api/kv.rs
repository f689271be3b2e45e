//! The KV calls: protobuf to commands and queries, rows to protobuf, without a tree in between.

use crate::api::status;
use crate::api::status::Code;
use crate::api::status::Status;
use crate::api::wire;
use crate::api::wire::Fields;
use crate::api::wire::Malformed;
use crate::api::wire::Value;
use crate::mvcc::KeyRange;
use crate::mvcc::KeyValue;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::shard::command::Command;
use crate::shard::list::RowShape;
use crate::shard::request::Header;
use crate::shard::request::Range;
use crate::shard::request::Request;
use crate::types::LeaseId;

/// Why a request's bytes did not become a [`Request`].
pub(crate) fn malformed(_: Malformed) -> Status {
    status::MALFORMED
}

/// A `PutRequest` as a change.
///
/// # Errors
/// etcd's, in etcd's order (`server/etcdserver/api/v3rpc/key.go`, `checkPutRequest`).
pub(crate) fn put(message: &[u8]) -> Result<Request, Status> {
    let fields = PutFields::read(message).map_err(malformed)?;
    fields.check().map_err(|refusal| Status::from(&refusal))?;
    let PutFields { key, value, lease, prev_kv, ignore_value, ignore_lease } = fields;
    let command = Command::Put { key, value, lease, prev_kv, ignore_value, ignore_lease };
    Ok(Request::Write(command.encode()))
}

/// A `PutRequest` where it lies.
#[derive(Default)]
pub(crate) struct PutFields<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) lease: i64,
    pub(crate) prev_kv: bool,
    pub(crate) ignore_value: bool,
    pub(crate) ignore_lease: bool,
}

impl<'a> PutFields<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut put = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => put.key = bytes,
                (2, Value::Bytes(bytes)) => put.value = bytes,
                (3, Value::Varint(number)) => put.lease = number.cast_signed(),
                (4, Value::Varint(number)) => put.prev_kv = number != 0,
                (5, Value::Varint(number)) => put.ignore_value = number != 0,
                (6, Value::Varint(number)) => put.ignore_lease = number != 0,
                _ => {}
            }
        }
        Ok(put)
    }

    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.key.is_empty() {
            return Err(Refusal::EmptyKey);
        }
        if self.ignore_value && !self.value.is_empty() {
            return Err(Refusal::ValueProvided);
        }
        if self.ignore_lease && self.lease != 0 {
            return Err(Refusal::LeaseProvided);
        }
        Ok(())
    }
}

/// A `DeleteRangeRequest` as a change.
///
/// # Errors
/// Without a key, and for bytes that are no message.
pub(crate) fn delete_range(message: &[u8]) -> Result<Request, Status> {
    let DeleteFields { key, range_end, prev_kv } =
        DeleteFields::read(message).map_err(malformed)?;
    if key.is_empty() {
        return Err(Status::from(&Refusal::EmptyKey));
    }
    Ok(Request::Write(Command::DeleteRange { key, range_end, prev_kv }.encode()))
}

/// A `DeleteRangeRequest` where it lies.
#[derive(Default)]
pub(crate) struct DeleteFields<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) range_end: &'a [u8],
    pub(crate) prev_kv: bool,
}

impl<'a> DeleteFields<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut delete = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => delete.key = bytes,
                (2, Value::Bytes(bytes)) => delete.range_end = bytes,
                (3, Value::Varint(number)) => delete.prev_kv = number != 0,
                _ => {}
            }
        }
        Ok(delete)
    }
}

/// A `RangeRequest` as a read.
///
/// # Errors
/// Without a key, for a sort order or target that is none, and for bytes that are no message.
pub(crate) fn range(message: &[u8]) -> Result<Request, Status> {
    let mut fields = RangeFields::read(message).map_err(malformed)?;
    fields.check().map_err(|refusal| Status::from(&refusal))?;
    let RangeFields { key, range_end, serializable, query, .. } = fields;
    Ok(Request::Range(Range::new(key, range_end, &query, serializable)))
}

/// Whether the message is a `RangeRequest` that has to see all that was there before it.
pub(crate) fn is_linearizable(message: &[u8]) -> bool {
    RangeFields::read(message).is_ok_and(|fields| !fields.serializable)
}

/// A `RangeRequest` as a read that is told in pieces.
///
/// # Errors
/// As [`range`], and `Unimplemented` for what etcd does not stream. So is another target than the
/// key without an order: etcd takes that, sorts each message by itself, and goes on after whatever
/// key came last, so that rows are missing or there twice.
pub(crate) fn range_stream(message: &[u8]) -> Result<Request, Status> {
    let mut fields = RangeFields::read(message).map_err(|_| status::MALFORMED_OF_STREAM)?;
    fields.check().map_err(|refusal| Status::from(&refusal))?;
    let query = &mut fields.query;
    if (query.order, query.target) == (SortOrder::Ascend, SortTarget::Key) {
        query.order = SortOrder::None;
    }
    let text = if (query.order, query.target) != (SortOrder::None, SortTarget::Key) {
        "RangeStream does not support custom sort orders"
    } else if query.drops() {
        "RangeStream does not support revision filters"
    } else {
        let RangeFields { key, range_end, serializable, query, .. } = fields;
        return Ok(Request::RangeStream(Range::new(key, range_end, &query, serializable)));
    };
    Err(Status::fixed(Code::Unimplemented, text))
}

/// A `RangeRequest` where it lies; the query's own range is not set.
pub(crate) struct RangeFields<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) range_end: &'a [u8],
    pub(crate) order: i32,
    pub(crate) target: i32,
    pub(crate) serializable: bool,
    pub(crate) query: RangeQuery<'a>,
}

impl<'a> RangeFields<'a> {
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let (mut key, mut range_end): (&[u8], &[u8]) = (&[], &[]);
        let (mut order, mut target, mut serializable) = (0, 0, false);
        let mut query = RangeQuery::new(KeyRange::One(&[]));
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(bytes)) => key = bytes,
                (2, Value::Bytes(bytes)) => range_end = bytes,
                (3, Value::Varint(number)) => query.limit = number.cast_signed(),
                (4, Value::Varint(number)) => query.revision = number.cast_signed(),
                (5, Value::Varint(number)) => order = wire::int32(number),
                (6, Value::Varint(number)) => target = wire::int32(number),
                (7, Value::Varint(number)) => serializable = number != 0,
                (8, Value::Varint(number)) => query.keys_only = number != 0,
                (9, Value::Varint(number)) => query.count_only = number != 0,
                (10, Value::Varint(number)) => query.min_mod_revision = number.cast_signed(),
                (11, Value::Varint(number)) => query.max_mod_revision = number.cast_signed(),
                (12, Value::Varint(number)) => query.min_create_revision = number.cast_signed(),
                (13, Value::Varint(number)) => query.max_create_revision = number.cast_signed(),
                _ => {}
            }
        }
        Ok(Self { key, range_end, order, target, serializable, query })
    }

    /// Checks key and sorting, and sets the query's.
    pub(crate) fn check(&mut self) -> Result<(), Refusal> {
        if self.key.is_empty() {
            return Err(Refusal::EmptyKey);
        }
        self.query.order = self.order.try_into()?;
        self.query.target = self.target.try_into()?;
        Ok(())
    }
}

/// A `CompactionRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn compact(message: &[u8]) -> Result<Request, Status> {
    let (mut revision, mut physical) = (0, false);
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(malformed)? {
        match field {
            (1, Value::Varint(number)) => revision = number.cast_signed(),
            (2, Value::Varint(number)) => physical = number != 0,
            _ => {}
        }
    }
    Ok(Request::Write(Command::Compact { revision, physical }.encode()))
}

/// A `HashKVRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn hash_kv(message: &[u8]) -> Result<Request, Status> {
    let mut revision = 0;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(malformed)? {
        if let (1, Value::Varint(number)) = field {
            revision = number.cast_signed();
        }
    }
    Ok(Request::HashKv { revision })
}

/// A `HashRequest`, which has no fields of its own.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn hash(message: &[u8]) -> Result<Request, Status> {
    pass_over(message)?;
    Ok(Request::Hash)
}

/// A `DefragmentRequest`, which has no fields of its own.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn defragment(message: &[u8]) -> Result<Request, Status> {
    pass_over(message)?;
    Ok(Request::Defragment)
}

/// Looks at a message of which no field says anything.
fn pass_over(message: &[u8]) -> Result<(), Status> {
    let mut fields = Fields::new(message);
    while fields.next().map_err(malformed)?.is_some() {}
    Ok(())
}

/// A `MemberListRequest`.
///
/// # Errors
/// For bytes that are no message.
pub(crate) fn member_list(message: &[u8]) -> Result<Request, Status> {
    let mut linearizable = false;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(malformed)? {
        if let (1, Value::Varint(number)) = field {
            linearizable = number != 0;
        }
    }
    Ok(Request::MemberList { linearizable })
}

/// An `AlarmRequest` that asks which alarms there are.
///
/// # Errors
/// `Unimplemented` for raising and clearing one, and for bytes that are no message.
pub(crate) fn alarm(message: &[u8]) -> Result<Request, Status> {
    let mut action = 0;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next().map_err(malformed)? {
        if let (1, Value::Varint(number)) = field {
            action = wire::int32(number);
        }
    }
    if action == 0 {
        return Ok(Request::Alarms);
    }
    let text = "etcdserverpb.Maintenance/Alarm is built into ringd only as GET yet";
    Err(Status::fixed(Code::Unimplemented, text))
}

/// Appends a `ResponseHeader` as field 1.
pub(crate) fn write_header(out: &mut Vec<u8>, header: &Header) {
    let revision = header.revision.0.cast_unsigned();
    let len = wire::uint_field_len(1, header.cluster.0)
        + wire::uint_field_len(2, header.member.0)
        + wire::uint_field_len(3, revision)
        + wire::uint_field_len(4, header.term.0);
    wire::put_message_head(out, 1, len);
    wire::put_uint_field(out, 1, header.cluster.0);
    wire::put_uint_field(out, 2, header.member.0);
    wire::put_uint_field(out, 3, revision);
    wire::put_uint_field(out, 4, header.term.0);
}

/// A key and what it holds, as `mvccpb.KeyValue` has it.
pub(crate) struct Pair<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: u64,
    pub(crate) mod_revision: u64,
    pub(crate) version: u64,
    pub(crate) value: &'a [u8],
    pub(crate) lease: u64,
}

impl<'a> Pair<'a> {
    fn of(pair: &'a KeyValue) -> Self {
        Self {
            key: &pair.key,
            create_revision: pair.create_revision.0.cast_unsigned(),
            mod_revision: pair.location.main.0.cast_unsigned(),
            version: pair.version.cast_unsigned(),
            value: pair.value.as_deref().expect("an answer leaves once its values are here"),
            lease: pair.lease.0.cast_unsigned(),
        }
    }

    /// Bytes of its message.
    pub(crate) fn len(&self) -> usize {
        wire::bytes_field_len(1, self.key)
            + wire::uint_field_len(2, self.create_revision)
            + wire::uint_field_len(3, self.mod_revision)
            + wire::uint_field_len(4, self.version)
            + wire::bytes_field_len(5, self.value)
            + wire::uint_field_len(6, self.lease)
    }

    /// Appends it as a message field.
    pub(crate) fn write(&self, out: &mut Vec<u8>, number: u32) {
        wire::put_message_head(out, number, self.len());
        wire::put_bytes_field(out, 1, self.key);
        wire::put_uint_field(out, 2, self.create_revision);
        wire::put_uint_field(out, 3, self.mod_revision);
        wire::put_uint_field(out, 4, self.version);
        wire::put_bytes_field(out, 5, self.value);
        wire::put_uint_field(out, 6, self.lease);
    }
}

/// Bytes of the message of a pair that an answer owns.
pub(crate) fn key_value_len(pair: &KeyValue) -> usize {
    Pair::of(pair).len()
}

/// Appends a pair that an answer owns.
pub(crate) fn write_key_value(out: &mut Vec<u8>, number: u32, pair: &KeyValue) {
    Pair::of(pair).write(out, number);
}

/// Appends one row of a `RangeResponse` from where it lies in the keyspace.
pub(crate) fn write_row(out: &mut Vec<u8>, row: &Row<'_>, lease: LeaseId, value: &[u8]) {
    let pair = Pair {
        key: row.key,
        create_revision: row.create_revision.0.cast_unsigned(),
        mod_revision: row.location.main.0.cast_unsigned(),
        version: row.version.cast_unsigned(),
        value,
        lease: lease.0.cast_unsigned(),
    };
    pair.write(out, 2);
}

/// Bytes that a row takes in a `RangeResponse`.
pub(crate) fn row_len(row: &RowShape) -> usize {
    let len = wire::sized_field_len(1, row.key_len)
        + wire::uint_field_len(2, row.create_revision.0.cast_unsigned())
        + wire::uint_field_len(3, row.mod_revision.0.cast_unsigned())
        + wire::uint_field_len(4, row.version.cast_unsigned())
        + wire::sized_field_len(5, row.value_len)
        + wire::uint_field_len(6, row.lease.0.cast_unsigned());
    wire::message_field_len(2, len)
}

/// Appends what a `RangeResponse` says beside its header and rows.
pub(crate) fn write_summary(out: &mut Vec<u8>, more: bool, count: i64) {
    wire::put_uint_field(out, 3, u64::from(more));
    wire::put_uint_field(out, 4, count.cast_unsigned());
}

/// Bytes that [`write_summary`] appends.
pub(crate) fn summary_len(more: bool, count: i64) -> usize {
    wire::uint_field_len(3, u64::from(more)) + wire::uint_field_len(4, count.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::etcdserverpb as pb;
    use crate::shard::command::ArchivedCommand;
    use crate::types::ClusterId;
    use crate::types::Location;
    use crate::types::NodeId;
    use crate::types::Revision;
    use crate::types::Term;
    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    fn some_bytes() -> impl Strategy<Value = Bytes> {
        vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    prop_compose! {
        fn a_put()(
            key in some_bytes(),
            value in some_bytes(),
            lease in prop_oneof![Just(0), any::<i64>()],
            flags in any::<[bool; 3]>(),
        ) -> pb::PutRequest {
            let [prev_kv, ignore_value, ignore_lease] = flags;
            pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
        }
    }

    prop_compose! {
        fn a_range()(
            key in some_bytes(),
            range_end in some_bytes(),
            numbers in any::<[i64; 6]>(),
            sort in (-1..4_i32, -1..6_i32),
            flags in any::<[bool; 3]>(),
        ) -> pb::RangeRequest {
            let [limit, revision, min_mod_revision, max_mod_revision, min_create, max_create] =
                numbers;
            let [serializable, keys_only, count_only] = flags;
            pb::RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order: sort.0,
                sort_target: sort.1,
                serializable,
                keys_only,
                count_only,
                min_mod_revision,
                max_mod_revision,
                min_create_revision: min_create,
                max_create_revision: max_create,
            }
        }
    }

    proptest! {
        #[test]
        fn a_put_is_read_as_prost_reads_it(request in a_put()) {
            match put(&request.encode_to_vec()) {
                Err(status) => {
                    let refused = request.key.is_empty()
                        || (request.ignore_value && !request.value.is_empty())
                        || (request.ignore_lease && request.lease != 0);
                    prop_assert!(refused, "{status:?}");
                }
                Ok(Request::Write(data)) => match ArchivedCommand::open(&data) {
                    Ok(ArchivedCommand::Put {
                        key, value, lease, prev_kv, ignore_value, ignore_lease
                    }) => {
                        prop_assert_eq!(&key[..], &request.key[..]);
                        prop_assert_eq!(&value[..], &request.value[..]);
                        prop_assert_eq!(lease.to_native(), request.lease);
                        let flags = (*prev_kv, *ignore_value, *ignore_lease);
                        let due = (request.prev_kv, request.ignore_value, request.ignore_lease);
                        prop_assert_eq!(flags, due);
                    }
                    _ => prop_assert!(false, "no put"),
                },
                Ok(other) => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn a_range_is_read_as_prost_reads_it(request in a_range()) {
            match range(&request.encode_to_vec()) {
                Err(status) => prop_assert!(
                    request.key.is_empty()
                        || !(0..3).contains(&request.sort_order)
                        || !(0..5).contains(&request.sort_target),
                    "{status:?}"
                ),
                Ok(Request::Range(range)) => {
                    let query = range.query();
                    prop_assert_eq!(range.serializable, request.serializable);
                    prop_assert_eq!(query.range, KeyRange::new(&request.key, &request.range_end));
                    prop_assert_eq!(
                        (query.limit, query.revision, query.keys_only, query.count_only),
                        (request.limit, request.revision, request.keys_only, request.count_only)
                    );
                    prop_assert_eq!(
                        [
                            query.min_mod_revision,
                            query.max_mod_revision,
                            query.min_create_revision,
                            query.max_create_revision,
                        ],
                        [
                            request.min_mod_revision,
                            request.max_mod_revision,
                            request.min_create_revision,
                            request.max_create_revision,
                        ]
                    );
                }
                Ok(other) => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(message in vec(any::<u8>(), 0..120)) {
            for read in [
                put, range, range_stream, delete_range, compact, hash_kv, member_list, alarm,
            ] {
                let _ = read(&message);
            }
        }

        #[test]
        fn a_row_takes_the_bytes_that_were_foretold(
            sizes in [0_usize..70_000, 0..70_000],
            numbers in any::<[u64; 4]>(),
            shifts in [0_u32..64, 0..64, 0..64, 0..64],
        ) {
            let [created, changed, version, lease] =
                std::array::from_fn(|at| (numbers[at] >> shifts[at]).cast_signed());
            let (key, value) = (vec![b'k'; sizes[0]], vec![b'v'; sizes[1]]);
            let row = Row {
                key: &key,
                create_revision: Revision(created),
                location: Location { main: Revision(changed), sub: 3 },
                version,
            };
            let mut out = Vec::new();
            write_row(&mut out, &row, LeaseId(lease), &value);
            let shape = RowShape {
                key_len: key.len(),
                value_len: value.len(),
                create_revision: row.create_revision,
                mod_revision: row.location.main,
                version,
                lease: LeaseId(lease),
            };
            prop_assert_eq!(out.len(), row_len(&shape));
            out.clear();
            write_summary(&mut out, version > 0, changed);
            prop_assert_eq!(out.len(), summary_len(version > 0, changed));
        }

        #[test]
        fn an_answer_is_what_prost_would_write(
            pairs in vec((some_bytes(), some_bytes(), any::<[u16; 4]>()), 0..4),
            revision in any::<u32>(),
            more in any::<bool>(),
        ) {
            let header = Header {
                cluster: ClusterId(u64::MAX),
                member: NodeId(7),
                revision: Revision(revision.into()),
                term: Term(3),
            };
            let mut out = Vec::new();
            write_header(&mut out, &header);
            let mut kvs = Vec::new();
            for (key, value, [created, changed, version, lease]) in pairs {
                let pair = KeyValue {
                    key: key.clone(),
                    create_revision: Revision(created.into()),
                    location: Location { main: Revision(changed.into()), sub: 0 },
                    version: version.into(),
                    lease: LeaseId(-i64::from(lease)),
                    value: Some(value.clone()),
                };
                write_key_value(&mut out, 2, &pair);
                kvs.push(crate::api::proto::mvccpb::KeyValue {
                    key,
                    create_revision: created.into(),
                    mod_revision: changed.into(),
                    version: version.into(),
                    value,
                    lease: -i64::from(lease),
                });
            }
            let count = i64::from(revision) + 1;
            write_summary(&mut out, more, count);
            let header = Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                member_id: 7,
                revision: revision.into(),
                raft_term: 3,
            });
            let due = pb::RangeResponse { header, kvs, more, count };
            prop_assert_eq!(out, due.encode_to_vec());
        }
    }

    #[test]
    fn a_stream_is_in_the_order_of_keys_or_refused() {
        for (sort_order, sort_target, is_taken) in
            [(0, 0, true), (1, 0, true), (2, 0, false), (0, 1, false), (1, 1, false)]
        {
            let key = Bytes::from_static(b"k");
            let range = pb::RangeRequest { key, sort_order, sort_target, ..Default::default() };
            let request = range_stream(&range.encode_to_vec());
            assert_eq!(request.is_ok(), is_taken, "{range:?}");
        }
    }

    #[test]
    fn a_hash_is_asked_for_by_a_message() {
        assert_eq!(hash(b""), Ok(Request::Hash));
        assert_eq!(hash(b"\xff"), Err(status::MALFORMED));
        assert_eq!(defragment(b""), Ok(Request::Defragment));
        assert_eq!(defragment(b"\xff"), Err(status::MALFORMED));
    }
}

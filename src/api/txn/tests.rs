use super::*;
use crate::api::proto::etcdserverpb as pb;
use crate::api::proto::mvccpb;
use crate::api::status;
use crate::api::status::Code;
use crate::mvcc::KeyRange;
use crate::mvcc::RangeQuery;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::shard::command::ArchivedCommand;
use crate::types::LeaseId;
use crate::types::Location;
use bytes::Bytes;
use pb::compare::TargetUnion;
use pb::request_op::Request as Member;
use pb::response_op::Response as Answer;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

fn some_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..5).prop_map(Bytes::from)
}

/// Mostly a key, and now and then none.
fn a_key() -> impl Strategy<Value = Bytes> {
    prop_oneof![1 => Just(Bytes::new()), 30 => vec(any::<u8>(), 1..5).prop_map(Bytes::from)]
}

fn a_number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 0..5_i64, any::<i64>()]
}

prop_compose! {
    fn a_compare()(
        result in -1..6_i32,
        target in -1..7_i32,
        key in a_key(),
        range_end in some_bytes(),
        target_union in option::of(prop_oneof![
            a_number().prop_map(TargetUnion::Version),
            a_number().prop_map(TargetUnion::CreateRevision),
            a_number().prop_map(TargetUnion::ModRevision),
            some_bytes().prop_map(TargetUnion::Value),
            a_number().prop_map(TargetUnion::Lease),
        ]),
    ) -> pb::Compare {
        pb::Compare { result, target, key, range_end, target_union }
    }
}

prop_compose! {
    fn a_range()(
        key in a_key(),
        range_end in some_bytes(),
        numbers in (a_number(), a_number(), a_number(), a_number(), a_number(), a_number()),
        sort_order in prop_oneof![30 => 0..3_i32, 1 => Just(3)],
        sort_target in prop_oneof![30 => 0..5_i32, 1 => Just(-1)],
        flags in any::<[bool; 3]>(),
    ) -> pb::RangeRequest {
        pb::RangeRequest {
            key,
            range_end,
            limit: numbers.0,
            revision: numbers.1,
            sort_order,
            sort_target,
            serializable: flags[0],
            keys_only: flags[1],
            count_only: flags[2],
            min_mod_revision: numbers.2,
            max_mod_revision: numbers.3,
            min_create_revision: numbers.4,
            max_create_revision: numbers.5,
        }
    }
}

fn a_leaf() -> impl Strategy<Value = Option<Member>> {
    let put = (a_key(), some_bytes(), any::<[bool; 2]>(), prop::bool::weighted(0.03), a_number());
    let put = put.prop_map(|(key, value, [prev_kv, ignore_lease], ignore_value, lease)| {
        let lease = if ignore_lease { 0 } else { lease };
        pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease }
    });
    let delete = (a_key(), some_bytes(), any::<bool>())
        .prop_map(|(key, range_end, prev_kv)| pb::DeleteRangeRequest { key, range_end, prev_kv });
    prop_oneof![
        1 => Just(None),
        20 => a_range().prop_map(|range| Some(Member::RequestRange(range))),
        20 => put.prop_map(|put| Some(Member::RequestPut(put))),
        10 => delete.prop_map(|delete| Some(Member::RequestDeleteRange(delete))),
    ]
}

fn a_txn() -> impl Strategy<Value = pb::TxnRequest> {
    let op = a_leaf().prop_recursive(4, 16, 3, |op| {
        let ops = || vec(op.clone().prop_map(|request| pb::RequestOp { request }), 0..3);
        (vec(a_compare(), 0..3), ops(), ops())
            .prop_map(|(compare, success, failure)| {
                Some(Member::RequestTxn(pb::TxnRequest { compare, success, failure }))
            })
            .boxed()
    });
    let ops = move || vec(op.clone().prop_map(|request| pb::RequestOp { request }), 0..4);
    (vec(a_compare(), 0..3), ops(), ops()).prop_map(|(compare, success, failure)| pb::TxnRequest {
        compare,
        success,
        failure,
    })
}

/// What etcd finds first in a transaction, duplicates apart.
fn fault(txn: &pb::TxnRequest, ops_max: usize) -> Option<Refusal> {
    let most = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if most > ops_max {
        return Some(Refusal::TooManyOps);
    }
    if txn.compare.iter().any(|compare| compare.key.is_empty()) {
        return Some(Refusal::EmptyKey);
    }
    let ops = txn.success.iter().chain(&txn.failure);
    let keyless = |key: &Bytes| key.is_empty().then_some(Refusal::EmptyKey);
    let mut faults = ops.map(|op| match &op.request {
        None => Some(Refusal::KeyNotFound),
        Some(Member::RequestTxn(inner)) => fault(inner, ops_max - most),
        Some(Member::RequestRange(range)) => keyless(&range.key).or_else(|| {
            let known = range.sort_order < 3 && range.sort_target >= 0;
            (!known).then_some(Refusal::InvalidSortOption)
        }),
        Some(Member::RequestPut(put)) => keyless(&put.key).or_else(|| {
            (put.ignore_value && !put.value.is_empty()).then_some(Refusal::ValueProvided)
        }),
        Some(Member::RequestDeleteRange(delete)) => keyless(&delete.key),
    });
    faults.find_map(|fault| fault)
}

/// A range as the two fields it was made of.
fn ends(range: KeyRange<'_>) -> (Bytes, Bytes) {
    let copy = Bytes::copy_from_slice;
    match range {
        KeyRange::One(key) => (copy(key), Bytes::new()),
        KeyRange::Span { start, end } => (copy(start), copy(end)),
        KeyRange::From(key) => (copy(key), Bytes::from_static(b"\0")),
    }
}

fn rebuilt_range(query: &RangeQuery<'_>) -> pb::RangeRequest {
    let (key, range_end) = ends(query.range);
    let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
    let targets = [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let place = |at: Option<usize>| i32::try_from(at.expect("each is listed")).expect("few");
    pb::RangeRequest {
        key,
        range_end,
        limit: query.limit,
        revision: query.revision,
        sort_order: place(orders.iter().position(|order| *order == query.order)),
        sort_target: place(targets.iter().position(|target| *target == query.target)),
        serializable: false,
        keys_only: query.keys_only,
        count_only: query.count_only,
        min_mod_revision: query.min_mod_revision,
        max_mod_revision: query.max_mod_revision,
        min_create_revision: query.min_create_revision,
        max_create_revision: query.max_create_revision,
    }
}

/// A transaction as it was asked for, read back from a command.
fn rebuilt(script: &impl Script, txn: usize) -> pb::TxnRequest {
    let head = script.head(txn);
    let compare = head.compares.map(|at| {
        let compare = script.compare(at);
        let (key, range_end) = ends(compare.range);
        let (target, target_union) = match compare.operand {
            txn::Operand::Version(version) => (0, Some(TargetUnion::Version(version))),
            txn::Operand::Create(revision) => (1, Some(TargetUnion::CreateRevision(revision))),
            txn::Operand::Mod(revision) => (2, Some(TargetUnion::ModRevision(revision))),
            txn::Operand::Value(value) => {
                (3, Some(TargetUnion::Value(Bytes::copy_from_slice(value))))
            }
            txn::Operand::Lease(lease) => (4, Some(TargetUnion::Lease(lease))),
            txn::Operand::Unknown => (9, None),
        };
        let result = match compare.operator {
            txn::Operator::Equal => 0,
            txn::Operator::Greater => 1,
            txn::Operator::Less => 2,
            txn::Operator::NotEqual => 3,
            txn::Operator::Unknown => 9,
        };
        pb::Compare { result, target, key, range_end, target_union }
    });
    let op = |at| {
        let member = match script.op(at) {
            txn::Op::Range(query) => Member::RequestRange(rebuilt_range(&query)),
            txn::Op::Put(put) => Member::RequestPut(pb::PutRequest {
                key: Bytes::copy_from_slice(put.key),
                value: Bytes::copy_from_slice(put.value),
                lease: put.lease.0,
                prev_kv: put.prev_kv,
                ignore_value: put.ignore_value,
                ignore_lease: put.ignore_lease,
            }),
            txn::Op::DeleteRange { range, prev_kv } => {
                let (key, range_end) = ends(range);
                Member::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv })
            }
            txn::Op::Txn(inner) => Member::RequestTxn(rebuilt(script, inner)),
            txn::Op::Refused(refusal) => panic!("{refusal} in a command"),
        };
        pb::RequestOp { request: Some(member) }
    };
    pb::TxnRequest {
        compare: compare.collect(),
        success: head.success.map(op).collect(),
        failure: head.failure.map(op).collect(),
    }
}

/// A transaction without what a command leaves out because it means nothing.
fn plain(mut txn: pb::TxnRequest) -> pb::TxnRequest {
    for compare in &mut txn.compare {
        if !(0..4).contains(&compare.result) {
            compare.result = 9;
        }
        let operand = compare.target_union.take();
        compare.target_union = match (compare.target, operand) {
            (0, Some(TargetUnion::Version(version))) => Some(TargetUnion::Version(version)),
            (0, _) => Some(TargetUnion::Version(0)),
            (1, Some(TargetUnion::CreateRevision(at))) => Some(TargetUnion::CreateRevision(at)),
            (1, _) => Some(TargetUnion::CreateRevision(0)),
            (2, Some(TargetUnion::ModRevision(at))) => Some(TargetUnion::ModRevision(at)),
            (2, _) => Some(TargetUnion::ModRevision(0)),
            (3, Some(TargetUnion::Value(value))) => Some(TargetUnion::Value(value)),
            (3, _) => Some(TargetUnion::Value(Bytes::new())),
            (4, Some(TargetUnion::Lease(lease))) => Some(TargetUnion::Lease(lease)),
            (4, _) => Some(TargetUnion::Lease(0)),
            _ => {
                compare.target = 9;
                None
            }
        };
    }
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        op.request = match op.request.take() {
            Some(Member::RequestTxn(inner)) => Some(Member::RequestTxn(plain(inner))),
            Some(Member::RequestRange(range)) => {
                Some(Member::RequestRange(pb::RangeRequest { serializable: false, ..range }))
            }
            other => other,
        };
    }
    txn
}

fn code(result: Result<Request, Status>) -> Result<(), String> {
    result.map(|_| ()).map_err(|status| {
        assert_eq!(status.code, Code::InvalidArgument, "{status:?}");
        status.message.into_owned()
    })
}

proptest! {
    #[test]
    fn a_transaction_is_read_as_prost_reads_it(request in a_txn(), ops_max in 1..12_usize) {
        let read = txn(&request.encode_to_vec(), ops_max);
        if let Some(refusal) = fault(&request, ops_max) {
            prop_assert_eq!(code(read), Err(refusal.to_string()));
            return Ok(());
        }
        let mut ops = request.success.iter().chain(&request.failure);
        let all = |op: &pb::RequestOp| match &op.request {
            Some(Member::RequestRange(range)) => Some(range.serializable),
            Some(_) | None => None,
        };
        let kinds: Option<Vec<_>> = ops.by_ref().map(all).collect();
        let data = match read {
            Ok(Request::Write(data)) => {
                prop_assert_eq!(kinds, None);
                data
            }
            Ok(Request::ReadTxn { txn, serializable }) => {
                let due = kinds.map(|reads| reads.into_iter().all(|read| read));
                prop_assert_eq!(due, Some(serializable));
                txn
            }
            Ok(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
            Err(status) => {
                prop_assert_eq!(status, Status::from(&Refusal::DuplicateKey));
                return Ok(());
            }
        };
        let Ok(ArchivedCommand::Txn(found)) = ArchivedCommand::open(&data) else {
            return Err(TestCaseError::fail("no transaction"));
        };
        prop_assert_eq!(rebuilt(found, 0), plain(request));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(message in vec(any::<u8>(), 0..200)) {
        let _ = txn(&message, 128);
    }

    #[test]
    fn a_bent_transaction_does_not_make_the_reader_panic(
        request in a_txn(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut message = request.encode_to_vec();
        if !message.is_empty() {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let _ = txn(&message, 128);
    }

    #[test]
    fn an_outcome_is_what_prost_would_write(outcome in an_outcome()) {
        let mut out = Vec::new();
        write_outcome(&mut out, &outcome);
        let due = pb::TxnResponse { header: None, ..response(&outcome, None) };
        prop_assert_eq!(out, due.encode_to_vec());
    }
}

prop_compose! {
    fn a_pair()(
        key in a_key(),
        value in some_bytes(),
        numbers in any::<[u16; 3]>(),
        lease in any::<i64>(),
    ) -> KeyValue {
        KeyValue {
            key,
            create_revision: Revision(numbers[0].into()),
            location: Location { main: Revision(numbers[1].into()), sub: 0 },
            version: numbers[2].into(),
            lease: LeaseId(lease),
            value: Some(value),
        }
    }
}

fn an_outcome() -> impl Strategy<Value = Outcome> {
    let number = || any::<u16>().prop_map(i64::from);
    let range = (number(), vec(a_pair(), 0..4), any::<bool>(), number());
    let leaf = prop_oneof![
        range.prop_map(|(revision, rows, more, count)| OpResult::Range {
            revision: Revision(revision),
            rows,
            more,
            count,
            by_value: None,
        }),
        (number(), option::of(a_pair()))
            .prop_map(|(revision, prev)| OpResult::Put { revision: Revision(revision), prev }),
        (number(), number(), vec(a_pair(), 0..4)).prop_map(|(revision, deleted, prevs)| {
            OpResult::DeleteRange { revision: Revision(revision), deleted, prevs }
        }),
    ];
    let result = leaf.prop_recursive(4, 20, 4, |result| {
        (any::<bool>(), vec(result, 0..4))
            .prop_map(|(succeeded, results)| OpResult::Txn(Outcome { succeeded, results }))
    });
    (any::<bool>(), vec(result, 0..5))
        .prop_map(|(succeeded, results)| Outcome { succeeded, results })
}

fn key_value(pair: &KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: pair.key.clone(),
        create_revision: pair.create_revision.0,
        mod_revision: pair.location.main.0,
        version: pair.version,
        value: pair.value.clone().expect("a whole pair"),
        lease: pair.lease.0,
    }
}

fn response(outcome: &Outcome, header: Option<pb::ResponseHeader>) -> pb::TxnResponse {
    let header_at = |revision: Revision| {
        Some(pb::ResponseHeader { revision: revision.0, ..pb::ResponseHeader::default() })
    };
    let answer = |result: &OpResult| match result {
        OpResult::Range { revision, rows, more, count, .. } => {
            Answer::ResponseRange(pb::RangeResponse {
                header: header_at(*revision),
                kvs: rows.iter().map(key_value).collect(),
                more: *more,
                count: *count,
            })
        }
        OpResult::Put { revision, prev } => Answer::ResponsePut(pb::PutResponse {
            header: header_at(*revision),
            prev_kv: prev.as_ref().map(key_value),
        }),
        OpResult::DeleteRange { revision, deleted, prevs } => {
            Answer::ResponseDeleteRange(pb::DeleteRangeResponse {
                header: header_at(*revision),
                deleted: *deleted,
                prev_kvs: prevs.iter().map(key_value).collect(),
            })
        }
        OpResult::Txn(inner) => Answer::ResponseTxn(response(inner, header_at(Revision(0)))),
    };
    let answers = outcome.results.iter().map(answer);
    pb::TxnResponse {
        header,
        succeeded: outcome.succeeded,
        responses: answers.map(|answer| pb::ResponseOp { response: Some(answer) }).collect(),
    }
}

/// A transaction within so many others.
fn nested(depth: usize) -> Vec<u8> {
    let mut message = Vec::new();
    for _ in 1..depth {
        let mut op = Vec::with_capacity(message.len() + 8);
        wire::put_message_head(&mut op, 4, message.len());
        op.extend_from_slice(&message);
        message.clear();
        wire::put_message_head(&mut message, 2, op.len());
        message.extend_from_slice(&op);
    }
    message
}

#[test]
fn what_nests_too_deeply_is_refused_whatever_the_flag_says() {
    let deepest = txn(&nested(DEPTH_MAX), usize::MAX);
    assert!(matches!(deepest, Ok(Request::Write(_))));
    let text = || Err("etcdserver: too many operations in txn request".to_owned());
    assert_eq!(code(txn(&nested(DEPTH_MAX + 1), usize::MAX)), text());
    assert_eq!(code(txn(&nested(5000), usize::MAX)), text());
    // Each takes one of the 128, and the innermost none.
    assert!(txn(&nested(129), 128).is_ok());
    assert_eq!(code(txn(&nested(130), 128)), text());
}

#[test]
fn what_is_refused_for_its_size_is_not_taken_in() {
    let message = [(2 << 3) | 2, 0].repeat(500_000);
    let draft = Draft::read(&message, 128).expect("it is a message");
    assert!(draft.ops.capacity() < 10);
    assert_eq!(code(txn(&message, 128)), Err(Refusal::TooManyOps.to_string()));
}

#[test]
fn of_a_union_the_last_member_counts() {
    let put = pb::PutRequest { key: "k".into(), ..pb::PutRequest::default() };
    let delete = pb::DeleteRangeRequest { key: "d".into(), ..pb::DeleteRangeRequest::default() };
    let mut op = Vec::new();
    wire::put_message_head(&mut op, 2, put.encoded_len());
    put.encode(&mut op).expect("a vector takes every message");
    wire::put_message_head(&mut op, 3, delete.encoded_len());
    delete.encode(&mut op).expect("a vector takes every message");
    let mut message = Vec::new();
    wire::put_bytes_field(&mut message, 2, &op);
    let draft = Draft::read(&message, 128).expect("it is a message");
    let delete = Op::DeleteRange { key: b"d", range_end: b"", prev_kv: false };
    assert_eq!(draft.ops, [delete]);
}

#[test]
fn an_operation_that_says_the_same_twice_is_no_message() {
    let put = |field: &[u8]| [&[0x12, u8::try_from(field.len()).expect("short")], field].concat();
    let (key, value) = (put(b"\x0a\x01k"), put(b"\x12\x01v"));
    let txn_of = |op: &[u8]| txn(&put(op), 128);
    assert!(txn_of(&key).is_ok());
    assert_eq!(txn_of(&[key.clone(), value].concat()), Err(status::MALFORMED));
    // After another member it is begun anew.
    let range = b"\x0a\x03\x0a\x01k".as_slice();
    assert!(txn_of(&[key.as_slice(), range, key.as_slice()].concat()).is_ok());
}

//! Transactions: protobuf to a command, what one did to protobuf, without a tree on the way in.

use crate::api::kv;
use crate::api::kv::DeleteFields;
use crate::api::kv::PutFields;
use crate::api::kv::RangeFields;
use crate::api::status::Status;
use crate::api::wire;
use crate::api::wire::Fields;
use crate::api::wire::Malformed;
use crate::api::wire::Value;
use crate::mvcc::KeyValue;
use crate::mvcc::Refusal;
use crate::mvcc::txn;
use crate::mvcc::txn::DEPTH_MAX;
use crate::mvcc::txn::OpResult;
use crate::mvcc::txn::Outcome;
use crate::mvcc::txn::Script;
use crate::shard::command::Command;
use crate::shard::command::Compare;
use crate::shard::command::Head;
use crate::shard::command::Op;
use crate::shard::command::Operand;
use crate::shard::command::RangeOptions;
use crate::shard::command::Txn;
use crate::shard::request::Request;
use crate::types::Revision;
use std::collections::BTreeMap;
use std::slice;

/// A `TxnRequest` as a change, or as a read if it is nothing else.
///
/// # Errors
/// etcd's, in etcd's order, and for bytes that are no message.
pub(crate) fn txn(message: &[u8], ops_max: usize) -> Result<Request, Status> {
    let draft = Draft::read(message, ops_max).map_err(kv::malformed)?;
    txn::validate(&draft, ops_max).map_err(|refusal| Status::from(&refusal))?;
    let command = Command::Txn(draft.as_txn()).encode();
    Ok(if draft.reads_only {
        Request::ReadTxn { txn: command, serializable: draft.serializable }
    } else {
        Request::Write(command)
    })
}

/// A transaction on its way in, in the order that a command has.
#[derive(Debug)]
struct Draft<'a> {
    heads: Vec<Head>,
    compares: Vec<Compare<'a>>,
    ops: Vec<Op<'a>>,
    /// What is wrong with an operation; something stands in its place.
    refused: BTreeMap<usize, Refusal>,
    /// Whether every operation is a read, so far.
    reads_only: bool,
    /// Whether every read may be served as it is, so far.
    serializable: bool,
}

/// A transaction that was named and not yet read.
#[derive(Clone, Copy, Debug)]
struct Named<'a> {
    message: &'a [u8],
    /// The operation that it is; the outermost is none.
    at: usize,
    /// How many it is within, itself included.
    depth: usize,
    /// Operations that it may have.
    ops_max: usize,
}

/// A transaction's lists, still as messages.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    compares: usize,
    success: usize,
    failure: usize,
}

impl Counts {
    fn of(message: &[u8]) -> Result<Self, Malformed> {
        let mut counts = Self::default();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(_)) => counts.compares += 1,
                (2, Value::Bytes(_)) => counts.success += 1,
                (3, Value::Bytes(_)) => counts.failure += 1,
                _ => {}
            }
        }
        Ok(counts)
    }
}

impl<'a> Draft<'a> {
    /// Reads a transaction and all those within it, those of one depth after those of the one
    /// before.
    ///
    /// What can not but be refused is not read: neither is its size believed.
    fn read(message: &'a [u8], ops_max: usize) -> Result<Self, Malformed> {
        let mut draft = Self {
            heads: Vec::with_capacity(1),
            compares: Vec::new(),
            ops: Vec::new(),
            refused: BTreeMap::new(),
            reads_only: true,
            serializable: true,
        };
        let mut named = Vec::new();
        let mut next = Some(Named { message, at: 0, depth: 1, ops_max });
        while let Some(txn) = next {
            draft.read_txn(txn, &mut named)?;
            next = named.get(draft.heads.len() - 1).copied();
        }
        Ok(draft)
    }

    fn read_txn(&mut self, txn: Named<'a>, named: &mut Vec<Named<'a>>) -> Result<(), Malformed> {
        let counts = Counts::of(txn.message)?;
        let most = counts.compares.max(counts.success).max(counts.failure);
        let left = txn.ops_max.checked_sub(most).filter(|_| txn.depth <= DEPTH_MAX);
        if let Some(ops_max) = left {
            self.compares.reserve(counts.compares);
            self.ops.reserve(counts.success + counts.failure);
            let inner = Named { message: &[], at: 0, depth: txn.depth + 1, ops_max };
            self.read_list(txn.message, 1, inner, named)?;
            self.read_list(txn.message, 2, inner, named)?;
            let success = self.ops.len();
            self.read_list(txn.message, 3, inner, named)?;
            self.end(success);
        } else if txn.depth > 1 {
            self.refused.insert(txn.at, Refusal::TooManyOps);
            self.end(self.ops.len());
        } else {
            // The outermost has no operation to be refused by: it gets one.
            self.refuse(Refusal::TooManyOps);
            self.end(1);
        }
        Ok(())
    }

    /// Ends a transaction whose operations of success end at `success`.
    fn end(&mut self, success: usize) {
        let count = |len| u32::try_from(len).expect("a message is below 4 GiB");
        self.heads.push(Head {
            compares: count(self.compares.len()),
            success: count(success),
            failure: count(self.ops.len()),
        });
    }

    /// Reads the items of one of a transaction's lists.
    fn read_list(
        &mut self,
        message: &'a [u8],
        list: u32,
        inner: Named<'a>,
        named: &mut Vec<Named<'a>>,
    ) -> Result<(), Malformed> {
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field {
                (1, Value::Bytes(item)) if list == 1 => self.compares.push(compare(item)?),
                (number, Value::Bytes(item)) if number == list => {
                    self.read_op(item, inner, named)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read_op(
        &mut self,
        message: &'a [u8],
        inner: Named<'a>,
        named: &mut Vec<Named<'a>>,
    ) -> Result<(), Malformed> {
        // Of the members of a union the last one counts. The same one twice would have to be
        // merged, which nobody sends and so nobody is answered.
        let mut member: Option<(u32, &[u8])> = None;
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            if let (number @ 1..=4, Value::Bytes(message)) = field {
                if member.is_some_and(|(before, _)| before == number) {
                    return Err(Malformed);
                }
                member = Some((number, message));
            }
        }
        self.reads_only &= matches!(member, Some((1, _)));
        match member {
            Some((1, message)) => {
                let mut fields = RangeFields::read(message)?;
                self.serializable &= fields.serializable;
                let checked = fields.check();
                self.push(checked, range(&fields));
            }
            Some((2, message)) => {
                let fields = PutFields::read(message)?;
                let checked = fields.check();
                let PutFields { key, value, lease, prev_kv, ignore_value, ignore_lease } = fields;
                let put = Op::Put { key, value, lease, prev_kv, ignore_value, ignore_lease };
                self.push(checked, put);
            }
            Some((3, message)) => {
                let DeleteFields { key, range_end, prev_kv } = DeleteFields::read(message)?;
                let checked = if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) };
                self.push(checked, Op::DeleteRange { key, range_end, prev_kv });
            }
            Some((_, message)) => {
                named.push(Named { message, at: self.ops.len(), ..inner });
                let number = u32::try_from(named.len()).expect("a message is below 4 GiB");
                self.ops.push(Op::Txn(number));
            }
            None => self.refuse(Refusal::KeyNotFound),
        }
        Ok(())
    }

    fn push(&mut self, checked: Result<(), Refusal>, op: Op<'a>) {
        match checked {
            Ok(()) => self.ops.push(op),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// Puts something in the place of an operation that must be refused.
    fn refuse(&mut self, refusal: Refusal) {
        self.refused.insert(self.ops.len(), refusal);
        self.ops.push(Op::Txn(0));
    }

    fn as_txn(&self) -> Txn<'_> {
        Txn { heads: &self.heads, compares: &self.compares, ops: &self.ops }
    }
}

impl Script for Draft<'_> {
    fn txns(&self) -> usize {
        self.heads.len()
    }

    fn head(&self, txn: usize) -> txn::Head {
        self.as_txn().head(txn)
    }

    fn compare(&self, at: usize) -> txn::Compare<'_> {
        self.compares[at].view()
    }

    fn op(&self, at: usize) -> txn::Op<'_> {
        self.refused.get(&at).map_or_else(|| self.ops[at].view(), |why| txn::Op::Refused(*why))
    }
}

/// A read whose fields were checked.
fn range<'a>(fields: &RangeFields<'a>) -> Op<'a> {
    let query = &fields.query;
    let options = RangeOptions {
        limit: query.limit,
        revision: query.revision,
        order: u8::try_from(fields.order).unwrap_or(u8::MAX),
        target: u8::try_from(fields.target).unwrap_or(u8::MAX),
        keys_only: query.keys_only,
        count_only: query.count_only,
        min_mod_revision: query.min_mod_revision,
        max_mod_revision: query.max_mod_revision,
        min_create_revision: query.min_create_revision,
        max_create_revision: query.max_create_revision,
    };
    Op::Range { key: fields.key, range_end: fields.range_end, options }
}

/// A `Compare` where it lies. An operand that is not of the target's kind is nothing, or 0.
fn compare(message: &[u8]) -> Result<Compare<'_>, Malformed> {
    let (mut key, mut range_end): (&[u8], &[u8]) = (&[], &[]);
    let (mut operator, mut target) = (0, 0);
    let mut operand = Operand::Unknown;
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(number)) => operator = wire::int32(number),
            (2, Value::Varint(number)) => target = wire::int32(number),
            (3, Value::Bytes(bytes)) => key = bytes,
            (4, Value::Varint(number)) => operand = Operand::Version(number.cast_signed()),
            (5, Value::Varint(number)) => operand = Operand::Create(number.cast_signed()),
            (6, Value::Varint(number)) => operand = Operand::Mod(number.cast_signed()),
            (7, Value::Bytes(value)) => operand = Operand::Value(value),
            (8, Value::Varint(number)) => operand = Operand::Lease(number.cast_signed()),
            (64, Value::Bytes(bytes)) => range_end = bytes,
            _ => {}
        }
    }
    let operand = match (target, operand) {
        (0, Operand::Version(_))
        | (1, Operand::Create(_))
        | (2, Operand::Mod(_))
        | (3, Operand::Value(_))
        | (4, Operand::Lease(_)) => operand,
        (0, _) => Operand::Version(0),
        (1, _) => Operand::Create(0),
        (2, _) => Operand::Mod(0),
        (3, _) => Operand::Value(&[]),
        (4, _) => Operand::Lease(0),
        _ => Operand::Unknown,
    };
    Ok(Compare { key, range_end, operator, operand })
}

/// Appends what a `TxnResponse` says beside its header.
pub(crate) fn write_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    let mut sizes = Vec::new();
    measure(outcome, &mut sizes);
    write_results(out, outcome, &mut sizes.iter());
}

/// Appends to `sizes` the bytes of each result's message, each before those within it; gives the
/// bytes of the whole.
fn measure(outcome: &Outcome, sizes: &mut Vec<usize>) -> usize {
    let results = outcome.results.iter().map(|result| {
        let at = sizes.len();
        sizes.push(0);
        let size = match result {
            OpResult::Range { revision, rows, more, count, .. } => {
                revision_len(*revision)
                    + pairs_len(2, rows)
                    + wire::uint_field_len(3, u64::from(*more))
                    + wire::uint_field_len(4, count.cast_unsigned())
            }
            OpResult::Put { revision, prev } => {
                revision_len(*revision) + pairs_len(2, prev.as_slice())
            }
            OpResult::DeleteRange { revision, deleted, prevs } => {
                revision_len(*revision)
                    + wire::uint_field_len(2, deleted.cast_unsigned())
                    + pairs_len(3, prevs)
            }
            OpResult::Txn(inner) => revision_len(Revision(0)) + measure(inner, sizes),
        };
        sizes[at] = size;
        wire::message_field_len(3, wire::message_field_len(kind(result), size))
    });
    results.sum::<usize>() + wire::uint_field_len(2, u64::from(outcome.succeeded))
}

fn write_results(out: &mut Vec<u8>, outcome: &Outcome, sizes: &mut slice::Iter<'_, usize>) {
    wire::put_uint_field(out, 2, u64::from(outcome.succeeded));
    for result in &outcome.results {
        let size = *sizes.next().expect("every result was measured");
        wire::put_message_head(out, 3, wire::message_field_len(kind(result), size));
        wire::put_message_head(out, kind(result), size);
        match result {
            OpResult::Range { revision, rows, more, count, .. } => {
                write_revision(out, *revision);
                rows.iter().for_each(|row| kv::write_key_value(out, 2, row));
                wire::put_uint_field(out, 3, u64::from(*more));
                wire::put_uint_field(out, 4, count.cast_unsigned());
            }
            OpResult::Put { revision, prev } => {
                write_revision(out, *revision);
                prev.iter().for_each(|prev| kv::write_key_value(out, 2, prev));
            }
            OpResult::DeleteRange { revision, deleted, prevs } => {
                write_revision(out, *revision);
                wire::put_uint_field(out, 2, deleted.cast_unsigned());
                prevs.iter().for_each(|prev| kv::write_key_value(out, 3, prev));
            }
            OpResult::Txn(inner) => {
                write_revision(out, Revision(0));
                write_results(out, inner, sizes);
            }
        }
    }
}

/// The member of the union that a result is.
fn kind(result: &OpResult) -> u32 {
    match result {
        OpResult::Range { .. } => 1,
        OpResult::Put { .. } => 2,
        OpResult::DeleteRange { .. } => 3,
        OpResult::Txn(_) => 4,
    }
}

/// Bytes of a header that has nothing but a revision, as field 1.
fn revision_len(revision: Revision) -> usize {
    wire::message_field_len(1, wire::uint_field_len(3, revision.0.cast_unsigned()))
}

fn write_revision(out: &mut Vec<u8>, revision: Revision) {
    let revision = revision.0.cast_unsigned();
    wire::put_message_head(out, 1, wire::uint_field_len(3, revision));
    wire::put_uint_field(out, 3, revision);
}

fn pairs_len(number: u32, pairs: &[KeyValue]) -> usize {
    pairs.iter().map(|pair| wire::message_field_len(number, kv::key_value_len(pair))).sum()
}

#[cfg(test)]
mod tests;

//! A transaction as a command has it.
//!
//! All transactions of a tree lie in three lists, as [`mvcc::txn`](crate::mvcc::txn) reads them, so
//! the archive is flat and neither checking nor opening it recurses. What its types can not say,
//! that the heads name each part once and how deep they nest, [`ArchivedTxn::check`] looks after.

use crate::mvcc::KeyRange;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::txn;
use crate::mvcc::txn::DEPTH_MAX;
use crate::mvcc::txn::Operator;
use crate::mvcc::txn::PutOp;
use crate::mvcc::txn::Script;
use crate::types::LeaseId;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

/// A transaction with all those within it.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Txn<'a> {
    /// Each transaction; the outermost first, then those that `ops` names, in its order.
    #[rkyv(with = InlineAsBox)]
    pub heads: &'a [Head],
    /// The compares of all of them, in the order of the heads.
    #[rkyv(with = InlineAsBox)]
    pub compares: &'a [Compare<'a>],
    /// The operations of all of them, in the order of the heads; success before failure.
    #[rkyv(with = InlineAsBox)]
    pub ops: &'a [Op<'a>],
}

/// Where the parts of one transaction end; each begins where the one before ends.
#[derive(Archive, Serialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    /// End of its compares.
    pub compares: u32,
    /// End of its operations of success; those of failure follow.
    pub success: u32,
    /// End of its operations.
    pub failure: u32,
}

/// One compare.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compare<'a> {
    /// First key.
    #[rkyv(with = InlineAsBox)]
    pub key: &'a [u8],
    /// End of the range as etcd writes it.
    #[rkyv(with = InlineAsBox)]
    pub range_end: &'a [u8],
    /// The operator's number on the wire, whether known or not.
    pub operator: i32,
    /// What of the key is compared.
    pub operand: Operand<'a>,
}

/// What of a key is compared, and with what.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand<'a> {
    /// Its version.
    Version(i64),
    /// The revision that created it.
    Create(i64),
    /// The revision that last changed it.
    Mod(i64),
    /// Its value.
    Value(#[rkyv(with = InlineAsBox)] &'a [u8]),
    /// Its lease.
    Lease(i64),
    /// Something that the API does not know.
    Unknown,
}

/// One operation.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'a> {
    /// A read.
    Range {
        /// First key; not empty.
        #[rkyv(with = InlineAsBox)]
        key: &'a [u8],
        /// End of the range as etcd writes it.
        #[rkyv(with = InlineAsBox)]
        range_end: &'a [u8],
        /// Everything else of it.
        options: RangeOptions,
    },
    /// A put.
    Put {
        /// The key; not empty.
        #[rkyv(with = InlineAsBox)]
        key: &'a [u8],
        /// The value; empty if `ignore_value`.
        #[rkyv(with = InlineAsBox)]
        value: &'a [u8],
        /// The lease to attach, 0 for none; none if `ignore_lease`.
        lease: i64,
        /// Whether the answer carries the pair that stood there before.
        prev_kv: bool,
        /// Whether the present value stays.
        ignore_value: bool,
        /// Whether the present lease stays.
        ignore_lease: bool,
    },
    /// A deletion.
    DeleteRange {
        /// First key; not empty.
        #[rkyv(with = InlineAsBox)]
        key: &'a [u8],
        /// End of the range as etcd writes it.
        #[rkyv(with = InlineAsBox)]
        range_end: &'a [u8],
        /// Whether the answer carries the deleted pairs.
        prev_kv: bool,
    },
    /// The next transaction of the list of heads.
    Txn(u32),
}

/// The options of a read.
#[derive(Archive, Serialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RangeOptions {
    /// Most rows; 0 or less is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the present.
    pub revision: i64,
    /// The sort order's number on the wire; a known one.
    pub order: u8,
    /// The sort target's number on the wire; a known one.
    pub target: u8,
    /// Whether values are left out.
    pub keys_only: bool,
    /// Whether rows are left out.
    pub count_only: bool,
    /// Rows last changed before it are dropped.
    pub min_mod_revision: i64,
    /// Rows last changed after it are dropped.
    pub max_mod_revision: i64,
    /// Rows created before it are dropped.
    pub min_create_revision: i64,
    /// Rows created after it are dropped.
    pub max_create_revision: i64,
}

impl Txn<'_> {
    /// Bytes that the archive takes beside what `Command` itself takes.
    pub(super) fn archived_size(&self) -> usize {
        let operand = |operand: &Operand<'_>| match operand {
            Operand::Value(value) => value.len(),
            Operand::Version(_)
            | Operand::Create(_)
            | Operand::Mod(_)
            | Operand::Lease(_)
            | Operand::Unknown => 0,
        };
        let compares = self.compares.iter().map(|compare| {
            size_of::<ArchivedCompare<'_>>()
                + compare.key.len()
                + compare.range_end.len()
                + operand(&compare.operand)
        });
        let ops = self.ops.iter().map(|op| {
            size_of::<ArchivedOp<'_>>()
                + match op {
                    Op::Range { key, range_end: more, .. }
                    | Op::Put { key, value: more, .. }
                    | Op::DeleteRange { key, range_end: more, .. } => key.len() + more.len(),
                    Op::Txn(_) => 0,
                }
        });
        size_of::<ArchivedHead>() * self.heads.len() + compares.sum::<usize>() + ops.sum::<usize>()
    }
}

impl ArchivedTxn<'_> {
    /// Whether it is one that [`Script`] promises: its archive has been found whole.
    ///
    /// # Errors
    /// What is wrong with it.
    ///
    /// # Cost
    /// Looks at every head and operation once.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let len = |len: usize| u32::try_from(len).map_err(|_| "more parts than 32 bits count");
        let (heads, compares) = (len(self.heads.len())?, len(self.compares.len())?);
        let ops = len(self.ops.len())?;
        let (mut named, mut end) = (0, Head::default());
        // Transactions of the same depth stand together: the first beyond this one's.
        let (mut depth, mut level_end) = (1, 1);
        for (number, head) in (0..).zip(self.heads.iter()) {
            if number == level_end {
                depth += 1;
                level_end = named + 1;
            }
            if number > named || depth > DEPTH_MAX {
                return Err("a transaction that none names, or one too deep");
            }
            let from = end;
            end = head.to_native();
            if end.compares < from.compares
                || end.success < from.failure
                || end.failure < end.success
                || end.compares > compares
                || end.failure > ops
            {
                return Err("a transaction's parts out of bounds");
            }
            for at in from.failure..end.failure {
                named = self.ops[index(at)].check(named)?;
            }
        }
        if named + 1 != heads || (end.compares, end.failure) != (compares, ops) {
            return Err("parts that no transaction names");
        }
        Ok(())
    }
}

impl ArchivedHead {
    fn to_native(&self) -> Head {
        Head {
            compares: self.compares.to_native(),
            success: self.success.to_native(),
            failure: self.failure.to_native(),
        }
    }
}

impl ArchivedOp<'_> {
    /// Checks one operation; the transaction last named, if `named` was that before.
    fn check(&self, named: u32) -> Result<u32, &'static str> {
        match self {
            Self::Range { key, options, .. } => {
                if key.is_empty() || options.to_native().sorting().is_err() {
                    return Err("a read without a key or of an unknown order");
                }
            }
            Self::Put { key, value, lease, ignore_value, ignore_lease, .. } => {
                if key.is_empty() {
                    return Err("a change without a key");
                }
                if *ignore_value && !value.is_empty() || *ignore_lease && lease.to_native() != 0 {
                    return Err("a put of what it is to keep");
                }
            }
            Self::DeleteRange { key, .. } => {
                if key.is_empty() {
                    return Err("a change without a key");
                }
            }
            Self::Txn(inner) => {
                return if inner.to_native() == named + 1 {
                    Ok(named + 1)
                } else {
                    Err("a transaction out of order")
                };
            }
        }
        Ok(named)
    }
}

impl RangeOptions {
    fn sorting(&self) -> Result<(SortOrder, SortTarget), Refusal> {
        Ok((i32::from(self.order).try_into()?, i32::from(self.target).try_into()?))
    }

    fn query<'a>(&self, key: &'a [u8], range_end: &'a [u8]) -> RangeQuery<'a> {
        let (order, target) = self.sorting().expect("only known sortings are put into a command");
        RangeQuery {
            range: KeyRange::new(key, range_end),
            limit: self.limit,
            revision: self.revision,
            order,
            target,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_revision,
            max_mod_revision: self.max_mod_revision,
            min_create_revision: self.min_create_revision,
            max_create_revision: self.max_create_revision,
        }
    }
}

impl ArchivedRangeOptions {
    fn to_native(&self) -> RangeOptions {
        RangeOptions {
            limit: self.limit.to_native(),
            revision: self.revision.to_native(),
            order: self.order,
            target: self.target,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: self.min_mod_revision.to_native(),
            max_mod_revision: self.max_mod_revision.to_native(),
            min_create_revision: self.min_create_revision.to_native(),
            max_create_revision: self.max_create_revision.to_native(),
        }
    }
}

impl<'a> Compare<'a> {
    /// It as the keyspace takes it.
    #[must_use]
    pub fn view(&self) -> txn::Compare<'a> {
        txn::Compare {
            range: KeyRange::new(self.key, self.range_end),
            operator: Operator::from(self.operator),
            operand: match self.operand {
                Operand::Version(version) => txn::Operand::Version(version),
                Operand::Create(revision) => txn::Operand::Create(revision),
                Operand::Mod(revision) => txn::Operand::Mod(revision),
                Operand::Value(value) => txn::Operand::Value(value),
                Operand::Lease(lease) => txn::Operand::Lease(lease),
                Operand::Unknown => txn::Operand::Unknown,
            },
        }
    }
}

impl ArchivedCompare<'_> {
    fn to_native(&self) -> Compare<'_> {
        Compare {
            key: &self.key,
            range_end: &self.range_end,
            operator: self.operator.to_native(),
            operand: match &self.operand {
                ArchivedOperand::Version(version) => Operand::Version(version.to_native()),
                ArchivedOperand::Create(revision) => Operand::Create(revision.to_native()),
                ArchivedOperand::Mod(revision) => Operand::Mod(revision.to_native()),
                ArchivedOperand::Value(value) => Operand::Value(value),
                ArchivedOperand::Lease(lease) => Operand::Lease(lease.to_native()),
                ArchivedOperand::Unknown => Operand::Unknown,
            },
        }
    }
}

impl<'a> Op<'a> {
    /// It as the keyspace takes it.
    ///
    /// # Panics
    /// If it is a read of an unknown order.
    #[must_use]
    pub fn view(&self) -> txn::Op<'a> {
        match *self {
            Self::Range { key, range_end, options } => {
                txn::Op::Range(options.query(key, range_end))
            }
            Self::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => {
                let lease = LeaseId(lease);
                txn::Op::Put(PutOp { key, value, lease, prev_kv, ignore_value, ignore_lease })
            }
            Self::DeleteRange { key, range_end, prev_kv } => {
                txn::Op::DeleteRange { range: KeyRange::new(key, range_end), prev_kv }
            }
            Self::Txn(inner) => txn::Op::Txn(index(inner)),
        }
    }
}

impl ArchivedOp<'_> {
    fn to_native(&self) -> Op<'_> {
        match self {
            Self::Range { key, range_end, options } => {
                Op::Range { key, range_end, options: options.to_native() }
            }
            Self::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => Op::Put {
                key,
                value,
                lease: lease.to_native(),
                prev_kv: *prev_kv,
                ignore_value: *ignore_value,
                ignore_lease: *ignore_lease,
            },
            Self::DeleteRange { key, range_end, prev_kv } => {
                Op::DeleteRange { key, range_end, prev_kv: *prev_kv }
            }
            Self::Txn(inner) => Op::Txn(inner.to_native()),
        }
    }
}

/// What head `end` says of a transaction, if the one before it ends at `from`.
fn head(from: Head, end: Head) -> txn::Head {
    txn::Head {
        compares: index(from.compares)..index(end.compares),
        success: index(from.failure)..index(end.success),
        failure: index(end.success)..index(end.failure),
    }
}

impl Script for Txn<'_> {
    fn txns(&self) -> usize {
        self.heads.len()
    }

    fn head(&self, txn: usize) -> txn::Head {
        let from = txn.checked_sub(1).map_or_else(Head::default, |before| self.heads[before]);
        head(from, self.heads[txn])
    }

    fn compare(&self, at: usize) -> txn::Compare<'_> {
        self.compares[at].view()
    }

    fn op(&self, at: usize) -> txn::Op<'_> {
        self.ops[at].view()
    }
}

impl Script for ArchivedTxn<'_> {
    fn txns(&self) -> usize {
        self.heads.len()
    }

    fn head(&self, txn: usize) -> txn::Head {
        let before = txn.checked_sub(1).map(|before| self.heads[before].to_native());
        head(before.unwrap_or_default(), self.heads[txn].to_native())
    }

    fn compare(&self, at: usize) -> txn::Compare<'_> {
        self.compares[at].to_native().view()
    }

    fn op(&self, at: usize) -> txn::Op<'_> {
        self.ops[at].to_native().view()
    }
}

/// A place in a list.
fn index(at: u32) -> usize {
    usize::try_from(at).expect("usize is 64 bits")
}

/// A transaction with one of everything, and one within it.
#[cfg(test)]
pub(super) fn sample<'a>(key: &'a [u8], value: &'a [u8]) -> Txn<'a> {
    let compare = |operand| Compare { key, range_end: value, operator: 3, operand };
    let options = RangeOptions { limit: 5, order: 2, target: 4, ..RangeOptions::default() };
    let put =
        Op::Put { key, value, lease: 7, prev_kv: true, ignore_value: false, ignore_lease: false };
    let delete = Op::DeleteRange { key, range_end: value, prev_kv: true };
    let range = Op::Range { key, range_end: value, options };
    let heads = [
        Head { compares: 2, success: 3, failure: 5 },
        Head { compares: 3, success: 6, failure: 6 },
        Head { compares: 3, success: 6, failure: 6 },
    ];
    let compares =
        [compare(Operand::Value(value)), compare(Operand::Version(1)), compare(Operand::Unknown)];
    let ops = [range, put, Op::Txn(1), delete, Op::Txn(2), put];
    // A test's few: what they are made of would not live as long.
    Txn {
        heads: heads.to_vec().leak(),
        compares: compares.to_vec().leak(),
        ops: ops.to_vec().leak(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::txn::validate;
    use crate::shard::command::ArchivedCommand;
    use crate::shard::command::Command;
    use crate::shard::command::CommandError;

    fn open(heads: &[Head], compares: usize, ops: &[Op<'_>]) -> Result<(), CommandError> {
        let compares = sample(b"k", b"").compares[1..2].repeat(compares);
        let data = Command::Txn(Txn { heads, compares: &compares, ops }).encode();
        ArchivedCommand::open(&data).map(|_| ())
    }

    #[test]
    fn a_transaction_is_read_where_it_lies() {
        let txn = sample(b"key", b"value");
        let data = Command::Txn(txn).encode();
        let Ok(ArchivedCommand::Txn(found)) = ArchivedCommand::open(&data) else {
            panic!("no transaction")
        };
        assert_eq!(found.txns(), 3);
        for at in 0..3 {
            assert_eq!(found.head(at), txn.head(at));
            assert_eq!(found.compare(at), txn.compare(at));
        }
        for at in 0..6 {
            assert_eq!(format!("{:?}", found.op(at)), format!("{:?}", txn.op(at)));
        }
        let mvcc_op = found.op(1);
        let txn::Op::Put(put) = mvcc_op else { panic!("{mvcc_op:?}") };
        assert_eq!(data.slice_ref(put.value), &b"value"[..]);
    }

    #[test]
    fn what_does_not_name_each_part_once_is_damaged() {
        let head = |compares, success, failure| Head { compares, success, failure };
        let delete = Op::DeleteRange { key: b"k", range_end: b"", prev_kv: false };
        let all =
            |parts: Result<(), CommandError>| matches!(parts, Err(CommandError::Damaged { .. }));
        assert!(open(&[head(1, 1, 2)], 1, &[delete; 2]).is_ok());
        assert!(all(open(&[], 0, &[])), "no transaction at all");
        assert!(all(open(&[head(0, 1, 2)], 1, &[delete; 2])), "a compare that is nobody's");
        assert!(all(open(&[head(1, 1, 1)], 1, &[delete; 2])), "an operation that is nobody's");
        assert!(all(open(&[head(1, 1, 3)], 1, &[delete; 2])), "more operations than there are");
        assert!(all(open(&[head(2, 1, 2)], 1, &[delete; 2])), "more compares than there are");
        assert!(all(open(&[head(1, 2, 1)], 1, &[delete; 1])), "an end before its beginning");
        let two = [head(0, 1, 1), head(0, 1, 1)];
        assert!(open(&two, 0, &[Op::Txn(1)]).is_ok());
        assert!(all(open(&two, 0, &[Op::Txn(0)])), "a transaction within itself");
        assert!(all(open(&two, 0, &[Op::Txn(2)])), "a transaction that is not there");
        assert!(all(open(&two[..1], 0, &[Op::Txn(1)])), "another that is not there");
        assert!(all(open(&two, 0, &[delete])), "a transaction that is nowhere");
        let twice = [head(0, 2, 2), head(0, 2, 2), head(0, 2, 2)];
        assert!(open(&twice, 0, &[Op::Txn(1), Op::Txn(2)]).is_ok());
        assert!(all(open(&twice, 0, &[Op::Txn(1), Op::Txn(1)])), "one in two places");
        assert!(all(open(&twice, 0, &[Op::Txn(2), Op::Txn(1)])), "two out of order");
        let late = [head(0, 0, 0), head(0, 1, 1)];
        assert!(all(open(&late, 0, &[Op::Txn(1)])), "one that names itself");
    }

    #[test]
    fn operations_that_no_request_can_be_are_damaged() {
        let one = [Head { compares: 0, success: 1, failure: 1 }];
        let options = RangeOptions { order: 3, ..RangeOptions::default() };
        let unknown = Op::Range { key: b"k", range_end: b"", options };
        let keyless = Op::DeleteRange { key: b"", range_end: b"", prev_kv: false };
        let keeping = |value, lease| Op::Put {
            key: b"k",
            value,
            lease,
            prev_kv: false,
            ignore_value: true,
            ignore_lease: true,
        };
        assert!(open(&one, 0, &[keeping(b"", 0)]).is_ok());
        for op in [unknown, keyless, keeping(b"v", 0), keeping(b"", 7)] {
            assert!(open(&one, 0, &[op]).is_err(), "{op:?}");
        }
    }

    #[test]
    fn no_transaction_nests_deeper_than_the_stack_is_meant_for() {
        let chain = |depth: u32| {
            let heads = (1..depth).chain([depth - 1]);
            let heads: Vec<_> =
                heads.map(|end| Head { compares: 0, success: end, failure: end }).collect();
            let ops: Vec<_> = (1..depth).map(Op::Txn).collect();
            open(&heads, 0, &ops)
        };
        let deepest = u32::try_from(DEPTH_MAX).expect("a small number");
        assert_eq!(chain(deepest), Ok(()));
        assert!(chain(deepest + 1).is_err());
    }

    #[test]
    fn every_bent_transaction_is_refused_or_read_within_its_bytes() {
        let data = Command::Txn(sample(b"key", b"value")).encode();
        for at in 0..data.len() {
            for bit in 0..8 {
                let mut bent = data.to_vec();
                bent[at] ^= 1 << bit;
                if let Ok(ArchivedCommand::Txn(txn)) = ArchivedCommand::open(&bent) {
                    let _ = validate(txn, 128);
                    for at in 0..txn.txns() {
                        let head = txn.head(at);
                        let mut compares = head.compares.map(|at| txn.compare(at).range);
                        assert!(compares.all(|range| range.start().len() < data.len()));
                    }
                }
            }
        }
    }
}

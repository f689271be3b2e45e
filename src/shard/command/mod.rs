#![expect(missing_docs, reason = "the archive derives a resolver with bare fields")]
//! What a client asked to change, as the bytes of one Raft entry.
//!
//! An entry's data is one format byte, [`FORMAT_VERSION`], and then one archived [`Command`]; or
//! the byte is [`FORMAT_WITH_ORIGIN`], and an origin comes between. The
//! archive is checked each time it is opened, whether it comes from the disk, from a peer or from
//! this very process; keys and values are used where they lie.

mod lease;
mod txn;

use crate::raft::NUMBER_MAX;
use crate::shard::origin::ORIGIN_SIZE;
use crate::shard::origin::Origin;
use bytes::Bytes;
use rkyv::rancor::Error as ArchiveError;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

pub use lease::{ArchivedEnded, ArchivedLeft, Ended, Left};
pub use txn::{
    ArchivedCompare, ArchivedHead, ArchivedOp, ArchivedOperand, ArchivedRangeOptions, ArchivedTxn,
    Compare, Head, Op, Operand, RangeOptions, Txn,
};

/// The first byte of every entry's data; another one is refused, never guessed at.
pub const FORMAT_VERSION: u8 = 1;
/// The first byte of the data of an entry that a member has handed to its leader: the origin
/// follows, then all as in [`FORMAT_VERSION`].
pub const FORMAT_WITH_ORIGIN: u8 = 2;

/// One client's change to the keyspace.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command<'a> {
    /// Stores a value under a key.
    Put {
        /// The key; not empty.
        #[rkyv(with = InlineAsBox)]
        key: &'a [u8],
        /// The value; empty if `ignore_value`.
        #[rkyv(with = InlineAsBox)]
        value: &'a [u8],
        /// The lease to attach, 0 for none.
        lease: i64,
        /// Whether the answer carries the pair that stood there before.
        prev_kv: bool,
        /// Whether the present value stays.
        ignore_value: bool,
        /// Whether the present lease stays.
        ignore_lease: bool,
    },
    /// Deletes every key of a range.
    DeleteRange {
        /// First key; not empty.
        #[rkyv(with = InlineAsBox)]
        key: &'a [u8],
        /// End of the range as etcd writes it: empty is the one key, one zero byte is no end.
        #[rkyv(with = InlineAsBox)]
        range_end: &'a [u8],
        /// Whether the answer carries the deleted pairs.
        prev_kv: bool,
    },
    /// All or nothing of several, by what the keyspace holds.
    Txn(Txn<'a>),
    /// Forgets every revision below one.
    Compact {
        /// The oldest revision that stays readable.
        revision: i64,
        /// Whether the answer waits until what is forgotten is gone.
        physical: bool,
    },
    /// Grants a lease.
    LeaseGrant {
        /// Its id; not 0.
        id: i64,
        /// Seconds that it lives unless it is renewed; 1 at least.
        ttl: i64,
    },
    /// Removes a lease and deletes its keys.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// Removes leases that have ended, and deletes the keys of each in a revision of its own; the
    /// leader proposes it by itself.
    LeaseExpire {
        /// Which.
        #[rkyv(with = InlineAsBox)]
        leases: &'a [Ended],
    },
    /// Notes what is left of leases; the leader proposes it by itself.
    LeaseCheckpoint {
        /// Of which.
        #[rkyv(with = InlineAsBox)]
        leases: &'a [Left],
    },
    /// Changes what is known of a member, or who belongs to the group; `change` encodes it.
    Member {
        /// The change.
        #[rkyv(with = InlineAsBox)]
        change: &'a [u8],
    },
}

/// Bytes that an encoded command may take beside its keys and values, if it is a transaction of so
/// many compares and so many operations of either branch, or anything smaller.
#[must_use]
pub fn encoding_size_max(ops: usize) -> usize {
    let parts = size_of::<ArchivedCompare<'_>>() + 2 * size_of::<ArchivedOp<'_>>();
    1 + size_of::<ArchivedCommand<'_>>() + size_of::<ArchivedHead>() + ops.saturating_mul(parts)
}

/// An entry's data that is not a command of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The entry has no bytes at all.
    #[error("the command is empty")]
    Empty,
    /// Another format than this build writes.
    #[error(
        "command format {found} is not known; this build reads formats {FORMAT_VERSION} \
             and {FORMAT_WITH_ORIGIN}"
    )]
    Version {
        /// The format byte that was found.
        found: u8,
    },
    /// The archive does not hold together.
    #[error("the command's archive does not check: {cause}")]
    Damaged {
        /// What the archive's validation found.
        cause: String,
    },
}

impl Command<'_> {
    /// This command as an entry's data.
    ///
    /// # Cost
    /// One allocation, shared from here on by the log's write, the index and the kept value.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Bytes::from(self.encode_into(self.buffer()))
    }

    /// A buffer of exactly the size this command takes.
    fn buffer(&self) -> Vec<u8> {
        let payload = match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::DeleteRange { key, range_end, .. } => key.len() + range_end.len(),
            Self::Txn(txn) => txn.archived_size(),
            Self::LeaseExpire { leases } => size_of_val(*leases),
            Self::LeaseCheckpoint { leases } => size_of_val(*leases),
            Self::Member { change } => change.len(),
            Self::Compact { .. } | Self::LeaseGrant { .. } | Self::LeaseRevoke { .. } => 0,
        };
        Vec::with_capacity(1 + payload + size_of::<ArchivedCommand<'_>>())
    }

    fn encode_into(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.push(FORMAT_VERSION);
        rkyv::api::high::to_bytes_in::<_, ArchiveError>(self, buffer)
            .expect("archiving into memory has nothing that can fail")
    }
}

/// The data of an entry that does what `command`, an entry's data without an origin, does.
///
/// # Panics
/// If it is no such data.
///
/// # Cost
/// One allocation, and a copy.
#[must_use]
pub fn with_origin(command: &[u8], origin: Origin) -> Bytes {
    let (version, archive) = command.split_first().expect("a command has bytes");
    assert!(*version == FORMAT_VERSION, "a command has one origin");
    let mut data = Vec::with_capacity(command.len() + ORIGIN_SIZE);
    data.push(FORMAT_WITH_ORIGIN);
    data.extend_from_slice(&origin.encode());
    data.extend_from_slice(archive);
    Bytes::from(data)
}

/// An entry's data that names an origin, with another one in its place.
///
/// # Panics
/// If it names none.
#[must_use]
pub fn with_other_origin(data: &[u8], origin: Origin) -> Bytes {
    assert!(data.first() == Some(&FORMAT_WITH_ORIGIN), "the data names an origin");
    let mut data = data.to_vec();
    data[1..=ORIGIN_SIZE].copy_from_slice(&origin.encode());
    Bytes::from(data)
}

/// Where an entry with this data comes from, if it says so and the number is one that a request
/// may have.
#[must_use]
pub fn origin(data: &[u8]) -> Option<Origin> {
    let (version, rest) = data.split_first()?;
    let origin = || rest.first_chunk::<ORIGIN_SIZE>().map(Origin::decode);
    let origin = (*version == FORMAT_WITH_ORIGIN).then(origin).flatten();
    origin.filter(|origin| (1..=NUMBER_MAX).contains(&origin.number))
}

impl ArchivedCommand<'_> {
    /// The command in an entry's data.
    ///
    /// # Errors
    /// [`CommandError`] if the bytes are not a whole command of [`FORMAT_VERSION`]; nothing is read
    /// beyond them.
    pub fn open(data: &[u8]) -> Result<&Self, CommandError> {
        let (version, archive) = data.split_first().ok_or(CommandError::Empty)?;
        let archive = match *version {
            FORMAT_VERSION => archive,
            FORMAT_WITH_ORIGIN => {
                let cause = || "it ends within its origin".to_owned();
                let rest = archive.split_first_chunk::<ORIGIN_SIZE>().map(|(_, rest)| rest);
                rest.ok_or_else(|| CommandError::Damaged { cause: cause() })?
            }
            found => return Err(CommandError::Version { found }),
        };
        let command = rkyv::access::<ArchivedCommand<'_>, ArchiveError>(archive)
            .map_err(|cause| CommandError::Damaged { cause: cause.to_string() })?;
        command.check().map_err(|cause| CommandError::Damaged { cause: cause.to_owned() })?;
        Ok(command)
    }

    /// Whether it is one that a request can be: its archive has been found whole.
    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Txn(txn) => txn.check(),
            Self::LeaseGrant { id, ttl } if id.to_native() == 0 || ttl.to_native() < 1 => {
                Err("a lease without an id, or for no time")
            }
            Self::Put { .. }
            | Self::DeleteRange { .. }
            | Self::Compact { .. }
            | Self::LeaseGrant { .. }
            | Self::LeaseRevoke { .. }
            | Self::LeaseExpire { .. }
            | Self::LeaseCheckpoint { .. }
            | Self::Member { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Grant;
    use crate::types::LeaseId;
    use crate::types::LogIndex;
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn put<'a>(key: &'a [u8], value: &'a [u8]) -> Command<'a> {
        Command::Put {
            key,
            value,
            lease: 7,
            prev_kv: true,
            ignore_value: false,
            ignore_lease: true,
        }
    }

    #[test]
    fn a_put_is_read_where_it_lies() {
        let data = put(b"key", b"value").encode();
        match ArchivedCommand::open(&data).expect("our own bytes") {
            ArchivedCommand::Put { key, value, lease, prev_kv, ignore_value, ignore_lease } => {
                assert_eq!((&key[..], &value[..]), (&b"key"[..], &b"value"[..]));
                assert_eq!(lease.to_native(), 7);
                assert!(*prev_kv && !*ignore_value && *ignore_lease);
                assert_eq!(data.slice_ref(value), &b"value"[..]);
            }
            ArchivedCommand::DeleteRange { .. }
            | ArchivedCommand::Txn(_)
            | ArchivedCommand::Compact { .. }
            | ArchivedCommand::LeaseGrant { .. }
            | ArchivedCommand::LeaseRevoke { .. }
            | ArchivedCommand::LeaseExpire { .. }
            | ArchivedCommand::LeaseCheckpoint { .. }
            | ArchivedCommand::Member { .. } => {
                panic!("a put came back as something else")
            }
        }
    }

    #[test]
    fn what_a_command_takes_beside_keys_and_values_is_known() {
        for count in [0, 1, 128] {
            let compare =
                Compare { key: b"k", range_end: b"l", operator: 0, operand: Operand::Value(b"v") };
            let options = RangeOptions::default();
            let range = Op::Range { key: b"k", range_end: b"l", options };
            let (compares, ops) = (vec![compare; count], vec![range; 2 * count]);
            let part = u32::try_from(count).expect("small");
            let heads = [Head { compares: part, success: part, failure: 2 * part }];
            let txn = Txn { heads: &heads, compares: &compares, ops: &ops };
            let encoded = Command::Txn(txn).encode().len();
            assert_eq!(encoded, encoding_size_max(count) + (3 + 2 * 2) * count);
        }
        let (key, value) = (&[1; 30], &[2; 500]);
        assert!(put(key, value).encode().len() <= encoding_size_max(0) + 530);
    }

    #[test]
    fn a_command_is_encoded_in_one_allocation_that_it_fills() {
        for (key, value) in [(32, 256), (1, 0), (64, 10_000)] {
            let (key, value) = (vec![1; key], vec![2; value]);
            let commands = [
                put(&key, &value),
                Command::DeleteRange { key: &key, range_end: &value, prev_kv: true },
                Command::Compact { revision: 7, physical: true },
                Command::Txn(txn::sample(&key, &value)),
                Command::LeaseGrant { id: -1, ttl: 60 },
                Command::LeaseRevoke { id: -1 },
                Command::LeaseExpire { leases: &[Ended { id: 1, born: 2 }; 3] },
                Command::LeaseCheckpoint { leases: &[Left { id: 1, born: 2, remaining: 3 }; 3] },
                Command::Member { change: &key },
            ];
            for command in commands {
                let buffer = command.encode_into(command.buffer());
                assert_eq!(buffer.len(), buffer.capacity(), "{command:?}");
            }
        }
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let mut data = put(b"k", b"v").encode().to_vec();
        data[0] = 3;
        assert_eq!(ArchivedCommand::open(&data).err(), Some(CommandError::Version { found: 3 }));
        assert_eq!(ArchivedCommand::open(&[]).err(), Some(CommandError::Empty));
    }

    #[test]
    fn an_origin_goes_before_a_command_and_changes_nothing_of_it() {
        let plain = put(b"key", b"value").encode();
        let from = Origin { node: NodeId(7), life: 3, number: 9 };
        let data = with_origin(&plain, from);
        assert_eq!((origin(&data), origin(&plain)), (Some(from), None));
        assert_eq!(data.len(), plain.len() + ORIGIN_SIZE);
        assert_eq!(data[1 + ORIGIN_SIZE..], plain[1..]);
        assert!(matches!(ArchivedCommand::open(&data), Ok(ArchivedCommand::Put { .. })));
        for size in 0..=ORIGIN_SIZE {
            assert!(
                ArchivedCommand::open(&data[..size]).is_err() && origin(&data[..size]).is_none()
            );
        }
    }

    /// Entries of the logs that the first builds wrote: what came later may not move what was.
    const OLD: [&str; 4] = [
        "016b657976616c756500f7ffffff03000000f2ffffff050000000000000000000000000000",
        "016b65796b657a01f9ffffff03000000f4ffffff030000000000000000000000000000",
        "010100000001000000020000006bffffffff01000000f8ffffff00000000000000000200000000000000\
         006b766b01fcffffff01000000f5ffffff01000000000000000000000000000000000000000000000000\
         0000000000000000000000000000000000000000000000000000000000000000b9ffffff01000000b2ff\
         ffff00000000000000000000000000000000000000000000000000000000000000000000000000000000\
         000000000000000000000000000000000248ffffff010000004dffffff0100000065ffffff0200000000\
         0000",
        "0103020000000000000000000000000000000000000000000000000000",
    ];

    #[test]
    fn entries_of_old_logs_are_read_and_written_as_they_were() {
        let heads = [Head { compares: 1, success: 1, failure: 2 }];
        let operand = Operand::Mod(0);
        let compares = [Compare { key: b"k", range_end: b"", operator: 0, operand }];
        let ops = [
            Op::Put {
                key: b"k",
                value: b"v",
                lease: 0,
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            },
            Op::Range { key: b"k", range_end: b"", options: RangeOptions::default() },
        ];
        let commands = [
            Command::Put {
                key: b"key",
                value: b"value",
                lease: 0,
                prev_kv: false,
                ignore_value: false,
                ignore_lease: false,
            },
            Command::DeleteRange { key: b"key", range_end: b"kez", prev_kv: false },
            Command::Txn(Txn { heads: &heads, compares: &compares, ops: &ops }),
            Command::Compact { revision: 2, physical: false },
        ];
        for (command, old) in commands.iter().zip(OLD) {
            let data = command.encode();
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, old, "{command:?}");
            assert!(ArchivedCommand::open(&data).is_ok());
        }
        assert_eq!(size_of::<ArchivedCommand<'_>>(), 28);
    }

    #[test]
    fn leases_are_read_where_they_lie() {
        let leases = [Ended { id: -7, born: 3 }, Ended { id: 8, born: u64::MAX }];
        let data = Command::LeaseExpire { leases: &leases }.encode();
        let Ok(ArchivedCommand::LeaseExpire { leases: found }) = ArchivedCommand::open(&data)
        else {
            panic!("leases came back as something else")
        };
        let found: Vec<_> = found.iter().map(ArchivedEnded::grant).collect();
        assert_eq!(found, leases.map(|it| Grant { id: LeaseId(it.id), born: LogIndex(it.born) }));
    }

    #[test]
    fn a_lease_that_no_request_asks_for_is_damaged() {
        for (id, ttl) in [(0, 5), (5, 0), (5, -1)] {
            let data = Command::LeaseGrant { id, ttl }.encode();
            assert!(matches!(ArchivedCommand::open(&data), Err(CommandError::Damaged { .. })));
        }
        assert!(ArchivedCommand::open(&Command::LeaseGrant { id: -1, ttl: 1 }.encode()).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = ArchivedCommand::open(&data);
        }

        #[test]
        fn a_bent_command_is_refused_or_read_within_its_bytes(
            key in proptest::collection::vec(any::<u8>(), 1..40),
            value in proptest::collection::vec(any::<u8>(), 0..80),
            at in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let mut data = put(&key, &value).encode().to_vec();
            let at = at.index(data.len());
            data[at] ^= 1 << bit;
            if let Ok(ArchivedCommand::Put { key, value, .. }) = ArchivedCommand::open(&data) {
                prop_assert!(key.len() + value.len() <= data.len());
            }
        }
    }
}

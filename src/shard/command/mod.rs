#![expect(missing_docs, reason = "the archive derives a resolver with bare fields")]
//! What a client asked to change, as the bytes of one Raft entry.
//!
//! An entry's data is one format byte, [`FORMAT_VERSION`], and then one archived [`Command`]. The
//! archive is checked each time it is opened, whether it comes from the disk, from a peer or from
//! this very process; keys and values are used where they lie.

mod txn;

use bytes::Bytes;
use rkyv::rancor::Error as ArchiveError;
use rkyv::with::InlineAsBox;
use rkyv::{Archive, Serialize};

pub use txn::{
    ArchivedCompare, ArchivedHead, ArchivedOp, ArchivedOperand, ArchivedRangeOptions, ArchivedTxn,
    Compare, Head, Op, Operand, RangeOptions, Txn,
};

/// The first byte of every entry's data; another one is refused, never guessed at.
pub const FORMAT_VERSION: u8 = 1;

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
}

/// An entry's data that is not a command of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The entry has no bytes at all.
    #[error("the command is empty")]
    Empty,
    /// Another format than this build writes.
    #[error("command format {found} is not known; this build reads format {FORMAT_VERSION}")]
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
            Self::Compact { .. } => 0,
        };
        Vec::with_capacity(1 + payload + size_of::<ArchivedCommand<'_>>())
    }

    fn encode_into(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        buffer.push(FORMAT_VERSION);
        rkyv::api::high::to_bytes_in::<_, ArchiveError>(self, buffer)
            .expect("archiving into memory has nothing that can fail")
    }
}

impl ArchivedCommand<'_> {
    /// The command in an entry's data.
    ///
    /// # Errors
    /// [`CommandError`] if the bytes are not a whole command of [`FORMAT_VERSION`]; nothing is read
    /// beyond them.
    pub fn open(data: &[u8]) -> Result<&Self, CommandError> {
        let (version, archive) = data.split_first().ok_or(CommandError::Empty)?;
        if *version != FORMAT_VERSION {
            return Err(CommandError::Version { found: *version });
        }
        let command = rkyv::access::<ArchivedCommand<'_>, ArchiveError>(archive)
            .map_err(|cause| CommandError::Damaged { cause: cause.to_string() })?;
        if let Self::Txn(txn) = command {
            txn.check().map_err(|cause| CommandError::Damaged { cause: cause.to_owned() })?;
        }
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            | ArchivedCommand::Compact { .. } => panic!("a put came back as something else"),
        }
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
        data[0] = 2;
        assert_eq!(ArchivedCommand::open(&data).err(), Some(CommandError::Version { found: 2 }));
        assert_eq!(ArchivedCommand::open(&[]).err(), Some(CommandError::Empty));
    }

    #[test]
    fn the_archive_of_a_put_is_as_it_was() {
        // Logs of the first version are read: what came later may not move what was.
        let data = put(b"key", b"value").encode();
        assert_eq!(data.len(), 1 + 8 + size_of::<ArchivedCommand<'_>>());
        assert_eq!(size_of::<ArchivedCommand<'_>>(), 28);
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

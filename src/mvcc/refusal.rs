//! The deterministic answers that are not yes.

use thiserror::Error;

/// A request that the keyspace refuses; it has changed nothing, and every replica refuses it alike.
///
/// The text is etcd's, and is part of its API: clients compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The key is empty.
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    /// A put that keeps the old value or lease names a key that is not there.
    #[error("etcdserver: key not found")]
    KeyNotFound,
    /// A put that keeps the old value brings one.
    #[error("etcdserver: value is provided")]
    ValueProvided,
    /// A put that keeps the old lease brings one.
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    /// The sort order or target is no number that the API knows.
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
    /// The lease to attach does not exist.
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    /// A transaction has more compares or operations than are allowed.
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    /// A transaction may write one key twice.
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    /// The revision is below the last compacted one (at or below it, for a compaction).
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// The revision is above the current one.
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
}

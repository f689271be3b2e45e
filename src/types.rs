//! The domain's quantities as newtypes, so that a [`Term`] is never added to a [`LogIndex`].
//!
//! No logic lives here: construction, order, and the text a person reads.

use std::fmt;

use bytes::Bytes;

/// Declares a newtype over an integer with the derives and the text every quantity has.
macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

quantity! {
    /// The keyspace's logical clock, etcd's main revision.
    ///
    /// # Shape
    /// 1 in a fresh store, one more per changing request.
    Revision(i64)
}
quantity! {
    /// Raft's logical clock: at most one leader in each.
    Term(u64)
}
quantity! {
    /// Position of an entry in the Raft log, from 1; 0 is before the first.
    LogIndex(u64)
}
quantity! {
    /// Byte position in the write-ahead log, from the first byte ever written to it.
    Lsn(u64)
}
quantity! {
    /// One member of the cluster, as etcd's member id.
    NodeId(u64)
}
quantity! {
    /// One cluster, as etcd's cluster id.
    ClusterId(u64)
}
quantity! {
    /// A lease, as etcd's lease id: any non-zero value; 0 is none.
    LeaseId(i64)
}
quantity! {
    /// One whole keyspace of this node, from 0.
    ShardId(u32)
}
quantity! {
    /// Milliseconds since the node began, as the driver tells them.
    ///
    /// It is the only time that a core module knows.
    Tick(u64)
}

/// Where a change lies in the order of all changes: its revision, and its place in it from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The revision that made it.
    pub main: Revision,
    /// Which of that revision's changes it is.
    pub sub: u32,
}

/// One change of one key: a put, or the tombstone that a deletion leaves.
///
/// # Shape
/// A put's version counts from 1 at `created`. A tombstone has version 0, and then no value, no
/// lease, and 0 for `created`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it lies.
    pub location: Location,
    /// The key.
    pub key: Bytes,
    /// What the key holds from here on.
    pub value: Bytes,
    /// The lease the key is attached to; 0 is none.
    pub lease: LeaseId,
    /// The revision that began the key's present life.
    pub created: Revision,
    /// Puts since the creation, this one included; 0 is a tombstone.
    pub version: i64,
}

impl LogIndex {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Tick {
    /// Milliseconds from `earlier` to here; 0 if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

//! Leases as a command names them.

use crate::lease::Grant;
use crate::types::LeaseId;
use crate::types::LogIndex;
use rkyv::{Archive, Serialize};

/// A lease that has ended.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Its id.
    pub id: i64,
    /// The entry that granted it.
    pub born: u64,
}

/// What is left of a lease.
#[derive(Archive, Serialize, Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Its id.
    pub id: i64,
    /// The entry that granted it.
    pub born: u64,
    /// Seconds; 0 is all of them.
    pub remaining: i64,
}

impl From<&Grant> for Ended {
    fn from(grant: &Grant) -> Self {
        Self { id: grant.id.0, born: grant.born.0 }
    }
}

impl Left {
    /// So many seconds are left of this lease.
    #[must_use]
    pub fn new(grant: Grant, remaining: i64) -> Self {
        Self { id: grant.id.0, born: grant.born.0, remaining }
    }
}

impl ArchivedEnded {
    /// The lease.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant { id: LeaseId(self.id.to_native()), born: LogIndex(self.born.to_native()) }
    }
}

impl ArchivedLeft {
    /// The lease.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Grant { id: LeaseId(self.id.to_native()), born: LogIndex(self.born.to_native()) }
    }
}

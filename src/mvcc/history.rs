//! One key's changes.

use crate::types::Revision;

/// Where a change lies in the order of all changes: its revision, and its place in it from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The revision that made it.
    pub main: Revision,
    /// Which of that revision's changes it is.
    pub sub: u32,
}

/// A live key as the index sees it at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The revision that began this life of the key.
    pub created: Revision,
    /// The change that is seen.
    pub location: Location,
    /// Puts since the creation, that one included.
    pub version: i64,
}

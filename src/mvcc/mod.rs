//! What the keyspace means: which revision of which key is seen, by whom, and when it is forgotten.
//!
//! Every change of a key is a [`Location`]: the revision that made it and its place inside that
//! revision. The [`index`] keeps, for each key in order, the locations of its changes, and answers
//! *which change of which key* for any revision not yet compacted, without touching a value.
//! [`Keyspace`] gives it etcd's rules.
//!
//! Values and leases are kept elsewhere, and found by location: a read yields rows with locations,
//! and whoever has the [`Records`] resolves them, at once or after they were fetched. A write hands
//! each [`Change`](crate::types::Change) it makes to the records.
//!
//! A change that only compacted revisions see is removed in small steps, each of which tells what
//! it removed. After a restart the index is built again from what is still in files: dead changes
//! may be missing there or not, which no reader can tell.
//!
//! [`Watchers`] stands by itself: it says whom a change of a key concerns, on any core that holds
//! watchers, and knows nothing of revisions.
//!
//! Left out on purpose: who may do it, which leases exist, when it is durable, and what order
//! requests come in. A change that was refused left no trace, so a refusal is the same on every
//! replica.
//!
//! # Source
//! etcd: `server/storage/mvcc`. There the index is a tree of keys without counts, and values lie
//! in a second tree on disk.

mod digest;
pub mod hash;
mod history;
pub mod index;
mod keyspace;
mod range;
pub mod records;
mod refusal;
pub mod txn;
mod watch;

pub use crate::types::Location;
pub use history::Found;
pub use index::Slice;
pub use keyspace::{Compared, Keyspace, Misfit, Put, Restoring, Way, Write};
pub use range::{KeyRange, KeyValue, Page, RangeQuery, Row, SortOrder, SortTarget, Summary};
pub use records::Records;
pub use refusal::Refusal;
pub use watch::Watchers;

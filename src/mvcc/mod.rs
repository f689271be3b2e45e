//! What the keyspace means: which revision of which key is seen, by whom, and when it is forgotten.
//!
//! Every change of a key is a [`Location`]: the revision that made it and its place inside that
//! revision. The [`index`] keeps, for each key in order, the locations of its changes, and answers
//! *which change of which key* for any revision not yet compacted, without touching a value. The
//! [`tail`] keeps the records (value and lease) and finds them by location. [`Keyspace`] puts the
//! two together and gives them etcd's rules.
//!
//! The seam between index and tail is the location: a read by the index alone yields rows with
//! locations, and whoever holds the records resolves them.
//!
//! Left out on purpose: who may do it, which leases exist, when it is durable, and what order
//! requests come in. A change that was refused left no trace, so a refusal is the same on every
//! replica.
//!
//! # Source
//! etcd: `server/storage/mvcc`. There the index is a tree of keys without counts, and values lie
//! in a second tree on disk.

mod digest;
mod history;
pub mod index;
mod keyspace;
mod range;
pub mod records;
mod refusal;
pub mod tail;

pub use crate::types::Location;
pub use history::Found;
pub use keyspace::{Deleted, Keyspace, Put, Write};
pub use range::{KeyRange, KeyValue, Page, RangeQuery, Row, SortOrder, SortTarget, Summary};
pub use records::Records;
pub use refusal::Refusal;

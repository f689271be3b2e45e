//! What was asked for and what came back, as the audit gets it.

use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use ringd::api::proto::mvccpb::{Event, KeyValue};
use std::time::Duration;
use tokio::time::Instant;

/// A range of keys, as requests name one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
}

impl Span {
    /// Every key.
    pub(crate) fn everything() -> Self {
        let zero = Bytes::from_static(b"\0");
        Self { key: zero.clone(), range_end: zero }
    }

    /// One key.
    pub(crate) fn one(key: &Bytes) -> Self {
        Self { key: key.clone(), range_end: Bytes::new() }
    }

    /// The keys that begin with a prefix, of which the last byte is not the last of all.
    pub(crate) fn prefix(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().expect("a prefix is not empty") += 1;
        Self { key: Bytes::from(prefix.to_owned()), range_end: end.into() }
    }

    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        match self.range_end.as_ref() {
            b"" => key == self.key,
            b"\0" => key >= self.key.as_ref(),
            end => (self.key.as_ref()..end).contains(&key),
        }
    }

    pub(crate) fn request(&self) -> pb::RangeRequest {
        let Self { key, range_end } = self.clone();
        pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() }
    }
}

/// What a write makes of its key.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Change {
    Put { value: Bytes, lease: i64 },
    Delete,
}

/// What a write asks of its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Condition {
    /// The revision that changed it last; 0, that it is not there.
    Mod(i64),
    /// How often it was put since it was created.
    Version(i64),
}

impl Condition {
    pub(crate) fn holds(self, row: Option<&KeyValue>) -> bool {
        match self {
            Self::Mod(revision) => row.map_or(0, |row| row.mod_revision) == revision,
            Self::Version(version) => row.map_or(0, |row| row.version) == version,
        }
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The server was gone before it answered: it was done, or was not and never will be.
    Unknown,
    /// It was acknowledged, at this revision.
    Done(i64),
    /// Its condition did not hold at this revision; the rows that it had then, if they were asked
    /// for.
    Refused { revision: i64, rows: Option<Vec<KeyValue>> },
    /// It was refused before it was tried.
    Invalid,
}

/// A write of one key on a condition.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) key: Bytes,
    pub(crate) change: Change,
    pub(crate) condition: Condition,
    /// The highest revision that anyone was told of before it was sent.
    pub(crate) floor: i64,
    pub(crate) outcome: Outcome,
}

/// Rows of a range, as somebody was shown or has put them together.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    /// Who read.
    pub(crate) by: String,
    pub(crate) span: Span,
    /// Rows at most; 0 for all.
    pub(crate) limit: i64,
    /// The revision that the rows are of.
    pub(crate) revision: i64,
    /// The store's revision, as the answer's header has it.
    pub(crate) header: i64,
    /// The highest revision that anyone was told of before it was asked for.
    pub(crate) floor: i64,
    /// None if only their count was asked for.
    pub(crate) rows: Option<Vec<KeyValue>>,
    pub(crate) count: i64,
    pub(crate) more: bool,
}

/// Something that happened to a watcher, in the order in which it did.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    /// It has begun anew with a list of this revision.
    Listed(i64),
    /// The server has taken it on, to be told of everything from a revision on.
    Opened(i64),
    /// One answer with events.
    Events { header: i64, events: Vec<Event>, seen: Instant },
    /// An answer without: it has been told of everything up to this revision.
    Progress(i64),
    /// It was told that what it needs was compacted, up to this revision.
    Compacted(i64),
    /// Its stream is over.
    Cut,
}

/// A lease that was granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// Before it was asked for.
    pub(crate) asked: Instant,
    pub(crate) ttl: Duration,
}

/// What is recorded of one watcher.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) name: String,
    pub(crate) span: Span,
    /// Whether it asks for the pairs that were there before.
    pub(crate) has_previous: bool,
    pub(crate) entries: Vec<Entry>,
}

/// All that happened since the last audit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) reads: Vec<Read>,
    /// By the number of the watcher.
    pub(crate) logs: Vec<Log>,
    /// By id.
    pub(crate) leases: Vec<(i64, Lease)>,
    /// The highest revision that a compaction was asked for.
    pub(crate) compacted_max: i64,
}

//! What a shard tells those who watch it: every change as it is applied, and changes of the past.
//!
//! Watchers live on the cores that hold their connections. Each such core subscribes once, and is
//! then told every batch of changes in order, whatever the number of its watchers: which of them
//! sees what is its own affair. A watcher that is behind is served from the past instead, in slices
//! that its core asks for one by one, and joins the others where a slice has come to the present.
//!
//! **Invariant:** a core is told batches, answers to its subscription and slices in the order in
//! which the shard came to them. A slice that ends at the present ends where the next batch begins.

use crate::mvcc::KeyRange;
use crate::shard::request::Header;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use bytes::Bytes;
use std::sync::Arc;

/// Who asks: a core, and its own name for what it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The core.
    pub core: u32,
    /// What it calls the question.
    pub token: u64,
}

/// What a core asks for its watchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// From now on every batch goes to this core; [`Told::Subscribed`] says from where. May be
    /// asked again, to learn the present revision or to have what was before each change too.
    Subscribe {
        /// Who asks.
        from: Asker,
        /// Whether some watcher wants the pair before each change; holds until it unsubscribes.
        prev_kv: bool,
    },
    /// No further batch.
    Unsubscribe {
        /// Which core.
        core: u32,
    },
    /// A slice of the past; [`Told::Replayed`] brings it.
    Replay {
        /// Who asks.
        from: Asker,
        /// What of the past.
        past: Past,
    },
    /// Nobody waits for a slice any more; it may come all the same.
    Forget {
        /// Who asked for it.
        from: Asker,
    },
}

/// The changes of some keys from a revision on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    keys: Box<[u8]>,
    key_len: usize,
    /// The first revision that matters.
    pub from: Revision,
    /// Whether each event has the pair before it.
    pub prev_kv: bool,
    /// Whether puts matter.
    pub puts: bool,
    /// Whether deletions matter.
    pub deletes: bool,
    /// Bytes of keys and values after which a slice ends, at the next revision.
    pub size_max: usize,
}

impl Past {
    /// All changes of `key..range_end` (both as etcd writes them) from `from` on.
    #[must_use]
    pub fn new(key: &[u8], range_end: &[u8], from: Revision, size_max: usize) -> Self {
        let keys = [key, range_end].concat().into_boxed_slice();
        let (puts, deletes) = (true, true);
        Self { keys, key_len: key.len(), from, prev_kv: false, puts, deletes, size_max }
    }

    /// All changes of the keys in `range` from `from` on.
    #[must_use]
    pub fn of(range: KeyRange<'_>, from: Revision, size_max: usize) -> Self {
        match range {
            KeyRange::One(key) => Self::new(key, &[], from, size_max),
            KeyRange::Span { start, end } => Self::new(start, end, from, size_max),
            KeyRange::From(start) => Self::new(start, &[0], from, size_max),
        }
    }

    /// The keys.
    #[must_use]
    pub fn range(&self) -> KeyRange<'_> {
        let (key, range_end) = self.keys.split_at(self.key_len);
        KeyRange::new(key, range_end)
    }

    /// Whether changes of this kind matter.
    #[must_use]
    pub fn takes(&self, is_tombstone: bool) -> bool {
        if is_tombstone { self.deletes } else { self.puts }
    }

    /// Bytes that it takes while it waits.
    pub(super) fn memory_size(&self) -> usize {
        size_of::<Self>() + self.keys.len()
    }
}

/// What a core is told for its watchers.
#[derive(Clone, Debug)]
pub enum Told {
    /// Batches come from the revision after this one on.
    Subscribed {
        /// Who asked.
        to: Asker,
        /// The present revision.
        header: Header,
    },
    /// What was applied.
    Events {
        /// The cores that have subscribed, in order.
        cores: Vec<u32>,
        /// It.
        batch: Arc<Batch>,
    },
    /// The present has moved on without a word of what is between: whoever had been given all has
    /// to ask for that as of the past. Batches come from the revision after the present one on.
    Moved {
        /// The cores that have subscribed, in order.
        cores: Vec<u32>,
        /// The present revision.
        header: Header,
    },
    /// A slice of the past.
    Replayed {
        /// Who asked.
        to: Asker,
        /// It.
        slice: Slice,
    },
}

/// All changes of some revisions, whole ones, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// At the last of these revisions.
    pub header: Header,
    /// The changes; not empty.
    pub events: Vec<Event>,
}

/// One change as a watcher may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The change; version 0 is a deletion.
    pub change: Change,
    /// What was before it.
    pub prev: Prev,
}

impl Event {
    /// Bytes of its keys and values.
    #[must_use]
    pub fn size(&self) -> usize {
        let prev = match &self.prev {
            Prev::None | Prev::Away => 0,
            Prev::Pair { value, .. } => value.len(),
        };
        self.change.key.len() + self.change.value.len() + prev
    }
}

/// The pair before a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prev {
    /// There was none, or it is compacted, or nobody asked.
    None,
    /// It is on disk: whoever wants it has to ask for the change as one of the past.
    Away,
    /// This one, under the same key.
    Pair {
        /// The change that made it.
        location: Location,
        /// The revision that began the key's life.
        created: Revision,
        /// Puts since the creation.
        version: i64,
        /// Its lease.
        lease: LeaseId,
        /// Its value.
        value: Bytes,
    },
}

/// A slice of the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slice {
    /// All changes that were asked for from its beginning up to a revision.
    Events {
        /// Who tells, at the present revision.
        header: Header,
        /// The changes, in order; perhaps none.
        events: Vec<Event>,
        /// The revision up to which there are no others. If it is the present one, what comes after
        /// comes in batches.
        until: Revision,
    },
    /// The revision asked for is compacted.
    Compacted {
        /// Who tells, at the present revision.
        header: Header,
        /// The revision last compacted.
        floor: Revision,
    },
    /// Too many are asking: ask again later.
    Busy,
}

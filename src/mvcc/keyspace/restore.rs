//! From the changes that are still in files to a keyspace.
//!
//! Files hold, in the order of revisions, every change that some reader may see, and of the others
//! whatever no cleaning has come to yet. So between two changes of a key some may be missing, and
//! a change that does not go on where the key's known ones end proves that they are dead.

use thiserror::Error;

use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::index::Filed;
use crate::mvcc::index::Index;
use crate::types::Revision;

/// The index as it grows from the changes in files, which come in the order of their locations.
///
/// # Cost
/// For a million keys about a third of a second, much of it for the memory that they take.
#[derive(Debug)]
pub struct Restoring {
    index: Index,
    last: Option<Location>,
    batch: Batch,
    batch_changes_max: usize,
}

/// Changes that are not in the index yet.
///
/// Changes come in the order of revisions, which is none for keys: each would go its own way down
/// the index, and most of that through memory that no cache holds. So many are sorted by key first.
#[derive(Debug, Default)]
struct Batch {
    /// Their keys, side by side.
    keys: Vec<u8>,
    changes: Vec<Batched>,
    /// Room for what the index is given. Memory that is new for each batch has to be cleared by the
    /// system, which takes longer than to sort it.
    room: Vec<Filed<'static>>,
}

/// A change in a batch.
#[derive(Clone, Copy, Debug)]
struct Batched {
    /// Where its key begins and ends in the batch.
    start: u32,
    end: u32,
    /// What its key has after what all have in common.
    head: u64,
    at: Location,
    created: Revision,
    version: i64,
}

/// Most changes in a batch.
///
/// Unit: changes, of about 100 bytes each while they are sorted. A million random keys take half
/// the time with 16,384 as one by one, and a third with this; four times as many would save a
/// fifth more.
const BATCH_CHANGES_MAX: usize = if cfg!(test) { 5 } else { 1 << 16 };
/// Most changes in a batch where others wait for the core meanwhile.
///
/// Unit: changes. What they take is a millisecond at most, and half as much again as in a large
/// batch.
const SLICE_CHANGES_MAX: usize = if cfg!(test) { 2 } else { 1 << 10 };
/// Bytes of keys after which a batch takes no more.
///
/// Unit: bytes. A key is smaller than a request, so that places in a batch fit in 32 bits.
const BATCH_KEYS_SIZE_MAX: usize = 8 << 20;

impl Batch {
    fn is_full(&self, changes_max: usize) -> bool {
        self.changes.len() >= changes_max || self.keys.len() >= BATCH_KEYS_SIZE_MAX
    }

    /// Sorts them by key, and those of a key by location.
    fn sort(&mut self) {
        let (keys, changes) = (&self.keys, &mut self.changes);
        let Some(first) = changes.first() else { return };
        let first = first.key(keys);
        let common = changes.iter().fold(first.len(), |common, change| {
            let both = first[..common].iter().zip(change.key(keys));
            both.take_while(|(left, right)| left == right).count()
        });
        for change in changes.iter_mut() {
            let mut head = [0; 8];
            let rest = &change.key(keys)[common..];
            head.iter_mut().zip(rest).for_each(|(head, byte)| *head = *byte);
            change.head = u64::from_be_bytes(head);
        }
        changes.sort_unstable_by(|left, right| {
            left.head
                .cmp(&right.head)
                .then_with(|| left.key(keys).cmp(right.key(keys)))
                .then_with(|| left.at.cmp(&right.at))
        });
    }

    /// Gives all of them to `index`.
    fn flush(&mut self, index: &mut Index, told: impl FnMut(Location)) {
        self.sort();
        let mut filed = emptied(std::mem::take(&mut self.room));
        filed.extend(self.changes.iter().map(|change| {
            let Batched { at: location, created, version, .. } = *change;
            Filed { key: change.key(&self.keys), location, created, version }
        }));
        index.restore_all(&filed, told);
        self.room = emptied(filed);
        self.changes.clear();
        self.keys.clear();
    }
}

impl Batched {
    /// Its key, among the batch's.
    fn key<'k>(&self, keys: &'k [u8]) -> &'k [u8] {
        let place = |at: u32| usize::try_from(at).expect("usize has 64 bits");
        &keys[place(self.start)..place(self.end)]
    }
}

/// The room of a vector that is done with: collecting in place is what keeps it.
fn emptied<'k>(mut filed: Vec<Filed<'_>>) -> Vec<Filed<'k>> {
    filed.clear();
    filed.into_iter().map(|_| unreachable!("it is empty")).collect()
}

/// Changes or a state that no keyspace could have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// A change that does not come after the one before it.
    #[error("a change at {}.{} follows one at {}.{}", .at.main, .at.sub, .last.main, .last.sub)]
    Order {
        /// Where the change lies.
        at: Location,
        /// Where the one before it does.
        last: Location,
    },
    /// A change whose numbers no change has.
    #[error("a change at {}.{} with version {version}, created at {created}", .at.main, .at.sub)]
    Numbers {
        /// Where the change lies.
        at: Location,
        /// The revision that is said to have begun the key's life.
        created: Revision,
        /// Its version.
        version: i64,
    },
    /// A change of the empty key, or of one longer than any request.
    #[error("a change at {}.{} of an empty or an endless key", .at.main, .at.sub)]
    Key {
        /// Where the change lies.
        at: Location,
    },
    /// A revision that is older than a change, or a floor that is above the revision.
    #[error("revision {revision} and a floor of {floor} with a change at {last}")]
    State {
        /// The keyspace's revision.
        revision: Revision,
        /// Its floor, -1 if it has none.
        floor: Revision,
        /// The revision of the last change.
        last: Revision,
    },
}

impl Default for Restoring {
    fn default() -> Self {
        Self::new()
    }
}

impl Restoring {
    /// An index that nothing has been added to.
    #[must_use]
    pub fn new() -> Self {
        let (index, batch) = (Index::default(), Batch::default());
        Self { index, last: None, batch, batch_changes_max: BATCH_CHANGES_MAX }
    }

    /// The same, for one who shares the core: nothing that is added takes long.
    #[must_use]
    pub fn in_slices() -> Self {
        Self { batch_changes_max: SLICE_CHANGES_MAX, ..Self::new() }
    }

    /// Adds a change: a put of which version, of a life begun at `created`, or with version 0 a
    /// tombstone. `told` hears of changes that turn out to be dead.
    ///
    /// # Errors
    /// [`Misfit::Order`], [`Misfit::Numbers`], [`Misfit::Key`].
    pub fn add(
        &mut self,
        at: Location,
        key: &[u8],
        created: Revision,
        version: i64,
        told: impl FnMut(Location),
    ) -> Result<(), Misfit> {
        if let Some(last) = self.last.filter(|last| *last >= at) {
            return Err(Misfit::Order { at, last });
        }
        let lives = version == 0 || (version > 0 && (0..=at.main.0).contains(&created.0));
        if !lives || at.main.0 < 0 || !Index::has_room(at) {
            return Err(Misfit::Numbers { at, created, version });
        }
        if key.is_empty() || u32::try_from(BATCH_KEYS_SIZE_MAX + key.len()).is_err() {
            return Err(Misfit::Key { at });
        }
        self.last = Some(at);
        if self.batch.is_full(self.batch_changes_max) {
            self.flush(told);
        }
        let start = self.batch.keys.len();
        self.batch.keys.extend_from_slice(key);
        let place = |at| u32::try_from(at).expect("a batch is smaller");
        let (start, end) = (place(start), place(start + key.len()));
        self.batch.changes.push(Batched { start, end, head: 0, at, created, version });
        Ok(())
    }

    fn flush(&mut self, told: impl FnMut(Location)) {
        self.batch.flush(&mut self.index, told);
    }

    /// The keyspace at `revision`, last compacted at `compacted`. `told` hears of changes that turn
    /// out to be dead.
    ///
    /// # Errors
    /// [`Misfit::State`].
    pub fn finish(
        mut self,
        revision: Revision,
        compacted: Option<Revision>,
        told: impl FnMut(Location),
    ) -> Result<Keyspace, Misfit> {
        self.flush(told);
        let mut keyspace = Keyspace::new();
        let floor = compacted.unwrap_or(keyspace.floor);
        let last = self.last.map_or(keyspace.revision, |last| last.main);
        if last > revision || floor > revision {
            return Err(Misfit::State { revision, floor, last });
        }
        keyspace.revision = revision;
        keyspace.floor = floor;
        keyspace.swept = floor;
        keyspace.index = self.index;
        Ok(keyspace)
    }
}

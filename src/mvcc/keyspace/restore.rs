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
#[derive(Debug, Default)]
pub struct Restoring {
    index: Index,
    last: Option<Location>,
    batch: Batch,
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
}

/// A change in a batch.
#[derive(Clone, Copy, Debug)]
struct Batched {
    /// Where its key begins and ends in the batch.
    start: u32,
    end: u32,
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
/// Bytes of keys after which a batch takes no more.
///
/// Unit: bytes. A key is smaller than a request, so that places in a batch fit in 32 bits.
const BATCH_KEYS_SIZE_MAX: usize = 8 << 20;

impl Batch {
    fn is_full(&self) -> bool {
        self.changes.len() >= BATCH_CHANGES_MAX || self.keys.len() >= BATCH_KEYS_SIZE_MAX
    }

    fn key(&self, change: &Batched) -> &[u8] {
        let place = |at: u32| usize::try_from(at).expect("usize has 64 bits");
        &self.keys[place(change.start)..place(change.end)]
    }

    /// The changes by key, and those of a key by location.
    fn sorted(&self) -> Vec<Filed<'_>> {
        let Some((first, rest)) = self.changes.split_first() else { return Vec::new() };
        let first = self.key(first);
        let common = rest.iter().fold(first.len(), |common, change| {
            let both = first[..common].iter().zip(self.key(change));
            both.take_while(|(left, right)| left == right).count()
        });
        let filed = |change: &Batched| {
            let key = self.key(change);
            let mut head = [0; 8];
            head.iter_mut().zip(&key[common..]).for_each(|(head, byte)| *head = *byte);
            let Batched { at: location, created, version, .. } = *change;
            (u64::from_be_bytes(head), Filed { key, location, created, version })
        };
        let mut sorted: Vec<_> = self.changes.iter().map(filed).collect();
        sorted.sort_unstable_by(|(left_head, left), (right_head, right)| {
            left_head
                .cmp(right_head)
                .then_with(|| left.key.cmp(right.key))
                .then_with(|| left.location.cmp(&right.location))
        });
        sorted.into_iter().map(|(_, filed)| filed).collect()
    }
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

impl Restoring {
    /// An index that nothing has been added to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        if self.batch.is_full() {
            self.flush(told);
        }
        let start = self.batch.keys.len();
        self.batch.keys.extend_from_slice(key);
        let place = |at| u32::try_from(at).expect("a batch is smaller");
        let (start, end) = (place(start), place(start + key.len()));
        self.batch.changes.push(Batched { start, end, at, created, version });
        Ok(())
    }

    fn flush(&mut self, told: impl FnMut(Location)) {
        self.index.restore_all(&self.batch.sorted(), told);
        self.batch.changes.clear();
        self.batch.keys.clear();
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

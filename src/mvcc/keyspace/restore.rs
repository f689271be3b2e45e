//! From the changes that are still in files to a keyspace.
//!
//! Files hold, in the order of revisions, every change that some reader may see, and of the others
//! whatever no cleaning has come to yet. So between two changes of a key some may be missing, and
//! a change that does not go on where the key's known ones end proves that they are dead.

use thiserror::Error;

use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::index::Index;
use crate::types::Revision;

/// The index as it grows from the changes in files, which come in the order of their locations.
#[derive(Debug, Default)]
pub struct Restoring {
    index: Index,
    last: Option<Location>,
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
    /// A change of the empty key.
    #[error("a change at {}.{} without a key", .at.main, .at.sub)]
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
        if key.is_empty() {
            return Err(Misfit::Key { at });
        }
        self.last = Some(at);
        self.index.restore(key, at, created, version, told);
        Ok(())
    }

    /// The keyspace at `revision`, last compacted at `compacted`. `told` hears of changes that turn
    /// out to be dead.
    ///
    /// # Errors
    /// [`Misfit::State`].
    pub fn finish(
        self,
        revision: Revision,
        compacted: Option<Revision>,
        _told: impl FnMut(Location),
    ) -> Result<Keyspace, Misfit> {
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

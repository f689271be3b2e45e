//! The keyspace: etcd's rules over an index.

mod read;
mod restore;
mod txn;
mod way;
mod write;

use std::collections::BTreeMap;

use crate::mvcc::Found;
use crate::mvcc::Location;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::mvcc::digest::Digest;
use crate::mvcc::index::Index;
use crate::types::LeaseId;
use crate::types::Revision;

pub use self::restore::Misfit;
pub use self::restore::Restoring;
pub use self::way::Compared;
pub use self::way::Way;
pub use self::write::Put;
pub use self::write::Write;

/// The revision of a fresh keyspace.
const FIRST: Revision = Revision(1);
/// What stands for the floor before the first compaction, as in etcd.
const NO_FLOOR: Revision = Revision(-1);

/// Every key's history since the last compaction, without its values.
///
/// # Shape
/// `swept <= floor <= revision`. A revision below `floor` is refused to clients at once. Changes
/// that only such revisions see stay known until [`Self::compact_step`] has come to them: it goes
/// no further than `swept`, which passes no pin.
#[derive(Debug)]
pub struct Keyspace {
    revision: Revision,
    floor: Revision,
    swept: Revision,
    /// How many hold each revision.
    pins: BTreeMap<Revision, u32>,
    index: Index,
}

impl Keyspace {
    /// An empty keyspace at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self {
            revision: FIRST,
            floor: NO_FLOOR,
            swept: NO_FLOOR,
            pins: BTreeMap::new(),
            index: Index::new(),
        }
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision that was last compacted, which can still be read; none before the first.
    #[must_use]
    pub fn compacted(&self) -> Option<Revision> {
        (self.floor != NO_FLOOR).then_some(self.floor)
    }

    /// Keys that are live at the present.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.index.live()
    }

    /// The revision to read at for a client that asks for `revision`.
    ///
    /// # Errors
    /// [`Refusal::FutureRevision`], [`Refusal::Compacted`].
    pub fn check_revision(&self, revision: i64) -> Result<Revision, Refusal> {
        if revision > self.revision.0 {
            return Err(Refusal::FutureRevision);
        }
        let at = if revision <= 0 { self.revision } else { Revision(revision) };
        if at < self.floor { Err(Refusal::Compacted) } else { Ok(at) }
    }

    /// Checks a put against the keyspace as it is, without doing it.
    ///
    /// # Errors
    /// [`Refusal::LeaseNotFound`], [`Refusal::KeyNotFound`], in this order.
    pub fn check_put(&self, put: &Put, records: &impl Records) -> Result<(), Refusal> {
        if put.lease != LeaseId(0) && !records.has_lease(put.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && self.index.get(&put.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(())
    }

    /// Forgets every revision below `revision`: moves the floor at once, and leaves the removal to
    /// [`Self::compact_step`].
    ///
    /// # Errors
    /// [`Refusal::Compacted`], [`Refusal::FutureRevision`], in this order.
    pub fn compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        if revision <= self.floor {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.floor = revision;
        Ok(())
    }

    /// Removes about `budget` changes that nobody can see at `floor` or above, which is lowered to
    /// the keyspace's own and to the oldest pin; whether more are left. `told` hears of each change
    /// removed, tombstones too.
    ///
    /// # Cost
    /// As [`Index::compact`].
    pub fn compact_step(
        &mut self,
        floor: Revision,
        budget: usize,
        told: impl FnMut(Location),
    ) -> bool {
        let pinned = self.pins.keys().next().copied();
        let floor = floor.min(self.floor).min(pinned.unwrap_or(self.floor));
        self.swept = self.swept.max(floor);
        self.index.compact(floor, budget, told)
    }

    /// Keeps all that `revision` and later ones see, until it is unpinned as often as pinned.
    ///
    /// # Panics
    /// If some of it may be gone; a revision that [`Self::check_revision`] gave is there.
    pub fn pin(&mut self, revision: Revision) {
        self.assert_kept(revision);
        *self.pins.entry(revision).or_default() += 1;
    }

    /// Takes back one [`Self::pin`].
    ///
    /// # Panics
    /// If the revision is not pinned.
    pub fn unpin(&mut self, revision: Revision) {
        let pins = self.pins.get_mut(&revision).expect("what is unpinned was pinned");
        *pins -= 1;
        if *pins == 0 {
            self.pins.remove(&revision);
        }
    }

    /// The oldest revision that is pinned.
    #[must_use]
    pub fn oldest_pin(&self) -> Option<Revision> {
        self.pins.keys().next().copied()
    }

    fn assert_kept(&self, revision: Revision) {
        assert!(self.swept <= revision, "{revision} may be forgotten: it is not pinned");
    }

    /// Whether the change of `key` at `location` is not removed yet, be it a tombstone.
    ///
    /// # Cost
    /// One way down the index.
    #[must_use]
    pub fn knows(&self, key: &[u8], location: Location) -> bool {
        self.index.knows(key, location)
    }

    /// Whether etcd, about to hash the keyspace as of `at`, keeps the change of `key` at `location`
    /// from among those up to its last compaction: whether it is the put that `at` sees.
    ///
    /// # Panics
    /// If what that revision sees may be forgotten.
    ///
    /// # Source
    /// etcd: `server/storage/mvcc/key_index.go`, `keep`. Where not a single key is there at `at`,
    /// etcd hashes all that is not yet removed, which no two members need agree on.
    #[must_use]
    pub fn keeps(&self, key: &[u8], location: Location, at: Revision) -> bool {
        self.get_at(key, at).is_some_and(|found| found.location == location)
    }

    /// Shows every change that is not removed, with what a put made of its key, by key.
    pub fn each<'s>(&'s self, mut visit: impl FnMut(&'s [u8], Location, Option<Found>)) {
        self.index.each(|key, history| {
            history.each(0, |location, found| visit(key, location, found));
        });
    }

    /// A digest of all that a client could ever read from here: the same on every replica at the
    /// same revision and floor, however far each has removed what is forgotten.
    ///
    /// # Panics
    /// If a value is not in memory.
    ///
    /// # Cost
    /// Visits everything.
    #[must_use]
    pub fn digest(&self, records: &impl Records) -> u64 {
        let mut digest = Digest::new();
        digest.number(self.revision.0);
        digest.number(self.floor.0);
        self.index.each(|key, history| {
            let forgotten = history.forgettable(self.floor);
            let mut is_first = true;
            history.each(forgotten, |location, found| {
                if std::mem::take(&mut is_first) {
                    digest.bytes(key);
                }
                digest.number(location.main.0);
                digest.number(i64::from(location.sub));
                let Some(found) = found else { return digest.number(0) };
                digest.number(found.version);
                digest.number(found.created.0);
                digest.number(records.lease(location).0);
                digest.bytes(&records.value(location));
            });
        });
        digest.finish()
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    ///
    /// # Cost
    /// Visits everything.
    pub fn check_all(&self) {
        assert!(self.floor <= self.revision, "the floor is not in the future");
        assert!(self.swept <= self.floor, "nothing above the floor is removed");
        let pinned = self.oldest_pin().is_none_or(|pin| self.swept <= pin);
        assert!(pinned, "nothing that is pinned is removed");
        self.index.check_all();
        self.each(|key, location, _| {
            assert!(!key.is_empty(), "no key is empty");
            assert!(location.main <= self.revision, "no change is in the future");
        });
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;

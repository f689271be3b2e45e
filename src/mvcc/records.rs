//! What the keyspace needs of whoever keeps its values.

use bytes::Bytes;

use crate::mvcc::Found;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;

/// All changes that are not forgotten, with what they left: the keeper of values and leases.
///
/// The keyspace knows which change of which key is seen, and asks here what that change left. It
/// names only changes that it was told of by its own writes or when it was restored, and that it
/// has not forgotten since.
pub trait Records {
    /// The lease that the put at `location` attached; 0 is none.
    fn lease(&self, location: Location) -> LeaseId;

    /// The value that the put at `location` left.
    ///
    /// # Panics
    /// If it is not in memory: who calls what may ask for values makes sure that they are.
    fn value(&self, location: Location) -> Bytes;

    /// Whether there is this lease, which is not 0.
    fn has_lease(&self, lease: LeaseId) -> bool;

    /// Keeps a change; a tombstone is one too. Locations ascend.
    ///
    /// `prior` is what was live under the key before; its record can still be asked for.
    fn push(&mut self, change: Change, prior: Option<Found>);
}

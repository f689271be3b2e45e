//! What a read asks, and what it gives.

use bytes::Bytes;

use crate::mvcc::Found;
use crate::mvcc::Location;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::types::LeaseId;
use crate::types::Revision;

/// A set of neighbouring keys, as a request names it.
///
/// # Shape
/// Keys are ordered as bytes. A span whose end is not above its start is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// Exactly this key.
    One(&'a [u8]),
    /// `start..end`.
    Span {
        /// The first key in it.
        start: &'a [u8],
        /// The first key beyond it.
        end: &'a [u8],
    },
    /// This key and every one after it.
    From(&'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// The range that `key` and `range_end` mean on the wire: no end is one key, an end of one zero
    /// byte is no upper bound.
    #[must_use]
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::From(key),
            end => Self::Span { start: key, end },
        }
    }

    /// The first key that may be in it.
    #[must_use]
    pub fn start(&self) -> &'a [u8] {
        match *self {
            Self::One(start) | Self::Span { start, .. } | Self::From(start) => start,
        }
    }

    /// Whether `key` is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Self::One(one) => key == one,
            Self::Span { start, end } => start <= key && key < end,
            Self::From(start) => start <= key,
        }
    }
}

/// In which direction rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// As they come; by anything but the key, ascending after the limit has cut.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

impl TryFrom<i32> for SortOrder {
    type Error = Refusal;

    fn try_from(number: i32) -> Result<Self, Refusal> {
        match number {
            0 => Ok(Self::None),
            1 => Ok(Self::Ascend),
            2 => Ok(Self::Descend),
            _ => Err(Refusal::InvalidSortOption),
        }
    }
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key's bytes.
    #[default]
    Key,
    /// Writes since the key's creation.
    Version,
    /// The revision that created the key.
    Create,
    /// The revision that last changed the key.
    Mod,
    /// The value's bytes.
    Value,
}

impl TryFrom<i32> for SortTarget {
    type Error = Refusal;

    fn try_from(number: i32) -> Result<Self, Refusal> {
        match number {
            0 => Ok(Self::Key),
            1 => Ok(Self::Version),
            2 => Ok(Self::Create),
            3 => Ok(Self::Mod),
            4 => Ok(Self::Value),
            _ => Err(Refusal::InvalidSortOption),
        }
    }
}

/// A read of some keys at some revision.
///
/// # Shape
/// Numbers are as on the wire: anything a client may send is allowed and has a meaning.
#[derive(Clone, Copy, Debug)]
pub struct RangeQuery<'a> {
    /// Which keys.
    pub range: KeyRange<'a>,
    /// Most rows to give; 0 or less is no limit.
    pub limit: i64,
    /// The revision to read at; 0 or less is the current one.
    pub revision: i64,
    /// The direction of sorting.
    pub order: SortOrder,
    /// What to sort by.
    pub target: SortTarget,
    /// Leave values out, and leases too unless rows are sorted by value.
    pub keys_only: bool,
    /// Leave rows out; limit, order and bounds then mean nothing.
    pub count_only: bool,
    /// Drop rows last changed before this revision; 0 drops none.
    pub min_mod_revision: i64,
    /// Drop rows last changed after this revision; 0 drops none.
    pub max_mod_revision: i64,
    /// Drop rows created before this revision; 0 drops none.
    pub min_create_revision: i64,
    /// Drop rows created after this revision; 0 drops none.
    pub max_create_revision: i64,
}

impl<'a> RangeQuery<'a> {
    /// All of `range` as it is now.
    #[must_use]
    pub fn new(range: KeyRange<'a>) -> Self {
        Self {
            range,
            limit: 0,
            revision: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    /// Whether rows are shown with their values.
    #[must_use]
    pub fn shows_values(&self) -> bool {
        !self.keys_only
    }

    /// Whether rows are shown with their leases.
    #[must_use]
    pub fn shows_leases(&self) -> bool {
        !self.keys_only || self.target == SortTarget::Value
    }

    /// Whether rows come in the order of their keys, so that slices of the range in this order,
    /// one after the other, give what the whole gives.
    #[must_use]
    pub fn is_in_key_order(&self) -> bool {
        self.target == SortTarget::Key
    }

    /// Whether rows come from the last key to the first.
    #[must_use]
    pub fn is_downwards(&self) -> bool {
        self.is_in_key_order() && self.order == SortOrder::Descend
    }

    /// The most rows to give, if there is such a limit.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        u64::try_from(self.limit).ok().filter(|limit| *limit > 0)
    }

    /// Whether every key is given, in order, so that they count themselves.
    #[must_use]
    pub fn is_all_in_key_order(&self) -> bool {
        self.limit <= 0 && self.is_in_key_order() && !self.count_only && !self.drops()
    }

    /// Whether any bound may drop a row.
    #[must_use]
    pub fn drops(&self) -> bool {
        [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ] != [0; 4]
    }

    /// Whether no bound drops `found`.
    #[must_use]
    pub fn takes(&self, found: Found) -> bool {
        let within = |min: i64, revision: Revision, max: i64| {
            (min == 0 || min <= revision.0) && (max == 0 || revision.0 <= max)
        };
        within(self.min_mod_revision, found.location.main, self.max_mod_revision)
            && within(self.min_create_revision, found.created, self.max_create_revision)
    }
}

/// One key as a read sees it, borrowed from the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that began the key's present life.
    pub create_revision: Revision,
    /// The change that is seen; its revision is etcd's `mod_revision`.
    pub location: Location,
    /// Puts since the creation, that one included.
    pub version: i64,
}

impl<'a> Row<'a> {
    /// The row of a key of which `found` is seen.
    #[must_use]
    pub fn new(key: &'a [u8], found: Found) -> Self {
        let Found { created, location, version } = found;
        Self { key, create_revision: created, location, version }
    }

    /// The row as one that outlives the index's borrow, with what its record holds.
    ///
    /// # Cost
    /// One allocation for the key.
    #[must_use]
    pub fn to_key_value(&self, lease: LeaseId, value: Option<Bytes>) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            create_revision: self.create_revision,
            location: self.location,
            version: self.version,
            lease,
            value,
        }
    }

    /// The row with the lease and the value as `query` wants to see them.
    ///
    /// # Panics
    /// If a value that is wanted is not in memory.
    #[must_use]
    pub fn resolve(&self, query: &RangeQuery<'_>, records: &impl Records) -> KeyValue {
        let mut pair = self.resolve_later(query, records);
        pair.value.get_or_insert_with(|| records.value(self.location));
        pair
    }

    /// The row with the lease as `query` wants to see it, and no value yet unless it is to be
    /// empty.
    #[must_use]
    pub fn resolve_later(&self, query: &RangeQuery<'_>, records: &impl Records) -> KeyValue {
        let lease = if query.shows_leases() { records.lease(self.location) } else { LeaseId(0) };
        self.to_key_value(lease, (!query.shows_values()).then(Bytes::new))
    }
}

/// One key as a read saw it (etcd's `KeyValue`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The revision that began the key's present life.
    pub create_revision: Revision,
    /// The change that was seen; its revision is etcd's `mod_revision`.
    pub location: Location,
    /// Puts since the creation, that one included.
    pub version: i64,
    /// The lease the key is attached to; 0 is none.
    pub lease: LeaseId,
    /// The value, empty when only keys were asked for; none while it is still on its way.
    pub value: Option<Bytes>,
}

/// What a read says besides its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Keys in the range at the revision read, whatever limit and bounds left of them.
    pub count: i64,
    /// Whether the limit cut rows off.
    pub more: bool,
    /// The keyspace's revision at the time of the read, which is not the one read at.
    pub revision: Revision,
}

/// Everything that a read gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order asked for; ties stand in no promised order.
    pub rows: Vec<KeyValue>,
    /// Whether the limit cut rows off.
    pub more: bool,
    /// Keys in the range at the revision read, whatever limit and bounds left of them.
    pub count: i64,
    /// The keyspace's revision at the time of the read, which is not the one read at.
    pub revision: Revision,
}

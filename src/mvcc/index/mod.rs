//! The index: an ordered tree from key to the key's history.
//!
//! A B-tree whose nodes know three things of all that is under them: how many keys are live now,
//! when the last change was, and at which floor there will be something to forget. The first counts
//! a range and skips into it without walking. The second makes the first hold for old revisions
//! too: where nothing has changed since, the past is the present. The third finds what a compaction
//! leaves to do, without a queue that would have to name keys.
//!
//! A node keeps a few bytes of each key in place, taken after what all of the node's keys have in
//! common, so that a search among keys with long common prefixes stays in the node too.
//!
//! Left out on purpose: values, leases, and what a revision may be asked for.
//!
//! # Source
//! Counted B-trees: S. Tatham, "Counted B-Trees". Heads: G. Graefe, "Modern B-Tree Techniques",
//! poor man's normalized keys and prefix truncation by fences.

mod heads;
mod node;

use std::ops::ControlFlow;

use self::heads::Keyed;
use self::node::Lower;
use self::node::Node;
use self::node::Sum;
use self::node::Upper;
use self::node::Walk;
use self::node::changed::Changed;
use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Location;
use crate::mvcc::history;
use crate::mvcc::history::History;
use crate::types::Revision;

/// Every key's history, in key order.
#[derive(Debug)]
pub struct Index {
    root: Node,
    sum: Sum,
}

impl Index {
    /// An index without keys.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Node::new_leaf(), sum: Sum::EMPTY }
    }

    /// Whether the index has room for the sub-revision of `location`.
    #[must_use]
    pub fn has_room(location: Location) -> bool {
        history::has_room(location)
    }

    /// Keys that are live at the present.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.sum.live
    }

    /// The key at the present: none if it is deleted or never was.
    ///
    /// # Cost
    /// One way down the tree; no allocation.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Found> {
        self.root.get(key)?.latest()
    }

    /// The key as it was at `at`.
    #[must_use]
    pub fn get_at(&self, key: &[u8], at: Revision) -> Option<Found> {
        self.root.get(key)?.at(at)
    }

    /// Whether the change of `key` at `location` is not forgotten, be it a tombstone.
    #[must_use]
    pub fn knows(&self, key: &[u8], location: Location) -> bool {
        self.root.get(key).is_some_and(|history| history.knows(location))
    }

    /// Adds a put of `key`; gives what was live before.
    ///
    /// # Panics
    /// If `location` is not after every change of this key.
    ///
    /// # Cost
    /// One way down the tree; allocates for a new key, and seldom for a known one.
    pub fn put(&mut self, key: &[u8], location: Location) -> Option<Found> {
        let mut prior = None;
        self.place(key, |history| match history {
            None => Some(History::new(location)),
            Some(history) => {
                prior = history.latest();
                history.put(location);
                None
            }
        });
        prior
    }

    /// Adds a change that a file holds: a put of which version, of a life begun at `created`, or
    /// with version 0 a tombstone. Changes before it may be missing. If so, nobody can see what is
    /// remembered of the key so far: it is forgotten, and `told` hears of each change.
    ///
    /// # Panics
    /// If `location` is not after every change of this key.
    pub fn restore(
        &mut self,
        key: &[u8],
        location: Location,
        created: Revision,
        version: i64,
        told: impl FnMut(Location),
    ) {
        self.place(key, |history| match history {
            None => Some(History::begin(location, created, version)),
            Some(history) => {
                history.restore(location, created, version, told);
                None
            }
        });
    }

    /// Adds changes that a file holds, each as [`Self::restore`] does.
    ///
    /// # Panics
    /// If one is not after every change of its key. That they stand in the order of their keys is
    /// checked in debug builds only, as it costs as much as a good part of the work.
    ///
    /// # Cost
    /// A visit of each node that has any of the keys; so the more at a time, the less for each.
    pub fn restore_all(&mut self, changes: &[Filed<'_>], mut told: impl FnMut(Location)) {
        debug_assert!(changes.is_sorted_by_key(|change| (change.key, change.location)));
        let mut split = self.root.merge(changes, &mut |change, history| match history {
            None => Some(History::begin(change.location, change.created, change.version)),
            Some(history) => {
                history.restore(change.location, change.created, change.version, &mut told);
                None
            }
        });
        while !split.is_empty() {
            let mut parts = std::mem::take(&mut split).into_iter();
            let (separator, right) = parts.next().expect("it is not empty");
            let left = std::mem::replace(&mut self.root, Node::new_leaf());
            self.root = Node::over(left, separator, right);
            self.root.adopt(&mut split, 0, parts);
        }
        self.sum = self.root.sum();
    }

    fn place(&mut self, key: &[u8], edit: impl FnOnce(Option<&mut History>) -> Option<History>) {
        let mut placed = self.root.place(key, edit);
        if let Some((separator, right)) = placed.split.take() {
            let left = std::mem::replace(&mut self.root, Node::new_leaf());
            self.root = Node::over(left, separator, right);
            self.sum = self.root.sum();
        } else {
            self.sum.place(&placed);
        }
    }

    /// Adds a tombstone for every live key in `range`, the first at `first` and each a sub-revision
    /// after the one before, in key order; gives the sub-revision after the last.
    ///
    /// `told` hears each key, what it was, and where its tombstone lies.
    ///
    /// # Panics
    /// If `first` is not after every change of such a key.
    ///
    /// # Cost
    /// One way down the tree, and what is deleted.
    pub fn bury(
        &mut self,
        range: KeyRange<'_>,
        first: Location,
        mut told: impl FnMut(&[u8], Found, Location),
    ) -> u32 {
        let mut next = first;
        if let Some((lower, upper)) = ends(range, None, false) {
            self.root.bury(lower, upper, &mut next, &mut told);
            self.sum = self.root.sum();
        }
        next.sub
    }

    /// Keys in `range` that are there at `at`.
    ///
    /// # Cost
    /// As [`Self::count_slice`], to the end.
    #[must_use]
    pub fn count(&self, range: KeyRange<'_>, at: Revision) -> u64 {
        self.count_slice(&Slice::new(range, at)).0
    }

    /// Keys that are there in a slice, from its first key up whatever direction it has, and the
    /// first key that was not looked at, if any is left.
    ///
    /// # Cost
    /// Two ways down the tree, and a look at each key of those leaves in the range that have
    /// changed since the slice's revision.
    #[must_use]
    pub fn count_slice(&self, slice: &Slice<'_>) -> (u64, Option<&[u8]>) {
        let (mut counted, mut budget) = (0, slice.budget);
        let rest = ends(slice.range, slice.resume, false).and_then(|(lower, upper)| {
            self.root.count(lower, upper, slice.at, &mut budget, &mut counted).break_value()
        });
        (counted, rest)
    }

    /// Shows the keys that are there in a slice, until `visit` breaks off before it has taken one;
    /// gives the key to go on with, if any is left.
    ///
    /// # Cost
    /// One way down the tree to the first key; then what is looked at.
    pub fn walk<'a>(
        &'a self,
        slice: &Slice<'_>,
        visit: impl FnMut(&'a [u8], Found) -> ControlFlow<()>,
    ) -> Option<&'a [u8]> {
        let (lower, upper) = ends(slice.range, slice.resume, slice.down)?;
        let Slice { at, down, budget, .. } = *slice;
        self.root.walk(lower, upper, &mut Walk { at, down, budget, visit }).break_value()
    }

    /// Shows every change of a slice's keys from the slice's revision on, those of each key in
    /// order, until about `budget` keys and changes have been looked at; gives the key to go on
    /// with, if any is left. `visit` breaks off to see no more of a key. The slice's direction does
    /// not matter.
    ///
    /// # Cost
    /// Of what has not changed since the revision only the ends are looked at; of a leaf in which
    /// something has, every key of the range.
    pub fn changed<'a>(
        &'a self,
        slice: &Slice<'_>,
        visit: impl FnMut(&'a [u8], Location, Option<Found>) -> ControlFlow<()>,
    ) -> Option<&'a [u8]> {
        let (lower, upper) = ends(slice.range, slice.resume, false)?;
        let mut changed = Changed { since: slice.at, budget: slice.budget, visit };
        self.root.changed(lower, upper, &mut changed).break_value()
    }

    /// Forgets what nobody can see at `floor` or above, until `budget` changes or visits of leaves
    /// are spent; whether there is more to forget. `told` hears of each change forgotten,
    /// tombstones too.
    ///
    /// # Cost
    /// One way down the tree for each leaf with something to forget. A single long history may
    /// take an eighth of its length beyond the budget.
    pub fn compact(
        &mut self,
        floor: Revision,
        mut budget: usize,
        mut told: impl FnMut(Location),
    ) -> bool {
        while budget > 0 && self.sum.garbage <= floor {
            self.root.compact(floor, &mut budget, &mut told);
            while let Some(only) = self.root.take_only_child() {
                self.root = only;
            }
            self.sum = self.root.sum();
        }
        self.sum.garbage <= floor
    }

    /// Shows every key and its history, in key order.
    pub(super) fn each<'a>(&'a self, mut visit: impl FnMut(&'a [u8], &'a History)) {
        self.root.each(&mut visit);
    }

    /// Bytes that the index takes, but for what an allocator adds to each allocation.
    ///
    /// # Cost
    /// Visits everything.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.root.heap_size()
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check_all(&self) {
        assert!(self.sum == self.root.sum(), "the index knows its root's sum");
        self.root.check_all(None, None, true);
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

/// A change as a file holds it, but for what only its record has.
#[derive(Clone, Copy, Debug)]
pub struct Filed<'k> {
    /// The key.
    pub key: &'k [u8],
    /// Where it lies.
    pub location: Location,
    /// The revision that began the key's life.
    pub created: Revision,
    /// Puts since the creation, this one included; 0 is a tombstone.
    pub version: i64,
}

impl Keyed for Filed<'_> {
    fn key(&self) -> &[u8] {
        self.key
    }
}

/// A part of a range to look at, at one revision.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'k> {
    /// The range.
    pub range: KeyRange<'k>,
    /// The key to go on with, as the slice before gave it.
    pub resume: Option<&'k [u8]>,
    /// The revision.
    pub at: Revision,
    /// Whether from the last key to the first.
    pub down: bool,
    /// Keys to look at, about: it is exceeded by less than what a leaf of the index has.
    pub budget: usize,
}

impl<'k> Slice<'k> {
    /// All of `range`, upwards.
    #[must_use]
    pub fn new(range: KeyRange<'k>, at: Revision) -> Self {
        Self { range, resume: None, at, down: false, budget: usize::MAX }
    }
}

/// The ends of what is left of `range` as the nodes want them; none if no key can be in it.
fn ends<'k>(
    range: KeyRange<'k>,
    resume: Option<&'k [u8]>,
    down: bool,
) -> Option<(Lower<'k>, Upper<'k>)> {
    let (lower, upper) = match range {
        KeyRange::One(key) => (key, Upper::Through(key)),
        KeyRange::Span { start, end } if start < end => (start, Upper::Below(end)),
        KeyRange::Span { .. } => return None,
        KeyRange::From(start) => (start, Upper::Last),
    };
    Some(match resume {
        Some(key) if down => (Some(lower), Upper::Through(key)),
        Some(key) => (Some(key), upper),
        None => (Some(lower), upper),
    })
}

#[cfg(test)]
mod tests;

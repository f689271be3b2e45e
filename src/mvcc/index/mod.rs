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

use self::node::Lower;
use self::node::Node;
use self::node::Sum;
use self::node::Upper;
use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Location;
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

    /// Adds a put of `key`; gives what was live before.
    ///
    /// # Panics
    /// If `location` is not after every change of this key.
    ///
    /// # Cost
    /// One way down the tree; allocates for a new key, and seldom for a known one.
    pub fn put(&mut self, key: &[u8], location: Location) -> Option<Found> {
        let mut placed = self.root.put(key, location);
        if let Some((separator, right)) = placed.split.take() {
            let left = std::mem::replace(&mut self.root, Node::new_leaf());
            self.root = Node::over(left, separator, right);
            self.sum = self.root.sum();
        } else {
            self.sum.put(location.main, &placed);
        }
        placed.prior
    }

    /// Adds a tombstone for every live key in `range`, the first at `first` and each a sub-revision
    /// after the one before, in key order; gives the sub-revision after the last.
    ///
    /// `told` hears each key and what it was.
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
        mut told: impl FnMut(&[u8], Found),
    ) -> u32 {
        let mut next = first;
        if let Some((lower, upper)) = ends(range) {
            self.root.bury(lower, upper, &mut next, &mut told);
            self.sum = self.root.sum();
        }
        next.sub
    }

    /// Keys in `range` that are there at `at`.
    ///
    /// # Cost
    /// Two ways down the tree, and a look at each key of those leaves in the range that have
    /// changed since `at`.
    #[must_use]
    pub fn count(&self, range: KeyRange<'_>, at: Revision) -> u64 {
        if let KeyRange::One(key) = range {
            return u64::from(self.get_at(key, at).is_some());
        }
        ends(range).map_or(0, |(lower, upper)| self.root.count(lower, upper, at))
    }

    /// Shows the keys in `range` that are there at `at` in key order, but for the first `skip`,
    /// until `visit` breaks off.
    ///
    /// # Cost
    /// One way down the tree to the first key shown, as [`Self::count`]; then what is shown.
    pub fn walk<'a>(
        &'a self,
        range: KeyRange<'_>,
        at: Revision,
        mut skip: u64,
        mut visit: impl FnMut(&'a [u8], Found) -> ControlFlow<()>,
    ) {
        if let Some((lower, upper)) = ends(range) {
            // Who breaks off has seen enough; there is nobody else to tell.
            let _ = self.root.walk(lower, upper, at, &mut skip, &mut visit);
        }
    }

    /// Forgets what nobody can see at `floor` or above, until `budget` changes or visits of leaves
    /// are spent; whether there is more to forget. `told` hears the location of each put forgotten.
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

/// The ends of `range` as the nodes want them; none if no key can be in it.
fn ends(range: KeyRange<'_>) -> Option<(Lower<'_>, Upper<'_>)> {
    match range {
        KeyRange::One(key) => Some((Some(key), Upper::Through(key))),
        KeyRange::Span { start, end } => (start < end).then_some((Some(start), Upper::Below(end))),
        KeyRange::From(start) => Some((Some(start), Upper::Last)),
    }
}

#[cfg(test)]
mod tests;

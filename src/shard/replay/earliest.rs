//! The earliest changes of some keys, as the index shows them: key by key, not in order.

use crate::mvcc::Found;
use crate::mvcc::Keyspace;
use crate::mvcc::Slice;
use crate::shard::watch::Past;
use crate::types::Location;
use crate::types::Revision;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Changes of one key that are looked at: what more it has is left for the next slice.
const KEY_CHANGES_MAX: usize = 4096;

/// A change: its key, and what it made of it if it is no tombstone.
pub(super) type Candidate = (Bytes, Option<Found>);

/// The changes of a range from a revision on that come first, as far as the range was walked.
///
/// # Shape
/// Everything that was walked over and lies before `cut` is in `first`, whose count and bytes are
/// bounded, and nothing after `last`.
#[derive(Debug)]
pub(super) struct Earliest {
    /// Where the walk goes on.
    resume: Option<Vec<u8>>,
    first: BTreeMap<Location, Candidate>,
    /// Bytes of their keys.
    size: usize,
    /// Changes of this revision were left out.
    cut: Option<Revision>,
    /// The present when the walk began.
    last: Revision,
    /// Changes looked at.
    looked: usize,
    count_max: usize,
    size_max: usize,
}

/// How far a walk has come.
#[derive(Debug)]
pub(super) enum Walked {
    /// The budget is spent.
    Part,
    /// To the end: all changes up to a revision, in order.
    All(BTreeMap<Location, Candidate>, Revision),
}

impl Earliest {
    /// A walk that begins when the keyspace is at `last`, and finds up to `count_max` changes whose
    /// keys have `size_max` bytes.
    pub(super) fn new(last: Revision, count_max: usize, size_max: usize) -> Self {
        Self {
            resume: None,
            first: BTreeMap::new(),
            size: 0,
            cut: None,
            last,
            looked: 0,
            count_max,
            size_max,
        }
    }

    /// Walks on over the changes of `past` from `from` on, which is pinned; about `budget` keys and
    /// changes. How many changes it saw, and how far it has come.
    pub(super) fn walk(
        &mut self,
        keyspace: &Keyspace,
        (past, from): (&Past, Revision),
        budget: usize,
    ) -> (usize, Walked) {
        let resume = self.resume.take();
        let slice = Slice { resume: resume.as_deref(), budget, ..Slice::new(past.range(), from) };
        let before = self.looked;
        let mut of: Option<(&[u8], Bytes, usize)> = None;
        let rest = keyspace.changed(&slice, |key, location, found| {
            self.looked += 1;
            let (_, copy, count) = match &mut of {
                Some(same) if same.0 == key => same,
                other => other.insert((key, Bytes::copy_from_slice(key), 0)),
            };
            *count += 1;
            if *count > KEY_CHANGES_MAX {
                self.cut_at(location.main);
            }
            if location.main > self.last || self.cut.is_some_and(|cut| location.main >= cut) {
                return ControlFlow::Break(());
            }
            if past.takes(found.is_none()) {
                self.add(location, (copy.clone(), found));
            }
            ControlFlow::Continue(())
        });
        self.resume = rest.map(<[u8]>::to_vec);
        let looked = self.looked - before;
        if self.resume.is_some() {
            return (looked, Walked::Part);
        }
        let until = self.cut.map_or(self.last, |cut| Revision(cut.0 - 1));
        let mut first = std::mem::take(&mut self.first);
        first.split_off(&Location { main: Revision(until.0 + 1), sub: 0 });
        (looked, Walked::All(first, until))
    }

    /// Takes in a change, and leaves out the last if there is no room for both.
    fn add(&mut self, location: Location, candidate: Candidate) {
        self.size += candidate.0.len();
        self.first.insert(location, candidate);
        while self.first.len() > self.count_max
            || (self.size > self.size_max && self.first.len() > 1)
        {
            let (last, (key, _)) = self.first.pop_last().expect("it is not empty");
            self.size -= key.len();
            self.cut_at(last.main);
        }
    }

    fn cut_at(&mut self, main: Revision) {
        self.cut = Some(self.cut.map_or(main, |cut| cut.min(main)));
    }
}

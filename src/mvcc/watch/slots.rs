//! The watchers of each key and of each span, as lists that are linked through the watchers.
//!
//! A watcher takes one slot, whose number is the watcher, and no allocation of its own; it leaves a
//! list of any length in two steps.

use crate::mvcc::watch::pages::NONE;
use crate::mvcc::watch::pages::Pages;

/// What a watcher sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// A key, by its number among the keys.
    Key(u32),
    /// A span, by its number among the spans.
    Span(u32),
}

/// A watcher's place in the list of those that see the same.
///
/// # Shape
/// 16 bytes. `sight` is none while no watcher has this number.
#[derive(Clone, Copy, Debug)]
struct Slot {
    sight: Option<Sight>,
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<Slot>() == 16, "there is one for each watcher");

impl Slot {
    const VACANT: Self = Self { sight: None, prev: NONE, next: NONE };
}

/// The watchers of one key or of one span, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(super) fn is_empty(self) -> bool {
        self.first == NONE
    }
}

/// A slot for each watcher.
///
/// # Shape
/// As many slots as the largest number of a watcher that was here asks for, until none is left.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Pages<Slot>,
    len: usize,
}

impl Slots {
    pub(super) const fn new() -> Self {
        Self { slots: Pages::new(), len: 0 }
    }

    /// Watchers that are here.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What a watcher sees; none if it is not here.
    pub(super) fn sight(&self, watcher: u32) -> Option<Sight> {
        self.slots.get(watcher)?.sight
    }

    /// Adds a watcher that sees `sight` to the end of the list of those.
    ///
    /// # Panics
    /// If it is here, or is the number that no watcher may have, `u32::MAX`.
    pub(super) fn append(&mut self, watcher: u32, sight: Sight, list: &mut List) {
        assert!(watcher != NONE, "the number is one that a watcher may have");
        while self.slots.len() <= watcher {
            self.slots.push(Slot::VACANT);
        }
        let slot = &mut self.slots[watcher];
        assert!(slot.sight.is_none(), "a watcher sees one thing");
        *slot = Slot { sight: Some(sight), prev: list.last, next: NONE };
        match list.last {
            NONE => list.first = watcher,
            last => self.slots[last].next = watcher,
        }
        list.last = watcher;
        self.len += 1;
    }

    /// Takes a watcher that is here out of its list.
    pub(super) fn unlink(&mut self, watcher: u32, list: &mut List) {
        let slot = std::mem::replace(&mut self.slots[watcher], Slot::VACANT);
        assert!(slot.sight.is_some(), "only a watcher that is here is taken out");
        match slot.prev {
            NONE => list.first = slot.next,
            prev => self.slots[prev].next = slot.next,
        }
        match slot.next {
            NONE => list.last = slot.prev,
            next => self.slots[next].prev = slot.prev,
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
    }

    /// Shows the watchers of a list that is not empty, in order.
    ///
    /// # Cost
    /// No look at a slot for one that is alone.
    pub(super) fn each(&self, list: List, visit: &mut impl FnMut(u32)) {
        let mut watcher = list.first;
        visit(watcher);
        while watcher != list.last {
            watcher = self.slots[watcher].next;
            visit(watcher);
        }
    }

    /// Bytes of the slots.
    pub(super) fn heap_size(&self) -> usize {
        self.slots.heap_size()
    }

    /// Checks the list of those that see `sight`; gives how many they are.
    pub(super) fn check_list(&self, sight: Sight, list: List) -> usize {
        assert!(!list.is_empty(), "what nobody sees is not kept");
        let (mut count, mut prev) = (0, NONE);
        self.each(list, &mut |watcher| {
            let slot = self.slots[watcher];
            assert!(slot.sight == Some(sight), "a watcher knows what it sees");
            assert!(slot.prev == prev, "a list reads the same from both ends");
            prev = watcher;
            count += 1;
        });
        assert!(self.slots[prev].next == NONE, "a list ends with its last");
        count
    }

    /// Checks that the lists, which have `listed` watchers, have all that are here.
    pub(super) fn check_all(&self, listed: usize) {
        let here = (0..self.slots.len()).filter(|at| self.slots[*at].sight.is_some()).count();
        assert!(here == self.len, "watchers are counted");
        assert!(here == listed, "every watcher is in a list");
    }
}

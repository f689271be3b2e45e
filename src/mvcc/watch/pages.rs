//! Numbered places in pages: growth moves nothing that is there, and leaves little room unused.
//!
//! A `Vec` of a million places would copy all of them in the turn in which it is full, and may take
//! twice the memory that it needs.

use std::ops::Index;
use std::ops::IndexMut;

/// The number that no place has: where a link ends.
pub(super) const NONE: u32 = u32::MAX;

/// Places of a page.
const PAGE_LEN: usize = 1024;

/// The page of a place, and where in the page it is.
fn split(at: u32) -> (usize, usize) {
    let at = usize::try_from(at).expect("usize has 64 bits");
    (at / PAGE_LEN, at % PAGE_LEN)
}

/// A list that grows by pages.
///
/// # Shape
/// Every page but the last is full. The first one grows, so that few places take little.
#[derive(Debug)]
pub(super) struct Pages<T> {
    pages: Vec<Vec<T>>,
    len: u32,
}

impl<T> Pages<T> {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// What is at a place, if the list is that long.
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        let (page, at) = split(at);
        self.pages.get(page)?.get(at)
    }

    /// Adds a place at the end; gives its number.
    ///
    /// # Panics
    /// If every number is taken.
    pub(super) fn push(&mut self, item: T) -> u32 {
        let at = self.len;
        assert!(at < NONE, "there is a number for the place");
        let (page, _) = split(at);
        if page == self.pages.len() {
            let room = if page == 0 { 0 } else { PAGE_LEN };
            self.pages.push(Vec::with_capacity(room));
        }
        self.pages[page].push(item);
        self.len += 1;
        at
    }

    /// Bytes of the pages.
    ///
    /// # Cost
    /// Visits each page.
    pub(super) fn heap_size(&self) -> usize {
        let places = self.pages.iter().map(Vec::capacity).sum::<usize>();
        self.pages.capacity() * size_of::<Vec<T>>() + places * size_of::<T>()
    }
}

impl<T> Index<u32> for Pages<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        let (page, at) = split(at);
        &self.pages[page][at]
    }
}

impl<T> IndexMut<u32> for Pages<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        let (page, at) = split(at);
        &mut self.pages[page][at]
    }
}

/// Items by a number that is theirs from when they come until they go.
///
/// # Shape
/// Takes the room of the most items that there were, until none is left.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Pages<Place<T>>,
    /// The place last left; each such place names the one left before it.
    free: u32,
    len: u32,
}

/// A place of a slab.
#[derive(Debug)]
pub(super) enum Place<T> {
    /// It has an item.
    Taken(T),
    /// It has none; the next such place.
    Free(u32),
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { places: Pages::new(), free: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Takes in an item; gives its number.
    pub(super) fn insert(&mut self, item: T) -> u32 {
        self.len += 1;
        if self.free == NONE {
            return self.places.push(Place::Taken(item));
        }
        let at = self.free;
        let Place::Free(next) = std::mem::replace(&mut self.places[at], Place::Taken(item)) else {
            unreachable!("a place that was left has no item")
        };
        self.free = next;
        at
    }

    /// Takes out an item.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn remove(&mut self, at: u32) -> T {
        let Place::Taken(item) = std::mem::replace(&mut self.places[at], Place::Free(self.free))
        else {
            unreachable!("only an item that is there is taken out")
        };
        self.free = at;
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        item
    }

    /// Bytes of the places.
    pub(super) fn heap_size(&self) -> usize {
        self.places.heap_size()
    }

    /// Checks that every place has an item or is found by who needs one.
    pub(super) fn check_all(&self) {
        let (mut free, mut at) = (0, self.free);
        while at != NONE {
            let Place::Free(next) = self.places[at] else { panic!("place {at} is free") };
            free += 1;
            at = next;
        }
        assert!(free + self.len == self.places.len(), "no place is lost");
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        match &self.places[at] {
            Place::Taken(item) => item,
            Place::Free(_) => unreachable!("only an item that is there is asked for"),
        }
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        match &mut self.places[at] {
            Place::Taken(item) => item,
            Place::Free(_) => unreachable!("only an item that is there is asked for"),
        }
    }
}

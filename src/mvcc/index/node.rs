//! Nodes of the tree: leaves of keys and histories, and inner nodes above them.

pub(super) mod changed;
pub(super) mod merge;

use std::ops::ControlFlow;
use std::ops::Range;

use super::heads::Heads;
use super::heads::Keyed;
use super::heads::separator;
use super::heads::shared;
use crate::mvcc::Found;
use crate::mvcc::Location;
use crate::mvcc::history::History;
use crate::mvcc::history::NEVER;
use crate::types::Revision;

/// Most keys in a leaf.
///
/// Unit: keys; a power of two. Larger leaves search slower and move more per insertion, smaller
/// ones spend more on headers and make the tree higher. No more than 64, the bits of
/// [`Leaf::live`].
const LEAF_MAX: usize = 32;
/// Most separators in an inner node; it has one child more.
const INNER_MAX: usize = 32;
/// A leaf makes room for this many more keys at a time, so that slack stays small.
const LEAF_GROW: usize = 4;

const _: () = assert!(LEAF_MAX <= 64 && LEAF_MAX.is_power_of_two());
const _: () = assert!(LEAF_MAX >= 16 && INNER_MAX >= 16, "splits and merges need room");

/// What is true of all keys under a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// Keys that are live at the present.
    pub(super) live: u64,
    /// No change is later than this. At this revision and above, a read sees the present.
    pub(super) newest: Revision,
    /// No floor below this makes any change forgettable.
    pub(super) garbage: Revision,
}

impl Sum {
    pub(super) const EMPTY: Self = Self { live: 0, newest: Revision(0), garbage: NEVER };

    fn and(self, other: Self) -> Self {
        Self {
            live: self.live + other.live,
            newest: self.newest.max(other.newest),
            garbage: self.garbage.min(other.garbage),
        }
    }

    /// Takes in that one key has changed.
    pub(super) fn place(&mut self, placed: &Placed) {
        self.live = self.live + u64::from(placed.is_live) - u64::from(placed.was_live);
        self.newest = self.newest.max(placed.newest);
        self.garbage = self.garbage.min(placed.garbage);
    }
}

/// The lower end of the keys wanted under a node; none if all from its first on are.
pub(super) type Lower<'a> = Option<&'a [u8]>;

/// The upper end of the keys wanted under a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Upper<'a> {
    /// All keys to the last.
    Last,
    /// Keys below this one.
    Below(&'a [u8]),
    /// Keys up to this one and itself.
    Through(&'a [u8]),
}

/// Which keys to walk over, below a node, and what for.
pub(super) struct Walk<V> {
    /// The revision to look at.
    pub(super) at: Revision,
    /// Whether from the last key to the first.
    pub(super) down: bool,
    /// About how many more keys may be looked at.
    pub(super) budget: usize,
    /// Is shown each key; breaks off before it has taken one.
    pub(super) visit: V,
}

/// What a change of one key did below a node.
pub(super) struct Placed {
    was_live: bool,
    is_live: bool,
    newest: Revision,
    /// The lowest floor at which something of the key may be forgotten.
    garbage: Revision,
    /// What the node split off on its right, and the separator between the two.
    pub(super) split: Option<(Box<[u8]>, Node)>,
}

#[derive(Debug)]
pub(super) enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

#[derive(Debug)]
pub(super) struct Entry {
    key: Box<[u8]>,
    history: History,
}

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// Keys side by side, in order.
///
/// # Shape
/// Bit `i` of `live` says whether entry `i` is live at the present. `newest` and `garbage` are as
/// in [`Sum`].
#[derive(Debug)]
pub(super) struct Leaf {
    live: u64,
    newest: Revision,
    garbage: Revision,
    heads: Heads<u64, LEAF_MAX>,
    entries: Vec<Entry>,
}

/// Nodes side by side, all of one height.
///
/// # Shape
/// Keys under child `i` are at or above separator `i - 1` and below separator `i`.
#[derive(Debug)]
pub(super) struct Inner {
    heads: Heads<u128, INNER_MAX>,
    separators: Vec<Box<[u8]>>,
    children: Vec<Child>,
}

#[derive(Debug)]
struct Child {
    sum: Sum,
    node: Node,
}

impl Node {
    pub(super) fn new_leaf() -> Self {
        Self::Leaf(Box::new(Leaf::new(0, Vec::new())))
    }

    /// An inner node over two siblings.
    pub(super) fn over(left: Self, separator: Box<[u8]>, right: Self) -> Self {
        let children = [left, right].map(|node| Child { sum: node.sum(), node });
        let separators = vec![separator];
        let heads = Heads::new(0, &separators);
        let mut inner = Inner { heads, separators, children: children.into() };
        inner.refit(0);
        inner.refit(1);
        Self::Inner(Box::new(inner))
    }

    pub(super) fn sum(&self) -> Sum {
        match self {
            Self::Leaf(leaf) => leaf.sum(),
            Self::Inner(inner) => inner.children.iter().fold(Sum::EMPTY, |sum, c| sum.and(c.sum)),
        }
    }

    /// What is known of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<&History> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => {
                    let place = leaf.heads.search(key, &leaf.entries).ok()?;
                    return Some(&leaf.entries[place].history);
                }
                Self::Inner(inner) => node = &inner.children[inner.child_of(key)].node,
            }
        }
    }

    /// Lets `edit` change the history of `key`, or make one if there is none.
    pub(super) fn place(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(Option<&mut History>) -> Option<History>,
    ) -> Placed {
        match self {
            Self::Leaf(leaf) => leaf.place(key, edit),
            Self::Inner(inner) => inner.place(key, edit),
        }
    }

    /// Buries every live key of a range under one revision, from `next` on.
    pub(super) fn bury(
        &mut self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        next: &mut Location,
        told: &mut impl FnMut(&[u8], Found, Location),
    ) {
        match self {
            Self::Leaf(leaf) => leaf.bury(lower, upper, next, told),
            Self::Inner(inner) => {
                for (i, lower, upper) in inner.parts(lower, upper) {
                    let child = &mut inner.children[i];
                    if child.sum.live > 0 {
                        child.node.bury(lower, upper, next, told);
                        child.sum = child.node.sum();
                    }
                }
            }
        }
    }

    /// Counts the keys in a range that are there at `at` into `counted`, until about `budget` keys
    /// have been looked at: then breaks off with the first that has not been.
    pub(super) fn count<'a>(
        &'a self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        at: Revision,
        budget: &mut usize,
        counted: &mut u64,
    ) -> ControlFlow<&'a [u8]> {
        match self {
            Self::Leaf(leaf) => leaf.count(lower, upper, at, budget, counted),
            Self::Inner(inner) => {
                for (i, lower, upper) in inner.parts(lower, upper) {
                    let Child { sum, node } = &inner.children[i];
                    if is_whole(lower, upper) && sum.newest <= at {
                        *counted += sum.live;
                    } else {
                        node.count(lower, upper, at, budget, counted)?;
                    }
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// Walks over a range; breaks off with the key that is next.
    pub(super) fn walk<'a, V: FnMut(&'a [u8], Found) -> ControlFlow<()>>(
        &'a self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        walk: &mut Walk<V>,
    ) -> ControlFlow<&'a [u8]> {
        match self {
            Self::Leaf(leaf) => leaf.walk(lower, upper, walk),
            Self::Inner(inner) => {
                let mut parts = inner.parts(lower, upper);
                while let Some((i, lower, upper)) =
                    if walk.down { parts.next_back() } else { parts.next() }
                {
                    let Child { sum, node } = &inner.children[i];
                    if sum.live > 0 || sum.newest > walk.at {
                        node.walk(lower, upper, walk)?;
                    }
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// Forgets what nobody can see at `floor` in the first leaf that has any, and lowers `budget`
    /// by the work done.
    pub(super) fn compact(
        &mut self,
        floor: Revision,
        budget: &mut usize,
        told: &mut impl FnMut(Location),
    ) {
        match self {
            Self::Leaf(leaf) => leaf.compact(floor, budget, told),
            Self::Inner(inner) => {
                let Some(i) = inner.children.iter().position(|c| c.sum.garbage <= floor) else {
                    return;
                };
                let child = &mut inner.children[i];
                child.node.compact(floor, budget, told);
                child.sum = child.node.sum();
                inner.settle(i);
            }
        }
    }

    /// The only child of an inner node that has but one.
    pub(super) fn take_only_child(&mut self) -> Option<Self> {
        match self {
            Self::Inner(inner) if inner.children.len() == 1 => {
                inner.children.pop().map(|child| child.node)
            }
            Self::Leaf(_) | Self::Inner(_) => None,
        }
    }

    /// Shows every key and its history, in order.
    pub(super) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a [u8], &'a History)) {
        match self {
            Self::Leaf(leaf) => leaf.entries.iter().for_each(|e| visit(&e.key, &e.history)),
            Self::Inner(inner) => inner.children.iter().for_each(|c| c.node.each(visit)),
        }
    }

    /// Bytes under here, but for what an allocator adds.
    pub(super) fn heap_size(&self) -> usize {
        match self {
            Self::Leaf(leaf) => {
                let keys = leaf.entries.iter().map(|e| e.key.len() + e.history.heap_size());
                size_of::<Leaf>()
                    + leaf.entries.capacity() * size_of::<Entry>()
                    + keys.sum::<usize>()
            }
            Self::Inner(inner) => {
                size_of::<Inner>()
                    + inner.separators.capacity() * size_of::<Box<[u8]>>()
                    + inner.separators.iter().map(|separator| separator.len()).sum::<usize>()
                    + inner.children.capacity() * size_of::<Child>()
                    + inner.children.iter().map(|child| child.node.heap_size()).sum::<usize>()
            }
        }
    }

    /// Keys in a leaf, children of an inner node.
    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.entries.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    fn len_max(&self) -> usize {
        match self {
            Self::Leaf(_) => LEAF_MAX,
            Self::Inner(_) => INNER_MAX + 1,
        }
    }

    fn set_skip(&mut self, skip: usize) {
        match self {
            Self::Leaf(leaf) if leaf.heads.skip() != skip => leaf.heads.refill(skip, &leaf.entries),
            Self::Inner(inner) if inner.heads.skip() != skip => {
                inner.heads.refill(skip, &inner.separators);
            }
            Self::Leaf(_) | Self::Inner(_) => {}
        }
    }

    /// Takes in the right sibling; what does not fit is split off again, half and half.
    fn absorb(&mut self, between: Box<[u8]>, right: Self) -> Option<(Box<[u8]>, Self)> {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => {
                left.entries.extend(right.entries);
                let len = left.entries.len();
                let rest = (len > LEAF_MAX).then(|| left.split_off(len / 2));
                left.entries.shrink_to(left.entries.len() + LEAF_GROW);
                left.rebuild();
                rest.map(|(separator, leaf)| (separator, Self::Leaf(leaf)))
            }
            (Self::Inner(left), Self::Inner(right)) => {
                left.separators.push(between);
                left.separators.extend(right.separators);
                left.children.extend(right.children);
                let len = left.separators.len();
                let rest = (len > INNER_MAX).then(|| left.split_off(len / 2));
                left.heads.refill(left.heads.skip(), &left.separators);
                rest.map(|(separator, inner)| (separator, Self::Inner(inner)))
            }
            (Self::Leaf(_), Self::Inner(_)) | (Self::Inner(_), Self::Leaf(_)) => {
                unreachable!("siblings have one height")
            }
        }
    }

    /// Checks every invariant of the nodes under here, whose keys lie in `lower..upper`; gives the
    /// height.
    pub(super) fn check_all(&self, lower: Lower<'_>, upper: Option<&[u8]>, is_root: bool) -> u32 {
        let common = lower.zip(upper).map_or(0, |(lower, upper)| shared(lower, upper));
        let inside = |key: &[u8]| {
            lower.is_none_or(|lower| lower <= key) && upper.is_none_or(|upper| key < upper)
        };
        assert!(self.len() <= self.len_max(), "a node has room for what it holds");
        assert!(is_root || self.len() >= self.len_max() / 8, "a node is not nearly empty");
        match self {
            Self::Leaf(leaf) => {
                assert!(leaf.heads.skip() <= common, "what a node skips, its fences share");
                leaf.check_all(inside);
                0
            }
            Self::Inner(inner) => {
                assert!(inner.heads.skip() <= common, "what a node skips, its fences share");
                inner.heads.check_all(&inner.separators);
                assert!(inner.children.len() == inner.separators.len() + 1);
                assert!(inner.separators.iter().all(|key| inside(key)), "separators are inside");
                assert!(inner.separators.is_sorted_by(|left, right| left < right));
                let heights = inner.children.iter().enumerate().map(|(i, child)| {
                    assert!(child.sum == child.node.sum(), "a parent knows its child's sum");
                    let lower = i.checked_sub(1).map_or(lower, |i| Some(&inner.separators[i]));
                    let upper = inner.separators.get(i).map_or(upper, |key| Some(key));
                    child.node.check_all(lower, upper, false)
                });
                let heights: Vec<_> = heights.collect();
                assert!(heights.iter().all(|height| *height == heights[0]), "all of one height");
                heights[0] + 1
            }
        }
    }
}

impl Leaf {
    fn new(skip: usize, entries: Vec<Entry>) -> Self {
        let heads = Heads::new(skip, &entries);
        let mut leaf = Self { live: 0, newest: Revision(0), garbage: NEVER, heads, entries };
        leaf.rebuild();
        leaf
    }

    /// Derives everything from the entries anew.
    fn rebuild(&mut self) {
        self.heads.refill(self.heads.skip(), &self.entries);
        self.live = 0;
        self.newest = Revision(0);
        self.garbage = NEVER;
        for (place, Entry { history, .. }) in self.entries.iter().enumerate() {
            self.live |= u64::from(history.latest().is_some()) << place;
            self.newest = self.newest.max(history.last().main);
            self.garbage = self.garbage.min(history.garbage_from());
        }
    }

    fn sum(&self) -> Sum {
        Sum { live: u64::from(self.live.count_ones()), newest: self.newest, garbage: self.garbage }
    }

    /// Where the wanted keys stand.
    fn places(&self, lower: Lower<'_>, upper: Upper<'_>) -> Range<usize> {
        let search = |key| self.heads.search(key, &self.entries);
        let start = lower.map_or(0, |key| search(key).unwrap_or_else(|place| place));
        let end = match upper {
            Upper::Last => self.entries.len(),
            Upper::Below(key) => search(key).unwrap_or_else(|place| place),
            Upper::Through(key) => search(key).map_or_else(|place| place, |place| place + 1),
        };
        start..end.max(start)
    }

    /// The bits of [`Self::live`] for `places`.
    fn live_among(&self, places: Range<usize>) -> u64 {
        let below = |place: usize| if place == 64 { u64::MAX } else { (1 << place) - 1 };
        self.live & below(places.end) & !below(places.start)
    }

    fn place(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(Option<&mut History>) -> Option<History>,
    ) -> Placed {
        let mut placed =
            Placed { was_live: false, is_live: false, newest: NEVER, garbage: NEVER, split: None };
        match self.heads.search(key, &self.entries) {
            Ok(place) => {
                let history = &mut self.entries[place].history;
                edit(Some(history));
                let bit = 1 << place;
                placed.was_live = self.live & bit != 0;
                placed.is_live = history.is_live();
                placed.newest = history.last().main;
                placed.garbage = history.garbage_from();
                self.live = if placed.is_live { self.live | bit } else { self.live & !bit };
                self.newest = self.newest.max(placed.newest);
                self.garbage = self.garbage.min(placed.garbage);
            }
            Err(place) => {
                let history = edit(None).expect("an edit makes what is not there");
                placed.is_live = history.is_live();
                placed.newest = history.last().main;
                placed.garbage = history.garbage_from();
                placed.split = self.insert(place, Entry { key: key.into(), history });
            }
        }
        placed
    }

    /// Takes in a new key, and splits if it is full.
    fn insert(&mut self, place: usize, entry: Entry) -> Option<(Box<[u8]>, Node)> {
        if self.entries.len() < LEAF_MAX {
            self.insert_at(place, entry);
            return None;
        }
        // Keys that come in ascending order leave nearly full leaves behind.
        let at = if place == LEAF_MAX { LEAF_MAX * 7 / 8 } else { LEAF_MAX / 2 };
        let (separator, mut right) = self.split_off(at);
        self.rebuild();
        if place <= at && entry.key < separator {
            self.insert_at(place, entry);
        } else {
            right.insert_at(place - at, entry);
        }
        Some((separator, Node::Leaf(right)))
    }

    fn insert_at(&mut self, place: usize, entry: Entry) {
        let len = self.entries.len();
        if len == self.entries.capacity() {
            self.entries.reserve_exact(LEAF_GROW);
        }
        self.heads.insert(place, len, &entry.key);
        let below = (1 << place) - 1;
        let bit = u64::from(entry.history.is_live()) << place;
        self.live = (self.live & below) | ((self.live & !below) << 1) | bit;
        self.newest = self.newest.max(entry.history.last().main);
        self.garbage = self.garbage.min(entry.history.garbage_from());
        self.entries.insert(place, entry);
    }

    /// Splits the entries from `at` on off into a new leaf; this one is to be rebuilt.
    fn split_off(&mut self, at: usize) -> (Box<[u8]>, Box<Self>) {
        let entries = self.entries.split_off(at);
        self.entries.shrink_to(at + LEAF_GROW);
        let separator = separator(&self.entries[at - 1].key, &entries[0].key);
        (separator, Box::new(Self::new(self.heads.skip(), entries)))
    }

    fn bury(
        &mut self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        next: &mut Location,
        told: &mut impl FnMut(&[u8], Found, Location),
    ) {
        let mut live = self.live_among(self.places(lower, upper));
        self.live &= !live;
        while live != 0 {
            let Entry { key, history } = &mut self.entries[lowest_bit(live)];
            told(key, history.latest().expect("its bit says that it is live"), *next);
            history.bury(*next);
            next.sub += 1;
            self.newest = next.main;
            self.garbage = self.garbage.min(history.garbage_from());
            live &= live - 1;
        }
    }

    fn count<'a>(
        &'a self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        at: Revision,
        budget: &mut usize,
        counted: &mut u64,
    ) -> ControlFlow<&'a [u8]> {
        let places = self.places(lower, upper);
        if self.newest <= at {
            *counted += u64::from(self.live_among(places).count_ones());
            return ControlFlow::Continue(());
        }
        let entries = &self.entries[places];
        if *budget == 0
            && let Some(next) = entries.first()
        {
            return ControlFlow::Break(&next.key);
        }
        *budget = budget.saturating_sub(entries.len());
        let there = entries.iter().filter(|entry| entry.history.at(at).is_some());
        *counted += u64::try_from(there.count()).expect("a leaf is small");
        ControlFlow::Continue(())
    }

    fn walk<'a, V: FnMut(&'a [u8], Found) -> ControlFlow<()>>(
        &'a self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        walk: &mut Walk<V>,
    ) -> ControlFlow<&'a [u8]> {
        let mut places = self.places(lower, upper);
        let first = if walk.down { places.clone().next_back() } else { places.clone().next() };
        let Some(first) = first else { return ControlFlow::Continue(()) };
        if walk.budget == 0 {
            return ControlFlow::Break(&self.entries[first].key);
        }
        walk.budget = walk.budget.saturating_sub(places.len());
        let mut show = |Entry { key, history }: &'a Entry| {
            history.at(walk.at).map_or(ControlFlow::Continue(()), |found| {
                (walk.visit)(key, found).map_break(|()| &**key)
            })
        };
        if self.newest > walk.at {
            while let Some(place) = if walk.down { places.next_back() } else { places.next() } {
                show(&self.entries[place])?;
            }
            return ControlFlow::Continue(());
        }
        let mut live = self.live_among(places);
        while live != 0 {
            let place = if walk.down { highest_bit(live) } else { lowest_bit(live) };
            show(&self.entries[place])?;
            live &= !(1 << place);
        }
        ControlFlow::Continue(())
    }

    fn compact(&mut self, floor: Revision, budget: &mut usize, told: &mut impl FnMut(Location)) {
        let before = self.entries.len();
        self.entries.retain_mut(|Entry { history, .. }| {
            let count = history.forgettable(floor).min(history.slice(*budget));
            *budget = budget.saturating_sub(count);
            !history.forget(count, told)
        });
        *budget = budget.saturating_sub(1);
        if self.entries.len() < before {
            self.entries.shrink_to(self.entries.len() + LEAF_GROW);
        }
        self.rebuild();
    }

    fn check_all(&self, inside: impl Fn(&[u8]) -> bool) {
        self.heads.check_all(&self.entries);
        assert!(self.entries.iter().all(|entry| inside(&entry.key)), "keys are inside the fences");
        assert!(self.entries.is_sorted_by(|left, right| left.key < right.key));
        let (mut live, mut newest, mut garbage) = (0, Revision(0), NEVER);
        for (place, Entry { history, .. }) in self.entries.iter().enumerate() {
            history.check_all();
            live |= u64::from(history.latest().is_some()) << place;
            newest = newest.max(history.last().main);
            garbage = garbage.min(history.garbage_from());
        }
        assert!(self.live == live, "a bit for each live key");
        assert!(newest <= self.newest, "no change is later than the newest");
        assert!(self.garbage <= garbage, "no garbage is missed");
    }
}

impl Inner {
    /// The child that has `key` if any has.
    fn child_of(&self, key: &[u8]) -> usize {
        self.heads.search(key, &self.separators).map_or_else(|i| i, |i| i + 1)
    }

    /// The children that have wanted keys, and which of theirs are wanted.
    fn parts<'k>(
        &self,
        lower: Lower<'k>,
        upper: Upper<'k>,
    ) -> impl DoubleEndedIterator<Item = (usize, Lower<'k>, Upper<'k>)> + use<'k> {
        let first = lower.map_or(0, |key| self.child_of(key));
        let last = match upper {
            Upper::Last => self.separators.len(),
            Upper::Below(key) | Upper::Through(key) => self.child_of(key),
        };
        (first..=last).map(move |i| {
            let lower = lower.filter(|_| i == first);
            (i, lower, if i == last { upper } else { Upper::Last })
        })
    }

    fn place(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(Option<&mut History>) -> Option<History>,
    ) -> Placed {
        let i = self.child_of(key);
        let child = &mut self.children[i];
        let mut placed = child.node.place(key, edit);
        if let Some((separator, right)) = placed.split.take() {
            child.sum = child.node.sum();
            placed.split = self.insert(i, separator, right);
        } else {
            child.sum.place(&placed);
        }
        placed
    }

    /// Takes in what child `i` split off, and splits itself if it is full.
    fn insert(&mut self, i: usize, separator: Box<[u8]>, node: Node) -> Option<(Box<[u8]>, Node)> {
        if self.separators.len() < INNER_MAX {
            self.insert_at(i, separator, node);
            return None;
        }
        let at = if i == INNER_MAX { INNER_MAX * 7 / 8 } else { INNER_MAX / 2 };
        let (between, mut right) = self.split_off(at);
        if i <= at {
            self.insert_at(i, separator, node);
        } else {
            right.insert_at(i - at - 1, separator, node);
        }
        Some((between, Node::Inner(right)))
    }

    fn insert_at(&mut self, i: usize, separator: Box<[u8]>, node: Node) {
        self.heads.insert(i, self.separators.len(), &separator);
        self.separators.insert(i, separator);
        self.children.insert(i + 1, Child { sum: node.sum(), node });
        self.refit(i);
        self.refit(i + 1);
    }

    /// Splits the children after the `at`-th off into a new node, and takes out the separator
    /// between the two.
    fn split_off(&mut self, at: usize) -> (Box<[u8]>, Box<Self>) {
        let separators = self.separators.split_off(at + 1);
        let children = self.children.split_off(at + 1);
        let between = self.separators.pop().expect("there is one more than was split off");
        let heads = Heads::new(self.heads.skip(), &separators);
        (between, Box::new(Self { heads, separators, children }))
    }

    /// Tells child `i` what its fences share, as far as this node knows them: at its ends it knows
    /// only what its own fences share.
    fn refit(&mut self, i: usize) {
        let left = i.checked_sub(1).map(|i| &self.separators[i]);
        let skip = left
            .zip(self.separators.get(i))
            .map_or(self.heads.skip(), |(left, right)| shared(left, right));
        self.children[i].node.set_skip(skip);
    }

    /// Joins child `i` with a sibling, or takes from it, if it has grown small.
    fn settle(&mut self, i: usize) {
        let child = &self.children[i].node;
        if child.len() >= child.len_max() / 4 || self.children.len() == 1 {
            return;
        }
        let left = i.saturating_sub(1);
        let between = self.separators.remove(left);
        let right = self.children.remove(left + 1);
        let child = &mut self.children[left];
        let rest = child.node.absorb(between, right.node);
        child.sum = child.node.sum();
        if let Some((separator, node)) = rest {
            self.separators.insert(left, separator);
            self.children.insert(left + 1, Child { sum: node.sum(), node });
        }
        self.heads.refill(self.heads.skip(), &self.separators);
        for i in left..self.children.len().min(left + 2) {
            self.refit(i);
        }
    }
}

fn is_whole(lower: Lower<'_>, upper: Upper<'_>) -> bool {
    lower.is_none() && matches!(upper, Upper::Last)
}

fn lowest_bit(bits: u64) -> usize {
    usize::try_from(bits.trailing_zeros()).expect("usize has 64 bits")
}

fn highest_bit(bits: u64) -> usize {
    usize::try_from(bits.ilog2()).expect("usize has 64 bits")
}

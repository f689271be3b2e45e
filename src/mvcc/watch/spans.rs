//! The spans that have watchers: a balanced tree that finds all that a key is in.
//!
//! Spans are ordered by start, then end. Each node knows which span under it ends last. So a way
//! down to a key finds, at each node whose start is not beyond the key, a subtree of spans that all
//! start before it; of these, whatever has no end beyond the key is left out as a whole.
//!
//! # Source
//! Trees: G. Adelson-Velsky and E. Landis. The last end under a node: T. Cormen et al.,
//! "Introduction to Algorithms", interval trees.

use crate::mvcc::KeyRange;
use crate::mvcc::watch::pages::NONE;
use crate::mvcc::watch::pages::Place;
use crate::mvcc::watch::pages::Slab;
use crate::mvcc::watch::slots::List;

/// Nodes on a way down: a tree of this height has more nodes than there are numbers.
const HEIGHT_MAX: usize = 48;

/// The nodes that a tree of a height has at least.
const fn nodes_min(height: usize) -> u64 {
    let (mut nodes, mut shorter, mut at) = (0, 0, 0);
    while at < height {
        (nodes, shorter) = (nodes + shorter + 1, nodes);
        at += 1;
    }
    nodes
}

const _: () = assert!(nodes_min(HEIGHT_MAX) > 1 << 32);

/// Where a span ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End<'a> {
    /// Before this key.
    Before(&'a [u8]),
    /// Nowhere.
    Never,
}

/// A span that has watchers, and its place in the tree.
///
/// # Shape
/// 48 bytes, and the keys'.
#[derive(Debug)]
struct Node {
    /// The start, and after it the end if there is one.
    keys: Box<[u8]>,
    start_len: usize,
    is_endless: bool,
    /// Nodes on the longest way down, this one included.
    height: u8,
    /// Of this node and all below it, the one whose span ends last.
    last: u32,
    left: u32,
    right: u32,
    watchers: List,
}

const _: () = assert!(size_of::<Place<Node>>() == 48);

impl Node {
    fn new(start: &[u8], end: End<'_>) -> Self {
        let (end, is_endless) = match end {
            End::Before(end) => (end, false),
            End::Never => (&[][..], true),
        };
        Self {
            keys: [start, end].concat().into(),
            start_len: start.len(),
            is_endless,
            height: 1,
            last: NONE,
            left: NONE,
            right: NONE,
            watchers: List::EMPTY,
        }
    }

    fn start(&self) -> &[u8] {
        &self.keys[..self.start_len]
    }

    fn end(&self) -> End<'_> {
        if self.is_endless { End::Never } else { End::Before(&self.keys[self.start_len..]) }
    }

    fn order(&self) -> (&[u8], End<'_>) {
        (self.start(), self.end())
    }

    fn child(&mut self, side: Side) -> &mut u32 {
        match side {
            Side::Left => &mut self.left,
            Side::Right => &mut self.right,
        }
    }
}

/// Which child of a node.
#[derive(Clone, Copy, Debug)]
enum Side {
    Left,
    Right,
}

/// The nodes from the root down to a place, and to which side the way goes on from each.
struct Path {
    steps: [(u32, Side); HEIGHT_MAX],
    len: usize,
}

impl Path {
    const EMPTY: Self = Self { steps: [(NONE, Side::Left); HEIGHT_MAX], len: 0 };

    fn push(&mut self, node: u32, side: Side) {
        self.steps[self.len] = (node, side);
        self.len += 1;
    }
}

/// Every span that has watchers.
#[derive(Debug)]
pub(super) struct Spans {
    nodes: Slab<Node>,
    root: u32,
    /// Bytes of all starts and ends.
    size: usize,
}

impl Spans {
    pub(super) const fn new() -> Self {
        Self { nodes: Slab::new(), root: NONE, size: 0 }
    }

    pub(super) fn range(&self, at: u32) -> KeyRange<'_> {
        let node = &self.nodes[at];
        let start = node.start();
        match node.end() {
            End::Before(end) => KeyRange::Span { start, end },
            End::Never => KeyRange::From(start),
        }
    }

    /// Those that watch a span.
    pub(super) fn watchers(&mut self, at: u32) -> &mut List {
        &mut self.nodes[at].watchers
    }

    /// Shows, in order, those that watch each span that `key` is in; gives how many nodes were
    /// looked at for it.
    pub(super) fn seeing(&self, key: &[u8], visit: &mut impl FnMut(List)) -> usize {
        let (mut at, mut looks) = (self.root, 0);
        while at != NONE {
            looks += 1;
            let node = &self.nodes[at];
            if key < node.start() {
                at = node.left;
                continue;
            }
            looks += self.ending_after(node.left, key, visit);
            if End::Before(key) < node.end() {
                visit(node.watchers);
            }
            at = node.right;
        }
        looks
    }

    /// Shows, in order, those that watch each span under `at` that ends beyond `key`; gives how
    /// many nodes were looked at for it.
    fn ending_after(&self, at: u32, key: &[u8], visit: &mut impl FnMut(List)) -> usize {
        if at == NONE {
            return 0;
        }
        let node = &self.nodes[at];
        if self.nodes[node.last].end() <= End::Before(key) {
            return 1;
        }
        let looks = self.ending_after(node.left, key, visit);
        if End::Before(key) < node.end() {
            visit(node.watchers);
        }
        1 + looks + self.ending_after(node.right, key, visit)
    }

    /// The number of a span, which is made one of the tree's if it is not.
    pub(super) fn open(&mut self, start: &[u8], end: End<'_>) -> u32 {
        let (path, found) = self.find((start, end));
        if found != NONE {
            return found;
        }
        let node = Node::new(start, end);
        self.size += node.keys.len();
        let at = self.nodes.insert(node);
        self.nodes[at].last = at;
        self.climb(&path, at);
        at
    }

    /// Forgets a span that nobody watches any more.
    pub(super) fn close(&mut self, at: u32) {
        let (mut path, found) = self.find(self.nodes[at].order());
        assert!(found == at, "a span has one node");
        let node = &self.nodes[at];
        assert!(node.watchers.is_empty(), "who watches a span keeps it");
        let (left, right, size) = (node.left, node.right, node.keys.len());
        let below = if left == NONE {
            right
        } else if right == NONE {
            left
        } else {
            // The next in order takes the place, and is followed in its own by what is right of it.
            let place = path.len;
            path.push(NONE, Side::Right);
            let mut next = right;
            while self.nodes[next].left != NONE {
                path.push(next, Side::Left);
                next = self.nodes[next].left;
            }
            path.steps[place].0 = next;
            self.nodes[next].left = left;
            self.nodes[next].right
        };
        self.climb(&path, below);
        self.nodes.remove(at);
        self.size -= size;
    }

    /// The node of a span, or `NONE`, and the way to where it is or would be.
    fn find(&self, order: (&[u8], End<'_>)) -> (Path, u32) {
        let (mut path, mut at) = (Path::EMPTY, self.root);
        while at != NONE {
            let node = &self.nodes[at];
            match order.cmp(&node.order()) {
                std::cmp::Ordering::Less => {
                    path.push(at, Side::Left);
                    at = node.left;
                }
                std::cmp::Ordering::Equal => break,
                std::cmp::Ordering::Greater => {
                    path.push(at, Side::Right);
                    at = node.right;
                }
            }
        }
        (path, at)
    }

    /// Puts `below` at the end of a path, and makes each node of the path whole again.
    fn climb(&mut self, path: &Path, mut below: u32) {
        for (at, side) in path.steps[..path.len].iter().rev() {
            *self.nodes[*at].child(*side) = below;
            below = self.balance(*at);
        }
        self.root = below;
    }

    /// Makes a node whole of which a child has changed; gives the node that comes to its place.
    fn balance(&mut self, at: u32) -> u32 {
        let Node { left, right, .. } = self.nodes[at];
        let (high, low) = (self.height(left), self.height(right));
        if high > low + 1 {
            let Node { left: outer, right: inner, .. } = self.nodes[left];
            if self.height(outer) < self.height(inner) {
                self.nodes[at].left = self.turn(left, Side::Left);
            }
            self.turn(at, Side::Right)
        } else if low > high + 1 {
            let Node { left: inner, right: outer, .. } = self.nodes[right];
            if self.height(outer) < self.height(inner) {
                self.nodes[at].right = self.turn(right, Side::Right);
            }
            self.turn(at, Side::Left)
        } else {
            self.sum(at);
            at
        }
    }

    /// Moves a node down to one side; gives the child from the other, which comes to its place.
    fn turn(&mut self, at: u32, down: Side) -> u32 {
        let up = match down {
            Side::Left => Side::Right,
            Side::Right => Side::Left,
        };
        let child = *self.nodes[at].child(up);
        let between = std::mem::replace(self.nodes[child].child(down), at);
        *self.nodes[at].child(up) = between;
        self.sum(at);
        self.sum(child);
        child
    }

    fn height(&self, at: u32) -> u8 {
        if at == NONE { 0 } else { self.nodes[at].height }
    }

    /// Writes down what a node knows of those below it.
    fn sum(&mut self, at: u32) {
        let Node { left, right, .. } = self.nodes[at];
        let mut last = at;
        for child in [left, right].into_iter().filter(|child| *child != NONE) {
            let other = self.nodes[child].last;
            if self.nodes[last].end() < self.nodes[other].end() {
                last = other;
            }
        }
        let height = 1 + self.height(left).max(self.height(right));
        let node = &mut self.nodes[at];
        (node.height, node.last) = (height, last);
    }

    /// Bytes that the tree takes, its keys included.
    pub(super) fn heap_size(&self) -> usize {
        self.nodes.heap_size() + self.size
    }

    /// Checks every invariant; `each` is shown the number and the watchers of each span.
    pub(super) fn check_all(&self, mut each: impl FnMut(u32, List)) {
        self.nodes.check_all();
        let (mut count, mut size, mut before) = (0, 0, None);
        self.check_under(self.root, &mut |at, node| {
            let order = node.order();
            assert!(before.is_none_or(|before| before < order), "spans stand in order");
            assert!(End::Before(order.0) < order.1, "a span has keys");
            before = Some(order);
            each(at, node.watchers);
            count += 1;
            size += node.keys.len();
        });
        assert!(count == self.nodes.len(), "every span is in the tree");
        assert!(size == self.size, "bytes of keys are counted");
    }

    /// Checks the nodes under `at` and shows each, in order; gives the height and the last end.
    fn check_under<'a>(
        &'a self,
        at: u32,
        each: &mut impl FnMut(u32, &'a Node),
    ) -> (u8, Option<End<'a>>) {
        if at == NONE {
            return (0, None);
        }
        let node = &self.nodes[at];
        let left = self.check_under(node.left, each);
        each(at, node);
        let right = self.check_under(node.right, each);
        assert!(left.0.abs_diff(right.0) <= 1, "the tree is balanced");
        assert!(node.height == 1 + left.0.max(right.0), "a node knows its height");
        let last = Some(node.end()).max(left.1).max(right.1);
        assert!(last == Some(self.nodes[node.last].end()), "a node knows the last end");
        (node.height, last)
    }
}

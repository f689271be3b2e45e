//! Many changes at once, in the order of their keys: a node is visited once for all of its own.

use super::Keyed;
use super::Node;
use crate::mvcc::history::History;

/// What split off a node on its right, in order, each with the separator on its left.
pub(in crate::mvcc::index) type Siblings = Vec<(Box<[u8]>, Node)>;

impl Node {
    /// Lets `edit` change the histories of `items` or make those that are not there, and gives what
    /// split off.
    ///
    /// # Shape
    /// Items stand in the order of their keys, of which some may be the same, and all belong here.
    pub(in crate::mvcc::index) fn merge<T: Keyed>(
        &mut self,
        items: &[T],
        edit: &mut impl FnMut(&T, Option<&mut History>) -> Option<History>,
    ) -> Siblings {
        let (mut siblings, mut at, mut done) = (Siblings::new(), 0, 0);
        while let [first, ..] = &items[done..] {
            at = find(&siblings, at, first.key());
            let bound = siblings.get(at).map(|sibling| &*sibling.0);
            let rest = below(&items[done..], bound);
            match pick(self, &mut siblings, at) {
                Self::Leaf(leaf) => {
                    let placed = leaf.place(first.key(), |history| edit(first, history));
                    siblings.splice(at..at, placed.split);
                    done += 1;
                }
                Self::Inner(inner) => {
                    let i = inner.child_of(first.key());
                    let part = below(rest, inner.separators.get(i).map(|key| &**key));
                    let child = &mut inner.children[i];
                    let split = child.node.merge(part, edit);
                    child.sum = child.node.sum();
                    done += part.len();
                    self.adopt(&mut siblings, at, split);
                }
            }
        }
        siblings
    }

    /// Takes in what children of this inner node, or of a sibling from `at` on, split off.
    pub(in crate::mvcc::index) fn adopt(
        &mut self,
        siblings: &mut Siblings,
        mut at: usize,
        split: impl IntoIterator<Item = (Box<[u8]>, Self)>,
    ) {
        for (separator, node) in split {
            at = find(siblings, at, &separator);
            let Self::Inner(inner) = pick(self, siblings, at) else {
                unreachable!("a leaf has no children")
            };
            let split = inner.insert(inner.child_of(&separator), separator, node);
            siblings.splice(at..at, split);
        }
    }
}

/// Which node, of the first and its siblings, has `key`: none before the one at `from`.
fn find(siblings: &Siblings, from: usize, key: &[u8]) -> usize {
    let before = siblings[from..].iter().take_while(|(separator, _)| **separator <= *key);
    from + before.count()
}

/// The first node for 0, or the sibling before `at`.
fn pick<'n>(first: &'n mut Node, siblings: &'n mut Siblings, at: usize) -> &'n mut Node {
    at.checked_sub(1).map_or(first, |i| &mut siblings[i].1)
}

/// The items below `bound`, if there is one.
///
/// # Cost
/// Logarithmic in how many they are: mostly it is few of many.
fn below<'i, T: Keyed>(items: &'i [T], bound: Option<&[u8]>) -> &'i [T] {
    let Some(bound) = bound else { return items };
    let is_below = |item: &T| item.key() < bound;
    let mut reach = 1;
    while items.get(reach).is_some_and(is_below) {
        reach *= 2;
    }
    let reach = reach.min(items.len());
    let sure = reach / 2;
    &items[..sure + items[sure..reach].partition_point(is_below)]
}

//! What has changed since a revision: nodes without such a change are passed over.

use std::ops::ControlFlow;

use super::Child;
use super::Entry;
use super::Leaf;
use super::Lower;
use super::Node;
use super::Upper;
use crate::mvcc::Found;
use crate::mvcc::Location;
use crate::types::Revision;

/// Which keys' changes to show, below a node.
pub(in crate::mvcc::index) struct Changed<V> {
    /// The first revision whose changes matter.
    pub(in crate::mvcc::index) since: Revision,
    /// About how many more keys and changes may be looked at.
    pub(in crate::mvcc::index) budget: usize,
    /// Is shown each change; breaks off to see no more of its key.
    pub(in crate::mvcc::index) visit: V,
}

impl Node {
    /// Shows the changes of a range since a revision, key by key; breaks off with the key that is
    /// next.
    pub(in crate::mvcc::index) fn changed<'a, V>(
        &'a self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        changed: &mut Changed<V>,
    ) -> ControlFlow<&'a [u8]>
    where
        V: FnMut(&'a [u8], Location, Option<Found>) -> ControlFlow<()>,
    {
        match self {
            Self::Leaf(leaf) => leaf.changed(lower, upper, changed),
            Self::Inner(inner) => {
                for (i, lower, upper) in inner.parts(lower, upper) {
                    let Child { sum, node } = &inner.children[i];
                    if sum.newest >= changed.since {
                        node.changed(lower, upper, changed)?;
                    }
                }
                ControlFlow::Continue(())
            }
        }
    }
}

impl Leaf {
    fn changed<'a, V>(
        &'a self,
        lower: Lower<'_>,
        upper: Upper<'_>,
        changed: &mut Changed<V>,
    ) -> ControlFlow<&'a [u8]>
    where
        V: FnMut(&'a [u8], Location, Option<Found>) -> ControlFlow<()>,
    {
        if self.newest < changed.since {
            return ControlFlow::Continue(());
        }
        for Entry { key, history } in &self.entries[self.places(lower, upper)] {
            if changed.budget == 0 {
                return ControlFlow::Break(key);
            }
            changed.budget -= 1;
            history.since(changed.since, |location, found| {
                changed.budget = changed.budget.saturating_sub(1);
                (changed.visit)(key, location, found)
            });
        }
        ControlFlow::Continue(())
    }
}

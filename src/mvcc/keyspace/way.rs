//! The way that a transaction takes: which of its compares hold, found in steps.
//!
//! A compare of values looks at every value of its range. They may be on disk, and be more than
//! there is memory for. So it looks at some of them at a time, and keeps nothing of what it has
//! seen but that all of it holds. Compares that decide nothing are not looked at.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::ops::Range;

use crate::mvcc::Found;
use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::Records;
use crate::mvcc::Slice;
use crate::mvcc::txn::Compare;
use crate::mvcc::txn::Op;
use crate::mvcc::txn::Operand;
use crate::mvcc::txn::Script;
use crate::types::Revision;

/// How a value compares to an operand, as far as that can be said now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// Like this.
    Is(Ordering),
    /// It is on disk, and asked for: look again when it has come.
    Away,
    /// It is on disk, and not asked for, as enough is on its way: look again later.
    Full,
}

/// The way of a transaction, as far as it is found.
///
/// # Shape
/// It is begun with the first step, and from then on of one transaction and one revision.
#[derive(Debug, Default)]
pub struct Way {
    /// The revision that the compares see; none before the first step.
    at: Option<Revision>,
    /// For each transaction, whether its compares held; none if it is not on the way.
    path: Vec<Option<bool>>,
    /// The transaction that is looked at; those before it are done.
    txn: usize,
    /// How many of its compares hold.
    held: usize,
    pass: Pass,
}

/// How far the compare that is looked at has come in its range.
#[derive(Debug, Default)]
struct Pass {
    /// The key to go on with; none at the beginning.
    resume: Option<Vec<u8>>,
    /// Nothing is left but what is on its way.
    is_through: bool,
    /// Whether any key is there.
    is_there: bool,
    /// What is seen of the keys whose values are on their way.
    away: Vec<Found>,
}

impl Way {
    /// The revision that the compares see.
    ///
    /// # Panics
    /// If it was not begun.
    #[must_use]
    pub fn at(&self) -> Revision {
        self.at.expect("the way was begun")
    }

    /// Whether the compares of `txn` held; none if it is not on the way.
    pub(super) fn succeeded(&self, txn: usize) -> Option<bool> {
        self.path[txn]
    }
}

impl Keyspace {
    /// Goes on along a transaction's way, as far as that can be said now; whether all of it is
    /// found. `look` compares the value of a change to an operand.
    ///
    /// # Shape
    /// Every compare sees the keyspace as it was at the first step. If one waits for a value then
    /// `look` has said so of it, or that enough is on its way; each value that was away is asked
    /// for again in the next step.
    ///
    /// # Panics
    /// If that revision may be forgotten: who lets anything happen between two steps pins it.
    ///
    /// # Cost
    /// One look at each key in the ranges of the compares that decide, up to the first that does
    /// not hold, and one more at those that were away. Between steps nothing is kept but those.
    pub fn find_way(
        &self,
        script: &impl Script,
        way: &mut Way,
        records: &impl Records,
        mut look: impl FnMut(Location, &[u8]) -> Compared,
    ) -> bool {
        if way.at.is_none() {
            way.at = Some(self.revision);
            way.path = vec![None; script.txns()];
            way.path[0] = Some(false);
        }
        self.assert_kept(way.at());
        // A transaction stands after the one it is in.
        while way.txn < way.path.len() {
            if way.path[way.txn].is_some() {
                let head = script.head(way.txn);
                let compares = head.compares.clone();
                let found = self.all_hold(script, compares, way, records, &mut look);
                let Some(succeeded) = found else { return false };
                way.path[way.txn] = Some(succeeded);
                for at in head.branch(succeeded) {
                    if let Op::Txn(inner) = script.op(at) {
                        way.path[inner] = Some(false);
                    }
                }
            }
            (way.txn, way.held) = (way.txn + 1, 0);
        }
        true
    }

    /// Whether these compares hold, from the one on that is looked at; none if one has to wait.
    fn all_hold(
        &self,
        script: &impl Script,
        compares: Range<usize>,
        way: &mut Way,
        records: &impl Records,
        look: &mut impl FnMut(Location, &[u8]) -> Compared,
    ) -> Option<bool> {
        let at = way.at();
        for compare in compares.skip(way.held) {
            let compare = script.compare(compare);
            let holds = self.holds(&compare, at, &mut way.pass, |found| match compare.operand {
                Operand::Version(version) => Compared::Is(found.version.cmp(&version)),
                Operand::Create(revision) => Compared::Is(found.created.0.cmp(&revision)),
                Operand::Mod(revision) => Compared::Is(found.location.main.0.cmp(&revision)),
                Operand::Value(value) => look(found.location, value),
                Operand::Lease(lease) => Compared::Is(records.lease(found.location).0.cmp(&lease)),
                Operand::Unknown => Compared::Is(Ordering::Equal),
            })?;
            if !holds {
                return Some(false);
            }
            way.held += 1;
        }
        Some(true)
    }

    /// Whether `compare` holds for every key in its range, none if it has to wait; a range without
    /// keys is as a key that is not there.
    fn holds(
        &self,
        compare: &Compare<'_>,
        at: Revision,
        pass: &mut Pass,
        mut look: impl FnMut(Found) -> Compared,
    ) -> Option<bool> {
        let Pass { resume, is_through, is_there, away } = pass;
        let mut all = true;
        away.retain(|found| match look(*found) {
            Compared::Is(order) => {
                all &= compare.operator.holds(order);
                false
            }
            Compared::Away | Compared::Full => true,
        });
        if all && !*is_through {
            let slice = Slice { resume: resume.as_deref(), ..Slice::new(compare.range, at) };
            let rest = self.index.walk(&slice, |_, found| {
                match look(found) {
                    Compared::Is(order) => all = compare.operator.holds(order),
                    Compared::Away => away.push(found),
                    Compared::Full => return ControlFlow::Break(()),
                }
                *is_there = true;
                if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            *is_through = rest.is_none();
            *resume = rest.map(<[u8]>::to_vec);
        }
        if all && !(*is_through && away.is_empty()) {
            return None;
        }
        let is_there = std::mem::take(pass).is_there;
        Some(if is_there { all } else { holds_for_none(compare) })
    }
}

/// Whether a compare holds where no key is.
fn holds_for_none(compare: &Compare<'_>) -> bool {
    match compare.operand {
        Operand::Value(_) => false,
        Operand::Version(operand)
        | Operand::Create(operand)
        | Operand::Mod(operand)
        | Operand::Lease(operand) => compare.operator.holds(0.cmp(&operand)),
        Operand::Unknown => compare.operator.holds(Ordering::Equal),
    }
}

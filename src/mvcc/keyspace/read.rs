//! Ranges: which rows, in which order, and how many.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::Location;
use crate::mvcc::Page;
use crate::mvcc::RangeQuery;
use crate::mvcc::Records;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::Summary;
use crate::mvcc::index::Slice;
use crate::types::Revision;

impl Keyspace {
    /// Answers `query`, with what the records hold.
    ///
    /// # Errors
    /// As [`Self::range_with`].
    ///
    /// # Panics
    /// If a value that is wanted is not in memory.
    ///
    /// # Cost
    /// As [`Self::range_with`], and an allocation for each row's key.
    pub fn range(&self, query: &RangeQuery<'_>, records: &impl Records) -> Result<Page, Refusal> {
        let mut rows = Vec::new();
        let summary =
            self.range_with(query, records, |row| rows.push(row.resolve(query, records)))?;
        let Summary { count, more, revision } = summary;
        Ok(Page { rows, more, count, revision })
    }

    /// Answers `query`, giving each row to `visit` in the order asked for.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`], [`Refusal::FutureRevision`], [`Refusal::Compacted`], in this order;
    /// `visit` has then not been called.
    ///
    /// # Panics
    /// If rows are sorted by values that are not in memory; `records` is not asked otherwise.
    ///
    /// # Cost
    /// In the keys' own order, up or down, no row is visited beyond those given, and nothing is
    /// allocated. Bounds on revisions visit the rows that they drop. Any other order visits the
    /// whole range and sorts it. The count costs as
    /// [`Index::count`](crate::mvcc::index::Index::count).
    pub fn range_with<'s>(
        &'s self,
        query: &RangeQuery<'_>,
        records: &impl Records,
        mut visit: impl FnMut(Row<'s>),
    ) -> Result<Summary, Refusal> {
        let answered = self.range_within(query, records, usize::MAX, |row| {
            visit(row);
            ControlFlow::Continue(())
        })?;
        Ok(answered.expect("no budget is that small, and nobody broke off"))
    }

    /// Answers `query` if that takes no more than looking at about `budget` keys and `visit` does
    /// not break off; otherwise none, and what was visited is to be thrown away.
    ///
    /// # Errors
    /// As [`Self::range_with`].
    ///
    /// # Panics
    /// As [`Self::range_with`].
    pub fn range_within<'s>(
        &'s self,
        query: &RangeQuery<'_>,
        records: &impl Records,
        budget: usize,
        visit: impl FnMut(Row<'s>) -> ControlFlow<()>,
    ) -> Result<Option<Summary>, Refusal> {
        if query.range.start().is_empty() {
            return Err(Refusal::EmptyKey);
        }
        let at = self.check_revision(query.revision)?;
        Ok(self.range_at(query, at, records, budget, visit))
    }

    /// As [`Self::range_within`], at a revision that is kept, whatever `query` says.
    pub(super) fn range_at<'s>(
        &'s self,
        query: &RangeQuery<'_>,
        at: Revision,
        records: &impl Records,
        budget: usize,
        mut visit: impl FnMut(Row<'s>) -> ControlFlow<()>,
    ) -> Option<Summary> {
        let slice = Slice { down: query.is_downwards(), budget, ..Slice::new(query.range, at) };
        if matches!(query.range, KeyRange::One(_)) {
            return self.get_with(&slice, query, visit);
        }
        let summary = |count, more| Some(Summary { count, more, revision: self.revision });
        if query.is_all_in_key_order() {
            let mut given = 0;
            let rest = self.index.walk(&slice, |key, found| {
                given += 1;
                visit(Row::new(key, found))
            });
            return rest.map_or_else(|| summary(given, false), |_| None);
        }
        let (count, rest) = self.index.count_slice(&slice);
        if rest.is_some() {
            return None;
        }
        let count = i64::try_from(count).expect("keys fit in memory");
        if query.count_only || count == 0 {
            return summary(count, false);
        }
        let more = if query.is_in_key_order() {
            self.walk_with(&slice, query, visit)
        } else {
            self.sort_with(&slice, query, records, visit)
        };
        more.and_then(|more| summary(count, more))
    }

    /// Answers a query for one key.
    fn get_with<'s>(
        &'s self,
        slice: &Slice<'_>,
        query: &RangeQuery<'_>,
        mut visit: impl FnMut(Row<'s>) -> ControlFlow<()>,
    ) -> Option<Summary> {
        let mut count = 0;
        let rest = self.index.walk(slice, |stored, found| {
            count = 1;
            if query.count_only || !query.takes(found) {
                return ControlFlow::Continue(());
            }
            visit(Row::new(stored, found))
        });
        rest.is_none().then_some(Summary { count, more: false, revision: self.revision })
    }

    /// Gives rows in the keys' order, up or down; whether there are more than the limit, or none if
    /// it was broken off.
    fn walk_with<'s>(
        &'s self,
        slice: &Slice<'_>,
        query: &RangeQuery<'_>,
        mut visit: impl FnMut(Row<'s>) -> ControlFlow<()>,
    ) -> Option<bool> {
        let (mut left, mut more) = (query.limit().unwrap_or(u64::MAX), false);
        let rest = self.index.walk(slice, |key, found| {
            if !query.takes(found) {
                return ControlFlow::Continue(());
            }
            if left == 0 {
                more = true;
                return ControlFlow::Break(());
            }
            left -= 1;
            visit(Row::new(key, found))
        });
        (more || rest.is_none()).then_some(more)
    }

    /// Gives rows in an order that is not the keys'; as [`Self::walk_with`] otherwise.
    fn sort_with<'s>(
        &'s self,
        slice: &Slice<'_>,
        query: &RangeQuery<'_>,
        records: &impl Records,
        visit: impl FnMut(Row<'s>) -> ControlFlow<()>,
    ) -> Option<bool> {
        let limit = query.limit().unwrap_or(u64::MAX);
        // Without an order, etcd fetches one more than asked for, in key order, and sorts those
        // alone.
        let cuts_first = query.order == SortOrder::None && !query.drops();
        let fetch = if cuts_first { limit.saturating_add(1) } else { u64::MAX };
        let (mut rows, mut left) = (Vec::new(), fetch);
        let rest = self.index.walk(slice, |key, found| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            if query.takes(found) {
                rows.push(Row::new(key, found));
            }
            ControlFlow::Continue(())
        });
        if rest.is_some() && left > 0 {
            return None;
        }
        sort(&mut rows, query, records);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        let shown = rows.into_iter().take(limit).try_for_each(visit);
        shown.is_continue().then_some(more)
    }

    /// Shows the next keys of a slice in the keys' order, up or down, dropped by no bound, until
    /// `visit` breaks off before it has taken one; gives the key to go on with, if any is left.
    ///
    /// # Shape
    /// Slices at one revision show what one read at that revision shows, whatever is written and
    /// compacted between them.
    ///
    /// # Panics
    /// If what that revision sees may be forgotten: whoever reads in slices pins it.
    ///
    /// # Cost
    /// One way down the index, and what is looked at.
    pub fn walk<'s>(
        &'s self,
        slice: &Slice<'_>,
        mut visit: impl FnMut(Row<'s>) -> ControlFlow<()>,
    ) -> Option<&'s [u8]> {
        self.assert_kept(slice.at);
        self.index.walk(slice, |key, found| visit(Row::new(key, found)))
    }

    /// Keys that are there in a slice, from its first key up whatever direction it has, and the
    /// first key that was not looked at, if any is left.
    ///
    /// # Panics
    /// As [`Self::walk`].
    ///
    /// # Cost
    /// As [`Index::count_slice`](crate::mvcc::index::Index::count_slice).
    #[must_use]
    pub fn count_slice(&self, slice: &Slice<'_>) -> (u64, Option<&[u8]>) {
        self.assert_kept(slice.at);
        self.index.count_slice(slice)
    }

    /// Shows every change of a slice's keys from its revision on; of a put also what it made of
    /// the key. See [`Index::changed`](crate::mvcc::index::Index::changed).
    ///
    /// # Panics
    /// As [`Self::walk`].
    pub fn changed<'s>(
        &'s self,
        slice: &Slice<'_>,
        visit: impl FnMut(&'s [u8], Location, Option<Found>) -> ControlFlow<()>,
    ) -> Option<&'s [u8]> {
        self.assert_kept(slice.at);
        self.index.changed(slice, visit)
    }

    /// The key at the present.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Found> {
        self.index.get(key)
    }

    /// The key as it was at `at`.
    ///
    /// # Panics
    /// If what that revision sees may be forgotten.
    #[must_use]
    pub fn get_at(&self, key: &[u8], at: Revision) -> Option<Found> {
        self.assert_kept(at);
        self.index.get_at(key, at)
    }
}

/// Sorts rows that stand in key order. Ties stay in it, in either direction; etcd promises nothing
/// about them.
fn sort(rows: &mut Vec<Row<'_>>, query: &RangeQuery<'_>, records: &impl Records) {
    let down = query.order == SortOrder::Descend;
    let turn = |order: std::cmp::Ordering| if down { order.reverse() } else { order };
    match query.target {
        SortTarget::Key => rows.sort_by(|left, right| turn(left.key.cmp(right.key))),
        SortTarget::Version => rows.sort_by(|left, right| turn(left.version.cmp(&right.version))),
        SortTarget::Create => {
            rows.sort_by(|left, right| turn(left.create_revision.cmp(&right.create_revision)));
        }
        SortTarget::Mod => {
            rows.sort_by(|left, right| turn(left.location.main.cmp(&right.location.main)));
        }
        SortTarget::Value => {
            let valued = rows.iter().map(|row| (records.value(row.location), *row));
            let mut valued: Vec<(Bytes, Row<'_>)> = valued.collect();
            valued.sort_by(|left, right| turn(left.0.cmp(&right.0)));
            rows.clear();
            rows.extend(valued.into_iter().map(|(_, row)| row));
        }
    }
}

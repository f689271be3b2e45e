//! Ranges: which rows, in which order, and how many.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::Page;
use crate::mvcc::RangeQuery;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::Summary;
use crate::types::LeaseId;
use crate::types::Revision;

/// The value of a row that is to have none.
static NO_VALUE: Bytes = Bytes::new();

impl Keyspace {
    /// Answers `query`.
    ///
    /// # Errors
    /// As [`Self::range_with`].
    ///
    /// # Cost
    /// As [`Self::range_with`], and an allocation for each row's key.
    pub fn range(&self, query: &RangeQuery<'_>) -> Result<Page, Refusal> {
        let mut rows = Vec::new();
        let summary = self.range_with(query, |row| rows.push(row.to_key_value()))?;
        let Summary { count, more, revision } = summary;
        Ok(Page { rows, more, count, revision })
    }

    /// Answers `query`, giving each row to `visit` in the order asked for.
    ///
    /// # Errors
    /// [`Refusal::EmptyKey`], [`Refusal::FutureRevision`], [`Refusal::Compacted`], in this order;
    /// `visit` has then not been called.
    ///
    /// # Cost
    /// In the keys' own order, up or down, no row is visited beyond those given, and nothing is
    /// allocated but, downwards, the list of the rows. Bounds on revisions visit the rows that they
    /// drop. Any other order visits the whole range and sorts it. The count costs as
    /// [`Index::count`](crate::mvcc::index::Index::count).
    pub fn range_with<'s>(
        &'s self,
        query: &RangeQuery<'_>,
        mut visit: impl FnMut(Row<'s>),
    ) -> Result<Summary, Refusal> {
        if query.range.start().is_empty() {
            return Err(Refusal::EmptyKey);
        }
        let at = self.check_revision(query.revision)?;
        if matches!(query.range, KeyRange::One(_)) {
            return Ok(self.get_with(at, query, visit));
        }
        let limit = u64::try_from(query.limit).ok().filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(u64::MAX);
        let drops = query.drops();
        let mut given = 0;
        let with_record = query.needs_record();
        let mut give = |key, found| {
            given += 1;
            visit(self.row(key, found, with_record, query.keys_only));
        };
        if query.is_all_in_key_order() {
            self.walk_up(query, at, limit, give);
            return Ok(Summary { count: given, more: false, revision: self.revision });
        }
        let count = self.index.count(query.range, at);
        let summary = |more| Summary { count: signed(count), more, revision: self.revision };
        if query.count_only || count == 0 {
            return Ok(summary(false));
        }
        match (query.target, query.order) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {
                let more = self.walk_up(query, at, limit, give);
                Ok(summary(more))
            }
            (SortTarget::Key, SortOrder::Descend) if !drops => {
                let skip = count.saturating_sub(limit);
                let rows = self.collect(query, at, skip, u64::MAX);
                rows.into_iter().rev().for_each(|(key, found)| give(key, found));
                Ok(summary(skip > 0))
            }
            (target, order) => {
                // Without an order, etcd fetches one more than asked for, in key order, and sorts
                // those alone.
                let fetch = if order == SortOrder::None && !drops {
                    limit.saturating_add(1)
                } else {
                    u64::MAX
                };
                let mut rows = self.collect(query, at, 0, fetch);
                self.sort(&mut rows, target, order == SortOrder::Descend);
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let more = rows.len() > limit;
                rows.into_iter().take(limit).for_each(|(key, found)| give(key, found));
                Ok(summary(more))
            }
        }
    }

    /// Answers a query for one key.
    fn get_with<'s>(
        &'s self,
        at: Revision,
        query: &RangeQuery<'_>,
        mut visit: impl FnMut(Row<'s>),
    ) -> Summary {
        let mut count = 0;
        self.index.walk(query.range, at, 0, |stored, found| {
            count = 1;
            if !query.count_only && query.takes(found) {
                visit(self.row(stored, found, query.needs_record(), query.keys_only));
            }
            ControlFlow::Break(())
        });
        Summary { count, more: false, revision: self.revision }
    }

    /// Gives rows in key order up to `limit`; whether there are more.
    fn walk_up<'s>(
        &'s self,
        query: &RangeQuery<'_>,
        at: Revision,
        limit: u64,
        mut give: impl FnMut(&'s [u8], Found),
    ) -> bool {
        let (mut left, mut more) = (limit, false);
        self.index.walk(query.range, at, 0, |key, found| {
            if !query.takes(found) {
                return ControlFlow::Continue(());
            }
            if left == 0 {
                more = true;
                return ControlFlow::Break(());
            }
            left -= 1;
            give(key, found);
            ControlFlow::Continue(())
        });
        more
    }

    /// The rows that `query` takes, of the `fetch` after the first `skip`, in key order.
    fn collect(
        &self,
        query: &RangeQuery<'_>,
        at: Revision,
        skip: u64,
        mut fetch: u64,
    ) -> Vec<(&[u8], Found)> {
        let mut rows = Vec::new();
        self.index.walk(query.range, at, skip, |key, found| {
            if query.takes(found) {
                rows.push((key, found));
            }
            fetch -= 1;
            if fetch == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        rows
    }

    /// Sorts rows that stand in key order. Ties stay in it, in either direction; etcd promises
    /// nothing about them.
    fn sort(&self, rows: &mut [(&[u8], Found)], target: SortTarget, down: bool) {
        let value = |found: Found| self.tail.get(found.location).map(|record| &record.value);
        rows.sort_by(|&(left_key, left), &(right_key, right)| {
            let order = match target {
                SortTarget::Key => left_key.cmp(right_key),
                SortTarget::Version => left.version.cmp(&right.version),
                SortTarget::Create => left.created.cmp(&right.created),
                SortTarget::Mod => left.location.main.cmp(&right.location.main),
                SortTarget::Value => value(left).cmp(&value(right)),
            };
            if down { order.reverse() } else { order }
        });
    }

    fn row<'s>(
        &'s self,
        key: &'s [u8],
        found: Found,
        with_record: bool,
        keys_only: bool,
    ) -> Row<'s> {
        let Found { created, location, version } = found;
        let record = with_record.then(|| self.record(location));
        Row {
            key,
            create_revision: created,
            location,
            version,
            lease: record.map_or(LeaseId(0), |record| record.lease),
            value: record.filter(|_| !keys_only).map_or(&NO_VALUE, |record| &record.value),
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).expect("keys fit in memory")
}

//! Answers that are longer than a turn: measured first, then given in slices.
//!
//! A list is one consistent revision: what is written after it began is not in it, however long
//! it takes to leave.

use crate::mvcc::KeyValue;
use crate::mvcc::Location;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::Summary;
use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::request::Failure;
use crate::shard::request::Header;
use crate::shard::request::Range;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::types::LeaseId;
use crate::types::Revision;
use std::collections::BTreeMap;

/// Lists that one shard has open; one more is refused as too many. Default 65,536, what it lets
/// wait for a read point.
const LISTS_MAX: usize = 65_536;

/// Bytes that a row counts for beside its key and its value.
const ROW_SIZE: usize = 32;

/// What a row's bytes on the wire depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowShape {
    /// Bytes of the key.
    pub key_len: usize,
    /// Bytes of the value; 0 when only keys are given.
    pub value_len: usize,
    /// The revision that began the key's present life.
    pub create_revision: Revision,
    /// The revision of the change that is seen.
    pub mod_revision: Revision,
    /// Puts since the creation.
    pub version: i64,
    /// The lease, as it is shown.
    pub lease: LeaseId,
}

/// What is known of a list before its first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListHead {
    /// Who answers; the revision is the one at which the list began.
    pub header: Header,
    /// Keys in the range, whatever the limit left of them.
    pub count: i64,
    /// Whether the limit cut rows off.
    pub more: bool,
    /// Rows that come. Not known of a stream: 0.
    pub rows: u64,
    /// Sum of the shapes of all rows, in bytes. Not known of a stream: 0.
    pub size: u64,
    /// Whether each slice is a message of its own ([`Request::RangeStream`]).
    ///
    /// [`Request::RangeStream`]: crate::shard::request::Request::RangeStream
    pub is_stream: bool,
}

/// Why a read can not be answered at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotNow {
    /// It can not be answered at all.
    Refused(Refusal),
    /// It is longer than a turn, or not all of it is in memory: ask by [`Input::List`].
    ///
    /// [`Input::List`]: crate::shard::Input::List
    Long,
}

/// What a slice of a list came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// There are more.
    More,
    /// The next row is not in memory yet: [`Output::Rows`] says when to ask again.
    Wait,
    /// The last row was given; the list is closed.
    Done,
    /// It can not go on; the list is closed.
    Lost(Failure),
}

/// The lists that are open.
#[derive(Debug, Default)]
pub(super) struct Lists {
    open: BTreeMap<RequestId, std::vec::IntoIter<KeyValue>>,
}

impl Lists {
    /// Whether nobody has one open.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Shard {
    /// Gives the rows of a [`Ready::Range`] to `visit` if that can be done at once: row, lease,
    /// value.
    ///
    /// # Errors
    /// [`NotNow`]. Rows that were visited before it are void.
    pub fn read(
        &self,
        range: &Range,
        size_max: usize,
        mut visit: impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> Result<Summary, NotNow> {
        let mut size = 0;
        let summary = self.keyspace.range_with(&range.query(), |row| {
            size += row.key.len() + row.value.len() + ROW_SIZE;
            if size <= size_max {
                visit(row, row.lease, row.value);
            }
        });
        let summary = summary.map_err(NotNow::Refused)?;
        if size <= size_max { Ok(summary) } else { Err(NotNow::Long) }
    }

    /// Measures a list; [`Ready::List`] is the answer.
    pub(super) fn list(&mut self, to: RequestId, range: &Range, shape: fn(&RowShape) -> usize) {
        self.open_list(to, range, Some(shape));
    }

    /// Begins a stream of rows; [`Ready::List`] is the answer.
    pub(super) fn stream(&mut self, to: RequestId, range: &Range) {
        self.open_list(to, range, None);
    }

    fn open_list(&mut self, to: RequestId, range: &Range, shape: Option<fn(&RowShape) -> usize>) {
        if self.lists.open.len() >= LISTS_MAX {
            return self.reply(to, Err(Unavailable::TooManyRequests.into()));
        }
        let page = match self.keyspace.range(&range.query()) {
            Ok(page) => page,
            Err(refusal) => return self.reply(to, Err(refusal.into())),
        };
        let size = shape.map_or(0, |shape| page.rows.iter().map(|row| shape(&of(row))).sum());
        let head = ListHead {
            header: self.header(),
            count: page.count,
            more: page.more,
            rows: if shape.is_some() { to_u64(page.rows.len()) } else { 0 },
            size: to_u64(size),
            is_stream: shape.is_none(),
        };
        self.lists.open.insert(to, page.rows.into_iter());
        self.outputs.push_back(Output::Reply { to, ready: Ready::List(head) });
    }

    /// Gives the next rows of a list to `visit`: at most `rows_max`, and none once `size_budget`
    /// bytes are given, but at least one unless it says to wait.
    pub fn rows(
        &mut self,
        to: RequestId,
        size_budget: usize,
        rows_max: usize,
        mut visit: impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> Rows {
        let Some(rows) = self.lists.open.get_mut(&to) else {
            return Rows::Lost(Unavailable::Stopped.into());
        };
        let (mut size, mut given) = (0, 0);
        while given < rows_max && (given == 0 || size < size_budget) {
            let Some(row) = rows.next() else { break };
            (size, given) = (size + row.key.len() + row.value.len() + ROW_SIZE, given + 1);
            let seen = Row {
                key: &row.key,
                create_revision: row.create_revision,
                location: Location { main: row.mod_revision, sub: 0 },
                version: row.version,
                lease: row.lease,
                value: &row.value,
            };
            visit(seen, row.lease, &row.value);
        }
        if rows.len() > 0 {
            return Rows::More;
        }
        self.lists.open.remove(&to);
        Rows::Done
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget(&mut self, to: RequestId) {
        self.lists.open.remove(&to);
    }
}

fn of(row: &KeyValue) -> RowShape {
    RowShape {
        key_len: row.key.len(),
        value_len: row.value.len(),
        create_revision: row.create_revision,
        mod_revision: row.mod_revision,
        version: row.version,
        lease: row.lease,
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).expect("usize is 64 bits")
}

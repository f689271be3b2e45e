//! Lists: reads of more keys than one turn answers, in slices, as one revision.
//!
//! A list is opened at a revision that is pinned for as long as it lasts, so that its slices belong
//! together whatever is written or compacted meanwhile. It is first *measured*: how many rows it
//! has, and how many bytes they make, which the index and the store's directories tell without a
//! value. Then its owner pulls: [`Shard::rows`] shows rows where they lie, up to what the owner
//! takes; where values are on disk, a window of them is fetched ahead, many at a time, and given in
//! order as they come.
//!
//! What a list holds is a key to go on from and one window; orders that are not the keys' own hold
//! all keys.

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::RangeQuery;
use crate::mvcc::Row;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::request::Failure;
use crate::shard::request::Header;
use crate::shard::request::Range;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::shard::wants::Waiter;
use crate::store::BlockId;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Store;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Rows that one step measures or gathers: half a millisecond or so.
const STEP_ROWS: usize = 4096;
/// Rows shown from memory before the owner's bounds are looked at again.
const STRETCH_ROWS: usize = 256;
/// Milliseconds after which a list may no longer hold up compaction.
const LIST_AGE_MAX: u64 = 600_000;
/// Rows fetched ahead of a list's owner; each may bring a block of its own.
const AHEAD_ROWS_MAX: usize = 128;
/// Bytes of values fetched ahead, beyond which no further row is added.
const AHEAD_SIZE_MAX: usize = 1 << 20;
/// Bytes of values that one sorting by value may hold.
const SORT_SIZE_MAX: usize = 256 << 20;

/// What the size of a row's encoding depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowShape {
    /// Bytes of the key.
    pub key_len: usize,
    /// The revision that began the key's present life.
    pub create_revision: Revision,
    /// The revision that made the change seen.
    pub mod_revision: Revision,
    /// Puts since the creation.
    pub version: i64,
    /// The lease.
    pub lease: LeaseId,
    /// Bytes of the value.
    pub value_len: usize,
}

/// How many bytes a row of this shape takes.
pub type SizeOf = fn(&RowShape) -> usize;

/// What is known of a list before its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListHead {
    /// Who answers, at which revision.
    pub header: Header,
    /// Keys in the range, whatever limit and bounds leave of them.
    pub count: i64,
    /// Whether the limit cuts rows off.
    pub more: bool,
    /// Rows that will be given; 0 if the list was not measured.
    pub rows: u64,
    /// Bytes they take by the owner's own measure; 0 if the list was not measured.
    pub size: u64,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// What was asked for; there may be more.
    More,
    /// The next row is on its way from the disk: [`Output::Rows`] says when to ask again.
    Wait,
    /// That was the last row. The list is closed.
    Done,
    /// The list can not go on, or there is none. It is closed.
    Lost(Failure),
}

/// All lists of a shard.
#[derive(Debug, Default)]
pub(super) struct Lists {
    open: BTreeMap<RequestId, List>,
    /// Whose step comes next is after this one.
    last: Option<RequestId>,
}

/// One list.
#[derive(Debug)]
struct List {
    range: Range,
    at: Revision,
    header: Header,
    count: u64,
    size_of: Option<SizeOf>,
    store_pin: crate::store::Pin,
    phase: Phase,
    cursor: Cursor,
    /// Rows still to be given, by the limit.
    left: u64,
    more: bool,
    rows: u64,
    size: u64,
    /// Rows in order, those in front first: what is fetched ahead.
    ahead: VecDeque<Ahead>,
    /// Blocks that rows ahead wait for.
    missing: usize,
    /// Its owner is to be told when the first row ahead is here.
    is_awaited: bool,
    opened: Tick,
}

/// What a list does now.
#[derive(Debug)]
enum Phase {
    /// Gathers all rows, to sort them. ─all are there→ `Measuring`.
    Gathering(Vec<Gathered>),
    /// Counts rows and bytes. ─all are counted→ `Giving`.
    Measuring,
    /// Gives rows as its owner pulls. ─the last→ closed.
    Giving,
}

/// Where a list goes on.
#[derive(Debug)]
enum Cursor {
    /// Up from this key on.
    Up(Vec<u8>),
    /// Down; so many rows of the range, counted from its first key, are still ahead.
    Down(u64),
    /// Through these, from the nth on.
    Sorted(Vec<(Box<[u8]>, Found)>, usize),
}

/// A row gathered to be sorted.
#[derive(Debug)]
struct Gathered {
    key: Box<[u8]>,
    found: Found,
    value: Bytes,
}

/// A row whose turn has not come.
#[derive(Debug)]
struct Ahead {
    key: Box<[u8]>,
    found: Found,
    lease: LeaseId,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Here(Bytes),
    Away(BlockId),
}

impl Lists {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl Shard {
    /// Opens the list of `range`: measured before its head leaves if `size_of` is given.
    pub(super) fn open_list(&mut self, to: RequestId, range: Range, size_of: Option<SizeOf>) {
        let at = match self.keyspace.check_revision(range.query().revision) {
            Ok(at) => at,
            Err(refusal) => return self.reply(to, Err(refusal.into())),
        };
        if self.lists.open.contains_key(&to) || self.lists.len() >= self.config.waiting_max {
            return self.reply(to, Err(Unavailable::TooManyRequests.into()));
        }
        let header = self.header();
        let mut list = List::new(range, at, header, &self.keyspace, self.store.pin(), self.now);
        self.keyspace.pin(at);
        list.size_of = size_of;
        if size_of.is_none() {
            list.phase = Phase::Giving;
            self.reply_head(to, &list);
        }
        self.lists.open.insert(to, list);
        if size_of.is_some() {
            // Most are ready after one step.
            self.step_list(to);
        }
    }

    /// Shows the next rows of a list: up to `rows_max`, until they make about `size_max` bytes.
    ///
    /// A row's lease and value are empty where its query asks for keys only.
    pub fn rows(
        &mut self,
        to: RequestId,
        size_max: usize,
        rows_max: usize,
        mut visit: impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> Rows {
        let Some(mut list) = self.lists.open.remove(&to) else {
            return Rows::Lost(crate::mvcc::Refusal::Compacted.into());
        };
        let given = list.give(&self.keyspace, &self.store, (size_max, rows_max), &mut visit);
        match given {
            Rows::Done | Rows::Lost(_) => self.close_list(&list),
            Rows::More | Rows::Wait => {
                if matches!(given, Rows::Wait) || list.wants_ahead() {
                    self.look_ahead(to, &mut list);
                }
                list.is_awaited = matches!(given, Rows::Wait);
                self.lists.open.insert(to, list);
            }
        }
        given
    }

    /// The owner of a list wants no more of it.
    pub(super) fn forget_list(&mut self, to: RequestId) {
        if let Some(list) = self.lists.open.remove(&to) {
            self.close_list(&list);
        }
    }

    /// Ends lists whose revision is compacted and which have had their time.
    pub(super) fn expire_lists(&mut self) {
        let Some(floor) = self.keyspace.compacted() else { return };
        let late = |list: &List| list.at < floor && self.now.since(list.opened) > LIST_AGE_MAX;
        let late: Vec<_> =
            self.lists.open.iter().filter(|(_, list)| late(list)).map(|(to, _)| *to).collect();
        for to in late {
            self.forget_list(to);
            self.outputs.push_back(Output::Rows { to });
        }
    }

    fn close_list(&mut self, list: &List) {
        self.keyspace.unpin(list.at);
        self.store.unpin(list.store_pin);
    }

    fn reply_head(&mut self, to: RequestId, list: &List) {
        let head = ListHead {
            header: list.header,
            count: i64::try_from(list.count).expect("keys fit in memory"),
            more: list.more,
            rows: list.rows,
            size: list.size,
        };
        self.outputs.push_back(Output::Reply { to, ready: Ready::List(head) });
    }

    /// A step of the list whose turn it is; whether any list has more to do at once.
    pub(super) fn step_lists(&mut self) -> bool {
        let is_busy = |list: &List| !matches!(list.phase, Phase::Giving) && list.missing == 0;
        let after = self.lists.last;
        let busy = |(to, list): (&RequestId, &List)| is_busy(list).then_some(*to);
        let next = self
            .lists
            .open
            .iter()
            .filter(|(to, _)| after.is_none_or(|after| **to > after))
            .find_map(busy)
            .or_else(|| self.lists.open.iter().find_map(busy));
        let Some(to) = next else { return false };
        self.lists.last = Some(to);
        self.step_list(to);
        true
    }

    fn step_list(&mut self, to: RequestId) {
        let Some(mut list) = self.lists.open.remove(&to) else { return };
        let mut refused = None;
        if matches!(list.phase, Phase::Gathering(_)) {
            let is_away = list.gather(&self.keyspace, &self.store);
            if is_away {
                self.look_ahead(to, &mut list);
            }
            refused = list.is_too_large().then_some(Unavailable::SortTooLarge);
        } else if list.measure(&self.keyspace, &self.store) {
            list.phase = Phase::Giving;
            self.reply_head(to, &list);
        }
        if let Some(refusal) = refused {
            self.close_list(&list);
            return self.reply(to, Err(refusal.into()));
        }
        self.lists.open.insert(to, list);
    }

    /// Fetches what the next rows of a list lie in.
    fn look_ahead(&mut self, to: RequestId, list: &mut List) {
        let mut wanted = list.extend_ahead(&self.keyspace, &self.store);
        wanted.sort_unstable();
        wanted.dedup();
        for block in wanted {
            if self.wants.want(block, Waiter::List(to)) {
                self.store.fetch(block);
            }
            list.missing += 1;
        }
    }

    /// A block that a list waits for is here.
    pub(super) fn list_fetched(&mut self, to: RequestId, fetched: &Fetched) {
        let Some(list) = self.lists.open.get_mut(&to) else { return };
        list.missing = list.missing.saturating_sub(1);
        list.fill(fetched);
        let is_here = list.ahead.front().is_none_or(|row| matches!(row.value, Value::Here(_)));
        if list.is_awaited && is_here {
            list.is_awaited = false;
            self.outputs.push_back(Output::Rows { to });
        }
    }
}

impl List {
    fn new(
        range: Range,
        at: Revision,
        header: Header,
        keyspace: &Keyspace,
        store_pin: crate::store::Pin,
        opened: Tick,
    ) -> Self {
        let query = range.query();
        let count = keyspace.count(query.range, at);
        let limit = u64::try_from(query.limit).ok().filter(|limit| *limit > 0);
        let limit = limit.unwrap_or(u64::MAX);
        let start = || Cursor::Up(query.range.start().to_vec());
        let (phase, cursor, left) = match (query.target, query.order) {
            (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => {
                (Phase::Measuring, start(), limit)
            }
            (SortTarget::Key, SortOrder::Descend) if !query.drops() => {
                (Phase::Measuring, Cursor::Down(count), limit)
            }
            // Without an order, etcd fetches one more than asked for, in key order, and sorts
            // those alone.
            (_, SortOrder::None) if !query.drops() => {
                (Phase::Gathering(Vec::new()), start(), limit.saturating_add(1))
            }
            _ => (Phase::Gathering(Vec::new()), start(), u64::MAX),
        };
        let more = !query.drops() && count > limit;
        Self {
            at,
            header,
            count,
            size_of: None,
            store_pin,
            phase,
            cursor,
            left: if query.count_only { 0 } else { left },
            more: more && !query.count_only,
            rows: 0,
            size: 0,
            ahead: VecDeque::new(),
            missing: 0,
            is_awaited: false,
            opened,
            range,
        }
    }

    fn limit(&self) -> u64 {
        u64::try_from(self.range.query().limit).ok().filter(|it| *it > 0).unwrap_or(u64::MAX)
    }

    fn is_by_value(&self) -> bool {
        self.range.query().target == SortTarget::Value
    }

    /// Whether rows show neither lease nor value.
    fn is_bare(&self) -> bool {
        !self.range.query().needs_record()
    }

    /// The next rows, up to `count`, without going on.
    fn peek<'a>(&'a self, keyspace: &'a Keyspace, count: usize) -> Vec<(&'a [u8], Found)> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(count);
        let mut rows = Vec::new();
        if count == 0 {
            return rows;
        }
        let query = self.range.query();
        match &self.cursor {
            Cursor::Sorted(sorted, next) => {
                let rest = sorted[*next..].iter().take(count);
                rows.extend(rest.map(|(key, found)| (&**key, *found)));
            }
            Cursor::Up(next) => {
                let range = match query.range {
                    KeyRange::One(key) if key == &next[..] => query.range,
                    // The only key was given.
                    KeyRange::One(_) => return rows,
                    KeyRange::Span { end, .. } => KeyRange::Span { start: next, end },
                    KeyRange::From(_) => KeyRange::From(next),
                };
                keyspace.walk(range, self.at, 0, |key, found| {
                    if query.takes(found) {
                        rows.push((key, found));
                    }
                    if rows.len() < count {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
            }
            Cursor::Down(ahead) => {
                let count = u64::try_from(count).expect("64 bits").min(*ahead);
                let mut left = count;
                keyspace.walk(query.range, self.at, ahead - count, |key, found| {
                    if left == 0 {
                        return ControlFlow::Break(());
                    }
                    left -= 1;
                    rows.push((key, found));
                    ControlFlow::Continue(())
                });
                rows.reverse();
            }
        }
        rows
    }

    /// Goes on past `count` rows, the last of which has this key.
    fn go_on(&mut self, count: usize, last: &[u8]) {
        let rows = u64::try_from(count).expect("64 bits");
        self.left = self.left.saturating_sub(rows);
        match &mut self.cursor {
            Cursor::Sorted(_, next) => *next += count,
            Cursor::Up(next) => {
                next.clear();
                next.extend_from_slice(last);
                next.push(0);
            }
            Cursor::Down(ahead) => *ahead -= rows,
        }
    }

    fn lease(&self, store: &Store, location: Location) -> LeaseId {
        if self.is_bare() {
            return LeaseId(0);
        }
        store.lease(location).expect("every put that the index knows has a record")
    }

    /// Measures a stretch; whether that was the last.
    fn measure(&mut self, keyspace: &Keyspace, store: &Store) -> bool {
        let size_of = self.size_of.expect("what is measured has a measure");
        let keys_only = self.range.query().keys_only;
        let (mut rows, mut size) = (0, 0);
        let (count, last) = {
            let stretch = self.peek(keyspace, STEP_ROWS);
            for (key, found) in &stretch {
                let value_len = if keys_only {
                    0
                } else {
                    store
                        .value_size(found.location, key.len())
                        .expect("every put that the index knows has a record")
                };
                let shape = RowShape {
                    key_len: key.len(),
                    create_revision: found.created,
                    mod_revision: found.location.main,
                    version: found.version,
                    lease: self.lease(store, found.location),
                    value_len,
                };
                rows += 1;
                size += u64::try_from(size_of(&shape)).expect("64 bits");
            }
            (stretch.len(), stretch.last().map(|(key, _)| key.to_vec()))
        };
        self.rows += rows;
        self.size += size;
        if let Some(last) = last {
            self.go_on(count, &last);
        }
        if count == STEP_ROWS && self.left > 0 {
            return false;
        }
        if self.left == 0 && self.range.query().drops() && !self.range.query().count_only {
            self.left = 1;
            self.more = !self.peek(keyspace, 1).is_empty();
        }
        self.rewind();
        true
    }

    /// Back to the first row, after measuring.
    fn rewind(&mut self) {
        self.left = self.rows;
        match &mut self.cursor {
            Cursor::Up(next) => {
                next.clear();
                next.extend_from_slice(self.range.query().range.start());
            }
            Cursor::Down(ahead) => *ahead = self.count,
            Cursor::Sorted(_, next) => *next = 0,
        }
    }

    /// Gives rows while they are in memory and the owner takes them.
    fn give(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        (size_max, rows_max): (usize, usize),
        visit: &mut impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> Rows {
        let (mut size, mut rows) = (0, 0);
        while size < size_max && rows < rows_max {
            if let Some(row) = self.ahead.front() {
                let Value::Here(value) = &row.value else { return Rows::Wait };
                visit(row_of(&row.key, row.found), row.lease, value);
                size += row.key.len() + value.len();
                rows += 1;
                self.ahead.pop_front();
                continue;
            }
            let mut shown = |key: &[u8], found, lease, value: &[u8]| {
                visit(row_of(key, found), lease, value);
                size += key.len() + value.len();
                rows += 1;
                size < size_max && rows < rows_max
            };
            match self.give_from_memory(keyspace, store, &mut shown) {
                Stretch::Stopped => {}
                Stretch::Away => return Rows::Wait,
                Stretch::Over => break,
            }
        }
        if self.left == 0 && self.ahead.is_empty() { Rows::Done } else { Rows::More }
    }

    /// Shows rows from where they lie until one is away, or `shown` has enough.
    fn give_from_memory(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        shown: &mut impl FnMut(&[u8], Found, LeaseId, &[u8]) -> bool,
    ) -> Stretch {
        let bare = self.is_bare();
        let keys_only = self.range.query().keys_only;
        let (mut taken, mut outcome) = (0, Stretch::Stopped);
        let (count, last) = {
            let stretch = self.peek(keyspace, STRETCH_ROWS);
            for (key, found) in &stretch {
                let lease = if bare { LeaseId(0) } else { self.lease(store, found.location) };
                let takes_more = if keys_only {
                    shown(key, *found, lease, &[])
                } else {
                    match store.value(found.location) {
                        Some(Lookup::Here(value)) => shown(key, *found, lease, value.as_slice()),
                        Some(Lookup::Away(_)) => {
                            outcome = Stretch::Away;
                            break;
                        }
                        None => unreachable!("every put that the index knows has a record"),
                    }
                };
                taken += 1;
                if !takes_more {
                    break;
                }
            }
            (stretch.len(), taken.checked_sub(1).map(|last: usize| stretch[last].0.to_vec()))
        };
        if let Some(last) = last {
            self.go_on(taken, &last);
        }
        if count < STRETCH_ROWS && taken == count {
            // The range ends here, whatever the limit.
            self.left = 0;
            outcome = Stretch::Over;
        }
        outcome
    }

    /// Whether so little is fetched ahead that more should be asked for.
    fn wants_ahead(&self) -> bool {
        !self.ahead.is_empty() && self.ahead.len() < AHEAD_ROWS_MAX / 2
    }

    /// Adds the next rows to those ahead: the blocks that are to be fetched for them.
    fn extend_ahead(&mut self, keyspace: &Keyspace, store: &Store) -> Vec<BlockId> {
        let mut size: usize = self.ahead.iter().map(Ahead::size).sum();
        let mut added = Vec::new();
        let mut wanted = Vec::new();
        for (key, found) in self.peek(keyspace, AHEAD_ROWS_MAX.saturating_sub(self.ahead.len())) {
            if size > AHEAD_SIZE_MAX {
                break;
            }
            let value = match store.value(found.location) {
                Some(Lookup::Here(value)) => Value::Here(value.to_bytes()),
                Some(Lookup::Away(block)) => {
                    wanted.push(block);
                    Value::Away(block)
                }
                None => unreachable!("every put that the index knows has a record"),
            };
            let lease = self.lease(store, found.location);
            size += key.len() + store.value_size(found.location, key.len()).unwrap_or(0);
            added.push(Ahead { key: key.into(), found, lease, value });
        }
        if let Some(last) = added.last() {
            let last = last.key.clone();
            self.go_on(added.len(), &last);
        }
        self.ahead.extend(added);
        wanted
    }

    /// Takes what rows ahead wait for out of a block.
    fn fill(&mut self, fetched: &Fetched) {
        for row in &mut self.ahead {
            if matches!(row.value, Value::Away(block) if block == fetched.id) {
                let value = fetched.value_in(row.found.location);
                row.value = Value::Here(value.expect("a block holds what its directory says"));
            }
        }
    }

    /// Gathers a stretch of rows to sort; whether the next is away.
    fn gather(&mut self, keyspace: &Keyspace, store: &Store) -> bool {
        let Phase::Gathering(mut rows) = std::mem::replace(&mut self.phase, Phase::Giving) else {
            unreachable!("only who gathers is asked to");
        };
        let by_value = self.is_by_value();
        while let Some(row) =
            self.ahead.pop_front_if(|row| matches!(row.value, Value::Here(_)))
        {
            let Value::Here(value) = row.value else { unreachable!("just looked") };
            rows.push(Gathered { key: row.key, found: row.found, value });
        }
        let mut is_away = !self.ahead.is_empty();
        let (mut taken, mut count) = (0, STEP_ROWS);
        if !is_away {
            let stretch = self.peek(keyspace, STEP_ROWS);
            count = stretch.len();
            for (key, found) in stretch {
                let value = match store.value(found.location).filter(|_| by_value) {
                    Some(Lookup::Here(value)) => value.to_bytes(),
                    None => Bytes::new(),
                    Some(Lookup::Away(_)) => {
                        is_away = true;
                        break;
                    }
                };
                rows.push(Gathered { key: key.into(), found, value });
                taken += 1;
            }
        }
        if taken > 0 {
            let last = rows.last().expect("just added").key.clone();
            self.go_on(taken, &last);
        }
        if is_away || count == STEP_ROWS {
            self.phase = Phase::Gathering(rows);
            return is_away;
        }
        self.sort(rows);
        false
    }

    /// Puts gathered rows in order. Ties stay in the order of keys, either way; etcd promises
    /// nothing about them.
    fn sort(&mut self, mut rows: Vec<Gathered>) {
        let query = self.range.query();
        let down = query.order == SortOrder::Descend;
        rows.sort_by(|left, right| {
            let (one, other) = (&left.found, &right.found);
            let order = match query.target {
                SortTarget::Key => left.key.cmp(&right.key),
                SortTarget::Version => one.version.cmp(&other.version),
                SortTarget::Create => one.created.cmp(&other.created),
                SortTarget::Mod => one.location.main.cmp(&other.location.main),
                SortTarget::Value => left.value.cmp(&right.value),
            };
            if down { order.reverse() } else { order }
        });
        let limit = self.limit();
        self.more = u64::try_from(rows.len()).expect("64 bits") > limit;
        self.left = limit;
        let rows = rows.into_iter().map(|row| (row.key, row.found)).collect();
        self.cursor = Cursor::Sorted(rows, 0);
        self.phase = Phase::Measuring;
    }

    /// Whether sorting by value holds more than it may.
    fn is_too_large(&self) -> bool {
        let Phase::Gathering(rows) = &self.phase else { return false };
        rows.iter().map(|row| row.value.len()).sum::<usize>() > SORT_SIZE_MAX
    }
}

impl Ahead {
    fn size(&self) -> usize {
        let Value::Here(value) = &self.value else { return self.key.len() };
        self.key.len() + value.len()
    }
}

/// How far a stretch of rows went.
enum Stretch {
    /// There is more, or the owner has enough.
    Stopped,
    /// The next row's value is not in memory.
    Away,
    /// There are no more rows.
    Over,
}

fn row_of(key: &[u8], found: Found) -> Row<'_> {
    let Found { created, location, version } = found;
    Row { key, create_revision: created, location, version }
}

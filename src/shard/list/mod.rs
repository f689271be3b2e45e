//! Lists: reads of more keys than one turn answers, in slices, as one revision.
//!
//! A list is opened at a revision that is pinned for as long as it lasts, so that its slices belong
//! together whatever is written or compacted meanwhile. It is first *counted* and *measured*: how
//! many keys its range has, how many rows it gives, and how many bytes they make, which the index
//! and the store's directories tell without a value. Then its owner pulls: [`Shard::rows`] shows
//! rows where they lie, up to what the owner takes; where values are on disk, a window of them is
//! fetched ahead, many at a time, and given in order as they come. A stream is given from the
//! beginning and counted meanwhile, as only its end says how many.
//!
//! What a list holds is a key to go on from and one window; orders that are not the keys' own hold
//! all keys, or as many as their limit gives. What all lists hold together is bounded ([`Limits`]).

mod ahead;
mod measure;
mod sort;

use crate::mvcc::Found;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::Refusal;
use crate::mvcc::Row;
use crate::mvcc::Slice;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::mvcc::Summary;
use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::list::ahead::Ahead;
use crate::shard::list::ahead::Value;
use crate::shard::list::sort::Sorted;
use crate::shard::list::sort::Sorting;
use crate::shard::records::KNOWN;
use crate::shard::records::Seen;
use crate::shard::request::Failure;
use crate::shard::request::Header;
use crate::shard::request::Range;
use crate::shard::request::RequestId;
use crate::shard::request::Unavailable;
use crate::store::Lookup;
use crate::store::Store;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use crate::types::Tick;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::ops::Bound;
use std::ops::ControlFlow;

/// Rows that one step measures or gathers: half a millisecond or so.
const STEP_ROWS: usize = 4096;
/// Rows that a read answered at once may have.
const ROWS_NOW_MAX: usize = 1024;
/// Rows shown from memory before the owner's bounds are looked at again.
const STRETCH_ROWS: usize = 256;
/// Milliseconds after which a list may no longer hold up compaction.
const LIST_AGE_MAX: u64 = 600_000;

/// What all open lists of a shard may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of rows that were fetched ahead of those who asked for them, 64 MiB by default: enough
    /// for 64 lists that each keep a disk busy. Beyond it a list waits until another has given its
    /// rows, and those that nobody waits for are given back to be fetched again. Exceeded by one
    /// row at most.
    pub ahead_size_max: usize,
    /// Bytes of rows that are gathered to be sorted, 256 MiB by default: two million keys of 64
    /// bytes. A list that would need more is refused, as too many requests where others hold a
    /// part.
    pub sort_size_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ahead_size_max: 64 << 20, sort_size_max: 256 << 20 }
    }
}

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
    /// What its end will say; not known of a stream.
    pub total: Total,
    /// Rows that will be given; 0 of a stream.
    pub rows: u64,
    /// Bytes they take by the owner's own measure; 0 of a stream.
    pub size: u64,
    /// Whether each slice is a message of its own ([`Request::RangeStream`]); it is not measured.
    ///
    /// [`Request::RangeStream`]: crate::shard::request::Request::RangeStream
    pub is_stream: bool,
}

/// What is said of a list beside its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Total {
    /// Keys in the range, whatever limit and bounds leave of them.
    pub count: i64,
    /// Whether the limit cuts rows off.
    pub more: bool,
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

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// What was asked for; there may be more.
    More,
    /// What comes next is on its way from the disk, or being counted: [`Output::Rows`] says when
    /// to ask again.
    Wait,
    /// That was the last row. The list is closed.
    Done(Total),
    /// The list can not go on, or there is none. It is closed.
    Lost(Failure),
}

/// All lists of a shard.
#[derive(Debug, Default)]
pub(super) struct Lists {
    open: BTreeMap<RequestId, List>,
    /// Those of which a step would do something.
    busy: BTreeSet<RequestId>,
    /// Those with rows ahead that nobody waits for.
    idle: BTreeSet<RequestId>,
    /// Those that wait for room for rows ahead, in the order they came; each once.
    hungry: VecDeque<RequestId>,
    /// Whose step comes next is after this one.
    last: Option<RequestId>,
    /// What all in `open` hold.
    held: Held,
}

/// What lists hold, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    /// What they were asked.
    asked: usize,
    /// Rows fetched ahead.
    ahead: usize,
    /// Rows gathered to be sorted.
    gathered: usize,
}

/// One list.
#[derive(Debug)]
struct List {
    range: Range,
    at: Revision,
    header: Header,
    tally: Tally,
    /// Keys in the range, as far as they are counted.
    count: u64,
    size_of: Option<SizeOf>,
    store_pin: crate::store::Pin,
    phase: Phase,
    cursor: Cursor,
    /// Rows still to be given, by the limit.
    left: u64,
    /// The cursor is behind the last row.
    is_over: bool,
    more: bool,
    rows: u64,
    size: u64,
    /// Rows in order, those in front first: what is fetched ahead.
    ahead: VecDeque<Ahead>,
    held: Held,
    /// Blocks that rows ahead wait for.
    missing: usize,
    /// Its owner is to be told when the first row ahead is here.
    is_awaited: bool,
    /// Its owner has asked for rows and got none.
    is_owed: bool,
    is_hungry: bool,
    opened: Tick,
}

/// How the keys in a list's range are counted.
#[derive(Debug, PartialEq, Eq)]
enum Tally {
    /// Each is a row, and counted as such.
    ByRows,
    /// In the index, a stretch at a time; from this key on, from the first if there is none.
    /// ─the last→ `Done`.
    From(Option<Vec<u8>>),
    /// All are.
    Done,
}

/// What a list does now.
#[derive(Debug)]
enum Phase {
    /// Gathers all rows, to sort them. ─all are there→ `Merging`.
    Gathering(Box<Sorting>),
    /// Sorts them. ─all are sorted→ `Measuring`.
    Merging(Box<Sorting>),
    /// Counts rows and bytes. ─all are counted→ `Giving`.
    Measuring,
    /// Gives rows as its owner pulls. ─the last→ closed.
    Giving,
}

/// Where a list goes on.
#[derive(Debug)]
enum Cursor {
    /// With this key, in the order of keys; at the beginning if there is none.
    Keys(Option<Vec<u8>>),
    /// Through these, from the nth on.
    Sorted(Sorted, usize),
}

impl Lists {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes one out, to put it back or to close it.
    fn take(&mut self, to: RequestId) -> Option<List> {
        let list = self.open.remove(&to)?;
        self.busy.remove(&to);
        self.idle.remove(&to);
        self.held.asked -= list.held.asked;
        self.held.ahead -= list.held.ahead;
        self.held.gathered -= list.held.gathered;
        Some(list)
    }

    fn put(&mut self, to: RequestId, list: List) {
        if list.is_busy() {
            self.busy.insert(to);
        }
        if list.held.ahead > 0 && !list.is_owed && !list.is_gathering() {
            self.idle.insert(to);
        }
        self.held.asked += list.held.asked;
        self.held.ahead += list.held.ahead;
        self.held.gathered += list.held.gathered;
        self.open.insert(to, list);
    }

    /// One with something to do, each in turn.
    fn next_busy(&mut self) -> Option<RequestId> {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.busy.range((after, Bound::Unbounded)).next();
        self.last = next.or_else(|| self.busy.first()).copied();
        self.last
    }
}

impl Shard {
    /// Shows the rows of a [`Ready::Range`] if that can be done at once: row, lease, value.
    ///
    /// # Errors
    /// [`NotNow`]. Rows that were shown before it are void.
    pub fn read(
        &self,
        range: &Range,
        size_max: usize,
        mut visit: impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> Result<Summary, NotNow> {
        let query = range.query();
        if query.target == SortTarget::Value && !matches!(query.range, KeyRange::One(_)) {
            return Err(NotNow::Long);
        }
        let (with_values, with_leases) = (query.shows_values(), query.shows_leases());
        let mut size = 0;
        let show = |row: Row<'_>| {
            let lease =
                if with_leases { self.store.lease(row.location).expect(KNOWN) } else { LeaseId(0) };
            if !with_values {
                visit(row, lease, &[]);
                return ControlFlow::Continue(());
            }
            let Lookup::Here(value) = self.store.value(row.location).expect(KNOWN) else {
                return ControlFlow::Break(());
            };
            size += row.key.len() + value.as_slice().len();
            if size > size_max {
                return ControlFlow::Break(());
            }
            visit(row, lease, value.as_slice());
            ControlFlow::Continue(())
        };
        let answered =
            self.keyspace.range_within(&query, &Seen::new(&self.store), ROWS_NOW_MAX, show);
        answered.map_err(NotNow::Refused)?.ok_or(NotNow::Long)
    }

    /// Opens the list of `range`: measured before its head leaves if `size_of` is given.
    pub(super) fn open_list(&mut self, to: RequestId, range: Range, size_of: Option<SizeOf>) {
        let at = match self.keyspace.check_revision(range.query().revision) {
            Ok(at) => at,
            Err(refusal) => return self.reply(to, Err(refusal.into())),
        };
        let asked = self.lists.held.asked + range.size();
        if self.lists.open.contains_key(&to)
            || self.lists.len() >= self.config.waiting_max
            || asked > self.config.waiting_size_max
        {
            return self.reply(to, Err(Unavailable::TooManyRequests.into()));
        }
        let header = self.header();
        let mut list = List::new(range, at, header, self.store.pin(), self.now);
        self.keyspace.pin(at);
        list.size_of = size_of;
        if size_of.is_none() {
            list.phase = Phase::Giving;
            self.reply_head(to, &list);
        }
        self.lists.put(to, list);
        // Most are counted, and those that are to be measured are, after one step each.
        for _ in 0..2 {
            self.step_list(to);
        }
    }

    /// Bytes that open lists hold, but for what each takes by itself.
    #[must_use]
    pub fn lists_size(&self) -> usize {
        let Held { asked, ahead, gathered } = self.lists.held;
        asked + ahead + gathered
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
        let Some(mut list) = self.lists.take(to) else {
            return Rows::Lost(Refusal::Compacted.into());
        };
        let mut has_shown = false;
        let mut show = |row: Row<'_>, lease: LeaseId, value: &[u8]| {
            has_shown = true;
            visit(row, lease, value);
        };
        let given = list.give(&self.keyspace, &self.store, (size_max, rows_max), &mut show);
        match given {
            Rows::Done(_) | Rows::Lost(_) => self.close_list(to, list),
            Rows::More | Rows::Wait => {
                list.is_awaited = matches!(given, Rows::Wait);
                // Who got something asks again when there is room for more, which may be long.
                list.is_owed = list.is_awaited && !has_shown;
                if list.is_awaited || list.wants_ahead() {
                    self.look_ahead(to, &mut list);
                }
                self.lists.put(to, list);
            }
        }
        given
    }

    /// The owner of a list wants no more of it.
    pub(super) fn forget_list(&mut self, to: RequestId) {
        if let Some(list) = self.lists.take(to) {
            self.close_list(to, list);
        }
    }

    /// Ends lists whose revision is compacted and which have had their time.
    pub(super) fn expire_lists(&mut self) {
        let Some(floor) = self.keyspace.compacted() else { return };
        let late = |list: &List| list.at < floor && self.now.since(list.opened) > LIST_AGE_MAX;
        let late: Vec<_> =
            self.lists.open.iter().filter(|(_, list)| late(list)).map(|(to, _)| *to).collect();
        for to in late {
            let is_begun = matches!(self.lists.open[&to].phase, Phase::Giving);
            self.forget_list(to);
            if is_begun {
                self.outputs.push_back(Output::Rows { to });
            } else {
                self.reply(to, Err(Refusal::Compacted.into()));
            }
        }
    }

    /// Ends all lists, as what they are read from goes. Who has been given a head is told so; the
    /// other reads come back, with the measure of each.
    pub(super) fn end_lists(&mut self) -> Vec<(RequestId, Range, Option<SizeOf>)> {
        let mut anew = Vec::new();
        for (to, list) in std::mem::take(&mut self.lists).open {
            match list.phase {
                Phase::Giving => self.reply(to, Err(Unavailable::Timeout.into())),
                Phase::Gathering(_) | Phase::Merging(_) | Phase::Measuring => {
                    anew.push((to, list.range, list.size_of));
                }
            }
        }
        anew
    }

    fn close_list(&mut self, to: RequestId, list: List) {
        if list.is_hungry {
            self.lists.hungry.retain(|hungry| *hungry != to);
        }
        self.keyspace.unpin(list.at);
        self.store.unpin(list.store_pin);
    }

    fn reply_head(&mut self, to: RequestId, list: &List) {
        let head = ListHead {
            header: list.header,
            total: list.total(),
            rows: list.rows,
            size: list.size,
            is_stream: list.size_of.is_none(),
        };
        self.outputs.push_back(Output::Reply { to, ready: Ready::List(head) });
    }

    /// A step of the list whose turn it is; whether any list has more to do at once.
    pub(super) fn step_lists(&mut self) -> bool {
        let is_fed = self.feed_hungry();
        let Some(to) = self.lists.next_busy() else { return is_fed };
        self.step_list(to);
        true
    }

    fn step_list(&mut self, to: RequestId) {
        let Some(mut list) = self.lists.take(to) else { return };
        let mut refused = None;
        match list.phase {
            _ if matches!(list.tally, Tally::From(_)) => {
                if list.count_stretch(&self.keyspace) {
                    self.tell_rows(to, &mut list);
                }
            }
            Phase::Gathering(_) => {
                if list.gather(&self.keyspace, &self.store) {
                    self.look_ahead(to, &mut list);
                }
                refused = self.refuse_gathered(&list);
            }
            Phase::Merging(_) => list.merge(),
            Phase::Measuring => {
                if list.measure(&self.keyspace, &self.store) {
                    list.phase = Phase::Giving;
                    self.reply_head(to, &list);
                }
            }
            Phase::Giving => {}
        }
        if let Some(refusal) = refused {
            self.close_list(to, list);
            return self.reply(to, Err(refusal.into()));
        }
        self.lists.put(to, list);
    }

    /// Why a list that gathers rows can not go on, if it can not.
    fn refuse_gathered(&self, list: &List) -> Option<Unavailable> {
        let (own, others) = (list.held.gathered, self.lists.held.gathered);
        let most = self.config.lists.sort_size_max;
        if own > most {
            Some(Unavailable::SortTooLarge)
        } else {
            (own + others > most).then_some(Unavailable::TooManyRequests)
        }
    }

    /// Tells a list's owner, if it waits, that there is something for it.
    fn tell_rows(&mut self, to: RequestId, list: &mut List) {
        let is_here = match list.ahead.front() {
            Some(row) => matches!(row.value, Value::Here(_)),
            None => !list.is_done() || list.is_counted(),
        };
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
        store_pin: crate::store::Pin,
        opened: Tick,
    ) -> Self {
        let query = range.query();
        let limit = query.limit().unwrap_or(u64::MAX);
        let gather = || Phase::Gathering(Box::new(Sorting::new(&query)));
        let (phase, left) = match query.order {
            _ if query.is_in_key_order() => (Phase::Measuring, limit),
            // Without an order, etcd fetches one more than asked for, in key order, and sorts
            // those alone.
            SortOrder::None if !query.drops() => (gather(), limit.saturating_add(1)),
            SortOrder::None | SortOrder::Ascend | SortOrder::Descend => (gather(), u64::MAX),
        };
        let tally = if query.is_all_in_key_order() { Tally::ByRows } else { Tally::From(None) };
        let held = Held { asked: range.size(), ..Held::default() };
        Self {
            at,
            header,
            tally,
            count: 0,
            size_of: None,
            store_pin,
            phase,
            cursor: Cursor::Keys(None),
            is_over: false,
            left: if query.count_only { 0 } else { left },
            more: false,
            rows: 0,
            size: 0,
            ahead: VecDeque::new(),
            held,
            missing: 0,
            is_awaited: false,
            is_owed: false,
            is_hungry: false,
            opened,
            range,
        }
    }

    fn is_gathering(&self) -> bool {
        matches!(self.phase, Phase::Gathering(_))
    }

    fn is_counted(&self) -> bool {
        !matches!(self.tally, Tally::From(_))
    }

    /// Whether a step would do something.
    fn is_busy(&self) -> bool {
        let waits = self.missing > 0 || self.is_hungry;
        !self.is_counted() || !matches!(self.phase, Phase::Giving) && !waits
    }

    fn total(&self) -> Total {
        let count = i64::try_from(self.count).expect("keys fit in memory");
        Total { count, more: self.more }
    }

    /// Whether the cursor has no more rows.
    fn is_done(&self) -> bool {
        self.is_over || self.left == 0
    }

    /// The next rows, up to `count`, without going on.
    fn peek<'a>(&'a self, keyspace: &'a Keyspace, count: usize) -> Peek<'a> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(count);
        let mut rows = Vec::new();
        let query = self.range.query();
        let rest = match &self.cursor {
            Cursor::Sorted(sorted, next) => {
                let end = sorted.len().min(next.saturating_add(count));
                rows.extend((*next..end).map(|nth| sorted.row(nth)));
                (end < sorted.len()).then(|| sorted.row(end).key)
            }
            Cursor::Keys(resume) => {
                let slice = Slice {
                    resume: resume.as_deref(),
                    down: query.is_downwards(),
                    budget: count.max(STRETCH_ROWS),
                    ..Slice::new(query.range, self.at)
                };
                keyspace.walk(&slice, |row| {
                    if query.takes(found_of(&row)) {
                        if rows.len() == count {
                            return ControlFlow::Break(());
                        }
                        rows.push(row);
                    }
                    ControlFlow::Continue(())
                })
            }
        };
        Peek { rows, rest }
    }

    /// Goes on past `count` rows, to the key that [`Peek::resume`] gave.
    fn go_on(&mut self, count: usize, resume: Option<Vec<u8>>) {
        self.left = self.left.saturating_sub(u64::try_from(count).expect("64 bits"));
        self.is_over = resume.is_none();
        match &mut self.cursor {
            Cursor::Sorted(_, next) => *next += count,
            Cursor::Keys(at) => *at = resume,
        }
    }

    fn lease(&self, store: &Store, location: Location) -> LeaseId {
        if !self.range.query().shows_leases() {
            return LeaseId(0);
        }
        store.lease(location).expect(KNOWN)
    }

    /// Gives rows while they are in memory and the owner takes them.
    fn give(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        bounds: (usize, usize),
        visit: &mut impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> Rows {
        let mut rows = 0;
        let is_away = self.give_now(keyspace, store, bounds, &mut |row, lease, value| {
            rows += 1;
            visit(row, lease, value);
        });
        if self.size_of.is_none() && self.tally == Tally::ByRows {
            self.count += rows;
        }
        let is_last = self.is_done() && self.ahead.is_empty();
        if is_last && self.is_counted() {
            Rows::Done(self.total())
        } else if is_last || is_away {
            Rows::Wait
        } else {
            Rows::More
        }
    }

    /// Shows rows, or looks at keys that give none, until there is enough of either; whether the
    /// next row is away.
    fn give_now(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        (size_max, rows_max): (usize, usize),
        visit: &mut impl FnMut(Row<'_>, LeaseId, &[u8]),
    ) -> bool {
        let (mut size, mut rows, mut idle) = (0, 0, 0);
        while size < size_max && rows < rows_max && idle < STEP_ROWS {
            if let Some(row) = self.ahead.front() {
                let Value::Here(value) = &row.value else { return true };
                visit(Row::new(&row.key, row.found), row.lease, value);
                size += row.key.len() + value.len();
                rows += 1;
                self.held.ahead -= row.size;
                self.ahead.pop_front();
                continue;
            }
            if self.is_done() {
                break;
            }
            let before = rows;
            let mut shown = |row: Row<'_>, lease, value: &[u8]| {
                visit(row, lease, value);
                size += row.key.len() + value.len();
                rows += 1;
                size < size_max && rows < rows_max
            };
            if self.give_from_memory(keyspace, store, &mut shown) {
                return true;
            }
            idle += if rows == before { STRETCH_ROWS } else { 0 };
        }
        false
    }

    /// Shows rows from where they lie until one is away, or `shown` has enough.
    fn give_from_memory(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        shown: &mut impl FnMut(Row<'_>, LeaseId, &[u8]) -> bool,
    ) -> bool {
        let with_values = self.range.query().shows_values();
        let (mut taken, mut is_away) = (0, false);
        let stretch = self.peek(keyspace, STRETCH_ROWS);
        for row in &stretch.rows {
            let lease = self.lease(store, row.location);
            let takes_more = if with_values {
                match store.value(row.location).expect(KNOWN) {
                    Lookup::Here(value) => shown(*row, lease, value.as_slice()),
                    Lookup::Away(_) => {
                        is_away = true;
                        break;
                    }
                }
            } else {
                shown(*row, lease, &[])
            };
            taken += 1;
            if !takes_more {
                break;
            }
        }
        let resume = stretch.resume(taken);
        self.go_on(taken, resume);
        is_away
    }
}

/// The next rows of a list.
struct Peek<'a> {
    rows: Vec<Row<'a>>,
    /// The key after them, if there is one.
    rest: Option<&'a [u8]>,
}

impl Peek<'_> {
    /// The key to go on with after the first `taken`; none if that is the end.
    fn resume(&self, taken: usize) -> Option<Vec<u8>> {
        let next = self.rows.get(taken).map(|row| row.key).or(self.rest);
        next.map(<[u8]>::to_vec)
    }
}

fn found_of(row: &Row<'_>) -> Found {
    Found { created: row.create_revision, location: row.location, version: row.version }
}

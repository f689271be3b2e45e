//! Orders that are not the keys' own: all rows are gathered, then sorted, a slice at a time.
//!
//! Rows are gathered in *runs*, each of which is sorted when it is full; then pairs of neighbouring
//! runs are merged until one is left. What is merged are names of rows, which stay where they are.
//! Where a limit is asked for, rows that can not be among the first are let go when their run is
//! sorted.

use crate::mvcc::Found;
use crate::mvcc::Keyspace;
use crate::mvcc::RangeQuery;
use crate::mvcc::Row;
use crate::mvcc::SortOrder;
use crate::mvcc::SortTarget;
use crate::shard::list::Cursor;
use crate::shard::list::List;
use crate::shard::list::Phase;
use crate::shard::list::STEP_ROWS;
use crate::shard::list::ahead::Value;
use crate::shard::list::found_of;
use crate::store::Lookup;
use crate::store::Store;
use std::cmp::Ordering;

/// Rows of one run, at most: what one step sorts.
const RUN_ROWS: usize = STEP_ROWS;
/// Bytes of keys and values above which a run takes no more.
const RUN_SIZE: usize = 1 << 20;
/// A limit up to which all runs are made one as soon as they have twice as many rows and a run.
const FEW_ROWS: usize = 1024;

/// A row gathered to be sorted.
#[derive(Clone, Copy, Debug)]
struct Gathered {
    found: Found,
    /// Where in its run's bytes its key begins; its value follows.
    start: u32,
    key_size: u32,
    /// 0 unless rows are sorted by value.
    value_size: u32,
}

/// Bytes that a row takes besides its key and value: its name stands in two lists at most.
const ROW_SIZE: usize = size_of::<Gathered>() + 2 * size_of::<u32>();

/// Some rows and their keys and values.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    rows: Vec<Gathered>,
}

/// How rows are sorted. Ties stay in the order of keys, either way; etcd promises nothing of them.
#[derive(Clone, Copy, Debug)]
struct Order {
    target: SortTarget,
    is_down: bool,
}

/// Rows on their way to being sorted.
#[derive(Debug)]
pub(super) struct Sorting {
    order: Order,
    /// Rows that will be given, at most.
    limit: usize,
    /// Sorted, each in itself; in the order of their keys.
    runs: Vec<Run>,
    /// The one that rows are added to.
    open: Run,
    /// Rows that were ever added.
    count: u64,
    merge: Merge,
}

/// Sorted rows.
#[derive(Debug)]
pub(super) struct Sorted {
    runs: Vec<Run>,
    names: Vec<u32>,
}

/// How far runs are merged.
///
/// # Shape
/// `from` has a stretch for each of `ends`, which say where they end; each is sorted. Those before
/// `pair` are in `to`, two made one, and of the two at `pair` what is before `left` and `right`.
#[derive(Debug, Default)]
struct Merge {
    from: Vec<u32>,
    ends: Vec<usize>,
    to: Vec<u32>,
    to_ends: Vec<usize>,
    pair: usize,
    left: usize,
    right: usize,
}

impl List {
    /// Gathers a stretch of rows to sort; whether the next is away.
    pub(super) fn gather(&mut self, keyspace: &Keyspace, store: &Store) -> bool {
        let mut phase = std::mem::replace(&mut self.phase, Phase::Giving);
        let Phase::Gathering(sorting) = &mut phase else {
            unreachable!("only who gathers is asked to");
        };
        let by_value = self.range.query().target == SortTarget::Value;
        while let Some(row) = self.ahead.pop_front_if(|row| matches!(row.value, Value::Here(_))) {
            let Value::Here(value) = row.value else { unreachable!("just looked") };
            self.held.ahead -= row.size;
            sorting.add(&row.key, row.found, &value);
        }
        let mut is_away = !self.ahead.is_empty();
        if !is_away && !self.is_done() {
            let (mut taken, mut size) = (0, 0);
            let stretch = self.peek(keyspace, STEP_ROWS);
            for row in &stretch.rows {
                if size >= RUN_SIZE {
                    break;
                }
                let value: &[u8] = match store.value(row.location).filter(|_| by_value) {
                    Some(Lookup::Here(value)) => value.as_slice(),
                    None => &[],
                    Some(Lookup::Away(_)) => {
                        is_away = true;
                        break;
                    }
                };
                sorting.add(row.key, found_of(row), value);
                size += row.key.len() + value.len();
                taken += 1;
            }
            let resume = stretch.resume(taken);
            self.go_on(taken, resume);
        }
        self.held.gathered = sorting.size();
        if !is_away && self.is_done() {
            sorting.begin_merge();
            let Phase::Gathering(sorting) = phase else { unreachable!("it gathers") };
            self.phase = Phase::Merging(sorting);
        } else {
            self.phase = phase;
        }
        is_away
    }

    /// Merges a stretch; once all is one, the rows are to be measured.
    pub(super) fn merge(&mut self) {
        let Phase::Merging(sorting) = &mut self.phase else {
            unreachable!("only who merges is asked to");
        };
        if !sorting.merge_step(STEP_ROWS) {
            return;
        }
        let limit = self.range.query().limit().unwrap_or(u64::MAX);
        self.more = sorting.count > limit;
        self.left = limit;
        self.is_over = false;
        self.cursor = Cursor::Sorted(sorting.finish(), 0);
        self.phase = Phase::Measuring;
    }
}

impl Sorting {
    pub(super) fn new(query: &RangeQuery<'_>) -> Self {
        let limit = query.limit().map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Self {
            order: Order { target: query.target, is_down: query.order == SortOrder::Descend },
            limit: limit.unwrap_or(usize::MAX),
            runs: Vec::new(),
            open: Run::default(),
            count: 0,
            merge: Merge::default(),
        }
    }

    fn add(&mut self, key: &[u8], found: Found, value: &[u8]) {
        self.count += 1;
        self.open.push(key, found, value);
        if self.open.rows.len() == RUN_ROWS || self.open.bytes.len() >= RUN_SIZE {
            self.close_run();
        }
    }

    fn close_run(&mut self) {
        let mut run = std::mem::take(&mut self.open);
        let Run { bytes, rows } = &mut run;
        rows.sort_by(|left, right| self.order.compare((bytes, left), (bytes, right)));
        if rows.len() > self.limit {
            run = Run::of(run.rows.iter().take(self.limit).map(|row| (&run, row)));
        }
        self.keep(run);
        if self.limit <= FEW_ROWS && self.merge.from.len() > 2 * self.limit + RUN_ROWS {
            let of_run = |run| move |row| (run, row);
            let mut all: Vec<(&Run, &Gathered)> =
                self.runs.iter().flat_map(|run| run.rows.iter().map(of_run(run))).collect();
            all.sort_by(|left, right| {
                self.order.compare((&left.0.bytes, left.1), (&right.0.bytes, right.1))
            });
            let one = Run::of(all.into_iter().take(self.limit));
            (self.runs, self.merge) = (Vec::new(), Merge::default());
            self.keep(one);
        }
    }

    fn keep(&mut self, run: Run) {
        let nth = self.runs.len();
        self.merge.from.extend((0..run.rows.len()).map(|row| name(nth, row)));
        self.merge.ends.push(self.merge.from.len());
        self.runs.push(run);
    }

    /// Bytes that it takes, now or when it merges.
    fn size(&self) -> usize {
        self.runs.iter().chain([&self.open]).map(Run::size).sum()
    }

    /// All rows are there.
    fn begin_merge(&mut self) {
        self.close_run();
        self.merge.right = self.merge.ends[0];
    }

    /// Merges about so many rows; whether all is one.
    fn merge_step(&mut self, mut budget: usize) -> bool {
        let Self { order, runs, merge, .. } = self;
        let row = |name: u32| {
            let (run, row) = place(name);
            (&runs[run].bytes[..], &runs[run].rows[row])
        };
        while merge.ends.len() > 1 {
            if merge.pair >= merge.ends.len() {
                merge.next_pass();
                continue;
            }
            let left_end = merge.ends[merge.pair];
            let right_end = merge.ends.get(merge.pair + 1).copied().unwrap_or(left_end);
            while merge.left < left_end || merge.right < right_end {
                if budget == 0 {
                    return false;
                }
                budget -= 1;
                let is_left = merge.right == right_end
                    || merge.left < left_end
                        && order
                            .compare(row(merge.from[merge.left]), row(merge.from[merge.right]))
                            .is_le();
                let at = if is_left { &mut merge.left } else { &mut merge.right };
                merge.to.push(merge.from[*at]);
                *at += 1;
            }
            merge.next_pair(right_end);
        }
        true
    }

    /// All is one: those within the limit.
    fn finish(&mut self) -> Sorted {
        let mut names = std::mem::take(&mut self.merge.from);
        names.truncate(self.limit);
        Sorted { runs: std::mem::take(&mut self.runs), names }
    }
}

impl Merge {
    fn next_pair(&mut self, end: usize) {
        self.to_ends.push(self.to.len());
        self.pair += 2;
        self.left = end;
        self.right = self.ends.get(self.pair).copied().unwrap_or(end);
    }

    fn next_pass(&mut self) {
        std::mem::swap(&mut self.from, &mut self.to);
        std::mem::swap(&mut self.ends, &mut self.to_ends);
        self.to.clear();
        self.to_ends.clear();
        (self.pair, self.left, self.right) = (0, 0, self.ends[0]);
    }
}

impl Sorted {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// The nth.
    pub(super) fn row(&self, nth: usize) -> Row<'_> {
        let (run, row) = place(self.names[nth]);
        let (run, row) = (&self.runs[run], &self.runs[run].rows[row]);
        Row::new(row.key(&run.bytes), row.found)
    }
}

/// The name of a row of the nth run.
fn name(run: usize, row: usize) -> u32 {
    u32::try_from(run * RUN_ROWS + row).expect("as many rows would not fit the bound of all")
}

/// The run and the row of a name.
fn place(name: u32) -> (usize, usize) {
    let name = usize::try_from(name).expect("usize is 64 bits");
    (name / RUN_ROWS, name % RUN_ROWS)
}

impl Run {
    /// A run of rows of other runs.
    fn of<'a>(rows: impl Iterator<Item = (&'a Self, &'a Gathered)>) -> Self {
        let mut all = Self::default();
        for (run, row) in rows {
            all.push(row.key(&run.bytes), row.found, row.value(&run.bytes));
        }
        all
    }

    fn push(&mut self, key: &[u8], found: Found, value: &[u8]) {
        let size = |size: usize| u32::try_from(size).expect("a run and a row are small");
        self.rows.push(Gathered {
            found,
            start: size(self.bytes.len()),
            key_size: size(key.len()),
            value_size: size(value.len()),
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.rows.len() * ROW_SIZE
    }
}

impl Gathered {
    fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = to_usize(self.start);
        &bytes[start..start + to_usize(self.key_size)]
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = to_usize(self.start) + to_usize(self.key_size);
        &bytes[start..start + to_usize(self.value_size)]
    }
}

fn to_usize(size: u32) -> usize {
    usize::try_from(size).expect("usize is 64 bits")
}

impl Order {
    fn compare(self, left: (&[u8], &Gathered), right: (&[u8], &Gathered)) -> Ordering {
        let (one, other) = (&left.1.found, &right.1.found);
        let order = match self.target {
            SortTarget::Key => left.1.key(left.0).cmp(right.1.key(right.0)),
            SortTarget::Version => one.version.cmp(&other.version),
            SortTarget::Create => one.created.cmp(&other.created),
            SortTarget::Mod => one.location.main.cmp(&other.location.main),
            SortTarget::Value => left.1.value(left.0).cmp(right.1.value(right.0)),
        };
        if self.is_down { order.reverse() } else { order }
    }
}

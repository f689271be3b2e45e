//! Orders that are not the keys' own: all rows are gathered, then sorted.

use crate::mvcc::Found;
use crate::mvcc::Keyspace;
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
use bytes::Bytes;

/// Bytes of values that one sorting by value may hold.
const SORT_SIZE_MAX: usize = 256 << 20;

/// A row gathered to be sorted.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) key: Box<[u8]>,
    found: Found,
    value: Bytes,
}

impl List {
    /// Gathers a stretch of rows to sort; whether the next is away.
    pub(super) fn gather(&mut self, keyspace: &Keyspace, store: &Store) -> bool {
        let Phase::Gathering(mut rows) = std::mem::replace(&mut self.phase, Phase::Giving) else {
            unreachable!("only who gathers is asked to");
        };
        let by_value = self.range.query().target == SortTarget::Value;
        while let Some(row) = self.ahead.pop_front_if(|row| matches!(row.value, Value::Here(_))) {
            let Value::Here(value) = row.value else { unreachable!("just looked") };
            rows.push(Gathered { key: row.key, found: row.found, value });
        }
        let mut is_away = !self.ahead.is_empty();
        self.phase = Phase::Gathering(Vec::new());
        if !is_away && !self.is_done() {
            let mut taken = 0;
            let stretch = self.peek(keyspace, STEP_ROWS);
            for row in &stretch.rows {
                let value = match store.value(row.location).filter(|_| by_value) {
                    Some(Lookup::Here(value)) => value.to_bytes(),
                    None => Bytes::new(),
                    Some(Lookup::Away(_)) => {
                        is_away = true;
                        break;
                    }
                };
                rows.push(Gathered { key: row.key.into(), found: found_of(row), value });
                taken += 1;
            }
            let resume = stretch.resume(taken);
            self.go_on(taken, resume);
        }
        if !is_away && self.is_done() {
            self.sort(rows);
        } else {
            self.phase = Phase::Gathering(rows);
        }
        is_away
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
        let limit = query.limit().unwrap_or(u64::MAX);
        self.more = u64::try_from(rows.len()).expect("64 bits") > limit;
        self.left = limit;
        self.is_over = false;
        rows.iter_mut().for_each(|row| row.value = Bytes::new());
        self.cursor = Cursor::Sorted(rows, 0);
        self.phase = Phase::Measuring;
    }

    /// Whether sorting by value holds more than it may.
    pub(super) fn is_too_large(&self) -> bool {
        let Phase::Gathering(rows) = &self.phase else { return false };
        rows.iter().map(|row| row.value.len()).sum::<usize>() > SORT_SIZE_MAX
    }
}

impl Gathered {
    pub(super) fn row(&self) -> Row<'_> {
        Row::new(&self.key, self.found)
    }
}

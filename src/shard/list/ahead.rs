//! Rows fetched ahead of a list's owner: where their values are on disk, many are asked for at
//! once.
//!
//! All lists share the room for such rows. Where there is none, who has rows that nobody waits for
//! gives them back: they are fetched anew when they are asked for. Who waits for rows keeps them
//! until they are given, which is soon, and so is next in turn in the end.

use crate::mvcc::Found;
use crate::mvcc::Keyspace;
use crate::shard::Shard;
use crate::shard::list::Cursor;
use crate::shard::list::List;
use crate::shard::list::found_of;
use crate::shard::records::KNOWN;
use crate::shard::request::RequestId;
use crate::shard::wants::Waiter;
use crate::store::BlockId;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Store;
use crate::types::LeaseId;
use std::collections::VecDeque;

/// Rows fetched ahead of a list's owner; each may bring a block of its own.
const AHEAD_ROWS_MAX: usize = 128;
/// Bytes of rows fetched ahead of one owner, beyond which no further row is added.
const AHEAD_SIZE_MAX: usize = 1 << 20;
/// Bytes that one list may have ahead however many there are: eight blocks.
const AHEAD_SIZE_MIN: usize = 64 << 10;

/// A row whose turn has not come.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) key: Box<[u8]>,
    pub(super) found: Found,
    pub(super) lease: LeaseId,
    pub(super) value: Value,
    /// Bytes that it takes, its value included, wherever that is yet.
    pub(super) size: usize,
}

/// A value of its own: a slice would keep all of the buffer it lies in.
#[derive(Debug)]
pub(super) enum Value {
    Here(Box<[u8]>),
    Away(BlockId),
}

impl Shard {
    /// Fetches what the next rows of a list lie in, or lets the list wait until there is room.
    pub(super) fn look_ahead(&mut self, to: RequestId, list: &mut List) {
        if list.is_done() {
            return;
        }
        let is_needed = list.ahead.is_empty();
        let most = self.config.lists.ahead_size_max;
        let count = self.lists.len() + 1;
        let share = (most / count).clamp(AHEAD_SIZE_MIN, AHEAD_SIZE_MAX);
        let mut room = most.saturating_sub(self.lists.held.ahead + list.held.ahead);
        while is_needed
            && room < AHEAD_SIZE_MIN.min(most)
            && let Some(idle) = self.lists.idle.first().copied()
        {
            let mut other = self.lists.take(idle).expect("who is idle is open");
            other.give_back();
            self.lists.put(idle, other);
            room = most.saturating_sub(self.lists.held.ahead + list.held.ahead);
        }
        if room == 0 || !is_needed && !self.lists.hungry.is_empty() {
            if is_needed && !list.is_hungry {
                list.is_hungry = true;
                self.lists.hungry.push_back(to);
            }
            return;
        }
        let mut wanted = list.extend_ahead(&self.keyspace, &self.store, share.min(room));
        wanted.sort_unstable();
        wanted.dedup();
        for block in wanted {
            if self.wants.want(block, Waiter::List(to)) {
                self.store.fetch(block);
            }
            list.missing += 1;
        }
    }

    /// Goes on with lists that wait for room, while there is some or can be; whether there was.
    pub(super) fn feed_hungry(&mut self) -> bool {
        let mut is_fed = false;
        // Whoever is idle gives back what it holds; it may wait for room in a connection that is
        // kept for one of the hungry.
        while (self.lists.held.ahead < self.config.lists.ahead_size_max
            || !self.lists.idle.is_empty())
            && let Some(to) = self.lists.hungry.pop_front()
        {
            let mut list = self.lists.take(to).expect("who waits for room is open");
            list.is_hungry = false;
            self.look_ahead(to, &mut list);
            self.tell_rows(to, &mut list);
            self.lists.put(to, list);
            is_fed = true;
        }
        is_fed
    }

    /// A block that a list waits for is here.
    pub(in crate::shard) fn list_fetched(&mut self, to: RequestId, fetched: &Fetched) {
        let Some(mut list) = self.lists.take(to) else { return };
        list.missing = list.missing.saturating_sub(1);
        let again = list.fill(&self.store, fetched);
        list.missing += again.len();
        for block in again {
            if self.wants.want(block, Waiter::List(to)) {
                self.store.fetch(block);
            }
        }
        self.tell_rows(to, &mut list);
        self.lists.put(to, list);
    }
}

impl List {
    /// Whether so little is fetched ahead that more should be asked for.
    pub(super) fn wants_ahead(&self) -> bool {
        !self.ahead.is_empty() && self.ahead.len() < AHEAD_ROWS_MAX / 2
    }

    /// Adds the next rows to those ahead, one at least if there are none, until these take about
    /// `size_max` bytes: the blocks that are to be fetched for them.
    fn extend_ahead(
        &mut self,
        keyspace: &Keyspace,
        store: &Store,
        size_max: usize,
    ) -> Vec<BlockId> {
        let (mut added, mut wanted) = (Vec::new(), Vec::new());
        if self.is_done() {
            return wanted;
        }
        let (mut size, mut is_first) = (self.held.ahead, self.ahead.is_empty());
        let next = self.peek(keyspace, AHEAD_ROWS_MAX.saturating_sub(self.ahead.len()));
        for row in &next.rows {
            let value_size = store.value_size(row.location, row.key.len()).expect(KNOWN);
            let row_size = size_of::<Ahead>() + row.key.len() + value_size;
            if size + row_size > size_max && !std::mem::take(&mut is_first) {
                break;
            }
            let value = match store.value(row.location).expect(KNOWN) {
                Lookup::Here(value) => Value::Here(value.as_slice().into()),
                Lookup::Away(block) => {
                    wanted.push(block);
                    Value::Away(block)
                }
            };
            let lease = self.lease(store, row.location);
            let (key, found) = (row.key.into(), found_of(row));
            size += row_size;
            added.push(Ahead { key, found, lease, value, size: row_size });
        }
        let resume = next.resume(added.len());
        self.go_on(added.len(), resume);
        self.ahead.extend(added);
        self.held.ahead = size;
        wanted
    }

    /// Goes back to before the rows ahead.
    pub(super) fn give_back(&mut self) {
        let Some(first) = self.ahead.front() else { return };
        match &mut self.cursor {
            Cursor::Keys(resume) => *resume = Some(first.key.to_vec()),
            Cursor::Sorted(_, next) => *next -= self.ahead.len(),
        }
        let count = u64::try_from(self.ahead.len()).expect("64 bits");
        self.left = self.left.saturating_add(count);
        self.is_over = false;
        self.ahead = VecDeque::new();
        self.held.ahead = 0;
    }

    /// Takes what rows ahead wait for out of a block; the blocks that are to be fetched now, where
    /// cleaning was quicker.
    fn fill(&mut self, store: &Store, fetched: &Fetched) -> Vec<BlockId> {
        let mut again = Vec::new();
        for row in &mut self.ahead {
            if !matches!(row.value, Value::Away(block) if block == fetched.id) {
                continue;
            }
            let location = row.found.location;
            row.value = match store.value_in(fetched, location) {
                Some(value) => Value::Here((&*value).into()),
                None => match store.value(location).expect(KNOWN) {
                    Lookup::Here(value) => Value::Here(value.as_slice().into()),
                    Lookup::Away(block) => {
                        again.push(block);
                        Value::Away(block)
                    }
                },
            };
        }
        again
    }
}

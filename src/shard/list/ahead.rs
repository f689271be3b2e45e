//! Rows fetched ahead of a list's owner: where their values are on disk, many are asked for at once.

use crate::mvcc::Found;
use crate::mvcc::Keyspace;
use crate::shard::Shard;
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
use bytes::Bytes;

/// Rows fetched ahead of a list's owner; each may bring a block of its own.
const AHEAD_ROWS_MAX: usize = 128;
/// Bytes of values fetched ahead, beyond which no further row is added.
const AHEAD_SIZE_MAX: usize = 1 << 20;

/// A row whose turn has not come.
#[derive(Debug)]
pub(super) struct Ahead {
    pub(super) key: Box<[u8]>,
    pub(super) found: Found,
    pub(super) lease: LeaseId,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Here(Bytes),
    Away(BlockId),
}

impl Shard {
    /// Fetches what the next rows of a list lie in.
    pub(super) fn look_ahead(&mut self, to: RequestId, list: &mut List) {
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
    pub(in crate::shard) fn list_fetched(&mut self, to: RequestId, fetched: &Fetched) {
        let Some(mut list) = self.lists.open.remove(&to) else { return };
        list.missing = list.missing.saturating_sub(1);
        let again = list.fill(&self.store, fetched);
        list.missing += again.len();
        for block in again {
            if self.wants.want(block, Waiter::List(to)) {
                self.store.fetch(block);
            }
        }
        self.tell_rows(to, &mut list);
        self.lists.open.insert(to, list);
    }
}

impl List {
    /// Whether so little is fetched ahead that more should be asked for.
    pub(super) fn wants_ahead(&self) -> bool {
        !self.ahead.is_empty() && self.ahead.len() < AHEAD_ROWS_MAX / 2
    }

    /// Adds the next rows to those ahead: the blocks that are to be fetched for them.
    fn extend_ahead(&mut self, keyspace: &Keyspace, store: &Store) -> Vec<BlockId> {
        let mut size: usize = self.ahead.iter().map(Ahead::size).sum();
        let (mut added, mut wanted) = (Vec::new(), Vec::new());
        if self.is_done() {
            return wanted;
        }
        let next = self.peek(keyspace, AHEAD_ROWS_MAX.saturating_sub(self.ahead.len()));
        for row in &next.rows {
            if size > AHEAD_SIZE_MAX {
                break;
            }
            let value = match store.value(row.location).expect(KNOWN) {
                Lookup::Here(value) => Value::Here(value.to_bytes()),
                Lookup::Away(block) => {
                    wanted.push(block);
                    Value::Away(block)
                }
            };
            let lease = self.lease(store, row.location);
            size += row.key.len() + store.value_size(row.location, row.key.len()).unwrap_or(0);
            added.push(Ahead { key: row.key.into(), found: found_of(row), lease, value });
        }
        let resume = next.resume(added.len());
        self.go_on(added.len(), resume);
        self.ahead.extend(added);
        wanted
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
                Some(value) => Value::Here(value),
                None => match store.value(location).expect(KNOWN) {
                    Lookup::Here(value) => Value::Here(value.to_bytes()),
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

impl Ahead {
    fn size(&self) -> usize {
        let Value::Here(value) = &self.value else { return self.key.len() };
        self.key.len() + value.len()
    }
}

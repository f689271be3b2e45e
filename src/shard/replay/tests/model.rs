//! A list of everything that ever changed, and what a watcher must see of it.

use crate::mvcc::KeyRange;
use crate::shard::command::Command;
use crate::shard::command::Head;
use crate::shard::command::Op;
use crate::shard::command::Txn;
use crate::shard::watch::Event;
use crate::shard::watch::Past;
use crate::shard::watch::Prev;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;
use bytes::Bytes;

/// Something that changes keys.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Put(Vec<u8>, Vec<u8>),
    /// A put that keeps the value.
    Keep(Vec<u8>),
    /// All from the first key to below the second.
    Delete(Vec<u8>, Vec<u8>),
    /// Several as one.
    All(Vec<Self>),
    Compact(i64),
}

impl Act {
    pub(super) fn encode(&self) -> Bytes {
        let (lease, prev_kv, ignore_lease) = (0, false, false);
        match self {
            Self::Put(key, value) => {
                let ignore_value = false;
                Command::Put { key, value, lease, prev_kv, ignore_value, ignore_lease }.encode()
            }
            Self::Keep(key) => {
                let (value, ignore_value) = (&[][..], true);
                Command::Put { key, value, lease, prev_kv, ignore_value, ignore_lease }.encode()
            }
            Self::Delete(key, range_end) => {
                Command::DeleteRange { key, range_end, prev_kv }.encode()
            }
            Self::All(acts) => {
                let ops: Vec<_> = acts.iter().map(Self::op).collect();
                let end = u32::try_from(ops.len()).expect("few");
                let heads = [Head { compares: 0, success: end, failure: end }];
                Command::Txn(Txn { heads: &heads, compares: &[], ops: &ops }).encode()
            }
            Self::Compact(revision) => {
                Command::Compact { revision: *revision, physical: false }.encode()
            }
        }
    }

    fn op(&self) -> Op<'_> {
        let (lease, prev_kv, ignore_value, ignore_lease) = (0, false, false, false);
        match self {
            Self::Put(key, value) => {
                Op::Put { key, value, lease, prev_kv, ignore_value, ignore_lease }
            }
            Self::Delete(key, range_end) => Op::DeleteRange { key, range_end, prev_kv },
            Self::Keep(_) | Self::All(_) | Self::Compact(_) => unreachable!("not within"),
        }
    }
}

/// Everything that ever changed.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) changes: Vec<Change>,
    pub(super) revision: i64,
    pub(super) floor: Option<i64>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self { changes: Vec::new(), revision: 1, floor: None }
    }

    pub(super) fn act(&mut self, act: &Act) {
        let main = self.revision + 1;
        match act {
            Act::Put(key, value) => self.put(main, key, value.clone().into()),
            Act::Keep(key) => {
                if let Some(old) = self.at(key, self.revision) {
                    let value = old.value.clone();
                    self.put(main, key, value);
                }
            }
            Act::Delete(key, end) => self.delete(main, KeyRange::new(key, end)),
            Act::All(acts) => {
                for act in acts {
                    match act {
                        Act::Put(key, value) => self.put(main, key, value.clone().into()),
                        Act::Delete(key, end) => self.delete(main, KeyRange::new(key, end)),
                        Act::Keep(_) | Act::All(_) | Act::Compact(_) => unreachable!("not within"),
                    }
                }
            }
            Act::Compact(revision) => {
                assert!(self.floor.is_none_or(|floor| floor < *revision));
                assert!(*revision <= self.revision);
                self.floor = Some(*revision);
            }
        }
    }

    fn next(&self, main: i64) -> Location {
        let last = self.changes.last().filter(|last| last.location.main.0 == main);
        let sub = last.map_or(0, |last| last.location.sub + 1);
        Location { main: Revision(main), sub }
    }

    fn put(&mut self, main: i64, key: &[u8], value: Bytes) {
        let old = self.at(key, main);
        let (created, version) =
            old.map_or((Revision(main), 1), |old| (old.created, old.version + 1));
        let (location, key) = (self.next(main), Bytes::copy_from_slice(key));
        let lease = LeaseId(0);
        self.changes.push(Change { location, key, value, lease, created, version });
        self.revision = main;
    }

    fn delete(&mut self, main: i64, range: KeyRange<'_>) {
        let mut keys: Vec<_> = self.changes.iter().map(|change| change.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| range.contains(key) && self.at(key, main).is_some());
        for key in keys {
            let (location, value) = (self.next(main), Bytes::new());
            let (lease, created, version) = (LeaseId(0), Revision(0), 0);
            self.changes.push(Change { location, key, value, lease, created, version });
            self.revision = main;
        }
    }

    /// The put that `revision` sees of a key.
    fn at(&self, key: &[u8], revision: i64) -> Option<&Change> {
        let until = self.changes.partition_point(|change| change.location.main.0 <= revision);
        let last = self.changes[..until].iter().rfind(|change| change.key == key);
        last.filter(|change| change.version > 0)
    }

    /// Checks that these are all events of a past up to a revision.
    ///
    /// # Errors
    /// What they are not.
    pub(super) fn check(&self, past: &Past, until: i64, events: &[Event]) -> Result<(), String> {
        let is_due = |change: &&Change| {
            (past.from.0..=until).contains(&change.location.main.0)
                && past.range().contains(&change.key)
                && if change.version == 0 { past.deletes } else { past.puts }
        };
        let due: Vec<_> = self.changes.iter().filter(is_due).collect();
        let told: Vec<_> = events.iter().map(|event| &event.change).collect();
        if due != told {
            return Err(format!("{past:?} to {until} is told {told:?} and not {due:?}"));
        }
        events.iter().try_for_each(|event| self.check_prev(event, past.prev_kv, false))
    }

    /// Checks what is told to have been before a change; perhaps only that it is on disk.
    ///
    /// # Errors
    /// That it was not.
    pub(super) fn check_prev(
        &self,
        event: &Event,
        prev_kv: bool,
        may_be_away: bool,
    ) -> Result<(), String> {
        let main = event.change.location.main;
        let before = self.at(&event.change.key, main.0 - 1);
        let before = before.filter(|_| prev_kv && event.change.created != main);
        let pair = before.map_or(Prev::None, |before| Prev::Pair {
            location: before.location,
            created: before.created,
            version: before.version,
            lease: before.lease,
            value: before.value.clone(),
        });
        let is_compacted = self.floor.is_some_and(|floor| main.0 - 1 < floor);
        let is_right = event.prev == pair
            || (event.prev == Prev::None && is_compacted)
            || (event.prev == Prev::Away && may_be_away && prev_kv);
        if is_right { Ok(()) } else { Err(format!("{event:?} was before {pair:?}")) }
    }
}

//! What clients did and what they were told, on one clock.

use crate::linear::{self, Act, Held};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of the longest value, but for those that say their size.
const VALUE_SIZE_MAX: u64 = 3000;

/// A clock that never shows the same twice. Who looks at it after another has looked sees more.
#[derive(Debug, Default)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It happened, at this revision.
    Told(i64),
    /// It did not happen, for certain.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One call of a client, and what became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) key: usize,
    /// What it was and has seen; that means nothing if its fate is not told.
    pub(crate) act: Act,
    /// True for a read that may be of any past state.
    pub(crate) is_serializable: bool,
    /// The revision of the pair that it has seen; 0 for none.
    pub(crate) seen_at: i64,
    pub(crate) fate: Fate,
    pub(crate) began: u64,
    pub(crate) ended: u64,
}

/// What a watcher was told: revision, key, and the value, or none if it was deleted.
pub(crate) type Change = (i64, usize, Held);

/// A key by its number.
pub(crate) fn key(number: usize) -> Bytes {
    format!("k/{number}").into()
}

/// The number of a key.
///
/// # Panics
///
/// If it is none of ours.
pub(crate) fn number_of(key: &[u8]) -> usize {
    let number = key.strip_prefix(b"k/").and_then(|rest| str::from_utf8(rest).ok()?.parse().ok());
    number.unwrap_or_else(|| panic!("a key that nobody put: {}", key.escape_ascii()))
}

/// The bit of a value's number from which on it says how many KiB the value has besides.
pub(crate) const SIZE_SHIFT: u32 = 40;

/// A value by its number; most are short, some are long.
pub(crate) fn value(number: u64) -> Bytes {
    let some = if number.is_multiple_of(5) { number % VALUE_SIZE_MAX } else { 0 };
    let size = some + ((number >> SIZE_SHIFT) << 10);
    let filler = usize::try_from(size).expect("small");
    format!("{number}.{}", "v".repeat(filler)).into()
}

/// The number of a value.
///
/// # Panics
///
/// If it is none of ours, or not whole.
pub(crate) fn value_number(bytes: &Bytes) -> u64 {
    let text = str::from_utf8(bytes).expect("values are text");
    let number = text.split_once('.').and_then(|(number, _)| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("a value that nobody put: {text}"));
    assert_eq!(bytes, &value(number), "a value comes back as it was put");
    number
}

/// Sees that all calls, reads that must be of the present among them, can have happened one after
/// the other.
///
/// # Panics
///
/// If they cannot.
pub(crate) fn is_linearizable(records: &[Record]) {
    let mut keys: BTreeMap<usize, Vec<linear::Call>> = BTreeMap::new();
    let strict = records.iter().filter(|it| !it.is_serializable && it.fate != Fate::Refused);
    for Record { key, act, fate, began, ended, .. } in strict {
        let ended = matches!(fate, Fate::Told(_)).then_some(*ended);
        keys.entry(*key).or_default().push(linear::Call { act: *act, began: *began, ended });
    }
    for (key, calls) in keys {
        linear::check(&calls).unwrap_or_else(|why| {
            panic!("key {key}, {} calls: no order of them fits: {why}", calls.len())
        });
    }
}

/// What is there to the end: every change by its revision, as one member tells it.
#[derive(Debug)]
pub(crate) struct Truth(BTreeMap<i64, (usize, Held)>);

impl Truth {
    /// # Panics
    ///
    /// If a revision is missing or comes twice: each of our changes is one revision.
    pub(crate) fn new(changes: &[Change]) -> Self {
        for (change, due) in changes.iter().zip(2..) {
            assert_eq!(change.0, due, "no revision is missing and none comes twice");
        }
        Self(changes.iter().map(|&(revision, key, held)| (revision, (key, held))).collect())
    }

    /// What each key held at a revision, and since which.
    fn states(&self) -> BTreeMap<usize, BTreeMap<i64, Held>> {
        let mut states: BTreeMap<usize, BTreeMap<i64, Held>> = BTreeMap::new();
        for (revision, (key, held)) in &self.0 {
            states.entry(*key).or_default().insert(*revision, *held);
        }
        states
    }

    /// Sees that it holds what clients were told, no more than once, and nothing else.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub(crate) fn agrees_with(&self, records: &[Record]) {
        self.holds_what_was_acknowledged(records);
        self.holds_nothing_else(records);
        self.was_seen(records);
        follows_time(records);
    }

    fn holds_what_was_acknowledged(&self, records: &[Record]) {
        for record in records {
            let Fate::Told(revision) = record.fate else { continue };
            let due = match record.act {
                Act::Put { value, .. } | Act::Swap { value, otherwise: None, .. } => Some(value),
                Act::Delete { before: Some(_) } => None,
                Act::Delete { before: None } | Act::Read { .. } | Act::Swap { .. } => continue,
            };
            let found = self.0.get(&revision);
            assert_eq!(found, Some(&(record.key, due)), "lost: {record:?}");
        }
    }

    fn holds_nothing_else(&self, records: &[Record]) {
        let mut values: BTreeMap<u64, usize> = BTreeMap::new();
        let mut deletes: BTreeMap<usize, usize> = BTreeMap::new();
        for record in records {
            match (record.act, record.fate) {
                (_, Fate::Refused) | (Act::Read { .. }, _) => {}
                (Act::Swap { otherwise: Some(_), .. }, Fate::Told(_)) => {}
                (Act::Put { value, .. } | Act::Swap { value, .. }, _) => {
                    values.insert(value, record.key);
                }
                (Act::Delete { before: None }, Fate::Told(_)) => {}
                (Act::Delete { .. }, _) => *deletes.entry(record.key).or_default() += 1,
            }
        }
        for (revision, (key, held)) in &self.0 {
            match held {
                Some(value) => {
                    let put = values.remove(value);
                    assert_eq!(put, Some(*key), "put twice, or by nobody: {value} at {revision}");
                }
                None => {
                    let left = deletes.get_mut(key).filter(|left| **left > 0);
                    *left.unwrap_or_else(|| panic!("nobody deleted {key} at {revision}")) -= 1;
                }
            }
        }
    }

    /// What each call has seen, of whatever kind it was, is the state at the revision that it
    /// tells, or the one before its own change.
    fn was_seen(&self, records: &[Record]) {
        let states = self.states();
        for record in records {
            let Fate::Told(revision) = record.fate else { continue };
            let (seen, at) = match record.act {
                Act::Read { seen } => (seen, revision),
                Act::Put { before, .. } => (before, revision - 1),
                Act::Delete { before } => (before, revision - i64::from(before.is_some())),
                Act::Swap { expected, otherwise: None, .. } => (expected, revision - 1),
                Act::Swap { otherwise: Some(seen), .. } => (seen, revision),
            };
            let last = states.get(&record.key).and_then(|state| state.range(..=at).next_back());
            let held = last.and_then(|(_, held)| *held);
            assert_eq!(seen, held, "no state that there was: {record:?}, but {last:?}");
            if matches!(record.act, Act::Read { .. }) {
                let since = last.filter(|(_, held)| held.is_some()).map_or(0, |(since, _)| *since);
                assert_eq!(record.seen_at, since, "of another revision: {record:?}");
            }
        }
    }

    /// Sees that a watcher from the beginning was told all to its last revision, in order and once.
    ///
    /// # Panics
    ///
    /// If it was not.
    pub(crate) fn was_told(&self, changes: &[Change]) {
        let Some(last) = changes.last() else { return };
        let due: Vec<_> = self
            .0
            .range(..=last.0)
            .map(|(&revision, &(key, held))| (revision, key, held))
            .collect();
        let wrong = changes.iter().zip(&due).find(|(told, due)| told != due);
        assert_eq!(wrong, None, "a watcher was told something else, or in another order");
        assert_eq!(changes.len(), due.len(), "a watcher was told more, or less");
    }

    /// What all keys hold in the end.
    pub(crate) fn end(&self) -> BTreeMap<usize, u64> {
        let mut end = BTreeMap::new();
        for (key, held) in self.0.values() {
            match held {
                Some(value) => end.insert(*key, *value),
                None => end.remove(key),
            };
        }
        end
    }
}

/// What began after something was told is told no older revision, and a change a later one.
fn follows_time(records: &[Record]) {
    let mut moments: BTreeMap<u64, (&Record, bool)> = BTreeMap::new();
    for record in records.iter().filter(|it| !it.is_serializable) {
        if matches!(record.fate, Fate::Told(_)) {
            moments.insert(record.began, (record, true));
            moments.insert(record.ended, (record, false));
        }
    }
    let (mut told, mut floors) = (0, BTreeMap::new());
    for (record, begins) in moments.into_values() {
        let Fate::Told(revision) = record.fate else { continue };
        if begins {
            floors.insert(record.began, told);
            continue;
        }
        let floor = floors.remove(&record.began).expect("it has begun");
        let is_change = match record.act {
            Act::Put { .. } | Act::Swap { otherwise: None, .. } => true,
            Act::Delete { before } => before.is_some(),
            Act::Read { .. } | Act::Swap { .. } => false,
        };
        let least = if is_change { floor + 1 } else { floor };
        assert!(revision >= least, "{floor} was told before it began: {record:?}");
        told = told.max(revision);
    }
}

/// Counts for a person: calls told, refused and unknown, and keys.
pub(crate) fn summary(records: &[Record]) -> String {
    let count = |is: fn(Fate) -> bool| records.iter().filter(|it| is(it.fate)).count();
    let keys: BTreeSet<_> = records.iter().map(|record| record.key).collect();
    format!(
        "{} calls on {} keys: {} told, {} refused, {} unknown",
        records.len(),
        keys.len(),
        count(|fate| matches!(fate, Fate::Told(_))),
        count(|fate| fate == Fate::Refused),
        count(|fate| fate == Fate::Unknown),
    )
}

//! A keyspace so simple that it is right: the list of everything that ever happened.
//!
//! Written from etcd's rules, without a look at the server's own: every question is answered by
//! walking the list from its beginning.

use std::collections::BTreeMap;

/// A range of keys as etcd writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) key: Vec<u8>,
    /// Empty: the one key. One zero byte: no end.
    pub(crate) end: Vec<u8>,
}

impl Keys {
    pub(crate) fn one(key: &[u8]) -> Self {
        Self { key: key.to_vec(), end: Vec::new() }
    }

    /// Every key there is.
    pub(crate) fn all() -> Self {
        Self { key: vec![0], end: vec![0] }
    }

    fn contains(&self, key: &[u8]) -> bool {
        match &self.end[..] {
            [] => key == self.key,
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        }
    }
}

/// What a client asks.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Put { key: Vec<u8>, value: Vec<u8>, prev_kv: bool, ignore_value: bool },
    Delete { keys: Keys, prev_kv: bool },
    Range(Question),
}

/// A read.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) keys: Keys,
    pub(crate) revision: i64,
    pub(crate) limit: i64,
    pub(crate) serializable: bool,
    pub(crate) keys_only: bool,
    pub(crate) count_only: bool,
}

impl Op {
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self, Self::Range(_))
    }
}

/// A key with what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
}

/// A [`Row`] on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    key: Vec<u8>,
    value: Vec<u8>,
    created: i64,
    modified: i64,
    version: i64,
}

impl Kept {
    pub(crate) fn row(&self) -> Row<'_> {
        Row {
            key: &self.key,
            value: &self.value,
            created: self.created,
            modified: self.modified,
            version: self.version,
        }
    }

    fn new(row: Row<'_>) -> Self {
        Self {
            key: row.key.to_vec(),
            value: row.value.to_vec(),
            created: row.created,
            modified: row.modified,
            version: row.version,
        }
    }
}

/// What a write must be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Put { revision: i64, prev: Option<Kept> },
    Delete { revision: i64, deleted: i64, prevs: Vec<Kept> },
    KeyNotFound { revision: i64 },
}

impl Effect {
    /// The keyspace's revision after it.
    pub(crate) fn revision(&self) -> i64 {
        match self {
            Self::Put { revision, .. }
            | Self::Delete { revision, .. }
            | Self::KeyNotFound { revision } => *revision,
        }
    }
}

/// One change: at which revision, which key, and its new value if it is not deleted.
#[derive(Clone, Debug)]
struct Event {
    revision: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Everything that ever happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    events: Vec<Event>,
}

impl Model {
    /// The revision of the last change.
    pub(crate) fn revision(&self) -> i64 {
        self.events.last().map_or(1, |event| event.revision)
    }

    /// The rows of a range at a revision, by key.
    pub(crate) fn rows(&self, keys: &Keys, revision: i64) -> Vec<Row<'_>> {
        let mut rows: BTreeMap<&[u8], Row<'_>> = BTreeMap::new();
        for event in self.events.iter().take_while(|event| event.revision <= revision) {
            if !keys.contains(&event.key) {
                continue;
            }
            let Some(value) = &event.value else {
                rows.remove(&event.key[..]);
                continue;
            };
            let (key, modified) = (&event.key[..], event.revision);
            let row = rows.entry(key).or_insert(Row {
                key,
                value,
                created: modified,
                modified,
                version: 0,
            });
            *row = Row { value, modified, version: row.version + 1, ..*row };
        }
        rows.into_values().collect()
    }

    /// Does a write.
    pub(crate) fn apply(&mut self, op: &Op) -> Effect {
        let (before, next) = (self.revision(), self.revision() + 1);
        match op {
            Op::Put { key, value, prev_kv, ignore_value } => {
                let prev = self.rows(&Keys::one(key), before).first().copied().map(Kept::new);
                let value = match &prev {
                    Some(prev) if *ignore_value => prev.value.clone(),
                    None if *ignore_value => return Effect::KeyNotFound { revision: before },
                    Some(_) | None => value.clone(),
                };
                self.events.push(Event { revision: next, key: key.clone(), value: Some(value) });
                Effect::Put { revision: next, prev: prev.filter(|_| *prev_kv) }
            }
            Op::Delete { keys, prev_kv } => {
                let rows: Vec<Kept> = self.rows(keys, before).into_iter().map(Kept::new).collect();
                let deleted = i64::try_from(rows.len()).expect("rows are few");
                let revision = if rows.is_empty() { before } else { next };
                for row in &rows {
                    let key = row.key.clone();
                    self.events.push(Event { revision: next, key, value: None });
                }
                let prevs = if *prev_kv { rows } else { Vec::new() };
                Effect::Delete { revision, deleted, prevs }
            }
            Op::Range(_) => unreachable!("a read changes nothing"),
        }
    }
}

//! What has happened to the keys, as the first node that applied it says; all others must say the
//! same.
//!
//! Every node is watched from its start: each change that it applies is compared with what is known
//! of that revision. So the logs of all nodes agree wherever they are applied.

use ringd::api::proto::mvccpb::KeyValue;
use ringd::shard::watch::Batch;
use std::collections::BTreeMap;

/// One change of a key, at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Change {
    pub(in super::super) key: Vec<u8>,
    /// What it holds from here on; version 0 is nothing.
    pub(in super::super) pair: KeyValue,
}

impl Change {
    pub(in super::super) fn is_deletion(&self) -> bool {
        self.pair.version == 0
    }
}

/// All that has happened.
#[derive(Debug, Default)]
pub(in super::super) struct Truth {
    /// By revision, from 2 on.
    revisions: Vec<Vec<Change>>,
    /// By key: its states, from each revision on.
    keys: BTreeMap<Vec<u8>, Vec<(i64, KeyValue)>>,
    /// By value: the revision that it was written at.
    values: BTreeMap<Vec<u8>, i64>,
    /// By node: the last revision that it told of.
    told: BTreeMap<usize, i64>,
}

/// The first revision that changes anything.
const FIRST: i64 = 2;

impl Truth {
    /// The last revision.
    pub(in super::super) fn last(&self) -> i64 {
        FIRST - 1 + i64::try_from(self.revisions.len()).expect("few")
    }

    /// What happened at a revision; nothing if it is still to come.
    pub(in super::super) fn at(&self, revision: i64) -> &[Change] {
        let at = usize::try_from(revision - FIRST).ok();
        at.and_then(|at| self.revisions.get(at)).map_or(&[], |changes| changes)
    }

    /// When a value was written, if it was.
    pub(in super::super) fn written(&self, value: &[u8]) -> Option<i64> {
        self.values.get(value).copied()
    }

    /// What a key held at a revision.
    pub(in super::super) fn state(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let states = self.keys.get(key)?;
        let after = states.partition_point(|state| state.0 <= revision);
        let pair = &states.get(after.checked_sub(1)?)?.1;
        (pair.version > 0).then_some(pair)
    }

    /// What all keys held at a revision.
    pub(in super::super) fn rows(&self, revision: i64) -> Vec<KeyValue> {
        self.keys.keys().filter_map(|key| self.state(key, revision)).cloned().collect()
    }

    /// A node's process has begun: it tells of what comes after this revision.
    pub(in super::super) fn begin(&mut self, node: usize, revision: i64) -> Result<(), String> {
        if revision > self.last() {
            return Err(format!("node {node} begins at revision {revision}, which nobody applied"));
        }
        self.told.insert(node, revision);
        Ok(())
    }

    /// A node has applied changes.
    pub(in super::super) fn applied(&mut self, node: usize, batch: &Batch) -> Result<(), String> {
        let mut changes: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for event in &batch.events {
            let it = &event.change;
            let revision = it.location.main.0;
            let pair = KeyValue {
                key: it.key.clone(),
                create_revision: it.created.0,
                mod_revision: revision,
                version: it.version,
                value: it.value.clone(),
                lease: it.lease.0,
            };
            changes.entry(revision).or_default().push(Change { key: it.key.to_vec(), pair });
        }
        for (revision, changes) in changes {
            let told = self.told.entry(node).or_insert(revision - 1);
            if revision != *told + 1 {
                return Err(format!("node {node} applies {revision} after {told}"));
            }
            *told = revision;
            if revision <= self.last() {
                let known = self.at(revision);
                if known != changes {
                    return Err(format!(
                        "node {node} applies {changes:?} at {revision}, another {known:?}"
                    ));
                }
            } else {
                self.append(revision, changes)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, revision: i64, changes: Vec<Change>) -> Result<(), String> {
        assert!(revision == self.last() + 1, "nodes tell of each revision");
        for change in &changes {
            if !change.is_deletion() {
                let value = change.pair.value.to_vec();
                if let Some(before) = self.values.insert(value, revision) {
                    return Err(format!(
                        "{change:?} is written at {revision}, and was written at {before}"
                    ));
                }
            }
            let states = self.keys.entry(change.key.clone()).or_default();
            states.push((revision, change.pair.clone()));
        }
        self.revisions.push(changes);
        Ok(())
    }
}

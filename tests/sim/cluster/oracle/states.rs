//! Whether nodes that have applied the same entry hold the same state.

use ringd::shard::Shard;
use ringd::shard::request::Member;
use ringd::types::{LogIndex, NodeId};
use std::collections::BTreeMap;

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    revision: i64,
    floor: Option<i64>,
    leases: Vec<i64>,
    voters: Vec<NodeId>,
    /// None where they are not known: who joins knows them from elsewhere at first.
    members: Option<Vec<Member>>,
}

impl State {
    /// Whether two can be of one entry.
    fn agrees(&self, other: &Self) -> bool {
        let members = self.members.as_ref().zip(other.members.as_ref());
        let with = |state: &Self| Self { members: None, ..state.clone() };
        members.is_none_or(|(one, two)| one == two) && with(self) == with(other)
    }
}

/// The states that entries have led to.
#[derive(Debug, Default)]
pub(in super::super) struct States {
    states: BTreeMap<LogIndex, State>,
    /// Hashes of all keys, by revision and floor.
    hashes: BTreeMap<(i64, i64), u32>,
    /// The last entry that anybody has applied.
    pub(in super::super) last: LogIndex,
}

impl States {
    /// Looks at a node that has done all that it had to; it joined when this entry was the last.
    ///
    /// # Errors
    /// Another one came to another state by the same entry.
    pub(in super::super) fn look(
        &mut self,
        node: usize,
        shard: &Shard,
        joined: LogIndex,
    ) -> Result<(), String> {
        let applied = shard.applied();
        if applied == LogIndex(0) {
            // Who joins knows only whom to ask.
            return Ok(());
        }
        let state = State {
            revision: shard.keyspace().revision().0,
            floor: shard.keyspace().compacted().map(|it| it.0),
            leases: shard.lessor().ids().map(|id| id.0).collect(),
            voters: shard.membership().voters().to_vec(),
            members: (applied >= joined).then(|| shard.members().to_vec()),
        };
        self.last = self.last.max(applied);
        let known = self.states.entry(applied).or_insert_with(|| state.clone());
        if known.agrees(&state) {
            known.members = known.members.take().or(state.members);
            Ok(())
        } else {
            Err(format!("node {node} at entry {applied}: {state:?}, another: {known:?}"))
        }
    }

    /// Looks at a hash that a client was told.
    ///
    /// # Errors
    /// It was told another one of the same.
    pub(in super::super) fn look_at_hash(
        &mut self,
        (revision, floor, hash): (i64, i64, u32),
    ) -> Result<(), String> {
        let known = *self.hashes.entry((revision, floor)).or_insert(hash);
        if known == hash {
            return Ok(());
        }
        Err(format!("the hash of revision {revision} above {floor} is {hash:x}, and was {known:x}"))
    }
}

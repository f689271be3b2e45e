//! Who leads and who votes: one leader in a term, members that change by one vote at a time, and
//! changes that stay once they are told.

use ringd::shard::Shard;
use ringd::shard::request::Member;
use ringd::types::{LogIndex, NodeId, Term};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of leaders and members.
#[derive(Debug, Default)]
pub(in super::super) struct Config {
    /// Who led in each term.
    leaders: BTreeMap<Term, NodeId>,
    /// Who voted after each entry that changed that, as far as somebody stopped there.
    voters: BTreeMap<LogIndex, BTreeSet<NodeId>>,
    /// Members that a client was told of, and those that it was told are gone.
    added: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
}

impl Config {
    /// Looks at a node.
    ///
    /// # Errors
    /// Two lead in one term, or two majorities need have no member in common.
    pub(in super::super) fn look(&mut self, node: NodeId, shard: &Shard) -> Result<(), String> {
        let term = shard.header().term;
        if shard.is_leader() {
            let leader = *self.leaders.entry(term).or_insert(node);
            if leader != node {
                return Err(format!("{leader:?} and {node:?} lead in term {term:?}"));
            }
        }
        if shard.applied() == LogIndex(0) {
            return Ok(());
        }
        let voters: BTreeSet<NodeId> = shard.membership().voters().iter().copied().collect();
        let before = self.voters.range(..=shard.applied()).next_back();
        if before.is_some_and(|it| *it.1 == voters) {
            return Ok(());
        }
        self.voters.insert(shard.applied(), voters);
        Ok(())
    }

    /// How many terms had a leader.
    pub(in super::super) fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// How many sets of voters there were.
    pub(in super::super) fn changes(&self) -> usize {
        self.voters.len()
    }

    /// A client was told of a member, or that one is gone.
    pub(in super::super) fn told(&mut self, id: NodeId, is_there: bool) {
        if is_there {
            self.added.insert(id);
        } else {
            self.gone.insert(id);
        }
    }

    /// Looks at the end, when all know the same members.
    ///
    /// # Errors
    /// Something that a client was told is not so, or the voters changed by more than one at once.
    pub(in super::super) fn look_at_end(
        &self,
        members: &[Member],
        removals: &BTreeSet<NodeId>,
    ) -> Result<(), String> {
        let all = &self.voters;
        let is_there = |id: &NodeId| members.iter().any(|member| member.id == *id);
        if let Some(id) = self.gone.iter().find(|id| is_there(id)) {
            return Err(format!("{id:?} was removed, and is there: {members:?}"));
        }
        let lost = |id: &&NodeId| !is_there(id) && !removals.contains(id);
        if let Some(id) = self.added.iter().find(lost) {
            return Err(format!("{id:?} was added, and is not there: {members:?}"));
        }
        for (before, after) in all.values().zip(all.values().skip(1)) {
            let (gone, come) = (before.difference(after).count(), after.difference(before).count());
            if gone + come > 1 {
                return Err(format!("the voters go from {before:?} to {after:?} at once"));
            }
        }
        Ok(())
    }
}

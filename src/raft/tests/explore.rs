//! Everything that can happen to small groups, as far as terms, proposals, crashes and messages on
//! their way are bounded: the node's own code under the `stateright` checker.
//!
//! Time does not pass: elections begin when the model says so, and pre-vote and check-quorum, which
//! only make elections rarer, are off. A message that is never delivered is one that was lost.
//! States that differ only in luck or in the numbers of tickets are taken for one.

use std::collections::VecDeque;
use std::hash::Hash;
use std::hash::Hasher;

use bytes::Bytes;
use stateright::Checker;
use stateright::Model;
use stateright::Property;

use super::world::Disk;
use crate::raft::Config;
use crate::raft::Entry;
use crate::raft::Input;
use crate::raft::Membership;
use crate::raft::MembershipChange;
use crate::raft::Message;
use crate::raft::Node;
use crate::raft::Output;
use crate::raft::Role;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;

/// What bounds the exploration.
struct Bounds {
    voters: u64,
    term_max: u64,
    proposals_max: u8,
    crashes_max: u8,
    network_max: usize,
    /// A change that any leader may propose once.
    change: Option<MembershipChange>,
}

#[derive(Clone, Debug)]
struct Member {
    node: Node,
    disk: Disk,
    stores: VecDeque<Output>,
    applied: LogIndex,
}

#[derive(Clone, Debug)]
struct Group {
    members: Vec<Member>,
    /// From, to, message; in an order that does not tell how they came there.
    network: Vec<(NodeId, NodeId, Message)>,
    chosen: Vec<Entry>,
    leaders: Vec<(Term, NodeId)>,
    proposals: u8,
    crashes: u8,
    changes: u8,
    broken: Option<&'static str>,
}

impl Hash for Group {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for Member { node, disk, stores, applied } in &self.members {
            (node.term, node.vote, node.role, node.leader).hash(state);
            (&node.log, &node.members, &node.peers, &node.ballots).hash(state);
            (node.agreed, node.is_ack_due, node.acked, node.is_ack_ripe).hash(state);
            (node.term_start, node.storage.shape(), applied).hash(state);
            (&disk.hard, &disk.entries, stores.len()).hash(state);
        }
        (&self.network, &self.chosen, &self.leaders).hash(state);
        (self.proposals, self.crashes, self.changes, self.broken).hash(state);
    }
}

impl PartialEq for Group {
    fn eq(&self, other: &Self) -> bool {
        let digest = |group: &Self| {
            let mut hasher = std::hash::DefaultHasher::new();
            group.hash(&mut hasher);
            hasher.finish()
        };
        digest(self) == digest(other)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Campaign(usize),
    Deliver(usize),
    Store(usize),
    Propose(usize),
    Change(usize),
    Crash(usize),
}

impl Group {
    fn drain(&mut self, at: usize) {
        let member = &mut self.members[at];
        let id = member.node.id();
        while let Some(output) = member.node.poll() {
            match output {
                Output::Store { .. } => member.stores.push_back(output),
                Output::Send { to, message } => self.network.push((id, to, message)),
                Output::Commit { entries } => {
                    for entry in entries {
                        member.applied = entry.index;
                        let place = usize::try_from(entry.index.0 - 1).unwrap();
                        if place == self.chosen.len() {
                            self.chosen.push(entry);
                        } else if self.chosen.get(place) != Some(&entry) {
                            self.broken = Some("two nodes applied different entries");
                        }
                    }
                }
                Output::Membership { .. } | Output::Role { .. } => {}
                Output::Read { .. }
                | Output::ReadLost { .. }
                | Output::Fetch { .. }
                | Output::SendSnapshot { .. }
                | Output::InstallSnapshot { .. } => self.broken = Some("nobody asked for this"),
            }
        }
        let role = (member.node.term(), id);
        if member.node.role() == Role::Leader && !self.leaders.contains(&role) {
            let has_all = self.chosen.iter().all(|entry| {
                let term = member.node.log.term(entry.index);
                term == Some(entry.term)
            });
            if !has_all {
                self.broken = Some("a leader lacks a committed entry");
            }
            if self.leaders.iter().any(|leader| leader.0 == role.0) {
                self.broken = Some("a term has two leaders");
            }
            self.leaders.push(role);
            self.leaders.sort_unstable();
        }
        let order = |a: &(NodeId, NodeId, Message)| {
            let mut bytes = Vec::new();
            a.2.encode(&mut bytes);
            (a.0, a.1, bytes)
        };
        self.network.sort_by_cached_key(order);
        // One that is on its way twice is as good as once: it may be delivered late or never.
        self.network.dedup();
    }

    fn store(&mut self, at: usize) {
        let member = &mut self.members[at];
        let Some(Output::Store { ticket, entries, hard_state }) = member.stores.pop_front() else {
            return;
        };
        for entry in &entries {
            member.disk.append(entry);
        }
        member.disk.hard = hard_state.unwrap_or(member.disk.hard);
        member.node.handle(Input::Stored { ticket });
    }
}

fn config(id: NodeId) -> Config {
    Config { pre_vote: false, check_quorum: false, ..Config::new(id) }
}

impl Model for Bounds {
    type State = Group;
    type Action = Action;

    fn init_states(&self) -> Vec<Group> {
        let ids: Vec<NodeId> = (1..=self.voters).map(NodeId).collect();
        let mut members = Vec::new();
        for id in &ids {
            let mut disk = Disk::default();
            disk.mark.membership = Membership::new(&ids, &[]);
            let node = Node::new(config(*id), disk.restored(LogIndex(0), LogIndex(0)), 0);
            members.push(Member { node, disk, stores: VecDeque::new(), applied: LogIndex(0) });
        }
        vec![Group {
            members,
            network: Vec::new(),
            chosen: Vec::new(),
            leaders: Vec::new(),
            proposals: 0,
            crashes: 0,
            changes: 0,
            broken: None,
        }]
    }

    fn actions(&self, group: &Group, actions: &mut Vec<Action>) {
        for (at, member) in group.members.iter().enumerate() {
            let is_leader = member.node.role() == Role::Leader;
            if !is_leader && member.node.term().0 < self.term_max {
                actions.push(Action::Campaign(at));
            }
            if !member.stores.is_empty() {
                actions.push(Action::Store(at));
            }
            if is_leader && group.proposals < self.proposals_max {
                actions.push(Action::Propose(at));
            }
            if is_leader && self.change.is_some() && group.changes == 0 {
                actions.push(Action::Change(at));
            }
            if group.crashes < self.crashes_max {
                actions.push(Action::Crash(at));
            }
        }
        actions.extend((0..group.network.len()).map(Action::Deliver));
    }

    fn next_state(&self, before: &Group, action: Action) -> Option<Group> {
        let mut group = before.clone();
        let at = match action {
            Action::Campaign(at) => {
                group.members[at].node.handle(Input::Campaign);
                at
            }
            Action::Store(at) => {
                group.store(at);
                at
            }
            Action::Propose(at) => {
                group.proposals += 1;
                let data = Bytes::copy_from_slice(&[group.proposals]);
                group.members[at].node.propose(data).ok()?;
                at
            }
            Action::Change(at) => {
                group.changes += 1;
                let node = &mut group.members[at].node;
                node.propose_change(self.change?, Bytes::new()).ok()?;
                at
            }
            Action::Crash(at) => {
                group.crashes += 1;
                let member = &mut group.members[at];
                member.stores.clear();
                let start = LogIndex(0);
                let restored = member.disk.restored(start, start);
                member.node = Node::new(config(member.node.id()), restored, 0);
                member.applied = start;
                at
            }
            Action::Deliver(at) => {
                let (from, to, message) = group.network.remove(at);
                let to = usize::try_from(to.0 - 1).unwrap();
                group.members[to].node.handle(Input::Message { from, message });
                to
            }
        };
        group.drain(at);
        Some(group)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is broken", |_, group: &Group| group.broken.is_none()),
            Property::sometimes("an entry of a second leader is committed", |_, group: &Group| {
                group.chosen.iter().any(|entry| entry.term.0 > 1)
            }),
        ]
    }

    fn within_boundary(&self, group: &Group) -> bool {
        group.network.len() <= self.network_max
    }
}

fn explore(bounds: Bounds, states_min: usize) {
    let checker = bounds.checker().threads(2).spawn_bfs().join();
    let count = checker.unique_state_count();
    checker.assert_properties();
    assert!(count >= states_min, "only {count} states were reached");
}

#[test]
fn every_way_of_two_nodes_through_crashes_is_safe() {
    explore(
        Bounds {
            voters: 2,
            term_max: 2,
            proposals_max: 1,
            crashes_max: 1,
            network_max: 3,
            change: None,
        },
        1000,
    );
}

#[test]
fn every_way_of_three_nodes_through_two_terms_is_safe() {
    explore(
        Bounds {
            voters: 3,
            term_max: 2,
            proposals_max: 0,
            crashes_max: 0,
            network_max: 2,
            change: None,
        },
        1000,
    );
}

#[test]
fn every_way_through_the_removal_of_a_node_is_safe() {
    explore(
        Bounds {
            voters: 2,
            term_max: 2,
            proposals_max: 0,
            crashes_max: 0,
            network_max: 3,
            change: Some(MembershipChange::Remove(NodeId(1))),
        },
        100,
    );
}

//! What tests of single claims do to a group.

use bytes::Bytes;

use super::world::Disk;
use super::world::Packet;
use super::world::World;
use crate::raft::Body;
use crate::raft::Config;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::Input;
use crate::raft::MembershipChange;
use crate::raft::Message;
use crate::raft::Rejected;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;

pub(super) const ONE: NodeId = NodeId(1);
pub(super) const TWO: NodeId = NodeId(2);
pub(super) const THREE: NodeId = NodeId(3);
pub(super) const FOUR: NodeId = NodeId(4);

pub(super) fn plain(_: &mut Config) {}

/// No timeouts play a part: elections are called, votes never withheld.
pub(super) fn bare(config: &mut Config) {
    config.pre_vote = false;
    config.check_quorum = false;
}

/// A group at rest that node 1 leads.
pub(super) fn led(voters: u64, shape: impl Fn(&mut Config)) -> World {
    let mut world = World::new(voters, 1, shape);
    elect(&mut world, ONE);
    world
}

pub(super) fn elect(world: &mut World, id: NodeId) {
    if world.members[&id].config.leader_lease {
        // Nobody votes before what it may have promised in an earlier life has run out.
        world.advance(1000);
    }
    world.handle(id, Input::Campaign);
    world.settle();
    assert_eq!(world.leader(), Some(id));
}

pub(super) fn propose(
    world: &mut World,
    id: NodeId,
    data: &'static str,
) -> Result<LogIndex, Rejected> {
    let index =
        world.member(id).node.as_mut().unwrap().propose(Bytes::from_static(data.as_bytes()));
    world.drain(id);
    index
}

pub(super) fn change(
    world: &mut World,
    id: NodeId,
    change: MembershipChange,
) -> Result<LogIndex, Rejected> {
    let index = world.member(id).node.as_mut().unwrap().propose_change(change, Bytes::new());
    world.drain(id);
    index
}

/// Restarts a node with a log of these terms, all durable, `committed` of them known as such.
pub(super) fn give(world: &mut World, id: NodeId, terms: &[u64], committed: u64) {
    world.crash(id);
    let membership = world.members[&id].disk.mark.membership.clone();
    let mut disk = Disk::default();
    disk.mark.membership = membership;
    disk.hard.term = Term(terms.last().copied().unwrap_or(0));
    disk.hard.committed = LogIndex(committed);
    for (term, index) in terms.iter().zip(1..) {
        let data = Bytes::from(format!("{index}@{term}"));
        let kind = EntryKind::Normal;
        disk.entries.push(Entry { term: Term(*term), index: LogIndex(index), kind, data });
    }
    world.member(id).disk = disk;
    world.restart(id);
}

pub(super) fn deliver_where(world: &mut World, wanted: impl Fn(&Packet) -> bool) -> usize {
    let (now, later) = world.network.drain(..).partition::<Vec<_>, _>(|packet| wanted(packet));
    world.network = later;
    let count = now.len();
    for packet in now {
        world.deliver(packet);
    }
    count
}

pub(super) fn message(world: &mut World, from: NodeId, to: NodeId, term: u64, body: Body) {
    world.handle(to, Input::Message { from, message: Message { term: Term(term), body } });
}

pub(super) fn store_all(world: &mut World, id: NodeId) {
    while world.store(id) {}
}

pub(super) fn isolate(world: &mut World, id: NodeId) {
    for other in world.ids() {
        world.blocked.extend([(id, other), (other, id)]);
    }
}

/// Node `away` hears nothing of twenty entries that node 1 commits.
pub(super) fn go_on_without(world: &mut World, away: NodeId) {
    isolate(world, away);
    for _ in 0..20 {
        propose(world, ONE, "a").unwrap();
        world.settle();
    }
}

pub(super) fn terms(world: &World, id: NodeId) -> Vec<u64> {
    world.members[&id].disk.entries.iter().map(|entry| entry.term.0).collect()
}

//! Bugs planted between a node and all that is around it: its disks, its clock, what it says and
//! what it hears. Each is one break of the protocol, made where it shows outside of the machines,
//! to show that the oracles find it.

use super::swarm::{Faults, Swarm};
use super::world::World;
use ringd::raft::{Body, Message};
use ringd::shard::command;
use ringd::shard::origin::Origin;
use ringd::shard::peer::{LeaseTold, Packet, Question};
use ringd::shard::request::{Failure, Unavailable};
use ringd::shard::{Input, Ready};
use ringd::types::{LogIndex, NodeId, Term};
use std::collections::BTreeMap;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A write of the log counts as durable when it has only begun.
    AckBeforeDurable,
    /// A process begins with an empty disk and is the member that it was.
    LostMemory,
    /// A member votes for whoever asks, whomever it has voted for.
    VoteTwice,
    /// A follower applies what it gets before it is committed, and tells those who watch.
    ApplyBeforeCommit,
    /// An entry of an earlier term is committed by the count of those who have it.
    OldTermByCount,
    /// A follower takes what it gets without a look at what comes before, and says so.
    NoPrevCheck,
    /// A leader takes its followers' word that it leads for given: reads ask no majority.
    ReadWithoutQuorum,
    /// Followers promise a leader with a lease not to vote, and vote.
    VoteInLease,
    /// What a member hands over again is taken for something else.
    ForwardTwice,
    /// One member logs other bytes than the others.
    OtherBytes,
    /// A new leader counts time from long before it led: leases end early.
    LeaseEarly,
    /// A follower answers for the leader that a lease lives on.
    RenewalByFollower,
    /// A write whose fate is not known is told to be refused.
    UnknownRefused,
    /// Of those who watch some are not told of some changes.
    LostEvents,
    /// Nobody says that it lacks what a leader takes for sent.
    SilentGap,
}

/// Bugs that take so many seeds are looked for only when one asks for them.
pub(super) const RARE: u64 = 400;

/// Each, and the seeds within which it is found.
pub(super) const BUGS: [(Bug, u64); 15] = [
    (Bug::AckBeforeDurable, 40),
    (Bug::LostMemory, 40),
    (Bug::VoteTwice, 200),
    (Bug::ApplyBeforeCommit, 40),
    (Bug::OldTermByCount, 400),
    (Bug::NoPrevCheck, 40),
    (Bug::ReadWithoutQuorum, 100),
    (Bug::VoteInLease, 400),
    (Bug::ForwardTwice, 20),
    (Bug::OtherBytes, 20),
    (Bug::LeaseEarly, 40),
    (Bug::RenewalByFollower, 40),
    (Bug::UnknownRefused, 100),
    (Bug::LostEvents, 40),
    (Bug::SilentGap, 40),
];

impl Bug {
    /// Whether this is what it leads to: only one of them keeps the group from its rest.
    pub(super) fn shows(self, why: &str) -> bool {
        let is_rest = why.contains("does not come");
        is_rest == (self == Self::SilentGap)
    }
}

/// How far logs agree, as followers have said it: by leader and term.
pub(super) type Acks = BTreeMap<(NodeId, Term), BTreeMap<NodeId, LogIndex>>;

impl Bug {
    /// Makes what it needs to be seen likely.
    pub(super) fn tune(self, swarm: &mut Swarm) {
        swarm.nodes = swarm.nodes.max(3);
        swarm.faults = Faults { crash: 700, part: 1_500, ..Faults::default() };
        swarm.members = false;
        (swarm.doubled, swarm.late) = (0, 0);
        let raft = &mut swarm.config.raft;
        match self {
            Self::VoteTwice => {
                raft.pre_vote = false;
                raft.check_quorum = false;
                raft.leader_lease = false;
                raft.election_ticks = 300;
                raft.heartbeat_ticks = 100;
                swarm.pace.delay_max = 40;
                swarm.disk_max = 20;
            }
            Self::OldTermByCount => {
                // Entries go one by one, and slowly: leaders end between two of them. Luck alone
                // takes thousands of seeds for it.
                swarm.nodes = 3;
                (raft.append_size_max, raft.inflight_count_max) = (1, 1);
                (raft.election_ticks, raft.heartbeat_ticks) = (300, 30);
                (swarm.clients, swarm.think_max, swarm.reads) = (3, 150, 10);
                (swarm.pace.delay_max, swarm.disk_max, swarm.span) = (40, 60, 15_000);
                swarm.patience = 700;
                swarm.faults = Faults { duel: 5, ..Faults::default() };
            }
            Self::VoteInLease => {
                raft.leader_lease = true;
                raft.check_quorum = true;
                raft.pre_vote = false;
                (raft.election_ticks, raft.heartbeat_ticks) = (1_000, 100);
                (swarm.nodes, swarm.reads, swarm.serializable) = (3, 60, 0);
                (swarm.clients, swarm.think_max, swarm.keys) = (6, 40, 1);
                swarm.patience = 700;
                swarm.faults = Faults { duel: 5, ..Faults::default() };
            }
            Self::ReadWithoutQuorum => {
                (swarm.reads, swarm.serializable, raft.leader_lease) = (60, 0, false);
                swarm.faults = Faults { part: 1_000, ..Faults::default() };
            }
            Self::LeaseEarly | Self::RenewalByFollower => swarm.leases = 40,
            Self::UnknownRefused => swarm.faults.part = 800,
            Self::LostEvents => swarm.watchers = 3,
            Self::AckBeforeDurable => swarm.disk_max = 20,
            Self::LostMemory
            | Self::ApplyBeforeCommit
            | Self::NoPrevCheck
            | Self::ForwardTwice
            | Self::OtherBytes
            | Self::SilentGap => {}
        }
    }
}

impl World {
    /// The packet that leaves in the place of another; none if it is not said.
    pub(super) fn spoil(&mut self, nth: usize, to: NodeId, packet: Packet) -> Option<Packet> {
        let Some(bug) = self.bug else { return Some(packet) };
        match packet {
            Packet::Raft(message) => {
                let message = self.spoil_message(bug, nth, to, message)?;
                Some(Packet::Raft(message))
            }
            Packet::Forward { attempt, data } if bug == Bug::ForwardTwice => {
                let origin = command::origin(&data).expect("it has one");
                let again = Origin { number: origin.number + (1 << 40), ..origin };
                // Behind the version of its format.
                let mut twin = data.to_vec();
                twin[1..=again.encode().len()].copy_from_slice(&again.encode());
                self.say(nth, to, &Packet::Forward { attempt, data });
                Some(Packet::Forward { attempt: attempt + 1, data: twin.into() })
            }
            Packet::Ask { life, number, what: Question::KeepAlive(id) }
                if bug == Bug::RenewalByFollower =>
            {
                let told = LeaseTold { id, ttl: 2, granted: 2, keys: Vec::new() };
                let packet = Packet::Answer { life, number, told };
                self.process(nth).shard.handle(Input::Packet { from: to, packet });
                self.call(nth);
                None
            }
            Packet::Forward { .. }
            | Packet::Refused { .. }
            | Packet::Ask { .. }
            | Packet::Answer { .. }
            | Packet::Removed
            | Packet::Snapshot(_) => Some(packet),
        }
    }

    fn spoil_message(
        &mut self,
        bug: Bug,
        nth: usize,
        to: NodeId,
        mut message: Message,
    ) -> Option<Message> {
        let own = self.nodes[nth].id;
        let term = message.term;
        match (bug, &mut message.body) {
            (Bug::VoteTwice, Body::VoteResponse { granted }) => *granted = true,
            (Bug::VoteInLease, Body::Vote { transfer, .. }) => *transfer = true,
            (Bug::ApplyBeforeCommit, Body::Append { prev, entries, committed }) => {
                *committed = entries.last().map_or(prev.index, |entry| entry.index).max(*committed);
            }
            (Bug::NoPrevCheck, Body::AppendRejected { prev, .. }) => {
                message.body = Body::AppendResponse { matched: *prev };
            }
            (Bug::SilentGap, Body::AppendRejected { .. }) => return None,
            (Bug::OldTermByCount, Body::AppendResponse { matched }) => {
                let known = self.acks.entry((to, term)).or_default().entry(own).or_default();
                *known = (*known).max(*matched);
            }
            (Bug::OldTermByCount, Body::Append { committed, .. }) => {
                *committed = (*committed).max(self.counted(own, term));
            }
            (Bug::OldTermByCount, Body::Heartbeat { committed, .. }) => {
                let acked = self.acks.get(&(own, term)).and_then(|acks| acks.get(&to));
                let counted = self.counted(own, term).min(acked.copied().unwrap_or_default());
                *committed = (*committed).max(counted);
            }
            (Bug::ReadWithoutQuorum, Body::Heartbeat { round, .. }) if *round > 0 => {
                let body = Body::HeartbeatResponse { round: *round };
                let packet = Packet::Raft(Message { term, body });
                self.process(nth).shard.handle(Input::Packet { from: to, packet });
                self.call(nth);
            }
            (Bug::OtherBytes, Body::Append { entries, .. }) if to == self.founders[1] => {
                for entry in entries {
                    // What every value holds.
                    let mut data = entry.data.to_vec();
                    if let Some(at) = data.iter().position(|byte| *byte == b':') {
                        data[at] = b';';
                        entry.data = data.into();
                    }
                }
            }
            _ => {}
        }
        Some(message)
    }

    /// How many entries a majority has, whatever their terms.
    fn counted(&self, leader: NodeId, term: Term) -> LogIndex {
        let Some(acks) = self.acks.get(&(leader, term)) else { return LogIndex(0) };
        let mut acks: Vec<LogIndex> = acks.values().copied().collect();
        acks.sort_unstable();
        acks.reverse();
        // The leader has them all.
        let others = self.founders.len() / 2;
        acks.get(others - 1).copied().unwrap_or_default()
    }

    /// The answer that leaves in the place of another.
    pub(super) fn spoil_answer(&mut self, ready: Ready) -> Ready {
        let is_unknown = matches!(
            ready,
            Ready::Result(Err(Failure::Unavailable(
                Unavailable::Timeout
                    | Unavailable::TimeoutLeaderFailed
                    | Unavailable::TimeoutConnectionLost
            )))
        );
        if is_unknown && self.bug == Some(Bug::UnknownRefused) {
            return Ready::Result(Err(Unavailable::NoLeader.into()));
        }
        ready
    }
}

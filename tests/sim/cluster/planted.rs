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
use ringd::shard::snapshot::parcel::Parcel;
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
    /// A snapshot comes without one of the tombstones that it had.
    LostTombstone,
    /// A member says that it has a snapshot when it only begins to pull it.
    SnapshotBeforeDurable,
}

/// Each, and the seeds within which it is found.
pub(super) const BUGS: [(Bug, u64); 17] = [
    (Bug::AckBeforeDurable, 40),
    (Bug::LostMemory, 40),
    (Bug::VoteTwice, 40),
    (Bug::ApplyBeforeCommit, 40),
    (Bug::OldTermByCount, 100),
    (Bug::NoPrevCheck, 40),
    (Bug::ReadWithoutQuorum, 100),
    (Bug::VoteInLease, 40),
    (Bug::ForwardTwice, 20),
    (Bug::OtherBytes, 20),
    (Bug::LeaseEarly, 40),
    (Bug::RenewalByFollower, 40),
    (Bug::UnknownRefused, 100),
    (Bug::LostEvents, 40),
    (Bug::SilentGap, 40),
    (Bug::LostTombstone, 40),
    (Bug::SnapshotBeforeDurable, 40),
];

impl Bug {
    /// Whether this is what it leads to: only some of them keep the group from its rest.
    pub(super) fn shows(self, why: &str) -> bool {
        if why.contains("too long to search") {
            return false;
        }
        let is_rest = why.contains("does not come");
        is_rest == matches!(self, Self::SilentGap | Self::SnapshotBeforeDurable)
    }
}

/// What a leader knows of logs.
#[derive(Default)]
pub(super) struct Agreed {
    /// How far theirs agree with its own, as followers have said it.
    matched: BTreeMap<NodeId, LogIndex>,
    /// The last entry of an earlier term that it has sent. It is on its own disk too: the vote that
    /// made it lead was written behind it.
    earlier: LogIndex,
}

/// That, by leader and term.
pub(super) type Acks = BTreeMap<(NodeId, Term), Agreed>;

/// The last entries of the snapshots that were offered: by whom, and under which name.
pub(super) type Offers = BTreeMap<(NodeId, u64), LogIndex>;

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
                // takes thousands of seeds for it. All that is asked for changes something.
                swarm.nodes = 3;
                (raft.append_size_max, raft.inflight_count_max) = (1, 1);
                (raft.election_ticks, raft.heartbeat_ticks) = (300, 30);
                (raft.pre_vote, raft.leader_lease) = (true, false);
                (swarm.clients, swarm.think_max, swarm.reads) = (6, 150, 10);
                (swarm.txns, swarm.deletes, swarm.leases, swarm.compacts) = (0, 0, 0, 0);
                (swarm.pace.delay_max, swarm.disk_max, swarm.span) = (40, 60, 15_000);
                swarm.patience = 700;
                swarm.faults = Faults { duel: 5, ..Faults::default() };
            }
            Self::VoteInLease => {
                raft.leader_lease = true;
                raft.check_quorum = true;
                raft.pre_vote = false;
                (raft.election_ticks, raft.heartbeat_ticks) = (1_000, 100);
                // Whoever is cut off with the leader goes on to read there, and the others write.
                (swarm.nodes, swarm.reads, swarm.serializable) = (3, 80, 0);
                (swarm.clients, swarm.think_max, swarm.keys) = (9, 40, 1);
                (swarm.pipelined, swarm.patience) = (3, 700);
                (swarm.pace.delay_max, swarm.pace.slow, swarm.disk_max) = (5, 0, 3);
                (swarm.leases, swarm.compacts, swarm.upkeep) = (0, 0, 0);
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
            Self::LostTombstone | Self::SnapshotBeforeDurable => {
                // Much is written while somebody is away, and little of it kept in the log.
                (swarm.clients, swarm.think_max, swarm.keys) = (6, 40, 8);
                (swarm.reads, swarm.deletes, swarm.txns) = (30, 25, 20);
                (swarm.leases, swarm.compacts) = (0, 0);
                (swarm.config.seal_entries_max, swarm.config.catchup_entries) = (20, 0);
            }
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
            Packet::Snapshot(parcel) if bug == Bug::SnapshotBeforeDurable => {
                self.spoil_parcel(nth, to, parcel)
            }
            Packet::Forward { .. }
            | Packet::Refused { .. }
            | Packet::Ask { .. }
            | Packet::Answer { .. }
            | Packet::Removed
            | Packet::Snapshot(_) => Some(packet),
        }
    }

    /// Whoever asks for the first piece of a snapshot says in place of that that it has all of it.
    fn spoil_parcel(&mut self, nth: usize, to: NodeId, parcel: Parcel) -> Option<Packet> {
        let own = self.nodes[nth].id;
        match &parcel {
            Parcel::Offer(offer) => {
                self.offers.insert((own, offer.snapshot), offer.position.index);
            }
            Parcel::Pull { snapshot, .. } => {
                let snapshot = *snapshot;
                let matched = *self.offers.get(&(to, snapshot)).expect("it was offered");
                let term = self.process(nth).shard.header().term;
                let settled = Parcel::Settled { snapshot, is_done: true };
                self.say(nth, to, &Packet::Snapshot(settled));
                let body = Body::AppendResponse { matched };
                return Some(Packet::Raft(Message { term, body }));
            }
            Parcel::Piece { .. } | Parcel::Settled { .. } | Parcel::Gone { .. } => {}
        }
        Some(Packet::Snapshot(parcel))
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
                let agreed = self.acks.entry((to, term)).or_default();
                let known = agreed.matched.entry(own).or_default();
                *known = (*known).max(*matched);
            }
            (Bug::OldTermByCount, Body::Append { prev, entries, committed }) => {
                let all = entries.iter().map(|it| (it.term, it.index));
                let sent = all.chain([(prev.term, prev.index)]);
                let earlier = sent.filter(|it| it.0 < term).map(|it| it.1).max();
                let agreed = self.acks.entry((own, term)).or_default();
                agreed.earlier = agreed.earlier.max(earlier.unwrap_or_default());
                *committed = (*committed).max(self.counted(own, term));
            }
            (Bug::OldTermByCount, Body::Heartbeat { committed, .. }) => {
                let acked = self.acks.get(&(own, term)).and_then(|it| it.matched.get(&to));
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

    /// How many entries of earlier terms a majority has.
    fn counted(&self, leader: NodeId, term: Term) -> LogIndex {
        let Some(agreed) = self.acks.get(&(leader, term)) else { return LogIndex(0) };
        let mut acks: Vec<LogIndex> = agreed.matched.values().copied().collect();
        acks.sort_unstable();
        acks.reverse();
        // The leader has them all.
        let others = self.founders.len() / 2;
        acks.get(others - 1).copied().unwrap_or_default().min(agreed.earlier)
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

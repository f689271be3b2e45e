//! What Raft asks for, and what the other shards of the group say.
//!
//! A follower that lags gets old entries from this replica's log, read back a stretch at a time.
//! One that lags further than the log reaches gets a [`snapshot`](super::snapshot).

use crate::raft;
use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::asks::Asks;
use crate::shard::membership::majority;
use crate::shard::peer::Packet;
use crate::shard::request::Unavailable;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Tick;
use crate::wal;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Stretches of the log that may be read at a time; those who ask beyond that ask again.
const FETCH_COUNT_MAX: usize = 8;

/// Milliseconds after the start in which the first election may be brought nearer, as in etcd.
const HASTE_MAX: u64 = 5_000;

/// What this replica does for the others.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Stretches of the log on their way: for whom, and from which entry on.
    fetches: BTreeMap<u64, (NodeId, LogIndex)>,
    /// The last entry of this leader's that changes what is known of members.
    pub(super) edited: LogIndex,
    /// The others and their URLs, as last told.
    pub(super) told: Vec<(NodeId, Vec<String>)>,
    /// Who leads, as last seen.
    leader: Option<NodeId>,
    /// When the last leader became known.
    pub(super) elected: Option<Tick>,
    /// Since when each peer is heard without a break.
    heard: BTreeMap<NodeId, Heard>,
    /// The peers that can be spoken to, until the first election was brought nearer.
    up: BTreeSet<NodeId>,
    /// Until when it may be; none if that is over.
    haste_until: Option<Tick>,
}

impl Group {
    pub(super) fn new(now: Tick, is_hasty: bool) -> Self {
        let haste_until = is_hasty.then(|| Tick(now.0.saturating_add(HASTE_MAX)));
        Self { haste_until, ..Self::default() }
    }
}

/// How a peer is heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    since: Tick,
    last: Tick,
}

impl Shard {
    pub(super) fn on_raft(&mut self, output: raft::Output) {
        match output {
            raft::Output::Store { ticket, entries, hard_state } => {
                self.store(ticket, &entries, hard_state);
            }
            raft::Output::Commit { entries } => {
                self.committed.extend(entries);
                self.apply_committed();
            }
            raft::Output::Read { context, index } if Asks::owns(context) => {
                self.leases.asks.point(context, index);
                self.serve_asks();
            }
            raft::Output::Read { context, index } => {
                self.reads.point(context, index);
                self.serve_reads();
            }
            raft::Output::ReadLost { context } if Asks::owns(context) => {
                self.leases.asks.lost(context);
            }
            raft::Output::ReadLost { context } => self.reads.lost(context),
            raft::Output::Role { term, role, leader } => {
                let leader = leader.map_or_else(|| "none".to_owned(), |id| format!("{:x}", id.0));
                let text = format!("raft role: {role:?} at term {term}, leader {leader}");
                self.outputs.push_back(Output::Role(text));
                self.on_role();
            }
            raft::Output::Membership { index, .. } => self.on_membership(index),
            raft::Output::Send { to, message } => self.send(to, Packet::Raft(message)),
            raft::Output::Fetch { peer, first, last, size_max } => {
                self.fetch(peer, first, last, size_max);
            }
            raft::Output::SendSnapshot { to, index_min, .. } => self.on_behind(to, index_min),
            raft::Output::InstallSnapshot { .. } => self.move_on(),
        }
    }

    /// What Raft wants kept goes into the log's next frame.
    fn store(
        &mut self,
        ticket: raft::Ticket,
        entries: &[raft::Entry],
        hard_state: Option<raft::HardState>,
    ) {
        for entry in entries {
            if entry.data.len() > self.wal.entry_size_max() {
                return self.halt(format!(
                    "entry {} has {} bytes, and this member's log holds entries of up to {}: start \
                     all members with the same --max-request-bytes and --wal-segment-bytes",
                    entry.index,
                    entry.data.len(),
                    self.wal.entry_size_max()
                ));
            }
            self.note_entry(entry);
            self.wal.append(&wal::Record::Entry {
                term: entry.term,
                index: entry.index,
                kind: entry.kind.code(),
                data: &entry.data,
            });
        }
        if let Some(state) = hard_state {
            self.wal.append(&wal::Record::HardState(wal::HardState {
                term: state.term,
                vote: state.vote,
                committed: state.committed,
            }));
        }
        self.wal.submit(ticket.0);
        self.unmarked = Some(self.now);
    }

    pub(super) fn send(&mut self, to: NodeId, packet: Packet) {
        self.outputs.push_back(Output::Send { to, packet });
    }

    /// A peer has said something.
    pub(super) fn on_packet(&mut self, from: NodeId, packet: Packet) {
        self.hear(from);
        if self.is_of_removed(from) {
            return;
        }
        match packet {
            // That one is ready is said here, and not by others.
            Packet::Raft(raft::Message { body: raft::Body::Snapshot { .. }, .. }) => {}
            Packet::Raft(message) => self.raft.handle(raft::Input::Message { from, message }),
            Packet::Forward { attempt, data } => self.on_forward(from, attempt, data),
            Packet::Refused { origin, attempt, why } => self.on_refused(origin, attempt, why),
            Packet::Ask { life, number, what } => self.on_lease_ask(from, life, number, what),
            Packet::Answer { life, number, told } => self.on_lease_answer(from, life, number, told),
            Packet::Removed => self.on_removed(from),
            Packet::Snapshot(parcel) => self.on_parcel(from, parcel),
        }
    }

    fn hear(&mut self, from: NodeId) {
        let silence_max = 2 * self.config.raft.election_ticks;
        if !self.raft.membership().contains(from) {
            return;
        }
        let now = self.now;
        let heard = self.group.heard.entry(from).or_insert(Heard { since: now, last: now });
        if now.since(heard.last) > silence_max {
            heard.since = now;
        }
        heard.last = now;
        self.forward_to(from);
    }

    /// Whether a peer has been heard since then, without a break.
    pub(super) fn is_heard_since(&self, peer: NodeId, since: Tick) -> bool {
        let silence_max = 2 * self.config.raft.election_ticks;
        let heard = self.group.heard.get(&peer);
        heard.is_some_and(|it| it.since <= since && self.now.since(it.last) <= silence_max)
    }

    /// How many of those that vote are heard since then, this one among them.
    pub(super) fn voters_heard_since(&self, since: Tick) -> usize {
        let own = self.member();
        let voters = self.raft.membership().voters().iter();
        voters.filter(|id| **id == own || self.is_heard_since(**id, since)).count()
    }

    /// Leadership may have changed.
    pub(super) fn on_leader(&mut self) {
        let leader = self.raft.leader();
        if leader.is_some() {
            if leader != self.group.leader {
                self.group.elected = Some(self.now);
            }
            self.group.leader = leader;
        }
        // Who begins to lead applies all that is in the log before it judges a change.
        self.group.edited = LogIndex(0);
        if !self.is_leader() {
            self.end_sends();
        }
        self.forward_anew();
        self.serve_transfers();
    }

    /// What to say of a change whose time was over at `deadline`, and whose fate is not known.
    ///
    /// # Source
    /// etcd: `server/etcdserver/server.go`, `parseProposeCtxErr`.
    pub(super) fn late(&self, deadline: Tick) -> Unavailable {
        let began = Tick(deadline.0.saturating_sub(self.config.request_timeout));
        if let Some(elected) = self.group.elected {
            let lost = Tick(elected.0.saturating_sub(2 * self.config.raft.election_ticks));
            if lost < began && began < elected {
                return Unavailable::TimeoutLeaderFailed;
            }
        }
        let is_connected = match self.raft.leader() {
            None => true,
            Some(leader) if leader == self.member() => {
                let majority = majority(self.raft.membership().voters().len());
                self.voters_heard_since(began) >= majority
            }
            Some(leader) => self.is_heard_since(leader, began),
        };
        if is_connected { Unavailable::Timeout } else { Unavailable::TimeoutConnectionLost }
    }

    /// What to say of a change whose time is over and that will never take place.
    pub(super) fn never(&self) -> Unavailable {
        // If there is a leader, it was too busy all that time.
        match self.raft.leader() {
            Some(_) => Unavailable::TooManyRequests,
            None => Unavailable::NoLeader,
        }
    }

    /// A peer can be spoken to: with a second one the first election need not wait for long.
    ///
    /// # Source
    /// etcd: `server/etcdserver/server.go`, `adjustTicks`.
    pub(super) fn on_peer_up(&mut self, peer: NodeId) {
        self.raft.handle(raft::Input::Reachable { peer });
        if self.group.haste_until.is_none_or(|until| self.now > until) {
            return;
        }
        self.group.up.insert(peer);
        if self.group.up.len() > 1 {
            self.group.haste_until = None;
            self.group.up.clear();
            self.raft.hasten();
        }
    }

    /// The connection to a peer broke: what was on its way there may not have arrived.
    pub(super) fn on_peer_lost(&mut self, peer: NodeId) {
        self.raft.handle(raft::Input::Unreachable { peer });
        self.group.up.remove(&peer);
        self.group.heard.remove(&peer);
        self.forwards.lose(peer);
        self.pull_again(peer);
    }

    /// Reads a stretch of the log for a follower.
    fn fetch(&mut self, peer: NodeId, first: LogIndex, last: LogIndex, size_max: usize) {
        let is_free = self.group.fetches.len() < FETCH_COUNT_MAX;
        let id = is_free.then(|| self.wal.fetch(first, last, size_max)).flatten();
        match id {
            Some(id) => {
                self.group.fetches.insert(id, (peer, first));
            }
            // Not durable yet, or too many at once: it is asked for again, but not in this turn.
            None => self.raft.handle(raft::Input::Fetched { peer, first, entries: Vec::new() }),
        }
    }

    /// Stretches of the log that have come go to those who asked.
    pub(super) fn on_fetched(&mut self) {
        while let Some((id, result)) = self.wal.fetched() {
            let (peer, first) = self.group.fetches.remove(&id).expect("it was asked for");
            match result {
                Ok(entries) if follow(first, &entries) => {
                    self.raft.handle(raft::Input::Fetched { peer, first, entries });
                }
                Ok(_) => {
                    let why = format!("the log does not hold entry {first} where it should");
                    return self.halt(why);
                }
                Err(damage) => return self.halt(damage.to_string()),
            }
        }
    }
}

/// Whether these are entries from `first` on, without a gap, at least one.
fn follow(first: LogIndex, entries: &[raft::Entry]) -> bool {
    let due = (first.0..).map(LogIndex);
    !entries.is_empty()
        && entries.iter().zip(due).all(|(entry, due)| entry.index == due)
        && entries.windows(2).all(|pair| pair[0].term <= pair[1].term)
}

//! The leader's end: a pinned state, and who pulls it.

use crate::raft;
use crate::raft::PeerState;
use crate::raft::Position;
use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::peer::Packet;
use crate::shard::snapshot::parcel::Offer;
use crate::shard::snapshot::parcel::Parcel;
use crate::store::Offering;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Pieces that one receiver may have asked for and not got; what it asks beyond that is dropped,
/// and it asks again.
const PULLS_MAX: usize = 64;
/// Most milliseconds that one tick gives leave for.
const TICK_MAX: u64 = 40;

/// Bytes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    part: u32,
    offset: u64,
    size: usize,
}

/// One snapshot on its way.
#[derive(Debug)]
struct Send {
    offer: Offer,
    offering: Offering,
    pulls: VecDeque<Range>,
    /// What is being read for it, by the store's names.
    reads: BTreeMap<u64, Range>,
    /// When it was last offered, and when the receiver last pulled.
    offered: Tick,
    pulled: Tick,
    /// Bytes of disk space that were kept from being free when it began.
    kept: u64,
}

/// All that are on their way.
#[derive(Debug, Default)]
pub(in crate::shard) struct Sends {
    open: BTreeMap<NodeId, Send>,
    /// Followers that have a state, and from which entry on they need the log; until when it is
    /// kept for them.
    fed: BTreeMap<NodeId, (LogIndex, Tick)>,
    /// Followers that have not taken a state that they got, or not fast enough; until when they are
    /// offered none.
    refused: BTreeMap<NodeId, Tick>,
    /// Whose turn was last.
    last: Option<NodeId>,
    /// Bytes that may be sent now.
    allowance: u64,
    /// Snapshots that this process has offered.
    count: u32,
}

impl Sends {
    /// The entry after which the log is needed, for those who are sent a state or have just got it.
    pub(in crate::shard) fn needed(&self) -> Option<LogIndex> {
        let open = self.open.values().map(|send| send.offer.position.index);
        open.chain(self.fed.values().map(|(index, _)| *index)).min()
    }

    /// The next pull: whose, and of what. Each receiver in turn.
    fn next_pull(&mut self) -> Option<(NodeId, Range)> {
        let after = self.last;
        let ids = self.open.iter().filter(|(_, it)| !it.pulls.is_empty()).map(|(id, _)| *id);
        let ids: Vec<NodeId> = ids.collect();
        let next = ids.iter().find(|id| Some(**id) > after).or(ids.first()).copied()?;
        self.last = Some(next);
        let pull = self.open.get_mut(&next)?.pulls.pop_front()?;
        Some((next, pull))
    }
}

impl Shard {
    /// A follower needs entries that the log no longer has: it is offered a state.
    pub(in crate::shard) fn on_behind(&mut self, peer: NodeId, index_min: LogIndex) {
        if self.sends.open.contains_key(&peer) {
            return;
        }
        if !self.offer(peer, index_min) {
            // It is asked for again once the follower has answered a heartbeat.
            self.raft.handle(raft::Input::SnapshotSent { peer, index: None });
        }
    }

    /// Pins the last sealed state for a follower; whether there is one, and room.
    fn offer(&mut self, peer: NodeId, index_min: LogIndex) -> bool {
        let is_full = self.sends.open.len() >= self.config.snapshots.sends_max;
        let is_refused = self.sends.refused.get(&peer).is_some_and(|until| self.now < *until);
        if is_full || is_refused || !self.is_heard_since(peer, self.now) || !self.wal.is_open() {
            return false;
        }
        let sealed = self.seals.sealed.as_ref().map(|state| state.applied);
        let Some(position) = sealed.filter(|position| position.index >= index_min) else {
            return false;
        };
        let Some(offering) = self.store.offer() else { return false };
        self.sends.count += 1;
        let snapshot = u64::from(self.wal.epoch()) << 32 | u64::from(self.sends.count);
        let (manifest_size, size) = (offering.manifest().len() as u64, offering.size());
        let offer = Offer { snapshot, position, manifest_size, size };
        self.tell_behind(peer, index_min, position, size);
        self.send(peer, Packet::Snapshot(Parcel::Offer(offer)));
        let (pulls, reads) = (VecDeque::new(), BTreeMap::new());
        let (offered, pulled, kept) = (self.now, self.now, self.size_kept());
        let send = Send { offer, offering, pulls, reads, offered, pulled, kept };
        self.sends.open.insert(peer, send);
        true
    }

    /// Bytes of disk space that are not free as long as somebody needs them: of segments that were
    /// cleaned, and of the log, if more of it is kept than would be anyway.
    fn size_kept(&self) -> u64 {
        let sealed = self.seals.sealed.as_ref().map_or(0, |state| state.applied.index.0);
        let first = sealed.saturating_sub(self.config.catchup_entries);
        let is_log_kept = self.sends.needed().is_some_and(|needed| needed.0 < first);
        let log = if is_log_kept { self.wal.size_in_use() } else { 0 };
        log + self.store.size_retired()
    }

    fn tell_behind(&mut self, peer: NodeId, index_min: LogIndex, at: Position, size: u64) {
        let text = format!(
            "member {:x} lacks entries up to {index_min}, which are no longer in the log: it is \
             sent the state as of entry {}, {size} bytes",
            peer.0, at.index
        );
        self.outputs.push_back(Output::Role(text));
    }

    /// A receiver has what is before, and wants more.
    pub(super) fn on_pull(
        &mut self,
        from: NodeId,
        snapshot: u64,
        (part, offset, size): (u32, u64, usize),
    ) {
        let found = self.sends.open.get_mut(&from).filter(|it| it.offer.snapshot == snapshot);
        let Some(send) = found else {
            return self.send(from, Packet::Snapshot(Parcel::Gone { snapshot }));
        };
        let place = usize::try_from(part).expect("usize is 64 bits");
        let end = offset.saturating_add(size as u64);
        if send.offering.part_size(place).is_none_or(|part_size| end > part_size) {
            return;
        }
        send.pulled = self.now;
        let range = Range { part, offset, size };
        let is_known = send.pulls.contains(&range) || send.reads.values().any(|it| *it == range);
        if !is_known && send.pulls.len() + send.reads.len() < PULLS_MAX {
            send.pulls.push_back(range);
        }
    }

    /// A receiver wants no more.
    pub(super) fn on_settled(&mut self, from: NodeId, snapshot: u64, is_done: bool) {
        let is_known = |send: &Send| send.offer.snapshot == snapshot;
        if self.sends.open.get(&from).is_some_and(is_known) {
            if !is_done {
                self.refuse(from, "was not taken; that member says why");
            }
            self.end_send(from, is_done);
        }
    }

    /// A follower is to be offered nothing for a while.
    fn refuse(&mut self, peer: NodeId, why: &str) {
        let index = self.sends.open[&peer].offer.position.index;
        let text = format!("the state as of entry {index} for member {:x} {why}", peer.0);
        self.outputs.push_back(Output::Role(text));
        let until = Tick(self.now.0.saturating_add(self.config.snapshots.patience));
        self.sends.refused.insert(peer, until);
    }

    /// A snapshot has come to its end.
    fn end_send(&mut self, peer: NodeId, is_done: bool) {
        let Some(send) = self.sends.open.remove(&peer) else { return };
        self.store.withdraw(send.offering);
        let index = send.offer.position.index;
        if is_done {
            let until = Tick(self.now.0.saturating_add(self.config.snapshots.patience));
            self.sends.fed.insert(peer, (index, until));
        }
        let index = is_done.then_some(index);
        self.raft.handle(raft::Input::SnapshotSent { peer, index });
    }

    /// Whoever leads sends; this one does not, or not any more.
    pub(in crate::shard) fn end_sends(&mut self) {
        for send in std::mem::take(&mut self.sends.open).into_values() {
            self.store.withdraw(send.offering);
        }
        self.sends.fed.clear();
        self.sends.refused.clear();
    }

    /// Time passes: offers are repeated until they are taken up, and who has nothing to say is
    /// given up.
    pub(in crate::shard) fn tick_sends(&mut self, elapsed: u64) {
        let limits = self.config.snapshots;
        let gained = elapsed.min(TICK_MAX).saturating_mul(limits.rate);
        let burst = TICK_MAX.saturating_mul(limits.rate);
        self.sends.allowance = (self.sends.allowance + gained).min(burst);
        let now = self.now;
        self.sends.refused.retain(|_, until| now < *until);
        if self.sends.open.is_empty() && self.sends.fed.is_empty() {
            return;
        }
        self.end_late_sends();
        let every = self.config.raft.heartbeat_ticks;
        let mut offers = Vec::new();
        for (peer, send) in &mut self.sends.open {
            let is_silent = now.since(send.pulled) >= every && send.pulls.is_empty();
            if is_silent && now.since(send.offered) >= every {
                send.offered = now;
                offers.push((*peer, send.offer));
            }
        }
        for (peer, offer) in offers {
            self.send(peer, Packet::Snapshot(Parcel::Offer(offer)));
        }
        let fed = self.raft.progress().filter(|peer| peer.state == PeerState::Replicate);
        let fed: Vec<_> = fed.map(|peer| (peer.id, peer.matched)).collect();
        self.sends.fed.retain(|id, (index, until)| {
            let is_there = fed.iter().any(|(peer, matched)| peer == id && matched >= index);
            !is_there && now < *until
        });
    }

    /// Gives up who is gone, and who is too slow.
    fn end_late_sends(&mut self) {
        let (now, limits) = (self.now, self.config.snapshots);
        let (membership, kept) = (self.raft.membership(), self.size_kept());
        let is_over = |id: &NodeId, send: &Send| {
            now.since(send.pulled) >= limits.patience || !membership.contains(*id)
        };
        let is_slow = |send: &Send| {
            let kept_max = limits.kept_max.max(send.offer.size.saturating_mul(2));
            kept.saturating_sub(send.kept) > kept_max
        };
        let late = self.sends.open.iter().map(|(id, it)| (*id, is_over(id, it), is_slow(it)));
        let late: Vec<_> = late.filter(|(_, is_over, is_slow)| *is_over || *is_slow).collect();
        for (peer, is_over, _) in late {
            if !is_over {
                self.refuse(peer, "is given up: it is sent more slowly than it changes");
            }
            self.end_send(peer, false);
        }
    }

    /// Reads for receivers what they pull, as fast as is let.
    pub(in crate::shard) fn step_sends(&mut self) {
        while self.sends.allowance > 0 {
            let Some((peer, range)) = self.sends.next_pull() else { return };
            self.sends.allowance = self.sends.allowance.saturating_sub(range.size as u64);
            let send = self.sends.open.get_mut(&peer).expect("it has pulled");
            let Range { part, offset, size } = range;
            if part == 0 {
                let at = usize::try_from(offset).expect("less than 256 MiB");
                let bytes = send.offering.manifest().slice(at..at + size);
                self.send_piece(peer, range, bytes);
            } else {
                let part = usize::try_from(part).expect("usize is 64 bits");
                let name = self.store.read_part(&send.offering, part, offset, size);
                send.reads.insert(name, range);
            }
        }
    }

    fn send_piece(&mut self, peer: NodeId, range: Range, bytes: Bytes) {
        let Some(send) = self.sends.open.get(&peer) else { return };
        let (snapshot, Range { part, offset, .. }) = (send.offer.snapshot, range);
        let piece = Parcel::Piece { snapshot, part, offset, bytes };
        self.send(peer, Packet::Snapshot(piece));
    }

    /// What was read for receivers leaves.
    pub(in crate::shard) fn send_parts(&mut self) {
        while let Some((name, bytes)) = self.store.part_read() {
            let mut open = self.sends.open.iter_mut();
            let found = open.find_map(|(peer, send)| Some((*peer, send.reads.remove(&name)?)));
            // Who wanted it may want nothing any more.
            if let Some((peer, range)) = found {
                self.send_piece(peer, range, bytes);
            }
        }
    }
}

//! Questions about leases between replicas: asked of the leader, and answered to whoever asked it.
//!
//! A question from a peer is one among the leader's own, a stream of its own; what is answered to
//! such a stream goes back as a packet.

use crate::shard::Output;
use crate::shard::Ready;
use crate::shard::Shard;
use crate::shard::asks::What;
use crate::shard::peer::LeaseTold;
use crate::shard::peer::Packet;
use crate::shard::peer::Question;
use crate::shard::request::Body;
use crate::shard::request::Failure;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::types::NodeId;
use crate::types::Tick;
use std::collections::BTreeMap;

/// The core of streams that are peers'; no core of a node has this number.
const PEER_CORE: u32 = u32::MAX;

/// Who asked.
#[derive(Clone, Copy, Debug)]
struct Errand {
    peer: NodeId,
    life: u32,
    number: u64,
}

/// Questions of peers that wait here, and when to look again for this replica's own.
#[derive(Debug, Default)]
pub(super) struct Errands {
    open: BTreeMap<RequestId, Errand>,
    last: u64,
    look_next: Tick,
}

impl Errands {
    /// The stream of one more.
    pub(super) fn next_stream(&mut self) -> RequestId {
        self.last += 1;
        let part = |shift: u32| {
            u32::try_from((self.last >> shift) & u64::from(u32::MAX)).expect("32 bits")
        };
        RequestId { core: PEER_CORE, connection: 0, generation: part(32), stream: part(0) }
    }
}

impl Shard {
    /// Sends the leader the questions that only it may answer.
    pub(super) fn send_asks(&mut self) {
        let Some(leader) = self.raft.leader().filter(|it| *it != self.config.raft.id) else {
            return;
        };
        let life = self.wal.epoch();
        if !self.wal.is_open() {
            return;
        }
        while let Some((number, what)) = self.leases.asks.next_unsent() {
            let what = match what {
                What::KeepAlive(lease, _) => Question::KeepAlive(lease),
                What::TimeToLive(lease, keys) => Question::TimeToLive(lease, keys),
            };
            self.send(leader, Packet::Ask { life, number, what });
        }
    }

    /// Questions that were sent long ago are sent again.
    pub(super) fn repeat_asks(&mut self) {
        if self.now >= self.errands.look_next {
            let patience = self.config.raft.election_ticks;
            self.errands.look_next = Tick(self.now.0.saturating_add(patience));
            if self.leases.asks.has_sent() {
                self.leases.asks.send_again();
            }
        }
    }

    /// A peer asks about a lease.
    pub(super) fn on_lease_ask(&mut self, from: NodeId, life: u32, number: u64, what: Question) {
        // It asks again, or another.
        if !self.is_leader()
            || self.leases.asks.len() >= self.config.waiting_max
            || !self.raft.membership().contains(from)
        {
            return;
        }
        let to = self.errands.next_stream();
        self.errands.open.insert(to, Errand { peer: from, life, number });
        let what = match what {
            Question::KeepAlive(lease) => What::KeepAlive(lease, self.header()),
            Question::TimeToLive(lease, keys) => What::TimeToLive(lease, keys),
        };
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        self.leases.asks.push(to, what, deadline);
    }

    /// The leader answers.
    pub(super) fn on_lease_answer(
        &mut self,
        from: NodeId,
        life: u32,
        number: u64,
        told: LeaseTold,
    ) {
        if life != self.wal.epoch() || !self.raft.membership().contains(from) {
            return;
        }
        if let Some(to) = self.leases.asks.tell(number, told, self.now) {
            self.tell_stream(to);
        }
    }

    /// Hands on what the leader says of a stream's questions, as far as it is their turn.
    ///
    /// What was heard longer ago than a heartbeat is asked again: whoever gets it takes the time
    /// that it tells of for one that begins now.
    pub(super) fn tell_stream(&mut self, to: RequestId) {
        let since = Tick(self.now.0.saturating_sub(self.config.raft.heartbeat_ticks));
        while let Some((what, told)) = self.leases.asks.told(to, since) {
            let LeaseTold { id, ttl, granted, keys } = told;
            let (header, body) = match what {
                What::KeepAlive(_, header) => (header, Body::LeaseKeepAlive { id, ttl }),
                What::TimeToLive(..) => {
                    (self.header(), Body::LeaseTimeToLive { id, ttl, granted, keys })
                }
            };
            self.leases.asks.answered(to);
            self.reply(to, Ok(Response { header, body }));
        }
    }

    /// This replica does not lead any more: what peers have asked they ask another.
    pub(super) fn drop_errands(&mut self) {
        for (to, _) in std::mem::take(&mut self.errands.open) {
            self.leases.asks.forget(to);
        }
    }

    pub(super) fn reply(&mut self, to: RequestId, result: Result<Response, Failure>) {
        if to.core != PEER_CORE {
            self.outputs.push_back(Output::Reply { to, ready: Ready::Result(result) });
            return;
        }
        let Some(Errand { peer, life, number }) = self.errands.open.remove(&to) else { return };
        let told = match result.map(|response| response.body) {
            Ok(Body::LeaseKeepAlive { id, ttl }) => {
                LeaseTold { id, ttl, granted: 0, keys: Vec::new() }
            }
            Ok(Body::LeaseTimeToLive { id, ttl, granted, keys }) => {
                LeaseTold { id, ttl, granted, keys }
            }
            // It asks again.
            Ok(_) | Err(_) => return,
        };
        self.send(peer, Packet::Answer { life, number, told });
    }
}

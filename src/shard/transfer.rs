//! Leadership on its way to another member: because a client asks for it, or because this one ends.

use crate::shard::Shard;
use crate::shard::request::Body;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Unavailable;
use crate::types::NodeId;
use crate::types::Tick;

/// Who waits for it.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// Clients, whom each wants to lead, and until when it waits.
    waiting: Vec<(RequestId, NodeId, Tick)>,
    /// This member ends: so long it waits to be relieved.
    until: Option<Tick>,
}

impl Transfers {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All who wait; nobody does any more.
    pub(super) fn drain(&mut self) -> Vec<RequestId> {
        self.waiting.drain(..).map(|waits| waits.0).collect()
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget(&mut self, to: RequestId) {
        self.waiting.retain(|waits| waits.0 != to);
    }
}

impl Shard {
    /// A client wants another member to lead.
    pub(super) fn move_leader(&mut self, from: RequestId, to: NodeId) -> Option<Unavailable> {
        if !self.is_leader() {
            return Some(Unavailable::NotLeader);
        }
        if self.transfers.waiting.len() >= self.config.waiting_max {
            return Some(Unavailable::TooManyRequests);
        }
        if self.raft.transfer(to).is_err() {
            return Some(Unavailable::BadTransferee);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        self.transfers.waiting.push((from, to, deadline));
        self.serve_transfers();
        None
    }

    /// Tells those whose leader leads.
    pub(super) fn serve_transfers(&mut self) {
        let leader = self.raft.leader();
        let is_done = |waits: &mut (RequestId, NodeId, Tick)| Some(waits.1) == leader;
        let done: Vec<_> = self.transfers.waiting.extract_if(.., is_done).collect();
        for (to, ..) in done {
            self.reply(to, Ok(Response { header: self.header(), body: Body::MoveLeader }));
        }
    }

    /// Whose time is over is told so.
    pub(super) fn expire_transfers(&mut self) {
        let now = self.now;
        let late = |waits: &mut (RequestId, NodeId, Tick)| waits.2 <= now;
        let late: Vec<_> = self.transfers.waiting.extract_if(.., late).collect();
        for (to, ..) in late {
            self.reply(to, Err(Unavailable::TransferTimeout.into()));
        }
    }

    /// This member ends: if it leads, whoever has most of the log leads next.
    pub(super) fn stop(&mut self) {
        if std::mem::replace(&mut self.stopping, true) || !self.is_leader() {
            return;
        }
        let voters = self.raft.membership().voters().to_vec();
        let peers = self.raft.progress().filter(|it| it.is_active && voters.contains(&it.id));
        let next = peers.max_by_key(|peer| (peer.matched, peer.id)).map(|peer| peer.id);
        if let Some(next) = next
            && self.raft.transfer(next).is_ok()
        {
            let patience = self.config.raft.election_ticks;
            self.transfers.until = Some(Tick(self.now.0.saturating_add(patience)));
        }
    }

    /// Whether this member ends and still waits to be relieved.
    pub(super) fn is_handing_over(&self) -> bool {
        self.is_leader() && self.transfers.until.is_some_and(|until| self.now < until)
    }
}

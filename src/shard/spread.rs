//! Leaders of several shards spread over the members.
//!
//! Whoever leads does more work than the others, so the shards of one node should not all have
//! their leaders on one member. Their cores share nothing, and neither do the shards of different
//! members: so nobody counts who leads how many. Instead each shard has a voter of its own that is
//! to lead it, by a rule that needs only what every replica knows (`Config::leader_turn`), and any
//! other that leads hands over to that one.
//!
//! It does so only when all is calm: some time after an election, once the other has been heard
//! without a break for as long and lacks little of the log. If that leads to nothing, it waits
//! before it tries again. Who is as good as any other is left to lead.

use crate::raft::PeerState;
use crate::shard::Shard;
use crate::types::NodeId;
use crate::types::Tick;

/// Milliseconds of calm before leadership is handed over. 10 s: members that start one after the
/// other are all there by then.
const CALM_MIN: u64 = 10_000;
/// Milliseconds before it is tried again.
const RETRY_AFTER: u64 = 60_000;
/// Entries that the next leader may lack: it has them within the few milliseconds that the hand
/// over takes.
const LACKING_MAX: u64 = 1_024;

/// What is known of handing over.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// Not before this.
    after: Tick,
}

impl Shard {
    /// Hands over to the voter that is to lead, if another leads and all is calm.
    pub(super) fn spread_leaders(&mut self) {
        let Some(next) = self.next_leader() else { return };
        if self.raft.transfer(next).is_ok() {
            self.spread.after = Tick(self.now.0.saturating_add(RETRY_AFTER));
        }
    }

    /// Who should lead in this replica's place, and can.
    fn next_leader(&self) -> Option<NodeId> {
        let turn = self.config.leader_turn?;
        if self.now < self.spread.after || self.stopping || !self.leads() {
            return None;
        }
        let calm = Tick(self.now.0.checked_sub(CALM_MIN)?);
        let voters = self.raft.membership().voters();
        let turn = usize::try_from(turn).expect("usize is 64 bits");
        let next = voters[turn.checked_rem(voters.len())?];
        let is_calm = self.group.elected.is_some_and(|elected| elected <= calm)
            && self.transfers.is_empty()
            && self.is_heard_since(next, calm);
        let last = self.raft.last().index.0;
        let progress = self.raft.progress().find(|peer| peer.id == next)?;
        let is_fit = progress.state == PeerState::Replicate
            && progress.is_active
            && last - progress.matched.0 <= LACKING_MAX;
        (is_calm && is_fit).then_some(next)
    }
}

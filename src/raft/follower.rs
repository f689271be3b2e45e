//! The follower's end of replication: appends, heartbeats, snapshots (paper §5.3, §7).

use crate::raft::Role;
use crate::raft::membership::History;
use crate::raft::message::Body;
use crate::raft::message::Entry;
use crate::raft::message::Mark;
use crate::raft::message::Position;
use crate::raft::node::Node;
use crate::types::LogIndex;
use crate::types::NodeId;

impl Node {
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: Position,
        entries: Vec<Entry>,
        committed: LogIndex,
    ) {
        let known = self.log.committed();
        // Up to the commit index both logs agree: the leader has all that was ever committed.
        if prev.index > known && self.log.term(prev.index) != Some(prev.term) {
            let mut hint = self.log.last_within(prev.index, prev.term);
            if hint.index < known {
                hint = Position { index: known, term: prev.term };
            }
            return self.send_durable(from, Body::AppendRejected { prev: prev.index, hint });
        }
        let end = entries.last().map_or(prev.index, |entry| entry.index);
        for entry in entries {
            let is_known = entry.index <= known || self.log.term(entry.index) == Some(entry.term);
            if is_known {
                continue;
            }
            let before = self.log.term(LogIndex(entry.index.0 - 1));
            if before.is_some_and(|before| entry.term < before) {
                // No leader has such a log behind what is committed.
                return;
            }
            if entry.index <= self.log.last().index {
                self.cut(entry.index);
            }
            self.take(entry);
        }
        self.log.commit(committed.min(end));
        self.agree(end.max(known));
    }

    /// Takes away the entries from `from` on, and the memberships in them.
    fn cut(&mut self, from: LogIndex) {
        self.log.cut(from);
        self.storage.cut(self.log.last().index);
        if self.members.cut(from) {
            self.membership_changed();
        }
    }

    /// The log agrees with the leader's up to here, and the leader waits to hear it.
    fn agree(&mut self, index: LogIndex) {
        self.agreed = self.agreed.max(index);
        self.is_ack_due = true;
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, committed: LogIndex, round: u64) {
        if committed <= self.log.last().index {
            self.log.commit(committed);
        }
        if round > 0 {
            self.send_durable(from, Body::HeartbeatResponse { round });
        }
    }

    /// A whole state has arrived; its bytes are with the caller.
    pub(super) fn on_snapshot(&mut self, mark: Mark) {
        let last = mark.last;
        if last.index <= self.log.committed() {
            return self.agree(self.log.committed());
        }
        if self.log.term(last.index) == Some(last.term) {
            // The entries are all here; going on from them is cheaper than starting over.
            self.log.commit(last.index);
            return self.agree(last.index);
        }
        self.log.reset(last);
        self.storage.cut(last.index);
        self.members = History::new(last.index, mark.membership.clone());
        self.install = Some(mark);
        self.membership_changed();
        self.agree(last.index);
    }

    /// Tells the leader how far the log agrees durably, if that is news or all there is to say.
    pub(super) fn acknowledge(&mut self) {
        let Some(leader) = self.leader.filter(|_| self.role == Role::Follower) else { return };
        let hard = self.storage.needs_hard(self.hard());
        if self.is_installing() || !self.storage.is_done(hard) {
            return;
        }
        let matched = self.agreed.min(self.log.durable());
        let is_all = matched == self.agreed;
        // Less than all is worth a word only when the disk has moved.
        if is_all || (self.is_ack_ripe && matched > self.acked) {
            self.is_ack_due = !is_all;
            self.is_ack_ripe = false;
            self.acked = matched;
            self.send(leader, Body::AppendResponse { matched });
        }
    }
}

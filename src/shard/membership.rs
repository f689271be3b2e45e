//! What a member does about members: it is asked for changes, says who it is, tells who the others
//! are, and ends when it is removed.

use crate::raft::ConfigData;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::shard::Output;
use crate::shard::Shard;
use crate::shard::apply::origin_of;
use crate::shard::change::Change;
use crate::shard::change::Context;
use crate::shard::command::ArchivedCommand;
use crate::shard::members::Members;
use crate::shard::members::are_readable;
use crate::shard::peer::Packet;
use crate::shard::request::Body;
use crate::shard::request::Failure;
use crate::shard::request::Member;
use crate::shard::request::MemberRefusal;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Status;
use crate::shard::request::Unavailable;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Milliseconds for which others must have been heard to count as healthy, as in etcd.
const HEALTH_INTERVAL: u64 = 5_000;
/// Members that have left and are still told of it, at most.
const LEAVING_MAX: usize = 64;

/// What is under way about members.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Members by entries that are in the log and not applied.
    pending: Vec<(LogIndex, Members)>,
    /// Members whose word is in the log, applied or not.
    up: BTreeSet<NodeId>,
    /// Who has left, where it was reached, and until when it is told so.
    leaving: BTreeMap<NodeId, (Vec<String>, Tick)>,
    /// This member was removed then.
    removed_at: Option<Tick>,
    /// It has said who it is, or asked for a seat or a vote for another, and looks again then
    /// whether that is applied.
    asked: Tick,
}

/// The least number that is more than half of so many.
pub(super) fn majority(count: usize) -> usize {
    count / 2 + 1
}

impl Shard {
    /// A client asks for a change.
    pub(super) fn change_members(
        &mut self,
        from: RequestId,
        change: Change,
    ) -> Option<Unavailable> {
        if self.writes_waiting() >= self.config.waiting_max {
            return Some(Unavailable::TooManyRequests);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        if !self.hand_over(&change.command(), from, deadline) {
            return Some(Unavailable::TooManyRequests);
        }
        None
    }

    /// A new member; whoever leads says which id it gets.
    pub(super) fn add_member(
        &mut self,
        from: RequestId,
        peer_urls: Vec<String>,
        learner: bool,
    ) -> Option<Unavailable> {
        if peer_urls.is_empty() || !are_readable("", &peer_urls) {
            self.reply(from, Err(MemberRefusal::BadUrls.into()));
            return None;
        }
        let id = self.next_member_id(&peer_urls);
        let (name, client_urls) = (String::new(), Vec::new());
        self.change_members(from, Change::Add(Member { id, name, peer_urls, client_urls, learner }))
    }

    /// Other URLs for a member.
    pub(super) fn update_member(
        &mut self,
        from: RequestId,
        id: NodeId,
        peer_urls: Vec<String>,
    ) -> Option<Unavailable> {
        if peer_urls.is_empty() || !are_readable("", &peer_urls) {
            self.reply(from, Err(MemberRefusal::BadUrls.into()));
            return None;
        }
        self.change_members(from, Change::Urls(id, peer_urls))
    }

    /// Whether a change leaves the group able to go on, as far as its leader can tell.
    ///
    /// # Source
    /// etcd: `server/etcdserver/server.go`, `mayAddMember`, `mayRemoveMember`. There whoever was
    /// asked judges, by its connections; here the leader does, as all the others speak to it, and
    /// one that has just been elected gives them some time.
    pub(super) fn judge_health(&self, change: &Change) -> Result<(), MemberRefusal> {
        let lately = Tick(self.now.0.saturating_sub(HEALTH_INTERVAL));
        let first = self.group.elected.map_or(0, |it| it.0 + self.config.raft.election_ticks);
        let since = lately.max(Tick(first));
        let voters = self.raft.membership().voters().len();
        match change {
            Change::Remove(id) if self.raft.membership().voters() == [*id] => {
                Err(MemberRefusal::NotEnoughStarted)
            }
            _ if !self.config.strict_reconfig_check => Ok(()),
            Change::Add(member) => {
                let (started, count) = self.started(None);
                let is_second = (started, count) == (1, 1);
                if !member.learner && !is_second && started < majority(count + 1) {
                    return Err(MemberRefusal::NotEnoughStarted);
                }
                // A majority of the larger group without the new one, which is not there yet.
                let due = majority(voters + 1).min(voters);
                let is_healthy = self.voters_heard_since(since) >= due;
                if is_healthy { Ok(()) } else { Err(MemberRefusal::Unhealthy) }
            }
            Change::Remove(id) if !self.raft.membership().is_learner(*id) => {
                let (started, count) = self.started(Some(*id));
                if started < majority(count) {
                    return Err(MemberRefusal::NotEnoughStarted);
                }
                // One that is down is no part of the majority there is.
                let is_down = *id != self.member() && !self.is_heard_since(*id, self.now);
                let active = self.voters_heard_since(since);
                let is_healthy = is_down || active > 1 + (voters - 1) / 2;
                if is_healthy { Ok(()) } else { Err(MemberRefusal::Unhealthy) }
            }
            Change::Remove(_)
            | Change::Promote(_)
            | Change::Seat(_)
            | Change::Urls(..)
            | Change::Publish(_) => Ok(()),
        }
    }

    /// What to say of what was asked for and that nobody took, as there was no leader in all its
    /// time: of a change that has to leave a majority, that there is none. etcd says so of its
    /// connections, at once.
    pub(super) fn never_taken(&self, data: &Bytes) -> Failure {
        let why = self.never();
        let is_judged = || match ArchivedCommand::open(data) {
            Ok(ArchivedCommand::Member { change }) => {
                matches!(Change::decode(change), Some(Change::Add(_) | Change::Remove(_)))
            }
            Ok(_) | Err(_) => false,
        };
        if why == Unavailable::NoLeader && self.config.strict_reconfig_check && is_judged() {
            return MemberRefusal::Unhealthy.into();
        }
        why.into()
    }

    /// The members that have been up and so may have voted, as far as the state and the log know.
    ///
    /// The first that a member puts into the log is who it is. An entry that never gets committed
    /// is as good a proof, and the only one while a member that has just begun applies nothing.
    pub fn been_up(&self) -> impl Iterator<Item = NodeId> {
        self.origins.members().chain(self.moves.up.iter().copied())
    }

    /// The log has an entry that comes from this member.
    pub(super) fn note_up(&mut self, id: NodeId) {
        if self.raft.membership().contains(id) {
            self.moves.up.insert(id);
        }
    }

    /// An entry goes into the log: who it comes from has been up, and the members in it are to be
    /// reached from now on.
    pub(super) fn note_entry(&mut self, entry: &Entry) {
        if let Some(origin) = origin_of(entry) {
            self.note_up(origin.node);
        }
        self.note_change(entry);
    }

    /// As [`Self::note_entry`], of the members in it.
    pub(super) fn note_change(&mut self, entry: &Entry) {
        if entry.kind != EntryKind::Config {
            return;
        }
        self.moves.pending.retain(|(index, _)| *index < entry.index);
        let data = ConfigData::decode(&entry.data);
        if let Some(context) = data.and_then(|data| Context::decode(&data.context)) {
            self.moves.pending.push((entry.index, context.members));
            self.tell_peers();
        }
    }

    /// This member goes on alone, without these.
    pub(super) fn tell_of_gone(&mut self, gone: &[Member]) {
        if gone.is_empty() {
            return;
        }
        let gone = gone.iter().map(|member| format!("{:x} ({:?})", member.id.0, member.name));
        let gone = gone.collect::<Vec<_>>().join(", ");
        self.outputs.push_back(Output::Role(format!(
            "going on alone: {gone} count as removed; leave --force-new-cluster out of the next \
             start, which would leave behind whoever has joined by then"
        )));
    }

    /// The membership in force is that of entry `index`: what came after it is cut.
    pub(super) fn on_membership(&mut self, index: LogIndex) {
        self.moves.pending.retain(|(pending, _)| *pending <= index);
        self.tell_peers();
    }

    /// These have left, by an entry that is applied.
    pub(super) fn forget_members(&mut self, gone: Vec<Member>) {
        let applied = self.applied.next();
        self.moves.pending.retain(|(index, _)| *index > applied);
        let membership = self.raft.membership();
        self.moves.up.retain(|id| membership.contains(*id));
        let until = Tick(self.now.0.saturating_add(10 * self.config.raft.election_ticks));
        for member in gone {
            if member.id == self.member() {
                self.moves.removed_at = Some(self.now);
            } else if self.moves.leaving.len() < LEAVING_MAX {
                self.moves.leaving.insert(member.id, (member.peer_urls, until));
            }
        }
        self.tell_peers();
    }

    /// Says who the others are and where they are reached, if that is news.
    pub(super) fn tell_peers(&mut self) {
        let mut others: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        if !self.membership.contains(self.member()) {
            // It joins, and has applied nothing yet of the time when it was added: who sends it the
            // log may not be among the members of long ago.
            let known = self.config.members.iter().filter(|it| !self.members.is_removed(it.id));
            others.extend(known.map(|it| (it.id, it.peer_urls.clone())));
        }
        for (id, (urls, _)) in &self.moves.leaving {
            others.insert(*id, urls.clone());
        }
        let tables = self.moves.pending.iter().map(|(_, members)| members);
        for members in std::iter::once(&self.members).chain(tables) {
            others.extend(members.rows().iter().map(|it| (it.id, it.peer_urls.clone())));
        }
        others.remove(&self.member());
        let others: Vec<_> = others.into_iter().collect();
        if others != self.group.told {
            self.group.told.clone_from(&others);
            self.outputs.push_back(Output::Peers(others));
        }
    }

    /// Whether this was a member and was removed.
    #[must_use]
    pub fn has_removed(&self, id: NodeId) -> bool {
        self.members.is_removed(id) && !self.raft.membership().contains(id)
    }

    /// A peer that was removed speaks, and is told so.
    pub(super) fn is_of_removed(&mut self, from: NodeId) -> bool {
        let is_removed = self.has_removed(from);
        if is_removed {
            self.send(from, Packet::Removed);
        }
        is_removed
    }

    /// A member says that this one was removed.
    pub(super) fn on_removed(&mut self, from: NodeId) {
        if self.members.get(from).is_some() && self.moves.removed_at.is_none() {
            self.moves.removed_at = Some(self.now);
        }
    }

    /// A removed member ends, those who have left are forgotten, a new one says who it is, and one
    /// that has caught up gets what is due to it.
    pub(super) fn tick_members(&mut self) {
        let patience = self.config.raft.election_ticks;
        if self.members.is_removed(self.member()) {
            self.moves.removed_at.get_or_insert(self.now);
        }
        if self.moves.removed_at.is_some_and(|at| self.now.since(at) >= patience) {
            let member = self.member().0;
            return self.halt(format!(
                "the member has been permanently removed from the cluster: {member:x} is no part \
                 of it any more; to take part again, remove its data directory and add it anew"
            ));
        }
        let count = self.moves.leaving.len();
        self.moves.leaving.retain(|_, (_, until)| *until > self.now);
        if self.moves.leaving.len() < count {
            self.tell_peers();
        }
        if self.now < self.moves.asked || !self.is_ready() || self.stopping {
            return;
        }
        let change = self
            .publication()
            .or_else(|| self.next_seat().map(Change::Seat))
            .or_else(|| self.next_promotion().map(Change::Promote));
        let Some(change) = change else { return };
        let to = self.errands.next_stream();
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        if self.hand_over(&change.command(), to, deadline) {
            self.moves.asked = Tick(self.now.0 + patience);
        }
    }

    /// How this replica is.
    pub(super) fn status(&self) -> Response {
        let size_allocated = (self.wal.size_allocated() + self.store.size_allocated()).max(1);
        let size_in_use = self.wal.size_in_use() + self.store.size_in_use();
        let status = Status {
            leader: self.raft.leader(),
            committed: self.raft.committed(),
            applied: self.applied,
            size_allocated,
            size_in_use: size_in_use.min(size_allocated),
            learner: self.is_learner(),
        };
        Response { header: self.header(), body: Body::Status(status) }
    }

    /// The members, as clients see them.
    pub(super) fn member_list(&self) -> Response {
        let body = Body::MemberList(self.members.rows().to_vec());
        Response { header: self.header_of(&body), body }
    }

    /// Whether the members tell who this one is, and where its clients find it: who asks for the
    /// list of them is to find each that serves.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.publication().is_none()
    }

    /// Who this member is, if the others do not know.
    fn publication(&self) -> Option<Change> {
        let (name, client_urls) = (&self.config.name, &self.config.client_urls);
        let own = self.members.get(self.member())?;
        let is_known = (&own.name, &own.client_urls) == (name, client_urls);
        if is_known || !are_readable(name, client_urls) {
            return None;
        }
        let (name, client_urls) = (name.clone(), client_urls.clone());
        Some(Change::Publish(Member { name, client_urls, ..own.clone() }))
    }
}

impl From<MemberRefusal> for Failure {
    fn from(refusal: MemberRefusal) -> Self {
        Self::Member(refusal)
    }
}

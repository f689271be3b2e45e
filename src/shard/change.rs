//! Changes of who belongs to the group, and of what is known of a member.
//!
//! All are proposed by the leader; who was asked hands them over as it does writes, and answers
//! when the entry is applied. Adding, removing and promoting are Raft's changes, in force as soon
//! as they are in a log, so the leader judges them before. Each such entry carries all members as
//! they are then: whoever joins learns them from it. URLs and names are ordinary entries, judged
//! when they are applied.
//!
//! A new member with a vote would count at once, before it has started: a group of one could not
//! even commit that it is there. So it comes as Raft's learner, and gets its *seat* when it has
//! caught up. Clients are told that it has a vote from the beginning.
//!
//! # Bytes
//! Little-endian. A change: what it is (u8: 1 add, 2 remove, 3 promote, 4 URLs, 5 name and clients'
//! URLs, 6 seat), then the member for 1; its id (u64) for 2, 3 and 6; id and list for 4; the
//! member, of which id, name and clients' URLs count, for 5. A change's entry of Raft's: origin (20
//! bytes), size of the change (u32), the change, all members. Members and lists are as in
//! `members`. A change of no bytes is that of a member that goes on [alone](super::alone).

use crate::config::member_id;
use crate::raft::Membership;
use crate::raft::MembershipChange;
use crate::raft::PeerStatus;
use crate::raft::Rejected;
use crate::shard::Shard;
use crate::shard::command::Command;
use crate::shard::members::Members;
use crate::shard::members::Reader;
use crate::shard::members::put_member;
use crate::shard::members::put_texts;
use crate::shard::membership::majority;
use crate::shard::origin::ORIGIN_SIZE;
use crate::shard::origin::Origin;
use crate::shard::peer::Why;
use crate::shard::request::Body;
use crate::shard::request::Member;
use crate::shard::request::MemberRefusal;
use crate::types::LogIndex;
use crate::types::NodeId;
use bytes::Bytes;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A new member; as a learner it has no vote.
    Add(Member),
    /// A member leaves.
    Remove(NodeId),
    /// A learner gets its vote.
    Promote(NodeId),
    /// One that was added with a vote counts from now on.
    Seat(NodeId),
    /// Where a member's peers reach it.
    Urls(NodeId, Vec<String>),
    /// A member says its name, and where clients reach it.
    Publish(Member),
}

impl Change {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Add(member) => {
                out.push(1);
                put_member(&mut out, member);
            }
            Self::Remove(id) => {
                out.push(2);
                out.extend_from_slice(&id.0.to_le_bytes());
            }
            Self::Promote(id) => {
                out.push(3);
                out.extend_from_slice(&id.0.to_le_bytes());
            }
            Self::Seat(id) => {
                out.push(6);
                out.extend_from_slice(&id.0.to_le_bytes());
            }
            Self::Urls(id, urls) => {
                out.push(4);
                out.extend_from_slice(&id.0.to_le_bytes());
                put_texts(&mut out, urls);
            }
            Self::Publish(member) => {
                out.push(5);
                put_member(&mut out, member);
            }
        }
        out
    }

    /// The change whose bytes these are, if they are one's.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let change = match reader.byte()? {
            1 => Self::Add(reader.member()?),
            2 => Self::Remove(NodeId(reader.number()?)),
            3 => Self::Promote(NodeId(reader.number()?)),
            4 => Self::Urls(NodeId(reader.number()?), reader.texts()?),
            5 => Self::Publish(reader.member()?),
            6 => Self::Seat(NodeId(reader.number()?)),
            0 | 7.. => return None,
        };
        let is_sound = match &change {
            Self::Add(member) | Self::Publish(member) => member.id.0 != 0,
            Self::Remove(_) | Self::Promote(_) | Self::Seat(_) | Self::Urls(..) => true,
        };
        (is_sound && reader.0.is_empty()).then_some(change)
    }

    /// What Raft is to do; none if it has no part in it.
    fn of_raft(&self) -> Option<MembershipChange> {
        match self {
            Self::Add(member) => Some(MembershipChange::AddLearner(member.id)),
            Self::Remove(id) => Some(MembershipChange::Remove(*id)),
            Self::Promote(id) | Self::Seat(id) => Some(MembershipChange::Promote(*id)),
            Self::Urls(..) | Self::Publish(_) => None,
        }
    }

    /// Why the members do not allow it, if they do not.
    fn judge(&self, members: &Members, learners_max: usize) -> Result<(), MemberRefusal> {
        match self {
            Self::Add(member) => {
                let learners = members.rows().iter().filter(|it| it.learner).count();
                if members.get(member.id).is_some() || members.is_removed(member.id) {
                    Err(MemberRefusal::Exists)
                } else if members.has_url(&member.peer_urls, member.id) {
                    Err(MemberRefusal::PeerUrlExists)
                } else if member.learner && learners >= learners_max {
                    Err(MemberRefusal::TooManyLearners)
                } else {
                    Ok(())
                }
            }
            Self::Promote(id) => match members.get(*id) {
                None => Err(MemberRefusal::NotFound),
                Some(member) if !member.learner => Err(MemberRefusal::NotLearner),
                Some(_) => Ok(()),
            },
            Self::Urls(id, _) | Self::Remove(id) | Self::Seat(id) if members.get(*id).is_none() => {
                Err(MemberRefusal::NotFound)
            }
            Self::Urls(id, urls) if members.has_url(urls, *id) => Err(MemberRefusal::PeerUrlExists),
            Self::Publish(member) if members.get(member.id).is_none() => {
                Err(MemberRefusal::NotFound)
            }
            Self::Urls(..) | Self::Remove(_) | Self::Seat(_) | Self::Publish(_) => Ok(()),
        }
    }

    /// Does it to the members, which allow it, but for what follows from Raft's part.
    fn apply(&self, members: &mut Members) {
        match self {
            Self::Add(member) => members.put(member.clone()),
            Self::Urls(id, urls) => {
                if let Some(member) = members.get_mut(*id) {
                    member.peer_urls.clone_from(urls);
                }
            }
            Self::Publish(said) => {
                if let Some(member) = members.get_mut(said.id) {
                    member.name.clone_from(&said.name);
                    member.client_urls.clone_from(&said.client_urls);
                }
            }
            Self::Promote(id) => {
                if let Some(member) = members.get_mut(*id) {
                    member.learner = false;
                }
            }
            Self::Remove(_) | Self::Seat(_) => {}
        }
    }

    /// Does it to the members, if it is a change that Raft has no part in and they allow it.
    pub(super) fn edit(&self, members: &mut Members) -> Result<(), MemberRefusal> {
        if self.of_raft().is_some() {
            return Err(MemberRefusal::NotFound);
        }
        self.judge(members, 0)?;
        self.apply(members);
        Ok(())
    }

    /// What to answer once it is applied.
    fn body(&self, members: &Members) -> Body {
        let rows = members.rows().to_vec();
        match self {
            Self::Add(member) => Body::MemberAdd { member: member.clone(), members: rows },
            Self::Remove(_)
            | Self::Promote(_)
            | Self::Seat(_)
            | Self::Urls(..)
            | Self::Publish(_) => Body::MemberList(rows),
        }
    }
}

/// What an entry of Raft's says of a change besides the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) origin: Origin,
    /// None for a member that goes on alone.
    change: Option<Change>,
    /// All members once it is in force.
    pub(super) members: Members,
}

impl Context {
    /// That of a member which goes on alone; nobody asked for it.
    pub(super) fn alone(own: NodeId, members: Members) -> Self {
        Self { origin: Origin { node: own, life: 0, number: 0 }, change: None, members }
    }

    pub(super) fn encode(&self) -> Bytes {
        let change = self.change.as_ref().map_or_else(Vec::new, Change::encode);
        let size = u32::try_from(change.len()).expect("a change is small");
        let mut out = self.origin.encode().to_vec();
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&change);
        self.members.encode(&mut out);
        Bytes::from(out)
    }

    /// What these bytes hold, if they are such an entry's.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (origin, rest) = bytes.split_first_chunk::<ORIGIN_SIZE>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
        let (change, rest) = rest.split_at_checked(size)?;
        let change = match size {
            0 => None,
            _ => Some(Change::decode(change)?),
        };
        let (members, rest) = Members::decode(rest)?;
        let origin = Origin::decode(origin);
        rest.is_empty().then_some(Self { origin, change, members })
    }
}

impl Shard {
    /// Gives a change that was handed over its place in the log, as this replica leads.
    pub(super) fn take_change(
        &mut self,
        origin: Origin,
        mut change: Change,
        data: Bytes,
    ) -> Result<LogIndex, Why> {
        // What it is judged by must be all that there is.
        if !self.leads() || self.applied < self.group.edited {
            return Err(Why::Busy);
        }
        if let Change::Add(member) = &mut change {
            member.id = self.next_member_id(&member.peer_urls);
        }
        // In etcd's order: a change with several faults is refused for the same one.
        self.judge_health(&change).map_err(Why::Member)?;
        if let Change::Promote(id) | Change::Seat(id) = &change {
            let is_asked = matches!(change, Change::Promote(_));
            self.judge_promotion(*id, is_asked).map_err(Why::Member)?;
        }
        change.judge(&self.members, self.config.learners_max).map_err(Why::Member)?;
        let index = match change.of_raft() {
            None => self.raft.propose(data),
            Some(step) => {
                let membership = self.raft.membership().changed(step).ok_or(Why::Never)?;
                let mut members = self.members.clone();
                change.apply(&mut members);
                members.follow(&membership);
                let context = Context { origin, change: Some(change), members }.encode();
                if context.len() + membership.encode().len() + 64 > self.wal.entry_size_max() {
                    return Err(Why::Never);
                }
                self.raft.propose_change(step, context)
            }
        };
        let index = index.map_err(|rejected| match rejected {
            Rejected::NotLeader { .. } => Why::NotLeader,
            Rejected::Overloaded | Rejected::Transferring | Rejected::ChangePending => Why::Busy,
            Rejected::NoSuchChange => Why::Never,
        })?;
        self.group.edited = index;
        Ok(index)
    }

    /// An id that no member has or had, for one with these URLs.
    ///
    /// A member of several shards' groups is added to each, and is to be the same one in all: so it
    /// is made of what it is added with, and of how often that was.
    pub(super) fn next_member_id(&self, peer_urls: &[String]) -> NodeId {
        let urls: Vec<_> = peer_urls.iter().map(String::as_str).collect();
        let cluster = format!("{:x}", self.config.cluster.0);
        let is_free = |id: &NodeId| {
            id.0 != 0 && self.members.get(*id).is_none() && !self.members.is_removed(*id)
        };
        let mut ids = (0..).map(|time| member_id(&urls, &cluster, Some(time)));
        ids.find(is_free).expect("some are free")
    }

    /// Whether a learner has nearly all of the log: etcd's nine tenths.
    fn is_in_step(&self, peer: &PeerStatus) -> bool {
        u128::from(peer.matched.0) * 10 >= u128::from(self.raft.last().index.0) * 9
    }

    /// One that was added with a vote and has caught up.
    pub(super) fn next_seat(&self) -> Option<NodeId> {
        let is_due = |peer: &PeerStatus| {
            let is_learner = self.raft.membership().is_learner(peer.id);
            is_learner
                && peer.is_active
                && self.is_in_step(peer)
                && self.members.get(peer.id).is_some_and(|member| !member.learner)
        };
        self.raft.progress().find(is_due).map(|peer| peer.id)
    }

    /// A learner that may get its vote, if that is to be done unasked.
    pub(super) fn next_promotion(&self) -> Option<NodeId> {
        if !self.config.learner_auto_promote {
            return None;
        }
        let is_due = |peer: &PeerStatus| {
            peer.is_active
                && self.members.get(peer.id).is_some_and(|member| member.learner)
                && self.judge_promotion(peer.id, true).is_ok()
        };
        self.raft.progress().find(is_due).map(|peer| peer.id)
    }

    /// Whether a learner may get its vote: it is in step, and enough others are up.
    fn judge_promotion(&self, id: NodeId, is_asked: bool) -> Result<(), MemberRefusal> {
        let progress: Option<PeerStatus> = self.raft.progress().find(|peer| peer.id == id);
        match progress {
            Some(peer) if self.is_in_step(&peer) => {}
            Some(_) => return Err(MemberRefusal::LearnerNotReady),
            None if id == self.member() => {}
            None => return Err(MemberRefusal::NotFound),
        }
        let (started, count) = self.started(None);
        let is_strict = is_asked && self.config.strict_reconfig_check;
        if is_strict && started + 1 < majority(count + 1) {
            return Err(MemberRefusal::NotEnoughStarted);
        }
        Ok(())
    }

    /// Of those that vote, but for one: how many have started, and how many there are.
    pub(super) fn started(&self, without: Option<NodeId>) -> (usize, usize) {
        let rows = self.members.rows().iter();
        let voters = rows.filter(|member| !member.learner && Some(member.id) != without);
        let started = voters.clone().filter(|member| !member.name.is_empty()).count();
        (started, voters.count())
    }

    /// A change of Raft's is applied: what comes of it.
    pub(super) fn apply_change(&mut self, membership: Membership, context: &[u8]) -> Option<Body> {
        let context = Context::decode(context);
        // Whoever joins may know more members than there were at this entry.
        let has_left = |id| self.membership.contains(id) && !membership.contains(id);
        let gone = self.members.rows().iter().filter(|it| has_left(it.id));
        let gone: Vec<Member> = gone.cloned().collect();
        match &context {
            Some(context) => self.members = context.members.clone(),
            None => self.members.follow(&membership),
        }
        self.origins.retain(|id| membership.contains(id));
        self.forwards.retain(|id| membership.contains(id));
        self.membership = membership;
        self.forget_members(gone);
        let context = context?;
        let change = context.change?;
        let is_new = self.origins.is_new(context.origin);
        if is_new && self.membership.contains(context.origin.node) {
            self.note_origin(context.origin);
        }
        Some(change.body(&self.members))
    }

    /// A change of what is known of a member is applied.
    pub(super) fn apply_edit(&mut self, change: &[u8]) -> Result<Body, MemberRefusal> {
        let change = Change::decode(change).ok_or(MemberRefusal::NotFound)?;
        change.edit(&mut self.members)?;
        self.tell_peers();
        Ok(change.body(&self.members))
    }
}

impl Change {
    /// The change as an entry's data, for whoever leads.
    pub(super) fn command(&self) -> Bytes {
        Command::Member { change: &self.encode() }.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: u64, learner: bool) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            peer_urls: vec![format!("http://n{id}:2380")],
            client_urls: Vec::new(),
            learner,
        }
    }

    #[test]
    fn changes_and_their_entries_come_back_as_they_were() {
        let urls = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
        let changes = [
            Change::Add(member(3, true)),
            Change::Remove(NodeId(4)),
            Change::Promote(NodeId(5)),
            Change::Seat(NodeId(8)),
            Change::Urls(NodeId(6), urls),
            Change::Publish(member(7, false)),
        ];
        for change in changes {
            let bytes = change.encode();
            assert_eq!(Change::decode(&bytes), Some(change.clone()));
            let origin = Origin { node: NodeId(1), life: 2, number: 3 };
            let members = Members::new(&[member(9, false)]);
            let context = Context { origin, change: Some(change), members };
            let entry = context.encode();
            assert_eq!(Context::decode(&entry), Some(context));
            for size in 0..bytes.len() {
                assert!(Change::decode(&bytes[..size]).is_none());
            }
            for size in 0..entry.len() {
                assert!(Context::decode(&entry[..size]).is_none());
            }
        }
    }

    #[test]
    fn changes_are_judged_as_etcd_judges_them() {
        let members = Members::new(&[member(1, false), member(2, true)]);
        let judge = |change: Change| change.judge(&members, 1);
        assert_eq!(judge(Change::Add(member(1, false))), Err(MemberRefusal::Exists));
        let other = Member { id: NodeId(9), ..member(2, true) };
        assert_eq!(judge(Change::Add(other)), Err(MemberRefusal::PeerUrlExists));
        assert_eq!(judge(Change::Add(member(3, true))), Err(MemberRefusal::TooManyLearners));
        assert_eq!(judge(Change::Add(member(3, false))), Ok(()));
        assert_eq!(judge(Change::Remove(NodeId(3))), Err(MemberRefusal::NotFound));
        assert_eq!(judge(Change::Promote(NodeId(3))), Err(MemberRefusal::NotFound));
        assert_eq!(judge(Change::Promote(NodeId(1))), Err(MemberRefusal::NotLearner));
        assert_eq!(judge(Change::Promote(NodeId(2))), Ok(()));
        let url = |id| vec![format!("http://n{id}:2380")];
        assert_eq!(judge(Change::Urls(NodeId(1), url(2))), Err(MemberRefusal::PeerUrlExists));
        assert_eq!(judge(Change::Urls(NodeId(1), url(1))), Ok(()));
        assert_eq!(judge(Change::Urls(NodeId(3), url(3))), Err(MemberRefusal::NotFound));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Change::decode(&bytes), Context::decode(&bytes));
        }
    }
}

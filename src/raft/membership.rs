//! Who takes part: the members, the changes of one at a time, and their bytes.
//!
//! A configuration takes effect when its entry is **appended** (thesis §4.1), not when it is
//! applied as in etcd: a node uses the last one in its log, committed or not. Two majorities of
//! configurations that differ by one voter always overlap, so one change at a time needs no second
//! phase; joint consensus would add a state (two majorities at once, the step out of it, a leader
//! that fails between) to allow what etcd's interface cannot ask for. The price is two rules, both
//! kept by [`crate::raft::Node::propose_change`]: no change while one is uncommitted, and none
//! before the leader has committed an entry of its own term (Ongaro's correction of 2015).
//!
//! An entry carries the *whole* membership that results, so taking one up is idempotent and going
//! back is taking up the one before it. When a follower cuts its log, `History` goes back.
//!
//! # Bytes
//! Little-endian. A membership: format version (u8, 1), number of voters (u16), of learners (u16),
//! then their ids (u64 each), each list rising. A change's data: format version (u8, 1), the
//! membership's size (u32), the membership, and the rest is the caller's context.

use bytes::Bytes;

use crate::types::LogIndex;
use crate::types::NodeId;

/// Most members, voters and learners together, that a configuration may have.
///
/// Default and only value: 64. Elections and heartbeats are all-to-all; etcd advises seven.
pub const MEMBER_COUNT_MAX: usize = 64;

const FORMAT_VERSION: u8 = 1;

/// Who takes part.
///
/// # Shape
/// Both lists rise strictly; no node is in both; none is 0, which is nobody. Empty in a node that
/// is yet to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

/// One step from a membership to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MembershipChange {
    /// A new node becomes a voter at once.
    AddVoter(NodeId),
    /// A new node receives the log and counts for nothing.
    AddLearner(NodeId),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A voter or a learner leaves.
    Remove(NodeId),
}

impl Membership {
    /// A membership of these nodes.
    ///
    /// # Panics
    /// If a node is named twice or is 0, or there are more than [`MEMBER_COUNT_MAX`].
    #[must_use]
    pub fn new(voters: &[NodeId], learners: &[NodeId]) -> Self {
        let mut membership = Self { voters: voters.to_vec(), learners: learners.to_vec() };
        membership.voters.sort_unstable();
        membership.learners.sort_unstable();
        assert!(membership.is_well_formed(), "each member is named once, and they are few enough");
        membership
    }

    /// Those that vote, in rising order.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Those that only receive, in rising order.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Whether the node votes.
    #[must_use]
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.binary_search(&id).is_ok()
    }

    /// Whether the node only receives.
    #[must_use]
    pub fn is_learner(&self, id: NodeId) -> bool {
        self.learners.binary_search(&id).is_ok()
    }

    /// Whether the node takes part at all.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.is_learner(id)
    }

    /// All members, voters first.
    pub fn members(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Whether the node is all there is: nobody else votes, nobody else receives.
    #[must_use]
    pub fn is_only(&self, id: NodeId) -> bool {
        self.learners.is_empty() && self.voters.len() == 1 && self.voters[0] == id
    }

    /// The membership after the change, or `None` where the change makes no sense here.
    #[must_use]
    pub fn changed(&self, change: MembershipChange) -> Option<Self> {
        let mut next = self.clone();
        let full = self.voters.len() + self.learners.len() >= MEMBER_COUNT_MAX;
        match change {
            MembershipChange::AddVoter(id) | MembershipChange::AddLearner(id)
                if full || id.0 == 0 || self.contains(id) =>
            {
                return None;
            }
            MembershipChange::AddVoter(id) => insert(&mut next.voters, id),
            MembershipChange::AddLearner(id) => insert(&mut next.learners, id),
            MembershipChange::Promote(id) => {
                if !remove(&mut next.learners, id) {
                    return None;
                }
                insert(&mut next.voters, id);
            }
            MembershipChange::Remove(id) => {
                let found = remove(&mut next.voters, id) || remove(&mut next.learners, id);
                if !found || next.voters.is_empty() {
                    return None;
                }
            }
        }
        Some(next)
    }

    /// Whether both lists rise strictly, no node is in both, none is 0, and they are few enough.
    #[must_use]
    pub fn is_well_formed(&self) -> bool {
        let rises = |list: &[NodeId]| list.windows(2).all(|pair| pair[0] < pair[1]);
        self.voters.len() + self.learners.len() <= MEMBER_COUNT_MAX
            && rises(&self.voters)
            && rises(&self.learners)
            && self.members().all(|id| id.0 != 0)
            && self.learners.iter().all(|id| !self.is_voter(*id))
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = |list: &[NodeId]| {
            u16::try_from(list.len()).expect("a membership has at most MEMBER_COUNT_MAX members")
        };
        let mut bytes = Vec::with_capacity(5 + 8 * (self.voters.len() + self.learners.len()));
        bytes.push(FORMAT_VERSION);
        bytes.extend_from_slice(&count(&self.voters).to_le_bytes());
        bytes.extend_from_slice(&count(&self.learners).to_le_bytes());
        for id in self.members() {
            bytes.extend_from_slice(&id.0.to_le_bytes());
        }
        bytes
    }

    /// The membership whose bytes these are, if they are one's.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, ids) = bytes.split_at_checked(5)?;
        if head[0] != FORMAT_VERSION || !ids.len().is_multiple_of(8) {
            return None;
        }
        let voters = usize::from(u16::from_le_bytes([head[1], head[2]]));
        let learners = usize::from(u16::from_le_bytes([head[3], head[4]]));
        if voters + learners > MEMBER_COUNT_MAX || ids.len() / 8 != voters + learners {
            return None;
        }
        let mut ids = ids.chunks_exact(8).map(|id| {
            NodeId(u64::from_le_bytes(id.try_into().expect("the chunks are of eight bytes")))
        });
        let membership =
            Self { voters: ids.by_ref().take(voters).collect(), learners: ids.collect() };
        membership.is_well_formed().then_some(membership)
    }
}

fn insert(list: &mut Vec<NodeId>, id: NodeId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

fn remove(list: &mut Vec<NodeId>, id: NodeId) -> bool {
    let found = list.binary_search(&id);
    if let Ok(at) = found {
        list.remove(at);
    }
    found.is_ok()
}

impl MembershipChange {
    /// Its bytes: what it is (u8: 0 add voter, 1 add learner, 2 promote, 3 remove), the id (u64).
    #[must_use]
    pub fn encode(&self) -> [u8; 9] {
        let (code, id) = match self {
            Self::AddVoter(id) => (0, id),
            Self::AddLearner(id) => (1, id),
            Self::Promote(id) => (2, id),
            Self::Remove(id) => (3, id),
        };
        let mut bytes = [code; 9];
        bytes[1..].copy_from_slice(&id.0.to_le_bytes());
        bytes
    }

    /// The change whose bytes these are, if they are one's.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (code, id) = bytes.split_first()?;
        let id = NodeId(u64::from_le_bytes(id.try_into().ok()?));
        match code {
            0 => Some(Self::AddVoter(id)),
            1 => Some(Self::AddLearner(id)),
            2 => Some(Self::Promote(id)),
            3 => Some(Self::Remove(id)),
            4.. => None,
        }
    }
}

/// What an entry of kind Config holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigData {
    /// The membership from this entry on.
    pub membership: Membership,
    /// The caller's own words about the change; Raft does not look inside.
    pub context: Bytes,
}

impl ConfigData {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let membership = self.membership.encode();
        let size = u32::try_from(membership.len()).expect("a membership is small");
        let mut bytes = Vec::with_capacity(5 + membership.len() + self.context.len());
        bytes.push(FORMAT_VERSION);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&membership);
        bytes.extend_from_slice(&self.context);
        Bytes::from(bytes)
    }

    /// What these bytes hold, if they are such data's; the context shares them.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(5)?;
        let size = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        let (membership, context) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        if head[0] != FORMAT_VERSION {
            return None;
        }
        let membership = Membership::decode(membership)?;
        Some(Self { membership, context: bytes.slice_ref(context) })
    }
}

/// The memberships that may be in force: the last committed one and those after it in the log.
///
/// # Shape
/// Never empty; indexes rise strictly. The last is in force. All but the first are of entries that
/// may still be cut.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct History {
    steps: Vec<(LogIndex, Membership)>,
}

impl History {
    pub(super) fn new(index: LogIndex, membership: Membership) -> Self {
        Self { steps: vec![(index, membership)] }
    }

    pub(super) fn current(&self) -> &Membership {
        &self.last().1
    }

    /// The index of the entry that put the current membership in force.
    pub(super) fn index(&self) -> LogIndex {
        self.last().0
    }

    fn last(&self) -> &(LogIndex, Membership) {
        self.steps.last().expect("a history is never empty")
    }

    pub(super) fn push(&mut self, index: LogIndex, membership: Membership) {
        assert!(index > self.index(), "a later entry changes the membership");
        self.steps.push((index, membership));
    }

    /// Forgets the changes at `from` and after; says whether there were any.
    pub(super) fn cut(&mut self, from: LogIndex) -> bool {
        let before = self.steps.len();
        while self.steps.len() > 1 && self.index() >= from {
            self.steps.pop();
        }
        self.steps.len() < before
    }

    /// Forgets what can no longer come back: memberships before the last committed one.
    pub(super) fn settle(&mut self, committed: LogIndex) {
        while self.steps.len() > 1 && self.steps[1].0 <= committed {
            self.steps.remove(0);
        }
    }

    /// Whether the node votes in any membership that may yet be in force.
    pub(super) fn may_vote(&self, id: NodeId) -> bool {
        self.steps.iter().any(|step| step.1.is_voter(id))
    }

    /// The membership in force as of `index`, unless that is forgotten.
    pub(super) fn at(&self, index: LogIndex) -> Option<&Membership> {
        self.steps.iter().rev().find(|step| step.0 <= index).map(|step| &step.1)
    }
}

//! Who may speak, and what a member that was not heard should do about it.

use crate::peer::format::Card;
use crate::peer::format::Hello;
use crate::peer::format::Verdict;
use crate::types::NodeId;
use std::collections::BTreeMap;

/// Guests that are heard at a time: as many as a group has members.
const GUESTS_MAX: usize = 64;

/// Who a shard may hear, and what they were when it heard them.
///
/// Who calls and is not known may be a member all the same: this one may have been away, or begin
/// with a log from before the other's time, and hears of it from nobody else. So whoever is of the
/// cluster is heard as a *guest*. One that was removed is not, which keeps it from disturbing.
///
/// # Shape
/// A row for each of the other members, and for each guest; nobody is both.
#[derive(Debug, Default)]
pub struct Roster {
    members: BTreeMap<NodeId, Option<Seen>>,
    guests: BTreeMap<NodeId, Option<Seen>>,
}

/// A member as it was heard.
#[derive(Clone, Copy, Debug)]
struct Seen {
    log: u64,
    run: u64,
    former_run: Option<u64>,
}

impl Roster {
    /// These are the other members from now on.
    pub fn set(&mut self, members: impl IntoIterator<Item = NodeId>) {
        let former = std::mem::take(&mut self.members);
        let guests = &mut self.guests;
        let row = |id| {
            let guest = guests.remove(&id);
            (id, former.get(&id).copied().or(guest).flatten())
        };
        self.members = members.into_iter().map(row).collect();
    }

    /// Whether this one is heard.
    #[must_use]
    pub fn hears(&self, id: NodeId) -> bool {
        self.members.contains_key(&id) || self.is_guest(id)
    }

    /// Whether this one is heard and is no member that is known.
    #[must_use]
    pub fn is_guest(&self, id: NodeId) -> bool {
        self.guests.contains_key(&id)
    }

    /// The guests.
    pub fn guests(&self) -> impl Iterator<Item = NodeId> {
        self.guests.keys().copied()
    }

    /// A guest has left.
    pub fn dismiss(&mut self, id: NodeId) {
        self.guests.remove(&id);
    }

    /// The members that were heard.
    pub fn heard(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().filter(|(_, seen)| seen.is_some()).map(|(id, _)| *id)
    }

    /// What becomes of a greeting that came to the member with this card; `is_removed` if the
    /// caller was a member and was removed.
    ///
    /// A member that was heard keeps its log's id, or it has lost what it promised. Its process may
    /// be another one each time, and never again the one before: that is alive beside it, then.
    pub fn judge(&mut self, card: &Card, hello: &Hello, is_removed: bool) -> Verdict {
        let other = &hello.card;
        if other.cluster != card.cluster {
            return Verdict::Cluster;
        }
        if other.shard != card.shard {
            return Verdict::Addressee;
        }
        if is_removed && !self.members.contains_key(&other.node) {
            return Verdict::Removed;
        }
        if hello.to != card.node || other.node == card.node {
            return Verdict::Addressee;
        }
        if !other.version.goes_with(card.version) {
            return Verdict::Version;
        }
        if other.shards != card.shards {
            return Verdict::Shards;
        }
        let is_full = self.guests.len() >= GUESTS_MAX && !self.is_guest(other.node);
        let seen = match self.members.get_mut(&other.node) {
            Some(seen) => seen,
            None if is_full => return Verdict::Unknown,
            None => self.guests.entry(other.node).or_default(),
        };
        let former_run = match seen {
            Some(seen) if seen.log != other.log => return Verdict::Log,
            Some(seen) if seen.former_run == Some(other.run) => return Verdict::Twice,
            Some(seen) if seen.run == other.run => seen.former_run,
            Some(seen) => Some(seen.run),
            None => None,
        };
        *seen = Some(Seen { log: other.log, run: other.run, former_run });
        Verdict::Welcome
    }
}

/// Why `caller` is not heard by `answerer`, and what to do, in a line.
///
/// # Shape
/// `None` for a welcome. Either side can say it, having both cards.
#[must_use]
pub fn explain(verdict: Verdict, caller: &Card, answerer: &Card) -> Option<String> {
    let id = caller.node.0;
    Some(match verdict {
        Verdict::Welcome => return None,
        Verdict::Format => {
            "their versions of ringd do not speak the same protocol; run versions that are at most \
             one minor version apart"
                .to_owned()
        }
        Verdict::Cluster => format!(
            "request cluster ID mismatch: member {id:x} is of cluster {:x} and this address is of \
             cluster {:x}; correct --initial-cluster and the peer URLs, or give each cluster an \
             --initial-cluster-token of its own",
            caller.cluster.0, answerer.cluster.0
        ),
        Verdict::Addressee => format!(
            "member {:x} shard {} is at an address that member {id:x} takes for another one's; \
             correct the peer URLs (member update)",
            answerer.node.0, answerer.shard
        ),
        Verdict::Shards => format!(
            "member {id:x} hosts {} shards and member {:x} hosts {}; start all with the same \
             --shards",
            caller.shards, answerer.node.0, answerer.shards
        ),
        Verdict::Version => format!(
            "member {id:x} is ringd {} and member {:x} is ringd {}; run versions that are at most \
             one minor version apart",
            caller.version, answerer.node.0, answerer.version
        ),
        Verdict::Log => format!(
            "member {id:x} was here with another log and has lost what it promised; put its data \
             directory back, or remove the member and add it anew (member remove, member add)"
        ),
        Verdict::Twice => format!(
            "two processes are member {id:x}; stop one of them: a data directory may be copied \
             only to replace the one it comes from"
        ),
        Verdict::Unknown => format!(
            "member {id:x} is not known to member {:x}, which hears too many such already; stop \
             what is no member of the cluster",
            answerer.node.0
        ),
        Verdict::Removed => format!(
            "member {id:x} has been permanently removed from the cluster; stop it, and to take \
             part again, remove its data directory and add it anew (member add)"
        ),
    })
}

//! A member that goes on as the only one of its group (`--force-new-cluster`).
//!
//! Where a majority is gone for good nobody can be elected, and no change of members agreed on. So
//! one of those that are left is told to go on alone. It writes by itself what the group would have
//! had to agree on: one entry behind all that its log holds, after which nobody but it is a member.
//! From there on it is the only voter, and what it has written is committed. That one entry is the
//! whole of it: after a crash it is there, or the next start that is told so writes it.
//!
//! All that the log held stays. Of its last entries nobody can say whether they are committed: the
//! majority that is gone may have had them, and a client been told so. Whoever is elected keeps
//! such entries, for the same reason. etcd cuts what it does not know to be committed; its log
//! learns of that with every commit, and this one with the next write, so here a cut would lose
//! what was acknowledged.
//!
//! Those who are no members any more count as removed. When they come back with what they had, they
//! are told so, and end. This member may not know all of them; but its entry begins an *era* of
//! terms (`raft/message.rs`), and what is said in an earlier one is not heard.

use crate::raft::ConfigData;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::Membership;
use crate::raft::Position;
use crate::raft::next_era;
use crate::shard::change::Change;
use crate::shard::change::Context;
use crate::shard::command::ArchivedCommand;
use crate::shard::members::Members;
use crate::shard::request::Member;
use crate::types::NodeId;
use crate::types::Term;
use std::collections::VecDeque;

/// Who belongs to the group at some entry.
#[derive(Clone, Debug)]
pub(super) struct Company {
    /// As Raft has it.
    pub(super) membership: Membership,
    /// As clients see it.
    pub(super) members: Members,
}

impl Company {
    /// As it is after these entries too.
    fn after(mut self, entries: &VecDeque<Entry>) -> Self {
        for entry in entries {
            match entry.kind {
                EntryKind::Config => {
                    let Some(data) = ConfigData::decode(&entry.data) else { continue };
                    match Context::decode(&data.context) {
                        Some(context) => self.members = context.members,
                        None => self.members.follow(&data.membership),
                    }
                    self.membership = data.membership;
                }
                EntryKind::Normal => {
                    if let Ok(ArchivedCommand::Member { change }) =
                        ArchivedCommand::open(&entry.data)
                        && let Some(change) = Change::decode(change)
                    {
                        // Refused, it changes nothing.
                        let _ = change.edit(&mut self.members);
                    }
                }
                EntryKind::Empty => {}
            }
        }
        self
    }
}

/// The entry after which `own` is the only member, to follow `rest`, which follows `base`; none if
/// it is so already. With it, who has to leave. `known` are the members that it began with, itself
/// among them; `term` is the latest that it has seen.
pub(super) fn entry(
    own: NodeId,
    known: &[Member],
    company: Company,
    (base, rest): (Position, &VecDeque<Entry>),
    term: Term,
) -> Option<(Entry, Vec<Member>)> {
    let Company { membership, mut members } = company.after(rest);
    if membership.is_only(own) {
        return None;
    }
    let known = || known.iter().find(|member| member.id == own);
    let row = members.get(own).or_else(known).expect("a member knows itself");
    let gone = members.rows().iter().filter(|member| member.id != own).cloned().collect();
    let row = Member { learner: false, ..row.clone() };
    members.leave_only(row);
    let last = rest.back().map_or(base, Entry::position);
    let context = Context::alone(own, members).encode();
    let membership = Membership::new(&[own], &[]);
    let entry = Entry {
        term: next_era(term.max(last.term)),
        index: last.index.next(),
        kind: EntryKind::Config,
        data: ConfigData { membership, context }.encode(),
    };
    Some((entry, gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LogIndex;
    use bytes::Bytes;

    fn member(id: u64, url: &str) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            peer_urls: vec![url.to_owned()],
            client_urls: Vec::new(),
            learner: false,
        }
    }

    fn at(index: u64, kind: EntryKind, data: Bytes) -> Entry {
        Entry { term: Term(4), index: LogIndex(index), kind, data }
    }

    /// What the log still holds is not applied yet, and counts all the same: another URL of its
    /// own, and one more member that nobody may have agreed on.
    #[test]
    fn whoever_goes_on_alone_is_as_its_log_says_and_leaves_all_whom_it_names() {
        let ids = [1, 2, 3].map(NodeId);
        let rows = [1, 2, 3].map(|id| member(id, "http://a:1"));
        let company =
            Company { membership: Membership::new(&ids, &[]), members: Members::new(&rows) };
        let moved = Change::Urls(NodeId(1), vec!["http://moved:1".to_owned()]);
        let more = [1, 2, 3, 9].map(|id| member(id, "http://a:1"));
        let context = Context::alone(NodeId(2), Members::new(&more)).encode();
        let membership = Membership::new(&ids, &[NodeId(9)]);
        let rest = VecDeque::from([
            at(8, EntryKind::Config, ConfigData { membership, context }.encode()),
            at(9, EntryKind::Normal, moved.command()),
            at(10, EntryKind::Empty, Bytes::new()),
        ]);
        let base = Position { term: Term(3), index: LogIndex(7) };
        let (entry, gone) = entry_of(company.clone(), base, &rest).expect("there are others");
        assert_eq!((entry.index, entry.term), (LogIndex(11), next_era(Term(6))));
        assert!(gone.iter().map(|member| member.id).eq([2, 3, 9].map(NodeId)));
        let data = ConfigData::decode(&entry.data).expect("its own bytes");
        assert!(data.membership.is_only(NodeId(1)));
        let context = Context::decode(&data.context).expect("its own bytes");
        assert!([2, 3, 9].iter().all(|id| context.members.is_removed(NodeId(*id))));
        assert_eq!(context.members.rows(), [member(1, "http://moved:1")]);

        // Done once, it is done.
        let mut rest = rest;
        rest.push_back(entry);
        assert_eq!(entry_of(company, base, &rest), None);
    }

    fn entry_of(
        company: Company,
        base: Position,
        rest: &VecDeque<Entry>,
    ) -> Option<(Entry, Vec<Member>)> {
        let own = [member(1, "http://a:1")];
        entry(NodeId(1), &own, company, (base, rest), Term(6))
    }
}

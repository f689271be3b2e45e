//! The members as clients see them: part of the state, the same on every replica.

use crate::config::MEMBER_TEXT_SIZE_MAX;
use crate::config::MEMBER_URLS_MAX;
use crate::config::MEMBERS_MAX;
use crate::raft::MEMBER_COUNT_MAX;
use crate::raft::Membership;
use crate::shard::request::Member;
use crate::types::NodeId;

/// Removed members that are remembered, so that they can be told; the latest.
const REMOVED_MAX: usize = 1024;

const _: () = assert!(MEMBERS_MAX == MEMBER_COUNT_MAX, "whoever may be named can take part");

/// Who belongs to the group, and who did.
///
/// # Shape
/// `rows` ascend by id. Who is added with a vote gets it once it has caught up; until then Raft has
/// it for a learner, and clients do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    rows: Vec<Member>,
    /// In the order they left.
    removed: Vec<NodeId>,
}

impl Members {
    /// These to begin with.
    pub(super) fn new(members: &[Member]) -> Self {
        let mut rows = members.to_vec();
        rows.sort_by_key(|member| member.id);
        rows.dedup_by_key(|member| member.id);
        Self { rows, removed: Vec::new() }
    }

    /// All of them, by id.
    pub(super) fn rows(&self) -> &[Member] {
        &self.rows
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Member> {
        let at = self.rows.binary_search_by_key(&id, |member| member.id).ok()?;
        Some(&self.rows[at])
    }

    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Member> {
        let at = self.rows.binary_search_by_key(&id, |member| member.id).ok()?;
        Some(&mut self.rows[at])
    }

    /// Whether the member was there and left.
    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        self.removed.contains(&id)
    }

    /// Takes in one more, or another in its place.
    pub(super) fn put(&mut self, member: Member) {
        match self.rows.binary_search_by_key(&member.id, |it| it.id) {
            Ok(at) => self.rows[at] = member,
            Err(at) => self.rows.insert(at, member),
        }
    }

    /// Whether another member than `except` has one of these URLs for its peers.
    pub(super) fn has_url(&self, urls: &[String], except: NodeId) -> bool {
        let others = self.rows.iter().filter(|member| member.id != except);
        others.flat_map(|member| &member.peer_urls).any(|url| urls.contains(url))
    }

    /// Keeps those that are of this membership.
    pub(super) fn follow(&mut self, membership: &Membership) {
        for id in self.rows.iter().map(|member| member.id) {
            if !membership.contains(id) {
                self.removed.push(id);
            }
        }
        let over = self.removed.len().saturating_sub(REMOVED_MAX);
        self.removed.drain(..over);
        self.rows.retain(|member| membership.contains(member.id));
    }

    /// Keeps this one, which may not be among them, and takes all others for removed.
    pub(super) fn leave_only(&mut self, member: Member) {
        let own = member.id;
        self.removed.retain(|id| *id != own);
        self.put(member);
        self.follow(&Membership::new(&[own], &[]));
    }

    /// Appends it to `out`: how many members (u16); of each, by id, the id (u64), whether it has no
    /// vote (u8), its name, its peers' URLs and its clients'; then how many were removed (u16), and
    /// their ids (u64). A text is its size (u16) and its bytes; a list is how many (u16), and
    /// those.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_count(out, self.rows.len());
        for member in &self.rows {
            put_member(out, member);
        }
        put_count(out, self.removed.len());
        for id in &self.removed {
            out.extend_from_slice(&id.0.to_le_bytes());
        }
    }

    /// What [`Self::encode`] wrote at the front of `bytes`, and what follows; none if it did not.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let mut reader = Reader(bytes);
        let count = reader.count(MEMBER_COUNT_MAX)?;
        let rows = (0..count).map(|_| reader.member()).collect::<Option<Vec<_>>>()?;
        let count = reader.count(REMOVED_MAX)?;
        let removed = (0..count).map(|_| Some(NodeId(reader.number()?)));
        let removed = removed.collect::<Option<Vec<_>>>()?;
        let is_sorted = rows.windows(2).all(|pair| pair[0].id < pair[1].id);
        is_sorted.then_some((Self { rows, removed }, reader.0))
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("there are few");
    out.extend_from_slice(&count.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a list of texts.
pub(super) fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put_count(out, texts.len());
    texts.iter().for_each(|text| put_text(out, text));
}

/// Appends one member.
pub(super) fn put_member(out: &mut Vec<u8>, member: &Member) {
    out.extend_from_slice(&member.id.0.to_le_bytes());
    out.push(u8::from(member.learner));
    put_text(out, &member.name);
    put_texts(out, &member.peer_urls);
    put_texts(out, &member.client_urls);
}

/// Whether these can be a member's, and so be read when they were written.
pub(super) fn are_readable(name: &str, urls: &[String]) -> bool {
    name.len() <= MEMBER_TEXT_SIZE_MAX
        && urls.len() <= MEMBER_URLS_MAX
        && urls.iter().all(|url| url.len() <= MEMBER_TEXT_SIZE_MAX)
}

/// The bytes not yet read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn count(&mut self, count_max: usize) -> Option<usize> {
        let count = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        Some(usize::from(count)).filter(|count| *count <= count_max)
    }

    fn text(&mut self) -> Option<String> {
        let size = self.count(MEMBER_TEXT_SIZE_MAX)?;
        String::from_utf8(self.take(size)?.to_vec()).ok()
    }

    pub(super) fn texts(&mut self) -> Option<Vec<String>> {
        let count = self.count(MEMBER_URLS_MAX)?;
        (0..count).map(|_| self.text()).collect()
    }

    pub(super) fn member(&mut self) -> Option<Member> {
        let id = NodeId(self.number()?);
        let learner = self.byte().filter(|byte| *byte <= 1)? == 1;
        let (name, peer_urls, client_urls) = (self.text()?, self.texts()?, self.texts()?);
        Some(Member { id, name, peer_urls, client_urls, learner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(id: u64) -> Member {
        Member {
            id: NodeId(id),
            name: format!("n{id}"),
            peer_urls: vec![format!("http://n{id}:2380"), "http://other:1".into()],
            client_urls: vec![format!("http://n{id}:2379")],
            learner: false,
        }
    }

    #[test]
    fn members_come_back_as_they_were_and_parts_of_them_do_not_read() {
        let mut members = Members::new(&[member(9), member(3), member(5)]);
        members.follow(&Membership::new(&[NodeId(3)], &[NodeId(9)]));
        assert_eq!(members.removed, [NodeId(5)]);
        let mut bytes = Vec::new();
        members.encode(&mut bytes);
        for size in 0..bytes.len() {
            assert!(Members::decode(&bytes[..size]).is_none(), "{size}");
        }
        bytes.push(1);
        assert_eq!(Members::decode(&bytes), Some((members, &[1][..])));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::decode(&bytes);
        }
    }
}

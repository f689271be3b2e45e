//! Hashes over history: every change up to a revision, in order, a slice at a time.
//!
//! What is hashed is what can be read, so that replicas agree whatever each has cleaned: a change
//! up to the last compaction counts only if that compaction keeps it. Floor and revision are those
//! of the beginning, and are pinned until the end.

use crate::mvcc::Keyspace;
use crate::mvcc::hash::Hashed;
use crate::mvcc::hash::KvHash;
use crate::shard::Shard;
use crate::shard::request::Body;
use crate::shard::request::Header;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Unavailable;
use crate::shard::wants::Waiter;
use crate::store::ChangeRef;
use crate::store::Fetched;
use crate::store::Pin;
use crate::store::Scan;
use crate::types::Location;
use crate::types::Revision;
use std::collections::VecDeque;

/// Hashes that may wait for their turn; one more is refused as too many.
const HASHES_MAX: usize = 64;
/// Changes hashed in one slice: a few tenths of a millisecond.
const STEP_CHANGES: usize = 512;
/// Blocks read beyond the one that is wanted.
const AHEAD_BLOCKS: u32 = 32;

/// The hashes that are asked for; the first is under way.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    waiting: VecDeque<Hash>,
    /// The first cannot go on without a block.
    is_waiting: bool,
}

/// One hash.
#[derive(Debug)]
struct Hash {
    to: RequestId,
    header: Header,
    /// Up to which revision; none for everything.
    asked: Option<Revision>,
    floor: Option<Revision>,
    hasher: KvHash,
    next: Location,
    /// What the index must keep meanwhile.
    kept: Revision,
    pin: Pin,
}

impl Hash {
    /// Hashes what `scan` shows; where that has come to, or none if it is past what is asked for.
    fn feed(
        &mut self,
        keyspace: &Keyspace,
        scan: impl FnOnce(&mut dyn FnMut(ChangeRef<'_>)) -> Scan,
    ) -> Option<Scan> {
        let hasher = &mut self.hasher;
        let mut is_past = false;
        let scan = scan(&mut |change| {
            is_past |= change.location.main > hasher.revision();
            let hashed = Hashed {
                location: change.location,
                key: change.key,
                created: change.created,
                version: change.version,
                lease: change.lease,
                value: change.value,
            };
            hasher.feed(&hashed, |at| keyspace.keeps(change.key, change.location, at));
        });
        (!is_past).then_some(scan)
    }
}

impl Hashes {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// All who wait, and up to which revision they have asked; nobody does any more.
    pub(super) fn drain(&mut self) -> Vec<(RequestId, Option<i64>)> {
        let waiting = self.waiting.drain(..);
        waiting.map(|hash| (hash.to, hash.asked.map(|revision| revision.0))).collect()
    }
}

impl Shard {
    /// Begins a hash of all up to `revision`, 0 being the present one; of everything without one.
    pub(super) fn begin_hash(
        &mut self,
        to: RequestId,
        revision: Option<i64>,
    ) -> Option<Unavailable> {
        if self.hashes.waiting.len() >= HASHES_MAX {
            return Some(Unavailable::TooManyRequests);
        }
        if let Some(below @ ..0) = revision {
            // No change is as old, as etcd finds too.
            let (compacted, revision) = (self.keyspace.compacted(), Revision(below));
            let hash = KvHash::new(compacted, revision).finish();
            let body = Body::HashKv { hash, compacted, revision };
            self.reply(to, Ok(Response { header: self.header(), body }));
            return None;
        }
        let at = match self.keyspace.check_revision(revision.unwrap_or(0)) {
            Ok(at) => at,
            Err(refusal) => {
                self.reply(to, Err(refusal.into()));
                return None;
            }
        };
        let floor = self.keyspace.compacted();
        let kept = floor.unwrap_or(Revision(1));
        self.keyspace.pin(kept);
        self.hashes.waiting.push_back(Hash {
            to,
            header: self.header(),
            asked: revision.map(|_| at),
            floor,
            hasher: KvHash::new(floor, at),
            next: Location { main: Revision(0), sub: 0 },
            kept,
            pin: self.store.pin(),
        });
        None
    }

    /// A slice of the first hash; whether there is more to do at once.
    pub(super) fn step_hash(&mut self) -> bool {
        if self.hashes.is_waiting {
            return false;
        }
        let Some(hash) = self.hashes.waiting.front_mut() else { return false };
        let next = hash.next;
        let scan = hash.feed(&self.keyspace, |visit| self.store.scan(next, STEP_CHANGES, visit));
        match scan {
            None | Some(Scan::End) => self.end_hash(),
            Some(Scan::Next(next)) => hash.next = next,
            Some(Scan::Away(block, next)) => {
                hash.next = next;
                self.hashes.is_waiting = true;
                self.wants.want(block, Waiter::Hash);
                self.store.fetch_ahead(block, AHEAD_BLOCKS);
                return false;
            }
        }
        !self.hashes.is_empty()
    }

    /// The block that the first hash waits for is here, or that one waited for which was given up.
    /// It is hashed from there: the cache need not have kept it.
    pub(super) fn hash_fetched(&mut self, fetched: &Fetched) {
        self.hashes.is_waiting = false;
        let Some(hash) = self.hashes.waiting.front_mut() else { return };
        let next = hash.next;
        match hash.feed(&self.keyspace, |visit| self.store.scan_in(fetched, next, visit)) {
            None | Some(Scan::End) => self.end_hash(),
            Some(Scan::Next(next) | Scan::Away(_, next)) => hash.next = next,
        }
        self.step_hash();
    }

    /// Nobody waits for this hash any more. A block that it waits for comes yet, and the next
    /// begins then.
    pub(super) fn forget_hash(&mut self, to: RequestId) {
        if let Some(at) = self.hashes.waiting.iter().position(|hash| hash.to == to) {
            let hash = self.hashes.waiting.remove(at).expect("it was found");
            self.keyspace.unpin(hash.kept);
            self.store.unpin(hash.pin);
        }
    }

    fn end_hash(&mut self) {
        let hash = self.hashes.waiting.pop_front().expect("one was under way");
        self.keyspace.unpin(hash.kept);
        self.store.unpin(hash.pin);
        let sum = hash.hasher.finish();
        let body = match hash.asked {
            Some(revision) => Body::HashKv { hash: sum, compacted: hash.floor, revision },
            None => Body::Hash { hash: sum },
        };
        self.reply(hash.to, Ok(Response { header: hash.header, body }));
    }
}

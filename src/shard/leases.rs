//! Leases in a shard: who asks about them, how they end, and what their entries do.
//!
//! The table of leases is part of what is applied, and so is the same on every replica. When one
//! ends is the leader's own affair: it looks twice a second, proposes what has ended a slice at a
//! time, and each entry deletes the keys of its leases. A renewal is not logged, but answered by
//! the leader once it knows that it still leads.
//!
//! **Invariant:** a lease ends no sooner than its time after the last renewal that was answered,
//! whoever led then and leads now.

use crate::lease::Due;
use crate::lease::Grant;
use crate::lease::Keys;
use crate::lease::Lessor;
use crate::lease::Refusal;
use crate::lease::Renewal;
use crate::lease::TTL_MAX;
use crate::mvcc::KeyRange;
use crate::mvcc::Keyspace;
use crate::mvcc::Slice;
use crate::shard::Shard;
use crate::shard::asks::Asks;
use crate::shard::asks::FIRST;
use crate::shard::asks::What;
use crate::shard::command::ArchivedCommand;
use crate::shard::command::Command;
use crate::shard::command::Ended;
use crate::shard::command::Left;
use crate::shard::records::Kept;
use crate::shard::request::Body;
use crate::shard::request::Header;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::request::Unavailable;
use crate::store::Store;
use crate::types::LeaseId;
use crate::types::LogIndex;
use crate::types::Term;
use crate::types::Tick;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::ops::ControlFlow;

/// Milliseconds between two looks for leases that have ended, as in etcd.
const LOOK_INTERVAL: u64 = 500;
/// Leases that may be proposed to end per millisecond, so that many which end together take a small
/// part of the core: a hundred thousand are gone within seven seconds. etcd ends one.
const END_RATE: i64 = 16;
/// Leases that may be proposed to end at once after a rest.
const END_BURST: i64 = 40 * END_RATE;
/// Leases that get their place among the deadlines in one slice: a tenth of a millisecond or so.
const SETTLE_STEP: usize = 512;
/// Keys that are attached in one slice of a start: half a millisecond.
const ATTACH_STEP: usize = 1024;

/// Bytes of leases, and of their keys, that answers name in one turn; those asked for beyond wait
/// for the next. 1 MiB: a millisecond or so.
const LISTED_SIZE_MAX: usize = 1 << 20;

/// The leases of a shard.
#[derive(Debug)]
pub(super) struct Leases {
    pub(super) lessor: Lessor,
    pub(super) asks: Asks,
    /// Who asks for all leases and is not answered, and who was answered last.
    pub(super) listing: BTreeSet<RequestId>,
    listed: RequestId,
    /// Bytes that answers have named in this turn, of [`LISTED_SIZE_MAX`].
    listed_size: usize,
    /// The term that this replica leads in, once it knows all that came before.
    led: Option<Term>,
    /// When to look again for leases that have ended.
    look_next: Tick,
    /// The last look has not come to its end.
    is_looking: bool,
    /// Leases that may be proposed to end now; below zero if the last slice had more.
    allowance: i64,
    /// What the last slice proposed to end.
    pub(super) ended: Vec<Grant>,
    /// What ids are drawn from.
    luck: u64,
}

impl Leases {
    pub(super) fn new(lessor: Lessor, seed: u64) -> Self {
        Self {
            lessor,
            asks: Asks::remote(),
            listing: BTreeSet::new(),
            listed: FIRST,
            listed_size: 0,
            led: None,
            look_next: Tick(0),
            is_looking: false,
            allowance: END_BURST,
            ended: Vec::new(),
            luck: seed,
        }
    }

    /// It is `now`, so many milliseconds later.
    pub(super) fn tick(&mut self, now: Tick, elapsed: u64) {
        let gained = i64::try_from(elapsed).unwrap_or(i64::MAX).saturating_mul(END_RATE);
        self.allowance = self.allowance.saturating_add(gained).min(END_BURST);
        if self.lessor.is_leading() && now >= self.look_next {
            self.is_looking = true;
            self.look_next = Tick(now.0.saturating_add(LOOK_INTERVAL));
        }
    }

    /// Who is to be told of all leases next, if there is time: each in turn, whatever others ask.
    fn next_listing(&mut self) -> Option<RequestId> {
        if self.listed_size >= LISTED_SIZE_MAX {
            return None;
        }
        let after = (Bound::Excluded(self.listed), Bound::Unbounded);
        let to = *self.listing.range(after).next().or_else(|| self.listing.first())?;
        self.listing.remove(&to);
        self.listed = to;
        Some(to)
    }

    /// An id that no lease has: positive, as etcd's are.
    ///
    /// # Source
    /// splitmix64.
    pub(super) fn pick_id(&mut self) -> LeaseId {
        loop {
            self.luck = self.luck.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.luck ^ (self.luck >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = LeaseId(((mixed ^ (mixed >> 31)) >> 1).cast_signed());
            if id != LeaseId(0) && !self.lessor.contains(id) {
                return id;
            }
        }
    }
}

impl Shard {
    /// Proposes to grant a lease, of an id of the shard's own choice if it is 0.
    pub(super) fn grant_lease(
        &mut self,
        from: RequestId,
        id: LeaseId,
        ttl: i64,
    ) -> Option<Unavailable> {
        if ttl > TTL_MAX {
            self.reply(from, Err(Refusal::TtlTooLarge.into()));
            return None;
        }
        if self.leases.lessor.len() >= self.config.lease.count_max {
            return Some(Unavailable::TooManyRequests);
        }
        let id = if id == LeaseId(0) { self.leases.pick_id() } else { id };
        let ttl = ttl.max(self.config.lease.ttl_min);
        self.on_write(from, Command::LeaseGrant { id: id.0, ttl }.encode())
    }

    /// Takes in a question that only a leader may answer.
    pub(super) fn ask(&mut self, from: RequestId, what: What) -> Option<Unavailable> {
        if self.leases.asks.len() >= self.config.waiting_max {
            return Some(Unavailable::TooManyRequests);
        }
        let deadline = Tick(self.now.0 + self.config.request_timeout);
        self.leases.asks.push(from, what, deadline);
        None
    }

    /// Takes in a question about all leases that this replica knows.
    pub(super) fn list_leases(&mut self, from: RequestId) -> Option<Unavailable> {
        if self.leases.listing.len() >= self.config.waiting_max {
            return Some(Unavailable::TooManyRequests);
        }
        self.leases.listing.insert(from);
        self.serve_listing();
        None
    }

    fn serve_listing(&mut self) {
        while let Some(to) = self.leases.next_listing() {
            let leases: Vec<LeaseId> = self.leases.lessor.ids().collect();
            self.leases.listed_size += size_of_val(leases.as_slice());
            let body = Body::LeaseLeases { leases };
            self.reply(to, Ok(Response { header: self.header(), body }));
        }
    }

    /// Goes on with answers that a turn had no time for; whether there may be more.
    pub(super) fn step_listing(&mut self) -> bool {
        self.leases.listed_size = 0;
        self.serve_listing();
        self.serve_asks();
        self.leases.listed_size >= LISTED_SIZE_MAX
    }

    /// Asks for one read point for all questions that came since the last one was asked for.
    pub(super) fn ask_lease_point(&mut self) {
        if !self.leases.lessor.is_leading() {
            return self.send_asks();
        }
        let Some(context) = self.leases.asks.next_context() else { return };
        if self.raft.read(context).is_err() {
            self.leases.asks.lost(context);
        }
    }

    /// Leadership may have come or gone, or what was to be known before leading is applied.
    pub(super) fn lead_leases(&mut self) {
        let led = self.leads().then(|| self.raft.term());
        if led == self.leases.led {
            return;
        }
        self.leases.led = led;
        if led.is_some() {
            let raft = &self.config.raft;
            let (slack, extension) = (raft.heartbeat_ticks, raft.election_ticks);
            let checkpoints = self.config.lease.checkpoints;
            self.leases.lessor.promote(self.now, extension, slack, checkpoints);
            self.leases.asks.restart(false);
        } else {
            self.leases.lessor.demote();
            self.drop_errands();
            self.leases.asks.restart(true);
        }
    }

    /// Answers the questions that may be answered, as far as a turn has time.
    pub(super) fn serve_asks(&mut self) {
        if !self.leases.lessor.is_leading() {
            return;
        }
        while self.leases.listed_size < LISTED_SIZE_MAX
            && let Some((to, what)) = self.leases.asks.ready(self.applied)
        {
            match what {
                What::KeepAlive(id, header) => self.keep_alive(to, id, header),
                What::TimeToLive(id, wants_keys) => {
                    let body = self.time_to_live(id, wants_keys);
                    self.leases.asks.answered(to);
                    self.reply(to, Ok(Response { header: self.header(), body }));
                }
            }
        }
    }

    /// Renews a lease and says so, or waits for what has to come before.
    fn keep_alive(&mut self, to: RequestId, id: LeaseId, header: Header) {
        let ttl = match self.leases.lessor.renew(id, self.now) {
            Renewal::Renewed(ttl) => ttl,
            Renewal::Unknown => 0,
            Renewal::Ended | Renewal::Pending => return self.leases.asks.hold(to, id),
            Renewal::Reset(grant) => {
                let leases = [Left::new(grant, 0)];
                let command = Command::LeaseCheckpoint { leases: &leases };
                if self.propose_own(command) {
                    self.leases.lessor.resetting(grant);
                    return self.leases.asks.hold(to, id);
                }
                self.leases.asks.answered(to);
                return self.reply(to, Err(Unavailable::TooManyRequests.into()));
            }
        };
        self.leases.asks.answered(to);
        let body = Body::LeaseKeepAlive { id, ttl };
        self.reply(to, Ok(Response { header, body }));
    }

    fn time_to_live(&mut self, id: LeaseId, wants_keys: bool) -> Body {
        let lessor = &self.leases.lessor;
        let Some((granted, all)) = lessor.get(id) else {
            return Body::LeaseTimeToLive { id, ttl: -1, granted: 0, keys: Vec::new() };
        };
        let left = lessor.left(id, self.now).expect("it is there") / 1000;
        let ttl = i64::try_from(left).unwrap_or(i64::MAX);
        let keys: Vec<Bytes> =
            if wants_keys { all.iter().map(Bytes::copy_from_slice).collect() } else { vec![] };
        let size = keys.iter().map(|key| key.len() + size_of::<Bytes>()).sum::<usize>();
        self.leases.listed_size += size;
        Body::LeaseTimeToLive { id, ttl, granted, keys }
    }

    /// A slice of what leases need: places among the deadlines, and entries for what is due.
    /// Whether there is more to do at once.
    pub(super) fn step_leases(&mut self) -> bool {
        let is_settling = self.leases.lessor.settle(SETTLE_STEP);
        self.leases.ended.clear();
        let may_end = self.leases.is_looking && self.leases.allowance > 0;
        if !may_end || self.stopping || !self.has_room() {
            return is_settling;
        }
        let mut due = self.leases.lessor.due(self.now);
        self.leases.is_looking = due.is_more;
        let is_idle = due.ended.is_empty() && due.checkpoints.is_empty();
        self.propose_due(&mut due);
        if !due.ended.is_empty() || !due.checkpoints.is_empty() {
            self.leases.lessor.put_back(&due);
            self.leases.is_looking = false;
        }
        // If no more may be under way, what is to be done next is to apply.
        is_settling || (self.leases.is_looking && !is_idle)
    }

    /// Proposes what is due, and leaves what was not taken.
    fn propose_due(&mut self, due: &mut Due) {
        let ended: Vec<Ended> = due.ended.iter().map(Ended::from).collect();
        if !ended.is_empty() && self.propose_own(Command::LeaseExpire { leases: &ended }) {
            self.leases.allowance -= i64::try_from(ended.len()).expect("a slice is small");
            self.leases.ended = std::mem::take(&mut due.ended);
        }
        let left = due.checkpoints.iter().map(|(grant, left)| Left::new(*grant, *left));
        let left: Vec<Left> = left.collect();
        if !left.is_empty() && self.propose_own(Command::LeaseCheckpoint { leases: &left }) {
            due.checkpoints.clear();
        }
    }

    /// Proposes an entry that nobody waits for; whether it was taken.
    fn propose_own(&mut self, command: Command<'_>) -> bool {
        self.raft.propose(command.encode()).is_ok()
    }

    /// Whoever waits for something to come of a command's leases may look again.
    pub(super) fn release_asks(&mut self, command: &ArchivedCommand<'_>) {
        let asks = &mut self.leases.asks;
        match command {
            _ if asks.is_empty() => {}
            ArchivedCommand::LeaseRevoke { id } => asks.release(LeaseId(id.to_native())),
            ArchivedCommand::LeaseExpire { leases } => {
                leases.iter().for_each(|lease| asks.release(lease.grant().id));
            }
            ArchivedCommand::LeaseCheckpoint { leases } => {
                leases.iter().for_each(|lease| asks.release(lease.grant().id));
            }
            ArchivedCommand::Put { .. }
            | ArchivedCommand::DeleteRange { .. }
            | ArchivedCommand::Txn(_)
            | ArchivedCommand::Compact { .. }
            | ArchivedCommand::Member { .. }
            | ArchivedCommand::LeaseGrant { .. } => {}
        }
    }
}

/// Applies a command about leases; `index` and `now` are those of its entry.
///
/// # Panics
/// If it is about anything else.
pub(super) fn apply(
    keyspace: &mut Keyspace,
    records: &mut Kept<'_>,
    command: &ArchivedCommand<'_>,
    (index, now): (LogIndex, Tick),
) -> Result<Body, Refusal> {
    match command {
        ArchivedCommand::LeaseGrant { id, ttl } => {
            let (id, ttl) = (LeaseId(id.to_native()), ttl.to_native());
            records.lessor.grant(Grant { id, born: index }, ttl, now)?;
            Ok(Body::LeaseGrant { id, ttl })
        }
        ArchivedCommand::LeaseRevoke { id } => {
            let keys = records.lessor.revoke(LeaseId(id.to_native()))?;
            delete(keyspace, records, &keys);
            Ok(Body::LeaseRevoke)
        }
        ArchivedCommand::LeaseExpire { leases } => {
            for lease in leases.iter() {
                if let Some(keys) = records.lessor.expire(lease.grant()) {
                    delete(keyspace, records, &keys);
                }
            }
            Ok(Body::LeaseRevoke)
        }
        ArchivedCommand::LeaseCheckpoint { leases } => {
            for lease in leases.iter() {
                records.lessor.checkpoint(lease.grant(), lease.remaining.to_native());
            }
            Ok(Body::LeaseRevoke)
        }
        ArchivedCommand::Put { .. }
        | ArchivedCommand::DeleteRange { .. }
        | ArchivedCommand::Txn(_)
        | ArchivedCommand::Compact { .. }
        | ArchivedCommand::Member { .. } => unreachable!("a command about leases"),
    }
}

/// Deletes the keys of a lease that is gone, in one revision; without keys there is none.
fn delete(keyspace: &mut Keyspace, records: &mut Kept<'_>, keys: &Keys) {
    let mut write = keyspace.write();
    for key in keys.iter() {
        let deleted = write.delete_range(KeyRange::One(key), records, |_, _| ());
        assert!(deleted == 1, "a key that hangs on a lease is there");
    }
    let _ = write.finish();
}

/// Attaches live keys, from one on, to the lease that the last change of each names; the key to go
/// on with, if any is left.
///
/// # Errors
/// There is no such lease.
///
/// # Cost
/// Nothing if no change in a segment has a lease. Else a stretch of keys is visited.
pub(super) fn attach_stretch(
    keyspace: &Keyspace,
    store: &Store,
    lessor: &mut Lessor,
    resume: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, String> {
    if !store.has_leases() {
        return Ok(None);
    }
    let mut misfit = None;
    let all = Slice::new(KeyRange::new(b"\0", b"\0"), keyspace.revision());
    let rest = keyspace.walk(&Slice { resume, budget: ATTACH_STEP, ..all }, |row| {
        let lease = store.lease(row.location).unwrap_or_default();
        if lease != LeaseId(0) && !lessor.contains(lease) {
            misfit = Some((row.location.main, lease));
            return ControlFlow::Break(());
        }
        lessor.attach(row.key, LeaseId(0), lease);
        ControlFlow::Continue(())
    });
    let rest = rest.map(<[u8]>::to_vec);
    misfit.map_or(Ok(rest), |(main, lease)| {
        Err(format!(
            "a key of revision {main} hangs on lease {lease:x}, which is not there",
            lease = lease.0
        ))
    })
}

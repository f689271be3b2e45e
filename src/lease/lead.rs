//! Deadlines: what only the leader knows of leases.
//!
//! Each lease has a place in one queue, at the time when it is to be looked at next: at its
//! deadline, or before. A renewal moves the deadline and not the place; whoever comes to the place
//! finds that there is time left, and puts the lease where it belongs now. So a renewal costs one
//! way down the table, however long the queue.

use crate::lease::Grant;
use crate::lease::Lease;
use crate::lease::Lessor;
use crate::types::LeaseId;
use crate::types::Tick;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Milliseconds from one checkpoint of a lease to the next, as in etcd.
const CHECKPOINT_INTERVAL: u64 = 5 * 60 * 1000;
/// Milliseconds after which an ended lease that is still there is named again, as in etcd.
const RETRY_INTERVAL: u64 = 3_000;
/// Leases looked at in one slice: some hundred microseconds.
const STEP_LEASES: usize = 512;
/// Leases that one slice names as ended, or for a checkpoint: an entry of 2 or 3 KiB.
const DUE_LEASES: usize = 128;
/// Keys beyond which a slice names no further lease as ended: deleting them is a millisecond.
const DUE_KEYS: usize = 1_024;
/// Leases that were named as ended and are still there, beyond which no other is named.
const ENDING_MAX: usize = 2_048;

/// What one leader knows of one lease.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timer {
    /// Which leadership of this process it is of; others' mean nothing.
    epoch: u32,
    /// Checkpoints of the lease that are proposed and not applied.
    pending: u16,
    /// The last of them says that it was renewed.
    is_reset: bool,
    /// It was named as ended.
    is_ending: bool,
    /// When it ends, the clock's slack included.
    deadline: Tick,
    /// Its place in the queue, at or before its deadline unless it is ending.
    place: Tick,
}

impl Timer {
    /// A checkpoint of the lease is applied.
    pub(super) fn checkpointed(&mut self, epoch: u32) {
        if self.epoch == epoch {
            self.pending = self.pending.saturating_sub(1);
        }
    }
}

/// One leadership.
#[derive(Debug)]
pub(super) struct Lead {
    since: Tick,
    /// Milliseconds that leases which were there before are given beyond their time.
    extension: u64,
    /// Milliseconds that the clock may be behind: so much later than due each lease ends.
    slack: u64,
    /// Leases before it have their place in the queue; none if all have.
    next: Option<LeaseId>,
    queue: BTreeSet<(Tick, LeaseId)>,
    /// Leases that are ending.
    ending: usize,
    /// Whether checkpoints are made.
    checkpoints: bool,
}

/// What has come of a try to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is no such lease.
    Unknown,
    /// It has ended, and is to be removed.
    Ended,
    /// Others think that less is left of it. Propose a checkpoint that nothing is used up, and try
    /// again once it is applied.
    Reset(Grant),
    /// The same, and such a checkpoint is under way.
    Pending,
    /// It lives so many seconds from now on.
    Renewed(i64),
}

/// What is to be proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Leases that have ended, by deadline.
    pub ended: Vec<Grant>,
    /// Leases, and how many seconds are left of each.
    pub checkpoints: Vec<(Grant, i64)>,
    /// Whether more may be due now.
    pub is_more: bool,
}

impl Lead {
    /// When a lease that was not renewed since `since` ends.
    fn deadline(&self, lease: &Lease) -> Tick {
        after(self.lasting(self.since, lease.lasting()), self.extension)
    }

    /// When a lease ends that lasts so many seconds from `from` on.
    fn lasting(&self, from: Tick, ttl: i64) -> Tick {
        after(after(from, seconds(ttl)), self.slack)
    }

    /// Milliseconds that are left at `now` of a lease with this deadline.
    fn left(&self, deadline: Tick, now: Tick) -> u64 {
        deadline.since(after(now, self.slack))
    }

    /// When to look at a lease next.
    fn place(&self, lease: &Lease) -> Tick {
        let lasting = seconds(lease.lasting());
        if !self.checkpoints || lasting <= CHECKPOINT_INTERVAL {
            return lease.timer.deadline;
        }
        let rest = lasting - CHECKPOINT_INTERVAL + self.slack;
        Tick(lease.timer.deadline.0.saturating_sub(rest))
    }

    fn put(&mut self, id: LeaseId, lease: &mut Lease, deadline: Tick, epoch: u32) {
        lease.timer = Timer { epoch, deadline, ..Timer::default() };
        lease.timer.place = self.place(lease);
        self.queue.insert((lease.timer.place, id));
    }

    /// A lease has come at `now`.
    pub(super) fn grant(&mut self, id: LeaseId, lease: &mut Lease, epoch: u32, now: Tick) {
        let deadline = self.lasting(now, lease.ttl);
        self.put(id, lease, deadline, epoch);
    }

    /// A lease has gone.
    pub(super) fn remove(&mut self, id: LeaseId, lease: &Lease, epoch: u32) {
        if lease.timer.epoch == epoch {
            self.queue.remove(&(lease.timer.place, id));
            self.ending -= usize::from(lease.timer.is_ending);
        }
    }

    pub(super) fn check(&self, leases: &BTreeMap<LeaseId, Lease>, epoch: u32) {
        let mut ending = 0;
        let mut placed = 0;
        for (id, lease) in leases {
            let timer = &lease.timer;
            if timer.epoch != epoch {
                assert!(self.next.is_some_and(|next| *id >= next), "all before have a place");
                continue;
            }
            placed += 1;
            ending += usize::from(timer.is_ending);
            assert!(self.queue.contains(&(timer.place, *id)), "a place is in the queue");
            assert!(timer.is_ending || timer.place <= timer.deadline, "nobody looks too late");
        }
        assert!(placed == self.queue.len(), "only leases have places, and each has one");
        assert!(ending == self.ending, "leases that are ending are counted");
    }
}

impl Lessor {
    /// This replica leads from `now` on: every lease has all its time again, or what a checkpoint
    /// left of it, and `extension` milliseconds more. What it is told as the time may be `slack`
    /// milliseconds behind.
    ///
    /// # Cost
    /// None that grows with the leases: [`Self::settle`] gives them their places.
    pub fn promote(&mut self, now: Tick, extension: u64, slack: u64, checkpoints: bool) {
        self.epoch = self.epoch.checked_add(1).expect("fewer than 2^32 leaderships");
        self.lead = Some(Lead {
            since: now,
            extension,
            slack,
            next: Some(LeaseId(i64::MIN)),
            queue: BTreeSet::new(),
            ending: 0,
            checkpoints,
        });
    }

    /// This replica leads no more: nothing ends until one does.
    pub fn demote(&mut self) {
        self.lead = None;
    }

    /// Whether this replica leads.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        self.lead.is_some()
    }

    /// Gives about `budget` leases that were there before this replica led their places among the
    /// others; whether some are left. One without a place does not end.
    pub fn settle(&mut self, budget: usize) -> bool {
        let Some(lead) = &mut self.lead else { return false };
        let Some(next) = lead.next else { return false };
        let mut rest = self.leases.range_mut((Bound::Included(next), Bound::Unbounded));
        for (id, lease) in rest.by_ref().take(budget) {
            if lease.timer.epoch != self.epoch {
                let deadline = lead.deadline(lease);
                lead.put(*id, lease, deadline, self.epoch);
            }
        }
        lead.next = rest.next().map(|(id, _)| *id);
        lead.next.is_some()
    }

    /// Milliseconds that are left of a lease at `now`; none if there is no such lease.
    ///
    /// # Panics
    /// Unless this replica leads.
    #[must_use]
    pub fn left(&self, id: LeaseId, now: Tick) -> Option<u64> {
        let lead = self.lead.as_ref().expect("only a leader knows");
        let lease = self.leases.get(&id)?;
        let is_known = lease.timer.epoch == self.epoch;
        let deadline = if is_known { lease.timer.deadline } else { lead.deadline(lease) };
        Some(lead.left(deadline, now))
    }

    /// Renews a lease at `now`, if it may be.
    ///
    /// # Panics
    /// Unless this replica leads.
    pub fn renew(&mut self, id: LeaseId, now: Tick) -> Renewal {
        let lead = self.lead.as_mut().expect("only a leader renews");
        let Some(lease) = self.leases.get_mut(&id) else { return Renewal::Unknown };
        if lease.timer.epoch != self.epoch {
            let deadline = lead.deadline(lease);
            lead.put(id, lease, deadline, self.epoch);
        }
        let timer = &mut lease.timer;
        if timer.is_ending || timer.deadline <= now {
            return Renewal::Ended;
        }
        if timer.pending > 0 && timer.is_reset {
            return Renewal::Pending;
        }
        if timer.pending > 0 || lease.remaining > 0 {
            return Renewal::Reset(Grant { id, born: lease.born });
        }
        timer.deadline = timer.deadline.max(lead.lasting(now, lease.ttl));
        Renewal::Renewed(lease.ttl)
    }

    /// A checkpoint that [`Renewal::Reset`] asked for is proposed.
    pub fn resetting(&mut self, grant: Grant) {
        if let Some(lease) = self.find(grant) {
            lease.timer.pending = lease.timer.pending.saturating_add(1);
            lease.timer.is_reset = true;
        }
    }

    /// A slice of what is due at `now`: it is taken as proposed. Ended leases that are still there
    /// after a while are named again.
    ///
    /// # Shape
    /// Bounded in leases, in keys of those that have ended (one lease may have more), and in leases
    /// that were named and are still there.
    pub fn due(&mut self, now: Tick) -> Due {
        let mut due = Due::default();
        let Some(lead) = &mut self.lead else { return due };
        let (mut steps, mut keys) = (0, 0);
        while let Some(&(place, id)) = lead.queue.first().filter(|first| first.0 <= now) {
            if steps == STEP_LEASES
                || due.ended.len() == DUE_LEASES
                || due.checkpoints.len() == DUE_LEASES
                || keys >= DUE_KEYS
            {
                due.is_more = true;
                break;
            }
            let lease = self.leases.get_mut(&id).expect("only leases have places");
            let is_new = lease.timer.deadline <= now && !lease.timer.is_ending;
            if is_new && lead.ending >= ENDING_MAX {
                due.is_more = true;
                break;
            }
            steps += 1;
            lead.queue.remove(&(place, id));
            let grant = Grant { id, born: lease.born };
            lease.timer.place = if lease.timer.deadline <= now && place < lease.timer.deadline {
                // It was renewed since it was put here: others may have ended before it.
                lease.timer.deadline
            } else if lease.timer.deadline <= now {
                lead.ending += usize::from(is_new);
                lease.timer.is_ending = true;
                keys += lease.keys.len();
                due.ended.push(grant);
                after(now, RETRY_INTERVAL)
            } else if lead.place(lease) <= now {
                if lease.timer.pending == 0 {
                    lease.timer.pending = 1;
                    lease.timer.is_reset = false;
                    let left = lead.left(lease.timer.deadline, now).div_ceil(1000).max(1);
                    due.checkpoints.push((grant, i64::try_from(left).unwrap_or(i64::MAX)));
                }
                after(now, CHECKPOINT_INTERVAL).min(lease.timer.deadline)
            } else {
                lead.place(lease)
            };
            lead.queue.insert((lease.timer.place, id));
        }
        due
    }

    /// What [`Self::due`] named was not proposed after all: it is due still.
    pub fn put_back(&mut self, due: &Due) {
        let ended = due.ended.iter().map(|grant| (grant, true));
        let checkpoints = due.checkpoints.iter().map(|(grant, _)| (grant, false));
        for (grant, is_ended) in ended.chain(checkpoints) {
            let Some(lead) = &mut self.lead else { return };
            let lease = self.leases.get_mut(&grant.id).expect("it was named in this turn");
            lead.remove(grant.id, lease, self.epoch);
            if is_ended {
                lease.timer.is_ending = false;
            } else {
                lease.timer.pending = 0;
            }
            lease.timer.place = lead.place(lease);
            lead.queue.insert((lease.timer.place, grant.id));
        }
    }
}

/// Milliseconds of as many seconds.
fn seconds(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0).saturating_mul(1000)
}

fn after(tick: Tick, milliseconds: u64) -> Tick {
    Tick(tick.0.saturating_add(milliseconds))
}

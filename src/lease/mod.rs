//! Leases: which there are, which keys hang on them, and when they end.
//!
//! A lease lives for as many seconds as it was granted, and anew for as many each time that it is
//! renewed. Keys hang on it, each on one lease at most, and are deleted with it. What is the same
//! on every replica is the table: each lease with its time to live, what a checkpoint said was left
//! of that, and its keys. When a lease ends only the leader knows: its deadlines are never logged
//! but follow from the table, from the moment it began to lead, and from the renewals since.
//!
//! A new leader gives each lease all of its time again, or what the last checkpoint left of it, and
//! a little more: it cannot know when the last renewal was. So leases end late and never early.
//!
//! A lease that has ended stays in the table until an entry of the log removes it; meanwhile it
//! cannot be renewed. Entries that remove or shorten a lease on a leader's behalf name the entry
//! that granted it as well, so that one that comes late never meets another lease of the same name.
//!
//! Nothing here reads a clock or deletes a key: the owner tells the time, and proposes what
//! [`Lessor::due`] names.
//!
//! # Source
//! etcd: `server/lease/lessor.go`. There every deadline is in a heap from which a tick takes 500,
//! and keys lie in hashed sets.

mod codec;
mod keys;
mod lead;

pub use codec::LEASE_SIZE_MAX;
pub use keys::Keys;
pub use lead::Due;
pub use lead::Renewal;

use crate::lease::lead::Lead;
use crate::lease::lead::Timer;
use crate::types::LeaseId;
use crate::types::LogIndex;
use crate::types::Tick;
use std::collections::BTreeMap;

/// Most seconds that a lease may be granted, as in etcd.
pub const TTL_MAX: i64 = 9_000_000_000;

/// How leases behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Seconds that a lease lives at least, 2 by default; what is granted for less gets this.
    pub ttl_min: i64,
    /// Whether what is left of long leases is logged now and then; off by default, as in etcd.
    pub checkpoints: bool,
    /// Leases at a time, 8 million by default: their table is part of what a seal writes, and with
    /// them about a gigabyte of memory.
    pub count_max: usize,
}

impl Config {
    /// Most that [`Self::count_max`] may be.
    pub const COUNT_MAX: usize = 8_000_000;
}

impl Default for Config {
    fn default() -> Self {
        Self { ttl_min: 2, checkpoints: false, count_max: Self::COUNT_MAX }
    }
}

/// A deterministic answer that is not yes; every replica gives it alike.
///
/// The text is etcd's, and is part of its API: clients compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no lease of this id.
    #[error("etcdserver: requested lease not found")]
    NotFound,
    /// There is a lease of this id already.
    #[error("etcdserver: lease already exists")]
    Exists,
    /// Nobody may have a lease for so long.
    #[error("etcdserver: too large lease TTL")]
    TtlTooLarge,
}

/// A lease, told apart from an earlier one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Its id.
    pub id: LeaseId,
    /// The entry that granted it.
    pub born: LogIndex,
}

/// What is known of one lease.
#[derive(Debug)]
struct Lease {
    born: LogIndex,
    /// Seconds; `1..=TTL_MAX`.
    ttl: i64,
    /// Seconds that were left by the last checkpoint, `1..ttl`; 0 without one since the last
    /// renewal.
    remaining: i64,
    keys: Keys,
    /// Means something to the leader alone.
    timer: Timer,
}

impl Lease {
    /// Seconds that a new leader gives it.
    fn lasting(&self) -> i64 {
        if self.remaining > 0 { self.remaining } else { self.ttl }
    }
}

/// All leases of a keyspace.
///
/// # Cost
/// About 140 bytes a lease while leading, 120 otherwise; a lease's only key takes its own size and
/// 16 bytes, each of many as much and a place in a tree.
#[derive(Debug, Default)]
pub struct Lessor {
    leases: BTreeMap<LeaseId, Lease>,
    /// Keys of all leases.
    key_count: usize,
    /// How often this process began to lead.
    epoch: u32,
    lead: Option<Lead>,
}

impl Lessor {
    /// No lease.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Whether there is a lease of this id, ended or not.
    #[must_use]
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// All ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = LeaseId> {
        self.leases.keys().copied()
    }

    /// The seconds that a lease was granted, and its keys.
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<(i64, &Keys)> {
        self.leases.get(&id).map(|lease| (lease.ttl, &lease.keys))
    }

    /// Whether a key hangs on any lease.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.key_count > 0
    }

    /// Grants a lease at `now`, by the entry at `born`.
    ///
    /// # Errors
    /// [`Refusal::TtlTooLarge`], [`Refusal::Exists`], in this order, as in etcd.
    ///
    /// # Panics
    /// If the id is 0, or `ttl` below 1: no such grant is logged.
    pub fn grant(&mut self, grant: Grant, ttl: i64, now: Tick) -> Result<(), Refusal> {
        assert!(grant.id != LeaseId(0) && ttl >= 1, "a lease has an id and lasts");
        if ttl > TTL_MAX {
            return Err(Refusal::TtlTooLarge);
        }
        if self.contains(grant.id) {
            return Err(Refusal::Exists);
        }
        let (keys, timer) = (Keys::None, Timer::default());
        let mut lease = Lease { born: grant.born, ttl, remaining: 0, keys, timer };
        if let Some(lead) = &mut self.lead {
            lead.grant(grant.id, &mut lease, self.epoch, now);
        }
        self.leases.insert(grant.id, lease);
        Ok(())
    }

    /// Removes a lease; its keys, for whoever deletes them.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn revoke(&mut self, id: LeaseId) -> Result<Keys, Refusal> {
        let lease = self.leases.remove(&id).ok_or(Refusal::NotFound)?;
        if let Some(lead) = &mut self.lead {
            lead.remove(id, &lease, self.epoch);
        }
        self.key_count -= lease.keys.len();
        Ok(lease.keys)
    }

    /// Removes a lease that its leader found ended, unless it is gone already; its keys.
    pub fn expire(&mut self, grant: Grant) -> Option<Keys> {
        self.find(grant)?;
        self.revoke(grant.id).ok()
    }

    /// Notes that `remaining` seconds are left of a lease, unless it is gone; 0, or all of them, is
    /// that it was renewed.
    pub fn checkpoint(&mut self, grant: Grant, remaining: i64) {
        let epoch = self.epoch;
        if let Some(lease) = self.find(grant) {
            lease.remaining = if (1..lease.ttl).contains(&remaining) { remaining } else { 0 };
            lease.timer.checkpointed(epoch);
        }
    }

    fn find(&mut self, grant: Grant) -> Option<&mut Lease> {
        self.leases.get_mut(&grant.id).filter(|lease| lease.born == grant.born)
    }

    /// A key that hung on `from` hangs on `to` now; 0 is no lease, and so is `from` if it is gone.
    ///
    /// # Panics
    /// If there is no lease `to`.
    ///
    /// # Cost
    /// Nothing if both are one lease. Else a way down the leases and one down each one's keys.
    pub fn attach(&mut self, key: &[u8], from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from)
            && lease.keys.remove(key)
        {
            self.key_count -= 1;
        }
        if to != LeaseId(0) {
            let lease = self.leases.get_mut(&to).expect("a key is attached to a lease there is");
            if lease.keys.insert(key) {
                self.key_count += 1;
            }
        }
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    ///
    /// # Cost
    /// Visits everything.
    pub fn check_all(&self) {
        let mut keys = 0;
        for (id, lease) in &self.leases {
            assert!(*id != LeaseId(0), "0 is no lease");
            assert!((1..=TTL_MAX).contains(&lease.ttl), "a time to live is within its bounds");
            assert!((0..lease.ttl).contains(&lease.remaining), "what is left is less than all");
            lease.keys.check();
            keys += lease.keys.len();
        }
        assert!(keys == self.key_count, "every key is counted");
        if let Some(lead) = &self.lead {
            lead.check(&self.leases, self.epoch);
        }
    }
}

#[cfg(test)]
mod tests;

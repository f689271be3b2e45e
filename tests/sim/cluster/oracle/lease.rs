//! Leases: none ends before its time is over since it was last granted or renewed, and all end at
//! last.

use ringd::shard::Shard;
use ringd::types::{LeaseId, LogIndex};
use std::collections::BTreeMap;

/// One lease.
#[derive(Debug)]
struct Lease {
    ttl: u64,
    /// Who has applied this entry knows of it.
    born: LogIndex,
    /// When the last grant or renewal was asked for that was answered.
    since: u64,
    /// Somebody has asked to revoke it.
    is_revoked: bool,
    /// It is seen to be gone.
    is_gone: bool,
}

/// All leases that clients were granted.
#[derive(Debug, Default)]
pub(in super::super) struct Leases {
    leases: BTreeMap<i64, Lease>,
    pub(in super::super) ended: u64,
    pub(in super::super) renewed: u64,
}

/// How much faster than it should a clock may go, in thousandths.
pub(in super::super) const DRIFT_MAX: u64 = 30;
/// What a node's last look at its clock may be late, and what its deadlines are rounded by.
const SLACK: u64 = 60;

impl Leases {
    /// One was granted, for so many seconds.
    pub(in super::super) fn granted(&mut self, id: i64, ttl: i64, asked: u64, born: LogIndex) {
        let ttl = u64::try_from(ttl).expect("a time to live") * 1000;
        let (is_revoked, is_gone) = (false, false);
        self.leases.insert(id, Lease { ttl, born, since: asked, is_revoked, is_gone });
    }

    /// A client was told that one lives on.
    pub(in super::super) fn renewed(&mut self, id: i64, asked: u64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            self.renewed += 1;
            lease.since = lease.since.max(asked);
        }
    }

    /// Somebody asks to revoke one.
    pub(in super::super) fn revoke(&mut self, id: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.is_revoked = true;
        }
    }

    /// Those that are granted and not revoked.
    pub(in super::super) fn live(&self) -> Vec<i64> {
        let live = self.leases.iter().filter(|it| !it.1.is_revoked && !it.1.is_gone);
        live.map(|it| *it.0).collect()
    }

    /// Looks at a node: what it has known and knows no more is gone.
    ///
    /// # Errors
    /// One has ended before its time.
    pub(in super::super) fn look(&mut self, now: u64, shard: &Shard) -> Result<(), String> {
        for (id, lease) in self.leases.iter_mut().filter(|it| !it.1.is_gone) {
            if shard.applied() < lease.born || shard.lessor().contains(LeaseId(*id)) {
                continue;
            }
            lease.is_gone = true;
            if lease.is_revoked {
                continue;
            }
            self.ended += 1;
            let least = lease.ttl * 1000 / (1000 + DRIFT_MAX);
            if now + SLACK < lease.since + least {
                return Err(format!("lease {id} ended at {now}: {lease:?}"));
            }
        }
        Ok(())
    }

    /// The milliseconds after which all have ended.
    pub(in super::super) fn longest(&self) -> u64 {
        self.leases.values().map(|lease| lease.ttl).max().unwrap_or(0)
    }
}

//! Random calls about leases. Those that stay are of hours, so that none ends by itself meanwhile.

use super::{Generator, Op};
use ringd::api::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
};

/// Ids of leases: few, so that most are there, and some are asked for that are not.
const IDS: [i64; 8] = [1, 2, 3, 77, -1, -77, i64::MIN, i64::MAX];
/// Seconds that leases which stay are granted for: none of them passes within a test.
const LONG_TTLS: [i64; 4] = [100_000, 1 << 31, 8_999_999_999, 9_000_000_000];
/// Seconds that others are granted for, or not.
const ODD_TTLS: [i64; 10] = [0, 1, 2, 3, 60, -1, i64::MIN, 9_000_000_000, 9_000_000_001, i64::MAX];

impl Generator {
    /// A call about leases.
    pub(super) fn lease(&mut self) -> Op {
        match self.dice.below(100) {
            0..30 => Op::Grant(LeaseGrantRequest {
                ttl: self.dice.pick(&LONG_TTLS),
                id: self.dice.pick(&IDS),
            }),
            30..45 => Op::Revoke(LeaseRevokeRequest { id: self.lease_id() }),
            45..60 => {
                let count = self.dice.pick(&[1, 1, 1, 2, 5]);
                Op::KeepAlive((0..count).map(|_| self.lease_id()).collect())
            }
            60..80 => Op::TimeToLive(LeaseTimeToLiveRequest {
                id: self.lease_id(),
                keys: self.dice.chance(80),
            }),
            80..88 => Op::Leases,
            _ => Op::Brief(LeaseGrantRequest {
                ttl: self.dice.pick(&ODD_TTLS),
                id: if self.dice.chance(60) { 0 } else { self.dice.pick(&IDS) },
            }),
        }
    }

    /// The id of a lease that is there, mostly.
    pub(super) fn lease_id(&mut self) -> i64 {
        let known: Vec<_> = self.leases.iter().copied().collect();
        if known.is_empty() || self.dice.chance(15) {
            return if self.dice.chance(10) { 0 } else { self.dice.pick(&IDS) };
        }
        self.dice.pick(&known)
    }
}

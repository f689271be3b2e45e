//! The table of leases as bytes, for whoever keeps it.
//!
//! Numbers are of seven bits a byte, the lowest first; the top bit says that another byte follows.
//! First comes how many leases there are, then each by its id, ascending:
//!
//! | field | value |
//! |-----------|--------------------------------------------------------------------------|
//! | step | how much the id is above the one before; the first, above the lowest there is |
//! | born | the entry that granted it |
//! | ttl | seconds that it was granted |
//! | remaining | seconds that were left by the last checkpoint; 0 without one |
//!
//! Keys are not here: who keeps them knows which hang on which lease.

use crate::lease::Keys;
use crate::lease::Lease;
use crate::lease::Lessor;
use crate::lease::TTL_MAX;
use crate::lease::lead::Timer;
use crate::types::LeaseId;
use crate::types::LogIndex;
use std::collections::BTreeMap;

/// Bytes that a lease takes at most.
pub const LEASE_SIZE_MAX: usize = 10 + 9 + 5 + 5;
/// Bytes that a lease takes at least.
const LEASE_SIZE_MIN: usize = 4;
/// Bytes of the longest number.
const NUMBER_SIZE_MAX: usize = 10;
/// Highest entry believed, as the log's own.
const BORN_MAX: u64 = 1 << 62;

const _: () = assert!(TTL_MAX < 1 << (5 * 7), "a time to live takes five bytes");
const _: () = assert!(BORN_MAX < 1 << (9 * 7), "an entry's number takes nine bytes");

impl Lessor {
    /// Appends the table, keys and deadlines apart, to `out`.
    ///
    /// # Cost
    /// Visits every lease: a million takes some 20 ms.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push(out, u64::try_from(self.leases.len()).expect("usize has 64 bits"));
        let mut previous = LeaseId(i64::MIN);
        for (id, lease) in &self.leases {
            push(out, id.0.abs_diff(previous.0));
            push(out, lease.born.0);
            push(out, lease.ttl.cast_unsigned());
            push(out, lease.remaining.cast_unsigned());
            previous = *id;
        }
    }

    /// The table that fills `bytes`; none if they are none.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let count = usize::try_from(take(&mut bytes)?).ok()?;
        if count > bytes.len() / LEASE_SIZE_MIN {
            return None;
        }
        let (mut leases, mut previous) = (Vec::with_capacity(count), LeaseId(i64::MIN));
        for nth in 0..count {
            let step = take(&mut bytes)?;
            let id = LeaseId(previous.0.checked_add_unsigned(step)?);
            let born = LogIndex(take(&mut bytes)?);
            let ttl = i64::try_from(take(&mut bytes)?).ok()?;
            let remaining = i64::try_from(take(&mut bytes)?).ok()?;
            let is_sound = (nth == 0 || step > 0)
                && id != LeaseId(0)
                && born.0 <= BORN_MAX
                && (1..=TTL_MAX).contains(&ttl)
                && (0..ttl).contains(&remaining);
            if !is_sound {
                return None;
            }
            let (keys, timer) = (Keys::None, Timer::default());
            leases.push((id, Lease { born, ttl, remaining, keys, timer }));
            previous = id;
        }
        let leases = BTreeMap::from_iter(leases);
        bytes.is_empty().then(|| Self { leases, ..Self::default() })
    }
}

/// Appends a number.
fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// Takes the number that `bytes` begin with.
fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (nth, &byte) in bytes.iter().enumerate().take(NUMBER_SIZE_MAX) {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * nth);
        if shifted >> (7 * nth) != bits {
            return None;
        }
        value |= shifted;
        if byte < 0x80 {
            *bytes = &bytes[nth + 1..];
            return Some(value);
        }
    }
    None
}

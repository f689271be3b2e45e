//! Records and entries: one change of a key, with its value and without.

use super::format::BLOCK_HEADER_SIZE;
use super::format::NUMBER_MAX;
use super::format::RECORD_HEADER_SIZE;
use super::format::{revision, usize_from};
use crate::frame::{u32_at, u64_at};
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Location;
use crate::types::Revision;

const STEP_HAS_SUB: u64 = 1;
const STEP_HAS_LEASE: u64 = 2;
const STEP_BITS: u32 = 2;

/// A change of a key, borrowed from where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangeRef<'a> {
    /// Where it lies in the order of all changes.
    pub location: Location,
    /// The key.
    pub key: &'a [u8],
    /// What the key holds from here on.
    pub value: &'a [u8],
    /// The lease the key is attached to; 0 is none.
    pub lease: LeaseId,
    /// The revision that began the key's present life.
    pub created: Revision,
    /// Puts since the creation, this one included; 0 is a tombstone.
    pub version: i64,
}

impl<'a> From<&'a Change> for ChangeRef<'a> {
    fn from(change: &'a Change) -> Self {
        Self {
            location: change.location,
            key: &change.key,
            value: &change.value,
            lease: change.lease,
            created: change.created,
            version: change.version,
        }
    }
}

impl<'a> ChangeRef<'a> {
    /// Whether it is the end of a key's life.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// Bytes of its record.
    #[must_use]
    pub fn record_size(&self) -> usize {
        RECORD_HEADER_SIZE + self.key.len() + self.value.len()
    }

    /// Whether it is one that a record can hold.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        let is_sound = if self.version == 0 {
            self.created.0 == 0 && self.lease.0 == 0 && self.value.is_empty()
        } else {
            self.version > 0 && (1..=self.location.main.0).contains(&self.created.0)
        };
        is_sound
            && self.location.main.0 > 0
            && self.location.main.0.cast_unsigned() <= NUMBER_MAX
            && self.version.cast_unsigned() <= NUMBER_MAX
    }

    /// Appends the record to `bytes`.
    ///
    /// # Panics
    /// If the key is 4 GiB or more.
    pub fn encode_record(&self, bytes: &mut Vec<u8>) {
        let key_size = u32::try_from(self.key.len()).expect("a key is less than 4 GiB");
        let mut header = [0; RECORD_HEADER_SIZE];
        header[0..8].copy_from_slice(&self.location.main.0.to_le_bytes());
        header[8..12].copy_from_slice(&self.location.sub.to_le_bytes());
        header[12..16].copy_from_slice(&key_size.to_le_bytes());
        header[16..24].copy_from_slice(&self.created.0.to_le_bytes());
        header[24..32].copy_from_slice(&self.version.to_le_bytes());
        header[32..40].copy_from_slice(&self.lease.0.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(self.key);
        bytes.extend_from_slice(self.value);
    }

    /// Reads the record that fills `bytes`; `None` if they are none.
    #[must_use]
    pub fn decode_record(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_at_checked(RECORD_HEADER_SIZE)?;
        let (key, value) = rest.split_at_checked(usize_from(u32_at(header, 12)))?;
        let change = Self {
            location: Location { main: revision(u64_at(header, 0))?, sub: u32_at(header, 8) },
            key,
            value,
            lease: LeaseId(u64_at(header, 32).cast_signed()),
            created: revision(u64_at(header, 16))?,
            version: u64_at(header, 24).cast_signed(),
        };
        change.is_possible().then_some(change)
    }

    /// Appends the entry to `bytes`, behind one of revision `previous`.
    ///
    /// # Panics
    /// If the change is not possible, or of an earlier revision than `previous`.
    pub fn encode_entry(&self, previous: Revision, bytes: &mut Vec<u8>) {
        assert!(self.is_possible() && previous <= self.location.main, "changes come in order");
        let step = (self.location.main.0 - previous.0).cast_unsigned() << STEP_BITS;
        let sub = if self.location.sub == 0 { 0 } else { STEP_HAS_SUB };
        let lease = if self.lease.0 == 0 { 0 } else { STEP_HAS_LEASE };
        push_number(bytes, step | sub | lease);
        if sub != 0 {
            push_number(bytes, u64::from(self.location.sub));
        }
        push_number(bytes, self.version.cast_unsigned());
        if !self.is_tombstone() {
            push_number(bytes, (self.location.main.0 - self.created.0).cast_unsigned());
        }
        if lease != 0 {
            push_number(bytes, self.lease.0.cast_unsigned());
        }
        push_number(bytes, self.key.len() as u64);
        if !self.is_tombstone() {
            push_number(bytes, self.value.len() as u64);
        }
        bytes.extend_from_slice(self.key);
    }
}

/// A record as a directory lists it: all of it but its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Where it lies in the order of all changes.
    pub location: Location,
    /// The key.
    pub key: &'a [u8],
    /// The revision that began the key's present life; 0 in a tombstone.
    pub created: Revision,
    /// Puts since the creation, this one included; 0 is a tombstone.
    pub version: i64,
    /// The lease the key is attached to; 0 is none.
    pub lease: LeaseId,
    /// Bytes of the record.
    pub size: u32,
}

/// Bytes of a page that are still to be read.
#[derive(Clone, Copy, Debug)]
pub struct Rest<'a> {
    bytes: &'a [u8],
}

impl<'a> Rest<'a> {
    /// All of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The next `size` bytes, if there are as many.
    pub fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(size)?;
        self.bytes = rest;
        Some(taken)
    }

    /// The next number.
    pub fn number(&mut self) -> Option<u64> {
        let (&first, rest) = self.bytes.split_first()?;
        if first < 0x80 {
            self.bytes = rest;
            return Some(u64::from(first));
        }
        let mut value = 0;
        for (nth, &byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << (7 * nth);
            if shifted >> (7 * nth) != bits {
                return None;
            }
            value |= shifted;
            if byte < 0x80 {
                self.bytes = &self.bytes[nth + 1..];
                return Some(value);
            }
        }
        None
    }

    /// The next block header: how many records, how many bytes of data, and their checksum.
    pub fn block(&mut self) -> Option<(u32, u32, u32)> {
        let header = self.take(BLOCK_HEADER_SIZE)?;
        Some((u32_at(header, 0), u32_at(header, 4), u32_at(header, 8)))
    }

    /// The next entry, behind one of revision `previous`.
    pub fn entry(&mut self, previous: Revision) -> Option<Listed<'a>> {
        let step = self.number()?;
        let main = previous.0.checked_add((step >> STEP_BITS).cast_signed())?;
        let sub = if step & STEP_HAS_SUB == 0 { 0 } else { u32::try_from(self.number()?).ok()? };
        let version = i64::try_from(self.number()?).ok()?;
        let is_put = version != 0;
        let created =
            if is_put { main.checked_sub(i64::try_from(self.number()?).ok()?)? } else { 0 };
        let lease = if step & STEP_HAS_LEASE == 0 { 0 } else { self.number()? };
        let key_size = usize::try_from(self.number()?).ok()?;
        let value_size = if is_put { u32::try_from(self.number()?).ok()? } else { 0 };
        let key = self.take(key_size)?;
        let size = u32::try_from(RECORD_HEADER_SIZE + key_size).ok()?.checked_add(value_size)?;
        let (location, created) = (Location { main: Revision(main), sub }, Revision(created));
        let lease = LeaseId(lease.cast_signed());
        let change = ChangeRef { location, key, value: &[], lease, created, version };
        change.is_possible().then_some(Listed { location, key, created, version, lease, size })
    }
}

/// Appends a block header.
pub(super) fn push_block(bytes: &mut Vec<u8>, records: u32, size: u32, crc: u32) {
    bytes.extend_from_slice(&records.to_le_bytes());
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// Appends a number of seven bits a byte.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

//! A disk in memory: files, sectors, and what a crash makes of them.
//!
//! # The fault model
//!
//! May happen:
//! - a write that was begun and not completed lands in any subset of its sectors, whichever the
//!   caller chooses, in any order with other such writes (*torn*, *lost*, *reordered*);
//! - a file that was being made is left absent, shorter, or full of whatever was written so far;
//! - a rename or removal that was not completed has happened or not;
//! - a bit flips at rest, anywhere (*flipped*);
//! - a completed write is not there after all, sector by sector (*lied about*).
//!
//! May not happen: a sector of 512 bytes written in part; a completed write lost, unless the caller
//! asks for the lie; a write landing after the crash, or elsewhere than asked.

#![allow(dead_code, reason = "each of its users needs another part of it")]

use std::collections::BTreeMap;
use std::fmt;

/// Bytes that are written whole or not at all.
pub(crate) const SECTOR_SIZE: usize = 512;

/// A write on its way.
#[derive(Clone, Debug)]
struct Write {
    name: String,
    offset: usize,
    bytes: Vec<u8>,
}

/// A directory of files. What is in `files` is durable.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, Vec<u8>>,
    in_flight: BTreeMap<u64, Write>,
    writes: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} in flight", self.list(), self.in_flight.len())
    }
}

impl Disk {
    /// Name and size of every file.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        self.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect()
    }

    /// The bytes of a file, none if it does not exist.
    pub(crate) fn file(&self, name: &str) -> &[u8] {
        self.files.get(name).map_or(&[], |bytes| bytes)
    }

    /// The bytes of a file, to be spoilt.
    pub(crate) fn file_mut(&mut self, name: &str) -> &mut Vec<u8> {
        self.files.get_mut(name).expect("the file exists")
    }

    /// As much as there is of `size` bytes at `offset`.
    pub(crate) fn read(&self, name: &str, offset: u64, size: usize) -> &[u8] {
        let bytes = self.file(name);
        let start = usize::try_from(offset).expect("64 bits").min(bytes.len());
        &bytes[start..(start + size).min(bytes.len())]
    }

    /// Makes or replaces a file, durably.
    pub(crate) fn create(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), bytes);
    }

    /// Renames a file, durably.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let bytes = self.files.remove(from).expect("the file exists");
        assert!(self.files.insert(to.to_owned(), bytes).is_none(), "no file is replaced");
    }

    /// Removes a file, durably.
    pub(crate) fn remove(&mut self, name: &str) {
        self.files.remove(name).expect("the file exists");
    }

    /// Begins a write of whole sectors within a file; the result names it.
    pub(crate) fn begin(&mut self, name: &str, offset: u64, bytes: Vec<u8>) -> u64 {
        let offset = usize::try_from(offset).expect("64 bits");
        assert!(offset.is_multiple_of(SECTOR_SIZE) && bytes.len().is_multiple_of(SECTOR_SIZE));
        assert!(offset + bytes.len() <= self.file(name).len(), "a file is never extended");
        self.writes += 1;
        self.in_flight.insert(self.writes, Write { name: name.to_owned(), offset, bytes });
        self.writes
    }

    /// Completes a write: it is durable.
    pub(crate) fn complete(&mut self, write: u64) {
        let write = self.in_flight.remove(&write).expect("the write is in flight");
        self.land(&write, |_| true);
    }

    /// Sectors of all writes in flight.
    pub(crate) fn sectors_in_flight(&self) -> usize {
        self.in_flight.values().map(|write| write.bytes.len() / SECTOR_SIZE).sum()
    }

    /// The power goes: of the sectors in flight, counted from 0 over all writes in the order they
    /// were begun, those land that `lands` says.
    pub(crate) fn crash(&mut self, mut lands: impl FnMut(usize) -> bool) {
        let mut counted = 0;
        for write in std::mem::take(&mut self.in_flight).into_values() {
            self.land(&write, |nth| lands(counted + nth));
            counted += write.bytes.len() / SECTOR_SIZE;
        }
    }

    /// Flips one bit of a file.
    pub(crate) fn flip(&mut self, name: &str, bit: usize) {
        self.file_mut(name)[bit / 8] ^= 1 << (bit % 8);
    }

    fn land(&mut self, write: &Write, mut lands: impl FnMut(usize) -> bool) {
        let file = self.files.get_mut(&write.name).expect("a file written to stays");
        for (nth, sector) in write.bytes.chunks_exact(SECTOR_SIZE).enumerate() {
            if lands(nth) {
                let at = write.offset + nth * SECTOR_SIZE;
                file[at..at + SECTOR_SIZE].copy_from_slice(sector);
            }
        }
    }
}

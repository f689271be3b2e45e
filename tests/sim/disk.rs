//! A disk in memory: files, sectors, and what a crash makes of them.
//!
//! # The fault model
//!
//! May happen:
//! - a write that was begun and not completed lands in any subset of its sectors, whichever the
//!   caller chooses, in any order with other such writes (*torn*, *lost*, *reordered*);
//! - a file that was being made is left absent, shorter, or full of whatever was written so far;
//! - a rename or removal that was not completed has happened or not;
//! - after the end of a process, what it had begun can be read and is not durable: the next loss of
//!   power may take it back, sector by sector and name by name, until it is synced (*soft*);
//! - a bit flips at rest, anywhere (*flipped*);
//! - a completed write is not there after all, sector by sector (*lied about*).
//!
//! May not happen: a sector of 512 bytes written in part; a completed write lost, unless the caller
//! asks for the lie; a write landing after the crash, or elsewhere than asked.

#![allow(dead_code, reason = "each of its users needs another part of it")]

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Bytes that are written whole or not at all.
pub(crate) const SECTOR_SIZE: usize = 512;

/// A write on its way.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    name: String,
    offset: usize,
    bytes: Rc<Vec<u8>>,
}

/// A change of whole files on its way.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Make the file, or empty it, and fill it with zeros.
    Create { name: String, size: usize },
    /// Write the header, then rename.
    Activate { from: String, to: String, header: Vec<u8> },
    /// Rename, then write the header: the wrong way round.
    NameFirst { from: String, to: String, header: Vec<u8> },
    /// Rename.
    Rename { from: String, to: String },
    /// Remove.
    Remove { name: String },
    /// Make what can be read of the file durable.
    Sync { name: String },
}

/// A sector that can be read and is not durable, and what is.
#[derive(Clone, Debug)]
struct Soft {
    name: String,
    offset: usize,
    old: Vec<u8>,
}

/// How to take back a name that is not durable.
#[derive(Clone, Debug)]
enum Undo {
    Unmake(String),
    Rename { from: String, to: String },
    Restore(String, Rc<Vec<u8>>),
}

/// A directory of files. What is in `files` can be read, and is durable but for what is soft.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    files: BTreeMap<String, Rc<Vec<u8>>>,
    in_flight: BTreeMap<u64, Write>,
    writes: u64,
    change: Option<Change>,
    soft: Vec<Soft>,
    soft_name: Option<Undo>,
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
        Rc::make_mut(self.files.get_mut(name).expect("the file exists"))
    }

    /// As much as there is of `size` bytes at `offset`.
    pub(crate) fn read(&self, name: &str, offset: u64, size: usize) -> &[u8] {
        let bytes = self.file(name);
        let start = usize::try_from(offset).expect("64 bits").min(bytes.len());
        &bytes[start..(start + size).min(bytes.len())]
    }

    /// Makes or replaces a file, durably.
    pub(crate) fn create(&mut self, name: &str, bytes: Vec<u8>) {
        self.soft.retain(|soft| soft.name != name);
        self.files.insert(name.to_owned(), Rc::new(bytes));
    }

    /// Renames a file, durably.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        let bytes = self.files.remove(from).expect("the file exists");
        assert!(self.files.insert(to.to_owned(), bytes).is_none(), "no file is replaced");
        for soft in self.soft.iter_mut().filter(|soft| soft.name == from) {
            to.clone_into(&mut soft.name);
        }
    }

    /// Removes a file, durably.
    pub(crate) fn remove(&mut self, name: &str) {
        self.files.remove(name).expect("the file exists");
        self.soft.retain(|soft| soft.name != name);
    }

    /// Makes all names durable.
    pub(crate) fn sync_names(&mut self) {
        self.soft_name = None;
    }

    /// Begins a write of whole sectors within a file; the result names it.
    pub(crate) fn begin(&mut self, name: &str, offset: u64, bytes: Vec<u8>) -> u64 {
        let offset = usize::try_from(offset).expect("64 bits");
        assert!(offset.is_multiple_of(SECTOR_SIZE) && bytes.len().is_multiple_of(SECTOR_SIZE));
        assert!(offset + bytes.len() <= self.file(name).len(), "a file is never extended");
        self.writes += 1;
        let write = Write { name: name.to_owned(), offset, bytes: Rc::new(bytes) };
        self.in_flight.insert(self.writes, write);
        self.writes
    }

    /// Completes a write: it is durable.
    pub(crate) fn complete(&mut self, write: u64) {
        self.complete_part(write, |_| true);
    }

    /// Completes a write of which only the sectors land that `lands` says: the lie.
    pub(crate) fn complete_part(&mut self, write: u64, lands: impl FnMut(usize) -> bool) {
        let write = self.in_flight.remove(&write).expect("the write is in flight");
        self.land(&write, lands, false);
    }

    /// Moves a write on its way elsewhere by so many bytes, if there is room.
    pub(crate) fn misdirect(&mut self, write: u64, by: usize) {
        let write = self.in_flight.get_mut(&write).expect("the write is in flight");
        let size = self.files.get(&write.name).map_or(0, |bytes| bytes.len());
        if write.offset + by + write.bytes.len() <= size {
            write.offset += by;
        }
    }

    /// Takes the first write in flight away, to land later: the lie.
    pub(crate) fn hold_back(&mut self) -> Option<Write> {
        self.in_flight.pop_first().map(|(_, write)| write)
    }

    /// Lands a write that was held back.
    pub(crate) fn land_late(&mut self, write: &Write) {
        if self.files.contains_key(&write.name) {
            self.land(write, |_| true, false);
        }
    }

    /// Begins a change of whole files; there is one at a time.
    pub(crate) fn begin_change(&mut self, change: Change) {
        assert!(self.change.replace(change).is_none(), "one change at a time");
    }

    /// Whether a change of whole files is on its way.
    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// Completes the change of whole files: it is durable.
    pub(crate) fn complete_change(&mut self) {
        match self.change.take().expect("a change is under way") {
            Change::Create { name, size } => self.create(&name, vec![0; size]),
            Change::Activate { from, to, header } | Change::NameFirst { from, to, header } => {
                self.file_mut(&from)[..header.len()].copy_from_slice(&header);
                self.rename(&from, &to);
            }
            Change::Rename { from, to } => self.rename(&from, &to),
            Change::Remove { name } => self.remove(&name),
            Change::Sync { name } => {
                self.soft.retain(|soft| soft.name != name);
                return;
            }
        }
        self.soft_name = None;
    }

    /// Drops the change under way and does nothing of it: the lie.
    pub(crate) fn forget_change(&mut self) {
        self.change = None;
    }

    /// Sectors of all writes in flight.
    pub(crate) fn sectors_in_flight(&self) -> usize {
        self.in_flight.values().map(|write| write.bytes.len() / SECTOR_SIZE).sum()
    }

    /// Whether a crash now could leave more than one thing.
    pub(crate) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
            || self.change.is_some()
            || !self.soft.is_empty()
            || self.soft_name.is_some()
    }

    /// The power goes: of the sectors in flight, counted from 0 over all writes in the order they
    /// were begun, and after them of the soft ones, those are there that `lands` says.
    pub(crate) fn crash(&mut self, mut lands: impl FnMut(usize) -> bool) {
        let mut counted = 0;
        for write in std::mem::take(&mut self.in_flight).into_values() {
            self.land(&write, |nth| lands(counted + nth), false);
            counted += write.bytes.len() / SECTOR_SIZE;
        }
        for soft in std::mem::take(&mut self.soft) {
            if !lands(counted) {
                let range = soft.offset..soft.offset + soft.old.len();
                self.file_mut(&soft.name)[range].copy_from_slice(&soft.old);
            }
            counted += 1;
        }
    }

    /// The power goes, names and whole files included; `choose` gives a number below its argument.
    pub(crate) fn lose_power(&mut self, choose: &mut impl FnMut(u64) -> u64) {
        self.stop_change(choose);
        let bias = choose(4);
        self.crash(|_| if bias < 2 { bias == 1 } else { choose(2) == 0 });
        if let Some(undo) = self.soft_name.take()
            && choose(2) == 0
        {
            self.undo(undo);
        }
    }

    /// The process goes: what it had begun has been done or not, and is soft.
    pub(crate) fn lose_process(&mut self, choose: &mut impl FnMut(u64) -> u64) {
        self.soft_name = self.stop_change(choose);
        for write in std::mem::take(&mut self.in_flight).into_values() {
            let bias = choose(4);
            self.land(&write, |_| if bias < 2 { bias == 1 } else { choose(2) == 0 }, true);
        }
    }

    /// Flips one bit of a file.
    pub(crate) fn flip(&mut self, name: &str, bit: usize) {
        self.file_mut(name)[bit / 8] ^= 1 << (bit % 8);
    }

    /// Leaves the change under way anywhere in its course; how to take back its last step.
    fn stop_change(&mut self, choose: &mut impl FnMut(u64) -> u64) -> Option<Undo> {
        match self.change.take()? {
            Change::Create { name, size } => {
                let part = match choose(4) {
                    0 => return None,
                    1 => 0,
                    2 => {
                        let sectors = u64::try_from(size / SECTOR_SIZE).expect("64 bits");
                        usize::try_from(choose(sectors)).expect("64 bits") * SECTOR_SIZE
                    }
                    _ => size,
                };
                self.create(&name, vec![0; part]);
                Some(Undo::Unmake(name))
            }
            Change::Activate { from, to, header } => {
                let whole = choose(3) == 0;
                for (nth, sector) in header.chunks_exact(SECTOR_SIZE).enumerate() {
                    if whole || choose(2) == 0 {
                        let at = nth * SECTOR_SIZE;
                        self.file_mut(&from)[at..at + SECTOR_SIZE].copy_from_slice(sector);
                    }
                }
                if !whole || choose(2) == 0 {
                    return None;
                }
                self.rename(&from, &to);
                Some(Undo::Rename { from: to, to: from })
            }
            Change::Rename { from, to } | Change::NameFirst { from, to, .. } => {
                if choose(2) == 0 {
                    return None;
                }
                self.rename(&from, &to);
                Some(Undo::Rename { from: to, to: from })
            }
            Change::Remove { name } => {
                if choose(2) == 0 {
                    return None;
                }
                let bytes = self.files.get(&name).expect("the file exists").clone();
                self.remove(&name);
                Some(Undo::Restore(name, bytes))
            }
            Change::Sync { name } => {
                self.soft.retain(|soft| soft.name != name || choose(2) == 0);
                None
            }
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Unmake(name) => {
                if self.files.contains_key(&name) {
                    self.remove(&name);
                }
            }
            Undo::Rename { from, to } => {
                if self.files.contains_key(&from) && !self.files.contains_key(&to) {
                    self.rename(&from, &to);
                }
            }
            Undo::Restore(name, bytes) => {
                self.files.insert(name, bytes);
            }
        }
    }

    fn land(&mut self, write: &Write, mut lands: impl FnMut(usize) -> bool, soft: bool) {
        for (nth, sector) in write.bytes.chunks_exact(SECTOR_SIZE).enumerate() {
            if !lands(nth) {
                continue;
            }
            let offset = write.offset + nth * SECTOR_SIZE;
            let range = offset..offset + SECTOR_SIZE;
            let here = |known: &Soft| known.name == write.name && known.offset == offset;
            if !soft {
                self.soft.retain(|known| !here(known));
            } else if !self.soft.iter().any(here) {
                let old = self.file(&write.name)[range.clone()].to_vec();
                self.soft.push(Soft { name: write.name.clone(), offset, old });
            }
            let file = self.files.get_mut(&write.name).expect("a file written to stays");
            Rc::make_mut(file)[range].copy_from_slice(sector);
        }
    }
}

//! The directory of a store in memory: files that grow and are synced, and what a crash makes of
//! them.
//!
//! # The fault model
//!
//! May happen:
//! - until a file is synced, any of its sectors written since are there or not, whether or not the
//!   writes completed, and it is as long as any of them made it;
//! - a change of whole files that was begun stops after any of its steps, or within one;
//! - a name made, moved or removed and not yet synced is taken back by the next loss of power, each
//!   by itself; a rename is never seen half;
//! - after the end of a process, what it had begun can be read and is not durable;
//! - a bit flips at rest, anywhere.
//!
//! May not happen: a sector of 512 bytes written in part; what was synced lost, unless a planted
//! bug asks for the lie.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

/// Bytes that are written whole or not at all.
const SECTOR_SIZE: usize = 512;
/// Writes are whole blocks, at whole blocks.
const BLOCK_SIZE: usize = 4096;
/// The name of the file that says which others count.
const MANIFEST: &str = "manifest";
/// The name under which it is made.
const MANIFEST_NEW: &str = "manifest.new";

/// A change of whole files, as the driver does it step by step.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Make the file, or empty it.
    Create { name: String },
    /// Sync the file, rename it, sync the directory.
    Finish { from: String, to: String },
    /// Write all of the new manifest beside the old one, sync it, rename it, sync the directory.
    Replace { bytes: Vec<u8> },
    /// Remove the file.
    Remove { name: String },
}

/// One step of a change.
#[derive(Clone, Debug)]
enum Step {
    Make(String),
    Fill(String, Rc<Vec<u8>>),
    SyncFile(String),
    Rename(String, String),
    Unlink(String),
    SyncNames,
}

/// How a driver may leave out what makes a change safe; each is planted as a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// The file is not synced before it has its name.
    SyncFile,
    /// The directory is not synced afterwards.
    SyncNames,
    /// The new manifest is written over the old one, in its place.
    Beside,
}

/// What is done to a name, until the directory is synced.
#[derive(Clone, Debug)]
enum Naming {
    Make(String, u64),
    Rename(String, String, u64),
    Unlink(String),
}

/// The bytes of one file, whatever it is called.
#[derive(Clone, Default)]
struct Inode {
    /// What can be read.
    bytes: Rc<Vec<u8>>,
    /// What its size is at least after a loss of power.
    size_synced: usize,
    /// Sectors that are not durable, by number, and what is there if they are lost.
    soft: BTreeMap<usize, Rc<[u8]>>,
}

/// A write on its way.
#[derive(Clone)]
struct Write {
    inode: u64,
    offset: usize,
    bytes: Rc<Vec<u8>>,
}

/// A directory of files.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    inodes: BTreeMap<u64, Inode>,
    /// What can be read, by name.
    names: BTreeMap<String, u64>,
    /// What is durable, by name, and what was done since.
    names_synced: BTreeMap<String, u64>,
    namings: Vec<Naming>,
    in_flight: BTreeMap<u64, Write>,
    change: Option<Vec<Step>>,
    last: u64,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} in flight, {:?}", self.list(), self.in_flight.len(), self.change)
    }
}

impl Disk {
    /// Name and size of every file.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let size = |inode: &u64| self.inodes[inode].bytes.len() as u64;
        self.names.iter().map(|(name, inode)| (name.clone(), size(inode))).collect()
    }

    /// Bytes of all files together.
    pub(crate) fn size(&self) -> u64 {
        self.list().iter().map(|file| file.1).sum()
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// The bytes of a file, none if it does not exist.
    pub(crate) fn file(&self, name: &str) -> &[u8] {
        self.names.get(name).map_or(&[], |inode| &self.inodes[inode].bytes)
    }

    /// The bytes of a file, to be spoilt.
    pub(crate) fn file_mut(&mut self, name: &str) -> &mut Vec<u8> {
        let inode = self.names.get(name).expect("the file exists");
        Rc::make_mut(&mut self.inodes.get_mut(inode).expect("named").bytes)
    }

    /// As much as there is of `size` bytes at `offset`.
    pub(crate) fn read(&self, name: &str, offset: u64, size: usize) -> &[u8] {
        let bytes = self.file(name);
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        &bytes[start..start.saturating_add(size).min(bytes.len())]
    }

    /// Makes or replaces a file, durably: what a hand in the directory does.
    pub(crate) fn put(&mut self, name: &str, bytes: Vec<u8>) {
        self.last += 1;
        let size_synced = bytes.len();
        let inode = Inode { bytes: Rc::new(bytes), size_synced, soft: BTreeMap::new() };
        self.inodes.insert(self.last, inode);
        self.names.insert(name.to_owned(), self.last);
        self.names_synced.insert(name.to_owned(), self.last);
    }

    /// Takes a file away, durably: what a hand in the directory does.
    pub(crate) fn take(&mut self, name: &str) {
        self.names.remove(name).expect("the file exists");
        self.names_synced.remove(name);
    }

    /// Flips one bit of a file.
    pub(crate) fn flip(&mut self, name: &str, bit: u64) {
        let byte = usize::try_from(bit / 8).expect("64 bits");
        self.file_mut(name)[byte] ^= 1 << (bit % 8);
    }

    /// Begins a write of whole blocks to an unfinished file; the result names it.
    pub(crate) fn begin(&mut self, name: &str, offset: u64, bytes: Vec<u8>) -> u64 {
        let offset = usize::try_from(offset).expect("64 bits");
        assert!(offset.is_multiple_of(BLOCK_SIZE) && bytes.len().is_multiple_of(BLOCK_SIZE));
        let inode = *self.names.get(name).expect("a file that is written to was made");
        self.last += 1;
        self.in_flight.insert(self.last, Write { inode, offset, bytes: Rc::new(bytes) });
        self.last
    }

    /// Completes a write: it can be read, and is not durable.
    pub(crate) fn complete(&mut self, write: u64) {
        let write = self.in_flight.remove(&write).expect("the write is in flight");
        self.land(&write, |_| true);
    }

    /// Begins a change of whole files; there is one at a time.
    pub(crate) fn begin_change(&mut self, change: Change, skip: Option<Skip>) {
        assert!(self.change.is_none(), "one change at a time");
        let mut steps = match change {
            Change::Create { name } => vec![Step::Make(name)],
            Change::Finish { from, to } => {
                assert!(!self.has(&to), "no file is replaced: {to}");
                vec![Step::SyncFile(from.clone()), Step::Rename(from, to), Step::SyncNames]
            }
            Change::Replace { bytes } if skip == Some(Skip::Beside) && self.has(MANIFEST) => vec![
                Step::Fill(MANIFEST.to_owned(), Rc::new(bytes)),
                Step::SyncFile(MANIFEST.to_owned()),
            ],
            Change::Replace { bytes } => vec![
                Step::Make(MANIFEST_NEW.to_owned()),
                Step::Fill(MANIFEST_NEW.to_owned(), Rc::new(bytes)),
                Step::SyncFile(MANIFEST_NEW.to_owned()),
                Step::Rename(MANIFEST_NEW.to_owned(), MANIFEST.to_owned()),
                Step::SyncNames,
            ],
            Change::Remove { name } => vec![Step::Unlink(name)],
        };
        steps.retain(|step| match step {
            Step::SyncFile(_) => skip != Some(Skip::SyncFile),
            Step::SyncNames => skip != Some(Skip::SyncNames),
            Step::Make(_) | Step::Fill(..) | Step::Rename(..) | Step::Unlink(_) => true,
        });
        self.change = Some(steps);
    }

    /// Whether a change of whole files is on its way.
    pub(crate) fn is_changing(&self) -> bool {
        self.change.is_some()
    }

    /// Completes the change of whole files.
    pub(crate) fn complete_change(&mut self) {
        for step in self.change.take().expect("a change is under way") {
            self.take_step(&step, &mut |_| 0);
        }
    }

    /// Makes all names durable.
    pub(crate) fn sync_names(&mut self) {
        self.names_synced = self.names.clone();
        self.namings.clear();
        let named = &self.names;
        self.inodes.retain(|inode, _| named.values().any(|other| other == inode));
    }

    /// Whether a crash now could leave more than one thing.
    pub(crate) fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
            || self.change.is_some()
            || !self.namings.is_empty()
            || self.inodes.values().any(|inode| !inode.soft.is_empty())
    }

    /// The power goes; `choose` gives a number below its argument.
    pub(crate) fn lose_power(&mut self, choose: &mut impl FnMut(u64) -> u64) {
        self.lose_process(choose);
        let bias = choose(4);
        let stays = |choose: &mut dyn FnMut(u64) -> u64| match bias {
            0 => false,
            1 => true,
            _ => choose(2) == 0,
        };
        for naming in std::mem::take(&mut self.namings) {
            if stays(choose) {
                naming.apply(&mut self.names_synced);
            }
        }
        self.names = self.names_synced.clone();
        self.sync_names();
        for inode in self.inodes.values_mut() {
            let bytes = Rc::make_mut(&mut inode.bytes);
            for (sector, old) in std::mem::take(&mut inode.soft) {
                let at = sector * SECTOR_SIZE;
                if at < bytes.len() && !stays(choose) {
                    let end = (at + SECTOR_SIZE).min(bytes.len());
                    bytes[at..end].copy_from_slice(&old[..end - at]);
                }
            }
            let (short, long) = (inode.size_synced.min(bytes.len()), bytes.len());
            if short < long && !stays(choose) {
                let sectors = (long - short).div_ceil(SECTOR_SIZE) as u64;
                let more = usize::try_from(choose(sectors)).expect("64 bits") * SECTOR_SIZE;
                bytes.truncate(short + more);
            }
            inode.size_synced = bytes.len();
        }
    }

    /// The process goes: what it had begun has been done or not, and can be read.
    pub(crate) fn lose_process(&mut self, choose: &mut impl FnMut(u64) -> u64) {
        for write in std::mem::take(&mut self.in_flight).into_values() {
            let bias = choose(4);
            self.land(&write, |_| if bias < 2 { bias == 1 } else { choose(2) == 0 });
        }
        let Some(steps) = self.change.take() else { return };
        let done = usize::try_from(choose(steps.len() as u64 + 1)).expect("64 bits");
        for step in &steps[..done] {
            self.take_step(step, &mut |_| 0);
        }
        if let Some(step) = steps.get(done)
            && choose(2) == 0
        {
            self.take_step(step, &mut |below| choose(below));
        }
    }

    /// Does a step: all of it if `lost` always says 0, else only some of what it makes durable or
    /// writes.
    fn take_step(&mut self, step: &Step, lost: &mut dyn FnMut(u64) -> u64) {
        match step {
            Step::Make(name) => {
                if let Some(inode) = self.names.get(name) {
                    let inode = self.inodes.get_mut(inode).expect("named");
                    inode.write(0, &vec![0; inode.bytes.len()], &mut |_| true);
                    Rc::make_mut(&mut inode.bytes).clear();
                    return;
                }
                self.last += 1;
                self.inodes.insert(self.last, Inode::default());
                self.name(Naming::Make(name.clone(), self.last));
            }
            Step::Fill(name, bytes) => {
                let inode = self.names.get(name).expect("made before");
                let inode = self.inodes.get_mut(inode).expect("named");
                inode.write(0, bytes, &mut |_| lost(2) == 0);
                if inode.bytes.len() > bytes.len() {
                    Rc::make_mut(&mut inode.bytes).truncate(bytes.len());
                }
            }
            Step::SyncFile(name) => {
                let inode = self.names.get(name).expect("a file that is synced exists");
                let inode = self.inodes.get_mut(inode).expect("named");
                inode.soft.retain(|_, _| lost(2) != 0);
                if inode.soft.is_empty() {
                    inode.size_synced = inode.bytes.len();
                }
            }
            Step::Rename(from, to) => {
                let inode = *self.names.get(from).expect("a file that is renamed exists");
                self.name(Naming::Rename(from.clone(), to.clone(), inode));
            }
            Step::Unlink(name) => {
                assert!(self.has(name), "a file that is removed exists: {name}");
                self.name(Naming::Unlink(name.clone()));
            }
            Step::SyncNames => {
                if lost(2) == 0 {
                    self.sync_names();
                }
            }
        }
    }

    /// Does something to a name, not durably.
    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.namings.push(naming);
    }

    fn land(&mut self, write: &Write, mut lands: impl FnMut(usize) -> bool) {
        if let Some(inode) = self.inodes.get_mut(&write.inode) {
            inode.write(write.offset, &write.bytes, &mut lands);
        }
    }
}

impl Naming {
    /// Does it to a directory, whatever of what came before it is there.
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Make(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to, inode) => {
                // Its old name may be that of another file, of before.
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

impl Inode {
    /// Lands those sectors of a write that `lands` says; they are soft.
    fn write(&mut self, offset: usize, from: &[u8], lands: &mut dyn FnMut(usize) -> bool) {
        let bytes = Rc::make_mut(&mut self.bytes);
        for (nth, piece) in from.chunks(SECTOR_SIZE).enumerate() {
            if !lands(nth) {
                continue;
            }
            let at = offset + nth * SECTOR_SIZE;
            if bytes.len() < at + piece.len() {
                bytes.resize(at + piece.len(), 0);
            }
            let end = (at + SECTOR_SIZE).min(bytes.len());
            self.soft.entry(at / SECTOR_SIZE).or_insert_with(|| {
                let mut old = bytes[at..end].to_vec();
                old.resize(SECTOR_SIZE, 0);
                old.into()
            });
            bytes[at..at + piece.len()].copy_from_slice(piece);
        }
    }
}

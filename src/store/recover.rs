//! Recovery: from the files of a store to its segments and its owner's state.
//!
//! The manifest is read first, and says which segments there are. Of each, in the order of their
//! revisions, the header is read and the directory page by page; every page's entries are handed
//! over once it has been checked. Records are not read. Files that the manifest does not name are
//! left over from a change that came to nothing or to an end, and are for the store to remove.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Cause;
use super::Config;
use super::Damage;
use super::FileId;
use super::format::FOOTER_SIZE;
use super::format::Identity;
use super::format::MANIFEST_SIZE_MAX;
use super::format::NUMBER_MAX;
use super::format::NotOurs;
use super::format::PAGE_HEADER_SIZE;
use super::format::SEGMENT_HEADER_SIZE;
use super::format::SegmentHeader;
use super::manifest::Manifest;
use super::manifest::Segment;
use super::segment::Entry;
use super::segment::EntryAt;
use super::segment::Opening;
use super::segment::Sealed;
use crate::types::Location;
use crate::types::ShardId;

/// What recovery wants, or has come to.
#[derive(Debug)]
pub enum Step {
    /// Read `size` bytes at `offset` and pass them to [`Recovery::handle`].
    Read {
        /// The file.
        file: FileId,
        /// Bytes from its start; any.
        offset: u64,
        /// Bytes; any but 0.
        size: usize,
    },
    /// A page was accepted: take [`Recovery::entries`].
    Entries,
    /// The store is known.
    Done(Box<Recovered>),
    /// The files are not a store that can be opened; nothing was changed.
    Refused(Damage),
}

/// A store after recovery.
#[derive(Debug)]
pub struct Recovered {
    /// What it is made of.
    pub parts: Parts,
    /// What the owner kept with the last manifest; `None` in a store that was never sealed.
    pub state: Option<Vec<u8>>,
}

/// What a store is made of.
#[derive(Debug)]
pub struct Parts {
    /// Its limits.
    pub config: Config,
    /// Which store it is.
    pub identity: Identity,
    /// The last manifest's; 0 in a new store, which writes a first manifest before any segment.
    pub sequence: u64,
    /// The number of the next segment.
    pub number_next: u64,
    /// The segments, in the order of their revisions.
    pub segments: Vec<Sealed>,
    /// Files to be removed.
    pub leftovers: Vec<FileId>,
    /// As in the last manifest: what the log beside it may not know.
    pub arrived: bool,
}

/// ```text
///   Manifest ──► Header ──► Pages ──► Tail ──► Over
///                  ▲                   │
///                  └───────────────────┘ the next segment
/// ```
#[derive(Debug)]
enum Phase {
    /// The manifest is to be read.
    Manifest { size: u64 },
    /// The header of the next segment is to be read.
    Header,
    /// The next page of this segment is to be read.
    Pages(Box<Opening>),
    /// What follows the pages of this segment is to be read.
    Tail(Box<Opening>),
    /// The store is refused.
    Refused(Damage),
    /// The parts were handed over.
    Over,
}

/// Bytes of a file that were read.
#[derive(Debug)]
struct Window {
    file: FileId,
    offset: u64,
    bytes: Vec<u8>,
}

/// A store on its way from files to its parts.
#[derive(Debug)]
pub struct Recovery {
    config: Config,
    identity: Identity,
    /// Number and size of each segment file.
    files: BTreeMap<u64, u64>,
    leftovers: Vec<FileId>,
    manifest: Option<Manifest>,
    segments: Vec<Sealed>,
    phase: Phase,
    window: Window,
    want: Option<(FileId, u64, usize)>,
    /// Where in the window the page of the entries lies, and what they are.
    page: Range<usize>,
    entries: Vec<EntryAt>,
}

impl Recovery {
    /// The store of `shard` in a directory with these `files` (name and size).
    ///
    /// # Panics
    /// If `config` does not [`Config::check`].
    #[must_use]
    pub fn new(config: Config, shard: ShardId, store_id: u64, files: &[(String, u64)]) -> Self {
        config.check();
        let mut recovery = Self {
            config,
            identity: Identity { store_id, shard },
            files: BTreeMap::new(),
            leftovers: Vec::new(),
            manifest: None,
            segments: Vec::new(),
            phase: Phase::Header,
            window: Window { file: FileId::Manifest, offset: 0, bytes: Vec::new() },
            want: None,
            page: 0..0,
            entries: Vec::new(),
        };
        if let Err(damage) = recovery.sort_files(files) {
            recovery.phase = Phase::Refused(damage);
        }
        recovery
    }

    fn sort_files(&mut self, files: &[(String, u64)]) -> Result<(), Damage> {
        let mut manifest = None;
        for (name, size) in files {
            match FileId::parse(name) {
                Some(FileId::Manifest) => manifest = Some(*size),
                Some(FileId::Segment(number)) if number < NUMBER_MAX => {
                    self.files.insert(number, *size);
                }
                Some(file @ (FileId::Draft | FileId::New(_))) => self.leftovers.push(file),
                Some(FileId::Segment(_)) | None => {
                    return Err(Damage { file: name.clone(), offset: 0, cause: Cause::Foreign });
                }
            }
        }
        match manifest {
            Some(size) if size > MANIFEST_SIZE_MAX => {
                let cause = Cause::Large { found: size, max: MANIFEST_SIZE_MAX };
                Err(damage(FileId::Manifest, 0, cause))
            }
            Some(0) => Err(damage(FileId::Manifest, 0, Cause::Manifest)),
            Some(size) => {
                self.phase = Phase::Manifest { size };
                Ok(())
            }
            // A first manifest is written before the first segment.
            None if !self.files.is_empty() => Err(damage(FileId::Manifest, 0, Cause::Missing)),
            None => Ok(()),
        }
    }

    /// Takes in the bytes of the last [`Step::Read`]; fewer than asked for if the file ends.
    ///
    /// # Panics
    /// If none were asked for.
    pub fn handle(&mut self, bytes: &[u8]) {
        let (file, offset, size) = self.want.take().expect("bytes were asked for");
        if bytes.len() != size {
            let cause = Cause::Short { expected: size, found: bytes.len() };
            self.phase = Phase::Refused(damage(file, offset, cause));
            return;
        }
        let end = self.window.offset + self.window.bytes.len() as u64;
        if self.window.file != file || end != offset {
            self.window.file = file;
            self.window.offset = offset;
            self.window.bytes.clear();
        }
        self.window.bytes.extend_from_slice(bytes);
    }

    /// The entries of the page just accepted, in the order of their locations.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let page = &self.window.bytes[self.page.clone()];
        self.entries.iter().map(|entry| entry.entry(page))
    }

    /// Notes that a change is dead for good; it was among the entries so far.
    ///
    /// # Panics
    /// If it was not.
    pub fn forget(&mut self, location: Location) {
        let sealed = match &mut self.phase {
            Phase::Pages(opening) | Phase::Tail(opening)
                if opening.sealed().summary().first <= location =>
            {
                opening.sealed_mut()
            }
            Phase::Manifest { .. }
            | Phase::Header
            | Phase::Pages(_)
            | Phase::Tail(_)
            | Phase::Refused(_)
            | Phase::Over => {
                let after = self.segments.partition_point(|it| it.summary().first <= location);
                self.segments[..after].last_mut().expect("the change was told")
            }
        };
        let ordinal = sealed.find(location).expect("the change was told");
        sealed.forget(ordinal);
    }

    /// What recovery wants next.
    ///
    /// # Panics
    /// After [`Step::Done`].
    pub fn poll(&mut self) -> Step {
        loop {
            if let Some((file, offset, size)) = self.want {
                return Step::Read { file, offset, size };
            }
            let result = match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Manifest { size } => self.on_manifest(size),
                Phase::Header => match self.next_segment() {
                    Some(listed) => self.on_header(listed),
                    None => return Step::Done(Box::new(self.finish())),
                },
                Phase::Pages(opening) if opening.size_left() == 0 => {
                    self.phase = Phase::Tail(opening);
                    Ok(())
                }
                Phase::Pages(opening) => match self.on_page(opening) {
                    Ok(true) => return Step::Entries,
                    Ok(false) => Ok(()),
                    Err(damage) => Err(damage),
                },
                Phase::Tail(opening) => self.on_tail(opening),
                Phase::Refused(damage) => {
                    self.phase = Phase::Refused(damage.clone());
                    return Step::Refused(damage);
                }
                Phase::Over => unreachable!("the parts were handed over"),
            };
            if let Err(damage) = result {
                self.phase = Phase::Refused(damage);
            }
        }
    }

    /// Where in the window these bytes lie; else they are wanted, and up to `end` more of the file.
    fn cover(&mut self, file: FileId, offset: u64, size: usize, end: u64) -> Option<Range<usize>> {
        let window = &mut self.window;
        let held = window.offset + window.bytes.len() as u64;
        let is_held = window.file == file && (window.offset..=held).contains(&offset);
        if !is_held {
            window.file = file;
            window.offset = offset;
            window.bytes.clear();
        }
        let at = usize::try_from(offset - window.offset).expect("within the window");
        if at + size <= window.bytes.len() {
            return Some(at..at + size);
        }
        window.bytes.drain(..at);
        window.offset = offset;
        let held = offset + window.bytes.len() as u64;
        let rest = usize::try_from(end - held).expect("64 bits");
        let missing = size - window.bytes.len();
        assert!(missing <= rest, "bytes of the file");
        self.want = Some((file, held, missing.max(self.config.read_size).min(rest)));
        None
    }

    fn on_manifest(&mut self, size: u64) -> Result<(), Damage> {
        let whole = usize::try_from(size).expect("less than 256 MiB");
        // Piece by piece, so that room is made for no more than there is.
        let held = self.window.bytes.len();
        if held < whole {
            let next = held.saturating_add(self.config.read_size).min(whole);
            self.phase = Phase::Manifest { size };
            let covered = self.cover(FileId::Manifest, 0, next, size);
            assert!(covered.is_none(), "more bytes are wanted");
            return Ok(());
        }
        let manifest = Manifest::decode(&self.window.bytes)?;
        check_identity(FileId::Manifest, self.identity, manifest.identity)?;
        for listed in &manifest.segments {
            let (file, expected) = (FileId::Segment(listed.number), listed.summary.file_size());
            match self.files.remove(&listed.number) {
                None => return Err(damage(file, 0, Cause::Missing)),
                Some(found) if found != expected => {
                    return Err(damage(file, found.min(expected), Cause::Size { expected, found }));
                }
                Some(_) => {}
            }
        }
        self.leftovers.extend(self.files.keys().map(|&number| FileId::Segment(number)));
        self.manifest = Some(manifest);
        self.phase = Phase::Header;
        Ok(())
    }

    /// The first listed segment that has not been read.
    fn next_segment(&self) -> Option<Segment> {
        self.manifest.as_ref()?.segments.get(self.segments.len()).copied()
    }

    fn on_header(&mut self, listed: Segment) -> Result<(), Damage> {
        let file = FileId::Segment(listed.number);
        let end = SEGMENT_HEADER_SIZE as u64;
        let Some(range) = self.cover(file, 0, SEGMENT_HEADER_SIZE, end) else {
            self.phase = Phase::Header;
            return Ok(());
        };
        let header = SegmentHeader::decode(&self.window.bytes[range]).map_err(|why| match why {
            NotOurs::Version(found) => damage(file, 0, Cause::Version { found }),
            NotOurs::Foreign | NotOurs::Broken => damage(file, 0, Cause::Header),
        })?;
        check_identity(file, self.identity.of(listed.origin), header.identity)?;
        if header.number != listed.origin.number {
            return Err(damage(file, 0, Cause::Number { found: header.number }));
        }
        self.phase = Phase::Pages(Box::new(Opening::new(self.identity, &listed)));
        Ok(())
    }

    /// Takes in the next page; whether it was there.
    fn on_page(&mut self, mut opening: Box<Opening>) -> Result<bool, Damage> {
        let file = opening.sealed().file();
        let (offset, end) = (opening.offset(), opening.sealed().summary().file_size());
        let Some(header) = self.cover(file, offset, PAGE_HEADER_SIZE, end) else {
            self.phase = Phase::Pages(opening);
            return Ok(false);
        };
        let size = opening.page_size(&self.window.bytes[header])?;
        let Some(page) = self.cover(file, offset, size, end) else {
            self.phase = Phase::Pages(opening);
            return Ok(false);
        };
        opening.page(&self.window.bytes[page.clone()], &mut self.entries)?;
        self.page = page;
        self.phase = Phase::Pages(opening);
        Ok(true)
    }

    fn on_tail(&mut self, opening: Box<Opening>) -> Result<(), Damage> {
        let (file, summary) = (opening.sealed().file(), *opening.sealed().summary());
        let (offset, end) = (summary.padding_at(), summary.file_size());
        let size = summary.padding_size() + FOOTER_SIZE;
        let Some(range) = self.cover(file, offset, size, end) else {
            self.phase = Phase::Tail(opening);
            return Ok(());
        };
        let sealed = opening.finish(&self.window.bytes[range])?;
        self.segments.push(sealed);
        self.phase = Phase::Header;
        Ok(())
    }

    fn finish(&mut self) -> Recovered {
        let manifest = self.manifest.take();
        let parts = Parts {
            config: self.config,
            identity: self.identity,
            sequence: manifest.as_ref().map_or(0, |manifest| manifest.sequence),
            number_next: manifest.as_ref().map_or(0, |manifest| manifest.number_next),
            arrived: manifest.as_ref().is_some_and(|manifest| manifest.arrived),
            segments: std::mem::take(&mut self.segments),
            leftovers: std::mem::take(&mut self.leftovers),
        };
        let state = manifest.map(|manifest| manifest.state);
        Recovered { parts, state: state.filter(|state| !state.is_empty()) }
    }
}

fn damage(file: FileId, offset: u64, cause: Cause) -> Damage {
    Damage { file: file.to_string(), offset, cause }
}

fn check_identity(file: FileId, expected: Identity, found: Identity) -> Result<(), Damage> {
    if found.store_id != expected.store_id {
        let (expected, found) = (expected.store_id, found.store_id);
        return Err(damage(file, 0, Cause::Store { expected, found }));
    }
    if found.shard != expected.shard {
        let (expected, found) = (expected.shard.0, found.shard.0);
        return Err(damage(file, 0, Cause::Shard { expected, found }));
    }
    Ok(())
}

#[cfg(test)]
mod tests;

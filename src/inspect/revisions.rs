//! Files of the revision store, printed for a person, with every checksum verified.
//!
//! A segment says at its end where its directory lies, and the directory where its records do; so
//! these files are not read from front to back, and whoever calls gives the bytes asked for.

use std::fmt;
use std::fmt::Write;

use super::Read;
use super::SHOWN_SIZE_MAX;
use crate::frame::BLOCK_SIZE;
use crate::frame::{u32_at, u64_at};
use crate::store::ChangeRef;
use crate::store::Damage;
use crate::store::Manifest;
use crate::store::Sealed;
use crate::store::format::FOOTER_SIZE;
use crate::store::format::MANIFEST_MAGIC;
use crate::store::format::MANIFEST_SIZE_MAX;
use crate::store::format::NotOurs;
use crate::store::format::Origin;
use crate::store::format::PAGE_HEADER_SIZE;
use crate::store::format::SEGMENT_HEADER_SIZE;
use crate::store::format::SEGMENT_MAGIC;
use crate::store::format::SegmentHeader;
use crate::store::format::Summary;
use crate::store::manifest::Segment;
use crate::store::segment::EntryAt;
use crate::store::segment::Opening;
use crate::types::Location;
use crate::types::Revision;

/// Whether a file that begins like this is meant to be one of the store's.
#[must_use]
pub fn is_like(bytes: &[u8]) -> bool {
    bytes.starts_with(&SEGMENT_MAGIC) || bytes.starts_with(&MANIFEST_MAGIC)
}

/// Prints a file of `size` bytes that [`is_like`] one of the store's, its records too if `all` is
/// wanted; whether it is whole.
///
/// # Errors
/// Those of `out`.
pub fn print(
    size: u64,
    all: bool,
    read: &mut Read<'_>,
    out: &mut dyn Write,
) -> Result<bool, fmt::Error> {
    if read(0, 4) == MANIFEST_MAGIC {
        return manifest(size, read, out);
    }
    let block = read(0, SEGMENT_HEADER_SIZE);
    if block.len() < SEGMENT_HEADER_SIZE {
        writeln!(out, "a segment of the store: only {} bytes", block.len())?;
        return Ok(false);
    }
    match SegmentHeader::decode(&block) {
        Ok(header) => segment(&header, size, all, read, out),
        Err(NotOurs::Version(version)) => {
            writeln!(out, "a segment of the store in format version {version}, not known here")?;
            Ok(false)
        }
        Err(NotOurs::Broken | NotOurs::Foreign) => {
            let (store, number, shard) =
                (u64_at(&block, 8), u64_at(&block, 16), u32_at(&block, 24));
            writeln!(
                out,
                "a segment of the store: header damaged; it says segment {number:016x} \
                 of store {store:016x}, shard {shard}"
            )?;
            Ok(false)
        }
    }
}

/// Prints a manifest.
fn manifest(size: u64, read: &mut Read<'_>, out: &mut dyn Write) -> Result<bool, fmt::Error> {
    if size > MANIFEST_SIZE_MAX {
        writeln!(out, "a manifest of the store: {size} bytes, more than {MANIFEST_SIZE_MAX}")?;
        return Ok(false);
    }
    let bytes = read(0, usize::try_from(size).expect("less than 256 MiB"));
    let manifest = match Manifest::decode(&bytes) {
        Ok(manifest) => manifest,
        Err(Damage { offset, cause, .. }) => {
            writeln!(out, "a manifest of the store")?;
            writeln!(out, "          not whole: {cause} at {offset:08x}")?;
            return Ok(false);
        }
    };
    let identity = manifest.identity;
    writeln!(
        out,
        "manifest {} of store {:016x}, shard {}, {size} bytes{}",
        manifest.sequence,
        identity.store_id,
        identity.shard,
        if manifest.arrived { ", arrived from a peer" } else { "" }
    )?;
    for Segment { number, swept, summary, origin } in &manifest.segments {
        write!(out, "segment {number:016x}, {} bytes, ", summary.file_size())?;
        told(summary, out)?;
        write!(out, "\n          swept {swept}, directory crc {:08x}\n", summary.directory_crc)?;
        if *origin != identity.origin(*number) {
            let Origin { store_id, number } = origin;
            writeln!(out, "          sealed as {number:016x} of store {store_id:016x}")?;
        }
    }
    let state = &manifest.state[..manifest.state.len().min(SHOWN_SIZE_MAX)];
    let more = if state.len() < manifest.state.len() { "…" } else { "" };
    writeln!(out, "next segment {:016x}", manifest.number_next)?;
    writeln!(out, "state, {} bytes: {}{more}", manifest.state.len(), state.escape_ascii())?;
    Ok(true)
}

/// Says which records a segment has.
fn told(summary: &Summary, out: &mut dyn Write) -> fmt::Result {
    let (first, last) = (Place(summary.first), Place(summary.last));
    let (records, blocks) = (summary.record_count, summary.block_count);
    write!(out, "revisions {first} to {last}, {records} records in {blocks} blocks")
}

/// A segment that is being printed.
struct Printer<'a> {
    all: bool,
    read: &'a mut Read<'a>,
    out: &'a mut dyn Write,
    opening: Opening,
    damaged_count: u32,
}

/// Prints a segment with this header.
fn segment<'a>(
    header: &SegmentHeader,
    size: u64,
    all: bool,
    read: &'a mut Read<'a>,
    out: &'a mut dyn Write,
) -> Result<bool, fmt::Error> {
    let (identity, number) = (header.identity, header.number);
    writeln!(
        out,
        "segment {number:016x} of store {:016x}, shard {}, {size} bytes, format version 1",
        identity.store_id, identity.shard
    )?;
    let footer_at = size.saturating_sub(FOOTER_SIZE as u64);
    let footer = read(footer_at, FOOTER_SIZE);
    let seal = identity.segment_seal(number);
    let problem = match footer.len() {
        FOOTER_SIZE => match Summary::decode_footer(seal, size, &footer) {
            Ok(summary) => {
                let (swept, origin) = (Revision(0), identity.origin(number));
                let listed = Segment { number, swept, summary, origin };
                let opening = Opening::new(identity, &listed);
                return Printer { all, read, out, opening, damaged_count: 0 }.print();
            }
            Err(NotOurs::Version(_)) => "of another format version",
            Err(NotOurs::Foreign | NotOurs::Broken) => "damaged",
        },
        _ => "not there",
    };
    writeln!(out, "{footer_at:08x}  the footer is {problem}: what the segment holds is not known")?;
    Ok(false)
}

impl Printer<'_> {
    /// Prints all of it; whether it is whole.
    fn print(mut self) -> Result<bool, fmt::Error> {
        let summary = *self.opening.sealed().summary();
        let (mut pages, mut entries, mut next) = (0, Vec::new(), 0);
        while self.opening.size_left() > 0 {
            let offset = self.opening.offset();
            let page = match self.page(&mut entries) {
                Ok(page) => page,
                Err(problem) => {
                    writeln!(self.out, "{offset:08x}  directory page {pages}")?;
                    writeln!(self.out, "          not whole: {problem}")?;
                    writeln!(self.out, "          what it lists, and all behind it, is not known")?;
                    return Ok(false);
                }
            };
            if self.all {
                let (size, count) = (page.len(), entries.len());
                writeln!(
                    self.out,
                    "{offset:08x}  directory page {pages}, {size} bytes, {count} records"
                )?;
            }
            self.blocks(&page, &entries, &mut next)?;
            pages += 1;
        }
        self.end(&summary, pages)
    }

    /// Reads the next page and takes it in.
    fn page(&mut self, entries: &mut Vec<EntryAt>) -> Result<Vec<u8>, String> {
        let (offset, gone) = (self.opening.offset(), || "it cannot be read".to_owned());
        let header = (self.read)(offset, PAGE_HEADER_SIZE);
        if header.len() < PAGE_HEADER_SIZE {
            return Err(gone());
        }
        let cause = |damage: Damage| damage.cause.to_string();
        let size = self.opening.page_size(&header).map_err(cause)?;
        let page = (self.read)(offset, size);
        if page.len() < size || self.opening.page_size(&page) != Ok(size) {
            return Err(gone());
        }
        self.opening.page(&page, entries).map_err(cause)?;
        Ok(page)
    }

    /// Prints the blocks that a page has added, from number `next` on.
    fn blocks(&mut self, page: &[u8], entries: &[EntryAt], next: &mut u32) -> fmt::Result {
        let sealed = self.opening.sealed();
        let mut entries = entries.iter();
        while *next < sealed.block_count() {
            let (offset, size) = sealed.block_extent(*next);
            let bytes = (self.read)(offset, size);
            let records = sealed.block_records(*next);
            let result = sealed.check(*next, &bytes);
            if self.all || result.is_err() {
                let count = records.len();
                writeln!(self.out, "{offset:08x}  block {next}, {size} bytes, {count} records")?;
            }
            if let Err(Damage { offset, cause, .. }) = &result {
                writeln!(self.out, "          not whole: {cause} at {offset:08x}")?;
                self.damaged_count += 1;
            }
            for (ordinal, entry) in records.zip(&mut entries) {
                if result.is_ok() && self.all {
                    record(&sealed.record(sealed.place(ordinal), &bytes), self.out)?;
                } else if result.is_err() {
                    lost(sealed, ordinal, entry.entry(page).key, self.out)?;
                }
            }
            *next += 1;
        }
        Ok(())
    }

    /// Prints what follows the pages.
    fn end(self, summary: &Summary, pages: u32) -> Result<bool, fmt::Error> {
        let at = summary.padding_at();
        let size = usize::try_from(summary.file_size() - at).expect("less than two blocks");
        assert!(size < 2 * BLOCK_SIZE, "zeros and a footer");
        let tail = (self.read)(at, size);
        if tail.len() < size {
            writeln!(self.out, "{at:08x}  the end cannot be read")?;
            return Ok(false);
        }
        if let Err(Damage { offset, cause, .. }) = self.opening.finish(&tail) {
            writeln!(self.out, "{offset:08x}  not whole: {cause}")?;
            return Ok(false);
        }
        write!(self.out, "{:08x}  footer: ", summary.footer_at())?;
        told(summary, self.out)?;
        let (data, directory) = (summary.data_size, summary.directory_size);
        write!(self.out, "\n          data {data} bytes, directory {directory} bytes ")?;
        writeln!(self.out, "in {pages} pages, crc {:08x}", summary.directory_crc)?;
        if self.damaged_count > 0 {
            writeln!(self.out, "          damaged blocks: {}", self.damaged_count)?;
        }
        Ok(self.damaged_count == 0)
    }
}

/// Prints a record.
fn record(change: &ChangeRef<'_>, out: &mut dyn Write) -> fmt::Result {
    let (place, key) = (Place(change.location), shown(change.key));
    if change.is_tombstone() {
        return writeln!(out, "          {place}: delete {key}");
    }
    write!(out, "          {place}: put {key}, version {}, ", change.version)?;
    write!(out, "created {}, ", change.created)?;
    if change.lease.0 != 0 {
        write!(out, "lease {:x}, ", change.lease.0)?;
    }
    writeln!(out, "{} bytes: {}", change.value.len(), shown(change.value))
}

/// Prints what the directory says of a record that is lost.
fn lost(sealed: &Sealed, ordinal: u32, key: &[u8], out: &mut dyn Write) -> fmt::Result {
    let (place, key) = (Place(sealed.location(ordinal)), shown(key));
    writeln!(out, "          {place}: {key}, lost")
}

/// The beginning of some bytes, as text.
fn shown(bytes: &[u8]) -> String {
    let front = &bytes[..bytes.len().min(SHOWN_SIZE_MAX)];
    let more = if front.len() < bytes.len() { "…" } else { "" };
    format!("{}{more}", front.escape_ascii())
}

/// A location as a person reads it.
struct Place(Location);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Location { main, sub: 0 } => write!(f, "{main}"),
            Location { main, sub } => write!(f, "{main}/{sub}"),
        }
    }
}

#[cfg(test)]
mod tests;

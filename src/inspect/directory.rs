//! The files of one log or one store together: whether a start would take them.
//!
//! What recovery says is printed, and nothing is decided here. Nothing is written either.

use std::fmt;
use std::fmt::Write;

use super::revisions;
use crate::frame::BLOCK_SIZE;
use crate::store;
use crate::store::Manifest;
use crate::types::LogIndex;
use crate::types::ShardId;
use crate::wal;
use crate::wal::format::SegmentHeader;

/// Gives bytes of the file of this name: fewer than asked for if it ends, or cannot be read.
pub type ReadFile<'a> = dyn FnMut(&str, u64, usize) -> Vec<u8> + 'a;

/// Whether a directory with these files is a log's or a store's.
#[must_use]
pub fn is_like(files: &[(String, u64)]) -> bool {
    is_log(files) || is_store(files)
}

fn is_log(files: &[(String, u64)]) -> bool {
    files.iter().any(|(name, _)| wal::FileId::parse(name).is_some())
}

fn is_store(files: &[(String, u64)]) -> bool {
    files.iter().any(|(name, _)| store::FileId::parse(name).is_some())
}

/// Prints the files (name and size) of a directory that [`is_like`] a log's or a store's; whether a
/// start would take them, as files of log or store `id` if it is given.
///
/// # Errors
/// Those of `out`.
pub fn print(
    id: Option<u64>,
    files: &[(String, u64)],
    read: &mut ReadFile<'_>,
    out: &mut dyn Write,
) -> Result<bool, fmt::Error> {
    let mut files = files.to_vec();
    files.sort_unstable();
    if is_log(&files) { log(id, &files, read, out) } else { segments(id, &files, read, out) }
}

/// Prints the files of a log.
fn log(
    id: Option<u64>,
    files: &[(String, u64)],
    read: &mut ReadFile<'_>,
    out: &mut dyn Write,
) -> Result<bool, fmt::Error> {
    for (name, size) in files {
        writeln!(out, "{name}  {size} bytes")?;
    }
    let first = files.iter().find(|(name, _)| name.ends_with(".wal"));
    let header = first.and_then(|(name, _)| {
        let block = read(name, 0, BLOCK_SIZE);
        if block.len() < BLOCK_SIZE { None } else { SegmentHeader::decode(&block).ok() }
    });
    let (shard, log_id) =
        header.map_or((ShardId(0), 0), |it| (it.identity.shard, it.identity.log_id));
    let mut recovery =
        wal::Recovery::new(wal::Config::default(), shard, id.unwrap_or(log_id), files);
    let mut count = 0_u64;
    loop {
        match recovery.poll() {
            wal::Step::Read { file, offset, size } => {
                recovery.handle(&read(&file.to_string(), offset, size));
            }
            wal::Step::Records => count += 1,
            wal::Step::Done(done) => {
                let (file, offset, row) = done.end;
                let (first, last) = (done.first, done.last);
                write!(out, "the log is whole: {count} frames, ")?;
                if first > last {
                    write!(out, "no entries after {}", LogIndex(first.0.saturating_sub(1)))?;
                } else {
                    write!(out, "entries {first} to {last}")?;
                }
                writeln!(out, "; it ends in {file} at {offset:08x} (case {row})")?;
                return Ok(true);
            }
            wal::Step::Refused(damage) => {
                writeln!(out, "{damage}")?;
                return Ok(false);
            }
        }
    }
}

/// Prints the files of a store.
fn segments(
    id: Option<u64>,
    files: &[(String, u64)],
    read: &mut ReadFile<'_>,
    out: &mut dyn Write,
) -> Result<bool, fmt::Error> {
    let (mut is_whole, mut identity) = (true, None);
    for (name, size) in files {
        match store::FileId::parse(name) {
            Some(store::FileId::Segment(_) | store::FileId::Manifest)
                if revisions::is_like(&read(name, 0, 4)) =>
            {
                let mut read = |offset, size| read(name, offset, size);
                is_whole &= revisions::print(*size, false, &mut read, out)?;
            }
            Some(store::FileId::New(_) | store::FileId::Draft) => {
                writeln!(out, "{name}  {size} bytes, not finished and of no account")?;
            }
            Some(store::FileId::Segment(_) | store::FileId::Manifest) => {
                writeln!(out, "{name}  {size} bytes, damaged from its first byte on")?;
                is_whole = false;
            }
            None => writeln!(out, "{name}  {size} bytes, not a file of ours")?,
        }
        if let Some(store::FileId::Manifest) = store::FileId::parse(name) {
            let size = (*size).min(store::format::MANIFEST_SIZE_MAX);
            let bytes = read(name, 0, usize::try_from(size).expect("64 bits"));
            identity = Manifest::decode(&bytes).ok().map(|manifest| manifest.identity);
        }
    }
    let (shard, store_id) = identity.map_or((ShardId(0), 0), |it| (it.shard, it.store_id));
    let config = store::Config::default();
    let mut recovery = store::Recovery::new(config, shard, id.unwrap_or(store_id), files);
    let mut count = 0;
    loop {
        match recovery.poll() {
            store::Step::Read { file, offset, size } => {
                recovery.handle(&read(&file.to_string(), offset, size));
            }
            store::Step::Entries => count += recovery.entries().count(),
            store::Step::Done(done) => {
                let listed = done.parts.segments.len();
                let rest = done.parts.leftovers.len();
                let state = if is_whole { "is whole" } else { "can be opened, but is damaged" };
                write!(out, "the store {state}: {count} records in {listed} segments")?;
                writeln!(out, "; files to be removed: {rest}")?;
                return Ok(is_whole);
            }
            store::Step::Refused(damage) => {
                writeln!(out, "{damage}")?;
                return Ok(false);
            }
        }
    }
}

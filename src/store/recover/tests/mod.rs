//! The files of a store under test, and a dumb model of what they must hold.

mod files;
mod flip;
mod garbage;
mod golden;
mod life;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::frame::BLOCK_SIZE;
use crate::store::Builder;
use crate::store::ChangeRef;
use crate::store::format::usize_from;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::Revision;

const IDENTITY: Identity = Identity { store_id: 0x1122_3344_5566_7788, shard: ShardId(3) };

/// Reads are small, so that directories come in pieces.
fn small() -> Config {
    Config { block_size: 256, read_size: BLOCK_SIZE, ..Config::default() }
}

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

fn location(main: i64, sub: u32) -> Location {
    Location { main: Revision(main), sub }
}

fn put(main: i64, sub: u32, key: &str, value: &str) -> Change {
    Change {
        location: location(main, sub),
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease: LeaseId(0),
        created: Revision(main),
        version: 1,
    }
}

fn leased(main: i64, sub: u32, key: &str, value: &str, lease: i64) -> Change {
    Change { lease: LeaseId(lease), ..put(main, sub, key, value) }
}

fn tombstone(main: i64, sub: u32, key: &str) -> Change {
    Change { created: Revision(0), version: 0, ..put(main, sub, key, "") }
}

/// The segment of these changes and its file's bytes, taken in pieces of at most `piece` blocks.
fn build(
    identity: Identity,
    number: u64,
    changes: &[Change],
    (block_size, page_size, piece): (usize, usize, usize),
) -> (Sealed, Vec<u8>) {
    let mut builder = Builder::new(identity, number, block_size).with_page_size(page_size);
    let (mut file, mut blocks) = (Vec::new(), Vec::new());
    for change in changes {
        blocks.extend(builder.push(&ChangeRef::from(change)));
        take(&mut builder, &mut file, piece);
    }
    blocks.extend(builder.finish());
    take(&mut builder, &mut file, piece);
    let sealed = builder.into_sealed();
    assert_eq!(file.len() as u64, sealed.summary().file_size());
    assert_eq!(blocks.len(), usize_from(sealed.block_count()));
    for (nth, filled) in (0..).zip(&blocks) {
        assert_eq!(filled.block, nth);
        assert_eq!(filled.bytes, &file[block_range(&sealed, nth)]);
    }
    (sealed, file)
}

fn take(builder: &mut Builder, file: &mut Vec<u8>, piece: usize) {
    loop {
        let size = builder.ready().min(piece * BLOCK_SIZE);
        if size == 0 {
            return;
        }
        assert_eq!(builder.offset(), file.len() as u64);
        let at = file.len();
        file.resize(at + size, 0xee);
        builder.fill(&mut file[at..]);
    }
}

/// Where a block lies in its file.
fn block_range(sealed: &Sealed, block: u32) -> Range<usize> {
    let (offset, size) = sealed.block_extent(block);
    let offset = usize::try_from(offset).expect("small");
    offset..offset + size
}

/// The files of a store that has these runs of changes as its segments.
fn files_of(identity: Identity, runs: &[Vec<Change>], shape: (usize, usize, usize)) -> Files {
    let (mut files, mut segments) = (Files::new(), Vec::new());
    for (number, changes) in (5..).zip(runs) {
        let (sealed, file) = build(identity, number, changes, shape);
        segments.push(sealed.listed());
        files.insert(FileId::Segment(number).to_string(), file);
    }
    let number_next = 5 + segments.len() as u64;
    let state = b"the owner's state".to_vec();
    let arrived = false;
    let manifest = Manifest { identity, sequence: 7, number_next, segments, state, arrived };
    files.insert("manifest".to_owned(), manifest.encode());
    files
}

/// What recovery makes of files: the changes that it told of, without their values, and what it
/// came to. What it reads and holds is bounded by what is there.
fn recover(config: Config, files: &Files) -> (Vec<Change>, Result<Recovered, Damage>) {
    let list: Vec<_> = files.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    let mut recovery = Recovery::new(config, IDENTITY.shard, IDENTITY.store_id, &list);
    let mut told = Vec::new();
    loop {
        match recovery.poll() {
            Step::Read { file, offset, size } => {
                let file = &files[&file.to_string()];
                let at = usize::try_from(offset).expect("small");
                assert!(size > 0 && at + size <= file.len(), "reads are within the file");
                recovery.handle(&file[at..at + size]);
            }
            Step::Entries => told.extend(recovery.entries().map(|entry| Change {
                location: entry.location,
                key: Bytes::copy_from_slice(entry.key),
                value: Bytes::new(),
                lease: entry.lease,
                created: entry.created,
                version: entry.version,
            })),
            Step::Done(recovered) => return (told, Ok(*recovered)),
            Step::Refused(damage) => {
                let again = recovery.poll();
                assert!(matches!(again, Step::Refused(it) if it == damage), "once and for all");
                return (told, Err(damage));
            }
        }
    }
}

/// The damage that recovery finds.
fn refusal(files: &Files) -> Damage {
    recover(small(), files).1.expect_err("the files are damaged")
}

/// The changes without their values.
fn without_values(changes: &[Change]) -> Vec<Change> {
    changes.iter().map(|change| Change { value: Bytes::new(), ..change.clone() }).collect()
}

/// Two segments of several blocks and pages: with and without subs, leases and tombstones.
fn two_runs() -> Vec<Vec<Change>> {
    let value = "v".repeat(40);
    let mut first: Vec<_> =
        (2..30).map(|main| put(main, 0, &format!("key-{main}"), &value)).collect();
    first.push(tombstone(30, 0, "key-2"));
    let mut second = Vec::new();
    for main in (31_i64..60).step_by(3) {
        second.push(leased(main, 0, "a", &value, 0x7000_0000_0000_0001));
        second.push(tombstone(main, 1, "b"));
        second.push(leased(main, 7, &format!("key/{main}"), "", -2));
    }
    vec![first, second]
}

/// The same, as files.
fn two_segments() -> Files {
    files_of(IDENTITY, &two_runs(), (256, 100, 2))
}

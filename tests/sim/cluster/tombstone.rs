//! A tombstone that is lost on the way from one store to another: a planted bug's, made in the
//! files of a state that has just arrived.

use crate::store::disk::Disk;
use ringd::store::format::Identity;
use ringd::store::manifest::Segment;
use ringd::store::segment::Opening;
use ringd::store::{Builder, FileId, Manifest, Sealed};
use std::collections::BTreeSet;

/// Takes out of the files of a store the last tombstone behind which its key is not put again, and
/// makes everything around it fit; whether there was one.
pub(super) fn lose(disk: &mut Disk, block_size: usize) -> bool {
    let name = FileId::Manifest.to_string();
    let mut manifest = Manifest::decode(disk.file(&name)).expect("it was just installed");
    let mut put_later = BTreeSet::new();
    for at in (0..manifest.segments.len()).rev() {
        let listed = manifest.segments[at];
        let file = FileId::Segment(listed.number).to_string();
        let Some(lost) = find(disk.file(&file), manifest.identity, &listed, &mut put_later) else {
            continue;
        };
        match without(disk.file(&file), manifest.identity, (&listed, lost), block_size) {
            Some((bytes, listed)) => {
                disk.put(&file, bytes);
                manifest.segments[at] = listed;
            }
            None => {
                disk.take(&file);
                manifest.segments.remove(at);
            }
        }
        disk.put(&name, manifest.encode());
        return true;
    }
    false
}

/// The last tombstone of a segment whose key no later record has; notes whose keys have some.
fn find(
    file: &[u8],
    identity: Identity,
    listed: &Segment,
    later: &mut BTreeSet<Vec<u8>>,
) -> Option<u32> {
    let sealed = open(file, identity, listed);
    (0..sealed.record_count()).rev().find(|ordinal| {
        let record = sealed.record(sealed.place(*ordinal), block(file, &sealed, *ordinal));
        later.insert(record.key.to_vec()) && record.is_tombstone()
    })
}

/// The same segment without one record; none if that was all.
fn without(
    file: &[u8],
    identity: Identity,
    (listed, lost): (&Segment, u32),
    block_size: usize,
) -> Option<(Vec<u8>, Segment)> {
    let sealed = open(file, identity, listed);
    if sealed.record_count() == 1 {
        return None;
    }
    let mut builder = Builder::new(identity, listed.number, block_size);
    for ordinal in (0..sealed.record_count()).filter(|ordinal| *ordinal != lost) {
        let block = block(file, &sealed, ordinal);
        builder.push(&sealed.record(sealed.place(ordinal), block));
    }
    builder.finish();
    let mut bytes = vec![0; builder.ready()];
    builder.fill(&mut bytes);
    Some((bytes, Segment { swept: listed.swept, ..builder.into_sealed().listed() }))
}

/// The directory of a segment that is whole.
fn open(file: &[u8], identity: Identity, listed: &Segment) -> Sealed {
    let at = |offset: u64| usize::try_from(offset).expect("64 bits");
    let mut opening = Opening::new(identity, listed);
    while opening.size_left() > 0 {
        let rest = &file[at(opening.offset())..];
        let size = opening.page_size(rest).expect("a whole segment");
        opening.page(&rest[..size], &mut Vec::new()).expect("a whole segment");
    }
    opening.finish(&file[at(listed.summary.padding_at())..]).expect("a whole segment")
}

/// The block of a record.
fn block<'a>(file: &'a [u8], sealed: &Sealed, ordinal: u32) -> &'a [u8] {
    let (offset, size) = sealed.block_extent(sealed.block_of(ordinal));
    let start = usize::try_from(offset).expect("64 bits");
    &file[start..start + size]
}

//! One bit of a store's files, anywhere: found, and named by file and offset; never served.

use super::*;
use crate::store::Cause;

/// What a file is made of: each part's bytes, and where and how damage in it is told.
fn parts(name: &str, files: &Files) -> Vec<(Range<usize>, u64, Cause)> {
    let file = &files[name];
    if name == "manifest" {
        return vec![(0..64, 0, Cause::Manifest), (64..file.len(), 64, Cause::Manifest)];
    }
    let recovered = recover(small(), files).1.expect("nothing is damaged");
    let sealed = recovered.parts.segments.iter().find(|it| it.file().to_string() == name);
    let sealed = sealed.expect("it is listed");
    let mut parts = vec![(0..4096, 0, Cause::Header)];
    for block in 0..sealed.block_count() {
        let range = block_range(sealed, block);
        parts.push((range.clone(), range.start as u64, Cause::Block));
    }
    let summary = sealed.summary();
    let at = |offset| usize::try_from(offset).expect("small");
    let mut page = at(summary.directory_at());
    while page < at(summary.padding_at()) {
        let size = 24 + usize_from(crate::frame::u32_at(file, page + 4));
        parts.push((page..page + size, page as u64, Cause::Directory));
        page += size;
    }
    let (padding, footer) = (at(summary.padding_at()), at(summary.footer_at()));
    parts.push((padding..footer, padding as u64, Cause::Directory));
    parts.push((footer..file.len(), footer as u64, Cause::Footer));
    assert!(parts.windows(2).all(|pair| pair[0].0.end == pair[1].0.start), "no byte is no part's");
    parts
}

/// Damage of this kind, or a kind that says more of it.
fn is_like(found: Cause, expected: Cause) -> bool {
    found == expected || matches!(found, Cause::Version { .. })
}

/// What becomes of one flipped bit.
fn check(files: &mut Files, name: &str, at: usize, bit: u32, whole: &[Change], part: (u64, Cause)) {
    files.get_mut(name).expect("it is there")[at] ^= 1 << bit;
    let (told, recovered) = recover(small(), files);
    let what = format!("{name}, byte {at}, bit {bit}");
    assert!(whole.starts_with(&told), "{what}: nothing else is told");
    let found = match recovered {
        Err(damage) => damage,
        Ok(recovered) => {
            assert_eq!(part.1, Cause::Block, "{what}: only values are not read");
            assert_eq!(told.len(), whole.len(), "{what}");
            let mut found = None;
            for sealed in &recovered.parts.segments {
                let file = &files[&sealed.file().to_string()];
                for block in 0..sealed.block_count() {
                    let result = sealed.check(block, &file[block_range(sealed, block)]);
                    assert!(found.is_none() || result.is_ok(), "{what}: one block is damaged");
                    found = found.or(result.err());
                }
            }
            found.expect("it is found")
        }
    };
    assert_eq!((found.file.as_str(), found.offset), (name, part.0), "{what}: {found}");
    assert!(is_like(found.cause, part.1), "{what}: {found}");
    files.get_mut(name).expect("it is there")[at] ^= 1 << bit;
}

#[test]
fn every_byte_flipped_once_is_found_and_named() {
    let mut files = two_segments();
    let whole = without_values(&two_runs().concat());
    let names: Vec<_> = files.keys().cloned().collect();
    let (mut kinds, mut pages) = (Vec::new(), 0);
    for name in names {
        for (range, offset, cause) in parts(&name, &files) {
            kinds.push(cause);
            pages += usize::from(cause == Cause::Directory);
            for at in range {
                // Of what is said of records each bit; of records and zeros one bit of each byte.
                let is_filler = files[&name][at] == 0 && cause != Cause::Footer;
                let bits = if is_filler || cause == Cause::Block { 1 } else { 8 };
                for bit in (0..8).cycle().skip(at % 8).take(bits) {
                    check(&mut files, &name, at, bit, &whole, (offset, cause));
                }
            }
        }
    }
    assert!(pages > 8, "directories have pages");
    for cause in [Cause::Manifest, Cause::Header, Cause::Block, Cause::Directory, Cause::Footer] {
        assert!(kinds.contains(&cause), "{cause}");
    }
}

#[test]
fn a_block_in_anothers_place_is_found() {
    // Alike in size, and each whole.
    let changes: Vec<_> = (2..20).map(|main| put(main, 0, "key", &"v".repeat(200))).collect();
    let (sealed, file) = build(IDENTITY, 5, &changes, (256, 300, 1));
    for block in 0..sealed.block_count() {
        for place in 0..sealed.block_count() {
            let result = sealed.check(place, &file[block_range(&sealed, block)]);
            if place == block {
                assert_eq!(result, Ok(()));
            } else {
                let (offset, cause) = (sealed.block_extent(place).0, Cause::Block);
                assert_eq!(result, Err(Damage { file: sealed.file().to_string(), offset, cause }));
            }
        }
    }
}

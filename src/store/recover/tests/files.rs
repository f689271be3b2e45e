//! Files that are missing, of another size, of another store, or in one another's place.

use super::*;
use crate::store::Cause;

const ONE: &str = "0000000000000005.segment";
const TWO: &str = "0000000000000006.segment";

fn told(files: &Files, file: &str, offset: u64, cause: Cause) -> String {
    let damage = refusal(files);
    assert_eq!(damage, Damage { file: file.to_owned(), offset, cause });
    damage.to_string()
}

#[test]
fn a_missing_file_is_named() {
    for name in [ONE, TWO, "manifest"] {
        let mut files = two_segments();
        files.remove(name);
        let text = told(&files, name, 0, Cause::Missing);
        assert!(
            text.starts_with(&format!("revision store {name} at byte 0: the file is missing; "))
        );
    }
}

#[test]
fn a_file_of_another_size_is_named() {
    for name in [ONE, TWO] {
        let whole = two_segments();
        let expected = whole[name].len() as u64;
        for found in [0, 1, expected - 4096, expected - 1, expected + 1, expected + 4096] {
            let mut files = whole.clone();
            files
                .get_mut(name)
                .expect("it is there")
                .resize(usize::try_from(found).expect("small"), 0);
            told(&files, name, found.min(expected), Cause::Size { expected, found });
        }
    }
    for size in [0, 1, 63] {
        let mut files = two_segments();
        files.get_mut("manifest").expect("it is there").truncate(size);
        told(&files, "manifest", 0, Cause::Manifest);
    }
    for found in [64, 4095, 4097, 8192] {
        let mut files = two_segments();
        files.get_mut("manifest").expect("it is there").resize(found, 0);
        told(&files, "manifest", 0, Cause::Size { expected: 4096, found: found as u64 });
    }
}

#[test]
fn a_manifest_beyond_all_measure_is_refused_unread() {
    let found = MANIFEST_SIZE_MAX + 1;
    let files = [("manifest".to_owned(), found)];
    let mut recovery = Recovery::new(small(), IDENTITY.shard, IDENTITY.store_id, &files);
    let Step::Refused(damage) = recovery.poll() else { unreachable!("it is too large") };
    assert_eq!(damage.cause, Cause::Large { found, max: MANIFEST_SIZE_MAX });
}

#[test]
fn files_of_another_store_or_shard_are_told_apart() {
    let store = Identity { store_id: 0x99, ..IDENTITY };
    let shard = Identity { shard: ShardId(4), ..IDENTITY };
    let of_store = Cause::Store { expected: IDENTITY.store_id, found: 0x99 };
    let of_shard = Cause::Shard { expected: 3, found: 4 };
    for (other, cause) in [(store, of_store), (shard, of_shard)] {
        let others = files_of(other, &two_runs(), (256, 100, 2));
        for name in [ONE, TWO, "manifest"] {
            let mut files = two_segments();
            files.insert(name.to_owned(), others[name].clone());
            let text = told(&files, name, 0, cause);
            assert!(text.ends_with("; put back the files that belong to this store"), "{text}");
        }
    }
}

#[test]
fn files_of_another_version_are_refused_by_it() {
    for (name, at) in [(ONE, 4), (TWO, 4), ("manifest", 4)] {
        let mut files = two_segments();
        files.get_mut(name).expect("it is there")[at] = 3;
        let text = told(&files, name, 0, Cause::Version { found: 3 });
        assert!(text.ends_with("; start the program version that wrote it"), "{text}");
    }
    let mut files = two_segments();
    let footer = files[TWO].len() - 64;
    files.get_mut(TWO).expect("it is there")[footer + 4] = 7;
    told(&files, TWO, footer as u64, Cause::Version { found: 7 });
}

#[test]
fn segments_in_one_anothers_place_are_told_apart() {
    let runs = two_runs();
    let mut moved = runs[0].clone();
    for change in &mut moved {
        change.location.main.0 += 100;
    }
    let mut files = files_of(IDENTITY, &[runs[0].clone(), moved], (256, 100, 2));
    let one = files[ONE].clone();
    assert_eq!(one.len(), files[TWO].len());
    files.insert(TWO.to_owned(), one);
    told(&files, TWO, 0, Cause::Number { found: 5 });
}

#[test]
fn a_segment_from_another_life_of_its_number_is_told() {
    let mut runs = two_runs();
    runs[1][3].value = "w".repeat(40).into();
    let mut files = two_segments();
    let other = files_of(IDENTITY, &runs, (256, 100, 2)).remove(TWO).expect("it is there");
    let footer = other.len() - 64;
    assert_ne!(files.insert(TWO.to_owned(), other.clone()), Some(other));
    told(&files, TWO, footer as u64, Cause::Unlisted);
}

#[test]
fn a_name_that_is_not_ours_is_refused() {
    for name in ["x", "0005.segment", "000000000000000G.segment", "ffffffffffffffff.segment"] {
        let mut files = two_segments();
        files.insert(name.to_owned(), Vec::new());
        let text = told(&files, name, 0, Cause::Foreign);
        assert!(text.ends_with("; move it out of the store's directory"), "{text}");
    }
}

#[test]
fn what_no_manifest_names_is_left_over() {
    let mut files = two_segments();
    for name in ["0000000000000004.segment", "0000000000000007.segment", "0000000000000008.new"] {
        files.insert(name.to_owned(), vec![7; 100]);
    }
    files.insert("manifest.new".to_owned(), Vec::new());
    let recovered = recover(small(), &files).1.expect("nothing is damaged");
    assert_eq!(
        recovered.parts.leftovers,
        [FileId::New(8), FileId::Draft, FileId::Segment(4), FileId::Segment(7)]
    );
    let only = Files::from([("manifest.new".to_owned(), vec![1])]);
    let recovered = recover(small(), &only).1.expect("nothing was begun");
    assert_eq!((recovered.parts.leftovers, recovered.state), (vec![FileId::Draft], None));
}

#[test]
fn a_file_that_ends_while_it_is_read_is_named() {
    let files = two_segments();
    let list: Vec<_> = files.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    let mut recovery = Recovery::new(small(), IDENTITY.shard, IDENTITY.store_id, &list);
    let Step::Read { file: FileId::Manifest, offset: 0, size: 4096 } = recovery.poll() else {
        unreachable!("the manifest is read first")
    };
    recovery.handle(&files["manifest"][..100]);
    let Step::Refused(damage) = recovery.poll() else { unreachable!("it is short") };
    assert_eq!(damage.cause, Cause::Short { expected: 4096, found: 100 });
}

#[test]
fn names_are_read_as_they_are_written() {
    let files = [
        FileId::Manifest,
        FileId::Draft,
        FileId::Segment(0),
        FileId::Segment(0xab),
        FileId::New(u64::MAX),
    ];
    for file in files {
        assert_eq!(FileId::parse(&file.to_string()), Some(file));
    }
}

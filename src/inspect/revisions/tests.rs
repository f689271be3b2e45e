//! The text for fixed files, pinned; every part damaged; any bytes at all; and a whole directory.

use super::*;
use crate::inspect::directory;
use crate::store::Builder;
use crate::store::Identity;
use crate::types::Change;
use crate::types::LeaseId;
use crate::types::ShardId;
use proptest::prelude::*;

const IDENTITY: Identity = Identity { store_id: 0x77, shard: ShardId(1) };

const SEGMENT: &str = "\
segment 0000000000000005 of store 0000000000000077, shard 1, 8192 bytes, format version 1
000011cd  directory page 0, 49 bytes, 2 records
00001000  block 0, 178 bytes, 2 records
          2: put a, version 1, created 2, lease 7b, 3 bytes: one
          3: put a, version 2, created 2, 93 bytes: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…
000011fe  directory page 1, 43 bytes, 1 records
000010b2  block 1, 241 bytes, 1 records
          4: put a, version 3, created 2, 200 bytes: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…
00001229  directory page 2, 42 bytes, 1 records
000011a3  block 2, 42 bytes, 1 records
          4/2: delete \\x01b
00001fc0  footer: revisions 2 to 4/2, 4 records in 3 blocks
          data 461 bytes, directory 134 bytes in 3 pages, crc b772fddc
";

fn change(main: i64, sub: u32, key: &str, value: &str) -> Change {
    Change {
        location: Location { main: Revision(main), sub },
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease: LeaseId(0),
        created: Revision(2),
        version: main - 1,
    }
}

/// The files of a small store, and where the parts of its segment begin.
fn store() -> (Vec<(String, Vec<u8>)>, Summary) {
    let changes = [
        Change { lease: LeaseId(0x7b), ..change(2, 0, "a", "one") },
        change(3, 0, "a", &"y".repeat(93)),
        change(4, 0, "a", &"z".repeat(200)),
        Change { created: Revision(0), version: 0, ..change(4, 2, "\u{1}b", "") },
    ];
    let mut builder = Builder::new(IDENTITY, 5, 256).with_page_size(40);
    for change in &changes {
        builder.push(&change.into());
    }
    builder.finish();
    let mut segment = vec![0; builder.ready()];
    builder.fill(&mut segment);
    let listed = Segment { swept: Revision(1), ..builder.into_sealed().listed() };
    let manifest = Manifest {
        identity: IDENTITY,
        sequence: 3,
        number_next: 6,
        segments: vec![listed],
        state: vec![b's'; 40],
        arrived: false,
    };
    let files = [("0000000000000005.segment", segment), ("manifest", manifest.encode())];
    (files.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec(), listed.summary)
}

fn piece(bytes: &[u8], offset: u64, size: usize) -> Vec<u8> {
    let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    bytes[at..bytes.len().min(at.saturating_add(size))].to_vec()
}

fn inspect(bytes: &[u8]) -> (bool, String) {
    let mut out = String::new();
    let mut read = |offset, size| piece(bytes, offset, size);
    let is_whole = print(bytes.len() as u64, true, &mut read, &mut out);
    (is_whole.expect("a string takes all"), out)
}

fn together(files: &[(String, Vec<u8>)]) -> (bool, String) {
    let list: Vec<_> = files.iter().map(|(name, it)| (name.clone(), it.len() as u64)).collect();
    assert!(directory::is_like(&list));
    let mut read = |name: &str, offset, size| {
        let file = files.iter().find(|(other, _)| other == name);
        file.map_or_else(Vec::new, |(_, bytes)| piece(bytes, offset, size))
    };
    let mut out = String::new();
    let is_whole = directory::print(Some(0x77), &list, &mut read, &mut out);
    (is_whole.expect("a string takes all"), out)
}

#[test]
fn fixed_files_print_these_lines() {
    let (files, _) = store();
    assert_eq!(inspect(&files[0].1), (true, SEGMENT.to_owned()));
    assert_eq!(inspect(&files[1].1), (true, MANIFEST.to_owned()));
    assert_eq!(together(&files), (true, STORE.to_owned()));
}

const MANIFEST: &str = "\
manifest 3 of store 0000000000000077, shard 1, 4096 bytes
segment 0000000000000005, 8192 bytes, revisions 2 to 4/2, 4 records in 3 blocks
          swept 1, directory crc b772fddc
next segment 0000000000000006
state, 40 bytes: ssssssssssssssssssssssssssssssss…
";
const STORE: &str = "\
segment 0000000000000005 of store 0000000000000077, shard 1, 8192 bytes, format version 1
00001fc0  footer: revisions 2 to 4/2, 4 records in 3 blocks
          data 461 bytes, directory 134 bytes in 3 pages, crc b772fddc
manifest 3 of store 0000000000000077, shard 1, 4096 bytes
segment 0000000000000005, 8192 bytes, revisions 2 to 4/2, 4 records in 3 blocks
          swept 1, directory crc b772fddc
next segment 0000000000000006
state, 40 bytes: ssssssssssssssssssssssssssssssss…
the store is whole: 4 records in 1 segments; files to be removed: 0
";

/// The text of a segment with one bit of this byte flipped.
fn flipped(offset: u64) -> String {
    let (mut files, _) = store();
    files[0].1[usize::try_from(offset).expect("small")] ^= 4;
    let (is_whole, text) = inspect(&files[0].1);
    assert!(!is_whole, "{text}");
    text
}

#[test]
fn what_is_not_whole_is_named() {
    let (files, summary) = store();
    let text = flipped(9);
    assert!(text.starts_with("a segment of the store: header damaged; it says segment"), "{text}");
    let text = flipped(4);
    assert_eq!(text, "a segment of the store in format version 5, not known here\n");
    let text = flipped(4096 + 60);
    assert!(text.contains("not whole: a block of records is damaged at 00001000\n"), "{text}");
    assert!(text.contains("          3: a, lost\n"), "{text}");
    assert!(text.contains("4/2: delete \\x01b\n"), "{text}");
    assert!(text.ends_with("damaged blocks: 1\n"), "{text}");
    let text = flipped(summary.directory_at() + 30);
    assert!(text.contains("not whole: the directory is damaged\n"), "{text}");
    let text = flipped(summary.padding_at());
    assert!(text.ends_with("not whole: the directory is damaged\n"), "{text}");
    let text = flipped(summary.footer_at() + 20);
    assert!(text.ends_with("the footer is damaged: what the segment holds is not known\n"));
    let (is_whole, text) = inspect(&files[0].1[..5000]);
    assert!(!is_whole && text.contains("the footer is damaged"), "{text}");
    let mut manifest = files[1].1.clone();
    manifest[100] ^= 1;
    let damaged =
        "a manifest of the store\n          not whole: the manifest is damaged at 00000040\n";
    assert_eq!(inspect(&manifest), (false, damaged.to_owned()));
}

#[test]
fn a_directory_says_whether_a_start_would_take_it() {
    let (files, _) = store();
    let (is_whole, text) = together(&files[..1]);
    assert!(!is_whole && text.contains("revision store manifest at byte 0: the file is missing"));
    let (is_whole, text) = together(&files[1..]);
    assert!(!is_whole && text.contains("0000000000000005.segment at byte 0: the file is missing"));
    let mut damaged = files.clone();
    damaged[0].1[4096] ^= 1;
    let (is_whole, text) = together(&damaged);
    assert!(!is_whole && text.contains("the store can be opened, but is damaged"), "{text}");
    damaged[0].1[0] ^= 1;
    let (is_whole, text) = together(&damaged);
    assert!(!is_whole && text.contains("damaged from its first byte on"), "{text}");
    let mut more = files;
    more.push(("0000000000000009.new".to_owned(), vec![1; 10]));
    let (is_whole, text) = together(&more);
    assert!(is_whole && text.contains(".new  10 bytes, not finished"), "{text}");
    assert!(text.ends_with("; files to be removed: 1\n"), "{text}");
    more.push(("stranger".to_owned(), vec![1; 10]));
    let (is_whole, text) = together(&more);
    assert!(!is_whole && text.contains("stranger at byte 0: not a file of ours"), "{text}");
}

#[test]
fn a_log_says_whether_a_start_would_take_it() {
    let header = crate::wal::format::SegmentHeader {
        identity: crate::wal::Identity { log_id: 0x77, shard: ShardId(1) },
        sequence: 0,
        segment_size: 1 << 20,
    };
    let mut file = header.encode();
    file.resize(1 << 20, 0);
    let name = "0000000000000000.wal".to_owned();
    let (is_whole, text) = together(&[(name.clone(), file.clone())]);
    assert!(is_whole && text.contains("the log is whole: 0 frames, no entries after 0"), "{text}");
    file[600] = 1;
    let (is_whole, text) = together(&[(name, file)]);
    assert!(!is_whole && text.contains("0000000000000000.wal at byte 0"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_printed(
        which in 0..2_usize,
        at in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut files, _) = store();
        let file = &mut files[which].1;
        let at = at.index(file.len());
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        inspect(file);
        inspect(&file[..cut.index(file.len())]);
        inspect(&bytes);
        together(&files);
    }
}

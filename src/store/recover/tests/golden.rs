//! The bytes of the format, pinned.

use super::*;
use crate::store::format::{FIELDS, Origin, Rest};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_tables_are_the_format() {
    let rows = crate::frame::table_rows(include_str!("../../format.rs"));
    let code: Vec<_> = FIELDS.iter().map(|&(n, o, s)| (n.to_owned(), o, s)).collect();
    assert_eq!(rows, code);
}

#[test]
fn each_record_and_its_entry_have_these_bytes() {
    let older = Change { created: Revision(0x80), version: 5, ..put(0x102, 0, "k", "value") };
    let cases = [
        (
            older,
            "0201000000000000000000000100000080000000000000000500000000000000\
                 00000000000000006b76616c7565",
            "0805820101056b",
        ),
        (
            leased(0x102, 3, "k", "", 0x99),
            "0201000000000000030000000100000002010000000000000100\
                 00000000000099000000000000006b",
            "0b030100990101006b",
        ),
        (
            tombstone(0x102, 0, "kk"),
            "02010000000000000000000002000000000000000000000000000000\
                 0000000000000000000000006b6b",
            "0800026b6b",
        ),
    ];
    for (change, record, entry) in cases {
        let change = ChangeRef::from(&change);
        let (mut bytes, mut listed) = (Vec::new(), Vec::new());
        change.encode_record(&mut bytes);
        change.encode_entry(Revision(0x100), &mut listed);
        assert_eq!((hex(&bytes), hex(&listed)), (record.to_owned(), entry.to_owned()));
        assert_eq!(bytes.len(), change.record_size());
        assert_eq!(ChangeRef::decode_record(&bytes), Some(change));
        let found = Rest::new(&listed).entry(Revision(0x100)).expect("it is one");
        assert_eq!(
            (found.location, found.key, found.lease),
            (change.location, change.key, change.lease)
        );
        assert_eq!(usize_from(found.size), bytes.len());
    }
}

#[test]
fn a_segment_has_these_bytes() {
    let changes = [put(2, 0, "a", "b"), tombstone(3, 1, "a")];
    let (_, file) = build(IDENTITY, 9, &changes, (4096, 4096, 1));
    assert_eq!(file.len(), 8192);
    assert_eq!(hex(&file[..32]), GOLDEN_HEADER);
    assert!(file[32..4096].iter().all(|&byte| byte == 0));
    assert_eq!(hex(&file[4096 + 83..4096 + 83 + 47]), GOLDEN_PAGE);
    assert!(file[4096 + 83 + 47..8192 - 64].iter().all(|&byte| byte == 0));
    assert_eq!(hex(&file[8192 - 64..]), GOLDEN_FOOTER);
}

#[test]
fn a_manifest_has_these_bytes() {
    let (sealed, _) = build(IDENTITY, 9, &[put(2, 0, "a", "b")], (4096, 4096, 1));
    let mut segment = sealed.listed();
    segment.swept = Revision(4);
    let manifest = Manifest {
        identity: IDENTITY,
        sequence: 8,
        number_next: 10,
        segments: vec![segment],
        state: b"state".to_vec(),
        arrived: false,
    };
    let bytes = manifest.encode();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(hex(&bytes[..64]), GOLDEN_MANIFEST);
    assert_eq!(hex(&bytes[64..64 + 88]), GOLDEN_LISTED);
    assert_eq!(&bytes[152..157], b"state");
    assert!(bytes[157..].iter().all(|&byte| byte == 0));
    assert_eq!(Manifest::decode(&bytes), Ok(manifest.clone()));
    // As it was written before segments could have another origin.
    let mut first = unhex(GOLDEN_MANIFEST_FIRST);
    first.extend(unhex(GOLDEN_LISTED_FIRST));
    first.extend(b"state");
    first.resize(4096, 0);
    assert_eq!(Manifest::decode(&first), Ok(manifest.clone()));
    let origin = Origin { store_id: 0x99, number: 4 };
    let segments = vec![Segment { origin, ..segment }];
    let arrived = Manifest { segments, arrived: true, ..manifest };
    let bytes = arrived.encode();
    assert_eq!((bytes[6], hex(&bytes[136..152])), (1, "99000000000000000400000000000000".into()));
    assert_eq!(Manifest::decode(&bytes), Ok(arrived));
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).unwrap()).unwrap();
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

const GOLDEN_HEADER: &str = "52475347010000008877665544332211090000000000000003000000390dde68";
const GOLDEN_PAGE: &str = "\
    49e884c517000000010000000200000002000000000000000200000053000000fc618cd400010001\
     01610501000161";
const GOLDEN_FOOTER: &str = "\
    524753450100000053000000000000002f0000000000000002000000000000000300000000000000\
     00000000010000000200000001000000b4fc153f7878150d";
const GOLDEN_MANIFEST_FIRST: &str = "\
    5247534d01000000887766554433221108000000000000000a000000000000000300000001000000\
     050000002bdc0043000000000000000000000000b32a9e47";
const GOLDEN_LISTED_FIRST: &str = "\
    090000000000000004000000000000002a000000000000002a000000000000000200000000000000\
     0200000000000000000000000000000001000000010000001c6a9a0200000000";
const GOLDEN_MANIFEST: &str = "\
    5247534d02000000887766554433221108000000000000000a000000000000000300000001000000\
     05000000e48d1f9b000000000000000000000000b514ef69";
const GOLDEN_LISTED: &str = "\
    090000000000000004000000000000002a000000000000002a000000000000000200000000000000\
     0200000000000000000000000000000001000000010000001c6a9a02000000008877665544332211\
     0900000000000000";

//! The bytes of the format, pinned.

use super::*;
use crate::types::Lsn;
use format::{FIELDS, FrameHeader, SegmentHeader};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_tables_are_the_format() {
    let rows = crate::frame::table_rows(include_str!("../format.rs"));
    let code: Vec<_> = FIELDS.iter().map(|&(n, o, s)| (n.to_owned(), o, s)).collect();
    assert_eq!(rows, code);
}

#[test]
fn each_record_has_these_bytes() {
    let cases = [
        (Item::Entry(0x0102, 0x0304, b"abc".to_vec()), "01000000030000000201000000000000"),
        (hard_state(5, Some(0x99), 6), "02010000080000000500000000000000"),
        (hard_state(5, None, 6), "02000000000000000500000000000000"),
        (Item::Snapshot(7, 8, true, b"m".to_vec()), "03010000010000000700000000000000"),
    ];
    let rest = [
        "0403000000000000616263",
        "06000000000000009900000000000000",
        "0600000000000000",
        "08000000000000006d",
    ];
    for ((item, head), rest) in cases.into_iter().zip(rest) {
        let mut bytes = Vec::new();
        item.record().encode(&mut bytes);
        assert_eq!(hex(&bytes), format!("{head}{rest}"));
        assert_eq!(bytes.len(), item.record().size());
        let found: Vec<_> = Records::new(&bytes).map(|r| Item::own(r.expect("ours"))).collect();
        assert_eq!(found, [item]);
    }
}

#[test]
fn a_segment_header_has_these_bytes() {
    let identity = Identity { log_id: LOG_ID, shard: ShardId(3) };
    let header = SegmentHeader { identity, sequence: 2, segment_size: 0x4000 };
    let block = header.encode();
    assert_eq!(
        hex(&block[..40]),
        "52475753010000008877665544332211020000000000000000400000000000000300000000000000"
    );
    assert_eq!(hex(&block[496..512]), GOLDEN_SEGMENT_TRAILER);
    assert!(block[40..496].iter().chain(&block[512..]).all(|&byte| byte == 0));
    assert_eq!(SegmentHeader::decode(&block), Ok(header));
}

#[test]
fn a_frame_has_these_bytes() {
    let identity = Identity { log_id: LOG_ID, shard: ShardId(3) };
    let mut bytes = vec![0; 64];
    entry(1, 2).record().encode(&mut bytes);
    let mut header = FrameHeader {
        open: true,
        log_id: LOG_ID,
        lsn: Lsn(0x1000),
        sequence: 9,
        durable: 7,
        epoch: 3,
        previous_crc: 0xaabb_ccdd,
        body_size: 26,
        record_count: 1,
        window: 0x6000,
        crc: 0,
    };
    header.seal(&mut bytes);
    let mut block = vec![0xee; 4096];
    format::scatter(identity.seal(), header.lsn, header.epoch, &bytes, &mut block);
    assert_eq!(FrameHeader::decode(&block), Some(header));
    assert_eq!(
        hex(&block[..60]),
        "524757460100010088776655443322110010000000000000090000000000000007000000\
         0000000003000000ddccbbaa1a0000000100000000600000"
    );
    assert_eq!(hex(&block[60..90]), GOLDEN_FRAME_REST);
    assert_eq!(hex(&block[496..512]), GOLDEN_FRAME_TRAILER);
    assert_eq!(hex(&block[1008..1020]), "001200000000000003000000");
    let mut gathered = Vec::new();
    format::gather(&block, bytes.len(), &mut gathered);
    assert_eq!(gathered, bytes);
}

const GOLDEN_SEGMENT_TRAILER: &str = "00800000000000000000000085ebdcd6";
const GOLDEN_FRAME_REST: &str = "aa3fc51b0100000002000000010000000000000001000000000000000101";
const GOLDEN_FRAME_TRAILER: &str = "01100000000000000300000053b9c98e";

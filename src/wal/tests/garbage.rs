//! Bytes that nobody of ours wrote: refused or cut, never a panic or a large allocation.

use super::*;
use proptest::prelude::*;

/// A block that may be sealed as ours whatever it holds.
fn forge(block: &mut [u8], segment: u64, offset: usize, epoch: u32, begins: bool) {
    let seal = Identity { log_id: LOG_ID, shard: ShardId(3) }.seal();
    for (nth, sector) in block.chunks_exact_mut(512).enumerate() {
        let lsn = segment * 6 * 4096 + (offset + nth * 512) as u64;
        let begins = begins && nth == 0;
        seal.close(sector, crate::frame::Stamp { lsn, begins, epoch });
    }
}

fn open(disk: Disk) {
    if let Ok(mut node) = Node::open(small(), disk) {
        node.settle();
        let last = node.writer.last();
        node.write(&[Item::Entry(9, last.0 + 1, vec![1; 10])]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_files_are_opened_or_refused(
        files in prop::collection::btree_map(
            "([0-9a-f]{16}|000000000000000[0-2])\\.(wal|spare|tmp)",
            prop::collection::vec(any::<u8>(), 0..9000),
            0..4,
        ),
    ) {
        let mut disk = Disk::default();
        files.into_iter().for_each(|(name, bytes)| disk.create(&name, bytes));
        open(disk);
    }

    #[test]
    fn any_bytes_in_our_files_are_cut_or_refused(
        at in 0..48_usize,
        bytes in prop::collection::vec(any::<u8>(), 1..3000),
    ) {
        let mut node = Node::new(small());
        node.write(&[entry(1, 100)]);
        let name = node.disk.list()[0].0.clone();
        let at = at * 512;
        let end = (at + bytes.len()).min(6 * 4096);
        node.disk.file_mut(&name)[at..end].copy_from_slice(&bytes[..end - at]);
        open(node.disk);
    }

    #[test]
    fn any_sealed_frame_is_taken_or_refused(
        fields in prop::array::uniform10(prop_oneof![
            Just(0_u64), Just(1), Just(2), Just(3), Just(u64::MAX), Just(1 << 62), any::<u64>(),
        ]),
        right in prop::array::uniform10(any::<bool>()),
        body in prop::collection::vec(any::<u8>(), 0..400),
        open_flag in any::<bool>(),
    ) {
        let mut node = Node::new(small());
        node.write(&[entry(1, 100)]);
        let name = node.disk.list()[0].0.clone();
        let last = node.disk.read(&name, 2 * 4096, 4096).to_vec();
        let before = format::FrameHeader::decode(&last).expect("the entry's frame");
        let pick = |nth: usize, value: u64| if right[nth] { value } else { fields[nth] };
        let short = |value: u64| u32::try_from(value & 0xffff_ffff).expect("32 bits");
        let body_size = body.len() as u64;
        let mut header = format::FrameHeader {
            open: open_flag,
            log_id: LOG_ID,
            lsn: crate::types::Lsn(pick(0, 3 * 4096)),
            sequence: pick(1, before.sequence + 1),
            durable: pick(2, before.sequence),
            epoch: short(pick(3, u64::from(before.epoch))),
            previous_crc: short(pick(4, u64::from(before.crc))),
            body_size: short(body_size),
            record_count: short(pick(5, 1)),
            window: short(pick(6, 8192)),
            crc: 0,
        };
        let mut bytes = vec![0; 64];
        bytes.extend_from_slice(&body);
        // Often a record that parses, with any index, term and kind.
        if bytes.len() >= 88 {
            bytes[64] = u8::try_from(fields[7] % 5).expect("small");
            bytes[65] = u8::try_from(fields[8] % 3).expect("small");
            bytes[66..68].fill(0);
            let data = if right[7] { body.len() - 24 } else { 8 };
            bytes[68..72].copy_from_slice(&u32::try_from(data).expect("small").to_le_bytes());
            bytes[80..88].copy_from_slice(&pick(9, 2).to_le_bytes());
        }
        header.seal(&mut bytes);
        if !right[8] {
            bytes[48..52].copy_from_slice(&short(fields[8]).to_le_bytes());
        }
        let mut block = vec![0; 4096];
        for (sector, part) in block.chunks_exact_mut(512).zip(bytes.chunks(496)) {
            sector[..part.len()].copy_from_slice(part);
        }
        forge(&mut block, 0, 3 * 4096, short(pick(3, u64::from(before.epoch))), right[9]);
        node.disk.file_mut(&name)[3 * 4096..4 * 4096].copy_from_slice(&block);
        open(node.disk);
    }
}

//! A flipped bit anywhere is refused and named, or harmless.

use super::*;

/// Two segments and a bit: frames of one and two blocks, an unused end, old frames in
/// recycled space, and one more frame in flight that landed.
fn log() -> Node {
    let mut node = Node::new(small());
    node.write(&[entry(1, 100), hard_state(1, Some(1), 0)]);
    node.write(&[entry(2, 5000)]);
    node.write(&[entry(3, 4000)]);
    node.write(&[entry(4, 700), Item::Snapshot(1, 2, false, vec![3; 30])]);
    node
}

/// That each bit of a sector breaks it is tested where sectors are; here every sector is broken in
/// some bytes, its ends among them.
#[test]
fn a_flipped_bit_in_any_sector_is_named_or_harmless() {
    let node = log();
    let (_, sound) = recover(small(), &node.disk).expect("sound");
    assert_eq!(sound.entries.len(), 4);
    let (mut refused, mut harmless) = (0, 0);
    let mut disk = node.disk.clone();
    for (name, size) in node.disk.list() {
        for sector in 0..usize::try_from(size).expect("small") / 512 {
            let (mut named, bytes) = (0, [0, 64, 88, 300, 495, 496, 505, 511]);
            for byte in bytes.map(|byte| sector * 512 + byte) {
                let bit = byte * 8 + (byte + sector) % 8;
                disk.flip(&name, bit);
                match recover(small(), &disk) {
                    Ok((_, found)) => assert_eq!(found, sound, "{name} {byte}"),
                    Err(damage) => {
                        assert_eq!(damage.file, name, "byte {byte}: {damage}");
                        let at = usize::try_from(damage.offset).expect("small") / 512;
                        assert!(at == sector || sector < 8 && at == 0, "byte {byte}: {damage}");
                        named += 1;
                    }
                }
                disk.flip(&name, bit);
            }
            assert!(named == 0 || named == bytes.len(), "sector {sector} of {name}");
            refused += usize::from(named > 0);
            harmless += usize::from(named == 0);
        }
    }
    // Three headers, seven blocks of frames, the sector at which the next frame is due, and the
    // one at which it would be if it did not fit there.
    assert_eq!(refused, 3 * 8 + 7 * 8 + 2);
    assert!(harmless > 50);
}

#[test]
fn a_swapped_or_repeated_sector_is_refused() {
    let node = log();
    let file = node.disk.list()[0].0.clone();
    let (_, sound) = recover(small(), &node.disk).expect("sound");
    let sectors = node.disk.file(&file).len() / 512;
    let used = 8..sectors - 8;
    for from in 8..sectors {
        for to in used.clone().filter(|&to| to != from) {
            let mut disk = node.disk.clone();
            disk.file_mut(&file).copy_within(from * 512..(from + 1) * 512, to * 512);
            if let Ok((_, found)) = recover(small(), &disk) {
                assert_eq!(found, sound, "sector {from} over {to}");
            }
        }
    }
}

/// A disk that lies: a completed write, or some sectors of it, is not there.
#[test]
fn a_lost_acknowledged_frame_is_refused_once_a_later_one_is_there() {
    let mut before = Node::new(small());
    before.write(&[entry(1, 100)]);
    let old = before.disk.clone();
    let mut node = before;
    node.write(&[entry(2, 3500)]);
    node.writer.mark();
    node.settle();
    let file = node.disk.list()[0].0.clone();
    for lost in 1..256_usize {
        let mut disk = node.disk.clone();
        for sector in (0..8).filter(|sector| lost >> sector & 1 == 1) {
            let at = 3 * 4096 + sector * 512;
            let bytes = old.file(&file)[at..at + 512].to_vec();
            disk.file_mut(&file)[at..at + 512].copy_from_slice(&bytes);
        }
        let damage = recover(small(), &disk).expect_err("an acknowledged frame is gone");
        assert_eq!((damage.file, damage.offset), (file.clone(), 3 * 4096));
        assert!(matches!(damage.cause, Cause::Lost(_)), "{:?}", damage.cause);
    }
}

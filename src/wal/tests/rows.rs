//! Each row of the recovery table, as a disk that looks like it.

use super::*;
use crate::types::Lsn;
use decide::Row;
use format::{FrameHeader, SegmentHeader};

const FILE: &str = "0000000000000000.wal";
const NEXT: &str = "0000000000000001.wal";

/// A log of an open frame at block 1 and one entry at block 2, with two more segments ready.
fn base() -> Node {
    let mut node = Node::new(Config { writes_in_flight_max: 3, ..small() });
    node.write(&[entry(1, 100)]);
    node
}

/// Opens what is on the disk; the row at which the log ends, with the number of entries in it.
fn ends(disk: &Disk) -> (Row, usize) {
    let node = Node::open(small(), disk.clone()).expect("no damage");
    (node.end.2, node.recovered.entries.len())
}

fn refused(disk: &Disk) -> (String, u64, Cause) {
    let damage = Node::open(small(), disk.clone()).expect_err("damage");
    assert!(damage.to_string().contains(&damage.file));
    (damage.file, damage.offset, damage.cause)
}

fn at(file: &str, offset: u64, cause: Cause) -> (String, u64, Cause) {
    (file.to_owned(), offset, cause)
}

/// Puts a frame of our own making on the disk.
fn forge(disk: &mut Disk, change: impl Fn(&mut FrameHeader), keep_crc: bool) {
    let bytes = disk.read(FILE, 2 * 4096, 4096).to_vec();
    let (mut body, mut frame) = (Vec::new(), vec![0; 4096]);
    let mut header = FrameHeader::decode(&bytes).expect("the entry's frame");
    format::gather(&bytes, 64 + format::usize_from(header.body_size), &mut body);
    header.lsn.0 += 4096;
    header.previous_crc = header.crc;
    header.sequence += 1;
    header.durable += 1;
    change(&mut header);
    header.seal(&mut body);
    if !keep_crc {
        let last = body.len() - 1;
        body[last] ^= 1;
    }
    let seal = Identity { log_id: LOG_ID, shard: ShardId(3) }.seal();
    format::scatter(seal, Lsn(3 * 4096), header.epoch, &body, &mut frame);
    disk.file_mut(FILE)[3 * 4096..4 * 4096].copy_from_slice(&frame);
}

#[test]
fn row_a_a_whole_frame_is_accepted() {
    assert_eq!(ends(&base().disk), (Row('J'), 1));
}

/// Segment 0 full but for one block, which the next frame does not fit.
fn moved_on() -> Node {
    let mut node = base();
    node.write(&[entry(2, 10)]);
    node.write(&[entry(3, 10)]);
    node.write(&[entry(4, 5000)]);
    assert!(node.commands.iter().any(|c| c == &format!("write 5 {NEXT} 4096 8192")));
    node
}

#[test]
fn row_b_the_log_goes_on_in_the_next_segment_though_there_is_room() {
    assert_eq!(ends(&moved_on().disk), (Row('J'), 4));
}

#[test]
fn row_b_damage_to_the_unused_end_of_a_segment_is_harmless() {
    let mut node = moved_on();
    node.disk.flip(FILE, 5 * 4096 * 8);
    assert_eq!(ends(&node.disk), (Row('J'), 4));
}

#[test]
fn row_b_a_full_segment_is_followed_by_the_next() {
    let mut node = base();
    for index in 2..=5 {
        node.write(&[entry(index, 10)]);
    }
    assert_eq!(ends(&node.disk), (Row('J'), 5));
}

#[test]
fn row_c_two_frames_that_both_follow_are_refused() {
    let node = moved_on();
    let mut other = base();
    other.write(&[entry(2, 10)]);
    other.write(&[entry(3, 10)]);
    other.write(&[entry(4, 10)]);
    let mut disk = node.disk;
    disk.create(FILE, other.disk.file(FILE).to_vec());
    disk.file_mut(FILE)[5 * 4096 + 512..5 * 4096 + 1024].fill(0);
    assert_eq!(refused(&disk), at(FILE, 5 * 4096, Cause::Frame(Row('C'))));
}

#[test]
fn row_d_a_damaged_beginning_is_refused() {
    let mut node = base();
    node.disk.flip(FILE, (2 * 4096 + 77) * 8);
    assert_eq!(refused(&node.disk), at(FILE, 2 * 4096, Cause::Sector(Row('D'))));
}

#[test]
fn row_e_a_damaged_sector_of_a_frame_is_refused() {
    let mut node = base();
    node.disk.flip(FILE, (2 * 4096 + 3 * 512) * 8);
    let place = 2 * 4096 + 3 * 512;
    assert_eq!(refused(&node.disk), at(FILE, place, Cause::Sector(Row('E'))));
}

#[test]
fn row_f_a_wrong_crc_over_whole_sectors_is_refused() {
    let mut node = base();
    forge(&mut node.disk, |_| {}, false);
    assert_eq!(refused(&node.disk), at(FILE, 3 * 4096, Cause::Frame(Row('F'))));
}

#[test]
fn row_g_a_frame_that_does_not_follow_is_refused() {
    let changes: [fn(&mut FrameHeader); 8] = [
        |header| header.sequence += 1,
        |header| header.previous_crc ^= 1,
        |header| header.epoch += 1,
        |header| header.open = true,
        |header| header.lsn.0 += 4096,
        |header| header.log_id ^= 1,
        |header| header.durable = header.sequence,
        |header| header.sequence = u64::MAX,
    ];
    for change in changes {
        let mut node = base();
        forge(&mut node.disk, change, true);
        assert_eq!(refused(&node.disk), at(FILE, 3 * 4096, Cause::Frame(Row('G'))));
    }
    let mut node = base();
    forge(&mut node.disk, |_| {}, true);
    assert_eq!(ends(&node.disk), (Row('J'), 1), "the frame itself is sound");
}

#[test]
fn row_h_a_torn_frame_is_cut() {
    let mut node = base();
    node.append(&[entry(2, 10)]);
    node.issue();
    node.disk.crash(|sector| sector < 3);
    assert_eq!(ends(&node.disk), (Row('H'), 1));
}

#[test]
fn row_h_a_torn_frame_is_cut_though_a_later_one_is_whole() {
    let mut node = base();
    node.append(&[entry(2, 10)]);
    node.issue();
    node.append(&[entry(3, 10)]);
    node.issue();
    node.disk.crash(|sector| sector != 3);
    assert_eq!(ends(&node.disk), (Row('H'), 1));
}

#[test]
fn row_i_a_torn_frame_that_was_acknowledged_is_refused() {
    let mut node = base();
    node.write(&[entry(2, 10)]);
    node.disk.file_mut(FILE)[2 * 4096 + 512..2 * 4096 + 1024].fill(0);
    assert_eq!(refused(&node.disk), at(FILE, 2 * 4096, Cause::Lost(Row('I'))));
}

#[test]
fn row_j_the_log_ends_where_nothing_was_written() {
    let node = base();
    assert_eq!(ends(&node.disk), (Row('J'), 1));
}

#[test]
fn row_k_what_follows_a_lost_frame_is_cut() {
    let mut node = base();
    node.append(&[entry(2, 10)]);
    node.issue();
    node.append(&[entry(3, 10)]);
    node.issue();
    node.disk.crash(|sector| sector >= 8);
    assert_eq!(ends(&node.disk), (Row('K'), 1));
}

#[test]
fn row_l_a_lost_frame_that_was_acknowledged_is_refused() {
    let mut node = base();
    node.write(&[entry(2, 10)]);
    node.disk.file_mut(FILE)[2 * 4096..3 * 4096].fill(0);
    assert_eq!(refused(&node.disk), at(FILE, 2 * 4096, Cause::Lost(Row('L'))));
}

#[test]
fn row_l_a_log_without_its_beginning_needs_its_first_frame() {
    let mut node = moved_on();
    for index in 5..=8 {
        node.write(&[entry(index, 10)]);
    }
    node.write(&[Item::Snapshot(1, 8, false, Vec::new())]);
    node.writer.release(LogIndex(8));
    node.settle();
    assert!(node.disk.list().iter().all(|(name, _)| name != FILE));
    assert_eq!(ends(&node.disk).0, Row('J'));
    let first = node.disk.list()[0].0.clone();
    node.disk.file_mut(&first)[4096..].fill(0);
    assert_eq!(refused(&node.disk), at(&first, 4096, Cause::Lost(Row('L'))));
}

/// Segment 0 full to its last block.
fn full() -> Node {
    let mut node = base();
    for index in 2..=4 {
        node.write(&[entry(index, 10)]);
    }
    node
}

#[test]
fn row_m_the_log_ends_with_its_segment() {
    assert_eq!(ends(&full().disk), (Row('M'), 4));
}

#[test]
fn row_m_the_log_ends_with_its_segment_and_the_next_was_not_made() {
    let mut node = full();
    node.disk.remove(NEXT);
    assert_eq!(ends(&node.disk), (Row('M'), 4));
}

#[test]
fn row_n_what_follows_a_lost_frame_in_the_next_segment_is_cut() {
    let mut node = full();
    node.append(&[entry(5, 10)]);
    node.issue();
    node.append(&[entry(6, 10)]);
    node.issue();
    node.disk.crash(|sector| sector >= 8);
    assert_eq!(ends(&node.disk), (Row('N'), 4));
}

#[test]
fn row_o_a_lost_frame_before_an_acknowledged_one_is_refused_across_segments() {
    let mut node = full();
    node.write(&[entry(5, 10)]);
    node.write(&[entry(6, 10)]);
    node.disk.file_mut(NEXT)[4096..2 * 4096].fill(0);
    assert_eq!(refused(&node.disk), at(FILE, 6 * 4096, Cause::Lost(Row('O'))));
}

#[test]
fn row_p_a_damaged_beginning_of_the_next_segment_is_refused() {
    let mut node = full();
    node.write(&[entry(5, 10)]);
    node.disk.flip(NEXT, 4100 * 8);
    assert_eq!(refused(&node.disk), at(NEXT, 4096, Cause::Sector(Row('P'))));
}

#[test]
fn what_is_not_a_log_of_ours_is_refused_by_name() {
    let base = || base().disk;
    let mut disk = base();
    disk.create("0.tmp", Vec::new());
    assert_eq!(refused(&disk), at("0.tmp", 0, Cause::Foreign));
    for name in ["000000000000000G.wal", "0000000000000001.WAL", "ffffffffffffffff.wal"] {
        let mut disk = base();
        disk.create(name, Vec::new());
        assert_eq!(refused(&disk), at(name, 0, Cause::Foreign));
    }
    let mut disk = base();
    disk.create("0000000000000003.wal", vec![0; 6 * 4096]);
    assert_eq!(refused(&disk), at("0000000000000002.wal", 0, Cause::Missing));
    let mut disk = base();
    disk.file_mut(NEXT).push(0);
    let size = Cause::Size { expected: 6 * 4096, found: 6 * 4096 + 1 };
    assert_eq!(refused(&disk), at(NEXT, 0, size));
    let mut disk = base();
    disk.flip(NEXT, 100);
    assert_eq!(refused(&disk), at(NEXT, 0, Cause::Header));
    let mut disk = base();
    disk.file_mut(NEXT)[4] = 2;
    assert_eq!(refused(&disk), at(NEXT, 0, Cause::Version { found: 2 }));
}

#[test]
fn a_segment_of_another_log_or_shard_or_place_is_refused() {
    let header = |log_id, shard, sequence| {
        let identity = Identity { log_id, shard: ShardId(shard) };
        SegmentHeader { identity, sequence, segment_size: 6 * 4096 }.encode()
    };
    let cases = [
        (header(LOG_ID, 4, 1), Cause::Shard { expected: 3, found: 4 }),
        (header(9, 3, 1), Cause::Log { expected: LOG_ID, found: 9 }),
        (header(LOG_ID, 3, 2), Cause::Sequence { found: 2 }),
    ];
    for (block, cause) in cases {
        let mut disk = base().disk;
        disk.file_mut(NEXT)[..4096].copy_from_slice(&block);
        assert_eq!(refused(&disk), at(NEXT, 0, cause));
    }
}

/// The simulation found that a log began anew behind a segment that was taken away, if the next
/// one held no entry yet.
#[test]
fn a_log_without_the_entries_that_it_knows_to_be_committed_is_refused() {
    let mut node = Node::new(small());
    for index in 1..=3 {
        node.write(&[entry(index, 10)]);
    }
    node.write(&[hard_state(1, Some(1), 2)]);
    node.write(&[hard_state(1, Some(1), 3)]);
    let first = node.disk.list()[0].0.clone();
    node.disk.remove(&first);
    let second = node.disk.list()[0].0.clone();
    let due = at(&second, 2 * 4096, Cause::Gap { expected: 1, index: 4 });
    assert_eq!(refused(&node.disk), due);
}

#[test]
fn a_log_whose_segments_are_all_gone_is_not_taken_for_a_new_one() {
    let mut disk = base().disk;
    let segments = disk.list().into_iter().filter(|(name, _)| name.ends_with(".wal"));
    segments.for_each(|(name, _)| disk.remove(&name));
    assert_eq!(refused(&disk), at(FILE, 0, Cause::Missing));
}

#[test]
fn a_log_that_lost_entries_between_snapshot_and_first_is_refused() {
    let mut node = moved_on();
    node.disk.remove(FILE);
    let (_, _, cause) = refused(&node.disk);
    assert_eq!(cause, Cause::Gap { expected: 1, index: 4 });
}

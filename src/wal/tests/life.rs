//! The life of a log without faults: segments, spares, batches, tokens, reading back.

use super::*;

#[test]
fn a_new_log_makes_its_files_and_says_that_it_is_open() {
    let node = Node::new(small());
    assert_eq!(
        node.commands,
        [
            "create 0000000000000000.spare 24576 urgently",
            "activate 0000000000000000.spare 0000000000000000.wal",
            "write 1 0000000000000000.wal 4096 4096",
            "create 0000000000000001.spare 24576 urgently",
            "activate 0000000000000001.spare 0000000000000001.wal",
            "create 0000000000000002.spare 24576",
        ]
    );
}

#[test]
fn what_was_written_is_recovered_in_order() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 100), entry(2, 0), hard_state(1, Some(7), 1)]);
    node.write(&[entry(3, 3000), hard_state(2, None, 2)]);
    let node = node.reopen(small());
    assert_eq!(node.recovered.entries.len(), 3);
    assert_eq!(node.recovered.hard_state.term, Term(2));
    assert_eq!(node.recovered.hard_state.vote, None);
}

#[test]
fn everything_that_waits_goes_into_the_next_frame() {
    let mut node = Node::new(small());
    node.append(&[entry(1, 10)]);
    node.issue();
    node.append(&[entry(2, 10)]);
    node.issue();
    assert_eq!(node.writes.len(), 2, "two may be in flight");
    for index in 3..20 {
        node.append(&[entry(index, 10)]);
        node.issue();
    }
    assert!(!node.writer.can_write());
    assert_eq!(node.writes.len(), 2);
    node.complete(0);
    node.issue();
    assert_eq!(node.writes.len(), 2, "seventeen batches are one frame");
    node.settle();
    assert_eq!(node.acknowledged, 19);
    assert_eq!(node.commands.iter().filter(|c| c.starts_with("write")).count(), 4);
}

#[test]
fn a_batch_larger_than_a_frame_is_several() {
    let mut node = Node::new(small());
    let items: Vec<Item> = (1..=9).map(|index| entry(index, 2500)).collect();
    node.append(&items);
    node.settle();
    assert_eq!(node.acknowledged, 9);
    assert_eq!(node.reopen(small()).recovered.entries.len(), 9);
}

#[test]
fn only_the_contiguous_prefix_is_acknowledged() {
    let mut node = Node::new(small());
    node.append(&[entry(1, 10)]);
    node.issue();
    node.append(&[entry(2, 10)]);
    node.issue();
    node.complete(1);
    assert_eq!(node.acknowledged, 0);
    node.append(&[entry(3, 10)]);
    node.issue();
    assert_eq!(node.writes.len(), 1, "a frame waits for the one two before it");
    node.complete(0);
    assert_eq!(node.acknowledged, 2);
}

#[test]
fn the_first_token_waits_for_the_log_to_be_open() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 10)]);
    let mut node = node.reopen(small());
    node.writer.submit(5);
    assert!(node.step() && node.step());
    assert_eq!(node.commands[0], "sync 0000000000000000.wal");
    assert_eq!(node.writer.durable(), None);
    let (id, write) = node.writes.remove(0);
    node.disk.complete(write);
    node.writer.handle(Event::Written { id });
    assert_eq!(node.writer.durable(), Some(5));
}

#[test]
fn a_token_of_nothing_new_waits_for_nothing_new() {
    let mut node = Node::new(small());
    node.writer.submit(77);
    assert_eq!(node.writer.durable(), Some(77));
    assert_eq!(node.writer.durable(), None);
}

#[test]
fn a_log_of_many_segments_is_recovered() {
    let mut node = Node::new(small());
    for index in 1..=60 {
        node.write(&[entry(index, 900), hard_state(index, Some(1), index)]);
    }
    let node = node.reopen(small());
    assert_eq!(node.recovered.entries.len(), 60);
    assert!(node.disk.list().len() > 10);
}

#[test]
fn a_lower_index_replaces_what_follows() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 10), entry(2, 10), entry(3, 10)]);
    node.write(&[Item::Entry(2, 2, vec![9; 9])]);
    let node = node.reopen(small());
    let terms: Vec<_> = node.recovered.entries.iter().map(|entry| (entry.0, entry.1)).collect();
    assert_eq!(terms, [(1, 1), (2, 2)]);
}

#[test]
fn entries_are_read_back_where_they_lie_together() {
    let mut node = Node::new(small());
    for index in 1..=20 {
        node.write(&[entry(index, 900), hard_state(1, Some(1), index)]);
    }
    node.write(&[Item::Entry(2, 18, vec![9; 50]), Item::Entry(2, 19, vec![8; 50])]);
    let mut node = node.reopen(small());
    node.settle();
    let (mut first, mut fetches, mut terms) = (2, 0, Vec::new());
    while first <= 19 {
        let id = node.writer.fetch(LogIndex(first), LogIndex(19), 9_000).expect("it is there");
        node.settle();
        let (done, entries) = node.writer.fetched().expect("it was read");
        let entries = entries.expect("nothing is damaged");
        assert_eq!(done, id);
        assert!(entries.iter().map(crate::raft::Entry::size).sum::<usize>() <= 9_000);
        for entry in entries {
            assert_eq!(entry.index, LogIndex(first));
            terms.push(entry.term.0);
            first += 1;
        }
        fetches += 1;
    }
    assert!(fetches < 14, "some lay together: {fetches}");
    assert_eq!(terms, [[1; 16].as_slice(), &[2; 2]].concat());
    assert!(node.writer.fetch(LogIndex(20), LogIndex(20), 4_000).is_none(), "it was replaced");
}

#[test]
fn a_segment_that_is_read_is_not_given_back() {
    let mut node = Node::new(small());
    for index in 1..=30 {
        node.write(&[entry(index, 900)]);
    }
    node.write(&[Item::Snapshot(1, 30, false, vec![5; 64])]);
    let id = node.writer.fetch(LogIndex(1), LogIndex(3), 4_000).expect("it is there");
    let command = node.writer.poll().expect("it is to be read");
    node.writer.release(LogIndex(30));
    node.settle();
    assert!(node.disk.list().iter().any(|file| file.0 == "0000000000000000.wal"));
    node.perform(&command);
    let (done, entries) = node.writer.fetched().expect("it was read");
    assert_eq!((done, entries.expect("nothing is damaged").len()), (id, 1));
    node.settle();
    assert!(!node.disk.list().iter().any(|file| file.0 == "0000000000000000.wal"));
    assert!(node.writer.fetch(LogIndex(1), LogIndex(3), 4_000).is_none());
}

#[test]
fn what_is_damaged_is_told_and_not_handed_over() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 900)]);
    node.disk.flip("0000000000000000.wal", (8192 + 700) * 8);
    node.writer.fetch(LogIndex(1), LogIndex(1), 4_000).expect("it is there");
    node.settle();
    let (_, entries) = node.writer.fetched().expect("it was read");
    let damage = entries.expect_err("a bit is wrong");
    assert_eq!((damage.offset, damage.cause), (8192 + 512, Cause::Sector(decide::Row('E'))));
}

#[test]
fn released_segments_are_used_again() {
    let mut node = Node::new(Config { spares_max: 8, ..small() });
    for index in 1..=200 {
        node.write(&[entry(index, 900), hard_state(1, Some(1), index)]);
        if index % 10 == 0 {
            node.write(&[Item::Snapshot(1, index, false, vec![5; 64])]);
            node.writer.release(LogIndex(index));
            node.settle();
        }
    }
    let files = node.disk.list();
    assert!(files.len() <= 8, "{files:?}");
    assert!(node.commands.iter().filter(|c| c.starts_with("create")).count() <= 8);
    assert!(node.commands.iter().filter(|c| c.starts_with("recycle")).count() > 30);
    let node = node.reopen(small());
    assert_eq!(node.recovered.snapshot.as_ref().map(|snapshot| snapshot.1), Some(200));
    assert_eq!(node.recovered.hard_state.committed, LogIndex(200));
}

#[test]
fn nothing_is_released_past_a_durable_snapshot() {
    let mut node = Node::new(small());
    for index in 1..=30 {
        node.write(&[entry(index, 900)]);
    }
    node.writer.release(LogIndex(30));
    node.settle();
    assert_eq!(node.reopen(small()).recovered.entries.len(), 30);
}

#[test]
fn a_snapshot_from_elsewhere_replaces_the_log() {
    let mut node = Node::new(small());
    for index in 1..=8 {
        node.write(&[entry(index, 900)]);
    }
    node.write(&[Item::Snapshot(4, 1000, true, b"members".to_vec()), entry(1001, 10)]);
    for index in 1002..1030 {
        node.write(&[entry(index, 900)]);
    }
    node.writer.release(LogIndex(1000));
    node.settle();
    assert!(node.commands.iter().any(|command| command.starts_with("recycle")));
    let node = node.reopen(small());
    assert_eq!(node.recovered.entries[0].1, 1001);
    assert_eq!(node.writer.last(), LogIndex(1029));
}

#[test]
fn an_old_entry_is_found_and_read_back() {
    let mut node = Node::new(small());
    for index in 1..=20 {
        node.write(&[entry(index * 2 - 1, 700), entry(index * 2, 10)]);
    }
    let new = Item::Entry(2, 31, vec![1; 5]);
    node.write(&[entry(41, 1), Item::Entry(2, 31, vec![9]), entry(32, 9), new, entry(32, 10)]);
    for node in [&node, &Node::open(small(), node.disk.clone()).expect("sound")] {
        for index in 1..=32 {
            let extent = node.writer.locate(LogIndex(index)).expect("it is durable");
            assert!(extent.first.0 <= index && index <= extent.last.0);
            let bytes = node.disk.read(&extent.file.to_string(), extent.offset, extent.size);
            let mut body = Vec::new();
            read::read(node.writer.identity(), extent, bytes, &mut body).expect("whole");
            let found: Vec<_> = read::entries(extent, &body).into_iter().map(Item::own).collect();
            assert_eq!(found.len() as u64, extent.last.0 - extent.first.0 + 1);
            let found = usize::try_from(index - extent.first.0).map(|nth| found[nth].clone());
            let expected = match index {
                31 => Item::Entry(2, 31, vec![1; 5]),
                odd if odd % 2 == 1 => entry(odd, 700),
                even => entry(even, 10),
            };
            assert_eq!(found, Ok(expected));
        }
        assert_eq!(node.writer.locate(LogIndex(33)), None);
        assert_eq!(node.writer.locate(LogIndex(0)), None);
    }
}

#[test]
fn a_mark_is_written_once_and_only_when_idle() {
    let mut node = Node::new(small());
    node.writer.mark();
    node.settle();
    let before = node.commands.len();
    node.append(&[entry(1, 10)]);
    node.writer.mark();
    node.issue();
    assert_eq!(node.commands.len(), before + 1, "the data first");
    node.settle();
    assert_eq!(node.commands.len(), before + 2, "then the mark");
    node.writer.mark();
    node.settle();
    assert_eq!(node.commands.len(), before + 2, "and not again");
}

#[test]
fn the_configured_segment_size_does_not_change_a_log() {
    let mut node = Node::new(small());
    node.write(&[entry(1, 10)]);
    let mut node = node.reopen(Config { segment_size: 1 << 20, ..small() });
    node.write(&[entry(2, 5000)]);
    assert_eq!(node.reopen(small()).recovered.entries.len(), 2);
}

#[test]
fn a_log_opened_again_and_again_goes_on() {
    let mut node = Node::new(small());
    for index in 1..=40 {
        node.write(&[entry(index, 300)]);
        node = node.reopen(small());
        assert_eq!(node.recovered.entries.len() as u64, index);
        if index % 3 == 0 {
            node.settle();
        }
    }
}

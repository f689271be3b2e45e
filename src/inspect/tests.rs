//! The text for a fixed run, pinned; and any bytes at all.

use super::*;
use crate::identity::Known;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::ShardId;
use crate::types::Term;
use crate::wal::format::HardState;
use crate::wal::{Command, Config, Event, FileId, Recovery, Step, Writer};
use proptest::prelude::*;

const LINES: &str = "\
segment 0000000000000000 of log 00000000000000aa, shard 1, 49152 bytes, format version 1
00001000  frame 1, epoch 1, open, 4096 bytes, durable 0, crc c050ef3f after 00000000
00002000  frame 2, epoch 1, 4096 bytes, durable 1, crc 6a860cfa after c050ef3f
          entry 1, term 2, kind 0, 7 bytes: put a=b
          hard state: term 2, vote 1f, committed 1
00003000  frame 3, epoch 1, 8192 bytes, durable 2, crc 5d9b9b07 after 6a860cfa
          entry 2, term 2, kind 0, 5000 bytes: zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz…
00005000  frame 4, epoch 1, 4096 bytes, durable 3, crc 80d83f2b after 5d9b9b07
          snapshot: index 1, term 2, membership 3 bytes
00006000  up to 0000c000: never written
";

/// The first segment of a small log.
fn segment() -> Vec<u8> {
    let config = Config {
        segment_size: 12 * 4096,
        frame_size_max: 4 * 4096,
        membership_size_max: 64,
        ..Config::default()
    };
    let mut recovery = Recovery::new(config, ShardId(1), 0xaa, &[]);
    let Step::Done(recovered) = recovery.poll() else { unreachable!("the log is new") };
    let (mut writer, mut file) = (recovered.writer, vec![0; 12 * 4096]);
    let state = HardState { term: Term(2), vote: Some(NodeId(31)), committed: LogIndex(1) };
    let entry =
        |index, data| Record::Entry { term: Term(2), index: LogIndex(index), kind: 0, data };
    let (term, index, membership) = (Term(2), LogIndex(1), &b"abc"[..]);
    settle(&mut writer, &mut file);
    writer.append(&entry(1, b"put a=b"));
    writer.append(&Record::HardState(state));
    settle(&mut writer, &mut file);
    writer.append(&entry(2, &[b'z'; 5000]));
    settle(&mut writer, &mut file);
    writer.append(&Record::Snapshot { term, index, reset: false, membership });
    settle(&mut writer, &mut file);
    file
}

fn settle(writer: &mut Writer, file: &mut [u8]) {
    while let Some(command) = writer.poll() {
        match command {
            Command::Write { id, file: FileId::Segment(0), offset, size } => {
                let at = usize::try_from(offset).expect("small");
                writer.fill(id, &mut file[at..at + size]);
                writer.handle(Event::Written { id });
            }
            Command::Activate { to: FileId::Segment(0), header, .. } => {
                file[..header.len()].copy_from_slice(&header);
                writer.handle(Event::Done);
            }
            Command::Read { .. } => unreachable!("nobody lags"),
            Command::Write { .. }
            | Command::Create { .. }
            | Command::Activate { .. }
            | Command::Recycle { .. }
            | Command::Remove { .. }
            | Command::Sync { .. } => writer.handle(Event::Done),
        }
    }
}

fn inspect(bytes: &[u8]) -> String {
    let (mut inspector, mut out) = (Inspector::new(), String::new());
    for block in bytes.chunks(BLOCK_SIZE) {
        inspector.block(block, &mut out).expect("a string takes all");
    }
    inspector.finish(&mut out).expect("a string takes all");
    out
}

#[test]
fn a_fixed_run_prints_these_lines() {
    assert_eq!(inspect(&segment()), LINES);
}

#[test]
fn what_is_not_whole_is_named() {
    let mut file = segment();
    file[2 * 4096 + 600] ^= 1;
    file[4 * 4096 + 512..4 * 4096 + 1024].fill(0);
    file[7 * 4096] = 1;
    let text = inspect(&file[..file.len() - 4090]);
    assert!(text.contains("not whole: damaged at 00002200\n"), "{text}");
    assert!(text.contains("not whole: torn at 00004200\n"), "{text}");
    assert!(text.contains("00007000  up to 00008000: damaged\n"), "{text}");
    assert!(text.contains("0000b000  6 bytes past the last block\n"), "{text}");
    assert!(text.ends_with("the file has 45062 bytes, not 49152\n"), "{text}");
}

#[test]
fn other_files_are_told_apart() {
    assert_eq!(inspect(&[0; 8192]), "a spare file of the log, never used\n");
    assert_eq!(inspect(&[7; 4096]), "not a file of ours\n");
    let mut file = segment();
    file[4] = 2;
    assert_eq!(inspect(&file), "a segment of the log in format version 2, not known here\n");
    file[4] = 1;
    file[9] ^= 1;
    assert_eq!(inspect(&file), "a segment of the log: header damaged\n");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_printed(
        at in 0..12 * 4096_usize,
        bytes in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        let mut file = segment();
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        inspect(&file);
        inspect(&bytes);
    }
}

#[test]
fn the_identity_and_the_lock_are_printed_and_strangers_are_told_apart() {
    let identity = Identity {
        cluster: crate::types::ClusterId(0xc1),
        member: NodeId(0xa2),
        shards: 2,
        log_id: 7,
        joined: true,
        founders: vec![NodeId(0xb3)],
        known: vec![Known {
            id: NodeId(0xa2),
            learner: true,
            peer_urls: vec!["http://a:1".to_owned()],
            name: "one".to_owned(),
        }],
    };
    let text = identity.text();
    let expected = "identity: member a2 of cluster c1\n          shards 2, log 0000000000000007\n  \
                    joined, knowing a2 \"one\" at http://a:1, a learner\n";
    assert_eq!(inspect(text.as_bytes()), expected);
    let bent = text.replace("shards 2", "shards 3");
    assert!(inspect(bent.as_bytes()).starts_with("identity, damaged: "), "{bent}");
    let lock = "lock of a data directory, taken last by process 4711\n";
    assert_eq!(inspect(b"process 4711\n"), lock);
    for stranger in ["process of elimination\n", "short", "\u{0}"] {
        assert_eq!(inspect(stranger.as_bytes()), "not a file of ours\n", "{stranger:?}");
        let mut inspector = Inspector::new();
        inspector.block(stranger.as_bytes(), &mut String::new()).expect("a String grows");
        assert!(inspector.is_foreign());
    }
}

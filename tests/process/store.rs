//! The revision store's files as a user meets them: values that memory does not hold, damage, and a
//! disk that is full.

use crate::hostile::{UNTIL_IT_ENDS, read_back, refused, says};
use crate::load::Load;
use crate::support::block_on;
use crate::support::call::{Client, messages, rest_of};
use crate::support::dice::Dice;
use crate::support::mount::{Mount, folder};
use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::server::{PATIENCE, Server};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb as pb;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files and a cache so small that some megabytes are many files, most of them not in memory.
const SMALL: [&str; 3] =
    ["--store-segment-bytes=1048576", "--cache-bytes=1048576", "--wal-segment-bytes=8388608"];
/// Bytes of each value.
const VALUE_SIZE: usize = 40_000;
/// Segments that are there before a test goes on.
const SEGMENTS_MIN: usize = 4;
/// Puts until they must be there.
const PUTS_MAX: usize = 4000;

fn key(number: usize) -> Bytes {
    format!("k/{number:05}").into()
}

fn value(number: usize) -> Bytes {
    format!("{number}.").into_bytes().repeat(VALUE_SIZE / 8).into()
}

/// The store's directory.
fn store(server: &Server) -> PathBuf {
    server.data().join("shard-0/store")
}

/// The segments of a store, by name.
fn segments(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store).expect("the store is there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "segment"));
    files.sort();
    files
}

/// Puts key after key until there are segments; how many keys there are.
async fn fill(server: &Server) -> usize {
    let client = Client::connect(server.port()).await.expect("it answers");
    for number in 0..PUTS_MAX {
        let (key, value) = (key(number), value(number));
        let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
        let put: Result<pb::PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
        put.expect("a put is answered");
        if number > 400 && number % 10 == 0 && segments(&store(server)).len() >= SEGMENTS_MIN {
            return number + 1;
        }
    }
    panic!("{PUTS_MAX} puts made no {SEGMENTS_MIN} segments:\n{}", server.log());
}

/// A stopped node that has written a few segments.
fn stopped() -> Server {
    let mut server = Server::start_with(&under_test(), &SMALL);
    block_on(fill(&server));
    server.kill();
    server
}

fn all() -> pb::RangeRequest {
    let (key, range_end) = ("k/".into(), "k0".into());
    pb::RangeRequest { key, range_end, ..pb::RangeRequest::default() }
}

#[test]
fn values_that_memory_does_not_hold_are_read_alone_and_in_lists() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = Server::start_with(&under_test(), &SMALL);
    let count = block_on(fill(&server));
    for _ in 0..2 {
        block_on(async {
            let client = Client::connect(server.port()).await.expect("it answers");
            let mut dice = Dice::new(7);
            for _ in 0..100 {
                let number = dice.index(count);
                let get = pb::RangeRequest { key: key(number), ..pb::RangeRequest::default() };
                let got: Result<pb::RangeResponse, _> =
                    client.unary("/etcdserverpb.KV/Range", &get).await;
                assert!(got.expect("it is answered").kvs[0].value == value(number));
            }
            let list: pb::RangeResponse =
                client.unary("/etcdserverpb.KV/Range", &all()).await.expect("a list");
            assert_eq!(list.kvs.len(), count);
            let is_right = |(at, kv): (usize, &ringd::api::proto::mvccpb::KeyValue)| {
                kv.key == key(at) && kv.value == value(at)
            };
            assert!(list.kvs.iter().enumerate().all(is_right));
            let path = "/etcdserverpb.KV/RangeStream";
            let mut stream = client.begin(path, &all()).await.expect("it begins");
            let (stream, status) = rest_of(&mut stream).await.expect("all of it");
            assert_eq!(status, "0");
            let parts = messages::<pb::RangeStreamResponse>(&stream).expect("messages");
            let rows = parts.into_iter().filter_map(|part| part.range_response);
            let rows: Vec<_> = rows.flat_map(|part| part.kvs).collect();
            assert!(rows == list.kvs, "the stream is the list");
        });
        // And again after a restart, which reads no values.
        server.kill();
        server.restart();
    }
}

#[test]
fn damage_to_the_store_is_named_by_file_and_offset() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = stopped();
    let files = segments(&store(&server));
    let manifest = store(&server).join("manifest");
    let name = |file: &Path| file.file_name().expect("a name").to_string_lossy().into_owned();
    let last = |bytes: &[u8]| bytes.len() - 1;
    type Place = fn(&[u8]) -> usize;
    let directory: Place = |bytes| bytes.len() - 4096;
    let cases: [(&PathBuf, Place); 5] = [
        (&manifest, |_| 100),
        (&files[0], |_| 20),
        (&files[0], last),
        (&files[1], directory),
        (&files[1], |_| 4000),
    ];
    for (file, place) in cases {
        let bytes = fs::read(file).expect("readable");
        let mut bent = bytes.clone();
        bent[place(&bytes)] ^= 4;
        fs::write(file, &bent).expect("writable");
        refused(&server.data(), &SMALL, &["shard-0/store", &name(file), "at byte", "backup"]);
        fs::write(file, &bytes[..bytes.len() / 2]).expect("writable");
        refused(&server.data(), &SMALL, &["shard-0/store", &name(file)]);
        fs::remove_file(file).expect("removable");
        refused(&server.data(), &SMALL, &["shard-0/store", &name(file), "missing"]);
        fs::write(file, &bytes).expect("writable");
    }

    // One in the place of another, and a stranger.
    let (first, second) =
        (fs::read(&files[0]).expect("there"), fs::read(&files[1]).expect("there"));
    fs::write(&files[0], &second).expect("writable");
    refused(&server.data(), &SMALL, &["shard-0/store", &name(&files[0])]);
    fs::write(&files[0], &first).expect("writable");
    let stranger = store(&server).join("notes.txt");
    fs::write(&stranger, "mine").expect("writable");
    refused(&server.data(), &SMALL, &["shard-0/store", "notes.txt", "move it"]);
    fs::remove_file(&stranger).expect("removable");

    // All of it.
    let (whole, away) = (store(&server), server.data().join(".away"));
    fs::rename(&whole, &away).expect("movable");
    refused(&server.data(), &SMALL, &["shard-0"]);
    fs::remove_dir_all(&whole).expect("removable");
    fs::rename(&away, &whole).expect("movable");
    server.restart();
}

/// A value that has rotted is found when it is read, and never shown.
#[test]
fn a_value_that_has_rotted_ends_the_server_and_is_named() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = stopped();
    let file = &segments(&store(&server))[0];
    let bytes = fs::read(file).expect("readable");
    let open = fs::OpenOptions::new().write(true).open(file).expect("writable");
    let at = 4096 + 1000;
    open.write_at(&[bytes[at] ^ 1], u64::try_from(at).expect("small")).expect("writable");
    server.restart();
    block_on(async {
        let client = Client::connect(server.port()).await.expect("it answers");
        let list = client.unary::<pb::RangeResponse>("/etcdserverpb.KV/Range", &all()).await;
        list.expect_err("it is not shown");
    });
    let (status, log) = server.ended_within(PATIENCE);
    assert!(status.code().is_some_and(|code| code != 0), "{status}:\n{log}");
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    says(log, &["fatal", &name, "at byte", "backup"]);
}

#[test]
fn a_disk_that_fills_up_while_sealing_loses_nothing_acknowledged() {
    if !under_test_is_ours() {
        return;
    }
    let Some(mount) = Mount::new("tmpfs", "size=24m") else { return };
    // The log has a disk of its own, so that it is the store's that fills.
    let logs = folder("logs-");
    let wal = logs.path().join("wal").display().to_string();
    let flags = [SMALL.as_slice(), &["--wal-dir", &wal]].concat();
    let mut server = Server::start_at(&under_test(), Some(mount.data()), &flags);
    let history = block_on(async {
        let mut load = Load::start(server.port(), "full", &mut Dice::new(1)).await;
        assert!(!load.acked(UNTIL_IT_ENDS).await, "the disk is full some time");
        load.ended().await
    });
    let (status, log) = server.ended_within(PATIENCE);
    assert!(status.code().is_some_and(|code| code != 0), "{status}:\n{log}");
    says(log, &["fatal", "shard-0/store", "No space left on device", "make space"]);
    assert!(history.acked.len() > 100, "some were acknowledged");
    mount.remount("size=400m");
    server.restart();
    block_on(async {
        read_back(server.port(), &history.acked).await;
        let mut load = Load::start(server.port(), "more", &mut Dice::new(2)).await;
        assert!(load.acked(100).await, "it goes on: {}", server.log());
    });
}

//! A member that was away for longer than the others' logs reach gets a snapshot, through kill -9
//! too.

use crate::support::block_on;
use crate::support::call::Client;
use crate::support::members::Members;
use crate::{all, hash, one_truth, put};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{CompactionRequest, CompactionResponse};
use ringd::api::proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use std::collections::BTreeMap;

/// The log is let go soon.
const FLAGS: [&str; 2] = ["--snapshot-count=100", "--snapshot-catchup-entries=20"];
/// What a member says that gets one, and that has got it.
const RECEIVES: &str = "is received from member";
const GOES_ON: &str = "goes on from a snapshot";

/// Puts, overwrites and deletes through the first member that runs, and compacts in between.
async fn write(members: &Members, due: &mut BTreeMap<Bytes, Bytes>, count: usize, size: usize) {
    let client = Client::connect(members.ports()[0]).await.expect("it answers");
    for nth in 0..count {
        let (key, value) = (format!("k{}", nth % 150), format!("{nth}-{}", "v".repeat(size)));
        let revision = put(&client, &key, &value).await;
        due.insert(key.into(), value.into());
        if nth % 10 == 3 {
            let key = Bytes::from(format!("k{}", (nth + 75) % 150));
            let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
            let path = "/etcdserverpb.KV/DeleteRange";
            client.unary::<DeleteRangeResponse>(path, &delete).await.expect("it is deleted");
            due.remove(&key);
        }
        if nth == count * 2 / 3 {
            let compact = CompactionRequest { revision, physical: false };
            let path = "/etcdserverpb.KV/Compact";
            client.unary::<CompactionResponse>(path, &compact).await.expect("it is compacted");
        }
    }
}

/// The hashes at a revision that is not the last, which tombstones are part of.
async fn one_past(members: &Members) {
    let mut hashes = Vec::new();
    for port in members.ports() {
        let client = Client::connect(port).await.expect("it answers");
        let (_, revision) = all(&client).await;
        hashes.push((hash(&client, revision).await, hash(&client, revision - 5).await));
    }
    assert!(hashes.iter().all(|it| *it == hashes[0]), "{hashes:?}");
}

#[test]
fn a_member_that_was_away_for_too_long_gets_a_snapshot() {
    let (mut members, mut due) = (Members::start(3, &FLAGS), BTreeMap::new());
    block_on(write(&members, &mut due, 50, 100));
    members.kill(2);
    block_on(write(&members, &mut due, 700, 1_000));
    members.restart_until(2, GOES_ON);
    block_on(one_truth(&members, &due));
    block_on(one_past(&members));
    // It has what it needs to go on without another.
    members.kill(0);
    block_on(write(&members, &mut due, 50, 100));
    members.restart(0);
    members.kill(2);
    members.restart(2);
    block_on(one_truth(&members, &due));
    block_on(one_past(&members));
}

#[test]
fn a_member_that_is_killed_while_it_gets_a_snapshot_gets_it_again() {
    let (mut members, mut due) = (Members::start(3, &FLAGS), BTreeMap::new());
    members.kill(2);
    block_on(write(&members, &mut due, 400, 100_000));
    for _ in 0..3 {
        members.restart_until(2, RECEIVES);
        members.kill(2);
    }
    members.restart_until(2, GOES_ON);
    members.kill(2);
    members.restart(2);
    block_on(one_truth(&members, &due));
    block_on(one_past(&members));
}

//! Several members as processes on the loopback: one truth, whoever is killed and whatever else
//! happens to them; and starts that must not be.

mod alone;
mod comings;
mod faults;
mod history;
mod linear;
mod linear_tests;
mod load;
mod planted;
mod refused;
mod shards;
mod slow_disk;
mod snapshots;
#[path = "../support/mod.rs"]
mod support;

use crate::support::call::Client;
use crate::support::members::{Members, TWO_SHARDS};
use crate::support::{block_on, pause};
use bytes::Bytes;
use prost::Message;
use ringd::api::proto::etcdserverpb::{HashKvRequest, HashKvResponse, MemberAddRequest};
use ringd::api::proto::etcdserverpb::{MemberAddResponse, MemberListRequest, MemberListResponse};
use ringd::api::proto::etcdserverpb::{MemberPromoteRequest, MemberPromoteResponse};
use ringd::api::proto::etcdserverpb::{PutRequest, PutResponse};
use ringd::api::proto::etcdserverpb::{RangeRequest, RangeResponse, StatusRequest, StatusResponse};
use std::collections::BTreeMap;
use std::time::Duration;

/// Times that a call is tried while the members find another leader, which each waits for, or tell
/// the last of them that it has a vote, which it is refused before.
const TRIES_MAX: usize = 20;

/// What passes between two of them: the others hear with the next heartbeat what is committed.
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// A client of each member that runs.
async fn clients(members: &Members) -> Vec<Client> {
    clients_at(&members.ports()).await
}

/// A client of each of these.
async fn clients_at(ports: &[u16]) -> Vec<Client> {
    let mut clients = Vec::new();
    for &port in ports {
        clients.push(Client::connect(port).await.expect("it answers"));
    }
    clients
}

/// The answer to a call, once there is a leader for it and the member knows of its own vote.
async fn answered<A: Message + Default>(client: &Client, path: &str, call: &impl Message) -> A {
    let mut last = None;
    for _ in 0..TRIES_MAX {
        match client.unary::<A>(path, call).await {
            Ok(answer) => return answer,
            Err(status) => last = Some(status),
        }
        pause(BETWEEN_TRIES).await;
    }
    panic!("{path} is not answered: {last:?}")
}

/// Puts a key; its revision, once a leader has taken it.
async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    let put = PutRequest { key, value, ..PutRequest::default() };
    let answer: PutResponse = answered(client, "/etcdserverpb.KV/Put", &put).await;
    answer.header.expect("every answer has a header").revision
}

/// All keys and values, and the store's revision, as one member answers a linearizable read.
async fn all(client: &Client) -> (BTreeMap<Bytes, Bytes>, i64) {
    let zero = Bytes::from_static(b"\0");
    let every = RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() };
    let answer: RangeResponse = answered(client, "/etcdserverpb.KV/Range", &every).await;
    let revision = answer.header.expect("every answer has a header").revision;
    (answer.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect(), revision)
}

/// The hash of all history at a revision.
async fn hash(client: &Client, revision: i64) -> u32 {
    let at = HashKvRequest { revision };
    let path = "/etcdserverpb.Maintenance/HashKV";
    client.unary::<HashKvResponse>(path, &at).await.expect("a hash").hash
}

/// The id of a member, and that of its leader.
async fn status(client: &Client) -> (u64, u64) {
    let path = "/etcdserverpb.Maintenance/Status";
    let answer: StatusResponse =
        client.unary(path, &StatusRequest::default()).await.expect("a status");
    (answer.header.expect("every answer has a header").member_id, answer.leader)
}

/// Every member has the same keys, and the same history up to there.
async fn one_truth(members: &Members, due: &BTreeMap<Bytes, Bytes>) {
    one_truth_at(&members.ports(), due).await;
}

/// As [`one_truth`], of the members of one group.
async fn one_truth_at(ports: &[u16], due: &BTreeMap<Bytes, Bytes>) {
    let clients = clients_at(ports).await;
    let (rows, revision) = all(&clients[0]).await;
    assert_eq!(&rows, due);
    let first = hash(&clients[0], revision).await;
    for client in &clients[1..] {
        assert_eq!(all(client).await, (rows.clone(), revision), "each reads what was put");
        assert_eq!(hash(client, revision).await, first, "each has the same history");
    }
}

/// Puts through each member that runs, and notes what is due.
async fn put_through_each(members: &Members, round: &str, due: &mut BTreeMap<Bytes, Bytes>) {
    put_through(&members.ports(), round, due).await;
}

/// As [`put_through_each`], of the members of one group.
async fn put_through(ports: &[u16], round: &str, due: &mut BTreeMap<Bytes, Bytes>) {
    for (nth, client) in clients_at(ports).await.iter().enumerate() {
        for time in 0..5 {
            let (key, value) = (format!("{round}/{nth}/{time}"), format!("{round} by {nth}"));
            put(client, &key, &value).await;
            due.insert(key.into(), value.into());
        }
    }
}

/// Kills the leader, goes on without it, and takes it back.
fn go_on_without_the_leader(members: &mut Members, due: &mut BTreeMap<Bytes, Bytes>) {
    block_on(put_through_each(members, "first", due));
    block_on(one_truth(members, due));
    for round in ["second", "third"] {
        let leader = block_on(async {
            let mut ids = Vec::new();
            for client in &clients(members).await {
                ids.push(status(client).await);
            }
            let leader = ids[0].1;
            ids.iter().position(|(id, _)| *id == leader).expect("the leader is a member")
        });
        members.kill(leader);
        block_on(put_through_each(members, round, due));
        block_on(one_truth(members, due));
        members.restart(leader);
        block_on(one_truth(members, due));
    }
}

/// Adds a learner to one group; its id.
async fn add(ports: &[u16], url: &str) -> u64 {
    let add = MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: true };
    let path = "/etcdserverpb.Cluster/MemberAdd";
    let clients = clients_at(ports).await;
    // Not the last, which may not know yet that it has its vote; nor the first, if that can be.
    let client = &clients[clients.len().min(2) - 1];
    let answer = client.unary::<MemberAddResponse>(path, &add).await.expect("it is added");
    answer.member.expect("the new member").id
}

/// Gives a learner its vote, as soon as it has caught up.
async fn promote(ports: &[u16], id: u64, due: &mut BTreeMap<Bytes, Bytes>) {
    let (path, promote) = ("/etcdserverpb.Cluster/MemberPromote", MemberPromoteRequest { id });
    let client = &clients_at(ports).await[0];
    let mut last = None;
    for time in 0..TRIES_MAX {
        match client.unary::<MemberPromoteResponse>(path, &promote).await {
            Ok(_) => return,
            Err(status) => last = Some(status),
        }
        pause(BETWEEN_TRIES).await;
        let key = format!("meanwhile/{time}");
        put(client, &key, "").await;
        due.insert(key.into(), Bytes::new());
    }
    panic!("it is not promoted: {last:?}");
}

/// Adds a member, starts it, and waits until it has its vote; its number and its id.
fn join(members: &mut Members, due: &mut BTreeMap<Bytes, Bytes>) -> (usize, u64) {
    let (nth, url) = members.grow();
    let id = block_on(add(&members.ports(), &url));
    members.restart(nth);
    block_on(promote(&members.ports(), id, due));
    (nth, id)
}

#[test]
fn three_members_are_one_truth_whoever_leads() {
    let mut members = Members::start(3, &[]);
    go_on_without_the_leader(&mut members, &mut BTreeMap::new());
    let client = block_on(async {
        let client = Client::connect(members.ports()[0]).await.expect("it answers");
        let list = MemberListRequest { linearizable: true };
        let path = "/etcdserverpb.Cluster/MemberList";
        client.unary::<MemberListResponse>(path, &list).await.expect("a list")
    });
    let names: Vec<_> = client.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names.len(), 3);
    assert!(["m0", "m1", "m2"].iter().all(|name| names.contains(name)), "{names:?}");
}

#[test]
fn a_cluster_starts_again_after_all_of_it_was_killed_whatever_the_flags_say() {
    let mut members = Members::start(3, &[]);
    let mut due = BTreeMap::new();
    block_on(put_through_each(&members, "before", &mut due));
    for nth in 0..3 {
        members.kill(nth);
    }
    // A member's directory wins over the flags that founded the cluster.
    members.restart_all_with(&["--initial-cluster-token=another"]);
    block_on(put_through_each(&members, "after", &mut due));
    block_on(one_truth(&members, &due));
}

#[test]
fn each_shard_is_a_group_of_its_own_and_finds_its_core() {
    // Ready is who has a leader in every shard; the second one's packets come to another core.
    let mut members = Members::start(3, &[TWO_SHARDS]);
    go_on_without_the_leader(&mut members, &mut BTreeMap::new());
}

/// A member that joined used to leave out what had been put through followers: it began without the
/// founders, and heeds nobody who is no member.
#[test]
fn a_member_that_joins_has_the_whole_truth() {
    let mut members = Members::start(3, &["--strict-reconfig-check=false"]);
    let mut due = BTreeMap::new();
    block_on(put_through_each(&members, "before", &mut due));
    join(&mut members, &mut due);
    block_on(one_truth(&members, &due));
    go_on_without_the_leader(&mut members, &mut due);
}

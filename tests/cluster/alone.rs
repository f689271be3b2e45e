//! One of three goes on alone (`--force-new-cluster`), and the others come back.

use crate::comings::ids;
use crate::support::block_on;
use crate::support::call::Client;
use crate::support::members::{Members, TWO_SHARDS};
use crate::{clients_at, join, one_truth, one_truth_at, put_through, put_through_each};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{MemberListRequest, MemberListResponse};
use std::collections::BTreeMap;

/// The flag.
const ALONE: &str = "--force-new-cluster";
/// What a member says that does so for the first time.
const GOES_ALONE: &str = "going on alone";

/// The cluster's id, and the ids and names of its members, as one of them has it.
async fn list(port: u16) -> (u64, Vec<(u64, String)>) {
    let client = Client::connect(port).await.expect("it answers");
    let path = "/etcdserverpb.Cluster/MemberList";
    let list = MemberListRequest { linearizable: true };
    let answer = client.unary::<MemberListResponse>(path, &list).await.expect("a list");
    let members = answer.members.into_iter().map(|member| (member.id, member.name));
    (answer.header.expect("every answer has a header").cluster_id, members.collect())
}

fn kill_all(members: &mut Members) {
    for nth in 0..3 {
        members.kill(nth);
    }
}

/// The first two start with what they had, and end.
fn the_others_are_told(members: &mut Members) {
    for nth in [0, 1] {
        members.try_start(nth);
    }
    for nth in [0, 1] {
        let (_, log) = members.ended(nth);
        assert!(log.contains("permanently removed from the cluster"), "{log}");
    }
}

#[test]
fn one_of_three_goes_on_alone_and_grows_again() {
    let mut members = Members::start(3, &["--strict-reconfig-check=false"]);
    let mut due = BTreeMap::new();
    block_on(put_through_each(&members, "before", &mut due));
    let own = block_on(ids(&members))[2];
    let (cluster, _) = block_on(list(members.ports()[2]));
    kill_all(&mut members);
    members.restart_with(2, &[ALONE]);
    block_on(one_truth(&members, &due));
    let only = (cluster, vec![(own, "m2".to_owned())]);
    assert_eq!(block_on(list(members.ports()[0])), only);
    block_on(put_through_each(&members, "alone", &mut due));

    // As any other it starts again, and is not disturbed.
    members.kill(2);
    members.restart(2);
    the_others_are_told(&mut members);
    block_on(put_through_each(&members, "again", &mut due));
    block_on(one_truth(&members, &due));
    assert_eq!(block_on(list(members.ports()[0])), only);

    for nth in [0, 1] {
        members.leave(nth);
    }
    let (second, _) = join(&mut members, &mut due);
    let (third, _) = join(&mut members, &mut due);
    block_on(one_truth(&members, &due));
    the_others_are_told(&mut members);
    assert_eq!(block_on(list(members.ports()[0])).1.len(), 3);
    assert!(members.is_running(second) && members.is_running(third));
    members.kill(2);
    block_on(put_through_each(&members, "without", &mut due));
    members.restart(2);
    block_on(one_truth(&members, &due));
}

/// Of two shards one may have done it when the process is killed, and the other not.
#[test]
fn one_that_is_killed_on_the_way_goes_on_alone_when_it_is_told_so_again() {
    for times in 1..4 {
        let mut members = Members::start(3, &[TWO_SHARDS]);
        let (mut first, mut second) = (BTreeMap::new(), BTreeMap::new());
        block_on(put_through(&members.ports(), "first", &mut first));
        block_on(put_through(&members.second_ports(), "second", &mut second));
        kill_all(&mut members);
        for nth in 0..times {
            // Later it is one that does so again.
            let said = if nth == 0 { GOES_ALONE } else { "recovered" };
            members.restart_until_with(2, &[ALONE], said);
            members.kill(2);
        }
        members.restart_with(2, &[ALONE]);
        block_on(each_is_alone(&members, &first, &second));
        members.kill(2);
        members.restart(2);
        the_others_are_told(&mut members);
        block_on(each_is_alone(&members, &first, &second));
    }
}

async fn each_is_alone(
    members: &Members,
    first: &BTreeMap<Bytes, Bytes>,
    second: &BTreeMap<Bytes, Bytes>,
) {
    for (ports, due) in [(members.ports(), first), (members.second_ports(), second)] {
        one_truth_at(&ports, due).await;
        assert_eq!(list(ports[0]).await.1.len(), 1);
        assert_eq!(clients_at(&ports).await.len(), 1);
    }
}

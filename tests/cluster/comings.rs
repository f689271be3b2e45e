//! Members that go for good, and one that was away meanwhile.

use crate::support::block_on;
use crate::support::members::Members;
use crate::{clients, join, one_truth, put_through_each, status};
use ringd::api::proto::etcdserverpb::{MemberRemoveRequest, MemberRemoveResponse};
use std::collections::BTreeMap;

/// The ids of the members that run.
pub(crate) async fn ids(members: &Members) -> Vec<u64> {
    let mut ids = Vec::new();
    for client in &clients(members).await {
        ids.push(status(client).await.0);
    }
    ids
}

/// Removes a member by the last one that runs, or by one before that if it does not know yet that
/// it has its vote.
async fn remove(members: &Members, id: u64) {
    let path = "/etcdserverpb.Cluster/MemberRemove";
    let remove = MemberRemoveRequest { id };
    let mut last = None;
    for client in clients(members).await.iter().rev() {
        match client.unary::<MemberRemoveResponse>(path, &remove).await {
            Ok(_) => return,
            Err(status) => last = Some(status),
        }
    }
    panic!("it is not removed: {last:?}");
}

/// A member that was away while all others were replaced knew none of those who were there when it
/// came back, and heard none of them; one that was removed meanwhile was never told.
#[test]
fn who_was_away_hears_those_who_came_and_who_was_removed_is_told() {
    let mut members = Members::start(3, &["--strict-reconfig-check=false"]);
    let mut due = BTreeMap::new();
    block_on(put_through_each(&members, "before", &mut due));
    let old = block_on(ids(&members));
    members.kill(2);
    let (third, _) = join(&mut members, &mut due);
    let (fourth, last) = join(&mut members, &mut due);
    for nth in [0, 1] {
        block_on(remove(&members, old[nth]));
        let (_, log) = members.ended(nth);
        assert!(log.contains("permanently removed from the cluster"), "{log}");
    }
    block_on(put_through_each(&members, "meanwhile", &mut due));
    members.restart(2);
    block_on(one_truth(&members, &due));
    // Who has just begun calls only those who belong to the cluster.
    members.kill(fourth);
    block_on(remove(&members, last));
    for nth in [2, third] {
        members.kill(nth);
    }
    members.restart_these(&[2, third]);
    members.try_start(fourth);
    let (_, log) = members.ended(fourth);
    assert!(log.contains("permanently removed from the cluster"), "{log}");
    block_on(put_through_each(&members, "after", &mut due));
    block_on(one_truth(&members, &due));
}

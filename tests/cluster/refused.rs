//! Starts that must not be: each is refused with what to do.

use crate::support::block_on;
use crate::support::members::Members;
use crate::{clients, one_truth, put, put_through_each};
use std::collections::BTreeMap;
use std::fs;

/// A text holds all of these.
fn holds(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
}

#[test]
fn a_member_that_has_lost_its_memory_does_not_start() {
    let mut members = Members::start(3, &[]);
    let memory = members.data(2);
    members.kill(2);
    let aside = memory.with_extension("aside");
    fs::rename(&memory, &aside).expect("the folder can be moved");
    let bootstrapped = ["has already been bootstrapped", "member remove", "member add"];
    holds(&members.refusal(2, &[]), &bootstrapped);
    holds(&members.refusal(2, &["--initial-cluster-state=existing"]), &bootstrapped);
    // The others go on, and so does it with its memory.
    block_on(async {
        put(&clients(&members).await[0], "key", "value").await;
    });
    let _ = fs::remove_dir_all(&memory);
    fs::rename(&aside, &memory).expect("the folder can be moved back");
    members.restart(2);
    block_on(async {
        put(&clients(&members).await[2], "key", "value").await;
    });
}

/// Starts one that may not become ready, and waits until it answers its peers.
fn begin(members: &mut Members, nth: usize) {
    members.restart_until(nth, "starting ringd");
    members.page(nth, "/members");
}

/// Ends all of them and takes away what they have.
fn forget_all(members: &mut Members) {
    for nth in 0..3 {
        members.kill(nth);
        fs::remove_dir_all(members.data(nth)).expect("the folder can be removed");
    }
}

/// What a member had in its log and could not know to be committed did not count before it had a
/// leader. So one that had lost its memory founded the cluster once more, and its second vote
/// elected one that did not have what had been acknowledged.
#[test]
fn a_member_that_has_lost_its_memory_does_not_start_beside_one_that_has_just_begun() {
    let mut members = Members::start(3, &[]);
    forget_all(&mut members);
    members.restart_these(&[0, 1]);
    let mut due = BTreeMap::new();
    block_on(put_through_each(&members, "by two", &mut due));
    // That it is up is the last that the first one gets to know.
    members.restart(2);
    block_on(one_truth(&members, &due));
    members.kill(0);
    block_on(put_through_each(&members, "by the others", &mut due));
    members.kill(1);
    members.kill(2);
    let memory = members.data(2);
    let aside = memory.with_extension("aside");
    fs::rename(&memory, &aside).expect("the folder can be moved");
    begin(&mut members, 0);
    let bootstrapped = ["has already been bootstrapped", "member remove", "member add"];
    holds(&members.refusal(2, &[]), &bootstrapped);
    holds(&members.refusal(2, &["--initial-cluster-state=existing"]), &bootstrapped);
    let _ = fs::remove_dir_all(&memory);
    fs::rename(&aside, &memory).expect("the folder can be moved back");
    members.restart_these(&[1, 2]);
    members.wait_until_ready(0);
    block_on(one_truth(&members, &due));
}

/// What keeps a member from beginning a second time lets each begin once.
#[test]
fn a_cluster_begins_in_any_order_and_with_members_that_start_twice() {
    let mut members = Members::start(3, &[]);
    for [first, second, third] in [[0, 1, 2], [2, 0, 1]] {
        forget_all(&mut members);
        begin(&mut members, first);
        members.kill(first);
        begin(&mut members, first);
        members.restart(second);
        members.wait_until_ready(first);
        members.kill(first);
        members.kill(second);
        // It knows that the second has been up, and that the third has not.
        begin(&mut members, first);
        members.restart(third);
        members.wait_until_ready(first);
        members.restart(second);
        let mut due = BTreeMap::new();
        block_on(put_through_each(&members, "by all", &mut due));
        block_on(one_truth(&members, &due));
    }
}

#[test]
fn who_belongs_elsewhere_is_refused_with_what_to_do() {
    let mut members = Members::start(3, &[]);
    holds(&members.page(0, "/version"), &["etcdserver"]);
    holds(&members.page(0, "/members"), &["\"name\":\"m2\"", "peerURLs"]);
    members.kill(2);
    let memory = members.data(2);
    let aside = memory.with_extension("aside");
    fs::rename(&memory, &aside).expect("the folder can be moved");

    let text = members.refusal(2, &["--initial-cluster-token=another"]);
    holds(&text, &["request cluster ID mismatch", "--initial-cluster-token"]);
    let text = members.refusal(2, &["--shards=2"]);
    holds(&text, &["hosts 1 shards and --shards asks for 2", "start with --shards 1"]);

    let existing = "--initial-cluster-state=existing";
    let more = format!("--initial-cluster={},x=http://127.0.0.1:1", members.initial());
    let text = members.refusal(2, &[existing, &more]);
    holds(&text, &["error validating peerURLs {ClusterID:", "member count is unequal"]);
    let other = members.initial().replace("m0=http://127.0.0.1", "m0=http://127.0.0.2");
    let text = members.refusal(2, &[existing, &format!("--initial-cluster={other}")]);
    holds(&text, &["PeerURLs: no match found for existing member (", "last resolver error"]);
    let text = members.refusal(2, &["--name=stranger"]);
    holds(&text, &["couldn't find local name \\\"stranger\\\" in the initial cluster"]);

    members.kill(0);
    members.kill(1);
    let text = members.refusal(2, &[existing]);
    holds(&text, &["cannot fetch cluster info from peer urls"]);
}

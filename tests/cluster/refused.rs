//! Starts that must not be: each is refused with what to do.

use crate::support::block_on;
use crate::support::members::Members;
use crate::{clients, put};
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

//! What belongs together and what does not: members, directories, and the flags that found them.

use crate::support::http1;
use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::process::run;
use crate::support::server::{PATIENCE, Server, command, free_ports};
use std::fs;
use std::path::Path;

/// A folder that is removed after the test.
fn folder() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix_in("belongings-", env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written")
}

/// A first start took whatever log it met for its own unfinished one, and removed it: a wrong
/// --data-dir beside the right --wal-dir cost all that a member had.
#[test]
fn the_log_of_another_member_is_refused_and_stays() {
    if !under_test_is_ours() {
        return; // etcd takes a --wal-dir for a member's own.
    }
    let folder = folder();
    let logs = folder.path().join("logs").display().to_string();
    let mut server = Server::start_with(&under_test(), &["--wal-dir", &logs]);
    server.kill();
    let (client_port, peer_port) = free_ports();
    let extra = ["--wal-dir".to_owned(), logs];
    let stranger = folder.path().join("stranger");
    let mut second = command(&under_test(), &stranger, client_port, peer_port, &extra);
    // However often it is tried.
    for _ in 0..2 {
        let output = run(&mut second, PATIENCE).unwrap_or_else(|why| panic!("no end: {why}"));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains("holds a log"), "{text}");
    }
    server.restart();
}

/// Segments under the folder of a data directory.
fn segments(dir: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(dir.join("shard-0").join("wal"))
        .expect("the log is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|it| it == "wal"))
        .collect();
    files.sort();
    files.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// A data directory without its identity, its log still there: nothing tells that it never served.
#[test]
fn a_log_whose_identity_is_lost_is_refused_and_stays() {
    if !under_test_is_ours() {
        return; // etcd keeps its identity in its log.
    }
    let mut server = Server::start(&under_test());
    server.kill();
    let (identity, aside) = (server.data().join("identity"), server.data().join("aside"));
    let before = segments(&server.data());
    fs::rename(&identity, &aside).expect("it is there");
    let output = run(&mut server.command(), PATIENCE).unwrap_or_else(|why| panic!("{why}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("holds a log"), "{text}");
    assert!(before == segments(&server.data()), "the log is as it was");
    fs::rename(&aside, &identity).expect("it is there");
    server.restart();
}

/// Of flags that found a cluster only the first start takes note. With another token a later one
/// took itself for another member, and waited for ever to be elected by the one it had been.
#[test]
fn flags_that_found_a_cluster_mean_nothing_later() {
    let mut server = Server::start(&under_test());
    server.kill();
    server.restart_with(&["--initial-cluster-token", "another"]);
    server.kill();
    server.restart_with(&["--initial-cluster-state", "existing"]);
    let health = http1::get(server.port(), "/health").expect("it answers");
    assert_eq!(health.status, 200);
}

//! The examples do what their page says: each is run against a server of its own, and what it
//! prints is held against the page, word for word.

#[path = "../support/mod.rs"]
mod support;

use crate::support::peers::{find, root, under_test};
use crate::support::process::wait;
use crate::support::server::{PATIENCE, Server};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long an example may take on a busy machine.
const LIMIT: Duration = PATIENCE.saturating_mul(2);

fn folder() -> PathBuf {
    root().join("tests/examples")
}

/// What the page says that each example prints, by the example's name.
fn page() -> BTreeMap<String, String> {
    let text = fs::read_to_string(folder().join("README.md")).expect("the page is there");
    let mut sections = BTreeMap::new();
    for section in text.split("\n## ").skip(1) {
        let (name, rest) = section.split_once('\n').expect("a heading is a line");
        let (_, block) = rest.split_once("```text\n").expect("each example prints something");
        let (block, _) = block.split_once("```").expect("a block has an end");
        sections.insert(name.to_owned(), block.to_owned());
    }
    sections
}

fn prints_what_its_page_says(name: &str) {
    let server = Server::start(&under_test());
    let etcdctl = find("etcdctl").unwrap_or_else(|missing| panic!("{missing}"));
    let mut path = OsString::from(etcdctl.parent().expect("a program is in a folder"));
    path.push(":/usr/local/bin:/usr/bin:/bin");
    let written = tempfile::TempDir::with_prefix_in("example-", env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let file = |name: &str| File::create(written.path().join(name)).expect("it can be written");
    let child = Command::new(folder().join(name))
        .env("PATH", path)
        .env("ETCDCTL_ENDPOINTS", server.address())
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .process_group(0)
        .spawn()
        .expect("it can be run");
    let group = Pid::from_child(&child);
    let ended = wait(child, LIMIT);
    // It ends all that it has started; this is for what was left by one that failed.
    let _ = kill_process_group(group, Signal::KILL);
    let read = |name: &str| fs::read_to_string(written.path().join(name)).expect("it is text");
    let (printed, errors) = (read("stdout"), read("stderr"));
    assert!(ended.is_ok_and(|status| status.success()), "{ended:?}:\n{printed}{errors}");
    assert_eq!(printed, page()[name], "{name}:\n{errors}");
}

#[test]
fn services_are_found_while_they_live() {
    prints_what_its_page_says("discovery");
}

#[test]
fn configuration_is_published_and_subscribed_to() {
    prints_what_its_page_says("config");
}

#[test]
fn tasks_are_left_and_reported_of() {
    prints_what_its_page_says("notify");
}

#[test]
fn a_lock_is_exclusive() {
    prints_what_its_page_says("lock");
}

#[test]
fn locks_are_held_in_order() {
    prints_what_its_page_says("order");
}

#[test]
fn a_queue_gives_each_item_once_and_the_first_first() {
    prints_what_its_page_says("queue");
}

#[test]
fn a_queue_waits_for_its_condition() {
    prints_what_its_page_says("condition");
}

#[test]
fn leaders_follow_each_other() {
    prints_what_its_page_says("election");
}

#[test]
fn nodes_that_do_not_beat_are_missed() {
    prints_what_its_page_says("heartbeat");
}

#[test]
fn the_page_names_every_example() {
    let names = fs::read_dir(folder()).expect("the folder is there").map(|entry| {
        entry.expect("it can be read").file_name().into_string().expect("names of ours are text")
    });
    let mut scripts: Vec<_> = names.filter(|name| !name.contains('.')).collect();
    scripts.sort();
    assert!(page().into_keys().eq(scripts));
}

//! `etcdctl lock` and `etcdctl elect`: who is first, who is next, and what ends a turn.

use super::Etcdctl;
use crate::program::Program;
use crate::support::peers::under_test;
use crate::support::server::Server;
use rustix::process::Signal;

/// The key that a lock or a leader has printed.
fn key(program: &Program) -> String {
    program.next_line().unwrap_or_else(|| panic!("it ended before its turn"))
}

/// Waits until so many keys are under a prefix: that many hold it or wait.
fn queue(etcdctl: &Etcdctl, prefix: &str, count: usize) {
    let keys = ["get", "--prefix", prefix, "--keys-only"];
    while etcdctl.ok(&keys).lines().filter(|line| !line.is_empty()).count() != count {}
}

#[test]
fn etcdctl_locks_are_held_one_after_the_other() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let lock = ["lock", "ctl/lock"];
    let first = etcdctl.start(&lock);
    let first_key = key(&first);
    assert!(first_key.starts_with("ctl/lock/"), "{first_key}");
    first.says(&[""]);
    let second = etcdctl.start(&lock);
    queue(&etcdctl, "ctl/lock/", 2);
    let third = etcdctl.start(&lock);
    queue(&etcdctl, "ctl/lock/", 3);

    // Asked to end, each gives it to the one that has waited longest.
    first.signal(Signal::INT);
    let (status, rest, errors) = first.end();
    assert!(status.success() && rest.is_empty(), "{status} {rest:?} {errors}");
    assert_ne!(key(&second), first_key);
    assert_eq!(etcdctl.ok(&["get", &first_key]), "");
    // Who gives up waiting is out of the line.
    let fourth = etcdctl.start(&lock);
    queue(&etcdctl, "ctl/lock/", 3);
    fourth.signal(Signal::TERM);
    let (status, rest, errors) = fourth.end();
    assert!(!status.success() && rest.is_empty(), "{status} {rest:?} {errors}");
    queue(&etcdctl, "ctl/lock/", 2);
    second.signal(Signal::TERM);
    let (status, _, errors) = second.end();
    assert!(status.success(), "{status} {errors}");
    // The end of its lease is the end of its lock.
    let row = etcdctl.json(&["get", &key(&third)]);
    let lease = row["kvs"][0]["lease"].as_i64().expect("a number");
    etcdctl.ok(&["lease", "revoke", &format!("{lease:x}")]);
    let (status, _, errors) = third.end();
    assert!(!status.success() && errors.contains("session expired"), "{status} {errors}");
    queue(&etcdctl, "ctl/lock/", 0);
}

#[test]
fn etcdctl_runs_a_command_under_a_lock() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7";
    let told = etcdctl.output(&["lock", "ctl/lock", "--", "sh", "-c", script]);
    assert_eq!(told.status.code(), Some(7), "the command's own: {told:?}");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(text.starts_with("ctl/lock/") && text.ends_with(" 2\n"), "{text}");
    queue(&etcdctl, "ctl/lock/", 0);

    // Reading a number and writing the next is one step under a lock, whoever else does it.
    etcdctl.ok(&["put", "count", "0"]);
    let program = format!("'{}' --endpoints {}", etcdctl.program.display(), etcdctl.address);
    let next = format!(
        "n=$({program} get count --print-value-only); {program} put count $((n + 1)) >/dev/null"
    );
    let workers: Vec<_> =
        (0..8).map(|_| etcdctl.start(&["lock", "ctl/lock", "--", "sh", "-c", &next])).collect();
    for worker in workers {
        let (status, _, errors) = worker.end();
        assert!(status.success(), "{status} {errors}");
    }
    assert_eq!(etcdctl.ok(&["get", "count", "--print-value-only"]), "8\n");
}

#[test]
fn a_lock_is_given_up_by_the_dead() {
    let mut server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let dead = etcdctl.start(&["lock", "ctl/lock", "--ttl", "2"]);
    key(&dead);
    let next = etcdctl.start(&["lock", "ctl/lock"]);
    queue(&etcdctl, "ctl/lock/", 2);
    dead.signal(Signal::KILL);
    let own = key(&next);
    next.says(&[""]);
    // And is kept through a restart of the server, by who holds it.
    server.kill();
    server.restart();
    assert_eq!(etcdctl.ok(&["get", &own]), format!("{own}\n\n"));
    let last = etcdctl.start(&["lock", "ctl/lock"]);
    queue(&etcdctl, "ctl/lock/", 2);
    next.signal(Signal::INT);
    assert!(next.end().0.success());
    key(&last);
}

#[test]
fn etcdctl_elects_a_leader_and_observes_it() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let observer = etcdctl.start(&["elect", "--listen", "ctl/job"]);
    let campaign = |value: &str| etcdctl.start(&["elect", "ctl/job", value]);
    let first = campaign("first");
    let first_key = key(&first);
    assert!(first_key.starts_with("ctl/job/"), "{first_key}");
    first.says(&["first"]);
    observer.says(&[&first_key, "first"]);
    let second = campaign("second");
    queue(&etcdctl, "ctl/job/", 2);
    let third = campaign("third");
    queue(&etcdctl, "ctl/job/", 3);

    first.signal(Signal::INT);
    let (status, rest, errors) = first.end();
    assert!(status.success() && rest.is_empty(), "{status} {rest:?} {errors}");
    let second_key = key(&second);
    second.says(&["second"]);
    observer.says(&[&second_key, "second"]);
    // A new value is seen, whoever puts it.
    etcdctl.ok(&["put", &second_key, "second again", "--ignore-lease"]);
    observer.says(&[&second_key, "second again"]);
    // Another observer begins with who leads now.
    etcdctl.start(&["elect", "-l", "ctl/job"]).says(&[&second_key, "second again"]);
    second.signal(Signal::TERM);
    assert!(second.end().0.success());
    let third_key = key(&third);
    third.says(&["third"]);
    observer.says(&[&third_key, "third"]);
    third.signal(Signal::INT);
    assert!(third.end().0.success());
    queue(&etcdctl, "ctl/job/", 0);
    observer.signal(Signal::INT);
    let (status, rest, errors) = observer.end();
    assert!(status.success() && rest.is_empty(), "{status} {rest:?} {errors}");
}

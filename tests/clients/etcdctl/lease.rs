//! `etcdctl lease`: granted, kept, told of, ended.

use super::Etcdctl;
use crate::support::peers::under_test;
use crate::support::server::Server;

/// The lease that is granted, as it is written in every other command.
fn grant(etcdctl: &Etcdctl, ttl: &str) -> String {
    let told = etcdctl.ok(&["lease", "grant", ttl]);
    let (id, rest) = told
        .strip_prefix("lease ")
        .and_then(|rest| rest.split_once(' '))
        .unwrap_or_else(|| panic!("{told}"));
    assert_eq!(rest, format!("granted with TTL({ttl}s)\n"));
    assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()), "{told}");
    id.to_owned()
}

#[test]
fn etcdctl_grants_keeps_and_revokes_leases() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    assert_eq!(etcdctl.ok(&["lease", "list"]), "found 0 leases\n");
    let (one, two) = (grant(&etcdctl, "600"), grant(&etcdctl, "700"));
    let list = etcdctl.ok(&["lease", "list"]);
    let mut lines: Vec<_> = list.lines().collect();
    let mut expected = vec!["found 2 leases", &one, &two];
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);

    for (key, lease) in [("ctl/b", &one), ("ctl/a", &one), ("ctl/c", &two)] {
        assert_eq!(etcdctl.ok(&["put", key, "1", "--lease", lease]), "OK\n");
    }
    let told = etcdctl.json(&["lease", "timetolive", &one, "--keys"]);
    let remaining = told["ttl"].as_i64().expect("a number");
    assert!((1..=600).contains(&remaining) && told["granted-ttl"] == 600, "{told}");
    let mut keys: Vec<_> = told["keys"].as_array().expect("keys").iter().collect();
    keys.sort_by_key(|key| key.as_str());
    assert_eq!(keys, ["Y3RsL2E=", "Y3RsL2I="], "{told}");
    let told = etcdctl.ok(&["lease", "timetolive", &two, "--keys"]);
    let start = format!("lease {two} granted with TTL(700s), remaining(");
    assert!(told.starts_with(&start) && told.ends_with("s), attached keys([ctl/c])\n"), "{told}");
    let kept = format!("lease {one} keepalived with TTL(600)\n");
    assert_eq!(etcdctl.ok(&["lease", "keep-alive", "--once", &one]), kept);

    // A key moves to the lease of its last put, stays with it, or leaves it.
    etcdctl.ok(&["put", "ctl/a", "2", "--lease", &two]);
    etcdctl.ok(&["put", "ctl/a", "3", "--ignore-lease"]);
    etcdctl.ok(&["put", "ctl/c", "2"]);
    assert_eq!(etcdctl.ok(&["lease", "revoke", &one]), format!("lease {one} revoked\n"));
    assert_eq!(etcdctl.ok(&["get", "ctl/", "--prefix"]), "ctl/a\n3\nctl/c\n2\n");
    etcdctl.ok(&["lease", "revoke", &two]);
    assert_eq!(etcdctl.ok(&["get", "ctl/", "--prefix"]), "ctl/c\n2\n");

    let gone = format!("lease {one} already expired\n");
    assert_eq!(etcdctl.ok(&["lease", "timetolive", &one]), gone);
    let missing = "etcdserver: requested lease not found";
    for refused in [
        &["lease", "revoke", &one][..],
        &["lease", "keep-alive", "--once", &one],
        &["put", "ctl/d", "1", "--lease", &one],
    ] {
        let output = etcdctl.output(refused);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(missing), "{refused:?}: {text}");
    }
    assert_eq!(etcdctl.ok(&["lease", "list"]), "found 0 leases\n");
}

#[test]
fn etcdctl_keeps_a_lease_alive_until_it_is_revoked() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let lease = grant(&etcdctl, "2");
    etcdctl.ok(&["put", "ctl/kept", "1", "--lease", &lease]);
    let keeper = etcdctl.start(&["lease", "keep-alive", &lease]);
    // Longer than it would live by itself: another of the same length is over.
    let other = grant(&etcdctl, "2");
    etcdctl.ok(&["put", "ctl/left", "1", "--lease", &other]);
    let kept = format!("lease {lease} keepalived with TTL(2)");
    keeper.says(&[&kept]);
    etcdctl
        .start(&["watch", "ctl/left", "--rev", "3"])
        .says(&["PUT", "ctl/left", "1", "DELETE", "ctl/left", ""]);
    assert_eq!(etcdctl.ok(&["get", "ctl/", "--prefix"]), "ctl/kept\n1\n");
    keeper.says(&[&kept, &kept]);
    let gone = format!("lease {other} already expired\n");
    assert_eq!(etcdctl.ok(&["lease", "timetolive", &other]), gone);

    etcdctl.ok(&["lease", "revoke", &lease]);
    let (status, lines, errors) = keeper.end();
    assert!(status.success(), "{errors}");
    let last = format!("lease {lease} expired or revoked.");
    assert_eq!(lines.last(), Some(&last), "{lines:?}");
    assert!(lines[..lines.len() - 1].iter().all(|line| *line == kept), "{lines:?}");
    let (status, lines, errors) = etcdctl.start(&["lease", "keep-alive", &lease]).end();
    assert!(status.success() && lines == [last], "{lines:?} {errors}");
}

#[test]
fn a_lease_outlives_the_server_and_ends_after_it() {
    let mut server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let (long, short) = (grant(&etcdctl, "600"), grant(&etcdctl, "2"));
    for (key, lease) in [("ctl/long", &long), ("ctl/short", &short)] {
        etcdctl.ok(&["put", key, "1", "--lease", lease]);
    }
    server.kill();
    server.restart();
    let kept = format!("lease {long} keepalived with TTL(600)\n");
    assert_eq!(etcdctl.ok(&["lease", "keep-alive", "--once", &long]), kept);
    etcdctl.start(&["watch", "ctl/short", "--rev", "4"]).says(&["DELETE", "ctl/short", ""]);
    assert_eq!(etcdctl.ok(&["get", "ctl/", "--prefix"]), "ctl/long\n1\n");
    let told = etcdctl.json(&["lease", "timetolive", &long, "--keys"]);
    assert_eq!(told["keys"][0], "Y3RsL2xvbmc=", "{told}");
}

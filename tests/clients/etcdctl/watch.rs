//! `etcdctl watch` and `etcdctl make-mirror`: what was, what is, and what comes after a restart.

use super::Etcdctl;
use crate::program::Program;
use crate::support::peers::under_test;
use crate::support::server::Server;

/// The revision of a put.
fn put(etcdctl: &Etcdctl, key: &str, value: &str) -> i64 {
    let answer = etcdctl.json(&["put", key, value]);
    answer["header"]["revision"].as_i64().expect("a revision")
}

#[test]
fn etcdctl_watches_what_was_and_what_comes() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let first = put(&etcdctl, "ctl/a", "1").to_string();
    let all = etcdctl.start(&["watch", "--prefix", "ctl/", "--rev", &first, "--prev-kv"]);
    all.says(&["PUT", "ctl/a", "1"]);
    put(&etcdctl, "ctl/a", "2");
    all.says(&["PUT", "ctl/a", "1", "ctl/a", "2"]);
    put(&etcdctl, "other", "3");
    etcdctl.ok_with(&["txn"], "\nput ctl/b 4\nput ctl/c 5\n\n\n");
    all.says(&["PUT", "ctl/b", "4", "PUT", "ctl/c", "5"]);
    etcdctl.ok(&["del", "--prefix", "ctl/"]);
    all.says(&["DELETE", "ctl/a", "2", "ctl/a", ""]);
    all.says(&["DELETE", "ctl/b", "4", "ctl/b", ""]);
    all.says(&["DELETE", "ctl/c", "5", "ctl/c", ""]);

    // A key and a range, from the arguments and from the environment.
    let one = etcdctl.start(&["watch", "--rev", &first, "ctl/a"]);
    one.says(&["PUT", "ctl/a", "1", "PUT", "ctl/a", "2", "DELETE", "ctl/a", ""]);
    let range = etcdctl.start(&["watch", "ctl/b", "ctl/c", "--rev", &first]);
    range.says(&["PUT", "ctl/b", "4", "DELETE", "ctl/b", ""]);
    let mut of_environment = etcdctl.command(&["watch", "--rev", &first]);
    of_environment.env("ETCDCTL_WATCH_KEY", "ctl/b").env("ETCDCTL_WATCH_RANGE_END", "ctl/d");
    let of_environment = Program::start(&mut of_environment);
    of_environment.says(&["PUT", "ctl/b", "4", "PUT", "ctl/c", "5"]);

    // From now on: what is put until it sees one of them.
    let now = etcdctl.start(&["watch", "ctl/now", "--write-out", "json"]);
    let told = loop {
        put(&etcdctl, "ctl/now", "6");
        if let Some(line) = now.line_so_far() {
            break line;
        }
    };
    let told: serde_json::Value = serde_json::from_str(&told).expect("it is JSON");
    let event = &told["Events"][0];
    let revision = event["kv"]["mod_revision"].as_i64().expect("a revision");
    assert!(revision > first.parse().expect("a number"), "{told}");
    assert_eq!(told["Header"]["revision"], event["kv"]["mod_revision"], "{told}");
    assert_eq!(event["kv"]["value"], "Ng==", "{told}");
}

#[test]
fn etcdctl_watches_by_lines_that_it_reads() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    put(&etcdctl, "ctl/a", "1");
    let last = put(&etcdctl, "ctl/b", "2");
    let mut watch = etcdctl.start(&["watch", "--interactive"]);
    watch.tell("watch --rev 2 ctl/a");
    watch.says(&["PUT", "ctl/a", "1"]);
    watch.tell("watch --prefix --rev 2 --prev-kv ctl/ -- echo done");
    watch.says(&["PUT", "ctl/a", "1", "PUT", "ctl/b", "2", "done", "done"]);
    // All watchers of the stream have come this far.
    watch.tell("progress");
    let progress = format!("progress notify: {last}");
    watch.says(&[&progress, &progress]);
    put(&etcdctl, "ctl/b", "3");
    watch.says(&["PUT", "ctl/b", "2", "ctl/b", "3", "done"]);
    watch.tell("nonsense");
    let (status, rest, errors) = watch.end();
    assert_eq!((status.code(), rest.len()), (Some(3), 0), "{errors}");
    assert!(errors.contains("Invalid command nonsense (only support watch)"), "{errors}");
}

#[test]
fn etcdctl_runs_a_command_for_each_event() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let first = put(&etcdctl, "ctl/a", "1");
    etcdctl.ok(&["del", "ctl/a"]);
    let script = "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY \
                  $ETCD_WATCH_VALUE";
    let (rev, key) = (first.to_string(), "ctl/a");
    let watch = etcdctl.start(&["watch", key, "--rev", &rev, "--", "sh", "-c", script]);
    watch.says(&["PUT", key, "1", "DELETE", key, ""]);
    let seen = |revision: i64, event: &str| format!("{revision} {event}");
    let [put_seen, del_seen] = [r#""PUT" "ctl/a" "1""#, r#""DELETE" "ctl/a" """#];
    watch.says(&[&seen(first + 1, put_seen), &seen(first + 1, del_seen)]);
    let live = put(&etcdctl, key, "2");
    watch.says(&["PUT", key, "2", &seen(live, r#""PUT" "ctl/a" "2""#)]);
}

#[test]
fn etcdctl_is_told_how_far_a_quiet_watch_has_come() {
    let often = "--watch-progress-notify-interval=200ms";
    let server = Server::start_with(&under_test(), &[often]);
    let etcdctl = Etcdctl::of(&server);
    let watch = etcdctl.start(&["watch", "ctl/quiet", "--progress-notify"]);
    assert_eq!(watch.next_line().as_deref(), Some("progress notify: 1"));
    let last = put(&etcdctl, "ctl/other", "1");
    let next = loop {
        let line = watch.next_line().expect("it goes on");
        let told = line.strip_prefix("progress notify: ").expect("and says nothing else");
        match told.parse::<i64>().expect("a revision") {
            1 => {}
            other => break other,
        }
    };
    assert_eq!(next, last);
}

#[test]
fn etcdctl_is_refused_what_was_compacted() {
    let server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    put(&etcdctl, "ctl/a", "1");
    let last = put(&etcdctl, "ctl/a", "2").to_string();
    etcdctl.ok(&["compaction", &last]);
    let (status, lines, errors) = etcdctl.start(&["watch", "ctl/a", "--rev", "2"]).end();
    assert_eq!((status.code(), lines.len()), (Some(5), 0), "{errors}");
    let text = "watch was canceled (etcdserver: mvcc: required revision has been compacted)";
    assert!(errors.contains(text), "{errors}");
    etcdctl.start(&["watch", "ctl/a", "--rev", &last]).says(&["PUT", "ctl/a", "2"]);
}

#[test]
fn etcdctl_goes_on_watching_when_the_server_is_there_again() {
    let mut server = Server::start(&under_test());
    let etcdctl = Etcdctl::of(&server);
    let first = put(&etcdctl, "ctl/a", "0").to_string();
    let watch = etcdctl.start(&["watch", "--prefix", "ctl/", "--rev", &first]);
    watch.says(&["PUT", "ctl/a", "0"]);
    for round in 1..4 {
        server.kill();
        server.restart();
        let value = round.to_string();
        put(&etcdctl, "ctl/a", &value);
        watch.says(&["PUT", "ctl/a", &value]);
    }
    assert!(server.is_running());
}

#[test]
fn etcdctl_mirrors_a_prefix_to_another_server() {
    let (from, to) = (Server::start(&under_test()), Server::start(&under_test()));
    let (etcdctl, mirrored) = (Etcdctl::of(&from), Etcdctl::of(&to));
    put(&etcdctl, "ctl/a", "1");
    put(&etcdctl, "other", "2");
    let address = to.address();
    let arguments =
        ["make-mirror", "--prefix", "ctl/", "--dest-prefix", "mirror/", address.as_str()];
    let _mirror = etcdctl.start(&arguments);
    let watch = mirrored.start(&["watch", "--prefix", "mirror/", "--rev", "2"]);
    watch.says(&["PUT", "mirror/a", "1"]);
    put(&etcdctl, "ctl/b", "3");
    etcdctl.ok(&["del", "ctl/a"]);
    watch.says(&["PUT", "mirror/b", "3", "DELETE", "mirror/a", ""]);
    assert_eq!(mirrored.ok(&["get", "", "--prefix"]), "mirror/b\n3\n");
}

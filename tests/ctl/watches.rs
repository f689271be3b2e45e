//! Watches. Each begins at a revision of the past, so that no test depends on who is first.

use crate::running;
use crate::{Area, with_both};

/// What all watches see: revisions 2 to 6.
const HISTORY: [&[&str]; 5] = [
    &["put", "w/a", "1"],
    &["put", "w/a", "2"],
    &["del", "w/a"],
    &["put", "w/b", "3"],
    &["put", "w/last", "last"],
];

#[test]
fn events_are_printed_alike_in_every_format() {
    with_both(Area::Watches, |pair| {
        HISTORY.iter().for_each(|arguments| drop(pair.same(arguments)));
        let sides = [&pair.theirs, &pair.ours];
        for hex in ["--hex=false", "--hex"] {
            let watch = ["watch", "w/", "--prefix", "--rev", "2", hex];
            let last = if hex == "--hex" { "\\x6c\\x61\\x73\\x74" } else { "last" };
            for prev in ["--prev-kv=false", "--prev-kv"] {
                let watch = [&watch[..], &[prev]].concat();
                running::same(sides, &watch, "", (last, 1));
                running::same(sides, &[&watch[..], &["-w", "json"]].concat(), "", ("bGFzdA==", 0));
                let fields = [&watch[..], &["-w", "fields"]].concat();
                running::same(sides, &fields, "", ("\"Value\" : \"last\"", 1));
            }
        }
        running::same(sides, &["watch", "w/a", "w/z", "--rev", "2"], "", ("last", 1));
        running::same(sides, &["watch", "w/a", "--rev", "3"], "", ("DELETE", 2));
        running::same(sides, &["watch", "", "--prefix", "--rev", "2"], "", ("last", 1));
        running::same(
            sides,
            &["watch", "w/a", "more", "than two", "--rev", "4"],
            "",
            ("DELETE", 2),
        );
    });
}

#[test]
fn a_command_is_run_for_each_event() {
    with_both(Area::Watches, |pair| {
        HISTORY.iter().for_each(|arguments| drop(pair.same(arguments)));
        let sides = [&pair.theirs, &pair.ours];
        let script = "echo $ETCD_WATCH_REVISION,$ETCD_WATCH_EVENT_TYPE,$ETCD_WATCH_KEY,\
                      $ETCD_WATCH_VALUE";
        let watch = ["watch", "w/", "--prefix", "--rev", "2", "--", "sh", "-c", script];
        running::same(sides, &watch, "", ("\"w/last\",\"last\"", 0));
        let watch = ["watch", "w/", "--prefix", "--rev", "2", "--"];
        for command in [&["sh", "-c", "exit 3"][..], &["no-such-command"], &["/no/such"]] {
            let told = pair.same(&[&watch[..], command].concat());
            assert_eq!(told.code, Some(1), "{told:?}");
        }
    });
}

#[test]
fn a_key_may_stand_in_the_environment() {
    with_both(Area::Watches, |pair| {
        HISTORY.iter().for_each(|arguments| drop(pair.same(arguments)));
        let [theirs, ours] = [&pair.theirs, &pair.ours].map(|side| {
            let mut command = side.command(&["watch", "--rev", "2"]);
            command.env("ETCDCTL_WATCH_KEY", "w/a").env("ETCDCTL_WATCH_RANGE_END", "w/z");
            running::Running::start_until(command, "", ("last", 1)).interrupt()
        });
        assert_eq!(ours, theirs);
    });
}

#[test]
fn lines_say_what_to_watch() {
    with_both(Area::Watches, |pair| {
        HISTORY.iter().for_each(|arguments| drop(pair.same(arguments)));
        let sides = [&pair.theirs, &pair.ours];
        let lines = "\nbogus\nwatch\nwatch \"w/last\" --rev 2\n";
        running::same(sides, &["watch", "-i"], lines, ("last", 1));
        let lines = "watch w/ --prefix --rev 6 -- sh -c 'echo \"$ETCD_WATCH_KEY\"'\n";
        running::same(sides, &["watch", "-i"], lines, ("\"w/last\"", 0));
        for input in
            [&b""[..], b"watch w/a", b"watch --bogus x\n", b"watch x --rev z\n", b"watch -- echo\n"]
        {
            let told = pair.same_with(&["watch", "-i"], input);
            assert_ne!(told.code, Some(0), "{told:?}");
        }
    });
}

#[test]
fn a_watch_that_cannot_be_is_told_alike() {
    with_both(Area::Watches, |pair| {
        HISTORY.iter().for_each(|arguments| drop(pair.same(arguments)));
        pair.same(&["compaction", "4"]);
        for arguments in [
            &["watch", "w/a", "--rev", "2"][..],
            &["watch"],
            &["watch", "--", "echo"],
            &["watch", "w/a", "--"],
            &["watch", "w/a", "w/b", "--prefix"],
            &["watch", "w/a", "-w", "xml"],
            &["watch", "w/b", "--rev", "5", "-w", "table"],
        ] {
            let told = pair.same(arguments);
            assert_ne!(told.code, Some(0), "{told:?}");
        }
    });
}

//! Locks and elections, also between the two clients.

use crate::pair::Side;
use crate::running;
use crate::running::Running;
use crate::{Area, with_both};

#[test]
fn a_lock_is_held_and_given_back_alike() {
    with_both(Area::Turns, |pair| {
        let sides = [&pair.theirs, &pair.ours];
        running::same(sides, &["lock", "l"], "", ("l/", 0));
        running::same(
            sides,
            &["lock", "l", "--ttl", "30", "-w", "fields"],
            "",
            ("\"Count\" : 1", 0),
        );
        pair.same(&["get", "l/", "--prefix", "--keys-only"]);
        let script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7";
        let told = pair.same(&["lock", "l", "--", "sh", "-c", script]);
        assert_eq!((told.code, &told.said[..]), (Some(7), "Error: exit status 7"));
        let told = pair.same(&["get", "l/", "--prefix", "--keys-only"]);
        assert_eq!(told.printed, "", "the lock is given back");
        for arguments in [
            &["lock"][..],
            &["lock", "l", "true"],
            &["lock", "l", "no-such-command"],
            &["lock", "l", "--", "sh", "-c", "kill -9 $$"],
            &["lock", "l", "echo", "-n"],
            &["elect"],
            &["elect", "e"],
            &["elect", "e", "p", "q"],
            &["elect", "-l", "e", "p"],
        ] {
            pair.same(arguments);
        }
    });
}

#[test]
fn one_client_waits_for_the_lock_of_the_other() {
    with_both(Area::Turns, |pair| {
        let theirs = &pair.theirs;
        let ours = Side::at(theirs, pair.ours.client.clone());
        for (first, second) in [(theirs, &ours), (&ours, theirs)] {
            let held = Running::start(first.command(&["lock", "l"]), "", "l/");
            // While the second waits, its key stands beside the first's.
            let command = second.command(&["lock", "l", "--", "echo", "held"]);
            let waiting = std::thread::scope(|scope| {
                let waiting = scope.spawn(|| Running::start(command, "", "held").end());
                while keys_of(theirs, "l/") < 2 {}
                assert_eq!(held.interrupt().0, 0);
                waiting.join().expect("it got the lock")
            });
            assert_eq!(waiting, (0, "held\n".to_owned()));
        }
    });
}

/// How many keys there are under a prefix.
fn keys_of(side: &Side, prefix: &str) -> usize {
    let told = side.told(&["get", prefix, "--prefix", "--keys-only"], b"");
    told.printed.lines().filter(|line| !line.is_empty()).count()
}

#[test]
fn whoever_leads_is_seen_by_both() {
    with_both(Area::Turns, |pair| {
        let theirs = &pair.theirs;
        let ours = Side::at(theirs, pair.ours.client.clone());
        for leader in [theirs, &ours] {
            let leading = Running::start(leader.command(&["elect", "e", "me"]), "", "me");
            for observer in [theirs, &ours] {
                let listen = ["elect", "-l", "e"];
                let seen = Running::start(observer.command(&listen), "", "me");
                let (code, printed) = seen.interrupt();
                assert_eq!(code, 0);
                assert_eq!(printed, leading.printed());
            }
            assert_eq!(leading.interrupt().0, 0);
            assert_eq!(keys_of(theirs, "e/"), 0, "it has resigned");
        }
    });
}

//! Leases.

use crate::running;
use crate::running::Running;
use crate::{Area, with_both};

#[test]
fn leases_are_told_alike() {
    with_both(Area::Leases, |pair| {
        pair.same_in_every_format(&["lease", "list"], b"");
        let leases = pair.leases("600");
        for key in ["k2", "k1"] {
            pair.same_of_lease(&["put", key, "v", "--lease", "$L"], &leases);
        }
        // As protobuf each has its own lease's number, which no text stands for.
        for format in ["simple", "json", "fields", "table"] {
            for hex in ["--hex=false", "--hex"] {
                pair.same_of_lease(&["get", "k1", "-w", format, hex], &leases);
                pair.same_of_lease(&["lease", "keep-alive", "--once", "$L", "-w", format], &leases);
            }
        }
        for arguments in [
            &["lease", "timetolive", "abc", "--keys"][..],
            &["lease", "timetolive", "abc"],
            &["lease", "keep-alive", "abc"],
            &["lease", "keep-alive", "--once", "abc"],
            &["lease", "revoke", "abc"],
        ] {
            pair.same_in_every_format(arguments, b"");
        }
        let told = pair.same_of_lease(&["lease", "revoke", "$L"], &leases);
        assert_eq!(told.printed, "lease LEASE revoked\n");
        pair.same(&["get", "k", "--prefix"]);
        pair.same_in_every_format(&["lease", "grant", "60"], b"");
    });
}

#[test]
fn what_is_left_of_a_lease_is_told_alike() {
    with_both(Area::Leases, |pair| {
        let leases = pair.leases("600");
        pair.same_of_lease(&["put", "k", "v", "--lease", "$L"], &leases);
        for arguments in [
            &["lease", "timetolive", "$L"][..],
            &["lease", "timetolive", "$L", "--keys"],
            &["lease", "timetolive", "$L", "--keys", "-w", "json"],
            &["lease", "timetolive", "$L", "--keys", "-w", "fields", "--hex"],
        ] {
            // The seconds that are left depend on when each client asks.
            let [theirs, ours] =
                [(&pair.theirs, &leases[0]), (&pair.ours, &leases[1])].map(|(side, lease)| {
                    let words: Vec<_> = arguments
                        .iter()
                        .map(|&word| if word == "$L" { lease.as_str() } else { word })
                        .collect();
                    let told = side.told(&words, b"");
                    assert_eq!(told.code, Some(0), "{told:?}");
                    let seconds = 500..=600;
                    seconds.fold(told.printed, |text, left| {
                        let left = left.to_string();
                        if left == "600" { text } else { text.replace(&left, "LEFT") }
                    })
                });
            let both =
                [&ours, &theirs].map(|text| text.replace("remaining(600s)", "remaining(LEFTs)"));
            assert_eq!(
                both[0].replace("\"ttl\":600", "\"ttl\":LEFT"),
                both[1].replace("\"ttl\":600", "\"ttl\":LEFT"),
                "{arguments:?}"
            );
        }
    });
}

#[test]
fn wrong_command_lines_about_leases_are_refused_alike() {
    with_both(Area::Leases, |pair| {
        for arguments in [
            &["lease", "grant"][..],
            &["lease", "grant", "x"],
            &["lease", "grant", "99999999999"],
            &["lease", "revoke"],
            &["lease", "revoke", "zz"],
            &["lease", "timetolive"],
            &["lease", "timetolive", "zz"],
            &["lease", "keep-alive"],
            &["lease", "keep-alive", "zz"],
        ] {
            let told = pair.same(arguments);
            assert_ne!(told.code, Some(0), "{told:?}");
        }
    });
}

#[test]
fn a_lease_is_kept_alive_until_interrupted_or_revoked() {
    with_both(Area::Leases, |pair| {
        let leases = pair.leases("3");
        for (side, lease) in [(&pair.theirs, &leases[0]), (&pair.ours, &leases[1])] {
            let arguments = ["lease", "keep-alive", lease];
            let running = Running::start(side.command(&arguments), "", "keepalived with TTL(3)");
            assert_eq!(running.interrupt().0, -2);
            let running = Running::start(side.command(&arguments), "", "keepalived with TTL(3)");
            assert_eq!(side.told(&["lease", "revoke", lease], b"").code, Some(0));
            let (code, printed) = running.end();
            let last = format!("lease {lease} expired or revoked.");
            assert_eq!((code, printed.lines().last()), (0, Some(&last[..])));
        }
        running::same(
            [&pair.theirs, &pair.ours],
            &["lock", "l", "--", "echo", "held"],
            "",
            ("held", 0),
        );
    });
}

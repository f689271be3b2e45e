//! Keys, transactions, compactions; and which server is asked.

use crate::support::peers;
use crate::support::process::run;
use crate::support::server::{Server, free_ports};
use crate::{Area, RUN, servers, with_both, with_ours};
use std::process::Command;

/// A value with everything that has to be escaped somewhere.
const ODD: &str = "v\"<&>\u{1}\u{e9}\u{200b}\\'\u{e0001}";

#[test]
fn puts_gets_and_deletions_are_the_same_in_every_format() {
    with_both(Area::Keys, |pair| {
        pair.same_in_every_format(&["put", "k/a", ODD], b"");
        pair.same_in_every_format(&["put", "k/a", "2", "--prev-kv"], b"");
        pair.same_in_every_format(&["put", "k/b", "--prev-kv"], b"from standard input\n");
        pair.same_in_every_format(&["put", "k/b", "--ignore-value", "--ignore-lease"], b"");
        pair.same_in_every_format(&["get", "k/a"], b"");
        pair.same_in_every_format(&["get", "k/", "--prefix", "--stream"], b"");
        pair.same_in_every_format(&["get", "k/", "--prefix", "--keys-only"], b"");
        pair.same_in_every_format(&["get", "k/", "--prefix", "--count-only"], b"");
        pair.same_in_every_format(&["get", "k/a", "--print-value-only"], b"");
        pair.same_in_every_format(&["get", "nothing"], b"");
        pair.same_in_every_format(&["get", "nothing", "--stream"], b"");
        pair.same_in_every_format(&["del", "k/a", "--prev-kv"], b"");
        pair.same_in_every_format(&["del", "nothing"], b"");
        pair.same(&["del", "", "--prefix", "--prev-kv"]);
    });
}

#[test]
fn every_flag_of_get_means_the_same() {
    with_both(Area::Keys, |pair| {
        for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("b", "0"), ("d\u{ff}", "9")] {
            pair.same(&["put", key, value]);
        }
        for flags in [
            &["a", "c"][..],
            &["a", ""],
            &["", "--prefix"],
            &["", "--from-key"],
            &["b", "--from-key", "--limit", "2", "-w", "json"],
            &["", "--prefix", "--order", "descend"],
            &["", "--prefix", "--sort-by", "value"],
            &["", "--prefix", "--sort-by", "VALUE", "--limit", "1"],
            &["", "--prefix", "--sort-by", "VALUE", "--order", "ASCEND", "--limit", "1"],
            &["", "--prefix", "--sort-by", "VERSION", "--order", "DESCEND", "--keys-only"],
            &["", "--prefix", "--sort-by=CREATE", "--order=DESCEND"],
            &["", "--prefix", "--sort-by", "MODIFY", "--stream"],
            &["", "--prefix", "--order", "DESCEND", "--stream"],
            &["", "--prefix", "--order", "ASCEND", "--stream", "-w", "fields"],
            &["", "--prefix", "--min-mod-rev", "3", "--max-mod-rev", "4"],
            &["", "--prefix", "--min-create-rev", "3", "--max-create-rev", "3"],
            &["", "--prefix", "--min-mod-rev", "-4", "--limit", "-1", "--rev", "-7"],
            &["b", "--rev", "3"],
            &["b", "--consistency", "s"],
            &["--prefix=false", "a", "b"],
            &["--print-value-only", "--hex", "--", "a"],
            &["a", "b", "c"],
        ] {
            pair.same(&[&["get"], flags].concat());
        }
    });
}

#[test]
fn what_is_refused_is_refused_alike() {
    with_both(Area::Keys, |pair| {
        pair.same(&["put", "a", "1"]);
        for arguments in [
            &["get", ""][..],
            &["get", "a", "--rev", "1000"],
            &["get", "a", "--rev", "1000", "--stream"],
            &["get"],
            &["get", "a", "b", "--prefix"],
            &["get", "a", "--prefix", "--from-key"],
            &["get", "a", "--keys-only", "--count-only"],
            &["get", "a", "--consistency", "x"],
            &["get", "a", "--order", "x"],
            &["get", "a", "--sort-by", "x"],
            &["get", "a", "--limit", "x"],
            &["get", "a", "--prefix=x"],
            &["get", "a", "--bogus"],
            &["get", "a", "-q"],
            &["get", "a", "-w", "xml"],
            &["get", "a", "--command-timeout", "5"],
            &["put"],
            &["put", "a"],
            &["put", "", "x"],
            &["put", "a", "-5"],
            &["put", "a", "--lease"],
            &["put", "a", "x", "--lease", "zz"],
            &["put", "a", "x", "--ignore-value"],
            &["put", "nothing", "--ignore-value"],
            &["put", "a", "xxxxxxxxxxxxxxxxxxxx", "--max-request-bytes", "20"],
            &["del"],
            &["del", ""],
            &["del", "a", "b", "c"],
            &["del", "a", "b", "--prefix", "--range"],
            &["del", "a", "--prefix", "--from-key"],
            &["compaction"],
            &["compaction", "x"],
            &["compaction", "1", "2"],
            &["compaction", "1000"],
            &["txn", "a"],
            &["bogus"],
        ] {
            let told = pair.same(arguments);
            assert_ne!(told.code, Some(0), "{arguments:?}: {told:?}");
        }
    });
}

#[test]
fn a_range_that_is_not_called_one_is_warned_of() {
    with_both(Area::Keys, |pair| {
        pair.same(&["put", "a", "1"]);
        let told = pair.same(&["del", "a", "b"]);
        assert!(told.said.starts_with("Warning: Keys between \"a\" and \"b\""), "{told:?}");
        assert_eq!(told.printed, "1\n");
        assert_eq!(pair.same(&["del", "a", "b", "--range"]).said, "");
    });
}

/// Conditions, requests for when they hold, requests for when not.
const TXN: &[u8] = br#"mod("a") > "0"
val("b") != "x"

put a 2 --prev-kv
get a
get nope
get "" --prefix --count-only
del b --prev-kv
del b

get z
put b "x \"y\"\t" --prev-kv

"#;

#[test]
fn transactions_are_read_and_printed_alike() {
    with_both(Area::Keys, |pair| {
        pair.same(&["put", "a", "1"]);
        pair.same_in_every_format(&["txn"], TXN);
        pair.same_with(&["txn", "--interactive"], TXN);
        for input in [
            &b"\n\n\n"[..],
            b"\n\n",
            b"",
            b"mod(\"a\") > \"0\"\n",
            b"bad\n\n\n\n",
            b"mod(\"a\") < \"x\"\n\n\n\n",
            b"foo(\"a\") < \"1\"\n\n\n\n",
            b"mod(\"a) < \"1\"\n\n\n\n",
            b"mod(a) < \"1\"\n\n\n\n",
            b"mod(\"a\") < 1\n\n\n\n",
            b"mod(\"a\")>\"0\"\n\n\n\n",
            b"  ver(\"a\")   >   \"0\" more \n\n\n\n",
            b"c(`a`) != `0`\nm(\"a\") > \"-5\"\nversion(\"a\") < \"99\"\n\n\n\n",
            b"c(\"\") = \"0\"\n\n\n\n",
            b"val(\"a\\x41\\n\") = \"b\\\"c\"\n\n\n\n",
            b"\nfoo a\n\n\n",
            b"\nget\n\n\n",
            b"\nput a\n\n\n",
            b"\nput --lease zz a b\n\n\n",
            b"\nget --consistency x a\n\n\n",
            b"\nget --prefix a b\n\n\n",
            b"\nput a \"\\z\"\n\n\n",
            b"\r\n\tget a \r\n \n\t\n",
            b"\nput a \"x y\"\nput b 'p q'\nput c \"q\\\"u\\x01\"\n put   d it\"s  \n\nget a\n\n",
            b"\nput e \"b\"c\nput f \"open\nput g ''\nput h x'y z'\n\n\n",
            b"\nget \"\" --prefix --order DESCEND --sort-by MODIFY --limit 3\n\n\n",
            b"\nput a 1\nput a 2\n\n\n",
            b"\ndel a --prev-kv\ndel z z --range\n\n\n",
        ] {
            pair.same_with(&["txn"], input);
        }
    });
}

#[test]
fn compactions_are_told_alike() {
    with_both(Area::Keys, |pair| {
        for value in ["1", "2", "3"] {
            pair.same(&["put", "a", value]);
        }
        assert_eq!(pair.same(&["compaction", "2"]).printed, "compacted revision 2\n");
        pair.same(&["compaction", "3", "--physical", "-w", "json"]);
        pair.same(&["compaction", "2"]);
        pair.same(&["get", "a", "--rev", "2"]);
        pair.same(&["get", "a", "--rev", "3"]);
    });
}

#[test]
fn a_server_that_is_not_there_is_passed_over() {
    with_ours(Area::Keys, |server| {
        let (dead, _) = free_ports();
        let endpoints = format!("127.0.0.1:{dead},http://{}", server.address());
        let told = |arguments: &[&str]| {
            let mut command = Command::new(peers::ringctl());
            command.env("ETCDCTL_ENDPOINTS", &endpoints).args(arguments);
            let output = run(&mut command, RUN).unwrap_or_else(|why| panic!("{why}"));
            let [printed, said] = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned());
            (output.status.code(), printed, said)
        };
        for _ in 0..3 {
            assert_eq!(told(&["put", "a", "1"]).1, "OK\n");
            assert_eq!(told(&["get", "a"]).1, "a\n1\n");
        }
        let (code, printed, said) = told(&["endpoint", "health", "--command-timeout", "500ms"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(printed.contains(&format!("http://{} is healthy", server.address())), "{printed}");
        let unhealthy = format!("127.0.0.1:{dead} is unhealthy: failed to commit proposal");
        assert!(said.contains(&unhealthy) && said.contains("Error: unhealthy cluster"), "{said}");
    });
}

#[test]
fn a_server_that_is_nowhere_is_told_in_time() {
    let (dead, _) = free_ports();
    let endpoints = ["--endpoints", &format!("127.0.0.1:{dead}"), "--command-timeout", "300ms"];
    let mut command = Command::new(peers::ringctl());
    let output = run(command.args(endpoints).args(["get", "a"]), RUN);
    let output = output.unwrap_or_else(|why| panic!("{why}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Error: context deadline exceeded"), "{said}");
    assert!(said.contains(&format!("cannot connect to 127.0.0.1:{dead}")), "{said}");
}

#[test]
fn a_server_that_went_away_is_waited_for() {
    for program in servers(Area::Keys) {
        let mut server = Server::start(&program);
        server.kill();
        let mut command = Command::new(peers::ringctl());
        command.args(["--endpoints", &server.address(), "--command-timeout", "60s"]);
        let mut asking = command.args(["get", "a", "-w", "json"]).spawn().expect("it starts");
        server.restart();
        assert!(asking.wait().expect("it is a child").success());
    }
}

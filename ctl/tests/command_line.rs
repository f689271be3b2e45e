//! Command lines that need no server: what is said of them, and the exit code.

use std::process::Command;

/// What a command line comes to: the exit code, what is printed, what is said.
fn told(line: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ringctl")).args(line).output().expect("it runs");
    let [printed, said] = [output.stdout, output.stderr].map(String::from_utf8);
    (output.status.code(), printed.expect("text"), said.expect("text"))
}

#[test]
fn every_command_has_help() {
    let (code, printed, _) = told(&["--help"]);
    assert_eq!(code, Some(0));
    for name in [
        "put",
        "get",
        "del",
        "txn",
        "compaction",
        "watch",
        "lease",
        "lock",
        "elect",
        "endpoint",
        "member",
        "move-leader",
        "alarm",
        "defrag",
        "snapshot",
        "version",
        "playground",
        "inspect",
    ] {
        assert!(printed.contains(&format!("  {name} ")), "no {name} in\n{printed}");
        let (code, printed, said) = told(&[name, "--help"]);
        assert_eq!((code, &said[..]), (Some(0), ""), "{name}");
        assert!(printed.contains("Usage: ringctl"), "{printed}");
    }
    for group in ["lease", "endpoint", "member", "alarm", "snapshot"] {
        assert_eq!(told(&[group]).0, Some(0), "{group} alone is a question");
    }
    assert_eq!(told(&[]).1, told(&["--help"]).1);
}

#[test]
fn versions_are_etcdctls_and_our_own() {
    let (code, printed, _) = told(&["version"]);
    assert_eq!(code, Some(0));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines[..2], ["etcdctl version: 3.7.3", "API version: 3.7"]);
    assert_eq!(lines[2], format!("ringctl version: {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(told(&["version", "-w", "json"]).1, printed);
}

#[test]
fn what_is_wrong_is_told_by_name() {
    for (line, code, text) in [
        (&["bogus"][..], 1, "unknown command \"bogus\" for \"ringctl\""),
        (&["user", "list"], 1, "ringctl has no \"user\""),
        (&["put", "--bogus", "a", "b"], 1, "unknown flag: --bogus"),
        (&["put", "a", "-5"], 1, "unknown shorthand flag: '5' in -5"),
        (&["get", "a", "-w", "xml"], 4, "unsupported output format"),
        (&["get", "a", "--cacert", "x"], 128, "--cacert: there is no TLS yet"),
        (&["get", "a", "--endpoints", "https://a:1"], 128, "there is no TLS yet"),
        (&["get", "a", "--endpoints", "ftp://a"], 128, "endpoint \"ftp://a\""),
        (&["get", "a", "--endpoints", ""], 2, "no available endpoints"),
        (&["elect", "a"], 128, "no proposal argument but -l not set"),
        (&["snapshot", "save", "/x", "--endpoints", "a:1,b:1"], 5, "one selected node"),
        (&["member", "add"], 128, "member name not provided"),
        (&["member", "add", "a", "http://b:1"], 128, "did you mean --peer-urls=http://b:1"),
        (&["member", "add", "a"], 128, "member peer urls not provided"),
        (&["member", "add", "a", "--peer-urls=b:1"], 1, "URL scheme must be http"),
        (&["member", "update", "1"], 128, "member peer urls not provided"),
        (&["member", "remove"], 128, "member ID is not provided"),
        (&["member", "promote", "x"], 128, "bad member ID arg (strconv.ParseUint"),
        (&["playground", "-n", "0"], 128, "a number from 1 to 9"),
        (&["playground", "--wal-dir"], 1, "unknown flag: --wal-dir"),
        (&["playground", "x"], 128, "flags of ringd stand after --"),
        (&["playground", "--ringd", "/etc/passwd"], 128, "/etc/passwd is no program"),
        (&["inspect"], 1, "required arguments were not provided"),
    ] {
        let (found, printed, said) = told(line);
        assert_eq!((found, &printed[..]), (Some(code), ""), "{line:?}: {said}");
        assert!(said.starts_with("Error: ") && said.contains(text), "{line:?}: {said}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let (code, _, said) = told(&["inspect", "nowhere"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("ringctl: nowhere: "), "{said}");
}

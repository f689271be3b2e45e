//! What the command line says without starting anything.

use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::process::run;
use crate::support::server::PATIENCE;
use std::process::Command;

/// Exit code, standard output and standard error.
fn ringd(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(Command::new(under_test()).args(arguments), PATIENCE)
        .unwrap_or_else(|why| panic!("{why}"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_version_names_the_etcd_whose_behaviour_it_is() {
    for flag in ["--version", "-version"] {
        let (code, stdout, stderr) = ringd(&[flag]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
        let starts: Vec<_> =
            stdout.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
        assert!(stdout.starts_with("etcd Version: 3.7.3\nGit SHA: "), "{stdout}");
        let expected = ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"];
        assert_eq!(starts[..4], expected, "{stdout}");
    }
}

#[test]
fn the_help_names_the_flags() {
    for flag in ["--help", "-h"] {
        let (code, stdout, stderr) = ringd(&[flag]);
        let text = stdout + &stderr;
        assert_eq!(code, Some(0), "{text}");
        for name in ["--name", "--data-dir", "--listen-client-urls", "--max-request-bytes"] {
            assert!(text.contains(name), "no {name} in:\n{text}");
        }
    }
}

#[test]
fn an_unknown_flag_is_refused() {
    let (code, stdout, stderr) = ringd(&["--data-dri", "x"]);
    let text = stdout + &stderr;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("flag provided but not defined: -data-dri"), "{text}");
    assert!(!under_test_is_ours() || text.contains("--data-dir"), "the nearest is named: {text}");
}

#[test]
fn a_bad_value_is_refused_by_name() {
    let (code, stdout, stderr) = ringd(&["--max-request-bytes", "many"]);
    let text = stdout + &stderr;
    assert!(code.is_some_and(|code| code != 0), "{text}");
    assert!(text.contains("max-request-bytes"), "{text}");
    assert!(text.contains("many"), "{text}");
}

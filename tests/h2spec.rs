//! HTTP/2 as RFC 9113 and RFC 7541 have it, by h2spec's cases.

mod support;

use crate::support::peers::{self, under_test};
use crate::support::process::run;
use crate::support::say;
use crate::support::server::Server;
use std::process::Command;
use std::time::Duration;

/// How many cases there are; fewer means that some did not run.
const CASES: u32 = 146;
/// How long all of them may take.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn every_case_of_h2spec_passes() {
    let program = match peers::find("h2spec") {
        Ok(program) => program,
        Err(missing) => return say(format_args!("h2spec: skipped, {missing}")),
    };
    // With a limit on streams, so that the case which exceeds it runs.
    let server = Server::start_with(&under_test(), &["--max-concurrent-streams", "100"]);
    let port = server.port().to_string();
    let mut h2spec = Command::new(program);
    h2spec.args(["-h", "127.0.0.1", "-p", &port, "-S", "-P", "/health", "-o", "2"]);
    let output = run(&mut h2spec, LIMIT).unwrap_or_else(|why| panic!("{why}"));
    let text = String::from_utf8_lossy(&output.stdout);
    let counts = counts(&text).unwrap_or_else(|| panic!("no summary in:\n{text}"));
    let failures = text.find("Failures:").map_or("", |at| &text[at..]);
    assert_eq!(counts, [CASES, CASES, 0, 0], "of {CASES} cases:\n{failures}");
}

/// The numbers of a line like `146 tests, 113 passed, 1 skipped, 32 failed`.
fn counts(text: &str) -> Option<[u32; 4]> {
    let line = text.lines().find(|line| line.contains(" tests, ") && line.contains(" failed"))?;
    let numbers = line.split(", ").map(|part| part.trim().split(' ').next()?.parse().ok());
    numbers.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[test]
fn the_summary_is_read() {
    let text = "Finished in 2.1 seconds\n146 tests, 113 passed, 1 skipped, 32 failed\n";
    assert_eq!(counts(text), Some([146, 113, 1, 32]));
    assert_eq!(counts("nothing"), None);
}

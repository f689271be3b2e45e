//! `ringctl playground`: a cluster that is there while one plays, and then gone.

use crate::RUN;
use crate::support::peers;
use crate::support::process::{Lines, run, signal, wait};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The last line that it prints before it waits.
const PLAYS: &str = "Ctrl-C ends it.";

/// A playground that runs.
struct Playground {
    child: Option<Child>,
    printed: Lines,
    said: Lines,
    temporary: PathBuf,
}

impl Playground {
    /// Starts one whose temporary folders are in a folder of the test's, and waits until it plays.
    fn start(temporary: &Path, arguments: &[&str]) -> Self {
        let mut command = playground(temporary, arguments);
        let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("it starts");
        let (printed, _) = Lines::follow(child.stdout.take().expect("piped"), PLAYS);
        let (said, _) = Lines::follow(child.stderr.take().expect("piped"), PLAYS);
        let temporary = temporary.to_owned();
        let playground = Self { child: Some(child), printed, said, temporary };
        let plays = playground
            .printed
            .wait_until(RUN, |lines| lines.iter().any(|line| line.contains(PLAYS)));
        assert!(plays, "{}{}", playground.printed.text(), playground.said.text());
        playground
    }

    /// What follows these words, on each line that has them.
    fn after(&self, words: &str) -> Vec<String> {
        let text = self.printed.text();
        let rest = text.lines().filter_map(|line| line.split_once(words));
        rest.map(|(_, rest)| rest.split([' ', ',']).next().unwrap_or_default().to_owned()).collect()
    }

    /// The members' processes.
    fn pids(&self) -> Vec<Pid> {
        let numbers = self.after("  pid ");
        let pids = numbers.iter().map(|text| Pid::from_raw(text.parse().expect("a number")));
        pids.map(|pid| pid.expect("a process")).collect()
    }

    /// What `ringctl` prints that does what one is told to try.
    fn ringctl(&self, arguments: &[&str]) -> String {
        let text = self.printed.text();
        let endpoints = text.lines().find_map(|line| line.split_once("ETCDCTL_ENDPOINTS="));
        let (_, endpoints) = endpoints.expect("it says where they are");
        let mut command = Command::new(peers::ringctl());
        command.env("ETCDCTL_ENDPOINTS", endpoints).args(arguments);
        let output = run(&mut command, RUN).unwrap_or_else(|why| panic!("{why}"));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Ends it by a signal, and sees that nothing is left but what is to stay.
    fn end(mut self, by: Signal) {
        let pids = self.pids();
        let child = self.child.take().expect("it runs");
        signal(&child, by);
        let status = wait(child, RUN).unwrap_or_else(|limit| panic!("still there after {limit:?}"));
        assert_eq!(status.code(), Some(0), "{}", self.said.text());
        for pid in pids {
            assert!(test_kill_process(pid).is_err(), "a member is still there");
        }
        let left = std::fs::read_dir(&self.temporary).expect("it is the test's").count();
        assert_eq!(left, 0, "its folder is gone");
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            signal(&child, Signal::INT);
            let _ = wait(child, RUN);
        }
    }
}

fn playground(temporary: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(peers::ringctl());
    command.env("TMPDIR", temporary).args(["playground", "--ringd"]);
    command.arg(env!("CARGO_BIN_EXE_ringd")).args(arguments);
    command
}

fn folder() -> TempDir {
    TempDir::with_prefix_in("playground-", env!("CARGO_TARGET_TMPDIR")).expect("there is room")
}

#[test]
fn three_members_play_one_dies_and_all_are_gone_in_the_end() {
    let temporary = folder();
    let playground = Playground::start(temporary.path(), &[]);
    assert_eq!(playground.pids().len(), 3);
    assert_eq!(playground.ringctl(&["put", "greeting", "hello"]), "OK\n");
    assert_eq!(playground.ringctl(&["get", "greeting"]), "greeting\nhello\n");
    let table = playground.ringctl(&["endpoint", "status", "--cluster", "-w", "table"]);
    assert_eq!(table.matches("127.0.0.1:").count(), 3, "{table}");

    let leads = playground.printed.text();
    let leads = leads.lines().find(|line| line.ends_with("  leads")).expect("one leads").to_owned();
    let name = leads.split_whitespace().next().expect("its name").to_owned();
    let [leader]: [String; 1] = playground.after("kill -9 ").try_into().expect("one is named");
    let leader = Pid::from_raw(leader.parse().expect("a number")).expect("a process");
    kill_process(leader, Signal::KILL).expect("it is there");
    let ends = format!(
        "ringctl: {name} (pid {}) has ended: by signal 9; 2 of 3 left",
        leader.as_raw_nonzero()
    );
    assert!(
        playground.said.wait_until(RUN, |lines| lines.iter().any(|line| *line == ends)),
        "{ends}\n{}",
        playground.said.text()
    );
    assert_eq!(
        playground.ringctl(&["get", "greeting", "--command-timeout=60s"]),
        "greeting\nhello\n"
    );
    playground.end(Signal::INT);
}

#[test]
fn a_folder_that_is_given_stays_and_plays_again() {
    let (temporary, kept) = (folder(), folder());
    let data = kept.path().join("data");
    let data = data.to_str().expect("text");
    let arguments = ["--members=1", "--data-dir", data, "--", "--quota-backend-bytes=123456789"];
    let first = Playground::start(temporary.path(), &arguments);
    assert_eq!(first.ringctl(&["put", "greeting", "hello"]), "OK\n");
    let status = first.ringctl(&["endpoint", "status", "-w", "json"]);
    assert!(status.contains("\"dbSizeQuota\":123456789"), "{status}");
    first.end(Signal::TERM);
    let again = Playground::start(temporary.path(), &arguments);
    assert_eq!(again.ringctl(&["get", "greeting"]), "greeting\nhello\n");
    again.end(Signal::INT);
    let log = kept.path().join("data/m1.log");
    assert!(log.metadata().expect("it is there").len() > 0);

    let mut other = playground(temporary.path(), &["-n", "3", "--data-dir", data]);
    let output = run(&mut other, RUN).unwrap_or_else(|why| panic!("{why}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it has 1 members; ask for -n 1"), "{said}");
}

#[test]
fn members_that_do_not_start_say_why_and_leave_nothing() {
    let temporary = folder();
    let mut wrong = playground(temporary.path(), &["--", "--bogus"]);
    let output = run(&mut wrong, RUN).unwrap_or_else(|why| panic!("{why}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("does not serve: ") && said.contains("not defined: -bogus"), "{said}");
    assert_eq!(std::fs::read_dir(temporary.path()).expect("it is there").count(), 0);
}

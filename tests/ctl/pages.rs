//! What `docs/cluster.md` says to type does what it says: its commands are run from the first to
//! the last, the machines being ports of the loopback.

use crate::support::peers::{self, root};
use crate::support::process::wait;
use crate::support::server::{PATIENCE, free_ports};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The heading of a part that begins with machines on which nothing runs.
const AFRESH: &str = "## Growing from one member to three";
/// That of the part which goes on from there.
const GONE: &str = "## When most members are gone for good";
/// What is printed before a list of the members.
const LIST: &str = "the members are";

/// The commands of the page, in order, without those that only say where servers are: each a line,
/// however many it has there.
fn commands(page: &str) -> Vec<String> {
    let blocks = page
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block has an end").replace("\\\n", " "));
    blocks.collect::<String>().lines().map(str::to_owned).collect()
}

/// One script of these commands: servers run beside it, and what may have to be asked again is.
fn script(commands: &[String]) -> String {
    let mut script = String::new();
    for command in commands {
        script += &match command.split(' ').next() {
            Some("ringd") => format!("{command} 2>>log &\npids=\"${{pids:-}} $!\"\n"),
            // On every machine.
            Some("systemctl") => "kill $pids\nwait\npids=\n".to_owned(),
            _ if command.starts_with("ringctl member ") => {
                format!("until {command}; do sleep 0.2; done\n")
            }
            _ => format!("{command}\n"),
        };
    }
    script
}

/// A text in which the machines are ports of the loopback, and folders are the test's.
fn local(text: &str, folder: &Path) -> String {
    let mut text = text.replace("/var/lib/ringd", &folder.join("data").display().to_string());
    for machine in ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"] {
        let (client, peer) = free_ports();
        for (port, free) in [("2379", client), ("2380", peer)] {
            text = text.replace(&format!("{machine}:{port}"), &format!("127.0.0.1:{free}"));
        }
    }
    text
}

/// Runs a script; what it printed.
fn run(script: &str, folder: &Path) -> String {
    let ringctl = peers::ringctl();
    let ringd = Path::new(env!("CARGO_BIN_EXE_ringd"));
    let folders = [&ringctl, ringd].map(|program| program.parent().expect("it is in a folder"));
    let path = folders.map(|folder| folder.display().to_string()).join(":");
    let file = |name: &str| File::create(folder.join(name)).expect("it can be written");
    let child = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .env("PATH", format!("{path}:/usr/bin:/bin"))
        .env("ETCDCTL_COMMAND_TIMEOUT", "60s")
        .stdin(Stdio::null())
        .stdout(file("printed"))
        .stderr(file("said"))
        .process_group(0)
        .spawn()
        .expect("there is a shell");
    let group = Pid::from_child(&child);
    let ended = wait(child, PATIENCE * 2);
    // Servers are in the script's group, as is whatever else one that failed has left.
    let _ = kill_process_group(group, Signal::KILL);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (printed, said) = (read("printed"), read("said"));
    let is_well = ended.is_ok_and(|status| status.success());
    assert!(is_well, "{ended:?}\n{script}\n{printed}\n{said}\n{}", read("log"));
    printed
}

#[test]
fn the_page_about_clusters_does_what_it_says() {
    let page = fs::read_to_string(root().join("docs/cluster.md")).expect("the page is there");
    let (first, rest) = page.split_once(AFRESH).expect("the page has all parts");
    let (second, third) = rest.split_once(GONE).expect("the page has all parts");
    let replaced: &[&str] = &["a", "b", "d"];
    let grown: &[&str] = &["a", "b", "c"];
    let left: &[&str] = &["a"];
    for parts in [vec![(first, replaced)], vec![(second, grown), (third, left)]] {
        let folder = TempDir::with_prefix_in("page-", env!("CARGO_TARGET_TMPDIR")).expect("room");
        let mut whole = "set -eu\n".to_owned();
        for (part, members) in &parts {
            let commands = commands(part);
            let starts = commands.iter().filter(|line| line.starts_with("ringd ")).count();
            assert!(starts >= members.len());
            whole += &script(&commands);
            whole += &format!("echo {LIST}\nuntil ringctl member list; do sleep 0.2; done\n");
        }
        let printed = run(&local(&whole, folder.path()), folder.path());
        let told: Vec<_> = printed.split(LIST).collect();
        assert_eq!(told.len(), parts.len() + 1, "{printed}");
        for ((_, members), (before, list)) in parts.iter().zip(told.iter().zip(&told[1..])) {
            assert!(before.contains("greeting\nhello\n"), "{printed}");
            let rows = list.trim_start().lines();
            let list: Vec<_> = rows.take_while(|line| line.contains("http://")).collect();
            assert_eq!(list.len(), members.len(), "{printed}");
            for name in *members {
                let row = list.iter().find(|row| row.contains(&format!(", started, {name}, ")));
                assert!(row.is_some_and(|row| row.ends_with(", false")), "{name} votes: {list:?}");
            }
        }
    }
}

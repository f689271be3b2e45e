//! Clients in five languages, and etcd's own command line, put, get and delete, in transactions
//! too, list in pages and streams, and compact; watch, keep leases, lock and elect, and go on when
//! the server was killed and is there again, or a member of its cluster was.
//!
//! Each client is a small program of ours in a folder beside this file, with its libraries pinned
//! by version and fetched into `target/clients` once. A language that is not installed is named
//! and passed over; one that is installed must pass.

mod cluster;
mod etcdctl;
mod languages;
mod program;
mod rust;
#[path = "../support/mod.rs"]
mod support;

use crate::languages::{Language, Tool, command};
use crate::program::Program;
use crate::support::peers::{root, under_test};
use crate::support::process::run;
use crate::support::say;
use crate::support::server::Server;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long fetching and building the libraries may take.
const FETCH: Duration = Duration::from_secs(600);
/// How long a client may take.
const RUN: Duration = Duration::from_secs(120);

#[test]
fn a_python_client_puts_gets_and_deletes() {
    try_language(&languages::PYTHON);
}

#[test]
fn a_node_client_puts_gets_and_deletes() {
    try_language(&languages::NODE);
}

#[test]
fn a_java_client_puts_gets_and_deletes() {
    try_language(&languages::JAVA);
}

#[test]
fn a_go_client_puts_gets_and_deletes() {
    try_language(&languages::GO);
}

#[test]
fn pythons_etcd3_watches_locks_and_elects() {
    try_language(&languages::PYTHON_ETCD3);
}

#[test]
fn nodes_etcd3_watches_locks_and_elects() {
    try_language(&languages::NODE_ETCD3);
}

#[test]
fn gos_clientv3_watches_locks_and_elects() {
    try_language(&languages::GO_SESSIONS);
}

#[test]
fn javas_jetcd_watches_locks_and_elects() {
    try_language(&languages::JAVA_SESSIONS);
}

#[test]
fn rusts_etcd_client_watches_locks_and_elects() {
    try_language(&languages::RUST_ETCD_CLIENT);
}

fn try_language(language: &Language) {
    let name = language.name;
    let Some(folder) = found(language) else { return };
    let mut server = Server::start_with(&under_test(), language.flags);
    let mut client = (language.client)(&folder, &server.address());
    let mut client = Program::start(client.current_dir(&folder));
    let mut told = Vec::new();
    while let Some(line) = client.next_line() {
        if line == "restart" {
            server.kill();
            server.restart();
            client.tell("restarted");
        }
        told.push(line);
    }
    let (status, _, errors) = client.end();
    assert!(status.success(), "{name} client: {status}\n{told:?}\n{errors}");
    assert_eq!(told.last().map(String::as_str), Some("ok"), "{name} client:\n{told:?}\n{errors}");
}

/// Where a language's client is ready to be run; none, with a message, where it cannot be.
fn found(language: &Language) -> Option<PathBuf> {
    for tool in language.tools {
        if !works(tool) {
            let Tool { program, probe, get } = tool;
            let what = format!("`{program} {}` does not work: {get}", probe.join(" "));
            say(format_args!("{}: skipped, {what}", language.name));
            return None;
        }
    }
    Some(prepare(language))
}

fn works(tool: &Tool) -> bool {
    run(&mut command(tool.program, tool.probe), RUN).is_ok_and(|output| output.status.success())
}

/// Copies a client to its folder below `target/clients`, and fetches its libraries there if
/// anything about it is new. One at a time: two clients may share a folder.
fn prepare(language: &Language) -> PathBuf {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = root().join("target/clients").join(language.name);
    let fetched = folder.join("fetched");
    let mut sources = files(&root().join("tests/clients").join(language.name));
    let protos = files(&root().join("proto"));
    sources.extend(protos.into_iter().filter(|(name, _)| name.ends_with(".proto")));
    let text: String = sources.iter().map(|(name, text)| format!("=== {name}\n{text}")).collect();
    if fs::read_to_string(&fetched).is_ok_and(|old| old == text) {
        return folder;
    }
    say(format_args!("{}: fetching the client's libraries", language.name));
    fs::create_dir_all(&folder).expect("the target folder can be written");
    for (name, text) in &sources {
        fs::write(folder.join(name), text).expect("the target folder can be written");
    }
    for mut command in (language.fetch)(&folder) {
        let output = run(command.current_dir(&folder), FETCH).unwrap_or_else(|why| panic!("{why}"));
        assert!(
            output.status.success(),
            "{}: {command:?}: {}\n{}{}",
            language.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::write(fetched, text).expect("the target folder can be written");
    folder
}

/// The names and texts of a folder's files, in order.
fn files(folder: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).expect("a source is text"))
        })
        .collect();
    files.sort();
    files
}

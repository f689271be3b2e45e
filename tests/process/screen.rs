//! What the server says while it starts and ends, where it takes its settings from, and what
//! `ringctl inspect` prints of what it leaves.

use crate::floods::{Attacker, big_range, big_values, call};
use crate::life::refusal;
use crate::support::call::Client;
use crate::support::http1;
use crate::support::peers::{ringctl, under_test, under_test_is_ours};
use crate::support::process::{Lines, run, wait};
use crate::support::server::{PATIENCE, Server, command, free_ports};
use crate::support::{block_on, process};
use ringd::http2::frame;
use ringd::peer::{GREETING_SIZE, MAGIC};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What every harness around etcd waits for.
const READY: &str = "ready to serve client requests";
/// How long an end may take, whatever clients do: what the server grants them, and some more.
const END_MAX: Duration = Duration::from_secs(12);

/// A server started by a command of the test's own; killed when dropped.
pub(crate) struct Started(Option<Child>, Lines);

impl Started {
    pub(crate) fn new(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server is there");
        let (lines, ready) = Lines::follow(child.stderr.take().expect("piped"), READY);
        let started = Self(Some(child), lines);
        let outcome = ready.recv_timeout(PATIENCE);
        assert!(outcome.is_ok(), "not ready: {}", started.1.text());
        started
    }

    /// Ends it; its lines.
    pub(crate) fn end(mut self) -> String {
        let child = self.0.take().expect("it runs");
        process::signal(&child, Signal::TERM);
        wait(child, PATIENCE).expect("it ends when asked to");
        self.1.text_at_end()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix_in("screen-", env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written")
}

fn flags(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn the_log_is_json_as_etcd_writes_it_and_says_what_runs_where() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = Server::start(&under_test());
    server.ask_to_end();
    let (_, log) = server.ended_within(PATIENCE);
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    assert!(lines.len() <= 24, "one screen:\n{log}");
    for line in &lines {
        for key in ["level", "ts", "caller", "msg"] {
            assert!(line[key].is_string(), "no {key} in {line}");
        }
    }
    let find = |text: &str| {
        let found = lines.iter().find(|line| line["msg"].as_str() == Some(text));
        found.unwrap_or_else(|| panic!("no `{text}` in:\n{log}"))
    };
    assert_eq!(find(READY)["level"], "info");
    let start = find("starting ringd");
    for key in ["etcd_version", "ringd_version", "data_dir", "cluster_id", "local_member_id"] {
        assert!(start[key].is_string(), "no {key} in {start}");
    }
    assert!(start["cores"].is_array(), "{start}");
    let shard = find("shard");
    assert!(shard["wal_dir"].is_string() && shard["core"].is_number(), "{shard}");
    let serving = find("serving client traffic insecurely; this is strongly discouraged!");
    assert_eq!(serving["address"], server.address());
}

#[test]
fn people_get_columns_and_as_few_lines_as_they_ask_for() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = Server::start_with(&under_test(), &["--log-format", "console"]);
    let log = server.log();
    let line = log.lines().find(|line| line.contains(READY)).expect("it is ready");
    let columns: Vec<_> = line.split('\t').collect();
    assert_eq!((columns[1], columns[3]), ("info", READY), "{line}");
    let (client_port, peer_port) = free_ports();
    let quiet = flags(&["--log-level", "error"]);
    let text = refusal(&mut command(&under_test(), &server.data(), client_port, peer_port, &quiet));
    assert_eq!(text.lines().count(), 1, "what ends it, and nothing else:\n{text}");
    assert!(text.contains("\"level\":\"fatal\""), "{text}");
    let unknown = flags(&["--log-level", "loud"]);
    let text =
        refusal(&mut command(&under_test(), &server.data(), client_port, peer_port, &unknown));
    assert!(text.contains("unrecognized level") && text.contains("loud"), "{text}");
    assert!(server.is_running());
}

/// Sees that a server with the name `settled` answers at `port`.
fn answers(port: u16, log: &str) {
    assert_eq!(http1::get(port, "/health").map(|answer| answer.status), Ok(200), "{log}");
    assert!(log.contains("\"name\":\"settled\""), "{log}");
}

#[test]
fn variables_of_the_environment_are_settings() {
    if !under_test_is_ours() {
        return;
    }
    let (dir, (client_port, peer_port)) = (folder(), free_ports());
    let client = format!("http://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let mut command = Command::new(under_test());
    command
        .env("ETCD_NAME", "settled")
        .env("ETCD_DATA_DIR", dir.path().join("data"))
        .env("ETCD_LISTEN_CLIENT_URLS", &client)
        .env("ETCD_ADVERTISE_CLIENT_URLS", &client)
        .env("ETCD_LISTEN_PEER_URLS", &peer)
        .env("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer)
        .env("ETCD_INITIAL_CLUSTER", format!("settled={peer}"))
        .env("ETCD_NO_SUCH_THING", "1");
    let started = Started::new(&mut command);
    answers(client_port, &started.1.text());
    let log = started.end();
    assert!(log.contains("unrecognized environment variable"), "{log}");
    assert!(log.contains("ETCD_NO_SUCH_THING=1"), "{log}");
    assert!(log.contains("received signal; shutting down"), "{log}");
    let text = refusal(command.args(["--name", "other"]));
    assert!(text.contains("ETCD_NAME") || text.contains("name"), "given twice: {text}");
}

/// A unit of `Type=notify`, as distributions have it for etcd, was ended while it served.
#[test]
fn an_init_system_is_told_once_clients_are_served() {
    // A socket's path may be 107 bytes long, which the target folder's may leave no room for.
    let dir = tempfile::TempDir::new().expect("there is a folder for such");
    let path = dir.path().join("notify");
    let name = format!("ringd-{}", dir.path().display());
    let named = SocketAddr::from_abstract_name(&name).expect("it is short");
    for (socket, variable) in [
        (UnixDatagram::bind(&path), path.clone().into_os_string()),
        (UnixDatagram::bind_addr(&named), format!("@{name}").into()),
    ] {
        let socket = socket.expect("nobody has it");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        let (data, (client_port, peer_port)) = (folder(), free_ports());
        let mut command = command(&under_test(), data.path(), client_port, peer_port, &[]);
        let started = Started::new(command.env("NOTIFY_SOCKET", variable));
        let mut word = [0; 64];
        let size = socket.recv(&mut word).expect("it says so");
        assert_eq!(&word[..size], b"READY=1");
        assert_eq!(http1::get(client_port, "/health").map(|answer| answer.status), Ok(200));
        started.end();
    }
    // Nobody is there: it serves all the same.
    let (data, (client_port, peer_port)) = (folder(), free_ports());
    let mut command = command(&under_test(), data.path(), client_port, peer_port, &[]);
    let started = Started::new(command.env("NOTIFY_SOCKET", dir.path().join("nobody")));
    assert_eq!(http1::get(client_port, "/health").map(|answer| answer.status), Ok(200));
    let log = started.end();
    assert!(log.contains("failed to notify systemd for readiness"), "{log}");
}

#[test]
fn a_file_of_settings_is_read_and_its_faults_named() {
    if !under_test_is_ours() {
        return;
    }
    let (dir, (client_port, peer_port)) = (folder(), free_ports());
    let (client, peer) =
        (format!("http://127.0.0.1:{client_port}"), format!("http://127.0.0.1:{peer_port}"));
    let data = dir.path().join("data");
    let text = format!(
        "name: settled\ndata-dir: {}\nlisten-client-urls: {client}\n\
         advertise-client-urls: {client}\nlisten-peer-urls: {peer}\n\
         initial-advertise-peer-urls: {peer}\ninitial-cluster: settled={peer}\n",
        data.display()
    );
    let file = dir.path().join("ringd.yaml");
    let mut command = Command::new(under_test());
    command.arg("--config-file").arg(&file);
    fs::write(&file, &text).expect("the folder can be written");
    let started = Started::new(&mut command);
    answers(client_port, &started.1.text());
    started.end();
    fs::write(&file, text.clone() + "data-dri: x\n").expect("the folder can be written");
    let log = Started::new(&mut command).end();
    let warned = log.lines().find(|line| line.contains("data-dri")).expect("it is said");
    assert!(warned.contains("\"warn\"") && warned.contains("\"data-dir\""), "{warned}");
    fs::write(&file, text + "max-txn-ops: x\n").expect("the folder can be written");
    let text = refusal(&mut command);
    assert!(text.contains("max-txn-ops"), "{text}");
    fs::remove_file(&file).expect("it is there");
    let text = refusal(&mut command);
    assert!(text.contains("ringd.yaml"), "{text}");
}

/// Each of them was a line.
#[test]
fn bad_greetings_at_the_peer_port_do_not_fill_the_log() {
    if !under_test_is_ours() {
        return;
    }
    let (dir, (client_port, peer_port)) = (folder(), free_ports());
    let (data, file) = (dir.path().join("data"), dir.path().join("log"));
    let outputs = flags(&["--log-outputs", &format!("stderr,{}", file.display())]);
    let mut command = command(&under_test(), &data, client_port, peer_port, &outputs);
    let started = Started::new(&mut command);
    let greeting = [&MAGIC[..], &[0; GREETING_SIZE - MAGIC.len()]].concat();
    let count = 200;
    for _ in 0..count {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, peer_port)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        stream.write_all(&greeting).expect("it listens");
        assert!(stream.read_to_end(&mut Vec::new()).is_ok(), "it closes in order");
    }
    started.end();
    let log = fs::read_to_string(&file).expect("it was written");
    let lines = log.matches("a peer's connection is closed").count();
    assert!(lines > 0 && lines < count, "{lines} lines of {count} bad greetings:\n{log}");
}

#[test]
fn an_end_takes_no_longer_for_clients_that_do_not_go() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = Server::start(&under_test());
    let port = server.port();
    block_on(async {
        let client = Client::connect(port).await.expect("it answers");
        big_values(&client).await;
    });
    let idle: Vec<_> = (0..20).map(|_| Attacker::new(port, &[])).collect();
    let silent: Vec<_> = (0..20).map(|_| Attacker::silent(port)).collect();
    let mut deaf = Attacker::new(port, &[(frame::INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    let mut asking = Vec::new();
    frame::put_u32(&mut asking, frame::WINDOW_UPDATE, 0, 1 << 30);
    for stream in [1, 3, 5] {
        call(&mut asking, stream, "Range", &big_range());
    }
    assert!(deaf.send(&asking));
    assert_eq!(http1::get(port, "/health").map(|answer| answer.status), Ok(200));
    server.ask_to_end();
    let (status, log) = server.ended_within(END_MAX);
    let by_signal = status.signal() == Some(Signal::TERM.as_raw());
    assert!(status.success() || by_signal, "it ends in order: {status}\n{log}");
    drop((idle, silent, deaf));
    server.restart();
}

/// Exit code and all that `ringctl inspect` writes.
fn inspect(file: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(ringctl());
    let output = run(command.arg("inspect").arg(file), PATIENCE).expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn every_file_that_a_node_leaves_is_printed() {
    if !under_test_is_ours() {
        return;
    }
    let mut server = Server::start_with(&under_test(), &["--wal-segment-bytes", "8388608"]);
    server.kill();
    let mut kinds = String::new();
    let wal = fs::read_dir(server.data().join("shard-0/wal")).expect("the log is there");
    let wal = wal.map(|entry| entry.expect("readable").path());
    for file in wal.chain([server.data().join("identity"), server.data().join("lock")]) {
        let (code, text) = inspect(&file);
        assert_eq!(code, Some(0), "{}: {text}", file.display());
        kinds += &text;
    }
    for kind in ["segment 0000", "hard state: term", "identity: member ", "taken last by process"] {
        assert!(kinds.contains(kind), "no `{kind}` in:\n{kinds}");
    }
    let stranger = server.data().join("stranger");
    fs::write(&stranger, "hello\n").expect("the folder can be written");
    let (code, text) = inspect(&stranger);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("stranger") && text.contains("identity"), "{text}");
    let (code, text) = inspect(&server.data().join("nothing"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nothing"), "{text}");
}

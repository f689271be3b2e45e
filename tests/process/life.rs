//! Starting where one may not, ending when asked to, and strangers at the door.

use crate::load::Load;
use crate::support::call::Client;
use crate::support::dice::Dice;
use crate::support::http1;
use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::process::run;
use crate::support::server::{PATIENCE, Server, command, free_ports, listen, port_of};
use crate::support::{block_on, number};
use ringd::api::proto::etcdserverpb::{RangeRequest, RangeResponse};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

/// All that a command wrote, after it has ended by itself with a failure.
pub(crate) fn refusal(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        run(command, PATIENCE).unwrap_or_else(|why| panic!("it should refuse to start: {why}"));
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    let code = status.code();
    assert!(code.is_some_and(|code| code != 0), "it refuses in order, not by {status}:\n{text}");
    assert!(!text.contains("panicked"), "it refuses in order:\n{text}");
    text
}

#[test]
fn a_second_process_on_a_data_directory_is_told_who_holds_it() {
    if !under_test_is_ours() {
        return; // etcd waits for the first to end.
    }
    let mut server = Server::start(&under_test());
    let (client_port, peer_port) = free_ports();
    let text = refusal(&mut command(&under_test(), &server.data(), client_port, peer_port, &[]));
    for part in [server.data().display().to_string(), server.pid().to_string()] {
        assert!(text.contains(&part), "no {part} in:\n{text}");
    }
    assert!(server.is_running(), "the first is not disturbed");
    let health = http1::get(server.port(), "/health").expect("it still answers");
    assert_eq!(health.status, 200);
    server.kill();
    server.restart(); // What the killed one held is free again.
}

#[test]
fn a_busy_port_is_named_and_nothing_is_started() {
    let folder = tempfile::TempDir::with_prefix_in("busy-", env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let busy = listen();
    let port = port_of(&busy);
    let (_, peer_port) = free_ports();
    let text =
        refusal(&mut command(&under_test(), &folder.path().join("data"), port, peer_port, &[]));
    assert!(text.contains(&format!("127.0.0.1:{port}")), "the address is not named:\n{text}");
    assert!(text.to_lowercase().contains("in use"), "the reason is not named:\n{text}");
}

#[test]
fn a_data_directory_that_is_a_file_is_refused_by_name() {
    let folder = tempfile::TempDir::with_prefix_in("file-", env!("CARGO_TARGET_TMPDIR"))
        .expect("the target folder can be written");
    let file = folder.path().join("data");
    fs::write(&file, "not a directory").expect("the folder can be written");
    let (client_port, peer_port) = free_ports();
    let text = refusal(&mut command(&under_test(), &file, client_port, peer_port, &[]));
    assert!(text.contains(&file.display().to_string()), "it is not named:\n{text}");
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "not a directory");
}

/// A client that says nothing and one in the middle of a word: neither holds up the end, as they
/// do etcd's.
fn strangers(server: &Server) -> [TcpStream; 2] {
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).expect("it listens");
    let (silent, mut slow) = (connect(), connect());
    slow.write_all(b"GET /hea").expect("it listens");
    [silent, slow]
}

#[test]
fn asked_to_end_it_drains_and_loses_nothing() {
    let seed = number("SEED", 1);
    let mut server = Server::start(&under_test());
    let _strangers = under_test_is_ours().then(|| strangers(&server));
    let history = block_on(async {
        let mut load = Load::start(server.port(), "drained", &mut Dice::new(seed)).await;
        assert!(load.acked(200).await, "{}", server.log());
        server.ask_to_end();
        load.ended().await
    });
    let status = server.ended();
    let by_signal = status.signal() == Some(Signal::TERM.as_raw());
    assert!(status.success() || by_signal, "it ends in order: {status}");
    server.restart();
    block_on(async {
        let client = Client::connect(server.port()).await.expect("it answers");
        for acked in history.acked {
            let (key, revision) = (acked.key, acked.revision);
            let at = RangeRequest { key, revision, ..RangeRequest::default() };
            let answer: RangeResponse =
                client.unary("/etcdserverpb.KV/Range", &at).await.expect("a read");
            let found = answer.kvs.first().map(|kv| (&kv.value, kv.mod_revision));
            assert_eq!(found, Some((&acked.value, revision)), "SEED={seed}");
        }
    });
}

#[test]
fn nonsense_at_the_port_hurts_nobody() {
    let seed = number("SEED", 1);
    let mut dice = Dice::new(seed);
    let mut server = Server::start(&under_test());
    let other = block_on(Client::connect(server.port()));
    assert!(other.is_ok(), "it answers");
    let all: Vec<u8> = (0..=u8::MAX).collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for round in 0..200 {
        let len = dice.index(3000);
        let mut bytes = dice.bytes(len, &all);
        match dice.below(5) {
            0 => bytes
                .splice(..0, preface[..dice.index(preface.len())].iter().copied())
                .for_each(drop),
            1 => bytes.splice(..0, preface.iter().copied()).for_each(drop),
            // A TLS client hello, cut short by what follows.
            2 => bytes.splice(..0, [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).for_each(drop),
            _ => {}
        }
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port()))
            .unwrap_or_else(|error| panic!("SEED={seed}, round {round}: {error}"));
        // A server may well hang up before it has read all of it.
        let _ = stream.write_all(&bytes);
    }
    assert!(server.is_running(), "SEED={seed}: it has ended");
    let health = http1::get(server.port(), "/health").expect("it still answers");
    assert_eq!(health.status, 200, "SEED={seed}");
}

/// Every byte that was ready was thrown away when a client had ended its side.
#[test]
fn a_client_that_has_ended_its_side_is_answered() {
    if !under_test_is_ours() {
        return; // Go takes it for a client that is gone: which of the two wins is a race.
    }
    let server = Server::start(&under_test());
    for path in ["/health", "/version"] {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).expect("open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is set");
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("it listens");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it closes in order");
        assert!(answer.contains(" 200 OK\r\n"), "{path}: {answer:?}");
    }
}

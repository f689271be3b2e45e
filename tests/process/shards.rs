//! Several keyspaces in one process, and connections on cores other than their shard's.

use crate::life::refusal;
use crate::support::block_on;
use crate::support::call::Client;
use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::server::{Server, command, free_ports};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use tokio::task::JoinSet;

/// Connections to one shard: more than its core's lead over the others, by far.
const CONNECTIONS: usize = 600;
/// Rounds of a put and a get on each of them.
const ROUNDS: usize = 4;

/// The revision of a put.
async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    let put = PutRequest { key, value, ..PutRequest::default() };
    let answer: PutResponse =
        client.unary("/etcdserverpb.KV/Put", &put).await.expect("a put is answered");
    answer.header.expect("every answer has a header").revision
}

/// The value of a key and its revision, and the store's.
async fn get(client: &Client, key: &str) -> (Option<(String, i64)>, i64) {
    let get = RangeRequest { key: Bytes::from(key.to_owned()), ..RangeRequest::default() };
    let answer: RangeResponse =
        client.unary("/etcdserverpb.KV/Range", &get).await.expect("a get is answered");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = answer.kvs.first().map(|kv| (text(&kv.value), kv.mod_revision));
    (found, answer.header.expect("every answer has a header").revision)
}

#[test]
fn each_shard_is_an_etcd_of_its_own() {
    if !under_test_is_ours() {
        return;
    }
    for (shards, cores) in [("2", "all"), ("3", "1")] {
        let (second, third) = free_ports();
        let last = format!(",2=http://127.0.0.1:{third}");
        let last = if shards == "3" { last.as_str() } else { "" };
        let urls = format!("1=http://127.0.0.1:{second}{last}");
        let flags = ["--shards", shards, "--cores", cores, "--shard-client-urls", &urls];
        let mut server = Server::start_with(&under_test(), &flags);
        let ports: Vec<_> = [server.port(), second]
            .into_iter()
            .chain((!last.is_empty()).then_some(third))
            .collect();
        block_on(async {
            for (nth, port) in (1_i64..).zip(&ports) {
                let client = Client::connect(*port).await.expect("it answers");
                for time in 1..=nth {
                    let revision = put(&client, "shared", &format!("{port}/{time}")).await;
                    assert_eq!(revision, 1 + time, "each counts for itself");
                }
                put(&client, &format!("only/{port}"), "here").await;
            }
        });
        for is_restarted in [false, true] {
            block_on(async {
                for (nth, port) in (1_i64..).zip(&ports) {
                    let client = Client::connect(*port).await.expect("it answers");
                    let expected = Some((format!("{port}/{nth}"), 1 + nth));
                    assert_eq!(get(&client, "shared").await, (expected, 2 + nth), "{is_restarted}");
                    for other in &ports {
                        let found = get(&client, &format!("only/{other}")).await.0;
                        assert_eq!(found.is_some(), other == port, "{other} seen from {port}");
                    }
                }
            });
            if !is_restarted {
                server.kill();
                server.restart();
            }
        }
        for shard in 0..ports.len() {
            let wal = server.data().join(format!("shard-{shard}/wal"));
            assert!(wal.is_dir(), "{} is there", wal.display());
        }
        server.kill();
        let (client_port, peer_port) = free_ports();
        let text =
            refusal(&mut command(&under_test(), &server.data(), client_port, peer_port, &[]));
        let advice = format!("start with --shards {shards}");
        assert!(text.contains(&advice), "no `{advice}` in:\n{text}");
        server.restart();
    }
}

#[test]
fn many_connections_spread_over_the_cores_and_each_is_answered() {
    let flags: &[&str] = if under_test_is_ours() { &["--cores", "2"] } else { &[] };
    if std::thread::available_parallelism().is_ok_and(|count| count.get() < 2) {
        return crate::support::say("many connections: skipped, there is one CPU only");
    }
    let mut server = Server::start_with(&under_test(), flags);
    block_on(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Client::connect(server.port()).await.expect("it answers"));
        }
        let mut revisions = Vec::new();
        for round in 0..ROUNDS {
            let mut puts = JoinSet::new();
            for (nth, client) in connections.iter().cloned().enumerate() {
                puts.spawn(async move {
                    // Two calls in flight at once on each connection.
                    let (key, value) = (format!("k/{nth}"), format!("{nth}/{round}"));
                    let other = format!("k/{}", (nth + 1) % CONNECTIONS);
                    let (revision, (seen, _)) =
                        tokio::join!(put(&client, &key, &value), get(&client, &other));
                    let (found, _) = get(&client, &key).await;
                    assert_eq!(found, Some((value, revision)), "the own put is read");
                    (revision, seen)
                });
            }
            revisions.extend(puts.join_all().await.into_iter().map(|(revision, _)| revision));
        }
        revisions.sort_unstable();
        let count = i64::try_from(CONNECTIONS * ROUNDS).expect("small");
        assert!(revisions.into_iter().eq(2..2 + count), "each put has a revision of its own");
        server.ask_to_end();
        let status = server.ended();
        let by_signal = status.signal() == Some(Signal::TERM.as_raw());
        assert!(status.success() || by_signal, "it ends in order: {status}");
    });
}

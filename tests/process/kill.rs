//! Killed without warning, again and again, under load: what was acknowledged is there.

use crate::load::{Acked, History, Load};
use crate::support::call::Client;
use crate::support::dice::Dice;
use crate::support::peers::under_test;
use crate::support::server::Server;
use crate::support::{block_on, number};
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{RangeRequest, RangeResponse};
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// Times that the server is killed.
const ROUNDS: u64 = 20;
/// Reads in flight while the history is checked.
const READS_MAX: usize = 64;

/// What is known for certain of the store, over all rounds.
#[derive(Debug, Default)]
struct Known {
    /// Every put that is in the history, by its revision.
    puts: BTreeMap<i64, (Bytes, Bytes)>,
    /// The store's revision after the last start.
    revision: i64,
}

#[test]
fn what_was_acknowledged_survives_kill_9_under_load() {
    let (seed, rounds) = (number("SEED", 1), number("ROUNDS", ROUNDS));
    let mut dice = Dice::new(seed);
    let mut server = Server::start(&under_test());
    let mut known = Known { revision: 1, ..Known::default() };
    let mut all: Vec<Acked> = Vec::new();
    for round in 0..rounds {
        let context = format!("SEED={seed}, round {round}");
        let target = match dice.below(5) {
            0 => dice.index(10),
            _ => dice.index(800),
        };
        let history = block_on(async {
            let mut load = Load::start(server.port(), &format!("{round}"), &mut dice).await;
            assert!(load.acked(target).await, "{context}: {}", server.log());
            server.kill();
            load.ended().await
        });
        server.restart();
        block_on(known.check(&context, server.port(), &history));
        all.extend(history.acked);
    }
    block_on(async {
        let client = Client::connect(server.port()).await.expect("it answers");
        read_back(&format!("SEED={seed}, at the end"), &client, &all).await;
    });
    assert!(!all.is_empty(), "some puts were acknowledged");
}

impl Known {
    /// Checks the store after a restart against all that was sent and acknowledged before.
    async fn check(&mut self, context: &str, port: u16, history: &History) {
        let client = Client::connect(port).await.expect("it answers");
        for acked in &history.acked {
            let Acked { key, value, revision } = acked;
            assert!(*revision > self.revision, "{context}: a revision was used again: {acked:?}");
            let other = self.puts.insert(*revision, (key.clone(), value.clone()));
            assert_eq!(other, None, "{context}: a revision was given twice: {acked:?}");
        }
        read_back(context, &client, &history.acked).await;

        let zero = Bytes::from_static(b"\0");
        let every = RangeRequest { key: zero.clone(), range_end: zero, ..RangeRequest::default() };
        let now = range(&client, &every).await;
        let revision = now.header.as_ref().expect("a header").revision;
        let last = self.puts.last_key_value().map_or(1, |(revision, _)| *revision);
        assert!(revision >= last, "{context}: revision {revision}, but {last} was acknowledged");
        let writes: i64 = now.kvs.iter().map(|kv| kv.version).sum();
        assert_eq!(writes, revision - 1, "{context}: each revision is one put, none is missing");
        for kv in &now.kvs {
            let known = self.puts.get(&kv.mod_revision);
            if let Some((key, value)) = known {
                assert_eq!((&kv.key, &kv.value), (key, value), "{context}");
                continue;
            }
            // It was in flight: then it is whole, and newer than all that was there before.
            let sent = history.sent.get(&kv.key).is_some_and(|sent| sent.contains(&kv.value));
            assert!(sent, "{context}: nobody put this: {kv:?}");
            assert!(
                kv.mod_revision > self.revision,
                "{context}: a revision was used again: {kv:?}"
            );
            self.puts.insert(kv.mod_revision, (kv.key.clone(), kv.value.clone()));
        }
        self.revision = revision;
    }
}

/// Reads every acknowledged put at its revision.
async fn read_back(context: &str, client: &Client, acked: &[Acked]) {
    for some in acked.chunks(READS_MAX) {
        let mut reads = JoinSet::new();
        for acked in some.iter().cloned() {
            let client = client.clone();
            reads.spawn(async move {
                let Acked { key, revision, .. } = acked.clone();
                let at = RangeRequest { key, revision, ..RangeRequest::default() };
                (range(&client, &at).await, acked)
            });
        }
        for (answer, acked) in reads.join_all().await {
            let [kv] = answer.kvs.as_slice() else { panic!("{context}: lost: {acked:?}") };
            let found = (&kv.key, &kv.value, kv.mod_revision);
            assert_eq!(found, (&acked.key, &acked.value, acked.revision), "{context}");
        }
    }
}

async fn range(client: &Client, request: &RangeRequest) -> RangeResponse {
    client.unary("/etcdserverpb.KV/Range", request).await.expect("a read is answered")
}

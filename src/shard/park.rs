//! Answers that wait for values on disk.
//!
//! What a change replaced, and what a transaction read, is settled when it is applied; the values
//! may be on disk. Such an answer waits here for their blocks and leaves when the last has come.
//! What it names stays readable meanwhile, whatever is compacted and cleaned. So does a transaction
//! of reads that compares values, all as of when it began.

use crate::mvcc::KeyValue;
use crate::mvcc::Way;
use crate::shard::Shard;
use crate::shard::command::ArchivedCommand;
use crate::shard::records::KNOWN;
use crate::shard::records::Needs;
use crate::shard::records::Seen;
use crate::shard::request::Body;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::wants::Waiter;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Pin;
use crate::store::Store;
use bytes::Bytes;
use std::collections::BTreeMap;

/// All answers that wait for values.
#[derive(Debug, Default)]
pub(super) struct Parked {
    answers: BTreeMap<u64, Answer>,
    last: u64,
}

/// One answer.
#[derive(Debug)]
struct Answer {
    to: RequestId,
    what: What,
    needs: Needs,
    pin: Pin,
}

/// What an answer is made of.
#[derive(Debug)]
enum What {
    /// All but some values.
    Response(Response),
    /// A transaction of reads, which values decide, and how far its way is found. The revision
    /// that it sees is pinned.
    Txn(Bytes, Way),
}

impl Parked {
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// All of them, which are given up; of those that are transactions of reads, what they are.
    pub(super) fn drain(&mut self) -> Vec<(RequestId, Option<Bytes>)> {
        let answers = std::mem::take(&mut self.answers).into_values();
        let what = |answer: Answer| match answer.what {
            What::Response(_) => (answer.to, None),
            What::Txn(txn, _) => (answer.to, Some(txn)),
        };
        answers.map(what).collect()
    }
}

impl Shard {
    /// An answer leaves, once all its values are here; some may have come already.
    pub(super) fn answer(&mut self, to: RequestId, mut response: Response, mut needs: Needs) {
        response.body.each_pair(&mut |pair| fill(&self.store, pair, &mut needs));
        if needs.are_met() {
            response.body.settle();
            self.reply(to, Ok(response));
        } else {
            self.park(to, What::Response(response), needs);
        }
    }

    /// Answers a transaction of reads from what is applied, once the values that decide are here.
    pub(super) fn read_txn(&mut self, to: RequestId, txn: Bytes) {
        self.go_on_with_txn(to, (txn, Way::default()), Needs::default());
    }

    fn go_on_with_txn(&mut self, to: RequestId, (txn, mut way): (Bytes, Way), mut needs: Needs) {
        let Ok(ArchivedCommand::Txn(script)) = ArchivedCommand::open(&txn) else {
            unreachable!("the request was made here, of a transaction")
        };
        needs.of_txn(&self.keyspace, &self.store, script, &mut way);
        if !needs.are_met() {
            self.keyspace.pin(way.at());
            return self.park(to, What::Txn(txn, way), needs);
        }
        match self.keyspace.read_txn(script, &way, &Seen::new(&self.store)) {
            Ok(outcome) => {
                let header = self.header_at(way.at());
                let response = Response { header, body: Body::Txn(outcome) };
                self.answer(to, response, Needs::default());
            }
            Err(refusal) => self.reply(to, Err(refusal.into())),
        }
    }

    fn park(&mut self, to: RequestId, what: What, needs: Needs) {
        self.parked.last += 1;
        let id = self.parked.last;
        let blocks = needs.blocks();
        self.parked.answers.insert(id, Answer { to, what, needs, pin: self.store.pin() });
        for block in blocks {
            if self.wants.want(block, Waiter::Answer(id)) {
                self.store.fetch(block);
            }
        }
    }

    /// A block that an answer waits for is here.
    pub(super) fn answer_fetched(&mut self, id: u64, fetched: &Fetched) {
        let Some(answer) = self.parked.answers.get_mut(&id) else { return };
        answer.needs.take(&self.store, fetched);
        if answer.needs.are_met() {
            let answer = self.parked.answers.remove(&id).expect("it is there");
            // Cleaning may have moved what it still lacks: it is pinned anew in this turn.
            self.store.unpin(answer.pin);
            match answer.what {
                What::Response(response) => self.answer(answer.to, response, answer.needs),
                What::Txn(txn, way) => {
                    // As above: what is still needed is pinned again.
                    self.keyspace.unpin(way.at());
                    self.go_on_with_txn(answer.to, (txn, way), answer.needs);
                }
            }
        }
    }
}

/// Gives a pair its value if that is in memory or has come, or notes that it is needed.
fn fill(store: &Store, pair: &mut KeyValue, needs: &mut Needs) {
    if pair.value.is_some() {
        return;
    }
    match store.value(pair.location).expect(KNOWN) {
        Lookup::Here(value) => pair.value = Some(value.to_bytes()),
        Lookup::Away(_) => match needs.value(pair.location) {
            Some(value) => pair.value = Some(value.clone()),
            None => needs.want(store, pair.location),
        },
    }
}

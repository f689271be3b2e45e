//! Answers that wait for values on disk.
//!
//! What a change replaced, and what a transaction read, is settled when it is applied; the values
//! may be on disk. Such an answer waits here for their blocks and leaves when the last has come.
//! What it names stays readable meanwhile, whatever is compacted and cleaned. So does a transaction
//! of reads that compares values.

use crate::mvcc::KeyValue;
use crate::shard::Shard;
use crate::shard::command::ArchivedCommand;
use crate::shard::records::KNOWN;
use crate::shard::records::Seen;
use crate::shard::request::Body;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::wants::Waiter;
use crate::store::BlockId;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Pin;
use crate::store::Store;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

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
    /// Blocks it waits for.
    missing: usize,
    pin: Pin,
}

/// What an answer is made of.
#[derive(Debug)]
enum What {
    /// All but some values.
    Response(Response),
    /// A transaction of reads, and the blocks that came for it.
    Txn(Bytes, Vec<Fetched>),
}

impl Parked {
    pub(super) fn len(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }
}

impl Shard {
    /// An answer leaves, once all its values are here.
    pub(super) fn answer(&mut self, to: RequestId, mut response: Response) {
        let mut missing = BTreeSet::new();
        response.body.each_pair(&mut |pair| fill_from_memory(&self.store, pair, &mut missing));
        if missing.is_empty() {
            self.reply(to, Ok(response));
        } else {
            self.park(to, What::Response(response), missing);
        }
    }

    /// Answers a transaction of reads from what is applied, once the values that decide are here.
    pub(super) fn read_txn(&mut self, to: RequestId, txn: Bytes, held: Vec<Fetched>) {
        let Ok(ArchivedCommand::Txn(script)) = ArchivedCommand::open(&txn) else {
            unreachable!("the request was made here, of a transaction")
        };
        let seen = Seen { store: &self.store, held: &held };
        let mut missing = BTreeSet::new();
        self.keyspace.txn_needs(script, |location| missing.extend(seen.missing(location)));
        if !missing.is_empty() {
            return self.park(to, What::Txn(txn, held), missing);
        }
        match self.keyspace.read_txn(script, &seen) {
            Ok(outcome) => {
                let response = Response { header: self.header(), body: Body::Txn(outcome) };
                self.answer(to, response);
            }
            Err(refusal) => self.reply(to, Err(refusal.into())),
        }
    }

    fn park(&mut self, to: RequestId, what: What, missing: BTreeSet<BlockId>) {
        self.parked.last += 1;
        let id = self.parked.last;
        let answer = Answer { to, what, missing: missing.len(), pin: self.store.pin() };
        self.parked.answers.insert(id, answer);
        for block in missing {
            if self.wants.want(block, Waiter::Answer(id)) {
                self.store.fetch(block);
            }
        }
    }

    /// A block that an answer waits for is here.
    pub(super) fn answer_fetched(&mut self, id: u64, fetched: &Fetched) {
        let Some(answer) = self.parked.answers.get_mut(&id) else { return };
        let store = &self.store;
        match &mut answer.what {
            What::Response(response) => response.body.each_pair(&mut |pair| {
                if pair.value.is_none() {
                    pair.value = store.value_in(fetched, pair.location);
                }
            }),
            What::Txn(_, held) => held.push(fetched.clone()),
        }
        answer.missing -= 1;
        if answer.missing == 0 {
            let answer = self.parked.answers.remove(&id).expect("it is there");
            // Cleaning may have moved what it still lacks: it is pinned anew in this turn.
            self.store.unpin(answer.pin);
            match answer.what {
                What::Response(response) => self.answer(answer.to, response),
                What::Txn(txn, held) => self.read_txn(answer.to, txn, held),
            }
        }
    }
}

/// Gives a pair its value if that is in memory, or notes which block has it.
fn fill_from_memory(store: &Store, pair: &mut KeyValue, missing: &mut BTreeSet<BlockId>) {
    if pair.value.is_some() {
        return;
    }
    match store.value(pair.location).expect(KNOWN) {
        Lookup::Here(value) => pair.value = Some(value.to_bytes()),
        Lookup::Away(block) => {
            missing.insert(block);
        }
    }
}

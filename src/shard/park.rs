//! Answers that are complete but for values on disk.
//!
//! What a change replaced, and what a transaction read, is settled when it is applied; the values
//! may be on disk. Such an answer waits here for their blocks and leaves when the last has come.
//! What it names stays readable meanwhile, whatever is compacted and cleaned.

use crate::mvcc::KeyValue;
use crate::shard::Shard;
use crate::shard::request::RequestId;
use crate::shard::request::Response;
use crate::shard::wants::Waiter;
use crate::store::Fetched;
use crate::store::Lookup;
use crate::store::Pin;
use crate::store::Store;
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
    response: Response,
    /// Blocks it waits for.
    missing: usize,
    pin: Pin,
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
            return self.reply(to, Ok(response));
        }
        self.parked.last += 1;
        let id = self.parked.last;
        for block in &missing {
            if self.wants.want(*block, Waiter::Answer(id)) {
                self.store.fetch(*block);
            }
        }
        let answer = Answer { to, response, missing: missing.len(), pin: self.store.pin() };
        self.parked.answers.insert(id, answer);
    }

    /// A block that an answer waits for is here.
    pub(super) fn answer_fetched(&mut self, id: u64, fetched: &Fetched) {
        let Some(answer) = self.parked.answers.get_mut(&id) else { return };
        answer.response.body.each_pair(&mut |pair| {
            if pair.value.is_none() {
                pair.value = fetched.value_in(pair.location);
            }
        });
        answer.missing -= 1;
        if answer.missing == 0 {
            let answer = self.parked.answers.remove(&id).expect("it is there");
            self.store.unpin(answer.pin);
            self.reply(answer.to, Ok(answer.response));
        }
    }
}

/// Gives a pair its value if that is in memory, or notes which block has it.
fn fill_from_memory(
    store: &Store,
    pair: &mut KeyValue,
    missing: &mut BTreeSet<crate::store::BlockId>,
) {
    if pair.value.is_some() {
        return;
    }
    match store.value(pair.location) {
        Some(Lookup::Here(value)) => pair.value = Some(value.to_bytes()),
        Some(Lookup::Away(block)) => {
            missing.insert(block);
        }
        None => unreachable!("every put that the index knows has a record"),
    }
}

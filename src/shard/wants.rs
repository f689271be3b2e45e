//! Who waits for which block of the store.

use crate::shard::Shard;
use crate::shard::request::RequestId;
use crate::store::BlockId;
use std::collections::BTreeMap;

/// One that cannot go on without a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// The next committed entry, which needs an old value to be applied.
    Apply,
    /// An answer, all but for values in it.
    Answer(u64),
    /// A list's rows ahead.
    List(RequestId),
    /// A hash over history.
    Hash,
    /// A slice of the past.
    Replay(u64),
}

/// All who wait, by block.
#[derive(Debug, Default)]
pub(super) struct Wants {
    by_block: BTreeMap<BlockId, Vec<Waiter>>,
}

impl Wants {
    /// Notes that `who` waits for `block`; whether it is the first, and the block to be fetched.
    pub(super) fn want(&mut self, block: BlockId, who: Waiter) -> bool {
        let waiters = self.by_block.entry(block).or_default();
        waiters.push(who);
        waiters.len() == 1
    }

    /// The block is here: all who waited for it, in the order they came.
    pub(super) fn arrived(&mut self, block: BlockId) -> Vec<Waiter> {
        self.by_block.remove(&block).unwrap_or_default()
    }
}

impl Shard {
    /// Blocks that have come go to those who wait for them.
    pub(super) fn hand_out_blocks(&mut self) {
        while let Some(fetched) = self.store.fetched() {
            for waiter in self.wants.arrived(fetched.id) {
                match waiter {
                    Waiter::Apply => self.needs.take(&self.store, &fetched),
                    Waiter::Answer(id) => self.answer_fetched(id, &fetched),
                    Waiter::List(to) => self.list_fetched(to, &fetched),
                    Waiter::Hash => self.hash_fetched(&fetched),
                    Waiter::Replay(id) => self.replay_fetched(id, &fetched),
                }
            }
        }
    }
}

//! The keys that have watchers of their own: a hash table that grows by one chain at a time.
//!
//! Where a key comes to lie follows from a seed, so no client can choose keys that share a chain.
//! Nobody is shown the keys in the table's order.
//!
//! A table that doubles would, at a million keys, move all of them in one turn of its core. Here a
//! new key that finds as many chains as keys splits one of them, in turn, and that is all.
//!
//! # Source
//! W. Litwin, "Linear Hashing: A New Tool for File and Table Addressing".

use siphasher::sip::SipHasher13;

use crate::mvcc::watch::pages::NONE;
use crate::mvcc::watch::pages::Pages;
use crate::mvcc::watch::pages::Place;
use crate::mvcc::watch::pages::Slab;
use crate::mvcc::watch::slots::List;

/// A key that has watchers.
///
/// # Shape
/// 32 bytes, and the key's.
#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    hash: u32,
    /// The next key of its chain.
    next: u32,
    watchers: List,
}

const _: () = assert!(size_of::<Place<Entry>>() == 32, "there is one for most watchers");

/// Every key that has watchers of its own.
///
/// # Shape
/// At least as many chains as keys.
#[derive(Debug)]
pub(super) struct Keys {
    hasher: SipHasher13,
    /// The first key of each chain.
    chains: Pages<u32>,
    entries: Slab<Entry>,
    /// Bytes of all keys.
    size: usize,
}

/// The chain, of so many, that a key with this hash is in.
///
/// # Shape
/// With a power of two, as many low bits of the hash as count to it. Beyond a power of two, chains
/// from the first on are split by one bit more; the others are not yet.
fn chain_of(hash: u32, chains: u32) -> u32 {
    let mask = u64::from(chains).next_power_of_two() - 1;
    let chain = u64::from(hash) & mask;
    let chain = if chain < u64::from(chains) { chain } else { chain & (mask >> 1) };
    u32::try_from(chain).expect("it is one of the chains")
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = SipHasher13::new_with_keys(seed, 0);
        Self { hasher, chains: Pages::new(), entries: Slab::new(), size: 0 }
    }

    pub(super) fn key(&self, at: u32) -> &[u8] {
        &self.entries[at].key
    }

    /// Those that watch a key.
    pub(super) fn watchers(&mut self, at: u32) -> &mut List {
        &mut self.entries[at].watchers
    }

    /// Those that watch `key`, if any do.
    pub(super) fn seeing(&self, key: &[u8]) -> Option<List> {
        if self.entries.len() == 0 {
            return None;
        }
        let at = self.find(key, self.hash(key))?;
        Some(self.entries[at].watchers)
    }

    /// The number of `key`, which is made one of the table's if it is not.
    pub(super) fn open(&mut self, key: &[u8]) -> u32 {
        let hash = self.hash(key);
        if let Some(at) = self.find(key, hash) {
            return at;
        }
        if self.entries.len() == self.chains.len() {
            self.split_chain();
        }
        self.size += key.len();
        let chain = self.chain(hash);
        let chain = &mut self.chains[chain];
        let entry = Entry { key: key.into(), hash, next: *chain, watchers: List::EMPTY };
        *chain = self.entries.insert(entry);
        *chain
    }

    /// Forgets a key that nobody watches any more.
    pub(super) fn close(&mut self, at: u32) {
        let Entry { key, hash, next, watchers } = self.entries.remove(at);
        assert!(watchers.is_empty(), "who watches a key keeps it");
        self.size -= key.len();
        if self.entries.len() == 0 {
            self.chains = Pages::new();
            return;
        }
        let chain = self.chain(hash);
        let mut link = &mut self.chains[chain];
        while *link != at {
            let before = *link;
            link = &mut self.entries[before].next;
        }
        *link = next;
    }

    fn hash(&self, key: &[u8]) -> u32 {
        u32::try_from(self.hasher.hash(key) >> 32).expect("half of a hash")
    }

    /// The chain of a key with this hash, if there are chains.
    fn chain(&self, hash: u32) -> u32 {
        chain_of(hash, self.chains.len())
    }

    fn find(&self, key: &[u8], hash: u32) -> Option<u32> {
        let mut at = *self.chains.get(self.chain(hash))?;
        while at != NONE {
            let entry = &self.entries[at];
            if entry.hash == hash && *entry.key == *key {
                return Some(at);
            }
            at = entry.next;
        }
        None
    }

    /// Adds a chain, which takes its share of the one whose turn it is.
    fn split_chain(&mut self) {
        let added = self.chains.push(NONE);
        if added == 0 {
            return;
        }
        let turn = added - (1 << added.ilog2());
        let mut at = std::mem::replace(&mut self.chains[turn], NONE);
        while at != NONE {
            let entry = &mut self.entries[at];
            let chain = &mut self.chains[chain_of(entry.hash, added + 1)];
            let next = std::mem::replace(&mut entry.next, *chain);
            *chain = std::mem::replace(&mut at, next);
        }
    }

    /// Bytes that the table takes, its keys included.
    pub(super) fn heap_size(&self) -> usize {
        self.chains.heap_size() + self.entries.heap_size() + self.size
    }

    /// Checks every invariant; `each` is shown the number and the watchers of each key.
    pub(super) fn check_all(&self, mut each: impl FnMut(u32, List)) {
        self.entries.check_all();
        assert!(self.entries.len() <= self.chains.len(), "there are enough chains");
        let (mut count, mut size) = (0, 0);
        for chain in 0..self.chains.len() {
            let mut at = self.chains[chain];
            while at != NONE {
                let entry = &self.entries[at];
                assert!(entry.hash == self.hash(&entry.key), "a key's hash is known");
                assert!(self.chain(entry.hash) == chain, "a key is in its chain");
                assert!(self.find(&entry.key, entry.hash) == Some(at), "a key is there once");
                each(at, entry.watchers);
                count += 1;
                size += entry.key.len();
                at = entry.next;
            }
        }
        assert!(count == self.entries.len(), "every key is in a chain");
        assert!(size == self.size, "bytes of keys are counted");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn keys_whose_hashes_are_equal_are_told_apart() {
        // Among so many keys a few share all 32 bits, as birthdays do.
        let mut keys = Keys::new(1);
        let mut found = BTreeMap::new();
        let pairs: Vec<_> = (0..300_000_u32)
            .filter_map(|n| Some((found.insert(keys.hash(&n.to_le_bytes()), n)?, n)))
            .collect();
        assert!(!pairs.is_empty());
        for (one, other) in pairs {
            let numbers = [one, other].map(|n| keys.open(&n.to_le_bytes()));
            assert_ne!(numbers[0], numbers[1]);
            assert_eq!(numbers, [one, other].map(|n| keys.open(&n.to_le_bytes())));
            keys.check_all(|_, _| ());
            keys.close(numbers[0]);
            assert!(keys.seeing(&one.to_le_bytes()).is_none());
            assert!(keys.seeing(&other.to_le_bytes()).is_some());
        }
    }

    #[test]
    fn each_new_chain_takes_from_the_one_whose_turn_it_is_and_from_no_other() {
        for chains in 1..300 {
            for hash in (0..5000_u32).map(|n| n.wrapping_mul(0x9e37_79b9)) {
                let (before, after) = (chain_of(hash, chains), chain_of(hash, chains + 1));
                let turn = chains - (1 << chains.ilog2());
                assert!(after == before || (before == turn && after == chains));
            }
        }
    }

    #[test]
    fn chains_stay_short() {
        let mut keys = Keys::new(7);
        for n in 0..10_000_u32 {
            keys.open(&n.to_be_bytes());
            if n % 500 == 0 {
                keys.check_all(|_, _| ());
            }
        }
        let len_max = (0..keys.chains.len()).map(|chain| {
            let mut len = 0;
            let mut at = keys.chains[chain];
            while at != NONE {
                len += 1;
                at = keys.entries[at].next;
            }
            len
        });
        let len_max = len_max.max().expect("there are chains");
        assert!(len_max < 12, "{len_max} keys in one chain");
    }
}

//! Which watchers see which key.
//!
//! A core that holds watchers is told every change of a shard, and has to know for each whom it
//! concerns. Most watchers see one key, and are found by its hash; the others see a span, and are
//! found in a tree of spans. Those that see the same share one key or one span and stand in a list,
//! so that a thousand watchers of one prefix are one node, which a thousand slots follow.
//!
//! Watchers are numbers here, which whoever holds them has chosen; what is told them, from when on
//! and how, is not known here.

mod keys;
mod pages;
mod slots;
mod spans;

use self::keys::Keys;
use self::slots::Sight;
use self::slots::Slots;
use self::spans::End;
use self::spans::Spans;
use crate::mvcc::KeyRange;

/// Which watchers see which key.
///
/// # Shape
/// Empty, it takes nothing on the heap. Otherwise it takes room for the most that there were at a
/// time, until none is left: 16 bytes for each number of a watcher up to the largest, 36 and the
/// key for each key that is watched, 48 and the keys for each span.
#[derive(Debug)]
pub struct Watchers {
    slots: Slots,
    keys: Keys,
    spans: Spans,
}

impl Watchers {
    /// No watchers. The seed is of the hash, and one that no client knows.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { slots: Slots::new(), keys: Keys::new(seed), spans: Spans::new() }
    }

    /// How many watchers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no watcher.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a watcher under a number that whoever holds it has chosen, and that is small, as memory
    /// goes by the largest.
    ///
    /// # Panics
    /// If a watcher has the number, if it is `u32::MAX`, or if no key can be in the range.
    ///
    /// # Cost
    /// A key of its own: one search in the hash table. A span: two ways through the tree. Allocates
    /// for a key or a span that nobody else watches.
    pub fn insert(&mut self, watcher: u32, range: KeyRange<'_>) {
        let (start, end) = match range {
            KeyRange::One(key) => {
                let key = self.keys.open(key);
                self.slots.append(watcher, Sight::Key(key), self.keys.watchers(key));
                return;
            }
            KeyRange::Span { start, end } => (start, End::Before(end)),
            KeyRange::From(start) => (start, End::Never),
        };
        assert!(End::Before(start) < end, "a watcher's span has keys");
        let span = self.spans.open(start, end);
        self.slots.append(watcher, Sight::Span(span), self.spans.watchers(span));
    }

    /// Takes out a watcher.
    ///
    /// # Panics
    /// If none has the number.
    ///
    /// # Cost
    /// As [`Self::insert`] if it is the last of its key or span; else a few steps, however many see
    /// the same.
    pub fn remove(&mut self, watcher: u32) {
        let sight = self.slots.sight(watcher).expect("only a watcher that is here is taken out");
        match sight {
            Sight::Key(key) => {
                let list = self.keys.watchers(key);
                self.slots.unlink(watcher, list);
                if list.is_empty() {
                    self.keys.close(key);
                }
            }
            Sight::Span(span) => {
                let list = self.spans.watchers(span);
                self.slots.unlink(watcher, list);
                if list.is_empty() {
                    self.spans.close(span);
                }
            }
        }
    }

    /// What a watcher sees; none if no watcher has the number.
    #[must_use]
    pub fn range(&self, watcher: u32) -> Option<KeyRange<'_>> {
        Some(match self.slots.sight(watcher)? {
            Sight::Key(key) => KeyRange::One(self.keys.key(key)),
            Sight::Span(span) => self.spans.range(span),
        })
    }

    /// Shows every watcher that sees `key`, each once.
    ///
    /// # Shape
    /// First those of this one key, then those of spans, by start and then by end, a span without
    /// an end after those that have one. Who see the same stand in the order in which they came.
    ///
    /// # Cost
    /// One search in the hash table if any watcher sees one key only; one way down the tree if any
    /// sees a span, and for each span that has the key at most one way more. No allocation.
    pub fn seeing(&self, key: &[u8], mut visit: impl FnMut(u32)) {
        if let Some(list) = self.keys.seeing(key) {
            self.slots.each(list, &mut visit);
        }
        self.spans.seeing(key, &mut |list| self.slots.each(list, &mut visit));
    }

    /// Bytes that all this takes, but for what an allocator adds to each allocation.
    ///
    /// # Cost
    /// A look at every thousandth watcher.
    #[must_use]
    pub fn heap_size(&self) -> usize {
        self.slots.heap_size() + self.keys.heap_size() + self.spans.heap_size()
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    pub fn check_all(&self) {
        let mut listed = 0;
        self.keys.check_all(|key, list| listed += self.slots.check_list(Sight::Key(key), list));
        self.spans.check_all(|span, list| listed += self.slots.check_list(Sight::Span(span), list));
        self.slots.check_all(listed);
    }
}

#[cfg(test)]
mod tests;

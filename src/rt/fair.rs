//! Who is answered next, when answers are large: one of each connection in turn.
//!
//! A read of many keys is answered in milliseconds, and a client may ask for thousands at once.
//! What is made in one turn of the core is bounded; what is left waits here, and a connection that
//! asks for little waits for one answer of each other, not for all of them.

use crate::shard::request::Range;
use crate::shard::request::RequestId;
use std::collections::BTreeMap;
use std::collections::VecDeque;

/// Bytes of answers that one turn makes before writes, other shards and other connections have
/// theirs: a millisecond or so.
pub(crate) const TURN_SIZE_MAX: usize = 4 << 20;

/// Reads that wait at a time; one more is refused as too many. What one shard lets wait for a read
/// point by default.
const WAITING_MAX: usize = 65_536;
/// Bytes of them beyond which one more is refused: keys may be as large as requests.
const WAITING_SIZE_MAX: usize = 256 << 20;

/// A core and one of its connections.
type Place = (u32, u32);

/// Reads whose answers wait to be made.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    by_connection: BTreeMap<Place, VecDeque<(RequestId, Range)>>,
    /// Whose turn it was last.
    last: Place,
    count: usize,
    /// Bytes of all that wait.
    size: usize,
}

impl Waiting {
    /// Whether this read must wait behind others of its connection.
    pub(crate) fn has(&self, to: RequestId) -> bool {
        !self.by_connection.is_empty() && self.by_connection.contains_key(&place(to))
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_connection.is_empty()
    }

    /// Whether one more is too many: to the shard they are answered already.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= WAITING_MAX || self.size >= WAITING_SIZE_MAX
    }

    /// One more waits.
    pub(crate) fn push(&mut self, to: RequestId, range: Range) {
        self.count += 1;
        self.size += range.size();
        self.by_connection.entry(place(to)).or_default().push_back((to, range));
    }

    /// The next to be answered, of those whose core takes answers now.
    pub(crate) fn next(&mut self, takes: impl Fn(u32) -> bool) -> Option<(RequestId, Range)> {
        let after = (self.last.0, self.last.1.saturating_add(1));
        let mut places = self.by_connection.range(after..).chain(&self.by_connection);
        let place = *places.find(|(place, _)| takes(place.0))?.0;
        let reads = self.by_connection.get_mut(&place)?;
        let next = reads.pop_front();
        if reads.is_empty() {
            self.by_connection.remove(&place);
        }
        self.last = place;
        self.count -= next.iter().len();
        self.size -= next.iter().map(|(_, range)| range.size()).sum::<usize>();
        next
    }

    /// A connection of a core is gone, and nobody waits for its answers.
    pub(crate) fn forget(&mut self, core: u32, connection: u32) {
        let gone = self.by_connection.remove(&(core, connection)).unwrap_or_default();
        self.count -= gone.len();
        self.size -= gone.iter().map(|(_, range)| range.size()).sum::<usize>();
    }
}

fn place(to: RequestId) -> Place {
    (to.core, to.connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_turn_whatever_the_others_ask() {
        let range = Range::one(b"a", true);
        let id = |connection, stream| RequestId { core: 0, connection, generation: 1, stream };
        let mut waiting = Waiting::default();
        for stream in 0..5 {
            waiting.push(id(3, stream), range.clone());
        }
        waiting.push(id(1, 9), range.clone());
        waiting.push(RequestId { core: 1, ..id(2, 8) }, range.clone());
        assert!(waiting.has(id(1, 0)) && !waiting.has(id(2, 0)));
        let mut next = || waiting.next(|core| core == 0).map(|(to, _)| (to.connection, to.stream));
        let order: Vec<_> = std::iter::from_fn(&mut next).collect();
        assert_eq!(order, [(1, 9), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4)]);
        assert_eq!(waiting.next(|_| true).map(|(to, _)| to.core), Some(1));
        assert!(waiting.is_empty());
        assert_eq!((waiting.count, waiting.size), (0, 0));
    }

    /// They were bounded by nothing: the shard counts a read until it hands it over.
    #[test]
    fn what_waits_is_bounded_and_ends_with_its_connection() {
        let id = |stream| RequestId { core: 0, connection: 1, generation: 1, stream };
        let mut waiting = Waiting::default();
        let large = Range::one(&[0; 1 << 20], true);
        let mut count = 0;
        while !waiting.is_full() {
            waiting.push(id(count), large.clone());
            count += 1;
        }
        assert!(count <= 256, "{count} MiB");
        waiting.forget(0, 2);
        assert!(waiting.is_full());
        waiting.forget(0, 1);
        assert!(waiting.is_empty() && !waiting.is_full());
        assert_eq!((waiting.count, waiting.size), (0, 0));
    }
}

//! Where a change comes from, and which changes are applied already.
//!
//! A member that does not lead hands its clients' changes to the leader, and answers them when it
//! applies the entry: the entry says whose it is. What is handed over may be lost with its fate
//! unknown, and is handed over again; so an entry may come twice, and counts once.
//!
//! What is applied is part of the state, the same on every replica. Of each member only its latest
//! process matters, as nobody waits for an answer to an earlier one. A process numbers its requests
//! from 1, and they come nearly in order: what is applied are a few stretches of numbers. They are
//! `SPANS_MAX` at most; then the lowest gap is closed, and what was to fill it never takes place
//! under its number. Who waits for it learns that from the same entry, and gives it another.

use crate::types::NodeId;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Bytes of an origin.
pub(crate) const ORIGIN_SIZE: usize = 20;
/// Stretches of numbers that are told apart for one member.
const SPANS_MAX: usize = 256;
/// Members that are remembered at most; more than a group can have.
const LIVES_MAX: usize = 256;
/// Bytes of a member's life before its stretches, and of a stretch.
const LIFE_SIZE: usize = 16;
const SPAN_SIZE: usize = 16;
/// Bytes that all of it takes at most.
pub(super) const ORIGINS_SIZE_MAX: usize = 4 + LIVES_MAX * (LIFE_SIZE + SPANS_MAX * SPAN_SIZE);

/// Which request of which member's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The member.
    pub node: NodeId,
    /// Its process: higher than that of any process before.
    pub life: u32,
    /// The request: the process has no other of this number.
    pub number: u64,
}

impl Origin {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; ORIGIN_SIZE] {
        let mut bytes = [0; ORIGIN_SIZE];
        bytes[..8].copy_from_slice(&self.node.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.life.to_le_bytes());
        bytes[12..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// The origin whose bytes these are.
    #[must_use]
    pub fn decode(bytes: &[u8; ORIGIN_SIZE]) -> Self {
        let (node, rest) = bytes.split_first_chunk::<8>().expect("there are so many");
        let (life, number) = rest.split_first_chunk::<4>().expect("there are so many");
        let number = number.try_into().expect("eight are left");
        Self {
            node: NodeId(u64::from_le_bytes(*node)),
            life: u32::from_le_bytes(*life),
            number: u64::from_le_bytes(number),
        }
    }
}

/// The latest process of a member: which of its requests are applied.
///
/// # Shape
/// `spans` ascend, are closed at both ends, and leave gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Life {
    life: u32,
    spans: Vec<(u64, u64)>,
}

impl Life {
    fn contains(&self, number: u64) -> bool {
        let after = self.spans.partition_point(|span| span.0 <= number);
        after > 0 && number <= self.spans[after - 1].1
    }

    /// Takes in a number; says which numbers were given up for it, if any were.
    fn insert(&mut self, number: u64) -> Option<RangeInclusive<u64>> {
        let after = self.spans.partition_point(|span| span.0 <= number);
        let joins_next = self.spans.get(after).is_some_and(|span| span.0 - 1 == number);
        let before = after.checked_sub(1).map(|at| &mut self.spans[at]);
        match before.filter(|span| span.1 + 1 == number) {
            Some(span) => span.1 = number,
            None if joins_next => self.spans[after].0 = number,
            None => self.spans.insert(after, (number, number)),
        }
        if joins_next && after > 0 && self.spans[after - 1].1 + 1 >= self.spans[after].0 {
            self.spans[after - 1].1 = self.spans[after].1;
            self.spans.remove(after);
        }
        if self.spans.len() <= SPANS_MAX {
            return None;
        }
        let gap = self.spans[0].1 + 1..=self.spans[1].0 - 1;
        self.spans[1].0 = self.spans[0].0;
        self.spans.remove(0);
        Some(gap)
    }
}

/// What is applied of what members have handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origins {
    lives: BTreeMap<NodeId, Life>,
}

impl Origins {
    /// Whether an entry of this origin counts: it is not applied, and no process came after its.
    pub(super) fn is_new(&self, origin: Origin) -> bool {
        self.lives.get(&origin.node).is_none_or(|known| {
            origin.life > known.life
                || (origin.life == known.life && !known.contains(origin.number))
        })
    }

    /// An entry of this origin, which is new, is applied; says which numbers of the same process
    /// will never be, if there are any that might have been.
    pub(super) fn note(&mut self, origin: Origin) -> Option<RangeInclusive<u64>> {
        assert!(self.is_new(origin), "what was handed over is applied once");
        let known = self.lives.entry(origin.node).or_default();
        if known.life != origin.life {
            *known = Life { life: origin.life, spans: Vec::new() };
        }
        known.insert(origin.number)
    }

    /// The members that are remembered.
    pub(super) fn members(&self) -> impl Iterator<Item = NodeId> {
        self.lives.keys().copied()
    }

    /// Forgets all but those members that are to be kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(NodeId) -> bool) {
        self.lives.retain(|node, _| is_kept(*node));
    }

    /// Appends it to `out`: how many members (u32); of each, by id, the id (u64), the process
    /// (u32), how many stretches (u32), and of each stretch both ends (u64).
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let count = |len: usize| u32::try_from(len).expect("they are few").to_le_bytes();
        out.extend_from_slice(&count(self.lives.len()));
        for (node, known) in &self.lives {
            out.extend_from_slice(&node.0.to_le_bytes());
            out.extend_from_slice(&known.life.to_le_bytes());
            out.extend_from_slice(&count(known.spans.len()));
            for (first, last) in &known.spans {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
        }
    }

    /// What [`Self::encode`] wrote at the front of `bytes`, and what follows; none if it did not.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, mut rest) = bytes.split_first_chunk::<4>()?;
        let mut lives = BTreeMap::new();
        for _ in 0..usize::try_from(u32::from_le_bytes(*count)).ok()?.min(LIVES_MAX + 1) {
            let (head, after) = rest.split_first_chunk::<LIFE_SIZE>()?;
            let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|it| head[at + it]));
            let node = u64::from_le_bytes(head[..8].try_into().expect("eight bytes"));
            let size = usize::try_from(number(12)).ok()?.checked_mul(SPAN_SIZE)?;
            let (spans, after) = after.split_at_checked(size)?;
            let spans = spans.chunks_exact(SPAN_SIZE).map(|span| {
                let end = |at: usize| span[at..at + 8].try_into().expect("eight bytes");
                (u64::from_le_bytes(end(0)), u64::from_le_bytes(end(8)))
            });
            let spans: Vec<_> = spans.collect();
            let leave_gaps = spans.windows(2).all(|pair| pair[0].1 < pair[1].0.saturating_sub(1));
            let is_sound = spans.iter().all(|span| 0 < span.0 && span.0 <= span.1)
                && spans.iter().all(|span| span.1 < u64::MAX)
                && leave_gaps
                && (1..=SPANS_MAX).contains(&spans.len());
            let follows = lives.last_key_value().is_none_or(|(last, _)| *last < NodeId(node));
            if !is_sound || !follows || lives.len() >= LIVES_MAX {
                return None;
            }
            lives.insert(NodeId(node), Life { life: number(8), spans });
            rest = after;
        }
        Some((Self { lives }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn origin(node: u64, life: u32, number: u64) -> Origin {
        Origin { node: NodeId(node), life, number }
    }

    #[test]
    fn what_is_applied_once_is_not_new_and_a_new_process_begins_anew() {
        let mut origins = Origins::default();
        for number in [1, 3, 2, 7] {
            assert!(origins.is_new(origin(5, 2, number)));
            origins.note(origin(5, 2, number));
            assert!(!origins.is_new(origin(5, 2, number)));
        }
        assert!(origins.is_new(origin(5, 2, 4)) && origins.is_new(origin(6, 1, 1)));
        assert!(!origins.is_new(origin(5, 1, 9)), "a process before");
        origins.note(origin(5, 3, 1));
        assert!(!origins.is_new(origin(5, 2, 4)));
        assert!(origins.is_new(origin(5, 3, 2)));
    }

    #[test]
    fn gaps_are_bounded_and_the_lowest_is_closed_first() {
        let mut origins = Origins::default();
        let count = u64::try_from(SPANS_MAX).unwrap();
        for nth in 1..=count {
            assert_eq!(origins.note(origin(5, 1, nth * 2)), None);
        }
        assert_eq!(origins.note(origin(5, 1, count * 2 + 2)), Some(3..=3));
        assert_eq!(origins.lives[&NodeId(5)].spans.len(), SPANS_MAX);
        assert!(!origins.is_new(origin(5, 1, 3)) && origins.is_new(origin(5, 1, 5)));
        assert!(origins.is_new(origin(5, 1, 1)), "below the first there is no gap");
    }

    proptest! {
        #[test]
        fn it_is_as_a_set_of_numbers_and_comes_back_as_it_was(
            numbers in proptest::collection::vec(1..60_u64, 0..60),
        ) {
            let (mut origins, mut model) = (Origins::default(), BTreeSet::new());
            for number in numbers {
                let origin = origin(9, 4, number);
                prop_assert_eq!(origins.is_new(origin), !model.contains(&number));
                if model.insert(number) {
                    origins.note(origin);
                }
                for other in 0..62 {
                    let is_new = origins.is_new(Origin { number: other, ..origin });
                    prop_assert_eq!(is_new, !model.contains(&other));
                }
            }
            let mut bytes = Vec::new();
            origins.encode(&mut bytes);
            prop_assert!(bytes.len() <= ORIGINS_SIZE_MAX);
            for size in 0..bytes.len() {
                prop_assert!(Origins::decode(&bytes[..size]).is_none());
            }
            bytes.push(7);
            prop_assert_eq!(Origins::decode(&bytes), Some((origins, &[7][..])));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Origins::decode(&bytes);
        }
    }
}

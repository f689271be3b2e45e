//! The answers of one connection that come by slices: when to ask for the next, and of which.
//!
//! A slice is asked for when it can leave: when the client's windows and the connection's output
//! take it. Of several answers each is asked for in turn, and each for one slice at a time.

use crate::types::Tick;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Bytes of the smallest slice asked for, whatever the room: a client that opens its window by
/// little costs a slice for each 16 KiB and not for each byte.
const PULL_SIZE_MIN: usize = 16 << 10;
/// Bytes of the largest slice asked for. 256 KiB: a hundred microseconds of another core's time.
const PULL_SIZE_MAX: usize = 256 << 10;
/// Bytes of answers that wait on their streams, for all of which a slice was too large, beyond
/// which none is asked for: a slice has a whole row at least, and rows may be as large as requests.
const QUEUED_MAX: usize = 32 << 20;
/// Milliseconds after which an answer that its client does not read is ended: what it would show
/// is kept from being forgotten. Five minutes: five times what a connection gets that takes nothing
/// at all.
pub(crate) const STALL_MS: u64 = 300_000;
/// Answers looked at for one slice before those that come next have to wait for the next turn.
const LOOKED_AT_MAX: usize = 256;

/// The answers that come by slices, by stream.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    open: BTreeMap<u32, Pull>,
    /// Bytes asked for that have not come.
    asked: usize,
    /// Whose turn it was last.
    last: u32,
}

#[derive(Debug)]
struct Pull {
    /// Bytes asked for; 0 is none.
    asked: usize,
    /// When it last got something; none of a stream that may be read as slowly as its client
    /// likes.
    moved: Option<Tick>,
}

/// What a connection can take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Bytes that would leave at once, over all streams.
    pub(crate) total: usize,
    /// Bytes that wait on all streams.
    pub(crate) queued: usize,
}

impl Pulls {
    /// Whether no answer comes by slices.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A slice of an answer has come, or its beginning.
    pub(crate) fn came(&mut self, stream: u32, now: Tick) {
        let pull = self.open.entry(stream).or_insert(Pull { asked: 0, moved: None });
        self.asked -= std::mem::take(&mut pull.asked);
        pull.moved = Some(now);
    }

    /// There is more for a stream that holds nothing up, however slowly it is read.
    pub(crate) fn wants(&mut self, stream: u32) {
        let pull = self.open.entry(stream).or_insert(Pull { asked: 0, moved: None });
        self.asked -= std::mem::take(&mut pull.asked);
    }

    /// An answer is over; whether it came by slices.
    pub(crate) fn remove(&mut self, stream: u32) -> bool {
        let pull = self.open.remove(&stream);
        self.asked -= pull.as_ref().map_or(0, |pull| pull.asked);
        pull.is_some()
    }

    /// The next answer to ask a slice of, and of how many bytes; `room_of` tells the room of one
    /// stream.
    pub(crate) fn next(
        &mut self,
        room: Room,
        room_of: impl Fn(u32) -> usize,
    ) -> Option<(u32, usize)> {
        let total = room.total.checked_sub(self.asked).filter(|total| *total > 0)?;
        if room.queued >= QUEUED_MAX {
            return None;
        }
        let after = (Bound::Excluded(self.last), Bound::Unbounded);
        let in_turn = self.open.range(after).chain(self.open.range(..=self.last));
        let mut looked_at = self.last;
        let mut found = None;
        for (stream, pull) in in_turn.take(LOOKED_AT_MAX) {
            looked_at = *stream;
            let size = if pull.asked == 0 { room_of(*stream).min(total) } else { 0 };
            if size > 0 {
                found = Some((*stream, size.clamp(PULL_SIZE_MIN, PULL_SIZE_MAX)));
                break;
            }
        }
        self.last = looked_at;
        let (stream, size) = found?;
        self.open.get_mut(&stream).expect("it was just found").asked = size;
        self.asked += size;
        Some((stream, size))
    }

    /// The answers that their client has not read for too long.
    pub(crate) fn stalled(&self, now: Tick) -> Vec<u32> {
        let is_old = |moved| now.since(moved) >= STALL_MS;
        let is_late = |pull: &Pull| pull.asked == 0 && pull.moved.is_some_and(is_old);
        self.open.iter().filter(|(_, pull)| is_late(pull)).map(|(stream, _)| *stream).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Room = Room { total: 1 << 20, queued: 0 };

    #[test]
    fn each_answer_has_one_slice_asked_for_at_a_time_in_turn() {
        let mut pulls = Pulls::default();
        for stream in [1, 3, 5] {
            pulls.came(stream, Tick(0));
        }
        let room_of = |stream| if stream == 3 { 0 } else { 1 << 30 };
        assert_eq!(pulls.next(OPEN, room_of), Some((1, PULL_SIZE_MAX)));
        assert_eq!(pulls.next(OPEN, room_of), Some((5, PULL_SIZE_MAX)));
        assert_eq!(pulls.next(OPEN, room_of), None, "one has no room, two were asked for");
        pulls.came(1, Tick(1));
        pulls.came(5, Tick(1));
        assert_eq!(pulls.next(OPEN, |_| 1), Some((1, PULL_SIZE_MIN)));
        assert_eq!(pulls.next(OPEN, |_| 1), Some((3, PULL_SIZE_MIN)));
        assert!(pulls.remove(1) && !pulls.remove(1));
        assert!(pulls.remove(3) && pulls.remove(5));
        assert!(pulls.is_empty() && pulls.asked == 0);
    }

    #[test]
    fn no_more_is_asked_for_than_the_connection_takes() {
        let mut pulls = Pulls::default();
        for stream in 0..100 {
            pulls.came(stream, Tick(0));
        }
        let room = Room { total: 600 << 10, queued: 0 };
        let asked: Vec<_> = std::iter::from_fn(|| pulls.next(room, |_| 1 << 30)).collect();
        assert_eq!(asked, [(1, 256 << 10), (2, 256 << 10), (3, 88 << 10)]);
        pulls.came(2, Tick(0));
        assert_eq!(pulls.next(Room { total: 0, queued: 0 }, |_| 1), None);
        assert_eq!(pulls.next(Room { queued: QUEUED_MAX, ..room }, |_| 1 << 30), None);
        assert_eq!(pulls.next(room, |_| 1 << 30), Some((4, 256 << 10)));
    }

    #[test]
    fn streams_without_room_are_passed_over_a_bounded_number_at_a_time() {
        let mut pulls = Pulls::default();
        for stream in 0..1000 {
            pulls.came(stream, Tick(0));
        }
        let only_last = |stream| if stream == 999 { 1 } else { 0 };
        let asked: Vec<_> = (0..4).map(|_| pulls.next(OPEN, only_last)).collect();
        assert_eq!(asked, [None, None, None, Some((999, PULL_SIZE_MIN))]);
    }

    #[test]
    fn an_answer_that_nobody_reads_is_found() {
        let mut pulls = Pulls::default();
        pulls.came(1, Tick(0));
        pulls.came(3, Tick(0));
        assert!(pulls.next(OPEN, |stream| usize::from(stream == 3)).is_some());
        assert!(pulls.stalled(Tick(STALL_MS - 1)).is_empty());
        assert_eq!(pulls.stalled(Tick(STALL_MS)), [1], "the other waits for its rows");
    }
}

//! From changes to the streams that see them.

use crate::api::answer;
use crate::api::watch::Hub;
use crate::api::watch::State;
use crate::api::watch::Streams;
use crate::api::watch::Watcher;
use crate::api::watch::encode::Encoded;
use crate::api::watch::encode::Head;
use crate::api::watch::encode::message_len;
use crate::api::watch::encode::put_message;
use crate::api::watch::index;
use crate::shard::watch::Batch;
use crate::shard::watch::Event;
use crate::shard::watch::Prev;
use crate::types::Revision;
use std::ops::Range;

/// Bytes made for one stream before they are handed over, and it is looked at whether it takes
/// more. 256 KiB: what one send takes.
const PUSH_SIZE: usize = 256 << 10;
/// Bytes of a buffer that are kept for the next batch.
const KEPT_MAX: usize = 1 << 20;
/// Matches that are looked for before those found are given out, at the end of a revision: what is
/// kept of their buffer. A batch may have a thousand changes that ten thousand watchers see.
pub(super) const MATCHES_MAX: usize = KEPT_MAX / size_of::<Match>();

/// A watcher that sees an event: its stream's slot, its own, and which event.
type Match = (u32, u32, u32);

/// Buffers that live from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    matches: Vec<Match>,
    making: Making,
}

/// Messages being made.
#[derive(Debug, Default)]
struct Making {
    encoded: Encoded,
    head: Head,
    places: Vec<Range<usize>>,
    out: Vec<u8>,
}

/// A message that is larger than any may be: its bytes.
struct TooLarge(u64);

impl Hub {
    /// Every live watcher that sees a change of the batch is given it, or falls behind.
    pub(super) fn publish(&mut self, batch: &Batch, streams: &mut impl Streams) {
        self.seen = batch.header;
        if self.slots.is_empty() {
            return;
        }
        let Scratch { mut matches, mut making } = std::mem::take(&mut self.deliver);
        making.encoded.begin(batch.events.len());
        let mut next = 0;
        while next < batch.events.len() {
            next = self.find(&batch.events, next, &mut matches);
            for group in matches.chunk_by(|one, other| one.0 == other.0) {
                self.give(group, &batch.events, &mut making, streams);
            }
            matches.clear();
        }
        matches.shrink_to(MATCHES_MAX);
        making.out.shrink_to(KEPT_MAX);
        self.deliver = Scratch { matches, making };
    }

    /// Who sees what from one event on, by stream and watcher, each one's in order; and the event
    /// to go on with, the first of a revision.
    fn find(&self, events: &[Event], first: usize, matches: &mut Vec<Match>) -> usize {
        let mut next = first;
        while let Some(event) = events.get(next) {
            let is_full = matches.len() >= MATCHES_MAX;
            if is_full && event.change.location.main > events[next - 1].change.location.main {
                break;
            }
            let at = u32::try_from(next).expect("a batch is in memory");
            self.watchers.seeing(&event.change.key, |slot| {
                let watcher = &self.slots[index(slot)];
                if watcher.wants(event) {
                    matches.push((watcher.stream, slot, at));
                }
            });
            next += 1;
        }
        matches.sort_unstable();
        next
    }

    /// Gives one stream's watchers what they see.
    fn give(
        &mut self,
        group: &[Match],
        events: &[Event],
        making: &mut Making,
        streams: &mut impl Streams,
    ) {
        let slot = index(group[0].0);
        let to = self.streams[slot].at;
        let was_behind = !self.streams[slot].behind.is_empty() || self.streams[slot].reads > 0;
        making.out.clear();
        for own in group.chunk_by(|one, other| one.1 == other.1) {
            if making.out.len() >= PUSH_SIZE {
                self.hand_over(slot, making, streams);
            }
            let first = events[index(own[0].2)].change.location.main;
            if self.is_full(slot, streams) {
                self.fall_behind(own[0].1, first);
            } else if let Err(TooLarge(size)) = self.give_one(own, events, making) {
                return self.end(slot, size, streams);
            }
        }
        self.hand_over(slot, making, streams);
        if !was_behind && !self.streams[slot].behind.is_empty() {
            streams.want_room(to, true);
        }
    }

    /// Hands over what was made for a stream.
    fn hand_over(&mut self, slot: usize, making: &mut Making, streams: &mut impl Streams) {
        if !making.out.is_empty() {
            self.push(slot, &making.out, streams);
            making.out.clear();
        }
    }

    /// Makes what one live watcher is given of a batch: all of it, or up to a revision with a
    /// change whose pair before is not in memory.
    fn give_one(
        &mut self,
        own: &[Match],
        events: &[Event],
        making: &mut Making,
    ) -> Result<(), TooLarge> {
        let slot = own[0].1;
        let watcher = &mut self.slots[index(slot)];
        let seen = || own.iter().map(|it| (index(it.2), &events[index(it.2)]));
        let is_away = |event: &Event| watcher.prev_kv && event.prev == Prev::Away;
        let cut = seen().find(|(_, event)| is_away(event)).map(|it| it.1.change.location.main);
        let kept = seen().filter(|it| cut.is_none_or(|cut| it.1.change.location.main < cut));
        making.places.clear();
        let mut last = None;
        for (at, event) in kept {
            making.places.push(making.encoded.place(event, at, watcher.prev_kv));
            last = Some(event.change.location.main);
        }
        if let Some(revision) = last {
            watcher.is_quiet = false;
            let head = making.head.at(self.seen, revision);
            let limit = self.manner.fragment_size;
            put_all(watcher, &making.encoded, &making.places, (head, limit), &mut making.out)?;
        }
        if let Some(cut) = cut {
            self.fall_behind(slot, cut);
        }
        Ok(())
    }

    /// From this revision on a watcher reads the past.
    fn fall_behind(&mut self, slot: u32, from: Revision) {
        let watcher = &mut self.slots[index(slot)];
        watcher.state = State::Behind;
        watcher.next = from;
        // What it asked for has come.
        watcher.is_early = false;
        self.streams[index(watcher.stream)].behind.push_back(slot);
    }

    /// Gives a watcher a slice of the past.
    pub(super) fn give_past(&mut self, slot: u32, events: &[Event], streams: &mut impl Streams) {
        if events.is_empty() {
            return;
        }
        let Scratch { matches, mut making } = std::mem::take(&mut self.deliver);
        making.encoded.begin(events.len());
        making.places.clear();
        making.out.clear();
        let watcher = &mut self.slots[index(slot)];
        watcher.is_quiet = false;
        let at = index(watcher.stream);
        for (at, event) in events.iter().enumerate() {
            making.places.push(making.encoded.place(event, at, watcher.prev_kv));
        }
        let head = making.head.at(self.seen, self.seen.revision);
        let limit = self.manner.fragment_size;
        let made =
            put_all(watcher, &making.encoded, &making.places, (head, limit), &mut making.out);
        match made {
            Ok(()) => self.hand_over(at, &mut making, streams),
            Err(TooLarge(size)) => self.end(at, size, streams),
        }
        making.out.shrink_to(KEPT_MAX);
        self.deliver = Scratch { matches, making };
    }

    /// Ends a stream that would get a message larger than any may be.
    fn end(&mut self, slot: usize, size: u64, streams: &mut impl Streams) {
        let stream = &mut self.streams[slot];
        streams.end(stream.at, &answer::too_large(size));
        stream.backlog = usize::MAX;
        self.lost.push(stream.at);
    }
}

impl Watcher {
    /// Whether it is to be given an event now.
    fn wants(&self, event: &Event) -> bool {
        let change = &event.change;
        let is_kind = if change.version == 0 { self.deletes } else { self.puts };
        self.state == State::Live && is_kind && change.location.main >= self.next
    }
}

/// Appends the message with these events, or several if it would be too large for a watcher that
/// takes fragments.
fn put_all(
    watcher: &Watcher,
    encoded: &Encoded,
    places: &[Range<usize>],
    (head, limit): (&[u8], usize),
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let id = watcher.id;
    let size = places.iter().map(ExactSizeIterator::len).sum();
    if !watcher.fragment || places.len() < 2 || message_len(head, id, false, size) < limit {
        return put_one(encoded, places, (head, id, false), out);
    }
    let mut rest = places;
    while !rest.is_empty() {
        let (mut count, mut size) = (1, rest[0].len());
        while let Some(next) = rest.get(count)
            && message_len(head, id, true, size + next.len()) < limit
        {
            size += next.len();
            count += 1;
        }
        let (part, after) = rest.split_at(count);
        rest = after;
        put_one(encoded, part, (head, id, !rest.is_empty()), out)?;
    }
    Ok(())
}

fn put_one(
    encoded: &Encoded,
    places: &[Range<usize>],
    (head, id, fragment): (&[u8], i64, bool),
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let size = places.iter().map(ExactSizeIterator::len).sum();
    let len = message_len(head, id, fragment, size);
    let len = u64::try_from(len).expect("usize is 64 bits");
    if len > answer::MESSAGE_SIZE_MAX {
        return Err(TooLarge(len));
    }
    let events = places.iter().map(|place| encoded.bytes(place));
    put_message(out, head, (id, fragment), size, events);
    Ok(())
}

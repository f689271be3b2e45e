//! The streams that are open, and a short memory of those that were.

use std::collections::{BTreeMap, VecDeque};

use super::flow::ReceiveWindow;

/// A stream from its HEADERS until our END_STREAM is in the output or either side reset it.
///
/// Our half never outlives the client's: a reply that is complete before its request ends the
/// stream with RST_STREAM (RFC 9113 §8.1). So "half-closed (local)" needs no state.
#[derive(Debug)]
pub(super) struct Stream<C> {
    /// 0 while the slot is free.
    pub(super) id: u32,
    /// The client's END_STREAM came.
    pub(super) is_request_over: bool,
    /// Our HEADERS are in the output.
    pub(super) is_head_sent: bool,
    /// The stream waits its turn in the list of those that may send.
    pub(super) is_ready: bool,
    /// What the client may send.
    pub(super) window: ReceiveWindow,
    /// Bytes given to the owner that it has not told as used.
    pub(super) held: u32,
    /// What we may send; negative after the client shrank its windows.
    pub(super) send_window: i64,
    /// Bytes of body that the request's content-length still promises.
    pub(super) body_left: Option<u64>,
    /// The owner's state, until its reply is whole.
    pub(super) call: Option<C>,
    /// What of the reply waits.
    pub(super) queue: Option<Box<Queue>>,
}

/// The part of a reply that waits for windows or for room in the output.
#[derive(Debug, Default)]
pub(super) struct Queue {
    data: Vec<u8>,
    start: usize,
    /// What ends the stream after the data.
    pub(super) end: End,
}

/// How a queued reply ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Not yet known.
    #[default]
    Open,
    /// With the last byte of data.
    Data,
    /// With these trailers.
    Trailers(Vec<u8>),
}

impl Queue {
    /// Bytes that wait, trailers included.
    pub(super) fn size(&self) -> usize {
        let trailers = match &self.end {
            End::Trailers(block) => block.len(),
            End::Open | End::Data => 0,
        };
        self.data().len() + trailers
    }

    /// The data that waits.
    pub(super) fn data(&self) -> &[u8] {
        &self.data[self.start..]
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        if self.start > self.data.len() / 2 {
            self.data.drain(..self.start);
            self.start = 0;
        }
        self.data.extend_from_slice(data);
    }

    /// Drops `n` bytes that were sent.
    pub(super) fn advance(&mut self, n: usize) {
        self.start += n;
        assert!(self.start <= self.data.len(), "only what waits is sent");
    }
}

/// The open streams, found by id.
///
/// Slots are reused. An id is looked up in a direct-mapped table of its low bits, which clients
/// that count upwards fill without collision; a stream that outlives its cell's next owner moves
/// to an ordered map. So the common case is one load, and no choice of ids makes it worse than
/// logarithmic.
#[derive(Debug)]
pub(super) struct Streams<C> {
    slots: Vec<Stream<C>>,
    free: Vec<usize>,
    /// By the id's low bits without the lowest: a slot plus one, or 0. A power of two, at least
    /// twice `open`.
    cells: Vec<usize>,
    displaced: BTreeMap<u32, usize>,
    open: usize,
}

const CELLS_MIN: usize = 64;

impl<C> Streams<C> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            cells: vec![0; CELLS_MIN],
            displaced: BTreeMap::new(),
            open: 0,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// The slot of an open stream.
    pub(super) fn find(&self, id: u32) -> Option<usize> {
        let cell = self.cells[self.cell(id)];
        if cell != 0 && self.slots[cell - 1].id == id {
            return Some(cell - 1);
        }
        if self.displaced.is_empty() { None } else { self.displaced.get(&id).copied() }
    }

    pub(super) fn get(&self, slot: usize) -> &Stream<C> {
        &self.slots[slot]
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> &mut Stream<C> {
        &mut self.slots[slot]
    }

    /// Adds a stream.
    pub(super) fn insert(&mut self, stream: Stream<C>) {
        assert!(stream.id % 2 == 1, "a client's ids are odd");
        self.open += 1;
        if 2 * self.open > self.cells.len() {
            self.grow();
        }
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot] = stream;
                slot
            }
            None => {
                self.slots.push(stream);
                self.slots.len() - 1
            }
        };
        self.enter(id, slot);
    }

    /// Takes a stream out; gives back its call and what it still held.
    pub(super) fn remove(&mut self, slot: usize) -> (Option<C>, Option<Box<Queue>>) {
        let id = self.slots[slot].id;
        let cell = self.cell(id);
        if self.cells[cell] == slot + 1 {
            self.cells[cell] = 0;
        } else {
            self.displaced.remove(&id).expect("an open stream has a cell or was displaced");
        }
        self.open -= 1;
        self.free.push(slot);
        let stream = &mut self.slots[slot];
        stream.id = 0;
        (stream.call.take(), stream.queue.take())
    }

    /// The slots of all open streams.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter(|(_, stream)| stream.id != 0).map(|(slot, _)| slot)
    }

    /// How many slots there are, open or free.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Gives back the slots that are free: those of open streams change.
    pub(super) fn shed(&mut self) {
        let slots = std::mem::take(&mut self.slots);
        *self = Self::new();
        slots.into_iter().filter(|stream| stream.id != 0).for_each(|stream| self.insert(stream));
    }

    fn cell(&self, id: u32) -> usize {
        usize::try_from(id / 2).expect("usize has 64 bits") & (self.cells.len() - 1)
    }

    /// Enters an id in its cell; of two ids there, the larger stays.
    fn enter(&mut self, id: u32, slot: usize) {
        let cell = self.cell(id);
        match self.cells[cell].checked_sub(1) {
            Some(other) if self.slots[other].id > id => {
                self.displaced.insert(id, slot);
            }
            Some(other) => {
                self.displaced.insert(self.slots[other].id, other);
                self.cells[cell] = slot + 1;
            }
            None => self.cells[cell] = slot + 1,
        }
    }

    fn grow(&mut self) {
        self.cells = vec![0; 2 * self.cells.len()];
        self.displaced.clear();
        let open: Vec<usize> = self.open_slots().collect();
        for slot in open {
            self.enter(self.slots[slot].id, slot);
        }
    }
}

/// The streams that ended lately, so that what was under way when they did is understood.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Streams that we reset, oldest first: frames of theirs may still come and mean nothing.
    reset: VecDeque<u32>,
    /// The largest id that is no longer among them. Any up to it counts as reset: many calls that
    /// are refused at once may have their bodies under way.
    reset_before: u32,
    /// Streams that ended otherwise: further frames are the client's error.
    closed: [u32; CLOSED_COUNT],
    next: usize,
}

/// Streams we reset that are remembered one by one.
const RESET_COUNT_MAX: usize = 256;
/// Streams otherwise closed that are remembered; it only chooses between two error codes.
const CLOSED_COUNT: usize = 16;

impl Past {
    pub(super) fn note_reset(&mut self, id: u32) {
        if self.reset.len() == RESET_COUNT_MAX
            && let Some(oldest) = self.reset.pop_front()
        {
            self.reset_before = self.reset_before.max(oldest);
        }
        self.reset.push_back(id);
    }

    pub(super) fn note_closed(&mut self, id: u32) {
        self.closed[self.next] = id;
        self.next = (self.next + 1) % CLOSED_COUNT;
    }

    /// Whether we reset it, or it is so old that we may have.
    pub(super) fn was_reset(&self, id: u32) -> bool {
        id <= self.reset_before || self.reset.contains(&id)
    }

    pub(super) fn was_closed(&self, id: u32) -> bool {
        self.closed.contains(&id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream(id: u32) -> Stream<u32> {
        Stream {
            id,
            is_request_over: false,
            is_head_sent: false,
            is_ready: false,
            window: ReceiveWindow::new(65_535),
            held: 0,
            send_window: 0,
            body_left: None,
            call: Some(id),
            queue: None,
        }
    }

    proptest! {
        /// The table against an ordered map, with ids that jump and streams that stay.
        #[test]
        fn the_table_is_a_map(steps in prop::collection::vec((0_u32..200, any::<bool>()), 1..600)) {
            let mut streams = Streams::new();
            let mut model = BTreeMap::new();
            let mut last = 1;
            for (step, is_insert) in steps {
                if is_insert {
                    last += 2 * (1 + step * u32::from(step % 7 == 0));
                    streams.insert(stream(last));
                    model.insert(last, last);
                } else if let Some(id) = model.keys().copied().nth(
                    usize::try_from(step).expect("small") % model.len().max(1)
                ) {
                    let slot = streams.find(id).expect("open");
                    prop_assert_eq!(streams.remove(slot).0, model.remove(&id));
                    prop_assert_eq!(streams.find(id), None);
                }
                if step % 11 == 0 {
                    streams.shed();
                    prop_assert_eq!(streams.slot_count(), model.len());
                }
                prop_assert_eq!(streams.open(), model.len());
                for (id, call) in &model {
                    let slot = streams.find(*id).expect("open");
                    prop_assert_eq!(streams.get(slot).call.as_ref(), Some(call));
                }
                prop_assert_eq!(streams.find(last + 2), None);
            }
        }
    }
}

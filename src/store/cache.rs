//! Blocks kept in memory, as many as fit.
//!
//! What is fetched once is mostly not wanted again: a list of everything passes through every
//! block. So a new block enters a small queue, and only if it is touched again before it has passed
//! that does it move to the main one, which turns around what was touched since its last turn. A
//! block that left the small queue untouched leaves a stamp behind: if it is wanted again soon, it
//! was judged too early and goes to the main queue at once.
//!
//! A block that is made of what was just written was wanted by nobody yet. It has a queue of its
//! own, of a small part of the cache whatever else is free, and enters the small queue only if it
//! was touched in there: writing alone does not fill the cache.
//!
//! Nothing here looks anything up. Whoever owns a block keeps one [`Word`] for it, which says the
//! slot that it lies in, and is told when the block leaves. Touching costs a load and, at times, a
//! store; two touches in a row count as one, so that reading the records of a block one after the
//! other does not make it look wanted.
//!
//! # Source
//! Yang, Zhang, Qiu, Yue, Rashmi: *FIFO queues are all you need for cache eviction* (2023),
//! S3-FIFO. The stamps stand in for its third queue.

use std::cell::Cell;

use bytes::Bytes;

/// One block of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockId {
    /// The segment's number, never used twice.
    pub(super) segment: u64,
    /// Where the segment stands in memory.
    pub(super) place: u32,
    /// Its index among the segment's blocks.
    pub(super) block: u32,
}

/// Memory that a block takes in the cache besides its bytes, in bytes.
const SLOT_SIZE: usize = size_of::<Slot>() + 24;

/// The small queue's share of the cache is one part in this many.
const SMALL_SHARE: usize = 10;

/// The share of blocks that were made and not yet wanted is one part in this many: of the default,
/// what two seals bring.
const MADE_SHARE: usize = 8;

/// Touches that are counted at most.
const TOUCHES_MAX: u8 = 3;

/// No slot.
const NIL: u32 = u32::MAX;

/// What the owner of a block knows of it.
///
/// # Shape
/// Two bits of tag above thirty of number. All ones, as in [`NO_SLOT`], is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(u32);

/// What a [`Word`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not here.
    Away,
    /// In this slot.
    Here(u32),
    /// Not here; it left when the cache counted so many departures.
    Left(u32),
    /// Not here, and asked for; whether it had left a short time ago.
    Coming { again: bool },
}

const NUMBER_BITS: u32 = 30;
const NUMBER_MASK: u32 = (1 << NUMBER_BITS) - 1;

impl Word {
    #[inline]
    pub(super) fn state(self) -> State {
        let number = self.0 & NUMBER_MASK;
        match self.0 >> NUMBER_BITS {
            0 => State::Here(number),
            1 => State::Left(number),
            2 => State::Coming { again: number != 0 },
            _ => State::Away,
        }
    }

    /// The slot, if the block is here.
    #[inline]
    pub(super) fn slot(self) -> Option<u32> {
        (self.0 <= NUMBER_MASK).then_some(self.0)
    }

    pub(super) fn new(state: State) -> Self {
        let (tag, number) = match state {
            State::Here(slot) => (0, slot),
            State::Left(stamp) => (1, stamp),
            State::Coming { again } => (2, u32::from(again)),
            State::Away => (3, NUMBER_MASK),
        };
        assert!(number <= NUMBER_MASK, "slots and stamps have thirty bits");
        Self(tag << NUMBER_BITS | number)
    }
}

impl From<u32> for Word {
    fn from(noted: u32) -> Self {
        Self(noted)
    }
}

impl From<Word> for u32 {
    fn from(word: Word) -> Self {
        word.0
    }
}

/// How a block comes into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// It was made of what was just written.
    Made,
    /// It was read, or is made of what was; whether it was here a short time ago.
    Read { again: bool },
}

/// Which queue a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Made,
    Small,
    Main,
    Free,
}

#[derive(Debug)]
struct Slot {
    bytes: Bytes,
    owner: BlockId,
    /// The next older and the next newer in the same queue; of a free slot, the next free one.
    older: u32,
    newer: u32,
    queue: Queue,
    touches: Cell<u8>,
}

/// A queue of slots.
#[derive(Debug)]
struct List {
    oldest: u32,
    newest: u32,
    /// Bytes, with [`SLOT_SIZE`] for each.
    size: usize,
    count: usize,
}

/// Blocks in memory, bounded by their bytes.
#[derive(Debug)]
pub(super) struct Cache {
    size_max: usize,
    slots: Vec<Slot>,
    free: u32,
    made: List,
    small: List,
    main: List,
    /// Blocks that have left the small queue untouched, ever, in [`NUMBER_BITS`].
    departures: u32,
    /// The slot touched last.
    touched: Cell<u32>,
}

impl Cache {
    /// An empty cache of at most `size_max` bytes.
    pub(super) fn new(size_max: usize) -> Self {
        let list = || List { oldest: NIL, newest: NIL, size: 0, count: 0 };
        Self {
            size_max,
            slots: Vec::new(),
            free: NIL,
            made: list(),
            small: list(),
            main: list(),
            departures: 0,
            touched: Cell::new(NIL),
        }
    }

    /// The bytes in a slot, which counts as touched.
    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Bytes {
        let found = &self.slots[index(slot)];
        if self.touched.replace(slot) != slot {
            let touches = found.touches.get();
            if touches < TOUCHES_MAX {
                found.touches.set(touches + 1);
            }
        }
        &found.bytes
    }

    /// The bytes in a slot, which does not count.
    pub(super) fn peek(&self, slot: u32) -> &Bytes {
        &self.slots[index(slot)].bytes
    }

    /// Bytes that it holds, with what it takes to hold them.
    pub(super) fn size(&self) -> usize {
        self.made.size + self.small.size + self.main.size
    }

    /// Whether a block that left at `stamp` left a short time ago: not longer than it takes as many
    /// as the main queue has to leave.
    pub(super) fn is_recent(&self, stamp: u32) -> bool {
        let since = self.departures.wrapping_sub(stamp) & NUMBER_MASK;
        usize::try_from(since).expect("64 bits") <= self.main.count.max(self.small.count)
    }

    /// Takes a block in, in the main queue if it was here a short time ago, and says its slot. It
    /// is here until the next comes, even if it is larger than the cache: who waited for it goes
    /// on. `left` hears of each block that leaves for it, and what becomes of its word.
    pub(super) fn insert(
        &mut self,
        owner: BlockId,
        bytes: Bytes,
        entrance: Entrance,
        left: &mut impl FnMut(BlockId, Word),
    ) -> u32 {
        let size = bytes.len() + SLOT_SIZE;
        let queue = match entrance {
            Entrance::Made => Queue::Made,
            Entrance::Read { again: true } => Queue::Main,
            Entrance::Read { again: false } => Queue::Small,
        };
        while queue == Queue::Made
            && self.made.count > 0
            && self.made.size + size > self.size_max / MADE_SHARE
        {
            self.pass_made(left);
        }
        while self.size() > 0 && self.size() + size > self.size_max {
            self.evict(left);
        }
        let slot = Slot { bytes, owner, older: NIL, newer: NIL, queue, touches: Cell::new(0) };
        let place = if self.free == NIL {
            let place = u32::try_from(self.slots.len()).expect("fewer than 2^30 blocks");
            assert!(place < NUMBER_MASK, "fewer than 2^30 blocks");
            self.slots.push(slot);
            place
        } else {
            let place = self.free;
            self.free = self.slots[index(place)].older;
            self.slots[index(place)] = slot;
            place
        };
        self.link(place, queue);
        place
    }

    /// Lets the block in this slot go. The owner knows.
    pub(super) fn remove(&mut self, slot: u32) {
        self.unlink(slot);
        let found = &mut self.slots[index(slot)];
        found.bytes = Bytes::new();
        found.older = self.free;
        self.free = slot;
        if self.touched.get() == slot {
            self.touched.set(NIL);
        }
    }

    /// Passes the oldest block that was made on to the small queue, if it was touched, or lets it
    /// go.
    fn pass_made(&mut self, left: &mut impl FnMut(BlockId, Word)) {
        let slot = self.made.oldest;
        let found = &self.slots[index(slot)];
        if found.touches.replace(0) > 0 {
            self.unlink(slot);
            return self.link(slot, Queue::Small);
        }
        left(found.owner, Word::new(State::Away));
        self.remove(slot);
    }

    /// Makes room by at least one block.
    fn evict(&mut self, left: &mut impl FnMut(BlockId, Word)) {
        loop {
            if self.small.count == 0 && self.main.count == 0 {
                let before = self.made.count;
                self.pass_made(left);
                if self.small.count == 0 {
                    assert!(self.made.count < before, "it left");
                    return;
                }
            }
            let small = self.small.count > 0
                && (self.small.size > self.size_max / SMALL_SHARE || self.main.count == 0);
            let slot = if small { self.small.oldest } else { self.main.oldest };
            assert!(slot != NIL, "a full cache has a block");
            let found = &self.slots[index(slot)];
            let touches = found.touches.get();
            let owner = found.owner;
            if small && touches > 1 {
                found.touches.set(0);
                self.unlink(slot);
                self.link(slot, Queue::Main);
            } else if !small && touches > 0 {
                found.touches.set(touches - 1);
                self.unlink(slot);
                self.link(slot, Queue::Main);
            } else {
                let word = if small {
                    self.departures = self.departures.wrapping_add(1) & NUMBER_MASK;
                    State::Left(self.departures)
                } else {
                    State::Away
                };
                left(owner, Word::new(word));
                return self.remove(slot);
            }
        }
    }

    fn list(&mut self, queue: Queue) -> &mut List {
        match queue {
            Queue::Made => &mut self.made,
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
            Queue::Free => unreachable!("a free slot is in no queue"),
        }
    }

    fn link(&mut self, slot: u32, queue: Queue) {
        let size = self.slots[index(slot)].bytes.len() + SLOT_SIZE;
        let list = self.list(queue);
        let newest = list.newest;
        list.newest = slot;
        list.size += size;
        list.count += 1;
        if newest == NIL {
            list.oldest = slot;
        } else {
            self.slots[index(newest)].newer = slot;
        }
        let found = &mut self.slots[index(slot)];
        found.queue = queue;
        found.older = newest;
        found.newer = NIL;
    }

    fn unlink(&mut self, slot: u32) {
        let found = &mut self.slots[index(slot)];
        let (older, newer) = (found.older, found.newer);
        let (queue, size) = (found.queue, found.bytes.len() + SLOT_SIZE);
        found.queue = Queue::Free;
        if older != NIL {
            self.slots[index(older)].newer = newer;
        }
        if newer != NIL {
            self.slots[index(newer)].older = older;
        }
        let list = self.list(queue);
        if older == NIL {
            list.oldest = newer;
        }
        if newer == NIL {
            list.newest = older;
        }
        list.size -= size;
        list.count -= 1;
    }

    /// Checks every invariant.
    ///
    /// # Panics
    /// If one is broken.
    #[cfg(test)]
    pub(super) fn check_all(&self) {
        let is_one = self.count() == 1;
        assert!(self.size() <= self.size_max || is_one, "the cache is bounded");
        let is_one = self.made.count <= 1;
        assert!(self.made.size <= self.size_max / MADE_SHARE || is_one, "and so are new blocks");
        let queues =
            [(&self.made, Queue::Made), (&self.small, Queue::Small), (&self.main, Queue::Main)];
        for (list, queue) in queues {
            let (mut slot, mut older, mut size, mut count) = (list.oldest, NIL, 0, 0);
            while slot != NIL {
                let found = &self.slots[index(slot)];
                assert!(found.queue == queue && found.older == older);
                size += found.bytes.len() + SLOT_SIZE;
                count += 1;
                (older, slot) = (slot, found.newer);
            }
            assert!(list.newest == older && list.size == size && list.count == count);
        }
    }
}

#[cfg(test)]
impl Cache {
    fn count(&self) -> usize {
        self.made.count + self.small.count + self.main.count
    }
}

/// A slot's place.
#[inline]
fn index(slot: u32) -> usize {
    usize::try_from(slot).expect("64 bits")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn id(block: u32) -> BlockId {
        BlockId { segment: 1, place: 0, block }
    }

    fn bytes(block: u32, size: usize) -> Bytes {
        let pattern: Vec<u8> = block.to_le_bytes().iter().copied().cycle().take(size).collect();
        Bytes::from(pattern)
    }

    /// A cache and the words of its blocks.
    struct World {
        cache: Cache,
        words: BTreeMap<BlockId, Word>,
    }

    impl World {
        fn new(size_max: usize) -> Self {
            Self { cache: Cache::new(size_max), words: BTreeMap::new() }
        }

        /// Reads a block through the cache; whether it was there.
        fn read(&mut self, block: u32, size: usize) -> bool {
            let away = Word::new(State::Away);
            let word = self.words.get(&id(block)).copied().unwrap_or(away);
            let again = match word.state() {
                State::Here(slot) => {
                    assert_eq!(*self.cache.get(slot), bytes(block, size));
                    return true;
                }
                State::Left(stamp) => self.cache.is_recent(stamp),
                State::Away | State::Coming { .. } => false,
            };
            self.insert(block, size, Entrance::Read { again });
            false
        }

        /// Writes a block that is not there.
        fn make(&mut self, block: u32, size: usize) {
            self.remove(block);
            self.insert(block, size, Entrance::Made);
        }

        fn insert(&mut self, block: u32, size: usize, entrance: Entrance) {
            let words = &mut self.words;
            let mut left = |owner, word| {
                let was: Word = words.insert(owner, word).expect("only what was here leaves");
                assert!(was.slot().is_some(), "only what was here leaves");
            };
            let slot = self.cache.insert(id(block), bytes(block, size), entrance, &mut left);
            self.words.insert(id(block), Word::new(State::Here(slot)));
        }

        fn remove(&mut self, block: u32) {
            let Some(word) = self.words.remove(&id(block)) else { return };
            if let Some(slot) = word.slot() {
                self.cache.remove(slot);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn what_is_said_to_be_here_is_here(
            steps in prop::collection::vec((0..60_u32, 0..4_u32), 1..2000),
            size_max in 0..20_000_usize,
        ) {
            let mut world = World::new(size_max);
            for (block, step) in steps {
                let size = 100 + usize::try_from(block).unwrap() * 20;
                match step {
                    0 if block % 3 == 0 => world.remove(block),
                    1 => world.make(block, size),
                    _ => {
                        world.read(block, size);
                    }
                }
                world.cache.check_all();
            }
            for (block, word) in &world.words {
                if let Some(slot) = word.slot() {
                    assert!(world.cache.peek(slot).starts_with(&block.block.to_le_bytes()));
                }
            }
            let here = world.words.values().filter(|word| word.slot().is_some()).count();
            assert_eq!(here, world.cache.count());
        }
    }

    #[test]
    fn what_is_read_often_outlasts_a_pass_over_everything() {
        let mut world = World::new(100 * (1000 + SLOT_SIZE));
        for _ in 0..4 {
            for block in 0..50 {
                world.read(block, 1000);
            }
        }
        for block in 1000..2000 {
            world.read(block, 1000);
        }
        let hits = (0..50).filter(|&block| world.read(block, 1000)).count();
        assert!(hits >= 49, "{hits} of 50 were kept");
    }

    /// Writing filled the cache, all 256 MiB of it, with what nobody might ever ask for.
    #[test]
    fn what_is_made_takes_a_small_part_until_it_is_wanted() {
        let mut world = World::new(100 * (1000 + SLOT_SIZE));
        for block in 0..50 {
            world.make(block, 1000);
        }
        let part = 100 / MADE_SHARE;
        assert_eq!(world.cache.count(), part);
        let newest = 50 - u32::try_from(part).unwrap()..50;
        assert!(newest.clone().all(|block| world.read(block, 1000)));
        for block in 100..200 {
            world.make(block, 1000);
        }
        assert!(newest.clone().all(|block| world.read(block, 1000)), "these were wanted");
        assert_eq!(world.cache.count(), 2 * part);
        for block in 200..400 {
            world.read(block, 1000);
        }
        assert_eq!(world.cache.count(), 100, "reading does fill it");
        world.cache.check_all();
    }

    #[test]
    fn what_left_and_is_wanted_again_soon_stays() {
        let mut world = World::new(100 * (1000 + SLOT_SIZE));
        for block in 0..150 {
            world.read(block, 1000);
        }
        // These had left a short time ago.
        for block in 30..50 {
            assert!(!world.read(block, 1000));
        }
        for block in 1000..1500 {
            world.read(block, 1000);
        }
        let hits = (30..50).filter(|&block| world.read(block, 1000)).count();
        assert_eq!(hits, 20);
    }

    #[test]
    fn a_cache_of_no_size_holds_what_came_last() {
        let mut world = World::new(0);
        assert!(!world.read(1, 10));
        assert!(world.read(1, 10));
        assert!(!world.read(2, 10));
        assert!(!world.read(1, 10));
        world.make(3, 10);
        assert!(world.read(3, 10) && !world.read(4, 10));
        world.cache.check_all();
    }
}

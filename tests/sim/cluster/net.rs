//! A network of byte streams: what is sent on one arrives in order, late, in pieces, or not at all.
//!
//! # The fault model
//!
//! May happen: bytes take their time, and arrive cut anywhere; nothing moves in one direction, or
//! in both, for a while; a connection stands still; one breaks, in the middle of anything, and what
//! was on its way is lost from some byte on; each side learns of that at its own time, perhaps only
//! by silence.
//!
//! May not happen: bytes of one connection lost in the middle, doubled or overtaken. What was said
//! on one may come after what was said on the next, though, if its other end is still read.

use crate::dice::Dice;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes that a sender may have on their way, as a socket's buffers hold them.
const WINDOW: usize = 256 << 10;

/// Where a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A node, by its number.
    Node(usize),
    /// A client.
    Client(usize),
}

/// Bytes on their way, and when they arrive.
struct Chunk {
    due: u64,
    bytes: Vec<u8>,
}

/// One direction.
#[derive(Default)]
struct Way {
    chunks: VecDeque<Chunk>,
    size: usize,
    /// When the last of them arrives.
    last: u64,
    /// After the last of them the other side learns that it is over.
    is_ended: bool,
    /// Nothing arrives before.
    still_until: u64,
}

/// One connection: who opened it, and who was called.
struct Conn {
    ends: [Place; 2],
    /// From each end to the other.
    ways: [Way; 2],
    /// Ends that have closed it, or know that it is over.
    gone: [bool; 2],
}

/// What arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Nothing yet: look again then.
    Later(u64),
    /// Nothing more, unless more is sent.
    Nothing,
    /// Bytes.
    Bytes(Vec<u8>),
    /// The end.
    Ended,
}

/// How long things take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) delay_max: u64,
    /// Of a hundred chunks: those that take ten times as long.
    pub(super) slow: u64,
    /// Of a hundred chunks: those that arrive in two pieces.
    pub(super) pieces: u64,
}

/// All connections.
pub(super) struct Net {
    conns: BTreeMap<u64, Conn>,
    last: u64,
    pace: Pace,
    /// Nothing moves from the first to the second.
    blocked: BTreeSet<(Place, Place)>,
}

impl Net {
    pub(super) fn new(pace: Pace) -> Self {
        Self { conns: BTreeMap::new(), last: 0, pace, blocked: BTreeSet::new() }
    }

    /// A connection that is open.
    pub(super) fn open(&mut self, from: Place, to: Place) -> u64 {
        self.last += 1;
        let ways = [Way::default(), Way::default()];
        self.conns.insert(self.last, Conn { ends: [from, to], ways, gone: [false; 2] });
        self.last
    }

    /// Both ends of a connection, if there is one.
    pub(super) fn ends(&self, conn: u64) -> Option<[Place; 2]> {
        self.conns.get(&conn).map(|it| it.ends)
    }

    /// Connections that end at a place.
    pub(super) fn of(&self, place: Place) -> Vec<u64> {
        let ends_here = |it: &(&u64, &Conn)| it.1.ends.contains(&place);
        self.conns.iter().filter(ends_here).map(|it| *it.0).collect()
    }

    /// All connections.
    pub(super) fn all(&self) -> Vec<u64> {
        self.conns.keys().copied().collect()
    }

    /// Whether nothing moves from one place to another.
    pub(super) fn is_blocked(&self, from: Place, to: Place) -> bool {
        self.blocked.contains(&(from, to))
    }

    /// From now on nothing moves from one place to another, or it does again.
    pub(super) fn block(&mut self, from: Place, to: Place, is_blocked: bool) {
        if is_blocked {
            self.blocked.insert((from, to));
        } else {
            self.blocked.remove(&(from, to));
        }
    }

    /// Everything moves again, and nothing takes longer than it should.
    pub(super) fn calm(&mut self) {
        self.pace.slow = 0;
        self.heal();
    }

    /// Everything moves again.
    pub(super) fn heal(&mut self) {
        self.blocked.clear();
        for way in self.conns.values_mut().flat_map(|conn| &mut conn.ways) {
            way.still_until = 0;
        }
    }

    /// How many bytes an end may send now.
    pub(super) fn room(&self, conn: u64, side: usize) -> usize {
        self.conns.get(&conn).map_or(0, |it| WINDOW.saturating_sub(it.ways[side].size))
    }

    /// Sends bytes from an end; when they arrive, unless something is in their way.
    pub(super) fn send(
        &mut self,
        conn: u64,
        side: usize,
        bytes: &[u8],
        now: u64,
        dice: &mut Dice,
    ) -> Vec<u64> {
        let Pace { delay_max, slow, pieces } = self.pace;
        let Some(it) = self.conns.get_mut(&conn).filter(|it| !it.ways[side].is_ended) else {
            return Vec::new();
        };
        let way = &mut it.ways[side];
        let cut = if bytes.len() > 1 && dice.chance(pieces) { dice.index(bytes.len()) } else { 0 };
        let (first, second) = bytes.split_at(cut);
        let mut dues = Vec::new();
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            let longer = if dice.chance(slow) { 10 } else { 1 };
            way.last = way.last.max(now + dice.below(delay_max * longer));
            way.size += part.len();
            way.chunks.push_back(Chunk { due: way.last, bytes: part.to_vec() });
            dues.push(way.last);
        }
        dues
    }

    /// What has arrived from `side` at the other end.
    pub(super) fn arrive(&mut self, conn: u64, side: usize, now: u64) -> Arrival {
        let Some(it) = self.conns.get_mut(&conn) else { return Arrival::Nothing };
        let is_blocked = self.blocked.contains(&(it.ends[side], it.ends[1 - side]));
        let way = &mut it.ways[side];
        if is_blocked || way.still_until > now {
            return Arrival::Later(way.still_until.max(now + 20));
        }
        match way.chunks.front() {
            Some(chunk) if chunk.due > now => Arrival::Later(chunk.due),
            Some(_) => {
                let chunk = way.chunks.pop_front().expect("it is there");
                way.size -= chunk.bytes.len();
                Arrival::Bytes(chunk.bytes)
            }
            None if way.is_ended => Arrival::Ended,
            None => Arrival::Nothing,
        }
    }

    /// An end closes: the other one learns it after all that was sent.
    pub(super) fn close(&mut self, conn: u64, side: usize) {
        if let Some(it) = self.conns.get_mut(&conn) {
            it.ways[side].is_ended = true;
            it.ways[1 - side].chunks.clear();
            it.ways[1 - side].size = 0;
            self.leave(conn, side);
        }
    }

    /// An end has nothing to do with it any more.
    pub(super) fn leave(&mut self, conn: u64, side: usize) {
        if let Some(it) = self.conns.get_mut(&conn) {
            it.gone[side] = true;
            if it.gone == [true; 2] {
                self.conns.remove(&conn);
            }
        }
    }

    /// It breaks: of what is on its way some beginning arrives, and then the end.
    pub(super) fn cut(&mut self, conn: u64, dice: &mut Dice) {
        let Some(it) = self.conns.get_mut(&conn) else { return };
        for way in &mut it.ways {
            let kept = dice.index(way.size + 1);
            let mut left = kept;
            way.chunks.retain_mut(|chunk| {
                let part = chunk.bytes.len().min(left);
                chunk.bytes.truncate(part);
                left -= part;
                part > 0
            });
            way.size = kept;
            way.is_ended = true;
        }
    }

    /// It stands still in one direction until then.
    pub(super) fn still(&mut self, conn: u64, side: usize, until: u64) {
        if let Some(it) = self.conns.get_mut(&conn) {
            it.ways[side].still_until = until;
        }
    }

    /// Whether the other end has closed, or the connection is broken.
    pub(super) fn is_over(&self, conn: u64, side: usize) -> bool {
        self.conns.get(&conn).is_none_or(|it| it.ways[side].is_ended)
    }

    /// Flips a bit of what is on its way; false if nothing is.
    pub(super) fn flip(&mut self, conn: u64, dice: &mut Dice) -> bool {
        let Some(it) = self.conns.get_mut(&conn) else { return false };
        let mut chunks = it.ways.iter_mut().flat_map(|way| &mut way.chunks);
        let Some(chunk) = chunks.next() else { return false };
        let at = dice.index(chunk.bytes.len());
        chunk.bytes[at] ^= 1 << dice.below(8);
        true
    }
}

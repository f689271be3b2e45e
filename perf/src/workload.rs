//! What to ask: keys, values, and the order of requests, all from a seed.

use crate::h2::hpack::Method;
use crate::message;

/// A small generator of pseudo-random numbers (splitmix64): the same seed, the same run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that starts at `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("the upper half has 64 bits")
    }
}

/// A mix of requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// Put one key.
    Put,
    /// Get one key; linearizable unless told otherwise.
    Get,
    /// Puts and gets, by `--reads-percent`.
    Mixed,
    /// Put a key and, when that is answered, get it; one operation is both.
    Pairs,
    /// List `--limit` keys from a random one on.
    List,
    /// Delete one key.
    Delete,
    /// A transaction of `--operations` puts.
    Txn,
    /// A transaction of `--operations` gets.
    TxnGet,
    /// Put if the key is as this client left it, else get: how Kubernetes writes.
    Update,
    /// Puts, gets, lists, transactions and deletes, as [`SOAK`] says.
    Soak,
    /// Send a put to ringd's empty handler: the cost of the front end alone.
    Empty,
}

/// The mix of a soak, in percent.
pub(crate) const SOAK: [(Kind, u64); 5] =
    [(Kind::Put, 50), (Kind::Get, 30), (Kind::List, 5), (Kind::Txn, 10), (Kind::Delete, 5)];

/// What keys of updates begin with, before a letter that follows from the seed: no other workload
/// has put them before.
const REGISTRY: &[u8] = b"/registry/";

/// One kind of request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Put one key.
    Put,
    /// Get one key.
    Get,
    /// List keys.
    List,
    /// Delete one key.
    Delete,
    /// Put several keys at once.
    Txn,
    /// Get several keys at once.
    TxnGet,
    /// Put one key if nobody else did.
    Update,
    /// Nothing, at the server.
    Empty,
}

impl Kind {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Txn => "txn",
            Self::TxnGet => "txn-get",
            Self::Update => "update",
            Self::Empty => "empty",
        }
    }

    /// The gRPC method.
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Put => Method::Put,
            Self::Get | Self::List => Method::Range,
            Self::Delete => Method::Delete,
            Self::Txn | Self::TxnGet | Self::Update => Method::Txn,
            Self::Empty => Method::Empty,
        }
    }
}

/// Which key comes after which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Any key at any time.
    Random,
    /// One after the other, over and over.
    Sequential,
    /// Each once, in no order to speak of, over and over.
    Shuffled,
}

/// How keys and values look and which comes next.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Shape {
    /// The mix.
    pub(crate) workload: Workload,
    /// Keys are drawn from `0..keys`.
    pub(crate) keys: u64,
    /// Size of every key in bytes.
    pub(crate) key_size: usize,
    /// Size of every value in bytes.
    pub(crate) value_size: usize,
    /// Which key comes after which.
    pub(crate) order: Order,
    /// Reads that the serving node may answer alone.
    pub(crate) serializable: bool,
    /// Share of reads in a mix, in percent.
    pub(crate) reads_percent: u64,
    /// Keys in one list.
    pub(crate) limit: u64,
    /// Operations in one transaction.
    pub(crate) operations: u64,
    /// Values that follow from their keys, so that a reader can tell them right.
    pub(crate) keyed: bool,
    /// Where the random numbers start.
    pub(crate) seed: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            workload: Workload::Put,
            keys: 1_000_000,
            key_size: 32,
            value_size: 256,
            order: Order::Random,
            serializable: false,
            reads_percent: 80,
            limit: 100,
            operations: 10,
            keyed: false,
            seed: 1,
        }
    }
}

/// A permutation of `0..count` from a seed, computed number by number.
#[derive(Clone, Copy, Debug)]
struct Shuffle {
    count: u64,
    /// Bits of half a number: four rounds of a Feistel network over twice as many.
    half: u32,
    seed: u64,
}

impl Shuffle {
    fn new(count: u64, seed: u64) -> Self {
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Self { count, half: bits.div_ceil(2).max(1), seed }
    }

    fn at(&self, index: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let mut value = index;
        // Values beyond the count are permuted on until they fall below it: fewer than four
        // times as many numbers exist, so that is soon.
        loop {
            let (mut left, mut right) = (value >> self.half, value & mask);
            for round in 0..4 {
                let mixed = Random::new(self.seed ^ (round << 60) ^ right).next() & mask;
                (left, right) = (right, left ^ mixed);
            }
            value = left << self.half | right;
            if value < self.count {
                return value;
            }
        }
    }
}

/// What this client knows of a key that only it updates.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// The revision of its last put; zero while there is none.
    revision: u64,
    /// Whether an update is on its way.
    busy: bool,
}

/// A source of requests for one thread.
#[derive(Debug)]
pub(crate) struct Source {
    shape: Shape,
    random: Random,
    shuffle: Shuffle,
    /// The next sequential key and its step, so that threads do not repeat each other.
    next: u64,
    step: u64,
    /// Of updates: this thread's keys, every `step`th from its own number on.
    held: Vec<Held>,
    thread: u64,
}

impl Source {
    /// The requests of thread `thread` of `threads`.
    pub(crate) fn new(shape: Shape, thread: u64, threads: u64) -> Self {
        let mut seeds = Random::new(shape.seed ^ thread.wrapping_mul(0xd134_2543_de82_ef95));
        let random = Random::new(seeds.next());
        let shuffle = Shuffle::new(shape.keys, shape.seed);
        let own = if shape.workload == Workload::Update { shape.keys / threads } else { 0 };
        let own = usize::try_from(own).expect("keys are counted in memory");
        let held = vec![Held::default(); own];
        Self { shape, random, shuffle, next: thread, step: threads, held, thread }
    }

    /// Whether a put is followed by a get of the same key.
    pub(crate) fn pairs(&self) -> bool {
        self.shape.workload == Workload::Pairs
    }

    /// The next request: its kind and key.
    pub(crate) fn draw(&mut self) -> (Kind, u64) {
        if self.shape.workload == Workload::Update {
            return (Kind::Update, self.draw_own());
        }
        let key = match self.shape.order {
            Order::Random => self.random.below(self.shape.keys),
            Order::Sequential => self.draw_next(),
            Order::Shuffled => {
                let next = self.draw_next();
                self.shuffle.at(next)
            }
        };
        let kind = match self.shape.workload {
            Workload::Put | Workload::Pairs => Kind::Put,
            Workload::Get => Kind::Get,
            Workload::List => Kind::List,
            Workload::Delete => Kind::Delete,
            Workload::Txn => Kind::Txn,
            Workload::TxnGet => Kind::TxnGet,
            Workload::Update => Kind::Update,
            Workload::Empty => Kind::Empty,
            Workload::Soak => self.draw_soak(),
            Workload::Mixed if self.random.below(100) < self.shape.reads_percent => Kind::Get,
            Workload::Mixed => Kind::Put,
        };
        (kind, key)
    }

    fn draw_next(&mut self) -> u64 {
        let key = self.next % self.shape.keys;
        self.next = self.next.wrapping_add(self.step);
        key
    }

    fn draw_soak(&mut self) -> Kind {
        let mut rest = self.random.below(100);
        for (kind, percent) in SOAK {
            match rest.checked_sub(percent) {
                None => return kind,
                Some(more) => rest = more,
            }
        }
        Kind::Put
    }

    /// A key of this thread that no update is on its way for, now marked as having one.
    ///
    /// # Panics
    /// When every key has one; a plan has more keys than requests in flight.
    fn draw_own(&mut self) -> u64 {
        let count = self.held.len();
        let start = self.random.below(count as u64);
        let start = usize::try_from(start).expect("an index");
        let free = (0..count).map(|step| (start + step) % count).find(|at| !self.held[*at].busy);
        let free = free.expect("there are more keys than requests in flight");
        self.held[free].busy = true;
        free as u64 * self.step + self.thread
    }

    fn own(&mut self, key: u64) -> &mut Held {
        let index = (key - self.thread) / self.step;
        &mut self.held[usize::try_from(index).expect("an index")]
    }

    /// Takes note that the update of `key` ended, with the revision of its put if it took place.
    pub(crate) fn on_updated(&mut self, key: u64, revision: Option<u64>) {
        let held = self.own(key);
        held.busy = false;
        held.revision = revision.unwrap_or(held.revision);
    }

    /// Writes the request's protobuf message to `out`, which is cleared first.
    pub(crate) fn write(&mut self, kind: Kind, key: u64, out: &mut Vec<u8>) {
        out.clear();
        match kind {
            Kind::Put | Kind::Empty => self.write_put(key, out),
            Kind::Get => {
                self.write_name(1, key, out);
                self.write_consistency(out);
            }
            Kind::List => {
                self.write_name(1, key, out);
                message::bytes(2, &[0], out); // RangeRequest.range_end: to the end
                message::number(3, self.shape.limit, out);
                self.write_consistency(out);
            }
            Kind::Delete => self.write_name(1, key, out),
            Kind::Txn => self.write_txn(key, out, |this, key, out| {
                message::nested(2, out, |out| this.write_put(key, out));
            }),
            Kind::TxnGet => self.write_txn(key, out, |this, key, out| {
                message::nested(1, out, |out| this.write_name(1, key, out));
            }),
            Kind::Update => self.write_update(key, out),
        }
    }

    /// Writes one operation for `key` and each key after it.
    fn write_txn(
        &mut self,
        key: u64,
        out: &mut Vec<u8>,
        operation: impl Fn(&mut Self, u64, &mut Vec<u8>),
    ) {
        for step in 0..self.shape.operations {
            let key = (key + step) % self.shape.keys;
            // TxnRequest.success
            message::nested(2, out, |out| operation(self, key, out));
        }
    }

    /// Writes: if the key's last revision is the one we know, put it, else get it.
    fn write_update(&mut self, key: u64, out: &mut Vec<u8>) {
        let revision = self.own(key).revision;
        message::nested(1, out, |out| {
            message::number(2, 2, out); // Compare.target: MOD
            self.write_name(3, key, out);
            message::number(6, revision, out); // Compare.mod_revision; result is EQUAL
        });
        message::nested(2, out, |out| message::nested(2, out, |out| self.write_put(key, out)));
        message::nested(3, out, |out| message::nested(1, out, |out| self.write_name(1, key, out)));
    }

    fn write_put(&mut self, key: u64, out: &mut Vec<u8>) {
        self.write_name(1, key, out);
        message::varint(2 << 3 | 2, out); // PutRequest.value
        message::varint(self.shape.value_size as u64, out);
        if self.shape.keyed {
            write_value(&mut keyed(self.shape.seed, key), self.shape.value_size, out);
        } else {
            write_value(&mut self.random, self.shape.value_size, out);
        }
    }

    fn write_name(&self, field: u32, key: u64, out: &mut Vec<u8>) {
        message::varint(u64::from(field) << 3 | 2, out);
        message::varint(self.shape.key_size as u64, out);
        let start = out.len();
        write_key(key, self.shape.key_size, out);
        if self.shape.workload == Workload::Update && self.shape.key_size > 2 * REGISTRY.len() {
            out[start..start + REGISTRY.len()].copy_from_slice(REGISTRY);
            let letter = u8::try_from(self.shape.seed % 26).expect("a letter");
            out[start + REGISTRY.len()] = b'a' + letter;
        }
    }

    fn write_consistency(&self, out: &mut Vec<u8>) {
        if self.shape.serializable {
            message::number(7, 1, out); // RangeRequest.serializable
        }
    }
}

/// The random numbers that a keyed value consists of.
fn keyed(seed: u64, key: u64) -> Random {
    Random::new(seed ^ key.wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// The value of `key` where values are keyed.
pub(crate) fn keyed_value(shape: &Shape, key: u64) -> Vec<u8> {
    let mut value = Vec::with_capacity(shape.value_size);
    write_value(&mut keyed(shape.seed, key), shape.value_size, &mut value);
    value
}

fn write_value(random: &mut Random, size: usize, out: &mut Vec<u8>) {
    let mut rest = size;
    while rest > 0 {
        let bytes = random.next().to_le_bytes();
        let size = rest.min(8);
        out.extend_from_slice(&bytes[..size]);
        rest -= size;
    }
}

/// Writes key number `key`: its decimal digits, filled up with zeros on the left to `size` bytes.
///
/// The highest digits are lost when the size is too small for them.
pub(crate) fn write_key(key: u64, size: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + size, b'0');
    let mut rest = key;
    for digit in out[start..].iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Fields, Value};

    fn shape(workload: Workload) -> Shape {
        Shape {
            workload,
            keys: 1000,
            key_size: 8,
            value_size: 10,
            serializable: true,
            reads_percent: 50,
            limit: 300,
            ..Shape::default()
        }
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        for workload in [Workload::Mixed, Workload::Soak, Workload::Update] {
            let run = || {
                let mut source = Source::new(shape(workload), 0, 1);
                let mut out = Vec::new();
                let mut all = Vec::new();
                for _ in 0..100 {
                    let (kind, key) = source.draw();
                    source.write(kind, key, &mut out);
                    all.extend_from_slice(&out);
                }
                all
            };
            assert_eq!(run(), run());
        }
    }

    #[test]
    fn threads_in_order_share_the_key_space() {
        for order in [Order::Sequential, Order::Shuffled] {
            let draw = |thread| {
                let shape = Shape { order, ..shape(Workload::Put) };
                let mut source = Source::new(shape, thread, 2);
                (0..500).map(|_| source.draw().1).collect::<Vec<_>>()
            };
            let mut keys = [draw(0), draw(1)].concat();
            assert!(!keys.is_sorted(), "{order:?}");
            keys.sort_unstable();
            assert_eq!(keys, (0..1000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_shuffle_has_each_number_once() {
        for count in [1, 2, 3, 64, 65, 999] {
            let shuffle = Shuffle::new(count, 5);
            let mut all: Vec<_> = (0..count).map(|index| shuffle.at(index)).collect();
            let steps = all.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
            assert!(count < 64 || steps < 8, "{count}: {steps} pairs in order");
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn requests_are_the_protocols_bytes() {
        let mut source = Source::new(shape(Workload::Put), 0, 1);
        let mut out = Vec::new();
        source.write(Kind::Put, 42, &mut out);
        assert_eq!(out[..12], *b"\x0a\x0800000042\x12\x0a");
        assert_eq!(out.len(), 22);
        source.write(Kind::Get, 42, &mut out);
        assert_eq!(out, b"\x0a\x0800000042\x38\x01");
        source.write(Kind::List, 42, &mut out);
        assert_eq!(out, b"\x0a\x0800000042\x12\x01\x00\x18\xac\x02\x38\x01");
        source.write(Kind::Delete, 42, &mut out);
        assert_eq!(out, b"\x0a\x0800000042");
    }

    #[test]
    fn a_transaction_has_as_many_operations_as_asked_on_different_keys() {
        let mut source = Source::new(Shape { operations: 3, ..shape(Workload::Txn) }, 0, 1);
        let mut out = Vec::new();
        for (kind, request) in [(Kind::Txn, 2), (Kind::TxnGet, 1)] {
            source.write(kind, 998, &mut out);
            let keys: Vec<_> = Fields::of(&out)
                .map(|(field, value)| {
                    let Value::Bytes(operation) = value else { panic!("operations are messages") };
                    assert_eq!(field, 2);
                    Fields::of(Fields::of(operation).bytes(request)).bytes(1)
                })
                .collect();
            assert_eq!(keys, [b"00000998", b"00000999", b"00000000"]);
        }
    }

    #[test]
    fn an_update_compares_with_the_last_revision_of_its_key() {
        let mut source = Source::new(Shape { keys: 2, ..shape(Workload::Update) }, 0, 1);
        let mut out = Vec::new();
        let (_, first) = source.draw();
        let (kind, second) = source.draw();
        assert_eq!((kind, first + second), (Kind::Update, 1), "both keys, each once");
        source.on_updated(second, Some(77));
        assert_eq!(source.draw().1, second, "the other is on its way");
        source.write(kind, second, &mut out);
        let compare = Fields::of(Fields::of(&out).bytes(1));
        assert_eq!((compare.clone().number(6), compare.number(2)), (77, 2));
        assert_eq!(Fields::of(&out).count(), 3);
    }

    #[test]
    fn a_soak_has_every_kind_in_its_share() {
        assert_eq!(SOAK.iter().map(|(_, percent)| percent).sum::<u64>(), 100);
        let mut source = Source::new(shape(Workload::Soak), 0, 1);
        let drawn: Vec<_> = (0..10_000).map(|_| source.draw().0).collect();
        for (kind, percent) in SOAK {
            let count = drawn.iter().filter(|drawn| **drawn == kind).count() as u64;
            assert!(count.abs_diff(percent * 100) < 200, "{kind:?}: {count}");
        }
    }

    #[test]
    fn values_differ_unless_they_follow_from_their_keys() {
        let write = |shape: Shape, key| {
            let mut source = Source::new(shape, 0, 1);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            source.write(Kind::Put, key, &mut a);
            source.write(Kind::Put, key, &mut b);
            (a, b)
        };
        let (a, b) = write(shape(Workload::Put), 1);
        assert_ne!(a, b);
        let shape = Shape { keyed: true, ..shape(Workload::Put) };
        let (a, b) = write(shape.clone(), 1);
        assert_eq!(a, b);
        assert!(a.ends_with(&keyed_value(&shape, 1)));
        assert_ne!(keyed_value(&shape, 1), keyed_value(&shape, 2));
    }

    #[test]
    fn random_keys_fill_the_space() {
        let mut random = Random::new(7);
        let mut seen = [false; 10];
        for _ in 0..200 {
            seen[usize::try_from(random.below(10)).expect("small")] = true;
        }
        assert_eq!(seen, [true; 10]);
    }
}

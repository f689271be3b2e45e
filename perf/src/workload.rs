//! What to ask: keys, values, and the order of requests, all from a seed.

use crate::h2::hpack::Method;

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
    /// Send a put to ringd's empty handler: the cost of the front end alone.
    Empty,
}

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
            Self::Empty => "empty",
        }
    }

    /// The gRPC method.
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Put => Method::Put,
            Self::Get | Self::List => Method::Range,
            Self::Delete => Method::Delete,
            Self::Empty => Method::Empty,
        }
    }
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
    /// Keys in order, over and over, instead of at random.
    pub(crate) sequential: bool,
    /// Reads that the serving node may answer alone.
    pub(crate) serializable: bool,
    /// Share of reads in a mix, in percent.
    pub(crate) reads_percent: u64,
    /// Keys in one list.
    pub(crate) limit: u64,
    /// Where the random numbers start.
    pub(crate) seed: u64,
}

/// A source of requests for one thread.
#[derive(Debug)]
pub(crate) struct Source {
    shape: Shape,
    random: Random,
    /// The next sequential key and its step, so that threads do not repeat each other.
    next: u64,
    step: u64,
}

impl Source {
    /// The requests of thread `thread` of `threads`.
    pub(crate) fn new(shape: Shape, thread: u64, threads: u64) -> Self {
        let mut seeds = Random::new(shape.seed ^ thread.wrapping_mul(0xd134_2543_de82_ef95));
        let random = Random::new(seeds.next());
        Self { shape, random, next: thread, step: threads }
    }

    /// Whether a put is followed by a get of the same key.
    pub(crate) fn pairs(&self) -> bool {
        self.shape.workload == Workload::Pairs
    }

    /// The next request: its kind and key.
    pub(crate) fn draw(&mut self) -> (Kind, u64) {
        let key = if self.shape.sequential {
            let key = self.next % self.shape.keys;
            self.next = self.next.wrapping_add(self.step);
            key
        } else {
            self.random.below(self.shape.keys)
        };
        let kind = match self.shape.workload {
            Workload::Put | Workload::Pairs => Kind::Put,
            Workload::Get => Kind::Get,
            Workload::List => Kind::List,
            Workload::Delete => Kind::Delete,
            Workload::Empty => Kind::Empty,
            Workload::Mixed if self.random.below(100) < self.shape.reads_percent => Kind::Get,
            Workload::Mixed => Kind::Put,
        };
        (kind, key)
    }

    /// Writes the request's protobuf message to `out`, which is cleared first.
    pub(crate) fn write(&mut self, kind: Kind, key: u64, out: &mut Vec<u8>) {
        out.clear();
        out.push(0x0a); // field 1 of each of these messages: key
        write_varint(self.shape.key_size as u64, out);
        write_key(key, self.shape.key_size, out);
        match kind {
            Kind::Put | Kind::Empty => {
                out.push(0x12); // PutRequest.value
                write_varint(self.shape.value_size as u64, out);
                self.write_value(out);
            }
            Kind::Get => self.write_consistency(out),
            Kind::List => {
                out.extend_from_slice(&[0x12, 1, 0, 0x18]); // range_end "\0": to the end; limit
                write_varint(self.shape.limit, out);
                self.write_consistency(out);
            }
            Kind::Delete => {}
        }
    }

    fn write_consistency(&self, out: &mut Vec<u8>) {
        if self.shape.serializable {
            out.extend_from_slice(&[0x38, 1]); // RangeRequest.serializable
        }
    }

    fn write_value(&mut self, out: &mut Vec<u8>) {
        let mut rest = self.shape.value_size;
        while rest > 0 {
            let bytes = self.random.next().to_le_bytes();
            let size = rest.min(8);
            out.extend_from_slice(&bytes[..size]);
            rest -= size;
        }
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

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).expect("seven bits"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(workload: Workload) -> Shape {
        Shape {
            workload,
            keys: 1000,
            key_size: 8,
            value_size: 10,
            sequential: false,
            serializable: true,
            reads_percent: 50,
            limit: 300,
            seed: 1,
        }
    }

    #[test]
    fn the_same_seed_asks_the_same() {
        let run = || {
            let mut source = Source::new(shape(Workload::Mixed), 0, 1);
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

    #[test]
    fn sequential_threads_share_the_key_space() {
        let draw = |thread| {
            let shape = Shape { sequential: true, ..shape(Workload::Put) };
            let mut source = Source::new(shape, thread, 2);
            (0..500).map(|_| source.draw().1).collect::<Vec<_>>()
        };
        let mut keys = [draw(0), draw(1)].concat();
        keys.sort_unstable();
        assert_eq!(keys, (0..1000).collect::<Vec<_>>());
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
    fn values_differ() {
        let mut source = Source::new(shape(Workload::Put), 0, 1);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        source.write(Kind::Put, 1, &mut a);
        source.write(Kind::Put, 1, &mut b);
        assert_ne!(a, b);
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

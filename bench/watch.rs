//! What it costs to know who watches a key, in nanoseconds an operation and bytes a watcher.
//!
//! `cargo bench --bench watch` runs at full size; without `--bench` it is a smoke test. Each time
//! is the median of slices of the run, so that a machine with other work does not spoil it. Beside
//! it stands the longest slice, which shows whether growing makes anybody wait.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is for a person")]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::Instant;

use mimalloc::MiMalloc;
use ringd::mvcc::KeyRange;
use ringd::mvcc::Watchers;

// The server's allocator, so that the numbers are the server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Bytes of a key.
const KEY_SIZE: usize = 64;
/// Operations timed together.
const SLICE: usize = 100;
/// The seed of the hash.
const SEED: u64 = 0x5eed;

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let part = if is_full { 1 } else { 500 };
    let mut work = 0;
    work ^= nobody(1_000_000 / part);
    work ^= keys(1_000_000 / part);
    work ^= prefixes(10_000 / part.min(100));
    work ^= prefixes(1_000_000 / part);
    work ^= nested(1000 / part.min(10));
    for (name, range) in [("one key", KeyRange::One(b"k")), ("one span", KeyRange::From(b"k"))] {
        work ^= fan(name, range, 1000);
        work ^= shared(name, range, 100_000 / part);
    }
    println!("work {work:016x}");
}

/// The splitmix64 sequence at `n`.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The start of the keys of a namespace.
fn namespace(n: u32) -> Vec<u8> {
    format!("/registry/pods/namespace-{n:08}").into_bytes()
}

/// The first key after those of a namespace: the byte after the slash.
fn namespace_end(n: u32) -> Vec<u8> {
    [&namespace(n)[..], b"0"].concat()
}

/// A key of a namespace, as Kubernetes has them.
fn pod(namespace: u32, n: u32) -> Vec<u8> {
    let name = mix(u64::from(n));
    let key = format!("/registry/pods/namespace-{namespace:08}/{name:016x}");
    format!("{key:-<KEY_SIZE$}").into_bytes()
}

/// Numbers below `len` in an order that no prefetcher guesses, some of them twice, others never.
fn random(len: u32) -> impl Iterator<Item = u32> {
    let below = move |n| u32::try_from(mix(n ^ 0x5eed) % u64::from(len)).expect("it fits");
    (1..=u64::from(len)).map(below)
}

/// Numbers below `len` in an order of no sense, each once.
fn shuffled(len: u32) -> impl Iterator<Item = u32> {
    let mut all: Vec<_> = (0..len).collect();
    all.sort_by_key(|n| mix(u64::from(*n)));
    all.into_iter()
}

/// Runs `each` on every item and prints what one takes: the median over slices, and the slowest
/// slice. The items of a slice are made before its time begins, as a server has a key at hand that
/// it has just parsed.
fn timed<T>(name: &str, mut items: impl Iterator<Item = T>, mut each: impl FnMut(&T)) {
    let mut slices = Vec::new();
    loop {
        let slice: Vec<T> = items.by_ref().take(SLICE).collect();
        let Some(count) = NonZeroUsize::new(slice.len()) else { break };
        let begin = Instant::now();
        slice.iter().for_each(&mut each);
        slices.push(begin.elapsed().as_nanos() / count.get() as u128);
    }
    slices.sort_unstable();
    let (median, longest) = (slices[slices.len() / 2], slices[slices.len() - 1]);
    println!("{name:<52} {median:>7} ns, in the longest slice {longest:>7}");
}

fn heap(name: &str, watchers: &Watchers) {
    let size = watchers.heap_size() / watchers.len();
    println!("{name:<52} {size:>7} bytes");
}

/// Changes that nobody watches, while somebody watches something else.
fn nobody(len: u32) -> u64 {
    let (mut watchers, mut work) = (Watchers::new(SEED), 0);
    let mut see = |name: &str, watchers: &Watchers| {
        timed(name, random(len.div_ceil(10)).map(|n| pod(n % 3000, n)), |key| {
            watchers.seeing(key, |_| work += 1);
        });
    };
    see("no watcher: seeing", &watchers);
    watchers.insert(0, KeyRange::From(b"0"));
    see("one watcher, of other keys by span: seeing", &watchers);
    watchers.remove(0);
    watchers.insert(0, KeyRange::One(b"0"));
    see("one watcher, of another key: seeing", &watchers);
    work
}

/// As many watchers, of a key each.
fn keys(len: u32) -> u64 {
    let (mut watchers, mut work) = (Watchers::new(SEED), 0);
    let key = |n: u32| pod(n % 3000, n);
    let name = |what: &str| format!("{len} watchers of a key each: {what}");
    timed(&name("insert"), (0..len).map(|n| (n, key(n))), |(n, key)| {
        watchers.insert(*n, KeyRange::One(key));
    });
    heap(&name(&format!("size besides {KEY_SIZE}")), &watchers);
    timed(&name("seeing"), random(len).map(key), |key| {
        watchers.seeing(key, |watcher| work += u64::from(watcher));
    });
    timed(&name("seeing, none"), random(len).map(|n| pod(n % 3000 + 1, n)), |key| {
        watchers.seeing(key, |watcher| work += u64::from(watcher));
    });
    timed(&name("remove, insert"), shuffled(len / 10).map(|n| (n, key(n + len))), |(n, key)| {
        watchers.remove(*n);
        watchers.insert(*n, KeyRange::One(key));
    });
    timed(&name("remove"), shuffled(len), |n| watchers.remove(*n));
    black_box(work)
}

/// As many watchers, of a namespace each.
fn prefixes(len: u32) -> u64 {
    let (mut watchers, mut work) = (Watchers::new(SEED), 0);
    let name = |what: &str| format!("{len} watchers of a prefix each: {what}");
    let ends = |n: u32| (n, namespace(n), namespace_end(n));
    timed(&name("insert"), shuffled(len).map(ends), |(n, start, end)| {
        watchers.insert(*n, KeyRange::Span { start, end });
    });
    let size = namespace(0).len() + namespace_end(0).len();
    heap(&name(&format!("size with {size} of keys")), &watchers);
    timed(&name("seeing"), random(len.min(100_000)).map(|n| pod(n, n)), |key| {
        watchers.seeing(key, |watcher| work += u64::from(watcher));
    });
    timed(&name("remove"), shuffled(len), |n| watchers.remove(*n));
    black_box(work)
}

/// As many watchers, of spans that lie in one another.
fn nested(len: u32) -> u64 {
    let (mut watchers, mut work) = (Watchers::new(SEED), 0);
    let name = |what: &str| format!("{len} watchers of nested spans: {what}");
    for n in 0..len {
        let (start, end) = (namespace(n), namespace(2 * len - n));
        watchers.insert(n, KeyRange::Span { start: &start, end: &end });
    }
    timed(&name("seeing, all"), (0..1000).map(|n| pod(len, n)), |key| {
        watchers.seeing(key, |watcher| work += u64::from(watcher));
    });
    timed(&name("seeing, one"), (0..1000).map(|n| pod(0, n)), |key| {
        watchers.seeing(key, |watcher| work += u64::from(watcher));
    });
    black_box(work)
}

/// One change that so many see.
fn fan(what: &str, range: KeyRange<'_>, len: u32) -> u64 {
    let (mut watchers, mut work) = (Watchers::new(SEED), 0);
    (0..len).for_each(|n| watchers.insert(n, range));
    timed(&format!("{len} watchers of {what}: seeing, all"), 0..2000, |_| {
        watchers.seeing(b"k", |watcher| work += u64::from(watcher));
    });
    black_box(work)
}

/// Watchers that come and go where so many see the same.
fn shared(what: &str, range: KeyRange<'_>, len: u32) -> u64 {
    let mut watchers = Watchers::new(SEED);
    let name = |verb: &str| format!("{len} watchers of {what}: {verb}");
    timed(&name("insert"), 0..len, |n| watchers.insert(*n, range));
    heap(&name("size"), &watchers);
    timed(&name("remove"), shuffled(len), |n| watchers.remove(*n));
    black_box(watchers.len() as u64)
}

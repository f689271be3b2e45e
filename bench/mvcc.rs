//! What the index and the keyspace cost, in nanoseconds an operation and bytes a key.
//!
//! `cargo bench --bench mvcc` runs at full size; without `--bench` it is a smoke test. `random`,
//! `registry` or `ascending` as an argument runs it for these keys only. Each time is the median of
//! slices of the run, so that a machine with other work does not spoil it.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is for a person")]

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

use bytes::Bytes;
use mimalloc::MiMalloc;
use ringd::mvcc::Found;
use ringd::mvcc::KeyRange;
use ringd::mvcc::Keyspace;
use ringd::mvcc::Location;
use ringd::mvcc::Put;
use ringd::mvcc::RangeQuery;
use ringd::mvcc::Records;
use ringd::mvcc::Restoring;
use ringd::mvcc::Slice;
use ringd::mvcc::SortOrder;
use ringd::mvcc::index::Index;
use ringd::types::Change;
use ringd::types::LeaseId;
use ringd::types::Revision;

// The server's allocator, so that the numbers are the server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Bytes of a key.
const KEY_SIZE: usize = 64;
/// Bytes of a value.
const VALUE_SIZE: usize = 256;
/// Operations timed together.
const SLICE: usize = 1000;
/// Rows of a page.
const PAGE_ROWS: i64 = 100;

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let keys = if is_full { 1_000_000 } else { 2_000 };
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut work = 0;
    for (name, make) in
        [("random", random as fn(u64) -> Vec<u8>), ("registry", registry), ("ascending", ascending)]
    {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let keys: Vec<_> = (0..keys).map(make).collect();
        work ^= index(name, &keys);
        work ^= keyspace(name, &keys);
        work ^= restore(name, &keys);
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

/// Random bytes.
fn random(n: u64) -> Vec<u8> {
    (0..8).flat_map(|part| mix(n * 8 + part).to_be_bytes()).collect()
}

/// Keys as Kubernetes has them: long common beginnings, a few thousand namespaces.
fn registry(n: u64) -> Vec<u8> {
    let key = format!("/registry/pods/namespace-{:04}/deployment-{:016x}", n % 3000, mix(n));
    format!("{key:-<KEY_SIZE$}").into_bytes()
}

/// Keys that come in their order.
fn ascending(n: u64) -> Vec<u8> {
    format!("{:-<KEY_SIZE$}", format!("/registry/pods/{n:016x}")).into_bytes()
}

/// An order of visits that no prefetcher guesses.
fn shuffled(len: usize) -> impl Iterator<Item = usize> {
    let bound = u64::try_from(len).expect("it fits");
    (1..=bound).map(move |n| usize::try_from(mix(n ^ 0x5eed) % bound).expect("it fits"))
}

/// Runs `each` on every item and prints the median over slices of what one takes. The items of a
/// slice are made before its time begins, as a server has a key at hand that it has just parsed.
fn timed<T>(group: &str, name: &str, mut items: impl Iterator<Item = T>, mut each: impl FnMut(T)) {
    let mut slices = Vec::new();
    loop {
        let slice: Vec<T> = items.by_ref().take(SLICE).collect();
        let Some(count) = NonZeroUsize::new(slice.len()) else { break };
        let begin = Instant::now();
        slice.into_iter().for_each(&mut each);
        slices.push(begin.elapsed().as_nanos() / count.get() as u128);
    }
    slices.sort_unstable();
    println!("{group:>10}  {name:<42} {:>9} ns", slices[slices.len() / 2]);
}

fn at(main: i64) -> Location {
    Location { main: Revision(main), sub: 0 }
}

fn index(group: &str, keys: &[Vec<u8>]) -> u64 {
    let (mut index, mut revision, mut work) = (Index::new(), 1, 0_u64);
    let len = keys.len();
    let copy = |i: usize| keys[i].clone();
    timed(group, "index: insert", keys.iter().cloned(), |key| {
        revision += 1;
        index.put(&key, at(revision));
    });
    println!(
        "{group:>10}  {:<42} {:>9} bytes",
        format!("index: per key besides its {KEY_SIZE} bytes"),
        index.heap_size() / len - KEY_SIZE
    );
    timed(group, "index: get", shuffled(len).map(copy), |key| {
        work += u64::from(index.get(&key).is_some());
    });
    let mut sorted: Vec<_> = keys.iter().collect();
    sorted.sort();
    let span =
        |i: usize| KeyRange::Span { start: sorted[i], end: sorted[(i + len / 3).min(len - 1)] };
    let visits = len.min(100_000);
    timed(group, "index: count a third", shuffled(len).take(visits), |i| {
        work += index.count(span(i), Revision(revision));
    });
    let rows = u64::try_from(PAGE_ROWS).expect("it fits");
    for down in [false, true] {
        let name = format!("index: slice of 100{}", if down { ", down" } else { "" });
        timed(group, &name, shuffled(len).take(visits / 10), |i| {
            let range = KeyRange::From(b"\0");
            let resume = Some(&keys[i][..]);
            let slice = Slice { resume, down, ..Slice::new(range, Revision(revision)) };
            let mut left = rows;
            index.walk(&slice, |key, _| {
                work += u64::from(key[KEY_SIZE - 1]);
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        });
    }
    let before = index.heap_size();
    let past = revision;
    for round in 2..=5 {
        timed(group, &format!("index: put version {round}"), shuffled(len).map(copy), |key| {
            revision += 1;
            index.put(&key, at(revision));
        });
    }
    println!(
        "{group:>10}  {:<42} {:>9} bytes",
        "index: per further version",
        (index.heap_size() - before) / (4 * len)
    );
    timed(group, "index: get at an old revision", shuffled(len).map(copy), |key| {
        work += u64::from(index.get_at(&key, Revision(past)).is_some());
    });
    timed(group, "index: count a third, all changed since", shuffled(len).take(3), |i| {
        work += index.count(span(i), Revision(past));
    });
    timed(group, "index: compact a slice of 1000", 0..4 * len / 1000, |_| {
        work += u64::from(index.compact(Revision(revision), 1000, |_| ()));
    });
    black_box(work)
}

/// One value for all.
struct Values(Bytes);

impl Records for Values {
    fn lease(&self, _: Location) -> LeaseId {
        LeaseId(0)
    }

    fn value(&self, _: Location) -> Bytes {
        self.0.clone()
    }

    fn has_lease(&self, _: LeaseId) -> bool {
        false
    }

    fn push(&mut self, change: Change, _: Option<Found>) {
        black_box(change);
    }
}

fn keyspace(group: &str, keys: &[Vec<u8>]) -> u64 {
    let (mut keyspace, len) = (Keyspace::new(), keys.len());
    let mut records = Values(Bytes::from(vec![7; VALUE_SIZE]));
    let copy = |i: usize| Bytes::copy_from_slice(&keys[i]);
    let put = |keyspace: &mut Keyspace, records: &mut Values, key: Bytes| {
        let put = Put::new(key, records.0.clone());
        keyspace.write().put(put, records).expect("a plain put is never refused");
    };
    timed(group, "keyspace: put a new key", (0..len).map(copy), |key| {
        put(&mut keyspace, &mut records, key);
    });
    timed(group, "keyspace: put a known key", shuffled(len).map(copy), |key| {
        put(&mut keyspace, &mut records, key);
    });
    let mut work = 0_u64;
    timed(group, "keyspace: get", shuffled(len).map(copy), |key| {
        let query = RangeQuery::new(KeyRange::One(&key));
        let found = keyspace.range_with(&query, &records, |row| work += u64::from(row.key[0]));
        work += u64::from(found.expect("it is a good query").more);
    });
    let visits = len.min(10_000);
    for order in [SortOrder::None, SortOrder::Descend] {
        let name = format!("keyspace: page of 100, order {order:?}");
        timed(group, &name, shuffled(len).take(visits), |i| {
            let range = KeyRange::From(&keys[i]);
            let query = RangeQuery { limit: PAGE_ROWS, order, ..RangeQuery::new(range) };
            let page = keyspace.range_with(&query, &records, |row| work += u64::from(row.key[0]));
            work += page.expect("it is a good query").count.unsigned_abs();
        });
    }
    black_box(work)
}

/// A restart: all of `keys` again, in the order of their last changes.
fn restore(group: &str, keys: &[Vec<u8>]) -> u64 {
    let mut restoring = Restoring::new();
    let begin = Instant::now();
    for (key, main) in keys.iter().zip(2..) {
        let added = restoring.add(at(main), key, Revision(main), 1, |_| ());
        added.expect("changes come in order");
    }
    let last = Revision(i64::try_from(keys.len()).expect("it fits") + 1);
    let keyspace = restoring.finish(last, None, |_| ()).expect("it fits");
    let took = begin.elapsed().as_millis();
    println!("{group:>10}  {:<42} {took:>9} ms", "keyspace: restore all");
    black_box(keyspace.live())
}

//! What leases cost, in nanoseconds an operation and bytes a lease.
//!
//! `cargo bench --bench lease` runs at full size; without `--bench` it is a smoke test. Each time
//! is the median of slices of the run, so that a machine with other work does not spoil it; what is
//! done in one go has its whole time told.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is for a person")]

use std::num::NonZeroUsize;
use std::time::Instant;

use mimalloc::MiMalloc;
use ringd::lease::Grant;
use ringd::lease::Lessor;
use ringd::types::LeaseId;
use ringd::types::LogIndex;
use ringd::types::Tick;

// The server's allocator, so that the numbers are the server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Operations timed together.
const SLICE: usize = 1000;
/// Seconds that each lease lives.
const TTL: i64 = 60;

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let count = if is_full { 1_000_000 } else { 2_000 };
    let ids: Vec<LeaseId> = (1..=count).map(id).collect();
    let work = plain(&ids) ^ keyed(&ids);
    println!("work {work:016x}");
}

/// An id as the server picks them.
fn id(number: u64) -> LeaseId {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    LeaseId((mixed >> 1).cast_signed())
}

fn timed<T>(name: &str, mut items: impl Iterator<Item = T>, mut each: impl FnMut(T)) {
    let mut slices = Vec::new();
    loop {
        let slice: Vec<T> = items.by_ref().take(SLICE).collect();
        let Some(count) = NonZeroUsize::new(slice.len()) else { break };
        let begin = Instant::now();
        slice.into_iter().for_each(&mut each);
        slices.push(begin.elapsed().as_nanos() / count.get() as u128);
    }
    slices.sort_unstable();
    println!("lease  {name:<46} {:>9} ns", slices[slices.len() / 2]);
}

fn whole<T>(name: &str, each: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = each();
    println!("lease  {name:<46} {:>9} us", begin.elapsed().as_micros());
    done
}

/// Bytes of memory that this process has.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

fn told(name: &str, before: usize, count: usize) {
    let size = memory().saturating_sub(before) / count;
    println!("lease  {name:<46} {size:>9} bytes");
}

/// Leases without keys.
fn plain(ids: &[LeaseId]) -> u64 {
    let before = memory();
    let mut lessor = Lessor::new();
    let numbered = (1..).map(LogIndex).zip(ids);
    timed("grant", numbered, |(born, id)| {
        lessor.grant(Grant { id: *id, born }, TTL, Tick(0)).expect("a new id");
    });
    told("memory of a lease that follows", before, ids.len());
    lessor.promote(Tick(0), 1_000, 100, false);
    let mut slices = 0_u64;
    timed("lead: a slice of 512 leases", std::iter::repeat_n((), ids.len() / 512 + 1), |()| {
        slices += u64::from(lessor.settle(512));
    });
    told("memory of a lease that is led", before, ids.len());
    timed("renew", ids.iter(), |id| {
        let _ = lessor.renew(*id, Tick(30_000));
    });
    let mut bytes = Vec::new();
    whole("encode all", || lessor.encode(&mut bytes));
    println!("lease  {:<46} {:>9} bytes", "encoded", bytes.len() / ids.len());
    let again = whole("decode all", || Lessor::decode(&bytes).expect("just encoded"));
    assert_eq!(again.len(), ids.len());
    let mut looks = 0;
    timed("find a renewed lease's new place, a slice of 512", 0..ids.len() / 512, |_| {
        looks += u64::from(lessor.due(Tick(70_000)).is_more);
    });
    slices ^ looks ^ bytes.len() as u64
}

/// Leases with a key each.
fn keyed(ids: &[LeaseId]) -> u64 {
    let keys = (0..ids.len()).map(|at| format!("/registry/leases/node/{at:024}").into_bytes());
    let keys: Vec<Vec<u8>> = keys.collect();
    let before = memory();
    let mut lessor = Lessor::new();
    lessor.promote(Tick(0), 1_000, 100, false);
    for (born, id) in (1..).map(LogIndex).zip(ids) {
        lessor.grant(Grant { id: *id, born }, TTL, Tick(0)).expect("a new id");
    }
    timed("attach the only key of a lease", ids.iter().zip(&keys), |(id, key)| {
        lessor.attach(key, LeaseId(0), *id);
    });
    told("memory of a lease that is led, with a key of 46", before, ids.len());
    let mut ended = 0_u64;
    timed("end a slice of 128 leases", 0..ids.len().div_ceil(128), |_| {
        for grant in lessor.due(Tick(70_000)).ended {
            ended += lessor.expire(grant).map_or(0, |keys| keys.len() as u64);
        }
    });
    assert_eq!(ended, ids.len() as u64);
    for (born, id) in (1..).map(LogIndex).zip(&ids[..1]) {
        lessor.grant(Grant { id: *id, born }, TTL, Tick(0)).expect("a new id");
    }
    timed("attach one of many keys", keys.iter(), |key| lessor.attach(key, LeaseId(0), ids[0]));
    timed("detach one of many keys", keys.iter(), |key| lessor.attach(key, ids[0], LeaseId(0)));
    ended
}

//! What a put and a get cost a shard, from the proposal to the answer, and what those who watch do,
//! with no disk and no client.
//!
//! Each put is proposed, laid out in a frame of the log, told to be durable, committed, applied and
//! answered; the driver here keeps no bytes, and the store never seals. `cargo bench --bench shard`
//! runs at full size; without `--bench` it is a smoke test. Each time is the median of slices of
//! the run, so that a machine with other work does not spoil it; only replays are measured as a
//! whole.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is for a person")]

use std::time::Instant;

use mimalloc::MiMalloc;
use ringd::config;
use ringd::shard;
use ringd::shard::Input;
use ringd::shard::Output;
use ringd::shard::Ready;
use ringd::shard::Shard;
use ringd::shard::command::Command;
use ringd::shard::recover::Files;
use ringd::shard::recover::Recovery;
use ringd::shard::recover::Step;
use ringd::shard::request::Range;
use ringd::shard::request::Request;
use ringd::shard::request::RequestId;
use ringd::shard::watch::Ask;
use ringd::shard::watch::Asker;
use ringd::shard::watch::Past;
use ringd::shard::watch::Slice;
use ringd::shard::watch::Told;
use ringd::types::Revision;
use ringd::types::ShardId;
use ringd::types::Tick;
use ringd::wal;

// The server's allocator, so that the numbers are the server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Bytes of a value.
const VALUE_SIZE: usize = 256;
/// Requests timed together, at least.
const SLICE: usize = 1000;
/// The core that watches.
const ASKER: Asker = Asker { core: 0, token: 1 };

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let (keys, rounds) = if is_full { (1_000_000, 300) } else { (1_000, 2) };
    let mut node = Node::new();
    node.fill(keys);
    for batch in [1, 100] {
        let ns = node.median(rounds, batch, put);
        println!("shard  put, {batch:>3} at once, {keys} keys {ns:>9} ns a put");
    }
    for (what, prev_kv) in [("watched", false), ("watched with what was before", true)] {
        node.watch(Ask::Subscribe { from: ASKER, prev_kv });
        for batch in [1, 100] {
            let ns = node.median(rounds, batch, put);
            println!("shard  put, {batch:>3} at once, {what} {ns:>9} ns a put");
        }
    }
    node.watch(Ask::Unsubscribe { core: ASKER.core });
    for batch in [1, 100] {
        let ns = node.median(rounds, batch, |key| Request::Range(Range::one(key, false)));
        println!("shard  get, {batch:>3} at once, {keys} keys {ns:>9} ns a get");
    }
    for prev_kv in [false, true] {
        let (events, steps, ns) = node.replay(b"/registry/", b"/registry0", prev_kv);
        let (event, step) = (ns / events, ns / steps);
        println!(
            "shard  replay of everything, prev {prev_kv} {event:>9} ns an event, {step} a step"
        );
        // A thousandth of the keys.
        let (first, end) = (key(0), key(keys.div_ceil(1000)));
        let (events, steps, ns) = node.replay(&first, &end, prev_kv);
        let (event, step) = (ns / events, ns / steps);
        println!("shard  replay of few keys, prev {prev_kv} {event:>9} ns an event, {step} a step");
    }
    println!("work {:016x}", node.hash);
}

/// A put of a value that is not looked at.
fn put(key: &[u8]) -> Request {
    let value = &[7; VALUE_SIZE];
    let (lease, prev_kv, ignore_value, ignore_lease) = (0, false, false, false);
    let put = Command::Put { key, value, lease, prev_kv, ignore_value, ignore_lease };
    Request::Write(put.encode())
}

/// The key of a number.
fn key(number: u64) -> Vec<u8> {
    format!("/registry/pods/default/{number:010}").into_bytes()
}

/// A shard, and a driver whose every write is durable at once.
struct Node {
    shard: Shard,
    frame: Vec<u8>,
    events: Vec<wal::Event>,
    keys: u64,
    next: u64,
    answers: usize,
    /// The last slice that was told.
    told: Option<Slice>,
    hash: u64,
}

impl Node {
    fn new() -> Self {
        let node = config::Config::default();
        let bootstrap = node.bootstrap().expect("the default is a cluster of one");
        let (cluster, member) = (bootstrap.cluster, bootstrap.node);
        let mut config = shard::Config::new(&node, ShardId(0), cluster, member, &bootstrap)
            .expect("the defaults fit together");
        (config.store.seal_size, config.store.tail_size_max) = (usize::MAX, usize::MAX);
        let mut recovery = Recovery::new(config, 1, Files { log: &[], store: &[] }, 1, Tick(0));
        let Step::Done(shard) = recovery.poll() else {
            unreachable!("a new log has nothing to read");
        };
        let (frame, events) = (Vec::new(), Vec::new());
        let (keys, next, answers, told, hash) = (0, 1, 0, None, 0);
        let mut node = Self { shard: *shard, frame, events, keys, next, answers, told, hash };
        for now in 0..10_000 {
            node.shard.handle(Input::Tick(Tick(now)));
            node.settle();
            if node.shard.is_ready() {
                return node;
            }
        }
        unreachable!("a group of one elects itself");
    }

    /// Puts every key once.
    fn fill(&mut self, keys: u64) {
        self.keys = keys;
        let numbers: Vec<u64> = (0..keys).collect();
        for some in numbers.chunks(SLICE) {
            for number in some {
                self.ask(put(&key(*number)));
            }
            self.settle();
        }
    }

    fn ask(&mut self, request: Request) {
        let from = RequestId { core: 0, connection: 0, generation: 0, stream: 1 };
        self.shard.handle(Input::Request { from, request });
    }

    /// Does all that the shard asks for, until it rests.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.shard.poll() {
                match output {
                    Output::Wal(wal::Command::Write { id, size, .. }) => {
                        self.frame.resize(size, 0);
                        self.shard.fill(id, &mut self.frame);
                        let sample = self.frame.iter().step_by(512).map(|byte| u64::from(*byte));
                        self.note(sample.sum());
                        self.events.push(wal::Event::Written { id });
                    }
                    Output::Wal(_) => self.events.push(wal::Event::Done),
                    Output::Reply { ready, .. } => self.take(&ready),
                    Output::Watch(Told::Events { batch, .. }) => {
                        self.note(u64::try_from(batch.events.len()).expect("64 bits"));
                    }
                    Output::Watch(Told::Replayed { slice, .. }) => self.told = Some(slice),
                    Output::Watch(Told::Subscribed { .. } | Told::Moved { .. }) => {}
                    Output::Role(_) | Output::Rows { .. } => {}
                    Output::Send { .. } | Output::Peers(_) | Output::Reopen => {
                        unreachable!("it is alone")
                    }
                    Output::Store(command) => panic!("nothing is sealed: {command:?}"),
                    Output::Halt(why) => panic!("{why}"),
                }
            }
            if self.events.is_empty() {
                return;
            }
            for event in self.events.drain(..) {
                self.shard.handle(Input::Wal(event));
            }
        }
    }

    fn watch(&mut self, ask: Ask) {
        self.shard.handle(Input::Watch(ask));
        self.settle();
    }

    /// Replays all that ever happened to a range: events, steps and nanoseconds.
    fn replay(&mut self, key: &[u8], end: &[u8], prev_kv: bool) -> (u128, u128, u128) {
        let (mut events, mut steps, mut from) = (0, 0, Revision(2));
        let begin = Instant::now();
        while from <= self.shard.header().revision {
            let mut past = Past::new(key, end, from, 1 << 20);
            past.prev_kv = prev_kv;
            self.watch(Ask::Replay { from: ASKER, past });
            steps += 1;
            while self.told.is_none() {
                self.shard.work();
                self.settle();
                steps += 1;
            }
            let Some(Slice::Events { events: slice, until, .. }) = self.told.take() else {
                unreachable!("nothing is compacted");
            };
            events += slice.len() as u128;
            from = Revision(until.0 + 1);
        }
        let ns = begin.elapsed().as_nanos();
        self.note(u64::try_from(events).expect("64 bits"));
        (events, steps, ns)
    }

    /// Takes an answer as the front end does, but for its encoding.
    fn take(&mut self, ready: &Ready) {
        let seen = match ready {
            Ready::Result(Ok(_)) => self.shard.header().revision.0.unsigned_abs(),
            Ready::Result(Err(failure)) => panic!("{failure:?}"),
            Ready::Range(range) => {
                let mut size = 0;
                let read = self.shard.read(range, usize::MAX, |_, _, value| size += value.len());
                read.expect("the key is there");
                assert_eq!(size, VALUE_SIZE);
                1
            }
            Ready::List(head) => panic!("a get is no list: {head:?}"),
        };
        self.answers += 1;
        self.note(seen);
    }

    fn note(&mut self, seen: u64) {
        self.hash = self.hash.rotate_left(5) ^ seen;
    }

    /// Nanoseconds a request of random keys, `batch` of them at once: the median over slices.
    fn median(&mut self, slices: usize, batch: usize, make: impl Fn(&[u8]) -> Request) -> u128 {
        let mut times = Vec::new();
        for _ in 0..slices {
            let keys: Vec<_> = (0..SLICE).map(|_| key(self.draw())).collect();
            let before = self.answers;
            let begin = Instant::now();
            for some in keys.chunks(batch) {
                for key in some {
                    self.ask(make(key));
                }
                self.settle();
            }
            times.push(begin.elapsed().as_nanos());
            assert_eq!(self.answers, before + SLICE, "each is answered once");
        }
        times.sort_unstable();
        times[times.len() / 2] / (SLICE as u128)
    }

    /// One of the keys' numbers.
    fn draw(&mut self) -> u64 {
        self.next = self.next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.next >> 33) % self.keys
    }
}

//! What a small unary call costs in `http2`: decode, tell the owner, answer.
//!
//! One receive holds 100 requests as grpc-go sends a Put (HEADERS of indices, DATA of a 5-byte
//! prefix, a key and a 256-byte value), their frames interleaved; each is answered with headers,
//! 30 bytes and trailers. `cargo bench --bench http2` runs at full size; without `--bench` it is a
//! smoke test.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "its output is for a person")]

use std::time::Instant;

use mimalloc::MiMalloc;
use ringd::http2::Calls;
use ringd::http2::Connection;
use ringd::http2::ErrorCode;
use ringd::http2::Head;
use ringd::http2::Limits;
use ringd::http2::PREFACE;
use ringd::http2::StreamId;
use ringd::http2::frame;
use ringd::http2::hpack;
use ringd::types::Tick;

// The server's allocator, so that the numbers are the server's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Requests in one receive.
const BATCH: u32 = 100;

fn main() {
    let is_full = std::env::args().any(|arg| arg == "--bench");
    let rounds = if is_full { 30_000 } else { 3 };
    let mut work = 0_u64;
    work ^= run("headers all indexed", rounds, |_, _| {});
    work = work.rotate_left(7);
    work ^= run("headers all literal, a new timeout", rounds, |block, number| {
        // As grpc-go's encoder does: a new value is indexed, its name was before.
        let value = format!("{}u", 4_999_000 + number % 1000);
        block.extend([0x40 | 62, 0x08]);
        block.extend(value.as_bytes());
    });
    println!("work {work:016x}");
}

/// The owner of a connection: routes by the head's id, reads the body, answers when it ends.
#[derive(Default)]
struct Owner {
    route: Option<u64>,
    whole: Vec<StreamId>,
    hash: u64,
}

impl Calls for Owner {
    type Call = u64;

    fn on_head(&mut self, _stream: StreamId, head: &Head, _end: bool) -> u64 {
        if self.route != Some(head.id()) {
            assert_eq!(head.path(), b"/etcdserverpb.KV/Put");
            self.route = Some(head.id());
        }
        0
    }

    fn on_data(&mut self, stream: StreamId, call: &mut u64, data: &[u8], end: bool) {
        let sample = data.iter().step_by(16).map(|byte| u64::from(*byte)).sum::<u64>();
        *call = call.wrapping_add(sample);
        if end {
            self.hash = self.hash.rotate_left(1) ^ *call;
            self.whole.push(stream);
        }
    }

    fn on_trailers(&mut self, _stream: StreamId, _call: &mut u64, _trailers: &Head) {}

    fn on_reset(&mut self, _stream: StreamId, _call: u64, _code: ErrorCode) {}
}

/// The first request's block: everything literal, with indexing.
fn opening_block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let fields: [(&[u8], &[u8]); 6] = [
        (b":path", b"/etcdserverpb.KV/Put"),
        (b":authority", b"127.0.0.1:2379"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"grpc-go/1.76.0"),
        (b"te", b"trailers"),
        (b"grpc-timeout", b"4999000u"),
    ];
    for (name, value) in fields {
        block.push(0x40);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text);
        }
    }
    block
}

/// One receive's worth of requests, from a stream on.
fn requests(first: u32, extra: &impl Fn(&mut Vec<u8>, u32), bytes: &mut Vec<u8>) {
    bytes.clear();
    let ids = (0..BATCH).map(|i| first + 2 * i);
    for id in ids.clone() {
        let mut block = vec![0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf];
        extra(&mut block, id);
        if block.len() > 7 {
            // The dynamic table holds one more entry, the timeout, for every request so far; so
            // this client sends the other fields plainly, as one does whose table turns over.
            block.truncate(2);
            hpack::encode_literal(&mut block, b":path", b"/etcdserverpb.KV/Put");
            hpack::encode_literal(&mut block, b":authority", b"127.0.0.1:2379");
            hpack::encode_literal(&mut block, b"content-type", b"application/grpc");
            hpack::encode_literal(&mut block, b"user-agent", b"grpc-go/1.76.0");
            hpack::encode_literal(&mut block, b"te", b"trailers");
            extra(&mut block, id);
        }
        frame::put(bytes, frame::HEADERS, frame::END_HEADERS, id, &block);
    }
    for id in ids {
        let mut message = vec![0, 0, 0, 1, 13];
        message.resize(5 + 269, id.to_le_bytes()[0]);
        frame::put(bytes, frame::DATA, frame::END_STREAM, id, &message);
    }
}

fn run(name: &str, rounds: u32, extra: impl Fn(&mut Vec<u8>, u32)) -> u64 {
    let mut connection = Connection::new(Limits::default(), Tick(0));
    let mut owner = Owner::default();
    let mut bytes = PREFACE.to_vec();
    frame::put_settings(&mut bytes, &[]);
    frame::put_u32(&mut bytes, frame::WINDOW_UPDATE, 0, 1 << 30);
    let flags = frame::END_HEADERS | frame::END_STREAM;
    frame::put(&mut bytes, frame::HEADERS, flags, 1, &opening_block());
    connection.receive(&bytes, Tick(0), &mut owner).expect("a good client");
    let (mut head, mut trailers) = (Vec::new(), Vec::new());
    hpack::encode_indexed(&mut head, 8);
    hpack::encode_literal(&mut head, b"content-type", b"application/grpc");
    hpack::encode_literal(&mut trailers, b"grpc-status", b"0");
    let mut answer = vec![0, 0, 0, 0, 25];
    answer.resize(30, 7);
    let (mut spent, mut sent) = (0, 0_u64);
    for round in 0..rounds {
        requests(3 + 2 * BATCH * round, &extra, &mut bytes);
        // The client reads: a window for what was sent.
        frame::put_u32(&mut bytes, frame::WINDOW_UPDATE, 0, 30 * BATCH);
        let begin = Instant::now();
        connection.receive(&bytes, Tick(1), &mut owner).expect("a good client");
        for stream in owner.whole.drain(..) {
            let call = connection.reply_unary(stream, &head, &answer, &trailers);
            owner.hash ^= call.expect("an open call");
        }
        let size = connection.output().len();
        connection.sent(size);
        spent += begin.elapsed().as_nanos();
        sent = sent.rotate_left(3) ^ u64::try_from(size).expect("small");
    }
    let each = spent / u128::from(rounds * BATCH);
    println!("http2  {name:<36} {each:>6} ns a request");
    owner.hash ^ sent
}

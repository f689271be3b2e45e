//! Clients that mean harm, each against a server of its own: while one floods, another is served;
//! the server's memory stays within a stated bound; the flood ends or is held up.

use crate::support::block_on;
use crate::support::call::Client;
use crate::support::peers::{under_test, under_test_is_ours};
use crate::support::server::Server;
use bytes::Bytes;
use ringd::api::proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use ringd::http2::frame::{self, END_HEADERS, END_STREAM};
use ringd::http2::{PREFACE, hpack};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// How long a flood may stand still before it counts as held up.
const HELD_UP: Duration = Duration::from_millis(1500);
/// What a flood may add to the server's memory at its peak, in MiB, where nothing else is said.
const GROWTH_MAX: u64 = 48;
/// The same where answers wait for a client that does not read: long ones are made only as far as
/// they can leave, so it is `output_size_max` of `http2` and a slice, or a row, for each of the
/// first few. All that were asked for would be 10 GiB.
const GROWTH_UNREAD_MAX: u64 = 64;
/// The same where requests come in by halves: `PARTIAL_SIZE_MAX` of `api`, and room to grow.
const GROWTH_HALVES_MAX: u64 = 64 + 96;
/// Puts, each with its get, that another client must get answered during any flood.
const SERVED_MIN: u32 = 5;

/// How a flood came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The server closed the connection.
    Closed,
    /// The server took no more of it for [`HELD_UP`].
    HeldUp,
    /// It was sent whole.
    Whole,
}

/// A client that means harm.
#[derive(Debug)]
pub(crate) struct Attacker {
    stream: TcpStream,
    end: Option<End>,
}

impl Attacker {
    /// A connection that has said nothing yet.
    pub(crate) fn silent(port: u16) -> Self {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_write_timeout(Some(HELD_UP)).expect("a timeout can be set");
        stream.set_read_timeout(Some(HELD_UP)).expect("a timeout can be set");
        Self { stream, end: None }
    }

    /// An HTTP/2 connection with these settings.
    pub(crate) fn new(port: u16, settings: &[(u16, u32)]) -> Self {
        let mut attacker = Self::silent(port);
        let mut hello = PREFACE.to_vec();
        frame::put_settings(&mut hello, settings);
        attacker.send(&hello);
        attacker
    }

    /// Sends; false once the flood has come to its end.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        if self.end.is_none()
            && let Err(error) = self.stream.write_all(bytes)
        {
            let is_held_up = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            self.end = Some(if is_held_up { End::HeldUp } else { End::Closed });
        }
        self.end.is_none()
    }

    /// Takes what has come, a bounded lot; false once the server has closed.
    pub(crate) fn read(&mut self) -> bool {
        let mut bytes = [0; 1 << 16];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.end = Some(End::Closed),
            Err(error) if error.kind() != ErrorKind::WouldBlock => self.end = Some(End::Closed),
            Ok(_) | Err(_) => {}
        }
        self.end.is_none()
    }

    /// How it ended; a connection that the server closed may take bytes for a moment longer.
    fn end(mut self) -> End {
        let mut reads = 0;
        while self.end.is_none() && reads < 1000 {
            let mut bytes = [0; 1 << 16];
            reads += 1;
            match self.stream.read(&mut bytes) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.end = Some(End::Whole),
                Err(_) => self.end = Some(End::Closed),
            }
        }
        self.end.unwrap_or(End::Whole)
    }
}

/// The headers of a call of the KV service.
fn head(method: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    let path = format!("/etcdserverpb.KV/{method}");
    hpack::encode_literal(&mut block, b":path", path.as_bytes());
    hpack::encode_literal(&mut block, b":authority", b"localhost");
    hpack::encode_literal(&mut block, b"content-type", b"application/grpc");
    hpack::encode_literal(&mut block, b"te", b"trailers");
    block
}

/// A call with its message.
pub(crate) fn call(out: &mut Vec<u8>, stream: u32, method: &str, message: &impl prost::Message) {
    frame::put(out, frame::HEADERS, END_HEADERS, stream, &head(method));
    let framed = crate::support::call::framed(0, &message.encode_to_vec());
    frame::put(out, frame::DATA, END_STREAM, stream, &framed);
}

/// Stream numbers of a client, in order.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

/// Puts and gets from another connection until `flood` has ended; how many times.
async fn served_during<T: Send + 'static>(
    client: &Client,
    flood: impl FnOnce() -> T + Send + 'static,
) -> (u32, T) {
    let mut flood = tokio::task::spawn_blocking(flood);
    for round in 0_u32.. {
        if round >= SERVED_MIN && flood.is_finished() {
            return (round, (&mut flood).await.expect("a flood does not panic"));
        }
        let (key, value) = (Bytes::from(format!("k{}", round % 7)), Bytes::from(round.to_string()));
        let put = PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
        let put: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
        assert!(put.is_ok(), "a put during the flood: {put:?}");
        let get = RangeRequest { key, ..RangeRequest::default() };
        let got: Result<RangeResponse, _> = client.unary("/etcdserverpb.KV/Range", &get).await;
        let got = got.expect("a get during the flood");
        assert_eq!(got.kvs.first().map(|kv| &kv.value), Some(&value), "the last put is read");
    }
    unreachable!("the rounds do not end")
}

/// The most memory that a process had so far, in MiB.
fn peak(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib >> 10
}

/// Runs a flood beside a client that is served; how it ended.
fn flood<T: Send + 'static>(
    growth_max: u64,
    prepare: impl AsyncFnOnce(&Client),
    attack: impl FnOnce(u16) -> T + Send + 'static,
) -> T {
    let mut server = Server::start(&under_test());
    let port = server.port();
    let (before, served, outcome) = block_on(async {
        let client = Client::connect(port).await.expect("it answers");
        prepare(&client).await;
        let before = peak(&server);
        let (served, outcome) = served_during(&client, move || attack(port)).await;
        (before, served, outcome)
    });
    let after = peak(&server);
    assert!(server.is_running(), "it has ended");
    if under_test_is_ours() {
        assert!(after - before <= growth_max, "memory grew from {before} to {after} MiB");
    }
    assert!(served >= SERVED_MIN, "{served} puts and gets were served");
    outcome
}

/// Nothing needs to be there.
async fn nothing(_: &Client) {}

/// Sends `batch` again and again, `times` at most, reading nothing.
fn repeat(attacker: &mut Attacker, times: u32, mut batch: impl FnMut(&mut Vec<u8>)) {
    let mut bytes = Vec::new();
    for _ in 0..times {
        bytes.clear();
        batch(&mut bytes);
        if !attacker.send(&bytes) {
            return;
        }
    }
}

#[test]
fn rapid_resets_close_their_connection() {
    let end = flood(GROWTH_MAX, nothing, |port| {
        let (mut attacker, mut streams, head) = (Attacker::new(port, &[]), streams(), head("Put"));
        repeat(&mut attacker, 600, |out| {
            for stream in streams.by_ref().take(100) {
                frame::put(out, frame::HEADERS, END_HEADERS, stream, &head);
                frame::put_u32(out, frame::RST_STREAM, stream, 8);
            }
        });
        attacker.end()
    });
    assert_eq!(end, End::Closed);
}

#[test]
fn continuations_without_end_close_their_connection() {
    let end = flood(GROWTH_MAX, nothing, |port| {
        let mut attacker = Attacker::new(port, &[]);
        let mut opening = Vec::new();
        frame::put(&mut opening, frame::HEADERS, 0, 1, &head("Put"));
        attacker.send(&opening);
        let mut field = Vec::new();
        hpack::encode_literal(&mut field, b"x", &[b'y'; 8000]);
        repeat(&mut attacker, 2000, |out| frame::put(out, frame::CONTINUATION, 0, 1, &field));
        attacker.end()
    });
    assert_eq!(end, End::Closed);
}

#[test]
fn header_bombs_close_their_connection() {
    let end = flood(GROWTH_MAX, nothing, |port| {
        let mut attacker = Attacker::new(port, &[]);
        // One entry that fills the table, then thousands of references to it.
        let mut first = head("Put");
        first.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]); // a value of 4000 bytes
        first.resize(first.len() + 4000, b'y');
        let mut bomb = head("Put");
        bomb.resize(bomb.len() + 8000, 0x80 | 62);
        let mut streams = streams();
        let mut block = first;
        repeat(&mut attacker, 4000, |out| {
            let stream = streams.next().expect("they do not end");
            let block = std::mem::replace(&mut block, bomb.clone());
            frame::put(out, frame::HEADERS, END_HEADERS | END_STREAM, stream, &block);
        });
        attacker.end()
    });
    assert_eq!(end, End::Closed);
}

#[test]
fn settings_without_end_close_their_connection() {
    let end = flood(GROWTH_MAX, nothing, |port| {
        let mut attacker = Attacker::new(port, &[]);
        let mut size = 0;
        repeat(&mut attacker, 20_000, |out| {
            size = (size + 1) % 1000;
            frame::put_settings(out, &[(frame::INITIAL_WINDOW_SIZE, size); 10]);
        });
        attacker.end()
    });
    assert_eq!(end, End::Closed);
}

#[test]
fn pings_without_end_close_their_connection() {
    let end = flood(GROWTH_MAX, nothing, |port| {
        let mut attacker = Attacker::new(port, &[]);
        repeat(&mut attacker, 20_000, |out| frame::put(out, frame::PING, 0, 0, &[7; 8]));
        attacker.end()
    });
    assert_eq!(end, End::Closed);
}

#[test]
fn empty_frames_without_end_close_their_connection() {
    for kind in ["DATA", "HEADERS", "CONTINUATION"] {
        let end = flood(GROWTH_MAX, nothing, move |port| {
            let (mut attacker, mut streams) = (Attacker::new(port, &[]), streams());
            let mut opening = Vec::new();
            match kind {
                "DATA" => frame::put(&mut opening, frame::HEADERS, END_HEADERS, 1, &head("Put")),
                "CONTINUATION" => frame::put(&mut opening, frame::HEADERS, 0, 1, &[]),
                _ => {}
            }
            attacker.send(&opening);
            repeat(&mut attacker, 2000, |out| {
                for stream in streams.by_ref().take(100) {
                    match kind {
                        "DATA" => frame::put(out, frame::DATA, 0, 1, &[]),
                        "HEADERS" => frame::put(out, frame::HEADERS, END_HEADERS, stream, &[]),
                        _ => frame::put(out, frame::CONTINUATION, 0, 1, &[]),
                    }
                }
            });
            attacker.end()
        });
        assert_eq!(end, End::Closed, "empty {kind} frames");
    }
}

/// Ten values of a MiB each under `big/`.
pub(crate) async fn big_values(client: &Client) {
    for number in 0..10 {
        let (key, value) = (Bytes::from(format!("big/{number}")), vec![b'v'; 1 << 20].into());
        let put = PutRequest { key, value, ..PutRequest::default() };
        let put: Result<PutResponse, _> = client.unary("/etcdserverpb.KV/Put", &put).await;
        put.expect("a put is answered");
    }
}

/// All of them.
pub(crate) fn big_range() -> RangeRequest {
    let (key, range_end) = (Bytes::from_static(b"big/"), Bytes::from_static(b"big0"));
    RangeRequest { key, range_end, serializable: true, ..RangeRequest::default() }
}

#[test]
fn a_window_given_byte_by_byte_closes_its_connection() {
    let end = flood(GROWTH_MAX, big_values, |port| {
        let mut attacker = Attacker::new(port, &[(frame::INITIAL_WINDOW_SIZE, 1)]);
        let mut opening = Vec::new();
        call(&mut opening, 1, "Range", &big_range());
        attacker.send(&opening);
        // Far from all of the answer, and each byte of it a frame if the server plays along.
        repeat(&mut attacker, 4000, |out| {
            for _ in 0..10 {
                frame::put_u32(out, frame::WINDOW_UPDATE, 1, 1);
            }
        });
        attacker.end()
    });
    assert_eq!(end, End::Closed);
}

#[test]
fn a_client_that_never_reads_its_answers_costs_a_bounded_lot() {
    for window in [65_535, (1 << 31) - 1] {
        flood(GROWTH_UNREAD_MAX, big_values, move |port| {
            let mut attacker = Attacker::new(port, &[(frame::INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
            let mut opening = Vec::new();
            if window > 65_535 {
                frame::put_u32(&mut opening, frame::WINDOW_UPDATE, 0, window - 65_535);
            }
            attacker.send(&opening);
            let (mut streams, range) = (streams(), big_range());
            // Ten GiB of answers.
            repeat(&mut attacker, 1000, |out| {
                let stream = streams.next().expect("they do not end");
                call(out, stream, "Range", &range);
            });
            // It is still connected while its memory is measured.
            attacker
        });
    }
}

#[test]
fn requests_sent_by_halves_cost_a_bounded_lot() {
    flood(GROWTH_HALVES_MAX, nothing, |port| {
        let mut attacker = Attacker::new(port, &[]);
        let half = vec![b'h'; 16_000];
        let mut streams = streams();
        // A GiB of halves, each message said to be a MiB long; windows returned are not waited for.
        repeat(&mut attacker, 2000, |out| {
            let stream = streams.next().expect("they do not end");
            frame::put(out, frame::HEADERS, END_HEADERS, stream, &head("Put"));
            let mut start = vec![0, 0, 0x10, 0, 0];
            start.extend(&half);
            frame::put(out, frame::DATA, 0, stream, &start);
            for _ in 0..32 {
                frame::put(out, frame::DATA, 0, stream, &half);
            }
        });
        attacker
    });
}

#[test]
fn slow_heads_of_http_1_and_silent_clients_hold_nobody_up() {
    flood(GROWTH_MAX, nothing, |port| {
        let mut attackers: Vec<_> = (0..600).map(|_| Attacker::silent(port)).collect();
        for (nth, attacker) in attackers.iter_mut().enumerate() {
            let first: &[u8] = match nth % 3 {
                0 => b"",
                1 => b"PRI * HTT",
                _ => b"GET /health HTTP/1.1\r\nHost: ",
            };
            attacker.send(first);
        }
        for _ in 0..20 {
            for attacker in attackers.iter_mut().skip(2).step_by(3) {
                attacker.send(b"y");
            }
        }
        attackers
    });
}

#[test]
fn many_idle_connections_hold_nobody_up() {
    flood(GROWTH_MAX, nothing, |port| {
        let mut attackers: Vec<_> = (0..1000).map(|_| Attacker::new(port, &[])).collect();
        assert!(attackers.iter_mut().all(Attacker::read), "each is greeted and kept");
        attackers
    });
}

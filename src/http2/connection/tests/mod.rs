//! A client made by hand, an owner that writes down what it is told, and what they show.

mod floods;
mod flow;
mod life;
mod random;
mod rules;

use super::*;
use crate::http2::frame::Header;
use crate::http2::{Head, hpack};

/// Milliseconds, as a short name.
fn at(ms: u64) -> Tick {
    Tick(ms)
}

/// An owner that writes down every call-back, one line each.
#[derive(Debug, Default)]
struct Owner {
    told: Vec<String>,
    /// Requests that are whole and not answered.
    whole: Vec<StreamId>,
    /// Ids of heads, in order.
    heads: Vec<u64>,
    /// Body bytes by call.
    taken: Vec<(StreamId, usize)>,
    /// Whole requests at which it takes no more.
    full_at: Option<usize>,
}

impl Calls for Owner {
    type Call = u32;

    fn is_full(&self) -> bool {
        self.full_at.is_some_and(|count| self.whole.len() >= count)
    }

    fn on_head(&mut self, stream: StreamId, head: &Head, end: bool) -> u32 {
        let path = String::from_utf8_lossy(head.path()).into_owned();
        self.told.push(format!("{stream} head {path}{}", if end { " end" } else { "" }));
        self.heads.push(head.id());
        self.whole.extend(end.then_some(stream));
        stream.0
    }

    fn on_data(&mut self, stream: StreamId, call: &mut u32, data: &[u8], end: bool) {
        assert_eq!(stream.0, *call, "the call of this stream");
        let text = String::from_utf8_lossy(&data[..data.len().min(10)]).into_owned();
        let end_text = if end { " end" } else { "" };
        self.told.push(format!("{stream} data {} {text}{end_text}", data.len()));
        self.whole.extend(end.then_some(stream));
        self.taken.push((stream, data.len()));
    }

    fn on_trailers(&mut self, stream: StreamId, call: &mut u32, trailers: &Head) {
        assert_eq!(stream.0, *call, "the call of this stream");
        self.told.push(format!("{stream} trailers {}", trailers.fields().count()));
        self.whole.push(stream);
    }

    fn on_reset(&mut self, stream: StreamId, call: u32, code: ErrorCode) {
        assert_eq!(stream.0, call, "the call of this stream");
        self.told.push(format!("{stream} reset {code}"));
    }
}

/// A frame that the server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Seen {
    /// The last 32-bit number of RST_STREAM, GOAWAY (its code) or WINDOW_UPDATE.
    fn number(&self) -> u32 {
        let place = if self.kind == frame::GOAWAY { 4 } else { 0 };
        let bytes = self.payload[place..].first_chunk().expect("a number");
        u32::from_be_bytes(*bytes)
    }
}

/// A connection, its owner, and the client's end in one.
struct World {
    connection: Connection<u32>,
    owner: Owner,
    now: Tick,
}

/// A client's greeting: preface, SETTINGS, and the acknowledgement of ours.
fn greeting() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame::put_settings(&mut bytes, &[]);
    frame::put(&mut bytes, frame::SETTINGS, frame::ACK, 0, &[]);
    bytes
}

impl World {
    /// A greeted connection with nothing left to send.
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let mut world = Self::raw(limits);
        world.send(&greeting()).expect("a good client");
        world.frames();
        world
    }

    /// A connection that has received nothing.
    fn raw(limits: Limits) -> Self {
        let connection = Connection::new(limits, at(0));
        Self { connection, owner: Owner::default(), now: at(0) }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let result = self.connection.receive(bytes, self.now, &mut self.owner);
        self.connection.check_all();
        result.map(|taken| assert_eq!(taken, bytes.len(), "an owner with room takes all"))
    }

    fn tick(&mut self, ms: u64) -> Result<(), Closed> {
        self.now = at(ms);
        let result = self.connection.tick(self.now, &mut self.owner);
        self.connection.check_all();
        result
    }

    /// Reads all output as the client would.
    fn frames(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let output = self.connection.output().to_vec();
            self.connection.sent(output.len());
            let mut rest = &output[..];
            while let Some(header) = Header::read(rest) {
                let (kind, flags, stream) = (header.kind, header.flags, header.stream);
                let (payload, after) = rest[frame::HEADER_SIZE..].split_at(header.size);
                seen.push(Seen { kind, flags, stream, payload: payload.to_vec() });
                rest = after;
            }
            assert!(rest.is_empty(), "output holds whole frames");
            if output.is_empty() {
                return seen;
            }
        }
    }

    /// What the owner was told since the last time.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.owner.told)
    }

    /// Answers a stream whole, in a few bytes.
    fn answer(&mut self, stream: u32) -> Option<u32> {
        let (head, trailers) = blocks();
        self.connection.reply_unary(StreamId(stream), &head, b"answer", &trailers)
    }
}

/// A reply's usual blocks.
fn blocks() -> (Vec<u8>, Vec<u8>) {
    let (mut head, mut trailers) = (Vec::new(), Vec::new());
    hpack::encode_indexed(&mut head, 8);
    hpack::encode_literal(&mut trailers, b"grpc-status", b"0");
    (head, trailers)
}

/// A block of literals.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // Not by the encoder, which refuses bad names.
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a short text");
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

const POST: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/p")];

/// A POST's block with more fields.
fn post(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&POST[..], more].concat())
}

/// A request's HEADERS.
fn head(stream: u32, end: bool) -> Vec<u8> {
    headers(stream, &post(&[]), end)
}

fn headers(stream: u32, block: &[u8], end: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_block(&mut bytes, stream, block, end);
    bytes
}

fn data(stream: u32, payload: &[u8], end: bool) -> Vec<u8> {
    framed(frame::DATA, if end { frame::END_STREAM } else { 0 }, stream, payload)
}

fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put(&mut bytes, kind, flags, stream, payload);
    bytes
}

fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::put_settings(&mut bytes, settings);
    bytes
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    framed(frame::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn rst_stream(stream: u32) -> Vec<u8> {
    framed(frame::RST_STREAM, 0, stream, &ErrorCode::CANCEL.0.to_be_bytes())
}

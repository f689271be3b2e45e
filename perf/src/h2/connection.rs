//! The connection machine: it owns both byte buffers, the windows and the open streams.

use std::collections::VecDeque;

use crate::failure::Failure;
use crate::h2::frame::{self, Head, flag, kind, setting};
use crate::h2::hpack::{Answers, Method, Requests};

/// The window we give to every stream, in bytes: the protocol's largest, never filled.
const STREAM_WINDOW_SIZE: u32 = (1 << 31) - 1;

/// The window we give to the connection, in bytes; renewed when half is used.
const CONNECTION_WINDOW_SIZE: u32 = 1 << 30;

/// Bytes read at once. One frame always fits.
const INPUT_SIZE: usize = 64 * 1024;

/// Bytes that a header block may have over its frames.
const BLOCK_SIZE_MAX: usize = 64 * 1024;

/// How many later streams may end before the oldest open one.
const STREAMS_MAX: usize = 1 << 20;

const _: () = assert!(INPUT_SIZE > frame::HEAD_SIZE + frame::PAYLOAD_SIZE_MAX);

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// With this gRPC status; zero is good.
    Status(u32),
    /// The server reset the stream with this HTTP/2 error code.
    Reset(u32),
}

/// The end of one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// The number given with the request.
    pub(crate) token: u32,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Size of the answer's messages together, in bytes.
    pub(crate) message_size: u64,
    /// The first bytes of the messages, one after the other: as many as [`Connection::keep`] asks.
    pub(crate) body: Vec<u8>,
}

/// An open stream.
#[derive(Debug, Default)]
struct Stream {
    token: u32,
    open: bool,
    /// Whether any number of messages may come, and not just one.
    many: bool,
    incoming: Incoming,
}

/// The messages of an answer as they come in.
#[derive(Debug, Default)]
struct Incoming {
    /// The head of the next message, as far as it has come.
    head: [u8; 5],
    head_size: usize,
    /// Bytes of the current message that are still to come.
    left: usize,
    messages: u32,
    /// Bytes of the messages so far, without their heads.
    size: u64,
    /// Whether a message said that it is compressed.
    compressed: bool,
    body: Vec<u8>,
}

impl Incoming {
    /// Takes the next bytes; keeps of them what fits into `keep` bytes of body.
    fn take(&mut self, mut bytes: &[u8], keep: usize) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (now, later) = bytes.split_at(bytes.len().min(self.left));
                self.left -= now.len();
                self.size += now.len() as u64;
                let room = keep.saturating_sub(self.body.len());
                self.body.extend_from_slice(&now[..now.len().min(room)]);
                bytes = later;
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(5 - self.head_size));
            self.head[self.head_size..self.head_size + now.len()].copy_from_slice(now);
            self.head_size += now.len();
            bytes = later;
            if self.head_size == 5 {
                let [compressed, a, b, c, d] = self.head;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("32 bits fit");
                self.compressed |= compressed != 0;
                self.messages += 1;
                self.head_size = 0;
            }
        }
    }

    /// Whether all that came is whole messages, as many as there may be.
    fn is_whole(&self, many: bool) -> bool {
        let count = if many { self.messages > 0 } else { self.messages == 1 };
        count && self.left == 0 && self.head_size == 0 && !self.compressed
    }
}

/// A request whose body waits for a window.
#[derive(Debug)]
struct Stalled {
    stream: u32,
    window: i64,
    body: Vec<u8>,
    at: usize,
}

/// One HTTP/2 connection of a gRPC client, without its socket.
#[derive(Debug)]
pub(crate) struct Connection {
    input: Vec<u8>,
    /// Unread input is `input[..input_end]`; it starts with a frame's head.
    input_end: usize,
    output: Vec<u8>,
    /// What of `output` has been sent; at most its length.
    output_at: usize,
    requests: Requests,
    answers: Answers,
    /// Streams from `first` in steps of two, closed ones at the front removed.
    streams: VecDeque<Stream>,
    first: u32,
    /// Bytes of DATA we may send on the connection.
    window: i64,
    /// Bytes of DATA we may send on a new stream.
    window_initial: i64,
    payload_size_max: usize,
    streams_max: u32,
    stalled: VecDeque<Stalled>,
    /// Bytes of DATA received since the connection's window was last renewed.
    received: u32,
    ready: bool,
    /// A header block that goes on in CONTINUATION frames: its stream, flags and bytes.
    block: Option<(u32, u8, Vec<u8>)>,
    scratch: Vec<u8>,
    last_message: Option<String>,
    /// Bytes of each answer that are kept.
    keep: usize,
}

impl Connection {
    /// A connection to `authority`; its greeting is already in the output.
    pub(crate) fn new(authority: &str) -> Self {
        let mut output = Vec::with_capacity(INPUT_SIZE);
        output.extend_from_slice(frame::PREFACE);
        let ours = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW_SIZE)];
        frame::settings(&ours, &mut output);
        frame::window_update(0, CONNECTION_WINDOW_SIZE - 65_535, &mut output);
        Self {
            input: vec![0; INPUT_SIZE],
            input_end: 0,
            output,
            output_at: 0,
            requests: Requests::new(authority),
            answers: Answers::new(),
            streams: VecDeque::new(),
            first: 1,
            window: 65_535,
            window_initial: 65_535,
            payload_size_max: frame::PAYLOAD_SIZE_MAX,
            streams_max: u32::MAX,
            stalled: VecDeque::new(),
            received: 0,
            ready: false,
            block: None,
            scratch: Vec::new(),
            last_message: None,
            keep: 0,
        }
    }

    /// Keeps the first `size` bytes of each later answer; at the start none.
    pub(crate) fn keep(&mut self, size: usize) {
        self.keep = size;
    }

    /// Whether the server's settings have come, so that requests may start.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// How many streams the server lets us have open.
    pub(crate) fn streams_max(&self) -> u32 {
        self.streams_max
    }

    /// The last gRPC message that came with a status other than zero.
    pub(crate) fn last_message(&self) -> Option<&str> {
        self.last_message.as_deref()
    }

    /// Bytes to send now.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output[self.output_at..]
    }

    /// Takes note that the first `size` bytes of the output were sent.
    ///
    /// # Panics
    /// When that is more than there was.
    pub(crate) fn on_sent(&mut self, size: usize) {
        self.output_at += size;
        assert!(self.output_at <= self.output.len(), "only what was there can be sent");
        if self.output_at == self.output.len() {
            self.output.clear();
            self.output_at = 0;
        }
    }

    /// Where to read bytes to; never empty.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.input[self.input_end..]
    }

    /// Starts a call; its answer will carry `token`.
    ///
    /// # Errors
    /// When the connection has used up its stream numbers.
    pub(crate) fn request(
        &mut self,
        method: Method,
        token: u32,
        message: &[u8],
    ) -> Result<(), Failure> {
        assert!(self.ready, "requests wait for the server's settings");
        let offset = u32::try_from(self.streams.len()).expect("streams are bounded") * 2;
        let stream = self.first + offset;
        if stream >= 1 << 31 {
            return Err(Failure::Peer("was asked more than one connection may ask".into()));
        }
        let many = method.is_stream();
        self.streams.push_back(Stream { token, open: true, many, ..Stream::default() });
        self.write_headers(method, stream);
        let size = message.len() + 5;
        let length = i64::try_from(size).expect("a message fits in memory");
        let mut prefix = [0; 5];
        let message_size = u32::try_from(message.len()).expect("a message is below 4 GiB");
        prefix[1..].copy_from_slice(&message_size.to_be_bytes());
        let fits = length <= self.window.min(self.window_initial) && size <= self.payload_size_max;
        if fits && self.stalled.is_empty() {
            self.window -= length;
            let flags = flag::END_STREAM;
            Head { size, kind: kind::DATA, flags, stream }.write(&mut self.output);
            self.output.extend_from_slice(&prefix);
            self.output.extend_from_slice(message);
            return Ok(());
        }
        let mut body = prefix.to_vec();
        body.extend_from_slice(message);
        self.stalled.push_back(Stalled { stream, window: self.window_initial, body, at: 0 });
        self.send_stalled();
        Ok(())
    }

    fn write_headers(&mut self, method: Method, stream: u32) {
        self.scratch.clear();
        self.requests.write(method, &mut self.scratch);
        let (size, flags) = (self.scratch.len(), flag::END_HEADERS);
        Head { size, kind: kind::HEADERS, flags, stream }.write(&mut self.output);
        self.output.extend_from_slice(&self.scratch);
    }

    /// Sends what the windows allow of the waiting bodies, in order of their requests.
    fn send_stalled(&mut self) {
        let mut waiting = std::mem::take(&mut self.stalled);
        for request in &mut waiting {
            while request.at < request.body.len() {
                let rest = request.body.len() - request.at;
                let window = usize::try_from(self.window.min(request.window)).unwrap_or(0);
                let size = rest.min(window).min(self.payload_size_max);
                if size == 0 {
                    break;
                }
                let taken = i64::try_from(size).expect("a frame is small");
                self.window -= taken;
                request.window -= taken;
                let flags = if size == rest { flag::END_STREAM } else { 0 };
                let head = Head { size, kind: kind::DATA, flags, stream: request.stream };
                head.write(&mut self.output);
                let end = request.at + size;
                self.output.extend_from_slice(&request.body[request.at..end]);
                request.at = end;
            }
        }
        waiting.retain(|request| request.at < request.body.len());
        self.stalled = waiting;
    }

    /// Takes in `size` bytes that were read to [`Self::space`]; ended calls go to `ended`.
    ///
    /// # Errors
    /// When the server broke the protocol or said goodbye.
    pub(crate) fn on_received(
        &mut self,
        size: usize,
        ended: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        self.input_end += size;
        let mut input = std::mem::take(&mut self.input);
        let result = self.read_frames(&input[..self.input_end], ended);
        if let Ok(used) = result {
            input.copy_within(used..self.input_end, 0);
            self.input_end -= used;
        }
        self.input = input;
        result.map(|_| ())
    }

    fn read_frames(&mut self, input: &[u8], ended: &mut Vec<Answer>) -> Result<usize, Failure> {
        let mut at = 0;
        while let Some(head) = Head::read(&input[at..]) {
            if head.size > frame::PAYLOAD_SIZE_MAX {
                return Err(broke("sent a frame larger than allowed (is this HTTP/2?)"));
            }
            let start = at + frame::HEAD_SIZE;
            let Some(payload) = input.get(start..start + head.size) else { break };
            self.on_frame(head, payload, ended)?;
            at = start + head.size;
        }
        Ok(at)
    }

    fn on_frame(
        &mut self,
        head: Head,
        payload: &[u8],
        ended: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(broke("sent another frame inside a header block"));
        }
        match head.kind {
            kind::DATA => self.on_data(head, payload, ended),
            kind::HEADERS => {
                let content = frame::content(head, payload).ok_or_else(bad_padding)?;
                self.on_block(head.stream, head.flags, content, head.has(flag::END_HEADERS), ended)
            }
            kind::CONTINUATION => {
                let Some((stream, flags, mut block)) = self.block.take() else {
                    return Err(broke("sent a continuation of nothing"));
                };
                if block.len() + payload.len() > BLOCK_SIZE_MAX || stream != head.stream {
                    return Err(broke("sent a header block that does not end"));
                }
                block.extend_from_slice(payload);
                self.on_block(stream, flags, &block, head.has(flag::END_HEADERS), ended)
            }
            kind::RST_STREAM => {
                let code = frame::number(payload, 0).ok_or_else(short)?;
                self.close(head.stream, Outcome::Reset(code), ended);
                Ok(())
            }
            kind::SETTINGS => self.on_settings(head, payload),
            kind::PING => {
                if !head.has(flag::ACK) {
                    let size = payload.len();
                    let (kind, flags) = (kind::PING, flag::ACK);
                    Head { size, kind, flags, stream: 0 }.write(&mut self.output);
                    self.output.extend_from_slice(payload);
                }
                Ok(())
            }
            kind::GOAWAY => Err(goaway(payload)),
            kind::WINDOW_UPDATE => self.on_window_update(head.stream, payload),
            kind::PUSH_PROMISE => Err(broke("pushed, though that was refused")),
            _ => Ok(()),
        }
    }

    /// The open stream with this number.
    fn stream(&mut self, stream: u32) -> Option<&mut Stream> {
        let offset = stream.checked_sub(self.first)?;
        let found = self.streams.get_mut(usize::try_from(offset / 2).ok()?)?;
        (found.open && offset % 2 == 0).then_some(found)
    }

    fn close(&mut self, number: u32, outcome: Outcome, ended: &mut Vec<Answer>) {
        let Some(stream) = self.stream(number) else { return };
        stream.open = false;
        let body = std::mem::take(&mut stream.incoming.body);
        let message_size = stream.incoming.size;
        ended.push(Answer { token: stream.token, outcome, message_size, body });
        while self.streams.front().is_some_and(|stream| !stream.open) {
            self.streams.pop_front();
            self.first += 2;
        }
        if !self.stalled.is_empty() {
            self.stalled.retain(|request| request.stream != number);
        }
    }

    fn on_data(
        &mut self,
        head: Head,
        payload: &[u8],
        ended: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        let content = frame::content(head, payload).ok_or_else(bad_padding)?;
        self.received += u32::try_from(payload.len()).expect("a frame is small");
        if self.received >= CONNECTION_WINDOW_SIZE / 2 {
            frame::window_update(0, self.received, &mut self.output);
            self.received = 0;
        }
        let keep = self.keep;
        if let Some(stream) = self.stream(head.stream) {
            stream.incoming.take(content, keep);
        }
        if head.has(flag::END_STREAM) && self.stream(head.stream).is_some() {
            return Err(broke("ended an answer without a gRPC status"));
        }
        if self.streams.len() > STREAMS_MAX {
            return Err(broke("left a request unanswered while a million later ones ended"));
        }
        let _ = ended;
        Ok(())
    }

    fn on_block(
        &mut self,
        stream: u32,
        flags: u8,
        block: &[u8],
        whole: bool,
        ended: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        if !whole {
            self.block = Some((stream, flags, block.to_vec()));
            return Ok(());
        }
        let said = self.answers.read(block).ok_or_else(|| broke("sent a broken header block"))?;
        if said.http_status.is_some_and(|status| status != 200) {
            let status = said.http_status.unwrap_or(0);
            return Err(Failure::Peer(format!("answered with HTTP status {status}")));
        }
        if flags & flag::END_STREAM == 0 {
            return Ok(());
        }
        let Some(status) = said.grpc_status else {
            return Err(broke("ended an answer without a gRPC status"));
        };
        if status != 0 {
            self.last_message = said.message;
        } else if self.stream(stream).is_some_and(|open| !open.incoming.is_whole(open.many)) {
            return Err(broke("ended an answer whose message is not whole"));
        }
        self.close(stream, Outcome::Status(status), ended);
        Ok(())
    }

    fn on_settings(&mut self, head: Head, payload: &[u8]) -> Result<(), Failure> {
        if head.has(flag::ACK) {
            return Ok(());
        }
        for (name, value) in frame::read_settings(payload) {
            match name {
                setting::HEADER_TABLE_SIZE if !self.ready => self.requests.on_table_size(value),
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value,
                setting::INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.window_initial;
                    self.window_initial = i64::from(value);
                    for request in &mut self.stalled {
                        request.window += change;
                    }
                }
                setting::MAX_FRAME_SIZE => {
                    let size = usize::try_from(value).expect("32 bits fit");
                    self.payload_size_max = size.clamp(frame::PAYLOAD_SIZE_MAX, (1 << 24) - 1);
                }
                _ => {}
            }
        }
        self.ready = true;
        Head { size: 0, kind: kind::SETTINGS, flags: flag::ACK, stream: 0 }.write(&mut self.output);
        self.send_stalled();
        Ok(())
    }

    fn on_window_update(&mut self, stream: u32, payload: &[u8]) -> Result<(), Failure> {
        let increment = frame::number(payload, 0).ok_or_else(short)? & 0x7fff_ffff;
        if stream == 0 {
            self.window += i64::from(increment);
        } else if let Some(request) = self.stalled.iter_mut().find(|r| r.stream == stream) {
            request.window += i64::from(increment);
        }
        if !self.stalled.is_empty() {
            self.send_stalled();
        }
        Ok(())
    }
}

fn broke(how: &str) -> Failure {
    Failure::Peer(how.to_owned())
}

fn bad_padding() -> Failure {
    broke("sent a frame with more padding than content")
}

fn short() -> Failure {
    broke("sent a frame that is too short for its type")
}

fn goaway(payload: &[u8]) -> Failure {
    let code = frame::number(payload, 4).unwrap_or(0);
    let text = String::from_utf8_lossy(payload.get(8..).unwrap_or_default()).into_owned();
    Failure::Peer(format!("said goodbye (GOAWAY, error code {code}) {text:?}"))
}

#[cfg(test)]
mod tests;

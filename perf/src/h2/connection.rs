//! The connection machine: it owns both byte buffers, the windows and the open streams.

use std::collections::VecDeque;

use crate::failure::Failure;
use crate::h2::frame::{self, Head, flag, kind, setting};
use crate::h2::hpack::{Answers, Method, Requests};

/// The window that we give to every stream unless told otherwise, in bytes: the protocol's largest.
const STREAM_WINDOW_SIZE: u32 = (1 << 31) - 1;

/// The window of a stream where nothing is said about it, in bytes (RFC 9113 §6.9.2).
const STREAM_WINDOW_SIZE_SMALL: u32 = 65_535;

/// The window we give to the connection, in bytes; renewed when half is used.
const CONNECTION_WINDOW_SIZE: u32 = 1 << 30;

/// Bytes read at once. One frame always fits.
const INPUT_SIZE: usize = 64 * 1024;

/// Bytes that the output has room for at first.
const OUTPUT_SIZE: usize = 4096;

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

/// Whether the server may go on sending what its client does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Windows {
    /// As large as there are, and renewed.
    Wide,
    /// A small one for each stream, which is never renewed.
    Withheld,
}

/// Messages of talks, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    bytes: Vec<u8>,
    /// Whose each is, and where it ends.
    ends: Vec<(u32, usize)>,
}

impl Heard {
    fn push(&mut self, token: u32, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push((token, self.bytes.len()));
    }

    /// Each message, with the number given when its talk was opened.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(token, end)| {
            let message = &self.bytes[start..*end];
            start = *end;
            (*token, message)
        })
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// An open stream.
#[derive(Debug, Default)]
struct Stream {
    token: u32,
    open: bool,
    /// Whether any number of messages may come, and not just one.
    many: bool,
    /// Whether messages are handed over as they come.
    talk: bool,
    /// Bytes of DATA we may send on it.
    window: i64,
    /// Bytes of DATA received since its window was last renewed.
    received: u32,
    incoming: Incoming,
}

impl Stream {
    /// Whether all that came is whole messages, as many as there may be.
    fn is_whole(&self) -> bool {
        let messages = self.incoming.messages;
        let count = self.talk || if self.many { messages > 0 } else { messages == 1 };
        count && self.incoming.is_whole()
    }
}

/// The stream with this number among those from `first` on, if it is open.
fn find(streams: &mut VecDeque<Stream>, first: u32, number: u32) -> Option<&mut Stream> {
    let offset = number.checked_sub(first)?;
    let found = streams.get_mut(usize::try_from(offset / 2).ok()?)?;
    (found.open && offset % 2 == 0).then_some(found)
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
            (bytes, _) = self.step(bytes, keep);
        }
    }

    /// Takes the next bytes and hands over each message that is whole with them.
    fn take_each(&mut self, mut bytes: &[u8], mut hand_over: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if let Some((message, later)) = self.whole(bytes) {
                hand_over(message);
                bytes = later;
                continue;
            }
            let done;
            (bytes, done) = self.step(bytes, usize::MAX);
            if done {
                hand_over(&self.body);
                self.body.clear();
            }
        }
    }

    /// The message that `bytes` begins with and what comes after it, unless a part of it came
    /// earlier or is still to come.
    fn whole<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        if self.left > 0 || self.head_size > 0 {
            return None;
        }
        let (head, rest) = bytes.split_first_chunk::<5>()?;
        let [compressed, a, b, c, d] = *head;
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("32 bits fit");
        let (message, later) = rest.split_at_checked(size)?;
        self.compressed |= compressed != 0;
        self.messages = self.messages.wrapping_add(1);
        self.size += size as u64;
        Some((message, later))
    }

    /// Takes some of the next bytes, which are not none; returns the others, and whether a message
    /// has become whole.
    fn step<'a>(&mut self, bytes: &'a [u8], keep: usize) -> (&'a [u8], bool) {
        if self.left > 0 {
            let (now, later) = bytes.split_at(bytes.len().min(self.left));
            self.left -= now.len();
            self.size += now.len() as u64;
            let room = keep.saturating_sub(self.body.len());
            self.body.extend_from_slice(&now[..now.len().min(room)]);
            return (later, self.left == 0);
        }
        let (now, later) = bytes.split_at(bytes.len().min(5 - self.head_size));
        self.head[self.head_size..self.head_size + now.len()].copy_from_slice(now);
        self.head_size += now.len();
        if self.head_size < 5 {
            return (later, false);
        }
        let [compressed, a, b, c, d] = self.head;
        self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("32 bits fit");
        self.compressed |= compressed != 0;
        self.messages = self.messages.wrapping_add(1);
        self.head_size = 0;
        (later, self.left == 0)
    }

    /// Whether all that came is whole messages.
    fn is_whole(&self) -> bool {
        self.left == 0 && self.head_size == 0 && !self.compressed
    }
}

/// A message that waits for a window.
#[derive(Debug)]
struct Stalled {
    stream: u32,
    body: Vec<u8>,
    at: usize,
    /// Whether it is its stream's last.
    last: bool,
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
    /// Bytes of DATA received since the connection's window was last renewed; it always is.
    received: u32,
    ready: bool,
    /// A header block that goes on in CONTINUATION frames: its stream, flags and bytes.
    block: Option<(u32, u8, Vec<u8>)>,
    scratch: Vec<u8>,
    last_message: Option<String>,
    /// Bytes of each answer that are kept.
    keep: usize,
    heard: Heard,
    /// The window that every stream begins with.
    stream_window: u32,
    /// Whether streams' windows are renewed when half is used.
    renews: bool,
}

impl Connection {
    /// A connection to `authority` with wide windows; its greeting is already in the output.
    pub(crate) fn new(authority: &str) -> Self {
        Self::with_windows(authority, Windows::Wide)
    }

    /// A connection to `authority`; its greeting is already in the output.
    pub(crate) fn with_windows(authority: &str, windows: Windows) -> Self {
        let mut output = Vec::with_capacity(OUTPUT_SIZE);
        output.extend_from_slice(frame::PREFACE);
        let (stream_window, renews) = match windows {
            Windows::Wide => (STREAM_WINDOW_SIZE, true),
            Windows::Withheld => (STREAM_WINDOW_SIZE_SMALL, false),
        };
        let ours = [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, stream_window)];
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
            heard: Heard::default(),
            stream_window,
            renews,
        }
    }

    /// Hands over what talks have heard since the last time, in exchange for `heard`, which is
    /// cleared and filled anew.
    pub(crate) fn hear(&mut self, heard: &mut Heard) {
        heard.clear();
        std::mem::swap(&mut self.heard, heard);
    }

    /// Gives all windows that were withheld, and keeps renewing them.
    pub(crate) fn give_windows(&mut self) {
        self.renews = true;
        for (number, stream) in (self.first..).step_by(2).zip(&mut self.streams) {
            if stream.open && stream.received > 0 {
                frame::window_update(number, stream.received, &mut self.output);
                stream.received = 0;
            }
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
        let stream = self.start(method, token)?;
        self.send(stream, message, true);
        Ok(())
    }

    /// Opens a talk; what is heard in it, and its end, will carry `token`. Returns its number here.
    ///
    /// A connection that also makes calls is not for it: it would be the one that never ends.
    ///
    /// # Errors
    /// When the connection has used up its stream numbers.
    pub(crate) fn open(&mut self, method: Method, token: u32) -> Result<u32, Failure> {
        assert!(method.is_talk(), "other calls have one message and an end");
        self.start(method, token)
    }

    /// Says something in a talk; nobody hears it when the server has ended it.
    pub(crate) fn say(&mut self, stream: u32, message: &[u8]) {
        if find(&mut self.streams, self.first, stream).is_some() {
            self.send(stream, message, false);
        }
    }

    /// Opens a stream by its headers.
    fn start(&mut self, method: Method, token: u32) -> Result<u32, Failure> {
        assert!(self.ready, "requests wait for the server's settings");
        let offset = u32::try_from(self.streams.len()).expect("streams are bounded") * 2;
        let number = self.first + offset;
        if number >= 1 << 31 {
            return Err(Failure::Peer("was asked more than one connection may ask".into()));
        }
        let (many, talk, window) = (method.is_stream(), method.is_talk(), self.window_initial);
        let stream = Stream { token, open: true, many, talk, window, ..Stream::default() };
        self.streams.push_back(stream);
        self.write_headers(method, number);
        Ok(number)
    }

    /// Sends a message on an open stream, or what of it the windows allow.
    fn send(&mut self, number: u32, message: &[u8], last: bool) {
        let size = message.len() + 5;
        let length = i64::try_from(size).expect("a message fits in memory");
        let mut prefix = [0; 5];
        let message_size = u32::try_from(message.len()).expect("a message is below 4 GiB");
        prefix[1..].copy_from_slice(&message_size.to_be_bytes());
        let stream = find(&mut self.streams, self.first, number).expect("the stream is open");
        let fits = length <= self.window.min(stream.window) && size <= self.payload_size_max;
        if fits && self.stalled.is_empty() {
            self.window -= length;
            stream.window -= length;
            let flags = if last { flag::END_STREAM } else { 0 };
            Head { size, kind: kind::DATA, flags, stream: number }.write(&mut self.output);
            self.output.extend_from_slice(&prefix);
            self.output.extend_from_slice(message);
            return;
        }
        let mut body = prefix.to_vec();
        body.extend_from_slice(message);
        self.stalled.push_back(Stalled { stream: number, body, at: 0, last });
        self.send_stalled();
    }

    fn write_headers(&mut self, method: Method, stream: u32) {
        self.scratch.clear();
        self.requests.write(method, &mut self.scratch);
        let (size, flags) = (self.scratch.len(), flag::END_HEADERS);
        Head { size, kind: kind::HEADERS, flags, stream }.write(&mut self.output);
        self.output.extend_from_slice(&self.scratch);
    }

    /// Sends what the windows allow of the waiting messages, in their order.
    fn send_stalled(&mut self) {
        for message in &mut self.stalled {
            let stream = find(&mut self.streams, self.first, message.stream);
            let stream = stream.expect("what waits is on an open stream");
            while message.at < message.body.len() {
                let rest = message.body.len() - message.at;
                let window = usize::try_from(self.window.min(stream.window)).unwrap_or(0);
                let size = rest.min(window).min(self.payload_size_max);
                if size == 0 {
                    break;
                }
                let taken = i64::try_from(size).expect("a frame is small");
                self.window -= taken;
                stream.window -= taken;
                let flags = if message.last && size == rest { flag::END_STREAM } else { 0 };
                let head = Head { size, kind: kind::DATA, flags, stream: message.stream };
                head.write(&mut self.output);
                let end = message.at + size;
                self.output.extend_from_slice(&message.body[message.at..end]);
                message.at = end;
            }
        }
        self.stalled.retain(|message| message.at < message.body.len());
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
    fn stream(&mut self, number: u32) -> Option<&mut Stream> {
        find(&mut self.streams, self.first, number)
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
            self.stalled.retain(|message| message.stream != number);
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
        if let Some(stream) = find(&mut self.streams, self.first, head.stream) {
            let token = stream.token;
            if stream.talk {
                stream.incoming.take_each(content, |message| self.heard.push(token, message));
            } else {
                stream.incoming.take(content, self.keep);
            }
            stream.received += u32::try_from(payload.len()).expect("a frame is small");
            if stream.received > self.stream_window {
                return Err(broke("sent more than the window of a stream allows"));
            }
            if self.renews && stream.received >= self.stream_window / 2 {
                frame::window_update(head.stream, stream.received, &mut self.output);
                stream.received = 0;
            }
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
        } else if self.stream(stream).is_some_and(|open| !open.is_whole()) {
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
                    for stream in &mut self.streams {
                        stream.window += change;
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
        } else if let Some(open) = self.stream(stream) {
            open.window += i64::from(increment);
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

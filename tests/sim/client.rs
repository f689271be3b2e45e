//! A small gRPC client as a machine: it makes the bytes of calls and reads the bytes of answers.
//!
//! It shares no code with the server's side: frames and header fields are written and read here by
//! hand. It believes nothing: whatever is not an answer to one of its calls is an error.

use crate::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// The error code of a call that is given up.
const CANCEL: u32 = 8;
/// The protocol's own initial window.
const WINDOW: u32 = 65_535;

/// How one client behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The window it grants each stream, in bytes.
    pub(crate) window: u32,
    /// It cuts its messages and header blocks into many frames, some padded.
    pub(crate) pieces: bool,
    /// It lets header fields into the server's table.
    pub(crate) indexing: bool,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Well, with these messages.
    Messages(Vec<Vec<u8>>),
    /// With a gRPC status other than OK.
    Status(u32, String),
    /// With a reset: nobody knows.
    Reset,
}

/// The end of one call.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) call: usize,
    pub(crate) end: End,
}

/// What was heard on a stream that stays open.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A message.
    Message(Vec<u8>),
    /// Its end.
    Over(End),
}

/// A stream that stays open: messages go and come at any time.
#[derive(Debug, Default)]
struct Open {
    has_head: bool,
    body: Vec<u8>,
    /// Nobody reads it: its window is not filled up.
    is_stalled: bool,
}

/// A call that waits for its answer.
#[derive(Debug)]
struct Waiting {
    call: usize,
    has_head: bool,
    body: Vec<u8>,
}

/// One connection from the client's side.
#[derive(Debug)]
pub(crate) struct Client {
    manner: Manner,
    /// What is to be sent and has not left yet.
    pub(crate) out: Vec<u8>,
    input: Vec<u8>,
    stream_next: u32,
    waiting: BTreeMap<u32, Waiting>,
    open: BTreeMap<u32, Open>,
    /// What was heard on streams that stay open, by stream.
    heard: Vec<(u32, Heard)>,
    /// Bytes that all streams together may still bring, and each single one.
    window: i64,
    windows: BTreeMap<u32, i64>,
    /// Streams that were given up: what still comes on them is of no account.
    given_up: BTreeSet<u32>,
}

impl Client {
    /// A connection just made.
    pub(crate) fn new(manner: Manner) -> Self {
        let mut out = PREFACE.to_vec();
        let mut settings = Vec::new();
        settings.extend_from_slice(&4_u16.to_be_bytes());
        settings.extend_from_slice(&manner.window.to_be_bytes());
        put_frame(&mut out, SETTINGS, 0, 0, &settings);
        Self {
            manner,
            out,
            input: Vec::new(),
            stream_next: 1,
            waiting: BTreeMap::new(),
            open: BTreeMap::new(),
            heard: Vec::new(),
            window: i64::from(WINDOW),
            windows: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// Calls that wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The stream that the next call goes by.
    pub(crate) fn next_stream(&self) -> u32 {
        self.stream_next
    }

    /// The calls that wait.
    pub(crate) fn calls(&self) -> impl Iterator<Item = usize> {
        self.waiting.values().map(|waiting| waiting.call)
    }

    /// Gives up one of the calls that wait.
    pub(crate) fn give_up(&mut self, dice: &mut Dice) {
        let streams: Vec<u32> = self.waiting.keys().copied().collect();
        if streams.is_empty() {
            return;
        }
        let stream = dice.pick(&streams);
        self.waiting.remove(&stream);
        self.given_up.insert(stream);
        put_frame(&mut self.out, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Calls `path` with a message, with so many milliseconds for the answer.
    pub(crate) fn call(
        &mut self,
        call: usize,
        path: &str,
        message: &[u8],
        deadline: Option<u64>,
        dice: &mut Dice,
    ) {
        let stream = self.stream_next;
        self.stream_next += 2;
        self.waiting.insert(stream, Waiting { call, has_head: false, body: Vec::new() });
        self.windows.insert(stream, i64::from(self.manner.window));
        self.put_head(stream, path, deadline, dice);
        let body = frame_message(message);
        let mut rest = &body[..];
        while !rest.is_empty() {
            let most = rest.len().min(16_000);
            let cut = self.manner.pieces && dice.chance(50);
            let n = if cut { dice.index(most) + 1 } else { most };
            let last = n == rest.len() && !(cut && dice.chance(20));
            self.put_data(stream, &rest[..n], last, dice);
            rest = &rest[n..];
            if rest.is_empty() && !last {
                self.put_data(stream, &[], true, dice);
            }
        }
    }

    /// Begins a call of `path` whose messages go and come at any time; its stream.
    pub(crate) fn open(&mut self, path: &str, dice: &mut Dice) -> u32 {
        let stream = self.stream_next;
        self.stream_next += 2;
        self.open.insert(stream, Open::default());
        self.windows.insert(stream, i64::from(self.manner.window));
        self.put_head(stream, path, None, dice);
        stream
    }

    /// Sends a message on a stream that stays open.
    pub(crate) fn send(&mut self, stream: u32, message: &[u8], dice: &mut Dice) {
        let body = frame_message(message);
        let mut rest = &body[..];
        while !rest.is_empty() {
            let cut = self.manner.pieces && dice.chance(50);
            let n = if cut { dice.index(rest.len()) + 1 } else { rest.len() };
            self.put_data(stream, &rest[..n], false, dice);
            rest = &rest[n..];
        }
    }

    /// Gives up a stream that stays open.
    pub(crate) fn abandon(&mut self, stream: u32) {
        if self.open.remove(&stream).is_some() {
            self.given_up.insert(stream);
            put_frame(&mut self.out, RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
        }
    }

    /// Reads a stream that stays open no more, or again.
    pub(crate) fn stall(&mut self, stream: u32, is_stalled: bool) {
        let Some(open) = self.open.get_mut(&stream) else { return };
        open.is_stalled = is_stalled;
        if !is_stalled {
            let window = self.windows.get_mut(&stream).expect("made with the stream");
            grant(&mut self.out, stream, window, self.manner.window);
        }
    }

    /// Streams that stay open, and whether each is read.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (u32, bool)> {
        self.open.iter().map(|(stream, open)| (*stream, !open.is_stalled))
    }

    /// What was heard since this was last asked.
    pub(crate) fn take_heard(&mut self) -> Vec<(u32, Heard)> {
        std::mem::take(&mut self.heard)
    }

    fn put_head(&mut self, stream: u32, path: &str, deadline: Option<u64>, dice: &mut Dice) {
        // POST and http are of the static table.
        let mut block = vec![0x83, 0x86];
        let known = if self.manner.indexing { 0x40 } else { 0 };
        block.push(known | 4);
        put_text(&mut block, path);
        block.push(known | 1);
        put_text(&mut block, "sim");
        block.push(known);
        put_text(&mut block, "content-type");
        put_text(&mut block, "application/grpc");
        block.push(0);
        put_text(&mut block, "te");
        put_text(&mut block, "trailers");
        if let Some(ms) = deadline {
            block.push(0);
            put_text(&mut block, "grpc-timeout");
            put_text(&mut block, &format!("{ms}m"));
        }
        let cut = if self.manner.pieces && dice.chance(30) {
            dice.index(block.len() - 1) + 1
        } else {
            block.len()
        };
        let is_whole = cut == block.len();
        let flags = if is_whole { END_HEADERS } else { 0 };
        put_frame(&mut self.out, HEADERS, flags, stream, &block[..cut]);
        if !is_whole {
            put_frame(&mut self.out, CONTINUATION, END_HEADERS, stream, &block[cut..]);
        }
    }

    fn put_data(&mut self, stream: u32, bytes: &[u8], last: bool, dice: &mut Dice) {
        let end = if last { END_STREAM } else { 0 };
        if !(self.manner.pieces && dice.chance(20)) {
            return put_frame(&mut self.out, DATA, end, stream, bytes);
        }
        let padding = dice.index(20);
        let mut padded = vec![u8::try_from(padding).expect("small")];
        padded.extend_from_slice(bytes);
        padded.resize(padded.len() + padding, 0);
        put_frame(&mut self.out, DATA, end | PADDED, stream, &padded);
    }

    /// Takes in what was received, cut anywhere; the calls that it ends.
    ///
    /// # Errors
    /// Bytes that are no answer to what was asked.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Answer>, String> {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut answers = Vec::new();
        let mut rest = &input[..];
        while let Some((head, after)) = rest.split_first_chunk::<9>() {
            let size =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if size > 16_384 {
                return Err(format!("a frame of {size} bytes, above what was allowed"));
            }
            let Some(payload) = after.get(..size) else { break };
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            self.take(head[3], head[4], stream, payload, &mut answers)?;
            rest = &after[size..];
        }
        self.input = rest.to_vec();
        Ok(answers)
    }

    fn take(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        answers: &mut Vec<Answer>,
    ) -> Result<(), String> {
        match kind {
            SETTINGS if flags & ACK == 0 => put_frame(&mut self.out, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => put_frame(&mut self.out, PING, ACK, 0, payload),
            SETTINGS | PING | WINDOW_UPDATE | GOAWAY => {}
            DATA if self.given_up.contains(&stream) => {
                self.window -= i64::try_from(payload.len()).expect("small");
                grant(&mut self.out, 0, &mut self.window, WINDOW);
            }
            HEADERS if self.given_up.contains(&stream) => {}
            RST_STREAM => {
                if self.open.remove(&stream).is_some() {
                    self.heard.push((stream, Heard::Over(End::Reset)));
                }
                if let Some(waiting) = self.waiting.remove(&stream) {
                    answers.push(Answer { call: waiting.call, end: End::Reset });
                }
            }
            DATA => self.take_data(flags, stream, payload)?,
            HEADERS => {
                if flags & END_HEADERS == 0 || flags & PADDED != 0 {
                    return Err(format!("headers of stream {stream} with flags {flags:x}"));
                }
                answers.extend(self.take_headers(stream, payload, flags & END_STREAM != 0)?);
            }
            _ => return Err(format!("a frame of kind {kind} on stream {stream}")),
        }
        Ok(())
    }

    fn take_data(&mut self, flags: u8, stream: u32, payload: &[u8]) -> Result<(), String> {
        let open = self.open.get_mut(&stream);
        let is_read = open.as_ref().is_none_or(|open| !open.is_stalled);
        let (has_head, body) = match (open, self.waiting.get_mut(&stream)) {
            (Some(open), _) => (open.has_head, &mut open.body),
            (None, Some(waiting)) => (waiting.has_head, &mut waiting.body),
            (None, None) => return Err(format!("data on stream {stream}, which has none")),
        };
        if !has_head || flags != 0 {
            return Err(format!("data of stream {stream} before its head, or with its end"));
        }
        body.extend_from_slice(payload);
        if let Some(open) = self.open.get_mut(&stream) {
            while let Some(message) = next_message(&mut open.body)? {
                self.heard.push((stream, Heard::Message(message)));
            }
        }
        let size = i64::try_from(payload.len()).expect("small");
        let window = self.windows.get_mut(&stream).expect("made with the call");
        self.window -= size;
        *window -= size;
        if self.window < 0 || *window < 0 {
            return Err(format!("data of stream {stream} beyond its window"));
        }
        grant(&mut self.out, 0, &mut self.window, WINDOW);
        if is_read {
            grant(&mut self.out, stream, window, self.manner.window);
        }
        Ok(())
    }

    fn take_headers(
        &mut self,
        stream: u32,
        block: &[u8],
        end: bool,
    ) -> Result<Option<Answer>, String> {
        let fields = read_fields(block)?;
        let value = |name: &str| fields.iter().find(|field| field.0 == name).map(|f| f.1.clone());
        let has_head = match (self.open.get_mut(&stream), self.waiting.get_mut(&stream)) {
            (Some(open), _) => &mut open.has_head,
            (None, Some(waiting)) => &mut waiting.has_head,
            (None, None) => return Err(format!("a head on stream {stream}, asked nothing")),
        };
        if !*has_head {
            let status = value(":status");
            if status.as_deref() != Some("200") {
                return Err(format!("stream {stream} has HTTP status {status:?}"));
            }
            *has_head = true;
            if !end {
                return Ok(None);
            }
        }
        if !end {
            return Err(format!("a second head on stream {stream} does not end it"));
        }
        self.windows.remove(&stream);
        let (open, waiting) = (self.open.remove(&stream), self.waiting.remove(&stream));
        assert!(open.is_some() || waiting.is_some(), "found above");
        let body = waiting.as_ref().map_or(&[][..], |it| &it.body);
        let status = value("grpc-status").ok_or("an answer without a status")?;
        let text = value("grpc-message").unwrap_or_default();
        let end = match status.parse::<u32>() {
            Ok(0) => End::Messages(unframe(body)?),
            Ok(code) => End::Status(code, text),
            Err(_) => return Err(format!("grpc-status is {status:?}")),
        };
        let Some(Waiting { call, .. }) = waiting else {
            self.heard.push((stream, Heard::Over(end)));
            return Ok(None);
        };
        Ok(Some(Answer { call, end }))
    }
}

/// Fills up a window that is half used.
fn grant(out: &mut Vec<u8>, stream: u32, window: &mut i64, whole: u32) {
    let used = i64::from(whole) - *window;
    if used * 2 >= i64::from(whole) {
        let used = u32::try_from(used).expect("within the window");
        put_frame(out, WINDOW_UPDATE, 0, stream, &used.to_be_bytes());
        *window = i64::from(whole);
    }
}

/// A message as it stands in a body.
fn frame_message(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    let size = u32::try_from(message.len()).expect("messages are small");
    body.extend_from_slice(&size.to_be_bytes());
    body.extend_from_slice(message);
    body
}

/// Takes the first message out of a body, if it is whole.
fn next_message(body: &mut Vec<u8>) -> Result<Option<Vec<u8>>, String> {
    let Some((head, rest)) = body.split_first_chunk::<5>() else { return Ok(None) };
    let [0, a, b, c, d] = *head else {
        return Err(format!("a message begins with {}", head[0]));
    };
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("64 bits");
    let Some(message) = rest.get(..size) else { return Ok(None) };
    let message = message.to_vec();
    body.drain(..head.len() + size);
    Ok(Some(message))
}

/// The messages of an answer's body.
fn unframe(body: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (mut rest, mut messages) = (body, Vec::new());
    while !rest.is_empty() {
        let cut = || format!("a body of {} bytes does not end with a message", body.len());
        let (head, after) = rest.split_first_chunk::<5>().ok_or_else(cut)?;
        let [0, a, b, c, d] = *head else {
            return Err(format!("a message begins with {}", head[0]));
        };
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).expect("64 bits");
        let (message, after) = after.split_at_checked(size).ok_or_else(cut)?;
        messages.push(message.to_vec());
        rest = after;
    }
    Ok(messages)
}

fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let size = u32::try_from(payload.len()).expect("frames are small");
    out.extend_from_slice(&size.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// A string of HPACK, not coded.
fn put_text(block: &mut Vec<u8>, text: &str) {
    assert!(text.len() < 127, "texts are short");
    block.push(u8::try_from(text.len()).expect("short"));
    block.extend_from_slice(text.as_bytes());
}

/// The fields of a block that uses no table and no Huffman code.
fn read_fields(mut block: &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    while let Some((&first, rest)) = block.split_first() {
        block = rest;
        if first == 0x88 {
            fields.push((":status".to_owned(), "200".to_owned()));
            continue;
        }
        if first & 0xf0 != 0 {
            return Err(format!("a header field begins with {first:x}"));
        }
        let name = match read_integer(first, 4, &mut block)? {
            0 => read_text(&mut block)?,
            8 => ":status".to_owned(),
            31 => "content-type".to_owned(),
            index => return Err(format!("a header field of index {index}")),
        };
        fields.push((name, read_text(&mut block)?));
    }
    Ok(fields)
}

fn read_text(block: &mut &[u8]) -> Result<String, String> {
    let (&first, rest) = block.split_first().ok_or("a header block is cut short")?;
    *block = rest;
    let size = read_integer(first, 7, block)?;
    let text = block.get(..size).ok_or("a header string is cut short")?;
    *block = &block[size..];
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn read_integer(first: u8, bits: u32, block: &mut &[u8]) -> Result<usize, String> {
    let mask = (1_usize << bits) - 1;
    let mut value = usize::from(first) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in [0, 7, 14] {
        let (&next, rest) = block.split_first().ok_or("an integer is cut short")?;
        *block = rest;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("an integer of a header block is too large".to_owned())
}

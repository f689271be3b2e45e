//! From received bytes to frames, and from HEADERS and DATA to calls.

use crate::types::Tick;

use super::{Assembly, Connection, Drain, closed, protocol_error};
use crate::http2::flow::ReceiveWindow;
use crate::http2::frame::{self, Header};
use crate::http2::head::Verdict;
use crate::http2::hpack::HpackError;
use crate::http2::stream::Stream;
use crate::http2::{Calls, Closed, ErrorCode, Limits, PREFACE, StreamId};

impl<C> Connection<C> {
    /// Takes in what was received, cut anywhere, and tells `calls` what it means.
    ///
    /// Returns how many bytes it took: all of them, unless `calls` is full. The owner then makes
    /// room, and comes with the others before any that it receives later.
    ///
    /// # Errors
    /// The connection must close once the output is sent; every open call was given to `on_reset`.
    ///
    /// # Cost
    /// Whole frames are read where they lie; a frame cut by the end of `bytes` is copied once.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Tick,
        calls: &mut impl Calls<Call = C>,
    ) -> Result<usize, Closed> {
        if let Some(closed) = self.closed {
            return Err(closed);
        }
        self.now = now;
        self.received_at = now;
        self.ping_sent = None;
        self.note_progress();
        let mut taken = bytes.len();
        let result = self.take_in(bytes, calls).and_then(|left| {
            taken -= left.len();
            self.check_output()
        });
        self.settle(result, calls)?;
        Ok(taken)
    }

    /// Reads the preface and then frame after frame; returns what is left when `calls` is full.
    fn take_in<'a>(
        &mut self,
        bytes: &'a [u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<&'a [u8], Closed> {
        let mut rest = self.after_preface(bytes)?;
        if !self.partial.is_empty() {
            rest = self.complete(rest, calls)?;
        }
        while let Some(header) = Header::read(rest) {
            let size = self.frame_size(header)?;
            let Some((whole, after)) = rest.split_at_checked(size) else { break };
            if calls.is_full() {
                return Ok(rest);
            }
            self.on_frame(header, &whole[frame::HEADER_SIZE..], calls)?;
            rest = after;
        }
        self.partial.extend_from_slice(rest);
        if !self.partial.is_empty() || self.assembly.is_some() || self.preface_left > 0 {
            self.incomplete_since.get_or_insert(self.now);
        }
        Ok(&[])
    }

    /// Checks the preface's next bytes and returns what follows.
    fn after_preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Closed> {
        if self.preface_left == 0 {
            return Ok(bytes);
        }
        let (preface, rest) = bytes.split_at(self.preface_left.min(bytes.len()));
        let expected = &PREFACE[PREFACE.len() - self.preface_left..];
        if !expected.starts_with(preface) {
            return Err(protocol_error("not an HTTP/2 preface"));
        }
        self.preface_left -= preface.len();
        if self.preface_left == 0 {
            self.incomplete_since = None;
        }
        Ok(rest)
    }

    /// Adds to the frame that was cut until it is whole or `rest` is empty; returns what follows.
    fn complete<'a>(
        &mut self,
        mut rest: &'a [u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<&'a [u8], Closed> {
        let mut partial = std::mem::take(&mut self.partial);
        let mut result = Ok(());
        loop {
            let header = Header::read(&partial);
            let size = match header.map(|header| self.frame_size(header)).transpose() {
                Ok(size) => size.unwrap_or(frame::HEADER_SIZE),
                Err(closed) => return Err(closed),
            };
            let (more, after) = rest.split_at(rest.len().min(size - partial.len()));
            partial.extend_from_slice(more);
            rest = after;
            if let Some(header) = header.filter(|_| partial.len() == size) {
                result = self.on_frame(header, &partial[frame::HEADER_SIZE..], calls);
                partial.clear();
                break;
            }
            if partial.len() < size {
                break;
            }
        }
        assert!(partial.is_empty() || rest.is_empty(), "a frame is cut by the end only");
        self.partial = partial;
        result.map(|()| rest)
    }

    /// Bytes of the whole frame, if we accept one so large.
    fn frame_size(&self, header: Header) -> Result<usize, Closed> {
        if u32::try_from(header.size).is_ok_and(|size| size <= self.limits.frame_size_max) {
            return Ok(frame::HEADER_SIZE + header.size);
        }
        Err(closed(ErrorCode::FRAME_SIZE_ERROR, "frame larger than allowed"))
    }

    fn on_frame(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        if let Some(assembly) = self.assembly {
            if header.kind != frame::CONTINUATION || header.stream != assembly.stream {
                return Err(protocol_error("a header block was interrupted"));
            }
        } else {
            self.incomplete_since = None;
        }
        if !self.has_client_settings && header.kind != frame::SETTINGS {
            return Err(protocol_error("the first frame is not SETTINGS"));
        }
        match header.kind {
            frame::DATA => self.on_data(header, payload, calls),
            frame::HEADERS => self.on_headers(header, payload, calls),
            frame::PRIORITY => self.on_priority(header, payload, calls),
            frame::RST_STREAM => self.on_rst_stream(header, payload, calls),
            frame::SETTINGS => self.on_settings(header, payload),
            frame::PUSH_PROMISE => Err(protocol_error("a client does not push")),
            frame::PING => self.on_ping(header, payload),
            frame::GOAWAY => self.on_goaway(header, payload),
            frame::WINDOW_UPDATE => self.on_window_update(header, payload, calls),
            frame::CONTINUATION => self.on_continuation(header, payload, calls),
            _ => self.useless(),
        }?;
        self.check_output()
    }

    fn on_data(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let (id, end) = (header.stream, header.has(frame::END_STREAM));
        self.check_not_idle(id)?;
        let data = unpad(header, payload)?;
        let size = u32::try_from(payload.len()).expect("a frame is small");
        let data_size = u32::try_from(data.len()).expect("a frame is small");
        if !self.window.take(size) {
            return Err(closed(ErrorCode::FLOW_CONTROL_ERROR, "connection window exceeded"));
        }
        let Some(slot) = self.streams.find(id) else {
            self.release(size);
            return self.on_closed_stream(id);
        };
        let stream = self.streams.get_mut(slot);
        let error = if stream.is_request_over {
            Some(ErrorCode::STREAM_CLOSED)
        } else if !stream.window.take(size) {
            Some(ErrorCode::FLOW_CONTROL_ERROR)
        } else {
            match stream.body_left.map(|left| left.checked_sub(data.len() as u64)) {
                Some(None) => Some(ErrorCode::PROTOCOL_ERROR),
                Some(Some(left)) if end && left > 0 => Some(ErrorCode::PROTOCOL_ERROR),
                Some(left) => {
                    stream.body_left = left;
                    None
                }
                None => None,
            }
        };
        if let Some(code) = error {
            self.release(size);
            return self.stream_error(id, code, calls);
        }
        stream.is_request_over |= end;
        if let Some(call) = &mut stream.call {
            stream.held += data_size;
            calls.on_data(StreamId(id), call, data, end);
            self.release_on(slot, size - data_size);
        } else {
            self.release_on(slot, size);
        }
        if data.is_empty() && !end { self.useless() } else { Ok(()) }
    }

    fn on_headers(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let id = header.stream;
        if id.is_multiple_of(2) {
            return Err(protocol_error("a client's streams are odd"));
        }
        let mut fragment = unpad(header, payload)?;
        let mut is_circular = false;
        if header.has(frame::WITH_PRIORITY) {
            let (priority, rest) =
                fragment.split_first_chunk::<5>().ok_or(protocol_error("no priority"))?;
            is_circular = dependency(priority) == id;
            fragment = rest;
        }
        let end_stream = header.has(frame::END_STREAM);
        let assembly = Assembly { stream: id, end_stream, is_circular, continuations: 0 };
        if header.has(frame::END_HEADERS) {
            return self.on_block(assembly, fragment, calls);
        }
        self.block.clear();
        self.block.extend_from_slice(fragment);
        self.assembly = Some(assembly);
        self.incomplete_since = Some(self.now);
        if fragment.is_empty() { self.useless() } else { Ok(()) }
    }

    fn on_continuation(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let Some(mut assembly) = self.assembly.take() else {
            return Err(protocol_error("nothing to continue"));
        };
        assembly.continuations += 1;
        let size = u32::try_from(self.block.len() + payload.len()).expect("a block is small");
        if assembly.continuations > self.limits.continuations_max
            || size > self.limits.header_block_size_max
        {
            return Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "header block too large"));
        }
        self.block.extend_from_slice(payload);
        if !header.has(frame::END_HEADERS) {
            self.assembly = Some(assembly);
            return if payload.is_empty() { self.useless() } else { Ok(()) };
        }
        self.incomplete_since = None;
        let block = std::mem::take(&mut self.block);
        let result = self.on_block(assembly, &block, calls);
        if block.capacity() <= frame::PAYLOAD_SIZE_MAX {
            self.block = block;
        }
        result
    }

    /// A header block is whole: a request's head, or its trailers.
    fn on_block(
        &mut self,
        assembly: Assembly,
        block: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let id = assembly.stream;
        if id <= self.last {
            return self.on_trailers(assembly, block, calls);
        }
        let verdict = self.heads.request(block).map_err(undecodable)?;
        if matches!(self.drain, Drain::Last { .. }) {
            return self.useless();
        }
        self.last = id;
        let length = self.heads.get().content_length();
        let error = match verdict {
            Verdict::Malformed => Some(ErrorCode::PROTOCOL_ERROR),
            Verdict::TooLarge => Some(ErrorCode::ENHANCE_YOUR_CALM),
            Verdict::Valid if assembly.is_circular => Some(ErrorCode::PROTOCOL_ERROR),
            Verdict::Valid if assembly.end_stream && length.is_some_and(|length| length > 0) => {
                Some(ErrorCode::PROTOCOL_ERROR)
            }
            Verdict::Valid => None,
        };
        if let Some(code) = error {
            return self.stream_error(id, code, calls);
        }
        if self.streams.open() >= self.limits.open_max() {
            return self.refuse(id);
        }
        let call = calls.on_head(StreamId(id), self.heads.get(), assembly.end_stream);
        self.streams.insert(Stream {
            id,
            is_request_over: assembly.end_stream,
            is_head_sent: false,
            is_ready: false,
            window: ReceiveWindow::new(self.limits.window_stream),
            held: 0,
            send_window: self.send_window_initial,
            body_left: length,
            call: Some(call),
            queue: None,
        });
        Ok(())
    }

    /// A second block on a stream; it must end the request.
    fn on_trailers(
        &mut self,
        assembly: Assembly,
        block: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let id = assembly.stream;
        let verdict = self.heads.trailers_block(block).map_err(undecodable)?;
        let Some(slot) = self.streams.find(id) else {
            return if self.past.was_reset(id) {
                self.useless()
            } else if self.past.was_closed(id) {
                Err(closed(ErrorCode::STREAM_CLOSED, "headers on a closed stream"))
            } else {
                Err(protocol_error("stream ids must grow"))
            };
        };
        let stream = self.streams.get_mut(slot);
        let is_whole = stream.body_left.is_none_or(|left| left == 0);
        if stream.is_request_over {
            return self.stream_error(id, ErrorCode::STREAM_CLOSED, calls);
        }
        if verdict == Verdict::TooLarge {
            return self.stream_error(id, ErrorCode::ENHANCE_YOUR_CALM, calls);
        }
        let is_fit = assembly.end_stream && !assembly.is_circular && is_whole;
        if verdict == Verdict::Malformed || !is_fit {
            return self.stream_error(id, ErrorCode::PROTOCOL_ERROR, calls);
        }
        stream.is_request_over = true;
        if let Some(call) = &mut stream.call {
            calls.on_trailers(StreamId(id), call, self.heads.trailers());
        }
        Ok(())
    }

    /// One request more than may be open.
    fn refuse(&mut self, id: u32) -> Result<(), Closed> {
        self.put_reset(id, ErrorCode::REFUSED_STREAM);
        // Before it has seen our SETTINGS a client cannot know better.
        if self.settings_sent.is_some() { Ok(()) } else { self.count_stream_error() }
    }

    /// A stream's rule is broken: the stream ends, the connection goes on.
    pub(super) fn stream_error(
        &mut self,
        id: u32,
        code: ErrorCode,
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        if let Some(slot) = self.streams.find(id)
            && let Some(call) = self.remove(slot)
        {
            calls.on_reset(StreamId(id), call, code);
        }
        self.put_reset(id, code);
        self.count_stream_error()
    }

    fn count_stream_error(&mut self) -> Result<(), Closed> {
        let limit = self.limits.stream_errors_max;
        if self.floods.stream_errors.hit(self.now, Limits::RATE_WINDOW_MS, limit) {
            return Ok(());
        }
        Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too many stream errors"))
    }

    /// DATA on a stream that is over: the client's error, unless it could not know yet.
    fn on_closed_stream(&mut self, id: u32) -> Result<(), Closed> {
        self.useless()?;
        if id > self.last || self.past.was_reset(id) {
            return Ok(());
        }
        self.put_reset(id, ErrorCode::STREAM_CLOSED);
        self.count_stream_error()
    }

    /// A frame other than HEADERS must name a stream that was opened.
    pub(super) fn check_not_idle(&self, id: u32) -> Result<(), Closed> {
        // After the last GOAWAY, requests that are ignored still send their bodies.
        let is_ignored = matches!(self.drain, Drain::Last { .. }) && id % 2 == 1;
        if id != 0 && (id <= self.last && id % 2 == 1 || is_ignored) {
            return Ok(());
        }
        Err(protocol_error("a frame on an idle stream"))
    }

    /// Counts a frame that asks for nothing.
    pub(super) fn useless(&mut self) -> Result<(), Closed> {
        let limit = self.limits.useless_frames_max;
        if self.floods.useless.hit(self.now, Limits::RATE_WINDOW_MS, limit) {
            return Ok(());
        }
        Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too many useless frames"))
    }

    /// The owner has taken `n` bytes of `on_data`'s into its own keeping: the windows reopen by as
    /// much.
    ///
    /// Needed only while the request goes on; what was not told returns when the stream ends.
    ///
    /// # Panics
    /// If `on_data` gave the owner less than that.
    pub fn consumed(&mut self, stream: StreamId, n: usize) {
        let Some(slot) = self.streams.find(stream.0) else { return };
        let n = u32::try_from(n).expect("a window is below 2 GiB");
        let stream = self.streams.get_mut(slot);
        stream.held = stream.held.checked_sub(n).expect("only what was given is used");
        self.release_on(slot, n);
    }

    /// Gives `n` bytes back to a stream's window and to the connection's.
    fn release_on(&mut self, slot: usize, n: u32) {
        if n == 0 {
            return;
        }
        let stream = self.streams.get_mut(slot);
        if let Some(more) = stream.window.release(n)
            && !stream.is_request_over
        {
            frame::put_u32(&mut self.output, frame::WINDOW_UPDATE, stream.id, more);
        }
        self.release(n);
    }

    /// Gives `n` bytes back to the connection's window.
    pub(super) fn release(&mut self, n: u32) {
        if let Some(more) = self.window.release(n) {
            frame::put_u32(&mut self.output, frame::WINDOW_UPDATE, 0, more);
        }
    }
}

/// The payload without its padding.
fn unpad(header: Header, payload: &[u8]) -> Result<&[u8], Closed> {
    if !header.has(frame::PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(protocol_error("no padding length"))?;
    let size = rest.len().checked_sub(usize::from(*padding));
    Ok(&rest[..size.ok_or(protocol_error("more padding than payload"))?])
}

/// The stream that a priority says to depend on.
pub(super) fn dependency(priority: &[u8; 5]) -> u32 {
    let [a, b, c, d, _weight] = *priority;
    u32::from_be_bytes([a & 0x7f, b, c, d])
}

fn undecodable(error: HpackError) -> Closed {
    match error {
        HpackError::Bomb => closed(ErrorCode::ENHANCE_YOUR_CALM, "header block too large"),
        HpackError::Truncated
        | HpackError::Integer
        | HpackError::Index
        | HpackError::Huffman
        | HpackError::SizeUpdate => closed(ErrorCode::COMPRESSION_ERROR, "bad header block"),
    }
}

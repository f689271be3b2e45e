//! From replies to output: the fast path of small answers, and queues for what must wait.

use super::Connection;
use crate::http2::frame;
use crate::http2::stream::{End, Queue};
use crate::http2::{ErrorCode, Limits, StreamId};

/// A DATA frame cut short by a window below this many bytes does not excuse a tiny WINDOW_UPDATE.
const DATA_TINY: usize = 512;

impl<C> Connection<C> {
    /// A whole reply in one call: headers, one message, trailers.
    ///
    /// `head` and `trailers` are blocks made with [`crate::http2::hpack`]; `message` is the DATA as
    /// it goes out (for gRPC its 5-byte prefix included) and may be empty.
    ///
    /// # Panics
    /// If the stream's head was sent before.
    pub fn reply_unary(
        &mut self,
        stream: StreamId,
        head: &[u8],
        message: &[u8],
        trailers: &[u8],
    ) -> Option<C> {
        let slot = self.streams.find(stream.0)?;
        let it = self.streams.get(slot);
        let size = i64::try_from(message.len()).expect("a message is below 2^63 bytes");
        let is_small = message.len() <= frame::PAYLOAD_SIZE_MAX
            && head.len() <= frame::PAYLOAD_SIZE_MAX
            && trailers.len() <= frame::PAYLOAD_SIZE_MAX;
        let is_open = size <= it.send_window && size <= self.send_window && self.has_room();
        if !is_small || !is_open || self.is_table_update_due || it.call.is_none() {
            return self.reply_piecewise(stream, head, message, trailers);
        }
        assert!(!it.is_head_sent, "a reply has one head");
        self.send_window -= size;
        let (id, out) = (stream.0, &mut self.output);
        out.reserve(3 * frame::HEADER_SIZE + head.len() + message.len() + trailers.len());
        frame::put(out, frame::HEADERS, frame::END_HEADERS, id, head);
        if !message.is_empty() {
            frame::put(out, frame::DATA, 0, id, message);
        }
        frame::put(out, frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, id, trailers);
        self.forgive(true);
        self.finish(slot)
    }

    /// The same where something must wait or be cut.
    fn reply_piecewise(
        &mut self,
        stream: StreamId,
        head: &[u8],
        message: &[u8],
        trailers: &[u8],
    ) -> Option<C> {
        self.reply_head(stream, head, false);
        let is_data = !message.is_empty();
        let refused = if is_data { self.reply_data(stream, message, false) } else { None };
        refused.or_else(|| self.reply_trailers(stream, trailers))
    }

    /// A reply's headers; `end`: nothing follows.
    ///
    /// # Panics
    /// If the stream's head was sent before.
    pub fn reply_head(&mut self, stream: StreamId, block: &[u8], end: bool) -> Option<C> {
        let slot = self.replying(stream)?;
        let it = self.streams.get_mut(slot);
        assert!(!it.is_head_sent, "a reply has one head");
        it.is_head_sent = true;
        self.put_block(stream.0, block, end);
        if end { self.finish(slot) } else { None }
    }

    /// A piece of a reply's body; what no window allows yet waits on the stream. `end`: nothing
    /// follows.
    ///
    /// # Panics
    /// If the stream's head was not sent before.
    pub fn reply_data(&mut self, stream: StreamId, data: &[u8], end: bool) -> Option<C> {
        let slot = self.replying(stream)?;
        let it = self.streams.get_mut(slot);
        assert!(it.is_head_sent, "a reply's head comes first");
        let mut rest = data;
        if it.queue.is_none() {
            while !rest.is_empty() {
                let n = self.put_data(slot, rest, end);
                if n == 0 {
                    break;
                }
                rest = &rest[n..];
            }
            if data.is_empty() && end {
                frame::put(&mut self.output, frame::DATA, frame::END_STREAM, stream.0, &[]);
            }
            if rest.is_empty() {
                return if end { self.finish(slot) } else { None };
            }
        }
        if self.queued >= self.limits.queued_size_max {
            return self.reset(stream, ErrorCode::ENHANCE_YOUR_CALM);
        }
        let it = self.streams.get_mut(slot);
        let queue = it.queue.get_or_insert_default();
        queue.push(rest);
        self.queued += rest.len();
        if end {
            queue.end = End::Data;
        }
        let call = if end { it.call.take() } else { None };
        self.make_ready(slot);
        call
    }

    /// A reply's trailers, after all its data; the reply ends with them.
    ///
    /// # Panics
    /// If the stream's head was not sent before.
    pub fn reply_trailers(&mut self, stream: StreamId, block: &[u8]) -> Option<C> {
        let slot = self.replying(stream)?;
        let it = self.streams.get_mut(slot);
        assert!(it.is_head_sent, "a reply's head comes first");
        if let Some(queue) = &mut it.queue {
            queue.end = End::Trailers(block.to_vec());
            self.queued += block.len();
            return it.call.take();
        }
        self.put_block(stream.0, block, true);
        self.finish(slot)
    }

    /// Ends a stream without a (further) reply.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) -> Option<C> {
        let slot = self.streams.find(stream.0)?;
        let call = self.remove(slot);
        self.put_reset(stream.0, code);
        call
    }

    /// Reply bytes that wait on this stream.
    #[must_use]
    pub fn queued(&self, stream: StreamId) -> usize {
        let slot = self.streams.find(stream.0);
        let queue = slot.and_then(|slot| self.streams.get(slot).queue.as_deref());
        queue.map_or(0, Queue::size)
    }

    /// Reply bytes that wait on all streams, for the owner's back pressure.
    #[must_use]
    pub fn queued_total(&self) -> usize {
        self.queued
    }

    /// Bytes of reply data that would leave at once on this stream; none if its reply is whole or
    /// it is gone.
    #[must_use]
    pub fn room(&self, stream: StreamId) -> Option<usize> {
        let stream = self.streams.get(self.replying(stream)?);
        if stream.queue.is_some() {
            return Some(0);
        }
        let window = usize::try_from(stream.send_window).unwrap_or(0);
        Some(window.min(self.room_total()))
    }

    /// Bytes of reply data that would leave at once on all streams together, if their own windows
    /// allow it.
    #[must_use]
    pub fn room_total(&self) -> usize {
        let output = self.output.len() - self.output_start;
        let window = usize::try_from(self.send_window).unwrap_or(0);
        window.min(self.limits.output_size_max.saturating_sub(output))
    }

    /// The slot of a stream whose reply is not whole.
    fn replying(&self, stream: StreamId) -> Option<usize> {
        self.streams.find(stream.0).filter(|slot| self.streams.get(*slot).call.is_some())
    }

    /// Whether reply data may enter the output.
    fn has_room(&self) -> bool {
        self.output.len() - self.output_start < self.limits.output_size_max
    }

    /// Puts a header block, after the table update if one is due.
    fn put_block(&mut self, id: u32, block: &[u8], end: bool) {
        self.forgive(false);
        if !std::mem::take(&mut self.is_table_update_due) {
            frame::put_block(&mut self.output, id, block, end);
            return;
        }
        // 0x20 sets the table's size to 0, and no later setting is below that.
        let block = [&[0x20], block].concat();
        frame::put_block(&mut self.output, id, &block, end);
    }

    /// Puts as much of `data` into one frame as windows and room allow; returns how much.
    fn put_data(&mut self, slot: usize, data: &[u8], end: bool) -> usize {
        if !self.has_room() {
            return 0;
        }
        let stream = self.streams.get_mut(slot);
        let window = stream.send_window.min(self.send_window).max(0);
        let window = usize::try_from(window).expect("a window is positive here");
        let size = data.len().min(window).min(frame::PAYLOAD_SIZE_MAX);
        if size == 0 {
            return 0;
        }
        let signed = i64::try_from(size).expect("a frame is small");
        stream.send_window -= signed;
        self.send_window -= signed;
        let flags = if end && size == data.len() { frame::END_STREAM } else { 0 };
        frame::put(&mut self.output, frame::DATA, flags, stream.id, &data[..size]);
        self.forgive(size == data.len() || size >= DATA_TINY);
        size
    }

    /// We sent something: a client's PINGs and tiny WINDOW_UPDATEs have an excuse.
    fn forgive(&mut self, is_window_used: bool) {
        self.floods.ping_strikes = 0;
        self.floods.ping_at = None;
        if is_window_used {
            self.floods.tiny_updates.forgive(1);
        }
    }

    pub(super) fn put_reset(&mut self, id: u32, code: ErrorCode) {
        frame::put_u32(&mut self.output, frame::RST_STREAM, id, code.0);
        self.past.note_reset(id);
    }

    /// Our END_STREAM is in the output: the stream ends, with RST_STREAM if its request did not.
    fn finish(&mut self, slot: usize) -> Option<C> {
        let stream = self.streams.get(slot);
        let (id, is_request_over) = (stream.id, stream.is_request_over);
        let call = self.remove(slot);
        self.floods.useless.forgive(Limits::USELESS_PER_REPLY);
        self.floods.resets.forgive(1);
        if is_request_over {
            self.past.note_closed(id);
        } else {
            self.put_reset(id, ErrorCode::NO_ERROR);
        }
        call
    }

    /// Takes a stream out of the table, with all it held.
    pub(super) fn remove(&mut self, slot: usize) -> Option<C> {
        let stream = self.streams.get_mut(slot);
        let held = std::mem::take(&mut stream.held);
        let (call, queue) = self.streams.remove(slot);
        self.queued -= queue.map_or(0, |queue| queue.size());
        if held > 0 {
            self.release(held);
        }
        if self.ready.len() > 2 * self.streams.open() + 64 {
            let streams = &self.streams;
            self.ready.retain(|id| streams.find(*id).is_some());
        }
        call
    }

    /// Gives the stream a place among those that may send, if it has data and a window.
    pub(super) fn make_ready(&mut self, slot: usize) {
        let stream = self.streams.get_mut(slot);
        if stream.queue.is_some() && stream.send_window > 0 && !stream.is_ready {
            stream.is_ready = true;
            self.ready.push_back(stream.id);
        }
    }

    /// Moves waiting data into the output, a frame per stream in turn, while there is room.
    pub(super) fn pump(&mut self) {
        while self.send_window > 0 && self.has_room() {
            let Some(id) = self.ready.pop_front() else { break };
            if let Some(slot) = self.streams.find(id) {
                self.take_turn(slot);
            }
        }
    }

    /// One stream's turn: a frame of data and, after the last, what ends the reply.
    fn take_turn(&mut self, slot: usize) {
        let stream = self.streams.get_mut(slot);
        stream.is_ready = false;
        let mut queue = stream.queue.take().expect("a ready stream has a queue");
        let n = self.put_data(slot, queue.data(), queue.end == End::Data);
        self.queued -= n;
        queue.advance(n);
        if !queue.data().is_empty() {
            self.streams.get_mut(slot).queue = Some(queue);
            self.make_ready(slot);
            return;
        }
        match queue.end {
            End::Open => return,
            End::Data => {}
            End::Trailers(block) => {
                self.queued -= block.len();
                self.put_block(self.streams.get(slot).id, &block, true);
            }
        }
        let call = self.finish(slot);
        assert!(call.is_none(), "a whole reply gave its call back");
    }
}

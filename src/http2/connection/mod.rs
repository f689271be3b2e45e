//! The machine itself: its state, time, and the steps of its end.

mod control;
mod receive;
mod reply;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::types::Tick;

use super::flow::{Rate, ReceiveWindow, WINDOW_INITIAL, WINDOW_MAX};
use super::frame;
use super::head::Heads;
#[cfg(test)]
use super::stream::Queue;
use super::stream::{Past, Streams};
use super::{Calls, Closed, ErrorCode, Limits, PREFACE, StreamId};

/// One client's connection, from the preface to the last GOAWAY. `C` is the owner's state per call.
///
/// The owner feeds received bytes to [`Self::receive`] and time to [`Self::tick`], answers with the
/// `reply_*` methods, and sends [`Self::output`], telling [`Self::sent`]. After an `Err` it sends
/// what is left of the output and closes the socket; when the socket fails it calls [`Self::lost`].
///
/// A reply to a stream that is gone is ignored. A reply handed over whole gives the call back,
/// even while its bytes still wait for a window; no callback names that stream afterwards.
#[derive(Debug)]
pub struct Connection<C> {
    limits: Limits,
    /// The time of the call under way.
    now: Tick,
    /// Bytes of the preface still to come.
    preface_left: usize,
    /// A frame of which some bytes came: less than its size, and than the largest allowed.
    partial: Vec<u8>,
    /// When what is incomplete (preface, header block or frame) began to come.
    incomplete_since: Option<Tick>,
    /// A header block whose CONTINUATION must come next.
    assembly: Option<Assembly>,
    block: Vec<u8>,
    heads: Heads,
    streams: Streams<C>,
    past: Past,
    /// The largest id a request came on.
    last: u32,
    /// What the client may send on all streams.
    window: ReceiveWindow,
    output: Vec<u8>,
    /// Bytes at the front of `output` that were sent.
    output_start: usize,
    /// What we may send on all streams.
    send_window: i64,
    /// What we may send on a new stream.
    send_window_initial: i64,
    /// Ids of streams that have data and a window, in the order of their turns; ended ones are
    /// skipped.
    ready: VecDeque<u32>,
    /// Bytes in the queues of all streams.
    queued: usize,
    /// The client shrank the table we never use; RFC 7541 §4.2 wants the next block to say so.
    is_table_update_due: bool,
    has_client_settings: bool,
    /// When our SETTINGS went out, until they are acknowledged.
    settings_sent: Option<Tick>,
    /// When bytes came last.
    received_at: Tick,
    /// When output was taken last, or there was none.
    sent_at: Tick,
    /// When a stream was open last.
    busy_at: Tick,
    /// When a PING went out that nothing has answered.
    ping_sent: Option<Tick>,
    drain: Drain,
    /// When the client said GOAWAY.
    client_leaves: Option<Tick>,
    closed: Option<Closed>,
    floods: Floods,
}

/// A header block that is not whole.
#[derive(Clone, Copy, Debug)]
struct Assembly {
    stream: u32,
    end_stream: bool,
    /// The stream was said to depend on itself.
    is_circular: bool,
    continuations: u32,
}

/// The steps of a graceful end (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug)]
enum Drain {
    /// ─shutdown→ `Announced`.
    No,
    /// GOAWAY named no stream yet. ─the client saw it, or time passed→ `Last`.
    Announced { since: Tick },
    /// GOAWAY named the last stream that will be answered.
    Last { since: Tick },
}

/// Counters of what may not come too often; see [`Limits`].
#[derive(Clone, Debug, Default)]
struct Floods {
    resets: Rate,
    settings: Rate,
    useless: Rate,
    stream_errors: Rate,
    tiny_updates: Rate,
    ping_strikes: u32,
    ping_at: Option<Tick>,
}

/// Bytes of empty output buffer that an idle connection keeps.
const OUTPUT_KEPT_MAX: usize = 1 << 16;
/// Slots of streams that a connection keeps, however few are open.
const SLOTS_KEPT_MAX: usize = 128;
/// Slots that it keeps for each stream that is open: what is looked for among all streams costs as
/// much as there are slots.
const SLOTS_PER_STREAM_MAX: usize = 4;

/// Payload of the PING that asks whether the client saw the first GOAWAY.
const PING_DRAIN: [u8; 8] = *b"draining";
/// Payload of the PING that asks for a sign of life.
const PING_ALIVE: [u8; 8] = *b"keepaliv";

impl<C> Connection<C> {
    /// A connection just accepted; our SETTINGS already stand in the output.
    ///
    /// # Panics
    /// If a limit is outside what RFC 9113 permits or this machine can keep.
    #[must_use]
    pub fn new(limits: Limits, now: Tick) -> Self {
        limits.check();
        let size = |size: u32| usize::try_from(size).expect("usize has 64 bits");
        let mut connection = Self {
            now,
            preface_left: PREFACE.len(),
            partial: Vec::new(),
            incomplete_since: Some(now),
            assembly: None,
            block: Vec::new(),
            heads: Heads::new(size(limits.header_table_size), size(limits.header_list_size_max)),
            streams: Streams::new(),
            past: Past::default(),
            last: 0,
            window: ReceiveWindow::new(limits.window_connection),
            output: Vec::new(),
            output_start: 0,
            send_window: i64::from(WINDOW_INITIAL),
            send_window_initial: i64::from(WINDOW_INITIAL),
            ready: VecDeque::new(),
            queued: 0,
            is_table_update_due: false,
            has_client_settings: false,
            settings_sent: Some(now),
            received_at: now,
            sent_at: now,
            busy_at: now,
            ping_sent: None,
            drain: Drain::No,
            client_leaves: None,
            closed: None,
            floods: Floods::default(),
            limits,
        };
        connection.announce();
        connection
    }

    /// Puts our SETTINGS and the connection's window.
    fn announce(&mut self) {
        let limits = &self.limits;
        let settings = [
            (frame::MAX_CONCURRENT_STREAMS, limits.streams_max.min(limits.requests_open_max)),
            (frame::INITIAL_WINDOW_SIZE, limits.window_stream),
            (frame::MAX_FRAME_SIZE, limits.frame_size_max),
            (frame::MAX_HEADER_LIST_SIZE, limits.header_list_size_max),
            (frame::HEADER_TABLE_SIZE, limits.header_table_size),
        ];
        frame::put_settings(&mut self.output, &settings);
        let more = limits.window_connection - WINDOW_INITIAL;
        if more > 0 {
            frame::put_u32(&mut self.output, frame::WINDOW_UPDATE, 0, more);
        }
    }

    /// Lets time pass: keep-alive, timeouts, the steps of a graceful end. To be called every second
    /// or so.
    ///
    /// # Errors
    /// As for [`Self::receive`].
    pub fn tick(&mut self, now: Tick, calls: &mut impl Calls<Call = C>) -> Result<(), Closed> {
        if let Some(closed) = self.closed {
            return Err(closed);
        }
        self.now = now;
        self.note_progress();
        self.shed();
        let result = self.check_timeouts().and_then(|()| self.check_output());
        self.settle(result, calls)
    }

    /// What has waited too long.
    fn check_timeouts(&mut self) -> Result<(), Closed> {
        let now = self.now;
        let late = move |since: Tick, after: u64| after > 0 && now.since(since) >= after;
        let limits = &self.limits;
        if self.incomplete_since.is_some_and(|since| late(since, limits.receive_timeout)) {
            return Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too slow to send a frame"));
        }
        if self.settings_sent.is_some_and(|since| late(since, limits.settings_timeout)) {
            return Err(closed(ErrorCode::SETTINGS_TIMEOUT, "settings not acknowledged"));
        }
        if self.has_stalled() && late(self.sent_at, limits.stall_timeout) {
            return Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too slow to read"));
        }
        if self.ping_sent.is_some_and(|since| late(since, limits.keepalive_timeout)) {
            return Err(closed(ErrorCode::NO_ERROR, "keepalive ping not answered"));
        }
        let is_idle = self.streams.open() == 0 && late(self.busy_at, limits.idle_timeout);
        let is_silent = late(self.received_at, limits.keepalive_interval);
        match self.drain {
            Drain::No if is_idle => self.shutdown(self.now),
            Drain::No => {}
            Drain::Announced { since } if late(since, limits.goaway_delay.max(1)) => {
                self.name_last();
            }
            Drain::Announced { .. } => {}
            Drain::Last { since } if late(since, limits.drain_timeout) => {
                return Err(closed(ErrorCode::NO_ERROR, "requests still open at the end"));
            }
            Drain::Last { .. } => {}
        }
        if is_silent && self.ping_sent.is_none() {
            self.ping_sent = Some(self.now);
            frame::put(&mut self.output, frame::PING, 0, 0, &PING_ALIVE);
        }
        Ok(())
    }

    /// Starts the clocks of what is not going on anew.
    fn note_progress(&mut self) {
        if !self.has_stalled() {
            self.sent_at = self.now;
        }
        if self.streams.open() > 0 {
            self.busy_at = self.now;
        }
        if self.is_congested() {
            // What the client was to send may lie with an owner that does not receive now.
            for since in [&mut self.incomplete_since, &mut self.settings_sent, &mut self.ping_sent]
            {
                *since = since.map(|_| self.now);
            }
        }
    }

    /// Gives back the memory of a busy time that is over; at each tick, so that it costs nothing.
    fn shed(&mut self) {
        if self.output().is_empty() && self.output.capacity() > OUTPUT_KEPT_MAX {
            self.output = Vec::new();
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        let slots_max = SLOTS_KEPT_MAX.max(SLOTS_PER_STREAM_MAX * self.streams.open());
        if self.streams.slot_count() > slots_max {
            self.streams.shed();
        }
    }

    /// Output that nobody takes, or so much of replies kept waiting that it counts as that.
    fn has_stalled(&self) -> bool {
        !self.output().is_empty() || self.queued > self.limits.queued_size_max / 2
    }

    /// Closes when more stands in the output than any reader leaves there.
    fn check_output(&self) -> Result<(), Closed> {
        if self.output().len() <= self.limits.output_closed_max() {
            return Ok(());
        }
        Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "reads none of the answers"))
    }

    /// What holds between any two calls, in O(1).
    fn check(&self) {
        assert!(self.output_start <= self.output.len(), "only output is sent");
        assert!(self.send_window <= WINDOW_MAX, "the client's window has a bound");
        assert!(self.streams.open() > 0 || self.queued == 0, "what waits has a stream");
        assert!(self.assembly.is_none() || self.preface_left == 0, "the preface comes first");
    }

    /// What holds over all streams.
    #[cfg(test)]
    fn check_all(&self) {
        self.check();
        let streams = || self.streams.open_slots().map(|slot| self.streams.get(slot));
        let queued = streams().filter_map(|it| it.queue.as_deref()).map(Queue::size);
        assert_eq!(queued.sum::<usize>(), self.queued, "queued is the sum of all queues");
        if self.closed.is_none() {
            let held = streams().map(|stream| stream.held).sum::<u32>();
            assert_eq!(held, self.window.held(), "the connection's bytes are some stream's");
        }
        for stream in streams() {
            let is_waiting = stream.is_ready || stream.send_window <= 0;
            assert!(stream.queue.is_none() || is_waiting, "who may send has a turn");
            assert!(stream.call.is_some() || stream.queue.is_some(), "a whole reply waits");
            assert_eq!(self.streams.find(stream.id).map(|slot| self.streams.get(slot).id), {
                Some(stream.id)
            });
        }
    }

    /// Turns a fault into GOAWAY and the end of every call.
    fn settle(
        &mut self,
        result: Result<(), Closed>,
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let Err(closed) = result else {
            self.check();
            return Ok(());
        };
        frame::put_goaway(&mut self.output, self.last, closed.code.0, closed.reason);
        self.closed = Some(closed);
        self.reset_all(closed.code, calls);
        Err(closed)
    }

    /// The socket is gone: gives every open call to `on_reset`.
    pub fn lost(&mut self, calls: &mut impl Calls<Call = C>) {
        let reason = "connection lost";
        self.closed.get_or_insert(closed(ErrorCode::NO_ERROR, reason));
        self.reset_all(ErrorCode::CANCEL, calls);
    }

    fn reset_all(&mut self, code: ErrorCode, calls: &mut impl Calls<Call = C>) {
        let mut open: Vec<(u32, usize)> =
            self.streams.open_slots().map(|slot| (self.streams.get(slot).id, slot)).collect();
        open.sort_unstable();
        for (id, slot) in open {
            if let (Some(call), _) = self.streams.remove(slot) {
                calls.on_reset(StreamId(id), call, code);
            }
        }
        self.queued = 0;
        self.ready = VecDeque::new();
        self.partial = Vec::new();
        self.block = Vec::new();
        assert!(self.streams.open() == 0, "a closed connection has no streams");
    }

    /// Begins a graceful end: no new requests; [`Self::is_drained`] once the open ones are
    /// answered.
    pub fn shutdown(&mut self, now: Tick) {
        self.now = now;
        if matches!(self.drain, Drain::No) && self.closed.is_none() {
            let all = ErrorCode::NO_ERROR.0;
            frame::put_goaway(&mut self.output, (1 << 31) - 1, all, "shutting down");
            frame::put(&mut self.output, frame::PING, 0, 0, &PING_DRAIN);
            self.drain = Drain::Announced { since: now };
        }
    }

    /// The client has seen the first GOAWAY, or had time to: what it sends from now on is refused.
    fn name_last(&mut self) {
        if let Drain::Announced { since } = self.drain {
            let code = ErrorCode::NO_ERROR.0;
            frame::put_goaway(&mut self.output, self.last, code, "shutting down");
            self.drain = Drain::Last { since };
        }
    }

    /// The bytes to send next; empty if none.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output[self.output_start..]
    }

    /// `n` bytes of [`Self::output`] are with the kernel.
    ///
    /// # Panics
    /// If the output has not so many.
    pub fn sent(&mut self, n: usize) {
        assert!(n <= self.output().len(), "only the output is sent");
        self.output_start += n;
        self.sent_at = self.now;
        if self.output().is_empty() {
            self.output.clear();
            self.output_start = 0;
            if self.output.capacity() > 2 * self.limits.output_size_max {
                self.output = Vec::new();
            }
        } else if self.output_start > self.output.len() / 2 {
            self.output.drain(..self.output_start);
            self.output_start = 0;
        }
        self.pump();
    }

    /// A graceful end is complete: the socket may close once the output is empty.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        // A client that leaves may have a PING under way, and closes the connection itself.
        let has_left = self.client_leaves.is_some_and(|since| {
            self.now.since(since.max(self.busy_at)) >= self.limits.goaway_delay
        });
        let is_ending = matches!(self.drain, Drain::Last { .. }) || has_left;
        self.closed.is_some() || is_ending && self.streams.open() == 0
    }

    /// Streams whose request or reply is not complete.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        self.streams.open()
    }

    /// The call of a stream, until its reply is whole.
    pub fn call_mut(&mut self, stream: StreamId) -> Option<&mut C> {
        let slot = self.streams.find(stream.0)?;
        self.streams.get_mut(slot).call.as_mut()
    }

    /// The open streams whose call is as `wanted` says, by id.
    pub fn calls_where(&self, wanted: impl Fn(&C) -> bool) -> Vec<StreamId> {
        let slots = self.streams.open_slots().map(|slot| self.streams.get(slot));
        let found = slots.filter(|stream| stream.call.as_ref().is_some_and(&wanted));
        let mut out: Vec<_> = found.map(|stream| StreamId(stream.id)).collect();
        out.sort_unstable();
        out
    }

    /// So much waits to be sent that the owner should not receive until some of it left.
    ///
    /// Never with an empty output: what still waits then waits for a window, which can only come
    /// by receiving.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        let output = self.output().len();
        output >= self.limits.output_size_max
            || (output > 0 && self.queued >= self.limits.queued_size_max)
    }
}

/// The end of the connection, for a reason.
const fn closed(code: ErrorCode, reason: &'static str) -> Closed {
    Closed { code, reason }
}

/// The end of the connection by RFC 9113's plainest code.
const fn protocol_error(reason: &'static str) -> Closed {
    closed(ErrorCode::PROTOCOL_ERROR, reason)
}

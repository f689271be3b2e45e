//! Frames that steer: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM, PRIORITY.

use super::receive::dependency;
use super::{Connection, PING_DRAIN, closed, protocol_error};
use crate::http2::flow::{WINDOW_INITIAL, WINDOW_MAX};
use crate::http2::frame::{self, Header};
use crate::http2::{Calls, Closed, ErrorCode, Limits, StreamId};

impl<C> Connection<C> {
    pub(super) fn on_settings(&mut self, header: Header, payload: &[u8]) -> Result<(), Closed> {
        if header.stream != 0 {
            return Err(protocol_error("SETTINGS on a stream"));
        }
        if header.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(closed(ErrorCode::FRAME_SIZE_ERROR, "SETTINGS acknowledged at length"));
            }
            if !self.has_client_settings {
                return Err(protocol_error("the first frame is not SETTINGS"));
            }
            let was_waiting = self.settings_sent.take().is_some();
            return if was_waiting { Ok(()) } else { self.useless() };
        }
        let (settings, []) = payload.as_chunks::<6>() else {
            return Err(closed(ErrorCode::FRAME_SIZE_ERROR, "SETTINGS cut short"));
        };
        if !self.floods.settings.hit(self.now, Limits::RATE_WINDOW_MS, self.limits.settings_max) {
            return Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too many settings"));
        }
        // Only the last of several sizes counts, so that one frame costs one walk over the streams.
        let mut window = self.send_window_initial;
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                frame::INITIAL_WINDOW_SIZE => window = i64::from(value),
                frame::HEADER_TABLE_SIZE => self.is_table_update_due |= value < 4096,
                frame::ENABLE_PUSH if value > 1 => {
                    return Err(protocol_error("ENABLE_PUSH is neither 0 nor 1"));
                }
                frame::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                    return Err(protocol_error("MAX_FRAME_SIZE out of bounds"));
                }
                // We push nothing, send frames of the least size, and send small header lists.
                _ => {}
            }
            if window > WINDOW_MAX {
                return Err(closed(ErrorCode::FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE too large"));
            }
        }
        self.has_client_settings = true;
        frame::put(&mut self.output, frame::SETTINGS, frame::ACK, 0, &[]);
        self.resize_windows(window)
    }

    /// Moves the windows of all streams by the change of the initial one; they may become negative.
    fn resize_windows(&mut self, window: i64) -> Result<(), Closed> {
        let change = window - self.send_window_initial;
        if change == 0 {
            return Ok(());
        }
        self.send_window_initial = window;
        for slot in 0..self.streams.slot_count() {
            let stream = self.streams.get_mut(slot);
            if stream.id == 0 {
                continue;
            }
            stream.send_window += change;
            if stream.send_window > WINDOW_MAX {
                return Err(closed(ErrorCode::FLOW_CONTROL_ERROR, "a stream's window too large"));
            }
            self.make_ready(slot);
        }
        self.pump();
        Ok(())
    }

    pub(super) fn on_ping(&mut self, header: Header, payload: &[u8]) -> Result<(), Closed> {
        if header.stream != 0 {
            return Err(protocol_error("PING on a stream"));
        }
        let Ok(payload) = <&[u8; 8]>::try_from(payload) else {
            return Err(closed(ErrorCode::FRAME_SIZE_ERROR, "PING of a wrong size"));
        };
        if header.has(frame::ACK) {
            if *payload == PING_DRAIN {
                self.name_last();
            }
            return self.useless();
        }
        frame::put(&mut self.output, frame::PING, frame::ACK, 0, payload);
        let last = self.floods.ping_at.replace(self.now);
        if last.is_none_or(|last| self.now.since(last) >= self.limits.ping_interval_min) {
            return Ok(());
        }
        self.floods.ping_strikes += 1;
        if self.floods.ping_strikes <= self.limits.ping_strikes_max {
            return Ok(());
        }
        Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too_many_pings"))
    }

    pub(super) fn on_goaway(&mut self, header: Header, payload: &[u8]) -> Result<(), Closed> {
        if header.stream != 0 {
            return Err(protocol_error("GOAWAY on a stream"));
        }
        if payload.len() < 8 {
            return Err(closed(ErrorCode::FRAME_SIZE_ERROR, "GOAWAY cut short"));
        }
        self.client_leaves.get_or_insert(self.now);
        self.useless()
    }

    pub(super) fn on_window_update(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let Ok(payload) = <[u8; 4]>::try_from(payload) else {
            return Err(closed(ErrorCode::FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size"));
        };
        let more = u32::from_be_bytes(payload) & 0x7fff_ffff;
        let id = header.stream;
        let is_tiny = more < Limits::WINDOW_UPDATE_TINY;
        if id == 0 {
            if more == 0 {
                return Err(protocol_error("WINDOW_UPDATE of nothing"));
            }
            if is_tiny && self.send_window <= 0 && self.queued > 0 {
                self.count_tiny_update()?;
            }
            let window = self.send_window + i64::from(more);
            if window > WINDOW_MAX {
                return Err(closed(ErrorCode::FLOW_CONTROL_ERROR, "connection window too large"));
            }
            self.send_window = window;
            self.pump();
            return Ok(());
        }
        self.check_not_idle(id)?;
        let Some(slot) = self.streams.find(id) else { return self.useless() };
        if more == 0 {
            return self.stream_error(id, ErrorCode::PROTOCOL_ERROR, calls);
        }
        if is_tiny && self.streams.get(slot).queue.is_some() {
            self.count_tiny_update()?;
        }
        let stream = self.streams.get_mut(slot);
        stream.send_window += i64::from(more);
        if stream.send_window > WINDOW_MAX {
            return self.stream_error(id, ErrorCode::FLOW_CONTROL_ERROR, calls);
        }
        self.make_ready(slot);
        self.pump();
        Ok(())
    }

    /// Counts a WINDOW_UPDATE that lets waiting data go in crumbs.
    ///
    /// Where nothing waits it costs no more than to be read, and gRPC's C core sends two with each
    /// call: one for the prefix of the answer, one for what the last answer took.
    fn count_tiny_update(&mut self) -> Result<(), Closed> {
        let limit = self.limits.tiny_updates_max;
        if self.floods.tiny_updates.hit(self.now, Limits::RATE_WINDOW_MS, limit) {
            return Ok(());
        }
        Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too many tiny window updates"))
    }

    pub(super) fn on_rst_stream(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let id = header.stream;
        self.check_not_idle(id)?;
        let Ok(code) = <[u8; 4]>::try_from(payload) else {
            return Err(closed(ErrorCode::FRAME_SIZE_ERROR, "RST_STREAM of a wrong size"));
        };
        let Some(slot) = self.streams.find(id) else { return self.useless() };
        let is_answered = self.streams.get(slot).is_head_sent;
        let call = self.remove(slot);
        self.past.note_closed(id);
        if let Some(call) = call {
            calls.on_reset(StreamId(id), call, ErrorCode(u32::from_be_bytes(code)));
        }
        // An answer that has begun is one: streams end like this, each keep-alive of one message.
        if is_answered
            || self.floods.resets.hit(self.now, Limits::RATE_WINDOW_MS, self.limits.resets_max)
        {
            return Ok(());
        }
        Err(closed(ErrorCode::ENHANCE_YOUR_CALM, "too many resets"))
    }

    pub(super) fn on_priority(
        &mut self,
        header: Header,
        payload: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        let id = header.stream;
        if id == 0 {
            return Err(protocol_error("PRIORITY on no stream"));
        }
        let is_idle = self.check_not_idle(id).is_err();
        let code = match <&[u8; 5]>::try_from(payload) {
            Ok(priority) if dependency(priority) != id => return self.useless(),
            Ok(_) => ErrorCode::PROTOCOL_ERROR,
            Err(_) => ErrorCode::FRAME_SIZE_ERROR,
        };
        // RST_STREAM may not name an idle stream.
        if is_idle {
            return Err(closed(code, "a bad PRIORITY on an idle stream"));
        }
        self.stream_error(id, code, calls)
    }
}

const _: () = assert!(WINDOW_INITIAL as i64 <= WINDOW_MAX, "a window begins within bounds");

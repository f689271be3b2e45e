//! The machine itself.

use std::marker::PhantomData;

use crate::types::Tick;

use super::{Calls, Closed, ErrorCode, Limits, StreamId};

/// One client's connection, from the preface to the last GOAWAY. `C` is the owner's state per call.
///
/// The owner feeds received bytes to [`Self::receive`] and time to [`Self::tick`], answers with the
/// `reply_*` methods, and sends [`Self::output`], telling [`Self::sent`]. After an `Err` it sends
/// what is left of the output and closes the socket; when the socket fails it calls [`Self::lost`].
///
/// A reply to a stream that is gone is ignored. A reply handed over whole gives the call back,
/// even while its bytes still wait for a window; no callback names that stream afterwards.
pub struct Connection<C> {
    call: PhantomData<C>,
}

impl<C> Connection<C> {
    /// A connection just accepted; our SETTINGS already stand in the output.
    #[must_use]
    pub fn new(_limits: Limits, _now: Tick) -> Self {
        unimplemented!()
    }

    /// Takes in what was received, cut anywhere, and tells `calls` what it means.
    ///
    /// # Errors
    /// The connection must close once the output is sent; every open call was given to `on_reset`.
    pub fn receive(
        &mut self,
        _bytes: &[u8],
        _now: Tick,
        _calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Closed> {
        unimplemented!()
    }

    /// Lets time pass: keep-alive, timeouts, the steps of a graceful end. To be called every second or so.
    ///
    /// # Errors
    /// As for [`Self::receive`].
    pub fn tick(&mut self, _now: Tick, _calls: &mut impl Calls<Call = C>) -> Result<(), Closed> {
        unimplemented!()
    }

    /// The socket is gone: gives every open call to `on_reset`.
    pub fn lost(&mut self, _calls: &mut impl Calls<Call = C>) {
        unimplemented!()
    }

    /// The owner has taken `n` bytes of `on_data`'s into its own keeping: the windows reopen by as much.
    ///
    /// Needed only while the request goes on; what was not told returns when the stream ends.
    pub fn consumed(&mut self, _stream: StreamId, _n: usize) {
        unimplemented!()
    }

    /// A whole reply in one call: headers, one message, trailers.
    ///
    /// `head` and `trailers` are blocks made with [`super::hpack`]; `message` is the DATA as it goes
    /// out (for gRPC its 5-byte prefix included) and may be empty.
    pub fn reply_unary(
        &mut self,
        _stream: StreamId,
        _head: &[u8],
        _message: &[u8],
        _trailers: &[u8],
    ) -> Option<C> {
        unimplemented!()
    }

    /// A reply's headers; `end`: nothing follows.
    pub fn reply_head(&mut self, _stream: StreamId, _block: &[u8], _end: bool) -> Option<C> {
        unimplemented!()
    }

    /// A piece of a reply's body; what no window allows yet waits on the stream. `end`: nothing follows.
    pub fn reply_data(&mut self, _stream: StreamId, _data: &[u8], _end: bool) -> Option<C> {
        unimplemented!()
    }

    /// A reply's trailers, after all its data; the reply ends with them.
    pub fn reply_trailers(&mut self, _stream: StreamId, _block: &[u8]) -> Option<C> {
        unimplemented!()
    }

    /// Ends a stream without a (further) reply.
    pub fn reset(&mut self, _stream: StreamId, _code: ErrorCode) -> Option<C> {
        unimplemented!()
    }

    /// Reply bytes that wait on this stream.
    #[must_use]
    pub fn queued(&self, _stream: StreamId) -> usize {
        unimplemented!()
    }

    /// Reply bytes that wait on all streams, for the owner's back pressure.
    #[must_use]
    pub fn queued_total(&self) -> usize {
        unimplemented!()
    }

    /// So much waits to be sent that the owner should not receive until some of it left.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        unimplemented!()
    }

    /// The call of a stream, until its reply is whole.
    pub fn call_mut(&mut self, _stream: StreamId) -> Option<&mut C> {
        unimplemented!()
    }

    /// Begins a graceful end: no new requests; [`Self::is_drained`] once the open ones are answered.
    pub fn shutdown(&mut self, _now: Tick) {
        unimplemented!()
    }

    /// The bytes to send next; empty if none.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        unimplemented!()
    }

    /// `n` bytes of [`Self::output`] are with the kernel.
    pub fn sent(&mut self, _n: usize) {
        unimplemented!()
    }

    /// A graceful end is complete: the socket may close once the output is empty.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        unimplemented!()
    }

    /// Streams whose request or reply is not complete.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        unimplemented!()
    }
}

//! One client connection as a machine: bytes in, calls out, replies in, bytes out.
//!
//! The owner of a socket feeds what it received to [`Connection::receive`], which decodes it in
//! place and tells the owner's [`Calls`] about requests as they come. The owner answers at any
//! later time with the `reply_*` methods; all that is ready to leave stands in one buffer,
//! [`Connection::output`]. There is no task, no future, no lock and, once a connection has seen
//! its usual requests, no allocation per request.
//!
//! The whole of RFC 9113 and RFC 7541 for a server is here. Deliberately left out: server push
//! (nobody wants it), priorities (checked, then ignored, as RFC 9113 §5.3 allows), extended
//! CONNECT, and a dynamic table for what we send (pre-encoded blocks need no state, see
//! [`hpack`]).
//!
//! Every queue is bounded by a field of [`Limits`], each of which names the attack it answers.

mod connection;
mod flow;
pub mod frame;
mod head;
pub mod hpack;
mod limits;
mod stream;

use std::fmt;

pub use connection::Connection;
pub use head::Head;
pub use limits::Limits;

/// The 24 bytes that a client of HTTP/2 opens with (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One request and its reply on a connection: odd, growing, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a stream or a connection ended: any 32-bit value, those of RFC 9113 §7 named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode(pub u32);

/// Declares the named codes and the text a person reads.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }

        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(other) => write!(f, "{other:#x}"),
                }
            }
        }
    };
}

error_codes! {
    /// No fault: a graceful end.
    NO_ERROR = 0;
    /// The peer broke the protocol in a way no other code names.
    PROTOCOL_ERROR = 1;
    /// The fault is the sender's own.
    INTERNAL_ERROR = 2;
    /// More was sent than the window allowed, or a window grew beyond 2³¹−1.
    FLOW_CONTROL_ERROR = 3;
    /// SETTINGS were not acknowledged in time.
    SETTINGS_TIMEOUT = 4;
    /// A frame came on a half-closed or closed stream.
    STREAM_CLOSED = 5;
    /// A frame's length is impossible for its type, or above the advertised maximum.
    FRAME_SIZE_ERROR = 6;
    /// The request was not looked at; it is safe to send it again.
    REFUSED_STREAM = 7;
    /// The stream is no longer wanted.
    CANCEL = 8;
    /// A header block could not be decoded; the connection's table is lost.
    COMPRESSION_ERROR = 9;
    /// A CONNECT's connection failed.
    CONNECT_ERROR = 10;
    /// The peer asks for more than its share.
    ENHANCE_YOUR_CALM = 11;
    /// The transport is not secure enough.
    INADEQUATE_SECURITY = 12;
    /// The request must come over HTTP/1.1.
    HTTP_1_1_REQUIRED = 13;
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The connection is over: send what [`Connection::output`] still holds, then close the socket.
///
/// # Errors
/// `code` is what the client was told in GOAWAY. The fault is the client's for every code but
/// `NO_ERROR` (we went away as planned, or the client stopped answering).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("http2: connection closed with {code}: {reason}")]
pub struct Closed {
    /// The code sent in GOAWAY.
    pub code: ErrorCode,
    /// What happened, for the log; also GOAWAY's debug data.
    pub reason: &'static str,
}

/// What a connection tells its owner. `Call` is the owner's state of one request, kept in the
/// connection's own stream table so that the owner needs no second map.
///
/// For one stream the order is `on_head`, any number of `on_data`, at most one `on_trailers`; one
/// of them carries the end. `on_reset` may come instead of any but the first, once, and is the
/// last. Nothing comes after the reply was handed over whole: the call has then been given back.
pub trait Calls {
    /// The owner's state of one request.
    type Call;

    /// Whether the owner takes no more before it has handed over answers that lie ready: what comes
    /// in with one receive has no other bound.
    fn is_full(&self) -> bool {
        false
    }

    /// A request's headers are whole and valid. `end`: the request has no body and no trailers.
    fn on_head(&mut self, stream: StreamId, head: &Head, end: bool) -> Self::Call;

    /// A piece of the request's body, cut anywhere, padding removed, borrowed from what was
    /// received. `end`: the last.
    fn on_data(&mut self, stream: StreamId, call: &mut Self::Call, data: &[u8], end: bool);

    /// The request's trailers; the request ends with them.
    fn on_trailers(&mut self, stream: StreamId, call: &mut Self::Call, trailers: &Head);

    /// The request is over without a reply: the client cancelled it or broke a rule, or the
    /// connection closed. `code` is the client's or ours.
    fn on_reset(&mut self, stream: StreamId, call: Self::Call, code: ErrorCode);
}

//! One client connection as a machine: requests in, bytes out; bytes in, answers out.
//!
//! A gRPC client reduced to what a load needs. Header blocks are ready after the first request, and
//! of an answer only the gRPC status and the size of the message are looked at. That is why a
//! request costs about a microsecond here and tens in a general client. Of calls that go on,
//! *talks* such as watches, every message is handed over as it comes, and the window that lets the
//! server send on may be withheld. Left out: TLS, server push, priorities, compression.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod hpack;

//! What one client may cost us: every bound of a connection, with its unit, default and reason.

use super::flow::WINDOW_INITIAL;

/// Bytes that the headers and trailers of one reply take in the output, well counted.
const HEADS_SIZE: usize = 128;

/// The bounds of one connection.
///
/// Rates are counted in fixed windows of [`Limits::RATE_WINDOW_MS`]. Past a rate the connection
/// gets GOAWAY `ENHANCE_YOUR_CALM` and closes; everything else says what happens at the limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests open at once, as advertised in SETTINGS; 2³²−1 (etcd's default of
    /// `--max-concurrent-streams`) advertises [`Self::requests_open_max`]. One more is refused.
    pub streams_max: u32,
    /// Requests open at once, whatever is advertised. Default 65,536: ten times what kube-apiserver
    /// opens, some 10 MiB of stream table. One more gets RST_STREAM `REFUSED_STREAM`, which
    /// clients retry.
    pub requests_open_max: u32,
    /// Bytes of one frame's payload that we accept. Default 16,384, the protocol's own: no client
    /// sends more unless asked, and a partial frame is what a connection buffers.
    pub frame_size_max: u32,
    /// Bytes a client may send on one stream before we took some. Default 4 MiB: a whole request
    /// of etcd's largest default size (2 MiB) never waits for a round trip. At least 65,535.
    pub window_stream: u32,
    /// The same over all streams. Default 16 MiB: some pipelined large requests on a 10 ms link at
    /// 10 Gbit/s, and the most that unread request bodies of one connection can hold.
    pub window_connection: u32,
    /// Bytes of one decoded header list, 32 added per field (RFC 9113 §6.5.2). Default 64 KiB:
    /// tokens and metadata take 1–8 KiB. Answers header bombs (small blocks that decode to much):
    /// the request gets RST_STREAM `ENHANCE_YOUR_CALM`.
    pub header_list_size_max: u32,
    /// Bytes of one encoded header block over HEADERS and CONTINUATION. Default 64 KiB; above, the
    /// connection closes, for a block must be read whole or the table is lost.
    pub header_block_size_max: u32,
    /// CONTINUATION frames of one header block. Default 16: four times what the largest block
    /// needs. Answers the CONTINUATION flood (CVE-2024-24549 and its kin); the connection closes.
    pub continuations_max: u32,
    /// Bytes of the HPACK dynamic table a client may have us keep. Default 4,096, the protocol's.
    pub header_table_size: u32,
    /// Requests that a client may cancel per window of time before their answer has begun, beyond
    /// one for each reply. Default 5,000: a client that loses interest in everything at once is
    /// served, a rapid reset (CVE-2023-44487) is not.
    pub resets_max: u32,
    /// SETTINGS frames per window of time. Default 100: each costs an answer and, if it moves the
    /// stream window, a walk over the open streams (CVE-2019-9515).
    pub settings_max: u32,
    /// Frames of no use per window of time, beyond [`Self::USELESS_PER_REPLY`] for each reply:
    /// PRIORITY, unknown types, empty DATA, HEADERS or CONTINUATION that end nothing,
    /// WINDOW_UPDATE, RST_STREAM and DATA for streams that are gone. Default 20,000: far above the
    /// races of a busy client (CVE-2019-9513, CVE-2019-9518).
    pub useless_frames_max: u32,
    /// Stream errors that a client may provoke per window of time. Default 1,000. Each costs a
    /// RST_STREAM (CVE-2019-9514, CVE-2025-8671).
    pub stream_errors_max: u32,
    /// WINDOW_UPDATE frames of less than [`Self::WINDOW_UPDATE_TINY`] bytes per window of time, for
    /// data that waits for them, beyond the DATA frames that we sent. Default 1,000: clients that
    /// return windows as they read stay near zero (CVE-2019-9511, CVE-2019-9517).
    pub tiny_updates_max: u32,
    /// Milliseconds that must pass between a client's PINGs while we send nothing. Default 5,000
    /// (etcd's `--grpc-keepalive-min-time`). Each PING that comes sooner is a strike; sending
    /// headers or data forgives. Also answers the PING flood (CVE-2019-9512).
    pub ping_interval_min: u64,
    /// Strikes allowed; one more gets GOAWAY `ENHANCE_YOUR_CALM` with `too_many_pings`, as gRPC
    /// clients know it. Default 2, grpc's.
    pub ping_strikes_max: u32,
    /// Bytes of output that stand ready to be sent before reply data waits on its stream instead.
    /// Default 1 MiB: several sends' worth. [`super::Connection::is_congested`] then says so. At
    /// four times as much, and room for the headers and trailers of every request that may be open,
    /// the connection closes: somebody feeds requests and reads no answers.
    pub output_size_max: usize,
    /// Bytes of replies that may wait on streams for windows or output room. Default 256 MiB: a
    /// reply begins only while less waits, so the bound is this plus one reply. Above, the reply's
    /// stream gets RST_STREAM `ENHANCE_YOUR_CALM`. Answers a client that never reads.
    pub queued_size_max: usize,
    /// Milliseconds without any output taken, while there is some, before the connection closes.
    /// Default 60,000. Answers slow readers.
    pub stall_timeout: u64,
    /// Milliseconds for the preface, for a header block and for any one frame to arrive whole.
    /// Default 30,000: 16 KiB over the worst of links. Answers slow senders (slowloris).
    pub receive_timeout: u64,
    /// Milliseconds for our SETTINGS to be acknowledged. Default 30,000.
    pub settings_timeout: u64,
    /// Milliseconds without a byte from the client before we PING it. Default 7,200,000 (etcd's
    /// `--grpc-keepalive-interval`). 0: never.
    pub keepalive_interval: u64,
    /// Milliseconds for that PING to bring a sign of life. Default 20,000 (etcd's
    /// `--grpc-keepalive-timeout`).
    pub keepalive_timeout: u64,
    /// Milliseconds without an open request before the connection drains. Default 0: never.
    pub idle_timeout: u64,
    /// Milliseconds between the first and the last GOAWAY of a graceful end, unless the client
    /// shows earlier that it saw the first. Default 1,000.
    pub goaway_delay: u64,
    /// Milliseconds that a graceful end waits for open requests. Default 30,000. 0: for ever.
    pub drain_timeout: u64,
}

impl Limits {
    /// Length of the windows of time that rates are counted in, in milliseconds.
    pub const RATE_WINDOW_MS: u64 = 10_000;
    /// Frames of no use that a whole reply excuses: windows returned and resets sent for a stream
    /// that has just ended are no attack.
    pub const USELESS_PER_REPLY: u32 = 4;
    /// WINDOW_UPDATEs below this many bytes count as tiny.
    pub const WINDOW_UPDATE_TINY: u32 = 512;

    /// Bytes of output at which the connection closes: see [`Self::output_size_max`].
    pub(super) fn output_closed_max(&self) -> usize {
        self.output_size_max.saturating_mul(4) + self.open_max() * HEADS_SIZE
    }

    /// How many requests may be open at once.
    pub(super) fn open_max(&self) -> usize {
        let open = self.streams_max.min(self.requests_open_max);
        usize::try_from(open).expect("usize has 64 bits")
    }

    /// What must hold for the machine to keep its promises.
    pub(super) fn check(&self) {
        let frames = 1 << 14..1 << 24;
        assert!(frames.contains(&self.frame_size_max), "RFC 9113 bounds a frame's size");
        // A client may use the protocol's own window until it has seen ours.
        let windows = WINDOW_INITIAL..=(1 << 31) - 1;
        assert!(windows.contains(&self.window_stream), "a stream's window has bounds");
        assert!(windows.contains(&self.window_connection), "the connection's window has bounds");
        assert!(self.header_table_size <= 1 << 16, "a table is small");
        assert!(self.header_block_size_max <= 1 << 24, "a header block is small");
        assert!(self.header_list_size_max <= 1 << 24, "a header list is small");
        assert!(self.output_size_max >= 1 << 15, "the output holds a few frames");
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_max: u32::MAX,
            requests_open_max: 1 << 16,
            frame_size_max: 1 << 14,
            window_stream: 4 << 20,
            window_connection: 16 << 20,
            header_list_size_max: 1 << 16,
            header_block_size_max: 1 << 16,
            continuations_max: 16,
            header_table_size: 4096,
            resets_max: 5_000,
            settings_max: 100,
            useless_frames_max: 20_000,
            stream_errors_max: 1_000,
            tiny_updates_max: 1_000,
            ping_interval_min: 5_000,
            ping_strikes_max: 2,
            output_size_max: 1 << 20,
            queued_size_max: 256 << 20,
            stall_timeout: 60_000,
            receive_timeout: 30_000,
            settings_timeout: 30_000,
            keepalive_interval: 7_200_000,
            keepalive_timeout: 20_000,
            idle_timeout: 0,
            goaway_delay: 1_000,
            drain_timeout: 30_000,
        }
    }
}

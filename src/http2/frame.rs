//! HTTP/2 frames as bytes, RFC 9113 §4 and §6: nine bytes of header, then the payload.

/// Bytes of a frame's header.
pub const HEADER_SIZE: usize = 9;
/// The payload that every peer accepts, and the most that we put into one frame.
pub const PAYLOAD_SIZE_MAX: usize = 1 << 14;

/// DATA: a piece of a body.
pub const DATA: u8 = 0;
/// HEADERS: opens a stream, or carries trailers.
pub const HEADERS: u8 = 1;
/// PRIORITY: obsolete advice.
pub const PRIORITY: u8 = 2;
/// RST_STREAM: ends a stream at once.
pub const RST_STREAM: u8 = 3;
/// SETTINGS: what the sender accepts.
pub const SETTINGS: u8 = 4;
/// PUSH_PROMISE: a server's; a client must not send it.
pub const PUSH_PROMISE: u8 = 5;
/// PING: to be answered at once.
pub const PING: u8 = 6;
/// GOAWAY: no more streams.
pub const GOAWAY: u8 = 7;
/// WINDOW_UPDATE: more may be sent.
pub const WINDOW_UPDATE: u8 = 8;
/// CONTINUATION: more of a header block.
pub const CONTINUATION: u8 = 9;

/// Flag of DATA and HEADERS: the sender's half of the stream ends.
pub const END_STREAM: u8 = 0x1;
/// Flag of SETTINGS and PING: an answer.
pub const ACK: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION: the block ends.
pub const END_HEADERS: u8 = 0x4;
/// Flag of DATA and HEADERS: a length of padding comes first.
pub const PADDED: u8 = 0x8;
/// Flag of HEADERS: five bytes of priority come first.
pub const WITH_PRIORITY: u8 = 0x20;

/// SETTINGS_HEADER_TABLE_SIZE.
pub const HEADER_TABLE_SIZE: u16 = 1;
/// SETTINGS_ENABLE_PUSH.
pub const ENABLE_PUSH: u16 = 2;
/// SETTINGS_MAX_CONCURRENT_STREAMS.
pub const MAX_CONCURRENT_STREAMS: u16 = 3;
/// SETTINGS_INITIAL_WINDOW_SIZE.
pub const INITIAL_WINDOW_SIZE: u16 = 4;
/// SETTINGS_MAX_FRAME_SIZE.
pub const MAX_FRAME_SIZE: u16 = 5;
/// SETTINGS_MAX_HEADER_LIST_SIZE.
pub const MAX_HEADER_LIST_SIZE: u16 = 6;

/// The first nine bytes of a frame.
///
/// # Shape
/// `size` is below 2²⁴, `stream` below 2³¹; the reserved bit is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of payload that follow.
    pub size: usize,
    /// What kind of frame; unknown ones are to be ignored.
    pub kind: u8,
    /// Flags, by kind.
    pub flags: u8,
    /// The stream it is about; 0 for the connection.
    pub stream: u32,
}

impl Header {
    /// Reads the header at the front of `bytes`, if all of it is there.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEADER_SIZE>()?;
        let size = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { size, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff })
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame's header.
pub fn put_header(out: &mut Vec<u8>, size: usize, kind: u8, flags: u8, stream: u32) {
    let size = u32::try_from(size).expect("a frame is small");
    assert!(size < 1 << 24, "a frame's size has 24 bits");
    let [_, a, b, c] = size.to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

/// Appends a whole frame.
pub fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_header(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

/// Appends a frame whose payload is one 32-bit number: RST_STREAM, WINDOW_UPDATE.
pub fn put_u32(out: &mut Vec<u8>, kind: u8, stream: u32, number: u32) {
    put(out, kind, 0, stream, &number.to_be_bytes());
}

/// Appends SETTINGS.
pub fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    put_header(out, settings.len() * 6, SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a header block as HEADERS and as many CONTINUATIONs as it takes.
pub fn put_block(out: &mut Vec<u8>, stream: u32, block: &[u8], end_stream: bool) {
    let mut flags = if end_stream { END_STREAM } else { 0 };
    let (first, mut rest) = block.split_at(block.len().min(PAYLOAD_SIZE_MAX));
    flags |= if rest.is_empty() { END_HEADERS } else { 0 };
    put(out, HEADERS, flags, stream, first);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(PAYLOAD_SIZE_MAX));
        rest = after;
        put(out, CONTINUATION, if rest.is_empty() { END_HEADERS } else { 0 }, stream, piece);
    }
}

/// Appends GOAWAY.
pub fn put_goaway(out: &mut Vec<u8>, last: u32, code: u32, debug: &str) {
    put_header(out, 8 + debug.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(debug.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_without_its_reserved_bit() {
        let mut out = Vec::new();
        put_header(&mut out, 0x01_02_03, 0xaa, 0x55, 0x8000_0007);
        assert_eq!(Header::read(&out[..8]), None);
        let header = Header { size: 0x01_02_03, kind: 0xaa, flags: 0x55, stream: 7 };
        assert_eq!(Header::read(&out), Some(header));
    }

    #[test]
    fn a_long_block_is_continued() {
        let mut out = Vec::new();
        put_block(&mut out, 1, &[7; 2 * PAYLOAD_SIZE_MAX + 1], true);
        let mut rest = &out[..];
        let mut seen = Vec::new();
        while let Some(header) = Header::read(rest) {
            seen.push((header.kind, header.flags, header.size));
            rest = &rest[HEADER_SIZE + header.size..];
        }
        let full = PAYLOAD_SIZE_MAX;
        let frames =
            [(HEADERS, END_STREAM, full), (CONTINUATION, 0, full), (CONTINUATION, END_HEADERS, 1)];
        assert_eq!(seen, frames);
    }
}

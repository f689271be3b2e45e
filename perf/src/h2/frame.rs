//! HTTP/2 frames: nine bytes of head and a payload (RFC 9113 §4, §6).

/// Size of a frame's head in bytes.
pub(crate) const HEAD_SIZE: usize = 9;

/// The largest payload a peer may send us in bytes; the protocol's default, which we keep.
pub(crate) const PAYLOAD_SIZE_MAX: usize = 16_384;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Frame flags; `ACK` and `END_STREAM` share a bit on different types.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
    pub(crate) const PRIORITY: u8 = 32;
}

/// Settings that matter to a client (RFC 9113 §6.5.2).
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
}

/// A frame's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// Payload size in bytes.
    pub(crate) size: usize,
    /// Type; see [`kind`].
    pub(crate) kind: u8,
    /// Flags; see [`flag`].
    pub(crate) flags: u8,
    /// The stream, zero for the connection itself.
    pub(crate) stream: u32,
}

impl Head {
    /// Reads a head, or `None` when fewer than nine bytes are there.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_SIZE] = bytes.first_chunk()?;
        let [a, b, c, kind, flags, s0, s1, s2, s3] = *head;
        Some(Self {
            size: (usize::from(a) << 16) | (usize::from(b) << 8) | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
        })
    }

    /// Writes the head.
    ///
    /// # Panics
    /// When the size needs more than 24 bits.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let size = u32::try_from(self.size).expect("a payload is below 16 MiB").to_be_bytes();
        assert!(size[0] == 0, "a payload is below 16 MiB");
        let stream = self.stream.to_be_bytes();
        out.extend_from_slice(&[
            size[1], size[2], size[3], self.kind, self.flags, stream[0], stream[1], stream[2],
            stream[3],
        ]);
    }

    /// Whether `flag` is set.
    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a WINDOW_UPDATE frame.
pub(crate) fn window_update(stream: u32, increment: u32, out: &mut Vec<u8>) {
    Head { size: 4, kind: kind::WINDOW_UPDATE, flags: 0, stream }.write(out);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// Writes a SETTINGS frame.
pub(crate) fn settings(values: &[(u16, u32)], out: &mut Vec<u8>) {
    Head { size: values.len() * 6, kind: kind::SETTINGS, flags: 0, stream: 0 }.write(out);
    for (name, value) in values {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The payload without padding and priority fields; `None` when they do not fit into it.
pub(crate) fn content(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (first, tail) = rest.split_first()?;
        padding = usize::from(*first);
        rest = tail;
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        rest = rest.get(5..)?;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

/// A big-endian 32-bit number at `offset` of the payload.
pub(crate) fn number(payload: &[u8], offset: usize) -> Option<u32> {
    let bytes = payload.get(offset..)?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*bytes))
}

/// The settings in a payload; an odd tail is ignored.
pub(crate) fn read_settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    payload
        .chunks_exact(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_reads_as_written() {
        let head = Head { size: 70_001, kind: kind::DATA, flags: 9, stream: 0x7fff_fffe };
        let mut bytes = Vec::new();
        head.write(&mut bytes);
        assert_eq!(Head::read(&bytes), Some(head));
        assert_eq!(Head::read(&bytes[..8]), None);
    }

    #[test]
    fn the_reserved_bit_of_a_stream_is_ignored() {
        let head = Head::read(&[0, 0, 0, 0, 0, 0x80, 0, 0, 1]).expect("nine bytes");
        assert_eq!(head.stream, 1);
    }

    #[test]
    fn padding_and_priority_are_cut_off() {
        let flags = flag::PADDED | flag::PRIORITY;
        let head = Head { size: 10, kind: kind::HEADERS, flags, stream: 1 };
        assert_eq!(content(head, &[2, 0, 0, 0, 0, 9, 7, 8, 0, 0]), Some(&[7, 8][..]));
        assert_eq!(content(head, &[200, 0, 0, 0, 0, 9, 7, 8, 0, 0]), None);
        assert_eq!(content(head, &[]), None);
    }

    #[test]
    fn settings_read_as_written() {
        let mut bytes = Vec::new();
        settings(&[(1, 4096), (4, 65_535)], &mut bytes);
        let read: Vec<_> = read_settings(&bytes[HEAD_SIZE..]).collect();
        assert_eq!(read, vec![(1, 4096), (4, 65_535)]);
    }
}

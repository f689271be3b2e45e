//! What members send each other, in bytes. This page is the format; the tests hold the code to it.
//!
//! # Purpose
//!
//! A member dials each other member, and says what it has to say on the connections that it has
//! dialled: one of each [`Kind`] for each shard. Such a connection is a *greeting* in each
//! direction, the dialler's first, and then *frames*. All integers are little-endian. Who dials
//! waits for the other's greeting, and says nothing more if that is no welcome.
//!
//! A connection to the same port that does not begin with the magic is HTTP/1.1; the magic's first
//! byte is none that HTTP or TLS begins with.
//!
//! # Greeting
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 8 | magic | byte f2, then `ringdpr` |
//! | 8 | 2 | format_version | 1 |
//! | 10 | 1 | kind | 1 raft, 2 bulk |
//! | 11 | 1 | verdict | 0; in the answer, what becomes of the connection (below) |
//! | 12 | 4 | shard | whose connection it is |
//! | 16 | 8 | cluster | the sender's cluster |
//! | 24 | 8 | from | the sender |
//! | 32 | 8 | to | the member that it means to reach; in the answer, the one that called |
//! | 40 | 8 | log | the id of the sender's log: another one is another memory |
//! | 48 | 8 | run | drawn when the sender's process began |
//! | 56 | 4 | shards | how many shards the sender hosts |
//! | 60 | 2 | major | of the sender's version |
//! | 62 | 2 | minor | of the sender's version |
//! | 64 | 2 | patch | of the sender's version |
//! | 66 | 2 | reserved | zero |
//! | 68 | 4 | crc | CRC-32 (IEEE) of bytes 0..68 |
//!
//! Magic, format_version and shard stay where they are in every version.
//!
//! # Verdicts
//!
//! A row in each direction of trouble; after any but the first both sides close.
//!
//! | code | verdict | why |
//! |-----:|---------|------------------------------------------------------------------|
//! | `0` | welcome | frames may follow |
//! | `1` | format | the answerer does not know the caller's format_version |
//! | `2` | cluster | they are of different clusters |
//! | `3` | addressee | the answerer is not the member that the caller means |
//! | `4` | shards | they host different numbers of shards |
//! | `5` | version | their versions do not go together: not within one minor version |
//! | `6` | log | this member was here with another log: it has lost its memory |
//! | `7` | twice | two processes are this member |
//! | `8` | unknown | the answerer knows no such member, and hears too many already |
//! | `9` | removed | the caller was a member, and was removed |
//!
//! Who is of the cluster and not known is heard: an answerer that was away, or that joins, learns
//! of newer members only from them.
//!
//! # Frame
//!
//! This header, then the payload.
//!
//! | offset | size | field | value |
//! |-------:|-----:|----------------|---------------------------------------------------------|
//! | 0 | 4 | size | bytes of the payload |
//! | 4 | 1 | kind | 1 packet, 2 ping, 3 pong, 4 urls |
//! | 5 | 3 | check | the first bytes of the CRC-32 of the frame's number and bytes 0..5 |
//! | 8 | 4 | crc | CRC-32 of the frame's number, bytes 0..8, and the payload |
//!
//! A frame's number (8 bytes) is how many went before it in its direction, so that one that is lost
//! or comes twice is not whole. The check is for the size, which is believed before the payload is
//! there: with a wrong one a receiver would wait for bytes that nobody sends, and take all that
//! comes meanwhile for them. A ping asks for a pong; both are empty. Only the dialler sends
//! packets; their payload is the shard's business.
//!
//! The dialler's first frame on a raft connection says where its peers reach it: each URL's size
//! (2 bytes) and the URL, to the end, 64 KiB at most.
//!
//! # Versions
//!
//! 1: this one.

use crate::frame::checksum;
use crate::frame::u16_at;
use crate::frame::u32_at;
use crate::frame::u64_at;
use crate::types::ClusterId;
use crate::types::NodeId;
use crate::types::ShardId;

/// What every connection between members begins with.
pub const MAGIC: [u8; 8] = *b"\xf2ringdpr";
/// The version of all of this.
pub const FORMAT_VERSION: u16 = 1;
/// Bytes of a greeting.
pub const GREETING_SIZE: usize = 72;
/// Bytes of a frame's header.
pub const HEADER_SIZE: usize = 12;

/// Bytes of a payload that says where a member is reached.
const URLS_SIZE_MAX: u32 = 64 << 10;

/// Name, offset and size of each field of a greeting.
pub const GREETING_FIELDS: [(&str, usize, usize); 15] = [
    ("magic", 0, 8),
    ("format_version", 8, 2),
    ("kind", 10, 1),
    ("verdict", 11, 1),
    ("shard", 12, 4),
    ("cluster", 16, 8),
    ("from", 24, 8),
    ("to", 32, 8),
    ("log", 40, 8),
    ("run", 48, 8),
    ("shards", 56, 4),
    ("major", 60, 2),
    ("minor", 62, 2),
    ("patch", 64, 2),
    ("reserved", 66, 2),
];

/// Name, offset and size of each field of a frame's header.
pub const HEADER_FIELDS: [(&str, usize, usize); 4] =
    [("size", 0, 4), ("kind", 4, 1), ("check", 5, 3), ("crc", 8, 4)];

const CRC_AT: usize = 68;

const _: () = {
    let (mut i, mut end) = (0, 0);
    while i < GREETING_FIELDS.len() {
        assert!(GREETING_FIELDS[i].1 == end, "fields leave no gap");
        end += GREETING_FIELDS[i].2;
        i += 1;
    }
    assert!(end == CRC_AT && CRC_AT + 4 == GREETING_SIZE);
};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// What Raft says; first of all heartbeats, which nothing may hold up.
    Raft,
    /// What takes long: snapshots.
    Bulk,
}

/// What the dialled side makes of a greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Frames may follow.
    Welcome,
    /// Its format is not known here.
    Format,
    /// It is of another cluster.
    Cluster,
    /// It means another member.
    Addressee,
    /// It hosts another number of shards.
    Shards,
    /// Its version is too far from ours.
    Version,
    /// It was here with another log.
    Log,
    /// Two processes are this member.
    Twice,
    /// It is no member that is known here, and there are too many of those.
    Unknown,
    /// It was a member.
    Removed,
}

/// Every verdict, by its code.
pub const VERDICTS: [Verdict; 10] = [
    Verdict::Welcome,
    Verdict::Format,
    Verdict::Cluster,
    Verdict::Addressee,
    Verdict::Shards,
    Verdict::Version,
    Verdict::Log,
    Verdict::Twice,
    Verdict::Unknown,
    Verdict::Removed,
];

/// A version of ringd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Another one goes with no other.
    pub major: u16,
    /// One apart goes together.
    pub minor: u16,
    /// Any goes.
    pub patch: u16,
}

/// Who a member is, as it says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub node: NodeId,
    /// Its shard that speaks.
    pub shard: ShardId,
    /// How many it hosts.
    pub shards: u32,
    /// The id of its log.
    pub log: u64,
    /// Drawn when its process began.
    pub run: u64,
    /// Its version.
    pub version: Version,
}

/// A greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who sends it.
    pub card: Card,
    /// Whom it is for.
    pub to: NodeId,
    /// What the connection is for.
    pub kind: Kind,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// Why bytes are no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// They do not begin with the magic.
    #[error("it does not speak as a member does")]
    Magic,
    /// They are of another format.
    #[error("it speaks format {0} of the peers' protocol and this is {FORMAT_VERSION}")]
    Format(u16),
    /// They are not as they were sent.
    #[error("its greeting is damaged")]
    Damaged,
}

impl Version {
    /// The version in a text like `1.2.3`; zeros where there are no numbers.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or_default());
        let mut next = || parts.next().unwrap_or_default();
        Self { major: next(), minor: next(), patch: next() }
    }

    /// Whether members of the two can be of one cluster.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        self.major == other.major && self.minor.abs_diff(other.minor) <= 1
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Verdict {
    fn code(self) -> u8 {
        let at = VERDICTS.iter().position(|verdict| *verdict == self).expect("all are listed");
        u8::try_from(at).expect("they are few")
    }
}

impl Hello {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; GREETING_SIZE] {
        let mut out = [0; GREETING_SIZE];
        let Card { cluster, node, shard, shards, log, run, version } = self.card;
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(10, &[if self.kind == Kind::Raft { 1 } else { 2 }, self.verdict.code()]);
        put(12, &shard.0.to_le_bytes());
        for (at, number) in [(16, cluster.0), (24, node.0), (32, self.to.0), (40, log), (48, run)] {
            put(at, &number.to_le_bytes());
        }
        put(56, &shards.to_le_bytes());
        for (at, number) in [(60, version.major), (62, version.minor), (64, version.patch)] {
            put(at, &number.to_le_bytes());
        }
        let crc = checksum(&[&out[..CRC_AT]]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The greeting in `bytes`.
    ///
    /// # Errors
    /// Why they are none.
    pub fn decode(bytes: &[u8; GREETING_SIZE]) -> Result<Self, HelloError> {
        if bytes[..8] != MAGIC {
            return Err(HelloError::Magic);
        }
        let format = u16_at(bytes, 8);
        if format != FORMAT_VERSION {
            return Err(HelloError::Format(format));
        }
        let kind = match bytes[10] {
            1 => Kind::Raft,
            2 => Kind::Bulk,
            _ => return Err(HelloError::Damaged),
        };
        let verdict = VERDICTS.get(usize::from(bytes[11])).ok_or(HelloError::Damaged)?;
        if u32_at(bytes, CRC_AT) != checksum(&[&bytes[..CRC_AT]]) || u16_at(bytes, 66) != 0 {
            return Err(HelloError::Damaged);
        }
        let card = Card {
            cluster: ClusterId(u64_at(bytes, 16)),
            node: NodeId(u64_at(bytes, 24)),
            shard: ShardId(u32_at(bytes, 12)),
            shards: u32_at(bytes, 56),
            log: u64_at(bytes, 40),
            run: u64_at(bytes, 48),
            version: Version {
                major: u16_at(bytes, 60),
                minor: u16_at(bytes, 62),
                patch: u16_at(bytes, 64),
            },
        };
        Ok(Self { card, to: NodeId(u64_at(bytes, 32)), kind, verdict: *verdict })
    }
}

/// The shard that a greeting is for, once enough of its bytes have come.
#[must_use]
pub fn shard(bytes: &[u8]) -> Option<ShardId> {
    (bytes.len() >= 16).then(|| ShardId(u32_at(bytes, 12)))
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// What one shard tells another.
    Packet,
    /// A question whether anybody is there.
    Ping,
    /// Its answer.
    Pong,
    /// Where the sender's peers reach it.
    Urls,
}

/// The header of frame `number` with this payload.
///
/// # Panics
/// If the payload has 4 GiB or more.
#[must_use]
pub fn header(number: u64, kind: FrameKind, payload: &[u8]) -> [u8; HEADER_SIZE] {
    let mut out = [0; HEADER_SIZE];
    let size = u32::try_from(payload.len()).expect("a payload is bounded");
    out[..8].copy_from_slice(&start(number, kind, size));
    let crc = checksum(&[&number.to_le_bytes(), &out[..8], payload]);
    out[8..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The first bytes of the header of frame `number`: all but the checksum of the whole.
pub(super) fn start(number: u64, kind: FrameKind, size: u32) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&size.to_le_bytes());
    out[4] = match kind {
        FrameKind::Packet => 1,
        FrameKind::Ping => 2,
        FrameKind::Pong => 3,
        FrameKind::Urls => 4,
    };
    let check = checksum(&[&number.to_le_bytes(), &out[..5]]);
    out[5..].copy_from_slice(&check.to_le_bytes()[..3]);
    out
}

/// Kind and payload size in the header of frame `number`, if it is one's; the checksum of the whole
/// is not looked at.
#[must_use]
pub fn read_header(number: u64, header: &[u8; HEADER_SIZE]) -> Option<(FrameKind, u32)> {
    let size = u32_at(header, 0);
    let kind = match header[4] {
        1 => FrameKind::Packet,
        2 if size == 0 => FrameKind::Ping,
        3 if size == 0 => FrameKind::Pong,
        4 if size <= URLS_SIZE_MAX => FrameKind::Urls,
        _ => return None,
    };
    (header[..8] == start(number, kind, size)).then_some((kind, size))
}

/// The payload that says where a member is reached: as many of its URLs as there is room for.
#[must_use]
pub fn urls_payload(urls: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    let size_max = usize::try_from(URLS_SIZE_MAX).expect("usize is 64 bits");
    for url in urls {
        let Ok(size) = u16::try_from(url.len()) else { continue };
        if out.len() + 2 + url.len() <= size_max {
            out.extend_from_slice(&size.to_le_bytes());
            out.extend_from_slice(url.as_bytes());
        }
    }
    out
}

/// The URLs in such a payload; none if it is not one.
#[must_use]
pub fn read_urls(mut payload: &[u8]) -> Option<Vec<String>> {
    let mut urls = Vec::new();
    while !payload.is_empty() {
        let (size, rest) = payload.split_first_chunk::<2>()?;
        let (url, rest) = rest.split_at_checked(u16::from_le_bytes(*size).into())?;
        urls.push(String::from_utf8(url.to_vec()).ok()?);
        payload = rest;
    }
    Some(urls)
}

/// Whether a whole frame is number `number` of its direction, as it was sent.
#[must_use]
pub fn is_whole(number: u64, header: &[u8; HEADER_SIZE], payload: &[u8]) -> bool {
    u32_at(header, 8) == checksum(&[&number.to_le_bytes(), &header[..8], payload])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::table_rows;
    use crate::peer::tests::card;

    fn hello() -> Hello {
        Hello { card: card(7), to: NodeId(9), kind: Kind::Bulk, verdict: Verdict::Twice }
    }

    #[test]
    fn the_tables_are_the_format() {
        let crc = [("crc", CRC_AT, 4)];
        let code = GREETING_FIELDS.iter().chain(&crc).chain(&HEADER_FIELDS);
        let code: Vec<_> = code.map(|&(name, at, size)| (name.to_owned(), at, size)).collect();
        assert_eq!(table_rows(include_str!("format.rs")), code);
        let lines = include_str!("format.rs").lines();
        let rows = lines.filter_map(|line| line.strip_prefix("//! | `"));
        let rows = rows.map(|row| row.split(['`', '|']).map(str::trim).collect::<Vec<_>>());
        let listed: Vec<_> = rows.map(|row| format!("{} {}", row[0], row[2])).collect();
        let code = VERDICTS.iter().map(|it| format!("{} {it:?}", it.code()).to_lowercase());
        assert_eq!(listed, code.collect::<Vec<_>>());
    }

    #[test]
    fn a_greeting_and_a_header_are_these_bytes() {
        let bytes: String = hello().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(bytes, GREETING_BYTES);
        let bytes = header(1, FrameKind::Packet, b"abc").map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(bytes, HEADER_BYTES);
    }

    const GREETING_BYTES: &str = concat!(
        "f272696e676470720100020701000000c10000000000000007000000000000000900000000000000",
        "6b00000000000000cf000000000000000200000001000200030000005d5d643e"
    );
    const HEADER_BYTES: &str = "030000000141d545bd3dc1d1";

    #[test]
    fn every_flipped_bit_of_a_greeting_is_found() {
        let whole = hello().encode();
        assert_eq!(Hello::decode(&whole), Ok(hello()));
        for bit in 0..GREETING_SIZE * 8 {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Hello::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found_and_so_is_a_frame_of_another_place() {
        let whole = header(3, FrameKind::Packet, b"abc");
        assert!(is_whole(3, &whole, b"abc") && !is_whole(4, &whole, b"abc"));
        for bit in 0..HEADER_SIZE * 8 {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_whole(3, &bytes, b"abc"), "bit {bit}");
            // The size is found wrong before any of the payload is there.
            assert_eq!(read_header(3, &bytes).is_none(), bit < 8 * 8, "bit {bit}");
        }
        assert!(read_header(3, &whole).is_some() && read_header(4, &whole).is_none());
        assert!(!is_whole(3, &whole, b"abd"));
    }

    #[test]
    fn urls_come_back_as_they_were_and_parts_of_them_do_not_read() {
        let urls = ["http://a:1".to_owned(), "http://b:2".to_owned()];
        let bytes = urls_payload(&urls);
        assert_eq!(read_urls(&bytes), Some(urls.to_vec()));
        for size in 0..bytes.len() {
            assert_ne!(read_urls(&bytes[..size]), Some(urls.to_vec()), "{size}");
        }
        assert_eq!(read_urls(&[1, 0, 0xff]), None, "it is no text");
        let long = "x".repeat(40_000);
        let many = [long.clone(), long.clone(), "y".repeat(70_000), "http://c:3".to_owned()];
        assert_eq!(read_urls(&urls_payload(&many)), Some(vec![long, many[3].clone()]));
    }

    #[test]
    fn versions_one_apart_go_together() {
        let version = Version::parse("1.2.3");
        assert_eq!(version.to_string(), "1.2.3");
        assert!(version.goes_with(Version::parse("1.3.0")));
        assert!(!version.goes_with(Version::parse("1.4.0")));
        assert!(!version.goes_with(Version::parse("x")));
    }
}

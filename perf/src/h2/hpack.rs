//! Header blocks: the few that a gRPC client writes, and enough of reading to find the status.
//!
//! What we write goes through the dynamic table, as general clients do: the first request on a
//! connection spells its headers out, later ones are seven bytes. What we read is decoded whole,
//! but a block that changed nothing is remembered, and its like is then only compared.

use std::collections::VecDeque;

use httlib_huffman::DecoderSpeed;

/// Bytes that both dynamic tables may hold; the protocol's default, which we keep.
pub(crate) const TABLE_SIZE: usize = 4096;

/// What a table entry counts besides its name and value, in bytes (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;

/// The methods this client calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Method {
    /// KV.Put.
    Put,
    /// KV.Range.
    Range,
    /// KV.DeleteRange.
    Delete,
    /// KV.Txn.
    Txn,
    /// KV.Compact.
    Compact,
    /// KV.RangeStream: the one whose answer is many messages.
    RangeStream,
    /// Maintenance.Status.
    Status,
    /// Watch.Watch: a talk.
    Watch,
    /// Lease.LeaseKeepAlive: a talk.
    KeepAlive,
    /// Lease.LeaseGrant.
    Grant,
    /// Lease.LeaseTimeToLive.
    TimeToLive,
    /// Lease.LeaseLeases.
    Leases,
    /// The benchmark method that decodes a put and does nothing.
    Empty,
}

impl Method {
    const COUNT: usize = 13;

    /// The request path.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Delete => "/etcdserverpb.KV/DeleteRange",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Compact => "/etcdserverpb.KV/Compact",
            Self::RangeStream => "/etcdserverpb.KV/RangeStream",
            Self::Status => "/etcdserverpb.Maintenance/Status",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::KeepAlive => "/etcdserverpb.Lease/LeaseKeepAlive",
            Self::Grant => "/etcdserverpb.Lease/LeaseGrant",
            Self::TimeToLive => "/etcdserverpb.Lease/LeaseTimeToLive",
            Self::Leases => "/etcdserverpb.Lease/LeaseLeases",
            Self::Empty => "/ringd.Bench/Empty",
        }
    }

    /// Whether an answer may be other than one message.
    pub(crate) fn is_stream(self) -> bool {
        self == Self::RangeStream
    }

    /// Whether both sides send as many messages as they like, for as long as they like.
    pub(crate) fn is_talk(self) -> bool {
        matches!(self, Self::Watch | Self::KeepAlive)
    }

    fn index(self) -> usize {
        match self {
            Self::Put => 0,
            Self::Range => 1,
            Self::Delete => 2,
            Self::Txn => 3,
            Self::Compact => 4,
            Self::RangeStream => 5,
            Self::Status => 6,
            Self::Empty => 7,
            Self::Watch => 8,
            Self::KeepAlive => 9,
            Self::Grant => 10,
            Self::TimeToLive => 11,
            Self::Leases => 12,
        }
    }
}

/// A header's place in [`Requests::field`], after the paths.
const AUTHORITY: usize = Method::COUNT;
const CONTENT_TYPE: usize = Method::COUNT + 1;
const USER_AGENT: usize = Method::COUNT + 2;
const TE: usize = Method::COUNT + 3;

/// How a header's name is written when it is not yet in the table.
enum Name {
    /// A static table entry with this name.
    Static(u8),
    /// Spelled out.
    Literal(&'static str),
}

/// The request headers of one connection, ready to send.
#[derive(Debug)]
pub(crate) struct Requests {
    authority: String,
    /// What is in the peer's dynamic table, oldest first: a slot of [`Self::field`].
    inserted: Vec<usize>,
    /// Blocks that insert nothing, by method.
    ready: [Option<Vec<u8>>; Method::COUNT],
    /// Whether the peer keeps a table of the default size.
    indexing: bool,
    /// Whether the next block must first say that we do not use the table.
    shrink: bool,
}

impl Requests {
    /// Headers for requests to `authority`.
    pub(crate) fn new(authority: &str) -> Self {
        let authority = authority.to_owned();
        let ready = [const { None }; Method::COUNT];
        Self { authority, inserted: Vec::new(), ready, indexing: true, shrink: false }
    }

    /// Takes the size of the peer's table; a smaller one than the default is not used at all.
    ///
    /// # Panics
    /// When a block was already written.
    pub(crate) fn on_table_size(&mut self, size: u32) {
        assert!(self.inserted.is_empty(), "settings come before the first request");
        self.indexing = usize::try_from(size).is_ok_and(|size| size >= TABLE_SIZE);
        self.shrink = !self.indexing;
    }

    /// The block for `method`, appended to `out`.
    pub(crate) fn write(&mut self, method: Method, out: &mut Vec<u8>) {
        if let Some(block) = &self.ready[method.index()] {
            out.extend_from_slice(block);
            return;
        }
        if self.shrink {
            out.push(0x20);
            self.shrink = false;
        }
        let start = out.len();
        let inserted = self.inserted.len();
        out.extend_from_slice(&[0x83, 0x86]); // :method POST, :scheme http
        for slot in [method.index(), AUTHORITY, CONTENT_TYPE, USER_AGENT, TE] {
            self.field(slot, method, out);
        }
        if self.inserted.len() == inserted {
            self.ready[method.index()] = Some(out[start..].to_vec());
        } else {
            self.ready = [const { None }; Method::COUNT];
        }
    }

    /// One header: the path of a method, or one of the four that all have in common.
    fn field(&mut self, slot: usize, method: Method, out: &mut Vec<u8>) {
        if let Some(position) = self.inserted.iter().position(|s| *s == slot) {
            let index = 62 + self.inserted.len() - 1 - position;
            out.push(0x80 | u8::try_from(index).expect("few entries"));
            return;
        }
        let (name, value) = match slot {
            AUTHORITY => (Name::Static(1), self.authority.as_str()),
            CONTENT_TYPE => (Name::Static(31), "application/grpc"),
            USER_AGENT => (Name::Static(58), "ringd-perf"),
            TE => (Name::Literal("te"), "trailers"),
            _ => (Name::Static(4), method.path()),
        };
        let (prefix, bits) = if self.indexing { (0x40, 6) } else { (0x00, 4) };
        match name {
            Name::Static(index) => write_integer(prefix, bits, u64::from(index), out),
            Name::Literal(name) => {
                out.push(prefix);
                write_integer(0, 7, name.len() as u64, out);
                out.extend_from_slice(name.as_bytes());
            }
        }
        write_integer(0, 7, value.len() as u64, out);
        out.extend_from_slice(value.as_bytes());
        if self.indexing {
            self.inserted.push(slot);
        }
    }
}

/// Writes an integer with a prefix of `bits` bits under the pattern `first` (RFC 7541 §5.1).
fn write_integer(first: u8, bits: u32, value: u64, out: &mut Vec<u8>) {
    let full = (1u64 << bits) - 1;
    let byte = |value: u64| u8::try_from(value).expect("masked to a byte");
    if value < full {
        out.push(first | byte(value));
        return;
    }
    out.push(first | byte(full));
    let mut rest = value - full;
    while rest >= 128 {
        out.push(0x80 | byte(rest & 0x7f));
        rest >>= 7;
    }
    out.push(byte(rest));
}

/// What an answer's header block says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Said {
    /// The HTTP status, in the first block of an answer.
    pub(crate) http_status: Option<u16>,
    /// The gRPC status, in the last block.
    pub(crate) grpc_status: Option<u32>,
    /// The gRPC message, when there is one.
    pub(crate) message: Option<String>,
}

/// Reads the header blocks of one connection's answers.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    size_max: usize,
    /// Blocks seen since the table last changed, and what they say.
    known: Vec<(Vec<u8>, Said)>,
    changed: bool,
}

/// How many blocks are remembered.
const KNOWN_MAX: usize = 4;

/// A header's name and value.
type Field = (Vec<u8>, Vec<u8>);

impl Answers {
    /// A reader with an empty table of the default size.
    pub(crate) fn new() -> Self {
        let table = VecDeque::new();
        Self { table, size: 0, size_max: TABLE_SIZE, known: Vec::new(), changed: false }
    }

    /// Reads one whole block; `None` when it is not a valid one.
    pub(crate) fn read(&mut self, block: &[u8]) -> Option<Said> {
        if let Some((_, said)) = self.known.iter().find(|(bytes, _)| bytes == block) {
            return Some(said.clone());
        }
        let said = self.decode(block)?;
        if self.changed {
            self.known.clear();
            self.changed = false;
        } else {
            self.known.truncate(KNOWN_MAX - 1);
            self.known.insert(0, (block.to_vec(), said.clone()));
        }
        Some(said)
    }

    fn decode(&mut self, mut rest: &[u8]) -> Option<Said> {
        let mut said = Said::default();
        while let Some(first) = rest.first() {
            let (name, value) = if first & 0x80 != 0 {
                let index = read_integer(&mut rest, 7)?;
                self.entry(index)?
            } else if first & 0xe0 == 0x20 {
                self.resize(usize::try_from(read_integer(&mut rest, 5)?).ok()?)?;
                continue;
            } else {
                let keep = first & 0x40 != 0;
                let field = self.literal(&mut rest, if keep { 6 } else { 4 })?;
                if keep {
                    self.insert(field.clone());
                }
                field
            };
            let text = || String::from_utf8_lossy(&value).into_owned();
            match name.as_slice() {
                b":status" => said.http_status = text().parse().ok(),
                b"grpc-status" => said.grpc_status = text().parse().ok(),
                b"grpc-message" => said.message = Some(text()),
                _ => {}
            }
        }
        Some(said)
    }

    fn literal(&self, rest: &mut &[u8], bits: u32) -> Option<Field> {
        let index = read_integer(rest, bits)?;
        let name = if index == 0 { read_string(rest)? } else { self.entry(index)?.0 };
        Some((name, read_string(rest)?))
    }

    fn entry(&self, index: u64) -> Option<Field> {
        let index = usize::try_from(index).ok()?.checked_sub(1)?;
        if let Some(name) = STATIC_NAMES.get(index) {
            let value = match index {
                7..14 => STATUSES[index - 7],
                _ => "",
            };
            return Some((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.table.get(index - STATIC_NAMES.len()).cloned()
    }

    fn insert(&mut self, field: Field) {
        self.size += field.0.len() + field.1.len() + ENTRY_OVERHEAD;
        self.table.push_front(field);
        self.changed = true;
        self.evict();
    }

    fn resize(&mut self, size: usize) -> Option<()> {
        if size > TABLE_SIZE {
            return None;
        }
        self.size_max = size;
        self.changed = true;
        self.evict();
        Some(())
    }

    fn evict(&mut self) {
        while self.size > self.size_max {
            let (name, value) = self.table.pop_back().expect("a size has entries");
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

fn read_integer(rest: &mut &[u8], bits: u32) -> Option<u64> {
    let (first, mut tail) = rest.split_first()?;
    let full = (1u64 << bits) - 1;
    let mut value = u64::from(*first) & full;
    if value == full {
        let mut shift = 0;
        loop {
            let (byte, next) = tail.split_first()?;
            tail = next;
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return None;
            }
        }
    }
    *rest = tail;
    Some(value)
}

fn read_string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let huffman = rest.first()? & 0x80 != 0;
    let size = usize::try_from(read_integer(rest, 7)?).ok()?;
    let (bytes, tail) = rest.split_at_checked(size)?;
    *rest = tail;
    if !huffman {
        return Some(bytes.to_vec());
    }
    let mut text = Vec::with_capacity(size * 2);
    httlib_huffman::decode(bytes, &mut text, DecoderSpeed::FiveBits).ok()?;
    Some(text)
}

/// The values of the static table's `:status` entries, from index 8.
const STATUSES: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];

/// The names of the static table, from index 1 (RFC 7541 appendix A).
const STATIC_NAMES: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_requests_are_a_few_indexed_bytes() {
        let mut requests = Requests::new("127.0.0.1:2379");
        let mut first = Vec::new();
        requests.write(Method::Put, &mut first);
        let mut second = Vec::new();
        requests.write(Method::Put, &mut second);
        assert!(first.len() > 80);
        assert_eq!(second, vec![0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
        let mut third = Vec::new();
        requests.write(Method::Range, &mut third);
        let mut fourth = Vec::new();
        requests.write(Method::Put, &mut fourth);
        assert_eq!(fourth, vec![0x83, 0x86, 0x80 | 67, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63]);
    }

    #[test]
    fn a_peer_without_a_table_gets_literals() {
        let mut requests = Requests::new("a");
        requests.on_table_size(0);
        let mut first = Vec::new();
        requests.write(Method::Put, &mut first);
        let mut second = Vec::new();
        requests.write(Method::Put, &mut second);
        assert_eq!(first[0], 0x20);
        assert_eq!(first[1..], second[..]);
        assert_eq!(second[2], 4);
    }

    #[test]
    fn integers_read_as_written() {
        for value in [0, 1, 30, 31, 62, 63, 127, 128, 255, 1337, 1 << 20] {
            for bits in 4..=7 {
                let mut bytes = Vec::new();
                write_integer(0, bits, value, &mut bytes);
                let mut rest = bytes.as_slice();
                assert_eq!(read_integer(&mut rest, bits), Some(value));
                assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn a_block_is_read_through_table_and_huffman() {
        let mut block = vec![0x88, 0x40];
        let mut name = Vec::new();
        httlib_huffman::encode(b"grpc-status", &mut name).expect("ascii");
        block.push(0x80 | u8::try_from(name.len()).expect("short"));
        block.extend_from_slice(&name);
        block.extend_from_slice(&[1, b'7']);
        let mut answers = Answers::new();
        let said = answers.read(&block).expect("valid");
        assert_eq!(said.http_status, Some(200));
        assert_eq!(said.grpc_status, Some(7));
        for _ in 0..3 {
            assert_eq!(answers.read(&[0xbe]).expect("valid").grpc_status, Some(7));
        }
        assert_eq!(answers.known.len(), 1);
    }

    #[test]
    fn nonsense_is_refused() {
        for block in [&[0x80][..], &[0xbe], &[0x40, 5, b'a'], &[0x3f, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert_eq!(Answers::new().read(block), None, "{block:?}");
        }
    }

    #[test]
    fn the_table_forgets_the_oldest() {
        let mut answers = Answers::new();
        for round in 0..200u8 {
            let mut block = vec![0x40, 1, b'a', 20];
            block.extend_from_slice(&[round; 20]);
            answers.read(&block).expect("valid");
            assert!(answers.size <= TABLE_SIZE);
        }
        assert_eq!(answers.table.len(), TABLE_SIZE / 53);
        answers.read(&[0x20]).expect("a size update");
        assert!(answers.table.is_empty());
    }
}

//! Messages as bytes, for the transport between peers; its framing and checksums are not here.
//!
//! Little-endian. Every message: format version (u8, 1), what it is (u8), term (u64); then, by what
//! it is:
//!
//! | code | message           | fields                                                          |
//! |-----:|-------------------|-----------------------------------------------------------------|
//! | 1    | PreVote           | last                                                            |
//! | 2    | PreVoteResponse   | granted (u8, 0 or 1)                                            |
//! | 3    | Vote              | last, transfer (u8, 0 or 1)                                     |
//! | 4    | VoteResponse      | granted (u8, 0 or 1)                                            |
//! | 5    | Append            | prev, committed (u64), count (u32), entries                     |
//! | 6    | AppendResponse    | matched (u64)                                                   |
//! | 7    | AppendRejected    | prev (u64), hint                                                |
//! | 8    | Heartbeat         | committed (u64), round (u64)                                    |
//! | 9    | HeartbeatResponse | round (u64)                                                     |
//! | 10   | Snapshot          | last, the membership's bytes to the end                         |
//! | 11   | TimeoutNow        |                                                                 |
//! | 12   | ReadIndex         | id (u64)                                                        |
//! | 13   | ReadIndexResponse | id (u64), index (u64)                                           |
//!
//! A position is term (u64) and index (u64). An entry is term (u64), kind (u8), size (u32), data;
//! its index follows from `prev` and its place.

use bytes::Bytes;

use crate::raft::membership::Membership;
use crate::raft::message::Body;
use crate::raft::message::Entry;
use crate::raft::message::EntryKind;
use crate::raft::message::HardState;
use crate::raft::message::Mark;
use crate::raft::message::Message;
use crate::raft::message::Position;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;

/// The version of the bytes that [`Message::encode`] makes, and the only one that is read.
const FORMAT_VERSION: u8 = 1;

/// Bytes of an entry besides its data.
const ENTRY_HEADER_SIZE: usize = 13;

/// Largest message that is read, in bytes: one append of the largest entry, with room.
///
/// A receiver may refuse a frame by its length before it has the bytes.
pub const MESSAGE_SIZE_MAX: usize = 128 << 20;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are of a version this node does not know.
    #[error("raft message of unknown version {0}")]
    Version(u8),
    /// They are no message of the known version.
    #[error("malformed raft message")]
    Malformed,
}

impl Message {
    /// Adds its bytes to `out`.
    ///
    /// # Panics
    /// If an entry's data exceeds 4 GiB.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[FORMAT_VERSION, code(&self.body)]);
        put(out, self.term.0);
        match &self.body {
            Body::PreVote { last } => put_position(out, last),
            Body::Vote { last, transfer } => {
                put_position(out, last);
                out.push(u8::from(*transfer));
            }
            Body::PreVoteResponse { granted } | Body::VoteResponse { granted } => {
                out.push(u8::from(*granted));
            }
            Body::Append { prev, entries, committed } => {
                put_position(out, prev);
                put(out, committed.0);
                put_entries(out, entries);
            }
            Body::AppendResponse { matched } => put(out, matched.0),
            Body::AppendRejected { prev, hint } => {
                put(out, prev.0);
                put_position(out, hint);
            }
            Body::Heartbeat { committed, round } => {
                put(out, committed.0);
                put(out, *round);
            }
            Body::HeartbeatResponse { round } => put(out, *round),
            Body::Snapshot { mark } => {
                put_position(out, &mark.last);
                out.extend_from_slice(&mark.membership.encode());
            }
            Body::TimeoutNow => {}
            Body::ReadIndex { id } => put(out, *id),
            Body::ReadIndexResponse { id, index } => {
                put(out, *id);
                put(out, index.0);
            }
        }
    }

    /// The message whose bytes these are; its entries' data share them.
    ///
    /// # Errors
    /// [`DecodeError`], whatever the bytes are.
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        if let Some(version) = bytes.first().filter(|version| **version != FORMAT_VERSION) {
            return Err(DecodeError::Version(*version));
        }
        let message = (bytes.len() <= MESSAGE_SIZE_MAX).then(|| read(bytes)).flatten();
        message.filter(Self::is_well_formed).ok_or(DecodeError::Malformed)
    }
}

fn code(body: &Body) -> u8 {
    match body {
        Body::PreVote { .. } => 1,
        Body::PreVoteResponse { .. } => 2,
        Body::Vote { .. } => 3,
        Body::VoteResponse { .. } => 4,
        Body::Append { .. } => 5,
        Body::AppendResponse { .. } => 6,
        Body::AppendRejected { .. } => 7,
        Body::Heartbeat { .. } => 8,
        Body::HeartbeatResponse { .. } => 9,
        Body::Snapshot { .. } => 10,
        Body::TimeoutNow => 11,
        Body::ReadIndex { .. } => 12,
        Body::ReadIndexResponse { .. } => 13,
    }
}

fn put(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    put(out, position.term.0);
    put(out, position.index.0);
}

fn put_entries(out: &mut Vec<u8>, entries: &[Entry]) {
    let count = u32::try_from(entries.len()).expect("a message has few entries");
    out.extend_from_slice(&count.to_le_bytes());
    for entry in entries {
        let size = u32::try_from(entry.data.len()).expect("an entry is below 4 GiB");
        put(out, entry.term.0);
        out.push(entry.kind.code());
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&entry.data);
    }
}

/// The bytes not yet read.
struct Reader<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(size)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take(4)?.try_into().ok()?)).ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().filter(|byte| *byte <= 1).map(|byte| byte == 1)
    }

    fn index(&mut self) -> Option<LogIndex> {
        self.number().map(LogIndex)
    }

    fn position(&mut self) -> Option<Position> {
        Some(Position { term: Term(self.number()?), index: self.index()? })
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn entries(&mut self, prev: Position) -> Option<Vec<Entry>> {
        let count = self.size()?;
        if count > self.left() / ENTRY_HEADER_SIZE {
            return None;
        }
        let mut entries = Vec::with_capacity(count);
        let mut index = prev.index;
        for _ in 0..count {
            index = LogIndex(index.0.checked_add(1)?);
            let term = Term(self.number()?);
            let kind = EntryKind::from_code(self.byte()?)?;
            let size = self.size()?;
            let data = self.take(size)?;
            entries.push(Entry { term, index, kind, data: self.bytes.slice_ref(data) });
        }
        Some(entries)
    }

    fn mark(&mut self) -> Option<Mark> {
        let last = self.position()?;
        let membership = Membership::decode(self.take(self.left())?)?;
        Some(Mark { last, membership })
    }
}

fn read(bytes: &Bytes) -> Option<Message> {
    let mut reader = Reader { bytes, at: 1 };
    let code = reader.byte()?;
    let term = Term(reader.number()?);
    let body = match code {
        1 => Body::PreVote { last: reader.position()? },
        2 => Body::PreVoteResponse { granted: reader.flag()? },
        3 => Body::Vote { last: reader.position()?, transfer: reader.flag()? },
        4 => Body::VoteResponse { granted: reader.flag()? },
        5 => {
            let (prev, committed) = (reader.position()?, reader.index()?);
            Body::Append { prev, entries: reader.entries(prev)?, committed }
        }
        6 => Body::AppendResponse { matched: reader.index()? },
        7 => Body::AppendRejected { prev: reader.index()?, hint: reader.position()? },
        8 => Body::Heartbeat { committed: reader.index()?, round: reader.number()? },
        9 => Body::HeartbeatResponse { round: reader.number()? },
        10 => Body::Snapshot { mark: reader.mark()? },
        11 => Body::TimeoutNow,
        12 => Body::ReadIndex { id: reader.number()? },
        13 => Body::ReadIndexResponse { id: reader.number()?, index: reader.index()? },
        0 | 14.. => return None,
    };
    (reader.left() == 0).then_some(Message { term, body })
}

impl HardState {
    /// Its bytes: term (u64), vote (u64, 0 for none), committed (u64), little-endian.
    #[must_use]
    pub fn encode(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.vote.map_or(0, |vote| vote.0).to_le_bytes());
        bytes[16..].copy_from_slice(&self.committed.0.to_le_bytes());
        bytes
    }

    /// The hard state whose bytes these are, if they are one's.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 24] = bytes.try_into().ok()?;
        let mut numbers = bytes.chunks_exact(8).map(|number| {
            u64::from_le_bytes(number.try_into().expect("the chunks are of eight bytes"))
        });
        let mut next = || numbers.next().expect("there are three numbers");
        let (term, vote, committed) = (Term(next()), next(), LogIndex(next()));
        Some(Self { term, vote: (vote != 0).then_some(NodeId(vote)), committed })
    }
}

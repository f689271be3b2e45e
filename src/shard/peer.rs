//! What the shards of one group say to each other, and its bytes.
//!
//! A transport carries packets as it gets them; it may lose, double, delay and reorder them.
//! Framing and checksums are its own. Little-endian. Every packet: format version (u8, 1), what it is (u8),
//! then, by what it is:
//!
//! | code | packet | fields |
//! |-----:|--------|-----------------------------------------|
//! | 1 | Raft | the message, as Raft encodes it, to the end |

use crate::raft;
use crate::raft::Message;
use bytes::Bytes;

/// The version of the bytes that [`Packet::encode`] makes, and the only one that is read.
const FORMAT_VERSION: u8 = 1;
/// Bytes before what a packet says.
const HEAD_SIZE: usize = 2;
/// Largest packet that is read, in bytes. A receiver may refuse a frame by its length before it has
/// the bytes.
pub const PACKET_SIZE_MAX: usize = raft::MESSAGE_SIZE_MAX + HEAD_SIZE;

/// One thing that a shard says to another of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Consensus.
    Raft(Message),
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They are of a version that this build does not know.
    #[error("a peer's packet is of format {0}; this build reads format {FORMAT_VERSION}")]
    Version(u8),
    /// They are no packet of the known version.
    #[error("a peer's packet is malformed")]
    Malformed,
    /// They hold a message of consensus that does not read.
    #[error("a peer's packet holds no message: {0}")]
    Message(#[from] raft::DecodeError),
}

impl Packet {
    /// Its bytes.
    ///
    /// # Cost
    /// One allocation, and one copy of what it carries.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_SIZE + self.size_hint());
        out.push(FORMAT_VERSION);
        match self {
            Self::Raft(message) => {
                out.push(1);
                message.encode(&mut out);
            }
        }
        Bytes::from(out)
    }

    /// The packet whose bytes these are; what it carries shares them.
    ///
    /// # Errors
    /// [`DecodeError`], whatever the bytes are.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let Some((&[version, code], _)) = bytes.split_first_chunk::<HEAD_SIZE>() else {
            return Err(DecodeError::Malformed);
        };
        if version != FORMAT_VERSION {
            return Err(DecodeError::Version(version));
        }
        let rest = bytes.slice(HEAD_SIZE..);
        match code {
            _ if bytes.len() > PACKET_SIZE_MAX => Err(DecodeError::Malformed),
            1 => Ok(Self::Raft(Message::decode(&rest)?)),
            0 | 2.. => Err(DecodeError::Malformed),
        }
    }

    /// Whether it brings old entries to a peer that lags: it may come late, and is not to delay
    /// what others wait for.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        match self {
            Self::Raft(message) => match &message.body {
                raft::Body::Append { entries, committed, .. } => {
                    entries.last().is_some_and(|last| last.index <= *committed)
                }
                raft::Body::PreVote { .. }
                | raft::Body::PreVoteResponse { .. }
                | raft::Body::Vote { .. }
                | raft::Body::VoteResponse { .. }
                | raft::Body::AppendResponse { .. }
                | raft::Body::AppendRejected { .. }
                | raft::Body::Heartbeat { .. }
                | raft::Body::HeartbeatResponse { .. }
                | raft::Body::Snapshot { .. }
                | raft::Body::TimeoutNow
                | raft::Body::ReadIndex { .. }
                | raft::Body::ReadIndexResponse { .. } => false,
            },
        }
    }

    /// About how many bytes it takes besides its head.
    fn size_hint(&self) -> usize {
        match self {
            Self::Raft(message) => match &message.body {
                raft::Body::Append { entries, .. } => {
                    entries.iter().map(raft::Entry::size).sum::<usize>() + 64
                }
                raft::Body::Snapshot { .. } => 1 << 10,
                raft::Body::PreVote { .. }
                | raft::Body::PreVoteResponse { .. }
                | raft::Body::Vote { .. }
                | raft::Body::VoteResponse { .. }
                | raft::Body::AppendResponse { .. }
                | raft::Body::AppendRejected { .. }
                | raft::Body::Heartbeat { .. }
                | raft::Body::HeartbeatResponse { .. }
                | raft::Body::TimeoutNow
                | raft::Body::ReadIndex { .. }
                | raft::Body::ReadIndexResponse { .. } => 64,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Body;
    use crate::raft::Entry;
    use crate::raft::EntryKind;
    use crate::raft::Position;
    use crate::types::LogIndex;
    use crate::types::Term;
    use proptest::prelude::*;

    fn append(committed: u64) -> Packet {
        let entry = |index| Entry {
            term: Term(2),
            index: LogIndex(index),
            kind: EntryKind::Normal,
            data: Bytes::from_static(b"data"),
        };
        let prev = Position { term: Term(2), index: LogIndex(6) };
        let entries = vec![entry(7), entry(8)];
        let body = Body::Append { prev, entries, committed: LogIndex(committed) };
        Packet::Raft(Message { term: Term(2), body })
    }

    pub(super) fn samples() -> Vec<Packet> {
        let message = |body| Packet::Raft(Message { term: Term(2), body });
        vec![append(6), message(Body::TimeoutNow), message(Body::ReadIndex { id: 9 })]
    }

    #[test]
    fn a_packet_comes_back_as_it_was_and_its_parts_do_not_read() {
        for packet in samples() {
            let bytes = packet.encode();
            assert_eq!(Packet::decode(bytes.clone()), Ok(packet));
            for size in 0..bytes.len() {
                assert!(Packet::decode(bytes.slice(..size)).is_err(), "{size} of {bytes:?}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Packet::decode(longer.into()).is_err());
        }
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let mut bytes = append(6).encode().to_vec();
        bytes[0] = 2;
        assert_eq!(Packet::decode(bytes.into()), Err(DecodeError::Version(2)));
    }

    #[test]
    fn only_entries_that_the_others_have_long_are_bulk() {
        assert!(append(8).is_bulk() && append(100).is_bulk());
        assert!(!append(7).is_bulk(), "one of them is new");
        assert!(!samples()[1].is_bulk());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::decode(Bytes::from(bytes.clone()));
            if let Some((version, rest)) = bytes.split_first_mut() {
                *version = FORMAT_VERSION;
                if let Some(code) = rest.first_mut() {
                    *code %= 8;
                }
            }
            let _ = Packet::decode(Bytes::from(bytes));
        }

        #[test]
        fn a_bent_packet_is_refused_or_read(
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let samples = samples();
            let mut bytes = samples[which.index(samples.len())].encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(packet) = Packet::decode(bytes.clone().into()) {
                prop_assert_eq!(packet.encode(), bytes);
            }
        }
    }
}

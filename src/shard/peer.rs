//! What the shards of one group say to each other, and its bytes.
//!
//! A transport carries packets as it gets them; it may lose, double, delay and reorder them.
//! Framing and checksums are its own. Little-endian. Every packet: format version (u8, 1), what it
//! is (u8), then, by what it is:
//!
//! | code | packet | fields |
//! |-----:|---------|-----------------------------------------------------------------------|
//! | 1 | Raft | the message, as Raft encodes it, to the end |
//! | 2 | Forward | attempt (u64), an entry's data, which names its origin, to the end |
//! | 3 | Refused | origin (20 bytes), attempt (u64), why (u8) |
//! | 4 | Ask | life (u32), number (u64), lease (i64), what (u8: 0 renew, 1 time, 2 and keys) |
//! | 5 | Answer | life (u32), number (u64), lease (i64), left, granted (i64), keys to the end |
//! | 6 | Removed | |
//! | 7 | Snapshot | a parcel, to the end |
//!
//! What a parcel is stands in [`parcel`](super::snapshot::parcel).
//!
//! Why is 1 for no leader, 2 for busy, 3 for never, and 16 and more for what the members do not
//! allow. A key is its size (u32) and its bytes.

use crate::raft;
use crate::raft::Message;
use crate::shard::origin::ORIGIN_SIZE;
use crate::shard::origin::Origin;
use crate::shard::request::MemberRefusal;
use crate::shard::snapshot::parcel::Parcel;
use crate::types::LeaseId;
use bytes::Buf;
use bytes::Bytes;

/// The version of the bytes that [`Packet::encode`] makes, and the only one that is read.
const FORMAT_VERSION: u8 = 1;
/// Bytes before what a packet says.
const HEAD_SIZE: usize = 2;
/// Where the reasons begin that members have.
const WHY_MEMBER: u8 = 16;
/// Largest packet that is read, in bytes. A receiver may refuse a frame by its length before it has
/// the bytes.
pub const PACKET_SIZE_MAX: usize = raft::MESSAGE_SIZE_MAX + HEAD_SIZE;

/// One thing that a shard says to another of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Consensus.
    Raft(Message),
    /// A client's change, for the leader to give it its place in the log.
    Forward {
        /// Rises with each that a member hands over.
        attempt: u64,
        /// The entry's data; it names the member, and the request.
        data: Bytes,
    },
    /// A change was not taken; of what is taken the entry tells.
    Refused {
        /// Which.
        origin: Origin,
        /// At which attempt.
        attempt: u64,
        /// Why.
        why: Why,
    },
    /// A question about a lease, for the leader.
    Ask {
        /// The asking process.
        life: u32,
        /// Its name for the question.
        number: u64,
        /// What it asks.
        what: Question,
    },
    /// The answer to [`Packet::Ask`].
    Answer {
        /// The process that asked.
        life: u32,
        /// Its name for the question.
        number: u64,
        /// What the leader says.
        told: LeaseTold,
    },
    /// Whoever gets this is no member any more.
    Removed,
    /// Something about a snapshot.
    Snapshot(Parcel),
}

/// Why a change was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The member does not lead.
    NotLeader,
    /// It has too much to do.
    Busy,
    /// It is no change that any leader would take.
    Never,
    /// It is one of members, and they do not allow it.
    Member(MemberRefusal),
}

/// A question about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// That it may live on.
    KeepAlive(LeaseId),
    /// How long it lives, and which its keys are if they are wanted.
    TimeToLive(LeaseId, bool),
}

/// What a leader says of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTold {
    /// Which.
    pub id: LeaseId,
    /// Seconds that it lives from now on, or that are left.
    pub ttl: i64,
    /// Seconds that it was granted.
    pub granted: i64,
    /// Its keys, if they were asked for.
    pub keys: Vec<Bytes>,
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
            Self::Forward { attempt, data } => {
                out.push(2);
                out.extend_from_slice(&attempt.to_le_bytes());
                out.extend_from_slice(data);
            }
            Self::Refused { origin, attempt, why } => {
                out.push(3);
                out.extend_from_slice(&origin.encode());
                out.extend_from_slice(&attempt.to_le_bytes());
                out.push(match why {
                    Why::NotLeader => 1,
                    Why::Busy => 2,
                    Why::Never => 3,
                    Why::Member(refusal) => WHY_MEMBER + refusal.code(),
                });
            }
            Self::Ask { life, number, what } => {
                let (lease, what) = match what {
                    Question::KeepAlive(lease) => (lease, 0),
                    Question::TimeToLive(lease, keys) => (lease, 1 + u8::from(*keys)),
                };
                out.push(4);
                put_name(&mut out, *life, *number, *lease);
                out.push(what);
            }
            Self::Answer { life, number, told } => {
                out.push(5);
                put_name(&mut out, *life, *number, told.id);
                out.extend_from_slice(&told.ttl.to_le_bytes());
                out.extend_from_slice(&told.granted.to_le_bytes());
                for key in &told.keys {
                    let size = u32::try_from(key.len()).expect("a key is smaller than a request");
                    out.extend_from_slice(&size.to_le_bytes());
                    out.extend_from_slice(key);
                }
            }
            Self::Removed => out.push(6),
            Self::Snapshot(parcel) => {
                out.push(7);
                parcel.encode(&mut out);
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
            code => read(code, rest).ok_or(DecodeError::Malformed),
        }
    }

    /// Whether it brings old entries or state to a peer that lags: it may come late, and is not to
    /// delay what others wait for.
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
            Self::Forward { .. }
            | Self::Refused { .. }
            | Self::Ask { .. }
            | Self::Answer { .. }
            | Self::Removed => false,
            Self::Snapshot(parcel) => matches!(parcel, Parcel::Piece { .. }),
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
            Self::Forward { data, .. } => data.len() + 8,
            Self::Refused { .. } | Self::Ask { .. } | Self::Removed => 32,
            Self::Snapshot(parcel) => parcel.size_hint(),
            Self::Answer { told, .. } => {
                told.keys.iter().map(|key| key.len() + 4).sum::<usize>() + 40
            }
        }
    }
}

fn put_name(out: &mut Vec<u8>, life: u32, number: u64, lease: LeaseId) {
    out.extend_from_slice(&life.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&lease.0.to_le_bytes());
}

/// What follows the head of a packet that is not Raft's.
fn read(code: u8, mut rest: Bytes) -> Option<Packet> {
    let packet = match code {
        2 => {
            let attempt = rest.try_get_u64_le().ok()?;
            let data = rest.split_off(0);
            crate::shard::command::origin(&data)?;
            Packet::Forward { attempt, data }
        }
        3 => {
            let origin = Origin::decode(rest.first_chunk::<ORIGIN_SIZE>()?);
            rest.advance(ORIGIN_SIZE);
            let attempt = rest.try_get_u64_le().ok()?;
            let why = match rest.try_get_u8().ok()? {
                1 => Why::NotLeader,
                2 => Why::Busy,
                3 => Why::Never,
                code => Why::Member(MemberRefusal::from_code(code.checked_sub(WHY_MEMBER)?)?),
            };
            Packet::Refused { origin, attempt, why }
        }
        4 => {
            let (life, number, lease) = name(&mut rest)?;
            let what = match rest.try_get_u8().ok()? {
                0 => Question::KeepAlive(lease),
                1 => Question::TimeToLive(lease, false),
                2 => Question::TimeToLive(lease, true),
                3.. => return None,
            };
            Packet::Ask { life, number, what }
        }
        5 => {
            let (life, number, id) = name(&mut rest)?;
            let (ttl, granted) = (rest.try_get_i64_le().ok()?, rest.try_get_i64_le().ok()?);
            let mut keys = Vec::new();
            while !rest.is_empty() {
                let size = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
                if size > rest.len() {
                    return None;
                }
                keys.push(rest.split_to(size));
            }
            Packet::Answer { life, number, told: LeaseTold { id, ttl, granted, keys } }
        }
        6 => Packet::Removed,
        7 => Packet::Snapshot(Parcel::decode(rest.split_off(0))?),
        0 | 1 | 8.. => return None,
    };
    rest.is_empty().then_some(packet)
}

fn name(rest: &mut Bytes) -> Option<(u32, u64, LeaseId)> {
    let (life, number) = (rest.try_get_u32_le().ok()?, rest.try_get_u64_le().ok()?);
    Some((life, number, LeaseId(rest.try_get_i64_le().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft;
    use crate::raft::Body;
    use crate::raft::Entry;
    use crate::raft::EntryKind;
    use crate::raft::Position;
    use crate::shard::command::Command;
    use crate::shard::command::with_origin;
    use crate::types::LogIndex;
    use crate::types::NodeId;
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
        let origin = Origin { node: NodeId(7), life: 3, number: 9 };
        let data = with_origin(&Command::LeaseRevoke { id: 7 }.encode(), origin);
        let told = LeaseTold { id: LeaseId(-7), ttl: 5, granted: 60, keys: Vec::new() };
        let keys = vec![Bytes::from_static(b"a"), Bytes::new()];
        let about = crate::shard::snapshot::parcel::samples().into_iter().map(Packet::Snapshot);
        let others = vec![
            append(6),
            message(Body::TimeoutNow),
            message(Body::ReadIndex { id: 9 }),
            Packet::Forward { attempt: 5, data },
            Packet::Refused { origin, attempt: 5, why: Why::Busy },
            Packet::Refused { origin, attempt: 5, why: Why::Member(MemberRefusal::Unhealthy) },
            Packet::Removed,
            Packet::Ask { life: 3, number: 8, what: Question::KeepAlive(LeaseId(7)) },
            Packet::Ask { life: 3, number: 8, what: Question::TimeToLive(LeaseId(7), true) },
            Packet::Answer { life: 3, number: 8, told: told.clone() },
            Packet::Answer { life: 3, number: 8, told: LeaseTold { keys, ..told } },
        ];
        others.into_iter().chain(about).collect()
    }

    #[test]
    fn a_packet_comes_back_as_it_was_and_its_parts_do_not_read() {
        for packet in samples() {
            let bytes = packet.encode();
            let is_open = matches!(
                packet,
                Packet::Forward { .. }
                    | Packet::Answer { .. }
                    | Packet::Snapshot(Parcel::Piece { .. })
            );
            assert_eq!(Packet::decode(bytes.clone()), Ok(packet.clone()));
            for size in 0..bytes.len() {
                let part = Packet::decode(bytes.slice(..size));
                assert!(part.is_err() || (is_open && part != Ok(packet.clone())), "{size}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(Packet::decode(longer.into()).is_err() || is_open);
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
                    *code %= 9;
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

    /// A number that no process gives, once applied, would be in every replica's state for good.
    #[test]
    fn a_forward_has_a_number_that_a_request_may_have() {
        for (number, is_taken) in
            [(0, false), (1, true), (raft::NUMBER_MAX, true), (u64::MAX, false)]
        {
            let origin = Origin { node: NodeId(7), life: 3, number };
            let command = Command::LeaseRevoke { id: 5 }.encode();
            let packet = Packet::Forward { attempt: 1, data: with_origin(&command, origin) };
            assert_eq!(Packet::decode(packet.encode()).is_ok(), is_taken, "{number}");
        }
    }
}

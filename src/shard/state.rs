//! What the store's manifest keeps of a shard besides its records: how far the records go.
//!
//! Integers are little-endian:
//!
//! | offset | size | field | value |
//! |-------:|-----:|------------|---------------------------------------------------------|
//! | 0 | 2 | version | [`FORMAT_VERSION`] |
//! | 2 | 8 | index | the last entry applied |
//! | 10 | 8 | term | its term |
//! | 18 | 8 | revision | the keyspace's |
//! | 26 | 8 | floor | the revision last compacted, -1 before the first |
//! | 34 | 4 | size | bytes of the membership |
//! | 38 | – | membership | the one in force, as Raft encodes it |
//!
//! The bytes come back under the manifest's checksum; what they say is checked here all the same.

use crate::raft::Membership;
use crate::raft::Position;
use crate::types::LogIndex;
use crate::types::Revision;
use crate::types::Term;

/// The only format there is.
const FORMAT_VERSION: u16 = 1;
/// Bytes before the membership.
const HEAD_SIZE: usize = 38;
/// What stands for no floor.
const NO_FLOOR: i64 = -1;

/// A shard's state at one applied entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    /// The last entry applied.
    pub(super) applied: Position,
    /// The keyspace's revision.
    pub(super) revision: Revision,
    /// The revision last compacted.
    pub(super) floor: Option<Revision>,
    /// Who belongs to the group.
    pub(super) membership: Membership,
}

impl State {
    pub(super) fn encode(&self) -> Vec<u8> {
        let membership = self.membership.encode();
        let mut out = Vec::with_capacity(HEAD_SIZE + membership.len());
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.applied.index.0.to_le_bytes());
        out.extend_from_slice(&self.applied.term.0.to_le_bytes());
        out.extend_from_slice(&self.revision.0.to_le_bytes());
        out.extend_from_slice(&self.floor.map_or(NO_FLOOR, |floor| floor.0).to_le_bytes());
        let size = u32::try_from(membership.len()).expect("a membership is small");
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&membership);
        out
    }

    /// The state in `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEAD_SIZE {
            return Err(format!("it has {} bytes", bytes.len()));
        }
        let version = u16::from_le_bytes(at(bytes, 0));
        if version != FORMAT_VERSION {
            return Err(format!("its format is {version}, this build reads {FORMAT_VERSION}"));
        }
        let index = LogIndex(u64::from_le_bytes(at(bytes, 2)));
        let term = Term(u64::from_le_bytes(at(bytes, 10)));
        let revision = i64::from_le_bytes(at(bytes, 18));
        let floor = i64::from_le_bytes(at(bytes, 26));
        let (size, rest) = (u32::from_le_bytes(at(bytes, 34)), &bytes[HEAD_SIZE..]);
        let membership = Some(rest)
            .filter(|rest| u32::try_from(rest.len()) == Ok(size))
            .and_then(Membership::decode)
            .ok_or("its membership does not read")?;
        let is_sound = revision >= 1 && (NO_FLOOR..=revision).contains(&floor);
        if !is_sound || index == LogIndex(0) || term == Term(0) {
            return Err(format!(
                "revision {revision}, floor {floor} and entry {index} of term {term} do not go \
                 together"
            ));
        }
        let floor = (floor != NO_FLOOR).then_some(Revision(floor));
        let applied = Position { term, index };
        Ok(Self { applied, revision: Revision(revision), floor, membership })
    }
}

/// The bytes of the integer at `offset`, which is known to be there.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("so many bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;
    use proptest::prelude::*;

    fn state() -> State {
        State {
            applied: Position { index: LogIndex(70), term: Term(3) },
            revision: Revision(60),
            floor: Some(Revision(50)),
            membership: Membership::new(&[NodeId(1), NodeId(2)], &[NodeId(9)]),
        }
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        for floor in [None, Some(Revision(1)), Some(Revision(60))] {
            let state = State { floor, ..state() };
            assert_eq!(State::decode(&state.encode()), Ok(state));
        }
    }

    #[test]
    fn a_state_that_cannot_be_is_refused() {
        let mut bytes = state().encode();
        bytes[0] = 2;
        assert!(State::decode(&bytes).is_err_and(|why| why.contains("format is 2")));
        for floor in [Revision(-2), Revision(61)] {
            let state = State { floor: Some(floor), ..state() };
            assert!(State::decode(&state.encode()).is_err());
        }
        let bytes = state().encode();
        for size in 0..bytes.len() {
            assert!(State::decode(&bytes[..size]).is_err(), "{size}");
        }
        assert!(State::decode(&[bytes, vec![0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = State::decode(&bytes);
        }
    }
}

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
//! | – | – | members | all of them, as clients see them; `members` encodes them |
//! | – | – | origins | what is applied of what members handed over; `origin` encodes it |
//! | – | – | leases | all of them; [`lease`](crate::lease) encodes them |
//!
//! Version 2 is without members and origins: there was one member, which the flags named. Version 1
//! is without leases too: there were none.
//!
//! The bytes come back under the manifest's checksum; what they say is checked here all the same.

use crate::lease::Config;
use crate::lease::LEASE_SIZE_MAX;
use crate::lease::Lessor;
use crate::raft::Membership;
use crate::raft::Position;
use crate::shard::members::Members;
use crate::shard::origin::ORIGINS_SIZE_MAX;
use crate::shard::origin::Origins;
use crate::store::format::MANIFEST_SIZE_MAX;
use crate::types::LogIndex;
use crate::types::Revision;
use crate::types::Term;

// What is left is for half a million segments. So many more leases as may be on their way into the
// log when the last one is let in make no difference, nor do members.
const _: () = assert!((Config::COUNT_MAX * LEASE_SIZE_MAX) as u64 + (32 << 20) < MANIFEST_SIZE_MAX);
const _: () = assert!(ORIGINS_SIZE_MAX < 2 << 20);

/// The format that is written.
const FORMAT_VERSION: u16 = 3;
/// The format without members and origins, which is read too.
const FORMAT_VERSION_ALONE: u16 = 2;
/// The format without leases, which is read too.
const FORMAT_VERSION_FIRST: u16 = 1;
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
    /// The same as clients see them; none in a state that one member wrote for itself.
    pub(super) members: Option<Members>,
    /// What is applied of what members handed over.
    pub(super) origins: Origins,
}

impl State {
    /// The state and the leases, as bytes.
    pub(super) fn encode(&self, lessor: &Lessor) -> Vec<u8> {
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
        self.members.as_ref().expect("a state is written with its members").encode(&mut out);
        self.origins.encode(&mut out);
        lessor.encode(&mut out);
        out
    }

    /// The state and the leases in `bytes`.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Lessor), String> {
        if bytes.len() < HEAD_SIZE {
            return Err(format!("it has {} bytes", bytes.len()));
        }
        let version = u16::from_le_bytes(at(bytes, 0));
        if !(FORMAT_VERSION_FIRST..=FORMAT_VERSION).contains(&version) {
            return Err(format!(
                "its format is {version}, this build reads {FORMAT_VERSION_FIRST} to \
                 {FORMAT_VERSION}"
            ));
        }
        let index = LogIndex(u64::from_le_bytes(at(bytes, 2)));
        let term = Term(u64::from_le_bytes(at(bytes, 10)));
        let revision = i64::from_le_bytes(at(bytes, 18));
        let floor = i64::from_le_bytes(at(bytes, 26));
        let (size, rest) = (u32::from_le_bytes(at(bytes, 34)), &bytes[HEAD_SIZE..]);
        let (membership, leases) = usize::try_from(size)
            .ok()
            .and_then(|size| rest.split_at_checked(size))
            .and_then(|(membership, leases)| Some((Membership::decode(membership)?, leases)))
            .ok_or("its membership does not read")?;
        let (members, origins, leases) = match version {
            FORMAT_VERSION_FIRST | FORMAT_VERSION_ALONE => (None, Origins::default(), leases),
            _ => Members::decode(leases)
                .and_then(|(members, rest)| {
                    let (origins, leases) = Origins::decode(rest)?;
                    Some((Some(members), origins, leases))
                })
                .ok_or("its members do not read")?,
        };
        let lessor = match version {
            FORMAT_VERSION_FIRST => leases.is_empty().then(Lessor::new),
            _ => Lessor::decode(leases),
        };
        let lessor = lessor.ok_or("its leases do not read")?;
        let is_sound = revision >= 1 && (NO_FLOOR..=revision).contains(&floor);
        if !is_sound || index == LogIndex(0) || term == Term(0) {
            return Err(format!(
                "revision {revision}, floor {floor} and entry {index} of term {term} do not go \
                 together"
            ));
        }
        let floor = (floor != NO_FLOOR).then_some(Revision(floor));
        let applied = Position { term, index };
        let revision = Revision(revision);
        Ok((Self { applied, revision, floor, membership, members, origins }, lessor))
    }
}

/// The bytes of the integer at `offset`, which is known to be there.
fn at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("so many bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Grant;
    use crate::shard::origin::Origin;
    use crate::types::LeaseId;
    use crate::types::NodeId;
    use crate::types::Tick;
    use proptest::prelude::*;

    fn state() -> State {
        State {
            applied: Position { index: LogIndex(70), term: Term(3) },
            revision: Revision(60),
            floor: Some(Revision(50)),
            membership: Membership::new(&[NodeId(1), NodeId(2)], &[NodeId(9)]),
            members: Some(Members::default()),
            origins: origins(),
        }
    }

    fn origins() -> Origins {
        let mut origins = Origins::default();
        origins.note(Origin { node: NodeId(2), life: 5, number: 7 });
        origins
    }

    fn leases() -> Lessor {
        let mut lessor = Lessor::new();
        for (id, born, ttl) in [(7, 60, 900), (-3, 70, 2)] {
            let grant = Grant { id: LeaseId(id), born: LogIndex(born) };
            lessor.grant(grant, ttl, Tick(0)).expect("a new id");
        }
        lessor
    }

    #[test]
    fn a_state_comes_back_as_it_was() {
        for floor in [None, Some(Revision(1)), Some(Revision(60))] {
            let state = State { floor, ..state() };
            let (found, lessor) = State::decode(&state.encode(&leases())).expect("our own bytes");
            assert_eq!(found, state);
            assert!(lessor.ids().eq([LeaseId(-3), LeaseId(7)]));
            assert_eq!(lessor.get(LeaseId(7)).map(|lease| lease.0), Some(900));
        }
    }

    /// What the first build wrote.
    const OLD: &str = "010005000000000000000100000000000000040000000000000002000000000000000d00\
                       00000101000000c4316ba1c9f27b4c";

    #[test]
    fn a_state_without_leases_is_read_as_it_was() {
        let digits = OLD.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair));
        let bytes: Vec<u8> = digits
            .map(|pair| u8::from_str_radix(pair.expect("digits"), 16).expect("digits"))
            .collect();
        let (state, lessor) = State::decode(&bytes).expect("it was written so");
        assert!(lessor.is_empty());
        let due = State {
            applied: Position { index: LogIndex(5), term: Term(1) },
            revision: Revision(4),
            floor: Some(Revision(2)),
            membership: Membership::new(&[NodeId(0x4c7b_f2c9_a16b_31c4)], &[]),
            members: None,
            origins: Origins::default(),
        };
        assert_eq!(state, due);
        assert!(State::decode(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_state_of_one_member_is_read_as_it_was() {
        let mut bytes = State { members: Some(Members::default()), ..state() }.encode(&leases());
        let (mut rest, mut origins) = (Vec::new(), Vec::new());
        leases().encode(&mut rest);
        state().origins.encode(&mut origins);
        let size = bytes.len() - rest.len() - origins.len() - 4;
        bytes.truncate(size);
        bytes.extend_from_slice(&rest);
        bytes[0] = 2;
        let (found, lessor) = State::decode(&bytes).expect("so it was written");
        assert_eq!((found.members, found.origins), (None, Origins::default()));
        assert!(lessor.ids().eq([LeaseId(-3), LeaseId(7)]));
    }

    #[test]
    fn a_state_that_cannot_be_is_refused() {
        let mut bytes = state().encode(&leases());
        bytes[0] = 4;
        assert!(State::decode(&bytes).is_err_and(|why| why.contains("format is 4")));
        for floor in [Revision(-2), Revision(61)] {
            let state = State { floor: Some(floor), ..state() };
            assert!(State::decode(&state.encode(&leases())).is_err());
        }
        let bytes = state().encode(&leases());
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

//! What is written can be read, and nothing else is.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::raft::Body;
use crate::raft::ConfigData;
use crate::raft::DecodeError;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::HardState;
use crate::raft::Mark;
use crate::raft::Membership;
use crate::raft::MembershipChange;
use crate::raft::Message;
use crate::raft::Position;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;

fn encode(message: &Message) -> Bytes {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    Bytes::from(bytes)
}

prop_compose! {
    fn a_membership()(
        ids in prop::collection::btree_set(1..=u64::MAX, 0..20),
        voters in 0..20_usize,
    ) -> Membership {
        let ids: Vec<NodeId> = ids.into_iter().map(NodeId).collect();
        let (voters, learners) = ids.split_at(voters.min(ids.len()));
        Membership::new(voters, learners)
    }
}

prop_compose! {
    fn a_position()(term in 1..9_u64, index in 1..1_000_u64) -> Position {
        Position { term: Term(term), index: LogIndex(index) }
    }
}

prop_compose! {
    fn an_append()(
        prev in a_position(),
        datas in vec((vec(any::<u8>(), 0..50), 0..3_u8), 0..6),
        membership in a_membership(),
        committed in 0..2_000_u64,
    ) -> Body {
        let entries = datas.into_iter().zip(prev.index.0 + 1..).map(|((data, kind), index)| {
            let kind = EntryKind::from_code(kind).unwrap();
            let context = Bytes::from(data);
            let data = match kind {
                EntryKind::Config => {
                    ConfigData { membership: membership.clone(), context }.encode()
                }
                EntryKind::Normal | EntryKind::Empty => context,
            };
            Entry { term: Term(10), index: LogIndex(index), kind, data }
        });
        Body::Append { prev, entries: entries.collect(), committed: LogIndex(committed) }
    }
}

fn a_body() -> impl Strategy<Value = Body> {
    let index = || (0..1_000_u64).prop_map(LogIndex);
    prop_oneof![
        a_position().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteResponse { granted }),
        (a_position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteResponse { granted }),
        an_append(),
        index().prop_map(|matched| Body::AppendResponse { matched }),
        (index(), a_position()).prop_map(|(prev, hint)| Body::AppendRejected { prev, hint }),
        (index(), any::<u64>()).prop_map(|(committed, round)| Body::Heartbeat { committed, round }),
        any::<u64>().prop_map(|round| Body::HeartbeatResponse { round }),
        (a_position(), a_membership())
            .prop_map(|(last, membership)| Body::Snapshot { mark: Mark { last, membership } }),
        Just(Body::TimeoutNow),
        any::<u64>().prop_map(|id| Body::ReadIndex { id }),
        (any::<u64>(), index()).prop_map(|(id, index)| Body::ReadIndexResponse { id, index }),
    ]
}

proptest! {
    #[test]
    fn a_message_survives_its_bytes(body in a_body()) {
        let message = Message { term: Term(10), body };
        prop_assert_eq!(Message::decode(&encode(&message)), Ok(message));
    }

    #[test]
    fn a_cut_or_lengthened_message_is_refused_or_another(body in a_body(), cut in any::<u16>()) {
        let message = Message { term: Term(10), body };
        let bytes = encode(&message);
        let shorter = bytes.slice(..usize::from(cut) % bytes.len());
        // Only a snapshot's end is told by its inside, and that counts its members.
        prop_assert!(Message::decode(&shorter).is_err());
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        prop_assert!(Message::decode(&longer).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_harm(mut bytes in vec(any::<u8>(), 0..200), code in 0..16_u8) {
        let _ = Message::decode(&Bytes::from(bytes.clone()));
        if bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[1, code]);
        }
        if let Ok(message) = Message::decode(&Bytes::from(bytes.clone())) {
            prop_assert!(message.is_well_formed());
            prop_assert_eq!(encode(&message), bytes);
        }
    }

    #[test]
    fn a_flipped_byte_does_no_harm(body in a_body(), at in any::<u16>(), value in any::<u8>()) {
        let mut bytes = encode(&Message { term: Term(10), body }).to_vec();
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
        if let Ok(message) = Message::decode(&Bytes::from(bytes)) {
            prop_assert!(message.is_well_formed());
        }
    }

    #[test]
    fn a_membership_survives_its_bytes(
        membership in a_membership(),
        context in vec(any::<u8>(), 0..9),
    ) {
        prop_assert_eq!(Membership::decode(&membership.encode()), Some(membership.clone()));
        let data = ConfigData { membership, context: Bytes::from(context) };
        prop_assert_eq!(ConfigData::decode(&data.encode()), Some(data));
    }

    #[test]
    fn any_bytes_are_a_membership_or_none(bytes in vec(any::<u8>(), 0..40)) {
        if let Some(membership) = Membership::decode(&bytes) {
            prop_assert_eq!(membership.encode(), bytes.clone());
        }
        if let Some(change) = MembershipChange::decode(&bytes) {
            prop_assert_eq!(&change.encode()[..], &bytes[..]);
        }
        let _ = ConfigData::decode(&Bytes::from(bytes));
    }

    #[test]
    fn a_hard_state_survives_its_bytes(term in any::<u64>(), vote in any::<u64>()) {
        let vote = (vote != 0).then_some(NodeId(vote));
        let hard = HardState { term: Term(term), vote, committed: LogIndex(term / 2) };
        prop_assert_eq!(HardState::decode(&hard.encode()), Some(hard));
    }
}

#[test]
fn every_change_survives_its_bytes() {
    let id = NodeId(0x0102_0304_0506_0708);
    for change in [
        MembershipChange::AddVoter(id),
        MembershipChange::AddLearner(id),
        MembershipChange::Promote(id),
        MembershipChange::Remove(id),
    ] {
        assert_eq!(MembershipChange::decode(&change.encode()), Some(change));
    }
}

#[test]
fn the_bytes_of_an_append_are_these() {
    let position = |term, index| Position { term: Term(term), index: LogIndex(index) };
    let data = Bytes::from_static(b"put");
    let entry = Entry { term: Term(3), index: LogIndex(8), kind: EntryKind::Normal, data };
    let body = Body::Append { prev: position(2, 7), entries: vec![entry], committed: LogIndex(6) };
    let bytes = encode(&Message { term: Term(4), body });
    let words: Vec<String> = bytes.chunks(8).map(|word| format!("{word:02x?}")).collect();
    assert_eq!(
        words.join("\n").replace(", ", " "),
        "[01 05 04 00 00 00 00 00]\n[00 00 02 00 00 00 00 00]\n[00 00 07 00 00 00 00 00]\n\
         [00 00 06 00 00 00 00 00]\n[00 00 01 00 00 00 03 00]\n[00 00 00 00 00 00 00 03]\n\
         [00 00 00 70 75 74]"
    );
}

#[test]
fn an_unknown_version_is_refused_by_its_number() {
    assert_eq!(Message::decode(&Bytes::from_static(&[2, 11])), Err(DecodeError::Version(2)));
    assert_eq!(Message::decode(&Bytes::new()), Err(DecodeError::Malformed));
}

#[test]
fn a_quorum_is_what_counting_says() {
    // Against enumeration: the highest number that more than half have reached.
    for voters in 1..=5_u32 {
        for code in 0..4_u32.pow(voters) {
            let mut each: Vec<u32> = (0..voters).map(|at| code / 4_u32.pow(at) % 4).collect();
            let has = |least: &u32| each.iter().filter(|number| *number >= least).count();
            let dumb = (0..4).filter(|least| has(least) * 2 > each.len()).max();
            assert_eq!(Some(crate::raft::quorum::reached(&mut each)), dumb);
        }
    }
}

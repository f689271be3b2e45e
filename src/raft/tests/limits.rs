//! What is bounded, and what no peer would say.

use bytes::Bytes;

use super::group::ONE;
use super::group::THREE;
use super::group::TWO;
use super::group::bare;
use super::group::give;
use super::group::led;
use super::group::message;
use super::group::plain;
use super::group::propose;
use super::world::World;
use crate::raft::Body;
use crate::raft::Entry;
use crate::raft::EntryKind;
use crate::raft::HardState;
use crate::raft::Membership;
use crate::raft::Output;
use crate::raft::Position;
use crate::raft::Rejected;
use crate::raft::Restored;
use crate::types::LogIndex;
use crate::types::Term;

#[test]
fn proposals_past_the_limit_are_refused_until_some_are_committed() {
    let mut world = led(3, |config| config.proposals_size_max = 300);
    let count = (0..100).take_while(|_| propose(&mut world, ONE, "a").is_ok()).count();
    assert_eq!(count, 4);
    assert_eq!(propose(&mut world, ONE, "a"), Err(Rejected::Overloaded));
    world.settle();
    propose(&mut world, ONE, "a").unwrap();
}

#[test]
fn reads_past_the_limit_are_refused() {
    let mut world = led(3, |config| config.reads_max = 2);
    assert!(world.read(ONE) && world.read(ONE) && !world.read(ONE));
    world.settle();
    assert!(world.read(ONE));
}

#[test]
fn a_group_of_one_keeps_no_committed_entry_in_memory() {
    let mut world = World::new(1, 1, plain);
    world.settle();
    for _ in 0..10 {
        propose(&mut world, ONE, "a").unwrap();
        world.settle();
    }
    let node = world.node(ONE);
    assert_eq!(node.log.base(), node.last().index);
    assert_eq!(node.pending_size(), 0);
}

#[test]
fn entries_wait_in_the_node_while_the_disk_is_busy() {
    let mut world = World::new(1, 1, |config| config.stores_inflight_max = 1);
    world.settle();
    for _ in 0..10 {
        propose(&mut world, ONE, "a").unwrap();
    }
    assert_eq!(world.members[&ONE].stores.len(), 1);
    world.store(ONE);
    let Some(Output::Store { entries, .. }) = world.members[&ONE].stores.front() else {
        panic!("the next store is ready");
    };
    assert_eq!(entries.len(), 9);
}

#[test]
fn what_makes_no_sense_is_dropped() {
    let mut world = led(3, plain);
    let last = world.node(TWO).last();
    let entry = |term, index| {
        let data = Bytes::from_static(b"bad");
        Entry { term: Term(term), index: LogIndex(index), kind: EntryKind::Config, data }
    };
    let append = |entry| Body::Append { prev: last, entries: vec![entry], committed: LogIndex(1) };
    let huge = u64::MAX;
    for (term, body) in [
        (huge, Body::Heartbeat { committed: LogIndex(0), round: 1 }),
        (1, Body::Heartbeat { committed: LogIndex(huge), round: 1 }),
        (1, append(entry(1, 2))),
        (1, append(Entry { kind: EntryKind::Normal, ..entry(1, 3) })),
        (1, append(Entry { kind: EntryKind::Normal, ..entry(2, 2) })),
        (1, Body::AppendResponse { matched: LogIndex(huge) }),
        (1, Body::AppendRejected { prev: LogIndex(0), hint: last }),
        (1, Body::HeartbeatResponse { round: huge }),
        (1, Body::TimeoutNow),
    ] {
        message(&mut world, THREE, TWO, term, body.clone());
        message(&mut world, THREE, ONE, term, body);
    }
    assert_eq!(world.node(TWO).last(), last);
    world.settle();
    assert_eq!(world.leader(), Some(ONE));
    propose(&mut world, ONE, "a").unwrap();
    world.settle();
    assert_eq!(world.members[&TWO].applied, LogIndex(2));
}

/// The log asserts that terms never fall, and a peer could make them.
#[test]
fn entries_of_earlier_terms_than_what_is_committed_are_dropped() {
    let mut world = World::new(3, 1, bare);
    give(&mut world, TWO, &[1, 5], 2);
    let (prev, committed) = (Position { term: Term(1), index: LogIndex(1) }, LogIndex(3));
    let entry = |index| {
        let data = Bytes::from_static(b"bad");
        Entry { term: Term(1), index: LogIndex(index), kind: EntryKind::Normal, data }
    };
    let entries = vec![entry(2), entry(3)];
    message(&mut world, THREE, TWO, 6, Body::Append { prev, entries, committed });
    world.settle();
    assert_eq!(world.node(TWO).last(), Position { term: Term(5), index: LogIndex(2) });
    assert_eq!(world.node(TWO).committed(), LogIndex(2));
}

#[test]
fn an_entry_that_is_ahead_of_the_stored_term_brings_its_term() {
    // A store was cut short between the entry and the hard state of its term.
    let mut world = World::new(3, 1, bare);
    give(&mut world, ONE, &[1, 5], 1);
    world.crash(ONE);
    world.member(ONE).disk.hard.term = Term(3);
    world.member(ONE).disk.hard.vote = Some(TWO);
    world.restart(ONE);
    assert_eq!(world.node(ONE).term(), Term(5));
    world.settle();
    assert_eq!(world.members[&ONE].disk.hard.term, Term(5));
    assert_eq!(world.members[&ONE].disk.hard.vote, None);
}

#[test]
fn what_a_disk_can_not_have_held_is_named() {
    let membership = Membership::new(&[ONE], &[]);
    let good = Restored { membership, ..Restored::default() };
    assert_eq!(good.check(), Ok(()));
    let hard_state = HardState { term: Term(1), vote: None, committed: LogIndex(1) };
    let bad = Restored { hard_state, ..good.clone() };
    assert_eq!(bad.check(), Err("the log holds all that is committed"));
    let data = Bytes::new();
    let gap = Entry { term: Term(1), index: LogIndex(2), kind: EntryKind::Empty, data };
    let bad = Restored { hard_state, entries: vec![gap], ..good.clone() };
    assert_eq!(bad.check(), Err("the entries follow the base without a gap"));
    let bad = Restored { applied: LogIndex(1), ..good };
    assert_eq!(bad.check(), Err("the log holds all that is applied"));
}

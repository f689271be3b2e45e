//! What the Raft thesis claims of reads (§6.4), one test each.

use super::group::ONE;
use super::group::THREE;
use super::group::TWO;
use super::group::bare;
use super::group::elect;
use super::group::isolate;
use super::group::led;
use super::group::message;
use super::group::plain;
use super::group::propose;
use super::world::World;
use crate::raft::Body;
use crate::raft::Input;
use crate::raft::Output;
use crate::types::LogIndex;
use crate::types::Term;
use crate::types::Tick;

#[test]
fn a_leader_reads_after_a_majority_has_answered_and_many_reads_share_a_round() {
    let mut world = led(3, plain);
    for context in 1000..1010 {
        world.member(ONE).node.as_mut().unwrap().read(context).unwrap();
        world.reads.insert(context, (ONE, LogIndex(1)));
    }
    let node = world.member(ONE).node.as_mut().unwrap();
    assert!(node.poll().is_some_and(|output| matches!(output, Output::Send { .. })));
    assert!(node.poll().is_some_and(|output| matches!(output, Output::Send { .. })));
    assert!(node.poll().is_none(), "one round, one message each, and no read yet");
    world.advance(100);
    world.settle();
    assert_eq!(world.reads_done, 10);
}

#[test]
fn a_deposed_leader_serves_no_read() {
    let mut world = led(3, bare);
    isolate(&mut world, ONE);
    elect(&mut world, TWO);
    propose(&mut world, TWO, "a").unwrap();
    world.settle();
    assert!(world.read(ONE));
    assert!(!world.run_until(500, |world| world.reads_done > 0));
    world.blocked.clear();
    assert!(world.run_until(500, |world| world.reads_lost > 0));
    assert_eq!(world.reads_done, 0);
}

#[test]
fn a_new_leader_reads_only_after_a_commit_of_its_own_term() {
    let mut world = World::new(3, 1, plain);
    world.handle(ONE, Input::Campaign);
    world.settle_votes();
    assert!(world.read(ONE));
    assert!(
        world.network.iter().all(|packet| !matches!(packet.message.body, Body::Heartbeat { .. }))
    );
    world.settle();
    assert_eq!(world.reads_done, 1);
}

#[test]
fn a_follower_reads_through_its_leader() {
    let mut world = led(3, plain);
    propose(&mut world, ONE, "a").unwrap();
    world.settle();
    assert!(world.read(TWO));
    world.settle();
    assert_eq!(world.reads_done, 1);
}

#[test]
fn a_followers_read_is_given_up_when_the_leader_is_silent() {
    let mut world = led(3, plain);
    isolate(&mut world, ONE);
    assert!(world.read(TWO));
    assert!(world.run_until(3000, |world| world.reads_lost == 1));
}

#[test]
fn a_lease_spares_the_round_until_it_ends() {
    let mut world = led(3, |config| config.leader_lease = true);
    assert!(!world.run_until(1500, |_| false));
    isolate(&mut world, ONE);
    assert!(world.read(ONE));
    assert_eq!(world.reads_done, 1);
    world.advance(760);
    assert!(world.read(ONE));
    assert_eq!(world.reads_done, 1);
}

#[test]
fn a_lease_ends_when_leadership_is_offered_away() {
    let mut world = led(3, |config| config.leader_lease = true);
    assert!(!world.run_until(1500, |_| false));
    world.member(ONE).node.as_mut().unwrap().transfer(TWO).unwrap();
    world.drain(ONE);
    world.network.clear();
    assert!(world.read(ONE));
    assert_eq!(world.reads_done, 0);
}

#[test]
fn a_restarted_node_keeps_the_promise_its_last_life_may_have_made() {
    let mut world = led(3, |config| config.leader_lease = true);
    world.crash(TWO);
    world.restart(TWO);
    let last = world.node(ONE).last();
    message(&mut world, THREE, TWO, 2, Body::Vote { last, transfer: false });
    assert_eq!(world.node(TWO).term(), Term(1));
    world.handle(TWO, Input::Tick(Tick(world.now + 1000)));
    message(&mut world, THREE, TWO, 9, Body::Vote { last, transfer: false });
    assert_eq!(world.node(TWO).term(), Term(9));
}

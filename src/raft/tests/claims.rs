//! What the Raft paper and thesis claim, one test each, with the section; of reads, see `reads`.

use bytes::Bytes;

use super::group::FOUR;
use super::group::ONE;
use super::group::THREE;
use super::group::TWO;
use super::group::bare;
use super::group::change;
use super::group::deliver_where;
use super::group::elect;
use super::group::give;
use super::group::go_on_without;
use super::group::isolate;
use super::group::led;
use super::group::message;
use super::group::plain;
use super::group::propose;
use super::group::store_all;
use super::group::terms;
use super::world::Packet;
use super::world::World;
use crate::raft::Body;
use crate::raft::Input;
use crate::raft::Mark;
use crate::raft::Membership;
use crate::raft::MembershipChange;
use crate::raft::PeerState;
use crate::raft::Position;
use crate::raft::Rejected;
use crate::raft::Role;
use crate::raft::next_era;
use crate::types::LogIndex;
use crate::types::NodeId;
use crate::types::Term;
use crate::types::Tick;

// Elections: paper §5.2.

#[test]
fn a_follower_that_hears_nothing_campaigns() {
    let mut world = World::new(3, 1, plain);
    world.advance(999);
    assert!(world.network.is_empty());
    assert!(world.run_until(2000, |world| world.leader().is_some()));
}

#[test]
fn timeouts_are_spread_between_one_and_two_times_the_least() {
    let world = World::new(60, 1, plain);
    let mut deadlines: Vec<u64> =
        world.ids().iter().map(|id| world.node(*id).deadline().unwrap().0).collect();
    assert!(deadlines.iter().all(|deadline| (1000..2000).contains(deadline)));
    deadlines.sort_unstable();
    deadlines.dedup();
    assert!(deadlines.len() > 50);
}

#[test]
fn a_group_of_one_leads_as_soon_as_its_vote_is_durable() {
    let mut world = World::new(1, 1, plain);
    assert_eq!(world.node(ONE).role(), Role::Candidate);
    world.store(ONE);
    assert_eq!(world.node(ONE).role(), Role::Leader);
    assert_eq!(world.node(ONE).deadline(), None);
}

#[test]
fn a_candidate_asks_for_votes_once_its_own_is_durable() {
    let mut world = World::new(3, 1, bare);
    world.handle(ONE, Input::Campaign);
    assert!(world.network.is_empty());
    world.store(ONE);
    assert_eq!(world.network.len(), 2);
}

#[test]
fn a_node_votes_once_in_a_term_even_if_it_crashes_between() {
    let mut world = World::new(3, 1, bare);
    for id in [ONE, TWO] {
        world.handle(id, Input::Campaign);
        world.store(id);
    }
    deliver_where(&mut world, |packet| packet.from == ONE && packet.to == THREE);
    store_all(&mut world, THREE);
    world.crash(THREE);
    world.restart(THREE);
    deliver_where(&mut world, |packet| packet.from == TWO && packet.to == THREE);
    store_all(&mut world, THREE);
    let votes = world.network.iter().filter(|packet| packet.from == THREE);
    let votes: Vec<_> = votes.map(|packet| (packet.to, packet.message.body.clone())).collect();
    assert!(votes.contains(&(ONE, Body::VoteResponse { granted: true })));
    assert!(votes.contains(&(TWO, Body::VoteResponse { granted: false })));
}

#[test]
fn a_candidate_yields_to_the_leader_of_its_term() {
    let mut world = World::new(3, 1, bare);
    world.handle(TWO, Input::Campaign);
    store_all(&mut world, TWO);
    world.network.clear();
    elect(&mut world, ONE);
    assert_eq!(world.node(TWO).role(), Role::Follower);
    assert_eq!(world.node(TWO).leader(), Some(ONE));
    assert_eq!(world.node(TWO).term(), Term(1));
}

#[test]
fn a_split_vote_is_followed_by_another_election() {
    let mut world = World::new(4, 1, bare);
    for (id, other) in [(ONE, THREE), (TWO, FOUR)] {
        world.handle(id, Input::Campaign);
        world.store(id);
        deliver_where(&mut world, |packet| packet.from == id && packet.to == other);
    }
    world.settle();
    assert_eq!(world.leader(), None);
    assert!(world.run_until(10_000, |world| world.leader().is_some()));
}

#[test]
fn a_stale_leader_steps_down_when_it_hears_of_a_later_term() {
    let mut world = led(3, bare);
    isolate(&mut world, ONE);
    elect(&mut world, TWO);
    world.blocked.clear();
    world.advance(100);
    world.settle();
    assert_eq!(world.node(ONE).role(), Role::Follower);
    assert_eq!(world.node(ONE).leader(), Some(TWO));
}

// Eras: not of the paper.

#[test]
fn what_is_said_in_an_earlier_era_is_neither_heard_nor_answered() {
    let mut world = World::new(3, 1, bare);
    let era = next_era(Term(7)).0;
    give(&mut world, ONE, &[1, 2, era], 2);
    let (prev, round) = (Position { term: Term(2), index: LogIndex(2) }, 1);
    let (last, committed) = (Position { term: Term(9), index: LogIndex(99) }, LogIndex(2));
    for body in [
        Body::Append { prev, entries: Vec::new(), committed },
        Body::Heartbeat { committed, round },
        Body::Vote { last, transfer: true },
        Body::PreVote { last },
    ] {
        message(&mut world, TWO, ONE, era - 1, body);
        world.settle();
        assert!(world.network.is_empty());
        assert_eq!((world.node(ONE).term(), world.node(ONE).leader()), (Term(era), None));
    }
    message(&mut world, TWO, ONE, era, Body::Heartbeat { committed, round });
    assert_eq!(world.node(ONE).leader(), Some(TWO));
}

// Replication: paper §5.3, thesis §10.2.1.

#[test]
fn an_entry_is_committed_once_a_majority_holds_it_durably() {
    let mut world = led(3, plain);
    let index = propose(&mut world, ONE, "a").unwrap();
    store_all(&mut world, ONE);
    assert!(world.node(ONE).committed() < index, "its own disk is one of three");
    deliver_where(&mut world, |packet| packet.to == TWO);
    deliver_where(&mut world, |packet| packet.from == TWO);
    assert!(world.node(ONE).committed() < index, "in memory is not enough");
    store_all(&mut world, TWO);
    deliver_where(&mut world, |packet| packet.from == TWO);
    assert_eq!(world.node(ONE).committed(), index);
}

#[test]
fn followers_commit_an_entry_before_the_leaders_own_disk_has_it() {
    let mut world = led(3, plain);
    let index = propose(&mut world, ONE, "a").unwrap();
    deliver_where(&mut world, |packet| packet.from == ONE);
    store_all(&mut world, TWO);
    store_all(&mut world, THREE);
    deliver_where(&mut world, |packet| packet.to == ONE);
    assert_eq!(world.node(ONE).committed(), index);
    assert!(world.node(ONE).durable() < index);
}

#[test]
fn what_is_proposed_between_polls_leaves_as_one_store_and_one_message() {
    let mut world = led(3, plain);
    let node = world.member(ONE).node.as_mut().unwrap();
    for _ in 0..10 {
        node.propose(Bytes::from_static(b"a")).unwrap();
    }
    world.drain(ONE);
    assert_eq!(world.members[&ONE].stores.len(), 1);
    assert_eq!(world.network.len(), 2);
}

#[test]
fn appends_follow_each_other_without_waiting_up_to_the_window() {
    let mut world = led(3, |config| config.inflight_count_max = 4);
    for _ in 0..10 {
        propose(&mut world, ONE, "a").unwrap();
    }
    assert_eq!(world.network.iter().filter(|packet| packet.to == TWO).count(), 4);
    world.settle();
    assert_eq!(world.node(TWO).last().index, LogIndex(11));
}

#[test]
fn every_log_of_figure_seven_becomes_the_leaders() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let mut world = World::new(7, 1, bare);
    give(&mut world, ONE, &leader, 3);
    for (terms, id) in followers.iter().zip(2..) {
        give(&mut world, NodeId(id), terms, 0);
    }
    // The figure's leader is that of term 8.
    world.crash(ONE);
    world.member(ONE).disk.hard.term = Term(7);
    world.restart(ONE);
    elect(&mut world, ONE);
    let expected = terms(&world, ONE);
    assert_eq!(expected[..10], leader);
    for id in world.ids() {
        assert_eq!(terms(&world, id), expected, "node {id}");
        assert_eq!(world.node(id).committed(), LogIndex(11));
    }
}

#[test]
fn a_conflict_costs_a_round_trip_per_term_not_per_entry() {
    let mut world = World::new(3, 1, bare);
    let mut behind = vec![1];
    behind.extend([2; 50]);
    let mut ahead = vec![1];
    ahead.extend([3; 40]);
    give(&mut world, ONE, &ahead, 0);
    give(&mut world, TWO, &behind, 0);
    isolate(&mut world, THREE);
    elect(&mut world, ONE);
    let rejected = world.members[&TWO].said.iter().filter(|said| said.contains("AppendRejected"));
    assert!(rejected.count() <= 2);
    assert_eq!(terms(&world, TWO), terms(&world, ONE));
}

#[test]
fn an_append_that_was_overtaken_cuts_nothing() {
    let mut world = led(3, plain);
    propose(&mut world, ONE, "a").unwrap();
    let early: Vec<Packet> = world.network.clone();
    propose(&mut world, ONE, "b").unwrap();
    world.settle();
    let before = world.node(TWO).last();
    for packet in early {
        world.deliver(packet);
    }
    assert_eq!(world.node(TWO).last(), before);
}

#[test]
fn lost_appends_are_sent_again() {
    let mut world = led(3, plain);
    for _ in 0..5 {
        propose(&mut world, ONE, "a").unwrap();
        world.network.clear();
    }
    assert!(world.run_until(1000, |world| world.members[&TWO].applied == LogIndex(6)));
}

#[test]
fn a_follower_that_is_far_behind_is_fed_from_the_disk() {
    let mut world = led(3, |config| config.cache_size_max = 0);
    go_on_without(&mut world, THREE);
    world.blocked.clear();
    assert!(world.run_until(3000, |world| world.members[&THREE].applied == LogIndex(21)));
    assert!(world.fetched > 0);
    assert_eq!(world.installs, 0);
}

/// All of a window left in one turn, and whoever else waited for the leader waited for that.
#[test]
fn a_follower_that_is_behind_is_fed_a_piece_at_a_time_and_in_step_at_once() {
    let mut world = led(3, |config| config.append_size_max = 1);
    go_on_without(&mut world, THREE);
    world.handle(ONE, Input::Unreachable { peer: THREE });
    world.blocked.clear();
    let count = |world: &World| {
        let found = world.node(ONE).progress().find(|peer| peer.id == THREE);
        found.map_or(0, |peer| peer.inflight_count)
    };
    let mut most = 0;
    while world.members[&THREE].applied < LogIndex(21) {
        if world.network.is_empty() {
            assert!(world.now < 3000);
            world.advance(20);
        } else {
            let packet = world.network.remove(0);
            world.deliver(packet);
        }
        world.ids().into_iter().for_each(|id| store_all(&mut world, id));
        most = most.max(count(&world));
    }
    assert!((1..=3).contains(&most), "{most}");
    world.settle();
    for _ in 0..10 {
        propose(&mut world, ONE, "a").unwrap();
    }
    assert_eq!(count(&world), 10);
}

/// Each answer to a heartbeat brought the piece that was on its way once more, and reads ask for a
/// round of heartbeats each.
#[test]
fn a_piece_on_its_way_is_sent_again_only_when_nothing_has_come_for_a_while() {
    let is_piece = |packet: &Packet| {
        let Body::Append { entries, .. } = &packet.message.body else { return false };
        packet.to == THREE && !entries.is_empty()
    };
    let pieces = |world: &World| world.network.iter().filter(|packet| is_piece(packet)).count();
    let mut world = led(3, |config| config.append_size_max = 1);
    go_on_without(&mut world, THREE);
    world.handle(ONE, Input::Unreachable { peer: THREE });
    world.blocked.clear();
    for is_known in [false, true] {
        assert_eq!(pieces(&world), 1);
        for _ in 0..20 {
            assert!(world.read(ONE));
            // All but the piece overtakes it.
            while deliver_where(&mut world, |packet| !is_piece(packet)) > 0 {}
        }
        assert_eq!(world.reads_done, if is_known { 40 } else { 20 });
        assert_eq!(pieces(&world), 1, "where its log ends is known: {is_known}");
        // The next one is sent when it has come.
        deliver_where(&mut world, is_piece);
        store_all(&mut world, THREE);
        while deliver_where(&mut world, |packet| !is_piece(packet)) > 0 {}
    }
    // Was it lost, the leader sees it in time.
    world.network.clear();
    assert!(world.run_until(1000, |world| world.members[&THREE].applied == LogIndex(21)));
}

/// A leader that was restarted knows no terms below the entry that its state was sealed at. It read
/// the one that it needed, and forgot it whenever nothing more came with it: at a segment's end, or
/// where entries are large. It then read it again, for ever.
#[test]
fn a_restarted_leader_feeds_a_follower_past_the_ends_of_segments() {
    for segment_len in 1..6 {
        let mut world = led(3, |config| {
            bare(config);
            config.cache_size_max = 0;
        });
        world.segment_len = segment_len;
        go_on_without(&mut world, THREE);
        world.crash(ONE);
        world.restart_from(ONE, LogIndex(20), LogIndex(20), 7);
        world.blocked.clear();
        elect(&mut world, ONE);
        let all = world.node(ONE).last().index;
        assert!(world.run_until(3000, |world| world.members[&THREE].applied == all));
    }
}

// Safety: paper §5.4.

#[test]
fn a_candidate_whose_log_is_behind_is_refused() {
    for (theirs, ours) in [(&[1, 1][..], &[1][..]), (&[1, 2], &[1, 1, 1])] {
        let mut world = World::new(2, 1, bare);
        give(&mut world, ONE, ours, 0);
        give(&mut world, TWO, theirs, 0);
        world.handle(ONE, Input::Campaign);
        world.handle(ONE, Input::Campaign);
        world.settle();
        assert_eq!(world.leader(), None);
        elect(&mut world, TWO);
    }
}

#[test]
fn an_entry_of_an_earlier_term_is_not_committed_by_counting() {
    // Figure 8: entry 2 of term 2 reaches a majority only under the leader of term 4.
    let mut world = World::new(5, 1, bare);
    give(&mut world, ONE, &[1, 2], 1);
    give(&mut world, NodeId(5), &[1, 3], 1);
    for id in [TWO, THREE, FOUR] {
        give(&mut world, id, &[1], 1);
    }
    isolate(&mut world, NodeId(5));
    for _ in 0..2 {
        world.handle(ONE, Input::Campaign);
        world.settle_votes();
    }
    assert_eq!(world.leader(), Some(ONE));
    let peers = |world: &World| world.node(ONE).progress().collect::<Vec<_>>();
    // The probes carry all it has; only entry 2 is acknowledged.
    for id in [TWO, THREE] {
        let body = Body::AppendResponse { matched: LogIndex(2) };
        let term = world.node(ONE).term().0;
        message(&mut world, id, ONE, term, body);
    }
    assert_eq!(peers(&world).iter().filter(|peer| peer.matched == LogIndex(2)).count(), 2);
    assert_eq!(world.node(ONE).committed(), LogIndex(1));
    for id in [TWO, THREE] {
        let body = Body::AppendResponse { matched: LogIndex(3) };
        let term = world.node(ONE).term().0;
        message(&mut world, id, ONE, term, body);
    }
    assert_eq!(world.node(ONE).committed(), LogIndex(3));
}

#[test]
fn a_new_leader_commits_what_was_left_open_with_its_first_entry() {
    let mut world = led(3, bare);
    propose(&mut world, ONE, "a").unwrap();
    deliver_where(&mut world, |packet| packet.to == TWO);
    store_all(&mut world, TWO);
    world.crash(ONE);
    elect(&mut world, TWO);
    assert_eq!(world.node(TWO).committed(), LogIndex(3));
    assert_eq!(world.chosen[&LogIndex(2)].data, Bytes::from_static(b"a"));
}

// Membership: thesis §4.

#[test]
fn a_membership_is_in_force_when_appended() {
    let mut world = led(3, plain);
    world.join(FOUR, Membership::default(), plain);
    let index = change(&mut world, ONE, MembershipChange::AddVoter(FOUR)).unwrap();
    assert!(world.node(ONE).committed() < index);
    assert!(world.node(ONE).membership().is_voter(FOUR));
    world.settle();
    assert_eq!(world.members[&FOUR].applied, index);
    assert!(world.node(FOUR).membership().is_voter(FOUR));
}

#[test]
fn one_change_at_a_time() {
    let mut world = led(3, plain);
    change(&mut world, ONE, MembershipChange::Remove(THREE)).unwrap();
    let second = MembershipChange::Remove(TWO);
    assert_eq!(change(&mut world, ONE, second), Err(Rejected::ChangePending));
    world.settle();
    change(&mut world, ONE, second).unwrap();
}

#[test]
fn no_change_before_the_leader_has_committed_in_its_term() {
    let mut world = World::new(3, 1, plain);
    world.handle(ONE, Input::Campaign);
    world.settle_votes();
    assert_eq!(world.node(ONE).role(), Role::Leader);
    let wanted = MembershipChange::Remove(THREE);
    assert_eq!(change(&mut world, ONE, wanted), Err(Rejected::ChangePending));
    world.settle();
    change(&mut world, ONE, wanted).unwrap();
}

#[test]
fn a_membership_that_is_cut_is_taken_back() {
    let mut world = led(3, bare);
    isolate(&mut world, ONE);
    change(&mut world, ONE, MembershipChange::AddVoter(FOUR)).unwrap();
    store_all(&mut world, ONE);
    elect(&mut world, TWO);
    assert!(world.node(ONE).membership().is_voter(FOUR));
    world.blocked.clear();
    world.advance(100);
    world.settle();
    assert!(!world.node(ONE).membership().is_voter(FOUR));
    assert_eq!(terms(&world, ONE), terms(&world, TWO));
}

#[test]
fn a_change_that_makes_no_sense_is_refused() {
    let mut world = led(3, plain);
    for wanted in [
        MembershipChange::AddVoter(TWO),
        MembershipChange::AddLearner(TWO),
        MembershipChange::Promote(TWO),
        MembershipChange::Promote(FOUR),
        MembershipChange::Remove(FOUR),
    ] {
        assert_eq!(change(&mut world, ONE, wanted), Err(Rejected::NoSuchChange));
    }
    let mut world = World::new(1, 1, plain);
    world.settle();
    let last = MembershipChange::Remove(ONE);
    assert_eq!(change(&mut world, ONE, last), Err(Rejected::NoSuchChange));
}

#[test]
fn a_leader_that_removes_itself_leads_until_that_is_committed_without_it() {
    let mut world = led(3, bare);
    let index = change(&mut world, ONE, MembershipChange::Remove(ONE)).unwrap();
    store_all(&mut world, ONE);
    deliver_where(&mut world, |packet| packet.to == TWO);
    store_all(&mut world, TWO);
    deliver_where(&mut world, |packet| packet.from == TWO);
    assert!(world.node(ONE).committed() < index, "one of the two that are left is no majority");
    assert_eq!(world.node(ONE).role(), Role::Leader);
    world.settle();
    assert_eq!(world.node(ONE).committed(), index);
    assert_eq!(world.node(ONE).role(), Role::Follower);
    assert!(world.run_until(5000, |world| world.leader().is_some()));
    assert_eq!(world.node(ONE).role(), Role::Follower);
}

#[test]
fn a_node_that_is_being_removed_leads_again_if_only_it_can() {
    let mut world = led(2, bare);
    isolate(&mut world, ONE);
    for _ in 0..3 {
        propose(&mut world, ONE, "a").unwrap();
    }
    change(&mut world, ONE, MembershipChange::Remove(ONE)).unwrap();
    store_all(&mut world, ONE);
    world.crash(ONE);
    world.restart(ONE);
    world.blocked.clear();
    let is_done = |world: &World| {
        let membership = world.node(TWO).membership();
        world.leader() == Some(TWO) && !membership.contains(ONE)
    };
    assert!(world.run_until(20_000, is_done));
}

#[test]
fn a_removed_node_does_not_disturb() {
    let mut world = led(3, plain);
    isolate(&mut world, THREE);
    change(&mut world, ONE, MembershipChange::Remove(THREE)).unwrap();
    world.settle();
    world.blocked.clear();
    let term = world.node(ONE).term();
    assert!(!world.run_until(10_000, |world| world.leader() != Some(ONE)));
    assert_eq!(world.node(ONE).term(), term);
}

#[test]
fn a_learner_receives_and_does_not_count_until_promoted() {
    let mut world = led(2, plain);
    world.join(THREE, Membership::default(), plain);
    change(&mut world, ONE, MembershipChange::AddLearner(THREE)).unwrap();
    world.settle();
    let index = propose(&mut world, ONE, "a").unwrap();
    store_all(&mut world, ONE);
    deliver_where(&mut world, |packet| packet.to == THREE);
    store_all(&mut world, THREE);
    deliver_where(&mut world, |packet| packet.from == THREE);
    assert!(world.node(ONE).committed() < index, "two of three have it, but one does not count");
    world.settle();
    assert_eq!(world.members[&THREE].applied, index);
    world.advance(5000);
    assert_eq!(world.node(THREE).role(), Role::Follower, "a learner does not campaign");
    world.settle();
    let mut world = led(2, plain);
    world.join(THREE, Membership::default(), plain);
    change(&mut world, ONE, MembershipChange::AddLearner(THREE)).unwrap();
    world.settle();
    change(&mut world, ONE, MembershipChange::Promote(THREE)).unwrap();
    world.settle();
    assert!(world.node(THREE).membership().is_voter(THREE));
}

// Snapshots: paper §7, thesis §5.

#[test]
fn a_follower_whose_next_entry_is_gone_gets_a_snapshot() {
    let mut world = led(3, plain);
    go_on_without(&mut world, THREE);
    world.compact(ONE, LogIndex(15));
    world.blocked.clear();
    assert!(world.run_until(3000, |world| world.members[&THREE].applied == LogIndex(21)));
    assert_eq!(world.installs, 1);
    let peer = world.node(ONE).progress().last().unwrap();
    assert_eq!((peer.id, peer.state), (THREE, PeerState::Replicate));
}

#[test]
fn a_snapshot_of_what_is_there_already_installs_nothing() {
    let mut world = led(3, plain);
    propose(&mut world, ONE, "a").unwrap();
    world.settle();
    let mark = world.node(ONE).mark(LogIndex(2)).unwrap();
    message(&mut world, ONE, TWO, 1, Body::Snapshot { mark });
    world.settle();
    assert_eq!(world.installs, 0);
}

/// They were of the old log, and longer than the new one: the node ended in an assertion.
#[test]
fn stores_of_a_log_that_a_snapshot_replaces_do_not_count_for_it() {
    let mut world = led(3, bare);
    let node = world.member(ONE).node.as_mut().unwrap();
    for _ in 0..5 {
        node.propose(Bytes::from_static(b"a")).unwrap();
    }
    world.drain(ONE);
    let last = Position { term: Term(2), index: LogIndex(3) };
    let membership = world.node(ONE).membership().clone();
    message(&mut world, TWO, ONE, 2, Body::Snapshot { mark: Mark { last, membership } });
    assert!(world.node(ONE).last() == last && world.node(ONE).is_installing());
    store_all(&mut world, ONE);
    assert_eq!((world.node(ONE).durable(), world.installs), (last.index, 1));
}

/// What is applied was sealed as if it were in the log on the disk, and a restart missed it there.
#[test]
fn nothing_is_called_durable_while_a_snapshot_is_put_in_place() {
    let mut world = led(3, plain);
    propose(&mut world, ONE, "a").unwrap();
    world.settle();
    let (known, mut mark) = (LogIndex(2), world.node(ONE).mark(LogIndex(2)).unwrap());
    assert_eq!(world.node(TWO).durable(), known);
    mark.last.index = LogIndex(9);
    message(&mut world, ONE, TWO, 2, Body::Snapshot { mark });
    assert!(world.node(TWO).is_installing());
    assert!(world.node(TWO).durable() <= known, "the disk has the old log");
    store_all(&mut world, TWO);
    assert_eq!(world.node(TWO).durable(), LogIndex(9));
}

#[test]
fn a_follower_whose_snapshot_was_not_sent_and_that_has_caught_up_gets_none() {
    let mut world = led(3, plain);
    go_on_without(&mut world, THREE);
    world.compact(ONE, LogIndex(15));
    world.blocked.clear();
    let is_asked = |world: &World| !world.members[&ONE].snapshots.is_empty();
    while !is_asked(&world) {
        world.advance(20);
        while !is_asked(&world) && !world.network.is_empty() {
            let packet = world.network.remove(0);
            world.deliver(packet);
            world.ids().into_iter().for_each(|id| store_all(&mut world, id));
        }
    }
    // It gets it all the same, and the sender does not learn of that.
    let mark = world.node(ONE).mark(LogIndex(21)).unwrap();
    message(&mut world, ONE, THREE, 1, Body::Snapshot { mark });
    store_all(&mut world, THREE);
    world.network.retain(|packet| packet.from != THREE);
    assert!(world.snapshot(ONE, false));
    world.member(ONE).said.clear();
    let is_fed = |world: &World| {
        world.node(ONE).progress().any(|it| it.id == THREE && it.state == PeerState::Replicate)
    };
    assert!(world.run_until(3000, is_fed));
    let said = &world.members[&ONE].said;
    assert!(!said.iter().any(|line| line.contains("snapshot")), "{said:?}");
}

// Leadership transfer: thesis §3.10.

#[test]
fn a_transfer_moves_leadership_without_waiting_for_a_timeout() {
    let mut world = led(3, plain);
    world.advance(1);
    world.settle();
    world.member(ONE).node.as_mut().unwrap().transfer(TWO).unwrap();
    assert_eq!(propose(&mut world, ONE, "a"), Err(Rejected::Transferring));
    world.settle();
    assert_eq!(world.leader(), Some(TWO));
    assert_eq!(world.now, 1);
}

#[test]
fn a_transfer_waits_until_the_other_has_the_whole_log() {
    let mut world = led(3, plain);
    propose(&mut world, ONE, "a").unwrap();
    world.member(ONE).node.as_mut().unwrap().transfer(TWO).unwrap();
    world.drain(ONE);
    let is_told = |packet: &Packet| packet.message.body == Body::TimeoutNow;
    assert!(!world.network.iter().any(is_told));
    world.settle();
    assert_eq!(world.leader(), Some(TWO));
}

#[test]
fn a_transfer_that_comes_to_nothing_is_given_up() {
    let mut world = led(3, plain);
    isolate(&mut world, TWO);
    world.member(ONE).node.as_mut().unwrap().transfer(TWO).unwrap();
    assert!(!world.run_until(900, |_| false));
    assert_eq!(propose(&mut world, ONE, "a"), Err(Rejected::Transferring));
    assert!(!world.run_until(200, |_| false));
    propose(&mut world, ONE, "a").unwrap();
    let nobody = world.member(ONE).node.as_mut().unwrap().transfer(FOUR);
    assert_eq!(nobody, Err(Rejected::NoSuchChange));
}

// Disruption and pre-vote: thesis §4.2.3, §6.2, §9.6.

#[test]
fn a_leader_out_of_hearing_of_a_majority_steps_down() {
    let mut world = led(3, plain);
    isolate(&mut world, ONE);
    assert!(world.run_until(3000, |world| world.node(ONE).role() == Role::Follower));
}

#[test]
fn a_node_that_was_cut_off_comes_back_in_the_same_term() {
    let mut world = led(3, plain);
    isolate(&mut world, THREE);
    assert!(!world.run_until(20_000, |world| world.leader() != Some(ONE)));
    assert_eq!(world.node(THREE).term(), Term(1));
    world.blocked.clear();
    assert!(!world.run_until(5000, |world| world.leader() != Some(ONE)));
    assert_eq!(world.node(ONE).term(), Term(1));
}

#[test]
fn followers_that_a_dead_leader_hung_up_on_do_not_wait_for_the_timeout() {
    let mut world = led(3, plain);
    world.advance(1);
    world.settle();
    isolate(&mut world, ONE);
    for id in [TWO, THREE] {
        world.handle(id, Input::HungUp { peer: ONE });
    }
    let is_led =
        |world: &World| [TWO, THREE].iter().any(|id| world.node(*id).role() == Role::Leader);
    assert!(world.run_until(400, is_led));
}

#[test]
fn who_alone_was_hung_up_on_disturbs_nobody() {
    let mut world = led(3, plain);
    world.advance(1);
    world.settle();
    world.handle(TWO, Input::HungUp { peer: ONE });
    assert!(!world.run_until(3000, |world| world.node(TWO).role() != Role::Follower));
    world.blocked.extend([(ONE, TWO), (TWO, ONE)]);
    world.handle(TWO, Input::HungUp { peer: ONE });
    assert!(!world.run_until(3000, |world| world.leader() != Some(ONE)));
    assert_eq!(world.node(THREE).term(), Term(1));
}

/// Those whose connection was replaced asked for votes before the next heartbeat was due, and some
/// of them got them.
#[test]
fn a_leader_that_reaches_its_followers_again_is_doubted_no_more() {
    let mut world = led(3, plain);
    world.advance(1);
    world.settle();
    for id in [TWO, THREE] {
        world.handle(id, Input::HungUp { peer: ONE });
    }
    for id in [TWO, THREE] {
        world.handle(ONE, Input::Reachable { peer: id });
    }
    world.settle();
    world.now += 900;
    for id in [TWO, THREE] {
        world.handle(id, Input::Tick(Tick(world.now)));
        assert_eq!(world.node(id).leader(), Some(ONE));
    }
}

/// What it was sent while nobody could reach it is lost.
#[test]
fn a_follower_that_is_reached_again_is_fed_at_once() {
    let mut world = led(3, plain);
    isolate(&mut world, THREE);
    propose(&mut world, ONE, "a").unwrap();
    world.handle(ONE, Input::Unreachable { peer: THREE });
    world.settle();
    world.blocked.clear();
    world.handle(ONE, Input::Reachable { peer: THREE });
    world.settle();
    assert_eq!(world.node(THREE).last(), world.node(ONE).last());
}

#[test]
fn a_promise_of_silence_is_kept_when_the_leader_hangs_up() {
    let mut world = led(3, |config| config.leader_lease = true);
    isolate(&mut world, ONE);
    for id in [TWO, THREE] {
        world.handle(id, Input::HungUp { peer: ONE });
    }
    assert!(!world.run_until(900, |world| world.node(TWO).term() > Term(1)));
}

#[test]
fn nobody_votes_while_the_leader_is_heard() {
    let mut world = led(3, |config| config.pre_vote = false);
    world.advance(1);
    world.settle();
    world.handle(THREE, Input::Campaign);
    assert_eq!(world.node(THREE).role(), Role::Follower, "not even for itself");
    let last = world.node(ONE).last();
    message(&mut world, THREE, TWO, 9, Body::Vote { last, transfer: false });
    assert_eq!(world.node(TWO).term(), Term(1));
}
